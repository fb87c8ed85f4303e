"""Layout and memory-format names that PyTorch programs pass around.

Tensors here are strided. A memory format is a hint about order in memory; results do not depend on
it, and it is accepted wherever PyTorch takes one.
"""

from __future__ import annotations


class layout:
    """How elements are kept; only `strided` tensors exist."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name

    def __repr__(self) -> str:
        return f"monograph.{self.name}"


class memory_format(layout):
    """An order of dimensions in memory."""

    __slots__ = ()


strided = layout("strided")
contiguous_format = memory_format("contiguous_format")
preserve_format = memory_format("preserve_format")
channels_last = memory_format("channels_last")
channels_last_3d = memory_format("channels_last_3d")
