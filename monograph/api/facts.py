"""Questions about tensors and dtypes, and small tables of positions: PyTorch's names for them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.device import usable
from ..core.dtype import DType, as_dtype
from ..core.errors import ArgumentError, ArgumentTypeError, ShapeError
from ..core.layouts import in_any_memory
from ..core.shape import Size, as_index, as_shape, contiguous_strides, is_number
from ..core.shape import broadcast_shapes as _broadcast_shapes
from ..ops import arranging, reduce
from ..ops.align import public
from ..ops.indexing import IndexSelect
from ..ops.movement import Alias, Reshape
from ..tensor import Tensor
from .creation import from_numpy


def is_tensor(obj: Any) -> bool:
    """Whether obj is a Tensor."""
    return isinstance(obj, Tensor)


def numel(input: Tensor) -> int:
    """How many elements the tensor has."""
    return input.shape.numel()


def is_floating_point(input: Tensor) -> bool:
    """Whether the dtype is a floating one."""
    return input.dtype.is_floating_point


def is_complex(input: Tensor) -> bool:
    """Whether the dtype is complex."""
    return input.dtype.is_complex


def is_same_size(input: Tensor, other: Tensor) -> bool:
    """Whether both have the same shape."""
    return input.shape == other.shape


def result_type(*tensors: Any) -> DType:
    """The dtype of an arithmetic operation on tensors, dtypes and Python numbers.

    >>> result_type(tensor([1]), 1.5)
    monograph.float32
    """
    return dt.result_type(*(_OfDType(x) if isinstance(x, DType) else x for x in tensors))


class _OfDType:
    """Stands for a tensor of a dtype, of one dimension."""

    shape = (1,)

    def __init__(self, dtype: DType):
        self.dtype = dtype


def promote_types(type1: Any, type2: Any) -> DType:
    """The smallest dtype that both convert to.

    >>> promote_types("int32", "float16")
    monograph.float16
    """
    return dt.promote_types(as_dtype(type1), as_dtype(type2))


def can_cast(from_: Any, to: Any) -> bool:
    """Whether a result of dtype `from_` (a dtype or a tensor) may be written into dtype `to`."""
    from_ = from_.dtype if isinstance(from_, Tensor) else from_
    return dt.can_cast(as_dtype(from_), as_dtype(to))


def broadcast_shapes(*shapes: Any) -> Size:
    """The shape that tensors of these shapes broadcast to, or ShapeError.

    >>> broadcast_shapes((2, 1), (3,))
    (2, 3)
    """
    sized = [tuple(s) if isinstance(s, (tuple, list)) else (s,) for s in shapes]
    return Size(_broadcast_shapes("broadcast_shapes", *sized) if sized else ())


def _triangle_indices(
    name: str, rows: int, columns: int, offset: int, lower: bool, dtype: Any, device: Any
) -> Tensor:
    usable(device, name)
    if rows < 0 or columns < 0:
        raise ArgumentError(f"{name}: row and col must not be negative, got {rows} and {columns}")
    mask = np.tri(rows, columns, offset if lower else offset - 1, dtype=bool)
    return from_numpy(np.stack(np.nonzero(mask if lower else ~mask))).to(as_dtype(dtype))


@in_any_memory
def tril_indices(
    row: int, col: int, offset: int = 0, *, dtype: Any = dt.int64, device: Any = None
) -> Tensor:
    """Positions of the lower triangle of a (row, col) matrix: (2, count) of an integer dtype."""
    return _triangle_indices("tril_indices", row, col, offset, True, dtype, device)


@in_any_memory
def triu_indices(
    row: int, col: int, offset: int = 0, *, dtype: Any = dt.int64, device: Any = None
) -> Tensor:
    """Positions of the upper triangle of a (row, col) matrix: (2, count) of an integer dtype."""
    return _triangle_indices("triu_indices", row, col, offset, False, dtype, device)


@public
def combinations(input: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """All choices of r elements of a 1-d tensor, as rows in the order of positions.

    >>> combinations(tensor([1, 2, 3]))
    tensor([[1, 2],
            [1, 3],
            [2, 3]])
    """
    if input.ndim != 1:
        raise ShapeError(f"combinations: input must be 1-d, got shape {tuple(input.shape)}")
    if r < 0:
        raise ArgumentError(f"combinations: r must not be negative, got {r}")
    if r == 0:
        return input[:0]
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    rows = np.array(list(choose(range(input.shape[0]), r)), np.int64).reshape(-1, r)
    return IndexSelect(0)(input, from_numpy(rows))


@public
def histc(input: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """How many elements fall into each of `bins` equal intervals from min to max.

    min = max = 0: from the smallest to the largest element. Elements outside are not counted.
    """
    array = input._array("histc").astype(np.float64).reshape(-1)
    if not is_number(min) or not is_number(max):
        raise ArgumentTypeError(f"histc: min and max must be numbers, got {min!r} and {max!r}")
    bins, low, high = as_index("histc", "bins", bins), float(min), float(max)
    if low == high == 0 and array.size:
        low, high = float(array.min()), float(array.max())
    if low == high:
        low, high = low - 1, high + 1
    if bins <= 0 or not low < high:
        raise ArgumentError(f"histc: needs bins > 0 and min < max, got {bins}, {low} and {high}")
    counts = np.histogram(array, bins, (low, high))[0]
    return from_numpy(counts.astype(input.dtype.numpy))


def _sum_to_size(self: Tensor, *size: Any) -> Tensor:
    """Sum over the dimensions along which `size` would broadcast to this shape."""
    target = as_shape("sum_to_size", size)
    extra = self.ndim - len(target)
    if extra < 0 or _broadcast_shapes("sum_to_size", target, tuple(self.shape)) != self.shape:
        raise ShapeError(f"sum_to_size: {target} does not broadcast to {tuple(self.shape)}")
    if not target:
        return reduce.sum(self)
    axes = [a for a, n in enumerate(self.shape) if a < extra or (target[a - extra] == 1 and n != 1)]
    out = reduce.sum(self, tuple(axes)) if axes else Alias()(self)
    return Reshape(target)(out)


def _fill_diagonal_(self: Tensor, fill_value: Any, wrap: bool = False) -> Tensor:
    """Set the elements [i, i, ...] in place; wrap: begin anew below a tall matrix."""
    if self.ndim < 2 or (self.ndim > 2 and len(set(self.shape)) != 1):
        raise ShapeError(
            f"fill_diagonal_: needs a matrix or equal sizes, the shape is {tuple(self.shape)}"
        )
    step = sum(contiguous_strides(tuple(self.shape)))
    end = self.shape.numel()
    if self.ndim == 2 and not wrap and self.shape[0] > self.shape[1]:
        end = self.shape[1] * self.shape[1]
    places = np.zeros(self.shape.numel(), bool)
    places[:end:step] = True
    mask = from_numpy(places.reshape(tuple(self.shape)))
    return self.masked_fill_(mask, fill_value)


Tensor.is_complex = is_complex  # type: ignore[attr-defined]
Tensor.is_signed = lambda self: self.dtype.is_signed  # type: ignore[attr-defined]
Tensor.is_same_size = is_same_size  # type: ignore[attr-defined]
Tensor.ndimension = lambda self: self.ndim  # type: ignore[attr-defined]
Tensor.itemsize = property(lambda self: self.dtype.itemsize)  # type: ignore[attr-defined]
Tensor.nbytes = property(lambda self: self.dtype.itemsize * self.shape.numel())  # type: ignore[attr-defined]
Tensor.is_cuda = False  # type: ignore[attr-defined]
Tensor.is_cpu = True  # type: ignore[attr-defined]
Tensor.is_sparse = False  # type: ignore[attr-defined]
Tensor.get_device = lambda self: -1  # type: ignore[attr-defined]
Tensor.sum_to_size = _sum_to_size  # type: ignore[attr-defined]
Tensor.fill_diagonal_ = _fill_diagonal_  # type: ignore[attr-defined]
Tensor.unfold = arranging.unfold  # type: ignore[attr-defined]
