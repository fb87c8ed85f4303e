"""Positions of extremes along an axis: ArgMax and ArgMin. The first of equals; the first nan wins.

Where lines stand side by side, each lane keeps its best element and place. A line that is one run
of memory is read twice: for the extreme, and for the first place where it is. Long lines are cut
into parts, whose results a second kernel compares in order.
"""

from __future__ import annotations

import math
from typing import Any

from ...core import dtype as dt
from ...core.symbolic import hint
from ...ir.graph import Node
from ...kernel import scalar as s
from ...kernel.ir import (
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
    Stmt,
    Store,
    Var,
)
from ..reader import COMPUTE
from ..steps import Context, Scratch, Step, lowers
from .lines import Array, Lines, block_start, chunks_of, const, lane_block, operand

PART = 16384


def extreme(largest: bool, code: str) -> Const:
    """The value that every other beats or equals."""
    if code == "bool":
        return Const(not largest, code)
    if code[0] == "f":
        return Const(-math.inf if largest else math.inf, code)
    info = dt.iinfo(dt.from_code(code))
    return Const(info.min if largest else info.max, code)


def _both(x: Expr, y: Expr) -> Expr:
    return Call("and", (x, y), "bool")


def _either(x: Expr, y: Expr) -> Expr:
    return Call("or", (x, y), "bool")


def beats(x: Expr, best: Expr, largest: bool) -> Expr:
    """Whether x is better than what came before it."""
    better = x > best if largest else x < best
    if x.dtype[0] != "f":
        return better
    return _either(better, _both(s.ne(x, x), s.eq(best, best)))


@lowers("arg_max", "arg_min")
def lower_position(node: Node, context: Context) -> list[Step] | None:
    """out = the place along the one axis of the first largest (smallest) element."""
    op: Any = node.op
    out = node.outputs[0]
    if len(op.axes) != 1 or 0 in node.values[0].shape:
        return None
    axis = op.axes[0]
    largest = op.name == "arg_max"
    x, stands = operand(context, node.values[0])
    steps = list(context.strides(out))
    steps.insert(axis, 0)
    shape = tuple(node.values[0].shape)
    lines = Lines(shape, axis, {"x": stands, "out": Array(tuple(steps))})
    code = x.dtype.code
    compute = COMPUTE.get(code, code)
    size = node.values[0].aval.size
    parts = -(-lines.length // PART)
    if lines.lanes == 1 and parts > 1 and lines.count < 16:
        return _in_parts(context, lines, x, out, code, largest, parts)
    body = _columns if lines.lanes > 1 else _row
    loop, grid = body(lines, code, compute, largest)
    kernel = Kernel(
        context.title, (Buffer("x", code), Buffer("out", "i64", True)), (loop,), (), const(grid)
    )
    return [Step(kernel, [x, out], parallel=hint(size) > 32768, flops=size)]


def _columns(lines: Lines, code: str, compute: str, largest: bool) -> tuple[Stmt, int]:
    place_code = "i64" if compute in ("f64", "i64", "u64") or lines.length >> 31 else "i32"
    block = lane_block(lines.lanes, 8 if place_code == "i64" else 4)
    blocks = -(-lines.lanes // block)
    lane = Var("first") + Var("j")
    j = Var("j")

    def each(*body: Stmt) -> Loop:
        return Loop("j", const(0), const(block), body, "vector")

    def element(i: Expr) -> Expr:
        return s.cast(Load("x", lines.at("x", i, lane), code), compute)

    better = beats(Var("v", compute), Load("best", j, compute), largest)
    chosen = Var("better", "bool")
    step = each(
        Let("v", element(Var("i"))),
        Let("better", better),
        Store("best", j, s.select(chosen, Var("v", compute), Load("best", j, compute))),
        Store(
            "place", j, s.select(chosen, s.cast(Var("i"), place_code), Load("place", j, place_code))
        ),
    )
    store = Store(
        "out", lines.at("out", const(0), lane), s.cast(Load("place", j, place_code), "i64")
    )

    def body(row: Expr) -> list[Stmt]:
        return [
            *lines.places(row // blocks),
            Let("first", block_start(lines.lanes, block, row % blocks)),
            Local("best", compute, block),
            Local("place", place_code, block),
            each(Store("best", j, element(const(0))), Store("place", j, Const(0, place_code))),
            Loop("i", const(1), const(lines.length), (step,)),
            each(store),
        ]

    return chunks_of(lines.count * blocks, lines.length * block, body)


def _find(
    at: Expr, i: str, start: Expr, stop: Expr, code: str, compute: str, largest: bool
) -> list[Stmt]:
    """The extreme of a run of memory as Var("top"), its first place in Local "place"."""
    v = s.cast(Load("x", at, code), compute)
    top = Var("top", compute)
    found = s.eq(v, top)
    if compute[0] == "f":
        found = _either(found, _both(s.ne(v, v), s.ne(top, top)))
    inside = s.select(found, Var(i), Const((1 << 63) - 1, "i64"))
    return [
        Local("best", compute, 1),
        Store("best", const(0), extreme(largest, compute)),
        Loop(i, start, stop, (Reduce("max" if largest else "min", "best", const(0), v),), "vector"),
        Let("top", Load("best", const(0), compute)),
        Local("place", "i64", 1),
        Store("place", const(0), Const((1 << 63) - 1, "i64")),
        Loop(i, start, stop, (Reduce("min", "place", const(0), inside),), "vector"),
    ]


def _row(lines: Lines, code: str, compute: str, largest: bool) -> tuple[Stmt, int]:
    at = lines.at("x", Var("i"))

    def body(row: Expr) -> list[Stmt]:
        return [
            *lines.places(row),
            *_find(at, "i", const(0), const(lines.length), code, compute, largest),
            Store("out", lines.at("out", const(0)), Load("place", const(0), "i64")),
        ]

    return chunks_of(lines.count, 2 * lines.length, body)


def _in_parts(
    context: Context, lines: Lines, x: Any, out: Any, code: str, largest: bool, parts: int
) -> list[Step]:
    """Few long lines: the best of each part, then the best of those."""
    compute = COMPUTE.get(code, code)
    total = lines.count * parts
    values, places = Scratch(compute, total), Scratch("i64", total)
    first = (Var("chunk") % parts) * PART
    body = (
        *lines.places(Var("chunk") // parts),
        Let("first", first),
        *_find(
            lines.at("x", Var("i")), "i", Var("first"),
            s.minimum(Var("first") + PART, const(lines.length)), code, compute, largest,
        ),
        Store("values", Var("chunk"), Var("top", compute)),
        Store("places", Var("chunk"), Load("place", const(0), "i64")),
    )  # fmt: skip
    search = Kernel(
        context.title,
        (Buffer("x", code), Buffer("values", compute, True), Buffer("places", "i64", True)),
        body,
        (),
        const(total),
    )
    at = Var("row") * parts
    v = Load("values", at + Var("k"), compute)
    chosen = Var("better", "bool")
    best, place = Load("best", const(0), compute), Load("place", const(0), "i64")
    compare = (
        *lines.places(Var("row")),
        Local("best", compute, 1),
        Local("place", "i64", 1),
        Store("best", const(0), Load("values", at, compute)),
        Store("place", const(0), Load("places", at, "i64")),
        Loop("k", const(1), const(parts), (
            Let("better", beats(v, best, largest)),
            Store("best", const(0), s.select(chosen, v, best)),
            Store("place", const(0), s.select(chosen, Load("places", at + Var("k"), "i64"), place)),
        )),
        Store("out", lines.at("out", const(0)), place),
    )  # fmt: skip
    finish = Kernel(
        f"{context.title}_of_parts",
        (Buffer("values", compute), Buffer("places", "i64"), Buffer("out", "i64", True)),
        (Loop("row", const(0), const(lines.count), compare),),
        (),
        const(1),
    )
    work = lines.count * lines.length
    return [
        Step(search, [x, values, places], flops=work),
        Step(finish, [values, places, out], parallel=False),
    ]
