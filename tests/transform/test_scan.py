"""mg.scan: the eager meaning, what is compiled, what a body may do, errors."""

import numpy as np
import pytest
from loop_programs import (
    arrays,
    assert_compiled_like_eager,
    assert_trees,
    draw,
    inputs,
    loss,
    recurrent,
)

import monograph as mg
from monograph.core.errors import (
    ArgumentError,
    ArgumentTypeError,
    BatchError,
    DTypeError,
    ShapeError,
    TraceError,
)
from monograph.ir.evaluate import evaluate
from monograph.ir.text import format_graph, parse_graph
from monograph.testing import raises_message
from monograph.transform.trace import trace_graph


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
