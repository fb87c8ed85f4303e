"""LU, reflectors, the matrix exponential and the forms that report failures, against PyTorch."""

import numpy as np
import pytest

import monograph as mg
from monograph.testing import assert_close

from .torch_oracle import check, torch

pytestmark = pytest.mark.filterwarnings("ignore:torch.*deprecated", "ignore:Note that torch")
RNG = np.random.default_rng(11)


def matrices(*shape):
    return RNG.standard_normal(shape) + 2 * np.eye(shape[-2], shape[-1])


@pytest.mark.parametrize("shape", [(3, 3), (2, 4, 4), (5, 3), (2, 3, 5), (0, 3, 3), (3, 0)])
def test_lu(shape):
    x = matrices(*shape)
    check(mg.linalg.lu_factor, torch.linalg.lu_factor, x)
    check(mg.linalg.lu_factor_ex, torch.linalg.lu_factor_ex, x, grad=False)
    check(mg.linalg.lu, torch.linalg.lu, x)
    check(lambda a: mg.lu_unpack(*mg.lu(a)), lambda a: torch.lu_unpack(*torch.lu(a)), x)
    got = mg.jit(lambda a: mg.linalg.lu(a))(mg.tensor(x))
    for a, b in zip(got, mg.linalg.lu(mg.tensor(x))):
        assert_close(a, b)


@pytest.mark.parametrize("adjoint", [False, True])
@pytest.mark.parametrize("left", [False, True])
def test_lu_solve(left, adjoint):
    a, b = matrices(2, 3, 3), RNG.standard_normal((2, 3, 3))

    def of(m):
        def solve(x, y):
            factors, pivots = m.linalg.lu_factor(x)
            return m.linalg.lu_solve(factors, pivots, y, left=left, adjoint=adjoint)

        return solve

    check(of(mg), of(torch), a, b)
    if left and not adjoint:
        check(lambda x, y: mg.lu_solve(y, *mg.lu(x)), lambda x, y: torch.lu_solve(y, *torch.lu(x)),
              a, b)  # fmt: skip


def test_reflectors():
    for shape in ((4, 3), (2, 5, 2), (3, 3)):
        x = matrices(*shape)
        packed, tau = mg.geqrf(mg.tensor(x))
        expected = torch.geqrf(torch.tensor(x))
        assert_close(packed, expected.a.numpy())
        a, t = np.array(packed.numpy()), np.array(tau.numpy())
        check(mg.linalg.householder_product, torch.linalg.householder_product, a, t, grad=False)
        leaves = [mg.tensor(v, requires_grad=True) for v in (a, t)]
        assert mg.autograd.gradcheck(mg.linalg.householder_product, leaves)
        other = RNG.standard_normal((*shape[:-2], shape[-2], shape[-2]))
        for left in (True, False):
            for transpose in (True, False):
                check(
                    mg.ormqr, torch.ormqr, a, t, other, left=left, transpose=transpose, grad=False
                )


def test_matrix_exponential():
    check(mg.matrix_exp, torch.matrix_exp, RNG.standard_normal((2, 4, 4)), rtol=1e-9, atol=1e-9)
    check(mg.linalg.matrix_exp, torch.linalg.matrix_exp, 8 * RNG.standard_normal((3, 3)),
          rtol=1e-7, atol=1e-7)  # fmt: skip
    check(mg.matrix_exp, torch.matrix_exp, np.zeros((0, 3, 3)))
    check(mg.matrix_exp, torch.matrix_exp, RNG.standard_normal((2, 2)).astype(np.float32))
    x = mg.tensor(RNG.standard_normal((3, 3)))
    assert_close(mg.jit(mg.matrix_exp)(x), mg.matrix_exp(x))


def test_forms_that_report_failures():
    good = matrices(3, 3, 3)
    check(mg.linalg.inv_ex, torch.linalg.inv_ex, good)
    check(mg.linalg.solve_ex, torch.linalg.solve_ex, good, RNG.standard_normal((3, 3, 2)))
    check(mg.linalg.solve_ex, torch.linalg.solve_ex, good[0], RNG.standard_normal(3))
    definite = good @ good.swapaxes(-1, -2)
    check(mg.linalg.cholesky_ex, torch.linalg.cholesky_ex, definite, grad=False)
    bad = definite.copy()
    bad[1] = np.diag([1.0, -1.0, 1.0])
    info = mg.linalg.cholesky_ex(mg.tensor(bad)).info
    assert info.tolist() == torch.linalg.cholesky_ex(torch.tensor(bad)).info.tolist() == [0, 2, 0]
    bad[1] = np.diag([1.0, 0.0, 1.0])
    inverse, info = mg.linalg.inv_ex(mg.tensor(bad))
    assert info.tolist() == torch.linalg.inv_ex(torch.tensor(bad)).info.tolist() == [0, 2, 0]
    assert inverse[1].isnan().all() and not inverse[[0, 2]].isnan().any()
    with pytest.raises(ValueError, match=r"linalg.inv_ex: a matrix is singular .* info is"):
        mg.linalg.inv_ex(mg.tensor(bad), check_errors=True)


def test_pseudo_inverse_of_any_rank():
    a, b = RNG.standard_normal((5, 2)), RNG.standard_normal((2, 4))
    check(lambda x, y: mg.linalg.pinv(x @ y), lambda x, y: torch.linalg.pinv(x @ y), a, b)
    symmetric = a @ a.T
    check(mg.linalg.pinv, torch.linalg.pinv, symmetric, hermitian=True, grad=False)
    lower = np.tril(symmetric) + np.triu(np.ones((5, 5)), 1)
    got = mg.linalg.pinv(mg.tensor(lower), rtol=1e-10, hermitian=True)
    assert_close(got, np.linalg.pinv(symmetric, rcond=1e-10))


def test_least_squares_returns_what_the_driver_computes():
    for shape in ((5, 3), (3, 3), (3, 5)):
        a, b = RNG.standard_normal(shape), RNG.standard_normal((shape[0], 2))
        for driver in ("gels", "gelsy", "gelsd", "gelss"):
            check(mg.linalg.lstsq, torch.linalg.lstsq, a, b, driver=driver, grad=False)
    with pytest.raises(ValueError, match="driver must be one of gels"):
        mg.linalg.lstsq(mg.ones(3, 2), mg.ones(3, 2), driver="best")


def test_other_shapes():
    check(mg.linalg.vander, torch.linalg.vander, RNG.standard_normal((2, 3)), N=4)
    check(mg.linalg.vander, torch.linalg.vander, np.arange(4))
    for increasing in (True, False):
        check(mg.vander, torch.vander, RNG.standard_normal(4), grad=False, increasing=increasing)
    check(mg.linalg.tensorinv, torch.linalg.tensorinv, RNG.standard_normal((6, 2, 3)), ind=1)
    a, b = RNG.standard_normal((2, 3, 6)), RNG.standard_normal((2, 3))
    check(mg.linalg.tensorsolve, torch.linalg.tensorsolve, a, b)
    check(mg.linalg.tensorsolve, torch.linalg.tensorsolve, a.transpose(0, 2, 1), b, dims=(1,))
    check(mg.linalg.diagonal, torch.linalg.diagonal, RNG.standard_normal((2, 3, 4)), offset=1)
    x = RNG.standard_normal((4, 3))
    check(lambda v: mg.svd(v).S, lambda v: torch.svd(v).S, x)
    check(lambda v: mg.svd(v, compute_uv=False), lambda v: torch.svd(v, compute_uv=False), x,
          grad=False)  # fmt: skip
    got = mg.svd(mg.tensor(x))
    assert_close(got.U * got.S @ got.V.T, x)
    a, b = np.triu(matrices(3, 3)), RNG.standard_normal((3, 2))
    for transpose in (True, False):
        check(mg.triangular_solve, torch.triangular_solve, b, a, transpose=transpose, grad=False)
    check(mg.norm, torch.norm, x, p="nuc", grad=False)
    check(mg.linalg.svdvals, torch.linalg.svdvals, np.diag([2.0, 2.0, 0.0]))


def test_low_rank_forms():
    x = RNG.standard_normal((2, 30, 4)) @ RNG.standard_normal((2, 4, 12))
    u, s, v = mg.svd_lowrank(mg.tensor(x), q=6)
    assert_close(s, np.linalg.svd(x)[1][:, :6], rtol=1e-8, atol=1e-8)
    assert_close(u * s.unsqueeze(-2) @ v.mT, x, rtol=1e-8, atol=1e-8)
    centred = x - x.mean(-2, keepdims=True)
    u, s, v = mg.pca_lowrank(mg.tensor(x))
    assert s.shape == (2, 6) and v.shape == (2, 12, 6)
    assert_close(u * s.unsqueeze(-2) @ v.mT, centred, rtol=1e-8, atol=1e-8)
    with pytest.raises(ValueError, match=r"svd_lowrank: q must be in \[0, 12\], got 13"):
        mg.svd_lowrank(mg.tensor(x), q=13)


@pytest.mark.parametrize("hermitian", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (2, 6, 6), (0, 2, 2), (3, 0, 0)])
def test_ldl(shape, hermitian):
    for x in (RNG.standard_normal(shape), RNG.standard_normal(shape) + 1j):
        x[..., :1, :1] *= 1e-3  # small on the diagonal: blocks of two rows
        x = x + (x.conj() if hermitian else x).swapaxes(-1, -2)
        right = RNG.standard_normal((*shape[:-1], 2)).astype(x.dtype)
        options = {"hermitian": hermitian, "grad": False}
        check(mg.linalg.ldl_factor, torch.linalg.ldl_factor, x, **options)
        check(mg.linalg.ldl_factor_ex, torch.linalg.ldl_factor_ex, x, **options)
        factors, pivots = mg.linalg.ldl_factor(mg.tensor(x), hermitian=hermitian)
        solution = mg.linalg.ldl_solve(factors, pivots, mg.tensor(right), hermitian=hermitian)
        assert_close(mg.tensor(x) @ solution, right, rtol=1e-8, atol=1e-8)


def test_ldl_of_a_singular_matrix():
    x = mg.zeros(2, 2, 2)
    assert mg.linalg.ldl_factor_ex(x).info.tolist() == [1, 1]
    with pytest.raises(mg.linalg.LinAlgError, match="D has a 0"):
        mg.linalg.ldl_factor(x)
    with pytest.raises(mg.linalg.LinAlgError):
        mg.linalg.inv(x)
    with pytest.raises(RuntimeError, match="pivots has shape"):
        mg.linalg.ldl_solve(x, mg.ones(2, dtype=mg.int32), x)


@pytest.mark.parametrize("mode", ["reduced", "complete", "r"])
@pytest.mark.parametrize("shape", [(3, 3), (2, 4, 3), (3, 5), (0, 3), (3, 0)])
def test_modes_of_qr(shape, mode):
    grad = mode == "reduced" or (mode == "complete" and shape[-2] <= shape[-1])
    check(
        mg.linalg.qr, torch.linalg.qr, matrices(*shape), mode=mode, grad=grad and 0 not in shape,
        rtol=1e-9, atol=1e-9,
    )  # fmt: skip


def test_what_qr_refuses():
    x = mg.tensor(matrices(4, 3), requires_grad=True)
    with pytest.raises(mg.core.errors.GradError, match="4 x 3"):
        mg.linalg.qr(x, "complete").R.sum().backward()
    with pytest.raises(ValueError, match="mode must be"):
        mg.linalg.qr(x, "full")


@pytest.mark.parametrize("options", [{"k": 3}, {"k": 2, "largest": False}, {}])
@pytest.mark.parametrize("generalized", [False, True])
def test_lobpcg(options, generalized):
    a, b = (m @ m.T + np.eye(12) for m in (matrices(12, 12), matrices(12, 12)))
    b = b if generalized else None

    def run(lib, **more):
        B = None if b is None else lib.tensor(b)
        return lib.lobpcg(lib.tensor(a), B=B, **options, **more)

    values, vectors = run(mg)
    expected = run(torch, niter=300, tol=1e-12)
    assert_close(values, expected[0], rtol=1e-9, atol=1e-9)
    assert_close(vectors.abs(), expected[1].abs(), rtol=1e-7, atol=1e-7)
    assert_close(mg.lobpcg(mg.tensor(a).to_sparse(), B=None)[0], mg.lobpcg(mg.tensor(a))[0])
    grad = mg.func.grad(lambda a: mg.lobpcg(a)[0].sum())(mg.tensor(a))
    top = mg.lobpcg(mg.tensor(a))[1]
    assert_close(grad, top @ top.T, rtol=1e-8, atol=1e-8)


def test_what_lobpcg_refuses():
    with pytest.raises(ValueError, match=r"k must be in \[1, 3\], got 4"):
        mg.lobpcg(mg.eye(3), 4)
    with pytest.raises(RuntimeError, match=r"A must be \(..., m, m\), got \(2, 3\)"):
        mg.lobpcg(mg.ones(2, 3))
