import math

import numpy as np
import pytest
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import monograph as mg
from monograph.core.errors import ArgumentError, DTypeError, ShapeError
from monograph.ops import attention
from monograph.ops.attention import scaled_dot_product_attention as ours

from .messages import raises_message
from .oracle import check, close, rng, to_mg, to_torch


def theirs(*args, **options):
    with sdpa_kernel(SDPBackend.MATH):  # the one that has second derivatives
        return F.scaled_dot_product_attention(*args, **options)


def arrays(*shapes, seed=0):
    r = rng(seed)
    return [r.standard_normal(s) for s in shapes]


SHAPES = [
    ((2, 3, 5, 4), (2, 3, 6, 4), (2, 3, 6, 7)),
    ((3, 5, 4), (3, 5, 4), (3, 5, 4)),
    ((5, 4), (6, 4), (6, 3)),
    ((2, 2, 3, 5, 4), (2, 2, 3, 6, 4), (2, 2, 3, 6, 4)),
    ((2, 3, 1, 4), (2, 3, 6, 4), (2, 3, 6, 4)),
    ((2, 3, 5, 4), (1, 1, 6, 4), (1, 3, 6, 4)),
]


@pytest.mark.parametrize("options", [{}, dict(is_causal=True), dict(scale=0.3)], ids=str)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_attention_agrees_with_torch_in_value_and_two_gradients(shapes, options):
    check(
        lambda *a: ours(*a, **options), lambda *a: theirs(*a, **options), *arrays(*shapes),
        double=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    "mask", [(5, 6), (2, 1, 5, 6), (1, 3, 5, 6), (2, 3, 5, 6), (1, 6), (3, 1, 6)]
)
@pytest.mark.parametrize("kind", ["bool", "float"])
def test_masks_agree_with_torch(mask, kind):
    m = rng(5).uniform(size=mask) < 0.7
    m[..., 0] = True  # some key for every query
    check(
        lambda q, k, v, m: ours(q, k, v, m), lambda q, k, v, m: theirs(q, k, v, m),
        *arrays(*SHAPES[0]), m if kind == "bool" else rng(6).standard_normal(mask), double=True,
    )  # fmt: skip


@pytest.mark.parametrize("shape", [(5, 6), (3, 5, 6)])
def test_masks_of_attention_without_heads(shape):
    m = rng(5).standard_normal(shape)
    check(ours, theirs, *arrays((3, 5, 4), (3, 6, 4), (3, 6, 2)), m)


def test_infinite_masks_hide_keys():
    m = np.where(rng(5).uniform(size=(5, 6)) < 0.5, 0.0, -np.inf)
    m[:, 2] = 0
    check(
        lambda q, k, v: ours(q, k, v, to_mg(m)),
        lambda q, k, v: theirs(q, k, v, to_torch(m)),
        *arrays(*SHAPES[0]),
    )


def test_a_row_without_keys_is_zero_with_zero_gradients():
    q, k, v = (mg.tensor(a, requires_grad=True) for a in arrays(*SHAPES[2]))
    m = np.ones((5, 6), bool)
    m[1] = False
    out = ours(q, k, v, mg.tensor(m))
    assert out.tolist()[1] == [0.0] * 3
    out.backward(mg.ones(5, 3, dtype=mg.float64))
    assert q.grad.tolist()[1] == [0.0] * 4
    assert all(np.isfinite(x.grad.numpy()).all() for x in (q, k, v))


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_fewer_key_heads_agree_with_torch(heads):
    check(
        lambda *a: ours(*a, enable_gqa=True), lambda *a: theirs(*a, enable_gqa=True),
        *arrays((2, 4, 5, 3), (2, heads, 6, 3), (2, heads, 6, 3)), double=True,
    )  # fmt: skip


def test_pieces_give_the_same_result(monkeypatch):
    def run():
        q, k, v = (mg.tensor(a, requires_grad=True) for a in arrays(*[(3, 4, 5, 6)] * 3))
        out = ours(q, k, v, mg.tensor(rng(9).standard_normal((3, 1, 5, 5))))
        out.backward(out.detach())
        return [x.numpy(force=True) for x in (out, q.grad, k.grad, v.grad)]

    whole = run()
    for size in (1, 450, 2000):
        monkeypatch.setattr(attention, "_SCORE_BYTES", size)
        for made, expected in zip(run(), whole):
            np.testing.assert_allclose(made, expected, rtol=1e-12, atol=1e-12)


def test_large_scores_do_not_overflow():
    q, k, v = arrays(*SHAPES[0])
    q, k = 100 * q, 100 * k
    # The gradient makes probabilities again from the rows' logarithms of sums: an error in the last
    # place of a logarithm as large as the scores is an error of this size in the exponents.
    largest = np.abs(np.einsum("bhqe,bhke->bhqk", q, k)).max() / math.sqrt(q.shape[-1])
    error = 4 * float(np.spacing(np.float32(largest)))
    assert error < 0.02
    check(ours, theirs, q, k, v, dtype=np.float32, rtol=error, atol=error)


@pytest.mark.parametrize("dtype", [mg.float16, mg.bfloat16])
def test_sixteen_bit_attention_is_computed_in_float32(dtype):
    q, k, v = (mg.tensor(a).to(dtype) for a in arrays(*SHAPES[0]))
    wide = ours(q.float(), k.float(), v.float()).to(dtype)
    assert ours(q, k, v).tolist() == wide.tolist()


@pytest.mark.parametrize("dims", [(0, 0, 0), (0, None, 2), (None, 1, None)])
@pytest.mark.parametrize("mask", [None, (1, 1, 5, 6), (2, 1, 5, 6)])
@pytest.mark.parametrize("mask_dim", [None, 0, 2])
def test_batch_rules_equal_a_loop(dims, mask, mask_dim):
    if mask is None and mask_dim is not None:
        pytest.skip("no mask to batch")
    shapes, dims = list(SHAPES[0]), list(dims)
    if mask is not None:
        shapes.append(mask)
        dims.append(mask_dim)
    op = attention.Attention(False, 0.5)
    operands = [
        a if d is None else rng(i).standard_normal((*s[:d], 3, *s[d:]))
        for i, (a, s, d) in enumerate(zip(arrays(*shapes), shapes, dims))
    ]
    outs, where = op.batch(tuple(dims), 3, *map(mg.tensor, operands))
    one = [[a if d is None else a.take(i, d) for a, d in zip(operands, dims)] for i in range(3)]
    for i in range(3):
        for made, d, expected in zip(outs, where, op.reference(*one[i])):
            np.testing.assert_allclose(made.numpy().take(i, d), expected, rtol=1e-12, atol=1e-12)
    g = rng(20).standard_normal((3, 2, 3, 5, 7))
    out, logs = (o.numpy() for o in outs)
    gradient = attention.AttentionGrad(False, 0.5)
    results, where = gradient.batch((0, *dims, 0, 0), 3, *map(mg.tensor, (g, *operands, out, logs)))
    for i in range(3):
        expected = gradient.reference(g[i], *one[i], out[i], logs[i])
        for made, d, e in zip(results, where, expected):
            np.testing.assert_allclose(made.numpy().take(i, d), e, rtol=1e-12, atol=1e-12)


def test_dropped_weights_keep_the_mean():
    q, k, v = (mg.tensor(a) for a in arrays((1, 1, 4, 3), (1, 1, 50, 3), (1, 1, 50, 2)))
    with mg.fork_rng():
        mg.manual_seed(0)
        wide = [mg.tensor(np.repeat(x.numpy(), 4000, 0)) for x in (q, k, v)]
        made = ours(*wide, dropout_p=0.4).numpy()
    np.testing.assert_allclose(made.mean(0), ours(q, k, v).numpy()[0], atol=0.02)
    assert made.std(0).min() > 0.01


def test_dropout_of_nearly_nothing_is_plain_attention():
    for options in (
        dict(is_causal=True),
        dict(attn_mask=mg.tensor(rng().uniform(size=(5, 6)) > 0.4)),
    ):
        q, k, v = (mg.tensor(a) for a in arrays(*SHAPES[0]))
        close(ours(q, k, v, dropout_p=1e-12, **options), ours(q, k, v, **options).numpy())


def test_attention_in_float32_agrees_with_torch():
    check(ours, theirs, *arrays((2, 4, 64, 32), (2, 4, 64, 32), (2, 4, 64, 32)), dtype=np.float32)


@pytest.mark.parametrize(
    "shapes, options, kind, message",
    [
        (
            [(5, 4), (6, 3), (6, 3)], {}, ShapeError,
            "scaled_dot_product_attention: last sizes of query (5, 4) and key (6, 3) differ",
        ),
        (
            [(5, 4), (6, 4), (5, 4)], {}, ShapeError,
            "scaled_dot_product_attention: key (6, 4) and value (5, 4) differ in length "
            "(dimension -2)",
        ),
        (
            [(5, 4), (6, 4), (6, 4)], dict(attn_mask=mg.zeros(6, 5)), ShapeError,
            "scaled_dot_product_attention: attn_mask (6, 5) does not broadcast to the scores' "
            "shape (5, 6)",
        ),
        (
            [(5, 4), (6, 4), (6, 4)], dict(attn_mask=mg.zeros(2, 5, 6)), ShapeError,
            "scaled_dot_product_attention: attn_mask (2, 5, 6) does not broadcast to the scores' "
            "shape (5, 6)",
        ),
        (
            [(5, 4), (6, 4), (6, 4)], dict(attn_mask=mg.zeros(5, 6), is_causal=True),
            ArgumentError,
            "scaled_dot_product_attention: is_causal and attn_mask cannot both be given",
        ),
        (
            [(5, 4), (6, 4), (6, 4)], dict(attn_mask=mg.zeros(5, 6, dtype=mg.int64)), DTypeError,
            "scaled_dot_product_attention: attn_mask must be bool or floating, got int64",
        ),
        (
            [(3, 5, 4), (2, 6, 4), (2, 6, 4)], dict(enable_gqa=True), ShapeError,
            "scaled_dot_product_attention: query (3, 5, 4) must have a multiple of the heads "
            "(dimension -3) of key and value (2, 6, 4)",
        ),
    ],
)  # fmt: skip
def test_attention_explains_bad_arguments(shapes, options, kind, message):
    with raises_message(kind, message):
        ours(*(mg.zeros(*s) for s in shapes), **options)


def test_the_scale_is_that_of_the_last_size():
    q = mg.ones(1, 1, 1, 16)
    k = mg.tensor(np.stack([np.ones(16), np.zeros(16)])[None, None].astype(np.float32))
    v = mg.tensor(np.array([[1.0], [0.0]], np.float32)[None, None])
    assert abs(ours(q, k, v).item() - 1 / (1 + math.exp(-4))) < 1e-6
