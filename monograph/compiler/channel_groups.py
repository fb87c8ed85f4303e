"""Normalisation over groups of channels, computed where the images stand.

Group normalisation reads an image (N, C, *S) as (N, groups, rest), whose order in memory cannot be
channels-last: elements of a group are then apart, channel by channel. So in networks with
convolutions everything between that reshape and the one back is computed on the image itself; only
the sums of groups are: sums of channels first, then those of a group's channels.
"""

from __future__ import annotations

from typing import Any

from ..core.shape import numel
from ..core.symbolic import is_symbolic
from ..ir.graph import Graph, Node, Value
from ..ir.op import Full
from ..ops.movement import Copy, Expand, Reshape, Sum


def unfold_groups(graph: Graph) -> Graph:
    """Rewrite elementwise work and sums on (N, groups, rest) as the top of this file says.

    Before:  graph(%0: f32[2, 4, 3, 3], %1: f32[4, 4, 1, 1]) {
               %2: f32[2, 4, 3, 3] = conv(%0, %1) stride=(1,1) padding=(0,0) dilation=(1,1) groups=1
               %3: f32[2, 2, 18] = reshape(%2) shape=(2,2,18)
               %4: f32[2, 2] = sum(%3) axes=(2,)
               %5: f32[2, 2, 18] = expand(%4) shape=(2,2,18) axes=(2,)
               %6: f32[2, 2, 18] = sub(%3, %5)
               %7: f32[2, 4, 3, 3] = reshape(%6) shape=(2,4,3,3)
               return %7
             }
    After:   graph(%0: f32[2, 4, 3, 3], %1: f32[4, 4, 1, 1])
             %2: f32[2, 4, 3, 3] = conv(%0, %1) stride=(1,1) padding=(0,0) dilation=(1,1) groups=1
             %3: f32[2, 4] = sum(%2) axes=(2,3)
             %4: f32[2, 2, 2] = reshape(%3) shape=(2,2,2)
             %5: f32[2, 2] = sum(%4) axes=(2,)
             %6: f32[2, 2, 18] = expand(%5) shape=(2,2,18) axes=(2,)
             %7: f32[2, 2, 2] = expand(%5) shape=(2,2,2) axes=(2,)
             %8: f32[2, 4] = reshape(%7) shape=(2,4)
             %9: f32[2, 4] = copy(%8)
             %10: f32[2, 4, 3, 3] = expand(%9) shape=(2,4,3,3) axes=(2,3)
             %11: f32[2, 4, 3, 3] = sub(%2, %10)
             return %11
    Requires: simplify.
    """
    if not any(node.op.name == "conv" for node in graph.nodes):
        return graph
    if not any(_opens(node) for node in graph.nodes):
        return graph
    writer = _Writer(graph)
    for node in graph.nodes:
        writer.take(node)
    writer.result.outputs = [writer.plain(v) for v in graph.outputs]
    return writer.result


def _opens(node: Node) -> bool:
    """Whether a node reads an image as groups of channels."""
    if not isinstance(node.op, Reshape) or not isinstance(node.inputs[0], Value):
        return False
    whole, cut = node.inputs[0].shape, node.op.shape
    if len(whole) < 4 or len(cut) != 3 or any(map(is_symbolic, (*whole[1:], *cut[1:]))):
        return False
    return (
        0 not in whole[1:]
        and (whole[0] is cut[0] or (not is_symbolic(whole[0]) and whole[0] == cut[0]))
        and whole[1] % cut[1] == 0
        and whole[1] // cut[1] * numel(whole[2:]) == cut[2]
    )


class _Writer:
    """The new graph.

    made    old value -> the same value in the new graph
    images  old value of shape (N, groups, rest) -> its elements as an image, and whose shape
    """

    def __init__(self, graph: Graph):
        self.result = graph.copy([])
        self.made: dict[Value, Value] = {v: v for v in (*graph.inputs, *graph.constants)}
        self.images: dict[Value, Value] = {}

    def add(self, op: Any, *inputs: Any) -> Any:
        return self.result.add(op, *inputs, place=self.place)

    def plain(self, v: Value) -> Value:
        if v not in self.made:
            self.made[v] = self.add(Reshape(v.shape), self.images[v])
        return self.made[v]

    def take(self, node: Node) -> None:
        self.place = node.place
        op, out = node.op, node.outputs[0]
        first: Any = node.inputs[0] if node.inputs else None
        if _opens(node):
            self.images[out] = self.plain(first)
            return
        if isinstance(op, Reshape) and first in self.images:
            image = self.images[first]
            self.made[out] = image if image.shape == out.shape else self.add(op, image)
            return
        if isinstance(op, Sum) and op.axes == (2,) and first in self.images:
            self.made[out] = self.sum(self.images[first], out)
            return
        if op.kind == "elementwise" and any(v in self.images for v in node.values):
            shape = next(self.images[v].shape for v in node.values if v in self.images)
            if all(self.has_image(v, shape) for v in node.values):
                inputs = (self.image(v, shape) if isinstance(v, Value) else v for v in node.inputs)
                self.images[out] = self.add(op, *inputs)
                return
        made = self.add(op, *(self.plain(v) if isinstance(v, Value) else v for v in node.inputs))
        self.made.update(zip(node.outputs, made if isinstance(made, tuple) else (made,)))

    def sum(self, image: Value, out: Value) -> Value:
        """Sums of groups, of shape (N, groups)."""
        n, channels = image.shape[:2]
        each = channels // out.shape[1]
        total = self.add(Sum(tuple(range(2, len(image.shape)))), image)
        if each == 1:
            return total  # type: ignore[no-any-return]
        return self.add(Sum((2,)), self.add(Reshape((n, out.shape[1], each)), total))  # type: ignore[no-any-return]

    def has_image(self, v: Value, shape: tuple[int, ...]) -> bool:
        if v in self.images:
            return self.images[v].shape == shape
        return v.node is not None and (
            isinstance(v.node.op, Full)
            or (isinstance(v.node.op, Expand) and v.node.op.axes == (2,))
        )

    def image(self, v: Value, shape: tuple[int, ...]) -> Value:
        if v in self.images:
            return self.images[v]
        assert v.node is not None
        op: Any = v.node.op
        if isinstance(op, Full):
            made = self.add(Full(shape, op.dtype, op.value))
        else:
            n, groups, _ = v.shape
            each = shape[1] // groups
            x = self.plain(v.node.values[0])
            if each > 1:
                # In memory once for each channel: loops along channels would be cut at the groups.
                x = self.add(Reshape((n, shape[1])), self.add(Expand((n, groups, each), (2,)), x))
                x = self.add(Copy(), x)
            made = self.add(Expand(shape, tuple(range(2, len(shape)))), x)
        self.images[v] = made
        return made  # type: ignore[no-any-return]
