"""GradScaler: steps and states as PyTorch's, eager and captured."""

import numpy as np
import pytest

import monograph as mg
from monograph import nn
from monograph.core.errors import ArgumentError, GradError

SCALES = {"init_scale": 8.0, "growth_interval": 3, "growth_factor": 2.0, "backoff_factor": 0.25}
BAD = {2, 3, 7}  # steps whose gradient is infinite


def run(m, jit=False, clip=False):
    """A training of two numbers; after each step (parameters, scale, count of good steps)."""
    w = m.tensor([1.0, -2.0], requires_grad=True)
    optimizer = m.optim.AdamW([w], lr=0.1)
    scaler = m.amp.GradScaler("cpu", **SCALES)

    def step(x):
        optimizer.zero_grad()
        scaler.scale((w * x).square().sum()).backward()
        if clip:
            scaler.unscale_(optimizer)
            m.nn.utils.clip_grad_norm_([w], 1.0)
        scaler.step(optimizer)
        scaler.update()

    step = m.jit(step) if jit else step
    history = []
    for i in range(12):
        step(m.tensor([float("inf") if i in BAD else 1.0 + i, 2.0]))
        state = scaler.state_dict()
        history.append([*w.tolist(), state["scale"], state["_growth_tracker"]])
    return history, optimizer.state_dict(), scaler


@pytest.mark.parametrize("clip", [False, True])
def test_eager_and_captured_steps_are_pytorchs(clip):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle")
    wanted, state, _ = run(torch, clip=clip)
    for jit in (False, True):
        found, ours, scaler = run(mg, jit=jit, clip=clip)
        assert np.allclose(found, wanted, rtol=1e-5)
        assert ours["state"][0]["step"].item() == 9 == state["state"][0]["step"].item()
        assert np.allclose(ours["state"][0]["exp_avg"].numpy(), state["state"][0]["exp_avg"])
        assert scaler.state_dict().keys() == {
            "scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker",
        }  # fmt: skip


def test_a_captured_step_that_is_left_out_changes_nothing_from_the_start():
    model = nn.Linear(2, 1)
    optimizer = mg.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scaler = mg.amp.GradScaler("cpu")
    before = [p.detach().clone() for p in model.parameters()]

    @mg.jit
    def step(x):
        optimizer.zero_grad()
        scaler.scale(model(x).sum()).backward()
        scaler.step(optimizer)
        scaler.update()

    step(mg.tensor([[float("nan"), 1.0]]))
    assert all(mg.equal(a, b) for a, b in zip(before, model.parameters()))
    momentum = [s["momentum_buffer"] for s in optimizer.state.values()]
    assert all((m == 0).all() for m in momentum)
    assert scaler.get_scale() == 32768.0
    step(mg.ones(1, 2))
    assert not any(mg.equal(a, b) for a, b in zip(before, model.parameters()))


def test_small_float16_gradients_survive():
    x = mg.full((4, 4), 0.1)
    found = []
    for scale in (1.0, 65536.0):
        w = mg.ones(4, 4, requires_grad=True)
        scaler = mg.amp.GradScaler("cpu", init_scale=scale)
        with mg.autocast("cpu", dtype=mg.float16):
            loss = (x @ w).float().square().sum() * 1e-8
        scaler.scale(loss).backward()
        scaler.unscale_(mg.optim.SGD([w], lr=1.0))
        found.append(w.grad.abs().max().item())
    exact = 4 * 0.1 * 2 * 0.4 * 1e-8
    assert found[0] == 0 and abs(found[1] / exact - 1) < 0.01


def test_several_optimizers_and_losses():
    a, b = (mg.tensor([v], requires_grad=True) for v in (1.0, 2.0))
    first, second = mg.optim.SGD([a], lr=1.0), mg.optim.SGD([b], lr=1.0)
    scaler = mg.amp.GradScaler("cpu", init_scale=4.0)
    one, two = scaler.scale([(a * 3).sum(), (b * float("inf")).sum()])
    one.backward()
    two.backward()
    scaler.step(first)
    scaler.step(second)
    scaler.update()
    assert a.item() == -2.0 and b.item() == 2.0 and scaler.get_scale() == 2.0
    scaler.update(16.0)
    assert scaler.get_scale() == 16.0


def test_state_is_saved_and_loaded():
    scaler = run(mg)[2]
    other = mg.amp.GradScaler("cpu")
    other.load_state_dict(scaler.state_dict())
    assert other.state_dict() == scaler.state_dict()
    assert mg.amp.GradScaler("cpu", enabled=False).state_dict() == {}
    with pytest.raises(ArgumentError, match="the state is empty"):
        other.load_state_dict({})


def test_calls_in_a_wrong_order():
    w = mg.tensor([1.0], requires_grad=True)
    optimizer = mg.optim.SGD([w], lr=0.1)
    scaler = mg.amp.GradScaler("cpu")
    with pytest.raises(GradError, match="no step"):
        scaler.update()
    scaler.scale(w.sum()).backward()
    scaler.unscale_(optimizer)
    with pytest.raises(GradError, match="already since"):
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    with pytest.raises(GradError, match="step.. was called|already"):
        scaler.step(optimizer)
    with pytest.raises(GradError, match="after step"):
        scaler.unscale_(optimizer)
    scaler.update()
    half = mg.ones(2, dtype=mg.float16, requires_grad=True)
    scaler.scale(half.sum()).backward()
    with pytest.raises(GradError, match="float16"):
        scaler.unscale_(mg.optim.SGD([half], lr=0.1))
    with pytest.raises(ArgumentError, match="growth_factor"):
        mg.amp.GradScaler("cpu", growth_factor=1.0)
