"""Shapes: broadcasting, dimension numbers, sizes. Shapes are tuples of ints throughout."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .errors import ArgumentError, ArgumentTypeError, IndexRangeError, ShapeError
from .symbolic import SymInt

Shape = tuple[int, ...]


class Size(tuple):
    """The shape of a tensor: a tuple of ints with `numel()`."""

    __slots__ = ()

    def numel(self) -> int:
        return math.prod(self)

    def __repr__(self) -> str:
        return tuple.__repr__(self)


def numel(shape: Iterable[int]) -> int:
    return math.prod(shape)


def as_shape(name: str, args: Sequence[Any]) -> Shape:
    """The shape given as f(2, 3), f((2, 3)) or f([2, 3])."""
    if len(args) == 1 and isinstance(args[0], (tuple, list)):
        args = args[0]
    return tuple(as_index(name, "size", a) for a in args)


def as_index(name: str, what: str, x: Any) -> int:
    """x as a Python int, or an error that names the operation and the argument."""
    if type(x) is int:
        return x
    if type(x) is SymInt:
        return x  # type: ignore[return-value]  # it passes for an int
    try:
        return x.__index__()
    except (AttributeError, TypeError):
        raise ArgumentTypeError(
            f"{name}: {what} must be an int, got {type(x).__name__} {x!r}"
        ) from None


def normalize_dim(name: str, dim: Any, ndim: int, extra: int = 0) -> int:
    """`dim` in [0, ndim): counts from the end where negative; a 0-d tensor takes 0 and -1."""
    dim = as_index(name, "dim", dim)
    bound = max(ndim + extra, 1)
    if not -bound <= dim < bound:
        raise IndexRangeError(
            f"{name}: dim must be in [{-bound}, {bound - 1}] for {ndim} dimensions, got {dim}"
        )
    return dim + bound if dim < 0 else dim


class NoAxes(tuple):
    """() where it means no dimension, as in `axis=()`; PyTorch's `dim=()` is all of them."""


def normalize_dims(name: str, dim: Any, ndim: int) -> tuple[int, ...]:
    """The axes meant by `dim`: None or () is all of them; an int, or several without repeats."""
    if dim is None:
        return tuple(range(ndim))
    if isinstance(dim, (tuple, list)):
        if not dim:
            return () if isinstance(dim, NoAxes) else tuple(range(ndim))
        dims = tuple(normalize_dim(name, d, ndim) for d in dim)
        if len(set(dims)) != len(dims):
            raise ArgumentError(f"{name}: dim {tuple(dim)} names the same dimension twice")
        return tuple(sorted(dims)) if ndim else ()
    axis = normalize_dim(name, dim, ndim)
    return (axis,) if ndim else ()


def broadcast_shapes(name: str, *shapes: Shape) -> Shape:
    """The common shape of operands (NumPy's and PyTorch's rule), or ShapeError."""
    first = shapes[0]
    if all(len(s) == len(first) and s == first for s in shapes[1:]):
        return first
    ndim = max(len(s) for s in shapes)
    result = [1] * ndim
    for shape in shapes:
        offset = ndim - len(shape)
        for i, size in enumerate(shape, offset):
            if size != 1:
                if result[i] not in (1, size):
                    listed = " and ".join(str(tuple(s)) for s in shapes)
                    raise ShapeError(
                        f"{name}: shapes {listed} do not broadcast: "
                        f"dimension {i - ndim} is {result[i]} in one and {size} in another"
                    )
                result[i] = size
    return tuple(result)


def resolve_reshape(name: str, shape: Shape, target: Sequence[int]) -> Shape:
    """`target` with its -1 (at most one) replaced so that the element counts agree."""
    target = tuple(target)
    total = numel(shape)
    unknown = [i for i, t in enumerate(target) if t == -1]
    if any(t < -1 for t in target) or len(unknown) > 1:
        raise ShapeError(f"{name}: sizes must be non-negative with at most one -1, got {target}")
    if unknown:
        known = numel(t for t in target if t != -1)
        if known == 0 or total % known:
            raise ShapeError(
                f"{name}: {tuple(shape)} with {total} elements cannot take shape {target}"
            )
        target = tuple(total // known if t == -1 else t for t in target)
    if numel(target) != total:
        raise ShapeError(
            f"{name}: {tuple(shape)} has {total} elements, shape {target} needs {numel(target)}"
        )
    return target


def contiguous_strides(shape: Sequence[int]) -> Shape:
    """Row-major strides in elements."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def view_strides(shape: Shape, strides: Shape, target: Shape) -> Shape | None:
    """Strides that let an array of `shape` and `strides` be read as `target` without a copy.

    None where no such strides exist. Both shapes have the same number of elements.
    """
    if numel(shape) == 0:
        return contiguous_strides(target)
    # Merge runs of dimensions that are contiguous with each other into chunks.
    chunks: list[list[int]] = []  # [size, stride of the innermost]
    for size, stride in zip(shape, strides):
        if size == 1:
            continue
        if chunks and chunks[-1][1] == size * stride:
            chunks[-1][0] *= size
            chunks[-1][1] = stride
        else:
            chunks.append([size, stride])
    result: list[int] = []
    step, left = 1, 1
    remaining = list(chunks)
    for size in reversed(target):
        if size == 1:
            result.append(step)
            continue
        if left == 1:
            if not remaining:
                return None
            left, step = remaining.pop()
        if left % size:
            return None
        result.append(step)
        step *= size
        left //= size
    return tuple(reversed(result))


_NUMBERS = frozenset([bool, int, float, complex])


def is_number(x: Any) -> bool:
    """Whether x is a Python or NumPy number (not a tensor)."""
    if type(x) in _NUMBERS:
        return True
    kinds = (bool, int, float, complex, np.number, np.bool_)
    return isinstance(x, kinds) and not hasattr(x, "_payload")
