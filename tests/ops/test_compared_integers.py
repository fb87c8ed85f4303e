"""Comparisons of integer tensors, which skip the door where both are of one dtype and small."""

import operator

import numpy as np
import pytest

import monograph as mg

NUMBERS = (2, 0, -3, 2.0, 2.5, True, 2**31 - 1, -(2**31), float("inf"), float("nan"))


@pytest.mark.parametrize("op", ["eq", "ne", "lt", "le", "gt", "ge"])
@pytest.mark.parametrize("dtype", ["int64", "int32", "int16", "uint8"])
def test_integers_beside_numbers_and_tensors(op, dtype):
    f = getattr(operator, op)
    x = np.array([[1], [0], [2], [5]], dtype)
    y = np.array([5, 0, 1, 2], dtype)
    a, b = mg.tensor(x), mg.tensor(y)
    np.testing.assert_array_equal(f(a, b).numpy(), f(x, y))
    np.testing.assert_array_equal(f(a[::2], b).numpy(), f(x[::2], y))
    np.testing.assert_array_equal(f(a, b.double()).numpy(), f(x, y.astype("f8")))
    if dtype[-1] in "24":  # 32 and 64 bits
        for n in NUMBERS:
            np.testing.assert_array_equal(f(a, n).numpy(), f(x.astype("f8"), n))
            np.testing.assert_array_equal(f(n, b).numpy(), f(n, y.astype("f8")))
    assert f(a, b).dtype is mg.bool and not f(a, b).requires_grad
