"""Random words in loops: neighbours share a block of the generator, whatever the shape."""

import numpy as np
import pytest

import monograph as mg
import monograph.nn.functional as F

SHAPES = [(3, 128), (5, 260), (2, 3, 68), (4, 66), (257, 64), (1, 1024), (7, 4), (130,), (40000,)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [mg.float32, mg.float64, mg.bfloat16], ids=lambda d: d.name)
def test_captured_dropout_drops_what_eager_dropout_drops(shape, dtype):
    x = mg.tensor(np.random.default_rng(0).uniform(1, 2, shape)).to(dtype)
    mg.manual_seed(3)
    eager = F.dropout(x, 0.3)
    mg.manual_seed(3)
    captured = mg.jit(lambda x: F.dropout(x, 0.3))(x)
    assert ((eager == 0) == (captured == 0)).all().item()
    assert (eager - captured).abs().max().item() <= 1e-2 * (dtype is mg.bfloat16) + 1e-6


@pytest.mark.parametrize("shape", [(6, 128), (3, 5, 260), (9, 66)], ids=str)
def test_softmax_with_dropout_is_one_row_kernel(shape):
    x = mg.tensor(np.random.default_rng(0).standard_normal(shape).astype(np.float32))

    def f(x):
        return F.dropout(F.softmax(x, -1), 0.4)

    mg.manual_seed(3)
    eager = f(x)
    mg.manual_seed(3)
    np.testing.assert_allclose(mg.jit(f)(x).numpy(), eager.numpy(), rtol=2e-6, atol=1e-9)


@pytest.mark.parametrize("draw", [mg.rand, mg.randn], ids=["rand", "randn"])
@pytest.mark.parametrize("shape", [(64,), (3, 4, 72), (5, 130), (33, 64)], ids=str)
def test_captured_numbers_are_eager_numbers(draw, shape):
    mg.manual_seed(5)
    eager = draw(*shape)
    mg.manual_seed(5)
    captured = mg.jit(lambda: draw(*shape) * 1.0)()
    np.testing.assert_allclose(captured.numpy(), eager.numpy(), rtol=1e-6, atol=1e-6)
