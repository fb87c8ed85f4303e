"""The slow meaning of a graph: each op's NumPy reference, in order. The judge of the compiler."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.errors import ArgumentError
from .graph import Graph, Value


def evaluate(graph: Graph, *arrays: Any) -> list[Any]:
    """The outputs' arrays for the inputs' `arrays`."""
    if len(arrays) != len(graph.inputs):
        raise ArgumentError(f"evaluate: {len(graph.inputs)} inputs needed, got {len(arrays)}")
    env: dict[Value, Any] = dict(graph.constants)
    for v, a in zip(graph.inputs, arrays):
        a = np.asarray(a)
        if tuple(a.shape) != v.shape or a.dtype != v.dtype.numpy:
            raise ArgumentError(f"evaluate: input {v!r} got {a.dtype}{a.shape}")
        env[v] = a
    for node in graph.nodes:
        results = node.op.reference(*(env[v] if isinstance(v, Value) else v for v in node.inputs))
        for v, r in zip(node.outputs, results if node.op.n_outputs > 1 else (results,)):
            env[v] = as_array(r, v.aval)
    return [env[v] for v in graph.outputs]


def as_array(result: Any, aval: Any) -> Any:
    """A reference's result as an array of exactly the inferred dtype."""
    return np.asarray(result, dtype=aval.dtype.numpy)
