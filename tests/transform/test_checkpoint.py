"""Recomputation: the same gradients as without, fewer values kept."""

import functools
import gc
import weakref

import numpy as np
import pytest

import monograph as mg
import monograph.nn.functional as F
from monograph.core.errors import ArgumentError, GradError
from monograph.ir.dispatch import handler, handling
from monograph.ir.op import REGISTRY
from monograph.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    checkpoint_sequential,
    checkpointed,
    create_selective_checkpoint_contexts,
    noop_context_fn,
)

X = np.random.default_rng(0).standard_normal((4, 3))
W = np.random.default_rng(1).standard_normal((3, 3))


def block(x, w):
    h = (x @ w).tanh()
    return (h * h + x).sigmoid()


def leaves():
    return mg.tensor(X, requires_grad=True), mg.tensor(W, requires_grad=True)


def close(a, b):
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-12)


def test_gradients_are_those_of_the_plain_function():
    (x, w), (a, b) = leaves(), leaves()
    y = checkpoint(block, x, w)
    close(y, block(a, b))
    y.sum().backward()
    block(a, b).sum().backward()
    close(x.grad, a.grad)
    close(w.grad, b.grad)


def test_tensors_that_the_function_refers_to_get_gradients():
    (x, w), (a, b) = leaves(), leaves()
    checkpoint(lambda x: block(x, w), x, use_reentrant=False).sum().backward()
    block(a, b).sum().backward()
    close(w.grad, b.grad)


def test_the_function_runs_once_in_forward_and_once_in_backward():
    calls = []

    def counted(x):
        calls.append(1)
        return block(x, x[:3])

    x, _ = leaves()
    y = checkpoint(counted, x)
    assert len(calls) == 1
    y.sum().backward()
    assert len(calls) == 2


def test_intermediate_values_are_not_kept():
    kept = []

    def spy(x, w):
        h = (x @ w).tanh()
        kept.append(weakref.ref(h._payload))
        return (h * h).sum()

    x, w = leaves()
    gc.disable()
    try:
        y = checkpoint(spy, x, w)
        assert kept[0]() is None
        spy_again = spy(x, w)
        assert kept[1]() is not None
        y.backward()
        assert kept[2]() is None
        spy_again.backward()
        assert kept[1]() is None
    finally:
        gc.enable()


def test_second_derivatives():
    def run(call):
        x, w = leaves()
        (g,) = mg.autograd.grad(call(x, w).sum(), x, create_graph=True)
        return mg.autograd.grad((g * g).sum(), (x, w))

    for a, b in zip(run(lambda x, w: checkpoint(block, x, w)), run(block)):
        close(a, b)


def test_composes_with_function_transforms():
    x, w = mg.tensor(X), mg.tensor(W)
    once = checkpointed(block)
    for transform in (
        lambda f: mg.func.grad(lambda x, w: f(x, w).sum(), (0, 1)),
        lambda f: mg.vmap(mg.func.grad(lambda x, w: f(x, w).sum(), 1), (0, None)),
        lambda f: mg.func.jacrev(f),
        lambda f: mg.func.hessian(lambda x, w: f(x, w).sum()),
        lambda f: mg.func.grad(lambda x, w: mg.vmap(f, (0, None))(x, w).sum()),
    ):
        made, expected = transform(once)(x, w), transform(block)(x, w)
        for a, b in zip(made, expected) if isinstance(made, tuple) else [(made, expected)]:
            close(a, b)


def test_dropout_draws_the_same_numbers_again_and_the_generator_goes_on():
    def noisy(x):
        return F.dropout(x * x, 0.5) * 3

    results = []
    for call in (lambda x: checkpoint(noisy, x), noisy):
        x, _ = leaves()
        mg.manual_seed(3)
        call(x).sum().backward()
        results.append((x.grad, mg.rand(2)))
    close(results[0][0], results[1][0])
    close(results[0][1], results[1][1])


def test_a_function_that_differentiates_inside():
    def inner(x):
        out, pull = mg.func.vjp(lambda y: y * y.sum(), x)
        return (pull(x)[0] * out).sum()

    x = mg.tensor(X)
    close(mg.func.jacrev(checkpointed(inner))(x), mg.func.jacrev(inner)(x))
    close(
        mg.func.hessian(checkpointed(inner))(mg.tensor(X[0])),
        mg.func.hessian(inner)(mg.tensor(X[0])),
    )


def test_nested_checkpoints():
    (x, w), (a, b) = leaves(), leaves()
    outer = checkpointed(lambda x, w: checkpoint(block, checkpoint(block, x, w), w))
    outer(x, w).sum().backward()
    block(block(a, b), b).sum().backward()
    close(x.grad, a.grad)
    close(w.grad, b.grad)


def test_a_function_of_its_own_inside():
    class Cube(mg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            h = x * x
            ctx.save_for_backward(x, h)
            return h * x

        @staticmethod
        def backward(ctx, g):
            x, h = ctx.saved_tensors
            return 3 * h * g

    x, _ = leaves()
    checkpoint(lambda x: Cube.apply(x) * x, x).sum().backward()
    close(x.grad, 4 * x.detach() ** 3)


def test_checkpoint_sequential_equals_the_plain_chain():
    steps = [lambda x, k=k: (x * (k + 1)).tanh() for k in range(5)]
    for segments in (1, 2, 5):
        (x, _), (a, _) = leaves(), leaves()
        checkpoint_sequential(steps, segments, x).sum().backward()
        y = a
        for step in steps:
            y = step(y)
        y.sum().backward()
        close(x.grad, a.grad)


def test_an_argument_changed_in_place_is_found_out():
    x, w = leaves()
    h = x * 1
    y = checkpoint(block, h, w).sum()
    h.add_(1)
    with pytest.raises(GradError, match="an argument of shape .4, 3. was changed in place"):
        y.backward()


def test_a_parameter_changed_in_place_is_found_out():
    x, w = leaves()
    y = checkpoint(lambda x: block(x, w), x).sum()
    with mg.no_grad():
        w.add_(1)
    with pytest.raises(GradError, match="was changed in place"):
        y.backward()


def test_a_function_that_does_something_else_the_second_time_is_found_out():
    calls = []

    def fickle(x):
        calls.append(1)
        return x.exp() if len(calls) == 1 else x.exp().tanh()

    x, _ = leaves()
    with pytest.raises(GradError) as error:
        checkpoint(fickle, x).sum().backward()
    assert str(error.value) == (
        "checkpoint: the function did 1 recorded operations in the forward and 2 others when it "
        "was run again"
    )


def test_the_decorator_is_in_func_and_wraps_captured_functions():
    x = mg.tensor(X.astype(np.float32), requires_grad=True)
    a = mg.tensor(X.astype(np.float32), requires_grad=True)
    f = lambda x: (x.exp() * x).sum()  # noqa: E731
    mg.func.checkpoint(mg.jit(f))(x).backward()
    f(a).backward()
    np.testing.assert_allclose(x.grad.numpy(), a.grad.numpy(), rtol=1e-5)


def test_works_inside_captured_functions():
    x = mg.tensor(X.astype(np.float32), requires_grad=True)
    w = mg.tensor(W.astype(np.float32))

    @mg.jit
    def step(x):
        return mg.autograd.grad(checkpoint(block, x, w).sum(), x)[0]

    (g,) = mg.autograd.grad(block(x, w).sum(), x)
    np.testing.assert_allclose(step(x).numpy(), g.numpy(), rtol=1e-5)


def test_segments_out_of_range_are_an_error():
    with pytest.raises(ArgumentError) as error:
        checkpoint_sequential([mg.exp], 2, mg.tensor(X))
    assert str(error.value) == "checkpoint_sequential: segments must be in [1, 1], got 2"


def keeping(what, **options):
    return functools.partial(create_selective_checkpoint_contexts, what, **options)


def count_products(run):
    """The gradients that run() gives, and how often a product was computed in its backward."""
    y = run()
    seen = []
    outside = handler()

    def serve(op, args):
        seen.append(op.name)
        return outside(op, args)

    with handling(serve):
        y.sum().backward()
    return seen


def test_a_policy_keeps_results_and_gradients_stay():
    def products(context_fn):
        x, w = leaves()
        seen = count_products(lambda: checkpoint(block, x, w, context_fn=context_fn))
        return seen.count("contract"), seen.count("tanh"), x.grad, w.grad

    a, b = leaves()
    block(a, b).sum().backward()
    everything = products(noop_context_fn)
    for context_fn, tanhs in [
        (keeping(["contract"]), 1),
        (keeping([REGISTRY["contract"]]), 1),
        (keeping(lambda ctx, op, *args: CheckpointPolicy.MUST_SAVE), 0),
        (keeping(lambda ctx, op, *args: ctx.op_output.shape == (4, 3)), 0),
    ]:
        made = products(context_fn)
        assert made[0] == everything[0] - 1 and made[1] == tanhs
        close(made[2], a.grad)
        close(made[3], b.grad)
    nothing = products(keeping(lambda ctx, op, *args: CheckpointPolicy.PREFER_RECOMPUTE))
    assert nothing[:2] == everything[:2]


def test_kept_results_with_dropout_second_derivatives_vmap_and_jit():
    def f(x, w):
        h = F.dropout(x @ w, 0.5)
        values, _ = (h * h).sort(1)
        return (values.exp() @ w).sum()

    def gradient_norm(wrap):
        mg.manual_seed(3)
        x, w = leaves()
        (g,) = mg.autograd.grad(wrap(f)(x, w), x, create_graph=True)
        return mg.autograd.grad((g * g).sum(), w)[0]

    kept = lambda f: lambda x, w: checkpoint(f, x, w, context_fn=keeping(["contract", "sort"]))  # noqa: E731
    expected = gradient_norm(lambda f: f)
    close(gradient_norm(kept), expected)
    x, w = leaves()
    plain = mg.func.grad(lambda x: block(x, w).sum())
    inside = mg.func.grad(lambda x: checkpoint(block, x, w, context_fn=keeping(["contract"])).sum())
    rows = x.detach()[:, None]
    close(mg.func.vmap(inside)(rows), mg.func.vmap(plain)(rows))
    close(mg.jit(inside)(x.detach()), plain(x.detach()))


def test_what_selective_checkpoints_refuse():
    def writes(x, w):
        h = x @ w
        return h.add_(1).exp()

    x, w = leaves()
    y = checkpoint(writes, x, w, context_fn=keeping(["contract"]))
    with pytest.raises(GradError, match="a result of contract that was kept was changed in place"):
        y.sum().backward()
    calls = []

    def other(x, w):
        calls.append(1)
        return (x @ w).exp() if len(calls) == 1 else (x * x).exp()

    y = checkpoint(other, x, w, context_fn=keeping(["contract"]))
    with pytest.raises(GradError, match="the second run did mul where the first did contract"):
        y.sum().backward()
    with pytest.raises(TypeError, match="'mm' is no primitive operation"):
        checkpoint(block, x, w, context_fn=keeping(["mm"]))
