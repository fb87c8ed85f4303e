"""Connectionist temporal classification: the likelihood of a label sequence without an alignment.

Source: Graves and others, "Connectionist temporal classification", 2006 (the forward recursion).
"""

from __future__ import annotations

import math
from typing import Any

from ..core import dtype as dt
from ..core.errors import ArgumentError, DTypeError, ShapeError, TraceError
from ..core.shape import as_index
from ..ir.op import Full, is_value
from .align import broadcast_to, cast, functional
from .arith import add, div, eq, gt, logical_and, logical_or, lt, maximum, mul, ne, neg, sub, where
from .cumulative import cumsum
from .exponential import exp, log
from .indexing import Gather, IndexSelect
from .joining import stack
from .losses import check_reduction, reduce_loss
from .movement import Detach, Pad, Reshape, Slice
from .reduce import logsumexp
from .rounding import clamp
from .triangular import Iota

_NEVER = -1e30  # the logarithm of an impossible path; finite, so that no gradient becomes nan


@functional
def ctc_loss(
    log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any, blank: int = 0,
    reduction: str = "mean", zero_infinity: bool = False,
) -> Any:  # fmt: skip
    """Negative log of the probability that log_probs spell the targets, blanks and repeats removed.

    log_probs       (T, N, C) or (T, C), logarithms of probabilities
    targets         (N, S) padded class numbers, or all sequences one after another in one dimension
    input_lengths   (N,) how many of the T steps count; target_lengths (N,) how many labels
    reduction       "mean" divides each loss by its target length first
    zero_infinity   0 instead of infinity where no alignment exists
    """
    check_reduction("ctc_loss", reduction)
    if len(log_probs.shape) not in (2, 3) or not log_probs.dtype.is_floating_point:
        raise ShapeError(
            "ctc_loss: log_probs must be floating, of shape (T, N, C) or (T, C), got "
            f"{log_probs.dtype.name} of shape {tuple(log_probs.shape)}"
        )
    alone = len(log_probs.shape) == 2
    x = cast(log_probs, dt.float32) if log_probs.dtype.itemsize == 2 else log_probs
    if alone:
        x = Reshape((x.shape[0], 1, x.shape[1]))(x)
    steps, count, classes = x.shape
    if not 0 <= as_index("ctc_loss", "blank", blank) < classes:
        raise ArgumentError(f"ctc_loss: blank must be in [0, {classes}), got {blank}")
    if targets.dtype not in dt.INTS:
        raise DTypeError(f"ctc_loss: targets must be class numbers, got {targets.dtype.name}")
    input_lengths = _lengths("input_lengths", input_lengths, count)
    target_lengths = _lengths("target_lengths", target_lengths, count)
    labels = _padded(cast(targets, dt.int64), target_lengths, count, steps)
    labels = where(lt(_along_row(labels), _column(target_lengths, labels)), labels, blank)
    loss = _negative_log(x, labels, input_lengths, target_lengths, blank)
    impossible = gt(loss, -_NEVER / 2)
    loss = where(impossible, 0.0 if zero_infinity else math.inf, loss)
    if reduction == "mean":
        loss = div(loss, cast(clamp(target_lengths, min=1), loss.dtype))
    if alone and reduction == "none":
        loss = Reshape(())(loss)
    return cast(reduce_loss(loss, reduction), log_probs.dtype)


def _lengths(argument: str, lengths: Any, count: int) -> Any:
    """Lengths as an int64 value (N,)."""
    if isinstance(lengths, (tuple, list)):
        if len(lengths) != count:
            raise ShapeError(f"ctc_loss: {argument} must have {count} entries, got {len(lengths)}")
        parts = [v if is_value(v) else Full((), dt.int64, int(v))() for v in lengths]
        return stack([cast(v, dt.int64) for v in parts])
    if not is_value(lengths):
        lengths = Full((), dt.int64, int(lengths))()
    if tuple(lengths.shape) == () and count == 1:
        lengths = Reshape((1,))(lengths)
    if tuple(lengths.shape) != (count,):
        raise ShapeError(
            f"ctc_loss: {argument} must have shape ({count},), got {tuple(lengths.shape)}"
        )
    return cast(lengths, dt.int64)


def _along_row(x: Any) -> Any:
    return Iota(tuple(x.shape), dt.int64, 1)()


def _column(x: Any, like: Any) -> Any:
    return broadcast_to(Reshape((x.shape[0], 1))(x), tuple(like.shape))


def _padded(targets: Any, lengths: Any, count: int, steps: int) -> Any:
    """Targets as (N, S)."""
    if len(targets.shape) == 2:
        if targets.shape[0] != count:
            raise ShapeError(
                f"ctc_loss: targets {tuple(targets.shape)} must have {count} rows, one for each "
                "sequence of log_probs"
            )
        return targets
    if len(targets.shape) != 1:
        raise ShapeError(
            f"ctc_loss: targets must have 1 or 2 dimensions, got {tuple(targets.shape)}"
        )
    if count == 1:
        return Reshape((1, targets.shape[0]))(targets)
    try:
        longest = max(lengths.tolist(), default=0)
    except TraceError:  # as wide as may be; no path spells more labels than there are steps
        longest = min(targets.shape[0], steps)
    if not targets.shape[0] or not longest:
        return Full((count, 0), dt.int64, 0)()
    start = sub(cumsum(lengths, 0), lengths)
    place = Iota((count, longest), dt.int64, 1)()
    place = add(place, _column(start, place))
    place = clamp(place, max=targets.shape[0] - 1)
    flat = IndexSelect(0)(targets, Reshape((count * longest,))(place))
    return Reshape((count, longest))(flat)


def _negative_log(x: Any, labels: Any, input_lengths: Any, target_lengths: Any, blank: int) -> Any:
    """-log p(labels) for each sequence, by the forward recursion over blanks and labels in turn."""
    steps, count, _ = x.shape
    size = 2 * labels.shape[1] + 1
    none = (0, 0)
    # blank, l1, blank, l2, ..., blank
    spelled = Pad((0, 1), (0, 1), (0, 1), blank)(labels) if labels.shape[1] else None
    if spelled is None:
        spelled = Full((count, 1), dt.int64, blank)()
    before = Pad((0, 2), none, none, blank)(spelled)
    before = Slice(none, (count, size), (1, 1))(before)
    # A label may follow the one before without a blank in between, if they differ.
    skips = logical_and(ne(spelled, blank), ne(spelled, before))
    index = broadcast_to(Reshape((1, count, size))(spelled), (steps, count, size))
    logs = Gather(2)(x, index)
    place = Iota((count, size), dt.int64, 1)()
    state: Any = None
    for t in range(steps):
        now = Reshape((count, size))(Slice((t, 0, 0), (t + 1, count, size), (1, 1, 1))(logs))
        if state is None:
            state = where(lt(place, 2), now, _NEVER)
            continue
        one = _shifted(state, 1)
        two = where(skips, _shifted(state, 2), _NEVER)
        reached = add(_log_sum(state, one, two), now)
        state = where(lt(t, _column(input_lengths, reached)), reached, state)
    last = mul(_column(target_lengths, place), 2)
    ends = logical_or(eq(place, last), eq(place, sub(last, 1)))
    return neg(logsumexp(where(ends, state, _NEVER), 1))


def _shifted(x: Any, by: int) -> Any:
    """x moved right along its last axis, with impossible paths moved in."""
    count, size = x.shape
    return Slice((0, 0), (count, size), (1, 1))(Pad((0, by), (0, 0), (0, 0), _NEVER)(x))


def _log_sum(a: Any, b: Any, c: Any) -> Any:
    top = Detach()(maximum(maximum(a, b), c))
    return add(log(add(add(exp(sub(a, top)), exp(sub(b, top))), exp(sub(c, top)))), top)
