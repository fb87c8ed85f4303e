"""What is computed sooner than it is read: where its operand is at hand, and nobody else wants it.

An activation's gradient is often a factor that depends on the activation's input alone. Where a
product's epilogue makes the activation, the input is in registers: the factor, which shares its
exponential, is stored instead of the input and not made again from it (fuse.py puts it there).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.symbolic import hint
from ..ir.graph import Value
from .steps import FUSES_EPILOGUE

if TYPE_CHECKING:
    from .fuse import Fusion, Group

LITTLE = 3  # operations that may be done again
SMALL = 16  # an operand with so many times fewer elements costs nothing to read again


def better_sooner(fusion: Fusion) -> tuple[dict[Value, Value], set[Value]]:
    """Values that become items, each with an item in whose group it is to be computed; and those
    of the latter that are worth an epilogue of their own."""
    found: dict[Value, Value] = {}
    apart: set[Value] = set()
    outputs = set(fusion.graph.outputs)
    for group in fusion.groups:
        node = group.node
        if node is None or node.op.name not in FUSES_EPILOGUE or len(node.outputs) != 1:
            continue
        u = node.outputs[0]
        readers = [g for g in fusion.groups if u in g.reads]
        if u in outputs or len(readers) < 2 or any(g.node is not None for g in readers):
            continue
        home = min(readers, key=fusion.groups.index)
        if home.axes is not None or home.full != tuple(u.shape):
            continue
        at_hand = {u, *home.reads, *home.items}
        factors = {_factor(fusion, g, u, at_hand) for g in readers if g is not home}
        factor = factors.pop()
        if factor is None or factors:
            continue
        is_costly = fusion.cost(factor, {u}) > LITTLE
        if not is_costly and factor.dtype.itemsize == u.dtype.itemsize:
            continue
        moved = {factor, *_items_below(fusion, factor, at_hand)}
        found.update(dict.fromkeys(moved, home.items[0]))
        others = {v for g in readers if g is not home for v in g.reads} & set(home.items)
        if is_costly and others <= _items_below(fusion, factor, {u, *home.reads}):
            apart.add(home.items[0])
    return found, apart


def _factor(fusion: Fusion, reader: Group, u: Value, at_hand: set[Value]) -> Value | None:
    """The value through which alone a group reads u, made of what is at hand; the last such."""
    above: dict[Value, list[Value]] = {}  # readers of each inline value, inside of the group
    order: list[Value] = []  # operands first
    state: set[Value] = set()
    stack: list[tuple[Value, bool]] = [(v, False) for v in reader.items]
    while stack:
        v, done = stack.pop()
        if done:
            order.append(v)
            continue
        if v in state:
            continue
        state.add(v)
        stack.append((v, True))
        if v.node is None or (v in fusion.items and v not in reader.items):
            continue
        for w in v.node.values:
            above.setdefault(w, []).append(v)
            stack.append((w, False))
    made_of_u: set[Value] = {u}
    pending = len(above[u])  # reads of u, or of what is made of it, that are still to come
    best: Value | None = None
    for v in order:
        if v is u or v.node is None or (v in fusion.items and v not in reader.items):
            continue
        mine = sum(w in made_of_u for w in v.node.values)
        if not mine:
            continue
        made_of_u.add(v)
        pending -= mine
        if pending == 0 and _may_move(fusion, v, u, at_hand):
            best = v
        pending += len(above.get(v, ()))
    return best


def _may_move(fusion: Fusion, v: Value, u: Value, at_hand: set[Value]) -> bool:
    """Whether v, a new item, is made of what is at hand, by operations on single elements."""
    node = v.node
    assert node is not None
    if v in fusion.items or v.shape != u.shape or v.dtype.itemsize > u.dtype.itemsize:
        return False
    if node.op.kind != "elementwise":
        return False
    size = hint(u.aval.size)
    moved = _items_below(fusion, v, at_hand)
    home = {fusion.group_of.get(w) for w in moved}
    for w in moved:
        assert w.node is not None
        if w.shape != u.shape or w.node.op.kind != "elementwise" or w in fusion.stored:
            return False
    reads = {w for x in (v, *moved) for w in fusion.reads_of(x)} - moved
    return len(home) < 2 and all(
        w in at_hand or (w.node is None and hint(w.aval.size) * SMALL <= size) for w in reads
    )


def _items_below(fusion: Fusion, v: Value, at_hand: set[Value]) -> set[Value]:
    """Items that v is made of, down to what is at hand."""
    found: set[Value] = set()
    stack = [v]
    while stack:
        for w in fusion.reads_of(stack.pop()):
            if w.node is not None and w not in at_hand and w not in found:
                found.add(w)
                stack.append(w)
    return found
