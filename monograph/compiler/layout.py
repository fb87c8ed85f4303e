"""Layouts: in which order the axes of a stored value stand in memory.

Convolutions want images with channels innermost and filters as (taps, channels in, channels out).
`explicit_layouts` (a graph pass, convolution.py) puts copies where inputs have another order;
`choose_layouts` then decides an order for every stored value: what a kernel demands, then what a
group reads, so that channels-last spreads through normalisation, activations, residuals and
pooling.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..core.symbolic import hint
from ..ir.graph import Graph, Node, Value
from ..ir.region import regions_of
from ..ops.movement import Permute
from .locate import affine_view

if TYPE_CHECKING:
    from .fuse import Fusion, Group

Order = tuple[int, ...]


def channels_last(ndim: int) -> Order:
    """(N, C, *S) with C innermost."""
    return (0, *range(2, ndim), 1)


def filter_order(ndim: int) -> Order:
    """(O, C, *K) as taps, C, O: lanes run along the outputs."""
    return (*range(2, ndim), 1, 0)


def heads_inside(ndim: int) -> Order:
    """(N, H, L, E) as N, L, H, E: heads come side by side again without a copy."""
    return (0, 2, 1, 3)


# Op -> orders of its operands and of its results, from their number of dimensions.
DEMANDS = {
    "conv": ((channels_last, filter_order), (channels_last,)),
    "conv_input": ((channels_last, filter_order), (channels_last,)),
    "conv_weight": ((channels_last, channels_last), (filter_order,)),
    "attention": ((), (heads_inside,)),
    "attention_grad": ((), (heads_inside, heads_inside, heads_inside)),
}

# Channels of an image from which on a convolution reads them side by side.
MANY_CHANNELS = 16

# Ops that read operands where they stand, at any strides (Context.locate).
STRIDED = {
    "copy", "attention", "attention_grad", "arg_max", "arg_min", "cumsum", "cumprod",
    "linear_scan", "log_cumsum_exp", "running_extreme", "sort", "top_k", "kth", "search_sorted",
    "concat",
}  # fmt: skip


# Ops with kernels of their own whose results stand as their first operand does.
FOLLOWS = {"contract", "max_pool", "avg_pool", "max_pool_grad", "avg_pool_grad", "concat"}


def reads_any_order(node: Node) -> bool:
    """Whether a convolution reads its image in any order of axes: of few channels it takes single
    elements, so that a network's first image needs no copy."""
    if node.op.name != "conv" or node.op.groups > 1:  # type: ignore[attr-defined]
        return False
    return node.values[0].shape[1] < MANY_CHANNELS


class Layouts:
    """Strides of every stored value.

    inside  v -> (value whose memory holds v's, strides of v, offset), in elements: inside.py
    placed  (v, concatenation): v is made where the concatenation wants it
    """

    def __init__(self, orders: Mapping[Value, Order]):
        self.orders = orders
        self.inside: dict[Value, tuple[Value, tuple[int, ...], int]] = {}
        self.placed: set[tuple[Value, Value]] = set()

    def order(self, v: Value) -> Order:
        return self.orders.get(v) or tuple(range(len(v.shape)))

    def strides(self, v: Value) -> tuple[int, ...]:
        """Elements from one index to the next, along each axis."""
        if v in self.inside:
            return self.inside[v][1]
        result, step = [0] * len(v.shape), 1
        order = self.orders.get(v)
        for axis in reversed(self.order(v)):
            result[axis] = step
            size = max(v.shape[axis], 1)
            # Rows of filters at a multiple of 1 KiB would fall into a few sets of the caches.
            if step == 1 and order == filter_order(len(v.shape)) and not size % 256:
                size += 16
            step *= size
        return tuple(result)

    def elements(self, v: Value) -> int:
        """How many elements v's memory spans."""
        if 0 in v.shape:
            return 0
        return 1 + sum((n - 1) * s for n, s in zip(v.shape, self.strides(v)))


def demanded_layouts(graph: Graph) -> Layouts:
    """The orders that ops demand of what they read and make. Known before fusion."""
    orders: dict[Value, Order] = {}
    fixed = _row_major(graph)
    for node in graph.nodes:
        demand = DEMANDS.get(node.op.name)
        if demand is not None:
            any_order = reads_any_order(node)
            for v, order in [*zip(node.inputs, demand[0]), *zip(node.outputs, demand[1])]:
                if v not in fixed and not (any_order and v is node.inputs[0]):
                    orders.setdefault(v, order(len(v.shape)))
    return Layouts(orders)


def _row_major(graph: Graph) -> set[Value]:
    """What callers see or give, and what bodies of loops take slices of."""
    found = set(graph.inputs) | set(graph.constants) | set(graph.outputs)
    for node in graph.nodes:
        if regions_of(node.op):
            found.update((*node.values, *node.outputs))
    return found


def choose_layouts(graph: Graph, fusion: Fusion) -> Layouts:
    """An order for each stored value; inputs and outputs of the graph are row-major."""
    orders = dict(demanded_layouts(graph).orders)
    fixed = _row_major(graph) | _read_as_rows(fusion, orders)
    for group in fusion.groups:
        if group.node is not None:
            if group.node.op.name in FOLLOWS:
                known = [orders[v] for v in group.node.values if v in orders]
                for v in group.node.outputs:
                    if known and v not in fixed and len(v.shape) == len(known[0]) > 2:
                        orders.setdefault(v, known[0])
            continue
        common = _group_order(group, orders)
        if common is not None:
            for v in group.items:
                if tuple(v.shape) == group.full and v not in fixed:
                    orders.setdefault(v, common)
    return Layouts(orders)


def _read_as_rows(fusion: Fusion, demanded: Mapping[Value, Order]) -> set[Value]:
    """Stored values that a kernel reads through a view which exists only where they are row-major,
    such as images that a linear layer reads flat. (Fusion knows of those whose order is demanded.)
    """
    found: set[Value] = set()
    for group in fusion.groups:
        for v in group.node.values if group.node is not None else ():
            base = v
            while base.node is not None and base.node.values and base not in fusion.stored:
                base = base.node.values[0]
            ndim = len(base.shape)
            if base is v or ndim < 3 or base in demanded:
                continue
            orders = [channels_last, filter_order, *([heads_inside] if ndim == 4 else [])]
            for order in orders:
                strides = Layouts({base: order(ndim)}).strides
                if affine_view(v, fusion.stored.__contains__, strides) is None:
                    found.add(base)
    return found


def _group_order(group: Group, orders: Mapping[Value, Order]) -> Order | None:
    """The order in which most of a group's memory is walked; None for row-major."""
    votes: dict[Order, int] = {}
    ndim = len(group.full)
    axes_of = _axes_of_reads(group)
    for v in (*group.items, *group.reads):
        if len(v.shape) == ndim and ndim > 2:
            order = orders.get(v)
            if order is not None:
                axes = axes_of.get(v)
                order = order if axes is None else tuple(axes[a] for a in order)
                votes[order] = votes.get(order, 0) + hint(v.aval.size)
    return max(votes, key=lambda o: votes[o]) if votes else None


def _axes_of_reads(group: Group) -> dict[Value, Order]:
    """For what the group reads through permutations: the group's axis that each axis stands for."""
    found: dict[Value, Order] = {}
    straight = tuple(range(len(group.full)))
    seen: set[tuple[Value, Order]] = set()
    stack = [(v, straight) for v in group.items if tuple(v.shape) == group.full]
    for v in group.items:
        node = v.node
        if node is not None and node.values and tuple(node.values[0].shape) == group.full:
            stack.append((node.values[0], straight))
    while stack:
        v, axes = stack.pop()
        if (v, axes) in seen or len(v.shape) != len(axes):
            continue
        seen.add((v, axes))
        if v in group.reads:
            found.setdefault(v, axes)
            continue
        if v.node is None:
            continue
        if isinstance(v.node.op, Permute):
            order = v.node.op.order
            axes = tuple(axes[order.index(a)] for a in range(len(order)))
        stack.extend((u, axes) for u in v.node.values)
    return found


def loop_order(group: Group, layouts: Layouts) -> Order:
    """Axes of the group's full shape, outermost loop first: as its results stand."""
    ndim = len(group.full)
    for v in group.items:
        if tuple(v.shape) == group.full and v in layouts.orders:
            return layouts.orders[v]
    order = _group_order(group, layouts.orders)
    return order if order is not None else tuple(range(ndim))
