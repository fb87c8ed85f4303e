"""Arithmetic, comparison, logic and choice, element by element."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.dtype import DType
from ..core.shape import broadcast_shapes, is_number
from ..ir.op import Elementwise, op
from .align import align, broadcast_to, cast, function, public
from .basic import Where
from .parts import RealPart, conj


@op
class Add(Elementwise):
    """Sum of two tensors, element by element (bool: or)."""

    has_long_vjp = False
    saves = "none"
    onnx = "Add"

    def reference(self, x: Any, y: Any) -> Any:
        return x + y

    def vjp(self, g: Any, out: Any, x: Any, y: Any) -> tuple[Any, ...]:
        return g, g

    def scalar(self, s: Any, x: Any, y: Any) -> Any:
        return x | y if x.dtype == "bool" else x + y


@op
class Sub(Elementwise):
    """Difference of two tensors, element by element."""

    has_long_vjp = False
    accepts = dt.NUMERIC
    saves = "none"
    onnx = "Sub"

    def reference(self, x: Any, y: Any) -> Any:
        return x - y

    def vjp(self, g: Any, out: Any, x: Any, y: Any) -> tuple[Any, ...]:
        return g, neg(g)

    def scalar(self, s: Any, x: Any, y: Any) -> Any:
        return x - y


@op
class Mul(Elementwise):
    """Product of two tensors, element by element (bool: and)."""

    has_long_vjp = False
    saves, reads = "inputs", ((1,), (0,))
    onnx = "Mul"

    def reference(self, x: Any, y: Any) -> Any:
        return x * y

    def vjp(self, g: Any, out: Any, x: Any, y: Any) -> tuple[Any, ...]:
        return (lambda: mul(g, y)), (lambda: mul(g, x))

    def scalar(self, s: Any, x: Any, y: Any) -> Any:
        return x & y if x.dtype == "bool" else x * y


@op
class Div(Elementwise):
    """True quotient of two tensors, element by element; integers become floating first."""

    accepts = dt.INEXACT
    saves, reads = "inputs", ((1,), (0, 1))
    onnx = "Div"

    def reference(self, x: Any, y: Any) -> Any:
        return x / y

    def vjp(self, g: Any, out: Any, x: Any, y: Any) -> tuple[Any, ...]:
        return (lambda: div(g, y)), (lambda: neg(mul(div(g, y), div(x, y))))

    def scalar(self, s: Any, x: Any, y: Any) -> Any:
        return x / y


@op
class Neg(Elementwise):
    """Each element with the opposite sign."""

    has_long_vjp = False
    accepts = dt.NUMERIC
    saves = "none"
    onnx = "Neg"

    def reference(self, x: Any) -> Any:
        return -x

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (neg(g),)

    def scalar(self, s: Any, x: Any) -> Any:
        return -x


@op
class Abs(Elementwise):
    """Absolute value of each element, real for complex ones too. The gradient at 0 is 0."""

    accepts = dt.NUMERIC
    saves = "inputs"
    onnx = "Abs"

    def result(self, *dtypes: DType) -> DType:
        return dtypes[0].to_real()

    def reference(self, x: Any) -> Any:
        return np.abs(x)

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (mul(g, sign(x)),)

    def scalar(self, s: Any, x: Any) -> Any:
        return s.absolute(x)


@op
class Sign(Elementwise):
    """-1, 0 or 1 by the sign of each element; sign(nan) is nan. The gradient is 0.

    Complex numbers are divided by their absolute value.
    """

    has_long_vjp = False
    accepts = dt.NUMERIC
    saves = "inputs"
    holomorphic = False
    onnx = "Sign"

    def reference(self, x: Any) -> Any:
        return np.sign(x)

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        if not x.dtype.is_complex:
            return (mul(g, 0),)
        # What is across the direction of x turns it; what is along it changes nothing.
        size, unit = abs(x), sign(x)
        along = RealPart()(mul(conj(unit), g))
        zero = eq(size, 0)
        turned = div_(sub_(g, mul(unit, along)), where(zero, 1.0, size))
        return (where(zero, 0.0, turned),)

    def scalar(self, s: Any, x: Any) -> Any:
        zero = s.const(0, x)
        below = zero if x.dtype.startswith("u") else s.select(x < 0, s.const(-1, x), zero)
        result = s.select(x > 0, s.const(1, x), below)
        return s.select(s.ne(x, x), x, result) if x.dtype in ("f32", "f64") else result


@op
class Maximum(Elementwise):
    """The larger of two tensors, element by element; nan wins. Ties share the gradient equally."""

    accepts = dt.REAL
    saves = "inputs"
    onnx = "Max"

    def reference(self, x: Any, y: Any) -> Any:
        return np.maximum(x, y)

    def vjp(self, g: Any, out: Any, x: Any, y: Any) -> tuple[Any, ...]:
        return _split_ties(g, gt(x, y), eq(x, y))

    def scalar(self, s: Any, x: Any, y: Any) -> Any:
        return x | y if x.dtype == "bool" else s.maximum(x, y)


@op
class Minimum(Elementwise):
    """The smaller of two tensors, element by element; nan wins. Ties share the gradient equally."""

    accepts = dt.REAL
    saves = "inputs"
    onnx = "Min"

    def reference(self, x: Any, y: Any) -> Any:
        return np.minimum(x, y)

    def vjp(self, g: Any, out: Any, x: Any, y: Any) -> tuple[Any, ...]:
        return _split_ties(g, lt(x, y), eq(x, y))

    def scalar(self, s: Any, x: Any, y: Any) -> Any:
        return x & y if x.dtype == "bool" else s.minimum(x, y)


def _split_ties(g: Any, first: Any, tie: Any) -> tuple[Any, Any]:
    zero = mul(g, 0)
    half = where(tie, mul(g, 0.5), zero)
    return where(first, g, half), where(logical_or(first, tie), half, g)


class Comparison(Elementwise):
    """Base of comparisons: two tensors of one dtype give a bool tensor."""

    differentiable = False
    saves = "none"

    def result(self, *dtypes: DType) -> DType:
        return dt.bool_


@op
class Eq(Comparison):
    """x == y, element by element; nan equals nothing."""

    onnx = "Equal"

    def reference(self, x: Any, y: Any) -> Any:
        return np.equal(x, y)

    def scalar(self, s: Any, x: Any, y: Any) -> Any:
        return s.eq(x, y)


@op
class Ne(Comparison):
    """x != y, element by element; nan differs from everything."""

    def reference(self, x: Any, y: Any) -> Any:
        return np.not_equal(x, y)

    def scalar(self, s: Any, x: Any, y: Any) -> Any:
        return s.ne(x, y)


@op
class Lt(Comparison):
    """x < y, element by element."""

    accepts = dt.REAL
    onnx = "Less"

    def reference(self, x: Any, y: Any) -> Any:
        return np.less(x, y)

    def scalar(self, s: Any, x: Any, y: Any) -> Any:
        return x < y


@op
class Le(Comparison):
    """x <= y, element by element."""

    accepts = dt.REAL
    onnx = "LessOrEqual"

    def reference(self, x: Any, y: Any) -> Any:
        return np.less_equal(x, y)

    def scalar(self, s: Any, x: Any, y: Any) -> Any:
        return x <= y


@op
class Gt(Comparison):
    """x > y, element by element."""

    accepts = dt.REAL
    onnx = "Greater"

    def reference(self, x: Any, y: Any) -> Any:
        return np.greater(x, y)

    def scalar(self, s: Any, x: Any, y: Any) -> Any:
        return x > y


@op
class Ge(Comparison):
    """x >= y, element by element."""

    accepts = dt.REAL
    onnx = "GreaterOrEqual"

    def reference(self, x: Any, y: Any) -> Any:
        return np.greater_equal(x, y)

    def scalar(self, s: Any, x: Any, y: Any) -> Any:
        return x >= y


@op
class BitwiseAnd(Elementwise):
    """Bits set in both (bool: logical and)."""

    accepts = dt.INTEGRAL
    differentiable = False

    def reference(self, x: Any, y: Any) -> Any:
        return x & y

    def scalar(self, s: Any, x: Any, y: Any) -> Any:
        return x & y


@op
class BitwiseOr(Elementwise):
    """Bits set in either (bool: logical or)."""

    accepts = dt.INTEGRAL
    differentiable = False

    def reference(self, x: Any, y: Any) -> Any:
        return x | y

    def scalar(self, s: Any, x: Any, y: Any) -> Any:
        return x | y


@op
class BitwiseXor(Elementwise):
    """Bits set in exactly one (bool: logical exclusive or)."""

    accepts = dt.INTEGRAL
    differentiable = False

    def reference(self, x: Any, y: Any) -> Any:
        return x ^ y

    def scalar(self, s: Any, x: Any, y: Any) -> Any:
        return x ^ y


@op
class BitwiseNot(Elementwise):
    """Every bit flipped (bool: logical not)."""

    accepts = dt.INTEGRAL
    differentiable = False

    def reference(self, x: Any) -> Any:
        return ~x

    def scalar(self, s: Any, x: Any) -> Any:
        return s.logical_not(x)


add_ = function(Add, name="add")
sub_ = function(Sub, name="sub")
mul = function(Mul)
div_ = function(Div, floating=True, name="div")
neg = function(Neg)
abs = function(Abs)
sign = function(Sign)
maximum = function(Maximum)
minimum = function(Minimum)
eq = function(Eq)
ne = function(Ne)
lt = function(Lt)
le = function(Le)
gt = function(Gt)
ge = function(Ge)
bitwise_and = function(BitwiseAnd)
bitwise_or = function(BitwiseOr)
bitwise_xor = function(BitwiseXor)
bitwise_not = function(BitwiseNot)


ONE = 1


def times(x: Any, factor: Any) -> Any:
    """factor * x; x itself if the factor is known to be 1 (it may be an input of a capture)."""
    return x if is_number(factor) and factor == 1 else mul(x, factor)


@public
def add(input: Any, other: Any, *, alpha: Any = 1) -> Any:
    """input + alpha * other, with broadcasting and promotion; any shapes that broadcast.

    >>> add(tensor([1, 2]), 10)
    tensor([11, 12])
    """
    return add_(input, other if alpha is ONE else times(other, alpha))


@public
def sub(input: Any, other: Any, *, alpha: Any = 1) -> Any:
    """input - alpha * other, with broadcasting and promotion; any shapes that broadcast.

    >>> sub(tensor([11, 12]), 10)
    tensor([1, 2])
    """
    return sub_(input, other if alpha is ONE else times(other, alpha))


def div(input: Any, other: Any) -> Any:
    """True division; public `div` with rounding_mode stands in rounding.py."""
    return div_(input, other)


def _truth(x: Any) -> Any:
    return cast(x, dt.bool_) if hasattr(x, "dtype") else bool(x)


@public
def logical_and(input: Any, other: Any) -> Any:
    """Whether both are nonzero, element by element: a bool tensor.

    >>> logical_and(tensor([0, 2]), tensor([3, 4]))
    tensor([False,  True])
    """
    return bitwise_and(_truth(input), _truth(other))


@public
def logical_or(input: Any, other: Any) -> Any:
    """Whether either is nonzero, element by element: a bool tensor."""
    return bitwise_or(_truth(input), _truth(other))


@public
def logical_xor(input: Any, other: Any) -> Any:
    """Whether exactly one is nonzero, element by element: a bool tensor."""
    return bitwise_xor(_truth(input), _truth(other))


@public
def logical_not(input: Any) -> Any:
    """Whether each element is zero: a bool tensor."""
    return bitwise_not(_truth(input))


@public
def where(condition: Any, input: Any, other: Any) -> Any:
    """input where condition is true, else other; all three broadcast.

    >>> where(tensor([True, False]), 1.0, tensor([5.0, 6.0]))
    tensor([1., 6.])
    """
    pair = align("where", input, other)
    values = [v for v in pair if not is_number(v)]
    shape = broadcast_shapes("where", condition.shape, *(v.shape for v in values))
    cond = broadcast_to(_truth(condition), shape)
    x, y = (v if is_number(v) else broadcast_to(v, shape) for v in pair)
    return Where()(cond, x, y)
