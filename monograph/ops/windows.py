"""Arithmetic of sliding windows, shared by convolution and pooling: sizes, arguments, patches."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.errors import ArgumentError, ShapeError
from ..core.shape import Shape, as_index


def per_dim(name: str, argument: str, value: Any, n: int, least: int = 1) -> Shape:
    """`value` as n ints of at least `least`: an int stands for all."""
    if isinstance(value, (tuple, list)):
        if len(value) not in (1, n):
            raise ArgumentError(
                f"{name}: {argument} must be an int or {n} ints, got {tuple(value)}"
            )
        sizes = tuple(as_index(name, argument, v) for v in value)
        sizes = sizes * n if len(sizes) == 1 else sizes
    else:
        sizes = (as_index(name, argument, value),) * n
    if min(sizes) < least:
        shown = value if not isinstance(value, (tuple, list)) else tuple(value)
        raise ArgumentError(f"{name}: {argument} must be at least {least}, got {shown}")
    return sizes


def window_count(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """How many windows fit into `size` elements padded on both sides (0 or fewer: none)."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def window_counts(
    sizes: Shape, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape
) -> Shape:
    return tuple(window_count(*t) for t in zip(sizes, kernel, stride, padding, dilation))


def counts_up(sizes: Shape, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape) -> Shape:
    """window_counts with ceil_mode: a last window may hang over the end, but not begin there."""
    counts = []
    for size, k, s, p, d in zip(sizes, kernel, stride, padding, dilation):
        n = -(-(size + 2 * p - d * (k - 1) - 1) // s) + 1
        counts.append(n - 1 if (n - 1) * s >= size + p else n)
    return tuple(counts)


def checked_counts(name: str, counts: Shape, x: Any, kernel: Shape, padding: Shape) -> Shape:
    """`counts`, or ShapeError where a window is larger than the padded input."""
    if min(counts, default=1) < 1:
        raise ShapeError(
            f"{name}: windows of {kernel} do not fit into input {tuple(x.shape)} with padding "
            f"{padding}"
        )
    return counts


def padded(x: Any, low: Shape, high: Shape, value: Any = 0) -> Any:
    """x with its last axes surrounded by `value`; x itself where nothing is added."""
    if not any(low) and not any(high):
        return x
    lead = x.ndim - len(low)
    sizes = tuple(lo + n + hi for lo, n, hi in zip(low, x.shape[lead:], high))
    out: Any = np.full((*x.shape[:lead], *sizes), value, x.dtype)
    out[(..., *(slice(lo, lo + n) for lo, n in zip(low, x.shape[lead:])))] = x
    return out


def tap_slices(tap: Shape, counts: Shape, stride: Shape, dilation: Shape) -> tuple[slice, ...]:
    """The elements of the padded input that element `tap` of the windows sees, window by window."""
    return tuple(
        slice(t * d, t * d + (n - 1) * s + 1, s)
        for t, n, s, d in zip(tap, counts, stride, dilation)
    )


def extents(counts: Shape, kernel: Shape, stride: Shape, dilation: Shape) -> Shape:
    """How many elements of the padded input the windows reach."""
    return tuple(
        (n - 1) * s + (k - 1) * d + 1 for n, k, s, d in zip(counts, kernel, stride, dilation)
    )
