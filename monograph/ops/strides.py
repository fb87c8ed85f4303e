"""Reading memory by strides: the primitive behind as_strided."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.errors import ShapeError
from ..core.shape import Shape, contiguous_strides, numel
from ..ir.op import Aval, Full, Movement, op, zeros_of
from .arith import add, mul
from .batching import batched, shape_of
from .indexing import IndexAdd, IndexSet
from .movement import Reshape
from .triangular import Iota


@op
class AsStrided(Movement):
    """out[i, j, ...] = element offset + i * stride[0] + j * stride[1] + ... in row-major order.

    Elements may be shown several times; their gradients add up.
    """

    size: Shape
    stride: Shape
    offset: int
    is_view = True

    def infer(self, x: Any) -> Aval:
        reach = self.offset + sum((n - 1) * s for n, s in zip(self.size, self.stride))
        if 0 not in self.size and not 0 <= self.offset <= reach < numel(x.shape):
            raise ShapeError(
                f"as_strided: size {self.size}, stride {self.stride} and offset {self.offset} "
                f"reach element {reach} of {numel(x.shape)}"
            )
        return Aval(self.size, x.dtype)

    def reference(self, x: Any) -> Any:
        flat = np.ascontiguousarray(x).reshape(-1)[self.offset :]
        if 0 in self.size:
            return flat[:0].reshape(self.size)
        steps = [s * x.dtype.itemsize for s in self.stride]
        return np.lib.stride_tricks.as_strided(flat, self.size, steps)

    def places(self) -> Any:
        """The element that each place shows, as a flat int64 value."""
        count = numel(self.size)
        at = Full(self.size, dt.int64, self.offset)()
        for axis, step in enumerate(self.stride):
            at = add(at, mul(Iota(self.size, dt.int64, axis)(), step))
        return Reshape((count,))(at)

    def _flat(self, x: Any) -> Any:
        return Reshape((numel(x.shape),))(x)

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        total = IndexAdd(0)(self._flat(zeros_of(x)), self.places(), self._flat(g))
        return (Reshape(shape_of(x))(total),)

    def write(self, base: Any, value: Any) -> Any:
        flat = IndexSet(0)(self._flat(base), self.places(), self._flat(value))
        return Reshape(shape_of(base))(flat)

    def source(self, index: tuple, shape: Shape) -> tuple[tuple, Any]:
        flat: Any = None
        for i, step in zip(index, self.stride):
            flat = i * step if flat is None else flat + i * step
        flat = self.offset if flat is None else flat + self.offset
        found = []
        for n, step in zip(shape, contiguous_strides(shape)):
            if isinstance(flat, int):
                found.append(flat // step % n)
            else:
                found.append(flat // step % n if n > 1 else flat * 0)
        return tuple(found), None

    def strides(self, shape: Shape, strides: Shape) -> Shape | None:
        return self.stride if tuple(strides) == contiguous_strides(shape) else None

    def batch(self, dims: tuple, size: int, x: Any) -> tuple[Any, Any]:
        x = batched(x, dims[0], size)
        each = numel(x.shape[1:])
        return AsStrided((size, *self.size), (each, *self.stride), self.offset)(x), 0
