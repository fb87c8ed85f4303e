"""Tensors that a module's forward replaces by others: under jit they are written in place."""

import numpy as np
import pytest

import monograph as mg
from monograph import nn
from monograph.core.errors import TraceError


class Averages(nn.Module):
    """Keeps a moving average, swaps two buffers, carries a plain tensor and notes one."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(mg.ones(3))
        self.register_buffer("average", mg.zeros(3))
        self.register_buffer("one", mg.zeros(3))
        self.register_buffer("other", mg.ones(3))
        self.carried = mg.zeros(3)
        self.noted = None

    def forward(self, x):
        before = self.average
        self.average = 0.9 * self.average + 0.1 * x.mean(0)
        self.one, self.other = self.other, self.one + 1
        self.carried = (self.carried + x.sum(0) * self.weight).detach()
        self.noted = x.sum()
        return (x * self.weight * self.average).sum() + self.carried.sum() + before.sum()


def trained(jit):
    model = Averages()
    optimizer = mg.optim.SGD(model.parameters(), lr=0.1)

    def step(x):
        loss = model(x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    step = mg.jit(step) if jit else step
    losses = [step(mg.full((2, 3), i + 1.0)).item() for i in range(4)]
    if jit:
        assert len(step.captures) == 1
    return losses, [*model.state_dict().values(), model.carried]


def test_replaced_tensors_have_the_values_that_they_have_without_jit():
    (eager, kept), (jitted, held) = trained(False), trained(True)
    np.testing.assert_allclose(jitted, eager, rtol=1e-6)
    for a, b in zip(held, kept):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6)


def test_a_module_keeps_the_tensors_that_it_had():
    model = Averages()
    average = model.average
    mg.jit(model)(mg.ones(2, 3))
    assert model.average is average
    np.testing.assert_allclose(average.numpy(), 0.1, rtol=1e-6)


class Growing(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("queue", mg.zeros(2))

    def forward(self, x):
        self.queue = mg.cat([self.queue, x])
        return self.queue.sum()


def test_a_buffer_of_another_shape_is_refused_and_left_as_it_was():
    model = Growing()
    with pytest.raises(TraceError, match=r"queue: .* of shape \(4,\); it is .* of shape \(2,\)"):
        mg.jit(model)(mg.ones(2))
    assert model.queue.tolist() == [0, 0]
    with pytest.warns(RuntimeWarning, match="runs eagerly"):
        assert mg.jit(model, fallback=True)(mg.ones(2)).item() == 2
    assert model.queue.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("jit", [False, True])
def test_a_loop_body_replaces_a_buffer_at_each_turn(jit):
    model = Averages()
    run = lambda xs: mg.scan(lambda c, x: (c + model(x), None), mg.zeros(()), xs)[0]  # noqa: E731
    (mg.jit(run) if jit else run)(mg.ones(3, 2, 3))
    np.testing.assert_allclose(model.average.numpy(), 1 - 0.9**3, rtol=1e-6)
