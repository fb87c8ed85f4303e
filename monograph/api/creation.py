"""Functions that make tensors: from data, filled, counted."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.device import usable
from ..core.dtype import DType, as_dtype
from ..core.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError
from ..core.layouts import in_any_memory
from ..core.modes import modes
from ..core.shape import as_index, as_shape, is_number
from ..core.symbolic import is_symbolic
from ..ir.op import Full
from ..ops.align import literal
from ..ops.arguments import both_names
from ..ops.triangular import Iota
from ..tensor import Tensor, wrap
from ..transform.vmap import Batched


def _leaf(array: np.ndarray, requires_grad: bool) -> Tensor:
    t = wrap(array)
    if modes.trace is not None:
        t._payload = modes.trace.constant(array, dt.BY_NUMPY[array.dtype])
    return t.requires_grad_() if requires_grad else t


def as_array(data: Any, dtype: DType | None, name: str) -> np.ndarray:
    """Python data as an array by PyTorch's rules: numbers give bool, int64 or the default float."""
    if isinstance(data, Tensor):
        array = data._array(name)
    elif isinstance(data, (np.ndarray, np.generic)) or hasattr(data, "__array__"):
        array = np.asarray(data)
    else:
        data = _plain(data)
        try:
            array = np.asarray(data)
        except ValueError:
            raise ShapeError(f"{name}: nested sequences have different lengths") from None
        if array.dtype.kind in "fc" and dtype is None:
            found = _dtypes_within(data) or {dt.get_default_dtype()}
            array = array.astype(functools.reduce(dt.promote_types, found).numpy)
        if array.size == 0 and dtype is None:
            array = array.astype(dt.get_default_dtype().numpy)
    if array.dtype.kind in "OUSV" and array.dtype not in dt.BY_NUMPY:
        raise ArgumentTypeError(f"{name}: cannot make a tensor of {type(data).__name__} {data!r}")
    if dtype is None:
        if array.dtype not in dt.BY_NUMPY:
            raise DTypeError(f"{name}: arrays of {array.dtype} are not supported")
        return array
    if array.dtype.kind == "c" and not dtype.is_complex and dtype is not dt.bool_:
        array = array.real
    with np.errstate(all="ignore"):
        return array.astype(dtype.numpy, copy=False)


def _dtypes_within(data: Any) -> set[DType]:
    """The dtypes of what is in nested lists: arrays, NumPy's scalars, Python's inexact numbers."""
    if isinstance(data, list):
        kinds = {*map(type, data)}
        if not kinds <= {float, int, bool, complex}:
            return set().union(*map(_dtypes_within, data))
        data = 1j if complex in kinds else 1.0 if float in kinds else 1
    if isinstance(data, (np.ndarray, np.generic)):
        return {as_dtype(data.dtype)}
    default = dt.get_default_dtype()
    return {float: {default}, complex: {default.to_complex()}}.get(type(data), set())


def _plain(data: Any) -> Any:
    if isinstance(data, (list, tuple)):
        return [_plain(d) for d in data]
    if isinstance(data, Tensor):
        return data._array("tensor")
    return data


def tensor(
    data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A new tensor with a copy of `data`: a number, nested lists, a NumPy array, or a tensor.

    >>> tensor([[1, 2], [3, 4]]).dtype
    monograph.int64
    """
    usable(device, "tensor")
    wanted = None if dtype is None else as_dtype(dtype)
    if isinstance(data, Tensor) and type(data._value()) is not np.ndarray:
        copied = data.detach().clone()
        return copied if wanted is None else copied.to(wanted)
    array = np.array(as_array(data, wanted, "tensor"), order="C", copy=True)
    return _leaf(array, requires_grad)


def as_tensor(
    data: Any, dtype: Any = None, device: Any = None, *, copy: bool | None = None
) -> Tensor:
    """`data` as a tensor, sharing memory with a NumPy array or tensor where it can.

    copy  True: never sharing; False: ArgumentError where it cannot share
    """
    usable(device, "as_tensor")
    wanted = None if dtype is None else as_dtype(dtype)
    if copy:
        return tensor(data, dtype=wanted)
    if copy is False:
        have = getattr(data, "dtype", None)
        if have is None or as_dtype(have) is not (wanted or as_dtype(have)):
            raise ArgumentError("as_tensor: copy=False, but a new tensor has to be made")
    if isinstance(data, Tensor):
        return data if wanted is None else data.to(wanted)
    made = _leaf(as_array(data, wanted, "as_tensor"), False)
    return made if isinstance(data, (list, tuple, int, float)) else made._lend()


asarray = as_tensor


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor that shares the memory of a NumPy array."""
    if not isinstance(array, np.ndarray):
        raise ArgumentTypeError(f"from_numpy: expected an array, got {type(array).__name__}")
    return _leaf(as_array(array, None, "from_numpy"), False)._lend()


def _full(
    name: str, shape: Any, value: Any, dtype: Any, device: Any, requires_grad: bool
) -> Tensor:
    usable(device, name)
    d = dt.get_default_dtype() if dtype is None else as_dtype(dtype)
    try:
        out = Full(tuple(shape), d, literal(value, d))()
    except ValueError:
        if all(n >= 0 for n in shape):
            raise
        raise ShapeError(f"{name}: sizes must not be negative, got {tuple(shape)}") from None
    return out.requires_grad_() if requires_grad else out


@both_names(size="shape")
def zeros(
    shape: Any = (), *more: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A tensor of zeros of the given shape (sizes, or one tuple).

    >>> zeros(2, 3).shape
    (2, 3)
    """
    return _full("zeros", as_shape("zeros", (shape, *more)), 0, dtype, device, requires_grad)


@both_names(size="shape")
def ones(
    shape: Any = (), *more: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A tensor of ones of the given shape (sizes, or one tuple)."""
    return _full("ones", as_shape("ones", (shape, *more)), 1, dtype, device, requires_grad)


@both_names(size="shape")
def empty(
    shape: Any = (), *more: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A tensor of the given shape; its elements are zeros (determinism before speed)."""
    return _full("empty", as_shape("empty", (shape, *more)), 0, dtype, device, requires_grad)


@both_names(size="shape")
def full(
    shape: Any, fill_value: Any, *, dtype: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """A tensor of the given shape filled with a number (its type decides the dtype).

    >>> full((2,), 7)
    tensor([7, 7])
    """
    if isinstance(fill_value, Tensor):
        fill_value = fill_value.item()
    if not is_number(fill_value):
        raise ArgumentTypeError(f"full: fill_value must be a number, got {fill_value!r}")
    d = dt.of_scalar(fill_value) if dtype is None else dtype
    return _full("full", as_shape("full", (shape,)), fill_value, d, device, requires_grad)


def _full_as(
    input: Tensor, name: str, shape: Any, value: Any, dtype: Any, device: Any, requires_grad: bool
) -> Tensor:
    """_full; inside vmap with memory for each example where `input` is batched."""
    payload = input._payload
    if type(payload) is not Batched:
        return _full(name, shape, value, dtype, device, requires_grad)
    whole = (payload.level.size, *shape) if payload.dim is not None else shape
    inner = _full_as(payload.value, name, whole, value, dtype, device, False)
    out = wrap(Batched(inner, None if payload.dim is None else 0, payload.level))
    return out.requires_grad_() if requires_grad else out


def _new(name: str, value: Any) -> Any:
    def f(
        self: Tensor, *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False
    ) -> Tensor:
        d = self.dtype if dtype is None else dtype
        shape = as_shape(name, size)
        return _full_as(self, name, shape, value, d, device, requires_grad)

    f.__name__ = name
    f.__qualname__ = f"Tensor.{name}"
    f.__doc__ = f"A tensor made as by {name[4:]}, by default of this one's dtype."
    return in_any_memory(f)


@in_any_memory
def _new_full(
    self: Tensor, size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """A tensor made as by full, by default of this one's dtype."""
    d = self.dtype if dtype is None else dtype
    shape = as_shape("new_full", (size,))
    return _full_as(self, "new_full", shape, fill_value, d, device, requires_grad)


@in_any_memory
def _new_tensor(
    self: Tensor, data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A tensor with a copy of `data`, by default of this one's dtype."""
    d = self.dtype if dtype is None else dtype
    return tensor(data, dtype=d, device=device, requires_grad=requires_grad)


Tensor.new_zeros = _new("new_zeros", 0)  # type: ignore[attr-defined]
Tensor.new_ones = _new("new_ones", 1)  # type: ignore[attr-defined]
Tensor.new_empty = _new("new_empty", 0)  # type: ignore[attr-defined]
Tensor.new_full = _new_full  # type: ignore[attr-defined]
Tensor.new_tensor = _new_tensor  # type: ignore[attr-defined]


def _like(name: str, value: Any) -> Any:
    def f(
        input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
    ) -> Tensor:
        d = input.dtype if dtype is None else dtype
        return _full_as(input, name, input.shape, value, d, device, requires_grad)

    f.__name__ = f.__qualname__ = name
    f.__doc__ = f"A tensor like `input` in shape and dtype, made as by {name[:-5]}."
    return f


zeros_like = _like("zeros_like", 0)
ones_like = _like("ones_like", 1)
empty_like = _like("empty_like", 0)


def full_like(
    input: Tensor, fill_value: Any, *, dtype: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """A tensor like `input` in shape and dtype, filled with a number."""
    d = input.dtype if dtype is None else dtype
    return _full_as(input, "full_like", input.shape, fill_value, d, device, requires_grad)


@both_names(end="stop")
def arange(
    start: Any, stop: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Numbers from start (default 0) up to but not including stop.

    >>> arange(3)
    tensor([0, 1, 2])
    """
    usable(device, "arange")
    if stop is None:
        start, stop = 0, start
    start, stop, step = (v.item() if isinstance(v, Tensor) else v for v in (start, stop, step))
    if not is_symbolic(step) and step == 0:
        raise ArgumentError("arange: step must not be 0")
    if dtype is None:
        whole = all(isinstance(v, (int, np.integer)) for v in (start, stop, step))
        dtype = dt.int64 if whole else dt.get_default_dtype()
    d = as_dtype(dtype)
    if d.category == dt.INT and any(is_symbolic(v) for v in (start, stop, step)):
        count = max(-((start - stop) // step), 0)
        made = Iota((count,), d, 0)() * step + start
        return made.requires_grad_() if requires_grad else made
    if d.category == dt.INT:
        # As PyTorch counts: in whole numbers for int64, in float64 for the others.
        first, by = int(start), int(step)
        if d is dt.int64:
            if not by:
                raise ArgumentError(f"arange: step {step} is 0 as a whole number")
            count = len(range(first, int(stop), by))
        else:
            count = max(math.ceil((stop - start) / step), 0)
        array = first + by * np.arange(count)
        return _leaf(array.astype(d.numpy), requires_grad)
    array = np.arange(start, stop, step)
    return _leaf(array.astype(d.numpy), requires_grad)


@both_names(end="stop", steps="num")
def linspace(
    start: Any, stop: Any, num: int, *, dtype: Any = None, device: Any = None,
    requires_grad: bool = False, endpoint: bool = True,
) -> Tensor:  # fmt: skip
    """`num` numbers from start to stop, both included unless endpoint is False.

    start, stop  numbers or 0-d tensors; integer dtypes truncate what lies between

    >>> linspace(0, 1, 3)
    tensor([0.0000, 0.5000, 1.0000])
    """
    usable(device, "linspace")
    given = (dt.result_type(v) for v in (start, stop))
    d = dt.get_default_dtype() if dtype is None else as_dtype(dtype)
    if dtype is None and any(v.is_complex for v in given):
        d = d.to_complex()
    count = as_index("linspace", "num", num)
    line = _spaced("linspace", start, stop, count if endpoint else count + 1, d)
    return _leaf(line[:count].astype(d.numpy), requires_grad)


def _spaced(name: str, start: Any, end: Any, steps: Any, d: DType) -> np.ndarray:
    """`steps` numbers from start to end in double precision; each half counts from its own end."""
    steps = as_index(name, "steps", steps)
    if steps < 0:
        raise ArgumentError(f"{name}: steps must not be negative, got {steps}")
    kind = complex if d.is_complex else float
    low, high = (kind(literal(v.item() if isinstance(v, Tensor) else v, d)) for v in (start, end))
    if steps < 2:
        return np.full((steps,), low)
    i, step = np.arange(steps), (high - low) / (steps - 1)
    return np.where(i < steps // 2, low + step * i, high - step * (steps - 1 - i))


def logspace(
    start: Any, end: Any, steps: int, base: float = 10.0, *, dtype: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """`steps` numbers from base**start to base**end, evenly spaced in the exponent.

    >>> logspace(0, 2, 3)
    tensor([  1.,  10., 100.])
    """
    usable(device, "logspace")
    d = dt.get_default_dtype() if dtype is None else as_dtype(dtype)
    with np.errstate(all="ignore"):
        spaced = _spaced("logspace", start, end, steps, d)
        array = np.power(complex(base) if d.is_complex else float(base), spaced)
        return _leaf(array.astype(d.numpy), requires_grad)


def eye(
    n: int, m: int | None = None, *, dtype: Any = None, device: Any = None,
    requires_grad: bool = False, k: int = 0,
) -> Tensor:  # fmt: skip
    """The (n, m) matrix with ones on diagonal k (m defaults to n)."""
    usable(device, "eye")
    d = dt.get_default_dtype() if dtype is None else as_dtype(dtype)
    return _leaf(np.eye(n, m, k, dtype=d.numpy), requires_grad)


def scalar_tensor(
    s: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A 0-d tensor of a number, in the default floating dtype unless `dtype` says otherwise."""
    d = dt.get_default_dtype() if dtype is None else dtype
    return tensor(s, dtype=d, device=device, requires_grad=requires_grad)


def empty_permuted(
    size: Any, physical_layout: Any, *, dtype: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """A tensor of zeros of shape `size` whose dimensions lie in memory in the given order.

    physical_layout  the dimensions from the slowest to the fastest
    """
    usable(device, "empty_permuted")
    shape = as_shape("empty_permuted", (size,))
    order = [as_index("empty_permuted", "physical_layout", a) for a in physical_layout]
    if sorted(order) != list(range(len(shape))):
        raise ShapeError(f"empty_permuted: {order} must name each of {len(shape)} dimensions once")
    d = dt.get_default_dtype() if dtype is None else as_dtype(dtype)
    array = np.zeros([shape[a] for a in order], d.numpy).transpose(np.argsort(order))
    return _leaf(array, requires_grad)


def empty_strided(
    size: Any, stride: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A tensor of zeros of shape `size` whose elements lie `stride` elements apart in memory."""
    usable(device, "empty_strided")
    shape, steps = as_shape("empty_strided", (size,)), as_shape("empty_strided", (stride,))
    if len(shape) != len(steps) or min(steps, default=0) < 0:
        raise ShapeError(f"empty_strided: strides {steps} do not fit shape {shape}")
    d = dt.get_default_dtype() if dtype is None else as_dtype(dtype)
    count = 1 + sum((n - 1) * s for n, s in zip(shape, steps)) if 0 not in shape else 0
    memory = np.zeros(count, d.numpy)
    bytes_ = [s * d.itemsize for s in steps]
    return _leaf(np.lib.stride_tricks.as_strided(memory, shape, bytes_), requires_grad)


@in_any_memory
def _new_empty_strided(
    self: Tensor, size: Any, stride: Any, *, dtype: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """A tensor made as by empty_strided, by default of this one's dtype."""
    d = self.dtype if dtype is None else dtype
    return empty_strided(size, stride, dtype=d, device=device, requires_grad=requires_grad)


Tensor.new_empty_strided = _new_empty_strided  # type: ignore[attr-defined]
