"""Sums over rows of a table, distances of pairs, and a loss with its last layer."""

from __future__ import annotations

from typing import Any

from ..core import dtype as dt
from ..core.errors import ArgumentError, ShapeError
from ..core.shape import as_index, numel
from ..ir.op import Full
from .align import broadcast_to, cast, functional, public
from .arith import add, div, ge, logical_and, lt, mul, ne, sub, where
from .batching import shape_of
from .composite import composite
from .contract import linear
from .cross_entropy import cross_entropy
from .gathering import as_index_tensor, named, rows_of, scatter_add, scatter_reduce
from .indexing import IndexAdd, IndexSelect
from .lookups import by_frequency, limit_rows
from .movement import Reshape, Sum
from .reduce import norm
from .rounding import clamp
from .shaping import slice_axis
from .sorting import bucketize
from .triangular import Iota


@functional
def pdist(input: Any, p: float = 2.0) -> Any:
    """p-norms of the differences of all pairs of rows i < j of (N, M): (N (N - 1) / 2,).

    >>> nn.functional.pdist(tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]]))
    tensor([5.0000, 1.0000, 4.2426])
    """
    if len(input.shape) != 2:
        raise ShapeError(f"pdist: input must be (N, M), got shape {shape_of(input)}")
    n = input.shape[0]
    count = n * (n - 1) // 2
    # Pair k has the first row i where k is at least the number of pairs of rows before i.
    k = Iota((count,), dt.int64, 0)()
    i = Iota((n,), dt.int64, 0)()
    before = sub(mul(i, n - 1), _half(mul(i, sub(i, 1))))  # pairs of the rows before row i
    first = sub(bucketize(k, before, right=True), 1)
    second = add(sub(k, IndexSelect(0)(before, first)), add(first, 1))
    gaps = sub(IndexSelect(0)(input, first), IndexSelect(0)(input, second))
    return norm(gaps, p, -1)


def _half(x: Any) -> Any:
    return cast(mul(cast(x, dt.float64), 0.5), dt.int64)


public(pdist)


@functional
def embedding_bag(
    input: Any, weight: Any, offsets: Any = None, max_norm: float | None = None,
    norm_type: float = 2.0, scale_grad_by_freq: bool = False, mode: str = "mean",
    sparse: bool = False, per_sample_weights: Any = None, include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Any:  # fmt: skip
    """Sum, mean or maximum of the rows of `weight` that each bag of indices names.

    input               (B, N): B bags of N indices; or (N,) with `offsets`
    weight              (V, D)
    offsets             (B,) where each bag begins in the 1-d input
    mode                "sum", "mean" or "max"; an empty bag gives zeros
    per_sample_weights  factors of the rows, in input's shape; for "sum" only
    include_last_offset  the last offset is the end of the last bag
    padding_idx         an index that does not count
    max_norm, norm_type, scale_grad_by_freq   see embedding
    sparse              the gradient of a weight that is a leaf holds only the rows used
    returns             (B, D)

    >>> nn.functional.embedding_bag(tensor([[0, 1]]), tensor([[1.0], [3.0]]), mode="mean")
    tensor([[2.]])
    """
    if mode not in ("sum", "mean", "max"):
        raise ArgumentError(f"embedding_bag: mode must be 'sum', 'mean' or 'max', got {mode!r}")
    if per_sample_weights is not None and mode != "sum":
        raise ArgumentError(f"embedding_bag: per_sample_weights need mode 'sum', got {mode!r}")
    index = as_index_tensor("embedding_bag", input, "input")
    if len(weight.shape) != 2 or len(index.shape) not in (1, 2):
        raise ShapeError(
            f"embedding_bag: input must be (B, N) or (N,) and weight (V, D), got {shape_of(index)} "
            f"and {shape_of(weight)}"
        )
    if (offsets is None) != (len(index.shape) == 2):
        raise ArgumentError("embedding_bag: offsets are for 1-d input, and needed there")
    if per_sample_weights is not None and shape_of(per_sample_weights) != shape_of(index):
        raise ShapeError(
            f"embedding_bag: per_sample_weights have shape {shape_of(per_sample_weights)}, input "
            f"{shape_of(index)}"
        )
    starts = None
    if offsets is not None:
        starts = cast(as_index_tensor("embedding_bag", offsets, "offsets"), dt.int64)
    padding = None
    if padding_idx is not None:
        padding = as_index("embedding_bag", "padding_idx", padding_idx) % weight.shape[0]
    count = numel(index.shape)
    flat = Reshape((count,))(index)
    if max_norm is not None:
        limit_rows("embedding_bag", weight, index, max_norm, norm_type)
    rows = rows_of(weight, flat, None) if sparse else None
    if rows is None:
        rows = named("embedding_bag", IndexSelect(0), weight, flat)
    if scale_grad_by_freq:
        rows = by_frequency(rows, flat, weight.shape[0])
    ends = offsets is not None and include_last_offset
    return pooled_rows(rows, index, starts, per_sample_weights, mode, padding, ends)


@composite
def pooled_rows(
    rows: Any, index: Any, starts: Any, factors: Any, mode: str, padding: int | None, ends: bool
) -> Any:
    """Sum, mean or maximum of the rows (N, D) of each bag, for embedding_bag.

    starts  where bags begin, and with `ends` also where the last one ends; None: one is a line of
            index
    """
    count, width = rows.shape
    if starts is None:
        bags, size = index.shape
        bag = _repeated(Iota((bags,), dt.int64, 0)(), bags, size)
    else:
        bags = starts.shape[0] - ends
        place = Iota((count,), dt.int64, 0)()
        bag = sub(bucketize(place, starts, right=True), 1)
    kept = logical_and(ge(bag, 0), lt(bag, bags)) if starts is not None else None
    if padding is not None:
        real = ne(Reshape((count,))(index), padding)
        kept = real if kept is None else logical_and(kept, real)
    if factors is not None:
        rows = mul(rows, Reshape((count, 1))(factors))
    if starts is None and kept is None and mode != "max":
        out = Sum((1,))(Reshape((bags, size, width))(rows))
        return out if mode == "sum" or not size else div(out, size)
    # One more bag takes what does not count.
    target = bag if kept is None else where(kept, bag, bags)
    base = Full((bags + 1, width), rows.dtype, 0)()
    if mode == "max":
        places = broadcast_to(Reshape((count, 1))(target), (count, width))
        out = scatter_reduce(base, 0, places, rows, "amax", include_self=False)
    else:
        out = IndexAdd(0)(base, target, rows)
    if mode == "mean":
        ones = Full((count,), rows.dtype, 1)()
        sizes = scatter_add(Full((bags + 1,), rows.dtype, 0)(), 0, target, ones)
        out = div(out, Reshape((bags + 1, 1))(clamp(sizes, min=1)))
    return slice_axis(out, 0, 0, bags)


def _repeated(x: Any, count: int, size: int) -> Any:
    return Reshape((count * size,))(broadcast_to(Reshape((count, 1))(x), (count, size)))


@functional
def linear_cross_entropy(
    input: Any, linear_weight: Any, target: Any, *, linear_bias: Any = None, weight: Any = None,
    reduction: str = "mean", ignore_index: int | None = None, label_smoothing: float = 0.0,
    options: Any = None,
) -> Any:  # fmt: skip
    """cross_entropy(linear(input, linear_weight, linear_bias), target).

    input          (N, I) or (I,)
    linear_weight  (C, I), or (C, ..., I) for logits (N, C, ...); linear_bias its shape without I
    options  accepted for PyTorch's sake: how the work is cut up is the compiler's matter
    """
    *sizes, width = linear_weight.shape
    bias = None if linear_bias is None else Reshape((numel(sizes),))(linear_bias)
    logits = linear(input, Reshape((numel(sizes), width))(linear_weight), bias)
    logits = Reshape((*input.shape[:-1], *sizes))(logits)
    ignored = -100 if ignore_index is None else ignore_index
    return cross_entropy(
        logits, target, weight, ignore_index=ignored, reduction=reduction,
        label_smoothing=label_smoothing,
    )  # fmt: skip
