"""no_grad and its relatives: context managers, decorators, nesting, threads."""

import gc
import threading

import pytest

import monograph as mg
from monograph.core.errors import GradError


def test_no_grad_as_context_and_decorator():
    x = mg.ones(2, requires_grad=True)
    with mg.no_grad():
        assert not mg.is_grad_enabled() and not (x * 2).requires_grad
        with mg.enable_grad():
            assert (x * 2).requires_grad
        assert not mg.is_grad_enabled()

    @mg.no_grad()
    def f():
        return x * 2

    @mg.no_grad
    def g():
        return x * 2

    assert not f().requires_grad and not g().requires_grad and mg.is_grad_enabled()


def test_mode_comes_back_after_an_error():
    with pytest.raises(RuntimeError):
        with mg.no_grad():
            raise RuntimeError
    assert mg.is_grad_enabled()


def test_set_grad_enabled():
    with mg.set_grad_enabled(False):
        assert not mg.is_grad_enabled()
    assert mg.is_grad_enabled()
    mg.set_grad_enabled(False)
    assert not mg.is_grad_enabled()
    mg.set_grad_enabled(True)


def test_inference_tensors_do_not_enter_a_recording():
    with mg.inference_mode():
        assert mg.is_inference_mode_enabled()
        y = mg.ones(2)
    assert not mg.is_inference_mode_enabled()
    with pytest.raises(GradError, match="inference_mode"):
        y.add_(1)


def test_modes_belong_to_their_thread():
    seen = []
    with mg.no_grad():
        worker = threading.Thread(target=lambda: seen.append(mg.is_grad_enabled()))
        worker.start()
        worker.join()
    assert seen == [True]


def test_a_capture_collects_no_garbage_and_leaves_the_collector_as_it_was():
    seen = []

    @mg.jit
    def f(x):
        seen.append(gc.isenabled())
        if len(x) == 3:
            raise ValueError("three")
        return x + 1

    f(mg.ones(2))
    assert gc.isenabled()
    with pytest.raises(ValueError, match="three"):
        f(mg.ones(3))
    assert gc.isenabled()
    gc.disable()
    try:
        f(mg.ones(2, 2))
        assert not gc.isenabled()
    finally:
        gc.enable()
    assert not any(seen)
