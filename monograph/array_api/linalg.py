"""The linear algebra extension of the array API standard: monograph.linalg, with its own trace."""

from __future__ import annotations

import sys
from typing import Any

from ..tensor import Tensor
from . import sum

__all__ = ["trace"]

_main = sys.modules[__name__.split(".")[0]]


def trace(x: Tensor, /, *, offset: int = 0, dtype: Any = None) -> Tensor:
    """Sums of a diagonal of the last two dimensions, in the dtype that sum gives."""
    return sum(_main.linalg.diagonal(x, offset=offset), axis=-1, dtype=dtype)


def __getattr__(name: str) -> Any:
    return getattr(_main.linalg, name)


def __dir__() -> list[str]:
    return sorted({*dir(_main.linalg), *__all__})
