"""Reverse mode: the tape that hangs on tensors, and the one pass that walks it backward.

Every differentiable operation on a tensor that requires a gradient leaves a Node; a tensor knows the
node that made it (`_node`, `_index`). The pass calls each op's `vjp`, whose operations go through the
door again: so a backward can be captured, batched, and differentiated once more.

Nodes keep payloads (arrays or symbols) with the version they had, not tensors: no reference cycles,
and a value overwritten in place is found out.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from ..core.errors import ArgumentError, GradError, Place, ShapeError, user_place
from ..core.modes import modes
from ..ir.dispatch import apply
from ..ir.op import Aval, Full, Op, is_value
from ..ops.arith import Add

_sequence = itertools.count()
_add = Add()

# Set by tensor.py: make a tensor (payload, node, index, requires_grad) and tell tensors apart.
_rewrap: list[Callable[[Any, Any, int, bool], Any]] = []


def install(rewrap: Callable[[Any, Any, int, bool], Any]) -> None:
    """Tell the tape how to make a tensor from what it saved."""
    _rewrap[:] = [rewrap]


class Saved:
    """A tensor's value as it was when an operation used it."""

    __slots__ = ("payload", "versions", "version", "node", "index", "requires_grad")

    def __init__(self, tensor: Any, node: Any = None, index: int = 0):
        self.payload = tensor._payload
        self.versions = tensor._version
        self.version = tensor._version[0]
        self.requires_grad = tensor.requires_grad
        self.node = edge_of(tensor)[0] if node is None and tensor.requires_grad else node
        self.index = tensor._index if node is None else index

    def restore(self, owner: Node) -> Any:
        if self.versions[0] != self.version:
            raise GradError(
                f"backward: a value that {owner.title} needs was changed in place: it is at "
                f"version {self.versions[0]}, version {self.version} was used",
                hint="write to a clone(), or run under mg.autograd.set_detect_anomaly(True) "
                "to see the forward line",
                place=owner.place,
            )
        if self.node is not None and not isinstance(self.node, Node):
            return self.node  # a leaf tensor, itself
        node = owner if self.node is None and self.requires_grad else self.node
        return _rewrap[0](self.payload, node, self.index, self.requires_grad)


def edge_of(tensor: Any) -> tuple[Any, int]:
    """Where the tensor's gradient flows: (node, output number), or (the leaf itself, 0)."""
    return (tensor, 0) if tensor._node is None else (tensor._node, tensor._index)


class Node:
    """One recorded operation. `edges[k]` is where the cotangent of input k goes, or None."""

    __slots__ = ("op", "edges", "inputs", "outs", "avals", "seq", "place", "hooks", "__weakref__")

    def __init__(self, op: Op, args: Sequence[Any], outputs: Sequence[Any]):
        self.op = op
        self.seq = next(_sequence)
        self.place: Place | None = user_place() if modes.anomaly else None
        self.hooks: dict[int, list] | None = None
        self.edges = tuple(
            edge_of(a) if is_value(a) and a.requires_grad else None for a in args
        )
        kept: Any = range(len(args)) if op.saves in ("all", "inputs") else ()
        if op.reads is not None:
            kept = {p for e, ps in zip(self.edges, op.reads) if e is not None for p in ps}
        self.inputs: Any = tuple(
            a
            if not is_value(a)
            else Saved(a)
            if p in kept
            else Aval(tuple(a.shape), a.dtype)
            for p, a in enumerate(args)
        )
        self.avals = tuple(Aval(tuple(o.shape), o.dtype) for o in outputs)
        self.outs: Any = self.avals

    def keep_outputs(self, outputs: Sequence[Any]) -> None:
        """Called after `outputs` got their payloads: saves them if the rule reads them."""
        if self.op.saves in ("all", "outputs"):
            saved = []
            for i, o in enumerate(outputs):
                s = Saved.__new__(Saved)
                s.payload, s.versions, s.version = o._payload, o._version, o._version[0]
                s.node, s.index, s.requires_grad = None, i, True
                saved.append(s)
            self.outs = tuple(saved)

    @property
    def title(self) -> str:
        return self.op.name

    def __repr__(self) -> str:
        return f"<{''.join(w.capitalize() for w in self.title.split('_'))}Backward>"

    @property
    def next_functions(self) -> tuple:
        return tuple((None, 0) if e is None else e for e in self.edges)

    def pull(self, gs: list[Any], needed: Callable[[Any], bool]) -> Sequence[Any]:
        """Cotangents of the inputs from those of the outputs."""
        if self.inputs is None:
            raise _used_twice(self)
        restore = [x.restore(self) if isinstance(x, Saved) else x for x in self.inputs]
        outs = [o.restore(self) if isinstance(o, Saved) else o for o in self.outs]
        if self.op.n_outputs == 1:
            results = self.op.vjp(gs[0], outs[0], *restore)
        else:
            filled = [
                Full(a.shape, a.dtype, 0)() if g is None else g for g, a in zip(gs, self.avals)
            ]
            results = self.op.vjp(tuple(filled), tuple(outs), *restore)
        return [
            None
            if edge is None or not needed(edge[0])
            else r()
            if callable(r) and not is_value(r)
            else r
            for r, edge in zip(results, self.edges)
        ]

    def release(self) -> None:
        self.inputs = self.outs = None


def _used_twice(node: Node) -> GradError:
    return GradError(
        f"backward: the values saved by {node.title} were freed by an earlier backward",
        hint="give retain_graph=True to the first backward to walk the graph again",
        place=node.place,
    )


def run_backward(
    roots: Sequence[Any],
    gradients: Sequence[Any],
    inputs: Sequence[Any] | None,
    retain_graph: bool,
    create_graph: bool,
    accumulate: Callable[[Any, Any], None] | None,
) -> dict[int, Any]:
    """Walk the tape from `roots` seeded with `gradients`.

    inputs None: accumulate(leaf, gradient) for every leaf reached. Otherwise only the paths to
    `inputs` are walked and the result maps each input's position to its gradient.
    """
    wanted: dict[tuple[int, int], list[int]] = {}
    for i, t in enumerate(inputs or ()):
        target, index = edge_of(t)
        wanted.setdefault((id(target), index), []).append(i)
    needed = _needed(roots, {k[0] for k in wanted}) if inputs is not None else _always
    collected: dict[int, Any] = {}
    pending: dict[int, list[Any]] = {}
    heap: list[tuple[int, int, Any]] = []

    def deliver(target: Any, index: int, g: Any) -> None:
        if not isinstance(target, Node):
            for hook in target._hooks or ():
                changed = hook(g)
                g = g if changed is None else changed
            positions = wanted.get((id(target), 0), ())
            for i in positions:
                collected[i] = g if i not in collected else apply(_add, collected[i], g)
            if accumulate is not None and (inputs is None or positions):
                accumulate(target, g)
            return
        slots = pending.get(id(target))
        if slots is None:
            slots = pending[id(target)] = [None] * len(target.avals)
            heapq.heappush(heap, (-target.seq, id(target), target))
        slots[index] = g if slots[index] is None else apply(_add, slots[index], g)

    before = modes.grad
    modes.grad = create_graph
    try:
        for root, g in zip(roots, gradients):
            deliver(*edge_of(root), g)
        while heap:
            _, key, node = heapq.heappop(heap)
            gs = pending.pop(key)
            for index, hooks in (node.hooks or {}).items():
                for hook in hooks:
                    if gs[index] is not None:
                        changed = hook(gs[index])
                        gs[index] = gs[index] if changed is None else changed
            for index, g in enumerate(gs):
                for i in wanted.get((id(node), index), ()):
                    if g is not None:
                        collected[i] = g
            if inputs is not None and not needed(node):
                continue
            try:
                results = node.pull(gs, needed)
            except Exception as error:
                if node.place and modes.anomaly:
                    error.add_note(f"  while differentiating {node.title}, called at {node.place}")
                raise
            if modes.anomaly:
                _check_anomaly(node, results)
            if not retain_graph:
                node.release()
            for edge, r in zip(node.edges, results):
                if edge is not None and r is not None:
                    deliver(*edge, r)
    finally:
        modes.grad = before
    return collected


def _always(target: Any) -> bool:
    return True


def _needed(roots: Sequence[Any], wanted: set[int]) -> Callable[[Any], bool]:
    """A predicate: whether one of the wanted targets is at or below a node."""
    known: dict[int, bool] = {}
    stack = [edge_of(r)[0] for r in roots]
    alive = list(stack)  # ids stay valid while the nodes are held
    while stack:
        node = stack[-1]
        if id(node) in known:
            stack.pop()
            continue
        if not isinstance(node, Node):
            known[id(node)] = id(node) in wanted
            continue
        below = [e[0] for e in node.edges if e is not None]
        missing = [n for n in below if id(n) not in known]
        if missing:
            stack.extend(missing)
            alive.extend(missing)
        else:
            known[id(node)] = id(node) in wanted or any(known[id(n)] for n in below)
            stack.pop()
    return lambda target: known.get(id(target), False) or id(target) in wanted


def _check_anomaly(node: Node, results: Sequence[Any]) -> None:
    for k, r in enumerate(results):
        array = getattr(r, "_payload", None)
        if r is not None and hasattr(array, "__array_interface__") and r.dtype.is_floating_point:
            if (array != array).any():
                raise GradError(
                    f"backward: the gradient of {node.title} for its input {k} has nan",
                    place=node.place,
                )


def seed(root: Any, gradient: Any) -> Any:
    """The cotangent that backward starts with: `gradient`, or 1 for a single element."""
    if not root.requires_grad:
        raise GradError(
            "backward: the tensor does not require a gradient and was not made from one that does"
        )
    if gradient is None:
        if root.numel() != 1:
            raise GradError(
                f"backward: a gradient is needed for an output of shape {tuple(root.shape)}; "
                "only one with a single element starts from 1"
            )
        return Full(tuple(root.shape), root.dtype, 1)()
    if not is_value(gradient):
        raise ArgumentError(f"backward: gradient must be a tensor, got {type(gradient).__name__}")
    if tuple(gradient.shape) != tuple(root.shape):
        raise ShapeError(
            f"backward: gradient has shape {tuple(gradient.shape)}, the output has "
            f"{tuple(root.shape)}"
        )
    return gradient
