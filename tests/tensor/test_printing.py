"""repr() of tensors is PyTorch's, character by character."""

import numpy as np
import pytest

import monograph as mg

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests")

rng = np.random.default_rng(0)
CASES = [
    np.float32(rng.normal(size=(3, 4))), np.float32(0.5), np.float32(1), np.float32([1, 2, 3]),
    np.float32([1.5, 2, 1e6]), np.float32([1e-5, 1]), np.float32([1e9, 1]),
    np.float32([np.nan, 1.5, np.inf, -np.inf]), np.float32([np.nan]), np.arange(5),
    np.array([-1, 100]), np.array([True, False]), np.float64([1, 2.5]),
    np.float32(rng.normal(size=(2, 2, 3))), np.zeros((0, 3), np.float32), np.zeros(0, np.float32),
    np.zeros((2, 0), np.int64), np.zeros(0, np.int64), np.float32(rng.normal(size=(40, 40))),
    np.arange(2000), np.float32(rng.normal(size=30)), np.float32(rng.normal(size=(3, 30))),
    np.float16([1, 2]), np.int32([1]), np.uint8([[1, 2], [3, 4]]), np.float32([[1e-3, 5000]]),
    np.float32([0.0, -0.0]), np.float32([12345678.0]), np.float32([123456789.0]),
    np.float32(1e-8), np.arange(60).reshape(1, 60), np.float32([0.1, 0.25, 100.125]),
    np.float32(rng.normal(size=1100)) * 1e6, np.arange(10000).reshape(10, 10, 100),
    np.int64(5), np.bool_(True), np.float32([np.inf, 1, 2]), np.float32([1, 2000]),
    np.float64(rng.normal(size=(1, 2, 1, 9))), np.arange(5000).reshape(2, 2, 1250),
    np.float16(rng.normal(size=8)), np.ones((3, 12), np.int16),
]  # fmt: skip


@pytest.mark.parametrize("index", range(len(CASES)))
def test_text_equals_torch(index):
    array = np.asarray(CASES[index])
    expected = repr(torch.tensor(array)).replace("torch.", "monograph.")
    assert repr(mg.tensor(array)) == expected
    assert str(mg.tensor(array)) == expected


def test_gradients_and_dtypes_are_told():
    assert repr(mg.ones(2, requires_grad=True)) == "tensor([1., 1.], requires_grad=True)"
    assert repr(mg.ones(2, dtype=mg.bfloat16)) == "tensor([1., 1.], dtype=monograph.bfloat16)"
    assert repr(mg.ones(2, requires_grad=True) * 2).startswith("tensor([2., 2.], grad_fn=<Mul")


def test_options_change_digits_and_edges():
    try:
        mg.set_printoptions(precision=2, edgeitems=1, threshold=3)
        assert repr(mg.tensor([0.123, 0.5])) == "tensor([0.12, 0.50])"
        assert repr(mg.arange(5)) == "tensor([0,  ..., 4])"
        mg.set_printoptions(sci_mode=True)
        assert repr(mg.tensor([0.5])) == "tensor([5.00e-01])"
    finally:
        mg.set_printoptions(precision=4, edgeitems=3, threshold=1000)
    assert repr(mg.tensor([0.5])) == "tensor([0.5000])"


def test_formatting_a_single_element_formats_its_number():
    assert f"{mg.tensor(1.25):.1f}" == "1.2"
    assert f"{mg.tensor([1, 2])}" == "tensor([1, 2])"
