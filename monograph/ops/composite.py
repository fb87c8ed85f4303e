"""Composed functions that eager mode may run as one compiled call.

`composite` marks a function of tensors and constants whose result depends on nothing else. It stays
what it is, a composition of primitives: captures, vmap and derivatives of derivatives see those.
The eager interpreter installs a runner (api/composites.py), which is offered each call first.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..core.modes import modes

PLAIN = object()  # what a runner answers where the composition itself must run

_runner: list[Callable[[Callable, tuple, dict], Any]] = []


def install(runner: Callable[[Callable, tuple, dict], Any]) -> None:
    """Offer calls of composites to runner(f, args, kwargs) -> the result, or PLAIN."""
    _runner[:] = [runner]


def offer(f: Callable, *args: Any) -> Any:
    """f(*args) as one compiled call, or PLAIN."""
    if modes.trace is not None or modes.vmap is not None or not _runner:
        return PLAIN
    return _runner[0](f, args, {})


def composed(f: Callable) -> Callable:
    """Mark f as `composite` does, but never for the compiler: small calls are done again alone."""
    f.is_never_compiled = True  # type: ignore[attr-defined]
    return composite(f)


def composite(f: Callable) -> Callable:
    """Mark f: all that it reads and writes are its arguments (tensors written in place, too)."""

    @functools.wraps(f)
    def offered(*args: Any, **kwargs: Any) -> Any:
        if modes.trace is None and modes.vmap is None and _runner:
            made = _runner[0](f, args, kwargs)
            if made is not PLAIN:
                return made
        return f(*args, **kwargs)

    return offered
