"""Embeddings whose gradients hold only the rows used, and the optimizers that take them."""

import numpy as np
import pytest

import monograph as mg
from monograph import nn, optim
from monograph.core.errors import GradError
from monograph.nn import functional as F
from monograph.sparse import SparseTensor

ROWS, WIDTH = 60, 4
TABLE = np.random.default_rng(0).standard_normal((ROWS, WIDTH)).astype(np.float32)
BATCHES = np.random.default_rng(1).integers(0, ROWS, (4, 20))
OPTIMIZERS = {
    "sgd": lambda lib, p: lib.optim.SGD(p, lr=0.1),
    "sgd upward": lambda lib, p: lib.optim.SGD(p, lr=0.1, maximize=True),
    "momentum": lambda lib, p: lib.optim.SGD(p, lr=0.1, momentum=0.9),
    "adagrad": lambda lib, p: lib.optim.Adagrad(p, lr=0.1, lr_decay=0.01),
    "sparse adam": lambda lib, p: lib.optim.SparseAdam(p, lr=0.1),
}


def table_of(lib, sparse=True, **options):
    made = lib.nn.Embedding(ROWS, WIDTH, sparse=sparse, **options)
    with lib.no_grad():
        made.weight.copy_(lib.tensor(TABLE))
    return made


def train(lib, how, captured=False, sparse=True, clip=None):
    """Losses and the table after a few steps, with two lookups in the same table."""
    table = table_of(lib, sparse, padding_idx=3)
    optimizer = OPTIMIZERS[how](lib, list(table.parameters()))

    def step(indices):
        optimizer.zero_grad()
        loss = ((table(indices) + table(indices[:5]).sum(0)) ** 2).mean()
        loss.backward()
        if clip is not None:
            lib.nn.utils.clip_grad_norm_(table.parameters(), clip)
        optimizer.step()
        return loss

    run = mg.jit(step) if captured else step
    losses = [run(lib.tensor(b)).item() for b in BATCHES]
    return losses, table.weight.detach().numpy().copy(), table.weight.grad


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # PyTorch's, about itself
@pytest.mark.parametrize("captured", [False, True], ids=["eager", "captured"])
@pytest.mark.parametrize("how", ["sgd", "sgd upward", "adagrad", "sparse adam"])
def test_tables_train_as_in_pytorch(how, captured):
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    losses, table, grad = train(mg, how, captured)
    expected_losses, expected, expected_grad = train(torch, how)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    np.testing.assert_allclose(table, expected, rtol=1e-5, atol=1e-6)
    assert isinstance(grad, SparseTensor) and grad.is_sparse
    np.testing.assert_allclose(
        grad.to_dense().numpy(), expected_grad.to_dense().numpy(), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("captured", [False, True], ids=["eager", "captured"])
@pytest.mark.parametrize("how", ["sgd", "momentum", "adagrad"])
def test_a_sparse_gradient_trains_as_a_dense_one(how, captured):
    losses, table, _ = train(mg, how, captured, clip=0.3)
    expected_losses, expected, grad = train(mg, how, captured, sparse=False, clip=0.3)
    assert isinstance(grad, mg.Tensor)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    np.testing.assert_allclose(table, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("how", ["sgd", "adagrad", "sparse adam"])
def test_a_captured_step_makes_nothing_of_the_size_of_the_table(how):
    rows = 100_000
    table = nn.Embedding(rows, 8, sparse=True)
    optimizer = OPTIMIZERS[how](mg, list(table.parameters()))

    @mg.jit
    def step(indices):
        optimizer.zero_grad()
        table(indices).square().sum().backward()
        optimizer.step()

    step(mg.tensor([5, 7, 5]))
    step(mg.tensor([9, 1, 2]))
    for (capture,) in step.captures.values():
        assert capture.executable.plan.arena_bytes < rows


def test_rows_that_were_not_used_do_not_change():
    table = table_of(mg)
    optimizer = optim.SparseAdam(table.parameters(), lr=0.1)
    for indices in ([1, 2], [7, 2]):
        optimizer.zero_grad()
        table(mg.tensor(indices)).sum().backward()
        optimizer.step()
    changed = (table.weight.detach().numpy() != TABLE).any(1)
    assert np.flatnonzero(changed).tolist() == [1, 2, 7]


def test_gradients_add_up_sparse_and_mixed():
    table = table_of(mg)
    table(mg.tensor([1, 2, 1])).sum().backward()
    table(mg.tensor([2])).sum().backward()
    grad = table.weight.grad
    assert grad._nnz() == 4 and not grad.is_coalesced()
    whole = grad.coalesce()
    assert whole.indices().tolist() == [[1, 2]]
    assert whole.values().tolist() == [[2.0] * WIDTH, [2.0] * WIDTH]
    (table.weight * 2).sum().backward()
    assert isinstance(table.weight.grad, mg.Tensor)
    assert table.weight.grad[:3, 0].tolist() == [2.0, 4.0, 4.0]
    table(mg.tensor([0])).sum().backward()
    assert table.weight.grad[:3, 0].tolist() == [3.0, 4.0, 4.0]


def test_a_lookup_and_a_product_with_one_weight_give_a_dense_gradient():
    table, same = table_of(mg), table_of(mg, sparse=False)
    for t in (table, same):
        h = t(mg.tensor([4, 5]))
        F.linear(h, t.weight).square().sum().backward()
    np.testing.assert_allclose(
        table.weight.grad.numpy(), same.weight.grad.numpy(), rtol=1e-5, atol=1e-5
    )


def test_weights_that_are_results_get_dense_gradients():
    weight = mg.tensor(TABLE, requires_grad=True)
    F.embedding(mg.tensor([1, 1]), weight * 2, sparse=True).sum().backward()
    assert weight.grad[1, 0].item() == 4.0


def test_derivatives_as_values_are_dense():
    weight = mg.tensor(TABLE, requires_grad=True)
    (g,) = mg.autograd.grad(F.embedding(mg.tensor([1]), weight, sparse=True).sum(), [weight])
    assert isinstance(g, mg.Tensor) and g.sum().item() == WIDTH
    lookup = mg.func.grad(lambda w: F.embedding(mg.tensor([1, 2]), w, sparse=True).square().sum())
    np.testing.assert_allclose(lookup(mg.tensor(TABLE))[1].numpy(), 2 * TABLE[1], rtol=1e-6)


def test_captured_forward_and_eager_backward():
    table, same = table_of(mg), table_of(mg, sparse=False)
    for t in (table, same):
        mg.jit(lambda i, t=t: t(i).square().sum())(mg.tensor([3, 4, 3])).backward()
    np.testing.assert_allclose(
        table.weight.grad.to_dense().numpy(), same.weight.grad.numpy(), rtol=1e-6
    )


@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_bags(mode):
    bags = [nn.EmbeddingBag(ROWS, WIDTH, mode=mode, sparse=s) for s in (True, False)]
    for bag in bags:
        with mg.no_grad():
            bag.weight.copy_(mg.tensor(TABLE))
        bag(mg.tensor([1, 2, 4, 5, 4]), mg.tensor([0, 2])).square().sum().backward()
    sparse, dense = (bag.weight.grad for bag in bags)
    assert isinstance(sparse, SparseTensor)
    np.testing.assert_allclose(sparse.to_dense().numpy(), dense.numpy(), rtol=1e-5, atol=1e-6)


def test_frequency_and_padding():
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    grads = []
    for lib in (mg, torch):
        table = table_of(lib, padding_idx=2)
        table(lib.tensor([[2, 3], [3, 4]])).square().sum().backward()
        grads.append(table.weight.grad.to_dense().numpy())
    np.testing.assert_allclose(*grads, rtol=1e-5)
    assert not grads[0][2].any()


def test_optimizers_that_need_whole_gradients_say_so():
    table = table_of(mg)
    table(mg.tensor([1])).sum().backward()
    with pytest.raises(GradError, match="Adam: a gradient is sparse"):
        optim.Adam(table.parameters()).step()
    same = table_of(mg, sparse=False)
    same(mg.tensor([1])).sum().backward()
    with pytest.raises(GradError, match="SparseAdam: the gradient of a parameter of shape"):
        optim.SparseAdam(same.parameters()).step()


def test_clipping_by_value_sums_rows_up_first():
    table = table_of(mg)
    table(mg.tensor([1, 1, 2])).sum().backward()
    nn.utils.clip_grad_value_(table.parameters(), 1.5)
    assert table.weight.grad.to_dense()[:3, 0].tolist() == [0.0, 1.5, 1.0]


def test_zeros_instead_of_none():
    table = table_of(mg)
    optimizer = optim.SGD(table.parameters(), lr=1.0)
    table(mg.tensor([1])).sum().backward()
    optimizer.zero_grad(set_to_none=False)
    optimizer.step()
    np.testing.assert_array_equal(table.weight.detach().numpy(), TABLE)


@pytest.mark.parametrize("how", ["sgd", "sparse adam"])
def test_a_captured_model_whose_backward_is_outside_has_gradients_of_rows(how):
    def run(wrap):
        table = table_of(mg)
        optimizer, look_up = OPTIMIZERS[how](mg, list(table.parameters())), wrap(table)
        for b in BATCHES:
            optimizer.zero_grad()
            (look_up(mg.tensor(b)) ** 2).mean().backward()
            assert isinstance(table.weight.grad, SparseTensor)
            optimizer.step()
        return table.weight.detach().numpy()

    np.testing.assert_allclose(run(mg.jit), run(lambda f: f), rtol=1e-6)
