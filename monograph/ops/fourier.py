"""Discrete Fourier transforms, through numpy.fft: monograph.fft, stft and istft.

Three primitives, complex to complex over any axes, real to half a spectrum and back along one; the
adjoint of each is another of them. Norms are factors, and sizes (n, s) are slices and padding.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.device import usable
from ..core.dtype import DType, as_dtype
from ..core.errors import ArgumentError, DTypeError, ShapeError
from ..core.shape import as_index, normalize_dim
from ..ir.op import Aval, Opaque, op
from .align import as_operand, cast
from .arith import bitwise_and, gt, lt, mul, sub, where
from .batching import batched, shape_of
from .joining import roll
from .movement import Pad, Slice
from .parts import conj
from .triangular import Iota

NORMS = (None, "backward", "forward", "ortho")


class _Transform(Opaque):
    saves = "none"


@op
class Fourier(_Transform):
    """Sums of x[n] exp(-+2 pi i n k / N) over `axes` (+ where inverse), times scale."""

    axes: tuple[int, ...]
    inverse: bool
    scale: float = 1.0
    accepts = dt.COMPLEXES

    def infer(self, x: Any) -> Aval:
        self.check_dtypes(x)
        return Aval(shape_of(x), x.dtype)

    def reference(self, x: Any) -> Any:
        if not x.size:
            return x
        if self.inverse:
            out = np.fft.ifftn(x, axes=self.axes, norm="forward")
        else:
            out = np.fft.fftn(x, axes=self.axes)
        return out if self.scale == 1.0 else out * x.dtype.type(self.scale)

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (Fourier(self.axes, not self.inverse, self.scale)(g),)

    def batch(self, dims: tuple, size: int, x: Any) -> tuple[Any, Any]:
        axes = tuple(a + 1 for a in self.axes)
        return Fourier(axes, self.inverse, self.scale)(batched(x, dims[0], size)), 0


@op
class RealFourier(_Transform):
    """The first N // 2 + 1 values of the transform of N real numbers along `axis`, times scale."""

    axis: int
    scale: float = 1.0
    accepts = (dt.float32, dt.float64)

    def infer(self, x: Any) -> Aval:
        self.check_dtypes(x)
        n = x.shape[self.axis]
        shape = (*x.shape[: self.axis], n // 2 + 1, *x.shape[self.axis + 1 :])
        return Aval(shape, x.dtype.to_complex())

    def reference(self, x: Any) -> Any:
        out = np.fft.rfft(x, axis=self.axis)
        return out if self.scale == 1.0 else out * out.dtype.type(self.scale)

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        n = x.shape[self.axis]
        return (InverseReal(self.axis, n, self.scale)(_inner_times(g, self.axis, n, 0.5)),)

    def batch(self, dims: tuple, size: int, x: Any) -> tuple[Any, Any]:
        return RealFourier(self.axis + 1, self.scale)(batched(x, dims[0], size)), 0


@op
class InverseReal(_Transform):
    """The `size` real numbers whose transform begins with the input along `axis`, times scale * N.

    Imaginary parts of the first value (and of the middle one of an even size) do not count.
    """

    axis: int
    size: int
    scale: float = 1.0
    accepts = dt.COMPLEXES

    def infer(self, x: Any) -> Aval:
        self.check_dtypes(x)
        if x.shape[self.axis] != self.size // 2 + 1:
            raise ShapeError(f"inverse_real: {shape_of(x)} is no half spectrum of {self.size}")
        shape = (*x.shape[: self.axis], self.size, *x.shape[self.axis + 1 :])
        return Aval(shape, x.dtype.to_real())

    def reference(self, x: Any) -> Any:
        out = np.fft.irfft(x, self.size, axis=self.axis, norm="forward")
        return out if self.scale == 1.0 else out * out.dtype.type(self.scale)

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (_inner_times(RealFourier(self.axis, self.scale)(g), self.axis, self.size, 2.0),)

    def batch(self, dims: tuple, size: int, x: Any) -> tuple[Any, Any]:
        return InverseReal(self.axis + 1, self.size, self.scale)(batched(x, dims[0], size)), 0


def _inner_times(x: Any, axis: int, n: int, factor: float) -> Any:
    """x times factor, but at frequencies 0 and n / 2, which stand for themselves alone."""
    k = Iota(shape_of(x), dt.int64, axis)()
    return where(bitwise_and(gt(k, 0), lt(mul(k, 2), n)), mul(x, factor), x)


# -- arguments -------------------------------------------------------------------------------------


def _operand(name: str, input: Any, real: bool = False) -> Any:
    """A complex value of the input; real: a real one, which it must be."""
    x = as_operand(f"fft.{name}", input)
    if x.dtype.itemsize == 2 and x.dtype.is_floating_point:
        raise DTypeError(
            f"fft.{name}: 16-bit floats have no transform", hint="convert with .float()"
        )
    if real and x.dtype.is_complex:
        raise DTypeError(f"fft.{name}: needs a real tensor, got {x.dtype.name}")
    d = x.dtype if x.dtype.is_inexact else dt.get_default_dtype()
    return cast(x, d if real else d.to_complex())


def _scale(name: str, norm: Any, n: int, inverse: bool) -> float:
    if norm not in NORMS:
        raise ArgumentError(
            f"fft.{name}: norm must be 'backward', 'forward' or 'ortho', got {norm!r}"
        )
    if norm == "ortho":
        return 1 / math.sqrt(n) if n else 1.0
    divided = (norm == "forward") != inverse
    return 1 / n if divided and n else 1.0


def _axis(name: str, x: Any, dim: Any) -> int:
    if not x.shape:
        raise ShapeError(f"fft.{name}: needs at least 1 dimension, the tensor is 0-d")
    return normalize_dim(f"fft.{name}", dim, len(x.shape))


def _axes(name: str, x: Any, s: Any, dim: Any) -> tuple[tuple[int, ...], list[int | None]]:
    """The axes, in the order given, and the size wanted along each (None: as it is)."""
    title, ndim = f"fft.{name}", len(x.shape)
    sizes = None if s is None else [s] if isinstance(s, int) else list(s)
    if dim is not None:
        dims = [dim] if isinstance(dim, int) else list(dim)
        axes = tuple(normalize_dim(title, d, ndim) for d in dims)
        if len(set(axes)) != len(axes):
            raise ArgumentError(f"{title}: dim {tuple(dims)} names the same dimension twice")
    elif sizes is not None:
        if len(sizes) > ndim:
            raise ArgumentError(f"{title}: s has {len(sizes)} sizes for shape {shape_of(x)}")
        axes = tuple(range(ndim - len(sizes), ndim))
    else:
        axes = tuple(range(ndim))
    if sizes is None:
        return axes, [None] * len(axes)
    if len(sizes) != len(axes):
        raise ArgumentError(f"{title}: s has {len(sizes)} sizes for {len(axes)} dimensions")
    return axes, [None if n in (None, -1) else as_index(title, "s", n) for n in sizes]


def _sized(name: str, x: Any, axis: int, n: int | None) -> Any:
    """x cut or padded with zeros to n elements along axis."""
    have = x.shape[axis]
    n = have if n is None else as_index(f"fft.{name}", "n", n)
    if n < 1:
        raise ArgumentError(f"fft.{name}: dimension {axis} would have {n} elements; at least 1")
    zeros, ones = (0,) * len(x.shape), (1,) * len(x.shape)
    if n < have:
        stop = tuple(n if a == axis else m for a, m in enumerate(x.shape))
        return Slice(zeros, stop, ones)(x)
    if n > have:
        more = tuple(n - have if a == axis else 0 for a in range(len(x.shape)))
        return Pad(zeros, more, zeros, 0)(x)
    return x


def _points(name: str, n: Any) -> tuple[int] | None:
    """The sizes of a transform along one axis, for `_axes`, where -1 would mean as it is."""
    if n is not None and as_index(f"fft.{name}", "n", n) < 0:
        raise ArgumentError(f"fft.{name}: n must be at least 1, got {n}")
    return None if n is None else (n,)


def _all_sized(name: str, x: Any, axes: tuple[int, ...], sizes: list[int | None]) -> Any:
    for axis, n in zip(axes, sizes):
        x = _sized(name, x, axis, n)
    return x


def _count(x: Any, axes: tuple[int, ...]) -> int:
    return math.prod(x.shape[a] for a in axes)


# -- complex to complex ----------------------------------------------------------------------------


def _complex(name: str, x: Any, s: Any, dim: Any, norm: Any, inverse: bool) -> Any:
    x = _operand(name, x)
    axes, sizes = _axes(name, x, s, dim)
    x = _all_sized(name, x, axes, sizes)
    return Fourier(axes, inverse, _scale(name, norm, _count(x, axes), inverse))(x) if axes else x


def _along(name: str, input: Any, n: Any, dim: int, norm: Any, inverse: bool) -> Any:
    x = _operand(name, input)
    return _complex(name, x, _points(name, n), (_axis(name, x, dim),), norm, inverse)


def fft(input: Any, n: int | None = None, dim: int = -1, norm: str | None = None) -> Any:
    """The Fourier transform along `dim`: sums of x[k] exp(-2 pi i j k / n). Complex.

    n     the size along dim, cut or padded with zeros to
    norm  "backward" (None): no factor; "forward": 1/n; "ortho": 1/sqrt(n)

    >>> mg.fft.fft(tensor([1.0, 0.0, 0.0, 0.0]))
    tensor([1.+0.j, 1.+0.j, 1.+0.j, 1.+0.j])
    """
    return _along("fft", input, n, dim, norm, False)


def ifft(input: Any, n: int | None = None, dim: int = -1, norm: str | None = None) -> Any:
    """The inverse of fft along `dim`; norm as there ("backward": 1/n here)."""
    return _along("ifft", input, n, dim, norm, True)


def fftn(input: Any, s: Any = None, dim: Any = None, norm: str | None = None) -> Any:
    """The Fourier transform over several dimensions: `dim`, or the last len(s), or all.

    s  the sizes to cut or pad to (-1: as it is)
    """
    return _complex("fftn", input, s, dim, norm, False)


def ifftn(input: Any, s: Any = None, dim: Any = None, norm: str | None = None) -> Any:
    """The inverse of fftn."""
    return _complex("ifftn", input, s, dim, norm, True)


def fft2(input: Any, s: Any = None, dim: Any = (-2, -1), norm: str | None = None) -> Any:
    """The Fourier transform over two dimensions, the last ones unless given."""
    return _complex("fft2", input, s, dim, norm, False)


def ifft2(input: Any, s: Any = None, dim: Any = (-2, -1), norm: str | None = None) -> Any:
    """The inverse of fft2."""
    return _complex("ifft2", input, s, dim, norm, True)


# -- real numbers on one side ----------------------------------------------------------------------


def _to_half(name: str, input: Any, s: Any, dim: Any, norm: Any, inverse: bool) -> Any:
    """Real numbers to half of their transform, or (inverse) of its conjugate."""
    x = _operand(name, input, real=True)
    axes, sizes = _axes(name, x, s, dim)
    if not axes:
        raise ArgumentError(f"fft.{name}: needs at least one dimension")
    x = _all_sized(name, x, axes, sizes)
    out = RealFourier(axes[-1], _scale(name, norm, _count(x, axes), inverse))(x)
    out = conj(out) if inverse else out
    return Fourier(axes[:-1], inverse)(out) if len(axes) > 1 else out


def _from_half(name: str, input: Any, s: Any, dim: Any, norm: Any, inverse: bool) -> Any:
    """Half a transform, or (not inverse) the half of its conjugate, to real numbers."""
    x = _operand(name, input)
    axes, sizes = _axes(name, x, s, dim)
    if not axes:
        raise ArgumentError(f"fft.{name}: needs at least one dimension")
    last = axes[-1]
    n = 2 * (x.shape[last] - 1) if sizes[-1] is None else sizes[-1]
    if n < 1:
        raise ArgumentError(f"fft.{name}: dimension {last} would have {n} elements; at least 1")
    x = _all_sized(name, x, axes, [*sizes[:-1], n // 2 + 1])
    if len(axes) > 1:
        x = Fourier(axes[:-1], inverse)(x)
    count = _count(x, axes[:-1]) * n
    return InverseReal(last, n, _scale(name, norm, count, inverse))(x if inverse else conj(x))


def _half_along(f: Any, name: str, input: Any, n: Any, dim: int, norm: Any, inverse: bool) -> Any:
    x = as_operand(f"fft.{name}", input)
    return f(name, x, _points(name, n), (_axis(name, x, dim),), norm, inverse)


def rfft(input: Any, n: int | None = None, dim: int = -1, norm: str | None = None) -> Any:
    """The first n // 2 + 1 values of fft of a real tensor; the others are their conjugates.

    >>> mg.fft.rfft(tensor([1.0, 0.0, -1.0, 0.0]))
    tensor([0.+0.j, 2.+0.j, 0.+0.j])
    """
    return _half_along(_to_half, "rfft", input, n, dim, norm, False)


def irfft(input: Any, n: int | None = None, dim: int = -1, norm: str | None = None) -> Any:
    """The inverse of rfft: n real values, 2 * (size - 1) unless given."""
    return _half_along(_from_half, "irfft", input, n, dim, norm, True)


def hfft(input: Any, n: int | None = None, dim: int = -1, norm: str | None = None) -> Any:
    """fft of a signal whose second half is the conjugate of its first, given here; real."""
    return _half_along(_from_half, "hfft", input, n, dim, norm, False)


def ihfft(input: Any, n: int | None = None, dim: int = -1, norm: str | None = None) -> Any:
    """The inverse of hfft: half of ifft of a real tensor."""
    return _half_along(_to_half, "ihfft", input, n, dim, norm, True)


def rfftn(input: Any, s: Any = None, dim: Any = None, norm: str | None = None) -> Any:
    """fftn of a real tensor; of the last dimension the first half."""
    return _to_half("rfftn", input, s, dim, norm, False)


def irfftn(input: Any, s: Any = None, dim: Any = None, norm: str | None = None) -> Any:
    """The inverse of rfftn. s[-1] says whether the last size is even (2 * (size - 1)) or odd."""
    return _from_half("irfftn", input, s, dim, norm, True)


def rfft2(input: Any, s: Any = None, dim: Any = (-2, -1), norm: str | None = None) -> Any:
    """rfftn over two dimensions, the last ones unless given."""
    return _to_half("rfft2", input, s, dim, norm, False)


def irfft2(input: Any, s: Any = None, dim: Any = (-2, -1), norm: str | None = None) -> Any:
    """The inverse of rfft2."""
    return _from_half("irfft2", input, s, dim, norm, True)


def hfftn(input: Any, s: Any = None, dim: Any = None, norm: str | None = None) -> Any:
    """fftn of a signal that is conjugate-symmetric, of which the first half is given; real."""
    return _from_half("hfftn", input, s, dim, norm, False)


def ihfftn(input: Any, s: Any = None, dim: Any = None, norm: str | None = None) -> Any:
    """The inverse of hfftn."""
    return _to_half("ihfftn", input, s, dim, norm, True)


def hfft2(input: Any, s: Any = None, dim: Any = (-2, -1), norm: str | None = None) -> Any:
    """hfftn over two dimensions, the last ones unless given."""
    return _from_half("hfft2", input, s, dim, norm, False)


def ihfft2(input: Any, s: Any = None, dim: Any = (-2, -1), norm: str | None = None) -> Any:
    """The inverse of hfft2."""
    return _to_half("ihfft2", input, s, dim, norm, True)


# -- frequencies -----------------------------------------------------------------------------------


def _frequencies(name: str, n: Any, d: float, dtype: Any, device: Any, half: bool) -> Any:
    usable(device, f"fft.{name}")
    n = as_index(f"fft.{name}", "n", n)
    kind: DType = dt.get_default_dtype() if dtype is None else as_dtype(dtype)
    if n < 1:
        raise ArgumentError(f"fft.{name}: n must be positive, got {n}")
    if half:
        return mul(Iota((n // 2 + 1,), kind, 0)(), 1.0 / (n * d))
    k = Iota((n,), kind, 0)()
    return mul(where(lt(k, (n + 1) // 2), k, sub(k, n)), 1.0 / (n * d))


def fftfreq(
    n: int, d: float = 1.0, *, dtype: Any = None, layout: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Any:  # fmt: skip
    """The frequencies of fft's results, for samples d apart: 0, 1, ..., -2, -1 over n * d.

    >>> mg.fft.fftfreq(4)
    tensor([ 0.0000,  0.2500, -0.5000, -0.2500])
    """
    out = _frequencies("fftfreq", n, d, dtype, device, False)
    return out.requires_grad_() if requires_grad else out


def rfftfreq(
    n: int, d: float = 1.0, *, dtype: Any = None, layout: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Any:  # fmt: skip
    """The frequencies of rfft's results, for samples d apart: 0, 1, ..., n // 2 over n * d."""
    out = _frequencies("rfftfreq", n, d, dtype, device, True)
    return out.requires_grad_() if requires_grad else out


def _shifted(name: str, input: Any, dim: Any, back: bool) -> Any:
    x = as_operand(f"fft.{name}", input)
    axes, _ = _axes(name, x, None, dim)
    halves = [(x.shape[a] + back) // 2 for a in axes]
    return roll(x, halves, axes) if axes else x


def fftshift(input: Any, dim: Any = None) -> Any:
    """Bring frequency 0 to the middle of the dimensions (all of them unless given).

    >>> mg.fft.fftshift(mg.fft.fftfreq(4))
    tensor([-0.5000, -0.2500,  0.0000,  0.2500])
    """
    return _shifted("fftshift", input, dim, False)


def ifftshift(input: Any, dim: Any = None) -> Any:
    """The inverse of fftshift."""
    return _shifted("ifftshift", input, dim, True)
