"""Distribution: batches of random variables; what every family has, and what it states."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

import monograph as mg
from monograph.core.errors import ArgumentError, ArgumentTypeError, ShapeError
from monograph.core.shape import Size
from monograph.tensor import Tensor

from . import constraints
from .utils import is_known, lazy_property

_NATIVE = (mg.float32, mg.float64, mg.int64, mg.int32, mg.bool)  # NumPy's own dtypes


class Distribution:
    """Base class. Outcomes have shape sample_shape + batch_shape + event_shape.

    A family states `arg_constraints` (parameter -> constraint), `support`, and its methods. Values
    are checked against them unless validate_args is False, wherever elements can be read: not while
    a function is captured, nor inside vmap.
    """

    has_rsample = False
    has_enumerate_support = False
    _validate_args: bool = __debug__
    arg_constraints: ClassVar[dict[str, Any]] = {}

    @staticmethod
    def set_default_validate_args(value: bool) -> None:
        """Whether distributions made from now on check values if they are not told."""
        if value not in (True, False):
            raise ArgumentError(f"set_default_validate_args: expected a bool, got {value!r}")
        Distribution._validate_args = value

    def __init__(
        self, batch_shape: Any = (), event_shape: Any = (), validate_args: bool | None = None
    ):
        self._batch_shape, self._event_shape = Size(batch_shape), Size(event_shape)
        if validate_args is not None:
            self._validate_args = validate_args
        if self._validate_args:
            for name, constraint in self._own_constraints().items():
                if constraints.is_dependent(constraint):
                    continue
                if name not in self.__dict__ and isinstance(
                    getattr(type(self), name, None), lazy_property
                ):
                    continue  # made from another parameter
                self._check(name, getattr(self, name), constraint)

    def _own_constraints(self) -> dict[str, Any]:
        return self.arg_constraints

    def _check(self, name: str, value: Any, constraint: Any) -> None:
        """ArgumentError unless all of `value` is in the set."""
        if not is_known(value):
            return
        if constraint.takes_arrays and isinstance(value, Tensor) and value.dtype in _NATIVE:
            with np.errstate(invalid="ignore"):
                if np.all(constraint.check(value._value())):
                    return
        with mg.no_grad():
            good = constraint.check(value.detach())
            if is_known(good) and not good.all():
                wrong = (~good).nonzero().tolist()
                place = tuple(wrong[0])
                shown = value[place].tolist() if place else value.tolist()
                where = f" at {place}" if place else ""
                raise ArgumentError(
                    f"{type(self).__name__}: {name} of shape {tuple(value.shape)} must satisfy "
                    f"{constraint!r}; {len(wrong)} of {good.numel()} do not, the first{where} is "
                    f"{shown}"
                )

    def expand(self, batch_shape: Any) -> Any:
        """The same distribution with its parameters repeated to `batch_shape`."""
        shape = Size(batch_shape)
        made = {}
        for name in self._given():
            value = getattr(self, name)
            if isinstance(value, Tensor):
                events = getattr(self.arg_constraints.get(name), "event_dim", 0)
                own = value.shape[value.ndim - events :] if events else ()
                value = value.expand(*shape, *own)
            made[name] = value
        out = type(self)(**made, validate_args=False)
        out._validate_args = self._validate_args
        return out

    def _given(self) -> list[str]:
        """The parameters that this was made from."""
        return list(self.arg_constraints)

    @property
    def batch_shape(self) -> Size:
        """The shape of independent variables."""
        return self._batch_shape

    @property
    def event_shape(self) -> Size:
        """The shape of one outcome."""
        return self._event_shape

    @property
    def support(self) -> Any:
        """The constraint that outcomes satisfy."""
        raise NotImplementedError(f"{type(self).__name__}.support is not defined")

    @property
    def mean(self) -> Any:
        """The mean, of shape batch_shape + event_shape."""
        raise NotImplementedError(f"{type(self).__name__} has no mean here")

    @property
    def mode(self) -> Any:
        """The likeliest outcome, of shape batch_shape + event_shape."""
        raise NotImplementedError(f"{type(self).__name__} has no mode here")

    @property
    def variance(self) -> Any:
        """The variance, of shape batch_shape + event_shape."""
        raise NotImplementedError(f"{type(self).__name__} has no variance here")

    @property
    def stddev(self) -> Any:
        """The standard deviation: the root of the variance."""
        return self.variance.sqrt()

    def sample(self, sample_shape: Any = ()) -> Any:
        """Outcomes without a gradient."""
        with mg.no_grad():
            return self.rsample(sample_shape)

    def rsample(self, sample_shape: Any = ()) -> Any:
        """Outcomes as functions of the parameters, through which gradients flow."""
        raise NotImplementedError(f"{type(self).__name__} has no rsample; sample() has no gradient")

    def sample_n(self, n: int) -> Any:
        """sample((n,))"""
        return self.sample((n,))

    def log_prob(self, value: Any) -> Any:
        """The logarithm of the density (or of the chance) at `value`."""
        raise NotImplementedError(f"{type(self).__name__} has no log_prob here")

    def cdf(self, value: Any) -> Any:
        """The chance of an outcome of at most `value`."""
        raise NotImplementedError(f"{type(self).__name__} has no cdf here")

    def icdf(self, value: Any) -> Any:
        """The outcome below which the chance is `value`."""
        raise NotImplementedError(f"{type(self).__name__} has no icdf here")

    def enumerate_support(self, expand: bool = True) -> Any:
        """All outcomes of a discrete variable along a new first dimension."""
        raise NotImplementedError(f"{type(self).__name__} has no enumerate_support")

    def entropy(self) -> Any:
        """The mean of -log_prob."""
        raise NotImplementedError(f"{type(self).__name__} has no entropy here")

    def perplexity(self) -> Any:
        """exp(entropy())"""
        return self.entropy().exp()

    def _extended_shape(self, sample_shape: Any = ()) -> Size:
        if isinstance(sample_shape, int):
            sample_shape = (sample_shape,)
        return Size((*sample_shape, *self._batch_shape, *self._event_shape))

    def _validate_sample(self, value: Any) -> None:
        """Raise unless `value` can be an outcome."""
        if not isinstance(value, Tensor):
            raise ArgumentTypeError(
                f"{type(self).__name__}: the value must be a tensor, got {type(value).__name__}"
            )
        n = len(self._event_shape)
        shape, expected = tuple(value.shape), (*self._batch_shape, *self._event_shape)
        if shape[len(shape) - n :] != tuple(self._event_shape):
            raise ShapeError(
                f"{type(self).__name__}: the value has shape {shape}; it must end in the event "
                f"shape {tuple(self._event_shape)}"
            )
        for i, j in zip(reversed(shape), reversed(expected)):
            if i != 1 and j != 1 and i != j:
                raise ShapeError(
                    f"{type(self).__name__}: the value's shape {shape} does not broadcast with "
                    f"batch and event shape {expected}"
                )
        try:
            support = self.support
        except NotImplementedError:
            return
        if support is not None and not constraints.is_dependent(support):
            self._check("the value", value, support)

    def __repr__(self) -> str:
        given = []
        for name in self._given():
            value = getattr(self, name, None)
            if isinstance(value, Tensor):
                single = value.numel() == 1 and is_known(value)
                value = value.item() if single else f"{value.dtype} of shape {tuple(value.shape)}"
            given.append(f"{name}: {value}")
        return f"{type(self).__name__}({', '.join(given)})"


class ExponentialFamily(Distribution):
    """Distributions whose density is exp(t(x) . theta - F(theta) + k(x))."""


class TwoForms(Distribution):
    """A distribution given by probabilities or by logits; the other is computed when it is read."""

    is_binary = True

    def _take(self, probs: Any, logits: Any, broadcast: Any) -> Any:
        """Keep the one that is given, broadcast; returns it."""
        if (probs is None) == (logits is None):
            raise ArgumentError(
                f"{type(self).__name__}: give either probs or logits, not "
                + ("both" if probs is not None else "neither")
            )
        self._form = "probs" if logits is None else "logits"
        self.__dict__[self._form] = broadcast(probs if logits is None else logits)
        return self.__dict__[self._form]

    @property
    def _param(self) -> Any:
        return self.__dict__[self._form]

    def _given(self) -> list[str]:
        return [n for n in self.arg_constraints if n not in ("probs", "logits")] + [self._form]

    def _own_constraints(self) -> dict[str, Any]:
        return {n: self.arg_constraints[n] for n in self._given()}
