"""Sums of an operand that the product makes which copies it."""

import numpy as np
import pytest

import monograph as mg
from monograph import nn, optim
from monograph.compiler.executable import compile_graph
from monograph.transform.trace import trace_graph

rng = np.random.default_rng(0)


def array(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def run(f, *arrays):
    """(results, titles of the steps, steps that write two results or more)."""
    graph, _ = trace_graph(f, *map(mg.tensor, arrays))
    executable = compile_graph(graph)
    outs = [np.empty(v.shape, v.dtype.numpy) for v in graph.outputs]
    executable.run([np.ascontiguousarray(a) for a in arrays], outs)
    steps = executable.plan.steps
    return outs, [s.title for s in steps], [s for s in steps if sums(s)]


def product(g, x):
    return mg.einsum("rn,rk->nk", g, x)


def sums(step):
    return "line_sums" in [b.name for b in step.kernel.buffers]


def check(got, *expected):
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())


@pytest.mark.parametrize(
    "rows, wide, narrow", [(1024, 384, 256), (1100, 1152, 192), (700, 768, 768)]
)
def test_the_gradients_of_a_weight_and_its_bias(rows, wide, narrow):
    g, x = array(rows, wide), array(rows, narrow)
    got, titles, made = run(lambda g, x: (product(g, x), g.sum(0)), g, x)
    check(got, g.T.astype("d") @ x, g.sum(0, dtype="d"))
    assert len(made) == 1 and not [t for t in titles if t.startswith("reduce")]


def test_what_follows_the_sum_follows_the_product():
    g, x, b = array(4, 256, 384), array(4, 256, 256), array(384)

    def update(g, x, b):
        total = g.sum((0, 1))
        return mg.einsum("abn,abk->nk", g, x), (b - 0.1 * total).tanh(), total

    got, titles, made = run(update, g, x, b)
    total = g.sum((0, 1), dtype="d")
    check(got, np.einsum("abn,abk->nk", g, x), np.tanh(b - 0.1 * total), total)
    assert len(made) == 1 and not [t for t in titles if t.startswith("reduce")]


def not_over_rows(g, x):
    return product(g, x), g.sum(1)


def of_something_else(g, x):
    return product(g, x), (g * 2 + 1).abs().sum(0)


def a_maximum(g, x):
    return product(g, x), g.amax(0)


def of_what_both_read(g, x):  # the centred g needs the sum before
    return product(g, x), g.sum(0), (g - g.sum(0)).abs().sum(0)


def before_the_product(g, x):
    return product(g, x + g.sum(0)[:256]), g.sum(0)


@pytest.mark.parametrize(
    "f", [not_over_rows, of_something_else, a_maximum, of_what_both_read, before_the_product]
)
def test_other_sums_are_made_as_ever(f):
    g, x = array(1024, 384), array(1024, 256)
    got, _, _ = run(f, g, x)
    expected = [t.numpy() for t in f(mg.tensor(g).double(), mg.tensor(x).double())]
    check(got, *expected)
    if f is not of_what_both_read:
        assert not run(f, g, x)[2]


def test_a_step_of_training_has_the_sums_and_the_same_result():
    x, y = mg.tensor(array(1024, 192)), mg.tensor(array(1024, 256))

    def losses(jit):
        mg.manual_seed(0)
        model = nn.Sequential(nn.Linear(192, 384), nn.GELU(), nn.Linear(384, 256))
        optimizer = optim.AdamW(model.parameters(), lr=1e-2)

        def step(x, y):
            optimizer.zero_grad()
            loss = (model(x) - y).square().mean()
            loss.backward()
            optimizer.step()
            return loss

        run = mg.jit(step) if jit else step
        found = [run(x, y).item() for _ in range(6)]
        return found, [p.detach().numpy() for p in model.parameters()], step

    compiled, parameters, step = losses(True)
    eager, expected, _ = losses(False)
    np.testing.assert_allclose(compiled, eager, rtol=1e-5)
    for a, b in zip(parameters, expected):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    assert [r.step for r in mg.explain(step, x, y, rounds=1).rows if sums(r.step)]


def test_sums_are_the_same_with_every_number_of_threads():
    g, x = mg.tensor(array(2048, 768)), mg.tensor(array(2048, 384))
    f = mg.jit(lambda g, x: (product(g, x), g.sum(0)))
    before = mg.get_num_threads()
    found = []
    try:
        for n in (1, 2):
            mg.set_num_threads(n)
            found.append([t.numpy() for t in f(g, x)])
    finally:
        mg.set_num_threads(before)
    for a, b in zip(*found):
        np.testing.assert_array_equal(a, b)
