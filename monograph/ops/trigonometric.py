"""Trigonometric and hyperbolic functions and their inverses.

Angles are reduced to [-pi/4, pi/4] by subtracting a multiple of pi/2 in three parts, in float64 for
both formats: full accuracy for |x| up to 1.6e6 (with hardware fma, float32 up to 1e15); beyond, the
result stays in [-1, 1] but loses digits. Numbers named "fit" are minimax fits (see exponential.py).
Source of the reduction: W. J. Cody and W. Waite, "Software Manual for the Elementary Functions",
1980, and Sun's fdlibm, e_rem_pio2.c, 1993 (the parts of pi/2).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..ir.op import Elementwise, op
from .align import alias, function, public
from .arith import add_, div_, eq, mul, neg, sub_, where
from .exponential import (
    _FORMATS,
    clamped,
    copy_sign,
    exp_formula,
    expm1_formula,
    log1p_formula,
    log_formula,
    widened,
)
from .power import rsqrt

# Fits of (sin(r) - r) / r**3 and (cos(r) - 1 + r*r/2) / r**4 in powers of r*r, |r| <= pi/4.
_SIN = {
    "f32": (-0.0001951463162954082, 0.008332156052081286, -0.16666654536608802),
    "f64": (1.5895904668748047e-10, -2.5050742306327554e-08, 2.755731358760682e-06,
            -0.00019841269829495452, 0.008333333333322005, -0.1666666666666663),
}  # fmt: skip
_COS = {
    "f32": (2.4437730150435152e-05, -0.0013887361450292742, 0.04166664674776661),
    "f64": (-1.1359448620367053e-11, 2.0875719557600617e-09, -2.755731432602295e-07,
            2.48015872893949e-05, -0.001388888888887399, 0.0416666666666666),
}  # fmt: skip
# Fits of (atan(r) - r) / r**3 on [0, 1] and (asin(r) - r) / r**3 on [0, 1/2] in powers of r*r.
_ATAN = {
    "f32": (-0.0017936286810234761, 0.01091463902088605, -0.031177912806049878,
            0.05795766706341753, -0.08403455072175102, 0.10952187578541574, -0.1426424206088591,
            0.19998548322837034, -0.333332990904888),
    "f64": (1.3225288255454367e-05, -0.00015216293960446654, 0.0008313311901207884,
            -0.0028849442402506457, 0.007196551976251655, -0.013900627188535223,
            0.021984922724937236, -0.029903913508475606, 0.03664194474558184,
            -0.04219180576100126, 0.047223228212236165, -0.05253518727667998,
            0.058805278534600935, -0.06666404064116246, 0.07692279840107613,
            -0.09090907003063854, 0.11111111007030505, -0.1428571428257527, 0.19999999999951462,
            -0.3333333333333307),
}  # fmt: skip
_ASIN = {
    "f32": (0.042166452441582916, 0.02417941740918767, 0.045470398801872376, 0.0749529743459769,
            0.16666752487309808),
    "f64": (0.03262888896422532, -0.02099951563431345, 0.021707791043803302,
            0.0037062559547327025, 0.010780296823227674, 0.01139890359548097,
            0.01398082171654646, 0.01735161190482317, 0.02237221499442348, 0.03038194270751464,
            0.04464285717461814, 0.07499999999970793, 0.1666666666666676),
}  # fmt: skip
_HALF_PI = (1.57079632673412561417e00, 6.07710050630396597660e-11, 2.02226624879595063154e-21)
_HALF_PI_LOW = 6.123233995736766e-17  # pi/2 minus its nearest f64


def _quarter(s: Any, x: Any) -> tuple[Any, Any, Any]:
    """sin(r) and cos(r) of x = q * pi/2 + r, and q modulo 4 as an integer of x's size."""
    wide = s.cast(x, "f64")
    shift = 1.5 * 2.0**52
    z = s.fma(wide, 2 / math.pi, shift)
    n = z - shift
    r = wide
    for part in _HALF_PI:
        r = s.fma(n, -part, r)
    r = s.cast(clamped(s, r, -0.8, 0.8), x.dtype)
    q = s.cast(s.bitcast(z, "i64"), "i64" if x.dtype == "f64" else "i32")
    z = r * r
    sine = s.fma(r * z, s.polynomial(z, _SIN[x.dtype]), r)
    cosine = s.fma(z * z, s.polynomial(z, _COS[x.dtype]), s.fma(z, -0.5, s.const(1.0, x)))
    return sine, cosine, q


def _rotated(s: Any, x: Any, turn: int) -> Any:
    """sin(x + turn * pi/2)."""
    sine, cosine, q = _quarter(s, x)
    if turn:
        q = q + turn
    value = s.select(s.ne(q & 1, 0), cosine, sine)
    value = s.select(s.ne(q & 2, 0), -value, value)
    return s.select(s.eq(s.absolute(x), math.inf), s.const(math.nan, x), value)


def sin_formula(s: Any, x: Any) -> Any:
    """sin(x)."""
    return _rotated(s, x, 0)


def tan_formula(s: Any, x: Any) -> Any:
    """sin(x) / cos(x)."""
    sine, cosine, q = _quarter(s, x)
    odd = s.ne(q & 1, 0)
    value = s.select(odd, -cosine, sine) / s.select(odd, sine, cosine)
    return s.select(s.eq(s.absolute(x), math.inf), s.const(math.nan, x), value)


def _atan_unit(s: Any, x: Any) -> Any:
    """atan on [0, 1]."""
    z = x * x
    return s.fma(x * z, s.polynomial(z, _ATAN[x.dtype]), x)


def atan_formula(s: Any, x: Any) -> Any:
    a = s.absolute(x)
    large = a > 1.0
    y = _atan_unit(s, s.select(large, 1.0 / a, a))
    return copy_sign(s, s.select(large, (math.pi / 2 - y) + _HALF_PI_LOW, y), x)


def _asin_half(s: Any, x: Any, z: Any) -> Any:
    """asin of x in [0, 1/2], z = x * x."""
    return s.fma(x * z, s.polynomial(z, _ASIN[x.dtype]), x)


def tanh_formula(s: Any, x: Any) -> Any:
    """(e**2a - 1) / (e**2a + 1) with a = |x|, through expm1."""
    a = s.absolute(x)
    limit = 10.0 if x.dtype == "f32" else 20.0
    a = s.select(a > limit, s.const(limit, x), a)
    e = expm1_formula(s, a + a)
    return copy_sign(s, e / (e + 2.0), x)


@op
class Sin(Elementwise):
    """Sine of each element, in radians."""

    has_long_vjp = False
    accepts = dt.INEXACT
    saves = "inputs"
    onnx = "Sin"

    def reference(self, x: Any) -> Any:
        return np.sin(widened(x))

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (mul(g, cos(x)),)

    def scalar(self, s: Any, x: Any) -> Any:
        return _rotated(s, x, 0)


@op
class Cos(Elementwise):
    """Cosine of each element, in radians."""

    accepts = dt.INEXACT
    saves = "inputs"
    onnx = "Cos"

    def reference(self, x: Any) -> Any:
        return np.cos(widened(x))

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (neg(mul(g, sin(x))),)

    def scalar(self, s: Any, x: Any) -> Any:
        return _rotated(s, x, 1)


@op
class Tan(Elementwise):
    """Tangent of each element, in radians."""

    accepts = dt.INEXACT
    saves = "outputs"
    onnx = "Tan"

    def reference(self, x: Any) -> Any:
        return np.tan(widened(x))

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (mul(g, add_(mul(out, out), 1)),)

    def scalar(self, s: Any, x: Any) -> Any:
        return tan_formula(s, x)


@op
class Asin(Elementwise):
    """Arcsine of each element, in [-pi/2, pi/2]; nan outside of [-1, 1]."""

    accepts = dt.INEXACT
    saves = "inputs"
    onnx = "Asin"

    def reference(self, x: Any) -> Any:
        return np.arcsin(widened(x))

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (mul(g, rsqrt(sub_(1, mul(x, x)))),)

    def scalar(self, s: Any, x: Any) -> Any:
        a = s.absolute(x)
        large = a > 0.5
        z = s.select(large, (1.0 - a) * 0.5, a * a)
        y = _asin_half(s, s.select(large, s.sqrt(z), a), z)
        return copy_sign(s, s.select(large, math.pi / 2 - (y + y), y), x)


@op
class Acos(Elementwise):
    """Arccosine of each element, in [0, pi]; nan outside of [-1, 1]."""

    accepts = dt.INEXACT
    saves = "inputs"
    onnx = "Acos"

    def reference(self, x: Any) -> Any:
        return np.arccos(widened(x))

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (neg(mul(g, rsqrt(sub_(1, mul(x, x))))),)

    def scalar(self, s: Any, x: Any) -> Any:
        a = s.absolute(x)
        large = a > 0.5
        z = s.select(large, (1.0 - a) * 0.5, a * a)
        y = _asin_half(s, s.select(large, s.sqrt(z), a), z)
        inner = math.pi / 2 - (copy_sign(s, y, x) - _HALF_PI_LOW)
        outer = s.select(x > 0.0, y + y, math.pi - (y + y))
        return s.select(large, outer, inner)


@op
class Atan(Elementwise):
    """Arctangent of each element, in [-pi/2, pi/2]."""

    accepts = dt.INEXACT
    saves = "inputs"
    onnx = "Atan"

    def reference(self, x: Any) -> Any:
        return np.arctan(widened(x))

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (div_(g, add_(mul(x, x), 1)),)

    def scalar(self, s: Any, x: Any) -> Any:
        return atan_formula(s, x)


@op
class Atan2(Elementwise):
    """Angle of the point (x, y) = (other, input) from the positive x axis, in [-pi, pi]."""

    accepts = dt.FLOATS
    saves = "inputs"

    def reference(self, y: Any, x: Any) -> Any:
        y, x = (widened(v) if isinstance(v, np.ndarray) else v for v in (y, x))
        return np.arctan2(y, x)

    def vjp(self, g: Any, out: Any, y: Any, x: Any) -> tuple[Any, ...]:
        size = add_(mul(y, y), mul(x, x))
        return lambda: div_(mul(g, x), size), lambda: neg(div_(mul(g, y), size))

    def scalar(self, s: Any, y: Any, x: Any) -> Any:
        integer = _FORMATS[x.dtype].integer
        a, b = s.absolute(y), s.absolute(x)
        steep = a > b
        small, big = s.select(steep, b, a), s.select(steep, a, b)
        ratio = small / big
        ratio = s.select(s.eq(big, 0.0), s.const(0.0, x), ratio)
        both = s.eq(small, math.inf)
        ratio = s.select(both, s.const(1.0, x), ratio)
        angle = _atan_unit(s, ratio)
        angle = s.select(steep, (math.pi / 2 - angle) + _HALF_PI_LOW, angle)
        left = s.bitcast(x, integer) < 0
        angle = s.select(left, (math.pi - angle) + 2 * _HALF_PI_LOW, angle)
        result = copy_sign(s, angle, y)
        return s.select(s.ne(x, x) | s.ne(y, y), s.const(math.nan, x), result)


@op
class Sinh(Elementwise):
    """Hyperbolic sine of each element."""

    has_long_vjp = False
    accepts = dt.INEXACT
    saves = "inputs"

    def reference(self, x: Any) -> Any:
        return np.sinh(widened(x))

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (mul(g, cosh(x)),)

    def scalar(self, s: Any, x: Any) -> Any:
        a = s.absolute(x)
        e = expm1_formula(s, s.select(a > 1.0, s.const(1.0, x), a))
        near = 0.5 * (e + e / (e + 1.0))
        half = exp_formula(s, a, 0.5)
        return copy_sign(s, s.select(a > 1.0, half - 0.25 / half, near), x)


@op
class Cosh(Elementwise):
    """Hyperbolic cosine of each element."""

    has_long_vjp = False
    accepts = dt.INEXACT
    saves = "inputs"

    def reference(self, x: Any) -> Any:
        return np.cosh(widened(x))

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (mul(g, sinh(x)),)

    def scalar(self, s: Any, x: Any) -> Any:
        half = exp_formula(s, s.absolute(x), 0.5)
        return half + 0.25 / half


@op
class Tanh(Elementwise):
    """Hyperbolic tangent of each element, in [-1, 1]."""

    accepts = dt.INEXACT
    saves = "outputs"
    onnx = "Tanh"

    def reference(self, x: Any) -> Any:
        if np.iscomplexobj(x):
            far = np.isinf(x.real) & np.isfinite(x.imag)
            ends = np.copysign(1, x.real) + 1j * np.copysign(0, x.imag)
            return np.where(far, ends.astype(x.dtype), np.tanh(x))
        return np.tanh(widened(x))

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (mul(g, sub_(1, mul(out, out))),)

    def scalar(self, s: Any, x: Any) -> Any:
        return tanh_formula(s, x)


@op
class Asinh(Elementwise):
    """Inverse hyperbolic sine of each element."""

    accepts = dt.INEXACT
    saves = "inputs"

    def reference(self, x: Any) -> Any:
        return np.arcsinh(widened(x))

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (mul(g, rsqrt(add_(mul(x, x), 1))),)

    def scalar(self, s: Any, x: Any) -> Any:
        a = s.absolute(x)
        large = a > 1e9
        y = s.select(large, s.const(1.0, x), a)
        squared = y * y
        near = log1p_formula(s, y + squared / (1.0 + s.sqrt(squared + 1.0)))
        return copy_sign(s, s.select(large, log_formula(s, a) + math.log(2), near), x)


@op
class Acosh(Elementwise):
    """Inverse hyperbolic cosine of each element; nan below 1."""

    accepts = dt.INEXACT
    saves = "inputs"

    def reference(self, x: Any) -> Any:
        return np.arccosh(widened(x))

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (mul(g, mul(rsqrt(sub_(x, 1)), rsqrt(add_(x, 1)))),)

    def scalar(self, s: Any, x: Any) -> Any:
        large = x > 1e9
        t = s.select(large, s.const(1.0, x), x) - 1.0
        near = log1p_formula(s, t + s.sqrt(t * (t + 2.0)))
        result = s.select(large, log_formula(s, x) + math.log(2), near)
        return s.select(x < 1.0, s.const(math.nan, x), result)


@op
class Atanh(Elementwise):
    """Inverse hyperbolic tangent of each element; inf at 1, nan outside of [-1, 1]."""

    accepts = dt.INEXACT
    saves = "inputs"

    def reference(self, x: Any) -> Any:
        return np.arctanh(widened(x))

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (div_(g, sub_(1, mul(x, x))),)

    def scalar(self, s: Any, x: Any) -> Any:
        a = s.absolute(x)
        near = 0.5 * log1p_formula(s, (a + a) / (1.0 - a))
        return copy_sign(s, s.select(a > 1.0, s.const(math.nan, x), near), x)


sin = function(Sin, floating=True)
cos = function(Cos, floating=True)
tan = function(Tan, floating=True)
asin = function(Asin, floating=True)
acos = function(Acos, floating=True)
atan = function(Atan, floating=True)
atan2 = function(Atan2, floating=True)
sinh = function(Sinh, floating=True)
cosh = function(Cosh, floating=True)
tanh = function(Tanh, floating=True)
asinh = function(Asinh, floating=True)
acosh = function(Acosh, floating=True)
atanh = function(Atanh, floating=True)


arcsin, arccos, arctan = (alias("arc" + f.__name__[1:], f) for f in (asin, acos, atan))
arcsinh, arccosh, arctanh = (alias("arc" + f.__name__[1:], f) for f in (asinh, acosh, atanh))
arctan2 = alias("arctan2", atan2)


@public
def deg2rad(input: Any) -> Any:
    """Each angle from degrees to radians."""
    return mul(input, math.pi / 180)


@public
def rad2deg(input: Any) -> Any:
    """Each angle from radians to degrees."""
    return mul(input, 180 / math.pi)


@public
def sinc(input: Any) -> Any:
    """sin(pi x) / (pi x) of each element; 1 at 0.

    >>> sinc(tensor([0.0]))
    tensor([1.])
    """
    angle = mul(input, math.pi)
    zero = eq(angle, 0)
    safe = where(zero, 1.0, angle)
    return where(zero, 1.0, div_(sin(safe), safe))
