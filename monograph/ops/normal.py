"""The normal distribution's functions: ndtr, its logarithm and inverse; erfcx, entr, xlog1py."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..ir.op import Elementwise, op
from .align import as_operand, function
from .arith import eq, gt, le, logical_and, logical_or, lt, mul, ne, neg, sub, where
from .exponential import exp, exp_formula, log, log1p
from .pointwise import Pointwise, floating_operand, wide
from .special import ERFC_FIT, elementwise_of, erf_near, erfc

_ROOT_HALF = math.sqrt(0.5)


def _erfcx_of(x: float) -> float:
    if x < 5:
        if x < -26.7:
            return math.inf
        # exp(x*x) with the square in two parts
        high = math.ldexp(math.floor(math.ldexp(x, 20)), -20) if math.isfinite(x) else x
        return math.exp(high * high) * math.exp((x - high) * (x + high)) * math.erfc(x)
    if x > 1e8:
        return 1 / (x * math.sqrt(math.pi))
    # Continued fraction (DLMF 7.9.1), from its far end.
    tail = 0.0
    for k in range(120, 0, -1):
        tail = 0.5 * k / (x + tail)
    return 1 / (math.sqrt(math.pi) * (x + tail))


def erfcx_formula(s: Any, x: Any) -> Any:
    """In f64; f32 goes through it. The fit of special.py, and an asymptotic series above 28."""
    if x.dtype == "f32":
        return s.cast(erfcx_formula(s, s.cast(x, "f64")), "f32")
    a = s.absolute(x)
    b = s.select(a > 28.0, s.const(28.0, a), a)
    middle = s.polynomial((b - 3.75) / (b + 3.75), ERFC_FIT) / (2.0 * b + 1.0)
    z = 1.0 / (a * a)
    far = s.polynomial(z, (-29.53125, 6.5625, -1.875, 0.75, -0.5, 1.0)) / (a * math.sqrt(math.pi))
    c = s.select(a > 0.5, s.const(0.5, a), a)
    near = exp_formula(s, c * c) * (1.0 - erf_near(s, c))
    value = s.select(a > 28.0, far, s.select(a < 0.5, near, middle))
    left = 2.0 * exp_formula(s, x * x) - value
    value = s.select(x < 0.0, left, value)
    return s.select(s.eq(x, math.inf), s.const(0.0, x), s.select(s.ne(x, x), x, value))


@op
class Erfcx(Elementwise):
    """exp(x*x) * erfc(x) of each element: falls like 1 / x where erfc is far too small.

    Floating dtypes; integers become floating first.
    """

    accepts = dt.FLOATS
    slow_reference = True

    def reference(self, x: Any) -> Any:
        return elementwise_of(_erfcx_of, x)

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (mul(g, sub(mul(mul(x, out), 2), 2 / math.sqrt(math.pi))),)

    def scalar(self, s: Any, x: Any) -> Any:
        return erfcx_formula(s, x)


erfcx = function(Erfcx, floating=True)


@op
class Ndtri(Pointwise):
    """Inverse of ndtr: -inf at 0, inf at 1, nan outside of [0, 1]."""

    saves = "outputs"

    def reference(self, p: Any) -> Any:
        p = wide(p)
        inside = (p > 0) & (p < 1)
        q = np.where(inside, np.minimum(p, 1 - p), 0.25)
        # Newton's method for log ndtr(-y) = log q, from the leading term of its asymptotics.
        t = np.log(q)
        y = np.where(
            q < 0.1,
            np.sqrt(np.maximum(-2 * t - np.log(np.maximum(-4 * math.pi * t, 1)), 0)),
            (0.5 - q) * 2.5,
        )
        for _ in range(8):
            ratio = math.sqrt(math.pi / 2) * elementwise_of(_erfcx_of, y * _ROOT_HALF)
            y = y + (np.log(ratio / math.sqrt(2 * math.pi)) - y * y / 2 - t) * ratio
        y = np.where(p < 0.5, -y, y)
        y = np.where(p == 0.5, 0.0, y)
        edge = np.where(p == 0, -np.inf, np.where(p == 1, np.inf, np.nan))
        return np.where(inside, y, edge)

    def vjp(self, g: Any, out: Any, p: Any) -> tuple[Any, ...]:
        return (mul(g, mul(exp(mul(mul(out, out), 0.5)), math.sqrt(2 * math.pi))),)


def ndtr(input: Any) -> Any:
    """Distribution function of the standard normal distribution.

    >>> ndtr(tensor([0.0, 1.0]))
    tensor([0.5000, 0.8413])
    """
    return mul(erfc(mul(floating_operand("ndtr", input), -_ROOT_HALF)), 0.5)


def ndtri(input: Any) -> Any:
    """Inverse of ndtr: the quantile of the standard normal distribution.

    -inf at 0, inf at 1, nan outside of [0, 1].

    >>> ndtri(tensor([0.5, 0.975]))
    tensor([0.0000, 1.9600])
    """
    return Ndtri()(floating_operand("ndtri", input))


def log_ndtr(input: Any) -> Any:
    """Logarithm of ndtr, with all digits also where ndtr is tiny.

    >>> log_ndtr(tensor([-40.0]))
    tensor([-804.6085])
    """
    x = floating_operand("log_ndtr", input)
    left = lt(x, -1.0)
    y = where(left, x, -1.0)
    tail = sub(log(mul(erfcx(mul(y, -_ROOT_HALF)), 0.5)), mul(mul(y, y), 0.5))
    z = where(left, 0.0, x)
    return where(left, tail, log1p(mul(erfc(mul(z, _ROOT_HALF)), -0.5)))


def entr(input: Any) -> Any:
    """-x log(x) of each element: 0 at 0, -inf below.

    >>> entr(tensor([0.0, 0.5]))
    tensor([0.0000, 0.3466])
    """
    x = floating_operand("entr", input)
    positive = gt(x, 0)
    value = neg(mul(x, log(where(positive, x, 1.0))))
    edge = where(eq(x, 0), 0.0, where(lt(x, 0), -math.inf, x))
    return where(positive, value, edge)


def xlog1py(input: Any, other: Any) -> Any:
    """input * log(1 + other), element by element; 0 where input is 0 and other is not nan.

    >>> xlog1py(tensor([0.0, 2.0]), tensor([-1.0, 1.0]))
    tensor([0.0000, 1.3863])
    """
    y = as_operand("xlog1py", other, "other")
    infinite = logical_or(le(y, -1), eq(y, math.inf))
    product = mul(input, log1p(where(logical_and(eq(input, 0), infinite), 0.0, y)))
    return where(ne(y, y), math.nan, product)
