"""PyTorch's place for the classes of `monograph.nn`."""

from typing import Any

from ... import nn as _nn
from ..module import Module
from . import module as module

__all__ = ["Module", "module"]


def __getattr__(name: str) -> Any:
    if name[0].isupper() and hasattr(_nn, name):
        return getattr(_nn, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
