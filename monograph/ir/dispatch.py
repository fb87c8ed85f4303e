"""The one door: every operation, from whatever layer, is `apply(op, *args)`.

Behind it stands a handler. The Tensor layer installs the usual one (run now, record, differentiate,
batch: monograph/api/interpreter.py); `handling` swaps it for a while, which is all that a test or a
tool needs to watch or replace execution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Handler = Callable[[Any, tuple], Any]


def _on_arrays(op: Any, args: tuple) -> Any:
    return op.reference(*args)


_handler: list[Handler] = [_on_arrays]


def apply(op: Any, *args: Any) -> Any:
    """Apply `op` to values and Python numbers; returns a value, or a tuple for several outputs."""
    return _handler[0](op, args)


def install(handler: Handler) -> None:
    """Make `handler` the one that serves the door."""
    _handler[0] = handler


def handler() -> Handler:
    """What serves the door now."""
    return _handler[0]


@contextmanager
def handling(handler: Handler) -> Iterator[None]:
    """Serve the door with `handler` for the body."""
    previous, _handler[0] = _handler[0], handler
    try:
        yield
    finally:
        _handler[0] = previous
