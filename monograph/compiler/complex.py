"""Complex numbers in a compiled graph: NumPy computes with them, between the native parts.

What reads or writes a complex value becomes a `WithNumPy` op, for which there is no kernel, so that
no later pass looks inside or fuses it.
"""

from __future__ import annotations

from ..core.dtype import COMPLEX
from ..ir.graph import Graph, Node, Value
from ..ir.op import WithNumPy
from ..ir.region import regions_of


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
