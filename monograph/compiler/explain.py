"""What became of a function: an executable as a report for a person.

`Explanation` holds the graph, the groups, one `Row` per kernel, the memory plan and, once `measure`
has run, times beside what this machine can do. `str()` is the whole report; `.llvm(i)` and
`.assembly(i)` go down to the machine. report.py makes one from a function (`mg.explain`).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..core.errors import Place
from ..core.sizes import Binding
from ..ir.graph import Node, Value
from ..ir.text import format_graph
from ..kernel.evaluate import evaluate_index
from ..kernel.printer import str_kernel
from ..runtime import machine
from ..runtime.machine_code import kernel_assembly, kernel_text
from ..runtime.program import Slot
from ..runtime.threads import get_num_threads
from .control import ControlStep
from .executable import Executable, size_bytes
from .fuse import Group
from .plan import HostStep
from .steps import Scratch, Step

# A constant longer than this prints as its first characters.
LONGEST_CONSTANT = 60
# Operands that a row shows.
MOST_SHAPES = 12


@dataclass
class Row:
    """One kernel (or one op that runs in NumPy) of the program, in the order of execution.

    places   the user's lines that it computes
    chunks   pieces of work that threads claim (0 for an op in NumPy)
    flops    floating-point operations of products and convolutions; elsewhere elements visited
    bytes    sizes of its buffers, each once: what must move if the caches held nothing
    seconds  best of the measured runs, None before `measure`
    """

    title: str
    places: tuple[Place, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    chunks: int
    parallel: bool
    flops: int
    bytes: int
    step: Step | HostStep | ControlStep
    seconds: float | None = None

    @property
    def family(self) -> str:
        """The kernel's kind: `map` and `reduce` for loops, else its title."""
        head = self.title.split("_")[0]
        return head if head in ("map", "reduce") else self.title

    @property
    def lines(self) -> str:
        """The user's lines, `train.py:12 train.py:15`; at most three."""
        names = [f"{os.path.basename(p.file)}:{p.line}" for p in self.places]
        return " ".join(names[:3]) + (f" +{len(names) - 3}" if len(names) > 3 else "")

    @property
    def shapes(self) -> str:
        """What it reads -> what it writes."""
        return f"{_repeats(self.reads, most=MOST_SHAPES)} -> {_repeats(self.writes)}"


@dataclass
class Limits:
    """What this machine reaches with the threads in use, measured."""

    flops: float  # float32 operations per second, multiply-adds counted as two
    bandwidth: float  # bytes per second read from memory
    threads: int


@dataclass
class Explanation:
    """A compiled function, readable. `str()` is the report; the parts are attributes.

    rows          one per kernel, in the order of execution
    inner         row number -> the body of a loop or branch there, of one iteration
    seconds       the whole program as one call (best of the measured runs), or None
    copy_seconds  of that, results that Python copies to their place at the end, or None
    limits        the machine's measured peaks, or None before `measure`
    """

    executable: Executable
    name: str = "function"
    note: str = ""
    rows: list[Row] = field(default_factory=list)
    seconds: float | None = None
    copy_seconds: float | None = None
    limits: Limits | None = None

    def __post_init__(self) -> None:
        if not self.rows:
            e = self.executable
            steps = e.steps if e.prologue is not None else e.plan.steps
            self.rows = [_row(s, e.at) for s in steps]
        self.inner = {
            i: [Explanation(body.bound(self.executable.at)) for body in r.step.bodies]
            for i, r in enumerate(self.rows)
            if isinstance(r.step, ControlStep)
        }

    # Text

    @property
    def captured(self) -> str:
        """The graph as it was captured, before any pass."""
        return _shorten(format_graph(self.executable.source))

    @property
    def graph(self) -> str:
        """The graph after the passes, with the user's lines."""
        return _shorten(format_graph(self.executable.graph))

    @property
    def groups(self) -> str:
        """What is computed together: one line per group of the fusion."""
        plan = self.executable.plan
        width = len(str(len(plan.groups)))
        return "\n".join(f"{i:{width}} {_group_line(g)}" for i, g in enumerate(plan.groups))

    @property
    def kernels(self) -> str:
        """Every different kernel in the loop language."""
        texts = dict.fromkeys(
            str_kernel(r.step.kernel) for r in self.rows if isinstance(r.step, Step)
        )
        return "\n".join(texts)

    @property
    def table(self) -> str:
        """One line per kernel, in the order of execution."""
        head = ["#", "kernel", "chunks", *_MEASURES, "reads -> writes", "lines"]
        body = []
        for i, r in enumerate(self.rows):
            chunks = f"{r.chunks}" if r.parallel else f"{r.chunks} alone"
            if isinstance(r.step, HostStep):
                chunks = "NumPy"
            elif isinstance(r.step, ControlStep):
                chunks = "loop" if r.step.is_native else "Python"
            body.append([f"{i}", r.title, chunks, *self._measures([r]), r.shapes, r.lines])
        return align(head, body, left={1, 2, len(head) - 2, len(head) - 1})

    @property
    def once(self) -> str:
        """What is computed of unchanging tensors alone: before the first call, and when they have
        changed (of other tensors that a loop reads in each turn: before the loop). Empty if there
        is nothing."""
        parts = self._once()
        return align(["kernel", "reads -> writes", "lines"], parts, left={0, 1, 2}) if parts else ""

    def _once(self) -> list[list[str]]:
        e = self.executable
        steps = [] if e.first is None else list(e.first.plan.steps)
        if e.prologue is not None:
            steps += [s for s in e.plan.steps[: e.plan.prologue] if isinstance(s, Step)]
        parts = [[r.title, r.shapes, r.lines] for r in (_row(s, e.at) for s in steps)]
        for inner in (x for bodies in self.inner.values() for x in bodies):
            parts += inner._once()
        return parts

    @property
    def bodies(self) -> str:
        """The kernels of each loop's or branch's body, one table after another."""
        parts = []
        for i, bodies in self.inner.items():
            for inner in bodies:
                parts.append(f"body of {self.rows[i].title} (row {i})\n" + _indent(inner.table))
                parts += [inner.bodies] if inner.bodies else []
        return "\n".join(parts)

    @property
    def every_row(self) -> list[Row]:
        """The rows, and instead of a loop whose body was measured the body's, all turns of it."""
        found: list[Row] = []
        for i, r in enumerate(self.rows):
            inner = self.inner.get(i, [])
            if len(inner) != 1 or inner[0].limits is None:
                found.append(r)
                continue
            trips = self.executable.at(r.step.trips)  # type: ignore[union-attr]
            found += [
                replace(b, flops=b.flops * trips, bytes=b.bytes * trips,
                        seconds=(b.seconds or 0.0) * trips)
                for b in inner[0].every_row
            ]  # fmt: skip
        return found

    @property
    def families(self) -> str:
        """Kernels of one kind added up, the slowest (or else the largest) kind first."""
        kinds: dict[str, list[Row]] = {}
        rows_of_all = self.every_row
        for r in rows_of_all:
            kinds.setdefault(r.family, []).append(r)
        order = sorted(kinds.items(), key=lambda kv: _weight(kv[1]), reverse=True)
        body = [[name, f"{len(rows)}", *self._measures(rows)] for name, rows in order]
        if self.rows:
            body.append(["all", f"{len(rows_of_all)}", *self._measures(rows_of_all)])
        return align(["kind", "kernels", *_MEASURES], body, left={0})

    @property
    def memory(self) -> str:
        """The memory plan in words."""
        e = self.executable
        plan, graph = e.plan, e.graph

        def total(values: Iterable[Any]) -> str:
            return _size(sum(e.at(size_bytes(b)) for b in values))

        constants = sum(np.asarray(a).nbytes for a in graph.constants.values())
        return (
            f"{len(plan.offsets)} buffers in an arena of {_size(plan.arena_bytes)} "
            f"({total(plan.offsets)} without reuse); "
            f"{len(graph.inputs)} inputs of {total(graph.inputs)}, "
            f"{len(graph.outputs)} outputs of {total(graph.outputs)}, "
            f"{len(plan.alias)} of them written over an input; "
            f"{len(e.extra)} results of {total(v for _, v in e.extra)} copied to "
            f"their place at the end; {len(graph.constants)} constants of {_size(constants)}"
        )

    @property
    def totals(self) -> str:
        """Work, time and shares of the machine in a few lines."""
        flops, size = sum(r.flops for r in self.rows), sum(r.bytes for r in self.rows)
        lines = [f"{len(self.rows)} kernels, {flops / 1e6:.4g} MFLOP, {_size(size)} touched"]
        host = sum(isinstance(r.step, HostStep) for r in self.rows)
        if host:
            lines[0] += f", {host} of them in NumPy"
        if self.seconds is not None and self.limits is not None:
            parts = sum(r.seconds or 0.0 for r in self.rows)
            copies = f", copies at the end {_time(self.copy_seconds)}" if self.copy_seconds else ""
            lines.append(
                f"one call {_time(self.seconds)}, kernels alone {_time(parts)}{copies}; "
                f"{flops / self.seconds / 1e9:.4g} GFLOP/s = "
                f"{flops / self.seconds / self.limits.flops:.0%} of the FMA peak"
            )
            lines.append(
                f"machine, measured now with {self.limits.threads} threads: "
                f"{self.limits.flops / 1e9:.4g} GFLOP/s (float32 FMA), "
                f"{self.limits.bandwidth / 1e9:.4g} GB/s read from memory"
            )
        return "\n".join(lines)

    def kernel(self, i: int) -> str:
        """Row i's kernel in the loop language."""
        return str_kernel(self._step(i).kernel)

    def llvm(self, i: int) -> str:
        """Row i's kernel as LLVM IR."""
        return kernel_text(self._step(i).kernel)

    def assembly(self, i: int) -> str:
        """Row i's kernel as assembly of this processor."""
        return kernel_assembly(self._step(i).kernel)

    def __str__(self) -> str:
        parts = [
            f"{self.name}: {self.note}".rstrip(": "),
            "graph\n" + _indent(self.graph),
            "groups\n" + _indent(self.groups),
            "kernels\n" + _indent("\n".join([self.table, self.bodies]).rstrip()),
            *(["once, before the first call\n" + _indent(self.once)] if self.once else []),
            "kinds\n" + _indent(self.families),
            "memory\n" + _indent(self.memory),
            "totals\n" + _indent(self.totals),
        ]
        return "\n\n".join(parts)

    def __repr__(self) -> str:
        took = "" if self.seconds is None else f", {_time(self.seconds)} a call"
        return f"<explanation of {self.name}: {len(self.rows)} kernels{took}; print() it>"

    # Times

    def measure(
        self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], rounds: int = 5
    ) -> None:
        """Run on these arrays (all C-contiguous) and keep the best time of each kernel.

        What the program overwrites among `inputs` is the same again before every run, and after.
        Kernels are timed within the program, by the driver.
        """
        e = self.executable
        donated = {e.donate[o] for o in e.donate}
        before = {i: inputs[i].copy() for i in donated}
        arrays = [*inputs, *outputs]
        slots = np.array([a.ctypes.data for a in arrays], np.int64)

        def restore() -> None:
            for i, a in before.items():
                np.copyto(inputs[i], a)

        try:
            if e.must_prepare:
                e.prepare(slots.ctypes.data, arrays)
            e.run_at(slots.ctypes.data, arrays)  # reports bad indices, and warms up
            whole: list[float] = []
            each: list[list[float]] = []
            copies: list[float] = []
            for _ in range(max(1, rounds)):
                restore()
                start = time.perf_counter()
                e.run_at(slots.ctypes.data, arrays)
                whole.append(time.perf_counter() - start)
                restore()
                spans: list[tuple[int, int]] = []
                e.run_at(slots.ctypes.data, arrays, spans)
                each.append([(end - start) / 1e9 for start, end in spans])
                start = time.perf_counter()
                for slot, v, _ in e.copies:
                    np.copyto(arrays[slot], e._view(v, arrays))
                copies.append(time.perf_counter() - start)
        finally:
            restore()
            for word, _ in e.checks:
                word[0] = 0
        self.seconds = min(whole)
        self.copy_seconds = min(copies) if e.copies else None
        for row, times in zip(self.rows, zip(*each), strict=True):
            row.seconds = min(times)
        threads = get_num_threads()
        # Measured anew, and more than once: a neighbour may have had a core for a moment.
        peak = max(machine.fma_peak.__wrapped__("f32", threads) for _ in range(3))
        self.limits = Limits(peak, machine.read_bandwidth(parallel=threads > 1), threads)
        for i in self.inner:
            self._measure_body(i, slots, max(1, rounds))

    def _measure_body(self, i: int, slots: np.ndarray, rounds: int) -> None:
        """The first iteration of a loop whose number of turns is known, kernel by kernel."""
        e, (inner, *others) = self.executable, self.inner[i]
        step: ControlStep = self.rows[i].step  # type: ignore[assignment]
        body = inner.executable
        if others or step.test >= 0 or body.program is None or body.space is not None:
            return
        where = [e._address(b) for b in step.buffers]
        given = [int(slots[a.index]) + a.offset_bytes if isinstance(a, Slot) else a for a in where]
        start = np.array([given[b] + shift for b, shift in step.starts], np.int64)
        each = []
        for _ in range(rounds):
            stamps = body.program.run_timed(start.ctypes.data)
            each.append([(b - a) / 1e9 for a, b in zip(stamps, stamps[1:])])
        for row, times in zip(inner.rows, zip(*each), strict=True):
            row.seconds = min(times)
        inner.limits = self.limits
        for number in inner.inner:
            inner._measure_body(number, start, rounds)

    # Helpers

    def _step(self, i: int) -> Step:
        step = self.rows[i].step
        if isinstance(step, HostStep):
            raise ValueError(f"row {i} ({self.rows[i].title}) runs in NumPy: it has no kernel")
        if isinstance(step, ControlStep):
            raise ValueError(f"row {i} ({self.rows[i].title}) has a body: see `bodies`")
        return step

    def _measures(self, rows: Sequence[Row]) -> list[str]:
        flops, size = sum(r.flops for r in rows), sum(r.bytes for r in rows)
        cells = [f"{flops / 1e6:.3f}", f"{size / 1e6:.3f}"]
        if self.limits is None or any(r.seconds is None for r in rows):
            return cells + [""] * (len(_MEASURES) - 2)
        seconds = max(sum(r.seconds or 0.0 for r in rows), 1e-9)
        total = max(sum(r.seconds or 0.0 for r in self.rows), 1e-9)
        return cells + [
            f"{seconds * 1e3:.3f}",
            f"{seconds / total:.0%}",
            f"{flops / seconds / 1e9:.1f}",
            f"{flops / seconds / self.limits.flops:.0%}",
            f"{size / seconds / 1e9:.1f}",
            f"{size / seconds / self.limits.bandwidth:.0%}",
        ]


_MEASURES = ["MFLOP", "MB", "ms", "time", "GFLOP/s", "peak", "GB/s", "memory"]


def _row(step: Step | HostStep | ControlStep, at: Binding) -> Row:
    if not isinstance(step, Step):
        node = step.node
        values: list[Value] = [*node.values, *node.outputs]
        return Row(
            node.op.name,
            _places([node]),
            tuple(_shape(v) for v in node.values),
            tuple(_shape(v) for v in node.outputs),
            0,
            False,
            at(step.flops) if isinstance(step, ControlStep) else 0,
            sum(at(size_bytes(v)) for v in dict.fromkeys(values)),
            step,
        )
    written = [b.written for b in step.kernel.buffers]
    sizes = {name: at(n) for name, n in zip(step.kernel.sizes, step.sizes)}
    return Row(
        step.title or step.kernel.name,
        _places(step.nodes),
        tuple(_shape(b) for b, w in zip(step.buffers, written) if not w),
        tuple(_shape(b) for b, w in zip(step.buffers, written) if w),
        int(evaluate_index(step.kernel.grid, sizes)),
        step.parallel,
        at(step.flops),
        sum(at(size_bytes(b)) for b in dict.fromkeys(step.buffers)),
        step,
    )


def _places(nodes: Iterable[Node]) -> tuple[Place, ...]:
    return tuple(dict.fromkeys(n.place for n in nodes if n.place is not None))


def _shape(b: Value | Scratch) -> str:
    if isinstance(b, Scratch):
        return f"scratch[{b.size}]"
    return repr(b.aval)


def _group_line(group: Group) -> str:
    if group.node is not None:
        what = f"{group.node.op.name} with a kernel of its own"
        shapes = ", ".join(repr(v.aval) for v in group.node.outputs)
        lines = _places([group.node])
    else:
        names = [v.node.op.name for v in group.items if v.node is not None]
        axes = "" if group.axes is None else f" reducing {group.axes}"
        what = f"loops over {tuple(group.full)}{axes}: {_repeats(names, ', ')}"
        shapes = ""
        lines = _places(v.node for v in group.items if v.node is not None)
    where = " ".join(f"{os.path.basename(p.file)}:{p.line}" for p in lines[:3])
    return f"{what} {shapes}".rstrip() + (f"  # {where}" if where else "")


def _repeats(words: Iterable[str], between: str = " ", most: int = 1 << 30) -> str:
    """Words in order; equal neighbours once, with their number; no more than `most` of them."""
    found: list[tuple[str, int]] = []
    for w in words:
        if found and found[-1][0] == w:
            found[-1] = (w, found[-1][1] + 1)
        else:
            found.append((w, 1))
    parts = [w if n == 1 else f"{n}x {w}" for w, n in found[:most]]
    return between.join([*parts, f"+{len(found) - most}"] if len(found) > most else parts)


def _weight(rows: list[Row]) -> tuple[float, int]:
    return sum(r.seconds or 0.0 for r in rows), sum(r.flops + r.bytes for r in rows)


def _shorten(text: str) -> str:
    """Long constants cut."""

    def cut(match: re.Match[str]) -> str:
        inner = match[1]
        if len(inner) <= LONGEST_CONSTANT:
            return match[0]
        return f"constant [{inner[:LONGEST_CONSTANT].rsplit(',', 1)[0]}, ...]"

    return re.sub(r"constant \[([^\]]*)\]", cut, text)


def align(head: list[str], body: list[list[str]], left: set[int]) -> str:
    """A table with columns as wide as their widest cell; empty columns are left out."""
    keep = [c for c in range(len(head)) if any(row[c] for row in body)]
    rows = [[row[c] for c in keep] for row in [head, *body]]
    widths = [max(len(row[c]) for row in rows) for c in range(len(keep))]
    justify: list[Callable[[str, int], str]] = [str.ljust if c in left else str.rjust for c in keep]
    return "\n".join(
        "  ".join(j(cell, w) for j, cell, w in zip(justify, row, widths)).rstrip() for row in rows
    )


def _indent(text: str) -> str:
    return "\n".join("  " + line for line in text.splitlines())


def _size(count: float) -> str:
    for unit in ("B", "KB", "MB"):
        if count < 1000:
            return f"{count:.4g} {unit}"
        count /= 1000
    return f"{count:.4g} GB"


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:.4g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.4g} us"
