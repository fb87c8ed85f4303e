"""How a gamma number moves when the shape parameter of its distribution does.

A number x with F(a, x) = u for a fixed u obeys dx/da = -(dF/da) / (dF/dx). Source: Figurnov,
Mohamed, Mnih, "Implicit reparameterization gradients", 2018. F is the regularised lower incomplete
gamma function; its series and its continued fraction are differentiated term by term
(incomplete.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ir.op import op
from .gamma import Digamma
from .pointwise import Pointwise, operands, wide

_STEPS = 20_000


def _below(a: Any, x: Any, log_x: Any) -> Any:
    """By the series of the lower part, for x < a + 1."""
    term = total = 1 / a
    slope = slope_total = -1 / (a * a)
    k = a
    for _ in range(_STEPS):
        k = k + 1
        slope = (slope - term / k) * (x / k)
        term = term * (x / k)
        total, slope_total = total + term, slope_total + slope
        if not (np.abs(slope) > 1e-16 * np.abs(slope_total)).any():
            break
    return -x * (total * log_x + slope_total)


def _above(a: Any, x: Any, log_x: Any) -> Any:
    """By the continued fraction of the upper part (Lentz's method), for x >= a + 1."""
    b = x + 1 - a
    c, dc = np.full_like(x, 1e300), np.zeros_like(x)
    d = 1 / b
    dd = d * d
    h, dh = d, dd
    for i in range(1, _STEPS):
        step = -i * (i - a)
        b = b + 2
        low = step * d + b
        dlow = i * d + step * dd - 1
        d = 1 / low
        dd = -dlow * d * d
        dc = i / c - step * dc / (c * c) - 1
        c = b + step / c
        factor, dfactor = d * c, dd * c + d * dc
        h, dh = h * factor, dh * factor + h * dfactor
        if not (np.abs(dfactor) + np.abs(factor - 1) > 1e-15).any():
            break
    return x * (h * log_x + dh)


@op
class GammaShapeGradient(Pointwise):
    """dx/da of gamma numbers x with shape parameters a."""

    name = "gamma_shape_gradient"
    differentiable = False

    def reference(self, a: Any, x: Any) -> Any:
        a, x = wide(a), wide(x)
        out = np.full(a.shape, np.nan)
        good = (a > 0) & (x > 0) & np.isfinite(a) & np.isfinite(x)
        small = good & (x < a + 1)
        for mask, f in ((small, _below), (good & ~small, _above)):
            if mask.any():
                log_x = np.log(x[mask]) - Digamma().reference(a[mask])
                out[mask] = f(a[mask], x[mask], log_x)
        return out


def gamma_shape_gradient(a: Any, x: Any) -> Any:
    """dx/da of gamma numbers x of rate 1 with shape parameters a, elementwise."""
    return GammaShapeGradient()(*operands("gamma_shape_gradient", a, x))
