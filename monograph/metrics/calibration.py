"""Whether probabilities mean what they say."""

from __future__ import annotations

import numpy as np

from ..core.errors import ArgumentError, ArgumentTypeError, ShapeError
from .base import Metric, as_array, as_floats

_UNIT = 2.0**40  # confidences add up as whole numbers of 2**-40


class CalibrationError(Metric):
    """How far confidences are from the share of right predictions, over bins of confidence.

    n_bins   bins of equal width in [0, 1]; the upper edge belongs to a bin
    norm     "l1": the mean distance, weighted by samples (expected calibration error); "l2": its
             root mean square; "max": the largest
    update   preds: probabilities (N, C), or (N,) of class 1; target: class numbers (N,)

    Source: Guo et al., "On Calibration of Modern Neural Networks" (2017).

    >>> error = CalibrationError(n_bins=5)
    >>> error.update([[0.9, 0.1], [0.9, 0.1]], [0, 1])
    >>> round(error.compute(), 6)
    0.4
    """

    def __init__(self, n_bins: int = 15, norm: str = "l1"):
        if norm not in ("l1", "l2", "max"):
            raise ArgumentError(f'CalibrationError: norm must be "l1", "l2" or "max", got {norm!r}')
        if n_bins < 1:
            raise ArgumentError(f"CalibrationError: n_bins must be at least 1, got {n_bins}")
        self.n_bins, self.norm = n_bins, norm
        super().__init__()

    def _initial(self):
        zeros = np.zeros(self.n_bins, dtype=np.int64)
        return {"count": zeros, "right": zeros, "confidence": zeros}

    def update(self, preds, target) -> None:
        preds, target = as_floats("CalibrationError", "preds", preds), as_array(target)
        if target.dtype.kind not in "iub":
            raise ArgumentTypeError(
                f"CalibrationError: target must hold class numbers, got dtype {target.dtype}"
            )
        if preds.ndim == target.ndim == 1 and preds.shape == target.shape:
            preds = np.stack([1.0 - preds, preds], axis=1)
        if preds.ndim != 2 or preds.shape[:1] != target.shape:
            raise ShapeError(
                "CalibrationError: preds must be (N, C) or (N,) for target (N,), got "
                f"{preds.shape} and {target.shape}"
            )
        if not ((preds >= 0) & (preds <= 1 + 1e-6)).all():
            raise ArgumentError(
                "CalibrationError: preds must hold probabilities in [0, 1]",
                hint="softmax turns scores into probabilities",
            )
        confidence = preds.max(axis=1)
        right = preds.argmax(axis=1) == target
        bins = np.clip(np.ceil(confidence * self.n_bins).astype(np.int64) - 1, 0, self.n_bins - 1)
        size = self.n_bins
        whole = np.rint(confidence * _UNIT).astype(np.int64)
        sums = np.zeros(size, dtype=np.int64)
        np.add.at(sums, bins, whole)
        self.count = self.count + np.bincount(bins, minlength=size)
        self.right = self.right + np.bincount(bins[right], minlength=size)
        self.confidence = self.confidence + sums

    def compute(self) -> float:
        total = int(self.count.sum())
        if not total:
            return float("nan")
        used = self.count > 0
        count = self.count[used]
        distance = np.abs(self.right[used] / count - self.confidence[used] / _UNIT / count)
        if self.norm == "max":
            return float(distance.max())
        if self.norm == "l2":
            return float(np.sqrt((distance**2 * count).sum() / total))
        return float((distance * count).sum() / total)
