"""Sorting and searching: sort, argsort, topk, kthvalue, quantile, searchsorted.

nan counts as larger than every number, as in PyTorch. Equal elements keep their order (sort is
always stable). Gradients go to the places that the values came from.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.errors import ArgumentError, ArgumentTypeError, IndexRangeError, ShapeError
from ..core.shape import as_index, is_number, normalize_dim, numel
from ..ir.op import Aval, Full, Opaque, is_value, op, zeros_of
from .align import cast, public
from .batching import batched, shape_of
from .exponential import widened
from .indexing import Gather, ScatterAdd
from .movement import Copy, Reshape
from .shaping import slice_axis

sort_result = namedtuple("sort", ["values", "indices"])  # type: ignore[name-match]
topk_result = namedtuple("topk", ["values", "indices"])  # type: ignore[name-match]
kthvalue_result = namedtuple("kthvalue", ["values", "indices"])  # type: ignore[name-match]


def _order(x: Any, axis: int, descending: bool) -> Any:
    """Indices that sort the array x along `axis`; stable, nan last (first where descending)."""
    if x.dtype.itemsize == 2 and x.dtype.kind not in "iu":
        x = x.astype(np.float32)
    if not descending:
        return np.argsort(x, axis, kind="stable")
    backward = np.argsort(np.flip(x, axis), axis, kind="stable")
    return x.shape[axis] - 1 - np.flip(backward, axis)


class _Ranked(Opaque):
    """Base of ops that give (values, int64 indices) along `axis`, chosen from the input."""

    axis: int
    accepts = dt.REAL
    n_outputs = 2
    saves = "outputs"

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (lambda: ScatterAdd(self.axis)(zeros_of(x), out[1], g[0]),)


@op
class Sort(_Ranked):
    """(values in order along `axis`, where each came from)."""

    axis: int
    descending: bool

    def infer(self, x: Any) -> Any:
        self.check_dtypes(x)
        return Aval(shape_of(x), x.dtype), Aval(shape_of(x), dt.int64)

    def reference(self, x: Any) -> Any:
        order = _order(x, self.axis, self.descending)
        return np.take_along_axis(x, order, self.axis), order

    def batch(self, dims: tuple, size: int, x: Any) -> tuple[Any, Any]:
        return Sort(self.axis + 1, self.descending)(batched(x, dims[0], size)), (0, 0)


@op
class TopK(_Ranked):
    """(the `count` largest or smallest along `axis`, in order, where each came from)."""

    count: int
    axis: int
    largest: bool
    onnx = "TopK"

    def infer(self, x: Any) -> Any:
        self.check_dtypes(x)
        shape = (*x.shape[: self.axis], self.count, *x.shape[self.axis + 1 :])
        return Aval(shape, x.dtype), Aval(shape, dt.int64)

    def reference(self, x: Any) -> Any:
        order = _order(x, self.axis, self.largest)
        order = np.take(order, range(self.count), self.axis)
        return np.take_along_axis(x, order, self.axis), order

    def batch(self, dims: tuple, size: int, x: Any) -> tuple[Any, Any]:
        return TopK(self.count, self.axis + 1, self.largest)(batched(x, dims[0], size)), (0, 0)


@op
class SearchSorted(Opaque):
    """Where each value belongs in the sorted last axis of `sequence`: how many elements precede it.

    right  equal elements precede it too. Leading axes of both agree, or the sequence has one axis.
    """

    right: bool
    differentiable = False
    saves = "none"

    def infer(self, sequence: Any, values: Any) -> Aval:
        if not sequence.shape:
            raise ShapeError("searchsorted: the sequence is 0-d")
        if len(sequence.shape) != 1 and sequence.shape[:-1] != values.shape[:-1]:
            raise ShapeError(
                f"searchsorted: leading dimensions of the sequence {shape_of(sequence)} and the "
                f"values {shape_of(values)} differ"
            )
        return Aval(shape_of(values), dt.int64)

    def reference(self, sequence: Any, values: Any) -> Any:
        side: Any = "right" if self.right else "left"
        sequence, values = widened(sequence), widened(values)  # where nan comes last
        if sequence.ndim == 1:
            return np.searchsorted(sequence, values, side).astype(np.int64)
        out = np.empty(values.shape, np.int64)
        for i in np.ndindex(values.shape[:-1]):
            out[i] = np.searchsorted(sequence[i], values[i], side)
        return out

    def batch(self, dims: tuple, size: int, sequence: Any, values: Any) -> tuple[Any, Any]:
        if dims[0] is None and len(sequence.shape) == 1:
            return self(sequence, values), dims[1]
        own = len(sequence.shape) - (dims[0] is not None)
        values = batched(values, dims[1], size)
        sequence = batched(sequence, dims[0], size)
        if own == 1:  # one sequence for all leading axes of the values
            flat = Reshape((size, numel(values.shape[1:])))(values)
            return Reshape(shape_of(values))(self(sequence, flat)), 0
        return self(sequence, values), 0


@public
def sort(input: Any, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:
    """(values, indices): the elements in order along `dim`, and where each came from.

    >>> sort(tensor([3, 1, 2])).values
    tensor([1, 2, 3])
    """
    axis = normalize_dim("sort", dim, len(input.shape))
    if not input.shape:
        return sort_result(Copy()(input), Full((), dt.int64, 0)())
    return sort_result(*Sort(axis, bool(descending))(input))


@public
def argsort(input: Any, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:
    """Indices that put the elements in order along `dim`.

    >>> argsort(tensor([3, 1, 2]))
    tensor([1, 2, 0])
    """
    return sort(input, dim, descending).indices


@public
def msort(input: Any) -> Any:
    """The elements in ascending order along dimension 0."""
    return sort(input, 0).values


@public
def topk(input: Any, k: Any, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    """(values, indices) of the k largest (or smallest) elements along `dim`, best first.

    >>> topk(tensor([3, 1, 2]), 2).values
    tensor([3, 2])
    """
    k = as_index("topk", "k", k)
    axis = normalize_dim("topk", dim, len(input.shape))
    size = input.shape[axis] if input.shape else 1
    if not 0 <= k <= size:
        raise IndexRangeError(f"topk: k must be in [0, {size}] for dimension {axis}, got {k}")
    if not input.shape:
        if k == 0:
            raise IndexRangeError("topk: k must be 1 for a 0-d tensor, got 0")
        return topk_result(Copy()(input), Full((), dt.int64, 0)())
    return topk_result(*TopK(k, axis, bool(largest))(input))


@public
def kthvalue(input: Any, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    """(values, indices) of the k-th smallest element along `dim`; k counts from 1."""
    k = as_index("kthvalue", "k", k)
    axis = normalize_dim("kthvalue", dim, len(input.shape))
    size = input.shape[axis] if input.shape else 1
    if not 1 <= k <= size:
        raise IndexRangeError(f"kthvalue: k must be in [1, {size}] for dimension {axis}, got {k}")
    if not input.shape:
        return kthvalue_result(Copy()(input), Full((), dt.int64, 0)())
    parts = [slice_axis(v, axis, k - 1, k) for v in Sort(axis, False)(input)]
    if not keepdim:
        shape = (*input.shape[:axis], *input.shape[axis + 1 :])
        parts = [Reshape(shape)(p) for p in parts]
    return kthvalue_result(*parts)


@public
def searchsorted(
    sorted_sequence: Any,
    input: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Any = None,
) -> Any:
    """Where each of `input` belongs in the ascending last dimension of `sorted_sequence`: int64.

    right   after equal elements instead of before them (side="right")
    sorter  int64 indices that put sorted_sequence in order along its last dimension; it is read
            through them

    >>> searchsorted(tensor([1, 3, 5]), tensor([3, 6]))
    tensor([1, 3])
    """
    if side not in (None, "left", "right"):
        raise ArgumentError(f"searchsorted: side must be 'left' or 'right', got {side!r}")
    if not is_value(sorted_sequence) or is_number(sorted_sequence):
        raise ArgumentTypeError(
            f"searchsorted: sorted_sequence must be a tensor, got {type(sorted_sequence).__name__}"
        )
    if side == "left" and right:
        raise ArgumentError("searchsorted: side='left' contradicts right=True")
    if sorter is not None:
        if sorter.dtype is not dt.int64 or shape_of(sorter) != shape_of(sorted_sequence):
            raise ShapeError(
                f"searchsorted: sorter must be int64 of shape {shape_of(sorted_sequence)}, got "
                f"{sorter.dtype.name} of shape {shape_of(sorter)}"
            )
        sorted_sequence = Gather(len(sorter.shape) - 1)(sorted_sequence, sorter)
    dtype = dt.result_type(sorted_sequence, input)
    values = Full((), dtype, input)() if is_number(input) else cast(input, dtype)
    sequence = cast(sorted_sequence, dtype)
    found = SearchSorted(right or side == "right")(sequence, values)
    return cast(found, dt.int32) if out_int32 else found


@public
def bucketize(input: Any, boundaries: Any, *, out_int32: bool = False, right: bool = False) -> Any:
    """The number of the interval between ascending `boundaries` that each element lies in: int64.

    right  intervals are closed on the left instead of on the right

    >>> bucketize(tensor([0.5, 2.5]), tensor([1.0, 2.0, 3.0]))
    tensor([0, 2])
    """
    if len(boundaries.shape) != 1:
        raise ShapeError(f"bucketize: boundaries must be 1-d, got shape {shape_of(boundaries)}")
    return searchsorted(boundaries, input, out_int32=out_int32, right=right)
