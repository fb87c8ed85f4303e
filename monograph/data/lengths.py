"""Sequences of different lengths: batches of like lengths, and several sequences in one row."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..core.errors import ArgumentError
from .arrays import as_array, to_tensor
from .dataset import Dataset
from .randomness import Stream, draw_seed
from .sampler import Sampler, check_bool, check_positive


class BucketBatchSampler(Sampler):
    """Batches of samples of like lengths, so that little is lost to padding.

    lengths     the length of each sample
    batch_size  samples per batch; or
    max_tokens  the most that a batch may hold once padded: samples * the longest
    shuffle     random batches in random order: samples are shuffled, sorted by length within
                pools of `pool` batches, and the batches shuffled; else sorted by length
    generator   see DataLoader

    >>> sampler = BucketBatchSampler([3, 9, 2, 8], batch_size=2)
    >>> list(sampler)
    [[2, 0], [3, 1]]
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int | None = None,
        max_tokens: int | None = None,
        shuffle: bool = False,
        drop_last: bool = False,
        pool: int = 100,
        generator=None,
    ):
        if (batch_size is None) == (max_tokens is None):
            raise ArgumentError("BucketBatchSampler: give either batch_size or max_tokens")
        self.lengths = np.asarray(lengths, dtype=np.int64)
        if max_tokens is not None and len(self.lengths) and self.lengths.max() > max_tokens:
            raise ArgumentError(
                f"BucketBatchSampler: a sample has length {self.lengths.max()}, which is more than "
                f"max_tokens={max_tokens}"
            )
        self.batch_size, self.max_tokens = batch_size, max_tokens
        self.shuffle = check_bool("BucketBatchSampler", "shuffle", shuffle)
        self.drop_last = check_bool("BucketBatchSampler", "drop_last", drop_last)
        self.pool = check_positive("BucketBatchSampler", "pool", pool)
        self.generator = generator

    def __iter__(self) -> Iterator[list[int]]:
        count = len(self.lengths)
        if not self.shuffle:
            return iter(self._batches(np.argsort(self.lengths, kind="stable")))
        stream = Stream(draw_seed(self.generator))
        order = stream.permutation(count)
        usual = self.batch_size or max(1, int(self.max_tokens // max(self.lengths.mean(), 1)))
        pool = self.pool * usual
        batches: list[list[int]] = []
        for start in range(0, count, pool):
            part = order[start : start + pool]
            batches += self._batches(part[np.argsort(self.lengths[part], kind="stable")])
        return iter([batches[i] for i in stream.permutation(len(batches)).tolist()])

    def _batches(self, order: np.ndarray) -> list[list[int]]:
        batches: list[list[int]] = []
        batch: list[int] = []
        for i in order.tolist():
            if self.batch_size is not None:
                is_full = len(batch) == self.batch_size
            else:  # sorted: this one is the longest so far
                is_full = (len(batch) + 1) * self.lengths[i] > self.max_tokens
            if is_full and batch:
                batches.append(batch)
                batch = []
            batch.append(i)
        whole = self.batch_size is None or len(batch) == self.batch_size
        if batch and (whole or not self.drop_last):
            batches.append(batch)
        return batches

    def __len__(self) -> int:
        if self.batch_size is None:
            raise TypeError("with max_tokens the number of batches depends on the order")
        if not self.shuffle:
            return len(self._batches(np.arange(len(self.lengths))))
        pool, count = self.pool * self.batch_size, len(self.lengths)
        sizes = [min(pool, count - start) for start in range(0, count, pool)]
        last = 0 if self.drop_last else self.batch_size - 1
        return sum((n + last) // self.batch_size for n in sizes)


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Which samples share a row of `capacity` elements: best fit, the longest first.

    >>> pack([5, 3, 4, 2], capacity=7)
    [[0, 3], [2, 1]]
    """
    free: list[tuple[int, int]] = []  # (elements left, row), sorted
    rows: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        size = int(lengths[i])
        if size > capacity:
            raise ArgumentError(f"pack: sample {i} has length {size}, more than {capacity}")
        at = bisect.bisect_left(free, (size, -1))
        if at == len(free):
            rows.append([i])
            bisect.insort(free, (capacity - size, len(rows) - 1))
            continue
        left, row = free.pop(at)
        rows[row].append(i)
        bisect.insort(free, (left - size, row))
    return rows


class PackedDataset(Dataset):
    """Several sequences in each row of a fixed length, so that next to nothing is padding.

    dataset   sequences of token numbers (or samples whose first part is one)
    length    of a row
    lengths   of the sequences; None reads each once
    pad       the token of places that are left

    A sample is a dict of int64 arrays (length,): "tokens"; "segments", 1, 2, ... for the sequences
    of the row and 0 for padding, from which an attention mask is made (equal segments may see each
    other); and "positions", which start at 0 in each sequence.
    """

    def __init__(self, dataset: Any, length: int, lengths: Sequence[int] | None = None, pad=0):
        self.dataset, self.length, self.pad = dataset, length, pad
        if lengths is None:
            lengths = [len(self._sequence(i)) for i in range(len(dataset))]
        self.rows = pack(lengths, length)

    def _sequence(self, index: int) -> np.ndarray:
        sample = self.dataset[index]
        return as_array(sample[0] if isinstance(sample, (tuple, list)) else sample)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        tokens = np.full(self.length, self.pad, dtype=np.int64)
        segments, positions = np.zeros((2, self.length), dtype=np.int64)
        at = 0
        for number, i in enumerate(self.rows[index], 1):
            sequence = self._sequence(i)
            end = at + len(sequence)
            tokens[at:end], segments[at:end] = sequence, number
            positions[at:end] = np.arange(len(sequence))
            at = end
        parts = {"tokens": tokens, "segments": segments, "positions": positions}
        return {name: to_tensor(x) for name, x in parts.items()}


def pad_collate(samples: Sequence[Any], value: float = 0) -> Any:
    """A collate_fn that pads sequences to the longest: (N, T), and their lengths (N,).

    samples  sequences, or tuples whose first part is one; the other parts are stacked

    >>> x, n = pad_collate([[1, 2, 3], [4]])
    >>> x.tolist(), n.tolist()
    ([[1, 2, 3], [4, 0, 0]], [3, 1])
    """
    whole = isinstance(samples[0], tuple)
    sequences = [as_array(s[0] if whole else s) for s in samples]
    lengths = np.array([len(s) for s in sequences])
    shape = (len(sequences), int(lengths.max()), *sequences[0].shape[1:])
    padded = np.full(shape, value, dtype=np.result_type(*(s.dtype for s in sequences)))
    for row, s in zip(padded, sequences):
        row[: len(s)] = s
    rest = [to_tensor(np.stack([as_array(s[k]) for s in samples])) for k in
            range(1, len(samples[0]))] if whole else []  # fmt: skip
    return [to_tensor(padded), to_tensor(lengths), *rest]
