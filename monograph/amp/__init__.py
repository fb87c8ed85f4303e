"""Mixed precision: `autocast` runs products in 16 bits, `GradScaler` keeps float16 gradients alive.

    with mg.autocast("cpu", dtype=mg.bfloat16):
        loss = F.cross_entropy(model(x), y)
    loss.backward()

Parameters, their gradients and the optimizer stay float32. Which functions are cast:
monograph/ops/autocasting.py.
"""

from .autocast_mode import (
    autocast,
    custom_bwd,
    custom_fwd,
    is_autocast_available,
)
from .grad_scaler import GradScaler

__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd", "is_autocast_available"]
