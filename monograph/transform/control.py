"""Control flow as ops: Scan, Cond, While. Each holds a body (ir/region.py) as a parameter.

Their rules run the body once more on tensors: under a tape for derivatives, under vmap for batches
(region.py). The public functions, which capture bodies, are in api/control.py; the compiler makes a
native loop of them (compiler/control.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.errors import GradError, ShapeError
from ..core.modes import modes
from ..ir.graph import Graph, Value
from ..ir.op import Aval, Full, Opaque, op, zeros_of
from ..ir.region import Region
from ..ops.arith import Add
from ..ops.basic import Where
from ..ops.batching import batched
from ..ops.movement import Expand
from ..ops.reducers import Any_
from .postpone import Postponed
from .region import (
    batch_region,
    copy_node,
    floats,
    pull_region,
    pullback,
    push_region,
    region_of,
    replay,
    to_axis,
)
from .vmap import any_requires_grad


def aval_of(x: Any) -> Aval:
    return Aval(tuple(x.shape), x.dtype)


def _check(name: str, args: Sequence[Any], expected: Sequence[Aval]) -> None:
    given = [aval_of(a) for a in args]
    if given != list(expected):
        raise ShapeError(f"{name}: the body takes {list(expected)}, got {given}")


def _as_results(values: Sequence[Any]) -> Any:
    return values[0] if len(values) == 1 else tuple(values)


def _as_list(values: Any, count: int) -> list[Any]:
    return list(values) if count > 1 else [values]


@op
class Scan(Opaque):
    """Run `body` `length` times: (consts, carries, x[t]) -> (carries, y[t]).

    Inputs: consts, first carries, xs (length, ...). Outputs: last carries, ys (length, ...).
    reverse: from the last t to the first.
    """

    body: Region
    length: int
    consts: int
    carries: int
    reverse: bool = False
    takes_none = True
    holomorphic = False

    @property
    def n_outputs(self) -> int:  # type: ignore[override]
        return len(self.body.graph.outputs)

    def infer(self, *args: Any) -> Any:
        fixed = self.consts + self.carries
        expected = self.body.inputs
        stacked = [Aval((self.length, *a.shape), a.dtype) for a in expected[fixed:]]
        _check("scan", args, expected[:fixed] + stacked)
        outs = self.body.outputs
        ys = [Aval((self.length, *a.shape), a.dtype) for a in outs[self.carries :]]
        return _as_results(outs[: self.carries] + ys)

    def reference(self, *arrays: Any) -> Any:
        fixed = self.consts + self.carries
        consts, carry = list(arrays[: self.consts]), list(arrays[self.consts : fixed])
        ys = [
            np.empty((self.length, *a.shape), a.dtype.numpy)
            for a in self.body.outputs[self.carries :]
        ]
        order = range(self.length)
        for t in reversed(order) if self.reverse else order:
            made = self.body.evaluate(*consts, *carry, *(x[t] for x in arrays[fixed:]))
            carry = made[: self.carries]
            for y, value in zip(ys, made[self.carries :]):
                y[t] = value
        return _as_results([*(np.array(c) for c in carry), *ys])

    def vjp(self, g: Any, out: Any, *inputs: Any) -> tuple[Any, ...]:
        gs, outs = _as_list(g, self.n_outputs), _as_list(out, self.n_outputs)
        # The cotangent of a carry is zero after the last iteration only.
        live = tuple(k for k in floats(self.body.outputs) if k < self.carries or gs[k] is not None)
        key = ("backward", live, self.consts, self.carries)
        backward = self.body.derived.get(key)
        if backward is None:
            backward = _ScanBackward(self.body, live, self.consts, self.carries)
            self.body.derived[key] = backward
        return backward.run(self, gs, outs, inputs)

    def batch(self, dims: tuple, size: int, *args: Any) -> tuple[Any, Any]:
        fixed = self.consts + self.carries
        mapped = [d is not None for d in dims]
        while True:  # a carry differs along the batch if what it becomes does
            wanted = mapped[self.consts : fixed] + [False] * (self.n_outputs - self.carries)
            body, flags = batch_region(self.body, mapped, size, wanted)
            if flags[: self.carries] == mapped[self.consts : fixed]:
                break
            mapped[self.consts : fixed] = flags[: self.carries]
        values = []
        for i, (a, d, m) in enumerate(zip(args, dims, mapped)):
            axis = 0 if i < fixed else 1
            values.append(batched(a, d, size) if m and not axis else to_axis(a, d, axis))
        made = run_scan(
            body, self.length, self.consts, self.carries, self.reverse, values
        )  # fmt: skip
        places = [
            None if not f else 0 if k < self.carries else 1 for k, f in enumerate(flags)
        ]  # fmt: skip
        return (made[0], places[0]) if len(made) == 1 else (tuple(made), tuple(places))


def run_scan(
    body: Region, length: int, consts: int, carries: int, reverse: bool, args: Sequence[Any]
) -> list[Any]:
    """The outputs of Scan(body, ...)(*args); where a gradient may follow, with what it needs as
    further outputs, which are not returned."""
    count = len(body.graph.outputs)
    if modes.grad and any(a.dtype.is_inexact and any_requires_grad(a) for a in args):
        body = _extended(body, consts, carries, floats(body.outputs))
    made = Scan(body, length, consts, carries, reverse)(*args)
    return _as_list(made, len(body.graph.outputs))[:count]


def _extended(body: Region, consts: int, carries: int, live: tuple[int, ...]) -> Region:
    """The body that also gives out, as ys, what its derivative reads."""
    key = ("extended", live, consts, carries)
    if key not in body.derived:
        p = pullback(body, live, consts)
        graph = p.forward.copy()
        inputs, ys = p.forward.inputs, p.forward.outputs[carries:]
        at_hand = {*inputs[:consts], *inputs[consts + carries :], *ys}
        graph.outputs += [v for v in p.reads if v not in at_hand]
        body.derived[key] = Region(graph) if len(graph.outputs) > len(p.forward.outputs) else body
    return body.derived[key]


class _ScanBackward:
    """The gradient of a Scan: another one, in the other direction.

    Its carries are the cotangents of the carries, then sums of those of constants that cannot be
    left until after the loop (postpone.py). Its xs are what the forward kept, and cotangents of ys.
    """

    def __init__(self, body: Region, live: tuple[int, ...], consts: int, carries: int):
        self.forward, self.consts, self.carries = body, consts, carries
        self.p = p = pullback(body, live, consts)
        fixed = self.consts + self.carries
        inputs, outputs = p.forward.inputs, p.forward.outputs
        place = {v: ("input", i) for i, v in enumerate(inputs) if not self.consts <= i < fixed}
        for k in reversed(range(self.carries, len(outputs))):
            place.setdefault(outputs[k], ("output", k))
        self.missing = [v for v in p.reads if v not in place]
        for k, v in enumerate(self.missing):
            place[v] = ("output", len(outputs) + k)
        # What the loop reads: position in `inputs` or `outs` of the forward.
        self.sources = [place[v] for v in p.reads]
        self.build()

    def build(self) -> None:
        p, consts, carries = self.p, self.consts, self.carries
        graph = Graph()
        constant_reads = [
            k for k, s in enumerate(self.sources) if s[0] == "input" and s[1] < consts
        ]
        stacked_reads = [k for k in range(len(p.reads)) if k not in constant_reads]
        inputs: dict[int, Value] = {}
        for k in constant_reads:
            inputs[k] = graph.input(p.reads[k].aval)
        of_carry = [i for i in range(carries) if i in floats(self.forward.outputs)]
        states = {i: graph.input(self.forward.outputs[i]) for i in of_carry}
        for k in stacked_reads:
            inputs[k] = graph.input(p.reads[k].aval)
        seeds = {k: states[k] if k < carries else graph.input(self.forward.outputs[k])
                 for k in p.seeds}  # fmt: skip
        env: dict[Value, Any] = dict(
            zip(p.graph.inputs, [*(inputs[k] for k in range(len(p.reads))), *seeds.values()])
        )
        for node in p.graph.nodes:
            copy_node(graph, node, env)
        ends = dict(zip(p.wrt, (env[v] for v in p.graph.outputs)))
        states_after = []
        for i in of_carry:
            v = ends.get(consts + i)
            aval = states[i].aval
            states_after.append(graph.add(Full(aval.shape, aval.dtype, 0)) if v is None else v)
        self.xs = [i for i in p.wrt if i >= consts + carries]
        ys = [ends[i] for i in self.xs]
        self.constants = [i for i in p.wrt if i < consts]
        numbers = {v: k for k, v in inputs.items()}
        late = Postponed(
            {inputs[k] for k in constant_reads}, {*(inputs[k] for k in stacked_reads), *ys}
        )
        self.late = {i: late.add(ends[i]) for i in self.constants}
        for i in self.constants:  # what is stacked now may do for others
            self.late[i] = self.late[i] or late.add(ends[i])
        self.sums = [i for i in self.constants if self.late[i] is None]
        totals = [graph.input(ends[i].aval) for i in self.sums]
        for total, i in zip(totals, self.sums):
            states_after.append(graph.add(Add(), total, ends[i]))
        # Inputs in the order of a Scan: consts, carries, xs.
        stacked = [inputs[k] for k in stacked_reads] + [
            v for k, v in seeds.items() if k >= carries
        ]  # fmt: skip
        graph.inputs = [inputs[k] for k in constant_reads]
        graph.inputs += [*states.values(), *totals, *stacked]
        wanted = [v for v in late.stacked if v not in numbers]
        self.stacks: dict[Value, tuple[str, int]] = {}  # value -> ("read", k) or ("y", position)
        for v in wanted:
            if v not in ys:
                ys.append(v)
        for v in late.stacked:
            self.stacks[v] = ("read", numbers[v]) if v in numbers else ("y", ys.index(v))
        self.invariants = {inputs[k]: k for k in constant_reads}
        graph.outputs = [*states_after, *ys]
        self.body = Region(graph)
        self.constant_reads, self.stacked_reads = constant_reads, stacked_reads
        self.of_carry = of_carry

    def run(
        self, scan: Scan, gs: list[Any], outs: list[Any], inputs: Sequence[Any]
    ) -> tuple[Any, ...]:
        p = self.p
        results: list[Any] = [None] * len(inputs)
        if not p.wrt:
            return tuple(results)
        if self.missing:  # the forward did not keep all of it: run it again, keeping
            graph = p.forward.copy()
            graph.outputs += self.missing
            body = Region(graph)
            outs = _as_list(
                Scan(body, scan.length, scan.consts, scan.carries, scan.reverse)(*inputs),
                len(graph.outputs),
            )

        def source(k: int) -> Any:
            kind, i = self.sources[k]
            return inputs[i] if kind == "input" else outs[i]

        args = [source(k) for k in self.constant_reads]
        args += [zeros_of(outs[i]) if gs[i] is None else gs[i] for i in self.of_carry]
        args += [zeros_of(inputs[i]) for i in self.sums]
        args += [source(k) for k in self.stacked_reads]
        args += [gs[k] for k in p.seeds if k >= self.carries]
        carried = len(self.of_carry) + len(self.sums)
        made = run_scan(
            self.body, scan.length, len(self.constant_reads), carried, not scan.reverse, args
        )  # fmt: skip
        states, ys = made[:carried], made[carried:]
        for i, state in zip(self.of_carry, states):
            results[self.consts + i] = state
        for i, state in zip(self.sums, states[len(self.of_carry) :]):
            results[i] = state
        for i, y in zip(self.xs, ys):
            results[i] = y

        def stack(v: Value) -> Any:
            kind, k = self.stacks[v]
            return source(k) if kind == "read" else ys[k]

        for i in self.constants:
            recipe = self.late[i]
            if recipe is not None:
                results[i] = recipe(stack, lambda v: source(self.invariants[v]))
        return tuple(results)


@op
class Cond(Opaque):
    """The outputs of `true` or of `false`, run on the operands, as the 0-d bool first input says.

    The gradient runs the chosen branch again.
    """

    true: Region
    false: Region
    saves = "inputs"
    takes_none = True
    holomorphic = False

    @property
    def n_outputs(self) -> int:  # type: ignore[override]
        return len(self.true.graph.outputs)

    def infer(self, pred: Any, *operands: Any) -> Any:
        _check("cond", (pred, *operands), [aval_of(pred), *self.true.inputs])
        if self.true.inputs != self.false.inputs or self.true.outputs != self.false.outputs:
            raise ShapeError(f"cond: the branches differ: {self.true!r} and {self.false!r}")
        return _as_results(self.true.outputs)

    def reference(self, pred: Any, *operands: Any) -> Any:
        chosen = self.true if np.asarray(pred).item() else self.false
        return _as_results([np.array(a) for a in chosen.evaluate(*operands)])

    def vjp(self, g: Any, out: Any, pred: Any, *operands: Any) -> tuple[Any, ...]:
        gs = _as_list(g, self.n_outputs)
        live = tuple(k for k in floats(self.true.outputs) if gs[k] is not None)
        pulled = [pull_region(r, live) for r in (self.true, self.false)]
        wrt = sorted({i for _, w in pulled for i in w})
        results: list[Any] = [None] * len(operands)
        if wrt:
            branches = [_with_zeros(r, w, wrt) for r, w in pulled]
            made = Cond(*branches)(pred, *operands, *(gs[k] for k in live))
            for i, value in zip(wrt, _as_list(made, len(wrt))):
                results[i] = value
        return (None, *results)

    def batch(self, dims: tuple, size: int, *args: Any) -> tuple[Any, Any]:
        mapped = [d is not None for d in dims[1:]]
        count = self.n_outputs
        values = [to_axis(a, d, 0) for a, d in zip(args, dims)]
        everywhere = dims[0] is not None
        wanted = [everywhere] * count
        _, flags = batch_region(self.true, mapped, size, wanted)
        _, others = batch_region(self.false, mapped, size, wanted)
        wanted = [a or b for a, b in zip(flags, others)]
        branches = [batch_region(r, mapped, size, wanted)[0] for r in (self.true, self.false)]
        if everywhere:  # both are run, and each example takes its own
            pairs = zip(*(replay(b.graph, values[1:]) for b in branches))
            made = [_choose(values[0], t, f) for t, f in pairs]
        else:
            made = _as_list(Cond(*branches)(*values), count)
        places = [0 if w else None for w in wanted]
        return (made[0], places[0]) if count == 1 else (tuple(made), tuple(places))


def _with_zeros(region: Region, has: Sequence[int], wanted: Sequence[int]) -> Region:
    """A region of cotangents that gives all the wanted ones."""
    graph = region.graph.copy()
    made = dict(zip(has, graph.outputs))
    graph.outputs = [
        made[i] if i in made else graph.add(Full(region.inputs[i].shape, region.inputs[i].dtype, 0))
        for i in wanted
    ]
    return Region(graph)


def _choose(mask: Any, x: Any, y: Any) -> Any:
    """where(mask, x, y) for each example; mask is (size,), x and y (size, ...)."""
    if len(x.shape) > 1:
        mask = Expand(tuple(x.shape), tuple(range(1, len(x.shape))))(mask)
    return Where()(mask, x, y)


@op
class While(Opaque):
    """Run `body` while a condition holds: (consts, carries) -> (condition, carries).

    Inputs: consts, the first condition (0-d bool), first carries. Outputs: last carries.
    """

    body: Region
    consts: int
    saves = "inputs"
    holomorphic = False

    @property
    def n_outputs(self) -> int:  # type: ignore[override]
        return len(self.body.graph.outputs) - 1

    def infer(self, *args: Any) -> Any:
        c = self.consts
        _check("while_loop", [*args[:c], *args[c + 1 :]], self.body.inputs)
        return _as_results(self.body.outputs[1:])

    def reference(self, *arrays: Any) -> Any:
        consts, pred = arrays[: self.consts], arrays[self.consts]
        carry = list(arrays[self.consts + 1 :])
        while np.asarray(pred).item():
            pred, *carry = self.body.evaluate(*consts, *carry)
        return _as_results([np.array(a) for a in carry])

    def vjp(self, g: Any, out: Any, *inputs: Any) -> tuple[Any, ...]:
        gs = _as_list(g, self.n_outputs)
        live = floats(self.body.outputs[1:])
        wide = [i for i in floats([aval_of(x) for x in inputs])]
        shapes = tuple((tuple(inputs[i].shape), inputs[i].dtype) for i in wide)
        pull = WhileCotangent(self.body, self.consts, shapes)
        made = _as_list(pull(*(gs[k] for k in live), *inputs), len(wide))
        results: list[Any] = [None] * len(inputs)
        for i, value in zip(wide, made):
            results[i] = value
        return tuple(results)

    def batch(self, dims: tuple, size: int, *args: Any) -> tuple[Any, Any]:
        c, count = self.consts, self.n_outputs
        masked = dims[c] is not None
        mapped = [d is not None for d in (*dims[:c], *dims[c + 1 :])]
        while True:
            if masked:
                mapped[c:] = [True] * count
            body, flags = batch_region(self.body, mapped, size, [masked, *mapped[c:]])
            if flags == [masked, *mapped[c:]]:
                break
            masked, mapped[c:] = flags[0], flags[1:]
        values = [to_axis(a, d, 0) for a, d in zip(args, dims)]
        flags = [*mapped[:c], masked, *mapped[c:]]
        values = [
            batched(a, None, size) if f and d is None else a
            for a, d, f in zip(values, dims, flags)
        ]  # fmt: skip
        if masked:
            pred = values[c]
            some = Any_((0,))(pred)
            made = _as_list(
                While(_masked(body, c), c)(*values[:c], some, pred, *values[c + 1 :]), count + 1
            )[1:]
        else:
            made = _as_list(While(body, c)(*values), count)
        places = [0 if m else None for m in mapped[c:]]
        return (made[0], places[0]) if count == 1 else (tuple(made), tuple(places))


def _masked(body: Region, consts: int) -> Region:
    """The body of a batch: examples whose condition is false stay as they are."""
    size = body.outputs[0]

    def run(*args: Any) -> list[Any]:
        mask, carry = args[consts], args[consts + 1 :]
        pred, *made = replay(body.graph, [*args[:consts], *carry])
        goes_on = Where()(mask, pred, mask)
        return [Any_((0,))(goes_on), goes_on, *(_choose(mask, a, b) for a, b in zip(made, carry))]

    return region_of(run, [*body.inputs[:consts], size, *body.inputs[consts:]])


NO_REVERSE = (
    "while_loop: has no gradient by reverse mode, since the number of iterations is not known"
)
NO_REVERSE_HINT = (
    "use mg.scan with a fixed length (and mg.where or mg.cond in the body), or forward mode: "
    "mg.func.jvp, mg.func.jacfwd"
)


class WhileCotangent(Opaque):
    """The pull-back of a While, which cannot be computed; its own derivative is the forward mode.

    Inputs: cotangents of the floating outputs, then While's inputs. Outputs: `results`, the
    cotangents of the floating inputs. Forward mode (the pull-back of the pull-back) never reads
    them. Not in the registry: it has no meaning of its own.
    """

    name = "while_cotangent"
    holomorphic = False

    def __init__(self, body: Region, consts: int, results: tuple[Any, ...], mapped: bool = False):
        self.body, self.consts, self.results, self.mapped = body, consts, results, mapped

    @property
    def n_outputs(self) -> int:  # type: ignore[override]
        return len(self.results)

    def params(self) -> str:
        return f"consts={self.consts}"

    def infer(self, *args: Any) -> Any:
        return _as_results([Aval(shape, dtype) for shape, dtype in self.results])

    def reference(self, *args: Any) -> Any:
        raise GradError(NO_REVERSE, hint=NO_REVERSE_HINT)

    def vjp(self, g: Any, out: Any, *args: Any) -> tuple[Any, ...]:
        if self.mapped:
            raise GradError(NO_REVERSE, hint=NO_REVERSE_HINT)
        tangents = _as_list(g, self.n_outputs)
        avals = self.body.inputs
        live = len(floats(self.body.outputs[1:]))
        inputs, c = args[live:], self.consts
        given = [*inputs[:c], *inputs[c + 1 :]]
        push = _push_body(self.body, c)
        of_consts = [k for k, i in enumerate(floats(avals)) if i < c]
        of_carry = [k for k, i in enumerate(floats(avals)) if i >= c]
        loop = While(push, c + len(of_consts))
        made = _as_list(
            loop(
                *given[:c], *(tangents[k] for k in of_consts), inputs[c], *given[c:],
                *(tangents[k] for k in of_carry),
            ),
            loop.n_outputs,
        )  # fmt: skip

        def refuse() -> Any:
            raise GradError(NO_REVERSE, hint=NO_REVERSE_HINT)

        return (*made[len(self.body.outputs) - 1 :], *(refuse for _ in inputs))

    def batch(self, dims: tuple, size: int, *args: Any) -> tuple[Any, Any]:
        results = tuple(((size, *shape), dtype) for shape, dtype in self.results)
        made = WhileCotangent(self.body, self.consts, results, True)(*args)
        return made, 0 if len(results) == 1 else (0,) * len(results)


def _push_body(body: Region, consts: int) -> Region:
    """A While's body with tangents: (consts, their tangents, carries, theirs) -> the same."""
    push = push_region(body)
    avals = body.inputs
    wide = floats(avals)
    graph = push.graph.copy()
    plain, tangents = graph.inputs[: len(avals)], graph.inputs[len(avals) :]
    pairs = list(zip(wide, tangents))
    graph.inputs = [
        *plain[:consts], *(t for i, t in pairs if i < consts),
        *plain[consts:], *(t for i, t in pairs if i >= consts),
    ]  # fmt: skip
    return Region(graph)  # the condition is no float: it has no tangent
