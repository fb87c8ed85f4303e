"""Attention: softmax(q k' * scale + mask) v as one primitive and its gradient as another.

A native kernel needs no whole score matrix: `logs` (the logarithm of each row's sum of
exponentials) is enough to make any part of it again. Second derivatives are contractions.
Source: Dao and others, "FlashAttention", 2022, for what is kept and what is made again.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.errors import ArgumentError, DTypeError, ShapeError
from ..core.shape import broadcast_shapes, numel
from ..ir.op import Aval, Opaque, op
from .activations import softmax
from .align import broadcast_to, cast, functional
from .arith import add, eq, ge, mul, sub, where
from .batching import batched
from .composite import composite
from .contract import Contract, matmul, same_dtype
from .movement import Expand, Permute, Reshape, Sum
from .random import dropout
from .triangular import Iota

_SCORE_BYTES = 1 << 25  # score matrices made at a time by the references


class _Attention(Opaque):
    """q (N, H, L, E), k (N, G, S, E), v (N, G, S, V); mask (N or 1, H or 1, L, S) or none.

    G divides H: each head of k and v serves H / G neighbouring heads of q. A bool mask is true
    where a key takes part; any other is added to the scores. causal: query i sees keys 0 .. i. A
    row without any key is 0, and its `logs` -inf.
    """

    accepts = dt.REAL
    causal: bool
    scale: float

    def scores(self, q: np.ndarray, k: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        s = np.matmul(q, k.swapaxes(-1, -2))
        s *= s.dtype.type(self.scale)
        if mask is not None:
            s = np.where(mask, s, s.dtype.type(-np.inf)) if mask.dtype == bool else s + mask
        if self.causal:
            np.copyto(s, -np.inf, where=np.triu(np.ones(s.shape[-2:], bool), 1))
        return s

    def pieces(self, q: np.ndarray, k: np.ndarray) -> list[tuple[slice, slice]]:
        """Ranges of (N, H) whose score matrices fit into _SCORE_BYTES."""
        n, heads = q.shape[:2]
        each = max(q.shape[2] * k.shape[2] * q.itemsize, 1)
        step = max(1, _SCORE_BYTES // each)
        if step >= heads:
            many = step // max(heads, 1)
            return [(slice(i, i + many), slice(None)) for i in range(0, n, many)]
        return [
            (slice(i, i + 1), slice(h, h + step)) for i in range(n) for h in range(0, heads, step)
        ]


def _each_head(x: np.ndarray, heads: int) -> np.ndarray:
    """x (N, G, S, E) with each head as often as there are heads that read it."""
    return x if x.shape[1] == heads else x.repeat(heads // x.shape[1], 1)


def _shared_head(x: np.ndarray, heads: int) -> np.ndarray:
    """The adjoint: sums over the heads that read the same."""
    n, h, *rest = x.shape
    return x if h == heads else x.reshape(n, heads, h // heads, *rest).sum(2)


def _part(mask: Any, piece: tuple[slice, slice]) -> Any:
    if mask is None:
        return None
    return mask[tuple(slice(None) if mask.shape[a] == 1 else s for a, s in enumerate(piece))]


def _working(*arrays: Any) -> list[Any]:
    """Floating arrays in the dtype that they are computed in: 16-bit floats in float32."""
    return [a.astype(np.float32) if a is not None and a.dtype.itemsize == 2 else a for a in arrays]


@op
class Attention(_Attention):
    """softmax(q k' * scale + mask) v -> (N, H, L, V), and the rows' log-sum-exps (N, H, L).

    The latter, in float32 or float64, are for the gradient and have none themselves.
    """

    causal: bool
    scale: float
    n_outputs = 2

    def infer(self, q: Any, k: Any, v: Any, mask: Any = None) -> tuple[Aval, Aval]:
        n, heads, length, _ = q.shape
        if (
            tuple(k.shape) != (n, k.shape[1], k.shape[2], q.shape[3])
            or (heads % k.shape[1] if k.shape[1] else heads)
            or tuple(v.shape[:3]) != tuple(k.shape[:3])
            or (mask is not None and tuple(mask.shape[2:]) != (length, k.shape[2]))
        ):
            shapes = [tuple(x.shape) for x in (q, k, v, mask) if x is not None]
            raise ShapeError(f"attention: primitive got shapes {shapes}")
        wide = dt.float64 if q.dtype is dt.float64 else dt.float32
        return Aval((n, heads, length, v.shape[3]), q.dtype), Aval((n, heads, length), wide)

    def reference(self, q: Any, k: Any, v: Any, mask: Any = None) -> Any:
        result = q.dtype
        q, k, v, mask = _working(q, k, v, mask)
        k, v = _each_head(k, q.shape[1]), _each_head(v, q.shape[1])
        out = np.empty((*q.shape[:3], v.shape[3]), q.dtype)
        logs = np.empty(q.shape[:3], q.dtype)
        with np.errstate(all="ignore"):
            for piece in self.pieces(q, k):
                s = self.scores(q[piece], k[piece], _part(mask, piece))
                top = s.max(-1, keepdims=True, initial=-np.inf)
                top[top == -np.inf] = 0
                p = np.exp(s - top)
                total = p.sum(-1, keepdims=True)
                made = np.matmul(p, v[piece])
                out[piece] = made / np.where(total == 0, 1, total)
                logs[piece] = (np.log(total) + top)[..., 0]
        return out.astype(result), logs

    def vjp(self, g: Any, out: Any, *inputs: Any) -> tuple[Any, ...]:
        made: list[Any] = []

        def gradient(i: int) -> Any:
            if not made:
                made.extend(AttentionGrad(self.causal, self.scale)(g[0], *inputs, *out))
            return made[i]

        lazy = [lambda: gradient(0), lambda: gradient(1), lambda: gradient(2)]
        if len(inputs) == 4:
            mask = inputs[3]
            lazy.append(lambda: _to_mask(_Composed(self, g[0], *inputs).slope, mask))
        return tuple(lazy)

    def batch(self, dims: tuple, size: int, *args: Any) -> tuple[Any, Any]:
        return _fold_batch(self, dims, size, args, n_full=3, n_masks=len(args) - 3)


@op
class AttentionGrad(_Attention):
    """Gradients of Attention for q, k and v: (g, q, k, v, [mask], out, logs) -> (gq, gk, gv).

    out and logs are Attention's results for the same inputs: they hold no information of their own,
    and have no derivative.
    """

    causal: bool
    scale: float
    n_outputs = 3
    saves = "inputs"

    def infer(self, g: Any, q: Any, k: Any, v: Any, *rest: Any) -> tuple[Aval, Aval, Aval]:
        return tuple(Aval(tuple(x.shape), x.dtype) for x in (q, k, v))  # type: ignore[return-value]

    def reference(self, g: Any, q: Any, k: Any, v: Any, *rest: Any) -> Any:
        result = q.dtype
        mask, out, logs = rest if len(rest) == 3 else (None, *rest)
        g, q, k, v, mask, out = _working(g, q, k, v, mask, out)
        shared = k.shape[1]
        k, v = _each_head(k, q.shape[1]), _each_head(v, q.shape[1])
        gq, gk, gv = np.empty_like(q), np.empty_like(k), np.empty_like(v)
        with np.errstate(all="ignore"):
            for piece in self.pieces(q, k):
                s = self.scores(q[piece], k[piece], _part(mask, piece))
                row = logs[piece][..., None]
                p = np.where(row == -np.inf, 0, np.exp(s - row))
                gv[piece] = np.matmul(p.swapaxes(-1, -2), g[piece])
                slope = np.matmul(g[piece], v[piece].swapaxes(-1, -2))
                slope -= (g[piece] * out[piece]).sum(-1, keepdims=True)
                slope *= p
                slope *= slope.dtype.type(self.scale)
                gq[piece] = np.matmul(slope, k[piece])
                gk[piece] = np.matmul(slope.swapaxes(-1, -2), q[piece])
        gk, gv = _shared_head(gk, shared), _shared_head(gv, shared)
        return gq.astype(result), gk.astype(result), gv.astype(result)

    def vjp(self, cotangents: Any, outs: Any, *inputs: Any) -> tuple[Any, ...]:
        g, q, k, v = inputs[:4]
        mask = inputs[4] if len(inputs) == 7 else None
        made: list[Any] = []

        def second(i: int) -> Any:
            if not made:
                made.extend(_Composed(self, g, q, k, v, mask).second(*cotangents))
            return made[i]

        lazy: list[Any] = [lambda i=i: second(i) for i in range(4)]
        if mask is not None:
            lazy.append(lambda: _to_mask(second(4), mask))
        return (*lazy, None, None)

    def batch(self, dims: tuple, size: int, *args: Any) -> tuple[Any, Any]:
        if len(args) == 6:
            return _fold_batch(self, dims, size, args, n_full=6, n_masks=0)
        order = (0, 1, 2, 3, 5, 6, 4)  # the mask last, as _fold_batch wants it
        moved = tuple(args[i] for i in order)
        return _fold_batch(
            _MaskLast(self), tuple(dims[i] for i in order), size, moved, n_full=6, n_masks=1
        )


class _MaskLast:
    """AttentionGrad with the mask as its last argument."""

    def __init__(self, op: AttentionGrad):
        self.op = op

    def __call__(self, *args: Any) -> Any:
        return self.op(*args[:4], args[6], *args[4:6])


def _fold_batch(
    op: Any, dims: tuple, size: int, args: tuple, n_full: int, n_masks: int
) -> tuple[Any, Any]:
    """The vmap rule: the batch axis becomes part of N. Masks, which may have N = 1, come last."""
    full = [batched(x, d, size) for x, d in zip(args[:n_full], dims)]
    n = full[0].shape[1]
    folded = [Reshape((size * n, *x.shape[2:]))(x) for x in full]
    for mask, dim in zip(args[n_full:], dims[n_full:]):
        if dim is not None or mask.shape[0] != 1:
            mask = batched(mask, dim, size)
            if mask.shape[1] != n:
                mask = broadcast_to(mask, (size, n, *mask.shape[2:]))
            mask = Reshape((size * n, *mask.shape[2:]))(mask)
        folded.append(mask)
    outs = op(*folded)
    return tuple(Reshape((size, n, *o.shape[1:]))(o) for o in outs), (0,) * len(outs)


def _to_mask(slope: Any, mask: Any) -> Any:
    """The scores' cotangent summed to the mask's shape; None for a bool mask."""
    if not mask.dtype.is_floating_point:
        return None
    axes = tuple(a for a in range(2) if mask.shape[a] == 1 and slope.shape[a] != 1)
    if axes:
        slope = Reshape(tuple(mask.shape))(Sum(axes)(slope))
    return cast(slope, mask.dtype)


class _Composed:
    """The gradient written with contractions, so that it can be differentiated.

    With P = softmax(S), S = scale * q k' + mask:  D = rowsum(P * g v'),  slope = P * (g v' - D),
    gq = scale * slope k,  gk = scale * slope' q,  gv = P' g.
    """

    def __init__(self, op: _Attention, g: Any, q: Any, k: Any, v: Any, mask: Any):
        self.dtype = q.dtype
        self.scale = op.scale
        wide = dt.float32 if q.dtype.itemsize == 2 else q.dtype
        self.heads, self.shared = q.shape[1], k.shape[1]
        self.g, self.q = cast(g, wide), cast(q, wide)
        self.k, self.v = (self.each_head(cast(x, wide)) for x in (k, v))
        s = mul(_outer(self.q, self.k), op.scale)
        if mask is not None:
            whole = broadcast_to(mask, tuple(s.shape))
            s = where(whole, s, -math.inf) if mask.dtype is dt.bool_ else add(s, cast(whole, wide))
        if op.causal:
            s = where(_lower(tuple(s.shape)), s, -math.inf)
        self.p = _safe_softmax(s)
        self.dp = _outer(self.g, self.v)
        self.slope = mul(self.p, sub(self.dp, _row_sums(mul(self.p, self.dp))))

    def each_head(self, x: Any) -> Any:
        """x (N, G, S, E) with each head as often as there are heads that read it."""
        n, g, length, width = x.shape
        if g == self.heads:
            return x
        wide = Expand((n, g, self.heads // g, length, width), (2,))(x)
        return Reshape((n, self.heads, length, width))(wide)

    def shared_head(self, x: Any) -> Any:
        """The adjoint of each_head."""
        n, h, length, width = x.shape
        if h == self.shared:
            return x
        return Sum((2,))(Reshape((n, self.shared, h // self.shared, length, width))(x))

    def second(self, a: Any, b: Any, c: Any) -> list[Any]:
        """Cotangents of g, q, k, v and the scores from those of gq, gk and gv."""
        a, b, c = (cast(x, self.q.dtype) for x in (a, b, c))
        b, c = self.each_head(b), self.each_head(c)
        p, dp, slope, scale = self.p, self.dp, self.slope, self.scale
        w = mul(add(_outer(a, self.k), _outer(self.q, b)), scale)  # cotangent of slope
        r = _row_sums(mul(w, p))
        of_dp = mul(p, sub(w, r))
        center = _row_sums(mul(p, dp))
        of_p = add(sub(mul(w, sub(dp, center)), mul(r, dp)), _outer(self.g, c))
        of_s = mul(p, sub(of_p, _row_sums(mul(p, of_p))))
        of_g = add(_rows(of_dp, self.v), _rows(p, c))
        of_q = mul(add(_rows(of_s, self.k), _rows(slope, b)), scale)
        of_k = mul(add(_columns(of_s, self.q), _columns(slope, a)), scale)
        of_v = _columns(of_dp, self.g)
        of_k, of_v = self.shared_head(of_k), self.shared_head(of_v)
        return [*(cast(x, self.dtype) for x in (of_g, of_q, of_k, of_v)), of_s]


def _outer(x: Any, y: Any) -> Any:
    """(N, H, L, E), (N, H, S, E) -> (N, H, L, S)."""
    return Contract("nhle,nhse->nhls")(x, y)


def _rows(p: Any, y: Any) -> Any:
    """(N, H, L, S), (N, H, S, E) -> (N, H, L, E)."""
    return Contract("nhls,nhse->nhle")(p, y)


def _columns(p: Any, x: Any) -> Any:
    """(N, H, L, S), (N, H, L, E) -> (N, H, S, E)."""
    return Contract("nhls,nhle->nhse")(p, x)


def _row_sums(x: Any) -> Any:
    return Expand(tuple(x.shape), (len(x.shape) - 1,))(Sum((len(x.shape) - 1,))(x))


def _lower(shape: tuple[int, ...]) -> Any:
    """A bool value, true at and below the diagonal of the last two axes."""
    n = len(shape)
    return ge(Iota(shape, dt.int32, n - 2)(), Iota(shape, dt.int32, n - 1)())


def _safe_softmax(s: Any) -> Any:
    """softmax along the last axis; rows that are all -inf give 0."""
    if not s.shape[-1]:
        return s
    empty = eq(_row_sums(cast(eq(s, -math.inf), dt.int32)), s.shape[-1])
    return where(empty, 0.0, softmax(where(empty, 0.0, s), -1))


# Public functions


@functional
@composite
def scaled_dot_product_attention(
    query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Any:  # fmt: skip
    """softmax(query @ key' * scale + mask) @ value.

    query       (..., L, E); key (..., S, E); value (..., S, V); leading dimensions broadcast
    attn_mask   broadcasts to (..., L, S): bool (true where a key takes part) or floating (added)
    dropout_p   chance that a weight is dropped (always: there is no training flag, as in PyTorch)
    is_causal   query i sees keys 0 .. i; not together with attn_mask
    scale       1 / sqrt(E) unless given
    enable_gqa  key and value may have fewer heads (dimension -3), which divide query's

    Rows that may see no key are 0. Source: Vaswani and others, "Attention is all you need", 2017.

    >>> q = ones(1, 2, 3, 4)
    >>> scaled_dot_product_attention(q, q, q, is_causal=True).shape
    (1, 2, 3, 4)
    """
    name = "scaled_dot_product_attention"
    same_dtype(name, query=query, key=key, value=value)
    q, k, v = query, key, value
    if not q.dtype.is_floating_point:
        raise DTypeError(f"{name}: query must be floating, got {q.dtype.name}")
    for argument, x in (("query", q), ("key", k), ("value", v)):
        if len(x.shape) < 2:
            raise ShapeError(
                f"{name}: {argument} must have at least 2 dimensions, got {tuple(x.shape)}"
            )
    if q.shape[-1] != k.shape[-1]:
        raise ShapeError(
            f"{name}: last sizes of query {tuple(q.shape)} and key {tuple(k.shape)} differ"
        )
    if k.shape[-2] != v.shape[-2]:
        raise ShapeError(
            f"{name}: key {tuple(k.shape)} and value {tuple(v.shape)} differ in length (dimension "
            "-2)"
        )
    if is_causal and attn_mask is not None:
        raise ArgumentError(f"{name}: is_causal and attn_mask cannot both be given")
    if not 0 <= dropout_p <= 1:
        raise ArgumentError(f"{name}: dropout_p must be in [0, 1], got {dropout_p}")
    if enable_gqa:
        _check_heads(name, q, k, v)
        if dropout_p > 0 or k.shape[-3] != v.shape[-3]:
            k, v = (_repeat_heads(x, q) for x in (k, v))
    groups = k.shape[-3] if enable_gqa else None
    if groups is not None and groups != q.shape[-3]:
        outer = broadcast_shapes(name, *(tuple(x.shape[:-3]) for x in (q, k, v)))
        q, k, v = (broadcast_to(x, (*outer, *x.shape[-3:])) for x in (q, k, v))
        lead = tuple(q.shape[:-2])
    else:
        lead = broadcast_shapes(name, *(tuple(x.shape[:-2]) for x in (q, k, v)))
        q, k, v = (broadcast_to(x, (*lead, *x.shape[-2:])) for x in (q, k, v))
    scores = (*lead, q.shape[-2], k.shape[-2])
    if attn_mask is not None:
        if attn_mask.dtype is not dt.bool_ and not attn_mask.dtype.is_floating_point:
            raise DTypeError(
                f"{name}: attn_mask must be bool or floating, got {attn_mask.dtype.name}"
            )
        if len(attn_mask.shape) > len(scores) or any(
            n not in (1, m) for n, m in zip(reversed(attn_mask.shape), reversed(scores))
        ):
            raise ShapeError(
                f"{name}: attn_mask {tuple(attn_mask.shape)} does not broadcast to the scores' "
                f"shape {scores}"
            )
        if attn_mask.dtype is not dt.bool_:
            attn_mask = cast(attn_mask, q.dtype)
    scale = 1 / math.sqrt(max(q.shape[-1], 1)) if scale is None else float(scale)
    if dropout_p > 0:
        return _with_dropout(q, k, v, attn_mask, dropout_p, is_causal, scale, scores)
    four = [_four(x) for x in (q, k, v)]
    masks = [] if attn_mask is None else [_four_mask(attn_mask, scores)]
    out, _ = Attention(bool(is_causal), scale)(*four, *masks)
    return Reshape((*lead, q.shape[-2], v.shape[-1]))(out)


def _check_heads(name: str, q: Any, k: Any, v: Any) -> None:
    """Heads of key and value must divide query's."""
    for x in (k, v):
        few = len(x.shape) < 3 or len(q.shape) < 3
        if few or (q.shape[-3] % x.shape[-3] if x.shape[-3] else q.shape[-3]):
            raise ShapeError(
                f"{name}: query {tuple(q.shape)} must have a multiple of the heads (dimension -3) "
                f"of key and value {tuple(x.shape)}"
            )


def _repeat_heads(x: Any, q: Any) -> Any:
    """Each head of x as often as query has more of them."""
    times = q.shape[-3] // max(x.shape[-3], 1)
    if times == 1:
        return x
    shape = tuple(x.shape)
    wide = Expand((*shape[:-2], times, *shape[-2:]), (len(shape) - 2,))(x)
    return Reshape((*shape[:-3], shape[-3] * times, *shape[-2:]))(wide)


def _four(x: Any) -> Any:
    """(..., L, E) as (N, H, L, E)."""
    shape = tuple(x.shape)
    if len(shape) == 4:
        return x
    heads = shape[-3] if len(shape) > 2 else 1
    return Reshape((numel(shape[:-3]), heads, *shape[-2:]))(x)


def _four_mask(mask: Any, scores: tuple[int, ...]) -> Any:
    """A mask as (N or 1, H or 1, L, S)."""
    shape = (1,) * (max(len(scores), 4) - len(mask.shape)) + tuple(mask.shape)
    whole = (1,) * (len(shape) - len(scores)) + scores
    lead = shape[:-3] if numel(shape[:-3]) == 1 else whole[:-3]
    mask = Reshape(shape)(mask) if shape != tuple(mask.shape) else mask
    mask = broadcast_to(mask, (*lead, shape[-3], *scores[-2:]))
    return Reshape((numel(lead), shape[-3], *scores[-2:]))(mask) if len(shape) > 4 else mask


def _with_dropout(
    q: Any, k: Any, v: Any, mask: Any, p: float, causal: bool, scale: float, shape: tuple[int, ...]
) -> Any:
    n = len(k.shape)
    s = mul(matmul(q, Permute((*range(n - 2), n - 1, n - 2))(k)), scale)
    if mask is not None:
        whole = broadcast_to(mask, shape)
        s = where(whole, s, -math.inf) if mask.dtype is dt.bool_ else add(s, whole)
    if causal:
        s = where(_lower(shape), s, -math.inf)
    return matmul(dropout(_safe_softmax(s), p), v)
