"""Continuous stand-ins for discrete choices, which gradients flow through; ContinuousBernoulli.

Source: Maddison, Mnih, Teh, "The concrete distribution", 2017; Jang, Gu, Poole, "Categorical
reparameterization with Gumbel-softmax", 2017.
"""

from __future__ import annotations

import math
from typing import Any

import monograph as mg
from monograph.nn import functional as F
from monograph.ops.random import random_exponential

from . import constraints
from .binomial import _Binary
from .categorical import Categorical
from .composed import TransformedDistribution
from .distribution import Distribution, ExponentialFamily, TwoForms
from .transforms import ExpTransform, SigmoidTransform
from .utils import broadcast_all, clamp_probs

__all__ = [
    "ContinuousBernoulli", "ExpRelaxedCategorical", "LogitRelaxedBernoulli", "RelaxedBernoulli",
    "RelaxedOneHotCategorical",
]  # fmt: skip


def _temperature(value: Any) -> Any:
    return value if isinstance(value, mg.Tensor) else mg.tensor(float(value))


class LogitRelaxedBernoulli(_Binary):
    """The logit of a RelaxedBernoulli."""

    support = constraints.real
    has_rsample = True

    def __init__(
        self,
        temperature: Any,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ):
        self.temperature = _temperature(temperature)
        given = self._take(probs, logits, lambda x: broadcast_all(x)[0])
        super().__init__(given.shape, validate_args=validate_args)

    def _given(self) -> list[str]:
        return [self._form]

    def expand(self, batch_shape: Any) -> Any:
        value = self._param.expand(*batch_shape)
        made = LogitRelaxedBernoulli(self.temperature, **{self._form: value}, validate_args=False)
        made._validate_args = self._validate_args
        return made

    def rsample(self, sample_shape: Any = ()) -> Any:
        shape = self._extended_shape(sample_shape)
        probs = clamp_probs(self.probs.expand(*shape))
        u = clamp_probs(mg.rand(shape, dtype=probs.dtype))
        noise = u.log() - (-u).log1p() + probs.log() - (-probs).log1p()
        return noise / self.temperature

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        logits, value = broadcast_all(self.logits, value)
        apart = logits - value * self.temperature
        return self.temperature.log() + apart - 2 * F.softplus(apart)


class ExpRelaxedCategorical(TwoForms):
    """The logarithm of a RelaxedOneHotCategorical."""

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self,
        temperature: Any,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ):
        self._categorical = Categorical(probs, logits, validate_args=validate_args)
        self._form = self._categorical._form
        self.temperature = _temperature(temperature)
        super().__init__(
            self._categorical.batch_shape, self._categorical.param_shape[-1:],
            validate_args=validate_args,
        )  # fmt: skip

    def _own_constraints(self) -> dict[str, Any]:
        return {}

    def expand(self, batch_shape: Any) -> Any:
        base = self._categorical.expand(batch_shape)
        given = {base._form: base._param}
        return ExpRelaxedCategorical(self.temperature, **given, validate_args=self._validate_args)

    @property
    def probs(self) -> Any:
        return self._categorical.probs

    @property
    def logits(self) -> Any:
        return self._categorical.logits

    def rsample(self, sample_shape: Any = ()) -> Any:
        shape = self._extended_shape(sample_shape)
        noise = random_exponential(shape, self.logits.dtype).log()
        scores = (self.logits - noise) / self.temperature
        return scores - scores.logsumexp(-1, keepdim=True)

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        k = self.event_shape[0]
        logits, value = broadcast_all(self.logits, value)
        size = math.lgamma(k) + (k - 1) * self.temperature.log()
        score = logits - value * self.temperature
        return (score - score.logsumexp(-1, keepdim=True)).sum(-1) + size


class _Relaxed(TransformedDistribution):
    """A distribution of logarithms or logits (`_base`), brought into the unit interval."""

    has_rsample = True
    _base: Any
    _transform: Any

    def __init__(
        self,
        temperature: Any,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ):
        base = self._base(temperature, probs, logits, validate_args=validate_args)
        super().__init__(base, self._transform(), validate_args=False)
        if validate_args is not None:
            self._validate_args = validate_args
        else:
            self._validate_args = Distribution._validate_args

    def expand(self, batch_shape: Any) -> Any:
        base = self.base_dist.expand(batch_shape)
        given = {base._form: getattr(base, base._form)}
        return type(self)(self.temperature, **given, validate_args=self._validate_args)

    def _given(self) -> list[str]:
        return ["temperature", self.base_dist._form]

    @property
    def temperature(self) -> Any:
        return self.base_dist.temperature

    @property
    def probs(self) -> Any:
        return self.base_dist.probs

    @property
    def logits(self) -> Any:
        return self.base_dist.logits


class RelaxedBernoulli(_Relaxed):
    """Numbers in (0, 1), the nearer to 0 or 1 the lower the temperature."""

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    support = constraints.unit_interval
    _base, _transform = LogitRelaxedBernoulli, SigmoidTransform


class RelaxedOneHotCategorical(_Relaxed):
    """Points of the simplex, the nearer to a corner the lower the temperature."""

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    support = constraints.simplex
    _base, _transform = ExpRelaxedCategorical, ExpTransform


class ContinuousBernoulli(_Binary, ExponentialFamily):
    """Numbers in [0, 1] with a density in proportion to probs**x (1 - probs)**(1 - x).

    lims  between these the series around 1/2 is used

    Source: Loaiza-Ganem and Cunningham, "The continuous Bernoulli", 2019.
    """

    support = constraints.unit_interval
    has_rsample = True

    def __init__(
        self,
        probs: Any = None,
        logits: Any = None,
        lims: tuple[float, float] = (0.499, 0.501),
        validate_args: bool | None = None,
    ):
        self._lims = lims
        given = self._take(probs, logits, lambda x: broadcast_all(x)[0])
        super().__init__(given.shape, validate_args=validate_args)
        if self._form == "probs":
            self.__dict__["probs"] = clamp_probs(self.__dict__["probs"])

    def _parts(self) -> tuple[Any, Any, Any]:
        """(probs away from 1/2, whether they are, probs minus 1/2)."""
        p = self.probs
        outside = (p <= self._lims[0]) | (p > self._lims[1])
        return mg.where(outside, p, self._lims[0]), outside, p - 0.5

    def _log_constant(self) -> Any:
        p, outside, x = self._parts()
        away = 1 - 2 * p
        ends = ((-p).log1p() - p.log()).abs().log() - away.abs().log()
        x = x.square()
        return mg.where(outside, ends, math.log(2.0) + (4 / 3 + 104 / 45 * x) * x)

    @property
    def mean(self) -> Any:
        p, outside, x = self._parts()
        found = p / (2 * p - 1) + 1 / ((-p).log1p() - p.log())
        return mg.where(outside, found, 0.5 + (1 / 3 + 16 / 45 * x.square()) * x)

    @property
    def variance(self) -> Any:
        p, outside, x = self._parts()
        found = p * (p - 1) / (1 - 2 * p).square() + 1 / ((-p).log1p() - p.log()).square()
        x = x.square()
        return mg.where(outside, found, 1 / 12 - (1 / 15 - 128 / 945 * x) * x)

    def rsample(self, sample_shape: Any = ()) -> Any:
        u = mg.rand(self._extended_shape(sample_shape), dtype=self.probs.dtype)
        return self.icdf(u)

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        logits, value = broadcast_all(self.logits, value)
        loss = F.binary_cross_entropy_with_logits(logits, value, reduction="none")
        return self._log_constant() - loss

    def cdf(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        p, outside, _ = self._parts()
        found = (p**value * (1 - p) ** (1 - value) + p - 1) / (2 * p - 1)
        found = mg.where(outside, found, value)
        return mg.where(value <= 0, 0.0, mg.where(value >= 1, 1.0, found))

    def icdf(self, value: Any) -> Any:
        p, outside, _ = self._parts()
        moved = (-p + value * (2 * p - 1)).log1p() - (-p).log1p()
        return mg.where(outside, moved / (p.log() - (-p).log1p()), value)

    def entropy(self) -> Any:
        low, high = (-self.probs).log1p(), self.probs.log()
        return self.mean * (low - high) - self._log_constant() - low
