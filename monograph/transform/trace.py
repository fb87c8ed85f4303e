"""Capture: run a function on symbols and keep what passed the door as a graph.

Tensors that the function touches but did not receive are captured by reference: each becomes an
input of the graph. Those that it overwrites in place become outputs. capture.py turns a finished
Trace
into a program; `trace_graph` is the plain form for tests and tools.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core import pytree
from ..core.errors import TraceError, user_place
from ..core.modes import modes
from ..core.symbolic import is_symbolic
from ..ir.evaluate import evaluate
from ..ir.graph import Graph, Value
from ..ir.op import Aval, is_value
from .contents import Contents
from .decision import Decision
from .state import State


class Symbol:
    """The payload of a tensor whose elements are not known: a value of the graph being made."""

    __slots__ = ("trace", "value")

    def __init__(self, trace: Trace, value: Value):
        self.trace = trace
        self.value = value

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.aval.shape

    @property
    def dtype(self) -> Any:
        return self.value.aval.dtype

    @property
    def ndim(self) -> int:
        return len(self.value.aval.shape)

    def __repr__(self) -> str:
        return f"<symbol {self.value.aval!r}>"


class Captured:
    """A tensor taken by reference: its array before, its graph input, its last symbol."""

    __slots__ = ("tensor", "array", "symbol", "tape")

    def __init__(self, tensor: Any, symbol: Symbol):
        self.tensor, self.array, self.symbol = tensor, tensor._payload, symbol
        self.tape = (tensor._node, tensor._index, tensor._requires)

    @property
    def result(self) -> Any:
        """The graph value that the tensor holds at the end (its own input if never written)."""
        return self.tensor._payload.value

    @property
    def written(self) -> bool:
        """Whether the function overwrote it. Asked before the trace is finished."""
        return self.tensor._payload is not self.symbol


class Trace:
    """One capture. Use as a context manager; `finish()` restores the captured tensors.

    captured  tensors taken by reference, in order of first touch
    guards    (getter, value, what): Python values that the program was specialised on
    scalars   (getter, value): Python numbers that become 0-d inputs, read anew at each call
    numbers   value -> (getter, number of this call), of these and of arguments that are numbers
    shapes    id -> shape of a tensor of which some sizes are known at run time (core/symbolic.py)
    grads     id -> (tensor, its .grad at the end): what the function assigned to .grad
    inner     True for the body of control flow (transform/region.py)
    given     how many of `captured` are arguments; None if it is not known
    state     what is seen of Python's state, or None where nothing looks (transform/state.py)
    """

    inner = False
    given: int | None = None
    state: State | None = None

    def __init__(self) -> None:
        self.graph = Graph()
        self.captured: list[Captured] = []
        self.guards: list[tuple[Callable, Any, str]] = []
        self.scalars: list[tuple[Callable, Value]] = []
        self.numbers: dict[Value, tuple[Callable[[], Any], Any]] = {}
        self.shapes: dict[int, tuple[int, ...]] = {}
        self.active = False
        self.grads: dict[int, tuple[Any, Any]] = {}
        self._by_id: dict[int, Captured] = {}
        self._views: list[tuple[Any, Any, Any]] = []
        self.rebound: dict[tuple[int, str], tuple[dict, str, Any]] = {}

    def __enter__(self) -> Trace:
        if modes.trace is not None:
            raise TraceError("capture: another capture is in progress in this thread")
        modes.trace = self
        self.active = True
        return self

    def __exit__(self, *exc: Any) -> None:
        modes.trace = None
        if exc[0] is not None:
            self.finish(failed=True)

    def finish(self, failed: bool = False) -> None:
        """Give the captured tensors their arrays back. The trace's symbols are dead afterwards.

        failed  what the function has assigned in Python is taken back, too
        """
        self.active = False
        if self.state is not None and not self.state.closed:
            if failed:
                self.state.undo()
            self.state.close()
        for names, name, tensor in self.rebound.values():
            names[name] = tensor
        for c in self.captured:
            c.tensor._payload = c.array
            c.tensor._node, c.tensor._index, c.tensor._requires = c.tape
        for view, payload, tape in self._views:
            view._payload = payload
            view._node, view._index, view._requires = tape

    def input(self, aval: Aval, name: str = "") -> Symbol:
        return Symbol(self, self.graph.input(aval, name))

    def lift(self, tensor: Any) -> Symbol:
        """The symbol of a concrete tensor that the function touches (by reference)."""
        if type(tensor._payload) is Symbol:
            return tensor._payload
        if tensor._base is not None:
            self.lift(tensor._base)
            tensor._refresh()
            return tensor._payload
        shape = self.shapes.get(id(tensor)) or tuple(tensor._payload.shape)
        aval = Aval(shape, tensor.dtype)
        captured = Captured(tensor, self.input(aval, f"captured{len(self.captured)}"))
        self.captured.append(captured)
        self._by_id[id(tensor)] = captured
        tensor._payload = captured.symbol
        return captured.symbol

    def keep(self, view: Any) -> None:
        """Remember a concrete view that is about to become a symbol, to restore it at the end."""
        self._views.append((view, view._payload, (view._node, view._index, view._requires)))

    def note_rebinding(self, names: dict[str, Any], name: str) -> None:
        """`names[name]`, a tensor that a module holds, is about to be another one."""
        old: Any = names.get(name)
        if not is_value(old) or (id(names), name) in self.rebound:
            return
        if self.state is not None and not self.inner and type(names) is dict:
            return  # an attribute: the state sees it
        mine = type(old._payload) is Symbol and id(old) not in self._by_id
        if not mine or any(view is old for view, _, _ in self._views):
            self.rebound[id(names), name] = names, name, old

    def settle(self) -> None:
        """Write what modules hold now into the tensors that they held before: these are kept."""
        changed = []
        for key, (names, name, old) in list(self.rebound.items()):
            new: Any = names.get(name)
            if new is old or not is_value(new):
                continue
            fits = new.shape == old.shape and new.dtype == old.dtype
            if not fits and type(names) is dict:  # no buffer: a note of what passed by, as before
                del self.rebound[key]
                continue
            if not fits:
                raise TraceError(
                    f"{name}: a captured function made this buffer {new.dtype} of shape "
                    f"{tuple(new.shape)}; it is {old.dtype} of shape {tuple(old.shape)}",
                    hint="buffers keep shape and dtype under jit, which writes into them",
                )
            changed.append((names, name, old, _wrap[0](self.lift(new))))
        for names, name, old, new in changed:
            old.copy_(new)
            names[name] = old
        if self.state is not None:
            self.state.settle(lambda tensor: _wrap[0](self.lift(tensor)))

    def makes(self, tensor: Any) -> bool:
        """Whether each call has another tensor here: one that is made, or an argument."""
        if type(tensor._payload) is not Symbol or tensor._payload.trace is not self:
            return False
        known = self._by_id.get(id(tensor))
        if known is not None:
            return known in self.captured[: self.given or 0]
        return not any(view is tensor for view, _, _ in self._views)

    def refuse(self, what: str) -> None:
        """Say that a body of control flow cannot do this; elsewhere it can be captured."""

    def note_write(self, tensor: Any) -> None:
        """`tensor` is about to be overwritten."""

    def check_random(self) -> None:
        """Say whether a random operation can be captured here."""

    def adopt(self, args: Any, payloads: list[Any]) -> None:
        """Lift arguments of an op that belong outside of this trace."""

    def grad_leaves(self) -> list[Any]:
        """The tensors from outside that gradients flow to."""
        known = [(c.tensor, c.tape) for c in self.captured]
        known += [(view, tape) for view, _, tape in self._views]
        return [t for t, tape in known if tape[2] and t.dtype.is_inexact]

    def read_grad(self, tensor: Any) -> Any:
        """`tensor.grad` as the function sees it; what it was before becomes a guard."""
        if id(tensor) in self.grads:
            return self.grads[id(tensor)][1]
        before = tensor._grad
        if self.state is not None and not self.makes(tensor):
            return self.state.see(tensor, "_grad", before, "the .grad of a tensor")
        if type(tensor._payload) is not Symbol or id(tensor) in self._by_id:
            self.guard(lambda: tensor._grad is before, "which tensor .grad is")
        return before

    def write_grad(self, tensor: Any, value: Any) -> None:
        """`tensor.grad = value` inside the function; carried out after each call."""
        self.grads[id(tensor)] = (tensor, value)

    def constant(self, array: Any, dtype: Any) -> Symbol:
        """A symbol for an array made inside the capture."""
        return Symbol(self, self.graph.constant(array, Aval(tuple(array.shape), dtype)))

    def live_scalar(self, getter: Callable[[], float], dtype: dt.DType = dt.float64) -> Any:
        """A 0-d input whose value is getter() at each call; it never decides a dtype."""
        value = self.graph.input(Aval((), dtype), f"scalar{len(self.scalars)}")
        self.scalars.append((getter, value))
        self.numbers[value] = getter, getter()
        number = _wrap[0](Symbol(self, value))
        number._weak = True
        return number

    def guard(self, getter: Callable[[], Any], what: str) -> None:
        """Specialise on getter()'s value now."""
        value = getter()
        self.guards.append((getter, value, what))

    def read(self, tensor: Any, array: np.ndarray, operation: str) -> None:
        """Specialise on the elements of a tensor from outside, which Python is about to see."""
        contents = Contents(tensor, array, operation)
        what = f"what {operation} reads (at {contents.place})"
        self.guards.append((contents, contents.text, what))

    def record(self, op: Any, payloads: list[Any]) -> Any:
        """Append op to the graph; returns a Symbol, or a list of them for several outputs."""
        inputs = []
        for p in payloads:
            if isinstance(p, Symbol):
                if p.trace is not self:
                    raise leaked(p)
                inputs.append(p.value)
            else:
                inputs.append(p)
        out = self.graph.add(op, *inputs, place=user_place())
        if op.n_outputs == 1:
            return Symbol(self, out)
        return [Symbol(self, v) for v in out]


_wrap: list[Callable[[Any], Any]] = []


def install(wrap: Callable[[Any], Any]) -> None:
    """Tell the trace how to make a tensor from a symbol (tensor.py)."""
    _wrap[:] = [wrap]


def leaked(symbol: Symbol) -> TraceError:
    """The error for a symbol that outlived its capture."""
    return TraceError(
        f"this tensor ({symbol.value.aval!r}) was made inside a captured function "
        "and kept after it",
        hint="return it from the function, or write it into an existing tensor in place "
        "(state.copy_(value))",
    )


def known(symbol: Symbol, operation: str) -> np.ndarray | None:
    """The elements, if they depend on nothing but constants (`arange(4) > 2`), on numbers that
    are inputs, and on tensors from outside that are neither trained nor written; read-only. What
    is made of numbers alone is a guard, and so are the elements of such tensors."""
    trace, graph = symbol.trace, symbol.trace.graph
    if not trace.active:
        return None
    outside = (
        {c.symbol.value: c for c in trace.captured[trace.given :]}
        if trace.given is not None
        else {}
    )
    read: dict[Value, Captured] = {}
    numbers: dict[Value, tuple[Callable[[], Any], Any]] = {}
    seen: set[Any] = set()
    todo = [symbol.value]
    while todo:
        v = todo.pop()
        if v in graph.constants or v.node in seen:
            continue
        if v in trace.numbers:
            numbers[v] = trace.numbers[v]
            continue
        if v.node is None:
            c = outside.get(v)
            if c is None or c.written or c.tape[2]:
                return None
            read[v] = c
            continue
        if _at_run_time(v.node):
            return None
        seen.add(v.node)
        todo += v.node.values
    if read and numbers:
        return None
    part = graph.copy(node for node in graph.nodes if node in seen)
    part.inputs, part.outputs = [*read, *numbers], [symbol.value]
    if numbers:
        decision = Decision(part, list(numbers.values()), operation)
        trace.guards.append((decision, decision.answer, f"what {operation} finds"))
        return decision.array
    for c in read.values():
        trace.read(c.tensor, c.array, operation)
    array = evaluate(part, *(c.array for c in read.values()))[0].view()
    array.flags.writeable = False
    return array


def _at_run_time(node: Any) -> bool:
    """Whether a parameter or number of the node depends on a run-time size."""
    fields = [getattr(node.op, f.name) for f in dataclasses.fields(node.op)]
    return any(map(is_symbolic, pytree.flatten([fields, list(node.inputs)])[0]))


def needs_value(symbol: Symbol, operation: str) -> TraceError:
    """The error for a function that needs an element to go on."""
    if not symbol.trace.active:
        return leaked(symbol)
    error = TraceError(
        f"{operation}: the value of a {symbol.value.aval!r} tensor is not known while a function "
        "is being captured",
        hint="use mg.where instead of `if` (or mg.cond, mg.scan, mg.while_loop), make the argument "
        "static (static_argnames), move this out of the function, or run it eagerly with "
        "jit(fallback=True)",
    )
    error.needed = frozenset(_inputs_of(symbol.value))
    return error


def _inputs_of(value: Value) -> set[Value]:
    """The graph's inputs that a value depends on."""
    found: set[Value] = set()
    seen: set[Any] = set()
    todo = [value]
    while todo:
        v = todo.pop()
        if v.node is None:
            found.add(v)
        elif v.node not in seen:
            seen.add(v.node)
            todo += v.node.values
    return found


def trace_graph(f: Callable, *tensors: Any) -> tuple[Graph, Any]:
    """(graph, result structure) of f on tensors like `tensors`; captured tensors come last."""
    trace = Trace()
    with trace:
        symbols = [trace.input(Aval(tuple(t.shape), t.dtype)) for t in tensors]
        result = f(*(_wrap[0](s) for s in symbols))
        leaves, treedef = pytree.flatten(result)
        payloads = [leaf._value() for leaf in leaves if is_value(leaf)]
        trace.graph.outputs = [p.value for p in payloads]
    trace.finish()
    return trace.graph, treedef
