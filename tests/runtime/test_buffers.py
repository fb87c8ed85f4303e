"""The caching allocator, thread counts and machine facts."""

import gc
import os
import sys

import ml_dtypes
import numpy as np
import pytest

from monograph.runtime import buffers, machine, threads


@pytest.mark.parametrize("dtype", ["f4", "u1", "i8", np.bool_, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (5,), (7, 11), (1 << 20,), (3, 1 << 20)])
def test_arrays_are_aligned_and_writable(shape, dtype):
    x = buffers.empty(shape, dtype)
    assert x.shape == shape and x.dtype == dtype
    assert x.ctypes.data % 64 == 0 and x.flags.c_contiguous
    x[...] = 1
    assert (x == 1).all()


@pytest.mark.parametrize("value", [0, 0.0, -0.0, 1, True, 2.5, float("nan")])
@pytest.mark.parametrize("shape", [(), (5,), (3, 12345), (1 << 20,)])
@pytest.mark.parametrize("dtype", ["f4", "i8", np.bool_])
def test_full_is_numpys_in_fresh_and_in_used_memory(value, shape, dtype):
    if value != value and dtype != "f4":
        pytest.skip("nan is a number of floating dtypes")
    expected = np.full(shape, value, dtype)
    for _ in range(3):
        x = buffers.full(shape, dtype, value)
        assert x.shape == shape and x.dtype == expected.dtype
        assert x.tobytes() == expected.tobytes()
        x[...] = 7  # the next one may get this memory
        del x


def test_memory_comes_back_when_the_last_view_is_gone():
    gc.collect()
    x = buffers.empty((1234567,), np.float32)
    address = x.ctypes.data
    view = x[5:10].reshape(5, 1)
    del x
    other = buffers.empty((1234567,), np.float32)
    assert other.ctypes.data != address
    del view
    again = buffers.empty((1234567,), np.float32)
    assert again.ctypes.data == address


def test_live_arrays_never_overlap():
    rng = np.random.default_rng(0)
    live = []
    for turn in range(300):
        size = int(rng.integers(0, 5000))
        x = buffers.empty((size,), np.int32)
        x[:] = turn
        live.append((turn, x))
        if rng.random() < 0.5:
            live.pop(int(rng.integers(len(live))))
    assert all((x == turn).all() for turn, x in live)


@pytest.mark.parametrize(("first", "step"), [(1 << 20, 50_000), (5 << 19, 300_000)])
def test_arrays_below_four_huge_pages_share_them(first, step):
    live = [buffers.empty((n,), np.uint8) for n in range(first, 2 * first, step)]
    for number, x in enumerate(live):
        x[...] = number
    assert all((x == number).all() for number, x in enumerate(live))
    ends = [(x.ctypes.data >> 21, x.ctypes.data + x.size >> 21) for x in live]
    pages = {page for first, last in ends for page in range(first, last + 1)}
    assert len(pages) <= 1.3 * sum(x.size for x in live) / buffers.HUGE_PAGE + 4


def test_size_classes_waste_little():
    for size in (1, 255, 256, 257, 5000, (1 << 20) + 1, (5 << 20) + 3, (100 << 20) + 1):
        block = buffers.block_bytes(size)
        assert size <= block <= max(256, size * 1.26) + (2 << 20 if size > 2 << 20 else 0)
        assert buffers.block_bytes(block) == block
        assert size <= buffers.touched_bytes(size) <= block


def test_empty_cache_gives_back_what_is_not_in_use():
    kept = buffers.empty((1000,), np.float32)
    gone = buffers.empty((1000,), np.float32)
    del gone
    before = buffers.memory_stats()
    buffers.empty_cache()
    stats = buffers.memory_stats()
    assert stats["cached_bytes"] <= before["cached_bytes"] - 4000
    assert before["held_bytes"] - stats["held_bytes"] >= 4000
    assert stats["held_bytes"] >= kept.nbytes


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/statm")
def test_free_parts_of_a_slab_give_their_pages_back():
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    kept, gone = (buffers.empty((6 << 20,), np.uint8) for _ in range(2))
    kept[:], gone[:] = 1, 2
    at = buffers.address_of(gone)
    del gone
    before = resident()
    buffers.empty_cache()
    assert resident() < before - (5 << 20)
    again = buffers.empty((6 << 20,), np.uint8)
    assert buffers.address_of(again) == at and (kept == 1).all()


def test_thread_counts():
    before = threads.get_num_threads()
    assert 1 <= threads.available_cpus() <= (os.cpu_count() or 1)
    threads.set_num_threads(3)
    assert threads.get_num_threads() == 3
    threads.set_num_threads(before)
    for bad in (0, -1, 1.5, True, "2"):
        with pytest.raises(ValueError, match="must be a positive int"):
            threads.set_num_threads(bad)


def test_thread_count_from_the_environment(monkeypatch):
    monkeypatch.setattr(threads, "_num_threads", None)
    monkeypatch.setenv("MONOGRAPH_NUM_THREADS", "7")
    assert threads.get_num_threads() == 7
    monkeypatch.setattr(threads, "_num_threads", None)
    monkeypatch.setenv("MONOGRAPH_NUM_THREADS", "many")
    with pytest.raises(ValueError, match="MONOGRAPH_NUM_THREADS"):
        threads.get_num_threads()


def test_machine_facts_and_measurements_are_plausible():
    facts = machine.facts()
    assert facts["vector_bytes"] in (16, 32, 64)
    assert facts["l1_bytes"] <= facts["l2_bytes"] <= facts["l3_bytes"]
    assert 1e9 < machine.fma_peak() < 1e12
    assert 1e8 < machine.read_bandwidth(1 << 20, parallel=False) < 1e12


@pytest.mark.parametrize(
    "cgroup, files, expected",
    [
        ("0::/\n", {"cpu.max": "max 100000"}, None),
        ("0::/\n", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/a/b\n", {"cpu.max": "max 100000", "a/cpu.max": "200000 100000"}, 2.0),
        ("0::/a/b\n", {"a/cpu.max": "200000 100000", "a/b/cpu.max": "50000 100000"}, 0.5),
        ("0::/gone\n", {}, None),
        (
            "3:cpuset:/x\n2:cpu,cpuacct:/docker/1\n0::/\n",
            {
                "cpu/docker/1/cpu.cfs_quota_us": "300000\n",
                "cpu/docker/1/cpu.cfs_period_us": "100000\n",
                "cpu/cpu.cfs_quota_us": "-1\n",
                "cpu/cpu.cfs_period_us": "100000\n",
            },
            3.0,
        ),
    ],
)
def test_the_least_quota_of_the_control_groups_counts(tmp_path, cgroup, files, expected):
    for name, text in {
        "proc/self/cgroup": cgroup,
        **{f"sys/fs/cgroup/{k}": v for k, v in files.items()},
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert threads._cpu_quota(tmp_path) == expected
    assert threads._cpu_quota(tmp_path / "no such system") is None
