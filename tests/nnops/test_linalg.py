import numpy as np
import pytest
import torch

import monograph as mg
from monograph.core.errors import DTypeError, LinAlgError, ShapeError

from .messages import raises_message
from .oracle import check, close, rng, to_mg, to_torch

LA, TLA = mg.linalg, torch.linalg
LEADS = [(), (3,), (2, 0), (2, 3)]


def arrays(*shapes, seed=0):
    r = rng(seed)
    return [r.standard_normal(s) for s in shapes]


def definite(*shape):
    (x,) = arrays(shape)
    return x @ x.swapaxes(-1, -2) + 0.5 * np.eye(shape[-1])


@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize("name", ["inv", "det"])
def test_inverse_and_determinant_agree_with_torch(name, lead):
    ours, theirs = getattr(LA, name), getattr(TLA, name)
    check(ours, theirs, *arrays((*lead, 4, 4)), double=0 not in lead, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("lead", [(), (3,)])
def test_slogdet_agrees_with_torch(lead):
    (x,) = arrays((*lead, 4, 4))
    check(lambda a: LA.slogdet(a)[1], lambda a: TLA.slogdet(a)[1], x, double=True)
    close(LA.slogdet(to_mg(x)).sign, TLA.slogdet(to_torch(x)).sign)
    check(mg.logdet, torch.logdet, definite(*lead, 3, 3))


def test_logdet_of_a_negative_determinant_is_nan():
    assert np.isnan(mg.logdet(mg.tensor([[0.0, 1.0], [1.0, 0.0]])).item())


@pytest.mark.parametrize(
    "a, b, left",
    [
        ((4, 4), (4, 2), True), ((4, 4), (4,), True), ((3, 4, 4), (3, 4, 2), True),
        ((3, 4, 4), (4, 2), True), ((3, 4, 4), (3, 4), True), ((4, 4), (2, 4), False),
        ((2, 1, 4, 4), (3, 4, 2), True),
    ],
)  # fmt: skip
def test_solve_agrees_with_torch(a, b, left):
    check(
        lambda x, y: LA.solve(x, y, left=left), lambda x, y: TLA.solve(x, y, left=left),
        *arrays(a, b), double=True, rtol=1e-7, atol=1e-7,
    )  # fmt: skip


@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("upper", [True, False])
def test_solve_triangular_agrees_with_torch(upper, unit, left):
    a, b = arrays((3, 4, 4), (3, 4, 4))
    a = a + 4 * np.eye(4)
    options = dict(upper=upper, unitriangular=unit, left=left)
    check(
        lambda x, y: LA.solve_triangular(x, y, **options),
        lambda x, y: TLA.solve_triangular(x, y, **options),
        a, b, double=True, rtol=1e-7, atol=1e-7,
    )  # fmt: skip


@pytest.mark.parametrize("upper", [True, False])
@pytest.mark.parametrize("lead", [(), (3,)])
def test_cholesky_agrees_with_torch(lead, upper):
    check(
        lambda a: LA.cholesky(a, upper=upper), lambda a: TLA.cholesky(a, upper=upper),
        definite(*lead, 4, 4), double=True, rtol=1e-7, atol=1e-7,
    )  # fmt: skip


@pytest.mark.parametrize("upper", [True, False])
def test_solves_with_a_cholesky_factor_agree_with_torch(upper):
    factor, b = np.linalg.cholesky(definite(3, 4, 4)), rng(1).standard_normal((3, 4, 2))
    factor = factor.swapaxes(-1, -2) if upper else factor
    ours, theirs = (mg.triu, torch.triu) if upper else (mg.tril, torch.tril)
    check(
        lambda x, y: mg.cholesky_solve(x, ours(y), upper),
        lambda x, y: torch.cholesky_solve(x, theirs(y), upper),
        b, factor, rtol=1e-7, atol=1e-7,
    )  # fmt: skip
    check(  # PyTorch's gradient also has the other triangle, which is not read
        lambda x: mg.cholesky_inverse(ours(x), upper),
        lambda x: torch.cholesky_inverse(theirs(x), upper),
        factor, rtol=1e-7, atol=1e-7,
    )  # fmt: skip


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 5), (2, 5, 3)])
def test_qr_agrees_with_torch(shape, which):
    check(
        lambda a: LA.qr(a)[which], lambda a: TLA.qr(a)[which], *arrays(shape), double=True,
        rtol=1e-7, atol=1e-7,
    )  # fmt: skip


@pytest.mark.parametrize("uplo", ["L", "U"])
@pytest.mark.parametrize("lead", [(), (3,)])
def test_eigh_agrees_with_torch(lead, uplo):
    (x,) = arrays((*lead, 4, 4))

    def symmetric(a):  # the signs of eigenvectors are not determined: square them
        a = a + a.mT
        return a

    check(
        lambda a: LA.eigh(symmetric(a), uplo)[0], lambda a: TLA.eigh(symmetric(a), uplo)[0], x,
        double=True,
    )  # fmt: skip
    check(
        lambda a: LA.eigh(symmetric(a), uplo)[1] ** 2,
        lambda a: TLA.eigh(symmetric(a), uplo)[1] ** 2,
        x, double=True, rtol=1e-6, atol=1e-6,
    )  # fmt: skip
    check(lambda a: LA.eigvalsh(symmetric(a)), lambda a: TLA.eigvalsh(symmetric(a)), x)


@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 5), (2, 4, 3)])
def test_svd_agrees_with_torch(shape):
    (x,) = arrays(shape)
    for which in range(3):
        check(
            lambda a, i=which: LA.svd(a, full_matrices=False)[i] ** 2,
            lambda a, i=which: TLA.svd(a, full_matrices=False)[i] ** 2,
            x, double=True, rtol=1e-6, atol=1e-6,
        )  # fmt: skip
    check(LA.svdvals, TLA.svdvals, x, double=True)
    k = min(shape[-2:])  # what is added beyond k is not determined
    (u, _, vh), expected = LA.svd(to_mg(x)), TLA.svd(to_torch(x))
    assert u.shape == expected[0].shape and vh.shape == expected[2].shape
    close(abs(u[..., :k]), abs(expected[0][..., :k]))
    close(abs(vh[..., :k, :]), abs(expected[2][..., :k, :]))
    for q in (u, vh):
        close(q @ q.mT, np.broadcast_to(np.eye(q.shape[-1]), q.shape))


def test_no_gradient_flows_through_the_added_columns():
    (x,) = arrays((5, 3))

    def rebuilt(svd):
        def f(a):
            u, s, vh = svd(a)
            return (u[:, :3] * s) @ vh

        return f

    check(rebuilt(LA.svd), lambda a: a * 1.0, x)


@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (2, 3, 5)])
def test_pseudoinverse_rank_and_least_squares_agree_with_torch(shape):
    (x,) = arrays(shape)
    check(LA.pinv, TLA.pinv, x, double=True, rtol=1e-6, atol=1e-6)
    low = x[..., :1] * x[..., :1, :]
    close(LA.matrix_rank(to_mg(low)), TLA.matrix_rank(to_torch(low)))
    b = rng(3).standard_normal((*shape[:-2], shape[-2], 2))
    made = LA.lstsq(to_mg(x), to_mg(b))
    close(made.solution, TLA.lstsq(to_torch(x), to_torch(b), driver="gelsd").solution)


@pytest.mark.parametrize(
    "options", [dict(atol=0.5), dict(rtol=0.3), dict(atol=0.5, rtol=0.9), dict(atol=0.0), {}]
)
def test_limits_of_small_singular_values_agree_with_torch(options):
    (x,) = arrays((2, 4, 3))
    close(LA.pinv(to_mg(x), **options), TLA.pinv(to_torch(x), **options))
    close(LA.matrix_rank(to_mg(x), **options), TLA.matrix_rank(to_torch(x), **options))
    empty = np.zeros((2, 0, 3))
    close(LA.pinv(to_mg(empty), **options), TLA.pinv(to_torch(empty), **options))
    close(LA.matrix_rank(to_mg(empty), **options), TLA.matrix_rank(to_torch(empty), **options))


@pytest.mark.parametrize("n", [-2, 0, 1, 2, 5])
def test_matrix_power_agrees_with_torch(n):
    check(
        lambda a: LA.matrix_power(a, n), lambda a: TLA.matrix_power(a, n), *arrays((2, 3, 3)),
        rtol=1e-7, atol=1e-7,
    )  # fmt: skip


@pytest.mark.parametrize("shapes", [[(2, 3), (3, 4)], [(3,), (3, 4), (4, 2), (2,)], [(3,), (3, 5)]])
def test_multi_dot_agrees_with_torch(shapes):
    check(lambda *a: LA.multi_dot(a), lambda *a: TLA.multi_dot(a), *arrays(*shapes))


@pytest.mark.parametrize(
    "x, y, dim", [((2, 3), (2, 3), -1), ((3, 2), (3, 2), 0), ((2, 3), (1, 3), -1)]
)
def test_cross_agrees_with_torch(x, y, dim):
    operands = arrays(x, y)
    check(lambda a, b: LA.cross(a, b, dim=dim), lambda a, b: TLA.cross(a, b, dim=dim), *operands)
    check(lambda a, b: LA.vecdot(a, b, dim=dim), lambda a, b: TLA.vecdot(a, b, dim=dim), *operands)


@pytest.mark.parametrize("keepdim", [True, False])
@pytest.mark.parametrize("ord", ["fro", "nuc", 2, -2, 1, -1, np.inf, -np.inf])
def test_matrix_norms_agree_with_torch(ord, keepdim):
    for shape, dim in (((3, 4), (-2, -1)), ((2, 3, 4), (0, 2))):
        check(
            lambda a, d=dim: LA.matrix_norm(a, ord, d, keepdim),
            lambda a, d=dim: TLA.matrix_norm(a, ord, d, keepdim),
            *arrays(shape),
        )


@pytest.mark.parametrize(
    "ord, dim", [(None, None), (2, None), (1, 0), (np.inf, (0, 1)), (None, (0, 1)), (3, 1)]
)
def test_norm_agrees_with_torch(ord, dim):
    check(lambda a: LA.norm(a, ord, dim), lambda a: TLA.norm(a, ord, dim), *arrays((3, 4)))


@pytest.mark.parametrize("p", [None, 2, -2, "fro", 1, np.inf])
def test_condition_numbers_agree_with_torch(p):
    (x,) = arrays((3, 3))
    close(LA.cond(to_mg(x), p), TLA.cond(to_torch(x), p))


def test_captured_and_batched_forms_equal_the_eager_ones():
    a, b = definite(3, 4, 4), rng(1).standard_normal((3, 4, 2))

    def f(a, b):
        q, r = LA.qr(a)
        return LA.solve(a, b) + q @ LA.cholesky(a) @ b + r @ b * LA.det(a)[..., None, None]

    eager = f(to_mg(a), to_mg(b)).numpy()
    close(mg.jit(f)(to_mg(a), to_mg(b)), eager, rtol=1e-8, atol=1e-8)
    close(mg.func.vmap(f)(to_mg(a), to_mg(b)), eager, rtol=1e-8, atol=1e-8)
    other = mg.func.vmap(f, in_dims=(2, 0))(to_mg(a.transpose(1, 2, 0)), to_mg(b))
    close(other, eager, rtol=1e-8, atol=1e-8)


def test_linear_algebra_explains_bad_arguments():
    with raises_message(
        ShapeError, "linalg.inv: A must be square matrices (..., n, n), got (2, 3)"
    ):
        LA.inv(mg.zeros(2, 3))
    with raises_message(DTypeError, "linalg.det: A must be float32, float64 or complex, got int64"):
        LA.det(mg.zeros(2, 2, dtype=mg.int64))
    with raises_message(LinAlgError, "linalg.inv: Singular matrix"):
        LA.inv(mg.zeros(2, 2))
    with raises_message(LinAlgError, "linalg.cholesky: Matrix is not positive definite"):
        LA.cholesky(-mg.eye(2))
    with raises_message(
        ShapeError, "linalg.solve: A (2, 2) and B (3, 1) differ in the number of rows"
    ):
        LA.solve(mg.eye(2), mg.zeros(3, 1))
