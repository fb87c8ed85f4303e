"""Losses of predictions against targets. Those of class numbers stand in cross_entropy.py.

Prediction and target must have equal shapes: a pair that would silently broadcast is an error,
unlike in PyTorch. `reduction` is "mean", "sum" or "none" (element by element).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.errors import ArgumentError, DTypeError, ShapeError
from ..core.shape import is_number, normalize_dim, numel
from ..ir.op import Elementwise, Full, is_value, op
from .align import align, as_operand, broadcast_to, cast, functional
from .arith import abs as absolute
from .arith import (
    add,
    div,
    eq,
    ge,
    gt,
    le,
    logical_and,
    logical_not,
    lt,
    maximum,
    minimum,
    mul,
    neg,
    sub,
    where,
)
from .composite import composite
from .cumulative import cumprod
from .exponential import exp, log, log1p, log1p_formula, log_formula
from .movement import Detach, Expand, Reshape, Sum
from .normalize import pairwise_distance
from .power import pow as power
from .power import sqrt
from .rounding import clamp_min
from .triangular import Iota

REDUCTIONS = ("mean", "sum", "none")


def check_reduction(name: str, reduction: str, allowed: tuple[str, ...] = REDUCTIONS) -> None:
    if reduction not in allowed:
        listed = ", ".join(map(repr, allowed[:-1])) + f" or {allowed[-1]!r}"
        raise ArgumentError(f"{name}: reduction must be {listed}, got {reduction!r}")


def total(x: Any) -> Any:
    """Sum of all elements, 0-d."""
    return Sum(tuple(range(len(x.shape))))(x) if x.shape else x


def reduce_loss(x: Any, reduction: str) -> Any:
    """All losses as they are, their sum, or their mean (nan if there are none)."""
    if reduction == "none":
        return x
    if reduction == "sum":
        return total(x)
    count = numel(x.shape)
    return mul(total(x), 1.0 / count) if count else div(total(x), 0.0)


def _pair(name: str, input: Any, target: Any, reduction: str) -> tuple[Any, Any]:
    """Prediction and target with equal shapes and one floating dtype."""
    check_reduction(name, reduction)
    x, y = as_operand(name, input), as_operand(name, target, "target")
    _same_shape(name, input=x, target=y)
    x, y = align(name, x, y, floating=True)
    return x, y


def _same_shape(name: str, **values: Any) -> None:
    (first, x), *others = values.items()
    for argument, y in others:
        if tuple(x.shape) != tuple(y.shape):
            hint = None
            if numel(x.shape) == numel(y.shape):
                hint = f"{argument}.reshape({first}.shape) if the elements correspond in order"
            raise ShapeError(
                f"{name}: {first} has shape {tuple(x.shape)} but {argument} has "
                f"{tuple(y.shape)}; they must be equal",
                hint=hint,
            )


def _weighted(loss: Any, weight: Any) -> Any:
    return loss if weight is None else mul(loss, cast(weight, loss.dtype))


@functional
@composite
def mse_loss(input: Any, target: Any, *, reduction: str = "mean", weight: Any = None) -> Any:
    """Squared differences.

    >>> mse_loss(tensor([1.0, 2.0]), tensor([1.0, 4.0]))
    tensor(2.)
    """
    x, y = _pair("mse_loss", input, target, reduction)
    d = sub(x, y)
    return reduce_loss(_weighted(mul(d, d), weight), reduction)


@functional
@composite
def l1_loss(input: Any, target: Any, *, reduction: str = "mean", weight: Any = None) -> Any:
    """Absolute differences."""
    x, y = _pair("l1_loss", input, target, reduction)
    return reduce_loss(_weighted(absolute(sub(x, y)), weight), reduction)


@functional
@composite
def smooth_l1_loss(input: Any, target: Any, *, reduction: str = "mean", beta: float = 1.0) -> Any:
    """Squared below beta, absolute above: d*d / (2*beta) or |d| - beta/2.

    Source: Girshick, "Fast R-CNN", 2015.
    """
    if beta < 0:
        raise ArgumentError(f"smooth_l1_loss: beta must not be negative, got {beta}")
    x, y = _pair("smooth_l1_loss", input, target, reduction)
    d = absolute(sub(x, y))
    if beta == 0:
        return reduce_loss(d, reduction)
    near = mul(mul(d, d), 0.5 / beta)
    return reduce_loss(where(lt(d, beta), near, sub(d, 0.5 * beta)), reduction)


@functional
@composite
def huber_loss(
    input: Any, target: Any, *, reduction: str = "mean", delta: float = 1.0, weight: Any = None
) -> Any:
    """Squared below delta, absolute above: d*d / 2 or delta * (|d| - delta/2)."""
    if delta <= 0:
        raise ArgumentError(f"huber_loss: delta must be positive, got {delta}")
    x, y = _pair("huber_loss", input, target, reduction)
    d = absolute(sub(x, y))
    near, far = mul(mul(d, d), 0.5), mul(sub(d, 0.5 * delta), float(delta))
    return reduce_loss(_weighted(where(le(d, delta), near, far), weight), reduction)


@op
class BinaryCrossEntropy(Elementwise):
    """-(y * log(x) + (1 - y) * log(1 - x)) with logarithms not below -100, for x in [0, 1].

    The gradient for x is (x - y) / (x * (1 - x)), with a divisor not below 1e-12.
    """

    accepts = dt.FLOATS
    saves = "inputs"

    def reference(self, x: Any, y: Any) -> Any:
        wide = np.float64 if x.dtype == np.float64 else np.float32
        x, y = np.asarray(x, wide), np.asarray(y, wide)
        first, second = np.maximum(np.log(x), -100), np.maximum(np.log1p(-x), -100)
        return (y - 1) * second - y * first

    def vjp(self, g: Any, out: Any, x: Any, y: Any) -> tuple[Any, ...]:
        slope = mul(sub(1, x), x)
        return (
            lambda: mul(g, div(sub(x, y), maximum(slope, 1e-12))),
            lambda: mul(g, sub(log1p(neg(x)), log(x))),
        )

    def scalar(self, s: Any, x: Any, y: Any) -> Any:
        first, second = log_formula(s, x), log1p_formula(s, -x)
        floor = s.const(-100.0, x)
        return (y - 1.0) * s.maximum(second, floor) - y * s.maximum(first, floor)


@functional
@composite
def binary_cross_entropy(
    input: Any, target: Any, weight: Any = None, *, reduction: str = "mean"
) -> Any:
    """-(y * log(x) + (1 - y) * log(1 - x)) for probabilities x and y in [0, 1].

    Logarithms are not below -100. weight broadcasts to the elements.
    """
    x, y = _pair("binary_cross_entropy", input, target, reduction)
    loss = BinaryCrossEntropy()(x, y)
    return reduce_loss(_weighted(loss, weight), reduction)


@functional
@composite
def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, *, reduction: str = "mean",
    pos_weight: Any = None,
) -> Any:  # fmt: skip
    """binary_cross_entropy of sigmoid(input), without overflow or loss of digits.

    pos_weight  factor of the terms y * log(sigmoid(x)); broadcasts to the elements
    """
    x, y = _pair("binary_cross_entropy_with_logits", input, target, reduction)
    # -log(sigmoid(x)) = max(-x, 0) + log(1 + exp(-|x|)), and (1 - y) * x makes it that of 1 - y.
    loss = _softplus(neg(x))
    if pos_weight is not None:
        loss = mul(loss, add(mul(sub(cast(pos_weight, x.dtype), 1.0), y), 1.0))
    loss = add(mul(sub(1.0, y), x), loss)
    return reduce_loss(_weighted(loss, weight), reduction)


def _softplus(x: Any) -> Any:
    """log(1 + exp(x)) without overflow."""
    return sub(log1p(exp(neg(absolute(x)))), minimum(neg(x), 0.0))


@functional
@composite
def kl_div(input: Any, target: Any, *, reduction: str = "mean", log_target: bool = False) -> Any:
    """Divergence target * (log(target) - input): input and (log_target) target are logarithms.

    reduction  also "batchmean": the sum over input's first size, which is the mathematical one
    One of them may have a single element, as the probability of a uniform distribution.
    """
    check_reduction("kl_div", reduction, ("mean", "sum", "batchmean", "none"))
    x, y = as_operand("kl_div", input), as_operand("kl_div", target, "target")
    count = x.shape[0] if x.shape else 1
    if 1 in (numel(x.shape), numel(y.shape)):
        x, y = align("kl_div", x, y, floating=True)
    x, y = _pair("kl_div", x, y, "none")
    if log_target:
        loss = mul(exp(y), sub(y, x))
    else:
        loss = sub(_times_log(y), mul(y, x))
    if reduction == "batchmean":
        return mul(total(loss), 1.0 / count)
    return reduce_loss(loss, reduction)


def _times_log(x: Any) -> Any:
    """x * log(x), 0 at 0 and nan below."""
    is_zero = eq(x, 0.0)
    return where(is_zero, mul(x, 0.0), mul(x, log(where(is_zero, 1.0, x))))


@functional
@composite
def poisson_nll_loss(
    input: Any, target: Any, log_input: bool = True, full: bool = False, *, eps: float = 1e-8,
    reduction: str = "mean",
) -> Any:  # fmt: skip
    """Negative log likelihood of counts: exp(x) - y*x, or x - y*log(x + eps) without log_input.

    full  add Stirling's approximation of log(y!) where y > 1
    """
    x, y = _pair("poisson_nll_loss", input, target, reduction)
    loss = sub(exp(x), mul(y, x)) if log_input else sub(x, mul(y, log(add(x, eps))))
    if full:
        several = gt(y, 1.0)
        safe = where(several, y, 1.0)
        stirling = add(sub(mul(safe, log(safe)), safe), mul(log(mul(safe, 2 * math.pi)), 0.5))
        loss = add(loss, where(several, stirling, 0.0))
    return reduce_loss(loss, reduction)


@functional
@composite
def gaussian_nll_loss(
    input: Any, target: Any, var: Any, full: bool = False, *, eps: float = 1e-6,
    reduction: str = "mean",
) -> Any:  # fmt: skip
    """Negative log likelihood of target under normal distributions: (log v + (x - y)**2 / v) / 2.

    var   variances: input's shape, or that with 1 for one size, or without the last; or a number.
          Not below eps; the gradient ignores this limit
    full  add log(2 pi) / 2
    """
    x, y = _pair("gaussian_nll_loss", input, target, reduction)
    if is_number(var):
        if var < 0:
            raise ArgumentError(f"gaussian_nll_loss: var must not be negative, got {var}")
        var = Full(tuple(x.shape), x.dtype, float(var))()
    v, shape = cast(var, x.dtype), tuple(x.shape)
    if tuple(v.shape) == shape[:-1] and shape:
        v = Reshape((*shape[:-1], 1))(v)
    others = [m for m, n in zip(v.shape, shape) if m != n]
    if len(v.shape) != len(shape) or others not in ([], [1]):
        raise ShapeError(
            f"gaussian_nll_loss: var must have input's shape {shape} or {shape[:-1]}, got "
            f"{tuple(var.shape)}"
        )
    v = add(v, Detach()(sub(clamp_min(v, eps), v)))
    d = sub(x, y)
    loss = mul(add(log(v), div(mul(d, d), v)), 0.5)
    return reduce_loss(add(loss, 0.5 * math.log(2 * math.pi)) if full else loss, reduction)


@functional
@composite
def hinge_embedding_loss(
    input: Any, target: Any, margin: float = 1.0, *, reduction: str = "mean"
) -> Any:
    """x where the target is 1, max(0, margin - x) where it is -1."""
    x, y = _pair("hinge_embedding_loss", input, target, reduction)
    far = clamp_min(sub(float(margin), x), 0.0)
    loss = add(where(eq(y, -1.0), 0.0, x), where(eq(y, 1.0), 0.0, far))
    return reduce_loss(loss, reduction)


@functional
@composite
def margin_ranking_loss(
    input1: Any, input2: Any, target: Any, margin: float = 0.0, *, reduction: str = "mean"
) -> Any:
    """max(0, -y * (x1 - x2) + margin): y = 1 wants x1 above x2, y = -1 below."""
    check_reduction("margin_ranking_loss", reduction)
    _same_shape("margin_ranking_loss", input1=input1, input2=input2, target=target)
    x1, x2, y = align("margin_ranking_loss", input1, input2, target, floating=True)
    return reduce_loss(clamp_min(sub(float(margin), mul(y, sub(x1, x2))), 0.0), reduction)


@functional
@composite
def soft_margin_loss(input: Any, target: Any, *, reduction: str = "mean") -> Any:
    """log(1 + exp(-y * x)) for y of 1 and -1."""
    x, y = _pair("soft_margin_loss", input, target, reduction)
    return reduce_loss(_softplus(neg(mul(y, x))), reduction)


@functional
@composite
def triplet_margin_loss(
    anchor: Any, positive: Any, negative: Any, margin: float = 1.0, p: float = 2.0,
    eps: float = 1e-6, swap: bool = False, *, reduction: str = "mean",
) -> Any:  # fmt: skip
    """max(0, d(anchor, positive) - d(anchor, negative) + margin) with p-norm distances of rows.

    swap  use the smaller of d(anchor, negative) and d(positive, negative)
    """
    _same_shape("triplet_margin_loss", anchor=anchor, positive=positive, negative=negative)

    def distance(x: Any, y: Any) -> Any:
        return pairwise_distance(x, y, p, eps)

    return triplet_margin_with_distance_loss(
        anchor, positive, negative, distance_function=distance, margin=margin, swap=swap,
        reduction=reduction,
    )  # fmt: skip


@functional
def triplet_margin_with_distance_loss(
    anchor: Any, positive: Any, negative: Any, *, distance_function: Any = None,
    margin: float = 1.0, swap: bool = False, reduction: str = "mean",
) -> Any:  # fmt: skip
    """triplet_margin_loss with any distance function of two tensors."""
    check_reduction("triplet_margin_loss", reduction)
    if margin <= 0:
        raise ArgumentError(f"triplet_margin_loss: margin must be positive, got {margin}")
    distance = pairwise_distance if distance_function is None else distance_function
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = minimum(far, distance(positive, negative))
    return reduce_loss(clamp_min(add(sub(near, far), float(margin)), 0.0), reduction)


@functional
@composite
def cosine_embedding_loss(
    input1: Any, input2: Any, target: Any, margin: float = 0.0, *, reduction: str = "mean"
) -> Any:
    """1 - cos where the target is 1, max(0, cos - margin) where it is -1.

    input1, input2  (N, D) or (D,); target (N,) or ()
    """
    check_reduction("cosine_embedding_loss", reduction)
    _same_shape("cosine_embedding_loss", input1=input1, input2=input2)
    if len(input1.shape) not in (1, 2) or tuple(target.shape) != tuple(input1.shape[:-1]):
        raise ShapeError(
            f"cosine_embedding_loss: inputs must be (N, D) with target (N,), or (D,) with (); got "
            f"{tuple(input1.shape)} and {tuple(target.shape)}"
        )
    x, y = align("cosine_embedding_loss", input1, input2, floating=True)
    axis = (len(x.shape) - 1,)
    lengths = mul(add(Sum(axis)(mul(x, x)), 1e-12), add(Sum(axis)(mul(y, y)), 1e-12))
    cosine = div(Sum(axis)(mul(x, y)), sqrt(lengths))
    near, far = sub(1.0, cosine), clamp_min(sub(cosine, float(margin)), 0.0)
    loss = add(where(eq(target, 1), near, 0.0), where(eq(target, -1), far, 0.0))
    return reduce_loss(loss, reduction)


@functional
@composite
def multilabel_soft_margin_loss(
    input: Any, target: Any, weight: Any = None, *, reduction: str = "mean"
) -> Any:
    """Mean over classes of binary_cross_entropy_with_logits: (N, C) -> one loss per row."""
    x, y = _pair("multilabel_soft_margin_loss", input, target, reduction)
    loss = add(mul(sub(1.0, y), x), _softplus(neg(x)))
    loss = _weighted(loss, weight)
    axis = normalize_dim("multilabel_soft_margin_loss", -1, len(x.shape))
    return reduce_loss(mul(Sum((axis,))(loss), 1.0 / x.shape[axis]), reduction)


@functional
def multilabel_margin_loss(input: Any, target: Any, *, reduction: str = "mean") -> Any:
    """Sum over a row's classes y and the others c of max(0, 1 - (x[y] - x[c])), divided by C.

    input   (N, C) or (C,)
    target  class numbers of input's shape: those of a row come first, up to the first -1
    """
    name = "multilabel_margin_loss"
    check_reduction(name, reduction)
    _same_shape(name, input=input, target=target)
    if not input.shape:  # as in PyTorch: a single class
        input, target = Reshape((1,))(input), Reshape((1,))(target)
    if len(input.shape) > 2:
        raise ShapeError(f"{name}: input must be (N, C) or (C,), got {tuple(input.shape)}")
    if target.dtype not in dt.INTS:
        raise DTypeError(f"{name}: target must be class numbers, got {target.dtype.name}")
    alone, classes = len(input.shape) == 1, input.shape[-1]
    rows = 1 if alone else input.shape[0]
    x, y = Reshape((rows, classes))(input), Reshape((rows, classes))(cast(target, dt.int64))
    valid = gt(cumprod(cast(ge(y, 0), dt.int32), 1), 0)
    cube = (rows, classes, classes)  # row, place in the target, class

    def at_place(v: Any) -> Any:
        return Expand(cube, (2,))(v)

    def at_class(v: Any) -> Any:
        return Expand(cube, (1,))(v)

    chosen = logical_and(eq(at_place(y), Iota(cube, dt.int64, 2)()), at_place(valid))
    is_target = gt(Sum((1,))(cast(chosen, dt.int32)), 0)
    own = Sum((2,))(where(chosen, at_class(x), 0.0))
    gap = clamp_min(sub(1.0, sub(at_place(own), at_class(x))), 0.0)
    counts = logical_and(at_place(valid), logical_not(at_class(is_target)))
    loss = mul(Sum((1, 2))(where(counts, gap, 0.0)), 1.0 / max(classes, 1))
    return reduce_loss(Reshape(())(loss) if alone else loss, reduction)


@functional
def multi_margin_loss(
    input: Any, target: Any, p: int = 1, margin: float = 1.0, weight: Any = None, *,
    reduction: str = "mean",
) -> Any:  # fmt: skip
    """Mean over the other classes of max(0, margin - x[y] + x[c]) ** p: (N, C) and (N,), or (C,).

    weight  (C,) factor of a row's loss by its target's class
    """
    name = "multi_margin_loss"
    check_reduction(name, reduction)
    if p not in (1, 2):
        raise ArgumentError(f"{name}: p must be 1 or 2, got {p}")
    if not input.shape and not target.shape:  # as in PyTorch: a single class
        input = Reshape((1,))(input)
    if len(input.shape) == 1 and tuple(target.shape) == (1,):
        target = Reshape(())(target)
    if len(input.shape) not in (1, 2) or tuple(target.shape) != tuple(input.shape[:-1]):
        raise ShapeError(
            f"{name}: input must be (N, C) with target (N,), or (C,) with (); got "
            f"{tuple(input.shape)} and {tuple(target.shape)}"
        )
    if target.dtype not in dt.INTS:
        raise DTypeError(f"{name}: target must be class numbers, got {target.dtype.name}")
    shape, axis = tuple(input.shape), len(input.shape) - 1
    place = Iota(shape, target.dtype, axis)()
    chosen = eq(place, broadcast_to(Reshape((*shape[:-1], 1))(target), shape))
    own = Sum((axis,))(where(chosen, input, 0.0))
    gap = clamp_min(add(sub(input, Reshape((*shape[:-1], 1))(own)), float(margin)), 0.0)
    gap = power(gap, 2) if p == 2 else gap
    if is_value(weight):
        by_class = broadcast_to(cast(weight, input.dtype), shape)
        factor = Sum((axis,))(where(chosen, by_class, 0.0))
        gap = mul(gap, Reshape((*shape[:-1], 1))(factor))
    loss = mul(Sum((axis,))(where(chosen, 0.0, gap)), 1.0 / shape[-1])
    return reduce_loss(loss, reduction)
