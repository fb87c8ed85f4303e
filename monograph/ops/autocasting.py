"""Automatic casting: which functions run in 16 bits under `autocast`, and which in float32.

The lists are PyTorch's for the CPU. A listed function casts its tensors and then runs with casting
off, so that neither what it is made of nor its gradient is cast again. Functions that are on no
list run in what they are given, and promote as always.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..core import dtype as dt
from ..core.dtype import DType
from ..core.modes import modes
from .basic import Cast

# Products: fast in 16 bits, and safe, because their sums are kept in float32.
LOWER = frozenset(
    """
    linear matmul mm bmm addmm addbmm baddbmm chain_matmul multi_dot einsum tensordot inner prelu
    conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d
    scaled_dot_product_attention
    """.split()
)
# What loses digits or overflows in 16 bits.
FLOAT32 = frozenset(
    """
    binary_cross_entropy binary_cross_entropy_with_logits cosine_embedding_loss cross_entropy
    ctc_loss hinge_embedding_loss huber_loss kl_div l1_loss margin_ranking_loss mse_loss
    multi_margin_loss multilabel_margin_loss multilabel_soft_margin_loss nll_loss poisson_nll_loss
    gaussian_nll_loss smooth_l1_loss soft_margin_loss triplet_margin_loss
    adaptive_avg_pool3d adaptive_max_pool3d avg_pool3d max_pool3d fractional_max_pool2d
    fractional_max_pool3d max_unpool2d max_unpool3d grid_sample
    cdist nanquantile prod quantile trace
    cholesky cholesky_ex cholesky_inverse cholesky_solve cond eig eigh eigvals eigvalsh geqrf
    householder_product inv inv_ex inverse lstsq lu_solve matrix_rank orgqr ormqr pinverse polar qr
    solve svd svdvals tensorinv tensorsolve triangular_solve vecdot view_as_complex
    fft fft2 fftn ifft ifft2 ifftn rfft rfft2 rfftn irfft irfft2 irfftn hfft ihfft stft
    """.split()
)
_SHORT = (dt.float16, dt.bfloat16)
_CACHED = 4096  # casts that are remembered, at most


def casting(f: Callable, name: str = "") -> Callable:
    """f as autocast has it, by its name; f itself where it is on no list."""
    name = name or f.__name__
    if name in LOWER:
        return lowered(f)
    return _raised(f) if name in FLOAT32 else f


def lowered(f: Callable) -> Callable:
    """f, whose floating tensors (but float64) are cast to autocast's dtype where that is on."""

    @functools.wraps(f)
    def cast_first(*args: Any, **kwargs: Any) -> Any:
        dtype = modes.autocast
        return f(*args, **kwargs) if dtype is None else _run(f, args, kwargs, dtype, dtype)

    return cast_first


def _raised(f: Callable) -> Callable:
    """f, whose 16-bit tensors are cast to float32 under autocast."""

    @functools.wraps(f)
    def cast_first(*args: Any, **kwargs: Any) -> Any:
        dtype = modes.autocast
        return f(*args, **kwargs) if dtype is None else _run(f, args, kwargs, dt.float32, dtype)

    return cast_first


def _run(f: Callable, args: tuple, kwargs: dict, to: DType, mode: DType) -> Any:
    args = tuple([_cast(a, to) for a in args])
    if kwargs:
        kwargs = {k: v if k == "out" else _cast(v, to) for k, v in kwargs.items()}
    modes.autocast = None
    try:
        return f(*args, **kwargs)
    finally:
        modes.autocast = mode


def _cast(x: Any, to: DType) -> Any:
    """x, or the tensors in the tuple or list x, in dtype `to`."""
    if type(x) is tuple or type(x) is list:
        return type(x)([_cast(item, to) for item in x])
    dtype = getattr(x, "dtype", None)
    if type(dtype) is not DType or dtype is to:
        return x
    if to is dt.float32:
        return Cast(to)(x) if dtype in _SHORT else x
    if not dtype.is_floating_point or dtype is dt.float64 or getattr(x, "_weak", False):
        return x
    return _remembered(x, to) if dtype is dt.float32 else Cast(to)(x)


def _remembered(x: Any, to: DType) -> Any:
    """A float32 tensor in 16 bits; parameters are cast once as long as they do not change.

    Not where the cast belongs to something that comes to an end: a capture (which finds equal casts
    by itself), a batch, a region that is computed again.
    """
    casts = modes.casts
    if (
        casts is None or not getattr(x, "_requires", False) or x._node is not None
        or modes.trace is not None or modes.vmap is not None or modes.recorder is not None
    ):  # fmt: skip
        return Cast(to)(x)
    key = id(x), to, modes.grad
    found = casts.get(key)
    if found is not None and found[0] is x and found[1] is x._version and found[2] == x._version[0]:
        return found[3]
    made = Cast(to)(x)
    if len(casts) >= _CACHED:
        casts.clear()
    casts[key] = x, x._version, x._version[0], made
    return made
