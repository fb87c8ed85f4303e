"""Rows of a table by their numbers: embedding, and what embedding_bag has in common with it."""

from __future__ import annotations

from typing import Any

from ..core.errors import ArgumentError, ShapeError
from ..core.modes import no_grad
from ..core.shape import as_index, numel
from ..ir.op import Full
from .align import functional
from .arith import add, div, eq, gt, mul, sub, where
from .batching import shape_of
from .gathering import as_index_tensor, named, rows_of, scatter_add
from .indexing import IndexSelect, IndexSet
from .movement import Detach, Expand, Reshape
from .reduce import norm


def limit_rows(name: str, weight: Any, index: Any, max_norm: float, norm_type: float) -> None:
    """Scale the rows of `weight` at `index` in place, so that no norm is above max_norm."""
    flat = Reshape((numel(index.shape),))(index)
    with no_grad():
        table = Detach()(weight)
        rows = named(name, IndexSelect(0), table, flat)
        norms = norm(rows, norm_type, 1, True)
        scale = where(gt(norms, max_norm), div(max_norm, add(norms, 1e-7)), 1.0)
        weight._write(IndexSet(0)(table, flat, mul(rows, scale)), name)


def by_frequency(rows: Any, index: Any, size: int) -> Any:
    """`rows` of a table of that size, looked up at `index`, each with a gradient divided by how
    often its number occurs."""
    count = numel(index.shape)
    flat = Reshape((count,))(index)
    ones = Full((count,), rows.dtype, 1)()
    counts = IndexSelect(0)(scatter_add(Full((size,), rows.dtype, 0)(), 0, flat, ones), flat)
    scaled = div(rows, Reshape((*index.shape, 1))(counts))
    return add(Detach()(rows), sub(scaled, Detach()(scaled)))


@functional
def embedding(
    input: Any,
    weight: Any,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Any:
    """Rows of `weight` at the indices `input`.

    input        integers in [0, V), any shape
    weight       (V, D)
    padding_idx  a row that gets no gradient
    max_norm     rows that are looked up are first scaled, in place and off the tape, to a norm of
                 order norm_type of at most this
    scale_grad_by_freq  a row's gradient is divided by how often the row is looked up
    sparse       the gradient of a weight that is a leaf holds only the rows used (SparseTensor)
    returns      (*input.shape, D)
    """
    index = as_index_tensor("embedding", input, "indices")
    if len(weight.shape) != 2:
        raise ShapeError(f"embedding: weight must be (V, D), got shape {shape_of(weight)}")
    if max_norm is not None:
        limit_rows("embedding", weight, index, max_norm, norm_type)
    padding = None
    if padding_idx is not None:
        rows = weight.shape[0]
        padding = as_index("embedding", "padding_idx", padding_idx)
        if not -rows <= padding < rows:
            raise ArgumentError(f"embedding: padding_idx {padding} is outside of {rows} rows")
        padding %= rows
    out = rows_of(weight, index, padding) if sparse else None
    if out is None:
        out = named("embedding", IndexSelect(0), weight, index)
        if padding is not None:
            mask = Expand(shape_of(out), (len(index.shape),))(eq(index, padding))
            out = where(mask, Detach()(out), out)
    return by_frequency(out, index, weight.shape[0]) if scale_grad_by_freq else out
