"""monograph.special and the rare elementwise functions against PyTorch; eager and compiled."""

import functools

import numpy as np
import pytest

import monograph as mg
from monograph.testing import assert_close

from .torch_oracle import check, torch

RNG = np.random.default_rng(3)
REALS = np.concatenate([RNG.uniform(-9, 9, 40), [0.0, 1.0, -1.0, np.inf, -np.inf, np.nan]])
POSITIVE = RNG.uniform(0.05, 60, 40)

SMOOTH = "i0 i0e i1 i1e entr erfcx log_ndtr ndtr".split()
ROUGH = """airy_ai bessel_j0 bessel_j1 bessel_y0 bessel_y1 modified_bessel_i0 modified_bessel_i1
modified_bessel_k0 modified_bessel_k1 scaled_modified_bessel_k0 scaled_modified_bessel_k1
spherical_bessel_j0""".split()
POLYNOMIALS = [n for n in mg.special.__all__ if "polynomial" in n]


def pair(name):
    return getattr(mg.special, name), getattr(torch.special, name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_functions(name, dtype):
    x = REALS[np.isfinite(REALS)].astype(dtype)
    tight = dict(rtol=1e-5, atol=1e-6) if dtype == "float32" else dict(rtol=1e-9, atol=1e-12)
    # PyTorch has nan for i0 and i1 of infinities, and for the slope of entr below 0.
    check(*pair(name), x[x > 0] if name == "entr" else x, **tight)
    check(*pair(name), (x if name in ("i0", "i1") else REALS).astype(dtype), grad=False, **tight)
    check(*pair(name), np.arange(5), grad=False)
    check(*pair(name), np.array([True, False]), grad=False)
    compiled = mg.jit(pair(name)[0])
    assert_close(compiled(mg.tensor(x)), pair(name)[0](mg.tensor(x)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ROUGH)
def test_functions_without_a_gradient(name):
    # PyTorch's own values have about 6 digits; tests below look at all of ours.
    finite = REALS[:-3]  # (it has nan where some have a limit)
    check(*pair(name), finite, grad=False, rtol=1e-5, atol=1e-5)
    check(*pair(name), POSITIVE[POSITIVE < 50].astype(np.float32), grad=False, rtol=1e-4, atol=1e-5)
    assert_close(mg.jit(pair(name)[0])(mg.tensor(POSITIVE)), pair(name)[0](mg.tensor(POSITIVE)))


def test_bessel_functions_have_all_digits():
    """Their Wronskians (NIST Digital Library of Mathematical Functions, 10.5.2 and 10.28.2)."""
    s, x = mg.special, mg.tensor(np.concatenate([POSITIVE, [1e-3, 24.99, 25.01, 300.0]]))
    wronskian = s.bessel_j1(x) * s.bessel_y0(x) - s.bessel_j0(x) * s.bessel_y1(x)
    assert_close(wronskian, 2 / (np.pi * x), rtol=1e-11, atol=1e-14)
    products = s.i0e(x) * s.scaled_modified_bessel_k1(x) + s.i1e(x) * s.scaled_modified_bessel_k0(x)
    assert_close(products, 1 / x, rtol=1e-12, atol=0)
    # Ai'' = x Ai, by a difference of second order
    y, h = mg.linspace(-8, 4, 97, dtype=mg.float64), 1e-3
    bend = (s.airy_ai(y + h) - 2 * s.airy_ai(y) + s.airy_ai(y - h)) / h**2
    assert_close(bend, y * s.airy_ai(y), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", POLYNOMIALS)
def test_polynomials(name):
    x, n = RNG.uniform(-2, 2, (4, 1)), np.array([-1.0, 0, 1, 2, 3, 5.7, 8, 12])
    check(*pair(name), x, n, grad=False, rtol=1e-9, atol=1e-9)
    check(*pair(name), x.astype(np.float32), 3, grad=False, rtol=1e-4, atol=1e-4)
    check(*pair(name), 1.5, n, grad=False, rtol=1e-9, atol=1e-9)


def test_quantile_of_the_normal_distribution():
    p = np.concatenate([RNG.uniform(0.01, 0.99, 20), [1e-20, 0.5]])
    check(*pair("ndtri"), p, rtol=1e-9, atol=1e-12)
    check(*pair("ndtri"), np.array([0.0, 1.0, -0.1, 1.1, np.nan]), grad=False)
    x = mg.tensor(RNG.uniform(-5, 5, 20))
    assert_close(mg.special.ndtri(mg.special.ndtr(x)), x, rtol=1e-9, atol=1e-9)


def test_incomplete_gamma_functions():
    a, x = RNG.uniform(0.1, 30, 50), RNG.uniform(0.1, 40, 50)
    edge = np.array([0.0, 0.0, 1.0, 1.0, -1.0, 2.0, np.inf, 2.0, np.nan])
    other = np.array([0.0, 1.0, 0.0, np.inf, 1.0, -1.0, 3.0, np.nan, 1.0])
    for name in ("gammainc", "gammaincc"):
        ours, theirs = pair(name)
        check(ours, theirs, a, x, grad=False, rtol=1e-9, atol=1e-9)
        check(ours, theirs, edge, other, grad=False)
        both = functools.partial(ours, mg.tensor(a)), functools.partial(theirs, torch.tensor(a))
        check(*both, x, rtol=1e-8, atol=1e-8)
    with pytest.raises(mg.core.errors.GradError, match="no gradient for the first argument"):
        mg.igamma(mg.ones(2, requires_grad=True), mg.ones(2)).sum().backward()


def test_zeta_and_polygamma():
    x, q = RNG.uniform(1.1, 20, 50), RNG.uniform(0.1, 50, 50)
    check(*pair("zeta"), x, q, grad=False, rtol=1e-9, atol=1e-9)
    check(*pair("zeta"), np.array([1.0, 0.5, 2, 2, 2.5, 3]), np.array([1.0, 1, 0, -1, -0.5, -1.5]),
          grad=False)  # fmt: skip
    inside = RNG.uniform(-6, 6, 30)
    for n in range(6):
        check(lambda v, n=n: mg.polygamma(n, v), lambda v, n=n: torch.polygamma(n, v), inside,
              grad=False, rtol=1e-8, atol=1e-8)  # fmt: skip
        check(lambda v, n=n: mg.polygamma(n, v), lambda v, n=n: torch.polygamma(n, v), inside,
              rtol=1e-7, atol=1e-7)  # fmt: skip
        near = inside
        got = mg.jit(lambda v, n=n: mg.polygamma(n, v))(mg.tensor(near))
        assert_close(got, mg.polygamma(n, mg.tensor(near)), rtol=1e-9, atol=1e-9)
    check(lambda v: mg.mvlgamma(v, 3), lambda v: torch.mvlgamma(v, 3), POSITIVE + 2)


def test_xlog1py():
    x, y = np.array([0.0, 0.0, 2.0, -1.5, 0.0]), np.array([-1.0, np.nan, 3.0, 0.5, 2.0])
    check(*pair("xlog1py"), x, y, grad=False)
    check(*pair("xlog1py"), x[2:], y[2:])
    check(*pair("xlog1py"), x, 2.0, grad=False)


def test_integers_and_bits_of_floats():
    x, y = RNG.integers(-60, 60, 50), RNG.integers(-60, 60, 50)
    for dtype in (np.int8, np.int32, np.int64):
        check(mg.gcd, torch.gcd, x.astype(dtype), y.astype(dtype), grad=False)
        check(mg.lcm, torch.lcm, x.astype(dtype), y.astype(dtype), grad=False)
    for dtype in (np.float32, np.float64):
        a, b = REALS.astype(dtype), np.roll(REALS, 7).astype(dtype)
        check(mg.nextafter, torch.nextafter, a, b, grad=False)
        check(mg.frexp, torch.frexp, a[:43], grad=False)
        check(lambda v: mg.frexp(v)[0], lambda v: torch.frexp(v)[0], a[:40])
    check(mg.isreal, torch.isreal, REALS, grad=False)
    one = mg.ones(1, dtype=mg.float16)
    assert mg.nextafter(one, 2 * one).item() == 1 + mg.finfo(mg.float16).eps
