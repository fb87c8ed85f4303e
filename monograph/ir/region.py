"""Regions: graphs that an op holds, as the bodies of loops and branches (transform/control.py).

A region is an immutable value: two are equal if they do the same. Its inputs are all that it reads;
constants are for small literals only.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .evaluate import evaluate
from .graph import Graph, Value
from .op import Aval


class Region:
    """A graph as a parameter of an op. The graph must not be changed any more."""

    __slots__ = ("graph", "_key", "_hash", "derived")

    def __init__(self, graph: Graph):
        self.graph = graph
        self._key: Any = None
        self._hash: int | None = None
        self.derived: dict[Any, Any] = {}  # what transforms made of it

    @property
    def inputs(self) -> list[Aval]:
        return [v.aval for v in self.graph.inputs]

    @property
    def outputs(self) -> list[Aval]:
        return [v.aval for v in self.graph.outputs]

    def evaluate(self, *arrays: Any) -> list[Any]:
        """The slow meaning (ir/evaluate.py)."""
        return evaluate(self.graph, *arrays)

    def _structure(self) -> Any:
        if self._key is None:
            graph = self.graph
            number: dict[Value, int] = {}
            for v in (*graph.inputs, *graph.constants):
                number[v] = len(number)
            steps = []
            for node in graph.nodes:
                reads = tuple(
                    number[i] if isinstance(i, Value) else (type(i), repr(i)) for i in node.inputs
                )
                steps.append((node.op, reads))
                for v in node.outputs:
                    number[v] = len(number)
            self._key = (
                tuple(self.inputs),
                tuple((v.aval, np.asarray(a).tobytes()) for v, a in graph.constants.items()),
                tuple(steps),
                tuple(number[v] for v in graph.outputs),
            )
        return self._key

    def __eq__(self, other: Any) -> bool:
        if self is other:
            return True
        if not isinstance(other, Region):
            return NotImplemented
        return hash(self) == hash(other) and self._structure() == other._structure()

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(self._structure())
        return self._hash

    def __repr__(self) -> str:
        kinds = ", ".join(f"{a!r}" for a in self.inputs)
        made = ", ".join(f"{a!r}" for a in self.outputs)
        return f"<region ({kinds}) -> ({made}), {len(self.graph.nodes)} nodes>"


def regions_of(op: Any) -> list[Region]:
    """The regions that an op holds."""
    return [x for x in vars(op).values() if isinstance(x, Region)]
