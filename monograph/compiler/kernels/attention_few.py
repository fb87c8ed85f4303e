"""Attention of a few queries to many keys, as when text is generated token by token.

Here every key and value is used once or a few times, so reading them is the work. A chunk is a
range of the keys of one head: scores are dot products with lanes along a key; lanes run along the
keys for the powers, along the values for the sums. Ranges keep a maximum and unscaled sums, which a
second step brings to one scale and adds in order.
"""

from __future__ import annotations

import math

from ...codegen.target import host
from ...core.symbolic import hint
from ...ir.graph import Node, Value
from ...kernel import scalar as s
from ...kernel.ir import (
    Buffer,
    Call,
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
)  # fmt: skip
from ...ops.exponential import Log
from ..steps import Context, Scratch, Step
from .attention_tiles import (
    LOG2_E,
    SLACK,
    ZERO,
    Mask,
    Matrix,
    Place,
    Writer,
    below,
    const,
    exp2,
    head,
    minimum,
)

MOST_QUERIES = 8  # that read the same keys, heads times length
KEYS = 128  # of a block
PART = 512  # keys of a range, at least
ENOUGH_CHUNKS, MOST_PARTS = 16, 64
PARALLEL_ELEMENTS = 1 << 16  # of keys and values; fewer are read before another thread is awake


def are_few(node: Node) -> bool:
    """Whether the queries of an attention are so few that this kernel is the faster one."""
    q, k = node.values[:2]
    rows = q.shape[2] * (q.shape[1] // k.shape[1])
    return not node.op.causal and rows <= MOST_QUERIES  # type: ignore[attr-defined]


def lower_few(node: Node, context: Context, where: list[Place], out_place: Place) -> list[Step]:
    """The steps for q, k and v that stand at `where`."""
    made = _Few(node, context)
    n, groups = made.images, made.groups
    shared = Var("shared")
    q = head(where[0], "q", Var("head"))
    k, v = head(where[1], "k", shared), head(where[2], "v", shared)
    lets = [
        Let("image", Var("chunk") // (groups * made.parts)),
        Let("shared", (Var("chunk") // made.parts) % groups),
        Let("part", Var("chunk") % made.parts),
    ]
    names = ("q", "k", "v")
    buffers = [Buffer(name, x.dtype.code) for name, x in zip(names, node.values)]
    values: list[Value | Scratch] = [at[0] for at in where]
    if made.mask is not None:
        buffers.append(Buffer("mask", made.mask.dtype))
        values.append(made.mask.base)
    chunks = n * groups * made.parts
    sums = Scratch(made.code, chunks * made.rows * made.depth)
    states = Scratch(made.code, chunks * made.rows * 2)
    buffers += [Buffer("sums", made.code, True), Buffer("states", made.code, True)]
    body = (*lets, *made.body(q, k, v))
    kernel = Kernel(f"{context.title}_few", tuple(buffers), body, (), const(chunks))
    elements = n * groups * made.keys * (made.width + made.depth)
    flops = 2 * elements * made.rows
    first = Step(kernel, [*values, sums, states], parallel=hint(elements) > PARALLEL_ELEMENTS,
                 flops=flops)  # fmt: skip
    out, logs = node.outputs
    last = made.join(head(out_place, "out", Var("head")), context.strides(logs))
    buffers = [
        Buffer("sums", made.code), Buffer("states", made.code),
        Buffer("out", out.dtype.code, True), Buffer("logs", made.code, True),
    ]  # fmt: skip
    kernel = Kernel(f"{context.title}_join", tuple(buffers), tuple(last), (), const(n * groups))
    return [first, Step(kernel, [sums, states, out, logs], parallel=False, flops=flops // 64)]


class _Few:
    """The kernels' statements. Row r is query r % length of head r // length of a group."""

    def __init__(self, node: Node, context: Context):
        q, k, v = node.values[:3]
        self.scale = node.op.scale  # type: ignore[attr-defined]
        self.code = node.outputs[1].dtype.code
        self.w = Writer(self.code)
        self.mask = Mask(node.values[3], context, self.code) if len(node.values) > 3 else None
        self.images, heads, self.length, self.width = q.shape
        self.groups, self.keys, self.depth = k.shape[1], k.shape[2], v.shape[3]
        self.members = heads // self.groups
        self.rows = self.members * self.length
        self.side_by_side = max(1, (host().registers // 2) // self.rows)  # keys at a time
        self.in_place = v.dtype.code == self.code and self.depth % self.w.lanes == 0
        wanted = -(-ENOUGH_CHUNKS // (self.images * self.groups))
        parts = max(1, min(wanted, MOST_PARTS, self.keys // PART))
        self.part = -(-self.keys // parts // KEYS) * KEYS
        self.parts = -(-self.keys // self.part)

    def each_row(self, *body: Stmt) -> Stmt:
        """The statements for each row, with its head and query named."""
        lets = (
            Let("head", Var("shared") * self.members + Var("row") // self.length),
            Let("query", Var("row") % self.length),
        )
        return Loop("row", ZERO, const(self.rows), (*lets, *body))

    def body(self, q: Matrix, k: Matrix, v: Matrix) -> list[Stmt]:
        w, code, rows = self.w, self.code, self.rows
        deep, block_key, here = w.padded(self.depth), Var("block_key"), Var("here")
        stop_key = minimum(const(self.keys), (Var("part") + 1) * self.part)
        row, j = Var("row"), Var("j")
        values = below(v, block_key)
        packed: list[Stmt] = []
        if not self.in_place:
            packed = [w.pack("values", values, here, self.depth)]
            values = w.block("values", deep)
        state = (Var("chunk") * rows + row) * 2
        return [
            Local("queries", code, rows * self.width),
            Local("scores", code, rows * (KEYS + SLACK)),
            Local("sums_here", code, (rows + SLACK) * deep),
            Local("maxima", code, rows),
            Local("totals", code, rows),
            Local("keeps", code, rows),
            *([] if self.in_place else [Local("values", code, KEYS * deep)]),
            w.fill("sums_here", rows * deep, 0.0),
            self.each_row(
                Store("maxima", row, Const(-math.inf, code)),
                Store("totals", row, Const(0.0, code)),
                Loop("j", ZERO, const(self.width), (
                    Store("queries", row * self.width + j,
                          s.cast(q.load(Var("query"), j), code) * (self.scale * LOG2_E)),
                ), "vector"),
            ),
            Loop("block_key", Var("part") * self.part, stop_key, (
                Let("here", minimum(stop_key - block_key, KEYS)),
                *packed,
                *self.scores(below(k, block_key)),
                self.each_row(*self.powers()),
                *w.product(
                    rows, deep, w.block("scores", KEYS + SLACK), values,
                    lambda row, height: (ZERO, here),
                    lambda i, j, value: Store("sums_here", i * deep + j, value),
                    lambda i, j: Load("sums_here", i * deep + j, code) * Load("keeps", i, code),
                ),
            ), step=KEYS),
            Loop("row", ZERO, const(rows), (
                Store("states", state, Load("maxima", row, code)),
                Store("states", state + 1, Load("totals", row, code)),
                Loop("j", ZERO, const(self.depth), (
                    Store("sums", (Var("chunk") * rows + row) * self.depth + j,
                          Load("sums_here", row * deep + j, code)),
                ), "vector"),
            )),
        ]  # fmt: skip

    def scores(self, k: Matrix) -> list[Stmt]:
        """scores[row, key]: a few keys and all rows at a time, sums of lanes in registers."""
        code, rows, together = self.code, self.rows, self.side_by_side
        row, u, e, key0 = Var("r"), Var("u"), Var("e"), Var("key0")
        # Past the last key the last one is read again.
        key = minimum(key0 + u, Var("here") - 1)
        query = Load("queries", row * self.width + e, code)
        product = s.cast(k.load(key, e), code) * query

        def nest(*body: Stmt) -> Loop:
            inner = Loop("r", ZERO, const(rows), body, "unroll")
            return Loop("u", ZERO, const(together), (inner,), "unroll")

        place = u * rows + row
        to = Store("scores", row * (KEYS + SLACK) + key0 + u, Load("acc", place, code))
        return [
            Loop("key0", ZERO, Var("here"), (
                Local("acc", code, together * rows),
                nest(Store("acc", place, Const(0.0, code))),
                Loop("e", ZERO, const(self.width), (nest(Reduce("add", "acc", place, product)),),
                     "vector"),
                nest(to),
            ), step=together),
        ]  # fmt: skip

    def powers(self) -> list[Stmt]:
        """Scores of a row become powers; its maximum, total and scale."""
        code, row, j = self.code, Var("row"), Var("j")
        at = row * (KEYS + SLACK) + j
        score: Expr = Load("scores", at, code)
        x, top = Var("x", code), Var("top", code)
        if self.mask is not None:
            number = self.mask.number(Var("query"), Var("block_key") + j)
            score = self.mask.apply(score, number)
        # max lets nan win: it then reaches the sums by way of the powers.
        return [
            Local("high", code, 1),
            Store("high", ZERO, Load("maxima", row, code)),
            Loop("j", ZERO, Var("here"), (
                Let("x", score),
                Store("scores", at, x),
                Reduce("max", "high", ZERO, x),
            ), "vector"),
            Let("top", Load("high", ZERO, code)),
            Let("shift", s.select(s.eq(top, -math.inf), s.const(0.0, code), top)),
            Local("added", code, 1),
            Store("added", ZERO, Const(0.0, code)),
            Loop("j", ZERO, Var("here"), (
                Let("x", exp2(Load("scores", at, code) - Var("shift", code))),
                Store("scores", at, x),
                Reduce("add", "added", ZERO, x),
            ), "vector"),
            Let("keep", exp2(Load("maxima", row, code) - Var("shift", code))),
            Store("keeps", row, Var("keep", code)),
            Store("maxima", row, top),
            Store("totals", row, Load("totals", row, code) * Var("keep", code)
                  + Load("added", ZERO, code)),
        ]  # fmt: skip

    def join(self, out: Matrix, logs_steps: tuple[int, ...]) -> list[Stmt]:
        """out and logs from the ranges of keys, added in order."""
        code, rows, depth = self.code, self.rows, self.depth
        row, part, j = Var("row"), Var("part"), Var("j")
        place = (Var("chunk") * self.parts + part) * rows + row
        top, total = Var("top", code), Var("total", code)
        maximum = Load("states", place * 2, code)
        shift = s.select(s.eq(top, -math.inf), s.const(0.0, code), top)
        divisor = s.select(s.eq(total, 0.0), s.const(1.0, code), total)
        at_logs = (
            Var("image") * logs_steps[0]
            + Var("head") * logs_steps[1]
            + Var("query") * logs_steps[2]
        )
        log = Log().scalar(s, divisor) + top * (1 / LOG2_E)

        def parts(*body: Stmt) -> Loop:
            return Loop("part", ZERO, const(self.parts), body)

        return [
            Let("image", Var("chunk") // self.groups),
            Let("shared", Var("chunk") % self.groups),
            self.each_row(
                Local("high", code, 1),
                Store("high", ZERO, Const(-math.inf, code)),
                parts(Store("high", ZERO, Call("max", (maximum, Load("high", ZERO, code)), code))),
                Let("top", Load("high", ZERO, code)),
                Local("row_sums", code, depth),
                self.w.fill("row_sums", depth, 0.0),
                Local("sum", code, 1),
                Store("sum", ZERO, Const(0.0, code)),
                parts(
                    Let("weight", exp2(maximum - shift)),
                    Store("sum", ZERO, Load("sum", ZERO, code)
                          + Load("states", place * 2 + 1, code) * Var("weight", code)),
                    Loop("j", ZERO, const(depth), (
                        Store("row_sums", j, Load("row_sums", j, code)
                              + Load("sums", place * depth + j, code) * Var("weight", code)),
                    ), "vector"),
                ),
                Let("total", Load("sum", ZERO, code)),
                Let("divisor", divisor),
                Loop("j", ZERO, const(depth), (
                    Store("out", out.at(Var("query"), j), s.cast(
                        Load("row_sums", j, code) / Var("divisor", code), out.code)),
                ), "vector"),
                Store("logs", at_logs, s.select(
                    s.eq(total, 0.0), s.const(-math.inf, code), log)),
            ),
        ]  # fmt: skip
