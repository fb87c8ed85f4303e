"""What vmap makes of operations on small tensors is done again.

A rule of vmap (transform/vmap.py) turns an operation on batched tensors into others: axes move,
operations with other axes and signatures are made, each with its dispatch. The second time that an
operation comes with the same parameters, shapes and batch axes, what its rule does to arrays is
recorded, as for a backward (transform/replay.py); later ones run those steps alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.modes import modes
from ..ir.op import Movement, Op
from ..tensor import Tensor, wrap
from ..transform import replay
from ..transform.structure import Tape
from ..transform.vmap import rewrite
from . import interpreter

MOST = 65536  # elements of the arguments, above which operations are worth their dispatch
LIMIT = 4096  # kinds of operations
KINDS = frozenset(("elementwise", "reduction", "contraction"))  # whose results are new arrays

# Kind -> None: seen once; False: cannot be done again; a program; of a movement (movement, axis).
_programs: dict[tuple, Any] = {}


class Rewritten(replay.Program):
    """What a rule did to arrays."""

    def __init__(self, recorder: replay.Recorder, slot: int, dim: int):
        self.take(recorder)
        self.slot, self.dim = slot, dim


def again(op: Op, dims: tuple, size: int, args: list[Any]) -> tuple[Any, Any]:
    """`rewrite` of the op on args batched along `dims`."""
    if op.n_outputs != 1:
        return rewrite(op, dims, size, args)
    if op.kind == "movement" and len(args) == 1:
        return _moved(op, dims, size, args[0])
    if op.kind not in KINDS:
        return rewrite(op, dims, size, args)
    key: list[Any] = [op.__class__, *op.__dict__.values(), dims]
    arrays: list[Any] = []
    elements = 0
    for a in args:
        if isinstance(a, Tensor):
            p = a._payload if a._base is None else a._value()
            if type(p) is not np.ndarray or a._requires:
                return rewrite(op, dims, size, args)
            for k, other in enumerate(arrays):
                if other is p:
                    key.append(k)
            arrays.append(p)
            elements += p.size
            key += (p.shape, p.dtype)
        else:
            key += (a.__class__, a or repr(a))  # 0.0 and -0.0 differ
    if elements > MOST or modes.trace is not None or modes.steps is not None:
        return rewrite(op, dims, size, args)
    kind = tuple(key)
    program = _programs.get(kind)
    if program:
        slots = arrays
        interpreter.quietly(program.run, (slots,))
        return wrap(slots[program.slot]), program.dim
    if program is None and kind in _programs:
        return _record(kind, op, dims, size, args, arrays)
    if program is None:
        _keep(kind, None)
    return rewrite(op, dims, size, args)


def _moved(op: Op, dims: tuple, size: int, x: Tensor) -> tuple[Any, Any]:
    """`rewrite` of a movement: as a rule the same movement with other parameters."""
    kind = (op.__class__, *op.__dict__.values(), dims, x.shape)
    known = _programs.get(kind)
    if known:
        return known[0](x), known[1]
    p = x._payload if x._base is None else x._value()
    if known is False or type(p) is not np.ndarray or modes.trace or modes.steps:
        return rewrite(op, dims, size, [x])
    made, dim, recorder = _recorded(op, dims, size, [x], [p])
    actions = recorder.trace
    if recorder.ok and len(actions) == 1 and isinstance(actions[0][0], Movement):
        _keep(kind, (actions[0][0], dim))
    else:
        _keep(kind, False)
    return made, dim


def _recorded(
    op: Op, dims: tuple, size: int, args: list[Any], arrays: list[Any]
) -> tuple[Any, Any, replay.Recorder]:
    """What `rewrite` gives, and what it did to arrays."""
    me = Tape()
    me.arrays, me.mids = arrays, []
    recorder = modes.steps = replay.Recorder(me)
    replay.recording[0] += 1
    try:
        made, dim = rewrite(op, dims, size, args)
    finally:
        replay.recording[0] -= 1
        modes.steps = None
    return made, dim, recorder


def _keep(kind: tuple, what: Any) -> None:
    if len(_programs) >= LIMIT:
        _programs.clear()
    _programs[kind] = what


def _record(
    kind: tuple, op: Op, dims: tuple, size: int, args: list[Any], arrays: list[Any]
) -> tuple[Any, Any]:
    made, dim, recorder = _recorded(op, dims, size, args, arrays)
    _programs[kind] = False
    payload = made._payload
    slot = recorder.slot.get(id(payload))
    if (
        recorder.ok and slot in recorder.made and made._base is None
        and not any(np.may_share_memory(payload, a) for a in arrays)
    ):  # fmt: skip
        _programs[kind] = Rewritten(recorder, slot, dim)
    return made, dim
