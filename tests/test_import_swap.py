"""What programs for PyTorch name besides tensors and layers, after `import monograph as torch`."""

import warnings

import numpy as np
import pytest

import monograph as mg
from monograph import nn
from monograph.core.errors import ArgumentError, ArgumentTypeError, DeviceError


def test_a_device_is_chosen_without_cuda():
    device = mg.device("cuda" if mg.cuda.is_available() else "cpu")
    assert device.type == "cpu"
    assert not mg.backends.mps.is_available() and mg.cuda.device_count() == 0
    mg.cuda.manual_seed_all(0)
    mg.cuda.empty_cache()
    with pytest.raises(DeviceError, match="no CUDA device"):
        mg.cuda.get_device_name(0)


def test_switches_are_accepted(monkeypatch):
    from monograph.backends import cudnn

    monkeypatch.setattr(cudnn, "benchmark", True)
    monkeypatch.setattr(mg.backends.cuda.matmul, "allow_tf32", True)
    mg.use_deterministic_algorithms(True)
    assert mg.are_deterministic_algorithms_enabled()
    mg.set_float32_matmul_precision("high")
    assert mg.get_float32_matmul_precision() == "high"
    mg.set_float32_matmul_precision("highest")
    with pytest.raises(ArgumentError, match="'highest'"):
        mg.set_float32_matmul_precision("low")


def test_utils_data_is_the_data_package():
    from monograph.utils.data import DataLoader, Dataset
    from monograph.utils.data.dataset import Subset
    from monograph.utils.data.sampler import SequentialSampler

    assert DataLoader is mg.data.DataLoader and Dataset is mg.data.Dataset
    assert Subset is mg.data.Subset and SequentialSampler is mg.data.SequentialSampler


def test_tensors_by_their_old_names():
    assert mg.Tensor(2, 3).shape == (2, 3) and mg.Tensor(2, 3).dtype == mg.float32
    assert mg.Tensor([1, 2]).tolist() == [1.0, 2.0]
    assert mg.Tensor().shape == (0,) and mg.LongTensor(mg.Size((4,))).shape == (4,)
    x = mg.LongTensor(np.array([3, 1]))
    assert x.dtype == mg.int64 and x.tolist() == [3, 1]
    assert isinstance(x, mg.LongTensor) and not isinstance(x, mg.FloatTensor)
    assert x.type(mg.FloatTensor).dtype == x.type(mg.float32).dtype == mg.float32
    assert x.type("torch.DoubleTensor").dtype == mg.float64
    assert x.type() == "monograph.LongTensor"
    shared = np.zeros(2, np.float32)
    mg.FloatTensor(shared)[0] = 5
    assert shared[0] == 5
    with pytest.raises(ArgumentTypeError, match="expected sizes"):
        mg.Tensor(1.5)
    with pytest.raises(ArgumentTypeError, match="use .to"):
        mg.LongTensor(mg.zeros(2))
    with pytest.raises(ArgumentTypeError, match="'FloatTensor'"):
        x.type("Complex")
    leaf = mg.autograd.Variable(mg.ones(2), requires_grad=True)
    leaf.sum().backward()
    assert leaf.grad.tolist() == [1, 1]


def test_numpys_names_of_arguments():
    x = mg.arange(6.0).reshape(2, 3)
    assert x.sum(axis=1).tolist() == [3, 12]
    assert mg.mean(x, axis=0, keepdims=True).shape == (1, 3)
    assert mg.cumprod(x, axis=0)[1].tolist() == [0, 4, 10]
    assert mg.cat([x, x], axis=1).shape == (2, 6) and mg.stack([x, x], axis=2).shape == (2, 3, 2)
    with pytest.raises(TypeError):
        x.sum(dim=0, axis=1)
    with pytest.raises(TypeError):
        x.cumprod(axes=1)


def test_grad_takes_a_generator_of_inputs():
    model = nn.Linear(2, 1)
    loss = model(mg.ones(3, 2)).sum()
    weight, bias = mg.autograd.grad(loss, model.parameters(), only_inputs=True)
    assert weight.tolist() == [[3, 3]] and bias.tolist() == [3]


def test_autocast_and_a_scaler_that_are_off_change_nothing():
    model = nn.Linear(2, 1)
    optimizer = mg.optim.SGD(model.parameters(), lr=0.5)
    with pytest.warns(UserWarning, match="no GPU"):
        scaler = mg.amp.GradScaler("cuda")
    assert not scaler.is_enabled()
    with mg.amp.autocast("cpu", enabled=False):
        loss = model(mg.ones(1, 2)).sum()
    assert loss.dtype == mg.float32
    before = model.bias.item()
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert model.bias.item() == before - 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mg.amp.GradScaler(enabled=False)


def test_compile_of_a_function_and_of_a_module():
    calls = []

    @mg.compile(mode="max-autotune")
    def double(x):
        calls.append(1)
        return x * 2

    assert double(mg.ones(2)).tolist() == double(mg.ones(2)).tolist() == [2, 2]
    assert len(calls) == 1
    plain, model = nn.Linear(3, 2), nn.Linear(3, 2)
    model.load_state_dict(plain.state_dict())
    compiled = mg.compile(model)
    x = mg.ones(4, 3)
    assert list(compiled.state_dict()) == ["weight", "bias"]
    for net in (plain, compiled):
        (net(x) ** 2).sum().backward()
    np.testing.assert_allclose(model.weight.grad.numpy(), plain.weight.grad.numpy(), rtol=1e-6)
    assert mg.compile(plain, disable=True) is plain


def test_compile_runs_eagerly_what_cannot_be_captured():
    def clip(x):
        return x * 2 if x.sum() > 0 else x

    with pytest.warns(RuntimeWarning, match="runs eagerly"):
        assert mg.compile(clip)(mg.ones(2)).tolist() == [2, 2]
    with pytest.raises(mg.core.errors.TraceError):
        mg.compile(clip, fullgraph=True)(mg.ones(2))


def test_names_of_arguments_that_methods_and_functions_spell_differently():
    x = mg.arange(24.0).view(2, 3, 4)
    assert [t.shape[1] for t in x.split(split_size=2, dim=1)] == [2, 1]
    assert [t.shape[1] for t in x.split_with_sizes(split_sizes=[1, 2], dim=1)] == [1, 2]
    assert len(x.hsplit(sections=3)) == 3 and len(mg.vsplit(x, indices=[1])) == 2
    assert len(mg.tensor_split(x, tensor_indices_or_sections=2, dim=2)) == 2
    assert x.swapaxes(axis0=0, axis1=2).shape == mg.swapaxes(x, 0, axis1=2).shape == (4, 3, 2)
    assert x[0, 0].dot(tensor=x[0, 0]).item() == 14
    assert mg.isin(element=3, test_elements=x).item()
    assert mg.arctan2(input=x, other=x).shape == (2, 3, 4)
    assert mg.arcsin(mg.zeros(2), out=mg.ones(2)).tolist() == [0, 0]
    assert mg.divide(x, other=2, rounding_mode="floor")[0, 0, 3].item() == 1
