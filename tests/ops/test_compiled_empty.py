"""Tensors without elements under jit: the same shapes and values as eager."""

import numpy as np
import pytest

import monograph as mg

FUNCTIONS = {
    "exp": lambda x: x.exp(),
    "sum": lambda x: x.sum(),
    "sum of rows": lambda x: x.sum(-1),
    "sum of columns": lambda x: x.sum(0),
    "mean": lambda x: x.mean(),
    "product": lambda x: x.prod(0),
    "flip": lambda x: mg.flip(x, 0),
    "cat": lambda x: mg.cat([x, x]),
    "softmax": lambda x: x.softmax(-1),
}


@pytest.mark.parametrize("shape", [(0,), (0, 2), (2, 0), (3, 0, 4)])
def test_functions_of_nothing(shape):
    x = mg.zeros(shape)

    def all_of(x):
        return [f(x) for f in FUNCTIONS.values()]

    for name, got, expected in zip(FUNCTIONS, mg.jit(all_of)(x), all_of(x)):
        assert got.shape == expected.shape, name
        assert np.array_equal(got.numpy(), expected.numpy(), equal_nan=True), name
