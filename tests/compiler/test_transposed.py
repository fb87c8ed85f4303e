"""Transposed convolutions with strides: residues one by one, and together as one convolution."""

import numpy as np
import pytest
from native import assert_same, processor  # noqa: F401  (a fixture)

import monograph as mg
from monograph import nn
from monograph.ops.conv import ConvInput

# channels in and out, kernel, stride, padding, dilation, places, size
CASES = {
    "images from a decoder": ((20, 3), (4, 4), (2, 2), (1, 1), (1, 1), (5, 6), (10, 12)),
    "windows side by side": ((16, 18), (2, 3), (2, 3), (0, 0), (1, 1), (4, 5), (8, 15)),
    "places left over": ((3, 2), (3, 3), (3, 3), (1, 1), (1, 1), (4, 4), (12, 11)),
    "residues that see nothing": ((5, 2), (2, 1), (4, 3), (1, 0), (2, 1), (3, 4), (10, 12)),
    "dilated": ((17, 4), (5, 4), (3, 2), (2, 0), (2, 3), (5, 4), (17, 16)),
    "more padding than filter": ((3, 1), (3, 2), (2, 2), (3, 2), (1, 1), (6, 7), (7, 10)),
    "many channels": ((16, 32), (4, 4), (2, 2), (1, 1), (1, 1), (5, 6), (10, 12)),
    "a line": ((20, 2), (8,), (4,), (2,), (1,), (7,), (28,)),
    "volumes": ((3, 2), (2, 2, 3), (2, 2, 2), (0, 1, 1), (1, 1, 1), (2, 3, 3), (4, 4, 5)),
}  # fmt: skip


def made(name):
    (inputs, outputs), kernel, stride, padding, dilation, places, size = CASES[name]
    rng = np.random.default_rng(0)
    y = rng.standard_normal((2, inputs, *places), np.float32)
    w = rng.standard_normal((inputs, outputs, *kernel), np.float32)
    return ConvInput(stride, padding, dilation, 1, size), y, w


@pytest.mark.parametrize("name", CASES)
def test_transposed_convolutions(name):
    op, y, w = made(name)
    assert_same(op, y, w, rtol=1e-4, atol=1e-4)
    assert_same(op, y, w, order=(0, *range(2, y.ndim), 1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["images from a decoder", "dilated"])
def test_on_other_processors(processor, name):  # noqa: F811
    op, y, w = made(name)
    assert_same(op, y, w, rtol=1e-4, atol=1e-4)


def test_few_channels_are_one_convolution():
    net = nn.ConvTranspose2d(32, 3, 4, 2, 1).eval()

    def f(x):
        with mg.no_grad():
            return net(x).sigmoid()

    table = str(mg.explain(f, mg.randn(1, 32, 8, 8)).table)
    assert sum(" conv " in line for line in table.split("\n")) == 1
