"""Forward-mode derivatives with dual numbers: the names of torch.autograd.forward_ad.

    with forward_ad.dual_level():
        y = f(forward_ad.make_dual(x, way))
        slope = forward_ad.unpack_dual(y).tangent

What is computed from a dual number is recorded; `unpack_dual` walks the record back, and the walk
back again (transposing twice), which costs about as much as three evaluations for each tensor that
is unpacked. `func.jvp` does the same for a function.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..core.errors import ArgumentError, ArgumentTypeError, GradError
from ..core.modes import modes
from ..ops.movement import Alias
from ..tensor import Tensor
from ..transform import walk
from .func import _recording, _Scope, _zeros_like

__all__ = ["UnpackedDualTensor", "dual_level", "enter_dual_level", "exit_dual_level",
           "make_dual", "unpack_dual"]  # fmt: skip


class _Level(_Scope):
    """The dual numbers of one `dual_level`: its inputs, and a tangent for each."""

    def __init__(self) -> None:
        super().__init__("make_dual")
        self.starts: list[Tensor] = []
        self.tangents: list[Tensor] = []
        self.before = modes.grad, modes.inference


class UnpackedDualTensor(NamedTuple):
    """What `unpack_dual` returns."""

    primal: Tensor
    tangent: Tensor | None


_levels: list[_Level] = []


def enter_dual_level() -> int:
    """Begin a level of dual numbers; there is one at a time. `dual_level` also ends it."""
    if _levels:
        raise GradError(
            "dual_level: one is entered already, and there is one at a time",
            hint="nest func.jvp for derivatives of derivatives",
        )
    _levels.append(_Level())
    modes.grad, modes.inference = True, False
    return 0


def exit_dual_level(*, level: int | None = None) -> None:
    """End the level: its dual numbers are ordinary tensors from now on."""
    if not _levels or level not in (None, 0):
        raise GradError("exit_dual_level: no such level is entered")
    ended = _levels.pop()
    modes.grad, modes.inference = ended.before
    ended.close()


class dual_level:
    """A context for dual numbers.

    >>> with dual_level():
    ...     y = make_dual(tensor(3.0), tensor(1.0)) ** 2
    ...     unpack_dual(y).tangent
    tensor(6.)
    """

    def __enter__(self) -> int:
        return enter_dual_level()

    def __exit__(self, *exc: Any) -> None:
        exit_dual_level()


def make_dual(tensor: Any, tangent: Any, *, level: int | None = None) -> Tensor:
    """`tensor` as a dual number: what is computed from it changes with it along `tangent`.

    tangent  of the tensor's shape and dtype

    GradError outside of a `dual_level`.
    """
    if not _levels:
        raise GradError(
            "make_dual: no level is entered", hint="do it in `with forward_ad.dual_level():`"
        )
    for what, x in (("tensor", tensor), ("tangent", tangent)):
        if not isinstance(x, Tensor):
            raise ArgumentTypeError(f"make_dual: {what} must be a tensor, got {type(x).__name__}")
    if tuple(tensor.shape) != tuple(tangent.shape) or tensor.dtype is not tangent.dtype:
        raise ArgumentError(
            f"make_dual: the tangent must be {tensor.dtype.name}{tuple(tensor.shape)} as the "
            f"tensor, got {tangent.dtype.name}{tuple(tangent.shape)}"
        )
    current = _levels[-1]
    with _recording():
        start = current.input(tensor)
        current.starts.append(start)
        current.tangents.append(tangent)
        return Alias()(start)  # no leaf: it can be changed in place


def unpack_dual(tensor: Any, *, level: int | None = None) -> UnpackedDualTensor:
    """(primal, tangent) of a dual number; the tangent is None if no dual number led to it."""
    if not isinstance(tensor, Tensor):
        raise ArgumentTypeError(f"unpack_dual: expected a tensor, got {type(tensor).__name__}")
    if not _levels or not tensor.requires_grad:
        return UnpackedDualTensor(tensor, None)
    current = _levels[-1]
    connected = current.connected([tensor])
    with _recording():
        back = _Scope("unpack_dual")
        back.outer = current.outer
        seed = back.input(_zeros_like(tensor))
        found = walk.run_backward(
            [tensor], [seed], current.starts, True, True, None, connected, current.since
        )
        pairs = [(g, current.tangents[i]) for i, g in found.items() if g.requires_grad]
        if not pairs:
            return UnpackedDualTensor(tensor, None)
        create = current.outer and (connected or any(t.requires_grad for _, t in pairs))
        (tangent,) = back.pull(
            [g for g, _ in pairs], [t for _, t in pairs], [seed], create, connected
        )
    if not create:
        tangent = tangent.detach()
    back.close()
    return UnpackedDualTensor(current.release(tensor), tangent)
