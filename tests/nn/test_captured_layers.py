"""Every layer inside `mg.jit`, forward and backward, against itself run eagerly, in float32."""

import copy

import numpy as np
import pytest
import test_each_layer as layers
from torch_oracle import array, draw, flat

import monograph as mg
from monograph import nn

CASES = [
    *((name, (), kwargs, (draw(2, 4, 6, 5) * 3,)) for name, kwargs in layers.ACTIVATIONS),
    *layers.LINEAR,
    *layers.CONV,
    *layers.NORM,
    *layers.POOL,
    *((name, args, kwargs, (draw(4, 2, 3),)) for name, args, kwargs in layers.RECURRENT),
    *((name, (), kwargs, inputs) for name, kwargs, inputs in layers.LOSSES),
]


def single(value):
    """An array as a float32 (or integer) tensor; other values unchanged."""
    if isinstance(value, tuple):
        return tuple(single(v) for v in value)
    if isinstance(value, np.ndarray):
        return mg.tensor(value.astype(np.float32) if value.dtype.kind == "f" else value)
    return value


def forward_and_backward(layer, inputs):
    out = flat(layer(*inputs))
    loss = sum((o * o).sum() for o in out)
    if loss.requires_grad:
        layer.zero_grad()
        loss.backward()
    return out


@pytest.mark.parametrize("name, args, kwargs, inputs", CASES)
def test_captured_layers_equal_eager_ones(name, args, kwargs, inputs):
    layer = getattr(nn, name)(*args, **{k: single(v) for k, v in kwargs.items()})
    twin = copy.deepcopy(layer)
    first, *rest = single(inputs)
    mine, other = first.clone(), first.clone()
    if first.is_floating_point():
        mine.requires_grad_(), other.requires_grad_()
    captured = mg.jit(lambda *inputs: forward_and_backward(layer, inputs))
    out = captured(mine, *rest)
    expected = forward_and_backward(twin, (other, *rest))
    pairs = [*zip(out, expected, strict=True), (mine.grad, other.grad)]
    pairs += [(a.grad, b.grad) for a, b in zip(layer.parameters(), twin.parameters())]
    pairs += zip(layer.buffers(), twin.buffers())
    for a, b in pairs:
        assert (a is None) == (b is None)
        if b is not None:
            # Sums of squares of up to some hundred float32 values, in another order.
            np.testing.assert_allclose(array(a), array(b), rtol=1e-3, atol=1e-4)
