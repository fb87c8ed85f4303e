"""The namespace of the array API standard: what differs there from the main one."""

import numpy as np
import pytest

import monograph as mg
import monograph.array_api as xp
from monograph.core.errors import ShapeError

X = mg.tensor([[3.0, 1.0], [2.0, 1.0]])


def test_it_is_the_main_namespace_elsewhere():
    assert X.__array_namespace__() is xp
    assert xp.sin is mg.sin and xp.fft is mg.fft and xp.float32 is mg.float32
    assert xp.linalg.inv is mg.linalg.inv and xp.matmul is mg.matmul
    assert xp.__array_api_version__ == mg.__array_api_version__
    assert {"equal", "vecdot", "sin", "int8"} <= set(dir(xp)) and "inv" in dir(xp.linalg)
    with pytest.raises(AttributeError, match="nothing"):
        _ = xp.nothing


def test_calls_that_mean_something_else_in_pytorch():
    assert mg.equal(X, X) is True and xp.equal(X, X).tolist() == [[True, True]] * 2
    assert mg.sort(X).values.tolist() == xp.sort(X).tolist() == [[1.0, 3.0], [1.0, 2.0]]
    assert xp.max(X, axis=0).tolist() == [3.0, 1.0] == mg.max(X, axis=0).values.tolist()
    assert xp.min(X, axis=(0, 1), keepdims=True).tolist() == [[1.0]]
    zeros = mg.tensor([[0, 7], [8, 0]])
    assert [p.tolist() for p in xp.nonzero(zeros)] == [[0, 1], [1, 0]]
    assert mg.nonzero(zeros).tolist() == [[0, 1], [1, 0]]
    assert xp.var(X).item() == np.var(X.numpy()) != mg.var(X).item()
    assert xp.std(X, axis=0, correction=1).tolist() == mg.std(X, 0).tolist()
    small = mg.tensor([200, 100], dtype=mg.uint8)
    assert xp.sum(small).dtype is mg.uint64 and mg.sum(small).dtype is mg.int64
    assert xp.prod(small, dtype=mg.uint8).item() == 20000 % 256
    grid = xp.meshgrid(mg.arange(2), mg.arange(3))
    assert isinstance(grid, list) and grid[0].shape == (3, 2)
    assert mg.meshgrid(mg.arange(2), mg.arange(3))[0].shape == (2, 3)
    assert xp.clip(X).tolist() == X.tolist() and xp.clip(zeros, 1.5, 7).dtype is mg.int64
    with pytest.raises(ShapeError, match="size 2"):
        xp.squeeze(X, 0)
    with pytest.raises(ShapeError, match="0-d"):
        xp.nonzero(mg.tensor(1))


def test_tensors_of_no_dimensions_decide_about_dtypes():
    small, wide = mg.tensor([1, 2], dtype=mg.int8), mg.tensor(300, dtype=mg.int32)
    assert mg.add(small, wide).dtype is mg.int8
    assert xp.add(small, wide).tolist() == [301, 302] and xp.add(small, 1).dtype is mg.int8
    assert xp.where(small > 1, small, wide).tolist() == [300, 2]
    assert xp.result_type(small, wide) is mg.int32 and mg.result_type(small, wide) is mg.int8
    assert xp.equal(small, wide - 299).tolist() == [True, False]
    assert xp.linalg.trace(mg.ones(2, 2, dtype=mg.uint8)).dtype is mg.uint64


@pytest.mark.parametrize("name", ["sum", "prod", "mean", "var", "std", "max", "min", "all", "any"])
@pytest.mark.parametrize("axis", [None, (), 0, -1, (1,), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_reductions_take_every_axis(name, axis, keepdims):
    array = np.arange(24.0).reshape(2, 3, 4) % 5
    expected = getattr(np, name)(array, axis=axis, keepdims=keepdims)
    got = getattr(xp, name)(mg.tensor(array), axis=axis, keepdims=keepdims)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-12)


def test_reductions_of_a_0_d_tensor():
    x = mg.tensor(5.0)
    assert [f(x).item() for f in (xp.sum, xp.prod, xp.mean, xp.max, xp.var)] == [5, 5, 5, 5, 0]
    assert xp.any(x).item() is True and xp.count_nonzero(x).item() == 1
    assert xp.count_nonzero(X - 1, axis=1, keepdims=True).tolist() == [[1], [1]]


def test_division_rounded_down_at_infinities():
    inf = float("inf")
    x, y = mg.tensor([inf, -inf, -1.0, 1.0, 7.0, inf]), mg.tensor([2.0, 2.0, inf, -inf, 2.0, inf])
    got = xp.floor_divide(x, y).numpy()
    np.testing.assert_array_equal(got, np.array([inf, -inf, -0.0, -0.0, 3.0, np.nan], "f4"))
    assert np.signbit(got[2:4]).all()
    assert xp.floor_divide(x, inf)[2].item() == 0 and xp.floor_divide(7, mg.tensor(2)).item() == 3


def test_complex_expm1_at_its_limits():
    inf, nan = float("inf"), float("nan")
    cases = {
        complex(inf, 0): (inf, 0), complex(-inf, 3): (-1, 0), complex(-inf, nan): (-1, 0),
        complex(nan, 0): (nan, 0), complex(inf, inf): (inf, nan), complex(-0.0, 0): (0, 0),
    }  # fmt: skip
    got = mg.expm1(mg.tensor(list(cases), dtype=mg.complex128)).numpy()
    np.testing.assert_array_equal(np.stack([got.real, got.imag], 1), list(cases.values()))
    z = np.linspace(-3, 3, 40) + 1j * np.linspace(-20, 20, 40)[::-1]
    np.testing.assert_allclose(mg.expm1(mg.tensor(z)).numpy(), np.exp(z) - 1, rtol=1e-12)
    tiny = mg.expm1(mg.tensor(1e-12 + 1e-13j, dtype=mg.complex128)).item()
    assert abs(tiny - (1e-12 + 1e-13j)) < 1e-23
    assert mg.tanh(mg.tensor(complex(inf, 2.5))).item() == 1


def test_logaddexp_takes_numbers():
    x = mg.tensor([0.0, 1.0])
    assert mg.logaddexp(x, 1).tolist() == mg.logaddexp(x, mg.tensor(1.0)).tolist()
    assert mg.logaddexp(1.0, x).tolist() == mg.logaddexp(x, 1.0).tolist()


def test_distinct_elements_of_a_0_d_tensor():
    found = mg.unique_all(mg.tensor(4))
    assert found.values.tolist() == [4] and found.inverse_indices.shape == ()
    assert mg.unique_inverse(mg.tensor(2.5)).inverse_indices.item() == 0
    assert mg.linalg.vecdot(mg.tensor([200], dtype=mg.uint8), mg.tensor([2], dtype=mg.uint8)) == 144
    with pytest.raises(ShapeError, match="vecdot"):
        mg.linalg.vecdot(mg.ones(1), mg.ones(3))


def test_where_as_a_method_keeps_the_tensor():
    x, mask = mg.tensor([1.0, 2.0]), mg.tensor([True, False])
    assert x.where(mask, 0.0).tolist() == [1.0, 0.0] == x.where(mask, mg.zeros(2)).tolist()
