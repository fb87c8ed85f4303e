"""The Python array API standard as a namespace of its own, `x.__array_namespace__()`.

It is monograph's main namespace, except where one call means something else in PyTorch and in the
standard: those functions are here, with the standard's meaning.

>>> import monograph.array_api as xp
>>> xp.equal(tensor([1, 2]), tensor([1, 3]))
tensor([ True, False])
>>> xp.nonzero(tensor([0, 5]))
(tensor([1]),)

Source: https://data-apis.org/array-api (2024.12).
"""

from __future__ import annotations

import functools as _functools
import sys
from collections.abc import Callable
from typing import Any

from ..core import dtype as _dt
from ..core.errors import ShapeError as _ShapeError
from ..core.shape import normalize_dim as _normalize_dim
from ..tensor import Tensor as _Tensor

_main = sys.modules[__name__.rpartition(".")[0]]

# Functions of two operands in which tensors of no dimensions decide about dtypes as others do.
_OF_TWO = """
add atan2 bitwise_and bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor copysign divide
greater greater_equal hypot less less_equal logaddexp logical_and logical_or logical_xor maximum
minimum multiply nextafter not_equal pow remainder subtract
""".split()

__all__ = [
    "all", "any", "clip", "count_nonzero", "equal", "floor_divide", "linalg", "max", "mean",
    "meshgrid", "min", "nonzero", "prod", "sort", "squeeze", "std", "sum", "var", "result_type",
    "where", *_OF_TWO,
]  # fmt: skip

_UNSIGNED = (_dt.uint8, _dt.uint16, _dt.uint32, _dt.uint64)


# -- elementwise -----------------------------------------------------------------------------------


def _alike(x1: Any, x2: Any) -> tuple[Any, Any]:
    """Both in their common dtype, to which tensors of no dimensions count as others do."""
    if isinstance(x1, _Tensor) and isinstance(x2, _Tensor) and x1.dtype is not x2.dtype:
        dtype = _main.promote_types(x1.dtype, x2.dtype)
        return x1.to(dtype), x2.to(dtype)
    return x1, x2


def _of_two(name: str) -> Callable:
    f = getattr(_main, name)

    @_functools.wraps(f)
    def promoting(x1: Any, x2: Any, /, **options: Any) -> Any:
        return f(*_alike(x1, x2), **options)

    return promoting


globals().update({_name: _of_two(_name) for _name in _OF_TWO})


def where(condition: _Tensor, x1: Any, x2: Any, /) -> _Tensor:
    """x1 where the condition is true, else x2; all three broadcast."""
    return _main.where(condition, *_alike(x1, x2))


def result_type(*arrays_and_dtypes: Any) -> _dt.DType:
    """The dtype of an operation on tensors, dtypes and Python numbers."""
    return _main.result_type(*(x.dtype if isinstance(x, _Tensor) else x for x in arrays_and_dtypes))


def equal(x1: Any, x2: Any, /) -> _Tensor:
    """x1 == x2, element by element."""
    return _main.eq(*_alike(x1, x2))


def clip(x: _Tensor, /, min: Any = None, max: Any = None) -> _Tensor:
    """x with elements below min and above max replaced by these, in x's dtype; None: no limit."""
    if min is None and max is None:
        return x.clone()
    return _main.clamp(x, min, max).to(x.dtype)


def floor_divide(x1: Any, x2: Any, /) -> _Tensor:
    """x1 / x2, rounded down; infinite operands give what the limit of the quotient is."""
    x1, x2 = _alike(x1, x2)
    whole = _main.floor_divide(x1, x2)
    if not whole.dtype.is_floating_point:
        return whole
    infinite = [
        _main.isinf(x) if isinstance(x, _Tensor) else _main.tensor(abs(x) == float("inf"))
        for x in (x1, x2)
    ]
    return _main.where(infinite[0] | infinite[1], _main.floor(_main.div(x1, x2)), whole)


# -- reductions ------------------------------------------------------------------------------------


def _reduced(f: Callable, x: _Tensor, axis: Any, keepdims: bool, **options: Any) -> _Tensor:
    """f over `axis`: None is all of them, and () none, for which f sees single elements."""
    if axis == ():
        return f(_main.unsqueeze(x, -1), -1, **options)
    axes = tuple(range(x.ndim)) if axis is None else axis
    if axes == ():
        return f(_main.reshape(x, (1,)), 0, **options)
    return f(x, axes, keepdim=keepdims, **options)


def _sum_dtype(x: _Tensor, dtype: Any) -> Any:
    return _dt.uint64 if dtype is None and x.dtype in _UNSIGNED else dtype


def sum(x: _Tensor, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> _Tensor:
    """Sum over `axis`; signed integers sum to int64, unsigned ones to uint64."""
    return _reduced(_main.sum, x, axis, keepdims, dtype=_sum_dtype(x, dtype))


def prod(x: _Tensor, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> _Tensor:
    """Product over `axis`; signed integers give int64, unsigned ones uint64."""
    made = x if dtype is None else x.to(dtype)
    axes = range(x.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    places = sorted(_normalize_dim("prod", a, x.ndim) for a in axes)
    if not places:
        return _reduced(_main.prod, made, (), False, dtype=_sum_dtype(x, dtype))
    for a in places:
        made = _main.prod(made, a, True, dtype=_sum_dtype(x, dtype))
    return made if keepdims else _main.squeeze(made, tuple(places))


def mean(x: _Tensor, /, *, axis: Any = None, keepdims: bool = False) -> _Tensor:
    """Mean over `axis`."""
    return _reduced(_main.mean, x, axis, keepdims)


def var(
    x: _Tensor, /, *, axis: Any = None, correction: float = 0.0, keepdims: bool = False
) -> _Tensor:
    """Variance over `axis`: squared distances from the mean, summed, over n - correction."""
    return _reduced(_main.var, x, axis, keepdims, correction=correction)


def std(
    x: _Tensor, /, *, axis: Any = None, correction: float = 0.0, keepdims: bool = False
) -> _Tensor:
    """Standard deviation over `axis`: the root of var."""
    return _reduced(_main.std, x, axis, keepdims, correction=correction)


def max(x: _Tensor, /, *, axis: Any = None, keepdims: bool = False) -> _Tensor:
    """Largest element over `axis`, without its place."""
    return _reduced(_main.amax, x, axis, keepdims)


def min(x: _Tensor, /, *, axis: Any = None, keepdims: bool = False) -> _Tensor:
    """Smallest element over `axis`, without its place."""
    return _reduced(_main.amin, x, axis, keepdims)


def all(x: _Tensor, /, *, axis: Any = None, keepdims: bool = False) -> _Tensor:
    """Whether all elements over `axis` are true."""
    return _reduced(_main.all, x, axis, keepdims)


def any(x: _Tensor, /, *, axis: Any = None, keepdims: bool = False) -> _Tensor:
    """Whether an element over `axis` is true."""
    return _reduced(_main.any, x, axis, keepdims)


def count_nonzero(x: _Tensor, /, *, axis: Any = None, keepdims: bool = False) -> _Tensor:
    """How many elements over `axis` are not 0."""
    return sum(_main.ne(x, 0), axis=axis, keepdims=keepdims, dtype=_dt.int64)


# -- arrangement -----------------------------------------------------------------------------------


def sort(
    x: _Tensor, /, *, axis: int = -1, descending: bool = False, stable: bool = True
) -> _Tensor:
    """The elements in order along `axis`, without their places."""
    return _main.sort(x, axis, descending, stable).values


def nonzero(x: _Tensor, /) -> tuple[_Tensor, ...]:
    """Positions of the elements that are not 0, one tensor for each dimension."""
    if not x.ndim:
        raise _ShapeError("nonzero: needs at least 1 dimension, the tensor is 0-d")
    return _main.nonzero(x, as_tuple=True)


def squeeze(x: _Tensor, /, axis: Any) -> _Tensor:
    """Without the dimensions `axis`; ShapeError where one is not of size 1."""
    for a in axis if isinstance(axis, tuple) else (axis,):
        size = x.shape[_normalize_dim("squeeze", a, x.ndim)]
        if size != 1:
            raise _ShapeError(f"squeeze: axis {a} of shape {tuple(x.shape)} has size {size}, not 1")
    return _main.squeeze(x, axis)


def meshgrid(*arrays: _Tensor, indexing: str = "xy") -> list[_Tensor]:
    """Coordinates of a grid, in a list; "xy": the first two dimensions are exchanged."""
    return list(_main.meshgrid(*arrays, indexing=indexing))


from . import linalg  # noqa: E402  (it takes its functions from here; before __getattr__ answers)


def __getattr__(name: str) -> Any:
    return getattr(_main, name)


def __dir__() -> list[str]:
    return sorted({*dir(_main), *__all__})
