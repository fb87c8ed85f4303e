"""MultiheadAttention and the transformer layers against PyTorch's, with masks and options."""

import copy

import numpy as np
import pytest
from torch_oracle import (
    TIGHT,
    array,
    check_same_result,
    copy_weights,
    draw,
    message,
    ours,
    theirs,
    torch,
    twins,
)  # fmt: skip

import monograph as mg
from monograph import nn

CAUSAL = np.triu(np.ones((4, 4), dtype=bool), 1)
PADDING = np.array([[False, False, False, True], [False, True, True, True]])


def same_repr(layer, other):
    assert repr(layer) == repr(other).replace("NonDynamicallyQuantizable", "")


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"batch_first": True},
        {"bias": False},
        {"add_bias_kv": True, "add_zero_attn": True},
        {"kdim": 5, "vdim": 7},
    ],
)
def test_multihead_attention_equals_torch(kwargs, need_weights):
    layer, other = twins("MultiheadAttention", 8, 2, **kwargs)
    same_repr(layer, other)
    shape = (2, 4) if kwargs.get("batch_first") else (4, 2)
    q = draw(*shape, 8)
    k = draw(*shape, kwargs.get("kdim", 8), seed=1)
    v = draw(*shape, kwargs.get("vdim", 8), seed=2)
    check_same_result(layer, other, (q, k, v), {"need_weights": need_weights})


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize(
    "call",
    [
        {"attn_mask": CAUSAL},
        {"attn_mask": np.where(CAUSAL, -np.inf, 0.0)},
        {"attn_mask": np.stack([CAUSAL] * 4)},
        {"key_padding_mask": PADDING},
        {"key_padding_mask": PADDING, "attn_mask": CAUSAL},
        {"attn_mask": CAUSAL, "is_causal": True},
        {"average_attn_weights": False},
    ],
)
def test_attention_masks_equal_torch(call, need_weights):
    layer, other = twins("MultiheadAttention", 8, 2, batch_first=True)
    x = draw(2, 4, 8)
    call = dict(call, need_weights=need_weights)
    mine = {k: mg.tensor(v) if isinstance(v, np.ndarray) else v for k, v in call.items()}
    reference = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in call.items()}
    a, b = ours(x), theirs(x)
    out, weights = layer(a, a, a, **mine)
    expected, expected_weights = other(b, b, b, **reference)
    np.testing.assert_allclose(array(out), array(expected), **TIGHT)
    assert (weights is None) == (expected_weights is None)
    if need_weights:
        np.testing.assert_allclose(array(weights), array(expected_weights), **TIGHT)
    out.sum().backward(), expected.sum().backward()
    np.testing.assert_allclose(array(a.grad), array(b.grad), **TIGHT)


def test_attention_without_a_batch_equals_torch():
    layer, other = twins("MultiheadAttention", 8, 2, kdim=6, vdim=6)
    check_same_result(layer, other, (draw(4, 8), draw(5, 6), draw(5, 6, seed=1)))


def test_attention_names_what_does_not_fit():
    layer = nn.MultiheadAttention(8, 2, batch_first=True)
    x = mg.zeros(2, 4, 8)
    assert message(layer, x, x, mg.zeros(2, 5, 8)) == (
        "ShapeError: MultiheadAttention: batch sizes and the lengths of key and value must agree; "
        "batch first they are (2, 4, 8), (2, 4, 8), (2, 5, 8)"
    )
    assert message(layer, x, x, x, attn_mask=mg.zeros(3, 4)) == (
        "ShapeError: MultiheadAttention: attn_mask must have shape (4, 4) or (4, 4, 4), got (3, 4)"
    )
    assert message(layer, x, x, x, is_causal=True) == (
        "ArgumentError: MultiheadAttention: is_causal=True needs attn_mask as well"
    )


@pytest.mark.parametrize(
    "kwargs",
    [{}, {"norm_first": True}, {"activation": "gelu", "batch_first": True}, {"bias": False}],
)
def test_transformer_layers_equal_torch(kwargs):
    src, memory = draw(4, 2, 8), draw(5, 2, 8, seed=1)
    if kwargs.get("batch_first"):
        src, memory = src.swapaxes(0, 1), memory.swapaxes(0, 1)
    layer, other = twins("TransformerEncoderLayer", 8, 2, 16, 0.0, **kwargs)
    same_repr(layer, other)
    check_same_result(layer, other, (src,), {"src_mask": CAUSAL})
    layer, other = twins("TransformerDecoderLayer", 8, 2, 16, 0.0, **kwargs)
    same_repr(layer, other)
    check_same_result(layer, other, (src, memory), {"tgt_mask": CAUSAL})


def test_encoder_with_padding_equals_torch():
    def make(nn):
        layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)
        return nn.TransformerEncoder(
            layer, 2, nn.LayerNorm(8), enable_nested_tensor=False
        ).double()  # fmt: skip

    layer, other = make(nn), make(torch.nn)
    same_repr(layer, other)
    copy_weights(other, layer)
    assert layer.layers[0].linear1.weight is not layer.layers[1].linear1.weight
    x = draw(2, 4, 8)
    check_same_result(layer, other, (x,), {"src_key_padding_mask": PADDING})


@pytest.mark.filterwarnings("ignore:enable_nested_tensor:UserWarning")
def test_transformer_equals_torch():
    layer, other = twins("Transformer", 8, 2, 1, 2, 16, 0.0)
    same_repr(layer, other)
    src, tgt = draw(5, 2, 8), draw(4, 2, 8, seed=1)
    mask = array(nn.Transformer.generate_square_subsequent_mask(4))
    assert (mask == array(torch.nn.Transformer.generate_square_subsequent_mask(4))).all()
    check_same_result(layer, other, (src, tgt), {"tgt_mask": CAUSAL})


@pytest.mark.parametrize("kwargs", [{}, {"norm_first": True, "activation": "gelu"}])
@pytest.mark.parametrize("mask", ["none", "mask", "causal", "padding"])
def test_captured_layers_equal_eager_ones(kwargs, mask):
    call = {
        "none": {},
        "mask": {"src_mask": mg.tensor(CAUSAL)},
        "causal": {"src_mask": mg.tensor(CAUSAL), "is_causal": True},
        "padding": {"src_key_padding_mask": mg.tensor(PADDING)},
    }[mask]
    layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True, **kwargs)
    twin = copy.deepcopy(layer)
    x = mg.tensor(draw(2, 4, 8).astype(np.float32))

    def loss(layer):
        layer.zero_grad()
        value = (layer(x, **call) ** 2).sum()
        value.backward()
        return value

    np.testing.assert_allclose(mg.jit(lambda: loss(layer))().item(), loss(twin).item(), rtol=1e-5)
    for a, b in zip(layer.parameters(), twin.parameters()):
        # Gradients of sums of squares up to about 100, in another order of operations.
        np.testing.assert_allclose(array(a.grad), array(b.grad), rtol=1e-3, atol=1e-4)
