"""Views by strides: as_strided, as_strided_copy, as_strided_scatter."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.errors import ArgumentError, ShapeError
from ..core.shape import as_index, as_shape
from ..ops.align import cast, public
from ..ops.movement import Copy
from ..ops.strides import AsStrided
from ..tensor import Tensor


def _op(name: str, size: Any, stride: Any, offset: Any) -> AsStrided:
    shape, steps = as_shape(name, (size,)), as_shape(name, (stride,))
    if len(shape) != len(steps) or min((*shape, *steps), default=0) < 0:
        raise ShapeError(f"{name}: size {shape} and stride {steps} do not fit")
    return AsStrided(shape, steps, as_index(name, "storage_offset", offset))


@public
def as_strided(input: Tensor, size: Any, stride: Any, storage_offset: int | None = None) -> Tensor:
    """The memory behind `input` read with other strides, counted in elements. A view.

    storage_offset  the element of that memory to begin with; None: the one that input begins with

    ShapeError where the memory is shorter.

    >>> as_strided(arange(6), (2, 3), (1, 2))
    tensor([[0, 2, 4],
            [1, 3, 5]])
    """
    memory = input._storage_owner()
    payload = memory._value()
    if type(payload) is np.ndarray:
        if not payload.flags.c_contiguous:
            raise ArgumentError(
                f"as_strided: the memory of shape {tuple(memory.shape)} is not in row-major order",
                hint="take as_strided of contiguous()",
            )
        offset = input.storage_offset() if storage_offset is None else storage_offset  # type: ignore[attr-defined]
    elif memory is not input and storage_offset is None:
        raise ArgumentError("as_strided: a view needs storage_offset while it is captured")
    else:
        offset = storage_offset or 0
    return _op("as_strided", size, stride, offset)(memory)


@public
def as_strided_copy(
    input: Tensor, size: Any, stride: Any, storage_offset: int | None = None
) -> Tensor:
    """as_strided into fresh memory."""
    return Copy()(as_strided(input, size, stride, storage_offset))


@public
def as_strided_scatter(
    input: Tensor, src: Tensor, size: Any, stride: Any, storage_offset: int | None = None
) -> Tensor:
    """A copy of `input` whose elements that as_strided would show are replaced by `src`."""
    op = _op("as_strided_scatter", size, stride, storage_offset or 0)
    if tuple(src.shape) != op.size:
        raise ShapeError(
            f"as_strided_scatter: src has shape {tuple(src.shape)}, expected {op.size}"
        )
    op.infer(input)
    return op.write(input, cast(src, input.dtype))
