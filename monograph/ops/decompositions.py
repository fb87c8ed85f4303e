"""Matrix decompositions and solves on stacks of matrices: LAPACK through NumPy, any derivative.

Each decomposition is one primitive; its gradient is written with products, triangles and solves, so
that it can be differentiated again. X' is the adjoint: transposed, and conjugated where complex.
Sources of the formulas: Giles, "Collected matrix derivative results for forward and reverse mode
algorithmic differentiation", 2008 (inverse, determinant, SVD, eigenvalues); Murray,
"Differentiation of the Cholesky decomposition", 2016; Walter and Lehmann, "Algorithmic
differentiation of linear algebra functions", 2012 (QR).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.errors import GradError, LinAlgError
from ..ir.op import Aval, Opaque, op
from .align import cast
from .arith import add, div, eq, mul, neg, sub, where
from .batching import batched
from .contract import matmul
from .joining import concat_values
from .movement import Expand, Permute, Slice
from .parts import FromParts, ImaginaryPart, RealPart, adjoint_of, conj
from .triangular import Iota, tril, triu

MATRICES = (dt.float32, dt.float64, dt.complex64, dt.complex128)


def transposed(x: Any) -> Any:
    """x with its last two axes exchanged."""
    n = len(x.shape)
    return Permute((*range(n - 2), n - 1, n - 2))(x)


def diagonal_mask(shape: tuple[int, ...]) -> Any:
    n = len(shape)
    return eq(Iota(shape, dt.int64, n - 2)(), Iota(shape, dt.int64, n - 1)())


def on_diagonal(v: Any) -> Any:
    """(..., n) -> (..., n, n) with v on the diagonal."""
    shape = (*v.shape, v.shape[-1])
    return where(diagonal_mask(shape), Expand(shape, (len(shape) - 2,))(v), 0.0)


def columns_times(x: Any, v: Any) -> Any:
    """Column j of x times v[j]."""
    return mul(x, Expand(tuple(x.shape), (len(x.shape) - 2,))(v))


def _lapack(method: Callable) -> Callable:
    """Run a reference; a matrix that LAPACK refuses is a LinAlgError."""

    def reference(self: Any, *arrays: Any) -> Any:
        try:
            return method(self, *arrays)
        except np.linalg.LinAlgError as error:
            raise LinAlgError(f"linalg.{self.name}: {error}") from None

    return reference


class _Matrix(Opaque):
    """An op on the last two axes of its inputs, whose leading axes are equal."""

    accepts = MATRICES

    def batch(self, dims: tuple, size: int, *args: Any) -> tuple[Any, Any]:
        made = self(*(batched(x, d, size) for x, d in zip(args, dims)))
        return (made, 0) if self.n_outputs == 1 else (made, (0,) * self.n_outputs)


@op
class Inverse(_Matrix):
    """The inverse of each square matrix."""

    name = "inv"
    saves = "outputs"

    def infer(self, x: Any) -> Aval:
        self.check_dtypes(x)
        return Aval(tuple(x.shape), x.dtype)

    @_lapack
    def reference(self, x: Any) -> Any:
        return np.linalg.inv(x)

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        across = transposed(out)
        return (neg(matmul(matmul(across, g), across)),)


@op
class Solve(_Matrix):
    """x of a x = b, for square a (..., n, n) and b (..., n, k)."""

    def infer(self, a: Any, b: Any) -> Aval:
        self.check_dtypes(a, b)
        return Aval(tuple(b.shape), b.dtype)

    @_lapack
    def reference(self, a: Any, b: Any) -> Any:
        return np.linalg.solve(a, b)

    def vjp(self, g: Any, out: Any, a: Any, b: Any) -> tuple[Any, ...]:
        gb = Solve()(transposed(a), g)
        return neg(matmul(gb, transposed(out))), gb


@op
class SolveTriangular(_Matrix):
    """x of a x = b where only one triangle of a is read (and no diagonal if is_unit: it is 1)."""

    is_upper: bool
    is_unit: bool

    def infer(self, a: Any, b: Any) -> Aval:
        self.check_dtypes(a, b)
        return Aval(tuple(b.shape), b.dtype)

    @_lapack
    def reference(self, a: Any, b: Any) -> Any:
        a = np.triu(a) if self.is_upper else np.tril(a)
        if self.is_unit:
            a = a * (1 - np.eye(a.shape[-1], dtype=a.dtype)) + np.eye(a.shape[-1], dtype=a.dtype)
        return np.linalg.solve(a, b)

    def vjp(self, g: Any, out: Any, a: Any, b: Any) -> tuple[Any, ...]:
        gb = SolveTriangular(not self.is_upper, self.is_unit)(transposed(a), g)
        ga = neg(matmul(gb, transposed(out)))
        skip = 1 if self.is_unit else 0
        return (triu(ga, skip) if self.is_upper else tril(ga, -skip)), gb


@op
class Cholesky(_Matrix):
    """Triangular L with L L' = x for symmetric positive definite x; is_upper: U with U' U = x.

    The same triangle of x is read.
    """

    is_upper: bool = False
    saves = "outputs"
    holomorphic = False

    def infer(self, x: Any) -> Aval:
        self.check_dtypes(x)
        return Aval(tuple(x.shape), x.dtype)

    @_lapack
    def reference(self, x: Any) -> Any:
        if self.is_upper:
            return np.linalg.cholesky(x.swapaxes(-1, -2).conj()).swapaxes(-1, -2).conj()
        return np.linalg.cholesky(x)

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        across = out if self.is_upper else adjoint_of(out)
        inner = matmul(across, adjoint_of(g) if self.is_upper else g)
        inner = mul(add(tril(inner), adjoint_of(tril(inner, -1))), 0.5)
        half = SolveTriangular(True, False)(across, inner)  # L'^-1 inner L^-1
        return (adjoint_of(SolveTriangular(True, False)(across, adjoint_of(half))),)


@op
class Determinant(_Matrix):
    """The determinant of each square matrix."""

    name = "det"

    def infer(self, x: Any) -> Aval:
        self.check_dtypes(x)
        return Aval(tuple(x.shape[:-2]), x.dtype)

    def reference(self, x: Any) -> Any:
        return np.linalg.det(x)

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        n = len(x.shape)
        scale = Expand(tuple(x.shape), (n - 2, n - 1))(mul(g, out))
        return (mul(scale, transposed(Inverse()(x))),)


@op
class SignLogDeterminant(_Matrix):
    """Sign and logarithm of the absolute value of the determinant of each square matrix."""

    name = "slogdet"
    saves = "all"
    holomorphic = False
    n_outputs = 2

    def infer(self, x: Any) -> tuple[Aval, Aval]:
        self.check_dtypes(x)
        shape = tuple(x.shape[:-2])
        return Aval(shape, x.dtype), Aval(shape, x.dtype.to_real())

    def reference(self, x: Any) -> Any:
        return tuple(np.linalg.slogdet(x))

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        n = len(x.shape)
        scale = g[1]
        if x.dtype.is_complex:  # the sign turns by the imaginary part of trace(x**-1 dx)
            scale = FromParts()(scale, ImaginaryPart()(mul(g[0], conj(out[0]))))
        return (mul(Expand(tuple(x.shape), (n - 2, n - 1))(scale), adjoint_of(Inverse()(x))),)


@op
class QR(_Matrix):
    """x = Q R with orthonormal columns in Q (..., m, k), upper triangular R (..., k, n).

    is_full: Q (..., m, m) and R (..., m, n), which for m > n have no gradient.
    """

    is_full: bool
    name = "qr"
    saves = "outputs"
    holomorphic = False
    n_outputs = 2

    def infer(self, x: Any) -> tuple[Aval, Aval]:
        self.check_dtypes(x)
        *lead, m, n = x.shape
        k = m if self.is_full else min(m, n)
        return Aval((*lead, m, k), x.dtype), Aval((*lead, k, n), x.dtype)

    def reference(self, x: Any) -> Any:
        return tuple(np.linalg.qr(x, "complete" if self.is_full else "reduced"))

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        (gq, gr), (q, r) = g, out
        m, n = x.shape[-2:]
        if self.is_full and m > n:
            raise GradError(
                f"linalg.qr: mode='complete' has no gradient for more rows than columns, {m} x {n}",
                hint="the reduced form has one",
            )
        if m < n:
            # The first m columns decide Q; R of the others is Q' times them.
            left, right = _cut(gr, m), _cut(gr, m, n)
            rest = matmul(q, _cut(r, m, n))
            gq = add(gq, matmul(rest, adjoint_of(right)))
            first = _qr_cotangent(gq, left, q, _cut(r, m))
            return (_beside(first, matmul(q, right)),)
        return (_qr_cotangent(gq, gr, q, r),)


def _qr_cotangent(gq: Any, gr: Any, q: Any, r: Any) -> Any:
    """Cotangent of a matrix with as many rows as columns, or more."""
    m = sub(matmul(r, adjoint_of(gr)), matmul(adjoint_of(gq), q))
    below = tril(m, -1)
    whole = add(gq, matmul(q, add(add(below, adjoint_of(below)), real_diagonal(m))))
    return adjoint_of(SolveTriangular(True, False)(r, adjoint_of(whole)))


def real_diagonal(x: Any) -> Any:
    """The diagonal of each matrix, without imaginary part, and zeros."""
    diagonal = where(diagonal_mask(tuple(x.shape)), x, 0.0)
    return cast(RealPart()(diagonal), x.dtype) if x.dtype.is_complex else diagonal


def _cut(x: Any, start: int, stop: int | None = None) -> Any:
    """Columns up to `start`, or from start to stop."""
    low, high = (0, start) if stop is None else (start, stop)
    lead = tuple(x.shape[:-1])
    return Slice((*(0,) * len(lead), low), (*lead, high), (1,) * len(x.shape))(x)


def _beside(x: Any, y: Any) -> Any:
    return concat_values(len(x.shape) - 1, [x, y])


@op
class Eigh(_Matrix):
    """Eigenvalues, ascending, and orthonormal eigenvectors (columns) of symmetric matrices.

    Reads the lower triangle, or the upper one.
    """

    is_upper: bool
    saves = "outputs"
    holomorphic = False
    n_outputs = 2

    def infer(self, x: Any) -> tuple[Aval, Aval]:
        self.check_dtypes(x)
        return Aval(tuple(x.shape[:-1]), x.dtype.to_real()), Aval(tuple(x.shape), x.dtype)

    @_lapack
    def reference(self, x: Any) -> Any:
        return tuple(np.linalg.eigh(x, "U" if self.is_upper else "L"))

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        (gw, gv), (w, v) = g, out
        inner = mul(matmul(adjoint_of(v), gv), _inverse_gaps(w))
        inner = add(inner, on_diagonal(gw))
        whole = matmul(matmul(v, inner), adjoint_of(v))
        return (mul(add(whole, adjoint_of(whole)), 0.5),)


def _inverse_gaps(w: Any) -> Any:
    """1 / (w[j] - w[i]), 0 on the diagonal."""
    shape = (*w.shape, w.shape[-1])
    n = len(shape)
    gap = sub(Expand(shape, (n - 2,))(w), Expand(shape, (n - 1,))(w))
    same = diagonal_mask(shape)
    return where(same, 0.0, div(1.0, where(same, 1.0, gap)))


@op
class Eig(_Matrix):
    """Eigenvalues and eigenvectors (columns of norm 1) of square matrices; both complex.

    The gradient is that of functions that do not depend on the phase of the eigenvectors (Boeddeker
    and others, "On the computation of complex-valued gradients", arXiv:1701.00392, section 4.8).
    """

    saves = "all"
    holomorphic = False
    n_outputs = 2

    def infer(self, x: Any) -> tuple[Aval, Aval]:
        self.check_dtypes(x)
        wide = x.dtype.to_complex()
        return Aval(tuple(x.shape[:-1]), wide), Aval(tuple(x.shape), wide)

    @_lapack
    def reference(self, x: Any) -> Any:
        return tuple(np.linalg.eig(x))

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        (gw, gv), (w, v) = g, out
        across = adjoint_of(v)
        turned = matmul(across, gv)
        turned = sub(turned, matmul(matmul(across, v), real_diagonal(turned)))
        inner = add(mul(turned, conj(_inverse_gaps(w))), on_diagonal(gw))
        whole = Solve()(across, matmul(inner, across))
        return (whole if x.dtype.is_complex else RealPart()(whole),)


@op
class SVD(_Matrix):
    """x = U diag(S) Vh with S (..., k) descending; U is (..., m, k), Vh (..., k, n).

    is_full: U (..., m, m) and Vh (..., n, n). No gradient flows through what is added.
    """

    is_full: bool
    name = "svd"
    saves = "outputs"
    holomorphic = False
    n_outputs = 3

    def infer(self, x: Any) -> tuple[Aval, Aval, Aval]:
        self.check_dtypes(x)
        *lead, m, n = x.shape
        k = min(m, n)
        wide, tall = (m, n) if self.is_full else (k, k)
        shapes = ((*lead, m, wide), (*lead, k), (*lead, tall, n))
        u, s, vh = (Aval(s, x.dtype) for s in shapes)
        return u, Aval(s.shape, x.dtype.to_real()), vh

    @_lapack
    def reference(self, x: Any) -> Any:
        return tuple(np.linalg.svd(x, full_matrices=self.is_full))

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        (gu, gs, gvh), (u, s, vh) = g, out
        m, n = x.shape[-2:]
        k = min(m, n)
        if self.is_full:
            gu, u = _cut(gu, k), _cut(u, k)
            gvh, vh = (transposed(_cut(transposed(v), k)) for v in (gvh, vh))
        gaps = _inverse_gaps(mul(s, s))

        def skew(y: Any) -> Any:
            return mul(sub(y, adjoint_of(y)), gaps)

        rows = Expand((*s.shape, s.shape[-1]), (len(s.shape),))(s)
        turned = matmul(adjoint_of(u), gu)
        inner = columns_times(skew(turned), s)
        inner = add(inner, mul(rows, skew(matmul(vh, adjoint_of(gvh)))))
        inner = add(inner, on_diagonal(gs))
        if x.dtype.is_complex:  # U and V turn by one phase
            phase = sub(turned, real_diagonal(turned))
            inner = add(inner, div(where(diagonal_mask(tuple(phase.shape)), phase, 0.0), rows))
        total = matmul(matmul(u, inner), vh)
        if m > n:
            rest = sub(gu, matmul(u, turned))
            total = add(total, matmul(columns_times(rest, div(1.0, s)), vh))
        if n > m:
            rest = sub(gvh, matmul(matmul(gvh, adjoint_of(vh)), vh))
            total = add(total, matmul(columns_times(u, div(1.0, s)), rest))
        return (total,)


@op
class PseudoInverse(_Matrix):
    """(x, p) -> p, the pseudo-inverse of x found elsewhere; the gradient goes to x.

    The derivative is that of matrices of the same rank (Golub and Pereyra, "The differentiation of
    pseudo-inverses and nonlinear least squares problems", SIAM J. Numer. Anal. 10, 1973).
    """

    saves = "all"
    holomorphic = False

    def infer(self, x: Any, p: Any) -> Aval:
        return Aval(tuple(p.shape), p.dtype)

    def reference(self, x: Any, p: Any) -> Any:
        return p

    def vjp(self, g: Any, out: Any, x: Any, p: Any) -> tuple[Any, ...]:
        across, g = adjoint_of(out), adjoint_of(g)
        first = neg(matmul(matmul(across, adjoint_of(g)), across))
        inner = matmul(g, matmul(out, across))  # (I - x p) g' p p'
        second = sub(inner, matmul(x, matmul(out, inner)))
        inner = matmul(matmul(across, out), g)  # p' p g' (I - p x)
        third = sub(inner, matmul(matmul(inner, out), x))
        return add(first, add(second, third)), None


@op
class SingularValues(_Matrix):
    """Singular values, descending. The gradient exists also where some are equal or 0."""

    saves = "inputs"

    def infer(self, x: Any) -> Aval:
        self.check_dtypes(x)
        return Aval((*x.shape[:-2], min(x.shape[-2:])), x.dtype.to_real())

    @_lapack
    def reference(self, x: Any) -> Any:
        return np.linalg.svd(x, compute_uv=False)

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        u, _, vh = SVD(False)(x)
        return (matmul(columns_times(u, g), vh),)
