"""Linear algebra functions on stacks of matrices. X' is the adjoint in what follows.

The primitives are in decompositions.py.

monograph.linalg has them all, monograph those marked public.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any

from ..core import dtype as dt
from ..core.dtype import DType, as_dtype
from ..core.errors import ArgumentError, DTypeError, ShapeError
from ..core.shape import as_index, broadcast_shapes, is_number, normalize_dim
from ..ir.op import Full
from .align import align, as_operand, broadcast_to, cast, public
from .arith import abs as absolute
from .arith import add, div, ge, gt, maximum, mul, sub, where
from .contract import chain_matmul, matmul
from .decompositions import (
    MATRICES,
    QR,
    SVD,
    Cholesky,
    Determinant,
    Eig,
    Eigh,
    Inverse,
    PseudoInverse,
    SignLogDeterminant,
    SingularValues,
    Solve,
    SolveTriangular,
    columns_times,
    diagonal_mask,
    real_diagonal,
    transposed,
)
from .exponential import log
from .joining import roll
from .movement import Detach, Permute, Reshape
from .parts import adjoint_of, conj
from .reduce import amax, amin, norm, squares
from .reduce import sum as sum_over
from .triangular import tril

SlogdetResult = namedtuple("SlogdetResult", "sign logabsdet")
QRResult = namedtuple("QRResult", "Q R")
EighResult = namedtuple("EighResult", "eigenvalues eigenvectors")
EigResult = namedtuple("EigResult", "eigenvalues eigenvectors")
SVDResult = namedtuple("SVDResult", "U S Vh")
LstsqResult = namedtuple("LstsqResult", "solution residuals rank singular_values")


def _matrices(name: str, x: Any, square: bool = False, argument: str = "A") -> Any:
    x = as_operand(f"linalg.{name}", x, argument)
    if x.dtype not in MATRICES:
        raise DTypeError(
            f"linalg.{name}: {argument} must be float32, float64 or complex, got {x.dtype.name}"
        )
    if len(x.shape) < 2 or (square and x.shape[-1] != x.shape[-2]):
        kind = "square matrices (..., n, n)" if square else "matrices (..., m, n)"
        raise ShapeError(f"linalg.{name}: {argument} must be {kind}, got {tuple(x.shape)}")
    return x


def inv(A: Any) -> Any:
    """The inverse of square matrices (..., n, n); LinAlgError if one is singular.

    >>> inv(tensor([[2.0, 0.0], [0.0, 4.0]]))
    tensor([[0.5000, 0.0000],
            [0.0000, 0.2500]])
    """
    return Inverse()(_matrices("inv", A, True))


def det(A: Any) -> Any:
    """The determinant of square matrices (..., n, n). Its gradient needs the inverse."""
    return Determinant()(_matrices("det", A, True))


def slogdet(A: Any) -> Any:
    """(sign, logarithm of the absolute value) of the determinant, without overflow."""
    return SlogdetResult(*SignLogDeterminant()(_matrices("slogdet", A, True)))


def solve(A: Any, B: Any, *, left: bool = True) -> Any:
    """X of A X = B (left) or X A = B; B holds matrices, or one vector for each matrix of A.

    >>> solve(tensor([[2.0, 0.0], [0.0, 4.0]]), tensor([2.0, 2.0]))
    tensor([1.0000, 0.5000])
    """
    a = _matrices("solve", A, True)
    b = as_operand("linalg.solve", B, "B")
    is_vector = len(b.shape) == 1 or tuple(b.shape) == tuple(a.shape[:-1])
    if is_vector:
        b = Reshape((*b.shape, 1))(b)
    b = _matrices("solve", b, argument="B")
    if not left and not is_vector:
        return transposed(solve(transposed(a), transposed(b)))
    a, b = _stacked("solve", a, b)
    out = Solve()(a, b)
    return Reshape(tuple(out.shape[:-1]))(out) if is_vector else out


def _stacked(name: str, a: Any, b: Any) -> tuple[Any, Any]:
    """a and b with equal leading axes and dtypes."""
    if a.shape[-1] != b.shape[-2]:
        raise ShapeError(
            f"linalg.{name}: A {tuple(a.shape)} and B {tuple(b.shape)} differ in the number of rows"
        )
    if a.dtype is not b.dtype:
        raise DTypeError(f"linalg.{name}: A is {a.dtype.name} but B is {b.dtype.name}")
    lead = broadcast_shapes(f"linalg.{name}", tuple(a.shape[:-2]), tuple(b.shape[:-2]))
    return broadcast_to(a, (*lead, *a.shape[-2:])), broadcast_to(b, (*lead, *b.shape[-2:]))


def solve_triangular(
    A: Any, B: Any, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Any:
    """X of A X = B (left) or X A = B, where one triangle of A is read."""
    a, b = _matrices("solve_triangular", A, True), _matrices("solve_triangular", B, argument="B")
    if not left:
        return transposed(
            solve_triangular(
                transposed(a), transposed(b), upper=not upper, unitriangular=unitriangular
            )
        )
    return SolveTriangular(bool(upper), bool(unitriangular))(*_stacked("solve_triangular", a, b))


def cholesky(A: Any, *, upper: bool = False) -> Any:
    """Triangular L with L L' = A, or upper U with U' U = A, for symmetric positive definite A.

    Only that triangle of A is read. LinAlgError where A is not positive definite.
    """
    return Cholesky(bool(upper))(_matrices("cholesky", A, True))


def qr(A: Any, mode: str = "reduced") -> Any:
    """(Q, R) with Q R = A (..., m, n), orthonormal columns in Q, R upper triangular.

    mode  "reduced": Q (..., m, k) and R (..., k, n) with k the smaller of m and n; "complete":
          Q (..., m, m) and R (..., m, n), with a gradient for m <= n; "r": R alone, Q is empty

    >>> Q, R = mg.linalg.qr(tensor([[3.0], [4.0]]), mode="complete")
    >>> Q.shape, R.shape
    ((2, 2), (2, 1))
    """
    if mode not in ("reduced", "complete", "r"):
        raise ArgumentError(f"linalg.qr: mode must be 'reduced', 'complete' or 'r', got {mode!r}")
    q, r = QR(mode == "complete")(_matrices("qr", A))
    return QRResult(Full((0,), r.dtype, 0)() if mode == "r" else q, r)


def eigh(A: Any, UPLO: str = "L") -> Any:
    """(eigenvalues ascending, eigenvectors as columns) of symmetric matrices.

    UPLO  the triangle that is read: "L" or "U"

    The gradient through eigenvectors is infinite where eigenvalues are equal.
    """
    if UPLO not in ("L", "U"):
        raise ArgumentError(f"linalg.eigh: UPLO must be 'L' or 'U', got {UPLO!r}")
    return EighResult(*Eigh(UPLO == "U")(_matrices("eigh", A, True)))


def eigvalsh(A: Any, UPLO: str = "L") -> Any:
    """Eigenvalues of symmetric matrices, ascending."""
    return eigh(A, UPLO).eigenvalues


def eig(A: Any) -> Any:
    """(eigenvalues, eigenvectors as columns of norm 1) of square matrices; both are complex.

    The gradient is that of functions that do not depend on the phase of the eigenvectors; it is
    infinite where eigenvalues are equal.

    >>> eig(tensor([[0.0, 1.0], [-1.0, 0.0]])).eigenvalues
    tensor([0.+1.j, 0.-1.j])
    """
    return EigResult(*Eig()(_matrices("eig", A, True)))


def eigvals(A: Any) -> Any:
    """Eigenvalues of square matrices, complex, in no order."""
    return eig(A).eigenvalues


def _no_driver(name: str, driver: Any) -> None:
    if driver is not None:
        raise ArgumentError(f"linalg.{name}: driver must be None on the CPU, got {driver!r}")


def svd(A: Any, full_matrices: bool = True, *, driver: str | None = None) -> Any:
    """(U, S, Vh) with U diag(S) Vh = A; S is descending and not negative.

    full_matrices  square U and Vh; else as many columns and rows as there are singular values.
                   No gradient flows through the columns and rows that this adds.
    driver         None: PyTorch takes others on GPUs only

    The gradient through U and Vh is infinite where singular values are equal.
    """
    _no_driver("svd", driver)
    return SVDResult(*_svd(_matrices("svd", A), full_matrices))


def _svd(x: Any, is_full: bool = False) -> Any:
    return SVD(bool(is_full) and x.shape[-1] != x.shape[-2])(x)


def svdvals(A: Any, *, driver: str | None = None) -> Any:
    """Singular values, descending. driver: None, as for svd."""
    _no_driver("svdvals", driver)
    return SingularValues()(_matrices("svdvals", A))


def _above(x: Any, s: Any, atol: Any, rtol: Any) -> Any:
    """Whether each singular value s of x counts: above atol and above rtol times the largest."""
    if rtol is None:
        given = atol is not None and not (is_number(atol) and atol == 0)
        rtol = 0.0 if given else max(x.shape[-2:]) * dt.finfo(x.dtype).eps
    limit = mul(amax(s, -1, True), _column(rtol))
    if atol is not None:
        limit = maximum(limit, _column(atol))
    return gt(s, limit)


def _column(tolerance: Any) -> Any:
    """A tolerance, or one for each matrix, beside the singular values."""
    if is_number(tolerance) or not tolerance.shape:
        return tolerance
    return Reshape((*tolerance.shape, 1))(tolerance)


def pinv(
    A: Any, rcond: Any = None, *, atol: Any = None, rtol: Any = None, hermitian: bool = False
) -> Any:
    """The Moore-Penrose inverse: small singular values count as 0.

    atol, rtol  values up to atol, or up to rtol times the largest, are small; rtol is max(m, n)
                times the machine epsilon unless one is given. rcond is another name of rtol
    hermitian   read the lower triangle only: the matrices are symmetric
    """
    given = x = _matrices("pinv", A, hermitian)
    if hermitian:
        below = tril(x, -1)
        x = add(add(below, adjoint_of(below)), real_diagonal(x))
    if 0 in x.shape[-2:]:
        return mul(transposed(x), 0.0)
    u, s, vh = _svd(Detach()(x))
    counts = _above(x, s, atol, rcond if rtol is None else rtol)
    inverse = where(counts, div(1.0, where(counts, s, 1.0)), 0.0)
    found = matmul(columns_times(adjoint_of(vh), inverse), adjoint_of(u))
    return PseudoInverse()(given, Detach()(found))


def matrix_rank(
    A: Any, tol: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None
) -> Any:
    """The number of singular values above the limit (see pinv; tol is an atol), int64."""
    x = _matrices("matrix_rank", A)
    if 0 in x.shape[-2:]:
        return Full(tuple(x.shape[:-2]), dt.int64, 0)()
    if tol is not None:
        atol, rtol = tol, 0.0
    return sum_over(_above(x, svdvals(x), atol, rtol), -1)


_DRIVERS = ("gels", "gelsy", "gelsd", "gelss")


def lstsq(A: Any, B: Any, rcond: float | None = None, *, driver: str | None = None) -> Any:
    """The solution X of least squares |A X - B|, of least norm: pinv(A) @ B.

    driver   "gels", "gelsy" (default), "gelsd" or "gelss". It says what else is returned; the way
             is always by singular values
    returns  (solution, residuals, rank, singular_values). residuals, the sums of squares of A X - B
             over each column, are there for more rows than columns; the rank not for "gels"; the
             singular values for "gelsd" and "gelss". What is not there is an empty tensor
    """
    driver = "gelsy" if driver is None else driver
    if driver not in _DRIVERS:
        raise ArgumentError(
            f"linalg.lstsq: driver must be one of {', '.join(_DRIVERS)}, got {driver!r}"
        )
    x, b = _matrices("lstsq", A), as_operand("linalg.lstsq", B, "B")
    is_vector = len(b.shape) == len(x.shape) - 1
    right = Reshape((*b.shape, 1))(b) if is_vector else b
    solution = matmul(pinv(x, rtol=rcond), right)
    residuals = Full((0,), x.dtype.to_real(), 0)()
    if x.shape[-2] > x.shape[-1] and driver != "gelsy":
        error = sub(matmul(x, solution), right)
        residuals = sum_over(squares(error), -2)
        residuals = Reshape(tuple(residuals.shape[:-1]))(residuals) if is_vector else residuals
    solution = Reshape(tuple(solution.shape[:-1]))(solution) if is_vector else solution
    rank = Full((0,), dt.int64, 0)() if driver == "gels" else matrix_rank(x, rtol=rcond)
    few = driver in ("gelsd", "gelss")
    values = svdvals(x) if few else Full((0,), x.dtype.to_real(), 0)()
    return LstsqResult(solution, residuals, rank, values)


def matrix_power(A: Any, n: int) -> Any:
    """A multiplied with itself n times; the identity for 0, the inverse's power below."""
    x = _matrices("matrix_power", A, True)
    n = as_index("linalg.matrix_power", "n", n)
    if n < 0:
        return matrix_power(inv(x), -n)
    if n == 0:
        return where(diagonal_mask(tuple(x.shape)), 1.0, mul(x, 0.0))
    result, square = None, x
    while n:
        if n & 1:
            result = square if result is None else matmul(result, square)
        n >>= 1
        if n:
            square = matmul(square, square)
    return result


def multi_dot(tensors: Any) -> Any:
    """Product of several matrices in the cheapest order; the first and last may be vectors."""
    tensors = list(tensors)
    if len(tensors) < 2:
        raise ArgumentError("linalg.multi_dot: needs at least two tensors")
    first, last = len(tensors[0].shape) == 1, len(tensors[-1].shape) == 1
    if first:
        tensors[0] = Reshape((1, tensors[0].shape[0]))(tensors[0])
    if last:
        tensors[-1] = Reshape((tensors[-1].shape[0], 1))(tensors[-1])
    out = chain_matmul(*tensors)
    shape = [] if first else [out.shape[0]]
    return Reshape(tuple(shape + ([] if last else [out.shape[1]])))(out)


def vecdot(x: Any, y: Any, *, dim: int = -1) -> Any:
    """Sum of products along dim, those of x conjugated where complex, with broadcasting."""
    sizes = [v.shape[normalize_dim("linalg.vecdot", dim, len(v.shape))] for v in (x, y)]
    if sizes[0] != sizes[1]:
        raise ShapeError(
            f"linalg.vecdot: dimension {dim} is {sizes[0]} in {tuple(x.shape)} but {sizes[1]} in "
            f"{tuple(y.shape)}"
        )
    a, b = align("linalg.vecdot", x, y)
    return sum_over(mul(conj(a), b), dim, dtype=a.dtype)


@public
def cross(input: Any, other: Any, dim: int | None = None) -> Any:
    """The vector product along a dimension of size 3 (the first one, unless given)."""
    a, b = align("cross", input, other)
    if dim is None:
        dim = next((i for i, n in enumerate(a.shape) if n == 3), -1)
    axis = normalize_dim("cross", dim, len(a.shape))
    if not a.shape or a.shape[axis] != 3:
        raise ShapeError(f"cross: dimension {dim} must have size 3, the shape is {tuple(a.shape)}")

    def turned(v: Any, by: int) -> Any:
        """Component i + by at place i."""
        return roll(v, -by, axis)

    return sub(mul(turned(a, 1), turned(b, 2)), mul(turned(a, 2), turned(b, 1)))


def cross_last(input: Any, other: Any, *, dim: int = -1) -> Any:
    """The vector product along a dimension of size 3 (the last one, unless given)."""
    return cross(input, other, dim)


def vector_norm(
    x: Any, ord: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: DType | None = None
) -> Any:
    """The ord-norm over dim of the elements as a vector."""
    return norm(x, ord, dim, keepdim, dtype=dtype)


def matrix_norm(
    A: Any, ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False, *, dtype: Any = None
) -> Any:
    """A norm of matrices: "fro", "nuc", 2 and -2 (singular values), 1, -1 (columns), inf, -inf.

    dim    the two dimensions of the matrices
    dtype  of the computation and the result

    Norms of 16-bit numbers are computed in float32.
    """
    if dtype is not None:
        return matrix_norm(cast(A, as_dtype(dtype)), ord, dim, keepdim)
    if A.dtype in (dt.float16, dt.bfloat16):
        return cast(matrix_norm(cast(A, dt.float32), ord, dim, keepdim), A.dtype)
    x = _matrices("matrix_norm", A)
    axes = [normalize_dim("linalg.matrix_norm", d, len(x.shape)) for d in dim]
    if len(axes) != 2 or axes[0] == axes[1]:
        raise ArgumentError(f"linalg.matrix_norm: dim must name two dimensions, got {dim}")
    rest = [a for a in range(len(x.shape)) if a not in axes]
    x = Permute((*rest, *axes))(x)
    if ord == "fro":
        out = norm(x, 2, (-2, -1))
    elif ord in ("nuc", 2, -2):
        s = svdvals(x)
        out = sum_over(s, -1) if ord == "nuc" else (amax if ord == 2 else amin)(s, -1)
    elif ord in (1, -1, float("inf"), float("-inf")):
        sums = sum_over(absolute(x), -2 if ord in (1, -1) else -1)
        out = (amax if ord > 0 else amin)(sums, -1)
    else:
        raise ArgumentError(f"linalg.matrix_norm: unknown ord {ord!r}")
    if keepdim:
        out = Reshape(tuple(1 if a in axes else n for a, n in enumerate(A.shape)))(out)
    return out


def linalg_norm(
    A: Any, ord: Any = None, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Any:
    """vector_norm, or matrix_norm where two dims are given (or `ord` with a matrix)."""
    is_pair = isinstance(dim, (tuple, list)) and len(dim) == 2
    if ord is not None and (is_pair or (dim is None and len(A.shape) == 2)):
        return matrix_norm(A, ord, dim or (-2, -1), keepdim, dtype=dtype)
    return vector_norm(A, 2 if ord is None else ord, dim, keepdim, dtype=dtype)


def cond(A: Any, p: Any = None) -> Any:
    """Condition number: ratio of the extreme singular values, or norm(A) * norm(inv(A))."""
    if p in (None, 2):
        s = svdvals(A)
        return div(amax(s, -1), amin(s, -1))
    if p == -2:
        s = svdvals(A)
        return div(amin(s, -1), amax(s, -1))
    return mul(matrix_norm(A, p), matrix_norm(inv(A), p))


@public
def cholesky_solve(input: Any, L: Any, upper: bool = False) -> Any:
    """X of A X = input, where L is the Cholesky factor of A."""
    first = solve_triangular(adjoint_of(L) if upper else L, input, upper=False)
    return solve_triangular(L if upper else adjoint_of(L), first, upper=True)


@public
def cholesky_inverse(L: Any, upper: bool = False) -> Any:
    """The inverse of the matrix whose Cholesky factor is L."""
    L = _matrices("cholesky_inverse", L, True, "L")
    identity = where(diagonal_mask(tuple(L.shape)), 1.0, mul(L, 0.0))
    return cholesky_solve(identity, L, upper)


@public
def inverse(input: Any) -> Any:
    """Alias of linalg.inv."""
    return inv(input)


@public
def logdet(input: Any) -> Any:
    """Logarithm of the determinant; nan where it is real and negative."""
    sign, value = slogdet(input)
    if sign.dtype.is_complex:
        return add(log(sign), value)
    return where(ge(sign, 0.0), value, float("nan"))


@public
def pinverse(input: Any, rcond: float = 1e-15) -> Any:
    """Alias of linalg.pinv, with rcond for its rtol."""
    return pinv(input, rtol=rcond)


def _norm(
    input: Any, p: Any = "fro", dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Any:
    """The p-norm over `dim` of the elements as a vector; "nuc": the sum of the singular values.

    p is a number, inf (largest), -inf (smallest), 0 (how many are not 0), "fro" (as 2) or "nuc".
    The gradient at 0 is 0.

    >>> norm(tensor([3.0, 4.0]))
    tensor(5.)
    """
    if p != "nuc":
        return norm(input, p, dim, keepdim, dtype=dtype)
    x = input if dtype is None else cast(input, dtype)
    return matrix_norm(x, "nuc", (-2, -1) if dim is None else dim, keepdim)


_norm.__name__ = _norm.__qualname__ = "norm"
for _f in (det, slogdet, cholesky, matrix_power, _norm):
    public(_f)
