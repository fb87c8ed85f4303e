"""Gradients of gradients outside of a captured function, which run it again as it ran."""

import numpy as np
import pytest

import monograph as mg
from monograph import nn
from monograph.nn import functional as F


def twice(f, x):
    """The gradient of f(x).sum(), and that of the gradient's sum of squares."""
    (g,) = mg.autograd.grad(f(x).sum(), x, create_graph=True)
    (h,) = mg.autograd.grad((g * g).sum(), x)
    return g.detach(), h


def same(got, expected, tolerance=1e-5):
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=tolerance, atol=tolerance)


def cube(x):
    return (x**3).sum() * x[0]


@pytest.mark.parametrize("transform", ["jacrev", "jacfwd", "vjp", "batched vjp", "linearize"])
def test_of_a_function_that_differentiates_inside(transform):
    x = mg.tensor([0.5, -1.0, 2.0], dtype=mg.float64)
    ways = mg.eye(3, dtype=mg.float64, requires_grad=True)
    run = {
        "jacrev": lambda f: mg.func.jacrev(f)(x),
        "jacfwd": lambda f: mg.func.jacfwd(f)(x),
        "vjp": lambda f: mg.stack([mg.func.vjp(f, x)[1](v)[0] for v in ways]),
        "batched vjp": lambda f: mg.vmap(mg.func.vjp(f, x)[1])(ways)[0],
        "linearize": lambda f: mg.stack([mg.func.linearize(f, x)[1](v) for v in ways]),
    }[transform]
    f = mg.func.grad(cube)
    for call in (mg.jit(f), mg.jit(mg.jit(f)), mg.func.checkpoint(mg.jit(f))):
        same([run(call).detach()], [run(f).detach()], 1e-12)


def test_dropout_drops_the_same():
    x = mg.linspace(0.5, 2, 64, requires_grad=True)

    def f(x):
        return F.dropout(x**3, 0.5)

    mg.manual_seed(0)
    expected, after = [twice(f, x) for _ in range(2)], mg.rand(1)
    captured = mg.jit(f)
    mg.manual_seed(0)
    for e in expected:
        same(twice(captured, x), e)
    assert mg.equal(mg.rand(1), after)


class Average(nn.Module):
    """Divides by an average that it replaces in each call."""

    def __init__(self):
        super().__init__()
        self.register_buffer("average", mg.ones(3))

    def forward(self, x):
        self.average = 0.9 * self.average + 0.1 * x.detach().abs().mean(0)
        return (x / self.average) ** 3


@pytest.mark.parametrize("make", [lambda: nn.BatchNorm1d(3), Average])
def test_statistics_move_once(make):
    x = mg.arange(12.0).reshape(4, 3).sin().requires_grad_()
    eager, module = make(), make()
    captured = mg.jit(lambda x: module(x) ** 3)
    for _ in range(3):
        same(twice(captured, x), twice(lambda x: eager(x) ** 3, x), 1e-3)
        for a, b in zip(module.buffers(), eager.buffers(), strict=True):
            same([a], [b])


def test_an_argument_that_is_overwritten():
    x, expected = mg.tensor([1.0, 2.0], requires_grad=True), None
    for call in (lambda f: f, mg.jit):
        state = mg.ones(2)

        def f(x, state):
            out = x**3 * state.clone()
            state.add_(1)
            return out

        f = call(f)
        found = [twice(lambda x, f=f, state=state: f(x, state), x) for _ in range(2)]
        assert state.tolist() == [3.0, 3.0]
        expected = expected or found
        for got, e in zip(found, expected, strict=True):
            same(got, e)


def test_autocast_casts_again():
    w, x = mg.full((1, 8), 1 + 1 / 512), mg.ones(8, requires_grad=True)
    f = mg.jit(lambda x: F.linear(x, w).sum())
    with mg.autocast("cpu", mg.bfloat16):
        y = f(x)
    (g,) = mg.autograd.grad(y, x, create_graph=True)
    assert g.tolist() == [1.0] * 8  # the weight as bfloat16 has it
    (g,) = mg.autograd.grad(f(x), x, create_graph=True)
    assert g.tolist() == [1 + 1 / 512] * 8
