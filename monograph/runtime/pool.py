"""The pool of native workers.

Workers are Python threads that enter generated code (driver.py) and stay there with the interpreter
lock released: spinning briefly between tasks, asleep otherwise. The pool starts at the first
parallel program; a forked child starts its own. Used by program.py.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import threading
from typing import Any

import numpy as np

from ..codegen.target import host
from . import driver, system
from .machine_code import load_driver
from .system import TICK_NS
from .threads import get_num_threads

SPIN_S = 300e-6  # how long a waiting thread spins before it sleeps


class Native:
    """The driver's functions, compiled once per process."""

    def __init__(self) -> None:
        call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
        loaded = load_driver()
        # The interpreter is kept from running meanwhile, which would change what is looked at.
        self.changed = ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(loaded.pop("changed"))
        self._functions = {name: call(at) for name, at in loaded.items()}
        self.stop = self._functions["stop"]
        self.choose(False)

    def choose(self, flushed: bool) -> None:
        """Take the functions in which subnormal numbers are zero, or the others."""
        suffix = "_flushed" if flushed else ""
        self.worker, self.run, self.run_timed = (
            self._functions[name + suffix] for name in ("worker", "run", "run_timed")
        )


class Pool:
    """A pool block and the threads that live on it."""

    def __init__(self, native: Native, workers: int):
        words = driver.pool_words(workers + 1)
        memory = np.zeros(words + 8, np.int64)
        skip = -memory.ctypes.data % 64 // 8
        self.memory = memory[skip : skip + words]
        self.address = self.memory.ctypes.data
        self.native = native
        self.memory[driver.MEMBERS] = workers + 1
        self.memory[driver.SPIN] = round(SPIN_S * 1e9 / TICK_NS)
        if os.name == "posix":  # Windows' locks begin as zeros
            libc: Any = ctypes.CDLL(None)
            libc.pthread_mutex_init(ctypes.c_void_p(self.address + 8 * driver.MUTEX), None)
            for word in (driver.COND, driver.OVER):
                libc.pthread_cond_init(ctypes.c_void_p(self.address + 8 * word), None)
        seats = [driver.RUNS + 8 * i for i in range(1, workers + 1)]
        for number, seat in enumerate(seats, 1):
            self.memory[seat + 1 : seat + 3] = self.address, number
        self.threads = [
            threading.Thread(
                target=native.worker,
                args=(self.address + 8 * seat,),
                daemon=True,
                name=f"monograph-{number}",
            )
            for number, seat in enumerate(seats, 1)
        ]
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        self.native.stop(self.address)
        for thread in self.threads:
            thread.join()


lock = threading.Lock()  # held while a program uses the pool
_native: Native | None = None
_pool: Pool | None = None


def native() -> Native:
    global _native
    if _native is None:
        _native = Native()
    return _native


def pool() -> Pool:
    """The pool for the present number of threads. The caller holds `lock`."""
    global _pool
    workers = get_num_threads() - 1
    if _pool is not None and len(_pool.threads) != workers:
        _stop_pool()
    if _pool is None:
        _pool = Pool(native(), workers)
    return _pool


def set_flush_denormal(mode: bool) -> bool:
    """Take subnormal numbers (below 1.2e-38 in float32) for zero in compiled code, or do not.

    Processors compute with them many times slower. Returns whether this one can (x86-64 and
    AArch64). Of operations on few elements, which NumPy computes, nothing changes.

    >>> set_flush_denormal(True)
    True
    >>> jit(lambda x: x * 0.5)(full((100,), 2e-38)).max().item()
    0.0
    >>> _ = set_flush_denormal(False)
    """
    if not system.can_flush(host().triple):
        return False
    with lock:
        _stop_pool()
        native().choose(bool(mode))
    return True


def _stop_pool() -> None:
    global _pool
    if _pool is not None:
        _pool.stop()
        _pool = None


def _after_fork_in_child() -> None:
    # The workers exist in the parent only; locks may have been held by threads that are gone.
    global lock, _pool
    lock = threading.Lock()
    _pool = None
    for forget in after_fork:
        forget()


after_fork: list[Any] = []  # what else starts anew in a forked child

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


@atexit.register
def _at_exit() -> None:
    """Workers must leave generated code before the interpreter takes it away."""
    if lock.acquire(timeout=1.0):
        _stop_pool()
        lock.release()
