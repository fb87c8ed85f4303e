"""`mg.jit`: capture a function once, replay it as one native call.

    @mg.jit
    def step(x, y):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad(); loss.backward(); optimizer.step()
        return loss

Tensors that the function touches but does not receive become inputs by reference; those that it
overwrites are written in place. A capture holds for one structure, set of shapes and dtypes of the
arguments, and for the Python values that were guarded; another combination captures again, and the
reason is logged (logger "monograph.jit", one line). Sizes of arguments that change become run-time
sizes of one program (dynamic.py). Read next: transform/trace.py, compiler/pipeline.py.
"""

from __future__ import annotations

import functools
import logging
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .api.creation import as_tensor
from .api.sparse import SparseTensor
from .capture_gradient import differentiate, live_dtype
from .capture_reasons import difference
from .capture_replay import NO, Input, NumberOutput, Output, Replay, may_vary
from .compiler.sizes import NotDynamic, fix_sizes
from .core import dtype as dt
from .core import pytree
from .core.errors import ArgumentError, StateNeeded, TraceError
from .core.modes import modes, uncollected, untaped
from .core.sizes import Guard
from .core.symbolic import is_symbolic
from .dynamic import OFTEN, Axis, Policy, Sizes, pattern_of, shapes_of
from .ir.graph import Value
from .ir.op import Aval
from .tensor import Tensor, wrap
from .transform.contents import MANY, check_contents
from .transform.decision import TooMany, check_decisions
from .transform.places import holds_tensors
from .transform.state import State
from .transform.trace import Symbol, Trace
from .transform.varying import Carries, Varying

LEAVES = (Tensor, int, float, bool, str)  # arguments that are no containers
RECENT = 4  # variants of a function that are tried before its arguments are looked at in full

MAX_PROGRAMS = 64  # of one function
log = logging.getLogger("monograph.jit")


class Capture(Replay):
    """One captured and compiled variant of a function."""

    def __init__(
        self,
        owner: Jit,
        leaves: list[Any],
        treedef: pytree.TreeDef,
        live: set[int],
        sizes: Sizes | None = None,
    ):
        self.owner = owner
        self.treedef = treedef
        self.live = live
        self.sizes = sizes
        self.used = 0  # when, on the owner's clock
        trace = Trace()
        self.state = trace.state = State(trace, owner.varying.live, owner.varying.unfit)
        self.places = list(owner.varying.carried.values())
        stood = [(place, place.now()) for place in self.places]
        try:
            with trace:
                self._trace(trace, leaves, treedef)
            trace.finish()
        finally:
            for place, value in stood:
                place.set(value)
        others = [c for variants in owner.captures.values() for c in variants]
        check_contents(trace.guards, others)
        check_decisions(trace.guards, others)
        self.refused: list[tuple[list[Axis], str]] = []  # axes that were to be dynamic, and why not
        if self.sizes is not None:
            self._compile_dynamic()
        if self.sizes is None:
            self.compile()

    def _compile_dynamic(self) -> None:
        """The program at run-time sizes; those that it needs the number of become fixed."""
        while self.sizes is not None:
            guard = next(iter(self.sizes.space.exact_guards()), None)
            try:
                if guard is None:
                    self.compile()
                    if self.backward is not None:
                        self.backward.compile()
                    self.sizes.space.closed = True
                    return
                self._fix(guard)
            except NotDynamic as needed:
                self._fix(needed.guard)
            except Exception as error:  # a kernel that cannot be made for these
                self._fix(None, error)

    def _fix(self, guard: Guard | None, error: Exception | None = None) -> None:
        """Make sizes fixed that a guard asks the number of, or all if nothing else is known."""
        sizes = self.sizes
        assert sizes is not None
        axes = [] if guard is None else sizes.blamed(guard)
        if axes and guard is not None:
            self.refused.append((axes, sizes.why_static(guard)))
        else:
            axes = sizes.axes
            self.refused.append((axes, f"sizes cannot be dynamic: {error}"))
        fixed = sizes.fix(axes)
        fix_sizes(self.graph, fixed)
        if self.backward is not None:
            self.backward.fix_sizes(fixed)
        for source in self.inputs:
            source.aval = Aval(tuple(map(fixed, source.aval.shape)), source.aval.dtype)
        self.returns = [(what, fixed(value)) for what, value in self.returns]
        self.grads = [
            (who, what, (value[0], tuple(map(fixed, value[1])), value[2]))
            if what == "rows"
            else (who, what, value)
            for who, what, value in self.grads
        ]
        if not sizes.places:
            sizes.space.closed = True
            self.sizes = None

    # Capture

    def _trace(self, trace: Trace, leaves: list[Any], treedef: pytree.TreeDef) -> None:
        args: list[Any] = []
        self.cells: dict[Value, np.ndarray] = {}  # of arguments that are numbers
        self.arg_tensors: dict[int, int] = {}
        self.arg_grads: dict[int, int] = {}  # id of an argument's .grad as shown -> leaf number
        symbols: list[Any] = []
        first: dict[int, Tensor] = {}
        for k, leaf in enumerate(leaves):
            if id(leaf) in first:  # the same tensor again: what is written shows in both
                args.append(first[id(leaf)])
            elif isinstance(leaf, Tensor):
                shown = first[id(leaf)] = wrap(leaf._value())
                shown._requires = leaf._requires
                if leaf._requires and leaf._grad is not None:
                    shown._grad = wrap(leaf._grad._value())
                    self.arg_grads[id(shown._grad)] = k
                self.arg_tensors[id(shown)] = k
                if self.sizes is not None:
                    trace.shapes[id(shown)] = self.sizes.shape(k)
                trace.lift(shown)
                symbols.append((k, shown))
                args.append(shown)
            elif k in self.live:
                symbol = trace.input(Aval((), live_dtype(leaf)))
                self.cells[symbol.value] = np.array(leaf, symbol.dtype.numpy)
                trace.numbers[symbol.value] = self.cells[symbol.value].item, leaf
                symbols.append((k, symbol))
                number = wrap(symbol)
                number._weak = True
                args.append(number)
            else:
                args.append(leaf)
        trace.given = len(trace.captured)
        positional, named, *carried = treedef.unflatten(args)
        for place, value in zip(self.places, *carried):
            if holds_tensors(value):
                self.state.carry(place, value)
        self.state.open(self.owner.function)
        result = self.owner.function(*positional, **named)
        with untaped():
            trace.settle()
        self._collect(trace, result, symbols)

    def _collect(self, trace: Trace, result: Any, symbols: list[Any]) -> None:
        graph = trace.graph
        out_leaves, self.out_tree = pytree.flatten(result)
        args = {id(t): k for k, t in symbols if isinstance(t, Tensor)}
        live = {s.value: k for k, s in symbols if isinstance(s, Symbol)}
        # What each call returns: ("new", output position), ("same", tensor), ("arg", k),
        # ("arg_grad", k), constant.
        self.returns: list[tuple[str, Any]] = []
        outputs: list[Value] = []
        differentiable: list[tuple[int, Tensor]] = []
        known: dict[int, int] = {}  # id of a tensor -> the output that it is
        captured_ids = {id(c.tensor): c for c in trace.captured}
        for leaf in out_leaves:
            if not isinstance(leaf, Tensor):
                self.returns.append(("size" if is_symbolic(leaf) else "constant", leaf))
            elif id(leaf) in args:
                self.returns.append(("arg", args[id(leaf)]))
            elif id(leaf) in self.arg_grads:
                self.returns.append(("arg_grad", self.arg_grads[id(leaf)]))
            elif id(leaf) in captured_ids:
                self.returns.append(("same", leaf))
            elif type(leaf._value()) is not Symbol:
                self.returns.append(("same", leaf))
            else:
                if leaf._requires and modes.grad:
                    differentiable.append((len(outputs), leaf))
                known.setdefault(id(leaf), len(outputs))
                self.returns.append(("new", len(outputs)))
                outputs.append(leaf._value().value)
        self.carried: list[tuple[Any, str, Any, Any]] = []  # (place, what, value, more)
        for place in self.state.places.values():
            if place.put is None:
                continue
            what, value, more = place.put
            if what == "number":
                outputs.append(value._value().value)
                value = len(outputs) - 1
            elif what == "tree":
                value = _as_outputs(value, outputs, differentiable, known)
            self.carried.append((place, what, value, more))
            place.put = what, None, None
        self.carried += [(place, "count", amount, None) for place, amount in self.state.counts]
        for grown, leaves, tree in self.state.growths:
            self.carried.append(
                (grown, "entries", _as_outputs(leaves, outputs, differentiable, known), tree)
            )
        self.new_outputs = len(outputs)
        # Gradients that the function left behind.
        self.grads: list[
            tuple[Any, str, Any]
        ] = []  # (tensor or arg number, what, output or tensor)
        for t, g in trace.grads.values():
            who = args.get(id(t), t)
            if type(t._payload) is Symbol and id(t) not in captured_ids and id(t) not in args:
                continue  # a tensor of the function's own
            if g is not None and who is args.get(id(t)) and who == self.arg_grads.get(id(g)):
                continue  # still the argument's own
            if isinstance(g, SparseTensor) and type(g._values()._value()) is Symbol:
                self.grads.append((who, "rows", (len(outputs), tuple(g.shape), g.is_coalesced())))
                outputs += [part._value().value for part in (g._indices(), g._values())]
            elif isinstance(g, SparseTensor):
                self.grads.append((who, "set", g))
            elif id(g) in args and self.state.carries(t, "_grad", g):
                pass
            elif (
                g is None
                or type(g._value()) is not Symbol
                or (id(g) in captured_ids and id(g) not in args)
            ):
                self.grads.append((who, "set", g))
            else:
                self.grads.append((who, "output", len(outputs)))
                outputs.append(g._value().value)
        # Overwritten captured tensors and arguments.
        self.written: list[tuple[int, Any]] = []
        donate: dict[int, int] = {}
        position = {v: i for i, v in enumerate(graph.inputs)}
        for c in trace.captured:
            if c.written:
                donate[len(outputs)] = position[c.symbol.value]
                outputs.append(c.result)
                k = args.get(id(c.tensor))
                who = c.tensor if k is None else k
                if id(c.tensor) in self.arg_grads:
                    who = ("grad", self.arg_grads[id(c.tensor)])
                self.written.append((len(outputs) - 1, who))
        graph.outputs = outputs
        self.backward, self.lost, self.sources = None, [], []
        if differentiable:
            self.backward, self.lost = differentiate(trace, differentiable, args)
            if self.backward is not None:
                outputs.extend(self.backward.residual_outputs(graph))
            if self.lost:
                self.sources = [args.get(id(t), t) for t in trace.grad_leaves()]
        by_input = {c.symbol.value: c for c in trace.captured}
        scalars = {v: getter for getter, v in trace.scalars}
        self.inputs = []
        for v in graph.inputs:
            if v in by_input:
                tensor = by_input[v].tensor
                k = args.get(id(tensor))
                source = ("captured", tensor) if k is None else ("arg", k)
                if id(tensor) in self.arg_grads:
                    source = ("arg_grad", self.arg_grads[id(tensor)])
            elif v in live:
                self.inputs.append(Input("live", live[v], v.aval, self.cells[v]))
                continue
            else:
                source = ("scalar", scalars[v])
            self.inputs.append(Input(*source, v.aval))
            if v in by_input:
                self.inputs[-1].requires = by_input[v].tape[2]
        self.donate = donate
        self.rebound = [r for r in trace.rebound.values() if id(r[2]) not in args]
        self.guards = list(trace.guards)
        self.graph = graph


def _as_outputs(
    leaves: list[Any],
    outputs: list[Value],
    differentiable: list[tuple[int, Tensor]],
    known: dict[int, int],
) -> list[Any]:
    """The leaves, with outputs of the program where there are tensors; `known`: id -> output."""
    found: list[Any] = []
    for leaf in leaves:
        if isinstance(leaf, Tensor):
            if id(leaf) in known and not leaf._weak:
                found.append(Output(known[id(leaf)]))
                continue
            known[id(leaf)] = len(outputs)
            if leaf._requires and modes.grad:
                differentiable.append((len(outputs), leaf))
            outputs.append(leaf._value().value)
            leaf = (NumberOutput if leaf._weak else Output)(len(outputs) - 1)
        found.append(leaf)
    return found


class Jit:
    """A function under `jit`. `captures` lists its variants; `recompiles` why each was made."""

    def __init__(
        self,
        function: Callable,
        static_argnums: Sequence[int] = (),
        static_argnames: Sequence[str] = (),
        fallback: bool = False,
        dynamic: Any = None,
        max_programs: int = MAX_PROGRAMS,
        autotune: bool | None = None,
    ):
        functools.update_wrapper(self, function, updated=())
        self.__name__ = getattr(function, "__name__", type(function).__name__)
        self.function = function
        self.static_argnums = set(static_argnums)
        self.static_argnames = set(static_argnames)
        self.fallback = fallback
        self.policy = Policy(function, dynamic)
        self.max_programs = max_programs
        self.autotune = autotune
        self.captures: dict[Any, list[Capture]] = {}
        # The variants used last, latest first: whose leaves are the arguments, and the others.
        self._recent: list[Capture] = []
        self._recent_trees: list[Capture] = []
        self.recompiles: list[str] = []
        self._clock, self._warned = 0, False
        self.varying = Varying()  # numbers of Python's state
        self._made_state = 0  # calls in a row that made state and ran eagerly
        self._live: set[int] = set()  # leaves that are numbers and vary
        self._static: set[int] = set()  # leaves whose value the function needs
        self._seen: dict[int, Any] = {}
        self._eager: set[Any] = set()
        self._lock = threading.RLock()

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    @property
    def latest(self) -> Capture | None:
        """The variant used last, if its arguments were leaves."""
        return self._recent[0] if self._recent else None

    def call_again(self, leaves: Sequence[Any]) -> Any:
        """A call that is like the last one but for its tensors; NO if it is not.

        For one thread at a time, outside of captures and vmap: `__call__` looks after these.
        """
        if self._recent and not self.varying.carried:
            return self._recent[0].run_again(leaves)
        return NO

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if modes.trace is not None or modes.vmap is not None:
            return self.function(*args, **kwargs)
        lock = self._lock
        lock.acquire()  # `with` would take twice as long
        try:
            if not kwargs and not self.varying.carried:
                for capture in self._recent:
                    result = capture.run_again(args)
                    if result is not NO:
                        return result
            leaves, treedef = self.flatten(args, kwargs)
            for capture in self._recent_trees:
                if capture.treedef == treedef:
                    result = capture.run_again(leaves)
                    if result is not NO:
                        return result
            return self._call(leaves, treedef, args, kwargs)
        finally:
            lock.release()

    def flatten(self, args: tuple, kwargs: dict) -> tuple[list[Any], pytree.TreeDef]:
        """The leaves of a call: of its arguments, and of what stands at places that are carried."""
        carried = self.varying.carried
        if carried:
            return pytree.flatten((args, kwargs, [place.now() for place in carried.values()]))
        return pytree.flatten((args, kwargs))

    def carry(self, found: Carries) -> None:
        """Other places are carried from now on: no program was made for these calls."""
        self.varying.carry(found)
        self.captures.clear()
        self._recent, self._recent_trees = [], []
        names = sorted({place.label for place in found.places})
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        why = f"{', '.join(names[:3])}{more}: the tensors there are another at each call"
        self.recompiles.append(why)
        log.info("%s: captured again: %s", self.__name__, why)

    def _call(self, leaves: list, treedef: Any, args: tuple, kwargs: dict) -> Any:
        key_parts: list[Any] = [
            treedef, modes.grad, modes.inference, dt.get_default_dtype(), modes.autocast,
        ]  # fmt: skip
        first: dict[int, int] = {}
        for k, leaf in enumerate(leaves):
            if isinstance(leaf, np.ndarray):
                leaves[k] = leaf = as_tensor(leaf)
            if isinstance(leaf, Tensor):
                payload = leaf._value()
                if type(payload) is not np.ndarray:
                    return self.function(*args, **kwargs)  # inside vmap
                if first.setdefault(id(leaf), k) != k:
                    key_parts.append(("same as", first[id(leaf)]))
                    continue
                has_grad = leaf._requires and leaf._grad is not None
                key_parts.append((payload.shape, payload.dtype, leaf._requires, has_grad))
            elif k in self._live and may_vary(leaf):
                key_parts.append(type(leaf))
            else:
                if may_vary(leaf) and k not in self._static:
                    if (
                        k in self._seen
                        and self._seen[k] != leaf
                        and not self._is_static(k, treedef)
                    ):
                        self._live.add(k)
                        key_parts.append(type(leaf))
                        continue
                    self._seen[k] = leaf
                key_parts.append(_hashable(leaf))
        key = tuple(key_parts)
        if key in self._eager:
            return self.function(*args, **kwargs)
        variants = self.captures.get(key)
        reason = None
        for capture in variants or ():
            reason = capture.accepts(leaves)
            if reason is None:
                if capture.has_overlaps(leaves):
                    return self.function(*args, **kwargs)
                self._next_time(capture, args)
                return capture.run(leaves)
        if self.policy.off:
            return self._capture(key, reason, leaves, treedef, args, kwargs)
        return self._call_dynamic(key, reason, leaves, treedef, args, kwargs)

    def _call_dynamic(
        self, key: Any, reason: str | None, leaves: list, treedef: Any, args: tuple, kwargs: dict
    ) -> Any:
        """A call at sizes for which there is no program of their own."""
        pattern = pattern_of(key)
        shapes = shapes_of(leaves, lambda x: isinstance(x, Tensor))
        axes = self.policy.choose(pattern, shapes, treedef, self._calls_of(pattern))
        sizes = None
        if axes:
            dynamic_key = ("dynamic", pattern)
            for capture in self.captures.get(dynamic_key, ()):
                assert capture.sizes is not None
                reason = capture.sizes.accepts(shapes) or capture.accepts(leaves)
                if reason is None:
                    if self.policy.automatic and self._is_frequent(capture, leaves):
                        why = f"{OFTEN} calls in a row at the same sizes: a program for them alone"
                        return self._capture(key, why, leaves, treedef, args, kwargs)
                    if capture.has_overlaps(leaves):
                        return self.function(*args, **kwargs)
                    self._next_time(capture, args)
                    return capture.run(leaves)
            sizes = Sizes(axes, shapes)
        try:
            return self._capture(key, reason, leaves, treedef, args, kwargs, sizes)
        except NotDynamic as needed:  # the function fails where sizes are no numbers, or anyway
            assert sizes is not None
            if needed.guard is None:
                self._refuse(pattern, list(axes), f"sizes cannot be dynamic: {needed.__cause__}")
            else:
                self._refuse(pattern, sizes.blamed(needed.guard), sizes.why_static(needed.guard))
            return self._call(leaves, treedef, args, kwargs)

    def _refuse(self, pattern: Any, axes: list[Axis], why: str) -> None:
        self.policy.refuse(pattern, axes)
        self.recompiles.append(why)
        log.info("%s: %s", self.__name__, why)

    def _calls_of(self, pattern: Any) -> int:
        """How often programs for calls of this pattern were called."""
        total = 0
        for key, variants in self.captures.items():
            if (key[1] if key[0] == "dynamic" else pattern_of(key)) == pattern:
                total += sum(c.calls for c in variants)
        return total

    def _is_frequent(self, capture: Capture, leaves: list) -> bool:
        assert capture.sizes is not None
        return capture.calls >= OFTEN and capture.sizes.of(leaves) == capture.at.sizes

    def _is_static(self, k: int, treedef: Any) -> bool:
        """Whether leaf k belongs to an argument declared static."""
        args_tree, kwargs_tree, *_ = treedef.children
        at = 0
        for i, child in enumerate(args_tree.children):
            if at <= k < at + child.num_leaves:
                return i in self.static_argnums
            at += child.num_leaves
        for name, child in zip(kwargs_tree.context or (), kwargs_tree.children):
            if at <= k < at + child.num_leaves:
                return name in self.static_argnames
            at += child.num_leaves
        return False

    def _capture(
        self,
        key: Any,
        reason: str | None,
        leaves: list,
        treedef: Any,
        args: tuple,
        kwargs: dict,
        sizes: Sizes | None = None,
    ) -> Any:
        reason = reason or difference(self.captures, key)
        if reason:
            self.recompiles.append(reason)
            log.info("%s: captured again: %s", self.__name__, reason)
        live = {k for k, leaf in enumerate(leaves) if k in self._live and may_vary(leaf)}
        before = modes.autotune
        try:
            self.varying.find(c for variants in self.captures.values() for c in variants)
            modes.autotune = before if self.autotune is None else self.autotune
            with uncollected():
                capture = Capture(self, leaves, treedef, live, sizes)
        except NotDynamic:
            raise
        except Carries as found:
            self.carry(found)
            return self._call(*self.flatten(args, kwargs), args, kwargs)
        except StateNeeded as error:
            self._made_state += 1
            if self._made_state < MANY or self.fallback:
                return self.function(*args, **kwargs)
            raise TraceError(error.message, hint=error.hint) from None
        except Exception as error:
            if sizes is not None and not isinstance(error, TooMany):
                raise NotDynamic(next(iter(sizes.space.exact_guards()), None)) from error
            if self.varying.live and not isinstance(
                error, TooMany
            ):  # perhaps the function needs the value of one of these
                self.varying.fix(getattr(error, "needed", frozenset()))
                return self._call(leaves, treedef, args, kwargs)
            if live:  # perhaps the function needs the number's value: keep it static from now on
                self._live -= live
                self._static |= live
                return self._call(leaves, treedef, args, kwargs)
            if self.fallback and isinstance(error, TraceError):
                warnings.warn(
                    f"jit: {self.__name__} runs eagerly: {error}", RuntimeWarning, stacklevel=4
                )
                self._eager.add(key)
                return self.function(*args, **kwargs)
            raise
        finally:
            modes.autotune = before
        pattern = pattern_of(key)
        for axes, why in capture.refused:
            self._refuse(pattern, axes, why)
        if capture.sizes is not None:
            key = ("dynamic", pattern)
        self.captures.setdefault(key, []).append(capture)
        self._bound_programs()
        if capture.has_overlaps(leaves):
            return self.function(*args, **kwargs)
        self._next_time(capture, args)
        return capture.run(leaves)

    def _bound_programs(self) -> None:
        """Forget the program used longest ago if there are too many."""
        every = [c for variants in self.captures.values() for c in variants]
        if len(every) <= self.max_programs:
            return
        if not self._warned:
            self._warned = True
            last = f", the last because {self.recompiles[-1]}" if self.recompiles else ""
            warnings.warn(
                f"jit: {self.__name__} needed more than {self.max_programs} programs{last}; the "
                "one used longest ago is forgotten",
                RuntimeWarning,
                stacklevel=6,
            )
        oldest = min(every[:-1], key=lambda c: c.used)
        for key, variants in list(self.captures.items()):
            variants[:] = [c for c in variants if c is not oldest]
            if not variants:
                del self.captures[key]
        self._recent = [c for c in self._recent if c is not oldest]
        self._recent_trees = [c for c in self._recent_trees if c is not oldest]

    def _next_time(self, capture: Capture, args: tuple) -> None:
        """Try `capture` first from now on."""
        self._clock += 1
        capture.used = self._clock
        self._made_state = 0
        leaves_only = all(isinstance(a, LEAVES) for a in args) and not self.varying.carried
        if leaves_only and len(args) == capture.treedef.num_leaves:
            self._recent = [capture, *(c for c in self._recent if c is not capture)][:RECENT]
        else:
            others = (c for c in self._recent_trees if c is not capture)
            self._recent_trees = [capture, *others][:RECENT]


def _hashable(x: Any) -> Any:
    try:
        hash(x)
    except TypeError:
        return ("object", id(x))
    return (type(x), x)


def jit(
    function: Callable | None = None,
    *,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    fallback: bool = False,
    dynamic: Any = None,
    max_programs: int = MAX_PROGRAMS,
    autotune: bool | None = None,
) -> Any:
    """Compile a function: captured at the first call, replayed as one native program after.

    static_argnums, static_argnames  arguments whose Python value specialises the program
    fallback                         run eagerly (with one warning) what cannot be captured
    dynamic                          sizes of arguments that one program serves: None, those that
                                     change between calls; False, none; True, all that the function
                                     does not need the number of; or {name: axis}, {name: (axes)},
                                     {name: {axis: size's name or Dim}}; docs/dynamic-shapes.md
    max_programs                     of the function, at most; the one used longest ago goes
    autotune                         measure schedules while compiling and keep the fastest on disk
                                     (None: as MONOGRAPH_AUTOTUNE says); docs/performance.md

    Numbers specialise the program at first; a number that changes between calls becomes an input,
    unless the function needs its value. Python code in the function runs only while capturing; what
    it reads and assigns of Python's state (attributes of modules and objects, globals, closures,
    lists, dicts) is looked at and assigned in each call: docs/transforms.md. Elements of outside
    tensors that it reads in Python (`int(self.pointer)`, `x[mask]`) are looked at, too: a program
    for each, up to 8.
    TraceError if the function needs an element's value to go on (and fallback is False).

    >>> @jit
    ... def f(x):
    ...     return (x * x).sum()
    >>> f(tensor([1.0, 2.0, 3.0]))
    tensor(14.)
    """
    nums = (static_argnums,) if isinstance(static_argnums, int) else tuple(static_argnums)
    names = (static_argnames,) if isinstance(static_argnames, str) else tuple(static_argnames)

    if not isinstance(max_programs, int) or max_programs < 1:
        raise ArgumentError(f"jit: max_programs must be 1 or more, got {max_programs!r}")

    def make(f: Callable) -> Jit:
        if not callable(f):
            raise ArgumentError(f"jit: needs a function, got {type(f).__name__}")
        return Jit(f, nums, names, fallback, dynamic, max_programs, autotune)

    return make if function is None else make(function)
