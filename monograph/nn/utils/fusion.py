"""A batch norm in evaluation mode folded into the layer before it: one layer instead of two."""

import copy

import monograph as mg
from monograph.core.errors import ArgumentError
from monograph.nn.parameter import Parameter

__all__ = [
    "fuse_conv_bn_eval", "fuse_conv_bn_weights", "fuse_linear_bn_eval", "fuse_linear_bn_weights",
]  # fmt: skip


def fuse_conv_bn_weights(
    conv_w, conv_b, bn_rm, bn_rv, bn_eps, bn_w=None, bn_b=None, transpose=False
):
    """Weight and bias of a convolution that is followed by a batch norm, as two Parameters.

    transpose  the filters are (in, out, ...), those of a transposed convolution
    """
    with mg.no_grad():
        conv_b = mg.zeros_like(bn_rm) if conv_b is None else conv_b
        bn_w = mg.ones_like(bn_rm) if bn_w is None else bn_w
        bn_b = mg.zeros_like(bn_rm) if bn_b is None else bn_b
        factor = bn_w * (bn_rv + bn_eps).rsqrt()
        shape = [1] * conv_w.ndim
        shape[1 if transpose else 0] = -1
        weight = (conv_w * factor.reshape(shape)).to(conv_w.dtype)
        bias = ((conv_b - bn_rm) * factor + bn_b).to(conv_w.dtype)
    return Parameter(weight, conv_w.requires_grad), Parameter(bias, conv_b.requires_grad)


def fuse_linear_bn_weights(linear_w, linear_b, bn_rm, bn_rv, bn_eps, bn_w=None, bn_b=None):
    """Weight and bias of a linear layer that is followed by a batch norm, as two Parameters."""
    return fuse_conv_bn_weights(linear_w, linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b)


def _fused(operation, layer, bn, transpose=False):
    if layer.training or bn.training:
        raise ArgumentError(
            f"{operation}: both must be in evaluation mode",
            hint="call .eval() first; batch statistics cannot be folded",
        )
    if bn.running_mean is None:
        raise ArgumentError(f"{operation}: the batch norm keeps no running statistics")
    made = copy.deepcopy(layer)
    made.weight, made.bias = fuse_conv_bn_weights(
        layer.weight, layer.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias,
        transpose,
    )  # fmt: skip
    return made


def fuse_conv_bn_eval(conv, bn, transpose=False):
    """A copy of `conv` that gives what bn(conv(x)) gives in evaluation mode."""
    return _fused("fuse_conv_bn_eval", conv, bn, transpose)


def fuse_linear_bn_eval(linear, bn):
    """A copy of `linear` that gives what bn(linear(x)) gives in evaluation mode."""
    if linear.out_features != bn.num_features and bn.num_features != 1:
        raise ArgumentError(
            f"fuse_linear_bn_eval: the linear layer has {linear.out_features} outputs, the batch "
            f"norm {bn.num_features} features"
        )
    return _fused("fuse_linear_bn_eval", linear, bn)
