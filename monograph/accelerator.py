"""What programs ask about GPUs and the like without naming a kind: there is none here."""

from __future__ import annotations

from typing import Any

from .core.errors import DeviceError

__all__ = [
    "current_accelerator", "current_device_index", "device_count", "empty_cache", "is_available",
    "max_memory_allocated", "memory_allocated", "memory_reserved", "set_device_index",
    "synchronize",
]  # fmt: skip


def is_available() -> bool:
    """False."""
    return False


def device_count() -> int:
    """0."""
    return 0


def current_accelerator(check_available: bool = False) -> None:
    """None: there is no accelerator."""


def current_device_index() -> int:
    """DeviceError: there is no accelerator."""
    raise DeviceError("accelerator: no device is available; this build computes on 'cpu'")


def set_device_index(device: Any) -> None:
    """DeviceError: there is no accelerator."""
    current_device_index()


def synchronize(device: Any = None) -> None:
    """Nothing: operations are done when they return."""


def empty_cache() -> None:
    """Nothing: no device holds memory."""


def memory_allocated(device: Any = None) -> int:
    """0: no device holds memory."""
    return 0


max_memory_allocated = memory_reserved = max_memory_reserved = memory_allocated
