"""Less common arrangements: sliding windows (a view), block matrices, products, replaced parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.errors import ArgumentError, DTypeError, ShapeError
from ..core.shape import Shape, as_index, as_shape, normalize_dim, numel
from ..ir.op import Aval, Movement, op, zeros_of
from .align import as_operand, cast, literal, public
from .arith import add, eq, mul, ne, sub
from .batching import batched, move_axis, shape_of
from .gathering import as_index_tensor, named
from .indexing import IndexAdd, IndexSet, WrapIndex
from .joining import cat, stack
from .movement import Copy, Pad, Reshape, Slice
from .reduce import any as any_
from .rounding import floor_divide, remainder
from .shaping import atleast_2d, flatten, meshgrid, narrow, select, slice_axis
from .triangular import Iota, diag


@op
class Windows(Movement):
    """Windows of `size` elements, `step` apart, of the last axis: (..., n) to (..., k, size)."""

    size: int
    step: int
    is_view = True

    def count(self, n: int) -> int:
        return (n - self.size) // self.step + 1

    def infer(self, x: Any) -> Aval:
        return Aval((*x.shape[:-1], self.count(x.shape[-1]), self.size), x.dtype)

    def strides(self, shape: Shape, strides: Shape) -> Shape | None:
        return (*strides[:-1], strides[-1] * self.step, strides[-1])

    def reference(self, x: Any) -> Any:
        own = bool(x.flags.writeable and self.step >= self.size)
        windows = np.lib.stride_tricks.sliding_window_view(x, self.size, -1, writeable=own)
        return windows[..., :: self.step, :]

    def places(self, n: int) -> Any:
        """Which element of the axis stands where in the windows."""
        shape = (self.count(n), self.size)
        return add(mul(Iota(shape, dt.int64, 0)(), self.step), Iota(shape, dt.int64, 1)())

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        places = self.places(x.shape[-1])
        return (IndexAdd(len(x.shape) - 1)(zeros_of(x), places, g),)

    def source(self, index: tuple, shape: Shape) -> tuple[tuple, Any]:
        return (*index[:-2], index[-2] * self.step + index[-1]), None

    def write(self, base: Any, value: Any) -> Any:
        if self.step < self.size:
            raise ShapeError(
                "in-place: windows overlap, several elements share one memory location",
                hint="clone() them before writing",
            )
        return IndexSet(len(base.shape) - 1)(base, self.places(base.shape[-1]), value)

    def batch(self, dims: tuple, size: int, x: Any) -> tuple[Any, Any]:
        return self(batched(x, dims[0], size)), 0


def unfold(input: Any, dimension: int, size: int, step: int) -> Any:
    """Tensor.unfold: windows of `size` elements, `step` apart, along a dimension. A view.

    The dimension counts the windows; their elements are a new last dimension.
    """
    n = len(input.shape)
    axis = normalize_dim("unfold", dimension, n)
    size, step = as_index("unfold", "size", size), as_index("unfold", "step", step)
    length = input.shape[axis] if n else 1
    if not 1 <= size <= length:
        raise ShapeError(f"unfold: size {size} does not fit dimension {axis} of size {length}")
    if step <= 0:
        raise ArgumentError(f"unfold: step must be positive, got {step}")
    if not n:
        return Reshape((1,))(input)
    return move_axis(Windows(size, step)(move_axis(input, axis, n - 1)), n - 1, axis)


@public
def column_stack(tensors: Sequence[Any]) -> Any:
    """Concatenate along dimension 1; 0-d and 1-d tensors are columns."""
    columns = [Reshape((numel(x.shape), 1))(x) if len(x.shape) < 2 else x for x in tensors]
    return cat(columns, 1)


@public
def row_stack(tensors: Sequence[Any]) -> Any:
    """The same as `vstack`."""
    return cat([atleast_2d(x) for x in tensors], 0)


@public
def kron(input: Any, other: Any) -> Any:
    """The Kronecker product: every element of `input` times the whole of `other`, as blocks.

    >>> kron(tensor([1, 2]), tensor([1, 1]))
    tensor([1, 1, 2, 2])
    """
    x, y = as_operand("kron", input), as_operand("kron", other, "other")
    n = max(len(x.shape), len(y.shape))
    a, b = (((1,) * (n - len(v.shape)) + shape_of(v)) for v in (x, y))
    left = Reshape(tuple(k for size in a for k in (size, 1)))(x)
    right = Reshape(tuple(k for size in b for k in (1, size)))(y)
    return Reshape(tuple(i * j for i, j in zip(a, b)))(mul(left, right))


@public
def block_diag(*tensors: Any) -> Any:
    """A matrix with the given matrices along its diagonal and zeros elsewhere."""
    if not tensors:
        raise ArgumentError("block_diag: needs at least one tensor")
    dtype = dt.result_type(*tensors)
    blocks = [cast(atleast_2d(x), dtype) for x in tensors]
    for i, x in enumerate(blocks):
        if len(x.shape) != 2:
            raise ShapeError(
                f"block_diag: tensors[{i}] has shape {shape_of(x)}, needs 2 dimensions at most"
            )
    width = sum(x.shape[1] for x in blocks)
    rows, left = [], 0
    for x in blocks:
        right = width - left - x.shape[1]
        rows.append(Pad((0, left), (0, right), (0, 0), literal(0, dtype))(x))
        left += x.shape[1]
    return cat(rows, 0)


@public
def cartesian_prod(*tensors: Any) -> Any:
    """All combinations of one element of each 1-d tensor, as rows (one tensor: itself)."""
    for i, x in enumerate(tensors):
        if len(x.shape) != 1:
            raise ShapeError(f"cartesian_prod: tensors[{i}] has shape {shape_of(x)}, not 1-d")
    if len(tensors) == 1:
        return tensors[0]
    return stack([flatten(g) for g in meshgrid(*tensors)], 1)


@public
def diagflat(input: Any, offset: int = 0) -> Any:
    """A matrix with all elements on its diagonal."""
    return diag(Reshape((numel(input.shape),))(input), offset)


@public
def diff(input: Any, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None) -> Any:
    """Differences of neighbours along `dim`, `n` times over.

    >>> diff(tensor([1, 4, 9]))
    tensor([3, 5])
    """
    axis = normalize_dim("diff", dim, len(input.shape))
    if not input.shape:
        raise ShapeError("diff: needs at least 1 dimension, the tensor is 0-d")
    n = as_index("diff", "n", n)
    if n < 0:
        raise ArgumentError(f"diff: n must not be negative, got {n}")
    if n == 0:
        return input
    parts = [x for x in (prepend, input, append) if x is not None]
    x = cat(parts, axis) if len(parts) > 1 else input
    for _ in range(min(n, x.shape[axis])):
        size = x.shape[axis]
        high, low = slice_axis(x, axis, 1, size), slice_axis(x, axis, 0, size - 1)
        x = ne(high, low) if x.dtype is dt.bool_ else sub(high, low)
    return x


@public
def put(input: Any, index: Any, source: Any, accumulate: bool = False) -> Any:
    """A copy of `input` with elements of its flattened form replaced by (or added) `source`."""
    if source.dtype is not input.dtype:
        raise DTypeError(
            f"put: source is {source.dtype.name}, input is {input.dtype.name}; they must agree"
        )
    total = numel(input.shape)
    index = cast(as_index_tensor("put", index), dt.int64)
    if numel(index.shape) != numel(source.shape):
        raise ShapeError(
            f"put: index {shape_of(index)} and source {shape_of(source)} differ in size"
        )
    count = (numel(index.shape),)
    places = named("put", WrapIndex((total,), (0,)), Reshape(count)(index))
    op_: Any = IndexAdd(0) if accumulate else IndexSet(0)
    flat = op_(Reshape((total,))(input), places, Reshape(count)(source))
    return Reshape(shape_of(input))(flat)


@public
def select_scatter(input: Any, src: Any, dim: int, index: int) -> Any:
    """A copy of `input` with the slice select(dim, index) replaced by `src`."""
    axis = normalize_dim("select_scatter", dim, len(input.shape))
    expected = shape_of(select(input, axis, index))
    if shape_of(src) != expected:
        raise ShapeError(f"select_scatter: src has shape {shape_of(src)}, expected {expected}")
    at = as_index("select_scatter", "index", index) % input.shape[axis]
    row = Reshape((*expected[:axis], 1, *expected[axis:]))(src)
    return _replaced(input, row, axis, at, at + 1, 1)


@public
def slice_scatter(
    input: Any, src: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Any:
    """A copy of `input` with the slice start:end:step of `dim` replaced by `src`."""
    axis = normalize_dim("slice_scatter", dim, len(input.shape))
    if not input.shape:
        raise ShapeError("slice_scatter: a 0-d tensor has no slices")
    limits: Any = [
        None if v is None else as_index("slice_scatter", "limit", v) for v in (start, end)
    ]
    first, last = limits
    every = as_index("slice_scatter", "step", step)
    lo, hi, st = slice(first, last, every).indices(input.shape[axis])
    if st < 1:
        raise ArgumentError(f"slice_scatter: step must be positive, got {step}")
    return _replaced(input, src, axis, lo, max(lo, hi), st)


def _replaced(x: Any, part: Any, axis: int, start: int, stop: int, step: int) -> Any:
    n = len(x.shape)
    lo, hi, st = [0] * n, list(x.shape), [1] * n
    lo[axis], hi[axis], st[axis] = start, stop, step
    view = Slice(tuple(lo), tuple(hi), tuple(st))
    shape = view.infer(x).shape
    if shape_of(part) != shape:
        raise ShapeError(f"slice_scatter: src has shape {shape_of(part)}, expected {shape}")
    return view.write(x, cast(part, x.dtype))


@public
def narrow_copy(input: Any, dim: int, start: int, length: int) -> Any:
    """narrow, as a copy."""
    return Copy()(narrow(input, dim, start, length))


@public
def isin(
    elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False
) -> Any:
    """Whether each element is among `test_elements`: a bool tensor.

    >>> isin(tensor([1, 2, 3]), tensor([2, 5]))
    tensor([False,  True, False])
    """
    x, tests = as_operand("isin", elements), as_operand("isin", test_elements, "test_elements")
    grown = Reshape((*x.shape, 1))(x)
    found = any_(eq(grown, Reshape((numel(tests.shape),))(tests)), -1)
    return eq(found, False) if invert else found


@public
def unravel_index(indices: Any, shape: Sequence[int]) -> tuple[Any, ...]:
    """Coordinates in a tensor of `shape` of positions in its flattened form, one per axis."""
    rest = cast(as_index_tensor("unravel_index", indices, "indices"), dt.int64)
    coordinates = []
    for n in reversed(as_shape("unravel_index", (shape,))):
        coordinates.append(remainder(rest, n))
        rest = floor_divide(rest, n)
    return tuple(reversed(coordinates))
