"""DLPack: memory shared with other libraries, without copies, in both directions.

NumPy speaks the protocol for us: a tensor exports its array, and from_dlpack takes what
numpy.from_dlpack takes. bfloat16, which NumPy does not know, passes it as uint16; its type code is
changed in the capsule on the way in and on the way out.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.errors import ArgumentTypeError, DeviceError, DTypeError, GradError
from ..tensor import Tensor
from .creation import from_numpy

CPU_DEVICE = (1, 0)  # kDLCPU


class _DLTensor(ctypes.Structure):
    """struct DLTensor of dlpack.h, the first member of DLManagedTensor."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


UINT, BFLOAT = 1, 4  # DLDataTypeCode


def _header(capsule: Any) -> _DLTensor:
    """The DLTensor in an unused, unversioned capsule."""
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return _DLTensor.from_address(get(capsule, b"dltensor"))


def _dlpack(
    self: Tensor,
    *,
    stream: Any = None,
    max_version: tuple[int, int] | None = None,
    dl_device: Any = None,
    copy: bool | None = None,
) -> Any:
    """A capsule that shares this tensor's memory (the array-API `__dlpack__`)."""
    if self.requires_grad:
        raise GradError(
            "dlpack: the tensor requires a gradient, which other libraries would not see",
            hint="export tensor.detach()",
        )
    array = self._array("dlpack")
    self._lend()
    options = {"dl_device": dl_device, "copy": copy}
    given = {k: v for k, v in options.items() if v is not None}
    if self.dtype is dt.bfloat16:
        capsule = array.view(np.uint16).__dlpack__(stream=stream, **given)
        _header(capsule).code = BFLOAT
        return capsule
    if max_version is not None:
        given["max_version"] = max_version
    return array.__dlpack__(stream=stream, **given)


def _dlpack_device(self: Tensor) -> tuple[int, int]:
    """The CPU in DLPack's numbering."""
    return CPU_DEVICE


class _Capsule:
    """A bare capsule behind the protocol's two methods."""

    def __init__(self, capsule: Any):
        self.capsule = capsule

    def __dlpack__(self, **options: Any) -> Any:
        return self.capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return CPU_DEVICE


def from_dlpack(ext_tensor: Any, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """A tensor that shares the memory of an array of another library (NumPy, PyTorch, JAX, ...).

    ext_tensor  an object with __dlpack__ and __dlpack_device__, or a DLPack capsule
    copy        True: a copy; False: never a copy; None: a copy only where needed

    >>> import numpy
    >>> from_dlpack(numpy.arange(3))
    tensor([0, 1, 2])
    """
    if type(ext_tensor).__name__ == "PyCapsule":
        ext_tensor = _Capsule(ext_tensor)
    if not hasattr(ext_tensor, "__dlpack__") or not hasattr(ext_tensor, "__dlpack_device__"):
        raise ArgumentTypeError(
            f"from_dlpack: {type(ext_tensor).__name__} has no __dlpack__ and __dlpack_device__"
        )
    kind, number = ext_tensor.__dlpack_device__()
    if kind not in (1, 3):  # the CPU, and host memory pinned for CUDA
        raise DeviceError(
            f"from_dlpack: the memory is on DLPack device ({int(kind)}, {number}), not on the CPU"
        )
    options = {} if copy is None else {"copy": copy}
    try:
        array = np.from_dlpack(ext_tensor, **options)
    except (BufferError, RuntimeError, TypeError) as error:
        array = _bfloat16(ext_tensor)
        if array is None:
            raise DTypeError(f"from_dlpack: NumPy cannot take this array: {error}") from error
        array = array.copy() if copy else array
    return from_numpy(array)


def _bfloat16(ext_tensor: Any) -> np.ndarray | None:
    """The array of a bfloat16 exporter, or None where it exports something else."""
    capsule = ext_tensor.__dlpack__()
    try:
        header = _header(capsule)
    except ValueError:
        return None
    if (header.code, header.bits, header.lanes) != (BFLOAT, 16, 1):
        return None
    header.code = UINT
    return np.asarray(_Writable(np.from_dlpack(_Capsule(capsule)))).view(dt.bfloat16.numpy)


class _Writable:
    """The memory of an array that NumPy took from an unversioned capsule, hence marks read-only."""

    def __init__(self, array: np.ndarray):
        self.array = array
        interface = array.__array_interface__
        self.__array_interface__ = interface | {"data": (interface["data"][0], False)}


Tensor.__dlpack__ = _dlpack  # type: ignore[attr-defined]
Tensor.__dlpack_device__ = _dlpack_device  # type: ignore[attr-defined]


def to_dlpack(tensor: Tensor) -> Any:
    """The capsule that `from_dlpack` of another library takes."""
    return tensor.__dlpack__()
