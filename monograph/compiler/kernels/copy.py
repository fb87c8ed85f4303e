"""Copies into another order of axes: images to channels last, filters to (taps, C, O) and back.

Lanes run along the axis that is contiguous on one side; the other axes are walked in the order of
the other side, within a block of lanes, so that each cache line is used up while it is near. Where
stores are the strided side, runs of neighbours are transposed in registers (codegen/transpose.py).
"""

from __future__ import annotations

from ...codegen.target import host
from ...core.symbolic import hint
from ...ir.graph import Node
from ...kernel import scalar as s
from ...kernel.ir import Buffer, Const, Expr, Kernel, Let, Load, Loop, Stmt, Store, Var
from ..steps import Context, Step, lowers

CHUNK_WORK = 16384
RUN = 16


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
    axes = [a for a in range(len(out.shape)) if out.shape[a] > 1]
    code = out.dtype.code
    if not axes:
        body: tuple[Stmt, ...] = (Store("out", const(0), Load("x", const(offset), code)),)
        return [_step(node, context, x, body, 1)]
    lane = min(axes, key=lambda a: (steps_out[a], -abs(steps_x[a])))
    inner_x = min(axes, key=lambda a: (abs(steps_x[a]) or 1 << 62, -steps_out[a]))
    walked = steps_x if lane != inner_x else steps_out
    transposed = False
    if lane != inner_x and out.shape[inner_x] >= out.shape[lane]:
        lane, walked, transposed = inner_x, steps_out, True
    size = {a: out.shape[a] for a in axes}
    others = sorted((a for a in axes if a != lane), key=lambda a: -abs(walked[a]))
    lanes = max(16, host().vector_bytes // out.dtype.itemsize)
    plain = abs(steps_x[lane]) == steps_out[lane] == 1
    block = size[lane] if plain else min(size[lane], lanes)
    blocks = -(-size[lane] // block)

    at_x: Expr = const(offset)
    at_out: Expr = const(0)
    names = {a: Var(f"a{a}") for a in axes}
    for a in axes:
        at_x = at_x + names[a] * steps_x[a]
        at_out = at_out + names[a] * steps_out[a]
    store = Store("out", at_out, Load("x", at_x, code))
    start = Var("block") * block
    stop = s.minimum(start + block, const(size[lane])) if size[lane] % block else start + block

    # Parallel over blocks of lanes and the outermost other axis.
    outermost = others[0] if others else None
    rows = size[outermost] if outermost is not None else 1
    run: list[Stmt] | None = None
    inner = others[1:]
    if transposed and others:
        run, inner = _register_run(others, size, steps_x, steps_out, names, offset, lane, code)
    if run is None:
        inner = others[1:]
        run = [store]
    loop = Loop(f"a{lane}", start, stop, tuple(run), "vector")
    nest: tuple[Stmt, ...] = (loop,)
    for a in reversed(inner):
        nest = (Loop(f"a{a}", const(0), const(size[a]), nest),)
    per_row = max(1, out.aval.size // (rows * blocks))
    if outermost is None:
        body = (Let("block", Var("chunk")), *nest)
        return [_step(node, context, x, body, blocks)]
    rows_per_chunk = max(1, min(rows, CHUNK_WORK // per_row))
    chunks = -(-rows // rows_per_chunk)
    first = (Var("chunk") % chunks) * rows_per_chunk
    last = s.minimum(first + rows_per_chunk, const(rows))
    body = (Let("block", Var("chunk") // chunks), Loop(f"a{outermost}", first, last, nest))
    return [_step(node, context, x, body, chunks * blocks)]


def _register_run(
    others: list[int], size: dict[int, int], steps_x: tuple[int, ...], steps_out: tuple[int, ...],
    names: dict[int, Var], offset: int, lane: int, code: str,
) -> tuple[list[Stmt] | None, list[int]]:  # fmt: skip
    """Unrolled stores along the innermost axes of the result, a few whole axes at most."""
    run_axes: list[int] = []
    length = 1
    for a in reversed(others[1:]):
        if steps_out[a] != length or length * size[a] > 144:
            break
        run_axes.insert(0, a)
        length *= size[a]
    if length < 4:
        return None, others[1:]
    j = Var("j")
    at_x: Expr = const(offset)
    at_out: Expr = const(0)
    rest = length
    for a in run_axes:
        rest //= size[a]
        at_x = at_x + ((j // rest) % size[a]) * steps_x[a]
    at_out = at_out + j
    for a in [*others, lane]:
        if a not in run_axes:
            at_x = at_x + names[a] * steps_x[a]
            at_out = at_out + names[a] * steps_out[a]
    pieces: list[Stmt] = []
    for begin in range(0, length, RUN):
        end = min(begin + RUN, length)
        pieces.append(
            Loop("j", const(begin), const(end), (Store("out", at_out, Load("x", at_x, code)),),
                 "unroll")
        )  # fmt: skip
    return pieces, [a for a in others[1:] if a not in run_axes]


def _step(node: Node, context: Context, x, body: tuple[Stmt, ...], grid: int) -> Step:  # type: ignore[no-untyped-def]
    out = node.outputs[0]
    code = out.dtype.code
    kernel = Kernel(
        context.title, (Buffer("x", code), Buffer("out", code, True)), body, (), const(grid)
    )
    return Step(kernel, [x, out], parallel=hint(out.aval.size) > 16384, flops=out.aval.size)
