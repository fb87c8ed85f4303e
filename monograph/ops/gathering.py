"""Public functions on integer indices: gather, scatter, index_*, take, embedding, one_hot."""

from __future__ import annotations

from typing import Any

from ..core import dtype as dt
from ..core.errors import ArgumentError, ArgumentTypeError, DTypeError, IndexRangeError, ShapeError
from ..core.shape import broadcast_shapes, is_number, normalize_dim, numel
from ..ir.op import Full, is_value
from .align import broadcast_to, cast, literal, public
from .arith import add, div, gt, mul, times, where
from .basic import Where
from .batching import shape_of
from .indexing import (
    Gather,
    IndexAdd,
    IndexSelect,
    IndexSet,
    ScatterAdd,
    ScatterReduce,
    ScatterSet,
    WrapIndex,
)
from .movement import Reshape, Slice


def as_index_tensor(name: str, index: Any, argument: str = "index") -> Any:
    """The index as int32 or int64."""
    if not is_value(index):
        raise ArgumentTypeError(f"{name}: {argument} must be a tensor, got {type(index).__name__}")
    if index.dtype not in dt.INTS:
        raise DTypeError(
            f"{name}: {argument} must be an integer dtype, got {index.dtype.name} of shape "
            f"{shape_of(index)}",
            hint="index.to(mg.int64) if the values are whole numbers",
        )
    return index if index.dtype in (dt.int32, dt.int64) else cast(index, dt.int64)


def named(name: str, op: Any, *args: Any) -> Any:
    """op(*args), whose range error speaks of the function that the user called."""
    try:
        return op(*args)
    except IndexRangeError as error:
        raise IndexRangeError(
            f"{name}:{error.message.partition(':')[2]}", place=error.place
        ) from None


def _vector(name: str, index: Any) -> Any:
    index = as_index_tensor(name, index)
    if len(index.shape) > 1:
        raise ShapeError(f"{name}: index must be 1-d, got shape {shape_of(index)}")
    return index if index.shape else Reshape((1,))(index)


def _at_least_1d(x: Any) -> Any:
    return x if x.shape else Reshape((1,))(x)


@public
def index_select(input: Any, dim: int, index: Any) -> Any:
    """Rows of `dim` at the 1-d `index`, as a copy.

    IndexRangeError for an index outside [0, size); negative ones are not allowed.

    >>> index_select(tensor([[1, 2], [3, 4]]), 1, tensor([1, 1]))
    tensor([[2, 2],
            [4, 4]])
    """
    index = _vector("index_select", index)
    axis = normalize_dim("index_select", dim, len(input.shape))
    out = named("index_select", IndexSelect(axis), _at_least_1d(input), index)
    return out if input.shape else Reshape(())(out)


def _rows(name: str, input: Any, dim: int, index: Any, source: Any) -> tuple[int, Any, Any]:
    axis = normalize_dim(name, dim, len(input.shape))
    index = _vector(name, index)
    if source.dtype is not input.dtype:
        raise DTypeError(
            f"{name}: source is {source.dtype.name}, input is {input.dtype.name}; they must agree"
        )
    expected = (*input.shape[:axis], index.shape[0], *input.shape[axis + 1 :])
    if not input.shape:
        expected = (1,) if source.shape else ()
    if shape_of(source) != expected:
        raise ShapeError(
            f"{name}: source has shape {shape_of(source)}, expected {expected} for index of "
            f"{index.shape[0]} in dimension {axis} of {shape_of(input)}"
        )
    return axis, index, source


def _on_rows(name: str, op: Any, input: Any, index: Any, source: Any) -> Any:
    if input.shape:
        return named(name, op, input, index, source)
    return Reshape(())(named(name, op, *map(_at_least_1d, (input, index, source))))


@public
def index_add(input: Any, dim: int, index: Any, source: Any, *, alpha: Any = 1) -> Any:
    """A copy of `input` with alpha * source added to its rows of `dim` at `index`.

    Equal indices add up, in order.
    """
    axis, index, source = _rows("index_add", input, dim, index, source)
    source = times(source, alpha)
    return _on_rows("index_add", IndexAdd(axis), input, index, source)


@public
def index_copy(input: Any, dim: int, index: Any, source: Any) -> Any:
    """A copy of `input` with its rows of `dim` at `index` replaced by those of `source`."""
    axis, index, source = _rows("index_copy", input, dim, index, source)
    return _on_rows("index_copy", IndexSet(axis), input, index, source)


@public
def index_fill(input: Any, dim: int, index: Any, value: Any) -> Any:
    """A copy of `input` with its rows of `dim` at `index` set to a number or 0-d tensor."""
    axis = normalize_dim("index_fill", dim, len(input.shape))
    index = _vector("index_fill", index)
    x = _at_least_1d(input)
    shape = (*x.shape[:axis], index.shape[0], *x.shape[axis + 1 :])
    if is_value(value) and value.shape:
        raise ShapeError(f"index_fill: value must be a number or 0-d, got {shape_of(value)}")
    out = named("index_fill", IndexSet(axis), x, index, _filled(value, shape, x.dtype))
    return out if input.shape else Reshape(())(out)


def _filled(value: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    if is_value(value) and not is_number(value):
        return broadcast_to(cast(value, dtype), shape)
    return Full(shape, dtype, literal(value, dtype))()


def _element_index(name: str, input: Any, dim: int, index: Any) -> tuple[int, Any]:
    axis = normalize_dim(name, dim, len(input.shape))
    index = as_index_tensor(name, index)
    ndim = len(input.shape)
    if len(index.shape) != ndim and not (ndim <= 1 and len(index.shape) <= 1):
        raise ShapeError(
            f"{name}: index has {len(index.shape)} dimensions, input has {ndim}; they must agree"
        )
    return axis, index


@public
def gather(input: Any, dim: int, index: Any, *, sparse_grad: bool = False) -> Any:
    """out[i, j, k] = input[i, index[i, j, k], k] for dim 1, and so on.

    index  as many dimensions as input; no larger in any but `dim`

    >>> gather(tensor([[1, 2], [3, 4]]), 1, tensor([[1], [0]]))
    tensor([[2],
            [3]])
    """
    if is_value(index) and 0 in index.shape and len(index.shape) != len(input.shape):
        normalize_dim("gather", dim, len(input.shape))
        nothing = Reshape((numel(input.shape),))(input)  # PyTorch: any empty index is good
        return Reshape(shape_of(index))(Slice((0,), (0,), (1,))(nothing))
    axis, index = _element_index("gather", input, dim, index)
    out = named("gather", Gather(axis), _at_least_1d(input), _at_least_1d(index))
    return out if index.shape else Reshape(())(out)


def _source_part(name: str, src: Any, index: Any) -> Any:
    """The part of `src` that an index of smaller shape uses."""
    if shape_of(src) == shape_of(index):
        return src
    if len(src.shape) != len(index.shape) or any(n > m for n, m in zip(index.shape, src.shape)):
        raise ShapeError(
            f"{name}: src of shape {shape_of(src)} is too small for index {shape_of(index)}"
        )
    zeros, ones = (0,) * len(src.shape), (1,) * len(src.shape)
    return Slice(zeros, shape_of(index), ones)(src)


def _scattered(name: str, op: Any, input: Any, index: Any, src: Any) -> Any:
    if src.dtype is not input.dtype:
        raise DTypeError(
            f"{name}: src is {src.dtype.name}, input is {input.dtype.name}; they must agree"
        )
    index = _at_least_1d(index)
    src = _source_part(name, _at_least_1d(src), index)
    out = named(name, op, _at_least_1d(input), index, src)
    return out if input.shape else Reshape(())(out)


@public
def scatter(
    input: Any, dim: int, index: Any, src: Any = None, *, value: Any = None, reduce: Any = None
) -> Any:
    """A copy of `input` where out[i, index[i, j, k], k] = src[i, j, k] for dim 1, and so on.

    src     a tensor at least as large as index, or a number (also as `value`)
    reduce  None, "add" or "multiply": combine with what is there
    Where an index occurs several times, the last one in row-major order stays.
    """
    axis, index = _element_index("scatter", input, dim, index)
    src = value if src is None else src
    if src is None:
        raise ArgumentError("scatter: src or value must be given")
    if is_number(src):
        src = Full(shape_of(index), input.dtype, literal(src, input.dtype))()
    if reduce not in (None, "add", "multiply"):
        raise ArgumentError(f"scatter: reduce must be None, 'add' or 'multiply', got {reduce!r}")
    if reduce == "add":
        op: Any = ScatterAdd(axis)
    elif reduce == "multiply":
        op = ScatterReduce(axis, "mul")
    else:
        op = ScatterSet(axis)
    return _scattered("scatter", op, input, index, src)


@public
def scatter_add(input: Any, dim: int, index: Any, src: Any) -> Any:
    """A copy of `input` where src[i, j, k] is added to out[i, index[i, j, k], k] for dim 1, ...

    >>> scatter_add(zeros(3), 0, tensor([0, 2, 0]), tensor([1.0, 2.0, 3.0]))
    tensor([4., 0., 2.])
    """
    axis, index = _element_index("scatter_add", input, dim, index)
    return _scattered("scatter_add", ScatterAdd(axis), input, index, src)


@public
def scatter_reduce(
    input: Any, dim: int, index: Any, src: Any, reduce: str, *, include_self: bool = True
) -> Any:
    """A copy of `input` with `src` combined into out[i, index[i, j, k], k] for dim 1, and so on.

    reduce        "sum", "prod", "mean", "amax" or "amin"
    include_self  whether the elements of input count too
    """
    name = "scatter_reduce"
    axis, index = _element_index(name, input, dim, index)
    ways: dict[str, Any] = {"sum": None, "mean": None, "prod": "mul", "amax": "max", "amin": "min"}
    if reduce not in ways:
        raise ArgumentError(f"{name}: reduce must be one of {', '.join(ways)}, got {reduce!r}")
    index = _at_least_1d(index)
    src = _source_part(name, _at_least_1d(src), index)
    base = _at_least_1d(input)
    if base.dtype is dt.bool_:
        whole = cast(base, dt.int64)
        parts = axis, index, cast(src, dt.int64)
        out = scatter_reduce(whole, *parts, reduce, include_self=include_self)
        return Reshape(shape_of(input))(cast(out, dt.bool_))
    counts = None
    if not include_self or reduce == "mean":
        ones = Full(shape_of(index), base.dtype, 1)()
        start = Full(shape_of(base), base.dtype, 1 if include_self else 0)()
        counts = named(name, ScatterAdd(axis), start, index, ones)
    if not include_self:
        base = where(gt(counts, 0), _neutral(reduce, base.dtype), base)
    if ways[reduce] is None:
        out = _scattered(name, ScatterAdd(axis), base, index, src)
    else:
        out = _scattered(name, ScatterReduce(axis, ways[reduce]), base, index, src)
    if reduce == "mean":
        counts = where(gt(counts, 0), counts, 1)
        whole = base.dtype in dt.INTS
        out = cast(_floor_quotient(out, counts) if whole else div(out, counts), base.dtype)
    return out if input.shape else Reshape(())(out)


def _floor_quotient(x: Any, y: Any) -> Any:
    """Quotient of integers rounded down, for y > 0."""
    quotient = cast(div(cast(x, dt.float64), cast(y, dt.float64)), x.dtype)
    return where(gt(mul(quotient, y), x), add(quotient, -1), quotient)


def _neutral(reduce: str, dtype: Any) -> Any:
    if reduce in ("sum", "mean"):
        return 0
    if reduce == "prod":
        return 1
    if dtype.is_floating_point:
        return float("-inf") if reduce == "amax" else float("inf")
    info = dt.iinfo(dtype)
    return info.min if reduce == "amax" else info.max


@public
def take(input: Any, index: Any, *, axis: int | None = None) -> Any:
    """Elements of the flattened `input` at `index` (negative ones from the end), in its shape.

    axis  slices along it instead, in the place of it
    """
    if axis is not None:
        axis = normalize_dim("take", axis, len(input.shape))
        index = cast(as_index_tensor("take", index), dt.int64)
        wrapped = named("take", WrapIndex((input.shape[axis],), (axis,)), index)
        return IndexSelect(axis)(input, wrapped)
    total = numel(input.shape)
    index = cast(as_index_tensor("take", index), dt.int64)
    flat = Reshape((total,))(input)
    return IndexSelect(0)(flat, named("take", WrapIndex((total,), (0,)), index))


@public
def take_along_dim(input: Any, indices: Any, dim: int | None = None) -> Any:
    """gather along `dim` where input and indices broadcast elsewhere; dim None: both flattened."""
    indices = cast(as_index_tensor("take_along_dim", indices, "indices"), dt.int64)
    if dim is None:
        flat = Reshape((numel(input.shape),))(input)
        return gather(flat, 0, Reshape((numel(indices.shape),))(indices))
    if len(indices.shape) != len(input.shape):
        raise ShapeError(
            f"take_along_dim: input has {len(input.shape)} dimensions, indices "
            f"{len(indices.shape)}; they must agree"
        )
    axis = normalize_dim("take_along_dim", dim, len(input.shape))
    rest = [tuple(1 if a == axis else n for a, n in enumerate(x.shape)) for x in (input, indices)]
    common = broadcast_shapes("take_along_dim", *rest)

    def grown(x: Any) -> Any:
        n = x.shape[axis]
        return broadcast_to(x, (*common[:axis], n, *common[axis + 1 :]))

    index = WrapIndex((input.shape[axis],), (axis,))(indices)
    return Gather(axis)(grown(input), grown(index))


# rows_of(weight, index, padding): a lookup whose gradient is sparse, or None (api/sparse.py).
_lookup: list[Any] = []


def install_rows(lookup: Any) -> None:
    """Set what looks rows up where their gradient is to be sparse."""
    _lookup[:] = [lookup]


def rows_of(weight: Any, index: Any, padding: int | None) -> Any:
    """weight[index] with a gradient of rows; None where the ordinary way must be taken."""
    return _lookup[0](weight, index, padding) if _lookup else None


@public
def masked_fill(input: Any, mask: Any, value: Any) -> Any:
    """A copy of `input` with `value` (a number or 0-d tensor) where the bool `mask` is true."""
    if not is_value(mask) or mask.dtype is not dt.bool_:
        got = mask.dtype.name if is_value(mask) else type(mask).__name__
        raise DTypeError(f"masked_fill: mask must be a bool tensor, got {got}")
    if is_number(value):
        value = literal(value, input.dtype)
        shape = broadcast_shapes("masked_fill", shape_of(input), shape_of(mask))
        return Where()(broadcast_to(mask, shape), value, broadcast_to(input, shape))
    if value.shape:
        raise ShapeError(f"masked_fill: value must be a number or 0-d, got {shape_of(value)}")
    return where(mask, cast(value, input.dtype), input)
