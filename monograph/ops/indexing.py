"""Elements by integer index: the primitives. Reading and adding are adjoint, axis by axis.

    IndexSelect    rows of one axis, for all of the others      (embedding, x[:, i])
    IndexAdd       rows added into a base                       (gradient of IndexSelect)
    IndexSet       rows of a base replaced                      (x[:, i] = v)
    Gather         one index per element, along one axis        (torch.gather)
    ScatterAdd     elements added into a base at indices        (gradient of Gather)
    ScatterSet     elements of a base replaced at indices
    ScatterReduce  elements combined into a base by product, minimum or maximum
    WrapIndex      several indices into one, negative ones from the end

All but WrapIndex take 0 <= index < size; the meaning here raises IndexRangeError otherwise. Where
an index occurs several times, the last value stays. What users call is in gathering.py and in
api/indexing.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.errors import DTypeError, IndexRangeError, ShapeError
from ..core.shape import Shape, contiguous_strides, numel
from ..ir.op import Aval, Elementwise, Full, Opaque, op, zeros_of
from .align import cast
from .arith import div, eq, mul, sub
from .basic import Where
from .batching import batched, move_axis, shape_of, to_front
from .movement import Expand, Permute, Reshape
from .triangular import Iota


def check_range(name: str, index: Any, size: int, dim: int) -> None:
    """IndexRangeError unless all of the array `index` is in [0, size)."""
    if index.size and (index.min() < 0 or index.max() >= size):
        bad = index[(index < 0) | (index >= size)].flat[0]
        raise IndexRangeError(
            f"{name}: index {bad} is out of range for dimension {dim} of size {size}"
        )


def _check_index(name: str, index: Any) -> None:
    if index.dtype not in (dt.int64, dt.int32):
        raise DTypeError(f"{name}: indices must be int64 or int32, got {index.dtype.name}")


def _positions(index: Any) -> Any:
    """0, 1, 2, ... in row-major order, in the shape of `index`."""
    return Reshape(shape_of(index))(Iota((numel(index.shape),), dt.int64, 0)())


def _wide(x: Any) -> Any:
    """16-bit floats in float32, to add them up."""
    return x.astype(np.float32) if x.dtype.itemsize == 2 and x.dtype.kind not in "iu" else x


@op
class WrapIndex(Elementwise):
    """Row-major position of element (i, j, ...) in `sizes`; negative indices count from the end.

    dims  the numbers of the dimensions, for messages. Where compiled, -1 stands for an index that
    is out of range; the meaning raises IndexRangeError.
    """

    sizes: tuple[int, ...]
    dims: tuple[int, ...]
    accepts = (dt.int64,)
    differentiable = False
    saves = "none"

    def reference(self, *indices: Any) -> Any:
        total: Any = None
        for index, size, dim in zip(indices, self.sizes, self.dims):
            i = np.asarray(index)
            if i.size:
                low = i.min()
                if low < -size or i.max() >= size:
                    bad = i[(i < -size) | (i >= size)].flat[0]
                    raise IndexRangeError(
                        f"index: index {bad} is out of range for dimension {dim} of size {size}"
                    )
                if low < 0:
                    i = np.where(i < 0, i + size, i)
            total = i if total is None else total * size + i
        return np.array(total) if total is indices[0] else total

    def scalar(self, s: Any, *indices: Any) -> Any:
        total, valid = None, None
        for i, size in zip(indices, self.sizes):
            j = s.select(i < 0, i + size, i)
            ok = (j >= 0) & (j < size)
            total = j if total is None else total * size + j
            valid = ok if valid is None else valid & ok
        return s.select(valid, total, s.const(-1, "i64"))


def _row_shape(x: Any, axis: int, index: Any) -> Shape:
    return (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])


def _merge_rows(x: Any, axis: int) -> Any:
    """(B, ..., n, ...) with n at `axis` (batch included) as (B * n, ...)."""
    x = move_axis(x, axis, 1)
    return Reshape((x.shape[0] * x.shape[1], *x.shape[2:]))(x)


def _merged_index(index: Any, rows: int) -> Any:
    """Indices into merged rows of an index that is batched in front."""
    batch = Iota(shape_of(index), dt.int64, 0)()
    return WrapIndex((index.shape[0], rows), (0, 0))(batch, cast(index, dt.int64))


def _rotate(x: Any, start: int, count: int, to: int) -> Any:
    """Move the `count` axes from `start` so that they begin at axis `to` of the result."""
    moved = list(range(start, start + count))
    rest = [a for a in range(len(x.shape)) if a not in moved]
    order = (*rest[:to], *moved, *rest[to:])
    return x if order == tuple(range(len(order))) else Permute(order)(x)


@op
class IndexSelect(Opaque):
    """Rows of `axis` at integer indices of any shape, which takes the axis' place.

    (x, index) -> x.shape[:axis] + index.shape + x.shape[axis+1:]. Adjoint of IndexAdd.
    """

    axis: int
    saves, reads = "inputs", ((1,), ())
    has_long_vjp = True  # zeros, and rows added to them: one program fills and adds
    onnx = "Gather"

    def infer(self, x: Any, index: Any) -> Aval:
        _check_index("index_select", index)
        return Aval(_row_shape(x, self.axis, index), x.dtype)

    def reference(self, x: Any, index: Any) -> Any:
        check_range("index_select", index, x.shape[self.axis], self.axis)
        return np.take(x, index, self.axis)

    def vjp(self, g: Any, out: Any, x: Any, index: Any) -> tuple[Any, ...]:
        return (lambda: IndexAdd(self.axis)(zeros_of(x), index, g)), None

    def batch(self, dims: tuple, size: int, x: Any, index: Any) -> tuple[Any, Any]:
        if dims[1] is None:
            return IndexSelect(self.axis + 1)(to_front(x, dims[0]), index), 0
        index = to_front(index, dims[1])
        if dims[0] is None:
            return self(x, index), self.axis
        x = to_front(x, dims[0])
        rows = _merged_index(index, x.shape[self.axis + 1])
        out = IndexSelect(0)(_merge_rows(x, self.axis + 1), rows)
        return _rotate(out, 1, len(index.shape) - 1, 1 + self.axis), 0


class _IndexWrite(Opaque):
    """(base, index, values) -> base with rows changed; values as IndexSelect(axis) gives them."""

    axis: int
    saves = "inputs"

    def infer(self, base: Any, index: Any, values: Any) -> Aval:
        _check_index(self.name, index)
        if shape_of(values) != _row_shape(base, self.axis, index) or values.dtype != base.dtype:
            raise ShapeError(
                f"{self.name}: values {values.dtype.name}{shape_of(values)} do not fit index "
                f"{shape_of(index)} along axis {self.axis} of {base.dtype.name}{shape_of(base)}"
            )
        return Aval(shape_of(base), base.dtype)

    def batch(self, dims: tuple, size: int, base: Any, index: Any, values: Any) -> Any:
        base, values = batched(base, dims[0], size), batched(values, dims[2], size)
        again = type(self)
        if dims[1] is None:
            return again(self.axis + 1)(base, index, values), 0  # type: ignore[call-arg]
        index = to_front(index, dims[1])
        n = base.shape[self.axis + 1]
        values = _rotate(values, self.axis + 1, len(index.shape) - 1, 1)
        rows = _merge_rows(base, self.axis + 1)
        out = again(0)(rows, _merged_index(index, n), values)  # type: ignore[call-arg]
        out = Reshape((size, n, *out.shape[1:]))(out)
        return move_axis(out, 1, self.axis + 1), 0


@op
class IndexAdd(_IndexWrite):
    """The base with `values` added to its rows of `axis` at `index`. Adjoint of IndexSelect.

    Equal indices add up in order.
    """

    axis: int
    reads = ((), (), (1,))

    def reference(self, base: Any, index: Any, values: Any) -> Any:
        axis, ndim = self.axis, index.ndim
        check_range("index_add", index, base.shape[axis], axis)
        rows = _wide(np.moveaxis(base, axis, 0)).copy()
        moved = np.moveaxis(values, range(axis, axis + ndim), range(ndim))
        _add_rows(rows, index.reshape(-1), _wide(moved.reshape(index.size, *rows.shape[1:])))
        return np.moveaxis(rows.astype(base.dtype, copy=False), 0, axis)

    def vjp(self, g: Any, out: Any, base: Any, index: Any, values: Any) -> tuple[Any, ...]:
        return g, None, lambda: IndexSelect(self.axis)(g, index)


def _add_rows(rows: Any, index: Any, values: Any) -> None:
    """rows[index[i]] += values[i] for all i, in order."""
    if rows.ndim == 1 or rows.dtype == bool:
        np.add.at(rows, index, values)
    elif index.size:
        order = np.argsort(index, kind="stable")
        ranked = index[order]
        starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
        rows[ranked[starts]] += np.add.reduceat(values[order], starts, axis=0)


@op
class IndexSet(_IndexWrite):
    """The base with rows of `axis` at `index` replaced by `values`; the last of equal indices."""

    axis: int
    reads = ((1,), (), (1,))

    def reference(self, base: Any, index: Any, values: Any) -> Any:
        check_range("index_set", index, base.shape[self.axis], self.axis)
        out = np.array(base)
        out[(slice(None),) * self.axis + (index,)] = values
        return out

    def vjp(self, g: Any, out: Any, base: Any, index: Any, values: Any) -> tuple[Any, ...]:
        def of_values() -> Any:
            # Of several values for one row only the last is in the output.
            n = g.shape[self.axis]
            position = _positions(index)
            winner = IndexSet(0)(Full((n,), dt.int64, -1)(), index, position)
            wins = eq(IndexSelect(0)(winner, index), position)
            shape = shape_of(values)
            axes = tuple(
                a for a in range(len(shape)) if not self.axis <= a < self.axis + len(index.shape)
            )
            return _keep(Expand(shape, axes)(wins), IndexSelect(self.axis)(g, index))

        return (lambda: IndexSet(self.axis)(g, index, zeros_of(values))), None, of_values


def _keep(mask: Any, x: Any) -> Any:
    return Where()(mask, x, 0)


def _check_gather(name: str, x: Any, axis: int, index: Any) -> None:
    _check_index(name, index)
    if len(index.shape) != len(x.shape) or any(
        n > m for a, (n, m) in enumerate(zip(index.shape, x.shape)) if a != axis
    ):
        raise ShapeError(
            f"{name}: index of shape {shape_of(index)} does not fit {shape_of(x)}: it must have as "
            f"many dimensions, and be no larger in any but {axis}"
        )


def _within(x: Any, axis: int, index: Any) -> Any:
    """The part of the array x that an index smaller than x reaches."""
    return x[tuple(slice(None) if a == axis else slice(n) for a, n in enumerate(index.shape))]


@op
class Gather(Opaque):
    """out[i, j, k] = x[i, index[i, j, k], k] for axis 1. Adjoint of ScatterAdd.

    The index has as many axes as x, and is at most as large in all but `axis`.
    """

    axis: int
    saves, reads = "inputs", ((1,), ())
    has_long_vjp = True
    onnx = "GatherElements"

    def infer(self, x: Any, index: Any) -> Aval:
        _check_gather("gather", x, self.axis, index)
        return Aval(shape_of(index), x.dtype)

    def reference(self, x: Any, index: Any) -> Any:
        check_range("gather", index, x.shape[self.axis], self.axis)
        return np.take_along_axis(_within(x, self.axis, index), index, self.axis)

    def vjp(self, g: Any, out: Any, x: Any, index: Any) -> tuple[Any, ...]:
        return (lambda: ScatterAdd(self.axis)(zeros_of(x), index, g)), None

    def batch(self, dims: tuple, size: int, x: Any, index: Any) -> tuple[Any, Any]:
        x, index = batched(x, dims[0], size), batched(index, dims[1], size)
        return Gather(self.axis + 1)(x, index), 0


class _Scatter(Opaque):
    """(base, index, values) -> base changed at the places that Gather(axis) reads."""

    axis: int
    saves = "inputs"

    def infer(self, base: Any, index: Any, values: Any) -> Aval:
        _check_gather(self.name, base, self.axis, index)
        if shape_of(values) != shape_of(index) or values.dtype != base.dtype:
            raise ShapeError(
                f"{self.name}: values {values.dtype.name}{shape_of(values)} do not fit index "
                f"{shape_of(index)} and base {base.dtype.name}{shape_of(base)}"
            )
        return Aval(shape_of(base), base.dtype)

    def batch(self, dims: tuple, size: int, *args: Any) -> tuple[Any, Any]:
        fronted = [batched(x, d, size) for x, d in zip(args, dims)]
        return type(self)(self.axis + 1)(*fronted), 0  # type: ignore[call-arg]


def _flat_places(shape: Shape, axis: int, index: Any) -> Any:
    """Row-major positions in an array of `shape` that `index` along `axis` names, flat."""
    places = index.astype(np.int64) * contiguous_strides(shape)[axis]
    for a, stride in enumerate(contiguous_strides(shape)):
        if a != axis:
            n = index.shape[a]
            line = np.arange(n) * stride
            places = places + line.reshape([n if b == a else 1 for b in range(index.ndim)])
    return places.reshape(-1)


@op
class ScatterAdd(_Scatter):
    """The base with `values` added at the places that Gather(axis) reads. Adjoint of Gather."""

    axis: int
    reads = ((), (), (1,))
    onnx = "ScatterElements"

    def reference(self, base: Any, index: Any, values: Any) -> Any:
        check_range("scatter_add", index, base.shape[self.axis], self.axis)
        out = np.array(_wide(base)).reshape(-1)
        places = _flat_places(base.shape, self.axis, index)
        np.add.at(out, places, _wide(values).reshape(-1))
        return out.reshape(base.shape).astype(base.dtype, copy=False)

    def vjp(self, g: Any, out: Any, base: Any, index: Any, values: Any) -> tuple[Any, ...]:
        return g, None, lambda: Gather(self.axis)(g, index)


@op
class ScatterSet(_Scatter):
    """The base with the places that Gather(axis) reads replaced by `values`; the last one stays."""

    axis: int
    reads = ((1,), (), (1,))
    onnx = "ScatterElements"

    def reference(self, base: Any, index: Any, values: Any) -> Any:
        check_range("scatter", index, base.shape[self.axis], self.axis)
        out = np.array(base).reshape(-1)
        out[_flat_places(base.shape, self.axis, index)] = values.reshape(-1)
        return out.reshape(base.shape)

    def vjp(self, g: Any, out: Any, base: Any, index: Any, values: Any) -> tuple[Any, ...]:
        def of_values() -> Any:
            # Of several values for one place only the last is in the output.
            position = _positions(index)
            empty = Full(shape_of(g), dt.int64, -1)()
            winner = ScatterSet(self.axis)(empty, index, position)
            wins = eq(Gather(self.axis)(winner, index), position)
            return _keep(wins, Gather(self.axis)(g, index))

        return (lambda: ScatterSet(self.axis)(g, index, zeros_of(values))), None, of_values


@op
class ScatterReduce(_Scatter):
    """The base with `values` combined into the places that Gather(axis) reads.

    combine  "mul", "min" or "max". Elements equal to a minimum or maximum share its gradient.
    """

    axis: int
    combine: str
    saves = "all"
    onnx = "ScatterElements"

    def reference(self, base: Any, index: Any, values: Any) -> Any:
        check_range("scatter_reduce", index, base.shape[self.axis], self.axis)
        out = np.array(_wide(base)).reshape(-1)
        ufunc = {"mul": np.multiply, "min": np.minimum, "max": np.maximum}[self.combine]
        ufunc.at(out, _flat_places(base.shape, self.axis, index), _wide(values).reshape(-1))
        return out.reshape(base.shape).astype(base.dtype, copy=False)

    def vjp(self, g: Any, out: Any, base: Any, index: Any, values: Any) -> tuple[Any, ...]:
        gather, total = Gather(self.axis), ScatterAdd(self.axis)
        if self.combine != "mul":
            first, wins = eq(base, out), eq(values, gather(out, index))
            count = total(cast(first, g.dtype), index, cast(wins, g.dtype))
            share = div(g, count)
            return _keep(first, share), None, lambda: _keep(wins, gather(share, index))
        # The product of all other factors: of those that are not 0, times the sum of the others
        # that are, which is 0 and has their derivatives where there is one of them.
        zero, zeros = eq(base, 0), eq(values, 0)
        x, y = Where()(zero, 1, base), Where()(zeros, 1, values)
        count = total(cast(zero, g.dtype), index, cast(zeros, g.dtype))
        product = mul(g, self(x, index, y))
        none, nones = Where()(zero, base, 0), Where()(zeros, values, 0)
        both = total(none, index, nones)

        def others(p: Any, is_zero: Any, own: Any, factor: Any, count: Any, both: Any) -> Any:
            two = Where()(eq(count, 2), mul(p, sub(both, own)), 0)
            alone = Where()(eq(count, 1), p, two)
            p = div(p, factor)
            rest = Where()(eq(count, 0), p, Where()(eq(count, 1), mul(p, both), 0))
            return Where()(is_zero, alone, rest)

        def of_values() -> Any:
            p, n, b = (gather(v, index) for v in (product, count, both))
            return others(p, zeros, nones, y, n, b)

        return others(product, zero, none, x, count, both), None, of_values

    def batch(self, dims: tuple, size: int, *args: Any) -> tuple[Any, Any]:
        fronted = [batched(x, d, size) for x, d in zip(args, dims)]
        return ScatterReduce(self.axis + 1, self.combine)(*fronted), 0
