"""The Python array API standard: the names that PyTorch lacks, and what a tensor says of itself.

Functions that PyTorch has take the standard's names of arguments too (axis, keepdims, ...). Where
one call means something else in both, PyTorch's meaning holds here, and the standard's in
monograph.array_api, which is what `x.__array_namespace__()` gives.
Source: https://data-apis.org/array-api (2024.12).
"""

from __future__ import annotations

import importlib
from collections import namedtuple
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.device import CPU, device, usable
from ..core.dtype import DType, as_dtype
from ..core.errors import ArgumentError, ShapeError
from ..core.shape import normalize_dim
from ..ops import arith, cumulative, gathering, joining, linalg, shaping
from ..ops.align import as_operand, cast, public
from ..ops.movement import Copy
from ..tensor import Tensor
from .creation import from_numpy, zeros
from .selection import repeat_interleave, unique
from .views import unbind

VERSION = "2024.12"

unique_all_result = namedtuple("unique_all_result", "values indices inverse_indices counts")
unique_counts_result = namedtuple("unique_counts_result", "values counts")
unique_inverse_result = namedtuple("unique_inverse_result", "values inverse_indices")

# -- dtypes ----------------------------------------------------------------------------------------

_SIGNED = (dt.int8, dt.int16, dt.int32, dt.int64)
_UNSIGNED = (dt.uint8, dt.uint16, dt.uint32, dt.uint64)
KINDS = {
    "bool": (dt.bool_,),
    "signed integer": _SIGNED,
    "unsigned integer": _UNSIGNED,
    "integral": (*_SIGNED, *_UNSIGNED),
    "real floating": (dt.float32, dt.float64),
    "complex floating": dt.COMPLEXES,
    "numeric": (*_SIGNED, *_UNSIGNED, dt.float32, dt.float64, *dt.COMPLEXES),
}


@public
def astype(x: Tensor, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Tensor:
    """A copy of x in another dtype; without copy=True x itself where it has the dtype.

    >>> astype(tensor([1.5]), int64)
    tensor([1])
    """
    usable(device, "astype")
    made = cast(as_operand("astype", x), as_dtype(dtype))
    return Copy()(made) if copy and made is x else made


@public
def isdtype(dtype: Any, kind: Any) -> bool:
    """Whether a dtype is another, of a kind, or one of several of these.

    kind  a dtype; "bool", "signed integer", "unsigned integer", "integral", "real floating",
          "complex floating" or "numeric"; or a tuple of them

    >>> isdtype(float32, ("integral", "real floating"))
    True
    """
    if isinstance(kind, tuple):
        return any(isdtype(dtype, k) for k in kind)
    d = as_dtype(dtype)
    if isinstance(kind, str) and kind in KINDS:
        floats = kind in ("real floating", "numeric")
        return d in KINDS[kind] or (floats and d.is_floating_point)
    if isinstance(kind, DType):
        return d is kind
    raise ArgumentError(f"isdtype: kind must be a dtype or one of {', '.join(KINDS)}, got {kind!r}")


# -- arrangement -----------------------------------------------------------------------------------


@public
def expand_dims(x: Tensor, /, axis: int = 0) -> Tensor:
    """With a new dimension of size 1 at position `axis`: unsqueeze."""
    return shaping.unsqueeze(x, axis)


@public
def permute_dims(x: Tensor, /, axes: Any) -> Tensor:
    """With dimensions in the order `axes`. A view."""
    return shaping.permute(x, tuple(axes))


@public
def unstack(x: Tensor, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices along `axis`. Views.

    >>> unstack(tensor([[1, 2], [3, 4]]))
    (tensor([1, 2]), tensor([3, 4]))
    """
    return unbind(x, axis)


@public
def broadcast_arrays(*arrays: Tensor) -> list[Tensor]:
    """The tensors, broadcast to one shape, in a list. Views."""
    return list(shaping.broadcast_tensors(*arrays))


def repeat(x: Tensor, repeats: Any, /, *, axis: int | None = None) -> Tensor:
    """Each element `repeats` times in a row along `axis` (None: of the flattened tensor).

    Tensor.repeat is another thing, as in PyTorch: the tensor several times.
    """
    return repeat_interleave(x, repeats, axis)


@public
def take_along_axis(x: Tensor, indices: Tensor, /, *, axis: int = -1) -> Tensor:
    """Elements at `indices` along `axis`; other dimensions broadcast."""
    return gathering.take_along_dim(x, indices, axis)


@public
def bitwise_invert(x: Tensor, /) -> Tensor:
    """Every bit flipped: bitwise_not."""
    return arith.bitwise_not(as_operand("bitwise_invert", x))


# -- running results -------------------------------------------------------------------------------


def _cumulative(
    name: str, f: Any, x: Any, axis: int | None, dtype: Any, include_initial: bool, first: int
) -> Tensor:
    x = as_operand(name, x)
    if axis is None:
        if len(x.shape) > 1:
            raise ArgumentError(f"{name}: axis must be given for shape {tuple(x.shape)}")
        axis = 0
    if not x.shape:
        raise ShapeError(f"{name}: needs at least 1 dimension, the tensor is 0-d")
    axis = normalize_dim(name, axis, len(x.shape))
    if dtype is None and x.dtype in _UNSIGNED:
        dtype = dt.uint64
    out = f(x, axis, dtype=dtype)
    if include_initial:
        shape = tuple(1 if a == axis else n for a, n in enumerate(x.shape))
        start = zeros(shape, dtype=out.dtype)
        out = joining.cat((start + first if first else start, out), axis)
    return out


@public
def cumulative_sum(
    x: Tensor, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Tensor:
    """Sum of the elements up to and including each, along `axis`, which 1-d tensors may leave out.

    include_initial  begin with a 0, one element longer

    >>> cumulative_sum(tensor([1, 2, 3]), include_initial=True)
    tensor([0, 1, 3, 6])
    """
    return _cumulative("cumulative_sum", cumulative.cumsum, x, axis, dtype, include_initial, 0)


@public
def cumulative_prod(
    x: Tensor, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Tensor:
    """Product of the elements up to and including each; include_initial: begin with a 1."""
    return _cumulative("cumulative_prod", cumulative.cumprod, x, axis, dtype, include_initial, 1)


# -- sets ------------------------------------------------------------------------------------------


def _distinct(name: str, x: Any) -> list[Tensor]:
    """[values, first places, inverse, counts]; each nan is a value of its own."""
    array = as_operand(name, x)._array(name)
    found = np.unique(
        array, return_index=True, return_inverse=True, return_counts=True, equal_nan=False
    )
    values, places, inverse, counts = found
    made = (values, places, inverse.reshape(array.shape), counts)
    kinds = (values.dtype, np.int64, np.int64, np.int64)
    return [from_numpy(np.array(a, dtype, order="C")) for a, dtype in zip(made, kinds)]


@public
def unique_all(x: Tensor, /) -> Any:
    """(values, indices of their first places, inverse_indices, counts) of the distinct elements.

    >>> unique_all(tensor([2, 1, 2])).counts
    tensor([1, 2])
    """
    return unique_all_result(*_distinct("unique_all", x))


@public
def unique_counts(x: Tensor, /) -> Any:
    """(values, counts) of the distinct elements."""
    values, _, _, counts = _distinct("unique_counts", x)
    return unique_counts_result(values, counts)


@public
def unique_inverse(x: Tensor, /) -> Any:
    """(values, inverse_indices) of the distinct elements: values[inverse_indices] is x."""
    values, _, inverse, _ = _distinct("unique_inverse", x)
    return unique_inverse_result(values, inverse)


@public
def unique_values(x: Tensor, /) -> Tensor:
    """The distinct elements, ascending."""
    return _distinct("unique_values", x)[0] if x.dtype.is_inexact else unique(x)


# -- linear algebra --------------------------------------------------------------------------------


@public
def vecdot(x1: Tensor, x2: Tensor, /, *, axis: int = -1) -> Tensor:
    """Sum of products along axis, those of x1 conjugated where complex, with broadcasting."""
    return linalg.vecdot(x1, x2, dim=axis)


# -- what the namespace says of itself -------------------------------------------------------------


class NamespaceInfo:
    """Devices, dtypes and capabilities of the namespace: the result of __array_namespace_info__."""

    def capabilities(self) -> dict[str, Any]:
        """What the standard leaves open."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> device:
        """The CPU."""
        return CPU

    def devices(self) -> list[device]:
        """The devices there are."""
        return [CPU]

    def default_dtypes(self, *, device: Any = None) -> dict[str, DType]:
        """The dtypes of tensors made without one."""
        usable(device, "default_dtypes")
        real = dt.get_default_dtype()
        return {
            "real floating": real, "complex floating": real.to_complex(), "integral": dt.int64,
            "indexing": dt.int64,
        }  # fmt: skip

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict[str, DType]:
        """The standard's dtypes by name: all, or those of a kind (see isdtype)."""
        usable(device, "dtypes")
        known = (*KINDS["bool"], *KINDS["numeric"])
        return {d.name: d for d in known if kind is None or isdtype(d, kind)}


def __array_namespace_info__() -> NamespaceInfo:  # noqa: N807  the standard's name
    """Devices, dtypes and capabilities, as the array API standard asks for them."""
    return NamespaceInfo()


def _namespace(self: Tensor, /, *, api_version: str | None = None) -> Any:
    """The module whose functions take this tensor, by the array API standard."""
    if api_version not in (None, "2021.12", "2022.12", "2023.12", VERSION):
        raise ArgumentError(
            f"__array_namespace__: version {api_version!r} of the standard is not known; the "
            f"latest here is {VERSION!r}"
        )
    return importlib.import_module(f"{__name__.partition('.')[0]}.array_api")


def _to_device(self: Tensor, device: Any, /, *, stream: Any = None) -> Tensor:
    """This tensor: the CPU is the one device."""
    usable(device, "to_device")
    return self


Tensor.__array_namespace__ = _namespace  # type: ignore[attr-defined]
Tensor.to_device = _to_device  # type: ignore[attr-defined]
