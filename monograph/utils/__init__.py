"""Helpers that stand beside the library: `checkpoint` (recompute activations in backward)."""

from . import checkpoint as checkpoint
