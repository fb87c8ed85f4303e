"""Who shares memory with whom: NumPy arrays, detached tensors, .data; and what the tape sees."""

import copy
import pickle

import numpy as np
import pytest

import monograph as mg
from monograph.core.errors import GradError, ShapeError, TraceError

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests")


def test_from_numpy_and_numpy_share_memory():
    array = np.zeros(3, np.float32)
    t = mg.from_numpy(array)
    t[1] = 5
    assert array.tolist() == [0, 5, 0]
    t.numpy()[2] = 7
    assert t.tolist() == [0, 5, 7]
    assert mg.tensor(array)[0].add_(1).item() == 1 and array[0] == 0
    assert mg.as_tensor(array).add_(1).tolist() == array.tolist()


def test_read_only_arrays_cannot_be_written():
    array = np.zeros(2, np.float32)
    array.flags.writeable = False
    with pytest.raises(ShapeError) as caught:
        mg.from_numpy(array).add_(1)
    assert caught.value.message == (
        "add_: the tensor of shape (2,) is an expanded view or read-only memory: several elements "
        "share one location"
    )


@pytest.mark.parametrize("m", [torch, mg], ids=["torch", "monograph"])
def test_a_detached_tensor_shares_memory_but_not_the_tape(m):
    w = m.tensor([1.0, 2.0], requires_grad=True)
    x = w * 2
    d = x.detach()
    d.add_(1)
    assert x.tolist() == [3, 5] and not d.requires_grad and x.requires_grad
    d.mul_(w)
    assert d.requires_grad and d.tolist() == [3, 10] == x.tolist()
    d.backward(m.ones(2))
    assert w.grad.tolist() == [3, 5]


def test_a_recorded_write_into_a_view_of_a_detached_tensor_is_an_error():
    w = mg.tensor([1.0, 2.0], requires_grad=True)
    d = (w * 2).detach()
    with pytest.raises(GradError) as caught:
        d[0] = w[1]
    assert caught.value.message == (
        "index assignment: a value that requires a gradient was written into a view of a detached "
        "tensor, which would not know of it"
    )


@pytest.mark.parametrize("m", [torch, mg], ids=["torch", "monograph"])
def test_data_is_the_memory_of_a_leaf(m):
    w = m.tensor([1.0, 2.0], requires_grad=True)
    w.data.mul_(10)
    w.data[0] = 5.0
    assert w.tolist() == [5, 20] and w.requires_grad and w.is_leaf
    w.data = m.tensor([7.0, 8.0, 9.0])
    assert w.tolist() == [7, 8, 9] and w.requires_grad
    w.data = m.zeros(2)
    (w * w).backward(m.ones(2))
    assert w.grad.tolist() == [0, 0]


@pytest.mark.parametrize("m", [torch, mg], ids=["torch", "monograph"])
def test_in_place_on_an_operand_that_the_gradient_does_not_need(m):
    w = m.tensor([1.0, 2.0], requires_grad=True)
    h = w * 2.0
    y = h + 1
    h.mul_(3.0)  # neither the product with a number nor the sum keeps h
    (y + h).backward(m.ones(2))
    assert w.grad.tolist() == [8, 8]


def test_in_place_operations_keep_what_they_overwrite_themselves():
    w = mg.tensor([0.5, 2.0], requires_grad=True)
    h = w * 1
    h.sin_().mul_(w).pow_(2)
    h.backward(mg.ones(2))
    x = w.detach().numpy().astype(np.float64)
    expected = 2 * (np.sin(x) * x) * (np.cos(x) * x + np.sin(x))
    np.testing.assert_allclose(w.grad.numpy(), expected, rtol=1e-5)


def test_writes_through_a_view_reach_the_leaf_behind_its_base():
    w = mg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    x = mg.zeros(2, 3)
    view = x[1]
    for k in range(3):
        x[1, k] = w[k] * (k + 1)
    assert view.requires_grad and view.tolist() == [1, 4, 9]
    (view * view).backward(mg.ones(3))
    assert w.grad.tolist() == [2, 16, 54]


def test_filling_a_table_row_by_row_costs_no_copies_of_the_table():
    w = mg.ones(8, requires_grad=True)
    table = mg.zeros(500, 8)
    address = table.data_ptr()
    for k in range(500):
        table[k] = w * k
    assert table.data_ptr() == address
    table[499].backward(mg.ones(8))
    assert w.grad.tolist() == [499.0] * 8


def test_copies_are_deep_and_pickles_come_back():
    w = mg.tensor([1.0, 2.0], requires_grad=True)
    other = copy.deepcopy(w)
    with mg.no_grad():
        other.add_(1)
    assert w.tolist() == [1, 2] and other.requires_grad
    back = pickle.loads(pickle.dumps(mg.arange(6).view(2, 3).T))
    assert back.tolist() == [[0, 3], [1, 4], [2, 5]]


def test_a_view_in_another_dtype_reads_the_same_bits():
    x = mg.tensor([1.5, -2.5])
    bits = x.view(mg.int32)
    assert bits.tolist() == np.array([1.5, -2.5], "f4").view("i4").tolist()
    bits[0] = 0
    assert x.tolist() == [0.0, -2.5]
    small = mg.tensor([[1, 2, 3, 4]], dtype=mg.uint8)
    assert small.view(mg.int16).tolist() == [[513, 1027]]
    assert small.view(mg.int16).view(mg.uint8).tolist() == small.tolist()
    assert mg.tensor([1.0], dtype=mg.bfloat16).view(mg.int16).item() == 0x3F80
    z = mg.tensor([1 + 2j], requires_grad=True)
    z.view(mg.float32)[1].backward()
    assert z.grad.tolist() == [1j]
    assert mg.tensor([1.0, 2.0]).view(mg.complex64).tolist() == [1 + 2j]
    with pytest.raises(ShapeError, match=r"view: \(3,\) elements of uint8 cannot be read as int16"):
        mg.zeros(3, dtype=mg.uint8).view(mg.int16)
    with pytest.raises(TraceError, match="view: the value of a f32"):
        mg.jit(lambda x: x.view(mg.int32))(x)
