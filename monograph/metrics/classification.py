"""Metrics of class predictions: accuracy, precision, recall, F1, confusion matrix.

task "multiclass": preds are class numbers of the shape of target (N, ...), or scores (N, C, ...)
whose largest along axis 1 is the prediction. task "binary": preds are scores of the shape of
target, a prediction of 1 where above `threshold` (0.5 for probabilities; 0 for logits), or 0 and 1.
"""

from __future__ import annotations

import numpy as np

from ..core.errors import ArgumentError, ArgumentTypeError, IndexRangeError, ShapeError
from .base import Metric, as_array, check_same_shape, ratio


class _Classification(Metric):
    """What the metrics of this file share: settings and checked class numbers."""

    def __init__(self, task: str, num_classes: int | None, threshold: float, ignore_index):
        name = type(self).__name__
        if task not in ("multiclass", "binary"):
            raise ArgumentError(f'{name}: task must be "multiclass" or "binary", got {task!r}')
        if num_classes is not None and num_classes < 2:
            raise ArgumentError(f"{name}: num_classes must be at least 2, got {num_classes}")
        self.task = task
        self.num_classes = 2 if task == "binary" else num_classes
        self.threshold = threshold
        self.ignore_index = ignore_index
        super().__init__()

    def _need_num_classes(self, task: str, num_classes: int | None) -> None:
        if task == "multiclass" and num_classes is None:
            raise ArgumentError(f'{type(self).__name__}: task="multiclass" needs num_classes')

    def _scores_or_labels(self, preds, target) -> tuple[np.ndarray, np.ndarray]:
        """(scores (M, C) or class numbers (M,), targets (M,)), ignored targets left out."""
        name = type(self).__name__
        preds, target = as_array(preds), as_array(target)
        binary = self.task == "binary"
        if target.dtype.kind not in ("iubf" if binary else "iu"):
            raise ArgumentTypeError(
                f"{name}: target must hold class numbers, got dtype {target.dtype}"
            )
        if binary:
            check_same_shape(name, preds, target)
            if preds.dtype.kind not in "iub":
                preds = preds > self.threshold
            preds, target = preds.reshape(-1), target.reshape(-1)
        elif preds.ndim == target.ndim + 1:
            expected = target.shape[:1] + preds.shape[1:2] + target.shape[1:]
            if preds.shape != expected:
                raise ShapeError(
                    f"{name}: preds {preds.shape} does not fit target {target.shape}: "
                    "scores have one axis more than target, of the classes, in place 1"
                )
            if self.num_classes not in (None, preds.shape[1]):
                raise ShapeError(
                    f"{name}: preds {preds.shape} scores {preds.shape[1]} classes, but "
                    f"num_classes is {self.num_classes}"
                )
            preds = np.moveaxis(preds, 1, -1).reshape(-1, preds.shape[1])
            target = target.reshape(-1)
        else:
            check_same_shape(name, preds, target)
            if preds.dtype.kind not in "iu":
                raise ArgumentTypeError(
                    f"{name}: preds of the shape of target must hold class numbers, got dtype "
                    f"{preds.dtype}",
                    hint='task="binary" takes one score per target',
                )
            preds, target = preds.reshape(-1), target.reshape(-1)
        if self.ignore_index is not None:
            kept = target != self.ignore_index
            preds, target = preds[kept], target[kept]
        size = preds.shape[1] if preds.ndim == 2 else self.num_classes
        _check_classes(name, "target", target, size)
        if preds.ndim == 1:
            _check_classes(name, "preds", preds, size)
            preds = preds.astype(np.int64)
        return preds, target.astype(np.int64)

    def _labels(self, preds, target) -> tuple[np.ndarray, np.ndarray]:
        """(predicted class numbers (M,), targets (M,))."""
        preds, target = self._scores_or_labels(preds, target)
        return (preds.argmax(axis=1) if preds.ndim == 2 else preds), target

    def _confusion(self, preds, target) -> np.ndarray:
        """Counts (C, C): a row for each true class, a column for each predicted one."""
        preds, target = self._labels(preds, target)
        size = self.num_classes
        return np.bincount(target * size + preds, minlength=size * size).reshape(size, size)


def _check_classes(name: str, argument: str, classes: np.ndarray, size: int | None) -> None:
    outside = classes < 0
    if size is not None:
        outside |= classes >= size
    if classes.dtype.kind == "f":
        outside |= classes != np.floor(classes)
    if outside.any():
        value = classes[outside][0]
        known = "numbers from 0 on" if size is None else f"0 .. {size - 1}"
        raise IndexRangeError(
            f"{name}: {argument} holds {value}, but the classes are {known}",
            hint=f"ignore_index={value} leaves such targets out" if argument == "target" else None,
        )


class Accuracy(_Classification):
    """The share of right predictions.

    task         "multiclass" or "binary" (see the head of this file)
    num_classes  checked if given
    top_k        right if the target is among the k highest scores; of equal scores the lower class
                 comes first. A sample with a nan among its scores is wrong
    threshold    of a binary prediction
    ignore_index targets of this value do not count

    >>> accuracy = Accuracy()
    >>> accuracy.update([[0.1, 0.9], [0.8, 0.2], [0.6, 0.4]], [1, 0, 1])
    >>> accuracy.compute() == 2 / 3
    True
    """

    def __init__(
        self,
        task: str = "multiclass",
        num_classes: int | None = None,
        top_k: int = 1,
        threshold: float = 0.5,
        ignore_index: int | None = None,
    ):
        if top_k < 1:
            raise ArgumentError(f"Accuracy: top_k must be at least 1, got {top_k}")
        self.top_k = top_k
        super().__init__(task, num_classes, threshold, ignore_index)

    def _initial(self):
        return {"correct": 0, "count": 0}

    def update(self, preds, target) -> None:
        preds, target = self._scores_or_labels(preds, target)
        if preds.ndim == 2:
            right = _rank(preds, target) < self.top_k
        elif self.top_k > 1:
            raise ShapeError(
                f"Accuracy: top_k={self.top_k} needs scores of shape (N, C, ...), got class numbers"
            )
        else:
            right = preds == target
        self.correct += int(right.sum())
        self.count += target.size

    def compute(self) -> float:
        return ratio(self.correct, self.count)


def _rank(scores: np.ndarray, target: np.ndarray) -> np.ndarray:
    """How many classes come before the target when sorted by falling score (M,)."""
    own = np.take_along_axis(scores, target[:, None], axis=1)
    lower = np.arange(scores.shape[1]) < target[:, None]
    rank = ((scores > own) | ((scores == own) & lower)).sum(axis=1)
    return np.where((scores != scores).any(axis=1), scores.shape[1], rank)


class _Counts(_Classification):
    """True and false positives and false negatives by class, and an average over classes."""

    def __init__(
        self,
        task: str = "multiclass",
        num_classes: int | None = None,
        average: str | None = "macro",
        threshold: float = 0.5,
        ignore_index: int | None = None,
        zero_division: float = 0.0,
    ):
        average = average or "none"
        if average not in ("macro", "micro", "weighted", "none"):
            raise ArgumentError(
                f'{type(self).__name__}: average must be "macro", "micro", "weighted" or "none", '
                f"got {average!r}"
            )
        self._need_num_classes(task, num_classes)
        self.average = average
        self.zero_division = zero_division
        super().__init__(task, num_classes, threshold, ignore_index)

    def _initial(self):
        return {"matrix": np.zeros((self.num_classes, self.num_classes), dtype=np.int64)}

    def update(self, preds, target) -> None:
        self.matrix = self.matrix + self._confusion(preds, target)

    def compute(self):
        hits = self.matrix.diagonal()
        false_positives = self.matrix.sum(axis=0) - hits
        false_negatives = self.matrix.sum(axis=1) - hits
        if not self.matrix.any():
            return float("nan") if self._is_scalar() else np.full(self.num_classes, np.nan)
        if self.average == "micro" and self.task == "multiclass":
            return float(self._score(hits.sum(), false_positives.sum(), false_negatives.sum()))
        scores = self._score(hits, false_positives, false_negatives)
        if self.task == "binary":
            return float(scores[1])
        if self.average == "none":
            return scores
        if self.average == "macro":
            return float(scores.mean())
        return float(np.average(scores, weights=self.matrix.sum(axis=1)))

    def _is_scalar(self) -> bool:
        return self.task == "binary" or self.average != "none"

    def _score(self, hits, false_positives, false_negatives):
        numerator, denominator = self._quotient(hits, false_positives, false_negatives)
        numerator, denominator = np.asarray(numerator), np.asarray(denominator)
        result = np.full(denominator.shape, float(self.zero_division))
        np.divide(numerator, denominator, out=result, where=denominator != 0)
        return result


class Precision(_Counts):
    """Of the predictions of a class, the share that is right.

    task          "multiclass" or "binary" (the value is that of class 1)
    num_classes   needed for "multiclass"
    average       "macro": the mean over all classes; "weighted": the same, weighted by how many
                  samples a class has; "micro": of the counts of all classes together; "none": an
                  array with a value for each class. Without meaning for "binary"
    threshold     of a binary prediction
    ignore_index  targets of this value do not count
    zero_division the value of a class for which the quotient is 0 / 0

    >>> precision = Precision(num_classes=2, average="none")
    >>> precision.update([0, 0, 1], [0, 1, 1])
    >>> precision.compute().tolist()
    [0.5, 1.0]
    """

    def _quotient(self, hits, false_positives, false_negatives):
        return hits, hits + false_positives


class Recall(_Counts):
    """Of the samples of a class, the share that is found.

    Arguments: see Precision.

    >>> recall = Recall(task="binary")
    >>> recall.update([0.2, 0.7, 0.9], [1, 1, 0])
    >>> recall.compute()
    0.5
    """

    def _quotient(self, hits, false_positives, false_negatives):
        return hits, hits + false_negatives


class F1Score(_Counts):
    """The harmonic mean of precision and recall.

    Arguments: see Precision.

    >>> f1 = F1Score(task="binary")
    >>> f1.update([0.2, 0.7, 0.9], [1, 1, 0])
    >>> f1.compute()
    0.5
    """

    def _quotient(self, hits, false_positives, false_negatives):
        return 2 * hits, 2 * hits + false_positives + false_negatives


class JaccardIndex(_Counts):
    """Intersection over union of predicted and true samples (or pixels) of a class.

    Arguments: see Precision. "macro" gives the mean IoU of segmentation.

    >>> iou = JaccardIndex(num_classes=2, average="none")
    >>> iou.update([[0, 0], [1, 1]], [[0, 1], [1, 1]])
    >>> iou.compute().round(3).tolist()
    [0.5, 0.667]
    """

    def _quotient(self, hits, false_positives, false_negatives):
        return hits, hits + false_positives + false_negatives


class ConfusionMatrix(_Classification):
    """Counts of samples by true class (row) and predicted class (column): int64 (C, C).

    task          "multiclass" or "binary" (C = 2)
    num_classes   needed for "multiclass"
    normalize     "true": each row adds up to 1; "pred": each column; "all": all together. A row
                  or column without samples is all zero. The result is float64 then
    threshold     of a binary prediction
    ignore_index  targets of this value do not count

    >>> matrix = ConfusionMatrix(num_classes=2)
    >>> matrix.update([0, 1, 1], [0, 0, 1])
    >>> matrix.compute().tolist()
    [[1, 1], [0, 1]]
    """

    def __init__(
        self,
        task: str = "multiclass",
        num_classes: int | None = None,
        normalize: str | None = None,
        threshold: float = 0.5,
        ignore_index: int | None = None,
    ):
        if normalize not in (None, "true", "pred", "all"):
            raise ArgumentError(
                f'ConfusionMatrix: normalize must be None, "true", "pred" or "all", '
                f"got {normalize!r}"
            )
        self._need_num_classes(task, num_classes)
        self.normalize = normalize
        super().__init__(task, num_classes, threshold, ignore_index)

    def _initial(self):
        return {"matrix": np.zeros((self.num_classes, self.num_classes), dtype=np.int64)}

    def update(self, preds, target) -> None:
        self.matrix = self.matrix + self._confusion(preds, target)

    def compute(self) -> np.ndarray:
        if self.normalize is None:
            return self.matrix.copy()
        axis = {"true": 1, "pred": 0, "all": None}[self.normalize]
        whole = self.matrix.sum(axis=axis, keepdims=True)
        return self.matrix / np.maximum(whole, 1)
