"""Losses of class numbers and class probabilities: cross_entropy, nll_loss.

Picking a row's element by its class number is written in two ways with one meaning. While a
function is captured: compare positions with the class number and sum, which stays inside the row
kernel that computes log_softmax. Eagerly: gather, which reads one element instead of a row.
CheckClasses looks at the class numbers first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.errors import ArgumentError, DTypeError, IndexRangeError, ShapeError
from ..core.tracing import is_tracing
from ..ir.op import Aval, Opaque, op
from .activations import log_softmax
from .align import broadcast_to, cast, functional
from .arith import add, div, eq, mul, ne, neg, where
from .batching import shape_of
from .composite import composite
from .indexing import Gather
from .losses import check_reduction, reduce_loss, total
from .movement import Reshape, Sum
from .triangular import Iota


@op
class CheckClasses(Opaque):
    """Class numbers, as they are; IndexRangeError where one is neither in [0, limit) nor `ignore`.

    what  the function that asks, for the message
    """

    what: str
    limit: int
    ignore: int
    saves, differentiable = "none", False
    accepts = dt.INTS

    def infer(self, x: Any) -> Aval:
        self.check_dtypes(x)
        return Aval(shape_of(x), x.dtype)

    @property
    def complaint(self) -> str:
        return f"{self.what}: target has class numbers outside of [0, {self.limit})"

    def reference(self, x: Any) -> Any:
        if (((x < 0) | (x >= self.limit)) & (x != self.ignore)).any():
            raise IndexRangeError(self.complaint)
        return np.array(x)

    def batch(self, dims: tuple, size: int, x: Any) -> tuple[Any, Any]:
        return self(x), dims[0]


@functional
@composite
def cross_entropy(
    input: Any, target: Any, weight: Any = None, *, ignore_index: int = -100,
    reduction: str = "mean", label_smoothing: float = 0.0,
) -> Any:  # fmt: skip
    """Negative log of softmax(input) at the target's class.

    input            logits (N, C), (N, C, ...) or (C,)
    target           class numbers (N,), (N, ...) or (); or probabilities of input's shape
    weight           (C,) factor of each class; "mean" divides by the sum of the targets' weights
    ignore_index     targets of this number do not count
    label_smoothing  share in [0, 1] of a target that is spread evenly over all classes

    IndexRangeError if a class number is out of range (captured code: when the call has run).
    Same meaning as torch.nn.functional.cross_entropy.

    >>> cross_entropy(tensor([[0.0, 0.0]]), tensor([1]))
    tensor(0.6931)
    """
    name = "cross_entropy"
    if not 0 <= label_smoothing <= 1:
        raise ArgumentError(f"{name}: label_smoothing must be in [0, 1], got {label_smoothing}")
    axis = _check(name, input, weight, reduction)
    logs = log_softmax(_wide(input), axis)
    if target.dtype.is_floating_point:
        loss = _of_probabilities(name, logs, target, weight, axis, reduction, label_smoothing)
    else:
        loss = _of_classes(
            name, logs, target, weight, axis, ignore_index, reduction, label_smoothing
        )
    return cast(loss, input.dtype)


@functional
@composite
def nll_loss(
    input: Any, target: Any, weight: Any = None, *, ignore_index: int = -100,
    reduction: str = "mean",
) -> Any:  # fmt: skip
    """Negative of input's element at the target's class: cross_entropy of log-probabilities.

    input   log-probabilities (N, C), (N, C, ...) or (C,)
    target  class numbers (N,), (N, ...) or ()
    """
    axis = _check("nll_loss", input, weight, reduction)
    loss = _of_classes("nll_loss", input, target, weight, axis, ignore_index, reduction, 0.0)
    return cast(loss, input.dtype)


def _wide(x: Any) -> Any:
    return cast(x, dt.float32) if x.dtype.itemsize == 2 else x


def _check(name: str, input: Any, weight: Any, reduction: str) -> int:
    """The class axis of a checked input."""
    check_reduction(name, reduction)
    if not input.shape:
        raise ShapeError(f"{name}: input must be (C,), (N, C) or (N, C, ...), got shape ()")
    if not input.dtype.is_floating_point:
        raise DTypeError(f"{name}: input must be floating, got {input.dtype.name}")
    axis = 0 if len(input.shape) == 1 else 1
    if weight is not None and tuple(weight.shape) != (input.shape[axis],):
        raise ShapeError(
            f"{name}: weight must have shape ({input.shape[axis]},), got {tuple(weight.shape)}"
        )
    return axis


def _along(weight: Any, like: Any, axis: int) -> Any:
    """A vector of class weights, read in the shape of `like`."""
    shape = tuple(n if a == axis else 1 for a, n in enumerate(like.shape))
    return broadcast_to(Reshape(shape)(cast(weight, like.dtype)), tuple(like.shape))


def _of_classes(
    name: str, logs: Any, target: Any, weight: Any, axis: int, ignore_index: int, reduction: str,
    smoothing: float,
) -> Any:  # fmt: skip
    shape = tuple(logs.shape)
    rows = shape[:axis] + shape[axis + 1 :]
    if target.dtype not in dt.INTS:
        raise DTypeError(
            f"{name}: target must be class numbers (an integer dtype), got {target.dtype.name}"
        )
    if tuple(target.shape) != rows:
        raise ShapeError(
            f"{name}: input {shape} needs class numbers of shape {rows}, target has "
            f"{tuple(target.shape)}"
        )
    target = CheckClasses(name, shape[axis], ignore_index)(target)
    logs, target = _wide(logs), cast(target, dt.int64)
    counts = ne(target, ignore_index)
    loss = neg(_pick(logs, target, counts, axis))
    factor = None  # what each row counts in the mean; None: 1 (or 0 where ignored)
    if weight is not None:
        by_class = _along(weight, logs, axis)
        factor = _pick(by_class, target, counts, axis)
        loss = mul(loss, factor)
    loss = where(counts, loss, 0.0)
    if smoothing:
        spread = logs if weight is None else mul(logs, by_class)
        even = where(counts, neg(Sum((axis,))(spread)), 0.0)
        loss = add(mul(loss, 1.0 - smoothing), mul(even, smoothing / max(shape[axis], 1)))
    if reduction != "mean":
        return reduce_loss(loss, reduction)
    divisor = cast(counts, loss.dtype) if factor is None else where(counts, factor, 0.0)
    return div(total(loss), total(divisor))


def _pick(values: Any, target: Any, counts: Any, axis: int) -> Any:
    """values[..., target, ...] along `axis`; anything where a row does not count."""
    shape = tuple(values.shape)
    column = tuple(1 if a == axis else n for a, n in enumerate(shape))
    if is_tracing():
        classes = broadcast_to(Reshape(column)(cast(target, dt.int32)), shape)
        chosen = eq(Iota(shape, dt.int32, axis)(), classes)
        return Sum((axis,))(where(chosen, values, 0.0))
    picked = Gather(axis)(values, Reshape(column)(where(counts, target, 0)))
    return Reshape(shape[:axis] + shape[axis + 1 :])(picked)


def _of_probabilities(
    name: str, logs: Any, target: Any, weight: Any, axis: int, reduction: str, smoothing: float
) -> Any:
    shape = tuple(logs.shape)
    if tuple(target.shape) != shape:
        raise ShapeError(
            f"{name}: a floating target holds probabilities and must have input's shape {shape}, "
            f"got {tuple(target.shape)}",
            hint="class numbers must be integers: target.long()",
        )
    target = cast(target, logs.dtype)
    if smoothing:
        target = add(mul(target, 1.0 - smoothing), smoothing / max(shape[axis], 1))
    loss = mul(logs, target)
    if weight is not None:
        loss = mul(loss, _along(weight, logs, axis))
    loss = neg(Sum((axis,))(loss))
    return reduce_loss(loss, reduction)
