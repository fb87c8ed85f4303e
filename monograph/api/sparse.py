"""Sparse tensors of coordinates (COO), and gradients of embeddings that hold only the rows used.

A SparseTensor is two tensors, `indices` and `values`, so that whatever is computed with it is
computed by ordinary operations: it can be captured, differentiated, and be an argument or a result
of a captured function. Its methods have PyTorch's names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core import pytree
from ..core.dtype import DType, as_dtype
from ..core.errors import ArgumentError, ArgumentTypeError, GradError, IndexRangeError, ShapeError
from ..core.modes import modes, no_grad
from ..core.shape import Size, as_shape, numel
from ..core.tracing import is_tracing
from ..ir.op import Op
from ..ops import gathering
from ..ops.arith import eq, ne
from ..ops.indexing import IndexAdd, IndexSelect
from ..ops.joining import cat
from ..tensor import Tensor
from ..transform import tape
from ..transform.structure import reads
from .creation import tensor, zeros

__all__ = ["SparseTensor", "sparse_coo_tensor", "spmm"]


class SparseTensor:
    """A tensor of `size` that is zero but at `indices`, where it is the sum of what stands there.

    indices  (S, N) int64: N places along the first S dimensions
    values   (N, *rest): what stands there, rest being the sizes of the other dimensions

    Made by sparse_coo_tensor, Tensor.to_sparse, and by backward for weights of embeddings with
    sparse=True.
    """

    is_sparse = True
    __array_priority__ = 1000

    def __init__(self, indices: Tensor, values: Tensor, size: Sequence[int], coalesced=False):
        self._at, self._held, self._size = indices, values, tuple(size)
        self._coalesced = bool(coalesced)

    # What it is

    @property
    def shape(self) -> Size:
        """Sizes, sparse dimensions first."""
        return Size(self._size)

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the size of one dimension."""
        return self.shape if dim is None else self._size[dim]

    @property
    def ndim(self) -> int:
        """How many dimensions: sparse_dim() + dense_dim()."""
        return len(self._size)

    def dim(self) -> int:
        """The same as ndim."""
        return self.ndim

    @property
    def dtype(self) -> DType:
        """Of the values."""
        return self._held.dtype

    @property
    def device(self) -> Any:
        """Of the values."""
        return self._held.device

    @property
    def requires_grad(self) -> bool:
        """Whether the values require a gradient."""
        return self._held.requires_grad

    def numel(self) -> int:
        """How many elements the dense form has."""
        return numel(self._size)

    def sparse_dim(self) -> int:
        """How many dimensions the indices run over."""
        return int(self._at.shape[0])

    def dense_dim(self) -> int:
        """How many dimensions the values have besides the first."""
        return self._held.ndim - 1

    def _nnz(self) -> int:
        return int(self._at.shape[1])

    def _indices(self) -> Tensor:
        return self._at

    def _values(self) -> Tensor:
        return self._held

    def indices(self) -> Tensor:
        """(S, N) indices, all different. Needs coalesce() before."""
        self._check_coalesced("indices")
        return self._at

    def values(self) -> Tensor:
        """The values at indices(). Needs coalesce() before."""
        self._check_coalesced("values")
        return self._held

    def is_coalesced(self) -> bool:
        """Whether each place is known to be there once."""
        return self._coalesced

    def _check_coalesced(self, name: str) -> None:
        if not self._coalesced:
            raise ArgumentError(
                f"{name}: some places may be there several times", hint=f"coalesce().{name}()"
            )

    def __repr__(self) -> str:
        return (
            f"tensor(indices={self._at!r},\n       values={self._held!r},\n       "
            f"size={self._size}, nnz={self._nnz()}, layout=sparse_coo)"
        )

    # Other forms

    def _flat(self) -> Tensor:
        """The places as numbers: (N,)."""
        at = self._at[0]
        for k in range(1, self.sparse_dim()):
            at = at * self._size[k] + self._at[k]
        return at

    def to_dense(self) -> Tensor:
        """An ordinary tensor of the same elements."""
        s = self.sparse_dim()
        rows = numel(self._size[:s])
        base = zeros(rows, *self._size[s:], dtype=self.dtype)
        return IndexAdd(0)(base, self._flat(), self._held).reshape(self._size)

    def _value(self) -> Any:
        """The payload of the dense form: for whoever cannot use this one."""
        return self.to_dense()._value()

    def coalesce(self) -> SparseTensor:
        """The same with each place once, in order.

        While a function is captured the number of places is not known: as many as there are now are
        kept, those too many at the last place with zeros.
        """
        if self._coalesced or not self._nnz():
            return SparseTensor(self._at, self._held, self._size, True)
        order, group = self._groups()
        count = self._nnz()
        base = zeros(count, *self._held.shape[1:], dtype=self.dtype)
        held = IndexAdd(0)(base, group, self._held[order])
        at = self._at[:, order]
        if is_tracing():
            firsts = IndexAdd(1)(zeros(*at.shape, dtype=dt.int64), group, at * _starts(group))
            spare = (tensor(range(count)) > group[-1]).to(dt.int64)
            return SparseTensor(firsts + at[:, -1:] * spare, held, self._size, True)
        starts = _starts(group).bool().numpy()
        return SparseTensor(
            tensor(at.numpy()[:, starts]), held[: int(starts.sum())], self._size, True
        )

    def distinct(self) -> tuple[Tensor, Tensor]:
        """(places, totals), each (N, ...): at each place all that is there in total.

        A place may be there several times, each time with its total; so what is computed of it may
        be written back to the place, whatever the order. Of one sparse dimension.
        """
        if self._coalesced:
            return self._at[0], self._held
        order, group = self._groups()
        base = zeros(*self._held.shape, dtype=self.dtype)
        totals = IndexAdd(0)(base, group, self._held[order])
        return self._at[0][order], totals[group]

    def _groups(self) -> tuple[Tensor, Tensor]:
        """The order that sorts the places; for each in that order, the number of its group."""
        at, order = self._flat().sort(stable=True)
        if self._nnz() < 2:
            return order, zeros(self._nnz(), dtype=dt.int64)
        new = ne(at[1:], at[:-1]).to(dt.int64)
        first = zeros(1, dtype=dt.int64)
        return order, cat([first, new.cumsum(0)])

    def _with(self, values: Tensor) -> SparseTensor:
        return SparseTensor(self._at, values, self._size, self._coalesced)

    def t(self) -> SparseTensor:
        """A matrix transposed."""
        return self.transpose(0, 1)

    def transpose(self, dim0: int, dim1: int) -> SparseTensor:
        """Two sparse dimensions changed."""
        order = list(range(self.sparse_dim()))
        a, b = (d % self.ndim for d in (dim0, dim1))
        if max(a, b) >= len(order):
            raise ArgumentError(
                "transpose: of a sparse tensor only sparse dimensions change places"
            )
        order[a], order[b] = order[b], order[a]
        size = [*(self._size[i] for i in order), *self._size[len(order) :]]
        return SparseTensor(self._at[tensor(order)], self._held, size)

    def detach(self) -> SparseTensor:
        """The same without a gradient, in the same memory."""
        return self._with(self._held.detach())

    def detach_(self) -> SparseTensor:
        """Take the values off the tape."""
        self._held = self._held.detach()
        return self

    def clone(self) -> SparseTensor:
        """A copy."""
        return SparseTensor(self._at.clone(), self._held.clone(), self._size, self._coalesced)

    def to(self, *args: Any, **kwargs: Any) -> SparseTensor:
        """The values in another dtype; see Tensor.to."""
        return self._with(self._held.to(*args, **kwargs))

    def float(self) -> SparseTensor:
        """With values in float32."""
        return self.to(dt.float32)

    def double(self) -> SparseTensor:
        """With values in float64."""
        return self.to(dt.float64)

    def cpu(self) -> SparseTensor:
        """This tensor."""
        return self

    def to_sparse(self) -> SparseTensor:
        """This tensor."""
        return self

    def requires_grad_(self, requires_grad: bool = True) -> SparseTensor:
        """Say whether the values require a gradient."""
        self._held.requires_grad_(requires_grad)
        return self

    @property
    def grad(self) -> Any:
        """The gradient of the values, as a sparse tensor."""
        g = self._held.grad
        return None if g is None else self._with(g)

    # Arithmetic

    def __neg__(self) -> SparseTensor:
        return self._with(-self._held)

    def __mul__(self, other: Any) -> SparseTensor:
        if isinstance(other, Tensor) and other.ndim:
            if tuple(other.shape) != self._size:
                raise ShapeError(
                    f"mul: a sparse tensor of {self._size} times a tensor of {tuple(other.shape)}"
                )
            rows = other.reshape(-1, *self._size[self.sparse_dim() :])
            other = IndexSelect(0)(rows, self._flat())
        elif isinstance(other, SparseTensor):
            return (self.coalesce() if not self._coalesced else self) * other.to_dense()
        return self._with(self._held * other)

    __rmul__ = mul = multiply = __mul__

    def __truediv__(self, other: Any) -> SparseTensor:
        return self._with(self._held / other)

    div = __truediv__

    def mul_(self, other: Any) -> SparseTensor:
        """Multiply the values in place."""
        self._held.mul_(other)
        return self

    def div_(self, other: Any) -> SparseTensor:
        """Divide the values in place."""
        self._held.div_(other)
        return self

    def zero_(self) -> SparseTensor:
        """Set the values to zero; the places stay."""
        self._held.zero_()
        return self

    def clamp_(self, min: Any = None, max: Any = None) -> SparseTensor:
        """Limit the elements that are there, each place summed up before."""
        whole = self.coalesce()
        self._at, self._held, self._coalesced = whole._at, whole._held.clamp(min, max), True
        return self

    def __add__(self, other: Any) -> Any:
        """The sum: sparse of two sparse tensors, else dense."""
        if not isinstance(other, SparseTensor):
            rows = other.reshape(-1, *self._size[self.sparse_dim() :])
            return IndexAdd(0)(rows, self._flat(), self._held).reshape(self._size)
        if other._size != self._size or other.sparse_dim() != self.sparse_dim():
            raise ShapeError(f"add: sparse tensors of {self._size} and {other._size}")
        at = cat([self._at, other._at], 1)
        return SparseTensor(at, cat([self._held, other._held]), self._size)

    __radd__ = add = __add__

    def abs(self) -> SparseTensor:
        """The size of each element."""
        whole = self.coalesce()
        return whole._with(whole._held.abs())

    def norm(self, p: Any = 2.0) -> Tensor:
        """The p-norm of all elements."""
        return self.coalesce()._held.norm(p)

    def sum(self, dim: int | None = None) -> Any:
        """All elements added up, or those along a dimension (dense)."""
        return self._held.sum() if dim is None else self.to_dense().sum(dim)

    def mm(self, other: Tensor) -> Tensor:
        """Product with a matrix (M, D) or vector (M,); self is (N, M). Dense."""
        if self.ndim != 2 or self.sparse_dim() != 2:
            raise ShapeError(f"mm: the sparse operand must be a matrix, got shape {self._size}")
        if not isinstance(other, Tensor) or other.ndim not in (1, 2):
            raise ArgumentTypeError("mm: the second operand must be a matrix or vector")
        if other.shape[0] != self._size[1]:
            raise ShapeError(
                f"mm: inner sizes differ: the sparse matrix is {self._size}, the other "
                f"{tuple(other.shape)}"
            )
        rows = IndexSelect(0)(other, self._at[1])
        held = self._held if other.ndim == 1 else self._held.unsqueeze(1)
        base = zeros(self._size[0], *other.shape[1:], dtype=rows.dtype)
        return IndexAdd(0)(base, self._at[0], rows * held)

    __matmul__ = matmul = mv = mm


def _starts(group: Tensor) -> Tensor:
    """1 where a group begins, else 0."""
    if group.shape[0] == 1:
        return group + 1
    new = ne(group[1:], group[:-1]).to(dt.int64)
    return cat([zeros(1, dtype=dt.int64) + 1, new])


def sparse_coo_tensor(
    indices: Any, values: Any, size: Any = None, *, dtype: Any = None, device: Any = None,
    requires_grad: bool = False, check_invariants: bool | None = None, is_coalesced: bool = False,
) -> SparseTensor:  # fmt: skip
    """A sparse tensor of coordinates; see SparseTensor.

    indices  (S, N) integers
    values   (N, ...)
    size     by default as small as the indices allow

    >>> sparse_coo_tensor([[0, 1, 1], [2, 0, 2]], [3.0, 4.0, 5.0], (2, 3)).to_dense()
    tensor([[0., 0., 3.],
            [4., 0., 5.]])
    """
    at = (indices if isinstance(indices, Tensor) else tensor(indices)).to(dt.int64)
    held = values if isinstance(values, Tensor) else tensor(values)
    held = held if dtype is None else held.to(as_dtype(dtype))
    at = at.unsqueeze(0) if at.ndim == 1 else at
    if at.ndim != 2 or held.ndim < 1 or at.shape[1] != held.shape[0]:
        raise ShapeError(
            f"sparse_coo_tensor: indices must be (S, N) and values (N, ...), got "
            f"{tuple(at.shape)} and {tuple(held.shape)}"
        )
    rest = tuple(held.shape[1:])
    concrete = not is_tracing() and at.shape[1] > 0
    if size is None:
        if is_tracing() or not at.shape[1]:
            raise ArgumentError("sparse_coo_tensor: give the size")
        lead = tuple(int(n) + 1 for n in at.max(1).values.tolist())
        size = (*lead, *rest)
    size = as_shape("sparse_coo_tensor", (size,))
    if len(size) != at.shape[0] + len(rest) or tuple(size[at.shape[0] :]) != rest:
        raise ShapeError(
            f"sparse_coo_tensor: size {size} does not fit indices {tuple(at.shape)} and values "
            f"{tuple(held.shape)}"
        )
    if concrete:
        low, high = at.min(1).values.tolist(), at.max(1).values.tolist()
        for k, (a, b) in enumerate(zip(low, high)):
            if a < 0 or b >= size[k]:
                raise IndexRangeError(
                    f"sparse_coo_tensor: index {a if a < 0 else b} is out of range for dimension "
                    f"{k} of size {size[k]}"
                )
    made = SparseTensor(at, held, size, is_coalesced)
    return made.requires_grad_() if requires_grad else made


def spmm(input: Any, mat2: Any) -> Tensor:
    """A sparse matrix (N, M) times a dense one (M, D): (N, D)."""
    if not isinstance(input, SparseTensor):
        raise ArgumentTypeError(f"mm: input must be sparse, got {type(input).__name__}")
    return input.mm(mat2)


def to_sparse(self: Tensor, sparse_dim: int | None = None) -> SparseTensor:
    """The elements that are not zero, as a sparse tensor (sparse_dim: of the first dimensions).

    >>> tensor([0.0, 5.0]).to_sparse().indices()
    tensor([[1]])
    """
    s = self.ndim if sparse_dim is None else sparse_dim
    if not 1 <= s <= self.ndim:
        raise ArgumentError(f"to_sparse: sparse_dim must be in [1, {self.ndim}], got {sparse_dim}")
    marks = self.detach() != 0
    for _ in range(self.ndim - s):
        marks = marks.any(-1)
    at = marks.nonzero().t()
    rows = self.reshape(-1, *self.shape[s:])
    made = SparseTensor(at, self.new_zeros(0), self.shape, True)
    made._held = IndexSelect(0)(rows, made._flat())
    return made


def _refused(name: str) -> Any:
    def refuse(self: Tensor, *args: Any, **kwargs: Any) -> Any:
        raise ArgumentError(
            f"{name}: sparse tensors have coordinates here, and no other layout",
            hint="call to_sparse()",
        )

    refuse.__name__ = refuse.__qualname__ = name
    refuse.__doc__ = "ArgumentError: sparse tensors have coordinates, and no other layout."
    return refuse


Tensor.to_sparse = to_sparse  # type: ignore[attr-defined]
for _name in ("to_sparse_csr", "to_sparse_csc", "to_sparse_bsr", "to_sparse_bsc"):
    setattr(Tensor, _name, _refused(_name))
    setattr(SparseTensor, _name, _refused(_name))
Tensor.to_dense = lambda self: self  # type: ignore[attr-defined]
pytree.register(
    SparseTensor,
    lambda x: ((x._at, x._held), (x._size, x._coalesced)),
    lambda parts, context: SparseTensor(parts[0], parts[1], *context),
)


# Gradients of embeddings


@dataclass(frozen=True)
class _Rows(Op):
    """Stands for a lookup on the tape."""

    padding: int | None
    shape: tuple[int, ...]  # of the index
    dtype: DType

    name, saves = "embedding", "none"
    fresh_cotangents = False


@reads
class RowsNode(tape.Node):
    """The node of a lookup whose gradient is the rows used: a SparseTensor for a leaf."""

    __slots__ = ("index", "padding", "size")

    def __init__(self, weight: Tensor, index: Tensor, padding: int | None, out: Tensor):
        super().__init__(_Rows(padding, index.shape, index.dtype), [weight], [out])
        self.index, self.padding = tape.Saved(index), padding
        self.size = tuple(weight.shape)

    def replayed(self, me: Any, create_graph: bool) -> list[Any] | None:
        """For structure.read: the index; derivatives of derivatives walk the tape."""
        index = self.index
        known = type(index.payload) is np.ndarray and index.versions[0] == index.version
        return [index.payload] if known and not create_graph else None

    def pull(self, gs: list[Any], wanted: list[bool], linked: bool) -> list[Any]:
        (g,) = gs
        index = self.index.restore(self, linked).reshape(-1).to(dt.int64)
        values = g.reshape(-1, *self.size[1:])
        if self.padding is not None:
            is_padding = eq(index, self.padding).reshape(-1, *(1 for _ in self.size[1:]))
            values = values.masked_fill(is_padding.expand(values.shape), 0)
        rows = SparseTensor(index.reshape(1, -1), values, self.size)
        edge = self.edges[0]
        return [
            rows if edge is not None and not isinstance(edge[0], tape.Node) else rows.to_dense()
        ]

    def gives_fresh(self, r: Any, gs: list[Any], results: list[Any]) -> bool:
        return False


def _lookup(weight: Tensor, index: Tensor, padding: int | None) -> Any:
    """weight[index] with a gradient of rows, or None where it is to be dense."""
    trace = modes.trace
    if modes.vmap is not None or (trace is not None and trace.inner):
        return None
    if not (modes.grad and weight.requires_grad):
        return None
    with no_grad():
        out = IndexSelect(0)(weight, index)
    out._node, out._index, out._requires = RowsNode(weight, index, padding, out), 0, True
    return out


gathering.install_rows(_lookup)


def accumulate_rows(leaf: Tensor, g: SparseTensor) -> None:
    """leaf.grad += g: sparse as long as all that is added up is sparse."""
    before = leaf.grad
    if before is None:
        leaf.grad = SparseTensor(g._at, g._held.detach().clone(), g._size, g._coalesced)  # type: ignore[assignment]
    elif isinstance(before, SparseTensor):
        leaf.grad = before + g.detach()
    else:
        if before.requires_grad:
            raise GradError("backward: a sparse gradient is added to .grad that is on the tape")
        with no_grad():
            rows = before.view(-1, *g._size[g.sparse_dim() :])
            rows.index_add_(0, g._flat(), g._held.detach())
