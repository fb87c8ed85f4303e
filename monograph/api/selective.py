"""Selective checkpointing: results that a policy picks are kept; everything else is computed again.

The two contexts serve the door (ir/dispatch.py) around the two runs of the function: the first
notes what each operation gave, the second gives it back. checkpointing.py runs them.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..core.errors import ArgumentTypeError, GradError
from ..core.modes import modes
from ..ir.dispatch import handler, handling
from ..ir.op import REGISTRY, Op
from ..tensor import Tensor, wrap
from .interpreter import recorded


class CheckpointPolicy(enum.Enum):
    """What becomes of an operation's result: it is saved, or computed again in backward.

    There is no difference between MUST and PREFER here, and offloaded results stay where they are.
    """

    MUST_SAVE = 0
    PREFER_SAVE = 1
    MUST_RECOMPUTE = 2
    PREFER_RECOMPUTE = 3
    MUST_CPU_OFFLOAD = 4
    PREFER_CPU_OFFLOAD = 5


_AGAIN = (CheckpointPolicy.MUST_RECOMPUTE, CheckpointPolicy.PREFER_RECOMPUTE)


class SelectiveCheckpointContext:
    """What a policy is told beside the operation: its result."""

    def __init__(self, *, is_recompute: bool, op_output: Any = None):
        self.is_recompute = is_recompute
        self.op_output = op_output


class _Entry:
    """An operation of the first run; `kept` are its results with their versions, or None."""

    def __init__(self, op: Op, outs: tuple[Tensor, ...] | None):
        self.op = op
        self.kept = None
        if outs is not None:  # without the tape's nodes, which belong to the first run
            self.kept = [(o._payload, o._version, o._version[0]) for o in outs]


def create_selective_checkpoint_contexts(
    policy_fn_or_list: Callable | Sequence[Any], allow_cache_entry_mutation: bool = False
) -> tuple[Any, Any]:
    """Contexts for the two runs of `checkpoint(..., context_fn=...)`: keep what a policy says.

    policy_fn_or_list  f(ctx, op, *args) -> CheckpointPolicy, or True to save; or a list of
                       operations to save. They are this package's primitives, by class or
                       name: "contract" is every product, "conv" and "attention" what they say
    allow_cache_entry_mutation
                       do not mind that a kept result was changed in place

    Inside `jit` and `vmap` nothing is kept: there the compiler decides, or all is computed again.

    >>> from monograph.utils.checkpoint import checkpoint
    >>> keep = lambda: create_selective_checkpoint_contexts(["contract"])
    >>> w = ones(2, 2, requires_grad=True)
    >>> checkpoint(lambda x: (x @ w).exp().sum(), ones(2, 2), context_fn=keep).backward()
    """
    policy = policy_fn_or_list if callable(policy_fn_or_list) else _listed(policy_fn_or_list)
    entries: list[_Entry] = []
    return _first_run(policy, entries), _second_run(entries, allow_cache_entry_mutation)


def _listed(ops: Sequence[Any]) -> Callable:
    names = set()
    for o in ops:
        name = o if isinstance(o, str) else getattr(o, "name", None)
        if name not in REGISTRY:
            raise ArgumentTypeError(
                f"create_selective_checkpoint_contexts: {o!r} is no primitive operation",
                hint="'contract' (products), 'conv', 'attention', ...: monograph.ir.op.REGISTRY",
            )
        names.add(name)
    return lambda ctx, op, *args: op.name in names


def _is_plain(args: tuple) -> bool:
    """Whether these are arrays and numbers, and nothing is captured or batched."""
    return modes.trace is None and all(
        type(a._value()) is np.ndarray for a in args if isinstance(a, Tensor)
    )


@contextmanager
def _first_run(policy: Callable, entries: list[_Entry]) -> Any:
    outside, thread = handler(), threading.get_ident()

    def serve(op: Op, args: tuple) -> Any:
        made = outside(op, args)
        if threading.get_ident() != thread or not _is_plain(args):
            return made
        told = SelectiveCheckpointContext(is_recompute=False, op_output=made)
        answer = False if op.is_view else policy(told, op, *args)
        saves = answer if isinstance(answer, bool) else answer not in _AGAIN
        outs = made if isinstance(made, tuple) else (made,)
        entries.append(_Entry(op, outs if saves else None))
        return made

    with handling(serve):
        yield


@contextmanager
def _second_run(entries: list[_Entry], allow_mutation: bool) -> Any:
    outside, thread = handler(), threading.get_ident()
    rest = iter(entries)

    def serve(op: Op, args: tuple) -> Any:
        if threading.get_ident() != thread or not _is_plain(args):
            return outside(op, args)
        entry = next(rest, None)
        if entry is None or entry.op != op:
            raise GradError(
                f"checkpoint: the second run did {op.name} where the first did "
                f"{'nothing more' if entry is None else entry.op.name}",
                hint="it must do the same operations each time it is called",
            )
        if entry.kept is None:
            return outside(op, args)
        for _, version, before in entry.kept:
            if version[0] != before and not allow_mutation:
                raise GradError(
                    f"checkpoint: a result of {op.name} that was kept was changed in place",
                    hint="allow_cache_entry_mutation=True takes it as it is now",
                )
        outs = tuple(wrap(payload) for payload, _, _ in entry.kept)
        if modes.grad and op.differentiable and any(getattr(a, "_requires", False) for a in args):
            recorded(op, args, outs)
        return outs[0] if op.n_outputs == 1 else outs

    with handling(serve):
        yield
