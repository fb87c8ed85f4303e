"""Sorting along an axis: Sort and Kth (TopK: topk.py).

Elements become unsigned keys of the same order, nan last; all of it is stable. Short lines are
ranked by counting, for each element, those that come before it. Longer ones are sorted by digits
from the least significant up (radix sort): keys and places move between two halves of scratch
memory, and digits that are equal in the whole line are passed over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...core.symbolic import hint
from ...ir.graph import Node, Value
from ...kernel import scalar as s
from ...kernel.ir import (
    Buffer,
    Call,
    Const,
    Expr,
    If,
    Kernel,
    Let,
    Load,
    Local,
    Loop,
    Reduce,
    Stmt,
    Store,
    Var,
)
from ..reader import COMPUTE
from ..steps import Context, Scratch, Step, lowers
from .lines import Array, Lines, const, operand, result

RANKED = 96  # elements of a line that is sorted by counting
CHUNK_ELEMENTS = 16384
MOST_CHUNKS = 64  # of which each has scratch memory
WIDE_DIGITS = 8192  # elements from which 11 bits at a time beat 8


def key_type(code: str) -> str:
    return "u64" if code in ("f64", "i64", "u64") else "u32"


def key_of(x: Expr, descending: bool) -> Expr:
    """An unsigned integer that orders as x does: zeros are equal, nan comes after all others.

    Neither all zeros nor all ones for floats, descending or not.
    """
    code = x.dtype
    key = key_type(code)
    bits = 64 if key == "u64" else 32
    top, ones = Const(1 << (bits - 1), key), Const((1 << bits) - 1, key)
    if code in ("f32", "f64"):
        x = s.select(s.eq(x, 0.0), Const(0.0, code), x)
        raw = s.bitcast(x, key)
        made = raw ^ s.select(raw >= top, ones, top)
        made = s.select(s.ne(x, x), Const((1 << bits) - 2, key), made)
    elif code[0] == "i":
        made = s.bitcast(s.cast(x, f"i{bits}"), key) ^ top
    else:
        made = s.cast(x, key)
    return s.logical_not(made) if descending else made


@dataclass
class Job:
    """What is wanted of sorted lines: places start <= i < stop, and whether nan comes first."""

    lines: Lines
    code: str
    descending: bool
    start: int
    stop: int
    nan_first: bool = False

    @property
    def key(self) -> str:
        return key_type(COMPUTE.get(self.code, self.code))

    def keys_of_line(self, at: Expr) -> Expr:
        compute = COMPUTE.get(self.code, self.code)
        return key_of(s.cast(Load("x", at, self.code), compute), self.descending)


@lowers("sort")
def lower_sort(node: Node, context: Context) -> list[Step] | None:
    """(elements in order along op.axis, where each came from)."""
    op: Any = node.op
    return sorted_lines(node, context, op.axis, op.descending, 0, node.values[0].shape[op.axis])


@lowers("kth")
def lower_kth(node: Node, context: Context) -> list[Step] | None:
    """(element op.k of the sorted axis, where it was)."""
    op: Any = node.op
    return sorted_lines(node, context, op.axis, False, op.k, op.k + 1, op.nan_first)


def lines_of(node: Node, context: Context, axis: int) -> tuple[Value, Lines]:
    """The input as it stands, and the lines of it and of both results."""
    x, stands = operand(context, node.values[0])
    shape = tuple(node.values[0].shape)
    arrays = {"x": stands}
    for name, v in zip(("values", "places"), node.outputs):
        made = result(context, v)
        if len(v.shape) < len(shape):  # the axis is gone
            made = Array((*made.steps[:axis], 0, *made.steps[axis:]))
        arrays[name] = made
    return x, Lines(shape, axis, arrays, lanes=False)


def sorted_lines(
    node: Node, context: Context, axis: int, descending: bool, start: int, stop: int,
    nan_first: bool = False,
) -> list[Step] | None:  # fmt: skip
    """Results start <= i < stop of each sorted line; nan_first: its first nan, if there is one."""
    shape = node.values[0].shape
    if 0 in shape or start == stop:
        return None
    x, lines = lines_of(node, context, axis)
    code = x.dtype.code
    nan_first = nan_first and x.dtype.is_floating_point
    job = Job(lines, code, descending, start, stop, nan_first)
    n = lines.length
    rows = max(1, -(-CHUNK_ELEMENTS // n), -(-lines.count // MOST_CHUNKS))
    rows = min(rows, lines.count)
    grid = -(-lines.count // rows)
    size = node.values[0].aval.size
    buffers = [
        Buffer("x", code), Buffer("values", code, True), Buffer("places", "i64", True)
    ]  # fmt: skip
    values: list[Value | Scratch] = [x, *node.outputs]
    if n <= RANKED:
        line = _ranked(job)
    else:
        line = _by_digits(job)
        buffers += [Buffer("keys", job.key, True), Buffer("order", "i32", True)]
        values += [Scratch(job.key, grid * 2 * n), Scratch("i32", grid * 2 * n)]
    first = Var("chunk") * rows
    body = Loop("row", first, s.minimum(first + rows, const(lines.count)), tuple(line))
    kernel = Kernel(context.title, tuple(buffers), (body,), (), const(grid))
    return [Step(kernel, values, parallel=hint(size) > 4096, flops=size)]


def _deliver(job: Job, i: Expr, place: Expr) -> list[Stmt]:
    """Result number i of a line is its element number `place`."""
    lines = job.lines
    return [
        Let("from", place),
        Store("values", lines.at("values", i), Load("x", lines.at("x", Var("from")), job.code)),
        Store("places", lines.at("places", i), Var("from")),
    ]


def _count_nan(job: Job, key: Expr) -> list[Stmt]:
    """Local "nans": how many elements of the line are nan."""
    bits = 64 if job.key == "u64" else 32
    is_nan = s.eq(key, Const((1 << bits) - 2, job.key))
    one = s.select(is_nan, Const(1, "i64"), Const(0, "i64"))
    return [
        Local("nans", "i64", 1),
        Store("nans", const(0), const(0)),
        Loop("i", const(0), const(job.lines.length), (Reduce("add", "nans", const(0), one),),
             "vector"),
        Let("nans_", Load("nans", const(0), "i64")),
        Let("wanted", s.select(Var("nans_") > 0, const(job.lines.length) - Var("nans_"),
                               const(job.start))),
    ]  # fmt: skip


def _ranked(job: Job) -> list[Stmt]:
    """One short line: its elements go where the number of those before them says."""
    lines, n = job.lines, job.lines.length
    i, j = Var("i"), Var("j")
    mine, other = Load("line", i, job.key), Var("other", job.key)
    # Of equals, those that stand before.
    earlier = Call("and", (s.eq(other, mine), j < i), "bool")
    before = Call("or", (other < mine, earlier), "bool")
    count = "i64" if job.key == "u64" else "i32"
    more = s.select(before, Const(1, count), Const(0, count))

    def each(*body: Stmt) -> Loop:
        return Loop("i", const(0), const(n), body, "vector")

    stmts: list[Stmt] = [
        *lines.places(Var("row")),
        Local("line", job.key, n),
        Local("rank", count, n),
        Local("order", "i64", n),
        each(
            Store("line", i, job.keys_of_line(lines.at("x", i))),
            Store("rank", i, Const(0, count)),
        ),
        Loop("j", const(0), const(n), (
            Let("other", Load("line", j, job.key)),
            each(Store("rank", i, Load("rank", i, count) + more)),
        )),
        Loop("i", const(0), const(n), (
            Store("order", s.cast(Load("rank", i, count), "i64"), i),
        )),
    ]  # fmt: skip
    if job.nan_first:
        stmts += _count_nan(job, Load("line", i, job.key))
        return [*stmts, *_deliver(job, const(0), Load("order", Var("wanted"), "i64"))]
    deliver = _deliver(job, i, Load("order", i + job.start, "i64"))
    return [*stmts, Loop("i", const(0), const(job.stop - job.start), tuple(deliver))]


def _by_digits(job: Job) -> list[Stmt]:
    """One long line: a stable pass over it for each digit of the keys."""
    lines, n = job.lines, job.lines.length
    bits = 64 if job.key == "u64" else 32
    width = 11 if n >= WIDE_DIGITS else 8
    digits = -(-bits // width)
    radix = 1 << width
    i, key = Var("i"), Var("key", job.key)

    def digit(d: int, of: Expr) -> Expr:
        shifted = of >> Const(d * width, job.key) if d else of
        return s.cast(shifted & Const(radix - 1, job.key), "i64")

    def counted(d: int) -> list[Stmt]:
        at = digit(d, key) + d * radix
        return [
            Let("at", at),
            Store("counts", Var("at"), Load("counts", Var("at"), "i32") + Const(1, "i32")),
        ]

    base = Var("half")
    stmts: list[Stmt] = [
        *lines.places(Var("row")),
        Let("half", Var("chunk") * (2 * n)),
        Loop("i", const(0), const(n), (
            Store("keys", base + i, job.keys_of_line(lines.at("x", i))),
            Store("order", base + i, s.cast(i, "i32")),
        ), "vector"),
        Local("counts", "i32", digits * radix),
        Loop("z", const(0), const(digits * radix), (Store("counts", Var("z"), Const(0, "i32")),),
             "vector"),
        Loop("i", const(0), const(n), (
            Let("key", Load("keys", base + i, job.key)),
            *(stmt for d in range(digits) for stmt in counted(d)),
        )),
    ]  # fmt: skip
    if job.nan_first:
        stmts += _count_nan(job, Load("keys", base + i, job.key))
    stmts += [Local("side", "i64", 1), Store("side", const(0), const(0))]
    for d in range(digits):
        first = digit(d, Load("keys", Var("source"), job.key)) + d * radix
        at = Var("at")
        stmts += [
            Let("source", base + Load("side", const(0), "i64") * n),
            Let("target", base + (const(1) - Load("side", const(0), "i64")) * n),
            If(
                s.ne(Load("counts", first, "i32"), Const(n, "i32")),
                (
                    Local("sum", "i32", 1),
                    Store("sum", const(0), Const(0, "i32")),
                    Loop("z", const(d * radix), const((d + 1) * radix), (
                        Let("count", Load("counts", Var("z"), "i32")),
                        Let("before", Load("sum", const(0), "i32")),
                        Store("counts", Var("z"), Var("before", "i32")),
                        Store("sum", const(0), Var("before", "i32") + Var("count", "i32")),
                    )),
                    Loop("i", const(0), const(n), (
                        Let("key", Load("keys", Var("source") + i, job.key)),
                        Let("at", digit(d, key) + d * radix),
                        Let("to", Load("counts", at, "i32")),
                        Store("counts", at, Var("to", "i32") + Const(1, "i32")),
                        Let("place", Var("target") + s.cast(Var("to", "i32"), "i64")),
                        Store("keys", Var("place"), key),
                        Store("order", Var("place"), Load("order", Var("source") + i, "i32")),
                    )),
                    Store("side", const(0), const(1) - Load("side", const(0), "i64")),
                ),
            ),
        ]  # fmt: skip
    stmts.append(Let("source", base + Load("side", const(0), "i64") * n))
    if job.nan_first:
        place = s.cast(Load("order", Var("source") + Var("wanted"), "i32"), "i64")
        return [*stmts, *_deliver(job, const(0), place)]
    place = s.cast(Load("order", Var("source") + (i + job.start), "i32"), "i64")
    deliver = _deliver(job, i, place)
    return [*stmts, Loop("i", const(0), const(job.stop - job.start), tuple(deliver), "vector")]
