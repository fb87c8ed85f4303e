"""Mixed precision as programs write it: switched off, it works as in PyTorch; on, it is refused.

Automatic casting is not part of this version. For 16-bit training convert the model
(`model.bfloat16()`), or give `Trainer` a `precision`.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

from .core.device import device
from .core.errors import ArgumentError


class autocast:
    """A context or decorator that changes nothing, for programs that switch casting off.

    ArgumentError where it is asked for (`enabled=True`): no operation would be cast.

    >>> with autocast("cpu", enabled=False):
    ...     pass
    """

    def __init__(
        self,
        device_type: Any = "cpu",
        dtype: Any = None,
        enabled: bool = True,
        cache_enabled: bool | None = None,
    ):
        self.device = device(device_type).type
        self.dtype = dtype
        if enabled:
            raise ArgumentError(
                "autocast: this version does not cast operations by itself",
                hint="pass enabled=False, or convert the model with model.bfloat16()",
            )

    def __enter__(self) -> autocast:
        return self

    def __exit__(self, *error: Any) -> None:
        pass

    def __call__(self, function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return wrapper


class GradScaler:
    """A scaler of losses that is switched off, as PyTorch's is where there is no GPU.

    `scale` returns its argument, `step` is `optimizer.step`, and there is no state. A warning says
    so where it was to be on (`enabled=True`).
    """

    def __init__(
        self,
        device: Any = "cuda",
        init_scale: float = 65536.0,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ):
        if enabled:
            warnings.warn(
                "GradScaler is enabled, but there is no GPU: it is switched off",
                UserWarning,
                stacklevel=2,
            )

    def scale(self, outputs: Any) -> Any:
        """`outputs`, as they are."""
        return outputs

    def unscale_(self, optimizer: Any) -> None:
        """Nothing."""

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """optimizer.step(...)"""
        return optimizer.step(*args, **kwargs)

    def update(self, new_scale: Any = None) -> None:
        """Nothing."""

    def get_scale(self) -> float:
        """1.0"""
        return 1.0

    def is_enabled(self) -> bool:
        """False."""
        return False

    def state_dict(self) -> dict:
        """An empty dict."""
        return {}

    def load_state_dict(self, state_dict: dict) -> None:
        """Nothing."""
