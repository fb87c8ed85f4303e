"""Optimizers that a program defines, with a `step` in Python, in captured functions."""

import math

import numpy as np
import pytest

import monograph as mg
from monograph import optim
from monograph.core.errors import TraceError


class Momentum(optim.Optimizer):
    """State is made when it is first needed, and written in place."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    @mg.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                self.update(p, self.state[p], group["lr"])

    def update(self, p, state, lr):
        if "m" not in state:
            state["m"] = mg.zeros_like(p)
        p.add_(state["m"].mul_(0.9).add_(p.grad), alpha=-lr)


class Replacing(Momentum):
    def update(self, p, state, lr):
        state["m"] = state.get("m", mg.zeros_like(p)) * 0.9 + p.grad
        p.sub_(state["m"] * lr)


class Counting(Momentum):
    def update(self, p, state, lr):
        state["step"] = state.get("step", 0) + 1
        p.sub_(p.grad * lr / state["step"])


class Adam(optim.Adam):
    def step(self, closure=None):
        super().step(closure)
        with mg.no_grad():
            for p in self.param_groups[0]["params"]:
                p.clamp_(-3, 3)


def losses(kind, wrap, steps=7):
    w = mg.nn.Parameter(mg.ones(3))
    optimizer = kind([w], lr=0.1)
    schedule = optim.lr_scheduler.StepLR(optimizer, 3, 0.5)

    def step(x):
        optimizer.zero_grad()
        loss = (w * x).sum()
        loss.backward()
        optimizer.step()
        return loss

    run, found = wrap(step), []
    for _ in range(steps):
        found.append(run(mg.ones(3)).item())
        schedule.step()
    return found, run, optimizer.state[w]


class InItself(Momentum):
    """State in attributes, made with the optimizer."""

    def __init__(self, params, lr):
        super().__init__(params, lr)
        self.steps = 0
        self.averages = [mg.zeros_like(p) for p in self.param_groups[0]["params"]]

    @mg.no_grad()
    def step(self):
        self.steps += 1
        for i, p in enumerate(self.param_groups[0]["params"]):
            self.averages[i] = 0.9 * self.averages[i] + p.grad
            p.add_(self.averages[i] / (1 - 0.9**self.steps), alpha=-self.param_groups[0]["lr"])


class Rooted(Momentum):
    """A function of `math` of the count."""

    def update(self, p, state, lr):
        state["step"] = state.get("step", 0) + 1
        p.sub_(p.grad * lr / math.sqrt(state["step"]))


@pytest.mark.parametrize("kind", [Momentum, Replacing, Counting, InItself, Adam, Rooted])
def test_captured_steps_are_eager_ones(kind):
    expected, _, eager = losses(kind, lambda f: f)
    found, run, state = losses(kind, mg.jit)
    assert found == pytest.approx(expected, rel=1e-6) and run.captures
    for name, value in eager.items():
        value, mine = (mg.as_tensor(x).tolist() for x in (value, state[name]))
        assert mine == pytest.approx(value, rel=1e-6)


def test_a_rate_that_changes_becomes_an_input():
    _, run, _ = losses(Momentum, mg.jit, steps=30)
    assert run.recompiles == ["Momentum.param_groups[0]['lr'] changed from 0.1 to 0.05"]


class RootedByNumpy(Momentum):
    """NumPy needs the count's value."""

    def update(self, p, state, lr):
        state["step"] = state.get("step", 0) + 1
        p.sub_(p.grad * lr / float(np.sqrt(state["step"])))


def test_counts_that_numpy_computes_with_are_refused():
    with pytest.raises(TraceError) as caught:
        losses(RootedByNumpy, mg.jit, steps=20)
    assert "['step']: a captured function reads it, and it is another at each call" in str(
        caught.value
    )
    with pytest.warns(RuntimeWarning, match="runs eagerly: RootedByNumpy.state"):
        found, _, state = losses(RootedByNumpy, mg.compile, steps=20)
    assert found == pytest.approx(losses(RootedByNumpy, lambda f: f, steps=20)[0], rel=1e-6)
    assert state["step"] == 20
