"""Sums over windows that tile an image (compiler/windows.py)."""

import numpy as np
import pytest

import monograph as mg
import monograph.nn.functional as F


def rows(f, *x):
    return [row.title for row in mg.explain(f, *x, rounds=1).rows]


@pytest.mark.parametrize(
    ("shape", "kernel"),
    [
        ((2, 5, 6, 9), (2, 3)),
        ((3, 4, 8, 8), (8, 4)),
        ((2, 3, 12), (4,)),
        ((1, 2, 4, 4, 6), (2, 2, 3)),
    ],
)
def test_average_pooling_adds_slices(shape, kernel):
    x = mg.randn(*shape)
    pool = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[len(kernel)]
    counts = [n // k for n, k in zip(shape[2:], kernel)]
    cut = [m for pair in zip(counts, kernel) for m in pair]
    axes = tuple(range(3, 2 + 2 * len(kernel), 2))
    expected = x.numpy().astype(np.float64).reshape(*shape[:2], *cut).mean(axes)

    def f(x):
        return pool(x, kernel).exp()

    np.testing.assert_allclose(mg.jit(f)(x).numpy(), np.exp(expected), rtol=1e-5)
    assert not any("reduce" in title for title in rows(f, x))


def test_averages_of_whole_images_stay_sums_along_channels():
    w, x = mg.randn(32, 16, 3, 3), mg.randn(2, 16, 10, 10)

    def f(x):
        y = F.conv2d(x, w, padding=1)
        return F.adaptive_avg_pool2d(y, 1) * y

    y = F.conv2d(x, w, padding=1).numpy()
    expected = y.mean((2, 3), keepdims=True) * y
    np.testing.assert_allclose(mg.jit(f)(x).numpy(), expected, rtol=1e-4, atol=1e-5)
    graph = mg.explain(f, x, rounds=1).graph
    assert "axes=(2,3)" in graph and "axes=(3,5)" not in graph


def test_the_gradient_of_repeated_pixels_adds_slices():
    x, scale = mg.randn(2, 3, 4, 5).requires_grad_(), mg.randn(2, 3, 8, 15)

    @mg.jit
    def gradient(x):
        y = F.interpolate(x, size=(8, 15)) * scale
        return mg.autograd.grad(y.sum(), x)[0]

    expected = scale.numpy().reshape(2, 3, 4, 2, 5, 3).sum((3, 5))
    np.testing.assert_allclose(gradient(x).numpy(), expected, rtol=1e-5, atol=1e-6)


def test_an_average_that_is_repeated_is_computed_once():
    x = mg.randn(2, 4, 8, 8)

    def f(x):
        small = F.avg_pool2d(x, 2)
        return F.interpolate(small, scale_factor=2.0) + x

    small = x.numpy().reshape(2, 4, 4, 2, 4, 2).mean((3, 5))
    expected = small.repeat(2, 2).repeat(2, 3) + x.numpy()
    np.testing.assert_allclose(mg.jit(f)(x).numpy(), expected, rtol=1e-5, atol=1e-6)
    assert "slice" not in mg.explain(f, x, rounds=1).graph


def test_16_bit_floats_are_summed_as_before():
    x = mg.randn(2, 4, 8, 8).to(mg.bfloat16)
    expected = x.float().numpy().reshape(2, 4, 4, 2, 4, 2).mean((3, 5))
    made = mg.jit(lambda x: F.avg_pool2d(x, 2))(x)
    assert made.dtype is mg.bfloat16
    np.testing.assert_allclose(made.float().numpy(), expected, rtol=1e-2, atol=1e-2)


def test_sums_of_windows_that_are_summed_too_are_sums_of_the_image():
    x, w = mg.randn(2, 4, 6, 8), mg.randn(5, 4, 1, 1)

    def f(x):
        y = F.conv2d(x, w)
        return y.reshape(2, 5, 3, 2, 8).sum((2, 3, 4)), y.reshape(2, 5, 3, 2, 8).sum((3, 4))

    y = F.conv2d(x, w).numpy()
    made = mg.jit(f)(x)
    np.testing.assert_allclose(made[0].numpy(), y.sum((2, 3)), rtol=1e-4, atol=1e-4)
    expected = y.reshape(2, 5, 3, 16).sum(3)
    np.testing.assert_allclose(made[1].numpy(), expected, rtol=1e-4, atol=1e-4)
    assert "axes=(2,3)" in mg.explain(f, x, rounds=1).graph
