"""PyTorch's own samples of its operators (the OpInfo database): the same calls here.

The samples that PyTorch itself rejects are left out; what differs on purpose is in DIFFERENT.
"""

import functools
import sys
import types
import unittest
import warnings

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


def ours(x):
    if isinstance(x, torch.Tensor):
        return mg.tensor(x.detach().numpy())
    if isinstance(x, torch.dtype):
        return getattr(mg, str(x).split(".")[1])
    if isinstance(x, (list, tuple)):
        return type(x)(ours(v) for v in x) if type(x) in (list, tuple) else tuple(map(ours, x))
    if isinstance(x, dict):
        return {k: ours(v) for k, v in x.items()}
    return x


def compare(got, expected):
    assert len(got) == len(expected)
    for g, e in zip(got, expected):
        if isinstance(e, torch.Tensor):
            assert g.dtype.name == str(e.dtype).split(".")[1]
            assert_close(as_numpy(g), as_numpy(e), rtol=1e-4, atol=1e-4, equal_nan=True)
        elif isinstance(e, (bool, int, float)):
            assert g == e


@pytest.mark.parametrize("name", NAMES)
def test_samples(name):
    if name in DIFFERENT:
        pytest.skip(DIFFERENT[name])
    infos = database().get(name, [])
    if not infos:
        pytest.skip("PyTorch has no samples of it")
    module = F if name.startswith("nn.functional.") else mg
    function = ADAPTED.get(name) or getattr(module, name.removeprefix("nn.functional."))
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
