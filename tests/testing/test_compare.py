"""mg.testing.compare names the operation that the compiler and NumPy see differently."""

import numpy as np
import pytest

import monograph as mg
import monograph.nn.functional as F
from monograph import nn, optim
from monograph.core.errors import ArgumentError
from monograph.ir.op import REGISTRY
from monograph.testing import compare


def test_a_training_step_agrees_and_stays_untouched():
    mg.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x, y = mg.randn(4, 2, 6, 6), mg.tensor([0, 1, 2, 1])

    def step(x, y):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    before = [p.detach().numpy().copy() for p in model.parameters()]
    found = compare(step, x, y)
    assert found, str(found)
    assert str(found) == f"{found.count} operations and all results agree" and found.count > 20
    for p, a in zip(model.parameters(), before):
        np.testing.assert_array_equal(p.detach().numpy(), a)


def test_the_first_operation_that_differs_is_named_with_its_line(monkeypatch):
    exp = REGISTRY["exp"]
    right = exp.reference
    monkeypatch.setattr(exp, "reference", lambda self, x: right(self, x) * 1.01)

    def f(x):
        y = mg.sin(x) * 2
        z = mg.exp(y)
        return z + mg.cos(z)

    found = compare(f, mg.ones(3))
    assert not found and found.first.op == "exp"
    assert found.first.place.line == f.__code__.co_firstlineno + 2
    assert "3 of 3 elements differ" in found.first.what
    assert len(found.results) == 1 and "first operation that differs: exp" in str(found)


def test_integers_must_be_equal():
    found = compare(lambda x: (x + 1, x > 2, x // 2), mg.tensor([1, 2, 3, 1 << 40]))
    assert found, str(found)


def test_bad_use_is_refused():
    with pytest.raises(ArgumentError, match="compare: needs a function, got str"):
        compare("sin")
