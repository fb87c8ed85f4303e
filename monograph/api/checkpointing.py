"""Activation checkpointing: trade time for memory. The mechanism is transform/checkpoint.py."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

from ..core import pytree
from ..core.errors import ArgumentError, ArgumentTypeError
from ..tensor import Tensor
from ..transform.checkpoint import checkpoint as _checkpoint

__all__ = ["checkpoint", "checkpoint_sequential", "checkpointed", "noop_context_fn"]


def noop_context_fn() -> tuple[Any, Any]:
    """The contexts of a plain checkpoint: nothing happens in them."""
    return nullcontext(), nullcontext()


def checkpoint(
    function: Callable,
    *args: Any,
    use_reentrant: bool | None = None,
    preserve_rng_state: bool = True,
    context_fn: Callable[[], tuple[Any, Any]] = noop_context_fn,
    determinism_check: str = "default",
    debug: bool = False,
    early_stop: bool = True,
    **kwargs: Any,
) -> Any:
    """function(*args, **kwargs) that keeps no intermediate values for backward.

    When a gradient needs them the function runs once more, with the same random numbers
    (preserve_rng_state). It must do the same operations each time. All derivatives work, of any
    order, with respect to arguments and to tensors that the function refers to. context_fn() gives
    two contexts, for the first run and the second (create_selective_checkpoint_contexts: what to
    keep all the same). use_reentrant, determinism_check, debug and early_stop are accepted for
    PyTorch's sake: there is one way here. Inside `jit` the compiler may merge the two computations
    again. Source: Chen, Xu, Zhang, Guestrin, "Training deep nets with sublinear memory
    cost", 2016.

    >>> x = tensor([1.0, 2.0], requires_grad=True)
    >>> checkpoint(lambda x: (x.exp() * x).sum(), x).backward()
    """
    if not callable(function):
        raise ArgumentTypeError(f"checkpoint: expected a function, got {type(function).__name__}")
    tensors = [x for x in pytree.flatten((args, kwargs))[0] if isinstance(x, Tensor)]
    if context_fn is noop_context_fn:
        return _checkpoint(lambda: function(*args, **kwargs), tensors, preserve_rng_state)
    contexts = iter(context_fn())

    def run() -> Any:
        with next(contexts):
            return function(*args, **kwargs)

    return _checkpoint(run, tensors, preserve_rng_state)


def checkpointed(function: Callable) -> Callable:
    """`function` as one that is always run by `checkpoint`; also a decorator."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(function, *args, **kwargs)

    return wrapper


def checkpoint_sequential(
    functions: Any, segments: int, input: Any, use_reentrant: bool | None = None,
    preserve_rng_state: bool = True,
) -> Any:  # fmt: skip
    """Run functions (or a Sequential) one after the other, checkpointing `segments` groups of them.

    The last group keeps its values: its backward comes at once.
    """
    steps: Sequence[Callable] = list(functions)
    if not 1 <= segments <= len(steps):
        raise ArgumentError(
            f"checkpoint_sequential: segments must be in [1, {len(steps)}], got {segments}"
        )
    size = len(steps) // segments

    def group(first: int, last: int) -> Callable:
        def run(x: Any) -> Any:
            for step in steps[first:last]:
                x = step(x)
            return x

        return run

    last = size * (segments - 1)
    for first in range(0, last, size):
        input = checkpoint(group(first, first + size), input, preserve_rng_state=preserve_rng_state)
    return group(last, len(steps))(input)
