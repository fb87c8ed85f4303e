"""Sums over rows, made by the loops that go through these rows anyway.

    per row       dx = f(x, g)                     (a norm's gradient, say)
    over rows     sum of g,  sum of g * x          (the gradients of its bias and weight)

Both read the same memory. A chunk of the loops over rows takes all rows of one sum then, and adds
them to accumulators beside what it does for each row (loops.py).
"""

from __future__ import annotations

from collections.abc import Collection

from ..core.shape import contiguous_strides, numel
from ..core.symbolic import is_symbolic
from ..ir.graph import Value
from ..ops.movement import Sum
from .fuse import Fusion, Group
from .layout import Layouts, loop_order
from .loop_costs import together_of

LEAST_CHUNKS = 8  # the sums of the result's parts: so many, for all threads to end together
LEAST_ROW, MOST_ACCUMULATORS = 64, 1 << 13  # elements of a row; of all accumulators
LEAST_ELEMENTS = 1 << 16


def sum_across(fusion: Fusion, layouts: Layouts, fixed: Collection[Group]) -> None:
    """Let groups of sums over rows become part of groups that go row by row.

    fixed: groups that have to stay before or after others.
    """
    columns = [g for g in fusion.groups if g not in fixed and _sums_rows(g, fusion, layouts)]
    for group in columns:
        for home in fusion.groups:
            if home not in fixed and _goes_by_row(home, group, fusion, layouts):
                if _move(fusion, group, home, fixed):
                    home.across += group.items
                    home.reads |= group.reads - set(home.items)
                    fusion.group_of.update(dict.fromkeys(group.items, home))
                    fusion.groups.remove(group)
                    break


def _sums_rows(group: Group, fusion: Fusion, layouts: Layouts) -> bool:
    """Whether the group is nothing but sums over all rows of a part of the result."""
    axes, n = group.axes, len(group.full)
    if group.node is not None or axes is None or group.across or n < 3:
        return False
    first = axes[0]
    if first == 0 or axes != tuple(range(first, n - 1)) or any(map(is_symbolic, group.full)):
        return False
    if not all(isinstance(v.node.op, Sum) for v in group.items):  # type: ignore[union-attr]
        return False
    row = group.full[-1]
    enough = numel(group.full[:first]) >= LEAST_CHUNKS and numel(group.full) >= LEAST_ELEMENTS
    return enough and row >= LEAST_ROW and _is_plain(group, fusion, layouts)


def _is_plain(group: Group, fusion: Fusion, layouts: Layouts) -> bool:
    """Whether the loops follow the shape, and no neighbours share what is drawn at random."""
    n = len(group.full)
    moved = [v for v in group.items if layouts.strides(v) != contiguous_strides(v.shape)]
    in_order = not moved and loop_order(group, layouts) == tuple(range(n))
    return in_order and together_of(group, fusion.stored.__contains__, layouts) == 1


def _goes_by_row(home: Group, group: Group, fusion: Fusion, layouts: Layouts) -> bool:
    """Whether the group's loops can be those of `home`, which reads the same large values."""
    last = (len(group.full) - 1,)
    if home.node is not None or home.full != group.full or home.axes != last:
        return False
    sums = [*home.across, *group.items]
    if any(v.shape != sums[0].shape for v in sums) or not _is_plain(home, fusion, layouts):
        return False
    if len(sums) * group.full[-1] > MOST_ACCUMULATORS:
        return False
    size = numel(group.full)
    known = home.reads | set(home.items)
    if any(u not in known for u in group.reads if numel(u.shape) >= size):
        return False
    return all(fusion.aligned(v, "row", home, home.axes) for v in group.items)


def _move(fusion: Fusion, group: Group, home: Group, fixed: Collection[Group]) -> bool:
    """Let everything that needs the sums come after `home`, if that can be."""
    groups = fusion.groups
    here, there = groups.index(group), groups.index(home)
    made = {fusion.group_of[u] for u in group.reads if u in fusion.group_of} - {home}
    if any(groups.index(g) > there for g in made):
        return False
    later: list[Group] = []
    items: set[Value] = set(group.items)
    for g in groups[here + 1 : there]:
        if not g.reads.isdisjoint(items):
            later.append(g)
            items.update(g.items)
    if not home.reads.isdisjoint(items) or any(g in fixed for g in later):
        return False
    if later:
        stay = [g for g in groups[here:there] if g not in later]
        groups[here : there + 1] = [*stay, home, *later]
    return True
