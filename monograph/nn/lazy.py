"""Lazy layers: those whose number of inputs is taken from the first input that they see.

    layer = nn.LazyLinear(10)      # weight and bias have no shape yet
    layer(mg.ones(2, 5))           # now it is a Linear(5, 10)

Parameters keep their identity when they get their shape, so that an optimizer may hold them before.
A state dict gives them their shape as well. Same meaning as torch.nn's lazy modules.
"""

from monograph.core.errors import ArgumentError, ShapeError
from monograph.core.tracing import concrete
from monograph.nn.conv import (
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
)
from monograph.nn.linear import Linear
from monograph.nn.norm import (
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
)
from monograph.nn.parameter import UninitializedBuffer, UninitializedParameter, is_lazy


class _Lazy:
    """What lazy layers share. `eager` is the class that the layer becomes."""

    eager = None

    def _forget_shapes(self):
        """Take the shapes from all tensors that the constructor has made."""
        for name, param in list(self._parameters.items()):
            if param is not None:
                made = UninitializedParameter(param.requires_grad, dtype=param.dtype)
                self._parameters[name] = made
        for name, buffer in list(self._buffers.items()):
            if buffer is not None and buffer.ndim:
                self._buffers[name] = UninitializedBuffer(dtype=buffer.dtype)

    def has_uninitialized_params(self):
        """Whether a parameter or buffer has no shape yet."""
        tensors = (*self._parameters.values(), *self._buffers.values())
        return any(is_lazy(t) for t in tensors)

    def __call__(self, *args, **kwargs):
        if self.has_uninitialized_params():
            with concrete():
                self._take_size(self._inputs_of(*args, **kwargs))
                self._fill()
        self._become()
        return self(*args, **kwargs)

    def _take_size(self, count):
        if count <= 0:
            raise ShapeError(f"{type(self).__name__}: the input has no features")
        setattr(self, self.counts, count)

    def _fill(self):
        """Give all tensors their shapes and first values."""
        for name, shape in self._shapes().items():
            tensor = self._parameters.get(name)
            tensor = self._buffers.get(name) if tensor is None else tensor
            if is_lazy(tensor):
                tensor.materialize(shape)
        self.reset_parameters()

    def _become(self):
        self.__class__ = self.eager

    def _given_shapes(self, state_dict, prefix):
        """Called before a state dict is loaded, whose shapes are right."""
        for name in (*self._parameters, *self._buffers):
            tensor = self._parameters.get(name)
            tensor = self._buffers.get(name) if tensor is None else tensor
            value = state_dict.get(prefix + name)
            if value is not None and is_lazy(tensor):
                tensor.materialize(tuple(value.shape))
        if not self.has_uninitialized_params():
            self._take_size(self._count_of_weights())
            self._become()


class LazyLinear(_Lazy, Linear):
    """A Linear whose in_features is the last size of its first input."""

    eager = Linear
    counts = "in_features"

    def __init__(self, out_features, bias=True, device=None, dtype=None):
        super().__init__(1, out_features, bias, device, dtype)
        self.in_features = 0
        self._forget_shapes()

    def _inputs_of(self, input):
        return input.shape[-1]

    def _shapes(self):
        return {"weight": (self.out_features, self.in_features), "bias": (self.out_features,)}

    def _count_of_weights(self):
        return self.weight.shape[1]


class _LazyConv(_Lazy):
    counts = "in_channels"

    def __init__(self, out_channels, kernel_size, *args, groups=1, **kwargs):
        # The order of what stands between differs between Conv and ConvTranspose: see the classes.
        super().__init__(groups, out_channels, kernel_size, *args, groups=groups, **kwargs)
        self.in_channels = 0
        self._forget_shapes()

    def _inputs_of(self, input, *args, **kwargs):
        if input.ndim not in (self.n + 1, self.n + 2):
            raise ShapeError(
                f"{type(self).__name__}: the input must have {self.n + 1} or {self.n + 2} "
                f"dimensions, got shape {tuple(input.shape)}"
            )
        count = input.shape[-self.n - 1]
        if count % self.groups:
            raise ArgumentError(
                f"{type(self).__name__}: the input's {count} channels do not divide into "
                f"groups={self.groups}"
            )
        return count

    def _shapes(self):
        outer, inner = self.out_channels, self.in_channels
        if self.transposed:
            outer, inner = inner, outer
        weight = (outer, inner // self.groups, *self.kernel_size)
        return {"weight": weight, "bias": (self.out_channels,)}

    def _count_of_weights(self):
        shape = self.weight.shape
        return shape[0] if self.transposed else shape[1] * self.groups


class _LazyConvForward(_LazyConv):
    def __init__(
        self, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, bias=True,
        padding_mode="zeros", device=None, dtype=None,
    ):  # fmt: skip
        super().__init__(
            out_channels, kernel_size, stride, padding, dilation, groups=groups, bias=bias,
            padding_mode=padding_mode, device=device, dtype=dtype,
        )  # fmt: skip


class _LazyConvTranspose(_LazyConv):
    def __init__(
        self, out_channels, kernel_size, stride=1, padding=0, output_padding=0, groups=1, bias=True,
        dilation=1, padding_mode="zeros", device=None, dtype=None,
    ):  # fmt: skip
        super().__init__(
            out_channels, kernel_size, stride, padding, output_padding, groups=groups, bias=bias,
            dilation=dilation, padding_mode=padding_mode, device=device, dtype=dtype,
        )  # fmt: skip


class LazyConv1d(_LazyConvForward, Conv1d):
    """A Conv1d whose in_channels are those of its first input."""

    eager = Conv1d


class LazyConv2d(_LazyConvForward, Conv2d):
    """A Conv2d whose in_channels are those of its first input."""

    eager = Conv2d


class LazyConv3d(_LazyConvForward, Conv3d):
    """A Conv3d whose in_channels are those of its first input."""

    eager = Conv3d


class LazyConvTranspose1d(_LazyConvTranspose, ConvTranspose1d):
    """A ConvTranspose1d whose in_channels are those of its first input."""

    eager = ConvTranspose1d


class LazyConvTranspose2d(_LazyConvTranspose, ConvTranspose2d):
    """A ConvTranspose2d whose in_channels are those of its first input."""

    eager = ConvTranspose2d


class LazyConvTranspose3d(_LazyConvTranspose, ConvTranspose3d):
    """A ConvTranspose3d whose in_channels are those of its first input."""

    eager = ConvTranspose3d


class _LazyNorm(_Lazy):
    counts = "num_features"

    def _setup_lazily(self, eps, momentum, affine, track_running_stats, device, dtype, bias=True):
        self._setup(1, eps, momentum, affine, track_running_stats, device, dtype, bias)
        self.num_features = 0
        self._forget_shapes()

    def _inputs_of(self, input):
        self._check_ndim(input)
        channels = 1 if input.ndim == max(self.ndims) or type(self) is LazyBatchNorm1d else 0
        return input.shape[channels]

    def _shapes(self):
        names = ("weight", "bias", "running_mean", "running_var")
        return dict.fromkeys(names, (self.num_features,))

    def _count_of_weights(self):
        known = (self.weight, self.bias, self.running_mean)
        return next(t.shape[0] for t in known if t is not None)


class _LazyBatchNorm(_LazyNorm):
    def __init__(
        self, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True, device=None,
        dtype=None, *, bias=True,
    ):  # fmt: skip
        self._setup_lazily(eps, momentum, affine, track_running_stats, device, dtype, bias)


class _LazyInstanceNorm(_LazyNorm):
    def __init__(
        self, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True, device=None,
        dtype=None, *, bias=True,
    ):  # fmt: skip
        self._setup_lazily(eps, momentum, affine, track_running_stats, device, dtype, bias)


class LazyBatchNorm1d(_LazyBatchNorm, BatchNorm1d):
    """A BatchNorm1d whose num_features are the channels of its first input."""

    eager = BatchNorm1d


class LazyBatchNorm2d(_LazyBatchNorm, BatchNorm2d):
    """A BatchNorm2d whose num_features are the channels of its first input."""

    eager = BatchNorm2d


class LazyBatchNorm3d(_LazyBatchNorm, BatchNorm3d):
    """A BatchNorm3d whose num_features are the channels of its first input."""

    eager = BatchNorm3d


class LazyInstanceNorm1d(_LazyInstanceNorm, InstanceNorm1d):
    """An InstanceNorm1d whose num_features are the channels of its first input."""

    eager = InstanceNorm1d


class LazyInstanceNorm2d(_LazyInstanceNorm, InstanceNorm2d):
    """An InstanceNorm2d whose num_features are the channels of its first input."""

    eager = InstanceNorm2d


class LazyInstanceNorm3d(_LazyInstanceNorm, InstanceNorm3d):
    """An InstanceNorm3d whose num_features are the channels of its first input."""

    eager = InstanceNorm3d


__all__ = [name for name in dir() if name.startswith("Lazy")]
