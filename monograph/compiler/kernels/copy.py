"""Copies into another order of axes: images to channels last, filters to (taps, C, O) and back.

Lanes run along an axis that is contiguous on one side; the other axes are walked in the order of
the other side, within a block of lanes, so that each cache line is used up while it is near. Lanes
along what is contiguous in x are best where they fill vectors: runs of neighbours of the result are
then transposed in registers (codegen/transpose.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ...codegen.target import host
from ...core.symbolic import hint
from ...ir.graph import Node
from ...kernel import scalar as s
from ...kernel.ir import Buffer, Const, Expr, Kernel, Let, Load, Loop, Stmt, Store, Var
from ..steps import Context, Step, lowers

CHUNK_WORK = 16384
RUN = 16  # registers that are transposed together
MOST_RUNS = 9  # of them that are written out one by one
FEW = 8  # rows below which threads share runs
LINES = 4  # vectors of a row of x that are read before the next rows


def const(n: int) -> Const:
    return Const(n, "i64")


@lowers("copy")
def lower_copy(node: Node, context: Context) -> list[Step] | None:
    """out = x, each in its own order; x may be any affine view of something in memory."""
    out = node.outputs[0]
    assert context.locate is not None
    x, steps_x, offset = context.locate(node.values[0])
    steps_out = context.strides(out)
    if out.aval.size == 0:
        return None
    sizes, steps_x, steps_out = _merged(out.shape, steps_x, steps_out)
    axes = list(range(len(sizes)))
    code = out.dtype.code
    body: tuple[Stmt, ...]
    if not axes:
        body = (Store("out", const(0), Load("x", const(offset), code)),)
        return [_step(node, context, x, body, 1)]
    size = dict(enumerate(sizes))
    lane = min(axes, key=lambda a: (steps_out[a], -abs(steps_x[a])))
    inner_x = min(axes, key=lambda a: (abs(steps_x[a]) or 1 << 62, -steps_out[a]))
    lanes = max(16, host().vector_bytes // out.dtype.itemsize)
    walked = steps_x if lane != inner_x else steps_out
    runs: list[int] = []
    if lane != inner_x and _fills(size[inner_x], size[lane], lanes):
        runs = _run_axes([a for a in axes if a != inner_x], size, steps_out)
    if runs:
        lane, walked = inner_x, steps_out
    others = sorted((a for a in axes if a not in (lane, *runs)), key=lambda a: -abs(walked[a]))
    plain = abs(steps_x[lane]) == steps_out[lane] == 1
    # Either rows of x are read in longer runs, or few rows of the result are written at a time.
    lines = LINES if runs and steps_out[lane] < abs(steps_x[runs[-1]]) else 1
    block = size[lane] if plain else min(size[lane], lanes * lines)
    blocks = -(-size[lane] // block)

    def store(place: dict[int, Expr]) -> Store:
        at_x: Expr = const(offset)
        at_out: Expr = const(0)
        for a in axes:
            at = place.get(a, Var(f"a{a}"))
            at_x = at_x + at * steps_x[a]
            at_out = at_out + at * steps_out[a]
        return Store("out", at_out, Load("x", at_x, code))

    start = Var("block") * block
    stop = s.minimum(start + block, const(size[lane])) if size[lane] % block else start + block

    def along_lanes(x: Stmt) -> Stmt:
        return Loop(f"a{lane}", start, stop, (x,), "vector")

    nest: tuple[Stmt, ...] = (along_lanes(store({})),)
    if runs:
        nest, many = _register_runs(runs, size, store, along_lanes)
        if many > 1:
            axis = len(axes)
            size[axis] = many
            others.insert(0 if not others or size[others[0]] < FEW else len(others), axis)
    # Parallel over blocks of lanes and the outermost other axis.
    outermost = others[0] if others else None
    rows = size[outermost] if outermost is not None else 1
    inner = others[1:]
    for a in reversed(inner):
        nest = (Loop(f"a{a}", const(0), const(size[a]), nest),)
    per_row = max(1, out.aval.size // (rows * blocks))
    if outermost is None:
        body = (Let("block", Var("chunk")), *nest)
        return [_step(node, context, x, body, blocks)]
    rows_per_chunk = max(1, min(rows, CHUNK_WORK // per_row))
    chunks = -(-rows // rows_per_chunk)
    first = (Var("chunk") // blocks) * rows_per_chunk
    last = s.minimum(first + rows_per_chunk, const(rows))
    body = (Let("block", Var("chunk") % blocks), Loop(f"a{outermost}", first, last, nest))
    return [_step(node, context, x, body, chunks * blocks)]


def _merged(
    shape: tuple[int, ...], steps_x: tuple[int, ...], steps_out: tuple[int, ...]
) -> tuple[list[int], tuple[int, ...], tuple[int, ...]]:
    """Sizes and steps without axes of one element; neighbours on both sides are one axis."""
    axes = [a for a in range(len(shape)) if shape[a] > 1]
    made: list[list[int]] = []
    for a in sorted(axes, key=lambda a: -steps_out[a]):
        n, x, out = shape[a], steps_x[a], steps_out[a]
        if made and made[-1][1:] == [x * n, out * n]:
            made[-1] = [made[-1][0] * n, x, out]
        else:
            made.append([n, x, out])
    return [m[0] for m in made], tuple(m[1] for m in made), tuple(m[2] for m in made)


def _fills(n: int, other: int, lanes: int) -> bool:
    """Whether lanes go along the axis of n that is contiguous in x, not that of `other` in out."""
    return n >= other or (other >= RUN and (n % lanes) * 8 <= n)


def _run_axes(others: list[int], size: dict[int, int], steps_out: tuple[int, ...]) -> list[int]:
    """The innermost axes of the result that are written in runs: whole ones, or one long one."""
    others = sorted(others, key=lambda a: -steps_out[a])
    axes: list[int] = []
    length = 1
    for a in reversed(others[1:] or others):  # the first is left to other threads
        if steps_out[a] != length or length * size[a] > MOST_RUNS * RUN:
            break
        axes.insert(0, a)
        length *= size[a]
    if not axes and steps_out[others[-1]] == 1 and size[others[-1]] > RUN:
        return others[-1:]
    return axes if length >= 4 else []


def _register_runs(
    axes: list[int], size: dict[int, int], store: Callable[[dict[int, Expr]], Stmt],
    along_lanes: Callable[[Stmt], Stmt],
) -> tuple[tuple[Stmt, ...], int]:  # fmt: skip
    """Loops over the lanes, with unrolled stores along `axes`; and how often they are to be run.

    Each stores RUN neighbours, so that it reads few rows of x, each in a run that the processor
    sees coming. Of one long axis it is a loop for the turn `a{number of axes}`; the last turn
    begins so early that it is whole, too.
    """
    length = math.prod(size[a] for a in axes)

    def run(first: Expr | int, count: int) -> Stmt:
        j = Var("j") + first
        place: dict[int, Expr] = {}
        rest = length
        for a in axes:
            rest //= size[a]
            place[a] = j if len(axes) == 1 else (j // rest) % size[a]
        return along_lanes(Loop("j", const(0), const(count), (store(place),), "unroll"))

    whole, rest = divmod(length, RUN)
    if whole <= MOST_RUNS:
        made = [run(i * RUN, RUN) for i in range(whole)]
        return (*made, *([run(whole * RUN, rest)] if rest else [])), 1
    first: Expr = Var(f"a{len(size)}") * RUN
    if rest:
        first = s.minimum(first, const(length - RUN))
    return (run(first, RUN),), whole + (rest > 0)


def _step(node: Node, context: Context, x, body: tuple[Stmt, ...], grid: int) -> Step:  # type: ignore[no-untyped-def]
    out = node.outputs[0]
    code = out.dtype.code
    kernel = Kernel(
        context.title, (Buffer("x", code), Buffer("out", code, True)), body, (), const(grid)
    )
    return Step(kernel, [x, out], parallel=hint(out.aval.size) > 16384, flops=out.aval.size)
