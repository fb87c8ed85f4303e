"""save and load: every structure comes back; damage is told in full, and nothing is loaded."""

import io
import json
import os

import numpy as np
import pytest

import monograph as mg
from monograph.core.errors import ArgumentTypeError, FileFormatError

ALL = [
    mg.bool, mg.uint8, mg.int8, mg.uint16, mg.int16, mg.uint32, mg.int32, mg.uint64, mg.int64,
    mg.float16, mg.bfloat16, mg.float32, mg.float64,
]  # fmt: skip


def parts(path):
    """(header as a dict, data) of a safetensors file."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def write(path, header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


@pytest.fixture
def example(tmp_path):
    path = tmp_path / "w.safetensors"
    mg.save({"a": mg.arange(4), "b": mg.ones(2, 3)}, path)
    return path


def test_a_state_dict_of_every_dtype_comes_back(tmp_path):
    saved = {d.name: mg.tensor([[0, 1], [1, 1]], dtype=d) for d in ALL}
    saved |= {
        "empty": mg.zeros(0, 3),
        "scalar": mg.tensor(2.5),
        "turned": mg.arange(6).view(2, 3).T,
    }
    mg.save(saved, tmp_path / "w.safetensors")
    loaded = mg.load(tmp_path / "w.safetensors")
    assert set(loaded) == set(saved)
    for name, t in saved.items():
        assert loaded[name].dtype is t.dtype and loaded[name].shape == t.shape
        assert loaded[name].tolist() == t.tolist()
    loaded["scalar"].add_(1)  # the memory is one's own


def test_nested_structures_come_back_with_their_types(tmp_path):
    obj = {
        "model": {"w": mg.ones(2), "b.c": mg.zeros(1)},
        "b": {"c": mg.tensor(1)},
        "optimizer": {"state": {0: {"step": 3, "m": mg.ones(2)}}, "betas": (0.9, 0.99)},
        "history": [1.5, float("inf"), None, True, "text"],
        "dtype": mg.bfloat16,
        "loss": np.float32(0.5),
    }
    mg.save(obj, tmp_path / "run")
    back = mg.load(tmp_path / "run", map_location="cpu")
    assert back["optimizer"]["betas"] == (0.9, 0.99)
    assert back["optimizer"]["state"][0]["m"].tolist() == [1, 1]
    assert back["history"] == [1.5, float("inf"), None, True, "text"]
    assert back["dtype"] is mg.bfloat16 and back["loss"] == 0.5
    assert back["model"]["b.c"].tolist() == [0] and back["b"]["c"].item() == 1
    assert mg.load_file(tmp_path / "run")["model.w"].tolist() == [1, 1]


def test_files_are_exchanged_with_the_formats_own_library(tmp_path):
    torch = pytest.importorskip("torch")
    library = pytest.importorskip("safetensors.torch")
    mg.save({"x": mg.arange(3).to(mg.bfloat16)}, tmp_path / "a")
    assert library.load_file(tmp_path / "a")["x"].tolist() == [0, 1, 2]
    library.save_file({"x": torch.ones(2, 2, dtype=torch.bfloat16)}, tmp_path / "b")
    assert mg.load(tmp_path / "b")["x"].tolist() == [[1, 1], [1, 1]]


def test_a_failed_save_leaves_the_old_file_and_nothing_else(example, monkeypatch):
    before = example.read_bytes()

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        mg.save({"a": mg.ones(5)}, example)
    assert example.read_bytes() == before
    assert [p.name for p in example.parent.iterdir()] == ["w.safetensors"]


def test_saving_keeps_the_permissions_of_the_file(example):
    example.chmod(0o640)
    mg.save({"a": mg.ones(5)}, example)
    assert example.stat().st_mode & 0o777 == 0o640


def test_a_file_cut_short_anywhere_is_refused(example):
    content = example.read_bytes()
    for length in range(len(content)):
        example.write_bytes(content[:length])
        with pytest.raises(FileFormatError) as caught:
            mg.load(example)
        assert caught.value.message.startswith("w.safetensors: ")


def test_any_changed_byte_of_the_header_is_refused_or_harmless(example):
    content = bytearray(example.read_bytes())
    original = {k: v.tolist() for k, v in mg.load(example).items()}
    end = 8 + int.from_bytes(content[:8], "little")
    refused = 0
    for i in range(end):
        for value in (0, 0x22, 0x39, 0x7B, 0xFF, content[i] ^ 1):
            changed = bytearray(content)
            changed[i] = value
            example.write_bytes(changed)
            try:
                loaded = mg.load(example)
            except FileFormatError:
                refused += 1
            else:  # another name, or another reading of the same bytes
                assert len(loaded) == len(original)
    assert refused > 3 * end


def message(path):
    with pytest.raises(FileFormatError) as caught:
        mg.load(path)
    return caught.value.message + (f" | {caught.value.hint}" if caught.value.hint else "")


def test_a_missing_tail_names_the_tensor_and_the_bytes(example):
    content = example.read_bytes()
    example.write_bytes(content[:-5])
    header, _ = parts(example)
    last = max((e["data_offsets"][1], k) for k, e in header.items() if k != "__metadata__")
    assert message(example) == (
        f"w.safetensors: tensor {last[1]!r} ends at byte {last[0]} of the data, but the file "
        f"holds only {last[0] - 5} | 5 bytes are missing, as after an interrupted copy; "
        "nothing was loaded"
    )


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    ("header", "size", "expected"),
    [
        ({"a": entry(), "b": entry(offsets=(2, 6))}, 6,
         "tensors 'a' and 'b' overlap: bytes 2 to 4 of the data belong to both"),
        ({"a": entry(), "b": entry(offsets=(6, 10))}, 10,
         "bytes 4 to 6 of the data belong to no tensor"),
        ({"a": entry()}, 7, "bytes 4 to 7 of the data belong to no tensor"),
        ({"a": entry("F8")}, 4, "tensor 'a' has dtype 'F8'; known are BOOL, U8, I8, U16, I16, U32, "
         "I32, U64, I64, F16, BF16, F32, F64, C64"),
        ({"a": entry(shape=(3,))}, 4,
         "tensor 'a' of shape (3,) and dtype F32 takes 12 bytes, but has 4"),
        ({"a": entry(shape=(-1,))}, 4, "tensor 'a' has shape [-1]"),
        ({"a": entry(offsets=(4, 0))}, 4, "tensor 'a' has data_offsets [4, 0]"),
        ({"a": [1]}, 4, "tensor 'a' has no dtype, shape and data_offsets, or has more"),
        ({"__metadata__": {"x": 1}}, 0, "__metadata__ is not an object of strings"),
        ({"a": entry(shape=(3,)), "b": entry("F8")}, 4,
         "2 problems:\n    tensor 'a' of shape (3,) and dtype F32 takes 12 bytes, but has 4\n"
         "    tensor 'b' has dtype 'F8'; known are BOOL, U8, I8, U16, I16, U32, I32, U64, I64, "
         "F16, BF16, F32, F64, C64"),
    ],
)  # fmt: skip
def test_messages_of_damaged_layouts(tmp_path, header, size, expected):
    path = tmp_path / "w.safetensors"
    write(path, header, b"\0" * size)
    assert message(path) == f"w.safetensors: {expected} | nothing was loaded"


def test_sizes_beyond_memory_and_bytes_that_are_no_bools_are_refused(tmp_path):
    path = tmp_path / "w"
    for shape in ([0, 1 << 61], [1 << 61, 0], [1 << 30, 1 << 30, 0]):
        write(path, {"a": entry(shape=shape, offsets=(0, 0))}, b"")
        assert message(path) == f"w: tensor 'a' has shape {shape} | nothing was loaded"
    write(path, {"a": entry("BOOL", (2,), (0, 2))}, b"\x02\x01")
    assert message(path) == (
        "w: tensor 'a' is BOOL, but has bytes other than 0 and 1 | nothing was loaded"
    )


def test_messages_of_damaged_headers(tmp_path):
    path = tmp_path / "w"
    path.write_bytes(b"abc")
    assert message(path) == "w: holds 3 bytes; a safetensors file has 8 at least"
    path.write_bytes((1 << 60).to_bytes(8, "little") + b"{}")
    assert message(path) == (
        f"w: the header is announced as {1 << 60} bytes; 100000000 are allowed | "
        "this is probably not a safetensors file"
    )
    path.write_bytes((50).to_bytes(8, "little") + b"{}")
    assert message(path) == (
        "w: the header is announced as 50 bytes, but the file holds only 2 after the first 8 | "
        "the file is cut short, as after an interrupted copy; nothing was loaded"
    )
    write(path, b'{"a": 1', b"")
    assert message(path).startswith("w: the header cannot be read: ")
    write(path, b'{"a": 1, "a": 2}', b"")
    assert message(path) == "w: the header cannot be read: 'a' occurs twice"
    write(path, b"[" * 100_000, b"")
    assert message(path).startswith("w: the header cannot be read: ")
    write(path, b"[]", b"")
    assert message(path) == "w: the header is no JSON object"


def test_pickles_are_refused_with_a_way_out(tmp_path):
    torch = pytest.importorskip("torch")
    for new_format in (True, False):
        torch.save(
            {"a": torch.ones(2)}, tmp_path / "w.pt", _use_new_zipfile_serialization=new_format
        )
        with pytest.raises(FileFormatError) as caught:
            mg.load_file(tmp_path / "w.pt")
        assert f"{caught.value.message} | {caught.value.hint}" == (
            "w.pt: this is a pickle or zip file, not safetensors | load() reads PyTorch's zip "
            "checkpoints; the older format, a bare pickle, must be written anew with torch.save"
        )


def test_a_damaged_description_of_the_structure_is_told(tmp_path):
    for text in ("{", '{"tensor": "z"}', '{"magic": 1}', "[]", '{"dict": 3}'):
        mg.save_file({"a": mg.ones(1)}, tmp_path / "w", {"monograph.structure": text})
        assert message(tmp_path / "w").startswith(
            "w: the description of the structure is damaged: "
        )


def test_what_cannot_be_saved_is_named(tmp_path):
    with pytest.raises(ArgumentTypeError) as caught:
        mg.save({"a": [mg.ones(1), {1, 2}]}, tmp_path / "w")
    assert caught.value.message == "save: a.1 is a set, which is not saved"
    with pytest.raises(ArgumentTypeError) as caught:
        mg.save({"a": {0.5: 1}}, tmp_path / "w")
    assert caught.value.message == "save: keys must be str or int, got 0.5 in a"
    assert not (tmp_path / "w").exists()


def test_open_files_take_and_give_what_paths_do(tmp_path):
    for obj in ({"w": mg.ones(2)}, {"w": mg.ones(2), "epoch": 3}):
        kept = io.BytesIO()
        mg.save(obj, kept)
        kept.seek(0)
        assert str(mg.load(kept)) == str(obj)
    with open(tmp_path / "w", "wb") as file:
        file.write(b"12")
        mg.save({"w": mg.ones(2)}, file)
    with open(tmp_path / "w", "rb") as file:
        file.read(2)  # what follows is read
        assert mg.load(file)["w"].tolist() == [1, 1]
    arrays = io.BytesIO()
    np.savez(arrays, a=np.ones(3))
    arrays.seek(0)
    assert mg.load(arrays)["a"].tolist() == [1, 1, 1]
    with pytest.raises(FileFormatError, match="the file: holds 3 bytes"):
        mg.load(io.BytesIO(b"abc"))
    with pytest.raises(ArgumentTypeError, match="must be open for binary reading"):
        mg.load(io.StringIO("abc"))
    with pytest.raises(
        ArgumentTypeError, match="load: needs a path or an open binary file, got int"
    ):
        mg.load(3)
    with pytest.raises(ArgumentTypeError) as caught:
        mg.save(str(tmp_path / "w"), {"w": mg.ones(2)})
    assert caught.value.message == "save: needs a path or an open binary file, got dict"
    assert caught.value.hint == "save(obj, path): what is saved comes first"


def test_a_state_dict_keeps_its_order(tmp_path):
    model = mg.nn.Sequential(mg.nn.Linear(2, 2), mg.nn.BatchNorm1d(2))
    mg.save(model.state_dict(), tmp_path / "w")
    assert list(mg.load(tmp_path / "w")) == list(model.state_dict())
    for text in ("3", "[", '["a", "a"]', '["b"]', "[[]]"):
        mg.save_file({"a": mg.ones(1)}, tmp_path / "w", {"monograph.order": text})
        with pytest.raises(FileFormatError, match="does not list the tensors"):
            mg.load(tmp_path / "w")
