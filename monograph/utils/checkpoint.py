"""Activation checkpointing under PyTorch's name for the module."""

from ..api.checkpointing import checkpoint, checkpoint_sequential, checkpointed

__all__ = ["checkpoint", "checkpoint_sequential", "checkpointed"]
