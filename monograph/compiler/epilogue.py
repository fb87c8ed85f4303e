"""Epilogues: elementwise work on a kernel's result, done before the result is stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..ir.graph import Value
from ..ir.op import Reduction, Source
from ..kernel.ir import Buffer, Call, Const, Expr, Prefetch, Stmt, Store
from .fuse import Fusion, Group
from .index import Index, flat, loop_index, whole
from .layout import Layouts
from .reader import Reader, Storage
from .steps import Epilogue


class Absorbed:
    """Which groups of loops are computed in the epilogue of the node before them."""

    def __init__(self) -> None:
        self.by_producer: dict[Group, Group] = {}
        self.absorbed: set[Group] = set()
        self.fusion: Fusion | None = None

    def of(
        self,
        group: Group,
        is_stored: Callable[[Value], bool],
        layouts: Layouts,
        alias: Mapping[Value, Value] | None = None,
    ) -> GroupEpilogue | None:
        consumer = self.by_producer.get(group)
        if consumer is None:
            return None
        return GroupEpilogue(group, consumer, is_stored, layouts, alias or {})


def fuse_epilogues(fusion: Fusion, names: set[str]) -> Absorbed:
    """Let a group of maps that follows a contraction or convolution run in its epilogue.

    Conditions: no reductions, the full shape is the result's, the result is read at its own place
    only, and nothing that the group reads is made after the producer. After a contraction, what
    comes before the reductions of a group may be taken alone (`part_before_reductions`). Random
    numbers are drawn before the producer, in loops, where neighbours share the work.
    """
    result = Absorbed()
    result.fusion = fusion
    position: dict[Group, float] = {g: at for at, g in enumerate(fusion.groups)}
    for group in list(fusion.groups):
        node = group.node
        if node is None or node.op.name not in names or len(node.outputs) != 1:
            continue
        out = node.outputs[0]
        if not out.dtype.is_floating_point or out.dtype.itemsize < 4:
            continue
        readers = [g for g in fusion.groups if out in g.reads]
        for consumer in readers:
            if consumer.node is not None:
                continue
            whole = consumer
            if whole.axes is not None and node.op.kind != "contraction":
                continue
            if whole.axes is not None:
                part = part_before_reductions(fusion, whole, out)
                if part is None:
                    continue
                consumer = part
            if consumer.full != tuple(out.shape) or consumer in result.absorbed:
                continue
            if any(isinstance(v.node.op, Reduction) for v in consumer.items):  # type: ignore
                continue
            if any(tuple(v.shape) != consumer.full for v in consumer.items):
                continue
            others = [fusion.group_of[u] for u in consumer.reads if u in fusion.group_of]
            if any(position[g] > position[group] for g in others):
                continue
            if not reads_in_place(consumer, out, fusion):
                continue
            drawn = part_that_draws(fusion, consumer)
            if drawn is not None and any(out in _all_below(v, fusion) for v in drawn.items):
                continue
            if consumer is not whole:
                fusion.cut(whole, consumer, whole)
                position[consumer] = position[whole]
            if drawn is not None:
                fusion.cut(consumer, drawn, group)
                position[drawn] = position[group] - 0.5
                fusion.stored.update(v for v in drawn.items if v in consumer.reads)
            result.by_producer[group] = consumer
            result.absorbed.add(consumer)
            if len(readers) == 1 and out not in fusion.graph.outputs:
                fusion.stored.discard(out)
            break
    return result


def part_before_reductions(fusion: Fusion, group: Group, out: Value) -> Group | None:
    """The items that are made of `out` and of no reduction of the group, if nothing else reads
    `out`, and what the rest reads of them stands in memory anyway.

    Such as the gradient of an activation, which a layer's other gradients read, before it is summed
    for the gradient of the bias.
    """
    below: dict[Value, set[Value]] = {}
    free: set[Value] = set()
    for v in group.items:
        below[v] = fusion.reads_of(v)
        inside = {u for u in below[v] if fusion.group_of.get(u) is group}
        is_map = not isinstance(v.node.op, Reduction) and tuple(v.shape) == group.full  # type: ignore
        if is_map and inside <= free:
            free.add(v)
    taken: set[Value] = set()
    for v in reversed(group.items):
        needed = any(v in below[u] for u in taken)
        if v in free and (needed or out in _all_below(v, fusion)):
            taken.add(v)
    rest = [v for v in group.items if v not in taken]
    if not taken or any(out in below[v] for v in rest):
        return None
    if any(u in taken and u not in fusion.stored for v in rest for u in below[v]):
        return None
    items = [v for v in group.items if v in taken]
    reads = {u for v in items for u in below[v]} - taken
    return Group(group.full, None, items, reads=reads, order=group.order)


def part_that_draws(fusion: Fusion, group: Group) -> Group | None:
    """The items that draw random numbers, and what they are made of in the group."""
    taken: set[Value] = set()
    for v in reversed(group.items):
        if v not in taken and _draws(v, fusion):
            taken.update(u for u in (v, *_all_below(v, fusion)) if u in group.items)
    items = [v for v in group.items if v in taken]
    reads = {u for v in items for u in fusion.reads_of(v)} - taken
    return Group(group.full, None, items, reads=reads, order=group.order) if items else None


def _draws(v: Value, fusion: Fusion) -> bool:
    """Whether computing item v runs a source whose neighbouring elements share the work."""
    stack = list(v.node.values)  # type: ignore[union-attr]
    while stack:
        u = stack.pop()
        if u.node is None or u in fusion.items:
            continue
        if isinstance(u.node.op, Source) and u.node.op.together > 1:
            return True
        stack.extend(u.node.values)
    return False


def _all_below(v: Value, fusion: Fusion) -> set[Value]:
    """What v is made of, by way of other items of its group."""
    home = fusion.group_of[v]
    found: set[Value] = set()
    stack = [v]
    while stack:
        u = stack.pop()
        if u is v or fusion.group_of.get(u) is home:
            new = fusion.reads_of(u) - found
            found |= new
            stack.extend(new)
    return found


def reads_in_place(consumer: Group, out: Value, fusion: Fusion) -> bool:
    """Whether the group reads `out` only through elementwise ops."""
    stack: list[tuple[Value, bool]] = [(v, True) for v in consumer.items]
    seen = set()
    while stack:
        v, straight = stack.pop()
        if (v, straight) in seen:
            continue
        seen.add((v, straight))
        if v is out:
            if not straight:
                return False
            continue
        if v.node is None or (v in fusion.items and v not in consumer.items):
            continue
        kept = straight and v.node.op.kind == "elementwise"
        stack.extend((w, kept) for w in v.node.values)
    return True


class GroupEpilogue(Epilogue):
    """The consumer group's items, computed from the producer's result in registers."""

    def __init__(
        self,
        producer: Group,
        consumer: Group,
        is_stored: Callable[[Value], bool],
        layouts: Layouts,
        alias: Mapping[Value, Value],
    ):
        assert producer.node is not None
        self.strides, self.alias = layouts.strides, alias
        self.loads: dict[Value, set[Index]] = {}
        self.overwrites: list[tuple[Value, Value]] = []
        self.out = producer.node.outputs[0]
        self.consumer = consumer
        self.is_stored = is_stored
        self.buffers: list[Any] = []
        self.values: list[Value] = []
        self.uses = 0
        self.stores = [v for v in consumer.items if is_stored(v)]
        if is_stored(self.out):
            self.stores.insert(0, self.out)
        # Learn the buffers by emitting once with any index.
        index = tuple(whole(loop_index(f"probe{a}", n)) for a, n in enumerate(self.out.shape))
        self.emit(index, Const(0.0, self.out.dtype.code))
        for v in self.stores:
            mine = {flat(index, self.strides(v))}
            for u, places in self.loads.items():
                if places == mine and u.dtype is v.dtype and u.shape == v.shape:
                    self.overwrites.append((v, u))

        # What is read or written at the result's own place.
        self.alike = [
            u for u, places in self.loads.items()
            if u.shape == self.out.shape and places == {flat(index, self.strides(u))}
        ]  # fmt: skip
        self.alike += [v for v in self.stores if self.alias.get(v, v) not in self.alike]

    def ahead(self, index: tuple[Index, ...]) -> list[Stmt]:
        reader = Reader(self._storage)
        for u in self.alike:
            place = reader.position(index, self.strides(u))
            reader.emit(Prefetch(self._buffer(u, False), place))
        return reader.scopes[0].body

    def _storage(self, v: Value) -> Storage | None:
        if v in self.consumer.items or v is self.out:
            return None
        if v.node is not None and not self.is_stored(v):
            return None
        return Storage(self._buffer(v, False), self.strides(v))

    def _buffer(self, v: Value, written: bool) -> str:
        v = self.alias.get(v, v)
        if v not in self.values:
            self.values.append(v)
            self.buffers.append(Buffer(f"e{len(self.buffers)}", v.dtype.code, written))
        at = self.values.index(v)
        if written and not self.buffers[at].written:
            self.buffers[at] = Buffer(self.buffers[at].name, v.dtype.code, True)
        return self.buffers[at].name

    def emit(self, index: tuple[Index, ...], value: Expr) -> list[Stmt]:
        self.uses += 1
        reader = Reader(self._storage)
        reader.prefix = f"e{self.uses}_"
        reader.bound[self.out] = lambda at: value
        computed = [reader.read(v, index) for v in self.stores]
        if self.uses == 1:
            names = {b.name: v for b, v in zip(self.buffers, self.values)}
            self.loads = {names[n]: at for n, at in reader.at.items() if n in names}
        for v, e in zip(self.stores, computed):
            code = v.dtype.code
            e = e if e.dtype == code else Call("cast", (e,), code)
            place = reader.position(index, self.strides(v))
            reader.emit(Store(self._buffer(v, True), place, e))
        return reader.scopes[0].body
