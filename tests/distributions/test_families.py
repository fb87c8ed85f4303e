"""Every family: densities, moments and shapes as PyTorch's; samples as their own moments say."""

import math

import numpy as np
import pytest

import monograph as mg
from monograph.ops.gamma_gradient import gamma_shape_gradient

from .families import CASES, IDS

torch = pytest.importorskip("torch", reason="PyTorch is the oracle")
# PyTorch's Wishart calls samples singular that are not.
pytestmark = pytest.mark.filterwarnings("ignore:Singular sample detected:UserWarning")

PROPERTIES = ("mean", "variance", "stddev", "mode")


def array(x):
    return x.detach().numpy()


def close(a, b, rtol=1e-6, atol=1e-9):
    return np.allclose(array(a), array(b), rtol=rtol, atol=atol, equal_nan=True)


def cases(test):
    return pytest.mark.parametrize("case", CASES, ids=IDS)(test)


def attempt(f):
    """What f gives, or None where PyTorch has no such thing."""
    try:
        return f()
    except (NotImplementedError, AttributeError):
        return None


@cases
def test_values_and_gradients(case):
    ours, params = case.make(mg, requires_grad=True)
    theirs, twins = case.make(torch, requires_grad=True)
    assert tuple(ours.batch_shape) == tuple(theirs.batch_shape)
    assert tuple(ours.event_shape) == tuple(theirs.event_shape)
    torch.manual_seed(0)
    drawn = theirs.sample((5,))
    x = mg.tensor(array(drawn))
    found, wanted = ours.log_prob(x), theirs.log_prob(drawn)
    assert close(found, wanted)
    if found.requires_grad:
        found.sum().backward()
        wanted.sum().backward()
        for name, p in params.items():
            if p.grad is not None or twins[name].grad is not None:
                assert close(p.grad, twins[name].grad, rtol=1e-5, atol=1e-7), name
    for name in PROPERTIES:
        if case.name in ("LKJCholesky", "RelaxedBernoulli") or (
            case.name == "RelaxedOneHotCategorical"
        ):
            continue
        if (case.name, name) == ("Kumaraswamy", "mode"):
            continue  # PyTorch's is nan where there is one
        b = attempt(lambda name=name: getattr(theirs, name))
        if b is not None:
            assert close(getattr(ours, name), b), name
    b = attempt(theirs.entropy)
    if b is not None:
        assert close(ours.entropy(), b, rtol=1e-5), "entropy"
        assert close(ours.perplexity(), theirs.perplexity(), rtol=1e-5)
    b = attempt(lambda: theirs.cdf(drawn))
    if b is not None:
        assert close(ours.cdf(x), b, rtol=1e-5), "cdf"
        if attempt(lambda: theirs.icdf(b.clamp(0.05, 0.95))) is not None:
            p = b.clamp(0.05, 0.95)
            assert close(ours.icdf(mg.tensor(array(p))), theirs.icdf(p), rtol=1e-5), "icdf"


@cases
def test_expand(case):
    ours, theirs = case.make(mg)[0], case.make(torch)[0]
    shape = (4, *ours.batch_shape)
    wide, twin = ours.expand(shape), theirs.expand(torch.Size(shape))
    assert type(wide) is type(ours)
    assert tuple(wide.batch_shape) == shape and tuple(wide.event_shape) == tuple(ours.event_shape)
    drawn = twin.sample((2,))
    assert close(wide.log_prob(mg.tensor(array(drawn))), twin.log_prob(drawn))
    assert wide.sample((2,)).shape == tuple(drawn.shape)


@cases
def test_samples_have_the_moments(case):
    mg.manual_seed(1)
    ours, theirs = case.make(mg)[0], case.make(torch)[0]
    n = 5_000
    x = ours.sample((n,))
    assert x.shape == (n, *ours.batch_shape, *ours.event_shape) and not x.requires_grad
    drawn = theirs.sample((1,))
    assert str(x.dtype).split(".")[1] == str(drawn.dtype).split(".")[1]
    assert np.isfinite(array(ours.log_prob(x))).all()  # which checks the support, too
    values = array(x).astype(np.float64)
    try:
        mean, variance = array(ours.mean), array(ours.variance)
    except NotImplementedError:
        torch.manual_seed(0)
        other = array(theirs.sample((n,)))
        mean, variance = other.mean(0), other.var(0)
    if case.name in ("Categorical", "VonMises", "LKJCholesky") or not np.isfinite(variance).all():
        return  # no mean; or none of the line, which has its own test below
    error = np.sqrt(variance / n)
    assert (np.abs(values.mean(0) - mean) <= 6 * error + 1e-9).all()
    spread = np.sqrt(((values - mean) ** 4).mean(0) / n)
    assert (np.abs(((values - mean) ** 2).mean(0) - variance) <= 8 * spread + 1e-9).all()


def test_choices_come_as_often_as_they_should():
    mg.manual_seed(0)
    p = np.array([0.05, 0.25, 0.7])
    x = mg.distributions.Categorical(probs=mg.tensor(p)).sample((100_000,))
    assert np.abs(np.bincount(x.numpy()) / 100_000 - p).max() < 0.006
    angles = mg.distributions.VonMises(mg.tensor(1.0), mg.tensor(4.0)).sample((50_000,))
    theirs = torch.distributions.VonMises(torch.tensor(1.0), torch.tensor(4.0)).sample((50_000,))
    assert angles.abs().max() <= math.pi
    for f in (np.cos, np.sin):
        assert abs(f(array(angles)).mean() - f(array(theirs)).mean()) < 0.01


def test_correlations_of_lkj_are_all_alike():
    """Each is a Beta variable on (-1, 1) with parameters c - 1 + dim / 2 (PyTorch's are not)."""
    mg.manual_seed(0)
    c = mg.tensor([0.8, 2.5], dtype=mg.float64)
    lower = mg.distributions.LKJCholesky(4, c).sample((50_000,))
    r = array(lower @ lower.mT)
    for k, concentration in enumerate(c.tolist()):
        a = concentration - 1 + 2
        for i, j in ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)):
            x = r[:, k, i, j]
            assert abs(x.mean()) < 0.012 and abs(x.var() * (2 * a + 1) - 1) < 0.03
            fourth = 3 / ((2 * a + 1) * (2 * a + 3))
            assert abs((x**4).mean() / fourth - 1) < 0.06


REPARAMETRISED = [
    (i, c) for i, c in zip(IDS, CASES)
    if getattr(mg.distributions, c.name).has_rsample is True
    and c.name not in ("Wishart", "Cauchy", "HalfCauchy", "InverseGamma")
    and c.name != "OneHotCategoricalStraightThrough"
]  # fmt: skip


@pytest.mark.parametrize("case", [c for _, c in REPARAMETRISED], ids=[i for i, _ in REPARAMETRISED])
def test_gradients_through_samples_are_those_of_the_mean(case):
    mg.manual_seed(2)
    torch.manual_seed(2)
    ours, params = case.make(mg, requires_grad=True)
    theirs, twins = case.make(torch, requires_grad=True)
    n = 8_000
    x, y = ours.rsample((n,)), theirs.rsample((n,))
    assert x.requires_grad
    (x.sqrt() if case.name == "FisherSnedecor" else x).mean(0).sum().backward()
    (y.sqrt() if case.name == "FisherSnedecor" else y).mean(0).sum().backward()
    for name, p in params.items():
        if twins[name].grad is None:
            continue
        a, b = array(p.grad), array(twins[name].grad)
        assert np.abs(a - b).max() < 0.12 * max(1.0, np.abs(b).max()), name


def test_gradients_through_wishart_samples():
    mg.manual_seed(0)
    root = mg.tensor([[1.0, 0.0], [0.4, 0.8]], dtype=mg.float64, requires_grad=True)
    df = mg.tensor(4.5, dtype=mg.float64, requires_grad=True)
    d = mg.distributions.Wishart(df, scale_tril=root)
    weights = mg.tensor([[1.0, 0.5], [0.5, -2.0]], dtype=mg.float64)
    found = mg.autograd.grad((d.rsample((20_000,)).mean(0) * weights).sum(), (df, root))
    exact = mg.autograd.grad((d.mean * weights).sum(), (df, root))
    for a, b in zip(found, exact):
        assert mg.allclose(a, b, atol=0.15)


def test_the_gradient_of_a_gamma_number_keeps_its_quantile():
    a = np.array([0.05, 0.3, 0.9, 1.0, 2.5, 7.0, 20.0, 100.0])
    for quantile in (0.01, 0.3, 0.9, 0.999):
        x = np.array([_quantile(k, quantile) for k in a])
        slope = gamma_shape_gradient(mg.tensor(a), mg.tensor(x)).numpy()
        step = 1e-4 * a
        wanted = [
            (_quantile(k + h, quantile) - _quantile(k - h, quantile)) / (2 * h)
            for k, h in zip(a, step)
        ]
        assert np.allclose(slope, wanted, rtol=1e-5)


def _quantile(a, p):
    """By bisection of the distribution function, in the logarithm."""
    low, high = -800.0, 8.0
    for _ in range(200):
        middle = (low + high) / 2
        ends = (mg.tensor([x], dtype=mg.float64) for x in (a, math.exp(middle)))
        found = mg.special.gammainc(*ends)
        low, high = (middle, high) if found.item() < p else (low, middle)
    return math.exp(low)


def test_enumerated_outcomes():
    d = mg.distributions
    assert d.Bernoulli(mg.tensor([0.2, 0.4])).enumerate_support().tolist() == [[0, 0], [1, 1]]
    found = d.Categorical(mg.ones(2, 3)).enumerate_support()
    assert found.tolist() == [[0, 0], [1, 1], [2, 2]]
    assert d.Binomial(2, mg.tensor(0.5)).enumerate_support().tolist() == [0, 1, 2]
    assert d.OneHotCategorical(mg.ones(2)).enumerate_support().tolist() == [[1, 0], [0, 1]]
