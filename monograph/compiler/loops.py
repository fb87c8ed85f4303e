"""From a fused group to loops: one kernel for maps, row reductions and column reductions.

    chunk (parallel; the grid depends on shapes only)
      rows of the chunk: the kept axes, but for the lanes of a column reduction
        stage 0: loops over the reduced axes: reductions that wait for nothing, results of full
        shape
        stage 1: reductions that need stage 0's (a variance needs the mean), ...
        results of the row's own shape

Where the reduced axes are innermost, lanes run along the row. Where a kept axis is, lanes run along
it, with one accumulator each, in blocks that stay in registers (bias gradients, batch statistics);
also where rows are too short for the lanes (softmax of few classes).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..codegen.target import host
from ..core import dtype as dt
from ..core.symbolic import hint, is_symbolic
from ..ir.graph import Value
from ..ir.op import Reduction
from ..kernel.ir import (
    Buffer,
    Call,
    Const,
    Expr,
    Kernel,
    Let,
    Load,
    Local,
    Loop,
    Reduce,
    Store,
    Var,
)  # fmt: skip
from .fuse import COSTLY, Group
from .index import ZERO, Index, NeedSplit, loop_index
from .layout import Layouts, loop_order
from .loop_costs import COLUMN_BLOCK, largest_block, together_of, weight_of
from .reader import Reader, Storage, compute_type

# Elements of work in one chunk: enough to pay for claiming it, few enough to balance.
CHUNK_WORK = 16384
# Elements of a row that is kept in the nearest caches from one stage to the next.
ROW_KEPT = 1 << 16
# Rows of so many elements fill a small part of the lanes: then lanes go from row to row. The share
# of the lanes up to which that is quicker, and the same where functions of many operations are
# computed (softmax, cross-entropy).
SHORT_ROW, SHORT_HEAVY_ROW = 1 / 4, 1 / 2


@dataclass(eq=False)
class Dim:
    """A part of an axis of the full shape: one loop variable."""

    name: str
    size: int
    axis: int
    reduced: bool


@dataclass(eq=False)
class Run:
    """Neighbouring dims walked by one loop, whose variable is the innermost dim's."""

    dims: list[Dim]

    @property
    def name(self) -> str:
        return self.dims[-1].name

    @property
    def size(self) -> int:
        return math.prod(d.size for d in self.dims)

    @property
    def reduced(self) -> bool:
        return self.dims[0].reduced


@dataclass
class LoopKernel:
    """kernel, the values behind its buffers, its work, and which inputs could be overwritten.

    overwrites  pairs (result, input): the kernel reads that input only at the element it writes
    """

    kernel: Kernel
    values: list[Value]
    work: int
    overwrites: list[tuple[Value, Value]]
    weight: int = 1  # of an element: how many times as long as arithmetic it takes


def lower_loops(
    group: Group,
    title: str,
    is_stored: Callable[[Value], bool],
    layouts: Layouts,
    alias: Mapping[Value, Value] | None = None,
) -> LoopKernel:
    """The kernel of a group. alias: results that take the place of an input's memory."""
    splits: dict[int, list[int]] = {a: [n] for a, n in enumerate(group.full)}
    together = 1 if group.across else together_of(group, is_stored, layouts)
    if together > 1:
        splits[len(group.full) - 1] = [group.full[-1] // together, together]
    for _ in range(64):
        try:
            given = group, title, is_stored, layouts, splits
            attempt = _Attempt(*given, frozenset(), alias or {}, together)
            if attempt.columns and attempt.block_split(splits):
                continue
            attempt.build()
            merges = attempt.mergeable()
            if merges:
                attempt = _Attempt(*given, merges, alias or {}, together)
                attempt.build()
            return attempt.finish()
        except NeedSplit as need:
            axis, part = (int(x) for x in need.name[1:].split("_"))
            sizes = splits[axis]
            sizes[part : part + 1] = [sizes[part] // need.inner, need.inner]
    raise AssertionError(f"{title}: the loops could not be split")


class _Attempt:
    """One try at a kernel, with given loop splits and merges."""

    def __init__(
        self,
        group: Group,
        title: str,
        is_stored: Callable[[Value], bool],
        layouts: Layouts,
        splits: Mapping[int, Sequence[int]],
        merges: frozenset[str],
        alias: Mapping[Value, Value],
        together: int,
    ):
        self.group, self.title, self.is_stored, self.alias = group, title, is_stored, alias
        self.strides = layouts.strides
        self.own = set(group.items)
        reduced_axes = group.axes or ()
        self.by_axis = {
            axis: [Dim(f"i{axis}_{p}", n, axis, axis in reduced_axes) for p, n in enumerate(sizes)]
            for axis, sizes in splits.items()
        }
        order = loop_order(group, layouts)
        self.dims = [d for axis in order for d in self.by_axis[axis] if d.size != 1]
        self.weight = weight_of(group, is_stored)
        if together == 1 and self._has_short_rows():
            self.dims.sort(key=lambda d: not d.reduced)
        # Neighbours that share work are turns of the lanes' loop.
        self.turn: Dim | None = None
        if together > 1 and self.dims[-1].size == together:
            self.turn = self.dims.pop()
        self.runs: list[Run] = []
        open_run = False
        for d in self.dims:
            if open_run:
                self.runs[-1].dims.append(d)
            else:
                self.runs.append(Run([d]))
            open_run = d.name in merges
        self.reader = Reader(self._storage)
        self.reader.dropped = set(merges)
        self.kept = [r for r in self.runs if not r.reduced]
        self.inner = [r for r in self.runs if r.reduced]
        self.reductions = [
            v for v in group.items if v.node is not None and isinstance(v.node.op, Reduction)
        ]
        self.columns = bool(
            self.reductions
            and self.kept
            and self.inner
            and self.runs.index(self.kept[-1]) > self.runs.index(self.inner[-1])
            and not is_symbolic(self.kept[-1].size)
        )
        self.lanes: Run | None = None
        if self.columns or not self.reductions:
            self.lanes = self.kept[-1] if self.kept else None
        self.rows = [r for r in self.kept if r is not self.lanes]
        self.buffers: dict[Value, Buffer] = {}
        self.stages: dict[Value, int] = {}
        self.written: set[Value] = set()
        self.kept_rows: dict[Value, Storage] = {}

    def _has_short_rows(self) -> bool:
        """Whether reduced axes are innermost, of a few elements, below an axis for the lanes."""
        rows = [d for d in self.dims if not d.reduced]
        if not rows or self.dims[len(rows) - 1] is not rows[-1]:
            return False
        if any(is_symbolic(d.size) for d in self.dims):
            return False
        lanes, count = host().lanes(4), math.prod(d.size for d in self.dims[len(rows) :])
        share = SHORT_HEAVY_ROW if self.weight > 1 else SHORT_ROW
        block = rows[-1].size
        can_split = block <= COLUMN_BLOCK or largest_block(block) > 1
        return 1 < count <= share * lanes and block >= lanes and can_split

    def block_split(self, splits: dict[int, list[int]]) -> bool:
        """Split the lanes' axis into blocks of at most COLUMN_BLOCK, if that is still to do."""
        dim = self.lanes.dims[-1]  # type: ignore[union-attr]
        if dim.size <= COLUMN_BLOCK:
            return False
        block = largest_block(dim.size)
        if block == 1:
            return False
        parts = splits[dim.axis]
        at = self.by_axis[dim.axis].index(dim)
        parts[at : at + 1] = [dim.size // block, block]
        return True

    # Indices and memory

    def index(self, axes: Sequence[int]) -> tuple[Index, ...]:
        """Where the loops stand along the given axes of the full shape."""
        result = []
        for axis in axes:
            total, step = ZERO, 1
            for d in reversed(self.by_axis[axis]):
                total = total + loop_index(d.name, d.size) * step
                step *= d.size
            result.append(total)
        return tuple(result)

    @property
    def full_index(self) -> tuple[Index, ...]:
        return self.index(range(len(self.group.full)))

    @property
    def row_index(self) -> tuple[Index, ...]:
        axes = self.group.axes or ()
        return self.index([a for a in range(len(self.group.full)) if a not in axes])

    def _storage(self, v: Value) -> Storage | None:
        if v in self.own:
            if v in self.kept_rows:
                return self.kept_rows[v]
            return self._buffer(v) if v in self.written else None
        if v.node is not None and not self.is_stored(v):
            return None
        return self._buffer(v)

    def _buffer(self, v: Value, written: bool = False) -> Storage:
        key = self.alias.get(v, v)
        found = self.buffers.get(key)
        if found is None or (written and not found.written):
            name = found.name if found else f"b{len(self.buffers)}"
            self.buffers[key] = found = Buffer(name, v.dtype.code, written)
        return Storage(found.name, self.strides(v))

    # Stages

    def stage_of(self, v: Value) -> int:
        """How many of the group's reductions, one after the other, v waits for."""
        stack = [v]
        while stack:
            u = stack[-1]
            if u in self.stages:
                stack.pop()
                continue
            if u.node is None or (u not in self.own and self.is_stored(u)):
                self.stages[u] = 0
                continue
            missing = [w for w in u.node.values if w not in self.stages]
            if missing:
                stack.extend(missing)
                continue
            stage = max((self.stages[w] for w in u.node.values), default=0)
            own_reduction = u in self.own and isinstance(u.node.op, Reduction)
            self.stages[u] = stage + 1 if own_reduction else stage
        return self.stages[v]

    # The kernel

    def build(self) -> None:
        r = self.reader
        rows = math.prod(run.size for run in self.rows)
        lane_count = self.lanes.size if self.lanes else 1
        per_row = max(1, lane_count * math.prod(run.size for run in self.inner))
        per_row *= self.turn.size if self.turn else 1
        self.work = rows * per_row * max(1, len(self.group.items))
        chunk_work = CHUNK_WORK // self.weight
        self.parts: Any = 1
        if not self.reductions and hint(per_row) > 2 * chunk_work and hint(lane_count) > 64:
            self.parts = -(-per_row // chunk_work)
        rows_per_chunk = max(1, min(hint(rows), chunk_work // hint(per_row))) if rows else 1
        if is_symbolic(rows):
            rows_per_chunk = max(1, chunk_work // hint(per_row))
        across = self.group.across
        if across:  # all rows of a sum
            rows_per_chunk = rows * self.group.full[-1] // across[0].aval.size
        row_chunks = -(-rows // rows_per_chunk)
        self.grid = row_chunks * self.parts
        chunk: Expr = Var("chunk")
        self.part: Expr = Const(0, "i64")
        r.levels["chunk"] = 0
        if self.parts != 1:
            self.part = r.let(chunk % self.parts, "part")
            chunk = r.let(chunk // self.parts, "rowchunk")
        if rows == 1:
            self._row()
            return
        start = r.let(chunk * rows_per_chunk, "start")
        stop: Expr = start + rows_per_chunk
        if rows % rows_per_chunk:
            stop = r.let(Call("min", (stop, Const(rows, "i64")), "i64"), "stop")
        self.sums = {v: r.name("sum") for v in across}
        for v, name in self.sums.items():
            r.levels[name] = len(r.scopes) - 1
            r.emit(Local(name, compute_type(v.dtype), self.group.full[-1]))
            zero = Store(name, Var("lane"), _identity("add", compute_type(v.dtype)))
            r.emit(self._along_row(zero))
        r.push("row", *(run.name for run in self.rows))
        step = rows
        for run in self.rows:
            # Without rows the grid is empty, and the positions only have to be sound.
            step = max(step // (run.size or 1), 1)
            position = Var("row") // step
            if run is not self.rows[0]:
                position = position % (run.size or 1)
            r.emit(Let(run.name, position))
        self._row()
        r.emit(Loop("row", start, stop, r.pop()))
        for v, name in self.sums.items():
            total: Expr = Load(name, Var("lane"), compute_type(v.dtype))
            if total.dtype != v.dtype.code:
                total = Call("cast", (total,), v.dtype.code)
            place = Var("chunk") * self.group.full[-1] + Var("lane")
            r.emit(self._along_row(Store(self._buffer(v, written=True).buffer, place, total)))

    def _along_row(self, statement: Store) -> Loop:
        stop = Const(self.group.full[-1], "i64")
        return Loop("lane", Const(0, "i64"), stop, (statement,), "vector")

    def _row(self) -> None:
        """Everything for one row (or block of lanes)."""
        stages = [self.stage_of(v) for v in self.group.items]
        stages += [self._stage_across(v) for v in self.group.across]
        self.last = last = max(stages, default=0)
        full = [v for v in self.group.items if self._is_full(v)]
        for stage in range(last + 1):
            reductions = [v for v in self.reductions if self.stage_of(v) == stage + 1]
            stores = [v for v in full if self.stage_of(v) == stage and self.is_stored(v)]
            sums = [v for v in self.group.across if self._stage_across(v) == stage]
            if reductions or stores or sums:
                self._stage(stage, reductions, stores, sums)
        rest = [v for v in self.group.items if not self._is_full(v) and self.is_stored(v)]
        if rest:
            self._lane_loop(lambda: self._store(rest, self.row_index))

    def _stage_across(self, v: Value) -> int:
        """The stage in whose loops a sum over rows is made."""
        return self.stage_of(v.node.values[0])  # type: ignore[union-attr]

    def _is_full(self, v: Value) -> bool:
        return v not in self.reductions and tuple(v.shape) == self.group.full

    def _rows_to_keep(self, stage: int) -> dict[Value, Storage]:
        """Values of this stage that a later one needs and that are dear to compute again."""
        axes = self.group.axes
        size = math.prod(self.group.full[a] for a in axes or ())
        if self.columns or not axes or stage == self.last or hint(size) > ROW_KEPT:
            return {}
        strides, step = [0] * len(self.group.full), 1
        for d in reversed(self.dims if self.turn is None else [*self.dims, self.turn]):
            if d.reduced and not strides[d.axis]:
                strides[d.axis] = step
                step *= self.group.full[d.axis]
        found = {}
        for v in self.group.items:
            node = v.node
            assert node is not None
            dear = node.op.kind == "elementwise" and node.op.name in COSTLY
            if (
                dear
                and self._is_full(v)
                and self.stage_of(v) == stage
                and not self.is_stored(v)
                and compute_type(v.dtype) == v.dtype.code
                and self._is_needed_after(v, stage)
            ):
                found[v] = Storage(self.reader.name("row"), tuple(strides))
        return found if found and self._kept_row(size) <= ROW_KEPT else {}

    def _kept_row(self, size: int) -> int:
        """Room for a row of `size`; at a run-time size for all that are kept."""
        if not is_symbolic(size):
            return size
        fits = hint(size) * 4 <= ROW_KEPT and size <= ROW_KEPT  # a guard
        return ROW_KEPT if fits else ROW_KEPT + 1

    def _is_needed_after(self, v: Value, stage: int) -> bool:
        """Whether results or reductions of a later stage read v."""
        for u in self.group.items:
            reduction = u in self.reductions
            if self.stage_of(u) - reduction <= stage:
                continue
            stack, seen = list(u.node.values), set()  # type: ignore[union-attr]
            while stack:
                x = stack.pop()
                if x is v:
                    return True
                if x in seen or x.node is None or x in self.reductions:
                    continue
                if x in self.own or not self.is_stored(x):
                    seen.add(x)
                    stack.extend(x.node.values)
        return False

    def _stage(
        self, stage: int, reductions: list[Value], stores: list[Value], sums: list[Value]
    ) -> None:
        r = self.reader
        lane_count = self.lanes.size if self.columns and self.lanes else 1
        accumulators = {}
        for v in reductions:
            name = r.name("acc")
            accumulators[v] = name
            code = compute_type(v.dtype)
            r.levels[name] = len(r.scopes) - 1
            r.emit(Local(name, code, lane_count))
            start = _identity(v.node.op.combine, code)  # type: ignore[union-attr]
            self._lane_loop(partial(self._set, name, start))
        kept = self._rows_to_keep(stage)
        for row in kept.values():
            r.levels[row.buffer] = len(r.scopes) - 1

        def body() -> None:
            index = self.full_index
            for v in reductions:
                node = v.node
                assert node is not None
                value = r.read(node.inputs[0], index)
                combine = node.op.combine  # type: ignore[attr-defined]
                r.emit(Reduce(combine, accumulators[v], self._lane(), value))
            for v in sums:
                lane = r.position(self.index([len(self.group.full) - 1]), (1,))
                value = r.read(v.node.values[0], index)  # type: ignore[union-attr]
                r.emit(Reduce("add", self.sums[v], lane, value))
            for v, row in kept.items():
                r.emit(Store(row.buffer, r.position(index, row.strides), r.read(v, index)))
            self._store(stores, index)

        for v, row in kept.items():
            size = math.prod(self.group.full[a] for a in self.group.axes or ())
            r.emit(Local(row.buffer, v.dtype.code, self._kept_row(size)))
        self._nest([*self.inner], body)
        self.kept_rows.update(kept)
        for v, name in accumulators.items():
            code = compute_type(v.dtype)
            if self.columns:
                r.bound[v] = partial(self._sum, name, code)
            else:
                result = r.let(Load(name, Const(0, "i64"), code), "r")
                r.bound[v] = partial(_constant, result)

    def _set(self, accumulator: str, value: Expr) -> None:
        self.reader.emit(Store(accumulator, self._lane(), value))

    def _sum(self, accumulator: str, code: str, index: tuple[Index, ...]) -> Expr:
        return Load(accumulator, self._lane(), code)

    def _nest(self, runs: list[Run], body: Callable[[], None]) -> None:
        """The loops over reduced axes (lanes along the last), or over lanes only."""
        r = self.reader
        if self.columns or not runs:
            if not runs:
                self._lane_loop(body)
                return
            for run in runs:
                r.push(run.name)
            self._lane_loop(body)
            for run in reversed(runs):
                loop = Loop(run.name, Const(0, "i64"), Const(run.size, "i64"), r.pop())
                r.emit(loop)
            return
        for run in runs:
            r.push(run.name)
        self._turns(body)
        for run in reversed(runs):
            kind = "vector" if run is runs[-1] else "serial"
            r.emit(Loop(run.name, Const(0, "i64"), Const(run.size, "i64"), r.pop(), kind))

    def _lane_loop(self, body: Callable[[], None]) -> None:
        """body once for each lane of a map or column reduction; once where there are no lanes."""
        r = self.reader
        if self.lanes is None:
            body()
            return
        n = self.lanes.size
        start: Expr = Const(0, "i64")
        stop: Expr = Const(n, "i64")
        if self.parts != 1:
            length = (-(-n // self.parts) + 63) // 64 * 64
            start = self.part * length
            stop = Call("min", (start + length, Const(n, "i64")), "i64")
            start = r.let(Call("min", (start, Const(n, "i64")), "i64"), "from")
            stop = r.let(stop, "to")
        r.push(self.lanes.name)
        self._turns(body)
        r.emit(Loop(self.lanes.name, start, stop, r.pop(), "vector"))

    def _turns(self, body: Callable[[], None]) -> None:
        """body for each turn of a lane, written out."""
        if self.turn is None:
            body()
            return
        name, r = self.turn.name, self.reader
        r.push(name)
        body()
        stop = Const(self.turn.size, "i64")
        r.emit(Loop(name, Const(0, "i64"), stop, r.pop(), "unroll"))

    def _lane(self) -> Expr:
        """Which accumulator: the lane's number in a column reduction."""
        return Var(self.lanes.name) if self.columns and self.lanes else Const(0, "i64")

    def _store(self, values: list[Value], index: tuple[Index, ...]) -> None:
        """Compute all, then store all: a result may stand where an input stood."""
        r = self.reader
        computed = [r.read(v, index) for v in values]
        for v, e in zip(values, computed):
            code = v.dtype.code
            if e.dtype != code:
                e = Call("cast", (e,), code)
            storage = self._buffer(v, written=True)
            r.emit(Store(storage.buffer, r.position(index, storage.strides, storage.buffer), e))
        self.written.update(values)

    # After building

    def mergeable(self) -> frozenset[str]:
        """Dims that may be walked together with their inner neighbour, as one loop."""
        found = set()
        lane_dim = self.lanes.dims[-1] if self.columns and self.lanes else None
        for outer, inner in zip(self.dims, self.dims[1:]):
            if outer.reduced != inner.reduced or inner is lane_dim:
                continue
            if outer.name in self.reader.pinned or inner.name in self.reader.pinned:
                continue
            if all(
                (b := a.coefficient(inner.name)) is not None
                and a.coefficient(outer.name) == b * inner.size
                for a in self.reader.accesses
            ):
                found.add(outer.name)
        return frozenset(found)

    def finish(self) -> LoopKernel:
        values = list(self.buffers)
        overwrites = []
        at = self.reader.at
        for v in self.written:
            if v in self.alias or (self._is_full(v) and self.stage_of(v) < self.last):
                continue  # a later stage may read the input again
            mine = at.get(self.buffers[v].name, set())
            for u, buffer in self.buffers.items():
                same = u is not v and not buffer.written and u.dtype is v.dtype
                if same and u.shape == v.shape and at.get(buffer.name) == mine and len(mine) == 1:
                    overwrites.append((v, u))
        body = tuple(self.reader.scopes[0].body)
        grid = Const(self.grid, "i64")
        kernel = Kernel(self.title, tuple(self.buffers.values()), body, (), grid)
        return LoopKernel(kernel, values, self.work, overwrites, self.weight)


def _constant(value: Expr, index: tuple[Index, ...]) -> Expr:
    return value


def _identity(combine: str, code: str) -> Const:
    """What a reduction starts from."""
    if combine in ("add", "or"):
        return Const(False if code == "bool" else 0.0 if code[0] == "f" else 0, code)
    if combine in ("mul", "and"):
        ones = -1 if combine == "and" and code != "bool" else 1
        return Const(True if code == "bool" else 1.0 if code[0] == "f" else ones, code)
    lowest = combine == "max"
    if code[0] == "f":
        return Const(-math.inf if lowest else math.inf, code)
    if code == "bool":
        return Const(not lowest, code)
    info = dt.iinfo(dt.from_code(code))
    return Const(info.min if lowest else info.max, code)
