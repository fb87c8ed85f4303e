"""Checkpoints of PyTorch and arrays of NumPy: what is read, what is refused, and damaged files."""

import io
import json
import os
import pickle
import random
import resource
import sys
import time
import zipfile
from collections import Counter, OrderedDict

import numpy as np
import pytest

import monograph as mg
from monograph.core.errors import FileFormatError, MonographError

torch = pytest.importorskip("torch", reason="PyTorch writes the files of these tests")


def saved(path, obj):
    torch.save(obj, path)
    return mg.load(path)


def test_a_whole_checkpoint_is_read(tmp_path):
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    other = torch.optim.Adam(theirs.parameters())
    theirs(torch.randn(5, 3)).sum().backward()
    other.step()
    found = saved(
        tmp_path / "c.pt",
        {"model": theirs.state_dict(), "optimizer": other.state_dict(), "epoch": 3},
    )
    assert found["epoch"] == 3
    mine = mg.nn.Sequential(mg.nn.Linear(3, 4), mg.nn.BatchNorm1d(4))
    mine.load_state_dict(found["model"])
    for key, value in theirs.state_dict().items():
        np.testing.assert_array_equal(mine.state_dict()[key].numpy(), value.numpy())
    optimizer = mg.optim.Adam(mine.parameters())
    optimizer.load_state_dict(found["optimizer"])
    np.testing.assert_array_equal(
        optimizer.state_dict()["state"][0]["exp_avg"].numpy(),
        other.state_dict()["state"][0]["exp_avg"].numpy(),
    )


DTYPES = [
    "float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8",
    "uint16", "uint32", "uint64", "bool",
]  # fmt: skip


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_comes_over(tmp_path, name):
    x = torch.tensor([0, 1, 1, 0]).to(getattr(torch, name))
    made = saved(tmp_path / "x.pt", x)
    assert made.dtype is getattr(mg, name) and made.tolist() == x.tolist()


def test_views_containers_and_parameters(tmp_path):
    base = torch.arange(6.0)
    obj = {
        "view": base.reshape(2, 3).t(), "part": base[2:4], "base": base,
        "parameter": torch.nn.Parameter(torch.ones(2)), "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(2.5), "repeated": torch.ones(1).expand(4),
        "list": [1, 2.5, None, True, "x", b"abc", 10**30], "tuple": (1, (2, 3)), "set": {1, 2},
        "ordered": OrderedDict(a=1), "counter": Counter("aab"), "size": torch.Size([1, 2]),
        "dtype": torch.float16, "device": torch.device("cpu"), 5: "number",
    }  # fmt: skip
    found = saved(tmp_path / "c.pt", obj)
    for key in ("view", "part", "base", "parameter", "empty", "scalar", "repeated"):
        assert tuple(found[key].shape) == tuple(obj[key].shape)
        assert found[key].tolist() == obj[key].tolist()
    for key in ("list", "tuple", "set", "ordered", "counter", 5):
        assert found[key] == obj[key]
    assert found["size"] == (1, 2) and found["dtype"] is mg.float16 and found["device"] == "cpu"
    found["base"][2] = 50.0  # they share their storage, as in PyTorch
    assert found["part"].tolist() == [50, 3] and found["view"][2, 0].item() == 50


class Evil:
    def __reduce__(self):
        return os.system, (f"touch {Evil.target}",)


def test_nothing_in_a_file_is_run(tmp_path):
    Evil.target = tmp_path / "ran"
    path = tmp_path / "evil.pt"
    torch.save({"a": torch.ones(2), "b": Evil()}, path)
    with pytest.raises(FileFormatError) as caught:
        mg.load(path)
    assert caught.value.message == (
        "evil.pt: the checkpoint holds 'posix.system', which is not loaded"
    )
    assert not Evil.target.exists()


@pytest.mark.parametrize(
    "obj, name",
    [
        (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        (print, "__builtin__.print"),
        ({"x": np.float32(3)}, "numpy._core.multiarray.scalar"),
        (torch.ones(2).to_sparse(), "torch._utils._rebuild_sparse_tensor"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_everything_else_is_refused_by_name(tmp_path, obj, name):
    with pytest.raises(FileFormatError, match=f"holds '{name}', which is not loaded"):
        saved(tmp_path / "x.pt", obj)


def rewritten(source, target, **changed):
    """A zip like `source` with the contents of some members (by the end of their name) changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            for end, content in changed.items():
                if info.filename.endswith("/" + end.replace("__", "/").replace("_pkl", ".pkl")):
                    data = content
            new.writestr(info.filename, data)
    return target


def test_names_that_only_look_harmless_are_refused(tmp_path):
    good = tmp_path / "good.pt"
    torch.save({"a": torch.ones(2)}, good)
    calls = [
        b"\x80\x02ctorch\nFloatStorage\n)R.",  # a class that is called
        b"\x80\x02ctorch\nload\nX\x01\x00\x00\x00a\x85R.",
        b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R.",
        b"\x80\x04\x8c\x08builtins\x8c\x04exec\x93\x8c\x011\x85R.",
        b"\x80\x02ccollections\nOrderedDict\n.",  # a function as the result
        b"\x80\x02ccollections\nOrderedDict\n}b.",  # attributes of a function
        b"\x80\x02ccollections\nOrderedDict\n)\x81.",  # NEWOBJ
        b"\x80\x02(c__main__\nEvil\no.",  # OBJ
        b"\x80\x02(i__main__\nEvil\n.",  # INST
        b"\x80\x02\x82\x01.",  # EXT1
    ]
    for call in calls:
        bad = rewritten(good, tmp_path / "bad.pt", data_pkl=call)
        with pytest.raises(FileFormatError):
            mg.load(bad)


def test_tensors_that_do_not_fit_their_storage_are_refused(tmp_path):
    good = tmp_path / "good.pt"
    torch.save({"a": torch.ones(2)}, good)
    with pytest.raises(FileFormatError, match="storage 0 has 4 bytes; 2 elements of float32"):
        mg.load(rewritten(good, tmp_path / "bad.pt", data__0=b"1234"))
    for size, stride, offset in (((3,), (1,), 0), ((2,), (2,), 0), ((2,), (1,), 1), ((1,), (1,), 2),
                                 ((1 << 61,), (0,), 0), ((1 << 40,), (0,), 0), ((-1,), (1,), 0),
                                 ((2,), (-1,), 1), ((2, 2), (1,), 0)):  # fmt: skip
        text = io.BytesIO()

        class Pickler(pickle.Pickler):
            def persistent_id(self, x):
                return ("storage", torch.FloatStorage, "0", "cpu", 2) if x == "STORAGE" else None

        class Tensor:
            def __reduce__(self, args=("STORAGE", offset, size, stride, False, OrderedDict())):
                return torch._utils._rebuild_tensor_v2, args

        Pickler(text, 2).dump({"a": Tensor()})
        with pytest.raises(FileFormatError):
            mg.load(rewritten(good, tmp_path / "bad.pt", data_pkl=text.getvalue()))


def test_arrays_of_numpy(tmp_path):
    arrays = {
        "a": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "b": np.arange(3, dtype=">i4"),
        "c": np.ones((), np.float16), "d": np.zeros((0, 2), bool),
    }  # fmt: skip
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "x.npz", **arrays)
        found = mg.load(tmp_path / "x.npz")
        assert found.keys() == arrays.keys()
        for key, value in arrays.items():
            assert found[key].tolist() == value.tolist()
            assert found[key].dtype.numpy == value.dtype.newbyteorder("=")
    np.save(tmp_path / "x.npy", arrays["a"])
    assert mg.load(tmp_path / "x.npy").tolist() == arrays["a"].tolist()
    np.savez(tmp_path / "o.npz", a=np.array([{}], object))
    with pytest.raises(FileFormatError, match=r"a.npy is an array of object, which is not loaded"):
        mg.load(tmp_path / "o.npz")


def test_an_array_that_claims_more_than_it_has_takes_no_memory(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.zeros(1 << 4))
    text = path.read_bytes().replace(b"(16,)", b"(1<<40,)")
    path.write_bytes(text)
    with pytest.raises(FileFormatError):
        mg.load(path)
    path.write_bytes(text.replace(b"(1<<40,), }     ", b"(9999999999999,)}"))
    with pytest.raises(FileFormatError):
        mg.load(path)


def mutated(data, rng):
    """`data` with random damage: bytes, runs, cuts, lengths, parts doubled or exchanged."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5])):
        kind, at = rng.randrange(8), rng.randrange(len(data))
        if kind <= 1:
            data[at] = rng.randrange(256)
        elif kind == 2:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 3:
            del data[at:]
        elif kind == 4:
            del data[at : at + rng.randrange(1, 40)]
        elif kind == 5:
            data[at : at + 8] = rng.choice([b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 7])
        elif kind == 6:
            data[at:at] = data[at : at + rng.randrange(1, 60)]
        else:
            data[at : at + 4] = rng.choice([b"cos\n", b"R.((", b"\x93R\x81b", b"PK\x01\x02"])
        if not data:
            break
    return bytes(data)


def seeds(folder):
    torch.save({"w": torch.randn(3, 4), "b": torch.ones(5).bfloat16(), "n": [1, (2.5, "x")]},
               folder / "a.pt")  # fmt: skip
    model = torch.nn.Linear(3, 2)
    torch.save(model.state_dict(), folder / "b.pt")
    mg.save({"w": mg.randn(3, 4), "n": [1, (2.5, "x")]}, folder / "c.safetensors")
    mg.save({"w": mg.randn(3, 4), "b": mg.ones(2)}, folder / "d.safetensors")
    np.savez(folder / "e.npz", a=np.ones((2, 3)), b=np.arange(4))
    np.savez_compressed(folder / "f.npz", a=np.ones((2, 3)), b=np.arange(4))
    return [p.read_bytes() for p in sorted(folder.iterdir())]


def members_mutated(data, rng, folder):
    """A zip whose checksums are right, though a member is damaged."""
    source, target = folder / "source.zip", folder / "target.zip"
    source.write_bytes(data)
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        infos = old.infolist()
        chosen = rng.randrange(len(infos))
        for i, info in enumerate(infos):
            content = old.read(info)
            if i == chosen or info.filename.endswith("data.pkl"):
                content = mutated(content, rng) if content else content
            new.writestr(info.filename, content)
    return target.read_bytes()


OPCODES = [
    b"cos\nsystem\n", b"cbuiltins\neval\n", b"ctorch\nload\n", b"i__main__\nX\n", b"P0\n",
    b"R", b"b", b"\x81", b"o", b"\x93", b"Q", b"(", b"t", b"}", b"]", b")", b"\x85", b"\x86",
    b"\x87", b"s", b"u", b"a", b"e", b"0", b"1", b"2", b"N", b"\x8f", b"\x90", b"\x91", b"\x94",
    b".", b"\x82\x01", b"K\x07", b"q\x00", b"h\x00", b"h\x01", b"J\xff\xff\xff\xff",
    b"\x8a\x09" + b"\xff" * 8 + b"\x7f",
]  # fmt: skip


def reprogrammed(data, rng, folder):
    """A checkpoint whose pickle has instructions put in, or members compressed or doubled."""
    source, target = folder / "source.zip", folder / "target.zip"
    source.write_bytes(data)
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            content = bytearray(old.read(info))
            if info.filename.endswith("data.pkl"):
                for _ in range(rng.choice([1, 2, 6])):
                    at = rng.randrange(2, len(content))
                    content[at:at] = b"".join(rng.choices(OPCODES, k=rng.choice([1, 1, 3, 30])))
            packed = zipfile.ZIP_DEFLATED if rng.random() < 0.1 else zipfile.ZIP_STORED
            for _ in range(2 if rng.random() < 0.1 else 1):
                new.writestr(info.filename, bytes(content), packed)
    made = target.read_bytes()
    return made[: rng.randrange(len(made))] if rng.random() < 0.1 else made


def reheaded(data, rng):
    """A safetensors file whose header says something else about its tensors, or twice."""
    length = int.from_bytes(data[:8], "little")
    header, rest = json.loads(data[8 : 8 + length]), data[8 + length :]
    names = [n for n in header if n != "__metadata__"]
    for _ in range(rng.choice([1, 2])):
        entry = header[rng.choice(names)]
        entry[rng.choice(list(entry))] = rng.choice([
            [0, 4], [4, 0], [0, 1 << 40], [-4, 8], [8, 64], [1 << 61] * 4, [0] * 70, [], "F64",
            "BOOL", "C64", None, {}, 1.5, True, [[3], [4]], [3, 4], [12], ["3", "4"], [2] * 400,
        ])  # fmt: skip
    text = json.dumps(header)
    if rng.random() < 0.2:
        text = text[:-1] + f', "{names[0]}": {json.dumps(header[names[-1]])}}}'
    if rng.random() < 0.2:
        text = text.replace("{", "[" * rng.choice([1, 20_000]) + "{", 1)
    size = rng.choice([len(text)] * 8 + [0, 1 << 20, 1 << 62, len(text) + 5])
    return size.to_bytes(8, "little") + text.encode() + rest


def check_damaged_files(folder, count, seed):
    """`count` damaged files: each gives an error of ours or loads, quickly and in little memory."""
    (folder / "seeds").mkdir()
    rng = random.Random(seed)
    originals = seeds(folder / "seeds")
    path, loaded = folder / "x", 0
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(count):
        data = rng.choice(originals)
        if data[:2] == b"PK" and rng.random() < 0.4:
            data = members_mutated(data, rng, folder)
        elif rng.random() < 0.5 and b"data.pkl" in data:
            data = reprogrammed(data, rng, folder)
        elif rng.random() < 0.5 and data[:2] != b"PK":
            data = reheaded(data, rng)
        else:
            data = mutated(data, rng)
        path.write_bytes(data)
        began = time.perf_counter()
        try:
            mg.load(path)
            loaded += 1
        except MonographError:
            pass
        assert time.perf_counter() - began < 2.0
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start
    assert grown < 200_000 * (1 if sys.platform != "darwin" else 1024)  # KiB; bytes on a Mac
    return loaded


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_damaged_files_give_an_error_or_load(tmp_path):
    loaded = check_damaged_files(tmp_path, 500, 0)
    assert 0 < loaded < 500


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_ten_thousand_damaged_files(tmp_path):
    loaded = check_damaged_files(tmp_path, 10_000, 1)
    assert 0 < loaded < 10_000
