"""Kernels to callable machine code: IR text, the caches, the compiler, the loader.

`compile_kernels([kernel, ...])` gives one Handle per kernel. Equal IR is compiled once per process
and, through cache.py, once per machine and version; what is missing compiles on all threads. Loaded
code stays for the life of the process.
"""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from ..codegen.llvm import module_ir
from ..codegen.objects import compile_ir, llvm_binding
from ..codegen.target import Target, host
from ..kernel.ir import Kernel
from . import cache, driver, threads

# Part of every cache key: raise it when the meaning of cached objects changes.
FORMAT = "1"
SYMBOL = "kernel"


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


def _load(key: str, body: bytes, symbol: str) -> int:
    """The address of a symbol of an object, linked into this process."""
    global _engine
    llvm = llvm_binding()
    with _lock:
        if key not in _loaded:
            if _engine is None:
                _engine = llvm.create_lljit_compiler()
            library = llvm.JITLibraryBuilder().add_object_img(body).export_symbol(symbol)
            tracker = library.add_current_process().link(_engine, key)
            _trackers.append(tracker)
            _loaded[key] = tracker[symbol]
        return _loaded[key]


@functools.cache
def _version() -> str:
    import llvmlite

    return f"{FORMAT}|{llvmlite.__version__}"


def object_for(text: str, target: Target) -> tuple[str, bytes]:
    """(cache key, object code) of a module, from the disk cache if it is there."""
    key = hashlib.sha256(f"{_version()}|{target.key}|{text}".encode()).hexdigest()
    body = cache.load(key)
    if body is None:
        body = compile_ir(text, target)
        cache.store(key, body)
    return key, body


def load_module(text: str, symbol: str, target: Target | None = None) -> int:
    """Compile and load a module of LLVM IR; the address of one of its functions."""
    key, body = object_for(text, target or host())
    return _load(f"{key}.{symbol}", body, symbol)


def load_driver() -> dict[str, int]:
    """The functions of driver.py. Built for any processor of this kind: it has no inner loops."""
    target = host()
    key, body = object_for(driver.driver_ir(target.triple), target)
    return {name: _load(f"{key}.{name}", body, name) for name in ("run", "worker", "stop")}


def kernel_text(kernel: Kernel, target: Target | None = None) -> str:
    """The LLVM IR of one kernel. The name is not part of it, so that equal kernels are shared."""
    return module_ir([replace(kernel, name=SYMBOL)], target or host())


def kernel_assembly(kernel: Kernel, target: Target | None = None) -> str:
    """The assembly of one kernel, for a person to read."""
    return compile_ir(kernel_text(kernel, target), target or host(), assembly=True)


def compile_kernels(kernels: Sequence[Kernel], target: Target | None = None) -> list[Handle]:
    """Native code for each kernel. KernelError if one breaks a rule of the loop language."""
    target = target or host()
    texts = [kernel_text(kernel, target) for kernel in kernels]
    unique = list(dict.fromkeys(texts))

    def prepare(text: str) -> int:
        return load_module(text, SYMBOL, target)

    workers = min(len(unique), threads.get_num_threads())
    if workers > 1:
        with ThreadPoolExecutor(workers) as pool:
            addresses = dict(zip(unique, pool.map(prepare, unique)))
    else:
        addresses = {text: prepare(text) for text in unique}
    return [
        Handle(kernel, addresses[text], hashlib.sha256(text.encode()).hexdigest()[:16])
        for kernel, text in zip(kernels, texts)
    ]
