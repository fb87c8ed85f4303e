"""Reverse mode: the tape that hangs on tensors. The one pass that walks it backward: walk.py.

Every differentiable operation on a tensor that requires a gradient leaves a Node; a tensor knows
the node that made it (`_node`, `_index`). The pass calls each op's `vjp`, whose operations go
through the door again: so a backward can be captured, batched, and differentiated once more.

Nodes keep payloads (arrays or symbols) with the version they had, not tensors: no reference cycles,
and a value overwritten in place is found out.
"""

from __future__ import annotations

import functools
import itertools
import weakref
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

import numpy as np

from ..core.dtype import BY_NUMPY, DType
from ..core.errors import ArgumentTypeError, GradError, Place, user_place
from ..core.modes import modes
from ..ir.op import Full, Op
from ..ops.composite import PLAIN, offer
from ..ops.movement import Copy
from ..ops.parts import conj
from .vmap import Batched

sequence = itertools.count()

# Set by tensor.py: make a tensor (payload, node, index, requires_grad); one that raises when read.
_rewrap: list[Callable[[Any, Any, int, bool], Any]] = []
_unreadable: list[Callable[[Any, GradError], Any]] = []


def install(rewrap: Callable, unreadable: Callable) -> None:
    """Tell the tape how to make a tensor from what it saved."""
    _rewrap[:] = [rewrap]
    _unreadable[:] = [unreadable]


class Like(tuple):
    """(shape, dtype) of a value that was not kept."""

    __slots__ = ()

    @property
    def shape(self) -> tuple[int, ...]:
        return self[0]

    @property
    def dtype(self) -> DType:
        d = self[1]
        return d if type(d) is DType else BY_NUMPY[d]

    @property
    def ndim(self) -> int:
        return len(self[0])


# Nonzero while some thread has hooks for saved values: `modes.saved_hooks`, of each thread.
hooking = [0]


class Packed:
    """What a hook gave for a value that a node keeps, and what makes it a value again."""

    __slots__ = ("given", "unpack", "shape", "dtype")

    def __init__(self, tensor: Any, hooks: tuple[Callable, Callable]):
        self.shape, self.dtype = tensor._payload.shape, tensor._payload.dtype
        pack, self.unpack = hooks
        plain = _rewrap[0](tensor._payload, None, 0, False)
        self.given = _without_hooks(pack, plain)

    def value(self) -> Any:
        """The tensor that `unpack` gives."""
        made = _without_hooks(self.unpack, self.given)
        if not hasattr(made, "_payload"):
            raise ArgumentTypeError(
                f"saved_tensors_hooks: unpack_hook must give a tensor, got {type(made).__name__}"
            )
        return made


def _without_hooks(function: Callable, value: Any) -> Any:
    """function(value), recorded on no tape and with nothing packed inside."""
    before = modes.grad, modes.saved_hooks
    modes.grad, modes.saved_hooks = False, None
    try:
        return function(value)
    finally:
        modes.grad, modes.saved_hooks = before


class Saved:
    """A tensor's value as it was when an operation used it (node None: an output of the owner)."""

    __slots__ = ("payload", "versions", "version", "node", "index", "requires_grad")

    def __init__(self, tensor: Any, node: Any = None, index: int = 0, requires_grad: bool = False):
        if tensor._inference:
            raise GradError(
                "a tensor made in inference_mode cannot be kept for a gradient",
                hint="clone() it outside of inference_mode, or make it under no_grad instead",
            )
        self.payload = tensor._payload
        self.versions = versions = tensor._version
        self.version = versions[0]
        self.node = node
        self.index = index
        self.requires_grad = requires_grad
        if hooking[0] and modes.saved_hooks is not None and type(self.payload) is np.ndarray:
            self.payload = Packed(tensor, modes.saved_hooks)

    def made_by(self, owner: Node) -> Saved:
        """An output of `owner` as another node keeps it."""
        made = Saved.__new__(Saved)
        made.payload, made.versions, made.version = self.payload, self.versions, self.version
        made.node, made.index, made.requires_grad = owner, self.index, self.requires_grad
        return made

    def restore(self, owner: Node, linked: bool) -> Any:
        """The value as a tensor, on the tape if `linked`. A stale one raises when it is read."""
        if type(self.payload) is Packed:  # what the hooks give: its versions are not ours
            return self._placed(owner, linked, self.payload.value()._value())
        if self.versions[0] != self.version:
            kind = Like((self.payload.shape, self.payload.dtype)).dtype.name
            error = GradError(
                f"backward: a value that {owner.title} needs was changed in place: "
                f"{kind} of shape {tuple(self.payload.shape)} is at version {self.versions[0]}, "
                f"version {self.version} was used",
                hint="write to a clone(), or run under mg.autograd.set_detect_anomaly(True) "
                "to see the forward line",
                place=owner.place,
            )
            return _unreadable[0](self.payload, error)
        made = self._placed(owner, linked, self.payload)
        if made is not self.node:
            made._version = self.versions
        return made

    def _placed(self, owner: Node, linked: bool, payload: Any) -> Any:
        if not linked or not self.requires_grad:
            return _rewrap[0](payload, None, 0, False)
        if self.node is not None and not isinstance(self.node, Node):
            return self.node  # a leaf tensor, itself
        return _rewrap[0](payload, self.node or owner, self.index, True)


@functools.cache
def vjp_of(kind: type[Op]) -> Callable:
    """The wanted results of an op's vjp as a function of values: g..., inputs..., outputs..."""

    def vjp(op: Op, wanted: tuple[bool, ...], *values: Any) -> Any:
        n = op.n_outputs
        gs, inputs, outs = values[:n], values[n:-n], values[-n:]
        if n == 1:
            results = op.vjp(gs[0], outs[0], *inputs)
        else:
            gs = tuple(_zeros(o) if g is None else g for g, o in zip(gs, outs))
            results = op.vjp(gs, outs, *inputs)
        found = [r() if type(r) is FunctionType else r for r, want in zip(results, wanted) if want]
        return found[0] if len(found) == 1 else tuple(found)

    vjp.__name__ = f"gradient of {kind.name}"
    return vjp


def _zeros(like: Any) -> Any:
    return Full(tuple(like.shape), like.dtype, 0)()


def _like(x: Any) -> Like | None:
    payload = getattr(x, "_payload", None)
    return None if payload is None else Like((payload.shape, payload.dtype))


def edge_of(tensor: Any) -> tuple[Any, int]:
    """Where the tensor's gradient flows: (node, output number), or (the leaf itself, 0)."""
    return (tensor, 0) if tensor._node is None else (tensor._node, tensor._index)


class Hooks:
    """Functions to call when a node's gradients are known."""

    __slots__ = ("tensor", "retain", "pre", "post")

    def __init__(self) -> None:
        self.tensor: dict[int, dict[int, Callable]] = {}  # output -> id -> hook(gradient)
        self.retain: dict[int, Callable] = {}  # output -> what retain_grad registered; runs last
        self.pre: dict[int, Callable] = {}  # hook(gradients of the outputs)
        self.post: dict[int, Callable] = {}  # hook(gradients of the inputs, of the outputs)


class Node:
    """One recorded operation. `edges[k]` is where the cotangent of input k goes, or None."""

    __slots__ = (
        "op", "edges", "inputs", "outs", "n_outputs", "seq", "place", "hooks", "recompute",
        "__weakref__",
    )  # fmt: skip

    def __init__(self, op: Op, args: Sequence[Any], outputs: Sequence[Any]):
        self.op = op
        self.seq = next(sequence)
        self.place: Place | None = user_place() if modes.anomaly else None
        self.hooks: Hooks | None = None
        self.recompute: Any = None  # transform/checkpoint.py
        saves, reads = op.saves, op.reads
        kept = saves == "all" or saves == "inputs"
        needed: tuple[int, ...] = ()
        if reads is not None:
            for a, wanted in zip(args, reads):
                if getattr(a, "_requires", False):
                    needed += wanted
        edges: list[Any] = []
        inputs: list[Any] = []
        for k, a in enumerate(args):
            payload = getattr(a, "_payload", None)
            edge = None
            if payload is None:
                inputs.append(a)
            else:
                if a._requires:
                    edge = (a, 0) if a._node is None else (a._node, a._index)
                if not kept or (reads is not None and k not in needed):
                    inputs.append(Like((payload.shape, payload.dtype)))
                elif edge is None:
                    inputs.append(Saved(a))
                else:
                    inputs.append(Saved(a, edge[0], edge[1], True))
            edges.append(edge)
        self.edges = tuple(edges)
        self.inputs: Any = inputs
        self.n_outputs = len(outputs)
        if saves == "all" or saves == "outputs":
            self.outs: Any = [Saved(o, None, i, True) for i, o in enumerate(outputs)]
        else:
            self.outs = [_like(o) for o in outputs]
        if modes.recorder is not None:
            modes.recorder.append(weakref.ref(self))

    @property
    def title(self) -> str:
        return self.op.name

    def name(self) -> str:
        """PyTorch's word for it: "MulBackward"."""
        return "".join(w[:1].upper() + w[1:] for w in self.title.split("_")) + "Backward"

    def __repr__(self) -> str:
        return f"<{self.name()}>"

    @property
    def next_functions(self) -> tuple:
        """(node, output number) for each input; a leaf has an AccumulateGrad, a constant None."""
        return tuple(
            (None, 0) if e is None else e if isinstance(e[0], Node) else (AccumulateGrad(e[0]), 0)
            for e in self.edges
        )

    def hooked(self) -> Hooks:
        if self.hooks is None:
            self.hooks = Hooks()
        return self.hooks

    def pull(self, gs: list[Any], wanted: list[bool], linked: bool) -> list[Any]:
        """Cotangents of the inputs (None where not wanted) from those of the outputs."""
        if self.inputs is None:
            raise _used_twice(self)
        if self.recompute is not None:
            self.recompute.fill()
        op = self.op
        if not modes.grad and op.has_long_vjp:
            made = self._pull_compiled(gs, wanted)
            if made is not None:
                return made
        inputs = [x.restore(self, linked) if type(x) is Saved else x for x in self.inputs]
        outs = [o.restore(self, linked) if type(o) is Saved else o for o in self.outs]
        if self.n_outputs == 1 and op.n_outputs == 1:
            results = op.vjp(gs[0], outs[0], *inputs)
        else:
            filled = [_zeros(o) if g is None and not op.takes_none else g for g, o in zip(gs, outs)]
            results = op.vjp(tuple(filled), tuple(outs), *inputs)
        return [
            None if not want else r() if type(r) is FunctionType else r
            for r, want in zip(results, wanted)
        ]

    def gives_fresh(self, r: Any, gs: list[Any], results: list[Any]) -> bool:
        """Whether nothing else holds the memory of r, one of the `results` of pull(gs)."""
        if r is None or not getattr(self.op, "fresh_cotangents", True):
            return False
        if any(type(s.payload) is Packed for s in self.kept()):
            return False
        mine = r._payload
        others = [g._payload for g in gs if g is not None]
        others += [s.payload for s in (*self.inputs, *self.outs) if type(s) is Saved]
        others += [o._payload for o in results if o is not None and o is not r]
        return sum(o is r for o in results) == 1 and all(mine is not p for p in others)

    def _pull_compiled(self, gs: list[Any], wanted: list[bool]) -> list[Any] | None:
        """`pull` as one compiled call, or None where vjp itself must run."""
        for x in self.inputs:
            if type(x) is not Like and (type(x) is not Saved or x.versions[0] != x.version):
                return None  # a number, which may be another at each step; a stale value
        for o in self.outs:
            if type(o) is Saved and o.versions[0] != o.version:
                return None
        values = [x.restore(self, False) if type(x) is Saved else x for x in self.inputs]
        values += [o.restore(self, False) if type(o) is Saved else o for o in self.outs]
        kind: Any = type(self.op)
        found = offer(vjp_of(kind), self.op, tuple(wanted), *gs, *values)
        if found is PLAIN:
            return None
        if type(found) is not tuple:
            found = (found,)
        given = iter(found)
        return [next(given) if want else None for want in wanted]

    def replayed(self, me: Any, create_graph: bool) -> Sequence[np.ndarray] | None:
        """For structure.read: arrays that `pull` reads besides; None: this is not for replaying."""
        return ()

    def blank(self) -> None:
        """Complete a copy without values of its own, for a pull on the tape (replay.py)."""

    def kept(self) -> list[Saved]:
        """The values kept for `pull`."""
        return [s for s in (*(self.inputs or ()), *(self.outs or ())) if type(s) is Saved]

    def forget(self) -> None:
        """Drop the saved values, which `adopt` will bring back (transform/checkpoint.py)."""
        for s in self.kept():
            s.payload = None

    def adopt(self, other: Node) -> None:
        """Take over the values saved by `other`, the same operation done again."""
        for mine, new in zip(self.kept(), other.kept()):
            mine.payload = new.payload
            if mine.versions is not new.versions:  # made inside; others must not have been written
                mine.versions, mine.version = new.versions, new.version

    def release(self) -> None:
        """Let go of saved values; a node that saved none can be walked again."""
        for s in self.inputs:
            if type(s) is Saved:
                break
        else:
            for s in self.outs:
                if type(s) is Saved:
                    break
            else:
                return
        self.inputs = self.outs = self.recompute = None


class ComplexNode(Node):
    """An operation with a complex result whose vjp is that of a holomorphic function.

    The gradient of a real loss is the conjugate Wirtinger derivative, as in PyTorch: g conj(f'(z)).
    The rules of ops say g f'(z), for real and complex numbers alike; so both ends are conjugated.
    """

    __slots__ = ()

    def pull(self, gs: list[Any], wanted: list[bool], linked: bool) -> list[Any]:
        made = super().pull([None if g is None else conj(g) for g in gs], wanted, linked)
        return [None if g is None else conj(g) for g in made]

    def gives_fresh(self, r: Any, gs: list[Any], results: list[Any]) -> bool:
        return r is not None and r.dtype.is_complex and sum(o is r for o in results) == 1


def keep_saved(result: Any, target: Any, since: int) -> None:
    """Let nodes made since number `since` keep copies of `target`, about to be overwritten.

    So that an in-place operation does not spoil what it has saved itself. `result` is the tensor
    that will be written into `target`.
    """
    versions = target._version
    if type(target._payload) is Batched and type(result._payload) is Batched:
        keep_saved(result._payload.value, target._payload.value, since)
    if result._node is None:
        return
    copies: dict[int, Any] = {}
    seen: set[int] = set()
    stack = [result._node]
    while stack:
        node = stack.pop()
        if not isinstance(node, Node) or node.seq < since or id(node) in seen:
            continue
        seen.add(id(node))
        stack.extend(e[0] for e in node.edges if e is not None)
        for s in node.inputs or ():
            if type(s) is Saved and s.versions is versions:
                if id(s.payload) not in copies:
                    copies[id(s.payload)] = s.payload, _payload_copy(s.payload)
                s.payload, s.versions = copies[id(s.payload)][1], [s.version]


def _payload_copy(payload: Any) -> Any:
    if type(payload) is Batched:
        return Batched(Copy()(payload.value), payload.dim, payload.level)
    return payload.copy() if hasattr(payload, "__array_interface__") else payload


def next_number() -> int:
    """The number that the next node may have at least."""
    return next(sequence)


class AccumulateGrad:
    """What `next_functions` shows for a leaf; `variable` is the leaf."""

    __slots__ = ("variable",)

    def __init__(self, variable: Any):
        self.variable = variable

    next_functions = ()

    def name(self) -> str:
        return "AccumulateGrad"

    def __repr__(self) -> str:
        return "<AccumulateGrad>"


def _used_twice(node: Node) -> GradError:
    return GradError(
        f"backward: the values saved by {node.title} were freed by an earlier backward",
        hint="give retain_graph=True to the first backward to walk the graph again",
        place=node.place,
    )
