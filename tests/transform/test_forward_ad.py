"""Dual numbers: tangents against PyTorch's, and under the other transforms."""

import numpy as np
import pytest

import monograph as mg
from monograph.autograd import forward_ad
from monograph.core.errors import GradError

X, WAY = np.array([0.5, -1.0, 2.0]), np.array([1.0, 2.0, -1.0])


def forward(m, ad):
    x, way = m.tensor(X), m.tensor(WAY)
    with ad.dual_level():
        dual = ad.make_dual(x, way)
        y = m.sin(dual) * dual.sum()
        changed = dual.clone()
        changed.mul_(dual)
        parts = ad.unpack_dual(y), ad.unpack_dual(dual), ad.unpack_dual(changed)
        assert ad.unpack_dual(x).tangent is None
    assert ad.unpack_dual(y).tangent is None
    return [p for pair in parts for p in pair]


def reverse_over_forward(m, ad):
    x, way = m.tensor(X).requires_grad_(), m.tensor(WAY).requires_grad_()
    with ad.dual_level():
        dual = ad.make_dual(x, way)
        slope = ad.unpack_dual(m.sin(dual) * dual.sum()).tangent
    (slope**2).sum().backward()
    return [slope, x.grad, way.grad]


def without_gradients(m, ad):
    with m.no_grad(), ad.dual_level():
        return list(ad.unpack_dual(ad.make_dual(m.tensor(X), m.tensor(WAY)) ** 3))


def of_parameters(m, ad):
    layer = m.nn.Linear(3, 2).double()
    with m.no_grad():
        layer.weight.copy_(m.arange(6).reshape(2, 3) / 5)
        layer.bias.fill_(0.3)
    with ad.dual_level():
        for name, p in dict(layer.named_parameters()).items():
            delattr(layer, name)
            setattr(layer, name, ad.make_dual(p, m.ones_like(p)))
        return list(ad.unpack_dual(layer(m.tensor(X))))


@pytest.mark.parametrize(
    "program", [forward, reverse_over_forward, without_gradients, of_parameters]
)
def test_equals_torch(program):
    torch = pytest.importorskip("torch", reason="compared with PyTorch")
    from torch.autograd import forward_ad as theirs

    got, expected = program(mg, forward_ad), program(torch, theirs)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-12)
        assert b.requires_grad or not a.requires_grad


def slope(x, way):
    with forward_ad.dual_level():
        return forward_ad.unpack_dual((forward_ad.make_dual(x, way) ** 3).sum()).tangent


def test_captured_and_batched():
    x, way = mg.tensor(X), mg.tensor(WAY)
    assert mg.allclose(slope(x, way), (3 * x * x * way).sum())
    assert mg.allclose(mg.jit(slope)(x, way), slope(x, way))
    both = mg.vmap(slope, (None, 0))(x, mg.stack([way, 2 * way]))
    assert mg.allclose(both, mg.stack([slope(x, way), 2 * slope(x, way)]))


def test_what_it_refuses():
    x = mg.tensor(X)
    with pytest.raises(GradError, match="make_dual: no level is entered"):
        forward_ad.make_dual(x, x)
    with forward_ad.dual_level():
        with pytest.raises(GradError, match="one is entered already"):
            forward_ad.enter_dual_level()
        with pytest.raises(ValueError, match=r"must be float64\(3,\) as the tensor, got float32"):
            forward_ad.make_dual(x, x.float())
        with pytest.raises(TypeError, match="tangent must be a tensor, got float"):
            forward_ad.make_dual(x, 1.0)
    with pytest.raises(GradError, match="no such level"):
        forward_ad.exit_dual_level()
