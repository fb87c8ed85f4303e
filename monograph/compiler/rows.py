"""Operands of products whose rows do not follow one another are copied into order first."""

from __future__ import annotations

from typing import Any

from ..core.symbolic import is_symbolic
from ..ir.graph import Graph, Node, Value
from ..ops.movement import Copy, Permute
from ..transform.region import copy_node

FEW_ROWS = 256  # a product of more rows than these at a time reads the other operand seldom enough
MANY_COLUMNS = 256  # of the other operand; a copy of the rows is little beside the product then


def order_rows(graph: Graph) -> Graph:
    """Copy what a product reads permuted, where its rows would be few at a time.

    Before:  graph(%0: f32[35, 20, 64], %1: f32[1000, 64])
             %2: f32[20, 35, 64] = permute(%0) order=(1,0,2)
             %3: f32[20, 35, 1000] = contract(%2, %1) signature='abk,nk->abn'
             return %3
    After:   graph(%0: f32[35, 20, 64], %1: f32[1000, 64])
             %2: f32[20, 35, 64] = permute(%0) order=(1,0,2)
             %3: f32[20, 35, 64] = copy(%2)
             %4: f32[20, 35, 1000] = contract(%3, %1) signature='abk,nk->abn'
             return %4
    A product walks rows that are evenly apart. Those of a recurrent layer's results, with the batch
    first, are so only within a sequence: each would read all of the other operand.
    """
    if not any(_scattered(n) for n in graph.nodes):
        return graph
    result = graph.copy([])
    env: dict[Value, Any] = {v: v for v in (*graph.inputs, *graph.constants)}
    copies: dict[Value, Value] = {}
    for node in graph.nodes:
        before = [env[v] if isinstance(v, Value) else v for v in node.inputs]
        for k in _scattered(node):
            v = env[node.inputs[k]]
            if v not in copies:
                copies[v] = result.add(Copy(), v, place=node.place)
            env[node.inputs[k]] = copies[v]
        copy_node(result, node, env)
        env.update((v, b) for v, b in zip(node.inputs, before) if isinstance(v, Value))
    result.outputs = [env[v] for v in graph.outputs]
    return result


def _scattered(node: Node) -> list[int]:
    """Which operands of a product are to be copied."""
    if node.op.kind != "contraction":
        return []
    x, y, out = node.op.parts()  # type: ignore[attr-defined]
    found = []
    for k, (mine, other) in enumerate(((x, y), (y, x))):
        v = node.inputs[k]
        op = None if v.node is None else v.node.op
        if not isinstance(op, Permute) or any(is_symbolic(n) for u in node.values for n in u.shape):
            continue
        rows = [c for c in mine if c in out and c not in other]
        place = {c: op.order[mine.index(c)] for c in rows}
        apart = [b for a, b in zip(rows, rows[1:]) if place[b] != place[a] + 1]
        together = "".join(rows) in mine and "".join(rows) in out
        size = dict(zip(mine, v.shape))
        columns = [n for c, n in zip(other, node.inputs[1 - k].shape) if c in out and c not in mine]
        if not apart or not together or any(c in other for c in mine if c in out):
            continue
        if max(size[c] for c in rows) < FEW_ROWS and max(columns, default=0) >= MANY_COLUMNS:
            found.append(k)
    return found
