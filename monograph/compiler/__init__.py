"""Graphs to machine code; and the questions that torch.compiler answers for programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core.modes import modes


def is_compiling() -> bool:
    """Whether a function is being captured now."""
    return modes.trace is not None


is_dynamo_compiling = is_compiling


def is_exporting() -> bool:
    """False."""
    return False


def _as_it_is(fn: Any = None, **options: Any) -> Any:
    """`fn` itself, also as a decorator: nothing is compiled unless `jit` or `compile` is asked."""
    return (lambda f: f) if fn is None else fn


disable: Callable = _as_it_is
allow_in_graph: Callable = _as_it_is
assume_constant_result: Callable = _as_it_is


def reset() -> None:
    """Nothing: programs belong to the functions that they were compiled for."""


def cudagraph_mark_step_begin() -> None:
    """Nothing: there is no GPU."""


def list_backends(exclude_tags: Any = None) -> list[str]:
    """["monograph"]: there is one compiler."""
    return ["monograph"]
