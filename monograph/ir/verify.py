"""Check that a graph is well formed: every value defined once before use, every aval as
inferred."""

from __future__ import annotations

from ..core.errors import GraphError
from .graph import Graph, Value
from .region import regions_of


def verify(graph: Graph, after: str = "") -> Graph:
    """The graph itself, or GraphError that says what is wrong (`after` names the pass before)."""
    where = f" after {after}" if after else ""
    defined: set[Value] = set(graph.inputs) | set(graph.constants)
    if len(defined) != len(graph.inputs) + len(graph.constants):
        raise GraphError(f"verify{where}: an input or constant is listed twice")
    for v, array in graph.constants.items():
        if tuple(array.shape) != v.shape or array.dtype != v.dtype.numpy:
            raise GraphError(f"verify{where}: constant {v!r} holds {array.dtype}{array.shape}")
    for i, node in enumerate(graph.nodes):
        for v in node.values:
            if v not in defined:
                raise GraphError(f"verify{where}: node {i} {node!r} reads {v!r} before it is made")
        inferred = node.op.infer(*node.inputs)
        inferred = inferred if isinstance(inferred, tuple) else (inferred,)
        if tuple(o.aval for o in node.outputs) != inferred:
            raise GraphError(
                f"verify{where}: node {i} {node!r} gives {[o.aval for o in node.outputs]}, "
                f"its op says {list(inferred)}"
            )
        for region in regions_of(node.op):
            verify(region.graph, after)
        for v in node.outputs:
            if v in defined:
                raise GraphError(f"verify{where}: node {i} {node!r} defines {v!r} again")
            defined.add(v)
    for v in graph.outputs:
        if v not in defined:
            raise GraphError(f"verify{where}: output {v!r} is never made")
    return graph
