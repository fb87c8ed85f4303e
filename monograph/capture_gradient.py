"""The gradient of a captured function: a second program, on values that the first one keeps.

When the results of a capture require gradients, the tape is walked once more before the capture
ends; what that records is cut off into a graph of its own. A call then leaves one node on the
tape, whose pull runs the second program. Gradients of gradients run the plain function again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from .api.sparse import SparseTensor
from .compiler.executable import Executable, compile_graph
from .compiler.sizes import fix_sizes
from .core import dtype as dt
from .core.errors import GradError
from .core.modes import modes
from .ir.graph import Graph, Value
from .ir.op import Aval
from .runtime import buffers
from .tensor import Tensor, wrap
from .transform import tape, walk
from .transform.places import put_back
from .transform.trace import Trace

if TYPE_CHECKING:
    from .capture_replay import Replay


def differentiate(
    trace: Trace, results: list[tuple[int, Tensor]], args: dict[int, int]
) -> tuple[Backward | None, list[tuple[int, GradError]]]:
    """The gradient of results (output number, tensor), and why some of them have none.

    A result below which the function itself ran backward is a constant: it is in neither.
    """
    lost: list[tuple[int, GradError]] = []
    try:
        return Backward(trace, results, args), lost
    except GradError:
        if len(results) == 1 and walk.is_freed(results[0][1]):
            return None, lost
    found = []
    for o, t in results:
        try:
            Backward(trace, [(o, t)], args)
            found.append((o, t))
        except GradError as error:
            if not walk.is_freed(t):
                lost.append((o, error.with_traceback(None)))  # which holds the whole capture
    return Backward(trace, found, args) if found else None, lost


class Backward:
    """The gradient of a capture's results: a second program on values that the first one keeps."""

    def __init__(self, trace: Trace, results: list[tuple[int, Tensor]], args: dict[int, int]):
        self.results = [o for o, _ in results]
        tensors = [t for _, t in results]
        leaves = trace.grad_leaves()
        self.sources = [args.get(id(t), t) for t in leaves]
        before = len(trace.graph.nodes)
        seeds: list[Any] = []
        try:
            seeds = [trace.input(Aval(tuple(t.shape), t.dtype)) for t in tensors]
            found = walk.run_backward(
                tensors, [wrap(s) for s in seeds], leaves, True, False, _as_it_comes
            )
            nodes = trace.graph.nodes[before:]
        finally:
            del trace.graph.nodes[before:]
            ends_here = {s.value for s in seeds}  # tensors that only the backward reads stay
            trace.graph.inputs[:] = [v for v in trace.graph.inputs if v not in ends_here]
        self.positions = sorted(found)
        self.rows: dict[int, tuple[Any, bool]] = {}  # gradients of rows: (size, each row once)
        ends = []
        for i in self.positions:
            g: Any = found[i]
            parts = [g]
            if isinstance(g, SparseTensor):
                self.rows[i] = g.shape, g.is_coalesced()
                parts = [g._indices(), g._values()]
            ends += [part._value().value for part in parts]
        constants = trace.graph.constants
        made = {v for n in nodes for v in n.outputs} | {s.value for s in seeds}
        needed: dict[Value, None] = {}
        for v in [v for n in _live(nodes, ends) for v in n.values] + ends:
            if v not in made and v not in constants:
                needed[v] = None
        self.residuals = list(needed)
        graph = Graph()  # of its own: what it receives must have no maker
        own = {v: graph.input(v.aval) for v in (*self.residuals, *(s.value for s in seeds))}
        own.update({v: graph.constant(a, v.aval) for v, a in constants.items()})
        for n in nodes:
            inputs = [own[i] if isinstance(i, Value) else i for i in n.inputs if _known(i, own)]
            if len(inputs) == len(n.inputs):
                out = graph.add(n.op, *inputs, place=n.place)
                own.update(zip(n.outputs, out if isinstance(out, tuple) else (out,)))
        graph.outputs = [own[v] for v in ends]
        self.graph = graph
        self.executable: Executable | None = None  # made when it is wanted
        self.seed_avals = [s.value.aval for s in seeds]

    def compile(self) -> None:
        """Make the program now: at run-time sizes, it must be known whether there is one."""
        self.executable = compile_graph(self.graph)

    def fix_sizes(self, fixed: Callable[[Any], Any]) -> None:
        """Numbers for some run-time sizes."""
        fix_sizes(self.graph, fixed)
        self.seed_avals = [v.aval for v in self.graph.inputs[len(self.residuals) :]]

    def residual_outputs(self, forward: Graph) -> list[Value]:
        """Values that the forward program must also give out (inputs are at hand already)."""
        self.first = len(forward.outputs)
        inputs = {v: i for i, v in enumerate(forward.inputs)}
        self.from_inputs = [inputs.get(v) for v in self.residuals]
        return [v for v in self.residuals if v not in inputs]

    def overwritten(self, capture: Replay) -> list[int]:
        """The inputs that a call overwrites and that the results depend on."""
        forward = capture.graph
        results = [forward.outputs[o] for o in self.results]
        read = {v for n in _live(forward.nodes, results) for v in n.values}
        return [i for i in capture.donate.values() if forward.inputs[i] in read]

    def attach(
        self, capture: Replay, leaves: Sequence[Any], outputs: list[Tensor], made: list,
        kept: dict[int, np.ndarray], stood: list,
    ) -> None:  # fmt: skip
        """Put the results on the tape.

        kept   what stood in the inputs that were overwritten
        stood  (place, value) of Python's state that varies
        """
        sources = [leaves[s] if isinstance(s, int) else s for s in self.sources]
        extra = iter(made[self.first :])
        saved = []
        for i in self.from_inputs:
            if i is None:
                saved.append(next(extra))
            else:
                source = capture.inputs[i]
                if source.kind == "captured":
                    saved.append(source.source)
                elif source.kind == "arg":
                    saved.append(leaves[source.source])
                elif source.kind == "arg_grad":
                    saved.append(leaves[source.source]._grad)
                else:  # a number: its cell holds another at the next call
                    saved.append(source.cell.copy())
        node = CapturedCall(self, capture, leaves, saved, sources, (kept, stood))
        for k, o in enumerate(self.results):
            outputs[o]._node, outputs[o]._index, outputs[o]._requires = node, k, True


class LostGradient(tape.Node):
    """The tape's node for a result whose gradient the captured function has made impossible."""

    __slots__ = ("owner", "error")

    def __init__(self, owner: str, error: GradError, sources: list[Any]):
        self.op = None  # type: ignore[assignment]
        self.seq = next(tape.sequence)
        self.place = self.hooks = self.recompute = None
        self.edges = tuple(
            tape.edge_of(s) if isinstance(s, Tensor) and s._requires else None for s in sources
        )
        self.n_outputs = 1
        self.inputs = self.outs = ()
        self.owner, self.error = owner, error

    @property
    def title(self) -> str:
        return f"jit_{self.owner}"

    def pull(self, gs: list[Any], wanted: list[bool], linked: bool) -> list[Any]:
        error = self.error
        raise GradError(
            f"{error.message}; both happened in the captured function {self.owner}",
            hint="write to a clone(), or before the value is used",
            place=error.place,
        )


class CapturedCall(tape.Node):
    """The tape's node for a call of a captured function."""

    __slots__ = (
        "program", "capture", "leaves", "saved", "versions", "at", "before", "autocast", "as_of",
    )  # fmt: skip

    def __init__(
        self, program: Backward, capture: Replay, leaves: Sequence[Any], saved: list,
        sources: list, before: tuple[dict[int, np.ndarray], list],
    ):  # fmt: skip
        self.op = None  # type: ignore[assignment]
        self.seq = next(tape.sequence)
        self.place = None
        self.hooks = None
        self.edges = tuple(
            tape.edge_of(s) if isinstance(s, Tensor) and s._requires else None for s in sources
        )
        self.n_outputs = len(program.seed_avals)
        self.recompute = None
        self.inputs = self.outs = ()
        self.program, self.capture, self.leaves = program, capture, leaves
        self.saved, self.at = saved, capture.at
        self.before, self.autocast = before, modes.autocast
        self.as_of = self.seq if modes.as_of is None else modes.as_of
        self.versions = [s._version[0] if isinstance(s, Tensor) else 0 for s in saved]

    @property
    def title(self) -> str:
        return f"jit_{self.capture.owner.__name__}"

    def pull(self, gs: list[Any], wanted: list[bool], linked: bool) -> list[Any]:
        if self.inputs is None:
            raise tape._used_twice(self)
        if modes.grad or modes.trace is not None or modes.vmap is not None:
            return self._pull_again(gs)
        program, at = self.program, self.at
        if program.executable is None:
            program.compile()
        arrays = []
        for s, version in zip(self.saved, self.versions):
            if isinstance(s, Tensor):
                if s._version[0] != version:
                    raise GradError(
                        f"backward: a tensor that {self.title} read was changed in place since"
                    )
                arrays.append(np.ascontiguousarray(s._value()))
            else:
                arrays.append(s)
        for g, aval in zip(gs, program.seed_avals):
            arrays.append(
                np.zeros(at.shape(aval.shape), aval.dtype.numpy)
                if g is None
                else np.ascontiguousarray(g._value())
            )
        avals = [v.aval for v in program.graph.outputs]
        outs = [buffers.empty(at.shape(a.shape), a.dtype.numpy) for a in avals]
        program.executable.bound(at).run(arrays, outs)
        results: list[Any] = [None] * len(self.edges)
        made = iter(outs)
        for i in program.positions:
            results[i] = wrap(next(made))
            if i in program.rows:
                size, coalesced = program.rows[i]
                results[i] = SparseTensor(results[i], wrap(next(made)), at.shape(size), coalesced)
        return results

    def gives_fresh(self, result: Any, gs: list[Any], results: list[Any]) -> bool:
        if isinstance(result, SparseTensor):
            return False
        return super().gives_fresh(result, gs, [r for r in results if type(r) is Tensor])

    def _pull_again(self, gs: list[Any]) -> list[Any]:
        """For gradients of gradients: run the plain function again and differentiate that."""
        capture = self.capture
        args, kwargs, *_ = capture.treedef.unflatten(self.leaves)
        before = modes.grad, modes.as_of, modes.vmap, modes.autocast, modes.casts
        modes.grad, modes.as_of, modes.vmap = True, self.as_of, None
        modes.autocast, modes.casts = self.autocast, None
        try:
            with _as_before(capture, self.leaves, *self.before):
                result = capture.owner.function(*args, **kwargs)
                outs = capture.results_of(result)
        finally:
            modes.grad, modes.as_of, modes.vmap, modes.autocast, modes.casts = before
        outs = [outs[o] for o in self.program.results]
        sources = [self.leaves[s] if isinstance(s, int) else s for s in self.program.sources]
        pairs = [(o, g) for o, g in zip(outs, gs) if g is not None and o.requires_grad]
        found = walk.run_backward(
            [o for o, _ in pairs], [g for _, g in pairs], sources, True, modes.grad, None
        )
        return [found.get(i) for i in range(len(sources))]

    def release(self) -> None:
        self.inputs = None
        self.saved = self.leaves = []
        self.before = {}, []


@contextmanager
def _as_before(
    capture: Replay, leaves: Sequence[Any], kept: dict[int, np.ndarray], stood: list
) -> Iterator:
    """What a call overwrites, as it was before the call, to be written again without a trace."""
    held = []
    owners = [who if isinstance(who, Tensor) else leaves[who] for who, _, _ in capture.grads]
    grads = [(owner, owner._grad) for owner in owners]
    for o, who in capture.written if modes.trace is None else ():
        if isinstance(who, tuple):
            tensor = leaves[who[1]]._grad
        else:
            tensor = who if isinstance(who, Tensor) else leaves[who]
        state = tensor._payload, tensor._version, tensor._seen, tensor._base, tensor._view
        held.append((tensor, state, (tensor._node, tensor._index, tensor._requires)))
        then = kept.get(capture.donate[o])
        tensor._payload = tensor._value().copy() if then is None else then.copy()
        tensor._version, tensor._base, tensor._view = [0], None, None
    now = capture.state.stand()
    for place, value in stood:
        place.set(value)
    try:
        yield
    finally:
        put_back(*now)
        for tensor, state, tape_place in held:
            tensor._payload, tensor._version, tensor._seen, tensor._base, tensor._view = state
            tensor._node, tensor._index, tensor._requires = tape_place
        for owner, grad in grads:
            owner._grad = grad
        for names, name, tensor in capture.rebound:
            names[name] = tensor


def _as_it_comes(leaf: Any, gradient: Any, fresh: bool) -> None:
    """For a walk whose gradients of rows are to stay so, as those that leaves accumulate."""


def _known(x: Any, own: dict) -> bool:
    return not isinstance(x, Value) or x in own


def _live(nodes: list[Any], outputs: list[Value]) -> list[Any]:
    """The nodes that the outputs depend on."""
    live, kept = set(outputs), []
    for n in reversed(nodes):
        if any(v in live for v in n.outputs):
            live.update(n.values)
            kept.append(n)
    return kept[::-1]


def live_dtype(x: Any) -> dt.DType:
    """What a number that varies is passed as: floats keep their precision."""
    found = dt.of_scalar(x)
    return dt.float64 if found.category == dt.FLOAT else found
