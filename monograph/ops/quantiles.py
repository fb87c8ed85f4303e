"""Quantiles, of all elements or of those that are not nan.

Source of the interpolations: R. J. Hyndman and Y. Fan, "Sample quantiles in statistical packages",
The American Statistician 50, 1996.
"""

from __future__ import annotations

import math
from typing import Any

from ..core import dtype as dt
from ..core.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError
from ..core.shape import is_number, normalize_dim
from ..ir.op import Full, is_value
from .align import as_operand, cast, public
from .arith import eq, mul, ne, sub, where
from .batching import shape_of
from .gathering import gather
from .joining import stack
from .movement import Reshape
from .reduce import sum as sum_over
from .rounding import ceil, clamp, floor, lerp, round
from .shaping import flatten, select, slice_axis
from .sorting import Sort

_INTERPOLATIONS = ("linear", "lower", "higher", "midpoint", "nearest")


# -- quantiles -------------------------------------------------------------------------------------


def _levels(name: str, q: Any, dtype: Any) -> Any:
    """q as a 0-d or 1-d tensor in the input's dtype."""
    if is_value(q) and not is_number(q):
        if q.dtype is not dtype:
            raise DTypeError(f"{name}: q is {q.dtype.name}, input {dtype.name}; they must agree")
        if len(q.shape) > 1:
            raise ShapeError(f"{name}: q must be a number or 1-d, got shape {shape_of(q)}")
        return q
    if not is_number(q):
        raise ArgumentTypeError(f"{name}: q must be a number or a 1-d tensor, got {q!r}")
    if not 0 <= q <= 1:
        raise ArgumentError(f"{name}: q must be in [0, 1], got {q}")
    return Full((), dtype, float(q))()


def _quantile(
    name: str, input: Any, q: Any, dim: Any, keepdim: bool, interpolation: str, skip: bool
) -> Any:
    given = as_operand(name, input)
    if not given.dtype.is_floating_point:
        raise DTypeError(f"{name}: input must be floating, got {given.dtype.name}")
    if interpolation not in _INTERPOLATIONS:
        raise ArgumentError(
            f"{name}: interpolation must be one of {', '.join(_INTERPOLATIONS)}, "
            f"got {interpolation!r}"
        )
    levels = _levels(name, q, given.dtype)
    x = flatten(given) if dim is None else given
    axis = 0 if dim is None else normalize_dim(name, dim, len(x.shape))
    x = x if x.shape else Reshape((1,))(x)
    n = x.shape[axis]
    if n == 0:
        raise ShapeError(f"{name}: dimension {axis} of {shape_of(given)} is empty")
    ordered = Sort(axis, False)(x)[0]  # nan last
    last = slice_axis(ordered, axis, n - 1, n)
    if skip:
        valid = cast(sum_over(eq(x, x), axis, True), x.dtype)
        top = clamp(sub(valid, 1), min=0)
    else:
        top = where(ne(last, last), last, float(n - 1))  # nan makes the result nan
    several = len(levels.shape) == 1
    rows = [select(levels, 0, i) for i in range(levels.shape[0])] if several else [levels]
    outs = [_at(ordered, axis, mul(top, level), interpolation) for level in rows]
    if dim is None:
        shape: Any = (1,) * len(given.shape) if keepdim else ()
    elif keepdim and given.shape:
        shape = tuple(1 if a == axis else m for a, m in enumerate(x.shape))
    else:
        shape = tuple(m for a, m in enumerate(x.shape) if a != axis)
    outs = [Reshape(shape)(out) for out in outs]
    if not several:
        return outs[0]
    return stack(outs) if outs else Full((0, *shape), x.dtype, 0)()


def _at(ordered: Any, axis: int, position: Any, interpolation: str) -> Any:
    """The elements at fractional places; nan where the place is nan."""
    whole = eq(position, position)
    if interpolation == "lower":
        place = floor(position)
    elif interpolation == "higher":
        place = ceil(position)
    elif interpolation == "nearest":
        place = round(position)
    else:
        place = floor(position)
    place = clamp(place, 0.0, float(ordered.shape[axis] - 1))
    below = gather(ordered, axis, cast(where(whole, place, 0.0), dt.int64))
    if interpolation in ("lower", "higher", "nearest"):
        return where(whole, below, math.nan)
    n = ordered.shape[axis]
    next_place = clamp(ceil(position), max=float(n - 1))
    above = gather(ordered, axis, cast(where(whole, next_place, 0.0), dt.int64))
    weight: Any = sub(position, place)
    if interpolation == "midpoint":
        weight = 0.5
    return where(whole, lerp(below, above, weight), math.nan)


@public
def quantile(
    input: Any, q: Any, dim: int | None = None, keepdim: bool = False, *,
    interpolation: str = "linear",
) -> Any:  # fmt: skip
    """The q-quantiles along `dim` (None: of all elements); several q give a new first dimension.

    q              a number in [0, 1], or a tensor of them (0-d or 1-d, of input's dtype)
    interpolation  "linear", "lower", "higher", "midpoint" or "nearest", between two elements

    nan where there is one among the elements. The gradient reaches q as well.

    >>> quantile(tensor([0.0, 1.0, 2.0, 4.0]), 0.5)
    tensor(1.5000)
    """
    return _quantile("quantile", input, q, dim, keepdim, interpolation, False)


@public
def nanquantile(
    input: Any, q: Any, dim: int | None = None, keepdim: bool = False, *,
    interpolation: str = "linear",
) -> Any:  # fmt: skip
    """The q-quantiles of the elements that are not nan; see quantile. nan where all are.

    >>> nanquantile(tensor([0.0, mg.nan, 2.0]), 0.5)
    tensor(1.)
    """
    return _quantile("nanquantile", input, q, dim, keepdim, interpolation, True)
