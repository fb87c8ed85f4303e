"""make_tensor: random tensors for tests, as torch.testing has it."""

from __future__ import annotations

from typing import Any

import monograph as mg

from ..core.dtype import as_dtype
from ..core.shape import as_shape

__all__ = ["make_tensor"]


def make_tensor(
    *shape: Any, dtype: Any, device: Any = None, low: float | None = None,
    high: float | None = None, requires_grad: bool = False, noncontiguous: bool = False,
    exclude_zero: bool = False, memory_format: Any = None,
) -> Any:  # fmt: skip
    """A tensor of uniform numbers from [low, high), by default [-9, 9] (0 and 1 for bool).

    noncontiguous  its elements are not side by side; exclude_zero  0 becomes a small number

    >>> make_tensor(2, 3, dtype=int64, low=0, high=5).shape
    (2, 3)
    """
    d, sizes = as_dtype(dtype), as_shape("make_tensor", shape)
    low = low if low is not None else 0 if d is mg.bool or not d.is_signed else -9
    high = high if high is not None else 2 if d is mg.bool else 9 if d.is_floating_point else 10
    wide = mg.rand(*sizes, dtype=mg.float64, device=device) * (high - low) + low
    if not d.is_floating_point and not d.is_complex:
        wide = wide.floor()
    made = wide.to(d)
    if exclude_zero:
        smallest = mg.finfo(d).tiny if d.is_floating_point else 1
        made = mg.where(made == 0, mg.tensor(smallest, dtype=d), made)
    if noncontiguous and made.numel() > 1:
        made = mg.stack([made, made], -1)[..., 0]
    return made.requires_grad_() if requires_grad else made
