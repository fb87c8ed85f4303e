"""Measured schedules: the fastest of several ways to compute one node, found once, kept on disk.

`mg.jit(autotune=True)` or MONOGRAPH_AUTOTUNE=1 switches it on. A lowering that has alternatives
asks `fastest(...)`; it measures steps as a program would run them, on operands that are not in the
caches, and remembers what was best beside the kernel cache. What is measured uses all cores,
whatever set_num_threads says, so that a choice (and with it the order of a sum) does not depend on
the number of threads.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

import numpy as np

from ..codegen.target import host
from ..core.dtype import from_code
from ..core.modes import modes
from ..ir.graph import Value
from ..kernel.digest import digest
from ..runtime import buffers, cache, machine, threads
from ..runtime.machine_code import compile_kernels
from ..runtime.program import Program, Task
from . import stored
from .steps import Context, Scratch, Step

# Less work than this (operations) is not worth measuring: the call costs more.
LEAST_FLOPS = 100_000
# Operands are read from as much memory, in at most so many copies.
COLD_BYTES, MOST_COPIES = 32 << 20, 16
# Another schedule is taken if it is faster by this; what is within it may be chance.
LEAST_GAIN = 1.03
# Time for one node's candidates, and for one candidate's runs.
NODE_SECONDS, RUN_SECONDS, ROUNDS = 3.0, 0.006, 3
SWEEPS = 2

Choice = TypeVar("Choice")


def enabled() -> bool:
    """Whether schedules are measured now: as `jit` was told, else as the environment says."""
    if modes.autotune is not None:
        return bool(modes.autotune)
    return os.environ.get("MONOGRAPH_AUTOTUNE", "") not in ("", "0")


def fastest(
    default: Choice,
    build: Callable[[Choice], Sequence[Step]],
    others: Callable[[Choice], list[list[Choice]]],
    write: Callable[[Choice], dict[str, Any]],
    read: Callable[[dict[str, Any]], Choice | None],
    context: Context,
) -> Choice:
    """The choice whose steps take the least time; `default` if nothing is clearly faster.

    build   the steps of a choice
    others  choices that differ from one in one respect, a list for each respect
    write, read  a choice as JSON and back (None: not a choice for this node)
    """
    steps = build(default)
    if sum(s.flops for s in steps) < LEAST_FLOPS:
        return default
    key = _key(steps, context.constant)
    known = cache.load(key)
    if known is not None:
        try:
            found = read(json.loads(known))
        except (ValueError, TypeError, KeyError):
            found = None
        if found is not None:
            return found
    best = _search(default, build, others, context)
    cache.store(key, json.dumps(write(best)).encode())
    return best


def _key(steps: Sequence[Step], constant: Collection[Value]) -> str:
    """What a choice depends on: the node (by its default steps), compiler and machine."""
    parts: list[Any] = ["schedule", stored.version(), host().key, machine.cpu_name()]
    parts += [machine.cache_sizes(), threads.available_cpus()]
    for s in steps:
        same = [b in constant for b in s.buffers]
        parts.append((digest(s.kernel), list(s.sizes), s.parallel, same))
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _search(
    default: Choice,
    build: Callable[[Choice], Sequence[Step]],
    others: Callable[[Choice], list[list[Choice]]],
    context: Context,
) -> Choice:
    """Change one respect after the other, as long as that helps and there is time."""
    end = time.perf_counter() + NODE_SECONDS
    seconds: dict[Choice, float] = {}

    def measure(choices: Sequence[Choice]) -> None:
        made = []
        for choice in dict.fromkeys(choices):
            if choice not in seconds:
                made.append((choice, _program(build(choice), context)))
        for (choice, _), t in zip(made, _best_times([program for _, program in made])):
            seconds[choice] = t

    before = threads.get_num_threads()
    threads.set_num_threads(threads.available_cpus())
    try:
        measure([default])
        best = default
        for _ in range(SWEEPS):
            start = best
            respect = 0
            while respect < len(groups := others(best)) and time.perf_counter() < end:
                measure(groups[respect])
                best = min(seconds, key=seconds.__getitem__)
                respect += 1
            if best == start:
                break
        if best == default:
            return default
        # Once more, side by side: the least of many measurements may be luck.
        programs = [_program(build(choice), context) for choice in (default, best)]
        old, new = _best_times(programs, 3 * ROUNDS)
        return best if new * LEAST_GAIN < old else default
    finally:
        threads.set_num_threads(before)


def _program(steps: Sequence[Step], context: Context) -> Program:
    """The steps on several sets of operands; what depends on constants only has run."""
    handles = compile_kernels([s.kernel for s in steps])
    sizes: dict[Any, tuple[int, Any]] = {}
    for s in steps:
        for b in s.buffers:
            if isinstance(b, Scratch):
                sizes[b] = (b.size, from_code(b.dtype).numpy)
            else:
                reach = sum((n - 1) * abs(k) for n, k in zip(b.shape, context.strides(b)) if n)
                sizes[b] = (reach + 1, b.dtype.numpy)
    total = sum(n * np.dtype(kind).itemsize for n, kind in sizes.values())
    copies = max(1, min(MOST_COPIES, COLD_BYTES // max(1, total)))
    same: set[Any] = set(context.constant)
    once: list[bool] = []
    for s in steps:
        written = [b for b, k in zip(s.buffers, s.kernel.buffers) if k.written]
        read = [b for b, k in zip(s.buffers, s.kernel.buffers) if not k.written]
        once.append(bool(same) and same.issuperset(read))
        if once[-1]:
            same.update(written)
    first: list[Task] = []
    tasks: list[Task] = []
    keep: list[np.ndarray] = []
    for _ in range(copies):
        arrays = {b: buffers.empty((n,), kind) for b, (n, kind) in sizes.items()}
        for array in arrays.values():  # zeros are as fast as other numbers, subnormal ones are not
            array.view(np.uint8)[...] = 0
        keep += arrays.values()
        for s, handle, is_first in zip(steps, handles, once):
            addresses = [arrays[b].ctypes.data for b in s.buffers]
            task = Task(handle, addresses, list(s.sizes), s.parallel)
            (first if is_first else tasks).append(task)
    if first:
        Program(first)()
    return Program(tasks, keep=keep)


def _best_times(programs: Sequence[Program], rounds: int = ROUNDS) -> list[float]:
    """Seconds of one run of each, the least of interleaved rounds."""
    best = [math.inf] * len(programs)
    for _ in range(rounds):
        for i, program in enumerate(programs):
            program()
            start = now = time.perf_counter()
            while now - start < RUN_SECONDS:
                begin = now
                program()
                now = time.perf_counter()
                best[i] = min(best[i], now - begin)
    return best


stored.facts.append(lambda: (enabled(), machine.cpu_name() if enabled() else ""))
