"""Incomplete gamma functions and Hurwitz' zeta function, computed in float64.

Source: NIST Digital Library of Mathematical Functions, 8.7.1 (power series), 8.9.2 (continued
fraction), 25.11.5 (zeta by the Euler-Maclaurin formula).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core.errors import ArgumentError, GradError
from ..core.shape import as_index
from ..ir.op import op
from .align import public
from .arith import add, mul, neg, sub
from .exponential import exp, log
from .gamma import BERNOULLI, Lgamma, lgamma
from .pointwise import Pointwise, floating_operand, operands, wide

_STEPS = 20_000  # bounds the series; it takes about six roots of the larger argument


def _factor(a: Any, x: Any) -> Any:
    """x**a exp(-x) / gamma(a)."""
    return np.exp(a * np.log(x) - x - Lgamma().reference(a))


def _series(a: Any, x: Any) -> Any:
    term = total = 1 / a
    k = a
    for _ in range(_STEPS):
        k = k + 1
        term = term * x / k
        total = total + term
        if not (np.abs(term) > 1e-17 * np.abs(total)).any():
            break
    return total * _factor(a, x)


def _fraction(a: Any, x: Any) -> Any:
    """The upper part, by Lentz's method."""
    b = x + 1 - a
    c, d = np.full_like(x, 1e300), 1 / b
    h = d
    for i in range(1, _STEPS):
        step = -i * (i - a)
        b = b + 2
        d = 1 / (step * d + b)
        c = b + step / c
        h = h * (d * c)
        if not (np.abs(d * c - 1) > 1e-16).any():
            break
    return h * _factor(a, x)


def regularised(a: Any, x: Any, upper: bool) -> Any:
    """The lower (or upper) incomplete gamma function over gamma(a)."""
    a, x = wide(a), wide(x)
    out = np.full(a.shape, np.nan)  # of the lower function
    other = np.full(a.shape, np.nan)
    good = (a > 0) & (x > 0) & np.isfinite(a) & np.isfinite(x)
    small = good & (x < a + 1)
    large = good & ~small
    if small.any():
        out[small] = _series(a[small], x[small])
        other[small] = 1 - out[small]
    if large.any():
        other[large] = _fraction(a[large], x[large])
        out[large] = 1 - other[large]
    one = ((a == 0) & (x > 0)) | ((x == np.inf) & (a >= 0) & np.isfinite(a))
    zero = ((x == 0) & (a > 0)) | ((a == np.inf) & (x >= 0) & np.isfinite(x))
    for mask, value in ((one, 1.0), (zero, 0.0)):
        out[mask], other[mask] = value, 1 - value
    return other if upper else out


def _no_gradient(name: str) -> Any:
    """What stands for the cotangent of the first argument: it raises where it is wanted."""

    def cotangent() -> Any:
        raise GradError(f"{name}: there is no gradient for the first argument", hint="detach() it")

    return cotangent


class _Incomplete(Pointwise):
    """Base of the two; the gradient is for x only, as in PyTorch."""

    saves = "inputs"
    upper = False

    def reference(self, a: Any, x: Any) -> Any:
        return regularised(a, x, self.upper)

    def vjp(self, g: Any, out: Any, a: Any, x: Any) -> tuple[Any, ...]:
        slope = exp(sub(sub(mul(sub(a, 1), log(x)), x), lgamma(a)))
        return _no_gradient("igamma"), mul(g, neg(slope) if self.upper else slope)


@op
class GammaP(_Incomplete):
    """Lower incomplete gamma function of (a, x) over gamma(a)."""

    name = "gamma_p"


@op
class GammaQ(_Incomplete):
    """Upper incomplete gamma function of (a, x) over gamma(a)."""

    name = "gamma_q"
    upper = True


@op
class Zeta(Pointwise):
    """Hurwitz' zeta function: the sum of (q + k)**-x over k = 0, 1, ...; the gradient is for q."""

    saves = "inputs"

    def reference(self, x: Any, q: Any) -> Any:
        x, q = wide(x), wide(q)
        whole = q == np.floor(q)
        bad = (x < 1) | np.isnan(x) | np.isnan(q) | ((q <= 0) & ~whole & (x != np.floor(x)))
        pole = (x == 1) | ((q <= 0) & whole)
        good = ~bad & ~pole
        s, y = np.where(good, x, 2.0), np.where(good, q, 1.0)
        total = np.zeros(s.shape)
        start = 12 + np.minimum(s, 2000)  # from where the formula holds
        for _ in range(int(min(np.max(start - y, initial=0), _STEPS)) + 1):
            near = y < start
            total = total + np.where(near, y**-s, 0.0)
            y = np.where(near, y + 1, y)
        total = total + y ** (1 - s) / (s - 1) + 0.5 * y**-s
        rising = s
        for k, b in enumerate(BERNOULLI, 1):
            total = total + b * rising / math.factorial(2 * k) * y ** (1 - s - 2 * k)
            rising = rising * (s + 2 * k - 1) * (s + 2 * k)
        total = np.where(pole, np.inf, total)
        return np.where(bad, np.nan, total)

    def vjp(self, g: Any, out: Any, x: Any, q: Any) -> tuple[Any, ...]:
        return _no_gradient("zeta"), mul(g, neg(mul(x, Zeta()(add(x, 1), q))))


@public
def igamma(input: Any, other: Any) -> Any:
    """Lower incomplete gamma function over gamma(input), from 0 to `other`; both at least 0.

    The gradient is for `other` only (GradError otherwise).

    >>> igamma(tensor(1.0), tensor(2.0))
    tensor(0.8647)
    """
    return GammaP()(*operands("igamma", input, other))


@public
def igammac(input: Any, other: Any) -> Any:
    """Upper incomplete gamma function over gamma(input): 1 - igamma, without cancellation."""
    return GammaQ()(*operands("igammac", input, other))


def zeta(input: Any, other: Any) -> Any:
    """Hurwitz' zeta function: the sum of (other + k)**-input over k = 0, 1, 2, ...

    inf at its poles, nan where it is not defined. The gradient is for `other` only (GradError
    otherwise).

    >>> zeta(tensor(2.0), tensor(1.0))
    tensor(1.6449)
    """
    return Zeta()(*operands("zeta", input, other))


@public
def mvlgamma(input: Any, p: int) -> Any:
    """Logarithm of the multivariate gamma function of dimension p, element by element.

    input  larger than (p - 1) / 2 (elsewhere the logarithm is of absolute values)

    >>> mvlgamma(tensor([2.0]), 1)
    tensor([0.])
    """
    p = as_index("mvlgamma", "p", p)
    if p < 1:
        raise ArgumentError(f"mvlgamma: p must be at least 1, got {p}")
    x = floating_operand("mvlgamma", input)
    total = None
    for j in range(p):
        term = lgamma(sub(x, j / 2))
        total = term if total is None else add(total, term)
    return add(total, p * (p - 1) / 4 * math.log(math.pi))
