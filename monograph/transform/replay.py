"""Backward passes that are done again: what a walk of the tape did to arrays, kept and replayed.

A tape is read into a key: operations, shapes, constants, edges, which saved values are one array.
The second walk with a key is recorded, step by step, as it acts on arrays; from then on the steps
run without tensors, nodes or dispatch. A step is what the walk itself called (an operation's NumPy
meaning, a compiled program), so that results are the same to the bit, whether replayed or not.

With create_graph the results hang on one Replayed node. Its own gradient walks a copy of the tape
that was read (`Program.unroll`), which leaves the nodes that the replay left out; what the replay
computed stays at hand for the recording of that walk. Anything unusual is left to the tape: hooks,
anomaly mode, captures, vmap, values changed in place, nodes of other kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core import pytree
from ..core.modes import modes
from ..ir.op import Op
from ..ops.movement import Alias
from . import tape, walk
from .structure import Tape, position, read, reads
from .tape import Node, Saved

LIMIT = 512  # programs; sightings are forgotten when there are 8 times as many
TRIES = 3  # recordings of one key that may fail

# Nonzero while some thread records: `modes.steps`, of each thread.
recording = [0]

_programs: dict[tuple, Program] = {}
_seen: dict[int, int] = {}  # hash of a key -> how often it was seen

# Set by the API: run(f, args) with NumPy's warnings off; op on arrays; whether nothing watches;
# a tensor around a payload.
_quietly: list[Callable] = []
_run: list[Callable] = []
_usable: list[Callable[[], bool]] = []
_wrap: list[Callable[[Any], Any]] = []


class Recorder:
    """The steps of a walk, as they are done."""

    def __init__(self, me: Tape):
        self.slot: dict[int, int] = {}
        self.alive: list[Any] = []  # whose ids are in use
        self.ok = True
        self.steps: list[tuple] = []
        self.trace: list[tuple] = []  # (what, slots of the results) of every action
        self.following: Any = None  # (program, its first slot here, next action), in a Replayed
        self.mids: dict[int, int] = {}  # id of a Replayed -> where its slots begin
        for k, a in enumerate(me.arrays):
            self.slot.setdefault(id(a), k)
        self.count = len(me.arrays)
        for n in me.mids:
            self.mids[id(n)] = self.count
            self.count += len(n.slots) - n.op.arrays
        self.made: set[int] = set()  # slots that this program makes itself

    def op(self, op: Op, args: Sequence[Any], result: Any, expected: Any) -> None:
        """Note that `op` was run on args (arrays and numbers); expected: see _step_of."""
        outs = result if type(result) is list else [result]
        self._action(op, args, outs, lambda: _step_of(op, args, expected), type(result) is list)

    def call(self, what: Any, f: Callable, arrays: Sequence[Any], results: Sequence[Any]) -> None:
        """Note that f(*arrays) was run and gave a list of results; `what` names it."""
        self._action(what, arrays, results, lambda: f, True)

    def _action(
        self, what: Any, args: Sequence[Any], results: Sequence[Any], step: Callable, several: bool
    ) -> None:
        if not self.ok:
            return
        if self.following is not None:
            program, first, k = self.following
            if k >= len(program.trace) or program.trace[k][0] != what:
                self.ok = False
                return
            self.following = program, first, k + 1
            slots = [s - program.arrays + first for s in program.trace[k][1]]
            for r, s in zip(results, slots):
                self.slot[id(r)] = s
            self.alive.extend(results)
            self.trace.append((what, slots))
            return
        places = []
        for a in args:
            if type(a) is np.ndarray:
                k = self.slot.get(id(a))
                if k is None:
                    self.ok = False  # an array from elsewhere
                    return
                places.append(k)
        slots = list(range(self.count, self.count + len(results)))
        self.count += len(results)
        for r, s in zip(results, slots):
            self.slot[id(r)] = s
        self.made.update(slots)
        self.alive.extend(results)
        self.steps.append((step(), places, several))
        self.trace.append((what, slots))

    def follow(self, node: Replayed) -> bool:
        """Take what comes next, the actions of node.op, from what the node has kept."""
        first = self.mids.get(id(node))
        if first is None or self.following is not None:
            return False
        self.following = node.op, first, 0
        return True

    def followed(self) -> None:
        program, _, k = self.following
        self.following = None
        self.ok = self.ok and k == len(program.trace)


def _step_of(op: Op, args: Sequence[Any], expected: Any) -> Callable:
    """A function of the arrays among args that does what `run` did.

    expected: dtypes that results are made to have, () if they have them, None: run itself.
    """
    if expected is None:  # compiled
        run = _run[0]
        if all(type(a) is np.ndarray for a in args):
            return lambda *arrays: run(op, list(arrays))
        return _with_numbers(lambda *given: run(op, list(given)), args)
    f = op.reference
    if not all(type(a) is np.ndarray for a in args):
        f = _with_numbers(f, args)
    if type(expected) is tuple:
        if not expected:
            return f
        return lambda *arrays: [np.asarray(r, d) for r, d in zip(f(*arrays), expected)]
    asarray = np.asarray
    return lambda *arrays: asarray(f(*arrays), expected)


def _with_numbers(f: Callable, args: Sequence[Any]) -> Callable:
    given = [None if type(a) is np.ndarray else a for a in args]
    if len(given) == 2:
        x, y = given
        return (lambda a: f(a, y)) if x is None else (lambda a: f(x, a))
    holes = [i for i, a in enumerate(args) if type(a) is np.ndarray]

    def call(*arrays: Any) -> Any:
        full = given[:]
        for i, a in zip(holes, arrays):
            full[i] = a
        return f(*full)

    return call


class Program:
    """A recorded walk."""

    fresh_cotangents = True  # this stands where an op does (Node.op)
    has_long_vjp = False
    name = "gradient"

    def __init__(
        self, me: Tape, inputs: Sequence[Any] | None, roots: Sequence[Any], linked: bool, since: int
    ):
        self.linked = linked
        self.arrays, self.seeds = len(me.arrays), me.seeds
        self.all_leaves = inputs is None
        self.roots = [(me.index[id(r._node)], r._index) for r in roots]
        self.wanted = [position(me, t) for t in inputs or ()]
        needed: Callable[[Any], bool] = walk.requires
        if inputs is not None:
            ids = {id(tape.edge_of(t)[0]) for t in inputs}
            needed = walk.leads_to([r._node for r in roots], ids, since)
        self.pulled = [
            i
            for i, n in enumerate(me.nodes)
            if any(e is not None and needed(e[0]) for e in n.edges)
        ]
        self.live = [walk.is_live(t) for t in me.leaves]
        self.template = [_template(n, me, linked) for n in me.nodes]
        order = sorted(range(len(me.nodes)), key=lambda i: me.nodes[i].seq)
        self.order = order  # of `template`, the oldest first
        self.steps: list[tuple] = []
        self.trace: list[tuple] = []
        self.collected: list[tuple[int, int]] = []  # (position among inputs, slot)
        # (leaf's number, slot, is fresh); of a gradient of rows its structure and parts' slots
        self.leaves: list[tuple[int, Any, bool]] = []
        self.results: list[int] = []  # slots of what is on the tape

    def finish(self, recorder: Recorder, collected: dict, leaves: dict, me: Tape) -> bool:
        """Take what was recorded; False where it cannot be replayed."""
        if not recorder.ok:
            return False
        self.take(recorder)
        for k, g in collected.items():
            slot = self._slot(g, recorder, me)
            if slot is None:
                return False
            self.collected.append((k, slot))
        for i, (_, g, fresh) in leaves.items():
            parts, spec = pytree.flatten(g)
            found = [self._slot(p, recorder, me) for p in parts]
            if None in found:
                return False
            own = fresh and recorder.made.issuperset(found)
            place = found[0] if parts[0] is g else (spec, found)
            self.leaves.append((me.index[i], place, own))
        return True

    def take(self, recorder: Recorder) -> None:
        """The steps of a recording, for `run`."""
        self.trace, self.steps = recorder.trace, []
        for f, places, several in recorder.steps:
            i, j = (*places, -1, -1)[:2]
            self.steps.append((f, i, j, places if several or len(places) > 2 else None, several))

    def _slot(self, g: Any, recorder: Recorder, me: Tape) -> int | None:
        """Where a result stands; None where a replay could not give the like of it."""
        payload = getattr(g, "_payload", None)
        slot = recorder.slot.get(id(payload))
        if slot is None or g._value() is not payload:
            return None
        if g._requires:
            if slot < self.arrays and not self._is_given(slot, g, me):
                return None
            if slot >= self.arrays and slot not in self.results:
                self.results.append(slot)
        return slot

    def _is_given(self, slot: int, g: Any, me: Tape) -> bool:
        """Whether g is the tensor that was given, on its place of the tape."""
        other = _tensor_of(me.values[slot], self.linked)
        return other is not None and tape.edge_of(other) == tape.edge_of(g)

    def run(self, slots: list[Any]) -> None:
        """Append the results of all steps to what is given."""
        append = slots.append
        for f, i, j, places, several in self.steps:
            if several:
                slots.extend(f(*[slots[k] for k in places]))
            elif places is not None:
                append(f(*[slots[k] for k in places]))
            elif j >= 0:
                append(f(slots[i], slots[j]))
            elif i >= 0:
                append(f(slots[i]))
            else:
                append(f())

    def unroll(self, values: list[Any]) -> list[Any]:
        """The `results` as tensors on the tape, from tensors for the given arrays."""
        nodes: list[Any] = [None] * len(self.template)
        leaves: dict[int, Any] = {}

        def saved(x: Any) -> Any:
            if type(x) is not _Slot:
                return x
            t = values[x.index]
            return Saved(t, *tape.edge_of(t), True) if t._requires else Saved(t)

        def edge(e: Any) -> Any:
            if e is None:
                return None
            i, number = e
            if i >= 0:
                return nodes[i], number
            if i not in leaves:
                leaves[i] = _wrap[0](np.zeros(()))
                leaves[i]._requires = i < -1 and self.live[-2 - i]
            return leaves[i], number

        for i in self.order:
            kind, op, inputs, outs, edges, n_outputs = self.template[i]
            nodes[i] = made = kind.__new__(kind)
            made.op, made.n_outputs, made.seq = op, n_outputs, next(tape.sequence)
            made.place = made.hooks = made.recompute = None
            made.edges = tuple(edge(e) for e in edges)
            made.inputs = [saved(x) for x in inputs]
            made.outs = [saved(x) for x in outs]
            if kind is not Node:
                made.blank()
        wanted: dict[tuple[int, int], list[int]] = {}
        for k, (i, number) in enumerate(self.wanted):
            target = nodes[i] if i >= 0 else leaves.get(i)
            if target is not None:
                wanted.setdefault((id(target), number), []).append(k)
        roots = [(nodes[i], number) for i, number in self.roots]
        needed: Any = walk.requires
        if not self.all_leaves:
            needed = walk.leads_to([n for n, _ in roots], {k[0] for k in wanted}, -1)
        before = modes.grad, modes.autocast
        modes.grad, modes.autocast = True, None
        try:
            seeds = [values[k] for k in self.seeds]
            collected, found = walk.walk(roots, seeds, wanted, needed, True, self.linked)
        finally:
            modes.grad, modes.autocast = before
        by_number = {i: found[id(t)][1] for i, t in leaves.items() if id(t) in found}
        made = {}
        for place, slot in self.collected:
            g = collected.get(place)
            made[slot] = by_number[self.wanted[place][0]] if g is None else g
        made.update({slot: by_number[i] for i, slot, _ in self.leaves})
        return [made[slot] for slot in self.results]


class _Slot:
    """Stands for a saved value in a template: the index'th of the given."""

    __slots__ = ("index",)

    def __init__(self, index: int):
        self.index = index


def _template(n: Node, me: Tape, linked: bool) -> tuple:
    """A node without values: its class, op, inputs, outputs, edges, number of outputs."""

    def slot(x: Any, node: Any, index: int) -> Any:
        if type(x) is not Saved:
            return x
        if not (linked and x.requires_grad):
            return _Slot(me.slots[id(x.payload), 0, 0])
        return _Slot(me.slots[id(x.payload), id(node), index])

    edges: list[Any] = []
    for e in n.edges:
        if e is not None:
            e = me.index.get(id(e[0]), -1), e[1]
        edges.append(e)
    inputs = [
        slot(x, n if x.node is None else x.node, x.index) if type(x) is Saved else x
        for x in n.inputs
    ]
    outs = [slot(o, n, i) for i, o in enumerate(n.outs)] if type(n) is Node else []
    return type(n), n.op, inputs, outs, edges, n.n_outputs


def _tensor_of(value: Any, linked: bool) -> Any:
    """The tensor that was given for an array: a seed, or a saved value."""
    if type(value) is not tuple:
        return value
    saved, owner = value
    return saved.restore(owner, linked)


@reads
class Replayed(Node):
    """The tape's node for a replayed walk whose results are differentiated again."""

    __slots__ = ("slots", "versions")

    def __init__(self, program: Program, me: Tape, slots: list[Any]):
        self.op: Any = program
        self.seq = next(tape.sequence)
        self.place = self.hooks = self.recompute = None
        inputs: list[Any] = []
        edges: list[Any] = []
        for v in me.values:
            s, edge = v, None
            if type(v) is tuple:
                s, owner = v
                if program.linked and s.requires_grad:
                    if s.node is None:
                        s = s.made_by(owner)
                    edge = s.node, s.index
            elif v is not None:
                edge = tape.edge_of(v) if v._requires else None
                s = Saved(v) if edge is None else Saved(v, *edge, True)
            inputs.append(s)
            edges.append(edge)
        self.inputs, self.edges = inputs, tuple(edges)
        self.outs = []
        self.n_outputs = len(program.results)
        self.slots: Any = slots
        self.versions: list[tuple[list[int], int]] = []  # of results, in the memory of `slots`

    def blank(self) -> None:
        """Complete a node that Program.unroll made."""
        self.slots, self.versions = None, []

    def replayed(self, me: Tape, create_graph: bool) -> Sequence[np.ndarray]:
        """For `read`: note the intermediate results, if they are as they were."""
        slots = self.slots
        if (
            slots is not None
            and all(versions[0] == was for versions, was in self.versions)
            and all(s is None or s.payload is a for s, a in zip(self.inputs, slots))
        ):
            me.mids.append(self)
        return ()

    def pull(self, gs: list[Any], wanted: list[bool], linked: bool) -> list[Any]:
        if self.inputs is None:
            raise tape._used_twice(self)
        linked = linked and modes.grad
        given: list[Any] = []
        for s, edge in zip(self.inputs, self.edges):
            x = None if s is None else s.restore(self, linked)
            if edge is not None:  # under an identity of its own: one tensor may be several
                assert x is not None
                source, x = x, _wrap[0](x._value())
                x._requires = True
                if linked and source._requires:
                    x._node = Node(_alias, (source,), (x,))
            given.append(x)
        recorder = modes.steps
        followed = recorder is not None and recorder.follow(self)
        results = self.op.unroll(given)
        if followed:
            recorder.followed()
        pairs = [(r, g) for r, g in zip(results, gs) if g is not None]
        sources = [k for k, want in enumerate(wanted) if want]
        found = walk.run_backward(
            [r for r, _ in pairs], [g for _, g in pairs], [given[k] for k in sources],
            True, modes.grad, None, linked,
        )  # fmt: skip
        made: list[Any] = [None] * len(self.edges)
        for k, g in found.items():
            made[sources[k]] = g
        return made

    def release(self) -> None:
        self.inputs = self.outs = self.recompute = self.slots = None


_alias = Alias()


def attempt(
    roots: Sequence[Any], gradients: Sequence[Any], inputs: Sequence[Any] | None,
    retain_graph: bool, create_graph: bool, linked: bool, since: int,
    walk: Callable[[], tuple[dict, dict]],
) -> tuple[dict, dict] | None:  # fmt: skip
    """What `walk()` gives, the walk of this tape, by a program if there is one; None: walk it."""
    if (
        modes.trace is not None or modes.vmap is not None or modes.anomaly
        or modes.recorder is not None or modes.saved_hooks is not None or modes.as_of is not None
        or modes.steps is not None or not _usable[0]()
    ):  # fmt: skip
        return None
    targets = [t._node for t in inputs or ()]
    if targets and None not in targets:  # what is older leads to none of them
        since = max(since, min([n.seq for n in targets]))
    if any(r._node is None for r in roots):
        return None
    me = read(roots, gradients, inputs, create_graph, linked, since)
    if me is None:
        return None
    try:
        program = _programs.get(me.key)
    except TypeError:  # an op has a list among its fields
        return None
    if program is not None:
        return _replay(program, me, retain_graph)
    number = hash(me.key)
    seen = _seen[number] = _seen.get(number, 0) + 1
    if len(_seen) > 8 * LIMIT:
        _seen.clear()
    if seen == 1 or seen > 1 + TRIES:
        return None
    program = Program(me, inputs, roots, linked, since)
    recorder = modes.steps = Recorder(me)
    recording[0] += 1
    try:
        collected, leaves = walk()
    finally:
        recording[0] -= 1
        modes.steps = None
    if program.finish(recorder, collected, leaves, me):
        if len(_programs) >= LIMIT:
            _programs.clear()
        _programs[me.key] = program
    return collected, leaves


def _replay(program: Program, me: Tape, retain_graph: bool) -> tuple[dict, dict]:
    slots: list[Any] = [*me.arrays]
    for n in me.mids:
        slots.extend(n.slots[n.op.arrays :])
    _quietly[0](program.run, (slots,))
    node = Replayed(program, me, slots) if program.results else None
    numbers = {slot: i for i, slot in enumerate(program.results)}
    made: dict[int, Any] = {}

    def tensor(slot: int) -> Any:
        t = made.get(slot)
        if t is None and slot < program.arrays:
            t = made[slot] = _tensor_of(me.values[slot], program.linked)
        elif t is None:
            t = made[slot] = _wrap[0](slots[slot])
            if slot in numbers:
                t._node, t._index, t._requires = node, numbers[slot], True
            if node is not None:
                node.versions.append((t._version, t._version[0]))
        return t

    collected = {k: tensor(slot) for k, slot in program.collected}
    leaves = {}
    for i, slot, fresh in program.leaves:
        leaf = me.leaves[-2 - i]
        if type(slot) is int:
            g = tensor(slot)
        else:
            spec, parts = slot
            g = spec.unflatten([tensor(part) for part in parts])
        leaves[id(leaf)] = [leaf, g, fresh]
    if not retain_graph:
        for i in program.pulled:
            me.nodes[i].release()
    return collected, leaves


def install(quietly: Callable, run: Callable, usable: Callable[[], bool], wrap: Callable) -> None:
    """Tell how arrays are computed on, and replay backward passes from now on."""
    _quietly[:], _run[:], _usable[:], _wrap[:] = [quietly], [run], [usable], [wrap]
    walk.install_replay(attempt)
