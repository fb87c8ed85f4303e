"""Files that are made to do harm: each is refused at once, in little memory, without a crash."""

import io
import json
import resource
import struct
import sys
import time
import zipfile

import numpy as np
import pytest

import monograph as mg
from monograph.api import foreign
from monograph.core.errors import FileFormatError

TWICE = b"q\x00h\x00\x86"  # x -> (x, x), the same object
SHARED = b")" + TWICE * 60  # 60 levels: its hash and its text would take 2**60 steps
INT = b"\x8b" + struct.pack("<i", 400_000) + b"\0" * 399_999 + b"\1"  # a number of 400,000 bytes


def checkpoint(folder, program, *members):
    path = folder / "x.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", program)
        for name, content in members:
            archive.writestr(name, content)
    return path


def safetensors(folder, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = folder / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def refused(path, match):
    began = time.process_time()
    with pytest.raises(FileFormatError, match=match) as caught:
        mg.load(path)
    assert time.process_time() - began < 5.0
    assert len(caught.value.message) < 20_000


STORAGE = (
    b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQ"
)
PROGRAMS = {
    "a key of shared tuples": (b"}" + SHARED + b"K\x01s.", "a tuple as a key"),
    "a set of shared tuples": (b"\x8f(" + SHARED + b"\x90.", "a tuple as a key"),
    "a frozenset of shared tuples": (b"(" + SHARED + b"\x91.", "a tuple as a key"),
    "a call of set": (b"cbuiltins\nset\n(]" + SHARED + b"atR.", "a tuple as a key"),
    "a counter": (b"ccollections\nCounter\n(]]" + SHARED + b"aK\x01aatR.", "a tuple as a key"),
    "a key of many levels": (b"})" + b"\x85" * 200_000 + b"K\x01s.", "a tuple as a key"),
    "keys of one hash": (
        b"}(" + b"".join(b"\x8a\x0b" + (((1 << 61) - 1) * i).to_bytes(11, "little") + b"K\x00"
                         for i in range(1, 60_000)) + b"u.", "int as a key"),
    "no storage": (b"(" + SHARED + b"K\x01K\x01K\x01K\x01tQ.", "no storage"),
    "no key of a storage": (
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\n" + SHARED + b"K\x01K\x01tQ.",
        "no storage"),
    "no name": (b"\x80\x04" + SHARED + SHARED + b"\x93.", "no text"),
    "no device": (b"ctorch\ndevice\n" + SHARED + b"R.", "device"),
    "no coding": (b"c_codecs\nencode\nX\x01\x00\x00\x00a" + SHARED + b"\x86R.", "latin1"),
    "sizes of a million digits": (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE + b"K\x00(" + INT + b"q\x01"
        + b"h\x01" * 60 + b"t(" + b"K\x01" * 61 + b"t\x89}tR.", "size, stride or offset"),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_pickles_that_never_end(tmp_path, name):
    program, match = PROGRAMS[name]
    refused(checkpoint(tmp_path, b"\x80\x02" + program, ("a/data/0", b"1234")), match)


def test_a_pickle_of_too_many_objects(tmp_path, monkeypatch):
    monkeypatch.setattr(foreign, "LARGEST_PROGRAM", 1000)
    refused(checkpoint(tmp_path, b"\x80\x02(" + b"}" * 1000 + b"t."), "more than 1000 instructions")


def test_keys_that_are_plain_are_read(tmp_path):
    path = checkpoint(
        tmp_path, b"\x80\x02}(K\x01X\x01\x00\x00\x00a\x86K\x05NK\x06ctorch\nlong\nK\x07u."
    )
    assert mg.load(path) == {(1, "a"): 5, None: 6, mg.int64: 7}


@pytest.mark.parametrize(
    "header, match",
    [
        (b"{" + b"".join(b'"k%d":0,' % i for i in range(90_000)) + b'"z":1,"z":1}', "twice"),
        ({f"k{i}": 0 for i in range(30_000)}, "and 29950 more"),
        (b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}", "cannot be read"),
        ({"a": {"dtype": "F32", "shape": [1] * 300_000, "data_offsets": [0, 4]}}, "has shape"),
        ({"a": {"dtype": "x" * 100_000, "shape": [1], "data_offsets": [0, 4]}}, "has dtype"),
        ({"__metadata__": {"monograph.structure": '{"list":[' * 9000 + "]}" * 9000}}, "structure"),
    ],
    ids=["doubled", "many problems", "deep", "long shape", "long dtype", "deep structure"],
)  # fmt: skip
def test_headers_that_are_huge(tmp_path, header, match):
    refused(safetensors(tmp_path, header), match)


def test_an_archive_that_unpacks_to_much_more_takes_no_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(foreign, "UNPACKED", (1 << 26, 100))
    path, head = tmp_path / "x.npz", io.BytesIO()
    count = 1 << 25
    np.lib.format.write_array_header_1_0(
        head, {"descr": "<f4", "fortran_order": False, "shape": (count,)}
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("a.npy", "w") as member:
            member.write(head.getvalue())
            for _ in range(64):
                member.write(bytes(4 * count // 64))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(path, "would unpack to more than 100 times")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 100_000 * (1 if sys.platform != "darwin" else 1024)  # KiB; bytes on a Mac


def test_an_archive_of_zeros_is_read(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", a=np.zeros(1 << 20))
    assert mg.load(tmp_path / "x.npz")["a"].shape == (1 << 20,)
