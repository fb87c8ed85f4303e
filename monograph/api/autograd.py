"""`monograph.autograd`: backward, grad, hooks, anomaly mode. The pass itself is transform/tape.py."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

from ..core.errors import ArgumentError, GradError
from ..core.modes import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    modes,
    no_grad,
    set_grad_enabled,
)
from ..tensor import Tensor
from ..transform import tape

__all__ = [
    "backward", "grad", "set_detect_anomaly", "detect_anomaly", "no_grad", "enable_grad",
    "set_grad_enabled", "inference_mode", "is_grad_enabled",
]  # fmt: skip


def _as_list(x: Any) -> list[Any]:
    return list(x) if isinstance(x, (tuple, list)) else [x]


def _seeds(name: str, outputs: list[Tensor], gradients: Any) -> list[Any]:
    given = [None] * len(outputs) if gradients is None else _as_list(gradients)
    if len(given) != len(outputs):
        raise ArgumentError(f"{name}: {len(outputs)} outputs but {len(given)} gradients")
    return [tape.seed(o, g) for o, g in zip(outputs, given)]


def backward(
    tensors: Any,
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Accumulate gradients of `tensors` into `.grad` of the leaves they were made from.

    tensors       a tensor or several
    grad_tensors  cotangents of the same shapes; None: 1 (single elements only)
    retain_graph  keep saved values for another backward (default: create_graph)
    inputs        only these leaves
    """
    outputs = _as_list(tensors)
    seeds = _seeds("backward", outputs, grad_tensors)

    def accumulate(leaf: Tensor, g: Tensor) -> None:
        before = leaf.grad
        if before is None:
            leaf.grad = g if create_graph else g.detach()
        elif create_graph:
            leaf.grad = before + g
        else:
            with no_grad():
                before._write(before + g, "grad")

    keep = create_graph if retain_graph is None else retain_graph
    tape.run_backward(
        outputs, seeds, None if inputs is None else _as_list(inputs), keep, create_graph, accumulate
    )


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    materialize_grads: bool = False,
) -> tuple[Any, ...]:
    """Gradients of `outputs` with respect to `inputs`, as a tuple; `.grad` stays as it is.

    allow_unused       give None for inputs that the outputs do not depend on (else GradError)
    materialize_grads  give zeros for them instead

    >>> x = tensor(3.0, requires_grad=True)
    >>> grad(x * x, x)
    (tensor(6.),)
    """
    outs, ins = _as_list(outputs), _as_list(inputs)
    for i, x in enumerate(ins):
        if not x.requires_grad:
            raise GradError(f"grad: input {i} of shape {tuple(x.shape)} requires no gradient")
    seeds = _seeds("grad", outs, grad_outputs)
    keep = create_graph if retain_graph is None else retain_graph
    found = tape.run_backward(outs, seeds, ins, keep, create_graph, None)
    result = []
    for i, x in enumerate(ins):
        g = found.get(i)
        if g is None and materialize_grads:
            g = tape.Full(tuple(x.shape), x.dtype, 0)()
        if g is None and not allow_unused:
            raise GradError(
                f"grad: the outputs do not depend on input {i} of shape {tuple(x.shape)}",
                hint="allow_unused=True gives None for it, materialize_grads=True zeros",
            )
        result.append(g)
    return tuple(result)


class RemovableHandle:
    """What registering a hook returns: `remove()` takes the hook away again."""

    def __init__(self, hooks: list, hook: Callable):
        self.hooks, self.hook = hooks, hook

    def remove(self) -> None:
        if self.hook in self.hooks:
            self.hooks.remove(self.hook)


def _method_backward(
    self: Tensor,
    gradient: Tensor | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Sequence[Tensor] | None = None,
) -> None:
    """Accumulate the gradient of this tensor into `.grad` of the leaves it was made from.

    gradient  cotangent of this tensor's shape; None: 1 (single element only). Others: see
    mg.autograd.backward.
    """
    backward(self, gradient, retain_graph, create_graph, inputs)


def register_hook(self: Tensor, hook: Callable) -> RemovableHandle:
    """Call hook(gradient) when this tensor's gradient is known; what it returns replaces it."""
    if not self.requires_grad:
        raise GradError("register_hook: the tensor requires no gradient")
    if self._node is None:
        if self._hooks is None:
            self._hooks = []
        hooks = self._hooks
    else:
        if self._node.hooks is None:
            self._node.hooks = {}
        hooks = self._node.hooks.setdefault(self._index, [])
    hooks.append(hook)
    return RemovableHandle(hooks, hook)


def retain_grad(self: Tensor) -> None:
    """Keep `.grad` of a tensor that is not a leaf."""
    if self._node is None or self._retain:
        return
    self._retain = True
    me = weakref.ref(self)

    def keep(g: Tensor) -> None:
        t = me()
        if t is not None:
            t.grad = g if t.grad is None else t.grad + g

    register_hook(self, keep)


class set_detect_anomaly:
    """Note forward lines, and stop a backward at the first nan; also a context manager."""

    def __init__(self, mode: bool):
        self.before = modes.anomaly
        modes.anomaly = bool(mode)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: Any) -> None:
        modes.anomaly = self.before


class detect_anomaly:
    """Context manager form of set_detect_anomaly(True)."""

    def __enter__(self) -> None:
        self.before = modes.anomaly
        modes.anomaly = True

    def __exit__(self, *exc: Any) -> None:
        modes.anomaly = self.before


Tensor.backward = _method_backward  # type: ignore[attr-defined]
Tensor.register_hook = register_hook  # type: ignore[attr-defined]
Tensor.retain_grad = retain_grad  # type: ignore[attr-defined]
Tensor.retains_grad = property(lambda self: self._retain)  # type: ignore[attr-defined]
