"""Bessel and Airy functions, computed in float64.

Integrals of periodic functions by the trapezoidal rule, whose error falls exponentially
(L. N. Trefethen and J. A. C. Weideman, "The exponentially convergent trapezoidal rule", SIAM Review
56, 2014), and asymptotic series for large arguments. Integral representations and series: NIST
Digital Library of Mathematical Functions, 10.9, 10.17, 10.32, 10.40 (Bessel), 10.23 (Neumann's
series), 9.4 and 9.7 (Airy).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..ir.op import op
from .align import public
from .arith import div_, eq, mul, sign, sub, where
from .pointwise import Pointwise, floating_operand, wide

FAR = 25.0  # from here on the asymptotic series have all digits
_POINTS = 96  # of the trapezoidal rule on [0, pi]: enough up to FAR
_ANGLES = (np.arange(_POINTS) + 0.5) * math.pi / _POINTS
_SINES, _COSINES = np.sin(_ANGLES), np.cos(_ANGLES)
# sum over k of (-1)**k cos(2 k t) / k: the weight that turns J's integral into Neumann's sum for Y.
_TERMS = np.arange(1, 41)
_NEUMANN = ((-1.0) ** _TERMS / _TERMS) @ np.cos(2 * np.outer(_TERMS, _ANGLES))
_EULER = float(np.euler_gamma)


def _on(mask: Any, f: Any, x: Any, out: Any) -> None:
    """out[mask] = f(x[mask]), in pieces that bound the memory of the sums."""
    chosen = x[mask]
    parts = [f(chosen[i : i + 8192]) for i in range(0, chosen.size, 8192)]
    out[mask] = np.concatenate(parts) if parts else 0.0


def _hankel(order: float, x: Any, count: int = 14) -> tuple[Any, Any]:
    """The slowly varying parts (P, Q) of the asymptotic series of J and Y (DLMF 10.17)."""
    term, p, q = np.ones_like(x), np.ones_like(x), np.zeros_like(x)
    for k in range(1, 2 * count):
        term = term * (4 * order * order - (2 * k - 1) ** 2) / (8 * k * x)
        turn = -1.0 if k // 2 % 2 else 1.0
        if k % 2:
            q = q + turn * term
        else:
            p = p + turn * term
    return p, q


def bessel_j(order: int, x: Any) -> Any:
    """J of order 0 or 1."""
    a = np.abs(x)
    out = np.full(a.shape, np.nan)
    near, far = a <= FAR, a > FAR

    def integral(v: Any) -> Any:
        angle = np.outer(v, _SINES)
        return np.cos(angle).mean(1) if order == 0 else (np.sin(angle) * _SINES).mean(1)

    def series(v: Any) -> Any:
        p, q = _hankel(order, v)
        phase = v - (0.5 * order + 0.25) * math.pi
        return np.sqrt(2 / (math.pi * v)) * (p * np.cos(phase) - q * np.sin(phase))

    _on(near, integral, a, out)
    _on(far & np.isfinite(a), series, a, out)
    out[np.isinf(a)] = 0.0
    return np.copysign(1.0, x) * out if order else out


def bessel_y(order: int, x: Any) -> Any:
    """Y of order 0 or 1: -inf at 0, nan below."""
    out = np.full(x.shape, np.nan)

    def integral(v: Any) -> Any:
        angle = np.outer(v, _SINES)
        logs = np.log(v / 2) + _EULER
        if order == 0:
            cosine = np.cos(angle)
            return 2 / math.pi * logs * cosine.mean(1) - 4 / math.pi * (cosine * _NEUMANN).mean(1)
        slope = -np.sin(angle) * _SINES  # of cos(angle)
        value = 2 / math.pi * (np.cos(angle).mean(1) / v + logs * slope.mean(1))
        return -value + 4 / math.pi * (slope * _NEUMANN).mean(1)

    def series(v: Any) -> Any:
        p, q = _hankel(order, v)
        phase = v - (0.5 * order + 0.25) * math.pi
        return np.sqrt(2 / (math.pi * v)) * (p * np.sin(phase) + q * np.cos(phase))

    _on((x > 0) & (x <= FAR), integral, x, out)
    _on((x > FAR) & np.isfinite(x), series, x, out)
    out[x == 0] = -np.inf
    out[x == np.inf] = 0.0
    return out


def bessel_i_scaled(order: int, x: Any) -> Any:
    """exp(-|x|) times I of order 0 or 1."""
    a = np.abs(x)
    out = np.full(a.shape, np.nan)

    def integral(v: Any) -> Any:
        weight = np.exp(np.outer(v, _COSINES - 1))
        return weight.mean(1) if order == 0 else (weight * _COSINES).mean(1)

    def series(v: Any) -> Any:
        term, total = np.ones_like(v), np.ones_like(v)
        for k in range(1, 20):
            term = -term * (4 * order * order - (2 * k - 1) ** 2) / (8 * k * v)
            total = total + term
        return total / np.sqrt(2 * math.pi * v)

    _on(a <= FAR, integral, a, out)
    _on((a > FAR) & np.isfinite(a), series, a, out)
    out[np.isinf(a)] = 0.0
    # The integral of order 1 cancels near 0: two terms of the power series are exact there.
    if order:
        tiny = a < 1e-3
        out[tiny] = (a * 0.5 * (1 + a * a / 8) * np.exp(-a))[tiny]
    return np.copysign(1.0, x) * out if order else out


def bessel_k_scaled(order: float, x: Any) -> Any:
    """exp(x) times K of order 0, 1 or a fraction: inf at 0, nan below.

    The integral of exp(-x (cosh t - 1)) cosh(order t) over t falls doubly exponentially.
    """
    out = np.full(x.shape, np.nan)

    def integral(v: Any) -> Any:
        # cosh t - 1 = 2 sinh(t / 2)**2, up to where the exponent passes 745
        last = 2 * np.arcsinh(np.sqrt(380 / v))
        step = last / 200
        t = np.outer(step, np.arange(201))
        value = np.exp(-2 * v[:, None] * np.sinh(t / 2) ** 2 + abs(order) * t)
        value = value * (1 + np.exp(-2 * abs(order) * t)) / 2
        value[:, 0] *= 0.5
        return value.sum(1) * step

    def small(v: Any) -> Any:
        if order == 0:
            return -(np.log(v / 2) + _EULER)
        return 1 / v

    positive = x > 0
    cut = 1e-18 if order in (0, 1) else 0.0
    _on(positive & (x >= cut) & np.isfinite(x), integral, x, out)
    _on(positive & (x < cut), small, x, out)
    out[x == 0] = np.inf
    out[x == np.inf] = 0.0
    return out


def airy(x: Any) -> Any:
    """Ai: by its power series near 0, by K of order 1/3 right of it, by asymptotics left of it."""
    out = np.full(x.shape, np.nan)

    def power(v: Any) -> Any:
        c1, c2 = 0.355028053887817239, 0.258819403792806798
        cube = v**3
        f, g = np.ones_like(v), v.copy()
        first, second = f, g
        for k in range(1, 60):
            first = first * cube / ((3 * k - 1) * (3 * k))
            second = second * cube / ((3 * k) * (3 * k + 1))
            f, g = f + first, g + second
        return c1 * f - c2 * g

    def right(v: Any) -> Any:
        z = 2 / 3 * v * np.sqrt(v)
        return np.sqrt(v / 3) / math.pi * bessel_k_scaled(1 / 3, z) * np.exp(-z)

    def left(v: Any) -> Any:
        a = -v
        z = 2 / 3 * a * np.sqrt(a)
        term, even, odd = np.ones_like(a), np.ones_like(a), np.zeros_like(a)
        for k in range(1, 20):
            term = term * (6 * k - 5) * (6 * k - 3) * (6 * k - 1) / (216 * k * (2 * k - 1) * z)
            turn = -1.0 if k // 2 % 2 else 1.0
            if k % 2:
                odd = odd + turn * term
            else:
                even = even + turn * term
        phase = z - math.pi / 4
        return (np.cos(phase) * even + np.sin(phase) * odd) / (math.sqrt(math.pi) * a**0.25)

    _on((x >= -7) & (x <= 1), power, x, out)
    _on((x > 1) & np.isfinite(x), right, x, out)
    _on((x < -7) & np.isfinite(x), left, x, out)
    out[np.isinf(x)] = 0.0
    return out


class _Function(Pointwise):
    saves = "none"
    differentiable = False


@op
class BesselJ(_Function):
    """Bessel function of the first kind, of order 0 or 1."""

    order: int

    def reference(self, x: Any) -> Any:
        return bessel_j(self.order, wide(x))


@op
class BesselY(_Function):
    """Bessel function of the second kind, of order 0 or 1."""

    order: int

    def reference(self, x: Any) -> Any:
        return bessel_y(self.order, wide(x))


@op
class BesselI(Pointwise):
    """Modified Bessel function of the first kind, of order 0 or 1; `scaled` times exp(-|x|)."""

    order: int
    scaled: bool

    def reference(self, x: Any) -> Any:
        x = wide(x)
        value = bessel_i_scaled(self.order, x)
        with np.errstate(all="ignore"):
            # exp in two factors: the product overflows only where the function does
            half = np.exp(np.abs(x) / 2)
            grown = np.where(np.isinf(x), np.copysign(np.inf, x), half * value * half)
        if self.scaled:
            return value
        return np.abs(grown) if self.order == 0 else grown

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        other = BesselI(1 - self.order, self.scaled)(x)
        slope = other
        if self.order == 1:  # I1' = I0 - I1 / x, and 1/2 at 0
            zero = eq(x, 0)
            slope = where(zero, 0.5, sub(other, div_(out, where(zero, 1.0, x))))
        if self.scaled:
            slope = sub(slope, mul(sign(x), out))
        return (mul(g, slope),)


@op
class BesselK(_Function):
    """Modified Bessel function of the second kind, of order 0 or 1; `scaled` times exp(x)."""

    order: int
    scaled: bool

    def reference(self, x: Any) -> Any:
        x = wide(x)
        value = bessel_k_scaled(self.order, x)
        return value if self.scaled else value * np.exp(-np.maximum(x, 0))


@op
class Airy(_Function):
    """Airy function Ai."""

    def reference(self, x: Any) -> Any:
        return airy(wide(x))


@op
class SphericalBesselJ0(_Function):
    """sin(x) / x; 1 at 0."""

    def reference(self, x: Any) -> Any:
        x = wide(x)
        return np.where(np.isinf(x), 0.0, np.sinc(x / math.pi))


@public
def i0(input: Any) -> Any:
    """Modified Bessel function of the first kind, of order 0.

    >>> i0(tensor([0.0, 1.0]))
    tensor([1.0000, 1.2661])
    """
    return BesselI(0, False)(floating_operand("i0", input))


def i0e(input: Any) -> Any:
    """exp(-|x|) times the modified Bessel function of the first kind of order 0."""
    return BesselI(0, True)(floating_operand("i0e", input))


def i1(input: Any) -> Any:
    """Modified Bessel function of the first kind, of order 1."""
    return BesselI(1, False)(floating_operand("i1", input))


def i1e(input: Any) -> Any:
    """exp(-|x|) times the modified Bessel function of the first kind of order 1."""
    return BesselI(1, True)(floating_operand("i1e", input))


def modified_bessel_i0(input: Any) -> Any:
    """Modified Bessel function of the first kind, of order 0. The same as i0."""
    return i0(input)


def modified_bessel_i1(input: Any) -> Any:
    """Modified Bessel function of the first kind, of order 1. The same as i1."""
    return i1(input)


def bessel_j0(input: Any) -> Any:
    """Bessel function of the first kind, of order 0. No gradient, as in PyTorch."""
    return BesselJ(0)(floating_operand("bessel_j0", input))


def bessel_j1(input: Any) -> Any:
    """Bessel function of the first kind, of order 1. No gradient, as in PyTorch."""
    return BesselJ(1)(floating_operand("bessel_j1", input))


def bessel_y0(input: Any) -> Any:
    """Bessel function of the second kind, of order 0: -inf at 0, nan below. No gradient."""
    return BesselY(0)(floating_operand("bessel_y0", input))


def bessel_y1(input: Any) -> Any:
    """Bessel function of the second kind, of order 1: -inf at 0, nan below. No gradient."""
    return BesselY(1)(floating_operand("bessel_y1", input))


def modified_bessel_k0(input: Any) -> Any:
    """Modified Bessel function of the second kind, of order 0: inf at 0, nan below."""
    return BesselK(0, False)(floating_operand("modified_bessel_k0", input))


def modified_bessel_k1(input: Any) -> Any:
    """Modified Bessel function of the second kind, of order 1: inf at 0, nan below."""
    return BesselK(1, False)(floating_operand("modified_bessel_k1", input))


def scaled_modified_bessel_k0(input: Any) -> Any:
    """exp(x) times the modified Bessel function of the second kind of order 0."""
    return BesselK(0, True)(floating_operand("scaled_modified_bessel_k0", input))


def scaled_modified_bessel_k1(input: Any) -> Any:
    """exp(x) times the modified Bessel function of the second kind of order 1."""
    return BesselK(1, True)(floating_operand("scaled_modified_bessel_k1", input))


def airy_ai(input: Any) -> Any:
    """Airy function Ai. No gradient, as in PyTorch."""
    return Airy()(floating_operand("airy_ai", input))


def spherical_bessel_j0(input: Any) -> Any:
    """sin(x) / x, the spherical Bessel function of order 0. No gradient, as in PyTorch."""
    return SphericalBesselJ0()(floating_operand("spherical_bessel_j0", input))
