"""The graph: a straight list of op applications on values; what tracing makes and passes rewrite.

    graph = Graph()
    x = graph.input(Aval((4, 8), float32))
    y = graph.add(Exp(), x)
    graph.outputs = [y]

Values are single-assignment. Node inputs are Values or Python numbers. Read next: text.py (print
and
parse), verify.py, evaluate.py (the slow meaning).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..core.errors import Place
from .op import Aval, Op


class Value:
    """One value of a graph. `node` is None for inputs and constants."""

    __slots__ = ("aval", "node", "name")

    def __init__(self, aval: Aval, node: Node | None = None, name: str = ""):
        self.aval = aval
        self.node = node
        self.name = name

    @property
    def shape(self) -> tuple[int, ...]:
        return self.aval.shape

    @property
    def dtype(self) -> Any:
        return self.aval.dtype

    @property
    def ndim(self) -> int:
        return len(self.aval.shape)

    def __repr__(self) -> str:
        return f"<{self.name or 'value'}: {self.aval!r}>"


class Node:
    """outputs = op(*inputs), written by the user at `place`."""

    __slots__ = ("op", "inputs", "outputs", "place")

    def __init__(self, op: Op, inputs: tuple[Any, ...], place: Place | None = None):
        self.op = op
        self.inputs = inputs
        self.place = place
        avals = op.infer(*inputs)
        avals = avals if isinstance(avals, tuple) else (avals,)
        self.outputs = tuple(Value(a, self) for a in avals)

    def on(self, inputs: tuple[Any, ...]) -> Node:
        """The same on other inputs, of the same shapes and dtypes."""
        made = object.__new__(Node)
        made.op, made.inputs, made.place = self.op, inputs, self.place
        made.outputs = tuple([Value(v.aval, made) for v in self.outputs])
        return made

    @property
    def values(self) -> list[Value]:
        """The inputs that are values."""
        return [v for v in self.inputs if isinstance(v, Value)]

    def __repr__(self) -> str:
        return f"<{self.op.name} {self.op.params()}>"


class Graph:
    """inputs, constants (value -> array), nodes in executable order, outputs."""

    __slots__ = ("inputs", "constants", "nodes", "outputs")

    def __init__(self) -> None:
        self.inputs: list[Value] = []
        self.constants: dict[Value, Any] = {}
        self.nodes: list[Node] = []
        self.outputs: list[Value] = []

    def input(self, aval: Aval, name: str = "") -> Value:
        value = Value(aval, None, name)
        self.inputs.append(value)
        return value

    def constant(self, array: Any, aval: Aval) -> Value:
        value = Value(aval)
        self.constants[value] = array
        return value

    def add(self, op: Op, *inputs: Any, place: Place | None = None) -> Any:
        """Append a node; returns its Value, or a tuple of Values for several outputs."""
        node = Node(op, inputs, place)
        self.nodes.append(node)
        return node.outputs[0] if op.n_outputs == 1 else node.outputs

    def users(self) -> dict[Value, list[Node]]:
        """value -> nodes that read it (once per reading)."""
        found: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for v in node.values:
                found.setdefault(v, []).append(node)
        return found

    def copy(self, nodes: Iterable[Node] | None = None) -> Graph:
        """A shallow copy (values and nodes are shared) with `nodes` if given."""
        other = Graph()
        other.inputs = list(self.inputs)
        other.constants = dict(self.constants)
        other.nodes = list(self.nodes if nodes is None else nodes)
        other.outputs = list(self.outputs)
        return other

    def __repr__(self) -> str:
        from .text import format_graph

        return format_graph(self)
