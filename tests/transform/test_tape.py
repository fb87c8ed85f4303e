"""The tape: accumulation, hooks, retained graphs, in-place writes, depth, memory, modes, errors."""

import gc
import sys
import threading
import warnings
import weakref

import numpy as np
import pytest
import torch

import monograph as mg
from monograph.core.errors import ArgumentError, ArgumentTypeError, GradError, ShapeError, render

X = np.random.default_rng(0).standard_normal((3, 2))


def leaf(m=mg, a=X):
    return m.tensor(a, requires_grad=True)


def close(a, b):
    np.testing.assert_allclose(
        a.detach().numpy(), b.detach().numpy() if hasattr(b, "detach") else b, rtol=1e-12
    )


def both(run):
    """run(mg) and run(torch) give equal tensors (or None)."""
    mine, theirs = run(mg), run(torch)
    assert len(mine) == len(theirs)
    for a, b in zip(mine, theirs):
        assert (a is None) == (b is None)
        if a is not None:
            assert tuple(a.shape) == tuple(b.shape)
            close(a, b)


# Accumulation


def test_gradients_accumulate_into_the_same_tensor():
    x = leaf()
    (x * x).sum().backward()
    first = x.grad
    (x * 3).sum().backward()
    assert x.grad is first
    close(first, 2 * X + 3)
    assert not first.requires_grad


def test_two_leaves_of_one_sum_have_gradients_of_their_own():
    a, b = leaf(), leaf()
    (a + b).sum().backward()
    a.grad.zero_()
    assert (b.grad == 1).all()


def test_a_given_gradient_is_not_shared_with_grad():
    x, g = leaf(), mg.ones(3, 2, dtype=mg.float64)
    x.backward(g)
    x.grad.mul_(5)
    assert (g == 1).all()


def test_a_gradient_seen_by_a_hook_does_not_change_later():
    x, seen = leaf(), []
    x.register_hook(lambda g: seen.append(g))
    (x * 2).sum().backward()
    (x * 2).sum().backward()
    assert (seen[0] == 2).all() and (x.grad == 4).all()


def test_the_gradient_of_an_expanded_leaf_can_be_written():
    x = leaf()
    x.sum().backward()
    x.grad.mul_(2)
    assert (x.grad == 2).all()


def test_several_roots_and_given_gradients():
    def run(m):
        x = leaf(m)
        m.autograd.backward([(x * x).sum(), x * 3], [None, m.ones(3, 2, dtype=m.float64)])
        return [x.grad]

    both(run)


def test_the_same_root_twice_counts_twice():
    def run(m):
        x = leaf(m)
        y = (x * x).sum()
        m.autograd.backward([y, y])
        return [x.grad]

    both(run)


def test_inputs_restrict_where_gradients_go():
    def run(m):
        x, w = leaf(m), leaf(m)
        h = x * w
        (h * h).sum().backward(inputs=[x])
        return [x.grad, w.grad]

    both(run)


def test_inputs_that_are_not_leaves_get_a_gradient_too():
    def run(m):
        x = leaf(m)
        h = x * 3
        (h * h).sum().backward(inputs=[h])
        return [x.grad]

    both(run)
    x = leaf()
    h = x * 3
    (h * h).sum().backward(inputs=[h])
    close(h.grad, 6 * X)


def test_grad_of_several_inputs_with_unused_ones():
    def run(m):
        x, w, u = leaf(m), leaf(m), leaf(m)
        y = (x * w).sum()
        return m.autograd.grad(y, (x, u, w), allow_unused=True)

    both(run)


def test_grad_can_materialize_zeros_for_unused_inputs():
    x, u = leaf(), leaf()
    _, g = mg.autograd.grad((x * x).sum(), (x, u), materialize_grads=True)
    assert (g == 0).all() and g.shape == (3, 2)


def test_grad_with_respect_to_intermediate_values_and_views():
    def run(m):
        x = leaf(m)
        h = x * x
        v = h[1]
        y = (v * v).sum() + h.sum()
        return m.autograd.grad(y, (h, v, x))

    both(run)


def test_the_same_input_twice():
    x = leaf()
    a, b = mg.autograd.grad((x * x).sum(), (x, x))
    close(a, 2 * X)
    close(b, 2 * X)


def test_create_graph_puts_gradients_on_the_tape():
    def run(m):
        x = leaf(m)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of the reference cycle
            (x**3).sum().backward(create_graph=True)
        g = x.grad
        x.grad = None
        (g * g).sum().backward()
        return [g, x.grad]

    both(run)


def test_higher_derivatives_to_the_fifth():
    x = mg.tensor(0.7, dtype=mg.float64, requires_grad=True)
    y = mg.sin(x)
    for k in range(1, 6):
        (y,) = mg.autograd.grad(y, x, create_graph=True)
        np.testing.assert_allclose(y.item(), np.sin(0.7 + k * np.pi / 2), rtol=1e-12)


def test_a_leaf_that_is_frozen_after_the_forward_gets_no_gradient():
    x, w = leaf(), leaf()
    y = (x * w).sum()
    w.requires_grad_(False)
    y.backward()
    assert w.grad is None
    close(x.grad, X)


# Graphs used again


def test_a_second_backward_says_what_to_do():
    x = leaf()
    y = (x * x).sum()
    y.backward()
    with pytest.raises(GradError) as error:
        y.backward()
    text = render(error.value).splitlines()
    assert text[:2] == [
        "GradError: backward: the values saved by mul were freed by an earlier backward",
        "  hint: give retain_graph=True to the first backward to walk the graph again",
    ]


def test_retain_graph_lets_it_be_walked_again():
    x = leaf()
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    close(x.grad, 4 * X)


def test_a_graph_that_saved_nothing_can_be_walked_again():
    def run(m):
        x = leaf(m)
        y = (x + 1).sum()
        y.backward()
        y.backward()
        return [x.grad]

    both(run)


# Hooks


def test_hooks_run_in_order_once_on_the_whole_gradient_and_may_replace_it():
    def run(m, leafy):
        calls = []
        x = leaf(m)
        h = x if leafy else x * 1
        h.register_hook(lambda g: calls.append(g.sum().item()))
        h.register_hook(lambda g: g * 2)
        h.register_hook(lambda g: calls.append(g.sum().item()))
        (h * 3 + h * 4).sum().backward()
        return calls, x.grad

    for leafy in (True, False):
        mine, theirs = run(mg, leafy), run(torch, leafy)
        assert mine[0] == pytest.approx(theirs[0]) == [42.0, 84.0]
        close(mine[1], theirs[1])


def test_removed_hooks_do_not_run():
    x, calls = leaf(), []
    kept = x.register_hook(lambda g: calls.append("kept"))
    x.register_hook(lambda g: calls.append("gone")).remove()
    with x.register_hook(lambda g: calls.append("gone")):
        pass
    x.sum().backward()
    assert calls == ["kept"]
    kept.remove()
    kept.remove()
    x.sum().backward()
    assert calls == ["kept"]


def test_one_function_registered_twice_runs_twice_and_is_removed_once():
    x, calls = leaf(), []
    hook = lambda g: calls.append(1)  # noqa: E731
    first = x.register_hook(hook)
    x.register_hook(hook)
    x.sum().backward()
    first.remove()
    x.sum().backward()
    assert len(calls) == 3


def test_retain_grad_sees_the_gradient_after_all_hooks():
    def run(m):
        x = leaf(m)
        h = x * 2
        h.retain_grad()
        h.register_hook(lambda g: g * 10)
        (h * h).sum().backward()
        return [h.grad, x.grad]

    both(run)
    assert not leaf().retains_grad


def test_retain_grad_of_a_tensor_without_gradient_is_an_error():
    with pytest.raises(GradError, match="retain_grad: the tensor requires no gradient"):
        mg.tensor(X).retain_grad()


def test_hooks_of_nodes():
    def run(m):
        x, seen = leaf(m), []
        h = x * 2
        h.grad_fn.register_prehook(lambda gs: (gs[0] * 3,))
        h.grad_fn.register_hook(lambda gi, go: seen.append((gi[0].sum(), go[0].sum())))
        h.sum().backward()
        return [x.grad, *seen[0]]

    both(run)


def test_a_hook_after_accumulation_sees_grad():
    x, seen = leaf(), []
    handle = x.register_post_accumulate_grad_hook(lambda t: seen.append(t.grad.sum().item()))
    (x * 2).sum().backward()
    (x * 2).sum().backward()
    handle.remove()
    (x * 2).sum().backward()
    assert seen == [12.0, 24.0]


def test_an_error_in_a_hook_leaves_the_modes_alone():
    x = leaf()
    x.register_hook(lambda g: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        x.sum().backward()
    assert mg.is_grad_enabled()


def test_a_hook_on_a_tensor_without_gradient_is_an_error():
    with pytest.raises(GradError, match="register_hook: the tensor requires no gradient"):
        mg.tensor(X).register_hook(lambda g: g)


# Nodes


def test_next_functions_lead_to_the_leaves():
    x, w = leaf(), leaf()
    y = (x * w) + 1
    assert y.grad_fn.name() == "AddBackward"
    (product, k), constant = y.grad_fn.next_functions
    assert product.name() == "MulBackward" and k == 0 and constant == (None, 0)
    (to_x, _), (to_w, _) = product.next_functions
    assert to_x.name() == "AccumulateGrad" and to_x.variable is x and to_w.variable is w
    assert repr(y.grad_fn) == "<AddBackward>"
    assert x.grad_fn is None and x.is_leaf and not y.is_leaf


def test_outputs_that_have_no_gradient_are_off_the_tape():
    x = leaf()
    for y in (x > 0, x.to(mg.int64), x.argmax(), x.detach()):
        assert not y.requires_grad and y.grad_fn is None
    values, indices = mg.sort(x, dim=0)
    assert values.requires_grad and not indices.requires_grad


def test_conversions_convert_gradients_back():
    x = mg.tensor(X.astype(np.float32), requires_grad=True)
    (x.to(mg.float64) * 2).sum().backward()
    assert x.grad.dtype is mg.float32 and (x.grad == 2).all()


def test_integers_stop_gradients_but_not_those_of_others():
    x, k = leaf(), mg.tensor([[1, 2]])
    (x * k).sum().backward()
    close(x.grad, np.broadcast_to([[1.0, 2.0]], (3, 2)))


def test_tensors_without_elements():
    def run(m):
        x = m.zeros(0, 3, dtype=m.float64, requires_grad=True)
        (x.sum(0) * 2 + x.prod()).sum().backward()
        return [x.grad]

    both(run)


@pytest.mark.parametrize("shapes", [((3, 2), (2,)), ((3, 1), (1, 2)), ((), (3, 2)), ((1, 1), (2,))])
def test_broadcasting_sums_gradients(shapes):
    def run(m):
        a, b = (m.tensor(np.random.default_rng(5).random(s), requires_grad=True) for s in shapes)
        (a * b + a / b - m.maximum(a, b)).pow(2).sum().backward()
        return [a.grad, b.grad]

    both(run)


# In place


INPLACE = {
    "a scaled sum": lambda m, x: (x + 1).mul_(3),
    "through a view": lambda m, x: _then(x * 2, lambda h: h[0].mul_(5)),
    "a view follows its base": lambda m, x: _view_follows(x),
    "through a view of a view": lambda m, x: _then(x * 2, lambda h: h.T[1][1:].add_(x[:2, 0])),
    "fill with zeros": lambda m, x: _then(x * 2, lambda h: h[1].zero_()),
    "a constant buffer becomes part of the graph": lambda m, x: _then(
        m.zeros(3, 2, dtype=m.float64), lambda b: b.copy_(x)
    ),
    "rows of a buffer": lambda m, x: _then(
        m.zeros(3, 2, dtype=m.float64), lambda b: [b[k].copy_(x[k] * k) for k in range(3)]
    ),
    "assignment": lambda m, x: _then(x * 1, lambda h: h.__setitem__((slice(1, 3), 0), x[0] * 2)),
    "chain": lambda m, x: (x * 1).add_(1).mul_(x).sub_(2),
    "relu": lambda m, x: (x * 2).relu_(),
    "detached part": lambda m, x: _then(x * 2, lambda h: h.detach()[0].mul_(0)) * 3,
}  # fmt: skip


def _then(h, write):
    write(h)
    return h


def _view_follows(x):
    h = x * 2
    row = h[1]
    h.mul_(3)
    return row * row


@pytest.mark.parametrize("name", INPLACE)
def test_gradients_of_in_place_operations(name):
    def run(m):
        x = leaf(m)
        y = INPLACE[name](m, x)
        (y * y).sum().backward()
        return [y, x.grad]

    both(run)


def test_a_product_with_itself_in_place_keeps_what_it_saved():
    x = leaf()
    h = x * 2
    h.mul_(h).sum().backward()  # PyTorch refuses this
    close(x.grad, 8 * X)


def test_views_under_no_grad_keep_their_place_on_the_tape():
    def run(m):
        x = leaf(m)
        h = x * 1
        v = h[0]
        with m.no_grad():
            h.mul_(2)
            v.add_(1)
        assert v.requires_grad
        (v * x[1]).sum().backward()
        return [x.grad]

    both(run)


def test_a_saved_value_that_was_overwritten_is_named():
    x = leaf()
    h = x.exp()
    y = h * 2
    h.add_(1)
    with pytest.raises(GradError) as error:
        y.sum().backward()
    text = render(error.value).splitlines()
    assert text[:2] == [
        "GradError: backward: a value that exp needs was changed in place: float64 of shape "
        "(3, 2) is at version 1, version 0 was used",
        "  hint: write to a clone(), or run under mg.autograd.set_detect_anomaly(True) to see the "
        "forward line",
    ]


def test_a_parameter_overwritten_between_forward_and_backward_is_found_out():
    x, w = leaf(), leaf()
    y = (x * w).sum()
    with mg.no_grad():
        w.add_(1)
    with pytest.raises(GradError, match="a value that mul needs was changed in place"):
        y.backward()


def test_an_overwritten_value_that_no_gradient_reads_does_no_harm():
    def run(m):
        x, w = m.tensor(X), leaf(m)
        y = (x * w).sum()
        with m.no_grad():
            w.add_(1)
        y.backward()
        return [w.grad]

    both(run)


def test_leaves_that_require_gradients_cannot_be_changed_in_place():
    x = leaf()
    for write in (lambda: x.add_(1), lambda: x[0].zero_(), lambda: x.__setitem__(0, 1.0)):
        with pytest.raises(GradError) as error:
            write()
        assert "leaf that requires a gradient cannot be changed in place" in str(error.value)
        assert "hint: wrap the update in `with mg.no_grad():`" in render(error.value)
    close(x, X)


# Depth and memory


def test_a_chain_of_many_operations_walks_back_and_dies_without_recursion():
    x = mg.tensor(1.0, requires_grad=True)
    y = x
    for _ in range(20_000):
        y = y + 0.0
    assert sys.getrecursionlimit() < 20_000
    y.backward()
    assert x.grad.item() == 1
    del y
    y = x
    for _ in range(20_000):
        y = y * 1.0
    (g,) = mg.autograd.grad(y, x)
    assert g.item() == 1
    y = x
    for _ in range(20_000):
        y = y + 0.0
    del y


def test_nothing_is_kept_by_reference_cycles():
    gc.collect()
    gc.disable()
    try:
        x = leaf()
        h = x.exp() * x
        h.retain_grad()
        v = h[0].T
        y = (h.tanh() + v).sum()
        payloads = [weakref.ref(t._payload) for t in (h, y)]
        nodes = [weakref.ref(t.grad_fn) for t in (h, v, y)]
        y.backward()
        del h, v, y
        assert [r() for r in payloads + nodes] == [None] * 5
        (a,) = mg.autograd.grad((x.exp() * x).sum(), x, create_graph=True)
        made = weakref.ref(a._payload)
        a.sum().backward()
        del a
        assert made() is None
    finally:
        gc.enable()


def test_backward_frees_saved_values():
    gc.disable()
    try:
        x = leaf()
        h = x.exp()
        kept = weakref.ref(h._payload)
        y = (h * h).sum()
        del h
        assert kept() is not None
        y.backward()
        assert kept() is None
        assert y.grad_fn is not None
    finally:
        gc.enable()


def test_constant_inputs_are_not_kept_where_no_gradient_reads_them():
    x, big = leaf(), mg.tensor(X)
    kept = weakref.ref(big._payload)
    y = x + big
    z = mg.where(y > 0, y, big)
    del big
    gc.collect()
    assert kept() is None
    z.sum().backward()


def test_transforms_leave_no_reference_cycles():
    gc.collect()
    gc.disable()
    try:
        kept = []

        def f(a):
            h = a.exp()
            kept.append(weakref.ref(h))
            return (h * a).sum()

        x = mg.tensor(X)
        mg.func.grad(f)(x)
        mg.vmap(f)(x)
        mg.vmap(mg.func.grad(f))(x)
        mg.func.jvp(f, (x,), (x,))
        mg.func.hessian(f)(x)
        assert [r() for r in kept] == [None] * len(kept)
    finally:
        gc.enable()


# Modes


def test_no_grad_belongs_to_one_thread():
    seen = {}

    def other():
        seen["enabled"] = mg.is_grad_enabled()
        x = leaf()
        (x * x).sum().backward()
        seen["grad"] = x.grad

    with mg.no_grad():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert seen["enabled"]
    close(seen["grad"], 2 * X)


def test_backward_in_several_threads_at_once():
    w = leaf()
    results, errors = [None] * 4, []

    def work(k):
        try:
            for _ in range(20):
                x = leaf()
                (g,) = mg.autograd.grad(((x * w).tanh() * (k + 1)).sum(), x)
                results[k] = g
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors
    for k in range(4):
        close(results[k], (k + 1) * X * (1 - np.tanh(X * X) ** 2))


def test_a_tensor_of_inference_mode_cannot_enter_a_recorded_computation():
    with mg.inference_mode():
        made = mg.tensor(X) * 2
    x = leaf()
    assert (x + made).requires_grad  # nothing is kept for a sum
    with pytest.raises(GradError) as error:
        x * made
    assert str(error.value) == "a tensor made in inference_mode cannot be kept for a gradient"
    (x * made.clone()).sum().backward()
    close(x.grad, 2 * X)


def test_one_no_grad_object_can_be_entered_twice():
    off = mg.no_grad()
    with off:
        with off:
            assert not mg.is_grad_enabled()
        assert not mg.is_grad_enabled()
    assert mg.is_grad_enabled()


def test_set_grad_enabled_as_call_and_as_context():
    with mg.set_grad_enabled(False):
        assert not mg.is_grad_enabled()
    assert mg.is_grad_enabled()
    mg.set_grad_enabled(False)
    assert not mg.is_grad_enabled()
    mg.set_grad_enabled(True)
    with mg.inference_mode(), mg.enable_grad():
        assert mg.is_grad_enabled()
    assert mg.is_grad_enabled() and not mg.is_inference_mode_enabled()


def test_generators_under_no_grad_leave_their_consumer_alone():
    @mg.no_grad()
    def steps():
        got = []
        for k in range(3):
            assert not mg.is_grad_enabled()
            try:
                got.append((yield k))
            except KeyError:
                got.append("caught")
        return got

    def consumer():
        results.append((yield from steps()))

    results = []
    generator = consumer()
    assert next(generator) == 0 and mg.is_grad_enabled()
    assert generator.send("a") == 1 and mg.is_grad_enabled()
    assert generator.throw(KeyError()) == 2
    assert list(generator) == []
    assert results == [["a", "caught", None]] and mg.is_grad_enabled()
    assert list(steps()) == [0, 1, 2]


def test_grad_for_a_batch_of_cotangents():
    x = leaf()
    y = x.exp()
    cotangents = mg.tensor(np.random.default_rng(3).random((4, 3, 2)))
    (g,) = mg.autograd.grad(y, x, cotangents, is_grads_batched=True)
    close(g, cotangents.numpy() * np.exp(X))


# Anomaly mode


def test_anomaly_mode_names_the_line_of_the_forward():
    x = mg.tensor([-1.0, 4.0], requires_grad=True)
    with mg.autograd.detect_anomaly():
        y = mg.sqrt(x)
        with pytest.raises(GradError) as error:
            y.sum().backward()
    line = test_anomaly_mode_names_the_line_of_the_forward.__code__.co_firstlineno + 3
    assert render(error.value) == (
        "GradError: backward: the gradient of sqrt for its input 0 has nan\n"
        f"  at test_tape.py:{line} in test_anomaly_mode_names_the_line_of_the_forward: "
        "y = mg.sqrt(x)"
    )


def test_anomaly_mode_ends_with_its_block():
    with mg.autograd.set_detect_anomaly(True):
        assert (leaf() * 2).grad_fn.place is not None
    assert (leaf() * 2).grad_fn.place is None


# Errors


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda x: (x * x).backward(),
            GradError,
            "backward: a gradient is needed for an output of shape (3, 2); only one with a single "
            "element starts from 1",
        ),
        (
            lambda x: (x * x).backward(mg.ones(3)),
            ShapeError,
            "backward: gradient has shape (3,), the output has (3, 2)",
        ),
        (
            lambda x: (x * x).backward(3.0),
            ArgumentTypeError,
            "backward: gradient must be a tensor, got float",
        ),
        (
            lambda x: mg.tensor(1.0).backward(),
            GradError,
            "backward: the tensor does not require a gradient and was not made from one that does",
        ),
        (
            lambda x: mg.autograd.backward([x.sum()], [None, None]),
            ArgumentError,
            "backward: 1 outputs but 2 gradients",
        ),
        (
            lambda x: x.sum().backward(inputs=[]),
            ArgumentError,
            "backward: inputs must not be empty",
        ),
        (
            lambda x: mg.autograd.grad(x.sum(), mg.tensor(1.0)),
            GradError,
            "grad: input 0 of shape () requires no gradient",
        ),
        (
            lambda x: mg.autograd.grad(x.sum(), leaf()),
            GradError,
            "grad: the outputs do not depend on input 0 of shape (3, 2)",
        ),
        (
            lambda x: mg.autograd.grad(x.sum(), 3.0),
            ArgumentTypeError,
            "grad: input 0 must be a tensor, got float",
        ),
        (
            lambda x: mg.autograd.grad(3.0, x),
            ArgumentTypeError,
            "grad: outputs must be tensors, got float",
        ),
    ],
)
def test_errors_say_what_was_expected(call, kind, message):
    with pytest.raises(kind) as error:
        call(leaf())
    assert str(error.value) == message


# gradcheck


def test_gradcheck_accepts_right_and_names_wrong_gradients():
    class Wrong(mg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 3

    x = leaf()
    assert mg.autograd.gradcheck(lambda a: (a.tanh(), a * a), x)
    assert mg.autograd.gradgradcheck(lambda a: a.tanh() * a, x)
    assert not mg.autograd.gradcheck(Wrong.apply, x, raise_exception=False)
    with pytest.raises(GradError, match="the Jacobian of output 0 for input 0 is wrong"):
        mg.autograd.gradcheck(Wrong.apply, x)
