"""The one place of data/ that turns tensors into NumPy arrays and back."""

from __future__ import annotations

import numpy as np

import monograph as mg


def is_tensor(x) -> bool:
    return isinstance(x, mg.Tensor)


def as_array(x) -> np.ndarray:
    """The values of a tensor (its own memory where possible), or np.asarray of anything else."""
    if is_tensor(x):
        return x.detach().numpy() if x.requires_grad else x.numpy()
    return np.asarray(x)


def to_tensor(array: np.ndarray):
    """A tensor over the memory of `array`."""
    return mg.from_numpy(array)


def shape_of(x) -> tuple[int, ...]:
    return tuple(x.shape)


def take(x, index: np.ndarray):
    """x[index] along the first axis: of the same type as `x`, with memory of its own."""
    if is_tensor(x) and not x.requires_grad:
        return to_tensor(as_array(x)[index])
    return x[index]


def stack(samples: list):
    """One tensor with a new first axis, out of tensors or arrays of equal shapes."""
    if any(is_tensor(x) and x.requires_grad for x in samples):
        return mg.stack([x if is_tensor(x) else to_tensor(x) for x in samples])
    return to_tensor(np.stack([as_array(x) for x in samples]))
