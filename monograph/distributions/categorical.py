"""Choices among classes: Categorical, OneHotCategorical, Multinomial."""

from __future__ import annotations

from typing import Any

import monograph as mg
from monograph.core.errors import ArgumentError, ShapeError
from monograph.core.shape import Size
from monograph.nn import functional as F
from monograph.ops.random import random_exponential

from . import constraints
from .binomial import Binomial
from .distribution import Distribution, TwoForms
from .utils import broadcast_all, lazy_property, logits_to_probs, probs_to_logits

__all__ = ["Categorical", "Multinomial", "OneHotCategorical", "OneHotCategoricalStraightThrough"]


class Categorical(TwoForms):
    """Class numbers 0 .. K - 1, with chances in proportion to `probs` or to exp of `logits`.

    probs, logits  (..., K), one of them

    >>> Categorical(tensor([0.25, 0.75])).log_prob(tensor(1))
    tensor(-0.2877)
    """

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    has_enumerate_support = True

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None):
        given = self._take(probs, logits, lambda x: x)
        if not given.ndim:
            raise ShapeError(f"{type(self).__name__}: {self._form} must have at least 1 dimension")
        if probs is not None:
            self.__dict__["probs"] = probs / probs.sum(-1, keepdim=True)
        else:
            self.__dict__["logits"] = logits - logits.logsumexp(-1, keepdim=True)
        self._num_events = given.shape[-1]
        super().__init__(given.shape[:-1], validate_args=validate_args)

    @lazy_property
    def logits(self) -> Any:
        return probs_to_logits(self.probs)

    @lazy_property
    def probs(self) -> Any:
        return logits_to_probs(self.logits)

    @constraints.dependent_property(is_discrete=True)
    def support(self) -> Any:
        return constraints.integer_interval(0, self._num_events - 1)

    @property
    def param_shape(self) -> Size:
        return self._param.shape

    @property
    def mean(self) -> Any:
        return mg.full_like(self.probs[..., 0].detach(), float("nan"))

    variance = mean

    @property
    def mode(self) -> Any:
        return self.probs.argmax(-1)

    def sample(self, sample_shape: Any = ()) -> Any:
        with mg.no_grad():
            shape = self._extended_shape(sample_shape)
            noise = random_exponential((*shape, self._num_events), self._param.dtype)
            return (self.logits - noise.log()).argmax(-1)

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        value = value.long().unsqueeze(-1)
        shape = mg.broadcast_shapes(tuple(value.shape[:-1]), tuple(self.batch_shape))
        chances = self.logits.expand(*shape, self._num_events)
        return chances.gather(-1, value.expand(*shape, 1)).squeeze(-1)

    def entropy(self) -> Any:
        smallest = mg.finfo(self.logits.dtype).min
        return -(self.logits.clamp(min=smallest) * self.probs).sum(-1)

    def enumerate_support(self, expand: bool = True) -> Any:
        values = mg.arange(self._num_events).reshape(-1, *(1,) * len(self.batch_shape))
        return values.expand(-1, *self.batch_shape) if expand else values


class OneHotCategorical(Distribution):
    """The same choices as vectors with a 1 at the class."""

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    support = constraints.one_hot
    has_enumerate_support = True

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None):
        self._categorical = Categorical(probs, logits, validate_args=validate_args)
        super().__init__(
            self._categorical.batch_shape, self._categorical.param_shape[-1:],
            validate_args=validate_args,
        )  # fmt: skip

    def _given(self) -> list[str]:
        return [self._categorical._form]

    def _own_constraints(self) -> dict[str, Any]:
        return {}

    @property
    def probs(self) -> Any:
        return self._categorical.probs

    @property
    def logits(self) -> Any:
        return self._categorical.logits

    @property
    def param_shape(self) -> Size:
        return self._categorical.param_shape

    @property
    def mean(self) -> Any:
        return self.probs

    @property
    def mode(self) -> Any:
        return F.one_hot(self._categorical.mode, self.event_shape[0]).to(self.probs.dtype)

    @property
    def variance(self) -> Any:
        return self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = ()) -> Any:
        chosen = self._categorical.sample(sample_shape)
        return F.one_hot(chosen, self.event_shape[0]).to(self._categorical._param.dtype)

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return self._categorical.log_prob(value.argmax(-1))

    def entropy(self) -> Any:
        return self._categorical.entropy()

    def enumerate_support(self, expand: bool = True) -> Any:
        n = self.event_shape[0]
        values = mg.eye(n, dtype=self._categorical._param.dtype)
        values = values.reshape(n, *(1,) * len(self.batch_shape), n)
        return values.expand(n, *self.batch_shape, n) if expand else values


class OneHotCategoricalStraightThrough(OneHotCategorical):
    """OneHotCategorical whose samples pass gradients on as if they were the probabilities.

    Source: Bengio, Leonard, Courville, "Estimating or propagating gradients through stochastic
    neurons for conditional computation", 2013.
    """

    has_rsample = True

    def rsample(self, sample_shape: Any = ()) -> Any:
        drawn, probs = self.sample(sample_shape), self.probs
        return drawn + (probs - probs.detach())


class Multinomial(TwoForms):
    """How often each class comes in `total_count` choices.

    total_count  an int, the same for all of the batch
    """

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}

    def __init__(
        self,
        total_count: int = 1,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ):
        if not isinstance(total_count, int) or total_count < 0:
            raise ArgumentError(
                f"Multinomial: total_count must be an int that is not negative, got {total_count!r}"
            )
        self.total_count = total_count
        self._categorical = Categorical(probs, logits, validate_args=validate_args)
        self._form = self._categorical._form
        super().__init__(
            self._categorical.batch_shape, self._categorical.param_shape[-1:],
            validate_args=validate_args,
        )  # fmt: skip

    def _given(self) -> list[str]:
        return ["total_count", self._form]

    def _own_constraints(self) -> dict[str, Any]:
        return {}

    @property
    def probs(self) -> Any:
        return self._categorical.probs

    @property
    def logits(self) -> Any:
        return self._categorical.logits

    @property
    def param_shape(self) -> Size:
        return self._categorical.param_shape

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> Any:
        return constraints.multinomial(self.total_count)

    @property
    def mean(self) -> Any:
        return self.probs * self.total_count

    @property
    def variance(self) -> Any:
        return self.total_count * self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = ()) -> Any:
        """Class after class, the number of those among the choices that are left."""
        with mg.no_grad():
            shape = self._extended_shape(sample_shape)
            probs = self.probs.double().expand(*shape)
            left = mg.full(shape[:-1], float(self.total_count), dtype=mg.float64)
            rest = probs.flip(-1).cumsum(-1).flip(-1)
            counts = []
            for k in range(shape[-1] - 1):
                chance = (probs[..., k] / rest[..., k].clamp(min=1e-300)).clamp(0.0, 1.0)
                counts.append(mg.binomial(left, chance))
                left = left - counts[-1]
            return mg.stack([*counts, left], -1).to(self.probs.dtype)

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        logits, value = broadcast_all(self.logits, value)
        ways = mg.lgamma(value.sum(-1) + 1) - mg.lgamma(value + 1).sum(-1)
        logits = mg.where((value == 0) & (logits == -float("inf")), 0.0, logits)
        return ways + (logits * value).sum(-1)

    def entropy(self) -> Any:
        n = mg.tensor(float(self.total_count), dtype=self.probs.dtype)
        one = self._categorical.entropy()
        counts = Binomial(self.total_count, self.probs).enumerate_support(expand=False)[1:]
        chances = Binomial(self.total_count, self.probs, validate_args=False).log_prob(counts).exp()
        weights = mg.lgamma(counts + 1)
        return n * one - mg.lgamma(n + 1) + (chances * weights).sum((0, -1))
