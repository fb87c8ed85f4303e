"""PyTorch's place for `Module`."""

from ..module import Module

__all__ = ["Module"]
