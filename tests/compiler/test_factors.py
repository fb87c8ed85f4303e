"""Factors along the sum of a product, moved to the smaller operand."""

import numpy as np
import pytest

import monograph as mg
from monograph import nn

# f(x (9, 6, 24), v (24,), w (24, 3)) and whether a factor moves
CASES = {
    "linear": (lambda x, v, w: (x * v) @ w, True),
    "on the left": (lambda x, v, w: w.T @ (x.mT * v[:, None]), True),
    "two": (lambda x, v, w: ((x * v) * v.exp()) @ w, True),
    "of two letters": (
        lambda x, v, w: mg.einsum("bij,jio->bo", x * (v[:6, None] + v), w[:, None] + v[:6, None]),
        True,
    ),
    "along rows": (lambda x, v, w: (x * v[:6, None]) @ w, False),
    "of a batch": (lambda x, v, w: (x * v[:9, None, None]) @ w, False),
    "read twice": (lambda x, v, w: ((y := x * v) @ w).sum() + y, False),
    "returned": (lambda x, v, w: ((y := x * v) @ w, y), False),
    "into the larger one": (lambda x, v, w: x @ (w * v[:, None]), None),
    "by itself": (lambda x, v, w: mg.einsum("bij,bij->b", y := x * v, y), False),
}


@pytest.mark.parametrize("name", CASES)
def test_factors(name):
    f, moves = CASES[name]
    rng = np.random.default_rng(0)
    args = [mg.tensor(rng.standard_normal(s)) for s in ((9, 6, 24), (24,), (24, 3))]
    compiled = mg.jit(f)
    found, expected = compiled(*args), f(*args)
    if not isinstance(found, tuple):
        found, expected = (found,), (expected,)
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-11, atol=1e-11)
    table = str(mg.explain(compiled, *args).table)
    assert moves is None or ("-> f64[9, 6, 24]" not in table) == moves


def test_a_gate_of_channels_makes_no_other_image():
    mg.manual_seed(0)
    net = nn.Conv2d(16, 8, 1).eval()

    def f(x, gate):
        with mg.no_grad():
            return net(x.exp() * gate.sigmoid()[:, :, None, None])

    for n, image in ((1, False), (2, True)):
        x, gate = mg.randn(n, 16, 12, 12), mg.randn(n, 16)
        compiled = mg.jit(f)
        assert np.allclose(compiled(x, gate).numpy(), f(x, gate).numpy(), rtol=1e-4, atol=1e-5)
        assert ("map_exp_mul" in str(mg.explain(compiled, x, gate).table)) <= image
