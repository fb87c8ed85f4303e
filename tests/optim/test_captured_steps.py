"""Training steps inside `mg.jit`: equal to eager ones, captured again only where they must be."""

import numpy as np
import pytest

import monograph as mg
from monograph import nn, optim
from monograph.core.errors import TraceError
from monograph.nn import functional as F


def array(tensor):
    return np.asarray(tensor.detach().numpy())


def batches(n, seed=0):
    rng = np.random.default_rng(seed)
    return [
        (mg.tensor(rng.standard_normal((8, 5), dtype=np.float32)), mg.tensor(rng.integers(0, 3, 8)))
        for _ in range(n)
    ]


def model():
    mg.manual_seed(0)
    # No bias before the norm, which would cancel it: its gradient would be rounding noise alone.
    first = nn.Linear(5, 7, bias=False)
    return nn.Sequential(first, nn.BatchNorm1d(7), nn.Tanh(), nn.Linear(7, 3))


def training_step(net, optimizer, captures=None):
    def step(x, y):
        if captures is not None:
            captures.append(1)
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


OPTIONS = [
    ("SGD", {"lr": 0.1}, 1),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}, 1),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}, 2),  # the first step is special
    ("Adam", {"lr": 0.01}, 1),
    ("Adam", {"lr": 0.01, "betas": (0.0, 0.99), "amsgrad": True, "weight_decay": 0.1}, 1),
    ("AdamW", {"lr": 0.01, "weight_decay": 0.3}, 1),
    ("RMSprop", {"lr": 0.01, "centered": True, "momentum": 0.9}, 1),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1}, 1),
    ("Adadelta", {}, 1),
    ("Adamax", {"lr": 0.01, "weight_decay": 0.1}, 1),
    ("NAdam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True}, 1),
    ("RAdam", {"lr": 0.01, "betas": (0.9, 0.8)}, 1),  # the fifth step is the first rectified one
    ("ASGD", {"lr": 0.1, "t0": 3}, 1),
    ("Rprop", {}, 1),
    ("Adafactor", {"lr": 0.1, "weight_decay": 0.1}, 1),
    ("LAMB", {"lr": 0.01, "weight_decay": 0.1}, 1),
    ("Lion", {"lr": 0.01, "weight_decay": 0.1}, 1),
    ("AdamWScheduleFree", {"lr": 0.01, "warmup_steps": 3, "weight_decay": 0.1}, 1),
]


def same_training(mine, net, other, reference):
    # float32 with another order of operations; Adam divides by roots of tiny numbers at the start.
    tolerance = {"rtol": 2e-4, "atol": 2e-5}
    for (key, a), (_, b) in zip(net.state_dict().items(), reference.state_dict().items()):
        np.testing.assert_allclose(array(a), array(b), err_msg=key, **tolerance)
    state, expected = mine.state_dict()["state"], other.state_dict()["state"]
    assert state.keys() == expected.keys()
    for number in state:
        for key in expected[number]:
            np.testing.assert_allclose(
                array(state[number][key]), array(expected[number][key]), err_msg=key, **tolerance
            )


@pytest.mark.parametrize("name, options, expected", OPTIONS)
def test_captured_steps_train_like_eager_ones(name, options, expected):
    net, reference = model(), model()
    mine = getattr(optim, name)(net.parameters(), **options)
    other = getattr(optim, name)(reference.parameters(), **options)
    captures = []
    captured = mg.jit(training_step(net, mine, captures))
    eager = training_step(reference, other)
    for x, y in batches(6):
        a, b = captured(x, y), eager(x, y)
        np.testing.assert_allclose(a.item(), b.item(), rtol=1e-4)
    assert len(captures) == expected
    assert net[1].num_batches_tracked.item() == 6
    same_training(mine, net, other, reference)


@pytest.mark.parametrize(
    "name, options, schedule",
    [
        ("SGD", {"momentum": 0.9}, lambda o: optim.lr_scheduler.ExponentialLR(o, 0.7)),
        ("SGD", {"momentum": 0.9}, lambda o: optim.lr_scheduler.OneCycleLR(o, 0.1, 10)),
        ("AdamW", {}, lambda o: optim.lr_scheduler.OneCycleLR(o, 0.1, 10)),
        ("RMSprop", {"momentum": 0.5}, lambda o: optim.lr_scheduler.CyclicLR(o, 0.01, 0.1, 3)),
    ],
)
def test_schedules_drive_captured_steps_without_new_captures(name, options, schedule):
    net, reference = model(), model()
    mine = getattr(optim, name)(net.parameters(), lr=0.05, **options)
    other = getattr(optim, name)(reference.parameters(), lr=0.05, **options)
    captures = []
    captured = mg.jit(training_step(net, mine, captures))
    eager = training_step(reference, other)
    schedules = schedule(mine), schedule(other)
    for x, y in batches(8):
        captured(x, y), eager(x, y)
        for s in schedules:
            s.step()
    assert len(captures) == 1
    same_training(mine, net, other, reference)


def test_changed_options_modes_and_loaded_states_are_captured_anew():
    net, reference = model(), model()
    mine = optim.Adam(net.parameters(), lr=0.01)
    other = optim.Adam(reference.parameters(), lr=0.01)
    captures = []
    captured = mg.jit(training_step(net, mine, captures))
    eager = training_step(reference, other)
    data = iter(batches(10))

    def both():
        x, y = next(data)
        captured(x, y), eager(x, y)
        same_training(mine, net, other, reference)

    both()
    both()
    assert len(captures) == 1
    for o in (mine, other):
        o.param_groups[0]["weight_decay"] = 0.1
    both()
    assert len(captures) == 2
    for n in (net, reference):
        n.eval()
    both()
    assert len(captures) == 3
    for n in (net, reference):
        n.train()
    both()
    assert len(captures) == 3  # the earlier capture serves again
    for o in (mine, other):
        o.load_state_dict(o.state_dict())
    both()
    both()
    assert len(captures) == 4
    fresh = model().state_dict()
    for n in (net, reference):
        n.load_state_dict(fresh)
    both()
    assert len(captures) == 4  # loading a model writes into its tensors


def test_learning_rates_may_be_changed_by_hand():
    w = mg.tensor([1.0], requires_grad=True)
    optimizer = optim.SGD([w], lr=1.0)

    @mg.jit
    def step():
        optimizer.zero_grad()
        (w * 2).sum().backward()
        optimizer.step()

    for lr in [1.0, 0.5, 0.25]:
        optimizer.param_groups[0]["lr"] = lr
        step()
    assert w.tolist() == [1 - 2 * 1.75]


def test_gradients_that_are_filled_with_zeros_are_captured_once():
    w = mg.tensor([1.0], requires_grad=True)
    optimizer, captures = optim.SGD([w], lr=0.5), []

    @mg.jit
    def step():
        captures.append(1)
        optimizer.zero_grad(set_to_none=False)
        (w * 2).sum().backward()
        optimizer.step()

    for _ in range(4):
        step()
    assert w.tolist() == [-3.0]
    assert len(captures) <= 2  # without a gradient, then with one


def test_dropout_draws_anew_at_each_captured_call():
    layer = nn.Dropout(0.5)
    f = mg.jit(lambda x: layer(x))
    x = mg.ones(200)
    first, second = f(x), f(x)
    assert set(first.tolist()) == {0.0, 2.0} and first.tolist() != second.tolist()
    layer.eval()
    assert f(x).tolist() == x.tolist()
    layer.train()
    layer.p = 0.0
    assert f(x).tolist() == x.tolist()


def test_clipping_stands_between_backward_and_step():
    net, reference = model(), model()
    mine, other = optim.SGD(net.parameters(), lr=1.0), optim.SGD(reference.parameters(), lr=1.0)

    def step(net, optimizer, x, y):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        norm = nn.utils.clip_grad_norm_(net.parameters(), 0.1)
        optimizer.step()
        return norm

    captured = mg.jit(lambda x, y: step(net, mine, x, y))
    for x, y in batches(3):
        a, b = captured(x, y), step(reference, other, x, y)
        np.testing.assert_allclose(a.item(), b.item(), rtol=1e-4)
    same_training(mine, net, other, reference)


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_recurrent_layers_are_captured(name):
    layer = getattr(nn, name)(3, 4, num_layers=2)
    x = mg.tensor(np.random.default_rng(0).standard_normal((5, 2, 3), dtype=np.float32))
    expected, _ = layer(x)
    got, _ = mg.jit(lambda x: layer(x))(x)
    np.testing.assert_allclose(array(got), array(expected), rtol=1e-5, atol=1e-6)


def test_a_converted_model_is_captured_anew():
    layer = nn.Linear(2, 2)
    f = mg.jit(lambda x: layer(x))
    single = f(mg.ones(1, 2))
    layer.double()
    double = f(mg.ones(1, 2, dtype=mg.float64))
    assert double.dtype == mg.float64
    np.testing.assert_allclose(array(double), array(single), rtol=1e-6)
    layer.float()
    assert f(mg.ones(1, 2)).tolist() == single.tolist()
    layer.double()
    with pytest.raises(TypeError):
        f(mg.ones(1, 2)).tolist()


@pytest.mark.parametrize(
    "name, options",
    [
        ("SGD", {"lr": 0.1, "momentum": 0.9}),
        ("Adam", {"lr": 0.1, "betas": (0.9, 0.9)}),
        ("RMSprop", {"lr": 0.1, "alpha": 0.9, "centered": True, "momentum": 0.9}),
    ],
)
def test_averages_that_only_decay_end_at_zero_not_at_subnormal_numbers(name, options):
    p = mg.ones(64, requires_grad=True)
    optimizer = getattr(optim, name)([p], **options)

    @mg.jit
    def step(x):
        optimizer.zero_grad()
        (p * x).sum().backward()
        optimizer.step()

    x = mg.zeros(64)
    x[::2] = 1.0
    step(x)
    zeros = mg.zeros(64)
    for _ in range(1200):
        step(zeros)
    tiny = np.finfo(np.float32).tiny
    for key in ("momentum_buffer", "exp_avg", "exp_avg_sq", "grad_avg", "square_avg"):
        if key in optimizer.state[p]:
            average = array(optimizer.state[p][key])
            assert not ((average != 0) & (np.abs(average) < tiny)).any(), key


SCHEDULES = {
    "ExponentialLR": lambda o: optim.lr_scheduler.ExponentialLR(o, 0.5),
    "CosineAnnealingWarmRestarts": lambda o: optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 4),
    "ReduceLROnPlateau": lambda o: optim.lr_scheduler.ReduceLROnPlateau(o),
    "SequentialLR": lambda o: optim.lr_scheduler.SequentialLR(
        o, [optim.lr_scheduler.ExponentialLR(o, 0.5) for _ in range(2)], [2]
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_not_stepped_in_a_captured_function(name):
    net = nn.Linear(5, 3)
    optimizer = optim.SGD(net.parameters(), lr=1.0)
    schedule = SCHEDULES[name](optimizer)
    step, (x, y) = training_step(net, optimizer), next(iter(batches(1)))
    metrics = (1.0,) if name == "ReduceLROnPlateau" else ()

    def whole(x, y):
        loss = step(x, y)
        schedule.step(*metrics)
        return loss

    with pytest.raises(TraceError, match=f"{name}.step: a captured function cannot step"):
        mg.jit(whole)(x, y)
    with pytest.warns(RuntimeWarning, match="runs eagerly"):
        mg.jit(whole, fallback=True)(x, y)
    assert schedule.last_epoch == 1


def test_captured_steps_in_float64_are_eager_ones_to_the_last_digits():
    pairs = []
    for wrap in (mg.jit, lambda f: f):
        mg.manual_seed(0)
        net = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).double()
        optimizer = optim.AdamW(net.parameters(), lr=0.01, weight_decay=0.1)
        schedule = optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        step = wrap(training_step(net, optimizer))
        for x, y in batches(5):
            step(x.double(), y)
            schedule.step()
        pairs.append([array(p) for p in net.parameters()])
    for mine, other in zip(*pairs):
        assert mine.dtype == np.float64
        np.testing.assert_allclose(mine, other, rtol=1e-12, atol=1e-14)
