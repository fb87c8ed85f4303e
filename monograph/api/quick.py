"""Elementwise operations on plain operands without ceremony: what most eager operations are.

Operands are float32 or float64 tensors of one dtype, or one of them a Python number; integers are
compared. NumPy broadcasts them. All else (captures, vmap, large arrays, promotion, errors) is left
to the usual way, `ops/align.py` and then the door: what `unary` and `binary` make answers None.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from types import FunctionType
from typing import Any

import numpy as np

from ..core.dtype import BY_NUMPY, bool_, float32, float64, int32, int64
from ..core.errors import MonographError
from ..core.modes import modes
from ..ir import dispatch
from ..ir.op import Aval, Elementwise, Op, Opaque
from ..ops import align, joining
from ..ops.joining import Concat
from ..ops.movement import Reshape, Sum, expand_to
from ..ops.shaping import slice_axis
from ..tensor import wrap
from ..transform.replay import recording
from ..transform.tape import Like, Saved
from . import interpreter
from .interpreter import interpret, note, recorded

MOST = 65536  # elements of an operand or a result; the interpreter may compile what is larger
OUTER = 1 << 18  # product of sizes above which it is looked how large a result is
SMALL_INT = 1 << 31
_FLOATS = (float32.numpy, float64.numpy)
_INTS = (int64.numpy, int32.numpy)

_run = interpreter.run
_contexts = interpreter._contexts
_handlers = dispatch._handler


def _results(op: Op, arity: int) -> dict[np.dtype, np.dtype]:
    """NumPy dtype of the operands -> that of the result, where the op is one for here."""
    found = {}
    for dtype in _FLOATS if not op.slow_reference else ():
        with suppress(MonographError):
            found[dtype] = op.infer(*[Aval((1,), BY_NUMPY[dtype])] * arity).dtype.numpy
    if arity == 2 and bool_.numpy in found.values():  # a comparison
        for dtype in _INTS:
            with suppress(MonographError):
                found[dtype] = op.infer(*[Aval((1,), BY_NUMPY[dtype])] * arity).dtype.numpy
    return found


def _is_large(p: np.ndarray, q: np.ndarray) -> bool:
    """Whether p and q broadcast to a large shape, or to none."""
    try:
        return np.broadcast(p, q).size > MOST
    except ValueError:
        return True


def is_watched() -> bool:
    """Whether somebody looks at operations, which then must come by the door."""
    return bool(recording[0]) or _handlers[0] is not interpret or interpreter.run is not _run


def _keeps(op: Op, needs: tuple[bool, ...]) -> tuple[bool, ...]:
    """Whether a node keeps each input, given which require a gradient; last, the output."""
    kept = op.saves in ("all", "inputs")
    if op.reads is None:
        inputs = [kept] * len(needs)
    else:
        wanted = {k for ks, need in zip(op.reads, needs) if need for k in ks}
        inputs = [kept and k in wanted for k in range(len(needs))]
    return (*inputs, op.saves in ("all", "outputs"))


def unary(op: Op) -> Callable[[Any], Any]:
    """A function that gives op(x), or None where this must go the usual way."""
    results, reference, differentiable = _results(op, 1), op.reference, op.differentiable
    keeps, keeps_out = _keeps(op, (True,))

    def run(x: Any) -> Any:
        p = getattr(x, "_payload", None)
        if type(p) is not np.ndarray:
            return None
        expected = results.get(p.dtype)
        if (
            expected is None or p.size > MOST or modes.trace is not None
            or recording[0] or _handlers[0] is not interpret or interpreter.run is not _run
        ):  # fmt: skip
            return None
        if x._base is not None:
            p = x._value()
        free = _contexts.free
        context = free.pop() if free else interpreter.quiet_context()
        try:
            made = context.run(reference, p)
        finally:
            free.append(context)
        if type(made) is not np.ndarray or made.dtype is not expected:
            made = np.asarray(made, dtype=expected)
        out = wrap(made)
        if x._requires and differentiable and modes.grad:
            node = x._node
            edge = (x, 0) if node is None else (node, x._index)
            kept = Saved(x, edge[0], edge[1], True) if keeps else Like((p.shape, p.dtype))
            note(op, (edge,), [kept], keeps_out, out, made)
        return out

    return run


def binary(op: Op) -> Callable[[Any, Any], Any]:
    """A function that gives op(x, y), or None where this must go the usual way."""
    results, reference, differentiable = _results(op, 2), op.reference, op.differentiable
    wide = _widened(op)
    plans = {(i, j): _keeps(op, (i, j)) for i in (False, True) for j in (False, True)}

    def run(x: Any, y: Any) -> Any:
        p, q = getattr(x, "_payload", None), getattr(y, "_payload", None)
        if p is None:
            if (type(x) is not float and type(x) is not int) or type(q) is not np.ndarray:
                return None
            if q.dtype in _INTS:
                if type(x) is not int or not -SMALL_INT <= x < SMALL_INT:
                    return None
                p = x
            else:
                p = x = float(x)
            expected, size = results.get(q.dtype), q.size
            needs_x, needs_y = False, y._requires
            if y._base is not None:
                q = y._value()
        elif q is None:
            if (type(y) is not float and type(y) is not int) or type(p) is not np.ndarray:
                return None
            if p.dtype in _INTS:
                if type(y) is not int or not -SMALL_INT <= y < SMALL_INT:
                    return None
                q = y
            else:
                q = y = float(y)
            expected, size = results.get(p.dtype), p.size
            needs_x, needs_y = x._requires, False
            if x._base is not None:
                p = x._value()
        else:
            if type(p) is not np.ndarray or type(q) is not np.ndarray or p.dtype is not q.dtype:
                return None
            expected, size = results.get(p.dtype), p.size + q.size
            if x._base is not None:
                p = x._value()
            if y._base is not None:
                q = y._value()
            needs_x, needs_y = x._requires, y._requires
            if p.size * q.size > OUTER and _is_large(p, q):
                return None
        if (
            expected is None or size > MOST or modes.trace is not None
            or recording[0] or _handlers[0] is not interpret or interpreter.run is not _run
        ):  # fmt: skip
            return None
        free = _contexts.free
        context = free.pop() if free else interpreter.quiet_context()
        try:
            made = context.run(reference, p, q)
        except ValueError:  # shapes that do not broadcast
            return None
        finally:
            free.append(context)
        if type(made) is not np.ndarray or made.dtype is not expected:
            made = np.asarray(made, dtype=expected)
        out = wrap(made)
        if (needs_x or needs_y) and differentiable and modes.grad:
            keeps_x, keeps_y, keeps_out = plans[needs_x, needs_y]
            taped, from_x, from_y = op, None, None
            if p is x:
                kept_x: Any = x
            else:
                if p.shape != made.shape:
                    taped = wide
                if needs_x:
                    node = x._node
                    from_x = (x, 0) if node is None else (node, x._index)
                if not keeps_x:
                    kept_x = Like((p.shape, p.dtype))
                else:
                    kept_x = Saved(x) if from_x is None else Saved(x, from_x[0], from_x[1], True)
            if q is y:
                kept_y: Any = y
            else:
                if q.shape != made.shape:
                    taped = wide
                if needs_y:
                    node = y._node
                    from_y = (y, 0) if node is None else (node, y._index)
                if not keeps_y:
                    kept_y = Like((q.shape, q.dtype))
                else:
                    kept_y = Saved(y) if from_y is None else Saved(y, from_y[0], from_y[1], True)
            note(taped, (from_x, from_y), [kept_x, kept_y], keeps_out, out, made)
        return out

    return run


class Wide(Elementwise):
    """An elementwise op whose operands NumPy has broadcast, as a node of the tape has it."""

    inner: Op

    def infer(self, *args: Any) -> Any:
        return self.inner.infer(*args)

    def reference(self, x: Any, y: Any) -> Any:
        return self.inner.reference(x, y)

    def vjp(self, g: Any, out: Any, *inputs: Any) -> tuple[Any, ...]:
        shape = tuple(g.shape)
        wide = [
            x if type(x) is Like or tuple(x.shape) == shape else expand_to(x, shape) for x in inputs
        ]
        results = self.inner.vjp(g, out, *wide)
        return tuple(
            None if r is None else lambda r=r, x=x: _narrowed(r, tuple(x.shape))
            for r, x in zip(results, inputs)
        )


def _narrowed(r: Any, shape: tuple[int, ...]) -> Any:
    """A gradient (or what makes it) summed to the shape of an operand that was broadcast."""
    g = r() if type(r) is FunctionType else r
    offset = len(g.shape) - len(shape)
    axes = (*range(offset), *(
        a + offset for a, n in enumerate(shape) if n == 1 and g.shape[a + offset] != 1
    ))  # fmt: skip
    if not axes:
        return g
    g = Sum(axes)(g)
    return g if tuple(g.shape) == shape else Reshape(shape)(g)


def _widened(op: Op) -> Wide:
    """The Wide of an op without parameters."""
    facts = ("name", "accepts", "saves", "reads", "has_long_vjp", "slow_reference")
    attributes = {"inner": op, **{k: getattr(op, k) for k in facts}}
    return type(op.__class__.__name__, (Wide,), attributes)()


class Stack(Opaque):
    """stack() as a node of the tape has it."""

    name = "stack"
    saves = "none"

    def __init__(self, axis: int):
        self.axis = axis

    def vjp(self, g: Any, out: Any, *xs: Any) -> tuple[Any, ...]:
        flat, axis = Reshape(tuple(xs[0].shape)), self.axis
        return tuple(flat(slice_axis(g, axis, i, i + 1)) for i in range(len(xs)))


def _arrays(tensors: Any, dim: Any) -> list[np.ndarray] | None:
    """The arrays of tensors that are of one dtype and as many dimensions, and small."""
    if type(tensors) not in (list, tuple) or type(dim) is not int or modes.trace is not None:
        return None
    arrays, size = [], 0
    for t in tensors:
        p = getattr(t, "_payload", None)
        if type(p) is not np.ndarray:
            return None
        arrays.append(p if t._base is None else t._value())
        size += p.size
    if len(arrays) < 2 or size > MOST or is_watched():
        return None
    first = arrays[0]
    if any(p.dtype is not first.dtype or p.ndim != first.ndim for p in arrays):
        return None
    return arrays


def _joined(op: Op, tensors: Any, made: np.ndarray) -> Any:
    out = wrap(made)
    if modes.grad and any([t._requires for t in tensors]):
        recorded(op, tuple(tensors), (out,))
    return out


def cat(tensors: Any, dim: Any) -> Any:
    """cat() of small arrays, or None."""
    arrays = _arrays(tensors, dim)
    if arrays is None or not -arrays[0].ndim <= dim < arrays[0].ndim:
        return None
    if arrays[0].ndim == 1 and not all([p.size for p in arrays]):
        return None  # empty ones are left out
    axis = dim % arrays[0].ndim
    try:
        made = np.concatenate(arrays, axis)
    except ValueError:  # said in our words
        return None
    return _joined(Concat(axis), tensors, made)


def stack(tensors: Any, dim: Any) -> Any:
    """stack() of small arrays, or None."""
    arrays = _arrays(tensors, dim)
    if arrays is None or not -arrays[0].ndim - 1 <= dim <= arrays[0].ndim:
        return None
    shape = arrays[0].shape
    if any([p.shape != shape for p in arrays]):
        return None
    axis = dim % (len(shape) + 1)
    wide = (*shape[:axis], 1, *shape[axis:])
    return _joined(Stack(axis), tensors, np.concatenate([p.reshape(wide) for p in arrays], axis))


def install() -> None:
    """Let public functions of one and two operands try this first."""
    for f in align.PRIMITIVES:
        f.quick[0] = (unary if f.arity == 1 else binary)(f.primitive)
    joining.quick[:] = [cat, stack]
