"""Graph passes: simplify (with common subexpressions), dead code, splitting of long reductions.

The only place outside ops/ that may name op classes. Each pass is Graph -> Graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.shape import numel
from ..core.symbolic import divides, hint, is_symbolic
from ..ir.graph import Graph, Node, Value
from ..ir.op import Elementwise, Full, Op, Reduction
from ..ops.arith import Add, Div, Mul, Sub
from ..ops.basic import Cast
from ..ops.movement import Alias, Copy, Detach, Expand, Pad, Permute, Reshape, Slice, Sum

# A reduction over more elements than this per result is split in two, so that threads share it.
LONG_REDUCTION = 4096


def simplify(graph: Graph) -> Graph:
    """Apply the rules of this file and merge equal computations, in one walk from the inputs.

    Before:  graph(%0: f32[6])
             %1: f32[2, 3] = reshape(%0) shape=(2,3)
             %2: f32[6] = reshape(%1) shape=(6,)
             %3: f32[6] = mul(%2, 1)
             %4: f32[6] = exp(%3)
             %5: f32[6] = exp(%0)
             %6: f32[6] = add(%4, %5)
             return %3, %6
    After:   graph(%0: f32[6])
             %1: f32[2, 3] = reshape(%0) shape=(2,3)
             %2: f32[6] = exp(%0)
             %3: f32[6] = add(%2, %2)
             return %0, %3
    Keeps: every output's value, shape and dtype (but -0.0 + 0 may keep its sign).
    """
    return _Rewriter(graph).run()


class _Rewriter:
    def __init__(self, graph: Graph):
        self.old = graph
        self.new = Graph()
        self.env: dict[Value, Any] = {}
        self.known: dict[Any, tuple[Value, ...]] = {}

    def run(self) -> Graph:
        self.new.inputs = list(self.old.inputs)
        self.env.update({v: v for v in self.old.inputs})
        for v, array in self.old.constants.items():
            if v.shape == () or (array.size and array.size <= 4 and (array == array.flat[0]).all()):
                self.env[v] = self.make(Full(v.shape, v.dtype, array.flat[0].item()), (), None)
            else:
                self.new.constants[v] = array
                self.env[v] = v
        for node in self.old.nodes:
            inputs = tuple(self.env[i] if isinstance(i, Value) else i for i in node.inputs)
            made = self.make(node.op, inputs, node)
            for old, new in zip(node.outputs, made if isinstance(made, tuple) else (made,)):
                self.env[old] = new
        self.new.outputs = [self.env[v] for v in self.old.outputs]
        return self.new

    def make(self, op: Op, inputs: tuple, source: Node | None) -> Any:
        """The value(s) of op on new values, simplified."""
        for rule in RULES:
            result = rule(self, op, inputs, source)
            if result is not None:
                return result
        key = (op, tuple(i if isinstance(i, Value) else (type(i), repr(i)) for i in inputs))
        outputs = self.known.get(key)
        if outputs is None:
            node = Node(op, inputs, source.place if source else None)
            self.new.nodes.append(node)
            self.known[key] = outputs = node.outputs
        return outputs[0] if op.n_outputs == 1 else outputs


def _op_of(v: Any) -> Op | None:
    return v.node.op if isinstance(v, Value) and v.node is not None else None


def _identity(w: _Rewriter, op: Op, inputs: tuple, source: Any) -> Any:
    """Ops that change nothing."""
    if isinstance(op, (Alias, Detach, Copy)):
        return inputs[0]
    if isinstance(op, Cast) and inputs[0].dtype is op.dtype:
        return inputs[0]
    if isinstance(op, Reshape) and inputs[0].shape == op.shape:
        return inputs[0]
    if isinstance(op, Permute) and op.order == tuple(range(len(op.order))):
        return inputs[0]
    if isinstance(op, Expand) and not op.axes:
        return inputs[0]
    if isinstance(op, Slice) and all(
        lo == 0 and hi == n and st == 1
        for lo, hi, st, n in zip(op.start, op.stop, op.step, inputs[0].shape)
    ):
        return inputs[0]
    if isinstance(op, Pad) and not any((*op.low, *op.high, *op.interior)):
        return inputs[0]
    if isinstance(op, Reduction) and op.axes == () and isinstance(op, Sum):
        return inputs[0]
    return None


def _neutral(w: _Rewriter, op: Op, inputs: tuple, source: Any) -> Any:
    """x + 0, x - 0, x * 1, x / 1."""
    if not isinstance(op, (Add, Sub, Mul, Div)):
        return None
    x, y = inputs
    neutral = 0 if isinstance(op, (Add, Sub)) else 1
    if not isinstance(y, Value) and y == neutral and not isinstance(y, bool):
        return x
    if not isinstance(x, Value) and x == neutral and isinstance(op, (Add, Mul)):
        return y if not isinstance(x, bool) else None
    return None


def _compose(w: _Rewriter, op: Op, inputs: tuple, source: Any) -> Any:
    """Movement of movement of the same kind."""
    below = _op_of(inputs[0]) if inputs else None
    if below is None:
        return None
    base: Any = inputs[0].node.inputs[0] if inputs[0].node.inputs else None
    if isinstance(op, Reshape) and isinstance(below, Reshape):
        return w.make(op, (base,), source)
    if isinstance(op, Permute) and isinstance(below, Permute):
        return w.make(Permute(tuple(below.order[a] for a in op.order)), (base,), source)
    if isinstance(op, Expand) and isinstance(below, Expand):
        kept = [a for a in range(len(op.shape)) if a not in op.axes]
        inner = tuple(kept[a] for a in below.axes)
        return w.make(Expand(op.shape, tuple(sorted((*op.axes, *inner)))), (base,), source)
    if isinstance(op, Sum) and isinstance(below, Expand):
        both = set(op.axes) & set(below.axes)
        if both == set(op.axes) == set(below.axes):
            count = numel(below.shape[a] for a in both)
            return w.make(Mul(), (base, _number(count, base)), source)
    if isinstance(op, Sum) and isinstance(below, Sum):
        kept = [a for a in range(len(base.shape)) if a not in below.axes]
        axes = tuple(sorted((*below.axes, *(kept[a] for a in op.axes))))
        if base.dtype is inputs[0].dtype:
            return w.make(Sum(axes), (base,), source)
    return None


def _number(x: Any, like: Value) -> Any:
    if is_symbolic(x):
        return x
    return float(x) if like.dtype.is_inexact else int(x)


def _constants(w: _Rewriter, op: Op, inputs: tuple, source: Any) -> Any:
    """Movement of a filled value is filled; elementwise ops take it as a literal."""
    fulls = [isinstance(_op_of(i), Full) for i in inputs]
    if not any(fulls):
        return None
    if op.kind == "movement" and not op.pads:  # type: ignore[attr-defined]
        aval = op.infer(inputs[0])
        return w.make(Full(aval.shape, aval.dtype, inputs[0].node.op.value), (), source)
    if not isinstance(op, Elementwise):
        return None
    values = [i.node.op.value if f else i for i, f in zip(inputs, fulls)]
    if not any(isinstance(v, Value) for v in values):
        if any(map(is_symbolic, values)):  # known when the program runs
            return None
        aval = op.infer(*inputs)
        arrays = [
            np.array(v, i.dtype.numpy) if isinstance(i, Value) else v
            for v, i in zip(values, inputs)
        ]
        with np.errstate(all="ignore"):
            result = np.asarray(op.reference(*arrays), aval.dtype.numpy)
        return w.make(Full(aval.shape, aval.dtype, result.item()), (), source)
    try:
        if op.infer(*values) != op.infer(*inputs):
            return None
    except Exception:  # the op wants a value there
        return None
    return w.make(op, tuple(values), source)


def _through(kind: Any) -> Callable:
    def rule(w: _Rewriter, op: Op, inputs: tuple, source: Any) -> Any:
        """Elementwise of equally moved values: compute below, then move once."""
        if not isinstance(op, Elementwise):
            return None
        values = [i for i in inputs if isinstance(i, Value)]
        first: Any = _op_of(values[0])
        if first is None or type(first) is not kind or any(_op_of(v) != first for v in values):
            return None
        bases = [v.node.inputs[0] for v in values if v.node is not None]
        if any(b.shape != bases[0].shape for b in bases):
            return None
        if kind is Reshape and not _only_ones(bases[0].shape, first.shape):
            return None
        below = iter(bases)
        made = w.make(op, tuple(next(below) if isinstance(i, Value) else i for i in inputs), source)
        return w.make(first, (made,), source)

    return rule


def _only_ones(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return [n for n in a if n != 1] == [n for n in b if n != 1]


def _empty(w: _Rewriter, op: Op, inputs: tuple, source: Any) -> Any:
    """A reduction over nothing is its identity."""
    if isinstance(op, Reduction) and op.identity is not None and 0 in inputs[0].shape:
        aval = op.infer(*inputs)
        return w.make(Full(aval.shape, aval.dtype, op.identity), (), source)
    return None


RULES: list[Callable] = [
    _identity, _empty, _neutral, _compose, _constants, _through(Reshape), _through(Expand),
]  # fmt: skip


def remove_dead(graph: Graph) -> Graph:
    """Drop nodes whose results nobody reads.

    Before:  graph(%0: f32[2])
             %1: f32[2] = exp(%0)
             %2: f32[2] = neg(%0)
             return %2
    After:   graph(%0: f32[2])
             %1: f32[2] = neg(%0)
             return %1
    """
    live = set(graph.outputs)
    kept = []
    for node in reversed(graph.nodes):
        if any(v in live for v in node.outputs):
            live.update(node.values)
            kept.append(node)
    result = graph.copy(reversed(kept))
    result.constants = {v: a for v, a in graph.constants.items() if v in live}
    return result


def split_reductions(graph: Graph) -> Graph:
    """Reduce long sums with few results in two steps, so that several threads can share them.

    Before:  graph(%0: f32[65536, 64])
             %1: f32[64] = sum(%0) axes=(0,)
             return %1
    After:   graph(%0: f32[65536, 64])
             %1: f32[32, 2048, 64] = reshape(%0) shape=(32,2048,64)
             %2: f32[32, 64] = sum(%1) axes=(1,)
             %3: f32[64] = sum(%2) axes=(0,)
             return %3
    The split depends on the shape only. Runs after simplify, which would join the sums again.
    """
    result = Graph()
    result.inputs = list(graph.inputs)
    result.constants = dict(graph.constants)
    env: dict[Value, Any] = {}
    for node in graph.nodes:
        inputs = tuple(env.get(i, i) if isinstance(i, Value) else i for i in node.inputs)
        op = node.op
        if isinstance(op, Sum) and op.axes and _is_long(op, inputs[0]):
            env[node.outputs[0]] = _split(result, op, inputs[0], node)
            continue
        if inputs == node.inputs:
            result.nodes.append(node)
            continue
        made = result.add(op, *inputs, place=node.place)
        env.update(zip(node.outputs, made if isinstance(made, tuple) else (made,)))
    result.outputs = [env.get(v, v) for v in graph.outputs]
    return result


def _is_long(op: Sum, x: Value) -> bool:
    count = hint(numel(x.shape[a] for a in op.axes))
    size = hint(numel(x.shape))
    results = size // max(count, 1)
    # Lanes run along a kept axis where it is innermost, or channels (which may come to be).
    lanes = op.axes[-1] != len(x.shape) - 1 or (len(x.shape) > 2 and 1 not in op.axes)
    blocks = -(-results // 128) if lanes else results
    pieces = hint(x.shape[op.axes[0]])  # whose sums are of little size beside x
    cheap = len(op.axes) > 1 and pieces >= 8 and count >= 32 * pieces
    return count >= 512 and size >= 65536 and (blocks < 8 or cheap)


def _split(graph: Graph, op: Sum, x: Value, node: Node) -> Value:
    """Over all reduced axes but the first; or within pieces of it; then over what is left.

    Sums of half precision wait in float32.
    """
    if x.dtype.is_floating_point and x.dtype.itemsize < 4:
        wide = graph.add(Cast(dt.float32), x, place=node.place)
        total = _split(graph, op, wide, node)
        return graph.add(Cast(x.dtype), total, place=node.place)
    axis, *others = op.axes
    n = x.shape[axis]
    if others and hint(n) >= 8:
        partial = graph.add(Sum(tuple(others)), x, place=node.place)
        return graph.add(Sum((axis,)), partial, place=node.place)
    pieces = next((p for p in range(32, 3, -1) if divides(p, n) and p < hint(n)), 1)
    if pieces == 1:
        return graph.add(op, x, place=node.place)
    shape = (*x.shape[:axis], pieces, n // pieces, *x.shape[axis + 1 :])
    first = graph.add(Reshape(shape), x, place=node.place)
    axes = (axis + 1, *(a + 1 for a in others))
    partial = graph.add(Sum(axes), first, place=node.place)
    return graph.add(Sum((axis,)), partial, place=node.place)
