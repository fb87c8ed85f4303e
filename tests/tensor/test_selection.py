"""Functions whose shapes depend on values, orders with nan, and errors of indices, in full."""

import numpy as np
import pytest

import monograph as mg
import monograph.nn.functional as F
from monograph.core.errors import (
    ArgumentError,
    DTypeError,
    IndexRangeError,
    MonographError,
    ShapeError,
    TraceError,
)

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests")


def both(f, *arrays):
    """(ours, theirs) as nested lists."""
    mine = f(mg, *(mg.tensor(a) for a in arrays))
    theirs = f(torch, *(torch.tensor(a) for a in arrays))

    def lists(x):
        return [lists(v) for v in x] if isinstance(x, (tuple, list)) else x.tolist()

    return lists(mine), lists(theirs)


X = np.array([[3, 0, 3], [0, 1, 3]])
FLOATS = np.random.default_rng(0).normal(size=(3, 4))


@pytest.mark.parametrize(
    "f",
    [
        lambda m, x: m.nonzero(x),
        lambda m, x: x.nonzero(as_tuple=True),
        lambda m, x: m.argwhere(x > 1),
        lambda m, x: m.where(x > 0),
        lambda m, x: m.nonzero(m.tensor(3), as_tuple=True),
        lambda m, x: m.masked_select(x, x > 1),
        lambda m, x: x.masked_select(m.tensor([True, False, True])),
        lambda m, x: x.masked_scatter(x > 1, m.arange(9)),
        lambda m, x: m.unique(x),
        lambda m, x: x.unique(return_inverse=True, return_counts=True),
        lambda m, x: m.unique(x, dim=1, return_inverse=True, return_counts=True),
        lambda m, x: m.unique(m.tensor([[1, 2], [1, 2], [0, 5]]), dim=0, return_inverse=True),
        lambda m, x: m.unique_consecutive(
            m.tensor([1, 1, 2]), return_inverse=True, return_counts=True
        ),
        lambda m, x: m.unique_consecutive(
            m.tensor([[1, 1, 2], [3, 3, 2]]), return_inverse=True, dim=1
        ),
        lambda m, x: m.bincount(x.flatten()),
        lambda m, x: m.bincount(x.flatten(), minlength=6),
        lambda m, x: m.bincount(x.flatten(), weights=m.arange(6) * 0.5),
        lambda m, x: (F if m is mg else m.nn.functional).one_hot(x),
        lambda m, x: m.repeat_interleave(m.tensor([2, 0, 3])),
        lambda m, x: (m.tril_indices(3, 4, 1), m.triu_indices(4, 3, -1)),
        lambda m, x: m.zeros(5, 3).fill_diagonal_(2),
        lambda m, x: m.zeros(7, 2).fill_diagonal_(2, wrap=True),
        lambda m, x: m.histc(x * 1.0, bins=4),
        lambda m, x: m.histc(x * 1.0, bins=3, min=1, max=3),
        lambda m, x: m.repeat_interleave(x, m.tensor([1, 2]), dim=0),
    ],
)
def test_functions_that_need_values(f):
    mine, theirs = both(f, X)
    assert mine == theirs


def test_masked_select_and_scatter_have_gradients():
    grads = []
    for m in (torch, mg):
        x = m.tensor(FLOATS, requires_grad=True)
        s = m.tensor(FLOATS[::-1].copy(), requires_grad=True)
        picked = x.masked_select(x > 0)
        filled = x.masked_scatter(x < 0, s)
        (picked * picked).backward(m.ones_like(picked))
        (filled * filled).backward(m.ones_like(filled))
        grads.append([x.grad.numpy(), s.grad.numpy()])
    for a, b in zip(*grads):
        np.testing.assert_allclose(a, b)


NANS = np.array([[2.0, np.nan, -1.0, np.inf, np.nan, 2.0], [0.0, -0.0, 1.0, -np.inf, 5.0, 0.0]])


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_nan_is_the_largest_and_equal_elements_keep_their_order(dtype, descending):
    x, t = (
        mg.tensor(NANS, dtype=getattr(mg, dtype)),
        torch.tensor(NANS, dtype=getattr(torch, dtype)),
    )
    mine = mg.sort(x, descending=descending, stable=True)
    theirs = torch.sort(t, descending=descending, stable=True)
    assert mine.indices.tolist() == theirs.indices.tolist()
    np.testing.assert_array_equal(mine.values.double().numpy(), theirs.values.double().numpy())


@pytest.mark.parametrize("largest", [False, True])
def test_topk_of_many_equals_sorting(largest):
    x = np.random.default_rng(1).integers(0, 50, (4, 400)).astype(np.float32)
    x[0, 7] = np.nan
    got = mg.topk(mg.tensor(x), 9, largest=largest)
    ordered = mg.sort(mg.tensor(x), descending=largest)
    np.testing.assert_array_equal(got.values.numpy(), ordered.values.numpy()[:, :9])
    picked = np.take_along_axis(x, got.indices.numpy(), 1)
    np.testing.assert_array_equal(got.values.numpy(), picked)


def test_sorting_bools_and_scalars():
    assert mg.sort(mg.tensor([True, False, True])).indices.tolist() == [1, 0, 2]
    assert mg.sort(mg.tensor(2.0)).values.item() == 2
    assert mg.topk(mg.tensor(2.0), 1).indices.item() == 0


def test_quantile_of_nan_is_nan_and_takes_several_levels():
    x = mg.tensor([[1.0, 2.0, 4.0], [1.0, float("nan"), 0.0]])
    out = mg.quantile(x, mg.tensor([0.0, 0.5]), dim=1)
    np.testing.assert_array_equal(out.numpy(), [[1, np.nan], [2, np.nan]])


def test_embedding_adds_the_gradients_of_equal_rows():
    w = mg.zeros(4, 2, requires_grad=True)
    F.embedding(mg.tensor([[1, 1], [3, 0]]), w, padding_idx=-1).backward(mg.ones(2, 2, 2))
    assert w.grad.tolist() == [[1, 1], [2, 2], [0, 0], [0, 0]]


def test_16_bit_sums_are_made_in_float32():
    ones = mg.ones(3000, 1, dtype=mg.bfloat16)
    out = mg.zeros(2, 1, dtype=mg.bfloat16).index_add(0, mg.zeros(3000, dtype=mg.int64), ones)
    assert out[0].item() == 3008  # 3000 rounded once; added up in bfloat16 it would stick at 256


@pytest.mark.parametrize(
    ("f", "error", "message"),
    [
        (lambda: F.embedding(mg.tensor([0, 7]), mg.zeros(3, 2)), IndexRangeError,
         "embedding: index 7 is out of range for dimension 0 of size 3"),
        (lambda: F.embedding(mg.tensor([-1]), mg.zeros(3, 2)), IndexRangeError,
         "embedding: index -1 is out of range for dimension 0 of size 3"),
        (lambda: F.embedding(mg.tensor([0.5]), mg.zeros(3, 2)), DTypeError,
         "embedding: indices must be an integer dtype, got float32 of shape (1,)"),
        (lambda: mg.zeros(2, 3).gather(1, mg.tensor([[3]])), IndexRangeError,
         "gather: index 3 is out of range for dimension 1 of size 3"),
        (lambda: mg.zeros(2, 3).gather(1, mg.tensor([0])), ShapeError,
         "gather: index has 1 dimensions, input has 2; they must agree"),
        (lambda: mg.zeros(2, 3).gather(1, mg.zeros(3, 1, dtype=mg.int64)), ShapeError,
         "gather: index of shape (3, 1) does not fit (2, 3): it must have as many dimensions, and "
         "be no larger in any but 1"),
        (lambda: mg.zeros(2).scatter_add(0, mg.tensor([2]), mg.ones(1)), IndexRangeError,
         "scatter_add: index 2 is out of range for dimension 0 of size 2"),
        (lambda: mg.zeros(2).scatter_add(0, mg.tensor([1, 1]), mg.ones(1)), ShapeError,
         "scatter_add: src of shape (1,) is too small for index (2,)"),
        (lambda: mg.zeros(2).scatter(0, mg.tensor([1])), ArgumentError,
         "scatter: src or value must be given"),
        (lambda: mg.zeros(2).scatter(0, mg.tensor([1]), mg.tensor([1])), DTypeError,
         "scatter: src is int64, input is float32; they must agree"),
        (lambda: mg.zeros(2).index_select(0, mg.tensor([2])), IndexRangeError,
         "index_select: index 2 is out of range for dimension 0 of size 2"),
        (lambda: mg.zeros(2, 3).index_add(0, mg.tensor([1]), mg.ones(2, 3)), ShapeError,
         "index_add: source has shape (2, 3), expected (1, 3) for index of 1 in dimension 0 of "
         "(2, 3)"),
        (lambda: mg.take(mg.zeros(3), mg.tensor([3])), IndexRangeError,
         "take: index 3 is out of range for dimension 0 of size 3"),
        (lambda: F.one_hot(mg.tensor([3]), 3), IndexRangeError,
         "one_hot: class 3 is out of range for 3 classes"),
        (lambda: mg.zeros(2).masked_fill(mg.tensor([1, 0]), 1.0), DTypeError,
         "masked_fill: mask must be a bool tensor, got int64"),
        (lambda: mg.topk(mg.zeros(2), 3), IndexRangeError,
         "topk: k must be in [0, 2] for dimension 0, got 3"),
        (lambda: mg.zeros(2).index_put((mg.tensor([5]),), mg.tensor(1.0)), IndexRangeError,
         "index_put: index 5 is out of range for dimension 0 of size 2"),
        (lambda: mg.cat((mg.zeros(2, 3), mg.zeros(2, 4))), ShapeError,
         "cat: tensors[1] has shape (2, 4), tensors[0] has (2, 3); they must agree in every "
         "dimension but 0"),
        (lambda: mg.stack((mg.zeros(2), mg.zeros(3))), ShapeError,
         "stack: tensors[1] has shape (3,), tensors[0] has (2,)"),
        (lambda: mg.cat(mg.zeros(2)), MonographError,
         "cat: tensors must be a tuple or list of tensors, got Tensor"),
        (lambda: mg.zeros(2, 3).expand(4, 3), ShapeError,
         "expand: size 4 of dimension 0 does not fit the tensor's shape (2, 3)"),
        (lambda: mg.zeros(2, 3).reshape(4), ShapeError,
         "reshape: (2, 3) has 6 elements, shape (4,) needs 4"),
        (lambda: mg.zeros(2, 3).split([1, 3], 1), ShapeError,
         "split: sizes [1, 3] must add up to 3, the size of dimension 1"),
        (lambda: F.pad(mg.zeros(2, 3), (3, 0), "reflect"), ShapeError,
         "pad: amounts (3, 0) do not fit dimension 1 of size 3 in mode 'reflect'"),
        (lambda: mg.zeros(2, 3).select(1, 3), IndexRangeError,
         "select: index 3 is out of range for dimension 1 of size 3"),
        (lambda: mg.zeros(2, 3).permute(0, 0), ShapeError,
         "permute: dims (0, 0) must name each of the 2 dimensions once"),
        (lambda: mg.zeros(2, 3).squeeze(5), IndexRangeError,
         "squeeze: dim must be in [-2, 1] for 2 dimensions, got 5"),
    ],
)  # fmt: skip
def test_messages(f, error, message):
    with pytest.raises(error) as caught:
        f()
    assert caught.value.message == message


def test_functions_that_need_values_say_so_under_capture():
    from monograph.transform.trace import trace_graph

    with pytest.raises(TraceError, match="nonzero: the value of a f32"):
        trace_graph(lambda x: mg.nonzero(x), mg.ones(2))


def test_facts_are_those_of_torch():
    assert mg.broadcast_shapes((2, 1), (3,), 1) == (2, 3)
    assert mg.result_type(mg.tensor([1]), 2.0) is mg.float32
    assert mg.is_tensor(mg.ones(1)) and not mg.is_tensor(1)
    x = mg.ones(2, 3, dtype=mg.float16)
    assert (x.nbytes, x.itemsize, mg.numel(x), x.is_floating_point(), x.is_complex()) == (
        12, 2, 6, True, False,
    )  # fmt: skip
