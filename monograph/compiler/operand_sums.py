"""Sums of an operand that a product copies anyway, as the gradient of a bias.

    weight gradient = sum over rows of g[row, i] * x[row, j]
    bias gradient   = sum over rows of g[row, i]

The product may add up the lines of its operand while they are in the nearest caches (gemm_ends.py
says whether it does). What else the sum's group computes, such as the bias's update, follows.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..core.shape import numel
from ..core.symbolic import is_symbolic
from ..ir.graph import Value
from ..ir.op import Reduction
from ..ops.movement import Reshape
from .fuse import Fusion, Group
from .steps import OperandSum

LEAST = 1 << 18  # elements: fewer are still in the caches when they are read for the sum


@dataclass(eq=False)
class GroupSum(OperandSum):
    """With its group, and the group of what is summed before where that takes two steps
    (simplify.split_reductions)."""

    group: Group
    first: Group | None

    def take(self, fusion: Fusion) -> list[Group]:
        """The product makes the sum: its group goes on without it. Which groups are empty now."""
        group = self.group
        fusion.stored.add(self.total)
        group.items.remove(self.total)
        group.full, group.axes = group.row, None
        group.reads = {u for v in group.items for u in fusion.reads_of(v)} - set(group.items)
        del fusion.group_of[self.total]
        empty = [] if group.items else [group]
        if self.first is not None:
            fusion.stored.difference_update(self.first.items)
            empty.append(self.first)
        return empty


def find_operand_sums(fusion: Fusion) -> dict[Group, GroupSum]:
    """For a product's group a sum that it might make; the sum comes after the product then."""
    found: dict[Group, GroupSum] = {}
    products: dict[Value, list[Group]] = {}
    for g in fusion.groups:
        if g.node is not None and g.node.op.name == "contract":
            for v in g.node.values:
                products.setdefault(v, []).append(g)
    for group in list(fusion.groups):
        made = _operand_sum(group, fusion)
        if made is None:
            continue
        for product in products.get(made.of, ()):
            if (
                product not in found
                and _sums_alike(product, made)
                and _after(product, made, fusion)
            ):
                found[product] = made
                break
    return found


def _operand_sum(group: Group, fusion: Fusion) -> GroupSum | None:
    """The sum of a large stored value, if nothing else in the group reads whole rows."""
    if group.node is not None or group.axes is None or len(group.row) != 1:
        return None
    sums = [v for v in group.items if isinstance(v.node.op, Reduction)]  # type: ignore[union-attr]
    if len(sums) != 1 or any(tuple(v.shape) != group.row for v in group.items):
        return None
    (total,) = sums
    whole = {u for x in group.items if x is not total for u in fusion.reads_of(x)}
    node = total.node
    assert node is not None
    if node.op.name != "sum" or any(tuple(u.shape) == group.full for u in whole):
        return None
    kept = [a for a in range(len(group.full)) if a not in group.axes]
    v, first = node.values[0], fusion.group_of.get(node.values[0])
    before = v.node
    if first is None or first.items != [v] or before is None or before.op.name != "sum":
        first = None
    else:
        if [g for g in fusion.groups if v in g.reads] != [group] or v in fusion.graph.outputs:
            return None
        axes = before.op.axes  # type: ignore[attr-defined]
        v = before.values[0]
        left = [a for a in range(len(v.shape)) if a not in axes]
        kept = [left[a] for a in kept]
        if v not in fusion.stored and v.node is not None and isinstance(v.node.op, Reshape):
            # The axis that was taken apart is not the one that is kept.
            size, below = v.shape[kept[0]], numel(v.shape[kept[0] + 1 :])
            v = v.node.values[0]
            kept = [
                a for a, n in enumerate(v.shape) if n == size and numel(v.shape[a + 1 :]) == below
            ]
    if len(kept) != 1 or v not in fusion.stored or v.dtype is not total.dtype:
        return None
    if is_symbolic(v.aval.size) or v.aval.size < LEAST:
        return None
    return GroupSum(total, v, kept[0], group, first)


def _sums_alike(product: Group, made: GroupSum) -> bool:
    """Whether the product sums over the same axes of the operand."""
    node = product.node
    assert node is not None
    x_letters, y_letters, o_letters = node.op.parts()  # type: ignore[attr-defined]
    for letters, other, operand in zip((x_letters, y_letters), (y_letters, x_letters), node.inputs):
        kept = [a for a, c in enumerate(letters) if c in o_letters]
        if operand is made.of and kept == [made.axis] and letters[made.axis] not in other:
            return True
    return False


def _after(product: Group, made: GroupSum, fusion: Fusion) -> bool:
    """Let the sum come after the product, if nothing in between needs it."""
    groups = fusion.groups
    end = groups.index(product)
    early = [g for g in (made.first, made.group) if g is not None and groups.index(g) < end]
    if not early:
        return True
    items = {v for g in early for v in g.items}
    start = min(map(groups.index, early))
    between = [g for g in groups[start : end + 1] if g not in early]
    if any(not g.reads.isdisjoint(items) for g in between):
        return False
    groups[start : end + 1] = [*between, *early]
    return True
