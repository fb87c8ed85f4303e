"""Convolution layers: Conv1d, Conv2d, Conv3d and their transposes."""

import math

import monograph as mg
from monograph.core.errors import ArgumentError, ShapeError
from monograph.nn import functional as F
from monograph.nn import init
from monograph.nn.module import Module
from monograph.nn.parameter import Parameter

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


def per_axis(value, n, owner, name):
    """`value` as a tuple of n integers: one number is meant for each of the n spatial axes."""
    if isinstance(value, (tuple, list)):
        if len(value) != n:
            raise ArgumentError(f"{owner}: {name} must be one number or {n}, got {value!r}")
        return tuple(value)
    return (value,) * n


class _Conv(Module):
    """What all convolutions share; subclasses set `n` (spatial axes) and `transposed`."""

    n = 0
    transposed = False

    def _setup(
        self, in_channels, out_channels, kernel_size, stride, padding, dilation, output_padding,
        groups, bias, padding_mode, device, dtype,
    ):  # fmt: skip
        Module.__init__(self)
        owner = type(self).__name__
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if groups <= 0 or channels % groups:
                raise ArgumentError(
                    f"{owner}: {name}={channels} does not divide into groups={groups}"
                )
        if padding_mode not in _PADDING_MODES:
            raise ArgumentError(
                f"{owner}: padding_mode must be one of {', '.join(_PADDING_MODES)}, "
                f"got {padding_mode!r}"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = per_axis(kernel_size, self.n, owner, "kernel_size")
        self.stride = per_axis(stride, self.n, owner, "stride")
        self.dilation = per_axis(dilation, self.n, owner, "dilation")
        self.output_padding = per_axis(output_padding, self.n, owner, "output_padding")
        self.groups = groups
        self.padding_mode = padding_mode
        if isinstance(padding, str):
            if self.transposed or padding not in ("valid", "same"):
                raise ArgumentError(
                    f"{owner}: padding must be numbers"
                    + ("" if self.transposed else ", 'valid' or 'same'")
                    + f", got {padding!r}"
                )
            if padding == "same" and any(s != 1 for s in self.stride):
                raise ArgumentError(f"{owner}: padding='same' needs stride 1, got {self.stride}")
            self.padding = padding
        else:
            self.padding = per_axis(padding, self.n, owner, "padding")
        sides = (
            (out_channels // groups, in_channels)
            if self.transposed
            else (in_channels // groups, out_channels)
        )
        self.weight = Parameter(
            mg.empty(sides[1], sides[0], *self.kernel_size, device=device, dtype=dtype)
        )
        if bias:
            self.bias = Parameter(mg.empty(out_channels, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self):
        """Draw weight and bias anew, uniform on [-1/sqrt(fan_in), 1/sqrt(fan_in)]."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in = self.weight.shape[1] * math.prod(self.kernel_size)
            bound = 1 / math.sqrt(fan_in) if fan_in else 0
            init.uniform_(self.bias, -bound, bound)

    def _both_sides(self):
        """Padding as F.pad wants it: last axis first, before and after."""
        pairs = []
        for axis in reversed(range(self.n)):
            if self.padding == "valid":
                pairs += [0, 0]
            elif self.padding == "same":
                total = self.dilation[axis] * (self.kernel_size[axis] - 1)
                pairs += [total // 2, total - total // 2]
            else:
                pairs += [self.padding[axis]] * 2
        return tuple(pairs)

    def extra_repr(self):
        parts = [f"{self.in_channels}, {self.out_channels}"]
        parts += [f"kernel_size={self.kernel_size}, stride={self.stride}"]
        defaults = {
            "padding": (0,) * self.n,
            "dilation": (1,) * self.n,
            "output_padding": (0,) * self.n,
            "groups": 1,
        }
        for name, default in defaults.items():
            value = getattr(self, name)
            if value != default:
                parts.append(f"{name}={value}")
        if self.bias is None:
            parts.append("bias=False")
        if self.padding_mode != "zeros":
            parts.append(f"padding_mode={self.padding_mode}")
        return ", ".join(parts)


class _ConvForward(_Conv):
    def __init__(
        self, in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1,
        bias=True, padding_mode="zeros", device=None, dtype=None,
    ):  # fmt: skip
        self._setup(
            in_channels, out_channels, kernel_size, stride, padding, dilation, 0, groups, bias,
            padding_mode, device, dtype,
        )  # fmt: skip

    def _convolve(self, conv, input):
        if self.padding_mode == "zeros":
            return conv(
                input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
            )
        input = F.pad(input, self._both_sides(), mode=self.padding_mode)
        return conv(input, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class Conv1d(_ConvForward):
    """Cross-correlate sequences with filters.

    input   (N, C, L) or (C, L)
    weight  (O, C // groups, K)
    returns (N, O, L_out) with L_out = (L + 2*padding - dilation*(K-1) - 1) // stride + 1
    """

    n = 1

    def forward(self, input):
        return self._convolve(F.conv1d, input)


class Conv2d(_ConvForward):
    """Cross-correlate images with filters.

    input   (N, C, H, W) or (C, H, W)
    weight  (O, C // groups, KH, KW)
    returns (N, O, OH, OW) with OH = (H + 2*padding - dilation*(KH-1) - 1) // stride + 1
    """

    n = 2

    def forward(self, input):
        return self._convolve(F.conv2d, input)


class Conv3d(_ConvForward):
    """Cross-correlate volumes with filters.

    input (N, C, D, H, W), weight (O, C // groups, KD, KH, KW)
    """

    n = 3

    def forward(self, input):
        return self._convolve(F.conv3d, input)


class _ConvTranspose(_Conv):
    transposed = True

    def __init__(
        self, in_channels, out_channels, kernel_size, stride=1, padding=0, output_padding=0,
        groups=1, bias=True, dilation=1, padding_mode="zeros", device=None, dtype=None,
    ):  # fmt: skip
        if padding_mode != "zeros":
            raise ArgumentError(
                f"{type(self).__name__}: padding_mode must be 'zeros', got {padding_mode!r}"
            )
        self._setup(
            in_channels, out_channels, kernel_size, stride, padding, dilation, output_padding,
            groups, bias, padding_mode, device, dtype,
        )  # fmt: skip

    def _convolve(self, conv, input, output_size):
        return conv(
            input, self.weight, self.bias, self.stride, self.padding,
            self._output_padding(input, output_size), self.groups, self.dilation,
        )  # fmt: skip

    def _output_padding(self, input, output_size):
        """The output padding that gives `output_size` (spatial axes, or the full shape)."""
        if output_size is None:
            return self.output_padding
        wanted = tuple(output_size)
        if len(wanted) == input.ndim:
            wanted = wanted[input.ndim - self.n :]
        owner = type(self).__name__
        if len(wanted) != self.n:
            raise ShapeError(
                f"{owner}: output_size must have {self.n} or {input.ndim} numbers, "
                f"got {output_size}"
            )
        smallest = tuple(
            (size - 1) * s - 2 * p + d * (k - 1) + 1
            for size, s, p, d, k in zip(
                input.shape[-self.n :], self.stride, self.padding, self.dilation, self.kernel_size
            )
        )
        largest = tuple(low + s - 1 for low, s in zip(smallest, self.stride))
        if not all(low <= w <= high for low, w, high in zip(smallest, wanted, largest)):
            raise ShapeError(
                f"{owner}: output_size {wanted} is not possible for input "
                f"{tuple(input.shape)}; it must be from {smallest} to {largest}"
            )
        return tuple(w - low for w, low in zip(wanted, smallest))


class ConvTranspose1d(_ConvTranspose):
    """The gradient of Conv1d with respect to its input, as a layer.

    input   (N, C, L), weight (C, O // groups, K)
    returns (N, O, L_out) with
            L_out = (L - 1)*stride - 2*padding + dilation*(K-1) + output_padding + 1
    """

    n = 1

    def forward(self, input, output_size=None):
        return self._convolve(F.conv_transpose1d, input, output_size)


class ConvTranspose2d(_ConvTranspose):
    """The gradient of Conv2d with respect to its input: weight (C, O // groups, KH, KW)."""

    n = 2

    def forward(self, input, output_size=None):
        return self._convolve(F.conv_transpose2d, input, output_size)


class ConvTranspose3d(_ConvTranspose):
    """The gradient of Conv3d with respect to its input: weight (C, O // groups, KD, KH, KW)."""

    n = 3

    def forward(self, input, output_size=None):
        return self._convolve(F.conv_transpose3d, input, output_size)
