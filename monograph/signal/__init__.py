"""Signal processing with PyTorch's names: window functions."""

from . import windows

__all__ = ["windows"]
