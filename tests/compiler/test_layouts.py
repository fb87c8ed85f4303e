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
