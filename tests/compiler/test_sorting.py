"""Sorting kernels against their NumPy meanings."""

import numpy as np
import pytest
from native import assert_same, processor  # noqa: F401  (a fixture)
from test_lines import FLOATS, INTEGERS, SHAPES, sample

from monograph.compiler.kernels import sort, topk
from monograph.ops.reducers import Kth
from monograph.ops.sorting import SearchSorted, Sort, TopK

DTYPES = [*FLOATS, *INTEGERS, np.bool_]
LONG = [((300,), 0), ((3, 130), 1), ((150, 4), 0)]


def check_all(x, axis, order=None):
    n = x.shape[axis]
    for backward in (False, True):
        assert_same(Sort(axis, backward), x, order=order)
        assert_same(TopK(min(n, 3), axis, backward), x, order=order)
    for nan_first in (False, True):
        assert_same(Kth(axis, n // 3, nan_first), x, order=order)


@pytest.mark.parametrize("dtype", DTYPES)
def test_equal_elements_keep_their_order(dtype):
    rng = np.random.default_rng(0)
    for shape, axis in SHAPES[:9] if dtype is np.float32 else SHAPES[3:5]:
        x = sample(rng, shape, dtype)
        check_all(x, axis, tuple(reversed(range(x.ndim))))


@pytest.mark.parametrize("dtype", DTYPES)
def test_long_lines(dtype):
    rng = np.random.default_rng(1)
    for shape, axis in LONG if dtype is np.float32 else LONG[1:2]:
        check_all(sample(rng, shape, dtype), axis)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64, np.uint8])
def test_all_digits_of_the_keys(dtype, monkeypatch):
    rng = np.random.default_rng(2)
    if np.dtype(dtype).kind == "f":
        x = rng.standard_normal((2, 400)) * 10.0 ** rng.integers(-30, 30, (2, 400))
        x[1, :8] = [0.0, -0.0, np.nan, np.inf, -np.inf, 1e-42, -1e-42, -np.nan]
    else:
        info = np.iinfo(dtype)
        x = rng.integers(info.min, info.max, (2, 400), endpoint=True)
    check_all(x.astype(dtype), 1)
    monkeypatch.setattr(sort, "WIDE_DIGITS", 100)
    check_all(x.astype(dtype), 1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_few_of_long_lines(dtype):
    rng = np.random.default_rng(4)
    for shape, axis, count in [
        ((400,), 0, 9),
        ((3, 257), 1, 4),
        ((300, 2), 0, 20),
        ((1, 64), 1, 3),
    ]:
        assert topk.is_few(count, shape[axis])
        x = sample(rng, shape, dtype)
        order = tuple(reversed(range(x.ndim)))
        assert_same(TopK(count, axis, True), x)
        assert_same(TopK(count, axis, False), x, order=order)
        if np.dtype(dtype).kind in "iu":
            info = np.iinfo(dtype)
            x = rng.integers(info.min, info.max, shape, dtype, endpoint=True)
            x.flat[:2] = info.min, info.max
            assert_same(TopK(count, axis, True), x)
            assert_same(TopK(count, axis, False), x)


def test_few_of_lines_of_one_value():
    for value in (-np.inf, np.inf, np.nan):
        x = np.full((2, 200), value, np.float32)
        assert_same(TopK(5, 1, True), x)
        assert_same(TopK(5, 1, False), x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_places_in_sorted_lines(dtype):
    rng = np.random.default_rng(5)
    for shape, places in [((1,), (3,)), ((9,), (4, 5)), ((3, 16), (3, 40)), ((2, 1, 5), (2, 1, 7))]:
        sequence = np.sort(sample(rng, shape, dtype), -1)
        for right in (False, True):
            assert_same(SearchSorted(right), sequence, sample(rng, places, dtype))
    assert_same(SearchSorted(False), np.sort(sample(rng, (100,), dtype)), sample(rng, (), dtype))


def test_on_other_processors(processor):  # noqa: F811
    rng = np.random.default_rng(3)
    check_all(sample(rng, (5, 40), np.float32), 1)
    check_all(sample(rng, (3, 200), np.float32), 1)
    check_all(sample(rng, (3, 200), np.int64), 1)
    assert_same(TopK(5, 1, True), sample(rng, (3, 200), np.int32))
    x = np.sort(sample(rng, (50,), np.float32))
    assert_same(SearchSorted(True), x, sample(rng, (40,), np.float32))
