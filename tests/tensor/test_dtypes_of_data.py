"""The dtype that a tensor gets from data, against PyTorch."""

import numpy as np
import pytest

import monograph as mg

DATA = [
    [np.float64(1), np.float64(2)], [np.zeros(2), np.ones(2)], [2, np.float64(1)],
    [[np.float64(1)], [2]], [np.float32(1), 2.0], [np.float16(1)], [np.float16(1), 2.0],
    [np.zeros(2, np.float32), np.zeros(2)], [np.zeros(2, np.int32), [1.5, 2]], [np.int64(1), 0.5],
    [1j, np.float64(2)], [np.complex64(1)], [True, 1.5], [np.int32(3)], [np.bool_(True)], [], 2.5,
    1j, np.float64(3), np.zeros(2, np.float16),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("data", DATA, ids=str)
def test_of_numpys_numbers_in_lists(data):
    torch = pytest.importorskip("torch", reason="compared with PyTorch")
    made, expected = mg.tensor(data), torch.tensor(data)
    assert str(made.dtype).split(".")[1] == str(expected.dtype).split(".")[1]
    assert made.tolist() == expected.tolist()


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64"])
def test_of_tensors_in_lists(name):
    dtype = getattr(mg, name)
    number = mg.tensor(1.0, dtype=dtype)
    assert mg.tensor([number, number]).dtype is dtype
    assert mg.tensor([number, 2.0]).dtype is mg.promote_types(dtype, mg.float32)


class Table:
    """Something that gives its numbers as an array, as tables of other packages do."""

    def __array__(self, dtype=None, copy=None):
        return np.arange(3.0)


def test_of_what_gives_an_array():
    assert mg.tensor(Table()).dtype is mg.float64
