"""Inference on a large batch, a few images at a time.

Between the layers of a network with convolutions stand images that together are larger than any
cache: each layer writes them to memory and the next one reads them again. Where images do not
depend on each other, the network may as well run on a few of them, then on the next few:
`loop_over_blocks` makes such a loop (a Scan, control.py) of a graph's middle, with blocks of images
that stay in the last cache. What is made of weights alone is made once for all blocks.

A value is *split* if its first axis belongs to the images in equal parts, one after another.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from ..core.symbolic import is_symbolic
from ..ir.graph import Graph, Node, Value
from ..ir.op import Full
from ..ir.region import Region, regions_of
from ..ops.movement import Expand, Reshape
from ..runtime.machine import cache_sizes
from ..transform.control import Scan
from .simplify import remove_dead

# Bytes that what a layer reads and writes may take: half of the last cache, within these limits.
# (Virtual machines report caches that they share with many others.)
LEAST_BYTES, MOST_BYTES = 4 << 20, 48 << 20
# Multiply-adds of a block, at least: below, threads wait for each other too often.
BLOCK_PRODUCTS = 200_000_000
# Traffic of images between layers, over that of the weights which each block reads again.
WORTH = 4
# Opaque ops that treat each index of their first axis alone: positions of split operands.
ALONE = {"conv": (0,), "conv_input": (0,), "max_pool": (0,)}
# Opaque ops along an axis, which may be any but the first, and operands that are all alike.
ALONG_AXIS = {"concat", "split", "cumsum", "cumprod", "log_cumsum_exp", "sort", "top_k"}


def loop_over_blocks(graph: Graph, steady: Collection[Value]) -> Graph:
    """Let images go through the network in blocks, if there is enough of it between layers.

    Before:  graph(%0: f32[64, 3, 224, 224], %1: f32[32, 3, 3, 3], ...)
             ...
             return %9
    After:   graph(%0: f32[64, 3, 224, 224], %1: f32[32, 3, 3, 3], ...) {
               %2: f32[8, 8, 3, 224, 224] = reshape(%0) shape=(8,8,3,224,224)
               %3: f32[8, 8, 1000] = scan(%1, ..., %2) body=@0 length=8 consts=1 carries=0
               %4: f32[64, 1000] = reshape(%3) shape=(64,1000)
               return %4
             }
    `steady` inputs are the same in every call. Results have the same bits as those of the graph for
    a batch of a block's size. Requires: simplify.
    """
    if any(regions_of(node.op) for node in graph.nodes):
        return graph
    images = _images(graph, steady)
    if images < 2:
        return graph
    middle = _Middle(graph, steady, images)
    blocks = middle.blocks()
    return graph if blocks < 2 else middle.looped(blocks)


def _images(graph: Graph, steady: Collection[Value]) -> int:
    """Size of the batch: the first axis of the largest input; 0 where there is nothing to gain."""
    if not any(node.op.name == "conv" for node in graph.nodes):
        return 0
    given = [v for v in graph.inputs if v not in steady and len(v.shape) > 2]
    if not given or not steady:
        return 0
    shape = max(given, key=lambda v: v.aval.size).shape
    return 0 if any(is_symbolic(n) for n in shape) else shape[0]


def _bytes(v: Value) -> int:
    return v.aval.size * v.dtype.itemsize


def _has_memory(node: Node) -> bool:
    """Whether a node's results are likely to stand in memory."""
    return node.op.kind in ("contraction", "opaque", "reduction") or node.op.name == "pad"


class _Middle:
    """The nodes of a graph whose results are split, and what they read.

    split   values: inputs of the graph and results of `nodes`
    loose   values that depend on none of them
    """

    def __init__(self, graph: Graph, steady: Collection[Value], images: int):
        self.graph, self.images = graph, images
        given = [v for v in graph.inputs if v not in steady]
        self.split = {v for v in given if v.shape and v.shape[0] == images}
        self.loose = {*graph.inputs, *graph.constants} - self.split
        self.nodes: list[Node] = []
        for node in graph.nodes:
            if self.loose.issuperset(node.values):
                self.loose.update(node.outputs)
            elif self.split.union(self.loose).issuperset(node.values):
                if self._narrow(node, images) is not None:
                    self.nodes.append(node)
                    self.split.update(node.outputs)
        inside = set(self.nodes)
        read = {v for node in graph.nodes if node not in inside for v in node.values}
        read.update(graph.outputs)
        self.results = [v for node in self.nodes for v in node.outputs if v in read]

    def blocks(self) -> int:
        """How many blocks; 1 if they would not pay."""
        heavy = [node for node in self.nodes if _has_memory(node)]
        between = sum(_bytes(v) for node in heavy for v in node.outputs)
        if not heavy or 4 * sum(map(_bytes, self.results)) > between:
            return 1
        widest = max(
            sum(_bytes(v) for v in (*node.values, *node.outputs) if v in self.split)
            for node in heavy
        )
        room = max(LEAST_BYTES, min(MOST_BYTES, cache_sizes().l3 // 2))
        if widest <= room:
            return 1
        weights = sum(_bytes(v) for v in {v for n in heavy for v in n.values} & self.loose)
        products = sum(_products(node) for node in heavy)
        fitting = 1
        for blocks in range(2, self.images + 1):
            if self.images % blocks == 0 and products >= blocks * BLOCK_PRODUCTS:
                if WORTH * blocks * weights <= 2 * between:
                    fitting = blocks
                    if widest <= blocks * room:
                        break
        return fitting

    # Nodes for a part of the images

    def _narrow(self, node: Node, blocks: int) -> Any:
        """The op that makes one of `blocks` parts of a node's results; None: there is none."""
        op: Any = node.op
        places = [i for i, v in enumerate(node.inputs) if isinstance(v, Value) and v in self.split]
        kind, shape = op.kind, node.outputs[0].shape
        if not shape or any(not v.shape or v.shape[0] % self.images for v in node.outputs):
            return None
        if kind == "elementwise":
            return op
        if kind == "reduction":
            return None if 0 in op.axes else op
        if kind == "contraction":
            x, y, out = op.parts()
            letters = {(x, y)[i][0] for i in places}
            others = [(x, y)[i] for i in (0, 1) if i not in places]
            alone = letters == {out[0]} and not any(out[0] in o for o in others)
            return op if alone and all((x, y)[i].count(out[0]) == 1 for i in places) else None
        if kind == "movement":
            return _NARROWED.get(op.name, _no)(op, node.inputs[0].shape, shape[0] // blocks)
        if op.name in ALONE:
            return op if tuple(places) == ALONE[op.name] else None
        if op.name == "attention":  # a mask may be the same for all
            same = all(i in places or (i == 3 and v.shape[0] == 1)
                       for i, v in enumerate(node.values))  # fmt: skip
            return op if same else None
        if op.name in ALONG_AXIS:
            return None if op.axis == 0 else op
        return None

    def looped(self, blocks: int) -> Graph:
        """The graph with a loop over blocks instead of the nodes."""
        result = self.graph.copy([])
        inside = _Body(self, blocks)
        for node in self.nodes:
            inside.add(node)
        body = inside.finished([inside.of[v] for v in self.results])
        mine = set(self.nodes)
        made: dict[Value, Value] = {v: v for v in (*self.graph.inputs, *self.graph.constants)}

        def take(node: Node) -> None:
            inputs = (made[v] if isinstance(v, Value) else v for v in node.inputs)
            out = result.add(node.op, *inputs, place=node.place)
            made.update(zip(node.outputs, out if isinstance(out, tuple) else (out,)))

        def loop() -> None:
            xs = [
                result.add(Reshape((blocks, v.shape[0] // blocks, *v.shape[1:])), made[v])
                for v in inside.xs
            ]
            scan = Scan(Region(body), blocks, len(inside.consts), 0)
            place = next((n.place for n in self.nodes if n.place is not None), None)
            out = result.add(scan, *(made[v] for v in inside.consts), *xs, place=place)
            for v, stacked in zip(self.results, out if isinstance(out, tuple) else (out,)):
                made[v] = result.add(Reshape(v.shape), stacked)

        before = [node for node in self.graph.nodes if self.loose.issuperset(node.outputs)]
        for node in before:
            take(node)
        loop()
        for node in self.graph.nodes:
            if node not in mine and not self.loose.issuperset(node.outputs):
                take(node)
        result.outputs = [made[v] for v in self.graph.outputs]
        return remove_dead(result)


class _Body:
    """The graph of one block, as it grows.

    consts  values of the graph outside that each block reads whole
    xs      values of the graph outside of which each block reads a part
    """

    def __init__(self, middle: _Middle, blocks: int):
        self.middle, self.blocks = middle, blocks
        self.graph = Graph()
        self.of: dict[Value, Any] = {}  # parts of split values
        self.whole: dict[Value, Any] = {}
        self.part: dict[Value, Any] = {}  # parts of loose values
        self.consts: list[Value] = []
        self.xs: list[Value] = []
        self.given: dict[Value, Value] = {}

    def add(self, node: Node) -> None:
        op = self.middle._narrow(node, self.blocks)
        takes_parts = op.kind == "elementwise" or op.name in ALONG_AXIS
        inputs = []
        for v in node.inputs:
            if not isinstance(v, Value):
                inputs.append(v)
            elif v in self.middle.split:
                if v not in self.of:
                    self.of[v] = self._slice(v)
                inputs.append(self.of[v])
            else:
                inputs.append(self._part(v) if takes_parts else self._whole(v))
        out = self.graph.add(op, *inputs, place=node.place)
        self.of.update(zip(node.outputs, out if isinstance(out, tuple) else (out,)))

    def _slice(self, v: Value) -> Value:
        self.xs.append(v)
        made = Value(replace(v.aval, shape=(v.shape[0] // self.blocks, *v.shape[1:])))
        self.given[v] = made
        return made

    def _whole(self, v: Value) -> Value:
        """A loose value inside: views and numbers are made there, all else comes as it is."""
        if v not in self.whole:
            if v.node is None or v.node.op.kind not in ("movement", "source"):
                self.consts.append(v)
                self.whole[v] = Value(v.aval)
            else:
                inputs = (self._whole(u) if isinstance(u, Value) else u for u in v.node.inputs)
                self.whole[v] = self.graph.add(v.node.op, *inputs, place=v.node.place)
        return self.whole[v]

    def _part(self, v: Value) -> Value:
        """A block's part of a loose value."""
        if v in self.part:
            return self.part[v]
        node = v.node
        op: Any = None if node is None else node.op
        size = v.shape[0] // self.blocks
        if isinstance(op, Expand) and 0 in op.axes:
            narrow = replace_fields(op, shape=(size, *op.shape[1:]))
            made = self.graph.add(narrow, self._whole(node.inputs[0]))  # type: ignore[union-attr]
        elif isinstance(op, Full):
            made = self.graph.add(replace_fields(op, shape=(size, *op.shape[1:])))
        elif op is not None and op.kind == "elementwise":
            inputs = (
                self._part(u) if isinstance(u, Value) else u
                for u in node.inputs  # type: ignore[union-attr]
            )
            made = self.graph.add(op, *inputs)
        else:
            made = self._slice(v)
        self.part[v] = made
        return made

    def finished(self, outputs: list[Value]) -> Graph:
        self.graph.inputs = [self.whole[v] for v in self.consts]
        self.graph.inputs += [self.given[v] for v in self.xs]
        self.graph.outputs = outputs
        return self.graph


def replace_fields(op: Any, **fields: Any) -> Any:
    """The op with other parameters."""
    return type(op)(**{**{name: getattr(op, name) for name in op._fields}, **fields})


def _products(node: Node) -> int:
    """Multiply-adds of a convolution or contraction, about."""
    out, op = node.outputs[0], node.op
    if op.name == "conv":
        w = node.inputs[1]
        return out.aval.size * (w.aval.size // w.shape[0])  # type: ignore[no-any-return]
    if op.kind == "contraction":
        x, _, letters = op.parts()  # type: ignore[attr-defined]
        total = out.aval.size
        for letter, n in zip(x, node.inputs[0].shape):
            total *= 1 if letter in letters else n
        return total
    return 0


# Movements: (op, shape of the operand, size of the first axis of the part) -> op or None.


def _no(op: Any, shape: tuple[int, ...], size: int) -> Any:
    return None


def _reshape(op: Any, shape: tuple[int, ...], size: int) -> Any:
    return Reshape((size, *op.shape[1:]))


def _slice(op: Any, shape: tuple[int, ...], size: int) -> Any:
    if (op.start[0], op.stop[0], op.step[0]) != (0, shape[0], 1):
        return None
    return replace_fields(op, stop=(size, *op.stop[1:]))


def _same(fixed: Callable[[Any], bool]) -> Callable[..., Any]:
    return lambda op, shape, size: op if fixed(op) else None


_NARROWED: dict[str, Callable[..., Any]] = {
    "reshape": _reshape,
    "slice": _slice,
    "permute": _same(lambda op: op.order[0] == 0),
    "expand": lambda op, shape, size: (
        None if 0 in op.axes else replace_fields(op, shape=(size, *op.shape[1:]))
    ),
    "pad": _same(lambda op: op.low[0] == op.high[0] == op.interior[0] == 0),
    "flip": _same(lambda op: 0 not in op.axes),
    "copy": _same(lambda op: True),
    "detach": _same(lambda op: True),
    "alias": _same(lambda op: True),
}
