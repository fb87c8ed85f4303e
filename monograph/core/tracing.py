"""What code that may run inside a capture needs to say: four words, no-ops in eager mode.

`live_scalar` and `guarded` are how optimizers and modules read Python values that may change
between
calls of a captured function. The Trace itself lives in transform/trace.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from .modes import modes

T = TypeVar("T")


def is_tracing() -> bool:
    """Whether operations are being captured into a graph now."""
    return modes.trace is not None


@contextmanager
def concrete() -> Iterator[None]:
    """Suspend capture: creation ops in the body give real arrays that outlive the capture."""
    trace, modes.trace = modes.trace, None
    try:
        yield
    finally:
        modes.trace = trace


def live_scalar(getter: Callable[[], float]) -> Any:
    """getter() in eager mode; while capturing a 0-d float64 tensor that is read anew at each call
    and, as a Python number, takes the dtype of what it meets."""
    return getter() if modes.trace is None else modes.trace.live_scalar(getter)


def is_assigned(entries: dict, key: Any) -> bool:
    """Whether the function that is being captured has assigned this option of an optimizer."""
    state = getattr(modes.trace, "state", None)
    return state is not None and state.is_assigned(entries, key)


def guarded(getter: Callable[[], T], what: str) -> T:
    """getter(); while capturing also a guard: another value at a later call means a new capture."""
    if modes.trace is not None:
        modes.trace.guard(getter, what)
    return getter()


class Entry:
    """What stands in `entries` at `key`: a getter of which a capture may ask many at once."""

    __slots__ = ("entries", "key")

    def __init__(self, entries: dict, key: Any):
        self.entries, self.key = entries, key

    def __call__(self) -> Any:
        return self.entries[self.key]


def refused(what: str) -> None:
    """Nothing; but in a body of control flow an error, since `what` cannot be part of one."""
    if modes.trace is not None:
        modes.trace.refuse(what)
