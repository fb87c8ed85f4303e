"""Results that are made where a concatenation wants them, without a copy.

A kernel that writes its result at any strides may as well write it as part of a larger array: the
gradients of queries, keys and values, say, as the three parts of the gradient of the layer that
made them. The part's memory is then some of the concatenation's (`Layouts.inside`).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ..core.shape import view_strides
from ..core.symbolic import is_symbolic
from ..ir.graph import Graph, Value

if TYPE_CHECKING:
    from .fuse import Fusion
    from .layout import Layouts

# Ops whose kernels write their results at any strides, the last axis contiguous.
WRITES_STRIDED = {"attention", "attention_grad"}


def make_parts_in_place(graph: Graph, fusion: Fusion, layouts: Layouts) -> None:
    """Note in `layouts.inside` which stored values are made inside of a concatenation."""
    readers = Counter(v for group in fusion.groups for v in set(group.reads))
    outputs = set(graph.outputs)
    for group in fusion.groups:
        node = group.node
        if node is None or node.op.name != "concat" or outputs.intersection(node.outputs):
            continue
        whole = node.outputs[0]
        if any(is_symbolic(n) for n in whole.shape) or whole in layouts.inside:
            continue
        steps = layouts.strides(whole)
        axis, at = node.op.axis, 0  # type: ignore[attr-defined]
        found = [_maker(part, steps, fusion) for part in node.values]
        parts_of = Counter(made for made, _ in found)
        for part, (made, strides) in zip(node.values, found):
            once = parts_of[made] == 1 and readers[made] == 1
            if strides is not None and once and made not in outputs and strides[-1] == 1:
                layouts.inside[made] = whole, strides, at * steps[axis]
            at += part.shape[axis]


def _maker(
    part: Value, strides: tuple[int, ...] | None, fusion: Fusion
) -> tuple[Value, tuple[int, ...] | None]:
    """The stored value that `part` is another view of, and its strides where part has `strides`.

    None for the strides where there are none, or where its kernel could not use them.
    """
    v = part
    while v.node is not None and v not in fusion.stored:
        op, source = v.node.op, v.node.values[0]
        if strides is not None and op.name == "permute":
            order = op.order  # type: ignore[attr-defined]
            strides = tuple(strides[order.index(axis)] for axis in range(len(order)))
        elif strides is not None and op.name == "reshape":
            strides = view_strides(v.shape, strides, source.shape)
        else:
            strides = None
        v = source
    if v.node is None or v.node.op.name not in WRITES_STRIDED:
        strides = None
    return v, strides
