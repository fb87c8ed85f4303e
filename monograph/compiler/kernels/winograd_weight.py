"""The gradient of 3x3 filters with fewer multiplications: Winograd's F(3x3, 2x2) and F(3x3, 4x4).

The transpose of winograd.py with respect to the filters: patches of the image and m x m tiles of
the result's gradient become (m + 2)^2 numbers each (`planes`); their products are summed over all
tiles, as a matrix product of C x O for each plane; what comes out is transformed to nine numbers.

    patches -> (planes, C panel, tiles, MR)    gradients -> (planes, O panel, tiles, NR)

Few channels: each chunk takes a part of the tiles and goes through it block by block, with patches
and gradients of a block in Locals; the sums of the parts are added at the end. Many: steps of their
own transform everything, and a chunk takes one of the planes and some panels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...codegen.target import host
from ...core.shape import Shape
from ...core.symbolic import hint
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
from .winograd_forms import Element, Form, transform

# Sums (bytes) that a chunk keeps in the second cache while the blocks of its part pass.
SUM_BYTES = 1 << 20
PARTS = 16
# Elements of the patches of a block.
BLOCK_ELEMENTS = 1 << 16
# As in winograd.py: sums are written, read, transformed and written again.
FILTER_COST = 90
CHUNK_FLOPS = 2_000_000


@dataclass(frozen=True)
class Plan:
    """Panels of mr channels in and nr channels out; `parts` of `blocks` of `block` tiles each."""

    form: Form
    tiles: int
    channels: int
    outputs: int
    mr: int
    nr: int
    rows: int  # panels of mr
    columns: int  # panels of nr
    block: int
    blocks: int
    parts: int
    here: bool

    @property
    def patch_row(self) -> int:
        """A panel's channels of one tile, in whole vectors."""
        lanes = host().vector_bytes // 4
        return -(-self.mr // lanes) * lanes

    @property
    def patch_plane(self) -> int:
        return winograd.apart(self.rows * self.block * self.patch_row)

    @property
    def gradient_plane(self) -> int:
        return winograd.apart(self.columns * self.block * self.nr)

    @property
    def sum_plane(self) -> int:
        return winograd.apart(self.rows * self.columns * self.mr * self.nr)


def suits(op: Any, dtype: str, channels: int, outputs: int, places: Shape) -> bool:
    """Whether a filter's gradient, from `places` gradients of each output, is computed so."""
    return winograd.suits(op, dtype, channels, outputs, places, op.kernel)


def plan(form: Form, tiles: int, channels: int, outputs: int) -> Plan:
    """Panels and parts."""
    mr, nr = winograd.tile()
    rows = -(-channels // mr)
    mr = -(-channels // rows)
    nr = min(nr, outputs)
    columns = -(-outputs // nr)
    here = 4 * form.planes * channels * outputs <= SUM_BYTES
    if not here:
        return Plan(form, tiles, channels, outputs, mr, nr, rows, columns, tiles, 1, 1, False)
    room = BLOCK_ELEMENTS if host().vector_bytes == 64 else BLOCK_ELEMENTS // 2
    block = min(tiles, max(8, room // (form.planes * channels)))
    count = -(-tiles // block)
    parts = min(PARTS, count)
    blocks = -(-count // parts)
    return Plan(
        form,
        tiles,
        channels,
        outputs,
        mr,
        nr,
        rows,
        columns,
        block,
        blocks,
        -(-count // blocks),
        True,
    )


def lower(node: Node, context: Context) -> list[Step] | None:
    """The steps: patches and gradients (where chunks do not transform them), products, sums."""
    x, y = node.values
    out = node.outputs[0]
    xs, ys, ws = context.strides(x), context.strides(y), context.strides(out)
    if xs[1] != 1 or ys[1] != 1 or ws[0] != 1:
        return None
    n, channels, outputs, (oh, ow) = x.shape[0], x.shape[1], y.shape[1], y.shape[2:]
    form = winograd.choose(n, (oh, ow), FILTER_COST)
    m, planes = form.m, form.planes
    p = plan(form, winograd.tile_count(n, (oh, ow), m), channels, outputs)
    title = context.title
    number = Var("block") * p.block + Var("t")
    lets = winograd.tile_lets(number, m, oh, ow, False)
    past = bool(oh % m or ow % m)
    padding = node.op.padding  # type: ignore[attr-defined]

    def write_patch(element: Element) -> Stmt:
        body, values = transform(element, form.size, form.patch)
        at = (Var("row") * p.block + Var("t")) * p.patch_row + (Var("lane") - Var("first_row"))
        body += [Store("patches", at + q * p.patch_plane, v) for q, v in enumerate(values)]
        end = Var("first_row") + p.mr
        lanes = Loop("lane", Var("first_row"), end, tuple(body), "vector")
        return Loop("row", ZERO, const(p.rows), (first_row(p), lanes))

    def write_gradient(element: Element) -> Stmt:
        body, values = transform(element, m, form.gradient)
        at = (Var("column") * p.block + Var("t")) * p.nr + (Var("lane") - Var("first_column"))
        body += [Store("grads", at + q * p.gradient_plane, v) for q, v in enumerate(values)]
        end = Var("first_column") + p.nr
        lanes = Loop("lane", Var("first_column"), end, tuple(body), "vector")
        return Loop("column", ZERO, const(p.columns), (first_column(p), lanes))

    patches = (*lets, *winograd.patch_loops("x", x, xs, form.size, padding, past, write_patch))
    grads = (*lets, *winograd.patch_loops("y", y, ys, m, (0, 0), past, write_gradient))
    sums = Scratch("f32", p.parts * planes * p.sum_plane)
    flops = 2 * n * oh * ow * outputs * channels * 9
    over_tiles = winograd.count(p.block, p.tiles, Var("block"))
    steps: list[Step] = []
    if p.here:
        begin = Var("chunk") * p.blocks
        body: tuple[Stmt, ...] = (
            Local("patches", "f32", planes * p.patch_plane),
            Local("grads", "f32", planes * p.gradient_plane),
            Loop("t", ZERO, over_tiles, patches),
            Loop("t", ZERO, over_tiles, grads),
            Loop(
                "q",
                ZERO,
                const(planes),
                (product_loops(p, ZERO, const(p.rows), over_tiles, begin),),
            ),
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
        for kind, value, loops, width, plane in (
            ("patches", x, patches, channels, p.patch_plane),
            ("grads", y, grads, outputs, p.gradient_plane),
        ):
            place = Scratch("f32", planes * plane)
            each = max(1, 4096 // width)
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
            const(planes * chunks),
        )
        steps.append(Step(kernel, [*places, sums], flops=flops, title=title))
    steps.append(filter_step(node, ws, sums, channels, outputs, p, f"{title}_filters"))
    return steps


def product_loops(p: Plan, start: Expr, stop: Expr, depth: Expr, first_block: Expr) -> Stmt:
    """sums[part, q, row, column] (+)= patches[q, row]' @ grads[q, column], panel by panel."""
    r, j, t, q = Var("r"), Var("j"), Var("t"), Var("q")
    row, column = Var("row"), Var("column")
    place = r * p.nr + j
    a = q * p.patch_plane + (row * p.block + t) * p.patch_row + r
    b = q * p.gradient_plane + (column * p.block + t) * p.nr + j
    add = Reduce("add", "acc", place, Load("patches", a, "f32") * Load("grads", b, "f32"))
    plane = (Var("part") * p.form.planes + q) * p.sum_plane
    kept = plane + (row * p.columns + column) * (p.mr * p.nr) + place
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


def first_row(p: Plan) -> Let:
    """The first channel in of a panel; the last panel is moved back."""
    return Let("first_row", s.minimum(Var("row") * p.mr, const(p.channels - p.mr)))


def first_column(p: Plan) -> Let:
    """The first channel out of a panel; the last panel is moved back."""
    return Let("first_column", s.minimum(Var("column") * p.nr, const(p.outputs - p.nr)))


def filter_step(
    node: Node, ws: Sequence[int], sums: Scratch, channels: int, outputs: int, p: Plan, title: str
) -> Step:
    """Add the parts, transform to filters."""
    r, j = Var("r"), Var("j")
    panel = Var("row") * p.columns + Var("column")

    def summed(i: int, k: int) -> Expr:
        total: Expr | None = None
        for part in range(p.parts):
            plane = part * p.form.planes + p.form.size * i + k
            at = panel * (p.mr * p.nr) + plane * p.sum_plane
            v = Load("sums", at + r * p.nr + j, "f32")
            total = v if total is None else total + v
        assert total is not None
        return total

    body, taps = transform(summed, p.form.size, p.form.taps)
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
            first_row(p),
            first_column(p),
            Loop("r", ZERO, const(p.mr), (lanes,)),
        ),
        (),
        const(p.rows * p.columns),
    )
    out = node.outputs[0]
    return Step(kernel, [sums, out], parallel=hint(sums.size) > 1 << 16, title=title)
