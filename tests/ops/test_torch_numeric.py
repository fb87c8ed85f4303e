"""Gamma functions, running extremes and the composed numeric functions against PyTorch."""

import numpy as np
import pytest

import monograph as mg
from monograph.core.errors import ArgumentError, DTypeError, ShapeError
from monograph.testing import raises_message

from .torch_oracle import check, torch

RNG = np.random.default_rng(4)
X, Y = RNG.uniform(0.2, 3, (3, 4)), RNG.uniform(0.2, 3, (3, 4))


@pytest.mark.parametrize("name", ["lgamma", "digamma"])
def test_gamma_functions(name):
    x = np.array([-3.7, -2.5, -0.3, 0.1, 0.5, 1.0, 1.5, 2.0, 3.3, 7.9, 8.1, 25.0, 1e5])
    for dtype in (np.float64, np.float32):
        close = dict(rtol=1e-9, atol=1e-9) if dtype is np.float64 else dict(rtol=1e-4, atol=1e-5)
        check(getattr(mg, name), getattr(torch, name), x.astype(dtype), **close)
    edges = np.array([0.0, -1.0, -2.0, np.inf, np.nan])
    check(getattr(mg, name), getattr(torch, name), edges, grad=False)
    check(getattr(mg, name), getattr(torch, name), np.array([1, 4]))


def test_polygamma():
    for n in range(4):
        check(lambda t, n=n: mg.polygamma(n, t), lambda t, n=n: torch.polygamma(n, t), X * 4,
              rtol=1e-9, atol=1e-10)  # fmt: skip
    x = np.array([-0.4, -2.7])
    check(lambda t: mg.polygamma(1, t), lambda t: torch.polygamma(1, t), x, grad=False, rtol=1e-9,
          atol=1e-9)  # fmt: skip
    with raises_message(ArgumentError, "polygamma: n must not be negative, got -1"):
        mg.polygamma(-1, mg.ones(1))


@pytest.mark.parametrize("name", ["cummax", "cummin"])
def test_running_extremes(name):
    ties = np.array([[1.0, 1.0, 0.0], [2.0, 3.0, 3.0], [2.0, 0.0, 1.0]])
    for x in (X, ties, ties.astype(np.int64), np.array([1.0, np.nan, 0.0])):
        for dim in range(-1, x.ndim):
            check(lambda t, d=dim: tuple(getattr(mg, name)(t, d)),
                  lambda t, d=dim: tuple(getattr(torch, name)(t, d)), x)  # fmt: skip


def test_logcumsumexp():
    for x in (X, X * 400 - 500):
        for dim in (0, 1):
            check(mg.logcumsumexp, torch.logcumsumexp, x, dim)


def test_composed_functions():
    check(mg.logit, torch.logit, X / 4)
    check(mg.logit, torch.logit, np.array([0.0, 0.5, 1.0]), eps=0.1)
    check(mg.xlogy, torch.xlogy, X, Y)
    check(
        mg.xlogy, torch.xlogy, np.array([0.0, 0.0, 1.0]), np.array([0.0, np.nan, 2.0]), grad=False
    )
    check(mg.subtract, torch.subtract, X, Y, alpha=2)
    check(mg.rsub, torch.rsub, X, Y)
    check(mg.positive, torch.positive, X)
    check(mg.sgn, torch.sgn, X - 1, grad=False)
    check(mg.float_power, torch.float_power, np.array([1, 2, 3]), 0.5)
    points = np.array([-1.0, 0.0, 2.0, np.nan])
    check(mg.heaviside, torch.heaviside, points, np.array([0.5]), grad=False)
    check(mg.ldexp, torch.ldexp, X, np.array([1, 2, 3, 4]))
    check(mg.nanmedian, torch.nanmedian, np.array([3.0, np.nan, 1.0, 2.0, 5.0]))
    for p in (1, 2, 3, np.inf):
        check(mg.dist, torch.dist, X, Y, p=p)
        check(mg.renorm, torch.renorm, X, p=p, dim=0, maxnorm=2.0, rtol=1e-6, atol=1e-6)


def test_cross_products():
    x, y = RNG.uniform(-1, 1, (2, 3)), RNG.uniform(-1, 1, (2, 3))
    check(mg.cross, torch.cross, x, y, dim=1)
    check(mg.cross, torch.cross, x.T.copy(), y.T.copy(), dim=0)
    with raises_message(ShapeError, """
        cross: dimension 0 must have size 3, the shapes are (2, 3) and (2, 3)
    """):  # fmt: skip
        mg.cross(mg.tensor(x), mg.tensor(y), 0)


def test_covariance_and_correlation():
    counts, weights = np.array([1, 2, 1, 3]), np.array([0.5, 1.0, 2.0, 0.1])
    for x in (X, X[0], X[:1]):
        check(lambda t, f, a: mg.cov(t, fweights=f, aweights=a),
              lambda t, f, a: torch.cov(t, fweights=f, aweights=a), x, counts, weights)  # fmt: skip
        check(lambda t, f: mg.cov(t, fweights=f), lambda t, f: torch.cov(t, fweights=f), x, counts)
        check(mg.cov, torch.cov, x)
        check(mg.cov, torch.cov, x, correction=0)
    check(mg.corrcoef, torch.corrcoef, X, rtol=1e-7, atol=1e-9)


def test_trapezoids():
    points = np.cumsum(Y[0])
    check(mg.trapezoid, torch.trapezoid, X)
    check(mg.trapezoid, torch.trapezoid, X, dx=0.5, dim=0)
    check(mg.trapezoid, torch.trapezoid, X, points)
    check(mg.trapz, torch.trapz, X, Y)
    check(mg.cumulative_trapezoid, torch.cumulative_trapezoid, X, points)
    check(mg.cumulative_trapezoid, torch.cumulative_trapezoid, X, dx=0.5, dim=0)


def test_nanmedian_along_a_dimension():
    holes = np.where(X > 2, np.nan, X)
    holes[1] = np.nan
    for dim in (0, 1, -1):
        for keepdim in (False, True):
            check(lambda t, d=dim, k=keepdim: mg.nanmedian(t, d, k).values,
                  lambda t, d=dim, k=keepdim: torch.nanmedian(t, d, k).values, holes,
                  grad=False)  # fmt: skip


def test_messages():
    with raises_message(DTypeError, "positive: accepts numbers, got bool"):
        mg.positive(mg.tensor([True]))
    with raises_message(ArgumentError, "clamp: at least one of min and max must be given"):
        mg.clamp(mg.ones(2))
    with raises_message(ArgumentError, """
        div: rounding_mode must be None, 'trunc' or 'floor', got 'up'
    """):  # fmt: skip
        mg.div(mg.ones(2), 2, rounding_mode="up")
    with raises_message(ArgumentError, "floor_divide: integers cannot be divided by the number 0"):
        mg.tensor([1]) // 0
    with raises_message(ArgumentError, """
        pow: int64 to the negative power -1 has no integer result
          hint: convert to a floating dtype first, as x.float() ** n
    """):  # fmt: skip
        mg.tensor([2]) ** -1
