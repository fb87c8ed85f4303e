"""ExactSum against exact rational arithmetic."""

import math
from fractions import Fraction

import numpy as np

from monograph.metrics import ExactSum


def total(values):
    result = ExactSum()
    result.add(values)
    return result


def test_sum_is_the_correctly_rounded_sum_of_the_exact_values():
    rng = np.random.default_rng(0)
    values = rng.standard_normal(5000) * 10.0 ** rng.integers(-300, 300, 5000)
    assert float(total(values)) == math.fsum(values)


def test_smallest_and_largest_numbers_are_summed_exactly():
    tiny, huge = 5e-324, 1.7976931348623157e308
    assert float(total([tiny] * 3)) == 3 * tiny
    assert float(total([huge, tiny, -huge])) == tiny
    assert float(total([2.0**-1060, -(2.0**-1061), 2.0**-1074])) == 2.0**-1061 + 2.0**-1074


def test_sum_does_not_depend_on_order_or_partition():
    values = np.random.default_rng(1).standard_normal(1000).astype(np.float32)
    whole = total(values)
    parts = ExactSum()
    for part in np.array_split(values[::-1], 17):
        parts = parts + total(part)
    assert parts == whole


def test_quotient_is_rounded_once():
    a, b = total([0.1, 0.2, 0.7]), total([3.0])
    expected = (Fraction(0.1) + Fraction(0.2) + Fraction(0.7)) / 3
    assert a.divide(b) == float(expected)


def test_infinities_and_nans_come_out():
    assert float(total([1.0, np.inf])) == np.inf
    assert math.isnan(float(total([np.inf, -np.inf])))
    assert math.isnan(float(total([np.nan, 1.0])))
    assert total([-np.inf]).divide(total([2.0])) == -np.inf
    assert math.isnan(total([]).divide(total([])))


def test_sum_above_the_range_of_float64_is_infinite():
    assert float(total([1.7e308, 1.7e308])) == np.inf
    assert float(total([-1.7e308, -1.7e308])) == -np.inf
