"""Concatenation (adjoint: slices), and what is made of it: stack, roll, padding of every mode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.errors import ArgumentError, ArgumentTypeError, ShapeError
from ..core.shape import as_index, as_shape, normalize_dim, numel
from ..ir.op import Aval, Opaque, is_value, op
from .align import cast, functional, literal, public
from .batching import batched, shape_of
from .movement import Copy, Expand, Flip, Pad, Reshape, Slice
from .shaping import atleast_1d, atleast_2d, atleast_3d, slice_axis, unsqueeze


@op
class Concat(Opaque):
    """Inputs one after another along `axis`; they agree in dtype and in all other sizes."""

    axis: int
    saves = "none"
    onnx = "Concat"

    def infer(self, *xs: Any) -> Aval:
        first, total = shape_of(xs[0]), 0
        for x in xs:
            shape = shape_of(x)
            if x.dtype is not xs[0].dtype or len(shape) != len(first) or any(
                n != m for a, (n, m) in enumerate(zip(shape, first)) if a != self.axis
            ):  # fmt: skip
                raise ShapeError(f"concat: {shape} does not fit {first} along axis {self.axis}")
            total += shape[self.axis]
        return Aval((*first[: self.axis], total, *first[self.axis + 1 :]), xs[0].dtype)

    def reference(self, *xs: Any) -> Any:
        return np.concatenate(xs, self.axis)

    def vjp(self, g: Any, out: Any, *xs: Any) -> tuple[Any, ...]:
        parts, start = [], 0
        for x in xs:
            stop = start + x.shape[self.axis]
            parts.append(slice_axis(g, self.axis, start, stop))
            start = stop
        return tuple(parts)

    def batch(self, dims: tuple, size: int, *xs: Any) -> tuple[Any, Any]:
        xs = tuple(batched(x, d, size) for x, d in zip(xs, dims))
        return Concat(self.axis + 1)(*xs), 0


@op
class Split(Opaque):
    """Consecutive parts of the given sizes along `axis`. Adjoint of Concat.

    The public functions give views made by slices; this op is what the tape remembers of them, so
    that the gradient of all parts is one concatenation.
    """

    sizes: tuple[int, ...]
    axis: int
    saves = "none"

    @property
    def n_outputs(self) -> int:  # type: ignore[override]
        return len(self.sizes)

    def infer(self, x: Any) -> Any:
        shape = shape_of(x)
        if len(self.sizes) < 2 or sum(self.sizes) != shape[self.axis]:
            raise ShapeError(f"split: sizes {self.sizes} do not add up to {shape[self.axis]}")
        before, after = shape[: self.axis], shape[self.axis + 1 :]
        return tuple(Aval((*before, n, *after), x.dtype) for n in self.sizes)

    def reference(self, x: Any) -> Any:
        return np.split(x, np.cumsum(self.sizes)[:-1], self.axis)

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (Concat(self.axis)(*g),)

    def batch(self, dims: tuple, size: int, x: Any) -> tuple[Any, Any]:
        parts = Split(self.sizes, self.axis + 1)(batched(x, dims[0], size))
        return parts, (0,) * len(self.sizes)


def concat_values(axis: int, xs: Sequence[Any]) -> Any:
    """Concat of values that already fit; one alone is itself."""
    return xs[0] if len(xs) == 1 else Concat(axis)(*xs)


# Set by api/quick.py: cat and stack of small arrays, or None where they must go the usual way.
quick: list[Callable] = [lambda tensors, dim: None] * 2


def _sequence(name: str, tensors: Any) -> list[Any]:
    if is_value(tensors) or not isinstance(tensors, (tuple, list)):
        raise ArgumentTypeError(
            f"{name}: tensors must be a tuple or list of tensors, got {type(tensors).__name__}"
        )
    for i, x in enumerate(tensors):
        if not is_value(x):
            raise ArgumentTypeError(
                f"{name}: tensors[{i}] must be a tensor, got {type(x).__name__}"
            )
    if not tensors:
        raise ArgumentError(f"{name}: needs at least one tensor")
    return list(tensors)


def _promoted(xs: list[Any]) -> list[Any]:
    dtype = xs[0].dtype
    if all(x.dtype is dtype for x in xs):
        return xs
    for x in xs[1:]:
        dtype = dt.promote_types(dtype, x.dtype)
    return [cast(x, dtype) for x in xs]


@public
def cat(tensors: Sequence[Any], dim: int | None = 0) -> Any:
    """Tensors one after another along `dim`; all other sizes agree, dtypes are promoted.

    dim None: the tensors are flattened first.

    Empty 1-d tensors are skipped, as in PyTorch.

    >>> cat((tensor([1, 2]), tensor([3])))
    tensor([1, 2, 3])
    """
    made = quick[0](tensors, dim)
    if made is not None:
        return made
    xs = _promoted(_sequence("cat", tensors))
    if dim is None:
        xs, dim = [Reshape((numel(x.shape),))(x) for x in xs], 0
    for i, x in enumerate(xs):
        if not x.shape:
            raise ShapeError(f"cat: tensors[{i}] is 0-d and cannot be concatenated")
    kept = [x for x in xs if shape_of(x) != (0,)] or xs[:1]
    first = shape_of(kept[0])
    axis = normalize_dim("cat", dim, len(first))
    for x in kept:
        shape = shape_of(x)
        if len(shape) != len(first) or any(
            n != m for a, (n, m) in enumerate(zip(shape, first)) if a != axis
        ):
            i = next(i for i, y in enumerate(xs) if y is x)
            raise ShapeError(
                f"cat: tensors[{i}] has shape {shape}, tensors[0] has {shape_of(xs[0])}; they "
                f"must agree in every dimension but {axis}"
            )
    return Copy()(kept[0]) if len(kept) == 1 else Concat(axis)(*kept)


@public
def concat(tensors: Sequence[Any], dim: int | None = 0) -> Any:
    """The same as `cat`."""
    return cat(tensors, dim)


@public
def concatenate(tensors: Sequence[Any], dim: int | None = 0) -> Any:
    """The same as `cat`."""
    return cat(tensors, dim)


@public
def stack(tensors: Sequence[Any], dim: int = 0) -> Any:
    """Tensors of equal shape side by side along a new dimension `dim`.

    >>> stack([tensor([1, 2]), tensor([3, 4])])
    tensor([[1, 2],
            [3, 4]])
    """
    made = quick[1](tensors, dim)
    if made is not None:
        return made
    xs = _promoted(_sequence("stack", tensors))
    for i, x in enumerate(xs):
        if shape_of(x) != shape_of(xs[0]):
            raise ShapeError(
                f"stack: tensors[{i}] has shape {shape_of(x)}, tensors[0] has {shape_of(xs[0])}"
            )
    axis = normalize_dim("stack", dim, len(xs[0].shape), extra=1)
    parts = [unsqueeze(x, axis) for x in xs]
    return Copy()(parts[0]) if len(parts) == 1 else Concat(axis)(*parts)


@public
def hstack(tensors: Sequence[Any]) -> Any:
    """Concatenate along dimension 1 (along 0 for 1-d tensors)."""
    xs = [atleast_1d(x) for x in _sequence("hstack", tensors)]
    return cat(xs, 0 if len(xs[0].shape) == 1 else 1)


@public
def vstack(tensors: Sequence[Any]) -> Any:
    """Concatenate along dimension 0; 1-d tensors are rows."""
    return cat([atleast_2d(x) for x in _sequence("vstack", tensors)], 0)


@public
def dstack(tensors: Sequence[Any]) -> Any:
    """Concatenate along dimension 2."""
    return cat([atleast_3d(x) for x in _sequence("dstack", tensors)], 2)


@public
def roll(input: Any, shift: Any, dims: Any = None) -> Any:
    """Shift elements along `dims`; what leaves at one end enters at the other.

    dims None: the tensor is flattened first, and takes its shape back.

    >>> roll(tensor([1, 2, 3, 4]), 1)
    tensor([4, 1, 2, 3])
    """
    shape = shape_of(input)
    if dims is None:
        flat = Reshape((numel(shape),))(input)
        return Reshape(shape)(roll(flat, shift, 0))
    shifts = shift if isinstance(shift, (tuple, list)) else (shift,)
    dims = dims if isinstance(dims, (tuple, list)) else (dims,)
    if len(shifts) != len(dims):
        raise ArgumentError(f"roll: {len(shifts)} shifts for {len(dims)} dims")
    out = input
    for step, dim in zip(shifts, dims):
        axis = normalize_dim("roll", dim, len(shape))
        n = shape[axis] if shape else 0
        k = as_index("roll", "shift", step) % n if n else 0
        if k:
            out = Concat(axis)(slice_axis(out, axis, n - k, n), slice_axis(out, axis, 0, n - k))
    return Copy()(input) if out is input else out


def _pad_constant(x: Any, low: list[int], high: list[int], value: Any) -> Any:
    if any(p < 0 for p in (*low, *high)):  # negative padding crops
        start = tuple(max(-lo, 0) for lo in low)
        stop = tuple(n - max(-hi, 0) for n, hi in zip(x.shape, high))
        x = Slice(start, stop, (1,) * len(start))(x)
    low_, high_ = (tuple(max(p, 0) for p in side) for side in (low, high))
    if not any(low_) and not any(high_):
        return Copy()(x)
    return Pad(low_, high_, (0,) * len(low_), value)(x)


def _pad_axis(x: Any, axis: int, lo: int, hi: int, mode: str) -> Any:
    """One axis padded (or cropped) by reflection, repetition of the edge, or wrapping around."""
    n = x.shape[axis]
    if mode == "replicate" and n:
        # Places -lo to n + hi - 1, each limited to [0, n): the edge may be all that is left.
        start, stop = -lo, n + hi
        before = min(max(-start, 0), stop - start)
        inner = max(min(stop, n) - max(start, 0), 0)
        after = stop - start - before - inner
        parts = [_edge(x, axis, 0, before), _edge(x, axis, n - 1, after)]
        if inner:
            parts.insert(1, slice_axis(x, axis, max(start, 0), max(start, 0) + inner))
        kept = [p for p in parts if p.shape[axis]]
        return concat_values(axis, kept or parts[:1])
    if lo < 0 or hi < 0:
        start, stop = max(-lo, 0), n - max(-hi, 0)
        x, n, lo, hi = slice_axis(x, axis, start, stop), stop - start, max(lo, 0), max(hi, 0)
    parts = [x]
    if lo:
        if mode == "reflect":
            part = Flip((axis,))(slice_axis(x, axis, 1, lo + 1))
        else:
            part = slice_axis(x, axis, n - lo, n)
        parts.insert(0, part)
    if hi:
        if mode == "reflect":
            part = Flip((axis,))(slice_axis(x, axis, n - 1 - hi, n - 1))
        else:
            part = slice_axis(x, axis, 0, hi)
        parts.append(part)
    return concat_values(axis, parts)


def _edge(x: Any, axis: int, index: int, count: int) -> Any:
    edge = slice_axis(x, axis, index, index + 1)
    shape = shape_of(edge)
    row = Reshape((*shape[:axis], *shape[axis + 1 :]))(edge)
    return Expand((*shape[:axis], count, *shape[axis + 1 :]), (axis,))(row)


@functional
def pad(input: Any, pad: Sequence[int], mode: str = "constant", value: Any = None) -> Any:
    """Extend the last dimensions: pad = (left, right, top, bottom, ...), the last dimension first.

    mode   "constant" (with `value`, default 0), "reflect", "replicate" or "circular"
    Negative amounts crop. ShapeError where a mode needs more elements than there are.

    >>> pad(tensor([1, 2]), (1, 2), value=7)
    tensor([7, 1, 2, 7, 7])
    """
    x, ndim = input, len(input.shape)
    amounts = list(as_shape("pad", (pad,)))
    if len(amounts) % 2 or len(amounts) > 2 * ndim:
        raise ArgumentError(
            f"pad: needs a low and a high amount for at most {ndim} dimensions, got {amounts}"
        )
    if mode not in ("constant", "reflect", "replicate", "circular"):
        raise ArgumentError(
            f"pad: mode must be 'constant', 'reflect', 'replicate' or 'circular', got {mode!r}"
        )
    if mode != "constant" and value not in (None, 0):
        raise ArgumentError(f"pad: mode {mode!r} takes no value, got {value!r}")
    low, high = [0] * ndim, [0] * ndim
    for i in range(0, len(amounts), 2):
        low[ndim - 1 - i // 2], high[ndim - 1 - i // 2] = amounts[i], amounts[i + 1]
    limits = {"reflect": -1, "circular": 0}
    for axis, (n, lo, hi) in enumerate(zip(x.shape, low, high)):
        left = n + min(lo, 0) + min(hi, 0)
        most = left + limits[mode] if mode in limits else None
        if left < 0 or (most is not None and max(lo, hi) > max(most, 0)) or (
            mode == "replicate" and not n and (lo > 0 or hi > 0)
        ):  # fmt: skip
            raise ShapeError(
                f"pad: amounts ({lo}, {hi}) do not fit dimension {axis} of size {n} "
                f"in mode {mode!r}"
            )
    if mode == "constant":
        fill = literal(0 if value is None else value, x.dtype)
        return _pad_constant(x, low, high, fill)
    out = x
    for axis, (lo, hi) in enumerate(zip(low, high)):
        if lo or hi:
            out = _pad_axis(out, axis, lo, hi, mode)
    return Copy()(x) if out is x else out
