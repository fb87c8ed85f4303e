"""Metrics: numbers about predictions, gathered over batches and combined exactly.

Start reading at base.py. Metrics take tensors or arrays and give floats or NumPy arrays.
"""

from .base import Metric
from .classification import Accuracy, ConfusionMatrix, F1Score, Precision, Recall
from .exact import ExactSum
from .regression import Mean, MeanAbsoluteError, MeanSquaredError, Perplexity

__all__ = [
    "Accuracy",
    "ConfusionMatrix",
    "ExactSum",
    "F1Score",
    "Mean",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Metric",
    "Perplexity",
    "Precision",
    "Recall",
]
