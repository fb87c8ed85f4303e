"""nn.utils: gradient clipping, all parameters as one vector; parametrizations, pruning, fusion."""

import functools
import math
import warnings

import monograph as mg
from monograph import func as stateless  # noqa: F401  (functional_call)
from monograph.api.compiled import is_enabled
from monograph.core.errors import ArgumentError, ArgumentTypeError, ShapeError
from monograph.nn.utils import parametrizations as parametrizations
from monograph.nn.utils import parametrize as parametrize
from monograph.nn.utils import prune as prune
from monograph.nn.utils import rnn as rnn
from monograph.nn.utils.fusion import fuse_conv_bn_eval as fuse_conv_bn_eval
from monograph.nn.utils.fusion import fuse_conv_bn_weights as fuse_conv_bn_weights
from monograph.nn.utils.fusion import fuse_linear_bn_eval as fuse_linear_bn_eval
from monograph.nn.utils.fusion import fuse_linear_bn_weights as fuse_linear_bn_weights
from monograph.nn.utils.norms import remove_spectral_norm as remove_spectral_norm
from monograph.nn.utils.norms import remove_weight_norm as remove_weight_norm
from monograph.nn.utils.norms import spectral_norm as spectral_norm
from monograph.nn.utils.norms import weight_norm as weight_norm
from monograph.tensor import Tensor

SMALL = 64  # elements of gradients below which clipping is not compiled


def _gradients(parameters):
    parameters = [parameters] if isinstance(parameters, Tensor) else parameters
    if not hasattr(parameters, "__iter__"):
        raise ArgumentTypeError(
            f"parameters must be an iterable of tensors, got {type(parameters).__name__}",
            hint="a module's are model.parameters()",
        )
    return [p.grad for p in parameters if p.grad is not None]


def get_total_norm(tensors, norm_type=2.0, error_if_nonfinite=False, foreach=None):
    """The p-norm (norm_type may be inf) of all elements of all tensors, as a 0-d tensor.

    ArgumentError, with `error_if_nonfinite`, if it is nan or infinite. `foreach` is ignored.
    """
    tensors = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    if not tensors:
        return mg.tensor(0.0)
    norm_type = float(norm_type)
    tensors = [t.coalesce().values() if t.is_sparse else t for t in tensors]
    if norm_type == math.inf:
        total = mg.stack([t.detach().abs().max() for t in tensors]).max()
    else:
        total = _norm(mg.stack([_norm(t.detach(), norm_type) for t in tensors]), norm_type)
    if error_if_nonfinite and not math.isfinite(total.item()):
        raise ArgumentError(f"get_total_norm: the norm of order {norm_type} is {total.item()}")
    return total


def clip_grad_norm(parameters, max_norm, norm_type=2.0, error_if_nonfinite=False, foreach=None):
    """The old name of `clip_grad_norm_`."""
    warnings.warn("clip_grad_norm is an old name of clip_grad_norm_", FutureWarning, 2)
    return clip_grad_norm_(parameters, max_norm, norm_type, error_if_nonfinite, foreach)


def _norm(tensor, p):
    if p == 2.0:
        return (tensor * tensor).sum().sqrt()
    if p == 1.0:
        return tensor.abs().sum()
    if p <= 0:
        raise ArgumentError(f"norm_type must be positive, got {p}")
    return (tensor.abs() ** p).sum() ** (1.0 / p)


def clip_grads_with_norm_(parameters, max_norm, total_norm, foreach=None):
    """Scale all gradients in place by max_norm / (total_norm + 1e-6), if that is below 1."""
    with mg.no_grad():
        _scale(_gradients(parameters), max_norm, total_norm)


def _scale(grads, max_norm, total_norm):
    factor = (max_norm / (total_norm + 1e-6)).clamp(max=1.0)
    for grad in grads:
        grad.mul_(factor.to(grad.dtype))


def _clip(max_norm, norm_type, *grads):
    total = get_total_norm(grads, norm_type)
    _scale(grads, max_norm, total)
    return total


@functools.cache
def _compiled_clip():
    return mg.jit(_clip)


def clip_grad_norm_(parameters, max_norm, norm_type=2.0, error_if_nonfinite=False, foreach=None):
    """Scale all gradients in place so that their norm is at most max_norm; return the old norm.

    ArgumentError, with `error_if_nonfinite`, if the norm is nan or infinite.
    """
    grads, norm_type = _gradients(parameters), float(norm_type)
    if not getattr(max_norm, "_weak", False):  # a number that is an input of a captured function
        max_norm = float(max_norm)
    with mg.no_grad():
        if not error_if_nonfinite and is_enabled() and sum(g.numel() for g in grads) >= SMALL:
            return _compiled_clip()(max_norm, norm_type, *grads)
        total = get_total_norm(grads, norm_type)
        if error_if_nonfinite and not math.isfinite(total.item()):
            raise ArgumentError(
                f"clip_grad_norm_: the gradients' norm of order {norm_type} is {total.item()}"
            )
        _scale(grads, max_norm, total)
    return total


def clip_grad_value_(parameters, clip_value, foreach=None):
    """Limit all gradients in place to [-clip_value, clip_value]."""
    clip_value = float(clip_value)
    with mg.no_grad():
        for grad in _gradients(parameters):
            grad.clamp_(-clip_value, clip_value)


def parameters_to_vector(parameters):
    """All parameters joined into one vector, in order."""
    return mg.cat([p.reshape(-1) for p in parameters])


def vector_to_parameters(vec, parameters):
    """Write the slices of a vector into the parameters, in order."""
    parameters = list(parameters)
    total = sum(p.numel() for p in parameters)
    if vec.ndim != 1 or vec.numel() != total:
        raise ShapeError(
            f"vector_to_parameters: the vector must have shape ({total},), got {tuple(vec.shape)}"
        )
    start = 0
    with mg.no_grad():
        for param in parameters:
            param.copy_(vec[start : start + param.numel()].reshape(param.shape))
            start += param.numel()


def skip_init(module_cls, *args, **kwargs):
    """module_cls(*args, **kwargs), whose parameters are about to be overwritten."""
    return module_cls(*args, **kwargs)
