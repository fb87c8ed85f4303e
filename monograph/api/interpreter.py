"""What stands behind the door: batch, record, or run now; and note it on the tape.

apply(op, *args)
  -> payloads of the results:  batched (vmap) > symbols (capture) > arrays (NumPy or a kernel)
  -> tensors around them, with a tape node where a gradient will be wanted
"""

from __future__ import annotations

import contextvars
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core.dtype import BY_NUMPY as _DTYPES
from ..core.dtype import FLOAT
from ..core.errors import user_place
from ..core.modes import modes, uncast
from ..ir.op import Op
from ..ops.basic import Cast
from ..tensor import Tensor, wrap
from ..transform.meta import META
from ..transform.replay import recording
from ..transform.tape import ComplexNode, Like, Node, Saved, sequence
from ..transform.trace import Symbol, leaked
from ..transform.vmap import Batched, batch
from .compiled import HEAVY, fast


class _Contexts(threading.local):
    """Contexts of this thread in which NumPy says nothing of overflow and invalid values."""

    def __init__(self) -> None:
        self.free: list[contextvars.Context] = []


_contexts = _Contexts()


def quiet_context() -> contextvars.Context:
    """A fresh context in which NumPy gives no warnings of floating-point errors."""
    context = contextvars.Context()
    context.run(np.seterr, all="ignore")
    return context


def quietly(f: Callable, args: Sequence[Any]) -> Any:
    """f(*args) under np.errstate(all="ignore"), which itself takes as long as a small ufunc."""
    free = _contexts.free
    context = free.pop() if free else quiet_context()
    try:
        return context.run(f, *args)
    finally:
        free.append(context)


def run(op: Op, args: list[Any]) -> Any:
    """The op on arrays and numbers, now: an array, or a list of them for several outputs."""
    result = fast(op, args)
    if result is not None:
        if recording[0] and modes.steps is not None:
            modes.steps.op(op, args, result, None)
        return result
    expected = _expected(op, args)
    if op.kind == "movement":
        result = op.reference(*args)
    else:
        result = quietly(op.reference, args)
    if type(expected) is tuple:
        result = [_exact(r, d) for r, d in zip(result, expected)]
    elif type(result) is not np.ndarray or result.dtype is not expected:
        result = np.asarray(result, dtype=expected)
    else:
        expected = ()
    if recording[0] and modes.steps is not None:
        modes.steps.op(op, args, result, expected)
    return result


_run = run


def _exact(result: Any, dtype: np.dtype) -> np.ndarray:
    if type(result) is np.ndarray and result.dtype == dtype:
        return result
    return np.asarray(result, dtype=dtype)


# What `infer` said: op (or its class, for Elementwise ops without fields) and what it looks at
# -> NumPy dtypes of the results. Emptied when it is full.
_inferred: dict[tuple, Any] = {}
_FULL = 4096


def _expected(op: Op, args: list[Any]) -> Any:
    """NumPy dtype of the result, or a tuple of several; raises what `infer` raises."""
    fields = op.__dict__
    alike = op.kind == "elementwise" and not fields
    key: list[Any] = [op.__class__, *fields.values()]
    shape = None
    for a in args:
        if type(a) is not np.ndarray:
            key.append(type(a))
            continue
        key.append(a.dtype)
        if not alike:
            key.append(a.shape)
        elif shape is None:
            shape = a.shape
        elif a.shape != shape:
            key.append(a.shape)  # never known: infer raises
    found = _inferred.get(tuple(key))
    if found is None:
        aval = op.infer(*(_Shaped(a) if isinstance(a, np.ndarray) else a for a in args))
        found = tuple(a.dtype.numpy for a in aval) if op.n_outputs > 1 else aval.dtype.numpy
        if len(_inferred) >= _FULL:
            _inferred.clear()
        _inferred[tuple(key)] = found
    return found


class _Shaped:
    """An array's shape and DType, for infer."""

    __slots__ = ("shape", "dtype")

    def __init__(self, a: np.ndarray):
        self.shape = a.shape
        self.dtype = _DTYPES[a.dtype]


def _unusual(op: Op, args: tuple, payloads: list[Any], wants_grad: bool) -> tuple[Any, bool]:
    """(payloads of the results, wants_grad) where a payload is no array or a capture goes on."""
    trace = modes.trace
    if trace is not None and trace.inner:
        trace.adopt(args, payloads)
    for p in payloads:
        if type(p) is Batched:
            if modes.autocast is None:
                return batch(op, args)
            with uncast():
                return batch(op, args)
    if trace is None:
        symbols = [p for p in payloads if type(p) is Symbol]
        if all(p.trace is META for p in symbols):
            return META.record(op, payloads), wants_grad
        raise leaked(next(p for p in payloads if type(p) is Symbol))
    for i, a in enumerate(args):
        if type(payloads[i]) is np.ndarray:
            payloads[i] = trace.lift(a)
    return trace.record(op, payloads), wants_grad


def _are_numbers(op: Op, args: tuple) -> bool:
    """Whether this is arithmetic of Python numbers that a capture made inputs: gives another."""
    found = False
    for a in args:
        if isinstance(a, Tensor):
            if not a._weak:
                return False
            found = True
    return found and op.n_outputs == 1 and type(op) is not Cast


def _conjugates(op: Op) -> bool:
    """Whether the derivative of an op with complex results has factors that are conjugated."""
    return op.holomorphic and op.saves != "none"


def note(op: Op, edges: tuple, inputs: list, kept: bool, out: Tensor, made: np.ndarray) -> None:
    """Put `out` on the tape: what Node.__init__ does, for one output."""
    node: Any = _new(Node)
    node.op, node.edges, node.inputs = op, edges, inputs
    node.seq = next(sequence)
    node.place = user_place() if modes.anomaly else None
    node.hooks = node.recompute = None
    node.n_outputs = 1
    node.outs = [Saved(out, None, 0, True) if kept else Like((made.shape, made.dtype))]
    if modes.recorder is not None:
        modes.recorder.append(weakref.ref(node))
    out._node = node
    out._requires = True


_new = object.__new__
_SIMPLE = frozenset(("movement", "reduction", "elementwise"))
_MOST = 65536  # elements that such an op reads here
_MOST_REDUCED = HEAVY["reduction"]  # NumPy takes long for sums over short runs of elements


def _simple(op: Op, x: Any) -> Tensor | None:
    """op(x) for one small array, of a kind that was seen before; else None."""
    p = x._payload if x._base is None else x._value()
    if (
        type(p) is not np.ndarray or p.size > _MOST or op.slow_reference or op.n_outputs != 1
        or (op.kind == "reduction" and p.size > _MOST_REDUCED)
        or modes.trace is not None or recording[0] or run is not _run
    ):  # fmt: skip
        return None
    fields, kind = op.__dict__, op.kind
    if fields or kind != "elementwise":  # the keys of _expected
        expected = _inferred.get((op.__class__, *fields.values(), p.dtype, p.shape))
    else:
        expected = _inferred.get((op.__class__, p.dtype))
    if expected is None:
        return None
    moves = kind == "movement"
    if moves:
        made = op.reference(p)
    else:
        made = quietly(op.reference, (p,))
    if type(made) is not np.ndarray or made.dtype is not expected:
        made = np.asarray(made, dtype=expected)
    out = wrap(made)
    if moves and op.is_view:
        out._become_view(x, op)
    if x._requires and op.differentiable and modes.grad and made.dtype.kind not in "biu":
        if op.saves != "none":
            if made.dtype.kind == "c":
                recorded(op, (x,), (out,))
                return out
            out._node = Node(op, (x,), (out,))
            out._requires = True
            return out
        edge = (x, 0) if x._node is None else (x._node, x._index)
        note(op, (edge,), [Like((p.shape, p.dtype))], False, out, made)
    return out


def interpret(op: Op, args: tuple) -> Tensor | tuple[Tensor, ...]:
    """Serve the door for tensors."""
    if len(args) == 1 and op.kind in _SIMPLE:
        done = _simple(op, args[0])
        if done is not None:
            return done
    payloads: list[Any] = []
    wants_grad = False
    unusual = modes.trace is not None
    for a in args:
        if isinstance(a, Tensor):
            p = a._payload if a._base is None else a._value()
            if a._requires:
                wants_grad = True
            if type(p) is not np.ndarray:
                unusual = True
            payloads.append(p)
        else:
            payloads.append(a)
    if unusual:
        made, wants_grad = _unusual(op, args, payloads, wants_grad)
        if _are_numbers(op, args):
            number = wrap(made)
            number._weak = True
            return number
    else:
        made = run(op, payloads)
    record = wants_grad and modes.grad and op.differentiable
    if op.n_outputs == 1:
        out = wrap(made)
        if op.is_view:
            out._become_view(args[0], op)
        if record:
            category = out.dtype.category
            if category >= FLOAT:
                kind = Node if category == FLOAT or not _conjugates(op) else ComplexNode
                out._node = kind(op, args, (out,))
                out._requires = True
        return out
    outs = tuple(wrap(p) for p in made)
    if record:
        recorded(op, args, outs)
    return outs


def recorded(op: Op, args: tuple, outs: tuple[Tensor, ...]) -> None:
    """Put the results of an op on the tape."""
    conjugates = any(o.dtype.is_complex for o in outs) and _conjugates(op)
    node = (ComplexNode if conjugates else Node)(op, args, outs)
    for i, o in enumerate(outs):
        if o.dtype.is_inexact:
            o._node, o._index, o._requires = node, i, True
