"""Reverse mode: the one pass that walks the tape backward, from results to leaves.

It goes through nodes from the newest to the oldest, calls each op's `vjp` with the gradients of
what the node made, runs hooks, and accumulates what arrives at leaves. The tape: tape.py.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import numpy as np

from ..core.errors import ArgumentTypeError, GradError, ShapeError
from ..core.modes import modes
from ..ir.dispatch import apply
from ..ir.op import Aval, Full, is_value
from ..ops.arith import Add
from ..ops.basic import Cast
from .meta import META, is_meta
from .tape import Hooks, Node, _rewrap, edge_of

_add = Add()
# Set by replay.py: a walk that was done before, by its program; None: the tape is to be walked.
_replay: list[Callable[..., Any]] = []


def install_replay(attempt: Callable) -> None:
    """Offer each backward that is no part of another to `attempt` (transform/replay.py)."""
    _replay[:] = [attempt]


def run_backward(
    roots: Sequence[Any],
    gradients: Sequence[Any],
    inputs: Sequence[Any] | None,
    retain_graph: bool,
    create_graph: bool,
    accumulate: Callable[[Any, Any, bool], None] | None,
    linked: bool = True,
    since: int = -1,
) -> dict[int, Any]:
    """Walk the tape from `roots` seeded with `gradients`, newest node first.

    inputs None: accumulate(leaf, gradient, fresh) for every leaf reached, at the end of the walk; a
    fresh gradient shares its memory with nothing else. Otherwise only the paths to `inputs` are
    walked and the result maps each input's position to its gradient.

    linked  False: saved values are constants to what create_graph records (derivatives with
            respect to `gradients` only)
    since   nodes older than this are known not to lead to `inputs`
    """
    wanted: dict[tuple[int, int], list[int]] = {}
    for i, t in enumerate(inputs or ()):
        target, index = edge_of(t)
        wanted.setdefault((id(target), index), []).append(i)
    linked = linked and create_graph  # else nothing is recorded that a link would matter to
    before = modes.grad, modes.autocast, modes.ends
    modes.grad, modes.autocast, modes.ends = create_graph, None, []
    try:

        def walked() -> tuple[dict[int, Any], dict[int, list[Any]]]:
            edges = [edge_of(r) for r in roots]
            needed: Callable[[Any], bool] = requires
            if inputs is not None:
                needed = leads_to([e[0] for e in edges], {k[0] for k in wanted}, since)
            return walk(edges, gradients, wanted, needed, retain_graph, linked)

        found = None
        if before[2] is None and _replay:  # else this is part of another backward
            found = _replay[0](
                roots, gradients, inputs, retain_graph, create_graph, linked, since, walked
            )
        collected, leaves = walked() if found is None else found
        for leaf, g, own in leaves.values():
            for hook in tuple((leaf._hooks or {}).values()):
                changed = hook(g)
                g, own = (g if changed is None else changed), False
            positions = wanted.get((id(leaf), 0), ())
            if positions and accumulate is None and _is_sparse(g):
                g = g.to_dense()
            collected.update(dict.fromkeys(positions, g))
            if accumulate is not None and (positions or inputs is None) and is_live(leaf):
                accumulate(leaf, g, own)
        for end in modes.ends:
            end()
    finally:
        modes.grad, modes.autocast, modes.ends = before
    return collected


def walk(
    roots: Sequence[tuple[Any, int]], gradients: Sequence[Any],
    wanted: dict[tuple[int, int], list[int]], needed: Callable[[Any], bool],
    retain_graph: bool, linked: bool,
) -> tuple[dict[int, Any], dict[int, list[Any]]]:  # fmt: skip
    """Pull the nodes below the roots (node, output), newest first, from the roots' gradients.

    Gives the gradients of `wanted` outputs of nodes by their positions, and by its id for each leaf
    [leaf, gradient, whether that is fresh].
    """
    collected: dict[int, Any] = {}
    waiting: dict[int, list[Any]] = {}  # node -> gradients of its outputs
    leaves: dict[int, list[Any]] = {}
    heap: list[tuple[int, int, Node]] = []

    def deliver(target: Any, index: int, g: Any, fresh: bool) -> None:
        if isinstance(target, Node):
            slots = waiting.get(id(target))
            if slots is None:
                slots = waiting[id(target)] = [None] * target.n_outputs
                heapq.heappush(heap, (-target.seq, id(target), target))
            slots[index] = g if slots[index] is None else _plus(slots[index], g)
        elif id(target) in leaves:
            entry = leaves[id(target)]
            entry[1], entry[2] = _plus(entry[1], g), True
        else:
            leaves[id(target)] = [target, g, fresh]

    for (target, index), g in zip(roots, gradients):
        deliver(target, index, g, False)
    while heap:
        _, key, node = heapq.heappop(heap)
        gs = waiting.pop(key)
        hooks = node.hooks
        if hooks is not None:
            gs = _before(hooks, gs)
        for index, g in enumerate(gs) if wanted else ():
            if g is not None and (key, index) in wanted:
                collected.update(dict.fromkeys(wanted[key, index], g))
        edges = node.edges
        targets = [e is not None and needed(e[0]) for e in edges]
        if True not in targets:
            continue
        results = _pull(node, gs, targets, linked)
        if hooks is not None and hooks.post:
            results = _after(hooks, results, gs)
        fresh = [
            want and not isinstance(e[0], Node) and node.gives_fresh(r, gs, results)
            for e, r, want in zip(edges, results, targets)
        ]
        if not retain_graph:
            node.release()
        for edge, r, is_fresh in zip(edges, results, fresh):
            if edge is not None and r is not None:
                deliver(edge[0], edge[1], r, is_fresh)
    return collected, leaves


def _is_sparse(g: Any) -> bool:
    """Whether a gradient holds rows only (api/sparse.py)."""
    return getattr(type(g), "is_sparse", False) is True


def _plus(x: Any, y: Any) -> Any:
    """The sum of two gradients."""
    return x + y if _is_sparse(x) or _is_sparse(y) else apply(_add, x, y)


def requires(target: Any) -> bool:
    """What is walked without `inputs`: everything but leaves that are none any more."""
    return isinstance(target, Node) or is_live(target)


def is_live(leaf: Any) -> bool:
    """Whether gradients are for this leaf: not if it was frozen, or its differentiation is over.

    A recomputation (modes.as_of) sees what its first run saw.
    """
    closed = leaf._closed
    return leaf._requires and (not closed or (modes.as_of is not None and closed > modes.as_of))


def _pull(node: Node, gs: list[Any], wanted: list[bool], linked: bool) -> list[Any]:
    try:
        results = node.pull(gs, wanted, linked)
    except Exception as error:
        if node.place and not getattr(error, "place", None):
            error.add_note(f"  while differentiating {node.title}, called at {node.place}")
        raise
    if modes.anomaly and modes.check_nan:
        _check_anomaly(node, results)
    return results


def _before(hooks: Hooks, gs: list[Any]) -> list[Any]:
    """The gradients of a node's outputs after the hooks on them."""
    for index, by_id in hooks.tensor.items():
        for hook in tuple(by_id.values()):
            if gs[index] is not None:
                changed = hook(gs[index])
                gs[index] = gs[index] if changed is None else changed
    for pre in tuple(hooks.pre.values()):
        changed = pre(tuple(gs))
        if changed is not None:
            gs = list(changed) if isinstance(changed, (tuple, list)) else [changed]
    for index, retain in hooks.retain.items():
        if gs[index] is not None:
            retain(gs[index])
    return gs


def _after(hooks: Hooks, results: list[Any], gs: list[Any]) -> list[Any]:
    for post in tuple(hooks.post.values()):
        changed = post(tuple(results), tuple(gs))
        if changed is not None:
            results = list(changed) if isinstance(changed, (tuple, list)) else [changed]
    return results


def leads_to(targets: Sequence[Any], wanted: set[int], since: int) -> Callable[[Any], bool]:
    """A predicate: whether one of the wanted targets is at or below a node."""
    known: dict[int, bool] = {}
    stack = list(targets)
    alive = list(stack)  # ids stay valid while the nodes are held
    while stack:
        node = stack[-1]
        if id(node) in known:
            stack.pop()
            continue
        if not isinstance(node, Node) or node.seq < since:
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


def reaches_outside(roots: Iterable[Any], inputs: Collection[int], since: int) -> bool:
    """Whether a tensor depends on a leaf not in `inputs` (ids) or on a node older than `since`."""
    stack = [edge_of(r)[0] for r in roots if r.requires_grad]
    known: set[int] = set()
    while stack:
        node = stack.pop()
        if id(node) in known or id(node) in inputs:
            continue
        if not isinstance(node, Node):
            if is_live(node):
                return True
        elif node.seq < since:
            return True
        else:
            known.add(id(node))
            stack.extend(e[0] for e in node.edges if e is not None)
    return False


def is_freed(root: Any) -> bool:
    """Whether a backward has walked nodes below `root` already and freed what they saved."""
    stack, known = [edge_of(root)[0]], set()
    while stack:
        node = stack.pop()
        if not isinstance(node, Node) or id(node) in known:
            continue
        if node.inputs is None:
            return True
        known.add(id(node))
        stack.extend(e[0] for e in node.edges if e is not None)
    return False


def _check_anomaly(node: Node, results: Sequence[Any]) -> None:
    for k, r in enumerate(results):
        array = getattr(r, "_payload", None)
        if isinstance(array, np.ndarray) and r.dtype.is_inexact:
            if np.isnan(array if r.dtype.is_complex else array.astype(np.float32)).any():
                raise GradError(
                    f"backward: the gradient of {node.title} for its input {k} has nan",
                    place=node.place,
                )


def seed(name: str, root: Any, gradient: Any) -> Any:
    """The cotangent that backward starts with: `gradient`, or 1 for a single element."""
    if not is_value(root):
        raise ArgumentTypeError(f"{name}: outputs must be tensors, got {type(root).__name__}")
    if not root.requires_grad:
        raise GradError(
            f"{name}: the tensor does not require a gradient and was not made from one that does"
        )
    if gradient is None:
        if root.numel() != 1:
            raise GradError(
                f"{name}: a gradient is needed for an output of shape {tuple(root.shape)}; "
                "only one with a single element starts from 1"
            )
        if root.dtype.is_complex:
            raise GradError(
                f"{name}: a gradient is needed for a complex output; only a real one starts from 1",
                hint="make the loss real, as by abs() or .real",
            )
        if is_meta(root._payload):
            return _rewrap[0](META.symbol(Aval(tuple(root.shape), root.dtype)), None, 0, False)
        payload = root._payload
        if type(payload) is np.ndarray and modes.trace is None and modes.steps is None:
            return _rewrap[0](np.ones(payload.shape, payload.dtype), None, 0, False)
        return Full(tuple(root.shape), root.dtype, 1)()
    if not is_value(gradient):
        raise ArgumentTypeError(f"{name}: gradient must be a tensor, got {type(gradient).__name__}")
    if tuple(gradient.shape) != tuple(root.shape):
        raise ShapeError(
            f"{name}: gradient has shape {tuple(gradient.shape)}, the output has "
            f"{tuple(root.shape)}"
        )
    return gradient if gradient.dtype is root.dtype else Cast(root.dtype)(gradient)
