"""Reading the same elements under another shape: reshape, transpose, expand, slices, diagonals.

Everything here is composed of the primitives in movement.py (and Diagonal below), most of them
views. What needs strides or a tensor's identity (view, contiguous, split) is in api/views.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..core.errors import ArgumentError, ArgumentTypeError, IndexRangeError, ShapeError
from ..core.shape import (
    Shape,
    as_index,
    as_shape,
    broadcast_shapes,
    normalize_dim,
    numel,
    resolve_reshape,
)
from ..ir.op import is_value
from .align import alias, public
from .align import broadcast_to as _broadcast_to
from .batching import shape_of
from .movement import Copy, Expand, Flip, Permute, Reshape, Slice
from .parts import conj


def _value(name: str, x: Any) -> Any:
    if not is_value(x):
        raise ArgumentTypeError(f"{name}: input must be a tensor, got {type(x).__name__}")
    return x


@public
def reshape(input: Any, shape: Any = (), *more: Any, copy: bool | None = None) -> Any:
    """The same elements in row-major order as `shape`; one size may be -1. A view where possible.

    copy  True: never a view; False: ArgumentError where it cannot be one

    ShapeError if the number of elements differs.

    >>> reshape(tensor([[1, 2], [3, 4]]), (-1,))
    tensor([1, 2, 3, 4])
    """
    x = _value("reshape", input)
    sizes = as_shape("reshape", (shape, *more))
    out = Reshape(resolve_reshape("reshape", shape_of(x), sizes))(x)
    if copy is None:
        return out
    if copy is False and getattr(out, "_base", None) is None:
        raise ArgumentError("reshape: copy=False, but this takes a copy")
    return Copy()(out) if copy else out


@public
def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """Merge dimensions start_dim to end_dim (both included) into one; a 0-d tensor becomes 1-d."""
    x = _value("flatten", input)
    n = len(x.shape)
    first, last = (normalize_dim("flatten", d, n) for d in (start_dim, end_dim))
    if n == 0:
        return Reshape((1,))(x)
    if first > last:
        raise ArgumentError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}")
    if first == last:
        return x
    shape = shape_of(x)
    merged = numel(shape[first : last + 1])
    return Reshape((*shape[:first], merged, *shape[last + 1 :]))(x)


@public
def ravel(input: Any) -> Any:
    """All elements in row-major order as one dimension; a view where possible."""
    return reshape(input, (-1,))


@public
def unflatten(input: Any, dim: int, sizes: Sequence[int]) -> Any:
    """Replace dimension `dim` by several of the given sizes (one may be -1) of the same product.

    >>> unflatten(ones(6, 2), 0, (3, -1)).shape
    (3, 2, 2)
    """
    x = _value("unflatten", input)
    axis = normalize_dim("unflatten", dim, len(x.shape))
    shape = shape_of(x)
    if not shape:
        raise ShapeError("unflatten: a 0-d tensor has no dimension to take apart")
    parts = resolve_reshape("unflatten", (shape[axis],), as_shape("unflatten", (sizes,)))
    return Reshape((*shape[:axis], *parts, *shape[axis + 1 :]))(x)


def _squeezed(x: Any, axes: set[int]) -> Any:
    return Reshape(tuple(n for a, n in enumerate(x.shape) if a not in axes))(x)


@public
def squeeze(input: Any, dim: Any = None) -> Any:
    """Without the dimensions of size 1: all of them, or those in `dim` (an int or several)."""
    x = _value("squeeze", input)
    n = len(x.shape)
    dims = range(n) if dim is None else dim if isinstance(dim, (tuple, list)) else (dim,)
    axes = {normalize_dim("squeeze", d, n) for d in dims}
    return _squeezed(x, {a for a in axes if n and x.shape[a] == 1})


@public
def unsqueeze(input: Any, dim: int) -> Any:
    """With a new dimension of size 1 at position `dim`.

    >>> unsqueeze(tensor([1, 2]), -1).shape
    (2, 1)
    """
    x = _value("unsqueeze", input)
    n = len(x.shape)
    dim = as_index("unsqueeze", "dim", dim)
    if not -n - 1 <= dim <= n:
        raise IndexRangeError(
            f"unsqueeze: dim must be in [{-n - 1}, {n}] for {n} dimensions, got {dim}"
        )
    axis = dim % (n + 1)
    shape = shape_of(x)
    return Reshape((*shape[:axis], 1, *shape[axis:]))(x)


@public
def permute(input: Any, *dims: Any) -> Any:
    """With dimensions in the order `dims`: output i is input dimension dims[i]. A view."""
    x = _value("permute", input)
    n = len(x.shape)
    order = tuple(normalize_dim("permute", d, n) for d in as_shape("permute", dims))
    if sorted(order) != list(range(n)):
        raise ShapeError(f"permute: dims {order} must name each of the {n} dimensions once")
    return Permute(order)(x)


@public
def transpose(input: Any, dim0: int, dim1: int) -> Any:
    """With dimensions dim0 and dim1 exchanged. A view."""
    x = _value("transpose", input)
    n = len(x.shape)
    a, b = (normalize_dim("transpose", d, n) for d in (dim0, dim1))
    order = list(range(n))
    if n:
        order[a], order[b] = b, a
    return Permute(tuple(order))(x)


swapaxes = alias("swapaxes", transpose)
swapdims = alias("swapdims", transpose)


@public
def t(input: Any) -> Any:
    """The transpose of a matrix; tensors of fewer dimensions as they are. A view."""
    x = _value("t", input)
    if len(x.shape) > 2:
        raise ShapeError(
            f"t: needs at most 2 dimensions, the shape is {shape_of(x)}",
            hint="use .mT or transpose(dim0, dim1)",
        )
    return Permute(tuple(reversed(range(len(x.shape)))))(x)


@public
def adjoint(input: Any) -> Any:
    """The last two dimensions exchanged, conjugated where complex. A view of a real tensor."""
    return conj(transpose(input, -2, -1))


@public
def matrix_transpose(x: Any, /) -> Any:
    """The last two dimensions exchanged. A view."""
    x = _value("matrix_transpose", x)
    if len(x.shape) < 2:
        raise ShapeError(f"matrix_transpose: needs 2 dimensions, the shape is {shape_of(x)}")
    return transpose(x, -2, -1)


@public
def movedim(input: Any, source: Any, destination: Any) -> Any:
    """Move dimension(s) `source` to `destination`; the others keep their order. A view.

    >>> movedim(ones(2, 3, 4), 0, -1).shape
    (3, 4, 2)
    """
    x = _value("movedim", input)
    n = len(x.shape)
    ends = []
    for dims in (source, destination):
        dims = dims if isinstance(dims, (tuple, list)) else (dims,)
        ends.append([normalize_dim("movedim", d, n) for d in dims])
    if len(ends[0]) != len(ends[1]) or any(len(set(e)) != len(e) for e in ends):
        raise ArgumentError(
            f"movedim: source {source} and destination {destination} must name as many "
            "dimensions, each once"
        )
    if not n:
        return Permute(())(x)
    order: list[Any] = [None] * n
    for s, d in zip(*ends):
        order[d] = s
    rest = iter(a for a in range(n) if a not in ends[0])
    return Permute(tuple(next(rest) if a is None else a for a in order))(x)


moveaxis = alias("moveaxis", movedim)


@public
def expand(input: Any, *size: Any) -> Any:
    """Repeat size-1 dimensions to `size` without copying; -1 keeps a size. A view.

    >>> expand(tensor([[1], [2]]), 2, 3)
    tensor([[1, 1, 1],
            [2, 2, 2]])
    """
    x = _value("expand", input)
    size = as_shape("expand", size)
    offset = len(size) - len(x.shape)
    if offset < 0:
        raise ShapeError(
            f"expand: {size} has fewer dimensions than the tensor's shape {shape_of(x)}"
        )
    target = []
    for a, n in enumerate(size):
        own = x.shape[a - offset] if a >= offset else None
        if n == -1 and own is not None:
            n = own
        if n < 0 or (own not in (None, 1, n)):
            raise ShapeError(
                f"expand: size {n} of dimension {a} does not fit the tensor's shape {shape_of(x)}"
            )
        target.append(n)
    if tuple(target) == shape_of(x):
        return Reshape(tuple(target))(x)
    return _broadcast_to(x, tuple(target))


@public
def broadcast_to(input: Any, shape: Sequence[int]) -> Any:
    """`input` read as `size` by the broadcasting rule. A view."""
    return expand(input, shape)


@public
def broadcast_tensors(*tensors: Any) -> tuple[Any, ...]:
    """All tensors read as their common broadcast shape. Views."""
    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        tensors = tuple(tensors[0])
    shape = broadcast_shapes("broadcast_tensors", *(shape_of(x) for x in tensors))
    return tuple(expand(x, shape) for x in tensors)


@public
def tile(input: Any, *dims: Any) -> Any:
    """Repeat the whole tensor dims[i] times along dimension i (missing leading ones are 1).

    >>> tile(tensor([1, 2]), (2,))
    tensor([1, 2, 1, 2])
    """
    x = _value("tile", input)
    counts = as_shape("tile", dims)
    counts = (1,) * (len(x.shape) - len(counts)) + counts
    return _repeat("tile", x, counts)


def _repeat(name: str, x: Any, counts: Shape) -> Any:
    if any(c < 0 for c in counts):
        raise ArgumentError(f"{name}: repetitions must not be negative, got {counts}")
    shape = (1,) * (len(counts) - len(x.shape)) + shape_of(x)
    grown = tuple(v for c, n in zip(counts, shape) for v in (c, n))
    spread = Expand(grown, tuple(range(0, 2 * len(counts), 2)))(Reshape(shape)(x))
    return Copy()(Reshape(tuple(c * n for c, n in zip(counts, shape)))(spread))


def repeat(input: Any, *repeats: Any) -> Any:
    """Tensor.repeat: the whole tensor repeats[i] times along dimension i."""
    counts = as_shape("repeat", repeats)
    if len(counts) < len(input.shape):
        raise ShapeError(
            f"repeat: {len(counts)} repetitions {counts} for {len(input.shape)} dimensions "
            f"{shape_of(input)}",
            hint="tile() adds missing leading ones",
        )
    return _repeat("repeat", input, counts)


def slice_axis(x: Any, axis: int, start: int, stop: int, step: int = 1) -> Any:
    """Elements start, start+step, ... below stop along one axis."""
    n = len(x.shape)
    lo, hi, st = [0] * n, list(x.shape), [1] * n
    lo[axis], hi[axis], st[axis] = start, stop, step
    return Slice(tuple(lo), tuple(hi), tuple(st))(x)


@public
def narrow(input: Any, dim: int, start: Any, length: int) -> Any:
    """`length` elements from `start` (negative counts from the end) along `dim`. A view."""
    x = _value("narrow", input)
    if not x.shape:
        raise ShapeError("narrow: a 0-d tensor cannot be narrowed")
    axis = normalize_dim("narrow", dim, len(x.shape))
    start, length = as_index("narrow", "start", start), as_index("narrow", "length", length)
    size = x.shape[axis]
    begin = start + size if start < 0 else start
    if not 0 <= begin <= size or length < 0 or begin + length > size:
        raise IndexRangeError(
            f"narrow: {length} elements from {start} exceed dimension {axis} of size {size}"
        )
    return slice_axis(x, axis, begin, begin + length)


@public
def select(input: Any, dim: int, index: Any) -> Any:
    """Element `index` along `dim`, which disappears. A view."""
    x = _value("select", input)
    if not x.shape:
        raise IndexRangeError("select: a 0-d tensor has no dimension to select from")
    axis = normalize_dim("select", dim, len(x.shape))
    index = as_index("select", "index", index)
    size = x.shape[axis]
    if not -size <= index < size:
        raise IndexRangeError(
            f"select: index {index} is out of range for dimension {axis} of size {size}"
        )
    index %= size
    return _squeezed(slice_axis(x, axis, index, index + 1), {axis})


@public
def flip(input: Any, *axes: Any, dims: Any = None) -> Any:
    """With the order of elements reversed along `dims` (or the numbers given, or all). A copy.

    >>> flip(tensor([1, 2, 3]), (0,))
    tensor([3, 2, 1])
    """
    x = _value("flip", input)
    if not axes and dims is None:
        axes = (tuple(range(len(x.shape))),)
    given = as_shape("flip", axes if dims is None else (dims,))
    axes = tuple(normalize_dim("flip", d, len(x.shape)) for d in given)
    if len(set(axes)) != len(axes):
        raise ArgumentError(f"flip: dims {axes} name a dimension twice")
    return Flip(axes if x.shape else ())(x)


@public
def fliplr(input: Any) -> Any:
    """With columns in reverse order (dimension 1). A copy."""
    if len(input.shape) < 2:
        raise ShapeError(f"fliplr: needs at least 2 dimensions, the shape is {shape_of(input)}")
    return flip(input, 1)


@public
def flipud(input: Any) -> Any:
    """With rows in reverse order (dimension 0). A copy."""
    if not input.shape:
        raise ShapeError("flipud: needs at least 1 dimension, the tensor is 0-d")
    return flip(input, 0)


@public
def rot90(input: Any, k: int = 1, dims: Sequence[int] = (0, 1)) -> Any:
    """Turn by k quarter turns in the plane of `dims`, from the first towards the second."""
    x = _value("rot90", input)
    plane = {normalize_dim("rot90", d, len(x.shape)) for d in as_shape("rot90", (dims,))}
    if len(plane) != 2 or len(dims) != 2:
        raise ArgumentError(f"rot90: dims must be two different dimensions, got {dims}")
    a, b = (normalize_dim("rot90", d, len(x.shape)) for d in dims)
    k = as_index("rot90", "k", k) % 4
    if k == 0:
        return Copy()(x)
    if k == 2:
        return flip(x, a, b)
    return flip(transpose(x, a, b), a if k == 1 else b)


@public
def clone(input: Any, *, memory_format: Any = None) -> Any:
    """A copy in fresh, contiguous memory; gradients flow through it."""
    return Copy()(_value("clone", input))


def _at_least(name: str, ndim: int, x: Any) -> Any:
    shape = shape_of(_value(name, x))
    if len(shape) >= ndim:
        return x
    missing = ndim - len(shape)
    if ndim == 3:  # as NumPy: (N,) becomes (1, N, 1) and (N, M) becomes (N, M, 1)
        return Reshape((1, *shape, 1) if missing == 2 else (*shape, *(1,) * missing))(x)
    return Reshape((1,) * missing + shape)(x)


def _make_at_least(ndim: int) -> Any:
    name = f"atleast_{ndim}d"

    def f(*tensors: Any) -> Any:
        if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
            return tuple(_at_least(name, ndim, x) for x in tensors[0])
        made = tuple(_at_least(name, ndim, x) for x in tensors)
        return made[0] if len(made) == 1 else made

    f.__name__ = f.__qualname__ = name
    f.__doc__ = f"Each tensor with size-1 dimensions added until it has at least {ndim}."
    return public(f)


atleast_1d, atleast_2d, atleast_3d = (_make_at_least(n) for n in (1, 2, 3))


@public
def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Any, ...]:
    """Coordinates of a grid: for N 1-d tensors, N tensors of N dimensions. Views.

    indexing  "ij": dimension k varies with tensor k; "xy": the first two exchanged
    """
    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        tensors = tuple(tensors[0])
    if indexing not in ("ij", "xy"):
        raise ArgumentError(f"meshgrid: indexing must be 'ij' or 'xy', got {indexing!r}")
    for x in tensors:
        if len(x.shape) > 1:
            raise ShapeError(f"meshgrid: needs 1-d tensors, got shape {shape_of(x)}")
    swapped = indexing == "xy" and len(tensors) > 1
    if swapped:
        tensors = (tensors[1], tensors[0], *tensors[2:])
    sizes = tuple(numel(x.shape) for x in tensors)
    grids = []
    for a, x in enumerate(tensors):
        shape = tuple(n if b == a else 1 for b, n in enumerate(sizes))
        grids.append(expand(Reshape(shape)(x), sizes))
    if swapped:
        grids[0], grids[1] = grids[1], grids[0]
    return tuple(grids)


def repeat_each(input: Any, repeats: int, axis: int) -> Any:
    """Each element `repeats` times in a row along `axis` (repeat_interleave with one count)."""
    shape = shape_of(input)
    grown = (*shape[: axis + 1], repeats, *shape[axis + 1 :])
    merged = (*shape[:axis], shape[axis] * repeats, *shape[axis + 1 :])
    return Copy()(Reshape(merged)(Expand(grown, (axis + 1,))(input)))
