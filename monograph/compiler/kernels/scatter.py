"""Writing at indices: IndexAdd, IndexSet (rows), ScatterAdd, ScatterSet, ScatterReduce (elements).

The base is copied first (or filled, if it is one number), unless the result takes its place. Writes
to equal places happen in the order of the indices, whatever the number of threads: chunks share no
places. Where that leaves too few chunks, as for rows added into a table, each chunk owns a range of
rows, and a first kernel sorts the indices by owner. 16-bit floats are added up in float32 memory.
An index out of range is noted in a status word and raises after the program has run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...core.shape import Shape
from ...core.symbolic import hint
from ...ir.graph import Node, Value
from ...ir.op import Full
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
from ..reader import COMPUTE
from ..steps import Context, Scratch, Step, lowers
from .lines import Array, Lines, chunks_of, const, literal_of, place_of

LANE_BLOCK = 64
OWNERS = 32  # chunks that own a range of rows each
FILL = 1 << 14  # elements of a chunk that copies


def is_inside(index: Expr, n: int) -> Expr:
    return Call("and", (index >= 0, index < n), "bool")


def status_of(what: str, axis: int, n: int) -> tuple[Scratch, str]:
    """The word that a kernel sets where an index is out of range, and what is said then."""
    message = f"{what}: an index is out of range for dimension {axis} of size {n}"
    return Scratch("i64", 1), message


def combined(node: Node) -> str:
    """How values meet what is there: "set", "add", "mul", "min" or "max"."""
    if node.op.name in ("index_set", "scatter_set"):
        return "set"
    return getattr(node.op, "combine", "add")


@dataclass
class Target:
    """What is written: the output, or float32 memory that is rounded into it at the end."""

    out: Value
    strides: Shape
    how: str
    memory: Any  # the output or Scratch
    code: str

    @classmethod
    def of(cls, node: Node, context: Context) -> Target:
        out = node.outputs[0]
        how = combined(node)
        code = out.dtype.code
        memory: Any = out
        if code in COMPUTE and how != "set":
            code = COMPUTE[code]
            memory = Scratch(code, out.aval.size)
        return cls(out, context.strides(out), how, memory, code)

    def write(self, place: Expr, value: Expr, mask: Expr | None = None) -> Stmt:
        """The statement that writes or combines a value of the operands' dtype."""
        if self.how != "set":
            value = s.cast(value, self.code)
            old = Load("out", place, self.code, mask)
            how = "or" if self.code == "bool" and self.how == "add" else self.how
            value = Call(how, (old, value), self.code)
        return Store("out", place, value, mask)

    def start(self, base: Value, context: Context) -> list[Step]:
        """Copy or fill, unless the base is what is changed."""
        if context.in_place:
            return []
        source = base.dtype.code
        arrays = {"out": Array(self.strides)}
        filled = fill_of(base)
        if filled is None:
            arrays["base"] = Array(context.strides(base))
        lines = Lines(tuple(base.shape), None, arrays)
        lane = Var("lane")
        blocks = -(-lines.lanes // FILL)
        if filled is None:
            value: Expr = s.cast(Load("base", lines.at("base", const(0), lane), source), self.code)
        else:
            value = literal_of(filled, self.code)
        copy = Store("out", lines.at("out", const(0), lane), value)

        def body(row: Expr) -> list[Stmt]:
            first = (row % blocks) * FILL
            stop = s.minimum(first + FILL, const(lines.lanes))
            return [*lines.places(row // blocks), Loop("lane", first, stop, (copy,), "vector")]

        loop, grid = chunks_of(lines.count * blocks, min(hint(lines.lanes), FILL), body)
        buffers: tuple[Buffer, ...] = (Buffer("out", self.code, True),)
        values = [self.memory]
        if filled is None:
            buffers, values = (Buffer("base", source), *buffers), [base, self.memory]
        kernel = Kernel(f"{context.title}_base", buffers, (loop,), (), const(grid))
        return [Step(kernel, values, parallel=hint(base.aval.size) > FILL)]

    def finish(self, title: str) -> list[Step]:
        """Round what was added up in float32."""
        if self.memory is self.out:
            return []
        code, size = self.out.dtype.code, self.out.aval.size
        first = Var("chunk") * FILL
        stop = s.minimum(first + FILL, const(size))
        store = Store("out", Var("i"), s.cast(Load("sums", Var("i"), self.code), code))
        kernel = Kernel(
            f"{title}_rounded",
            (Buffer("sums", self.code), Buffer("out", code, True)),
            (Loop("i", first, stop, (store,), "vector"),),
            (),
            const(-(-size // FILL)),
        )
        return [Step(kernel, [self.memory, self.out], parallel=hint(size) > FILL)]


def fill_of(base: Value) -> Any:
    """The number that all elements of a base are, if it is one (it has no memory then)."""
    op = None if base.node is None else base.node.op
    return op.value if isinstance(op, Full) else None


def _usable(node: Node, target: Target) -> bool:
    """Whether there is something to write, to memory in one piece."""
    arrays = (target.out, *node.values[1:])
    elements = 1 + sum((n - 1) * k for n, k in zip(target.out.shape, target.strides))
    return not any(0 in v.shape for v in arrays) and elements == target.out.aval.size


@lowers("index_add", "index_set")
def lower_rows(node: Node, context: Context) -> list[Step] | None:
    """out = base; out[a, index[j], b] += or = values[a, j, b], j in order."""
    base, index, values = node.values
    target = Target.of(node, context)
    if not _usable(node, target):
        return None
    title, axis, nd = context.title, node.op.axis, len(index.shape)  # type: ignore[attr-defined]
    n, count = base.shape[axis], index.aval.size
    steps = context.strides(values)
    arrays = {
        "out": Array(target.strides),
        "values": Array((*steps[:axis], 0, *steps[axis + nd :])),
    }
    shape = (*base.shape[:axis], 1, *base.shape[axis + 1 :])
    lines = Lines(shape, axis, arrays)
    lines.along["out"] = target.strides[axis]
    j_steps = steps[axis : axis + nd]
    index_steps = context.strides(index)
    status, complaint = status_of(node.op.name, axis, n)
    block = min(lines.lanes, LANE_BLOCK)
    blocks = -(-lines.lanes // block)
    lane = Var("lane")
    icode = index.dtype.code
    work = values.aval.size

    def write_row(j: Expr) -> list[Stmt]:
        """Row j of the values, if its index is inside."""
        source = lines.at("values", const(0), lane) + Var("j_at")
        value = Load("values", source, values.dtype.code)
        write: Stmt = target.write(lines.at("out", Var("i"), lane), value)
        if lines.lanes > 1:
            write = Loop("lane", Var("first"), Var("last"), (write,), "vector")
        else:
            write = target.write(lines.at("out", Var("i")), value_of(j))
        return [
            Let("j_at", place_of(j, tuple(index.shape), j_steps)),
            Let(
                "i",
                s.cast(Load("index", place_of(j, tuple(index.shape), index_steps), icode), "i64"),
            ),
            If(is_inside(Var("i"), n), (write,), (Store("status", const(0), const(1)),)),
        ]

    def value_of(j: Expr) -> Expr:
        return Load("values", lines.at("values", const(0)) + Var("j_at"), values.dtype.code)

    buffers = [
        Buffer("index", icode), Buffer("values", values.dtype.code),
        Buffer("out", target.code, True), Buffer("status", "i64", True),
    ]  # fmt: skip
    operands: list[Any] = [index, values, target.memory, status]
    steps_made = target.start(base, context)
    span = [
        Let("first", Var("block") * block),
        Let("last", s.minimum(Var("first") + block, const(lines.lanes))),
    ]
    if hint(lines.count * blocks) < 8 and hint(work) > 65536 and n >= OWNERS:
        width = max(0, (n - 1).bit_length() - OWNERS.bit_length() + 1)
        owners = -(-n // (1 << width))
        order, starts = Scratch("i32", count), Scratch("i64", owners + 1)
        steps_made.append(
            _by_owner(title, index, index_steps, order, starts, owners, width, n, status, complaint)
        )
        begin, end = (Load("starts", Var("chunk") + k, "i64") for k in range(2))
        each = Loop("t", begin, end, (
            Let("j", s.cast(Load("order", Var("t"), "i32"), "i64")), *write_row(Var("j")),
        ))  # fmt: skip
        over_blocks = Loop("block", const(0), const(blocks), (*span, each))
        body: tuple[Stmt, ...] = (
            Loop("row", const(0), const(lines.count), (*lines.places(Var("row")), over_blocks)),
        )
        buffers += [Buffer("order", "i32"), Buffer("starts", "i64")]
        operands += [order, starts]
        grid = owners
    else:
        each = Loop("j", const(0), const(count), tuple(write_row(Var("j"))))
        body = (
            *lines.places(Var("chunk") // blocks),
            Let("block", Var("chunk") % blocks),
            *span,
            each,
        )
        grid = lines.count * blocks
    kernel = Kernel(title, tuple(buffers), body, (), const(grid))
    steps_made.append(
        Step(
            kernel,
            operands,
            parallel=hint(work) > 32768,
            flops=work,
            status=status,
            complaint=complaint,
        )
    )
    return steps_made + target.finish(title)


def _by_owner(
    title: str, index: Value, index_steps: Shape, order: Scratch, starts: Scratch, owners: int,
    width: int, n: int, status: Scratch, complaint: str,
) -> Step:  # fmt: skip
    """Positions of the indices by owner, index >> width; owner k's are order[starts[k]:]."""
    count = index.aval.size
    code = index.dtype.code
    j = Var("j")

    def each(*body: Stmt) -> Loop:
        at = place_of(j, tuple(index.shape), index_steps)
        inside = If(
            is_inside(Var("i"), n),
            (Let("owner", Var("i") >> const(width)), *body),
            (Store("status", const(0), const(1)),),
        )
        found = Let("i", s.cast(Load("index", at, code), "i64"))
        return Loop("j", const(0), const(count), (found, inside))

    k, owner = Var("k"), Var("owner")
    body = (
        Local("next", "i64", owners),
        Loop("k", const(0), const(owners), (Store("next", k, const(0)),)),
        each(Store("next", owner, Load("next", owner, "i64") + 1)),
        Local("sum", "i64", 1),
        Store("sum", const(0), const(0)),
        Loop("k", const(0), const(owners), (
            Let("begin", Load("sum", const(0), "i64")),
            Store("starts", k, Var("begin")),
            Store("sum", const(0), Var("begin") + Load("next", k, "i64")),
            Store("next", k, Var("begin")),
        )),
        Store("starts", const(owners), Load("sum", const(0), "i64")),
        each(
            Let("to", Load("next", owner, "i64")),
            Store("order", Var("to"), s.cast(j, "i32")),
            Store("next", owner, Var("to") + 1),
        ),
    )  # fmt: skip
    buffers = (
        Buffer("index", code), Buffer("order", "i32", True), Buffer("starts", "i64", True),
        Buffer("status", "i64", True),
    )  # fmt: skip
    kernel = Kernel(f"{title}_owners", buffers, body, (), const(1))
    return Step(
        kernel, [index, order, starts, status], parallel=False, status=status, complaint=complaint
    )


@lowers("scatter_add", "scatter_set", "scatter_reduce")
def lower_elements(node: Node, context: Context) -> list[Step] | None:
    """out = base; out[p with index[p] along the axis] combined with values[p], in order."""
    base, index, values = node.values
    target = Target.of(node, context)
    if not _usable(node, target):
        return None
    title, axis = context.title, node.op.axis  # type: ignore[attr-defined]
    n = base.shape[axis]
    steps = list(target.strides)
    steps[axis] = 0
    arrays = {
        "out": Array(tuple(steps)),
        "index": Array(context.strides(index)),
        "values": Array(context.strides(values)),
    }
    lines = Lines(tuple(index.shape), axis, arrays, lanes=target.strides[axis] != 1)
    step = target.strides[axis]
    status, complaint = status_of(node.op.name, axis, n)
    code, icode = values.dtype.code, index.dtype.code
    k = Var("k")
    if lines.lanes > 1:
        block = min(lines.lanes, LANE_BLOCK)
        blocks = -(-lines.lanes // block)
        lane = Var("lane")
        ok = Var("ok", "bool")
        inside: tuple[Stmt, ...] = (
            Let("i", s.cast(Load("index", lines.at("index", k, lane), icode), "i64")),
            Let("ok", is_inside(Var("i"), n)),
            Reduce("max", "bad", const(0), s.select(ok, const(0), const(1))),
            target.write(
                lines.at("out", const(0), lane) + Var("i") * step,
                Load("values", lines.at("values", k, lane), code),
                ok,
            ),
        )
        first = Var("first")
        stop = s.minimum(first + block, const(lines.lanes))

        def body(row: Expr) -> list[Stmt]:
            return [
                *lines.places(row // blocks),
                Let("first", (row % blocks) * block),
                Local("bad", "i64", 1),
                Store("bad", const(0), const(0)),
                Loop("k", const(0), const(lines.length), (
                    Loop("lane", first, stop, inside, "vector"),
                )),
                If(Load("bad", const(0), "i64") > 0, (Store("status", const(0), const(1)),)),
            ]  # fmt: skip

        loop, grid = chunks_of(lines.count * blocks, lines.length * block, body)
    else:
        each = (
            Let("i", s.cast(Load("index", lines.at("index", k), icode), "i64")),
            If(
                is_inside(Var("i"), n),
                (
                    target.write(
                        lines.at("out", const(0)) + Var("i") * step,
                        Load("values", lines.at("values", k), code),
                    ),
                ),
                (Store("status", const(0), const(1)),),
            ),
        )

        def body(row: Expr) -> list[Stmt]:
            return [*lines.places(row), Loop("k", const(0), const(lines.length), each)]

        loop, grid = chunks_of(lines.count, 4 * lines.length, body)
    buffers = (
        Buffer("index", icode), Buffer("values", code), Buffer("out", target.code, True),
        Buffer("status", "i64", True),
    )  # fmt: skip
    kernel = Kernel(title, buffers, (loop,), (), const(grid))
    work = values.aval.size
    step_made = Step(
        kernel, [index, values, target.memory, status], parallel=hint(work) > 16384, flops=work,
        status=status, complaint=complaint,
    )  # fmt: skip
    return [*target.start(base, context), step_made, *target.finish(title)]
