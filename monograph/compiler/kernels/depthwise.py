"""Depthwise convolution, each channel with its own filter: values and the gradient of the input.

Images have channels innermost, filters are (taps, C) (see layout.py), and lanes run along the
channels. A tile is a few neighbouring pixels of one row: their taps along the row are written out,
so that pixels and filter elements are loaded once for all the products they are part of. There is
no padding in memory: tiles at the edges of a row leave out the taps that see nothing. The gradient
of the input is the same sum with the roles changed: with a stride, pixels of each residue have taps
of their own. The gradient of the filter is in depthwise_weight.py.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
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
from ..index import Index, NeedSplit, loop_index, whole
from ..steps import Context, Step, lowers

CHUNK_PRODUCTS = 1 << 19
NEAR_BYTES = 24 * 1024  # of the first cache, for the image rows that one row of results reads
LONGEST_ROW = 32  # taps along a row that are written out
MOST_CLASSES = 32


def const(n: int) -> Const:
    return Const(n, "i64")


@dataclass(frozen=True)
class Taps:
    """Pixels step*q + offset (q < count) of one axis, each a sum over taps.

    Tap number i is element first + i*spread of the filter and sees a*q + b + i*reach, reach > 0.
    """

    step: int
    offset: int
    count: int
    a: int
    b: int
    first: int
    spread: int
    reach: int
    number: int

    def at(self, q: int, i: int) -> int:
        """What pixel q sees through tap i."""
        return self.a * q + self.b + i * self.reach


def forward_taps(size: int, count: int, kernel: int, stride: int, padding: int, dilation: int):  # type: ignore[no-untyped-def]
    """The one class of pixels of a convolution's result."""
    del size
    return [Taps(1, 0, count, stride, -padding, 0, 1, dilation, kernel)]


def backward_taps(size: int, count: int, kernel: int, stride: int, padding: int, dilation: int):  # type: ignore[no-untyped-def]
    """Classes of pixels of the input's gradient: one for each residue modulo the stride.

    Pixel h sees (h + padding - t*dilation) / stride through tap t, where that is whole.
    """
    del count
    classes = []
    for r in range(min(stride, size)):
        seen = [t for t in range(kernel) if (r + padding - t * dilation) % stride == 0][::-1]
        first = seen[0] if seen else 0
        spread = seen[1] - first if len(seen) > 1 else -1
        b = (r + padding - first * dilation) // stride
        classes.append(
            Taps(stride, r, len(range(r, size, stride)), 1, b, first, spread,
                 -spread * dilation // stride if len(seen) > 1 else 1, len(seen))
        )  # fmt: skip
    return classes


@dataclass(frozen=True)
class Tile:
    """Neighbouring pixels of a row, from `start` or from each place of range(start, stop, width).

    products  pairs (pixel of the tile, tap) that see an element
    """

    start: int
    stop: int
    width: int
    products: tuple[tuple[int, int], ...]


def row_tiles(taps: Taps, size: int, width: int) -> Iterator[Tile]:
    """Tiles of a row of taps.count pixels: those at the edges one by one, the others in a loop."""

    def edge(start: int, stop: int) -> Iterator[Tile]:
        pieces = -(-(stop - start) // width)
        each = -(-(stop - start) // max(pieces, 1)) or 1
        for at in range(start, stop, each):
            n = min(each, stop - at)
            seen = itertools.product(range(taps.number), range(n))
            products = tuple((p, i) for i, p in seen if 0 <= taps.at(at + p, i) < size)
            yield Tile(at, at + n, n, products)

    def is_inside(q: int) -> bool:
        return taps.at(q, 0) >= 0 and taps.at(q, taps.number - 1) < size

    inside = [q for q in range(taps.count) if is_inside(q)]
    if len(inside) < 2 * width or not taps.number:
        yield from edge(0, taps.count)
        return
    first = -(-inside[0] // width) * width
    last = first + (inside[-1] + 1 - first) // width * width
    yield from edge(0, first)
    full = tuple((p, i) for i in range(taps.number) for p in range(width))
    yield Tile(first, last, width, full)
    yield from edge(last, taps.count)


def tile_width() -> int:
    """Pixels of a tile: their sums, a row of the filter and a pixel stay in registers."""
    return 8 if host().registers >= 32 else 6


def is_depthwise(node: Node) -> bool:
    """Whether each group has one channel in and one out, of a dtype that is computed natively."""
    filters, groups = node.op.name == "conv_weight", node.op.groups  # type: ignore[attr-defined]
    w = node.outputs[0] if filters else node.values[1]
    code = w.dtype.code
    arrays = (*node.values, *node.outputs)
    return (
        groups > 1
        and w.shape[0] == groups
        and w.shape[1] == 1
        and code in ("f32", "f64")
        and not any(0 in v.shape for v in arrays)
    )


class Problem:
    """Sizes and strides of a depthwise convolution; long filter rows get an axis of one tap."""

    def __init__(self, node: Node, context: Context, arrays: tuple[Any, ...]):
        op: Any = node.op
        filters = arrays[1]
        kernel = filters.shape[2:]
        self.extra = kernel[-1] > LONGEST_ROW
        ones = (1,) if self.extra else ()
        self.n, self.channels = arrays[0].shape[:2]
        self.sizes = [(*v.shape[2:], *ones) for v in arrays]
        self.strides = [(*context.strides(v), *((0,) if self.extra else ())) for v in arrays]
        self.kernel: Shape = (*kernel, *ones)
        self.stride: Shape = (*op.stride, *ones)
        self.padding: Shape = (*op.padding, *((0,) if self.extra else ()))
        self.dilation: Shape = (*op.dilation, *ones)
        self.dims = len(self.kernel)

    def windows(self) -> Iterator[tuple[int, int, int, int]]:
        return zip(self.kernel, self.stride, self.padding, self.dilation)

    def channel_block(self, row_bytes: int) -> int:
        """How many channels a chunk takes: image rows that its loops pass again stay near."""
        block = max(64, NEAR_BYTES // max(row_bytes, 1) // 64 * 64)
        return self.channels if block * 3 // 2 >= self.channels else block


def tap_range(t: Taps, q: Expr, size: int) -> tuple[Expr, Expr]:
    """The taps [low, high) of pixel q that see an element of an axis of `size`."""
    place = q * t.a + t.b
    low: Expr = const(0)
    high: Expr = const(t.number)
    if t.b < 0:
        low = (s.maximum(const(0) - place, const(0)) + (t.reach - 1)) // t.reach
    if t.at(t.count - 1, t.number - 1) >= size:
        left = s.maximum(const(size - 1 + t.reach) - place, const(0))
        high = s.minimum(left // t.reach, const(t.number))
    return low, high


@lowers("conv", epilogue=True)
def lower_depthwise(node: Node, context: Context) -> list[Step] | None:
    """out[n, c, p] = sum over taps of x[n, c, stride*p + dilation*tap - padding] * w[c, tap]."""
    return _sums(node, context, forward_taps) if is_depthwise(node) else None


@lowers("conv_input")
def lower_depthwise_input(node: Node, context: Context) -> list[Step] | None:
    """The adjoint of lower_depthwise for x."""
    return _sums(node, context, backward_taps) if is_depthwise(node) else None


def _sums(node: Node, context: Context, classes_of: Any) -> list[Step] | None:
    seen, filters = node.values
    out = node.outputs[0]
    p = Problem(node, context, (seen, filters, out))
    xs, ws, outs = p.strides
    if xs[1] != 1 or ws[0] != 1:
        return None
    code = seen.dtype.code
    forward = node.op.name == "conv"
    classes: list[list[Taps]] = []
    for d, window in enumerate(p.windows()):
        size, count = (p.sizes[0][d], p.sizes[2][d])[:: 1 if forward else -1]
        classes.append(classes_of(size, count, *window))
    if math.prod(map(len, classes)) > MOST_CLASSES:
        return None
    counts = [max(t.count for t in c) for c in classes[:-1]]
    rows = p.n * math.prod(counts)
    last = p.dims - 1
    c = Var("c")

    # Chunks: blocks of channels, ranges of rows.
    read = math.prod(max(t.number for t in x) for x in classes[:-1])
    block = p.channel_block(read * p.sizes[0][-1] * seen.dtype.itemsize)
    blocks = -(-p.channels // block)
    row_products = math.prod(p.kernel) * p.sizes[2][-1] * min(block, p.channels)
    per_chunk = max(1, min(rows, CHUNK_PRODUCTS // row_products))
    row_chunks = -(-rows // per_chunk)

    first: Expr = const(0)
    stop: Expr = const(p.channels)
    if blocks > 1:
        first = Var("first")
        stop = Var("end")
    index: list[Index] = [loop_index("image", p.n), loop_index("c", p.channels)]

    def tile_body(outer: tuple[Taps, ...], taps: Taps, tile: Tile, q: Expr, at: Index) -> Stmt:
        """One tile for all channels of the block; q and at are its first pixel."""
        place: Expr = Var("base") + c + q * (taps.a * xs[2 + last])
        filter_at: Expr = c
        for d, t in enumerate(outer):
            place = place + Var(f"t{d}") * (t.reach * xs[2 + d])
            filter_at = filter_at + (Var(f"t{d}") * t.spread + t.first) * ws[2 + d]
        products: list[Stmt] = []
        for pixel, i in tile.products:
            x = Load("x", place + taps.at(pixel, i) * xs[2 + last], code)
            w = Load("w", filter_at + (taps.first + i * taps.spread) * ws[2 + last], code)
            products.append(Reduce("add", "acc", const(pixel), x * w))
        body = tuple(products)
        for d, _ in reversed([*enumerate(outer)]):
            body = (Loop(f"t{d}", Var(f"low{d}"), Var(f"high{d}"), body),)
        if not tile.products:
            body = ()
        stores: list[Stmt] = []
        for pixel in range(tile.width):
            where = at + pixel * taps.step
            full = (*index, where) if not p.extra else tuple(index)
            stores += _stores(context, out, outs, code, full, pixel)
        zero = [Store("acc", const(i), Const(0.0, code)) for i in range(tile.width)]
        inside = (Local("acc", code, tile.width), *zero, *body, *stores)
        return Loop("c", first, stop, inside, "vector")

    lets: list[Stmt] = []
    rest = rows
    for name, n in (("image", p.n), *((f"q{d}", n) for d, n in enumerate(counts))):
        rest //= n
        if n > 1:
            lets.append(
                Let(name, (Var("row") // rest) % n if rest * n < rows else Var("row") // rest)
            )  # noqa: E501
        else:
            lets.append(Let(name, const(0)))
    width = tile_width()
    for outer in itertools.product(*classes[:-1]):
        inside: list[Stmt] = []
        base: Expr = Var("image") * xs[0]
        index[2:] = []
        for d, t in enumerate(outer):
            q = Var(f"q{d}")
            low, high = tap_range(t, q, p.sizes[0][d])
            inside += [Let(f"low{d}", low), Let(f"high{d}", high)]
            base = base + q * (t.a * xs[2 + d]) + t.b * xs[2 + d]
            index.append(loop_index(f"q{d}", t.count) * t.step + t.offset)
        inside.append(Let("base", base))
        for taps in classes[-1]:
            for tile in row_tiles(taps, p.sizes[0][-1], width):
                at = Index((), tile.start * taps.step + taps.offset)
                if tile.stop - tile.start == tile.width:
                    inside.append(tile_body(outer, taps, tile, const(tile.start), at))
                    continue
                at = loop_index("q", tile.stop) * taps.step + taps.offset
                body = tile_body(outer, taps, tile, Var("q"), at)
                span = const(tile.start), const(tile.stop)
                inside.append(Loop("q", *span, (body,), step=tile.width))
        guards = [Var(f"q{d}") < t.count for d, t in enumerate(outer) if t.count < counts[d]]
        stmts = tuple(inside)
        for guard in guards:
            stmts = (If(guard, stmts),)
        lets += stmts
    start = (Var("chunk") % row_chunks) * per_chunk
    loop = Loop("row", start, s.minimum(start + per_chunk, const(rows)), tuple(lets))
    channels: list[Stmt] = []
    if blocks > 1:
        begin = (Var("chunk") // row_chunks) * block
        channels = [
            Let("first", begin),
            Let("end", s.minimum(begin + block, const(p.channels))),
        ]
    if context.epilogue is None:
        buffers, values = [Buffer("out", code, True)], [out]
    else:
        buffers, values = list(context.epilogue.buffers), list(context.epilogue.values)
    kernel = Kernel(
        f"depthwise_{context.title}",
        (Buffer("x", code), Buffer("w", code), *buffers),
        (*channels, loop),
        (),
        const(row_chunks * blocks),
    )
    flops = 2 * math.prod(p.kernel) * out.aval.size
    if not forward:
        flops = 2 * math.prod(p.kernel) * seen.aval.size
    return [Step(kernel, [seen, filters, *values], parallel=hint(flops) > 100_000, flops=flops)]


def _stores(
    context: Context, out: Any, strides: Shape, code: str, index: tuple[Index, ...], pixel: int
) -> list[Stmt]:
    """Sum number `pixel` of a tile to its place, or through the epilogue."""
    total = Load("acc", const(pixel), code)
    if context.epilogue is None:
        at: Expr = const(0)
        for i, step in zip(index, strides):
            at = at + i.expr() * step
        return [Store("out", at, total)]
    name = Var(f"sum{pixel}", code)
    try:
        written = context.epilogue.emit(index, name)
    except NeedSplit:  # an epilogue that reshapes: by divisions
        written = context.epilogue.emit(tuple(map(whole, index)), name)
    return [Let(name.name, total), *written]
