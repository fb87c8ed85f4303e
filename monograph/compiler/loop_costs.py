"""What loops are like before they are written: how heavy an element is, what neighbours share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..core.shape import numel
from ..core.symbolic import hint
from ..ir.graph import Node, Value
from ..ir.op import Source
from .fuse import COSTLY, ONE_INSTRUCTION, Group
from .layout import Layouts, loop_order

# Lanes of a column reduction that are accumulated together: runs of 1 KiB, which memory streams.
COLUMN_BLOCK = 256


def largest_block(size: int) -> int:
    """The most lanes, of 16 or more, into whose blocks `size` can be cut; 1: none."""
    return next((b for b in range(COLUMN_BLOCK, 15, -1) if size % b == 0), 1)


def _made(group: Group, is_stored: Callable[[Value], bool]) -> Iterator[tuple[Value, Node]]:
    """What the group's loops compute: its items, and all below them that is not in memory."""
    own, seen, stack = set(group.items), set(), list(group.items)
    while stack:
        v = stack.pop()
        if v in seen or v.node is None or (v not in own and is_stored(v)):
            continue
        seen.add(v)
        yield v, v.node
        stack.extend(v.node.values)


def weight_of(group: Group, is_stored: Callable[[Value], bool]) -> int:
    """1, and 1 for each function of many operations that is computed for every element."""
    heavy = COSTLY - ONE_INSTRUCTION
    return 1 + sum(n.op.name in heavy and v.shape == group.full for v, n in _made(group, is_stored))


def together_of(group: Group, is_stored: Callable[[Value], bool], layouts: Layouts) -> int:
    """How many neighbours share the work of a source (random words) that the group computes.

    1 where these are not neighbours in the innermost loop, or rows are short.
    """
    last = len(group.full) - 1
    if not group.full or hint(group.full[-1]) < 64 or loop_order(group, layouts)[-1] != last:
        return 1
    if group.axes is not None and last not in group.axes:
        return 1
    found = 1
    for v, node in _made(group, is_stored):
        if isinstance(node.op, Source) and numel(v.shape) == numel(group.full):
            found = max(found, node.op.together)
    return found if group.full[-1] % found == 0 else 1  # for all sizes
