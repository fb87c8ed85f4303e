"""compile: PyTorch's name for `jit`, for functions and for modules."""

from __future__ import annotations

from typing import Any

from .capture import jit


def compile(
    model: Any = None,
    *,
    fullgraph: bool = False,
    dynamic: bool | None = None,
    backend: Any = "inductor",
    mode: str | None = None,
    options: dict | None = None,
    disable: bool = False,
) -> Any:
    """A function compiled by `jit`; a module stays the same object and compiles its `forward`.

    fullgraph  raise for what cannot be captured; otherwise such a function runs eagerly, with one
               warning
    dynamic    as for `jit`: None makes sizes that change dynamic, True all, False none
    disable    change nothing

    The other arguments choose among PyTorch's compilers and are accepted without effect. A whole
    training step (forward, backward, optimizer) in one function runs fastest.

    >>> double = compile(lambda x: x * 2)
    >>> double(tensor([1.0, 2.0]))
    tensor([2., 4.])
    """
    if model is None:
        return lambda f: compile(f, fullgraph=fullgraph, dynamic=dynamic, disable=disable)
    if disable:
        return model
    if callable(getattr(model, "forward", None)):
        model.forward = jit(model.forward, fallback=not fullgraph, dynamic=dynamic)
        return model
    return jit(model, fallback=not fullgraph, dynamic=dynamic)
