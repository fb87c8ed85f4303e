"""Accuracy of the scalar formulas in units in the last place, with and without hardware fma.

The exact values come from NumPy's extended precision (64 bits of significand) for float32 and
from it as well for float64, where its error is below a hundredth of a unit; functions that it
lacks are checked in float32 against math's double precision.
"""

import math

import numpy as np
import pytest

import monograph as mg
from monograph.ir.op import REGISTRY
from monograph.kernel import scalar
from monograph.kernel.ir import Var
from monograph.ops.exponential import exp2_below
from monograph.testing.scalars import scalar_meaning, size_of

COUNT = 20000
WIDE = np.finfo(np.longdouble).nmant > 52


def uniform(low, high):
    return lambda rng, n: rng.uniform(low, high, n)


def spread(low, high, signs=True):
    """Every magnitude equally likely."""

    def make(rng, n):
        x = np.exp(rng.uniform(math.log(low), math.log(high), n))
        return x * rng.choice([-1, 1], n) if signs else x

    return make


def exactly(f):
    return lambda x: np.array([f(float(v)) for v in x])


# name: (exact function, inputs for float32, inputs for float64, bound, bound without fma)
CASES = {
    "exp": (np.exp, [uniform(-104, 89), spread(1e-9, 80)], [uniform(-745, 709.7)], 2, 2),
    "exp2": (np.exp2, [uniform(-149, 128)], [uniform(-1074, 1024)], 2, 2),
    "expm1": (np.expm1, [uniform(-20, 88.7), spread(1e-9, 2)], [uniform(-40, 709)], 2, 2),
    "log": (np.log, [spread(1e-44, 3e38, False), uniform(0.5, 2)],
            [spread(1e-320, 1e308, False), uniform(0.5, 2)], 1, 1),
    "log2": (np.log2, [spread(1e-44, 3e38, False), uniform(0.5, 2)],
             [spread(1e-320, 1e308, False), uniform(0.5, 2)], 2, 2),
    "log10": (np.log10, [spread(1e-44, 3e38, False), uniform(0.5, 2)],
              [spread(1e-320, 1e308, False), uniform(0.5, 2)], 3, 3),
    "log1p": (np.log1p, [spread(1e-30, 3e38, False), uniform(-0.999, 2)],
              [spread(1e-300, 1e308, False), uniform(-0.999, 2)], 1, 1),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), [uniform(-87, 30)], [uniform(-700, 40)], 2.5, 3.5),
    "sin": (np.sin, [uniform(-10, 10), uniform(-1e6, 1e6)],
            [uniform(-10, 10), uniform(-1e6, 1e6)], 2, 2),
    "cos": (np.cos, [uniform(-10, 10), uniform(-1e6, 1e6)],
            [uniform(-10, 10), uniform(-1e6, 1e6)], 2.5, 2.5),
    "tan": (np.tan, [uniform(-10, 10), uniform(-1e5, 1e5)], [uniform(-10, 10)], 4, 4),
    "asin": (np.arcsin, [uniform(-1, 1)], [uniform(-1, 1)], 2.5, 2.5),
    "acos": (np.arccos, [uniform(-1, 1)], [uniform(-1, 1)], 2, 2),
    "atan": (np.arctan, [uniform(-3, 3), spread(1e-9, 1e9)], [uniform(-3, 3)], 2, 2),
    "sinh": (np.sinh, [uniform(-89.4, 89.4), spread(1e-9, 3)],
             [uniform(-710, 710), spread(1e-9, 3)], 2.5, 3),
    "cosh": (np.cosh, [uniform(-89.4, 89.4)], [uniform(-710, 710)], 2, 2),
    "tanh": (np.tanh, [uniform(-10, 10), spread(1e-9, 3)],
             [uniform(-22, 22), spread(1e-9, 3)], 2.5, 2.5),
    "asinh": (np.arcsinh, [spread(1e-9, 1e30)], [spread(1e-9, 1e30)], 2, 2),
    "acosh": (np.arccosh, [lambda rng, n: 1 + spread(1e-5, 1e30, False)(rng, n)],
              [lambda rng, n: 1 + spread(1e-12, 1e30, False)(rng, n)], 2.5, 2.5),
    "atanh": (np.arctanh, [uniform(-1, 1), spread(1e-9, 0.5)], [uniform(-1, 1)], 2, 2),
    "sqrt": (np.sqrt, [spread(1e-44, 3e38, False)], [spread(1e-320, 1e308, False)], 0.51, 0.51),
    "rsqrt": (lambda x: 1 / np.sqrt(x), [spread(1e-38, 3e38, False)],
              [spread(1e-300, 1e308, False)], 1.5, 1.5),
    "erf": (exactly(math.erf), [uniform(-4.2, 4.2), spread(1e-9, 2)], [uniform(-6, 6)], 2.5, 2.5),
    "erfc": (exactly(math.erfc), [uniform(-4, 9.5)], [uniform(-6, 26)], 5, 5),
}  # fmt: skip


def worst(op, dtype, exact, inputs, fused):
    rng = np.random.default_rng(0)
    x = np.concatenate([make(rng, COUNT) for make in inputs]).astype(dtype)
    with np.errstate(all="ignore"):
        expected = exact(x.astype(np.longdouble)).astype(np.longdouble)
        nearest = expected.astype(dtype)
        unit = np.spacing(np.abs(nearest)).astype(np.longdouble)
        got = scalar_meaning(op, x, fused=fused)
        gap = np.abs(got.astype(np.longdouble) - expected) / unit
    gap = np.where(np.isinf(nearest) & (got == nearest), 0, gap)
    assert np.isfinite(gap).all()
    i = int(np.argmax(gap))
    return float(gap[i]), x[i]


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])
@pytest.mark.parametrize("name", CASES)
def test_formula_is_within_its_bound(name, dtype):
    if dtype is np.float64 and not WIDE:
        pytest.skip("long double is no wider than double here: nothing to measure with")
    exact, narrow, wide, bound, unfused_bound = CASES[name]
    inputs = narrow if dtype is np.float32 else wide
    for fused, limit in ((True, bound), (False, unfused_bound)):
        gap, at = worst(REGISTRY[name](), dtype, exact, inputs, fused)
        assert gap <= limit, f"{gap:.3f} ulp at {at!r} (fused={fused})"


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])
def test_pow_is_within_four_ulp(dtype):
    if dtype is np.float64 and not WIDE:
        pytest.skip("long double is no wider than double here: nothing to measure with")
    rng = np.random.default_rng(0)
    info = np.finfo(dtype)
    x = spread(float(info.tiny), float(info.max), False)(rng, COUNT).astype(dtype)
    top = 0.98 * math.log(float(info.max)) / np.abs(np.log(x.astype(np.float64)))
    y = (rng.uniform(-1, 1, COUNT) * np.minimum(top, 300)).astype(dtype)
    exact = np.power(x.astype(np.longdouble), y.astype(np.longdouble))
    for fused in (True, False):
        got = scalar_meaning(REGISTRY["pow"](), x, y, fused=fused)
        gap = np.abs(got.astype(np.longdouble) - exact) / np.spacing(exact.astype(dtype))
        assert gap.max() <= (0.51 if dtype is np.float32 else 4), (gap.max(), x[gap.argmax()])


@pytest.mark.parametrize("low, high, bound", [(0, 9, 3), (-3, 0, 16), (-6, -3, 80)])
def test_gelu_keeps_its_digits_in_the_tail(low, high, bound):
    x = np.random.default_rng(0).uniform(low, high, COUNT).astype(np.float32)
    exact = np.array([v * 0.5 * math.erfc(-v * math.sqrt(0.5)) for v in x.astype(np.float64)])
    for fused in (True, False):
        got = scalar_meaning(REGISTRY["gelu"](), x, fused=fused)
        gap = np.abs(got - exact) / np.spacing(np.abs(exact).astype(np.float32))
        assert gap.max() <= bound, (gap.max(), x[gap.argmax()])


@pytest.mark.parametrize("name", ["exp", "sigmoid", "gelu", "silu"])
def test_results_that_vanish(name):
    x = np.array([-np.inf, -1e30, -200, -105, -104.5, 200, 1e30], np.float32)[
        2 * (name == "silu") :
    ]
    with np.errstate(all="ignore"):
        exact = REGISTRY[name]().reference(x.astype(np.float64))
    for fused in (True, False):
        got = scalar_meaning(REGISTRY[name](), x, fused=fused)
        wide = np.abs(exact) > 1e36
        np.testing.assert_allclose(got[~wide], exact[~wide], rtol=1e-6, atol=3e-36)
        assert (got[wide] >= 1e30).all()


def test_formulas_stay_short():
    # Operations for one float32 element; a change that makes one longer should be deliberate.
    # (Two of exp's keep results that are rounded to 0 from being subnormal on the way.)
    limits = {"exp": 21, "sigmoid": 24, "tanh": 34, "log": 34, "erf": 46, "sin": 34}
    for name, limit in limits.items():
        count = size_of(REGISTRY[name]().scalar(scalar, Var("x", "f32")))
        assert count <= limit, f"{name} takes {count} operations"


def test_powers_of_two_are_exact():
    n = np.arange(-149, 128)
    with np.errstate(over="ignore"):
        expected = np.ldexp(np.float32(1), n)
    assert (scalar_meaning(REGISTRY["exp2"](), n.astype(np.float32)) == expected).all()
    assert (scalar_meaning(REGISTRY["log2"](), expected) == n).all()


def test_sine_of_huge_numbers_stays_in_range():
    x = np.array([1e8, 1e20, 3e38, -3e38], np.float32)
    for fused in (True, False):
        assert (np.abs(scalar_meaning(REGISTRY["sin"](), x, fused=fused)) <= 1).all()
    assert mg.sin(mg.tensor(float("inf"))).isnan().item()


class PowersBelow:
    """The powers of two of softmax, as scalar_meaning wants them."""

    def result(self, x):
        return x

    def scalar(self, s, x):
        return exp2_below(s, x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])
def test_powers_of_softmax_are_exact_at_zero_and_vanish_far_below(dtype):
    if dtype is np.float64 and not WIDE:
        pytest.skip("long double is no wider than double here: nothing to measure with")
    lowest = np.finfo(dtype).minexp
    inputs = [uniform(lowest, 1), uniform(-30, 0), spread(1e-9, 1)]
    for fused in (True, False):
        gap, at = worst(PowersBelow(), dtype, np.exp2, inputs, fused)
        assert gap <= 1.5, f"{gap:.3f} ulp at {at!r} (fused={fused})"
        special = np.array([0, lowest - 1, -1e30, -np.inf, np.nan], dtype)
        made = scalar_meaning(PowersBelow(), special, fused=fused)
        assert made[:4].tolist() == [1, 0, 0, 0]
        assert np.isnan(made[4])
