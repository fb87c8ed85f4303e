"""x[...] and x[...] = value against PyTorch: chosen cases, random index expressions, messages."""

import random

import numpy as np
import pytest

import monograph as mg
from monograph.core.errors import (
    ArgumentError,
    ArgumentTypeError,
    DTypeError,
    IndexRangeError,
    ShapeError,
    TraceError,
    render,
)

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests")


def random_index(r, shape, advanced):
    """A random index for `shape`, as (for torch, for monograph)."""
    theirs, mine = [], []
    common = r.choice([(2,), (3,), (2, 2), (1,)])
    dim, gap = 0, False
    while dim < len(shape) and r.random() < 0.9:
        size = shape[dim]
        kind = r.choice(["int", "slice", "none", "gap", "all"] + ["array", "mask"] * (2 * advanced))
        if kind == "none":
            theirs.append(None)
            mine.append(None)
            continue
        if kind == "gap":
            if gap:
                continue
            gap = True
            theirs.append(Ellipsis)
            mine.append(Ellipsis)
            skipped = r.randrange(0, len(shape) - dim)
            shape = shape[:dim] + shape[dim + skipped :]
            # what follows an ellipsis must name the last dimensions
            while dim < len(shape):
                i = r.randrange(-shape[dim], shape[dim])
                theirs.append(i)
                mine.append(i)
                dim += 1
            break
        if kind == "int":
            i = r.randrange(-size, size)
            theirs.append(i)
            mine.append(i)
        elif kind == "slice":
            lo, hi = (r.choice([None, r.randrange(-size - 1, size + 2)]) for _ in range(2))
            s = slice(lo, hi, r.choice([None, 1, 2, 3]))
            theirs.append(s)
            mine.append(s)
        elif kind == "all":
            theirs.append(slice(None))
            mine.append(slice(None))
        elif kind == "array":
            a = np.random.default_rng(r.randrange(1 << 30)).integers(-size, size, common)
            theirs.append(torch.tensor(a))
            mine.append(r.choice([mg.tensor(a), a, mg.tensor(a).to(mg.int32)]))
            if a.ndim == 1 and r.random() < 0.3:
                mine[-1] = a.tolist()
        elif kind == "mask":
            n = r.choice([1, 2])
            n = n if dim + n <= len(shape) else 1
            covered = shape[dim : dim + n]
            a = np.zeros(covered, bool)
            wanted = common[-1]
            flat = np.random.default_rng(r.randrange(1 << 30)).permutation(a.size)[:wanted]
            a.reshape(-1)[flat] = True
            theirs.append(torch.tensor(a))
            mine.append(r.choice([mg.tensor(a), a]))
            dim += n - 1
        dim += 1
    return tuple(theirs), tuple(mine)


@pytest.mark.parametrize("block", range(8))
def test_random_reads_match_torch_with_gradients(block):
    done = 0
    for seed in range(block * 100, block * 100 + 100):
        r = random.Random(seed)
        shape = tuple(r.randrange(1, 5) for _ in range(r.randrange(1, 5)))
        data = np.random.default_rng(seed).normal(size=shape)
        theirs, mine = random_index(r, shape, advanced=seed % 2)
        t = torch.tensor(data, requires_grad=True)
        m = mg.tensor(data, requires_grad=True)
        try:
            expected = t[theirs]
        except (IndexError, RuntimeError):
            with pytest.raises((IndexRangeError, ShapeError)):
                m[mine]
            continue
        got = m[mine]
        assert tuple(got.shape) == tuple(expected.shape), (shape, theirs)
        np.testing.assert_array_equal(got.detach().numpy(), expected.detach().numpy())
        g = np.random.default_rng(seed).normal(size=tuple(expected.shape))
        expected.backward(torch.tensor(g))
        got.backward(mg.tensor(g))
        np.testing.assert_allclose(m.grad.numpy(), t.grad.numpy(), rtol=1e-12)
        done += 1
    assert done > 60


@pytest.mark.parametrize("block", range(6))
def test_random_assignments_match_torch_with_gradients(block):
    done = 0
    for seed in range(block * 100, block * 100 + 100):
        r = random.Random(seed)
        shape = tuple(r.randrange(1, 5) for _ in range(r.randrange(1, 5)))
        data = np.random.default_rng(seed).normal(size=shape)
        theirs, mine = random_index(r, shape, advanced=seed % 2)
        try:
            target = tuple(torch.tensor(data)[theirs].shape)
            places = torch.arange(data.size).reshape(shape)[theirs]
        except (IndexError, RuntimeError):
            continue
        if places.unique().numel() != places.numel():
            continue  # which of several values stays is not defined in PyTorch
        for a in range(len(target)):  # broadcast some dimensions
            if r.random() < 0.3:
                target = target[:a] + (1,) + target[a + 1 :]
        target = target[r.randrange(len(target) + 1) :] if r.random() < 0.5 else target
        value = np.random.default_rng(seed + 1).normal(size=target)
        grads = []
        for m, index in ((torch, theirs), (mg, mine)):
            x = m.tensor(data, requires_grad=True)
            v = m.tensor(value, requires_grad=True)
            y = x * 2
            y[index] = v * 3
            (y * m.tensor(data)).backward(m.ones(*shape, dtype=m.float64))
            plain = m.tensor(data)
            plain[index] = m.tensor(value)
            results = (y, plain, x.grad, v.grad)
            grads.append([None if a is None else a.detach().numpy() for a in results])
        for a, b in zip(*grads):
            assert (a is None) == (b is None), f"seed {seed} {theirs} {target}"
            if a is not None:
                np.testing.assert_allclose(b, a, rtol=1e-12, err_msg=f"seed {seed}")
        done += 1
    assert done > 50


def pair(shape):
    data = np.arange(float(np.prod(shape))).reshape(shape)
    return torch.tensor(data), mg.tensor(data)


@pytest.mark.parametrize(
    "index",
    [
        True, False, (True, 1), (slice(None), None, [0, 1]), ([0, 1], slice(None), [1, 2]),
        (0, slice(None), [1, 2]), ([1], None, [2]), [], (Ellipsis,), (None, None),
        (slice(5, 1), 0), (slice(None), slice(None), slice(-2, None)), ([[0], [1]], [0, 2]),
    ],
)  # fmt: skip
def test_unusual_indices_match_torch(index):
    t, m = pair((2, 3, 4))
    expected = t[index]
    assert tuple(m[index].shape) == tuple(expected.shape)
    np.testing.assert_array_equal(m[index].numpy(), expected.numpy())


def test_a_basic_index_is_a_view_and_an_advanced_one_is_not():
    x = mg.zeros(3, 4)
    x[1][2] = 5
    x[:, ::2].add_(1)
    assert x.tolist() == [[1, 0, 1, 0], [1, 0, 6, 0], [1, 0, 1, 0]]
    x[[0, 1]].add_(100)
    assert x[0].tolist() == [1, 0, 1, 0]


def test_values_are_converted_to_the_dtype_of_the_tensor():
    x = mg.zeros(4, dtype=mg.int32)
    x[0] = 2.9
    x[1:3] = mg.tensor([1.5, -1.5])
    x[[3]] = mg.tensor([7.0])
    assert x.tolist() == [2, 1, -1, 7]
    assert x.dtype is mg.int32


def test_the_last_of_equal_indices_stays_and_has_the_gradient():
    v = mg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    x = mg.zeros(2) * 1
    x[[0, 0, 1]] = v
    assert x.tolist() == [2, 3]
    x.backward(mg.ones(2))
    assert v.grad.tolist() == [0, 1, 1]


def test_index_put_accumulates_equal_indices():
    x = mg.zeros(3)
    x.index_put_((mg.tensor([0, 2, 0]),), mg.tensor([1.0, 2.0, 3.0]), accumulate=True)
    assert x.tolist() == [4, 0, 2]


def test_overlapping_parts_of_one_tensor_can_be_assigned():
    x = mg.arange(5)
    x[1:] = x[:-1]
    assert x.tolist() == [0, 0, 1, 2, 3]


def test_iterating_and_unpacking_follow_the_first_dimension():
    a, b = mg.tensor([[1, 2], [3, 4]])
    assert (a.tolist(), b.tolist()) == ([1, 2], [3, 4])
    assert [int(v) for v in mg.arange(3)] == [0, 1, 2]


BACKWARDS = [
    np.s_[::-1], np.s_[:, ::-1], np.s_[::-2, 1:], np.s_[..., -2::-3], np.s_[3:0:-1, None, ::-1],
    np.s_[0:3:-1], np.s_[2::-1, 1], np.s_[::-1, [0, 2, 2]], np.s_[1:1:-1, ::-1], np.s_[-9:9:-1],
]  # fmt: skip


@pytest.mark.parametrize("index", BACKWARDS, ids=str)
def test_slices_go_backwards(index):
    array = np.arange(20.0).reshape(4, 5)
    x = mg.tensor(array, requires_grad=True)
    got, expected = x[index], array[index]
    assert got.tolist() == expected.tolist()
    weights = np.arange(1.0, expected.size + 1).reshape(expected.shape)
    if expected.size:
        (got * mg.tensor(weights)).sum().backward()
        slope = np.zeros_like(array)
        np.add.at(slope, index, weights)
        assert x.grad.tolist() == slope.tolist()
    assert mg.jit(lambda t: t[index])(x.detach()).tolist() == expected.tolist()
    written, other = array.copy(), x.detach().clone()
    written[index], other[index] = weights, mg.tensor(weights)
    assert other.tolist() == written.tolist()


def test_masks_and_slices_that_go_backwards():
    array = np.arange(6).reshape(2, 3)
    x, mask = mg.tensor(array), np.array([True, False, True])
    assert x[::-1, mask].tolist() == array[::-1, mask].tolist()
    x[::-1, mg.tensor(mask)] = mg.tensor([[7, 8], [9, 10]])
    array[::-1, mask] = [[7, 8], [9, 10]]
    assert x.tolist() == array.tolist()
    x[::-1, mg.tensor(mask)] = 0
    assert x.sum().item() == 1 + 4


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        ((0, 5), IndexRangeError, "index: index 5 is out of range for dimension 1 of size 3"),
        (-3, IndexRangeError, "index: index -3 is out of range for dimension 0 of size 2"),
        ((slice(None), [0, 3]), IndexRangeError,
         "index: index 3 is out of range for dimension 1 of size 3"),
        ((0, 0, 0), IndexRangeError,
         "index: 3 indices for a tensor of 2 dimensions, shape (2, 3)"),
        ((Ellipsis, Ellipsis), IndexRangeError,
         "index: only one ellipsis (...) can stand in an index"),
        (slice(None, None, 0), ArgumentError, "index: slice step must not be 0"),
        ("a", ArgumentTypeError,
         "index: an index must be made of ints, slices, None, ..., bools, lists and integer or "
         "bool tensors; got str"),
        (1.0, ArgumentTypeError,
         "index: an index must be made of ints, slices, None, ..., bools, lists and integer or "
         "bool tensors; got float"),
        ([0.5], DTypeError,
         "index: index tensors must be integer or bool, got float32 of shape (1,)"),
        (np.ones((2, 2), bool), IndexRangeError,
         "index: mask of shape (2, 2) does not fit dimensions 0 and up of size (2, 3)"),
        (([0, 1], [0, 1, 2]), ShapeError,
         "index: shapes (2,) and (3,) do not broadcast: dimension -1 is 2 in one and 3 in another"),
    ],
)  # fmt: skip
def test_messages_of_bad_indices(index, error, message):
    with pytest.raises(error) as caught:
        mg.zeros(2, 3)[index]
    assert str(caught.value) == message


def test_messages_of_bad_assignments():
    x = mg.zeros(2, 3)
    with pytest.raises(ShapeError) as caught:
        x[0] = mg.zeros(2)
    assert str(caught.value) == (
        "index assignment: a value of shape (2,) cannot be assigned to shape (3,)"
    )
    with pytest.raises(ArgumentTypeError) as caught:
        x[0] = "a"
    assert str(caught.value) == (
        "index assignment: the value must be a number, tensor, array or list, got str"
    )
    with pytest.raises(ShapeError) as caught:
        x[:1].expand(4, 3)[0] = 1.0
    assert "several elements share one location" in str(caught.value)


def test_a_mask_inside_a_captured_function_says_what_to_do():
    from monograph.transform.trace import trace_graph

    with pytest.raises(TraceError) as caught:
        trace_graph(lambda x: x[x > 0], mg.ones(3))
    assert (
        "index: how many elements of a bool mask of shape (3,) are true is not known inside a "
        "captured or batched function\n"
        "  hint: use mg.where(mask, x, other) or x.masked_fill(mask, value), which keep the shape"
    ) in render(caught.value)


def test_reads_and_assignments_inside_a_captured_function():
    from monograph.ir.evaluate import evaluate
    from monograph.transform.trace import trace_graph

    def f(x, i):
        y = x * 1
        y[1] = 5.0
        y[:, i] = y[:, i] * 10
        y[y > 70] = -1.0
        y[0, 1:].add_(0.5)
        return y, y[i][:, None]

    data, index = np.arange(12.0, dtype=np.float32).reshape(3, 4), np.array([0, 2])
    graph, _ = trace_graph(f, mg.tensor(data), mg.tensor(index))
    got = evaluate(graph, data, index)
    expected = f(torch.tensor(data), torch.tensor(index))
    for a, b in zip(got, expected):
        np.testing.assert_allclose(a, b.numpy())
