"""Backward passes that are replayed: the same results as those of the tape, and when not to."""

import numpy as np
import pytest

import monograph as mg
from monograph.core.errors import GradError
from monograph.transform import replay, walk

F = mg.nn.functional


@pytest.fixture
def replays(monkeypatch):
    """Counts the replays; nothing is known at first."""
    counted = []
    inner = replay._replay
    monkeypatch.setattr(replay, "_programs", {})
    monkeypatch.setattr(replay, "_seen", {})
    monkeypatch.setattr(replay, "_replay", lambda *a: counted.append(1) or inner(*a))
    return counted


@pytest.fixture
def walked(monkeypatch):
    """walked(f): what f() gives when every backward walks the tape."""

    def run(f):
        with monkeypatch.context() as m:
            m.setattr(walk, "_replay", [])
            return f()

    return run


def numbers(*shape, seed=0):
    made = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return mg.from_numpy(made)


def leaf(*shape, seed=0):
    return numbers(*shape, seed=seed).requires_grad_()


def assert_equal(given, expected):
    for a, b in zip(given, expected, strict=True):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())


def test_a_backward_of_one_kind_is_replayed_with_the_same_bits(replays, walked):
    def gradients(seed):
        x, w = leaf(5, 7, seed=seed), leaf(7, 3, seed=seed + 1)
        y = F.gelu(mg.tanh(x @ w) * 1.5 + x.sum(1, keepdim=True)).exp()
        (y[1:].logsumexp(0) - y.mean()).sum().backward()
        return x.grad, w.grad

    for seed in range(6):
        assert_equal(gradients(seed), walked(lambda seed=seed: gradients(seed)))
    assert len(replays) >= 2


def test_other_constants_shapes_and_connections_are_another_program(replays):
    x = leaf(4)

    def slope(f):
        return mg.autograd.grad(f(x).sum(), x)[0].numpy()

    for k in (2.0, 3.0, 0.0, -0.0, 2):
        for _ in range(4):
            np.testing.assert_array_equal(
                slope(lambda x, k=k: x * x * k), 2 * x.detach().numpy() * k
            )
    y = numbers(4, seed=1)
    for other in (y, x.detach(), x):
        for _ in range(4):
            expected = 2 * x.detach().numpy() if other is x else other.numpy()
            np.testing.assert_array_equal(slope(lambda x, o=other: x * o), expected)
    z = leaf(4, seed=2)
    z.requires_grad_(False)
    assert mg.autograd.grad((x * z).sum(), x)[0].tolist() == z.tolist()
    assert replays


def test_which_saved_values_are_one_array_is_looked_at(replays):
    a, b = numbers(3, seed=1), numbers(3, seed=2)
    x = leaf(3)
    for first, second in ((a, a), (a, a), (a, a), (a, b), (b, a), (a, b), (b, b)):
        found = mg.autograd.grad((x * first).sum() + (x.exp() * second).sum(), x)[0]
        expected = first.numpy() + np.exp(x.detach().numpy()) * second.numpy()
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_derivatives_up_to_the_third_order_are_replayed(replays):
    def derivatives(x):
        y = (mg.sin(x) * x).sum()
        found = []
        for _ in range(3):
            g = mg.autograd.grad(y, x, create_graph=True)[0]
            found.append(g)
            y = g.sum()
        return found

    for seed in range(7):
        x = leaf(5, seed=seed)
        v = x.detach().numpy().astype(np.float64)
        first, second, third = derivatives(x)
        s, c = np.sin(v), np.cos(v)
        np.testing.assert_allclose(first.detach().numpy(), s + v * c, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(second.detach().numpy(), 2 * c - v * s, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(third.detach().numpy(), -3 * s - v * c, rtol=1e-4, atol=1e-5)
    assert len(replays) == 5 + 3 + 1  # each waits for the one below


def test_a_penalty_on_a_gradient_trains_all_layers(replays, walked):
    net = mg.nn.Sequential(mg.nn.Linear(3, 16), mg.nn.Tanh(), mg.nn.Linear(16, 1))

    def gradients():
        x = leaf(20, 3)
        out = net(x)
        slope = mg.autograd.grad(out, x, mg.ones_like(out), create_graph=True)[0]
        loss = ((slope.norm(2, dim=1) - 1) ** 2).mean() + out.mean()
        return mg.autograd.grad(loss, list(net.parameters()))

    expected = walked(gradients)
    for _ in range(16):  # functions of layers may be compiled meanwhile, and are another kind then
        for a, b in zip(gradients(), expected):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-6)
    assert len(replays) >= 6


def test_results_written_in_place_do_not_spoil_second_derivatives(replays):
    for k in range(6):
        x = leaf(4, seed=k)
        g = mg.autograd.grad((x**3).sum(), x, create_graph=True)[0]
        first = g.sum()
        with mg.no_grad():
            g.mul_(100.0)
        second = mg.autograd.grad(first, x)[0]
        np.testing.assert_allclose(second.numpy(), 6 * x.detach().numpy(), rtol=1e-5)


def test_what_was_changed_in_place_is_still_an_error(replays):
    for _ in range(4):
        x, y = leaf(3), numbers(3, seed=1)
        out = (x * y).sum()
        assert mg.autograd.grad(out, x, retain_graph=True)[0].tolist() == y.tolist()
        y.add_(1.0)
        with pytest.raises(GradError, match="changed in place"):
            out.backward()


def test_a_second_backward_needs_retain_graph(replays):
    for _ in range(5):
        x = leaf(3)
        out = (x * x).sum()
        out.backward(retain_graph=True)
        out.backward()
        np.testing.assert_allclose(x.grad.numpy(), 4 * x.detach().numpy())
        with pytest.raises(GradError, match="retain_graph"):
            out.backward()


def test_inputs_that_do_not_matter_get_none(replays):
    for _ in range(5):
        x, y = leaf(3), leaf(3, seed=1)
        g = mg.autograd.grad((x * 2).sum() + (y * 0).sum(), (x, y), create_graph=True)
        assert not g[0].requires_grad
        h = mg.autograd.grad((x * x).sum(), x, create_graph=True)[0].sum()
        assert mg.autograd.grad(h, y, allow_unused=True) == (None,)


def test_hooks_and_anomaly_mode_walk_the_tape(replays):
    seen = []
    for k in range(6):
        x = leaf(3)
        y = x * 2
        if k >= 4:
            y.register_hook(lambda g: seen.append(1) or g * 10)
        (y * y).sum().backward()
        factor = 10 if k >= 4 else 1
        np.testing.assert_allclose(x.grad.numpy(), 8 * factor * x.detach().numpy(), rtol=1e-6)
    assert seen == [1, 1]
    before = len(replays)
    with mg.autograd.set_detect_anomaly(True):
        x = leaf(3)
        (x * 2 * (x * 2)).sum().backward()
    assert len(replays) == before


def test_hooks_on_leaves_run_after_a_replay(replays):
    x = leaf(3)
    x.register_hook(lambda g: g * 3)
    for _ in range(5):
        x.grad = None
        (x * x).sum().backward()
        np.testing.assert_allclose(x.grad.numpy(), 6 * x.detach().numpy(), rtol=1e-6)
    assert len(replays) == 3


def test_gradients_do_not_share_memory(replays):
    for _ in range(5):
        x, y = leaf(3), leaf(3, seed=1)
        (x + y).sum().backward()
        x.grad.zero_()
        assert y.grad.tolist() == [1.0, 1.0, 1.0]


def test_transposed_constants_give_the_same_gradients(replays):
    w = leaf(4, 4)
    plain, turned = numbers(4, 4, seed=1), numbers(4, 4, seed=1).T.contiguous().T
    for c in (plain, plain, plain, turned, turned):
        found = mg.autograd.grad(F.layer_norm(w * c, (4,)).exp().sum(), w)[0]
        expected = mg.autograd.grad(F.layer_norm(w * plain, (4,)).exp().sum(), w)[0]
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-5, atol=1e-6)


def test_gradients_of_rows_are_replayed(replays, walked):
    def gradients(seed, padding):
        table, w = leaf(20, 3, seed=seed), leaf(3, 2, seed=seed + 1)
        index = mg.from_numpy(np.random.default_rng(seed).integers(0, 20, (4, 5)))
        y = F.embedding(index, table, sparse=True, padding_idx=padding) @ w
        y = y + F.embedding_bag(index, table, mode="sum", sparse=True)[:, :2].unsqueeze(1)
        y.tanh().sum().backward()
        assert table.grad.is_sparse and table.grad._nnz() == 40
        return table.grad.to_dense(), w.grad

    for padding in (None, 7):
        before = len(replays)
        for seed in range(6):
            expected = walked(lambda given=(seed, padding): gradients(*given))
            assert_equal(gradients(seed, padding), expected)
        assert len(replays) >= before + 2
