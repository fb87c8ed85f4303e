"""The logarithm of the gamma function and its derivatives.

All are computed in float64: the argument is moved above 8 by the recurrence, where an asymptotic
series holds; negative arguments are reflected. Source: NIST Digital Library of Mathematical
Functions, 5.5 (recurrence, reflection), 5.11 (Stirling's series), 5.15 and 25.11 (polygamma).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.errors import ArgumentError
from ..core.shape import is_number
from ..ir.op import Elementwise, is_value, op
from .align import as_operand, cast, function, public
from .arith import mul
from .exponential import copy_sign, log_formula
from .special import elementwise_of
from .trigonometric import sin_formula, tan_formula

# Bernoulli numbers B2, B4, ... B14.
BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6)
SHIFT = 8


def _in_double(s: Any, x: Any, formula: Any) -> Any:
    return s.cast(formula(s, s.cast(x, "f64")), x.dtype)


def _whole(s: Any, x: Any) -> Any:
    return s.eq(s.floor(x), x)


def _lgamma(s: Any, x: Any) -> Any:
    y = s.select(x < 0.5, 1.0 - x, x)
    product = s.const(1.0, x)
    for _ in range(SHIFT):
        small = y < float(SHIFT)
        product = s.select(small, product * y, product)
        y = s.select(small, y + 1.0, y)
    z = 1.0 / (y * y)
    terms = [b / (2 * k * (2 * k - 1)) for k, b in enumerate(BERNOULLI, 1)]
    log_y = log_formula(s, y)
    series = s.polynomial(z, tuple(reversed(terms))) / y + 0.5 * math.log(2 * math.pi)
    value = y * (log_y - 1.0) - 0.5 * log_y + series - log_formula(s, product)
    r = x - s.rounded(x)
    mirror = math.log(math.pi) - log_formula(s, s.absolute(sin_formula(s, r * math.pi))) - value
    value = s.select(x < 0.5, mirror, value)
    value = s.select(s.eq(x, 1.0) | s.eq(x, 2.0), s.const(0.0, x), value)
    pole = (x < 0.5) & _whole(s, x)
    return s.select(pole | s.eq(s.absolute(x), math.inf), s.const(math.inf, x), value)


def _digamma(s: Any, x: Any) -> Any:
    y = s.select(x < 0.5, 1.0 - x, x)
    total = s.const(0.0, x)
    for _ in range(SHIFT):
        small = y < float(SHIFT)
        total = s.select(small, total - 1.0 / y, total)
        y = s.select(small, y + 1.0, y)
    z = 1.0 / (y * y)
    terms = [b / (2 * k) for k, b in enumerate(BERNOULLI, 1)]
    value = total + log_formula(s, y) - 0.5 / y - z * s.polynomial(z, tuple(reversed(terms)))
    mirror = value - math.pi / tan_formula(s, (x - s.rounded(x)) * math.pi)
    value = s.select(x < 0.5, mirror, value)
    value = s.select((x < 0.0) & _whole(s, x), s.const(math.nan, x), value)
    return s.select(s.eq(x, 0.0), copy_sign(s, s.const(math.inf, x), -x), value)


def _raised(x: Any, n: int) -> Any:
    """x to the power of a small whole number."""
    result = None
    while n:
        if n & 1:
            result = x if result is None else result * x
        x, n = x * x, n >> 1
    return result


def _zeta_terms(n: int) -> list[float]:
    """Coefficients of the tail of sum (x + k)**-(n+1) in powers of x**-2, after the first two."""
    found, rising = [], float(n + 1)
    for k, b in enumerate(BERNOULLI, 1):
        found.append(b * rising / math.factorial(2 * k))
        rising *= (n + 2 * k) * (n + 2 * k + 1)
    return found


def _polygamma_with(n: int, shift: int, total: Any, y: Any, tail: Any) -> Any:
    """(-1)**(n+1) n! times the sum from y, whose first `shift` terms are summed one by one."""
    for _ in range(shift):
        total = total + 1.0 / _raised(y, n + 1)
        y = y + 1.0
    inverse = 1.0 / y
    power = _raised(inverse, n)
    rest = power * (1.0 / n) + power * inverse * 0.5
    rest = rest + power * inverse * inverse * tail(inverse * inverse)
    return (total + rest) * float((-1) ** (n + 1) * math.factorial(n))


@op
class Lgamma(Elementwise):
    """Logarithm of the absolute value of the gamma function; inf at 0, -1, -2, ...

    Near 1 and 2, where it is 0, the error is absolute: some 1e-15 in float64.
    """

    accepts = dt.FLOATS
    slow_reference = True
    saves = "inputs"

    def reference(self, x: Any) -> Any:
        return elementwise_of(_lgamma_of, x)

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (mul(g, digamma(x)),)

    def scalar(self, s: Any, x: Any) -> Any:
        return _in_double(s, x, _lgamma)


def _lgamma_of(x: float) -> float:
    if math.isinf(x) or (x <= 0 and x == math.floor(x)):
        return math.inf
    try:
        return math.lgamma(x)
    except OverflowError:
        return math.inf


@op
class Digamma(Elementwise):
    """Derivative of lgamma; -inf at 0, nan at -1, -2, ..."""

    accepts = dt.FLOATS
    slow_reference = True
    saves = "inputs"

    def reference(self, x: Any) -> Any:
        return elementwise_of(_digamma_of, x)

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (mul(g, Polygamma(1)(x)),)

    def scalar(self, s: Any, x: Any) -> Any:
        return _in_double(s, x, _digamma)


def _digamma_of(x: float) -> float:
    if x == 0:
        return -math.copysign(math.inf, x)
    if not math.isfinite(x) or (x < 0 and x == math.floor(x)):
        return math.inf if x == math.inf else math.nan
    if x < 0:
        r = x - round(x)
        return _digamma_of(1 - x) - math.pi / math.tan(math.pi * r)
    terms = []
    while x < 16:
        terms.append(-1 / x)
        x += 1
    terms += [-b / (2 * k) * (1 / x / x) ** k for k, b in enumerate(BERNOULLI, 1)]
    return math.fsum([*terms, math.log(x), -0.5 / x])


def _cotangent_terms(n: int) -> list[float]:
    """The n-th derivative of cot(pi x) as a polynomial of cot(pi x), lowest power first."""
    terms = [0.0, 1.0]
    for _ in range(n):
        slope = [k * c for k, c in enumerate(terms)][1:]
        lifted = [*slope, 0.0, 0.0]
        shifted = [0.0, 0.0, *slope]
        terms = [-math.pi * (a + b) for a, b in zip(lifted, shifted)]
    return [math.pi * c for c in terms]


@op
class Polygamma(Elementwise):
    """The n-th derivative of digamma, n >= 1; infinite at 0, -1, -2, ..."""

    n: int
    accepts = dt.FLOATS
    slow_reference = True
    saves = "inputs"

    def reference(self, x: Any) -> Any:
        x = np.asarray(x, np.float64)
        n, shift = self.n, 16

        def tail(z: Any) -> Any:
            return sum(c * z**k for k, c in enumerate(_zeta_terms(n)))

        reflect = x < 0
        y = np.where(reflect, 1 - x, x)
        value = _polygamma_with(n, shift, np.zeros_like(y), y, tail)
        cotangent = 1 / np.tan(np.pi * (x - np.rint(x)))
        mirror = np.polynomial.polynomial.polyval(cotangent, _cotangent_terms(n))
        value = np.where(reflect, (-1) ** n * value - mirror, value)
        value = np.where((x <= 0) & (x == np.floor(x)), (-1) ** (n + 1) * np.inf, value)
        return np.where(x == np.inf, 0.0, np.where(x == -np.inf, np.nan, value))

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (mul(g, Polygamma(self.n + 1)(x)),)

    def scalar(self, s: Any, x: Any) -> Any:
        return _in_double(s, x, self._formula)

    def _formula(self, s: Any, x: Any) -> Any:
        n, zero = self.n, s.const(0.0, "f64")
        terms = tuple(reversed(_zeta_terms(n)))
        y = s.select(x < 0.0, 1.0 - x, x)
        value = _polygamma_with(n, 12, zero, y, lambda z: s.polynomial(z, terms))
        cotangent = 1.0 / tan_formula(s, (x - s.rounded(x)) * math.pi)
        mirror = s.polynomial(cotangent, tuple(reversed(_cotangent_terms(n))))
        value = s.select(x < 0.0, value * float((-1) ** n) - mirror, value)
        pole = s.const(math.copysign(math.inf, (-1) ** (n + 1)), "f64")
        value = s.select((x <= 0.0) & _whole(s, x), pole, value)
        value = s.select(s.eq(x, math.inf), zero, value)
        return s.select(s.eq(x, -math.inf), s.const(math.nan, "f64"), value)


lgamma = function(Lgamma, floating=True)
digamma = function(Digamma, floating=True)


@public
def polygamma(n: int, input: Any) -> Any:
    """The n-th derivative of digamma at each element; n = 0 is digamma itself.

    The arguments may be exchanged: x.polygamma(n).

    >>> polygamma(1, tensor([1.0]))
    tensor([1.6449])
    """
    if is_value(n) and not is_number(n):
        n, input = input, n
    if n < 0:
        raise ArgumentError(f"polygamma: n must not be negative, got {n}")
    x = as_operand("polygamma", input)
    x = x if x.dtype.is_floating_point else cast(x, dt.get_default_dtype())
    return digamma(x) if n == 0 else Polygamma(int(n))(x)
