"""Gradients: backward, grad, Function, hooks' modes, gradcheck, and `functional` jacobians.

The names and meanings of torch.autograd. Transforms of functions are in `monograph.func`.
"""

from .api import autograd_functional as functional
from .api import autograd_graph as graph
from .api import forward_ad
from .api.autograd import backward, detect_anomaly, grad, set_detect_anomaly
from .api.function import Function, once_differentiable
from .api.gradcheck import gradcheck, gradgradcheck
from .api.typed import Variable
from .core.modes import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
    set_multithreading_enabled,
)

__path__: list[str] = []  # so that places.py is asked for torch.autograd's files
__all__ = [
    "Function", "Variable", "backward", "detect_anomaly", "enable_grad", "forward_ad",
    "functional", "grad", "gradcheck", "gradgradcheck", "graph", "inference_mode",
    "is_grad_enabled", "no_grad", "once_differentiable", "set_detect_anomaly", "set_grad_enabled",
    "set_multithreading_enabled",
]  # fmt: skip
