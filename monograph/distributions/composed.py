"""Distributions made of others: independent parts as one event, transformed, mixed."""

from __future__ import annotations

from typing import Any

import monograph as mg
from monograph.core.errors import ArgumentError, ShapeError
from monograph.core.shape import Size

from . import constraints
from .categorical import Categorical
from .distribution import Distribution
from .transforms import ComposeTransform, Transform
from .utils import sum_rightmost

__all__ = ["Independent", "MixtureSameFamily", "TransformedDistribution"]


class Independent(Distribution):
    """Some of the batch dimensions of a distribution as part of the event.

    >>> from monograph.distributions import Normal
    >>> normal = Independent(Normal(zeros(3, 2), ones(3, 2)), 1)
    >>> normal.batch_shape, normal.event_shape
    ((3,), (2,))
    """

    def __init__(
        self,
        base_distribution: Distribution,
        reinterpreted_batch_ndims: int,
        validate_args: bool | None = None,
    ):
        count = len(base_distribution.batch_shape)
        if reinterpreted_batch_ndims > count:
            raise ArgumentError(
                f"Independent: reinterpreted_batch_ndims is {reinterpreted_batch_ndims}, the "
                f"distribution has {count} batch dimensions"
            )
        shape = (*base_distribution.batch_shape, *base_distribution.event_shape)
        events = reinterpreted_batch_ndims + len(base_distribution.event_shape)
        self.base_dist = base_distribution
        self.reinterpreted_batch_ndims = reinterpreted_batch_ndims
        cut = len(shape) - events
        super().__init__(shape[:cut], shape[cut:], validate_args=validate_args)

    def expand(self, batch_shape: Any) -> Independent:
        inner = self.event_shape[: self.reinterpreted_batch_ndims]
        return Independent(
            self.base_dist.expand((*batch_shape, *inner)), self.reinterpreted_batch_ndims,
            validate_args=self._validate_args,
        )  # fmt: skip

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return self.base_dist.has_rsample

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]
        return self.reinterpreted_batch_ndims == 0 and self.base_dist.has_enumerate_support

    @property
    def support(self) -> Any:
        found, n = self.base_dist.support, self.reinterpreted_batch_ndims
        return constraints.independent(found, n) if n else found

    @property
    def mean(self) -> Any:
        return self.base_dist.mean

    @property
    def mode(self) -> Any:
        return self.base_dist.mode

    @property
    def variance(self) -> Any:
        return self.base_dist.variance

    def sample(self, sample_shape: Any = ()) -> Any:
        return self.base_dist.sample(sample_shape)

    def rsample(self, sample_shape: Any = ()) -> Any:
        return self.base_dist.rsample(sample_shape)

    def log_prob(self, value: Any) -> Any:
        return sum_rightmost(self.base_dist.log_prob(value), self.reinterpreted_batch_ndims)

    def entropy(self) -> Any:
        return sum_rightmost(self.base_dist.entropy(), self.reinterpreted_batch_ndims)

    def enumerate_support(self, expand: bool = True) -> Any:
        if self.reinterpreted_batch_ndims:
            raise NotImplementedError("Independent: too many outcomes to enumerate")
        return self.base_dist.enumerate_support(expand)

    def __repr__(self) -> str:
        return f"Independent({self.base_dist}, {self.reinterpreted_batch_ndims})"


class TransformedDistribution(Distribution):
    """A variable of `base_distribution` after one transform or a list of them.

    >>> from monograph.distributions import SigmoidTransform, Uniform
    >>> d = TransformedDistribution(Uniform(0.0, 1.0), SigmoidTransform().inv)  # the logistic one
    >>> d.log_prob(tensor(0.0))
    tensor(-1.3863)
    """

    def __init__(
        self, base_distribution: Distribution, transforms: Any, validate_args: bool | None = None
    ):
        self.transforms = [transforms] if isinstance(transforms, Transform) else list(transforms)
        for t in self.transforms:
            if not isinstance(t, Transform):
                raise ArgumentError(
                    "TransformedDistribution: transforms must be a Transform or a list of them, "
                    f"got {type(t).__name__}"
                )
        whole = ComposeTransform(self.transforms)
        base_shape = (*base_distribution.batch_shape, *base_distribution.event_shape)
        if len(base_shape) < whole.domain.event_dim:
            raise ShapeError(
                f"TransformedDistribution: the base distribution has shape {base_shape}; the "
                f"transforms need at least {whole.domain.event_dim} dimensions"
            )
        forward = tuple(whole.forward_shape(base_shape))
        expanded = tuple(whole.inverse_shape(forward))
        if expanded != base_shape:
            cut = len(expanded) - len(base_distribution.event_shape)
            base_distribution = base_distribution.expand(expanded[:cut])
        missing = whole.domain.event_dim - len(base_distribution.event_shape)
        if missing > 0:
            base_distribution = Independent(base_distribution, missing)
        self.base_dist = base_distribution
        events = whole.codomain.event_dim + max(
            len(base_distribution.event_shape) - whole.domain.event_dim, 0
        )
        cut = len(forward) - events
        super().__init__(forward[:cut], forward[cut:], validate_args=validate_args)

    def expand(self, batch_shape: Any) -> Any:
        shape = Size(batch_shape)
        if type(self) is not TransformedDistribution:
            return super().expand(shape)
        whole = ComposeTransform(self.transforms)
        base = whole.inverse_shape((*shape, *self.event_shape))
        base = base[: len(base) - len(self.base_dist.event_shape)]
        return TransformedDistribution(
            self.base_dist.expand(base), self.transforms, validate_args=self._validate_args
        )

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return self.base_dist.has_rsample

    @property
    def support(self) -> Any:
        if not self.transforms:
            return self.base_dist.support
        found = self.transforms[-1].codomain
        missing = len(self.event_shape) - found.event_dim
        return constraints.independent(found, missing) if missing > 0 else found

    def sample(self, sample_shape: Any = ()) -> Any:
        with mg.no_grad():
            x = self.base_dist.sample(sample_shape)
            for transform in self.transforms:
                x = transform(x)
            return x

    def rsample(self, sample_shape: Any = ()) -> Any:
        x = self.base_dist.rsample(sample_shape)
        for transform in self.transforms:
            x = transform(x)
        return x

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        events, total, y = len(self.event_shape), 0.0, value
        for transform in reversed(self.transforms):
            x = transform.inv(y)
            events += transform.domain.event_dim - transform.codomain.event_dim
            slope = transform.log_abs_det_jacobian(x, y)
            total = total - sum_rightmost(slope, events - transform.domain.event_dim)
            y = x
        base = self.base_dist.log_prob(y)
        return total + sum_rightmost(base, events - len(self.base_dist.event_shape))

    def _signed(self, p: Any) -> Any:
        """p, or 1 - p where the transforms fall."""
        sign: Any = 1
        for transform in self.transforms:
            sign = sign * transform.sign
        if isinstance(sign, int):
            return p if sign == 1 else 1 - p
        return sign * (p - 0.5) + 0.5

    def cdf(self, value: Any) -> Any:
        for transform in reversed(self.transforms):
            value = transform.inv(value)
        if self._validate_args:
            self.base_dist._validate_sample(value)
        return self._signed(self.base_dist.cdf(value))

    def icdf(self, value: Any) -> Any:
        x = self.base_dist.icdf(self._signed(value))
        for transform in self.transforms:
            x = transform(x)
        return x

    def __repr__(self) -> str:
        if type(self) is not TransformedDistribution:
            return super().__repr__()
        return f"TransformedDistribution({self.base_dist}, {self.transforms})"


class MixtureSameFamily(Distribution):
    """One of several distributions, chosen at random, which are the last batch dimension of one.

    mixture_distribution    Categorical over the last batch dimension of the other
    component_distribution  the distributions that are mixed
    """

    arg_constraints: dict = {}

    def __init__(
        self,
        mixture_distribution: Categorical,
        component_distribution: Distribution,
        validate_args: bool | None = None,
    ):
        mix, parts = mixture_distribution, component_distribution
        if not isinstance(mix, Categorical):
            raise ArgumentError(
                f"MixtureSameFamily: the mixture must be Categorical, got {type(mix).__name__}"
            )
        if not parts.batch_shape or parts.batch_shape[-1] != mix.logits.shape[-1]:
            raise ShapeError(
                f"MixtureSameFamily: {mix.logits.shape[-1]} weights for components of batch shape "
                f"{tuple(parts.batch_shape)}, whose last size must be equal"
            )
        self._mixture_distribution, self._component_distribution = mix, parts
        self._num_component = parts.batch_shape[-1]
        super().__init__(parts.batch_shape[:-1], parts.event_shape, validate_args=validate_args)

    @property
    def mixture_distribution(self) -> Any:
        return self._mixture_distribution

    @property
    def component_distribution(self) -> Any:
        return self._component_distribution

    def expand(self, batch_shape: Any) -> MixtureSameFamily:
        parts = self.component_distribution.expand((*batch_shape, self._num_component))
        mix = self.mixture_distribution.expand(tuple(batch_shape))
        return MixtureSameFamily(mix, parts, validate_args=self._validate_args)

    @property
    def support(self) -> Any:
        return self.component_distribution.support

    def _weighted(self, values: Any) -> Any:
        """The sum of the components' values times their chances."""
        n = len(self.event_shape)
        probs = self.mixture_distribution.probs
        probs = probs.reshape(*probs.shape, *(1,) * n)
        return (probs * values).sum(-1 - n)

    @property
    def mean(self) -> Any:
        return self._weighted(self.component_distribution.mean)

    @property
    def variance(self) -> Any:
        n = len(self.event_shape)
        inner = self._weighted(self.component_distribution.variance)
        apart = self.component_distribution.mean - self.mean.unsqueeze(-1 - n)
        return inner + self._weighted(apart.square())

    def cdf(self, x: Any) -> Any:
        found = self.component_distribution.cdf(x.unsqueeze(-1 - len(self.event_shape)))
        return (found * self.mixture_distribution.probs).sum(-1)

    def log_prob(self, x: Any) -> Any:
        if self._validate_args:
            self._validate_sample(x)
        inner = self.component_distribution.log_prob(x.unsqueeze(-1 - len(self.event_shape)))
        return mg.logsumexp(inner + mg.log_softmax(self.mixture_distribution.logits, -1), -1)

    def sample(self, sample_shape: Any = ()) -> Any:
        with mg.no_grad():
            n = len(self.event_shape)
            chosen = self.mixture_distribution.sample(sample_shape)
            drawn = self.component_distribution.sample(sample_shape)
            axis = drawn.ndim - 1 - n
            chosen = chosen.reshape(*chosen.shape, *(1,) * (n + 1))
            sizes = list(drawn.shape)
            sizes[axis] = 1
            return drawn.gather(axis, chosen.expand(*sizes)).squeeze(axis)

    def __repr__(self) -> str:
        return f"MixtureSameFamily({self.mixture_distribution}, {self.component_distribution})"
