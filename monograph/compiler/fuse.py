"""Fusion: which values are computed together, in one set of loops.

Elementwise, source and movement ops are computed where they are read. What must stand in memory
(outputs, results of reductions, what a contraction or an opaque op reads, what several groups read)
is an *item*. Items that share loops form a *group*: all have the same full shape, or that shape
without the group's reduced axes ("rows"), and read each other only at their own place. So softmax,
layer norm and cross-entropy become one group of three stages over a row.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..core.shape import Shape, numel
from ..core.symbolic import hint
from ..ir.graph import Graph, Node, Value
from ..ir.op import Reduction
from ..ir.region import regions_of
from ..ops.movement import Expand
from .layout import STRIDED, Layouts, demanded_layouts
from .locate import affine_view, whole_input
from .sooner import better_sooner
from .steps import FUSES_EPILOGUE

# Elementwise ops cheaper than a trip through memory when they are computed twice.
CHEAP_OPS = 3
MAX_ITEMS = 48
EARLY_ELEMENTS = 1 << 14
MAX_DEPTH = 64  # operations in a row that are one expression

# Ops that start from their first operand and change some of it.
FILLS = {"index_add", "index_set", "scatter_add", "scatter_set", "scatter_reduce"}

INLINE = ("elementwise", "source", "movement")

# Values of this size are in no cache when they are read again.
LARGE_BYTES = 16 << 20


def has_kernel(node: Node) -> bool:
    """Whether the node is computed by a kernel of its own, not in loops with others.

    Copies that are left after simplify change the order of axes in memory (layout.py).
    """
    kind = node.op.kind
    if kind == "reduction":
        return node.op.combine.startswith("arg")  # type: ignore[attr-defined]
    return kind not in INLINE or node.op.name == "copy"


def fills(node: Node) -> bool:
    """Whether the node writes into a base of one number, which needs no memory then."""
    first = node.inputs[0] if node.inputs else None
    filled = isinstance(first, Value) and first.node is not None and first.node.op.name == "full"
    return filled and node.op.name in FILLS


@dataclass(eq=False)
class Group:
    """Items computed in one set of loops, or the one node that has a kernel of its own.

    across  sums over rows that these loops make beside (across.py)
    """

    full: Shape = ()
    axes: tuple[int, ...] | None = None
    items: list[Value] = field(default_factory=list)
    node: Node | None = None  # contraction or opaque
    reads: set[Value] = field(default_factory=set)  # items of other groups
    across: list[Value] = field(default_factory=list)
    order: int = 0

    @property
    def row(self) -> Shape:
        if self.axes is None:
            return self.full
        return tuple(n for a, n in enumerate(self.full) if a not in self.axes)

    def __repr__(self) -> str:
        what = self.node.op.name if self.node else "loops"
        return f"<group {what} {self.full} axes={self.axes} items={len(self.items)}>"


class Fusion:
    """The partition of a graph: `groups` in executable order, `stored` values that need memory."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.users = graph.users()
        self.ends: set[Value] = set()  # of long expressions: read from memory
        self.beside: dict[Value, Value] = {}  # in whose group an item is to be, if not its readers'
        self.split = False  # whether groups stayed apart in epilogues of two products
        self.items = self._items()
        self._form_groups()
        again = self._better_computed_again()
        if again:
            self.items -= again
            self._form_groups()
        self._move_sooner()

    def _move_sooner(self) -> None:
        """Let factors of gradients be computed where they are at hand (sooner.py).

        Only for their sake do groups that might be one stay in the epilogues of two products.
        """
        self.beside, self.apart = better_sooner(self)
        split = self.split
        while self.beside or split:
            self.items |= self.beside.keys()
            self._form_groups()
            failed = [v for v, w in self.beside.items() if self.group_of[v] is not self.group_of[w]]
            if not failed:
                return
            for v in failed:
                self.items.discard(v)
                del self.beside[v]
            self.apart &= set(self.beside.values())
            split = True

    def _form_groups(self) -> None:
        self.group_of: dict[Value, Group] = {}
        self.groups: list[Group] = []
        for node in self.graph.nodes:
            for v in node.outputs:
                if v in self.items and v not in self.group_of:
                    self._place(v)
        self.groups = self._sorted()
        self.stored = self._stored()

    # Items

    def _items(self) -> set[Value]:
        items: set[Value] = {v for v in self.graph.outputs if v.node is not None}
        layouts = demanded_layouts(self.graph)
        for node in self.graph.nodes:
            kind = node.op.kind
            if kind not in INLINE or has_kernel(node):
                items.update(node.outputs)
            if has_kernel(node):
                for v in node.values[1:] if fills(node) else node.values:
                    if kind == "contraction" or node.op.name in STRIDED:
                        v = stored_operand(v, items, layouts)
                    elif regions_of(node.op):
                        v = whole_input(v)
                    if v.node is not None:
                        items.add(v)
        # In memory in any case: their groups may stay in epilogues of their own (_move_sooner).
        self.apart = set(items)
        for node in self.graph.nodes:
            v = node.outputs[0]
            if node.op.kind in INLINE and v not in items and not has_kernel(node):
                users = {id(u) for u in self.users.get(v, ())}
                if len(users) > 1 and self.cost(v, items) > CHEAP_OPS:
                    items.add(v)
        depth: dict[Value, int] = {}
        for node in self.graph.nodes:
            inline = [u for u in node.values if u.node is not None and u not in items]
            deepest = 1 + max((depth[u] for u in inline), default=0)
            if deepest > MAX_DEPTH and node.op.kind in INLINE:
                deepest = 0
                self.ends.update(node.outputs)
                items.update(node.outputs)
            depth.update(dict.fromkeys(node.outputs, deepest))
        return items

    def cost(self, v: Value, items: set[Value]) -> int:
        """Elementwise operations needed to compute v from items; transcendental ones count 4."""
        total, stack, seen = 0, [v], set()
        while stack:
            u = stack.pop()
            if u.node is None or (u in items) or u in seen:
                continue
            seen.add(u)
            if u.node.op.kind == "elementwise":
                total += 4 if u.node.op.name in COSTLY else 1
            elif u.node.op.kind == "source" and u.node.inputs:
                total += 8
            stack.extend(u.node.values)
            if total > CHEAP_OPS:
                break
        return total

    def _better_computed_again(self) -> set[Value]:
        """Large stored items that another group makes again from one value as large.

        Such as the exponentials of cross-entropy, from logits: a trip through memory is slower.
        """
        outputs = set(self.graph.outputs)
        found = set()
        for v in self.stored:
            group = self.group_of.get(v)
            if group is None or group.node is not None or v in outputs or v in self.ends:
                continue
            node = v.node
            assert node is not None
            size = hint(v.aval.size)
            small = size * v.dtype.itemsize < LARGE_BYTES
            if small or node.op.kind != "elementwise" or node.op.name not in COSTLY:
                continue
            readers = [g for g in self.groups if v in g.reads]
            if any(g.node is not None for g in readers) or len(readers) > 1:
                continue
            reads: set[Value] = set()
            for operand in node.values:
                self._reads_below(operand, reads)
            large = [u for u in reads if u.aval.size == v.aval.size]
            if len(large) > 1 or any(hint(u.aval.size) * 16 > size for u in reads - set(large)):
                continue
            if all(u.node is None or u in self.stored for u in large) and self._steps(v) <= 3:
                found.add(v)
        return found

    def _steps(self, v: Value) -> int:
        """Elementwise operations between v and the items that it is computed from."""
        total, stack, seen = 0, [v], set()
        while stack:
            u = stack.pop()
            if u in seen or u.node is None or (u is not v and u in self.items):
                continue
            seen.add(u)
            total += u.node.op.kind == "elementwise"
            stack.extend(u.node.values)
        return total

    # Groups

    def _place(self, v: Value) -> None:
        node = v.node
        assert node is not None
        if has_kernel(node):
            group = Group(node=node, items=list(node.outputs))
            for operand in node.values:
                self._reads_below(operand, group.reads)
            self._add(group)
            for out in node.outputs:
                self.group_of[out] = group
            return
        reads: set[Value] = set()
        for operand in node.values:
            self._reads_below(operand, reads)
        candidates = self._candidates(v, reads)
        if v in self.beside and self.beside[v] in self.group_of:
            candidates = [self.group_of[self.beside[v]]]
        for group in candidates:
            if self._joins(v, reads, group):
                return
        group = Group(order=0)
        if isinstance(node.op, Reduction):
            group.full = tuple(node.values[0].shape)
            group.axes = node.op.axes
        else:
            group.full = tuple(v.shape)
        group.items.append(v)
        group.reads |= reads
        self._add(group)
        self.group_of[v] = group

    def _candidates(self, v: Value, reads: set[Value]) -> list[Group]:
        """Groups that v might join: its producers', then those that read what it reads."""
        found: list[Group] = []
        for u in reads:
            g = self.group_of.get(u)
            if g is not None and g.node is None and g not in found:
                found.append(g)
        found.sort(key=lambda g: -g.order)
        siblings = [
            g
            for g in self.groups[-24:]
            if g.node is None and g not in found and not reads.isdisjoint(g.reads)
        ]
        # What may run in the epilogue of a product stays apart from what runs in another's.
        products = {u for u in reads if _takes_epilogue(u, v)}
        siblings = [g for g in siblings if products <= g.reads]
        joined = [g for g in found if products <= g.reads or not self._stays_in_epilogue(g)]
        self.split |= len(joined) < len(found)
        return joined + siblings[::-1]

    def _stays_in_epilogue(self, group: Group) -> bool:
        """Whether the group might be computed in an epilogue, and stored there in any case."""
        if group.axes is not None or self.apart.isdisjoint(group.items):
            return False
        return any(_takes_epilogue(u, group.items[0]) for u in group.reads)

    def _add(self, group: Group) -> None:
        group.order = len(self.groups)
        self.groups.append(group)

    def _reads_below(self, v: Value, found: set[Value]) -> None:
        """Items (and inputs) that computing v in place reads."""
        stack, seen = [v], set()
        while stack:
            u = stack.pop()
            if u in seen:
                continue
            seen.add(u)
            if u.node is None or u in self.items:
                found.add(u)
            else:
                stack.extend(u.node.values)

    def reads_of(self, v: Value) -> set[Value]:
        """Items and inputs that computing item v reads."""
        found: set[Value] = set()
        for operand in v.node.values:  # type: ignore[union-attr]
            self._reads_below(operand, found)
        return found

    def cut(self, group: Group, part: Group, before: Group) -> None:
        """Make a part of a group's items a group of its own, right before a given group."""
        group.items = [v for v in group.items if v not in part.items]
        for v in part.items:
            self.group_of[v] = part
        group.reads = {u for v in group.items for u in self.reads_of(v)} - set(group.items)
        self.groups.insert(self.groups.index(before), part)

    def _joins(self, v: Value, reads: set[Value], group: Group) -> bool:
        """Add v to the group if shapes, reads and order allow."""
        node = v.node
        assert node is not None
        if len(group.items) >= MAX_ITEMS:
            return False
        if any(u in self.ends and self.group_of.get(u) is group for u in reads):
            return False
        axes = group.axes
        if isinstance(node.op, Reduction):
            if tuple(node.values[0].shape) != group.full or numel(group.full) == 0:
                return False
            if axes is None:
                axes = node.op.axes
            elif axes != node.op.axes:
                return False
            level = "row"
        elif tuple(v.shape) == group.full:
            level = "full"
        elif axes is not None and tuple(v.shape) == group.row and numel(group.full):
            level = "row"
        else:
            return False
        if not self.aligned(v, level, group, axes):
            return False
        # No cycle: nothing that v reads from elsewhere may depend on the group.
        others = {self.group_of[u] for u in reads if u in self.group_of} - {group}
        if any(self._depends(g, group) for g in others):
            return False
        group.axes = axes
        group.items.append(v)
        group.reads |= {u for u in reads if self.group_of.get(u) is not group}
        self.group_of[v] = group
        return True

    def _depends(self, g: Group, target: Group) -> bool:
        """Whether g needs target's results, directly or through others."""
        stack, seen = [g], set()
        while stack:
            h = stack.pop()
            if h is target:
                return True
            if h in seen:
                continue
            seen.add(h)
            for u in h.reads:
                below = self.group_of.get(u)
                if below is not None:
                    stack.append(below)
        return False

    def aligned(self, v: Value, level: str, group: Group, axes: tuple[int, ...] | None) -> bool:
        """Whether v reads the group's own items only at its own place."""
        stack = [(v, level)]
        seen = set()
        first = True
        while stack:
            u, at = stack.pop()
            if (u, at) in seen:
                continue
            seen.add((u, at))
            if not first and self.group_of.get(u) is group:
                home = self._level(u, group, axes)
                if at != home:
                    return False
                continue
            if (u.node is None or u in self.items) and not first:
                continue
            first = False
            op = u.node.op  # type: ignore[union-attr]
            below = at
            if isinstance(op, Reduction):
                below = "full"
            elif isinstance(op, Expand):
                same = at == "full" and tuple(op.shape) == group.full and op.axes == axes
                below = "row" if same else "other"
            elif op.kind == "movement" and op.name not in ("alias", "detach", "copy"):
                below = "other"
            for w in u.node.values:  # type: ignore[union-attr]
                stack.append((w, below))
        return True

    def _level(self, u: Value, group: Group, axes: tuple[int, ...] | None) -> str:
        if isinstance(u.node.op, Reduction) and tuple(u.shape) != group.full:  # type: ignore
            return "row"
        if tuple(u.shape) == group.full:
            return "full"
        return "row"

    def _sorted(self) -> list[Group]:
        """Groups so that each comes after those it reads.

        Small loops that wait for no kernel come first, as what a kernel's epilogue reads must.
        """
        done: list[Group] = []
        state: dict[Group, int] = {}
        for root in self.groups:
            stack = [root]
            while stack:
                g = stack[-1]
                if state.get(g) == 2:
                    stack.pop()
                    continue
                state[g] = 1
                waiting = [
                    h
                    for h in sorted(
                        {self.group_of[u] for u in g.reads if u in self.group_of},
                        key=lambda h: h.order,
                    )
                    if h is not g and state.get(h) != 2
                ]
                if waiting:
                    stack.extend(waiting)
                else:
                    state[g] = 2
                    done.append(g)
                    stack.pop()
        early: set[Group] = set()
        for g in done:
            before = {self.group_of[u] for u in g.reads if u in self.group_of}
            if g.node is None and hint(numel(g.full)) <= EARLY_ELEMENTS and before <= early:
                early.add(g)
        return [g for g in done if g in early] + [g for g in done if g not in early]

    def _stored(self) -> set[Value]:
        """Items that need memory: outputs, and what another group or a node with a kernel reads."""
        stored = set(self.graph.outputs)
        for g in self.groups:
            if g.node is not None:
                stored.update(g.items)
            stored.update(u for u in g.reads if self.group_of.get(u) is not g)
        return stored


def _takes_epilogue(u: Value, v: Value) -> bool:
    """Whether v might be computed in the epilogue of what makes u."""
    if u.node is None or u.node.op.name not in FUSES_EPILOGUE or u.shape != v.shape:
        return False
    return not isinstance(v.node.op, Reduction)  # type: ignore[union-attr]


COSTLY = {
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "tanh", "sigmoid", "erf", "erfc",
    "sin", "cos", "tan", "pow", "div", "sqrt", "rsqrt", "atan", "atan2", "asin", "acos", "sinh",
    "cosh", "reciprocal", "lgamma", "digamma", "erfinv", "gelu", "silu", "binary_cross_entropy",
    "asinh", "acosh", "atanh", "polygamma",
}  # fmt: skip
ONE_INSTRUCTION = {"div", "sqrt", "rsqrt", "reciprocal"}  # of those, a slow one


def stored_operand(v: Value, items: set[Value], layouts: Layouts) -> Value:
    """What must be in memory for a contraction to read v: what v is an affine view of, or v."""
    found = affine_view(
        v, lambda u: u in items or u.node is None or u.node.op.kind != "movement", layouts.strides
    )
    return v if found is None else found[0]
