"""Attention in blocks of queries and keys that stay in the nearest caches.

A chunk is some panels of queries of one head; lanes run along the queries of a panel, so that
maximum, sum and rescaling of a row need no work across lanes. Keys and values come in blocks; the
maximum and the sum of each query are kept up to date (online softmax), so the score matrix never
exists. For a block and a panel, transposed throughout:

    scores[key, query] = block of keys x turned queries        (queries hold scale / ln 2)
    top, shift, keep   = maxima, and what sums so far are multiplied by
    scores             = 2 ** (scores - shift)
    sums[d, query]     = sums * keep + block of values' x scores

Source: Dao and others, "FlashAttention", 2022; Milakov and Gimelshein, "Online normalizer
calculation for softmax", 2018. Few queries: attention_few.py. The gradient: attention_grad.py.
"""

from __future__ import annotations

import math

from ...codegen.target import host
from ...core.symbolic import hint, is_symbolic
from ...ir.graph import Node, Value
from ...kernel import scalar as s
from ...kernel.ir import (
    Buffer,
    Call,
    Const,
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
)  # fmt: skip
from ...ops.exponential import Log
from ..steps import Context, Scratch, Step, lowers
from .attention_few import are_few, lower_few
from .attention_tiles import (
    LOG2_E,
    SLACK,
    ZERO,
    Begin,
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

PANELS = 8  # of a chunk, at most
ENOUGH_CHUNKS = 32
# Blocks of keys, values, queries and sums of a chunk together.
BLOCK_BYTES = 256 << 10
TURN = 4  # rows of scores whose maxima run side by side
LARGEST_HEAD = 512


def sizes_fit(*sizes: int) -> bool:
    return all(0 < n <= LARGEST_HEAD for n in sizes)


def panel_width(code: str, length: int) -> int:
    """Queries whose scores a tile holds in vectors; not the usual number where that saves 10%."""
    target = host()
    lanes = target.lanes(8 if code == "f64" else 4)
    usual = 4 if target.vector_bytes == 16 and target.registers == 32 else 2
    if is_symbolic(length) or target.registers < 32:  # wider ones leave no registers
        return usual * lanes

    def cost(vectors: int) -> float:
        return -(-length // (vectors * lanes)) * vectors * (1 if vectors == usual else 1.1)

    return min(range(2, 6), key=cost) * lanes


@lowers("attention")
def lower_attention(node: Node, context: Context) -> list[Step] | None:
    """out (N, H, L, V) and logs (N, H, L)."""
    q, k, v = node.values[:3]
    out, logs = node.outputs
    n, heads, length, width = q.shape
    keys, depth = k.shape[2], v.shape[3]
    if not sizes_fit(width, depth) or 0 in (n, heads, length, keys):
        return None
    out_place = (out, context.strides(out), 0)
    if depth > 1 and out_place[1][3] != 1:
        return None
    where, copies = located(context, q, k, v)
    if are_few(node):
        return copies + lower_few(node, context, where, out_place)
    made = _Forward(node, context)
    lets = [
        Let("image", Var("chunk") // (heads * made.row_blocks)),
        Let("head", (Var("chunk") // made.row_blocks) % heads),
        Let("first", (Var("chunk") % made.row_blocks) * made.rows),
    ]
    shared = Var("head") // (heads // k.shape[1])
    fixed = not (is_symbolic(length) or is_symbolic(keys))
    if fixed and made.row_blocks == 1 and heads == k.shape[1]:
        made.following = next_heads(where, "qkv", heads)
    body = made.body(
        head(where[0], "q", Var("head")), head(where[1], "k", shared),
        head(where[2], "v", shared), head(out_place, "out", Var("head")),
    )  # fmt: skip
    buffers = [Buffer(name, x.dtype.code) for name, x in zip("qkv", (q, k, v))]
    values: list[Value | Scratch] = [at[0] for at in where]
    if made.mask is not None:
        buffers.append(Buffer("mask", made.mask.dtype))
        values.append(made.mask.base)
    buffers += [Buffer("out", out.dtype.code, True), Buffer("logs", made.code, True)]
    values += [out, logs]
    grid = const(n * heads * made.row_blocks)
    kernel = Kernel(context.title, tuple(buffers), (*lets, *body), (), grid)
    flops = 2 * n * heads * length * keys * (width + depth) // (2 if made.causal else 1)
    return [*copies, Step(kernel, values, parallel=hint(flops) > 100_000, flops=flops)]


class _Forward:
    """The kernel's statements."""

    def __init__(self, node: Node, context: Context):
        q, k, v = node.values[:3]
        self.causal, self.scale = node.op.causal, node.op.scale  # type: ignore[attr-defined]
        self.logs = node.outputs[1]
        self.code = self.logs.dtype.code
        self.w = Writer(self.code)
        self.mask = Mask(node.values[3], context, self.code) if len(node.values) > 3 else None
        self.logs_steps = context.strides(self.logs)
        n, heads, self.length, self.width = q.shape
        self.keys, self.depth = k.shape[2], v.shape[3]
        self.block_keys = block_size(self.keys, TURN)
        self.panel = panel_width(self.code, self.length)
        each = self.panel * (self.width + self.depth) * (8 if self.code == "f64" else 4)
        length, images = hint(self.length), hint(n * heads)
        panels = min(-(-length // self.panel), PANELS, max(1, BLOCK_BYTES // 2 // each))
        while panels > 1 and images * -(-length // (panels * self.panel)) < ENOUGH_CHUNKS:
            panels -= 1
        self.panels = panels
        self.rows = panels * self.panel
        self.row_blocks = -(-self.length // self.rows)
        self.following: list[Matrix] = []  # what the next chunk reads
        self.turned_mask = (
            self.mask is not None and self.mask.steps[2] != 0 and self.mask.shape[2] > 1
        )

    def body(self, q: Matrix, k: Matrix, v: Matrix, out: Matrix) -> list[Stmt]:
        w, code, panel = self.w, self.code, self.panel
        first = Var("first")
        stop_key: Expr = const(self.keys)
        if self.causal:
            stop_key = minimum(first + self.rows, self.keys)
        panels: Expr = const(self.panels)
        if self.length % self.rows:
            panels = minimum((const(self.length + panel - 1) - first) // panel, self.panels)
        turn = w.turn(
            "queries", Var("panel") * (panel * self.width), below(q, Var("here_first")),
            const(self.length - 1) - Var("here_first"), self.width, panel, self.scale * LOG2_E,
        )  # fmt: skip
        here_first = Let("here_first", first + Var("panel") * panel)
        block_key = Var("block_key")
        more = (
            [Local("mask_block", code, (self.block_keys + SLACK) * panel)]
            if self.turned_mask
            else []
        )
        return [
            Local("queries", code, self.panels * panel * self.width),
            Local("keys", code, (self.block_keys + SLACK) * w.padded(self.width)),
            Local("values", code, self.block_keys * w.padded(self.depth)),
            Local("scores", code, (self.block_keys + SLACK) * panel),
            Local("sums", code, self.panels * panel * self.depth),
            Local("maxima", code, self.rows),
            Local("totals", code, self.rows),
            Local("shifts", code, panel),
            Local("keeps", code, panel),
            *more,
            w.fill("maxima", self.rows, -math.inf),
            w.fill("totals", self.rows, 0.0),
            w.fill("sums", panels * (panel * self.depth), 0.0),
            Let("panels", panels),
            Loop("panel", ZERO, Var("panels"), (here_first, *turn)),
            Loop("block_key", ZERO, stop_key, (
                Let("here", minimum(stop_key - block_key, self.block_keys)),
                w.pack("keys", below(k, block_key), Var("here"), self.width),
                w.pack("values", below(v, block_key), Var("here"), self.depth),
                Loop("panel", self.first_panel(), Var("panels"), tuple(self.block())),
            ), step=self.block_keys),
            Loop("panel", ZERO, Var("panels"), (here_first, *self.finish(out))),
        ]  # fmt: skip

    def asks(self) -> tuple[Begin | None, Begin | None]:
        """Tiles of the two products ask for what the next chunk reads."""
        each, odd = divmod(self.block_keys, self.panel)
        if not self.following or odd or (self.causal and self.keys > self.length):
            return None, None
        number, panel = Var("block_key") / self.block_keys, Var("panel")
        blocks = -(-self.keys // self.block_keys)
        parts, part = blocks * self.panels, number * self.panels + panel
        if self.causal:  # a block starts with the panel of its first query
            parts -= each * blocks * (blocks - 1) // 2
            part -= each * (number * (number + 1) / 2)
        q, k, v = self.following
        scores, sums = (self.block_keys, self.panel), (self.depth, self.panel)
        ask_q = asking(q, (self.length, self.width), part, parts, scores)
        ask_k = asking(k, (self.keys, self.width), part, parts, scores)
        ask_v = asking(v, (self.keys, self.depth), part, parts, sums)
        return (lambda *tile: (*ask_q(*tile), *ask_k(*tile))), ask_v

    def first_panel(self) -> Expr:
        """The first panel with a query that sees a key of the block."""
        if not self.causal:
            return ZERO
        return maximum(Var("block_key") - Var("first"), 0) // self.panel

    def block(self) -> list[Stmt]:
        """One block of keys, one panel of queries."""
        w, code, panel = self.w, self.code, self.panel
        here: Expr = Var("here")
        if self.causal:  # keys after the panel's last query take no part
            last = Var("first") + (Var("panel") + 1) * panel
            here = minimum(here, last - Var("block_key"))
        queries = Var("panel") * (panel * self.width)
        sums = Var("panel") * (panel * self.depth)
        padded_width, padded_depth = w.padded(self.width), w.padded(self.depth)
        i, j = Var("i"), Var("j")
        at = j * panel + i
        p = Var("p", code)
        power = exp2(Load("scores", at, code) - Load("shifts", i, code))
        state = Var("panel") * panel + i
        ask_scores, ask_sums = self.asks()
        return [
            Let("seen", here),
            Let("query0", Var("first") + Var("panel") * panel),
            *w.product(
                self.block_keys, panel,
                w.block("keys", padded_width),
                Matrix("queries", code, lambda e, lane: queries + e * panel + lane),
                lambda row, height: (ZERO, const(self.width)),
                lambda row, lane, value: Store("scores", row * panel + lane, value),
                stop=Var("seen"), ask=ask_scores,
            ),
            Local("highs", code, TURN * panel),
            w.fill("highs", TURN * panel, -math.inf),
            *self.maxima(),
            Loop("i", ZERO, const(panel), tuple(self.shift(state)), "vector"),
            Local("added", code, panel),
            w.fill("added", panel, 0.0),
            Loop("j", ZERO, Var("seen"), (
                Loop("i", ZERO, const(panel), (
                    Let("p", power),
                    Store("scores", at, p),
                    Reduce("add", "added", i, p),
                ), "vector"),
            )),
            Loop("i", ZERO, const(panel), (
                Store("totals", state, Load("totals", state, code) * Load("keeps", i, code)
                      + Load("added", i, code)),
            ), "vector"),
            *w.product(
                self.depth, panel,
                Matrix("values", code, lambda d, key: key * padded_depth + d),
                w.block("scores", panel),
                lambda row, height: (ZERO, Var("seen")),
                lambda d, lane, value: Store("sums", sums + d * panel + lane, value),
                lambda d, lane: Load("sums", sums + d * panel + lane, code)
                * Load("keeps", lane, code),
                ask=ask_sums,
            ),
        ]  # fmt: skip

    def maxima(self) -> list[Stmt]:
        """The largest score of each query, in TURN parts; hidden keys' scores become -inf."""
        code, panel = self.code, self.panel
        i, j, u = Var("i"), Var("j"), Var("u")
        row, at = j + u, (j + u) * panel + i
        high = Load("highs", u * panel + i, code)
        x = Var("x", code)

        def rows(*start: Stmt) -> Loop:
            # nan is not larger: it reaches the result by way of the powers.
            keep = Store("highs", u * panel + i, s.select(x > high, x, high))
            lanes = Loop("i", ZERO, const(panel), (*start, keep), "vector")
            across = Loop("u", ZERO, const(TURN), (lanes,), "unroll")
            return Loop("j", ZERO, Var("seen"), (across,), step=TURN)

        plain = rows(Let("x", Load("scores", at, code)))
        key, query = Var("block_key") + row, Var("query0") + i
        score: Expr = Load("scores", at, code)
        before: list[Stmt] = []
        if self.mask is not None:
            if self.turned_mask:
                before = self.turn_mask()
                number: Expr = Load("mask_block", at, code)
            else:
                number = self.mask.number(ZERO, minimum(key, self.keys - 1))
            score = self.mask.apply(score, number)
        lowest = Const(-math.inf, code)
        score = s.select(row < Var("seen"), score, lowest)
        if self.causal:
            score = s.select(key <= query, score, lowest)
        hidden = rows(Let("x", score), Store("scores", at, x))
        if self.mask is not None:
            return [*before, hidden]
        whole = s.eq(Var("seen") % TURN, 0)
        if self.causal:
            visible = Var("block_key") + Var("seen") <= Var("query0") + 1
            whole = Call("and", (whole, visible), "bool")
        elif self.keys % TURN == 0:
            return [plain]
        return [If(whole, (plain,), (hidden,))]

    def turn_mask(self) -> list[Stmt]:
        """mask_block[key, query] = the mask's numbers: lanes along the keys, then transposed."""
        assert self.mask is not None
        i, j = Var("u"), Var("j")
        query = minimum(Var("query0") + Var("i0") + i, self.length - 1)
        number = self.mask.number(query, Var("block_key") + j)
        store = Store("mask_block", j * self.panel + (Var("i0") + i), number)
        across = Loop("u", ZERO, const(self.w.lanes), (store,), "unroll")
        lanes = Loop("j", ZERO, Var("seen"), (across,), "vector")
        return [Loop("i0", ZERO, const(self.panel), (lanes,), step=self.w.lanes)]

    def shift(self, state: Expr) -> list[Stmt]:
        """New maxima; what is taken from scores before powers, what sums so far are scaled by."""
        code, panel, i = self.code, self.panel, Var("i")
        top: Expr = Load("maxima", state, code)
        before = top
        for u in range(TURN):
            x = Load("highs", const(u * panel) + i, code)
            top = s.select(x > top, x, top)
        # A query that has seen no key has maximum -inf: subtract 0 there, not -inf.
        finite = s.select(s.eq(Var("top", code), -math.inf), s.const(0.0, code), Var("top", code))
        return [
            Let("before", before),
            Let("top", top),
            Let("shift", finite),
            Store("shifts", i, Var("shift", code)),
            Store("keeps", i, exp2(Var("before", code) - Var("shift", code))),
            Store("maxima", state, Var("top", code)),
        ]

    def finish(self, out: Matrix) -> list[Stmt]:
        """out and logs of a panel."""
        w, code, panel, depth = self.w, self.code, self.panel, self.depth
        i, j, lane = Var("i"), Var("j"), Var("lane")
        here_first = Var("here_first")
        state = Var("panel") * panel + lane
        total = Load("totals", state, code)
        divisor = s.select(s.eq(total, 0.0), s.const(1.0, code), total)
        steps = self.logs_steps
        at_logs = Var("image") * steps[0] + Var("head") * steps[1] + (here_first + lane) * steps[2]
        log = Log().scalar(s, divisor) + Load("maxima", state, code) * (1 / LOG2_E)
        rows = minimum(const(self.length) - here_first, panel)
        value = Load("rows", i * depth + j, code)
        return [
            Local("rows", code, panel * depth),
            Local("inverses", code, panel),
            Loop("lane", ZERO, const(panel), (
                Store("inverses", lane, s.const(1.0, code) / divisor),
            ), "vector"),
            *w.turn_back("rows", "sums", Var("panel") * (panel * depth), depth, panel,
                         Load("inverses", lane, code)),
            Loop("i", ZERO, rows, (
                Loop("j", ZERO, const(depth), (
                    Store("out", out.at(here_first + i, j), s.cast(value, out.code)),
                ), "vector"),
            )),
            Loop("lane", ZERO, rows, (
                Store("logs", at_logs, s.select(s.eq(total, 0.0), s.const(-math.inf, code), log)),
            ), "vector"),
        ]  # fmt: skip
