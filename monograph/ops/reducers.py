"""What combines elements over axes that disappear: products, extremes and their positions, any,
all, the k-th smallest. Functions on them: reduce.py. Sum is in movement.py, beside its adjoint.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.dtype import DType
from ..core.errors import ArgumentError
from ..core.shape import Shape, numel
from ..ir.op import Aval, Opaque, Reduction, op
from .align import cast
from .arith import div_, eq, mul
from .basic import Where
from .batching import batched, shape_of
from .cumulative import exclusive_cumprod
from .exponential import widened
from .movement import Expand, Flip, Permute, Reshape, Sum
from .triangular import Iota


@op
class Prod(Reduction):
    """Product over `axes`. The gradient is right where elements are 0."""

    axes: tuple[int, ...]
    accepts = dt.NUMERIC
    saves = "inputs"
    combine, identity = "mul", 1

    def reference(self, x: Any) -> Any:
        wide = widened(x)
        return wide.prod(self.axes, dtype=wide.dtype)

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        # The other elements' product: of those before, times of those after.
        shape, axes = shape_of(x), self.axes
        kept = tuple(a for a in range(len(shape)) if a not in axes)
        order = (*kept, *axes)
        flat = Reshape((*(shape[a] for a in kept), numel(shape[a] for a in axes)))(
            Permute(order)(x)
        )
        last = len(kept)
        after = Flip((last,))(exclusive_cumprod(Flip((last,))(flat), last))
        others = mul(exclusive_cumprod(flat, last), after)
        moved = Reshape(tuple(shape[a] for a in order))(others)
        others = Permute(tuple(order.index(a) for a in range(len(order))))(moved)
        return (mul(Expand(shape, axes)(g), others),)


class _Extreme(Reduction):
    """Base of maximum and minimum over axes."""

    accepts = dt.REAL
    identity = None
    saves = "all"
    has_long_vjp = True

    def reference(self, x: Any) -> Any:
        return getattr(x, self.combine)(self.axes)

    def mask(self, x: Any, out: Any) -> Any:
        return eq(x, Expand(shape_of(x), self.axes)(out))


class _Shared(_Extreme):
    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        mask = self.mask(x, out)
        count = Sum(self.axes)(cast(mask, g.dtype))
        share = Expand(shape_of(x), self.axes)(div_(g, count))
        return (Where()(mask, share, 0.0),)


class _First(_Extreme):
    """Over one axis; the gradient goes to the first winner."""

    saves = "inputs"
    position: Any  # the class of the op that gives the winners' places

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (_at_position(g, self.position(self.axes)(x), shape_of(x), self.axes),)


def _at_position(g: Any, position: Any, shape: Shape, axes: tuple[int, ...]) -> Any:
    """g where the index along the one axis is `position`, 0 elsewhere."""
    here = eq(Iota(shape, dt.int64, axes[0])(), Expand(shape, axes)(position))
    return Where()(here, Expand(shape, axes)(g), 0.0)


@op
class Amax(_Shared):
    """Largest element over `axes`; nan wins. Ties share the gradient equally."""

    axes: tuple[int, ...]
    combine = "max"


@op
class Amin(_Shared):
    """Smallest element over `axes`; nan wins. Ties share the gradient equally."""

    axes: tuple[int, ...]
    combine = "min"


class _Position(Reduction):
    accepts = dt.REAL
    differentiable = False
    identity = None

    def result(self, x: DType) -> DType:
        return dt.int64

    def reference(self, x: Any) -> Any:
        return getattr(widened(x), self.combine)(self.axes[0])


@op
class ArgMax(_Position):
    """Position of the first largest element along the one axis, int64; the first nan wins."""

    axes: tuple[int, ...]
    combine = "argmax"


@op
class ArgMin(_Position):
    """Position of the first smallest element along the one axis, int64; the first nan wins."""

    axes: tuple[int, ...]
    combine = "argmin"


@op
class MaxFirst(_First):
    """Largest element along the one axis; the gradient goes to the first of equals."""

    axes: tuple[int, ...]
    combine, position = "max", ArgMax


@op
class MinFirst(_First):
    """Smallest element along the one axis; the gradient goes to the first of equals."""

    axes: tuple[int, ...]
    combine, position = "min", ArgMin


@op
class Any_(Reduction):
    """Whether any element over `axes` is true."""

    axes: tuple[int, ...]
    name = "any"
    accepts = (dt.bool_,)
    differentiable = False
    combine, identity = "or", False

    def reference(self, x: Any) -> Any:
        return x.any(self.axes)


@op
class All(Reduction):
    """Whether all elements over `axes` are true."""

    axes: tuple[int, ...]
    accepts = (dt.bool_,)
    differentiable = False
    combine, identity = "and", True

    def reference(self, x: Any) -> Any:
        return x.all(self.axes)


@op
class Kth(Opaque):
    """The element at sorted position k along `axis`, and where it is: (values, int64 positions).

    nan sorts as the largest; with `nan_first`, a nan in the line is the result (median's rule).
    """

    axis: int
    k: int
    nan_first: bool = False
    n_outputs = 2
    saves = "all"

    accepts = dt.REAL

    def infer(self, x: Any) -> Any:
        self.check_dtypes(x)
        shape = shape_of(x)
        kept = (*shape[: self.axis], *shape[self.axis + 1 :])
        if not 0 <= self.k < (shape[self.axis] or 1):
            raise ArgumentError(f"kth: position {self.k} in a dimension of {shape[self.axis]}")
        return Aval(kept, x.dtype), Aval(kept, dt.int64)

    def reference(self, x: Any) -> Any:
        order = np.argsort(widened(x), self.axis, kind="stable")
        index = np.take(order, self.k, self.axis)
        if self.nan_first and x.dtype.kind not in "iub":
            broken = x != x
            index = np.where(broken.any(self.axis), broken.argmax(self.axis), index)
        index = np.expand_dims(index, self.axis)
        values = np.take_along_axis(x, index, self.axis)
        return values.squeeze(self.axis), index.squeeze(self.axis)

    def vjp(self, g: Any, out: Any, x: Any) -> tuple[Any, ...]:
        return (_at_position(g[0], out[1], shape_of(x), (self.axis,)),)

    def batch(self, dims: tuple, size: int, x: Any) -> tuple[Any, Any]:
        moved = Kth(self.axis + 1, self.k, self.nan_first)
        return moved(batched(x, dims[0], size)), (0, 0)
