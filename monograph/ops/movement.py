"""Sum and expand, and the ops that only move elements: reshape, permute, slice, pad, flip.

Adjoint pairs stand side by side: sum <-> expand, reshape <-> reshape, permute <-> permute,
slice <-> pad, flip <-> flip. Public functions (view, transpose, cat, ...) are in shaping.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.errors import ShapeError
from ..core.shape import Shape, contiguous_strides, numel, view_strides
from ..ir.op import Aval, Full, Movement, Opaque, Reduction, op, zeros_of
from ..kernel import scalar
from .basic import Where


@op
class Sum(Reduction):
    """Sum over `axes`. Adjoint of Expand."""

    axes: tuple[int, ...]
    accepts = dt.NUMERIC
    saves = "none"
    combine, identity = "add", 0

    def reference(self, x: Any) -> Any:
        if x.dtype.itemsize == 2 and x.dtype.kind not in "iub":
            return x.sum(self.axes, dtype=np.float32).astype(x.dtype)
        return np.add.reduce(x, self.axes, x.dtype)

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (Expand(tuple(x.shape), self.axes)(g),)


@op
class Expand(Movement):
    """Repeat along new axes: the output has `shape`, of which `axes` are not in the input."""

    shape: Shape
    axes: tuple[int, ...]
    is_view = True

    def infer(self, x: Any) -> Aval:
        kept = tuple(n for a, n in enumerate(self.shape) if a not in self.axes)
        if kept != tuple(x.shape):
            raise ShapeError(f"expand: {x.shape} is not {self.shape} without axes {self.axes}")
        return Aval(self.shape, x.dtype)

    def reference(self, x: Any) -> Any:
        shape, axes = self.shape, self.axes
        if type(x) is np.ndarray and x.flags.c_contiguous and x.size and x.dtype.isbuiltin == 1:
            for a in axes:
                if shape[a] != 1:  # several times quicker than broadcast_to
                    made: Any = np.ndarray(shape, x.dtype, x, 0, self.strides(x.shape, x.strides))
                    made.flags.writeable = False
                    return made
        x = np.expand_dims(x, axes)
        return x if x.shape == shape else np.broadcast_to(x, shape)

    def batch(self, dims: tuple, size: int, x: Any) -> tuple[Any, Any]:
        axes = tuple(a + 1 for a in self.axes)
        return Expand((size, *self.shape), axes)(_front(x, dims[0])), 0

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (Sum(self.axes)(g),)

    def source(self, index: tuple, shape: Shape) -> tuple[tuple, Any]:
        return tuple(i for a, i in enumerate(index) if a not in self.axes), None

    def strides(self, shape: Shape, strides: Shape) -> Shape | None:
        kept = iter(strides)
        return tuple(0 if a in self.axes else next(kept) for a in range(len(self.shape)))

    def write(self, base: Any, value: Any) -> Any:
        if any(self.shape[a] > 1 for a in self.axes):
            raise ShapeError(
                "in-place: the tensor is an expanded view, several elements share one memory "
                "location",
                hint="clone() it before writing",
            )
        return Reshape(tuple(base.shape))(value)


@op
class Reshape(Movement):
    """The same elements in row-major order under another shape."""

    shape: Shape
    is_view = True
    onnx = "Reshape"

    def infer(self, x: Any) -> Aval:
        if numel(self.shape) != numel(x.shape):
            raise ShapeError(f"reshape: {x.shape} cannot take shape {self.shape}")
        return Aval(self.shape, x.dtype)

    def reference(self, x: Any) -> Any:
        return x.reshape(self.shape)

    def batch(self, dims: tuple, size: int, x: Any) -> tuple[Any, Any]:
        return Reshape((size, *self.shape))(_front(x, dims[0])), 0

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (Reshape(tuple(x.shape))(g),)

    def source(self, index: tuple, shape: Shape) -> tuple[tuple, Any]:
        flat: Any = 0
        for i, stride in zip(index, contiguous_strides(self.shape)):
            flat = flat + i * stride
        strides = contiguous_strides(shape)
        return tuple(
            (flat // stride) % size if a else flat // stride
            for a, (stride, size) in enumerate(zip(strides, shape))
        ), None

    def strides(self, shape: Shape, strides: Shape) -> Shape | None:
        return view_strides(shape, strides, self.shape)

    def write(self, base: Any, value: Any) -> Any:
        return Reshape(tuple(base.shape))(value)


@op
class Permute(Movement):
    """Output axis i is input axis order[i]."""

    order: tuple[int, ...]
    is_view = True
    onnx = "Transpose"

    def infer(self, x: Any) -> Aval:
        if sorted(self.order) != list(range(len(x.shape))):
            raise ShapeError(f"permute: order {self.order} does not fit {len(x.shape)} dimensions")
        return Aval(tuple(x.shape[a] for a in self.order), x.dtype)

    def inverse(self) -> Permute:
        return Permute(tuple(self.order.index(a) for a in range(len(self.order))))

    def reference(self, x: Any) -> Any:
        return x.transpose(self.order)

    def batch(self, dims: tuple, size: int, x: Any) -> tuple[Any, Any]:
        order = (0, *(a + 1 for a in self.order))
        return Permute(order)(_front(x, dims[0])), 0

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (self.inverse()(g),)

    def source(self, index: tuple, shape: Shape) -> tuple[tuple, Any]:
        return tuple(index[self.order.index(a)] for a in range(len(self.order))), None

    def strides(self, shape: Shape, strides: Shape) -> Shape | None:
        return tuple(strides[a] for a in self.order)

    def write(self, base: Any, value: Any) -> Any:
        return self.inverse()(value)


@op
class Slice(Movement):
    """Elements start, start+step, ... below stop of each axis; 0 <= start, step >= 1."""

    start: tuple[int, ...]
    stop: tuple[int, ...]
    step: tuple[int, ...]
    is_view = True
    onnx = "Slice"

    def infer(self, x: Any) -> Aval:
        if not len(self.start) == len(self.stop) == len(self.step) == len(x.shape):
            raise ShapeError(f"slice: {len(self.start)} ranges for shape {x.shape}")
        for lo, hi, size in zip(self.start, self.stop, x.shape):
            if not 0 <= lo <= hi <= size:
                raise ShapeError(f"slice: range {lo}:{hi} is outside a dimension of {size}")
        sizes = zip(self.start, self.stop, self.step)
        return Aval(tuple((hi - lo + st - 1) // st for lo, hi, st in sizes), x.dtype)

    def slices(self) -> tuple[slice, ...]:
        return tuple(slice(*t) for t in zip(self.start, self.stop, self.step))

    def reference(self, x: Any) -> Any:
        return x[self.slices()]

    def batch(self, dims: tuple, size: int, x: Any) -> tuple[Any, Any]:
        whole = Slice((0, *self.start), (size, *self.stop), (1, *self.step))
        return whole(_front(x, dims[0])), 0

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (self.spread(g, tuple(x.shape)),)

    def spread(self, g: Any, shape: Shape) -> Any:
        """g at this slice's places in zeros of `shape`."""
        low, high, interior = [], [], []
        for lo, st, n, size in zip(self.start, self.step, g.shape, shape):
            low.append(min(lo, size) if n else 0)
            interior.append(st - 1 if n else 0)
            high.append(size - lo - (n - 1) * st - 1 if n else size)
        return Pad(tuple(low), tuple(high), tuple(interior), 0)(g)

    def source(self, index: tuple, shape: Shape) -> tuple[tuple, Any]:
        return tuple(i * st + lo for i, lo, st in zip(index, self.start, self.step)), None

    def strides(self, shape: Shape, strides: Shape) -> Shape | None:
        return tuple(s * st for s, st in zip(strides, self.step))

    def write(self, base: Any, value: Any) -> Any:
        covered = self.spread(Full(tuple(value.shape), dt.bool_, True)(), tuple(base.shape))
        return Where()(covered, self.spread(value, tuple(base.shape)), base)


@op
class Pad(Movement):
    """Surround with `low` and `high` elements, `interior` ones between neighbours, all `value`."""

    low: tuple[int, ...]
    high: tuple[int, ...]
    interior: tuple[int, ...]
    value: Any = 0
    pads = True
    onnx = "Pad"

    def infer(self, x: Any) -> Aval:
        if not len(self.low) == len(self.high) == len(self.interior) == len(x.shape):
            raise ShapeError(f"pad: {len(self.low)} paddings for shape {x.shape}")
        if min((*self.low, *self.high, *self.interior, 0)) < 0:
            raise ShapeError("pad: the primitive takes no negative padding")
        sizes = zip(self.low, self.high, self.interior, x.shape)
        return Aval(
            tuple(lo + hi + n + max(n - 1, 0) * inner for lo, hi, inner, n in sizes), x.dtype
        )

    def adjoint(self, shape: Shape) -> Slice:
        """The slice of the output that shows the input of `shape`."""
        start, stop, step = [], [], []
        for lo, inner, n in zip(self.low, self.interior, shape):
            start.append(lo)
            step.append(inner + 1)
            stop.append(lo + (n - 1) * (inner + 1) + 1 if n else lo)
        return Slice(tuple(start), tuple(stop), tuple(step))

    def reference(self, x: Any) -> Any:
        out = np.full(self.infer(_Shaped(x)).shape, self.value, x.dtype)
        out[self.adjoint(x.shape).slices()] = x
        return out

    def batch(self, dims: tuple, size: int, x: Any) -> tuple[Any, Any]:
        whole = Pad((0, *self.low), (0, *self.high), (0, *self.interior), self.value)
        return whole(_front(x, dims[0])), 0

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (self.adjoint(tuple(x.shape))(g),)

    def source(self, index: tuple, shape: Shape) -> tuple[tuple, Any]:
        """The mask is false where the output is `value` (the lowering selects it)."""
        result, mask = [], None
        for i, lo, hi, inner, n in zip(index, self.low, self.high, self.interior, shape):
            j = i - lo
            conditions = []
            if lo:
                conditions.append(j >= 0)
            if hi:
                conditions.append(j < (n + max(n - 1, 0) * inner))
            if inner:
                conditions.append(scalar.eq(j % (inner + 1), 0))
                j = j // (inner + 1)
            for c in conditions:
                mask = c if mask is None else mask & c
            result.append(j)
        return tuple(result), mask


def _front(x: Any, dim: int) -> Any:
    """x with axis `dim` moved to the front."""
    if dim == 0:
        return x
    return Permute((dim, *(a for a in range(len(x.shape)) if a != dim)))(x)


class _Shaped:
    """Shape and dtype of an array, for infer."""

    def __init__(self, x: Any):
        self.shape, self.dtype = x.shape, x.dtype


@op
class Flip(Movement):
    """Reverse the order of elements along `axes` (a copy, as in PyTorch)."""

    axes: tuple[int, ...]

    def infer(self, x: Any) -> Aval:
        return Aval(tuple(x.shape), x.dtype)

    def reference(self, x: Any) -> Any:
        return np.array(np.flip(x, self.axes), order="C")

    def batch(self, dims: tuple, size: int, x: Any) -> tuple[Any, Any]:
        return Flip(tuple(a + 1 for a in self.axes))(_front(x, dims[0])), 0

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (self(g),)

    def source(self, index: tuple, shape: Shape) -> tuple[tuple, Any]:
        return tuple((shape[a] - 1) - i if a in self.axes else i for a, i in enumerate(index)), None


@op
class Detach(Movement):
    """The same elements, through which no gradient flows."""

    differentiable = False
    is_view = True

    def infer(self, x: Any) -> Aval:
        return Aval(tuple(x.shape), x.dtype)

    def reference(self, x: Any) -> Any:
        return x[...]

    def batch(self, dims: tuple, size: int, x: Any) -> tuple[Any, Any]:
        return self(x), dims[0]

    def source(self, index: tuple, shape: Shape) -> tuple[tuple, Any]:
        return index, None

    def write(self, base: Any, value: Any) -> Any:
        return value


@op
class Alias(Movement):
    """The same elements under a new identity, through which gradients flow."""

    is_view = True

    def infer(self, x: Any) -> Aval:
        return Aval(tuple(x.shape), x.dtype)

    def reference(self, x: Any) -> Any:
        return x[...]

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (g,)

    def batch(self, dims: tuple, size: int, x: Any) -> tuple[Any, Any]:
        return self(x), dims[0]

    def source(self, index: tuple, shape: Shape) -> tuple[tuple, Any]:
        return index, None

    def write(self, base: Any, value: Any) -> Any:
        return value


@op
class Copy(Movement):
    """The same elements in fresh, contiguous memory (clone)."""

    onnx = "Identity"

    def infer(self, x: Any) -> Aval:
        return Aval(tuple(x.shape), x.dtype)

    def reference(self, x: Any) -> Any:
        return np.array(x, order="C", copy=True)

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (g,)

    def batch(self, dims: tuple, size: int, x: Any) -> tuple[Any, Any]:
        return self(x), dims[0]

    def source(self, index: tuple, shape: Shape) -> tuple[tuple, Any]:
        return index, None


def read_through(view: tuple[Any, ...], base: Any) -> Any:
    """`base` read through the ops of a view, one after another."""
    for op_ in view:
        base = op_(base)
    return base


def read_through_arrays(view: tuple[Any, ...], array: Any) -> Any:
    """An array read through the NumPy meanings of the ops of a view."""
    for op_ in view:
        array = op_.reference(array)
    return array


def write_through(view: tuple[Any, ...], base: Any, value: Any) -> Any:
    """`base` with the elements that the view shows replaced by `value`."""
    stages = [base]
    for op_ in view[:-1]:
        stages.append(op_(stages[-1]))
    for op_, below in zip(reversed(view), reversed(stages)):
        value = op_.write(below, value)
    return value


@op
class Overwrite(Opaque):
    """(base, value) -> base with the elements that a view shows replaced by value.

    What the tape remembers of a write through a view; the write itself happens in memory.
    """

    view: tuple[Any, ...]
    saves = "none"

    def infer(self, base: Any, value: Any) -> Aval:
        return Aval(tuple(base.shape), base.dtype)

    def reference(self, base: Any, value: Any) -> Any:
        out = np.array(base, order="C")
        if base.dtype.kind == "c":  # a view may be of another dtype: complex numbers as pairs
            shown = read_through_arrays(self.view, out)
            if np.may_share_memory(shown, out):
                shown[...] = value
                return out
        places = np.arange(base.size).reshape(base.shape)
        places = read_through_arrays(self.view, places)
        out.reshape(-1)[places.reshape(-1)] = value.reshape(-1)
        return out

    def vjp(self, g: Any, out: Any, base: Any, value: Any) -> tuple[Any, ...]:
        return (
            lambda: write_through(self.view, g, zeros_of(value)),
            lambda: read_through(self.view, g),
        )


def expand_to(x: Any, shape: Shape) -> Any:
    """x broadcast to `shape` (which it fits): drop the size-1 axes that grow, then repeat."""
    offset = len(shape) - len(x.shape)
    axes = [*range(offset)]
    kept = []
    for a, n in enumerate(x.shape):
        if n != shape[a + offset]:
            axes.append(a + offset)
        else:
            kept.append(n)
    if len(kept) != len(x.shape):
        x = Reshape(tuple(kept))(x)
    return Expand(tuple(shape), tuple(axes))(x)
