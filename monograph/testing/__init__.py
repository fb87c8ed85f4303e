"""Helpers for tests: comparison by dtype, numeric gradients, whole error messages, random graphs.

samples.py holds example inputs of every op, checks.py what must hold for them; tests/ops runs all
of it for each op of the registry.
"""

from .compare import Comparison, compare
from .comparison import TOLERANCES, as_numpy, assert_close, raises_message
from .gradients import gradcheck, gradgradcheck
from .made import make_tensor
from .random_graphs import Program, random_program
from .scalars import scalar_meaning

__all__ = [
    "Comparison",
    "Program",
    "TOLERANCES",
    "as_numpy",
    "assert_close",
    "compare",
    "gradcheck",
    "gradgradcheck",
    "make_tensor",
    "raises_message",
    "random_program",
    "scalar_meaning",
]
