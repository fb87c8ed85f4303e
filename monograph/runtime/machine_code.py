"""Kernels to callable machine code: the caches, the compiler, the loader.

`compile_kernels([kernel, ...])` gives one Handle per kernel. Equal kernels (kernel/digest.py) are
compiled once per process and, through cache.py, once per machine and version of the code generator;
what is missing compiles on all threads. Loaded code stays for the life of the process.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..codegen.objects import compile_ir, llvm_binding
from ..codegen.target import Target, host
from ..kernel.digest import digest
from ..kernel.ir import Kernel
from . import cache, driver, threads

SYMBOL = "kernel"  # what every kernel's exported function is called in its object


@dataclass(frozen=True, slots=True)
class Handle:
    """A kernel as native code: `address` of void (void **buffers, const int64 *sizes, int64 first,
    int64 last)."""

    kernel: Kernel
    address: int
    key: str


_lock = threading.RLock()
_loaded: dict[str, int] = {}  # key -> address
_engine: Any = None
_trackers: list[Any] = []  # keep the code alive


def _after_fork_in_child() -> None:
    """Another thread of the parent may have held the lock."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def _load(key: str, body: bytes, symbol: str) -> int:
    """The address of a symbol of an object, linked into this process."""
    global _engine
    llvm = llvm_binding()
    with _lock:
        if key not in _loaded:
            if _engine is None:
                # JITLink keeps an object's sections together. The older linker maps each apart:
                # with gigabytes mapped they can be too far from each other, and LLVM aborts.
                _engine = llvm.create_lljit_compiler(use_jit_link=sys.platform != "win32")
            library = llvm.JITLibraryBuilder().add_object_img(body).export_symbol(symbol)
            tracker = library.add_current_process().link(_engine, key)
            _trackers.append(tracker)
            _loaded[key] = tracker[symbol]
        return _loaded[key]


@functools.cache
def _version() -> str:
    """Changes whenever LLVM or a file that decides what code is generated does."""
    import llvmlite

    root = Path(__file__).parent.parent
    files = [*sorted((root / "codegen").glob("*.py")), *sorted((root / "kernel").glob("*.py"))]
    sources = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    return f"{llvmlite.__version__}|{sources}"


def object_for(content: str, text: Callable[[], str], target: Target) -> tuple[str, bytes]:
    """(cache key, object code) of what `content` names, compiled from text() if need be."""
    key = _key(content, target)
    return key, cache.load(key) or _compile(key, text, target)


def _key(content: str, target: Target) -> str:
    return hashlib.sha256(f"{_version()}|{target.key}|{content}".encode()).hexdigest()


def _compile(key: str, text: Callable[[], str], target: Target) -> bytes:
    body = compile_ir(text(), target)
    cache.store(key, body)
    return body


def load_driver() -> dict[str, int]:
    """The functions of driver.py. Built for any processor of this kind: it has no inner loops."""
    target = host()
    text = driver.driver_ir(target.triple)
    key, body = object_for(text, lambda: text, target)
    names = [*driver.FUNCTIONS, *(f"{name}_flushed" for name in driver.FLUSHED)]
    return {name: _load(f"{key}.{name}", body, name) for name in names}


def kernel_text(kernel: Kernel, target: Target | None = None) -> str:
    """The LLVM IR of one kernel. The name is not part of it, so that equal kernels are shared."""
    llvm = importlib.import_module("monograph.codegen.llvm")  # where there is something to compile
    return llvm.module_ir([replace(kernel, name=SYMBOL)], target or host())


def kernel_assembly(kernel: Kernel, target: Target | None = None) -> str:
    """The assembly of one kernel, for a person to read."""
    return compile_ir(kernel_text(kernel, target), target or host(), assembly=True)


def compile_kernels(kernels: Sequence[Kernel], target: Target | None = None) -> list[Handle]:
    """Native code for each kernel. KernelError if one breaks a rule of the loop language."""
    target = target or host()
    names = [f"{digest(kernel)}|{target.key}" for kernel in kernels]
    unique = {name: kernel for name, kernel in zip(names, kernels) if name not in _loaded}
    keys = {name: _key(digest(kernel), target) for name, kernel in unique.items()}
    objects = {name: cache.load(key) for name, key in keys.items()}
    missing = [name for name, body in objects.items() if body is None]

    def make(name: str) -> bytes:
        return _compile(keys[name], lambda: kernel_text(unique[name], target), target)

    workers = min(len(missing), threads.get_num_threads())
    if workers > 1:
        with ThreadPoolExecutor(workers) as pool:
            objects.update(zip(missing, pool.map(make, missing)))
    else:
        objects.update((name, make(name)) for name in missing)
    for name, body in objects.items():
        assert body is not None
        _load(name, body, SYMBOL)
    return [Handle(k, _loaded[name], digest(k)[:16]) for k, name in zip(kernels, names)]
