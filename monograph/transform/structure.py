"""What a tape looks like: the key under which a backward pass is known (replay.py).

Two tapes with one key do the same to arrays, whichever arrays they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.dtype import get_default_dtype
from ..core.modes import modes
from . import tape, walk
from .tape import Like, Node, Saved

MOST_ELEMENTS = 1 << 22  # saved by a tape above which arithmetic takes the time, and memory counts
MOST_NODES = 4096

KINDS: set[type] = {Node}  # classes of nodes that are read


def reads(kind: type[Node]) -> type[Node]:
    """Let nodes of this class be read: `pull` acts on arrays through the door or Recorder.call."""
    KINDS.add(kind)
    return kind


class Tape:
    """What is read of a tape: its key, and what a program for it is given."""

    __slots__ = ("key", "nodes", "arrays", "values", "slots", "mids", "leaves", "seeds", "index")

    key: tuple
    nodes: list[Node]  # in the order of reading
    leaves: list[Any]
    index: dict[int, int]  # id of a node -> where it is in `nodes`; of the k'th leaf -> -2 - k
    arrays: list[np.ndarray]  # saved values and seeds
    values: list[Any]  # for each array (its Saved, the owner of that), a seed, or None
    slots: dict[tuple, int]  # (id of an array, id of where its gradient goes, number) -> its index
    mids: list[Any]  # nodes whose intermediate results are at hand
    seeds: list[int]  # which of the arrays they are


def read(
    roots: Sequence[Any], gradients: Sequence[Any], inputs: Sequence[Any] | None,
    create_graph: bool, linked: bool, since: int,
) -> Tape | None:  # fmt: skip
    """The tape below the roots; None where it is not for replaying.

    Shapes and dtypes are read of leaves and of constants; those of results follow.
    """
    me = Tape()
    nodes: list[Node] = []
    leaves: list[Any] = []
    index: dict[int, int] = {}
    arrays: list[np.ndarray] = []
    values: list[Any] = []
    slots: dict[tuple, int] = {}
    me.nodes, me.leaves, me.index = nodes, leaves, index
    me.arrays, me.values, me.slots = arrays, values, slots
    me.mids, me.seeds = [], []
    same: dict[int, int] = {}  # id of an array -> the first slot it has
    total = 0
    key: list[Any] = [inputs is None, create_graph, linked, get_default_dtype(), modes.inference]
    ids, known, array, saved = index.get, slots.get, np.ndarray, Saved

    for r in roots:
        n = r._node
        i = ids(id(n))
        if i is None:
            i = index[id(n)] = len(nodes)
            nodes.append(n)
        key += i, r._index
    for n in nodes:  # which grows
        kind, op, outs = type(n), n.op, n.outs
        if kind not in KINDS or n.hooks is not None or n.recompute is not None or outs is None:
            return None
        if kind is Node:
            key.append(op.__class__)
            if op.__dict__:
                key += op.__dict__.values()
        else:
            extra = n.replayed(me, create_graph)
            if extra is None:
                return None
            for a in extra:
                slots[id(a), 0, 0] = len(arrays)
                arrays.append(a)
                values.append(None)
                total += a.size
            key += op, len(me.mids), len(arrays)
            if create_graph:
                outs = ()  # what is pulled on the tape reads the arguments alone
        for e, x in zip(n.edges, n.inputs):
            if e is not None:
                t, number = e
                i = ids(id(t))
                if i is None:
                    if not isinstance(t, Node):
                        i = index[id(t)] = -2 - len(leaves)
                        leaves.append(t)
                        p = t._payload
                        key += walk.is_live(t), p.shape, p.dtype
                    elif t.seq < since:
                        i = -1
                    else:
                        i = index[id(t)] = len(nodes)
                        nodes.append(t)
                key += i, number
            if type(x) is saved:
                p = x.payload
                if linked and x.requires_grad:
                    where = id(p), id(n if x.node is None else x.node), x.index
                else:
                    where = id(p), 0, 0
                k = known(where)
                if k is None:
                    if type(p) is not array:
                        return None
                    k = slots[where] = len(arrays)
                    arrays.append(p)
                    values.append((x, n))
                    total += p.size
                    key.append(same.setdefault(id(p), k))
                if x.versions[0] != x.version:
                    return None
                key.append(k)
                if e is None:
                    key += None, p.shape, p.dtype
            elif e is None:
                if type(x) is Like:
                    key += None, x  # shape and dtype
                else:
                    key += type(x), x if x else str(x)  # 0.0 is not -0.0
        for i, o in enumerate(outs):
            if type(o) is saved:
                p = o.payload
                where = (id(p), id(n), i) if linked else (id(p), 0, 0)
                k = known(where)
                if k is None:
                    if type(p) is not array:
                        return None
                    k = slots[where] = len(arrays)
                    arrays.append(p)
                    values.append((o, n))
                    total += p.size
                    key.append(same.setdefault(id(p), k))
                if o.versions[0] != o.version:
                    return None
                key.append(k)
        if total > MOST_ELEMENTS or len(nodes) > MOST_NODES:
            return None
    for g in gradients:
        p = g._value()
        if type(p) is not array or g._inference:
            return None
        k = len(arrays)
        key += create_graph and g._requires, same.setdefault(id(p), k), p.shape, p.dtype
        me.seeds.append(k)
        arrays.append(p)
        values.append(g)
    for t in inputs or ():
        key += position(me, t)
    me.key = tuple(key)
    return me


def position(me: Tape, t: Any) -> tuple[int, int]:
    """Where a tensor's gradient comes out: (node or leaf, number); (-1, 0) where nowhere."""
    target, number = tape.edge_of(t)
    return me.index.get(id(target), -1), number
