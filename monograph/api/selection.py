"""Functions whose result's shape depends on values: nonzero, unique, masked_select, bincount.

They need the elements: a captured function can use them on what is known while it is captured only
(TraceError says what to do).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.errors import ArgumentError, DTypeError, IndexRangeError, ShapeError
from ..core.modes import modes
from ..core.shape import as_index, broadcast_shapes, normalize_dim
from ..ops import arith
from ..ops.align import broadcast_to, cast, functional, public
from ..ops.arith import eq
from ..ops.gathering import as_index_tensor
from ..ops.indexing import IndexSelect, IndexSet
from ..ops.movement import Expand, Reshape
from ..ops.shaping import repeat_each
from ..ops.sorting import searchsorted
from ..ops.triangular import Iota
from ..tensor import Tensor
from .creation import as_tensor, from_numpy


@public
def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """Positions of the elements that are not zero: (count, ndim) int64; as_tuple: one per axis.

    >>> nonzero(tensor([0, 5, 6]))
    tensor([[1],
            [2]])
    """
    array = input._array("nonzero")
    if as_tuple:
        return tuple(from_numpy(p) for p in np.nonzero(np.atleast_1d(array)))
    return from_numpy(np.argwhere(array))


@public
def argwhere(input: Tensor) -> Tensor:
    """Positions of the elements that are not zero: (count, ndim) int64."""
    return nonzero(input)


@public
def where(condition: Tensor, input: Any = None, other: Any = None) -> Any:
    """input where condition is true, else other; all three broadcast.

    With the condition alone: nonzero(condition, as_tuple=True).

    >>> where(tensor([True, False]), 1.0, tensor([5.0, 6.0]))
    tensor([1., 6.])
    """
    if input is None and other is None:
        return nonzero(condition, as_tuple=True)
    if input is None or other is None:
        raise ArgumentError("where: give both input and other, or neither")
    return arith.where(condition, input, other)


@public
def nonzero_static(input: Tensor, *, size: int, fill_value: int = -1) -> Tensor:
    """The first `size` positions of elements that are not zero, (size, ndim) int64.

    fill_value  stands in the rows that are left over

    >>> nonzero_static(tensor([0, 5]), size=2)
    tensor([[ 1],
            [-1]])
    """
    size = as_index("nonzero_static", "size", size)
    if size < 0:
        raise ArgumentError(f"nonzero_static: size must not be negative, got {size}")
    found = np.argwhere(input._array("nonzero_static"))[:size]
    out = np.full((size, input.ndim), as_index("nonzero_static", "fill_value", fill_value))
    out[: len(found)] = found
    return from_numpy(out.astype(np.int64))


def _mask(name: str, mask: Any, shape: tuple[int, ...]) -> Tensor:
    if not isinstance(mask, Tensor) or mask.dtype is not dt.bool_:
        got = mask.dtype.name if isinstance(mask, Tensor) else type(mask).__name__
        raise DTypeError(f"{name}: mask must be a bool tensor, got {got}")
    return broadcast_to(mask, shape)


@public
def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements where the bool `mask` is true, in row-major order; both broadcast.

    >>> masked_select(tensor([1, 2, 3]), tensor([True, False, True]))
    tensor([1, 3])
    """
    shape = broadcast_shapes("masked_select", tuple(input.shape), tuple(mask.shape))
    chosen = _mask("masked_select", mask, shape)._array("masked_select")
    flat = Reshape((input.numel() if input.shape == shape else int(np.prod(shape)),))(
        broadcast_to(input, shape)
    )
    return IndexSelect(0)(flat, from_numpy(np.flatnonzero(chosen)))


@public
def masked_scatter(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """A copy of `input` whose elements under a true `mask` are taken from `source`, in order."""
    if source.dtype is not input.dtype:
        raise DTypeError(
            f"masked_scatter: source is {source.dtype.name}, input is {input.dtype.name}; they "
            "must agree"
        )
    shape = broadcast_shapes("masked_scatter", tuple(input.shape), tuple(mask.shape))
    chosen = np.flatnonzero(_mask("masked_scatter", mask, shape)._array("masked_scatter"))
    if chosen.size > source.numel():
        raise ShapeError(
            f"masked_scatter: the mask has {chosen.size} true elements, source {source.numel()}"
        )
    flat = Reshape((int(np.prod(shape)),))(broadcast_to(input, shape))
    values = Reshape((source.numel(),))(source)[: chosen.size]
    return Reshape(shape)(IndexSet(0)(flat, from_numpy(chosen), values))


@public
def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """int64 tensors with a 1 at each class number, in a new last dimension of num_classes.

    num_classes -1: one more than the largest number there is (needs the values).

    >>> one_hot(tensor([0, 2]), 3)
    tensor([[1, 0, 0],
            [0, 0, 1]])
    """
    index = as_index_tensor("one_hot", tensor, "tensor")
    classes = as_index("one_hot", "num_classes", num_classes)
    if classes == -1 or (type(index._value()) is np.ndarray and modes.trace is None):
        array = index._array("one_hot")
        if classes == -1:
            if not array.size:
                raise ArgumentError("one_hot: num_classes must be given for an empty tensor")
            classes = int(array.max()) + 1
        if array.size and (array.min() < 0 or array.max() >= classes):
            bad = int(array.min()) if array.min() < 0 else int(array.max())
            raise IndexRangeError(f"one_hot: class {bad} is out of range for {classes} classes")
    if classes <= 0:
        raise ArgumentError(f"one_hot: num_classes must be positive, got {classes}")
    shape = (*index.shape, classes)
    last = len(shape) - 1
    return cast(eq(Expand(shape, (last,))(index), Iota(shape, index.dtype, last)()), dt.int64)


functional(one_hot)


@public
def repeat_interleave(
    input: Tensor, repeats: Any = None, dim: int | None = None, *, output_size: Any = None
) -> Tensor:
    """Each element `repeats` times in a row along `dim` (None: of the flattened tensor).

    repeats      a number, or a 1-d tensor with one number per element
    output_size  how many there will be: with it a captured or batched function can do without the
                 values of `repeats`; where they sum to less, the last element fills the rest

    >>> repeat_interleave(tensor([1, 2]), 2)
    tensor([1, 1, 2, 2])
    """
    name = "repeat_interleave"
    if repeats is None:  # positions, each as often as `input` says
        input, repeats, dim = from_numpy(np.arange(input.numel())), input, 0
    x = input
    if dim is None:
        x, dim = Reshape((x.numel(),))(x), 0
    x = Reshape((1,))(x) if not x.ndim else x
    axis = normalize_dim(name, dim, x.ndim)
    if not isinstance(repeats, (Tensor, tuple, list)):
        counts = np.asarray([as_index(name, "repeats", repeats)])
    else:
        given = as_index_tensor(
            name, repeats if isinstance(repeats, Tensor) else as_tensor(repeats), "repeats"
        )
        if output_size is not None and type(given._value()) is not np.ndarray:
            size = as_index(name, "output_size", output_size)
            ends = given.expand(x.shape[axis]).cumsum(0)
            places = searchsorted(ends, from_numpy(np.arange(size)), right=True)
            return IndexSelect(axis)(x, places.clamp_(max=x.shape[axis] - 1))
        counts = given._array(name)
    if (counts < 0).any():
        raise ArgumentError(f"{name}: repeats must not be negative, got {counts.min()}")
    if counts.size == 1 and x.shape[axis] != 1 or counts.ndim == 0:
        return repeat_each(x, int(counts.reshape(-1)[0]), axis)
    if counts.shape != (x.shape[axis],):
        raise ShapeError(
            f"{name}: {counts.size} repeats for dimension {axis} of size {x.shape[axis]}"
        )
    if output_size is not None and counts.sum() != output_size:
        raise ShapeError(f"{name}: output_size is {output_size}, the repeats sum to {counts.sum()}")
    return IndexSelect(axis)(x, from_numpy(np.repeat(np.arange(x.shape[axis]), counts)))


def _unique(
    array: np.ndarray, axis: int | None, consecutive: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(unique slices, where each slice went, how often each occurs)."""
    if axis is None:
        rows = array.reshape(-1, 1)
    else:
        front = np.moveaxis(array, axis, 0)
        rows = front.reshape(front.shape[0], int(np.prod(front.shape[1:])))
    n = rows.shape[0]
    order = np.arange(n)
    if not consecutive and n and rows.shape[1]:
        order = np.lexsort(rows.T[::-1])
    ranked = rows[order]
    first = np.ones(n, bool)
    if n:
        first[1:] = (ranked[1:] != ranked[:-1]).any(1)
    inverse = np.empty(n, np.int64)
    inverse[order] = np.cumsum(first) - 1
    counts = np.diff(np.append(np.flatnonzero(first), n))
    kept = order[first]
    if axis is None:
        return array.reshape(-1)[kept], inverse.reshape(array.shape), counts
    return np.take(array, kept, axis), inverse, counts


def _unique_result(
    name: str, input: Tensor, dim: int | None, consecutive: bool, inverse: bool, counts: bool
) -> Any:
    array = input._array(name)
    if input.dtype in (dt.float16, dt.bfloat16):
        array = array.astype(np.float32)
    if dim is not None and not input.ndim:
        raise ShapeError(f"{name}: a 0-d tensor has no slices along a dimension")
    axis = None if dim is None else normalize_dim(name, dim, input.ndim)
    values, places, numbers = _unique(array, axis, consecutive)
    made = [from_numpy(np.ascontiguousarray(values.astype(input.dtype.numpy)))]
    made += [from_numpy(places)] if inverse else []
    made += [from_numpy(numbers.astype(np.int64))] if counts else []
    return made[0] if len(made) == 1 else tuple(made)


@public
def unique(
    input: Tensor,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """The different elements in ascending order (or the different slices along `dim`).

    return_inverse  also where each element went; return_counts  also how often each occurs

    >>> unique(tensor([2, 1, 2]), return_counts=True)
    (tensor([1, 2]), tensor([1, 2]))
    """
    return _unique_result("unique", input, dim, False, return_inverse, return_counts)


@public
def unique_consecutive(
    input: Tensor,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """The elements without immediate repetitions (or slices along `dim`), in their order."""
    return _unique_result("unique_consecutive", input, dim, True, return_inverse, return_counts)


@public
def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each number 0, 1, 2, ... occurs in a 1-d tensor; with weights, their sums.

    >>> bincount(tensor([0, 2, 2]))
    tensor([1, 0, 2])
    """
    index = as_index_tensor("bincount", input, "input")
    if index.ndim != 1:
        raise ShapeError(f"bincount: input must be 1-d, got shape {tuple(index.shape)}")
    array = index._array("bincount")
    if array.size and array.min() < 0:
        raise ArgumentError(f"bincount: numbers must not be negative, got {array.min()}")
    if weights is None:
        return from_numpy(np.bincount(array, minlength=minlength).astype(np.int64))
    if tuple(weights.shape) != tuple(index.shape):
        raise ShapeError(
            f"bincount: weights {tuple(weights.shape)} and input {tuple(index.shape)} must have "
            "the same shape"
        )
    sums = np.bincount(array, weights._array("bincount"), minlength)
    return from_numpy(sums.astype(np.float32 if weights.dtype is dt.float32 else np.float64))
