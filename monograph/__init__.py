"""Monograph: a complete deep-learning framework in one small package.

    import monograph as mg

Tensors, gradients and layers have PyTorch's names and meanings; `mg.jit` compiles a whole training
step. docs/architecture.md is the map.
"""

from importlib import import_module as _import_module
from math import e, inf, nan, pi

from . import autograd, func, sparse
from . import places as _places
from .api import copies as _copies
from .api import described as _described
from .api import indexing as _indexing
from .api import interpreter as _interpreter
from .api import lowrank as _lowrank
from .api import random
from .api import reshaping as _reshaping
from .api import segments as _segments
from .api import selection as _selection
from .api import strided as _strided
from .api import typed as _typed
from .api import views as _views
from .api.autograd import backward as _backward
from .api.batching import vmap
from .api.control import associative_scan, cond, map, scan, while_loop
from .api.creation import (
    arange,
    as_tensor,
    asarray,
    empty,
    empty_like,
    empty_permuted,
    empty_strided,
    eye,
    from_numpy,
    full,
    full_like,
    linspace,
    logspace,
    ones,
    ones_like,
    scalar_tensor,
    tensor,
    zeros,
    zeros_like,
)  # fmt: skip
from .api.dlpack import from_dlpack
from .api.facts import (
    broadcast_shapes,
    can_cast,
    is_complex,
    is_floating_point,
    is_same_size,
    is_tensor,
    numel,
    promote_types,
    result_type,
    tril_indices,
    triu_indices,
)  # fmt: skip
from .api.files import load, load_file, save, save_file
from .api.meta import CREATORS as _CREATORS
from .api.meta import placed as _placed
from .api.methods import attach as _attach
from .api.misc import *  # noqa: F403
from .api.misc import _assert as _assert
from .api.printing import set_printoptions
from .api.random import (
    Generator,
    bernoulli,
    default_generator,
    fork_rng,
    get_rng_state,
    initial_seed,
    manual_seed,
    multinomial,
    normal,
    rand,
    rand_like,
    randint,
    randint_like,
    randn,
    randn_like,
    randperm,
    seed,
    set_rng_state,
)  # fmt: skip
from .api.sampling import binomial, poisson
from .api.sparse import sparse_coo_tensor, spmm
from .api.standard import VERSION as __array_api_version__
from .api.standard import __array_namespace_info__, repeat
from .core.choices import (
    are_deterministic_algorithms_enabled,
    get_float32_matmul_precision,
    set_float32_matmul_precision,
    use_deterministic_algorithms,
)  # fmt: skip
from .core.device import device, get_default_device, set_default_device
from .core.dtype import (
    DType as dtype,
)  # fmt: skip
from .core.dtype import (
    bfloat16,
    complex64,
    complex128,
    finfo,
    float16,
    float32,
    float64,
    get_default_dtype,
    iinfo,
    int8,
    int16,
    int32,
    int64,
    set_default_dtype,
    uint8,
    uint16,
    uint32,
    uint64,
)
from .core.dtype import bool_ as bool
from .core.layouts import (
    channels_last,
    channels_last_3d,
    contiguous_format,
    layout,
    memory_format,
    preserve_format,
    strided,
)
from .core.modes import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)  # fmt: skip
from .core.shape import Size
from .ir.dispatch import install as _install
from .ops import activations as _activations
from .ops import arith as _arith
from .ops import arranging as _arranging
from .ops import attention as _attention
from .ops import bags as _bags
from .ops import bessel as _bessel
from .ops import complex as _complex
from .ops import contract as _contract
from .ops import conv as _conv
from .ops import counting as _counting
from .ops import cross_entropy as _cross_entropy
from .ops import ctc as _ctc
from .ops import cumulative as _cumulative
from .ops import einsum as _einsum
from .ops import factorizations as _factorizations
from .ops import fractional as _fractional
from .ops import gamma as _gamma
from .ops import gathering as _gathering
from .ops import images as _images
from .ops import incomplete as _incomplete
from .ops import joining as _joining
from .ops import linalg as _linalg
from .ops import losses as _losses
from .ops import normalize as _normalize
from .ops import numeric as _numeric
from .ops import pointwise as _pointwise
from .ops import pooling as _pooling
from .ops import quantiles as _quantiles
from .ops import random as _random
from .ops import reduce as _reduce
from .ops import relatives as _relatives
from .ops import rounding as _rounding
from .ops import shaping as _shaping
from .ops import slopes as _slopes
from .ops import sorting as _sorting
from .ops import special as _special
from .ops import spectrogram as _spectrogram
from .ops import triangular as _triangular
from .ops import trigonometric as _trigonometric
from .ops.align import FUNCTIONAL as _FUNCTIONAL
from .ops.align import FUNCTIONS as _FUNCTIONS
from .runtime.threads import get_num_threads, set_num_threads
from .tensor import Tensor

__version__ = "0.1.0"

float, double, half = float32, float64, float16
int, long, short = int32, int64, int16
cfloat, cdouble = complex64, complex128
newaxis = None
legacy_contiguous_format = contiguous_format
has_lapack, has_mkl, has_openmp, has_spectral = True, False, False, True

_install(_interpreter.interpret)
globals().update(_FUNCTIONS)
globals().update(_typed.TYPES)
_attach()
_reshaping.attach()
_described.describe()
globals().update({_name: _placed(globals()[_name]) for _name in _CREATORS})

# Functions of layers that PyTorch has at the top as well (all of them: monograph.nn.functional).
_OF_LAYERS = """
conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d bilinear batch_norm
layer_norm group_norm instance_norm rms_norm dropout alpha_dropout max_pool1d max_pool2d max_pool3d
avg_pool1d adaptive_avg_pool1d adaptive_max_pool1d pixel_shuffle pixel_unshuffle channel_shuffle
binary_cross_entropy_with_logits cosine_embedding_loss ctc_loss hinge_embedding_loss kl_div
margin_ranking_loss poisson_nll_loss triplet_margin_loss hardshrink rrelu rrelu_ celu_ selu_
threshold_ feature_alpha_dropout max_pool1d_with_indices
""".split()
globals().update({_name: _FUNCTIONAL[_name] for _name in _OF_LAYERS})

# Submodules and the compiler load when they are first used, so that `import monograph` stays quick.
_SUBMODULES = {
    "accelerator", "amp", "array_api", "autograd", "backends", "compiler", "cpu", "cuda", "data",
    "distributed", "distributions", "fft", "func", "hub", "linalg", "masked", "metrics", "models",
    "mps", "multiprocessing", "nn", "onnx", "optim", "plot", "profiler", "quasirandom", "signal",
    "special", "testing", "train", "types", "utils", "version",
}  # fmt: skip
_LAZY = {
    "GradScaler": "amp.grad_scaler", "autocast": "amp.autocast_mode",
    "is_autocast_enabled": "amp.autocast_mode",
    "get_autocast_dtype": "amp.autocast_mode", "set_autocast_dtype": "amp.autocast_mode",
    "set_autocast_enabled": "amp.autocast_mode", "is_autocast_available": "amp.autocast_mode",
    "is_autocast_cache_enabled": "amp.autocast_mode",
    "set_autocast_cache_enabled": "amp.autocast_mode",
    "clear_autocast_cache": "amp.autocast_mode",
    "jit": "scripting", "Dim": "dynamic", "compile": "compiled", "explain": "report",
    "estimate": "train.estimate",
    "set_flush_denormal": "runtime.pool",
    "lstm_cell": "nn.cells", "gru_cell": "nn.cells", "rnn_tanh_cell": "nn.cells",
    "rnn_relu_cell": "nn.cells",
    "bartlett_window": "signal.windows", "blackman_window": "signal.windows",
    "hamming_window": "signal.windows", "hann_window": "signal.windows",
    "kaiser_window": "signal.windows",
}  # fmt: skip


def __getattr__(name):
    if name in _SUBMODULES:
        return _import_module(f"{__name__}.{name}")
    if name in _LAZY:
        found = getattr(_import_module(f"{__name__}.{_LAZY[name]}"), name)
        globals()[name] = found
        return found
    if name[-1] == "_" != name[0] and hasattr(Tensor, name):
        return getattr(Tensor, name)  # in-place functions: mg.relu_(x) is x.relu_()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_SUBMODULES, *_LAZY})
