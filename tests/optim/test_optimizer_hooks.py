"""Hooks of optimizers."""

import copy
import pickle

import pytest

import monograph as mg
from monograph import nn


def made():
    layer = nn.Linear(2, 1)
    return layer, mg.optim.SGD(layer.parameters(), lr=0.1)


def train(layer, optimizer):
    layer(mg.ones(1, 2)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def clip(optimizer, args, kwargs):
    for group in optimizer.param_groups:
        nn.utils.clip_grad_norm_(group["params"], 1e-9)


def test_steps():
    layer, optimizer = made()
    seen = []
    first = optimizer.register_step_pre_hook(lambda o, a, k: seen.append((o, a, k)))
    optimizer.register_step_pre_hook(clip)
    optimizer.register_step_post_hook(lambda o, a, k: seen.append("after"))
    before = layer.weight.detach().clone()
    train(layer, optimizer)
    assert seen == [(optimizer, (), {}), "after"]
    assert mg.allclose(layer.weight, before, rtol=0, atol=1e-8)
    first.remove()
    train(layer, optimizer)
    assert seen[2:] == ["after"]


def test_a_hook_gives_other_arguments():
    layer, optimizer = made()
    optimizer.register_step_pre_hook(lambda o, a, k: ((lambda: mg.tensor(7.0),), {}))
    assert optimizer.step().item() == 7.0
    optimizer.register_step_pre_hook(lambda o, a, k: "no")
    with pytest.raises(TypeError, match=r"must return None or \(args, kwargs\), got str"):
        optimizer.step()
    with pytest.raises(TypeError, match="a hook must be a function, got int"):
        optimizer.register_step_post_hook(1)


def test_captured_steps():
    layer, optimizer = made()
    optimizer.register_step_pre_hook(clip)
    step = mg.jit(lambda: train(layer, optimizer))
    before = layer.weight.detach().clone()
    for _ in range(3):
        step()
    assert mg.allclose(layer.weight, before, rtol=0, atol=1e-8)


def test_state_dicts():
    _, optimizer = made()
    calls = []
    optimizer.register_state_dict_pre_hook(lambda o: calls.append("a"))
    optimizer.register_state_dict_pre_hook(lambda o: calls.append("b"), prepend=True)
    optimizer.register_state_dict_post_hook(lambda o, s: {**s, "more": 1})
    state = optimizer.state_dict()
    assert calls == ["b", "a"] and state["more"] == 1

    def without(o, s):
        calls.append(s.pop("more"))

    optimizer.register_load_state_dict_pre_hook(without)
    optimizer.register_load_state_dict_post_hook(lambda o: calls.append("loaded"))
    optimizer.load_state_dict(state)
    assert calls[2:] == [1, "loaded"] and state["more"] == 1


def test_copies_have_hooks_of_their_own():
    layer, optimizer = made()
    optimizer.register_step_pre_hook(clip)
    for other in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        weight = other.param_groups[0]["params"][0]
        weight.grad = mg.ones_like(weight)
        before = weight.detach().clone()
        other.step()
        assert mg.allclose(weight, before, rtol=0, atol=1e-8)
        assert other.step.__self__ is other
