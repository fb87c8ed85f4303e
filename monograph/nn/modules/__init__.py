"""PyTorch's place for the classes of `monograph.nn`."""

from ..module import Module
from . import module as module

__all__ = ["Module", "module"]
