"""Linear algebra with the names and meanings of torch.linalg, of real and complex matrices."""

from .core.errors import LinAlgError as LinAlgError
from .ops.arguments import explained as _explained
from .ops.autocasting import casting as _casting
from .ops.contract import matmul, outer, tensordot
from .ops.factorizations import (
    cholesky_ex,
    diagonal,
    householder_product,
    inv_ex,
    matrix_exp,
    solve_ex,
    stacked_trace,
    tensorinv,
    tensorsolve,
    vander,
)
from .ops.ldl import ldl_factor, ldl_factor_ex, ldl_solve
from .ops.linalg import (
    cholesky,
    cond,
    det,
    eig,
    eigh,
    eigvals,
    eigvalsh,
    inv,
    lstsq,
    matrix_norm,
    matrix_power,
    matrix_rank,
    multi_dot,
    pinv,
    qr,
    slogdet,
    solve,
    solve_triangular,
    svd,
    svdvals,
    vecdot,
    vector_norm,
)
from .ops.linalg import cross_last as cross
from .ops.linalg import linalg_norm as norm
from .ops.lu import lu, lu_factor, lu_factor_ex, lu_solve
from .ops.shaping import matrix_transpose

trace = stacked_trace

__all__ = [
    "cholesky", "cholesky_ex", "cond", "cross", "det", "diagonal", "eig", "eigh", "eigvals",
    "eigvalsh", "householder_product", "inv", "inv_ex", "ldl_factor", "ldl_factor_ex", "ldl_solve",
    "lstsq", "lu", "lu_factor", "lu_factor_ex", "lu_solve", "matmul", "matrix_exp", "matrix_norm",
    "matrix_power",
    "matrix_rank", "matrix_transpose", "multi_dot", "norm", "outer", "pinv", "qr", "slogdet",
    "solve", "solve_ex", "solve_triangular", "svd", "svdvals", "tensordot", "tensorinv",
    "tensorsolve", "trace", "vander", "vecdot", "vector_norm",
]  # fmt: skip

for _name in __all__:  # they take out= as well
    if not hasattr(globals()[_name], "is_explained"):
        globals()[_name] = _explained(_casting(globals()[_name], _name), always=True)
