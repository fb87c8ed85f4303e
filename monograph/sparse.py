"""Sparse tensors of coordinates with torch.sparse's names: `mg.sparse.mm(a, x)`.

>>> a = mg.sparse_coo_tensor([[0, 1], [1, 0]], [2.0, 3.0], (2, 2))
>>> mg.sparse.mm(a, mg.ones(2, 1))
tensor([[2.],
        [3.]])
"""

from .api.sparse import SparseTensor, spmm
from .api.sparse import spmm as mm

__all__ = ["SparseTensor", "addmm", "mm", "spmm", "sum"]


def addmm(mat, mat1, mat2, *, beta=1, alpha=1):
    """beta * mat + alpha * (mat1 @ mat2); mat1 is sparse."""
    return mat * beta + mm(mat1, mat2) * alpha


def sum(input, dim=None):
    """All elements of a sparse tensor added up, or those along a dimension (dense)."""
    return input.sum(dim)
