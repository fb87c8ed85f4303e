"""Convolution by 3x3 filters at 2.25 times fewer multiplications: Winograd's F(2x2, 3x3).

Images have channels innermost, filters are (taps, C, O). Each 2x2 tile of the result needs a 4x4
patch of the image; patch and filter are transformed to 16 numbers each, multiplied and summed over
channels as 16 matrix products, and transformed back:

    filters -> (O panel, 16, C, NR)                    a step of its own, as filters are few
    patches -> (16, tiles of a block, C)               by each chunk in a Local, or a step
    chunk = a block of tiles, some output channels:    16 products, then back, then the epilogue

In float32 the error is about that of the direct sum: the transforms add and halve, no more
(tests/compiler/test_winograd.py measures it). Source: Winograd, "Arithmetic Complexity of
Computations", 1980; Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...codegen.target import host
from ...ir.graph import Node, Value
from ...kernel import scalar as s
from ...kernel.ir import (
    Buffer,
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
from ..index import Atom, Index, NeedSplit, whole
from ..steps import Context, Scratch, Step
from .packing import ZERO, const

# Fewer channels in or out do not pay for the transforms.
LEAST_CHANNELS = 32
LEAST_PLACES = 4
# Bytes of filters, transformed, that all chunks may read again and again from the second cache.
FILTER_BYTES = 1 << 20
# Columns of a chunk where filters are larger.
CHUNK_COLUMNS = 128
CHUNK_FLOPS = 400_000


@dataclass(frozen=True)
class Plan:
    """`block` tiles of the image make a chunk with `panels` panels of NR output channels.

    here: each chunk transforms its patches itself.
    """

    mr: int
    nr: int
    block: int
    blocks: int
    panels: int
    groups: int  # of panels
    here: bool


def suits(node: Node) -> bool:
    """Whether a convolution without padding is computed so."""
    op = node.op
    x, w = node.values
    out = node.outputs[0]
    return (
        x.dtype.code == "f32"
        and w.shape[2:] == (3, 3)
        and op.groups == 1  # type: ignore[attr-defined]
        and set(op.stride) == set(op.dilation) == {1}  # type: ignore[attr-defined]
        and min(w.shape[:2]) >= LEAST_CHANNELS
        and min(out.shape[2:]) >= LEAST_PLACES
    )


def tile() -> tuple[int, int]:
    """Rows and columns of the register tile."""
    target = host()
    wide = target.vector_bytes == 64
    mr, vectors = (14, 2) if wide else (8, 3) if target.registers == 32 else (6, 2)
    return mr, vectors * target.vector_bytes // 4


def plan(tiles: int, channels: int, outputs: int) -> Plan:
    """Blocks that stay in the second-level cache."""
    wide = host().vector_bytes == 64
    mr, nr = tile()
    nr = min(nr, outputs)
    room = (1 << 17) if wide else (1 << 16)  # elements
    here = 64 * channels * outputs <= FILTER_BYTES
    panels = -(-outputs // nr)
    groups = 1 if here else -(-panels // max(1, CHUNK_COLUMNS // nr))
    panels_each = -(-panels // groups)
    tile_elements = 16 * (panels_each * nr + (channels if here else 0))
    block = max(mr, room // tile_elements // mr * mr)
    block = max(mr, min(block, 8 * mr, -(-tiles // 8)))
    block = -(-tiles // -(-tiles // block))
    mr = -(-block // -(-block // mr))
    return Plan(mr, nr, block, -(-tiles // block), panels_each, groups, here)


def lower(node: Node, context: Context) -> list[Step] | None:
    """The steps: filters, patches (where chunks do not transform them), products."""
    x, w = node.values
    out = node.outputs[0]
    xs, ws = context.strides(x), context.strides(w)
    if xs[1] != 1 or ws[0] != 1:
        return None
    n, channels, outputs, (oh, ow) = x.shape[0], x.shape[1], w.shape[0], out.shape[2:]
    down, along = -(-oh // 2), -(-ow // 2)
    tiles = n * down * along
    p = plan(tiles, channels, outputs)
    filters = Scratch("f32", p.groups * p.panels * 16 * channels * p.nr)
    title = context.title
    steps = [filter_step(w, ws, filters, channels, outputs, p, f"{title}_filters")]
    lets = tile_lets(Var("block") * p.block + Var("t"), down, along, oh, ow)
    over = count(p.block, tiles, Var("block"))
    loads = patch_loops(xs, channels, p, "here" if p.here else "patches")
    buffers = [Buffer("w", "f32")]
    values: list[Value | Scratch] = [filters]
    if p.here:
        buffers.append(Buffer("x", "f32"))
        values.append(x)
    else:
        patches = Scratch("f32", p.blocks * 16 * p.block * channels)
        body = Loop("t", ZERO, over, (*lets, *loads))
        kernel = Kernel(
            f"{title}_patches",
            (Buffer("x", "f32"), Buffer("patches", "f32", True)),
            (Let("block", Var("chunk")), body),
            (),
            const(p.blocks),
        )
        steps.append(Step(kernel, [x, patches], title=f"{title}_patches", nodes=[node]))
        buffers.append(Buffer("patches", "f32"))
        values.append(patches)
    stores, more_buffers, more_values = result_loops(node, context, p, oh, ow)
    body_: list[Stmt] = [
        Let("group", Var("chunk") // p.blocks),
        Let("block", Var("chunk") % p.blocks),
    ]
    if p.here:
        body_.append(Local("here", "f32", 16 * p.block * channels))
        body_.append(Loop("t", ZERO, over, (*lets, *loads)))
    body_.append(Local("products", "f32", p.panels * 16 * p.block * p.nr))
    body_ += product_loops(channels, p, over)
    output = Loop("t", ZERO, over, (*lets, *stores))
    body_.append(panel_loop(p, outputs, [output]))
    kernel = Kernel(
        title,
        (*buffers, *more_buffers),
        tuple(body_),
        (),
        const(p.blocks * p.groups),
    )
    flops = 2 * n * oh * ow * outputs * channels * 9
    steps.append(Step(kernel, [*values, *more_values], flops=flops, title=title))
    steps[-1].parallel = flops > CHUNK_FLOPS
    return steps


def count(block: int, tiles: int, number: Expr) -> Expr:
    """How many tiles block `number` has."""
    if tiles % block == 0:
        return const(block)
    return s.minimum(const(block), const(tiles) - number * block)


def tile_lets(number: Expr, down: int, along: int, oh: int, ow: int) -> list[Stmt]:
    """Where a tile begins in the image. The last of a row or column is moved back."""

    def start(name: str, at: Expr, size: int) -> Let:
        begin: Expr = at * 2
        return Let(name, s.minimum(begin, const(size - 2)) if size % 2 else begin)

    return [
        Let("number", number),
        Let("image", Var("number") // (down * along)),
        start("y", (Var("number") // along) % down, oh),
        start("x0", Var("number") % along, ow),
    ]


def transform(
    element: Callable[[int, int], Expr], size: int, along: Callable[[Sequence[Expr]], list[Expr]]
) -> tuple[list[Stmt], list[Expr]]:
    """`along` applied to the columns and then to the rows of a size x size matrix.

    The statements that name what is on the way, and the elements of the result, row by row.
    """
    lets: list[Stmt] = []

    def named(kind: str, i: int, k: int, value: Expr) -> Expr:
        lets.append(Let(f"{kind}{i}{k}", value))
        return Var(f"{kind}{i}{k}", "f32")

    given = [[named("given", i, k, element(i, k)) for k in range(size)] for i in range(size)]
    columns = [
        [named("half", i, k, v) for i, v in enumerate(along([row[k] for row in given]))]
        for k in range(size)
    ]
    rows = [along([column[i] for column in columns]) for i in range(len(columns[0]))]
    return lets, [v for row in rows for v in row]


def patch(d: Sequence[Expr]) -> list[Expr]:
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _filter(g: Sequence[Expr]) -> list[Expr]:
    half = Const(0.5, "f32")
    outer, middle = (g[0] + g[2]) * half, g[1] * half
    return [g[0], outer + middle, outer - middle, g[2]]


def _result(m: Sequence[Expr]) -> list[Expr]:
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


def patch_loops(xs: Sequence[int], channels: int, p: Plan, to: str) -> list[Stmt]:
    """Transform the patch of tile t."""
    c = Var("c")
    base = Var("image") * xs[0] + Var("y") * xs[2] + Var("x0") * xs[3] + c
    body, planes = transform(
        lambda i, k: Load("x", base + (i * xs[2] + k * xs[3]), "f32"), 4, patch
    )
    start: Expr = Var("t") * channels + c
    if to == "patches":
        start = start + Var("block") * (16 * p.block * channels)
    for q, v in enumerate(planes):
        body.append(Store(to, start + q * p.block * channels, v))
    return [Loop("c", ZERO, const(channels), tuple(body), "vector")]


def filter_step(
    w: Value, ws: Sequence[int], filters: Scratch, channels: int, outputs: int, p: Plan, title: str
) -> Step:
    """Transform filters: element (c, j) of plane q of a panel at ((panel*16 + q)*C + c)*NR + j."""
    j = Var("j")
    at = Var("c") * ws[1] + Var("column") + j
    body, planes = transform(
        lambda i, k: Load("w", at + (i * ws[2] + k * ws[3]), "f32"), 3, _filter
    )
    start = (Var("panel") * (16 * channels) + Var("c")) * p.nr + j
    for q, v in enumerate(planes):
        body.append(Store("u", start + q * channels * p.nr, v))
    row = Loop("j", ZERO, const(p.nr), tuple(body), "vector")
    panels = p.panels * p.groups
    each = max(1, min(channels, 4096 // p.nr))
    parts = -(-channels // each)
    begin = (Var("chunk") % parts) * each
    loop = Loop("c", begin, s.minimum(begin + each, const(channels)), (row,))
    lets = (Let("panel", Var("chunk") // parts), column_let(p, outputs, Var("panel")))
    kernel = Kernel(
        title, (Buffer("w", "f32"), Buffer("u", "f32", True)), (*lets, loop), (),
        const(panels * parts),
    )  # fmt: skip
    return Step(kernel, [w, filters], parallel=filters.size > 1 << 16, title=title)


def column_let(p: Plan, outputs: int, panel: Expr) -> Let:
    """The first output channel of a panel: panels at the end overlap the ones before."""
    return Let("column", s.minimum(panel * p.nr, const(outputs - p.nr)))


def panel_loop(p: Plan, outputs: int, body: list[Stmt]) -> Loop:
    panel = Var("group") * p.panels + Var("local_panel")
    return Loop("local_panel", ZERO, const(p.panels), (column_let(p, outputs, panel), *body))


def product_loops(channels: int, p: Plan, over: Expr) -> list[Stmt]:
    """products[local panel, q, t, :] = patches[q, t, :] @ filters[panel, q], tile by tile."""
    r, j, c = Var("r"), Var("j"), Var("c")
    rows = min(p.mr, p.block)
    place = r * p.nr + j
    patches = "here" if p.here else "patches"
    at = Var("q") * (p.block * channels) + (Var("first") + r) * channels + c
    if not p.here:
        at = at + Var("block") * (16 * p.block * channels)
    panel = (Var("group") * p.panels + Var("local_panel")) * 16 + Var("q")
    filters = (panel * channels + c) * p.nr + j
    add = Reduce("add", "acc", place, Load(patches, at, "f32") * Load("w", filters, "f32"))
    kept = ((Var("local_panel") * 16 + Var("q")) * p.block + Var("first") + r) * p.nr + j
    tile = (
        Let("first", s.minimum(Var("row"), const(p.block - rows))),
        Local("acc", "f32", rows * p.nr),
        tile_loop(rows, p.nr, Store("acc", place, Const(0.0, "f32"))),
        Loop("c", ZERO, const(channels), (tile_loop(rows, p.nr, add),)),
        tile_loop(rows, p.nr, Store("products", kept, Load("acc", place, "f32"))),
    )  # fmt: skip
    over_rows = Loop("row", ZERO, over, tile, step=rows)
    over_panels = Loop("local_panel", ZERO, const(p.panels), (over_rows,))
    return [Loop("q", ZERO, const(16), (over_panels,))]


def tile_loop(rows: int, columns: int, *body: Stmt) -> Loop:
    return Loop(
        "r", ZERO, const(rows), (Loop("j", ZERO, const(columns), body, "vector"),), "unroll"
    )


def result_loops(
    node: Node, context: Context, p: Plan, oh: int, ow: int
) -> tuple[list[Stmt], list[Buffer], list[Value]]:
    """Transform the products of tile t back, and store its four elements or run the epilogue."""
    j = Var("j")
    out = node.outputs[0]

    def product(i: int, k: int) -> Expr:
        plane = Var("local_panel") * 16 + (4 * i + k)
        return Load("products", (plane * p.block + Var("t")) * p.nr + j, "f32")

    body, elements = transform(product, 4, _result)
    for i, v in enumerate(elements):
        body.append(Store("four", i * p.nr + j, v))
    four = Loop("j", ZERO, const(p.nr), tuple(body), "vector")
    index = (
        _variable("image", out.shape[0]),
        _variable("column", max(out.shape[1] - p.nr + 1, 2)) + _variable("j", p.nr),
        _variable("oy", oh),
        _variable("ox", ow),
    )
    value = Load("four", Var("turn") * p.nr + j, "f32")
    buffers, values = [Buffer("out", "f32", True)], [out]
    if context.epilogue is None:
        at: Expr = ZERO
        for axis, step in zip(index, context.strides(out)):
            at = at + axis.expr() * step
        stores: list[Stmt] = [Store("out", at, value)]
    else:
        buffers, values = list(context.epilogue.buffers), list(context.epilogue.values)
        try:
            written = context.epilogue.emit(index, Var("sum", "f32"))
        except NeedSplit:  # an epilogue that reshapes: by divisions
            written = context.epilogue.emit(tuple(map(whole, index)), Var("sum", "f32"))
        stores = [Let("sum", value), *written]
    lets = (Let("oy", Var("y") + Var("turn") // 2), Let("ox", Var("x0") + Var("turn") % 2))
    across = Loop("j", ZERO, const(p.nr), tuple(stores), "vector")
    turns = Loop("turn", ZERO, const(4), (*lets, across))
    return [Local("four", "f32", 4 * p.nr), four, turns], buffers, values


def _variable(name: str, size: int) -> Index:
    return Index(((Atom(name, max(size, 2)), 1),))
