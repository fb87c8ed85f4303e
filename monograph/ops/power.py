"""Powers and roots: sqrt, rsqrt, reciprocal, square, pow, hypot.

pow(x, y) is e**(y * log|x|) with the logarithm kept in two parts in float64 (float32 goes through
float64, where one part is enough), and the sign and special values of IEEE 754-2019, section 9.2.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.errors import ArgumentError
from ..core.shape import is_number
from ..ir.op import Elementwise, Full, is_value, op, zeros_of
from .align import align, cast, function, public
from .arith import bitwise_and, div_, eq, ge, mul, ne, neg, sub_, where
from .exponential import exp_formula, log, log_formula, split_log, top_half, widened
from .parts import RealPart


@op
class Sqrt(Elementwise):
    """Square root of each element; nan below 0. The gradient at 0 is inf."""

    accepts = dt.INEXACT
    saves = "outputs"
    onnx = "Sqrt"

    def reference(self, x: Any) -> Any:
        return np.sqrt(widened(x))

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (div_(g, mul(out, 2)),)

    def scalar(self, s: Any, x: Any) -> Any:
        return s.sqrt(x)


@op
class Rsqrt(Elementwise):
    """1 over the square root of each element; inf at 0, nan below."""

    accepts = dt.INEXACT
    saves = "outputs"

    def reference(self, x: Any) -> Any:
        x = widened(x)
        return x.dtype.type(1) / np.sqrt(x)

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (mul(mul(g, -0.5), mul(out, mul(out, out))),)

    def scalar(self, s: Any, x: Any) -> Any:
        return 1.0 / s.sqrt(x)


@op
class Reciprocal(Elementwise):
    """1 over each element."""

    accepts = dt.INEXACT
    saves = "outputs"
    onnx = "Reciprocal"

    def reference(self, x: Any) -> Any:
        x = widened(x)
        return x.dtype.type(1) / x

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (neg(mul(g, mul(out, out))),)

    def scalar(self, s: Any, x: Any) -> Any:
        return 1.0 / x


@op
class Pow(Elementwise):
    """Each element of the first tensor to the power of the second's.

    Floats follow C's pow: pow(x, 0) and pow(1, y) are 1 for nan too; a negative base needs a whole
    exponent. Integers wrap around; a negative exponent gives 0 unless the base is 1 or -1.
    """

    accepts = dt.NUMERIC
    onnx = "Pow"

    def reference(self, x: Any, y: Any) -> Any:
        numpy_dtype = x.dtype if isinstance(x, np.ndarray) else y.dtype
        if numpy_dtype.kind in "iu":
            x, y = np.asarray(x, numpy_dtype), np.asarray(y, numpy_dtype)
            positive = np.power(x, np.maximum(y, 0))
            if numpy_dtype.kind == "u":
                return positive
            flipped = np.where((x == -1) & (y % 2 != 0), -1, (abs(x) == 1).astype(numpy_dtype))
            return np.where(y < 0, flipped, positive)
        x, y = (widened(v) if isinstance(v, np.ndarray) else v for v in (x, y))
        return np.power(x, y)

    def vjp(self, g: Any, out: Any, x: Any, y: Any) -> tuple[Any, ...]:
        def of_base() -> Any:
            if not is_value(y):
                if y == 0:
                    return zeros_of(x)
                return mul(g, mul(pow(x, y - 1), y))
            # y * x**(y-1) is 0 where y is 0, also at x = 0.
            return where(eq(y, 0), 0.0, mul(g, mul(y, pow(x, sub_(where(eq(y, 0), 1.0, y), 1)))))

        def of_exponent() -> Any:
            # out * log(x); 0 at x = 0 where y >= 0 (PyTorch's convention).
            base = x if is_value(x) else Full(tuple(y.shape), y.dtype, x)()
            if base.dtype.is_complex:
                kept = eq(base, base) if is_value(y) or y.real >= 0 else ne(base, base)
                kept = ge(RealPart()(y), 0) if is_value(y) else kept
            else:
                kept = ge(y, 0) if is_value(y) else Full(tuple(x.shape), dt.bool_, y >= 0)()
            zero = bitwise_and(eq(base, 0), kept)
            return mul(g, mul(out, log(where(zero, 1.0, base))))

        return of_base, of_exponent

    def scalar(self, s: Any, x: Any, y: Any) -> Any:
        if x.dtype not in ("f32", "f64"):
            return _integer_power(s, x, y)
        return pow_formula(s, x, y)


def _integer_power(s: Any, x: Any, y: Any) -> Any:
    """Square and multiply over all bits of a non-negative exponent, modulo 2**bits."""
    bits = int(x.dtype[1:])
    one, zero = s.const(1, x), s.const(0, x)
    result, factor, left = one, x, y
    for _ in range(bits - (x.dtype[0] == "i")):
        result = s.select(s.ne(left & 1, 0), result * factor, result)
        factor, left = factor * factor, left >> 1
    if x.dtype[0] == "u":
        return result
    odd = s.ne(y & 1, 0)
    unit = s.select(s.eq(x, 1), one, zero)
    unit = s.select(s.eq(x, -1), s.select(odd, s.const(-1, x), one), unit)
    return s.select(y < 0, unit, result)


def pow_formula(s: Any, x: Any, y: Any) -> Any:
    """x**y of floats."""
    size = s.absolute(x)
    if x.dtype == "f32":
        wide_y = s.cast(y, "f64")
        product = log_formula(s, s.cast(size, "f64")) * wide_y
        result = s.cast(exp_formula(s, product), "f32")
    else:
        high, low = split_log(s, size)
        result = _exp_of_product(s, y, high, low)
    whole = s.eq(s.floor(y), y)
    odd = whole & s.ne(s.floor(y * 0.5) * 2.0, y)
    negative = s.bitcast(x, "i32" if x.dtype == "f32" else "i64") < 0
    result = s.select(negative & odd, -result, result)
    finite_negative = (x < 0.0) & (x > -math.inf)
    broken = finite_negative & s.logical_not(whole)
    result = s.select(broken, s.const(math.nan, x), result)
    result = s.select(s.eq(size, 1.0) & s.eq(s.absolute(y), math.inf), s.const(1.0, x), result)
    one = s.eq(x, 1.0) | s.eq(y, 0.0)
    return s.select(one, s.const(1.0, x), result)


def _exp_of_product(s: Any, y: Any, high: Any, low: Any) -> Any:
    """e**(y * (high + low)) in f64, the product in two parts; `high` has 26 bits."""
    y_high = top_half(s, y)
    main = y * (high + low)
    top = y_high * high
    rest = (y - y_high) * high + y * low
    product = top + rest
    lost = (top - product) + rest
    # At infinities and beyond exp's range the correction is nan or without meaning.
    sound = (s.absolute(main) < 800.0) & (s.absolute(lost) < 1.0)
    e = exp_formula(s, s.select(sound, product, main))
    return s.select(sound & (e < math.inf), e + e * s.select(sound, lost, s.const(0.0, y)), e)


sqrt = function(Sqrt, floating=True)
rsqrt = function(Rsqrt, floating=True)
reciprocal = function(Reciprocal, floating=True)


@public
def square(input: Any) -> Any:
    """Each element times itself.

    >>> square(tensor([1, -3]))
    tensor([1, 9])
    """
    x = cast(input, dt.int64) if is_value(input) and input.dtype is dt.bool_ else input
    return mul(x, x)


@public
def pow(input: Any, exponent: Any) -> Any:
    """input to the power of exponent, element by element; either may be a number.

    Integers to a negative whole number are an error, as their result would be 0.

    >>> pow(tensor([1.0, 2.0, 3.0]), 2)
    tensor([1., 4., 9.])
    """
    x: Any
    y: Any
    own = getattr(input, "dtype", None)
    if type(exponent) in (int, float) and (own is dt.float32 or own is dt.float64):
        x, y = input, float(exponent)
    else:
        x, y = align("pow", input, exponent)
    dtype = x.dtype if is_value(x) else y.dtype
    if dtype is dt.bool_:
        x, y = (cast(v, dt.int64) if is_value(v) else int(v) for v in (x, y))
        return cast(Pow()(x, y), dt.bool_)
    if is_number(y) and is_value(x):
        if y == 2:
            return mul(x, x)
        if y == 1:
            return mul(x, 1)
        if y == 3:
            return mul(mul(x, x), x)
        if dtype.is_inexact:
            if y == 0.5:
                return sqrt(x)
            if y == -1:
                return reciprocal(x)
            if y == -0.5:
                return rsqrt(x)
            if y == -2:
                return reciprocal(mul(x, x))
        elif y < 0:
            raise ArgumentError(
                f"pow: {dtype.name} to the negative power {y} has no integer result",
                hint="convert to a floating dtype first, as x.float() ** n",
            )
    return Pow()(x, y)


@public
def hypot(input: Any, other: Any) -> Any:
    """sqrt(input**2 + other**2), element by element, without overflow.

    >>> hypot(tensor([3.0]), tensor([4.0]))
    tensor([5.])
    """
    return Hypot()(*align("hypot", input, other, floating=True))


@op
class Hypot(Elementwise):
    """Length of the vector of two elements, without overflow; inf if either is infinite."""

    accepts = dt.FLOATS

    def reference(self, x: Any, y: Any) -> Any:
        x, y = (widened(v) if isinstance(v, np.ndarray) else v for v in (x, y))
        return np.hypot(x, y)

    def vjp(self, g: Any, out: Any, x: Any, y: Any) -> tuple[Any, ...]:
        return lambda: mul(g, div_(x, out)), lambda: mul(g, div_(y, out))

    def scalar(self, s: Any, x: Any, y: Any) -> Any:
        a, b = s.absolute(x), s.absolute(y)
        big, small = s.maximum(a, b), s.minimum(a, b)
        ratio = small / big
        result = big * s.sqrt(s.fma(ratio, ratio, s.const(1.0, x)))
        result = s.select(s.eq(big, 0.0), big, result)
        either = s.eq(a, math.inf) | s.eq(b, math.inf)
        return s.select(either, s.const(math.inf, x), result)
