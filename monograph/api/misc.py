"""Small questions and settings of the main namespace, and old ways to make tensors."""

from __future__ import annotations

import mmap
from importlib import import_module
from typing import Any

import numpy as np

from ..core import device as devices
from ..core import dtype as dt
from ..core.errors import ArgumentError, ShapeError
from ..core.modes import modes
from ..ops.align import FUNCTIONAL
from ..ops.random import drop
from ..tensor import Tensor
from .creation import arange, from_numpy
from .typed import TYPES

__all__ = [
    "alpha_dropout_", "compiled_with_cxx11_abi", "dropout_", "embedding", "feature_alpha_dropout_",
    "feature_dropout", "feature_dropout_", "frombuffer", "from_file", "get_device_module",
    "get_deterministic_debug_mode", "get_num_interop_threads", "is_anomaly_check_nan_enabled",
    "is_anomaly_enabled",
    "is_deterministic_algorithms_warn_only_enabled", "is_distributed", "is_inference",
    "is_nonzero", "is_signed", "is_storage", "is_warn_always_enabled", "range",
    "set_anomaly_enabled", "set_default_tensor_type", "set_deterministic_debug_mode",
    "set_num_interop_threads", "set_warn_always", "to_dlpack", "typename",
]  # fmt: skip


def embedding(
    weight: Tensor, indices: Tensor, padding_idx: int = -1, scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:  # fmt: skip
    """Rows of `weight` by their numbers: nn.functional.embedding with its first two exchanged."""
    return FUNCTIONAL["embedding"](
        indices, weight, None if padding_idx < 0 else padding_idx,
        scale_grad_by_freq=scale_grad_by_freq, sparse=sparse,
    )  # fmt: skip


def dropout_(input: Tensor, p: float, train: bool) -> Tensor:
    """nn.functional.dropout in place."""
    return FUNCTIONAL["dropout"](input, p, train, True)


def alpha_dropout_(input: Tensor, p: float, train: bool) -> Tensor:
    """nn.functional.alpha_dropout in place."""
    return FUNCTIONAL["alpha_dropout"](input, p, train, True)


def feature_alpha_dropout_(input: Tensor, p: float, train: bool) -> Tensor:
    """nn.functional.feature_alpha_dropout in place."""
    return FUNCTIONAL["feature_alpha_dropout"](input, p, train, True)


def feature_dropout(input: Tensor, p: float, train: bool, inplace: bool = False) -> Tensor:
    """In training, zero whole channels of (N, C, ...) with probability p; divide by 1 - p."""
    if input.ndim < 2:
        raise ShapeError(f"feature_dropout: needs at least 2 dimensions, got {tuple(input.shape)}")
    return drop(
        "feature_dropout", input, p, train, inplace, (*input.shape[:2], *[1] * (input.ndim - 2))
    )


def feature_dropout_(input: Tensor, p: float, train: bool) -> Tensor:
    """feature_dropout in place."""
    return feature_dropout(input, p, train, True)


def is_nonzero(input: Tensor) -> bool:
    """Whether the single element of a tensor is not 0."""
    if input.numel() != 1:
        raise ShapeError(f"is_nonzero: needs a single element, got shape {tuple(input.shape)}")
    return bool(input)


def is_inference(input: Tensor) -> bool:
    """Whether a tensor was made in inference_mode."""
    return input._inference


def is_signed(input: Tensor) -> bool:
    """Whether a tensor's dtype holds negative numbers."""
    return input.dtype.is_signed


def is_storage(obj: Any) -> bool:
    """False: memory is no object of its own here."""
    return False


def is_distributed(input: Tensor) -> bool:
    """False."""
    return False


def typename(obj: Any) -> str:
    """The name of an object's type; of a tensor the old one ("monograph.FloatTensor")."""
    if isinstance(obj, Tensor):
        return obj.type()
    kind = obj if isinstance(obj, type) else type(obj)
    return f"{kind.__module__}.{kind.__qualname__}"


def set_default_tensor_type(t: Any) -> None:
    """Set the default dtype by an old name: "torch.DoubleTensor" or the type itself."""
    name = t if isinstance(t, str) else getattr(t, "__name__", str(t))
    found = TYPES.get(name.rpartition(".")[2])
    if found is None:
        raise ArgumentError(f"set_default_tensor_type: {t!r} is not the name of a tensor type")
    dt.set_default_dtype(found.dtype)


def frombuffer(
    buffer: Any, *, dtype: Any, count: int = -1, offset: int = 0, requires_grad: bool = False
) -> Tensor:
    """A 1-d tensor in the memory of an object with a buffer (bytearray, memoryview, array).

    >>> frombuffer(bytearray([1, 0, 2, 0]), dtype=int16)
    tensor([1, 2], dtype=monograph.int16)
    """
    d = dt.as_dtype(dtype)
    made = from_numpy(np.frombuffer(buffer, d.numpy, count, offset))
    return made.requires_grad_() if requires_grad else made


def from_file(filename: Any, shared: bool = False, size: int = 0, *, dtype: Any = None) -> Tensor:
    """A 1-d tensor of `size` elements in a file; shared: what is written goes into the file."""
    d = dt.get_default_dtype() if dtype is None else dt.as_dtype(dtype)
    if shared:
        with open(filename, "a+b") as file:
            file.truncate(max(size * d.itemsize, file.seek(0, 2)))
    with open(filename, "r+b" if shared else "rb") as file:
        access = mmap.ACCESS_WRITE if shared else mmap.ACCESS_COPY
        memory = mmap.mmap(file.fileno(), size * d.itemsize, access=access)
    return from_numpy(np.frombuffer(memory, d.numpy, size))


def range(start: Any = 0, end: Any = None, step: Any = 1, **options: Any) -> Tensor:
    """arange with its end: numbers from start to end, both there (deprecated in PyTorch).

    >>> range(1, 4)
    tensor([1., 2., 3., 4.])
    """
    if end is None:
        start, end = 0, start
    count = int((end - start) / step) + 1
    options.setdefault("dtype", dt.get_default_dtype())
    return arange(0, count, **options) * step + start


def to_dlpack(tensor: Tensor) -> Any:
    """A DLPack capsule of a tensor's memory."""
    return tensor.__dlpack__()


def get_device_module(device: Any = None) -> Any:
    """The module that answers for a kind of device: `cpu`."""
    found = devices.device("cpu" if device is None else device)
    return import_module(f"monograph.{found.type}")


def get_num_interop_threads() -> int:
    """1: operations run one after another, each on all threads."""
    return 1


def set_num_interop_threads(num: int) -> None:
    """Accepted without effect: operations run one after another."""
    if num < 1:
        raise ArgumentError(f"set_num_interop_threads: num must be positive, got {num}")


_warn_always = [False]


def set_warn_always(b: bool) -> None:
    """Accepted without effect: Python's own filters say which warnings are shown again."""
    _warn_always[0] = bool(b)


def is_warn_always_enabled() -> bool:
    """What set_warn_always was given last."""
    return _warn_always[0]


def set_anomaly_enabled(mode: bool, check_nan: bool = True) -> None:
    """autograd.set_detect_anomaly from here on."""
    modes.anomaly, modes.check_nan = bool(mode), bool(check_nan)


def is_anomaly_enabled() -> bool:
    """Whether gradients are checked for nan."""
    return modes.anomaly


def is_anomaly_check_nan_enabled() -> bool:
    """Whether anomaly detection stops at the first nan."""
    return modes.check_nan


def set_deterministic_debug_mode(debug_mode: Any) -> None:
    """Accepted for programs that ask for it: results are always the same from run to run."""
    if debug_mode not in (0, 1, 2, "default", "warn", "error"):
        raise ArgumentError(f"set_deterministic_debug_mode: unknown mode {debug_mode!r}")


def get_deterministic_debug_mode() -> int:
    """2: whatever is not deterministic would be an error; nothing is."""
    return 2


def is_deterministic_algorithms_warn_only_enabled() -> bool:
    """False."""
    return False


def compiled_with_cxx11_abi() -> bool:
    """True: there is nothing compiled that would care."""
    return True


def _assert(condition: Any, message: str) -> None:
    """`assert condition, message`, in the form that PyTorch's layers have for its own tracers."""
    assert condition, message
