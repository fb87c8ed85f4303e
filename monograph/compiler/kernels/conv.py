"""Convolution: tiles of pixels by output channels held in registers, no im2col.

Images have channels innermost (those of few channels stand in any order), filters are (taps, C, O)
(see layout.py). A tile is MR neighbouring pixels of one row times NR output channels; for each tap
and input channel, MR pixels are broadcast against NR filter elements. With dilation 1 the taps of a
filter row and their channels are one run in memory where channels are innermost, so the inner loop
is as long as KW * C. The weight gradient is the same with the roles
changed: a tile of MR input channels times NR output channels, summed over pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...codegen.target import host
from ...core.symbolic import hint
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
from ..steps import Context, Step, lowers
from . import implicit, implicit_weight, winograd, winograd_weight

CHUNK_FLOPS = 4_000_000
FILTER_BYTES = 640 * 1024


def const(n: int) -> Const:
    return Const(n, "i64")


@dataclass(frozen=True)
class Tile:
    """rows x columns of accumulators; lanes run along the columns."""

    rows: int
    columns: int


def choose_tile(rows: int, columns: int, dtype: str, far: float = 1.2, near: float = 0.4) -> Tile:
    """The tile that keeps most multiply-adds useful, then needs the fewest loads for each.

    Tiles at the edges overlap their neighbours, so a dimension costs ceil(n / tile) whole tiles.
    """
    target = host()
    lanes = target.vector_bytes // (8 if dtype == "f64" else 4)
    registers = 32 if target.vector_bytes >= 64 else 16
    best, best_cost = Tile(1, min(columns, lanes)), math.inf
    for vectors in range(1, 5):
        width = min(vectors * lanes, columns)
        used = -(-width // lanes)
        if used < vectors:
            continue
        for mr in range(1, 15):
            height = min(mr, rows)
            if height < mr or height * used + used + 1 > registers:
                continue
            done = -(-rows // height) * height * -(-columns // width) * used * lanes
            waste = done / (rows * columns)
            # A vector of the columns' operand is used `height` times, an element of the rows'
            # `used` times. In a convolution filters come from the second cache, pixels from the
            # first; far and near say what that costs.
            loads = far / height + near / used
            # A multiply-add takes half a cycle, waits 4: fewer than 8 accumulators cannot fill it.
            stall = max(1.0, 8 / (height * used))
            cost = waste * stall * (1 + loads)
            if cost < best_cost:
                best, best_cost = Tile(height, width), cost
    return best


def _lanes(code: str) -> int:
    return host().vector_bytes // (8 if code == "f64" else 4)


def _rows_together(places: tuple[int, ...]) -> int:
    """How many image rows one tile takes: more than one only where rows are short."""
    if len(places) < 2 or places[-1] >= 7:
        return 1
    limit = 14 if host().vector_bytes >= 64 else 6
    fits = [g for g in range(1, limit // places[-1] + 1) if places[-2] % g == 0]
    return max(fits, default=1)


def _starts(name: str, size: int, tile: int, number: Expr) -> tuple[Let, Index]:
    """Where tile `number` begins: the last one is moved back to end at `size`."""
    begin: Expr = number * tile
    if size % tile:
        begin = s.minimum(begin, const(size - tile))
    return Let(name, begin), Index(((Atom(name, max(size - tile + 1, 2)), 1),))


def _channels(outputs: int, groups: int, tile: int, number: Expr) -> tuple[Let, Index]:
    """_starts of the output channels, each tile within one group."""
    each = outputs // groups
    if groups == 1:
        return _starts("channel", outputs, tile, number)
    across = -(-each // tile)
    within, _ = _starts("channel", each, tile, number % across)
    let = Let("channel", (number // across) * each + within.value)
    return let, Index(((Atom("channel", max(outputs - tile + 1, 2)), 1),))


def _var(name: str, size: int) -> Index:
    return Index(((Atom(name, max(size, 2)), 1),))


def _whole_vectors(tile: Tile, code: str) -> tuple[int, Expr | None]:
    """Length of a tile's row in registers, and which of its elements are columns."""
    lanes = _lanes(code)
    width = -(-tile.columns // lanes) * lanes
    return width, None if width == tile.columns else Var("j") < tile.columns


def _tile_loop(rows: int, columns: int, *body: Stmt) -> Loop:
    lanes = Loop("j", const(0), const(columns), body, "vector")
    return Loop("r", const(0), const(rows), (lanes,), "unroll")


@lowers("conv", epilogue=True)
def lower_conv(node: Node, context: Context) -> list[Step] | None:
    """Forward convolution without padding."""
    op = node.op
    x, w = node.values
    groups = op.groups  # type: ignore[attr-defined]
    if groups > 1 and w.shape[1] == 1:
        return None
    out = node.outputs[0]
    if x.dtype.code not in ("f32", "f64") or 0 in (*out.shape, *w.shape, *x.shape):
        return None
    stride, dilation = op.stride, op.dilation  # type: ignore[attr-defined]
    n, channels = x.shape[0], w.shape[1]
    outputs, kernel, places = w.shape[0], w.shape[2:], out.shape[2:]
    each = outputs // groups
    xs, ws = context.strides(x), context.strides(w)
    if ws[0] != 1:
        return None
    code = x.dtype.code
    if winograd.suits(op, code, channels, outputs, places, kernel):
        return winograd.lower(node, context)
    if implicit.suits(op, code, channels, outputs):
        return implicit.lower(node, context)
    if any(op.padding):  # type: ignore[attr-defined]
        return None
    # Short rows: a tile takes several whole ones, so that filters are used often enough.
    together = _rows_together(places)
    row_size = places[-1] * together
    tile = choose_tile(row_size, each, code)
    if together > 1:
        tile = Tile(row_size, min(tile.columns, 2 * _lanes(code)))
    row_tiles, across = -(-row_size // tile.rows), -(-each // tile.columns)
    column_tiles = groups * across
    outer = math.prod(places[:-1]) // together  # rows of one image
    depth = math.prod(kernel) * channels
    row_flops = 2 * row_size * outputs * depth
    # Filters that do not stay in the second cache: a chunk takes one block of them, and more rows.
    split = column_tiles > 1 and depth * outputs * x.dtype.itemsize > FILTER_BYTES
    if split:
        row_flops = 4 * row_flops // (16 * column_tiles)
    rows_per_chunk = max(1, min(n * outer, CHUNK_FLOPS // max(row_flops, 1)))
    row_chunks = -(-(n * outer) // rows_per_chunk)
    grid = row_chunks * (column_tiles if split else 1)

    # Position of an image row: "row" counts (image, all spatial dims but the last).
    lets: list[Stmt] = [Let("image", Var("row") // outer)]
    index: list[Index] = [_var("image", n), Index(())]
    base: Expr = Var("image") * xs[0]
    rest = outer
    for d, size in enumerate(places[:-1]):
        step = together if d == len(places) - 2 else 1
        rest //= size // step
        position = (Var("row") // rest) % (size // step)
        lets.append(Let(f"p{d}", position * step))
        index.append(_var(f"p{d}", size))
        base = base + Var(f"p{d}") * (stride[d] * xs[2 + d])
    lets.append(Let("base", base))

    # Loops over taps and channels; those that are one run in memory are one loop.
    dims = [(f"k{d}", k, dilation[d] * xs[2 + d], ws[2 + d]) for d, k in enumerate(kernel)]
    dims.insert(len(dims) if xs[1] == 1 else 0, ("c", channels, xs[1], ws[1]))
    merged: list[tuple[str, int, int, int]] = []
    for name, size, x_step, w_step in reversed(dims):
        if size == 1:
            continue
        if (
            merged
            and x_step == merged[0][2] * merged[0][1]
            and w_step == merged[0][3] * merged[0][1]
        ):
            inner = merged[0]
            merged[0] = (inner[0], inner[1] * size, inner[2], inner[3])
        else:
            merged.insert(0, (name, size, x_step, w_step))
    r, j = Var("r"), Var("j")
    at_x: Expr = Var("base") + Var("first") * (stride[-1] * xs[-1])
    if groups > 1:
        at_x = at_x + (Var("column_tile") // across) * (channels * xs[1])
    at_w: Expr = Var("channel")
    for name, _, x_step, w_step in merged:
        at_x = at_x + Var(name) * x_step
        at_w = at_w + Var(name) * w_step
    if together > 1:
        at_x = at_x + (r // places[-1]) * (stride[-2] * xs[-2])
        at_x = at_x + (r % places[-1]) * (stride[-1] * xs[-1])
    else:
        at_x = at_x + r * (stride[-1] * xs[-1])
    width, mask = _whole_vectors(tile, code)
    product = Load("x", at_x, code) * Load("w", at_w + j, code, mask)
    place = r * width + j
    body: Stmt = _tile_loop(tile.rows, width, Reduce("add", "acc", place, product))
    for name, size, _, _ in reversed(merged):
        body = Loop(name, const(0), const(size), (body,))
    first_let, first = _starts("first", row_size, tile.rows, Var("row_tile"))
    channel_let, channel = _channels(outputs, groups, tile.columns, Var("column_tile"))
    index[1] = channel + _var("j", tile.columns)
    pixel = _var("r", tile.rows)
    if together > 1:
        across = Index(((Atom("", together, pixel, places[-1]), 1),))
        along = Index(((Atom("", places[-1], pixel, places[-1], True), 1),))
        index[-1] = index[-1] + across
        index.append(along)
    else:
        index.append(first + pixel)
    value = Load("acc", place, code)
    if context.epilogue is None:
        buffers = [Buffer("out", out.dtype.code, True)]
        values: list[Value] = [out]
        at: Expr = const(0)
        for i, step in zip(index, context.strides(out)):
            at = at + i.expr() * step
        stores: list[Stmt] = [Store("out", at, value)]
    else:
        buffers, values = list(context.epilogue.buffers), list(context.epilogue.values)
        try:
            written = context.epilogue.emit(tuple(index), Var("sum", code))
        except NeedSplit:  # an epilogue that reshapes: by divisions
            written = context.epilogue.emit(tuple(map(whole, index)), Var("sum", code))
        stores = [Let("sum", value), *written]
    inside: tuple[Stmt, ...] = (
        first_let,
        Local("acc", code, tile.rows * width),
        _tile_loop(tile.rows, width, Store("acc", place, Const(0.0, code))),
        body,
        Loop("r", const(0), const(tile.rows), (Loop("j", const(0), const(tile.columns),
             tuple(stores), "vector"),), "unroll"),
    )  # fmt: skip
    tiles = Loop("row_tile", const(0), const(row_tiles), inside)
    row_chunk: Expr = Var("chunk") % row_chunks if split else Var("chunk")
    start = row_chunk * rows_per_chunk
    stop = s.minimum(start + rows_per_chunk, const(n * outer))
    rows = Loop("row", start, stop, (*lets, tiles))
    # Filters outermost: a block of them stays in cache while the pixels of the chunk pass.
    block = (channel_let, rows)
    columns: tuple[Stmt, ...] = (Loop("column_tile", const(0), const(column_tiles), block),)
    if split:
        columns = (Let("column_tile", Var("chunk") // row_chunks), *block)
    kernel_ = Kernel(
        context.title,
        (Buffer("x", code), Buffer("w", code), *buffers),
        columns,
        (),
        const(grid),
    )
    flops = 2 * n * math.prod(places) * outputs * depth
    return [Step(kernel_, [x, w, *values], parallel=hint(flops) > 100_000, flops=flops)]


@lowers("conv_weight")
def lower_conv_weight(node: Node, context: Context) -> list[Step] | None:
    """Gradient of the filter: for each tap, channels in x channels out, summed over all pixels."""
    op = node.op
    groups = op.groups  # type: ignore[attr-defined]
    if groups > 1 and node.outputs[0].shape[1] == 1:
        return None
    x, y = node.values
    out = node.outputs[0]
    if x.dtype.code not in ("f32", "f64") or 0 in (*out.shape, *y.shape, *x.shape):
        return None
    stride, dilation, kernel = op.stride, op.dilation, op.kernel  # type: ignore[attr-defined]
    n, channels = x.shape[0], x.shape[1] // groups
    outputs, places = y.shape[1], y.shape[2:]
    each = outputs // groups
    xs, ys, ws = context.strides(x), context.strides(y), context.strides(out)
    if xs[1] != 1 or ys[1] != 1 or ws[0] != 1:
        return None
    code = x.dtype.code
    if winograd_weight.suits(op, code, channels, outputs, places):
        return winograd_weight.lower(node, context)
    if implicit_weight.suits(op, code, channels, outputs):
        made = implicit_weight.lower(node, context)
        if made is not None:
            return made
    if any(op.padding):  # type: ignore[attr-defined]
        return None
    # Rows of the tile: the run of (last taps, channels) that is contiguous in x and in the result.
    run = channels
    run_dims = 0
    for d in reversed(range(len(kernel))):
        if dilation[d] * xs[2 + d] == run and ws[2 + d] == run * ws[1]:
            run *= kernel[d]
            run_dims += 1
        else:
            break
    taps = kernel[: len(kernel) - run_dims]
    tile = choose_tile(run, each, code, 0.6, 0.6)
    row_tiles, column_tiles = -(-run // tile.rows), -(-each // tile.columns) * groups
    tap_count = math.prod(taps)
    pixels = n * math.prod(places)
    outer = math.prod(places[:-1])
    rows = n * outer  # image rows
    # Image rows are taken in blocks whose x and y stay in cache while all tiles pass.
    row_bytes = 4 * places[-1] * (outputs + channels * stride[-1])
    block = max(1, min(rows, 65536 // max(row_bytes, 1)))
    tiles = row_tiles * column_tiles * tap_count
    # Every chunk reads all of x and y: few chunks where there are few tiles.
    per_chunk = max(-(-tiles // 32), min(-(-tiles // 4), 24))
    grid = -(-tiles // per_chunk)

    lets: list[Stmt] = []
    x_tap: Expr = const(0)
    w_tap: Expr = const(0)
    rest = tap_count
    for d, k in enumerate(taps):
        rest //= k
        lets.append(Let(f"k{d}", (Var("tap") // rest) % k))
        x_tap = x_tap + Var(f"k{d}") * (dilation[d] * xs[2 + d])
        w_tap = w_tap + Var(f"k{d}") * ws[2 + d]
    first_let, _ = _starts("first", run, tile.rows, (Var("tile") // column_tiles) % row_tiles)
    column_tile = Var("tile") % column_tiles
    channel_let, _ = _channels(outputs, groups, tile.columns, column_tile)
    if groups > 1:
        x_tap = x_tap + (column_tile // (column_tiles // groups)) * channels
    head: list[Stmt] = [
        Let("tap", Var("tile") // (column_tiles * row_tiles)),
        *lets,
        first_let,
        channel_let,
        Let("x_tap", x_tap + Var("first")),
        Let("w_tap", w_tap + Var("first") * ws[1] + Var("channel")),
    ]
    row_lets: list[Stmt] = [Let("image", Var("row") // outer)]
    x_row: Expr = Var("image") * xs[0]
    y_row: Expr = Var("image") * ys[0]
    rest = outer
    for d, size in enumerate(places[:-1]):
        rest //= size
        row_lets.append(Let(f"p{d}", (Var("row") // rest) % size))
        x_row = x_row + Var(f"p{d}") * (stride[d] * xs[2 + d])
        y_row = y_row + Var(f"p{d}") * ys[2 + d]
    row_lets += [Let("x_row", x_row + Var("x_tap")), Let("y_row", y_row + Var("channel"))]
    r, j, p = Var("r"), Var("j"), Var("p")
    width, mask = _whole_vectors(tile, code)
    place = r * width + j
    product = Load("x", Var("x_row") + p * (stride[-1] * xs[-1]) + r, code) * Load(
        "y", Var("y_row") + p * ys[-1] + j, code, mask
    )
    pixel = Loop(
        "p",
        const(0),
        const(places[-1]),
        (_tile_loop(tile.rows, width, Reduce("add", "acc", place, product)),),
    )
    at = Var("w_tap") + r * ws[1] + j
    last = s.minimum(Var("block") + block, const(rows))
    store = Store("out", at, Load("acc", place, code))
    if block >= rows:
        body: tuple[Stmt, ...] = (
            *head,
            Local("acc", code, tile.rows * width),
            _tile_loop(tile.rows, width, Store("acc", place, Const(0.0, code))),
            Loop("row", const(0), const(rows), (*row_lets, pixel)),
            _tile_loop(tile.rows, tile.columns, store),
        )
        loops: tuple[Stmt, ...] = (_tile_range(per_chunk, tiles, body),)
    else:
        # Overlapping edge tiles would add twice, so sums live in memory only between blocks of one
        # tile: each tile is finished block by block, with the tile's sums kept in a local array.
        sums = Load("sums", (Var("tile") - Var("from")) * (tile.rows * width) + place, code)
        keep = Store(
            "sums",
            (Var("tile") - Var("from")) * (tile.rows * width) + place,
            Load("acc", place, code) + sums,
        )
        work: tuple[Stmt, ...] = (
            *head,
            Local("acc", code, tile.rows * width),
            _tile_loop(tile.rows, width, Store("acc", place, Const(0.0, code))),
            Loop("row", Var("block"), last, (*row_lets, pixel)),
            _tile_loop(tile.rows, width, keep),
        )
        size = per_chunk * tile.rows * width
        finish = (*head, _tile_loop(tile.rows, tile.columns, Store("out", at, sums)))
        loops = (
            Let("from", Var("chunk") * per_chunk),
            Local("sums", code, size),
            Loop(
                "z", const(0), const(size), (Store("sums", Var("z"), Const(0.0, code)),), "vector"
            ),
            Loop(
                "block", const(0), const(rows), (_tile_range(per_chunk, tiles, work),), step=block
            ),
            _tile_range(per_chunk, tiles, finish),
        )
    kernel_ = Kernel(
        context.title,
        (Buffer("x", code), Buffer("y", code), Buffer("out", code, True)),
        loops,
        (),
        const(grid),
    )
    flops = 2 * pixels * channels * math.prod(kernel) * outputs
    return [Step(kernel_, [x, y, out], parallel=hint(flops) > 100_000, flops=flops)]


def _tile_range(per_chunk: int, tiles: int, body: tuple[Stmt, ...]) -> Loop:
    start = Var("chunk") * per_chunk
    stop: Expr = start + per_chunk
    if tiles % per_chunk:
        stop = s.minimum(stop, const(tiles))
    return Loop("tile", start, stop, body)
