"""Tensors of the device "meta": a shape and a dtype without elements.

Their payloads are symbols, as in a capture, of a trace that is always there and keeps nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.dtype import BY_NUMPY
from ..core.errors import DeviceError
from ..ir.graph import Value
from ..ir.op import Aval
from .trace import Symbol


class _Shapes:
    """The trace of tensors without elements: gives the shapes of results, and forgets the op."""

    active = True

    def symbol(self, aval: Aval) -> Symbol:
        return Symbol(self, Value(aval))  # type: ignore[arg-type]

    def record(self, op: Any, payloads: list[Any]) -> Any:
        avals = op.infer(*(_seen(p) for p in payloads))
        if op.n_outputs == 1:
            return self.symbol(avals)
        return [self.symbol(a) for a in avals]


def _seen(p: Any) -> Any:
    if isinstance(p, Symbol):
        return p.value.aval
    if isinstance(p, np.ndarray):
        return Aval(tuple(p.shape), BY_NUMPY[p.dtype])
    return p


META = _Shapes()


def is_meta(payload: Any) -> bool:
    """Whether a tensor with this payload has a shape only."""
    return type(payload) is Symbol and payload.trace is META  # type: ignore[comparison-overlap]


def no_elements(operation: str) -> DeviceError:
    """The error for an operation that needs the elements of a tensor without them."""
    return DeviceError(
        f"{operation}: a tensor of the device 'meta' has no elements",
        hint="make it on the CPU, or give a module memory with to_empty(device='cpu')",
    )
