"""Maximum over windows against its NumPy meaning: taps written out, and in loops."""

import numpy as np
import pytest
from native import assert_same, processor  # noqa: F401  (a fixture)

import monograph as mg
from monograph.ops.pooling import MaxPool

# shape, kernel, stride, padding, dilation, counts
CASES = {
    "3x3": ((2, 5, 9, 8), (3, 3), (2, 2), (1, 1), (1, 1), (5, 4)),
    "7x7": ((2, 20, 8, 9), (7, 7), (1, 1), (3, 3), (1, 1), (8, 9)),
    "13x13 over less": ((1, 3, 5, 6), (13, 13), (1, 1), (6, 6), (1, 1), (5, 6)),
    "a long line": ((2, 3, 90), (40,), (3,), (20,), (1,), (31,)),
    "dilated": ((1, 17, 20, 20), (6, 6), (2, 3), (3, 2), (2, 1), (8, 7)),
    "volumes": ((1, 3, 6, 7, 8), (4, 3, 3), (1, 2, 2), (2, 1, 0), (1, 1, 1), (7, 4, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int32])
def test_maximum_over_windows(name, dtype):
    shape, *window = CASES[name]
    rng = np.random.default_rng(0)
    x = rng.integers(-9, 9, shape).astype(dtype)
    if np.dtype(dtype).kind == "f":
        x.flat[::7] = np.nan
        x.flat[1::3] = -np.inf
    assert_same(MaxPool(*window), x)
    assert_same(MaxPool(*window), x, order=(0, *range(2, x.ndim), 1))


def test_on_other_processors(processor):  # noqa: F811
    shape, *window = CASES["7x7"]
    assert_same(MaxPool(*window), np.random.default_rng(1).standard_normal(shape, np.float32))


@pytest.mark.parametrize("name", CASES)
def test_places_that_nobody_reads_are_not_made(name):
    shape, *window = CASES[name]
    x = np.random.default_rng(2).integers(-9, 9, shape).astype(np.float32)
    x.flat[::7] = np.nan
    x.flat[1::3] = -np.inf
    compiled = mg.jit(lambda x: MaxPool(*window)(x)[0])
    np.testing.assert_array_equal(compiled(mg.tensor(x)).numpy(), MaxPool(*window).reference(x)[0])
    (line,) = (n for n in str(mg.explain(compiled, mg.tensor(x)).table).split("\n") if "max_" in n)
    assert "i32" not in line
