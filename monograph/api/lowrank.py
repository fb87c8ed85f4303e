"""A few singular values, principal components or eigenvectors of a matrix.

The first two come from a random projection. Source: Halko, Martinsson and Tropp, "Finding structure
with randomness", SIAM Review 53, 2011 (algorithms 4.4 and 5.1).
"""

from __future__ import annotations

from typing import Any

from ..core.errors import ArgumentError, ShapeError
from ..core.shape import as_index
from ..ops.align import public
from ..ops.arith import sub
from ..ops.contract import matmul
from ..ops.linalg import cholesky, eigh, qr, solve_triangular, svd
from ..ops.parts import adjoint_of
from ..ops.reduce import mean
from ..ops.shaping import flip
from ..tensor import Tensor
from .random import randn


def _range(A: Tensor, q: int, niter: int) -> Any:
    """Orthonormal columns (..., m, q) whose span nearly holds A's largest part."""
    omega = randn(A.shape[-1], q, dtype=A.dtype)
    basis = qr(matmul(A, omega)).Q
    for _ in range(niter):
        basis = qr(matmul(adjoint_of(A), basis)).Q
        basis = qr(matmul(A, basis)).Q
    return basis


@public
def svd_lowrank(
    A: Tensor, q: int | None = 6, niter: int | None = 2, M: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """(U, S, V) with U diag(S) V' near A (..., m, n): its q largest singular values.

    q      how many, at most min(m, n); a little more than the rank that is looked for
    niter  rounds of subspace iteration
    M      is subtracted from A first, and broadcasts to it

    >>> x = ones(20, 3) @ ones(3, 10)
    >>> svd_lowrank(x, q=2)[1].shape
    (2,)
    """
    if len(A.shape) < 2:
        raise ShapeError(f"svd_lowrank: A must be (..., m, n), got {tuple(A.shape)}")
    count = 6 if q is None else as_index("svd_lowrank", "q", q)
    if not 0 <= count <= min(A.shape[-2:]):
        raise ArgumentError(f"svd_lowrank: q must be in [0, {min(A.shape[-2:])}], got {count}")
    x = A if M is None else sub(A, M)
    basis = _range(x, count, 2 if niter is None else niter)
    u, s, vh = svd(matmul(adjoint_of(basis), x), full_matrices=False)
    return matmul(basis, u), s, adjoint_of(vh)


@public
def pca_lowrank(
    A: Tensor, q: int | None = None, center: bool = True, niter: int = 2
) -> tuple[Tensor, Tensor, Tensor]:
    """(U, S, V): svd_lowrank of the rows of A less their mean; V's columns are the components.

    q       how many; None: the smaller of 6 and the sizes of A
    center  False: A has mean zero already
    """
    count = min(6, *A.shape[-2:]) if q is None else q
    x = sub(A, mean(A, -2, True)) if center else A
    return svd_lowrank(x, count, niter)


@public
def lobpcg(
    A: Any, k: int | None = None, B: Any = None, X: Tensor | None = None, n: int | None = None,
    iK: Any = None, niter: int | None = None, tol: float | None = None,
    largest: bool | None = None, method: str | None = None, tracker: Any = None,
    ortho_iparams: Any = None, ortho_fparams: Any = None, ortho_bparams: Any = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(E, V): the k largest eigenvalues, descending, and eigenvectors of A v = e B v.

    A        (..., m, m) symmetric, dense or sparse (which is made dense)
    k        how many; None: as many as X has columns, else 1
    B        (..., m, m) symmetric and positive; None: the identity
    largest  False: the k smallest, ascending

    They are taken from the whole decomposition (linalg.eigh), so they are exact, have gradients,
    and take m*m*m time; what steers PyTorch's iteration (X, n, iK, niter, tol, method, ...) has no
    effect.

    >>> lobpcg(diag(tensor([1.0, 5.0, 3.0])), 2)[0]
    tensor([5., 3.])
    """
    A, B = (m.to_dense() if hasattr(m, "to_dense") else m for m in (A, B))
    if len(A.shape) < 2 or A.shape[-1] != A.shape[-2]:
        raise ShapeError(f"lobpcg: A must be (..., m, m), got {tuple(A.shape)}")
    count = (1 if X is None else X.shape[-1]) if k is None else as_index("lobpcg", "k", k)
    if not 1 <= count <= A.shape[-1]:
        raise ArgumentError(f"lobpcg: k must be in [1, {A.shape[-1]}], got {count}")
    if B is None:
        values, vectors = eigh(A)
    else:  # with B = L L': inv(L) A inv(L)' y = e y, and v = inv(L)' y
        lower = cholesky(B)
        half = solve_triangular(lower, A, upper=False)
        values, vectors = eigh(solve_triangular(lower, adjoint_of(half), upper=False))
        vectors = solve_triangular(adjoint_of(lower), vectors, upper=True)
    if largest is None or largest:
        values, vectors = flip(values, -1), flip(vectors, -1)
    return values[..., :count], vectors[..., :count]
