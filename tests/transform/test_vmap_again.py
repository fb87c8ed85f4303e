"""What vmap makes of small operations is recorded once and done again: with the same results."""

import numpy as np
import pytest

import monograph as mg
from monograph.api import batched
from monograph.core.modes import modes
from monograph.transform import vmap


@pytest.fixture(autouse=True)
def three_times(monkeypatch):
    """Each operation is seen, recorded and done again; the results are those of the rule."""
    batched._programs.clear()
    done = []

    def rule(op, dims, size, args):
        if modes.steps is not None:
            return vmap.rewrite(op, dims, size, args)
        plain, dim = vmap.rewrite(op, dims, size, args)
        for _ in range(3):
            made, place = batched.again(op, dims, size, args)
        assert place == dim and made.dtype is plain.dtype, op
        assert (made._base is None) == (plain._base is None), op
        assert made.requires_grad == plain.requires_grad, op
        if type(plain._payload) is np.ndarray:
            np.testing.assert_array_equal(made._payload, plain._payload)
        done.append(op.name)
        return made, place

    monkeypatch.setattr(vmap, "_rules", [vmap.rewrite, rule])
    yield
    assert done
    assert any(batched._programs.values())


def numbers(*shape, seed=0):
    return mg.tensor(np.random.default_rng(seed).standard_normal(shape))


@pytest.mark.parametrize("in_dims", [(0, 0), (1, 0), (0, None), (None, 1), (2, 1)])
def test_operations_with_all_batch_axes(in_dims):
    x, y = numbers(4, 4, 4), numbers(4, 4, 4, seed=1)

    def f(x, y):
        z = (x @ y).tanh() + x * y - 0.5
        return z.sum(0) / z.amax() + z.transpose(0, 1)[1] * -0.0 - z.reshape(-1)[:4]

    found = mg.vmap(f, in_dims)(x, y)
    for i in range(4):
        one = f(*(a if d is None else a.select(d, i) for a, d in zip((x, y), in_dims)))
        np.testing.assert_allclose(found[i].numpy(), one.numpy(), rtol=1e-12, atol=1e-12)


def test_one_array_twice_and_two_arrays():
    f = mg.vmap(lambda x, y: x * y + x * x)
    x, y = numbers(3, 5), numbers(3, 5, seed=1)
    for a, b in ((x, x), (x, y), (y, x), (y, y)):
        np.testing.assert_array_equal(f(a, b).numpy(), (a * b + a * a).numpy())


def test_zeros_of_both_signs():
    x = mg.ones(3)
    for zero in (0.0, -0.0, 0.0):
        made = mg.vmap(lambda x, zero=zero: x * zero)(x)
        assert np.signbit(made.numpy()).all() == (str(zero) == "-0.0")


def test_gradients_of_each_example_and_through_vmap():
    w, x = numbers(4, 3), numbers(6, 4)
    f = mg.vmap(mg.func.grad(lambda w, x: (x @ w).relu().pow(2).sum()), (None, 0))
    expected = [2 * np.outer(a, np.maximum(a @ w.numpy(), 0)) for a in x.numpy()]
    np.testing.assert_allclose(f(w, x).numpy(), expected, rtol=1e-12)
    w.requires_grad_()
    mg.vmap(lambda x: (x @ w).relu().sum())(x).sum().backward()
    assert w.grad is not None and w.grad.shape == (4, 3)


def test_views_of_batched_tensors_are_written_to():
    def f(x):
        y = x * 1
        y.transpose(0, 1)[0] += 10
        y[1].mul_(2)
        return y

    x = numbers(2, 3, 3)
    for _ in range(3):
        found = mg.vmap(f)(x)
        for i in range(2):
            np.testing.assert_array_equal(found[i].numpy(), f(x[i]).numpy())


def test_batches_of_batches():
    x, y = numbers(2, 3, 4), numbers(3, 4, seed=1)
    f = mg.vmap(mg.vmap(lambda a, b: (a * b).sum() + a.cumsum(0)[-1]))
    found = f(x, y.expand(2, 3, 4))
    np.testing.assert_allclose(found.numpy(), ((x * y).sum(-1) + x.sum(-1)).numpy(), rtol=1e-12)
