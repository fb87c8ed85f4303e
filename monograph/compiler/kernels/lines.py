"""Lines: what kernels that go along one axis have in common (positions, running sums, sorting).

A line is what varies along the axis. Lines stand side by side along the *lane* axis, the one whose
neighbours are neighbours in memory, or come one by one as *rows*. `Lines` says where row number r
begins in each array, whatever the arrays' strides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...codegen.target import host
from ...core.shape import Shape, numel
from ...core.symbolic import hint, is_symbolic
from ...ir.graph import Value
from ...kernel import scalar as s
from ...kernel.ir import Const, Expr, Let, Loop, Stmt, Var
from ..steps import Context

CHUNK_WORK = 16384


def const(n: int) -> Const:
    return Const(n, "i64")


def literal_of(x: Any, code: str) -> Const:
    """A Python number as a constant of a dtype."""
    if code in ("f32", "f64", "f16", "bf16"):
        return Const(float(x), code)
    return Const(bool(x) if code == "bool" else int(x), code)


@dataclass
class Array:
    """An array that is walked: its steps per axis, and where it begins, in elements."""

    steps: Shape
    offset: int = 0


def operand(context: Context, v: Value) -> tuple[Value, Array]:
    """What stands in memory behind an operand, and how the operand is read from it."""
    assert context.locate is not None
    base, steps, offset = context.locate(v)
    return base, Array(steps, offset)


def result(context: Context, v: Value) -> Array:
    return Array(context.strides(v))


def _merged(axes: list[tuple[int, dict[str, int]]]) -> list[tuple[int, dict[str, int]]]:
    """Sizes and steps, where neighbouring axes that all arrays walk as one have become one."""
    found: list[tuple[int, dict[str, int]]] = []
    for n, steps in axes:
        if n == 1:
            continue
        if found and all(found[-1][1][k] == steps[k] * n for k in steps):
            found[-1] = (found[-1][0] * n, steps)
        else:
            found.append((n, steps))
    return found


class Lines:
    """Lines along `axis` (None: single elements) of arrays of one shape, but for the axis' size.

    arrays  name -> Array
    lanes   False: each line is a row of its own
    count   rows; a row has `lanes` lines side by side
    """

    def __init__(
        self, shape: Shape, axis: int | None, arrays: Mapping[str, Array], lanes: bool = True
    ):
        self.arrays = arrays
        self.length = 1 if axis is None else shape[axis]
        self.along = {k: 0 if axis is None else a.steps[axis] for k, a in arrays.items()}
        steps = {k: a.steps for k, a in arrays.items()}
        self.axes = _merged(
            [(n, {k: v[a] for k, v in steps.items()}) for a, n in enumerate(shape) if a != axis]
        )
        first = next(iter(arrays))
        self.lanes, self.lane_step = 1, dict.fromkeys(arrays, 0)
        inner = [part for part in self.axes if part[1][first] == 1]
        if lanes and inner and (axis is None or steps[first][axis] != 1 or self.length == 1):
            self.axes.remove(inner[-1])
            self.lanes, self.lane_step = inner[-1]
        self.count = 1
        for n, _ in self.axes:
            self.count *= n

    def places(self, row: Expr, suffix: str = "") -> list[Stmt]:
        """Lets that name where row number `row` begins in each array: its name + "_at" + suffix."""
        lets: list[Stmt] = []
        rest = self.count
        at: dict[str, Expr] = {k: const(a.offset) for k, a in self.arrays.items()}
        for i, (n, steps) in enumerate(self.axes):
            rest //= n
            name = f"axis{i}{suffix}"
            lets.append(Let(name, (row // rest) % n if i else row // rest))
            for k, step in steps.items():
                at[k] = Var(name) * step + at[k]
        return [*lets, *(Let(f"{k}_at{suffix}", e) for k, e in at.items())]

    def at(self, name: str, i: Expr, lane: Expr | None = None, suffix: str = "") -> Expr:
        """Where element i of a row (of the line in lane `lane`) stands."""
        place: Expr = Var(f"{name}_at{suffix}") + i * self.along[name]
        return place if lane is None else place + lane * self.lane_step[name]


def chunks_of(count: int, work: int, body: Callable[[Expr], Sequence[Stmt]]) -> tuple[Stmt, int]:
    """(the loop over the rows of a chunk, how many chunks); `work`: of one row."""
    each = max(1, CHUNK_WORK // max(hint(work), 1))
    if not is_symbolic(count):
        each = min(count, each) or 1
    grid = -(-count // each)
    start = Var("chunk") * each
    stop: Expr = start + each
    if count % each:
        stop = s.minimum(stop, const(count))
    return Loop("row", start, stop, tuple(body(Var("row")))), grid


def lane_block(lanes: int, itemsize: int) -> int:
    """How many lines are walked together: what a few of them carry stays in registers."""
    target = host()
    return min(lanes, max(target.registers // 8, 1) * target.vector_bytes // itemsize)


def block_start(lanes: int, block: int, number: Expr) -> Expr:
    """The first lane of a block; the last one is moved back, over its neighbour."""
    begin = number * block
    return s.minimum(begin, const(lanes - block)) if lanes % block else begin


def place_of(number: Expr, shape: Shape, steps: Shape) -> Expr:
    """Where element `number` (row-major) of an array of these steps stands."""
    axes = [(n, step) for n, step in zip(shape, steps) if n > 1]
    merged: list[tuple[int, int]] = []
    for n, step in axes:
        if merged and merged[-1][1] == n * step:
            merged[-1] = (merged[-1][0] * n, step)
        else:
            merged.append((n, step))
    total: Expr = const(0)
    rest = numel(n for n, _ in merged)
    for k, (n, step) in enumerate(merged):
        rest //= n
        part = number // rest
        total = total + (part % n if k else part) * step
    return total
