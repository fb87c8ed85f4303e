"""Parametrized layers beside PyTorch's: values, gradients, state dicts; copies, removal, jit."""

import copy
import pickle

import numpy as np
import pytest

import monograph as mg
from monograph import nn
from monograph.nn.utils import parametrizations, parametrize

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests")

LAYERS = {
    "tall": (lambda lib: lib.Linear(6, 9), (4, 6)),
    "wide": (lambda lib: lib.Linear(6, 3), (4, 6)),
    "square": (lambda lib: lib.Linear(6, 6), (4, 6)),
    "conv": (lambda lib: lib.Conv2d(6, 4, 3), (2, 6, 5, 5)),
    "transposed": (lambda lib: lib.ConvTranspose2d(6, 4, 3), (2, 6, 5, 5)),
}
CASES = [
    (kind, layer, options)
    for layer in LAYERS
    for kind, options in (
        ("weight_norm", {}), ("weight_norm", {"dim": None}), ("weight_norm", {"dim": 1}),
        ("spectral_norm", {}), ("spectral_norm", {"n_power_iterations": 3}),
    )
] + [
    ("orthogonal", layer, {"orthogonal_map": way})
    for layer in ("tall", "wide", "square")
    for way in (None, "matrix_exp", "cayley", "householder")
] + [
    ("orthogonal", layer, {"orthogonal_map": "householder", "use_trivialization": False})
    for layer in ("tall", "wide", "square")
]  # fmt: skip


@pytest.mark.parametrize("kind, layer, options", CASES)
def test_parametrized_layers_equal_torchs(kind, layer, options):
    mg.manual_seed(0)
    make, shape = LAYERS[layer]
    mine, theirs = make(nn).double(), make(torch.nn).double()
    theirs.load_state_dict({k: torch.tensor(v.numpy()) for k, v in mine.state_dict().items()})
    before = mine.weight.detach().clone()
    getattr(parametrizations, kind)(mine, **options)
    getattr(torch.nn.utils.parametrizations, kind)(theirs, **options)
    if kind == "weight_norm":
        np.testing.assert_allclose(mine.weight.detach().numpy(), before.numpy(), rtol=1e-12)
    expected = {k: tuple(v.shape) for k, v in theirs.state_dict().items()}
    assert {k: tuple(v.shape) for k, v in mine.state_dict().items()} == expected
    assert list(mine.state_dict()) == list(expected)
    state = {k: mg.tensor(v.detach().numpy().copy()) for k, v in theirs.state_dict().items()}
    mine.load_state_dict(state)
    x = np.random.default_rng(0).standard_normal(shape)
    for _ in range(3):
        a, b = mine(mg.tensor(x)), theirs(torch.tensor(x))
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-9, atol=1e-12)
    (a * a).sum().backward()
    (b * b).sum().backward()
    for (name, p), (other, q) in zip(mine.named_parameters(), theirs.named_parameters()):
        assert name == other
        np.testing.assert_allclose(
            p.grad.numpy(), q.grad.numpy(), rtol=1e-7, atol=1e-9, err_msg=name
        )
    mine.eval()
    theirs.eval()
    expected = theirs(torch.tensor(x)).detach().numpy()
    for way in (mine, copy.deepcopy(mine), pickle.loads(pickle.dumps(mine))):
        assert type(way).__name__ == type(theirs).__name__
        np.testing.assert_allclose(way(mg.tensor(x)).detach().numpy(), expected, rtol=1e-9)
    parametrize.remove_parametrizations(mine, "weight")
    assert set(mine.state_dict()) == {"weight", "bias"} and type(mine) is type(make(nn))
    np.testing.assert_allclose(mine(mg.tensor(x)).detach().numpy(), expected, rtol=1e-9)


class Symmetric(nn.Module):
    def forward(self, x):
        return x.triu() + x.triu(1).T

    def right_inverse(self, x):
        return x.triu()


class Twice(nn.Module):
    def forward(self, x):
        return x * 2


def test_own_parametrizations_in_a_row():
    layer = nn.Linear(3, 3)
    weight = layer.weight
    parametrize.register_parametrization(layer, "weight", Symmetric())
    parametrize.register_parametrization(layer, "weight", Twice())
    assert parametrize.is_parametrized(layer, "weight") and not parametrize.is_parametrized(
        layer, "bias"
    )
    assert layer.parametrizations.weight.original is weight  # optimizers keep what they know
    assert repr(type(layer)).endswith("ParametrizedLinear'>")
    assert parametrize.type_before_parametrizations(layer) is nn.Linear
    w = layer.weight
    assert (w == w.T).all()
    with parametrize.cached():
        assert layer.weight is layer.weight
    assert layer.weight is not layer.weight
    with pytest.raises(TypeError, match="Twice has no right_inverse"):
        layer.weight = mg.eye(3)
    kept = layer.weight.detach().clone()
    parametrize.remove_parametrizations(layer, "weight")
    assert layer.weight is weight and (layer.weight == kept).all()


def test_a_value_can_be_assigned_through_the_right_inverse():
    layer = nn.Linear(3, 3)
    parametrize.register_parametrization(layer, "weight", Symmetric())
    wanted = mg.tensor([[1.0, 2, 3], [2, 4, 5], [3, 5, 6]])
    layer.weight = wanted
    assert (layer.weight == wanted).all()


def test_a_parametrized_layer_is_trained_by_a_captured_step():
    def train(jit):
        mg.manual_seed(0)
        net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1))
        parametrizations.weight_norm(net[0])
        parametrizations.spectral_norm(net[2])
        optimizer = mg.optim.SGD(net.parameters(), lr=0.1)
        x, y = mg.randn(16, 5), mg.randn(16, 1)

        def step():
            loss = ((net(x) - y) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        step = mg.jit(step) if jit else step
        return [step().item() for _ in range(8)]

    captured, eager = train(True), train(False)
    np.testing.assert_allclose(captured, eager, rtol=1e-4)
    assert eager[-1] < eager[0]


def test_bad_parametrizations_are_explained():
    layer = nn.Linear(2, 3)
    with pytest.raises(ValueError, match="Linear has no parameter or buffer 'weights'"):
        parametrize.register_parametrization(layer, "weights", Twice())

    class Sum(nn.Module):
        def forward(self, x):
            return x.sum()

    with pytest.raises(ValueError, match=r"gave float32 of shape \(\); the tensor is float32 of"):
        parametrize.register_parametrization(layer, "weight", Sum())
    assert type(layer) is nn.Linear and list(layer.state_dict()) == ["weight", "bias"]
