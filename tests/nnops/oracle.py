"""Compare a function of tensors with the same function in PyTorch: values and gradients."""

from __future__ import annotations

import numpy as np

import monograph as mg

# Sums of n rounded products err by about sqrt(n) units in the last place; n is at most a few
# thousand here.
TOLERANCE = {np.float32: dict(rtol=2e-5, atol=2e-5), np.float64: dict(rtol=1e-9, atol=1e-10)}


def rng(seed=0):
    return np.random.default_rng(seed)


def to_torch(a, requires_grad=False):
    import torch

    if not isinstance(a, np.ndarray):
        return a
    t = torch.from_numpy(a.copy())
    return t.requires_grad_() if requires_grad and a.dtype.kind == "f" else t


def to_mg(a, requires_grad=False):
    if not isinstance(a, np.ndarray):
        return a
    t = mg.tensor(a)
    return t.requires_grad_() if requires_grad and a.dtype.kind == "f" else t


def close(made, expected, dtype=np.float64, **tolerance):
    made = made.numpy(force=True) if hasattr(made, "numpy") else made
    expected = expected.detach().numpy(force=True) if hasattr(expected, "detach") else expected
    assert made.shape == expected.shape, f"shape {made.shape}, PyTorch has {expected.shape}"
    assert made.dtype == expected.dtype, f"dtype {made.dtype}, PyTorch has {expected.dtype}"
    np.testing.assert_allclose(made, expected, **(tolerance or TOLERANCE[dtype]))


def check(f, g, *arrays, double=False, dtype=np.float64, **tolerance):
    """f on our tensors equals g on PyTorch's: value, gradients, and (double) second gradients.

    Floating arrays require gradients; integer and bool arrays and other arguments are passed on.
    """
    arrays = [
        a.astype(dtype) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in arrays
    ]
    ours = [to_mg(a, True) for a in arrays]
    theirs = [to_torch(a, True) for a in arrays]
    out, expected = f(*ours), g(*theirs)
    close(out, expected, dtype, **tolerance)
    weights = rng(7).standard_normal(tuple(expected.shape)).astype(dtype)
    import torch

    mine = [t for t in ours if isinstance(t, mg.Tensor) and t.requires_grad]
    other = [t for t in theirs if isinstance(t, torch.Tensor) and t.requires_grad]
    if not mine or not expected.requires_grad:
        return
    seed, their_seed = to_mg(weights, double), to_torch(weights, double)
    made = mg.autograd.grad(out, mine, seed, create_graph=double, materialize_grads=True)
    wanted = torch.autograd.grad(
        expected, other, their_seed, create_graph=double, materialize_grads=True
    )
    for a, b in zip(made, wanted):
        close(a, b, dtype, **tolerance)
    if not double:
        return
    r = rng(8)
    total, goal = mg.zeros((), dtype=seed.dtype), torch.zeros((), dtype=their_seed.dtype)
    for a, b in zip(made, wanted):
        w = r.standard_normal(tuple(b.shape)).astype(dtype)
        total = total + mg.tensordot(a, mg.tensor(w), a.ndim)
        goal = goal + (b * torch.from_numpy(w)).sum()
    second = mg.autograd.grad(total, (*mine, seed), materialize_grads=True)
    goals = torch.autograd.grad(goal, (*other, their_seed), materialize_grads=True)
    for a, b in zip(second, goals):
        close(a, b, dtype, **tolerance)
