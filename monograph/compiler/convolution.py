"""Graph pass: convolutions in the form that has a kernel.

    padding           becomes a Pad of its own, which fuses with whatever makes the image
    1x1, stride 1     becomes a contraction over channels
    ConvInput         becomes Conv of the padded cotangent with the filter turned round; for a
    stride,
                      one such convolution for each residue of the output, put together with Pads
    other orders      graph inputs in another order than the kernel reads are copied once

Kept as they are: more than one group (kernels exist only for one), integer dtypes.
"""

from __future__ import annotations

import itertools
from typing import Any

from ..ir.graph import Graph, Node, Value
from ..ops.arith import Add
from ..ops.contract import Contract
from ..ops.conv import Conv, ConvInput, ConvWeight
from ..ops.movement import Copy, Flip, Pad, Permute, Reshape, Slice

LETTERS = "hwd"


def lower_convolutions(graph: Graph) -> Graph:
    """Rewrite convolutions as the top of this file says.

    Before:  graph(%0: f32[2, 4, 6, 6], %1: f32[8, 4, 3, 3])
             %2: f32[2, 8, 6, 6] = conv(%0, %1) stride=(1,1) padding=(1,1) dilation=(1,1) groups=1
             %3: f32[2, 8, 6, 6] = exp(%2)
             return %3
    After:   graph(%0: f32[2, 4, 6, 6], %1: f32[8, 4, 3, 3])
             %2: f32[2, 4, 8, 8] = pad(%0) low=(0,0,1,1) high=(0,0,1,1) interior=(0,0,0,0) value=0
             %3: f32[8, 4, 3, 3] = copy(%1)
             %4: f32[2, 8, 6, 6] = conv(%2, %3) stride=(1,1) padding=(0,0) dilation=(1,1) groups=1
             %5: f32[2, 8, 6, 6] = exp(%4)
             return %5
    """
    result = Graph()
    result.inputs = list(graph.inputs)
    result.constants = dict(graph.constants)
    env: dict[Value, Any] = {}
    fixed = set(graph.inputs) | set(graph.constants)
    outputs = set(graph.outputs)
    writer = _Writer(result, fixed)
    for node in graph.nodes:
        inputs = tuple(env.get(i, i) if isinstance(i, Value) else i for i in node.inputs)
        made = writer.convolution(node, inputs)
        if made is None:
            if inputs == node.inputs:
                result.nodes.append(node)
                continue
            made = result.add(node.op, *inputs, place=node.place)
        elif node.outputs[0] in outputs or isinstance(node.op, ConvWeight):
            made = result.add(Copy(), made, place=node.place)
        env.update(zip(node.outputs, made if isinstance(made, tuple) else (made,)))
    result.outputs = [env.get(v, v) for v in graph.outputs]
    return result


class _Writer:
    def __init__(self, graph: Graph, fixed: set[Value]):
        self.graph, self.fixed = graph, fixed
        self.made: dict[Any, Value] = {}
        self.place: Any = None

    def add(self, op: Any, *inputs: Value) -> Value:
        """A node, made once for equal inputs."""
        key = (op, inputs)
        if key not in self.made:
            self.made[key] = self.graph.add(op, *inputs, place=self.place)
        return self.made[key]

    def convolution(self, node: Node, inputs: tuple) -> Any:
        op = node.op
        if not isinstance(op, (Conv, ConvInput, ConvWeight)) or op.groups != 1:
            return None
        x, y = inputs
        if not x.dtype.is_floating_point or x.dtype.itemsize < 4 or 0 in (*x.shape, *y.shape):
            return None
        self.place = node.place
        if isinstance(op, Conv):
            return self.forward(op, x, y)
        if isinstance(op, ConvWeight):
            return self.weight(op, x, y)
        return self.adjoint(op, x, y)

    def padded(self, x: Value, low: tuple[int, ...], high: tuple[int, ...]) -> Value:
        """x with `low` and `high` zeros around its spatial axes; negative ones cut."""
        zeros = (0, 0)
        if any(n < 0 for n in (*low, *high)):
            cut = zip(low, high, x.shape[2:])
            ranges = [(max(-lo, 0), n - max(-hi, 0)) for lo, hi, n in cut]
            start = (*zeros, *(a for a, _ in ranges))
            stop = (*x.shape[:2], *(b for _, b in ranges))
            x = self.add(Slice(start, stop, (1,) * len(start)), x)
        low = tuple(max(n, 0) for n in low)
        high = tuple(max(n, 0) for n in high)
        if any((*low, *high)):
            interior = (0,) * len(x.shape)
            return self.add(Pad((*zeros, *low), (*zeros, *high), interior, 0), x)
        return x

    def own(self, x: Value) -> Value:
        """x where the compiler may choose its order."""
        return self.add(Copy(), x) if x in self.fixed else x

    def filter(self, w: Value) -> Value:
        """A filter in the kernel's order: views of inputs are copied once, and straight."""
        return self.add(Copy(), w)

    def forward(self, op: Conv, x: Value, w: Value) -> Value:
        kernel = w.shape[2:]
        if set(kernel) == {1} and not any(op.padding):
            x = self.strided(x, op.stride)
            spatial = LETTERS[: len(kernel)]
            flat = self.add(Reshape(tuple(w.shape[:2])), w)
            return self.add(Contract(f"nc{spatial},oc->no{spatial}"), x, flat)
        x = self.padded(x, op.padding, op.padding)
        plain = Conv(op.stride, (0,) * len(kernel), op.dilation, 1)
        return self.add(plain, self.own(x), self.filter(w))

    def strided(self, x: Value, stride: tuple[int, ...]) -> Value:
        if set(stride) == {1}:
            return x
        ndim = len(x.shape)
        return self.add(Slice((0,) * ndim, tuple(x.shape), (1, 1, *stride)), x)

    def weight(self, op: ConvWeight, x: Value, y: Value) -> Value:
        spatial = LETTERS[: len(op.kernel)]
        if set(op.kernel) == {1} and not any(op.padding):
            x = self.strided(x, op.stride)
            x = self.fitted(x, tuple(y.shape[2:]))
            made = self.add(Contract(f"nc{spatial},no{spatial}->oc"), x, y)
            return self.add(Reshape((*made.shape, *op.kernel)), made)
        x = self.padded(x, op.padding, op.padding)
        plain = ConvWeight(op.stride, (0,) * len(op.kernel), op.dilation, 1, op.kernel)
        return self.add(plain, self.own(x), self.own(y))

    def fitted(self, x: Value, sizes: tuple[int, ...]) -> Value:
        """The first `sizes` places of x (a stride may leave a place over)."""
        if tuple(x.shape[2:]) == sizes:
            return x
        stop = (*x.shape[:2], *sizes)
        return self.add(Slice((0,) * len(stop), stop, (1,) * len(stop)), x)

    def adjoint(self, op: ConvInput, y: Value, w: Value) -> Value | None:
        """Conv's cotangent of x. With h + padding = stride*q + r, row h of x sees row q - t of y
        through tap r + stride*t (dilation 1), so each residue r is a convolution of its own."""
        kernel = tuple(w.shape[2:])
        dims = range(len(kernel))
        spatial = LETTERS[: len(kernel)]
        if set(kernel) == {1} and not any(op.padding) and set(op.stride) == {1}:
            flat = self.add(Reshape(tuple(w.shape[:2])), w)
            return self.add(Contract(f"no{spatial},oc->nc{spatial}"), y, flat)
        order = (1, 0, *range(2, len(w.shape)))
        if set(op.stride) == {1}:
            turned = self.add(Flip(tuple(range(2, len(w.shape)))), w) if set(kernel) != {1} else w
            turned = self.add(Permute(order), turned)
            reach = [(k - 1) * d for k, d in zip(kernel, op.dilation)]
            low = tuple(reach[i] - op.padding[i] for i in dims)
            high = tuple(op.size[i] + op.padding[i] - y.shape[2 + i] for i in dims)
            y = self.padded(y, low, high)
            plain = Conv((1,) * len(kernel), (0,) * len(kernel), op.dilation, 1)
            return self.add(plain, self.own(y), self.filter(turned))
        if set(op.dilation) != {1}:
            return None
        total: Value | None = None
        for residues in itertools.product(*(range(s) for s in op.stride)):
            part = self.residue(op, y, w, residues, order)
            if part is not None:
                total = part if total is None else self.add(Add(), total, part)
        return total

    def residue(
        self, op: ConvInput, y: Value, w: Value, residues: tuple[int, ...], order: tuple[int, ...]
    ) -> Value | None:
        """The places of x with h + padding = r modulo the stride, among zeros elsewhere."""
        kernel = tuple(w.shape[2:])
        low, high, first, count, taps = [], [], [], [], []
        for r, s, k, p, n, places in zip(
            residues, op.stride, kernel, op.padding, op.size, y.shape[2:]
        ):
            t = len(range(r, k, s))
            q0 = max(-(-(p - r) // s), 0)  # smallest q with s*q + r - p >= 0
            q1 = (n - 1 + p - r) // s  # largest q with s*q + r - p < n
            if t == 0 or q1 < q0:
                return None
            # Output q reads y[q - t + 1 .. q]: pad so that the first read is at 0.
            low.append(t - 1 - q0)
            high.append(q1 + 1 - places)
            first.append(s * q0 + r - p)
            count.append(q1 - q0 + 1)
            taps.append(r)
        start = (0, 0, *taps)
        part = self.add(Slice(start, tuple(w.shape), (1, 1, *op.stride)), w)
        part = self.add(Permute(order), self.add(Flip(tuple(range(2, len(order)))), part))
        ones = (1,) * len(kernel)
        image = self.padded(y, tuple(low), tuple(high))
        plain = Conv(ones, (0,) * len(kernel), ones, 1)
        made = self.add(plain, self.own(image), self.filter(part))
        after = [n - f - (c - 1) * s - 1 for n, f, c, s in zip(op.size, first, count, op.stride)]
        interior = (0, 0, *(s - 1 for s in op.stride))
        return self.add(Pad((0, 0, *first), (0, 0, *after), interior, 0), made)
