"""Metrics of how scores rank samples: area under the ROC curve, average precision.

All scores are kept, as arrays, so that the values are exact: counts of samples above each distinct
score, whatever the batches were.
"""

from __future__ import annotations

import numpy as np

from ..core.errors import ArgumentError, ArgumentTypeError, IndexRangeError, ShapeError
from .base import Metric, as_array, as_floats

_PARTS = 512  # arrays kept apart before they are joined


class _Ranking(Metric):
    """What both share: scores and targets, binary or one class against the rest."""

    def __init__(
        self,
        task: str = "binary",
        num_classes: int | None = None,
        average: str | None = "macro",
        ignore_index: int | None = None,
    ):
        name = type(self).__name__
        if task not in ("binary", "multiclass", "multilabel"):
            raise ArgumentError(
                f'{name}: task must be "binary", "multiclass" or "multilabel", got {task!r}'
            )
        if task != "binary" and (num_classes is None or num_classes < 2):
            raise ArgumentError(f"{name}: task={task!r} needs num_classes, at least 2")
        average = average or "none"
        if average not in ("macro", "weighted", "none"):
            raise ArgumentError(
                f'{name}: average must be "macro", "weighted" or "none", got {average!r}'
            )
        self.task, self.num_classes = task, num_classes
        self.average, self.ignore_index = average, ignore_index
        super().__init__()

    def _initial(self):
        return {"scores": [], "targets": []}

    def update(self, preds, target) -> None:
        """preds: scores (any that grow with the chance of the class) of the shape of target, or
        (N, C) for several classes; target: 0 and 1, or class numbers (N,) for "multiclass"."""
        name = type(self).__name__
        preds, target = as_floats(name, "preds", preds), as_array(target)
        if target.dtype.kind not in "iub":
            raise ArgumentTypeError(
                f"{name}: target must hold class numbers, got dtype {target.dtype}"
            )
        columns = self.num_classes or 1
        if self.task == "multiclass":
            if preds.shape != (*target.shape, columns):
                raise ShapeError(
                    f"{name}: preds must be scores of shape {(*target.shape, columns)} for target "
                    f"{target.shape}, got {preds.shape}"
                )
        elif preds.shape != target.shape or (columns > 1 and preds.shape[-1:] != (columns,)):
            raise ShapeError(
                f"{name}: preds and target must have one shape"
                + (f" that ends with {columns}" if columns > 1 else "")
                + f", got {preds.shape} and {target.shape}"
            )
        preds = preds.reshape(-1, columns)
        target = target.reshape(-1, 1 if self.task == "multiclass" else columns)
        if self.ignore_index is not None:
            kept = (target != self.ignore_index).all(axis=1)
            preds, target = preds[kept], target[kept]
        high = columns if self.task == "multiclass" else 2
        if ((target < 0) | (target >= high)).any():
            raise IndexRangeError(f"{name}: target must hold 0 .. {high - 1}, got {target.max()}")
        if np.isnan(preds).any():
            raise ArgumentError(f"{name}: preds holds nan, which cannot be ranked")
        if self.task == "multiclass":
            target = target == np.arange(columns)
        self.scores = _joined([*self.scores, preds])
        self.targets = _joined([*self.targets, target.astype(bool)])

    def compute(self):
        columns = self.num_classes or 1
        scores = np.concatenate([np.empty((0, columns)), *self.scores])
        targets = np.concatenate([np.empty((0, columns), bool), *self.targets])
        values = np.array([self._value(s, t) for s, t in zip(scores.T, targets.T)])
        if self.task == "binary":
            return float(values[0])
        if self.average == "none":
            return values
        if self.average == "macro":
            return float(values.mean())
        return float(np.average(values, weights=targets.sum(axis=0)))

    def _value(self, scores, targets) -> float:
        raise NotImplementedError(f"{type(self).__name__} must define _value")


def _joined(parts: list) -> list:
    return [np.concatenate(parts)] if len(parts) > _PARTS else parts


def _counts(scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(positives, samples) with a score at least as high as each distinct one, falling."""
    order = np.argsort(-scores, kind="stable")
    scores, targets = scores[order], targets[order]
    last = np.append(scores[1:] != scores[:-1], True)
    return np.cumsum(targets)[last], np.flatnonzero(last) + 1


class AUROC(_Ranking):
    """Area under the ROC curve: the chance that a positive scores above a negative (ties: half).

    task          "binary"; "multiclass" (each class against the rest) or "multilabel"
    num_classes   needed for the latter two
    average       over classes: "macro", "weighted" by their positives, or "none": an array
    ignore_index  targets of this value do not count

    nan where there are no positives or no negatives. Memory grows with the samples.

    >>> auroc = AUROC()
    >>> auroc.update([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
    >>> auroc.compute()
    0.75
    """

    def _value(self, scores, targets) -> float:
        positives, negatives = int(targets.sum()), int((~targets).sum())
        if not positives or not negatives:
            return float("nan")
        hits, above = _counts(scores, targets)
        misses = above - hits
        hits, misses = np.append(0, hits).astype(float), np.append(0, misses).astype(float)
        # Trapezoids with whole corners: exact sums of integers below 2**53, one division.
        area = ((hits[1:] + hits[:-1]) * np.diff(misses)).sum()
        return float(area / 2.0 / positives / negatives)


class AveragePrecision(_Ranking):
    """The mean precision over the ranks of the positives: sum of precision * gain in recall.

    Arguments: see AUROC. nan where there are no positives.

    >>> precision = AveragePrecision()
    >>> precision.update([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
    >>> round(precision.compute(), 12)
    0.833333333333
    """

    def _value(self, scores, targets) -> float:
        positives = int(targets.sum())
        if not positives:
            return float("nan")
        hits, above = _counts(scores, targets)
        gains = np.diff(np.append(0, hits))
        return float((gains * (hits / above)).sum() / positives)
