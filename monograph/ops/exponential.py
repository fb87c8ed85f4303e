"""Exponentials, logarithms and the sigmoid, with the scalar formulas that other families build on.

The formulas are branch-free: every path is evaluated and `select` picks. They use no library call,
so each target gets them from the closed set of scalar operations. Numbers named "fit" are minimax
fits (Remez exchange in 45 digits) of the function on the reduced range; tests/ops/test_accuracy.py
measures the result in units in the last place (ulp).

Sources: W. J. Cody and W. Waite, "Software Manual for the Elementary Functions", 1980 (range
reduction with a constant in two parts); Sun's fdlibm, e_log.c, 1993 (the logarithm's series in
f / (2 + f) and its coefficients).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..ir.op import Elementwise, op
from . import arith
from .align import align, function, public
from .arith import add_, div_, mul, neg, sub_
from .parts import RealPart

# -- scalar formulas -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Format:
    """Constants of one floating format for the formulas below."""

    integer: str  # integer dtype of the same size
    mantissa: int  # bits of the stored significand
    bias: int  # of the exponent
    round: float  # x + round - round is x rounded to an integer, for small x
    ln2_hi: float  # ln 2 = hi + lo; hi has enough zeros at its end for exact products
    ln2_lo: float
    exp_low: float  # exp(x) is 0 below, infinite above `exp_high`
    exp_normal: float  # and subnormal below
    exp_high: float
    exp2_low: float
    exp2_high: float
    exp: tuple[float, ...]  # fit of (e**r - 1 - r) / r**2 on |r| <= ln 2
    expm1_low: float  # e**x - 1 is -1 below
    expm1: tuple[float, ...]  # the same on |r| <= ln(2) / 2
    exp2: tuple[float, ...]  # fit of 2**r on |r| <= 1/2 that is 1 at 0
    sqrt_half: int  # the bits of sqrt(1/2)
    log: tuple[float, ...]  # (log(m) - 2 s) / s in powers of s*s, s = (m-1) / (m+1)
    smallest: float  # normal number
    log10_2_hi: float
    log10_2_lo: float
    log2e_hi: float
    log2e_lo: float


_FORMATS = {
    "f32": _Format(
        integer="i32", mantissa=23, bias=127, round=1.5 * 2.0**23,
        ln2_hi=0.693145751953125, ln2_lo=1.4286068203094173e-06,
        exp_low=-104.0, exp_normal=-87.0, exp_high=90.0, exp2_low=-151.0, exp2_high=129.0,
        exp=(0.00019612470420735928, 0.0014104300767971878, 0.008336094197738316,
             0.04166127662981982, 0.16666614343396718, 0.5000003456369404),
        expm1_low=-18.0,
        expm1=(0.0013882730525733408, 0.008366517775568601, 0.041667197406028984,
               0.16666543641538079, 0.499999981591714),
        exp2=(0.00015594677424896907, 0.00134066439008385494, 0.00961769297520140847,
              0.055503105510094496, 0.240226527828754359, 0.693147214968030372, 1.0),
        sqrt_half=0x3F3504F3,
        log=(0.24279078841, 0.28498786688, 0.40000972152, 0.66666662693),
        smallest=2.0**-126,
        log10_2_hi=0.301025390625, log10_2_lo=4.605038981195214e-06,
        log2e_hi=1.44268798828125, log2e_lo=7.05260771340736e-06,
    ),
    "f64": _Format(
        integer="i64", mantissa=52, bias=1023, round=1.5 * 2.0**52,
        ln2_hi=6.93147180369123816490e-01, ln2_lo=1.90821492927058770002e-10,
        exp_low=-746.0, exp_normal=-708.0, exp_high=711.0, exp2_low=-1080.0, exp2_high=1025.0,
        exp=(1.5936157084383199e-10, 2.1062299244842997e-09, 2.505502425173041e-08,
             2.755615845207232e-07, 2.7557300706146932e-06, 2.4801590828025947e-05,
             0.00019841269892625148, 0.001388888888358109, 0.00833333333327011,
             0.04166666666670205, 0.16666666666666935, 0.4999999999999993),
        expm1_low=-40.0,
        expm1=(2.0875681210197445e-09, 2.5108974167811896e-08, 2.755740157469115e-07,
               2.755724438647852e-06, 2.4801587173710385e-05, 0.00019841269885955055,
               0.0013888888888961815, 0.008333333333321695, 0.04166666666666651,
               0.16666666666666677, 0.5),
        exp2=(4.0780691131926103e-10, 7.07257043160027754e-09, 1.01806476793053339e-07,
              1.3215442675226286e-06, 1.525272738514155e-05, 0.00015403530441572311,
              0.0013333558153440025, 0.009618129107607002, 0.055504108664790394,
              0.24022650695910098, 0.6931471805599457, 1.0),
        sqrt_half=0x3FE6A09E667F3BCD,
        log=(1.479819860511658591e-01, 1.531383769920937332e-01, 1.818357216161805012e-01,
             2.222219843214978396e-01, 2.857142874366239149e-01, 3.999999999940941908e-01,
             6.666666666666735130e-01),
        smallest=2.0**-1022,
        log10_2_hi=0.30102999560767785, log10_2_lo=5.630334806675098e-11,
        log2e_hi=1.4426950407214463, log2e_lo=1.6751713164886512e-10,
    ),
}  # fmt: skip


def clamped(s: Any, x: Any, low: float, high: float) -> Any:
    """x within [low, high]; nan stays."""
    x = s.select(x > high, s.const(high, x), x)
    return s.select(x < low, s.const(low, x), x)


def copy_sign(s: Any, size: Any, sign: Any) -> Any:
    """|size| with the sign bit of `sign`."""
    integer = _FORMATS[size.dtype].integer
    bits = 31 if integer == "i32" else 63
    top = s.const(-(1 << bits), integer)
    rest = s.const((1 << bits) - 1, integer)
    joined = (s.bitcast(size, integer) & rest) | (s.bitcast(sign, integer) & top)
    return s.bitcast(joined, size.dtype)


def _power_of_two(s: Any, rounded: Any, c: _Format) -> Any:
    """2**m where `rounded` is m + c.round + bias: its low bits are the exponent field."""
    return s.bitcast(s.bitcast(rounded, c.integer) << c.mantissa, rounded.dtype)


def _exp_of(s: Any, half: Any, r_of: Any, dtype: str, scale: float = 1.0) -> Any:
    """e**r * 4**m * scale with m = round(half) and r = r_of(m).

    Two equal factors 2**m keep m in range of the exponent for every finite result, subnormal ones
    too; the price is a polynomial on |r| <= ln 2 instead of half of it.
    """
    c = _FORMATS[dtype]
    z = half(c.round + c.bias)
    r = r_of(z - (c.round + c.bias))
    power = _power_of_two(s, z, c)
    p = s.polynomial(r, (*c.exp, 1.0, 1.0)) * power
    return p * (power if scale == 1.0 else power * scale)


def exp_formula(s: Any, x: Any, scale: float = 1.0, normal: bool = False) -> Any:
    """scale * e**x. 19 operations in f32.

    normal: 18, and no result below the smallest normal number, for what adds it to a larger one:
    subnormal numbers take processors ten times as long, also where they are rounded to 0.
    """
    c = _FORMATS[x.dtype]
    if normal:
        x = clamped(s, x, c.exp_normal, c.exp_high)
    else:
        vanishes = x < c.exp_low
        x = s.select(vanishes, s.const(0.0, x), x)
        x = s.select(x > c.exp_high, s.const(c.exp_high, x), x)

    def reduced(m: Any) -> Any:
        return s.fma(m, -2 * c.ln2_lo, s.fma(m, -2 * c.ln2_hi, x))

    e = _exp_of(s, lambda k: s.fma(x, 0.5 / math.log(2), k), reduced, x.dtype, scale)
    return e if normal else s.select(vanishes, s.const(0.0, e), e)


def exp2_formula(s: Any, x: Any) -> Any:
    """2**x; exact where x is an integer."""
    c = _FORMATS[x.dtype]
    x = clamped(s, x, c.exp2_low, c.exp2_high)
    return _exp_of(
        s, lambda k: s.fma(x, 0.5, k), lambda m: s.fma(m, -2.0, x) * math.log(2), x.dtype
    )


def exp2_below(s: Any, x: Any) -> Any:
    """2**x for x < 64, exact at 0; 0 where the result would be subnormal. 12 operations in f32.

    For softmax: its arguments are differences from a maximum or from the logarithm of a sum.
    """
    c = _FORMATS[x.dtype]
    x = s.select(x < -c.bias, s.const(float(-c.bias), x), x)
    shift = c.round + c.bias
    z = x + shift
    return s.polynomial(x - (z - shift), c.exp2) * _power_of_two(s, z, c)


def expm1_formula(s: Any, x: Any) -> Any:
    """e**x - 1 without cancellation near 0."""
    c = _FORMATS[x.dtype]
    y = clamped(s, x, c.expm1_low, c.exp_high - 1.0)
    shift = c.round + (c.bias - 1)
    z = s.fma(y, 1 / math.log(2), shift)
    n = z - shift
    r = s.fma(n, -c.ln2_lo, s.fma(n, -c.ln2_hi, y))
    q = s.fma(r * r, s.polynomial(r, c.expm1), r)
    half = _power_of_two(s, z, c)  # 2**(n - 1): 2**n would overflow one step too early
    result = s.fma(half, q, half - 0.5) * 2.0
    return s.select(s.eq(x, 0.0), x, result)


def _log_parts(s: Any, x: Any) -> tuple[Any, Any, Any]:
    """k, f, t with log(x) = k*log(2) + (f - t) and |f| small, for positive finite x."""
    c = _FORMATS[x.dtype]
    tiny = x < c.smallest
    x = s.select(tiny, x * 2.0**54, x)
    bits = s.bitcast(x, c.integer)
    k = (bits - s.const(c.sqrt_half, c.integer)) >> c.mantissa
    m = s.bitcast(bits - (k << c.mantissa), x.dtype)
    if c.integer == "i32":
        k = s.cast(k, x.dtype)
    else:  # AVX2 converts no i64: add the bits of 1.5 * 2**52 and subtract it as a float
        k = s.bitcast(k + s.const(0x4338000000000000, "i64"), "f64") - c.round
    k = s.select(tiny, k - 54.0, k)
    f = m - 1.0
    ratio = f / (f + 2.0)
    z = ratio * ratio
    half = 0.5 * f * f
    series = z * s.polynomial(z, c.log)
    return k, f, half - ratio * (half + series)


def _log_edges(s: Any, x: Any, result: Any) -> Any:
    """log's values at and below 0, at infinity and at nan."""
    outside = s.select(s.eq(x, 0.0), s.const(-math.inf, x), s.const(math.nan, x))
    result = s.select(x > 0.0, result, outside)
    return s.select(s.eq(x, math.inf), x, result)


def log_formula(s: Any, x: Any) -> Any:
    """Natural logarithm; subnormal inputs are scaled first."""
    c = _FORMATS[x.dtype]
    k, f, t = _log_parts(s, x)
    rest = f - s.fma(k, -c.ln2_lo, t)
    return _log_edges(s, x, s.fma(k, c.ln2_hi, rest))


def split_log(s: Any, x: Any) -> tuple[Any, Any]:
    """log(x) in f64 as high + low, high with at most 26 bits: some 8 bits more than one float.

    log(m) = 2 r + 2 r**3 / 3 + ... with r = f / (2 + f) = r_high + r_low: the leading term is kept
    in two parts, the series is small beside it.
    """
    c = _FORMATS["f64"]
    k, f, _ = _log_parts(s, x)
    below = f + 2.0
    ratio = f / below
    high = top_half(s, ratio)
    below_high = top_half(s, below)
    below_low = f - (below_high - 2.0)
    low = ((f - high * below_high) - high * below_low) / below
    z = ratio * ratio
    series = ratio * (z * s.polynomial(z, c.log))
    parts = 2.0 * high, 2.0 * low + series
    # k * ln2_hi is exact; add the three parts, largest first, keeping what is lost.
    main = k * c.ln2_hi
    total = main + parts[0]
    lost = (main - total) + parts[0]
    rest = (lost + parts[1]) + k * c.ln2_lo
    result = total + rest
    high = top_half(s, result)
    low = (total - high) + rest
    result = _log_edges(s, x, result)
    finite = (x > 0.0) & (x < math.inf)
    zero = s.const(0.0, x)
    return s.select(finite, high, result), s.select(finite, low, zero)


def top_half(s: Any, x: Any) -> Any:
    """An f64 with the lower 27 bits of its significand cleared: products of two are exact."""
    return s.bitcast(s.bitcast(x, "i64") & s.const(-(1 << 27), "i64"), "f64")


def log2_formula(s: Any, x: Any) -> Any:
    """Logarithm to base 2; exact at powers of two."""
    c = _FORMATS[x.dtype]
    k, f, t = _log_parts(s, x)
    y = f - t
    return _log_edges(s, x, s.fma(y, c.log2e_hi, y * c.log2e_lo) + k)


def log10_formula(s: Any, x: Any) -> Any:
    """Logarithm to base 10."""
    c = _FORMATS[x.dtype]
    k, f, t = _log_parts(s, x)
    rest = s.fma(f - t, 1 / math.log(10), k * c.log10_2_lo)
    return _log_edges(s, x, s.fma(k, c.log10_2_hi, rest))


def log1p_formula(s: Any, x: Any) -> Any:
    """log(1 + x) without cancellation near 0: what 1 + x lost in rounding is put back."""
    c = _FORMATS[x.dtype]
    u = x + 1.0
    lost = (x - (u - 1.0)) / u
    k, f, t = _log_parts(s, u)
    rest = f - (t - s.fma(k, c.ln2_lo, lost))
    result = _log_edges(s, u, s.fma(k, c.ln2_hi, rest))
    return s.select(s.eq(x, 0.0), x, result)


def sigmoid_formula(s: Any, x: Any) -> Any:
    """1 / (1 + e**-x)."""
    return 1.0 / (exp_formula(s, -x, normal=True) + 1.0)


def widened(x: Any) -> Any:
    """16-bit floats as float32: references compute in it and round once at the end."""
    return x.astype(np.float32) if x.dtype.itemsize == 2 and x.dtype.kind not in "iu" else x


# -- operations ------------------------------------------------------------------------------------


@op
class Exp(Elementwise):
    """e to the power of each element. Overflows to inf, underflows gradually to 0."""

    has_long_vjp = False
    accepts = dt.INEXACT
    saves = "outputs"
    onnx = "Exp"

    def reference(self, x: Any) -> Any:
        return np.exp(widened(x))

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (mul(g, out),)

    def scalar(self, s: Any, x: Any) -> Any:
        return exp_formula(s, x)


@op
class Exp2(Elementwise):
    """2 to the power of each element."""

    accepts = dt.INEXACT
    saves = "outputs"

    def reference(self, x: Any) -> Any:
        return np.exp(x * math.log(2)) if x.dtype.kind == "c" else np.exp2(widened(x))

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (mul(g, mul(out, math.log(2))),)

    def scalar(self, s: Any, x: Any) -> Any:
        return exp2_formula(s, x)


def _complex_expm1(x: Any) -> Any:
    """expm1(a) cos b - 2 sin(b / 2)**2 + i exp(a) sin b at a + ib, with the limits of C99."""
    a, b = x.real, x.imag
    with np.errstate(all="ignore"):
        real = np.expm1(a) * np.cos(b) - 2 * np.sin(b / 2) ** 2 + 0.0
        imag = np.exp(a) * np.sin(b)
        straight, unknown = b == 0, ~np.isfinite(b)
        imag = np.where(straight, b, imag)
        real = np.where(straight, np.expm1(a) + 0.0, real)
        real = np.where(unknown & (a == np.inf), np.inf, real)
        none = a == -np.inf
        real, imag = np.where(none, -1, real), np.where(none, np.copysign(0, b), imag)
    out = np.empty_like(x)
    out.real, out.imag = real, np.where(none & np.isnan(b), 0, imag)
    return out


@op
class Expm1(Elementwise):
    """e to the power of each element, minus 1; precise near 0."""

    accepts = dt.INEXACT
    saves = "outputs"

    def reference(self, x: Any) -> Any:
        return _complex_expm1(x) if np.iscomplexobj(x) else np.expm1(widened(x))

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (mul(g, add_(out, 1)),)

    def scalar(self, s: Any, x: Any) -> Any:
        return expm1_formula(s, x)


@op
class Log(Elementwise):
    """Natural logarithm of each element: -inf at 0, nan below."""

    has_long_vjp = False
    accepts = dt.INEXACT
    saves = "inputs"
    onnx = "Log"

    def reference(self, x: Any) -> Any:
        return np.log(widened(x))

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (div_(g, x),)

    def scalar(self, s: Any, x: Any) -> Any:
        return log_formula(s, x)


@op
class Log2(Elementwise):
    """Logarithm to base 2 of each element: -inf at 0, nan below."""

    accepts = dt.INEXACT
    saves = "inputs"

    def reference(self, x: Any) -> Any:
        return np.log2(widened(x))

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (div_(g, mul(x, math.log(2))),)

    def scalar(self, s: Any, x: Any) -> Any:
        return log2_formula(s, x)


@op
class Log10(Elementwise):
    """Logarithm to base 10 of each element: -inf at 0, nan below."""

    accepts = dt.INEXACT
    saves = "inputs"

    def reference(self, x: Any) -> Any:
        return np.log10(widened(x))

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (div_(g, mul(x, math.log(10))),)

    def scalar(self, s: Any, x: Any) -> Any:
        return log10_formula(s, x)


@op
class Log1p(Elementwise):
    """Natural logarithm of 1 plus each element; precise near 0."""

    accepts = dt.INEXACT
    saves = "inputs"

    def reference(self, x: Any) -> Any:
        return np.log1p(widened(x))

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (div_(g, add_(x, 1)),)

    def scalar(self, s: Any, x: Any) -> Any:
        return log1p_formula(s, x)


@op
class Sigmoid(Elementwise):
    """1 / (1 + e**-x) of each element; in [0, 1]."""

    accepts = dt.INEXACT
    saves = "outputs"
    onnx = "Sigmoid"

    def reference(self, x: Any) -> Any:
        x = widened(x)
        return 1 / (1 + np.exp(-x))

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (mul(g, mul(out, sub_(1, out))),)

    def scalar(self, s: Any, x: Any) -> Any:
        return sigmoid_formula(s, x)


exp = function(Exp, floating=True)
exp2 = function(Exp2, floating=True)
expm1 = function(Expm1, floating=True)
log = function(Log, floating=True)
log2 = function(Log2, floating=True)
log10 = function(Log10, floating=True)
log1p = function(Log1p, floating=True)
sigmoid = function(Sigmoid, floating=True)


def _log_sum(input: Any, other: Any, exponential: Any, logarithm: Any) -> Any:
    if any(getattr(getattr(v, "dtype", None), "is_complex", False) for v in (input, other)):
        # From the one with the larger real part.
        x, y = align("logaddexp", input, other)
        first = arith.ge(RealPart()(x), RealPart()(y))
        top, low = arith.where(first, x, y), arith.where(first, y, x)
        gap = arith.where(arith.eq(x, y), 0.0, sub_(low, top))
        return add_(top, logarithm(exponential(gap)))
    # Equal infinities have no difference; equal numbers need none.
    gap = arith.where(arith.eq(input, other), 0.0, neg(arith.abs(sub_(input, other))))
    return add_(arith.maximum(input, other), logarithm(exponential(gap)))


@public
def logaddexp(input: Any, other: Any) -> Any:
    """log(exp(input) + exp(other)), element by element, without overflow.

    >>> logaddexp(tensor([1000.0]), tensor([1000.0]))
    tensor([1000.6932])
    """
    return _log_sum(input, other, exp, log1p)


@public
def logaddexp2(input: Any, other: Any) -> Any:
    """log2(2**input + 2**other), element by element, without overflow."""
    return _log_sum(input, other, exp2, lambda x: mul(log1p(x), 1 / math.log(2)))
