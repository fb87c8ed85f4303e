"""Packing: an operand copied into panels, so that the tile loops read it in one straight run.

A panel holds the lines of one tile (MR rows of a, or NR columns of b): element (k, i) stands at
k*width + i. The last panel overlaps its neighbour, as the last tile does (gemm.py). `pack` is a
step of its own that copies a whole operand, once for all chunks; `copy_block` writes the loops by
which a chunk copies its own block into a Local. 16-bit floats are converted on the way; operands
that are contiguous along K are transposed in registers (codegen/transpose.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...codegen.target import Target
from ...core.symbolic import hint, is_symbolic
from ...kernel import scalar as s
from ...kernel.ir import (
    Buffer,
    Const,
    Expr,
    Kernel,
    Let,
    Load,
    Loop,
    Stmt,
    Store,
    Var,
)
from ..steps import Scratch, Step

ZERO = Const(0, "i64")
# Elements copied by one chunk.
CHUNK_ELEMENTS = 16384
# Fewer elements are copied before another thread is awake.
PARALLEL_ELEMENTS = 1 << 16
# Neighbouring elements read before the next row of the source: whole cache lines, few streams out.
RUN = 128


def const(n: int) -> Const:
    return Const(n, "i64")


class Sizes:
    """Run-time sizes of a kernel, so that one kernel serves many shapes."""

    def __init__(self) -> None:
        self.names: dict[tuple[str, int], str] = {}
        self.values: list[int] = []

    def __call__(self, stem: str, value: int) -> Expr:
        """0 and 1 stay constants: code for them is simpler."""
        return const(value) if value in (0, 1) else self.at_run_time(stem, value)

    def at_run_time(self, stem: str, value: int) -> Expr:
        """Never a constant: code is the same for all values."""
        name = self.names.get((stem, value))
        if name is None:
            name = self.names[stem, value] = f"{stem}{len(self.values)}"
            self.values.append(value)
        return Var(name)


@dataclass(frozen=True)
class Matrix:
    """An operand: `lines` x `k`, for every index of `outer`. Pairs are (size, stride)."""

    value: Any
    offset: int
    outer: tuple[tuple[int, int], ...]
    lines: tuple[int, int]
    k: tuple[tuple[int, int], ...]

    @property
    def depth(self) -> int:
        return math.prod(n for n, _ in self.k)

    @property
    def count(self) -> int:
        """How many different matrices there are."""
        return math.prod(n for n, stride in self.outer if stride)

    def panel_elements(self, width: int) -> int:
        return -(-self.lines[0] // width) * width * self.depth


def pack(
    matrix: Matrix, width: int, compute: str, target: Target, title: str, parallel: bool
) -> tuple[Step, Scratch]:
    """The step that packs an operand, and where it packs it to."""
    size = Sizes()
    lines, line_stride = matrix.lines
    panels = -(-lines // width)
    scratch = Scratch(compute, matrix.count * matrix.panel_elements(width))
    depth = hint(matrix.depth)
    group = max(1, min(hint(panels), CHUNK_ELEMENTS // max(1, width * depth)))
    if line_stride == 1:
        group = min(hint(panels), max(1, RUN // width))
    groups = -(-panels // group)
    parts, part = 1, matrix.k[0][0]
    if group * width * depth > 2 * CHUNK_ELEMENTS:
        parts = max(1, min(hint(part) // 64, group * width * depth // CHUNK_ELEMENTS))
        part = -(-hint(part) // parts // 16) * 16
        parts = -(-matrix.k[0][0] // part)
    given = size.at_run_time
    n_groups, n_parts = given("groups", groups), given("parts", parts)
    chunk: Expr = Var("chunk")
    body: list[Stmt] = [
        Let("part", chunk % n_parts),
        Let("group", (chunk / n_parts) % n_groups),
        Let("o", chunk / (n_parts * n_groups)),
    ]
    source: Expr = given("offset", matrix.offset)
    rest: Expr = Var("o")
    for extent, stride in reversed([d for d in matrix.outer if d[1]]):
        n = size("extent", extent)
        source = source + rest % n * size("so", stride)
        rest = rest / n
    body.append(Let("source", source))
    n_panels, w = given("panels", panels), given("width", width)
    panel: Expr = Var("panel")
    start = Var("part") * given("part", part)
    stop = s.minimum(start + given("part", part), given("k", matrix.k[0][0]))
    group_start = Var("group") * given("group", group)
    group_stop = s.minimum(group_start + given("group", group), n_panels)
    lets = (
        Let("first", s.minimum(panel * w, given("lines", lines) - w)),
        Let("panel_start", (Var("o") * n_panels + panel) * given("depth", matrix.depth) * w),
    )

    def panels_loop(inside: list[Stmt]) -> Stmt:
        return Loop("panel", group_start, group_stop, (*lets, *inside))

    k_range = (start, stop)
    body += _panels(matrix, width, compute, target, size, given, k_range, ZERO, panels_loop)
    grid = n_parts * n_groups * given("matrices", matrix.count)
    kernel = Kernel(
        title,
        (Buffer("from", matrix.value.dtype.code), Buffer("to", compute, True)),
        tuple(body),
        tuple(size.names.values()),
        grid,
    )
    parallel = parallel and hint(scratch.size) >= PARALLEL_ELEMENTS
    step = Step(kernel, [matrix.value, scratch], size.values, parallel, 0, title)
    return step, scratch


def copy_block(
    matrix: Matrix,
    width: int,
    compute: str,
    target: Target,
    k_range: tuple[Expr, Expr],
    shortest: int,
    panels_loop: Callable[[list[Stmt]], Stmt],
    to: str,
    buffer: str,
) -> list[Stmt]:
    """The loops that fill the panels of a Local, with k[0] of a range, `shortest` or longer.

    panels_loop goes over the panels and names, for each, the "first" of its lines in the matrix at
    "source", and its "panel_start" in the Local.
    """

    def fixed(stem: str, value: int) -> Expr:
        return const(value)

    return _panels(
        matrix, width, compute, target, fixed, fixed, k_range, k_range[0], panels_loop, to, buffer,
        shortest,
    )  # fmt: skip


def _panels(
    matrix: Matrix,
    width: int,
    compute: str,
    target: Target,
    size: Callable[[str, int], Expr],
    given: Callable[[str, int], Expr],
    k_range: tuple[Expr, Expr],
    origin: Expr,
    panels_loop: Callable[[list[Stmt]], Stmt],
    to: str = "to",
    buffer: str = "from",
    shortest: int | None = None,
) -> list[Stmt]:
    """The loops that fill panels with k[0] of a range; `origin` is the k[0] of a panel's row 0.

    `size` makes numbers of strides and `given` all others.
    """
    code, stride = matrix.value.dtype.code, matrix.lines[1]
    names = [f"k{i}" for i in range(len(matrix.k))]
    ranges: list[tuple[Expr, Expr]] = [
        k_range if i == 0 else (ZERO, given("k", n)) for i, (n, _) in enumerate(matrix.k)
    ]
    # Row of the panel, and place in the source, of a k index.
    row: Expr = ZERO
    at: Expr = Var("source") + Var("first") * size("line", stride)
    inner = matrix.depth
    for i, (name, (n, k_stride)) in enumerate(zip(names, matrix.k)):
        inner //= max(1, n)
        row = row + (Var(name) if i or origin == ZERO else Var(name) - origin) * size(
            "inner", inner
        )
        at = at + Var(name) * size("sk", k_stride)
    last, last_stride = matrix.k[-1]
    lanes = target.lanes({"f32": 4, "f64": 8}.get(compute, 8))
    if len(matrix.k) == 1 and shortest is not None:
        last = shortest
    if is_symbolic(last):  # a guard: one vector or more
        last = max(1, min(hint(last), lanes)) if last >= min(hint(last), lanes) else 1
    lane, j = Var("lane"), Var("j")
    w = given("width", width)
    if stride != 1 and last_stride == 1 and width > 1 and last > 1:
        # Lanes run along K, unrolled turns along the panel.
        lanes = min(lanes, 1 << (last.bit_length() - 1))

        def block_of(piece: Expr, count: int) -> Stmt:
            line = piece + j
            value = Load(buffer, at + lane + line * size("line", stride), code)
            place = Var("panel_start") + (row + lane) * w + line
            turn = Store(to, place, s.cast(value, compute))
            across = Loop("j", ZERO, const(count), (turn,), "unroll")
            return Loop("lane", ZERO, const(lanes), (across,), "vector")

        whole = width // lanes * lanes
        blocks: list[Stmt] = []
        if whole:
            stop_piece = given("whole", whole)
            inside = (block_of(Var("piece"), lanes),)
            blocks.append(Loop("piece", ZERO, stop_piece, inside, step=lanes))
        if whole < width:
            blocks.append(block_of(const(whole), width - whole))
        low, high = ranges[-1]
        # The last block overlaps the one before it, so that every block is whole.
        end = high if shortest is not None else given("k", matrix.k[-1][0])
        k = s.minimum(Var("block_k"), end - lanes)
        loop: Stmt = Loop("block_k", low, high, (Let(names[-1], k), *blocks), step=lanes)
        for name, (low, high) in reversed(list(zip(names[:-1], ranges))):
            loop = Loop(name, low, high, (loop,))
        return [panels_loop([loop])]
    value = Load(buffer, at + j * size("line", stride), code)
    place = Var("panel_start") + row * w + j
    turn = Store(to, place, s.cast(value, compute))
    # Panels innermost: a row of the source is read in one run.
    loop = panels_loop([Loop("j", ZERO, const(width), (turn,), "vector")])
    for name, (low, high) in reversed(list(zip(names, ranges))):
        loop = Loop(name, low, high, (loop,))
    return [loop]


def outer_pairs(dims: Sequence[Any], which: str) -> tuple[tuple[int, int], ...]:
    """(size, stride) of the loops around an operand."""
    return tuple((d.size, getattr(d, which)) for d in dims)
