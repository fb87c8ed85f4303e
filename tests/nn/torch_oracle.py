"""Compare a layer with PyTorch's of the same name: repr, state dict, output, gradients, buffers."""

import numpy as np
import pytest

import monograph as mg
from monograph import nn
from monograph.core.errors import render

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests")

# float64: both sides round differently only in the last digits.
TIGHT = {"rtol": 1e-9, "atol": 1e-10}


def array(tensor):
    """A tensor of either side as a NumPy array."""
    return np.asarray(tensor.detach().numpy())


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def ours(value):
    """An array (or a nest of arrays, None, numbers) as Monograph tensors."""
    return _tensors(value, mg.tensor)


def theirs(value):
    return _tensors(value, torch.tensor)


def _tensors(value, make):
    if isinstance(value, np.ndarray):
        tensor = make(value)
        return tensor.requires_grad_() if value.dtype.kind == "f" else tensor
    if isinstance(value, (tuple, list)):
        return type(value)(_tensors(v, make) for v in value)
    return value


def flat(value):
    if isinstance(value, (tuple, list)):
        return [leaf for v in value for leaf in flat(v)]
    return [] if value is None else [value]


def twins(name, *args, **kwargs):
    """(our layer, PyTorch's) with equal weights, both float64."""
    torch.manual_seed(0)
    arrays = {k: v for k, v in kwargs.items() if isinstance(v, np.ndarray)}
    other = getattr(torch.nn, name)(
        *args, **{**kwargs, **{k: torch.tensor(v) for k, v in arrays.items()}}
    ).double()
    layer = getattr(nn, name)(
        *args, **{**kwargs, **{k: mg.tensor(v) for k, v in arrays.items()}}
    ).double()
    copy_weights(other, layer)
    return layer, other


def copy_weights(other, layer):
    state = {k: mg.tensor(array(v)) for k, v in other.state_dict().items()}
    assert list(layer.state_dict()) == list(state)
    layer.load_state_dict(state)


def check_same_result(layer, other, inputs, kwargs=None, tolerance=None):
    """Equal outputs, gradients of all floating inputs and of all parameters, and buffers."""
    tolerance = tolerance or TIGHT
    mine, reference = ours(inputs), theirs(inputs)
    kwargs = kwargs or {}
    out = flat(layer(*mine, **converted(kwargs, ours)))
    expected = flat(other(*reference, **converted(kwargs, theirs)))
    assert len(out) == len(expected)
    loss, expected_loss = 0, 0
    for i, (a, b) in enumerate(zip(out, expected)):
        assert tuple(a.shape) == tuple(b.shape)
        np.testing.assert_allclose(array(a), array(b), **tolerance)
        if b.requires_grad:
            weight = draw(*b.shape, seed=100 + i)
            loss = loss + (a * mg.tensor(weight)).sum()
            expected_loss = expected_loss + (b * torch.tensor(weight)).sum()
    if isinstance(expected_loss, torch.Tensor):
        loss.backward()
        expected_loss.backward()
    for a, b in zip(flat(mine), flat(reference)):
        if getattr(b, "grad", None) is not None:
            np.testing.assert_allclose(array(a.grad), array(b.grad), **tolerance)
    for (key, a), (_, b) in zip(layer.named_parameters(), other.named_parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), key
        if b.grad is not None:
            np.testing.assert_allclose(array(a.grad), array(b.grad), err_msg=key, **tolerance)
    for (key, a), (_, b) in zip(layer.named_buffers(), other.named_buffers(), strict=True):
        np.testing.assert_allclose(array(a), array(b), err_msg=key, **tolerance)


def converted(kwargs, convert):
    return {k: convert(v) for k, v in kwargs.items()}


def check_same(name, args, kwargs, inputs, call=None, tolerance=None):
    """Build both layers and compare everything about them."""
    layer, other = twins(name, *args, **kwargs)
    assert repr(layer) == repr(other)
    check_same_result(layer, other, inputs, call, tolerance)
    layer.eval(), other.eval()
    layer.zero_grad(), other.zero_grad()
    check_same_result(layer, other, inputs, call, tolerance)


def message(function, *args, **kwargs):
    """What Python prints for the error that a call raises, without the place of the call."""
    with pytest.raises(Exception) as caught:  # noqa: B017 - the text is compared in full
        function(*args, **kwargs)
    lines = render(caught.value).splitlines()
    return "\n".join(line for line in lines if not line.startswith("  at "))
