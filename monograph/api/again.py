"""Composed functions on small tensors: what they did to arrays is done again.

For few elements nothing is compiled (composites.py), and tensors, nodes and dispatch of a
composition's operations take the time. The second call of a kind is recorded on arrays as a
backward is (transform/replay.py); later ones run its steps and leave one node on the tape, whose
gradient calls the composition again, or replays that, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core.modes import modes
from ..ops import composite
from ..tensor import Tensor, wrap
from ..transform import replay
from ..transform.structure import Tape
from . import interpreter

MOST = 65536  # elements of the arguments, above which operations are worth their dispatch
TRIES = 2  # recordings of one kind of call that may fail


class Again:
    """Calls of one kind: a function, its constants, the shapes of its tensors."""

    def __init__(self, f: Callable):
        self.function = f
        self.seen = 0
        self.program: Called | None = None

    def __call__(self, args: tuple, kwargs: dict, tensors: list, arrays: list) -> Any:
        if modes.steps is not None:  # a recording wants each operation
            return composite.PLAIN
        arrays = [t._payload for t in tensors]  # as they are, not as they stand in memory
        program = self.program
        if program is not None:
            same = len(arrays) > 1 and _repeated(arrays)
            return program(tensors, arrays) if same == program.same else composite.PLAIN
        self.seen += 1
        if self.seen == 1 or self.seen > 1 + TRIES:
            return composite.PLAIN
        me = Tape()
        me.arrays, me.mids = arrays, []
        recorder = modes.steps = replay.Recorder(me)
        replay.recording[0] += 1
        try:
            result = self.function(*args, **kwargs)
        finally:
            replay.recording[0] -= 1
            modes.steps = None
        program = Called(self.function, args, kwargs, len(arrays))
        program.same = len(arrays) > 1 and _repeated(arrays)
        if program.finish_call(recorder, result, tensors):
            self.program = program
        return result


def _repeated(arrays: list[Any]) -> Any:
    """Which arrays are the same as an earlier one; False where none is."""
    ids = [id(a) for a in arrays]
    return len(set(ids)) != len(ids) and [*map(ids.index, ids)]


class Called(replay.Program):
    """A recorded call of a composed function."""

    def __init__(self, f: Callable, args: tuple, kwargs: dict, arrays: int):
        self.function, self.name = f, f.__name__
        self.autocast = modes.autocast
        self.arrays, self.linked, self.results = arrays, True, []
        self.same: Any = False  # which arguments are one array
        places = iter(range(arrays))
        self.args = [next(places) if isinstance(a, Tensor) else None for a in args]
        self.constants = [None if isinstance(a, Tensor) else a for a in args]
        self.named = {
            k: (next(places), None) if isinstance(a, Tensor) else (None, a)
            for k, a in kwargs.items()
        }

    def finish_call(self, recorder: replay.Recorder, result: Any, tensors: list[Tensor]) -> bool:
        """Take what was recorded; False where it cannot be replayed."""
        self.several = type(result) is tuple
        made = result if self.several else (result,)
        if not recorder.ok or not all(type(r) is Tensor for r in made):
            return False
        bases = [r._base for r in made if r._base is not None]
        given = [v for v in tensors if any(v._storage_owner() is b for b in bases)]
        if given or len({id(b) for b in bases}) != len(bases):
            return False  # views of arguments, or of one another
        slots = [recorder.slot.get(id(r._payload), -1) for r in made]
        if any(s not in recorder.made for s in slots) or len(set(slots)) != len(slots):
            return False
        self.take(recorder)
        self.outs = slots
        self.results = [s for s, r in zip(slots, made) if r._requires]
        return True

    def __call__(self, tensors: list[Tensor], arrays: list[Any]) -> Any:
        slots = [*arrays]
        interpreter.quietly(self.run, (slots,))
        made = [wrap(slots[s]) for s in self.outs]
        if self.results:
            me = Tape()
            me.values = tensors
            node = replay.Replayed(self, me, slots)
            index = 0
            for t, s in zip(made, self.outs):
                if s in self.results:
                    t._node, t._index, t._requires = node, index, True
                    index += 1
                node.versions.append((t._version, 0))
        return tuple(made) if self.several else made[0]

    def unroll(self, values: list[Any]) -> list[Any]:
        before = modes.grad, modes.autocast
        modes.grad, modes.autocast = True, self.autocast
        try:
            given = [c if k is None else values[k] for k, c in zip(self.args, self.constants)]
            named = {k: c if i is None else values[i] for k, (i, c) in self.named.items()}
            result = self.function(*given, **named)
        finally:
            modes.grad, modes.autocast = before
        made = result if self.several else (result,)
        return [r for s, r in zip(self.outs, made) if s in self.results]
