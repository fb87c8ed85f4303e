"""What models ask about an export to ONNX that may be in progress: there is none in version 0.1."""

from __future__ import annotations

from typing import Any

from .core.errors import ArgumentError


def is_in_onnx_export() -> bool:
    """False."""
    return False


def export(*args: Any, **kwargs: Any) -> Any:
    """ArgumentError: version 0.1 writes no ONNX files."""
    raise ArgumentError(
        "onnx.export: version 0.1 writes no ONNX files",
        hint="mg.save writes the weights as safetensors, which other programs read",
    )
