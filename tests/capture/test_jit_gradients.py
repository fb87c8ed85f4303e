"""Gradients of, through and inside captured functions; transforms of them."""

import numpy as np
import pytest

import monograph as mg
from monograph import nn
from monograph.core.errors import GradError
from monograph.nn import functional as F


def close(a, b, rtol=1e-4, atol=1e-5):
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=rtol, atol=atol)


def randn(*shape, seed=0, requires_grad=False):
    t = mg.tensor(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))
    return t.requires_grad_(requires_grad)


def gradients(f, *tensors):
    for t in tensors:
        t.grad = None
    out = f()
    out.backward()
    return out, *(t.grad for t in tensors)


def test_backward_outside_reaches_arguments_and_captured_tensors():
    x, w, b = (randn(*s, seed=k, requires_grad=True) for k, s in enumerate([(4, 3), (3, 5), (5,)]))

    def f(x):
        return ((x @ w + b).tanh() ** 2).sum()

    g = mg.jit(f)
    for _ in range(3):
        for a, e in zip(gradients(lambda: g(x) * 3, x, w, b), gradients(lambda: f(x) * 3, x, w, b)):
            close(a, e)
    assert len(g.captures) == 1


def test_gradient_flows_on_into_what_made_the_argument():
    x = randn(4, requires_grad=True)
    f = mg.jit(lambda t: (t * t, t.exp()))
    a, b = f(x.sin())
    (a.sum() + (b * 2).sum()).backward()
    expected = randn(4, requires_grad=True)
    s = expected.sin()
    ((s * s).sum() + (s.exp() * 2).sum()).backward()
    close(x.grad, expected.grad)


def test_one_of_several_results_alone():
    x = randn(4, requires_grad=True)
    f = mg.jit(lambda t: (t * t, t.exp(), t.detach() * 3, (t > 0)))
    a, b, c, d = f(x)
    assert (a.requires_grad, b.requires_grad) == (True, True)
    assert (c.requires_grad, d.requires_grad) == (False, False)
    b.sum().backward()
    close(x.grad, x.exp())


def test_backward_twice_needs_retain_graph():
    x = randn(4, requires_grad=True)
    y = mg.jit(lambda t: (t * t * t).sum())(x)
    y.backward(retain_graph=True)
    first = x.grad.clone()
    y.backward()
    close(x.grad, first * 2)
    with pytest.raises(GradError, match="second time|freed|twice"):
        y.backward()


def test_second_order_gradients_of_a_captured_function():
    x = randn(4, requires_grad=True)
    f = mg.jit(lambda t: (t**3).sum())
    (g,) = mg.autograd.grad(f(x), x, create_graph=True)
    close(g, 3 * x * x)
    (h,) = mg.autograd.grad(g.sum(), x)
    close(h, 6 * x)


def test_second_order_gradients_inside():
    @mg.jit
    def f(x):
        (g,) = mg.autograd.grad((x**3).sum(), x, create_graph=True)
        (h,) = mg.autograd.grad((g * g).sum(), x)
        return g, h

    x = randn(4, requires_grad=True)
    for _ in range(2):
        g, h = f(x)
        close(g, 3 * x * x)
        close(h, 36 * x**3)


def test_calls_before_backward_keep_their_own_values():
    x = randn(4, requires_grad=True)
    f = mg.jit(lambda t, k: (t.exp() * k).sum())
    outs = [f(x, mg.tensor(float(k))) for k in (1, 2, 3)]
    outs[0].backward()
    close(x.grad, x.exp())
    outs[2].backward()
    close(x.grad, 4 * x.exp())


def test_a_parameter_changed_between_forward_and_backward_is_found_out():
    w = randn(3, 3, requires_grad=True)
    f = mg.jit(lambda x: (x @ w).exp().sum())
    out = f(randn(2, 3, seed=1, requires_grad=True))
    with mg.no_grad():
        w.add_(1)
    with pytest.raises(GradError, match="changed in place|modified"):
        out.backward()


def test_a_value_overwritten_inside_after_its_use_is_found_out_at_backward():
    state = mg.ones(3)

    def f(x):
        kept = (x * 2).exp()
        spoiled = (x * state).sum()
        state.add_(1)
        return spoiled, kept.sum()

    g = mg.jit(f)
    for _ in range(3):
        x = mg.tensor([0.0, 0.5, 1.0], requires_grad=True)
        spoiled, kept = g(x)
        assert spoiled.requires_grad
        with pytest.raises(GradError) as caught:
            spoiled.backward()
        assert caught.value.message == (
            "backward: a value that mul needs was changed in place: float32 of shape (3,) is at "
            "version 1, version 0 was used; both happened in the captured function f"
        )
        kept.backward()  # the other result keeps its gradient
        close(x.grad, 2 * (x * 2).exp())
    with mg.no_grad():
        assert not g(x)[0].requires_grad


def test_a_result_that_the_function_has_walked_already_is_a_constant():
    w = mg.ones(3, requires_grad=True)

    def f(x):
        w.grad = None
        y = (x * w).exp()
        loss = y.sum()
        loss.backward()
        return loss, y

    loss, y = mg.jit(f)(mg.ones(3))
    assert not loss.requires_grad and not y.requires_grad
    close(w.grad, mg.ones(3).exp())


def test_values_written_inside_are_saved_as_they_were_read():
    state = mg.tensor([2.0, 3.0])

    def f(x):
        y = (x * state).sum()
        with mg.no_grad():
            other = state * 2
        return y + (x * other).sum() * 0

    def g(x):  # overwrites what the product read, after it
        y = x * state.clone()
        state.add_(1)
        return y.sum()

    x = mg.tensor([1.0, 1.0], requires_grad=True)
    mg.jit(f)(x).backward()
    assert x.grad.tolist() == [2, 3]
    h = mg.jit(g)
    for expected in ([2, 3], [3, 4], [4, 5]):
        x.grad = None
        h(x).backward()
        assert x.grad.tolist() == expected
    assert state.tolist() == [5, 6]


def test_batch_norm_in_training_gives_eager_gradients():
    nets = []
    for _ in range(2):
        mg.manual_seed(0)
        nets.append(nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2)))
    f = mg.jit(nets[0])
    for k in range(3):
        x = randn(8, 5, seed=k)
        for call, net in ((f, nets[0]), (nets[1], nets[1])):
            net.zero_grad()
            F.cross_entropy(call(x), mg.arange(8) % 2).backward()
        for p, q in zip(nets[0].parameters(), nets[1].parameters()):
            close(p.grad, q.grad, rtol=1e-3)
        for p, q in zip(nets[0].buffers(), nets[1].buffers()):
            close(p, q)


def test_gradients_of_dropout_use_the_mask_of_the_forward():
    x = mg.ones(64, requires_grad=True)
    f = mg.jit(lambda t: F.dropout(t, 0.5))
    masks = []
    for _ in range(3):
        x.grad = None
        y = f(x)
        y.sum().backward()
        close(x.grad, y)
        masks.append(y.tolist())
    assert masks[0] != masks[1] != masks[2]


def f_for_transforms(x):
    return (x.sin() * x.flip(0)).sum() + (x * x * x).mean()


def test_jit_of_grad_vmap_and_hessian():
    x = randn(5)
    for transform in (mg.func.grad, mg.func.hessian, mg.func.jacrev, mg.func.jacfwd):
        g = transform(f_for_transforms)
        compiled = mg.jit(g)
        for k in (1.0, 2.0):
            close(compiled(x * k), g(x * k))
        assert len(compiled.captures) == 1
    batch = randn(4, 5, seed=2)
    v = mg.vmap(mg.func.grad(f_for_transforms))
    close(mg.jit(v)(batch), v(batch))
    p = mg.jit(lambda x, t: mg.func.jvp(f_for_transforms, (x,), (t,)))
    for a, b in zip(p(x, batch[0]), mg.func.jvp(f_for_transforms, (x,), (batch[0],))):
        close(a, b)


def test_grad_and_vmap_of_jit():
    x, batch = randn(5), randn(4, 5, seed=2)
    f = mg.jit(f_for_transforms)
    close(mg.func.grad(f)(x), mg.func.grad(f_for_transforms)(x))
    close(mg.func.hessian(f)(x), mg.func.hessian(f_for_transforms)(x))
    close(mg.vmap(f)(batch), mg.stack([f_for_transforms(r) for r in batch]))
    close(
        mg.vmap(mg.func.grad(f))(batch),
        mg.stack([mg.func.grad(f_for_transforms)(r) for r in batch]),
    )


def test_a_gradient_inside_and_one_outside():
    w = randn(4, requires_grad=True)

    @mg.jit
    def penalty(x):
        (g,) = mg.autograd.grad(((x * w) ** 2).sum(), x, create_graph=True)
        return (g * g).sum()

    x = randn(4, seed=1, requires_grad=True)
    penalty(x).backward()
    close(w.grad, 16 * x * x * w**3)
    close(x.grad, 8 * x * w**4)


def test_no_grad_calls_leave_no_tape():
    w = randn(3, requires_grad=True)
    f = mg.jit(lambda x: x * w)
    with mg.no_grad():
        assert not f(mg.ones(3)).requires_grad
    assert f(mg.ones(3)).requires_grad
    with mg.inference_mode():
        assert not f(mg.ones(3)).requires_grad


def test_gradients_of_arguments_accumulate():
    f, g = mg.jit(lambda x: (x * x).sum().backward()), lambda x: (x * x).sum().backward()
    x, y = (mg.tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    for _ in range(3):
        f(x)
        g(y)
        assert x.grad.tolist() == y.grad.tolist()
    held = x.grad
    f(x)
    assert x.grad is held and held.tolist() == [8, 16]
    x.grad = None
    f(x)
    assert x.grad.tolist() == [2, 4] and held.tolist() == [8, 16]
    z = mg.ones(2, requires_grad=True)
    f(z)
    assert z.grad.tolist() == [2, 2] and x.grad.tolist() == [2, 4]


def test_gradients_of_arguments_are_read_and_set():
    @mg.jit
    def f(x):
        before = x.grad * 1
        x.grad = None
        (x * 3).sum().backward()
        return before

    x = mg.ones(2, requires_grad=True)
    x.grad = mg.full((2,), 7.0)
    assert f(x).tolist() == [7, 7]
    assert f(x).tolist() == [3, 3]
    assert x.grad.tolist() == [3, 3]
    g = mg.jit(lambda x: x.grad)
    assert g(x) is x.grad and g(x) is x.grad


def test_numbers_that_vary_take_part_in_gradients():
    f = mg.jit(lambda x, k: (x * x * k).sum())
    for k in (1.0, 2.0, 3.0, 0.5):
        x = mg.ones(2, requires_grad=True)
        f(x, k).backward()
        assert x.grad.tolist() == [2 * k] * 2


def test_captured_tensors_that_begin_or_cease_to_require_gradients():
    w = mg.ones(2)
    f = mg.jit(lambda x: (x * w).sum())
    assert not f(mg.ones(2)).requires_grad
    w.requires_grad_()
    f(mg.ones(2)).backward()
    assert w.grad.tolist() == [1, 1]
    w.requires_grad_(False)
    assert not f(mg.ones(2)).requires_grad
    assert f.recompiles == ["requires_grad of a captured tensor changed from False"]


def test_a_parameter_frozen_between_steps_gets_no_gradient():
    a, b = mg.ones(2, requires_grad=True), mg.ones(2, requires_grad=True)

    @mg.jit
    def step():
        a.grad = b.grad = None
        (a * b).sum().backward()

    step()
    a.requires_grad_(False)
    step()
    assert a.grad is None and b.grad.tolist() == [1, 1]
