"""Element types and promotion: PyTorch's rules, with Python numbers as weak operands.

Each dtype is one object, e.g. `monograph.float32`; `.numpy` is its NumPy dtype and `.code` its name
in the loop language. bfloat16 comes from ml_dtypes.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from .errors import ArgumentTypeError, DTypeError

BOOL, INT, FLOAT, COMPLEX = 0, 1, 2, 3


class DType:
    """One element type. Compare with `is` or `==`; `str()` gives "monograph.float32"."""

    __slots__ = ("name", "numpy", "code", "category", "itemsize", "is_signed")

    def __init__(self, name: str, numpy: Any, code: str, category: int):
        self.name = name
        self.numpy = np.dtype(numpy)
        self.code = code
        self.category = category
        self.itemsize = self.numpy.itemsize
        self.is_signed = category >= FLOAT or (category == INT and name[0] == "i")

    @property
    def is_floating_point(self) -> bool:
        return self.category == FLOAT

    @property
    def is_complex(self) -> bool:
        return self.category == COMPLEX

    @property
    def is_inexact(self) -> bool:
        """Floating or complex: what has gradients."""
        return self.category >= FLOAT

    def to_real(self) -> DType:
        """The dtype of the real and imaginary part; itself where it is not complex."""
        return _PARTS.get(self, self)

    def to_complex(self) -> DType:
        """The complex dtype whose parts have at least this precision."""
        if self.category == COMPLEX:
            return self
        return complex128 if self is float64 else complex64

    def __repr__(self) -> str:
        return f"monograph.{self.name}"

    def __reduce__(self):
        return (as_dtype, (self.name,))

    def __copy__(self) -> DType:
        return self

    def __deepcopy__(self, memo: Any) -> DType:
        return self


float16 = DType("float16", np.float16, "f16", FLOAT)
bfloat16 = DType("bfloat16", ml_dtypes.bfloat16, "bf16", FLOAT)
float32 = DType("float32", np.float32, "f32", FLOAT)
float64 = DType("float64", np.float64, "f64", FLOAT)
int8 = DType("int8", np.int8, "i8", INT)
int16 = DType("int16", np.int16, "i16", INT)
int32 = DType("int32", np.int32, "i32", INT)
int64 = DType("int64", np.int64, "i64", INT)
uint8 = DType("uint8", np.uint8, "u8", INT)
uint16 = DType("uint16", np.uint16, "u16", INT)
uint32 = DType("uint32", np.uint32, "u32", INT)
uint64 = DType("uint64", np.uint64, "u64", INT)
bool_ = DType("bool", np.bool_, "bool", BOOL)
complex64 = DType("complex64", np.complex64, "c64", COMPLEX)
complex128 = DType("complex128", np.complex128, "c128", COMPLEX)

FLOATS = (float16, bfloat16, float32, float64)
COMPLEXES = (complex64, complex128)
INEXACT = (*FLOATS, *COMPLEXES)
INTS = (int8, int16, int32, int64, uint8, uint16, uint32, uint64)
REAL = (bool_, *INTS, *FLOATS)
ALL = (*REAL, *COMPLEXES)
ORDERED = (*INTS, *FLOATS)
NUMERIC = (*ORDERED, *COMPLEXES)
INTEGRAL = (bool_, *INTS)
_PARTS = {complex64: float32, complex128: float64}

_BY_NAME = {d.name: d for d in ALL} | {
    "half": float16, "float": float32, "double": float64,
    "short": int16, "int": int32, "long": int64,
    "cfloat": complex64, "cdouble": complex128,
}  # fmt: skip
BY_NUMPY = {d.numpy: d for d in ALL}
_BY_CODE = {d.code: d for d in ALL}
_BY_PYTHON = {bool: bool_, int: int64, float: float32}


def as_dtype(x: Any) -> DType:
    """The DType for a DType, NumPy dtype, name ("float32") or Python type."""
    if isinstance(x, DType):
        return x
    if x is float:
        return get_default_dtype()
    if x is complex:
        return get_default_dtype().to_complex()
    if isinstance(x, type) and x in _BY_PYTHON:
        return _BY_PYTHON[x]
    if isinstance(x, str) and x.removeprefix("monograph.") in _BY_NAME:
        return _BY_NAME[x.removeprefix("monograph.")]
    try:
        found = BY_NUMPY.get(np.dtype(x))
    except TypeError:
        found = None
    if found is None:
        names = ", ".join(d.name for d in ALL)
        raise DTypeError(f"dtype: {x!r} is not an element type; known are {names}")
    return found


def from_code(code: str) -> DType:
    """The DType whose loop-language name is `code`, such as "f32"."""
    return _BY_CODE[code]


_default = [float32]


def get_default_dtype() -> DType:
    """The dtype of new floating tensors made from Python numbers (float32 at the start)."""
    return _default[0]


def set_default_dtype(d: Any) -> None:
    """Set the dtype of new floating tensors made from Python numbers."""
    d = as_dtype(d)
    if d.category != FLOAT:
        raise DTypeError(f"set_default_dtype: needs a floating dtype, got {d.name}")
    _default[0] = d


def of_scalar(x: Any) -> DType:
    """The dtype that a Python number has when nothing else decides."""
    if isinstance(x, (bool, np.bool_)):
        return bool_
    if isinstance(x, (int, np.integer)):
        return int64
    if isinstance(x, (float, np.floating)):
        return get_default_dtype()
    if isinstance(x, (complex, np.complexfloating)):
        return get_default_dtype().to_complex()
    raise ArgumentTypeError(f"expected a number, got {type(x).__name__}")


_RANK = {bool_: 0, float16: 10, bfloat16: 10, float32: 11, float64: 12}
_SIGNED_FOR = {1: int8, 2: int16, 4: int32, 8: int64}


def promote_types(a: DType, b: DType) -> DType:
    """The smallest dtype that both convert to (PyTorch's table; uint64 with signed is an error)."""
    if a is b:
        return a
    if a.category != b.category:
        low, high = (a, b) if a.category < b.category else (b, a)
        return complex128 if low is float64 else high
    if a.category >= FLOAT:
        if a.itemsize == b.itemsize:  # float16 with bfloat16
            return float32
        return a if a.itemsize > b.itemsize else b
    if a.is_signed == b.is_signed:
        return a if a.itemsize > b.itemsize else b
    signed, unsigned = (a, b) if a.is_signed else (b, a)
    if signed.itemsize > unsigned.itemsize:
        return signed
    if unsigned.itemsize == 8:
        raise DTypeError(
            f"promotion: no integer type holds both {a.name} and {b.name}",
            hint="convert one operand first with .to(...)",
        )
    return _SIGNED_FOR[unsigned.itemsize * 2]


def _combine(strong: DType | None, weak: DType | None) -> DType | None:
    if strong is None or weak is None:
        return strong if weak is None else weak
    if weak.category <= strong.category:
        return strong
    if weak.category == COMPLEX and strong.category == FLOAT:
        return strong.to_complex()  # the precision is that of the operand that decides
    return promote_types(strong, weak)


def result_type(*operands: Any) -> DType:
    """The dtype of an operation on `operands`: tensors (with .shape and .dtype) and Python numbers.

    Tensors of at least one dimension decide; 0-d tensors count only where their category (bool <
    integer < floating < complex) is higher; Python numbers only where theirs is higher still.
    Source: PyTorch, "Type promotion" (torch.result_type).
    """
    by_class: list[DType | None] = [None, None, None]  # dimensioned, 0-d, Python numbers
    weak = False
    for x in operands:
        dtype = getattr(x, "dtype", None)
        if type(dtype) is not DType:  # a number of Python or NumPy
            slot, dtype = 2, of_scalar(x)
        else:
            slot = 0 if x.shape else 1
            if slot and getattr(x, "_weak", False):  # a Python number that a capture made an input
                weak = True
                slot, dtype = 2, dtype if dtype.category != FLOAT else get_default_dtype()
        previous = by_class[slot]
        by_class[slot] = dtype if previous is None else promote_types(previous, dtype)
    result = _combine(_combine(by_class[0], by_class[1]), by_class[2])
    assert result is not None
    if weak and by_class[0] is by_class[1] is None and result.category == FLOAT:
        return float64  # arithmetic of Python numbers
    return result


def can_cast(source: DType, to: DType) -> bool:
    """Whether in-place results of dtype `source` may be written into dtype `to` (category rule)."""
    return source.category <= to.category


def _dtype_of(x: Any) -> DType:
    """The dtype meant by a dtype or by something that has one."""
    return as_dtype(x.dtype if isinstance(getattr(x, "dtype", None), DType) else x)


class finfo:
    """Numerical limits of a floating dtype: bits, eps, max, min, tiny, smallest_normal.

    Of a complex dtype those of its parts.
    """

    def __init__(self, dtype: Any = None):
        d = (_dtype_of(dtype) if dtype is not None else get_default_dtype()).to_real()
        if d.category != FLOAT:
            raise DTypeError(f"finfo: needs a floating dtype, got {d.name}")
        info = ml_dtypes.finfo(d.numpy)
        self.dtype = d
        self.bits = d.itemsize * 8
        self.eps, self.max, self.min = float(info.eps), float(info.max), float(info.min)
        self.tiny = self.smallest_normal = float(info.smallest_normal)
        self.resolution = float(info.resolution)


class iinfo:
    """Limits of an integer dtype: bits, min, max."""

    def __init__(self, dtype: Any):
        d = _dtype_of(dtype)
        if d.category != INT:
            raise DTypeError(f"iinfo: needs an integer dtype, got {d.name}")
        info = np.iinfo(d.numpy)
        self.dtype = d
        self.bits, self.min, self.max = info.bits, int(info.min), int(info.max)
