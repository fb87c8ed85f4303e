"""Facts about this machine, and two measurements: arithmetic peak and memory bandwidth.

`facts()` is what `monograph doctor` prints. `fma_peak()` and `read_bandwidth()` are measured with
kernels of our own, so that benchmarks can say which share of the machine a kernel reaches.
"""

from __future__ import annotations

import functools
import os
import platform
import re
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..codegen.target import host
from ..kernel.ir import Buffer, Call, Const, Kernel, Let, Load, Local, Loop, Reduce, Store, Var
from . import buffers
from .machine_code import compile_kernels
from .program import Program, Slot, Task
from .threads import available_cpus, get_num_threads


@dataclass(frozen=True)
class CacheSizes:
    """Data caches in bytes: level 1 and 2 of one core, and the last level as this core sees it."""

    l1: int
    l2: int
    l3: int


@functools.cache
def cache_sizes() -> CacheSizes:
    """From the system where it says so, else 32 KiB, 512 KiB and 8 MiB."""
    sizes = {1: 32 << 10, 2: 512 << 10, 3: 8 << 20}
    base = Path("/sys/devices/system/cpu/cpu0/cache")
    for index in sorted(base.glob("index*")):
        try:
            kind = (index / "type").read_text().strip()
            level = int((index / "level").read_text())
            text = (index / "size").read_text().strip()
        except (OSError, ValueError):
            continue
        match = re.fullmatch(r"(\d+)([KMG]?)", text)
        if kind in ("Data", "Unified") and match and level in sizes:
            unit = {"": 0, "K": 10, "M": 20, "G": 30}[match[2]]
            sizes[level] = int(match[1]) << unit
    return CacheSizes(sizes[1], sizes[2], max(sizes[2], sizes[3]))


def cpu_name() -> str:
    """The processor's own name, as far as the system tells."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def facts() -> dict[str, object]:
    """What decides speed here: processor, vector width, cores, threads, caches."""
    target, caches = host(), cache_sizes()
    return {
        "cpu": cpu_name(),
        "target_cpu": target.cpu,
        "vector_bytes": target.vector_bytes,
        "fma": target.fma,
        "logical_cpus": os.cpu_count() or 1,
        "usable_cores": available_cpus(),
        "threads": get_num_threads(),
        "l1_bytes": caches.l1,
        "l2_bytes": caches.l2,
        "l3_bytes": caches.l3,
    }


def _const(value: int) -> Const:
    return Const(value, "i64")


def _peak_kernel(dtype: str, lanes: int, registers: int) -> Kernel:
    """Independent chains of fma, one per register: nothing but arithmetic."""
    r, v = Var("r"), Var("v")
    place = r * lanes + v
    factor = Var("factor", dtype)
    step = Call("fma", (Load("acc", place, dtype), factor, factor), dtype)

    def tile(stmt: Store | Reduce) -> Loop:
        inner = Loop("v", _const(0), _const(lanes), (stmt,), "vector")
        return Loop("r", _const(0), _const(registers), (inner,), "unroll")

    body = (
        Local("acc", dtype, registers * lanes),
        Let("factor", Load("x", Var("chunk"), dtype)),
        tile(Store("acc", place, Const(0.0, dtype))),
        Loop("k", _const(0), Var("turns"), (tile(Store("acc", place, step)),)),
        tile(Reduce("add", "out", Var("chunk") * lanes + v, Load("acc", place, dtype))),
    )
    return Kernel(
        "fma_peak",
        (Buffer("x", dtype), Buffer("out", dtype, True)),
        body,
        ("turns", "chunks"),
        grid=Var("chunks"),
    )


def _best_seconds(program: Program, addresses: list[int], turns: int = 5) -> float:
    program(addresses)
    times = []
    for _ in range(turns):
        start = time.perf_counter()
        program(addresses)
        times.append(time.perf_counter() - start)
    return min(times)


@functools.cache
def fma_peak(dtype: str = "f32", threads: int = 1) -> float:
    """Multiply-adds (as two operations) per second that `threads` threads reach, measured.

    More than get_num_threads() threads are not used. Takes about 20 ms, once per process.
    """
    target = host()
    lanes = target.lanes(4 if dtype == "f32" else 8)
    registers = 12
    (handle,) = compile_kernels([_peak_kernel(dtype, lanes, registers)])
    kind = np.float32 if dtype == "f32" else np.float64
    turns, chunks = 50_000, 16 * threads
    x, out = np.zeros(chunks, kind), np.zeros(chunks * lanes, kind)
    task = Task(handle, [Slot(0), Slot(1)], [turns, chunks], parallel=threads > 1)
    seconds = _best_seconds(Program([task], 2), [x.ctypes.data, out.ctypes.data])
    return 2.0 * turns * registers * lanes * chunks / seconds


@functools.cache
def read_bandwidth(size_bytes: int = 256 << 20, parallel: bool = True) -> float:
    """Bytes per second at which memory (or the cache that holds `size_bytes`) is read, measured."""
    chunks = max(1, size_bytes >> 16)
    chunk = max(1, size_bytes // 4 // chunks)
    repeats = max(1, (64 << 20) // size_bytes)  # so that the call itself does not count
    i = Var("chunk") * chunk + Var("i")
    body = (
        Loop(
            "i",
            _const(0),
            _const(chunk),
            (Reduce("add", "out", Var("chunk"), Load("x", i, "f32")),),
            "vector",
        ),
    )
    kernel = Kernel(
        "read",
        (Buffer("x", "f32"), Buffer("out", "f32", True)),
        body,
        ("chunks",),
        grid=Var("chunks"),
    )
    (handle,) = compile_kernels([kernel])
    x = buffers.empty((chunks * chunk,), np.float32)
    x[:] = 1.0
    out = np.zeros(chunks, np.float32)
    task = Task(handle, [Slot(0), Slot(1)], [chunks], parallel)
    seconds = _best_seconds(Program([task] * repeats, 2), [x.ctypes.data, out.ctypes.data])
    return x.nbytes * repeats / seconds
