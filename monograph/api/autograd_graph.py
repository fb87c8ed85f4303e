"""`monograph.autograd.graph`: nodes of the tape, hooks for what they keep and for many tensors.

    with monograph.autograd.graph.saved_tensors_hooks(pack, unpack):
        loss = model(x).sum()

The names and meanings of torch.autograd.graph. Read next: transform/tape.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..core.errors import ArgumentError, ArgumentTypeError, GradError
from ..core.modes import modes
from ..ops.movement import Copy
from ..tensor import Tensor
from ..transform.tape import AccumulateGrad, Node, hooking
from .autograd import RemovableHandle, register_hook

__all__ = [
    "GradientEdge", "Node", "allow_mutation_on_saved_tensors", "disable_saved_tensors_hooks",
    "get_gradient_edge", "increment_version", "register_multi_grad_hook", "save_on_cpu",
    "saved_tensors_hooks",
]  # fmt: skip

_refusals: list[str] = []  # messages of disable_saved_tensors_hooks, the innermost last


class saved_tensors_hooks:
    """Context manager: what operations keep for their gradient passes through two functions.

    pack_hook    called with each tensor that is kept, when it is; gives anything
    unpack_hook  called with that when a backward needs the tensor; gives the tensor

    Both run without recording gradients. What pack_hook is given must not be changed in place.
    Layers' functions run operation by operation in the block, so more is kept than otherwise. A
    captured program (jit) keeps its values itself. Same meaning as torch.autograd.graph's.

    >>> x, kept = tensor([2.0, 3.0], requires_grad=True), []
    >>> with autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or len(kept) - 1,
    ...                                         lambda number: kept[number]):
    ...     y = x * x
    >>> y.sum().backward()
    >>> len(kept), x.grad
    (2, tensor([4., 6.]))
    """

    def __init__(self, pack_hook: Callable[[Tensor], Any], unpack_hook: Callable[[Any], Tensor]):
        for name, hook in (("pack_hook", pack_hook), ("unpack_hook", unpack_hook)):
            if not callable(hook):
                raise ArgumentTypeError(
                    f"saved_tensors_hooks: {name} must be a function, got {type(hook).__name__}"
                )
        self.hooks = (pack_hook, unpack_hook)
        self._before: list[Any] = []

    def __enter__(self) -> saved_tensors_hooks:
        if _refusals:
            raise GradError(_refusals[-1])
        self._before.append(modes.saved_hooks)
        modes.saved_hooks = self.hooks
        hooking[0] += 1
        return self

    def __exit__(self, *exc: Any) -> None:
        modes.saved_hooks = self._before.pop()
        hooking[0] -= 1


class save_on_cpu(saved_tensors_hooks):
    """Keep what backward needs in the memory of the processor, which is where it is already.

    >>> x = tensor([2.0], requires_grad=True)
    >>> with autograd.graph.save_on_cpu(pin_memory=True):
    ...     y = x.exp()
    >>> y.backward()
    """

    def __init__(self, pin_memory: bool = False, device_type: str = "cuda"):
        super().__init__(lambda tensor: tensor, lambda tensor: tensor)


class allow_mutation_on_saved_tensors(saved_tensors_hooks):
    """In the block, tensors that were kept for a gradient may be changed in place: copies are kept.

    >>> x = tensor([2.0], requires_grad=True)
    >>> with autograd.graph.allow_mutation_on_saved_tensors():
    ...     h = x * 1
    ...     y = h * h
    ...     _ = h.zero_()
    >>> y.backward()
    >>> x.grad
    tensor([4.])
    """

    def __init__(self) -> None:
        super().__init__(lambda tensor: Copy()(tensor), lambda tensor: tensor)


class disable_saved_tensors_hooks:
    """Context manager: hooks for kept tensors are refused in the block, with this message."""

    def __init__(self, error_message: str):
        self.message = error_message

    def __enter__(self) -> None:
        _refusals.append(self.message)

    def __exit__(self, *exc: Any) -> None:
        _refusals.pop()


class GradientEdge(NamedTuple):
    """Where a gradient flows: a node of the tape and which of its outputs."""

    node: Any
    output_nr: int


def get_gradient_edge(tensor: Tensor) -> GradientEdge:
    """The edge on which the gradient of `tensor` comes. GradError if it requires none."""
    if not tensor.requires_grad:
        raise GradError("get_gradient_edge: the tensor requires no gradient")
    node = tensor.grad_fn
    if node is None:
        return GradientEdge(AccumulateGrad(tensor), 0)
    return GradientEdge(node, tensor._index)


def increment_version(tensor: Tensor | Sequence[Tensor]) -> None:
    """Tell the tape that memory was changed behind its back: gradients that read it will fail."""
    for t in (tensor,) if isinstance(tensor, Tensor) else tensor:
        t._version[0] += 1


class _Handles:
    """The hooks on many tensors, removed together."""

    def __init__(self, handles: list[RemovableHandle]):
        self.handles = handles

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()

    def __enter__(self) -> _Handles:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.remove()


def register_multi_grad_hook(
    tensors: Sequence[Tensor], fn: Callable, *, mode: str = "all"
) -> _Handles:
    """Call fn once in each backward for many tensors.

    mode  "all": fn(gradients), when those of all tensors that this backward reaches are known, None
          for others; "any": fn(gradient), with the first that is known

    With "all" that is at the end of the backward. What fn returns has no effect.

    >>> x, y = tensor(2.0, requires_grad=True), tensor(3.0, requires_grad=True)
    >>> hook = autograd.graph.register_multi_grad_hook((x, y), lambda gs: print(gs))
    >>> (x * y).backward()
    [tensor(3.), tensor(2.)]
    """
    if mode not in ("all", "any"):
        raise ArgumentError(f'register_multi_grad_hook: mode must be "all" or "any", got {mode!r}')
    many = list(tensors)
    found: dict[int, Tensor] = {}

    def end() -> None:
        gradients = [found.get(i) for i in range(len(many))]
        found.clear()
        if mode == "all":
            fn(gradients)

    def hook_of(i: int) -> Callable:
        def hook(gradient: Tensor) -> None:
            if not found:
                modes.ends.append(end)
                if mode == "any":
                    fn(gradient)
            found[i] = gradient

        return hook

    return _Handles([register_hook(t, hook_of(i)) for i, t in enumerate(many)])
