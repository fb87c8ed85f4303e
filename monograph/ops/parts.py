"""Primitives of complex numbers: conjugates, parts, and the views between a number and a pair.

Most operations take complex numbers as they take real ones; what is about complex numbers alone is
here and in complex.py. Gradients are PyTorch's: of a real loss L, dL/dre + i dL/dim (ir/op.py,
`holomorphic`). No kernel computes with complex numbers: NumPy does, eagerly and between the native
parts of programs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.errors import ShapeError
from ..core.shape import Shape
from ..ir.op import Aval, Full, Opaque, op
from .align import cast
from .batching import batched, shape_of
from .movement import Copy, Permute


class OfComplex(Opaque):
    """Base of ops on each element of complex inputs of one shape."""

    accepts = dt.COMPLEXES
    saves = "none"

    def infer(self, x: Any) -> Aval:
        self.check_dtypes(x)
        return Aval(shape_of(x), x.dtype)

    def batch(self, dims: tuple, size: int, *args: Any) -> tuple[Any, Any]:
        return self(*(batched(x, d, size) for x, d in zip(args, dims))), 0


@op
class Conjugate(OfComplex):
    """Each element with the opposite imaginary part."""

    def reference(self, x: Any) -> Any:
        return np.conj(x)

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (Conjugate()(g),)


class _Part(OfComplex):
    """Base of the two parts, which are views."""

    is_view = True

    def infer(self, x: Any) -> Aval:
        self.check_dtypes(x)
        return Aval(shape_of(x), x.dtype.to_real())

    def strides(self, shape: Shape, strides: Shape) -> Shape | None:
        return tuple(2 * s for s in strides)


@op
class RealPart(_Part):
    """The real part of each element. A view."""

    def reference(self, x: Any) -> Any:
        return x.real

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (cast(g, x.dtype),)

    def write(self, base: Any, value: Any) -> Any:
        return FromParts()(value, ImaginaryPart()(base))


@op
class ImaginaryPart(_Part):
    """The imaginary part of each element. A view."""

    def reference(self, x: Any) -> Any:
        return x.imag

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (FromParts()(Full(shape_of(g), g.dtype, 0)(), g),)

    def write(self, base: Any, value: Any) -> Any:
        return FromParts()(RealPart()(base), value)


@op
class FromParts(OfComplex):
    """Complex numbers of their real and imaginary parts."""

    accepts = (dt.float32, dt.float64)

    def infer(self, real: Any, imag: Any) -> Aval:  # type: ignore[override]
        self.check_dtypes(real, imag)
        if shape_of(real) != shape_of(imag) or real.dtype is not imag.dtype:
            raise ShapeError(f"complex: primitive got {real!r} and {imag!r}")
        return Aval(shape_of(real), real.dtype.to_complex())

    def reference(self, real: Any, imag: Any) -> Any:
        made = np.empty(np.shape(real), dt.BY_NUMPY[real.dtype].to_complex().numpy)
        made.real, made.imag = real, imag
        return made

    def vjp(self, g: Any, out: Any, real: Any, imag: Any) -> tuple[Any, ...]:
        return (lambda: RealPart()(g)), (lambda: ImaginaryPart()(g))


@op
class ViewAsReal(OfComplex):
    """Each complex number as two real ones, in a new last axis. A view."""

    is_view = True

    def infer(self, x: Any) -> Aval:
        self.check_dtypes(x)
        return Aval((*x.shape, 2), x.dtype.to_real())

    def reference(self, x: Any) -> Any:
        return np.expand_dims(x, -1).view(x.real.dtype)

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (_paired(g),)

    def strides(self, shape: Shape, strides: Shape) -> Shape | None:
        return (*(2 * s for s in strides), 1)

    def write(self, base: Any, value: Any) -> Any:
        return _paired(value)


@op
class ViewAsComplex(OfComplex):
    """The last axis, of two neighbours in memory, as complex numbers. A view."""

    accepts = (dt.float32, dt.float64)
    is_view = True

    def infer(self, x: Any) -> Aval:
        self.check_dtypes(x)
        if not x.shape or x.shape[-1] != 2:
            raise ShapeError(
                f"view_as_complex: the last dimension must have size 2, got {shape_of(x)}"
            )
        return Aval(tuple(x.shape[:-1]), x.dtype.to_complex())

    def reference(self, x: Any) -> Any:
        if x.size and x.strides[-1] != x.itemsize:
            x = np.ascontiguousarray(x)
        return x.view(dt.BY_NUMPY[x.dtype].to_complex().numpy)[..., 0]

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (ViewAsReal()(g),)

    def strides(self, shape: Shape, strides: Shape) -> Shape | None:
        if strides[-1] != 1 or any(s % 2 for s in strides[:-1]):
            return None
        return tuple(s // 2 for s in strides[:-1])

    def write(self, base: Any, value: Any) -> Any:
        return ViewAsReal()(value)


def _paired(x: Any) -> Any:
    return ViewAsComplex()(Copy()(x))


def conj(x: Any) -> Any:
    """The conjugate of a value; a real one itself."""
    return Conjugate()(x) if x.dtype.is_complex else x


def real(x: Any) -> Any:
    """The real part of a value; a real one itself."""
    return RealPart()(x) if x.dtype.is_complex else x


def adjoint_of(x: Any) -> Any:
    """The last two axes exchanged, conjugated."""
    n = len(x.shape)
    return conj(Permute((*range(n - 2), n - 1, n - 2))(x))
