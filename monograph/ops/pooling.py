"""Pooling: the maximum or the average over windows, fixed or adaptive.

One primitive, MaxPool, gives values and their places; its gradient puts cotangents at those places.
Averages are sums: over a reshaped axis where windows tile the input, else a convolution with ones.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.errors import ArgumentError, DTypeError, ShapeError
from ..core.shape import Shape, as_index, numel
from ..ir.op import Aval, Full, Opaque, op
from .align import broadcast_to, cast, functional
from .arith import add, div, eq, ge, logical_and, lt, maximum, minimum, mul, sub
from .basic import Where
from .batching import batched
from .contract import LETTERS, Contract
from .conv import Conv
from .indexing import IndexSelect, ScatterAdd, ScatterSet
from .movement import Expand, Pad, Reshape, Slice, Sum
from .power import pow as power
from .rounding import floor_divide, remainder
from .triangular import Iota
from .windows import checked_counts, counts_up, extents, padded, per_dim, tap_slices, window_counts


@op
class MaxPool(Opaque):
    """Maximum over windows: (N, C, *S) -> values (N, C, *counts) and their places, int32.

    A place is the row-major position in *S of the first largest element (nan is largest). Windows
    start `padding` before the input and may hang over its end; each has at least one element.
    """

    kernel: Shape
    stride: Shape
    padding: Shape
    dilation: Shape
    counts: Shape
    accepts = dt.ORDERED
    saves = "outputs"
    n_outputs = 2
    has_long_vjp = True
    onnx = "MaxPool"

    def infer(self, x: Any) -> tuple[Aval, Aval]:
        self.check_dtypes(x)
        shape = (*x.shape[:2], *self.counts)
        return Aval(shape, x.dtype), Aval(shape, dt.int32)

    def reference(self, x: Any) -> Any:
        size = x.shape[2:]
        low = dt.iinfo(dt.BY_NUMPY[x.dtype]).min if x.dtype.kind in "iu" else -np.inf
        reach = extents(self.counts, self.kernel, self.stride, self.dilation)
        high = tuple(max(r - p - s, 0) for r, p, s in zip(reach, self.padding, size))
        around: Any = padded(x, self.padding, high, low)
        steps = [np.arange(n) * s - p for n, s, p in zip(self.counts, self.stride, self.padding)]
        # A window without anything above -inf has its first element inside the input.
        first = [a + -(-np.maximum(-a, 0) // d) * d for a, d in zip(steps, self.dilation)]
        best: Any = np.full((*x.shape[:2], *self.counts), low, x.dtype)
        places = np.broadcast_to(_positions(first, size), best.shape).astype(np.int32)
        for tap in itertools.product(*map(range, self.kernel)):
            seen = around[(..., *tap_slices(tap, self.counts, self.stride, self.dilation))]
            better = (seen > best) | (seen != seen)
            there = [a + t * d for a, t, d in zip(steps, tap, self.dilation)]
            np.copyto(best, seen, where=better)
            np.copyto(places, _positions(there, size), where=better, casting="same_kind")
        return best, places

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        size = tuple(x.shape[2:])
        tiles = (
            self.kernel == self.stride
            and not any(self.padding)
            and all(n * k <= s for n, k, s in zip(self.counts, self.kernel, size))
            and (set(self.dilation) == {1} or set(self.kernel) == {1})
        )
        if tiles:
            return (_spread_to_tiles(g[0], out[1], self.kernel, size),)
        return (put_at_places(g[0], out[1], size),)

    def batch(self, dims: tuple, size: int, x: Any) -> tuple[Any, Any]:
        x = batched(x, dims[0], size)
        values, places = self(Reshape((size * x.shape[1], *x.shape[2:]))(x))
        shape = (size, *x.shape[1:3], *self.counts)
        return (Reshape(shape)(values), Reshape(shape)(places)), (0, 0)


def _positions(along: list, size: Shape) -> Any:
    """Row-major positions of the grid of places `along` each axis."""
    flat: Any = np.zeros((), np.int32)
    for line, n in zip(along, size):
        flat = (flat * n)[..., None] + line.astype(np.int32)
    return flat


def _flat(x: Any, ndim: int) -> Any:
    lead = tuple(x.shape[: len(x.shape) - ndim])
    return Reshape((*lead, numel(x.shape[len(lead) :])))(x)


def put_at_places(g: Any, places: Any, size: Shape) -> Any:
    """g summed at its places in zeros of `size`: (N, C, *counts) -> (N, C, *size)."""
    ndim = len(size)
    base = Full((*g.shape[:-ndim], numel(size)), g.dtype, 0)()
    out = ScatterAdd(len(g.shape) - ndim)(base, _flat(places, ndim), _flat(g, ndim))
    return Reshape((*g.shape[:-ndim], *size))(out)


def _spread_to_tiles(g: Any, places: Any, kernel: Shape, size: Shape) -> Any:
    """put_at_places where windows tile the input: every element looks at its own window."""
    lead, counts = tuple(g.shape[:2]), tuple(g.shape[2:])
    windows = tuple(-(-s // k) for s, k in zip(size, kernel))  # with those that hang over the end
    if windows != counts:
        none, more = (0,) * len(g.shape), (0, 0, *(w - n for w, n in zip(windows, counts)))
        g, places = Pad(none, more, none)(g), Pad(none, more, none, -1)(places)
    covered = tuple(n * k for n, k in zip(windows, kernel))
    pairs = tuple(v for n, k in zip(windows, kernel) for v in (n, k))
    axes = tuple(3 + 2 * a for a in range(len(kernel)))

    def tiled(x: Any) -> Any:
        return Reshape((*lead, *covered))(Expand((*lead, *pairs), axes)(x))

    position: Any = 0
    for axis, n in enumerate(size):
        line = Iota(covered, dt.int32, axis)()
        position = line if axis == 0 else add(mul(position, n), line)
    out = Where()(eq(tiled(places), broadcast_to(position, (*lead, *covered))), tiled(g), 0)
    if covered != size:
        out = Slice((0,) * len(out.shape), (*lead, *size), (1,) * len(out.shape))(out)
    return out


# Arguments


def _planes(name: str, input: Any, n: int) -> tuple[Any, bool]:
    """Input as (N, C, *S), and whether it came without a batch."""
    if len(input.shape) not in (n + 1, n + 2):
        raise ShapeError(
            f"{name}: input must have {n + 1} or {n + 2} dimensions, got shape {tuple(input.shape)}"
        )
    alone = len(input.shape) == n + 1
    return (Reshape((1, *input.shape))(input) if alone else input), alone


def _unbatch(x: Any, alone: bool) -> Any:
    return Reshape(tuple(x.shape[1:]))(x) if alone else x


def _window(
    name: str, input: Any, n: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any,
    ceil_mode: bool,
) -> tuple[Shape, Shape, Shape, Shape, Shape]:  # fmt: skip
    kernel = per_dim(name, "kernel_size", kernel_size, n)
    empty = stride is None or (isinstance(stride, (tuple, list)) and not stride)
    steps = kernel if empty else per_dim(name, "stride", stride, n)
    around = per_dim(name, "padding", padding, n, least=0)
    spread = per_dim(name, "dilation", dilation, n)
    if any(2 * p > d * (k - 1) + 1 for p, k, d in zip(around, kernel, spread)):
        raise ArgumentError(
            f"{name}: padding must be at most half of the window, got padding {around} for "
            f"kernel_size {kernel}"
        )
    rule = counts_up if ceil_mode else window_counts
    counts = rule(tuple(input.shape[-n:]), kernel, steps, around, spread)
    checked_counts(name, counts, input, kernel, around)
    return kernel, steps, around, spread, counts


def _max_pool(
    n: int, input: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any,
    ceil_mode: bool, return_indices: bool,
) -> Any:  # fmt: skip
    name = f"max_pool{n}d"
    x, alone = _planes(name, input, n)
    window = _window(name, input, n, kernel_size, stride, padding, dilation, ceil_mode)
    values, places = MaxPool(*window)(x)
    if return_indices:
        return _unbatch(values, alone), cast(_unbatch(places, alone), dt.int64)
    return _unbatch(values, alone)


@functional
def max_pool1d(
    input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> Any:  # fmt: skip
    """Maximum over windows: (N, C, L) -> (N, C, L_out); as max_pool2d."""
    return _max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@functional
def max_pool2d(
    input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> Any:  # fmt: skip
    """Maximum over windows: (N, C, H, W) or (C, H, W) -> (N, C, OH, OW).

    stride          kernel_size unless given
    ceil_mode       also a last window that hangs over the end
    return_indices  also the position of each maximum in its plane, int64 (h * W + w)

    The gradient goes to the first largest element. Same meaning as torch's.

    >>> max_pool2d(ones(1, 1, 4, 4), 2).shape
    (1, 1, 2, 2)
    """
    return _max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@functional
def max_pool3d(
    input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> Any:  # fmt: skip
    """Maximum over windows: (N, C, D, H, W) -> (N, C, OD, OH, OW); as max_pool2d."""
    return _max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def _avg_pool(
    n: int, input: Any, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool,
    count_include_pad: bool, divisor_override: int | None,
) -> Any:  # fmt: skip
    name = f"avg_pool{n}d"
    x, alone = _planes(name, input, n)
    if x.dtype in dt.INTS:  # as PyTorch: quotients are cut to whole numbers
        wide = cast(input, dt.float64)
        out = _avg_pool(
            n, wide, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
        )
        return cast(out, x.dtype)
    if not x.dtype.is_floating_point:
        raise DTypeError(f"{name}: needs numbers, got {x.dtype.name}")
    if divisor_override == 0:
        raise ArgumentError(f"{name}: divisor_override must not be 0")
    kernel, steps, around, _, counts = _window(
        name, input, n, kernel_size, stride, padding, 1, ceil_mode
    )
    size = tuple(x.shape[2:])
    total = window_sums(x, kernel, steps, around, counts)
    if divisor_override is not None:
        return _unbatch(mul(total, 1 / divisor_override), alone)
    # How many elements each window has along each axis (with the padding where that counts).
    spans = []
    for k, s, p, m, c in zip(kernel, steps, around, size, counts):
        starts = [i * s - p for i in range(c)]
        ends = [min(a + k, m + p) for a in starts]
        if not count_include_pad:
            starts, ends = [max(a, 0) for a in starts], [min(e, m) for e in ends]
        spans.append([e - a for a, e in zip(starts, ends)])
    if all(len(set(span)) == 1 for span in spans):
        out = mul(total, 1 / numel(span[0] for span in spans))
    else:
        out = total
        for axis in range(n):
            ends_here = (kernel[axis], steps[axis], around[axis], size[axis])
            span = _spans(counts, axis, *ends_here, count_include_pad)
            out = div(out, cast(span, x.dtype))
    return _unbatch(out, alone)


def _spans(
    counts: Shape, axis: int, kernel: int, stride: int, padding: int, size: int, with_padding: bool
) -> Any:
    """The number of elements along `axis` of each window, as an int64 array of shape `counts`."""
    start = sub(mul(Iota(counts, dt.int64, axis)(), stride), padding)
    end = minimum(add(start, kernel), size + padding)
    if with_padding:
        return sub(end, start)
    return sub(minimum(end, size), maximum(start, 0))


def window_sums(x: Any, kernel: Shape, stride: Shape, padding: Shape, counts: Shape) -> Any:
    """Sums over windows that may hang over the end."""
    n, size = len(kernel), tuple(x.shape[2:])
    reach = extents(counts, kernel, stride, (1,) * n)
    lead = tuple(x.shape[:2])
    if kernel == stride and not any(padding) and all(r <= s for r, s in zip(reach, size)):
        if reach != size:
            x = Slice((0,) * (n + 2), (*lead, *reach), (1,) * (n + 2))(x)
        pairs = tuple(v for c, k in zip(counts, kernel) for v in (c, k))
        return Sum(tuple(3 + 2 * a for a in range(n)))(Reshape((*lead, *pairs))(x))
    x = Reshape((lead[0] * lead[1], 1, *size))(x)
    over = tuple(max(r - s - 2 * p, 0) for r, s, p in zip(reach, size, padding))
    if any(over):
        none = (0,) * (n + 2)
        x = Pad(none, (0, 0, *over), none)(x)
    ones = Full((1, 1, *kernel), x.dtype, 1)()
    sums = Conv(stride, padding, (1,) * n, 1)(x, ones)
    if tuple(sums.shape[2:]) != counts:
        stop = (lead[0] * lead[1], 1, *counts)
        sums = Slice((0,) * (n + 2), stop, (1,) * (n + 2))(sums)
    return Reshape((*lead, *counts))(sums)


@functional
def avg_pool1d(
    input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:  # fmt: skip
    """Average over windows: (N, C, L) -> (N, C, L_out); as avg_pool2d."""
    return _avg_pool(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


@functional
def avg_pool2d(
    input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Any:  # fmt: skip
    """Average over windows: (N, C, H, W) or (C, H, W) -> (N, C, OH, OW).

    count_include_pad  whether zeros of the padding count in the average
    divisor_override   divide each sum by this instead of the number of elements
    """
    return _avg_pool(
        2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


@functional
def avg_pool3d(
    input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Any:  # fmt: skip
    """Average over windows: (N, C, D, H, W) -> (N, C, OD, OH, OW); as avg_pool2d."""
    return _avg_pool(
        3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def _lp_pool(
    n: int, input: Any, norm_type: float, kernel_size: Any, stride: Any, ceil_mode: bool
) -> Any:
    name = f"lp_pool{n}d"
    x, alone = _planes(name, input, n)
    kernel, steps, around, _, counts = _window(name, input, n, kernel_size, stride, 0, 1, ceil_mode)
    total = window_sums(power(x, float(norm_type)), kernel, steps, around, counts)
    return _unbatch(power(total, 1.0 / norm_type), alone)


@functional
def lp_pool1d(
    input: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Any:
    """(sum of x**p over each window) ** (1/p), (N, C, L) -> (N, C, L_out)."""
    return _lp_pool(1, input, norm_type, kernel_size, stride, ceil_mode)


@functional
def lp_pool2d(
    input: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Any:
    """(sum of x**p over each window) ** (1/p), (N, C, H, W) -> (N, C, OH, OW)."""
    return _lp_pool(2, input, norm_type, kernel_size, stride, ceil_mode)


@functional
def lp_pool3d(
    input: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Any:
    """(sum of x**p over each window) ** (1/p), (N, C, D, H, W) -> (N, C, OD, OH, OW)."""
    return _lp_pool(3, input, norm_type, kernel_size, stride, ceil_mode)


def _max_unpool(
    n: int, input: Any, indices: Any, kernel_size: Any, stride: Any, padding: Any, output_size: Any
) -> Any:
    name = f"max_unpool{n}d"
    x, alone = _planes(name, input, n)
    if tuple(indices.shape) != tuple(input.shape):
        raise ShapeError(
            f"{name}: indices {tuple(indices.shape)} and input {tuple(input.shape)} differ in shape"
        )
    kernel = per_dim(name, "kernel_size", kernel_size, n)
    steps = kernel if stride is None else per_dim(name, "stride", stride, n)
    around = per_dim(name, "padding", padding, n, least=0)
    if output_size is None:
        size = tuple(
            (m - 1) * s - 2 * p + k for m, k, s, p in zip(x.shape[2:], kernel, steps, around)
        )
    else:
        size = tuple(output_size)[-n:]
    flat = Reshape((*x.shape[:2], numel(x.shape[2:])))
    zeros = Full((*x.shape[:2], numel(size)), x.dtype, 0)()
    out = ScatterSet(2)(zeros, flat(Reshape(tuple(x.shape))(indices)), flat(x))
    return _unbatch(Reshape((*x.shape[:2], *size))(out), alone)


@functional
def max_unpool1d(
    input: Any, indices: Any, kernel_size: Any, stride: Any = None, padding: Any = 0,
    output_size: Any = None,
) -> Any:  # fmt: skip
    """Put values back at the places that max_pool1d(..., return_indices=True) gave; else 0."""
    return _max_unpool(1, input, indices, kernel_size, stride, padding, output_size)


@functional
def max_unpool2d(
    input: Any, indices: Any, kernel_size: Any, stride: Any = None, padding: Any = 0,
    output_size: Any = None,
) -> Any:  # fmt: skip
    """Put values back at the places that max_pool2d(..., return_indices=True) gave; else 0."""
    return _max_unpool(2, input, indices, kernel_size, stride, padding, output_size)


@functional
def max_unpool3d(
    input: Any, indices: Any, kernel_size: Any, stride: Any = None, padding: Any = 0,
    output_size: Any = None,
) -> Any:  # fmt: skip
    """Put values back at the places that max_pool3d(..., return_indices=True) gave; else 0."""
    return _max_unpool(3, input, indices, kernel_size, stride, padding, output_size)


# Adaptive pooling: of `out` windows along an axis of `size` elements, window i covers those from
# floor(i * size / out) up to but not including ceil((i + 1) * size / out).


def _targets(name: str, input: Any, output_size: Any, n: int) -> Shape:
    if not isinstance(output_size, (tuple, list)):
        output_size = (output_size,) * n
    if len(output_size) != n:
        raise ArgumentError(f"{name}: output_size must be an int or {n} ints, got {output_size}")
    size = tuple(input.shape[-n:])
    made = tuple(
        s if o is None else as_index(name, "output_size", o) for o, s in zip(output_size, size)
    )
    if min(made) < 1 or min(size) < 1:
        raise ShapeError(f"{name}: cannot pool {tuple(input.shape)} to size {made}")
    return made


def _bounds(i: Any, size: int, out: int) -> tuple[Any, Any]:
    """Start and end of window i (an int64 value)."""
    start = floor_divide(mul(i, size), out)
    return start, floor_divide(add(mul(add(i, 1), size), out - 1), out)


def adaptive_avg(n: int, input: Any, output_size: Any) -> Any:
    name = f"adaptive_avg_pool{n}d"
    x, alone = _planes(name, input, n)
    if not x.dtype.is_floating_point:
        raise DTypeError(f"{name}: needs a floating dtype, got {x.dtype.name}")
    targets = _targets(name, input, output_size, n)
    size = tuple(x.shape[2:])
    if all(s % o == 0 for s, o in zip(size, targets)):
        kernel = tuple(s // o for s, o in zip(size, targets))
        total = window_sums(x, kernel, kernel, (0,) * n, targets)
        return _unbatch(mul(total, 1 / numel(kernel)), alone)
    for axis, (s, o) in enumerate(zip(size, targets), 2):
        if s != o:
            x = _average_axis(x, axis, s, o)
    return _unbatch(x, alone)


def _average_axis(x: Any, axis: int, size: int, out: int) -> Any:
    """x with `axis` averaged to `out` windows: a product with a matrix of window weights."""
    start, end = _bounds(Iota((out, size), dt.int64, 0)(), size, out)
    place = Iota((out, size), dt.int64, 1)()
    inside = logical_and(ge(place, start), lt(place, end))
    matrix = div(cast(inside, x.dtype), cast(sub(end, start), x.dtype))
    letters = LETTERS[: len(x.shape)]
    source = letters[:axis] + "k" + letters[axis + 1 :]
    return Contract(f"{source},{letters[axis]}k->{letters}")(x, matrix)


def _adaptive_max(n: int, input: Any, output_size: Any, return_indices: bool) -> Any:
    name = f"adaptive_max_pool{n}d"
    x, alone = _planes(name, input, n)
    targets = _targets(name, input, output_size, n)
    size = tuple(x.shape[2:])
    kernel = tuple(-(-s // o) + (1 if s % o else 0) for s, o in zip(size, targets))
    for axis, (s, o, k) in enumerate(zip(size, targets, kernel)):
        if s % o:  # windows of different lengths: repeat their last elements
            x = IndexSelect(2 + axis)(x, _read_at(Iota((o * k,), dt.int64, 0)(), s, o, k))
    none, one = (0,) * n, (1,) * n
    values, places = MaxPool(kernel, kernel, none, one, targets)(x)
    if not return_indices:
        return _unbatch(values, alone)
    left, found = cast(places, dt.int64), None
    for axis in range(n):
        below = numel(x.shape[3 + axis :])
        line = floor_divide(left, below)
        left = remainder(left, below)
        if size[axis] % targets[axis]:
            line = _read_at(line, size[axis], targets[axis], kernel[axis])
        found = line if found is None else add(mul(found, size[axis]), line)
    return _unbatch(values, alone), _unbatch(found, alone)


def _read_at(place: Any, size: int, out: int, kernel: int) -> Any:
    """The element of the input at `place` of windows laid out one after another, `kernel` long."""
    start, end = _bounds(floor_divide(place, kernel), size, out)
    return minimum(add(start, remainder(place, kernel)), sub(end, 1))


@functional
def adaptive_avg_pool1d(input: Any, output_size: Any) -> Any:
    """Average to a given length: (N, C, L) -> (N, C, output_size)."""
    return adaptive_avg(1, input, output_size)


@functional
def adaptive_avg_pool2d(input: Any, output_size: Any) -> Any:
    """Average to a given size: (N, C, H, W) -> (N, C, *output_size); None keeps a size.

    Window i of o along an axis of n elements covers [floor(i*n/o), ceil((i+1)*n/o)).

    >>> adaptive_avg_pool2d(ones(1, 3, 5, 7), (2, None)).shape
    (1, 3, 2, 7)
    """
    return adaptive_avg(2, input, output_size)


@functional
def adaptive_avg_pool3d(input: Any, output_size: Any) -> Any:
    """Average to a given size: (N, C, D, H, W) -> (N, C, *output_size)."""
    return adaptive_avg(3, input, output_size)


@functional
def adaptive_max_pool1d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """Maximum to a given length: (N, C, L) -> (N, C, output_size)."""
    return _adaptive_max(1, input, output_size, return_indices)


@functional
def adaptive_max_pool2d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """Maximum to a given size: (N, C, H, W) -> (N, C, *output_size); windows as for averages."""
    return _adaptive_max(2, input, output_size, return_indices)


@functional
def adaptive_max_pool3d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """Maximum to a given size: (N, C, D, H, W) -> (N, C, *output_size)."""
    return _adaptive_max(3, input, output_size, return_indices)
