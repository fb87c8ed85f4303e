"""Running sums and products along a dimension, and the linear recurrence behind them.

LinearScan, h[i] = a[i] * h[i-1] + b[i], is its own adjoint read from the other end; it makes the
gradient of cumprod right where elements are 0.
"""

from __future__ import annotations

import math
from collections import namedtuple
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.dtype import as_dtype
from ..core.errors import ShapeError
from ..core.shape import Shape, normalize_dim
from ..ir.op import Aval, Full, Opaque, op, zeros_of
from .align import as_operand, cast, public
from .arith import add_, gt, mul, neg, sub_, where
from .batching import batched, shape_of
from .exponential import exp, log, widened
from .indexing import ScatterAdd
from .movement import Copy, Flip, Pad, Slice


class _Running(Opaque):
    """Base of one-input scans: the output has the input's shape."""

    axis: int
    accepts = dt.NUMERIC

    def infer(self, x: Any) -> Aval:
        self.check_dtypes(x)
        return Aval(shape_of(x), x.dtype)

    def batch(self, dims: tuple, size: int, x: Any) -> tuple[Any, Any]:
        return type(self)(self.axis + 1)(batched(x, dims[0], size)), 0  # type: ignore[call-arg]


@op
class Cumsum(_Running):
    """Sum of the elements up to and including each, along `axis`."""

    axis: int
    saves = "none"
    onnx = "CumSum"

    def reference(self, x: Any) -> Any:
        wide = widened(x)
        return np.cumsum(wide, self.axis, dtype=wide.dtype)

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        back = Flip((self.axis,))
        return (back(self(back(g))),)


@op
class Cumprod(_Running):
    """Product of the elements up to and including each, along `axis`."""

    axis: int
    saves = "inputs"

    def reference(self, x: Any) -> Any:
        wide = widened(x)
        return np.cumprod(wide, self.axis, dtype=wide.dtype)

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        # d[i] = g[i] + x[i+1] * d[i+1], then times the product of what came before.
        back = Flip((self.axis,))
        d = back(LinearScan(self.axis)(_shifted(back(x), self.axis, 0), back(g)))
        return (mul(d, exclusive_cumprod(x, self.axis)),)


@op
class LinearScan(Opaque):
    """h[i] = a[i] * h[i-1] + b[i] along `axis`, from h[-1] = 0. Inputs (a, b) of one shape."""

    axis: int
    accepts = dt.NUMERIC

    def infer(self, a: Any, b: Any) -> Aval:
        self.check_dtypes(a, b)
        if shape_of(a) != shape_of(b):
            raise ShapeError(f"linear_scan: shapes {shape_of(a)} and {shape_of(b)} differ")
        return Aval(shape_of(a), a.dtype)

    def reference(self, a: Any, b: Any) -> Any:
        factors = np.moveaxis(widened(a), self.axis, 0)
        out = np.array(np.moveaxis(widened(b), self.axis, 0))
        for i in range(1, len(out)):
            out[i] += factors[i] * out[i - 1]
        return np.moveaxis(out, 0, self.axis)

    def vjp(self, g: Any, out: Any, a: Any, b: Any) -> tuple[Any, ...]:
        back = Flip((self.axis,))
        following = _shifted(back(a), self.axis, 0)
        d = back(self(following, back(g)))
        return mul(d, _shifted(out, self.axis, 0)), d

    def batch(self, dims: tuple, size: int, a: Any, b: Any) -> tuple[Any, Any]:
        return LinearScan(self.axis + 1)(batched(a, dims[0], size), batched(b, dims[1], size)), 0


@op
class LogCumsumExp(_Running):
    """Logarithm of the sum of the exponentials up to and including each, along `axis`."""

    axis: int
    accepts = dt.INEXACT  # type: ignore[assignment]

    def reference(self, x: Any) -> Any:
        if x.dtype.kind == "c":
            return _running_log_sum(x, self.axis)
        return np.logaddexp.accumulate(widened(x), self.axis) if x.size else x

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        # sum of g[k] * exp(x[i] - out[k]) over k >= i, by logarithms of each sign's part.
        back = Flip((self.axis,))
        if x.dtype.is_complex:  # d[i] = g[i] + exp(out[i] - out[i+1]) * d[i+1]
            later = back(out)
            factors = exp(sub_(later, _shifted(later, self.axis, 0)))
            return (mul(exp(sub_(x, out)), back(LinearScan(self.axis)(factors, back(g)))),)

        def part(positive: Any) -> Any:
            chosen = gt(positive, 0)
            weights = where(chosen, sub_(log(where(chosen, positive, 1.0)), out), -math.inf)
            return exp(add_(back(self(back(weights))), x))

        return (sub_(part(g), part(neg(g))),)


def _running_log_sum(x: Any, axis: int) -> Any:
    """log of the running sum of exp(x), complex: each step goes out from the larger real part."""
    out = np.array(np.moveaxis(x, axis, 0))
    for i in range(1, len(out)):
        first = out[i].real > out[i - 1].real
        top, low = np.where(first, out[i], out[i - 1]), np.where(first, out[i - 1], out[i])
        out[i] = top + np.log1p(np.exp(low - top))
    return np.moveaxis(out, 0, axis)


@op
class RunningExtreme(Opaque):
    """(largest, or smallest, element up to and including each; where it is), along `axis`.

    The last of equals is the place; nan wins. The gradient goes to the place.
    """

    axis: int
    largest: bool
    accepts = dt.REAL
    n_outputs = 2
    saves = "outputs"

    def infer(self, x: Any) -> Any:
        self.check_dtypes(x)
        return Aval(shape_of(x), x.dtype), Aval(shape_of(x), dt.int64)

    def reference(self, x: Any) -> Any:
        best = np.maximum if self.largest else np.minimum
        values = best.accumulate(x, self.axis) if x.size else x
        n = x.shape[self.axis]
        line = np.arange(n).reshape([n if a == self.axis else 1 for a in range(x.ndim)])
        found = (x == values) | ((x != x) & (values != values))
        return values, np.maximum.accumulate(np.where(found, line, 0), self.axis)

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (ScatterAdd(self.axis)(zeros_of(g[0]), out[1], g[0]),)

    def batch(self, dims: tuple, size: int, x: Any) -> tuple[Any, Any]:
        return RunningExtreme(self.axis + 1, self.largest)(batched(x, dims[0], size)), (0, 0)


def _shifted(x: Any, axis: int, value: Any) -> Any:
    """x moved one place later along `axis`; `value` comes in first."""
    shape = shape_of(x)
    n = shape[axis]
    if n == 0:
        return x

    def at(k: int, others: Shape) -> Shape:
        return tuple(k if a == axis else m for a, m in enumerate(others))

    zeros, ones = (0,) * len(shape), (1,) * len(shape)
    kept = Slice(zeros, at(n - 1, shape), ones)(x)
    return Pad(at(1, zeros), zeros, zeros, value)(kept)


def exclusive_cumprod(x: Any, axis: int) -> Any:
    """Product of the elements before each, along `axis` (1 at the first)."""
    return Cumprod(axis)(_shifted(x, axis, 1))


def _running(name: str, primitive: Any, input: Any, dim: int, dtype: Any) -> Any:
    x = as_operand(name, input)
    if dtype is not None:
        x = cast(x, as_dtype(dtype))
    elif not x.dtype.is_inexact:
        x = cast(x, dt.int64)
    axis = normalize_dim(name, dim, len(x.shape))
    return primitive(axis)(x) if x.shape else Copy()(x)


@public
def cumsum(input: Any, dim: int, *, dtype: Any = None) -> Any:
    """Sum of the elements up to and including each, along `dim`; integers and bool give int64.

    >>> cumsum(tensor([1, 2, 3]), 0)
    tensor([1, 3, 6])
    """
    return _running("cumsum", Cumsum, input, dim, dtype)


@public
def cumprod(input: Any, dim: int, *, dtype: Any = None) -> Any:
    """Product of the elements up to and including each, along `dim`; integers and bool give int64.

    >>> cumprod(tensor([1, 2, 3]), 0)
    tensor([1, 2, 6])
    """
    return _running("cumprod", Cumprod, input, dim, dtype)


@public
def logcumsumexp(input: Any, dim: int) -> Any:
    """log of the running sum of exp(input) along `dim`, without overflow."""
    x = as_operand("logcumsumexp", input)
    x = x if x.dtype.is_inexact else cast(x, dt.get_default_dtype())
    axis = normalize_dim("logcumsumexp", dim, len(x.shape))
    return LogCumsumExp(axis)(x) if x.shape else Copy()(x)


def _running_extreme(name: str, largest: bool, word: str) -> Any:
    made: Any = namedtuple(name, ["values", "indices"])  # type: ignore[misc]

    def f(input: Any, dim: int) -> Any:
        x = as_operand(name, input)
        axis = normalize_dim(name, dim, len(x.shape))
        if not x.shape:
            return made(Copy()(x), Full((), dt.int64, 0)())  # type: ignore[call-arg]
        values, indices = RunningExtreme(axis, largest)(x)
        return made(values, indices)  # type: ignore[call-arg]

    f.__name__ = f.__qualname__ = name
    f.__doc__ = f"{word} element up to and including each along `dim`: (values, indices)."
    return public(f)


cummax = _running_extreme("cummax", True, "Largest")
cummin = _running_extreme("cummin", False, "Smallest")
