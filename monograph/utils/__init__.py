"""Helpers beside the library: `checkpoint` (recompute activations in backward), and `data`."""

from . import checkpoint as checkpoint
from . import data as data
