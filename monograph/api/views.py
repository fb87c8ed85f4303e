"""Methods about strides and identity: view, contiguous, split and its kin, T and mT.

Parts of a tensor (split, chunk, unbind) are slices in memory and in graphs; the tape remembers them
as one Split, so that their gradient is one concatenation instead of a sum of padded pieces.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.dtype import DType
from ..core.errors import ArgumentError, IndexRangeError, ShapeError
from ..core.modes import modes, untaped
from ..core.shape import as_index, as_shape, contiguous_strides, normalize_dim, resolve_reshape
from ..ops import shaping
from ..ops.align import public
from ..ops.complex import view_as_complex, view_as_real
from ..ops.joining import Split
from ..ops.movement import Alias, Copy, Reshape, Slice
from ..ops.parts import conj
from ..ops.shaping import slice_axis
from ..tensor import Tensor, wrap
from ..transform.tape import Node
from ..transform.trace import Symbol
from .creation import from_numpy
from .quick import is_watched


def _view(self: Tensor, *shape: Any) -> Tensor:
    """The same memory under another shape (one size may be -1) or dtype; never a copy.

    With a dtype the bits are read anew; where its elements are of another size, the last dimension
    grows or shrinks. No gradient, and no capture, goes through that, except between complex numbers
    and pairs of real ones. ShapeError where this tensor's strides do not allow a view: use reshape,
    or contiguous() first.
    """
    if len(shape) == 1 and isinstance(shape[0], DType):
        return _bits_as(self, shape[0])
    own = tuple(self.shape)
    target = resolve_reshape("view", own, as_shape("view", shape))
    op = Reshape(target)
    if _is_contiguous(self):
        return op(self)
    strides = self._strides_of_view()
    if strides is not None and op.strides(own, strides) is None:
        raise ShapeError(
            f"view: shape {own} with strides {strides} cannot be read as {target} without a copy",
            hint="use reshape(), or contiguous() before view()",
        )
    return op(self)


def _bits_as(self: Tensor, dtype: DType) -> Tensor:
    if dtype is self.dtype:
        return Alias()(self)
    if self.dtype.is_complex and dtype is self.dtype.to_real():
        return shaping.flatten(view_as_real(self), -2)
    if (
        dtype.is_complex
        and self.dtype is dtype.to_real()
        and self.shape
        and self.shape[-1] % 2 == 0
    ):
        return view_as_complex(shaping.unflatten(self, -1, (self.shape[-1] // 2, 2)))
    array = self._array("view")
    self._lend()
    try:
        return from_numpy(array.view(dtype.numpy))
    except (TypeError, ValueError) as error:
        raise ShapeError(
            f"view: {tuple(self.shape)} elements of {self.dtype.name} cannot be read as "
            f"{dtype.name}: {error}"
        ) from None


def _is_contiguous(self: Tensor, memory_format: Any = None) -> bool:
    """Whether the elements lie in row-major order without gaps."""
    payload = self._value()
    if type(payload) is np.ndarray:
        return bool(payload.flags.c_contiguous)
    if 0 in self.shape:
        return True
    strides = self._strides_of_view()
    return strides is None or all(
        n == 1 or s == c for n, s, c in zip(self.shape, strides, contiguous_strides(self.shape))
    )


def _contiguous(self: Tensor, memory_format: Any = None) -> Tensor:
    """This tensor, or a copy in row-major order if its elements do not lie so already."""
    return self if _is_contiguous(self) else Copy()(self)


def _data_ptr(self: Tensor) -> int:
    """The address of the first element."""
    self._lend()
    return self._array("data_ptr").ctypes.data


def _storage_offset(self: Tensor) -> int:
    """How many elements the first element lies after the first one of the base tensor."""
    if self._base is None:
        return 0
    gap = self._array("storage_offset").ctypes.data - self._base._payload.ctypes.data
    return gap // self.dtype.itemsize


def _parts(name: str, x: Tensor, sizes: Sequence[int], axis: int) -> tuple[Tensor, ...]:
    """Consecutive slices along `axis`; on the tape one Split."""
    if len(sizes) < 2:
        return tuple(Alias()(x) for _ in sizes)
    starts = [0, *itertools.accumulate(sizes)]
    p = x._value()
    if type(p) is np.ndarray and modes.trace is None and not is_watched():
        parts = _shown_parts(x, p, starts, axis)
        if x._requires and modes.grad:
            node = Node(Split(tuple(sizes), axis), (x,), parts)
            for i, part in enumerate(parts):
                part._node, part._index, part._requires = node, i, True
        return parts
    plain = type(x._value()) in (np.ndarray, Symbol)  # inside vmap the outer tape must see slices
    if not (plain and x.requires_grad and modes.grad):
        return tuple(slice_axis(x, axis, a, b) for a, b in zip(starts, starts[1:]))
    with untaped():
        parts = tuple(slice_axis(x, axis, a, b) for a, b in zip(starts, starts[1:]))
    node = Node(Split(tuple(sizes), axis), (x,), parts)
    for i, part in enumerate(parts):
        part._node, part._index, part._requires = node, i, True
    return parts


def _shown_parts(x: Tensor, p: np.ndarray, starts: Sequence[int], axis: int) -> tuple[Tensor, ...]:
    """The slices of x, whose array is p, from each start to the next; on no tape."""
    lead: tuple = (slice(None),) * axis
    zeros, ones, shape, before = (0,) * p.ndim, (1,) * p.ndim, p.shape, x._view or ()
    parts = []
    for a, b in zip(starts, starts[1:]):
        part = wrap(p[(*lead, slice(a, b))])
        low, high = (*zeros[:axis], a, *zeros[axis + 1 :]), (*shape[:axis], b, *shape[axis + 1 :])
        part._base = x if x._base is None else x._base
        part._view = (*before, Slice(low, high, ones))
        part._version, part._seen = x._version, x._version[0]
        parts.append(part)
    return tuple(parts)


@public
def split(tensor: Tensor, split_size_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Parts of the given size (the last may be smaller), or of the listed sizes. Views.

    >>> split(arange(5), 2)
    (tensor([0, 1]), tensor([2, 3]), tensor([4]))
    """
    if not tensor.ndim:
        raise ShapeError("split: a 0-d tensor cannot be split")
    axis = normalize_dim("split", dim, tensor.ndim)
    total = tensor.shape[axis]
    if isinstance(split_size_or_sections, (tuple, list)):
        sizes = [as_index("split", "size", s) for s in split_size_or_sections]
        if sum(sizes) != total or any(s < 0 for s in sizes):
            raise ShapeError(
                f"split: sizes {sizes} must add up to {total}, the size of dimension {axis}"
            )
    else:
        size = as_index("split", "split_size", split_size_or_sections)
        if size < 0 or (size == 0 and total):
            raise ArgumentError(f"split: split_size must be positive, got {size}")
        sizes = [min(size, total - i) for i in range(0, total, size)] if total else [0]
    return _parts("split", tensor, sizes, axis)


@public
def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` parts of equal size (the last may be smaller). Views.

    >>> chunk(arange(5), 2)
    (tensor([0, 1, 2]), tensor([3, 4]))
    """
    chunks = as_index("chunk", "chunks", chunks)
    if chunks <= 0:
        raise ArgumentError(f"chunk: chunks must be positive, got {chunks}")
    axis = normalize_dim("chunk", dim, input.ndim)
    total = input.shape[axis] if input.ndim else 0
    if total == 0 and input.ndim:
        return _parts("chunk", input, [0] * chunks, axis)
    return split(input, -(-total // chunks), dim)


@public
def tensor_split(input: Tensor, indices_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Parts cut at the given positions, or that many parts whose sizes differ by at most 1."""
    axis = normalize_dim("tensor_split", dim, input.ndim)
    if not input.ndim:
        raise ShapeError("tensor_split: a 0-d tensor cannot be split")
    total = input.shape[axis]
    if isinstance(indices_or_sections, Tensor):
        indices_or_sections = indices_or_sections.tolist()
    if isinstance(indices_or_sections, (tuple, list)):
        given = [as_index("tensor_split", "index", c) for c in indices_or_sections]
        cuts = [slice(0, c).indices(total)[1] for c in given]
        starts, stops = [0, *cuts], [*cuts, total]
        if all(a <= b for a, b in zip(starts, stops)):
            sizes = [b - a for a, b in zip(starts, stops)]
            return _parts("tensor_split", input, sizes, axis)
        return tuple(slice_axis(input, axis, a, max(a, b)) for a, b in zip(starts, stops))
    sections = as_index("tensor_split", "sections", indices_or_sections)
    if sections <= 0:
        raise ArgumentError(f"tensor_split: sections must be positive, got {sections}")
    small, larger = divmod(total, sections)
    sizes = [small + 1] * larger + [small] * (sections - larger)
    return _parts("tensor_split", input, sizes, axis)


@public
def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """All slices along `dim`, without that dimension. Views.

    >>> unbind(tensor([[1, 2], [3, 4]]))
    (tensor([1, 2]), tensor([3, 4]))
    """
    if not input.ndim:
        raise IndexRangeError("unbind: a 0-d tensor has no dimension to take apart")
    axis = normalize_dim("unbind", dim, input.ndim)
    shape = tuple(input.shape)
    if type(input._payload) is np.ndarray and not (input.requires_grad and modes.grad):
        lead = (slice(None),) * axis
        return tuple(input[(*lead, i)] for i in range(shape[axis]))
    flat = Reshape((*shape[:axis], *shape[axis + 1 :]))
    parts = _parts("unbind", input, [1] * shape[axis], axis) if shape[axis] else ()
    return tuple(flat(p) for p in parts)


@public
def hsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """tensor_split along dimension 1 (along 0 for 1-d tensors)."""
    return tensor_split(input, indices_or_sections, 0 if input.ndim == 1 else 1)


@public
def vsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """tensor_split along dimension 0."""
    return tensor_split(input, indices_or_sections, 0)


@public
def dsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """tensor_split along dimension 2."""
    return tensor_split(input, indices_or_sections, 2)


def _transposed(self: Tensor) -> Tensor:
    """All dimensions in reverse order. A view."""
    return shaping.permute(self, *reversed(range(self.ndim)))


def _matrix_adjoint(self: Tensor) -> Tensor:
    """The last two dimensions exchanged, conjugated where complex (else a view)."""
    return conj(_matrix_transposed(self))


def _matrix_transposed(self: Tensor) -> Tensor:
    """The last two dimensions exchanged. A view."""
    if self.ndim < 2:
        raise ShapeError(f"mT: needs at least 2 dimensions, the shape is {tuple(self.shape)}")
    return shaping.transpose(self, -2, -1)


Tensor.view = _view  # type: ignore[attr-defined]
Tensor.view_as = lambda self, other: _view(self, *other.shape)  # type: ignore[attr-defined]
Tensor.split_with_sizes = lambda self, split_sizes, dim=0: split(self, list(split_sizes), dim)  # type: ignore[attr-defined]
Tensor.reshape_as = lambda self, other: shaping.reshape(self, *other.shape)  # type: ignore[attr-defined]
Tensor.expand_as = lambda self, other: shaping.expand(self, *other.shape)  # type: ignore[attr-defined]
Tensor.repeat = shaping.repeat  # type: ignore[attr-defined]
Tensor.is_contiguous = _is_contiguous  # type: ignore[attr-defined]
Tensor.contiguous = _contiguous  # type: ignore[attr-defined]
Tensor.data_ptr = _data_ptr  # type: ignore[attr-defined]
Tensor.storage_offset = _storage_offset  # type: ignore[attr-defined]
Tensor.T = property(_transposed)  # type: ignore[attr-defined]
Tensor.mT = property(_matrix_transposed)  # type: ignore[attr-defined]
Tensor.H = property(_matrix_adjoint)  # type: ignore[attr-defined]
Tensor.mH = Tensor.H  # type: ignore[attr-defined]
