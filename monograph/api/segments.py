"""segment_reduce: consecutive pieces of a dimension, each combined to one element."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError
from ..core.shape import normalize_dim
from ..ir.op import Full
from ..ops import arith
from ..ops.align import broadcast_to, public
from ..ops.gathering import as_index_tensor, scatter_reduce
from ..ops.indexing import IndexAdd
from ..ops.joining import cat
from ..ops.movement import Reshape
from ..ops.sorting import searchsorted
from ..tensor import Tensor
from .creation import as_tensor, from_numpy

_EMPTY = {"sum": 0.0, "mean": 0.0, "prod": 1.0, "max": -math.inf, "min": math.inf}


@public
def segment_reduce(
    data: Tensor, reduce: str, *, lengths: Any = None, indices: Any = None, offsets: Any = None,
    axis: int = 0, unsafe: bool = False, initial: float | None = None,
) -> Tensor:  # fmt: skip
    """Consecutive pieces of `data` along `axis`, each combined to one element.

    reduce   "sum", "mean", "max", "min" or "prod" ("amax" and "amin" are max and min)
    lengths  of the pieces: (..., S), one row for each position of the dimensions before `axis`
    offsets  in place of lengths, (..., S + 1): where each piece begins, and the end
    unsafe   the pieces may leave out elements at the ends of the data
    initial  takes part in each piece; without it an empty one gives 0, nan, -inf, inf or 1
    returns  data's shape with S at `axis`

    Captured and batched lengths are not checked: what they do not name is in no piece.

    >>> segment_reduce(tensor([1.0, 2.0, 3.0]), "sum", lengths=tensor([2, 1]))
    tensor([3., 3.])
    """
    name, kind = "segment_reduce", reduce.removeprefix("a")
    if not isinstance(data, Tensor):
        raise ArgumentTypeError(f"{name}: data must be a tensor, got {type(data).__name__}")
    if not data.dtype.is_floating_point:
        raise DTypeError(f"{name}: needs a floating dtype, got {data.dtype.name}")
    if kind not in _EMPTY:
        raise ArgumentError(f"{name}: reduce must be one of {', '.join(_EMPTY)}, got {reduce!r}")
    if (lengths is None) == (offsets is None):
        raise ArgumentError(f"{name}: exactly one of lengths and offsets must be given")
    axis = normalize_dim(name, axis, data.ndim)
    before, size, rest = data.shape[:axis], data.shape[axis], data.shape[axis + 1 :]
    bounds = _bounds(name, lengths, offsets, axis, before, size, unsafe)
    segments = bounds.shape[-1] - 1
    # The piece of each element: 0 before the first one, segments + 1 after the last.
    places = from_numpy(np.arange(size)).expand(*before, size)
    piece = searchsorted(bounds, places, right=True)
    lines = math.prod(before)
    firsts = from_numpy(np.arange(lines) * (segments + 2)).reshape(*before, 1)
    piece = (piece + firsts).reshape(lines * size)
    rows = data.reshape(lines * size, *rest)
    start = _EMPTY[kind] if initial is None else float(initial)
    base = Full((lines * (segments + 2), *rest), data.dtype, start)()
    if kind in ("sum", "mean"):
        out = IndexAdd(0)(base, piece, rows)
    else:
        column = Reshape((lines * size, *(1 for _ in rest)))(piece)
        way = {"max": "amax", "min": "amin"}.get(kind, kind)
        out = scatter_reduce(base, 0, broadcast_to(column, tuple(rows.shape)), rows, way)
    out = out.reshape(*before, segments + 2, *rest).narrow(axis, 1, segments)
    if kind == "mean":
        filled = bounds.diff(dim=-1).reshape(*before, segments, *(1 for _ in rest))
        empty = math.nan if initial is None else start
        out = arith.where(filled > 0, arith.div(out, filled.to(data.dtype)), empty)
    return out


def _bounds(
    name: str, lengths: Any, offsets: Any, axis: int, before: Any, size: int, unsafe: bool
) -> Tensor:
    """(*before, S + 1): where each piece begins, and the end."""
    what, extra = ("lengths", 0) if offsets is None else ("offsets", 1)
    given = as_index_tensor(name, as_tensor(lengths if offsets is None else offsets), what)
    if given.ndim != axis + 1 or given.shape[:-1] != before or given.shape[-1] < extra:
        shape = ", ".join([*map(str, before), "S + 1" if extra else "S"])
        raise ShapeError(
            f"{name}: {what} for axis {axis} of size {size} must have shape ({shape}), got "
            f"{tuple(given.shape)}"
        )
    bounds = given
    if offsets is None:
        bounds = cat([given.new_zeros((*before, 1)), given.cumsum(-1)], -1)
    array = bounds._value()
    if type(array) is not np.ndarray:
        return bounds
    inside = (array[..., 0] >= 0) & (array[..., -1] <= size) & (np.diff(array) >= 0).all(-1)
    whole = (array[..., 0] == 0) & (array[..., -1] == size)
    if not (inside if unsafe else inside & whole).all():
        raise ShapeError(
            f"{name}: the {what} for axis {axis} must not make pieces of negative size, and "
            f"{'stay within' if unsafe else 'reach from 0 to'} {size}, got {given.tolist()}"
        )
    return bounds
