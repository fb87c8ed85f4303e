"""What depends on nothing but unchanging inputs is computed apart, once.

A function captured for inference reads its weights where they stand and never writes them. Whatever
is computed of them alone (the scale of a normalisation, a weight in another dtype or order) need
not be computed at every call: `split_constants` puts it into a graph of its own, whose results are
constants of the graph that remains. What kernels do with constants, such as packing them, is moved
apart later, where kernels are known (pipeline.py, `plan`).
"""

from __future__ import annotations

from collections.abc import Collection

from ..core.symbolic import any_symbolic
from ..ir.graph import Graph, Node, Value
from ..ir.op import Aval
from ..ir.region import regions_of
from ..runtime import buffers
from ..transform.region import copy_node
from .sizes import node_depends_on_sizes

KINDS = ("elementwise", "reduction", "contraction", "opaque")  # worth to keep; others move elements
SMALL = 4096  # bytes that may always be kept


def split_constants(graph: Graph, constant: Collection[Value]) -> tuple[Graph | None, Graph]:
    """What depends on `constant`, inputs of the graph, alone; and the rest.

    Before:  graph(%0: f32[4, 2], %1: f32[2])
             %2: f32[2] = exp(%1)
             %3: f32[4, 2] = expand(%2) shape=(4,2) axes=(0,)
             %4: f32[4, 2] = add(%0, %3)
             return %4
    After:   graph(%0: f32[4, 2], %1: f32[2])
             %2: f32[2] = exp(%1)
             return %2
             graph(%0: f32[4, 2], %1: f32[2])
             %2: f32[2] = constant [0.0, 0.0]
             %3: f32[4, 2] = expand(%2) shape=(4,2) axes=(0,)
             %4: f32[4, 2] = add(%0, %3)
             return %4
    Both graphs have all inputs. The first one's results are to be written to the arrays of the last
    of the second's constants, in order; None where there is nothing to compute apart. Results that
    would take more memory than what they are made of stay where they are.
    """
    below: dict[Value, frozenset[Value]] = {v: frozenset([v]) for v in constant}
    below.update({v: frozenset([v]) for v in graph.constants})
    apart: set[Node] = set()
    for node in graph.nodes:
        if regions_of(node.op) or not all(v in below for v in node.values):
            continue
        if node_depends_on_sizes(node):
            continue
        leaves = frozenset().union(*(below[v] for v in node.values))
        if not leaves and node.op.kind != "source":
            continue
        below.update((v, leaves) for v in node.outputs)
        size = sum(_bytes(v) for v in node.outputs)
        small = size <= max(SMALL, sum(map(_bytes, leaves)))
        if leaves.intersection(constant) and node.op.kind in KINDS and small:
            apart.add(node)
    needed = set(graph.outputs)
    for node in reversed(graph.nodes):
        if node not in apart and not needed.isdisjoint(node.outputs):
            needed.update(node.values)
    results = [v for node in graph.nodes if node in apart for v in node.outputs if v in needed]
    if not results:
        return None, graph
    first, rest = graph.copy([]), graph.copy([])
    first.inputs = [_of_fixed_shape(v) for v in graph.inputs]
    env: dict[Value, Value] = {v: v for v in (*graph.inputs, *graph.constants)}
    below_results = set(results)
    for node in reversed(graph.nodes):
        if not below_results.isdisjoint(node.outputs):
            below_results.update(node.values)
    for node in graph.nodes:
        if not below_results.isdisjoint(node.outputs):
            copy_node(first, node, env)
    first.outputs = [env[v] for v in results]
    env = {v: v for v in (*graph.inputs, *graph.constants)}
    for v in results:
        env[v] = Value(v.aval)
        rest.constants[env[v]] = buffers.empty(v.shape, v.dtype.numpy)
    for node in graph.nodes:
        if node not in apart and not needed.isdisjoint(node.outputs):
            copy_node(rest, node, env)
    rest.outputs = [env[v] for v in graph.outputs]
    return first, rest


def _of_fixed_shape(v: Value) -> Value:
    """The input, or one for an array whose shape is not looked at: nothing is made of it."""
    return Value(Aval((), v.dtype)) if any_symbolic(v.shape) else v


def _bytes(v: Value) -> int:
    return v.aval.size * v.dtype.itemsize
