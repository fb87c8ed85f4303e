"""Means: of any values, of errors, and of log-likelihoods (perplexity)."""

from __future__ import annotations

import math

import numpy as np

from ..core.errors import ArgumentError, ArgumentTypeError, IndexRangeError, ShapeError
from .base import Metric, as_array, as_floats, check_same_shape
from .exact import ExactSum


class Mean(Metric):
    """The mean of values, weighted if weights are given.

    >>> loss = Mean()
    >>> loss.update(2.0, weight=30)
    >>> loss.update(5.0, weight=10)
    >>> loss.compute()
    2.75
    """

    def _initial(self):
        return {"total": ExactSum(), "weight": ExactSum()}

    def update(self, value, weight=1.0) -> None:
        """value: any shape; weight: numbers >= 0 of a shape that broadcasts to it."""
        values = as_floats("Mean", "value", value)
        weights = as_floats("Mean", "weight", weight)
        try:
            weights = np.broadcast_to(weights, values.shape)
        except ValueError:
            raise ShapeError(
                f"Mean: weight of shape {weights.shape} does not broadcast to value of shape "
                f"{values.shape}"
            ) from None
        if (weights < 0).any():
            raise ArgumentError("Mean: weights must not be negative")
        _add(self, "total", values * weights)
        _add(self, "weight", weights)

    def compute(self) -> float:
        return self.total.divide(self.weight)


class _MeanError(Metric):
    """The mean of a function of preds - target over all elements."""

    def _initial(self):
        return {"total": ExactSum(), "count": 0}

    def update(self, preds, target) -> None:
        """preds, target: numbers of equal shapes."""
        name = type(self).__name__
        preds, target = as_floats(name, "preds", preds), as_floats(name, "target", target)
        check_same_shape(name, preds, target)
        _add(self, "total", self._error(preds - target))
        self.count += preds.size

    def compute(self) -> float:
        return _mean(self.total, self.count)


class MeanSquaredError(_MeanError):
    """The mean of (preds - target)**2; squared=False gives its square root.

    >>> error = MeanSquaredError()
    >>> error.update([1.0, 2.0], [1.0, 4.0])
    >>> error.compute()
    2.0
    """

    def __init__(self, squared: bool = True):
        self.squared = squared
        super().__init__()

    def _error(self, difference):
        return difference * difference

    def compute(self) -> float:
        mean = super().compute()
        return mean if self.squared else math.sqrt(mean)


class MeanAbsoluteError(_MeanError):
    """The mean of abs(preds - target)."""

    def _error(self, difference):
        return np.abs(difference)


class R2Score(Metric):
    """The share of the variance of target that preds explain: 1 - squared errors / variance.

    1 is perfect, 0 as good as the mean of target; nan for fewer than two samples. A target that
    never changes gives 1 for perfect predictions and else 0.

    >>> score = R2Score()
    >>> score.update([2.5, 0.0, 2.0, 8.0], [3.0, -0.5, 2.0, 7.0])
    >>> round(score.compute(), 4)
    0.9486
    """

    def _initial(self):
        return {"errors": ExactSum(), "total": ExactSum(), "squares": ExactSum(), "count": 0}

    def update(self, preds, target) -> None:
        """preds, target: numbers of equal shapes."""
        preds = as_floats("R2Score", "preds", preds)
        target = as_floats("R2Score", "target", target)
        check_same_shape("R2Score", preds, target)
        _add(self, "errors", (preds - target) ** 2)
        _add(self, "total", target)
        # The squares exactly: the product's rounding error is added too (Dekker's product).
        high, low = _square(target)
        _add(self, "squares", high)
        _add(self, "squares", low)
        self.count += preds.size

    def compute(self) -> float:
        if self.count < 2:
            return float("nan")
        if self.total.special or self.errors.special:
            return float("nan")
        unit = 1 << 1074
        # count * sum(target**2) - sum(target)**2, in whole numbers: no cancellation.
        spread = self.count * self.squares.units * unit - self.total.units**2
        errors = self.errors.units * self.count * unit
        if spread <= 0:
            return 1.0 if errors == 0 else 0.0
        return 1.0 - errors / spread


def _square(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(p, e) with p + e = x * x exactly, where nothing overflows or underflows."""
    product = x * x
    scaled = x * 134217729.0  # 2**27 + 1
    high = scaled - (scaled - x)
    low = x - high
    return product, ((high * high - product) + 2.0 * high * low) + low * low


class Perplexity(Metric):
    """exp of the mean negative log-likelihood of the targets: how many tokens are in the running.

    ignore_index   targets of this value do not count

    >>> perplexity = Perplexity()
    >>> perplexity.update([[0.0, 0.0, 0.0, 0.0]], [2])
    >>> round(perplexity.compute(), 12)
    4.0
    """

    def __init__(self, ignore_index: int | None = None):
        self.ignore_index = ignore_index
        super().__init__()

    def _initial(self):
        return {"total": ExactSum(), "count": 0}

    def update(self, preds, target) -> None:
        """preds: scores before softmax (..., V); target: token numbers of shape (...)."""
        preds, target = as_floats("Perplexity", "preds", preds), as_array(target)
        if target.dtype.kind not in "iu":
            raise ArgumentTypeError(
                f"Perplexity: target must hold token numbers, got dtype {target.dtype}"
            )
        if preds.ndim == 0 or preds.shape[:-1] != target.shape:
            raise ShapeError(
                f"Perplexity: preds must have the shape of target and one last axis more, got "
                f"preds {preds.shape} and target {target.shape}"
            )
        size = preds.shape[-1]
        preds, target = preds.reshape(-1, size), target.reshape(-1)
        if self.ignore_index is not None:
            kept = target != self.ignore_index
            preds, target = preds[kept], target[kept]
        outside = target[(target < 0) | (target >= size)]
        if outside.size:
            raise IndexRangeError(
                f"Perplexity: target holds {outside[0]}, but preds scores the tokens "
                f"0 .. {size - 1}",
                hint=f"ignore_index={outside[0]} leaves such targets out",
            )
        if not target.size:
            return
        shifted = preds - preds.max(axis=1, keepdims=True)
        chosen = np.take_along_axis(shifted, target[:, None].astype(np.int64), axis=1)[:, 0]
        _add(self, "total", np.log(np.exp(shifted).sum(axis=1)) - chosen)
        self.count += target.size

    def compute(self) -> float:
        mean = _mean(self.total, self.count)
        return math.exp(mean) if mean < 709.0 else float("nan" if mean != mean else "inf")


def _add(metric: Metric, name: str, values: np.ndarray) -> None:
    """Add values to a state; the state object itself may be shared with a copy of the metric."""
    part = ExactSum()
    part.add(values)
    setattr(metric, name, getattr(metric, name) + part)


def _mean(total: ExactSum, count: int) -> float:
    whole = ExactSum()
    whole.add(float(count))
    return total.divide(whole)
