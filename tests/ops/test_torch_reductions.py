# ruff: noqa: B023 (functions made in a loop are called in it)
"""Reductions and scans against PyTorch: dim, keepdim and dtype rules, ties, nan, gradients."""

import math

import numpy as np
import pytest

import monograph as mg
from monograph.core.errors import ArgumentError, DTypeError, IndexRangeError
from monograph.testing import raises_message

from .torch_oracle import check, torch

RNG = np.random.default_rng(2)
X = RNG.uniform(-2, 2, (2, 3, 4))
WHOLE = RNG.integers(-3, 4, (2, 3, 4))
TIES = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
NANS = np.array([[1.0, np.nan, 3.0], [np.nan, 2.0, np.nan]])
DIMS = [None, 0, 1, -1, (0, 1), (0, 2), (-1, 0), (0, 1, 2)]


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("name", ["sum", "mean", "var", "std", "amax", "amin", "norm", "nansum"])
def test_reductions_over_dims(name, keepdim):
    for dim in DIMS:
        if dim is None and name in ("amax", "amin"):
            dim = ()
        if name == "norm" and dim == (0, 1, 2):
            continue  # PyTorch takes one or two dimensions here
        kwargs = {"dim": dim, "keepdim": keepdim}
        check(getattr(mg, name), getattr(torch, name), X, **kwargs)
        check(getattr(mg, name), getattr(torch, name), X.astype(np.float32), **kwargs)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, np.bool_, np.float16])
def test_sum_and_prod_choose_their_dtype(dtype):
    x = (WHOLE % 3).astype(dtype)
    loose = dict(rtol=1e-2, atol=1e-2) if dtype is np.float16 else {}
    check(mg.sum, torch.sum, x, **loose)
    check(mg.prod, torch.prod, x, **loose)
    check(
        lambda t: mg.sum(t, 0, dtype=mg.float64), lambda t: torch.sum(t, 0, dtype=torch.float64), x
    )
    check(lambda t: mg.cumsum(t, 1), lambda t: torch.cumsum(t, 1), x, **loose)


def test_mean_of_half_does_not_overflow():
    x = np.full(4096, 60.0, np.float16)
    check(mg.mean, torch.mean, x)
    assert mg.mean(mg.tensor(x)).item() == 60.0


def test_mean_of_integers_is_an_error():
    with raises_message(DTypeError, """
        mean: needs a floating dtype, got int64
          hint: convert with .float() or give dtype=
    """):  # fmt: skip
        mg.mean(mg.tensor([1, 2]))


def test_product_gradient_with_zeros():
    for x in (np.array([2.0, 0.0, 3.0]), np.array([0.0, 0.0, 3.0]), X):
        check(mg.prod, torch.prod, x)
        check(lambda t: mg.prod(t, -1), lambda t: torch.prod(t, -1), x)


@pytest.mark.parametrize("name", ["max", "min"])
def test_extremes_with_positions(name):
    ours, theirs = getattr(mg, name), getattr(torch, name)
    for x in (X, TIES, WHOLE, NANS, X.astype(np.float32), WHOLE > 0):
        check(ours, theirs, x, grad=x is not NANS)
        for dim in (0, -1):
            for keepdim in (False, True):
                check(
                    lambda t: tuple(ours(t, dim, keepdim)),
                    lambda t: tuple(theirs(t, dim, keepdim)),
                    x,
                )
    check(ours, theirs, X[0], X[1])
    result = ours(mg.tensor(TIES), 1)
    assert result._fields == ("values", "indices") and result.indices.dtype is mg.int64


def test_ties_share_the_gradient_of_amax():
    for dim in ((), 0, 1, (0, 1)):
        check(lambda t: mg.amax(t, dim), lambda t: torch.amax(t, dim), TIES)
        check(lambda t: mg.amin(t, dim), lambda t: torch.amin(t, dim), TIES)
    check(lambda t: tuple(mg.aminmax(t)), lambda t: tuple(torch.aminmax(t)), X)


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_positions(name):
    for x in (X, TIES, NANS, WHOLE):
        for kwargs in ({}, {"dim": 0}, {"dim": -1}, {"dim": 1, "keepdim": True}):
            check(getattr(mg, name), getattr(torch, name), x, **kwargs)
    check(getattr(mg, name), getattr(torch, name), np.array(3.0))


@pytest.mark.parametrize("name", ["any", "all"])
def test_any_and_all(name):
    for x in (WHOLE > 0, WHOLE, X, (WHOLE % 2).astype(np.uint8), np.zeros((0, 3), bool)):
        check(getattr(mg, name), getattr(torch, name), x, grad=False)
        check(getattr(mg, name), getattr(torch, name), x, dim=1, keepdim=True, grad=False)
        check(getattr(mg, name), getattr(torch, name), x, dim=0, grad=False)


def test_count_nonzero():
    check(mg.count_nonzero, torch.count_nonzero, WHOLE)
    check(mg.count_nonzero, torch.count_nonzero, WHOLE, dim=(0, 2))


def test_variance_and_its_corrections():
    for kwargs in ({"correction": 0}, {"correction": 2}, {"dim": 1, "correction": 0}):
        for name in ("var", "std"):
            check(getattr(mg, name), getattr(torch, name), X, **kwargs)
    check(lambda t: mg.var(t, False), lambda t: torch.var(t, False), X)
    check(lambda t: mg.var(t, 1, False, True), lambda t: torch.var(t, 1, False, True), X)
    for name in ("var_mean", "std_mean"):
        check(getattr(mg, name), getattr(torch, name), X, dim=(0, 2), keepdim=True)
        check(getattr(mg, name), getattr(torch, name), X)
    large = 1e4 + X.astype(np.float32)
    check(mg.var, torch.var, large, dim=-1, rtol=1e-4, atol=1e-5, grad=False)


def test_variance_of_too_few_elements_is_nan():
    assert mg.var(mg.tensor([1.0])).isnan().item()
    assert mg.mean(mg.zeros(0)).isnan().item()


def test_gradient_of_std_and_norm_at_zero_is_zero_not_nan():
    check(mg.std, torch.std, np.full(3, 2.0))
    check(mg.norm, torch.norm, np.zeros(3))


@pytest.mark.parametrize("p", [0, 1, 2, 3, 0.5, -1, -2, math.inf, -math.inf, "fro"])
def test_norms(p):
    for args in ((), (1,), ((0, 2), True)):
        grad = p != 0  # counting has no slope
        check(lambda t: mg.norm(t, p, *args), lambda t: torch.norm(t, p, *args), X, grad=grad)


def test_logsumexp():
    for x in (X, X * 1000, np.array([[-np.inf, -np.inf], [0.0, -np.inf]])):
        check(lambda t: mg.logsumexp(t, -1), lambda t: torch.logsumexp(t, -1), x, grad=x.max() > 0)
    check(lambda t: mg.logsumexp(t, (0, 2), True), lambda t: torch.logsumexp(t, (0, 2), True), X)
    check(lambda t: mg.logsumexp(t, 0), lambda t: torch.logsumexp(t, 0), np.array([1.0, np.inf]),
          grad=False)  # fmt: skip


def test_nan_reductions():
    check(mg.nansum, torch.nansum, NANS)
    check(mg.nanmean, torch.nanmean, NANS)
    check(mg.nanmean, torch.nanmean, NANS, dim=0)


def test_median():
    for x in (X, WHOLE, np.array([4.0, 1.0, 3.0, 2.0])):
        check(mg.median, torch.median, x)
        check(lambda t: mg.median(t, -1).values, lambda t: torch.median(t, -1).values, x)
        check(lambda t: mg.median(t, 0, True).values, lambda t: torch.median(t, 0, True).values, x)
    check(mg.median, torch.median, NANS, grad=False)
    check(lambda t: tuple(mg.median(t, 1)), lambda t: tuple(torch.median(t, 1)), X)


@pytest.mark.parametrize("name", ["cumsum", "cumprod"])
def test_scans(name):
    for dim in (0, 1, -1):
        for x in (X, X.astype(np.float32), WHOLE, np.where(np.abs(X) < 0.7, 0, X)):
            check(getattr(mg, name), getattr(torch, name), x, dim, rtol=1e-5, atol=1e-6)
    check(getattr(mg, name), getattr(torch, name), np.array(2.0), 0)
    check(getattr(mg, name), getattr(torch, name), np.zeros((0, 2)), 0)


def test_empty_and_zero_dimensional_inputs():
    for name in ("sum", "mean", "prod", "amax", "max", "min", "norm"):
        check(getattr(mg, name), getattr(torch, name), np.array(3.0))
    for name in ("any", "all"):
        check(getattr(mg, name), getattr(torch, name), np.array(3.0), grad=False)
    check(mg.sum, torch.sum, np.zeros((0, 3)))
    check(lambda t: mg.sum(t, 0), lambda t: torch.sum(t, 0), np.zeros((0, 3)))
    check(lambda t: mg.prod(t, 1), lambda t: torch.prod(t, 1), np.zeros((2, 0)))
    check(lambda t: tuple(mg.max(t, 0)), lambda t: tuple(torch.max(t, 0)), np.array(3.0))


def test_extremes_of_nothing_say_which_dimension_is_empty():
    with raises_message(IndexRangeError, """
        max: dimension 0 of shape (0, 3) is empty: there is no element to choose
    """):  # fmt: skip
        mg.max(mg.zeros(0, 3), 0)
    with raises_message(IndexRangeError, """
        argmax: a tensor of shape (0,) has no element to choose
    """):  # fmt: skip
        mg.argmax(mg.zeros(0))


def test_bad_dims():
    with raises_message(IndexRangeError, """
        sum: dim must be in [-2, 1] for 2 dimensions, got 2
    """):  # fmt: skip
        mg.sum(mg.zeros(2, 3), 2)
    with raises_message(ArgumentError, "mean: dim (0, -2) names the same dimension twice"):
        mg.mean(mg.zeros(2, 3), (0, -2))
    with raises_message(ArgumentError, "norm: p must be a number or 'fro', got 'x'"):
        mg.norm(mg.zeros(2), "x")
