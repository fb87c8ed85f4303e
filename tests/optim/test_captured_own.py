"""Optimizers that a program defines, with a `step` in Python, in captured functions."""

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


@pytest.mark.parametrize("kind", [Momentum, Replacing, Adam])
def test_captured_steps_are_eager_ones(kind):
    expected, _, eager = losses(kind, lambda f: f)
    found, run, state = losses(kind, mg.jit)
    assert found == pytest.approx(expected, rel=1e-6) and run.captures
    for name, value in eager.items():
        assert state[name].tolist() == pytest.approx(value.tolist(), rel=1e-6)


def test_a_rate_that_changed_is_a_reason():
    _, run, _ = losses(Momentum, mg.jit)
    first, second = run.recompiles
    assert first == (
        "what the options of Momentum.step are changed from \"[{'lr': 0.1, 'initial_lr': 0.1}]\" "
        "to \"[{'lr': 0.05, 'initial_lr': 0.1}]\""
    )
    assert "{'lr': 0.025, " in second


def test_counts_in_python_cannot_be_captured():
    with pytest.raises(TraceError) as caught:
        losses(Counting, mg.jit)
    assert caught.value.message == (
        "Counting.step: it changes state 'step', which is no tensor, and a captured function runs "
        "no Python in later calls"
    )
    with pytest.warns(RuntimeWarning, match="runs eagerly: Counting.step"):
        found, _, state = losses(Counting, mg.compile)
    assert found == losses(Counting, lambda f: f)[0] and state["step"] == 7
