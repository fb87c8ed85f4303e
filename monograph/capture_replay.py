"""How a captured program is called: where its inputs come from, and where its results go.

`run` is the general way: it looks at everything and fills the program's slots. Most calls find all
that they do not receive where the call before found it: `run_again` checks just that, puts the
arguments' addresses into their slots and goes. What may have changed between two calls is listed
in tests/capture/test_replay.py. Read next: capture.py, runtime/program.py.
"""

from __future__ import annotations

import weakref
from bisect import bisect_left
from collections.abc import Sequence
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np

from .api.sparse import SparseTensor
from .capture_gradient import Backward, LostGradient
from .capture_grads import Grads, array_maker, overlap, span_of
from .compiler.executable import Executable, compile_graph
from .core import dtype as dt
from .core.errors import GradError
from .core.modes import modes
from .core.pytree import LEAF, TreeDef, flatten
from .core.shape import is_number
from .core.sizes import Binding
from .core.symbolic import is_symbolic
from .core.tracing import Entry
from .dynamic import OFTEN, Sizes
from .ir.graph import Graph
from .ir.op import Aval
from .runtime.buffers import address_of
from .runtime.watch import Watch, can_watch
from .tensor import Tensor, wrap
from .transform.places import flatten as flatten_value
from .transform.state import State
from .transform.tally import add

QUIET = 3  # short calls that found all in place before it is watched (runtime/watch.py), ...
RESTLESS = 60  # ... and after a watch was in vain
NO = object()  # the answer of `run_again` where a call must go the general way


class Input:
    """Where one graph input comes from at each call."""

    __slots__ = ("kind", "source", "aval", "requires", "cell")

    def __init__(self, kind: str, source: Any, aval: Aval, cell: Any = None):
        self.kind = kind  # "arg", "arg_grad", "captured", "live" (a number given), "scalar"
        self.source = source  # leaf number, tensor, getter
        self.aval = aval
        self.requires = kind == "captured" and source._requires
        self.cell = np.empty((), aval.dtype.numpy) if kind == "scalar" else cell


class Output(int):
    """The number of an output, in a tree that is put into Python's state."""


class NumberOutput(int):
    """The same where the function has put a number of Python."""


class Replay:
    """A captured function as a program; capture.py fills in what was captured.

    inputs      an Input for each graph input
    returns     for each leaf of the result: ("new", output), ("same", tensor), ("arg", leaf),
                ("arg_grad", leaf), ("constant", value), ("size", a number made of sizes)
    grads       (tensor or leaf, "set", "output" or "rows", tensor or output): assigned to .grad;
                "rows": (first of two outputs, size, whether each row is there once)
    written     (output, tensor or leaf or ("grad", leaf)): overwritten in place
    donate      output -> input whose memory it is written into
    rebound     (dict, key, tensor): what modules hold, which the function replaces
    carried     (place, "value", "number", "tree" or "count", value, type or structure) and (list,
                "entries", leaves, structure): what is put into Python's state (transform/state.py)
    sizes       run-time sizes and where they come from, or None
    places      whose tensors are the last leaves (transform/varying.py)
    at, calls   the sizes it runs at, and how often it was called since it does
    lost        (output, why it has no gradient), and the `sources` that it would have had
    """

    owner: Any

    graph: Graph
    treedef: TreeDef
    out_tree: TreeDef
    inputs: list[Input]
    returns: list[tuple[str, Any]]
    new_outputs: int
    grads: list[tuple[Any, str, Any]]
    written: list[tuple[int, Any]]
    donate: dict[int, int]
    rebound: list[tuple[dict, str, Any]]
    guards: list[tuple[Any, Any, str]]
    state: State
    carried: list[tuple[Any, str, Any, Any]]
    places: list[Any]
    total = 0  # calls in all
    backward: Backward | None
    lost: list[tuple[int, GradError]]
    sizes: Sizes | None
    sources: list[Any]

    def compile(self) -> None:
        """Make the program, and what all calls share."""
        self.executable: Executable = compile_graph(self.graph, self.donate, self._steady())
        self.must_prepare = self.executable.must_prepare
        self.fixed = [self.inputs[i].source for i in self.executable.prepared_from]
        # When they were prepared from: (tensor, payload) of each, and (version, its content).
        self.prepared: list[tuple[Tensor, Any]] | None = None
        self.contents: list[tuple[Any, Any]] = []
        self.out_avals = [v.aval for v in self.graph.outputs]
        self.first_output = count = len(self.inputs)
        outs = len(self.out_avals)
        self.slots = np.zeros(count + outs + 1, np.int64)  # addresses of inputs and outputs
        self.slots_address = self.slots.ctypes.data
        self.arrays: list[Any] = [None] * (count + outs)  # what stands there
        self.captured = [(i, s) for i, s in enumerate(self.inputs) if s.kind == "captured"]
        self.numbers = [(i, s) for i, s in enumerate(self.inputs) if s.cell is not None]
        for i, s in self.numbers:
            self.slots[i], self.arrays[i] = address_of(s.cell), s.cell
        self.captured_ids = {id(s.source) for _, s in self.captured}
        self.written_captured = [w for _, w in self.written if isinstance(w, Tensor)]
        self.written_arguments = [w for _, w in self.written if not isinstance(w, Tensor)]
        grads = {v: who for who, what, v in self.grads if what == "output"}
        self.kept_grads = Grads(
            [
                (count + o, who, self.out_avals[o])
                for o, who in grads.items()
                if isinstance(who, Tensor)
            ]
        )
        kept = {slot - count for slot, _, _ in self.kept_grads.owners}
        self.fresh_avals = [
            (count + o, a)
            for o, a in enumerate(self.out_avals)
            if o not in self.donate and o not in kept
        ]
        self._take_sizes(self.executable.at)
        # Gradients that are taken from captured tensors, or put there as they are, and the others.
        self.set_grads = [
            (who, value)
            for who, what, value in self.grads
            if what == "set" and isinstance(who, Tensor)
        ]
        self.other_grads = [
            g for g in self.grads if not isinstance(g[0], Tensor) and g[1] != "rows"
        ]
        self.row_grads = [(who, *value) for who, what, value in self.grads if what == "rows"]
        # Which tensors are the same matters where gradients are put on arguments.
        self.are_distinct = any(isinstance(who, int) for who, _, _ in self.grads)
        self.can_repeat = all(s.kind != "arg_grad" for s in self.inputs)
        self.donated_arguments = [
            (count + o, i) for o, i in self.donate.items() if self.inputs[i].kind == "arg"
        ]
        # Inputs that calls overwrite and gradients of gradients need as they were.
        self.kept_inputs = [] if self.backward is None else self.backward.overwritten(self)
        self.all_new = self.returns == [("new", k) for k in range(self.new_outputs)]
        self.is_plain = (
            self.out_tree == LEAF
            and self.returns[0][0] == "new"
            and not (self.backward or self.lost or self.other_grads or self.carried)
        )
        # Whether a call does no more than give one new tensor.
        self.only_gives = (
            self.is_plain and not self.grads and not self.written and len(self.out_avals) == 1
        )
        self.scalars = [s for _, s in self.numbers if s.kind == "scalar"]
        self._group_guards()
        self.borrowed = [i for i, s in enumerate(self.inputs) if s.kind.startswith("arg")]
        self.borrowed += [slot for slot, *_ in self.fresh]
        self.borrowed += [count + o for o, i in self.donate.items() if i in self.borrowed]
        self.argument_slots = [i for i, s in enumerate(self.inputs) if s.kind == "arg"]
        self.steady = False
        self.watch: Watch | None = None  # of captured tensors and `kept_grads`
        self.quiet = 0  # short calls since the last change

    def _group_guards(self) -> None:
        """Guards for the short way: entries of the same dict are asked for together."""
        self.getters: list[tuple[Any, Any]] = []
        entries: dict[int, tuple[dict, dict]] = {}
        for get, value, _ in self.guards:
            if type(get) is Entry:
                values = entries.setdefault(id(get.entries), (get.entries, {}))[1]
                if values.setdefault(get.key, value) is value:
                    continue
            self.getters.append((get, value))
        for held, values in entries.values():
            if len(values) > 1:
                get = partial(itemgetter(*values), held)
                self.getters.append((get, tuple(values.values())))
            else:
                self.getters += [(Entry(held, key), value) for key, value in values.items()]

    def _take_sizes(self, at: Binding) -> None:
        """From now on the program runs at these sizes."""
        self.at = at
        self.calls = 0  # at these sizes
        self.executable = self.executable.bound(at)
        self.fresh = []
        for slot, a in self.fresh_avals:
            a = Aval(at.shape(a.shape), a.dtype)
            self.fresh.append((slot, a.shape, a.dtype.numpy, array_maker(a)))

    def _steady(self) -> list[int]:
        """Captured inputs that calls leave as they are and that nobody trains: what depends on them
        alone is computed again only when they have changed. A function of no arguments would do
        nothing at all: it is computed whole."""
        if not any(s.kind in ("arg", "live") for s in self.inputs):
            return []
        trained = self.backward is not None or any(what != "set" for _, what, _ in self.grads)
        written = set(self.donate.values())
        return [
            i
            for i, s in enumerate(self.inputs)
            if s.kind == "captured" and i not in written and not (trained and s.requires)
        ]

    def _prepare(self) -> None:
        """Compute what depends on the tensors in `fixed` alone, unless they stand as before."""
        prepared = self.prepared
        if prepared is not None:
            if self.steady:  # the same payloads and versions; what do these say?
                for version, content in self.contents:
                    if version != content:
                        break
                else:
                    return
            elif all(
                t._payload is payload and t._version is version and version == content
                for (t, payload), (version, content) in zip(prepared, self.contents)
            ):
                return
        self.prepared = None
        self.executable.prepare(self.slots_address, self.arrays)
        # Memory that others write to is never known to be as before.
        self.contents = [
            (t._version, list(t._version) if len(t._version) == 1 else None) for t in self.fixed
        ]
        self.prepared = [(t, t._payload) for t in self.fixed]

    # The general way

    def accepts(self, leaves: Sequence[Any]) -> str | None:
        """None if all guards hold for this call, else the one that does not."""
        for _, source in self.numbers:
            if source.kind == "live":
                source.cell[()] = leaves[source.source]
        for _, source in self.captured:
            tensor, aval = source.source, source.aval
            if tensor._requires is not source.requires:
                return f"requires_grad of a captured tensor changed from {source.requires}"
            if tensor.dtype is not aval.dtype or tuple(tensor.shape) != aval.shape:
                return (
                    f"a captured tensor changed from {aval!r} to "
                    f"{Aval(tuple(tensor.shape), tensor.dtype)!r}"
                )
        reason = self.state.look()
        if reason is not None:
            return reason
        for getter, value, what in self.guards:
            now = getter()
            if now is not value and now != value:
                return f"{what} changed from {value!r} to {now!r}"
        return None

    def takes_dtypes(self, leaves: Sequence[Any]) -> bool:
        """Whether arguments have the dtypes that the program was made for."""
        given = [(s.aval, leaves[s.source]) for s in self.inputs if s.kind == "arg"]
        return all(isinstance(x, Tensor) and x.dtype is aval.dtype for aval, x in given)

    def has_overlaps(self, leaves: Sequence[Any]) -> bool:
        """Whether something written may stand where another input does: the program, which
        takes them for different tensors, would read old or new elements by chance."""
        if not self.written:
            return False
        tensors = {id(t): t for t in leaves if isinstance(t, Tensor)}
        if not self.captured_ids.isdisjoint(tensors):
            return True
        arguments = [t._value() for t in tensors.values()]
        arguments += [t._grad._value() for t in tensors.values() if t._grad is not None]
        payloads = [*arguments, *(s.source._payload for _, s in self.captured)]
        if self.written_arguments:
            changed = payloads
        else:
            changed = [t._payload for t in self.written_captured]
        return overlap(payloads, {id(a) for a in changed})

    def run(self, leaves: Sequence[Any]) -> Any:
        """One call, after `accepts` and `has_overlaps` have said yes."""
        slots, arrays, count = self.slots, self.arrays, len(self.inputs)
        self.steady, self.watch, self.quiet = False, None, 0
        if self.sizes is not None:
            given = self.sizes.of(leaves)
            if given != self.at.sizes:
                self._take_sizes(Binding(self.sizes.space, given))
        copied_back: list[tuple[Any, Any]] = []
        for i, source in enumerate(self.inputs):
            kind = source.kind
            if kind == "captured":
                payload = source.source._payload
            elif kind == "arg":
                payload = leaves[source.source]._value()
            elif kind == "arg_grad":
                payload = leaves[source.source]._grad._value()
            else:
                source.cell[()] = source.source() if kind == "scalar" else leaves[source.source]
                continue
            if not payload.flags.c_contiguous:
                copy = np.ascontiguousarray(payload)
                copied_back.append((payload, copy))
                payload = copy
            arrays[i], slots[i] = payload, address_of(payload)
        for o, i in self.donate.items():
            arrays[count + o], slots[count + o] = arrays[i], slots[i]
        self.versions = [t._version for t in self.written_captured]
        steady = self.can_repeat and not copied_back and self._remember(leaves)
        result = self._run(leaves)
        for original, copy in copied_back:
            if any(copy is arrays[count + o] for o in self.donate):
                np.copyto(original, copy)
        self.steady = steady
        self._let_go()
        return result

    def _remember(self, leaves: Sequence[Any]) -> bool:
        """Note how everything stands; False if the next call must look at everything again."""
        if any(s.source._base is not None for _, s in self.captured):
            return False
        place = {s.source: i for i, s in enumerate(self.inputs) if s.kind in ("arg", "live")}
        facts: list[list[Any]] = []
        for k, leaf in enumerate(leaves):
            slot = place.get(k)
            if slot is None:
                if isinstance(leaf, Tensor):  # another argument again
                    return False
                facts.append([None, None, leaf, None, None, None])
            elif isinstance(leaf, Tensor):
                a = leaf._value()
                has_grad = leaf._requires and leaf._grad is not None
                facts.append([slot, a.shape, a.dtype, leaf._requires, has_grad, lambda: None])
            else:
                facts.append([slot, None, type(leaf), None, None, None])
        self.facts = facts
        self.mode = (modes.grad, modes.inference, dt.get_default_dtype(), modes.autocast)
        sources = [s.source for _, s in self.captured]
        self.stand = [(t, t._payload, t._requires) for t in sources]
        others = self.written_captured
        if self.written_arguments:
            others = sources
        spans = sorted(span_of(t._payload) for t in others if t._payload.size)
        self.starts, self.ends = [a for a, _ in spans], [b for _, b in spans]
        return True

    # The short way

    def run_again(self, leaves: Sequence[Any]) -> Any:
        """The call, if all that it does not receive stands as before; else NO: nothing is done."""
        if not self.steady or self.calls == OFTEN or len(leaves) != len(self.facts):
            return NO
        if self.watch is None:
            self.quiet += 1
            if self.quiet == QUIET and can_watch():
                self.watch = self._watched()
        if self._takes(leaves) and self._stands():
            result = self._run(leaves)
        else:
            result = NO
        self._let_go()
        return result

    def _watched(self) -> Watch:
        """All that must be as in the call before for nothing to be looked at in Python."""
        places = [(t, "_payload", payload) for t, payload, _ in self.stand]
        places += [(t, "_requires", requires) for t, _, requires in self.stand]
        return Watch(places + self.kept_grads.stand(), self.kept_grads.holders())

    def _takes(self, leaves: Sequence[Any]) -> bool:
        """Put the arguments into their places, if they are like those of the call before."""
        slots, arrays, starts = self.slots, self.arrays, self.starts
        if self.are_distinct and len(set(map(id, leaves))) < len(leaves):
            return False
        for leaf, fact in zip(leaves, self.facts):
            slot, shape, kind, requires, has_grad, last = fact
            if shape is None:
                if slot is None:  # a value that the program was made for
                    if leaf is not kind and (type(leaf) not in _PLAIN or not _equal(leaf, kind)):
                        return False
                elif type(leaf) is not kind or not may_vary(leaf):
                    return False
                else:
                    arrays[slot][()] = leaf
                continue
            if not isinstance(leaf, Tensor):
                return False
            array = leaf._payload if leaf._base is None else leaf._value()
            if leaf._requires is not requires or (
                requires and (leaf._grad is not None) is not has_grad
            ):
                return False
            if last() is array and len(leaf._version) == 1:
                arrays[slot] = array  # the same again, which nobody else could give another shape
                continue
            if (
                type(array) is not np.ndarray
                or array.shape != shape
                or array.dtype is not kind
                or not array.flags.c_contiguous
            ):
                return False
            slots[slot] = address = address_of(array)
            if starts:  # not where something is written, or what is read if this is written
                at = bisect_left(starts, address + array.nbytes)
                if at and self.ends[at - 1] > address:
                    return False
            arrays[slot] = array
            fact[5] = weakref.ref(array)
        return not self.written_arguments or self._takes_results()

    def _takes_results(self) -> bool:
        """Put results that overwrite arguments into their places; False if arguments overlap."""
        slots, arrays = self.slots, self.arrays
        reach = 0
        spans = [(slots[i], arrays[i].nbytes) for i in self.argument_slots]
        for start, size in sorted(spans):
            if size and start < reach:
                return False
            reach = max(reach, start + size)
        for slot, i in self.donated_arguments:
            slots[slot], arrays[slot] = slots[i], arrays[i]
        return True

    def _stands(self) -> bool:
        """Whether modes, captured tensors and guarded values are as in the call before."""
        grad, inference, default, autocast = self.mode
        if (
            modes.grad is not grad
            or modes.inference is not inference
            or dt.get_default_dtype() is not default
            or modes.autocast is not autocast
        ):
            return False
        if self.watch is not None and not self.watch.holds():
            self.watch, self.quiet = None, QUIET - RESTLESS
        if self.watch is None:
            for tensor, payload, requires in self.stand:  # one payload has one version, too
                if tensor._payload is not payload or tensor._requires is not requires:
                    return False
        if self.state.look() is not None:
            return False
        for getter, value in self.getters:
            now = getter()
            if now is not value and now != value:
                return False
        for source in self.scalars:
            source.cell[()] = source.source()
        return True

    # Both ways

    def _run(self, leaves: Sequence[Any]) -> Any:
        """Places for the results, the program, and what is to be done with the results."""
        self.calls += 1
        self.total += 1
        slots, arrays = self.slots, self.arrays
        for slot, shape, dtype, make in self.fresh:
            arrays[slot] = array = make(shape, dtype)
            slots[slot] = address_of(array)
        if self.only_gives:
            if self.must_prepare:
                self._prepare()
            self.executable.run_at(self.slots_address, arrays)
            return wrap(arrays[-1])
        renewed: Sequence[int] = ()
        if self.watch is None:
            renewed = self.kept_grads.taken()
            if renewed:
                self.kept_grads.renew(renewed, slots, arrays)
        if self.must_prepare:
            self._prepare()
        kept = None
        if self.kept_inputs and modes.grad:
            kept = {i: arrays[i].copy() for i in self.kept_inputs}
        self.executable.run_at(self.slots_address, arrays)
        for version in self.versions:
            version[0] += 1
        if renewed:
            self.kept_grads.give(renewed)
        if self.written_arguments or not self.steady:
            self._note_writes(leaves)
        for tensor, value in self.set_grads:
            tensor._grad = value
        for who, o, size, coalesced in self.row_grads:
            at, held = (wrap(a) for a in arrays[len(self.inputs) + o :][:2])
            owner = who if isinstance(who, Tensor) else leaves[who]
            owner._grad = SparseTensor(at, held, size, coalesced)
        if self.is_plain:
            return wrap(arrays[self.first_output])
        made = arrays[len(self.inputs) :]
        stood = [(place, place.now()) for place in (*self.state.varying, *self.places)]
        for who, what, value in self.other_grads:
            leaves[who]._grad = value if what == "set" else wrap(made[value])
        outputs = [wrap(a) for a in made[: self.new_outputs]]
        if self.backward is not None and modes.grad:
            self.backward.attach(self, leaves, outputs, made, kept or {}, stood)
        if self.lost and modes.grad:
            for o, error in self.lost:
                sources = [leaves[s] if isinstance(s, int) else s for s in self.sources]
                outputs[o]._node = LostGradient(self.owner.__name__, error, sources)
                outputs[o]._index, outputs[o]._requires = 0, True
        if self.carried:
            self._carry(outputs)
        if self.all_new:
            return self.out_tree.build(iter(outputs))
        results = []
        for what, value in self.returns:
            if what == "new":
                results.append(outputs[value])
            elif what == "arg":
                results.append(leaves[value])
            elif what == "arg_grad":
                results.append(leaves[value]._grad)
            elif what == "size":
                results.append(self.at(value))
            else:
                results.append(value)
        return self.out_tree.build(iter(results))

    def _carry(self, outputs: list[Tensor]) -> None:
        """Put into Python's state what the function has put there."""
        for place, what, value, more in self.carried:
            if what == "count":
                add(place, value)
                continue
            if what == "number":
                value = more(outputs[value].item())
            elif what == "value":
                value = self._carried_leaf(value, outputs)
            else:
                value = more.unflatten([self._carried_leaf(x, outputs) for x in value])
            if what == "entries":
                place.extend(value)
            else:
                place.put_now(value)

    def results_of(self, result: Any) -> dict[int, Tensor]:
        """The outputs by number, where the plain function has returned `result` and has put its
        tensors into Python's state."""
        leaves = zip(self.returns, flatten(result)[0])
        found = {value: x for (what, value), x in leaves if what == "new"}
        for place, what, value, more in self.carried:
            held: list[Any] = []
            if what == "tree":
                flatten_value(place.now(), held)
            elif what == "entries":
                flatten_value(place[-len(more.children) :], held)
            else:
                continue
            found |= {int(o): x for o, x in zip(value, held) if type(o) is Output}
        return found

    def _carried_leaf(self, x: Any, outputs: list[Tensor]) -> Any:
        if type(x) is Output:
            return outputs[x]
        if type(x) is NumberOutput:
            return outputs[x].item()
        return self.at(x) if is_symbolic(x) else x

    def _note_writes(self, leaves: Sequence[Any]) -> None:
        """New versions for arguments that were overwritten; views follow what was."""
        arguments = [
            leaves[who[1]]._grad if isinstance(who, tuple) else leaves[who]
            for who in self.written_arguments
        ]
        for tensor in arguments:
            tensor._version[0] += 1
        for tensor in (*self.written_captured, *arguments):
            if tensor._base is not None:
                tensor._refresh()

    def _let_go(self) -> None:
        """Hold neither arguments nor results until the next call."""
        arrays = self.arrays
        for slot in self.borrowed:
            arrays[slot] = None


def may_vary(x: Any) -> bool:
    """Whether x is a number that can become an input (a bool chooses, so it is static)."""
    if isinstance(x, int) and not -(2**63) <= x < 2**63:
        return False
    return is_number(x) and not isinstance(x, (bool, np.bool_))


_PLAIN = (int, float, bool, str)  # values that are compared; others must be the same object


def _equal(x: Any, y: Any) -> bool:
    return type(x) is type(y) and x == y
