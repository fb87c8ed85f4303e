"""PyTorch's place for the classes of `monograph.nn`, and for the bases that programs ask for."""

from importlib import import_module
from typing import Any

from ... import nn as _nn
from ..conv import _Conv, _ConvTranspose
from ..dropout import _Dropout
from ..loss import _Loss as _Loss
from ..loss import _WeightedLoss as _WeightedLoss
from ..module import Module
from ..norm import _BatchNorm as _BatchNorm
from ..norm import _InstanceNorm as _InstanceNorm
from ..norm import _RunningNorm
from ..pooling import _AdaptiveAvgPool, _AdaptiveMaxPool, _AvgPool, _MaxPool
from . import module as module
from . import utils as utils

__all__ = ["Module", "module"]

_ConvNd, _ConvTransposeNd, _NormBase, _DropoutNd = _Conv, _ConvTranspose, _RunningNorm, _Dropout
_MaxPoolNd, _AvgPoolNd = _MaxPool, _AvgPool
_AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd = _AdaptiveAvgPool, _AdaptiveMaxPool
NonDynamicallyQuantizableLinear = _nn.Linear


def __getattr__(name: str) -> Any:
    if name[0].isupper() and hasattr(_nn, name):
        return getattr(_nn, name)
    if name[0] != "_" and name.islower():
        try:
            return import_module(f"{__name__}.{name}")  # nn.modules.batchnorm (places.py)
        except ModuleNotFoundError:
            pass
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
