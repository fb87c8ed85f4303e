"""What distributions share: parameters that broadcast, probabilities and logits."""

from __future__ import annotations

from typing import Any

import numpy as np

import monograph as mg
from monograph.api.sampling import standard_gamma
from monograph.core.errors import ArgumentTypeError
from monograph.core.modes import modes
from monograph.core.shape import is_number
from monograph.nn import functional as F
from monograph.ops.gamma_gradient import gamma_shape_gradient
from monograph.tensor import Tensor

__all__ = ["broadcast_all", "clamp_probs", "lazy_property", "logits_to_probs", "probs_to_logits"]

euler_constant = 0.57721566490153286060


def broadcast_all(*values: Any) -> tuple[Any, ...]:
    """Tensors and numbers as tensors of one shape; numbers take the dtype of the first tensor."""
    for v in values:
        if not isinstance(v, Tensor) and not is_number(v):
            raise ArgumentTypeError(
                f"a parameter must be a tensor or a number, got {type(v).__name__}"
            )
    tensors = [v for v in values if isinstance(v, Tensor)]
    dtype = tensors[0].dtype if tensors else mg.get_default_dtype()
    if not dtype.is_floating_point and not all(isinstance(v, Tensor) for v in values):
        dtype = mg.get_default_dtype()
    made = [v if isinstance(v, Tensor) else mg.tensor(v, dtype=dtype) for v in values]
    return tuple(mg.broadcast_tensors(*made))


def is_known(x: Any) -> bool:
    """Whether elements of x can be looked at: not while capturing or inside vmap."""
    return not isinstance(x, Tensor) or type(x._value()) is np.ndarray


def sum_rightmost(value: Any, count: int) -> Any:
    """Sum over the last `count` dimensions."""
    return value.sum(tuple(range(-count, 0))) if count else value


def logits_to_probs(logits: Any, is_binary: bool = False) -> Any:
    """Probabilities: sigmoid of logits, or softmax along the last dimension."""
    return mg.sigmoid(logits) if is_binary else F.softmax(logits, -1)


def clamp_probs(probs: Any) -> Any:
    """Probabilities kept away from 0 and 1 by the machine epsilon."""
    eps = mg.finfo(probs.dtype).eps
    return probs.clamp(eps, 1 - eps)


def probs_to_logits(probs: Any, is_binary: bool = False) -> Any:
    """Logits of probabilities: log odds, or logarithms."""
    clamped = clamp_probs(probs)
    return mg.log(clamped) - mg.log1p(-clamped) if is_binary else mg.log(clamped)


class lazy_property:
    """An attribute that is computed when it is first read."""

    def __init__(self, compute: Any):
        self.compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: Any, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        with mg.enable_grad():
            value = self.compute(instance)
        if modes.trace is None and modes.vmap is None:  # else it must not outlive them
            setattr(instance, self.name, value)
        return value


def gamma_numbers(concentration: Any) -> Any:
    """Gamma numbers of rate 1 with a gradient for their shape parameter."""
    made = standard_gamma(concentration)
    if not mg.is_grad_enabled() or not concentration.requires_grad:
        return made
    still = concentration.detach()
    slope = gamma_shape_gradient(still, made)
    return made + slope * (concentration - still)
