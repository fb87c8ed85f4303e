"""x[...] and x[...] = value, with PyTorch's meaning.

An index is taken apart in two steps. Ints, slices, None and Ellipsis give a view (one Slice and one
Reshape). What is left are integer tensors (masks become the positions of their true elements), one
per dimension of that view; they are combined into one index of one merged axis, for IndexSelect,
IndexSet and IndexAdd.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.errors import (
    ArgumentError,
    ArgumentTypeError,
    DTypeError,
    IndexRangeError,
    ShapeError,
    TraceError,
)
from ..core.modes import modes
from ..core.shape import broadcast_shapes, is_number, numel
from ..core.symbolic import slice_range
from ..ir.op import Aval, Movement
from ..ops.align import broadcast_to, cast, public
from ..ops.basic import Where
from ..ops.gathering import named
from ..ops.indexing import IndexAdd, IndexSelect, IndexSet, WrapIndex
from ..ops.movement import Alias, Flip, Permute, Reshape, Slice, read_through
from ..tensor import Tensor, wrap
from ..transform.tape import Like
from ..transform.trace import Symbol, known
from .creation import as_tensor
from .interpreter import note
from .quick import is_watched


class Parsed:
    """An index taken apart.

    view     the basic part of the tensor
    flips    dimensions of the view whose slices go backwards; where there are any, view is a copy,
             and `straight` the view in the tensor's memory
    indices  {dimension of view: int64 or bool index tensor}
    dims     {dimension of view: the user's dimension}, for messages
    """

    def __init__(self, x: Tensor, index: Any, name: str = "index"):
        self.name = name
        items = list(index) if isinstance(index, tuple) else [index]
        items = [_plain(item, name) for item in items]
        used = sum(_consumes(item) for item in items)
        ndim = x.ndim
        if used > ndim:
            raise IndexRangeError(
                f"{name}: {used} indices for a tensor of {ndim} dimensions, shape {tuple(x.shape)}"
            )
        gaps = [i for i, item in enumerate(items) if item is Ellipsis]
        if len(gaps) > 1:
            raise IndexRangeError(f"{name}: only one ellipsis (...) can stand in an index")
        at = gaps[0] if gaps else len(items)
        items[at : at + 1] = [slice(None)] * (ndim - used)
        self._split(x, items)

    def _split(self, x: Tensor, items: list[Any]) -> None:
        start, stop, step = [0] * x.ndim, list(x.shape), [1] * x.ndim
        shape: list[int] = []  # of the view
        self.indices: dict[int, Tensor] = {}
        self.dims: dict[int, int] = {}
        flips: list[int] = []
        dim = 0
        sliced = False
        for item in items:
            if item is None:
                shape.append(1)
            elif isinstance(item, bool):
                self.indices[len(shape)] = as_tensor(np.arange(int(item)))
                self.dims[len(shape)] = 0
                shape.append(1)
            elif isinstance(item, int):
                size = x.shape[dim]
                if not -size <= item < size:
                    raise IndexRangeError(
                        f"{self.name}: index {item} is out of range for dimension {dim} of size "
                        f"{size}"
                    )
                start[dim], stop[dim], sliced = item % size, item % size + 1, True
                dim += 1
            elif isinstance(item, slice):
                lo, hi, st = self._range(item, x.shape[dim])
                if st < 0:  # from its last element forwards, and turned round
                    count = max(0, -((lo - hi) // st))
                    lo, hi, st = lo + (count - 1) * st, lo + 1, -st
                    lo = min(lo, hi)
                    flips.append(len(shape))
                if (lo, hi, st) != (0, x.shape[dim], 1):
                    start[dim], stop[dim], step[dim], sliced = lo, hi, st, True
                shape.append(-(-(hi - lo) // st))
                dim += 1
            else:
                self.indices[len(shape)] = item
                for _ in range(_consumes(item)):
                    self.dims[len(shape)] = dim
                    shape.append(x.shape[dim])
                    dim += 1
        self.ops: tuple[Any, ...] = ()
        if sliced:
            self.ops = (Slice(tuple(start), tuple(stop), tuple(step)),)
        kept = tuple(-(-(hi - lo) // st) for lo, hi, st in zip(start, stop, step))
        if tuple(shape) != kept:
            self.ops = (*self.ops, Reshape(tuple(shape)))
        elif not sliced and not self.indices:
            self.ops = (Alias(),)
        self.view: Tensor = read_through(self.ops, x)
        self.straight, self.flips = self.view, tuple(flips)
        if flips:
            self.view = Flip(self.flips)(self.view)

    def _range(self, item: slice, size: int) -> tuple[int, int, int]:
        try:
            lo, hi, st = slice_range(item, size)
        except TypeError:
            raise ArgumentTypeError(
                f"{self.name}: slice limits must be ints, got {item.start!r}:{item.stop!r}:"
                f"{item.step!r}"
            ) from None
        except ValueError:
            raise ArgumentError(f"{self.name}: slice step must not be 0") from None
        return lo, hi if st < 0 else max(lo, hi), st

    def write(self, value: Tensor) -> None:
        """Overwrite the elements that the view shows."""
        self.straight._write(Flip(self.flips)(value) if self.flips else value, self.name)

    def single_mask(self) -> tuple[int, Tensor] | None:
        """(first dimension, mask) if the only index is one bool mask."""
        if len(self.indices) == 1:
            ((dim, index),) = self.indices.items()
            if index.dtype is dt.bool_:
                return dim, index
        return None

    def resolve(self) -> None:
        """Turn masks into the positions of their true elements, and broadcast the indices."""
        found: dict[int, Tensor] = {}
        for dim, index in self.indices.items():
            if index.dtype is not dt.bool_:
                found[dim] = index
                continue
            self.check_mask(dim, index)
            for k, positions in enumerate(_true_positions(self.name, index)):
                found[dim + k] = as_tensor(positions)
        shape = broadcast_shapes(self.name, *(tuple(i.shape) for i in found.values()))
        self.shape = shape
        self.indices = {d: broadcast_to(i, shape) for d, i in sorted(found.items())}

    def check_mask(self, dim: int, mask: Tensor) -> None:
        covered = tuple(self.view.shape[dim : dim + mask.ndim])
        if covered != tuple(mask.shape):
            raise IndexRangeError(
                f"{self.name}: mask of shape {tuple(mask.shape)} does not fit dimensions "
                f"{self.dims.get(dim, 0)} and up of size {covered}"
            )

    def arrange(self) -> None:
        """Bring the indexed dimensions together as one axis: sets axis, order, split, index."""
        dims = list(self.indices)
        shape = tuple(self.view.shape)
        sizes = tuple(shape[d] for d in dims)
        first = dims[0]
        self.order: tuple[int, ...] | None = None
        if dims != list(range(first, first + len(dims))):
            self.order = (*dims, *(d for d in range(len(shape)) if d not in dims))
            shape, first = tuple(shape[d] for d in self.order), 0
        self.axis = first
        self.arranged = shape
        self.merged = (*shape[:first], numel(sizes), *shape[first + len(dims) :])
        numbers = tuple(self.dims[d] for d in dims)
        self.index = named(self.name, WrapIndex(sizes, numbers), *self.indices.values())

    @property
    def result_shape(self) -> tuple[int, ...]:
        return (*self.merged[: self.axis], *self.shape, *self.merged[self.axis + 1 :])

    def to_rows(self, x: Tensor) -> Tensor:
        """The view (or a tensor like it) with the indexed dimensions merged into one axis."""
        if self.order is not None:
            x = Permute(self.order)(x)
        return x if tuple(x.shape) == self.merged else Reshape(self.merged)(x)

    def from_rows(self, x: Tensor) -> Tensor:
        """The inverse of to_rows."""
        x = x if tuple(x.shape) == self.arranged else Reshape(self.arranged)(x)
        return x if self.order is None else Permute(self.order).inverse()(x)


def _consumes(item: Any) -> int:
    if item is None or item is Ellipsis or isinstance(item, bool):
        return 0
    if isinstance(item, Tensor) and item.dtype is dt.bool_:
        return item.ndim
    return 1


def _plain(item: Any, name: str) -> Any:
    """An index item as None, Ellipsis, bool, int, slice, or an int64 or bool tensor."""
    if item is None or item is Ellipsis or isinstance(item, (bool, int, slice)):
        return item
    if isinstance(item, (np.bool_, np.integer)):
        return item.item()
    if isinstance(item, (list, tuple, range, np.ndarray)):
        if not isinstance(item, np.ndarray) and len(item) == 0:
            item = np.zeros(0, np.int64)
        item = as_tensor(item if isinstance(item, np.ndarray) else list(item))
    if not isinstance(item, Tensor):
        try:
            return item.__index__()
        except (AttributeError, TypeError):
            raise ArgumentTypeError(
                f"{name}: an index must be made of ints, slices, None, ..., bools, lists and "
                f"integer or bool tensors; got {type(item).__name__}"
            ) from None
    if item.dtype is dt.bool_:
        known = type(item._value()) is np.ndarray and modes.trace is None
        return bool(item) if not item.ndim and known else item
    if item.dtype not in dt.INTS or item.dtype is dt.uint8:
        raise DTypeError(
            f"{name}: index tensors must be integer or bool, got {item.dtype.name} of shape "
            f"{tuple(item.shape)}",
            hint="mask.to(mg.bool) for a mask" if item.dtype is dt.uint8
            else "index.to(mg.int64) if the values are whole numbers",
        )  # fmt: skip
    if not item.ndim and type(item._value()) is np.ndarray and modes.trace is None:
        return item.item()
    return cast(item, dt.int64)


def _true_positions(name: str, mask: Tensor) -> tuple[np.ndarray, ...]:
    payload = mask._value()
    if type(payload) is Symbol:
        payload = known(payload, "index")
    elif modes.trace is not None and type(payload) is np.ndarray:
        modes.trace.read(mask, payload, "index")
    if type(payload) is not np.ndarray:
        raise TraceError(
            f"{name}: how many elements of a bool mask of shape {tuple(mask.shape)} are true is "
            "not known inside a captured or batched function",
            hint="use mg.where(mask, x, other) or x.masked_fill(mask, value), which keep the shape",
        )
    return np.nonzero(payload)


class Shown(Movement):
    """The ops of a basic index as one op of the tape: at most one Slice and one Reshape."""

    name = "index"
    is_view = True

    def __init__(self, ops: tuple[Any, ...], shape: tuple[int, ...]):
        self.chain = _Chain(ops, shape)

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        chain = self.chain
        for op, shape in zip(reversed(chain.ops), reversed(chain.shapes)):
            (g,) = op.vjp(g, None, Like((shape, x.dtype)))
        return (g,)


class _Chain:
    """What Shown looks at; the field of an op, which is the same only if it is one object."""

    def __init__(self, ops: tuple[Any, ...], shape: tuple[int, ...]):
        self.ops, self.shapes = ops, []
        self.slices: Any = None
        self.shape: Any = None
        for op in ops:
            self.shapes.append(shape)
            shape = op.infer(Aval(shape, dt.float32)).shape
            if type(op) is Slice:
                self.slices = op.slices()
            else:
                self.shape = shape
        self.is_plain = [type(op) for op in ops] in ([Slice], [Reshape], [Slice, Reshape])


# (shape, index) -> what it shows; emptied when it is full.
_views: dict[tuple, Shown] = {}
_FULL = 4096


def _key(index: Any) -> Any:
    """A hashable form of an index of ints, None, Ellipsis and slices forwards; False for others."""
    kind = type(index)
    if kind is int or index is None or index is Ellipsis:
        return index
    if kind is slice:
        limits = index.start, index.stop, index.step
        if type(index.step) is int and index.step < 0:
            return False
        return limits if all(v is None or type(v) is int for v in limits) else False
    if kind is tuple:
        keys = tuple([_key(i) for i in index])
        # A tuple in the tuple is a list of positions, which is no basic index.
        nested = any(type(i) is tuple for i in index)
        return False if nested or any(k is False for k in keys) else (keys,)
    return False


def _basic_view(x: Tensor, index: Any) -> Tensor | None:
    """x[index] for an index that gives a view, from what was found out before; else None."""
    key = _key(index)
    if key is False:
        return None
    place = (tuple(x._payload.shape), key)
    shown = _views.get(place)
    if shown is None:
        if len(_views) >= _FULL:
            _views.clear()
        shown = _views[place] = Shown(Parsed(x, index).ops, place[0])
    p = x._payload if x._base is None else x._value()
    if type(p) is np.ndarray and modes.trace is None and shown.chain.is_plain and not is_watched():
        return _view(x, p, shown)
    return read_through(shown.chain.ops, x)


def _view(x: Tensor, p: np.ndarray, shown: Shown) -> Tensor:
    """What read_through gives, in one go: p is the array of x."""
    chain = shown.chain
    made = p if chain.slices is None else p[chain.slices]
    if chain.shape is not None:
        made = made.reshape(chain.shape)  # without axes of size 1, or with more: never a copy
    out = wrap(made)
    base = x._base
    out._base = x if base is None else base
    out._view = chain.ops if base is None else (*x._view, *chain.ops)
    out._version = x._version
    out._seen = x._version[0]
    if x._requires and modes.grad:
        edge = (x, 0) if x._node is None else (x._node, x._index)
        note(shown, (edge,), [Like((p.shape, p.dtype))], False, out, made)
    return out


def _rows(x: Tensor, index: Tensor) -> Tensor | None:
    """x[index] of small arrays for the usual index tensors, where no tape wants to know."""
    p, i = x._value(), index._value()
    if (
        type(p) is not np.ndarray or type(i) is not np.ndarray or not i.ndim or p.size > MOST
        or i.dtype not in _INDICES or modes.trace is not None or (x._requires and modes.grad)
        or is_watched() or (i.dtype.kind == "b" and p.shape[: i.ndim] != i.shape)
    ):  # fmt: skip
        return None
    try:
        return wrap(p[i])
    except IndexError:  # out of range: said in our words
        return None


MOST = 65536
_INDICES = frozenset((np.dtype(np.int64), np.dtype(bool)))


def _getitem(self: Tensor, index: Any) -> Tensor:
    """self[index]: a view for ints, slices, None and ...; a copy where tensors or lists index."""
    view = _basic_view(self, index)
    if view is not None:
        return view
    if isinstance(index, Tensor):
        made = _rows(self, index)
        if made is not None:
            return made
    if isinstance(index, Tensor) and index.dtype is dt.int64 and index.ndim and self.ndim:
        return IndexSelect(0)(self, WrapIndex((self.shape[0],), (0,))(index))  # rows
    parsed = Parsed(self, index)
    if not parsed.indices:
        return parsed.view
    parsed.resolve()
    parsed.arrange()
    return IndexSelect(parsed.axis)(parsed.to_rows(parsed.view), parsed.index)


def _fit(name: str, value: Tensor, shape: tuple[int, ...]) -> Tensor:
    """`value` broadcast to `shape`; extra leading dimensions of size 1 are dropped."""
    own = tuple(value.shape)
    if own == shape:
        return value
    extra = len(own) - len(shape)
    if extra > 0 and all(n == 1 for n in own[:extra]):
        value = Reshape(own[extra:])(value)
    if len(value.shape) > len(shape) or broadcast_shapes_or_none(value.shape, shape) != shape:
        raise ShapeError(f"{name}: a value of shape {own} cannot be assigned to shape {shape}")
    return broadcast_to(value, shape)


def broadcast_shapes_or_none(*shapes: Any) -> tuple[int, ...] | None:
    """The common shape, or None where there is none."""
    try:
        return tuple(broadcast_shapes("", *(tuple(s) for s in shapes)))
    except ShapeError:
        return None


def _as_value(value: Any, dtype: Any, name: str) -> Tensor:
    if isinstance(value, Tensor):
        return cast(value, dtype)
    if is_number(value) or isinstance(value, (list, tuple, np.ndarray)):
        return as_tensor(value, dtype=dtype)
    raise ArgumentTypeError(
        f"{name}: the value must be a number, tensor, array or list, got {type(value).__name__}"
    )


def _setitem(self: Tensor, index: Any, value: Any) -> None:
    """self[index] = value: in place, with broadcasting and conversion to this dtype."""
    name = "index assignment"
    if _put(self, index, value):
        return
    value = _as_value(value, self.dtype, name)
    view = _basic_view(self, index)
    if view is not None:
        view._write(_fit(name, value, tuple(view.shape)), name)
    else:
        _assign(Parsed(self, index, name), value, name)


def _put(x: Tensor, index: Any, value: Any) -> bool:
    """Whether self[index] = value was done: arrays of one dtype, or a number, and no tape."""
    key = _key(index)
    if key is False or modes.trace is not None or is_watched():
        return False
    p = x._value()
    if type(p) is not np.ndarray or (x._requires and modes.grad) or x._is_detached():
        return False
    if isinstance(value, Tensor):
        if (value._requires and modes.grad) or value._inference != x._inference:
            return False
        q = value._value()
        if type(q) is not np.ndarray or q.dtype is not p.dtype:
            return False
    elif type(value) is float and p.dtype.kind == "f":
        q = value
    else:
        return False
    x._may_write("index assignment")
    try:
        p[index] = q
    except (ValueError, IndexError):  # said in our words
        return False
    x._version[0] += 1
    if x._base is not None:
        x._refresh()
    return True


def _assign(parsed: Parsed, value: Tensor, name: str) -> None:
    view = parsed.view
    if not parsed.indices:
        parsed.write(_fit(name, value, tuple(view.shape)))
        return
    made = _over_mask(parsed, value)
    if made is None:
        parsed.resolve()
        parsed.arrange()
        value = _fit(name, value, parsed.result_shape)
        if not parsed.flips and _is_plain(view, value, parsed.index) and view._may_write(name):
            _write_rows(parsed, view, value)
            return
        made = _with_rows(parsed, value)
    parsed.write(made)


def _with_rows(parsed: Parsed, value: Tensor, accumulate: bool = False) -> Tensor:
    """The view with `value` written at (or added to) the elements that the indices name."""
    op = IndexAdd(parsed.axis) if accumulate else IndexSet(parsed.axis)
    return parsed.from_rows(op(parsed.to_rows(parsed.view), parsed.index, value))


def _is_plain(view: Tensor, value: Tensor, index: Tensor) -> bool:
    """Whether memory can be written at once: arrays only, no capture, nothing for the tape."""
    recording = modes.grad and (view.requires_grad or value.requires_grad)
    arrays = all(type(t._value()) is np.ndarray for t in (view, value, index))
    return arrays and modes.trace is None and not recording


def _write_rows(parsed: Parsed, view: Tensor, value: Tensor) -> None:
    array = view._payload
    keys: list[Any] = [slice(None)] * array.ndim
    for dim, index in parsed.indices.items():
        keys[dim] = index._value()
    array[tuple(keys)] = value._value()
    view._version[0] += 1


def _over_mask(parsed: Parsed, value: Tensor) -> Tensor | None:
    """where(mask, value, view) if one mask is the index and all its elements get the same."""
    found = parsed.single_mask()
    if found is None:
        return None
    dim, mask = found
    shape = tuple(parsed.view.shape)
    before, after = shape[:dim], shape[dim + mask.ndim :]
    own = tuple(value.shape)
    place = len(own) - 1 - len(after)  # which dimension of the value runs over true elements
    if place >= 0 and own[place] != 1:
        return None
    parsed.check_mask(dim, mask)
    if place >= 0:
        one = (1,) * mask.ndim
        value = Reshape((*own[:place], *one, *own[place + 1 :]))(value)
    value = _fit(parsed.name, value, shape)
    spread = Reshape((*(1,) * len(before), *mask.shape, *(1,) * len(after)))(mask)
    return Where()(broadcast_to(spread, shape), value, parsed.view)


@public
def index_put(input: Tensor, indices: Any, values: Any, accumulate: bool = False) -> Tensor:
    """A copy of `input` with `values` written at (or added to) the elements that `indices` name.

    indices     a tuple of integer or bool tensors, one per leading dimension
    accumulate  add, in order, instead of replacing
    """
    if not isinstance(indices, (tuple, list)):
        raise ArgumentTypeError(
            f"index_put: indices must be a tuple of tensors, got {type(indices).__name__}"
        )
    parsed = Parsed(input, tuple(slice(None) if i is None else i for i in indices), "index_put")
    value = _as_value(values, input.dtype, "index_put")
    made = None if accumulate else _over_mask(parsed, value)
    if made is None:
        if not parsed.indices:
            raise ArgumentError("index_put: indices must name at least one dimension")
        parsed.resolve()
        parsed.arrange()
        made = _with_rows(parsed, _fit("index_put", value, parsed.result_shape), accumulate)
    return made


Tensor.__getitem__ = _getitem  # type: ignore
Tensor.__setitem__ = _setitem  # type: ignore
