"""The compiler's table of contents: from a graph to one native program.

inline_scans        loops of one iteration
simplify            rules, common subexpressions, constants
remove_dead
unfold_groups       normalisation over groups of channels, on images
add_slices          sums over small windows
lower_convolutions  padding, strides and adjoints of convolutions
move_factors        factors along the sum of a product, to the smaller operand
order_rows          operands of products whose rows are apart, in order
prune_control       bodies of loops: what is dead goes, what is constant comes out
leave_complex_to_numpy
split_reductions    long sums in two steps
split_constants     what depends on unchanging inputs alone, into a graph of its own
loop_over_blocks    inference on many images, a few at a time
fuse                groups of loops; contractions and opaque ops with kernels of their own
lower               groups and nodes -> kernels of the loop language
place               memory: inputs and outputs in place, one arena for the rest
compile             loop language -> LLVM IR -> machine code, all cores, cached on disk
link                one Program: tasks in order (host calls between, where an op has no kernel)

The last three are executable.py, which is what the rest of the product calls; it imports this file
where a graph is met that was not planned before. What comes out: plan.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

from ..core.errors import GraphError
from ..core.shape import contiguous_strides
from ..core.sizes import blame
from ..core.symbolic import hint
from ..ir.graph import Graph, Node, Value
from ..ir.region import regions_of
from ..ir.verify import verify
from . import kernels as _kernels  # noqa: F401  registers the lowerings
from .across import sum_across
from .blocks import loop_over_blocks
from .channel_groups import unfold_groups
from .complex import leave_complex_to_numpy
from .constant import split_constants
from .control import ControlStep, inline_scans, lower_control, prune_control, separate_outputs
from .convolution import lower_convolutions
from .epilogue import fuse_epilogues
from .factors import move_factors
from .fuse import Fusion, Group
from .inside import make_parts_in_place
from .layout import Layouts, choose_layouts
from .locate import Locator
from .loops import lower_loops
from .operand_sums import find_operand_sums
from .plan import SMALL_WORK, CompileBody, HostStep, Plan, written_by
from .reader import COMPUTE
from .rows import order_rows
from .simplify import remove_dead, simplify, split_reductions
from .sizes import (
    depends_on_sizes,
    place_of,
    space_of,
    take_sizes,
)
from .steps import FUSES_EPILOGUE, LOWERINGS, WRITES_AT, Context, Step
from .windows import add_slices

PASSES: list[Callable[[Graph], Graph]] = [
    inline_scans,
    simplify,
    unfold_groups,
    add_slices,
    remove_dead,
    lower_convolutions,
    move_factors,
    order_rows,
    prune_control,
    leave_complex_to_numpy,
    remove_dead,
    split_reductions,
]


def run_passes(graph: Graph, check: bool = True) -> Graph:
    """The graph passes in order, verified after each (`check`; it takes as long as they do)."""
    for p in PASSES:
        graph = p(graph)
        if check:
            verify(graph, after=p.__name__)
    return graph


def plan_of(
    graph: Graph,
    donate: dict[int, int] | None,
    body: bool,
    steady: Collection[int],
    compile_body: CompileBody,
) -> Plan:
    """All of it, from a captured graph to kernels. Arguments as in executable.py."""
    simple, first = run_passes(graph, check=False), None
    try:
        verify(simple)
    except GraphError:
        run_passes(graph)  # says which of them it was
        raise
    if body:
        simple = leave_complex_to_numpy(separate_outputs(simple))
    elif steady:
        first, simple = split_constants(simple, {simple.inputs[i] for i in steady})
        if not donate:
            simple = loop_over_blocks(simple, [simple.inputs[i] for i in steady])
    made = plan(simple, donate, steady, compile_body)
    made.first = first
    return made


def plan(
    graph: Graph,
    donate: dict[int, int] | None = None,
    steady: Collection[int] = (),
    compile_body: CompileBody | None = None,
) -> Plan:
    """Fuse and lower an already simplified graph.

    donate  output position -> input position: that output is written into that input's memory
    steady  positions of inputs that stay the same from one run to the next: steps that depend on
            them and on constants alone come first
    compile_body  makes the program of a loop's or branch's body
    """
    constant = {graph.inputs[i] for i in steady}
    if constant:
        constant.update(graph.constants)
    fusion = Fusion(graph)
    layouts = choose_layouts(graph, fusion)
    space = space_of(graph)
    if space is None:
        make_parts_in_place(graph, fusion, layouts)
    result = Plan(graph, fusion.groups, stored=fusion.stored, layouts=layouts)
    is_stored = fusion.stored.__contains__
    epilogues = fuse_epilogues(fusion, FUSES_EPILOGUE)
    sum_across(fusion, layouts, {*epilogues.absorbed, *epilogues.by_producer})
    sums = find_operand_sums(fusion)
    wanted = {graph.outputs[o]: graph.inputs[i] for o, i in (donate or {}).items()}
    _want_between(graph, wanted)
    readers: dict[Value, list[Group]] = {}
    for group in fusion.groups:
        for v in group.reads:
            readers.setdefault(v, []).append(group)
    locator = Locator(is_stored, layouts.strides)
    outputs = set(graph.outputs)
    done: set[Group] = set()

    def in_place(overwrites: list[tuple[Value, Value]]) -> dict[Value, Value]:
        """Which results take their donated input's memory: those whose input nobody reads later."""
        alias: dict[Value, Value] = {}
        for v, u in overwrites:
            if wanted.get(v) is u and u not in alias.values() and done.issuperset(readers[u]):
                alias[v] = u
        result.alias.update(alias)
        return alias

    for group in fusion.groups:
        if group in done:
            continue
        done.add(group)
        blame(space, place_of(group))
        if group.node is not None and regions_of(group.node.op):
            assert compile_body is not None
            result.steps.append(lower_control(group.node, compile_body))
            continue
        if group.node is not None:
            epilogue = epilogues.of(group, is_stored, layouts)
            if epilogue is not None:
                done.add(epilogue.consumer)
                # Only contractions compute each element once (tiles of convolutions overlap).
                if group.node.op.kind == "contraction":
                    outside = [p for p in epilogue.overwrites if p[1] not in group.reads]
                    alias = in_place(outside)
                    if alias:
                        epilogue = epilogues.of(group, is_stored, layouts, alias)
            base = _base_in_place(group.node, wanted, layouts, result.alias)
            if base is not None and not done.issuperset(readers[group.node.inputs[0]]):
                base = None  # the old elements are still to be read
            also = sums.get(group)
            unread = [v for v in group.node.outputs if v not in readers and v not in outputs]
            context = Context(
                group.node.op.name, epilogue, locator.locate, locator.strides, constant,
                in_place=base is not None, placed=layouts.placed, unread=unread, operand_sum=also,
            )  # fmt: skip
            steps = _lower_node(group.node, context)
            if steps is not None:
                result.steps.extend(steps)
                if also is not None and context.makes_sum:
                    done.update(also.take(fusion))
                    readers[also.total] = [also.group]
                if base is not None:
                    result.alias[group.node.outputs[0]] = base
                continue
            # No kernel for this case: NumPy computes it, and what follows runs in loops.
            result.steps.append(HostStep(group.node))
            if epilogue is None:
                continue
            fusion.stored.update(group.items)
            for v in epilogue.consumer.items:
                result.alias.pop(v, None)
            group = epilogue.consumer
        made = lower_loops(group, _title(group), is_stored, layouts)
        alias = in_place(made.overwrites)
        if alias:
            made = lower_loops(group, _title(group), is_stored, layouts, alias)
        nodes = [v.node for v in (*group.items, *group.across) if v.node is not None]
        result.steps.append(
            Step(
                made.kernel,
                made.values,
                parallel=hint(made.work * made.weight) >= SMALL_WORK,
                flops=made.work,
                title=made.kernel.name,
                nodes=nodes,
            )
        )
    if space is not None:
        for step in result.steps:
            blame(space, step.nodes[0].place if isinstance(step, Step) else step.node.place)
            take_sizes(step)
    if constant:
        _move_steady_first(result, constant)
    return result


def _want_between(graph: Graph, wanted: dict[Value, Value]) -> None:
    """Where places of one input are written again and again, all results may take its memory."""
    for v, u in list(wanted.items()):
        while v.node is not None and v.node.op.name in WRITES_AT:
            v = v.node.inputs[0]
            if v.node is None or v in graph.outputs:
                break
            wanted[v] = u


def _base_in_place(
    node: Node, wanted: dict[Value, Value], layouts: Layouts, alias: dict[Value, Value]
) -> Value | None:
    """The input whose memory an op that writes at indices can change without a copy of it."""
    if node.op.name not in WRITES_AT:
        return None
    out, base = node.outputs[0], node.inputs[0]
    u = wanted.get(out)
    if u is None or alias.get(base, base) is not u:
        return None
    if any(alias.get(v, v) is u for v in node.values[1:]):  # read while it is written
        return None
    is_plain = layouts.strides(out) == contiguous_strides(out.shape)
    return u if is_plain and out.dtype.code not in COMPUTE else None


def _move_steady_first(plan: Plan, constant: set[Value]) -> None:
    """Begin with the steps that read only what stays the same, as packing of weights."""
    same: set[Any] = set(constant)
    first: list[Any] = []
    outputs = set(plan.graph.outputs)
    inside = plan.layouts.inside

    def memory(buffers: Sequence[Any]) -> list[Any]:
        """Whose memory they are: a part of a concatenation has the concatenation's."""
        return [inside[b][0] if b in inside else b for b in buffers]

    writers = Counter(b for step in plan.steps for b in memory(written_by(step)))
    for number, step in enumerate(plan.steps):
        # The memory of a body of run-time sizes is another at other sizes.
        is_fixed = not isinstance(step, ControlStep) or all(b.space is None for b in step.bodies)
        if isinstance(step, ControlStep) and is_fixed and same.issuperset(step.same):
            once, plan.steps[number] = step.apart()
            first += once
        if isinstance(step, Step) and step.status is None:
            written = memory(written_by(step))
            read = memory([b for b, k in zip(step.buffers, step.kernel.buffers) if not k.written])
            # What another step goes on with (adds to) is begun anew every time.
            alone = all(writers[b] == 1 for b in written)
            alone = alone and not depends_on_sizes(step)
            if alone and same.issuperset(read) and outputs.isdisjoint(written):
                same.update(written)
                first.append(step)
    plan.steps = first + [s for s in plan.steps if s not in first]
    plan.prologue = len(first)


def _title(group: Group) -> str:
    """A readable name from the ops: the same group elsewhere gets the same kernel."""
    names: list[str] = []
    for v in group.items:
        assert v.node is not None
        if v.node.op.name not in names:
            names.append(v.node.op.name)
    kind = "map" if group.axes is None else "reduce"
    return "_".join([kind, *names[:4]])


def _lower_node(node: Node, context: Context) -> Sequence[Step] | None:
    lowering = LOWERINGS.get(node.op.name)
    steps = None if lowering is None else lowering(node, context)
    for s in steps or ():
        s.nodes = s.nodes or [node]
        s.title = s.title or s.kernel.name
    return steps
