"""Sparse tensors of coordinates beside PyTorch's."""

import numpy as np
import pytest

import monograph as mg
from monograph.core.errors import ArgumentError, IndexRangeError, ShapeError
from monograph.sparse import SparseTensor
from monograph.testing import raises_message

pytestmark = pytest.mark.filterwarnings("ignore:Sparse invariant checks")

AT = [[0, 2, 2, 0, 1], [1, 0, 3, 1, 2]]
HELD = [1.0, 2.0, 3.0, 4.0, 5.0]


def both():
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    theirs = torch.sparse_coo_tensor(AT, HELD, (3, 4), check_invariants=True)
    return theirs, mg.sparse_coo_tensor(AT, HELD, (3, 4))


def same(ours, theirs):
    assert tuple(ours.shape) == tuple(theirs.shape)
    np.testing.assert_allclose(ours.to_dense().numpy(), theirs.to_dense().numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    "f",
    [
        lambda s: s,
        lambda s: s.t(),
        lambda s: s * 3,
        lambda s: s / 2,
        lambda s: -s,
        lambda s: s + s,
        lambda s: s.coalesce(),
        lambda s: s.transpose(0, 1).coalesce(),
        lambda s: s * s.to_dense(),
    ],
)
def test_forms_and_arithmetic(f):
    theirs, ours = both()
    same(f(ours), f(theirs))


def test_facts():
    theirs, ours = both()
    for name in ("sparse_dim", "dense_dim", "is_coalesced", "_nnz", "numel", "dim"):
        assert getattr(ours, name)() == getattr(theirs, name)()
    assert ours.is_sparse and ours.dtype is mg.float32
    theirs, ours = theirs.coalesce(), ours.coalesce()
    assert ours.indices().tolist() == theirs.indices().tolist()
    assert ours.values().tolist() == theirs.values().tolist()


def test_values_with_dimensions_of_their_own():
    made = mg.sparse_coo_tensor([[1, 3, 1]], [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    assert tuple(made.shape) == (4, 2)
    assert made.to_dense().tolist() == [[0.0, 0.0], [6.0, 8.0], [0.0, 0.0], [3.0, 4.0]]
    assert made.coalesce().values().tolist() == [[6.0, 8.0], [3.0, 4.0]]


def test_dense_to_sparse_and_back():
    x = mg.tensor([[0.0, 2.0, 0.0], [3.0, 0.0, -1.0]])
    s = x.to_sparse()
    assert s.indices().tolist() == [[0, 1, 1], [1, 0, 2]]
    assert s.to_dense().tolist() == x.tolist()
    assert x.to_sparse(1)._nnz() == 2
    assert x.to_dense() is x


@pytest.mark.parametrize("captured", [False, True], ids=["eager", "captured"])
def test_products_and_their_gradients(captured):
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    r = np.random.default_rng(0)
    x, w = r.standard_normal((4, 6)).astype(np.float32), r.standard_normal((6, 2), np.float32)
    found = []
    for lib in (mg, torch):
        a = lib.sparse_coo_tensor(AT, HELD, (3, 4)).coalesce()
        weight = lib.tensor(w).requires_grad_()
        features = lib.tensor(x).requires_grad_()

        def loss(features, lib=lib, a=a, weight=weight):
            return (lib.sparse.mm(a, features @ weight) ** 2).sum() + lib.spmm(a, features).sum()

        f = mg.jit(loss) if captured and lib is mg else loss
        f(features).backward()
        found.append((weight.grad.numpy(), features.grad.numpy()))
    for ours, theirs in zip(*found):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_gradients_of_the_values():
    values = mg.tensor(HELD, requires_grad=True)
    a = mg.sparse_coo_tensor(AT, values, (3, 4))
    (a @ mg.arange(4.0).reshape(4, 1)).sum().backward()
    assert values.grad.tolist() == [1.0, 0.0, 3.0, 1.0, 2.0]


def test_an_argument_and_a_result_of_a_captured_function():
    a = mg.sparse_coo_tensor(AT, HELD, (3, 4))
    twice = mg.jit(lambda s: (s * 2).coalesce())(a)
    assert isinstance(twice, SparseTensor)
    assert twice.to_dense().tolist() == (a.to_dense() * 2).tolist()
    assert len({tuple(p) for p in zip(*twice._indices()[:, :4].tolist())}) == 4


def test_mistakes():
    with pytest.raises(ShapeError, match="sparse_coo_tensor: indices must be"):
        mg.sparse_coo_tensor([[0, 1]], [1.0])
    with pytest.raises(IndexRangeError, match="index 5 is out of range for dimension 0 of size 3"):
        mg.sparse_coo_tensor([[5], [0]], [1.0], (3, 4))
    with pytest.raises(ShapeError, match="does not fit"):
        mg.sparse_coo_tensor([[0], [0]], [1.0], (3,))
    a = mg.sparse_coo_tensor(AT, HELD, (3, 4))
    with pytest.raises(ArgumentError, match="some places may be there several times"):
        a.values()
    with pytest.raises(ShapeError, match="mm: inner sizes differ"):
        a @ mg.ones(3, 2)


def test_what_takes_no_sparse_tensor_says_so():
    a = mg.sparse_coo_tensor(AT, HELD, (3, 4))
    with pytest.raises(Exception, match="SparseTensor"):
        mg.exp(a)


def test_other_layouts_are_refused():
    for x in (mg.ones(2, 2), mg.ones(2, 2).to_sparse()):
        with raises_message(
            ArgumentError,
            """to_sparse_csr: sparse tensors have coordinates here, and no other layout
            hint: call to_sparse()""",
        ):
            x.to_sparse_csr()
