"""Losses and metrics by name, each a number per sample: (N,) out of predictions and targets.

A loss given as a function of (predictions, targets) may also return one number for the batch;
sample weights need one per sample.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import monograph as mg

from ..core.errors import ArgumentError, ShapeError
from ..nn import functional as F

_TINY = 1e-7


def _rows(x: Any) -> Any:
    """The mean over all axes but the batch."""
    return x.reshape(x.shape[0], -1).mean(1) if x.ndim > 1 else x


def _alike(name: str, preds: Any, target: Any) -> Any:
    """Target in the shape and dtype of preds; (N,) and (N, 1) are the same."""
    if preds.shape != target.shape:
        if preds.numel() != target.numel():
            raise ShapeError(
                f"{name}: predictions are {tuple(preds.shape)}, targets {tuple(target.shape)}"
            )
        target = target.reshape(preds.shape)
    return target.to(preds.dtype)


def mean_squared_error(preds: Any, target: Any) -> Any:
    return _rows((preds - _alike("mean_squared_error", preds, target)) ** 2)


def mean_absolute_error(preds: Any, target: Any) -> Any:
    return _rows((preds - _alike("mean_absolute_error", preds, target)).abs())


def huber(preds: Any, target: Any) -> Any:
    return _rows(F.huber_loss(preds, _alike("huber", preds, target), reduction="none"))


def cross_entropy(preds: Any, target: Any) -> Any:
    """Of scores (N, C, ...) before softmax and class numbers (or probabilities)."""
    if target.dtype.is_floating_point and target.shape != preds.shape:
        target = target.to(mg.int64)
    return _rows(F.cross_entropy(preds, target, reduction="none"))


def sparse_categorical_crossentropy(preds: Any, target: Any) -> Any:
    """Of probabilities (N, C) and class numbers."""
    return _rows(F.nll_loss(preds.clamp(_TINY, 1.0).log(), target.to(mg.int64), reduction="none"))


def categorical_crossentropy(preds: Any, target: Any) -> Any:
    """Of probabilities (N, C) and target probabilities (N, C)."""
    target = _alike("categorical_crossentropy", preds, target)
    return _rows(-(target * preds.clamp(_TINY, 1.0).log()).sum(1))


def binary_crossentropy(preds: Any, target: Any) -> Any:
    """Of probabilities and 0 or 1."""
    target = _alike("binary_crossentropy", preds, target)
    preds = preds.clamp(_TINY, 1.0 - _TINY)
    return _rows(-(target * preds.log() + (1 - target) * (1 - preds).log()))


def binary_crossentropy_with_logits(preds: Any, target: Any) -> Any:
    """Of scores before sigmoid and 0 or 1."""
    target = _alike("binary_crossentropy_with_logits", preds, target)
    return _rows(F.binary_cross_entropy_with_logits(preds, target, reduction="none"))


def accuracy(preds: Any, target: Any) -> Any:
    """Right or not: of class scores, or of one probability above a half."""
    if preds.ndim > target.ndim:
        if preds.shape[1] > 1:
            return _rows((preds.argmax(1) == target.to(mg.int64)).float())
        preds = preds.reshape(target.shape)
    elif preds.shape == target.shape and preds.ndim > 1 and preds.shape[1] > 1:
        return (preds.argmax(1) == target.argmax(1)).float()
    return _rows(((preds > 0.5) == (target.reshape(preds.shape) > 0.5)).float())


LOSSES: dict[str, Callable] = {
    "mse": mean_squared_error,
    "mae": mean_absolute_error,
    **{
        f.__name__: f
        for f in (
            mean_squared_error,
            mean_absolute_error,
            huber,
            cross_entropy,
            sparse_categorical_crossentropy,
            categorical_crossentropy,
            binary_crossentropy,
            binary_crossentropy_with_logits,
        )
    },
}
METRICS: dict[str, Callable] = {"accuracy": accuracy, "acc": accuracy, **LOSSES}


def by_name(what: str, given: Any, known: dict[str, Callable]) -> Callable:
    """The function of a name, or the function itself."""
    if callable(given):
        return given
    if given not in known:
        raise ArgumentError(
            f"compile: there is no {what} {given!r}; there are {', '.join(sorted(known))}"
        )
    return known[given]
