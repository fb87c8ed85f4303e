"""nn.init: fill a tensor in place, by the formulas of PyTorch and of the papers they come from.

All functions change `tensor` under no_grad and return it. Random fills draw from the default
generator unless `generator` is given.
"""

import math
import warnings

import numpy as np

import monograph as mg
from monograph.core.errors import ArgumentError, ShapeError

_GAINS = {"sigmoid": 1.0, "tanh": 5.0 / 3, "relu": math.sqrt(2.0), "selu": 3.0 / 4}
_LINEAR = {"linear"} | {f"conv{t}{n}d" for t in ("", "_transpose") for n in (1, 2, 3)}


def calculate_gain(nonlinearity, param=None):
    """The factor that keeps the variance of signals through `nonlinearity`.

    `param` is the negative slope of leaky_relu (0.01 by default).

    >>> calculate_gain("tanh")
    1.6666666666666667
    """
    if nonlinearity in _LINEAR:
        return 1
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, (int, float)):
            raise ArgumentError(
                f"calculate_gain: the negative slope must be a number, got {slope!r}"
            )
        return math.sqrt(2.0 / (1 + slope**2))
    if nonlinearity not in _GAINS:
        known = ", ".join(sorted(_LINEAR | set(_GAINS) | {"leaky_relu"}))
        raise ArgumentError(
            f"calculate_gain: unknown nonlinearity {nonlinearity!r}; known: {known}"
        )
    return _GAINS[nonlinearity]


def uniform_(tensor, a=0.0, b=1.0, generator=None):
    """Fill with draws from the uniform distribution on [a, b)."""
    with mg.no_grad():
        return tensor.uniform_(a, b, generator=generator)


def normal_(tensor, mean=0.0, std=1.0, generator=None):
    """Fill with draws from the normal distribution."""
    with mg.no_grad():
        return tensor.normal_(mean, std, generator=generator)


def trunc_normal_(tensor, mean=0.0, std=1.0, a=-2.0, b=2.0, generator=None):
    """Fill with draws from the normal distribution restricted to [a, b]."""

    def cdf(x):
        return (1.0 + math.erf((x - mean) / (std * math.sqrt(2.0)))) / 2.0

    with mg.no_grad():
        tensor.uniform_(2 * cdf(a) - 1, 2 * cdf(b) - 1, generator=generator)
        tensor.copy_((tensor.erfinv() * (std * math.sqrt(2.0)) + mean).clamp(a, b))
        return tensor


def constant_(tensor, val):
    """Fill with one value."""
    with mg.no_grad():
        return tensor.fill_(val)


def ones_(tensor):
    """Fill with 1."""
    return constant_(tensor, 1.0)


def zeros_(tensor):
    """Fill with 0."""
    return constant_(tensor, 0.0)


def eye_(tensor):
    """Fill a matrix with 1 on the diagonal and 0 elsewhere."""
    if tensor.ndim != 2:
        raise ShapeError(f"eye_: needs a matrix, got shape {tuple(tensor.shape)}")
    with mg.no_grad():
        return tensor.copy_(mg.eye(*tensor.shape, dtype=tensor.dtype))


def dirac_(tensor, groups=1):
    """Fill a convolution weight (O, C, K...) so that channels pass through unchanged."""
    if tensor.ndim not in (3, 4, 5):
        raise ShapeError(
            "dirac_: needs a convolution weight of 3, 4 or 5 dimensions, "
            f"got shape {tuple(tensor.shape)}"
        )
    outputs, channels = tensor.shape[:2]
    if outputs % groups:
        raise ArgumentError(f"dirac_: {outputs} output channels do not divide into {groups} groups")
    per_group = outputs // groups
    with mg.no_grad():
        tensor.zero_()
        middle = tuple(k // 2 for k in tensor.shape[2:])
        for group in range(groups):
            for channel in range(min(per_group, channels)):
                tensor[(group * per_group + channel, channel, *middle)] = 1
    return tensor


def _fans(name, tensor):
    """(fan_in, fan_out) of a weight (outputs, inputs, K...)."""
    if tensor.ndim < 2:
        raise ShapeError(
            f"{name}: fan in and fan out need at least 2 dimensions, "
            f"got shape {tuple(tensor.shape)}"
        )
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def _calculate_fan_in_and_fan_out(tensor):
    """(fan_in, fan_out), which layers of other programs ask for under this name."""
    return _fans("fan_in and fan_out", tensor)


def _calculate_correct_fan(tensor, mode):
    return _fans(mode, tensor)[mode.lower() == "fan_out"]


def xavier_uniform_(tensor, gain=1.0, generator=None):
    """Fill uniformly on [-r, r] with r = gain * sqrt(6 / (fan_in + fan_out)).

    Source: Glorot and Bengio, Understanding the difficulty of training deep feedforward networks,
    2010.
    """
    bound = gain * math.sqrt(6.0 / sum(_fans("xavier_uniform_", tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor, gain=1.0, generator=None):
    """Fill from the normal distribution of std = gain * sqrt(2 / (fan_in + fan_out))."""
    std = gain * math.sqrt(2.0 / sum(_fans("xavier_normal_", tensor)))
    return normal_(tensor, 0.0, std, generator)


def _kaiming_std(name, tensor, a, mode, nonlinearity):
    if mode not in ("fan_in", "fan_out"):
        raise ArgumentError(f"{name}: mode must be 'fan_in' or 'fan_out', got {mode!r}")
    fan = _fans(name, tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)


def kaiming_uniform_(tensor, a=0, mode="fan_in", nonlinearity="leaky_relu", generator=None):
    """Fill uniformly on [-r, r] with r = gain * sqrt(3 / fan); `a` is the slope of leaky_relu.

    Source: He, Zhang, Ren and Sun, Delving deep into rectifiers, 2015.
    """
    if 0 in tensor.shape:
        return tensor
    bound = math.sqrt(3.0) * _kaiming_std("kaiming_uniform_", tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(tensor, a=0, mode="fan_in", nonlinearity="leaky_relu", generator=None):
    """Fill from the normal distribution of std = gain / sqrt(fan); `a` as above."""
    if 0 in tensor.shape:
        return tensor
    std = _kaiming_std("kaiming_normal_", tensor, a, mode, nonlinearity)
    return normal_(tensor, 0.0, std, generator)


def orthogonal_(tensor, gain=1, generator=None):
    """Fill with a (semi-)orthogonal matrix times `gain`; trailing dimensions count as columns.

    Source: Saxe, McClelland and Ganguli, Exact solutions to the nonlinear dynamics of learning,
    2013.
    """
    if tensor.ndim < 2:
        raise ShapeError(
            f"orthogonal_: needs at least 2 dimensions, got shape {tuple(tensor.shape)}"
        )
    if tensor.numel() == 0:
        return tensor
    rows, columns = tensor.shape[0], tensor.numel() // tensor.shape[0]
    with mg.no_grad():
        draw = mg.empty(max(rows, columns), min(rows, columns)).normal_(generator=generator)
        q, r = np.linalg.qr(draw.numpy())
        q *= np.sign(np.diagonal(r))  # makes the distribution uniform over orthogonal matrices
        if rows < columns:
            q = q.T
        return tensor.copy_(mg.tensor(q * gain).reshape(tensor.shape))


def sparse_(tensor, sparsity, std=0.01, generator=None):
    """Fill a matrix from the normal distribution and zero the share `sparsity` of each column."""
    if tensor.ndim != 2:
        raise ShapeError(f"sparse_: needs a matrix, got shape {tuple(tensor.shape)}")
    rows, columns = tensor.shape
    zeros = math.ceil(sparsity * rows)
    with mg.no_grad():
        tensor.normal_(0, std, generator=generator)
        for column in range(columns):
            tensor[mg.randperm(rows, generator=generator)[:zeros], column] = 0
    return tensor


_no_grad_uniform_, _no_grad_normal_ = uniform_, normal_


def _no_grad_trunc_normal_(tensor, mean, std, a, b, generator=None):
    return trunc_normal_(tensor, mean, std, a, b, generator)


def __getattr__(name):
    if name[0] != "_" and f"{name}_" in globals():
        warnings.warn(f"nn.init.{name} is an old name of nn.init.{name}_", FutureWarning, 2)
        return globals()[f"{name}_"]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
