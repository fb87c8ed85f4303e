"""scan, cond, while_loop, map, associative_scan: the eager meaning, and every transform of it."""

import numpy as np
import pytest

import monograph as mg
from monograph.compiler.control import ControlStep
from monograph.core import pytree
from monograph.core.errors import (
    ArgumentError,
    ArgumentTypeError,
    BatchError,
    DTypeError,
    GradError,
    ShapeError,
    TraceError,
)
from monograph.ir.evaluate import evaluate
from monograph.ir.text import format_graph, parse_graph
from monograph.testing import raises_message
from monograph.transform.trace import trace_graph


def draw(*shape, seed=0):
    return mg.tensor(np.random.default_rng(seed).uniform(-1, 1, shape))


def arrays(tree):
    return [t.detach().numpy() for t in pytree.tree_leaves(tree)]


def assert_trees(got, expected, tolerance=1e-12):
    got, expected = (pytree.flatten(t) for t in (got, expected))
    assert got[1] == expected[1]
    for a, b in zip(got[0], expected[0], strict=True):
        assert a.dtype is b.dtype
        np.testing.assert_allclose(
            a.detach().numpy(), b.detach().numpy(), rtol=tolerance, atol=tolerance
        )


def program_of(compiled):
    (variants,) = compiled.captures.values()
    return variants[-1].executable


def loops_of(executable):
    found = []
    for step in executable.plan.steps:
        if isinstance(step, ControlStep):
            found.append(step)
            for body in step.bodies:
                found += loops_of(body)
    return found


def assert_compiled_like_eager(f, *args, loops=1, native=True, tolerance=1e-12):
    """f under jit gives what it gives eagerly, twice, with `loops` loops that run natively."""
    expected = f(*args)
    compiled = mg.jit(f)
    for _ in range(2):
        assert_trees(compiled(*args), expected, tolerance)
    steps = loops_of(program_of(compiled))
    assert len(steps) == loops
    assert all(s.is_native == native for s in steps)
    return compiled


# The functions that are run


def layer(w, b):
    def step(h, x):
        h = mg.tanh(h @ w + x + b)
        return h, h * 2

    return step


def recurrent(h, xs, w, b, reverse=False):
    return mg.scan(layer(w, b), h, xs, reverse=reverse)


def inputs(t=5):
    return draw(2, 4), draw(t, 2, 4, seed=1), draw(4, 4, seed=2), draw(4, seed=3)


def loss(h, xs, w, b, reverse=False):
    h, ys = recurrent(h, xs, w, b, reverse)
    return (h * h).sum() + (ys * mg.sin(ys)).sum()


# scan


@pytest.mark.parametrize("reverse", [False, True])
def test_scan_is_a_loop(reverse):
    h, xs, w, b = inputs()
    state, rows = h, [None] * 5
    for t in reversed(range(5)) if reverse else range(5):
        state = mg.tanh(state @ w + xs[t] + b)
        rows[t] = state * 2
    assert_trees(recurrent(h, xs, w, b, reverse), (state, mg.stack(rows)))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [1, 2, 5, 6])
def test_scan_compiles_to_one_native_loop(length, reverse):
    def f(*args):
        return recurrent(*args, reverse=reverse)

    assert_compiled_like_eager(f, *inputs(length), loops=int(length > 1))


def test_carries_may_be_trees_of_several_dtypes():
    def step(carry, x):
        count, (a, b) = carry["n"], carry["ab"]
        carry = {"n": count + 1, "ab": (b, a + x["v"] * count)}
        return carry, {"sum": a + b, "parts": [count, x["flag"] & (a > 0)]}

    def f(v, flag):
        init = {"n": mg.tensor(0), "ab": (mg.zeros((), dtype=mg.float64), mg.tensor(1.0).double())}
        return mg.scan(step, init, {"v": v, "flag": flag})

    flags = mg.tensor([True, False, True, True, False, True])
    carry, ys = f(draw(6), flags)
    assert carry["n"].item() == 6 and ys["parts"][0].tolist() == [0, 1, 2, 3, 4, 5]
    assert_compiled_like_eager(f, draw(6), flags)


def test_scan_without_xs_counts_length():
    def f(x):
        return mg.scan(lambda c, _: (c * 2, None), x, length=10)

    carry, ys = f(mg.tensor([1.0, 3.0]))
    assert carry.tolist() == [1024.0, 3072.0] and ys is None
    assert_compiled_like_eager(f, mg.tensor([1.0, 3.0]))


def test_scan_of_nothing_gives_the_first_carry_and_empty_ys():
    def f(h, xs, w, b):
        return recurrent(h, xs, w, b)

    args = inputs(0)
    carry, ys = f(*args)
    assert carry.tolist() == args[0].tolist() and tuple(ys.shape) == (0, 2, 4)
    assert ys.dtype is mg.float64
    assert_trees(mg.jit(f)(*args), (carry, ys))


def test_carries_and_ys_that_are_inputs_or_repeated_values():
    def step(carry, x):
        a, b, same = carry
        return (b, a, same), (a, x, a, same, b + x)

    def f(a, b, same, xs):
        return mg.scan(step, (a, b, same), xs)

    assert_compiled_like_eager(f, draw(3), draw(3, seed=1), draw(3, seed=2), draw(5, 3, seed=3))


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


def test_no_grad_and_detach_in_a_body_stop_gradients():
    def f(x, xs):
        def step(c, x):
            with mg.no_grad():
                a = mg.exp(c)
            b = mg.sin(c).detach()
            d = mg.cos(c)
            d.detach_()
            e = c.clone()
            e[0] = x[0] * 2  # in place, on a view: gradients go on
            return a * x + b + d * e, e

        c, ys = mg.scan(step, x, xs)
        return (c * ys.sum(0)).sum()

    def gradients(x, xs):
        return mg.func.grad(f, argnums=(0, 1))(x, xs)

    assert_compiled_like_eager(gradients, draw(3), draw(4, 3, seed=1), loops=2)


def test_in_place_writes_to_tensors_outside_are_carried():
    total = mg.zeros(3, dtype=mg.float64)
    last = mg.zeros(2, 3, dtype=mg.float64)

    def f(xs):
        total.zero_()

        def step(c, x):
            total.add_(x * c)
            last[1].copy_(x)
            return c + 1, total.sum()

        return mg.scan(step, mg.tensor(1.0).double(), xs)

    xs = draw(5, 3)
    expected = f(xs), total.clone(), last.clone()
    compiled = mg.jit(f)
    for _ in range(2):
        total.fill_(7.0)
        last.fill_(7.0)
        last[0] = 0.0
        assert_trees((compiled(xs), total, last), expected)


def test_random_numbers_in_a_body_are_those_of_the_loop():
    def f(x):
        def step(c, x):
            return c + mg.rand(3, dtype=mg.float64), mg.nn.functional.dropout(x, 0.5)

        return mg.scan(step, mg.zeros(3, dtype=mg.float64), x)

    x = mg.ones(6, 3, dtype=mg.float64)
    mg.manual_seed(5)
    expected = [f(x), f(x)]
    mg.manual_seed(5)
    compiled = mg.jit(f)
    for e in expected:
        assert_trees(compiled(x), e)
    assert len(set(arrays(expected[0][1])[0].reshape(-1).tolist())) == 2


def test_what_a_body_cannot_do_unrolls_the_loop(caplog):
    class Double(mg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 100

    def f(x, xs):
        c, _ = mg.scan(lambda c, x: (Double.apply(c) + x, None), x, xs)
        return c.sum()

    gradient = mg.func.grad(f)
    x, xs = draw(2), draw(3, 2, seed=1)
    assert gradient(x, xs).tolist() == [1e6, 1e6]
    caplog.set_level("INFO", "monograph.control")
    assert mg.jit(gradient)(x, xs).tolist() == [1e6, 1e6]
    assert "scan: the autograd.Function Double is applied inside the function" in caplog.text


def test_vmap_with_different_random_numbers_unrolls():
    def f(xs):
        def one(x):
            return mg.scan(lambda c, _: (c + mg.rand((), dtype=mg.float64), None), x, length=3)[0]

        return mg.vmap(one, randomness="different")(xs)

    x = mg.zeros(4, dtype=mg.float64)
    mg.manual_seed(1)
    expected = f(x)
    mg.manual_seed(1)
    assert_trees(mg.jit(f)(x), expected)
    assert len(set(expected.tolist())) == 4

    def error(xs):
        return mg.vmap(lambda x: mg.scan(lambda c, _: (c + mg.rand(()), None), x, length=3)[0])(xs)

    with pytest.raises(BatchError, match="a random operation was called inside vmap"):
        mg.jit(error)(x)


def test_bodies_with_parts_in_numpy_run_too():
    def f(x, xs):
        def step(c, x):
            q, r = mg.linalg.qr(c + x)
            return q @ r * 0.5, mg.linalg.det(r)

        return mg.scan(step, x, xs)

    args = draw(3, 3), draw(4, 3, 3, seed=1)
    assert_compiled_like_eager(f, *args, native=False)


def test_bad_indices_in_a_body_are_found():
    table = draw(3)
    compiled = mg.jit(lambda i: mg.scan(lambda c, i: (c, table[i]), mg.tensor(0.0), i)[1])
    good = mg.tensor([0, 2, 1])
    assert_trees(compiled(good), table[good])
    with pytest.raises(IndexError):
        compiled(mg.tensor([0, 3, 1]))
    assert_trees(compiled(good), table[good])


def test_half_precision_and_threads():
    def f(h, xs, w, b):
        return recurrent(h, xs, w, b)

    args = [a.to(mg.bfloat16) for a in inputs()]
    for a, b in zip(arrays(mg.jit(f)(*args)), arrays(f(*args))):
        np.testing.assert_allclose(a.astype(np.float32), b.astype(np.float32), atol=0.03)
    wide = draw(64, 256).float(), draw(9, 64, 256).float(), draw(256, 256).float() * 0.1, draw(256)
    wide = (*wide[:3], wide[3].float())
    assert_compiled_like_eager(f, *wide, tolerance=1e-5)


def test_the_graph_prints_and_parses():
    graph, _ = trace_graph(lambda *a: mg.func.grad(loss, argnums=2)(*a), *inputs())
    text = format_graph(graph, places=False)
    again = parse_graph(text)
    assert format_graph(again, places=False) == text
    given = arrays(inputs())
    for a, b in zip(evaluate(graph, *given), evaluate(again, *given), strict=True):
        np.testing.assert_array_equal(a, b)


def test_explain_shows_bodies():
    report = str(mg.explain(mg.jit(recurrent), *inputs()))
    assert "body of scan (row" in report and "loop" in report


def test_scan_errors():
    x = draw(3, 2)
    with raises_message(
        DTypeError,
        """scan: the carry must keep its shapes and dtypes; leaf 0 is i64[] before and f64[2] after
        an iteration
          hint: convert the initial value, or the function's result, as with .to(dtype)""",
    ):
        mg.jit(lambda x: mg.scan(lambda c, x: (c + x, None), 0, x))(x)
    with pytest.raises(ShapeError, match=r"leaf 0 is f64\[2\] before and f64\[2, 2\] after"):
        mg.scan(lambda c, x: (mg.stack([c, x]), None), x[0], x)
    with pytest.raises(ArgumentTypeError, match=r"the function must return \(carry, y\), got Tens"):
        mg.scan(lambda c, x: c, x[0], x)
    with pytest.raises(ArgumentError, match="a carry of the same structure"):
        mg.scan(lambda c, x: ((c, c), x), x[0], x)
    with pytest.raises(ShapeError, match=r"the leading sizes of xs \(and length\) differ: \[3, 4"):
        mg.scan(lambda c, x: (c, x), x[0], x, length=4)
    with pytest.raises(ArgumentError, match="scan: needs xs or a length"):
        mg.scan(lambda c, x: (c, x), x[0])
    with pytest.raises(ShapeError, match="got a 0-d tensor"):
        mg.scan(lambda c, x: (c, x), x[0], mg.tensor(1.0))
    with pytest.raises(ArgumentTypeError, match="init must hold tensors and numbers, got str"):
        mg.scan(lambda c, x: (c, x), "a", x)


def test_a_value_needed_in_a_body_is_a_trace_error():
    with pytest.raises(TraceError, match="not known while a function is being captured"):
        mg.jit(lambda x: mg.scan(lambda c, x: (c if x > 0 else -c, None), 1.0, x))(draw(3))


# map


def test_map_runs_one_element_at_a_time():
    def f(xs, w):
        return mg.map(lambda x: (mg.sin(x["a"]) @ w, x["b"] + 1), xs)

    xs = {"a": draw(5, 3), "b": mg.arange(5)}
    w = draw(3, 2, seed=1)
    got = assert_compiled_like_eager(f, xs, w)(xs, w)
    assert_trees(got, (mg.sin(xs["a"]) @ w, xs["b"] + 1))


# cond


def test_cond_runs_the_chosen_function_only():
    ran = []

    def note(name, f):
        def g(x):
            ran.append(name)
            return f(x)

        return g

    x = mg.tensor(2.0)
    assert mg.cond(x > 1, note("t", lambda x: x * 2), note("f", lambda x: -x), x).item() == 4.0
    assert mg.cond(False, note("t", lambda x: x * 2), note("f", lambda x: -x), x).item() == -2.0
    assert ran == ["t", "f"]


@pytest.mark.parametrize("first", [0.75, -0.75])
def test_cond_compiled_with_gradients(first):
    w = draw(3, 3, seed=1)

    def f(x, w):
        def yes(x):
            return {"a": mg.sin(x) @ w, "n": mg.tensor(1)}

        def no(x):
            return {"a": x * mg.exp(x), "n": mg.tensor(2)}

        return mg.cond(x[0, 0] > 0, yes, no, x)

    x = draw(2, 3)
    x[0, 0] = first
    compiled = assert_compiled_like_eager(f, x, w)
    other = -x
    assert_trees(compiled(other, w), f(other, w))

    def gradients(x, w):
        return mg.func.grad(lambda x, w: (f(x, w)["a"] ** 2).sum(), argnums=(0, 1))(x, w)

    def pushed(x, w):
        return mg.func.jvp(lambda x: f(x, w)["a"], (x,), (x * x,))

    for g in (gradients, pushed):
        compiled = mg.jit(g)
        for each in (x, other):
            if g is gradients and not (each[0, 0] > 0):
                # Nothing reaches w: eagerly, too, its gradient is zero.
                assert gradients(each, w)[1].abs().sum().item() == 0
            assert_trees(compiled(each, w), g(each, w), 1e-11)


def test_vmap_of_cond_lets_each_example_choose():
    def f(x, y):
        return mg.cond(x.sum() > 0, lambda y: mg.sin(y), lambda y: y * x.sum(), y)

    xs, ys = draw(6, 2), draw(6, 3, seed=1)
    expected = mg.stack([f(x, y) for x, y in zip(xs, ys)])
    assert_trees(mg.vmap(f)(xs, ys), expected)
    assert_trees(mg.jit(mg.vmap(f))(xs, ys), expected)
    one = mg.stack([f(xs[0], y) for y in ys])
    compiled = mg.jit(lambda x, ys: mg.vmap(f, in_dims=(None, 0))(x, ys))
    assert_trees(compiled(xs[0], ys), one)
    gradient = mg.vmap(mg.func.grad(lambda y, x: f(x, y).sum()))
    assert_trees(mg.jit(gradient)(ys, xs), gradient(ys, xs))


def test_cond_in_a_scan_and_what_it_writes():
    seen = mg.zeros(2, dtype=mg.int64)

    def f(x, xs):
        seen.zero_()

        def step(c, x):
            def up(c):
                seen[0].add_(1)
                return c * 0.5

            def down(c):
                seen[1].add_(1)
                return c - x

            c = mg.cond(c.sum() > 1, up, down, c)
            return c, c

        return mg.scan(step, x, xs)

    x, xs = mg.full((2,), 4.0, dtype=mg.float64), -draw(7, 2).abs()
    expected = f(x, xs)
    counts = seen.tolist()
    assert sum(counts) == 7 and min(counts) > 0
    compiled = mg.jit(f)
    assert_trees(compiled(x, xs), expected)
    assert seen.tolist() == counts

    def gradients(x, xs):
        return mg.func.grad(lambda x, xs: f(x, xs)[1].sum(), argnums=(0, 1))(x, xs)

    assert_trees(mg.jit(gradients)(x, xs), gradients(x, xs))


def test_cond_errors():
    x = draw(3)
    with pytest.raises(ShapeError, match=r"result 0 is f64\[3\] from true_fn and f64\[\] from fal"):
        mg.jit(lambda x: mg.cond(x.sum() > 0, lambda x: x, lambda x: x.sum(), x))(x)
    with pytest.raises(ArgumentError, match="must return the same structure"):
        mg.jit(lambda x: mg.cond(x.sum() > 0, lambda x: x, lambda x: (x, x), x))(x)
    with pytest.raises(ShapeError, match=r"pred must be a single bool, got shape \(3,\)"):
        mg.cond(x > 0, lambda x: x, lambda x: x, x)
    with pytest.raises(ArgumentTypeError, match="false_fn must be a function, got int"):
        mg.cond(True, lambda x: x, 1, x)


# while_loop


def newton(a):
    def goes_on(carry):
        x, _ = carry
        return (x * x - a).abs() > 1e-12

    def step(carry):
        x, n = carry
        return (x + a / x) / 2, n + 1

    return mg.while_loop(goes_on, step, (a, 0))


def test_while_loop_compiles_to_one_native_loop():
    a = mg.tensor(2.0, dtype=mg.float64)
    x, n = newton(a)
    assert x.item() == pytest.approx(2**0.5, abs=1e-12) and 3 < n.item() < 8
    compiled = assert_compiled_like_eager(newton, a)
    for value in (1.0, 50.0, 1e6):  # none, several, many iterations
        a = mg.tensor(value, dtype=mg.float64)
        assert_trees(compiled(a), newton(a))


def test_while_loop_of_larger_carries():
    w = draw(5, 5)

    def f(x, limit):
        def step(c):
            return {"x": mg.tanh(c["x"] @ w) + c["y"], "y": c["x"] * 0.9, "n": c["n"] + 1}

        return mg.while_loop(lambda c: c["n"] < limit, step, {"x": x, "y": x, "n": mg.tensor(0)})

    compiled = mg.jit(f)
    for limit in (0, 1, 2, 7, 8):
        args = draw(3, 5), mg.tensor(limit)
        assert_trees(compiled(*args), f(*args))


def test_vmap_of_while_loop_runs_until_no_example_goes_on():
    values = mg.tensor([1.0, 2.0, 50.0, 1e6], dtype=mg.float64)
    expected = [newton(a) for a in values]
    for f in (mg.vmap(newton), mg.jit(mg.vmap(newton))):
        x, n = f(values)
        np.testing.assert_allclose(x.numpy(), [e[0].item() for e in expected], rtol=1e-14)
        assert n.tolist() == [e[1].item() for e in expected]


def test_forward_mode_of_while_loop():
    def push(a, t):
        return mg.func.jvp(lambda a: newton(a)[0], (a,), (t,))

    a, t = (mg.tensor(v, dtype=mg.float64) for v in (2.0, 3.0))
    x, slope = mg.jit(push)(a, t)
    assert slope.item() == pytest.approx(3 / (2 * 2**0.5), rel=1e-9)
    assert_trees(mg.jit(push)(a, t), push(a, t), 1e-12)
    columns = mg.jit(lambda a: mg.func.jacfwd(lambda a: newton(a)[0])(a))
    assert columns(a).item() == pytest.approx(1 / (2 * 2**0.5), rel=1e-9)

    def twice(a):
        return mg.func.jvp(lambda a: mg.func.jvp(lambda a: newton(a)[0], (a,), (t,))[1], (a,), (t,))

    assert_trees(mg.jit(twice)(a), twice(a), 1e-11)


def test_reverse_mode_of_while_loop_is_eager_only():
    a = mg.tensor(2.0, dtype=mg.float64)
    gradient = mg.func.grad(lambda a: newton(a)[0])
    assert gradient(a).item() == pytest.approx(1 / (2 * 2**0.5), rel=1e-9)
    with pytest.raises(GradError, match="while_loop: has no gradient by reverse mode"):
        mg.jit(gradient)(a)


def test_while_loop_errors():
    x = draw(3)
    with pytest.raises(ShapeError, match=r"the condition must be a single bool, got shape \(3,\)"):
        mg.while_loop(lambda x: x > 0, lambda x: x, x)
    with pytest.raises(DTypeError, match=r"leaf 0 is f64\[3\] before and f32\[3\] after"):
        mg.jit(lambda x: mg.while_loop(lambda x: x.sum() > 0, lambda x: x.float(), x))(x)
    with pytest.raises(ArgumentError, match="init must hold at least one tensor"):
        mg.while_loop(lambda x: True, lambda x: x, ())


# associative_scan


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 16, 33])
def test_associative_scan_gives_all_prefixes(n, reverse):
    def combine(left, right):  # x -> a x + b: composition of affine maps
        return right[0] * left[0], right[0] * left[1] + right[1]

    a, b = draw(n, 3), draw(n, 3, seed=1)

    def f(a, b):
        return mg.associative_scan(combine, (a, b), reverse=reverse)

    def slow(a, b):
        _, ys = mg.scan(lambda c, x: (combine(c, x),) * 2,
                        (mg.ones(3, dtype=mg.float64), mg.zeros(3, dtype=mg.float64)),
                        (a, b), reverse=reverse)  # fmt: skip
        return ys

    assert_trees(f(a, b), slow(a, b))
    assert_trees(mg.jit(f)(a, b), f(a, b))
    gradients = [mg.func.grad(lambda a, b, g=g: (g(a, b)[1] ** 2).sum(), argnums=(0, 1))(a, b)
                 for g in (f, slow)]  # fmt: skip
    assert_trees(*gradients)
    along = mg.associative_scan(combine, (a.T, b.T), dim=1, reverse=reverse)
    assert_trees(tuple(t.T for t in along), f(a, b))


def test_associative_scan_errors():
    with pytest.raises(ArgumentError, match=r"dim 2 is out of range for shape \(3,\)"):
        mg.associative_scan(lambda a, b: a, draw(3), dim=2)
    with pytest.raises(ShapeError, match="the sizes along dim 0 differ"):
        mg.associative_scan(lambda a, b: a, (draw(3), draw(4)))
    with pytest.raises(ArgumentError, match="fn must return a tree like elems"):
        mg.associative_scan(lambda a, b: (a, b), draw(3))


def test_a_body_that_numpy_partly_computes_does_its_steady_steps():
    """Packing of a product's weights is split off a body only where the driver runs the loop."""
    w = draw(256, 256, seed=1).float()

    def f(xs):
        def body(total, x):
            y = x @ w
            return total + mg.linalg.eigvalsh(y[:4, :4] + y[:4, :4].mT).sum(), y

        return mg.scan(body, mg.zeros(()), xs)

    xs = draw(3, 256, 256).float()
    np.testing.assert_allclose(mg.jit(f)(xs)[1].numpy(), (xs @ w).numpy(), rtol=1e-4, atol=1e-4)
