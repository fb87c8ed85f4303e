"""Kullback-Leibler divergences in closed form, found by the classes of both distributions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import monograph as mg
from monograph.core.errors import ArgumentError, ArgumentTypeError

from .binomial import Bernoulli, Binomial, Geometric, Poisson
from .categorical import Categorical, OneHotCategorical
from .composed import Independent, TransformedDistribution
from .continuous import Cauchy, Exponential, Gumbel, Laplace, Pareto, Uniform
from .distribution import Distribution
from .gamma import Beta, Dirichlet, Gamma
from .multivariate import (
    LowRankMultivariateNormal,
    MultivariateNormal,
    _half_log_det,
    _solved,
    _squared_distance,
)
from .normal import HalfNormal, Normal
from .relaxed import ContinuousBernoulli
from .utils import euler_constant, sum_rightmost

__all__ = ["kl_divergence", "register_kl"]

_rules: dict[tuple[type, type], Callable] = {}


def register_kl(type_p: type, type_q: type) -> Callable:
    """A decorator for the function of (p, q) that gives the divergence of two classes.

    It also serves subclasses that have none of their own.
    """
    for kind in (type_p, type_q):
        if not (isinstance(kind, type) and issubclass(kind, Distribution)):
            raise ArgumentTypeError(f"register_kl: expected a Distribution class, got {kind!r}")

    def note(f: Callable) -> Callable:
        _rules[type_p, type_q] = f
        return f

    return note


def kl_divergence(p: Distribution, q: Distribution) -> Any:
    """The mean under p of log p(x) - log q(x), for each variable of the batch.

    NotImplementedError where no closed form is known.

    >>> kl_divergence(Normal(0.0, 1.0), Normal(1.0, 1.0))
    tensor(0.5000)
    """
    for kind_p in type(p).__mro__:
        for kind_q in type(q).__mro__:
            rule = _rules.get((kind_p, kind_q))
            if rule is not None:
                return rule(p, q)
    raise NotImplementedError(
        f"kl_divergence: no rule for {type(p).__name__} and {type(q).__name__}; "
        "register_kl adds one"
    )


def _scaled(a: Any, b: Any) -> Any:
    """a log(a / b), 0 where a is 0."""
    return mg.xlogy(a, a) - mg.xlogy(a, b)


@register_kl(Normal, Normal)
def _normal(p: Any, q: Any) -> Any:
    ratio = (p.scale / q.scale).square()
    apart = ((p.loc - q.loc) / q.scale).square()
    return 0.5 * (ratio + apart - 1 - ratio.log())


@register_kl(HalfNormal, HalfNormal)
def _half_normal(p: Any, q: Any) -> Any:
    return _normal(p.base_dist, q.base_dist)


@register_kl(Bernoulli, Bernoulli)
def _bernoulli(p: Any, q: Any) -> Any:
    soft = mg.nn.functional.softplus
    first = p.probs * (soft(-q.logits) - soft(-p.logits))
    first = mg.where((q.probs == 0) & (p.probs > 0), math.inf, mg.where(p.probs == 0, 0.0, first))
    second = (1 - p.probs) * (soft(q.logits) - soft(p.logits))
    second = mg.where((q.probs == 1) & (p.probs < 1), math.inf, mg.where(p.probs == 1, 0.0, second))
    return first + second


@register_kl(Binomial, Binomial)
def _binomial(p: Any, q: Any) -> Any:
    if (p.total_count > q.total_count).any():
        return mg.where(p.total_count > q.total_count, math.inf, 0.0)
    if (p.total_count != q.total_count).any():
        raise NotImplementedError("kl_divergence: Binomials of different total_count")
    kl = p.probs * (p.logits - q.logits) + (-p.probs).log1p() - (-q.probs).log1p()
    return p.total_count * kl


@register_kl(Geometric, Geometric)
def _geometric(p: Any, q: Any) -> Any:
    return -p.entropy() - (-q.probs).log1p() / p.probs - q.logits


@register_kl(Poisson, Poisson)
def _poisson(p: Any, q: Any) -> Any:
    return _scaled(p.rate, q.rate) - (p.rate - q.rate)


@register_kl(Categorical, Categorical)
def _categorical(p: Any, q: Any) -> Any:
    terms = p.probs * (p.logits - q.logits)
    terms = mg.where((q.probs == 0) & (p.probs > 0), math.inf, terms)
    return mg.where(p.probs == 0, 0.0, terms).sum(-1)


@register_kl(OneHotCategorical, OneHotCategorical)
def _one_hot(p: Any, q: Any) -> Any:
    return _categorical(p._categorical, q._categorical)


@register_kl(ContinuousBernoulli, ContinuousBernoulli)
def _continuous_bernoulli(p: Any, q: Any) -> Any:
    first = p.mean * (p.logits - q.logits) + p._log_constant() + (-p.probs).log1p()
    return first - q._log_constant() - (-q.probs).log1p()


@register_kl(Dirichlet, Dirichlet)
def _dirichlet(p: Any, q: Any) -> Any:
    a, b = p.concentration, q.concentration
    total = a.sum(-1)
    ways = mg.lgamma(total) - mg.lgamma(b.sum(-1)) - (mg.lgamma(a) - mg.lgamma(b)).sum(-1)
    return ways + ((a - b) * (mg.digamma(a) - mg.digamma(total).unsqueeze(-1))).sum(-1)


@register_kl(Beta, Beta)
def _beta(p: Any, q: Any) -> Any:
    return _dirichlet(p._dirichlet, q._dirichlet)


@register_kl(Gamma, Gamma)
def _gamma(p: Any, q: Any) -> Any:
    a, b = p.concentration, q.concentration
    found = b * (p.rate / q.rate).log() + mg.lgamma(b) - mg.lgamma(a)
    return found + (a - b) * mg.digamma(a) + (q.rate - p.rate) * (a / p.rate)


@register_kl(Exponential, Exponential)
def _exponential(p: Any, q: Any) -> Any:
    ratio = q.rate / p.rate
    return ratio - ratio.log() - 1


@register_kl(Gumbel, Gumbel)
def _gumbel(p: Any, q: Any) -> Any:
    ratio, apart = p.scale / q.scale, (q.loc - p.loc) / q.scale
    last = (apart + mg.lgamma(1 + ratio)).exp()
    return ratio * euler_constant - ratio.log() - apart + last - (1 + euler_constant)


@register_kl(Laplace, Laplace)
def _laplace(p: Any, q: Any) -> Any:
    ratio, apart = p.scale / q.scale, (p.loc - q.loc).abs()
    return -ratio.log() + apart / q.scale + ratio * (-apart / p.scale).exp() - 1


@register_kl(Cauchy, Cauchy)
def _cauchy(p: Any, q: Any) -> Any:
    apart = (p.scale + q.scale).square() + (p.loc - q.loc).square()
    return apart.log() - (4 * p.scale * q.scale).log()


@register_kl(Pareto, Pareto)
def _pareto(p: Any, q: Any) -> Any:
    ratio = q.alpha / p.alpha
    found = q.alpha * (p.scale / q.scale).log() - ratio.log() + ratio - 1
    return mg.where(p.scale < q.scale, math.inf, found)


@register_kl(Uniform, Uniform)
def _uniform(p: Any, q: Any) -> Any:
    found = ((q.high - q.low) / (p.high - p.low)).log()
    return mg.where((q.low > p.low) | (q.high < p.high), math.inf, found)


def _normals(p: Any, q: Any, lower_p: Any, lower_q: Any, trace: Any) -> Any:
    n = p.event_shape[0]
    sizes = _half_log_det(lower_q) - _half_log_det(lower_p)
    return sizes + 0.5 * (trace + _squared_distance(lower_q, q.loc - p.loc) - n)


def _trace(lower_q: Any, factor: Any) -> Any:
    """The trace of (L L.T)^-1 F F.T."""
    shape = mg.broadcast_shapes(tuple(lower_q.shape[:-2]), tuple(factor.shape[:-2]))
    lower_q = lower_q.expand(*shape, *lower_q.shape[-2:])
    return _solved(lower_q, factor.expand(*shape, *factor.shape[-2:])).square().sum((-2, -1))


@register_kl(MultivariateNormal, MultivariateNormal)
@register_kl(MultivariateNormal, LowRankMultivariateNormal)
@register_kl(LowRankMultivariateNormal, MultivariateNormal)
@register_kl(LowRankMultivariateNormal, LowRankMultivariateNormal)
def _multivariate(p: Any, q: Any) -> Any:
    if p.event_shape != q.event_shape:
        raise ArgumentError(
            f"kl_divergence: event shapes differ: {tuple(p.event_shape)}, {tuple(q.event_shape)}"
        )
    lower_p, lower_q = p.scale_tril, q.scale_tril
    return _normals(p, q, lower_p, lower_q, _trace(lower_q, lower_p))


@register_kl(Independent, Independent)
def _independent(p: Any, q: Any) -> Any:
    if p.reinterpreted_batch_ndims != q.reinterpreted_batch_ndims:
        raise NotImplementedError("kl_divergence: Independents of different dimensions")
    return sum_rightmost(kl_divergence(p.base_dist, q.base_dist), p.reinterpreted_batch_ndims)


@register_kl(TransformedDistribution, TransformedDistribution)
def _transformed(p: Any, q: Any) -> Any:
    if p.transforms != q.transforms or p.event_shape != q.event_shape:
        raise NotImplementedError("kl_divergence: the transforms differ")
    found = kl_divergence(p.base_dist, q.base_dist)
    return sum_rightmost(found, len(p.event_shape) - len(p.base_dist.event_shape))


# Pairs of different families: -entropy of p minus the mean of log q.


def _cross(kind_p: type, kind_q: type) -> Callable:
    def note(mean_log_q: Callable) -> Callable:
        register_kl(kind_p, kind_q)(lambda p, q: -p.entropy() - mean_log_q(p, q))
        return mean_log_q

    return note


def _infinite(p: Any, q: Any) -> Any:
    shape = mg.broadcast_shapes(tuple(p.batch_shape), tuple(q.batch_shape))
    return mg.full(shape, math.inf)


def _square_apart(p: Any, q: Any) -> Any:
    """The mean of (x - q.loc)**2 under p."""
    return p.variance + (p.mean - q.loc).square()


for _kind in (Beta, Exponential, Gamma, Gumbel, Laplace, Pareto, Uniform, ContinuousBernoulli):

    @_cross(_kind, Normal)
    def _in_normal(p: Any, q: Any) -> Any:
        size = 0.5 * (2 * math.pi * q.scale.square()).log()
        return -size - 0.5 * _square_apart(p, q) / q.scale.square()


for _kind in (Beta, Gamma, Pareto, ContinuousBernoulli):

    @_cross(_kind, Exponential)
    def _in_exponential(p: Any, q: Any) -> Any:
        return q.rate.log() - q.rate * p.mean


for _kind in (Beta, Uniform):

    @_cross(_kind, ContinuousBernoulli)
    def _in_continuous_bernoulli(p: Any, q: Any) -> Any:
        found = p.mean * q.logits + (-q.probs).log1p() + q._log_constant()
        if isinstance(p, Uniform):
            found = mg.where((p.low < 0) | (p.high > 1), -math.inf, found)
        return found


for _kind in (Beta, ContinuousBernoulli):

    @_cross(_kind, Uniform)
    def _in_uniform(p: Any, q: Any) -> Any:
        return mg.where((q.low > 0) | (q.high < 1), -math.inf, -(q.high - q.low).log())


@_cross(Uniform, Gumbel)
def _uniform_in_gumbel(p: Any, q: Any) -> Any:
    low, high = (p.low - q.loc) / q.scale, (p.high - q.loc) / q.scale
    falling = ((-low).exp() - (-high).exp()) / (high - low)
    return -q.scale.log() - (low + high) / 2 - falling


@_cross(Uniform, Pareto)
def _uniform_in_pareto(p: Any, q: Any) -> Any:
    a, b = p.low, p.high
    mean_log = (mg.xlogy(b, b) - mg.xlogy(a, a)) / (b - a) - 1
    found = q.alpha.log() + q.alpha * q.scale.log() - (q.alpha + 1) * mean_log
    return mg.where(a < q.scale, -math.inf, found)


@_cross(Pareto, Gamma)
def _pareto_in_gamma(p: Any, q: Any) -> Any:
    a, mean_log = q.concentration, p.scale.log() + 1 / p.alpha
    return a * q.rate.log() - mg.lgamma(a) + (a - 1) * mean_log - q.rate * p.mean


@_cross(Gamma, Gumbel)
def _gamma_in_gumbel(p: Any, q: Any) -> Any:
    rate = p.rate * q.scale
    shrunk = (q.loc / q.scale).exp() * (1 + 1 / rate) ** (-p.concentration)
    return -q.scale.log() - (p.mean - q.loc) / q.scale - shrunk


@_cross(Exponential, Gamma)
def _exponential_in_gamma(p: Any, q: Any) -> Any:
    a, mean_log = q.concentration, -p.rate.log() - euler_constant
    return a * q.rate.log() - mg.lgamma(a) + (a - 1) * mean_log - q.rate / p.rate


@_cross(Beta, Gamma)
def _beta_in_gamma(p: Any, q: Any) -> Any:
    a = q.concentration
    mean_log = mg.digamma(p.concentration1) - mg.digamma(p.concentration1 + p.concentration0)
    return a * q.rate.log() - mg.lgamma(a) + (a - 1) * mean_log - q.rate * p.mean


@_cross(Exponential, Gumbel)
def _exponential_in_gumbel(p: Any, q: Any) -> Any:
    rate = p.rate * q.scale
    return -q.scale.log() - (p.mean - q.loc) / q.scale - (q.loc / q.scale).exp() * rate / (rate + 1)


@_cross(Normal, Gumbel)
def _normal_in_gumbel(p: Any, q: Any) -> Any:
    apart = (p.loc - q.loc) / q.scale
    return -q.scale.log() - apart - (-apart + 0.5 * (p.scale / q.scale).square()).exp()


@_cross(Normal, Laplace)
def _normal_in_laplace(p: Any, q: Any) -> Any:
    x = (p.loc - q.loc) / p.scale
    density = (-0.5 * x.square()).exp() * math.sqrt(2 / math.pi)
    apart = p.scale * (density + x * mg.erf(x / math.sqrt(2)))
    return -(2 * q.scale).log() - apart / q.scale


@_cross(Uniform, Beta)
def _uniform_in_beta(p: Any, q: Any) -> Any:
    """The mean of log x over [a, b] is (b log b - a log a) / (b - a) - 1."""
    a, b = p.low, p.high
    ones = (mg.xlogy(b, b) - mg.xlogy(a, a)) / (b - a) - 1
    rest = (mg.xlogy(1 - a, 1 - a) - mg.xlogy(1 - b, 1 - b)) / (b - a) - 1
    c, d = q.concentration1, q.concentration0
    found = (c - 1) * ones + (d - 1) * rest + mg.lgamma(c + d) - mg.lgamma(c) - mg.lgamma(d)
    return mg.where((b > 1) | (a < 0), -math.inf, found)


@_cross(Uniform, Exponential)
def _uniform_in_exponential(p: Any, q: Any) -> Any:
    return mg.where(p.low < 0, -math.inf, q.rate.log() - q.rate * p.mean)


@_cross(Uniform, Gamma)
def _uniform_in_gamma(p: Any, q: Any) -> Any:
    a, b, k = p.low, p.high, q.concentration
    mean_log = (mg.xlogy(b, b) - mg.xlogy(a.clamp(min=0), a.clamp(min=0))) / (b - a) - 1
    found = k * q.rate.log() - mg.lgamma(k) + (k - 1) * mean_log - q.rate * p.mean
    return mg.where(a < 0, -math.inf, found)


@register_kl(Bernoulli, Poisson)
def _bernoulli_poisson(p: Any, q: Any) -> Any:
    return -p.entropy() - (p.probs * q.rate.log() - q.rate)


# What is possible for the first and not for the second.
for _kind_p, _kinds in {
    Beta: (Pareto,), Exponential: (Beta, ContinuousBernoulli, Pareto, Uniform),
    Gamma: (Beta, ContinuousBernoulli, Pareto, Uniform),
    Gumbel: (Beta, ContinuousBernoulli, Exponential, Gamma, Pareto, Uniform),
    Laplace: (Beta, ContinuousBernoulli, Exponential, Gamma, Pareto, Uniform),
    Normal: (Beta, ContinuousBernoulli, Exponential, Gamma, Pareto, Uniform),
    Pareto: (Beta, ContinuousBernoulli, Uniform), Poisson: (Bernoulli, Binomial),
    ContinuousBernoulli: (Pareto,),
}.items():  # fmt: skip
    for _kind_q in _kinds:
        register_kl(_kind_p, _kind_q)(_infinite)
