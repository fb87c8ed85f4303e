"""From a fused group to loops: one kernel for maps, row reductions and column reductions.

    chunk (parallel, from shapes only)
      rows of the chunk
        stage 0: loops over the reduced axes: reductions that need nothing from here, full results
        stage 1: reductions that need stage 0's (the variance needs the mean), ...
        results of the row's own shape

Where the reduced axes are the contiguous ones, lanes run along the row; where they are not, lanes run
along the innermost kept axis with one accumulator each (column reductions: bias gradients).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..core.shape import contiguous_strides
from ..ir.graph import Value
from ..ir.op import Reduction
from ..kernel import scalar
from ..kernel.ir import Buffer, Const, Expr, Kernel, Let, Load, Local, Loop, Reduce, Stmt, Store, Var
from .fuse import Group
from .index import ZERO, Index, NeedSplit, loop_index
from .reader import Reader, Storage, compute_type

# Elements of work that one chunk should have: enough to pay for claiming it, few enough to balance.
CHUNK_WORK = 16384
COLUMN_BLOCK = 64


@dataclass
class Dim:
    """One loop. `axis` is the axis of the full shape that it is a part of."""

    name: str
    size: int
    reduced: bool
    merged: bool = False  # runs inside its inner neighbour


@dataclass
class LoopKernel:
    kernel: Kernel
    buffers: list[Value]


def lower_loops(group: Group, name: str, is_stored: Callable[[Value], bool]) -> LoopKernel:
    """The kernel of a group of loops; `buffers` lists the values behind its buffers in order."""
    splits: dict[int, list[int]] = {a: [n] for a, n in enumerate(group.full)}
    merges: set[str] = set()
    for _ in range(64):
        attempt = _Attempt(group, name, is_stored, splits, set())
        try:
            attempt.build()
        except NeedSplit as need:
            axis, part = attempt.place_of(need.name)
            sizes = splits[axis]
            sizes[part : part + 1] = [sizes[part] // need.inner, need.inner]
            continue
        merges = attempt.mergeable()
        if merges:
            attempt = _Attempt(group, name, is_stored, splits, merges)
            attempt.build()
        return attempt.finish()
    raise AssertionError(f"{name}: loops could not be split")


class _Attempt:
    """One try at lowering a group with given loop splits and merges."""

    def __init__(
        self,
        group: Group,
        name: str,
        is_stored: Callable[[Value], bool],
        splits: dict[int, list[int]],
        merges: set[str],
    ):
        self.group, self.title, self.is_stored = group, name, is_stored
        self.axes = group.axes or ()
        self.dims: list[Dim] = []
        self.by_axis: dict[int, list[Dim]] = {}
        for axis, sizes in splits.items():
            parts = []
            for p, size in enumerate(sizes):
                dim = Dim(f"i{axis}_{p}", size, axis in self.axes)
                parts.append(dim)
                if size > 1:
                    self.dims.append(dim)
            self.by_axis[axis] = parts
        self.buffers: dict[Value, Buffer] = {}
        self.reader = Reader(self._storage)
        self.reader.pinned = set()
        self.merges = merges
        self._merge()
        self.stage: dict[Value, int] = {}
        self.own = set(group.items)

    def place_of(self, name: str) -> tuple[int, int]:
        axis, part = name[1:].split("_")
        return int(axis), int(part)

    # Loops

    def _merge(self) -> None:
        """Let each merged loop's inner neighbour run over both."""
        for i in range(len(self.dims) - 2, -1, -1):
            d = self.dims[i]
            if d.name in self.merges:
                inner = self.dims[i + 1]
                d.merged = True
                self.reader.dropped[d.name] = 1
                inner_total = inner
                inner_total.size = d.size * inner.size
        # Sizes accumulate from the inside out, so a chain of merges ends in the innermost loop.
        self.loops = []
        carry = 1
        for d in self.dims:
            if d.merged:
                continue
            self.loops.append(d)
        del carry

    def mergeable(self) -> set[str]:
        """Loops that may run inside their inner neighbour: every access walks them as one."""
        found = set()
        for outer, inner in zip(self.dims, self.dims[1:]):
            if outer.reduced != inner.reduced or {outer.name, inner.name} & self.reader.pinned:
                continue
            fits = True
            for access in self.reader.accesses:
                a, b = access.coefficient(outer.name), access.coefficient(inner.name)
                if a is None or b is None or a != b * inner.size:
                    fits = False
                    break
            if fits:
                found.add(outer.name)
        return found

    def index(self, axes: Any) -> tuple[Index, ...]:
        """The index along the given axes of the full shape."""
        result = []
        for axis in axes:
            total = ZERO
            step = 1
            for dim in reversed(self.by_axis[axis]):
                total = total + loop_index(dim.name, self._own_size(dim)) * step
                step *= self._own_size(dim)
            result.append(total)
        return tuple(result)

    def _own_size(self, dim: Dim) -> int:
        return self.sizes[dim.name]

    # Memory

    def _storage(self, v: Value) -> Storage | None:
        if v in self.own:
            return None
        if v.node is not None and not self.is_stored(v):
            return None
        return self._buffer(v, False)

    def _buffer(self, v: Value, written: bool) -> Storage:
        found = self.buffers.get(v)
        if found is None:
            found = Buffer(f"b{len(self.buffers)}", v.dtype.code, written)
            self.buffers[v] = found
        return Storage(found.name, contiguous_strides(v.shape))

    # Stages

    def _stage_of(self, v: Any) -> int:
        """How many of the group's reductions, one after the other, v waits for."""
        stack = [v]
        while stack:
            u = stack[-1]
            if u in self.stage:
                stack.pop()
                continue
            node = u.node
            if node is None or (u not in self.own and self.is_stored(u)):
                self.stage[u] = 0
                stack.pop()
                continue
            missing = [w for w in node.values if w not in self.stage]
            if missing:
                stack.extend(missing)
                continue
            base = max((self.stage[w] for w in node.values), default=0)
            self.stage[u] = base + 1 if u in self.own and isinstance(node.op, Reduction) else base
            stack.pop()
        return self.stage[v]

    # Building

    def build(self) -> None:
        group = self.group
        self.sizes = {}
        for parts in self.by_axis.values():
            for d in parts:
                self.sizes[d.name] = d.size
        # merged loops keep their own size for index arithmetic, the loop that carries them grows
        for i in range(len(self.dims) - 1):
            if self.dims[i].merged:
                self.sizes[self.dims[i + 1].name] = self._original(self.dims[i + 1])
        kept = [d for d in self.loops if not d.reduced]
        reduced = [d for d in self.loops if d.reduced]
        reductions = [v for v in group.items if self._is_reduction(v)]
        self.lanes_on_kept = bool(reductions) and self._columns(kept, reduced)
        self.block = 1
        inner_kept: Dim | None = None
        if not reductions:
            inner_kept = kept[-1] if kept else None
        elif self.lanes_on_kept:
            inner_kept = kept[-1]
        outer = [d for d in kept if d is not inner_kept]
        self._emit(kept, outer, inner_kept, reduced, reductions)

    def _original(self, d: Dim) -> int:
        axis, part = self.place_of(d.name)
        return self.original[axis][part]

    @property
    def original(self) -> dict[int, list[int]]:
        return self._splits

    _splits: dict[int, list[int]]

    def _is_reduction(self, v: Value) -> bool:
        return v.node is not None and isinstance(v.node.op, Reduction)

    def _columns(self, kept: list[Dim], reduced: list[Dim]) -> bool:
        """Whether the contiguous axis is kept, so that lanes run across rows."""
        if not kept:
            return False
        if not reduced:
            return True
        return self.loops.index(kept[-1]) > self.loops.index(reduced[-1])

    def _emit(self, *args: Any) -> None:
        raise NotImplementedError
