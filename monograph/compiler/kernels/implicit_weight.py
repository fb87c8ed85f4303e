"""The gradient of filters as a matrix product whose left operand is made in cache.

The transpose of implicit.py with respect to the filters: a filter's gradient, taps x C by O, is the
sum over pixels of what they see by the result's gradient. A chunk takes a few taps and a part of
the pixels, and goes through them block by block:

    rows[tap, C panel, pixel, MR]    copied from the image, zeros for the padding
    grads[pixel, NR]                 copied for each O panel
    sums[tap, C panel, O panel]      (+)= rows' @ grads, in the second cache

The sums of the parts are added at the end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ...codegen.target import host
from ...core.shape import Shape, contiguous_strides
from ...ir.graph import Node
from ...kernel import scalar as s
from ...kernel.ir import (
    Buffer,
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
from ..steps import Context, Scratch, Step
from . import implicit
from .packing import ZERO, const

# Bytes of sums that a chunk keeps in the second cache.
SUM_BYTES = 600 * 1024
CHUNKS = 16
BLOCK_PIXELS = 128


@dataclass(frozen=True)
class Plan:
    """`taps` of them, and `blocks` of BLOCK_PIXELS pixels, make a chunk."""

    mr: int
    nr: int  # whole vectors, of which the first `width` elements are channels
    width: int
    rows: int  # panels of mr channels in
    columns: int  # panels of nr channels out
    taps: int
    groups: int  # of taps
    blocks: int
    parts: int  # of the pixels
    row: int  # its elements, in whole vectors


def suits(op: Any, dtype: str, channels: int, outputs: int) -> bool:
    """Whether a filter's gradient that winograd_weight.py does not take is computed so."""
    return implicit.suits(op, dtype, channels, outputs)


def plan(pixels: int, taps: int, channels: int, outputs: int, element_bytes: int) -> Plan:
    """Sums that stay near, and enough chunks for several threads."""
    target = host()
    lanes = target.vector_bytes // element_bytes
    wide = target.vector_bytes == 64
    mr, vectors = (14, 2) if wide else (8, 3) if target.registers == 32 else (6, 2)
    rows = -(-channels // mr)
    mr = -(-channels // rows)
    nr = min(vectors, -(-outputs // lanes)) * lanes
    columns = -(-outputs // nr)
    tap_bytes = rows * columns * mr * nr * element_bytes
    together = max(1, min(taps, (SUM_BYTES if wide else SUM_BYTES // 2) // tap_bytes))
    groups = -(-taps // together)
    together = -(-taps // groups)
    count = -(-pixels // BLOCK_PIXELS)
    parts = min(count, -(-CHUNKS // groups))
    blocks = -(-count // parts)
    row = -(-mr // lanes) * lanes
    width, parts = min(nr, outputs), -(-count // blocks)
    return Plan(mr, nr, width, rows, columns, together, groups, blocks, parts, row)


def lower(node: Node, context: Context) -> list[Step] | None:
    """The steps: sums of the parts of the pixels, and their sum."""
    op: Any = node.op
    x, y = node.values
    out = node.outputs[0]
    xs, ys, ws = context.strides(x), context.strides(y), context.strides(out)
    last = (y.shape[0], *y.shape[2:], y.shape[1])
    at_last = contiguous_strides(last)
    if xs[1] != 1 or ws[0] != 1 or ys != (at_last[0], 1, *at_last[1:-1]):
        return None
    code = x.dtype.code
    channels, outputs, places, kernel = x.shape[1], y.shape[1], y.shape[2:], op.kernel
    taps, pixels = math.prod(kernel), y.shape[0] * math.prod(places)
    p = plan(pixels, taps, channels, outputs, x.dtype.itemsize)
    tile = p.mr * p.nr
    sums = Scratch(code, p.parts * taps * p.rows * p.columns * tile)
    start = Var("block") * BLOCK_PIXELS
    over: Expr = const(BLOCK_PIXELS)
    if pixels % BLOCK_PIXELS:
        over = s.minimum(over, const(pixels) - start)
    first_tap = Var("group") * p.taps
    stop_tap = s.minimum(first_tap + p.taps, const(taps))
    copied = copy_loop(node, xs, code, first_tap, stop_tap, p)
    lets = implicit.pixel_lets(start + Var("t"), places)
    first_block = Var("part") * p.blocks
    blocks = -(-pixels // BLOCK_PIXELS)
    body = (
        Loop("t", ZERO, over, (*lets, copied)),
        product_loops(outputs, taps, over, first_tap, stop_tap, first_block, code, p),
    )
    kernel_ = Kernel(
        context.title,
        (Buffer("x", code), Buffer("y", code), Buffer("sums", code, True)),
        (
            Let("group", Var("chunk") // p.parts),
            Let("part", Var("chunk") % p.parts),
            Local("rows", code, p.taps * p.rows * BLOCK_PIXELS * p.row),
            Loop("block", first_block, s.minimum(first_block + p.blocks, const(blocks)), body),
        ),
        (),
        const(p.groups * p.parts),
    )
    flops = 2 * pixels * outputs * channels * taps
    step = Step(kernel_, [x, y, sums], parallel=flops > 100_000, flops=flops, title=context.title)
    return [step, sum_step(node, ws, sums, p, f"{context.title}_filters")]


def first_row(channels: int, p: Plan) -> Let:
    """The first channel in of a panel; the last panel is moved back."""
    return Let("first_row", s.minimum(Var("row") * p.mr, const(channels - p.mr)))


def first_column(outputs: int, p: Plan) -> Let:
    """The first channel out of a panel; the last panel is moved back."""
    return Let("first_column", s.minimum(Var("column") * p.nr, const(outputs - p.width)))


def copy_loop(node: Node, xs: Shape, code: str, first_tap: Expr, stop_tap: Expr, p: Plan) -> Loop:
    """Copy what pixel t sees through some taps into panels of channels."""
    op: Any = node.op
    x = node.values[0]
    lane = Var("lane")
    lets: list[Stmt] = []
    rest = math.prod(op.kernel)
    for d, k in enumerate(op.kernel):
        rest //= k
        lets.append(Let(f"k{d}", (Var("tap") // rest) % k))
    places, at, inside = implicit.seen_place(x, xs, op.kernel, op)
    panel = (Var("tap") - first_tap) * p.rows + Var("row")
    to = (panel * BLOCK_PIXELS + Var("t")) * p.row + lane

    def filled(value: Expr) -> Loop:
        lanes = Loop("lane", ZERO, const(p.mr), (Store("rows", to, value),), "vector")
        return Loop("row", ZERO, const(p.rows), (first_row(x.shape[1], p), lanes))

    copied: Stmt = filled(Load("x", at + Var("first_row") + lane, code))
    if inside is not None:
        copied = If(inside, (copied,), (filled(Const(0.0, code)),))
    return Loop("tap", first_tap, stop_tap, (*lets, *places, copied))


def product_loops(
    outputs: int, taps: int, over: Expr, first_tap: Expr, stop_tap: Expr, first_block: Expr,
    code: str, p: Plan,
) -> Loop:  # fmt: skip
    """sums[part, tap, row, column] (+)= rows[tap, row]' @ gradients[:, column], tile by tile."""
    r, j, t = Var("r"), Var("j"), Var("t")
    place = r * p.nr + j
    panel = (Var("tap") - first_tap) * p.rows + Var("row")
    a = Load("rows", (panel * BLOCK_PIXELS + t) * p.row + r, code)
    pixel = Var("block") * BLOCK_PIXELS + t
    at = pixel * outputs + Var("first_column") + j
    gradient = Load("y", at, code, implicit.live_lanes(p))
    b = Load("grads", t * p.nr + j, code)
    number = ((Var("part") * taps + Var("tap")) * p.rows + Var("row")) * p.columns + Var("column")
    kept = number * (p.mr * p.nr) + place
    more = _tile(p, Store("acc", place, Load("sums", kept, code)))
    tile = (
        Local("acc", code, p.mr * p.nr),
        If(
            Var("block") > first_block,
            (more,),
            (_tile(p, Store("acc", place, Const(0.0, code))),),
        ),
        Loop("t", ZERO, over, (_tile(p, Reduce("add", "acc", place, a * b)),)),
        _tile(p, Store("sums", kept, Load("acc", place, code))),
    )
    over_rows = Loop("row", ZERO, const(p.rows), tile)
    over_taps = Loop("tap", first_tap, stop_tap, (over_rows,))
    # Rows of y may be a multiple of 1 KiB apart, and would not stay in the first cache.
    copied = Loop("j", ZERO, const(p.nr), (Store("grads", t * p.nr + j, gradient),), "vector")
    near = (Local("grads", code, BLOCK_PIXELS * p.nr), Loop("t", ZERO, over, (copied,)))
    return Loop("column", ZERO, const(p.columns), (first_column(outputs, p), *near, over_taps))


def _tile(p: Plan, *body: Stmt) -> Loop:
    lanes = Loop("j", ZERO, const(p.nr), body, "vector")
    return Loop("r", ZERO, const(p.mr), (lanes,), "unroll")


def sum_step(node: Node, ws: Shape, sums: Scratch, p: Plan, title: str) -> Step:
    """Add the parts of a panel, and store it in the filter's order."""
    out = node.outputs[0]
    outputs, channels, *kernel = out.shape
    code, r, j = sums.dtype, Var("r"), Var("j")
    panels = math.prod(kernel) * p.rows * p.columns
    total: Expr | None = None
    for part in range(p.parts):
        at = (Var("chunk") + part * panels) * (p.mr * p.nr) + r * p.nr + j
        v = Load("sums", at, code)
        total = v if total is None else total + v
    assert total is not None
    # Taps and channels are one run of rows in a filter's order.
    row = Var("tap") * channels + Var("first_row") + r
    store = Store("out", row * ws[1] + Var("first_column") + j, total)
    lanes = Loop("j", ZERO, const(p.width), (store,), "vector")
    kernel_ = Kernel(
        title,
        (Buffer("sums", code), Buffer("out", code, True)),
        (
            Let("column", Var("chunk") % p.columns),
            Let("row", (Var("chunk") // p.columns) % p.rows),
            Let("tap", Var("chunk") // (p.columns * p.rows)),
            first_row(channels, p),
            first_column(outputs, p),
            Loop("r", ZERO, const(p.mr), (lanes,)),
        ),
        (),
        const(panels),
    )
    return Step(kernel_, [sums, out], parallel=sums.size > 1 << 16, title=title)
