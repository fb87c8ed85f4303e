"""Per-thread modes: gradient recording, inference, anomaly detection, the trace and vmap in
progress."""

from __future__ import annotations

import functools
import gc
import inspect
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Modes(threading.local):
    grad: bool = True
    inference: bool = False
    severed: bool = False  # no_grad as the user asked for it (grad is also off inside a backward)
    anomaly: bool = False
    check_nan: bool = True  # whether that stops at the first nan
    trace: Any = None  # the Trace that records, or None (core/tracing.py)
    vmap: Any = None  # the innermost Level of vmap, or None (transform/vmap.py)
    as_of: Any = None  # the number of the tape that a recomputation goes back to, or None
    recorder: Any = None  # a list that weak references to new nodes are appended to, or None
    ends: Any = None  # what the backward in progress is to call at its end, or None
    steps: Any = None  # what notes how arrays are computed now, or None (transform/replay.py)
    saved_hooks: Any = None  # (pack, unpack) for values that nodes keep, or None (tape.py)
    autocast: Any = None  # the DType that autocast casts to, or None (ops/autocasting.py)
    autotune: bool | None = None  # whether schedules are measured; None: as the environment says
    casts: dict | None = None  # what autocast has cast, or None where that is not remembered


modes = _Modes()


class _SetGrad:
    """Context manager and decorator that sets gradient recording for its body."""

    value = True
    outer: tuple[Any, ...] = ()  # what to go back to, for each `with` that this object is in

    def __enter__(self) -> None:
        self.outer = (*self.outer, (modes.grad, modes.severed))
        modes.grad, modes.severed = self.value, not self.value

    def __exit__(self, *exc: Any) -> None:
        *rest, (modes.grad, modes.severed) = self.outer
        self.outer = tuple(rest)

    def __call__(self, function: Any) -> Any:
        make = self._fresh
        if inspect.isgeneratorfunction(function):
            return _each_step_in(make, function)

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


def _each_step_in(make: Any, function: Any) -> Any:
    """A generator function whose body runs in make(), and its consumer outside of it."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        generator = function(*args, **kwargs)
        step, given = generator.send, None
        try:
            while True:
                with make():
                    try:
                        made = step(given)
                    except StopIteration as stop:
                        return stop.value
                try:
                    step, given = generator.send, (yield made)
                except GeneratorExit:
                    raise
                except BaseException as error:
                    step, given = generator.throw, error
        finally:
            with make():
                generator.close()

    return wrapped


class no_grad(_SetGrad):
    """Do not record gradients in the body; also a decorator, as torch.no_grad.

    >>> with no_grad():
    ...     is_grad_enabled()
    False
    """

    value = False


@contextmanager
def uncast() -> Iterator[None]:
    """Automatic casting off for the body: rules of operations get dtypes that fit already."""
    before, modes.autocast = modes.autocast, None
    try:
        yield
    finally:
        modes.autocast = before


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage collection for the body, which makes many objects that stay.

    The collector would walk them all again whenever there are a quarter more: a tenth of the time
    of a compilation.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


@contextmanager
def untaped() -> Iterator[None]:
    """Leave nothing on the tape for the body; the caller puts there what belongs there."""
    before, modes.grad = modes.grad, False
    try:
        yield
    finally:
        modes.grad = before


class enable_grad(_SetGrad):
    """Record gradients in the body, inside no_grad too."""

    value = True


class set_grad_enabled(_SetGrad):
    """Record gradients or not, from here on or (as a context manager) for a body."""

    def __new__(cls, mode: bool) -> Any:
        return object.__new__(cls)

    def __init__(self, mode: bool):
        self.value = bool(mode)
        self.previous = modes.grad, modes.severed
        modes.grad, modes.severed = self.value, not self.value

    def __enter__(self) -> None:
        now = modes.grad, modes.severed
        self.outer = (*self.outer, now if self.outer else self.previous)
        modes.grad, modes.severed = self.value, not self.value

    def _fresh(self) -> _SetGrad:
        return type(self)(self.value)

    def __call__(self, function: Any) -> Any:
        modes.grad, modes.severed = self.previous
        return super().__call__(function)


class set_multithreading_enabled:
    """Accepted for PyTorch's sake: a backward runs in the thread that asks for it."""

    def __init__(self, mode: bool):
        self.mode = bool(mode)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: Any) -> None:
        pass


class inference_mode(_SetGrad):
    """no_grad whose results can never enter a recorded computation, as torch.inference_mode."""

    active: bool

    def __new__(cls, mode: Any = True) -> Any:
        self = object.__new__(cls)
        self.active = True if callable(mode) else bool(mode)
        return self(mode) if callable(mode) else self

    def __init__(self, mode: Any = True):
        pass

    def __enter__(self) -> None:
        self.outer = (*self.outer, (modes.grad, modes.severed, modes.inference))
        if self.active:
            modes.grad, modes.severed, modes.inference = False, True, True

    def __exit__(self, *exc: Any) -> None:
        *rest, (modes.grad, modes.severed, modes.inference) = self.outer
        self.outer = tuple(rest)

    def _fresh(self) -> _SetGrad:
        return type(self)(self.active)


def is_grad_enabled() -> bool:
    """Whether operations are recorded for gradients now."""
    return modes.grad


def is_inference_mode_enabled() -> bool:
    """Whether inference_mode is active now."""
    return modes.inference
