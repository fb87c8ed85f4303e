"""Names that programs touch around tensors and layers: devices, questions, settings, old forms."""

import struct

import numpy as np
import pytest

import monograph as mg
from monograph import nn
from monograph.core.errors import ArgumentError, DeviceError, GradError, ShapeError


def test_questions_about_devices_are_answered():
    assert not mg.accelerator.is_available() and mg.accelerator.current_accelerator() is None
    assert mg.accelerator.device_count() == mg.cuda.memory_allocated() == mg.mps.device_count() == 0
    assert mg.cpu.is_available() and mg.get_device_module("cpu") is mg.cpu
    assert mg.backends.cpu.get_cpu_capability() in ("AVX512", "AVX2", "DEFAULT")
    assert not mg.backends.mkl.is_available() and mg.backends.cuda.flash_sdp_enabled()
    for call in (mg.ones(1).cuda, mg.cuda.Stream, mg.accelerator.current_device_index):
        with pytest.raises(DeviceError, match="available"):
            call()
    x = mg.ones(1)
    assert not (x.is_cuda or x.is_quantized or x.is_mps or x.is_pinned() or x.is_shared())
    assert x.pin_memory() is x and x.layout is mg.strided and x.output_nr == 0


def test_shapes_are_changed_in_place():
    x = mg.arange(6).reshape(2, 3).clone()
    assert x.t_() is x and x.tolist() == [[0, 3], [1, 4], [2, 5]]
    assert x.unsqueeze_(0).shape == (1, 3, 2) and x.squeeze_(0).transpose_(0, 1).shape == (2, 3)
    assert x.resize_(2, 2).tolist() == [[0, 1], [2, 3]]
    assert x.resize_(5).tolist() == [0, 1, 2, 3, 0]
    assert x.resize_as_(mg.zeros(1, 2)).tolist() == [[0, 1]]
    y = mg.ones(3)
    y.set_(x)
    y[0, 1] = 9
    assert x.tolist() == [[0, 9]]
    w = mg.ones(2, 3, requires_grad=True)
    out = w * 2
    out.t_()
    (out * mg.tensor([1.0, 10.0])).sum().backward()
    assert w.grad.tolist() == [[2] * 3, [20] * 3]
    with pytest.raises(GradError):
        w.t_()


def test_elements_by_python_functions():
    x = mg.tensor([1.0, 2.0])
    assert x.apply_(lambda v: v + 1).tolist() == [2, 3]
    assert x.map_(mg.tensor([10.0]), lambda a, b: a * b).tolist() == [20, 30]


def test_memory_of_others(tmp_path):
    buffer = bytearray(struct.pack("<3h", 1, -2, 3))
    x = mg.frombuffer(buffer, dtype=mg.int16, offset=2)
    x[0] = 7
    assert x.tolist() == [7, 3] and struct.unpack("<3h", buffer) == (1, 7, 3)
    path = tmp_path / "numbers"
    made = mg.from_file(path, shared=True, size=4)
    made.copy_(mg.arange(4.0))
    assert np.fromfile(path, np.float32).tolist() == [0, 1, 2, 3]
    assert mg.from_file(path, size=2).tolist() == [0, 1]


def test_settings_and_old_forms():
    assert mg.range(1, 2, 0.5).tolist() == [1, 1.5, 2]
    assert mg.typename(mg.zeros(1)) == "monograph.FloatTensor" and mg.typename(3) == "builtins.int"
    assert mg.is_nonzero(mg.tensor(2)) and mg.is_signed(mg.zeros(1)) and not mg.is_storage(3)
    with pytest.raises(ShapeError):
        mg.is_nonzero(mg.zeros(2))
    mg.set_default_tensor_type("torch.DoubleTensor")
    try:
        assert mg.ones(1).dtype is mg.float64
    finally:
        mg.set_default_tensor_type(mg.FloatTensor)
    with pytest.raises(ArgumentError):
        mg.set_default_tensor_type("torch.Nothing")
    mg.set_anomaly_enabled(True)
    assert mg.is_anomaly_enabled()
    mg.set_anomaly_enabled(False)
    assert mg.get_num_interop_threads() == 1
    assert mg.zeros(2).new([3, 4]).dtype is mg.float32


def test_layers_for_several_devices():
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))
    x = mg.randn(4, 2, 5, 5)
    wanted = model.eval()(x)
    synced = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert type(synced[1]) is nn.SyncBatchNorm and mg.equal(synced(x), wanted)
    parallel = nn.DataParallel(model)
    assert mg.equal(parallel(x), wanted) and next(iter(parallel.state_dict())) == "module.0.weight"
    from monograph.nn.attention import SDPBackend, sdpa_kernel
    from monograph.nn.modules import Conv2d

    assert Conv2d is nn.Conv2d
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION]):
        pass


def test_compiler_questions():
    seen = []
    mg.jit(lambda x: seen.append(mg.compiler.is_compiling()) or x + 1)(mg.ones(2))
    assert seen == [True] and not mg.compiler.is_compiling()
    f = mg.compiler.disable(lambda x: x)
    assert f(3) == 3 and mg.compiler.list_backends() == ["monograph"]


def test_summary_writer(tmp_path):
    from monograph.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path) as writer:
        writer.add_scalar("loss", mg.tensor(0.25), 3)
        writer.add_scalars("rates", {"a": 1.0, "b": 2}, 3)
        writer.add_histogram("weights", mg.randn(50), 3)
        writer.add_image("digit", mg.rand(1, 8, 8), 3)
        writer.add_images("digits", mg.rand(3, 1, 8, 8), 3)
        writer.add_text("note", "hello", 3)
        writer.add_hparams({"lr": 0.1}, {"accuracy": 0.9})
        writer.flush()
    files = list(tmp_path.glob("events.out.tfevents.*"))
    assert len(files) == 1 and len(list(tmp_path.glob("rates_*/events*"))) == 2
    content = files[0].read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    assert b"brain.Event:2" in content[12 : 12 + length]
    at = content.index(b"loss") + 4
    assert content[at] == 0x15 and struct.unpack("<f", content[at + 1 : at + 5])[0] == 0.25
    for tag in (b"weights", b"digit", b"note", b"hello", b"accuracy"):
        assert tag in content


def _touch(i, path):
    with open(f"{path}/{i}", "w") as file:
        file.write("x")


def test_processes(tmp_path):
    mg.multiprocessing.spawn(_touch, (str(tmp_path),), nprocs=2, start_method="fork")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0", "1"]
    assert "file_system" in mg.multiprocessing.get_all_sharing_strategies()
    assert mg.multiprocessing.cpu_count() > 0


def test_forms_of_functions_as_methods_and_in_place():
    x = mg.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert x.polygamma(1).tolist() == mg.polygamma(1, x).tolist()
    assert x.clone().polygamma_(1).tolist() == x.polygamma(1).tolist()
    assert x.clone().mvlgamma_(1).tolist() == mg.mvlgamma(x, 1).tolist()
    assert x.hardshrink(1.5).tolist() == [[0.0, 2.0], [3.0, 4.0]]
    assert x.clone().index_reduce_(0, mg.tensor([1]), x[:1], "prod").tolist() == [[1, 2], [3, 8]]
    y = x.clone()
    assert y.as_strided_((3,), (1,)) is y and y.tolist() == [1.0, 2.0, 3.0]
    assert mg.qr(x[:, :1], some=False).Q.shape == (2, 2)


def test_dropout_in_place_and_of_features():
    for name in ("dropout_", "alpha_dropout_", "feature_dropout_", "feature_alpha_dropout_"):
        x = mg.ones(20, 30, 2)
        made = getattr(mg, name)(x, 0.5, True)
        assert made is x and x.unique().numel() == 2
        if name.startswith("feature"):
            assert (x[..., 0] == x[..., 1]).all()
        assert (getattr(mg, name)(mg.ones(3, 3), 0.5, False) == 1).all()
    assert set(mg.feature_dropout(mg.ones(9, 9, 2), 0.5, True).unique().tolist()) == {0.0, 2.0}
    with pytest.raises(ShapeError, match="at least 2"):
        mg.feature_dropout(mg.ones(3), 0.5, True)
