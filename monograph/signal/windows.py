"""Window functions with the names and meanings of torch.signal.windows.

Each takes M, the number of points (0 gives an empty window, 1 a single one), and

    sym            symmetric (for filters, the default) or periodic (for spectra)
    dtype          a floating dtype; None: the default one
    device         "cpu"
    requires_grad  whether the window is a leaf that requires a gradient

>>> bartlett(5)
tensor([0.0000, 0.5000, 1.0000, 0.5000, 0.0000])
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..api.creation import tensor
from ..core.dtype import as_dtype, get_default_dtype
from ..core.errors import ArgumentError, DTypeError
from ..core.shape import as_index
from ..ops.bessel import bessel_i_scaled
from ..tensor import Tensor

__all__ = [
    "bartlett", "blackman", "cosine", "exponential", "gaussian", "general_cosine",
    "general_hamming", "hamming", "hann", "kaiser", "nuttall",
]  # fmt: skip


def _window(
    name: str, M: Any, shape: Any, dtype: Any, device: Any, requires_grad: bool, layout: Any
) -> Tensor:
    """The window `shape(positions)`; its one point is 1."""
    count = as_index(name, "M", M)
    if count < 0:
        raise ArgumentError(f"{name}: M must not be negative, got {count}")
    d = get_default_dtype() if dtype is None else as_dtype(dtype)
    if not d.is_floating_point:
        raise DTypeError(f"{name}: dtype must be floating, got {d.name}")
    values = np.ones(count) if count < 2 else shape(np.arange(count, dtype=np.float64))
    return tensor(values.astype(d.numpy), device=device, requires_grad=requires_grad)


def _span(M: int, sym: bool) -> int:
    return M - 1 if sym else M


def general_cosine(
    M: int, *, a: Iterable[float], sym: bool = True, dtype: Any = None, layout: Any = None,
    device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """The sum of (-1)**i a[i] cos(2 pi i n / (M - 1)): hann, hamming, blackman are of this kind."""
    weights = [float(v) for v in a]
    if not weights:
        raise ArgumentError("general_cosine: a must not be empty")

    def shape(n: Any) -> Any:
        angle = 2 * math.pi * n / _span(M, sym)
        return sum((-1) ** i * v * np.cos(i * angle) for i, v in enumerate(weights))

    return _window("general_cosine", M, shape, dtype, device, requires_grad, layout)


def general_hamming(
    M: int, *, alpha: float = 0.54, sym: bool = True, dtype: Any = None, layout: Any = None,
    device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """alpha - (1 - alpha) cos(2 pi n / (M - 1))."""
    return general_cosine(
        M, a=[alpha, 1.0 - alpha], sym=sym, dtype=dtype, device=device, requires_grad=requires_grad
    )


def hamming(
    M: int, *, sym: bool = True, dtype: Any = None, layout: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """0.54 - 0.46 cos(2 pi n / (M - 1))."""
    return general_hamming(M, sym=sym, dtype=dtype, device=device, requires_grad=requires_grad)


def hann(
    M: int, *, sym: bool = True, dtype: Any = None, layout: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """(1 - cos(2 pi n / (M - 1))) / 2.

    >>> hann(4, sym=False)
    tensor([0.0000, 0.5000, 1.0000, 0.5000])
    """
    return general_hamming(
        M, alpha=0.5, sym=sym, dtype=dtype, device=device, requires_grad=requires_grad
    )


def blackman(
    M: int, *, sym: bool = True, dtype: Any = None, layout: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """0.42 - 0.5 cos(2 pi n / (M - 1)) + 0.08 cos(4 pi n / (M - 1))."""
    a = [0.42, 0.5, 0.08]
    return general_cosine(M, a=a, sym=sym, dtype=dtype, device=device, requires_grad=requires_grad)


def nuttall(
    M: int, *, sym: bool = True, dtype: Any = None, layout: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Nuttall's window of four terms with the smallest side lobes."""
    a = [0.3635819, 0.4891775, 0.1365995, 0.0106411]
    return general_cosine(M, a=a, sym=sym, dtype=dtype, device=device, requires_grad=requires_grad)


def bartlett(
    M: int, *, sym: bool = True, dtype: Any = None, layout: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """A triangle with zeros at the ends."""

    def shape(n: Any) -> Any:
        return 1 - np.abs(2 * n / _span(M, sym) - 1)

    return _window("bartlett", M, shape, dtype, device, requires_grad, layout)


def cosine(
    M: int, *, sym: bool = True, dtype: Any = None, layout: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """sin(pi (n + 1/2) / M): half a wave."""

    def shape(n: Any) -> Any:
        return np.sin(math.pi * (n + 0.5) / (M if sym else M + 1))

    return _window("cosine", M, shape, dtype, device, requires_grad, layout)


def exponential(
    M: int, *, center: float | None = None, tau: float = 1.0, sym: bool = True, dtype: Any = None,
    layout: Any = None, device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """exp(-|n - center| / tau); the center is the middle unless the window is periodic."""
    if tau <= 0:
        raise ArgumentError(f"exponential: tau must be positive, got {tau}")
    if sym and center is not None:
        raise ArgumentError("exponential: a symmetric window has its center in the middle")

    def shape(n: Any) -> Any:
        middle = _span(M, sym) / 2 if center is None else center
        return np.exp(-np.abs(n - middle) / tau)

    return _window("exponential", M, shape, dtype, device, requires_grad, layout)


def gaussian(
    M: int, *, std: float = 1.0, sym: bool = True, dtype: Any = None, layout: Any = None,
    device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """exp(-(n - middle)**2 / (2 std**2))."""
    if std <= 0:
        raise ArgumentError(f"gaussian: std must be positive, got {std}")

    def shape(n: Any) -> Any:
        return np.exp(-0.5 * ((n - _span(M, sym) / 2) / std) ** 2)

    return _window("gaussian", M, shape, dtype, device, requires_grad, layout)


def kaiser(
    M: int, *, beta: float = 12.0, sym: bool = True, dtype: Any = None, layout: Any = None,
    device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """i0(beta sqrt(1 - (2 n / (M - 1) - 1)**2)) / i0(beta)."""
    if beta < 0:
        raise ArgumentError(f"kaiser: beta must not be negative, got {beta}")

    def shape(n: Any) -> Any:
        place = beta * np.sqrt(np.maximum(1 - (2 * n / _span(M, sym) - 1) ** 2, 0))
        scaled = bessel_i_scaled(0, place) / bessel_i_scaled(0, np.array([float(beta)]))
        return scaled * np.exp(place - beta)

    return _window("kaiser", M, shape, dtype, device, requires_grad, layout)


def _periodic(name: str, window: Any) -> Any:
    """The older form of a window in PyTorch's main namespace: periodic by default."""

    def f(
        window_length: int, periodic: bool = True, *, dtype: Any = None, layout: Any = None,
        device: Any = None, requires_grad: bool = False,
    ) -> Tensor:  # fmt: skip
        return window(
            window_length, sym=not periodic, dtype=dtype, device=device, requires_grad=requires_grad
        )

    f.__name__ = f.__qualname__ = name
    f.__doc__ = f"signal.windows.{window.__name__}, periodic unless told otherwise."
    return f


hann_window = _periodic("hann_window", hann)
blackman_window = _periodic("blackman_window", blackman)
bartlett_window = _periodic("bartlett_window", bartlett)


def hamming_window(
    window_length: int, periodic: bool = True, alpha: float = 0.54, beta: float = 0.46, *,
    dtype: Any = None, layout: Any = None, device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """alpha - beta cos(2 pi n / window_length), periodic unless told otherwise."""
    return general_cosine(
        window_length, a=[alpha, beta], sym=not periodic, dtype=dtype, device=device,
        requires_grad=requires_grad,
    )  # fmt: skip


def kaiser_window(
    window_length: int, periodic: bool = True, beta: float = 12.0, *, dtype: Any = None,
    layout: Any = None, device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """signal.windows.kaiser, periodic unless told otherwise."""
    return kaiser(
        window_length, beta=beta, sym=not periodic, dtype=dtype, device=device,
        requires_grad=requires_grad,
    )  # fmt: skip
