"""Counts of successes and failures, and of arrivals."""

from __future__ import annotations

import math
from typing import Any

import monograph as mg
from monograph.api.sampling import standard_gamma
from monograph.core.errors import ArgumentError
from monograph.core.shape import Size
from monograph.nn import functional as F

from . import constraints
from .distribution import ExponentialFamily, TwoForms
from .utils import broadcast_all, lazy_property, logits_to_probs, probs_to_logits

__all__ = ["Bernoulli", "Binomial", "Geometric", "NegativeBinomial", "Poisson"]


class _Binary(TwoForms):
    """A chance, given by itself or by its log odds."""

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}

    @lazy_property
    def logits(self) -> Any:
        return probs_to_logits(self.probs, is_binary=True)

    @lazy_property
    def probs(self) -> Any:
        return logits_to_probs(self.logits, is_binary=True)

    @property
    def param_shape(self) -> Size:
        return self._param.shape


class Bernoulli(_Binary, ExponentialFamily):
    """1 with chance `probs` (or sigmoid(`logits`)), else 0.

    >>> Bernoulli(probs=0.3).log_prob(tensor(1.0))
    tensor(-1.2040)
    """

    support = constraints.boolean
    has_enumerate_support = True

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None):
        given = self._take(probs, logits, lambda x: broadcast_all(x)[0])
        super().__init__(given.shape, validate_args=validate_args)

    @property
    def mean(self) -> Any:
        return self.probs

    @property
    def mode(self) -> Any:
        found = (self.probs >= 0.5).to(self.probs.dtype)
        return mg.where(self.probs == 0.5, math.nan, found)

    @property
    def variance(self) -> Any:
        return self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = ()) -> Any:
        with mg.no_grad():
            return mg.bernoulli(self.probs.expand(*self._extended_shape(sample_shape)))

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        logits, value = broadcast_all(self.logits, value)
        return -F.binary_cross_entropy_with_logits(logits, value, reduction="none")

    def entropy(self) -> Any:
        return F.binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none")

    def enumerate_support(self, expand: bool = True) -> Any:
        values = mg.arange(2, dtype=self._param.dtype).reshape(2, *(1,) * len(self.batch_shape))
        return values.expand(2, *self.batch_shape) if expand else values


class Geometric(_Binary):
    """The number of failures before the first success, of chance `probs`: 0, 1, 2, ..."""

    support = constraints.nonnegative_integer

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None):
        given = self._take(probs, logits, lambda x: broadcast_all(x)[0])
        super().__init__(given.shape, validate_args=validate_args)
        if self._validate_args and probs is not None:
            self._check("probs", self.probs, constraints.greater_than(0.0))

    @property
    def mean(self) -> Any:
        return 1 / self.probs - 1

    @property
    def mode(self) -> Any:
        return mg.zeros_like(self.probs)

    @property
    def variance(self) -> Any:
        return (1 / self.probs - 1) / self.probs

    def sample(self, sample_shape: Any = ()) -> Any:
        with mg.no_grad():
            shape, dtype = self._extended_shape(sample_shape), self.probs.dtype
            u = mg.rand(shape, dtype=dtype).clamp(min=mg.finfo(dtype).tiny)
            return (u.log() / (-self.probs.expand(*shape)).log1p()).floor()

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        value, probs = broadcast_all(value, self.probs)
        probs = mg.where((probs == 1) & (value == 0), 0.0, probs)
        return value * (-probs).log1p() + self.probs.log()

    def entropy(self) -> Any:
        return F.binary_cross_entropy_with_logits(
            self.logits, self.probs, reduction="none"
        ) / (self.probs)  # fmt: skip


class Binomial(_Binary):
    """How many of `total_count` trials succeed, each with chance `probs`."""

    arg_constraints = {"total_count": constraints.nonnegative_integer, **_Binary.arg_constraints}
    has_enumerate_support = True

    def __init__(
        self,
        total_count: Any = 1,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ):
        given = probs if logits is None else logits
        if given is not None:
            given, self.total_count = broadcast_all(given, total_count)
            self.total_count = self.total_count.to(given.dtype)
        self._take(None if probs is None else given, None if logits is None else given, lambda x: x)
        super().__init__(self._param.shape, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True)
    def support(self) -> Any:
        return constraints.integer_interval(0, self.total_count)

    @property
    def mean(self) -> Any:
        return self.total_count * self.probs

    @property
    def mode(self) -> Any:
        return ((self.total_count + 1) * self.probs).floor().clamp(max=self.total_count)

    @property
    def variance(self) -> Any:
        return self.total_count * self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = ()) -> Any:
        with mg.no_grad():
            shape = self._extended_shape(sample_shape)
            return mg.binomial(self.total_count.expand(*shape), self.probs.expand(*shape))

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        n, logits = self.total_count, self.logits
        ways = mg.lgamma(n + 1) - mg.lgamma(value + 1) - mg.lgamma(n - value + 1)
        # log(1 - p) is -softplus(logits), written so that both ends stay finite.
        tail = n * logits.clamp(min=0) + n * (-logits.abs()).exp().log1p()
        return value * logits + ways - tail

    def entropy(self) -> Any:
        chances = self.log_prob(self.enumerate_support(False))
        return -(chances.exp() * chances).sum(0)

    def enumerate_support(self, expand: bool = True) -> Any:
        most = int(self.total_count.max())
        if int(self.total_count.min()) != most:
            raise NotImplementedError("Binomial: total_count differs, outcomes are not enumerated")
        values = mg.arange(most + 1, dtype=self._param.dtype)
        values = values.reshape(-1, *(1,) * len(self.batch_shape))
        return values.expand(-1, *self.batch_shape) if expand else values


class NegativeBinomial(_Binary):
    """The number of successes, of chance `probs`, before `total_count` failures."""

    arg_constraints = {
        "total_count": constraints.greater_than_eq(0),
        "probs": constraints.half_open_interval(0.0, 1.0),
        "logits": constraints.real,
    }
    support = constraints.nonnegative_integer

    def __init__(
        self,
        total_count: Any,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ):
        given = probs if logits is None else logits
        if given is not None:
            given, self.total_count = broadcast_all(given, total_count)
            self.total_count = self.total_count.to(given.dtype)
        self._take(None if probs is None else given, None if logits is None else given, lambda x: x)
        super().__init__(self._param.shape, validate_args=validate_args)

    @property
    def mean(self) -> Any:
        return self.total_count * self.logits.exp()

    @property
    def mode(self) -> Any:
        return ((self.total_count - 1) * self.logits.exp()).floor().clamp(min=0.0)

    @property
    def variance(self) -> Any:
        return self.mean / mg.sigmoid(-self.logits)

    def sample(self, sample_shape: Any = ()) -> Any:
        with mg.no_grad():
            shape = self._extended_shape(sample_shape)
            rate = standard_gamma(self.total_count.expand(*shape)) * self.logits.exp()
            return mg.poisson(rate)

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        n = self.total_count
        chance = n * F.logsigmoid(-self.logits) + value * F.logsigmoid(self.logits)
        ways = mg.lgamma(n + value) - mg.lgamma(value + 1) - mg.lgamma(n)
        return chance + mg.where((n == 0) & (value == 0), 0.0, ways)


class Poisson(ExponentialFamily):
    """The number of arrivals where `rate` are expected."""

    arg_constraints = {"rate": constraints.nonnegative}
    support = constraints.nonnegative_integer

    def __init__(self, rate: Any, validate_args: bool | None = None):
        (self.rate,) = broadcast_all(rate)
        if not self.rate.dtype.is_floating_point:
            raise ArgumentError(f"Poisson: rate must be floating, got {self.rate.dtype.name}")
        super().__init__(self.rate.shape, validate_args=validate_args)

    @property
    def mean(self) -> Any:
        return self.rate

    @property
    def mode(self) -> Any:
        return self.rate.floor()

    @property
    def variance(self) -> Any:
        return self.rate

    def sample(self, sample_shape: Any = ()) -> Any:
        with mg.no_grad():
            return mg.poisson(self.rate.expand(*self._extended_shape(sample_shape)))

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        rate, value = broadcast_all(self.rate, value)
        return mg.xlogy(value, rate) - rate - mg.lgamma(value + 1)
