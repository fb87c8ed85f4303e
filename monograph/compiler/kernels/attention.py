"""Attention and its gradient in blocks of queries and keys that stay in the nearest caches.

Forward, for ROWS queries at a time: keys come in blocks; scores, maximum and sum of the rows are
kept up to date (online softmax), so the score matrix never exists. Backward, for all queries and
keys of one head: each block of probabilities is made again from the rows' logarithms.
Source: Dao and others, "FlashAttention", 2022; Milakov and Gimelshein, "Online normalizer
calculation for softmax", 2018.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

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
from ...ops.exponential import Exp, Log
from ..steps import Context, Step, lowers
from .conv import choose_tile

ROWS = 64
KEYS = 64


def const(n: int) -> Const:
    return Const(n, "i64")


At = Callable[[Expr, Expr], Expr]


@dataclass
class Matrix:
    """Element (i, j) of a buffer, at `at(i, j)`."""

    buffer: str
    at: At

    def load(self, i: Expr, j: Expr, code: str) -> Load:
        return Load(self.buffer, self.at(i, j), code)


def local(name: str, width: int) -> Matrix:
    return Matrix(name, lambda i, j: i * width + j)


class Writer:
    """Loops of one attention kernel; names of loop variables are made unique."""

    def __init__(self, code: str):
        self.code = code
        self.count = 0

    def name(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def product(
        self, out: Matrix, rows: int, columns: int, depth: Expr, a: At, a_buffer: str, b: Matrix,
        add: bool, factor: float = 1.0, row_limit: Expr | None = None,
    ) -> list[Stmt]:  # fmt: skip
        """out[rows, columns] (+)= factor * sum over k < depth of a(i, k) * b(k, j)."""
        code = self.code
        tile = choose_tile(rows, columns, code)
        height = tile.rows if rows % tile.rows == 0 else math.gcd(rows, tile.rows) or 1
        width = tile.columns if columns % tile.columns == 0 else columns
        acc, i0, j0, r, j, k = (self.name(x) for x in ("acc", "i", "j", "r", "l", "k"))
        i, col = Var(i0) + Var(r), Var(j0) + Var(j)
        place = Var(r) * width + Var(j)
        multiply = Load(a_buffer, a(i, Var(k)), code) * b.load(Var(k), col, code)
        value: Expr = Load(acc, place, code)
        if factor != 1.0:
            value = value * factor
        target = out.at(i, col)
        if add:
            value = Load(out.buffer, target, code) + value

        def nest(*body: Stmt) -> Loop:
            lanes = Loop(j, const(0), const(width), body, "vector")
            return Loop(r, const(0), const(height), (lanes,), "unroll")

        stop = const(rows) if row_limit is None else row_limit
        return [
            Loop(j0, const(0), const(columns), (
                Loop(i0, const(0), stop, (
                    Local(acc, code, height * width),
                    nest(Store(acc, place, Const(0.0, code))),
                    Loop(k, const(0), depth, (nest(Reduce("add", acc, place, multiply)),)),
                    nest(Store(out.buffer, target, value)),
                ), step=height),
            ), step=width),
        ]  # fmt: skip

    def transposed(self, name: str, source: Matrix, rows: Expr, row_max: int, width: int) -> Stmt:
        """name[e, j] = source(j, e) for j < rows <= row_max, e < width; zeros for other j."""
        e, j = self.name("e"), self.name("j")
        ok = Var(j) < rows
        load = Load(source.buffer, source.at(Var(j), Var(e)), self.code, ok)
        store = Store(name, Var(e) * row_max + Var(j), load)
        return Loop(e, const(0), const(width), (
            Loop(j, const(0), const(row_max), (store,), "vector"),
        ))  # fmt: skip


def _usable(*sizes: int) -> bool:
    return all(0 < n <= 256 and (n <= 64 or n % 32 == 0) for n in sizes)


def _matrices(context: Context, *values: Value) -> list[tuple[Value, tuple[int, ...], int]] | None:
    """Where each (N, H, L, E) operand stands; None unless its last axis is contiguous."""
    assert context.locate is not None
    found = [context.locate(v) for v in values]
    if any(v.shape[3] > 1 and steps[3] != 1 for v, (_, steps, _) in zip(values, found)):
        return None
    return found


def _head(at: tuple[Value, tuple[int, ...], int], name: str) -> Matrix:
    """The (L, E) matrix of the current image and head."""
    _, steps, offset = at
    base = Var("image") * steps[0] + Var("head") * steps[1] + offset
    return Matrix(name, lambda i, j: base + i * steps[2] + j)


def _masked_score(
    mask: Value | None, context: Context, code: str, score: Expr, row: Expr, key: Expr, keys: int,
    causal: bool,
) -> Expr:  # fmt: skip
    """The score, or -inf where a key does not take part."""
    lowest = Const(-math.inf, code)
    if mask is not None:
        assert context.locate is not None
        _, steps, offset = context.locate(mask)
        # Rows beyond the last one, of an incomplete block, read that one.
        row_here = s.minimum(row, const(mask.shape[2] - 1))
        at: Expr = row_here * steps[2] + key * steps[3] + offset
        for axis, name in ((0, "image"), (1, "head")):
            if mask.shape[axis] > 1:
                at = at + Var(name) * steps[axis]
        inside = key < keys
        seen = Load("mask", at, mask.dtype.code, inside)
        if mask.dtype.code == "bool":
            score = s.select(seen, score, lowest)
        else:
            score = score + s.cast(seen, code)
    allowed: Expr = key < keys
    if causal:
        allowed = Call("and", (allowed, key <= row), "bool")
    return s.select(allowed, score, lowest)


@lowers("attention")
def lower_attention(node: Node, context: Context) -> list[Step] | None:
    """out (N, H, L, V) and logs (N, H, L)."""
    op = node.op
    q, k, v = node.values[:3]
    mask = node.values[3] if len(node.values) > 3 else None
    out, logs = node.outputs
    code = q.dtype.code
    n, heads, length, width = q.shape
    keys, depth = k.shape[2], v.shape[3]
    if code not in ("f32", "f64") or not _usable(width, depth) or 0 in (n, heads, length, keys):
        return None
    where = _matrices(context, q, k, v)
    out_steps = context.strides(out)
    if where is None or (depth > 1 and out_steps[3] != 1):
        return None
    w = Writer(code)
    qm, km, vm = (_head(at, name) for at, name in zip(where, ("q", "k", "v")))
    row_blocks = -(-length // ROWS)
    first, key0 = Var("first"), Var("key0")
    causal, scale = op.causal, op.scale  # type: ignore[attr-defined]
    query: At = lambda i, e: qm.at(s.minimum(first + i, const(length - 1)), e)  # noqa: E731
    here = s.minimum(const(KEYS), const(keys) - key0) if keys % KEYS else const(KEYS)
    block_keys = Matrix("k", lambda j, e: km.at(key0 + j, e))
    block_values = Matrix("v", lambda j, e: vm.at(key0 + j, e))
    scores, sums = local("scores", KEYS), local("sums", depth)
    j, i = Var("j"), Var("i")
    exp = Exp().scalar
    at = i * KEYS + j
    masked = _masked_score(
        mask, context, code, Load("scores", at, code), first + i, key0 + j, keys, causal
    )
    # A row that has seen no key has maximum -inf: subtract 0 there, not -inf.
    top = Var("top", code)
    finite = s.select(s.eq(top, -math.inf), s.const(0.0, code), top)
    softmax: tuple[Stmt, ...] = (
        Local("high", code, 1),
        Store("high", const(0), Load("maxima", i, code)),
        Loop("j", const(0), const(KEYS), (
            Let("masked", masked),
            Store("scores", at, Var("masked", code)),
            Reduce("max", "high", const(0), Var("masked", code)),
        ), "vector"),
        Let("top", Load("high", const(0), code)),
        Let("shift", finite),
        Let("keep", exp(s, Load("maxima", i, code) - Var("shift", code))),
        Store("maxima", i, top),
        Local("total", code, 1),
        Store("total", const(0), Const(0.0, code)),
        Loop("j", const(0), const(KEYS), (
            Let("p", exp(s, Load("scores", at, code) - Var("shift", code))),
            Store("scores", at, Var("p", code)),
            Reduce("add", "total", const(0), Var("p", code)),
        ), "vector"),
        Store("totals", i, Load("totals", i, code) * Var("keep", code)
              + Load("total", const(0), code)),
        Loop("j", const(0), const(depth), (
            Store("sums", i * depth + j, Load("sums", i * depth + j, code) * Var("keep", code)),
        ), "vector"),
    )  # fmt: skip
    block: tuple[Stmt, ...] = (
        Let("here", here),
        w.transposed("turned", block_keys, Var("here"), KEYS, width),
        *w.product(scores, ROWS, KEYS, const(width), query, "q", local("turned", KEYS), False,
                   scale),
        Loop("i", const(0), const(ROWS), softmax),
        *w.product(sums, ROWS, depth, Var("here"), lambda i, j: i * KEYS + j, "scores",
                   block_values, True),
    )  # fmt: skip
    stop_key = const(keys)
    if causal:
        stop_key = s.minimum(const(keys), first + ROWS)  # type: ignore[assignment]
    at_out = (
        Var("image") * out_steps[0] + Var("head") * out_steps[1] + (first + i) * out_steps[2] + j
    )
    logs_steps = context.strides(logs)
    at_logs = Var("image") * logs_steps[0] + Var("head") * logs_steps[1] + (first + i)
    total = Var("sum", code)
    body: tuple[Stmt, ...] = (
        Let("image", Var("chunk") // (heads * row_blocks)),
        Let("head", (Var("chunk") // row_blocks) % heads),
        Let("first", (Var("chunk") % row_blocks) * ROWS),
        Local("turned", code, width * KEYS),
        Local("scores", code, ROWS * KEYS),
        Local("sums", code, ROWS * depth),
        Local("maxima", code, ROWS),
        Local("totals", code, ROWS),
        Loop("z", const(0), const(ROWS), (
            Store("maxima", Var("z"), Const(-math.inf, code)),
            Store("totals", Var("z"), Const(0.0, code))), "vector"),
        Loop("z", const(0), const(ROWS * depth), (
            Store("sums", Var("z"), Const(0.0, code)),), "vector"),
        Loop("key0", const(0), stop_key, block, step=KEYS),
        Loop("i", const(0), s.minimum(const(ROWS), const(length) - first), (
            Let("sum", Load("totals", i, code)),
            Let("divisor", s.select(s.eq(total, 0.0), s.const(1.0, code), total)),
            Loop("j", const(0), const(depth), (
                Store("out", at_out, Load("sums", i * depth + j, code) / Var("divisor", code)),
            ), "vector"),
            Store("logs", at_logs, s.select(
                s.eq(total, 0.0), s.const(-math.inf, code),
                Log().scalar(s, Var("divisor", code)) + Load("maxima", i, code))),
        )),
    )  # fmt: skip
    buffers = [Buffer("q", code), Buffer("k", code), Buffer("v", code)]
    values: list[Value] = [at[0] for at in where]
    if mask is not None:
        buffers.append(Buffer("mask", mask.dtype.code))
        assert context.locate is not None
        values.append(context.locate(mask)[0])
    buffers += [Buffer("out", code, True), Buffer("logs", code, True)]
    values += [out, logs]
    grid = n * heads * row_blocks
    kernel = Kernel(context.title, tuple(buffers), body, (), const(grid))
    flops = 2 * n * heads * length * keys * (width + depth) // (2 if causal else 1)
    return [Step(kernel, values, parallel=flops > 100_000, flops=flops)]


@lowers("attention_grad")
def lower_attention_grad(node: Node, context: Context) -> list[Step] | None:
    """Gradients of q, k and v; a chunk is one head of one image."""
    op = node.op
    g, q, k, v = node.values[:4]
    mask = node.values[4] if len(node.values) == 7 else None
    out, logs = node.values[-2:]
    gq, gk, gv = node.outputs
    code = q.dtype.code
    n, heads, length, width = q.shape
    keys, depth = k.shape[2], v.shape[3]
    if code not in ("f32", "f64") or not _usable(width, depth) or 0 in (n, heads, length, keys):
        return None
    where = _matrices(context, g, q, k, v, out)
    if where is None or logs.dtype.code != code:
        return None
    results = [(x, context.strides(x), 0) for x in (gq, gk, gv)]
    if any(x.shape[3] > 1 and steps[3] != 1 for x, steps, _ in results):
        return None
    w = Writer(code)
    gm, qm, km, vm, om = (_head(at, name) for at, name in zip(where, ("g", "q", "k", "v", "out")))
    gqm, gkm, gvm = (_head(at, name) for at, name in zip(results, ("gq", "gk", "gv")))
    first, key0 = Var("first"), Var("key0")
    causal, scale = op.causal, op.scale  # type: ignore[attr-defined]
    last = const(length - 1)
    here = s.minimum(const(KEYS), const(keys) - key0) if keys % KEYS else const(KEYS)
    rows_here = s.minimum(const(ROWS), const(length) - first) if length % ROWS else const(ROWS)
    row = lambda i: s.minimum(first + i, last)  # noqa: E731
    i, j = Var("i"), Var("j")
    assert context.locate is not None
    logs_base, logs_steps, logs_offset = context.locate(logs)
    at_logs = (
        logs_offset
        + Var("image") * logs_steps[0]
        + Var("head") * logs_steps[1]
        + row(i) * logs_steps[2]
    )
    exp = Exp().scalar
    at = i * KEYS + j
    masked = _masked_score(
        mask, context, code, Load("p", at, code), first + i, key0 + j, keys, causal
    )
    log = Var("log", code)
    shift = s.select(s.eq(log, -math.inf), s.const(math.inf, code), log)
    # p = exp(score - log); slope = p * (dp - row's dot product of g and out) * scale
    probabilities: tuple[Stmt, ...] = (
        Let("log", Load("logs", at_logs, code)),
        Let("shift", shift),
        Let("dot", Load("dots", first + i, code)),
        Loop("j", const(0), const(KEYS), (
            Let("pr", exp(s, masked - Var("shift", code))),
            Store("p", at, Var("pr", code)),
            Store("slope", at, Var("pr", code) * (Load("slope", at, code) - Var("dot", code))
                  * scale),
        ), "vector"),
    )  # fmt: skip
    turned_p: At = lambda j, i: i * KEYS + j  # noqa: E731
    rows_of = lambda m, name: Matrix(name, lambda i, e: m.at(first + i, e))  # noqa: E731
    block: tuple[Stmt, ...] = (
        Let("rows", rows_here),
        *w.product(local("p", KEYS), ROWS, KEYS, const(width), lambda i, e: qm.at(row(i), e), "q",
                   local("turned_k", KEYS), False, scale),
        *w.product(local("slope", KEYS), ROWS, KEYS, const(depth), lambda i, e: gm.at(row(i), e),
                   "g", local("turned_v", KEYS), False),
        Loop("i", const(0), const(ROWS), probabilities),
        *w.product(local("sum_v", depth), KEYS, depth, Var("rows"), turned_p, "p",
                   rows_of(gm, "g"), True),
        *w.product(local("sum_k", width), KEYS, width, Var("rows"), turned_p, "slope",
                   rows_of(qm, "q"), True),
        *w.product(local("sum_q", width), ROWS, width, Var("here"), lambda i, j: i * KEYS + j,
                   "slope", Matrix("k", lambda j, e: km.at(key0 + j, e)), False),
        Loop("i", const(0), Var("rows"), (
            Loop("j", const(0), const(width), (
                Store("gq", gqm.at(first + i, j), Load("gq", gqm.at(first + i, j), code)
                      + Load("sum_q", i * width + j, code)),
            ), "vector"),
        )),
    )  # fmt: skip
    zero = Const(0.0, code)
    first_row: Expr = const(0)
    if causal:  # queries before the block's first key see none of it
        first_row = (key0 // ROWS) * ROWS
    per_keys: tuple[Stmt, ...] = (
        Let("here", here),
        w.transposed("turned_k", Matrix("k", lambda j, e: km.at(key0 + j, e)), Var("here"), KEYS,
                     width),
        w.transposed("turned_v", Matrix("v", lambda j, e: vm.at(key0 + j, e)), Var("here"), KEYS,
                     depth),
        Loop("z", const(0), const(KEYS * depth), (Store("sum_v", Var("z"), zero),), "vector"),
        Loop("z", const(0), const(KEYS * width), (Store("sum_k", Var("z"), zero),), "vector"),
        Loop("first", first_row, const(length), block, step=ROWS),
        Loop("i", const(0), Var("here"), (
            Loop("j", const(0), const(depth), (
                Store("gv", gvm.at(key0 + i, j), Load("sum_v", i * depth + j, code)),), "vector"),
            Loop("j", const(0), const(width), (
                Store("gk", gkm.at(key0 + i, j), Load("sum_k", i * width + j, code)),), "vector"),
        )),
    )  # fmt: skip
    padded_rows = -(-length // ROWS) * ROWS
    if padded_rows > 1 << 16:
        return None
    dots: tuple[Stmt, ...] = (
        Local("dot_sum", code, 1),
        Store("dot_sum", const(0), zero),
        Loop("j", const(0), const(depth), (
            Reduce("add", "dot_sum", const(0), gm.load(i, j, code) * om.load(i, j, code)),
        ), "vector"),
        Store("dots", i, Load("dot_sum", const(0), code)),
        Loop("j", const(0), const(width), (Store("gq", gqm.at(i, j), zero),), "vector"),
    )  # fmt: skip
    body: tuple[Stmt, ...] = (
        Let("image", Var("chunk") // heads),
        Let("head", Var("chunk") % heads),
        Local("dots", code, padded_rows),
        Local("turned_k", code, width * KEYS),
        Local("turned_v", code, depth * KEYS),
        Local("p", code, ROWS * KEYS),
        Local("slope", code, ROWS * KEYS),
        Local("sum_v", code, KEYS * depth),
        Local("sum_k", code, KEYS * width),
        Local("sum_q", code, ROWS * width),
        Loop("z", const(0), const(padded_rows), (Store("dots", Var("z"), zero),), "vector"),
        Loop("i", const(0), const(length), dots),
        Loop("key0", const(0), const(keys), per_keys, step=KEYS),
    )  # fmt: skip
    names = ("g", "q", "k", "v", "out")
    buffers = [Buffer(name, code) for name in names] + [Buffer("logs", code)]
    values: list[Value] = [at[0] for at in where] + [logs_base]
    if mask is not None:
        buffers.append(Buffer("mask", mask.dtype.code))
        assert context.locate is not None
        values.append(context.locate(mask)[0])
    buffers += [Buffer(name, code, True) for name in ("gq", "gk", "gv")]
    values += [gq, gk, gv]
    kernel = Kernel(context.title, tuple(buffers), body, (), const(n * heads))
    flops = 2 * n * heads * length * keys * (3 * width + 2 * depth) // (2 if causal else 1)
    return [Step(kernel, values, parallel=flops > 100_000, flops=flops)]
