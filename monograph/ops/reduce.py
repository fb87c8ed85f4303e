"""Reductions: sum, mean, prod, extremes and their positions, any and all, var, norm, median.

The functions resolve dim, keepdim and dtype by PyTorch's rules; what they apply is in reducers.py,
or composed.
"""

from __future__ import annotations

import math
from collections import namedtuple
from typing import Any

from ..core import dtype as dt
from ..core.dtype import as_dtype
from ..core.errors import ArgumentError, DTypeError, IndexRangeError
from ..core.shape import NoAxes, Shape, is_number, normalize_dim, normalize_dims, numel
from ..core.symbolic import is_symbolic
from ..ir.op import Full, Reduction, is_value
from .align import as_operand, broadcast_to, cast, public
from .arith import abs as absolute
from .arith import add_, bitwise_and, div_, eq, gt, lt, maximum, minimum, mul, ne, sign, sub_, where
from .batching import shape_of
from .composite import composed
from .exponential import exp, log
from .movement import Copy, Detach, Reshape, Sum
from .parts import RealPart, conj, real
from .power import pow, sqrt
from .reducers import All, Amax, Amin, Any_, ArgMax, ArgMin, Kth, MaxFirst, MinFirst, Prod

# -- helpers ---------------------------------------------------------------------------------------


def keep_dims(out: Any, shape: Shape, axes: tuple[int, ...]) -> Any:
    """`out`, reduced from `shape` over `axes`, with those axes back as size 1."""
    return Reshape(tuple(1 if a in axes else n for a, n in enumerate(shape)))(out)


def reduced(primitive: Any, x: Any, axes: tuple[int, ...], keepdim: bool) -> Any:
    """The reduction over resolved axes; a copy where there are none."""
    if not axes:
        return Copy()(x)
    out = primitive(axes)(x)
    return keep_dims(out, shape_of(x), axes) if keepdim else out


def _floating(name: str, x: Any, dtype: Any) -> Any:
    if dtype is not None:
        x = cast(x, as_dtype(dtype))
    if not x.dtype.is_inexact:
        raise DTypeError(
            f"{name}: needs a floating dtype, got {x.dtype.name}",
            hint="convert with .float() or give dtype=",
        )
    return x


def _whole(x: Any, dtype: Any) -> Any:
    """sum's and prod's dtype rule: `dtype`, else int64 for integers and bool."""
    if dtype is not None:
        return cast(x, as_dtype(dtype))
    return x if x.dtype.is_inexact else cast(x, dt.int64)


def _nonempty(name: str, x: Any, axes: tuple[int, ...]) -> None:
    shape = shape_of(x)
    for a in axes:
        if shape[a] == 0:
            raise IndexRangeError(
                f"{name}: dimension {a} of shape {shape} is empty: there is no element to choose"
            )


# -- public functions ------------------------------------------------------------------------------


@public
def sum(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """Sum over `dim` (an int, several, or None for all); integers and bool sum to int64.

    >>> sum(tensor([[1, 2], [3, 4]]), 0)
    tensor([4, 6])
    """
    d = getattr(input, "dtype", None)
    if dtype is None and (d is dt.float32 or d is dt.float64):
        x = input
    else:
        x = _whole(as_operand("sum", input), dtype)
        if x.dtype is dt.bool_:
            return any(x, dim, keepdim)
    return reduced(Sum, x, normalize_dims("sum", dim, len(x.shape)), keepdim)


@public
def nansum(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """Sum over `dim` with nan counted as 0."""
    x = as_operand("nansum", input)
    if x.dtype.is_inexact:
        x = where(ne(x, x), 0.0, x)
    return sum(x, dim, keepdim, dtype=dtype)


@public
@composed
def mean(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """Mean over `dim`; floating dtypes only; nan over nothing.

    >>> mean(tensor([1.0, 2.0, 6.0]))
    tensor(3.)
    """
    x = _floating("mean", as_operand("mean", input), dtype)
    axes = normalize_dims("mean", dim, len(x.shape))
    wide = cast(x, dt.float32) if x.dtype.itemsize == 2 else x
    total = reduced(Sum, wide, axes, keepdim)
    return cast(div_(total, numel(x.shape[a] for a in axes)), x.dtype)


@public
def nanmean(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """Mean over `dim` of the elements that are not nan."""
    x = _floating("nanmean", as_operand("nanmean", input), dtype)
    count = sum(cast(eq(x, x), x.dtype), dim, keepdim)
    return div_(nansum(x, dim, keepdim), count)


@public
def prod(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """Product over `dim` (an int, or None for all); integers and bool give int64.

    >>> prod(tensor([2, 3, 4]))
    tensor(24)
    """
    x = _whole(as_operand("prod", input), dtype)
    if x.dtype is dt.bool_:
        return all(x, dim, keepdim)
    return reduced(Prod, x, normalize_dims("prod", dim, len(x.shape)), keepdim)


def _extreme(name: str, primitive: Any) -> Any:
    def f(input: Any, dim: Any = (), keepdim: bool = False) -> Any:
        x = as_operand(name, input)
        axes = normalize_dims(name, dim, len(x.shape))
        _nonempty(name, x, axes)
        return reduced(primitive, x, axes, keepdim)

    word = "Largest" if name == "amax" else "Smallest"
    f.__name__ = f.__qualname__ = name
    f.__doc__ = (
        f"{word} element over `dim` (an int or several; () is all); ties share the gradient."
    )
    return public(f)


amax = _extreme("amax", Amax)
amin = _extreme("amin", Amin)


def _along(name: str, x: Any, dim: Any) -> tuple[int, ...]:
    axes = (normalize_dim(name, dim, len(x.shape)),) if x.shape else ()
    if not x.shape:
        normalize_dim(name, dim, 0)
    _nonempty(name, x, axes)
    return axes


def _first(
    name: str, result: Any, positions: type[Reduction], values: type[Reduction],
    x: Any, dim: Any, keepdim: bool,
) -> Any:  # fmt: skip
    axes = _along(name, x, dim)
    if not axes:
        return result(Copy()(x), Full((), dt.int64, 0)())
    return result(reduced(values, x, axes, keepdim), reduced(positions, x, axes, keepdim))


max_result = namedtuple("max", ["values", "indices"])  # type: ignore[name-match]
min_result = namedtuple("min", ["values", "indices"])  # type: ignore[name-match]
median_result = namedtuple("median", ["values", "indices"])  # type: ignore[name-match]
aminmax_result = namedtuple("aminmax", ["min", "max"])  # type: ignore[name-match]


@public
def max(input: Any, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """Largest element of all; along `dim` (values, indices); or of two tensors, elementwise.

    Over several dimensions (a tuple) there are no indices: the result is amax's.

    Over all elements ties share the gradient; along a dimension it goes to the first of equals.

    >>> max(tensor([[1, 5], [7, 2]]), 1).indices
    tensor([1, 0])
    """
    other = dim if is_value(dim) and not is_number(dim) else other
    if other is not None:
        return maximum(input, other)
    x = as_operand("max", input)
    if dim is None or isinstance(dim, (tuple, list)):
        return amax(x, dim, keepdim)
    return _first("max", max_result, ArgMax, MaxFirst, x, dim, keepdim)


@public
def min(input: Any, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """Smallest element of all; along `dim` (values, indices); or of two tensors, elementwise.

    Over all elements ties share the gradient; along a dimension it goes to the first of equals.
    """
    other = dim if is_value(dim) and not is_number(dim) else other
    if other is not None:
        return minimum(input, other)
    x = as_operand("min", input)
    if dim is None or isinstance(dim, (tuple, list)):
        return amin(x, dim, keepdim)
    return _first("min", min_result, ArgMin, MinFirst, x, dim, keepdim)


@public
def aminmax(input: Any, *, dim: Any = None, keepdim: bool = False) -> Any:
    """Smallest and largest element, over all or along one `dim`: (min, max)."""
    dim = () if dim is None else dim
    return aminmax_result(amin(input, dim, keepdim), amax(input, dim, keepdim))


def _position(name: str, primitive: Any, input: Any, dim: Any, keepdim: bool) -> Any:
    x = as_operand(name, input)
    if x.dtype is dt.bool_:
        x = cast(x, dt.uint8)
    shape = shape_of(x)
    if dim is None:
        if numel(shape) == 0:
            raise IndexRangeError(f"{name}: a tensor of shape {shape} has no element to choose")
        out = primitive((0,))(Reshape((numel(shape),))(x))
        return Reshape((1,) * len(shape))(out) if keepdim else out
    axes = _along(name, x, dim)
    return reduced(primitive, x, axes, keepdim) if axes else Full((), dt.int64, 0)()


@public
def argmax(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """Position of the first largest element, in the flat tensor or along `dim`; int64.

    >>> argmax(tensor([[1, 5], [7, 2]]), dim=1)
    tensor([1, 0])
    """
    return _position("argmax", ArgMax, input, dim, keepdim)


@public
def argmin(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """Position of the first smallest element, in the flat tensor or along `dim`; int64."""
    return _position("argmin", ArgMin, input, dim, keepdim)


def _truth(name: str, primitive: Any, input: Any, dim: Any, keepdim: bool) -> Any:
    x = as_operand(name, input)
    dim = NoAxes() if isinstance(dim, tuple) and not dim else dim
    axes = normalize_dims(name, dim, len(x.shape))
    out = reduced(primitive, cast(x, dt.bool_), axes, keepdim)
    return cast(out, dt.uint8) if x.dtype is dt.uint8 else out


@public
def any(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """Whether any element is nonzero, over all or over `dim`.

    >>> any(tensor([0, 0, 3]))
    tensor(True)
    """
    return _truth("any", Any_, input, dim, keepdim)


@public
def all(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """Whether all elements are nonzero, over all or over `dim`."""
    return _truth("all", All, input, dim, keepdim)


@public
def count_nonzero(input: Any, dim: Any = None, *, keepdim: bool = False) -> Any:
    """Number of elements that are not 0, over all or over `dim`; int64."""
    x = as_operand("count_nonzero", input)
    return sum(cast(cast(x, dt.bool_), dt.int64), dim, keepdim)


def _moments(
    name: str, input: Any, dim: Any, unbiased: Any, keepdim: bool, correction: Any
) -> tuple[Any, Any]:
    """(variance, mean). `dim` may hold `unbiased`, as in PyTorch's short form var(x, False)."""
    x = _floating(name, as_operand(name, input), None)
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if correction is None:
        correction = 1 if unbiased else 0
    axes = normalize_dims(name, dim, len(x.shape))
    dtype = x.dtype
    wide = cast(x, dt.float32) if dtype.itemsize == 2 else x
    center = mean(wide, axes, True) if axes else wide
    gap = sub_(wide, center)
    count = numel(x.shape[a] for a in axes) - correction
    count = count if is_symbolic(count) else float(count)
    variance = div_(reduced(Sum, squares(gap), axes, keepdim), count if count > 0 else 0.0)
    center = center if keepdim or not axes else Reshape(shape_of(variance))(center)
    return cast(variance, dtype.to_real()), cast(center, dtype)


def squares(x: Any) -> Any:
    """Squares of the absolute values of the elements."""
    return RealPart()(mul(x, conj(x))) if x.dtype.is_complex else mul(x, x)


def safe_sqrt(x: Any) -> Any:
    """sqrt whose gradient at 0 is 0 where x is a sum of squares."""
    positive = gt(x, 0)
    return where(positive, sqrt(where(positive, x, 1.0)), x)


@public
@composed
def var(
    input: Any, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *,
    correction: Any = None,
) -> Any:  # fmt: skip
    """Variance over `dim`: squared distances from the mean, summed and divided by n - correction.

    correction is 1 (Bessel's) unless given; unbiased=False is correction=0. nan where n is too
    small.

    >>> var(tensor([1.0, 2.0, 3.0]))
    tensor(1.)
    """
    return _moments("var", input, dim, unbiased, keepdim, correction)[0]


@public
@composed
def std(
    input: Any, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *,
    correction: Any = None,
) -> Any:  # fmt: skip
    """Standard deviation over `dim`: the root of `var`. Its gradient is 0 where it is 0."""
    return safe_sqrt(_moments("std", input, dim, unbiased, keepdim, correction)[0])


@public
def var_mean(
    input: Any, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *,
    correction: Any = None,
) -> Any:  # fmt: skip
    """Variance and mean over `dim`, as a pair."""
    return _moments("var_mean", input, dim, unbiased, keepdim, correction)


@public
def std_mean(
    input: Any, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *,
    correction: Any = None,
) -> Any:  # fmt: skip
    """Standard deviation and mean over `dim`, as a pair."""
    variance, center = _moments("std_mean", input, dim, unbiased, keepdim, correction)
    return safe_sqrt(variance), center


def shift_by_max(x: Any, axes: tuple[int, ...]) -> Any:
    """x minus its maximum over `axes`, through which no gradient flows."""
    top = Amax(axes)(Detach()(x))
    return sub_(x, broadcast_to(keep_dims(top, shape_of(x), axes), shape_of(x)))


@public
@composed
def logsumexp(input: Any, dim: Any, keepdim: bool = False) -> Any:
    """log(sum(exp(input))) over `dim`, without overflow; -inf over nothing.

    >>> logsumexp(tensor([1000.0, 1000.0]), 0)
    tensor(1000.6932)
    """
    x = as_operand("logsumexp", input)
    x = x if x.dtype.is_inexact else cast(x, dt.get_default_dtype())
    axes = normalize_dims("logsumexp", dim, len(x.shape))
    if not axes and not x.dtype.is_complex:  # whose imaginary part is brought to [-pi, pi]
        return Copy()(x)
    if numel(x.shape[a] for a in axes) == 0:
        return log(reduced(Sum, exp(x), axes, keepdim))
    top = keep_dims(Amax(axes)(Detach()(real(x))), shape_of(x), axes)
    top = where(lt(absolute(top), math.inf), top, 0.0)  # inf - inf would be nan
    out = add_(log(reduced(Sum, exp(sub_(x, top)), axes, True)), top)
    return (
        out if keepdim else Reshape(tuple(n for a, n in enumerate(x.shape) if a not in axes))(out)
    )


@public
@composed
def norm(
    input: Any, p: Any = "fro", dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Any:
    """The p-norm over `dim` of the elements as a vector: (sum |x|**p)**(1/p).

    p is a number, inf (largest), -inf (smallest), 0 (how many are not 0) or "fro" (as 2). The
    gradient at 0 is 0.

    >>> norm(tensor([3.0, 4.0]))
    tensor(5.)
    """
    if p is None or p == "fro":
        p = 2
    if not is_number(p):
        raise ArgumentError(f"norm: p must be a number or 'fro', got {p!r}")
    x = _floating("norm", as_operand("norm", input), dtype)
    axes = normalize_dims("norm", dim, len(x.shape))
    size = absolute(x)
    if p in (math.inf, -math.inf):
        _nonempty("norm", x, axes)
        return reduced(Amax if p > 0 else Amin, size, axes, keepdim)
    dtype = x.dtype.to_real()
    if dtype.itemsize == 2:
        x, size = cast(x, dt.float32), cast(size, dt.float32)
    if p == 2:
        out = safe_sqrt(reduced(Sum, squares(x), axes, keepdim))
    elif p == 1:
        out = reduced(Sum, size, axes, keepdim)
    elif p == 0:
        counted = where(ne(x, x), 1.0, sign(size))  # with a gradient, of zeros, as in PyTorch
        out = reduced(Sum, counted, axes, keepdim)
    else:
        positive = gt(size, 0)
        powers = where(positive, pow(where(positive, size, 1.0), p), 0.0 if p > 0 else math.inf)
        total = reduced(Sum, powers, axes, keepdim)
        usable = bitwise_and(gt(total, 0), lt(total, math.inf))
        root = pow(where(usable, total, 1.0), 1 / p)
        extreme = where(eq(total, 0), 0.0 if p > 0 else math.inf, total if p > 0 else 0.0)
        out = where(usable, root, where(ne(total, total), total, extreme))
    return cast(out, dtype)


@public
def median(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """The middle element (the lower of two), of all or along `dim` as (values, indices).

    nan where there is one, as in PyTorch.

    >>> median(tensor([4, 1, 3, 2]))
    tensor(2)
    """
    x = as_operand("median", input)
    if x.dtype is dt.bool_:
        raise DTypeError("median: accepts numbers, got bool")
    if dim is None:
        n = numel(x.shape)
        if n == 0:
            return Full((), x.dtype, math.nan if x.dtype.is_floating_point else 0)()
        return Kth(0, (n - 1) // 2, True)(Reshape((n,))(x))[0]
    return _kth("median", median_result, x, dim, keepdim, True)


def _kth(name: str, result: Any, x: Any, dim: Any, keepdim: bool, nan_first: bool) -> Any:
    axes = _along(name, x, dim)
    if not axes:
        return result(Copy()(x), Full((), dt.int64, 0)())
    pair = Kth(axes[0], (x.shape[axes[0]] - 1) // 2, nan_first)(x)
    return result(*(keep_dims(v, shape_of(x), axes) if keepdim else v for v in pair))
