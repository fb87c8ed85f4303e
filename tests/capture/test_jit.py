"""`mg.jit`: tensors taken by reference: parameters, statistics, gradients."""

import numpy as np
import pytest
from jit_helpers import close, counted, same

import monograph as mg
from monograph import nn, optim
from monograph.nn import functional as F


def test_captured_tensors_are_read_anew_at_each_call():
    w = mg.tensor([1.0, 2.0])
    f, captures = counted(lambda x: x * w)
    x = mg.tensor([10.0, 10.0])
    assert f(x).tolist() == [10, 20]
    w.mul_(3)
    assert f(x).tolist() == [30, 60]
    w.data = mg.tensor([0.5, 0.25])
    assert f(x).tolist() == [5, 2.5]
    assert len(captures) == 1


def test_a_captured_tensor_of_another_shape_is_captured_again():
    w = mg.tensor([1.0, 2.0])
    f, captures = counted(lambda: w * 2)
    f()
    w.data = mg.tensor([1.0, 2.0, 3.0])
    assert f().tolist() == [2, 4, 6]
    assert len(captures) == 2
    assert f.recompiles == ["a captured tensor changed from f32[2] to f32[3]"]


def test_a_plain_copy_between_captured_tensors_is_made_at_each_call():
    source, target, part = mg.zeros(3), mg.ones(3), mg.ones(2, 3)

    @mg.jit
    def f():
        target.copy_(source)
        part[1].copy_(source)
        part[0] = source
        source.add_(1)
        target.copy_(source)

    for i in range(3):
        source.fill_(10.0 * i)
        f()
        assert target.tolist() == [10 * i + 1] * 3
        assert part.tolist() == [[10 * i] * 3] * 2


def test_captured_tensors_are_written_in_place():
    total = mg.zeros(3)
    held = total.numpy()
    f, captures = counted(lambda x: total.add_(x))
    for k in range(3):
        assert f(mg.ones(3)) is total
        assert held.tolist() == [k + 1] * 3  # the array itself, not another one
    assert len(captures) == 1


@pytest.mark.parametrize(
    "write",
    [
        lambda base: base[1].add_(1),
        lambda base: base.view(6)[2:4].mul_(5),
        lambda base: base.t()[0].zero_(),
        lambda base: base.detach()[0].fill_(7),
        lambda base: base.__setitem__((slice(None), 1), 3.0),
        lambda base: base.copy_(base * 2),
        lambda base: base.flatten().clone().add_(1),
    ],
)
def test_writes_through_views_reach_the_base(write):
    mine, other = (mg.arange(6.0).reshape(2, 3).clone() for _ in range(2))
    f = mg.jit(lambda: (write(mine), None)[1])
    for _ in range(3):
        f()
        write(other)
        same(mine, other)


def test_a_captured_view_writes_into_its_base_outside():
    base = mg.zeros(4, 3)
    row, detached = base[1], base.detach()
    f = mg.jit(lambda x: (row.add_(x), detached[2].sub_(x), base.sum())[-1])
    assert f(mg.ones(3)).item() == 0
    assert f(mg.ones(3)).item() == 0
    assert base.tolist() == [[0] * 3, [2] * 3, [-2] * 3, [0] * 3]
    assert row.tolist() == [2] * 3


def test_reads_see_writes_that_came_before_them_only():
    state = mg.tensor([1.0])

    @mg.jit
    def f():
        before = state * 1
        state.add_(1)
        between = state * 1
        state.mul_(10)
        return before, between, state.clone()

    assert [t.item() for t in f()] == [1, 2, 20]
    assert [t.item() for t in f()] == [20, 21, 210]


def test_swapped_states_do_not_read_what_was_just_written():
    a, b = mg.arange(5.0), mg.arange(5.0) * 10

    @mg.jit
    def f():
        old = a.clone()
        a.copy_(b)
        b.copy_(old)

    f()
    assert (a.tolist(), b.tolist()) == ([0, 10, 20, 30, 40], [0, 1, 2, 3, 4])
    f()
    assert a.tolist() == [0, 1, 2, 3, 4]


def test_rolled_state_is_written_as_if_read_before():
    a = mg.arange(6.0)
    f = mg.jit(lambda: (a.copy_(a.flip(0) + a.roll(1)), None)[1])
    expected = np.arange(6.0, dtype=np.float32)
    for _ in range(3):
        f()
        expected = expected[::-1] + np.roll(expected, 1)
        assert a.tolist() == expected.tolist()


def test_gradients_left_behind_set_and_accumulated():
    w = mg.tensor([1.0, 2.0], requires_grad=True)
    g = mg.jit(lambda x: (w * w * x).sum().backward())
    x = mg.tensor([1.0, 10.0])
    g(x)
    assert w.grad.tolist() == [2, 40]
    g(x)  # accumulates into the tensor that is there
    assert w.grad.tolist() == [4, 80]
    g(x)
    assert w.grad.tolist() == [6, 120]
    w.grad = None
    g(x)
    assert w.grad.tolist() == [2, 40]


def test_gradients_may_be_set_to_none_inside():
    w = mg.tensor([1.0, 2.0], requires_grad=True)

    @mg.jit
    def f(x):
        w.grad = None
        (w * x).sum().backward()
        found = w.grad * 2
        w.grad = None
        return found

    for k in (1.0, 2.0, 3.0):
        assert f(mg.full((2,), k)).tolist() == [2 * k] * 2
        assert w.grad is None


def test_a_gradient_of_the_last_call_is_not_overwritten_while_held():
    w = mg.tensor([1.0, 2.0], requires_grad=True)

    @mg.jit
    def f(x):
        w.grad = None
        (w * x).sum().backward()

    f(mg.tensor([1.0, 2.0]))
    held = w.grad
    view = held.numpy()
    f(mg.tensor([3.0, 4.0]))
    assert held.tolist() == [1, 2] and view.tolist() == [1, 2]
    assert w.grad.tolist() == [3, 4]


def test_an_array_of_the_last_gradient_is_not_overwritten_while_held():
    w = mg.tensor([1.0, 2.0], requires_grad=True)

    @mg.jit
    def f(x):
        w.grad = None
        (w * x).sum().backward()

    f(mg.tensor([1.0, 2.0]))
    held = w.grad.numpy()
    part = w.grad[:1]
    f(mg.tensor([3.0, 4.0]))
    assert held.tolist() == [1, 2]
    assert part.tolist() == [1]


@pytest.mark.parametrize(
    "make",
    [
        lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
        lambda p: optim.AdamW(p, lr=0.01),
    ],
)
def test_ten_steps_of_training_are_eager_ones(make):
    def network():
        mg.manual_seed(3)
        return nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 4))

    nets = network(), network()
    rng = np.random.default_rng(0)
    steps, losses = [], []
    for net, wrap in zip(nets, (mg.jit, lambda f: f)):
        optimizer = make(net.parameters())

        def step(x, y, net=net, optimizer=optimizer):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            return loss

        steps.append(wrap(step))
    for _ in range(10):
        x = mg.tensor(rng.standard_normal((12, 6), dtype=np.float32))
        y = mg.tensor(rng.integers(0, 4, 12))
        losses.append([float(s(x, y)) for s in steps])
    np.testing.assert_allclose(*np.array(losses).T, rtol=1e-4)
    for p, q in zip(nets[0].parameters(), nets[1].parameters()):
        close(p, q, rtol=1e-3, atol=1e-4)
        close(p.grad, q.grad, rtol=1e-3, atol=1e-4)
    assert len(steps[0].captures) == 1


def test_batch_norm_statistics_are_updated_once_per_call():
    mine, other = nn.BatchNorm1d(4), nn.BatchNorm1d(4)
    f, captures = counted(mine)
    rng = np.random.default_rng(1)
    for _ in range(4):
        x = mg.tensor(rng.standard_normal((9, 4), dtype=np.float32) * 2 + 1)
        close(f(x), other(x))
    close(mine.running_mean, other.running_mean)
    close(mine.running_var, other.running_var)
    assert mine.num_batches_tracked.item() == 4
    assert len(captures) == 1


def test_state_that_is_not_contiguous_is_read_and_written():
    base = np.zeros((3, 4), np.float32)
    t = mg.from_numpy(base.T)  # strides of a transpose, shares memory
    other = mg.from_numpy(np.arange(24, dtype=np.float32).reshape(4, 6)[:, ::2])
    f = mg.jit(lambda: (t.add_(other), t.sum())[1])
    for k in (1, 2, 3):
        total = f().item()
        expected = k * np.arange(24, dtype=np.float32).reshape(4, 6)[:, ::2]
        np.testing.assert_array_equal(base.T, expected)
        assert total == expected.sum()


def test_a_function_that_fails_leaves_captured_tensors_as_they_were():
    w = mg.tensor([1.0, 2.0], requires_grad=True)
    state = mg.zeros(2)
    view = state[:1]
    boom = [True]

    @mg.jit
    def f(x):
        state.add_(x)
        view.add_(5)
        (w * x).sum().backward()
        if boom[0]:
            raise KeyError("my own")
        return state.clone()

    with pytest.raises(KeyError, match="my own"):
        f(mg.ones(2))
    assert state.tolist() == [0, 0] and view.tolist() == [0]
    assert w.grad is None and w.tolist() == [1, 2] and w.requires_grad and w.is_leaf
    boom[0] = False
    assert f(mg.ones(2)).tolist() == [6, 1]
    assert state.tolist() == [6, 1]
