"""The gradient of 3x3 filters at 2.25 times fewer multiplications: Winograd's F(3x3, 2x2).

The transpose of winograd.py with respect to the filters: patches of the image and 2x2 tiles of the
result's gradient become 16 numbers each; their products are summed over all tiles, as 16 matrix
products of C x O; what comes out is transformed to nine numbers.

    patches -> (16, C panel, tiles, MR)     gradients -> (16, O panel, tiles, NR)

Few channels: each chunk takes a part of the tiles and goes through it block by block, with patches
and gradients of a block in Locals; the sums of the parts are added at the end. Many: steps of their
own transform everything, and a chunk takes one of the 16 and some panels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...codegen.target import host
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
from . import winograd
from .packing import ZERO, const

# Sums (bytes) that a chunk keeps in the second cache while the blocks of its part pass.
SUM_BYTES = 1 << 20
PARTS = 16
BLOCK_TILES = 56
CHUNK_FLOPS = 2_000_000


@dataclass(frozen=True)
class Plan:
    """Panels of mr channels in and nr channels out; `parts` of `blocks` of `block` tiles each."""

    tiles: int
    mr: int
    nr: int
    rows: int  # panels of mr
    columns: int  # panels of nr
    block: int
    blocks: int
    parts: int
    here: bool


def suits(node: Node) -> bool:
    """Whether a filter's gradient is computed so."""
    op = node.op
    x, y = node.values
    return (
        x.dtype.code == "f32"
        and op.kernel == (3, 3)  # type: ignore[attr-defined]
        and op.groups == 1  # type: ignore[attr-defined]
        and set(op.stride) == set(op.dilation) == {1}  # type: ignore[attr-defined]
        and min(x.shape[1], y.shape[1]) >= winograd.LEAST_CHANNELS
        and min(y.shape[2:]) >= winograd.LEAST_PLACES
        and not any(n % 2 for n in y.shape[2:])  # tiles that overlap would be counted twice
    )


def plan(tiles: int, channels: int, outputs: int) -> Plan:
    """Panels and parts."""
    mr, nr = winograd.tile()
    rows = -(-channels // mr)
    mr = -(-channels // rows)
    nr = min(nr, outputs)
    columns = -(-outputs // nr)
    here = 64 * channels * outputs <= SUM_BYTES
    if not here:
        return Plan(tiles, mr, nr, rows, columns, tiles, 1, 1, False)
    block = min(tiles, BLOCK_TILES if host().vector_bytes == 64 else BLOCK_TILES // 2)
    count = -(-tiles // block)
    parts = min(PARTS, count)
    blocks = -(-count // parts)
    return Plan(tiles, mr, nr, rows, columns, block, blocks, -(-count // blocks), True)


def lower(node: Node, context: Context) -> list[Step] | None:
    """The steps: patches and gradients (where chunks do not transform them), products, sums."""
    x, y = node.values
    out = node.outputs[0]
    xs, ys, ws = context.strides(x), context.strides(y), context.strides(out)
    if xs[1] != 1 or ys[1] != 1 or ws[0] != 1:
        return None
    n, channels, outputs, (oh, ow) = x.shape[0], x.shape[1], y.shape[1], y.shape[2:]
    p = plan(n * oh * ow // 4, channels, outputs)
    title = context.title
    number = Var("block") * p.block + Var("t")
    lets = winograd.tile_lets(number, oh // 2, ow // 2, oh, ow)
    patches = (*lets, patch_loops(xs, channels, p, "patches"))
    grads = (*lets, gradient_loops(ys, outputs, p, "grads"))
    sums = Scratch("f32", p.parts * 16 * p.rows * p.columns * p.mr * p.nr)
    flops = 2 * n * oh * ow * outputs * channels * 9
    over_tiles = winograd.count(p.block, p.tiles, Var("block"))
    steps: list[Step] = []
    if p.here:
        begin = Var("chunk") * p.blocks
        body: tuple[Stmt, ...] = (
            Local("patches", "f32", 16 * p.rows * p.block * p.mr),
            Local("grads", "f32", 16 * p.columns * p.block * p.nr),
            Loop("t", ZERO, over_tiles, patches),
            Loop("t", ZERO, over_tiles, grads),
            Loop("q", ZERO, const(16), (product_loops(p, ZERO, const(p.rows), over_tiles, begin),)),
        )
        last = s.minimum(begin + p.blocks, const(-(-p.tiles // p.block)))
        kernel = Kernel(
            title,
            (Buffer("x", "f32"), Buffer("y", "f32"), Buffer("sums", "f32", True)),
            (Let("part", Var("chunk")), Loop("block", begin, last, body)),
            (),
            const(p.parts),
        )
        steps.append(Step(kernel, [x, y, sums], flops=flops, title=title))
    else:
        places = []
        for kind, value, loops, panels, width in (
            ("patches", x, patches, p.rows, p.mr),
            ("grads", y, grads, p.columns, p.nr),
        ):
            place = Scratch("f32", 16 * panels * p.tiles * width)
            each = max(1, 4096 // (panels * width))
            start = Var("chunk") * each
            stop = s.minimum(start + each, const(p.tiles))
            buffers = (Buffer(value is x and "x" or "y", "f32"), Buffer(kind, "f32", True))
            inside = (Let("block", ZERO), Loop("t", start, stop, loops))
            kernel = Kernel(f"{title}_{kind}", buffers, inside, (), const(-(-p.tiles // each)))
            steps.append(Step(kernel, [value, place], title=f"{title}_{kind}"))
            places.append(place)
        row_flops = 2 * p.tiles * p.mr * outputs
        rows_each = max(1, min(p.rows, CHUNK_FLOPS // row_flops))
        chunks = -(-p.rows // rows_each)
        start = (Var("chunk") % chunks) * rows_each
        stop = s.minimum(start + rows_each, const(p.rows))
        products = product_loops(p, start, stop, const(p.tiles), ZERO)
        kernel = Kernel(
            title,
            (Buffer("patches", "f32"), Buffer("grads", "f32"), Buffer("sums", "f32", True)),
            (Let("q", Var("chunk") // chunks), Let("part", ZERO), Let("block", ZERO), products),
            (),
            const(16 * chunks),
        )
        steps.append(Step(kernel, [*places, sums], flops=flops, title=title))
    steps.append(filter_step(node, ws, sums, channels, outputs, p, f"{title}_filters"))
    return steps


def panels(count: int, width: int, size: int, body: list[Stmt]) -> Loop:
    """The panels of channels; the last one is moved back to end at `size`."""
    first = s.minimum(Var("panel") * width, const(size - width))
    lanes = Loop("j", ZERO, const(width), tuple(body), "vector")
    return Loop("panel", ZERO, const(count), (Let("first", first), lanes))


def patch_loops(xs: Sequence[int], channels: int, p: Plan, to: str) -> Stmt:
    """Transform the patch of tile t and put it into panels."""
    j = Var("j")
    base = Var("image") * xs[0] + Var("y") * xs[2] + Var("x0") * xs[3] + Var("first") + j
    body, planes = winograd.transform(
        lambda i, k: Load("x", base + (i * xs[2] + k * xs[3]), "f32"), 4, winograd.patch
    )
    for q, v in enumerate(planes):
        at = ((Var("panel") + q * p.rows) * p.block + Var("t")) * p.mr + j
        body.append(Store(to, at, v))
    return panels(p.rows, p.mr, channels, body)


def gradient_loops(ys: Sequence[int], outputs: int, p: Plan, to: str) -> Stmt:
    """Transform tile t of the result's gradient and put it into panels."""
    j = Var("j")
    base = Var("image") * ys[0] + Var("y") * ys[2] + Var("x0") * ys[3] + Var("first") + j
    body, planes = winograd.transform(
        lambda i, k: Load("y", base + (i * ys[2] + k * ys[3]), "f32"), 2, _gradient
    )
    for q, v in enumerate(planes):
        at = ((Var("panel") + q * p.columns) * p.block + Var("t")) * p.nr + j
        body.append(Store(to, at, v))
    return panels(p.columns, p.nr, outputs, body)


def _gradient(g: Sequence[Expr]) -> list[Expr]:
    return [g[0], g[0] + g[1], g[0] - g[1], -g[1]]


def _filter(u: Sequence[Expr]) -> list[Expr]:
    half = Const(0.5, "f32")
    even = (u[1] + u[2]) * half
    return [u[0] + even, (u[1] - u[2]) * half, even + u[3]]


def product_loops(p: Plan, start: Expr, stop: Expr, depth: Expr, first_block: Expr) -> Stmt:
    """sums[part, q, row, column] (+)= patches[q, row]' @ grads[q, column], panel by panel."""
    r, j, t, q = Var("r"), Var("j"), Var("t"), Var("q")
    row, column = Var("row"), Var("column")
    place = r * p.nr + j
    a = ((q * p.rows + row) * p.block + t) * p.mr + r
    b = ((q * p.columns + column) * p.block + t) * p.nr + j
    add = Reduce("add", "acc", place, Load("patches", a, "f32") * Load("grads", b, "f32"))
    panel = ((Var("part") * 16 + q) * p.rows + row) * p.columns + column
    kept = panel * (p.mr * p.nr) + place
    begin: Stmt = winograd.tile_loop(p.mr, p.nr, Store("acc", place, Const(0.0, "f32")))
    if p.blocks > 1:
        more = winograd.tile_loop(p.mr, p.nr, Store("acc", place, Load("sums", kept, "f32")))
        begin = If(Var("block") > first_block, (more,), (begin,))
    tile = (
        Local("acc", "f32", p.mr * p.nr),
        begin,
        Loop("t", ZERO, depth, (winograd.tile_loop(p.mr, p.nr, add),)),
        winograd.tile_loop(p.mr, p.nr, Store("sums", kept, Load("acc", place, "f32"))),
    )
    return Loop("column", ZERO, const(p.columns), (Loop("row", start, stop, tile),))


def filter_step(
    node: Node, ws: Sequence[int], sums: Scratch, channels: int, outputs: int, p: Plan, title: str
) -> Step:
    """Add the parts, transform to filters."""
    r, j = Var("r"), Var("j")
    panel = Var("row") * p.columns + Var("column")

    def summed(i: int, k: int) -> Expr:
        total: Expr | None = None
        for part in range(p.parts):
            at = (panel + (part * 16 + 4 * i + k) * (p.rows * p.columns)) * (p.mr * p.nr)
            v = Load("sums", at + r * p.nr + j, "f32")
            total = v if total is None else total + v
        assert total is not None
        return total

    body, taps = winograd.transform(summed, 4, _filter)
    at = (Var("first_row") + r) * ws[1] + Var("first_column") + j
    for tap, v in enumerate(taps):
        body.append(Store("out", at + (tap // 3 * ws[2] + tap % 3 * ws[3]), v))
    lanes = Loop("j", ZERO, const(p.nr), tuple(body), "vector")
    kernel = Kernel(
        title,
        (Buffer("sums", "f32"), Buffer("out", "f32", True)),
        (
            Let("row", Var("chunk") // p.columns),
            Let("column", Var("chunk") % p.columns),
            Let("first_row", s.minimum(Var("row") * p.mr, const(channels - p.mr))),
            Let("first_column", s.minimum(Var("column") * p.nr, const(outputs - p.nr))),
            Loop("r", ZERO, const(p.mr), (lanes,)),
        ),
        (),
        const(p.rows * p.columns),
    )
    out = node.outputs[0]
    return Step(kernel, [sums, out], parallel=sums.size > 1 << 16, title=title)
