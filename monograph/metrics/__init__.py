"""Metrics: numbers about predictions, gathered over batches and combined exactly.

Start reading at base.py. Metrics take tensors or arrays and give floats or NumPy arrays.
"""

from .base import Metric
from .calibration import CalibrationError
from .classification import (
    Accuracy,
    ConfusionMatrix,
    F1Score,
    JaccardIndex,
    Precision,
    Recall,
)
from .exact import ExactSum
from .ranking import AUROC, AveragePrecision
from .regression import Mean, MeanAbsoluteError, MeanSquaredError, Perplexity, R2Score
from .translation import BLEU

__all__ = [
    "AUROC",
    "Accuracy",
    "AveragePrecision",
    "BLEU",
    "CalibrationError",
    "ConfusionMatrix",
    "ExactSum",
    "F1Score",
    "JaccardIndex",
    "Mean",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Metric",
    "Perplexity",
    "Precision",
    "R2Score",
    "Recall",
]
