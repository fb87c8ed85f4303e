"""Sums over rows that are made by loops which go row by row."""

import numpy as np
import pytest

import monograph as mg
from monograph import nn
from monograph.compiler.executable import compile_graph
from monograph.transform.trace import trace_graph

rng = np.random.default_rng(0)


def array(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def run(f, *arrays):
    """(results, how many sums over rows are made by loops that go row by row, or by their own)."""
    graph, _ = trace_graph(f, *map(mg.tensor, arrays))
    executable = compile_graph(graph)
    outs = [np.empty(v.shape, v.dtype.numpy) for v in graph.outputs]
    executable.run([np.ascontiguousarray(a) for a in arrays], outs)
    groups = [g for g in executable.plan.groups if g.node is None and len(g.full) == 3]
    alone = [v for g in groups if g.axes == (1,) for v in g.items]
    return outs, (sum(len(g.across) for g in groups), len(alone))


def check(got, *expected):
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(b).max())


SHAPES = [(8, 256, 384), (9, 100, 77), (64, 17, 65), (12, 90, 1000)]


def norm_gradients(g, x, w, residual):
    """The gradients of a layer norm by hand: of its input, bias and weight."""
    mean = x.mean(-1, keepdim=True)
    scale = ((x - mean).square().mean(-1, keepdim=True) + 1e-5).rsqrt()
    y = (x - mean) * scale
    h = g * w
    dx = (h - h.mean(-1, keepdim=True) - y * (h * y).mean(-1, keepdim=True)) * scale
    return residual + dx, g.sum((0, 1)), (g * y).sum((0, 1))


def norm_gradients64(g, x, w, residual):
    g, x, w = g.astype("d"), x.astype("d"), w.astype("d")
    mean, scale = x.mean(-1, keepdims=True), (x.var(-1, keepdims=True) + 1e-5) ** -0.5
    y, h = (x - mean) * scale, g * w
    dx = (h - h.mean(-1, keepdims=True) - y * (h * y).mean(-1, keepdims=True)) * scale
    return residual + dx, g.sum((0, 1)), (g * y).sum((0, 1))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradients_of_a_norm(shape):
    arrays = array(*shape), array(*shape) + 1, array(shape[-1]), array(*shape)
    got, sums = run(norm_gradients, *arrays)
    check(got, *norm_gradients64(*arrays))
    assert sums == (2, 0)


@pytest.mark.parametrize("shape", SHAPES)
def test_sums_of_what_the_loops_make(shape):
    def f(x, w):
        y = mg.softmax(x * w, -1)
        return y, y.sum((0, 1)), (y * x).sum((0, 1))

    x, w = array(*shape), array(shape[-1])
    got, sums = run(f, x, w)
    e = np.exp((x * w).astype("d"))
    y = e / e.sum(-1, keepdims=True)
    check(got, y, y.sum((0, 1)), (y * x).sum((0, 1)))
    assert sums == (2, 0)


def test_what_the_loops_wait_for_is_not_made_in_them():
    def f(x):
        total = x.sum(1, keepdim=True)
        return mg.softmax(x - total, -1), total

    x = array(8, 200, 96)
    got, sums = run(f, x)
    total = x.sum(1, keepdims=True, dtype="d")
    e = np.exp(x - total - (x - total).max(-1, keepdims=True))
    check(got, e / e.sum(-1, keepdims=True), total)
    assert sums == (0, 1)


def test_nor_by_way_of_something_else():
    def f(x, w):
        total = x.sum((0, 1))
        return mg.softmax(x * (total @ w), -1), total

    x, w = array(8, 200, 96), array(96, 96)
    got, sums = run(f, x, w)
    total = x.sum((0, 1), dtype="d")
    z = x * (total @ w)
    e = np.exp(z - z.max(-1, keepdims=True))
    np.testing.assert_allclose(got[0], e / e.sum(-1, keepdims=True), atol=1e-3)
    check(got[1:], total)
    assert sums == (0, 1)


def test_a_result_in_the_place_of_what_is_summed():
    """The sum is of the old elements, and the row's result overwrites them."""
    x = mg.tensor(array(8, 256, 128))
    before = x.numpy().astype("d")

    @mg.jit
    def step():
        total = x.sum((0, 1))
        x.sub_(x.mean(-1, keepdim=True))
        return total

    total = step()
    check([total.numpy()], before.sum((0, 1)))
    check([x.numpy()], before - before.mean(-1, keepdims=True))


def test_half_precision():
    x = mg.tensor(array(8, 128, 96)).to(mg.bfloat16)

    def f(x):
        return mg.softmax(x, -1), x.sum((0, 1))

    got, expected = mg.jit(f)(x), f(x)
    for a, b in zip(got, expected, strict=True):
        assert a.dtype is mg.bfloat16
        np.testing.assert_allclose(a.float().numpy(), b.float().numpy(), rtol=0.02, atol=0.02)


def test_the_same_with_any_number_of_threads():
    model, x = nn.LayerNorm(192), mg.tensor(array(8, 150, 192)).requires_grad_()
    g = mg.tensor(array(8, 150, 192))

    def step():
        for p in (x, *model.parameters()):
            p.grad = None
        (model(x) * g).sum().backward()
        return x.grad, *(p.grad for p in model.parameters())

    results = []
    threads = mg.get_num_threads()
    for n in (1, 2, 3):
        mg.set_num_threads(n)
        results.append([r.numpy() for r in mg.jit(step)()])
    mg.set_num_threads(threads)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert a.tobytes() == b.tobytes()
