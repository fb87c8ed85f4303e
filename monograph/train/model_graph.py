"""The graph of a model's layers: which layer's output goes into which, and in what shapes.

The model is captured as `mg.jit` would do it, with a hook on each layer; the captured operations
then say how values went from one layer to the next. Nothing is computed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

import monograph as mg

from ..capture import Capture, Jit
from ..core import pytree
from ..core.errors import ArgumentTypeError
from ..ir.graph import Value
from ..nn import Module
from ..transform.trace import Symbol
from .steps import with_index

# Operations that say little on an edge.
SILENT = {"detach", "cast", "convert", "reshape", "expand", "permute", "copy", "check_classes"}


@dataclass
class Layer:
    """A call of a layer, an input, or the result.

    name        as in named_modules(); "input", "input 1", ...; "output"
    kind        the class, "" for inputs and the output
    shape       of its output, as text
    parameters  elements of its own
    row         1 + the largest row of what it receives (0 for inputs): where to draw it
    column      its place within the row
    """

    name: str
    kind: str
    shape: str
    parameters: int = 0
    row: int = 0
    column: int = 0


@dataclass
class Edge:
    """Values that go from one layer (its number) to another, through operations between."""

    source: int
    target: int
    through: str = ""


@dataclass
class ModelGraph:
    """Layers in the order in which they were called, and the edges between them."""

    layers: list[Layer] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Lists and dicts, for JSON."""
        return asdict(self)


class _Traced(Capture):
    """A capture that is not compiled."""

    def compile(self) -> None:
        pass


def model_graph(model: Any, batch: Any, training: bool = False) -> ModelGraph:
    """The graph of a model's layers for a batch.

    model     a Module, which is called with the batch
    batch     tensors or arrays, or lists, tuples and dicts of them; only shapes and dtypes matter
    training  take the training_step of a TrainModule that a Trainer runs: the output is the loss

    TraceError if the model cannot be captured.

    >>> from monograph import nn
    >>> graph = model_graph(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), mg.zeros(2, 4))
    >>> [layer.name for layer in graph.layers]
    ['input', '0', '1', 'output']
    >>> [(edge.source, edge.target) for edge in graph.edges]
    [(0, 1), (1, 2), (2, 3)]
    """
    if not isinstance(model, Module):
        raise ArgumentTypeError(f"model_graph: needs a Module, got {type(model).__name__}")
    step: Callable = (lambda b: with_index(model.training_step)(b, 0)) if training else model
    leaves, structure = pytree.flatten(batch)
    leaves = [mg.as_tensor(x) if isinstance(x, np.ndarray) else x for x in leaves]
    recorder = _Recorder()
    hooks = [
        part.register_forward_hook(recorder.hook(name or type(part).__name__))
        for name, part in model.named_modules()
        if next(iter(part.children()), None) is None
    ]

    def run(*given: Any) -> Any:
        recorder.begin(given)
        result = step(structure.unflatten(given))
        if training and isinstance(result, dict):
            result = result.get("loss")
        recorder.end(result)
        return result

    try:
        _Traced(Jit(run), leaves, pytree.flatten((tuple(leaves), {}))[1], set())
    finally:
        for hook in hooks:
            hook.remove()
    return recorder.graph


class _Recorder:
    """Builds the graph while the model is captured."""

    def __init__(self) -> None:
        self.graph = ModelGraph()
        self.made: dict[Value, int] = {}  # value -> the layer that gave it

    def begin(self, given: Any) -> None:
        tensors = [x for x in given if isinstance(x, mg.Tensor)]
        for i, x in enumerate(tensors):
            name = "input" if len(tensors) == 1 else f"input {i}"
            self._add(Layer(name, "", str(tuple(x.shape))), [], [x])

    def hook(self, name: str) -> Callable:
        def look(part: Any, inputs: Any, output: Any) -> None:
            tensors = [x for x in pytree.tree_leaves(output) if isinstance(x, mg.Tensor)]
            shape = ", ".join(str(tuple(x.shape)) for x in tensors)
            count = sum(p.numel() for p in part.parameters(recurse=False))
            given = [x for x in pytree.tree_leaves(inputs) if isinstance(x, mg.Tensor)]
            self._add(Layer(name, type(part).__name__, shape, count), given, tensors)

        return look

    def end(self, result: Any) -> None:
        tensors = [x for x in pytree.tree_leaves(result) if isinstance(x, mg.Tensor)]
        shape = ", ".join(str(tuple(x.shape)) for x in tensors)
        self._add(Layer("output", "", shape), tensors, [])
        width: dict[int, int] = {}
        for layer in self.graph.layers:
            layer.column = width.get(layer.row, 0)
            width[layer.row] = layer.column + 1

    def _add(self, layer: Layer, given: list[Any], made: list[Any]) -> None:
        number = len(self.graph.layers)
        edges: dict[int, list[str]] = {}
        for x in given:
            if isinstance(x._value(), Symbol):
                for source, through in self._sources(x._value().value):
                    edges.setdefault(source, []).extend(through)
        for source, through in edges.items():
            names = ", ".join(dict.fromkeys(through))
            self.graph.edges.append(Edge(source, number, names))
            layer.row = max(layer.row, self.graph.layers[source].row + 1)
        self.graph.layers.append(layer)
        for x in made:
            # A layer that passes its input on (Identity) has given it, for those that come next.
            if isinstance(x._value(), Symbol):
                self.made[x._value().value] = number

    def _sources(self, value: Value) -> list[tuple[int, list[str]]]:
        """(layer, operations between) of the layers that a value is made of."""
        found: dict[int, list[str]] = {}
        stack, seen = [(value, [])], set()
        while stack:
            at, through = stack.pop()
            if at in self.made:
                kept = found.setdefault(self.made[at], [])
                kept.extend(name for name in through if name not in kept)
                continue
            if at in seen or at.node is None:
                continue
            seen.add(at)
            name = at.node.op.name
            further = through if name in SILENT or name in through else [name, *through]
            stack.extend((x, further) for x in at.node.inputs if isinstance(x, Value))
        return list(found.items())
