"""Older ways to make tensors: Tensor(2, 3), FloatTensor([1.0]), x.type(LongTensor), Variable(x)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.device import usable
from ..core.dtype import DType
from ..core.errors import ArgumentTypeError
from ..core.shape import Size
from ..tensor import Tensor, _init
from .creation import as_array, as_tensor, empty, tensor

_NAMES = {
    "FloatTensor": dt.float32, "DoubleTensor": dt.float64, "HalfTensor": dt.float16,
    "BFloat16Tensor": dt.bfloat16, "ByteTensor": dt.uint8, "CharTensor": dt.int8,
    "ShortTensor": dt.int16, "IntTensor": dt.int32, "LongTensor": dt.int64, "BoolTensor": dt.bool_,
}  # fmt: skip


class TensorType:
    """A kind of tensor by its old name: FloatTensor(2, 3), LongTensor([1, 2]).

    >>> TYPES["LongTensor"]([1, 2])
    tensor([1, 2])
    """

    def __init__(self, name: str, dtype: DType):
        self.__name__ = name
        self.dtype = dtype

    def __call__(self, *data: Any, device: Any = None) -> Tensor:
        return _typed(self.__name__, self.dtype, data, device)

    def __instancecheck__(self, other: Any) -> bool:
        return isinstance(other, Tensor) and other.dtype == self.dtype

    def __repr__(self) -> str:
        return f"monograph.{self.__name__}"


TYPES = {name: TensorType(name, d) for name, d in _NAMES.items()}
_OF_DTYPE = {d: name for name, d in _NAMES.items()}


def _typed(name: str, dtype: DType, data: tuple, device: Any) -> Tensor:
    """A tensor of a shape (ints, or a Size), unset; or of the elements of a sequence."""
    usable(device, name)
    if all(isinstance(d, int) and not isinstance(d, bool) for d in data):
        return empty(*data, dtype=dtype) if data else empty(0, dtype=dtype)
    if len(data) != 1 or isinstance(data[0], (bool, float, str)):
        raise ArgumentTypeError(
            f"{name}: expected sizes (ints) or one sequence, array or tensor, got {data!r}"
        )
    if isinstance(data[0], Size):
        return empty(data[0], dtype=dtype)
    if isinstance(data[0], Tensor):
        if data[0].dtype != dtype:
            raise ArgumentTypeError(
                f"{name}: expected a tensor of {dtype}, got {data[0].dtype}; use .to({dtype})"
            )
        return data[0].detach()
    if isinstance(data[0], np.ndarray):
        array = as_array(data[0], None, name)
        return as_tensor(array) if dt.BY_NUMPY[array.dtype] == dtype else tensor(array, dtype=dtype)
    return tensor(data[0], dtype=dtype)


def make(self: Tensor, *data: Any, device: Any = None) -> None:
    """Tensor(2, 3): unset, of the default dtype; Tensor([1, 2]): of the elements, as floats."""
    made = _typed("Tensor", dt.get_default_dtype(), data, device)
    _init(self, made._value())


def type(self: Tensor, dtype: Any = None, non_blocking: bool = False) -> Any:
    """Without an argument the old name of the tensor's kind; else the tensor in another dtype.

    >>> tensor([1.5]).type()
    'monograph.FloatTensor'
    >>> tensor([1.5]).type("torch.LongTensor")
    tensor([1])
    """
    if dtype is None:
        return f"monograph.{_OF_DTYPE.get(self.dtype, str(self.dtype))}"
    if isinstance(dtype, str):
        found = TYPES.get(dtype.rpartition(".")[2])
        if found is None:
            raise ArgumentTypeError(f"type: {dtype!r} is not a kind of tensor, as 'FloatTensor' is")
        dtype = found
    return self.to(dtype.dtype if isinstance(dtype, TensorType) else dtype)


def Variable(data: Tensor, requires_grad: bool = False) -> Tensor:
    """The same memory as a new leaf (tensors have long had gradients themselves)."""
    if not isinstance(data, Tensor):
        raise ArgumentTypeError(f"Variable: expected a tensor, got {data.__class__.__name__}")
    return data.detach().requires_grad_(requires_grad)


Tensor.__init__ = make  # type: ignore[method-assign, assignment]
Tensor.type = type  # type: ignore[attr-defined]
