"""PyTorch's own samples of its operators (the OpInfo database): the same calls here.

The samples that PyTorch itself rejects are left out; what differs on purpose is in DIFFERENT.
"""

import functools
import sys
import types
import unittest
import warnings

import numpy as np
import pytest

import monograph as mg
import monograph.nn.functional as F
from monograph.ops.align import FUNCTIONAL, FUNCTIONS
from monograph.testing import as_numpy, assert_close

from .torch_oracle import leaves, torch

pytestmark = pytest.mark.slow

# name: why the results are not compared
DIFFERENT = {
    "nn.functional.dropout": "random", "nn.functional.dropout1d": "random",
    "nn.functional.dropout2d": "random", "nn.functional.dropout3d": "random",
    "nn.functional.alpha_dropout": "random", "bernoulli": "random", "multinomial": "random",
    "nn.functional.scaled_dot_product_attention": "samples with dropout are random",
    "nn.functional.triplet_margin_with_distance_loss": "samples hold modules of PyTorch",
    "nn.functional.gaussian_nll_loss": "shapes that broadcast silently are an error here",
    "topk": "which of equal elements comes first is not specified",
    "kthvalue": "which of equal elements is named is not specified",
    "norm": "matrix norms are not here",
    "searchsorted": "the sorter argument is not here",
    "nn.functional.feature_alpha_dropout": "random",
    "nn.functional.rrelu": "random",
    "addbmm": "integers scaled by fractions are an error here",
    "addmv": "integers scaled by fractions are an error here",
    "baddbmm": "integers scaled by fractions are an error here",
    "gather": "an empty index must have as many dimensions as the input here",
    "polygamma": "negative numbers for n > 1 give nan here",
    "nn.functional.avg_pool1d": "integers are an error here",
    "nn.functional.avg_pool2d": "integers are an error here",
    "nn.functional.avg_pool3d": "integers are an error here",
    "nn.functional.batch_norm": "a single dimension is an error here",
    "nn.functional.embedding": "max_norm, which changes the weight, is an error here",
    "nn.functional.local_response_norm": "integers become floating here",
    "nn.functional.multi_margin_loss": "0-d inputs are an error here",
    "nn.functional.multilabel_margin_loss": "0-d inputs are an error here",
    "nn.functional.pad": "negative padding is not defined for every mode here",
    "diff": "n = 0 ignores what is prepended there",
}  # fmt: skip
OTHER_GRADIENTS = {
    "cdist": "p = 0 has no gradient here, zeros there",
    "cholesky_inverse": "the triangle that is not read has a gradient there",
    "cholesky_solve": "the triangle that is not read has a gradient there",
    "nn.functional.ctc_loss": "the gradient is for log_probs here (docs/differences.md)",
    "nn.functional.max_unpool1d": "only the last value at a place has a gradient here",
    "nn.functional.max_unpool2d": "only the last value at a place has a gradient here",
    "nn.functional.max_unpool3d": "only the last value at a place has a gradient here",
    "sgn": "PyTorch's zero gradient cannot be read",
}  # fmt: skip
# OpInfo calls these with the arguments in another order.
ADAPTED = {
    "where": lambda x, condition, y: mg.where(condition, x, y),
    "einsum": lambda tensors, equation: mg.einsum(equation, *tensors),
}
NAMES = sorted({*FUNCTIONS} | {f"nn.functional.{name}" for name in FUNCTIONAL})


@functools.cache
def database():
    if "expecttest" not in sys.modules:  # only PyTorch's own test classes use it
        stub = types.ModuleType("expecttest")
        stub.TestCase = unittest.TestCase
        sys.modules["expecttest"] = stub
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip("torch.testing._internal.common_methods_invocations")
    found = {}
    for info in module.op_db:
        found.setdefault(info.name, []).append(info)
    return found


def ours(x, made=None):
    """The same structure with tensors of this package; `made` keeps (theirs, ours) by identity."""
    if isinstance(x, torch.Tensor):
        if made is None or not x.requires_grad:
            return mg.tensor(x.detach().numpy())
        if id(x) not in made:
            made[id(x)] = (x, mg.tensor(x.detach().numpy(), requires_grad=True))
        return made[id(x)][1]
    if isinstance(x, torch.dtype):
        return getattr(mg, str(x).split(".")[1])
    if isinstance(x, (list, tuple)):
        return (
            type(x)(ours(v, made) for v in x) if type(x) in (list, tuple) else tuple(map(ours, x))
        )
    if isinstance(x, dict):
        return {k: ours(v, made) for k, v in x.items()}
    return x


def compare(got, expected):
    assert len(got) == len(expected)
    for g, e in zip(got, expected):
        if isinstance(e, torch.Tensor):
            assert g.dtype.name == str(e.dtype).split(".")[1]
            assert_close(as_numpy(g), as_numpy(e), rtol=1e-4, atol=1e-4, equal_nan=True)
        elif isinstance(e, (bool, int, float)):
            assert g == e


def function_of(name):
    module = F if name.startswith("nn.functional.") else mg
    return ADAPTED.get(name) or getattr(module, name.removeprefix("nn.functional."))


def floats(result):
    return [o for o in leaves(result) if getattr(o, "requires_grad", False)]


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_samples(name):
    reason = DIFFERENT.get(name) or OTHER_GRADIENTS.get(name)
    infos = [
        info for info in database().get(name, [])
        if torch.float64 in info.dtypes and info.supports_autograd
    ]  # fmt: skip
    if reason or not infos:
        pytest.skip(reason or "PyTorch has no samples of it")
    for info in infos:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for sample in list(info.sample_inputs("cpu", torch.float64, requires_grad=True))[:25]:
                made = {}
                arguments = ours((sample.input, *sample.args), made)
                options = ours(sample.kwargs, made)
                for theirs, _ in made.values():
                    theirs.grad = None  # samples share tensors
                try:
                    outs = floats(info.op(sample.input, *sample.args, **sample.kwargs))
                    rng = np.random.default_rng(0)
                    weights = [rng.uniform(0.5, 1.5, tuple(o.shape)) for o in outs]
                    for o, w in zip(outs, weights):
                        o.backward(torch.as_tensor(w), retain_graph=True)
                except (RuntimeError, ValueError, IndexError, TypeError, NotImplementedError):
                    continue
                try:
                    got = floats(function_of(name)(*arguments, **options))
                    for o, w in zip(got, weights, strict=True):
                        o.backward(mg.tensor(w), retain_graph=True)
                    for theirs, mine in made.values():
                        zero = np.zeros(mine.shape)
                        a = zero if mine.grad is None else mine.grad.numpy()
                        b = zero if theirs.grad is None else theirs.grad.numpy()
                        assert_close(a, b, rtol=1e-6, atol=1e-6, equal_nan=True)
                except Exception as error:
                    raise AssertionError(f"{name}: {sample.summary()[:800]}\n{error}") from error


@pytest.mark.parametrize("name", NAMES)
def test_samples(name):
    if name in DIFFERENT:
        pytest.skip(DIFFERENT[name])
    infos = database().get(name, [])
    if not infos:
        pytest.skip("PyTorch has no samples of it")
    function = function_of(name)
    for info in infos:
        for dtype in {torch.float32, torch.int64} & info.dtypes:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                samples = list(info.sample_inputs("cpu", dtype, requires_grad=False))[:60]
                for sample in samples:
                    try:
                        expected = info.op(sample.input, *sample.args, **sample.kwargs)
                    except (RuntimeError, ValueError, IndexError, TypeError, NotImplementedError):
                        continue
                    arguments = ours((sample.input, *sample.args))
                    try:
                        got = function(*arguments, **ours(sample.kwargs))
                        compare(leaves(got), leaves(expected))
                    except Exception as error:
                        text = f"{name}, {dtype}: {sample.summary()}"
                        raise AssertionError(f"{text[:800]}\n{error}") from error
