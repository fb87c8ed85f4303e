"""Precision: the dtype that parameters and the numbers of batches have while a Trainer runs."""

from __future__ import annotations

from typing import Any

import monograph as mg

from ..core import pytree
from ..core.errors import ArgumentError

DTYPES = {
    "32-true": None,  # as the module and the data are
    "64-true": mg.float64,
    "bf16-true": mg.bfloat16,
    "16-true": mg.float16,
}
_SHORT = {"32": "32-true", "64": "64-true", "bf16": "bf16-true", "16": "16-true"}


class Precision:
    """One of "32-true" (nothing is changed), "64-true", "bf16-true", "16-true"; or 32, 64, ..."""

    def __init__(self, name: Any):
        full = _SHORT.get(str(name), str(name))
        if full not in DTYPES:
            raise ArgumentError(
                f"Trainer: precision must be one of {', '.join(DTYPES)}, got {name!r}"
            )
        self.name = full
        self.dtype = DTYPES[full]

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
