"""Transforms, divergences, checks of arguments, and distributions under jit, vmap and grad."""

import itertools
import math

import numpy as np
import pytest

import monograph as mg
from monograph import distributions as d
from monograph.core.errors import ArgumentError, ArgumentTypeError, ShapeError

from .families import CASES, Case, chance, covariance, positive, real, simplex

torch = pytest.importorskip("torch", reason="PyTorch is the oracle")
td = torch.distributions

TRANSFORMS = {
    "ExpTransform": ((), (3,)), "SigmoidTransform": ((), (3,)), "SoftplusTransform": ((), (3,)),
    "TanhTransform": ((), (3,)), "StickBreakingTransform": ((), (2, 3)),
    "CorrCholeskyTransform": ((), (2, 6)), "AffineTransform": ((1.5, -2.0), (3,)),
    "PowerTransform": ((1.7,), (3,)), "ReshapeTransform": (((6,), (2, 3)), (4, 6)),
    "LowerCholeskyTransform": ((), (2, 3, 3)), "PositiveDefiniteTransform": ((), (3, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_its_inverse_and_its_slope(name):
    args, shape = TRANSFORMS[name]
    args = tuple(mg.tensor(a, dtype=mg.float64) if isinstance(a, float) else a for a in args)
    values = np.random.default_rng(0).standard_normal(shape)
    values = np.abs(values) if name == "PowerTransform" else values
    ours = getattr(d, name)(*args)
    theirs = getattr(td, name)(*(torch.tensor(a.item()) if hasattr(a, "item") else a for a in args))
    x, t = mg.tensor(values), torch.tensor(values)
    y, u = ours(x), theirs(t)
    assert np.allclose(y.numpy(), u.numpy(), rtol=1e-6)
    assert ours.codomain.check(y).all()
    if name not in ("LowerCholeskyTransform", "PositiveDefiniteTransform"):
        assert np.allclose(ours.inv(y).numpy(), values, rtol=1e-5, atol=1e-7)
        slope = ours.log_abs_det_jacobian(x, y)
        assert np.allclose(slope.numpy(), theirs.log_abs_det_jacobian(t, u).numpy(), rtol=1e-6)
        back = ours.inv.log_abs_det_jacobian(y, x)
        assert mg.allclose(back, -slope)
    assert tuple(ours.forward_shape(shape)) == tuple(y.shape)
    assert tuple(ours.inverse_shape(tuple(y.shape))) == shape
    assert tuple(theirs.forward_shape(shape)) == tuple(y.shape)


def test_the_slope_of_a_transform_is_that_of_its_derivative():
    x = mg.tensor([0.3, -0.7, 0.1], dtype=mg.float64)
    t = d.StickBreakingTransform()
    jacobian = mg.func.jacrev(lambda x: t(x)[:-1])(x)
    assert mg.allclose(mg.linalg.slogdet(jacobian)[1], t.log_abs_det_jacobian(x, t(x)))


def test_transformed_distributions():
    def flow(lib, loc):
        m = lib.distributions
        return m.TransformedDistribution(
            m.Normal(loc, 0.5),
            [m.AffineTransform(1.0, -2.0), m.SigmoidTransform(), m.AffineTransform(-1.0, 3.0)],
        )

    a, b = flow(mg, mg.tensor([0.2, 1.0])), flow(torch, torch.tensor([0.2, 1.0]))
    y = torch.tensor([[0.3, 1.2], [-0.4, 0.1]])
    for f in ("log_prob", "cdf"):
        found = getattr(a, f)(mg.tensor(y.numpy()))
        assert np.allclose(found.numpy(), getattr(b, f)(y).numpy(), rtol=1e-4, atol=1e-6)
    p = torch.tensor([0.2, 0.9])
    assert np.allclose(a.icdf(mg.tensor(p.numpy())).numpy(), b.icdf(p).numpy(), rtol=1e-4)
    assert a.expand((3, 2)).sample((4,)).shape == (4, 3, 2)
    vector = d.TransformedDistribution(d.Normal(mg.zeros(5, 3), 1.0), d.StickBreakingTransform())
    assert (vector.batch_shape, vector.event_shape) == ((5,), (4,))


def test_chained_and_kept_transforms():
    both = d.ComposeTransform([d.ExpTransform(), d.AffineTransform(1.0, 2.0)])
    x = mg.tensor([0.5, -1.0])
    assert mg.allclose(both(x), 1 + 2 * x.exp()) and mg.allclose(both.inv(both(x)), x)
    assert both.inv.inv is both and both.sign == 1
    assert both == d.ComposeTransform([d.ExpTransform(), d.AffineTransform(1.0, 2.0)])
    kept = d.TanhTransform(cache_size=1)
    big = mg.tensor([30.0])
    assert kept.inv(kept(big)) is big
    cat = d.CatTransform([d.ExpTransform(), d.AffineTransform(0.0, 2.0)], 0, [1, 2])
    assert mg.allclose(cat(mg.zeros(3) + 1), mg.tensor([math.e, 2.0, 2.0]))
    stack = d.StackTransform([d.ExpTransform(), d.AffineTransform(0.0, 2.0)], -1)
    assert mg.allclose(stack(mg.ones(2, 2)), mg.tensor([[math.e, 2.0]] * 2))
    uniform = d.CumulativeDistributionTransform(d.Normal(0.0, 1.0))
    assert mg.allclose(uniform.inv(uniform(x)), x, atol=1e-5)
    inner = d.IndependentTransform(d.ExpTransform(), 1)
    assert inner.log_abs_det_jacobian(mg.ones(3, 2), mg.ones(3, 2)).tolist() == [2, 2, 2]


@pytest.mark.parametrize("registry", ["biject_to", "transform_to"])
def test_registered_transforms_reach_their_constraints(registry):
    c = d.constraints
    for constraint, shape in {
        c.real: (3,), c.positive: (3,), c.greater_than(2.0): (3,), c.less_than(-1.0): (3,),
        c.unit_interval: (3,), c.interval(-1.0, 4.0): (3,), c.simplex: (2, 3),
        c.corr_cholesky: (3,), c.independent(c.positive, 1): (2, 3), c.nonnegative: (3,),
    }.items():  # fmt: skip
        t = getattr(d, registry)(constraint)
        assert constraint.check(t(mg.randn(*shape))).all(), constraint
    if registry == "transform_to":
        for constraint in (c.lower_cholesky, c.positive_definite):
            assert constraint.check(d.transform_to(constraint)(mg.randn(3, 3).double())).all()
    with pytest.raises(NotImplementedError):
        d.biject_to(c.boolean)


PAIRS = [
    Case("Bernoulli", probs=chance(3)), Case("Beta", positive(3), positive(3)),
    Case("Binomial", total_count=4, probs=chance(3)), Case("Categorical", logits=real(3, 4)),
    Case("Cauchy", real(3), positive(3)), Case("ContinuousBernoulli", probs=chance(3) * 0.4),
    Case("Dirichlet", positive(3, 4)), Case("Exponential", positive(3)),
    Case("Gamma", positive(3), positive(3)), Case("Geometric", probs=chance(3)),
    Case("Gumbel", real(3), positive(3)), Case("HalfNormal", positive(3)),
    Case("Independent", Case("Normal", real(3, 2), positive(3, 2)), 1),
    Case("Laplace", real(3), positive(3)), Case("LogNormal", real(3), positive(3)),
    Case("LowRankMultivariateNormal", real(3), real(3, 1), positive(3)),
    Case("MultivariateNormal", real(3), covariance_matrix=covariance(3, 3)),
    Case("Normal", real(3), positive(3)), Case("OneHotCategorical", probs=simplex(3, 4)),
    Case("Pareto", positive(3), positive(3) + 3), Case("Poisson", positive(3)),
    Case("Uniform", chance(3) * 0.5, 0.6 + chance(3) * 0.3),
]  # fmt: skip


def varied(case):
    """The same family with other parameters."""

    def other(x):
        if isinstance(x, Case):
            return varied(x)
        if not isinstance(x, np.ndarray) or case.name == "Binomial" and x.ndim == 0:
            return x
        if case.name == "Uniform":
            return x - 0.05 if x.max() < 0.6 else x + 0.05
        if case.name in ("Bernoulli", "Geometric", "Binomial", "ContinuousBernoulli"):
            return 0.5 * x + 0.04
        if case.name == "OneHotCategorical":
            return x[..., ::-1].copy()
        return x * 0.8

    made = Case(case.name, *map(other, case.args))
    made.kwargs = {k: other(v) for k, v in case.kwargs.items()}
    return made


def test_divergences_are_pytorchs():
    found, missing = 0, []
    cases = [*PAIRS, *map(varied, PAIRS)]
    for a, b in itertools.product(PAIRS, cases):
        try:
            wanted = td.kl_divergence(a.make(torch)[0], b.make(torch)[0])
        except (NotImplementedError, RuntimeError, ValueError, TypeError):
            continue
        try:
            ours = d.kl_divergence(a.make(mg)[0], b.make(mg)[0])
        except NotImplementedError:
            missing.append((a.name, b.name))
            continue
        assert np.allclose(ours.numpy(), wanted.numpy(), rtol=1e-5, atol=1e-8), (a.name, b.name)
        found += 1
    assert found > 100 and not missing, missing


def test_divergences_of_pairs_without_a_rule_and_of_own_classes():
    class Mine(d.Normal):
        pass

    p, q = d.StudentT(mg.tensor(3.0)), d.Normal(0.0, 1.0)
    with pytest.raises(NotImplementedError, match="no rule for StudentT and Normal"):
        d.kl_divergence(p, q)
    assert d.kl_divergence(Mine(0.0, 1.0), q).item() == 0  # the rule of its base

    @d.register_kl(Mine, d.Normal)
    def rule(p, q):
        return mg.tensor(7.0)

    assert d.kl_divergence(Mine(0.0, 1.0), q).item() == 7
    with pytest.raises(ArgumentTypeError, match="expected a Distribution class"):
        d.register_kl(int, Mine)


def test_messages_about_arguments():
    with pytest.raises(ArgumentError, match=r"Normal: scale of shape \(2,\) must satisfy Great"):
        d.Normal(mg.zeros(2), mg.tensor([1.0, -1.0]))
    with pytest.raises(ArgumentError, match=r"the first at \(1,\) is -1.0"):
        d.Normal(mg.zeros(2), mg.tensor([1.0, -1.0]))
    with pytest.raises(ArgumentError, match="either probs or logits, not both"):
        d.Bernoulli(probs=mg.tensor(0.5), logits=mg.tensor(0.5))
    with pytest.raises(ArgumentError, match="not neither"):
        d.Categorical()
    with pytest.raises(ArgumentError, match="the value of shape"):
        d.Exponential(1.0).log_prob(mg.tensor(-1.0))
    with pytest.raises(ArgumentError, match="the value of shape"):
        d.Categorical(mg.ones(3)).log_prob(mg.tensor(3))
    with pytest.raises(ShapeError, match="does not broadcast"):
        d.Normal(mg.zeros(3), 1.0).log_prob(mg.zeros(2))
    with pytest.raises(ShapeError, match="must end in the event shape"):
        d.Dirichlet(mg.ones(3)).log_prob(mg.ones(2))
    with pytest.raises(ArgumentTypeError, match="must be a tensor or a number, got str"):
        d.Normal("0", 1.0)
    with pytest.raises(NotImplementedError, match="sample.. has no gradient"):
        d.Poisson(1.0).rsample()
    with pytest.raises(ArgumentError, match="exactly one of covariance_matrix"):
        d.MultivariateNormal(mg.zeros(2))
    with pytest.raises(ShapeError, match="whose last size must be equal"):
        d.MixtureSameFamily(d.Categorical(mg.ones(3)), d.Normal(mg.zeros(2), 1.0))
    with pytest.raises(ArgumentError, match="high - low"):
        d.Uniform(1.0, 0.0)
    assert math.isnan(d.Normal(0.0, -1.0, validate_args=False).log_prob(mg.tensor(0.0)).item())
    before = d.Distribution._validate_args
    d.Distribution.set_default_validate_args(False)
    try:
        d.Normal(0.0, -1.0)
    finally:
        d.Distribution.set_default_validate_args(before)


def test_how_a_distribution_is_shown():
    assert repr(d.Normal(0.0, 1.0)) == "Normal(loc: 0.0, scale: 1.0)"
    shown = repr(d.Normal(mg.zeros(2), 1.0))
    assert shown == (
        "Normal(loc: monograph.float32 of shape (2,), scale: monograph.float32 of shape (2,))"
    )
    assert repr(d.Bernoulli(logits=0.5)) == "Bernoulli(logits: 0.5)"


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_samples_and_densities_in_a_captured_function(case):
    if case.name in ("FisherSnedecor", "LKJCholesky", "Wishart", "VonMises"):
        tolerance = 1e-6
    else:
        tolerance = 1e-10
    distribution = case.make(mg)[0]

    def draw():
        x = distribution.sample((3,))
        return x, distribution.log_prob(x)

    mg.manual_seed(5)
    eager = draw()
    compiled = mg.jit(draw)
    compiled()
    mg.manual_seed(5)
    found = compiled()
    for a, b in zip(eager, found):
        assert mg.allclose(a.double(), b.double(), rtol=1e-6, atol=tolerance)
    assert not mg.equal(compiled()[0], found[0]) or found[0].numel() < 9


def test_a_distribution_made_in_a_captured_function():
    @mg.jit
    def loss(loc, scale, x):
        p = d.Normal(loc, scale)
        return (-p.log_prob(x)).mean() + d.kl_divergence(p, d.Normal(0.0, 1.0)).sum()

    def plain(loc, scale, x):
        p = d.Normal(loc, scale)
        return (-p.log_prob(x)).mean() + d.kl_divergence(p, d.Normal(0.0, 1.0)).sum()

    args = [mg.tensor([0.5, 1.0], requires_grad=True), mg.tensor([1.0, 2.0]), mg.randn(3, 2)]
    a, b = loss(*args), plain(*args)
    assert mg.allclose(a, b)
    a.backward()
    wanted = mg.autograd.grad(b, args[0])[0]
    assert mg.allclose(args[0].grad, wanted)


def test_what_is_kept_does_not_outlive_a_capture():
    distribution = d.Bernoulli(probs=mg.tensor([0.2, 0.7]))
    inside = mg.jit(lambda x: distribution.logits * x)(mg.ones(2))
    assert mg.allclose(distribution.logits, inside)


def test_vmap_and_per_sample_gradients():
    def log_prob(loc, x):
        return d.MultivariateNormal(loc, scale_tril=mg.eye(2) * 2).log_prob(x)

    locs, xs = mg.randn(5, 2), mg.randn(5, 2)
    batched = mg.func.vmap(mg.func.grad(log_prob))(locs, xs)
    assert mg.allclose(batched, (xs - locs) / 4, atol=1e-6)
    concentration = mg.tensor([0.5, 2.0, 5.0])
    drawn = mg.func.vmap(lambda a: d.Gamma(a, 1.0).rsample((2,)), randomness="different")(
        concentration
    )
    assert drawn.shape == (3, 2) and (drawn > 0).all()


def test_policy_gradient_and_variational_steps():
    mg.manual_seed(0)
    logits = mg.zeros(3, requires_grad=True)
    optimizer = mg.optim.Adam([logits], lr=0.1)
    reward = mg.tensor([0.0, 1.0, 0.2])

    @mg.jit
    def step():
        choices = d.Categorical(logits=logits)
        action = choices.sample((64,))
        loss = -(choices.log_prob(action) * reward[action]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    for _ in range(100):
        step()
    assert logits.argmax().item() == 1 and logits.softmax(-1)[1] > 0.8
    a = mg.tensor(1.0, requires_grad=True)
    optimizer = mg.optim.Adam([a], lr=0.05)
    target = d.Gamma(4.0, 1.0)

    @mg.jit
    def fit():
        q = d.Gamma(a.exp(), 1.0)
        x = q.rsample((256,))
        loss = (q.log_prob(x) - target.log_prob(x)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    for _ in range(150):
        fit()
    assert abs(a.exp().item() - 4.0) < 0.3
