"""Per-thread modes: gradient recording, inference, anomaly detection, the trace and vmap in
progress."""

from __future__ import annotations

import functools
import threading
from typing import Any


class _Modes(threading.local):
    grad: bool = True
    inference: bool = False
    anomaly: bool = False
    trace: Any = None  # the Trace that records, or None (core/tracing.py)
    vmap: Any = None  # the innermost Level of vmap, or None (transform/vmap.py)
    recorder: Any = None  # a list that new nodes of the tape are appended to, or None


modes = _Modes()


class _SetGrad:
    """Context manager and decorator that sets gradient recording for its body."""

    value = True

    def __enter__(self) -> None:
        self.previous = modes.grad
        modes.grad = self.value

    def __exit__(self, *exc: Any) -> None:
        modes.grad = self.previous

    def __call__(self, function: Any) -> Any:
        make = self._fresh

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with make():
                return function(*args, **kwargs)

        return wrapped

    def _fresh(self) -> _SetGrad:
        return type(self)()

    def __new__(cls, function: Any = None) -> Any:
        self = super().__new__(cls)
        return self(function) if callable(function) else self


class no_grad(_SetGrad):
    """Do not record gradients in the body; also a decorator, as torch.no_grad.

    >>> with no_grad():
    ...     is_grad_enabled()
    False
    """

    value = False


class enable_grad(_SetGrad):
    """Record gradients in the body, inside no_grad too."""

    value = True


class set_grad_enabled(_SetGrad):
    """Record gradients or not, from here on or (as a context manager) for a body."""

    def __new__(cls, mode: bool) -> Any:
        return object.__new__(cls)

    def __init__(self, mode: bool):
        self.value = bool(mode)
        self.previous = modes.grad
        modes.grad = self.value

    def __enter__(self) -> None:
        modes.grad = self.value

    def _fresh(self) -> _SetGrad:
        return type(self)(self.value)

    def __call__(self, function: Any) -> Any:
        modes.grad = self.previous
        return super().__call__(function)


class inference_mode(_SetGrad):
    """no_grad whose results can never enter a recorded computation, as torch.inference_mode."""

    def __new__(cls, mode: Any = True) -> Any:
        self = object.__new__(cls)
        self.active = True if callable(mode) else bool(mode)
        return self(mode) if callable(mode) else self

    def __init__(self, mode: Any = True):
        pass

    def __enter__(self) -> None:
        self.before = (modes.grad, modes.inference)
        if self.active:
            modes.grad, modes.inference = False, True

    def __exit__(self, *exc: Any) -> None:
        modes.grad, modes.inference = self.before

    def _fresh(self) -> _SetGrad:
        return type(self)(self.active)


def is_grad_enabled() -> bool:
    """Whether operations are recorded for gradients now."""
    return modes.grad


def is_inference_mode_enabled() -> bool:
    """Whether inference_mode is active now."""
    return modes.inference
