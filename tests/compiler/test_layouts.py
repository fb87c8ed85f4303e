"""Values that spread channels-last and those that must stay in rows."""

import numpy as np
import pytest

import monograph as mg
from monograph import nn


@pytest.mark.parametrize("after", [nn.ReLU(), nn.MaxPool2d(2), nn.Identity()])
def test_a_linear_layer_reads_what_a_convolution_made_flat(after):
    g = mg.Generator().manual_seed(1)
    x = mg.randn(4, 1, 8, 8, generator=g)
    convolution, flatten = nn.Conv2d(1, 8, 3, padding=1), nn.Flatten()
    linear = nn.Linear(8 * 64 if not isinstance(after, nn.MaxPool2d) else 8 * 16, 5)
    net = nn.Sequential(convolution, after, flatten, linear)

    def gradients(x):
        out = net(x)
        found = mg.autograd.grad((out * out).sum(), list(net.parameters()))
        return out.detach(), *found

    eager = gradients(x)
    compiled = mg.jit(gradients)(x)
    for a, b in zip(eager, compiled):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize(
    "order, width", [((0, 2, 3, 1), 32), ((0, 3, 2, 1), 32), ((2, 0, 1, 3), 10)]
)
def test_what_permutes_an_image_stands_in_the_order_in_which_it_is_read(order, width):
    """Channels that a permutation makes the last axis are innermost: a product reads images along
    its rows, and exchanges no operands."""
    g = mg.Generator().manual_seed(2)
    x, convolution = mg.randn(3, 16, 9, 10, generator=g), nn.Conv2d(16, 32, 3, padding=1)
    norm, linear = nn.LayerNorm(width), nn.Linear(width, 24)

    def f(x):
        with mg.no_grad():
            return linear(norm(convolution(x).permute(order)).exp())

    compiled = mg.jit(f)
    np.testing.assert_allclose(f(x).numpy(), compiled(x).numpy(), rtol=2e-4, atol=2e-4)
    if order[-1] == 1:
        (product,) = (
            line for line in str(mg.explain(compiled, x).table).split("\n") if " contract " in line
        )
        image = convolution(x).permute(order)
        assert f"%  f32{list(image.shape)} " in product  # its first operand
