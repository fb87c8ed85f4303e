"""Loops and branches as parts of a native program.

Two graph passes: `inline_scans` resolves loops of one iteration, and `prune_control` takes out of
bodies what nobody reads, what is the same in every iteration, and what need not be stacked.
`ControlStep` is a step of a program that runs other programs: the body is compiled once by the
ordinary pipeline, and the driver (runtime/driver.py) runs it over and over with other addresses.
Each iteration reads the next slices of the xs and writes those of the ys where they stand; carries
go back and forth between two places.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.sizes import Binding
from ..ir.graph import Graph, Node, Value
from ..ir.op import Full
from ..ir.region import Region, regions_of
from ..ops.movement import Copy, Expand, Reshape
from ..runtime.program import Control, Slot
from ..transform.control import Cond, Scan, While, WhileCotangent
from ..transform.region import copy_node
from .locate import whole_input
from .simplify import remove_dead
from .steps import Scratch

FOREVER = 1 << 62


# The graph passes


def inline_scans(graph: Graph) -> Graph:
    """Put the bodies of loops of one iteration in their place.

    Before:  graph(%0: f32[2], %1: f32[], %2: f32[1, 2]) {
               %3: f32[], %4: f32[1] = scan(%0, %1, %2) body=@0 length=1 consts=1 carries=1
               return %3, %4
             }
             @0 = graph(%0: f32[2], %1: f32[], %2: f32[2]) {
               %3: f32[2] = mul(%0, %2)
               %4: f32[] = sum(%3) axes=(0,)
               %5: f32[] = add(%1, %4)
               return %5, %4
             }
    After:   graph(%0: f32[2], %1: f32[], %2: f32[1, 2])
             %3: f32[2] = reshape(%2) shape=(2,)
             %4: f32[2] = mul(%0, %3)
             %5: f32[] = sum(%4) axes=(0,)
             %6: f32[] = add(%1, %5)
             %7: f32[1] = reshape(%5) shape=(1,)
             return %6, %7
    """
    if not any(isinstance(n.op, Scan) and n.op.length == 1 for n in graph.nodes):
        return graph
    result = graph.copy([])
    env: dict[Value, Any] = {v: v for v in (*graph.inputs, *graph.constants)}
    for node in graph.nodes:
        op: Any = node.op
        if not isinstance(op, Scan) or op.length != 1:
            copy_node(result, node, env)
            continue
        body = inline_scans(op.body.graph)
        inside: dict[Value, Any] = {}
        for i, (mine, v) in enumerate(zip(body.inputs, node.inputs)):
            is_slice = i >= op.consts + op.carries
            inside[mine] = result.add(Reshape(mine.shape), env[v]) if is_slice else env[v]
        for v, array in body.constants.items():
            inside[v] = result.constant(array, v.aval)
        for n in body.nodes:
            copy_node(result, n, inside)
        for k, (mine, v) in enumerate(zip(body.outputs, node.outputs)):
            made = inside[mine]
            env[v] = made if k < op.carries else result.add(Reshape(v.shape), made)
    result.outputs = [env[v] for v in graph.outputs]
    return result


def prune_control(graph: Graph) -> Graph:
    """Take what is dead or constant out of the bodies of loops and branches.

    Before:  graph(%0: f32[], %1: f32[], %2: f32[5]) {
               %3: f32[], %4: f32[5] = scan(%0, %1, %2) body=@0 length=5 consts=1 carries=1
               return %4
             }
             @0 = graph(%0: f32[], %1: f32[], %2: f32[]) {
               %3: f32[] = exp(%0)
               %4: f32[] = add(%1, %3)
               %5: f32[] = mul(%4, %2)
               return %4, %5
             }
    After:   graph(%0: f32[], %1: f32[], %2: f32[5]) {
               %3: f32[] = exp(%0)
               %4: f32[], %5: f32[5] = scan(%3, %1, %2) body=@0 length=5 consts=1 carries=1
               return %5
             }
             @0 = graph(%0: f32[], %1: f32[], %2: f32[]) {
               %3: f32[] = add(%1, %0)
               %4: f32[] = mul(%3, %2)
               return %3, %4
             }
    Results, carries and operands that nobody needs go; values that are the same in each iteration
    are computed before the loop; xs that repeat one value become constants.
    """
    if not any(regions_of(n.op) for n in graph.nodes):
        return graph
    live = set(graph.outputs)
    plans: dict[Node, Any] = {}
    for node in reversed(graph.nodes):
        if not any(v in live for v in node.outputs):
            continue
        plan = None
        if isinstance(node.op, Scan):
            plan = plans[node] = _live_scan(node, [v in live for v in node.outputs])
        elif isinstance(node.op, Cond):
            plan = plans[node] = _live_cond(node, [v in live for v in node.outputs])
        elif isinstance(node.op, WhileCotangent):
            node.op.reference()  # says why there is no gradient
        reads = node.values if plan is None else [node.inputs[i] for i in plan.operands]
        live.update(v for v in reads if isinstance(v, Value))
    result = Graph()
    result.inputs = list(graph.inputs)
    result.constants = dict(graph.constants)
    env: dict[Value, Any] = {v: v for v in (*graph.inputs, *graph.constants)}
    for node in graph.nodes:
        if not any(v in live for v in node.outputs):
            continue
        if node not in plans:
            copy_node(result, node, env)
        elif isinstance(node.op, Scan):
            _rebuild_scan(result, node, plans[node], env)
        else:
            _rebuild_cond(result, node, plans[node], env)
    result.outputs = [env[v] for v in graph.outputs]
    return result


@dataclass
class _Live:
    """Positions of operands and results that are needed."""

    operands: list[int]
    outputs: list[int]


def _values_below(graph: Graph, outputs: Sequence[Value]) -> set[Value]:
    found = set(outputs)
    for node in reversed(graph.nodes):
        if any(v in found for v in node.outputs):
            found.update(node.values)
    return found


def _live_scan(node: Node, wanted: list[bool]) -> _Live:
    op: Any = node.op
    graph = op.body.graph
    inputs, outputs = graph.inputs, graph.outputs
    needed = [k for k, w in enumerate(wanted) if w]
    while True:  # a carry that a needed value reads is needed itself
        below = _values_below(graph, [outputs[k] for k in needed])
        more = [c for c in range(op.carries) if inputs[op.consts + c] in below and c not in needed]
        if not more:
            break
        needed += more
    operands = [
        i
        for i, v in enumerate(inputs)
        if (i - op.consts in needed if op.consts <= i < op.consts + op.carries else v in below)
    ]
    return _Live(operands, sorted(needed))


def _live_cond(node: Node, wanted: list[bool]) -> _Live:
    op: Any = node.op
    needed = [k for k, w in enumerate(wanted) if w]
    read: set[int] = set()
    for region in (op.true, op.false):
        below = _values_below(region.graph, [region.graph.outputs[k] for k in needed])
        read.update(i for i, v in enumerate(region.graph.inputs) if v in below)
    return _Live([0, *(i + 1 for i in sorted(read))], needed)


def _rebuild_cond(result: Graph, node: Node, plan: _Live, env: dict[Value, Any]) -> None:
    op: Any = node.op
    regions = []
    for region in (op.true, op.false):
        graph = region.graph.copy()
        graph.inputs = [graph.inputs[i - 1] for i in plan.operands[1:]]
        graph.outputs = [graph.outputs[k] for k in plan.outputs]
        graph = remove_dead(graph)
        regions.append(Region(graph))
    made = result.add(
        Cond(*regions), *(env[node.inputs[i]] for i in plan.operands), place=node.place
    )
    made = made if isinstance(made, tuple) else (made,)
    env.update(zip((node.outputs[k] for k in plan.outputs), made))


def _rebuild_scan(result: Graph, node: Node, plan: _Live, env: dict[Value, Any]) -> None:
    op: Any = node.op
    old = op.body.graph
    fixed = op.consts + op.carries
    body = Graph()
    body.constants = dict(old.constants)
    inside: dict[Value, Any] = {v: v for v in old.constants}
    consts: list[tuple[Value, Value]] = []  # (inside, outside)
    carries: list[tuple[int, Value]] = []
    xs: list[tuple[Value, Value]] = []

    def constant(outside: Value) -> Value:
        for mine, other in consts:
            if other is outside:
                return mine
        consts.append((Value(outside.aval), outside))
        return consts[-1][0]

    for i in plan.operands:
        mine, outside = old.inputs[i], env[node.inputs[i]]
        if i < op.consts:
            inside[mine] = constant(outside)
        elif i < fixed:
            c = i - op.consts
            if old.outputs[c] is mine:  # never changes
                inside[mine] = constant(outside)
                env[node.outputs[c]] = outside
            else:
                inside[mine] = Value(mine.aval)
                carries.append((c, inside[mine]))
        else:
            repeated = _repeated(result, outside)
            if repeated is None:
                inside[mine] = Value(mine.aval)
                xs.append((inside[mine], outside))
            elif isinstance(repeated, Full):
                inside[mine] = body.add(repeated)
            else:
                inside[mine] = constant(repeated)
    outputs = [k for k in plan.outputs if k >= op.carries or k in [c for c, _ in carries]]
    needed = old.copy()
    needed.outputs = [old.outputs[k] for k in outputs]
    nodes = remove_dead(needed).nodes
    # What depends on constants alone is computed once, outside.
    steady = {v: outside for v, outside in consts}
    hoisted: set[Node] = set()
    invariant = {m for m, v in inside.items() if v in steady}
    for n in nodes:
        if n.values and all(v in invariant for v in n.values) or _is_source(n):
            invariant.update(n.outputs)
            if n.op.kind in ("contraction", "opaque", "elementwise", "reduction") and n.values:
                hoisted.add(n)
    outer: dict[Value, Any] = {m: steady[v] for m, v in inside.items() if v in steady}

    def outside_of(v: Value) -> Value:
        if v not in outer:
            assert v.node is not None
            for u in v.node.values:
                outside_of(u)
            copy_node(result, v.node, outer)
        return outer[v]

    def inside_of(v: Value) -> None:
        if v not in inside:
            assert v.node is not None and v.node in hoisted
            inside[v] = constant(outside_of(v))

    for n in nodes:
        if n not in hoisted:
            for v in n.values:
                inside_of(v)
            copy_node(body, n, inside)
    for k in outputs:
        inside_of(old.outputs[k])
    kept = [c for c, _ in carries]
    ys = [k for k in outputs if k >= op.carries]
    read = {inside[old.outputs[k]] for k in (*kept, *ys)}.union(*(n.values for n in body.nodes))
    consts = [pair for pair in consts if pair[0] in read]
    body.inputs = [v for v, _ in consts] + [v for _, v in carries] + [v for v, _ in xs]
    body.outputs = [inside[old.outputs[k]] for k in (*kept, *ys)]
    if not body.outputs:
        return
    operands = [v for _, v in consts] + [env[node.inputs[op.consts + c]] for c in kept]
    operands += [v for _, v in xs]
    scan = Scan(Region(body), op.length, len(consts), len(carries), op.reverse)
    made = result.add(scan, *operands, place=node.place)
    made = made if isinstance(made, tuple) else (made,)
    env.update(zip((node.outputs[k] for k in (*kept, *ys)), made))


def _is_source(node: Node) -> bool:
    return node.op.kind == "source" and not node.inputs


def _repeated(graph: Graph, x: Value) -> Any:
    """What stands in every slice of x along its first axis: a value, or a Full; None: no one."""
    op: Any = None if x.node is None else x.node.op
    if isinstance(op, Full):
        return dataclasses.replace(op, shape=tuple(op.shape[1:]))
    if isinstance(op, Expand) and 0 in op.axes:
        base = x.node.inputs[0]  # type: ignore[union-attr]
        axes = tuple(a - 1 for a in op.axes if a)
        return graph.add(Expand(tuple(op.shape[1:]), axes), base) if axes else base
    return None


def separate_outputs(graph: Graph) -> Graph:
    """Give each output of a body a value of its own, which is no input.

    Before:  graph(%0: f32[2])
             %1: f32[2] = exp(%0)
             return %1, %1, %0
    After:   graph(%0: f32[2])
             %1: f32[2] = exp(%0)
             %2: f32[2] = copy(%1)
             %3: f32[2] = copy(%0)
             return %1, %2, %3
    """
    result = graph.copy()
    seen: set[Value] = set(graph.inputs) | set(graph.constants)
    for k, v in enumerate(graph.outputs):
        if v in seen:
            result.outputs[k] = result.add(Copy(), v)
        seen.add(v)
    return result


# The step


@dataclass(eq=False)
class ControlStep:
    """A loop or a branch within a program.

    bodies   compiled: one, or a Cond's two
    buffers  values and scratch memory that it reads and writes
    starts   per slot of a body: (position in buffers, bytes from there)
    updates  per slot: (slot whose address it takes next, bytes to go on)
    finals   (slot, position in buffers, bytes): where the last address of a slot must stand
    trips    how often at most; test: the slot of a bool that says whether to go on, or -1
    results  where a body's results are: carries first, then ys
    prologue  whether the body's prologue, what depends on the first operands alone, is run before
    """

    node: Node
    bodies: list[Any]
    buffers: list[Value | Scratch]
    starts: list[tuple[int, int]]
    updates: list[tuple[int, int]]
    finals: list[tuple[int, int, int]]
    trips: int
    test: int
    results: list[int]
    title: str
    prologue: bool = True

    @property
    def same(self) -> list[Any]:
        """What a loop reads whole in each iteration; other values of all else."""
        return self.buffers[: getattr(self.node.op, "consts", 0)] or [self]

    def apart(self) -> tuple[list[ControlStep], ControlStep]:
        """A step that runs the prologue alone, if there is one, and one that runs all but it."""
        if not self.is_native or self.bodies[0].prologue is None:
            return [], self
        consts = len(self.same)
        starts = [(i if i < consts else 0, 0) for i, _ in enumerate(self.starts)]
        once = dataclasses.replace(
            self, buffers=self.same, starts=starts, finals=[], trips=0, title=f"{self.title}_once"
        )
        return [once], dataclasses.replace(self, prologue=False)

    @property
    def nodes(self) -> list[Node]:
        return [self.node]

    @property
    def is_native(self) -> bool:
        return all(b.program is not None for b in self.bodies)

    @property
    def flops(self) -> int:
        """Of all iterations, where their number is known, else of one."""
        trips = self.trips if self.trips < FOREVER else 1
        return trips * max(sum(getattr(s, "flops", 0) for s in b.plan.steps) for b in self.bodies)

    def task(self, address: Callable[[Any], int | Slot], at: Binding) -> Control:
        """What the driver runs, for given sizes."""
        bodies = [b.bound(at) for b in self.bodies]
        return Control(
            [address(b) for b in self.buffers],
            [b.program for b in bodies],
            bodies[0].prologue if self.prologue else None,
            [(b, at(n)) for b, n in self.starts],
            [(s, at(n)) for s, n in self.updates],
            [(s, b, at(n)) for s, b, n in self.finals],
            at(self.trips),
            self.test,
        )

    def run(self, view: Callable[[Any], np.ndarray]) -> None:
        """In Python: for bodies with parts that NumPy computes. `view` gives a value's array."""
        op: Any = self.node.op
        args = [view(v) for v in self.node.inputs]
        outs = [view(v) for v in self.node.outputs]
        if isinstance(op, Cond):
            self.bodies[0 if args[0].item() else 1].run(args[1:], outs)
        elif isinstance(op, While):
            self._run_while(args[: op.consts], args[op.consts], args[op.consts + 1 :], outs)
        else:
            fixed = op.consts + op.carries
            self._run_scan(args[: op.consts], args[op.consts : fixed], args[fixed:], outs)

    def _run_while(self, consts: Any, pred: Any, carry: Any, outs: Any) -> None:
        while pred.item():
            made = [np.empty(v.shape, v.dtype.numpy) for v in self.bodies[0].source.outputs]
            self.bodies[0].run([*consts, *carry], made)
            pred, *carry = made
        for out, value in zip(outs, carry):
            np.copyto(out, value)

    def _run_scan(self, consts: Any, carry: Any, xs: Any, outs: Any) -> None:
        body, op, count = self.bodies[0], self.node.op, len(carry)
        order = range(self.trips)
        for t in reversed(order) if op.reverse else order:  # type: ignore[attr-defined]
            made = [np.empty(v.shape, v.dtype.numpy) for v in body.source.outputs]
            for out, k in zip(outs[count:], self.results[count:]):
                made[k] = out[t : t + 1].reshape(out.shape[1:])
            slices = [x[t : t + 1].reshape(x.shape[1:]) for x in xs]
            body.run([*consts, *carry, *slices], made)
            carry = [made[k] for k in self.results[:count]]
        for out, value in zip(outs, carry):
            np.copyto(out, value)


def lower_control(node: Node, compile_body: Callable[[Graph, int, int], Any]) -> ControlStep:
    """The step of a Scan, Cond or While. compile_body(graph, further slots, how many inputs stay
    the same) gives an Executable."""
    op = node.op
    if isinstance(op, Cond):
        return _lower_cond(node, op, compile_body)
    if isinstance(op, While):
        return _lower_while(node, op, compile_body)
    assert isinstance(op, Scan)
    return _lower_scan(node, op, compile_body)


def _bytes(v: Value) -> int:
    return v.aval.size * v.dtype.itemsize


def _spare(v: Value) -> Scratch:
    return Scratch(v.dtype.code, max(1, v.aval.size))


def _lower_cond(node: Node, op: Cond, compile_body: Callable) -> ControlStep:
    pred, *operands = map(whole_input, node.inputs)
    buffers: list[Any] = [*operands, *node.outputs, pred]
    count = len(buffers)
    bodies = [compile_body(r.graph, 1, 0) for r in (op.true, op.false)]
    still = [(i, 0) for i in range(count)]
    results = list(range(len(node.outputs)))
    return ControlStep(node, bodies, buffers, still, still, [], 0, count - 1, results, "cond")


def _lower_while(node: Node, op: While, compile_body: Callable) -> ControlStep:
    consts, count = op.consts, len(node.outputs)
    operands = [whole_input(v) for v in node.inputs]
    pred, carry = operands[consts], operands[consts + 1 :]
    # Slots of the body: consts, carries, next condition, next carries; then where the carries go
    # after that, and the condition.
    body = compile_body(op.body.graph, count + 1, consts)
    spares = [_spare(v) for v in node.outputs]
    buffers: list[Any] = [
        *operands[:consts], *carry, Scratch("bool", 64), *node.outputs, *spares, pred,
    ]  # fmt: skip
    starts = [(i, 0) for i in range(len(buffers))]
    ins, test = consts, consts + count
    outs, spare, last = test + 1, test + 1 + count, test + 1 + 2 * count
    updates = list(starts)
    finals = []
    for c, v in enumerate(node.outputs):
        updates[ins + c], updates[outs + c] = (outs + c, 0), (spare + c, 0)
        updates[spare + c] = (outs + c, 0)
        finals.append((ins + c, outs + c, _bytes(v)))
    updates[last] = (test, 0)
    results = [1 + c for c in range(count)]
    return ControlStep(
        node, [body], buffers, starts, updates, finals, FOREVER, last, results, "while_loop"
    )


def _lower_scan(node: Node, op: Scan, compile_body: Callable) -> ControlStep:
    consts, carries = op.consts, op.carries
    fixed = consts + carries
    operands = [whole_input(v) for v in node.inputs]
    xs = operands[fixed:]
    graph = op.body.graph.copy()
    # A carry that is also stacked stays where it is stacked; the others go to and fro.
    own: list[int] = []  # carries with results of their own
    stacked = graph.outputs[carries:]
    results: list[int] = []
    for c, v in enumerate(graph.outputs[:carries]):
        if v not in stacked:
            own.append(c)
    for c, v in enumerate(graph.outputs[:carries]):
        results.append(own.index(c) if c in own else len(own) + stacked.index(v))
    results += [len(own) + m for m in range(len(stacked))]
    graph.outputs = [graph.outputs[c] for c in own] + stacked
    body = compile_body(graph, len(own), consts)
    spares = [_spare(node.outputs[c]) for c in own]
    outputs = list(node.outputs)
    # Slots: consts, carries, xs, results of own carries, ys, spares.
    buffers: list[Any] = [
        *operands, *(outputs[c] for c in own), *outputs[carries:], *spares,
        *(outputs[c] for c in range(carries) if c not in own),
    ]  # fmt: skip
    count = len(node.inputs) + len(own) + len(stacked) + len(own)
    starts = [(i, 0) for i in range(count)]
    updates = list(starts)
    finals = []
    first = op.length - 1 if op.reverse else 0
    direction = -1 if op.reverse else 1
    at_ys = len(node.inputs) + len(own)
    rows = [(fixed + i, v) for i, v in enumerate(xs)]
    rows += [(at_ys + m, v) for m, v in enumerate(outputs[carries:])]
    for slot, v in rows:
        step = _bytes(v) // op.length
        starts[slot] = (slot, first * step)
        updates[slot] = (slot, direction * step)
    last = count
    for c in range(carries):
        out = len(node.inputs) + results[c]
        updates[consts + c] = (out, 0)
        if c not in own:
            finals.append((consts + c, last, _bytes(outputs[c])))
            last += 1
            continue
        spare = at_ys + len(stacked) + own.index(c)
        updates[out], updates[spare] = (spare, 0), (out, 0)
        if op.length % 2 == 0:  # so that the last iteration writes to the result itself
            starts[out], starts[spare] = starts[spare], starts[out]
        finals.append((consts + c, len(node.inputs) + own.index(c), _bytes(outputs[c])))
    return ControlStep(
        node, [body], buffers, starts, updates, finals, op.length, -1, results, "scan"
    )
