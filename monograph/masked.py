"""Reductions and normalizations of tensors with a mask: the names and meanings of torch.masked.

`mask` is a bool tensor that broadcasts to the input: elements where it is false do not count. Where
nothing counts, a result is the operation's identity (0 for a sum, -inf for a maximum), and nan
where there is none (mean, median). dim is an int, several, or None for all dimensions.
"""

from __future__ import annotations

import builtins
import math
from typing import Any

from .core import dtype as dt
from .core.dtype import as_dtype
from .core.errors import ArgumentError, DTypeError
from .core.shape import normalize_dims
from .ops import activations, cumulative, exponential, numeric, reduce, rounding
from .ops.align import as_operand, broadcast_to, cast
from .ops.arith import div, maximum, mul, sub, where
from .ops.parts import conj
from .ops.power import sqrt

__all__ = [
    "amax", "amin", "argmax", "argmin", "cumprod", "cumsum", "log_softmax", "logaddexp",
    "logsumexp", "mean", "median", "norm", "normalize", "prod", "softmax", "softmin", "std", "sum",
    "var",
]  # fmt: skip


def _dims(x: Any, dim: Any) -> tuple[int, ...]:
    return normalize_dims("masked", dim, builtins.len(x.shape))


def _mask(x: Any, mask: Any) -> Any:
    """The mask in the shape of x; all true where there is none."""
    if mask.dtype is not dt.bool_:
        mask = cast(mask, dt.bool_)
    return broadcast_to(mask, tuple(x.shape))


def _only(x: Any, mask: Any, value: Any) -> Any:
    """x with `value` where the mask is false."""
    return x if mask is None else where(_mask(x, mask), x, value)


def _whole(x: Any, dtype: Any) -> Any:
    if dtype is not None:
        return cast(x, as_dtype(dtype))
    return x if x.dtype.is_inexact else cast(x, dt.int64)


def _least(x: Any) -> Any:
    return -math.inf if x.dtype.is_inexact else dt.iinfo(x.dtype).min


def _most(x: Any) -> Any:
    return math.inf if x.dtype.is_floating_point else dt.iinfo(x.dtype).max


def _in(dtype: Any, out: Any) -> Any:
    return out if dtype is None else cast(out, as_dtype(dtype))


def sum(
    input: Any, dim: Any = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None
) -> Any:
    """Sum over `dim` of the elements that count.

    >>> mg.masked.sum(mg.tensor([1, 2, 3]), mask=mg.tensor([True, False, True]))
    tensor(4)
    """
    x = _whole(as_operand("masked.sum", input), dtype)
    return reduce.sum(_only(x, mask, 0), _dims(x, dim), bool(keepdim))


def prod(
    input: Any, dim: Any = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None
) -> Any:
    """Product over `dim` of the elements that count."""
    x = _whole(as_operand("masked.prod", input), dtype)
    return reduce.prod(_only(x, mask, 1), _dims(x, dim), bool(keepdim))


def cumsum(input: Any, dim: int, *, dtype: Any = None, mask: Any = None) -> Any:
    """Running sum along `dim` of the elements that count."""
    x = _in(dtype, as_operand("masked.cumsum", input))
    return cumulative.cumsum(_only(x, mask, 0), dim, dtype=x.dtype)


def cumprod(input: Any, dim: int, *, dtype: Any = None, mask: Any = None) -> Any:
    """Running product along `dim` of the elements that count."""
    x = _in(dtype, as_operand("masked.cumprod", input))
    return cumulative.cumprod(_only(x, mask, 1), dim, dtype=x.dtype)


def amax(
    input: Any, dim: Any = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None
) -> Any:
    """Largest element over `dim` of those that count."""
    x = _in(dtype, as_operand("masked.amax", input))
    return reduce.amax(_only(x, mask, _least(x)), _dims(x, dim), bool(keepdim))


def amin(
    input: Any, dim: Any = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None
) -> Any:
    """Smallest element over `dim` of those that count."""
    x = _in(dtype, as_operand("masked.amin", input))
    return reduce.amin(_only(x, mask, _most(x)), _dims(x, dim), bool(keepdim))


def argmax(
    input: Any, dim: Any = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None
) -> Any:
    """Where the largest element that counts is, along `dim` or in the flat tensor.

    In the dtype of the input, or `dtype`: as in torch.masked.
    """
    x = _in(dtype, as_operand("masked.argmax", input))
    return cast(reduce.argmax(_only(x, mask, _least(x)), dim, bool(keepdim)), x.dtype)


def argmin(
    input: Any, dim: Any = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None
) -> Any:
    """Where the smallest element that counts is, along `dim` or in the flat tensor.

    In the dtype of the input, or `dtype`: as in torch.masked.
    """
    x = _in(dtype, as_operand("masked.argmin", input))
    return cast(reduce.argmin(_only(x, mask, _most(x)), dim, bool(keepdim)), x.dtype)


def _count(x: Any, dim: Any, keepdim: bool, mask: Any) -> Any:
    """How many elements count: a tensor, or a number where there is no mask."""
    if mask is None:
        return math.prod(x.shape[a] for a in _dims(x, dim))
    return reduce.sum(_mask(x, mask), _dims(x, dim), keepdim)


def mean(
    input: Any, dim: Any = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None
) -> Any:
    """Mean over `dim` of the elements that count; floating dtypes.

    >>> mg.masked.mean(mg.tensor([1.0, 2.0, 6.0]), mask=mg.tensor([True, True, False]))
    tensor(1.5000)
    """
    x = _in(dtype, as_operand("masked.mean", input))
    if not x.dtype.is_inexact:
        raise DTypeError(f"masked.mean: needs a floating dtype, got {x.dtype.name}")
    total = sum(x, dim, keepdim=keepdim, mask=mask)
    return div(total, _count(x, dim, bool(keepdim), mask))


def median(
    input: Any, dim: int = -1, *, keepdim: bool = False, dtype: Any = None, mask: Any = None
) -> Any:
    """The middle (the lower of two) along `dim` of the elements that count."""
    given = as_operand("masked.median", input)
    x = given if given.dtype.is_floating_point else cast(given, dt.float32)
    return cast(numeric.nanmedian(_only(x, mask, math.nan), dim, keepdim).values, given.dtype)


def _variance(
    name: str, input: Any, dim: Any, unbiased: Any, correction: Any, keepdim: bool, dtype: Any,
    mask: Any,
) -> Any:  # fmt: skip
    if unbiased is not None and correction is not None:
        raise ArgumentError(f"{name}: give unbiased or correction, not both")
    if correction is None:
        correction = 1 if unbiased is None or unbiased else 0
    x = as_operand(name, input)
    d = as_dtype(dtype) if dtype is not None else x.dtype
    x = cast(x, d if d.is_inexact else dt.float32)
    count = _count(x, dim, True, mask)
    gap = sub(x, div(sum(x, dim, keepdim=True, mask=mask), count))
    total = sum(mul(gap, conj(gap)), dim, keepdim=keepdim, mask=mask)
    count = _count(x, dim, bool(keepdim), mask)
    if mask is None:
        return div(total, builtins.max(count - correction, 0))
    left = sub(cast(count, total.dtype.to_real()), correction)
    return div(total, rounding.clamp(left, min=0))


def var(
    input: Any, dim: Any = None, unbiased: Any = None, *, correction: Any = None,
    keepdim: bool = False, dtype: Any = None, mask: Any = None,
) -> Any:  # fmt: skip
    """Variance over `dim` of the elements that count; their number less `correction` divides."""
    return _variance("masked.var", input, dim, unbiased, correction, keepdim, dtype, mask)


def std(
    input: Any, dim: Any = None, unbiased: Any = None, *, correction: Any = None,
    keepdim: bool = False, dtype: Any = None, mask: Any = None,
) -> Any:  # fmt: skip
    """Standard deviation over `dim` of the elements that count; see var."""
    return sqrt(_variance("masked.std", input, dim, unbiased, correction, keepdim, dtype, mask))


def norm(
    input: Any, ord: Any = 2.0, dim: Any = None, *, keepdim: bool = False, dtype: Any = None,
    mask: Any = None,
) -> Any:  # fmt: skip
    """The ord-norm over `dim` of the elements that count."""
    x = _in(dtype, as_operand("masked.norm", input))
    kept = _only(x, mask, math.inf if ord == -math.inf else 0)
    return reduce.norm(kept, ord, _dims(x, dim), bool(keepdim))


def logsumexp(
    input: Any, dim: Any = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None
) -> Any:
    """Logarithm of the sum of exponentials over `dim` of the elements that count."""
    x = as_operand("masked.logsumexp", input)
    out = reduce.logsumexp(_only(x, mask, _least(x)), _dims(x, dim), keepdim)
    return cast(out, x.dtype if dtype is None else as_dtype(dtype))


def logaddexp(
    input: Any, other: Any, *, dtype: Any = None, input_mask: Any = None, other_mask: Any = None
) -> Any:
    """log(exp(input) + exp(other)), each with a mask of its own."""
    x, y = as_operand("masked.logaddexp", input), as_operand("masked.logaddexp", other)
    out = exponential.logaddexp(_only(x, input_mask, -math.inf), _only(y, other_mask, -math.inf))
    return cast(out, x.dtype if dtype is None else as_dtype(dtype))


def _normalized(name: str, function: Any, worst: Any) -> Any:
    def f(input: Any, dim: int, *, dtype: Any = None, mask: Any = None) -> Any:
        x = as_operand(f"masked.{name}", input)
        d = x.dtype if dtype is None else as_dtype(dtype)
        return function(_only(x, mask, worst(x)), dim, dtype=d)

    f.__name__ = f.__qualname__ = name
    f.__doc__ = f"{name} along `dim` of the elements that count."
    return f


softmax = _normalized("softmax", activations.softmax, _least)
log_softmax = _normalized("log_softmax", activations.log_softmax, _least)
softmin = _normalized("softmin", activations.softmin, _most)


def normalize(
    input: Any, ord: float, dim: int, *, eps: float = 1e-12, dtype: Any = None, mask: Any = None
) -> Any:
    """The elements that count, over their ord-norm along `dim` (at least eps); 0 elsewhere."""
    x = as_operand("masked.normalize", input)
    size = norm(x, ord, dim, keepdim=True, dtype=dtype, mask=mask)
    return div(_only(x, mask, 0), maximum(size, eps))
