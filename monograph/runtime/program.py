"""A compiled function as one native call: its tasks in order, over all threads.

    from monograph.runtime.machine_code import compile_kernels
    from monograph.runtime.program import Program, Slot, Task, launch

    add, scale = compile_kernels([add_kernel, scale_kernel])
    arena = buffers.empty((4096,), np.uint8)
    program = Program(
        [
            # Buffers in the order of Kernel.buffers: an address (arena, constants), or a Slot that
            # each call fills; sizes in the order of Kernel.sizes. Chunks come from Kernel.grid.
            Task(add, [Slot(0), Slot(1), arena.ctypes.data], [1024]),
            Task(scale, [arena.ctypes.data, Slot(2)], [1024], parallel=False),
        ],
        slots=3,
        keep=[arena],
    )
    program([x.ctypes.data, y.ctypes.data, out.ctypes.data])   # about two microseconds of Python

    launch(add, [x, y, out], [1024])     # one kernel, sizes at run time, the same pool

Chunks are claimed dynamically; a task begins when the one before it is complete. Programs may be
called from any thread: one program runs once at a time, and if another program has the pool, this
one runs on the calling thread alone (results are the same).
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..kernel.evaluate import evaluate_index
from . import driver, pool
from .buffers import address_of
from .machine_code import Handle
from .system import TICK_NS
from .threads import get_num_threads


@dataclass(frozen=True, slots=True)
class Slot:
    """An address given at each call, plus a constant offset."""

    index: int
    offset_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Task:
    """One kernel and what it works on. `parallel=False`: too little work to wake anybody for."""

    handle: Handle
    buffers: Sequence[int | Slot]
    sizes: Sequence[int] = ()
    parallel: bool = True


@dataclass(frozen=True, slots=True)
class Control:
    """Other programs as a task: one run `trips` times, or one of two (driver.py, `control`).

    prologue  a program to run once before the first, or None
    starts   per slot of the programs: (position in buffers, bytes from there)
    updates  per slot: (slot whose address it takes after an iteration, bytes to go on)
    finals   (slot, position in buffers, bytes): copied there at the end unless it is there
    test     the slot of a bool: go on while it holds, or take the first program; -1: none
    """

    buffers: Sequence[int | Slot]
    programs: Sequence[Program]
    prologue: Program | None
    starts: Sequence[tuple[int, int]]
    updates: Sequence[tuple[int, int]]
    finals: Sequence[tuple[int, int, int]]
    trips: int
    test: int

    def block(self) -> tuple[np.ndarray, list[Any]]:
        """The driver's words, and what they point to."""
        first, *others = self.programs
        once = [] if self.prologue is None else [self.prologue]
        for program in [*self.programs, *once]:  # all use the slots of the first
            program._request[driver.SLOTS] = first._own_slots
        tables = [np.array(t or [(0,)], np.int64) for t in (self.starts, self.updates, self.finals)]
        moved = np.zeros(len(self.starts) + 1, np.int64)
        words = np.zeros(driver.CONTROL_WORDS, np.int64)
        words[driver.TRIPS], words[driver.TEST] = self.trips, self.test
        words[driver.BODY] = first._request_address
        words[driver.PROLOGUE] = once[0]._request_address if once else 0
        words[driver.OTHER] = others[0]._request_address if others else 0
        words[driver.CONTROL_SLOTS] = first._own_slots
        words[driver.SLOT_COUNT] = len(self.starts)
        words[driver.STARTS], words[driver.UPDATES] = (t.ctypes.data for t in tables[:2])
        words[driver.FINALS], words[driver.FINAL_COUNT] = tables[2].ctypes.data, len(self.finals)
        words[driver.MOVED] = moved.ctypes.data
        return words, [*tables, moved, self.programs, once]


_programs: weakref.WeakSet[Program] = weakref.WeakSet()


class Program:
    """Tasks that run in order by one call; see the top of this file."""

    def __init__(self, tasks: Sequence[Task | Control], slots: int = 0, keep: Sequence[Any] = ()):
        self.tasks, self.slots, self.keep = list(tasks), slots, list(keep)
        self._native = pool.native()
        self._lock = threading.Lock()
        self._addresses = (ctypes.c_int64 * max(1, slots))()
        pointers = np.zeros(sum(len(t.buffers) for t in tasks) + 1, np.int64)
        sizes = np.zeros(sum(len(getattr(t, "sizes", ())) for t in tasks) + 1, np.int64)
        table = np.zeros((len(self.tasks), driver.TASK_WORDS), np.int64)
        fixups: list[tuple[int, int, int]] = []
        at_pointer, at_size = 0, 0
        for row, task in zip(table, self.tasks):
            row[1] = pointers.ctypes.data + 8 * at_pointer
            if isinstance(task, Control):
                block, used = task.block()
                self.keep += [block, used]
                row[2] = block.ctypes.data
            else:
                _check_task(task, slots)
                chunks = chunk_count(task)
                row[0] = task.handle.address
                row[2] = sizes.ctypes.data + 8 * at_size
                row[3] = chunks
                row[4] = _grain(chunks) if task.parallel else 0
                count = len(task.handle.kernel.sizes)
                sizes[at_size : at_size + count] = list(task.sizes)
                at_size += count
            for buffer in task.buffers:
                if isinstance(buffer, Slot):
                    place = pointers.ctypes.data + 8 * at_pointer
                    fixups.append((place, buffer.index, buffer.offset_bytes))
                else:
                    pointers[at_pointer] = buffer
                at_pointer += 1
        self._fixups = np.array(fixups or [(0, 0, 0)], np.int64)
        self._tables = (table, pointers, sizes)
        self._any_parallel = bool((table[:, 4] > 0).any() and (table[:, 3] > 1).any()) or any(
            p._any_parallel
            for t in self.tasks
            if isinstance(t, Control)
            for p in (*t.programs, t.prologue)
            if p is not None
        )
        self._request = (ctypes.c_int64 * driver.REQUEST_WORDS)(
            table.ctypes.data,
            len(self.tasks),
            self._fixups.ctypes.data,
            len(fixups),
            0,
            _IDLE_ADDRESS,
            1,
            0,
        )
        self._own_slots = ctypes.addressof(self._addresses)
        self._request_address = ctypes.addressof(self._request)
        _programs.add(self)

    def __call__(self, addresses: Sequence[int] = ()) -> None:
        """Run all tasks; `addresses` fill the slots. Returns when everything is written."""
        with self._lock:
            self._addresses[: self.slots] = addresses  # type: ignore[call-overload]  # ValueError unless there is one per slot
            self._request[driver.SLOTS] = self._own_slots
            self._run(self._request, self._native.run)

    def run_at(self, slots: int) -> None:
        """The same with the addresses at hand: 8-byte words, the first at address `slots`."""
        lock = self._lock
        lock.acquire()  # `with` would take twice as long
        try:
            self._request[driver.SLOTS] = slots
            if self._any_parallel:
                self._run(self._request, self._native.run)
            else:
                self._native.run(self._request_address)
        finally:
            lock.release()

    def _run(self, request: Any, run: Any) -> None:
        """`run`, a function of the driver, with threads if there are any to be had."""
        count = get_num_threads() if self._any_parallel else 1
        if count > 1 and pool.lock.acquire(blocking=False):
            lock = pool.lock
            try:
                request[driver.POOL], request[driver.THREADS] = pool.pool().address, count
                run(ctypes.addressof(request))
            finally:
                lock.release()
        else:
            request[driver.POOL], request[driver.THREADS] = _IDLE_ADDRESS, 1
            run(ctypes.addressof(request))

    def run_timed(self, slots: int) -> list[int]:
        """run_at, and when it began and each task ended: nanoseconds of time.perf_counter_ns."""
        stamps = (ctypes.c_int64 * (len(self.tasks) + 1))()
        with self._lock:
            self._request[driver.SLOTS] = slots
            self._request[driver.STAMPS] = ctypes.addressof(stamps)
            self._run(self._request, self._native.run_timed)
        return [round(ticks * TICK_NS) for ticks in stamps]


def _grain(chunks: int) -> int:
    """Chunks per claim: one, unless there are so many that claiming itself would cost."""
    return max(1, chunks // 1024)


def chunk_count(task: Task) -> int:
    """Kernel.grid for the task's sizes."""
    kernel = task.handle.kernel
    return evaluate_index(kernel.grid, dict(zip(kernel.sizes, task.sizes)))


def _check_task(task: Task, slots: int) -> None:
    kernel = task.handle.kernel
    if len(task.buffers) != len(kernel.buffers):
        raise ValueError(
            f"kernel {kernel.name} has {len(kernel.buffers)} buffers, the task {len(task.buffers)}"
        )
    if len(task.sizes) != len(kernel.sizes):
        raise ValueError(
            f"kernel {kernel.name} has {len(kernel.sizes)} sizes, the task {len(task.sizes)}"
        )
    for buffer in task.buffers:
        if isinstance(buffer, Slot) and not 0 <= buffer.index < slots:
            raise ValueError(f"kernel {kernel.name}: slot {buffer.index} is outside of {slots}")


# A pool block for runs that use no workers.
_idle = np.zeros(driver.pool_words(1), np.int64)
_IDLE_ADDRESS: int = _idle.ctypes.data


def launch(
    handle: Handle, arrays: Sequence[Any], sizes: Sequence[int] = (), parallel: bool = True
) -> None:
    """Run one kernel on arrays (or addresses). Sizes may differ from call to call."""
    addresses = [x if isinstance(x, int) else address_of(x) for x in arrays]
    Program([Task(handle, addresses, sizes, parallel)])()


def _forget_locks() -> None:
    for program in list(_programs):
        program._lock = threading.Lock()


pool.after_fork.append(_forget_locks)
