"""Results that are made where a concatenation wants them, without a copy.

A kernel that writes its result at any strides may as well write it as part of a larger array: the
gradients of queries, keys and values, say, as the three parts of the gradient of the layer that
made them, or images that a network joins along their channels. The part's memory is then some of
the concatenation's (`Layouts.inside`).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ..core.shape import view_strides
from ..core.symbolic import is_symbolic
from ..ir.graph import Graph, Value
from .fuse import Fusion, has_kernel

if TYPE_CHECKING:
    from .fuse import Group
    from .layout import Layouts

# Ops whose kernels write their results at any strides, and ones that read operands so.
WRITES_STRIDED = {"attention", "attention_grad", "contract", "conv", "max_pool", "concat"}
READS_STRIDED = {"concat", "contract", "conv", "max_pool"}


def make_parts_in_place(graph: Graph, fusion: Fusion, layouts: Layouts) -> None:
    """Note in `layouts.inside` which stored values are made inside of a concatenation.

    A concatenation may itself be a part of a later one, which therefore comes first.
    """
    readers: dict[Value, list[Group]] = {}
    for group in fusion.groups:
        for v in set(group.reads):
            readers.setdefault(v, []).append(group)
    outputs = set(graph.outputs)
    for group in reversed(fusion.groups):
        node = group.node
        if node is None or node.op.name != "concat" or outputs.intersection(node.outputs):
            continue
        whole = node.outputs[0]
        if any(is_symbolic(n) for n in whole.shape):
            continue
        root, _, offset = layouts.inside.get(whole, (whole, (), 0))
        steps = layouts.strides(whole)
        axis, at = node.op.axis, 0  # type: ignore[attr-defined]
        found = [_maker(part, steps, fusion) for part in node.values]
        parts_of = Counter(made for made, _ in found)
        for part, (made, strides) in zip(node.values, found):
            if (
                strides is not None
                and parts_of[made] == 1
                and made not in outputs
                and made not in layouts.inside
                and _in_order(made, strides, layouts)
                and all(g is group or _reads_strided(g, made) for g in readers[made])
            ):
                layouts.inside[made] = root, strides, offset + at * steps[axis]
                layouts.placed.add((made, whole))
            at += part.shape[axis]


def _in_order(v: Value, strides: tuple[int, ...], layouts: Layouts) -> bool:
    """Whether v's axes stand in the order that was chosen for v, neighbours side by side."""
    steps = [strides[a] for a in layouts.order(v) if v.shape[a] > 1]
    return steps == sorted(steps, reverse=True) and (not steps or steps[-1] == 1)


def _reads_strided(group: Group, v: Value) -> bool:
    """Whether v may stand apart for this reader: loops, or a kernel that takes v as it is."""
    node = group.node
    if node is None:
        return True
    return node.op.name in READS_STRIDED and v in node.values


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
    if v.node is None or (has_kernel(v.node) and v.node.op.name not in WRITES_STRIDED):
        strides = None
    return v, strides
