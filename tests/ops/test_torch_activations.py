# ruff: noqa: B023 (functions made in a loop are called in it)
"""Activation functions against PyTorch: values, gradients, edges, messages."""

import numpy as np
import pytest

import monograph as mg
import monograph.nn.functional as F
from monograph.core.errors import ArgumentError, DTypeError, ShapeError
from monograph.testing import gradcheck, gradgradcheck, raises_message

from .torch_oracle import check, torch

X = np.array([-30.0, -5.5, -3.0, -1.0, -0.4, 0.0, 0.3, 1.0, 2.9, 3.0, 5.9, 6.0, 25.0])
CASES = {
    "relu": [{}], "relu6": [{}], "elu": [{}, {"alpha": 0.5}], "selu": [{}],
    "celu": [{}, {"alpha": 2.0}], "gelu": [{}, {"approximate": "tanh"}], "silu": [{}],
    "mish": [{}], "softplus": [{}, {"beta": 2.0, "threshold": 5.0}], "softsign": [{}],
    "hardtanh": [{}, {"min_val": -2.0, "max_val": 0.5}], "hardswish": [{}], "hardsigmoid": [{}],
    "logsigmoid": [{}], "leaky_relu": [{}, {"negative_slope": 0.2}], "sigmoid": [{}], "tanh": [{}],
    "hardshrink": [{}, {"lambd": 1.0}], "softshrink": [{}, {"lambd": 1.0}], "tanhshrink": [{}],
    "threshold": [{"threshold": 0.5, "value": -7.0}],
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("name", CASES)
def test_activation(name, dtype):
    loose = {
        np.float16: dict(rtol=4e-3, atol=4e-3), np.float32: dict(rtol=1e-5, atol=1e-5),
        np.float64: dict(rtol=1e-7, atol=1e-9),
    }[dtype]  # fmt: skip
    # PyTorch's hardswish has another slope exactly at its two corners.
    x = X[np.abs(X) != 3] if name == "hardswish" else X
    for kwargs in CASES[name]:
        check(
            getattr(F, name), getattr(torch.nn.functional, name), x.astype(dtype), **loose, **kwargs
        )


SMOOTH = ("elu", "celu", "gelu", "silu", "mish", "softplus", "softsign", "logsigmoid", "tanhshrink")


@pytest.mark.parametrize("name", SMOOTH)
def test_second_derivatives(name):
    x = mg.tensor([-2.1, -0.7, 0.4, 1.9], dtype=mg.float64, requires_grad=True)
    for kwargs in CASES[name]:
        gradcheck(lambda t: getattr(F, name)(t, **kwargs), (x,))
        gradgradcheck(lambda t: getattr(F, name)(t, **kwargs), (x,))


def test_softmax_family():
    rng = np.random.default_rng(0)
    x = rng.uniform(-3, 3, (2, 3, 4))
    for name in ("softmax", "log_softmax", "softmin"):
        ours, theirs = getattr(F, name), getattr(torch.nn.functional, name)
        for dim in (0, 1, -1):
            check(ours, theirs, x, dim=dim)
            check(ours, theirs, (x * 300).astype(np.float32), dim=dim, rtol=1e-5, atol=1e-6)
        check(ours, theirs, x.astype(np.float16), dim=-1, rtol=2e-3, atol=2e-3)
        check(ours, theirs, np.array(2.0), dim=0)
        check(ours, theirs, np.zeros((0, 3)), dim=1)
        check(ours, theirs, np.zeros((2, 0)), dim=1)
    hidden = np.array([[-np.inf, 0.0, 1.0], [-np.inf, -np.inf, -np.inf], [np.inf, 0.0, 1.0]])
    check(F.softmax, torch.nn.functional.softmax, hidden, dim=1, grad=False)
    check(F.log_softmax, torch.nn.functional.log_softmax, hidden, dim=1, grad=False)


def test_softmax_in_another_dtype():
    x = np.array([1.0, 2.0], np.float16)
    check(lambda t: F.softmax(t, 0, dtype=mg.float32),
          lambda t: torch.softmax(t, 0, dtype=torch.float32), x)  # fmt: skip
    check(lambda t: mg.softmax(t, 0, dtype=mg.float64),
          lambda t: torch.softmax(t, 0, dtype=torch.float64), np.array([1, 2]))  # fmt: skip


def test_softmax_second_derivatives():
    x = mg.tensor([[0.3, -1.0, 2.0]], dtype=mg.float64, requires_grad=True)
    for f in (F.softmax, F.log_softmax):
        gradcheck(lambda t: f(t, 1), (x,))
        gradgradcheck(lambda t: f(t, 1), (x,))


def test_glu_and_prelu():
    rng = np.random.default_rng(0)
    x = rng.uniform(-3, 3, (2, 4, 6))
    for dim in (0, 1, -1):
        check(F.glu, torch.nn.functional.glu, x, dim)
    for n in (1, 4):
        check(F.prelu, torch.nn.functional.prelu, x, rng.uniform(0, 1, n))


def test_in_place_activations_write_the_input():
    x = mg.tensor([-1.0, 2.0])
    y = F.relu(x, inplace=True)
    assert y is x and x.tolist() == [0.0, 2.0]
    check(lambda t: F.elu(t.clone(), inplace=True),
          lambda t: torch.nn.functional.elu(t.clone(), inplace=True), X)  # fmt: skip


@pytest.mark.parametrize("name", ["silu", "mish", "hardswish", "leaky_relu", "hardsigmoid"])
def test_in_place_activations_of_a_result_have_its_gradient(name):
    ours, theirs = (getattr(lib, name) for lib in (F, torch.nn.functional))
    check(lambda t: ours(t * 1.0, inplace=True), lambda t: theirs(t * 1.0, inplace=True), X)


def test_in_place_forms():
    cases = {"celu_": (), "elu_": (0.5,), "hardtanh_": (-2.0, 0.5), "leaky_relu_": (0.2,),
             "relu_": (), "selu_": (), "threshold_": (0.5, -7.0), "rrelu_": ()}  # fmt: skip
    for name, args in cases.items():
        x = mg.tensor(X)
        assert getattr(F, name)(x, *args) is x
        y = getattr(torch.nn.functional, name)(torch.from_numpy(X.copy()), *args)
        np.testing.assert_allclose(x.numpy(), y.numpy(), rtol=1e-6)


def test_rrelu_draws_its_slopes():
    mg.manual_seed(0)
    x = mg.full((1000,), -1.0, requires_grad=True)
    y = F.rrelu(x, 0.25, 0.5, training=True)
    y.sum().backward()
    assert -0.5 <= y.min().item() < -0.48 and -0.27 < y.max().item() <= -0.25
    assert mg.equal(x.grad, -y.detach())
    assert F.rrelu(mg.tensor([-8.0, 2.0]), 0.25, 0.5).tolist() == [-3.0, 2.0]
    with raises_message(ArgumentError, "rrelu: lower 1 is above upper 0.5"):
        F.rrelu(x, 1, 0.5)


def test_nan_passes_through():
    x = np.array([np.nan, 1.0], np.float32)
    for name, cases in CASES.items():
        for kwargs in cases:
            out = getattr(F, name)(mg.tensor(x), **kwargs)
            theirs = getattr(torch.nn.functional, name)(torch.from_numpy(x), **kwargs)
            if name == "softshrink":  # PyTorch's answer differs between its vector and scalar code
                continue
            assert out.isnan().tolist() == theirs.isnan().tolist(), name


def test_messages():
    with raises_message(ArgumentError, "gelu: approximate must be 'none' or 'tanh', got 'erf'"):
        F.gelu(mg.zeros(2), approximate="erf")
    with raises_message(DTypeError, """
        softmax: needs a floating dtype, got int64
          hint: convert with .float()
    """):  # fmt: skip
        F.softmax(mg.tensor([1, 2]), 0)
    with raises_message(ArgumentError, """
        softmax: dim must be given
          hint: softmax(x, dim=-1)
    """):  # fmt: skip
        F.softmax(mg.zeros(2))
    with raises_message(ShapeError, "glu: dimension -1 must be even to be halved, got 3"):
        F.glu(mg.zeros(2, 3))
    with raises_message(ShapeError, """
        prelu: weight (2,) must have one element or one for each of the 3 channels of input (4, 3)
    """):  # fmt: skip
        F.prelu(mg.zeros(4, 3), mg.zeros(2))
