"""Results that are made as parts of a concatenation: their bits and their memory."""

import numpy as np
import pytest

import monograph as mg
from monograph import nn
from monograph.nn import functional as F

HEADS, WIDTH = 2, 16


def attention(qkv, heads=HEADS):
    q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in qkv.chunk(3, dim=-1))
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return y.transpose(1, 2).flatten(2)


def gradient(qkv, g, weight):
    """The gradient of a layer's three parts, and what the layer before gets of it."""
    return mg.autograd.grad(attention(qkv), qkv, g)[0] @ weight


def check(f, *args):
    """Compiled results are the eager ones; gives the table of kernels."""
    compiled = mg.jit(f)
    found, expected = compiled(*args), f(*args)
    if not isinstance(found, tuple):
        found, expected = (found,), (expected,)
    for x, y in zip(found, expected):
        assert np.allclose(x.detach(), y.detach(), rtol=1e-5, atol=1e-5)
    text = str(mg.explain(compiled, *args))
    return text[text.index("\nkernels") :]


@pytest.fixture
def inputs():
    mg.manual_seed(0)
    qkv = mg.randn(2, 24, 3 * HEADS * WIDTH, requires_grad=True)
    return qkv, mg.randn(2, 24, HEADS * WIDTH), mg.randn(3 * HEADS * WIDTH, 5)


def test_gradients_of_heads_need_no_concatenation(inputs):
    assert "concat" not in check(gradient, *inputs)


def test_what_loops_read_elsewhere_is_not_copied(inputs):
    def both(qkv, g, weight):
        q, k, v = qkv.detach().chunk(3, dim=-1)
        parts = [p.unflatten(-1, (HEADS, -1)).transpose(1, 2).requires_grad_() for p in (q, k, v)]
        y = F.scaled_dot_product_attention(*parts, is_causal=True).transpose(1, 2).flatten(2)
        grads = [x.transpose(1, 2).flatten(2) for x in mg.autograd.grad(y, parts, g)]
        return mg.cat(grads, -1) @ weight, grads[1].square().sum()

    assert "concat" not in check(both, *inputs)


def test_a_part_twice_is_copied(inputs):
    def twice(qkv, g, weight):
        y = attention(qkv)
        return mg.cat([y, y, y], -1) @ weight

    assert "concat" in check(twice, *inputs)


def test_a_part_beside_one_that_is_copied(inputs):
    def beside(qkv, g, weight):
        y = attention(qkv)
        return mg.cat([qkv[..., : HEADS * WIDTH], y, g], -1) @ weight

    assert "concat" in check(beside, *inputs)


def test_a_result_of_the_program_is_copied(inputs):
    def result(qkv, g, weight):
        y = attention(qkv)
        return mg.cat([y, g], -1), y

    assert "concat" in check(result, *inputs)


@pytest.mark.parametrize(
    "other",
    [lambda y: y[..., :5], lambda y: y.transpose(0, 1).reshape(y.shape), lambda y: y.flip(-1)],
    ids=["slice", "permuted", "reversed"],
)
def test_two_views_of_one_result_are_copied(inputs, other):
    def views(qkv, g, weight):
        y = attention(qkv.detach())
        both = mg.cat([y, other(y)], -1)
        return both @ mg.ones(both.shape[-1], 3).cumsum(0)

    check(views, *inputs)


def net(make, channels=16):
    """A function of an image with layers of its own, which are not trained."""
    mg.manual_seed(3)
    layers = [nn.Conv2d(c, channels, k, padding=k // 2) for c, k in make]

    def near(found, expected):
        return np.allclose(found.numpy(), expected.numpy(), rtol=1e-4, atol=1e-5)

    def run(f, *shape):
        x = mg.randn(*shape)

        def g(x):
            with mg.no_grad():
                return f(x, *layers)

        compiled = mg.jit(g)
        assert near(compiled(x), g(x))
        return str(mg.explain(compiled, x).table)

    return run


def test_images_are_joined_without_a_copy():
    run = net([(8, 3), (16, 1), (16, 5), (32, 1)])

    def fire(x, a, b, c, d):
        x = F.relu(a(x))
        return d(mg.cat([F.relu(b(x)), c(x)], 1)).exp()

    assert "concat" not in run(fire, 2, 8, 9, 11)


def test_a_part_that_is_read_elsewhere_too():
    run = net([(8, 3), (16, 3), (32, 3), (16, 1)])

    def skip(x, a, b, c, d):
        y = F.silu(a(x))
        small = F.max_pool2d(y, 2)
        large = F.interpolate(b(small), scale_factor=2.0)
        return c(mg.cat([y, large], 1)) * d(y)

    assert "concat" not in run(skip, 1, 8, 12, 16)


def test_concatenations_of_concatenations():
    run = net([(8, 3), (24, 3), (40, 3), (56, 1)])

    def dense(x, a, b, c, d):
        x = x * 2
        x = mg.cat([x, a(x)], 1)
        x = mg.cat([x, F.relu(b(x))], 1)
        x = mg.cat([F.max_pool2d(x, 3, 1, 1), c(x)], 1)
        return d(x)

    run(dense, 2, 8, 7, 9)


def test_one_part_of_two_concatenations():
    run = net([(8, 3), (8, 1), (32, 3), (32, 1)])

    def twice(x, a, b, c, d):
        y, z = a(x), b(x)
        return c(mg.cat([y, z], 1)) + d(mg.cat([z, y], 1)) + y

    run(twice, 2, 8, 6, 7)


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_sums_and_products_as_parts(axis):
    run = net([(8, 3), (8, 1), (8, 5), (8, 1)])

    def parts(x, a, b, c, d):
        y = mg.cat([a(x) + 1, x.mean(1, keepdim=True).expand(2, 16, 6, 6), b(x)], axis)
        return (y * y).sum(axis, keepdim=True) + y

    run(parts, 2, 8, 6, 6)


def test_a_constant_beside_a_part_that_is_made_at_each_call():
    """The concatenation's memory is ready when all parts are, not when the constant one is."""
    b = mg.randn(1, 6, dtype=mg.float64)

    def f(a):
        x = a * a[:, None].sin()
        y = mg.cat([b.expand(6, 6)[:, None], x[:, None]], 1)
        return (y.sum(1).sin().cumsum(0) * x).sum()

    compiled = mg.jit(f)
    for seed in range(3):
        mg.manual_seed(seed)
        a = mg.randn(6, dtype=mg.float64)
        assert mg.allclose(compiled(a), f(a))
