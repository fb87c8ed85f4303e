"""Factorization of symmetric matrices that need not be definite, and what is solved with it.

P' A P = L D L' with blocks of one or two rows in D, by the pivoting of Bunch and Kaufman ("Some
stable methods for calculating inertia and solving symmetric linear systems", Math. Comp. 31, 1977)
in LAPACK's form (sytrf and hetrf of the lower triangle): L and D share one matrix, and a pivot -p
stands at both rows of a block of two.
"""

from __future__ import annotations

import math
from collections import namedtuple
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.errors import LinAlgError, ShapeError
from ..ir.op import Aval, op
from .align import broadcast_to
from .decompositions import _Matrix
from .linalg import _matrices, _stacked

LDLFactorResult = namedtuple("LDLFactorResult", "LD pivots")
LDLFactorExResult = namedtuple("LDLFactorExResult", "LD pivots info")

_GROWTH = (1 + math.sqrt(17)) / 8  # the bound of Bunch and Kaufman


def _size(x: Any) -> Any:
    return np.abs(x.real) + np.abs(x.imag)


def _choice(a: Any, k: int) -> tuple[int, int]:
    """(row to exchange with, rows of the block) for step k."""
    n, here = len(a), _size(a[k, k])
    if k == n - 1:
        return k, 1
    below = _size(a[k + 1 :, k])
    most = int(below.argmax())
    column, at = below[most], k + 1 + most
    if max(here, column) == 0 or math.isnan(here) or here >= _GROWTH * column:
        return k, 1
    row = _size(a[at, k:at]).max()
    if at < n - 1:
        row = max(row, _size(a[at + 1 :, at]).max())
    if here >= _GROWTH * column * (column / row):
        return k, 1
    return (at, 1) if _size(a[at, at]) >= _GROWTH * row else (at, 2)


def _exchange(a: Any, k: int, i: int, j: int, turn: Any) -> None:
    """Exchange rows and columns i < j of what is left of the lower triangle from step k on."""
    a[j + 1 :, [i, j]] = a[j + 1 :, [j, i]]
    between = a[i + 1 : j, i].copy()
    a[i + 1 : j, i], a[j, i + 1 : j] = turn(a[j, i + 1 : j]), turn(between)
    a[j, i] = turn(a[j, i])
    a[[i, j], [i, j]] = a[[j, i], [j, i]]
    if i > k:
        a[[i, j], k] = a[[j, i], k]


def _factored(a: Any, is_hermitian: bool) -> tuple[Any, int]:
    """(pivots, info) of one lower triangle, which becomes L and D."""
    turn = np.conj if is_hermitian else np.asarray
    n, k, info = len(a), 0, 0
    pivots = np.zeros(n, np.int32)
    while k < n:
        if is_hermitian:
            a[k, k] = a[k, k].real
        at, rows = _choice(a, k)
        last = k + rows - 1
        if at != last:
            _exchange(a, k, last, at, turn)
        if is_hermitian:
            a[last, last] = a[last, last].real
        pivots[k : k + rows] = at + 1 if rows == 1 else -(at + 1)
        rest, block = a[k + rows :, k : k + rows].copy(), a[k : k + rows, k : k + rows]
        if rows == 1 and block[0, 0] == 0 and not rest.any():
            info = info or k + 1
        elif len(rest):
            if rows == 2:
                block = np.array([[block[0, 0], turn(block[1, 0])], [block[1, 0], block[1, 1]]])
                lower = _of_two(rest, block)
            else:
                lower = rest / block[0, 0]
            a[k + rows :, k + rows :] -= np.tril(lower @ turn(rest).T)
            a[k + rows :, k : k + rows] = lower
        k += rows
    return pivots, info


def _of_two(x: Any, block: Any) -> Any:
    """x block**-1 for a block [[p, q'], [q, r]] whose q is its largest element."""
    (p, over), (q, r) = block
    p, r = p / q, r / over  # block = [[p q, over], [q, r over]]
    scale = 1 / (p * r - 1)
    first, second = x[:, 0] / q, x[:, 1] / over
    return np.stack([(r * first - second) * scale, (p * second - first) * scale], 1)


@op
class LDLFactor(_Matrix):
    """(L and D in one lower triangle, pivots, info) of each symmetric or Hermitian matrix."""

    is_hermitian: bool
    is_strict: bool  # a 0 on D's diagonal is an error
    name = "ldl_factor"
    saves = "none"
    n_outputs = 3
    differentiable = False

    def infer(self, x: Any) -> tuple[Aval, Aval, Aval]:
        self.check_dtypes(x)
        shape = tuple(x.shape)
        return Aval(shape, x.dtype), Aval(shape[:-1], dt.int32), Aval(shape[:-2], dt.int32)

    def reference(self, x: Any) -> Any:
        lead, n = x.shape[:-2], x.shape[-1]
        out = np.tril(x).reshape(-1, n, n) if x.size else np.zeros((0, n, n), x.dtype)
        pivots = np.zeros((len(out), n), np.int32)
        info = np.zeros(len(out) or int(np.prod(lead)), np.int32)
        for at in range(len(out)):
            pivots[at], info[at] = _factored(out[at], self.is_hermitian)
        if self.is_strict and info.any():
            raise LinAlgError(f"linalg.ldl_factor: D has a 0; info is {info.tolist()}")
        return out.reshape(x.shape), pivots.reshape(x.shape[:-1]), info.reshape(lead)


@op
class LDLSolve(_Matrix):
    """X of A X = B from L, D and pivots of A, and B (..., n, k)."""

    is_hermitian: bool
    name = "ldl_solve"
    saves = "none"
    differentiable = False

    def infer(self, ld: Any, pivots: Any, b: Any) -> Aval:
        return Aval(tuple(b.shape), b.dtype)

    def reference(self, ld: Any, pivots: Any, b: Any) -> Any:
        out = np.array(b)
        for at in np.ndindex(b.shape[:-2]):
            _solved(ld[at], pivots[at], out[at], self.is_hermitian)
        return out


def _solved(ld: Any, pivots: Any, x: Any, is_hermitian: bool) -> None:
    turn = np.conj if is_hermitian else np.asarray
    n, k, starts = len(ld), 0, []
    while k < n:
        rows = 1 if pivots[k] > 0 else 2
        last, at = k + rows - 1, abs(int(pivots[k])) - 1
        x[[last, at]] = x[[at, last]]
        x[k + rows :] -= ld[k + rows :, k : k + rows] @ x[k : k + rows]
        if rows == 1:
            x[k] /= ld[k, k]
        else:
            over = turn(ld[k + 1, k])
            block = np.array([[ld[k, k], ld[k + 1, k]], [over, ld[k + 1, k + 1]]])
            x[k : k + 2] = _of_two(x[k : k + 2].T, block).T
        starts.append((k, rows, last, at))
        k += rows
    for k, rows, last, at in reversed(starts):
        x[k : k + rows] -= turn(ld[k + rows :, k : k + rows]).T @ x[k + rows :]
        x[[last, at]] = x[[at, last]]


def ldl_factor_ex(
    A: Any, *, hermitian: bool = False, check_errors: bool = False
) -> LDLFactorExResult:
    """(LD, pivots, info): info is 1 + the place of the first 0 on D's diagonal, or 0 (int32)."""
    factor = LDLFactor(bool(hermitian), bool(check_errors))
    return LDLFactorExResult(*factor(_matrices("ldl_factor", A, True)))


def ldl_factor(A: Any, *, hermitian: bool = False) -> LDLFactorResult:
    """(LD, pivots) of symmetric matrices (..., n, n), which need not be definite.

    Reads the lower triangle. It has no gradient.

    hermitian  Hermitian instead of symmetric matrices, where they are complex
    pivots     (..., n) int32, as LAPACK's sytrf

    >>> A = tensor([[0.0, 2.0], [2.0, 0.0]])
    >>> ldl_solve(*ldl_factor(A), tensor([[2.0], [4.0]]))
    tensor([[2.],
            [1.]])
    """
    return LDLFactorResult(*ldl_factor_ex(A, hermitian=hermitian, check_errors=True)[:2])


def ldl_solve(LD: Any, pivots: Any, B: Any, *, hermitian: bool = False) -> Any:
    """X of A X = B from the LD and pivots of A, for B (..., n, k). It has no gradient."""
    ld, b = _matrices("ldl_solve", LD, True, "LD"), _matrices("ldl_solve", B, argument="B")
    if tuple(pivots.shape) != tuple(ld.shape[:-1]):
        raise ShapeError(
            f"linalg.ldl_solve: pivots has shape {tuple(pivots.shape)}, "
            f"expected {tuple(ld.shape[:-1])}"
        )
    ld, b = _stacked("ldl_solve", ld, b)
    return LDLSolve(bool(hermitian))(ld, broadcast_to(pivots, tuple(ld.shape[:-1])), b)
