"""Maximum over windows: lanes along whichever axis is innermost, a small window's taps unrolled."""

from __future__ import annotations

import itertools
import math
from typing import Any

from ...core import dtype as dt
from ...core.symbolic import hint
from ...ir.graph import Node
from ...kernel import scalar as s
from ...kernel.ir import Buffer, Call, Const, Expr, Kernel, Let, Load, Local, Loop, Stmt, Store, Var
from ..reader import COMPUTE
from ..steps import Context, Step, lowers

MAX_TAPS = 32  # that are written out
CHUNK_WORK = 16384


def const(n: int) -> Const:
    return Const(n, "i64")


@lowers("max_pool")
def lower_max_pool(node: Node, context: Context) -> list[Step] | None:
    """Values of the first largest element of each window, and its places where they are read."""
    op = node.op
    x = node.values[0]
    values, places = node.outputs
    kernel, stride = op.kernel, op.stride  # type: ignore[attr-defined]
    padding, dilation = op.padding, op.dilation  # type: ignore[attr-defined]
    if 0 in (*x.shape, *values.shape):
        return None
    many = math.prod(kernel) > MAX_TAPS
    places_too = places not in context.unread
    xs, vs, ps = context.strides(x), context.strides(values), context.strides(places)
    size, counts = x.shape[2:], values.shape[2:]
    code = x.dtype.code
    compute = COMPUTE.get(code, code)
    axes = sorted(range(len(values.shape)), key=lambda a: -vs[a])
    lane = axes[-1]
    outer = axes[:-1]
    rows = math.prod(values.shape[a] for a in outer)
    names = {a: f"p{a}" for a in range(len(values.shape))}
    body: list[Stmt] = []
    rest = rows
    for a in outer:
        rest //= values.shape[a]
        body.append(Let(names[a], (Var("row") // rest) % values.shape[a]))
    at_values: Expr = const(0)
    at_places: Expr = const(0)
    for a, name in names.items():
        at_values = at_values + Var(name) * vs[a]
        at_places = at_places + Var(name) * ps[a]
    base = Var(names[0]) * xs[0] + Var(names[1]) * xs[1]
    lowest = -math.inf if code[0] in "fb" else dt.iinfo(x.dtype).min
    inside: list[Stmt] = []
    best: Expr = Const(lowest, compute)
    # A window without anything above the lowest value has its first element inside the input.
    where = _position([_first(Var(names[2 + d]), stride[d], padding[d], dilation[d])
                       for d in range(len(kernel))], size)  # fmt: skip
    place: Expr = s.cast(where, "i32")

    def seen_by(tap: tuple[Any, ...]) -> tuple[Expr, Expr]:
        """The element that a tap (numbers or loop variables) sees, and its place."""
        at: Expr = base
        mask: Expr | None = None
        coordinates: list[Expr] = []
        for d, t in enumerate(tap):
            i = Var(names[2 + d]) * stride[d] + (t * dilation[d] - padding[d])
            coordinates.append(i)
            at = at + i * xs[2 + d]
            low, high = (t, t) if isinstance(t, int) else (0, kernel[d] - 1)
            if low * dilation[d] < padding[d]:
                mask = _both(mask, i >= 0)
            if (counts[d] - 1) * stride[d] + high * dilation[d] - padding[d] >= size[d]:
                mask = _both(mask, i < size[d])
        seen: Expr = s.cast(Load("x", at, code, mask), compute)
        if mask is not None:
            seen = s.select(mask, seen, Const(lowest, compute))
        return seen, s.cast(_position(coordinates, size), "i32")

    def compared(number: int, tap: tuple[Any, ...], best: Expr, place: Expr) -> list[Stmt]:
        """Lets of the better of what was found and what a tap sees."""
        value, position = seen_by(tap)
        seen = Var(f"x{number}", compute)
        better: Expr = seen > best
        if compute[0] == "f":
            better = Call("or", (better, s.ne(seen, seen)), "bool")
        chosen = Var(f"better{number}", "bool")
        lets: list[Stmt] = [
            Let(f"x{number}", value),
            Let(f"better{number}", better),
            Let(f"best{number}", s.select(chosen, seen, best)),
        ]
        if places_too:
            lets.append(Let(f"place{number}", s.select(chosen, position, place)))
        return lets

    if many:
        best = Load("best", const(0), compute)
        inside += [Local("best", compute, 1), Store("best", const(0), Const(lowest, compute))]
        if places_too:
            inside += [Local("place", "i32", 1), Store("place", const(0), place)]
            place = Load("place", const(0), "i32")
        taps: tuple[Stmt, ...] = (
            *compared(0, tuple(Var(f"t{d}") for d in range(len(kernel))), best, place),
            Store("best", const(0), Var("best0", compute)),
        )
        if places_too:
            taps = (*taps, Store("place", const(0), Var("place0", "i32")))
        for d in reversed(range(len(kernel))):
            taps = (Loop(f"t{d}", const(0), const(kernel[d]), taps),)
        inside += taps
    else:
        for number, tap in enumerate(itertools.product(*map(range, kernel))):
            inside += compared(number, tap, best, place)
            best, place = Var(f"best{number}", compute), Var(f"place{number}", "i32")
    inside.append(Store("values", at_values, s.cast(best, code)))
    if places_too:
        inside.append(Store("places", at_places, place))
    lanes = values.shape[lane]
    body.append(Loop(names[lane], const(0), const(lanes), tuple(inside), "vector"))
    per_chunk = max(1, min(rows, CHUNK_WORK // (lanes * math.prod(kernel))))
    start = Var("chunk") * per_chunk
    stop = s.minimum(start + per_chunk, const(rows))
    work = rows * lanes * math.prod(kernel)
    buffers, written = [Buffer("x", code), Buffer("values", code, True)], [x, values]
    if places_too:
        buffers.append(Buffer("places", "i32", True))
        written.append(places)
    made = Kernel(
        context.title,
        tuple(buffers),
        (Loop("row", start, stop, tuple(body)),),
        (),
        const(-(-rows // per_chunk)),
    )
    return [Step(made, written, parallel=hint(work) > 32768, flops=work)]


def _first(i: Expr, stride: int, padding: int, dilation: int) -> Expr:
    """The first coordinate of window i that is inside the input."""
    start = i * stride - padding
    if not padding:
        return start
    before = s.maximum(Const(0, "i64") - start, const(0))
    return start + ((before + (dilation - 1)) // dilation) * dilation


def _position(coordinates: list[Expr], size: tuple[int, ...]) -> Expr:
    total: Expr = const(0)
    for i, n in zip(coordinates, size):
        total = total * n + i
    return total


def _both(x: Expr | None, y: Expr) -> Expr:
    return y if x is None else Call("and", (x, y), "bool")
