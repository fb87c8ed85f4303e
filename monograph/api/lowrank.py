"""Singular values and principal components of large matrices, found from a random projection.

Source: Halko, Martinsson and Tropp, "Finding structure with randomness", SIAM Review 53, 2011
(algorithms 4.4 and 5.1).
"""

from __future__ import annotations

from typing import Any

from ..core.errors import ArgumentError, ShapeError
from ..core.shape import as_index
from ..ops.align import public
from ..ops.arith import sub
from ..ops.contract import matmul
from ..ops.linalg import qr, svd
from ..ops.parts import adjoint_of
from ..ops.reduce import mean
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
