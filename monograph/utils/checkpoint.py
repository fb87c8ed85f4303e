"""Activation checkpointing under PyTorch's name for the module."""

from ..api.checkpointing import checkpoint, checkpoint_sequential, checkpointed, noop_context_fn
from ..api.selective import (
    CheckpointPolicy,
    SelectiveCheckpointContext,
    create_selective_checkpoint_contexts,
)

__all__ = [
    "CheckpointPolicy", "SelectiveCheckpointContext", "checkpoint", "checkpoint_sequential",
    "checkpointed", "create_selective_checkpoint_contexts", "noop_context_fn",
]  # fmt: skip
