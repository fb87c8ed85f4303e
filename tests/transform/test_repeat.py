"""Operations on rows of tensors that are captured once for rows that are alike."""

import numpy as np
import pytest

import monograph as mg
from monograph import optim
from monograph.transform import repeat


def rows(seed=0):
    """Pairs of equal and other shapes and dtypes, a view, and a tensor that comes twice."""
    mg.manual_seed(seed)
    shapes = [(3, 4), (3, 4), (2,), (3, 4), (2,), (5, 1)]
    made = [(mg.randn(*s), mg.randn(*s)) for s in shapes]
    made.append((mg.randn(3, 4).double(), mg.randn(3, 4).double()))
    made.append((mg.randn(8, 3, 4)[2], mg.randn(3, 4)))
    twice = mg.randn(3, 4)
    return [*made, (twice, twice), (made[0][0], mg.randn(3, 4))]


def run(captured, calls=3):
    calls_of_update = []
    pairs, rate = rows(), mg.tensor(0.5)

    def update(a, b):
        calls_of_update.append(1)
        a.add_(b * rate)
        b.copy_(a.sum() - b)
        a.mul_(0.75)

    def step(x):
        with mg.no_grad():
            x = x * 2
            repeat.repeated(update, [*pairs, (x, x + 1)])
        return x

    f = mg.jit(step) if captured else step
    versions = [[t._version[0] for t in row] for row in pairs]
    results = [f(mg.ones(3, 4) * k) for k in range(calls)]
    moved = [
        [t._version[0] > v for t, v in zip(row, before, strict=True)]
        for row, before in zip(pairs, versions, strict=True)
    ]
    return pairs, results, moved, len(calls_of_update)


def test_rows_are_updated_as_one_by_one_and_recorded_once_for_each_kind():
    mine, results, moved, count = run(True)
    other, expected, _, plain_count = run(False)
    for a, b in zip([*results, *sum(mine, ())], [*expected, *sum(other, ())], strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6)
    assert all(map(all, moved))
    # (3, 4), again since the first met `rate`; (2,), (5, 1), float64; the view, the tensor twice
    assert plain_count == 3 * 11 and count == 7


def test_a_function_that_touches_other_tensors_runs_for_each_row():
    total = mg.zeros(2)

    def add(a, b):
        a.mul_(b)
        total.add_(a)

    pairs = [(mg.ones(2) * k, mg.ones(2)) for k in range(1, 4)]

    @mg.jit
    def step():
        with mg.no_grad():
            repeat.repeated(add, pairs)

    step()
    assert total.tolist() == [6, 6]


@pytest.mark.parametrize(
    "make",
    [
        lambda p: optim.AdamW(p, lr=0.1, weight_decay=0.1, amsgrad=True),
        lambda p: optim.Adam(p, lr=0.1, weight_decay=0.1, maximize=True),
        lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
        lambda p: optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.5),
        lambda p: optim.SGD(p, lr=0.1),
    ],
)
def test_optimizers_update_as_without_repetition(make, monkeypatch):
    def train():
        mg.manual_seed(0)
        parameters = [
            mg.randn(*s, requires_grad=True) for s in [(4, 4), (4, 4), (4,), (4,), (3, 4)]
        ]
        optimizer = make(parameters)

        @mg.jit
        def step(x):
            optimizer.zero_grad()
            w, u, b, c, v = parameters
            loss = ((x @ w + b).tanh() @ u + c).sigmoid() @ v.t()
            loss.square().mean().backward()
            optimizer.step()

        for k in range(4):
            step(mg.ones(2, 4) * k)
        return [p.detach().numpy() for p in parameters]

    mine = train()

    def one_by_one(function, rows):
        for row in rows:
            function(*row)

    monkeypatch.setattr("monograph.optim.adam.repeated", one_by_one)
    monkeypatch.setattr("monograph.optim.sgd.repeated", one_by_one)
    for a, b in zip(mine, train(), strict=True):
        np.testing.assert_array_equal(a, b)
