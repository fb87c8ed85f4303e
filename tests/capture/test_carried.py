"""Tensors and numbers that are others at each call of a captured function: they become inputs."""

import itertools
import math
from math import exp

import numpy as np
import pytest

import monograph as mg
from monograph import nn, optim
from monograph.core.errors import TraceError
from monograph.nn import functional as F

X, Y = None, None  # the batch of a function that takes it from here


def programs(f):
    return sum(map(len, f.captures.values()))


def agree(run, most):
    """run(wrap) gives numbers; the same with and without jit, by at most so many programs."""
    made = []

    def jit(function):
        made.append(mg.jit(function))
        return made[-1]

    np.testing.assert_allclose(run(jit), run(lambda f: f), rtol=1e-5, atol=1e-6)
    assert max(map(programs, made)) <= most
    return made


def batch(n=12, seed=0):
    r = np.random.default_rng(seed)
    return mg.tensor(r.standard_normal((n, 6)).astype("f")), mg.tensor(r.integers(0, 3, n))


def network():
    mg.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def trained(model, x, y, optimizer):
    loss = F.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


class Recurrent(nn.Module):
    """Keeps the state of its cells between calls."""

    def __init__(self):
        super().__init__()
        mg.manual_seed(0)
        self.cells, self.out, self.hidden = nn.LSTM(6, 5, batch_first=True), nn.Linear(5, 3), None

    def forward(self, x):
        h, self.hidden = self.cells(x, self.hidden)
        return self.out(h)


@pytest.mark.parametrize("detached", ["inside", "outside"])
def test_a_state_that_is_carried_from_call_to_call(detached):
    x = mg.tensor(np.random.default_rng(0).standard_normal((2, 4, 6)).astype("f"))
    start = mg.zeros(1, 2, 5), mg.ones(1, 2, 5)

    def run(wrap):
        m = Recurrent()
        sgd = optim.SGD(m.parameters(), lr=0.1)

        @wrap
        def step(x):
            if detached == "inside" and m.hidden is not None:
                m.hidden = tuple(h.detach() for h in m.hidden)
            loss = m(x).pow(2).mean()
            sgd.zero_grad()
            loss.backward()
            sgd.step()
            return loss

        found = []
        for first in (None, start, start):
            m.hidden = first
            for _ in range(4):
                found.append(step(x).item())
                if detached == "outside":
                    m.hidden = tuple(h.detach() for h in m.hidden)
        assert start[0].sum().item() == 0  # what was put there is not written to
        return found

    agree(run, 2)


def test_masks_buffers_and_globals_that_are_new_at_each_call():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.mask = None
            self.register_buffer("keep", mg.ones(6))

        def forward(self, x):
            return (x * self.mask + self.keep).sum()

    def run(wrap):
        global X
        m, found = Masked(), []

        @wrap
        def f():
            return m(X)

        for i in range(12):
            X, m.mask, m.keep = batch(seed=i)[0], mg.full((6,), float(i)), mg.ones(6) * i
            found.append(f().item())
        return found

    agree(run, 1)


def test_what_an_attribute_was_before_stays_as_it_was():
    class Running(nn.Module):
        def __init__(self):
            super().__init__()
            self.mean = mg.zeros(6)

        def forward(self, x):
            self.mean = self.mean * 0.9 + x.mean(0) * 0.1
            return (x - self.mean).sum()

    def run(wrap):
        m = Running()
        f, found, means = wrap(m), [], [m.mean]
        for i in range(5):
            found.append(f(batch(seed=i)[0]).item())
            means.append(m.mean)
        return found + [mean.sum().item() for mean in means]

    agree(run, 1)


def test_lists_and_dicts_of_tensors():
    def run(wrap):
        state = {"m": mg.zeros(6), "pair": [mg.zeros(6), mg.ones(6)]}

        @wrap
        def f(x):
            state["m"] = state["m"] * 0.5 + x.mean(0)
            state["pair"][1] = state["pair"][1] + state["m"]
            return (state["m"] * state["pair"][0]).sum() + state["pair"][1].sum()

        found = []
        for i in range(6):
            found.append(f(batch(seed=i)[0]).item())
            if i > 2:  # another list at each call, which the function writes to
                state["pair"] = [x + 1 for x in state["pair"]]
        return found + [state["m"].sum().item(), state["pair"][1].sum().item()]

    agree(run, 5)


@pytest.mark.parametrize("by", ["flag", "number"])
def test_gradients_are_accumulated_over_calls(by):
    x, y = batch()

    def run(wrap):
        m = network()
        sgd = optim.SGD(m.parameters(), lr=0.5, momentum=0.9)

        @wrap
        def micro(x, y, i):
            loss = F.cross_entropy(m(x), y) / 3
            loss.backward()
            if i is True or (i is not False and (i + 1) % 3 == 0):
                sgd.step()
                sgd.zero_grad()
            return loss

        parts = [(x[k : k + 4], y[k : k + 4]) for k in (0, 4, 8)]
        turns = [i % 3 == 2 if by == "flag" else i for i in range(18)]
        found = [micro(*parts[i % 3], turn).item() for i, turn in enumerate(turns)]
        return found + [p.sum().item() for p in m.parameters()]

    agree(run, 3)


def test_gradients_that_are_kept_are_others_than_those_of_later_calls():
    x, y = batch()

    def run(wrap):
        m = network()
        step = wrap(lambda x, y: F.cross_entropy(m(x), y).backward())
        grads = []
        for _ in range(4):
            step(x, y)
            grads.append(m[0].weight.grad.clone())
            if len(grads) == 2:
                m[0].weight.grad = None
        return [g.sum().item() for g in grads]

    agree(run, 4)


@pytest.mark.parametrize("schedule", ["cosine", "imported", "warm-up", "pieces", "remainder"])
def test_schedules_by_hand_need_few_programs(schedule):
    x, y = batch()

    class Schedule:
        step = 0

        def rate(self):
            if schedule == "cosine":
                return 0.2 * (1 + math.cos(math.pi * self.step / 20))
            if schedule == "imported":
                return max(0.05, 0.5 * exp(-0.2 * self.step))
            if schedule == "warm-up":
                return 0.5 * min(1.0, self.step / 6)
            if schedule == "remainder":
                return 0.5 if self.step % 4 == 1 else 0.1
            if self.step < 5:
                return 0.1 * self.step
            return 0.5 / math.sqrt(self.step) if self.step < 12 else 0.05

    def run(wrap):
        m, at = network(), Schedule()
        sgd = optim.SGD(m.parameters(), lr=1.0)

        @wrap
        def step(x, y):
            at.step += 1
            for group in sgd.param_groups:
                group["lr"] = at.rate()
            return trained(m, x, y, sgd)

        return [step(x, y).item() for _ in range(20)] + [at.step, sgd.param_groups[0]["lr"]]

    agree(run, 5)


def test_an_argument_that_counts_may_choose():
    def run(wrap):
        f = wrap(lambda x, i: x * i if i % 10 == 0 else x + i)
        return [f(mg.ones(1), i).item() for i in range(40)]

    agree(run, 3)


def test_math_is_itself_again():
    m = nn.Module()
    m.count = 0

    @mg.jit
    def f(x):
        m.count += 1
        return x * math.exp(-m.count) * exp(2.0)

    for _ in range(3):
        f(mg.ones(1))
    assert type(math).__name__ == "module" and math.__name__ == "math" and math.exp(0) == 1
    assert type(math.exp) is type(exp) is type(len) and not hasattr(math, "_iterator")
    assert f(mg.ones(1)).item() == pytest.approx(math.exp(-2))


def test_a_cache_that_grows_has_run_time_sizes():
    class Cache:
        k = None

    def run(wrap):
        c = Cache()

        @wrap
        def f(x):
            c.k = x if c.k is None else mg.cat([c.k, x], 0)
            return (c.k * x[:1]).sum()

        return [f(batch(2, i)[0]).item() for i in range(12)]

    agree(run, 2)


def test_counts_are_added_in_each_call():
    total, seen = 0, {"batches": 0, "rows": 2}

    class Meter:
        def __init__(self):
            self.n = 0

        def update(self):
            self.n += 1

    meter = Meter()

    def f(x):
        nonlocal total
        total += 2
        seen["batches"] += 1
        meter.update()
        return x

    g = mg.jit(f)
    for _ in range(4):
        g(mg.ones(2))
    assert (total, seen, meter.n) == (8, {"batches": 4, "rows": 2}, 4) and programs(g) == 1


def test_what_is_set_or_scaled_is_no_count():
    def run(wrap):
        flip, size, kept = 0, 1, {"a": 0}

        def f(x):
            nonlocal flip, size
            flip = 1 - flip
            size = size * 2
            kept["a"] = 5
            return x

        g = wrap(f)
        found = []
        for _ in range(4):
            g(mg.ones(2))
            found += [flip, size, kept["a"]]
        return found

    agree(run, 2)


@pytest.mark.parametrize("make", [lambda: iter([1, 2, 3]), lambda: itertools.cycle([1, 2, 3])])
def test_elements_of_an_iterator_from_outside_are_refused(make):
    numbers = make()
    for f in (lambda x: x * next(numbers), lambda x: x * sum(n for n, _ in zip(numbers, "ab"))):
        with pytest.raises(TraceError, match="numbers: a captured function takes elements of an"):
            mg.jit(f)(mg.ones(1))
    assert next(numbers) == 1
    assert mg.jit(lambda x: x * sum(i for i in range(3)))(mg.ones(1)).item() == 3


def test_the_contents_of_defaults_are_state():
    def f(x, kept={"n": 0}):  # noqa: B006
        kept["n"] += 1
        return x * kept["n"]

    g = mg.jit(f)
    assert [g(mg.ones(1)).item() for _ in range(4)] == [1, 2, 3, 4] and programs(g) == 2


def test_a_gradient_through_what_a_module_carries():
    def run(wrap):
        m = Recurrent()
        f = wrap(m)
        m.hidden = None
        x = mg.tensor(np.random.default_rng(0).standard_normal((2, 4, 6)).astype("f"))
        loss = sum(f(x).pow(2).mean() for _ in range(4))
        loss.backward()
        return [loss.item(), *(p.grad.sum().item() for p in m.parameters())]

    agree(run, 3)


def test_options_of_an_optimizer_and_clipping_by_numbers_that_change():
    x, y = batch()

    def run(wrap):
        m, at = network(), 0
        adam = optim.AdamW(m.parameters(), lr=0.1, weight_decay=0.1)

        def step(x, y):
            nonlocal at
            part = at / 20
            at += 1
            group = adam.param_groups[0]
            group["lr"], group["weight_decay"] = 0.1 * (1 - part) ** 0.9, 0.1 * part
            loss = F.cross_entropy(m(x), y)
            adam.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(m.parameters(), max(0.1, 1 - 2 * part))
            adam.step()
            return loss

        f, group = wrap(step), adam.param_groups[0]
        return [f(x, y).item() for _ in range(20)] + [group["lr"], group["weight_decay"], at]

    agree(run, 4)


def test_a_result_that_is_put_into_state_is_one_tensor():
    m = nn.Module()
    m.state = mg.zeros(2)

    @mg.jit
    def f(x):
        m.state = m.state + x
        return m.state

    for _ in range(3):
        assert f(mg.ones(2)) is m.state
    assert m.state.tolist() == [3, 3]
