"""Gamma, and what is made of gamma variables: Beta, Dirichlet, StudentT and others."""

from __future__ import annotations

import math
from typing import Any

import monograph as mg
from monograph.core.errors import ShapeError

from . import constraints
from .composed import TransformedDistribution
from .distribution import Distribution, ExponentialFamily
from .transforms import PowerTransform
from .utils import broadcast_all, gamma_numbers

__all__ = ["Beta", "Chi2", "Dirichlet", "FisherSnedecor", "Gamma", "InverseGamma", "StudentT"]


class Gamma(ExponentialFamily):
    """The sum of `concentration` waiting times at `rate`; any positive concentration.

    >>> Gamma(2.0, 1.0).mean
    tensor(2.)
    """

    arg_constraints = {"concentration": constraints.positive, "rate": constraints.positive}
    support = constraints.nonnegative
    has_rsample = True

    def __init__(self, concentration: Any, rate: Any, validate_args: bool | None = None):
        self.concentration, self.rate = broadcast_all(concentration, rate)
        super().__init__(self.concentration.shape, validate_args=validate_args)

    @property
    def mean(self) -> Any:
        return self.concentration / self.rate

    @property
    def mode(self) -> Any:
        return ((self.concentration - 1) / self.rate).clamp(min=0)

    @property
    def variance(self) -> Any:
        return self.concentration / self.rate.square()

    def rsample(self, sample_shape: Any = ()) -> Any:
        shape = self._extended_shape(sample_shape)
        drawn = gamma_numbers(self.concentration.expand(*shape)) / self.rate
        return drawn.clamp(min=mg.finfo(drawn.dtype).tiny)

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        a, b = self.concentration, self.rate
        return mg.xlogy(a, b) + mg.xlogy(a - 1, value) - b * value - mg.lgamma(a)

    def cdf(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return mg.special.gammainc(*broadcast_all(self.concentration, self.rate * value))

    def entropy(self) -> Any:
        a = self.concentration
        return a - self.rate.log() + mg.lgamma(a) + (1 - a) * mg.digamma(a)


class Chi2(Gamma):
    """The sum of the squares of `df` standard normal variables."""

    arg_constraints = {"df": constraints.positive}

    def __init__(self, df: Any, validate_args: bool | None = None):
        (df,) = broadcast_all(df)
        self.df = df
        super().__init__(0.5 * df, 0.5, validate_args=validate_args)


class InverseGamma(TransformedDistribution):
    """1 over a gamma variable."""

    arg_constraints = {"concentration": constraints.positive, "rate": constraints.positive}
    support = constraints.positive
    has_rsample = True

    def __init__(self, concentration: Any, rate: Any, validate_args: bool | None = None):
        base = Gamma(concentration, rate, validate_args=validate_args)
        power = PowerTransform(mg.full_like(base.rate.detach(), -1.0))
        super().__init__(base, power, validate_args=validate_args)

    @property
    def concentration(self) -> Any:
        return self.base_dist.concentration

    @property
    def rate(self) -> Any:
        return self.base_dist.rate

    @property
    def mean(self) -> Any:
        a = self.concentration
        return mg.where(a > 1, self.rate / (a - 1), math.inf)

    @property
    def mode(self) -> Any:
        return self.rate / (self.concentration + 1)

    @property
    def variance(self) -> Any:
        a = self.concentration
        return mg.where(a > 2, self.rate.square() / ((a - 1).square() * (a - 2)), math.inf)

    def entropy(self) -> Any:
        a = self.concentration
        return a + self.rate.log() + mg.lgamma(a) - (1 + a) * mg.digamma(a)


class Dirichlet(ExponentialFamily):
    """Points of the simplex: gamma variables of shapes `concentration` (..., K) over their sum."""

    arg_constraints = {"concentration": constraints.independent(constraints.positive, 1)}
    support = constraints.simplex
    has_rsample = True

    def __init__(self, concentration: Any, validate_args: bool | None = None):
        if not concentration.ndim:
            raise ShapeError("Dirichlet: concentration must have at least 1 dimension")
        self.concentration = concentration
        shape = concentration.shape
        super().__init__(shape[:-1], shape[-1:], validate_args=validate_args)

    @property
    def mean(self) -> Any:
        return self.concentration / self.concentration.sum(-1, keepdim=True)

    @property
    def mode(self) -> Any:
        above = (self.concentration - 1).clamp(min=0)
        found = above / above.sum(-1, keepdim=True)
        largest = self.concentration.argmax(-1)
        corner = mg.nn.functional.one_hot(largest, self.event_shape[0]).to(found.dtype)
        return mg.where((self.concentration < 1).all(-1, keepdim=True), corner, found)

    @property
    def variance(self) -> Any:
        total = self.concentration.sum(-1, keepdim=True)
        a = self.concentration
        return a * (total - a) / (total.square() * (total + 1))

    def rsample(self, sample_shape: Any = ()) -> Any:
        shape = self._extended_shape(sample_shape)
        drawn = gamma_numbers(self.concentration.expand(*shape))
        return drawn / drawn.sum(-1, keepdim=True)

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        a = self.concentration
        return mg.xlogy(a - 1, value).sum(-1) + mg.lgamma(a.sum(-1)) - mg.lgamma(a).sum(-1)

    def entropy(self) -> Any:
        a, k = self.concentration, self.event_shape[0]
        total = a.sum(-1)
        ways = mg.lgamma(a).sum(-1) - mg.lgamma(total)
        return ways - (k - total) * mg.digamma(total) - ((a - 1) * mg.digamma(a)).sum(-1)


class Beta(ExponentialFamily):
    """Numbers in [0, 1]: the share of the first of two gamma variables."""

    arg_constraints = {
        "concentration1": constraints.positive,
        "concentration0": constraints.positive,
    }
    support = constraints.unit_interval
    has_rsample = True

    def __init__(self, concentration1: Any, concentration0: Any, validate_args: bool | None = None):
        both = mg.stack(broadcast_all(concentration1, concentration0), -1)
        self._dirichlet = Dirichlet(both, validate_args=False)
        super().__init__(both.shape[:-1], validate_args=validate_args)

    @property
    def concentration1(self) -> Any:
        return self._dirichlet.concentration[..., 0]

    @property
    def concentration0(self) -> Any:
        return self._dirichlet.concentration[..., 1]

    @property
    def mean(self) -> Any:
        return self.concentration1 / (self.concentration1 + self.concentration0)

    @property
    def mode(self) -> Any:
        return self._dirichlet.mode[..., 0]

    @property
    def variance(self) -> Any:
        total = self.concentration1 + self.concentration0
        return self.concentration1 * self.concentration0 / (total.square() * (total + 1))

    def rsample(self, sample_shape: Any = ()) -> Any:
        return self._dirichlet.rsample(sample_shape)[..., 0]

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return self._dirichlet.log_prob(mg.stack([value, 1 - value], -1))

    def entropy(self) -> Any:
        return self._dirichlet.entropy()


class StudentT(Distribution):
    """loc + scale times a normal variable over the root of chi2 / df of another."""

    arg_constraints = {
        "df": constraints.positive,
        "loc": constraints.real,
        "scale": constraints.positive,
    }
    support = constraints.real
    has_rsample = True

    def __init__(
        self, df: Any, loc: Any = 0.0, scale: Any = 1.0, validate_args: bool | None = None
    ):
        self.df, self.loc, self.scale = broadcast_all(df, loc, scale)
        self._chi2 = Chi2(self.df, validate_args=False)
        super().__init__(self.df.shape, validate_args=validate_args)

    @property
    def mean(self) -> Any:
        return mg.where(self.df > 1, self.loc, math.nan)

    @property
    def mode(self) -> Any:
        return self.loc

    @property
    def variance(self) -> Any:
        found = self.scale.square() * self.df / (self.df - 2)
        return mg.where(self.df > 2, found, mg.where(self.df > 1, math.inf, math.nan))

    def rsample(self, sample_shape: Any = ()) -> Any:
        normal = mg.randn(self._extended_shape(sample_shape), dtype=self.df.dtype)
        width = (self._chi2.rsample(sample_shape) / self.df).rsqrt()
        return self.loc + self.scale * normal * width

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        y, n = (value - self.loc) / self.scale, self.df
        size = self.scale.log() + 0.5 * n.log() + 0.5 * math.log(math.pi)
        size = size + mg.lgamma(0.5 * n) - mg.lgamma(0.5 * (n + 1))
        return -0.5 * (n + 1) * (y.square() / n).log1p() - size

    def entropy(self) -> Any:
        n = self.df
        beta = mg.lgamma(0.5 * n) + math.lgamma(0.5) - mg.lgamma(0.5 * (1 + n))
        bend = 0.5 * (n + 1) * (mg.digamma(0.5 * (n + 1)) - mg.digamma(0.5 * n))
        return self.scale.log() + bend + 0.5 * n.log() + beta


class FisherSnedecor(Distribution):
    """The ratio of two chi2 variables, each over its degrees of freedom."""

    arg_constraints = {"df1": constraints.positive, "df2": constraints.positive}
    support = constraints.positive
    has_rsample = True

    def __init__(self, df1: Any, df2: Any, validate_args: bool | None = None):
        self.df1, self.df2 = broadcast_all(df1, df2)
        self._gamma1 = Gamma(self.df1 * 0.5, self.df1, validate_args=False)
        self._gamma2 = Gamma(self.df2 * 0.5, self.df2, validate_args=False)
        super().__init__(self.df1.shape, validate_args=validate_args)

    @property
    def mean(self) -> Any:
        return mg.where(self.df2 > 2, self.df2 / (self.df2 - 2), math.nan)

    @property
    def mode(self) -> Any:
        found = (self.df1 - 2) / self.df1 * self.df2 / (self.df2 + 2)
        return mg.where(self.df1 > 2, found, math.nan)

    @property
    def variance(self) -> Any:
        a, b = self.df1, self.df2
        found = 2 * b.square() * (a + b - 2) / (a * (b - 2).square() * (b - 4))
        return mg.where(b > 4, found, math.nan)

    def rsample(self, sample_shape: Any = ()) -> Any:
        first, second = self._gamma1.rsample(sample_shape), self._gamma2.rsample(sample_shape)
        tiny = mg.finfo(second.dtype).tiny
        return (first / second.clamp(min=tiny)).clamp(min=tiny)

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        a, b, ratio = self.df1 * 0.5, self.df2 * 0.5, self.df1 / self.df2
        size = mg.lgamma(a + b) - mg.lgamma(a) - mg.lgamma(b)
        shape = a * ratio.log() + (a - 1) * value.log() - (a + b) * (ratio * value).log1p()
        return size + shape
