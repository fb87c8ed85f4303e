"""The device "meta": shapes and dtypes without elements."""

import copy

import pytest

import monograph as mg
from monograph import nn
from monograph.core.errors import DeviceError, ShapeError

META = mg.device("meta")


def net():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10)
    )


def test_creation_gives_shapes_and_takes_no_memory():
    x = mg.zeros(1_000_000, 1_000_000, device="meta")
    assert x.device == META and x.is_meta and x.shape == (1_000_000, 1_000_000)
    assert mg.randn(3, 4, device=META, dtype=mg.float64).dtype is mg.float64
    assert mg.arange(2, 9, 3, device="meta").shape == (3,)
    assert mg.ones_like(x).is_meta and mg.tensor([1, 2], device="meta").dtype is mg.int64
    assert not mg.zeros(2).is_meta and mg.zeros(2).device == mg.device("cpu")
    assert repr(mg.ones(2, device="meta")) == "tensor(..., device='meta', size=(2,))"


def test_random_creation_draws_nothing():
    mg.manual_seed(0)
    mg.randn(5, device="meta")
    after = mg.rand(3)
    mg.manual_seed(0)
    assert mg.equal(mg.rand(3), after)


def test_operations_infer_shapes_and_check_them():
    x, w = mg.zeros(4, 3, device="meta"), mg.ones(3, 5)
    y = (x @ w.to("meta")).relu().sum(0)
    assert y.is_meta and y.shape == (5,) and (x > 0).dtype is mg.bool
    assert x[:, 1].shape == (4,) and x.t().shape == (3, 4)
    with pytest.raises(ShapeError):
        x @ x
    x.add_(1.0)
    assert x.is_meta


def test_elements_cannot_be_read():
    x = mg.zeros(2, device="meta")
    for read in (x.tolist, x.numpy, lambda: x.to("cpu"), lambda: mg.zeros(2).copy_(x)):
        with pytest.raises(DeviceError, match="has no elements"):
            read()
    with pytest.raises(DeviceError, match="not available"):
        x.to("cuda")


def test_a_module_made_there_is_filled_later():
    with mg.device("meta"):
        model = net()
        assert mg.get_default_device() == META
    assert mg.get_default_device() == mg.device("cpu")
    assert all(p.is_meta and p.requires_grad for p in model.parameters())
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in net().parameters())
    assert model(mg.zeros(2, 3, 8, 8, device="meta")).shape == (2, 10)
    source = net()
    model.to_empty(device="cpu").load_state_dict(source.state_dict())
    x = mg.randn(2, 3, 8, 8)
    assert mg.equal(model.eval()(x), source.eval()(x))
    other = net().to("meta")
    other.load_state_dict(source.state_dict(), assign=True)
    assert mg.equal(other.eval()(x), source(x))


def test_an_ensemble_by_functional_call():
    models = [nn.Linear(3, 2) for _ in range(4)]
    params, buffers = mg.func.stack_module_state(models)
    base = copy.deepcopy(models[0]).to("meta")

    def call(params, buffers, x):
        return mg.func.functional_call(base, (params, buffers), (x,))

    x = mg.randn(5, 3)
    out = mg.func.vmap(call, in_dims=(0, 0, None))(params, buffers, x)
    assert mg.allclose(out, mg.stack([m(x) for m in models]), atol=1e-6)
    assert all(p.is_meta for p in copy.deepcopy(base).parameters())


def test_gradients_have_shapes():
    model = net().to("meta")
    model(mg.zeros(2, 3, 8, 8, device="meta")).sum().backward()
    assert all(p.grad.is_meta and p.grad.shape == p.shape for p in model.parameters())


def test_the_default_device():
    mg.set_default_device("meta")
    try:
        assert mg.rand(2).is_meta and not mg.rand(2, device="cpu").is_meta
    finally:
        mg.set_default_device(None)
    with pytest.raises(DeviceError, match="not available"):
        mg.set_default_device("cuda")
