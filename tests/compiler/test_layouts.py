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


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 3, 1), (1, 0, 3, 2), (3, 2, 1, 0)])
@pytest.mark.parametrize("padding, stride, groups", [(0, 2, 1), (1, 1, 1), (2, 3, 1), (1, 1, 3)])
def test_an_image_of_few_channels_is_read_in_any_order(order, padding, stride, groups):
    g = mg.Generator().manual_seed(4)
    x = mg.randn(*(((2, 6, 11, 13))[a] for a in order), generator=g)
    convolution = nn.Conv2d(6, 18, (3, 4), stride, padding, groups=groups)

    def gradients(x):
        x = x.permute(*np.argsort(order).tolist())
        out = convolution(x)
        found = mg.autograd.grad((out * out).sum(), list(convolution.parameters()))
        return out.detach(), *found

    for a, b in zip(gradients(x), mg.jit(gradients)(x)):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=2e-4, atol=2e-4)


def test_a_networks_first_image_is_not_copied():
    x, convolution = mg.randn(2, 3, 12, 12), nn.Conv2d(3, 32, 4, 4)

    def f(x):
        with mg.no_grad():
            return convolution(x).relu()

    assert " copy " not in str(mg.explain(f, x).table)
