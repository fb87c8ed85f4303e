"""Convolution in one to three spatial dimensions, and its two adjoints.

y = Conv(x, w), x's cotangent = ConvInput(gy, w), w's cotangent = ConvWeight(x, gy). All three are
one sum of products x[n, c, o*stride - padding + k*dilation] * w[m, c, k] * y[n, m, o], read for one
of its factors; so each one's derivatives are the other two. Transposed convolution is ConvInput.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.errors import ArgumentError, ShapeError
from ..core.shape import Shape, numel
from ..ir.op import Aval, Opaque, op
from .align import functional
from .arith import add
from .batching import to_front
from .composite import composite
from .contract import same_dtype
from .movement import Pad, Permute, Reshape
from .windows import (
    checked_counts,
    extents,
    padded,
    per_dim,
    tap_slices,
    window_counts,
)

_COLUMN_BYTES = 1 << 23  # columns made at a time by the references: about the last-level cache


class _Convolution(Opaque):
    """What the three have in common. x is (N, C, *S), w (O, C // groups, *K), y (N, O, *P)."""

    accepts = dt.NUMERIC
    saves = "inputs"
    reads = ((1,), (0,))
    stride: Shape
    padding: Shape
    dilation: Shape
    groups: int

    def counts(self, sizes: Shape, kernel: Shape) -> Shape:
        return window_counts(sizes, kernel, self.stride, self.padding, self.dilation)

    def columns(self, x: Any, kernel: Shape, counts: Shape) -> Any:
        """(N, groups, C // groups * K, P): what each window sees."""
        n, c = x.shape[:2]
        taps, places = numel(kernel), numel(counts)
        if taps == 1 and x.shape[2:] == counts and set(self.stride) == {1}:
            return x.reshape(n, self.groups, c // self.groups, places)
        reach = extents(counts, kernel, self.stride, self.dilation)
        high = tuple(max(r - p - s, 0) for r, p, s in zip(reach, self.padding, x.shape[2:]))
        x = padded(x, self.padding, high)
        made = np.empty((n, c, taps, *counts), x.dtype)
        for i, tap in enumerate(itertools.product(*map(range, kernel))):
            made[:, :, i] = x[(..., *tap_slices(tap, counts, self.stride, self.dilation))]
        return made.reshape(n, self.groups, c // self.groups * taps, places)

    def pieces(self, n: int, bytes_each: int) -> list[slice]:
        """Ranges of images whose columns are made at a time."""
        step = max(1, _COLUMN_BYTES // max(bytes_each, 1))
        return [slice(i, min(i + step, n)) for i in range(0, n, step)]

    def in_groups(self, y: Any) -> Any:
        """(N, O, *P) as (N, groups, O // groups, P)."""
        return y.reshape(y.shape[0], self.groups, y.shape[1] // self.groups, numel(y.shape[2:]))

    def with_groups(self, factor: int) -> Any:
        return dataclasses.replace(self, groups=self.groups * factor)  # type: ignore[type-var]

    def window(self) -> tuple[Shape, Shape, Shape, int]:
        return self.stride, self.padding, self.dilation, self.groups


def _wide(method: Callable) -> Callable:
    """Compute 16-bit floats in float32."""

    def reference(self: Any, x: Any, y: Any) -> Any:
        if x.dtype.itemsize == 2 and x.dtype.kind not in "iu":
            return method(self, x.astype(np.float32), y.astype(np.float32)).astype(x.dtype)
        return method(self, x, y)

    return reference


@op
class Conv(_Convolution):
    """Cross-correlation: (N, C, *S), (O, C // groups, *K) -> (N, O, *P)."""

    stride: Shape
    padding: Shape
    dilation: Shape
    groups: int
    onnx = "Conv"

    def infer(self, x: Any, w: Any) -> Aval:
        self.check_dtypes(x, w)
        counts = self.counts(tuple(x.shape[2:]), tuple(w.shape[2:]))
        return Aval((x.shape[0], w.shape[0], *counts), x.dtype)

    @_wide
    def reference(self, x: Any, w: Any) -> Any:
        kernel, n, outputs = w.shape[2:], x.shape[0], w.shape[0]
        counts = self.counts(x.shape[2:], kernel)
        out = np.empty((n, outputs, *counts), x.dtype)
        view = self.in_groups(out)
        weights = w.reshape(self.groups, outputs // self.groups, -1)
        for part in self.pieces(n, x.shape[1] * numel(kernel) * numel(counts) * x.itemsize):
            np.matmul(weights, self.columns(x[part], kernel, counts), out=view[part])
        return out

    def vjp(self, g: Any, out: Any, x: Any, w: Any) -> tuple[Any, ...]:
        return (
            lambda: ConvInput(*self.window(), tuple(x.shape[2:]))(g, w),
            lambda: ConvWeight(*self.window(), tuple(w.shape[2:]))(x, g),
        )

    def batch(self, dims: tuple, size: int, x: Any, w: Any) -> tuple[Any, Any]:
        if dims[1] is None:
            return _unfold_images(self(_fold_images(x, dims[0]), w), size), 0
        if dims[0] is None:
            out = self(x, _into_channels(w, dims[1], 0, self.groups))
            return _out_of_channels(out, 1, self.groups, size), 0
        x, w = _into_channels(x, dims[0], 1, 1), _into_channels(w, dims[1], 0, 1)
        return _out_of_channels(self.with_groups(size)(x, w), 1, 1, size), 0


@op
class ConvInput(_Convolution):
    """Adjoint of Conv for x: (N, O, *P), (O, C // groups, *K) -> (N, C, *size)."""

    stride: Shape
    padding: Shape
    dilation: Shape
    groups: int
    size: Shape
    onnx = "ConvTranspose"

    def infer(self, y: Any, w: Any) -> Aval:
        self.check_dtypes(y, w)
        return Aval((y.shape[0], w.shape[1] * self.groups, *self.size), y.dtype)

    @_wide
    def reference(self, y: Any, w: Any) -> Any:
        kernel, counts = w.shape[2:], y.shape[2:]
        n, channels = y.shape[0], w.shape[1] * self.groups
        reach = extents(counts, kernel, self.stride, self.dilation) if numel(counts) else self.size
        room = tuple(max(r, p + s) for r, p, s in zip(reach, self.padding, self.size))
        out = np.empty((n, channels, *self.size), y.dtype)
        inside: Any = (..., *(slice(p, p + s) for p, s in zip(self.padding, self.size)))
        weights = w.reshape(self.groups, w.shape[0] // self.groups, -1).swapaxes(1, 2)
        for part in self.pieces(n, channels * numel(kernel) * numel(counts) * y.itemsize):
            columns: Any = np.matmul(weights, self.in_groups(y[part]))
            columns = columns.reshape(-1, channels, numel(kernel), *counts)
            total: Any = np.zeros((columns.shape[0], channels, *room), y.dtype)
            if numel(counts):
                for i, tap in enumerate(itertools.product(*map(range, kernel))):
                    seen = tap_slices(tap, counts, self.stride, self.dilation)
                    total[(..., *seen)] += columns[:, :, i]
            out[part] = total[inside]
        return out

    def vjp(self, g: Any, out: Any, y: Any, w: Any) -> tuple[Any, ...]:
        return (
            lambda: Conv(*self.window())(g, w),
            lambda: ConvWeight(*self.window(), tuple(w.shape[2:]))(g, y),
        )

    def batch(self, dims: tuple, size: int, y: Any, w: Any) -> tuple[Any, Any]:
        if dims[1] is None:
            return _unfold_images(self(_fold_images(y, dims[0]), w), size), 0
        if dims[0] is None:
            out = self(y, _into_channels(w, dims[1], 1, 1))
            return _out_of_channels(out, 1, self.groups, size), 0
        y, w = _into_channels(y, dims[0], 1, 1), _into_channels(w, dims[1], 0, 1)
        return _out_of_channels(self.with_groups(size)(y, w), 1, 1, size), 0


@op
class ConvWeight(_Convolution):
    """Adjoint of Conv for w: (N, C, *S), (N, O, *P) -> (O, C // groups, *kernel)."""

    stride: Shape
    padding: Shape
    dilation: Shape
    groups: int
    kernel: Shape

    def infer(self, x: Any, y: Any) -> Aval:
        self.check_dtypes(x, y)
        return Aval((y.shape[1], x.shape[1] // self.groups, *self.kernel), x.dtype)

    @_wide
    def reference(self, x: Any, y: Any) -> Any:
        counts, n = y.shape[2:], x.shape[0]
        rows, per_group = y.shape[1] // self.groups, x.shape[1] // self.groups
        total = np.zeros((self.groups, rows, per_group * numel(self.kernel)), x.dtype)
        for part in self.pieces(n, x.shape[1] * numel(self.kernel) * numel(counts) * x.itemsize):
            columns = self.columns(x[part], self.kernel, counts)
            total += np.matmul(self.in_groups(y[part]), columns.swapaxes(2, 3)).sum(0)
        return total.reshape(y.shape[1], per_group, *self.kernel)

    def vjp(self, g: Any, out: Any, x: Any, y: Any) -> tuple[Any, ...]:
        return (
            lambda: ConvInput(*self.window(), tuple(x.shape[2:]))(y, g),
            lambda: Conv(*self.window())(x, g),
        )

    def batch(self, dims: tuple, size: int, x: Any, y: Any) -> tuple[Any, Any]:
        if dims[1] is None:
            out = self(_into_channels(x, dims[0], 1, self.groups), y)
            return _out_of_channels(out, 1, 1, size), 0
        if dims[0] is None:
            out = self(x, _into_channels(y, dims[1], 1, self.groups))
            return _out_of_channels(out, 0, self.groups, size), 0
        x, y = _into_channels(x, dims[0], 1, 1), _into_channels(y, dims[1], 1, 1)
        return _out_of_channels(self.with_groups(size)(x, y), 0, 1, size), 0


def _fold_images(x: Any, dim: int) -> Any:
    """Batch axis `dim` merged into the images."""
    x = to_front(x, dim)
    return Reshape((x.shape[0] * x.shape[1], *x.shape[2:]))(x)


def _unfold_images(x: Any, size: int) -> Any:
    return Reshape((size, x.shape[0] // size, *x.shape[1:]))(x)


def _into_channels(x: Any, dim: int, axis: int, groups: int) -> Any:
    """Batch axis `dim` merged into channel axis `axis`, inside each of `groups` groups."""
    x = to_front(x, dim)
    size, shape = x.shape[0], tuple(x.shape[1:])
    before, channels, after = shape[:axis], shape[axis], shape[axis + 1 :]
    x = Reshape((size, *before, groups, channels // groups, *after))(x)
    order = (*range(1, axis + 2), 0, *range(axis + 2, len(x.shape)))
    return Reshape((*before, channels * size, *after))(Permute(order)(x))


def _out_of_channels(x: Any, axis: int, groups: int, size: int) -> Any:
    """The inverse of _into_channels, with the batch axis in front."""
    shape = tuple(x.shape)
    before, channels, after = shape[:axis], shape[axis] // size, shape[axis + 1 :]
    x = Reshape((*before, groups, size, channels // groups, *after))(x)
    order = (axis + 1, *(a for a in range(len(x.shape)) if a != axis + 1))
    return Reshape((size, *before, channels, *after))(Permute(order)(x))


# Public functions


def _images(name: str, x: Any, n: int) -> tuple[Any, bool]:
    """x with a batch dimension, and whether it came without one."""
    if len(x.shape) == n + 1:
        return Reshape((1, *x.shape))(x), True
    if len(x.shape) != n + 2:
        raise ShapeError(
            f"{name}: input must have {n + 2} dimensions (or {n + 1} without a batch), got shape "
            f"{tuple(x.shape)}"
        )
    return x, False


def _check_weight(name: str, weight: Any, bias: Any, outputs: int, n: int, groups: Any) -> None:
    if len(weight.shape) != n + 2:
        raise ShapeError(
            f"{name}: weight must have {n + 2} dimensions, got shape {tuple(weight.shape)}"
        )
    if not isinstance(groups, int) or groups < 1:
        raise ArgumentError(f"{name}: groups must be a positive int, got {groups!r}")
    if bias is not None and tuple(bias.shape) != (outputs,):
        raise ShapeError(
            f"{name}: bias must have shape ({outputs},) for weight {tuple(weight.shape)}, got "
            f"{tuple(bias.shape)}"
        )


def _finish(out: Any, bias: Any, n: int, alone: bool) -> Any:
    if bias is not None:
        out = add(out, Reshape((1, bias.shape[0], *(1,) * n))(bias))
    return Reshape(tuple(out.shape[1:]))(out) if alone else out


def _conv(
    n: int, input: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any,
    groups: Any,
) -> Any:  # fmt: skip
    name = f"conv{n}d"
    same_dtype(name, input=input, weight=weight, bias=bias)
    x, alone = _images(name, input, n)
    _check_weight(name, weight, bias, weight.shape[0], n, groups)
    channels, kernel = x.shape[1], tuple(weight.shape[2:])
    if weight.shape[0] % groups:
        raise ShapeError(
            f"{name}: weight {tuple(weight.shape)} makes {weight.shape[0]} channels, which do not "
            f"divide into groups={groups}"
        )
    if channels != weight.shape[1] * groups:
        raise ShapeError(
            f"{name}: input {tuple(input.shape)} has {channels} channels, but weight "
            f"{tuple(weight.shape)} with groups={groups} takes {weight.shape[1] * groups}"
        )
    steps, spread = per_dim(name, "stride", stride, n), per_dim(name, "dilation", dilation, n)
    if padding == "same":
        if set(steps) != {1}:
            raise ArgumentError(f"{name}: padding='same' needs stride 1, got {stride}")
        total = tuple(d * (k - 1) for k, d in zip(kernel, spread))
        around = tuple(t // 2 for t in total)
        extra = tuple(t % 2 for t in total)
        if any(extra):  # an even filter looks one element further to the right
            x = Pad((0,) * (n + 2), (0, 0, *extra), (0,) * (n + 2))(x)
    elif padding == "valid":
        around = (0,) * n
    elif isinstance(padding, str):
        raise ArgumentError(f"{name}: padding must be 'same', 'valid' or numbers, got {padding!r}")
    else:
        around = per_dim(name, "padding", padding, n, least=0)
    primitive = Conv(steps, around, spread, groups)
    checked_counts(name, primitive.counts(tuple(x.shape[2:]), kernel), input, kernel, around)
    return _finish(primitive(x, weight), bias, n, alone)


def _conv_transpose(
    n: int, input: Any, weight: Any, bias: Any, stride: Any, padding: Any, output_padding: Any,
    groups: Any, dilation: Any,
) -> Any:  # fmt: skip
    name = f"conv_transpose{n}d"
    same_dtype(name, input=input, weight=weight, bias=bias)
    x, alone = _images(name, input, n)
    if len(weight.shape) == n + 2 and isinstance(groups, int):
        _check_weight(name, weight, bias, weight.shape[1] * groups, n, groups)
    else:
        _check_weight(name, weight, None, 0, n, groups)
    if x.shape[1] != weight.shape[0] or weight.shape[0] % groups:
        raise ShapeError(
            f"{name}: input {tuple(input.shape)} has {x.shape[1]} channels, weight "
            f"{tuple(weight.shape)} takes {weight.shape[0]} (its first axis) in groups={groups}"
        )
    steps, spread = per_dim(name, "stride", stride, n), per_dim(name, "dilation", dilation, n)
    around = per_dim(name, "padding", padding, n, least=0)
    more = per_dim(name, "output_padding", output_padding, n, least=0)
    if any(m >= max(s, d) for m, s, d in zip(more, steps, spread)):
        raise ArgumentError(
            f"{name}: output_padding must be smaller than stride or dilation, got {more} with "
            f"stride {steps} and dilation {spread}"
        )
    kernel = tuple(weight.shape[2:])
    reach = extents(tuple(x.shape[2:]), kernel, steps, spread)
    size = tuple(r - 2 * p + m for r, p, m in zip(reach, around, more))
    if min(size) < 1 or min(x.shape[2:]) < 1:
        raise ShapeError(
            f"{name}: the result would have size {size}: input {tuple(input.shape)}, padding "
            f"{around}"
        )
    # More windows may fit into the result than there are input elements: those are zeros.
    fitting = window_counts(size, kernel, steps, around, spread)
    missing = tuple(f - s for f, s in zip(fitting, x.shape[2:]))
    if any(missing):
        x = Pad((0,) * (n + 2), (0, 0, *missing), (0,) * (n + 2))(x)
    out = ConvInput(steps, around, spread, groups, size)(x, weight)
    return _finish(out, bias, n, alone)


@functional
@composite
def conv1d(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> Any:  # fmt: skip
    """Cross-correlate sequences with filters: (N, C, L), (O, C // groups, K) -> (N, O, L_out).

    As conv2d, with one spatial dimension.
    """
    return _conv(1, input, weight, bias, stride, padding, dilation, groups)


@functional
@composite
def conv2d(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> Any:  # fmt: skip
    """Cross-correlate images with filters (what deep learning calls convolution).

    input    (N, C, H, W) or (C, H, W)
    weight   (O, C // groups, KH, KW)
    bias     (O,) or None
    padding  numbers, 'valid' (none) or 'same' (as many outputs as inputs; stride 1)
    returns  (N, O, OH, OW) with OH = (H + 2*padding - dilation*(KH-1) - 1) // stride + 1

    ShapeError if C is not weight.shape[1] * groups or a filter is larger than the padded image.
    Same meaning as torch.nn.functional.conv2d. Time: N*O*OH*OW*(C//groups)*KH*KW multiply-adds.

    >>> conv2d(ones(1, 1, 3, 3), ones(1, 1, 2, 2)).shape
    (1, 1, 2, 2)
    """
    return _conv(2, input, weight, bias, stride, padding, dilation, groups)


@functional
@composite
def conv3d(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> Any:  # fmt: skip
    """Cross-correlate volumes: (N, C, D, H, W), (O, C // groups, KD, KH, KW) -> (N, O, ...).

    As conv2d, with three spatial dimensions.
    """
    return _conv(3, input, weight, bias, stride, padding, dilation, groups)


@functional
def conv_transpose1d(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Any:  # fmt: skip
    """Transposed convolution of sequences; as conv_transpose2d with one spatial dimension."""
    return _conv_transpose(
        1, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


@functional
def conv_transpose2d(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Any:  # fmt: skip
    """Transposed convolution: the gradient of conv2d for its input, as a function.

    input   (N, C, H, W) or (C, H, W)
    weight  (C, O // groups, KH, KW)
    returns (N, O, OH, OW) with
            OH = (H-1)*stride - 2*padding + dilation*(KH-1) + output_padding + 1

    >>> conv_transpose2d(ones(1, 1, 2, 2), ones(1, 1, 2, 2), stride=2).shape
    (1, 1, 4, 4)
    """
    return _conv_transpose(
        2, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


@functional
def conv_transpose3d(
    input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Any:  # fmt: skip
    """Transposed convolution of volumes; as conv_transpose2d with three spatial dimensions."""
    return _conv_transpose(
        3, input, weight, bias, stride, padding, output_padding, groups, dilation
    )
