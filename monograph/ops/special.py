"""Error functions: erf, erfc and the inverse of erf.

Sources: the mapping (x - 3.75) / (x + 3.75) of M. M. Shepherd and J. G. Laframboise, "Chebyshev
approximation of (1 + 2x) exp(x**2) erfc(x) in 0 <= x < inf", Math. Comp. 36 (1981); the start of
erfinv from M. Giles, "Approximating the erfinv function", GPU Computing Gems 2 (2011), table 5.
Numbers named "fit" are minimax fits (see exponential.py).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..ir.op import Elementwise, op
from .align import function
from .arith import mul, neg
from .exponential import copy_sign, exp, exp_formula, log1p_formula, top_half

# Fit of erf(x) / x - 1 (f32, to 0.9) and of erf(x) / x (f64, to 1) in powers of x*x.
_ERF_F32 = (-0.0006090359315652122, 0.005011962691287945, -0.026778908850300653,
            0.11282140812116241, -0.37612523276742593, 0.12837915379718823)  # fmt: skip
_ERF_F64 = (5.94527012186484e-11, -1.1365671076023989e-09, 1.4657881207667584e-08,
            -1.6350025431996418e-07, 1.6460972837388997e-06, -1.4925593508201429e-05,
            0.00012055331036956225, -0.000854832697874383, 0.005223977624780897,
            -0.0268661706450729, 0.11283791670954857, -0.3761263890318375,
            1.1283791670955126)  # fmt: skip
# Fit of log(erfc(x)) / x on [0.8, 4] in powers of x.
_LOG_ERFC_F32 = (0.00021594014400631823, -0.003231019320377209, 0.022941275677485346,
                 -0.10534150473267678, -0.6356581874999238, -1.1285320212880912)  # fmt: skip
# Fit of (1 + 2x) exp(x*x) erfc(x) on [0.45, 28] in powers of (x - 3.75) / (x + 3.75).
ERFC_FIT = (-1.8840034179425975e-09, 2.4416893081545326e-08, 1.9359931219336435e-08,
             -2.3987043331851417e-07, -5.300585022393984e-08, 1.7372386585922542e-06,
             -9.762341899031187e-07, -1.1437228454402574e-05, 2.2385292071512212e-05,
             5.1646957193713146e-05, -0.000290154340030581, 0.0002937140911103171,
             0.0017556258919207825, -0.00974657961054665, 0.028362277415607207,
             -0.05869339858587928, 0.09230432116052019, -0.10880393014188545,
             0.08227673849014303, 0.003585415485466342, -0.14024059858554697,
             1.2375126308378275)  # fmt: skip
# Powers of w - 2.5 (center) and sqrt(w) - 3 (tail), w = -log(1 - x*x).
_ERFINV_CENTER = (2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087,
                  -0.00125372503, -0.00417768164, 0.246640727, 1.50140941)  # fmt: skip
_ERFINV_TAIL = (-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773,
                -0.0076224613, 0.00943887047, 1.00167406, 2.83297682)  # fmt: skip


def _erfc_far(s: Any, a: Any) -> Any:
    """erfc in f64 for a >= 0.45: exp(-a*a) with the square in two parts, times the fit."""
    a = s.select(a > 28.0, s.const(28.0, a), a)
    high = top_half(s, a)
    correction = (high - a) * (high + a)
    power = exp_formula(s, -(high * high))
    cubic = s.fma(correction, 1 / 6, s.const(0.5, a))
    power = s.fma(power, s.fma(correction * correction, cubic, correction), power)
    t = (a - 3.75) / (a + 3.75)
    return power * s.polynomial(t, ERFC_FIT) / (2.0 * a + 1.0)


def erf_near(s: Any, x: Any) -> Any:
    return x * s.polynomial(x * x, _ERF_F64)


def erf_formula(s: Any, x: Any) -> Any:
    """Near 0 a polynomial; else 1 - erfc."""
    a = s.absolute(x)
    if x.dtype == "f64":
        far = 1.0 - _erfc_far(s, a)
        return copy_sign(s, s.select(a > 1.0, far, erf_near(s, a)), x)
    t = s.select(a > 4.0, s.const(4.0, x), a)
    far = 1.0 - exp_formula(s, t * s.polynomial(t, _LOG_ERFC_F32))
    near = s.fma(a, s.polynomial(a * a, _ERF_F32), a)
    return copy_sign(s, s.select(a > 0.9, far, near), x)


def erfc_formula(s: Any, x: Any) -> Any:
    """In f64; f32 goes through it."""
    if x.dtype == "f32":
        return s.cast(erfc_formula(s, s.cast(x, "f64")), "f32")
    a = s.absolute(x)
    far = _erfc_far(s, a)
    far = s.select(x < 0.0, 2.0 - far, far)
    return s.select(a < 0.5, 1.0 - erf_near(s, x), far)


def erfinv_formula(s: Any, x: Any) -> Any:
    """Giles' approximation and one step of Halley's method, in f64."""
    if x.dtype == "f32":
        return s.cast(erfinv_formula(s, s.cast(x, "f64")), "f32")
    a = s.absolute(x)
    w = -log1p_formula(s, -(a * a))
    w = s.select(w > 100.0, s.const(100.0, x), w)
    center = s.polynomial(w - 2.5, _ERFINV_CENTER)
    tail = s.polynomial(s.sqrt(w) - 3.0, _ERFINV_TAIL)
    y = a * s.select(w < 5.0, center, tail)
    for _ in range(2):
        gap = s.select(a < 0.5, erf_formula(s, y) - a, (1.0 - a) - erfc_formula(s, y))
        step = gap * (0.5 * math.sqrt(math.pi)) * exp_formula(s, y * y)
        y = y - step / (y * step + 1.0)
    y = s.select(s.eq(a, 1.0), s.const(math.inf, x), y)
    y = s.select(a > 1.0, s.const(math.nan, x), y)
    return copy_sign(s, s.select(s.eq(a, 0.0), a, y), x)


def elementwise_of(f: Any, x: Any) -> Any:
    """A function of a Python float on each element of an array."""
    flat = np.asarray(x, np.float64).ravel().tolist()
    return np.fromiter(map(f, flat), np.float64, len(flat)).reshape(np.shape(x))


@op
class Erf(Elementwise):
    """Error function of each element: 2 / sqrt(pi) times the integral of exp(-t*t) from 0 to x.

    In [-1, 1]. Floating dtypes; integers become floating first.
    """

    accepts = dt.FLOATS
    slow_reference = True
    saves = "inputs"
    onnx = "Erf"

    def reference(self, x: Any) -> Any:
        return elementwise_of(math.erf, x)

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (mul(g, mul(exp(neg(mul(x, x))), 2 / math.sqrt(math.pi))),)

    def scalar(self, s: Any, x: Any) -> Any:
        return erf_formula(s, x)


@op
class Erfc(Elementwise):
    """1 - erf of each element, without cancellation: exact digits also where it is tiny."""

    accepts = dt.FLOATS
    slow_reference = True
    saves = "inputs"

    def reference(self, x: Any) -> Any:
        return elementwise_of(math.erfc, x)

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (mul(g, mul(exp(neg(mul(x, x))), -2 / math.sqrt(math.pi))),)

    def scalar(self, s: Any, x: Any) -> Any:
        return erfc_formula(s, x)


def _erfinv_of(x: float) -> float:
    if not -1 < x < 1:
        return math.copysign(math.inf, x) if abs(x) == 1 else math.nan
    a = abs(x)
    low, high = 0.0, 6.0
    # Bisection to a bracket, then Newton: slow and without constants to get wrong.
    for _ in range(20):
        middle = (low + high) / 2
        if (math.erf(middle) < a) if a < 0.5 else (math.erfc(middle) > 1 - a):
            low = middle
        else:
            high = middle
    y = (low + high) / 2
    for _ in range(4):
        gap = math.erf(y) - a if a < 0.5 else (1 - a) - math.erfc(y)
        y -= gap * math.sqrt(math.pi) / 2 * math.exp(y * y)
    return math.copysign(y, x)


@op
class Erfinv(Elementwise):
    """Inverse of erf, element by element: inf at 1, nan outside of [-1, 1]."""

    accepts = dt.FLOATS
    slow_reference = True
    saves = "outputs"

    def reference(self, x: Any) -> Any:
        return elementwise_of(_erfinv_of, x)

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (mul(g, mul(exp(mul(out, out)), math.sqrt(math.pi) / 2)),)

    def scalar(self, s: Any, x: Any) -> Any:
        return erfinv_formula(s, x)


erf = function(Erf, floating=True)
erfc = function(Erfc, floating=True)
erfinv = function(Erfinv, floating=True)
