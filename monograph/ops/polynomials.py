"""Orthogonal polynomials of degree n, both tensors, by their three-term recurrences (DLMF 18.9).

Each is 1 for n = 0, 0 for negative n; n is cut to a whole number. No gradients, as in PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..ir.op import op
from .pointwise import Pointwise, operands, wide

# family: (p1 = a x + b as (a, b), k -> (A, B, C) of p[k+1] = (A x + B) p[k] - C p[k-1])
_Rule = tuple[tuple[float, float], Callable[[int], tuple[float, float, float]]]
_RULES: dict[str, _Rule] = {
    "chebyshev_polynomial_t": ((1, 0), lambda k: (2, 0, 1)),
    "chebyshev_polynomial_u": ((2, 0), lambda k: (2, 0, 1)),
    "chebyshev_polynomial_v": ((2, -1), lambda k: (2, 0, 1)),
    "chebyshev_polynomial_w": ((2, 1), lambda k: (2, 0, 1)),
    "shifted_chebyshev_polynomial_t": ((2, -1), lambda k: (4, -2, 1)),
    "shifted_chebyshev_polynomial_u": ((4, -2), lambda k: (4, -2, 1)),
    "shifted_chebyshev_polynomial_v": ((4, -3), lambda k: (4, -2, 1)),
    "shifted_chebyshev_polynomial_w": ((4, -1), lambda k: (4, -2, 1)),
    "hermite_polynomial_h": ((2, 0), lambda k: (2, 0, 2 * k)),
    "hermite_polynomial_he": ((1, 0), lambda k: (1, 0, k)),
    "laguerre_polynomial_l": (
        (-1, 1),
        lambda k: (-1 / (k + 1), (2 * k + 1) / (k + 1), k / (k + 1)),
    ),
    "legendre_polynomial_p": ((1, 0), lambda k: ((2 * k + 1) / (k + 1), 0, k / (k + 1))),
}


@op
class Polynomial(Pointwise):
    """The polynomial of a family and of degree n at x: inputs (x, n)."""

    family: str
    saves = "none"
    differentiable = False

    def reference(self, x: Any, n: Any) -> Any:
        x, degree = wide(x), wide(n)
        (a, b), rule = _RULES[self.family]
        whole = np.trunc(np.where(np.isfinite(degree), degree, 0))
        before, now = np.ones_like(x), a * x + b
        out = np.where(whole == 0, 1.0, now)
        with np.errstate(all="ignore"):
            for k in range(1, int(whole.max(initial=0))):
                slope, level, last = rule(k)
                before, now = now, (slope * x + level) * now - last * before
                out = np.where(whole == k + 1, now, out)
        out = np.where(whole < 0, 0.0, out)
        return np.where(np.isfinite(degree), out, np.nan)


def _polynomial(family: str, what: str) -> Callable:
    def f(input: Any, n: Any) -> Any:
        return Polynomial(family)(*operands(family, input, n))

    f.__name__ = f.__qualname__ = family
    f.__doc__ = f"{what} of degree n at each element; input and n broadcast. No gradient."
    return f


def _chebyshev(letter: str, kind: str) -> Callable:
    name = f"chebyshev_polynomial_{letter}"
    return _polynomial(name, f"Chebyshev polynomial of the {kind} kind")


def _shifted(letter: str, kind: str) -> Callable:
    name = f"shifted_chebyshev_polynomial_{letter}"
    return _polynomial(name, f"Chebyshev polynomial of the {kind} kind, shifted to [0, 1],")


chebyshev_polynomial_t = _chebyshev("t", "first")
chebyshev_polynomial_u = _chebyshev("u", "second")
chebyshev_polynomial_v = _chebyshev("v", "third")
chebyshev_polynomial_w = _chebyshev("w", "fourth")
shifted_chebyshev_polynomial_t = _shifted("t", "first")
shifted_chebyshev_polynomial_u = _shifted("u", "second")
shifted_chebyshev_polynomial_v = _shifted("v", "third")
shifted_chebyshev_polynomial_w = _shifted("w", "fourth")
hermite_polynomial_h = _polynomial("hermite_polynomial_h", "Physicists' Hermite polynomial")
hermite_polynomial_he = _polynomial("hermite_polynomial_he", "Probabilists' Hermite polynomial")
laguerre_polynomial_l = _polynomial("laguerre_polynomial_l", "Laguerre polynomial")
legendre_polynomial_p = _polynomial("legendre_polynomial_p", "Legendre polynomial")
