"""Images: resizing, pixel shuffles, patches (unfold, fold), sampling by a grid."""

from __future__ import annotations

import itertools
import math
from typing import Any

from ..core import dtype as dt
from ..core.errors import ArgumentError, DTypeError, ShapeError
from ..core.shape import as_index, numel
from .align import broadcast_to, cast, functional
from .arith import abs as absolute
from .arith import add, div, eq, ge, le, logical_and, lt, minimum, mul, sub, where
from .contract import LETTERS, Contract, matmul
from .indexing import Gather, IndexSelect
from .joining import concat_values, stack
from .movement import Expand, Pad, Permute, Reshape, Slice, Sum
from .pooling import adaptive_avg
from .rounding import clamp, floor, remainder
from .rounding import round as rounded
from .triangular import Iota
from .windows import checked_counts, extents, per_dim, tap_slices, window_counts

MODES = {
    "nearest": (1, 2, 3), "nearest-exact": (1, 2, 3), "area": (1, 2, 3), "linear": (1,),
    "bilinear": (2,), "bicubic": (2,), "trilinear": (3,),
}  # fmt: skip


@functional
def interpolate(
    input: Any, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
    align_corners: bool | None = None, recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Any:  # fmt: skip
    """Resize the spatial dimensions of (N, C, ...) to `size`, or by `scale_factor`.

    mode           "nearest", "nearest-exact", "linear" (3 dimensions), "bilinear", "bicubic" (4),
                   "trilinear" (5), or "area" (averages)
    align_corners  linear modes and bicubic: whether the outer elements, not their outer edges,
                   keep their places
    antialias      for "bilinear" and "bicubic": where the image gets smaller, a pixel is an average
                   over all that it covers, weighted by the mode's filter made wider

    uint8 images are computed in float32 and rounded in the modes "bilinear" and "bicubic"; integers
    otherwise only have nearest elements and areas.

    >>> interpolate(ones(1, 1, 2, 2), scale_factor=2).shape
    (1, 1, 4, 4)
    """
    n = len(input.shape) - 2
    if mode not in MODES:
        raise ArgumentError(f"interpolate: mode must be one of {', '.join(MODES)}, got {mode!r}")
    if n not in MODES[mode]:
        raise ShapeError(
            f"interpolate: mode {mode!r} needs "
            f"{' or '.join(str(k + 2) for k in MODES[mode])} dimensions, got {tuple(input.shape)}"
        )
    if antialias and mode not in ("bilinear", "bicubic"):
        raise ArgumentError(
            f"interpolate: antialias=True needs mode 'bilinear' or 'bicubic', got {mode!r}"
        )
    exact_modes = mode in ("nearest", "nearest-exact", "area")
    if exact_modes and align_corners is not None:
        raise ArgumentError(f"interpolate: align_corners has no meaning for mode {mode!r}")
    is_image = input.dtype is dt.uint8 and mode in ("bilinear", "bicubic")
    if not exact_modes and not input.dtype.is_floating_point and not is_image:
        raise DTypeError(
            f"interpolate: mode {mode!r} needs a floating dtype, got {input.dtype.name}"
        )
    if (size is None) == (scale_factor is None):
        raise ArgumentError("interpolate: exactly one of size and scale_factor must be given")
    old = tuple(input.shape[2:])
    if size is not None:
        new = per_dim("interpolate", "size", size, n)
        scales = [o / s for o, s in zip(old, new)]
    else:
        factors = scale_factor if isinstance(scale_factor, (tuple, list)) else (scale_factor,) * n
        if len(factors) != n:
            raise ArgumentError(
                f"interpolate: scale_factor must be a number or {n} numbers, got {scale_factor}"
            )
        new = tuple(math.floor(o * float(f)) for o, f in zip(old, factors))
        if min(new) < 1:
            raise ShapeError(f"interpolate: {tuple(input.shape)} would get size {new}")
        if recompute_scale_factor:
            scales = [o / s for o, s in zip(old, new)]
        else:
            scales = [1.0 / float(f) for f in factors]
    if mode == "area":
        return adaptive_avg(n, input, new)
    x = cast(input, dt.float32) if is_image else input
    for axis, (o, s, scale) in enumerate(zip(old, new, scales), 2):
        if exact_modes:
            x = _nearest(x, axis, o, s, scale, 0.5 if mode == "nearest-exact" else 0.0)
        else:
            x = _blended(x, axis, o, s, scale, bool(align_corners), mode == "bicubic", antialias)
    return cast(clamp(rounded(x), 0, 255), dt.uint8) if is_image else x


def _nearest(x: Any, axis: int, old: int, new: int, scale: float, offset: float) -> Any:
    if new % old == 0 and scale == old / new:
        if new == old:
            return x
        shape, times = tuple(x.shape), new // old
        wide = (*shape[: axis + 1], times, *shape[axis + 1 :])
        return Reshape((*shape[:axis], new, *shape[axis + 1 :]))(Expand(wide, (axis + 1,))(x))
    # In float32, as PyTorch rounds the positions.
    place = Iota((new,), dt.float32, 0)()
    place = mul(add(place, offset) if offset else place, scale)
    return IndexSelect(axis)(x, clamp(cast(floor(place), dt.int64), 0, old - 1))


def _blended(
    x: Any, axis: int, old: int, new: int, scale: float, align_corners: bool, cubic: bool,
    antialias: bool,
) -> Any:  # fmt: skip
    """x resized along an axis: a product with the matrix of each output's weights."""
    wide = dt.float64 if x.dtype is dt.float64 else dt.float32
    place = Iota((new, old), wide, 0)()
    if align_corners:
        scale = (old - 1) / (new - 1) if new > 1 else 0.0
    if align_corners and not antialias:
        place = mul(place, scale)
    else:
        place = sub(mul(add(place, 0.5), scale), 0.5)
    column = Iota((new, old), wide, 1)()
    if antialias:
        matrix = _average_weights(absolute(sub(place, column)), max(scale, 1.0), cubic)
    elif cubic:
        matrix = _cubic_weights(place, column, old)
    else:
        distance = absolute(sub(clamp(place, 0.0, old - 1.0), column))
        matrix = clamp(sub(1.0, distance), min=0.0)
    letters = LETTERS[: len(x.shape)]
    source = letters[:axis] + "k" + letters[axis + 1 :]
    out = Contract(f"{source},{letters[axis]}k->{letters}")(cast(x, wide), matrix)
    return cast(out, x.dtype)


def _average_weights(distance: Any, width: float, cubic: bool) -> Any:
    """Weights of the antialiased modes: the filter, `width` times as wide, of sum 1 in a row."""
    d = mul(distance, 1.0 / width)
    if cubic:
        far = where(lt(d, 2.0), _cubic(d, False, -0.5), 0.0)
        matrix = where(lt(d, 1.0), _cubic(d, True, -0.5), far)
    else:
        matrix = clamp(sub(1.0, d), min=0.0)
    return div(matrix, Expand(matrix.shape, (1,))(Sum((1,))(matrix)))


def _cubic(d: Any, near: bool, a: float = -0.75) -> Any:
    """The weight of a neighbour at distance d: at most 1 (near), or 1 to 2.

    Source: Keys, "Cubic convolution interpolation for digital image processing", 1981.
    """
    if near:
        return add(mul(mul(sub(mul(d, a + 2), a + 3), d), d), 1.0)
    return sub(mul(add(mul(sub(mul(d, a), 5 * a), d), 8 * a), d), 4 * a)


def _cubic_weights(place: Any, column: Any, size: int) -> Any:
    """Weights of the four neighbours; those beyond an edge count for the edge."""
    first = floor(place)
    t = sub(place, first)
    total: Any = None
    for k in range(-1, 3):
        here = eq(clamp(add(first, float(k)), 0.0, size - 1.0), column)
        part = where(here, _cubic(absolute(sub(t, float(k))), k in (0, 1)), 0.0)
        total = part if total is None else add(total, part)
    return total


@functional
def upsample(
    input: Any, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
    align_corners: bool | None = None,
) -> Any:  # fmt: skip
    """Alias of interpolate."""
    return interpolate(input, size, scale_factor, mode, align_corners)


@functional
def upsample_nearest(input: Any, size: Any = None, scale_factor: Any = None) -> Any:
    """interpolate with mode "nearest"."""
    return interpolate(input, size, scale_factor)


@functional
def upsample_bilinear(input: Any, size: Any = None, scale_factor: Any = None) -> Any:
    """interpolate with mode "bilinear" and align_corners=True."""
    return interpolate(input, size, scale_factor, "bilinear", True)


# Pixels and patches


@functional
def pixel_shuffle(input: Any, upscale_factor: int) -> Any:
    """Channels to places: (..., C * r * r, H, W) -> (..., C, H * r, W * r).

    Source: Shi and others, "Real-time single image and video super-resolution", 2016.
    """
    r = as_index("pixel_shuffle", "upscale_factor", upscale_factor)
    shape = tuple(input.shape)
    if len(shape) < 3 or r < 1 or shape[-3] % (r * r):
        raise ShapeError(
            f"pixel_shuffle: the channels of {shape} do not divide by upscale_factor**2 = {r * r}"
        )
    lead, (c, h, w), n = shape[:-3], shape[-3:], len(shape) - 3
    x = Reshape((*lead, c // (r * r), r, r, h, w))(input)
    x = Permute((*range(n), n, n + 3, n + 1, n + 4, n + 2))(x)
    return Reshape((*lead, c // (r * r), h * r, w * r))(x)


@functional
def pixel_unshuffle(input: Any, downscale_factor: int) -> Any:
    """Places to channels: (..., C, H * r, W * r) -> (..., C * r * r, H, W)."""
    r = as_index("pixel_unshuffle", "downscale_factor", downscale_factor)
    shape = tuple(input.shape)
    if len(shape) < 3 or r < 1 or shape[-1] % r or shape[-2] % r:
        raise ShapeError(
            f"pixel_unshuffle: height and width of {shape} do not divide by downscale_factor={r}"
        )
    lead, (c, h, w), n = shape[:-3], shape[-3:], len(shape) - 3
    x = Reshape((*lead, c, h // r, r, w // r, r))(input)
    x = Permute((*range(n), n, n + 2, n + 4, n + 1, n + 3))(x)
    return Reshape((*lead, c * r * r, h // r, w // r))(x)


@functional
def channel_shuffle(input: Any, groups: int) -> Any:
    """Channels of (N, C, ...) dealt round the groups: (groups, C // groups) read the other way."""
    shape, g = tuple(input.shape), as_index("channel_shuffle", "groups", groups)
    if len(shape) < 3 or g < 1 or shape[1] % g:
        raise ShapeError(f"channel_shuffle: the channels of {shape} do not divide by groups={g}")
    x = Reshape((shape[0], g, shape[1] // g, *shape[2:]))(input)
    return Reshape(shape)(Permute((0, 2, 1, *range(3, len(shape) + 1)))(x))


def _patch_window(name: str, *arguments: Any) -> tuple[tuple[int, ...], ...]:
    names = ("kernel_size", "dilation", "padding", "stride")
    return tuple(
        per_dim(name, n, v, 2, least=0 if n == "padding" else 1) for n, v in zip(names, arguments)
    )


def _taps(kernel: tuple[int, ...]) -> list[tuple[int, int]]:
    return [(i, j) for i in range(kernel[0]) for j in range(kernel[1])]


@functional
def unfold(
    input: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Any:
    """The patches of (N, C, H, W) as columns: (N, C * KH * KW, number of patches)."""
    alone = len(input.shape) == 3
    if len(input.shape) not in (3, 4):
        raise ShapeError(f"unfold: input must have 3 or 4 dimensions, got {tuple(input.shape)}")
    x = Reshape((1, *input.shape))(input) if alone else input
    kernel, spread, around, steps = _patch_window("unfold", kernel_size, dilation, padding, stride)
    counts = window_counts(tuple(x.shape[2:]), kernel, steps, around, spread)
    checked_counts("unfold", counts, input, kernel, around)
    n, c = x.shape[:2]
    if any(around):
        x = Pad((0, 0, *around), (0, 0, *around), (0,) * 4)(x)
    parts = []
    for tap in _taps(kernel):
        cut = tap_slices(tap, counts, steps, spread)
        start, stop = (0, 0, *(s.start for s in cut)), (n, c, *(s.stop for s in cut))
        seen = Slice(start, stop, (1, 1, *steps))(x)
        parts.append(Reshape((n, c, 1, numel(counts)))(seen))
    out = Reshape((n, c * len(parts), numel(counts)))(concat_values(2, parts))
    return Reshape(tuple(out.shape[1:]))(out) if alone else out


@functional
def fold(
    input: Any, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0,
    stride: Any = 1,
) -> Any:  # fmt: skip
    """Patches summed back into images: (N, C * KH * KW, L) -> (N, C, *output_size)."""
    alone = len(input.shape) == 2
    if len(input.shape) not in (2, 3):
        raise ShapeError(f"fold: input must have 2 or 3 dimensions, got {tuple(input.shape)}")
    x = Reshape((1, *input.shape))(input) if alone else input
    size = per_dim("fold", "output_size", output_size, 2)
    kernel, spread, around, steps = _patch_window("fold", kernel_size, dilation, padding, stride)
    counts = window_counts(size, kernel, steps, around, spread)
    taps = _taps(kernel)
    n, rows, length = x.shape
    if rows % len(taps) or length != numel(counts) or min(counts) < 1:
        raise ShapeError(
            f"fold: input {tuple(input.shape)} must have a multiple of {len(taps)} rows and "
            f"{numel(counts)} columns for output_size {size} and kernel_size {kernel}"
        )
    c = rows // len(taps)
    x = Reshape((n, c, len(taps), *counts))(x)
    room = tuple(s + 2 * p for s, p in zip(size, around))
    total: Any = None
    for i, tap in enumerate(taps):
        part = Slice((0, 0, i, 0, 0), (n, c, i + 1, *counts), (1,) * 5)(x)
        part = Reshape((n, c, *counts))(part)
        low = tuple(t * d for t, d in zip(tap, spread))
        reach = extents(counts, (1, 1), steps, (1, 1))
        high = tuple(r - lo - e for r, lo, e in zip(room, low, reach))
        part = Pad((0, 0, *low), (0, 0, *high), (0, 0, *(s - 1 for s in steps)))(part)
        total = part if total is None else add(total, part)
    if any(around):
        stop = tuple(p + s for p, s in zip(around, size))
        total = Slice((0, 0, *around), (n, c, *stop), (1,) * 4)(total)
    return Reshape(tuple(total.shape[1:]))(total) if alone else total


# Sampling by a grid


@functional
def affine_grid(theta: Any, size: Any, align_corners: bool = False) -> Any:
    """Places to sample for an affine map: theta (N, 2, 3), size (N, C, H, W) -> (N, H, W, 2)."""
    n, _, h, w = (as_index("affine_grid", "size", s) for s in size)
    if tuple(theta.shape) != (n, 2, 3):
        raise ShapeError(f"affine_grid: theta must be ({n}, 2, 3), got {tuple(theta.shape)}")

    def line(count: int, axis: int) -> Any:
        place = Iota((h, w), theta.dtype, axis)()
        if align_corners:
            return sub(mul(place, 2.0 / (count - 1)), 1.0) if count > 1 else mul(place, 0.0)
        return sub(mul(add(place, 0.5), 2.0 / count), 1.0)

    x, y = line(w, 1), line(h, 0)
    points = Reshape((1, h * w, 3))(stack([x, y, add(mul(x, 0.0), 1.0)], -1))
    return Reshape((n, h, w, 2))(matmul(points, Permute((0, 2, 1))(theta)))


@functional
def grid_sample(
    input: Any, grid: Any, mode: str = "bilinear", padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Any:  # fmt: skip
    """Read images at the places of a grid: x, y (and z) in [-1, 1] across the image.

    input          (N, C, H, W) with grid (N, OH, OW, 2), or (N, C, D, H, W) with (N, ..., 3)
    mode           "bilinear", "nearest", or "bicubic" (4 dimensions)
    padding_mode   what lies outside: "zeros", "border" or "reflection"
    align_corners  whether -1 and 1 are the centres of the outer pixels or their outer edges
    """
    if mode not in ("bilinear", "nearest", "bicubic"):
        raise ArgumentError(
            f"grid_sample: mode must be 'bilinear', 'nearest' or 'bicubic', got {mode!r}"
        )
    if padding_mode not in ("zeros", "border", "reflection"):
        raise ArgumentError(
            "grid_sample: padding_mode must be 'zeros', 'border' or 'reflection', got "
            f"{padding_mode!r}"
        )
    dims = len(input.shape) - 2
    fits = dims in ((2,) if mode == "bicubic" else (2, 3)) and len(grid.shape) == dims + 2
    if not fits or grid.shape[-1] != dims:
        raise ShapeError(
            f"grid_sample: input {tuple(input.shape)} and grid {tuple(grid.shape)} do not fit "
            f"mode {mode!r}: they must be (N, C, H, W) and (N, OH, OW, 2)"
            + ("" if mode == "bicubic" else ", or have three spatial dimensions")
        )
    if input.shape[0] != grid.shape[0] or input.dtype is not grid.dtype:
        raise ShapeError(
            f"grid_sample: input {input.dtype.name}{tuple(input.shape)} and grid "
            f"{grid.dtype.name}{tuple(grid.shape)} differ in batch size or dtype"
        )
    corners, size = bool(align_corners), tuple(input.shape[2:])
    shape, none = tuple(grid.shape[:-1]), (0,) * (dims + 1)
    places = []  # along D, H, W; the grid has x first
    for axis, count in enumerate(size):
        i = dims - 1 - axis
        one = Slice((*none, i), (*shape, i + 1), (1,) * (dims + 2))(grid)
        places.append(_pixel_place(Reshape(shape)(one), count, corners))
    if mode != "bicubic":
        places = [_moved_inside(p, n, corners, padding_mode) for p, n in zip(places, size)]
    if mode == "nearest":
        return _read_pixels(input, [rounded(p) for p in places])
    firsts = [floor(p) for p in places]
    offsets = [sub(p, f) for p, f in zip(places, firsts)]
    total: Any = None
    for taps in itertools.product(range(-1, 3) if mode == "bicubic" else range(2), repeat=dims):
        weight: Any = 1.0
        for tap, t in zip(taps, offsets):
            if mode == "bicubic":
                w = _cubic(absolute(sub(t, float(tap))), tap in (0, 1))
            else:
                w = t if tap else sub(1.0, t)
            weight = mul(w, weight)
        there = [add(f, float(tap)) for f, tap in zip(firsts, taps)]
        if mode == "bicubic":
            there = [_moved_inside(p, n, corners, padding_mode) for p, n in zip(there, size)]
        part = mul(_read_pixels(input, there), Reshape((shape[0], 1, *shape[1:]))(weight))
        total = part if total is None else add(total, part)
    return total


def _read_pixels(input: Any, places: list[Any]) -> Any:
    """The pixels at whole places, given along each spatial axis; 0 outside."""
    n, c, *size = input.shape
    shape = tuple(places[0].shape[1:])
    flat: Any = None
    inside: Any = None
    for place, count in zip(places, size):
        here = logical_and(ge(place, 0.0), le(place, count - 1.0))
        inside = here if inside is None else logical_and(inside, here)
        line = cast(clamp(place, 0.0, count - 1.0), dt.int64)
        flat = line if flat is None else add(mul(flat, count), line)
    index = broadcast_to(Reshape((n, 1, numel(shape)))(flat), (n, c, numel(shape)))
    found = Gather(2)(Reshape((n, c, numel(size)))(input), index)
    return where(Reshape((n, 1, *shape))(inside), Reshape((n, c, *shape))(found), 0.0)


def _pixel_place(place: Any, count: int, align_corners: bool) -> Any:
    """Pixel coordinates of places in [-1, 1]."""
    if align_corners:
        return mul(add(place, 1.0), (count - 1) / 2)
    return sub(mul(add(place, 1.0), count / 2), 0.5)


def _moved_inside(place: Any, count: int, align_corners: bool, padding_mode: str) -> Any:
    """Pixel coordinates moved into the image by the padding mode."""
    if padding_mode == "reflection":
        low, span = (0.0, count - 1.0) if align_corners else (-0.5, float(count))
        if span == 0:
            place = mul(place, 0.0)
        else:
            turned = remainder(absolute(sub(place, low)), 2 * span)
            place = add(minimum(turned, sub(2 * span, turned)), low)
    return place if padding_mode == "zeros" else clamp(place, 0.0, count - 1.0)
