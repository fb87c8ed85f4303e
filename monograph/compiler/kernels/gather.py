"""By index: IndexSelect, IndexAdd, IndexSet, Gather, ScatterAdd, CheckClasses; and joining.

Everything is seen as (before, axis, after) around the one axis that is indexed. Writes to equal
places happen in the order of the indices, whatever the number of threads: chunks share no places.
An index out of range is noted in a status word and raises after the program has run.
"""

from __future__ import annotations

from typing import Any

from ...core.shape import contiguous_strides, numel
from ...ir.graph import Node, Value
from ...kernel import scalar as s
from ...kernel.ir import Buffer, Call, Const, Expr, If, Kernel, Let, Load, Loop, Stmt, Store, Var
from ..reader import COMPUTE
from ..steps import Context, Scratch, Step, lowers

CHUNK_WORK = 16384
LANE_BLOCK = 64


def const(n: int) -> Const:
    return Const(n, "i64")


def _row_major(context: Context, *values: Value) -> bool:
    return all(context.strides(v) == contiguous_strides(v.shape) for v in values)


def _around(shape: tuple[int, ...], axis: int) -> tuple[int, int, int]:
    return numel(shape[:axis]), shape[axis], numel(shape[axis + 1 :])


def _checked(index: Expr, n: int) -> Expr:
    """Whether an i64 index is inside."""
    return Call("and", (index >= 0, index < n), "bool")


def _status(node: Node, what: str, axis: int, n: int) -> tuple[Scratch, str]:
    message = f"{what}: an index is out of range for dimension {axis} of size {n}"
    return Scratch("i64", 1), message


def _finish(
    node: Node, context: Context, buffers: list[Buffer], values: list, body: tuple[Stmt, ...],
    grid: int, work: int, status: Scratch | None = None, complaint: str = "",
) -> list[Step]:  # fmt: skip
    kernel = Kernel(context.title, tuple(buffers), body, (), const(grid))
    return [
        Step(kernel, values, parallel=work > 32768, flops=work, status=status, complaint=complaint)
    ]


@lowers("index_select")
def lower_index_select(node: Node, context: Context) -> list[Step] | None:
    """out[a, j, b] = x[a, index[j], b]."""
    x, index = node.values
    out = node.outputs[0]
    axis = node.op.axis  # type: ignore[attr-defined]
    if not _row_major(context, x, index, out) or 0 in (*out.shape, *x.shape):
        return None
    before, n, after = _around(tuple(x.shape), axis)
    count = index.aval.size
    status, message = _status(node, "index_select", axis, n)
    code = x.dtype.code
    i = s.cast(Load("index", Var("j"), index.dtype.code), "i64")
    a = Var("a")
    at_out = (a * count + Var("j")) * after
    at_x = (a * n + Var("i")) * after
    if after == 1:
        inside = _checked(Var("i"), n)
        body: tuple[Stmt, ...] = (
            Let("i", i),
            Let("ok", inside),
            Store("status", const(0), const(1), s.logical_not(Var("ok", "bool"))),
            Store("out", at_out, Load("x", at_x, code, Var("ok", "bool"))),
        )
        loops: tuple[Stmt, ...] = (
            Loop("a", const(0), const(before), (Loop("j", const(0), const(count), body),)),
        )
        grid = 1
    else:
        lanes = Loop("b", const(0), const(after), (
            Store("out", at_out + Var("b"), Load("x", at_x + Var("b"), code)),
        ), "vector")  # fmt: skip
        rows = before * count
        per_chunk = max(1, min(rows, CHUNK_WORK // after))
        start = Var("chunk") * per_chunk
        stop = s.minimum(start + per_chunk, const(rows))
        loops = (
            Loop("row", start, stop, (
                Let("a", Var("row") // count),
                Let("j", Var("row") % count),
                Let("i", i),
                If(_checked(Var("i"), n), (lanes,), (Store("status", const(0), const(1)),)),
            )),
        )  # fmt: skip
        grid = -(-rows // per_chunk)
    buffers = [
        Buffer("x", code), Buffer("index", index.dtype.code), Buffer("out", code, True),
        Buffer("status", "i64", True),
    ]  # fmt: skip
    return _finish(
        node, context, buffers, [x, index, out, status], loops, grid, out.aval.size, status, message
    )


@lowers("index_add", "index_set")
def lower_index_write(node: Node, context: Context) -> list[Step] | None:
    """out = base; out[a, index[j], b] += or = values[a, j, b], j in order."""
    base, index, values = node.values
    out = node.outputs[0]
    axis = node.op.axis  # type: ignore[attr-defined]
    if not _row_major(context, base, index, values, out) or 0 in (*out.shape, *values.shape):
        return None
    code = base.dtype.code
    if code in COMPUTE or (code == "bool" and node.op.name == "index_add"):
        return None
    before, n, after = _around(tuple(base.shape), axis)
    count = index.aval.size
    status, message = _status(node, node.op.name, axis, n)
    block = min(after, LANE_BLOCK)
    blocks = -(-after // block)
    start = Var("block") * block
    stop = s.minimum(start + block, const(after))
    b = Var("b")
    row = (Var("a") * n + Var("r")) * after + b
    copy = Loop("r", const(0), const(n), (
        Loop("b", start, stop, (Store("out", row, Load("base", row, code)),), "vector"),
    ))  # fmt: skip
    place = (Var("a") * n + Var("i")) * after + b
    value: Expr = Load("values", (Var("a") * count + Var("j")) * after + b, code)
    if node.op.name == "index_add":
        value = Load("out", place, code) + value
    write = Loop("b", start, stop, (Store("out", place, value),), "vector")
    each = Loop("j", const(0), const(count), (
        Let("i", s.cast(Load("index", Var("j"), index.dtype.code), "i64")),
        If(_checked(Var("i"), n), (write,), (Store("status", const(0), const(1)),)),
    ))  # fmt: skip
    body = (
        Let("a", Var("chunk") // blocks),
        Let("block", Var("chunk") % blocks),
        copy,
        each,
    )
    buffers = [
        Buffer("base", code), Buffer("index", index.dtype.code), Buffer("values", code),
        Buffer("out", code, True), Buffer("status", "i64", True),
    ]  # fmt: skip
    work = out.aval.size + values.aval.size
    return _finish(
        node, context, buffers, [base, index, values, out, status], body, before * blocks, work,
        status, message,
    )  # fmt: skip


@lowers("gather")
def lower_gather(node: Node, context: Context) -> list[Step] | None:
    """out[p] = x[p with index[p] along the axis]."""
    x, index = node.values
    out = node.outputs[0]
    axis = node.op.axis  # type: ignore[attr-defined]
    if not _row_major(context, x, index, out) or 0 in (*out.shape, *x.shape):
        return None
    code = x.dtype.code
    status, message = _status(node, "gather", axis, x.shape[axis])
    rows, position = _rows_of(tuple(index.shape), contiguous_strides(x.shape), axis)
    lanes = index.shape[-1]
    at = Var("row") * lanes + Var("p")
    i = s.cast(Load("index", at, index.dtype.code), "i64")
    stride = contiguous_strides(x.shape)[axis]
    step = 0 if axis == len(x.shape) - 1 else 1
    ok = Var("ok", "bool")
    body: tuple[Stmt, ...] = (
        Let("i", i),
        Let("ok", _checked(Var("i"), x.shape[axis])),
        Store("status", const(0), const(1), s.logical_not(ok)),
        Store("out", at, Load("x", Var("base") + Var("p") * step + Var("i") * stride, code, ok)),
    )
    loops, grid = _row_loop(rows, lanes, position, body)
    buffers = [
        Buffer("x", code), Buffer("index", index.dtype.code), Buffer("out", code, True),
        Buffer("status", "i64", True),
    ]  # fmt: skip
    return _finish(
        node, context, buffers, [x, index, out, status], loops, grid, out.aval.size, status, message
    )


@lowers("check_classes")
def lower_check_classes(node: Node, context: Context) -> list[Step] | None:
    """out = x, and a complaint if an element is neither in [0, limit) nor `ignore`."""
    (x,), (out,) = node.values, node.outputs
    if not _row_major(context, x, out):
        return None
    op: Any = node.op
    code = x.dtype.code
    size, at, i = x.aval.size, Var("p"), Var("i")
    ok = Call("or", (_checked(i, op.limit), s.eq(i, const(op.ignore))), "bool")
    first = Var("chunk") * CHUNK_WORK
    body: tuple[Stmt, ...] = (
        Let("i", s.cast(Load("x", at, code), "i64")),
        Store("status", const(0), const(1), s.logical_not(ok)),
        Store("out", at, Load("x", at, code)),
    )
    loop = Loop("p", first, s.minimum(first + CHUNK_WORK, const(size)), body)
    buffers = [Buffer("x", code), Buffer("out", code, True), Buffer("status", "i64", True)]
    status = Scratch("i64", 1)
    return _finish(
        node, context, buffers, [x, out, status], (loop,), -(-size // CHUNK_WORK), size, status,
        op.complaint,
    )  # fmt: skip


def _rows_of(shape: tuple[int, ...], strides: tuple[int, ...], axis: int) -> tuple[int, list[Stmt]]:
    """How many rows (all axes but the last), and Lets for "base": where row "row" is in x."""
    lets: list[Stmt] = []
    base: Expr = const(0)
    rows = rest = numel(shape[:-1])
    for a, n in enumerate(shape[:-1]):
        rest //= n
        if a != axis:
            lets.append(Let(f"q{a}", (Var("row") // rest) % n))
            base = base + Var(f"q{a}") * strides[a]
    lets.append(Let("base", base))
    return rows, lets


def _row_loop(
    rows: int, lanes: int, position: list[Stmt], body: tuple[Stmt, ...]
) -> tuple[tuple[Stmt, ...], int]:
    per_chunk = max(1, min(rows, CHUNK_WORK // max(lanes, 1)))
    start = Var("chunk") * per_chunk
    stop = s.minimum(start + per_chunk, const(rows))
    inner = Loop("p", const(0), const(lanes), body)
    return (Loop("row", start, stop, (*position, inner)),), -(-rows // per_chunk)


@lowers("scatter_add", "scatter_set")
def lower_scatter(node: Node, context: Context) -> list[Step] | None:
    """out = base; out[p with index[p] along the axis] += or = values[p], in order."""
    base, index, values = node.values
    out = node.outputs[0]
    axis = node.op.axis  # type: ignore[attr-defined]
    if not _row_major(context, base, index, values, out) or 0 in (*out.shape, *values.shape):
        return None
    code = base.dtype.code
    if code in COMPUTE or (code == "bool" and node.op.name == "scatter_add"):
        return None
    status, message = _status(node, node.op.name, axis, base.shape[axis])
    strides = contiguous_strides(base.shape)
    rows, position = _rows_of(tuple(index.shape), strides, axis)
    lanes = index.shape[-1]
    step = 0 if axis == len(base.shape) - 1 else 1
    at = Var("row") * lanes + Var("p")
    place = Var("base") + Var("p") * step + Var("i") * strides[axis]
    value: Expr = Load("values", at, code)
    if node.op.name == "scatter_add":
        value = Load("out", place, code) + value
    each = (
        Let("i", s.cast(Load("index", at, index.dtype.code), "i64")),
        If(
            _checked(Var("i"), base.shape[axis]),
            (Store("out", place, value),),
            (Store("status", const(0), const(1)),),
        ),
    )
    # Chunks: groups of rows that write to different places (those of different first coordinates).
    groups = index.shape[0] if axis > 0 else 1
    out_part = out.aval.size // groups if axis > 0 and base.shape[0] == groups else out.aval.size
    if axis > 0 and base.shape[0] != groups:
        groups = 1
    rows_each = rows // groups
    start = Var("chunk") * rows_each
    copy_at = Var("chunk") * out_part + Var("z")
    body = (
        Loop("z", const(0), const(out_part), (
            Store("out", copy_at, Load("start", copy_at, code)),), "vector"),
        Loop("row", start, start + rows_each, (
            *position, Loop("p", const(0), const(lanes), each))),
    )  # fmt: skip
    buffers = [
        Buffer("start", code), Buffer("index", index.dtype.code), Buffer("values", code),
        Buffer("out", code, True), Buffer("status", "i64", True),
    ]  # fmt: skip
    work = out.aval.size + values.aval.size
    return _finish(
        node, context, buffers, [base, index, values, out, status], body, groups, work,
        status, message,
    )  # fmt: skip


@lowers("concat")
def lower_concat(node: Node, context: Context) -> list[Step] | None:
    """Each input copied to its place, row by row; inputs may be views of anything in memory."""
    out = node.outputs[0]
    axis = node.op.axis  # type: ignore[attr-defined]
    parts = [v for v in node.values if v.aval.size]
    if not _row_major(context, out, *parts) or 0 in out.shape or len(parts) > 16:
        return None
    code = out.dtype.code
    before, total, after = _around(tuple(out.shape), axis)
    buffers: list[Buffer] = []
    values: list[Value] = []
    copies: list[Stmt] = []
    at = 0
    for v in parts:
        if v not in values:
            values.append(v)
            buffers.append(Buffer(f"x{len(buffers)}", code))
        run = v.shape[axis] * after
        copies.append(
            Loop("z", const(0), const(run), (
                Store("out", Var("row") * (total * after) + (Var("z") + at),
                      Load(buffers[values.index(v)].name, Var("row") * run + Var("z"), code)),
            ), "vector")
        )  # fmt: skip
        at += run
    width = total * after
    if before == 1:
        body: tuple[Stmt, ...] = (Let("row", const(0)), *copies)
        grid = 1
    else:
        per_chunk = max(1, min(before, CHUNK_WORK // width))
        start = Var("chunk") * per_chunk
        stop = s.minimum(start + per_chunk, const(before))
        body = (Loop("row", start, stop, tuple(copies)),)
        grid = -(-before // per_chunk)
    buffers.append(Buffer("out", code, True))
    return _finish(node, context, buffers, [*values, out], body, grid, out.aval.size)
