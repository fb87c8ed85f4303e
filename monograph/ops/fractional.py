"""Pooling over windows at random places: fractional_max_pool2d and 3d.

Source: B. Graham, "Fractional max-pooling", 2014; the places as in PyTorch.
"""

from __future__ import annotations

from typing import Any

from ..core import dtype as dt
from ..core.errors import ArgumentError, ShapeError
from ..core.shape import numel
from .align import broadcast_to, cast, functional
from .arith import add, eq, mul, sub, where
from .batching import shape_of
from .gathering import gather
from .movement import Reshape
from .random import random_unit
from .reduce import max as max_along
from .rounding import trunc
from .shaping import select, slice_axis
from .triangular import Iota
from .windows import per_dim


def _starts(draws: Any, size: int, count: int, kernel: int) -> Any:
    """Where the `count` windows begin along one axis: (N, C, count) int64 from (N, C) draws."""
    lead = shape_of(draws)
    shape = (*lead, count)
    i = Iota(shape, draws.dtype, len(lead))()
    step = (size - kernel) / (count - 1) if count > 1 else 0.0
    draw = broadcast_to(Reshape((*lead, 1))(draws), shape)
    place = sub(trunc(mul(add(i, draw), step)), trunc(mul(draw, step)))
    last = Iota(shape, dt.int64, len(lead))()
    return where(eq(last, count - 1), size - kernel, cast(place, dt.int64))


def _fractional(
    n: int, input: Any, kernel_size: Any, output_size: Any, output_ratio: Any,
    return_indices: bool, draws: Any,
) -> Any:  # fmt: skip
    name = f"fractional_max_pool{n}d"
    if len(input.shape) not in (n + 1, n + 2):
        raise ShapeError(f"{name}: input must be (N, C, ...) or (C, ...), got {shape_of(input)}")
    if (output_size is None) == (output_ratio is None):
        raise ArgumentError(f"{name}: give output_size or output_ratio")
    x = input if len(input.shape) == n + 2 else Reshape((1, *input.shape))(input)
    size, kernel = shape_of(x)[2:], per_dim(name, "kernel_size", kernel_size, n)
    if output_size is None:
        ratios = output_ratio if isinstance(output_ratio, (tuple, list)) else (output_ratio,) * n
        output_size = tuple(int(m * r) for m, r in zip(size, ratios))
    counts = per_dim(name, "output_size", output_size, n)
    if any(c + k - 1 > m for c, k, m in zip(counts, kernel, size)):
        raise ShapeError(f"{name}: {counts} windows of {kernel} do not fit into {size}")
    lead = shape_of(x)[:2]
    if draws is None:
        draws = random_unit((*lead, n), x.dtype)
    if draws.shape[0] > lead[0]:  # as PyTorch: those of the first images
        draws = slice_axis(draws, 0, 0, lead[0])
    order = range(n) if n == 3 else (1, 0)  # PyTorch's draws for images are (x, y)
    # Flat places of all windows' elements: one axis after another.
    places: Any = None
    shape: tuple[int, ...] = (*lead, *counts, *kernel)
    for axis in range(n):
        start = _starts(select(draws, 2, order[axis]), size[axis], counts[axis], kernel[axis])
        spread = (*lead, *(c if a == axis else 1 for a, c in enumerate(counts)), *(1,) * n)
        tap = Iota(shape, dt.int64, 2 + n + axis)()
        here = add(broadcast_to(Reshape(spread)(start), shape), tap)
        places = here if places is None else add(mul(places, size[axis]), here)
    flat = Reshape((*lead, numel(size)))(x)
    index = Reshape((*lead, numel(shape[2:])))(places)
    rows = (*lead, *counts, numel(kernel))
    values, best = max_along(Reshape(rows)(gather(flat, 2, index)), -1)
    out = values if x is input else Reshape(shape_of(values)[1:])(values)
    if not return_indices:
        return out
    chosen = gather(Reshape(rows)(places), -1, Reshape((*shape_of(best), 1))(best))
    return out, Reshape(shape_of(out))(chosen)


@functional
def fractional_max_pool2d(
    input: Any, kernel_size: Any, output_size: Any = None, output_ratio: Any = None,
    return_indices: bool = False, _random_samples: Any = None,
) -> Any:  # fmt: skip
    """Maximum over windows at random places: (N, C, H, W) or (C, H, W) -> output_size.

    output_size     the number of windows along each axis; or
    output_ratio    that number over the size, each in (0, 1)
    return_indices  also where each maximum is, in the flat image
    _random_samples (N, C, 2) in [0, 1): what places the windows; drawn unless given
    """
    return _fractional(
        2, input, kernel_size, output_size, output_ratio, return_indices, _random_samples
    )


@functional
def fractional_max_pool3d(
    input: Any, kernel_size: Any, output_size: Any = None, output_ratio: Any = None,
    return_indices: bool = False, _random_samples: Any = None,
) -> Any:  # fmt: skip
    """fractional_max_pool2d for volumes (N, C, D, H, W); _random_samples is (N, C, 3)."""
    return _fractional(
        3, input, kernel_size, output_size, output_ratio, return_indices, _random_samples
    )
