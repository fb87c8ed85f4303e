"""Batching: tensors that hide a batch axis, and what each kind of op does to them.

Inside vmap a tensor's payload is `Batched(value, dim, level)`: its shape lacks axis `dim` of
`value`, which is an ordinary tensor (with its own place on the tape, possibly batched at an outer
level, possibly a symbol of a capture). An op with such an argument is rewritten by the rule of its
kind into ops on the values, which go through the door again. `dim` None is a tensor that belongs to
the level (so that gradients may be taken with respect to it there) and is the same everywhere.

A tensor that is not Batched at a level belongs outside: whether it requires a gradient is a matter
of the tape outside, which records the rewritten ops.
"""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..core.errors import ArgumentError, BatchError
from ..core.modes import modes
from ..ir.op import Movement, Op, Opaque, is_value
from ..ops.batching import batched as expand_batch
from ..ops.batching import move_axis

# Set by tensor.py: make a tensor of a payload.
_wrap: list[Callable[[Any], Any]] = []


def install(wrap: Callable[[Any], Any]) -> None:
    """Tell vmap how to make a tensor from a batched payload."""
    _wrap[:] = [wrap]


class Level:
    """One vmap in progress: its depth, batch size and what random ops do."""

    __slots__ = ("number", "size", "randomness", "active", "outer")

    def __init__(self, size: int, randomness: str = "error"):
        self.outer: Level | None = modes.vmap
        self.number: int = 1 if self.outer is None else self.outer.number + 1
        self.size = size
        self.randomness = randomness
        self.active = True

    def draw(self, shape: tuple[int, ...], random: Callable[[tuple[int, ...]], Any]) -> Any:
        """Random words of `shape` at this level, from random(shape) at the next one further out."""
        if self.randomness == "error":
            raise BatchError(
                "vmap: a random operation was called inside vmap",
                hint='give vmap randomness="different" or randomness="same"',
            )
        with entered(self.outer):
            if self.randomness == "same":
                return random(shape)
            return _wrap[0](Batched(random((self.size, *shape)), 0, self))

    def __repr__(self) -> str:
        return f"<vmap level {self.number} of size {self.size}>"


@contextmanager
def entered(level: Level | None) -> Iterator[None]:
    """Make `level` the innermost one for the body."""
    before, modes.vmap = modes.vmap, level
    try:
        yield
    finally:
        modes.vmap = before


@contextmanager
def revived(level: Level | None) -> Iterator[None]:
    """`entered` for a level that may have ended: its tensors, and those outside of it, live
    again."""
    ended = []
    outer = level
    while outer is not None:
        if not outer.active:
            ended.append(outer)
            outer.active = True
        outer = outer.outer
    try:
        with entered(level):
            yield
    finally:
        for outer in ended:
            outer.active = False


class Batched:
    """The payload of a tensor inside vmap: `value` read without its axis `dim`."""

    __slots__ = ("value", "dim", "level", "shape")

    def __init__(self, value: Any, dim: int | None, level: Level):
        self.value, self.dim, self.level = value, dim, level
        shape = tuple(value.shape)
        self.shape = shape if dim is None else shape[:dim] + shape[dim + 1 :]

    @property
    def dtype(self) -> Any:
        return self.value.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __repr__(self) -> str:
        return (
            f"batched, level={self.level.number}, dim={self.dim}, value={self.value!r}"
            if self.level.active
            else f"batched, level={self.level.number} (ended), shape={self.shape}"
        )


def level_of(x: Any) -> Level | None:
    """The level at which x is batched, or None."""
    payload = getattr(x, "_payload", None)
    return payload.level if type(payload) is Batched else None


def unwrap(x: Any, level: Level) -> tuple[Any, int | None]:
    """(the tensor one level further out, its batch axis) of a tensor inside `level`."""
    if level_of(x) is level:
        payload = x._value()
        return payload.value, payload.dim
    return x, None


def any_requires_grad(x: Any) -> bool:
    """Whether x requires a gradient at its own level or at one outside of it."""
    while is_value(x):
        if x.requires_grad:
            return True
        payload = x._payload
        if type(payload) is not Batched:
            return False
        x = payload.value
    return False


def batch(op: Op, args: tuple) -> tuple[Any, bool]:
    """Serve the door for batched arguments: (payloads of the results, whether to tape them)."""
    level: Any = None
    for a in args:
        payload = getattr(a, "_payload", None)
        if type(payload) is Batched:
            other = payload.level
            if not other.active:
                raise BatchError(
                    f"{op.name}: a tensor made inside vmap was kept after it ended",
                    hint="return it from the function that vmap runs",
                )
            if level is None or other.number > level.number:
                level = other
    inner, dims, wants, is_same = [], [], False, True
    for a in args:
        payload = getattr(a, "_payload", None)
        if type(payload) is Batched and payload.level is level:
            inner.append(payload.value)
            dims.append(payload.dim)
            wants = wants or a._requires
            is_same = is_same and payload.dim is None
        else:
            inner.append(a)
            dims.append(None)
    if is_same:
        outs = op(*inner)
        if op.n_outputs == 1:
            return Batched(outs, None, level), wants
        return [Batched(o, None, level) for o in outs], wants
    outs, out_dims = _rules[-1](op, tuple(dims), level.size, inner)
    if op.n_outputs == 1:
        return Batched(outs, out_dims, level), wants
    return [Batched(o, d, level) for o, d in zip(outs, out_dims)], wants


def rewrite(op: Op, dims: tuple, size: int, args: list[Any]) -> tuple[Any, Any]:
    """`op` on args batched along `dims`: (outputs, their batch axes). The rule of each kind."""
    kind = op.kind
    if kind == "elementwise":
        return _elementwise(op, dims, args)
    if kind == "reduction":
        return _reduction(op, dims[0], args[0])
    if kind == "contraction":
        return _contraction(op, dims, args)
    if getattr(type(op), "batch", None) in (None, Opaque.batch, Movement.batch):
        raise BatchError(f"{op.name}: this operation has no rule for vmap")
    return op.batch(dims, size, *args)  # type: ignore[attr-defined]


_rules: list[Callable] = [rewrite]


def install_rules(again: Callable) -> None:
    """Say what does as `rewrite` does, in less time (api/batched.py)."""
    _rules[1:] = [again]


def _elementwise(op: Op, dims: tuple, args: list[Any]) -> tuple[Any, int]:
    where = next(d for d in dims if d is not None)
    size = next(a.shape[d] for a, d in zip(args, dims) if d is not None)
    aligned = []
    for a, d in zip(args, dims):
        if not is_value(a):
            aligned.append(a)
        elif d is None:
            aligned.append(move_axis(expand_batch(a, None, size), 0, where))
        else:
            aligned.append(move_axis(a, d, where))
    return op(*aligned), where


def _reduction(op: Any, dim: int, x: Any) -> tuple[Any, int]:
    axes = tuple(a + (a >= dim) for a in op.axes)
    return dataclasses.replace(op, axes=axes)(x), dim - sum(a < dim for a in axes)


def _contraction(op: Any, dims: tuple, args: list[Any]) -> tuple[Any, int]:
    letter = next(c for c in string.ascii_letters if c not in op.signature)
    x, y, out = op.parts()
    x, y = (s if d is None else s[:d] + letter + s[d:] for s, d in zip((x, y), dims))
    return dataclasses.replace(op, signature=f"{x},{y}->{letter}{out}")(*args), 0


def overwrite(target: Batched, value: Any, name: str) -> None:
    """Write `value` (a tensor of the target's shape, inside the same level or outside) in place."""
    inner, dim = value, None
    if level_of(value) is target.level:
        inner, dim = value._payload.value, value._payload.dim
    if target.dim is None:
        if dim is not None:
            raise not_batched(name)
    elif dim is None:
        inner = move_axis(expand_batch(inner, None, target.level.size), 0, target.dim)
    else:
        inner = move_axis(inner, dim, target.dim)
    target.value._write(inner, name)


def not_batched(name: str) -> BatchError:
    """The error for values that differ along the batch written where there is one for all."""
    return BatchError(
        f"{name}: a tensor that vmap batches cannot be written into one that it does not",
        hint="make the tensor that is written into from a batched one, as with zeros_like(x)",
    )


def axis_size(name: str, pairs: list[tuple[Any, int]]) -> int:
    """The common size of the axes that vmap maps over."""
    sizes = {x.shape[d] for x, d in pairs}
    if len(sizes) != 1:
        shown = ", ".join(f"axis {d} of {tuple(x.shape)}" for x, d in pairs)
        raise ArgumentError(f"{name}: the mapped axes have different sizes: {shown}")
    return sizes.pop()
