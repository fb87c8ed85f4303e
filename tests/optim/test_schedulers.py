"""Every schedule against PyTorch's for 50 steps and more; resuming; messages."""

import pickle

import numpy as np
import pytest

import monograph as mg
from monograph import optim
from monograph.core.errors import render

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests")

# PyTorch advises against schedules without optimizer steps between them; only rates matter here.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def message(function, *args, **kwargs):
    with pytest.raises(Exception) as caught:  # noqa: B017 - the text is compared in full
        function(*args, **kwargs)
    lines = render(caught.value).splitlines()
    return "\n".join(line for line in lines if not line.startswith("  at "))


def optimizer(lib, optim, name="SGD", **options):
    a, b = lib.zeros(1, requires_grad=True), lib.zeros(1, requires_grad=True)
    groups = [{"params": [a], "lr": 0.5}, {"params": [b], "lr": 0.1}]
    if name == "SGD":
        options.setdefault("momentum", 0.9)
    return getattr(optim, name)(groups, **options)


def settings(optimizer):
    keys = ("lr", "momentum", "betas")
    return [g[k] for g in optimizer.param_groups for k in keys if k in g]


def same_settings(a, b):
    for x, y in zip(settings(a), settings(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-15)


class Half:
    def __init__(self, power=1):
        self.power = power

    def __call__(self, t):
        return 0.5 ** (self.power * t)


def linear_then_cosine(s, o):
    parts = [s.LinearLR(o, 0.1, total_iters=10), s.CosineAnnealingLR(o, 30)]
    return s.SequentialLR(o, parts, [10])


def three_parts(s, o):
    parts = [s.ConstantLR(o, 0.1, 5), s.StepLR(o, 4), s.ExponentialLR(o, 0.9)]
    return s.SequentialLR(o, parts, [7, 20])


SCHEDULES = {
    "LambdaLR": lambda s, o: s.LambdaLR(o, lambda t: 1 / (1 + t)),
    "LambdaLR per group": lambda s, o: s.LambdaLR(o, [lambda t: 0.9**t, lambda t: t / 50]),
    "MultiplicativeLR": lambda s, o: s.MultiplicativeLR(o, lambda t: 0.95),
    "StepLR": lambda s, o: s.StepLR(o, 7, 0.3),
    "MultiStepLR": lambda s, o: s.MultiStepLR(o, [30, 3, 10, 10], 0.5),
    "ConstantLR": lambda s, o: s.ConstantLR(o, 0.25, 6),
    "LinearLR": lambda s, o: s.LinearLR(o, 0.1, 0.9, 20),
    "LinearLR to zero": lambda s, o: s.LinearLR(o, 1.0, 0.0, 20),
    "ExponentialLR": lambda s, o: s.ExponentialLR(o, 0.93),
    "PolynomialLR": lambda s, o: s.PolynomialLR(o, 30, 2.0),
    "CosineAnnealingLR": lambda s, o: s.CosineAnnealingLR(o, 15),
    "CosineAnnealingLR eta_min": lambda s, o: s.CosineAnnealingLR(o, 20, eta_min=0.01),
    "WarmRestarts": lambda s, o: s.CosineAnnealingWarmRestarts(o, 5, 2, 0.01),
    "WarmRestarts equal": lambda s, o: s.CosineAnnealingWarmRestarts(o, 7),
    "OneCycleLR": lambda s, o: s.OneCycleLR(o, 1.0, total_steps=60),
    "OneCycleLR linear": lambda s, o: s.OneCycleLR(
        o, [1.0, 0.3], epochs=6, steps_per_epoch=10, anneal_strategy="linear", three_phase=True
    ),
    "OneCycleLR rate alone": lambda s, o: s.OneCycleLR(
        o, 1.0, total_steps=60, pct_start=0.5, cycle_momentum=False
    ),
    "CyclicLR": lambda s, o: s.CyclicLR(o, 0.01, 0.2, 5),
    "CyclicLR triangular2": lambda s, o: s.CyclicLR(o, 0.01, [0.2, 0.4], 5, 9, mode="triangular2"),
    "CyclicLR exp_range": lambda s, o: s.CyclicLR(o, 0.01, 0.2, 5, mode="exp_range", gamma=0.97),
    "CyclicLR scale_fn": lambda s, o: s.CyclicLR(
        o, 0.01, 0.2, 5, scale_fn=lambda x: 1 / x, cycle_momentum=False
    ),
    "ChainedScheduler": lambda s, o: s.ChainedScheduler(
        [s.ConstantLR(o, 0.1, 8), s.ExponentialLR(o, 0.9), s.LinearLR(o, 0.5, 1.0, 30)]
    ),
    "SequentialLR": linear_then_cosine,
    "SequentialLR of three": three_parts,
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_fifty_steps_equal_torch(name):
    ours, theirs = optimizer(mg, optim), optimizer(torch, torch.optim)
    mine = SCHEDULES[name](optim.lr_scheduler, ours)
    other = SCHEDULES[name](torch.optim.lr_scheduler, theirs)
    for _ in range(50):
        same_settings(ours, theirs)
        np.testing.assert_allclose(mine.get_last_lr(), other.get_last_lr(), rtol=1e-9, atol=1e-15)
        mine.step()
        other.step()
    assert mine.get_last_lr() == [g["lr"] for g in ours.param_groups]


@pytest.mark.parametrize("name", ["OneCycleLR", "CyclicLR"])
def test_momentum_cycles_drive_the_first_beta_of_adam(name):
    ours, theirs = optimizer(mg, optim, "Adam"), optimizer(torch, torch.optim, "Adam")
    mine = SCHEDULES[name](optim.lr_scheduler, ours)
    other = SCHEDULES[name](torch.optim.lr_scheduler, theirs)
    for _ in range(30):
        same_settings(ours, theirs)
        mine.step()
        other.step()


def test_warm_restarts_take_fractions_of_epochs():
    ours, theirs = optimizer(mg, optim), optimizer(torch, torch.optim)
    mine = optim.lr_scheduler.CosineAnnealingWarmRestarts(ours, 3, 2)
    other = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(theirs, 3, 2)
    for epoch in [0.25, 1, 2.5, 3.0, 4.75, 8.5, 9, 20.25]:
        mine.step(epoch)
        other.step(epoch)
        same_settings(ours, theirs)
    mine.step()
    other.step()
    same_settings(ours, theirs)


PLATEAUS = [
    {"patience": 2},
    {"patience": 1, "mode": "max", "factor": 0.5},
    {"patience": 1, "threshold_mode": "abs", "threshold": 0.3, "cooldown": 3},
    {"patience": 0, "min_lr": [0.2, 0.05], "factor": 0.5},
    {"patience": 1, "mode": "max", "threshold_mode": "abs"},
]


@pytest.mark.parametrize("options", PLATEAUS)
def test_plateaus_equal_torch(options):
    ours, theirs = optimizer(mg, optim), optimizer(torch, torch.optim)
    mine = optim.lr_scheduler.ReduceLROnPlateau(ours, **options)
    other = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, **options)
    metrics = np.random.default_rng(0).uniform(0.5, 1.5, 50).round(1)
    for metric in metrics:
        mine.step(mg.tensor(metric))
        other.step(metric)
        same_settings(ours, theirs)
        assert mine.num_bad_epochs == other.num_bad_epochs
    assert settings(ours)[0] < 0.5


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_resume_exactly_from_a_state_dict(name):
    whole = optimizer(mg, optim)
    schedule = SCHEDULES[name](optim.lr_scheduler, whole)
    for _ in range(12):
        schedule.step()
    saved = pickle.loads(pickle.dumps([whole.state_dict(), schedule.state_dict()]))
    second = optimizer(mg, optim)
    resumed = SCHEDULES[name](optim.lr_scheduler, second)
    second.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    for _ in range(20):
        schedule.step()
        resumed.step()
        assert settings(whole) == settings(second)


def test_state_of_callable_objects_is_saved_and_that_of_functions_is_not():
    schedule = optim.lr_scheduler.LambdaLR(optimizer(mg, optim), [Half(3), lambda t: 1.0])
    state = schedule.state_dict()
    assert state["lr_lambdas"] == [{"power": 3}, None]
    other = optim.lr_scheduler.LambdaLR(optimizer(mg, optim), [Half(1), lambda t: 1.0])
    other.load_state_dict(state)
    other.step()
    assert other.get_last_lr() == [0.5 * 0.5**3, 0.1]


def test_last_epoch_resumes_without_a_state_dict():
    ours = optimizer(mg, optim)
    schedule = optim.lr_scheduler.ExponentialLR(ours, 0.5)
    for _ in range(3):
        schedule.step()
    again = optim.lr_scheduler.ExponentialLR(ours, 0.5, last_epoch=2)
    assert again.last_epoch == 3 and again.get_last_lr() == schedule.get_last_lr()
    again.step()
    assert again.get_last_lr() == [0.5 / 16, 0.1 / 16]


def test_a_tensor_rate_is_changed_in_place():
    rate = mg.tensor(1.0)
    sgd = optim.SGD([mg.zeros(1, requires_grad=True)], lr=rate)
    schedule = optim.lr_scheduler.ExponentialLR(sgd, 0.5)
    schedule.step()
    assert rate.item() == 0.5 and sgd.param_groups[0]["lr"] is rate


def test_bad_arguments_are_named():
    s, o = optim.lr_scheduler, optimizer(mg, optim)
    assert message(s.StepLR, "sgd", 3) == (
        "ArgumentTypeError: StepLR: optimizer must be an Optimizer, got str"
    )
    assert message(s.LambdaLR, o, [lambda t: 1.0]) == (
        "ArgumentError: LambdaLR: lr_lambda must be one value or 2, one per parameter group; got 1"
    )
    assert message(s.StepLR, o, 3, last_epoch=5) == (
        "ArgumentError: StepLR: last_epoch=5 resumes a schedule, but parameter group 0 has no "
        "'initial_lr'\n  hint: load the optimizer's state dict first"
    )
    assert message(s.LinearLR, o, 0.0) == (
        "ArgumentError: LinearLR: start_factor must be in (0, 1], got 0.0"
    )
    assert message(s.OneCycleLR, o, 0.1) == (
        "ArgumentError: OneCycleLR: give total_steps, or both epochs and steps_per_epoch"
    )
    assert message(s.OneCycleLR, optimizer(mg, optim, "Adagrad"), 0.1, total_steps=5) == (
        "ArgumentError: OneCycleLR: cycle_momentum=True needs an optimizer with momentum or betas; "
        "Adagrad has neither\n  hint: cycle_momentum=False drives the learning rate alone"
    )
    assert message(s.SequentialLR, o, [s.StepLR(o, 3)], [4]) == (
        "ArgumentError: SequentialLR: 1 schedulers need 0 milestones, got 1"
    )
    assert message(s.ChainedScheduler, [s.StepLR(o, 3), s.StepLR(optimizer(mg, optim), 3)]) == (
        "ArgumentError: ChainedScheduler: scheduler 1 belongs to another optimizer than the first"
    )
    assert message(s.ReduceLROnPlateau, o, mode="up") == (
        "ArgumentError: ReduceLROnPlateau: mode must be 'min' or 'max', got 'up'"
    )
    once = s.OneCycleLR(o, 0.1, total_steps=2)
    once.step()
    once.step()
    assert message(once.step) == (
        "ArgumentError: OneCycleLR: step 3 is past the end; the schedule has 2 steps"
    )


def test_one_cycle_whose_rise_has_no_step():
    p = mg.zeros(1, requires_grad=True)
    optimizer = optim.SGD([p], lr=1.0, momentum=0.9)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=4, pct_start=0.25)
    rates = [schedule.get_last_lr()[0]]
    for _ in range(3):
        optimizer.step()
        schedule.step()
        rates.append(schedule.get_last_lr()[0])
    assert rates[0] == 1.0 and rates == sorted(rates, reverse=True) and rates[-1] < 1e-3
