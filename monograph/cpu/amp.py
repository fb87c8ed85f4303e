"""autocast as older programs name it for the CPU."""

from __future__ import annotations

from typing import Any

from .. import amp as _amp
from ..amp import GradScaler as _GradScaler

__all__ = ["GradScaler", "autocast"]


class autocast(_amp.autocast):
    """amp.autocast("cpu", ...)."""

    def __init__(self, enabled: bool = True, dtype: Any = None, cache_enabled: bool = True):
        super().__init__("cpu", dtype, enabled, cache_enabled)


class GradScaler(_GradScaler):
    """amp.GradScaler("cpu", ...)."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__("cpu", *args, **kwargs)
