"""Graph pass: factors along the sum of a product, moved to the operand that is smaller.

A gate of channels, as of squeeze-and-excitation, multiplies an image that a 1x1 convolution reads:
sum over c of (x[c, place] * g[c]) * w[c, o]. Where the filter has fewer elements than the image, it
takes the gate instead, and a trip of the image through memory is saved.
"""

from __future__ import annotations

from typing import Any

from ..core.symbolic import is_symbolic
from ..ir.graph import Graph, Node, Value
from ..ops.arith import Mul
from ..ops.movement import Expand, Permute, Reshape
from ..transform.region import copy_node

# How many times as large the operand must be that loses its factor.
TIMES = 2


def move_factors(graph: Graph) -> Graph:
    """Rewrite products as the top of this file says.

    Before:  graph(%0: f32[90, 8], %1: f32[8], %2: f32[8, 3])
             %3: f32[90, 8] = expand(%1) shape=(90,8) axes=(0,)
             %4: f32[90, 8] = mul(%0, %3)
             %5: f32[90, 3] = contract(%4, %2) signature='ab,bc->ac'
             return %5
    After:   graph(%0: f32[90, 8], %1: f32[8], %2: f32[8, 3])
             %3: f32[90, 8] = expand(%1) shape=(90,8) axes=(0,)
             %4: f32[90, 8] = mul(%0, %3)
             %5: f32[8, 3] = expand(%1) shape=(8,3) axes=(1,)
             %6: f32[8, 3] = mul(%2, %5)
             %7: f32[90, 3] = contract(%0, %6) signature='ab,bc->ac'
             return %7
    """
    users: dict[Value, Any] = {}
    outputs = set(graph.outputs)
    result = graph.copy([])
    env: dict[Value, Any] = {v: v for v in (*graph.inputs, *graph.constants)}
    changed = False
    for node in graph.nodes:
        if node.op.name == "contract":
            users = users or graph.users()
            moved = _moved(node, users, outputs, result, env)
            if moved is not None:
                env[node.outputs[0]] = result.add(node.op, *moved, place=node.place)
                changed = True
                continue
        copy_node(result, node, env)
    result.outputs = [env[v] for v in graph.outputs]
    return result if changed else graph


def _moved(
    node: Node, users: Any, outputs: set[Value], result: Graph, env: dict[Value, Any]
) -> list[Value] | None:  # fmt: skip
    """The operands of a contraction when factors went from one to the other, if any should."""
    letters = node.op.parts()  # type: ignore[attr-defined]
    for i in range(2):
        x, w = node.inputs[i], node.inputs[1 - i]
        if not isinstance(x, Value) or not isinstance(w, Value):
            continue
        if any(is_symbolic(n) for n in (*x.shape, *w.shape)) or x.aval.size < TIMES * w.aval.size:
            continue
        if not x.dtype.is_floating_point:
            continue
        to = env[w]
        while x not in outputs and len(users.get(x, ())) == 1:
            found = _factor(x, letters[i], letters[1 - i], letters[2])
            if found is None:
                break
            x, v, kept = found
            to = _times(result, to, env[v], kept, letters[1 - i])
        if to is not env[w]:
            return [env[x], to] if i == 0 else [to, env[x]]
    return None


def _times(result: Graph, w: Value, v: Value, kept: list[tuple[str, int]], letters: str) -> Value:
    """w times v, which varies along the letters (and their sizes) that are given."""
    sizes = tuple(n for _, n in kept)
    if tuple(v.shape) != sizes:
        v = result.add(Reshape(sizes), v)
    names = [c for c, _ in kept]
    order = tuple(names.index(c) for c in letters if c in names)
    if order != tuple(range(len(order))):
        v = result.add(Permute(order), v)
    new = tuple(a for a, c in enumerate(letters) if c not in names)
    return result.add(Mul(), w, result.add(Expand(tuple(w.shape), new), v) if new else v)


def _factor(
    x: Value, mine: str, other: str, out: str
) -> tuple[Value, Value, list[tuple[str, int]]] | None:
    """(y, v, letters and sizes) where x is y times v, repeated, and v varies along those letters
    only, which are summed and both operands'."""
    if x.node is None or not isinstance(x.node.op, Mul) or len(set(mine)) < len(mine):
        return None
    for y, v in (x.node.inputs, x.node.inputs[::-1]):
        if not isinstance(y, Value) or not isinstance(v, Value) or v.node is None:
            continue
        if not isinstance(v.node.op, Expand):
            continue
        new = v.node.op.axes
        kept = [(c, n) for a, (c, n) in enumerate(zip(mine, x.shape)) if a not in new and n > 1]
        if kept and all(c not in out and c in other for c, _ in kept):
            return y, v.node.values[0], kept
    return None
