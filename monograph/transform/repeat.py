"""The same operations on one row of tensors after another, captured once for rows that are alike.

An optimizer updates each parameter by the same formula. Recording it anew for each took most of
the time of capturing a training step; rows of equal shapes and dtypes take the nodes of the first
such row again, on values of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..core.modes import modes
from ..ir.graph import Node, Value
from .trace import Symbol, Trace


def repeated(function: Callable[..., None], rows: Iterable[tuple[Any, ...]]) -> None:
    """function(*row) for each row of tensors.

    It may overwrite tensors of its row, and nothing else; what else it reads must be the same for
    all rows. No gradient is recorded.
    """
    trace = modes.trace
    if trace is None or trace.inner or modes.vmap is not None or modes.grad:
        for row in rows:
            function(*row)
        return
    known: dict[Any, _Recorded] = {}
    for row in rows:
        kind = _kind(trace, row)
        if kind is None:
            function(*row)
        elif kind in known:
            known[kind].again(trace, row)
        else:
            made = _record(trace, function, row)
            if made is not None:
                known[kind] = made


def _kind(trace: Trace, row: tuple[Any, ...]) -> Any:
    """What rows must have in common; None for a row with views, or with the same tensor twice."""
    if len(set(map(id, row))) < len(row):
        return None
    facts = []
    for t in row:
        payload = getattr(t, "_payload", None)
        if type(payload) is Symbol:
            if payload.trace is not trace:
                return None
        elif type(payload) is not np.ndarray:
            return None
        if t._base is not None:
            return None
        facts.append((type(t), tuple(t.shape), t.dtype))
    return tuple(facts)


class _Recorded:
    """The nodes of one row.

    given    the values of the row's tensors before
    written  (position in the row, its value at the end, how often it was written)
    """

    def __init__(
        self, nodes: list[Node], given: list[Value], written: list[tuple[int, Value, int]]
    ):
        self.nodes, self.given, self.written = nodes, given, written

    def again(self, trace: Trace, row: tuple[Any, ...]) -> None:
        new = {v: trace.lift(t).value for v, t in zip(self.given, row)}
        for node in self.nodes:
            inputs = tuple([new.get(i, i) if type(i) is Value else i for i in node.inputs])
            made = node.on(inputs)
            trace.graph.nodes.append(made)
            new.update(zip(node.outputs, made.outputs))
        for k, value, times in self.written:
            row[k]._payload = Symbol(trace, new.get(value, value))
            row[k]._version[0] += times


def _record(trace: Trace, function: Callable[..., None], row: tuple[Any, ...]) -> _Recorded | None:
    """function(*row), and how to do it again; None if it met tensors or values for the first time,
    which may not be those of the next row, or overwrote others than the row's."""
    given = [trace.lift(t).value for t in row]
    versions = [t._version[0] for t in row]
    first, before = len(trace.graph.nodes), _touched(trace, row)
    function(*row)
    if _touched(trace, row) != before:
        return None
    written = []
    for k, (t, v, version) in enumerate(zip(row, given, versions)):
        if t._payload.value is not v:
            written.append((k, t._payload.value, t._version[0] - version))
    return _Recorded(trace.graph.nodes[first:], given, written)


def _touched(trace: Trace, row: tuple[Any, ...]) -> tuple[Any, ...]:
    """How much the trace has met so far, and what tensors outside of the row hold."""
    mine = set(map(id, row))
    others = [c.tensor._payload for c in trace.captured if id(c.tensor) not in mine]
    return (
        others, len(trace.captured), len(trace.guards), len(trace.scalars),
        len(trace.grads), len(trace.graph.inputs), len(trace._views), len(trace.rebound),
    )  # fmt: skip
