"""MultiheadAttention: projections around scaled dot-product attention."""

import enum
import math
from contextlib import contextmanager

import monograph as mg
from monograph.core.errors import ArgumentError, DTypeError, ShapeError
from monograph.nn import functional as F
from monograph.nn import init
from monograph.nn.linear import Linear
from monograph.nn.module import Module
from monograph.nn.parameter import Parameter


class MultiheadAttention(Module):
    """Attend from each query to all keys, in `num_heads` parts of embed_dim // num_heads features.

    query   (L, N, embed_dim), key (S, N, kdim), value (S, N, vdim); the batch comes first with
            batch_first; without a batch (L, embed_dim), (S, kdim), (S, vdim)
    returns output shaped like the query, and the weights (N, L, S), averaged over heads, or
            (N, num_heads, L, S) with average_attn_weights=False, or None with need_weights=False

    Source: Vaswani and others, Attention is all you need, 2017.
    """

    def __init__(
        self,
        embed_dim,
        num_heads,
        dropout=0.0,
        bias=True,
        add_bias_kv=False,
        add_zero_attn=False,
        kdim=None,
        vdim=None,
        batch_first=False,
        device=None,
        dtype=None,
    ):
        super().__init__()
        if embed_dim <= 0 or num_heads <= 0 or embed_dim % num_heads:
            raise ArgumentError(
                f"MultiheadAttention: embed_dim={embed_dim} must be a positive multiple of "
                f"num_heads={num_heads}"
            )
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.head_dim = embed_dim // num_heads
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self.dropout = dropout
        self.batch_first = batch_first
        self.add_zero_attn = add_zero_attn
        self._qkv_same_embed_dim = self.kdim == embed_dim and self.vdim == embed_dim
        where = {"device": device, "dtype": dtype}
        together = {"in_proj_weight": (3 * embed_dim, embed_dim)}
        apart = {
            "q_proj_weight": (embed_dim, embed_dim),
            "k_proj_weight": (embed_dim, self.kdim),
            "v_proj_weight": (embed_dim, self.vdim),
        }
        used, unused = (together, apart) if self._qkv_same_embed_dim else (apart, together)
        for name, shape in used.items():
            self.register_parameter(name, Parameter(mg.empty(*shape, **where)))
        for name in unused:
            self.register_parameter(name, None)
        if bias:
            self.in_proj_bias = Parameter(mg.empty(3 * embed_dim, **where))
        else:
            self.register_parameter("in_proj_bias", None)
        self.out_proj = Linear(embed_dim, embed_dim, bias=bias, **where)
        if add_bias_kv:
            self.bias_k = Parameter(mg.empty(1, 1, embed_dim, **where))
            self.bias_v = Parameter(mg.empty(1, 1, embed_dim, **where))
        else:
            self.bias_k = self.bias_v = None
        self._reset_parameters()

    def _reset_parameters(self):
        for name in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"):
            if getattr(self, name) is not None:
                init.xavier_uniform_(getattr(self, name))
        if self.in_proj_bias is not None:
            init.zeros_(self.in_proj_bias)
            init.zeros_(self.out_proj.bias)
        if self.bias_k is not None:
            init.xavier_normal_(self.bias_k)
            init.xavier_normal_(self.bias_v)

    def forward(
        self,
        query,
        key,
        value,
        key_padding_mask=None,
        need_weights=True,
        attn_mask=None,
        average_attn_weights=True,
        is_causal=False,
    ):
        """Masks: True (or -inf) forbids attention.

        key_padding_mask (N, S); attn_mask (L, S) or (N * num_heads, L, S). `is_causal` says that
        attn_mask is the causal mask, so that a faster path may be taken; it needs attn_mask.
        """
        alone = query.ndim == 2
        if query.ndim not in (2, 3) or key.ndim != query.ndim or value.ndim != query.ndim:
            raise ShapeError(
                "MultiheadAttention: query, key and value must all have 3 dimensions, or 2 without "
                f"a batch; got {tuple(query.shape)}, {tuple(key.shape)}, {tuple(value.shape)}"
            )
        if is_causal and attn_mask is None:
            raise ArgumentError("MultiheadAttention: is_causal=True needs attn_mask as well")
        if alone:
            query, key, value = (t.unsqueeze(0) for t in (query, key, value))
            if key_padding_mask is not None:
                key_padding_mask = key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            query, key, value = self._batch_first(query, key, value)
        self._check(query, key, value)
        batch, length = query.shape[:2]

        q, k, v = self._project(query, key, value)
        if self.bias_k is not None:
            k = mg.cat([k, self.bias_k.expand(batch, 1, self.embed_dim)], 1)
            v = mg.cat([v, self.bias_v.expand(batch, 1, self.embed_dim)], 1)
        q, k, v = (self._split_heads(t) for t in (q, k, v))
        if self.add_zero_attn:
            zero = mg.zeros(batch, self.num_heads, 1, self.head_dim, dtype=k.dtype, device=k.device)
            k, v = mg.cat([k, zero], 2), mg.cat([v, zero], 2)

        extra = k.shape[2] - key.shape[1]
        plain_causal = is_causal and key_padding_mask is None and not need_weights and not extra
        mask = None
        if not plain_causal:
            mask = self._mask(attn_mask, key_padding_mask, q, key.shape[1], extra)
        p = self.dropout if self.training else 0.0
        if need_weights:
            scores = q * math.sqrt(1.0 / self.head_dim) @ k.transpose(-2, -1)
            weights = F.softmax(scores if mask is None else scores + mask, -1)
            weights = F.dropout(weights, p, True) if p > 0 else weights
            output = weights @ v
        else:
            weights = None
            output = F.scaled_dot_product_attention(q, k, v, mask, p, plain_causal)
        output = self.out_proj(output.transpose(1, 2).reshape(batch, length, self.embed_dim))
        if weights is not None and average_attn_weights:
            weights = weights.mean(1)
        if alone:
            return output.squeeze(0), None if weights is None else weights.squeeze(0)
        return (output if self.batch_first else output.transpose(0, 1)), weights

    @staticmethod
    def _batch_first(query, key, value):
        """The three with the batch first, keeping equal arguments equal."""
        if query is key and key is value:
            return (query.transpose(0, 1),) * 3
        if key is value:
            return query.transpose(0, 1), *(key.transpose(0, 1),) * 2
        return query.transpose(0, 1), key.transpose(0, 1), value.transpose(0, 1)

    def _check(self, query, key, value):
        wanted = (self.embed_dim, self.kdim, self.vdim)
        got = tuple(t.shape[-1] for t in (query, key, value))
        if got != wanted:
            raise ShapeError(
                f"MultiheadAttention: query, key and value must have {wanted} features, got {got}"
            )
        if key.shape[:2] != value.shape[:2] or query.shape[0] != key.shape[0]:
            raise ShapeError(
                "MultiheadAttention: batch sizes and the lengths of key and value must agree; "
                f"batch first they are {tuple(query.shape)}, {tuple(key.shape)}, "
                f"{tuple(value.shape)}"
            )

    def _project(self, query, key, value):
        if not self._qkv_same_embed_dim:
            weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        elif query is key and key is value:
            return F.linear(query, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
        else:
            weights = self.in_proj_weight.chunk(3, 0)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3, 0)
        return tuple(map(F.linear, (query, key, value), weights, biases))

    def _split_heads(self, t):
        """(N, T, embed_dim) -> (N, num_heads, T, head_dim)."""
        return t.reshape(t.shape[0], t.shape[1], self.num_heads, self.head_dim).transpose(1, 2)

    def _mask(self, attn_mask, key_padding_mask, q, length_k, extra):
        """Both masks as one term to add to the scores, (N or 1, heads or 1, L or 1, S), or None."""
        batch, heads, length = q.shape[:3]
        terms = []
        if attn_mask is not None:
            allowed = ((length, length_k), (batch * heads, length, length_k))
            _expect_shape("attn_mask", attn_mask, *allowed)
            term = _additive("attn_mask", attn_mask, q.dtype)
            grid = (1, 1) if attn_mask.ndim == 2 else (batch, heads)
            terms.append(term.reshape(*grid, length, length_k))
        if key_padding_mask is not None:
            _expect_shape("key_padding_mask", key_padding_mask, (batch, length_k))
            term = _additive("key_padding_mask", key_padding_mask, q.dtype)
            terms.append(term.reshape(batch, 1, 1, length_k))
        if not terms:
            return None
        mask = terms[0] if len(terms) == 1 else terms[0] + terms[1]
        return F.pad(mask, (0, extra)) if extra else mask


def multi_head_attention_forward(
    query,
    key,
    value,
    embed_dim_to_check,
    num_heads,
    in_proj_weight,
    in_proj_bias,
    bias_k,
    bias_v,
    add_zero_attn,
    dropout_p,
    out_proj_weight,
    out_proj_bias,
    training=True,
    key_padding_mask=None,
    need_weights=True,
    attn_mask=None,
    use_separate_proj_weight=False,
    q_proj_weight=None,
    k_proj_weight=None,
    v_proj_weight=None,
    static_k=None,
    static_v=None,
    average_attn_weights=True,
    is_causal=False,
):
    """MultiheadAttention with the tensors given: (output, weights), the batch second.

    use_separate_proj_weight  q_proj_weight, k_proj_weight and v_proj_weight in the place of
                              in_proj_weight

    The rest is as in nn.MultiheadAttention. static_k and static_v are not taken.
    """
    if static_k is not None or static_v is not None:
        raise ArgumentError("multi_head_attention_forward: static_k and static_v are not taken")
    if query.shape[-1] != embed_dim_to_check:
        raise ShapeError(
            f"multi_head_attention_forward: query has {query.shape[-1]} features, "
            f"embed_dim_to_check is {embed_dim_to_check}"
        )
    layer = _Given(
        embed_dim=embed_dim_to_check, num_heads=num_heads, head_dim=embed_dim_to_check // num_heads,
        kdim=key.shape[-1], vdim=value.shape[-1], dropout=dropout_p, training=training,
        batch_first=False, add_zero_attn=add_zero_attn, bias_k=bias_k, bias_v=bias_v,
        _qkv_same_embed_dim=not use_separate_proj_weight, in_proj_weight=in_proj_weight,
        in_proj_bias=in_proj_bias, q_proj_weight=q_proj_weight, k_proj_weight=k_proj_weight,
        v_proj_weight=v_proj_weight, out_proj=lambda x: F.linear(x, out_proj_weight, out_proj_bias),
    )  # fmt: skip
    return layer.forward(
        query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights,
        is_causal,
    )  # fmt: skip


class _Given:
    """A layer made of what is given, as far as MultiheadAttention.forward reads it."""

    forward, _mask = MultiheadAttention.forward, MultiheadAttention._mask
    _check, _project = MultiheadAttention._check, MultiheadAttention._project
    _split_heads = MultiheadAttention._split_heads
    _batch_first = staticmethod(MultiheadAttention._batch_first)

    def __init__(self, **facts):
        self.__dict__.update(facts)


F.multi_head_attention_forward = multi_head_attention_forward


def _expect_shape(name, mask, *allowed):
    if tuple(mask.shape) not in allowed:
        raise ShapeError(
            f"MultiheadAttention: {name} must have shape {' or '.join(map(str, allowed))}, "
            f"got {tuple(mask.shape)}"
        )


def _additive(name, mask, dtype):
    """A mask as numbers to add: True becomes -inf, False 0; floating masks stay."""
    if mask.dtype == mg.bool:
        return mg.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(mask, -math.inf)
    if not mask.is_floating_point():
        raise DTypeError(
            f"MultiheadAttention: {name} must be boolean or floating, got {mask.dtype}"
        )
    return mask.to(dtype)


class SDPBackend(enum.Enum):
    """PyTorch's kernels of attention; here there is one, which never holds the scores."""

    MATH = 0
    FLASH_ATTENTION = 1
    EFFICIENT_ATTENTION = 2
    CUDNN_ATTENTION = 3


@contextmanager
def sdpa_kernel(backends, set_priority=False):
    """A context without effect: there is one kernel of attention."""
    yield
