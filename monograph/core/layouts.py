"""Layout and memory-format names that PyTorch programs pass around.

Tensors here are strided. A memory format is a hint about order in memory; results do not depend on
it, and it is accepted wherever PyTorch takes one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from .errors import ArgumentError, ArgumentTypeError

# Arguments of functions that make tensors which say where and how these lie in memory.
MEMORY = frozenset({"layout", "pin_memory", "memory_format"})


class layout:
    """How elements are kept; only `strided` tensors exist."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name

    def __repr__(self) -> str:
        return f"monograph.{self.name}"


class memory_format(layout):
    """An order of dimensions in memory."""

    __slots__ = ()


strided = layout("strided")
contiguous_format = memory_format("contiguous_format")
preserve_format = memory_format("preserve_format")
channels_last = memory_format("channels_last")
channels_last_3d = memory_format("channels_last_3d")


def without_memory(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """`options` of the function `name` without those in MEMORY, which change nothing here."""
    kind = options.get("layout")
    if kind is not None and not isinstance(kind, layout):
        raise ArgumentTypeError(f"{name}: layout must be a layout, got {type(kind).__name__}")
    if kind is not None and kind is not strided:
        raise ArgumentError(f"{name}: layout must be strided, got {kind!r}")
    order = options.get("memory_format")
    if order is not None and not isinstance(order, memory_format):
        raise ArgumentTypeError(
            f"{name}: memory_format must be a memory format, got {type(order).__name__}"
        )
    return {k: v for k, v in options.items() if k not in MEMORY}


def in_any_memory(f: Callable) -> Callable:
    """`f` that also takes the arguments in MEMORY."""

    @functools.wraps(f)
    def taking(*args: Any, **kwargs: Any) -> Any:
        if kwargs and not MEMORY.isdisjoint(kwargs):
            kwargs = without_memory(f.__name__.lstrip("_"), kwargs)
        return f(*args, **kwargs)

    return taking
