"""Precision: dtypes of parameters and batches while a Trainer runs, and what steps are cast to."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import monograph as mg

from ..core import pytree
from ..core.errors import ArgumentError

DTYPES = {
    "32-true": None,  # as the module and the data are
    "64-true": mg.float64,
    "bf16-true": mg.bfloat16,
    "16-true": mg.float16,
    "bf16-mixed": None,
    "16-mixed": None,
}
CASTS = {"bf16-mixed": mg.bfloat16, "16-mixed": mg.float16}
_SHORT = {"32": "32-true", "64": "64-true", "bf16": "bf16-mixed", "16": "16-mixed"}


class Precision:
    """One of "32-true" (nothing is changed), "64-true", "bf16-true", "16-true" (all is converted),
    "bf16-mixed", "16-mixed" (steps run under autocast; 16-mixed scales losses); or 32, 64, "bf16",
    16 for short, which are the mixed ones where there are two.
    """

    def __init__(self, name: Any):
        full = _SHORT.get(str(name), str(name))
        if full not in DTYPES:
            raise ArgumentError(
                f"Trainer: precision must be one of {', '.join(DTYPES)}, got {name!r}"
            )
        self.name = full
        self.dtype = DTYPES[full]
        self.scaler = mg.amp.GradScaler("cpu", enabled=full == "16-mixed")

    def module(self, module: Any) -> None:
        """Convert the parameters and buffers of a module."""
        if self.dtype is not None:
            module.to(self.dtype)

    def batch(self, batch: Any) -> Any:
        """The batch with its floating tensors converted."""
        if self.dtype is None:
            return batch

        def convert(x: Any) -> Any:
            if isinstance(x, mg.Tensor) and x.dtype.is_floating_point:
                return x.to(self.dtype)
            return x

        return pytree.tree_map(convert, batch)

    def run(self, step: Any, batch: Any, *rest: Any) -> Any:
        """step(batch, *rest) with the batch converted and under the casts that belong to it."""
        casts = CASTS.get(self.name)
        with nullcontext() if casts is None else mg.autocast("cpu", dtype=casts):
            return step(self.batch(batch), *rest)
