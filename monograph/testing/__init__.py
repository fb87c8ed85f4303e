"""Helpers for tests: comparison by dtype, numeric gradients, whole error messages, random graphs.

samples.py holds example inputs of every op, checks.py what must hold for them; tests/ops runs all
of it for each op of the registry.
"""

from .comparison import TOLERANCES, as_numpy, assert_close, raises_message
from .gradients import gradcheck, gradgradcheck
from .scalars import scalar_meaning

__all__ = [
    "TOLERANCES",
    "as_numpy",
    "assert_close",
    "gradcheck",
    "gradgradcheck",
    "raises_message",
    "scalar_meaning",
]
