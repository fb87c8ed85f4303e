"""Compiled elements at their edges: integers of every width, and floats that are not ordinary."""

import numpy as np
import pytest

import monograph as mg
from monograph.nn import functional as F

INTEGERS = (mg.int8, mg.uint8, mg.int16, mg.int32, mg.int64)
FLOATS = (mg.float32, mg.float64, mg.float16, mg.bfloat16)


def check(f, *tensors, rtol=0.0):
    """jit(f) gives f's dtypes, shapes and elements; nan where nan is."""
    for eager, compiled in zip(f(*tensors), mg.jit(f)(*tensors), strict=True):
        assert compiled.dtype is eager.dtype and compiled.shape == eager.shape
        a, b = (t.double().numpy() for t in (compiled, eager))
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6 if rtol else 0)


@pytest.mark.parametrize("dtype", INTEGERS, ids=lambda d: d.name)
def test_integers(dtype):
    rng = np.random.default_rng(0)
    signed = dtype.is_signed
    a = mg.tensor(rng.integers(-100 if signed else 0, 100, 300)).to(dtype)
    b = mg.tensor(rng.integers(1, 20, 300)).to(dtype)
    if signed:
        b = b * mg.where(mg.arange(300) % 2 == 0, 1, -1).to(dtype)
    check(lambda a, b: (a + b, a - b, a * b * a, -a, a.abs(), a.sign(), a**2), a, b)
    check(lambda a, b: (a // b, a % b, mg.fmod(a, b), a / b), a, b, rtol=1e-6)
    check(lambda a, b: (a & b, a | b, a ^ b, ~a, a << (b.abs() % 8), a >> (b.abs() % 8)), a, b)
    check(lambda a, b: (a < b, a == b, a >= b, a.clamp(5, 50), mg.maximum(a, b)), a, b)
    check(lambda a, b: (a.sum(), a.amax(), a.amin(), a.prod(), a.cumsum(0), a.sort()[0]), a, b)
    check(lambda a, b: (a.argmax(), a.reshape(30, 10).argmin(1), (a > 0).any(), a.bool()), a, b)
    check(lambda a, b: (a.reshape(10, 30) @ b.reshape(30, 10),), a, b)
    powers = (lambda a, b: (a**b, 3**b, (-3) ** b)) if signed else (lambda a, b: (a**b, 3**b))
    check(powers, a, b)  # they wrap around, constants as well


SPECIAL = [
    0.0, -0.0, 1.0, -1.0, float("inf"), -float("inf"), float("nan"), 1e-40, -1e-40, 3e38, 0.5,
    -0.5, 1.5, 2.5, -2.5, 1e5,
]  # fmt: skip
UNARY = (
    "exp", "log", "tanh", "sigmoid", "erf", "sqrt", "rsqrt", "abs", "neg", "round", "floor",
    "ceil", "trunc", "relu", "reciprocal", "sign", "exp2", "expm1", "log1p", "isnan", "isinf",
    "isfinite", "square", "atan", "sinh", "cosh", "asinh", "frac", "signbit", "nan_to_num",
)  # fmt: skip


@pytest.mark.parametrize("name", UNARY)
def test_functions_of_special_floats(name):
    f = getattr(mg, name)
    for dtype in FLOATS[:2]:
        x = mg.tensor(SPECIAL * 9).to(dtype)  # whole vectors, and a rest
        check(lambda x: (f(x), f(x[:3]), f(x[0])), x, rtol=1e-5)


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: d.name)
def test_pairs_and_rows_of_special_floats(dtype):
    rtol = 1e-5 if dtype.itemsize >= 4 else 3e-2
    x = mg.tensor(SPECIAL * 9).to(dtype)
    y = x.flip(0)
    check(lambda a, b: (mg.maximum(a, b), mg.minimum(a, b), mg.fmax(a, b), mg.fmin(a, b)), x, y)
    check(lambda a, b: (a < b, a <= b, a == b, a != b, mg.where(a > 0, a, b)), x, y)
    check(lambda a, b: (a % b, mg.fmod(a, b), mg.copysign(a, b), a.clamp(-1, 1)), x, y, rtol=rtol)
    check(lambda a, b: (a**2, a**0.5, a**-1, mg.pow(a, b), mg.atan2(a, b)), x, y, rtol=rtol)
    check(lambda a: (a.amax(), a.amin(), a.reshape(9, 16).argmax(1), a[:4].sum()), x, rtol=rtol)
    check(
        lambda a: (F.softmax(a.reshape(9, 16)[:, :4], 1), mg.logsumexp(a.reshape(9, 16)[:, :5], 1)),
        x,
        rtol=rtol,
    )


def test_conversions():
    x = mg.tensor([1.9, -1.9, 0.0, -0.0, 1e6, 127.5])
    check(lambda x: (x.to(mg.int32), x.to(mg.int64), x.to(mg.bool), x.to(mg.float64)), x)
    check(lambda x: (x.to(mg.uint8), x.to(mg.int8)), x[:1].clone())
    check(lambda i: (i.to(mg.float16), i.to(mg.bfloat16), i.to(mg.float32)), mg.arange(3000))
    check(
        lambda i: (i.to(mg.float32), i.to(mg.float64)), mg.tensor([2**53 + 1, 2**24 + 1, -(2**31)])
    )


def test_casts_to_half_precision_round_though_nothing_is_stored():
    x = mg.tensor(np.random.default_rng(0).standard_normal(1000, dtype=np.float32))
    for dtype in (mg.float16, mg.bfloat16):
        check(lambda x, dtype=dtype: (x.to(dtype).to(mg.float32), x - x.to(dtype)), x)
