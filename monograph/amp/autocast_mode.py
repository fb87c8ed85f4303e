"""autocast, and what programs ask about it; it is a mode of the thread (core/modes.py)."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

from ..core.device import device
from ..core.dtype import DType, as_dtype, bfloat16, float16
from ..core.errors import ArgumentError
from ..core.modes import modes
from ..ops.autocasting import _cast

DTYPES = (bfloat16, float16)
_settings: dict[str, Any] = {"dtype": bfloat16, "cache": True}


def _on_cpu(device_type: Any) -> bool:
    if not isinstance(device_type, str):
        raise ArgumentError(f"autocast: device_type must be a name, got {device_type!r}")
    return device(device_type).type == "cpu"


class autocast:
    """Run products in 16 bits and what loses digits in float32, in a block or in a function.

    device_type    "cpu"; for another device, which there is none of, a warning, and nothing is cast
    dtype          bfloat16 (usual) or float16, which needs a GradScaler
    enabled        False: nothing is cast in the body, also inside another autocast
    cache_enabled  False: cast parameters anew each time; else once, until the outermost body ends
                   or they change

    Matrix products, convolutions and attention cast their float32 and 16-bit tensors to `dtype` and
    sum in float32; losses and decompositions cast to float32; all others take what they are given,
    so that a sum of both is float32. float64 is never cast. The backward runs in the dtypes of the
    forward and belongs outside. Under jit the mode is part of what a program is captured for.

    >>> a = ones(2, 2)
    >>> with autocast("cpu", dtype=bfloat16):
    ...     (a @ a).dtype, (a @ a + a).dtype
    (monograph.bfloat16, monograph.float32)
    """

    def __init__(
        self,
        device_type: str,
        dtype: Any = None,
        enabled: bool = True,
        cache_enabled: bool | None = None,
    ):
        self.device = device_type
        self.fast_dtype = get_autocast_dtype(device_type) if dtype is None else as_dtype(dtype)
        self._enabled = bool(enabled)
        self._cache_enabled = _settings["cache"] if cache_enabled is None else bool(cache_enabled)
        if self._enabled and not _on_cpu(device_type):
            self._off(f"there is no device {device_type!r}; nothing is cast")
        elif self._enabled and self.fast_dtype not in DTYPES:
            self._off(
                f"dtype must be bfloat16 or float16, got {self.fast_dtype.name}; nothing is cast"
            )
        self._outer: list[tuple[Any, Any]] = []

    def _off(self, reason: str) -> None:
        warnings.warn(f"autocast: {reason}", UserWarning, stacklevel=3)
        self._enabled = False

    def __enter__(self) -> autocast:
        self._outer.append((modes.autocast, modes.casts))
        if _on_cpu(self.device):
            modes.autocast = self.fast_dtype if self._enabled else None
            modes.casts = (modes.casts or {}) if self._cache_enabled else None
        return self

    def __exit__(self, *error: Any) -> None:
        modes.autocast, modes.casts = self._outer.pop()

    def __call__(self, function: Callable) -> Callable:
        """`function` with this mode on for each call."""

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return wrapper


def is_autocast_available(device_type: str) -> bool:
    """Whether autocast works for a device: for "cpu"."""
    return _on_cpu(device_type)


def is_autocast_enabled(device_type: str = "cpu") -> bool:
    """Whether operations are cast here and now."""
    return _on_cpu(device_type) and modes.autocast is not None


def get_autocast_dtype(device_type: str = "cpu") -> DType:
    """What autocast casts to: inside one its dtype, else the one it takes if none is given."""
    if not _on_cpu(device_type):
        return float16
    return modes.autocast or _settings["dtype"]


def set_autocast_dtype(device_type: str, dtype: Any) -> None:
    """What autocast casts to if it is given no dtype: bfloat16 or float16."""
    found = as_dtype(dtype)
    if found not in DTYPES:
        raise ArgumentError(
            f"set_autocast_dtype: dtype must be bfloat16 or float16, got {found.name}"
        )
    if _on_cpu(device_type):
        _settings["dtype"] = found


def set_autocast_enabled(device_type: str, enabled: bool) -> None:
    """Switch casting on or off from here on."""
    if _on_cpu(device_type):
        modes.autocast = get_autocast_dtype() if enabled else None


def is_autocast_cache_enabled() -> bool:
    """Whether autocast keeps what it has cast parameters to."""
    return _settings["cache"]


def set_autocast_cache_enabled(enabled: bool) -> None:
    """Whether autocast keeps what it has cast parameters to, if it is not told itself."""
    _settings["cache"] = bool(enabled)


def clear_autocast_cache() -> None:
    """Forget what autocast has cast parameters to."""
    if modes.casts is not None:
        modes.casts.clear()


def custom_fwd(
    fwd: Callable | None = None, *, device_type: str = "cpu", cast_inputs: Any = None
) -> Any:
    """Decorate the `forward` of an autograd.Function: its backward gets the mode it ran in.

    cast_inputs  a dtype that floating inputs are cast to where autocast is on; the body then runs
                 with casting off
    """
    if fwd is None:
        return functools.partial(custom_fwd, device_type=device_type, cast_inputs=cast_inputs)

    @functools.wraps(fwd)
    def wrapper(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        ctx._autocast = modes.autocast
        if cast_inputs is None or modes.autocast is None:
            return fwd(ctx, *args, **kwargs)
        ctx._autocast = None
        to = as_dtype(cast_inputs)
        args = tuple(_cast(a, to) for a in args)
        kwargs = {k: _cast(v, to) for k, v in kwargs.items()}
        return _in(None, fwd, ctx, *args, **kwargs)

    return wrapper


def custom_bwd(bwd: Callable | None = None, *, device_type: str = "cpu") -> Any:
    """Decorate the `backward` that belongs to a forward with custom_fwd."""
    if bwd is None:
        return functools.partial(custom_bwd, device_type=device_type)

    @functools.wraps(bwd)
    def wrapper(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        return _in(ctx._autocast, bwd, ctx, *args, **kwargs)

    return wrapper


def _in(mode: Any, f: Callable, *args: Any, **kwargs: Any) -> Any:
    before, modes.autocast = modes.autocast, mode
    try:
        return f(*args, **kwargs)
    finally:
        modes.autocast = before
