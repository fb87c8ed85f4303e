"""SearchSorted: by halving, the same number of steps for all, lanes along the values."""

from __future__ import annotations

from typing import Any

from ...core.symbolic import hint
from ...ir.graph import Node
from ...kernel import scalar as s
from ...kernel.ir import Buffer, Call, Expr, Kernel, Let, Load, Loop, Stmt, Store, Var
from ..reader import COMPUTE
from ..steps import Context, Step, lowers
from .lines import Array, Lines, chunks_of, const, operand


@lowers("search_sorted")
def lower_search(node: Node, context: Context) -> list[Step] | None:
    """out = how many elements of the line of the sequence come before each value."""
    sequence, values = node.values
    out = node.outputs[0]
    if 0 in (*out.shape, *sequence.shape):
        return None
    op: Any = node.op
    n = sequence.shape[-1]
    sorted_, stands = operand(context, sequence)
    looked_up, found = operand(context, values)
    shape = tuple(values.shape) or (1,)
    steps = stands.steps[:-1] if len(sequence.shape) > 1 else (0,) * (len(shape) - 1)
    arrays = {
        "out": Array(context.strides(out) or (0,)),
        "values": Array(found.steps or (0,), found.offset),
        "sequence": Array((*steps, 0), stands.offset),
    }
    lines = Lines(shape, None, arrays)
    code = values.dtype.code
    compute = COMPUTE.get(code, code)
    lane = Var("lane")
    v = Var("v", compute)
    value = Load("values", lines.at("values", const(0), lane), code)
    inside: list[Stmt] = [Let("v", s.cast(value, compute))]
    place: Expr = const(0)
    step = 1 << (n.bit_length() - 1)
    while step:
        after = place + step
        inside.append(Let(f"after{step}", after))
        after = Var(f"after{step}")
        at = lines.at("sequence", const(0), lane) + (after - 1) * stands.steps[-1]
        exists = after <= n
        x = s.cast(Load("sequence", at, code, exists), compute)
        before = _precedes(x, v, op.right)
        taken = Call("and", (exists, before), "bool")
        inside.append(Let(f"place{step}", s.select(taken, after, place)))
        place = Var(f"place{step}")
        step >>= 1
    inside.append(Store("out", lines.at("out", const(0), lane), place))
    blocks = -(-lines.lanes // 1024)

    def body(row: Expr) -> list[Stmt]:
        first = (row % blocks) * 1024
        stop = s.minimum(first + 1024, const(lines.lanes))
        loop = Loop("lane", first, stop, tuple(inside), "vector")
        return [*lines.places(row // blocks), loop]

    loop, grid = chunks_of(lines.count * blocks, 8 * min(lines.lanes, 1024), body)
    buffers = (Buffer("sequence", code), Buffer("values", code), Buffer("out", "i64", True))
    kernel = Kernel(context.title, buffers, (loop,), (), const(grid))
    work = out.aval.size * n.bit_length()
    return [Step(kernel, [sorted_, looked_up, out], parallel=hint(work) > 16384, flops=work)]


def _precedes(x: Expr, v: Expr, right: bool) -> Expr:
    """Whether element x comes before the value v; nan comes after all numbers."""
    plain = x <= v if right else x < v
    if x.dtype[0] != "f":
        return plain
    last = s.ne(v, v)
    if not right:
        last = Call("and", (last, s.eq(x, x)), "bool")
    return Call("or", (plain, last), "bool")
