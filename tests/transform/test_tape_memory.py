"""The tape: depth, memory, modes, threads."""

import gc
import sys
import threading
import weakref

import numpy as np
import pytest
from tape_helpers import X, close, leaf

import monograph as mg
from monograph.core.errors import GradError

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
