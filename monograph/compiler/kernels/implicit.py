"""Convolution as a matrix product whose left operand is made block by block in cache.

Images have channels innermost, filters are (taps, C, O). A chunk takes a block of output pixels,
wherever they are in their images. It copies what they see into rows of taps x C (zeros for the
padding), which stay in the second cache while the filters pass:

    filters -> (O panel, taps x C, NR)                 a step of its own
    chunk = some pixels, some output channels:
      rows[pixel, taps x C]                            copied from the image
      for each NR of the channels:
        for each part of taps x C, whose filters stay in the first cache:
          for each MR of the pixels: sums in registers
        the epilogue, pixel by pixel

So strides, dilation, padding and short image rows cost no more than the copy. For few channels in,
conv.py reads the image in place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ...codegen.target import host
from ...core.shape import Shape
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
    Prefetch,
    Reduce,
    Stmt,
    Store,
    Var,
)
from ..index import Atom, Index, NeedSplit, whole
from ..steps import Context, Scratch, Step
from .packing import ZERO, const

LEAST_CHANNELS = 16
# Bytes of filters in the first cache.
NEAR_BYTES = 24 * 1024
# Chunks, at least, and panels of each, for several threads.
CHUNKS, LEAST_PANELS = 8, 2
PACK_ELEMENTS = 8192


@dataclass(frozen=True)
class Plan:
    """`block` pixels and `panels` panels of NR output channels make a chunk.

    nr     whole vectors, of which the first `width` elements are channels
    row    elements from one pixel's row of taps x C to the next
    depth  of taps x C, whose filters stay in the first cache
    """

    mr: int
    nr: int
    width: int
    block: int
    blocks: int
    panels: int
    groups: int  # of panels
    row: int
    depth: int


def suits(op: Any, dtype: str, channels: int, outputs: int) -> bool:
    """Whether a convolution that winograd.py does not take is computed so."""
    return dtype in ("f32", "f64") and op.groups == 1 and min(channels, outputs) >= LEAST_CHANNELS


def plan(pixels: int, rows: int, outputs: int, element_bytes: int) -> Plan:
    """Blocks of pixels whose rows stay in the second cache; enough chunks for several threads."""
    target = host()
    wide = target.vector_bytes == 64
    lanes = target.vector_bytes // element_bytes
    mr, vectors = (14, 2) if wide else (8, 3) if target.registers == 32 else (6, 2)
    vectors = min(vectors, -(-outputs // lanes))
    if vectors == 1:
        mr = 28 if wide else 12
    nr = vectors * lanes
    width = min(nr, outputs)
    panels = -(-outputs // nr)
    row = rows if rows * element_bytes % 1024 else rows + 16
    room = ((1 << 20) if wide else (1 << 18)) // element_bytes
    block = max(mr, min(8 * mr, room // row // mr * mr))
    # Few blocks: chunks share a block's pixels, which each copies; then blocks of fewer pixels.
    groups = min(-(-panels // LEAST_PANELS), -(-CHUNKS // -(-pixels // block)))
    if -(-pixels // block) * groups < CHUNKS:
        block = min(block, max(mr, -(-pixels * groups // CHUNKS)))
    block = min(block, pixels)
    block = -(-pixels // -(-pixels // block))
    mr = -(-block // -(-block // mr))
    block = -(-block // mr) * mr
    blocks = -(-pixels // block)
    each = -(-panels // groups)
    most = max(16, NEAR_BYTES // (nr * element_bytes))
    depth = -(-rows // -(-rows // most))
    return Plan(mr, nr, width, block, blocks, each, -(-panels // each), row, depth)


def lower(node: Node, context: Context) -> list[Step] | None:
    """The steps: filters, and all else."""
    op: Any = node.op
    x, w = node.values
    out = node.outputs[0]
    xs, ws = context.strides(x), context.strides(w)
    if xs[1] != 1 or ws[0] != 1:
        return None
    code = x.dtype.code
    kernel, places = w.shape[2:], out.shape[2:]
    channels, outputs = w.shape[1], w.shape[0]
    taps = math.prod(kernel)
    pixels = out.shape[0] * math.prod(places)
    p = plan(pixels, taps * channels, outputs, x.dtype.itemsize)
    title = context.title
    filters = Scratch(code, p.groups * p.panels * taps * channels * p.nr)
    steps = [filter_step(w, ws, filters, p, f"{title}_filters")]
    buffers = [Buffer("x", code), Buffer("w", code)]
    lets = pixel_lets(Var("block") * p.block + Var("t"), places)
    over: Expr = const(p.block)
    if pixels % p.block:
        over = s.minimum(over, const(pixels) - Var("block") * p.block)
    copies = copy_loops(x, xs, kernel, op, code, p)
    stores, more_buffers, more_values = store_loops(node, context, p)
    at_end = Loop("t", ZERO, over, (*lets, *stores))
    panel = Var("group") * p.panels + Var("local_panel")
    first = s.minimum(Var("panel") * p.nr, const(outputs - p.width))
    panel_body = (
        Let("panel", panel),
        Let("column", first),
        product_loops(taps * channels, over, code, x.dtype.itemsize, p),
        at_end,
    )
    body = (
        Let("group", Var("chunk") // p.blocks),
        Let("block", Var("chunk") % p.blocks),
        Local("rows", code, p.block * p.row),
        Local("sums", code, p.block * p.nr),
        Loop("t", ZERO, over, (*lets, *copies)),
        Loop("local_panel", ZERO, const(p.panels), panel_body),
    )
    kernel_ = Kernel(title, (*buffers, *more_buffers), body, (), const(p.blocks * p.groups))
    flops = 2 * pixels * outputs * channels * taps
    values: list[Value | Scratch] = [x, filters, *more_values]
    steps.append(Step(kernel_, values, parallel=flops > 100_000, flops=flops, title=title))
    return steps


def filter_step(w: Value, ws: Shape, filters: Scratch, p: Plan, title: str) -> Step:
    """Copy filters into panels: element (tap, c, j) at ((panel*taps + tap)*C + c)*NR + j."""
    outputs, channels, *kernel = w.shape
    rows = math.prod(kernel) * channels
    each = max(1, PACK_ELEMENTS // p.nr)
    parts = -(-rows // each)
    code, j = filters.dtype, Var("j")
    begin = (Var("chunk") % parts) * each
    # Taps and channels are one run of rows in a filter's order.
    value = Load("w", Var("row") * ws[1] + Var("column") + j, code, live_lanes(p))
    at = (Var("panel") * rows + Var("row")) * p.nr + j
    inside = Loop("j", ZERO, const(p.nr), (Store("filters", at, value),), "vector")
    kernel_ = Kernel(
        title,
        (Buffer("w", code), Buffer("filters", code, True)),
        (
            Let("panel", Var("chunk") // parts),
            Let("column", s.minimum(Var("panel") * p.nr, const(outputs - p.width))),
            Loop("row", begin, s.minimum(begin + each, const(rows)), (inside,)),
        ),
        (),
        const(p.panels * p.groups * parts),
    )
    return Step(kernel_, [w, filters], parallel=filters.size > 1 << 16, title=title)


def live_lanes(p: Any) -> Expr | None:
    """Which elements of a panel's row are channels: None for all."""
    return None if p.width == p.nr else Var("j") < p.width


def pixel_lets(number: Expr, places: Shape) -> list[Stmt]:
    """The image and the place of a pixel of the result."""
    rest = math.prod(places)
    lets: list[Stmt] = [Let("number", number), Let("image", Var("number") // rest)]
    for d, n in enumerate(places):
        rest //= n
        lets.append(Let(f"p{d}", (Var("number") // rest) % n))
    return lets


def seen_place(x: Value, xs: Shape, kernel: Shape, op: Any) -> tuple[list[Stmt], Expr, Expr | None]:
    """What pixel (image, p0, ...) of the result sees through tap (k0, ...): statements that name
    the place, where its first channel stands, and whether it is inside of the image (None: always).
    """
    at: Expr = Var("image") * xs[0]
    lets: list[Stmt] = []
    inside: Expr | None = None
    for d, (size, n) in enumerate(zip(kernel, x.shape[2:])):
        stride, padding, dilation = op.stride[d], op.padding[d], op.dilation[d]
        lets.append(Let(f"x{d}", Var(f"p{d}") * stride + (Var(f"k{d}") * dilation - padding)))
        at = at + Var(f"x{d}") * xs[2 + d]
        reach = (size - 1) * dilation
        count = (n + 2 * padding - reach - 1) // stride + 1
        past = (count - 1) * stride + reach - padding >= n
        for needed, test in ((padding > 0, Var(f"x{d}") >= 0), (past, Var(f"x{d}") < n)):
            if needed:
                inside = test if inside is None else Call("and", (inside, test), "bool")
    return lets, at, inside


def copy_loops(x: Value, xs: Shape, kernel: Shape, op: Any, code: str, p: Plan) -> list[Stmt]:
    """Copy what pixel t sees, tap by tap; zeros outside of the image."""
    channels = x.shape[1]
    lane = Var("lane")
    lets, at, inside = seen_place(x, xs, kernel, op)
    to: Expr = Var("t") * p.row + lane
    for d in range(len(kernel)):
        to = to + Var(f"k{d}") * (channels * math.prod(kernel[d + 1 :]))

    def filled(value: Expr) -> Loop:
        return Loop("lane", ZERO, const(channels), (Store("rows", to, value),), "vector")

    copied: Stmt = filled(Load("x", at + lane, code))
    if inside is not None:
        copied = If(inside, (copied,), (filled(Const(0.0, code)),))
    loops: tuple[Stmt, ...] = (*lets, copied)
    for d in reversed(range(len(kernel))):
        loops = (Loop(f"k{d}", ZERO, const(kernel[d]), loops),)
    return list(loops)


def product_loops(rows: int, over: Expr, code: str, x_bytes: int, p: Plan) -> Stmt:
    """sums[t, :] = rows[t] @ filters[panel], part by part of the rows."""
    r, j, k = Var("r"), Var("j"), Var("k")
    place = r * p.nr + j
    a = Load("rows", (Var("first") + r) * p.row + k, code)
    b = Load("w", (Var("panel") * rows + k) * p.nr + j, code)
    kept = (Var("first") + r) * p.nr + j
    begin: Stmt = _tile(p, Store("acc", place, Const(0.0, code)))
    parts = -(-rows // p.depth)
    if parts > 1:
        more = _tile(p, Store("acc", place, Load("sums", kept, code)))
        begin = If(Var("start") > 0, (more,), (begin,))
    stop: Expr = Var("start") + p.depth
    if rows % p.depth:
        stop = s.minimum(stop, const(rows))
    # While tiles go through the filters of a part, those of the next come: a line in each step.
    line = 64 // x_bytes
    step = Var("first") // p.mr * p.depth + (k - Var("start"))
    ahead = Prefetch("w", (Var("panel") * rows + Var("start") + p.depth) * p.nr + step * line)
    tile = (
        Local("acc", code, p.mr * p.nr),
        begin,
        Loop("k", Var("start"), stop, (ahead, _tile(p, Reduce("add", "acc", place, a * b)))),
        _tile(p, Store("sums", kept, Load("acc", place, code))),
    )
    over_pixels = Loop("first", ZERO, over, tile, step=p.mr)
    return Loop("start", ZERO, const(rows), (over_pixels,), step=p.depth)


def _tile(p: Plan, *body: Stmt) -> Loop:
    lanes = Loop("j", ZERO, const(p.nr), body, "vector")
    return Loop("r", ZERO, const(p.mr), (lanes,), "unroll")


def store_loops(
    node: Node, context: Context, p: Plan
) -> tuple[list[Stmt], list[Buffer], list[Value]]:
    """Store a panel's sums of pixel t, or run the epilogue on them."""
    out = node.outputs[0]
    code = out.dtype.code
    index = (
        _variable("image", out.shape[0]),
        _variable("column", max(out.shape[1] - p.width + 1, 2)) + _variable("j", p.width),
        *(_variable(f"p{d}", n) for d, n in enumerate(out.shape[2:])),
    )
    value = Load("sums", Var("t") * p.nr + Var("j"), code)
    buffers, values = [Buffer("out", code, True)], [out]
    if context.epilogue is None:
        at: Expr = ZERO
        for axis, step in zip(index, context.strides(out)):
            at = at + axis.expr() * step
        stores: list[Stmt] = [Store("out", at, value)]
    else:
        buffers, values = list(context.epilogue.buffers), list(context.epilogue.values)
        try:
            written = context.epilogue.emit(index, Var("sum", code))
        except NeedSplit:  # an epilogue that reshapes: by divisions
            written = context.epilogue.emit(tuple(map(whole, index)), Var("sum", code))
        stores = [Let("sum", value), *written]
    return [Loop("j", ZERO, const(p.width), tuple(stores), "vector")], buffers, values


def _variable(name: str, size: int) -> Index:
    return Index(((Atom(name, max(size, 2)), 1),))
