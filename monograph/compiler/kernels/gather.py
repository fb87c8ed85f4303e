"""Reading at indices, and joining: IndexSelect, Gather, CheckClasses, Concat.

Lanes run along what is contiguous in memory, whatever the order of the axes. An index out of range
is noted in a status word and raises after the program has run. Writing: scatter.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from ...core.shape import contiguous_strides, numel
from ...core.symbolic import hint
from ...ir.graph import Node, Value
from ...kernel import scalar as s
from ...kernel.ir import (
    Buffer,
    Call,
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
from ..steps import Context, Scratch, Step, lowers
from .lines import Array, Lines, chunks_of, const, operand, place_of
from .scatter import is_inside, status_of

CHUNK_WORK = 16384
MOST_PARTS = 16  # in one kernel


@lowers("index_select")
def lower_index_select(node: Node, context: Context) -> list[Step] | None:
    """out[a, j, b] = x[a, index[j], b]."""
    x, index = node.values
    out = node.outputs[0]
    if 0 in (*out.shape, *x.shape):
        return None
    axis, nd = node.op.axis, len(index.shape)  # type: ignore[attr-defined]
    n, count = x.shape[axis], index.aval.size
    status, complaint = status_of("index_select", axis, n)
    code, icode = x.dtype.code, index.dtype.code
    outs = context.strides(out)
    shape = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
    arrays = {
        "x": Array(context.strides(x)),
        "out": Array((*outs[:axis], 0, *outs[axis + nd :])),
    }
    lines = Lines(shape, axis, arrays)
    inside = is_inside(Var("i"), n)
    places = tuple(index.shape)
    j, lane = Var("j"), Var("lane")
    to = place_of(j, places, outs[axis : axis + nd])
    at = place_of(j, places, context.strides(index))
    i = Let("i", s.cast(Load("index", at, icode), "i64"))
    if lines.lanes > 1:
        lanes = Loop("lane", const(0), const(lines.lanes), (
            Store("out", lines.at("out", const(0), lane) + Var("to"),
                  Load("x", lines.at("x", Var("i"), lane), code)),
        ), "vector")  # fmt: skip

        def body(row: Expr) -> list[Stmt]:
            copy = If(inside, (lanes,), (Store("status", const(0), const(1)),))
            return [*lines.places(row // count), Let("j", row % count), Let("to", to), i, copy]

        loop, grid = chunks_of(lines.count * count, lines.lanes, body)
    else:
        element = Load("x", lines.at("x", Var("i")), code, Var("ok", "bool"))
        blocks = -(-count // CHUNK_WORK)
        store = Store("out", lines.at("out", const(0)) + to, element)
        first = Var("first")
        stop = s.minimum(first + CHUNK_WORK, const(count))

        def body(row: Expr) -> list[Stmt]:
            start = Let("first", (row % blocks) * CHUNK_WORK)
            return [
                *lines.places(row // blocks),
                start,
                *_checked("j", first, stop, i, inside, store),
            ]

        loop, grid = chunks_of(lines.count * blocks, count, body)
    buffers = (
        Buffer("x", code), Buffer("index", icode), Buffer("out", code, True),
        Buffer("status", "i64", True),
    )  # fmt: skip
    kernel = Kernel(context.title, buffers, (loop,), (), const(grid))
    work = out.aval.size
    return [
        Step(kernel, [x, index, out, status], parallel=hint(work) > 32768, flops=work,
             status=status, complaint=complaint)
    ]  # fmt: skip


def _checked(var: str, start: Expr, stop: Expr, i: Let, inside: Expr, store: Store) -> list[Stmt]:
    """A vector loop that stores, with "ok" where the index i is inside, and notes if one is not."""
    ok = Var("ok", "bool")
    return [
        Local("bad", "i64", 1),
        Store("bad", const(0), const(0)),
        Loop(var, start, stop, (
            i,
            Let("ok", inside),
            Reduce("max", "bad", const(0), s.select(ok, const(0), const(1))),
            store,
        ), "vector"),
        If(Load("bad", const(0), "i64") > 0, (Store("status", const(0), const(1)),)),
    ]  # fmt: skip


@lowers("gather")
def lower_gather(node: Node, context: Context) -> list[Step] | None:
    """out[p] = x[p with index[p] along the axis]."""
    x, index = node.values
    out = node.outputs[0]
    if 0 in (*out.shape, *x.shape):
        return None
    axis = node.op.axis  # type: ignore[attr-defined]
    n = x.shape[axis]
    status, complaint = status_of("gather", axis, n)
    code, icode = x.dtype.code, index.dtype.code
    xs = context.strides(x)
    arrays = {
        "out": Array(context.strides(out)),
        "x": Array((*xs[:axis], 0, *xs[axis + 1 :])),
        "index": Array(context.strides(index)),
    }
    lines = Lines(tuple(index.shape), axis, arrays, lanes=arrays["out"].steps[axis] != 1)
    k, lane = Var("k"), Var("lane")
    inside = is_inside(Var("i"), n)
    along = lane if lines.lanes > 1 else None
    i = Let("i", s.cast(Load("index", lines.at("index", k, along), icode), "i64"))
    element = Load("x", lines.at("x", k, along) + Var("i") * xs[axis], code, Var("ok", "bool"))
    store = Store("out", lines.at("out", k, along), element)

    def body(row: Expr) -> list[Stmt]:
        if along is None:
            return [
                *lines.places(row),
                *_checked("k", const(0), const(lines.length), i, inside, store),
            ]
        lanes = _checked("lane", const(0), const(lines.lanes), i, inside, store)
        return [*lines.places(row // lines.length), Let("k", row % lines.length), *lanes]

    rows = lines.count if along is None else lines.count * lines.length
    loop, grid = chunks_of(rows, lines.length if along is None else lines.lanes, body)
    buffers = (
        Buffer("x", code), Buffer("index", icode), Buffer("out", code, True),
        Buffer("status", "i64", True),
    )  # fmt: skip
    kernel = Kernel(context.title, buffers, (loop,), (), const(grid))
    work = out.aval.size
    return [
        Step(kernel, [x, index, out, status], parallel=hint(work) > 32768, flops=work,
             status=status, complaint=complaint)
    ]  # fmt: skip


@lowers("check_classes")
def lower_check_classes(node: Node, context: Context) -> list[Step] | None:
    """out = x, and a complaint if an element is neither in [0, limit) nor `ignore`."""
    (x,), (out,) = node.values, node.outputs
    op: Any = node.op
    if not x.aval.size:
        return None
    code = x.dtype.code
    arrays = {"out": Array(context.strides(out)), "x": Array(context.strides(x))}
    lines = Lines(tuple(x.shape), None, arrays)
    lane, i = Var("lane"), Var("i")
    blocks = -(-lines.lanes // CHUNK_WORK)
    element = Load("x", lines.at("x", const(0), lane), code)
    inside = Call("or", (is_inside(i, op.limit), s.eq(i, const(op.ignore))), "bool")
    store = Store("out", lines.at("out", const(0), lane), element)

    def body(row: Expr) -> list[Stmt]:
        first = (row % blocks) * CHUNK_WORK
        stop = s.minimum(first + CHUNK_WORK, const(lines.lanes))
        look = _checked("lane", first, stop, Let("i", s.cast(element, "i64")), inside, store)
        return [*lines.places(row // blocks), *look]

    loop, grid = chunks_of(lines.count * blocks, min(hint(lines.lanes), CHUNK_WORK), body)
    buffers = (Buffer("x", code), Buffer("out", code, True), Buffer("status", "i64", True))
    kernel = Kernel(context.title, buffers, (loop,), (), const(grid))
    size = x.aval.size
    status = Scratch("i64", 1)
    return [
        Step(kernel, [x, out, status], parallel=hint(size) > 32768, flops=size, status=status,
             complaint=op.complaint)
    ]  # fmt: skip


@lowers("concat")
def lower_concat(node: Node, context: Context) -> list[Step] | None:
    """Each input copied to its place, but those made there; row by row, where all are row-major."""
    out = node.outputs[0]
    axis = node.op.axis  # type: ignore[attr-defined]
    parts = [(v, *operand(context, v)) for v in node.values if v.aval.size]
    if 0 in out.shape:
        return None
    straight = all(
        _is_row_major(v.shape, array.steps) and (base, out) not in context.placed
        for v, base, array in parts
    )
    straight = straight and _is_row_major(out.shape, context.strides(out))
    if not straight or len(parts) > MOST_PARTS:
        return _one_by_one(context, out, axis, parts)
    code = out.dtype.code
    before, total, after = numel(out.shape[:axis]), out.shape[axis], numel(out.shape[axis + 1 :])
    buffers: list[Buffer] = []
    values: list[Value] = []
    copies: list[Stmt] = []
    at = 0
    for v, base, array in parts:
        if base not in values:
            values.append(base)
            buffers.append(Buffer(f"x{len(buffers)}", code))
        name = buffers[values.index(base)].name
        run = v.shape[axis] * after
        copies.append(
            Loop("z", const(0), const(run), (
                Store("out", Var("row") * (total * after) + (Var("z") + at),
                      Load(name, Var("row") * run + (Var("z") + array.offset), code)),
            ), "vector")
        )  # fmt: skip
        at += run
    width = total * after
    if before == 1:
        body: tuple[Stmt, ...] = (Let("row", const(0)), *copies)
        grid = 1
    else:
        per_chunk = max(1, min(hint(before), CHUNK_WORK // hint(width)))
        start = Var("chunk") * per_chunk
        stop = s.minimum(start + per_chunk, const(before))
        body = (Loop("row", start, stop, tuple(copies)),)
        grid = -(-before // per_chunk)
    buffers.append(Buffer("out", code, True))
    kernel = Kernel(context.title, tuple(buffers), body, (), const(grid))
    work = out.aval.size
    return [Step(kernel, [*values, out], parallel=hint(work) > 32768, flops=work)]


def _is_row_major(shape: Sequence[int], steps: Sequence[int]) -> bool:
    return all(a == b for n, a, b in zip(shape, steps, contiguous_strides(shape)) if n > 1)


def _one_by_one(
    context: Context, out: Value, axis: int, parts: list[tuple[Value, Value, Array]]
) -> list[Step]:
    """Each part by a kernel of its own, lanes along what is contiguous in the result."""
    steps = context.strides(out)
    code = out.dtype.code
    made = []
    at = 0
    for v, base, array in parts:
        arrays = {"out": Array(steps, at * steps[axis]), "x": array}
        lines = Lines(tuple(v.shape), None, arrays)
        at += v.shape[axis]
        if (base, out) in context.placed:  # made in its place
            continue
        lane = Var("lane")
        store = Store(
            "out", lines.at("out", const(0), lane), Load("x", lines.at("x", const(0), lane), code)
        )
        lanes = Loop("lane", const(0), const(lines.lanes), (store,), "vector")
        loop, grid = chunks_of(lines.count, lines.lanes, partial(_copied, lines, lanes))
        buffers = (Buffer("x", code), Buffer("out", code, True))
        kernel = Kernel(context.title, buffers, (loop,), (), const(grid))
        work = v.aval.size
        made.append(Step(kernel, [base, out], parallel=hint(work) > 32768, flops=work))
    return made


def _copied(lines: Lines, lanes: Loop, row: Expr) -> list[Stmt]:
    return [*lines.places(row), lanes]
