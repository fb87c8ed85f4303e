"""cond, while_loop, map, associative_scan: the eager meaning, and every transform of it."""

import numpy as np
import pytest
from loop_programs import (
    assert_compiled_like_eager,
    assert_trees,
    draw,
)

import monograph as mg
from monograph.core.errors import (
    ArgumentError,
    ArgumentTypeError,
    DTypeError,
    GradError,
    ShapeError,
)

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
