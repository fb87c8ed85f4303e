"""`mg.profiler`: where the time of a stretch of a program goes, kernel by kernel.

    with mg.profiler.profile() as prof:
        for _ in range(10):
            step(x, y)                                # under mg.jit, or eager
    print(prof.table())                               # one line per kernel, the slowest first
    print(prof.table(by="line"))                      # the same by the user's lines
    prof.export_chrome_trace("trace.json")            # for chrome://tracing or Perfetto

Times of kernels are taken inside the native driver, between the tasks of a call (runtime/driver.py,
`run_timed`); those of operations in NumPy and of the Python around them by stand-ins for the few
functions that all of them go through (`profile._stand_ins`). These are put in place when a profile
starts and taken out when it stops, so that nothing is slower without one. What a kernel computes
(operations, bytes, the user's lines) is what `mg.explain` says of it.
"""

from __future__ import annotations

import functools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np

from .api import composites, interpreter
from .capture import Capture, Jit
from .compiler.executable import Executable
from .compiler.explain import Explanation, Limits, align
from .compiler.plan import HostStep
from .core.errors import ArgumentError, Place, user_place
from .core.modes import modes
from .core.shape import numel
from .runtime import machine
from .runtime.threads import get_num_threads
from .transform import walk

__all__ = [
    "Average", "Averages", "Event", "ProfilerAction", "ProfilerActivity", "profile",
    "record_function", "schedule", "tensorboard_trace_handler",
]  # fmt: skip
GROUPS = ("kernel", "kind", "line")
ORDERS = ("time", "calls", "flops", "bytes")
# PyTorch's orders; there is no device beside the CPU, and memory is what is read and written.
OTHER_ORDERS = {"count": "calls"} | {
    f"{own}{device}_{what}": order
    for own in ("", "self_")
    for device in ("cpu", "cuda", "device")
    for what, order in (("time", "time"), ("time_total", "time"), ("memory_usage", "bytes"))
}
WORK = ("native", "NumPy")  # where arithmetic is done; the others are Python around it

now = time.perf_counter_ns


@dataclass(slots=True)
class Event:
    """One stretch of time: a kernel, an operation in NumPy, a call, or a range of the user's.

    where      "native" (a kernel, or a loop of them), "NumPy", "Python" (what an operation or a
               jitted call takes around its kernels), "compile", "user" (`record_function`)
    start_ns   nanoseconds of time.perf_counter_ns
    self_ns    of its nanoseconds, those that no event within it takes
    flops      operations of products and convolutions; elsewhere elements visited
    bytes      sizes of what it reads and writes, each once
    places     the user's lines that it computes
    """

    name: str
    where: str
    start_ns: int
    end_ns: int
    thread: int
    kind: str = ""
    flops: int = 0
    bytes: int = 0
    places: tuple[Place, ...] = ()
    self_ns: int = 0

    @property
    def lines(self) -> list[str]:
        """The user's lines: `train.py:12`."""
        return [f"{os.path.basename(p.file)}:{p.line}" for p in self.places]


@dataclass(slots=True)
class Average:
    """Events of one group added up; times do not count what happens within an event."""

    name: str
    where: str
    places: tuple[str, ...] = ()
    calls: int = 0
    seconds: float = 0.0
    flops: float = 0.0
    bytes: float = 0.0


@dataclass
class Averages(Sequence[Average]):
    """Groups of events. `str()` is the table; see `profile.key_averages`.

    seconds  how long the profile was on
    """

    rows: list[Average]
    seconds: float
    by: str
    limits: Callable[[], Limits] = field(repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: Any) -> Any:
        return self.rows[i]

    def table(self, sort_by: str = "time", row_limit: int = 100) -> str:
        """One line per group, the largest first; what the machine reaches is measured for it.

        sort_by    "time", "calls", "flops" or "bytes", or PyTorch's names ("cpu_time_total")
        row_limit  groups shown; -1: all

        Columns: calls, milliseconds and their share of the whole profile, operations and bytes with
        their rates, and the share of the roofline: the time that this machine's measured peaks of
        float32 arithmetic and memory would need, over the time taken (above 100% where the caches
        hold the data). ArgumentError for another order.
        """
        sort_by = OTHER_ORDERS.get(sort_by, sort_by)
        if sort_by not in ORDERS:
            raise ArgumentError(f"table: sort_by must be one of {ORDERS}, got {sort_by!r}")
        key = "seconds" if sort_by == "time" else sort_by
        order = sorted(self.rows, key=lambda a: getattr(a, key), reverse=True)
        shown = order if row_limit < 0 else order[:row_limit]
        head = [self.by, "where", "calls", "ms", "time", "MFLOP", "GFLOP/s", "MB", "GB/s",
                "roofline", "lines"]  # fmt: skip
        body = [self._cells(a) for a in shown]
        rest = order[len(shown) :]
        if rest:
            body.append(self._sum(f"{len(rest)} more", rest))
        idle = self.seconds - sum(a.seconds for a in order)
        if idle > 0:
            body.append(self._sum("outside of operations", [Average("", "", seconds=idle)]))
        body.append(["all", "", "", f"{self.seconds * 1e3:.3f}", *[""] * 7])
        return align(head, body, left={0, 1, len(head) - 1})

    def __str__(self) -> str:
        return self.table()

    def _sum(self, name: str, rows: list[Average]) -> list[str]:
        seconds = sum(a.seconds for a in rows)
        calls = sum(a.calls for a in rows)
        share = f"{seconds / self.seconds:.1%}"
        return [name, "", f"{calls or ''}", f"{seconds * 1e3:.3f}", share, *[""] * 6]

    def _cells(self, a: Average) -> list[str]:
        lines = " ".join(a.places[:3]) + (f" +{len(a.places) - 3}" if len(a.places) > 3 else "")
        cells = self._sum(a.name, [a])
        cells[1], cells[-1] = a.where, "" if self.by == "line" else lines
        if a.flops or a.bytes:
            seconds, limits = max(a.seconds, 1e-9), self.limits()
            needed = max(a.flops / limits.flops, a.bytes / limits.bandwidth)
            cells[5:10] = [
                f"{a.flops / 1e6:.3f}", f"{a.flops / seconds / 1e9:.1f}",
                f"{a.bytes / 1e6:.3f}", f"{a.bytes / seconds / 1e9:.1f}",
                f"{needed / seconds:.0%}",
            ]  # fmt: skip
        return cells


class ProfilerActivity(Enum):
    """PyTorch's names of what is looked at; here it is the CPU, whatever is asked for."""

    CPU = 0
    CUDA = 2
    XPU = 1


class ProfilerAction(Enum):
    """What a profile does in a step of its schedule."""

    NONE = 0
    WARMUP = 1
    RECORD = 2
    RECORD_AND_SAVE = 3


RECORDING = (ProfilerAction.RECORD, ProfilerAction.RECORD_AND_SAVE)


def schedule(
    *, wait: int = 0, warmup: int = 0, active: int, repeat: int = 0, skip_first: int = 0
) -> Callable[[int], ProfilerAction]:
    """What a profile does in each step: after skip_first, cycles of wait, warmup and active steps.

    repeat  cycles; 0: without end

    >>> plan = schedule(wait=1, warmup=1, active=2, repeat=1)
    >>> [plan(step).name for step in range(5)]
    ['NONE', 'WARMUP', 'RECORD', 'RECORD_AND_SAVE', 'NONE']
    """
    if active < 1 or min(wait, warmup, repeat, skip_first) < 0:
        raise ArgumentError("schedule: active must be 1 or more, and the others not negative")

    def plan(step: int) -> ProfilerAction:
        cycle, place = divmod(step - skip_first, wait + warmup + active)
        if step < skip_first or (repeat and cycle >= repeat) or place < wait:
            return ProfilerAction.NONE
        if place < wait + warmup:
            return ProfilerAction.WARMUP
        last = place == wait + warmup + active - 1
        return ProfilerAction.RECORD_AND_SAVE if last else ProfilerAction.RECORD

    return plan


def tensorboard_trace_handler(
    dir_name: Any, worker_name: str | None = None, use_gzip: bool = False
) -> Callable[[profile], None]:
    """For `on_trace_ready`: write each trace to a file of its own in the folder `dir_name`."""

    def write(prof: profile) -> None:
        os.makedirs(dir_name, exist_ok=True)
        name = f"{worker_name or os.getpid()}.{time.time_ns()}.pt.trace.json"
        prof.export_chrome_trace(os.path.join(dir_name, name))

    if use_gzip:
        raise ArgumentError("tensorboard_trace_handler: use_gzip=True is not supported")
    return write


class profile:
    """Notes what runs while it is on: as a context, or from `start()` to `stop()`.

    schedule        says which steps are noted (`schedule(...)`), with `step()` at each one's end
    on_trace_ready  called with the profile when a cycle of the schedule, or the context, has ended

    PyTorch's other arguments are taken without effect: shapes, memory and lines are always noted.
    Starting it again begins anew. One profile at a time, over all threads. A profiled call takes
    about four microseconds more and 0.2 for each kernel, an eager operation some microseconds.

    ArgumentError if another one is on.

    >>> double = mg.jit(lambda x: x * 2)
    >>> with profile() as prof:
    ...     y = double(mg.ones(1000))
    >>> [(a.name, a.calls) for a in prof.key_averages() if a.where == "native"]
    [('map_mul', 1)]
    """

    def __init__(
        self,
        activities: Any = None,
        schedule: Callable[[int], ProfilerAction] | None = None,
        on_trace_ready: Callable[[profile], Any] | None = None,
        record_shapes: bool = False,
        profile_memory: bool = False,
        with_stack: bool = False,
        with_flops: bool = False,
        with_modules: bool = False,
    ) -> None:
        self._schedule, self._ready = schedule, on_trace_ready
        self.step_num = 0
        self._spans: list[Event] = []
        self._runs: list[tuple[Executable, list[tuple[int, int]], int]] = []
        self._began = self._ended = 0
        self._replaced: list[tuple[Any, str, Any]] = []
        self._limits: Limits | None = None

    # On and off

    def start(self) -> None:
        """Begin, without what was noted before."""
        global _active
        with _lock:
            if _active is not None:
                raise ArgumentError("profile: another profile is on; stop it first")
            _active = self
        self._spans, self._runs, self._ended = [], [], 0
        for owner, name, stand_in in self._stand_ins():
            original = getattr(owner, name)
            self._replaced.append((owner, name, original))
            setattr(owner, name, functools.wraps(original)(stand_in(original)))
        self._began = now()

    def stop(self) -> None:
        """End it; what was noted stays. Nothing happens if it is not on."""
        global _active
        if _active is not self:
            return
        self._ended = now()
        for owner, name, original in reversed(self._replaced):
            setattr(owner, name, original)
        self._replaced = []
        _active = None

    def _action(self) -> ProfilerAction:
        return self._schedule(self.step_num) if self._schedule else ProfilerAction.RECORD

    def step(self) -> None:
        """The end of a step: what the schedule says of the next one begins."""
        before = self._action()
        self.step_num += 1
        if before is ProfilerAction.RECORD_AND_SAVE:
            self._finish()
        if self._action() in RECORDING and _active is not self:
            self.start()

    def _finish(self) -> None:
        self.stop()
        if self._ready is not None:
            self._ready(self)

    def __enter__(self) -> profile:
        self.step_num = 0
        if self._action() in RECORDING:
            self.start()
        return self

    def __exit__(self, *exc: Any) -> None:
        if _active is self:
            self._finish()

    # What was noted

    def events(self) -> list[Event]:
        """All events by their start; of those that start together, the outer one first."""
        found = list(self._spans)
        rows: dict[int, Any] = {}
        for executable, spans, thread in self._runs:
            if id(executable) not in rows:
                rows[id(executable)] = Explanation(executable).rows
            for row, (start, end) in zip(rows[id(executable)], spans):
                where = "NumPy" if isinstance(row.step, HostStep) else "native"
                found.append(Event(row.title, where, start, end, thread, row.family, row.flops,
                                   row.bytes, row.places))  # fmt: skip
        found = [e for e in found if e.end_ns >= self._began]
        found.sort(key=lambda e: (e.thread, e.start_ns, -e.end_ns))
        self._nest(found)
        return sorted(found, key=lambda e: (e.start_ns, -e.end_ns))

    @property
    def seconds(self) -> float:
        """How long the profile was on (so far)."""
        return ((self._ended or now()) - self._began) / 1e9 if self._began else 0.0

    def key_averages(
        self, by: str = "kernel", group_by_input_shape: bool = False, group_by_stack_n: int = 0
    ) -> Averages:
        """Events added up by "kernel" (its name and lines), "kind" or the user's "line".

        A kernel of several lines counts for each in equal parts. PyTorch's other arguments change
        nothing: kernels are of one shape and have their lines. ArgumentError for another `by`.
        """
        if by not in GROUPS:
            raise ArgumentError(f"key_averages: by must be one of {GROUPS}, got {by!r}")
        groups: dict[Any, Average] = {}
        for e in self.events():
            lines = tuple(e.lines)
            names: Sequence[Any] = [(e.kind or e.name, e.where)]
            if by == "kernel":
                names = [(e.name, e.where, lines)]
            elif by == "line":
                names = [(line, "") for line in lines or ("no line",)]
            for key in names:
                a = groups.setdefault(key, Average(*key))
                a.calls += 1
                a.seconds += e.self_ns / 1e9 / len(names)
                a.flops += e.flops / len(names)
                a.bytes += e.bytes / len(names)
        rows = sorted(groups.values(), key=lambda a: a.seconds, reverse=True)
        return Averages(rows, self.seconds, by, self._machine)

    def table(self, by: str = "kernel", sort_by: str = "time", row_limit: int = 100) -> str:
        """`key_averages(by)` as text; see Averages.table."""
        return self.key_averages(by).table(sort_by, row_limit)

    def export_chrome_trace(self, path: Any) -> None:
        """Write the events as JSON for chrome://tracing, Perfetto or Speedscope.

        Each thread has two tracks: one for kernels, one for Python and operations in NumPy.
        """
        threads: dict[int, int] = {}
        made: list[dict[str, Any]] = []
        process = os.getpid()
        for e in self.events():
            track = 2 * threads.setdefault(e.thread, len(threads)) + (e.where == "native")
            args: dict[str, Any] = {"lines": e.lines}
            if e.flops or e.bytes:
                args |= {"flops": e.flops, "bytes": e.bytes}
            made.append(
                {
                    "name": e.name, "cat": e.where, "ph": "X", "pid": process, "tid": track,
                    "ts": (e.start_ns - self._began) / 1e3, "dur": (e.end_ns - e.start_ns) / 1e3,
                    "args": args,
                }
            )  # fmt: skip
        for number in threads.values():
            for track, what in ((2 * number, "Python"), (2 * number + 1, "kernels")):
                title = what if number == 0 else f"{what}, thread {number}"
                for name, value in (("thread_name", title), ("thread_sort_index", track)):
                    args = {"name": value} if name == "thread_name" else {"sort_index": value}
                    made.append(
                        {"name": name, "ph": "M", "pid": process, "tid": track, "args": args}
                    )
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"traceEvents": made, "displayTimeUnit": "ms"}, file)

    # Helpers

    def _nest(self, events: list[Event]) -> None:
        """Own times, and lines for kernels of programs that know none: those of the op around."""
        outer: list[Event] = []
        for e in events:
            while outer and (outer[-1].thread != e.thread or outer[-1].end_ns <= e.start_ns):
                outer.pop()
            e.self_ns = e.end_ns - e.start_ns
            if outer:
                outer[-1].self_ns -= e.self_ns
                e.places = e.places or outer[-1].places
                if e.where == "native" and outer[-1].where == "NumPy":
                    outer[-1].where, outer[-1].flops, outer[-1].bytes = "Python", 0, 0
            outer.append(e)

    def _machine(self) -> Limits:
        if self._limits is None:
            count = get_num_threads()
            bandwidth = machine.read_bandwidth(parallel=count > 1)
            self._limits = Limits(machine.fma_peak("f32", count), bandwidth, count)
        return self._limits

    def _note(self, name: str, where: str, start: int, **facts: Any) -> None:
        self._spans.append(Event(name, where, start, now(), threading.get_ident(), **facts))

    def _stand_ins(self) -> list[tuple[Any, str, Callable[[Any], Callable]]]:
        """What is watched: (owner, name of a function, its stand-in as a function of it)."""

        def run_at(original: Any) -> Callable:
            def timed(executable: Executable, slots: int, arrays: Any, spans: Any = None) -> None:
                spans = [] if spans is None else spans
                self._runs.append((executable, spans, threading.get_ident()))
                original(executable, slots, arrays, spans)

            return timed

        def run(original: Any) -> Callable:
            def timed(op: Any, args: list[Any]) -> Any:
                start = now()
                made = original(op, args)
                end, place = now(), user_place()
                flops, size = _work(op, args, made)
                self._spans.append(
                    Event(op.name, "NumPy", start, end, threading.get_ident(), op.name, flops,
                          size, (place,) if place else ())
                )  # fmt: skip
                return made

            return timed

        def call(title: Callable[..., str], where: str) -> Callable[[Any], Callable]:
            def stand_in(original: Any) -> Callable:
                def timed(*args: Any, **kwargs: Any) -> Any:
                    if modes.trace is not None or modes.vmap is not None:
                        return original(*args, **kwargs)
                    start = now()
                    try:
                        return original(*args, **kwargs)
                    finally:
                        place = user_place()
                        self._note(title(*args), where, start, places=(place,) if place else ())

                return timed

            return stand_in

        return [
            (Executable, "run_at", run_at),
            (Executable, "__init__", call(lambda *_: "compile", "compile")),
            (Capture, "__init__", call(lambda _, jit, *__: f"capture {jit.__name__}", "compile")),
            (Jit, "__call__", call(lambda jit, *_: jit.__name__, "Python")),
            (Jit, "call_again", call(lambda jit, *_: jit.__name__, "Python")),
            (interpreter, "run", run),
            (composites.Composite, "__call__", call(lambda made, *_: made.name, "Python")),
            (composites.CompositeNode, "pull",
             call(lambda node, *_: f"{node.op.name} backward", "Python")),
            (walk, "run_backward", call(lambda *_: "backward", "Python")),
        ]  # fmt: skip


def _work(op: Any, args: list[Any], made: Any) -> tuple[int, int]:
    """Operations and bytes of an op on arrays, as explain counts them."""
    results = made if isinstance(made, (list, tuple)) else [made]
    operands = [a for a in args if isinstance(a, np.ndarray)]
    if op.is_view and operands and np.may_share_memory(operands[0], results[0]):
        return 0, 0
    size = sum(a.nbytes for a in (*operands, *results))
    if op.kind == "contraction":
        x, y, _ = op.parts()
        sizes = dict(zip(x, operands[0].shape)) | dict(zip(y, operands[1].shape))
        return 2 * numel(sizes.values()), size
    return max((a.size for a in (*operands, *results)), default=0), size


_lock = threading.Lock()
_active: profile | None = None


@contextmanager
def record_function(name: str) -> Iterator[None]:
    """Name a range of the program in the profile that is on; without one, nothing happens.

    Also a decorator.

    >>> with profile() as prof:
    ...     with record_function("forward"):
    ...         y = mg.ones(10) + 1
    >>> [e.name for e in prof.events() if e.where == "user"]
    ['forward']
    """
    start = now()
    try:
        yield
    finally:
        if _active is not None:
            place = user_place()
            _active._note(name, "user", start, places=(place,) if place else ())
