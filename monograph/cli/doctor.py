"""`monograph doctor`: what this installation runs on, and whether it computes correctly."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import monograph as mg

from .. import nn, optim
from ..codegen.target import host
from ..nn import functional as F
from ..runtime import cache, machine
from ..runtime.threads import get_num_threads, set_num_threads

PACKAGES = ("numpy", "ml_dtypes", "llvmlite", "safetensors", "tqdm")


def run(args: Any) -> int:
    """Print the report; 1 if a test fails."""
    for name, value in report():
        print(f"{name:<12} {value}")
    print()
    failures = 0
    for name, test in TESTS:
        started = time.perf_counter()
        try:
            problem = test()
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        elapsed_ms = 1000 * (time.perf_counter() - started)
        failures += problem is not None
        verdict = "OK  " if problem is None else "FAIL"
        print(f"{verdict}  {name}  ({elapsed_ms:.0f} ms)" + (f": {problem}" if problem else ""))
    return 1 if failures else 0


def report() -> list[tuple[str, str]]:
    """Names and values, in the order of printing."""
    facts = machine.facts()
    versions = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    return [
        ("monograph", mg.__version__),
        ("python", f"{platform.python_version()} on {platform.platform()}"),
        ("packages", versions),
        ("processor", str(facts["cpu"])),
        ("compiles for", _target()),
        ("threads", f"{facts['threads']} of {facts['logical_cpus']} logical processors"),
        ("data caches", ", ".join(f"{n} {_size(facts[f'{n.lower()}_bytes'])}" for n in _LEVELS)),
        ("kernel cache", _kernel_cache()),
    ]


_LEVELS = ("L1", "L2", "L3")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _target() -> str:
    target = host()
    fused = "fused multiply-add" if target.fma else "no fused multiply-add"
    return f"{target.cpu}, vectors of {target.vector_bytes * 8} bits, {fused}"


def _size(count: Any) -> str:
    size = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _kernel_cache() -> str:
    directory = cache.cache_directory()
    if directory is None:
        return "switched off"
    sizes = [path.stat().st_size for path in directory.glob("*.o")] if directory.is_dir() else []
    return f"{directory} ({len(sizes)} kernels, {_size(sum(sizes))})"


# The tests: None if all is well, else what is wrong.


def _kernel() -> str | None:
    """A formula, compiled now (not taken from the cache), against NumPy."""
    x = np.linspace(-3, 3, 1000, dtype=np.float32)

    @mg.jit
    def formula(t):
        return (t.exp() * 0.5 + t * t).sum()

    kept = os.environ.get("MONOGRAPH_CACHE_DIR")
    os.environ["MONOGRAPH_CACHE_DIR"] = ""
    try:
        found = formula(mg.from_numpy(x)).item()
    finally:
        if kept is None:
            del os.environ["MONOGRAPH_CACHE_DIR"]
        else:
            os.environ["MONOGRAPH_CACHE_DIR"] = kept
    expected = float((np.exp(x.astype(np.float64)) * 0.5 + x.astype(np.float64) ** 2).sum())
    return _compare(found, expected, 1e-5)


def _product() -> str | None:
    """A compiled matrix product against NumPy."""
    random = np.random.Generator(np.random.Philox(1))
    a = random.standard_normal((67, 129), np.float32)
    b = random.standard_normal((129, 95), np.float32)
    found = mg.jit(lambda a, b: a @ b)(mg.from_numpy(a), mg.from_numpy(b)).numpy()
    expected = a.astype(np.float64) @ b.astype(np.float64)
    error = float(np.abs(found - expected).max())
    return None if error < 1e-4 else f"a matrix product is off by {error:.3g}"


def _training() -> str | None:
    """Three compiled training steps against the same steps run eagerly."""
    losses = []
    for compiled in (True, False):
        mg.manual_seed(5)
        model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 5))
        optimizer = optim.Adam(model.parameters(), lr=1e-2)
        x, y = mg.randn(16, 20), mg.randint(0, 5, (16,))

        def step(x, y, model=model, optimizer=optimizer):
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        run_step = mg.jit(step) if compiled else step
        losses.append([run_step(x, y).item() for _ in range(3)])
    for found, expected in zip(*losses):
        problem = _compare(found, expected, 1e-4)
        if problem:
            return problem
    return None


def _random() -> str | None:
    """Random numbers are the same on every machine."""
    g = mg.Generator().manual_seed(7)
    found = mg.randint(0, 1000, (8,), generator=g).tolist()
    return None if found == RANDOM else f"seed 7 gives {found}, expected {RANDOM}"


def _threads() -> str | None:
    """A compiled sum has the same bits for one thread and for all."""
    x = mg.randn(300_000, generator=mg.Generator().manual_seed(1))
    total = mg.jit(lambda t: (t * t).sum())
    values, count = [total(x).item()], get_num_threads()
    try:
        set_num_threads(1)
        values.append(total(x).item())
    finally:
        set_num_threads(count)
    return None if values[0] == values[1] else f"{count} threads give {values[0]}, one {values[1]}"


def _compare(found: float, expected: float, tolerance: float) -> str | None:
    if abs(found - expected) <= tolerance * max(1.0, abs(expected)):
        return None
    return f"got {found!r}, expected {expected!r}"


RANDOM = [954, 750, 114, 85, 406, 795, 171, 957]

TESTS: list[tuple[str, Callable[[], str | None]]] = [
    ("compiled formula agrees with NumPy", _kernel),
    ("compiled matrix product agrees with NumPy", _product),
    ("compiled training steps agree with eager ones", _training),
    ("random numbers are those of every machine", _random),
    ("a compiled sum does not depend on the number of threads", _threads),
]
