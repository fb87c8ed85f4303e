"""monograph.autograd.Function against torch.autograd.Function and against plain operations."""

import numpy as np
import pytest
import torch

import monograph as mg
from monograph.core.errors import ArgumentTypeError, GradError, ShapeError, render

X = np.random.default_rng(0).standard_normal((4, 3))
W = np.random.default_rng(1).standard_normal((3, 2))


class Exp(mg.autograd.Function):
    """Saves its output."""

    @staticmethod
    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g * y


class ScaledProduct(mg.autograd.Function):
    """Saves inputs, keeps a number, does some work once (x * y), separate set-up."""

    @staticmethod
    def forward(x, y, scale):
        return x * y * scale, x + y

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, y, ctx.scale = inputs
        ctx.save_for_backward(x, y)

    @staticmethod
    def backward(ctx, g, h):
        x, y = ctx.saved_tensors
        gx = g * y * ctx.scale + h if ctx.needs_input_grad[0] else None
        gy = g * x * ctx.scale + h if ctx.needs_input_grad[1] else None
        return gx, gy, None


class Intermediate(mg.autograd.Function):
    """Saves a tensor that is neither input nor output."""

    @staticmethod
    def forward(ctx, x, w):
        h = (x @ w).tanh()
        ctx.save_for_backward(x, w, h)
        return h * h

    @staticmethod
    def backward(ctx, g):
        x, w, h = ctx.saved_tensors
        gh = g * 2 * h * (1 - h * h)
        gx = gh @ w.transpose(-1, -2)
        if x.ndim == 1:
            return gx, x.reshape(-1, 1) @ gh.reshape(1, -1)
        return gx, x.transpose(-1, -2) @ gh


def leaf(a):
    return mg.tensor(a, requires_grad=True)


def close(a, b):
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-9, atol=1e-12)


def test_the_output_can_be_saved():
    x = leaf(X)
    y = Exp.apply(x)
    y.sum().backward()
    close(x.grad, x.exp())
    assert y.grad_fn.name() == "ExpBackward"


def test_second_derivatives_go_through_backward():
    x = leaf(X)
    (g,) = mg.autograd.grad(Exp.apply(x).sum(), x, create_graph=True)
    (h,) = mg.autograd.grad(g.sum(), x, create_graph=True)
    (third,) = mg.autograd.grad(h.sum(), x)
    close(third, x.exp())


def test_gradcheck_of_a_function_with_several_inputs_and_outputs():
    x, y = leaf(X), leaf(X[::-1].copy())
    assert mg.autograd.gradcheck(lambda a, b: ScaledProduct.apply(a, b, 3.0), (x, y))
    assert mg.autograd.gradgradcheck(lambda a, b: ScaledProduct.apply(a, b, 3.0), (x, y))


def test_needs_input_grad_says_which_arguments_want_gradients():
    seen = []

    class Spy(mg.autograd.Function):
        @staticmethod
        def forward(ctx, x, y, number):
            return x * y

        @staticmethod
        def backward(ctx, g):
            seen.append(ctx.needs_input_grad)
            return g, None, None

    Spy.apply(leaf(X), mg.tensor(X), 2).sum().backward()
    assert seen == [(True, False, False)]


def test_an_intermediate_can_be_saved_and_double_backward_treats_it_as_a_constant():
    def run(m, make):
        class F(m.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                h = x.tanh()
                ctx.save_for_backward(x, h)
                return h * x

            @staticmethod
            def backward(ctx, g):
                x, h = ctx.saved_tensors
                return g * (h + x * (1 - h * h))

        x = make(X)
        (g,) = m.autograd.grad(F.apply(x).sum(), x, create_graph=True)
        return g, m.autograd.grad((g * g).sum(), x)[0]

    mine = run(mg, leaf)
    theirs = run(torch, lambda a: torch.tensor(a, requires_grad=True))
    for a, b in zip(mine, theirs):
        close(a, b)


def test_vmap_of_a_function_equals_a_loop():
    w = mg.tensor(W)
    out = mg.vmap(lambda x: Intermediate.apply(x, w))(mg.tensor(X))
    for i in range(4):
        close(out[i], Intermediate.apply(mg.tensor(X[i]), w))


def test_per_sample_gradients_of_a_function_equal_those_of_plain_operations():
    def plain(x, w):
        h = (x @ w).tanh()
        return h * h

    for argnum in (0, 1):
        for in_dims in ((0, None), (0, 0)):
            w = W if in_dims[1] is None else np.stack([W, W + 1, W - 1, 2 * W])
            args = mg.tensor(X), mg.tensor(w)
            grads = [
                mg.vmap(mg.func.grad(lambda x, w, f=f: f(x, w).sum(), argnum), in_dims)(*args)
                for f in (Intermediate.apply, plain)
            ]
            close(*grads)


def test_gradients_flow_through_vmap_of_a_function_to_the_tape_outside():
    def run(f):
        x, w = leaf(X), leaf(W)
        mg.vmap(lambda a: f(a, w).sum())(x).sum().backward()
        return x.grad, w.grad

    for a, b in zip(run(Intermediate.apply), run(lambda x, w: (x @ w).tanh() ** 2)):
        close(a, b)


def test_gradient_of_per_sample_gradients_of_a_function():
    def run(f):
        w = leaf(W)
        g = mg.vmap(mg.func.grad(lambda a: f(a * w[:, 0]).sum()))(mg.tensor(X))
        (g * g).sum().backward()
        return g, w.grad

    for a, b in zip(run(Exp.apply), run(mg.exp)):
        close(a, b)


def test_nested_vmap_of_a_function():
    x = mg.tensor(np.stack([X, X + 1]))
    close(mg.vmap(mg.vmap(Exp.apply))(x), x.exp())
    close(mg.vmap(mg.vmap(mg.func.grad(lambda a: Exp.apply(a).sum())))(x), x.exp())


@pytest.mark.parametrize("transform", ["jacrev", "jacfwd"])
def test_jacobians_of_a_function(transform):
    x = mg.tensor(X[0])
    jacobian = getattr(mg.func, transform)
    close(jacobian(Exp.apply)(x), jacobian(mg.exp)(x))
    close(mg.vmap(jacobian(Exp.apply))(mg.tensor(X)), mg.vmap(jacobian(mg.exp))(mg.tensor(X)))


def test_a_vmap_rule_of_ones_own():
    calls = []

    class Scale(mg.autograd.Function):
        @staticmethod
        def forward(x, k):
            return x * k

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx, g):
            x, k = ctx.saved_tensors
            return g * k, (g * x).sum()

        @staticmethod
        def vmap(info, in_dims, x, k):
            calls.append((info.batch_size, info.randomness, in_dims))
            return Scale.apply(x, k), in_dims[0]

    x, k = mg.tensor(X), mg.tensor(2.0, dtype=mg.float64)
    close(mg.vmap(lambda a: Scale.apply(a, k))(x), x * 2)
    assert calls == [(4, "error", (0, None))]
    inside = mg.vmap(mg.func.grad(lambda a, k: Scale.apply(a, k).sum(), (0, 1)), (0, None))(x, k)
    close(inside[0], mg.tensor(np.full_like(X, 2)))
    close(inside[1], x.sum(1))
    outside = leaf(X)
    mg.vmap(lambda a: Scale.apply(a, k))(outside).sum().backward()
    assert (outside.grad == 2).all()


def test_non_differentiable_outputs_have_no_gradient():
    class TopAndMask(mg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            positive = x * (x > 0).to(x.dtype)
            ctx.mark_non_differentiable(positive)
            return x * 2, positive

        @staticmethod
        def backward(ctx, g, h):
            assert (h == 0).all()
            return g * 2

    y, mask = TopAndMask.apply(leaf(X))
    assert y.requires_grad and not mask.requires_grad
    x = leaf(X)
    TopAndMask.apply(x)[0].sum().backward()
    assert (x.grad == 2).all()


def test_unused_outputs_give_zeros_or_none_as_asked():
    seen = []

    def make(materialize):
        class Two(mg.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                ctx.set_materialize_grads(materialize)
                return x * 2, x * 3

            @staticmethod
            def backward(ctx, g, h):
                seen.append(h)
                return g * 2

        return Two

    for materialize in (True, False):
        make(materialize).apply(leaf(X))[0].sum().backward()
    assert (seen[0] == 0).all() and seen[0].shape == (4, 3)
    assert seen[1] is None


def test_mark_dirty_changes_a_tensor_in_place():
    def run(m, x):
        class Double(m.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                x.mul_(2)
                ctx.mark_dirty(x)
                return x

            @staticmethod
            def backward(ctx, g):
                return g * 2

        h = x * 3
        out = Double.apply(h)
        assert out is h
        (out * out).sum().backward()
        return x.grad

    close(run(mg, leaf(X)), run(torch, torch.tensor(X, requires_grad=True)))


def test_an_input_returned_as_it_is_becomes_a_new_tensor():
    class Identity(mg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x

        @staticmethod
        def backward(ctx, g):
            return g * 10

    x = leaf(X)
    y = Identity.apply(x)
    assert y is not x and x.is_leaf
    y.sum().backward()
    assert (x.grad == 10).all()


def test_once_differentiable_refuses_a_second_derivative():
    class Square(mg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        @mg.autograd.once_differentiable
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return 2 * x * g

    x = leaf(X)
    (g,) = mg.autograd.grad(Square.apply(x).sum(), x, create_graph=True)
    close(g, 2 * x)
    with pytest.raises(GradError, match="marked @once_differentiable"):
        g.sum().backward()


def test_a_wrong_number_of_gradients_is_an_error():
    class Bad(mg.autograd.Function):
        @staticmethod
        def forward(ctx, x, y):
            return x * y

        @staticmethod
        def backward(ctx, g):
            return g

    with pytest.raises(GradError) as error:
        Bad.apply(leaf(X), leaf(X)).sum().backward()
    assert str(error.value) == ("Bad: backward returned 1 gradients for 2 arguments of forward")
    assert "hint: return None for arguments that have no gradient" in render(error.value)


def test_a_gradient_of_the_wrong_shape_is_an_error():
    class Bad(mg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g[0]

    with pytest.raises(ShapeError) as error:
        Bad.apply(leaf(X)).sum().backward()
    assert str(error.value) == (
        "Bad: gradient 0 that backward returned has shape (3,), the argument has (4, 3)"
    )


def test_functions_are_not_instantiated():
    with pytest.raises(ArgumentTypeError) as error:
        Exp()
    assert "call Exp.apply(...)" in render(error.value)


def test_saving_something_else_than_a_tensor_is_an_error():
    class Bad(mg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(3)
            return x

    with pytest.raises(ArgumentTypeError) as error:
        Bad.apply(leaf(X))
    assert str(error.value) == "save_for_backward: takes tensors or None, got int"


def test_saved_tensors_are_freed_after_backward():
    x = leaf(X)
    y = Exp.apply(x).sum()
    y.backward()
    with pytest.raises(GradError, match="were freed by an earlier backward"):
        y.backward()


def test_a_saved_input_that_was_changed_in_place_is_found_out():
    class Square(mg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, g):
            return 2 * ctx.saved_tensors[0] * g

    h = leaf(X) * 1
    y = Square.apply(h).sum()
    h.add_(1)
    with pytest.raises(GradError, match="a value that Square needs was changed in place"):
        y.backward()


def test_functions_work_inside_captured_functions():
    x = leaf(X.astype(np.float32))

    @mg.jit
    def step(x):
        (g,) = mg.autograd.grad(Exp.apply(x).sum(), x)
        return g

    np.testing.assert_allclose(step(x).numpy(), np.exp(X.astype(np.float32)), rtol=1e-6)


def test_nothing_is_recorded_without_gradients():
    assert Exp.apply(mg.tensor(X)).grad_fn is None
    with mg.no_grad():
        assert Exp.apply(leaf(X)).grad_fn is None
