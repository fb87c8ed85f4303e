"""Short-time Fourier transforms: stft and its inverse, istft."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.errors import ArgumentError, DTypeError, ShapeError
from ..core.shape import as_index
from ..ir.op import Full
from .align import as_operand, cast, public
from .arith import abs as absolute
from .arith import add, div, mul
from .arranging import unfold
from .batching import shape_of
from .complex import view_as_real
from .fourier import Fourier, InverseReal, RealFourier
from .indexing import IndexAdd
from .joining import pad
from .movement import Expand, Permute, Reshape, Slice
from .reduce import amin
from .triangular import Iota


def _window(name: str, window: Any, n_fft: int, win_length: int, dtype: Any) -> Any:
    """The window of n_fft points: given, or ones; in the middle of zeros where it is shorter."""
    if not 0 < win_length <= n_fft:
        raise ArgumentError(f"{name}: win_length must be in [1, n_fft = {n_fft}], got {win_length}")
    if window is None:
        window = Full((win_length,), dtype, 1)()
    elif shape_of(window) != (win_length,):
        raise ShapeError(f"{name}: window must have shape ({win_length},), got {shape_of(window)}")
    left = (n_fft - win_length) // 2
    if win_length < n_fft:
        window = pad(window, (left, n_fft - win_length - left))
    return window


def _sizes(name: str, n_fft: Any, hop_length: Any, win_length: Any) -> tuple[int, int, int]:
    n = as_index(name, "n_fft", n_fft)
    hop = n // 4 if hop_length is None else as_index(name, "hop_length", hop_length)
    length = n if win_length is None else as_index(name, "win_length", win_length)
    if n < 1 or hop < 1:
        raise ArgumentError(f"{name}: n_fft and hop_length must be positive, got {n} and {hop}")
    return n, hop, length


@public
def stft(
    input: Any, n_fft: int, hop_length: int | None = None, win_length: int | None = None,
    window: Any = None, center: bool = True, pad_mode: str = "reflect", normalized: bool = False,
    onesided: bool | None = None, return_complex: bool | None = None, align_to_window: Any = None,
) -> Any:  # fmt: skip
    """Fourier transforms of windows of n_fft samples, hop_length apart.

    input           (T,) or (B, T), real or complex
    hop_length      n_fft // 4 unless given
    window          (win_length,), ones unless given; zeros around it where shorter than n_fft
    center          window t is centered at sample t * hop_length: the ends are padded (pad_mode)
    normalized      divided by sqrt(n_fft)
    onesided        frequencies 0 .. n_fft // 2 only; of real input unless given
    return_complex  must be given for real input; False: pairs of real numbers in a last dimension
    returns         (F, frames) or (B, F, frames)

    >>> stft(ones(16), 8, return_complex=True).shape
    (5, 9)
    """
    x = as_operand("stft", input)
    n, hop, length = _sizes("stft", n_fft, hop_length, win_length)
    if len(x.shape) not in (1, 2) or not x.dtype.is_inexact:
        raise ShapeError(
            f"stft: input must be (T,) or (B, T), floating or complex, got {x.dtype.name} of "
            f"shape {shape_of(x)}"
        )
    has_complex = x.dtype.is_complex or (window is not None and window.dtype.is_complex)
    if return_complex is None:
        if not has_complex:
            raise ArgumentError(
                "stft: return_complex must be given for real inputs", hint="return_complex=True"
            )
        return_complex = True
    onesided = not has_complex if onesided is None else bool(onesided)
    if onesided and has_complex:
        raise ArgumentError("stft: onesided needs a real input and window")
    rows = x if len(x.shape) == 2 else Reshape((1, *x.shape))(x)
    if center:
        rows = Reshape((1, *rows.shape))(rows)
        rows = pad(rows, (n // 2, n // 2), pad_mode)
        rows = Reshape(tuple(rows.shape[1:]))(rows)
    if rows.shape[-1] < n:
        raise ShapeError(f"stft: {rows.shape[-1]} samples are fewer than n_fft = {n}")
    frames = mul(unfold(rows, 1, n, hop), _window("stft", window, n, length, x.dtype.to_real()))
    scale = 1 / math.sqrt(n) if normalized else 1.0
    if onesided:
        out = RealFourier(2, scale)(frames)
    else:
        out = Fourier((2,), False, scale)(cast(frames, frames.dtype.to_complex()))
    out = Permute((0, 2, 1))(out)
    out = out if len(x.shape) == 2 else Reshape(tuple(out.shape[1:]))(out)
    return out if return_complex else view_as_real(out)


@public
def istft(
    input: Any, n_fft: int, hop_length: int | None = None, win_length: int | None = None,
    window: Any = None, center: bool = True, normalized: bool = False,
    onesided: bool | None = None, length: int | None = None, return_complex: bool = False,
) -> Any:  # fmt: skip
    """The signal of which stft gave the transforms: frames added where they lie, over the windows.

    input   (F, frames) or (B, F, frames), complex
    length  samples of the result; as many as the frames cover unless given

    ArgumentError where the windows leave a sample without weight. Source: Griffin and Lim, "Signal
    estimation from modified short-time Fourier transform", 1984.
    """
    x = as_operand("istft", input)
    n, hop, win = _sizes("istft", n_fft, hop_length, win_length)
    if not x.dtype.is_complex:
        raise DTypeError(f"istft: input must be complex, got {x.dtype.name}")
    if len(x.shape) not in (2, 3) or 0 in x.shape:
        raise ShapeError(f"istft: input must be (F, frames) or (B, F, frames), got {shape_of(x)}")
    onesided = x.shape[-2] != n if onesided is None else bool(onesided)
    if x.shape[-2] != (n // 2 + 1 if onesided else n):
        raise ShapeError(f"istft: {x.shape[-2]} frequencies do not fit n_fft = {n}")
    if onesided and return_complex:
        raise ArgumentError("istft: return_complex needs all frequencies (onesided=False)")
    shape = _window("istft", window, n, win, x.dtype.to_real())
    rows = x if len(x.shape) == 3 else Reshape((1, *x.shape))(x)
    rows = Permute((0, 2, 1))(rows)
    scale = math.sqrt(n) / n if normalized else 1 / n
    if return_complex:
        frames = Fourier((2,), True, scale)(rows)
    else:  # the signal is real: half of the frequencies say all
        if not onesided:
            rows = Slice((0, 0, 0), (*rows.shape[:2], n // 2 + 1), (1, 1, 1))(rows)
        frames = InverseReal(2, n, scale)(rows)
    batch, count = frames.shape[:2]
    total = n + hop * (count - 1)

    def added(pieces: Any) -> Any:
        """Pieces (B, frames, n) added where they lie: (B, total)."""
        place = add(mul(Iota((count, n), dt.int64, 0)(), hop), Iota((count, n), dt.int64, 1)())
        zeros = Full((pieces.shape[0], total), pieces.dtype, 0)()
        flat = Reshape((pieces.shape[0], count * n))(pieces)
        return IndexAdd(1)(zeros, Reshape((count * n,))(place), flat)

    out = added(mul(frames, shape))
    weight = added(Expand((1, count, n), (0, 1))(mul(shape, shape)))
    start = n // 2 if center else 0
    end = start + length if length is not None else total - (n // 2 if center else 0)
    stop = min(end, total)
    out = Slice((0, start), (batch, stop), (1, 1))(out)
    weight = Slice((0, start), (1, stop), (1, 1))(weight)
    least = amin(absolute(weight))
    array = getattr(least, "_payload", None)
    if isinstance(array, np.ndarray) and array.item() <= 1e-11:
        raise ArgumentError(
            "istft: some sample is under no window (the sum of their squares is 0 there)",
            hint="a smaller hop_length, or a window without zeros",
        )
    out = div(out, weight)
    if end > stop:
        out = pad(out, (0, end - stop))
    return out if len(x.shape) == 3 else Reshape((end - start,))(out)
