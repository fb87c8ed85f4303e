"""Attributes that are read and assigned while a function is captured.

Classes whose objects are looked at get a `__getattribute__` for as long as a capture goes on: what
it sees goes to the capture's State (state.py). Modules are always looked at, objects of a program's
classes once the function meets one.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

from ..core.modes import modes

_get = object.__getattribute__
ROOTS: list[type] = []  # nn.Module
_watched: dict[type, tuple[int, bool]] = {}  # how many captures watch it; whether writes are, too
_lock = threading.Lock()


def always_watched(cls: type) -> type:
    """Watch attributes of this class's objects in every capture."""
    ROOTS.append(cls)
    return cls


def is_root(x: Any) -> bool:
    """Whether x is an object of a class that is always watched."""
    return isinstance(x, tuple(ROOTS))


def watch(cls: type) -> bool:
    """Begin to watch a class; False if that cannot be done."""
    if cls.__getattribute__ not in (object.__getattribute__, _reading):
        return False  # it has one of its own
    with _lock:
        times, writes = _watched.get(cls, (0, False))
        if not times:
            try:
                writes = cls.__setattr__ in (object.__setattr__, _assigning)
                cls.__getattribute__ = _reading  # type: ignore[method-assign, assignment]
                if writes:
                    cls.__setattr__ = _assigning  # type: ignore[method-assign, assignment]
            except TypeError:  # a class of C
                return False
        _watched[cls] = times + 1, writes
        return True


def unwatch(cls: type) -> None:
    """One capture less watches it."""
    with _lock:
        times, writes = _watched.pop(cls)
        if times > 1:
            _watched[cls] = times - 1, writes
            return
        del cls.__getattribute__  # type: ignore[misc]
        if writes:
            del cls.__setattr__  # type: ignore[misc]


def _watching() -> Any:
    trace = modes.trace
    return None if trace is None else trace.state


def _reading(self: Any, name: str) -> Any:
    state = _watching()
    if state is None or state.closed:
        return _get(self, name)
    cls: Any = type(self)
    getter = _property_of(cls, name)
    if getter is not None:
        state.scan(getter)
    try:
        value = _get(self, name)
    except AttributeError:
        state.missing(self, name)
        raise
    return state.read(self, name, value)


@functools.lru_cache(4096)
def _property_of(cls: type, name: str) -> Callable | None:
    """What a property of a program's class computes."""
    for base in cls.__mro__:
        if name in vars(base):
            found = vars(base)[name]
            return found.fget if isinstance(found, property) else None
    return None


def _assigning(self: Any, name: str, value: Any) -> None:
    note_assignment(self, name, value)
    object.__setattr__(self, name, value)


def note_assignment(owner: Any, name: str, value: Any) -> None:
    """An attribute of a watched object is about to be assigned."""
    state = _watching()
    if state is not None and not state.closed:
        state.wrote(owner, name, value)


def vars_of(owner: Any) -> Any:
    """The attributes of an object, unseen; None if it has slots only."""
    try:
        return _get(owner, "__dict__")
    except AttributeError:
        return None
