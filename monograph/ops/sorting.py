"""Sorting and searching: sort, argsort, topk, kthvalue, quantile, searchsorted.

nan counts as larger than every number, as in PyTorch. Equal elements keep their order (sort is
always stable). Gradients go to the places that the values came from.
"""

from __future__ import annotations

import math
from collections import namedtuple
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.errors import ArgumentError, ArgumentTypeError, DTypeError, IndexRangeError, ShapeError
from ..core.shape import as_index, is_number, normalize_dim, numel
from ..ir.op import Aval, Full, Opaque, is_value, op, zeros_of
from .align import cast, public
from .arith import add, mul, ne, sub, where
from .batching import batched, shape_of
from .indexing import ScatterAdd
from .joining import stack
from .movement import Copy, Reshape
from .shaping import flatten, slice_axis

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


_INTERPOLATIONS = ("linear", "lower", "higher", "midpoint", "nearest")


@public
def quantile(
    input: Any,
    q: Any,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    interpolation: str = "linear",
) -> Any:
    """The q-quantiles along `dim` (None: of all elements); several q give a new first dimension.

    q              a number in [0, 1], or a 1-d tensor of them (its values are needed)
    interpolation  "linear", "lower", "higher", "midpoint" or "nearest", between two elements

    >>> quantile(tensor([0.0, 1.0, 2.0, 4.0]), 0.5)
    tensor(1.5000)
    """
    if not input.dtype.is_floating_point:
        raise DTypeError(f"quantile: input must be floating, got {input.dtype.name}")
    if interpolation not in _INTERPOLATIONS:
        raise ArgumentError(
            f"quantile: interpolation must be one of {', '.join(_INTERPOLATIONS)}, "
            f"got {interpolation!r}"
        )
    levels = q._array("quantile").tolist() if is_value(q) and not is_number(q) else q
    several = isinstance(levels, list)
    numbers = levels if isinstance(levels, list) else [levels]
    if any(not is_number(v) for v in numbers):
        raise ArgumentTypeError(f"quantile: q must be a number or a 1-d tensor, got {q!r}")
    if any(not 0 <= v <= 1 for v in numbers):
        raise ArgumentError(f"quantile: q must be in [0, 1], got {q}")
    x = flatten(input) if dim is None else input
    axis = 0 if dim is None else normalize_dim("quantile", dim, len(x.shape))
    x = x if x.shape else Reshape((1,))(x)
    n = x.shape[axis]
    if n == 0:
        raise ShapeError(f"quantile: dimension {axis} of {shape_of(input)} is empty")
    ordered = Sort(axis, False)(x)[0]
    last = slice_axis(ordered, axis, n - 1, n)
    is_nan = ne(last, last)
    results = []
    for level in numbers:
        out = _between(ordered, axis, level * (n - 1), interpolation)
        out = where(is_nan, math.nan, out)
        shape = shape_of(out)
        if dim is None:
            out = Reshape((1,) * len(input.shape) if keepdim else ())(out)
        elif not (keepdim and input.shape):
            out = Reshape((*shape[:axis], *shape[axis + 1 :]))(out)
        results.append(out)
    return stack(results) if several else results[0]


def _between(ordered: Any, axis: int, position: float, interpolation: str) -> Any:
    low, high = math.floor(position), math.ceil(position)
    weight = {"lower": 0.0, "higher": 1.0, "midpoint": 0.5, "linear": position - low}.get(
        interpolation, round(position) - low
    )
    below = slice_axis(ordered, axis, low, low + 1)
    if low == high or weight == 0:
        return below
    above = slice_axis(ordered, axis, high, high + 1)
    return above if weight == 1 else add(below, mul(sub(above, below), weight))


@public
def searchsorted(
    sorted_sequence: Any,
    input: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
) -> Any:
    """Where each of `input` belongs in the ascending last dimension of `sorted_sequence`: int64.

    right  after equal elements instead of before them (side="right")

    >>> searchsorted(tensor([1, 3, 5]), tensor([3, 6]))
    tensor([1, 3])
    """
    if side not in (None, "left", "right"):
        raise ArgumentError(f"searchsorted: side must be 'left' or 'right', got {side!r}")
    if not is_value(sorted_sequence) or is_number(sorted_sequence):
        raise ArgumentTypeError(
            f"searchsorted: sorted_sequence must be a tensor, got {type(sorted_sequence).__name__}"
        )
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
