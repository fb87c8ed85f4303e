"""What programs ask about CUDA devices before they choose one: there are none, 0.1 is for the CPU.

device = "cuda" if mg.cuda.is_available() else "cpu"
"""

from __future__ import annotations

from typing import Any

from ..core.errors import DeviceError
from . import amp as amp


def is_available() -> bool:
    """False."""
    return False


def is_bf16_supported() -> bool:
    """False."""
    return False


def device_count() -> int:
    """0."""
    return 0


def manual_seed(seed: int) -> None:
    """Nothing: there is no device to seed. `mg.manual_seed` seeds the CPU."""


manual_seed_all = manual_seed


def empty_cache() -> None:
    """Nothing: no device holds memory."""


def synchronize(device: Any = None) -> None:
    """Nothing: no device has work in progress."""


def _missing(name: str) -> Any:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise DeviceError(f"cuda.{name}: no CUDA device is available; this build computes on 'cpu'")

    refuse.__name__ = name
    return refuse


current_device = _missing("current_device")
get_device_name = _missing("get_device_name")
get_device_properties = _missing("get_device_properties")
set_device = _missing("set_device")
