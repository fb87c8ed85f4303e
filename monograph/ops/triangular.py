"""Positions as values, triangles of matrices, and diagonals (a view; its adjoint embeds)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.dtype import DType
from ..core.errors import ArgumentError, ShapeError
from ..core.shape import Shape, as_index, normalize_dim
from ..ir.op import Aval, Full, Movement, Source, op
from ..kernel import scalar
from .align import broadcast_to, cast, public
from .basic import Where
from .batching import batched, shape_of
from .movement import Copy, Permute, Sum


@op
class Iota(Source):
    """The position along `axis`: 0, 1, 2, ... repeated over the other axes."""

    shape: Shape
    dtype: DType
    axis: int

    def reference(self) -> Any:
        n = self.shape[self.axis]
        line = np.arange(n).reshape([n if a == self.axis else 1 for a in range(len(self.shape))])
        return np.broadcast_to(line, self.shape).astype(self.dtype.numpy)

    def scalar(self, s: Any, index: tuple) -> Any:
        code = self.dtype.code
        return s.cast(index[self.axis], "f32" if code in ("f16", "bf16") else code)


@op
class Triangle(Source):
    """True at [..., i, j] where j - i <= diagonal: the mask of a lower triangle."""

    shape: Shape
    dtype: DType
    diagonal: int

    def reference(self) -> Any:
        rows, columns = self.shape[-2:]
        return np.broadcast_to(np.tri(rows, columns, self.diagonal, dtype=bool), self.shape)

    def scalar(self, s: Any, index: tuple) -> Any:
        return (index[-1] - index[-2]) <= self.diagonal


def _triangle(name: str, input: Any, diagonal: int, lower: bool) -> Any:
    if len(input.shape) < 2:
        raise ShapeError(f"{name}: needs at least 2 dimensions, the shape is {shape_of(input)}")
    shape = shape_of(input)
    diagonal = as_index(name, "diagonal", diagonal)
    bound = diagonal if lower else diagonal - 1
    mask = broadcast_to(Triangle(shape[-2:], dt.bool_, bound)(), shape)
    zero = False if input.dtype is dt.bool_ else 0
    return Where()(mask, input, zero) if lower else Where()(mask, zero, input)


@public
def tril(input: Any, diagonal: int = 0) -> Any:
    """The lower triangle of each matrix (last two dimensions), zeros above `diagonal`.

    >>> tril(ones(2, 2))
    tensor([[1., 0.],
            [1., 1.]])
    """
    return _triangle("tril", input, diagonal, True)


@public
def triu(input: Any, diagonal: int = 0) -> Any:
    """The upper triangle of each matrix (last two dimensions), zeros below `diagonal`."""
    return _triangle("triu", input, diagonal, False)


def _start(offset: int) -> tuple[int, int]:
    return max(-offset, 0), max(offset, 0)


@op
class Diagonal(Movement):
    """Elements [..., i, i + offset] of the last two axes, as the last axis. A view."""

    offset: int
    is_view = True

    def infer(self, x: Any) -> Aval:
        rows, columns = x.shape[-2:]
        i, j = _start(self.offset)
        return Aval((*x.shape[:-2], max(min(rows - i, columns - j), 0)), x.dtype)

    def strides(self, shape: Shape, strides: Shape) -> Shape:
        return (*strides[:-2], strides[-2] + strides[-1])

    def reference(self, x: Any) -> Any:
        view = np.diagonal(x, self.offset, -2, -1).view()
        if x.flags.writeable:
            view.flags.writeable = True  # NumPy marks diagonals read-only
        return view

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (EmbedDiagonal(self.offset, *x.shape[-2:])(g),)

    def source(self, index: tuple, shape: Shape) -> tuple[tuple, Any]:
        i, j = _start(self.offset)
        return (*index[:-1], index[-1] + i, index[-1] + j), None

    def write(self, base: Any, value: Any) -> Any:
        embed = EmbedDiagonal(self.offset, *base.shape[-2:])
        covered = embed(Full(shape_of(value), dt.bool_, True)())
        return Where()(covered, embed(value), base)

    def batch(self, dims: tuple, size: int, x: Any) -> tuple[Any, Any]:
        return self(batched(x, dims[0], size)), 0


@op
class EmbedDiagonal(Movement):
    """The last axis as diagonal `offset` of (rows, columns) matrices of zeros."""

    offset: int
    rows: int
    columns: int
    pads = True

    def infer(self, x: Any) -> Aval:
        return Aval((*x.shape[:-1], self.rows, self.columns), x.dtype)

    def reference(self, x: Any) -> Any:
        out = np.zeros((*x.shape[:-1], self.rows, self.columns), x.dtype)
        k = np.arange(x.shape[-1])
        i, j = _start(self.offset)
        out[..., k + i, k + j] = x
        return out

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (Diagonal(self.offset)(g),)

    def source(self, index: tuple, shape: Shape) -> tuple[tuple, Any]:
        i, j = _start(self.offset)
        return (*index[:-2], index[-2] - i), scalar.eq(index[-1] - index[-2], j - i)

    def batch(self, dims: tuple, size: int, x: Any) -> tuple[Any, Any]:
        return self(batched(x, dims[0], size)), 0


@public
def diagonal(input: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    """The diagonal of the planes (dim1, dim2), as the last dimension. A view.

    offset  0 the main diagonal, above it where positive, below where negative
    """
    n = len(input.shape)
    a, b = normalize_dim("diagonal", dim1, n), normalize_dim("diagonal", dim2, n)
    if a == b or n < 2:
        raise ArgumentError(
            f"diagonal: dim1 and dim2 must be two dimensions of {shape_of(input)}, "
            f"got {dim1} and {dim2}"
        )
    rest = [d for d in range(n) if d not in (a, b)]
    return Diagonal(as_index("diagonal", "offset", offset))(Permute((*rest, a, b))(input))


@public
def diag_embed(input: Any, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Any:
    """Square matrices (in dimensions dim1, dim2) with the last dimension on a diagonal."""
    n = len(input.shape) + 1
    if n < 2:
        raise ShapeError("diag_embed: needs at least 1 dimension, the tensor is 0-d")
    a, b = normalize_dim("diag_embed", dim1, n), normalize_dim("diag_embed", dim2, n)
    if a == b:
        raise ArgumentError(f"diag_embed: dim1 and dim2 are both {a}")
    offset = as_index("diag_embed", "offset", offset)
    size = input.shape[-1] + abs(offset)
    out = EmbedDiagonal(offset, size, size)(input)
    order: list[int | None] = [None] * n
    order[a], order[b] = n - 2, n - 1
    rest = iter(range(n - 2))
    return Permute(tuple(next(rest) if o is None else o for o in order))(out)


@public
def diag(input: Any, diagonal: int = 0) -> Any:
    """A matrix with the 1-d tensor on its diagonal; of a matrix, a copy of its diagonal.

    >>> diag(tensor([1, 2]))
    tensor([[1, 0],
            [0, 2]])
    """
    diagonal = as_index("diag", "diagonal", diagonal)
    if len(input.shape) == 1:
        return diag_embed(input, diagonal)
    if len(input.shape) != 2:
        raise ShapeError(f"diag: needs 1 or 2 dimensions, the shape is {shape_of(input)}")
    return Copy()(Diagonal(diagonal)(input))


@public
def trace(input: Any) -> Any:
    """The sum of a matrix's diagonal; int64 for integers."""
    if len(input.shape) != 2:
        raise ShapeError(f"trace: needs a matrix, the shape is {shape_of(input)}")
    line = Diagonal(0)(input)
    if input.dtype in dt.INTEGRAL:
        line = cast(line, dt.int64)
    return Sum((0,))(line)


@public
def diagonal_scatter(input: Any, src: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    """A copy of `input` with the diagonal replaced by `src`."""
    shown = diagonal(input, offset, dim1, dim2)
    if shape_of(src) != shape_of(shown):
        raise ShapeError(
            f"diagonal_scatter: src has shape {shape_of(src)}, the diagonal {shape_of(shown)}"
        )
    n = len(input.shape)
    a, b = (normalize_dim("diagonal_scatter", d, n) for d in (dim1, dim2))
    rest = [d for d in range(n) if d not in (a, b)]
    permuted = Permute((*rest, a, b))
    written = Diagonal(offset).write(permuted(input), cast(src, input.dtype))
    return permuted.inverse()(written)
