"""Function transforms against torch.func, alone and composed, and finite differences."""

import doctest
from pathlib import Path

import numpy as np
import pytest
import torch

import monograph as mg
import monograph.nn
from monograph.core import pytree
from monograph.core.errors import ArgumentError, ArgumentTypeError, DTypeError, GradError, render

X = np.random.default_rng(0).standard_normal((5, 3))
W = np.random.default_rng(1).standard_normal((3, 4))
V = np.random.default_rng(2).standard_normal((5, 3))


def make(m):
    return (lambda a: mg.tensor(a)) if m is mg else (lambda a: torch.tensor(a))


def leaf(m, a):
    return m.tensor(a, requires_grad=True)


def same(a, b):
    """Trees of tensors equal in structure and value."""
    if isinstance(b, dict):
        assert a.keys() == b.keys()
        for k in b:
            same(a[k], b[k])
    elif isinstance(b, (tuple, list)):
        assert len(a) == len(b)
        for x, y in zip(a, b):
            same(x, y)
    else:
        assert tuple(a.shape) == tuple(b.shape)
        assert a.requires_grad == b.requires_grad
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-10, atol=1e-12)


def layer(m, a, w):
    return m.tanh(a @ w)


def loss(m, a, w):
    return (layer(m, a, w) ** 2).sum()


# Each takes the module (mg or torch) and a function that makes a tensor.
SINGLE = {
    "grad": lambda m, t: m.func.grad(lambda a: loss(m, a, t(W)))(t(X)),
    "grad of two arguments": lambda m, t: m.func.grad(lambda a, w: loss(m, a, w), (0, 1))(
        t(X), t(W)
    ),
    "grad of a negative argnum": lambda m, t: m.func.grad(lambda a, w: loss(m, a, w), -1)(
        t(X), t(W)
    ),
    "grad of a tree": lambda m, t: m.func.grad(
        lambda p: loss(m, p["x"], p["w"][0]) + (p["w"][1] ** 3).sum()
    )({"x": t(X), "w": [t(W), t(V)]}),
    "grad with aux": lambda m, t: m.func.grad(
        lambda a: (loss(m, a, t(W)), {"out": layer(m, a, t(W))}), has_aux=True
    )(t(X)),
    "grad_and_value": lambda m, t: m.func.grad_and_value(lambda a: loss(m, a, t(W)))(t(X)),
    "grad_and_value with aux": lambda m, t: m.func.grad_and_value(
        lambda a: (loss(m, a, t(W)), a * 2), has_aux=True
    )(t(X)),
    "grad of an unused argument": lambda m, t: m.func.grad(lambda a, w: (a * a).sum(), (0, 1))(
        t(X), t(W)
    ),
    "grad of a constant": lambda m, t: m.func.grad(lambda a: t(W).sum())(t(X)),
    "vjp": lambda m, t: m.func.vjp(lambda a: layer(m, a, t(W)), t(X))[1](t(X @ W)),
    "vjp of a tree": lambda m, t: m.func.vjp(lambda a, b: {"s": a + b, "p": a * b}, t(X), t(V))[1](
        {"s": t(V), "p": t(X)}
    ),
    "jvp": lambda m, t: m.func.jvp(lambda a: layer(m, a, t(W)), (t(X),), (t(V),)),
    "jvp of two": lambda m, t: m.func.jvp(lambda a, b: (a * b, a - b), (t(X), t(V)), (t(V), t(X))),
    "jvp with aux": lambda m, t: m.func.jvp(
        lambda a: (layer(m, a, t(W)), a + 1), (t(X),), (t(V),), has_aux=True
    ),
    "jacrev": lambda m, t: m.func.jacrev(lambda a: layer(m, a, t(W)))(t(X)),
    "jacrev in chunks": lambda m, t: m.func.jacrev(lambda a: layer(m, a, t(W)), chunk_size=3)(t(X)),
    "jacrev of a tree": lambda m, t: m.func.jacrev(
        lambda a, w: {"y": layer(m, a, w), "s": (a * a).sum()}, (0, 1)
    )(t(X), t(W)),
    "jacrev with aux": lambda m, t: m.func.jacrev(lambda a: (a * a, a + 1), has_aux=True)(t(V)),
    "jacfwd": lambda m, t: m.func.jacfwd(lambda a: layer(m, a, t(W)))(t(X)),
    "jacfwd of a tree": lambda m, t: m.func.jacfwd(
        lambda a, w: {"y": layer(m, a, w), "s": (a * a).sum()}, (0, 1)
    )(t(X), t(W)),
    "hessian": lambda m, t: m.func.hessian(lambda a: loss(m, a, t(W)))(t(X)),
    "hessian of two arguments": lambda m, t: m.func.hessian(lambda a, w: loss(m, a, w), (0, 1))(
        t(X[:2]), t(W)
    ),
}


@pytest.mark.parametrize("name", SINGLE)
def test_transform_equals_torch(name):
    same(SINGLE[name](mg, make(mg)), SINGLE[name](torch, make(torch)))


def maml(m, t):
    """The gradient through three steps of gradient descent, for a batch of tasks."""

    def inner(w, a):
        for _ in range(3):
            w = w - 0.1 * m.func.grad(lambda w: loss(m, a, w))(w)
        return loss(m, a, w)

    return m.func.grad(lambda w: m.vmap(inner, in_dims=(None, 0))(w, t(X)).mean())(t(W))


COMPOSED = {
    "vmap of grad": lambda m, t: m.vmap(m.func.grad(lambda a: loss(m, a, t(W))))(t(X)),
    "per-sample gradients": lambda m, t: m.vmap(
        m.func.grad(lambda w, a: loss(m, a, w)), in_dims=(None, 0)
    )(t(W), t(X)),
    "grad of vmap": lambda m, t: m.func.grad(
        lambda a: m.vmap(lambda r: loss(m, r, t(W)))(a).prod()
    )(t(X)),
    "grad of vmap of grad": lambda m, t: m.func.grad(
        lambda w: (m.vmap(m.func.grad(lambda a: loss(m, a, w)))(t(X)) ** 2).sum()
    )(t(W)),
    "grad of grad": lambda m, t: m.vmap(m.func.grad(m.func.grad(lambda a: m.sin(a) * a)))(t(X[0])),
    "four derivatives": lambda m, t: m.func.grad(
        m.func.grad(m.func.grad(m.func.grad(lambda a: m.sin(2 * a))))
    )(t(np.array(0.3))),
    "jvp of grad": lambda m, t: m.func.jvp(
        m.func.grad(lambda a: loss(m, a, t(W))), (t(X),), (t(V),)
    ),
    "grad of jvp": lambda m, t: m.func.grad(
        lambda a: m.func.jvp(lambda b: layer(m, b, t(W)), (a,), (t(V),))[1].sum()
    )(t(X)),
    "jvp of jvp": lambda m, t: m.func.jvp(
        lambda a: m.func.jvp(lambda b: layer(m, b, t(W)), (a,), (t(V),))[1], (t(X),), (t(X),)
    ),
    "jvp of vmap": lambda m, t: m.func.jvp(m.vmap(lambda a: layer(m, a, t(W))), (t(X),), (t(V),)),
    "vmap of jvp": lambda m, t: m.vmap(
        lambda a, v: m.func.jvp(lambda b: layer(m, b, t(W)), (a,), (v,))[1]
    )(t(X), t(V)),
    "vmap of vjp": lambda m, t: m.vmap(
        lambda a, g: m.func.vjp(lambda b: layer(m, b, t(W)), a)[1](g)[0]
    )(t(X), t(X @ W)),
    "vmap of a pull-back": lambda m, t: m.vmap(m.func.vjp(lambda a: layer(m, a, t(W)), t(X[0]))[1])(
        t(X @ W)
    ),
    "grad through a pull-back": lambda m, t: m.func.grad(
        lambda a: m.func.vjp(lambda b: layer(m, b, t(W)), a)[1](t(X @ W))[0].sum()
    )(t(X)),
    "jacrev of jacrev": lambda m, t: m.func.jacrev(m.func.jacrev(lambda a: layer(m, a, t(W))))(
        t(X[0])
    ),
    "jacfwd of jacfwd": lambda m, t: m.func.jacfwd(m.func.jacfwd(lambda a: layer(m, a, t(W))))(
        t(X[0])
    ),
    "jacrev of jacfwd": lambda m, t: m.func.jacrev(m.func.jacfwd(lambda a: layer(m, a, t(W))))(
        t(X[0])
    ),
    "jacfwd of jacrev": lambda m, t: m.func.jacfwd(m.func.jacrev(lambda a: layer(m, a, t(W))))(
        t(X[0])
    ),
    "vmap of hessian": lambda m, t: m.vmap(m.func.hessian(lambda a: loss(m, a, t(W))))(t(X)),
    "hessian of vmap": lambda m, t: m.func.hessian(
        lambda w: m.vmap(lambda a: loss(m, a, w))(t(X)).sum()
    )(t(W)),
    "vmap of vmap of grad": lambda m, t: m.vmap(
        m.vmap(m.func.grad(lambda a, b: m.sin(a * b)), (None, 0)), (0, None)
    )(t(X[:, 0]), t(V[:, 0])),
    "vmap of jacrev": lambda m, t: m.vmap(m.func.jacrev(lambda a: layer(m, a, t(W))))(t(X)),
    "vmap of jacfwd": lambda m, t: m.vmap(m.func.jacfwd(lambda a: layer(m, a, t(W))))(t(X)),
    "jacrev of vmap": lambda m, t: m.func.jacrev(m.vmap(lambda a: layer(m, a, t(W))))(t(X)),
    "perturbations are kept apart": lambda m, t: m.func.grad(
        lambda x: x * m.func.grad(lambda y: x + y * y)(x)
    )(t(np.array(2.0))),
    "maml": maml,
}


@pytest.mark.parametrize("name", COMPOSED)
def test_composition_equals_torch(name):
    same(COMPOSED[name](mg, make(mg)), COMPOSED[name](torch, make(torch)))


# What the tape outside sees: (m, x, w) with leaves that require gradients -> a result on the tape.
OUTSIDE = {
    "grad": lambda m, x, w: m.func.grad(lambda a: loss(m, a, w))(x),
    "vmap": lambda m, x, w: m.vmap(lambda a: loss(m, a, w))(x),
    "vmap of grad": lambda m, x, w: m.vmap(m.func.grad(lambda a: loss(m, a, w)))(x),
    "vjp": lambda m, x, w: m.func.vjp(lambda a: layer(m, a, w), x)[1](x @ w)[0],
    "jvp": lambda m, x, w: m.func.jvp(lambda a: layer(m, a, w), (x,), (x * 2,))[1],
    "jacrev": lambda m, x, w: m.func.jacrev(lambda a: layer(m, a, w))(x),
    "jacfwd": lambda m, x, w: m.func.jacfwd(lambda a: layer(m, a, w))(x),
    "hessian": lambda m, x, w: m.func.hessian(lambda a: loss(m, a, w))(x[:2]),
    "value": lambda m, x, w: m.func.grad_and_value(lambda a: loss(m, a, w))(x)[1],
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_results_are_on_the_tape_outside(name):
    def run(m):
        x, w = leaf(m, X), leaf(m, W)
        out = OUTSIDE[name](m, x, w)
        assert out.requires_grad
        (out * out).sum().backward()
        return out.detach(), x.grad, w.grad

    same(run(mg), run(torch))


@pytest.mark.parametrize("name", OUTSIDE)
def test_results_that_depend_on_nothing_outside_are_off_the_tape(name):
    assert not OUTSIDE[name](mg, mg.tensor(X), mg.tensor(W)).requires_grad


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_grad_outside_keeps_results_off_the_tape(name):
    with mg.no_grad():
        assert not OUTSIDE[name](mg, leaf(mg, X), leaf(mg, W)).requires_grad


def test_no_grad_outside_does_not_stop_grad_but_inside_it_does():
    with mg.no_grad():
        g = mg.func.grad(lambda a: (a * a).sum())(mg.tensor(X))
    np.testing.assert_allclose(g.numpy(), 2 * X)

    def partly(a):
        with mg.no_grad():
            b = a * a
        return (a * b).sum()

    np.testing.assert_allclose(mg.func.grad(partly)(mg.tensor(X)).numpy(), X * X)


def test_transforms_work_inside_inference_mode():
    with mg.inference_mode():
        x = mg.tensor(X)
        g = mg.vmap(mg.func.grad(lambda a: (a * a).sum()))(x)
        h = mg.func.jvp(lambda a: a * a, (x,), (x,))[1]
    np.testing.assert_allclose(g.numpy(), 2 * X)
    np.testing.assert_allclose(h.numpy(), 2 * X * X)


def test_the_examples_of_the_documentation_hold():
    path = Path(__file__).resolve().parents[2] / "docs" / "transforms.md"
    result = doctest.testfile(str(path), module_relative=False)
    assert result.failed == 0 and result.attempted > 5


def test_grad_leaves_no_gradient_behind():
    x, w = leaf(mg, X), leaf(mg, W)
    mg.func.grad(lambda a: loss(mg, a, w))(x)
    assert x.grad is None and w.grad is None


def test_linearize_runs_the_function_once_and_pushes_as_jvp_does():
    calls = []

    def f(a):
        calls.append(1)
        return layer(mg, a, mg.tensor(W))

    x, v = mg.tensor(X), mg.tensor(V)
    out, push = mg.func.linearize(f, x)
    pushed = push(v), push(v * 2)
    assert len(calls) == 1
    same((out, pushed[0]), mg.func.jvp(f, (x,), (v,)))
    same(pushed[1], pushed[0] * 2)


def test_chunks_of_jacfwd_change_nothing():
    f = lambda a: a * a.sum()  # noqa: E731
    same(mg.func.jacfwd(f, chunk_size=4)(mg.tensor(X)), mg.func.jacfwd(f)(mg.tensor(X)))


def test_a_pull_back_can_be_used_again():
    out, pull = mg.func.vjp(lambda a: layer(mg, a, mg.tensor(W)), mg.tensor(X))
    g = mg.tensor(X @ W)
    same(pull(g), pull(g))


def test_jacobians_equal_finite_differences():
    def f(a):
        return mg.tanh(a @ mg.tensor(W)) * a.sum()

    x, eps = X[0], 1e-6
    columns = [
        (f(mg.tensor(x + eps * e)) - f(mg.tensor(x - eps * e))).numpy() / (2 * eps)
        for e in np.eye(3)
    ]
    for jacobian in (mg.func.jacrev, mg.func.jacfwd):
        np.testing.assert_allclose(
            jacobian(f)(mg.tensor(x)).numpy(), np.stack(columns, -1), rtol=1e-7, atol=1e-8
        )


def test_in_place_operations_inside_grad_and_vmap():
    def f(m, a):
        b = a.clone()
        b.mul_(2)
        b[0] = 7.0
        b[1:].add_(a[:2])
        return b * a

    def run(m):
        t = make(m)
        return (
            m.vmap(lambda a: f(m, a))(t(X)),
            m.vmap(m.func.grad(lambda a: f(m, a).sum()))(t(X)),
            m.func.grad(lambda a: m.vmap(lambda r: f(m, r))(a).sum())(t(X)),
        )

    same(run(mg), run(torch))


def test_the_input_of_grad_cannot_be_changed_in_place():
    x = mg.tensor(X)
    with pytest.raises(GradError, match="a leaf that requires a gradient cannot be changed"):
        mg.func.grad(lambda a: a.mul_(2).sum())(x)
    np.testing.assert_array_equal(x.numpy(), X)


def test_transforms_inside_a_captured_function():
    x = X.astype(np.float32)

    def run(a):
        return mg.vmap(mg.func.grad(lambda r: loss(mg, r, mg.tensor(W.astype(np.float32)))))(a)

    expected = run(mg.tensor(x))
    np.testing.assert_allclose(mg.jit(run)(mg.tensor(x)).numpy(), expected.numpy(), rtol=1e-4)


def test_transforms_of_a_captured_function():
    f = mg.jit(lambda a: (mg.tanh(a) ** 2).sum())
    plain = f.function
    x = mg.tensor(X.astype(np.float32))
    for transform in (mg.func.grad, mg.vmap, mg.func.hessian, lambda f: mg.vmap(mg.func.grad(f))):
        np.testing.assert_allclose(
            transform(f)(x).numpy(), transform(plain)(x).numpy(), rtol=1e-4, atol=1e-6
        )


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda x: mg.func.grad(lambda a: a * 2)(x),
            GradError,
            "grad: the function must return a 0-d tensor, got shape (5, 3)",
        ),
        (
            lambda x: mg.func.grad(lambda a: 3.0)(x),
            ArgumentTypeError,
            "grad: the function must return a tensor, got float",
        ),
        (
            lambda x: mg.func.grad(lambda a: a.sum())(2.0),
            ArgumentTypeError,
            "grad: can only differentiate with respect to tensors, got float",
        ),
        (
            lambda x: mg.func.grad(lambda a: a.sum())(mg.tensor([1, 2])),
            DTypeError,
            "grad: only floating tensors have gradients, got int64",
        ),
        (
            lambda x: mg.func.grad(lambda a: a.sum(), argnums=1)(x),
            ArgumentError,
            "grad: argnums 1 is out of range for 1 positional arguments",
        ),
        (
            lambda x: mg.func.grad(lambda a: a.sum(), has_aux=True)(x),
            ArgumentTypeError,
            "grad: with has_aux=True the function must return (output, aux), got Tensor",
        ),
        (
            lambda x: mg.func.jvp(lambda a: a, (x,), (x[0],)),
            ArgumentError,
            "jvp: a tangent of float64(3,) was given for a primal of float64(5, 3)",
        ),
        (lambda x: mg.func.grad(3), ArgumentTypeError, "grad: expected a function, got int"),
    ],
)
def test_errors_say_what_was_expected(call, kind, message):
    with pytest.raises(kind) as error:
        call(mg.tensor(X))
    assert str(error.value) == message


def test_the_hint_of_a_vector_output_names_the_ways_out():
    with pytest.raises(GradError) as error:
        mg.func.grad(lambda a: a * 2)(mg.tensor(X))
    assert "hint: sum() or mean() it, or use mg.func.vjp or mg.func.jacrev" in render(error.value)


class TestModules:
    def model(self, m):
        torch.manual_seed(0)
        reference = torch.nn.Sequential(
            torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)
        ).double()
        if m is torch:
            return reference
        made = mg.nn.Sequential(mg.nn.Linear(3, 4), mg.nn.Tanh(), mg.nn.Linear(4, 2))
        made.to(mg.float64)
        made.load_state_dict({k: mg.tensor(v.numpy()) for k, v in reference.state_dict().items()})
        return made

    def test_per_sample_gradients_of_a_module(self):
        def run(m):
            model, t = self.model(m), make(m)
            params = {k: v.detach() for k, v in model.named_parameters()}

            def one(params, a):
                return (m.func.functional_call(model, params, (a,)) ** 2).sum()

            return m.vmap(m.func.grad(one), (None, 0))(params, t(X))

        same(run(mg), run(torch))

    def test_functional_call_leaves_the_module_as_it_was(self):
        model = self.model(mg)
        before = dict(model.named_parameters())
        zeros = {k: v.detach() * 0 for k, v in before.items()}
        assert (mg.func.functional_call(model, zeros, mg.tensor(X)) == 0).all()
        with pytest.raises(ValueError):
            mg.func.functional_call(model, zeros, mg.tensor(V.T))
        after = dict(model.named_parameters())
        assert all(after[k] is before[k] for k in before)

    def test_functional_call_checks_names(self):
        model = self.model(mg)
        with pytest.raises(ArgumentError) as error:
            mg.func.functional_call(model, {"3.weight": mg.tensor(W)}, mg.tensor(X))
        assert str(error.value) == (
            "functional_call: the module has no parameter or buffer '3.weight'"
        )
        with pytest.raises(ArgumentError) as error:
            mg.func.functional_call(model, {}, mg.tensor(X), strict=True)
        assert str(error.value) == "functional_call: no value for '0.bias' (strict=True)"

    def test_tied_weights_are_replaced_together(self):
        model = mg.nn.Module()
        model.a, model.b = mg.nn.Linear(3, 3), mg.nn.Linear(3, 3)
        model.b.weight = model.a.weight
        model.forward = lambda x: model.b(model.a(x))
        zero = {"a.weight": mg.zeros(3, 3)}
        out = mg.func.functional_call(model, zero, mg.ones(1, 3))
        np.testing.assert_allclose(out.detach().numpy()[0], model.b.bias.detach().numpy())

    def test_an_ensemble_by_stacked_state(self):
        models = [self.model(mg), self.model(mg)]
        with mg.no_grad():
            for p in models[1].parameters():
                p.mul_(-0.5)
        params, buffers = mg.func.stack_module_state(models)
        out = mg.vmap(lambda p, b: mg.func.functional_call(models[0], (p, b), (mg.tensor(X),)))(
            params, buffers
        )
        for i, model in enumerate(models):
            np.testing.assert_allclose(
                out[i].detach().numpy(), model(mg.tensor(X)).detach().numpy(), rtol=1e-12
            )


class TestFunctional:
    """monograph.autograd.functional against torch.autograd.functional."""

    @pytest.mark.parametrize("name", ["jacobian", "hessian", "vjp", "jvp"])
    @pytest.mark.parametrize("create_graph", [False, True])
    def test_equals_torch(self, name, create_graph):
        def run(m):
            t, F = make(m), m.autograd.functional
            if name == "jacobian":
                f = lambda a, b: (a * b, (a**2).sum())  # noqa: E731
                return F.jacobian(f, (t(X), t(V)), create_graph=create_graph)
            if name == "hessian":
                return F.hessian(
                    lambda a, w: loss(m, a, w), (t(X[:2]), t(W)), create_graph=create_graph
                )
            v = t(X @ W) if name == "vjp" else t(V)
            return getattr(F, name)(lambda a: layer(m, a, t(W)), t(X), v, create_graph=create_graph)

        mine, theirs = run(mg), run(torch)
        if create_graph:  # torch marks results of plain inputs too
            strip = lambda r: pytree.tree_map(lambda z: z.detach(), r)  # noqa: E731
            mine, theirs = strip(mine), strip(theirs)
        same(mine, theirs)


def test_per_sample_gradients_with_batch_norm_need_it_without_statistics():
    net = mg.nn.Sequential(mg.nn.Linear(3, 4), mg.nn.BatchNorm1d(4), mg.nn.Linear(4, 1))
    x = mg.randn(5, 2, 3)

    def loss(params, x):
        return mg.func.functional_call(net, params, (x,)).square().sum()

    params = dict(net.named_parameters())
    assert mg.func.replace_all_batch_norm_modules_(net) is net
    assert not list(net.buffers())
    found = mg.func.vmap(func=mg.func.grad(func=loss), in_dims=(None, 0))(params, x)
    for i in range(5):
        one = mg.func.grad(loss)(params, x[i])
        for name, g in one.items():
            np.testing.assert_allclose(
                found[name][i].detach().numpy(), g.detach().numpy(), rtol=1e-3, atol=1e-4
            )


def test_functionalize_takes_a_function_and_what_to_remove():
    def f(x):
        y = x * 2
        y[0] = 1.0
        return y

    x = mg.tensor([[1.0, 2.0], [3.0, 4.0]])
    for remove in ("mutations", "mutations_and_views"):
        made = mg.func.vmap(mg.func.functionalize(f, remove=remove))(x)
        assert made.tolist() == [[1.0, 4.0], [1.0, 8.0]]
    with pytest.raises(ArgumentError, match="functionalize: remove must be"):
        mg.func.functionalize(f, remove="views")
