"""Functions of PyTorch's main namespace that are others in another form.

native_layer_norm and its kin also return the statistics; grid_sampler takes numbers for modes;
index_reduce is scatter_reduce on rows; max_pool2d_with_indices and its kin also say where.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core.errors import ArgumentError, ShapeError
from ..core.shape import numel
from ..ir.op import Full
from .align import broadcast_to, functional, public
from .arith import add
from .batching import shape_of
from .fractional import fractional_max_pool2d, fractional_max_pool3d
from .gathering import _at_least_1d, _rows, scatter_reduce
from .images import grid_sample
from .joining import pad
from .movement import Reshape
from .normalize import _moments, _wide, batch_norm, group_norm, layer_norm
from .pooling import (
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    adaptive_max_pool3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
)
from .power import rsqrt

# -- pooling that says where -----------------------------------------------------------------------


def _with_indices(f: Callable) -> Callable:
    """f with return_indices=True, under PyTorch's name for that."""

    def both(*args: Any, **kwargs: Any) -> Any:
        return f(*args, **{**kwargs, "return_indices": True})

    both.__name__ = both.__qualname__ = f"{f.__name__}_with_indices"
    both.__doc__ = (
        f"({f.__name__}, where each maximum was: int64), for all arguments of {f.__name__}."
    )
    return functional(both)


for _f in (
    max_pool1d, max_pool2d, max_pool3d, adaptive_max_pool1d, adaptive_max_pool2d,
    adaptive_max_pool3d, fractional_max_pool2d, fractional_max_pool3d,
):  # fmt: skip
    _with_indices(_f)


# -- normalization that returns its statistics -----------------------------------------------------


def _statistics(x: Any, axes: tuple[int, ...], eps: float) -> tuple[Any, Any]:
    """(mean, 1 / sqrt(variance + eps)) over axes, which stay as size 1."""
    _, mean, variance = _moments(x, axes)
    return mean, rsqrt(add(variance, eps))


@public
def native_layer_norm(
    input: Any, normalized_shape: Any, weight: Any, bias: Any, eps: float
) -> tuple[Any, Any, Any]:
    """(layer_norm, mean, 1 / deviation); the statistics have size 1 where they were taken."""
    out = layer_norm(input, normalized_shape, weight, bias, eps)
    n, count = len(input.shape), len(tuple(normalized_shape))
    return (out, *_statistics(_wide("native_layer_norm", input), tuple(range(n - count, n)), eps))


@public
def native_group_norm(
    input: Any, weight: Any, bias: Any, N: int, C: int, HxW: int, group: int, eps: float
) -> tuple[Any, Any, Any]:
    """(group_norm, mean, 1 / deviation) of input (N, C, ...); the statistics are (N, group)."""
    if numel(input.shape) != N * C * HxW:
        raise ShapeError(
            f"native_group_norm: {shape_of(input)} has not N * C * HxW = {N * C * HxW} elements"
        )
    out = group_norm(input, group, weight, bias, eps)
    x = Reshape((N, group, C // group * HxW))(_wide("native_group_norm", input))
    return (out, *(Reshape((N, group))(v) for v in _statistics(x, (2,), eps)))


@public
def native_batch_norm(
    input: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any, training: bool,
    momentum: float, eps: float,
) -> tuple[Any, Any, Any]:  # fmt: skip
    """(batch_norm, mean, 1 / deviation) of input (N, C, ...); empty statistics unless training."""
    out = batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    x = _wide("native_batch_norm", input)
    if not training:
        return out, Full((0,), x.dtype, 0)(), Full((0,), x.dtype, 0)()
    axes = tuple(a for a in range(len(x.shape)) if a != 1)
    return (out, *(Reshape((x.shape[1],))(v) for v in _statistics(x, axes, eps)))


# -- other forms -----------------------------------------------------------------------------------

_SAMPLING = ("bilinear", "nearest", "bicubic")
_OUTSIDE = ("zeros", "border", "reflection")


@public
def grid_sampler(
    input: Any, grid: Any, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Any:
    """nn.functional.grid_sample with numbers for modes.

    interpolation_mode  0 bilinear, 1 nearest, 2 bicubic
    padding_mode        0 zeros, 1 border, 2 reflection
    """
    if interpolation_mode not in (0, 1, 2) or padding_mode not in (0, 1, 2):
        raise ArgumentError(
            "grid_sampler: interpolation_mode and padding_mode must be 0, 1 or 2, got "
            f"{interpolation_mode} and {padding_mode}"
        )
    mode, outside = _SAMPLING[interpolation_mode], _OUTSIDE[padding_mode]
    return grid_sample(input, grid, mode, outside, bool(align_corners))


@public
def grid_sampler_2d(
    input: Any, grid: Any, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Any:
    """grid_sampler of images (N, C, H, W)."""
    return grid_sampler(input, grid, interpolation_mode, padding_mode, align_corners)


@public
def grid_sampler_3d(
    input: Any, grid: Any, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Any:
    """grid_sampler of volumes (N, C, D, H, W)."""
    return grid_sampler(input, grid, interpolation_mode, padding_mode, align_corners)


@public
def constant_pad_nd(input: Any, pad_: Any, value: Any = 0) -> Any:
    """nn.functional.pad with a constant: pad_ = (left, right, top, bottom, ...)."""
    return pad(input, pad_, "constant", value)


@public
def index_reduce(
    input: Any, dim: int, index: Any, source: Any, reduce: str, *, include_self: bool = True
) -> Any:
    """A copy of `input` with the rows of `source` combined into its rows of `dim` at `index`.

    reduce        "prod", "mean", "amax" or "amin"
    include_self  whether the elements of input count too

    >>> index_reduce(ones(3), 0, tensor([0, 0]), tensor([2.0, 5.0]), "prod")
    tensor([10.,  1.,  1.])
    """
    if reduce not in ("prod", "mean", "amax", "amin"):
        raise ArgumentError(
            f"index_reduce: reduce must be 'prod', 'mean', 'amax' or 'amin', got {reduce!r}"
        )
    axis, index, source = _rows("index_reduce", input, dim, index, source)
    source, base = _at_least_1d(source), _at_least_1d(input)
    line = Reshape(tuple(n if a == axis else 1 for a, n in enumerate(source.shape)))(index)
    places = broadcast_to(line, shape_of(source))
    out = scatter_reduce(base, axis, places, source, reduce, include_self=include_self)
    return out if input.shape else Reshape(())(out)
