"""mg.scan under grad, vmap, checkpoint, and in scans."""

import numpy as np
import pytest
from loop_programs import (
    assert_compiled_like_eager,
    assert_trees,
    draw,
    inputs,
    layer,
    loops_of,
    loss,
    program_of,
    recurrent,
)

import monograph as mg
from monograph.transform.trace import trace_graph


@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_of_scan(reverse):
    def gradients(*args):
        return mg.func.grad(lambda *a: loss(*a, reverse), argnums=(0, 1, 2, 3))(*args)

    assert_compiled_like_eager(gradients, *inputs(), loops=2)


def test_gradient_where_the_last_carry_is_not_used():
    def f(h, c, xs, w):
        def step(carry, x):
            h, c = carry
            c = mg.sigmoid(h @ w) * c + x
            h = mg.tanh(c) * h
            return (h, c), h

        (_, _), ys = mg.scan(step, (h, c), xs)
        return (ys * ys).sum()

    def gradients(*args):
        return mg.func.grad(f, argnums=(0, 1, 2, 3))(*args)

    args = draw(2, 4), draw(2, 4, seed=5), draw(4, 2, 4, seed=1), draw(4, 4, seed=2)
    assert_compiled_like_eager(gradients, *args, loops=2)


def test_weight_gradients_are_one_product_after_the_loop():
    def gradients(*args):
        return mg.func.grad(loss, argnums=(2, 3))(*args)

    graph, _ = trace_graph(gradients, *inputs())
    outer = [n.op.signature for n in graph.nodes if n.op.name == "contract"]
    assert outer == ["amk,amn->kn"]
    compiled = assert_compiled_like_eager(gradients, *inputs(), loops=2)
    backward = loops_of(program_of(compiled))[1]
    assert [n.op.name for n in backward.node.op.body.graph.nodes].count("contract") == 1


def test_gradients_of_constants_that_are_no_products_add_up_in_the_loop():
    def f(scale, xs):
        def step(c, x):
            c = mg.sin(c * scale) + x * mg.exp(scale)
            return c, c * scale.sum()

        c, ys = mg.scan(step, xs[0], xs)
        return (c * c).sum() + ys.sum()

    def gradients(scale, xs):
        return mg.func.grad(f, argnums=(0, 1))(scale, xs)

    assert_compiled_like_eager(gradients, draw(3), draw(6, 3, seed=1), loops=2)


def test_second_derivatives_of_scan():
    args = inputs(3)

    def second(h, xs, w, b):
        def slope(w):
            return (mg.func.grad(lambda w: loss(h, xs, w, b))(w) ** 2).sum()

        return mg.func.grad(slope)(w)

    expected = second(*args)
    assert_trees(mg.jit(second)(*args), expected, 1e-10)

    def curvature(h, xs, w, b):
        return mg.func.hessian(lambda b: loss(h, xs, w, b))(b)

    assert_trees(mg.jit(curvature)(*args), curvature(*args), 1e-10)


def test_forward_mode_of_scan():
    def push(h, xs, w, b):
        return mg.func.jvp(lambda h, w: recurrent(h, xs, w, b), (h, w), (h * 0.5, w * w))

    assert_trees(mg.jit(push)(*inputs()), push(*inputs()), 1e-11)


@pytest.mark.parametrize("dims", [(0, None, None, None), (None, 1, None, None), (0, 0, 0, 0),
                                  (None, None, 0, None), (None, None, None, -1)])  # fmt: skip
def test_vmap_of_scan(dims):
    h, xs, w, b = inputs()
    batch = 3
    args = []
    for k, (a, d) in enumerate(zip((h, xs, w, b), dims)):
        if d is None:
            args.append(a)
        else:
            shape = list(a.shape)
            shape.insert(d if d >= 0 else len(shape), batch)
            args.append(draw(*shape, seed=10 + k))

    def f(*args):
        return mg.vmap(recurrent, in_dims=dims)(*args)

    def gradient(*args):
        return mg.func.grad(lambda *a: mg.vmap(loss, in_dims=dims)(*a).sum(), argnums=(0, 1, 2, 3))(
            *args
        )

    def each(*args):
        return mg.vmap(mg.func.grad(loss, argnums=(0, 1, 2)), in_dims=dims)(*args)

    for g, loops in ((f, 1), (gradient, 2), (each, 2)):
        assert_compiled_like_eager(g, *args, loops=loops, tolerance=1e-11)


def test_vmap_batches_only_the_carries_that_need_it():
    def f(xs, ys):
        def step(carry, x):
            a, b = carry
            return (a + x[0], b * 0.5 + x[1]), a * b

        zero = mg.zeros((), dtype=mg.float64)
        return mg.scan(step, (zero, zero), (xs, ys))

    xs, ys = draw(3, 6), draw(6, seed=1)

    def batched(xs, ys):
        return mg.vmap(f, in_dims=(0, None), out_dims=((0, None), 0))(xs, ys)

    expected = [f(x, ys) for x in xs]
    (a, b), products = mg.jit(batched)(xs, ys)
    np.testing.assert_allclose(a.numpy(), [e[0][0].item() for e in expected], rtol=1e-12)
    assert b.item() == pytest.approx(expected[0][0][1].item(), rel=1e-12)
    np.testing.assert_allclose(products.numpy(), np.stack([e[1].numpy() for e in expected]))


def test_backward_accumulates_into_parameters_read_by_the_body():
    w = draw(4, 4, seed=2).requires_grad_()
    b = draw(4, seed=3).requires_grad_()

    def step(h, xs):
        w.grad = b.grad = None
        out = loss(h, xs, w, b)
        out.backward()
        return out.detach()

    h, xs, _, _ = inputs()
    expected = step(h, xs), w.grad.clone(), b.grad.clone()
    compiled = mg.jit(step)
    assert_trees((compiled(h, xs), w.grad, b.grad), expected)
    with mg.no_grad():
        w.mul_(0.5)
    step(h, xs)
    expected = w.grad.clone()
    compiled(h, xs)
    assert_trees(w.grad, expected)


def test_gradient_of_a_captured_function_outside_of_it():
    h, xs, w, b = inputs()
    w.requires_grad_()
    compiled = mg.jit(lambda h, xs: loss(h, xs, w, b))
    (expected,) = mg.autograd.grad(loss(h, xs, w, b), w)
    (got,) = mg.autograd.grad(compiled(h, xs), w)
    assert_trees(got, expected)


def test_checkpoint_around_and_inside_of_scan():
    from monograph.utils.checkpoint import checkpoint

    def around(h, xs, w, b):
        return checkpoint(loss, h, xs, w, b)

    def inside(h, xs, w, b):
        def step(h, x):
            return checkpoint(layer(w, b), h, x)

        h, ys = mg.scan(step, h, xs)
        return (h * h).sum() + (ys * mg.sin(ys)).sum()

    expected = mg.func.grad(loss, argnums=2)(*inputs())
    for f in (around, inside):
        gradient = mg.func.grad(f, argnums=2)
        assert_trees(gradient(*inputs()), expected)
        assert_trees(mg.jit(gradient)(*inputs()), expected)


def test_scans_in_scans():
    def f(xs, w):
        def outer(c, row):
            c, ys = mg.scan(lambda h, x: (mg.sin(h * w + x), h * x), c, row)
            return c, ys.sum(0)

        return mg.scan(outer, xs[0, 0], xs)

    xs, w = draw(3, 4, 2), draw(2, seed=1)
    assert_compiled_like_eager(f, xs, w, loops=2)

    def gradients(xs, w):
        return mg.func.grad(lambda xs, w: f(xs, w)[1].sum(), argnums=(0, 1))(xs, w)

    assert_compiled_like_eager(gradients, xs, w, loops=4)


def test_gradient_descent_in_a_scan_can_be_differentiated():
    def train(rate, target):
        def step(x, _):
            g = mg.func.grad(lambda x: ((x * x - target) ** 2).sum())(x)
            return x - rate * g, None

        x, _ = mg.scan(step, mg.ones(3, dtype=mg.float64), length=5)
        return ((x * x - target) ** 2).sum()

    def gradients(rate, target):
        return mg.func.grad(train, argnums=(0, 1))(rate, target)

    rate, target = mg.tensor(0.05, dtype=mg.float64), draw(3).abs() + 0.5
    assert_trees(mg.jit(gradients)(rate, target), gradients(rate, target), 1e-11)
