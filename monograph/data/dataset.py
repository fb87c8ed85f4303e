"""Datasets: where samples come from.

A map-style dataset has `__getitem__` and `__len__`; an IterableDataset has `__iter__`. A dataset
with `__getitems__(indices)` is asked for whole batches at once. Read next: sampler.py, loader.py.
"""

from __future__ import annotations

import bisect
import itertools
import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from ..core.errors import ArgumentError, ArgumentTypeError, IndexRangeError, ShapeError
from ..core.pytree import tree_map
from .arrays import shape_of, take
from .randomness import Stream, draw_seed

T_co = TypeVar("T_co", covariant=True)


class Dataset(Generic[T_co]):
    """A collection of samples found by index: subclasses define `__getitem__` and `__len__`.

    A subclass may also define `__getitems__(indices)`, which returns the samples of a whole batch.
    Datasets add up: `a + b` is ConcatDataset([a, b]).
    """

    def __getitem__(self, index):
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__")

    def __add__(self, other) -> ConcatDataset:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[T_co]):
    """A stream of samples: subclasses define `__iter__`.

    With several workers each iterates its own copy; `get_worker_info()` inside `__iter__` says
    which share of the samples to give. Streams chain: `a + b` is ChainDataset([a, b]).
    """

    def __iter__(self):
        raise NotImplementedError(f"{type(self).__name__} must define __iter__")

    def __add__(self, other) -> ChainDataset:
        return ChainDataset([self, other])


class Rows(Sequence):
    """Samples of equal layout held as columns; reads as the list of the samples.

    A `__getitems__` may return it: `default_collate` then takes the columns as they are, so that
    a batch costs one indexing operation per column and none per sample.

    columns   a tuple (samples are tuples) or a dict (samples are dicts) of tensors or arrays
              with equal first axes; lists and dicts of these are samples inside a sample
    """

    def __init__(self, columns: tuple | dict):
        self.columns = columns

    def __len__(self) -> int:
        first: Any = self.columns
        while isinstance(first, (tuple, list, dict)):
            first = next(iter(first.values() if isinstance(first, dict) else first))
        return len(first)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexRangeError(f"Rows: index {index} is out of range for {len(self)} samples")
        return tree_map(lambda column: column[index], self.columns)


class TensorDataset(Dataset):
    """Samples (t[i] for each t of `tensors`), found along the first axes.

    tensors   tensors or NumPy arrays with equal first axes; ShapeError otherwise
    """

    def __init__(self, *tensors):
        if not tensors:
            raise ArgumentError("TensorDataset: needs at least one tensor")
        for i, tensor in enumerate(tensors):
            shape, first = shape_of(tensor), shape_of(tensors[0])
            if not shape:
                raise ShapeError(f"TensorDataset: tensor {i} is 0-dimensional; it has no samples")
            if shape[0] != first[0]:
                raise ShapeError(
                    f"TensorDataset: first axes differ: tensor 0 is {first}, tensor {i} is {shape}"
                )
        self.tensors = tensors

    def __getitem__(self, index):
        return tuple(tensor[index] for tensor in self.tensors)

    def __getitems__(self, indices) -> Rows:
        index = np.asarray(indices, dtype=np.int64)
        return Rows(tuple(take(tensor, index) for tensor in self.tensors))

    def __len__(self) -> int:
        return shape_of(self.tensors[0])[0]


class StackDataset(Dataset):
    """Samples of several datasets side by side: tuples of positional, dicts of named datasets.

    >>> StackDataset(image=[10, 11], label=[0, 1])[1]
    {'image': 11, 'label': 1}
    """

    def __init__(self, *args, **kwargs):
        if bool(args) == bool(kwargs):
            raise ArgumentError(
                "StackDataset: give either positional datasets (samples are tuples) "
                "or named ones (samples are dicts)"
            )
        self.datasets = kwargs or args
        lengths = [len(dataset) for dataset in args or kwargs.values()]
        if len(set(lengths)) > 1:
            raise ArgumentError(f"StackDataset: the datasets have different lengths: {lengths}")
        self._length = lengths[0]

    def __getitem__(self, index):
        if isinstance(self.datasets, dict):
            return {key: dataset[index] for key, dataset in self.datasets.items()}
        return tuple(dataset[index] for dataset in self.datasets)

    def __getitems__(self, indices) -> list:
        if isinstance(self.datasets, dict):
            columns = [get_items(dataset, indices) for dataset in self.datasets.values()]
            return [dict(zip(self.datasets, row)) for row in zip(*columns)]
        return list(zip(*(get_items(dataset, indices) for dataset in self.datasets)))

    def __len__(self) -> int:
        return self._length


class ConcatDataset(Dataset):
    """The samples of several map-style datasets, one dataset after the other.

    >>> ConcatDataset([[10, 11], [20]])[2]
    20
    """

    def __init__(self, datasets: Iterable):
        self.datasets = list(datasets)
        if not self.datasets:
            raise ArgumentError("ConcatDataset: needs at least one dataset")
        for i, dataset in enumerate(self.datasets):
            if isinstance(dataset, IterableDataset):
                raise ArgumentTypeError(
                    f"ConcatDataset: dataset {i} is an IterableDataset",
                    hint="ChainDataset joins streams",
                )
        self.cumulative_sizes = list(itertools.accumulate(len(d) for d in self.datasets))

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def _locate(self, index: int) -> tuple[int, int]:
        """(which dataset, index there)."""
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexRangeError(
                f"ConcatDataset: index {index} is out of range for {len(self)} samples"
            )
        which = bisect.bisect_right(self.cumulative_sizes, place)
        return which, place - (self.cumulative_sizes[which - 1] if which else 0)

    def __getitem__(self, index):
        which, inner = self._locate(index)
        return self.datasets[which][inner]

    def __getitems__(self, indices) -> list:
        samples = [None] * len(indices)
        groups: dict[int, tuple[list[int], list[int]]] = {}
        for position, index in enumerate(indices):
            which, inner = self._locate(index)
            positions, inners = groups.setdefault(which, ([], []))
            positions.append(position)
            inners.append(inner)
        for which, (positions, inners) in groups.items():
            for position, sample in zip(positions, get_items(self.datasets[which], inners)):
                samples[position] = sample
        return samples


class ChainDataset(IterableDataset):
    """The samples of several IterableDatasets, one stream after the other."""

    def __init__(self, datasets: Iterable):
        self.datasets = list(datasets)
        for i, dataset in enumerate(self.datasets):
            if not isinstance(dataset, IterableDataset):
                raise ArgumentTypeError(
                    f"ChainDataset: dataset {i} is a {type(dataset).__name__}, "
                    "not an IterableDataset",
                    hint="ConcatDataset joins map-style datasets",
                )

    def __iter__(self):
        return itertools.chain.from_iterable(self.datasets)

    def __len__(self) -> int:
        return sum(len(dataset) for dataset in self.datasets)


class Subset(Dataset[T_co]):
    """The samples of `dataset` at `indices`, in that order.

    >>> list(Subset("abcdef", [4, 0]))
    ['e', 'a']
    """

    def __init__(self, dataset, indices: Sequence[int]):
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index):
        return self.dataset[self.indices[index]]

    def __getitems__(self, indices):
        if type(self).__getitem__ is not Subset.__getitem__:  # a subclass changes the samples
            return [self[i] for i in indices]
        return get_items(self.dataset, [self.indices[i] for i in indices])

    def __len__(self) -> int:
        return len(self.indices)


def get_items(dataset, indices):
    """The samples at `indices`: all at once where the dataset can, else one by one."""
    if callable(getattr(dataset, "__getitems__", None)):
        samples = dataset.__getitems__(indices)
        if len(samples) != len(indices):
            raise ArgumentError(
                f"{type(dataset).__name__}.__getitems__ returned {len(samples)} samples "
                f"for {len(indices)} indices"
            )
        return samples
    return [dataset[i] for i in indices]


def random_split(dataset, lengths: Sequence[int | float], generator=None) -> list[Subset]:
    """Split a dataset at random into parts that do not overlap.

    lengths     sizes that add up to len(dataset), or fractions that add up to 1; what is left
                over after rounding fractions down goes to the first parts, one sample each
    generator   see DataLoader

    ArgumentError if the lengths do not add up.

    >>> [len(part) for part in random_split(range(11), [0.8, 0.2])]
    [9, 2]
    """
    total = len(dataset)
    sizes_given = all(isinstance(length, (int, np.integer)) for length in lengths)
    if math.isclose(sum(lengths), 1) and not (sizes_given and total == 1):
        for i, fraction in enumerate(lengths):
            if not 0 <= fraction <= 1:
                raise ArgumentError(
                    f"random_split: fraction {i} must be between 0 and 1, got {fraction}"
                )
        sizes = [math.floor(total * fraction) for fraction in lengths]
        for i in range(total - sum(sizes)):
            sizes[i % len(sizes)] += 1
        for i, size in enumerate(sizes):
            if size == 0:
                warnings.warn(f"random_split: part {i} has no samples", stacklevel=2)
        lengths = sizes
    if sum(lengths) != total:
        raise ArgumentError(
            f"random_split: the lengths {list(lengths)} add up to {sum(lengths)}, "
            f"but the dataset has {total} samples",
            hint="give sizes that add up to len(dataset), or fractions that add up to 1",
        )
    order = Stream(draw_seed(generator)).permutation(total).tolist()
    ends = itertools.accumulate(lengths)
    return [Subset(dataset, order[end - size : end]) for end, size in zip(ends, lengths)]
