"""Families on the line with a density and an inverse in closed form, and VonMises on the circle."""

from __future__ import annotations

import math
from typing import Any

import monograph as mg
from monograph.ops.random import random_exponential

from . import constraints
from .distribution import Distribution, ExponentialFamily
from .utils import broadcast_all, euler_constant

__all__ = [
    "Cauchy", "Exponential", "GeneralizedPareto", "Gumbel", "HalfCauchy", "Kumaraswamy", "Laplace",
    "Pareto", "Uniform", "VonMises", "Weibull",
]  # fmt: skip


def _open_unit(shape: Any, dtype: Any) -> Any:
    """Uniform numbers in (0, 1)."""
    return mg.rand(shape, dtype=dtype).clamp(mg.finfo(dtype).tiny, 1 - mg.finfo(dtype).eps / 2)


class Uniform(Distribution):
    """All numbers of [low, high) alike."""

    has_rsample = True

    def __init__(self, low: Any, high: Any, validate_args: bool | None = None):
        self.low, self.high = broadcast_all(low, high)
        super().__init__(self.low.shape, validate_args=validate_args)
        if self._validate_args:
            self._check("high - low", self.high - self.low, constraints.positive)

    arg_constraints = {"low": constraints.dependent, "high": constraints.dependent}

    @constraints.dependent_property()
    def support(self) -> Any:
        return constraints.interval(self.low, self.high)

    @property
    def mean(self) -> Any:
        return (self.high + self.low) / 2

    @property
    def mode(self) -> Any:
        return mg.full_like(self.high.detach(), math.nan)

    @property
    def variance(self) -> Any:
        return (self.high - self.low).square() / 12

    def rsample(self, sample_shape: Any = ()) -> Any:
        drawn = mg.rand(self._extended_shape(sample_shape), dtype=self.low.dtype)
        return self.low + drawn * (self.high - self.low)

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        inside = (self.low <= value) & (self.high > value)
        return mg.where(inside, -(self.high - self.low).log(), -math.inf)

    def cdf(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return ((value - self.low) / (self.high - self.low)).clamp(0, 1)

    def icdf(self, value: Any) -> Any:
        return value * (self.high - self.low) + self.low

    def entropy(self) -> Any:
        return (self.high - self.low).log()


class Exponential(ExponentialFamily):
    """The time to the next of arrivals that come at `rate`."""

    arg_constraints = {"rate": constraints.positive}
    support = constraints.nonnegative
    has_rsample = True

    def __init__(self, rate: Any, validate_args: bool | None = None):
        (self.rate,) = broadcast_all(rate)
        super().__init__(self.rate.shape, validate_args=validate_args)

    @property
    def mean(self) -> Any:
        return self.rate.reciprocal()

    stddev = mean

    @property
    def mode(self) -> Any:
        return mg.zeros_like(self.rate)

    @property
    def variance(self) -> Any:
        return self.rate.square().reciprocal()

    def rsample(self, sample_shape: Any = ()) -> Any:
        return random_exponential(self._extended_shape(sample_shape), self.rate.dtype) / self.rate

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return self.rate.log() - self.rate * value

    def cdf(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return -(-self.rate * value).expm1()

    def icdf(self, value: Any) -> Any:
        return -(-value).log1p() / self.rate

    def entropy(self) -> Any:
        return 1.0 - self.rate.log()


class _LocationScale(Distribution):
    """Families with a place and a width."""

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support: Any = constraints.real
    has_rsample = True

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None):
        self.loc, self.scale = broadcast_all(loc, scale)
        super().__init__(self.loc.shape, validate_args=validate_args)

    def _standard(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return (value - self.loc) / self.scale

    def rsample(self, sample_shape: Any = ()) -> Any:
        return self.icdf(_open_unit(self._extended_shape(sample_shape), self.loc.dtype))


class Laplace(_LocationScale):
    """exp(-|x - loc| / scale) on both sides."""

    @property
    def mean(self) -> Any:
        return self.loc

    mode = mean

    @property
    def variance(self) -> Any:
        return 2 * self.scale.square()

    @property
    def stddev(self) -> Any:
        return math.sqrt(2) * self.scale

    def log_prob(self, value: Any) -> Any:
        return -(2 * self.scale).log() - self._standard(value).abs()

    def cdf(self, value: Any) -> Any:
        x = self._standard(value)
        return 0.5 - 0.5 * x.sign() * (-x.abs()).expm1()

    def icdf(self, value: Any) -> Any:
        half = value - 0.5
        return self.loc - self.scale * half.sign() * (-2 * half.abs()).log1p()

    def entropy(self) -> Any:
        return 1 + (2 * self.scale).log()


class Cauchy(_LocationScale):
    """The ratio of two normal variables: no mean, no variance."""

    @property
    def mean(self) -> Any:
        return mg.full_like(self.loc.detach(), math.nan)

    @property
    def mode(self) -> Any:
        return self.loc

    @property
    def variance(self) -> Any:
        return mg.full_like(self.loc.detach(), math.inf)

    def log_prob(self, value: Any) -> Any:
        return -math.log(math.pi) - self.scale.log() - self._standard(value).square().log1p()

    def cdf(self, value: Any) -> Any:
        return mg.atan(self._standard(value)) / math.pi + 0.5

    def icdf(self, value: Any) -> Any:
        return mg.tan(math.pi * (value - 0.5)) * self.scale + self.loc

    def entropy(self) -> Any:
        return math.log(4 * math.pi) + self.scale.log()


class HalfCauchy(Distribution):
    """The absolute value of a Cauchy variable around 0."""

    arg_constraints = {"scale": constraints.positive}
    support = constraints.nonnegative
    has_rsample = True

    def __init__(self, scale: Any, validate_args: bool | None = None):
        (self.scale,) = broadcast_all(scale)
        super().__init__(self.scale.shape, validate_args=validate_args)

    @property
    def mean(self) -> Any:
        return mg.full_like(self.scale.detach(), math.inf)

    variance = mean

    @property
    def mode(self) -> Any:
        return mg.zeros_like(self.scale)

    def rsample(self, sample_shape: Any = ()) -> Any:
        return self.icdf(_open_unit(self._extended_shape(sample_shape), self.scale.dtype))

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        found = math.log(2 / math.pi) - self.scale.log() - (value / self.scale).square().log1p()
        return mg.where(value >= 0, found, -math.inf)

    def cdf(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return mg.atan(value / self.scale) * (2 / math.pi)

    def icdf(self, value: Any) -> Any:
        return mg.tan(value * (math.pi / 2)) * self.scale

    def entropy(self) -> Any:
        return math.log(2 * math.pi) + self.scale.log()


class Gumbel(_LocationScale):
    """The largest of many: exp(-exp(-(x - loc) / scale)) is its distribution function."""

    @property
    def mean(self) -> Any:
        return self.loc + self.scale * euler_constant

    @property
    def mode(self) -> Any:
        return self.loc

    @property
    def stddev(self) -> Any:
        return (math.pi / math.sqrt(6)) * self.scale

    @property
    def variance(self) -> Any:
        return self.stddev.square()

    def log_prob(self, value: Any) -> Any:
        x = self._standard(value)
        return -x - (-x).exp() - self.scale.log()

    def cdf(self, value: Any) -> Any:
        return (-(-self._standard(value)).exp()).exp()

    def icdf(self, value: Any) -> Any:
        return self.loc - self.scale * (-value.log()).log()

    def rsample(self, sample_shape: Any = ()) -> Any:
        drawn = random_exponential(self._extended_shape(sample_shape), self.loc.dtype)
        return self.loc - self.scale * drawn.log()

    def entropy(self) -> Any:
        return self.scale.log() + (1 + euler_constant)


class Weibull(Distribution):
    """scale * E ** (1 / concentration) for an exponential variable E of rate 1."""

    arg_constraints = {"scale": constraints.positive, "concentration": constraints.positive}
    support = constraints.positive
    has_rsample = True

    def __init__(self, scale: Any, concentration: Any, validate_args: bool | None = None):
        self.scale, self.concentration = broadcast_all(scale, concentration)
        super().__init__(self.scale.shape, validate_args=validate_args)

    @property
    def mean(self) -> Any:
        return self.scale * mg.lgamma(1 + 1 / self.concentration).exp()

    @property
    def mode(self) -> Any:
        k = self.concentration
        return mg.where(k > 1, self.scale * ((k - 1) / k).clamp(min=0) ** (1 / k), 0.0)

    @property
    def variance(self) -> Any:
        k = 1 / self.concentration
        second = mg.lgamma(1 + 2 * k).exp() - (2 * mg.lgamma(1 + k)).exp()
        return self.scale.square() * second

    def rsample(self, sample_shape: Any = ()) -> Any:
        drawn = random_exponential(self._extended_shape(sample_shape), self.scale.dtype)
        return self.scale * drawn ** (1 / self.concentration)

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        k, x = self.concentration, value / self.scale
        return (k / self.scale).log() + (k - 1) * x.log() - x**k

    def cdf(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return -(-((value / self.scale) ** self.concentration)).expm1()

    def icdf(self, value: Any) -> Any:
        return self.scale * (-(-value).log1p()) ** (1 / self.concentration)

    def entropy(self) -> Any:
        k = 1 / self.concentration
        return euler_constant * (1 - k) + (self.scale * k).log() + 1


class Pareto(Distribution):
    """scale * exp(E / alpha) for an exponential variable E of rate 1: x >= scale."""

    arg_constraints = {"alpha": constraints.positive, "scale": constraints.positive}
    has_rsample = True

    def __init__(self, scale: Any, alpha: Any, validate_args: bool | None = None):
        self.scale, self.alpha = broadcast_all(scale, alpha)
        super().__init__(self.scale.shape, validate_args=validate_args)

    @constraints.dependent_property()
    def support(self) -> Any:
        return constraints.greater_than_eq(self.scale)

    @property
    def mean(self) -> Any:
        a = self.alpha.clamp(min=1)
        return a * self.scale / (a - 1)

    @property
    def mode(self) -> Any:
        return self.scale

    @property
    def variance(self) -> Any:
        a = self.alpha.clamp(min=2)
        return self.scale.square() * a / ((a - 1).square() * (a - 2))

    def rsample(self, sample_shape: Any = ()) -> Any:
        drawn = random_exponential(self._extended_shape(sample_shape), self.scale.dtype)
        return self.scale * (drawn / self.alpha).exp()

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return self.alpha.log() + self.alpha * self.scale.log() - (self.alpha + 1) * value.log()

    def cdf(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return 1 - (self.scale / value) ** self.alpha

    def icdf(self, value: Any) -> Any:
        return self.scale * (1 - value) ** (-1 / self.alpha)

    def entropy(self) -> Any:
        return (self.scale / self.alpha).log() + (1 + self.alpha.reciprocal())


class GeneralizedPareto(Distribution):
    """Excesses over a threshold `loc`; `concentration` 0 is the exponential distribution."""

    arg_constraints = {
        "loc": constraints.real,
        "scale": constraints.positive,
        "concentration": constraints.real,
    }
    has_rsample = True

    def __init__(self, loc: Any, scale: Any, concentration: Any, validate_args: bool | None = None):
        self.loc, self.scale, self.concentration = broadcast_all(loc, scale, concentration)
        super().__init__(self.loc.shape, validate_args=validate_args)

    @constraints.dependent_property()
    def support(self) -> Any:
        top = self.loc - self.scale / self.concentration
        bound = mg.where(self.concentration < 0, top, math.inf)
        return constraints.interval(self.loc, bound)

    def _parts(self, value: Any) -> tuple[Any, Any, Any]:
        """(x, k, whether k is 0); k is 1 where it is 0."""
        if self._validate_args:
            self._validate_sample(value)
        flat = self.concentration == 0
        return (value - self.loc) / self.scale, mg.where(flat, 1.0, self.concentration), flat

    @property
    def mean(self) -> Any:
        k = self.concentration
        return mg.where(k < 1, self.loc + self.scale / (1 - k), math.inf)

    @property
    def variance(self) -> Any:
        k = self.concentration
        found = self.scale.square() / ((1 - k).square() * (1 - 2 * k))
        return mg.where(k < 0.5, found, math.inf)

    @property
    def mode(self) -> Any:
        return self.loc

    def rsample(self, sample_shape: Any = ()) -> Any:
        return self.icdf(_open_unit(self._extended_shape(sample_shape), self.loc.dtype))

    def log_prob(self, value: Any) -> Any:
        x, k, flat = self._parts(value)
        found = mg.where(flat, -x, -(1 + 1 / k) * (k * x).log1p())
        return found - self.scale.log()

    def log_survival_function(self, value: Any) -> Any:
        """log(1 - cdf(value))"""
        x, k, flat = self._parts(value)
        return mg.where(flat, -x, -(k * x).log1p() / k)

    def cdf(self, value: Any) -> Any:
        return -self.log_survival_function(value).expm1()

    def icdf(self, value: Any) -> Any:
        flat = self.concentration == 0
        k = mg.where(flat, 1.0, self.concentration)
        tail = (-value).log1p()
        return self.loc + self.scale * mg.where(flat, -tail, (-k * tail).expm1() / k)

    def entropy(self) -> Any:
        return self.scale.log() + self.concentration + 1


class Kumaraswamy(Distribution):
    """1 - (1 - x**a)**b is its distribution function on [0, 1]."""

    arg_constraints = {
        "concentration1": constraints.positive,
        "concentration0": constraints.positive,
    }
    support = constraints.unit_interval
    has_rsample = True

    def __init__(self, concentration1: Any, concentration0: Any, validate_args: bool | None = None):
        self.concentration1, self.concentration0 = broadcast_all(concentration1, concentration0)
        super().__init__(self.concentration1.shape, validate_args=validate_args)

    def _moment(self, n: int) -> Any:
        a, b = self.concentration1, self.concentration0
        k = 1 + n / a
        return (b.log() + mg.lgamma(k) + mg.lgamma(b) - mg.lgamma(k + b)).exp()

    @property
    def mean(self) -> Any:
        return self._moment(1)

    @property
    def mode(self) -> Any:
        a, b = self.concentration1, self.concentration0
        inside = (a >= 1) & (b >= 1) & ((a > 1) | (b > 1))
        found = ((a - 1) / (a * b - 1)).abs() ** (1 / a)
        return mg.where(inside, found, math.nan)

    @property
    def variance(self) -> Any:
        return self._moment(2) - self.mean.square()

    def rsample(self, sample_shape: Any = ()) -> Any:
        return self.icdf(_open_unit(self._extended_shape(sample_shape), self.concentration1.dtype))

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        a, b = self.concentration1, self.concentration0
        rest = mg.special.xlog1py(b - 1, -(value**a))
        return a.log() + b.log() + mg.xlogy(a - 1, value) + rest

    def cdf(self, value: Any) -> Any:
        a, b = self.concentration1, self.concentration0
        return -(b * (-(value**a)).log1p()).expm1()

    def icdf(self, value: Any) -> Any:
        a, b = self.concentration1, self.concentration0
        return (-((-value).log1p() / b).expm1()) ** (1 / a)

    def entropy(self) -> Any:
        a, b = 1 / self.concentration1, 1 / self.concentration0
        h = mg.digamma(self.concentration0 + 1) + euler_constant
        return (1 - b) + (1 - a) * h + a.log() + b.log()


class VonMises(Distribution):
    """Angles around `loc`, closer together with larger `concentration`."""

    arg_constraints = {"loc": constraints.real, "concentration": constraints.positive}
    support = constraints.real

    def __init__(self, loc: Any, concentration: Any, validate_args: bool | None = None):
        self.loc, self.concentration = broadcast_all(loc, concentration)
        super().__init__(self.loc.shape, validate_args=validate_args)

    @property
    def mean(self) -> Any:
        return self.loc

    mode = mean

    @property
    def variance(self) -> Any:
        """Circular: 1 - I1(concentration) / I0(concentration)."""
        k = self.concentration
        return 1 - mg.special.i1e(k) / mg.special.i0e(k)

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        k = self.concentration
        bend = k * (mg.cos(value - self.loc) - 1)
        return bend - math.log(2 * math.pi) - mg.special.i0e(k).log()

    def sample(self, sample_shape: Any = ()) -> Any:
        """By rejection from a wrapped Cauchy distribution, in a fixed number of rounds.

        Source: Best and Fisher, "Efficient simulation of the von Mises distribution", 1979.
        """
        with mg.no_grad():
            shape, dtype = self._extended_shape(sample_shape), self.loc.dtype
            k = self.concentration.double()
            tau = 1 + (1 + 4 * k * k).sqrt()
            rho = (tau - (2 * tau).sqrt()) / (2 * k)
            near = (1 + rho * rho) / (2 * rho)
            r = mg.where(k < 1e-5, 1 / k + k, near).expand(*shape)
            k = k.expand(*shape)
            made, taken = mg.zeros(*shape, dtype=mg.float64), None
            for _ in range(32):  # each accepts at least two in three
                u = mg.rand(3, *shape, dtype=mg.float64)
                z = mg.cos(math.pi * u[0])
                f = ((1 + r * z) / (r + z)).clamp(-1, 1)
                c = k * (r - f)
                second = u[1].clamp(min=1e-300)
                good = (c * (2 - c) - second > 0) | ((c / second).log() + 1 - c >= 0)
                good = good if taken is None else good & ~taken
                made = mg.where(good, (u[2] - 0.5).sign() * mg.acos(f), made)
                taken = good if taken is None else taken | good
            angle = made + self.loc.double() + math.pi
            return (angle.remainder(2 * math.pi) - math.pi).to(dtype)
