"""backward, grad, hooks, anomaly mode. The pass itself is transform/walk.py."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..core.errors import ArgumentError, ArgumentTypeError, BatchError, GradError
from ..core.modes import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    modes,
    no_grad,
    set_grad_enabled,
)
from ..core.tracing import refused
from ..ops.movement import Copy
from ..runtime.buffers import owns_memory
from ..tensor import Tensor, wrap
from ..transform import tape, walk
from ..transform.trace import Symbol
from ..transform.vmap import level_of
from .batching import vmap
from .sparse import SparseTensor, accumulate_rows

__all__ = [
    "backward", "grad", "set_detect_anomaly", "detect_anomaly", "no_grad", "enable_grad",
    "set_grad_enabled", "inference_mode", "is_grad_enabled",
]  # fmt: skip


def _as_list(x: Any) -> list[Any]:
    if isinstance(x, Tensor) or not isinstance(x, Iterable):
        return [x]
    return list(x)


def _seeds(name: str, outputs: list[Tensor], gradients: Any) -> list[Any]:
    given = [None] * len(outputs) if gradients is None else _as_list(gradients)
    if len(given) != len(outputs):
        raise ArgumentError(f"{name}: {len(outputs)} outputs but {len(given)} gradients")
    return [walk.seed(name, o, g) for o, g in zip(outputs, given)]


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
    refused("backward() is called")
    outputs = _as_list(tensors)
    seeds = _seeds("backward", outputs, grad_tensors)
    keep = create_graph if retain_graph is None else retain_graph
    wanted = None if inputs is None else _as_list(inputs)
    if wanted is not None and not wanted:
        raise ArgumentError("backward: inputs must not be empty")
    for x in wanted or ():
        if not x.requires_grad:
            raise GradError(f"backward: an input of shape {tuple(x.shape)} requires no gradient")
    found = walk.run_backward(
        outputs, seeds, wanted, keep, create_graph,
        lambda leaf, g, fresh: _accumulate(leaf, g, fresh, create_graph),
    )  # fmt: skip
    for i, x in enumerate(wanted or ()):
        if x._node is not None and i in found:
            _accumulate(x, found[i], False, create_graph)


def _accumulate(leaf: Tensor, g: Tensor, fresh: bool, create_graph: bool) -> None:
    """leaf.grad += g, in place where nothing can see it; .grad never shares memory with others."""
    if isinstance(g, SparseTensor):
        accumulate_rows(leaf, g)
        for hook in tuple((leaf._after_grad or {}).values()):
            hook(leaf)
        return
    if level_of(g) is not level_of(leaf):
        raise BatchError(
            "backward: a gradient batched by vmap cannot be accumulated into .grad of a tensor "
            "made outside of it",
            hint="use mg.func.grad inside mg.vmap",
        )
    before = leaf.grad
    if isinstance(before, SparseTensor):
        leaf.grad = before + g.detach()
    elif before is None and modes.trace is None and not create_graph:
        leaf._grad = _own(g, fresh)
    elif before is None:
        leaf.grad = _own(g, fresh) if not create_graph else g if fresh else Copy()(g)
    elif create_graph:
        leaf.grad = before + g
    else:
        mine, other = before._payload, g._value()
        if (
            type(mine) is np.ndarray and type(other) is np.ndarray and modes.trace is None
            and before._base is None and before._node is None and mine.dtype == other.dtype
        ):  # fmt: skip
            np.add(mine, other, out=mine)
            before._version[0] += 1
        else:
            before._write(before + g, "grad")
    for hook in tuple((leaf._after_grad or {}).values()):
        hook(leaf)


def _own(g: Tensor, fresh: bool) -> Tensor:
    """g off the tape, in memory of its own."""
    payload = g._value()
    if type(payload) is np.ndarray:
        flags = payload.flags
        if not (fresh and flags.c_contiguous and flags.writeable and owns_memory(payload)):
            payload = np.array(payload, order="C")
    elif type(payload) is not Symbol:
        payload = Copy()(g)._payload
    return wrap(payload)


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Any, ...]:
    """Gradients of `outputs` with respect to `inputs`, as a tuple; `.grad` stays as it is.

    only_inputs        has no effect
    is_grads_batched   grad_outputs have a first axis more: one gradient for each element of it
    allow_unused       give None for inputs that the outputs do not depend on (else GradError)
    materialize_grads  give zeros for them instead

    >>> x = tensor(3.0, requires_grad=True)
    >>> grad(x * x, x)
    (tensor(6.),)
    """
    outs, ins = _as_list(outputs), _as_list(inputs)
    if is_grads_batched:
        if grad_outputs is None:
            raise ArgumentError("grad: is_grads_batched needs grad_outputs")

        def one(*gradients: Any) -> tuple[Any, ...]:
            return grad(
                outs, ins, gradients, True, create_graph, allow_unused=allow_unused,
                materialize_grads=materialize_grads,
            )  # fmt: skip

        return vmap(one)(*_as_list(grad_outputs))
    for i, x in enumerate(ins):
        if not isinstance(x, Tensor):
            raise ArgumentTypeError(f"grad: input {i} must be a tensor, got {type(x).__name__}")
        if not x.requires_grad:
            raise GradError(f"grad: input {i} of shape {tuple(x.shape)} requires no gradient")
    seeds = _seeds("grad", outs, grad_outputs)
    keep = create_graph if retain_graph is None else retain_graph
    found = walk.run_backward(outs, seeds, ins, keep, create_graph, None)
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


_handles = itertools.count()


class RemovableHandle:
    """What registering a hook returns: `remove()`, or the end of a `with` block, takes it away."""

    def __init__(self, hooks: dict[int, Callable], hook: Callable):
        self.hooks, self.id = hooks, next(_handles)
        hooks[self.id] = hook

    def remove(self) -> None:
        self.hooks.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.remove()


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
    """Call hook(gradient) when this tensor's gradient is known; what it returns replaces it.

    Hooks run in the order of registration, once per backward, on the whole gradient.
    """
    refused("a hook is registered")
    if not self.requires_grad:
        raise GradError("register_hook: the tensor requires no gradient")
    node = self.grad_fn
    if node is None:
        if self._hooks is None:
            self._hooks = {}
        return RemovableHandle(self._hooks, hook)
    return RemovableHandle(node.hooked().tensor.setdefault(self._index, {}), hook)


def register_post_accumulate_grad_hook(self: Tensor, hook: Callable) -> RemovableHandle:
    """Call hook(leaf) after a backward has accumulated this leaf's .grad."""
    if self._node is not None or not self.requires_grad:
        raise GradError(
            "register_post_accumulate_grad_hook: only leaves that require a gradient have one"
        )
    if self._after_grad is None:
        self._after_grad = {}
    return RemovableHandle(self._after_grad, hook)


def retain_grad(self: Tensor) -> None:
    """Keep `.grad` of a tensor that is not a leaf (it comes after all hooks)."""
    if not self.requires_grad:
        raise GradError("retain_grad: the tensor requires no gradient")
    node = self.grad_fn
    if node is None or self._retain:
        return
    self._retain = True
    me = weakref.ref(self)

    def keep(g: Tensor) -> None:
        t = me()
        if t is not None:
            t.grad = Copy()(g) if t.grad is None else t.grad + g

    node.hooked().retain[self._index] = keep


def _node_prehook(self: tape.Node, hook: Callable) -> RemovableHandle:
    """Call hook(gradients of the outputs) before this node; what it returns replaces them."""
    return RemovableHandle(self.hooked().pre, hook)


def _node_hook(self: tape.Node, hook: Callable) -> RemovableHandle:
    """Call hook(grad_inputs, grad_outputs) after this node; what it returns replaces the first."""
    return RemovableHandle(self.hooked().post, hook)


class set_detect_anomaly:
    """Note forward lines, and stop a backward at the first nan (unless check_nan is False); also a
    context manager."""

    def __init__(self, mode: bool, check_nan: bool = True):
        self.before = modes.anomaly, modes.check_nan
        modes.anomaly, modes.check_nan = bool(mode), bool(check_nan)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: Any) -> None:
        modes.anomaly, modes.check_nan = self.before


class detect_anomaly:
    """Context manager form of set_detect_anomaly(True, check_nan)."""

    def __init__(self, check_nan: bool = True):
        self.check_nan = check_nan

    def __enter__(self) -> None:
        self.before = modes.anomaly, modes.check_nan
        modes.anomaly, modes.check_nan = True, bool(self.check_nan)

    def __exit__(self, *exc: Any) -> None:
        modes.anomaly, modes.check_nan = self.before


Tensor.backward = _method_backward  # type: ignore[attr-defined]
Tensor.register_hook = register_hook  # type: ignore[attr-defined]
Tensor.retain_grad = retain_grad  # type: ignore[attr-defined]
Tensor.register_post_accumulate_grad_hook = register_post_accumulate_grad_hook  # type: ignore[attr-defined]
tape.Node.register_prehook = _node_prehook  # type: ignore[attr-defined]
tape.Node.register_hook = _node_hook  # type: ignore[attr-defined]
Tensor.retains_grad = property(lambda self: self._retain)  # type: ignore[attr-defined]
