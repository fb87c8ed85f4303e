"""Small helpers of vmap rules: bring the batch dimension to the front, or make one."""

from __future__ import annotations

from typing import Any

from ..core.shape import Shape
from .movement import Expand, Permute


def to_front(x: Any, dim: int) -> Any:
    """x with axis `dim` moved to the front."""
    if dim == 0:
        return x
    rest = [a for a in range(len(x.shape)) if a != dim]
    return Permute((dim, *rest))(x)


def batched(x: Any, dim: int | None, size: int) -> Any:
    """x with its batch axis in front; repeated `size` times along a new one where it has none."""
    if dim is not None:
        return to_front(x, dim)
    return Expand((size, *x.shape), (0,))(x)


def move_axis(x: Any, source: int, destination: int) -> Any:
    """x with axis `source` at position `destination`."""
    if source == destination:
        return x
    order = [a for a in range(len(x.shape)) if a != source]
    order.insert(destination, source)
    return Permute(tuple(order))(x)


def shape_of(x: Any) -> Shape:
    """x.shape as a plain tuple."""
    return tuple(x.shape)
