"""Complex numbers in a compiled graph: NumPy computes with them, between the native parts.

What reads or writes a complex value becomes a `WithNumPy` op, for which there is no kernel, so that
no later pass looks inside or fuses it.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from ..core.dtype import COMPLEX
from ..ir.graph import Graph, Node, Value
from ..ir.op import Op, Opaque
from ..ir.region import regions_of


class WithNumPy(Opaque):
    """An op as its NumPy meaning."""

    def __init__(self, op: Op):
        self.op = op
        self.name = f"numpy_{op.name}"  # type: ignore[misc]
        self.n_outputs = op.n_outputs  # type: ignore[misc]

    __dataclass_fields__: dict[str, dataclasses.Field] = {}

    def infer(self, *args: Any) -> Any:
        return self.op.infer(*args)

    def reference(self, *arrays: Any) -> Any:
        return self.op.reference(*arrays)

    def params(self) -> str:
        return self.op.params()

    def __eq__(self, other: object) -> bool:
        return type(other) is WithNumPy and self.op == other.op

    def __hash__(self) -> int:
        return hash((WithNumPy, self.op))


def leave_complex_to_numpy(graph: Graph) -> Graph:
    """Make opaque whatever reads or writes complex numbers.

    Before:  graph(%0: c64[3])
             %1: f32[3] = abs(%0)
             %2: f32[3] = exp(%1)
             return %2
    After:   graph(%0: c64[3])
             %1: f32[3] = numpy_abs(%0)
             %2: f32[3] = exp(%1)
             return %2
    Loops and branches stay: the pass runs on their bodies, too.
    """
    if not any(_is_complex(n) for n in graph.nodes):
        return graph
    result = graph.copy(())
    env: dict[Value, Value] = {}
    for node in graph.nodes:
        inputs = tuple(env.get(i, i) if isinstance(i, Value) else i for i in node.inputs)
        op = WithNumPy(node.op) if _is_complex(node) and not regions_of(node.op) else node.op
        if op is node.op and inputs == node.inputs:
            result.nodes.append(node)
            continue
        made = Node(op, inputs, node.place)
        result.nodes.append(made)
        env.update(zip(node.outputs, made.outputs))
    result.outputs = [env.get(v, v) for v in graph.outputs]
    return result


def _is_complex(node: Node) -> bool:
    if type(node.op) is WithNumPy:
        return False
    return any(v.dtype.category == COMPLEX for v in (*node.values, *node.outputs))
