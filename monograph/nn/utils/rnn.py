"""Batches of sequences of different lengths: padded tensors and packed sequences.

A PackedSequence holds no padding: all first elements (of the sequences sorted by length, longest
first), then all second elements, and so on; `batch_sizes[t]` sequences are longer than t. The
functions are torch.nn.utils.rnn's, with its names and meanings. They work inside `mg.jit` where
lengths are given as a list.
"""

from collections import namedtuple

import numpy as np

import monograph as mg
from monograph.core.errors import ArgumentError, ArgumentTypeError, ShapeError
from monograph.tensor import Tensor

__all__ = [
    "PackedSequence", "invert_permutation", "pack_padded_sequence", "pack_sequence",
    "pad_packed_sequence", "pad_sequence", "unpack_sequence", "unpad_sequence",
]  # fmt: skip

_Fields = namedtuple("_Fields", ["data", "batch_sizes", "sorted_indices", "unsorted_indices"])


class PackedSequence(_Fields):
    """Sequences without padding, as pack_padded_sequence and pack_sequence make them.

    data              (sum of the lengths, *)
    batch_sizes       (T,) int64: how many sequences have an element t
    sorted_indices    the order in which the sequences were taken, or None
    unsorted_indices  its inverse
    """

    __slots__ = ()

    def __new__(cls, data, batch_sizes, sorted_indices=None, unsorted_indices=None):
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def to(self, *args, **kwargs):
        """The same sequences with `data` on another device or of another dtype."""
        return self._replace(data=self.data.to(*args, **kwargs))

    def cpu(self):
        """Itself."""
        return self

    def pin_memory(self):
        """Itself: see Tensor.pin_memory."""
        return self

    def is_pinned(self):
        """Whether `data` is in page-locked memory: never."""
        return False

    def double(self):
        """With `data` as float64."""
        return self.to(mg.float64)

    def float(self):
        """With `data` as float32."""
        return self.to(mg.float32)

    def half(self):
        """With `data` as float16."""
        return self.to(mg.float16)

    def long(self):
        """With `data` as int64."""
        return self.to(mg.int64)

    def int(self):
        """With `data` as int32."""
        return self.to(mg.int32)

    def _replace(self, **changes):
        return PackedSequence(*(changes.get(name, getattr(self, name)) for name in self._fields))


def invert_permutation(permutation):
    """The inverse of a permutation of 0 .. n-1, or None for None."""
    return None if permutation is None else mg.argsort(permutation)


def _lengths(name, lengths):
    found = lengths.tolist() if isinstance(lengths, Tensor) else [int(n) for n in lengths]
    if not found or min(found) < 1:
        raise ArgumentError(f"{name}: all lengths must be positive, got {found}")
    return found


def pack_padded_sequence(input, lengths, batch_first=False, enforce_sorted=True):
    """The sequences in a padded tensor without their padding, as a PackedSequence.

    input           (T, N, *), or (N, T, *) with batch_first
    lengths         N lengths, a list or tensor; not above T
    enforce_sorted  lengths must be in descending order (else they are sorted here)

    >>> x = tensor([[1, 2], [3, 0]])  # lengths 2 and 1
    >>> pack_padded_sequence(x, [2, 1]).data
    tensor([1, 2, 3])
    """
    name = "pack_padded_sequence"
    lengths = _lengths(name, lengths)
    x = input.transpose(0, 1) if batch_first else input
    if x.ndim < 2 or x.shape[1] != len(lengths):
        raise ShapeError(
            f"{name}: {len(lengths)} lengths were given for an input of shape {tuple(input.shape)}"
        )
    if max(lengths) > x.shape[0]:
        raise ArgumentError(
            f"{name}: length {max(lengths)} is larger than the padded length {x.shape[0]}"
        )
    order = None
    if enforce_sorted:
        if lengths != sorted(lengths, reverse=True):
            raise ArgumentError(
                f"{name}: lengths must be in descending order, got {lengths}",
                hint="enforce_sorted=False sorts them",
            )
    else:
        order = np.argsort(-np.array(lengths), kind="stable")
        lengths = [lengths[i] for i in order]
        order = mg.tensor(order)
        x = x.index_select(1, order)
    reached = np.arange(lengths[0])[:, None] < np.array(lengths)
    places = np.flatnonzero(reached.reshape(-1))
    n = len(lengths)
    flat = x[: lengths[0]].reshape(lengths[0] * n, *x.shape[2:])
    data = flat.index_select(0, mg.tensor(places))
    return PackedSequence(data, mg.tensor(reached.sum(1)), order)


def batch_size(sequence, known=None):
    """How many sequences there are (`known`: what the caller knows, where values are not)."""
    if sequence.sorted_indices is not None:
        return sequence.sorted_indices.shape[0]
    return int(sequence.batch_sizes[0]) if known is None else known


def padded(data, batch_sizes, n):
    """(data as (T, n, *) with zeros where nothing is, a bool mask (T, n) of what there is)."""
    starts = mg.cumsum(batch_sizes, 0) - batch_sizes
    column = mg.arange(n)
    mask = column < batch_sizes.unsqueeze(1)
    places = mg.where(mask, starts.unsqueeze(1) + column, 0)
    rows = data.index_select(0, places.reshape(-1))
    rows = rows.reshape(batch_sizes.shape[0], n, *data.shape[1:])
    wide = mask.reshape(*mask.shape, *(1,) * (rows.ndim - 2))
    return mg.where(wide, rows, mg.zeros((), dtype=rows.dtype)), mask


def packed(x, batch_sizes, count):
    """The `count` elements of x (T, n, *) that are no padding, in the order of packed data."""
    ends = mg.cumsum(batch_sizes, 0)
    row = mg.arange(count)
    t = mg.searchsorted(ends, row, right=True)
    column = row - (ends - batch_sizes).index_select(0, t)
    flat = x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])
    return flat.index_select(0, t * x.shape[1] + column)


def pad_packed_sequence(sequence, batch_first=False, padding_value=0.0, total_length=None):
    """(padded tensor (T, N, *) or (N, T, *), lengths): the inverse of pack_padded_sequence.

    total_length  pad to this T instead of the longest sequence's

    >>> pad_packed_sequence(pack_sequence([tensor([1, 3]), tensor([2])]))
    (tensor([[1, 2],
            [3, 0]]), tensor([2, 1]))
    """
    if not isinstance(sequence, PackedSequence):
        raise ArgumentTypeError(
            f"pad_packed_sequence: needs a PackedSequence, got {type(sequence).__name__}"
        )
    data = sequence.data
    x, mask = padded(data, sequence.batch_sizes, batch_size(sequence))
    wide = mask.reshape(*mask.shape, *(1,) * (x.ndim - 2))
    x = mg.where(wide, x, mg.full((), padding_value, dtype=x.dtype))
    lengths = mask.sum(0)
    if total_length is not None:
        if total_length < x.shape[0]:
            raise ArgumentError(
                f"pad_packed_sequence: total_length {total_length} is less than the longest "
                f"sequence's {x.shape[0]}"
            )
        more = mg.full((total_length - x.shape[0], *x.shape[1:]), padding_value, dtype=x.dtype)
        x = mg.cat([x, more])
    if sequence.unsorted_indices is not None:
        x = x.index_select(1, sequence.unsorted_indices)
        lengths = lengths.index_select(0, sequence.unsorted_indices)
    return (x.transpose(0, 1) if batch_first else x), lengths


def _sequences(name, sequences):
    sequences = list(sequences.unbind(0) if isinstance(sequences, Tensor) else sequences)
    if not sequences:
        raise ArgumentError(f"{name}: needs at least one sequence")
    first = sequences[0]
    for s in sequences:
        if not isinstance(s, Tensor):
            raise ArgumentTypeError(f"{name}: sequences must be tensors, got {type(s).__name__}")
        if s.ndim < 1 or s.shape[1:] != first.shape[1:]:
            raise ShapeError(
                f"{name}: sequences must agree in all sizes but the first, got "
                f"{tuple(first.shape)} and {tuple(s.shape)}"
            )
    return sequences


def pad_sequence(sequences, batch_first=False, padding_value=0.0, padding_side="right"):
    """Sequences (length, *) as one padded tensor (T, N, *), or (N, T, *) with batch_first.

    >>> pad_sequence([tensor([1, 2, 3]), tensor([4])], batch_first=True)
    tensor([[1, 2, 3],
            [4, 0, 0]])
    """
    if padding_side not in ("right", "left"):
        raise ArgumentError(
            f"pad_sequence: padding_side must be 'right' or 'left', got {padding_side!r}"
        )
    sequences = _sequences("pad_sequence", sequences)
    longest = max(s.shape[0] for s in sequences)
    rows = []
    for s in sequences:
        more = mg.full((longest - s.shape[0], *s.shape[1:]), padding_value, dtype=s.dtype)
        rows.append(mg.cat([s, more] if padding_side == "right" else [more, s]))
    return mg.stack(rows, 0 if batch_first else 1)


def pack_sequence(sequences, enforce_sorted=True):
    """Sequences (length, *) as a PackedSequence; see pack_padded_sequence.

    >>> pack_sequence([tensor([1, 2, 3]), tensor([4, 5])]).data
    tensor([1, 4, 2, 5, 3])
    """
    sequences = _sequences("pack_sequence", sequences)
    lengths = [s.shape[0] for s in sequences]
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpad_sequence(padded_sequences, lengths, batch_first=False):
    """The sequences in a padded tensor, as a list: the inverse of pad_sequence.

    >>> unpad_sequence(tensor([[1, 2, 3], [4, 0, 0]]), [3, 1], batch_first=True)
    [tensor([1, 2, 3]), tensor([4])]
    """
    x = padded_sequences if batch_first else padded_sequences.transpose(0, 1)
    return [row[:n] for row, n in zip(x.unbind(0), _lengths("unpad_sequence", lengths))]


def unpack_sequence(packed_sequences):
    """The sequences of a PackedSequence, as a list in their first order.

    >>> unpack_sequence(pack_sequence([tensor([1, 2]), tensor([3])]))
    [tensor([1, 2]), tensor([3])]
    """
    x, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(x, lengths, batch_first=True)
