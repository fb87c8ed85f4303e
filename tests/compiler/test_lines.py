"""Kernels along one axis against their NumPy meanings: positions, running results."""

import ml_dtypes
import numpy as np
import pytest
from native import assert_same, processor  # noqa: F401  (a fixture)

from monograph.compiler.kernels import position
from monograph.ops.cumulative import Cumprod, Cumsum, LinearScan, LogCumsumExp, RunningExtreme
from monograph.ops.reducers import ArgMax, ArgMin

SHAPES = [
    ((1,), 0), ((7,), 0), ((300,), 0), ((5, 9), 0), ((5, 9), 1), ((3, 70), 0), ((70, 3), 1),
    ((40, 17, 3), 1), ((1, 6, 1, 33), 1), ((4, 1, 130), 1), ((2, 3, 4, 5), 2), ((33, 20), 0),
    ((2, 3, 4, 5), 0), ((200, 2), 0),
]  # fmt: skip
FEW = [SHAPES[1], SHAPES[4], SHAPES[5], SHAPES[7]]
FLOATS = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
INTEGERS = [np.int8, np.uint8, np.int16, np.int32, np.int64]


def sample(rng, shape, dtype):
    """Few different values, so that there are equals; nan, infinities and zeros of both signs."""
    if dtype is np.bool_:
        return rng.integers(0, 2, shape).astype(bool)
    if np.dtype(dtype).kind in "iu":
        return rng.integers(0 if np.dtype(dtype).kind == "u" else -3, 4, shape).astype(dtype)
    x = rng.integers(-3, 4, shape) / 2
    if rng.random() < 0.5:
        x = np.where(rng.random(shape) < 0.1, rng.choice([np.nan, np.inf, -np.inf, -0.0]), x)
    return x.astype(dtype)


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS, np.bool_])
def test_positions_of_extremes(dtype):
    rng = np.random.default_rng(0)
    for shape, axis in SHAPES if dtype is np.float32 else FEW:
        x = sample(rng, shape, dtype)
        assert_same(ArgMax((axis,)), x)
        assert_same(ArgMin((axis,)), x, order=tuple(reversed(range(len(shape)))))


def test_positions_of_extremes_on_other_processors(processor):  # noqa: F811
    rng = np.random.default_rng(1)
    for shape, axis in FEW:
        for dtype in (np.float32, np.float16, np.int64):
            assert_same(ArgMax((axis,)), sample(rng, shape, dtype))


def test_nothing_but_the_lowest_value():
    for value in (-np.inf, np.nan):
        x = np.full((3, 50), value, np.float32)
        assert_same(ArgMax((1,)), x)
        assert_same(ArgMax((0,)), x)
    assert_same(ArgMin((1,)), np.full((2, 40), 127, np.int8))


def test_positions_in_long_lines(monkeypatch):
    monkeypatch.setattr(position, "PART", 64)
    rng = np.random.default_rng(2)
    for dtype in (np.float32, np.float64, np.float16, np.int32):
        for shape in ((65,), (1000,), (3, 129)):
            for _ in range(4):
                x = sample(rng, shape, dtype)
                assert_same(ArgMax((len(shape) - 1,)), x)
                assert_same(ArgMin((len(shape) - 1,)), x)


SCANS = [Cumsum, Cumprod, LogCumsumExp]


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS])
def test_running_results(dtype):
    rng = np.random.default_rng(3)
    for k, (shape, axis) in enumerate(SHAPES if dtype is np.float32 else FEW):
        x = sample(rng, shape, dtype)
        order = tuple(reversed(range(len(shape)))) if k % 2 else None
        assert_same(Cumsum(axis), x, order=order)
        assert_same(Cumprod(axis), x, order=order)
        assert_same(LinearScan(axis), x, sample(rng, shape, dtype), order=order)
        assert_same(RunningExtreme(axis, True), x)
        assert_same(RunningExtreme(axis, False), x, order=order)


@pytest.mark.parametrize("dtype", FLOATS)
def test_running_logarithms_of_sums(dtype):
    rng = np.random.default_rng(4)
    rtol = {4: 2e-6, 8: 1e-14, 2: 1e-2}[np.dtype(dtype).itemsize]
    for shape, axis in FEW:
        x = sample(rng, shape, dtype)
        assert_same(LogCumsumExp(axis), x, rtol=rtol, atol=rtol)
        x = (rng.standard_normal(shape) * 30).astype(dtype)
        assert_same(
            LogCumsumExp(axis), x, order=tuple(reversed(range(x.ndim))), rtol=rtol, atol=rtol
        )


def test_running_results_on_other_processors(processor):  # noqa: F811
    rng = np.random.default_rng(5)
    for shape, axis in FEW:
        x = sample(rng, shape, np.float32)
        for op in (Cumsum(axis), Cumprod(axis), RunningExtreme(axis, True)):
            assert_same(op, x)
        assert_same(LogCumsumExp(axis), x, rtol=2e-6, atol=2e-6)
        assert_same(LinearScan(axis), x.astype(np.float16), x.astype(np.float16))
