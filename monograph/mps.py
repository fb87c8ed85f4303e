"""What programs ask about Apple's GPU: it is not used."""

from __future__ import annotations

from .accelerator import device_count, empty_cache, is_available, synchronize
from .accelerator import memory_allocated as current_allocated_memory
from .accelerator import memory_allocated as driver_allocated_memory
from .cuda import manual_seed

__all__ = [
    "current_allocated_memory", "device_count", "driver_allocated_memory", "empty_cache",
    "is_available", "manual_seed", "synchronize",
]  # fmt: skip
