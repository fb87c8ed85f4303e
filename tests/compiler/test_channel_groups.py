"""Normalisation over groups of channels beside convolutions (compiler/channel_groups.py)."""

import numpy as np
import pytest

import monograph as mg
import monograph.nn.functional as F


def normalised(x, groups, weight, bias, eps=1e-5):
    """group_norm in float64."""
    x = x.astype(np.float64)
    cut = x.reshape(x.shape[0], groups, -1)
    cut = (cut - cut.mean(2, keepdims=True)) / np.sqrt(cut.var(2, keepdims=True) + eps)
    ones = (1, -1, *(1,) * (x.ndim - 2))
    return cut.reshape(x.shape) * weight.reshape(ones) + bias.reshape(ones)


@pytest.mark.parametrize("groups", [1, 4, 12])
@pytest.mark.parametrize("size", [(6, 5), (3, 4, 2)])
def test_group_norm_beside_a_convolution_reads_images(groups, size):
    x = mg.randn(3, 12, *size)
    w = mg.randn(12, 12, *(1,) * len(size))
    weight, bias = mg.randn(12), mg.randn(12)
    conv = {2: F.conv2d, 3: F.conv3d}[len(size)]

    def f(x):
        return F.silu(F.group_norm(conv(x, w), groups, weight, bias))

    y = normalised(conv(x, w).numpy(), groups, weight.numpy(), bias.numpy())
    expected = y / (1 + np.exp(-y))
    np.testing.assert_allclose(mg.jit(f)(x).numpy(), expected, rtol=1e-4, atol=1e-5)
    graph = mg.explain(f, x, rounds=1).graph
    rest = 12 // groups * int(np.prod(size))
    assert f"[3, {groups}, {rest}] = sub" not in graph


def test_gradients_through_group_norm_are_the_eager_ones():
    x = mg.randn(2, 8, 6, 6)
    parts = [mg.randn(16, 8, 3, 3) * 0.2, mg.randn(16), mg.randn(16), mg.randn(2, 16)]
    parts = [p.requires_grad_() for p in parts]

    def gradients():
        w, weight, bias, shift = parts
        y = F.conv2d(x, w, padding=1) + shift[:, :, None, None]
        y = F.silu(F.group_norm(y, 4, weight, bias)) + y
        y = F.group_norm(F.avg_pool2d(y, 2), 2)
        return mg.autograd.grad((y * y.exp()).mean(), parts)

    for made, expected in zip(mg.jit(gradients)(), gradients()):
        np.testing.assert_allclose(made.numpy(), expected.numpy(), rtol=2e-3, atol=1e-5)


def test_views_in_groups_that_are_no_normalisation_keep_their_meaning():
    x, w = mg.randn(2, 8, 4, 4), mg.randn(8, 8, 1, 1)
    table = mg.randn(2, 2, 64)

    def f(x):
        cut = F.conv2d(x, w).reshape(2, 2, 64)
        doubled = cut * 2.0
        return (
            doubled + table,  # not an image's
            doubled.softmax(2),
            doubled.amax(2),
            doubled.reshape(4, 64).sum(0),
            (doubled - doubled.sum(2, keepdim=True)).reshape(2, 8, 16),
        )

    for made, expected in zip(mg.jit(f)(x), f(x)):
        np.testing.assert_allclose(made.numpy(), expected.numpy(), rtol=1e-4, atol=1e-4)
