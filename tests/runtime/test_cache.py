"""The object cache: hits, damage, permissions, bounds."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from monograph.codegen import target as targets
from monograph.kernel.digest import digest
from monograph.kernel.ir import Buffer, Const, Kernel, Load, Loop, Store, Var
from monograph.runtime import cache, machine_code


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.setenv("MONOGRAPH_CACHE_DIR", str(tmp_path / "objects"))
    return tmp_path / "objects"


def kernel(factor):
    i = Var("i")
    store = Store("y", i, Load("x", i, "f32") * factor)
    body = (Loop("i", Const(0, "i64"), Var("n"), (store,), "vector"),)
    return Kernel("scale", (Buffer("x", "f32"), Buffer("y", "f32", True)), body, ("n",))


def object_for(factor, target=None):
    target = target or targets.host()
    scale = kernel(factor)
    return machine_code.object_for(
        digest(scale), lambda: machine_code.kernel_text(scale, target), target
    )


def count_compilations(monkeypatch):
    calls = []
    compile_ir = machine_code.compile_ir

    def counted(*args, **kwargs):
        calls.append(args)
        return compile_ir(*args, **kwargs)

    monkeypatch.setattr(machine_code, "compile_ir", counted)
    return calls


def test_an_object_is_compiled_once(directory, monkeypatch):
    calls = count_compilations(monkeypatch)
    first = object_for(2.0)
    assert object_for(2.0) == first
    assert len(calls) == 1
    assert object_for(3.0) != first
    assert len(calls) == 2


def test_targets_have_objects_of_their_own(directory):
    host, baseline = targets.host(), targets.x86_64_baseline()
    assert object_for(2.0, host)[0] != object_for(2.0, baseline)[0]


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "foreign"])
def test_damaged_objects_are_ignored_and_written_anew(damage, directory, monkeypatch):
    key, body = object_for(2.0)
    path = directory / f"{key}.o"
    good = path.read_bytes()
    bad = {
        "flip": good[:-5] + bytes([good[-5] ^ 1]) + good[-4:],
        "cut": good[: len(good) // 2],
        "empty": b"",
        "foreign": b"something else",
    }[damage]
    path.write_bytes(bad)
    assert cache.load(key) is None
    calls = count_compilations(monkeypatch)
    assert object_for(2.0) == (key, body)
    assert len(calls) == 1
    assert path.read_bytes() == good


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="the system has no Unix permissions")
def test_the_directory_is_private_and_an_open_one_is_refused(directory):
    cache.store("aa", b"code")
    assert directory.stat().st_mode & 0o777 == 0o700
    assert cache.load("aa") == b"code"
    directory.chmod(0o777)
    assert cache.load("aa") is None
    cache.store("bb", b"code")
    assert not (directory / "bb.o").exists()


def test_no_directory_means_no_cache_and_no_error(monkeypatch, tmp_path):
    monkeypatch.setenv("MONOGRAPH_CACHE_DIR", "")
    cache.store("aa", b"code")
    assert cache.load("aa") is None
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MONOGRAPH_CACHE_DIR", str(tmp_path / "file" / "below"))
    cache.store("aa", b"code")
    assert cache.load("aa") is None


def test_the_total_is_bounded_and_the_oldest_go_first(directory):
    for number in range(10):
        cache.store(f"{number}", bytes(1000))
        os.utime(directory / f"{number}.o", (number, number))
    cache.trim(directory, 6000)
    left = sorted(path.name for path in directory.iterdir())
    assert left == ["6.o", "7.o", "8.o", "9.o"]


CODE = """
import numpy as np, sys
from monograph.runtime import machine_code
sys.path.insert(0, sys.argv[1])
from test_cache import kernel
def refuse(*args): raise AssertionError("compiled")
if sys.argv[2] == "warm":
    machine_code.compile_ir = refuse
from monograph.runtime.program import launch
(handle,) = machine_code.compile_kernels([kernel(2.0)])
y = np.zeros(5, "f")
launch(handle, [np.ones(5, "f"), y], [5])
assert (y == 2).all()
"""


def test_a_second_process_compiles_nothing(directory):
    here = os.path.dirname(__file__)
    for state in ("cold", "warm"):
        done = subprocess.run([sys.executable, "-c", CODE, here, state], timeout=100)
        assert done.returncode == 0, state


def test_equal_kernels_share_code_whatever_their_names(directory):
    one = kernel(2.0)
    other = replace(one, name="another")
    handles = machine_code.compile_kernels([one, other, kernel(4.0)])
    assert handles[0].address == handles[1].address != handles[2].address
    assert [h.kernel.name for h in handles] == ["scale", "another", "scale"]
    assert np.all([h.address for h in handles])
