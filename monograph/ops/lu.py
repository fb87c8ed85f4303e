"""LU factorization with row exchanges, and what is solved with it.

LAPACK's conventions: L (ones on its diagonal, not kept) and U share one matrix; pivots count from
1. The gradient follows from A = P L U by triangular solves (Giles, 2008, see decompositions.py).
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.errors import ArgumentError
from ..ir.op import Aval, Full, Opaque, op
from .align import broadcast_to, cast, public
from .arith import add, eq, sub, where
from .batching import batched, shape_of
from .contract import matmul
from .decompositions import SolveTriangular, _cut, _Matrix, diagonal_mask, transposed
from .joining import concat_values
from .linalg import _matrices, solve_triangular
from .movement import Reshape, Slice
from .parts import adjoint_of
from .reduce import amax
from .triangular import Iota, diagonal, tril, triu

LUResult = namedtuple("LUResult", "P L U")
LUFactorResult = namedtuple("LUFactorResult", "LU pivots")
LUFactorExResult = namedtuple("LUFactorExResult", "LU pivots info")


@op
class LUFactor(_Matrix):
    """(L below and U on and above the diagonal, pivots) of each matrix, with partial pivoting.

    Row pivots[i] - 1 was exchanged with row i at step i (int32).
    """

    name = "lu_factor"
    saves = "outputs"
    n_outputs = 2

    def infer(self, x: Any) -> tuple[Aval, Aval]:
        self.check_dtypes(x)
        *lead, m, n = x.shape
        return Aval(tuple(x.shape), x.dtype), Aval((*lead, min(m, n)), dt.int32)

    def reference(self, x: Any) -> Any:
        m, n = x.shape[-2:]
        k, count = min(m, n), int(np.prod(x.shape[:-2]))
        a = np.array(x, order="C").reshape(count, m, n)
        pivots, each = np.zeros((count, k), np.int32), np.arange(count)
        for j in range(k):
            column = a[:, j:, j]
            size = np.abs(column.real) + np.abs(column.imag)  # as LAPACK, without a root
            at = size.argmax(1) + j
            pivots[:, j] = at + 1
            a[each, at], a[:, j] = a[:, j].copy(), a[each, at]
            head = a[:, j, j, None]
            a[:, j + 1 :, j] /= np.where(head == 0, 1, head)
            a[:, j + 1 :, j + 1 :] -= a[:, j + 1 :, j, None] * a[:, j, None, j + 1 :]
        return a.reshape(x.shape), pivots.reshape(*x.shape[:-2], k)

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        m, n = x.shape[-2:]
        k = min(m, n)
        lower, upper = unpacked(out[0])
        g_lower, g_upper = tril(g[0], -1), triu(g[0])
        square_l, square_u = _rows(lower, 0, k), _cut(upper, 0, k)
        inner_l = matmul(transposed(square_l), _corner(g_lower, k))
        inner_u = matmul(_corner(g_upper, k), transposed(square_u))
        further = None
        if n > k:  # U's further columns: L**-1 times those of x
            rest = _cut(_rows(g_upper, 0, k), k, n)
            inner_l = sub(inner_l, matmul(rest, transposed(_cut(upper, k, n))))
            further = _left_divided(square_l, rest)
        if m > k:  # L's further rows: those of x times U**-1
            rest = _cut(_rows(g_lower, k, m), 0, k)
            inner_u = sub(inner_u, matmul(transposed(_rows(lower, k, m)), rest))
            further = _right_divided(rest, square_u)
        inner = add(tril(inner_l, -1), triu(inner_u))
        whole = _left_divided(square_l, _right_divided(inner, square_u))
        if further is not None:
            axis = len(x.shape) - (1 if n > k else 2)
            whole = concat_values(axis, [whole, further])
        return (matmul(permutation_of(out[1], m, x.dtype), whole),)


def _left_divided(lower: Any, x: Any) -> Any:
    """(L')**-1 x"""
    return SolveTriangular(True, True)(transposed(lower), x)


def _right_divided(x: Any, upper: Any) -> Any:
    """x (U')**-1"""
    return transposed(SolveTriangular(True, False)(upper, transposed(x)))


def _rows(x: Any, start: int, stop: int) -> Any:
    lead, n = shape_of(x)[:-2], x.shape[-1]
    return Slice((*(0,) * len(lead), start, 0), (*lead, stop, n), (1,) * len(x.shape))(x)


def _corner(x: Any, k: int) -> Any:
    return _cut(_rows(x, 0, k), 0, k)


def unpacked(packed: Any) -> tuple[Any, Any]:
    """(L, U) of a packed LU: L (..., m, k) with ones on the diagonal, U (..., k, n)."""
    k = min(packed.shape[-2:])
    lower = tril(_cut(packed, 0, k), -1)
    return where(diagonal_mask(shape_of(lower)), 1.0, lower), triu(_rows(packed, 0, k))


@op
class PivotsToOrder(Opaque):
    """The order of rows (..., m) that pivots (..., k) lead to: row i of P' A is row order[i]."""

    rows: int
    differentiable = False
    saves = "none"

    def infer(self, pivots: Any) -> Aval:
        return Aval((*pivots.shape[:-1], self.rows), dt.int64)

    def reference(self, pivots: Any) -> Any:
        count = int(np.prod(pivots.shape[:-1]))
        flat = pivots.reshape(count, pivots.shape[-1])
        order, each = np.tile(np.arange(self.rows), (count, 1)), np.arange(count)
        for j in range(flat.shape[1]):
            at = flat[:, j] - 1
            order[each, at], order[:, j] = order[:, j].copy(), order[each, at]
        return order.reshape(*pivots.shape[:-1], self.rows)

    def batch(self, dims: tuple, size: int, pivots: Any) -> tuple[Any, Any]:
        return self(batched(pivots, dims[0], size)), 0


def permutation_of(pivots: Any, rows: int, dtype: Any) -> Any:
    """The permutation matrix P of A = P L U."""
    order = PivotsToOrder(rows)(pivots)
    shape = (*order.shape[:-1], rows, rows)
    place = Iota(shape, dt.int64, len(shape) - 2)()
    line = Reshape((*order.shape[:-1], 1, rows))(order)
    return cast(eq(broadcast_to(line, shape), place), dtype)


def lu_factor(A: Any, *, pivot: bool = True) -> Any:
    """(LU, pivots) of matrices (..., m, n): L below and U on and above the diagonal of LU.

    pivots  (..., min(m, n)) int32: the row (from 1) exchanged with each row in turn

    >>> lu_factor(tensor([[1.0, 2.0], [4.0, 2.0]])).pivots
    tensor([2, 2], dtype=monograph.int32)
    """
    if not pivot:
        raise ArgumentError("linalg.lu_factor: pivot=False is not defined on the CPU")
    return LUFactorResult(*LUFactor()(_matrices("lu_factor", A)))


def lu_factor_ex(A: Any, *, pivot: bool = True, check_errors: bool = False) -> Any:
    """(LU, pivots, info): info is 1 + the place of the first 0 on U's diagonal, or 0 (int32)."""
    factors, pivots = lu_factor(A, pivot=pivot)
    line = diagonal(factors, 0, -2, -1)
    shape = shape_of(line)
    k = shape[-1]
    if not k:
        return LUFactorExResult(factors, pivots, Full(shape[:-1], dt.int32, 0)())
    after = sub(k, Iota(shape, dt.int64, len(shape) - 1)())  # k at the first, 1 at the last
    most = amax(where(eq(line, 0), after, 0), -1)
    info = cast(where(eq(most, 0), 0, sub(k + 1, most)), dt.int32)
    return LUFactorExResult(factors, pivots, info)


def lu(A: Any, *, pivot: bool = True) -> Any:
    """(P, L, U) with A = P L U: a permutation, ones on L's diagonal, U upper triangular."""
    return lu_unpack(*lu_factor(A, pivot=pivot))


@public
def lu_unpack(
    LU_data: Any, LU_pivots: Any, unpack_data: bool = True, unpack_pivots: bool = True
) -> Any:
    """(P, L, U) of what linalg.lu_factor gave; empty tensors for what is not asked for."""
    data = _matrices("lu_unpack", LU_data, argument="LU_data")
    nothing = Full((0,), data.dtype, 0)()
    lower, upper = unpacked(data) if unpack_data else (nothing, nothing)
    if not unpack_pivots:
        return LUResult(nothing, lower, upper)
    return LUResult(permutation_of(LU_pivots, data.shape[-2], data.dtype), lower, upper)


def lu_solve(LU: Any, pivots: Any, B: Any, *, left: bool = True, adjoint: bool = False) -> Any:
    """X of A X = B (left) or X A = B, from the LU and pivots of A; adjoint: of A' instead of A.

    >>> A = tensor([[1.0, 2.0], [4.0, 2.0]])
    >>> mg.linalg.lu_solve(*lu_factor(A), tensor([[3.0], [6.0]]))
    tensor([[1.],
            [1.]])
    """
    data, b = _matrices("lu_solve", LU, True, "LU"), _matrices("lu_solve", B, argument="B")
    if not left:
        return adjoint_of(lu_solve(data, pivots, adjoint_of(b), adjoint=not adjoint))
    permutation = permutation_of(pivots, data.shape[-1], data.dtype)
    if adjoint:
        half = solve_triangular(adjoint_of(data), b, upper=False)
        half = solve_triangular(adjoint_of(data), half, upper=True, unitriangular=True)
        return matmul(permutation, half)
    half = matmul(transposed(permutation), b)
    half = solve_triangular(data, half, upper=False, unitriangular=True)
    return solve_triangular(data, half, upper=True)


def packed_lu(A: Any, pivot: bool = True, get_infos: bool = False) -> Any:
    """(LU, pivots), or (LU, pivots, info): the older form of linalg.lu_factor."""
    made = lu_factor_ex(A, pivot=pivot)
    return tuple(made) if get_infos else (made.LU, made.pivots)


def solve_packed(b: Any, LU_data: Any, LU_pivots: Any) -> Any:
    """X of A X = b from the LU and pivots of A: linalg.lu_solve with the arguments turned."""
    return lu_solve(LU_data, LU_pivots, b)


packed_lu.__name__ = packed_lu.__qualname__ = "lu"
solve_packed.__name__ = solve_packed.__qualname__ = "lu_solve"
public(packed_lu)
public(solve_packed)
