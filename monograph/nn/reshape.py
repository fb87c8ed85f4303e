"""Layers that move elements: Flatten, Unflatten, Upsample, PixelShuffle, Fold, Unfold, padding."""

from monograph.nn import functional as F
from monograph.nn.conv import per_axis
from monograph.nn.module import Module


class Flatten(Module):
    """Join the axes start_dim..end_dim into one: (N, C, H, W) -> (N, C*H*W) by default."""

    def __init__(self, start_dim=1, end_dim=-1):
        super().__init__()
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, input):
        return input.flatten(self.start_dim, self.end_dim)

    def extra_repr(self):
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Split the axis `dim` into axes of the sizes `unflattened_size`."""

    def __init__(self, dim, unflattened_size):
        super().__init__()
        self.dim = dim
        self.unflattened_size = unflattened_size

    def forward(self, input):
        return input.unflatten(self.dim, self.unflattened_size)

    def extra_repr(self):
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


class Upsample(Module):
    """Resize images (or sequences, volumes) to `size` or by `scale_factor`."""

    def __init__(
        self,
        size=None,
        scale_factor=None,
        mode="nearest",
        align_corners=None,
        recompute_scale_factor=None,
    ):
        super().__init__()
        self.size = size
        if isinstance(scale_factor, tuple):
            self.scale_factor = tuple(float(factor) for factor in scale_factor)
        else:
            self.scale_factor = float(scale_factor) if scale_factor else None
        self.mode = mode
        self.align_corners = align_corners
        self.recompute_scale_factor = recompute_scale_factor

    def forward(self, input):
        return F.interpolate(
            input,
            self.size,
            self.scale_factor,
            self.mode,
            self.align_corners,
            recompute_scale_factor=self.recompute_scale_factor,
        )

    def extra_repr(self):
        if self.scale_factor is not None:
            return f"scale_factor={self.scale_factor!r}, mode={self.mode!r}"
        return f"size={self.size!r}, mode={self.mode!r}"


class UpsamplingNearest2d(Upsample):
    """Resize images by repeating pixels."""

    def __init__(self, size=None, scale_factor=None):
        super().__init__(size, scale_factor, mode="nearest")


class UpsamplingBilinear2d(Upsample):
    """Resize images by linear interpolation, corner pixels kept in place."""

    def __init__(self, size=None, scale_factor=None):
        super().__init__(size, scale_factor, mode="bilinear", align_corners=True)


class ChannelShuffle(Module):
    """Deal the channels of `groups` groups out in turn: (N, C, ...) -> (N, C, ...)."""

    def __init__(self, groups):
        super().__init__()
        self.groups = groups

    def forward(self, input):
        return F.channel_shuffle(input, self.groups)

    def extra_repr(self):
        return f"groups={self.groups}"


class Unfold(Module):
    """All windows of an image as columns: (N, C, H, W) -> (N, C * KH * KW, windows)."""

    def __init__(self, kernel_size, dilation=1, padding=0, stride=1):
        super().__init__()
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.padding = padding
        self.stride = stride

    def forward(self, input):
        return F.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self):
        return (
            f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, "
            f"stride={self.stride}"
        )


class Fold(Module):
    """Columns added up into an image, adjoint of Unfold: (N, C * KH * KW, L) -> (N, C, H, W)."""

    def __init__(self, output_size, kernel_size, dilation=1, padding=0, stride=1):
        super().__init__()
        self.output_size = output_size
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.padding = padding
        self.stride = stride

    def forward(self, input):
        return F.fold(
            input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride
        )

    def extra_repr(self):
        return (
            f"output_size={self.output_size}, kernel_size={self.kernel_size}, "
            f"dilation={self.dilation}, padding={self.padding}, stride={self.stride}"
        )


class PixelShuffle(Module):
    """(N, C*r*r, H, W) -> (N, C, H*r, W*r), r = upscale_factor."""

    def __init__(self, upscale_factor):
        super().__init__()
        self.upscale_factor = upscale_factor

    def forward(self, input):
        return F.pixel_shuffle(input, self.upscale_factor)

    def extra_repr(self):
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """(N, C, H*r, W*r) -> (N, C*r*r, H, W), r = downscale_factor."""

    def __init__(self, downscale_factor):
        super().__init__()
        self.downscale_factor = downscale_factor

    def forward(self, input):
        return F.pixel_unshuffle(input, self.downscale_factor)

    def extra_repr(self):
        return f"downscale_factor={self.downscale_factor}"


class _Pad(Module):
    """Pad the last n axes; `padding` is one number or 2*n, last axis first, before and after."""

    n = 0
    mode = "constant"

    def __init__(self, padding):
        super().__init__()
        self.padding = per_axis(padding, 2 * self.n, type(self).__name__, "padding")

    def forward(self, input):
        return F.pad(input, self.padding, self.mode)

    def extra_repr(self):
        return f"{self.padding}"


class _ConstantPad(_Pad):
    def __init__(self, padding, value):
        super().__init__(padding)
        self.value = value

    def forward(self, input):
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self):
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPad):
    """Pad the last axis with a value."""

    n = 1


class ConstantPad2d(_ConstantPad):
    """Pad the last two axes with a value."""

    n = 2


class ConstantPad3d(_ConstantPad):
    """Pad the last three axes with a value."""

    n = 3


class ZeroPad1d(_Pad):
    """Pad the last axis with zeros."""

    n = 1


class ZeroPad2d(_Pad):
    """Pad the last two axes with zeros."""

    n = 2


class ZeroPad3d(_Pad):
    """Pad the last three axes with zeros."""

    n = 3


class ReflectionPad1d(_Pad):
    """Pad the last axis by its mirror image without the edge."""

    n = 1
    mode = "reflect"


class ReflectionPad2d(_Pad):
    """Pad the last two axes by their mirror image without the edge."""

    n = 2
    mode = "reflect"


class ReplicationPad1d(_Pad):
    """Pad the last axis with its edge values."""

    n = 1
    mode = "replicate"


class ReplicationPad2d(_Pad):
    """Pad the last two axes with their edge values."""

    n = 2
    mode = "replicate"


class CircularPad1d(_Pad):
    """Pad the last axis with the values of the other end."""

    n = 1
    mode = "circular"


class CircularPad2d(_Pad):
    """Pad the last two axes with the values of the other end."""

    n = 2
    mode = "circular"


class CircularPad3d(_Pad):
    """Pad the last three axes with the values of the other end."""

    n = 3
    mode = "circular"


class ReflectionPad3d(_Pad):
    """Pad the last three axes by their mirror image without the edge."""

    n = 3
    mode = "reflect"


class ReplicationPad3d(_Pad):
    """Pad the last three axes with their edge values."""

    n = 3
    mode = "replicate"
