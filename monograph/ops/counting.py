"""How often values occur: the most frequent value, and histograms."""

from __future__ import annotations

import builtins
import math
from collections import namedtuple
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.errors import ArgumentError, DTypeError, ShapeError
from ..core.shape import as_index, normalize_dim, numel
from ..ir.op import Aval, Full, Opaque, is_value, op, zeros_of
from .align import as_operand, cast, public
from .arith import add, div, eq, ge, le, logical_and, lt, mul, sub, where
from .arranging import diff
from .batching import batched, shape_of
from .gathering import scatter_add
from .indexing import ScatterAdd
from .movement import Copy, Reshape
from .reduce import amax, amin, keep_dims
from .reduce import sum as sum_over
from .rounding import clamp
from .shaping import select
from .sorting import bucketize
from .triangular import Iota

mode_result = namedtuple("mode", ["values", "indices"])  # type: ignore[name-match]
histogram_result = namedtuple("histogram", ["hist", "bin_edges"])  # type: ignore[name-match]
histogramdd_result = namedtuple("histogramdd", ["hist", "bin_edges"])  # type: ignore[name-match]


@op
class Mode(Opaque):
    """(most frequent element along `axis`, the last place where it is); the smallest of several."""

    axis: int
    accepts = dt.REAL
    n_outputs = 2
    saves = "outputs"

    def infer(self, x: Any) -> Any:
        self.check_dtypes(x)
        kept = tuple(n for a, n in enumerate(x.shape) if a != self.axis)
        return Aval(kept, x.dtype), Aval(kept, dt.int64)

    def reference(self, x: Any) -> Any:
        lines = np.moveaxis(x, self.axis, -1)
        n = lines.shape[-1]
        order = np.argsort(lines, -1, kind="stable")
        ranked = np.take_along_axis(lines, order, -1)
        first = np.ones(ranked.shape, bool)
        first[..., 1:] = ranked[..., 1:] != ranked[..., :-1]
        start = np.maximum.accumulate(np.where(first, np.arange(n), 0), -1)
        # The run ends where its length is largest: the first such end has the smallest value.
        end = (np.arange(n) - start).argmax(-1)[..., None]
        values = np.take_along_axis(ranked, end, -1)[..., 0]
        return values, np.take_along_axis(order, end, -1)[..., 0]

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        a, shape = self.axis, shape_of(x)
        kept = (*shape[:a], 1, *shape[a + 1 :])
        return (ScatterAdd(a)(zeros_of(x), Reshape(kept)(out[1]), Reshape(kept)(g[0])),)

    def batch(self, dims: tuple, size: int, x: Any) -> tuple[Any, Any]:
        return Mode(self.axis + 1)(batched(x, dims[0], size)), (0, 0)


@public
def mode(input: Any, dim: int = -1, keepdim: bool = False) -> Any:
    """(values, indices): the most frequent element along `dim`, and the last place where it is.

    Of several elements that occur equally often, the smallest.

    >>> mode(tensor([1, 3, 3, 1, 2])).values
    tensor(1)
    """
    x = as_operand("mode", input)
    axis = normalize_dim("mode", dim, len(x.shape))
    if not x.shape:
        return mode_result(Copy()(x), Full((), dt.int64, 0)())
    if not x.shape[axis]:
        raise ShapeError(f"mode: dimension {axis} of {shape_of(x)} is empty")
    pair = Mode(axis)(x)
    return mode_result(*(keep_dims(v, shape_of(x), (axis,)) if keepdim else v for v in pair))


# -- histograms ------------------------------------------------------------------------------------


def _edges(name: str, x: Any, bins: Any, low: Any, high: Any) -> Any:
    """Edges of bins: those given, or `bins` equal ones from low to high (None: of the values)."""
    if is_value(bins):
        if len(bins.shape) != 1:
            raise ShapeError(f"{name}: edges must be 1-d, got shape {shape_of(bins)}")
        return cast(bins, x.dtype)
    count = as_index(name, "bins", bins)
    if count < 1:
        raise ArgumentError(f"{name}: bins must be positive, got {count}")
    if low is None:
        if not numel(x.shape):
            low, high = 0.0, 1.0
        else:
            low, high = amin(x), amax(x)
    same = eq(low, high) if is_value(low) else low == high
    if is_value(low):
        low, high = where(same, sub(low, 0.5), low), where(same, add(high, 0.5), high)
    elif same:
        low, high = low - 0.5, high + 0.5
    i = Iota((count + 1,), x.dtype, 0)()
    step = div(sub(high, low), float(count)) if is_value(low) else (high - low) / count
    # Each half counts from its own end, as linspace does.
    down = sub(high, mul(sub(count, i), step))
    return where(lt(i, (count + 1) // 2), add(low, mul(i, step)), down)


def _bin(x: Any, edges: Any) -> Any:
    """The number of the bin of each element; -1 outside. The last bin has its right edge."""
    count = edges.shape[0] - 1
    place = sub(bucketize(x, edges, right=True), 1)
    last = select(edges, 0, -1)
    inside = logical_and(ge(x, select(edges, 0, 0)), le(x, last))
    return where(inside, clamp(place, 0, count - 1), -1)


def _counted(place: Any, weight: Any, count: int, dtype: Any) -> Any:
    """Sums of the weights of each place in [0, count); what is at -1 is left out."""
    n = numel(place.shape)
    ones = Full((n,), dtype, 1)() if weight is None else Reshape((n,))(cast(weight, dtype))
    flat = Reshape((n,))(place)
    ones = where(lt(flat, 0), 0, ones)
    flat = where(lt(flat, 0), 0, flat)
    return scatter_add(Full((count,), dtype, 0)(), 0, flat, ones)


def _weighted(name: str, x: Any, weight: Any, shape: Any) -> None:
    if not x.dtype.is_floating_point:
        raise DTypeError(f"{name}: input must be floating, got {x.dtype.name}")
    if weight is not None and shape_of(weight) != shape:
        raise ShapeError(f"{name}: weight has shape {shape_of(weight)}, expected {shape}")


@public
def histogram(
    input: Any, bins: Any, *, range: Any = None, weight: Any = None, density: bool = False
) -> Any:
    """(hist, bin_edges): how many elements lie in each bin; the last one has its right edge.

    bins     a number of equal bins, or a 1-d tensor of ascending edges
    range    (low, high) of equal bins; None: those of the elements
    weight   what each element counts, in input's shape
    density  divide, so that the integral over the bins is 1

    >>> histogram(tensor([1.0, 2.0, 1.0]), 4, range=(0.0, 3.0)).hist
    tensor([0., 2., 1., 0.])
    """
    x = as_operand("histogram", input)
    _weighted("histogram", x, weight, shape_of(x))
    low, high = (None, None) if range is None else (float(v) for v in range)
    edges = _edges("histogram", x, bins, low, high)
    hist = _counted(_bin(x, edges), weight, edges.shape[0] - 1, x.dtype)
    if density:
        hist = div(hist, mul(sum_over(hist), diff(edges)))
    return histogram_result(hist, edges)


@public
def histogramdd(
    input: Any, bins: Any, *, range: Any = None, weight: Any = None, density: bool = False
) -> Any:
    """(hist, bin_edges) of points (..., D): how many lie in each cell of a D-dimensional grid.

    bins     a number for all dimensions, a list of D numbers, or a list of D tensors of edges
    range    low and high of each dimension: 2 D numbers; None: those of the points
    weight   what each point counts, (...)
    """
    x = as_operand("histogramdd", input)
    if len(x.shape) < 2:
        raise ShapeError(f"histogramdd: needs points (..., D), got shape {shape_of(x)}")
    _weighted("histogramdd", x, weight, shape_of(x)[:-1])
    lead, d = shape_of(x)[:-1], x.shape[-1]
    given = list(bins) if isinstance(bins, (tuple, list)) else [bins] * d
    limits = [None] * 2 * d if range is None else [float(v) for v in range]
    if len(given) != d or len(limits) != 2 * d:
        raise ArgumentError(f"histogramdd: bins and range must be given for {d} dimensions")
    edges, place, outside, counts = [], None, None, []
    points = Reshape((numel(lead), d))(x)
    for k in builtins.range(d):
        line = select(points, 1, k)
        edge = _edges("histogramdd", line, given[k], limits[2 * k], limits[2 * k + 1])
        here = _bin(line, edge)
        edges.append(edge)
        counts.append(edge.shape[0] - 1)
        bad = lt(here, 0)
        outside = bad if outside is None else where(bad, True, outside)
        place = here if place is None else add(mul(place, counts[-1]), here)
    hist = _counted(where(outside, -1, place), weight, math.prod(counts), x.dtype)
    hist = Reshape(tuple(counts))(hist)
    if density:
        hist = div(hist, sum_over(hist))
        for k, edge in enumerate(edges):
            width = Reshape(tuple(n if a == k else 1 for a, n in enumerate(counts)))(diff(edge))
            hist = div(hist, width)
    return histogramdd_result(hist, tuple(edges))
