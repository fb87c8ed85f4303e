"""Pieces that attention and its gradient are made of: products of small blocks, and packing.

Blocks are local arrays in the nearest caches, in the dtype of the sums, so that operands of any
stride and of 16-bit floats are read once and converted on the way. A product holds a tile of
`height` rows and a few vectors of columns in registers.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...codegen.builder import BYTES
from ...codegen.target import host
from ...core.shape import contiguous_strides, numel
from ...core.symbolic import hint, is_symbolic
from ...ir.graph import Value
from ...kernel import scalar as s
from ...kernel.ir import (
    Buffer,
    Const,
    Expr,
    If,
    Kernel,
    Load,
    Local,
    Loop,
    Prefetch,
    Reduce,
    Stmt,
    Store,
    Var,
)
from ...ops.exponential import exp2_below
from ..steps import Context, Scratch, Step

LOG2_E = 1 / math.log(2)
ZERO = Const(0, "i64")
BLOCK = 64  # keys or queries of a block, or as many as make the blocks of a short row equal
# Rows that a tile may write beyond the last one: blocks have room for them.
SLACK = 16

At = Callable[[Expr, Expr], Expr]
# (first row of a tile, its height) -> where the summed index starts and ends
Depth = Callable[[Expr, int], "tuple[Expr, Expr]"]
# (first row of a tile, its height, its first column, its width) -> what it begins with
Begin = Callable[[Expr, int, Expr, int], Sequence[Stmt]]


def const(n: int) -> Const:
    return Const(n, "i64")


def minimum(x: Expr, y: Expr | int) -> Expr:
    """The smaller of two indices; a constant where both are."""
    y = const(y) if isinstance(y, int) else y
    if isinstance(x, Const) and isinstance(y, Const) and not is_symbolic(x.value - y.value):
        return const(min(x.value, y.value))
    return s.minimum(x, y)


def maximum(x: Expr, y: Expr | int) -> Expr:
    """The larger of two indices; a constant where both are."""
    y = const(y) if isinstance(y, int) else y
    if isinstance(x, Const) and isinstance(y, Const) and not is_symbolic(x.value - y.value):
        return const(max(x.value, y.value))
    return s.maximum(x, y)


def block_size(count: int, unit: int) -> int:
    """The size of equal blocks, of about BLOCK, that cover `count`: a multiple of `unit`."""
    if is_symbolic(count):
        return BLOCK
    blocks = max(1, round(count / BLOCK))
    return -(-count // (blocks * unit)) * unit


@dataclass(frozen=True)
class Matrix:
    """Element (i, j) of a buffer of `code`, at `at(i, j)`."""

    buffer: str
    code: str
    at: At

    def load(self, i: Expr, j: Expr) -> Load:
        return Load(self.buffer, self.at(i, j), self.code)


@dataclass(frozen=True)
class Group:
    """`count` neighbouring groups of columns of `vectors` vectors each, in tiles of `height`."""

    first: int
    count: int
    vectors: int
    height: int


@functools.cache
def column_groups(rows: int, vectors: int, code: str) -> tuple[Group, ...]:
    """How to cover rows x vectors by tiles in registers: the fewest cycles.

    A step of a tile of h x v takes h*v multiply-adds and h + v loads, two each per cycle, and the
    latency of one multiply-add (4 or 5 cycles). Beginning and ending a tile costs another 20 or so.
    """
    target = host()
    free = target.registers - (1 if target.fma else 2)

    def cost(height: int, v: int) -> float:
        tiles, rest = divmod(rows, height)
        step = [max(h * v / 2, (h + v) / 2 + 0.3, 4.5) + 0.3 for h in (height, rest)]
        return tiles * step[0] + (step[1] if rest else 0)

    best: tuple[float, tuple[Group, ...]] | None = None
    for parts in range(1, vectors + 1):
        wide, many = -(-vectors // parts), vectors - vectors // parts * parts
        sizes = [(wide, many), (vectors // parts, parts - many)] if many else [(wide, parts)]
        total, first, groups = 0.0, 0, []
        for v, count in sizes:
            heights = range(1, min(14, (free - v) // v) + 1)
            if not heights:
                break
            height = min(heights, key=lambda h: (cost(h, v), -h))
            total += count * cost(height, v)
            groups.append(Group(first, count, v, height))
            first += v * count
        else:
            total *= 1 + 0.02 * len(groups)
            if best is None or total < best[0]:
                best = total, tuple(groups)
    assert best is not None
    return best[1]


class Writer:
    """Loops of one attention kernel; names of loop variables are made unique."""

    def __init__(self, code: str):
        self.code = code
        self.lanes = host().lanes(8 if code == "f64" else 4)
        self.count = 0

    def name(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def padded(self, columns: int) -> int:
        """Columns rounded up to whole vectors."""
        return -(-columns // self.lanes) * self.lanes

    def block(self, name: str, width: int) -> Matrix:
        """A local array of rows of a width."""
        return Matrix(name, self.code, lambda i, j: i * width + j)

    def product(
        self,
        rows: int,
        columns: int,
        a: Matrix,
        b: Matrix,
        depth: Depth,
        end: Callable[[Expr, Expr, Expr], Stmt],
        begin: Callable[[Expr, Expr], Expr] | None = None,
        start: Callable[[Expr], Expr] | None = None,
        stop: Expr | None = None,
        stop_column: Expr | None = None,
        ask: Begin | None = None,
    ) -> list[Stmt]:
        """end(i, j, begin(i, j) + sum over k in depth of a(i, k) * b(k, j)) for all i and j.

        columns      whole vectors
        start        the first row wanted, for the columns from a given one on
        stop         a run-time number of rows, at most `rows`; a few more may be written
        stop_column  the same for columns
        ask          requests that a tile makes before it sums (`asking`)
        """
        body: list[Stmt] = []
        for group in column_groups(rows, columns // self.lanes, self.code):
            width = group.vectors * self.lanes
            stem = self.name("")
            column = Var(f"j{stem}") if group.count > 1 else const(group.first * self.lanes)

            def tiles(
                height: int, low: Expr, high: Expr, width: int = width, column: Expr = column
            ) -> Stmt:
                return self.tile(height, width, column, low, high, a, b, depth, begin, end, ask)

            low = ZERO if start is None else start(column)
            last = const(rows) if stop is None else stop
            whole = low + (last - low) // group.height * group.height
            inside = [tiles(group.height, low, whole)]
            static = stop is None and start is None
            rest = rows % group.height if static else -(-group.height // 3)
            if rest:
                inside.append(tiles(rest, whole, last))
            first = const(group.first * self.lanes)
            if group.count > 1:
                end_column: Expr = first + width * group.count
                if stop_column is not None:
                    end_column = minimum(end_column, stop_column)
                body.append(Loop(f"j{stem}", first, end_column, tuple(inside), step=width))
            elif group.first and stop_column is not None:
                body.append(If(first < stop_column, tuple(inside)))
            else:
                body += inside
        return body

    def tile(
        self, height: int, width: int, column: Expr, low: Expr, high: Expr, a: Matrix, b: Matrix,
        depth: Depth, begin: Callable[[Expr, Expr], Expr] | None,
        end: Callable[[Expr, Expr, Expr], Stmt], ask: Begin | None,
    ) -> Stmt:  # fmt: skip
        """The tiles of rows from `low` to `high` of one group of columns."""
        code = self.code
        acc, i0, r, j, k = (self.name(x) for x in ("acc", "i", "r", "l", "k"))
        i, col = Var(i0) + Var(r), column + Var(j)
        place = Var(r) * width + Var(j)

        def nest(stmt: Stmt) -> Loop:
            return Loop(r, ZERO, const(height), (
                Loop(j, ZERO, const(width), (stmt,), "vector"),
            ), "unroll")  # fmt: skip

        first = Const(0.0, code) if begin is None else begin(i, col)
        product = s.cast(a.load(i, Var(k)), code) * s.cast(b.load(Var(k), col), code)
        k_start, k_stop = depth(Var(i0), height)
        return Loop(i0, low, high, (
            Local(acc, code, height * width),
            nest(Store(acc, place, first)),
            *(() if ask is None else ask(Var(i0), height, column, width)),
            Loop(k, k_start, k_stop, (nest(Reduce("add", acc, place, product)),)),
            nest(end(i, col, Load(acc, place, code))),
        ), step=height)  # fmt: skip

    # Packing

    def pack(
        self, name: str, source: Matrix, rows: Expr, columns: int, factor: float = 1.0
    ) -> Stmt:
        """name[i, :] = source(i, :) * factor for i < rows, zeros up to whole vectors."""
        width = self.padded(columns)
        i, j = self.name("i"), self.name("j")
        value: Expr = s.cast(source.load(Var(i), Var(j)), self.code)
        if factor != 1.0:
            value = value * factor
        body: list[Stmt] = [
            Loop(j, ZERO, const(columns), (Store(name, Var(i) * width + Var(j), value),), "vector")
        ]
        if width > columns:
            j = self.name("j")
            zero = Store(name, Var(i) * width + Var(j), Const(0.0, self.code))
            body.append(Loop(j, const(columns), const(width), (zero,), "vector"))
        return Loop(i, ZERO, rows, tuple(body))

    def turn(
        self, name: str, base: Expr, source: Matrix, last: Expr, columns: int, width: int,
        factor: float = 1.0,
    ) -> list[Stmt]:  # fmt: skip
        """name[base + j*width + i] = source(min(i, last), j) * factor for i < width, j < columns.

        width is whole vectors. Squares of lanes x lanes are transposed in registers; the last
        square overlaps the one before it.
        """
        lanes = min(self.lanes, 1 << (columns.bit_length() - 1))
        whole = columns // lanes * lanes
        i0, i, j0, j = (self.name(x) for x in "ijjl")
        row = minimum(Var(i0) + Var(i), last)

        def square(first: Expr) -> Stmt:
            value: Expr = s.cast(source.load(row, first + Var(j)), self.code)
            if factor != 1.0:
                value = value * factor
            place = base + (first + Var(j)) * width + (Var(i0) + Var(i))
            across = Loop(i, ZERO, const(self.lanes), (Store(name, place, value),), "unroll")
            return Loop(j, ZERO, const(lanes), (across,), "vector")

        def squares(first: Expr) -> Stmt:
            return Loop(i0, ZERO, const(width), (square(first),), step=self.lanes)

        body: list[Stmt] = [Loop(j0, ZERO, const(whole), (squares(Var(j0)),), step=lanes)]
        if whole < columns:
            body.append(squares(const(columns - lanes)))
        return body

    def turn_back(
        self, name: str, source: str, base: Expr, columns: int, width: int, factor: Expr
    ) -> list[Stmt]:
        """name[i*columns + j] = source[base + j*width + i] * factor(at Var("lane") = i)."""
        body: list[Stmt] = []
        j0, j = self.name("j"), self.name("j")
        whole = columns // self.lanes * self.lanes

        def strip(first: Expr, count: int) -> Stmt:
            value = Load(source, base + (first + Var(j)) * width + Var("lane"), self.code) * factor
            place = Var("lane") * columns + (first + Var(j))
            across = Loop(j, ZERO, const(count), (Store(name, place, value),), "unroll")
            return Loop("lane", ZERO, const(width), (across,), "vector")

        if whole:
            body.append(Loop(j0, ZERO, const(whole), (strip(Var(j0), self.lanes),),
                             step=self.lanes))  # fmt: skip
        if whole < columns:
            body.append(strip(const(whole), columns - whole))
        return body

    def fill(self, name: str, size: int | Expr, value: float) -> Stmt:
        """The first elements of a block set to a number."""
        z = self.name("z")
        stop: Expr = const(size) if isinstance(size, int) else size
        store = Store(name, Var(z), Const(value, self.code))
        return Loop(z, ZERO, stop, (store,), "vector")


def exp2(x: Expr) -> Expr:
    return exp2_below(s, x)


Place = tuple[Value | Scratch, tuple[int, ...], int]


def located(context: Context, *values: Value) -> tuple[list[Place], list[Step]]:
    """Where each (N, H, L, E) operand stands; steps that copy those whose rows are apart."""
    assert context.locate is not None
    found: list[Place] = []
    steps: list[Step] = []
    for v in values:
        place: Place = context.locate(v)
        if v.shape[3] > 1 and place[1][3] != 1:
            scratch = Scratch(v.dtype.code, numel(v.shape))
            steps.append(_copy_rows(place, v.shape, scratch, f"{context.title}_rows"))
            place = scratch, contiguous_strides(v.shape), 0
        found.append(place)
    return found, steps


def _copy_rows(place: Place, shape: Sequence[int], to: Scratch, title: str) -> Step:
    """Copy an operand to row-major order."""
    value, steps, offset = place
    _, heads, length, width = shape
    image, number, i, j = Var("chunk") // heads, Var("chunk") % heads, Var("i"), Var("j")
    at = image * steps[0] + number * steps[1] + i * steps[2] + j * steps[3] + offset
    code = to.dtype
    element = Store("to", (Var("chunk") * length + i) * width + j, Load("from", at, code))
    rows = Loop("i", ZERO, const(length), (Loop("j", ZERO, const(width), (element,), "vector"),))
    buffers = (Buffer("from", code), Buffer("to", code, True))
    kernel = Kernel(title, buffers, (rows,), (), const(shape[0] * heads))
    return Step(kernel, [value, to], parallel=hint(to.size) > 1 << 15, title=title)


def head(place: Place, name: str, number: Expr, image: Expr = Var("image")) -> Matrix:  # noqa: B008
    """The (L, E) matrix of an image and of a head."""
    value, steps, offset = place
    base = image * steps[0] + number * steps[1] + offset
    code = value.dtype if isinstance(value, Scratch) else value.dtype.code
    return Matrix(name, code, lambda i, j: base + i * steps[2] + j)


def next_heads(where: Sequence[Place], names: Sequence[str], heads: int) -> list[Matrix]:
    """What the next chunk reads, where a chunk is a head."""
    after = Var("chunk") + 1
    return [head(at, name, after % heads, after / heads) for at, name in zip(where, names)]


def asking(m: Matrix, shape: tuple[int, int], part: Expr, parts: int, of: Sequence[int]) -> Begin:
    """The tiles of a product of shape `of` ask for the rows of a matrix, `part` of `parts` of them.

    A few cache lines each: so that what the next chunk reads comes from memory while this one
    computes, and no tile waits for it.
    """
    (rows, width), (tile_rows, columns) = shape, of
    line = 64 // BYTES[m.code]
    lines, each = -(-width // line), -(-rows // parts)

    def ask(i: Expr, height: int, column: Expr, wide: int) -> list[Stmt]:
        row = part * each + i * each / tile_rows
        first = column * lines / columns
        return [
            Prefetch(m.buffer, m.at(row + r, (first + n) * line))
            for r in range(-(-height * each // tile_rows))
            for n in range(-(-wide * lines // columns))
        ]

    return ask


def below(m: Matrix, first: Expr) -> Matrix:
    """Rows of a matrix from `first` on."""
    return Matrix(m.buffer, m.code, lambda i, j: m.at(first + i, j))


class Mask:
    """How a kernel reads the mask: an additive number, or -inf where a key takes no part."""

    def __init__(self, value: Value, context: Context, code: str):
        assert context.locate is not None
        self.base, self.steps, self.offset = context.locate(value)
        self.shape, self.code, self.dtype = value.shape, code, value.dtype.code

    def at(self, row: Expr, key: Expr) -> Expr:
        place: Expr = row * self.steps[2] + key * self.steps[3] + self.offset
        for axis, name in ((0, "image"), (1, "head")):
            if self.shape[axis] > 1:
                place = place + Var(name) * self.steps[axis]
        return place

    def number(self, row: Expr, key: Expr, inside: Expr | None = None) -> Expr:
        """What is added to a score in units of ln 2."""
        seen = Load("mask", self.at(row, key), self.dtype, inside)
        if self.dtype == "bool":
            return s.select(seen, s.const(0.0, self.code), s.const(-math.inf, self.code))
        return s.cast(seen, self.code) * LOG2_E

    def apply(self, score: Expr, number: Expr) -> Expr:
        """A hidden score is -inf whatever it was."""
        if self.dtype == "bool":
            return s.select(s.eq(number, 0.0), score, s.const(-math.inf, self.code))
        return score + number
