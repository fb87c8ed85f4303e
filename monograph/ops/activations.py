"""Activation functions. Relu, Gelu and Silu are primitives (one kernel, one saved tensor); the rest
is composed, softmax too, so that the compiler can fuse it with its neighbours.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.dtype import as_dtype
from ..core.errors import ArgumentError, DTypeError, ShapeError
from ..core.shape import normalize_dim
from ..ir.op import Elementwise, op
from .align import as_operand, broadcast_to, cast, functional, literal, public
from .arith import (
    abs,
    add_,
    bitwise_and,
    div_,
    ge,
    gt,
    le,
    minimum,
    mul,
    neg,
    sub_,
    where,
)
from .basic import Where
from .batching import shape_of
from .composite import composite
from .exponential import exp, exp_formula, expm1, log, log1p, sigmoid, sigmoid_formula, widened
from .movement import Reshape, Sum
from .reduce import keep_dims, shift_by_max
from .shaping import slice_axis
from .special import elementwise_of, erf, erfc_formula
from .trigonometric import tanh

_ROOT_HALF = math.sqrt(0.5)
_TANH_SCALE = math.sqrt(2 / math.pi)
_TANH_CUBE = 0.044715
# Fit of log(erfc(a / sqrt(2)) / 2), the logarithm of the normal distribution function at -a, on
# [0, 6] in powers of a; beyond, it falls off as fast as needed.
_LOG_NORMAL = (-1.2968941674977978e-08, 4.125280294827188e-07, -5.607710956543879e-06,
               4.115463069858218e-05, -0.00015222888471097702, -8.831320903260043e-05,
               0.004926018799457787, -0.03642681413132584, -0.31828114797335033,
               -0.7978880255238747, -0.6931471120140306)  # fmt: skip


@op
class Relu(Elementwise):
    """The element where it is positive, else 0; nan stays. The gradient at 0 is 0."""

    accepts = dt.ORDERED
    saves = "outputs"
    onnx = "Relu"

    def reference(self, x: Any) -> Any:
        return np.maximum(x, x.dtype.type(0))

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (Where()(le(out, 0), 0.0, g),)

    def scalar(self, s: Any, x: Any) -> Any:
        return s.maximum(x, s.const(0, x))


@op
class Gelu(Elementwise):
    """x times the normal distribution function of x; with `tanh` its approximation by tanh.

    (1 + tanh(y)) / 2 is 1 / (1 + exp(-2y)), which loses no digits below 0.

    Source: D. Hendrycks and K. Gimpel, "Gaussian error linear units", 2016.
    """

    tanh: bool = False
    accepts = dt.FLOATS
    slow_reference = True
    saves = "inputs"

    def reference(self, x: Any) -> Any:
        x = widened(x)
        half, one = x.dtype.type(0.5), x.dtype.type(1)
        if self.tanh:
            inner = x.dtype.type(2 * _TANH_SCALE) * (x + x.dtype.type(_TANH_CUBE) * x * x * x)
            return x / (one + np.exp(-inner))
        # From the tail that is small, so that no digits cancel; 0 at -inf, the limit.
        a = np.minimum(np.abs(x), x.dtype.type(40))
        return np.maximum(x, 0) - half * a * elementwise_of(math.erfc, a * _ROOT_HALF)

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        if self.tanh:
            square = mul(x, x)
            p = sigmoid(mul(mul(x, 2 * _TANH_SCALE), add_(mul(square, _TANH_CUBE), 1)))
            slope = mul(add_(mul(square, 3 * _TANH_CUBE), 1), 2 * _TANH_SCALE)
            bend = mul(mul(x, sub_(1, p)), slope)
            return (mul(g, mul(p, add_(bend, 1))),)
        below = mul(add_(erf(mul(x, _ROOT_HALF)), 1), 0.5)
        density = mul(exp(mul(mul(x, x), -0.5)), 1 / math.sqrt(2 * math.pi))
        return (mul(g, add_(below, mul(x, density))),)

    def scalar(self, s: Any, x: Any) -> Any:
        if self.tanh:
            # As in the gradient: where both are made, they share the exponential.
            inner = x * (2 * _TANH_SCALE) * (x * x * _TANH_CUBE + 1.0)
            return x * sigmoid_formula(s, inner)
        a = s.absolute(x)
        a = s.select(a > 40.0, s.const(40.0, x), a)
        if x.dtype == "f32":
            below = exp_formula(s, s.polynomial(a, _LOG_NORMAL), normal=True)
            below = s.select(a > 12.0, s.const(0.0, a), below)
        else:
            below = 0.5 * erfc_formula(s, a * _ROOT_HALF)
        return s.maximum(x, s.const(0.0, x)) - a * below


@op
class Silu(Elementwise):
    """x times sigmoid(x); also called swish."""

    accepts = dt.INEXACT
    saves = "inputs"

    def reference(self, x: Any) -> Any:
        x = widened(x)
        return x / (1 + np.exp(-x))

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        y = sigmoid(x)
        return (mul(g, mul(y, add_(mul(x, sub_(1, y)), 1))),)

    def scalar(self, s: Any, x: Any) -> Any:
        return x * sigmoid_formula(s, x)


def float_input(name: str, input: Any) -> Any:
    x = as_operand(name, input)
    if not x.dtype.is_floating_point:
        raise DTypeError(
            f"{name}: needs a floating dtype, got {x.dtype.name}", hint="convert with .float()"
        )
    return x


def _written(name: str, input: Any, out: Any, inplace: bool) -> Any:
    return input._become(out, name) if inplace else out


@public
@functional
def relu(input: Any, inplace: bool = False) -> Any:
    """max(x, 0), element by element.

    >>> relu(tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """
    return _written("relu", input, Relu()(as_operand("relu", input)), inplace)


@functional
def relu_(input: Any) -> Any:
    """In-place version of relu."""
    return relu(input, True)


@functional
@composite
def gelu(input: Any, approximate: str = "none") -> Any:
    """x times the normal distribution function of x; approximate="tanh" is the cheaper formula."""
    if approximate not in ("none", "tanh"):
        raise ArgumentError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    return Gelu(approximate == "tanh")(float_input("gelu", input))


@functional
@composite
def silu(input: Any, inplace: bool = False) -> Any:
    """x * sigmoid(x), element by element."""
    x = input if input.dtype.is_complex else float_input("silu", input)
    return _written("silu", input, Silu()(x), inplace)


functional(sigmoid)
functional(tanh)


def _clipped(x: Any, low: Any, high: Any) -> Any:
    """x between low and high; no gradient at the ends (hardtanh's rule); nan stays."""
    return where(le(x, low), low, where(ge(x, high), high, x))


@functional
@composite
def hardtanh(input: Any, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Any:
    """x limited to [min_val, max_val]; the gradient is 0 at the ends and outside."""
    if min_val > max_val:
        raise ArgumentError(f"hardtanh: min_val {min_val} is above max_val {max_val}")
    x = as_operand("hardtanh", input)
    low, high = (literal(v, x.dtype) for v in (min_val, max_val))
    return _written("hardtanh", input, _clipped(x, low, high), inplace)


@functional
@composite
def relu6(input: Any, inplace: bool = False) -> Any:
    """x limited to [0, 6]."""
    x = as_operand("relu6", input)
    return _written("relu6", input, _clipped(x, literal(0, x.dtype), literal(6, x.dtype)), inplace)


@functional
@composite
def leaky_relu(input: Any, negative_slope: float = 0.01, inplace: bool = False) -> Any:
    """x where positive, else negative_slope * x."""
    x = float_input("leaky_relu", input)
    return _written("leaky_relu", input, where(gt(x, 0), x, mul(x, negative_slope)), inplace)


@public
@functional
@composite
def prelu(input: Any, weight: Any) -> Any:
    """x where positive, else weight * x; weight (1,) or (C,) along dimension 1."""
    x = float_input("prelu", input)
    shape, n = shape_of(x), weight.shape[0] if weight.shape else 1
    if len(weight.shape) > 1 or (n != 1 and (len(shape) < 2 or shape[1] != n)):
        raise ShapeError(
            f"prelu: weight {tuple(weight.shape)} must have one element or one for each of the "
            f"{shape[1] if len(shape) > 1 else 1} channels of input {shape}"
        )
    slope = Reshape(tuple(n if a == 1 else 1 for a in range(len(shape))) if shape else ())(weight)
    return where(gt(x, 0), x, mul(x, slope))


def _elu(x: Any, alpha: float, rate: float) -> Any:
    positive = gt(x, 0)
    return where(positive, x, mul(expm1(mul(where(positive, 0.0, x), rate)), alpha))


@functional
@composite
def elu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Any:
    """x where positive, else alpha * (exp(x) - 1)."""
    return _written("elu", input, _elu(float_input("elu", input), alpha, 1), inplace)


@public
@functional
@composite
def selu(input: Any, inplace: bool = False) -> Any:
    """Scaled elu with the constants that keep mean and variance.

    Source: G. Klambauer and others, "Self-normalizing neural networks", 2017.
    """
    x = float_input("selu", input)
    out = mul(_elu(x, 1.6732632423543772, 1), 1.0507009873554805)
    return _written("selu", input, out, inplace)


@public
@functional
@composite
def celu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Any:
    """x where positive, else alpha * (exp(x / alpha) - 1)."""
    return _written("celu", input, _elu(float_input("celu", input), alpha, 1 / alpha), inplace)


@functional
@composite
def softplus(input: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """log(1 + exp(beta * x)) / beta; x itself where beta * x is above threshold."""
    x = float_input("softplus", input)
    scaled = mul(x, beta)
    large = gt(scaled, threshold)
    return where(large, x, div_(log1p(exp(where(large, 0.0, scaled))), beta))


@functional
@composite
def mish(input: Any, inplace: bool = False) -> Any:
    """x * tanh(softplus(x))."""
    x = float_input("mish", input)
    return _written("mish", input, mul(x, tanh(softplus(x))), inplace)


@functional
def softsign(input: Any) -> Any:
    """x / (1 + |x|)."""
    x = as_operand("softsign", input)
    return div_(x, add_(abs(x), 1))


@functional
@composite
def hardsigmoid(input: Any, inplace: bool = False) -> Any:
    """x / 6 + 1/2 limited to [0, 1]."""
    x = float_input("hardsigmoid", input)
    return _written("hardsigmoid", input, div_(_clipped(add_(x, 3), 0.0, 6.0), 6), inplace)


@functional
@composite
def hardswish(input: Any, inplace: bool = False) -> Any:
    """x * hardsigmoid(x)."""
    x = float_input("hardswish", input)
    return _written("hardswish", input, div_(mul(x, _clipped(add_(x, 3), 0.0, 6.0)), 6), inplace)


@functional
@composite
def logsigmoid(input: Any) -> Any:
    """log(sigmoid(x)), without overflow."""
    x = float_input("logsigmoid", input)
    return sub_(minimum(x, 0), log1p(exp(neg(abs(x)))))


@functional
def hardshrink(input: Any, lambd: float = 0.5) -> Any:
    """x where |x| > lambd, else 0."""
    x = float_input("hardshrink", input)
    return where(le(abs(x), lambd), 0.0, x)


@functional
@composite
def softshrink(input: Any, lambd: float = 0.5) -> Any:
    """x moved towards 0 by lambd; 0 where |x| <= lambd."""
    if lambd < 0:
        raise ArgumentError(f"softshrink: lambd must not be negative, got {lambd}")
    x = float_input("softshrink", input)
    inside = bitwise_and(ge(x, -lambd), le(x, lambd))
    return where(inside, 0.0, where(gt(x, 0), sub_(x, lambd), add_(x, lambd)))


@functional
def tanhshrink(input: Any) -> Any:
    """x - tanh(x)."""
    x = as_operand("tanhshrink", input)
    return sub_(x, tanh(x))


@public
@functional
def threshold(input: Any, threshold: float, value: float, inplace: bool = False) -> Any:
    """x where it is above threshold, else value."""
    x = as_operand("threshold", input)
    out = where(le(x, threshold), literal(value, x.dtype), x)
    return _written("threshold", input, out, inplace)


@functional
@composite
def glu(input: Any, dim: int = -1) -> Any:
    """First half of x along `dim` times the sigmoid of the second half."""
    x = float_input("glu", input)
    axis = normalize_dim("glu", dim, len(x.shape))
    n = x.shape[axis] if x.shape else 1
    if n % 2:
        raise ShapeError(f"glu: dimension {dim} must be even to be halved, got {n}")
    return mul(slice_axis(x, axis, 0, n // 2), sigmoid(slice_axis(x, axis, n // 2, n)))


def _softmax_input(name: str, input: Any, dim: Any, dtype: Any) -> tuple[Any, tuple[int, ...], Any]:
    if dim is None:
        raise ArgumentError(f"{name}: dim must be given", hint=f"{name}(x, dim=-1)")
    x = as_operand(name, input)
    x = float_input(name, cast(x, as_dtype(dtype)) if dtype is not None else x)
    axis = normalize_dim(name, dim, len(x.shape))
    wide = cast(x, dt.float32) if x.dtype.itemsize == 2 else x
    return wide, (axis,) if x.shape else (), x.dtype


def _sum_kept(x: Any, axes: tuple[int, ...]) -> Any:
    return broadcast_to(keep_dims(Sum(axes)(x), shape_of(x), axes), shape_of(x))


@public
@functional
@composite
def softmax(input: Any, dim: Any = None, _stacklevel: int = 3, dtype: Any = None) -> Any:
    """exp(x) / sum(exp(x)) along `dim`, without overflow; in `dtype` if given.

    16-bit floats are computed in float32. nan where all elements are -inf.

    >>> softmax(tensor([0.0, 0.0]), dim=0)
    tensor([0.5000, 0.5000])
    """
    x, axes, result = _softmax_input("softmax", input, dim, dtype)
    if not axes or 0 in x.shape:
        return cast(exp(sub_(x, x)), result)
    power = exp(shift_by_max(x, axes))
    return cast(div_(power, _sum_kept(power, axes)), result)


@functional
def softmin(input: Any, dim: Any = None, _stacklevel: int = 3, dtype: Any = None) -> Any:
    """exp(-x) / sum(exp(-x)) along `dim`."""
    return softmax(neg(input), dim, dtype=dtype)


@public
@functional
@composite
def log_softmax(input: Any, dim: Any = None, _stacklevel: int = 3, dtype: Any = None) -> Any:
    """log(softmax(x)) along `dim`, without overflow or loss of small values."""
    x, axes, result = _softmax_input("log_softmax", input, dim, dtype)
    if not axes or 0 in x.shape:
        return cast(sub_(x, x), result)
    shifted = shift_by_max(x, axes)
    return cast(sub_(shifted, log(_sum_kept(exp(shifted), axes))), result)


def in_place(f: Any) -> Any:
    """The form `f_` of an activation, which writes its input; published."""

    def form(input: Any, *args: Any, **kwargs: Any) -> Any:
        return f(input, *args, **kwargs, inplace=True)

    form.__name__ = form.__qualname__ = f.__name__ + "_"
    form.__doc__ = f"In-place version of {f.__name__}."
    return functional(form)


celu_, elu_, hardtanh_, leaky_relu_, selu_, threshold_ = map(
    in_place, (celu, elu, hardtanh, leaky_relu, selu, threshold)
)
