"""Derivatives of sampled functions: `gradient`.

Source of the formulas: B. Fornberg, "Generation of finite difference formulas on arbitrarily spaced
grids", Math. Comp. 51, 1988.
"""

from __future__ import annotations

from typing import Any

from ..core.errors import ArgumentError, ShapeError
from ..core.shape import is_number, normalize_dims
from ..ir.op import is_value
from .align import as_operand, cast, public
from .arith import add, div, mul, neg, sub
from .batching import shape_of
from .joining import concat_values
from .movement import Reshape
from .shaping import slice_axis


@public
def gradient(input: Any, *, spacing: Any = 1, dim: Any = None, edge_order: int = 1) -> Any:
    """Slopes of sampled values along each of `dim` (None: all dimensions), by central differences.

    spacing     the distance of neighbours: a number, one number for each dimension, or a 1-d tensor
                of coordinates for each dimension
    edge_order  1 or 2: the order of the one-sided differences at both ends
    returns     a tuple of tensors in input's shape, one for each dimension

    >>> gradient(tensor([1.0, 2.0, 4.0, 8.0]))
    (tensor([1.0000, 1.5000, 3.0000, 4.0000]),)
    """
    x = as_operand("gradient", input)
    if edge_order not in (1, 2):
        raise ArgumentError(f"gradient: edge_order must be 1 or 2, got {edge_order}")
    axes = normalize_dims("gradient", dim, len(x.shape))
    if isinstance(dim, (tuple, list)):
        axes = tuple(d % len(x.shape) for d in dim)
    spacing = 1 if spacing is None else spacing
    several = isinstance(spacing, (tuple, list))
    steps = list(spacing) if several else [spacing] * len(axes)
    if len(steps) != len(axes):
        raise ArgumentError(
            f"gradient: spacing must be given for {len(axes)} dimensions, got {len(steps)}"
        )
    return tuple(_slope(x, axis, step, edge_order) for axis, step in zip(axes, steps))


def _slope(x: Any, axis: int, step: Any, order: int) -> Any:
    n = x.shape[axis]
    if n < order + 1:
        raise ShapeError(
            f"gradient: dimension {axis} of {shape_of(x)} needs at least {order + 1} elements"
        )
    if is_value(step) and not is_number(step) and step.shape:
        if shape_of(step) != (n,):
            raise ShapeError(
                f"gradient: coordinates of shape {shape_of(step)} for a dimension of size {n}"
            )
        line = Reshape(tuple(n if a == axis else 1 for a in range(len(x.shape))))(step)
        gaps: Any = sub(slice_axis(line, axis, 1, n), slice_axis(line, axis, 0, n - 1))
    else:
        gaps = step

    def at(k: int) -> Any:
        return slice_axis(x, axis, k % n, k % n + 1)

    def gap(k: int) -> Any:
        if not _is_line(gaps):
            return gaps
        k = k % (n - 1)
        return slice_axis(gaps, axis, k, k + 1)

    parts = [_edge([at(0), at(1), at(2)] if order == 2 else [at(0), at(1)], [gap(0), gap(1)])]
    if n > 2:
        low, middle, high = (slice_axis(x, axis, k, n - 2 + k) for k in range(3))
        if _is_line(gaps):
            left, right = slice_axis(gaps, axis, 0, n - 2), slice_axis(gaps, axis, 1, n - 1)
            before = mul(div(sub(middle, low), left), right)
            after = mul(div(sub(high, middle), right), left)
            parts.append(div(add(before, after), add(left, right)))
        else:
            parts.append(div(div(sub(high, low), gaps), 2))
    ends = [at(-1), at(-2), at(-3)] if order == 2 else [at(-1), at(-2)]
    parts.append(neg(_edge(ends, [gap(-1), gap(-2)])))
    return concat_values(axis, [cast(p, parts[-1].dtype) for p in parts])


def _is_line(gaps: Any) -> bool:
    return is_value(gaps) and not is_number(gaps) and bool(gaps.shape)


def _edge(values: list[Any], gaps: list[Any]) -> Any:
    """The slope at the first of the values, away from which the gaps count."""
    first = div(sub(values[1], values[0]), gaps[0])
    if len(values) == 2:
        return first
    second = div(sub(values[2], values[1]), gaps[1])
    bend = div(sub(second, first), add(gaps[0], gaps[1]))
    return sub(first, mul(bend, gaps[0]))
