"""Eager execution of composed functions: one compiled call forward, one backward.

A function marked `composite` (ops/composite.py) is captured and compiled for the shapes that it is
called with, like a function under jit. Its call leaves one node on the tape, which keeps the
arguments that the gradient reads and the results of reductions, products and convolutions inside;
what is elementwise is computed again by the backward program. A gradient that is differentiated
itself becomes such a call when it was asked for twice (Pullback). Whatever is unusual runs the
composition itself: captures, vmap, anomaly mode, checkpointed regions.
"""

from __future__ import annotations

import functools
import importlib
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.dtype import BY_NUMPY, get_default_dtype
from ..core.errors import CompileError, IndexRangeError, MonographError
from ..core.modes import modes
from ..ir import dispatch
from ..ir.graph import Graph, Value
from ..ir.op import Aval
from ..ops import composite
from ..ops.movement import Alias, Expand, Permute, Reshape
from ..runtime import buffers
from ..tensor import Tensor, wrap
from ..transform import replay, tape, walk
from ..transform.structure import reads
from ..transform.tape import Like, Node, Saved
from ..transform.trace import Symbol, Trace
from . import again, compiled
from .interpreter import interpret

SMALL = 64  # elements below which nothing is compiled (again.py)
# Kinds of calls of one function that are compiled at sight: code with more of them (sequences of
# all lengths) repeats few, and what follows is compiled when it was seen SIGHTINGS times.
AT_SIGHT = 64
SIGHTINGS = 2
LIMIT = 2048
SMALL_BYTES = 32768  # memory that NumPy hands out more quickly than the pool
# What a backward program computes again instead of keeping it.
CHEAP = {"elementwise", "movement", "source"}

_known: dict[Any, Any] = {}  # kind of call -> its Composite, or None where it has none
_seen: dict[Any, int] = {}  # kind of call that is not compiled yet -> how often it was seen
_compiled: dict[Callable, int] = {}  # function -> kinds compiled
NEW = object()
_handlers = dispatch._handler


def run(f: Callable, args: tuple, kwargs: dict) -> Any:
    """f(*args, **kwargs) as one compiled call, or composite.PLAIN."""
    if (
        modes.recorder is not None or modes.anomaly or modes.saved_hooks is not None
        or not compiled.is_enabled()
        or _handlers[0] is not interpret  # somebody watches operations
    ):  # fmt: skip
        return composite.PLAIN
    grad = modes.grad
    key: list[Any] = [f, get_default_dtype(), modes.autocast, *kwargs]
    tensors: list[Tensor] = []
    arrays: list[np.ndarray] = []
    for a in (*args, *kwargs.values()) if kwargs else args:
        if not isinstance(a, Tensor):
            key += type(a), a
            continue
        p = a._payload if a._base is None else a._value()
        if type(p) is not np.ndarray or p.dtype.kind == "c":
            return composite.PLAIN
        reading = None
        if not p.flags.c_contiguous:
            p, reading = compiled.as_it_stands(p)
        key += p.shape, p.dtype, grad and a._requires, reading
        tensors.append(a)
        arrays.append(p)
    kind = tuple(key)
    try:
        found = _known.get(kind, NEW)
    except TypeError:  # a list or a dict among the arguments
        return composite.PLAIN
    if found is NEW:
        found = _meet(f, args, kwargs, kind, sum([a.size for a in arrays]))
    if found is None:
        return composite.PLAIN
    return found(args, kwargs, tensors, arrays)


def _meet(f: Callable, args: tuple, kwargs: dict, kind: Any, size: int) -> Any:
    """The Composite for this kind of call; None as long as, or where, there is none."""
    if size < SMALL or (size <= again.MOST and hasattr(f, "is_never_compiled")):
        if len(_known) >= LIMIT:
            _known.clear()
        _known[kind] = again.Again(f)
        return _known[kind]
    if hasattr(f, "is_never_compiled"):
        return None
    count = _compiled.get(f, 0)
    if count >= AT_SIGHT:
        seen = _seen.get(kind, 0)
        if seen < SIGHTINGS:
            if len(_seen) >= LIMIT:
                _seen.clear()
            _seen[kind] = seen + 1
            return None
    _compiled[f] = count + 1
    if len(_known) >= LIMIT:
        _known.clear()
    try:
        made = Composite(f, args, kwargs)
    except (MonographError, TypeError, ValueError, AttributeError, NotImplementedError):
        made = None  # the composition itself will say what is wrong
    _known[kind] = made if made is not None and made.executable is not None else None
    return _known[kind]


class Composite:
    """A compiled call of one kind: forward program, and how its gradient is computed."""

    fresh_cotangents = True  # this stands where an op does (Node.op)

    def __init__(self, f: Callable, args: tuple, kwargs: dict):
        self.function, self.name = f, f.__name__
        self.autocast = modes.autocast
        self.executable: Any = None
        self.pullbacks: dict[tuple[bool, ...], Pullback] = {}
        # How the composition is called again: constants, and where the tensors go.
        places = map(_Place, itertools.count())
        self.call = (
            [next(places) if isinstance(a, Tensor) else a for a in args],
            {k: next(places) if isinstance(a, Tensor) else a for k, a in kwargs.items()},
        )
        trace = Trace()
        shown: list[Tensor] = []
        inputs: list[Symbol] = []
        self.readings: list[Any] = []

        def show(a: Any) -> Any:
            if not isinstance(a, Tensor):
                return a
            array, reading = a._value(), None
            if not array.flags.c_contiguous:
                array, reading = compiled.as_it_stands(array)
            symbol = trace.input(Aval(array.shape, BY_NUMPY[array.dtype]))
            inputs.append(symbol)
            self.readings.append(reading)
            t = wrap(symbol if reading is None else read(wrap(symbol), reading)._payload)
            t._requires = modes.grad and a._requires
            shown.append(t)
            return t

        with trace:
            given = [show(a) for a in args]
            named = {k: show(a) for k, a in kwargs.items()}
            before = [t._payload for t in shown]
            result = f(*given, **named)
            self.several = type(result) is tuple
            results = list(result) if self.several else [result]
            # Arguments that are written in place.
            self.written = [i for i, t in enumerate(shown) if t._payload is not before[i]]
            usable = not (trace.captured or trace.guards or trace.scalars or trace.grads) and all(
                type(r) is Tensor and type(r._value()) is Symbol and all(r is not t for t in shown)
                for r in results
            )
            usable = usable and not any(self.readings[i] for i in self.written)
            graph = trace.graph
            values = [r._payload.value for r in results] if usable else []
            own = {p.value for p in before}
            if not usable or any(_is_view_of(v, own) for v in values):
                trace.finish()
                return
            leaves = [i for i, t in enumerate(shown) if t._requires]
            self.differentiable = [
                k for k, r in enumerate(results) if r._requires and r.dtype.is_floating_point
            ]
            count = len(graph.nodes)
            overwrites = [shown[i]._payload.value for i in self.written]
            self.backward: Backward | None = None
            if self.differentiable:
                roots = [results[k] for k in self.differentiable]
                seeds = [trace.input(Aval(tuple(r.shape), r.dtype)) for r in roots]
                found = walk.run_backward(
                    roots, [wrap(s) for s in seeds], [shown[i] for i in leaves], True, False, None
                )
                self.backward = Backward(
                    graph, count, [s.value for s in inputs], values, [s.value for s in seeds],
                    {leaves[i]: g._value().value for i, g in found.items()},
                )  # fmt: skip
                del graph.nodes[count:], graph.inputs[len(inputs) :]
        trace.finish()
        for n in graph.nodes:
            n.place = None  # of the first call; errors are raised where the others are
        self.avals = [v.aval for v in values]
        extra = self.backward.extra if self.backward else []
        graph.outputs = [*values, *extra, *overwrites]
        first = len(values) + len(extra)
        donate = {first + k: i for k, i in enumerate(self.written)}
        self.fresh = [_maker(v.aval) for v in (*values, *extra)]
        compiler = importlib.import_module("monograph.compiler.executable")  # heavy: loads LLVM
        try:
            executable = compiler.compile_graph(graph, donate)
        except CompileError:
            return
        if not executable.has_host_steps:
            self.executable = executable

    def again(self, *arrays: np.ndarray) -> list[np.ndarray]:
        """All results of the program on other arrays of this kind (replay.py); none is written."""
        outs = [make(shape, dtype) for make, shape, dtype in self.fresh]
        self.executable.run([_stand(a, r) for a, r in zip(arrays, self.readings)], outs)
        return outs

    def run_again(self, given: list[Any]) -> list[Any]:
        """The results of the composition itself on other tensors."""
        before, modes.autocast = modes.autocast, self.autocast
        try:
            args = [given[a.index] if type(a) is _Place else a for a in self.call[0]]
            kwargs = {
                k: given[a.index] if type(a) is _Place else a for k, a in self.call[1].items()
            }
            result = self.function(*args, **kwargs)
        finally:
            modes.autocast = before
        return list(result) if self.several else [result]

    def pullback(self, wanted: list[bool]) -> Pullback:
        """The gradients `wanted` as a function of values."""
        made = self.pullbacks.get(tuple(wanted))
        if made is None:
            made = self.pullbacks[tuple(wanted)] = Pullback(self, wanted)
        return made

    def __call__(self, args: tuple, kwargs: dict, tensors: list, arrays: list) -> Any:
        old = None
        if self.written:
            for i in self.written:
                t = tensors[i]
                t._may_write(self.name)
                if t._base is not None or t._node is not None or _overlaps(i, arrays):
                    return self.function(*args, **kwargs)
            if self.backward is not None:
                old = {id(tensors[i]): arrays[i].copy() for i in self.written}
        outs = [make(shape, dtype) for make, shape, dtype in self.fresh]
        made = [wrap(a) for a in outs[: len(self.avals)]]
        node = None
        if self.backward is not None:  # before the call: what cannot be saved is an error
            node = CompositeNode(self, tensors, made, outs, old)
        try:
            self.executable.run(arrays, [*outs, *(arrays[i] for i in self.written)])
        except IndexRangeError as error:
            raise IndexRangeError(error.message) from None  # at this call's place
        if replay.recording[0] and modes.steps is not None:
            modes.steps.call(self, self.again, [t._payload for t in tensors], outs)
            modes.steps.ok &= not self.written
        for i in self.written:
            tensors[i]._version[0] += 1
        if node is not None:
            for index, k in enumerate(self.differentiable):
                r = made[k]
                r._node, r._index, r._requires = node, index, True
        return tuple(made) if self.several else made[0]


def _is_view_of(v: Value, own: set[Value]) -> bool:
    """Whether v is an argument, or only moves one's elements: the composition may copy nothing."""
    while v.node is not None and v.node.op.kind == "movement":
        v = v.node.values[0]
    return v in own or v.node is None


class _Place:
    """Stands for a tensor among arguments: the index'th."""

    __slots__ = ("index",)

    def __init__(self, index: int):
        self.index = index


def _maker(aval: Aval) -> tuple[Callable, tuple[int, ...], np.dtype]:
    """(function, its arguments) that makes memory for a result; NumPy is quicker for small ones."""
    small = aval.size * aval.dtype.itemsize <= SMALL_BYTES
    return np.empty if small else buffers.empty, aval.shape, aval.dtype.numpy


def _stand(a: np.ndarray, reading: Any) -> np.ndarray:
    """The contiguous array that `reading` (as_it_stands) makes a of."""
    if reading is None:
        return a if a.flags.c_contiguous else np.ascontiguousarray(a)
    stands, found = compiled.as_it_stands(a)
    if found == reading:
        return stands
    order, _, axes = reading  # an array of another layout than that which was compiled for
    kept = a[(*(0 if i in axes else slice(None) for i in range(a.ndim)), ...)]
    return np.ascontiguousarray(kept.transpose(order))


def _overlaps(i: int, arrays: list) -> bool:
    mine = arrays[i]
    return any(np.may_share_memory(mine, a) for k, a in enumerate(arrays) if k != i)


class Backward:
    """The gradient program of a Composite, and which values of the forward it reads."""

    def __init__(
        self, graph: Graph, count: int, inputs: list[Value], results: list[Value],
        seeds: list[Value], found: dict[int, Value],
    ):  # fmt: skip
        self.source, self.count, self.seeds, self.found = graph.nodes[:], count, seeds, found
        self.constants = dict(graph.constants)
        order = {id(n): k for k, n in enumerate(graph.nodes)}
        place = {v: i for i, v in enumerate(inputs)}
        # A result that another value was only reshaped into stands for that value.
        plain: dict[Value, int] = {}
        for k, v in enumerate(results):
            plain.setdefault(v, k)
            while v.node is not None and isinstance(v.node.op, Reshape):
                v = v.node.inputs[0]
                plain.setdefault(v, k)
        self.arguments: list[int] = []
        self.results: list[int] = []
        self.extra: list[Value] = []
        self.reads: list[Value] = []  # arguments, results, extra: what the program's inputs are
        known: set[Value] = {*seeds, *self.constants}
        kinds: dict[Value, tuple[list, Any]] = {}
        stack = list(found.values())
        while stack:
            v = stack.pop()
            if v in known:
                continue
            known.add(v)
            if v in place:
                kinds[v] = self.arguments, place[v]
            elif order[id(v.node)] >= count or v.node.op.kind in CHEAP:
                stack.extend(v.node.values)
            elif v in plain:
                kinds[v] = self.results, plain[v]
            else:
                kinds[v] = self.extra, v
        for into in (self.arguments, self.results, self.extra):
            for v, (where, what) in kinds.items():
                if where is into:
                    into.append(what)
                    self.reads.append(v)
        self.at = [results[k].aval for k in self.results]
        self.programs: dict[Any, Any] = {}

    def program(self, readings: tuple, wanted: tuple[bool, ...]) -> Any:
        """The executable for cotangents that stand in memory as `readings` say.

        With it come the arguments whose gradients it gives (those `wanted`), and what makes memory
        for each.
        """
        made = self.programs.get((readings, wanted))
        if made is None:
            given = [i for i in self.found if wanted[i]]
            fresh = [_maker(self.found[i].aval) for i in given]
            made = self._compile(readings, given), given, fresh
            self.programs[readings, wanted] = made
        return made

    def run(
        self, owner: Composite, wanted: tuple[bool, ...], missing: tuple[bool, ...],
        given: list[np.ndarray],
    ) -> list[np.ndarray]:  # fmt: skip
        """The gradients `wanted` from arguments, results, extra, and cotangents not `missing`."""
        arrays = given[: len(self.reads)]
        for k, i in enumerate(self.arguments):
            arrays[k] = _stand(arrays[k], owner.readings[i])
        cotangents = iter(given[len(self.reads) :])
        readings: list[Any] = []
        for absent, v in zip(missing, self.seeds):
            array = np.zeros(v.aval.shape, v.aval.dtype.numpy) if absent else next(cotangents)
            reading = None
            if not array.flags.c_contiguous:
                array, reading = compiled.as_it_stands(array)
            arrays.append(array)
            readings.append(reading)
        executable, _, fresh = self.program(tuple(readings), wanted)
        outs = [make(shape, dtype) for make, shape, dtype in fresh]
        executable.run(arrays, outs)
        return outs

    def _compile(self, readings: tuple, given: list[int]) -> Any:
        graph = Graph()
        own: dict[Value, Any] = {}
        first = len(self.arguments)
        for k, v in enumerate(self.reads):
            of_result = first <= k < first + len(self.results)
            aval = self.at[k - first] if of_result else v.aval
            own[v] = graph.input(aval)
            if aval.shape != v.aval.shape:
                own[v] = graph.add(Reshape(v.aval.shape), own[v])
        for v, reading in zip(self.seeds, readings):
            own[v] = graph.input(_standing(v.aval, reading))
            if reading is not None:
                for op in reading_ops(reading):
                    own[v] = graph.add(op, own[v])
        own.update({v: graph.constant(a, v.aval) for v, a in self.constants.items()})
        for n in self.source:
            if all(i in own for i in n.values) and not all(v in own for v in n.outputs):
                out = graph.add(n.op, *(own[i] if isinstance(i, Value) else i for i in n.inputs))
                for v, o in zip(n.outputs, out if isinstance(out, tuple) else (out,)):
                    own.setdefault(v, o)
        graph.outputs = [own[self.found[i]] for i in given]
        return importlib.import_module("monograph.compiler.executable").compile_graph(graph)


class Pullback:
    """A Composite's gradient as a composite of its own, so that it has a compiled gradient, too.

    Where gradients of gradients are asked for again and again (an inner loop of meta-learning, a
    penalty on a gradient), the tape gets one node for it instead of those of the composition.
    """

    def __init__(self, owner: Composite, wanted: list[bool]):
        self.owner, self.wanted = owner, list(wanted)
        self.seen = 0
        # For each set of cotangents given: the arguments whose gradients __call__ gives.
        self.positions: dict[tuple[bool, ...], list[int]] = {}
        self.__name__ = f"{owner.name}_backward"

    def __call__(self, *values: Any) -> tuple[Any, ...]:
        """Cotangents of the differentiable results (or None), then the arguments."""
        owner = self.owner
        gs, given = values[: len(owner.differentiable)], list(values[len(owner.differentiable) :])
        sources = [i for i, want in enumerate(self.wanted) if want]
        for i in sources:
            given[i] = Alias()(given[i])  # one tensor may be several arguments
        roots, pairs = owner.run_again(given), []
        for k, g in zip(owner.differentiable, gs):
            if g is not None:
                pairs.append((roots[k], g))
        found = walk.run_backward(
            [r for r, _ in pairs], [g for _, g in pairs], [given[i] for i in sources],
            True, True, None,
        )  # fmt: skip
        self.positions[tuple(g is None for g in gs)] = [sources[k] for k in sorted(found)]
        return tuple(found[k] for k in sorted(found))

    def pull(self, node: CompositeNode, gs: list[Any]) -> list[Any] | None:
        """The node's gradients, as its own pull gives them; None where this is not compiled."""
        self.seen += 1
        if self.seen <= SIGHTINGS and modes.steps is None:  # what is recorded is seen again
            return None
        given = [s.restore(node, True) for s in node.inputs]
        found = composite.offer(self, *gs, *given)  # type: ignore[arg-type]
        if found is composite.PLAIN:
            return None
        results: list[Any] = [None] * len(node.edges)
        for i, g in zip(self.positions[tuple(g is None for g in gs)], found):
            results[i] = g
        return results


def reading_ops(reading: Any) -> list[Any]:
    """The ops that read an array as compiled.as_it_stands found it."""
    order, shape, axes = reading
    inverse = tuple(order.index(i) for i in range(len(order)))
    return [Permute(inverse), *([Expand(shape, axes)] if axes else [])]


def read(x: Any, reading: Any) -> Any:
    """x, a tensor, through reading_ops."""
    for op in reading_ops(reading):
        x = op(x)
    return x


def _standing(aval: Aval, reading: Any) -> Aval:
    """The array in memory that `reading` makes `aval` of."""
    if reading is None:
        return aval
    order, shape, axes = reading
    kept = tuple(n for i, n in enumerate(shape) if i not in axes)
    return Aval(tuple(kept[i] for i in order), aval.dtype)


def _run_backward(back: Backward, owner: Composite, wanted: Any, missing: Any, *arrays: Any) -> Any:
    return back.run(owner, wanted, missing, list(arrays))


@reads
class CompositeNode(Node):
    """The tape's node for a compiled call of a composite."""

    __slots__ = ("old", "extra", "is_fresh")

    def __init__(self, owner: Composite, tensors: list, made: list, outs: list, old: dict | None):
        self.op: Any = owner
        self.seq = next(tape.sequence)
        self.place = self.hooks = self.recompute = None
        back = owner.backward
        assert back is not None
        edges: list[Any] = []
        inputs: list[Any] = []
        for i, t in enumerate(tensors):
            edge = None
            if t._requires:
                edge = (t, 0) if t._node is None else (t._node, t._index)
            edges.append(edge)
            if i in owner.written:
                inputs.append(Like((t._payload.shape, t._payload.dtype)))
            elif edge is None:
                inputs.append(Saved(t))
            else:
                inputs.append(Saved(t, edge[0], edge[1], True))
        self.edges = tuple(edges)
        self.inputs = inputs
        self.n_outputs = len(owner.differentiable)
        self.outs = [Saved(made[k]) for k in back.results]
        self.extra = outs[len(made) :]
        self.is_fresh = False  # whether the last pull was the program's
        self.old = None if old is None else {i: old[id(tensors[i])] for i in owner.written}

    def pull(self, gs: list[Any], wanted: list[bool], linked: bool) -> list[Any]:
        if self.inputs is None:
            raise tape._used_twice(self)
        owner = self.op
        if modes.grad and linked and self.old is None:
            found = owner.pullback(wanted).pull(self, gs)
            if found is not None:
                return found
        if modes.grad or modes.trace is not None or modes.vmap is not None:
            return self._pull_composition(gs, linked)
        back = owner.backward
        if any(g is not None and type(g._value()) is not np.ndarray for g in gs):
            return self._pull_composition(gs, linked)
        arrays = [self._current(self.inputs[i]) for i in back.arguments]
        arrays += [self._current(s) for s in self.outs]
        arrays += self.extra
        arrays += [g._payload for g in gs if g is not None]
        missing = tuple(g is None for g in gs)
        self.is_fresh = True
        outs = back.run(owner, tuple(wanted), missing, arrays)
        if replay.recording[0] and modes.steps is not None:
            again = functools.partial(_run_backward, back, owner, tuple(wanted), missing)
            modes.steps.call((back, tuple(wanted), missing), again, arrays, outs)
        results: list[Any] = [None] * len(self.edges)
        for i, a in zip((i for i in back.found if wanted[i]), outs):
            results[i] = wrap(a)
        return results

    def replayed(self, me: Any, create_graph: bool) -> list[np.ndarray] | None:
        """For structure.read: what `pull` reads besides arguments and results."""
        if self.op.written:
            return None
        return [] if create_graph else self.extra

    def blank(self) -> None:
        """Complete a node that replay.Program made, for a pull on the tape."""
        self.old, self.extra, self.is_fresh = None, [], False

    def gives_fresh(self, r: Any, gs: list[Any], results: list[Any]) -> bool:
        return self.is_fresh or super().gives_fresh(r, gs, results)

    def _current(self, s: Saved) -> np.ndarray:
        return s.payload if s.versions[0] == s.version else s.restore(self, False)._value()

    def _pull_composition(self, gs: list[Any], linked: bool) -> list[Any]:
        """The gradient by the primitives of the composition, which is run again."""
        self.is_fresh = False
        before, modes.grad = modes.grad, True
        try:
            given: list[Any] = []
            for i, s in enumerate(self.inputs):
                if self.old is not None and i in self.old:
                    given.append(wrap(self.old[i].copy()))
                    continue
                x = s.restore(self, linked)
                if s.requires_grad and not x._requires:
                    x = wrap(x._value())  # a constant to what is recorded, a leaf here
                    x._requires = True
                given.append(Alias()(x) if s.requires_grad else x)
            results = self.op.run_again(given)
        finally:
            modes.grad = before
        roots = [results[k] for k in self.op.differentiable]
        pairs = [(r, g) for r, g in zip(roots, gs) if g is not None]
        sources = [i for i, s in enumerate(self.inputs) if type(s) is Saved and s.requires_grad]
        found = walk.run_backward(
            [r for r, _ in pairs], [g for _, g in pairs], [given[i] for i in sources],
            True, modes.grad, None, linked,
        )  # fmt: skip
        made: list[Any] = [None] * len(self.edges)
        for k, g in found.items():
            made[sources[k]] = g
        return made

    def release(self) -> None:
        self.inputs = self.outs = self.recompute = None
        self.extra = []
        self.old = None
