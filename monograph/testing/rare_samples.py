"""Example inputs of the ops that samples.py has no room for: special functions and their kin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..ops import gamma_gradient as _registers  # noqa: F401  (else only distributions load it)
from .samples import TABLE, Sample, _integers, _matrices, _of, _op, _reals


def _whole(name: str) -> Callable:
    def make(rng: Any) -> list[Sample]:
        pair = _integers(rng, (3, 4)), _integers(rng, (3, 4))
        return [
            Sample(_op(name), pair),
            Sample(_op(name), tuple(a.astype(np.int16) for a in pair)),
        ]

    return make


def _within(*cases: tuple[Any, ...], gradient: bool = True) -> Callable:
    """Samples from (op name, fields, ranges of the inputs)."""

    def make(rng: Any) -> list[Sample]:
        found = []
        for name, fields, ranges in cases:
            args = tuple(_reals(rng, (2, 3), *r) for r in ranges)
            found.append(Sample(_op(name, *fields), args, gradient))
        return found

    return make


def _lu(rng: Any) -> list[Sample]:
    return [
        s for shape in ((2, 3, 3), (3, 2), (2, 4)) for s in _matrices("lu_factor", shape=shape)(rng)
    ]


def _symmetric(rng: Any, hermitian: bool) -> np.ndarray:
    x = _reals(rng, (2, 4, 4)) + (1j * _reals(rng, (2, 4, 4)) if hermitian else 0)
    x[0, [0, 1], [0, 1]] = 0  # such a matrix needs blocks of two rows
    return x + x.conj().swapaxes(-1, -2)


def _ldl(rng: Any) -> list[Sample]:
    return [
        Sample(_op("ldl_factor", h, False), (_symmetric(rng, h),), gradient=False)
        for h in (False, True)
    ]


def _ldl_solves(rng: Any) -> list[Sample]:
    found = []
    for sample in _ldl(rng):
        factors, pivots, _ = sample.op.reference(*sample.args)
        right = _reals(rng, (2, 4, 3)).astype(factors.dtype)
        op = _op("ldl_solve", sample.op.is_hermitian)  # type: ignore[attr-defined]
        found.append(Sample(op, (factors, pivots, right), gradient=False, batch=False))
    return found


def _pivots(rng: Any) -> list[Sample]:
    pivots = np.array([[2, 3, 3], [1, 2, 3]], np.int32)
    return [Sample(_op("pivots_to_order", 4), (pivots,), batch=False)]


def _pseudo_inverse(rng: Any) -> list[Sample]:
    x = _reals(rng, (2, 4, 3))
    # The second argument is the first one's pseudo-inverse: differences of either mean nothing.
    return [Sample(_op("pseudo_inverse"), (x, np.linalg.pinv(x)), gradient=False)]


def _modes(rng: Any) -> list[Sample]:
    x = _reals(rng, (4, 3))
    return [*(Sample(_op("mode", a), (x,)) for a in (0, 1)),
            Sample(_op("mode", 1), (_integers(rng, (3, 9), 0, 4),), False)]  # fmt: skip


def _half_definite(rng: Any) -> list[Sample]:
    x = np.stack([np.eye(3), np.diag([1.0, -1.0, 2.0])])
    return [Sample(_op("cholesky_info"), (x,))]


TABLE.update(
    {
        "gcd": _whole("gcd"),
        "lcm": _whole("lcm"),
        "next_after": _of(("next_after", (), [(2, 3), (2, 3)])),
        "frexp": _within(("frexp", (), [(1.1, 1.9)])),
        "bessel_j": _of(("bessel_j", (0,), [(2, 3)]), ("bessel_j", (1,), [(2, 3)])),
        "bessel_y": _within(("bessel_y", (0,), [(0.5, 40)]), ("bessel_y", (1,), [(0.5, 40)])),
        "bessel_i": _within(
            ("bessel_i", (0, False), [(-3, 3)]), ("bessel_i", (1, False), [(0.2, 3)]),
            ("bessel_i", (0, True), [(0.2, 3)]), ("bessel_i", (1, True), [(0.2, 3)]),
        ),
        "bessel_k": _within(
            ("bessel_k", (0, True), [(0.1, 9)]), ("bessel_k", (1, False), [(0.1, 9)]),
        ),
        "airy": _within(("airy", (), [(-9, 9)])),
        "spherical_bessel_j0": _within(("spherical_bessel_j0", (), [(-9, 9)])),
        "gamma_p": _within(("gamma_p", (), [(0.5, 4), (0.5, 6)]), gradient=False),
        "gamma_q": _within(("gamma_q", (), [(0.5, 4), (0.5, 6)]), gradient=False),
        "zeta": _within(("zeta", (), [(1.5, 4), (0.5, 6)]), gradient=False),
        "gamma_shape_gradient": _within(
            ("gamma_shape_gradient", (), [(0.3, 5), (0.3, 6)]), gradient=False
        ),
        "ndtri": _within(("ndtri", (), [(0.1, 0.9)])),
        "lu_factor": _lu,
        "ldl_factor": _ldl,
        "ldl_solve": _ldl_solves,
        "as_strided": _of(
            ("as_strided", ((2, 2), (1, 3), 1), [(3, 4)]),
            ("as_strided", ((3, 2), (0, 1), 2), [(5,)]),
            ("as_strided", ((4,), (2,), 0), [(2, 2, 2)]),
        ),
        "mode": _modes,
        "singular_values": _matrices("singular_values", shape=(2, 4, 3)),
        "pivots_to_order": _pivots,
        "pseudo_inverse": _pseudo_inverse,
        "cholesky_info": _half_definite,
        "geqrf": _matrices("geqrf", shape=(2, 4, 3), gradient=False),
        "matrix_exp": _of(("matrix_exp", (), [(2, 3, 3)]), ("matrix_exp", (), [(2, 2)])),
        "polynomial": _within(
            ("polynomial", ("hermite_polynomial_h",), [(-2, 2), (0, 6)]),
            ("polynomial", ("legendre_polynomial_p",), [(-1, 1), (0, 6)]),
        ),
    }
)  # fmt: skip
