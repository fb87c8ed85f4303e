"""Settings that programs make and that change nothing here: there is one, exact way to compute."""

from __future__ import annotations

from .errors import ArgumentError

_PRECISIONS = ("highest", "high", "medium")
_precision = ["highest"]


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Accepted for programs that ask for it: results are always the same from run to run."""


def are_deterministic_algorithms_enabled() -> bool:
    """True, always."""
    return True


def set_float32_matmul_precision(precision: str) -> None:
    """Accept one of "highest", "high", "medium": products of float32 always keep every digit."""
    if precision not in _PRECISIONS:
        raise ArgumentError(
            "set_float32_matmul_precision: expected one of "
            f"{', '.join(map(repr, _PRECISIONS))}, got {precision!r}"
        )
    _precision[0] = precision


def get_float32_matmul_precision() -> str:
    """What set_float32_matmul_precision was given last."""
    return _precision[0]
