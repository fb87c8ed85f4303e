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

    refuse.__name__, refuse.__doc__ = name, "DeviceError: there is no CUDA device."
    return refuse


current_device = _missing("current_device")
get_device_name = _missing("get_device_name")
get_device_properties = _missing("get_device_properties")
set_device = _missing("set_device")


def is_initialized() -> bool:
    """False."""
    return False


def init() -> None:
    """Nothing: there is no device."""


def ipc_collect() -> None:
    """Nothing: no device holds memory."""


def memory_allocated(device: Any = None) -> int:
    """0: no device holds memory."""
    return 0


max_memory_allocated = memory_reserved = max_memory_reserved = memory_allocated


def reset_peak_memory_stats(device: Any = None) -> None:
    """Nothing: no device holds memory."""


def get_arch_list() -> list[str]:
    """[]: nothing is compiled for a GPU."""
    return []


get_device_capability = _missing("get_device_capability")
mem_get_info = _missing("mem_get_info")
current_stream = _missing("current_stream")
Stream = _missing("Stream")
Event = _missing("Event")
