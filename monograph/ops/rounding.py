"""Rounding, division with rounding, remainders, clamping, float classes, shifts, small blends."""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.errors import ArgumentError, ArgumentTypeError
from ..core.shape import is_number
from ..ir.op import Elementwise, Full, is_value, op
from .align import alias, align, as_operand, cast, function, literal, public
from .arith import (
    Comparison,
    abs,
    add_,
    bitwise_and,
    bitwise_or,
    div_,
    eq,
    ge,
    gt,
    le,
    lt,
    maximum,
    minimum,
    mul,
    ne,
    neg,
    sign,
    sub_,
    times,
    where,
)
from .exponential import copy_sign, widened
from .movement import Copy
from .parts import FromParts, ImaginaryPart, RealPart

_FLOATING = ("f32", "f64")


def _zero(g: Any) -> Any:
    return Full(tuple(g.shape), g.dtype, 0)()


class _Step(Elementwise):
    """Base of rounding to whole numbers: integers stay, the gradient is 0."""

    has_long_vjp = False
    accepts = dt.ORDERED
    saves = "none"
    how = "floor"

    def reference(self, x: Any) -> Any:
        return x if x.dtype.kind in "iu" else getattr(np, self.how)(widened(x))

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (_zero(g),)

    def scalar(self, s: Any, x: Any) -> Any:
        return s.unary("round" if self.how == "rint" else self.how, x) if _is_float(x) else x


def _is_float(x: Any) -> bool:
    return x.dtype in _FLOATING


@op
class Floor(_Step):
    """Largest whole number not above each element."""

    how = "floor"
    onnx = "Floor"


@op
class Ceil(_Step):
    """Smallest whole number not below each element."""

    how = "ceil"
    onnx = "Ceil"


@op
class Trunc(_Step):
    """Each element without its fraction."""

    how = "trunc"


@op
class Round(_Step):
    """The nearest whole number to each element, halves to even."""

    how = "rint"
    onnx = "Round"


def _floor_mod(s: Any, x: Any, y: Any) -> Any:
    """The remainder with the sign of y."""
    zero = s.const(0, x)
    if x.dtype[0] == "u":
        return x % y
    rest = x % y
    differs = s.ne(rest, zero) & s.ne(rest < zero, y < zero)
    rest = s.select(differs, rest + y, rest)
    # An exact multiple has the divisor's sign too: -0.0 for a negative one, as NumPy.
    return s.select(s.eq(rest, zero), copy_sign(s, zero, y), rest) if _is_float(x) else rest


def _wide(*args: Any) -> list[Any]:
    return [widened(a) if isinstance(a, np.ndarray) else a for a in args]


@op
class Remainder(Elementwise):
    """x - floor(x / y) * y: the remainder with the sign of y (Python's %)."""

    accepts = dt.ORDERED
    saves = "inputs"

    def reference(self, x: Any, y: Any) -> Any:
        return np.remainder(*_wide(x, y))

    def vjp(self, g: Any, out: Any, x: Any, y: Any) -> tuple[Any, ...]:
        return g, lambda: neg(mul(g, FloorDivide()(x, y)))

    def scalar(self, s: Any, x: Any, y: Any) -> Any:
        return _floor_mod(s, x, y)


@op
class Fmod(Elementwise):
    """x - trunc(x / y) * y: the remainder with the sign of x (C's fmod)."""

    accepts = dt.ORDERED
    saves = "inputs"
    onnx = "Mod"

    def reference(self, x: Any, y: Any) -> Any:
        return np.fmod(*_wide(x, y))

    def vjp(self, g: Any, out: Any, x: Any, y: Any) -> tuple[Any, ...]:
        return g, lambda: neg(mul(g, trunc(div_(x, y))))

    def scalar(self, s: Any, x: Any, y: Any) -> Any:
        return x % y


@op
class FloorDivide(Elementwise):
    """The quotient rounded down. Integers by 0 give 0; floats by 0, and infinities, x / y."""

    accepts = dt.ORDERED
    saves = "none"

    def reference(self, x: Any, y: Any) -> Any:
        x, y = _wide(x, y)
        whole = np.floor_divide(x, y)
        if np.asarray(whole).dtype.kind != "f":
            return whole
        return np.where(np.isinf(x), np.divide(x, y), whole)

    def vjp(self, g: Any, out: Any, x: Any, y: Any) -> tuple[Any, ...]:
        return _zero(g), _zero(g)

    def scalar(self, s: Any, x: Any, y: Any) -> Any:
        if x.dtype[0] == "u":
            return x / y
        if not _is_float(x):
            quotient = x / y
            inexact = s.ne(x % y, 0) & s.ne(x < 0, y < 0)
            return s.select(inexact, quotient - 1, quotient)
        # From the exact remainder, so that rounding of x / y cannot cross a whole number.
        rest = x % y
        quotient = (x - rest) / y
        quotient = s.select(s.ne(rest, 0.0) & s.ne(rest < 0.0, y < 0.0), quotient - 1.0, quotient)
        whole = s.floor(quotient)
        whole = s.select(quotient - whole > 0.5, whole + 1.0, whole)
        whole = s.select(s.eq(quotient, 0.0), copy_sign(s, s.const(0.0, x), x / y), whole)
        # x - x is nan where x is infinite.
        return s.select(s.eq(y, 0.0) | s.ne(x - x, 0.0), x / y, whole)


@op
class TruncDivide(Elementwise):
    """The quotient of integers without its fraction (C's division); by 0 it is 0."""

    accepts = dt.INTS
    differentiable = False

    def reference(self, x: Any, y: Any) -> Any:
        dtype = x.dtype if isinstance(x, np.ndarray) else y.dtype
        x, y = np.asarray(x, dtype), np.asarray(y, dtype)
        down = np.floor_divide(x, y)
        return down + ((y != 0) & (np.fmod(x, y) != 0) & ((x < 0) != (y < 0))).astype(dtype)

    def scalar(self, s: Any, x: Any, y: Any) -> Any:
        return x / y


@op
class ShiftLeft(Elementwise):
    """Bits moved up by the second tensor's count; 0 comes in; a count past the width gives 0."""

    accepts = dt.INTS
    differentiable = False

    def reference(self, x: Any, y: Any) -> Any:
        return np.left_shift(x, y)

    def scalar(self, s: Any, x: Any, y: Any) -> Any:
        return x << y


@op
class ShiftRight(Elementwise):
    """Bits moved down by the second tensor's count; the sign comes in."""

    accepts = dt.INTS
    differentiable = False

    def reference(self, x: Any, y: Any) -> Any:
        return np.right_shift(x, y)

    def scalar(self, s: Any, x: Any, y: Any) -> Any:
        return x >> y


@op
class Copysign(Elementwise):
    """The first element's size with the second's sign."""

    accepts = dt.FLOATS
    saves = "inputs"

    def reference(self, x: Any, y: Any) -> Any:
        return np.copysign(x, y)

    def vjp(self, g: Any, out: Any, x: Any, y: Any) -> tuple[Any, ...]:
        if not is_value(x):
            return None, _zero(g)
        unit = Copysign()(1.0, y) if is_value(y) else math.copysign(1.0, y)
        return mul(g, mul(sign(x), unit)), _zero(g)

    def scalar(self, s: Any, x: Any, y: Any) -> Any:
        return copy_sign(s, x, y)


@op
class Signbit(Comparison):
    """Whether the sign bit is set: true for -0.0 too."""

    accepts = dt.REAL

    def reference(self, x: Any) -> Any:
        return np.signbit(x) if x.dtype.kind not in "iub" else x < 0

    def scalar(self, s: Any, x: Any) -> Any:
        if _is_float(x):
            return s.bitcast(x, "i32" if x.dtype == "f32" else "i64") < 0
        return x < 0


floor = function(Floor)
ceil = function(Ceil)
trunc = function(Trunc)
remainder = function(Remainder)
fmod = function(Fmod)
bitwise_left_shift = function(ShiftLeft, name="bitwise_left_shift")
bitwise_right_shift = function(ShiftRight, name="bitwise_right_shift")
copysign = function(Copysign, floating=True)
signbit = function(Signbit)


@public
def fix(input: Any) -> Any:
    """Alias of trunc: each element without its fraction."""
    return trunc(input)


@public
def frac(input: Any) -> Any:
    """The fraction of each element, with its sign.

    >>> frac(tensor([1.5, -2.25]))
    tensor([ 0.5000, -0.2500])
    """
    return sub_(input, trunc(input))


@public
def round(input: Any, *, decimals: int = 0) -> Any:
    """The nearest multiple of 10**-decimals to each element; halves to even.

    >>> round(tensor([0.5, 1.5, 2.5]))
    tensor([0., 2., 2.])
    """
    x = as_operand("round", input)
    if decimals == 0:
        return Round()(x)
    if not x.dtype.is_floating_point:
        raise ArgumentTypeError(f"round: decimals needs a floating tensor, got {x.dtype.name}")
    scale = 10.0 ** builtins.abs(decimals)
    if decimals > 0:
        return div_(Round()(mul(x, scale)), scale)
    return mul(Round()(div_(x, scale)), scale)


@public
def floor_divide(input: Any, other: Any) -> Any:
    """The quotient rounded down, element by element.

    >>> floor_divide(tensor([7, -7]), 2)
    tensor([ 3, -4])
    """
    x, y = align("floor_divide", input, other)
    _no_zero_divisor("floor_divide", x, y)
    return FloorDivide()(x, y)


def _no_zero_divisor(name: str, x: Any, y: Any) -> None:
    if not is_value(y) and y == 0 and not x.dtype.is_floating_point:
        raise ArgumentError(f"{name}: integers cannot be divided by the number 0")


@public
def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Any:
    """input / other, element by element; integers become floating.

    rounding_mode  None, "trunc" (towards 0) or "floor" (down); with a mode integers stay integers

    >>> div(tensor([7, -7]), 2, rounding_mode="trunc")
    tensor([ 3, -3])
    """
    if rounding_mode is None:
        return div_(input, other)
    if rounding_mode == "floor":
        return floor_divide(input, other)
    if rounding_mode != "trunc":
        raise ArgumentError(
            f"div: rounding_mode must be None, 'trunc' or 'floor', got {rounding_mode!r}"
        )
    x, y = align("div", input, other)
    if (x if is_value(x) else y).dtype.is_floating_point:
        return trunc(div_(x, y))
    _no_zero_divisor("div", x, y)
    return TruncDivide()(x, y)


divide = alias("divide", div)


@public
def true_divide(input: Any, other: Any) -> Any:
    """input / other, element by element; integers become floating."""
    return div_(input, other)


def _named(name: str, f: Any, text: str) -> Any:
    def alias(*args: Any, **kwargs: Any) -> Any:
        return f(*args, **kwargs)

    alias.__name__ = alias.__qualname__ = name
    alias.__doc__ = text
    return public(alias)


multiply = _named("multiply", mul, "Alias of mul.")
negative = _named("negative", neg, "Alias of neg.")
absolute = _named("absolute", abs, "Alias of abs.")
not_equal = _named("not_equal", ne, "Alias of ne.")
less = _named("less", lt, "Alias of lt.")
less_equal = _named("less_equal", le, "Alias of le.")
greater = _named("greater", gt, "Alias of gt.")
greater_equal = _named("greater_equal", ge, "Alias of ge.")


# -- float classes ---------------------------------------------------------------------------------


@public
def isnan(input: Any) -> Any:
    """Whether each element is nan.

    >>> isnan(tensor([1.0, -1.0]).sqrt())
    tensor([False,  True])
    """
    x = as_operand("isnan", input)
    return ne(x, x)


@public
def isinf(input: Any) -> Any:
    """Whether each element is infinite."""
    x = as_operand("isinf", input)
    if x.dtype.is_complex:
        return bitwise_or(eq(abs(RealPart()(x)), math.inf), eq(abs(ImaginaryPart()(x)), math.inf))
    if not x.dtype.is_floating_point:
        return ne(x, x)
    return eq(abs(x), math.inf)


@public
def isfinite(input: Any) -> Any:
    """Whether each element is neither infinite nor nan."""
    x = as_operand("isfinite", input)
    if x.dtype.is_complex:
        return bitwise_and(lt(abs(RealPart()(x)), math.inf), lt(abs(ImaginaryPart()(x)), math.inf))
    if not x.dtype.is_floating_point:
        return eq(x, x)
    return lt(abs(x), math.inf)


@public
def isposinf(input: Any) -> Any:
    """Whether each element is inf."""
    x = as_operand("isposinf", input)
    return eq(x, math.inf) if x.dtype.is_floating_point else ne(x, x)


@public
def isneginf(input: Any) -> Any:
    """Whether each element is -inf."""
    x = as_operand("isneginf", input)
    return eq(x, -math.inf) if x.dtype.is_floating_point else ne(x, x)


@public
def nan_to_num(
    input: Any, nan: float | None = None, posinf: float | None = None, neginf: float | None = None
) -> Any:
    """nan replaced by 0, inf and -inf by the largest and smallest finite number, or as given.

    >>> nan_to_num(tensor([-1.0, 4.0]).sqrt())
    tensor([0., 2.])
    """
    x = as_operand("nan_to_num", input)
    if x.dtype.is_complex:
        parts = (RealPart()(x), ImaginaryPart()(x))
        return FromParts()(*(nan_to_num(v, nan, posinf, neginf) for v in parts))
    if not x.dtype.is_floating_point:
        return mul(x, True) if x.dtype is dt.bool_ else mul(x, 1)
    limits = dt.finfo(x.dtype)
    high = limits.max if posinf is None else posinf
    low = limits.min if neginf is None else neginf
    x = where(ne(x, x), 0.0 if nan is None else float(nan), x)
    return where(eq(x, math.inf), float(high), where(eq(x, -math.inf), float(low), x))


# -- limits ----------------------------------------------------------------------------------------


@op
class Clamp(Elementwise):
    """The element limited to [low, high] (None: no limit); nan stays. Gradient 1 up to the ends."""

    low: Any = None
    high: Any = None
    accepts = dt.ORDERED
    saves = "inputs"

    def reference(self, x: Any) -> Any:
        kind = x.dtype.type
        x = x if self.low is None else np.maximum(x, kind(self.low))
        return x if self.high is None else np.minimum(x, kind(self.high))

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        if self.low is None:
            inside = le(x, self.high)
        elif self.high is None:
            inside = ge(x, self.low)
        else:
            inside = bitwise_and(ge(x, self.low), le(x, self.high))
        return (where(inside, g, 0.0),)

    def scalar(self, s: Any, x: Any) -> Any:
        x = x if self.low is None else s.maximum(x, s.const(self.low, x))
        return x if self.high is None else s.minimum(x, s.const(self.high, x))


@public
def clamp(input: Any, min: Any = None, max: Any = None) -> Any:
    """The elements limited to [min, max]: numbers, tensors that broadcast, or None for no limit.

    max wins where the limits cross; nan stays. The gradient is 1 inside and at the ends.

    >>> clamp(tensor([-1.0, 0.5, 2.0]), 0, 1)
    tensor([0.0000, 0.5000, 1.0000])
    """
    x = as_operand("clamp", input)
    if min is None and max is None:
        raise ArgumentError("clamp: at least one of min and max must be given")
    limits = [v for v in (min, max) if v is not None]
    dtype = dt.result_type(x, *limits)
    x = cast(x, dtype)
    if dtype is dt.bool_:
        x = x if min is None else maximum(x, min)
        return x if max is None else minimum(x, max)
    if builtins.all(is_number(v) for v in limits):
        return Clamp(*(None if v is None else literal(v, dtype) for v in (min, max)))(x)
    out = x
    if min is not None:
        out = _limited("clamp", out, min, lt)
    if max is not None:
        out = _limited("clamp", out, max, gt)
    return out


def _limited(name: str, x: Any, limit: Any, beyond: Any) -> Any:
    """x, or the limit where x is beyond it; a nan on either side gives nan."""
    x, limit = align(name, x, limit)
    out = where(beyond(x, limit), limit, x)
    return (
        out
        if not is_value(limit) or not x.dtype.is_floating_point
        else where(ne(limit, limit), limit, out)
    )


@public
def clip(input: Any, min: Any = None, max: Any = None) -> Any:
    """Alias of clamp; without limits a copy.

    >>> clip(tensor([-1.0, 3.0]), max=2.0)
    tensor([-1.,  2.])
    """
    if min is None and max is None:
        return Copy()(as_operand("clip", input))
    return clamp(input, min, max)


@public
def clamp_min(input: Any, min: Any) -> Any:
    """The elements, not below min (a number or a tensor)."""
    return clamp(input, min=min)


@public
def clamp_max(input: Any, max: Any) -> Any:
    """The elements, not above max (a number or a tensor)."""
    return clamp(input, max=max)


@public
def fmax(input: Any, other: Any) -> Any:
    """The larger of two, element by element; a number wins over nan."""
    return where(bitwise_or(ge(input, other), ne(other, other)), input, other)


@public
def fmin(input: Any, other: Any) -> Any:
    """The smaller of two, element by element; a number wins over nan."""
    return where(bitwise_or(le(input, other), ne(other, other)), input, other)


# -- blends ----------------------------------------------------------------------------------------


@public
def lerp(input: Any, end: Any, weight: Any) -> Any:
    """input + weight * (end - input), element by element; weight is a number or a tensor.

    >>> lerp(tensor([0.0]), tensor([10.0]), 0.3)
    tensor([3.])
    """
    gap = sub_(end, input)
    if is_number(weight):
        # From the nearer end, so that weight 1 gives `end` exactly.
        if builtins.abs(weight) < 0.5:
            return add_(input, mul(gap, weight))
        return sub_(end, mul(gap, 1 - weight))
    near = lt(abs(weight), 0.5)
    return where(near, add_(input, mul(gap, weight)), sub_(end, mul(gap, sub_(1, weight))))


@public
def addcmul(input: Any, tensor1: Any, tensor2: Any, *, value: Any = 1) -> Any:
    """input + value * tensor1 * tensor2, element by element."""
    product = mul(tensor1, tensor2)
    return add_(input, times(product, value))


@public
def addcdiv(input: Any, tensor1: Any, tensor2: Any, *, value: Any = 1) -> Any:
    """input + value * tensor1 / tensor2, element by element."""
    quotient = div_(tensor1, tensor2)
    return add_(input, times(quotient, value))


# -- comparing whole tensors -----------------------------------------------------------------------


@public
def isclose(
    input: Any, other: Any, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> Any:
    """Whether |input - other| <= atol + rtol * |other|; equal infinities are close."""
    x, y = (as_operand("isclose", v) for v in (input, other))
    same = eq(x, y)
    if not x.dtype.is_inexact and not y.dtype.is_inexact:
        x, y = cast(x, dt.float64), cast(y, dt.float64)
    if equal_nan:
        same = bitwise_or(same, bitwise_and(ne(x, x), ne(y, y)))
    gap = abs(sub_(x, y))
    near = bitwise_and(le(gap, add_(mul(abs(y), rtol), atol)), lt(gap, math.inf))
    return bitwise_or(same, bitwise_and(near, lt(abs(y), math.inf)))


@public
def allclose(
    input: Any, other: Any, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> bool:
    """Whether all elements are close (see isclose), as a Python bool."""
    return bool(isclose(input, other, rtol, atol, equal_nan).all().item())


@public
def equal(input: Any, other: Any) -> bool:
    """Whether two tensors have the same shape and elements, as a Python bool.

    >>> equal(tensor([1, 2]), tensor([1, 2]))
    True
    """
    if tuple(input.shape) != tuple(other.shape):
        return False
    return bool(eq(input, other).all().item())
