"""Bodies of control flow: capture a function into a region, run one again, differentiate, batch.

A `BodyTrace` is a capture inside another one. What the function touches from outside, whatever it
is there (an array, a symbol of the outer capture, batched by vmap), is a plain input of the body;
what it overwrites in place is also a result. The op that holds the region (control.py) passes the
outside tensors through the door, so that every transform outside sees one operation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.dtype import DType, float64
from ..core.errors import BatchError, TraceError
from ..core.modes import modes
from ..ir.graph import Graph, Value
from ..ir.op import Aval, Full, Op
from ..ir.region import Region
from ..ops.batching import batched, move_axis
from ..ops.movement import Detach
from . import walk
from .trace import Captured, Symbol, Trace, _wrap, leaked
from .vmap import Batched, Level, entered


class NotCapturable(TraceError):
    """A body that does what one operation cannot hold; loops of known length are then unrolled."""


class _Shared(Exception):
    """A body writes into memory that it reads through several tensors from outside."""


class BodyTrace(Trace):
    """The capture of a function that runs several times, or perhaps not at all.

    Views from outside are inputs of their own, with their own place on the tape outside. Where the
    body writes into their memory (_Shared) it is captured once more with `whole`: then the tensors
    that own the memory are the inputs, and views are taken in the body.
    """

    inner = True

    def __init__(self, name: str, whole: bool = False):
        super().__init__()
        self.name = name
        self.whole = whole
        self.parent: Trace | None = modes.trace
        self.level: Level | None = modes.vmap
        self.severed = modes.severed
        self._levels: set[Level] = set()
        level = self.level
        while level is not None:
            self._levels.add(level)
            level = level.outer
        self._before: tuple[Any, ...] = ()

    def __enter__(self) -> BodyTrace:
        self._before = modes.trace, modes.vmap, modes.recorder, modes.as_of
        modes.trace, modes.vmap, modes.recorder, modes.as_of = self, None, None, None
        self.active = True
        return self

    def __exit__(self, *exc: Any) -> None:
        modes.trace, modes.vmap, modes.recorder, modes.as_of = self._before
        self.finish()

    # What comes from outside

    def lift(self, tensor: Any) -> Symbol:
        """The symbol of a tensor from outside of the body, by reference."""
        payload = tensor._payload
        if type(payload) is Symbol:
            if payload.trace is self:
                return payload
            if not self._is_inside(payload.trace):
                raise leaked(payload)
        if tensor._base is not None:
            if self.whole:
                self.lift(tensor._base)
                tensor._refresh()
                return tensor._payload
            if any(c.tensor._version is tensor._version and c.written for c in self.captured):
                raise _Shared
        aval = Aval(tuple(payload.shape), tensor.dtype)
        captured = Captured(tensor, self.input(aval))
        self.captured.append(captured)
        self._by_id[id(tensor)] = captured
        tensor._payload = captured.symbol
        return captured.symbol

    def note_write(self, tensor: Any) -> None:
        owner = tensor._storage_owner()
        relatives = [c.tensor for c in self.captured if c.tensor._version is owner._version]
        if not self.whole and any(t is not owner for t in relatives):
            raise _Shared

    def _is_inside(self, other: Trace) -> bool:
        trace = self.parent
        while trace is not None:
            if trace is other:
                return True
            trace = getattr(trace, "parent", None)
        return False

    def adopt(self, args: Sequence[Any], payloads: list[Any]) -> None:
        """Lift the arguments of an op that belong outside of the body.

        In their order, whatever they are: a recomputation meets symbols where there were arrays,
        and must give the body the same inputs. What is batched inside is taken apart first.
        """
        takes_arrays = not any(type(p) is Batched and p.level not in self._levels for p in payloads)
        for i, p in enumerate(payloads):
            if type(p) is Symbol:
                if p.trace is not self:
                    payloads[i] = self.lift(args[i])
            elif type(p) is Batched:
                if p.level in self._levels:
                    payloads[i] = self.lift(args[i])
            elif takes_arrays and type(p) is np.ndarray:
                payloads[i] = self.lift(args[i])

    def constant(self, array: Any, dtype: Any) -> Symbol:
        if array.size == 1:
            value = array.astype(np.float64) if dtype.is_floating_point else array
            full = Full(tuple(array.shape), dtype, value.item())
            return Symbol(self, self.graph.add(full))
        return self.lift(_wrap[0](array))

    def live_scalar(self, getter: Callable[[], float], dtype: DType = float64) -> Any:
        if self.parent is None:
            return getter()
        modes.trace = self.parent
        try:
            return self.parent.live_scalar(getter, dtype)
        finally:
            modes.trace = self

    @property
    def state(self) -> Any:  # type: ignore[override]
        return None if self.parent is None else self.parent.state

    def guard(self, getter: Callable[[], Any], what: str) -> None:
        if self.parent is not None:
            self.parent.guard(getter, what)

    def read(self, tensor: Any, array: np.ndarray, operation: str) -> None:
        if self.parent is not None:
            self.parent.read(tensor, array, operation)

    # What a body cannot do

    def refuse(self, what: str) -> None:
        raise NotCapturable(f"{self.name}: {what} inside the function")

    def note_rebinding(self, names: dict[str, Any], name: str) -> None:
        super().note_rebinding(names, name)
        if self.rebound:
            self.refuse(f"a module's {name} is assigned")

    def read_grad(self, tensor: Any) -> Any:
        self.refuse(".grad is used")

    def write_grad(self, tensor: Any, value: Any) -> None:
        self.refuse(".grad is used")

    def check_random(self) -> None:
        """Random numbers in a body are the same for all of the batch of a vmap outside."""
        if self.level is None or self.level.randomness == "same":
            return
        if self.level.randomness == "different":
            self.refuse('vmap\'s randomness="different" is asked for')
        raise BatchError(
            "vmap: a random operation was called inside vmap",
            hint='give vmap randomness="different" or randomness="same"',
        )

    def record(self, op: Op, payloads: list[Any]) -> Any:
        made = super().record(op, payloads)
        if not modes.severed or self.severed:
            return made
        # Under no_grad inside the body: the region's derivatives must not go through it.
        if op.n_outputs == 1:
            return self._detached(made)
        return [self._detached(m) for m in made]

    def _detached(self, symbol: Symbol) -> Symbol:
        if not symbol.dtype.is_inexact:
            return symbol
        return Symbol(self, self.graph.add(Detach(), symbol.value))

    def value_of(self, tensor: Any) -> Value:
        """The body's value behind a tensor that its function returned."""
        payload = tensor._value()
        if type(payload) is Symbol and payload.trace is self:
            return payload.value
        return self.lift(tensor).value


@dataclass
class Body:
    """A captured function: graph.inputs are its arguments, then `captured`'s.

    written  (position in captured, result): tensors that it overwrites
    """

    graph: Graph
    captured: list[Any]
    written: list[tuple[int, Value]]


def trace_body(name: str, f: Callable, avals: Sequence[Aval]) -> Body:
    """Capture f(*tensors of avals) -> list of tensors."""
    try:
        return _trace_body(BodyTrace(name), f, avals)
    except _Shared:
        return _trace_body(BodyTrace(name, whole=True), f, avals)


def _trace_body(trace: BodyTrace, f: Callable, avals: Sequence[Aval]) -> Body:
    with trace:
        outs = f(*(_wrap[0](trace.input(a)) for a in avals))
        trace.graph.outputs = [trace.value_of(o) for o in outs]
        written = [(i, c.result) for i, c in enumerate(trace.captured) if c.written]
    return Body(trace.graph, [c.tensor for c in trace.captured], written)


def replay(graph: Graph, values: Sequence[Any]) -> list[Any]:
    """The graph's outputs for tensors, each op through the door again."""
    env: dict[Value, Any] = dict(zip(graph.inputs, values))
    for v, array in graph.constants.items():
        env[v] = _wrap[0](np.asarray(array))
    for node in graph.nodes:
        made = node.op(*(env[i] if isinstance(i, Value) else i for i in node.inputs))
        env.update(zip(node.outputs, made if isinstance(made, tuple) else (made,)))
    return [env[v] for v in graph.outputs]


def inline(graph: Graph, inner: Graph, values: Sequence[Value]) -> list[Value]:
    """Append the nodes of `inner` to `graph`, reading `values`; its outputs there."""
    env: dict[Value, Any] = dict(zip(inner.inputs, values))
    for v, array in inner.constants.items():
        env[v] = graph.constant(array, v.aval)
    for node in inner.nodes:
        copy_node(graph, node, env)
    return [env[v] for v in inner.outputs]


def copy_node(graph: Graph, node: Any, env: dict[Value, Any]) -> None:
    """Append a node of another graph; env maps that graph's values to this one's."""
    inputs = [env[i] if isinstance(i, Value) else i for i in node.inputs]
    made = graph.add(node.op, *inputs, place=node.place)
    env.update(zip(node.outputs, made if isinstance(made, tuple) else (made,)))


def region_of(f: Callable, avals: Sequence[Aval], name: str = "region") -> Region:
    """f(*tensors) -> tensors as a region; it may touch nothing else."""
    body = trace_body(name, f, avals)
    assert not body.captured, "a region of primitives captures nothing"
    return Region(body.graph)


# Derivatives


@contextmanager
def _recording() -> Iterator[None]:
    before = modes.grad, modes.inference, modes.severed
    modes.grad, modes.inference, modes.severed = True, False, False
    try:
        yield
    finally:
        modes.grad, modes.inference, modes.severed = before


def floats(avals: Sequence[Aval]) -> tuple[int, ...]:
    """Positions of those that may have derivatives."""
    return tuple(i for i, a in enumerate(avals) if a.dtype.is_inexact)


@dataclass
class Pullback:
    """The derivative of a region, cut off from it.

    graph   inputs: `reads`, then the cotangents of the outputs `seeds`;
            outputs: the cotangents of the inputs `wrt`
    reads   values of the region's own graph (`forward`): inputs, outputs or others
    """

    forward: Graph
    graph: Graph
    reads: list[Value]
    seeds: tuple[int, ...]
    wrt: tuple[int, ...]


def pullback(region: Region, live: tuple[int, ...], invariant: int) -> Pullback:
    """The derivative for cotangents of the outputs `live`.

    What depends on the first `invariant` inputs alone is computed again rather than kept, as are
    views and what needs no input.
    """
    key = ("pullback", live, invariant)
    known = region.derived.get(key)
    if known is None:
        with _recording():
            known = region.derived[key] = _pullback(region, live, invariant)
    return known


def _pullback(region: Region, live: tuple[int, ...], invariant: int) -> Pullback:
    trace = BodyTrace("gradient")
    with trace:
        inputs = [_wrap[0](trace.input(a)) for a in region.inputs]
        own_inputs = list(trace.graph.inputs)
        leaves = floats(region.inputs)
        for i in leaves:
            inputs[i]._requires = True
        outs = replay(region.graph, inputs)
        cut = len(trace.graph.nodes)
        forward_outputs = [trace.value_of(o) for o in outs]
        seeds = tuple(k for k in live if outs[k].requires_grad)
        cotangents = [_wrap[0](trace.input(region.outputs[k])) for k in seeds]
        found = walk.run_backward(
            [outs[k] for k in seeds], cotangents, [inputs[i] for i in leaves], True, False, None
        )
        positions = sorted(found)
        ends = [trace.value_of(found[i]) for i in positions]
        seed_values = [trace.value_of(c) for c in cotangents]
    forward = trace.graph.copy(trace.graph.nodes[:cut])
    forward.inputs, forward.outputs = own_inputs, forward_outputs
    graph = Graph()
    env: dict[Value, Any] = {}
    reads: list[Value] = []
    constant = _depending_on(forward, own_inputs[:invariant])
    made_before = {v for n in forward.nodes for v in n.outputs}

    def read(v: Value) -> None:
        """Bring a value of the forward into the graph."""
        if v in env or v not in made_before and v not in own_inputs:
            return
        if v.node is None or not _is_repeated(v, constant):
            reads.append(v)
            env[v] = Value(v.aval)
            return
        for i in v.node.values:
            read(i)
        copy_node(graph, v.node, env)

    backward = _live_nodes(trace.graph.nodes[cut:], ends)
    for v in seed_values:
        env[v] = Value(v.aval)
    for node in backward:
        for v in node.values:
            read(v)
        copy_node(graph, node, env)
    for v in ends:
        read(v)
    graph.inputs = [env[v] for v in reads] + [env[v] for v in seed_values]
    graph.outputs = [env[v] for v in ends]
    return Pullback(forward, graph, reads, seeds, tuple(leaves[i] for i in positions))


def _is_repeated(v: Value, constant: set[Value]) -> bool:
    node = v.node
    assert node is not None
    if node.op.kind == "movement":
        return v.aval.size >= node.values[0].aval.size or v in constant
    return v in constant or (node.op.kind == "source" and not node.inputs)


def _depending_on(graph: Graph, inputs: Sequence[Value]) -> set[Value]:
    """Values that depend on these inputs and constants alone."""
    found = set(inputs) | set(graph.constants)
    for node in graph.nodes:
        if all(v in found for v in node.values):
            found.update(node.outputs)
    return found


def _live_nodes(nodes: Sequence[Any], outputs: Sequence[Value]) -> list[Any]:
    live, kept = set(outputs), []
    for n in reversed(nodes):
        if any(v in live for v in n.outputs):
            live.update(n.values)
            kept.append(n)
    return kept[::-1]


def pull_region(region: Region, live: tuple[int, ...]) -> tuple[Region, tuple[int, ...]]:
    """(region of inputs and cotangents of `live` -> cotangents, of which inputs): runs it again."""
    p = pullback(region, live, len(region.inputs))
    graph = Graph()
    values = [graph.input(a) for a in region.inputs]
    seeds = {k: graph.input(region.outputs[k]) for k in live}
    env: dict[Value, Any] = dict(zip(p.forward.inputs, values))
    for node in p.forward.nodes:
        copy_node(graph, node, env)
    graph.outputs = inline(graph, p.graph, [env[v] for v in p.reads] + [seeds[k] for k in p.seeds])
    return Region(graph), p.wrt


def push_region(region: Region) -> Region:
    """The forward derivative: inputs, then tangents of the floating ones -> outputs, then tangents
    of the floating ones."""
    known = region.derived.get("push")
    if known is not None:
        return known
    wide = [region.inputs[i] for i in floats(region.inputs)]

    def run(*args: Any) -> list[Any]:
        inputs, tangents = list(args[: len(region.inputs)]), args[len(region.inputs) :]
        leaves = floats(region.inputs)
        for i in leaves:
            inputs[i]._requires = True
        outs = replay(region.graph, inputs)
        live = [k for k in floats(region.outputs) if outs[k].requires_grad]
        pushed = {k: Full(a.shape, a.dtype, 0)() for k, a in enumerate(region.outputs)}
        dummies = [Full(region.outputs[k].shape, region.outputs[k].dtype, 0)() for k in live]
        for d in dummies:
            d._requires = True
        back = walk.run_backward(
            [outs[k] for k in live], dummies, [inputs[i] for i in leaves], True, True, None
        )
        pairs = [(b, tangents[i]) for i, b in back.items() if b.requires_grad]
        found = walk.run_backward(
            [b for b, _ in pairs], [t for _, t in pairs], dummies, True, False, None
        )
        for i, t in found.items():
            pushed[live[i]] = t
        return [*outs, *(pushed[k] for k in floats(region.outputs))]

    with _recording():
        made = region.derived["push"] = region_of(run, [*region.inputs, *wide])
    return made


# Batches


def batch_region(
    region: Region, mapped: Sequence[bool], size: int, wanted: Sequence[bool]
) -> tuple[Region, list[bool]]:
    """The region on batches: inputs where `mapped` have a batch axis in front.

    Outputs have one where `wanted`, and where they differ along the batch (as the flags say).
    """
    key = ("batch", tuple(mapped), size, tuple(wanted))
    known = region.derived.get(key)
    if known is not None:
        return known[0], list(known[1])
    avals = [
        Aval((size, *a.shape), a.dtype) if m else a for a, m in zip(region.inputs, mapped)
    ]  # fmt: skip
    flags: list[bool] = []

    def run(*args: Any) -> list[Any]:
        level = Level(size, "same")
        with entered(level):
            inside = [_wrap[0](Batched(x, 0, level)) if m else x for x, m in zip(args, mapped)]
            outs = replay(region.graph, inside)
        level.active = False
        results = []
        for o, w in zip(outs, wanted):
            payload = o._value()
            dim = None
            if type(payload) is Batched:
                o, dim = payload.value, payload.dim
            flags.append(w or dim is not None)
            results.append(batched(o, dim, size) if flags[-1] else o)
        return results

    made = region_of(run, avals)
    region.derived[key] = made, tuple(flags)
    return made, flags


def to_axis(x: Any, dim: int | None, axis: int) -> Any:
    """x with its batch axis, where it has one, at `axis`."""
    return x if dim is None else move_axis(x, dim, axis)
