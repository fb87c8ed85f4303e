"""Gradient of a depthwise filter: for each tap and channel, x times the cotangent over all pixels.

Lanes run along the channels. One row of taps is summed at a time, over one image row, in registers;
sums of a range of image rows stay in the first cache. Ranges depend on shapes only, and a second
kernel adds them up in order.
"""

from __future__ import annotations

from ...core.shape import Shape
from ...core.symbolic import hint
from ...ir.graph import Node
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
from ..steps import Context, Scratch, Step, lowers
from .depthwise import (
    Problem,
    Tile,
    const,
    forward_taps,
    is_depthwise,
    row_tiles,
    tap_range,
    tile_width,
)

TAPS_TOGETHER = 8  # of one row: their sums, a row of pixels and a cotangent stay in registers
FEWEST_SUMS = 8  # running at once, so that a sum need not wait for the one before
RANGES = 32
MOST_SUMS = 1 << 16  # on a thread's stack


@lowers("conv_weight")
def lower_depthwise_weight(node: Node, context: Context) -> list[Step] | None:
    """out[c, tap] = sum over n, p of x[n, c, stride*p + dilation*tap - padding] * y[n, c, p]."""
    if not is_depthwise(node):
        return None
    x, y = node.values
    out = node.outputs[0]
    p = Problem(node, context, (x, out, y))
    xs, ws, ys = p.strides
    if xs[1] != 1 or ys[1] != 1 or ws[0] != 1:
        return None
    code = x.dtype.code
    taps = [
        forward_taps(p.sizes[0][d], p.sizes[2][d], *window)[0]
        for d, window in enumerate(p.windows())
    ]
    last = p.dims - 1
    counts = [t.count for t in taps[:-1]]
    rows = p.n
    for n in counts:
        rows *= n
    size, along = p.sizes[0][-1], taps[-1]
    number = 1
    for k in p.kernel:
        number *= k
    block = p.channel_block((size + number) * x.dtype.itemsize)
    if number * block > MOST_SUMS:
        return None
    blocks = -(-p.channels // block)
    # Sums are written once for each range: few ranges where image rows are short.
    ranges = max(1, min(rows, RANGES // blocks, rows * along.count // 256))
    per_range = -(-rows // ranges)
    ranges = -(-rows // per_range)
    c = Var("c")

    def tile_sums(tile: Tile, q: Expr, group: range, sets: int) -> list[Stmt]:
        found: list[Stmt] = []
        for pixel, i in tile.products:
            if i not in group:
                continue
            at = Var("base") + c + q * (along.a * xs[-1]) + along.at(pixel, i) * xs[-1]
            g = Load("y", Var("y_row") + c + (q + pixel) * ys[-1], code)
            place = const((i - group.start) * sets + pixel % sets)
            found.append(Reduce("add", "acc", place, Load("x", at, code) * g))
        return found

    passes: list[Stmt] = []
    for start in range(0, along.number, TAPS_TOGETHER):
        group = range(start, min(start + TAPS_TOGETHER, along.number))
        sets = max(1, FEWEST_SUMS // len(group))
        body: list[Stmt] = [Local("acc", code, len(group) * sets)]
        body += [Store("acc", const(i), Const(0.0, code)) for i in range(len(group) * sets)]
        for tile in row_tiles(along, size, tile_width()):
            if tile.stop - tile.start == tile.width:
                body += tile_sums(tile, const(tile.start), group, sets)
                continue
            turn = tuple(tile_sums(tile, Var("q"), group, sets))
            body.append(Loop("q", const(tile.start), const(tile.stop), turn, step=tile.width))
        for i in range(len(group)):
            total: Expr = Load("acc", const(i * sets), code)
            for k in range(1, sets):
                total = total + Load("acc", const(i * sets + k), code)
            place = (Var("tap") * along.number + (start + i)) * block + c - Var("first")
            body.append(Reduce("add", "sums", place, total))
        passes.append(Loop("c", Var("first"), Var("end"), tuple(body), "vector"))

    lets: list[Stmt] = []
    rest = rows
    x_row: Expr = const(0)
    y_row: Expr = const(0)
    for name, n, x_step, y_step in (
        ("image", p.n, xs[0], ys[0]),
        *((f"q{d}", n, taps[d].a * xs[2 + d], ys[2 + d]) for d, n in enumerate(counts)),
    ):
        rest //= n
        lets.append(Let(name, (Var("row") // rest) % n))
        x_row = x_row + Var(name) * x_step
        y_row = y_row + Var(name) * y_step
    base: Expr = Var("x_row")
    tap: Expr = const(0)
    for d, t in enumerate(taps[:-1]):
        low, high = tap_range(t, Var(f"q{d}"), p.sizes[0][d])
        lets += [Let(f"low{d}", low), Let(f"high{d}", high)]
        base = base + (Var(f"t{d}") * t.reach + t.b) * xs[2 + d]
        tap = tap * t.number + Var(f"t{d}")
    lets += [Let("x_row", x_row), Let("y_row", y_row)]
    nest: tuple[Stmt, ...] = (Let("base", base), Let("tap", tap), *passes)
    for d in reversed(range(last)):
        nest = (Loop(f"t{d}", Var(f"low{d}"), Var(f"high{d}"), nest),)
    start_row = (Var("chunk") % ranges) * per_range
    stop_row = s.minimum(start_row + per_range, const(rows))

    # The sums of a range, to their place in the result or in scratch memory: (range, tap, channel).
    found = Load("sums", Var("i") * block + (c - Var("first")), code)
    if ranges == 1:
        place = _tap_place(p, Var("i"), ws)
    else:
        place = ((Var("chunk") % ranges) * number + Var("i")) * p.channels
    move = Loop("c", Var("first"), Var("end"), (Store("out", Var("at") + c, found),), "vector")
    begin = (Var("chunk") // ranges) * block
    zero = Store("sums", Var("z"), Const(0.0, code))
    body_ = (
        Let("first", begin),
        Let("end", s.minimum(begin + block, const(p.channels))),
        Local("sums", code, number * block),
        Loop("z", const(0), const(number * block), (zero,), "vector"),
        Loop("row", start_row, stop_row, (*lets, *nest)),
        Loop("i", const(0), const(number), (Let("at", place), move)),
    )
    flops = 2 * number * y.aval.size
    kernel = Kernel(
        f"depthwise_{context.title}",
        (Buffer("x", code), Buffer("y", code), Buffer("out", code, True)),
        body_,
        (),
        const(ranges * blocks),
    )
    if ranges == 1:
        return [Step(kernel, [x, y, out], parallel=hint(flops) > 100_000, flops=flops)]
    parts = Scratch(code, ranges * number * p.channels)
    return [
        Step(kernel, [x, y, parts], parallel=hint(flops) > 100_000, flops=flops),
        Step(_add_ranges(p, ranges, number, ws, code), [parts, out], parallel=False),
    ]


def _tap_place(p: Problem, i: Expr, ws: Shape) -> Expr:
    """Where tap number i (row-major) of channel 0 stands in the result."""
    at: Expr = const(0)
    rest = 1
    for d in reversed(range(p.dims)):
        at = at + ((i // rest) % p.kernel[d]) * ws[2 + d]
        rest *= p.kernel[d]
    return at


def _add_ranges(p: Problem, ranges: int, number: int, ws: Shape, code: str) -> Kernel:
    """The sums of all ranges of image rows, in order."""
    c = Var("c")
    part = Load("parts", (Var("k") * number + Var("i")) * p.channels + c, code)
    lanes = Loop("c", const(0), const(p.channels), (
        Local("acc", code, 1),
        Store("acc", const(0), Const(0.0, code)),
        Loop("k", const(0), const(ranges), (Reduce("add", "acc", const(0), part),)),
        Store("out", Var("at") + c, Load("acc", const(0), code)),
    ), "vector")  # fmt: skip
    body = Loop("i", const(0), const(number), (Let("at", _tap_place(p, Var("i"), ws)), lanes))
    buffers = (Buffer("parts", code), Buffer("out", code, True))
    return Kernel("depthwise_add_ranges", buffers, (body,), (), const(1))
