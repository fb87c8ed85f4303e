"""A compiled graph: its plan placed in memory, compiled, linked to one program, and run.

`compile_graph(graph)` is what the rest of the product calls. How plans are made is pipeline.py, and
where they are kept, stored.py.
"""

from __future__ import annotations

import importlib
import time
from array import array
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from ..core.errors import IndexRangeError
from ..core.shape import contiguous_strides
from ..core.sizes import PLAIN, Binding
from ..ir.evaluate import as_array
from ..ir.graph import Graph, Value
from ..runtime import buffers
from ..runtime.machine_code import compile_kernels
from ..runtime.program import Control, Program, Slot, Task
from . import stored
from .control import ControlStep
from .layout import Layouts
from .memory import Need, plan_arena
from .moves import move
from .plan import SMALL_WORK, HostStep, Plan, written_by
from .sizes import (
    Family,
    NotDynamic,
    as_word,
    space_of,
)
from .steps import Scratch, Step


class Executable:
    """A compiled graph. `run(inputs, outputs)` computes outputs from inputs, all C-contiguous
    arrays.

    donated    output positions whose array must be the donated input's own
    body        the graph is the body of a loop or branch: `program` is all of it, or None where
                NumPy computes some of it
    more_slots  of `program`, which the loop uses
    steady      positions of inputs that stay the same from run to run. What depends on them alone
                is `prologue` for a body, which its loop runs; else `prepare` must be called before
                the first run, and again when one of them has changed
    """

    def __init__(
        self,
        graph: Graph,
        donate: dict[int, int] | None = None,
        body: bool = False,
        more_slots: int = 0,
        steady: Collection[int] = (),
    ):
        self.source = graph
        self.made_of = (graph, donate, body, more_slots, steady)
        self.is_body = body
        self.more_slots = more_slots
        self.space = space = space_of(graph)

        def make() -> Plan:
            pipeline = importlib.import_module("monograph.compiler.pipeline")  # with all kernels
            return pipeline.plan_of(graph, donate, body, steady, _compile_body)

        guards: dict[Any, Any] = {}

        def make_at_sizes() -> Plan:
            nonlocal guards
            if space is None:
                return make()
            with space.compile() as guards:
                return make()

        key = stored.key_of(graph, donate, body, sorted(steady), space=space)
        known = stored.load(key, make_at_sizes, space)
        self.plan = known or make_at_sizes()
        self.graph = self.plan.graph
        self.donate = donate or {}
        self.at: Binding = PLAIN
        if self.space is not None:
            for guard in self.space.exact_guards():
                raise NotDynamic(guard)
            self.family = Family()
            if not body:
                self._keep_prologue()
            self.at = Binding(self.space, self.space.hints())
            self.family.bound[tuple(self.at.sizes.values())] = self
        native = [s for s in self.plan.steps if isinstance(s, Step)]
        self.handles = compile_kernels([s.kernel for s in native])
        self.first = None if self.plan.first is None else Executable(self.plan.first)
        self._place(is_planned=known is not None and space is None)
        self._link()
        if known is None and key is not None:
            stored.store(key, self.plan, list(guards.values()))

    def __reduce__(self) -> Any:  # a body, in a stored plan: it is a plan of its own
        return Executable, self.made_of

    def bound(self, at: Binding) -> Executable:
        """The same program for other sizes: other addresses and numbers, the same code."""
        if self.space is None:
            return self
        key = tuple(at.sizes.values())
        made = self.family.bound.get(key)
        if made is None:
            made = Executable.__new__(Executable)
            made.__dict__.update(self.__dict__)
            made.at = at
            made._place()
            made._link()
            self.family.keep(key, made)
        return made

    # Memory

    def _keep_prologue(self) -> None:
        """Memory for what depends on no size: `prepare` computes it once for all bindings."""
        for step in self.plan.steps[: self.plan.prologue]:
            for b in written_by(step):
                self.family.kept[b] = buffers.empty((size_bytes(b, self.plan.layouts),), np.uint8)

    def _place(self, is_planned: bool = False) -> None:
        """Say where everything stands. `is_planned`: the plan says so for what is in the arena."""
        p = self.plan
        graph = self.graph
        self.input_slot = {v: i for i, v in enumerate(graph.inputs)}
        self.output_slot: dict[Value, int] = {}
        self.extra: list[tuple[int, Value]] = []  # outputs that are copied at the end
        base = len(graph.inputs)
        inputs = [graph.inputs[self.donate[o]] if o in self.donate else None
                  for o in range(len(graph.outputs))]  # fmt: skip
        for o, v in enumerate(graph.outputs):
            if inputs[o] is not None and p.alias.get(v) is inputs[o]:
                self.output_slot[v] = base + o  # computed in place; other outputs copy it
        for o, v in enumerate(graph.outputs):
            if v is inputs[o] or self.output_slot.get(v) == base + o:
                continue
            is_input = v in self.input_slot or v in graph.constants
            if v in self.output_slot or is_input or inputs[o] is not None:
                self.extra.append((o, v))
            else:
                self.output_slot[v] = base + o
        # Inputs whose old elements are a result while their memory gets new ones.
        overwritten = {u for u, v in zip(inputs, graph.outputs) if u is not None and u is not v}
        self.kept = [v for v in dict.fromkeys(v for _, v in self.extra) if v in overwritten]
        if is_planned:
            self.offsets, self.arena_bytes = p.offsets, p.arena_bytes
        else:
            self._plan_arena()
        if self.space is None:
            self.arena = buffers.empty((max(self.arena_bytes, 64),), np.uint8)
        else:
            self.arena = self.family.arena_of(self.arena_bytes)
        self.constants = {v: np.ascontiguousarray(a) for v, a in graph.constants.items()}
        # (slot, value, where it stands if that is the same in every call) of `extra`.
        self.copies: list[tuple[int, Value, np.ndarray | None]] = []
        self.moves: list[tuple[int | Slot, Slot, int]] = []  # those that the program copies
        for o, v in self.extra:
            if self._is_moved(v):
                self.moves.append((self._address(v), Slot(base + o), size_bytes(v)))
                continue
            stays = self._is_stored(v) and not isinstance(self._address(v), Slot)
            self.copies.append((base + o, v, self._view(v, ()) if stays else None))

    def _is_moved(self, v: Value) -> bool:
        """Whether the program itself can copy this result to its place: as one run of bytes."""
        if self.is_body or self.space is not None or self.kept or not self._is_stored(v):
            return False
        return tuple(self.plan.layouts.strides(v)) == contiguous_strides(v.shape)

    def _plan_arena(self) -> None:
        """Offsets of what lives only inside the program, each from its first step to its last."""
        p, graph = self.plan, self.graph
        lives: dict[Any, list[int]] = {}
        kept = {} if self.space is None else self.family.kept
        for at, step in enumerate(p.steps):
            for b in _touched(step, self._is_stored):
                if isinstance(b, Value):
                    b = p.alias.get(b, b)
                    b = p.layouts.inside[b][0] if b in p.layouts.inside else b
                    if b in self.input_slot or b in graph.constants or b in self.output_slot:
                        continue
                if b in kept:
                    continue
                lives.setdefault(b, [at, at])[1] = at
        for _, v in self.extra:
            if v in lives:
                lives[v][1] = len(p.steps)
        for life in lives.values():
            if life[0] < p.prologue:
                life[1] = len(p.steps)
        for step in p.steps:
            if isinstance(step, Step) and step.status is not None:
                lives[step.status] = [0, len(p.steps)]
        sizes = {} if self.space is None else self.family.sizes
        if not sizes:
            sizes.update((b, size_bytes(b, p.layouts)) for b in lives)
        at_sizes = self.at
        needs = [Need(b, at_sizes(sizes[b]), first, last) for b, (first, last) in lives.items()]
        self.offsets, self.arena_bytes = plan_arena(needs)
        p.offsets, p.arena_bytes = self.offsets, self.arena_bytes

    def _is_stored(self, v: Value) -> bool:
        return v.node is None or v in self.plan.stored

    def _address(self, b: Any) -> int | Slot:
        if isinstance(b, Value):
            b = self.plan.alias.get(b, b)
            if b in self.plan.layouts.inside:
                whole, _, offset = self.plan.layouts.inside[b]
                return self.arena.ctypes.data + self.offsets[whole] + offset * b.dtype.itemsize
            if b in self.input_slot:
                return Slot(self.input_slot[b])
            if b in self.output_slot:
                return Slot(self.output_slot[b])
            if b in self.constants:
                return self.constants[b].ctypes.data
        if b in self.offsets:
            return self.arena.ctypes.data + self.offsets[b]
        return self.family.kept[b].ctypes.data

    def _view(self, v: Value, addresses: Sequence[np.ndarray]) -> np.ndarray:
        """The array behind a value, for host steps and final copies."""
        if not self._is_stored(v):  # a view: the op that makes it, on what it reads
            assert v.node is not None
            args = [self._view(i, addresses) if isinstance(i, Value) else i for i in v.node.inputs]
            return v.node.op.reference(*args)
        where = self._address(v)
        if isinstance(where, Slot):
            return addresses[where.index].reshape(self.at.shape(v.shape))
        if v in self.constants:
            return self.constants[v]
        if self.space is not None and v in self.family.kept:
            block = self.family.kept[v].view(v.dtype.numpy)
        else:
            offset = where - self.arena.ctypes.data
            size = self.at(size_bytes(v, self.plan.layouts))
            block = self.arena[offset : offset + size].view(v.dtype.numpy)
        steps = [self.at(n) * v.dtype.itemsize for n in self.plan.layouts.strides(v)]
        return np.lib.stride_tricks.as_strided(block, self.at.shape(v.shape), steps)

    # Code

    def _link(self) -> None:
        native = [s for s in self.plan.steps if isinstance(s, Step)]
        handles = iter(self.handles)
        slots = len(self.graph.inputs) + len(self.graph.outputs) + self.more_slots
        self.parts: list[Any] = []
        tasks: list[Task | Control] = []

        self.prologue: Program | None = None

        def close() -> None:
            if tasks:
                self.parts.append(Program(list(tasks), slots=slots, keep=[self.arena]))
                tasks.clear()

        for number, step in enumerate(self.plan.steps):
            if number == self.plan.prologue and tasks:
                close()
                self.prologue = self.parts.pop()
            if isinstance(step, HostStep) or (isinstance(step, ControlStep) and not step.is_native):
                close()
                self.parts.append(step)
                continue
            if isinstance(step, ControlStep):
                tasks.append(step.task(self._address, self.at))
                continue
            tasks.append(
                Task(
                    next(handles),
                    [self._address(b) for b in step.buffers],
                    [as_word(self.at(n)) for n in step.sizes],
                    step.parallel or (self.space is not None and self.at(step.flops) > SMALL_WORK),
                )
            )
        tasks += [move(*each) for each in self.moves]
        close()
        # Status words keep their place from the first step to the last (see _place).
        self.checks = [
            (self.arena[at : at + 8].view(np.int64), step)
            for step in native
            if step.status is not None
            for at in (self.offsets[step.status],)
        ]
        for step in self.plan.steps:
            if isinstance(step, ControlStep):
                self.checks += [c for b in step.bodies for c in b.bound(self.at).checks]
        for word, _ in self.checks:
            word[0] = 0
        alone = len(self.parts) == 1 and isinstance(self.parts[0], Program) and not self.copies
        self.program: Program | None = self.parts[0] if alone else None
        if self.is_body and self.program is None and self.prologue is not None:
            self.parts.insert(0, self.prologue)  # Python runs it
            self.prologue = None

    @property
    def steps(self) -> list[Step | HostStep | ControlStep]:
        """What each run does, in order."""
        return self.plan.steps[0 if self.prologue is None else self.plan.prologue :]

    @property
    def must_prepare(self) -> bool:
        """Whether `prepare` does anything."""
        return not self.is_body and (self.first is not None or self.prologue is not None)

    @property
    def prepared_from(self) -> list[int]:
        """Positions of the inputs that `prepare` reads."""
        if not self.must_prepare:
            return []
        read: set[Any] = set()
        if self.first is not None:
            graph = self.first.source
            read.update(graph.outputs, *(n.values for n in graph.nodes))
        if self.prologue is not None:
            for step in self.plan.steps[: self.plan.prologue]:
                read.update(step.buffers)  # type: ignore[union-attr]
        return [i for i, v in enumerate(self.graph.inputs) if v in read]

    def prepare(self, slots: int, arrays: Sequence[np.ndarray]) -> None:
        """Compute what depends on `steady` inputs alone. Arguments as in `run_at`."""
        if self.first is not None:
            results = list(self.constants.values())[-len(self.first.graph.outputs) :]
            self.first.run(arrays[: len(self.graph.inputs)], results)
        if self.prologue is not None:
            self.prologue.run_at(slots)

    @property
    def outputs(self) -> list[Value]:
        """What `run` writes, in order."""
        return self.graph.outputs

    @property
    def has_host_steps(self) -> bool:
        """Whether NumPy computes some of it."""
        return any(not isinstance(p, Program) for p in self.parts)

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> None:
        """Compute. Arrays are C-contiguous, of the avals' shapes and dtypes."""
        arrays = [*inputs, *outputs]
        slots = array("q", [buffers.address_of(a) for a in arrays])
        self.run_at(slots.buffer_info()[0], arrays)

    def run_at(
        self,
        slots: int,
        arrays: Sequence[np.ndarray],
        spans: list[tuple[int, int]] | None = None,
    ) -> None:
        """Compute, with the arrays' addresses at hand: 8-byte words from address `slots` on.

        `spans` takes the start and end of each step, in nanoseconds of time.perf_counter_ns.
        """
        if self.space is not None:
            with self.family.lock:
                for status, _ in self.checks:  # other sizes use the same memory
                    status[0] = 0
                self._run_at(slots, arrays, spans)
        elif self.program is not None and spans is None:  # the same in short
            self.program.run_at(slots)
            for word, _ in self.checks:
                if word[0]:
                    self._complain()
        else:
            self._run_at(slots, arrays, spans)

    def _complain(self) -> None:
        """Raise what a kernel has noted."""
        for word, step in self.checks:
            if word[0]:
                word[0] = 0
                raise IndexRangeError(step.complaint, place=step.nodes[0].place)

    def _run_at(
        self, slots: int, arrays: Sequence[np.ndarray], spans: list[tuple[int, int]] | None
    ) -> None:
        before = {}
        for v in self.kept:
            before[v] = np.array(arrays[self.input_slot[v]])
        if spans is not None:
            self._run_timed(slots, arrays, spans)
        else:
            for part in self.parts:
                if type(part) is Program:
                    part.run_at(slots)
                else:
                    self._run_host(part, arrays)
        self._complain()
        for slot, v, source in self.copies:
            if source is None:
                source = before[v] if v in before else self._view(v, arrays)
            np.copyto(arrays[slot], source.reshape(arrays[slot].shape))

    def _run_timed(
        self, slots: int, arrays: Sequence[np.ndarray], spans: list[tuple[int, int]]
    ) -> None:
        for part in self.parts:
            if type(part) is Program:
                stamps = part.run_timed(slots)
                spans.extend(zip(stamps, stamps[1:]))
            else:
                start = time.perf_counter_ns()
                self._run_host(part, arrays)
                spans.append((start, time.perf_counter_ns()))
        del spans[len(spans) - len(self.moves) :]

    def _run_host(self, step: HostStep | ControlStep, arrays: Sequence[np.ndarray]) -> None:
        if isinstance(step, ControlStep):
            step.run(lambda v: self._view(v, arrays))
            return
        node = step.node
        args = [self._view(i, arrays) if isinstance(i, Value) else i for i in node.inputs]
        with np.errstate(all="ignore"):
            results = node.op.reference(*args)
        for v, r in zip(node.outputs, results if node.op.n_outputs > 1 else (results,)):
            np.copyto(self._view(v, arrays), as_array(r, v.aval))


def _compile_body(graph: Graph, more_slots: int, steady: int) -> Executable:
    return Executable(graph, body=True, more_slots=more_slots, steady=range(steady))


def _touched(step: Step | HostStep | ControlStep, is_stored: Callable[[Value], bool]) -> list[Any]:
    """What a step reads and writes in memory."""
    if not isinstance(step, HostStep):
        return list(step.buffers)
    found: list[Any] = list(step.node.outputs)
    stack = list(step.node.values)
    while stack:
        v = stack.pop()
        if is_stored(v):
            found.append(v)
        else:
            stack.extend(v.node.values)  # type: ignore[union-attr]
    return found


def size_bytes(b: Any, layouts: Layouts | None = None) -> int:
    """The memory of a value (in its layout, or dense) or scratch."""
    if isinstance(b, Scratch):
        return b.size * np.dtype(_NUMPY.get(b.dtype, b.dtype)).itemsize
    elements = b.aval.size if layouts is None else layouts.elements(b)
    return elements * b.dtype.itemsize


_NUMPY = {
    "f32": np.float32, "f64": np.float64, "f16": np.float16, "bf16": np.uint16, "bool": np.bool_,
    "i8": np.int8, "u8": np.uint8, "i16": np.int16, "u16": np.uint16, "i32": np.int32,
    "u32": np.uint32, "i64": np.int64, "u64": np.uint64, "c64": np.complex64,
    "c128": np.complex128,
}  # fmt: skip


def compile_graph(
    graph: Graph, donate: dict[int, int] | None = None, steady: Collection[int] = ()
) -> Executable:
    """The executable of a graph; see Executable and `plan`."""
    return Executable(graph, donate, steady=steady)
