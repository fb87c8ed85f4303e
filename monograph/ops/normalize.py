"""Normalisation: batch, layer, group, instance and root-mean-square norm; unit vectors, similarity.

All are composed so that they fuse: sums over an axis, then elementwise work on the same rows.
Variances are means of squared distances from the mean (two passes over a row), never differences of
large squares. 16-bit floats are computed in float32.
"""

from __future__ import annotations

from typing import Any

from ..core import dtype as dt
from ..core.errors import ArgumentError, DTypeError, ShapeError
from ..core.shape import Shape, as_index, broadcast_shapes, numel
from .align import align, broadcast_to, cast, functional, public
from .arith import add, div, maximum, mul, sub
from .composite import composite
from .movement import Detach, Pad, Reshape, Sum
from .pooling import window_sums
from .power import pow as power
from .power import rsqrt
from .reduce import keep_dims, norm
from .reduce import sum as sum_over


def _wide(name: str, x: Any) -> Any:
    if not x.dtype.is_floating_point:
        raise DTypeError(f"{name}: input must be floating, got {x.dtype.name}")
    return cast(x, dt.float32) if x.dtype.itemsize == 2 else x


def _mean(x: Any, axes: tuple[int, ...]) -> Any:
    """Mean over axes, which stay with size 1."""
    count = numel(x.shape[a] for a in axes)
    return keep_dims(mul(Sum(axes)(x), 1.0 / count if count else 0.0), tuple(x.shape), axes)


def _moments(x: Any, axes: tuple[int, ...]) -> tuple[Any, Any, Any]:
    """(x - mean, mean, variance) over axes; mean and variance have size 1 there."""
    mean = _mean(x, axes)
    centered = sub(x, mean)
    return centered, mean, _mean(mul(centered, centered), axes)


def _scale_and_shift(x: Any, weight: Any, bias: Any, shape: Shape) -> Any:
    """x * weight + bias, both read as `shape`."""
    if weight is not None:
        x = mul(x, Reshape(shape)(cast(weight, x.dtype)))
    if bias is not None:
        x = add(x, Reshape(shape)(cast(bias, x.dtype)))
    return x


def _channel_shape(x: Any) -> Shape:
    return (1, x.shape[1], *(1,) * (len(x.shape) - 2))


def _check_channels(name: str, channels: int, **vectors: Any) -> None:
    for argument, v in vectors.items():
        if v is not None and tuple(v.shape) != (channels,):
            raise ShapeError(
                f"{name}: {argument} must have shape ({channels},), got {tuple(v.shape)}"
            )


def _trailing(name: str, input: Any, normalized_shape: Any, **affine: Any) -> tuple[int, ...]:
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    size = tuple(input.shape)
    if not shape or size[len(size) - len(shape) :] != shape or len(shape) > len(size):
        raise ShapeError(
            f"{name}: normalized_shape {shape} must be the last sizes of input, which is {size}"
        )
    for argument, v in affine.items():
        if v is not None and tuple(v.shape) != shape:
            raise ShapeError(f"{name}: {argument} must have shape {shape}, got {tuple(v.shape)}")
    return tuple(range(len(size) - len(shape), len(size)))


@functional
@composite
def layer_norm(
    input: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Any:
    """(x - mean) / sqrt(var + eps) over the last dimensions, times weight, plus bias.

    normalized_shape  sizes of the dimensions that are normalised, which are input's last
    weight, bias      of shape normalized_shape, or None

    Source: Ba, Kiros, Hinton, "Layer normalization", 2016.
    """
    axes = _trailing("layer_norm", input, normalized_shape, weight=weight, bias=bias)
    centered, _, variance = _moments(_wide("layer_norm", input), axes)
    out = mul(centered, rsqrt(add(variance, eps)))
    shape = tuple(input.shape[a] for a in axes)
    return cast(_scale_and_shift(out, weight, bias, shape), input.dtype)


@functional
@composite
def rms_norm(
    input: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None
) -> Any:
    """x / sqrt(mean of squares + eps) over the last dimensions, times weight.

    eps  the dtype's machine epsilon unless given

    Source: Zhang and Sennrich, "Root mean square layer normalization", 2019.
    """
    axes = _trailing("rms_norm", input, normalized_shape, weight=weight)
    x = input if input.dtype.is_complex else _wide("rms_norm", input)
    eps = dt.finfo(input.dtype).eps if eps is None else eps
    out = mul(x, rsqrt(add(_mean(mul(x, x), axes), eps)))
    shape = tuple(input.shape[a] for a in axes)
    return cast(_scale_and_shift(out, weight, None, shape), input.dtype)


@functional
@composite
def group_norm(
    input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Any:
    """Normalise each image's channels in num_groups groups: input (N, C, ...), weight, bias (C,).

    Source: Wu and He, "Group normalization", 2018.
    """
    if len(input.shape) < 2:
        raise ShapeError(
            f"group_norm: input must have at least 2 dimensions, got {tuple(input.shape)}"
        )
    groups, channels = as_index("group_norm", "num_groups", num_groups), input.shape[1]
    if groups < 1 or channels % groups:
        raise ShapeError(
            f"group_norm: {channels} channels do not divide into num_groups={num_groups}"
        )
    _check_channels("group_norm", channels, weight=weight, bias=bias)
    shape = tuple(input.shape)
    x = Reshape((shape[0], groups, numel(shape[1:]) // groups))(_wide("group_norm", input))
    centered, _, variance = _moments(x, (2,))
    out = Reshape(shape)(mul(centered, rsqrt(add(variance, eps))))
    return cast(_scale_and_shift(out, weight, bias, _channel_shape(input)), input.dtype)


def _update(name: str, running: Any, value: Any, momentum: float) -> None:
    """running = (1 - momentum) * running + momentum * value, in place and off the tape."""
    value = cast(Reshape(tuple(running.shape))(Detach()(value)), running.dtype)
    running._write(add(mul(Detach()(running), 1.0 - momentum), mul(value, momentum)), name)


def _by_running(
    x: Any, mean: Any, variance: Any, weight: Any, bias: Any, eps: float, shape: Shape
) -> Any:
    """x * scale + shift with one pair of numbers per channel."""
    scale = rsqrt(add(cast(variance, x.dtype), eps))
    if weight is not None:
        scale = mul(scale, cast(weight, x.dtype))
    shift = mul(cast(mean, x.dtype), scale)
    shift = mul(shift, -1.0) if bias is None else sub(cast(bias, x.dtype), shift)
    return add(mul(x, Reshape(shape)(scale)), Reshape(shape)(shift))


@functional
@composite
def batch_norm(
    input: Any, running_mean: Any, running_var: Any, weight: Any = None, bias: Any = None,
    training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Any:  # fmt: skip
    """Normalise each channel of (N, C, ...) over all images and places.

    training   use the batch's mean and variance, and move running_mean and running_var towards
               them in place by `momentum` (the variance by n / (n - 1)); else use the running ones
    the others (C,) or None

    ArgumentError in training if a channel has a single value. Source: Ioffe and Szegedy, "Batch
    normalization", 2015.
    """
    if len(input.shape) < 2:
        if 0 in input.shape:
            return mul(input, 1)  # as PyTorch: there is nothing to normalise
        raise ShapeError(
            f"batch_norm: input must have at least 2 dimensions, got {tuple(input.shape)}"
        )
    _check_channels(
        "batch_norm", input.shape[1], running_mean=running_mean, running_var=running_var,
        weight=weight, bias=bias,
    )  # fmt: skip
    x, shape = _wide("batch_norm", input), _channel_shape(input)
    if not training:
        if running_mean is None or running_var is None:
            raise ArgumentError(
                "batch_norm: running_mean and running_var are needed when training is False"
            )
        out = _by_running(x, running_mean, running_var, weight, bias, eps, shape)
        return cast(out, input.dtype)
    count = numel(input.shape) // max(input.shape[1], 1)
    if count == 1:
        raise ArgumentError(
            f"batch_norm: training needs more than one value per channel, input is "
            f"{tuple(input.shape)}"
        )
    axes = (0, *range(2, len(input.shape)))
    centered, mean, variance = _moments(x, axes)
    is_empty = 0 in input.shape  # then the statistics stay
    if running_mean is not None and not is_empty:
        _update("batch_norm", running_mean, mean, momentum)
    if running_var is not None and not is_empty:
        unbiased = mul(variance, count / max(count - 1, 1))
        _update("batch_norm", running_var, unbiased, momentum)
    scale = rsqrt(add(variance, eps))
    if weight is not None:
        scale = mul(scale, Reshape(shape)(cast(weight, x.dtype)))
    return cast(_scale_and_shift(mul(centered, scale), None, bias, shape), input.dtype)


@functional
@composite
def instance_norm(
    input: Any, running_mean: Any = None, running_var: Any = None, weight: Any = None,
    bias: Any = None, use_input_stats: bool = True, momentum: float = 0.1, eps: float = 1e-5,
) -> Any:  # fmt: skip
    """Normalise each channel of each image of (N, C, ...) over its places.

    use_input_stats  else the running statistics, per channel, are used
    """
    if len(input.shape) < 3:
        raise ShapeError(
            f"instance_norm: input must have at least 3 dimensions, got {tuple(input.shape)}"
        )
    _check_channels(
        "instance_norm", input.shape[1], running_mean=running_mean, running_var=running_var,
        weight=weight, bias=bias,
    )  # fmt: skip
    x, shape = _wide("instance_norm", input), _channel_shape(input)
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise ArgumentError(
                "instance_norm: running_mean and running_var are needed when use_input_stats is "
                "False"
            )
        out = _by_running(x, running_mean, running_var, weight, bias, eps, shape)
        return cast(out, input.dtype)
    places = numel(input.shape[2:])
    if places == 1:
        raise ArgumentError(
            f"instance_norm: needs more than one place per channel, input is {tuple(input.shape)}"
        )
    axes = tuple(range(2, len(input.shape)))
    centered, mean, variance = _moments(x, axes)
    if running_mean is not None:
        _update("instance_norm", running_mean, _mean(mean, (0,)), momentum)
    if running_var is not None:
        unbiased = mul(_mean(variance, (0,)), places / max(places - 1, 1))
        _update("instance_norm", running_var, unbiased, momentum)
    out = mul(centered, rsqrt(add(variance, eps)))
    return cast(_scale_and_shift(out, weight, bias, shape), input.dtype)


@functional
def local_response_norm(
    input: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Any:
    """x / (k + alpha * mean of squares over `size` neighbouring channels) ** beta.

    Source: Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural
    networks", 2012.
    """
    if len(input.shape) < 3:
        raise ShapeError(
            f"local_response_norm: input must have at least 3 dimensions, got {tuple(input.shape)}"
        )
    shape = tuple(input.shape)
    squares = Reshape((shape[0], 1, shape[1], numel(shape[2:])))(mul(input, input))
    around = Pad((0, 0, size // 2, 0), (0, 0, (size - 1) // 2, 0), (0,) * 4)(squares)
    sums = window_sums(around, (size, 1), (1, 1), (0, 0), (shape[1], numel(shape[2:])))
    divisor = power(add(mul(Reshape(shape)(sums), alpha / size), k), beta)
    return div(input, divisor)


@functional
@composite
def normalize(input: Any, p: float = 2.0, dim: Any = 1, eps: float = 1e-12, out: Any = None) -> Any:
    """x / max(p-norm of x along dim, eps): vectors of length 1.

    >>> normalize(tensor([[3.0, 4.0]]))
    tensor([[0.6000, 0.8000]])
    """
    made = div(input, maximum(norm(input, p, dim, keepdim=True), eps))
    return made if out is None else out._write(made, "normalize")


@public
@functional
@composite
def cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Any:
    """x1 . x2 / (max(|x1|, eps) * max(|x2|, eps)) along dim.

    >>> cosine_similarity(tensor([[3.0, 4.0]]), tensor([[4.0, -3.0]]))
    tensor([0.])
    """
    x, y = align("cosine_similarity", x1, x2, floating=True)
    lengths = [maximum(norm(v, 2, dim, keepdim=True), eps) for v in (x, y)]
    return sum_over(mul(div(x, lengths[0]), div(y, lengths[1])), dim)


@public
@functional
@composite
def pairwise_distance(
    x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Any:
    """p-norm of x1 - x2 + eps along the last dimension."""
    x, y = align("pairwise_distance", x1, x2, floating=True)
    return norm(add(sub(x, y), eps), p, -1, keepdim=keepdim)


@public
@composite
def cdist(
    x1: Any, x2: Any, p: float = 2.0, compute_mode: str = "use_mm_for_euclid_dist_if_necessary"
) -> Any:
    """p-norms of all differences of rows: (..., P, M), (..., R, M) -> (..., P, R).

    compute_mode  accepted for PyTorch's sake; differences are always formed, which is exact
    """
    if len(x1.shape) < 2 or len(x2.shape) < 2 or x1.shape[-1] != x2.shape[-1]:
        raise ShapeError(
            f"cdist: x1 {tuple(x1.shape)} and x2 {tuple(x2.shape)} must be (..., P, M) and "
            "(..., R, M)"
        )
    lead = broadcast_shapes("cdist", tuple(x1.shape[:-2]), tuple(x2.shape[:-2]))
    m = x1.shape[-1]
    x = broadcast_to(x1, (*lead, *x1.shape[-2:]))
    y = broadcast_to(x2, (*lead, *x2.shape[-2:]))
    x = Reshape((*lead, x1.shape[-2], 1, m))(x)
    y = Reshape((*lead, 1, x2.shape[-2], m))(y)
    return norm(sub(x, y), p, -1)
