"""Vector loops: how wide, how often repeated, what to do with what is left over, and reductions.

A loop of constant extent is written out in full where it is short (so that local arrays become
registers); otherwise whole vectors run in a loop, several per turn where that hides latency, and
the rest goes through masks or, where the processor has none, one by one. Mixed into llvm.py.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from ..kernel.checker import BITS, FLOATS, KernelError
from ..kernel.ir import Call, Const, Expr, If, Kernel, Let, Load, Local, Loop, Reduce, Stmt, Store
from . import polynomial as poly
from . import scalars
from .builder import Value
from .memory import LANE, Array, Lanes, MemoryWriter
from .polynomial import Polynomial
from .target import Target

WRITE_OUT = 8  # vector loops of at most this many whole vectors are written out


@dataclass(frozen=True)
class Shape:
    """What decides the width and repetition of a vector loop."""

    largest: int  # bytes of the widest element in it
    smallest: int
    cost: int  # scalar operations and memory accesses
    reduces: bool  # has a Reduce (which may keep partial results)
    loops: bool  # has serial loops inside


def loop_shape(body: tuple[Stmt, ...]) -> Shape:
    sizes: set[int] = set()
    seen: set[int] = set()
    cost, reduces, loops = 0, False, False

    def look(expr: Expr | None) -> None:
        nonlocal cost
        if expr is None or id(expr) in seen:
            return
        seen.add(id(expr))
        if isinstance(expr, Load):
            sizes.add(BITS[expr.dtype] // 8)
            cost += 1
            look(expr.mask)
        elif isinstance(expr, Call):
            if expr.dtype != "i64" and expr.dtype != "bool":
                sizes.add(BITS[expr.dtype] // 8)
            cost += 1
            for x in expr.args:
                look(x)

    def walk(body: tuple[Stmt, ...]) -> None:
        nonlocal cost, reduces, loops
        for stmt in body:
            if isinstance(stmt, Let):
                look(stmt.value)
            elif isinstance(stmt, Local):
                sizes.add(BITS[stmt.dtype] // 8)
            elif isinstance(stmt, (Store, Reduce)):
                sizes.add(BITS[stmt.value.dtype] // 8)
                look(stmt.value)
                cost += 1
                if isinstance(stmt, Store):
                    look(stmt.mask)
                else:
                    reduces = True
            elif isinstance(stmt, If):
                walk(stmt.then)
                walk(stmt.orelse)
            elif isinstance(stmt, Loop):
                loops = loops or stmt.kind != "unroll"
                before = cost
                walk(stmt.body)
                start, stop = stmt.start, stmt.stop
                if stmt.kind == "unroll" and isinstance(start, Const) and isinstance(stop, Const):
                    turns = (stop.value - start.value) // stmt.step
                    cost = before + (cost - before) * max(1, turns)

    walk(body)
    sizes = sizes or {8}
    return Shape(max(sizes), min(sizes), cost, reduces, loops)


@dataclass(slots=True)
class Partial:
    """Partial results of one Reduce place: one register per (lanes, copy)."""

    op: str
    array: Array
    index: Polynomial
    dtype: str
    slots: dict[tuple[int, int], str]


class VectorLoops(MemoryWriter):
    """A MemoryWriter that writes loops; the statements inside are the subclass's."""

    def __init__(self, kernel: Kernel, target: Target):
        super().__init__(kernel, target)
        self.partials: dict[tuple[object, ...], Partial] = {}
        self.copy = 0  # which of a loop turn's repetitions is being written
        self.vector_depth = 0  # the region depth outside of the vector loop

    @abstractmethod
    def scoped(self, names: dict[str, Polynomial], body: tuple[Stmt, ...]) -> None:
        """Write statements with more names bound."""

    def counted_loop(
        self,
        start: Polynomial,
        stop: Polynomial,
        step: int,
        body: Callable[[Value], None],
        certain: bool = False,
    ) -> None:
        """for i in range(start, stop, step): body(i), tested at the end of each turn."""
        trip = poly.as_constant(poly.add(stop, start, -1))
        if trip is not None and trip <= 0:
            return
        certain = certain or trip is not None
        first, bound = self.materialize(start), self.materialize(stop)
        if first.lanes or bound.lanes:
            raise KernelError(
                f"kernel {self.kernel.name}: a loop's range depends on a vector loop's variable"
            )
        pre, top, done = self.label("pre"), self.label("loop"), self.label("done")
        if certain:
            self.line(f"br label %{pre}")
        else:
            self.line(f"%{pre}.any = icmp slt i64 {first.text}, {bound.text}")
            self.line(f"br i1 %{pre}.any, label %{pre}, label %{done}")
        region = self.enter("loop", certain, top)
        i = Value(self.name(), "i64", False, region.depth, self.is_nonnegative(start))
        body(i)
        self.leave()
        lines = self.region.lines
        lines += [f"{pre}:", *region.pre, f"  br label %{top}", f"{top}:"]
        lines.append(
            f"  {i.text} = phi i64 [ {first.text}, %{pre} ], [ %{top}.next, %{region.label} ]"
        )
        lines += region.lines
        lines.append(f"  %{top}.next = add nsw i64 {i.text}, {step}")
        lines.append(f"  %{top}.more = icmp slt i64 %{top}.next, {bound.text}")
        lines.append(f"  br i1 %{top}.more, label %{top}, label %{done}")
        self.start_block(done)

    def vector_loop(self, stmt: Loop) -> None:
        start, stop = self.index(stmt.start), self.index(stmt.stop)
        extent = poly.as_constant(poly.add(stop, start, -1))
        if extent is not None and extent <= 0:
            return
        shape = loop_shape(stmt.body)
        width = self.target.lanes(shape.largest)
        masks = self.target.masked or (self.target.vector_bytes == 32 and shape.smallest >= 4)
        if extent is not None:
            width = min(width, 1 << (extent - 1).bit_length())
        outer, self.partials = self.partials, {}
        self.vector_depth = self.region.depth
        at, block = len(self.region.lines), self.region.lines
        if width == 1 and extent is None:
            self.scalar_part(stmt, start, stop)
        elif extent is not None and extent <= WRITE_OUT * width and not shape.loops:
            self.write_out(stmt, start, extent, width, masks)
        else:
            self.run_time(stmt, start, stop, width, masks, shape)
        block[at:at] = self.partial_starts()
        self.finish_partials()
        self.partials = outer

    def write_out(
        self, stmt: Loop, start: Polynomial, extent: int, width: int, masks: bool
    ) -> None:
        # A region of its own, so that what the body computes counts as inside of the loop.
        region = self.enter("block", True, self.region.label)
        done = 0
        while done < extent:
            while not masks and width > extent - done:
                width //= 2
            if extent - done == 1:  # LLVM 22 makes a store of one small lane of many too wide
                width = 1
            alive = min(width, extent - done)
            mask = None
            if alive < width:
                items = ", ".join(f"i1 {str(i < alive).lower()}" for i in range(width))
                mask = Value(f"<{items}>", "bool", True)
            self.copy = (done // width) % 4
            self.vector_body(stmt, poly.add(start, poly.constant(done)), width, mask)
            done += alive
        self.leave()
        self.region.lines += region.lines
        self.region.label = region.label

    def run_time(
        self,
        stmt: Loop,
        start: Polynomial,
        stop: Polynomial,
        width: int,
        masks: bool,
        shape: Shape,
    ) -> None:
        copies = 1
        if not shape.loops:
            if shape.reduces:
                copies = 4 if shape.cost <= 12 else 2 if shape.cost <= 40 else 1
            elif shape.cost <= 8:
                copies = 2
        extent = poly.as_constant(poly.add(stop, start, -1))
        position = start
        for count in sorted({copies, 1}, reverse=True):
            block = count * width
            if count == 1 and masks and copies > 1:
                break  # the masked loop takes whole vectors too
            if extent is None:
                length = self.materialize(poly.add(stop, position, -1))
                whole = self.whole_blocks(length, block)
                end = poly.add(position, self.atom(whole))
            else:
                done = poly.as_constant(poly.add(position, start, -1)) or 0
                end = poly.add(position, poly.constant((extent - done) // block * block))

            def turn(i: Value, count: int = count) -> None:
                for self.copy in range(count):
                    base = poly.add(self.atom(i), poly.constant(self.copy * width))
                    self.vector_body(stmt, base, width, None)

            self.counted_loop(position, end, block, turn)
            position = end
        self.copy = 0
        left = poly.as_constant(poly.add(stop, position, -1))
        if left is not None:
            self.write_out(stmt, position, left, width, masks)
            return
        if not masks:
            self.scalar_part(stmt, position, stop)
            return
        bound = self.materialize(stop)

        def masked(i: Value) -> None:
            mask = self.tail_mask(i, bound, width)
            self.vector_body(stmt, self.atom(i), width, mask)

        self.counted_loop(position, stop, width, masked)

    def whole_blocks(self, length: Value, block: int) -> Value:
        """length rounded down to a multiple of block, 0 where length is negative."""
        zero = self.constant(0, "i64")
        positive = scalars.call(self, self.target, "max", [length, zero], "i64")
        if block & (block - 1) == 0:
            text = f"and i64 {positive.text}, {-block}"
            value = self.pure(text, "i64", (positive,), False)
        else:
            rest = self.pure(f"urem i64 {positive.text}, {block}", "i64", (positive,), False)
            value = self.pure(
                f"sub i64 {positive.text}, {rest.text}", "i64", (positive, rest), False
            )
        return Value(value.text, "i64", False, value.depth, True)

    def tail_mask(self, i: Value, bound: Value, width: int) -> Value:
        """Lanes l with i + l < bound."""
        saved, self.width = self.width, width
        left = self.pure(f"sub i64 {bound.text}, {i.text}", "i64", (bound, i), False)
        mask = self.lanes_before(left)
        self.width = saved
        return mask

    def scalar_part(self, stmt: Loop, start: Polynomial, stop: Polynomial) -> None:
        self.counted_loop(start, stop, 1, lambda i: self.vector_body(stmt, self.atom(i), 1, None))

    def vector_body(self, stmt: Loop, base: Polynomial, width: int, mask: Value | None) -> None:
        """The body once, for lanes base, base + 1, ... (a plain scalar body if width is 1)."""
        saved, outer = self.width, self.lanes
        index = poly.add(base, poly.atom(LANE)) if width > 1 else base
        self.width = width
        self.lanes = Lanes(width, mask, self.region.depth)
        self.forget()
        self.scoped({stmt.var: index}, stmt.body)
        self.width, self.lanes = saved, outer
        self.forget()

    # -- reductions ------------------------------------------------------------------------------

    def combine(self, op: str, total: Value, expr: Expr) -> Value:
        """op(total, expr); a sum of products is contracted to fma, which Reduce allows."""
        if (
            op == "add"
            and isinstance(expr, Call)
            and expr.op == "mul"
            and expr.dtype in ("f32", "f64")
        ):
            factors = [self.value(x) for x in expr.args]
            return scalars.call(self, self.target, "fma", [*factors, total], expr.dtype)
        return self.combine_values(op, total, self.value(expr))

    def combine_values(self, op: str, x: Value, y: Value) -> Value:
        if op in ("min", "max") and x.dtype in FLOATS:
            x, y = y, x  # the running value second: fewer instructions depend on it
        return scalars.call(self, self.target, op, [x, y], x.dtype)

    def reduce_lanes(self, stmt: Reduce, array: Array, index: Polynomial) -> None:
        """A Reduce whose place does not use the vector loop's variable."""
        dtype = stmt.value.dtype
        if self.is_outside(index):
            key = (stmt.op, array.pointer.text, tuple(sorted(index.items())))
            partial = self.partials.setdefault(key, Partial(stmt.op, array, index, dtype, {}))
            slot = partial.slots.get((self.width, self.copy))
            if slot is None:
                slot = partial.slots[self.width, self.copy] = self.name()
                kind = self.type(dtype, self.width > 1)
                self.allocas.append(f"  {slot} = alloca {kind}")
            lanes = self.width > 1
            kind = self.type(dtype, lanes)
            old = self.here(f"load {kind}, ptr {slot}", dtype, lanes)
            total = self.combine(stmt.op, old, stmt.value)
            total = self.splat(total) if lanes else total
            mask = self.lanes.mask if self.lanes is not None else None
            if mask is not None:
                total = scalars.call(self, self.target, "select", [mask, total, old], dtype)
            self.line(f"store {kind} {total.text}, ptr {slot}")
            return
        value = self.value(stmt.value)
        if self.width > 1:
            value = self.splat(value)
            mask = self.lanes.mask if self.lanes is not None else None
            if mask is not None:
                neutral = self.constant(identity(stmt.op, dtype), dtype)
                value = scalars.call(self, self.target, "select", [mask, value, neutral], dtype)
            value = self.across_lanes(stmt.op, value)
        old = self.load_at(array, index)
        self.store_at(array, index, self.combine_values(stmt.op, old, value), None)

    def is_outside(self, index: Polynomial) -> bool:
        """Whether a place is fixed while the vector loop runs."""
        return all(
            self.atoms[name].depth <= self.vector_depth for monomial in index for name in monomial
        )

    def reduce_scattered(self, stmt: Reduce, array: Array, index: Polynomial) -> None:
        """Lanes one after the other: two of them may meet at one place."""
        value, where = self.splat(self.value(stmt.value)), self.splat(self.materialize(index))
        mask = self.live(None, array)
        width = self.width
        for lane in range(width):
            one = self.extract(value, lane)
            place = self.extract(where, lane)
            alive = None if mask is None else self.extract(mask, lane)
            saved, self.lanes, self.width = self.lanes, None, 1
            at = self.atom(place)
            old = self.load_at(array, at, alive)
            self.store_at(array, at, self.combine_values(stmt.op, old, one), alive)
            self.lanes, self.width = saved, width

    def extract(self, value: Value, lane: int) -> Value:
        kind = self.type(value.dtype, True)
        text = f"extractelement {kind} {value.text}, i64 {lane}"
        return self.pure(text, value.dtype, (value,), False)

    def across_lanes(self, op: str, value: Value) -> Value:
        """Halves are combined until one lane is left: a tree that only the width decides."""
        saved = self.width
        while self.width > 2:
            half = self.width // 2
            kind = self.type(value.dtype, True)
            parts = []
            for base in (0, half):
                order = ", ".join(f"i32 {base + i}" for i in range(half))
                text = f"shufflevector {kind} {value.text}, {kind} poison, <{half} x i32> <{order}>"
                parts.append(self.pure(text, value.dtype, (value,), True))
            self.width = half
            value = self.combine_values(op, *parts)
        total = self.combine_values(op, self.extract(value, 0), self.extract(value, 1))
        self.width = saved
        return total

    def partial_starts(self) -> list[str]:
        lines = []
        for partial in self.partials.values():
            neutral = self.constant(identity(partial.op, partial.dtype), partial.dtype)
            for (width, _), slot in partial.slots.items():
                saved, self.width = self.width, width
                value = self.splat(neutral) if width > 1 else neutral
                kind = self.type(partial.dtype, width > 1)
                lines.append(f"  store {kind} {value.text}, ptr {slot}")
                self.width = saved
        return lines

    def finish_partials(self) -> None:
        for partial in self.partials.values():
            total: Value | None = None
            for width in sorted({w for w, _ in partial.slots}, reverse=True):
                saved, self.width = self.width, width
                kind = self.type(partial.dtype, width > 1)
                values = [
                    self.here(f"load {kind}, ptr {slot}", partial.dtype, width > 1)
                    for (w, _), slot in sorted(partial.slots.items())
                    if w == width
                ]
                while len(values) > 1:
                    half = math.ceil(len(values) / 2)
                    values = [
                        self.combine_values(partial.op, values[i], values[i + half])
                        if i + half < len(values)
                        else values[i]
                        for i in range(half)
                    ]
                value = self.across_lanes(partial.op, values[0]) if width > 1 else values[0]
                self.width = saved
                total = value if total is None else self.combine_values(partial.op, total, value)
            assert total is not None
            old = self.load_at(partial.array, partial.index)
            value = self.combine_values(partial.op, old, total)
            self.store_at(partial.array, partial.index, value, None)


def identity(op: str, dtype: str) -> object:
    """The value that leaves the other operand of a reduction as it is."""
    if op in ("add", "or"):
        return 0
    if op == "mul":
        return 1
    if op == "and":
        return True if dtype == "bool" else -1 if dtype[0] == "i" else (1 << BITS[dtype]) - 1
    if dtype == "bool":
        return op == "min"
    if dtype in FLOATS:
        return math.inf if op == "min" else -math.inf
    bits, signed = BITS[dtype], dtype[0] == "i"
    if op == "max":
        return -(1 << (bits - 1)) if signed else 0
    return (1 << (bits - 1 if signed else bits)) - 1
