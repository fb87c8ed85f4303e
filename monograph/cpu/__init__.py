"""The CPU, asked for like a device: programs that work on several kinds choose a module by name."""

from __future__ import annotations

from typing import Any

from . import amp as amp


def is_available() -> bool:
    """True."""
    return True


def device_count() -> int:
    """1."""
    return 1


def current_device() -> str:
    """ "cpu"."""
    return "cpu"


def set_device(device: Any) -> None:
    """Nothing: there is one CPU."""


def synchronize(device: Any = None) -> None:
    """Nothing: operations are done when they return."""
