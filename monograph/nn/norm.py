"""Normalisation layers: batch, layer, group, instance and root-mean-square norm."""

import monograph as mg
from monograph.core.errors import ArgumentError, ShapeError
from monograph.nn import functional as F
from monograph.nn import init
from monograph.nn.module import Module
from monograph.nn.parameter import Parameter


def _reset_affine(layer):
    if layer.weight is not None:
        init.ones_(layer.weight)
    if layer.bias is not None:
        init.zeros_(layer.bias)


class _RunningNorm(Module):
    """Scale, shift and running statistics over channels: what batch and instance norm share."""

    ndims = ()  # accepted numbers of input dimensions

    def _setup(self, num_features, eps, momentum, affine, track_running_stats, device, dtype, bias):
        Module.__init__(self)
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        where = {"device": device, "dtype": dtype}
        if affine:
            self.weight = Parameter(mg.ones(num_features, **where))
        else:
            self.register_parameter("weight", None)
        if affine and bias:
            self.bias = Parameter(mg.zeros(num_features, **where))
        else:
            self.register_parameter("bias", None)
        tracked = track_running_stats
        self.register_buffer("running_mean", mg.zeros(num_features, **where) if tracked else None)
        self.register_buffer("running_var", mg.ones(num_features, **where) if tracked else None)
        self.register_buffer(
            "num_batches_tracked", mg.tensor(0, dtype=mg.int64, device=device) if tracked else None
        )

    def reset_running_stats(self):
        """Forget the running statistics: mean 0, variance 1, no batch seen."""
        if self.track_running_stats:
            init.zeros_(self.running_mean)
            init.ones_(self.running_var)
            init.constant_(self.num_batches_tracked, 0)

    def reset_parameters(self):
        """Reset running statistics, scale (to 1) and shift (to 0)."""
        self.reset_running_stats()
        _reset_affine(self)

    def _check_ndim(self, input):
        if input.ndim not in self.ndims:
            wanted = " or ".join(f"{n}" for n in self.ndims)
            raise ShapeError(
                f"{type(self).__name__}: the input must have {wanted} dimensions, "
                f"got shape {tuple(input.shape)}"
            )

    def extra_repr(self):
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_RunningNorm):
    def __init__(
        self,
        num_features,
        eps=1e-5,
        momentum=0.1,
        affine=True,
        track_running_stats=True,
        device=None,
        dtype=None,
        *,
        bias=True,
    ):
        self._setup(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, input):
        self._check_ndim(input)
        training = self.training
        momentum = self.momentum
        mean, var = self.running_mean, self.running_var
        use_batch = training or mean is None
        if not training or mean is None:
            return F.batch_norm(
                input, mean, var, self.weight, self.bias, use_batch, momentum or 0.0, self.eps
            )
        with mg.no_grad():
            self.num_batches_tracked.add_(1)
        if momentum is not None:
            return F.batch_norm(input, mean, var, self.weight, self.bias, True, momentum, self.eps)
        # momentum=None: the plain average over all batches. The new batch has weight 1/count, a
        # tensor.
        batch_mean, batch_var = mg.zeros_like(mean), mg.zeros_like(var)
        output = F.batch_norm(
            input, batch_mean, batch_var, self.weight, self.bias, True, 1.0, self.eps
        )
        with mg.no_grad():
            share = 1.0 / self.num_batches_tracked.to(mean.dtype)
            mean.add_((batch_mean - mean) * share)
            var.add_((batch_var - var) * share)
        return output


class BatchNorm1d(_BatchNorm):
    """Normalise each channel over the batch (and time).

    input (N, C) or (N, C, L); weight, bias, running_mean, running_var (C,)

    In training: batch statistics, and running = (1 - momentum) * running + momentum * batch
    (variance unbiased); momentum=None averages over all batches. In evaluation: the running ones.
    Source: Ioffe and Szegedy, Batch normalization, 2015.
    """

    ndims = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Normalise each channel over batch and image: input (N, C, H, W); see BatchNorm1d."""

    ndims = (4,)


class BatchNorm3d(_BatchNorm):
    """Normalise each channel over batch and volume: input (N, C, D, H, W); see BatchNorm1d."""

    ndims = (5,)


class _InstanceNorm(_RunningNorm):
    def __init__(
        self,
        num_features,
        eps=1e-5,
        momentum=0.1,
        affine=False,
        track_running_stats=False,
        device=None,
        dtype=None,
        *,
        bias=True,
    ):
        self._setup(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, input):
        self._check_ndim(input)
        alone = input.ndim == self.ndims[0]
        channels = input.shape[0 if alone else 1]
        if channels != self.num_features and self.affine:
            raise ShapeError(
                f"{type(self).__name__}: expected {self.num_features} channels, "
                f"got {channels} in input {tuple(input.shape)}"
            )
        output = F.instance_norm(
            input.unsqueeze(0) if alone else input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or not self.track_running_stats,
            self.momentum,
            self.eps,
        )
        return output.squeeze(0) if alone else output


class InstanceNorm1d(_InstanceNorm):
    """Normalise each channel of each sample over time: input (N, C, L) or (C, L)."""

    ndims = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """Normalise each channel of each sample over the image: input (N, C, H, W) or (C, H, W)."""

    ndims = (3, 4)


class InstanceNorm3d(_InstanceNorm):
    """Normalise each channel of each sample over the volume: (N, C, D, H, W) or (C, D, H, W)."""

    ndims = (4, 5)


def _axes_shape(normalized_shape):
    return (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)


class LayerNorm(Module):
    """Normalise over the last axes, those of `normalized_shape`; then scale and shift.

    input (..., *normalized_shape); weight, bias of shape normalized_shape
    Source: Ba, Kiros and Hinton, Layer normalization, 2016.
    """

    def __init__(
        self,
        normalized_shape,
        eps=1e-5,
        elementwise_affine=True,
        bias=True,
        device=None,
        dtype=None,
    ):
        super().__init__()
        self.normalized_shape = _axes_shape(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        where = {"device": device, "dtype": dtype}
        if elementwise_affine:
            self.weight = Parameter(mg.ones(self.normalized_shape, **where))
        else:
            self.register_parameter("weight", None)
        if elementwise_affine and bias:
            self.bias = Parameter(mg.zeros(self.normalized_shape, **where))
        else:
            self.register_parameter("bias", None)

    def reset_parameters(self):
        """Set the scale to 1 and the shift to 0."""
        _reset_affine(self)

    def forward(self, input):
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self):
        return (
            f"{self.normalized_shape}, eps={self.eps}, "
            f"elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"
        )


class RMSNorm(Module):
    """Divide by the root mean square over the last axes, then scale.

    input (..., *normalized_shape); weight of shape normalized_shape; eps None means the dtype's
    epsilon Source: Zhang and Sennrich, Root mean square layer normalization, 2019.
    """

    def __init__(
        self, normalized_shape, eps=None, elementwise_affine=True, device=None, dtype=None
    ):
        super().__init__()
        self.normalized_shape = _axes_shape(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        if elementwise_affine:
            self.weight = Parameter(mg.ones(self.normalized_shape, device=device, dtype=dtype))
        else:
            self.register_parameter("weight", None)

    def reset_parameters(self):
        """Set the scale to 1."""
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, input):
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self):
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
        )


class GroupNorm(Module):
    """Normalise groups of channels of each sample.

    input (N, C, ...) with C divisible by num_groups; weight, bias (C,)
    Source: Wu and He, Group normalization, 2018.
    """

    def __init__(
        self,
        num_groups,
        num_channels,
        eps=1e-5,
        affine=True,
        device=None,
        dtype=None,
        *,
        bias=True,
    ):
        super().__init__()
        if num_channels % num_groups:
            raise ArgumentError(
                f"GroupNorm: num_channels={num_channels} does not divide into "
                f"num_groups={num_groups}"
            )
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps
        self.affine = affine
        if affine:
            self.weight = Parameter(mg.ones(num_channels, device=device, dtype=dtype))
        else:
            self.register_parameter("weight", None)
        if affine and bias:
            self.bias = Parameter(mg.zeros(num_channels, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)

    def reset_parameters(self):
        """Set the scale to 1 and the shift to 0."""
        _reset_affine(self)

    def forward(self, input):
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self):
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )


class LocalResponseNorm(Module):
    """Divide by (k + alpha * mean square over `size` neighbouring channels) ** beta.

    Source: Krizhevsky, Sutskever and Hinton, ImageNet classification with deep networks, 2012.
    """

    def __init__(self, size, alpha=1e-4, beta=0.75, k=1.0):
        super().__init__()
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k

    def forward(self, input):
        return F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self):
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
