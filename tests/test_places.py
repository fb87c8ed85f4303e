"""PyTorch's paths of modules, and the names that programs take from them."""

import hashlib
import importlib
import inspect
import subprocess
import sys

import pytest

import monograph as mg
from monograph import nn, places
from monograph.core.errors import ArgumentError, FileFormatError


@pytest.mark.parametrize("path", sorted(places.PLACES))
def test_every_place_is_there_and_leaves_its_module_as_it_was(path):
    found = importlib.import_module(f"monograph.{path}")
    target = f"monograph.{places.PLACES[path]}".rstrip(".")
    module = importlib.import_module(target)
    assert found is (mg.jit if path == "jit" else module)
    assert module.__name__ == module.__spec__.name == target


@pytest.mark.parametrize("package", places.MANY)
def test_the_files_of_a_package_are_those_of_pytorch(package):
    torch = pytest.importorskip("torch", reason="its files are compared with")
    for name in places.MANY[package].split():
        theirs = importlib.import_module(f"torch.{package}.{name}")
        ours = importlib.import_module(f"monograph.{package}.{name}")
        for public in getattr(theirs, "__all__", []):
            if hasattr(getattr(mg, package.split(".")[0]), public):
                assert hasattr(ours, public), f"{package}.{name}.{public}"
    assert torch


def test_modules_are_found_as_attributes_and_bases_by_their_private_names():
    assert isinstance(nn.BatchNorm2d(2), nn.modules.batchnorm._BatchNorm)
    assert isinstance(nn.Conv2d(1, 1, 1), nn.modules.conv._ConvNd)
    assert issubclass(nn.CrossEntropyLoss, nn.modules.loss._WeightedLoss)
    with pytest.raises(AttributeError, match="no attribute 'convolutions'"):
        nn.modules.convolutions  # noqa: B018
    from monograph.nn.modules.utils import _ntuple, _pair, _reverse_repeat_tuple

    assert _pair(3) == (3, 3) and _pair([1, 2]) == (1, 2) and _ntuple(4)(0) == (0,) * 4
    assert _reverse_repeat_tuple((1, 2), 2) == (2, 2, 1, 1)


def test_importing_a_place_first_imports_what_it_needs():
    code = "from monograph.optim.adamw import AdamW; from monograph.jit import Final; print(AdamW)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "<class 'monograph.optim.adam.AdamW'>\n", done.stderr


def test_marks_of_torchscript_change_nothing():
    @mg.jit.script
    def f(x: mg.Tensor) -> mg.Tensor:
        return x * 2

    class Model(nn.Module):
        size: mg.jit.Final[int]

        @mg.jit.ignore
        def names(self):
            return ["a"]

        @mg.jit.unused
        def forward(self, x):
            return x if mg.jit.is_scripting() else f(x)

    model = mg.jit.trace(mg.jit.script(Model()), mg.ones(1))
    assert mg.jit.optimize_for_inference(mg.jit.freeze(model)) is model
    assert model(mg.ones(1)).item() == 2 and model.names() == ["a"]
    assert mg.jit.ignore(drop=True)(f) is f
    assert mg.jit(lambda x: x + 1)(mg.ones(1)).item() == 2
    with pytest.raises(ArgumentError, match="jit.save: there are no TorchScript files"):
        mg.jit.save(model, "x.pt")


def test_there_are_no_other_processes():
    assert not mg.distributed.is_available() and not mg.distributed.is_initialized()
    with pytest.raises(ArgumentError, match="distributed.init_process_group: there is one process"):
        mg.distributed.init_process_group("gloo")
    with pytest.raises(ArgumentError, match="there is one process"):
        nn.parallel.DistributedDataParallel(nn.Linear(1, 1))
    assert not isinstance(nn.Linear(1, 1), nn.parallel.DistributedDataParallel)
    assert not mg.onnx.is_in_onnx_export()


def test_shares_of_a_sampler_are_the_whole():
    from monograph.utils.data.distributed import DistributedSampler

    for drop_last in (False, True):
        parts = [DistributedSampler(range(10), 4, r, seed=3, drop_last=drop_last) for r in range(4)]
        drawn = [list(p) for p in parts]
        assert {len(d) for d in drawn} == {len(p) for p in parts} == {2 if drop_last else 3}
        seen = sum(drawn, [])
        assert len(set(seen)) == (8 if drop_last else 10)
    first = list(parts[0])
    parts[0].set_epoch(1)
    assert list(parts[0]) != first
    assert list(DistributedSampler(range(1), 3, 2)) == [0]
    with pytest.raises(ArgumentError, match="needs num_replicas and rank"):
        DistributedSampler(range(3))


def test_weights_are_downloaded_once_and_compared_with_their_hash(tmp_path, monkeypatch):
    monkeypatch.setenv("MONOGRAPH_HOME", str(tmp_path / "home"))
    source = tmp_path / "w.safetensors"
    mg.save({"w": mg.ones(2)}, source)
    digits = hashlib.sha256(source.read_bytes()).hexdigest()[:8]
    named = source.rename(tmp_path / f"w-{digits}.safetensors")
    load = mg.hub.load_state_dict_from_url
    found = load(named.as_uri(), progress=False, check_hash=True)
    assert found["w"].tolist() == [1, 1]
    named.write_bytes(b"other")
    assert load(named.as_uri(), progress=False)["w"].tolist() == [1, 1]  # not fetched again
    wrong = named.rename(tmp_path / "v-00000000.safetensors")
    with pytest.raises(FileFormatError, match="not with 00000000"):
        load(wrong.as_uri(), progress=False, check_hash=True)
    kept = tmp_path / "home" / "hub" / "checkpoints"
    assert [p.name for p in kept.iterdir()] == [f"w-{digits}.safetensors"]


def test_old_names_warn():
    with pytest.warns(FutureWarning, match="old name of nn.init.xavier_normal_"):
        nn.init.xavier_normal(mg.empty(2, 2))
    layer = nn.Linear(2, 2)
    with pytest.warns(FutureWarning, match="old name of clip_grad_norm_"):
        nn.utils.clip_grad_norm(layer.parameters(), 1.0)
    assert nn.init._calculate_fan_in_and_fan_out(mg.empty(3, 2, 5)) == (10, 15)
    assert inspect.isfunction(nn.init._no_grad_trunc_normal_)
