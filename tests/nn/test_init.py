"""nn.init: exact fills, bounds and moments of the random ones, messages."""

import math

import numpy as np
import pytest
from torch_oracle import array, message, torch

import monograph as mg
from monograph import nn
from monograph.nn import init


def test_gains_equal_torch():
    for name in ["linear", "conv2d", "sigmoid", "tanh", "relu", "selu", "leaky_relu"]:
        assert init.calculate_gain(name) == torch.nn.init.calculate_gain(name)
    assert init.calculate_gain("leaky_relu", 0.2) == torch.nn.init.calculate_gain("leaky_relu", 0.2)
    assert message(init.calculate_gain, "swish") == (
        "ArgumentError: calculate_gain: unknown nonlinearity 'swish'; known: conv1d, conv2d, "
        "conv3d, conv_transpose1d, conv_transpose2d, conv_transpose3d, leaky_relu, linear, relu, "
        "selu, sigmoid, tanh"
    )


def test_exact_fills_change_the_tensor_in_place_and_return_it():
    w = nn.Parameter(mg.zeros(2, 3))
    assert init.ones_(w) is w
    assert w.tolist() == [[1.0] * 3] * 2
    assert init.zeros_(w).tolist() == [[0.0] * 3] * 2
    assert init.constant_(w, 2.5).tolist() == [[2.5] * 3] * 2
    assert init.eye_(w).tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    assert w.requires_grad and w.grad_fn is None


@pytest.mark.parametrize("shape, groups", [((4, 4, 3), 1), ((6, 2, 3, 5), 3), ((2, 3, 1, 2, 3), 1)])
def test_dirac_equals_torch(shape, groups):
    mine = init.dirac_(mg.ones(*shape), groups)
    assert (array(mine) == array(torch.nn.init.dirac_(torch.ones(*shape), groups))).all()


UNIFORM = [
    ("uniform_", {"a": -2.0, "b": 3.0}, -2.0, 3.0),
    ("xavier_uniform_", {"gain": 2.0}, -2 * math.sqrt(6 / 900), 2 * math.sqrt(6 / 900)),
    ("kaiming_uniform_", {}, -math.sqrt(6 / 600), math.sqrt(6 / 600)),
    ("kaiming_uniform_", {"a": 1, "mode": "fan_out"}, -math.sqrt(3 / 300), math.sqrt(3 / 300)),
]


@pytest.mark.parametrize("name, kwargs, low, high", UNIFORM)
def test_uniform_fills_cover_their_interval(name, kwargs, low, high):
    x = array(getattr(init, name)(mg.zeros(100, 200, 3), **kwargs)).astype(np.float64)
    width = high - low
    assert low - 1e-6 <= x.min() < low + 0.01 * width
    assert high - 0.01 * width < x.max() <= high + 1e-6
    # 60000 draws: the mean's standard deviation is width / sqrt(12 * 60000) = 0.0012 width.
    assert abs(x.mean() - (low + high) / 2) < 0.006 * width
    assert abs(x.std() - width / math.sqrt(12)) < 0.006 * width


NORMAL = [
    ("normal_", {"mean": 1.0, "std": 2.0}, 1.0, 2.0),
    ("xavier_normal_", {}, 0.0, math.sqrt(2 / 900)),
    ("kaiming_normal_", {"nonlinearity": "relu"}, 0.0, math.sqrt(2 / 600)),
]


@pytest.mark.parametrize("name, kwargs, mean, std", NORMAL)
def test_normal_fills_have_their_moments(name, kwargs, mean, std):
    x = array(getattr(init, name)(mg.zeros(100, 200, 3), **kwargs)).astype(np.float64)
    # 60000 draws: standard deviations 0.004 of the mean and 0.003 of the standard deviation.
    assert abs(x.mean() - mean) < 0.02 * std
    assert abs(x.std() / std - 1) < 0.015
    assert abs(((x - mean) ** 4).mean() / std**4 - 3) < 0.2


def test_truncated_normal_stays_inside_and_has_its_moments():
    x = array(init.trunc_normal_(mg.zeros(60000), mean=1.0, std=2.0, a=0.0, b=4.0))
    assert x.min() >= 0 and x.max() <= 4
    # Moments of the normal restricted to [-0.5, 1.5] standard deviations (numerical integration).
    grid = np.linspace(-0.5, 1.5, 200001)
    density = np.exp(-(grid**2) / 2)
    mean = (grid * density).sum() / density.sum()
    std = math.sqrt(((grid - mean) ** 2 * density).sum() / density.sum())
    assert abs(x.mean() - (1 + 2 * mean)) < 0.03
    assert abs(x.std() - 2 * std) < 0.03


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3), (4, 2, 3)])
def test_orthogonal_rows_or_columns_are_orthonormal_times_gain(shape):
    w = array(init.orthogonal_(mg.zeros(*shape), gain=2.0)).reshape(shape[0], -1)
    product = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(product, 4 * np.eye(len(product)), atol=1e-5)


def test_sparse_fill_zeroes_a_share_of_each_column():
    w = array(init.sparse_(mg.zeros(10, 4), 0.25))
    assert ((w == 0).sum(0) == 3).all()


def test_fills_with_one_generator_repeat():
    def fill():
        return init.normal_(mg.zeros(5), generator=mg.Generator().manual_seed(3)).tolist()

    assert fill() == fill()


def test_fans_need_two_dimensions():
    assert message(init.xavier_uniform_, mg.zeros(3)) == (
        "ShapeError: xavier_uniform_: fan in and fan out need at least 2 dimensions, got shape (3,)"
    )
    assert message(init.kaiming_normal_, mg.zeros(3, 3), mode="in") == (
        "ArgumentError: kaiming_normal_: mode must be 'fan_in' or 'fan_out', got 'in'"
    )
