"""The few largest or smallest elements of long lines, in order: TopK.

The best key of each block of a line is noted, and the best of those is looked up as often as
elements are wanted: then only its block has to be read again. Where many are wanted, sort.py
sorts the line.
"""

from __future__ import annotations

from typing import Any

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
from ..reader import COMPUTE
from ..steps import Context, Scratch, Step, lowers
from .lines import const
from .sort import CHUNK_ELEMENTS, MOST_CHUNKS, key_of, key_type, lines_of, sorted_lines

BLOCK = 64
NOWHERE = (1 << 31) - 1


def is_few(count: int, length: int) -> bool:
    """Whether looking up is cheaper than sorting: about 60 cycles and two looks at all blocks for
    each, against 12 cycles for each element of the line."""
    return count * (60 + length // BLOCK // 4) < 12 * length


@lowers("top_k")
def lower_top_k(node: Node, context: Context) -> list[Step] | None:
    """(the op.count first elements of the sorted axis, where they were)."""
    op: Any = node.op
    n = node.values[0].shape[op.axis]
    code = node.values[0].dtype.code
    if 0 in node.values[0].shape:
        return None
    # 64-bit keys of integers leave no number for an element that was taken.
    if not 0 < op.count < n or not is_few(op.count, n) or code in ("i64", "u64"):
        return sorted_lines(node, context, op.axis, op.largest, 0, op.count)
    return _few(node, context, n, code)


def _few(node: Node, context: Context, n: int, code: str) -> list[Step]:
    op: Any = node.op
    x, lines = lines_of(node, context, op.axis)
    compute = COMPUTE.get(code, code)
    key = key_type(compute)
    if compute in ("i32", "u32"):
        compute = key = "i64"
    elif key_type(compute) == "u64":
        key = "u64"
    else:
        key = "u32"

    def key_at(i: Expr) -> Expr:
        """Larger for what comes first; more than 0."""
        value = s.cast(Load("x", lines.at("x", i), code), compute)
        if compute == "i64":
            return (value if op.largest else -value) + (1 << 33)
        if compute[0] == "f":
            return key_of(value, not op.largest)
        small = s.cast(value, "i32")
        return s.cast((small if op.largest else -small) + (1 << 17), "u32")

    blocks = -(-n // BLOCK)
    rows = max(1, -(-CHUNK_ELEMENTS // n), -(-lines.count // MOST_CHUNKS))
    rows = min(rows, lines.count)
    grid = -(-lines.count // rows)
    i, b, base = Var("i"), Var("b"), Var("base")
    taken = Const(0, key)

    def best_of_block(number: Expr) -> list[Stmt]:
        """The best key of a block into "best"."""
        found = Load("keys", base + number * BLOCK + i, key)
        return [
            Local("top", key, 1),
            Store("top", const(0), taken),
            Loop("i", const(0), const(BLOCK), (Reduce("max", "top", const(0), found),), "vector"),
            Store("best", Var("best_at") + number, Load("top", const(0), key)),
        ]

    def first(at: Expr, var: str, count: int, buffer: str) -> list[Stmt]:
        """The first place from `at` of the key "wanted" into Var("found")."""
        same = s.eq(Load(buffer, at + Var(var), key), Var("wanted", key))
        here = s.select(same, s.cast(Var(var), "i32"), Const(NOWHERE, "i32"))
        return [
            Local("place", "i32", 1),
            Store("place", const(0), Const(NOWHERE, "i32")),
            Loop(var, const(0), const(count), (Reduce("min", "place", const(0), here),), "vector"),
            Let("found", s.cast(Load("place", const(0), "i32"), "i64")),
        ]

    best = Load("best", Var("best_at") + b, key)
    take: list[Stmt] = [
        Local("all", key, 1),
        Store("all", const(0), taken),
        Loop("b", const(0), const(blocks), (Reduce("max", "all", const(0), best),), "vector"),
        Let("wanted", Load("all", const(0), key)),
        *first(Var("best_at"), "b", blocks, "best"),
        Let("block", Var("found")),
        *first(base + Var("block") * BLOCK, "i", BLOCK, "keys"),
        Let("element", Var("block") * BLOCK + Var("found")),
        Store(
            "values", lines.at("values", Var("k")), Load("x", lines.at("x", Var("element")), code)
        ),
        Store("places", lines.at("places", Var("k")), Var("element")),
        Store("keys", base + Var("element"), taken),
        *best_of_block(Var("block")),
    ]
    body: list[Stmt] = [
        *lines.places(Var("row")),
        Loop("i", const(0), const(n), (Store("keys", base + i, key_at(i)),), "vector"),
        Loop("i", const(n), const(blocks * BLOCK), (Store("keys", base + i, taken),), "vector"),
        Loop("b", const(0), const(blocks), tuple(best_of_block(b))),
        Loop("k", const(0), const(op.count), tuple(take)),
    ]
    start = Var("chunk") * rows
    kernel = Kernel(
        f"few_{context.title}",
        (
            Buffer("x", code), Buffer("values", code, True), Buffer("places", "i64", True),
            Buffer("keys", key, True), Buffer("best", key, True),
        ),
        (
            Let("base", Var("chunk") * (blocks * BLOCK)),
            Let("best_at", Var("chunk") * blocks),
            Loop("row", start, s.minimum(start + rows, const(lines.count)), tuple(body)),
        ),
        (),
        const(grid),
    )  # fmt: skip
    size = node.values[0].aval.size
    scratch = [Scratch(key, grid * blocks * BLOCK), Scratch(key, grid * blocks)]
    return [Step(kernel, [x, *node.outputs, *scratch], parallel=hint(size) > 16384, flops=size)]
