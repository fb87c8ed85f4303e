"""Convolution by 3x3 filters with fewer multiplications: Winograd's F(2x2, 3x3) and F(4x4, 3x3).

Images have channels innermost, filters are (taps, C, O). Each m x m tile of the result needs a
patch of (m + 2) x (m + 2) elements of the image; patch and filter are transformed to as many
numbers each (`planes`), multiplied and summed over channels as matrix products, one for each plane,
and transformed back (winograd_forms.py):

    patches -> (planes, tiles of a block, C)           by each chunk, in a Local
    filters -> (O panel, planes, C, NR)                few: a step of its own; else by each chunk
    chunk = a block of tiles, some output channels:    for each NR of them the products,
                                                       then back, then the epilogue

The second-level cache decides. Many filters do not fit into it, transformed, and to read them from
behind it takes as long as the products. Then a chunk goes through the channels block by block: it
transforms some of the patches and filters, both in its cache, and adds to the sums there.

F(2x2) multiplies 2.25 times less than the direct sum, F(4x4) 4 times, but has more of everything
else: `choose` weighs them. Padding is no memory: patches at the edges see zeros.

In float32, the error of F(2x2) is about that of the direct sum, and of F(4x4) about four times
that (tests/compiler/test_winograd.py measures both).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ...codegen.target import host
from ...core.shape import Shape
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
from ..index import Atom, Index, NeedSplit, whole
from ..steps import Context, Scratch, Step
from .packing import ZERO, const
from .winograd_forms import FORMS, Element, Form, transform

# Fewer channels in or out do not pay for the transforms.
LEAST_CHANNELS = 32
LEAST_PLACES = 4
# Bytes of filters, transformed, that all chunks may read again and again.
FILTER_BYTES = 1 << 20
# Channels of a block, where filters are more.
BLOCK_CHANNELS = 16
# To transform a number of a patch or filter takes as long as so many vector multiply-adds.
PATCH_COST, FILTER_COST = 12.0, 6.0
CHUNK_FLOPS = 400_000


@dataclass(frozen=True)
class Plan:
    """`block` tiles of the image make a chunk with `panels` panels of NR output channels.

    depth  channels of a block; all of them: filters are transformed by a step of their own
    """

    form: Form
    mr: int
    nr: int
    block: int
    blocks: int
    panels: int
    groups: int  # of panels
    depth: int
    once: bool

    # Elements from a plane to the next. At multiples of 4 KiB, all would fall into one set of the
    # first cache.

    @property
    def patch_plane(self) -> int:
        return apart(self.block * self.depth)

    @property
    def filter_plane(self) -> int:
        return apart(self.depth * self.nr)

    @property
    def product_plane(self) -> int:
        return apart(self.block * self.nr)


def apart(elements: int) -> int:
    """A distance between planes: not a multiple of 1 KiB."""
    return elements + 16 if elements % 256 == 0 else elements


def suits(op: Any, dtype: str, channels: int, outputs: int, places: Shape, kernel: Shape) -> bool:
    """Whether a convolution with `places` outputs of each channel is computed so."""
    return (
        dtype == "f32"
        and tuple(kernel) == (3, 3)
        and op.groups == 1
        and set(op.stride) == set(op.dilation) == {1}
        and min(channels, outputs) >= LEAST_CHANNELS
        and min(places) >= LEAST_PLACES
    )


def tile_count(images: int, places: Shape, m: int) -> int:
    """Tiles of m x m places that cover all images."""
    return images * -(-places[0] // m) * -(-places[1] // m)


def choose(images: int, places: Shape, filter_cost: float = 5 * FILTER_COST) -> Form:
    """The form that takes less time, from the number of tiles and of planes."""

    def cost(form: Form) -> float:
        return form.planes * (tile_count(images, places, form.m) + filter_cost)

    return min(FORMS.values(), key=cost)


def tile() -> tuple[int, int]:
    """Rows and columns of the register tile."""
    target = host()
    wide = target.vector_bytes == 64
    mr, vectors = (14, 2) if wide else (8, 3) if target.registers == 32 else (6, 2)
    return mr, vectors * target.vector_bytes // 4


def plan(form: Form, tiles: int, channels: int, outputs: int) -> Plan:
    """Blocks whose patches, filters and products stay in the second-level cache."""
    wide = host().vector_bytes == 64
    mr, nr = tile()
    nr = min(nr, outputs)
    panels = -(-outputs // nr)
    room = (1 << 18) if wide else (1 << 17)  # elements
    once = 4 * form.planes * channels * outputs <= FILTER_BYTES
    depth = channels if once else BLOCK_CHANNELS
    depth = -(-channels // -(-channels // depth))
    best: tuple[float, int, int] | None = None
    for together in range(1, panels + 1):
        columns = together * nr
        for rows in range(mr, 8 * mr + 1, mr):
            block = min(rows, tiles)
            kept = nr if once else columns  # whose products are kept at one time
            filters = 0 if once else depth * columns
            elements = form.planes * (block * depth + filters + block * kept)
            if elements > room and best is not None:
                break
            chunks = -(-tiles // block) * -(-panels // together)
            waste = -(-tiles // block) * block / tiles * -(-panels // together) * together / panels
            work = 0.5 + PATCH_COST / columns + (0 if once else FILTER_COST / block)
            cost = work * waste * (1 + 1 / chunks) * (1.5 if chunks < 4 else 1)
            if best is None or cost < best[0]:
                best = cost, block, together
    assert best is not None
    _, block, together = best
    block = -(-tiles // -(-tiles // block))
    mr = -(-block // -(-block // mr))
    block = -(-block // mr) * mr
    return Plan(
        form, mr, nr, block, -(-tiles // block), together, -(-panels // together), depth, once
    )


def lower(node: Node, context: Context) -> list[Step] | None:
    """The steps: filters (where chunks do not transform them), and all else."""
    x, w = node.values
    out = node.outputs[0]
    xs, ws = context.strides(x), context.strides(w)
    if xs[1] != 1 or ws[0] != 1:
        return None
    n, channels, outputs, (oh, ow) = x.shape[0], x.shape[1], w.shape[0], out.shape[2:]
    form = choose(n, (oh, ow))
    m = form.m
    tiles = tile_count(n, (oh, ow), m)
    p = plan(form, tiles, channels, outputs)
    title = context.title
    lets = tile_lets(Var("block") * p.block + Var("t"), m, oh, ow, True)
    over = count(p.block, tiles, Var("block"))
    is_split = p.depth < channels
    first: Expr = Var("first_channel") if is_split else ZERO
    depth: Expr = const(p.depth)
    if channels % p.depth:
        depth = Var("depth")

    def write(element: Element) -> Stmt:
        body, planes = transform(element, form.size, form.patch)
        for q, v in enumerate(planes):
            at = Var("t") * p.depth + Var("lane") + q * p.patch_plane
            body.append(Store("patches", at, v))
        return Loop("lane", ZERO, depth, tuple(body), "vector")

    padding = node.op.padding  # type: ignore[attr-defined]
    patches = patch_loops("x", x, xs, form.size, padding, False, write, first)
    steps: list[Step] = []
    buffers = [Buffer("x", "f32"), Buffer("w", "f32")]
    values: list[Value | Scratch] = [x, w]
    if p.once:
        filters = Scratch("f32", p.groups * p.panels * form.planes * p.filter_plane)
        values[1] = filters
        steps.append(filter_step(w, ws, filters, channels, outputs, p, f"{title}_filters"))
    stores, more_buffers, more_values = result_loops(node, context, p, oh, ow)
    inner: list[Stmt] = [Loop("t", ZERO, over, (*lets, *patches))]
    if not p.once:
        inner.append(panel_loop(p, outputs, [filter_loop(ws, first, depth, p)]))
    product = product_loop(channels, p, over, depth)
    over_planes = partial(Loop, "q", ZERO, const(form.planes))
    output = Loop("t", ZERO, over, (*lets, *stores))
    at_once = 1 if p.once else p.panels
    body: list[Stmt] = [
        Let("group", Var("chunk") // p.blocks),
        Let("block", Var("chunk") % p.blocks),
        Local("patches", "f32", form.planes * p.patch_plane),
        Local("products", "f32", at_once * form.planes * p.product_plane),
        Local("square", "f32", m * m * p.nr),
    ]
    if p.once:
        body += [*inner, panel_loop(p, outputs, [over_planes((product,)), output])]
    else:
        body.append(Local("filters", "f32", p.panels * form.planes * p.filter_plane))
        inner.append(over_planes((panel_loop(p, outputs, [product]),)))
        if is_split:
            if channels % p.depth:
                rest = s.minimum(const(p.depth), const(channels) - first)
                inner.insert(0, Let("depth", rest))
            inner = [Loop("first_channel", ZERO, const(channels), tuple(inner), step=p.depth)]
        body += [*inner, panel_loop(p, outputs, [output])]
    kernel = Kernel(
        title,
        (*buffers, *more_buffers),
        tuple(body),
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


def tile_lets(number: Expr, m: int, oh: int, ow: int, back: bool) -> list[Stmt]:
    """Where a tile begins in the image; `back`: the last of a row or column is moved back."""
    down, along = -(-oh // m), -(-ow // m)

    def start(name: str, at: Expr, size: int) -> Let:
        begin: Expr = at * m
        return Let(name, s.minimum(begin, const(size - m)) if back and size % m else begin)

    return [
        Let("number", number),
        Let("image", Var("number") // (down * along)),
        start("y", (Var("number") // along) % down, oh),
        start("x0", Var("number") % along, ow),
    ]


def patch_loops(
    buffer: str, v: Value, vs: Sequence[int], size: int, padding: Shape, past: bool,
    write: Callable[[Element], Stmt], first: Expr = ZERO,
) -> list[Stmt]:  # fmt: skip
    """Read size x size elements of v (images) from row y and column x0, less the padding.

    write(element) is a loop over channels: element(i, k) is that of channel first + Var("lane").
    past: the last tiles reach past the end of the image. Outside of it are zeros.
    """
    height, width = v.shape[2:]
    before = [Let("row0", Var("y") - padding[0]), Let("column0", Var("x0") - padding[1])]
    image = Var("image") * vs[0] + first + Var("lane")
    base = image + Var("row0") * vs[2] + Var("column0") * vs[3]
    plain = write(lambda i, k: Load(buffer, base + (i * vs[2] + k * vs[3]), "f32"))
    if not any(padding) and not past:
        return [*before, plain]
    # At the edges: each row and column at a place that exists, and zero if that is another.
    lets: list[Stmt] = []
    for i in range(size):
        for start, n, step in (("row0", height, vs[2]), ("column0", width, vs[3])):
            at: Expr = Var(start) + i
            there = s.maximum(s.minimum(at, const(n - 1)), ZERO)
            exists = Call("and", (at >= 0, at < n), "bool")
            lets += [Let(f"{start}_{i}", there * step), Let(f"is_{start}_{i}", exists)]

    def at_edge(i: int, k: int) -> Expr:
        at = image + Var(f"row0_{i}") + Var(f"column0_{k}")
        exists = [Var(f"is_row0_{i}", "bool"), Var(f"is_column0_{k}", "bool")]
        return s.select(Call("and", tuple(exists), "bool"), Load(buffer, at, "f32"), 0.0)

    edge = (*lets, write(at_edge))
    if height < size or width < size:
        return [*before, *edge]
    ranges = [
        Call("and", (Var(start) >= 0, Var(start) <= n - size), "bool")
        for start, n in (("row0", height), ("column0", width))
    ]
    return [*before, If(Call("and", tuple(ranges), "bool"), (plain,), edge)]


def filter_step(
    w: Value, ws: Sequence[int], filters: Scratch, channels: int, outputs: int, p: Plan, title: str
) -> Step:
    """Transform filters: element (c, j) of plane q of a panel at c*NR + j."""
    panels = p.panels * p.groups
    each = max(1, min(channels, 4096 // p.nr))
    parts = -(-channels // each)
    begin = (Var("chunk") % parts) * each
    start = Var("panel") * (p.form.planes * p.filter_plane) + Var("c") * p.nr
    row = filter_row(ws, Var("c"), start, p)
    loop = Loop("c", begin, s.minimum(begin + each, const(channels)), (row,))
    lets = (Let("panel", Var("chunk") // parts), column_let(p, outputs, Var("panel")))
    kernel = Kernel(
        title, (Buffer("w", "f32"), Buffer("filters", "f32", True)), (*lets, loop), (),
        const(panels * parts),
    )  # fmt: skip
    return Step(kernel, [w, filters], parallel=hint(filters.size) > 1 << 16, title=title)


def filter_row(ws: Sequence[int], channel: Expr, start: Expr, p: Plan) -> Loop:
    """Transform the filters of one channel to a panel's outputs."""
    j = Var("j")
    at = channel * ws[1] + Var("column") + j
    body, planes = transform(
        lambda i, k: Load("w", at + (i * ws[2] + k * ws[3]), "f32"), 3, p.form.filter
    )
    for q, v in enumerate(planes):
        body.append(Store("filters", start + q * p.filter_plane + j, v))
    return Loop("j", ZERO, const(p.nr), tuple(body), "vector")


def filter_loop(ws: Sequence[int], first: Expr, depth: Expr, p: Plan) -> Loop:
    """Transform a block of channels to the outputs of one panel."""
    start = Var("local_panel") * (p.form.planes * p.filter_plane) + Var("c") * p.nr
    return Loop("c", ZERO, depth, (filter_row(ws, first + Var("c"), start, p),))


def column_let(p: Plan, outputs: int, panel: Expr) -> Let:
    """The first output channel of a panel: panels at the end overlap the ones before."""
    return Let("column", s.minimum(panel * p.nr, const(outputs - p.nr)))


def panel_loop(p: Plan, outputs: int, body: list[Stmt]) -> Loop:
    panel = Var("group") * p.panels + Var("local_panel")
    return Loop(
        "local_panel", ZERO, const(p.panels),
        (Let("panel", panel), column_let(p, outputs, Var("panel")), *body),
    )  # fmt: skip


def product_loop(channels: int, p: Plan, over: Expr, depth: Expr) -> Loop:
    """products[q, t, :] (+)= patches[q, t, :] @ filters[panel, q], tile by tile."""
    r, j, c = Var("r"), Var("j"), Var("c")
    rows = p.mr
    place = r * p.nr + j
    at = Var("q") * p.patch_plane + (Var("first") + r) * p.depth + c
    panel = Var("panel") if p.once else Var("local_panel")
    filters = (panel * p.form.planes + Var("q")) * p.filter_plane + c * p.nr + j
    source = "w" if p.once else "filters"
    add = Reduce("add", "acc", place, Load("patches", at, "f32") * Load(source, filters, "f32"))
    kept = (plane_of(p) + Var("q")) * p.product_plane + (Var("first") + r) * p.nr + j
    begin: Stmt = tile_loop(rows, p.nr, Store("acc", place, Const(0.0, "f32")))
    row: Expr = Var("row")
    if p.depth < channels:
        more = tile_loop(rows, p.nr, Store("acc", place, Load("products", kept, "f32")))
        begin = If(Var("first_channel") > 0, (more,), (begin,))
    tile = (
        Let("first", row),
        Local("acc", "f32", rows * p.nr),
        begin,
        Loop("c", ZERO, depth, (tile_loop(rows, p.nr, add),)),
        tile_loop(rows, p.nr, Store("products", kept, Load("acc", place, "f32"))),
    )  # fmt: skip
    return Loop("row", ZERO, over, tile, step=rows)


def plane_of(p: Plan) -> Expr:
    """The first plane of a panel's products."""
    return ZERO if p.once else Var("local_panel") * p.form.planes


def tile_loop(rows: int, columns: int, *body: Stmt) -> Loop:
    return Loop(
        "r", ZERO, const(rows), (Loop("j", ZERO, const(columns), body, "vector"),), "unroll"
    )


def result_loops(
    node: Node, context: Context, p: Plan, oh: int, ow: int
) -> tuple[list[Stmt], list[Buffer], list[Value]]:
    """Transform the products of tile t back, and store its elements or run the epilogue."""
    j = Var("j")
    out = node.outputs[0]
    m, size = p.form.m, p.form.size

    def product(i: int, k: int) -> Expr:
        plane = plane_of(p) + (size * i + k)
        return Load("products", plane * p.product_plane + Var("t") * p.nr + j, "f32")

    body, elements = transform(product, size, p.form.result)
    for i, v in enumerate(elements):
        body.append(Store("square", i * p.nr + j, v))
    back = Loop("j", ZERO, const(p.nr), tuple(body), "vector")
    index = (
        _variable("image", out.shape[0]),
        _variable("column", max(out.shape[1] - p.nr + 1, 2)) + _variable("j", p.nr),
        _variable("oy", oh),
        _variable("ox", ow),
    )
    value = Load("square", Var("turn") * p.nr + j, "f32")
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
    lets = (Let("oy", Var("y") + Var("turn") // m), Let("ox", Var("x0") + Var("turn") % m))
    across = Loop("j", ZERO, const(p.nr), tuple(stores), "vector")
    turns = Loop("turn", ZERO, const(m * m), (*lets, across))
    return [back, turns], buffers, values


def _variable(name: str, size: int) -> Index:
    return Index(((Atom(name, max(size, 2)), 1),))
