"""Linear algebra beside linalg.py: reflectors, the matrix exponential, forms that report failures.

Sources: the matrix exponential by scaling and squaring of a Taylor polynomial, and its derivative
from a block matrix (Higham, "Functions of Matrices", 2008, 10.3 and 3.2); reflectors as in LAPACK.
"""

from __future__ import annotations

import math
from collections import namedtuple
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.errors import ArgumentError, LinAlgError, ShapeError
from ..core.shape import as_index, normalize_dim, numel
from ..ir.op import Aval, Full, Opaque, op
from .align import as_operand, broadcast_to, cast, public
from .arith import eq, gt, mul, sub, where
from .batching import batched, shape_of
from .contract import matmul
from .cumulative import cumprod
from .decompositions import _cut, _Matrix, diagonal_mask, transposed
from .joining import concat_values
from .linalg import _matrices, cholesky, inv, qr, solve, solve_triangular, svd
from .lu import _rows, lu_factor_ex
from .movement import Copy, Flip, Permute, Reshape
from .parts import adjoint_of, conj
from .reduce import sum as sum_over
from .triangular import Iota
from .triangular import diagonal as diagonal_of

InverseExResult = namedtuple("InverseExResult", "inverse info")
CholeskyExResult = namedtuple("CholeskyExResult", "L info")
SolveExResult = namedtuple("SolveExResult", "result info")
svd_result = namedtuple("svd", ["U", "S", "V"])  # type: ignore[name-match]
geqrf_result = namedtuple("geqrf", ["a", "tau"])  # type: ignore[name-match]
triangular_solve_result = namedtuple(  # type: ignore[name-match]
    "triangular_solve", ["solution", "cloned_coefficient"]
)

# -- forms that report a failure instead of raising ------------------------------------------------


def _failed(name: str, info: Any, like: Any, check_errors: bool) -> Any:
    """Where info is positive, in the shape of `like`, whose leading axes are info's."""
    if check_errors and bool(gt(sum_over(info), 0)):
        raise LinAlgError(
            f"linalg.{name}: a matrix is singular or not positive definite; info is {info.tolist()}"
        )
    lead, shape = shape_of(info), shape_of(like)
    mask = Reshape((*lead, *(1,) * (len(shape) - len(lead))))(gt(info, 0))
    return broadcast_to(mask, shape)


def _usable(failed: Any, x: Any) -> Any:
    """x with the identity in the place of matrices that failed."""
    return where(failed, cast(diagonal_mask(shape_of(x)), x.dtype), x)


def inv_ex(A: Any, *, check_errors: bool = False) -> Any:
    """(inverse, info): info is positive for a singular matrix, whose inverse is nan.

    >>> inv_ex(tensor([[2.0, 0.0], [0.0, 0.0]])).info
    tensor(2, dtype=monograph.int32)
    """
    x = _matrices("inv_ex", A, True)
    info = lu_factor_ex(x).info
    failed = _failed("inv_ex", info, x, check_errors)
    return InverseExResult(where(failed, math.nan, inv(_usable(failed, x))), info)


def solve_ex(A: Any, B: Any, *, left: bool = True, check_errors: bool = False) -> Any:
    """(X of A X = B, info): info is positive for a singular matrix, whose X is nan."""
    x, b = _matrices("solve_ex", A, True), as_operand("linalg.solve_ex", B, "B")
    info = lu_factor_ex(x).info
    result = solve(_usable(_failed("solve_ex", info, x, check_errors), x), b, left=left)
    is_vector = len(b.shape) == 1 or shape_of(b) == shape_of(x)[:-1]
    lead = shape_of(result)[: -1 if is_vector else -2]
    failed = _failed("solve_ex", broadcast_to(info, lead), result, False)
    return SolveExResult(where(failed, math.nan, result), info)


@op
class CholeskyInfo(Opaque):
    """The order of the first leading minor that is not positive, or 0: int32. Reads a triangle."""

    differentiable = False
    saves = "none"

    def infer(self, x: Any) -> Aval:
        return Aval(shape_of(x)[:-2], dt.int32)

    def reference(self, x: Any) -> Any:
        info = np.zeros(x.shape[:-2], np.int32)
        for at in np.ndindex(info.shape):
            try:
                np.linalg.cholesky(x[at])
            except np.linalg.LinAlgError:
                info[at] = _first_bad_minor(x[at])
        return info

    def batch(self, dims: tuple, size: int, x: Any) -> tuple[Any, Any]:
        return self(batched(x, dims[0], size)), 0


def _first_bad_minor(x: Any) -> int:
    for n in range(1, len(x)):
        try:
            np.linalg.cholesky(x[:n, :n])
        except np.linalg.LinAlgError:
            return n
    return len(x)


def cholesky_ex(A: Any, *, upper: bool = False, check_errors: bool = False) -> Any:
    """(L, info): info is the order of the first minor that is not positive; then L is nan."""
    x = _matrices("cholesky_ex", A, True)
    info = CholeskyInfo()(adjoint_of(x) if upper else x)
    failed = _failed("cholesky_ex", info, x, check_errors)
    return CholeskyExResult(
        where(failed, math.nan, cholesky(_usable(failed, x), upper=upper)), info
    )


# -- reflectors ------------------------------------------------------------------------------------


@op
class Geqrf(_Matrix):
    """(R above and the reflectors of Q below the diagonal, their factors tau), as in LAPACK."""

    differentiable = False
    n_outputs = 2

    def infer(self, x: Any) -> tuple[Aval, Aval]:
        self.check_dtypes(x)
        *lead, m, n = x.shape
        return Aval(tuple(x.shape), x.dtype), Aval((*lead, min(m, n)), x.dtype)

    def reference(self, x: Any) -> Any:
        packed, tau = np.linalg.qr(x, mode="raw")
        return np.ascontiguousarray(np.swapaxes(packed, -1, -2)), tau


@public
def geqrf(input: Any) -> Any:
    """(a, tau): QR by reflectors, R on and above the diagonal of a, the reflectors below it.

    linalg.householder_product(a, tau) makes Q of them. No gradient, as in PyTorch.
    """
    return geqrf_result(*Geqrf()(_matrices("geqrf", input, argument="input")))


def _reflectors(a: Any, tau: Any) -> list[tuple[Any, Any]]:
    """(column v, factor) of each reflector I - factor v v': v is 1 on the diagonal, 0 above."""
    shape = (*a.shape[:-1], 1)
    place = Iota(shape, dt.int64, len(shape) - 2)()
    found = []
    for i in range(tau.shape[-1]):
        below = where(gt(place, i), _cut(a, i, i + 1), 0.0)
        factor = Reshape((*tau.shape[:-1], 1, 1))(_cut(tau, i, i + 1))
        found.append((where(eq(place, i), 1.0, below), factor))
    return found


def _reflected(v: Any, factor: Any, x: Any) -> Any:
    """(I - factor v v') x"""
    return sub(x, matmul(mul(v, factor), matmul(adjoint_of(v), x)))


def householder_product(A: Any, tau: Any) -> Any:
    """The first n columns (..., m, n) of the product of the reflectors below A's diagonal.

    A    (..., m, n) with m >= n; tau (..., k) with k <= n: what geqrf gives
    """
    a, factors = _matrices("householder_product", A), as_operand("householder_product", tau, "tau")
    m, n = a.shape[-2:]
    if m < n or len(factors.shape) != len(a.shape) - 1 or factors.shape[-1] > n:
        raise ShapeError(
            f"linalg.householder_product: A must be (..., m, n) with m >= n and tau (..., k) with "
            f"k <= n, got {shape_of(a)} and {shape_of(factors)}"
        )
    eye = cast(diagonal_mask(shape_of(a)), a.dtype)
    out = where(Full(shape_of(a), dt.bool_, True)(), eye, a)  # without reflectors: zeros for A
    for v, factor in reversed(_reflectors(a, factors)):
        out = _reflected(v, factor, out)
    return out


@public
def orgqr(input: Any, tau: Any) -> Any:
    """Alias of linalg.householder_product."""
    return householder_product(input, tau)


@public
def ormqr(input: Any, tau: Any, other: Any, left: bool = True, transpose: bool = False) -> Any:
    """Q other (or other Q; transpose: with Q') where Q is the product of reflectors (geqrf).

    Q is the square matrix of all m rows.
    """
    a = _matrices("ormqr", input, argument="input")
    x = _matrices("ormqr", other, argument="other")
    if not left:
        return adjoint_of(ormqr(a, tau, adjoint_of(x), True, not transpose))
    reflectors = _reflectors(a, as_operand("ormqr", tau, "tau"))
    for v, factor in reflectors if transpose else reversed(reflectors):
        x = _reflected(v, conj(factor) if transpose else factor, x)
    return x


# -- the matrix exponential ------------------------------------------------------------------------

_DEGREE = 18  # of the Taylor polynomial: 16 digits for a norm of at most 1


@op
class MatrixExp(_Matrix):
    """The exponential of each square matrix."""

    name = "matrix_exp"
    saves = "inputs"

    def infer(self, x: Any) -> Aval:
        self.check_dtypes(x)
        return Aval(tuple(x.shape), x.dtype)

    def reference(self, x: Any) -> Any:
        wide = np.asarray(x, np.result_type(x, np.float64))
        size = np.abs(wide).sum(-2).max(-1, initial=0.0)
        good = np.isfinite(size)
        halvings = np.ceil(np.log2(np.maximum(np.where(good, size, 1), 0.5))) + 1
        scaled = wide / np.exp2(halvings)[..., None, None]
        out = np.broadcast_to(np.eye(x.shape[-1]), x.shape)
        for k in range(_DEGREE, 0, -1):
            out = np.eye(x.shape[-1]) + scaled @ out / k
        for k in range(int(halvings.max(initial=0))):
            again = (k < halvings)[..., None, None]
            out = np.where(again, out @ out, out)
        return out

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        n, axis = x.shape[-1], len(x.shape) - 1
        if n == 0:
            return (mul(g, 0.0),)
        across = transposed(x)
        top = concat_values(axis, [across, g])
        bottom = concat_values(axis, [Full(shape_of(x), x.dtype, 0)(), across])
        both = MatrixExp()(concat_values(axis - 1, [top, bottom]))
        return (_rows(_cut(both, n, 2 * n), 0, n),)


@public
def matrix_exp(A: Any) -> Any:
    """The exponential of square matrices: I + A + A A / 2 + ...

    >>> matrix_exp(tensor([[0.0, 1.0], [0.0, 0.0]]))
    tensor([[1., 1.],
            [0., 1.]])
    """
    return MatrixExp()(_matrices("matrix_exp", A, True))


# -- other shapes ----------------------------------------------------------------------------------


def vander(x: Any, N: int | None = None) -> Any:
    """Powers x**0, x**1, ... x**(N - 1) of each element, in a new last dimension.

    >>> mg.linalg.vander(tensor([2, 3]), 3)
    tensor([[1, 2, 4],
            [1, 3, 9]])
    """
    x = as_operand("linalg.vander", x, "x")
    x = x if x.shape else Reshape((1,))(x)
    x = x if x.dtype is not dt.bool_ else cast(x, dt.int64)
    x = x if x.dtype.is_inexact else cast(x, dt.int64)
    count = x.shape[-1] if N is None else as_index("linalg.vander", "N", N)
    if count < (0 if N is None else 1):
        raise ArgumentError(f"linalg.vander: N must be positive, got {count}")
    shape = shape_of(x)
    first = Full((*shape, 1), x.dtype, 1)()
    if count < 2:
        return first if count else Full((*shape, 0), x.dtype, 1)()
    powers = cumprod(broadcast_to(Reshape((*shape, 1))(x), (*shape, count - 1)), -1)
    return concat_values(len(shape), [first, powers])


def _plain_vander(x: Any, N: int | None = None, increasing: bool = False) -> Any:
    """Powers of the elements of a 1-d tensor as rows, falling unless `increasing`."""
    if len(x.shape) != 1:
        raise ShapeError(f"vander: x must be 1-d, got shape {shape_of(x)}")
    made = vander(x, x.shape[0] if N is None else N)
    return made if increasing else Flip((1,))(made)


_plain_vander.__name__ = _plain_vander.__qualname__ = "vander"
public(_plain_vander)


def tensorinv(A: Any, ind: int = 2) -> Any:
    """The inverse of tensordot with A: A is read as a matrix of its first `ind` dimensions."""
    x = as_operand("linalg.tensorinv", A, "A")
    ind = as_index("linalg.tensorinv", "ind", ind)
    shape = shape_of(x)
    rows, columns = shape[:ind], shape[ind:]
    if ind < 1 or numel(rows) != numel(columns):
        raise ShapeError(f"linalg.tensorinv: {rows} and {columns} must have one number of elements")
    flat = inv(Reshape((numel(rows), numel(columns)))(x))
    return Reshape((*columns, *rows))(flat)


def tensorsolve(A: Any, B: Any, dims: Any = None) -> Any:
    """X of tensordot(A, X) = B; the dimensions `dims` of A are moved to its end first."""
    x, b = as_operand("linalg.tensorsolve", A, "A"), as_operand("linalg.tensorsolve", B, "B")
    if dims is not None:
        last = [normalize_dim("linalg.tensorsolve", d, len(x.shape)) for d in dims]
        x = Permute((*(a for a in range(len(x.shape)) if a not in last), *last))(x)
    shape = shape_of(x)
    result = shape[len(b.shape) :]
    if numel(result) != numel(b.shape) or numel(shape) != numel(result) ** 2:
        raise ShapeError(f"linalg.tensorsolve: A {shape} and B {shape_of(b)} do not fit")
    flat = Reshape((numel(b.shape), numel(result)))(x)
    return Reshape(result)(solve(flat, Reshape((numel(b.shape),))(b)))


def diagonal(A: Any, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Any:
    """The diagonal of matrices, by default of the last two dimensions. A view."""
    return diagonal_of(A, offset, dim1, dim2)


def stacked_trace(A: Any, *, offset: int = 0, dtype: Any = None) -> Any:
    """Sums of a diagonal of the last two dimensions; integers give int64 unless dtype is given."""
    return sum_over(diagonal_of(A, offset, -2, -1), -1, dtype=dtype)


stacked_trace.__name__ = stacked_trace.__qualname__ = "trace"

# -- older names -----------------------------------------------------------------------------------


def _old_svd(input: Any, some: bool = True, compute_uv: bool = True) -> Any:
    """(U, S, V) with U diag(S) V' = input; linalg.svd gives V' instead.

    some        False: square U and V
    compute_uv  False: zeros instead of U and V
    """
    u, s, vh = svd(input, not some)
    if compute_uv:
        return svd_result(u, s, adjoint_of(vh))
    lead, (m, n) = shape_of(input)[:-2], input.shape[-2:]
    zeros = [Full((*lead, k, k), input.dtype, 0)() for k in (m, n)]
    return svd_result(zeros[0], s, zeros[1])


def _old_qr(input: Any, some: bool = True) -> Any:
    """(Q, R) with Q R = input; some=False: a square Q, as linalg.qr with mode="complete"."""
    return qr(input, "reduced" if some else "complete")


_old_qr.__name__ = _old_qr.__qualname__ = "qr"
public(_old_qr)
_old_svd.__name__ = _old_svd.__qualname__ = "svd"
public(_old_svd)


@public
def triangular_solve(
    b: Any, A: Any, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> Any:
    """(X of A X = b, a copy of A), where one triangle of A is read."""
    x = _matrices("triangular_solve", A, True)
    used = transposed(x) if transpose else x
    out = solve_triangular(used, b, upper=upper != transpose, unitriangular=unitriangular)
    return triangular_solve_result(out, Copy()(x))
