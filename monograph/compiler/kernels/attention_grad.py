"""Gradients of attention for queries, keys and values, in blocks that stay in the nearest caches.

A chunk is a range of keys of one head; lanes run along keys. For a block of keys and a block of
queries the probabilities are made again from the rows' logarithms:

    p[query, key]     = 2 ** (queries x turned keys - log)     (queries hold scale / ln 2)
    slope[query, key] = p * (g x turned values - dot)          dot: the row's product of g and out
    gv[key]   += p' x g
    gk[key]   += slope' x queries * ln 2
    gq[query] += slope x keys * scale

The sums over the keys, gq, stand in memory: one for each range of keys, added up in order. Blocks
and products: attention_tiles.py.
Source: Dao and others, "FlashAttention", 2022.
"""

from __future__ import annotations

import math

from ...core.symbolic import hint, is_symbolic
from ...ir.graph import Node, Value
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
)  # fmt: skip
from ..steps import Context, Scratch, Step, lowers
from .attention import sizes_fit
from .attention_tiles import (
    LOG2_E,
    SLACK,
    ZERO,
    Begin,
    Depth,
    Mask,
    Matrix,
    Writer,
    asking,
    below,
    block_size,
    const,
    exp2,
    head,
    located,
    maximum,
    minimum,
    next_heads,
)

ENOUGH_CHUNKS = 16
MOST_ROWS = 1 << 17  # queries whose logarithms and dots fit on a thread's stack


@lowers("attention_grad")
def lower_attention_grad(node: Node, context: Context) -> list[Step] | None:
    """gq, gk and gv."""
    g, q, k, v = node.values[:4]
    out, logs = node.values[-2:]
    gq, gk, gv = node.outputs
    n, heads, length, width = q.shape
    keys, depth = k.shape[2], v.shape[3]
    if not sizes_fit(width, depth) or 0 in (n, heads, length, keys):
        return None
    results = [(x, context.strides(x), 0) for x in (gq, gk, gv)]
    if any(x.shape[3] > 1 and steps[3] != 1 for x, steps, _ in results):
        return None
    made = _Backward(node, context)
    if made.room > MOST_ROWS:
        return None
    where, copies = located(context, g, q, k, v, out)
    code = made.code
    number, shared = Var("head"), Var("shared")
    if made.parts > 1 or gq.dtype.code != code:
        sums: Value | Scratch = Scratch(code, made.parts * n * heads * length * width)
        rows = ((Var("part") * n + Var("image")) * heads + number) * length
        sum_q = Matrix("gq", code, lambda i, j: (rows + i) * width + j)
    else:
        sums, sum_q = gq, head(results[0], "gq", number)
    numbers = (number, number, shared, shared, number)
    inputs = [head(at, name, h) for at, name, h in zip(where, ("g", "q", "k", "v", "out"), numbers)]
    if made.parts == made.shared == 1:
        made.following = next_heads(where, ("g", "q", "k", "v", "out"), heads)
    made_gk, made_gv = head(results[1], "gk", shared), head(results[2], "gv", shared)
    body = made.body(inputs, sum_q, made_gk, made_gv)
    groups = heads // made.shared
    lets = [
        Let("image", Var("chunk") // (groups * made.parts)),
        Let("shared", (Var("chunk") // made.parts) % groups),
        Let("part", Var("chunk") % made.parts),
    ]
    names = ("g", "q", "k", "v", "out", "logs")
    buffers = [Buffer(name, x.dtype.code) for name, x in zip(names, (g, q, k, v, out, logs))]
    values: list[Value | Scratch] = [*(at[0] for at in where), made.logs[0]]
    if made.mask is not None:
        buffers.append(Buffer("mask", made.mask.dtype))
        values.append(made.mask.base)
    buffers.append(Buffer("gq", code, True))
    buffers += [Buffer("gk", gk.dtype.code, True), Buffer("gv", gv.dtype.code, True)]
    values += [sums, gk, gv]
    grid = const(n * groups * made.parts)
    kernel = Kernel(context.title, tuple(buffers), (*lets, *body), (), grid)
    flops = 2 * n * heads * length * keys * (3 * width + 2 * depth) // (2 if made.causal else 1)
    steps = [*copies, Step(kernel, values, parallel=hint(flops) > 100_000, flops=flops)]
    if isinstance(sums, Scratch):
        steps.append(_sum_parts(sums, results[0], made.parts, context))
    return steps


def _sum_parts(
    sums: Scratch, result: tuple[Value, tuple[int, ...], int], parts: int, context: Context
) -> Step:
    """gq = the sum of the parts, in order."""
    gq, code = result[0], sums.dtype
    n, heads, length, width = gq.shape
    i, j = Var("i"), Var("j")
    at = Var("chunk") * (length * width) + i * width + j
    total: Expr = Load("parts", at, code)
    for part in range(1, parts):
        total = total + Load("parts", at + part * (n * heads * length * width), code)
    place = head(result, "gq", Var("head")).at(i, j)
    body: tuple[Stmt, ...] = (
        Let("image", Var("chunk") // heads),
        Let("head", Var("chunk") % heads),
        Loop("i", ZERO, const(length), (
            Loop("j", ZERO, const(width), (
                Store("gq", place, s.cast(total, gq.dtype.code)),
            ), "vector"),
        )),
    )  # fmt: skip
    buffers = (Buffer("parts", code), Buffer("gq", gq.dtype.code, True))
    kernel = Kernel(f"{context.title}_sum", buffers, body, (), const(n * heads))
    work = parts * n * heads * length * width
    return Step(kernel, [sums, gq], parallel=hint(work) > 65536, flops=work)


class _Backward:
    """The kernel's statements."""

    def __init__(self, node: Node, context: Context):
        q, k, v = node.values[1:4]
        self.causal, self.scale = node.op.causal, node.op.scale  # type: ignore[attr-defined]
        assert context.locate is not None
        self.logs = context.locate(node.values[-1])
        self.code = node.values[-1].dtype.code
        self.w = Writer(self.code)
        self.mask = Mask(node.values[4], context, self.code) if len(node.values) > 6 else None
        n, self.heads, self.length, self.width = q.shape
        self.keys, self.depth = k.shape[2], v.shape[3]
        self.shared = self.heads // k.shape[1]  # heads that read the same keys
        self.block_rows = block_size(self.length, 1)
        self.block_keys = block_size(self.keys, self.w.lanes)
        blocks = -(-self.keys // self.block_keys)
        parts = min(hint(blocks), -(-ENOUGH_CHUNKS // hint(n * k.shape[1])))
        self.part = -(-blocks // parts) * self.block_keys
        self.parts = parts if is_symbolic(blocks) else -(-self.keys // self.part)
        self.following: list[Matrix] = []  # what the next chunk reads
        # Queries whose logarithms and dots a chunk keeps; at run-time sizes some times as many.
        self.room = rows = self.shared * self.length
        if is_symbolic(rows):
            self.room = max(4096, min(MOST_ROWS, 1 << (4 * hint(rows)).bit_length()))
            if rows > self.room:  # a guard
                self.room = MOST_ROWS + 1

    def body(self, inputs: list[Matrix], sum_q: Matrix, gk: Matrix, gv: Matrix) -> list[Stmt]:
        g, q, k, v, out = inputs
        w, code, width, depth = self.w, self.code, self.width, self.depth
        wide, deep = w.padded(width), w.padded(depth)
        block_key, here, first = Var("block_key"), Var("here"), Var("first")
        stop_key: Expr = const(self.keys)
        if self.parts > 1:
            stop_key = minimum(stop_key, Var("part") * self.part + self.part)
        last = here - 1
        i, j = Var("i"), Var("j")
        queries = Loop("first", block_key if self.causal else ZERO, const(self.length), (
            Let("rows", minimum(const(self.length) - first, self.block_rows)),
            *self.block(below(q, first), below(g, first), below(sum_q, first)),
        ), step=self.block_rows)  # fmt: skip
        return [
            Local("dots", code, self.room),
            Local("bits", code, self.room),
            Local("turned_keys", code, width * self.block_keys),
            Local("turned_values", code, depth * self.block_keys),
            Local("keys", code, self.block_keys * wide),
            Local("queries", code, (self.block_rows + SLACK) * wide),
            Local("slopes_out", code, (self.block_rows + SLACK) * deep),
            Local("p", code, (self.block_rows + SLACK) * self.block_keys),
            Local("slope", code, (self.block_rows + SLACK) * self.block_keys),
            Local("sum_v", code, (self.block_keys + SLACK) * deep),
            Local("sum_k", code, (self.block_keys + SLACK) * wide),
            Local("sum_q", code, (self.block_rows + SLACK) * wide),
            self.each_head(*self.rows(g, out, sum_q)),
            Loop("block_key", Var("part") * self.part, stop_key, (
                Let("here", minimum(stop_key - block_key, self.block_keys)),
                *w.turn("turned_keys", ZERO, below(k, block_key), last, width, self.block_keys),
                *w.turn("turned_values", ZERO, below(v, block_key), last, depth, self.block_keys),
                w.pack("keys", below(k, block_key), here, width, self.scale),
                w.fill("sum_v", self.block_keys * deep, 0.0),
                w.fill("sum_k", self.block_keys * wide, 0.0),
                self.each_head(queries),
                Loop("i", ZERO, here, (
                    Loop("j", ZERO, const(depth), (
                        Store("gv", gv.at(block_key + i, j),
                              s.cast(Load("sum_v", i * deep + j, code), gv.code)),
                    ), "vector"),
                    Loop("j", ZERO, const(width), (
                        Store("gk", gk.at(block_key + i, j),
                              s.cast(Load("sum_k", i * wide + j, code) * (1 / LOG2_E), gk.code)),
                    ), "vector"),
                )),
            ), step=self.block_keys),
        ]  # fmt: skip

    def each_head(self, *body: Stmt) -> Stmt:
        """The statements for each head that reads the chunk's keys."""
        number = Let("head", Var("shared") * self.shared + Var("member"))
        row0 = Let("row0", Var("member") * self.length)
        return Loop("member", ZERO, const(self.shared), (number, row0, *body))

    def rows(self, g: Matrix, out: Matrix, sum_q: Matrix) -> list[Stmt]:
        """dots, and the logarithms in units of ln 2, of all queries; their gradients set to 0."""
        code, i, j = self.code, Var("i"), Var("j")
        _, steps, offset = self.logs
        at = Var("image") * steps[0] + Var("head") * steps[1] + offset + i * steps[2]
        log = Load("logs", at, code)
        # A query that sees no key: 2 ** (score - infinity) is 0.
        shift = s.select(s.eq(log, -math.inf), s.const(math.inf, code), log * LOG2_E)
        product = s.cast(g.load(i, j), code) * s.cast(out.load(i, j), code)
        return [
            Loop("i", ZERO, const(self.length), (
                Local("dot", code, 1),
                Store("dot", ZERO, Const(0.0, code)),
                Loop("j", ZERO, const(self.depth), (Reduce("add", "dot", ZERO, product),),
                     "vector"),
                Store("dots", Var("row0") + i, Load("dot", ZERO, code)),
                Store("bits", Var("row0") + i, shift),
                Loop("j", ZERO, const(self.width), (
                    Store(sum_q.buffer, sum_q.at(i, j), Const(0.0, code)),
                ), "vector"),
            )),
        ]  # fmt: skip

    def block(self, q: Matrix, g: Matrix, sum_q: Matrix) -> list[Stmt]:
        """One block of keys, one block of queries."""
        w, code, width, depth = self.w, self.code, self.width, self.depth
        wide, deep = w.padded(width), w.padded(depth)
        rows, here = Var("rows"), Var("here")
        most_rows, most_keys = self.block_rows, self.block_keys
        queries, slopes_out = w.block("queries", wide), w.block("slopes_out", deep)
        stop_row = rows if self.length % most_rows or self.causal else None
        stop_key = here if self.keys % most_keys else None
        # Causal: query i of the block sees keys up to i + ahead.
        ahead = Var("first") - Var("block_key")
        first_row = None
        if self.causal:
            first_row = lambda column: maximum(column - ahead, 0)  # noqa: E731

        def queries_of(key: Expr, height: int) -> tuple[Expr, Expr]:
            return (maximum(key - ahead, 0) if self.causal else ZERO), rows

        def keys_of(query: Expr, height: int) -> tuple[Expr, Expr]:
            return ZERO, (minimum(here, query + height + ahead) if self.causal else here)

        query_block, key_block = Var("first") / most_rows, Var("block_key") / most_keys

        def asks(number: int, *of: int) -> Begin | None:
            """Tiles of a product ask for the next chunk's operand of this number."""
            if not self.following or is_symbolic(self.length) or is_symbolic(self.keys):
                return None
            blocks = -(-self.length // most_rows)
            parts, part = blocks * -(-self.keys // most_keys), key_block * blocks + query_block
            if self.causal:  # a triangle of blocks
                parts = blocks * (blocks + 1) // 2
                part = query_block * (query_block + 1) / 2 + key_block
            rows = self.keys if number in (2, 3) else self.length
            size = depth if number in (0, 3, 4) else width
            return asking(self.following[number], (rows, size), part, parts, of)

        def scores(name: str, a: Matrix, b: str, size: int, number: int) -> list[Stmt]:
            return w.product(
                most_rows, most_keys, a, w.block(b, most_keys),
                lambda row, height: (ZERO, const(size)),
                lambda i, j, value: Store(name, i * most_keys + j, value),
                start=first_row, stop=stop_row, stop_column=stop_key,
                ask=asks(number, most_rows, most_keys),
            )  # fmt: skip

        def sums(name: str, a: str, b: Matrix, size: int, number: int) -> list[Stmt]:
            turned = Matrix(a, code, lambda key, query: query * most_keys + key)
            return w.product(
                most_keys, size, turned, b, queries_of,
                lambda i, j, value: Store(name, i * size + j, value),
                lambda i, j: Load(name, i * size + j, code),
                stop=stop_key, ask=asks(number, most_keys, size),
            )  # fmt: skip

        return [
            w.pack("queries", q, rows, width, self.scale * LOG2_E),
            w.pack("slopes_out", g, rows, depth),
            *scores("p", queries, "turned_keys", width, 0),
            *scores("slope", slopes_out, "turned_values", depth, 1),
            Loop("i", ZERO, rows, tuple(self.slopes())),
            *sums("sum_v", "p", slopes_out, deep, 2),
            *sums("sum_k", "slope", queries, wide, 3),
            *self.add_to(sum_q, keys_of, asks(4, most_rows, wide)),
        ]  # fmt: skip

    def add_to(self, sum_q: Matrix, keys_of: Depth, ask: Begin | None) -> list[Stmt]:
        """Add a block's share to the gradient of its queries."""
        w, code, width, i, j = self.w, self.code, self.width, Var("i"), Var("j")
        wide, rows = w.padded(width), self.block_rows
        slope, keys = w.block("slope", self.block_keys), w.block("keys", wide)
        # Blocks of queries begin with those of keys where these hide earlier ones.
        even = self.length % rows == 0 and (not self.causal or self.block_keys % rows == 0)
        if width == wide and even:  # no tile is larger than what is there
            return w.product(
                rows, wide, slope, keys, keys_of,
                lambda i, j, value: Store(sum_q.buffer, sum_q.at(i, j), value), sum_q.load, ask=ask,
            )  # fmt: skip
        share = Load("sum_q", i * wide + j, code)
        return [
            *w.product(
                rows, wide, slope, keys, keys_of,
                lambda i, j, value: Store("sum_q", i * wide + j, value), stop=Var("rows"), ask=ask,
            ),
            Loop("i", ZERO, Var("rows"), (
                Loop("j", ZERO, const(width), (
                    Store(sum_q.buffer, sum_q.at(i, j), sum_q.load(i, j) + share),
                ), "vector"),
            )),
        ]  # fmt: skip

    def slopes(self) -> list[Stmt]:
        """p and slope of row i, 0 where a key takes no part."""
        code, i, j = self.code, Var("i"), Var("j")
        at = i * self.block_keys + j
        row, key = Var("first") + i, Var("block_key") + j
        score: Expr = Load("p", at, code)
        if self.mask is not None:
            inside = j < Var("here") if self.keys % self.block_keys else None
            score = self.mask.apply(score, self.mask.number(row, key, inside))
        power = exp2(score - Var("bit", code))
        rest = Load("slope", at, code) - Var("dot", code)
        p: Expr = Var("power", code)
        slope = p * rest
        zero = Const(0.0, code)
        if self.keys % self.block_keys:
            p, slope = (s.select(j < Var("here"), x, zero) for x in (p, slope))
        if self.causal:
            p, slope = (s.select(key <= row, x, zero) for x in (p, slope))
        return [
            Let("bit", Load("bits", Var("row0") + row, code)),
            Let("dot", Load("dots", Var("row0") + row, code)),
            Loop("j", ZERO, const(self.block_keys), (
                Let("power", power),
                Store("slope", at, slope),
                Store("p", at, p),
            ), "vector"),
        ]  # fmt: skip
