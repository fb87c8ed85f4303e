"""Forms of views that always copy (`permute_copy`), or whose parts may be written (`unsafe_split`).

Each has the arguments of the function in its name; the result shares no memory with the input.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core import dtype as dt
from ..core.dtype import DType
from ..ir.op import Full
from ..ops import shaping, triangular
from ..ops.align import FUNCTIONS, broadcast_to, cast, public
from ..ops.basic import Where
from ..ops.movement import Alias, Copy
from ..tensor import Tensor
from . import views
from .creation import as_tensor


def _copied(out: Any) -> Any:
    return Copy()(out) if isinstance(out, Tensor) else tuple(Copy()(part) for part in out)


def _copying(name: str, view: Callable) -> Callable:
    def f(input: Tensor, *args: Any, **kwargs: Any) -> Any:
        return _copied(view(input, *args, **kwargs))

    f.__name__ = f.__qualname__ = f"{name}_copy"
    f.__doc__ = f"`{name}` into fresh memory; the same arguments."
    return public(f)


def _view(input: Tensor, *shape: Any) -> Tensor:
    if len(shape) == 1 and isinstance(shape[0], DType):
        return views._view(input, shape[0])
    return shaping.reshape(input, *shape)


def _alias(input: Tensor) -> Tensor:
    return Alias()(input)


for _name, _function in {
    "alias": _alias,
    "diagonal": triangular.diagonal,
    "expand": shaping.expand,
    "permute": shaping.permute,
    "split": views.split,
    "split_with_sizes": views.split,
    "squeeze": shaping.squeeze,
    "t": FUNCTIONS["t"],
    "transpose": shaping.transpose,
    "unbind": views.unbind,
    "unsqueeze": shaping.unsqueeze,
    "view": _view,
}.items():
    _copying(_name, _function)


@public
def unfold_copy(input: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """Tensor.unfold into fresh memory."""
    return Copy()(input.unfold(dimension, size, step))  # type: ignore[attr-defined]


@public
def detach_copy(input: Tensor) -> Tensor:
    """The same elements in fresh memory, outside the tape."""
    return Copy()(input.detach())


@public
def detach(input: Tensor) -> Tensor:
    """The same memory, outside the tape."""
    return input.detach()


@public
def unsafe_split(tensor: Tensor, split_size: int, dim: int = 0) -> tuple[Tensor, ...]:
    """`split`. PyTorch skips a check of in-place writes here; ours costs nothing and stays."""
    return views.split(tensor, split_size, dim)


@public
def unsafe_chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """`chunk`. PyTorch skips a check of in-place writes here; ours costs nothing and stays."""
    return views.chunk(input, chunks, dim)


@public
def split_with_sizes(input: Tensor, split_sizes: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Consecutive parts of the listed sizes. Views.

    >>> split_with_sizes(arange(3), [1, 2])
    (tensor([0]), tensor([1, 2]))
    """
    return views.split(input, list(split_sizes), dim)


@public
def unsafe_split_with_sizes(input: Tensor, split_sizes: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """`split_with_sizes`; see unsafe_split."""
    return views.split(input, list(split_sizes), dim)


@public
def view_as(input: Tensor, other: Tensor) -> Tensor:
    """The same memory in the shape of `other`."""
    return views._view(input, *other.shape)


@public
def fill(input: Tensor, value: Any) -> Tensor:
    """A tensor of the shape and dtype of `input`, each element `value` (a number or 0-d tensor).

    >>> fill(tensor([1, 2]), 7)
    tensor([7, 7])
    """
    shape = tuple(input.shape)
    new = cast(as_tensor(value), input.dtype)
    return Where()(Full(shape, dt.bool_, True)(), broadcast_to(new, shape), input)
