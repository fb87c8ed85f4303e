"""Numeric functions composed of the others: logit, xlogy, distances, covariance, integrals."""

from __future__ import annotations

import math
from typing import Any

from ..core import dtype as dt
from ..core.errors import ArgumentError, DTypeError, ShapeError
from ..core.shape import is_number, normalize_dim, numel
from ..ir.op import is_value
from .align import as_operand, broadcast_to, cast, public
from .arith import add_, div_, eq, gt, le, mul, ne, sign, sub, sub_, where
from .batching import shape_of
from .complex import real, view_as_complex, view_as_real
from .contract import matmul
from .cumulative import cumsum
from .exponential import exp2, log
from .gathering import gather
from .joining import cat
from .movement import Reshape
from .parts import adjoint_of
from .power import pow, sqrt
from .reduce import median, median_result, norm, sum
from .rounding import clamp, floor_divide
from .shaping import slice_axis
from .sorting import sort


@public
def logit(input: Any, eps: float | None = None) -> Any:
    """log(x / (1 - x)): the inverse of sigmoid; with eps, x is first limited to [eps, 1 - eps].

    >>> logit(tensor([0.5]))
    tensor([0.])
    """
    x = input if eps is None else clamp(input, eps, 1 - eps)
    return log(div_(x, sub_(1, x)))


@public
def xlogy(input: Any, other: Any) -> Any:
    """input * log(other), element by element; 0 where input is 0 and other is not nan."""
    other_value = as_operand("xlogy", other)
    zero = eq(input, 0)
    product = mul(input, log(where(zero, 1.0, other_value)))
    return where(ne(other_value, other_value), math.nan, product)


@public
def subtract(input: Any, other: Any, *, alpha: Any = 1) -> Any:
    """Alias of sub: input - alpha * other."""
    return sub(input, other, alpha=alpha)


@public
def rsub(input: Any, other: Any, *, alpha: Any = 1) -> Any:
    """other - alpha * input, element by element."""
    return sub(other, input, alpha=alpha)


@public
def positive(input: Any) -> Any:
    """The tensor itself; bool has no such meaning."""
    if input.dtype is dt.bool_:
        raise DTypeError("positive: accepts numbers, got bool")
    return input


def _sign(input: Any) -> Any:
    """-1, 0 or 1 by the sign of each element; sign(nan) is nan, bool stays. The gradient is 0.

    >>> sign(tensor([-2.0, 0.0, 3.0]))
    tensor([-1.,  0.,  1.])
    """
    x = as_operand("sign", input)
    return x if x.dtype is dt.bool_ else sign(x)


_sign.__name__ = _sign.__qualname__ = "sign"
public(_sign)


@public
def sgn(input: Any) -> Any:
    """-1, 0 or 1 by the sign of each element; complex ones divided by their absolute value."""
    x = as_operand("sgn", input)
    return x if x.dtype is dt.bool_ else sign(x)


@public
def float_power(input: Any, exponent: Any) -> Any:
    """input to the power of exponent, in float64 or complex128."""
    is_complex = dt.result_type(input, exponent).is_complex
    number, wide = (complex, dt.complex128) if is_complex else (float, dt.float64)
    x, y = (cast(v, wide) if is_value(v) else number(v) for v in (input, exponent))
    return pow(x, y)


@public
def heaviside(input: Any, values: Any) -> Any:
    """0 where input is negative or nan, 1 where positive, `values` where it is 0.

    >>> heaviside(tensor([-1.0, 0.0, 2.0]), tensor(0.5))
    tensor([0.0000, 0.5000, 1.0000])
    """
    x = as_operand("heaviside", input)
    one = cast(gt(x, 0), x.dtype)
    return where(eq(x, 0), values, one)


@public
def ldexp(input: Any, other: Any) -> Any:
    """input * 2**other, element by element."""
    return mul(input, exp2(other))


@public
def dist(input: Any, other: Any, p: Any = 2) -> Any:
    """The p-norm of the difference of two tensors: a 0-d tensor."""
    return norm(sub_(input, other), p)


@public
def nanmedian(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """The middle element (the lower of two) of those that are not nan; see median."""
    x = as_operand("nanmedian", input)
    if not x.dtype.is_floating_point or not x.shape or numel(x.shape) == 0:
        return median(x) if dim is None else median(x, dim, keepdim)
    if dim is None:
        return nanmedian(Reshape((numel(x.shape),))(x), 0).values
    values, places = sort(x, dim)
    count = sum(eq(x, x), dim, True)
    middle = clamp(floor_divide(sub_(count, 1), 2), min=0)
    pair = [gather(v, dim, middle) for v in (values, places)]
    if not keepdim:
        pair = [sum(v, dim) for v in pair]
    return median_result(*pair)


@public
def cross(input: Any, other: Any, dim: int | None = None) -> Any:
    """Cross product of vectors of three elements along `dim` (default: the first of size 3)."""
    x, y = as_operand("cross", input), as_operand("cross", other, "other")
    if dim is None:
        sizes = [a for a, n in enumerate(x.shape) if n == 3]
        if not sizes:
            raise ShapeError(f"cross: no dimension of {shape_of(x)} has size 3")
        dim = sizes[0]
    axis = normalize_dim("cross", dim, len(x.shape))
    if x.shape[axis] != 3 or y.shape[axis] != 3:
        raise ShapeError(
            f"cross: dimension {dim} must have size 3, the shapes are {shape_of(x)} and "
            f"{shape_of(y)}"
        )

    def rolled(v: Any, by: int) -> Any:
        return cat([slice_axis(v, axis, by, 3), slice_axis(v, axis, 0, by)], axis)

    return sub_(mul(rolled(x, 1), rolled(y, 2)), mul(rolled(x, 2), rolled(y, 1)))


@public
def cov(input: Any, *, correction: int = 1, fweights: Any = None, aweights: Any = None) -> Any:
    """Covariance of the rows (variables) of a matrix whose columns are observations.

    fweights, aweights  how often, and with which weight, each observation counts (1-d)
    """
    x = as_operand("cov", input)
    if len(x.shape) > 2:
        raise ShapeError(f"cov: needs at most 2 dimensions, the shape is {shape_of(x)}")
    rows = Reshape((1, numel(x.shape)))(x) if len(x.shape) < 2 else x
    count, n = rows.shape
    weights = fweights if aweights is None else aweights
    if fweights is not None and aweights is not None:
        weights = mul(fweights, aweights)
    if weights is None:
        total: Any = n
        center, factor = div_(sum(rows, 1, True), n), float(max(n - correction, 0))
        weighted = gap = sub_(rows, broadcast_to(center, shape_of(rows)))
    else:
        total = sum(weights)
        gap = sub_(rows, div_(sum(mul(rows, weights), 1, True), total))
        weighted = mul(gap, weights)
        part = total if aweights is None else sum(mul(weights, aweights))
        lost = mul(div_(part, total), correction)
        factor = clamp(sub_(total, lost), min=0)
    out = div_(matmul(gap, adjoint_of(weighted)), factor)
    return Reshape(())(out) if count == 1 else out


@public
def corrcoef(input: Any) -> Any:
    """Correlation of the rows (variables) of a matrix: covariance over deviations, in [-1, 1]."""
    table = cov(input)
    if not table.shape:
        return div_(table, table)
    n = table.shape[0]
    diagonal = slice_axis(Reshape((n * n,))(table), 0, 0, n * n, n + 1)
    root = sqrt(real(diagonal))
    scaled = div_(div_(table, Reshape((n, 1))(root)), Reshape((1, n))(root))
    if scaled.dtype.is_complex:
        return view_as_complex(clamp(view_as_real(scaled), -1.0, 1.0))
    return clamp(scaled, -1.0, 1.0)


@public
def trapezoid(y: Any, x: Any = None, *, dx: float = 1, dim: int = -1) -> Any:
    """Integral of y along `dim` by the trapezoidal rule, at points x or `dx` apart.

    >>> trapezoid(tensor([1.0, 2.0, 3.0]))
    tensor(4.)
    """
    axis = normalize_dim("trapezoid", dim, len(y.shape))
    pairs, steps = _panels(y, x, axis)
    if steps is None:
        return mul(sum(pairs, axis), dx / 2)
    return div_(sum(mul(pairs, steps), axis), 2)


def _panels(y: Any, x: Any, axis: int) -> tuple[Any, Any]:
    """Sums of neighbours of y along `axis`, and the gaps between the points x (or None)."""
    n = y.shape[axis]
    pairs = add_(slice_axis(y, axis, 1, n), slice_axis(y, axis, 0, n - 1)) if n else y
    if x is None:
        return pairs, None
    if len(x.shape) == 1:
        x = Reshape(tuple(n if a == axis else 1 for a in range(len(y.shape))))(x)
    place = len(x.shape) - len(y.shape) + axis
    return pairs, sub_(slice_axis(x, place, 1, n), slice_axis(x, place, 0, n - 1))


@public
def trapz(y: Any, x: Any = None, *, dx: float = 1, dim: int = -1) -> Any:
    """Alias of trapezoid."""
    return trapezoid(y, x, dx=dx, dim=dim)


@public
def renorm(input: Any, p: float, dim: int, maxnorm: float) -> Any:
    """Scale down the slices along `dim` whose p-norm is above maxnorm."""
    if maxnorm < 0 or not is_number(maxnorm):
        raise ArgumentError(f"renorm: maxnorm must not be negative, got {maxnorm!r}")
    x = as_operand("renorm", input)
    axis = normalize_dim("renorm", dim, len(x.shape))
    others = tuple(a for a in range(len(x.shape)) if a != axis)
    size = norm(x, p, others, True)
    factor = where(le(size, maxnorm), 1.0, div_(maxnorm, add_(size, 1e-7)))
    return mul(x, factor)


@public
def cumulative_trapezoid(y: Any, x: Any = None, *, dx: float = 1, dim: int = -1) -> Any:
    """Running integral of y along `dim` by the trapezoidal rule, one element shorter than y."""
    axis = normalize_dim("cumulative_trapezoid", dim, len(y.shape))
    pairs, steps = _panels(y, x, axis)
    if steps is None:
        return mul(cumsum(pairs, axis), dx / 2)
    return div_(cumsum(mul(pairs, steps), axis), 2)
