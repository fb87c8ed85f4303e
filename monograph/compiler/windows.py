"""Sums over windows that tile an axis, as sums of slices; over whole axes, as such.

Average pooling, and the gradient of repeating pixels, sum neighbours: their reduced axes are the
inner parts of axes that a reshape has cut. Loops over so short an axis have no room for lanes, and
values of more axes than an image's take no part in the choice of layouts (layout.py). A sum of
slices is elementwise: lanes run along the channels, and it fuses with what follows.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from ..core.symbolic import is_symbolic
from ..ir.graph import Graph, Node, Value
from ..ops.arith import Add
from ..ops.movement import Expand, Reshape, Slice, Sum
from ..transform.region import copy_node

MOST_SLICES = 64


def add_slices(graph: Graph) -> Graph:
    """Rewrite sums over windows as the top of this file says.

    Before:  graph(%0: f32[2, 3, 4, 6])
             %1: f32[2, 3, 4, 3, 2] = reshape(%0) shape=(2,3,4,3,2)
             %2: f32[2, 3, 4, 3] = sum(%1) axes=(4,)
             return %2
    After:   graph(%0: f32[2, 3, 4, 6])
             %1: f32[2, 3, 4, 3, 2] = reshape(%0) shape=(2,3,4,3,2)
             %2: f32[2, 3, 4, 3] = slice(%0) start=(0,0,0,0) stop=(2,3,4,6) step=(1,1,1,2)
             %3: f32[2, 3, 4, 3] = slice(%0) start=(0,0,0,1) stop=(2,3,4,6) step=(1,1,1,2)
             %4: f32[2, 3, 4, 3] = add(%2, %3)
             return %4
    Not where the sum is then repeated, as slices would be added for each copy. Requires: simplify.
    """
    found = {node: steps for node in graph.nodes if (steps := _windows(node))}
    users = graph.users() if found else {}
    found = {
        node: steps
        for node, steps in found.items()
        if all(step in (1, n) for step, n in zip(steps, _image(node).shape))
        or (math.prod(steps) <= MOST_SLICES and not _is_repeated(node.outputs[0], users))
    }
    if not found:
        return graph
    result = graph.copy([])
    env: dict[Value, Any] = {v: v for v in (*graph.inputs, *graph.constants)}
    for node in graph.nodes:
        if node not in found:
            copy_node(result, node, env)
            continue
        x, steps = env[_image(node)], found[node]
        writer = partial(result.add, place=node.place)
        whole = tuple(a for a, step in enumerate(steps) if step > 1)
        if all(x.shape[a] == steps[a] for a in whole):
            total = writer(Reshape(node.outputs[0].shape), writer(Sum(whole), x))
        else:
            starts = itertools.product(*map(range, steps))
            parts = [writer(Slice(start, tuple(x.shape), steps), x) for start in starts]
            while len(parts) > 1:  # two by two: short chains
                pairs = zip(parts[::2], parts[1::2])
                odd = parts[len(parts) // 2 * 2 :]
                parts = [*(writer(Add(), a, b) for a, b in pairs), *odd]
            total = parts[0]
        env[node.outputs[0]] = total
    result.outputs = [env[v] for v in graph.outputs]
    return result


def _image(node: Node) -> Value:
    """What the reshape before a sum reads."""
    return node.values[0].node.inputs[0]  # type: ignore[union-attr, no-any-return]


def _windows(node: Node) -> tuple[int, ...] | None:
    """Sizes of the windows along each axis of an image, if the node is a sum over such."""
    op, made = node.op, node.outputs[0]
    if not isinstance(op, Sum) or not op.axes or made.dtype.code not in ("f32", "f64"):
        return None
    below = node.values[0].node
    if below is None or not isinstance(below.op, Reshape):
        return None
    whole, cut = below.values[0].shape, below.op.shape
    if len(whole) < 3 or len(cut) <= len(whole) or 0 in cut:
        return None
    return _cut(whole, cut, op.axes)


def _cut(whole: Sequence[int], cut: Sequence[int], axes: Sequence[int]) -> tuple[int, ...] | None:
    """How many neighbours along each axis are summed: an axis stands whole in `cut`, or in two
    parts, of which `axes` has the inner one or both."""
    steps, j = [], 0
    for n in whole:
        if j == len(cut):
            return None
        step, summed = 1, j in axes
        if summed and is_symbolic(n):
            return None
        if n is not cut[j]:
            if any(map(is_symbolic, (n, *cut[j : j + 2]))):
                return None
            if n != cut[j]:
                j += 1
                if j == len(cut) or cut[j - 1] * cut[j] != n or j not in axes:
                    return None
                step = cut[j]
        steps.append(n if summed else step)
        j += 1
    return tuple(steps) if j == len(cut) else None


def _is_repeated(v: Value, users: dict[Value, list[Node]]) -> bool:
    """Whether v is repeated before it is next stored."""
    stack, seen = [v], {v}
    while stack:
        for node in users.get(stack.pop(), ()):
            if isinstance(node.op, Expand):
                return True
            if node.op.kind in ("elementwise", "movement"):
                stack.extend(u for u in node.outputs if u not in seen)
                seen.update(node.outputs)
    return False
