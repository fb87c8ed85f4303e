"""Python state that captured functions read and write: as without jit, or refused."""

import argparse
import dataclasses
import random
import types

import numpy as np
import pytest

import monograph as mg
from monograph import nn
from monograph.core.errors import TraceError

RATE = 0.0
CALLS = 0


class Net(nn.Module):
    factor = 2.0

    def __init__(self):
        super().__init__()
        self.scale, self.count, self.dims, self.options = 0.5, 0, [1, 2], {"a": 1.0}
        self.config = types.SimpleNamespace(k=2.0)
        self.mask = self.kept = None
        self.history, self.sizes = [], []

    def forward(self, x):
        return (x * self.scale * self.dims[0] * self.options["a"] * self.config.k).sum()


class Counting(Net):
    def forward(self, x):
        self.count += 1
        return (x * self.count).sum()


class Choosing(Net):
    def forward(self, x):
        self.count = min(self.count + 1, 4)
        return (x * (2 if self.count > 3 else 1)).sum()


class Lazy(Net):
    def forward(self, x):
        if self.mask is None:
            self.mask = mg.tril(mg.ones(3, 3))
        if not hasattr(self, "weights"):
            self.weights = mg.arange(3.0)
        return (self.mask @ x * self.weights).sum()


class Carrying(Net):
    def forward(self, x):
        h = x if self.kept is None else x + self.kept[0]
        self.kept = (h.detach() * 0.5, {"h": h.detach()})
        return h.sum()


class Appending(Net):
    def forward(self, x):
        self.history.append(x.sum())
        self.sizes.append(x.shape[0])
        return (x * 2).sum()


class Noting(Net):
    def forward(self, x):
        self.rows = x.shape[0]
        self.seen = self.rows * 2
        return (x * self.seen).sum()


def assign(name, values):
    return lambda m, i: setattr(m, name, values(i))


def nothing(m, i):
    pass


CHANGES = {
    "number": (Net, assign("scale", lambda i: 0.1 * i)),
    "number of another type": (Net, assign("scale", lambda i: i if i % 2 else i * 0.5)),
    "entry of a list": (Net, lambda m, i: m.dims.__setitem__(0, i)),
    "more entries": (Net, lambda m, i: m.dims.insert(0, i)),
    "entry of a dict": (Net, lambda m, i: m.options.__setitem__("a", i * 0.3)),
    "attribute of a namespace": (Net, lambda m, i: setattr(m.config, "k", i * 0.3)),
    "another namespace": (Net, assign("config", lambda i: types.SimpleNamespace(k=float(i)))),
    "count": (Counting, nothing),
    "count that is set back": (Counting, assign("count", lambda i: i // 3)),
    "count that chooses": (Choosing, nothing),
    "made when first used": (Lazy, nothing),
    "set back to None": (Lazy, assign("mask", lambda i: None)),
    "carried": (Carrying, nothing),
    "carried and dropped": (Carrying, lambda m, i: setattr(m, "kept", None) if i == 2 else None),
    "appended": (Appending, nothing),
    "written and read": (Noting, assign("seen", lambda i: -1)),
}


@pytest.mark.parametrize("kind, change", CHANGES.values(), ids=CHANGES)
def test_state_of_modules_is_that_without_jit(kind, change):
    def trained(wrap):
        m = kind()
        run, found = wrap(m), []
        for i in range(6):
            found.append(run(mg.arange(1.0, 4.0)).item())
            change(m, i)
        return [*found, m.count, *(h.item() for h in m.history), len(m.sizes), m.dims[0]]

    assert trained(mg.jit) == pytest.approx(trained(lambda f: f), rel=1e-6)


def test_a_number_that_changes_at_each_call_needs_two_programs():
    m = Counting()
    run = mg.jit(m)
    for _ in range(30):
        run(mg.ones(2))
    assert m.count == 30 and type(m.count) is int
    assert run.recompiles == ["Counting.count changed from 0 to 1"]


def test_a_value_that_is_needed_at_each_call_is_refused():
    class Choosy(Net):
        def forward(self, x):
            self.count += 1
            return x.repeat(self.count).sum()

    def run(wrap):
        m = Choosy()
        f = wrap(m)
        return [f(mg.ones(1)).item() for _ in range(20)], m.count

    with pytest.raises(TraceError, match=r"Choosy.count: .* another at each call \(now 9\)"):
        run(mg.jit)
    with pytest.warns(RuntimeWarning, match="runs eagerly"):
        found = run(lambda m: mg.jit(m, fallback=True))
    assert found == run(lambda m: m)


def test_a_value_that_seldom_changes_may_choose_for_ever():
    m = Net()
    run = mg.jit(lambda x: x * 2 if m.scale > 5 else x * m.scale)
    for i in range(12):
        m.scale = float(i)
        for _ in range(2):
            assert run(mg.ones(1)).item() == (2 if i > 5 else i)


def test_globals_and_closures_are_seen_and_written():
    def helped(x):
        return x * RATE

    def run(wrap):
        global RATE, CALLS
        RATE, CALLS, bias, calls = 0.0, 0, 0.0, 0

        def f(x):
            global CALLS
            nonlocal calls
            CALLS += 1
            calls += 2
            return (helped(x) + bias).sum() * calls + CALLS

        f, found = wrap(f), []
        for i in range(5):
            RATE, bias = i * 0.1, i * 0.2
            found.append(f(mg.ones(3)).item())
        return [*found, CALLS, calls]

    assert run(mg.jit) == pytest.approx(run(lambda f: f), rel=1e-6)


@dataclasses.dataclass
class Config:
    k: float = 1.0
    n: int = 2


class Slotted:
    __slots__ = ("k", "n")

    def __init__(self):
        self.k, self.n = 1.0, 2


class Derived:
    def __init__(self):
        self.t, self.n = 1.0, 2

    @property
    def k(self):
        return self.t * CALLS

    @k.setter
    def k(self, value):
        self.t = value


@pytest.mark.parametrize("make", [Config, Slotted, Derived, lambda: argparse.Namespace(k=1, n=2)])
def test_objects_of_a_program_are_seen(make):
    def run(wrap):
        global CALLS
        config, found = make(), []

        def f(x):
            for _ in range(config.n):
                x = x * config.k
            return x.sum()

        f = wrap(f)
        for i in range(5):
            config.k, config.n, CALLS = i * 0.1, 1 + i // 2, i % 2
            found.append(f(mg.ones(3)).item())
        return found

    assert run(mg.jit) == pytest.approx(run(lambda f: f), rel=1e-6)


def test_an_object_that_counts_for_itself():
    class Schedule:
        def __init__(self):
            self.t = 0

        def value(self):
            self.t += 1
            return 0.1 * self.t

    schedule = Schedule()
    f = mg.jit(lambda x: (x * schedule.value()).sum())
    assert [f(mg.ones(1)).item() for _ in range(12)] == pytest.approx(
        [0.1 * (t + 1) for t in range(12)]
    )
    assert schedule.t == 12 and len(f.recompiles) == 1


def test_what_variables_refer_to_may_be_exchanged():
    def run(wrap):
        m, t, array = Net(), mg.ones(3), np.ones(3, np.float32)
        f = wrap(lambda x: m(x) + (x * t).sum() + mg.as_tensor(array).sum())
        found = [f(mg.ones(3)).item()]
        m, t = Net(), mg.full((3,), 2.0)
        m.scale = 3.0
        found.append(f(mg.ones(3)).item())
        array[:] = 5
        return [*found, f(mg.ones(3)).item()]

    assert run(mg.jit) == pytest.approx(run(lambda f: f), rel=1e-6)


@pytest.mark.parametrize(
    "draw",
    [lambda r: random.random(), lambda r: np.random.rand(), lambda r: r.normal()],
    ids=["random", "numpy.random", "generator"],
)
def test_random_numbers_of_python_are_refused(draw):
    r = np.random.default_rng(0)
    with pytest.raises(TraceError, match="draws random numbers in Python"):
        mg.jit(lambda x: x * draw(r))(mg.ones(1))
    assert mg.jit(lambda x: (x, draw)[0] * 2)(mg.ones(1)).item() == 2


def test_what_failed_is_taken_back():
    m = Counting()

    def f(x):
        total = m(x)
        return total * 2 if total > 0 else total

    with pytest.raises(TraceError):
        mg.jit(f)(mg.ones(1))
    assert m.count == 0
    with pytest.warns(RuntimeWarning, match="runs eagerly"):
        mg.jit(f, fallback=True)(mg.ones(1))
    assert m.count == 1 and m.history == []


def test_counts_are_of_calls_and_plain_notes_of_captures():
    kept, counts, calls = [], {"calls": 0}, 0

    @mg.jit
    def f(x):
        nonlocal calls
        calls += 1
        counts["calls"] += 1
        kept.append(x.shape)
        return x * 2

    for _ in range(5):
        f(mg.ones(2))
    assert (kept, counts, calls) == ([(2,)], {"calls": 5}, 5)
    assert len(f.captures) == 1 and not f.recompiles


def test_tensors_that_are_appended_are_those_of_each_call():
    kept = []

    @mg.jit
    def f(x):
        kept.append({"double": x * 2, "rows": x.shape[0]})
        return x

    for i in range(4):
        f(mg.full((2 + i,), float(i)))
    assert [(k["double"][0].item(), k["rows"]) for k in kept] == [(0, 2), (2, 3), (4, 4), (6, 5)]
    assert all(type(k["rows"]) is int for k in kept) and len(f.captures) == 2


def test_tensors_that_are_kept_and_looked_at_are_kept_by_eager_calls_at_first():
    m = Net()

    @mg.jit
    def f(x):
        m.history.append(x)
        return mg.stack(m.history[-2:]).sum()

    with pytest.raises(TraceError, match="Net.history: .* puts tensors there"):
        for _ in range(9):
            f(mg.ones(2))


@pytest.mark.parametrize("jit", [False, True])
def test_a_count_in_the_body_of_a_loop(jit):
    m = Counting()
    run = lambda xs: mg.scan(lambda c, x: (c + m(x), None), mg.zeros(()), xs)[0]  # noqa: E731
    run = mg.jit(run) if jit else run
    assert [run(mg.ones(3, 2)).item() for _ in range(3)] == [12, 30, 48]
    assert m.count == 9


def test_modules_are_as_before_when_nothing_is_captured():
    mg.jit(Net())(mg.ones(3))
    assert "__getattribute__" not in vars(nn.Module)
    assert "__getattribute__" not in vars(Config)


def test_a_gradient_of_a_gradient_sees_the_state_of_its_call():
    def run(wrap):
        m, found = Counting(), []
        f = wrap(lambda x: m(x**3))
        for _ in range(4):
            x = mg.tensor([2.0], requires_grad=True)
            (g,) = mg.autograd.grad(f(x), x, create_graph=True)
            (h,) = mg.autograd.grad(g, x)
            found += [g.item(), h.item(), m.count]
        return found

    assert run(mg.jit) == run(lambda f: f)


def test_a_loss_that_a_module_keeps_has_its_gradient():
    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(mg.full((3,), 2.0))

        def forward(self, x):
            self.penalty = (self.weight**2).sum()
            return (x * self.weight).sum()

    m = Gate()
    f = mg.jit(m)
    for _ in range(3):
        m.weight.grad = None
        (f(mg.ones(3)) + m.penalty).backward()
        assert m.penalty.item() == 12 and m.weight.grad.tolist() == [5, 5, 5]
    assert len(f.captures) == 1


def test_a_cache_of_several_tensors_is_made_by_the_first_call():
    class Cached(nn.Module):
        def __init__(self):
            super().__init__()
            self.keys = self.values = None

        def forward(self, x, at):
            if self.keys is None:
                self.keys = mg.zeros(6, 2)
                self.values = mg.zeros_like(self.keys)
            n = x.shape[0]
            self.keys[at : at + n] = x
            self.values[at : at + n] = x * 2
            return self.keys.sum() + self.values[: at + n].sum()

    def run(wrap):
        f = wrap(Cached())
        with mg.no_grad():
            return [f(mg.full((n, 2), 1.0 + at), at).item() for n, at in ((3, 0), (1, 3), (1, 4))]

    assert run(mg.jit) == run(lambda f: f)


class Diary(mg.nn.Module):
    """Numbers that a forward appends and keeps stay Python's numbers."""

    def __init__(self):
        super().__init__()
        self.calls, self.scale, self.log, self.last = 0, 1.0, [], {}

    def forward(self, x):
        self.calls += 1
        self.scale *= 0.5
        self.log.append((self.calls, self.scale))
        self.last = {"calls": self.calls, "sum": x.sum()}
        return x * self.scale


def test_numbers_that_are_appended_are_numbers():
    diaries = Diary(), Diary()
    for f in (diaries[0], mg.jit(diaries[1])):
        for k in range(5):
            f(mg.ones(2) * k)
    eager, jitted = diaries
    assert jitted.log == eager.log and jitted.last["calls"] == 5
    assert [type(x) for entry in jitted.log for x in entry] == [int, float] * 5
    assert jitted.last["sum"].item() == eager.last["sum"].item()
