"""Graph pass: convolutions in the form that has a kernel.

    padding           becomes a Pad of its own, which fuses with whatever makes the image; kernels
                      that put zeros in place of it themselves (winograd.py, implicit.py) keep it
    1x1               becomes a contraction over channels, where it has no stride or few channels
    ConvInput         becomes Conv of the padded cotangent with the filter turned round; for a
                      stride, one such convolution for each residue of the output, put together
                      with Pads, or one for all of them
    depthwise         keeps its padding and its ConvInput; where a channel has several filters, it
                      is repeated for each
    few channels      per group: several groups become one, with zeros in the filter
    16-bit floats     are computed in float32
    other orders      graph inputs and outputs, whose order is given, are copied for the kernel

Kept as they are: integer dtypes.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

from ..core import dtype as dt
from ..ir.graph import Graph, Node, Value
from ..ir.op import Full
from ..ops.arith import Add, Eq
from ..ops.basic import Cast, Where
from ..ops.contract import Contract
from ..ops.conv import Conv, ConvInput, ConvWeight
from ..ops.joining import Concat
from ..ops.movement import Copy, Expand, Flip, Pad, Permute, Reshape, Slice, Sum
from ..ops.triangular import Iota
from .kernels import implicit, implicit_weight, winograd, winograd_weight
from .layout import MANY_CHANNELS

LETTERS = "hwd"
LANES = 16  # channels of a group that fill a vector
# One convolution may take so many times the vectors of several, one for each residue of a stride.
MORE_VECTORS = 1.25


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
    given: dict[Value, Value] = {}  # output of the graph -> its copy in the callers' order
    outputs = set(graph.outputs)
    fixed = {*graph.inputs, *graph.constants, *outputs}
    writer = _Writer(result, fixed)
    for node in graph.nodes:
        inputs = tuple(env.get(i, i) if isinstance(i, Value) else i for i in node.inputs)
        made = writer.convolution(node, inputs)
        if made is None:
            if inputs == node.inputs:
                result.nodes.append(node)
                continue
            made = result.add(node.op, *inputs, place=node.place)
            fixed.update(result.nodes[-1].outputs if node.outputs[0] in outputs else ())
        elif isinstance(node.op, ConvWeight):
            made = result.add(Copy(), made, place=node.place)
        elif node.outputs[0] in outputs:
            given[node.outputs[0]] = result.add(Copy(), made, place=node.place)
        env.update(zip(node.outputs, made if isinstance(made, tuple) else (made,)))
    result.outputs = [given.get(v) or env.get(v, v) for v in graph.outputs]
    return result


class _Writer:
    def __init__(self, graph: Graph, fixed: set[Value]):
        self.graph, self.fixed = graph, fixed
        self.made: dict[Any, Value] = {}
        self.place: Any = None

    def add(self, op: Any, *inputs: Any) -> Value:
        """A node, made once for equal inputs."""
        key = (op, inputs)
        if key not in self.made:
            self.made[key] = self.graph.add(op, *inputs, place=self.place)
        return self.made[key]

    def convolution(self, node: Node, inputs: tuple) -> Any:
        op = node.op
        if not isinstance(op, (Conv, ConvInput, ConvWeight)):
            return None
        x, y = inputs
        if not x.dtype.is_floating_point or 0 in (*x.shape, *y.shape, *node.outputs[0].shape):
            return None
        self.place = node.place
        if x.dtype.itemsize < 4:
            wide = (self.add(Cast(dt.float32), v) for v in inputs)
            return self.add(Cast(x.dtype), self.rewritten(op, *wide))
        return self.rewritten(op, x, y)

    def rewritten(self, op: Any, x: Value, y: Value) -> Value:
        if op.groups > 1:
            per_group = x.shape[1] // op.groups if isinstance(op, ConvWeight) else y.shape[1]
            if per_group == 1:
                return self.depthwise(op, x, y)
            merged = self.merged(op, x, y, per_group)
            if merged is not None:
                return merged
        if isinstance(op, Conv):
            return self.forward(op, x, y)
        if isinstance(op, ConvWeight):
            return self.weight(op, x, y)
        return self.adjoint(op, x, y)

    def depthwise(self, op: Any, x: Value, y: Value) -> Value:
        """One channel in each group, by kernels of its own that have padding and both adjoints."""
        channels = op.groups
        if isinstance(op, ConvInput):
            many = x.shape[1] // channels
            plain = dataclasses.replace(op, groups=channels * many)
            made = self.add(plain, self.own(x), self.filter(y))
            if many == 1:
                return made
            apart = (x.shape[0], channels, many, *op.size)
            return self.add(Sum((2,)), self.add(Reshape(apart), made))
        many = (y.shape[0] if isinstance(op, Conv) else y.shape[1]) // channels
        if many > 1:
            n, places = x.shape[0], x.shape[2:]
            x = self.add(Expand((n, channels, many, *places), (2,)), x)
            x = self.add(Reshape((n, channels * many, *places)), x)
        plain = dataclasses.replace(op, groups=channels * many)
        if isinstance(op, Conv):
            return self.add(plain, self.own(x), self.filter(y))
        return self.add(plain, self.own(x), self.own(y))

    def merged(self, op: Any, x: Value, y: Value, per_group: int) -> Value | None:
        """Several groups as one where a group has fewer channels than a vector has lanes: each
        filter gets zeros for the channels of the other groups (so that an infinity or nan in one of
        them makes nan of all)."""
        out = y.shape[1] if isinstance(op, ConvWeight) else y.shape[0]
        each = out // op.groups
        fewest = min(each, per_group)
        together = 1
        while together * fewest < LANES and op.groups % (2 * together) == 0:
            together *= 2
        if together == 1:
            return None
        groups = op.groups // together
        plain = dataclasses.replace(op, groups=groups)
        kernel = op.kernel if isinstance(op, ConvWeight) else tuple(y.shape[2:])
        # Axes: merged group, group in it, output of the group, group in it, channel, taps.
        apart = (groups, together, each, together, per_group, *kernel)
        same = self.add(
            Eq(), self.add(Iota(apart, dt.int32, 1)), self.add(Iota(apart, dt.int32, 3))
        )
        if isinstance(op, ConvWeight):
            made = self.rewritten(plain, x, y)
            made = self.add(Where(), same, self.add(Reshape(apart), made), 0.0)
            return self.add(Reshape((out, per_group, *kernel)), self.add(Sum((3,)), made))
        w = self.add(Reshape((groups, together, each, per_group, *kernel)), y)
        w = self.add(Where(), same, self.add(Expand(apart, (3,)), w), 0.0)
        w = self.add(Reshape((out, together * per_group, *kernel)), w)
        return self.rewritten(plain, x, w)

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
        one_by_one = set(kernel) == {1} and not any(op.padding) and op.groups == 1
        in_place = implicit.suits(op, x.dtype.code, x.shape[1], w.shape[0])
        if one_by_one and (set(op.stride) == {1} or not in_place):
            x = self.strided(x, op.stride)
            spatial = LETTERS[: len(kernel)]
            flat = self.add(Reshape(tuple(w.shape[:2])), w)
            return self.add(Contract(f"nc{spatial},oc->no{spatial}"), x, flat)
        return self.sums(Conv(op.stride, op.padding, op.dilation, op.groups), x, w)

    def sums(self, op: Conv, x: Value, w: Value) -> Value:
        """A convolution, whose kernel sees zeros at the edges or else finds them in memory."""
        places = op.counts(x.shape[2:], w.shape[2:])
        code, channels, outputs = x.dtype.code, x.shape[1], w.shape[0]
        if not (
            winograd.suits(op, code, channels, outputs, places, w.shape[2:])
            or implicit.suits(op, code, channels, outputs)
        ):
            x = self.padded(x, op.padding, op.padding)
            op = dataclasses.replace(op, padding=(0,) * len(op.padding))
        few = op.groups == 1 and channels < MANY_CHANNELS
        return self.add(op, x if few else self.own(x), self.filter(w))

    def strided(self, x: Value, stride: tuple[int, ...]) -> Value:
        if set(stride) == {1}:
            return x
        ndim = len(x.shape)
        return self.add(Slice((0,) * ndim, tuple(x.shape), (1, 1, *stride)), x)

    def weight(self, op: ConvWeight, x: Value, y: Value) -> Value:
        spatial = LETTERS[: len(op.kernel)]
        one_by_one = set(op.kernel) == {1} and not any(op.padding) and op.groups == 1
        in_place = implicit_weight.suits(op, x.dtype.code, x.shape[1], y.shape[1])
        if one_by_one and (set(op.stride) == {1} or not in_place):
            x = self.strided(x, op.stride)
            x = self.fitted(x, tuple(y.shape[2:]))
            made = self.add(Contract(f"nc{spatial},no{spatial}->oc"), x, y)
            return self.add(Reshape((*made.shape, *op.kernel)), made)
        places = y.shape[2:]
        by_winograd = winograd_weight.suits(op, x.dtype.code, x.shape[1], y.shape[1], places)
        if not by_winograd and not in_place:
            x = self.padded(x, op.padding, op.padding)
            op = dataclasses.replace(op, padding=(0,) * len(op.padding))
        return self.add(op, self.own(x), self.own(y))

    def fitted(self, x: Value, sizes: tuple[int, ...]) -> Value:
        """The first `sizes` places of x (a stride may leave a place over)."""
        if tuple(x.shape[2:]) == sizes:
            return x
        stop = (*x.shape[:2], *sizes)
        return self.add(Slice((0,) * len(stop), stop, (1,) * len(stop)), x)

    def adjoint(self, op: ConvInput, y: Value, w: Value) -> Value:
        """Conv's cotangent of x. With h + padding = stride*q + r, row h of x sees the row
        q + (r - dilation*t) / stride of y through each tap t for which that is whole: each residue
        r is a convolution of its own."""
        kernel = tuple(w.shape[2:])
        dims = range(len(kernel))
        spatial = LETTERS[: len(kernel)]
        one_by_one = set(kernel) == {1} and not any(op.padding) and op.groups == 1
        if one_by_one and set(op.stride) == {1}:
            flat = self.add(Reshape(tuple(w.shape[:2])), w)
            return self.add(Contract(f"no{spatial},oc->nc{spatial}"), y, flat)
        if set(op.stride) == {1}:
            turned = self.turned(w, op.groups)
            reach = [(k - 1) * d for k, d in zip(kernel, op.dilation)]
            low = tuple(reach[i] - op.padding[i] for i in dims)
            high = tuple(op.size[i] + op.padding[i] - y.shape[2 + i] for i in dims)
            around = tuple(max(min(pair), 0) for pair in zip(low, high))
            low = tuple(n - m for n, m in zip(low, around))
            high = tuple(n - m for n, m in zip(high, around))
            y = self.padded(y, low, high)
            return self.sums(Conv((1,) * len(kernel), around, op.dilation, op.groups), y, turned)
        made = self.together(op, y, w)
        if made is not None:
            return made
        total: Value | None = None
        for residues in itertools.product(*(range(s) for s in op.stride)):
            part = self.residue(op, y, w, residues)
            if part is not None:
                total = part if total is None else self.add(Add(), total, part)
        if total is None:  # the filter sees nothing but padding
            return self.add(Full((y.shape[0], w.shape[1] * op.groups, *op.size), y.dtype, 0))
        return total

    def together(self, op: ConvInput, y: Value, w: Value) -> Value | None:
        """All residues at once, as channels of one convolution, where that takes about as few
        vectors: its filter has zeros for what a residue does not see. Place stride*q + r of x is
        then place q of residue r.
        """
        if op.groups > 1:
            return None
        kernel, channels, dims = tuple(w.shape[2:]), w.shape[1], len(op.stride)
        # Per dimension and residue: its taps, and how far from row q of y each of them is.
        seen = [
            [[(t, (r + p - d * t) // s) for t in range(k) if (r + p - d * t) % s == 0]
             for r in range(s)]
            for s, k, p, d in zip(op.stride, kernel, op.padding, op.dilation)
        ]  # fmt: skip
        every = [[e for taps in dim for _, e in taps] for dim in seen]
        first, last = [min(e) for e in every], [max(e) for e in every]
        window = [b - a + 1 for a, b in zip(first, last)]
        vectors = -(-channels * math.prod(op.stride) // LANES) * math.prod(window)
        if vectors > MORE_VECTORS * -(-channels // LANES) * math.prod(kernel):
            return None
        filters = []
        for places in itertools.product(*seen):
            if not all(places):
                shape = (channels, w.shape[0], *window)
                filters.append(self.add(Full(shape, w.dtype, 0)))
                continue
            steps = [taps[1][0] - taps[0][0] if len(taps) > 1 else 1 for taps in places]
            start = (0, 0, *(taps[0][0] for taps in places))
            stop = (*w.shape[:2], *(taps[-1][0] + 1 for taps in places))
            part = self.turned(self.add(Slice(start, stop, (1, 1, *steps)), w), 1)
            # Turned round, taps go from the lowest row of y to the highest.
            low = [taps[-1][1] - a for taps, a in zip(places, first)]
            high = [b - taps[0][1] for taps, b in zip(places, last)]
            apart = [max(n * d // s, 1) - 1 for n, d, s in zip(steps, op.dilation, op.stride)]
            zeros = (0, 0)
            padding = Pad((*zeros, *low), (*zeros, *high), (*zeros, *apart), 0)
            filters.append(self.add(padding, part))
        whole = self.add(Concat(0), *filters)
        counts = [-(-n // s) for n, s in zip(op.size, op.stride)]
        before = [-a for a in first]
        after = [n + b - have for n, b, have in zip(counts, last, y.shape[2:])]
        around = [max(min(pair), 0) for pair in zip(before, after)]
        low_, high_ = ([n - m for n, m in zip(side, around)] for side in (before, after))
        ones = (1,) * dims
        image = self.padded(y, tuple(low_), tuple(high_))
        made = self.forward(Conv(ones, tuple(around), ones, 1), image, whole)
        made = self.add(Reshape((y.shape[0], *op.stride, channels, *counts)), made)
        order = [0, dims + 1]
        for d in range(dims):
            order += [dims + 2 + d, 1 + d]
        made = self.add(Permute(tuple(order)), made)
        sizes = [n * s for n, s in zip(counts, op.stride)]
        made = self.add(Reshape((y.shape[0], channels, *sizes)), made)
        return self.fitted(made, tuple(op.size))

    def turned(self, w: Value, groups: int) -> Value:
        """A filter for the other direction: taps turned round, channels in and out exchanged."""
        ndim = len(w.shape)
        if set(w.shape[2:]) != {1}:
            w = self.add(Flip(tuple(range(2, ndim))), w)
        if groups == 1:
            return self.add(Permute((1, 0, *range(2, ndim))), w)
        outputs, channels, kernel = w.shape[0] // groups, w.shape[1], w.shape[2:]
        w = self.add(Reshape((groups, outputs, channels, *kernel)), w)
        w = self.add(Permute((0, 2, 1, *range(3, ndim + 1))), w)
        return self.add(Reshape((groups * channels, outputs, *kernel)), w)

    def residue(self, op: ConvInput, y: Value, w: Value, residues: tuple[int, ...]) -> Value | None:
        """The places of x with h + padding = r modulo the stride, among zeros elsewhere."""
        kernel = tuple(w.shape[2:])
        low, high, first, count, taps, steps, reach = [], [], [], [], [], [], []
        for r, s, k, p, d, n, places in zip(
            residues, op.stride, kernel, op.padding, op.dilation, op.size, y.shape[2:]
        ):
            seen = [t for t in range(k) if (r - d * t) % s == 0]
            q0 = max(-(-(p - r) // s), 0)  # smallest q with s*q + r - p >= 0
            q1 = (n - 1 + p - r) // s  # largest q with s*q + r - p < n
            if not seen or q1 < q0:
                return None
            step = seen[1] - seen[0] if len(seen) > 1 else k
            spread = max(step * d // s, 1)
            # Pad so that the first output reads from 0, and the last to the end.
            last = (r - d * seen[0]) // s
            low.append((len(seen) - 1) * spread - last - q0)
            high.append(q1 + last + 1 - places)
            first.append(s * q0 + r - p)
            count.append(q1 - q0 + 1)
            taps.append(seen[0])
            steps.append(step)
            reach.append(spread)
        start = (0, 0, *taps)
        part = self.add(Slice(start, tuple(w.shape), (1, 1, *steps)), w)
        part = self.turned(part, op.groups)
        ones = (1,) * len(kernel)
        image = self.padded(y, tuple(low), tuple(high))
        plain = Conv(ones, (0,) * len(kernel), tuple(reach), op.groups)
        made = self.add(plain, self.own(image), self.filter(part))
        after = [n - f - (c - 1) * s - 1 for n, f, c, s in zip(op.size, first, count, op.stride)]
        interior = (0, 0, *(s - 1 for s in op.stride))
        return self.add(Pad((0, 0, *first), (0, 0, *after), interior, 0), made)
