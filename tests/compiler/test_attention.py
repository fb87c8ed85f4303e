"""Compiled attention and its gradient against their NumPy meaning."""

import numpy as np
import pytest

import monograph as mg
from monograph.ops.attention import Attention, AttentionGrad

# images, heads of queries, of keys, queries, keys, width, width of values
SIZES = [
    (1, 1, 1, 1, 1, 1, 1),
    (2, 3, 3, 5, 7, 4, 6),
    (1, 2, 2, 64, 64, 64, 64),
    (2, 2, 1, 65, 63, 72, 40),
    (1, 1, 1, 197, 197, 64, 64),
    (1, 2, 2, 33, 130, 80, 16),
    (1, 1, 1, 300, 20, 8, 130),
    (2, 4, 2, 1, 777, 64, 64),
    (1, 4, 4, 3, 1100, 32, 24),
    (1, 2, 2, 256, 513, 17, 33),
    (1, 6, 2, 129, 129, 24, 24),
]
TOLERANCE = {mg.float32: 2e-5, mg.float64: 1e-11, mg.bfloat16: 2e-2, mg.float16: 3e-3}
KINDS = ["whole", "causal", "bool", "added", "padding", "by head"]


def mask_of(kind, sizes, r):
    n, heads, _, length, keys, _, _ = sizes
    if kind == "bool":
        hidden = r.uniform(size=(n, heads, length, keys)) < 0.4
        hidden[:, :, length // 2] = True  # a query that sees no key
        return [mg.tensor(~hidden)]
    if kind == "padding":
        seen = r.uniform(size=(n, 1, 1, keys)) < 0.6
        return [mg.tensor(seen).expand(n, 1, length, keys)]
    if kind == "added":
        return [mg.tensor(r.standard_normal((n, 1, length, keys)))]
    if kind == "by head":
        return [mg.tensor(r.standard_normal((1, heads, length, keys)))]
    return []


def operands(sizes, dtype, kind):
    n, heads, shared, length, keys, width, depth = sizes
    r = np.random.default_rng(0)
    shapes = (
        (n, heads, length, width), (n, shared, keys, width), (n, shared, keys, depth),
        (n, heads, length, depth),
    )  # fmt: skip
    q, k, v, g = (mg.tensor(r.standard_normal(s)).to(dtype) for s in shapes)
    masks = [m if m.dtype is mg.bool else m.to(dtype) for m in mask_of(kind, sizes, r)]
    return [q, k, v, *masks], g


def assert_close(made, expected, tolerance):
    made, expected = made.double().numpy(), np.asarray(expected, np.float64)
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(np.isfinite(made), finite)
    scale = max(1.0, np.abs(expected[finite]).max(initial=0))
    gap = np.abs(made[finite] - expected[finite])
    assert gap.max(initial=0) <= tolerance * scale


def cases():
    """All sizes, kinds and dtypes; by default each size with two kinds (16-bit floats, which differ
    in loads and stores only, each second size with one), and each kind with several sizes."""
    for d, dtype in enumerate(TOLERANCE):
        for i, sizes in enumerate(SIZES):
            for k, kind in enumerate(KINDS):
                if dtype in (mg.float32, mg.float64):
                    often = (k - i) % 3 == d
                elif kind in ("causal", "padding"):
                    often = i % 4 == 2 * (kind == "causal") + d % 2
                else:
                    continue
                marks = () if often else (pytest.mark.slow,)
                yield pytest.param(dtype, sizes, kind, marks=marks)


@pytest.mark.parametrize(
    "dtype, sizes, kind", list(cases()), ids=lambda x: getattr(x, "name", str(x))
)
def test_kernels_agree_with_their_meaning(dtype, sizes, kind):
    inputs, g = operands(sizes, dtype, kind)
    op, gradient = Attention(kind == "causal", 0.3), AttentionGrad(kind == "causal", 0.3)
    results = mg.jit(lambda *a: op(*a))(*inputs)
    for made, expected in zip(results, op.reference(*[x.numpy() for x in inputs])):
        assert_close(made, expected, TOLERANCE[dtype])
    inputs = [g, *inputs, *results]
    expected = gradient.reference(*[x.numpy() for x in inputs])
    for made, e in zip(mg.jit(lambda *a: gradient(*a))(*inputs), expected):
        assert_close(made, e, TOLERANCE[dtype])


@pytest.mark.parametrize("length", [60, 100, 110, 150, 230, 300, 310, 330])
@pytest.mark.parametrize("more_keys", [0, 37, -40])
def test_causal_blocks_of_queries_and_keys_of_different_sizes(length, more_keys):
    test_kernels_agree_with_their_meaning(
        mg.float64, (2, 2, 2, length, length + more_keys, 16, 24), "causal"
    )


def test_heads_side_by_side_are_read_in_place():
    r = np.random.default_rng(1)
    x = mg.tensor(r.standard_normal((2, 70, 3 * 4 * 24)).astype(np.float32))

    def attend(x):
        q, k, v = (p.reshape(2, 70, 4, 24).transpose(1, 2) for p in x.chunk(3, -1))
        return Attention(True, 0.2)(q, k, v)[0].transpose(1, 2).reshape(2, 70, 96)

    assert_close(mg.jit(attend)(x), attend(x.double()).numpy(), 2e-5)


@pytest.mark.parametrize("length, keys", [(70, 70), (1, 900), (5, 2000)])
def test_a_nan_or_infinity_reaches_the_rows_that_see_it(length, keys):
    inputs, _ = operands((1, 2, 2, length, keys, 16, 16), mg.float32, "whole")
    for i, value in ((0, np.nan), (1, np.nan), (2, np.inf)):
        changed = [x.clone() for x in inputs]
        changed[i][0, 1, 0, 3] = value
        made = mg.jit(lambda *a: Attention(False, 0.3)(*a)[0])(*changed).numpy()
        expected = Attention(False, 0.3).reference(*[x.numpy() for x in changed])[0]
        np.testing.assert_array_equal(np.isnan(made), np.isnan(expected))
        np.testing.assert_array_equal(np.isinf(made), np.isinf(expected))


def test_operands_whose_rows_are_apart_are_copied():
    rng = np.random.default_rng(3)
    x = mg.tensor(rng.standard_normal((2, 3, 12, 20)).astype(np.float32), requires_grad=True)

    def f(x):
        q, k, v = x.transpose(2, 3).unbind(1)  # (N, L, E), columns of what is stored
        y = mg.nn.functional.scaled_dot_product_attention(q, k, v)
        return y, mg.autograd.grad((y * y).sum(), x)[0]

    assert "NumPy" not in mg.explain(f, x).totals
    for made, expected in zip(mg.jit(f)(x), f(x)):
        np.testing.assert_allclose(made.detach().numpy(), expected.detach().numpy(), atol=2e-6)
