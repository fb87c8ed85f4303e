"""Samplers: the order in which a DataLoader asks for samples.

Names and arguments of torch.utils.data. Orders are drawn in the main process, so that they do not
depend on the number of workers. Read next: randomness.py for how a seed becomes an order.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Generic

import numpy as np

from ..core.errors import ArgumentError, ArgumentTypeError, ShapeError
from .arrays import as_array
from .dataset import T_co
from .randomness import Stream, draw_seed

_CHUNK = 4096  # indices drawn at a time with replacement


class Sampler(Generic[T_co]):
    """Base of samplers: `__iter__` yields indices (or lists of them); `__len__` is optional."""

    def __iter__(self) -> Iterator:
        raise NotImplementedError(f"{type(self).__name__} must define __iter__")


class SequentialSampler(Sampler):
    """0, 1, 2, ... up to the length of `data_source`."""

    def __init__(self, data_source: Sized):
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler):
    """Indices of `data_source` in random order, a new one for each iteration.

    replacement   draw each index independently, so that some come twice and some never
    num_samples   how many to draw (default: all). Without replacement, more than there are
                  samples means several orders, one after the other
    generator     see DataLoader
    """

    def __init__(
        self,
        data_source: Sized,
        replacement: bool = False,
        num_samples: int | None = None,
        generator=None,
    ):
        self.data_source = data_source
        self.replacement = check_bool("RandomSampler", "replacement", replacement)
        self._num_samples = num_samples
        self.generator = generator
        if num_samples is not None:
            check_positive("RandomSampler", "num_samples", num_samples)
        elif len(data_source) == 0:
            raise ArgumentError("RandomSampler: the data source has no samples")

    @property
    def num_samples(self) -> int:
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def __iter__(self) -> Iterator[int]:
        stream = Stream(draw_seed(self.generator))
        n, left = len(self.data_source), self.num_samples
        while left:
            count = min(left, _CHUNK if self.replacement else n)
            draw = stream.integers(n, count) if self.replacement else stream.permutation(n)
            yield from draw[:count].tolist()
            left -= count

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(Sampler):
    """The given indices in random order, a new one for each iteration."""

    def __init__(self, indices: Sequence[int], generator=None):
        self.indices = indices
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        order = Stream(draw_seed(self.generator)).permutation(len(self.indices))
        return (self.indices[i] for i in order.tolist())

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Sampler):
    """`num_samples` indices of `weights`, drawn with probabilities proportional to them.

    weights       one number >= 0 per sample; they need not add up to 1
    replacement   True: independent draws. False: no index twice; after each draw the others keep
                  their relative probabilities. Needs at least num_samples weights above zero
    generator     see DataLoader
    """

    def __init__(self, weights, num_samples: int, replacement: bool = True, generator=None):
        check_positive("WeightedRandomSampler", "num_samples", num_samples)
        self.num_samples = num_samples
        self.replacement = check_bool("WeightedRandomSampler", "replacement", replacement)
        self.generator = generator
        self.weights = as_array(weights).astype(np.float64)
        if self.weights.ndim != 1:
            raise ShapeError(
                f"WeightedRandomSampler: weights must be 1-dimensional, got {self.weights.shape}"
            )
        if not (np.isfinite(self.weights).all() and (self.weights >= 0).all()):
            raise ArgumentError("WeightedRandomSampler: weights must be finite and not negative")
        positive = int((self.weights > 0).sum())
        if positive == 0:
            raise ArgumentError("WeightedRandomSampler: no weight is above zero")
        if not replacement and positive < num_samples:
            raise ArgumentError(
                f"WeightedRandomSampler: cannot draw {num_samples} different samples: "
                f"only {positive} weights are above zero"
            )

    def __iter__(self) -> Iterator[int]:
        stream = Stream(draw_seed(self.generator))
        if self.replacement:
            ends = np.cumsum(self.weights)
            draws = np.searchsorted(ends, stream.uniform(self.num_samples) * ends[-1], "right")
            # A product that rounds up to the last end must not select past the last weight > 0.
            last = int(np.flatnonzero(self.weights)[-1])
            return iter(np.minimum(draws, last).tolist())
        # Exponential clocks with rates `weights`: the first to ring are such a draw
        # (Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006).
        waits = -np.log1p(-stream.uniform(len(self.weights)))
        with np.errstate(divide="ignore", invalid="ignore"):
            rings = np.where(self.weights > 0, waits / self.weights, np.inf)
        return iter(np.argsort(rings, kind="stable")[: self.num_samples].tolist())

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler):
    """Lists of `batch_size` indices of another sampler; `drop_last` drops a shorter last one.

    >>> list(BatchSampler(SequentialSampler(range(5)), batch_size=2, drop_last=False))
    [[0, 1], [2, 3], [4]]
    """

    def __init__(self, sampler: Iterable[int], batch_size: int, drop_last: bool):
        check_positive("BatchSampler", "batch_size", batch_size)
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = check_bool("BatchSampler", "drop_last", drop_last)

    def __iter__(self) -> Iterator[list[int]]:
        indices = iter(self.sampler)
        while batch := list(itertools.islice(indices, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch

    def __len__(self) -> int:
        full, rest = divmod(len(self.sampler), self.batch_size)  # type: ignore[arg-type]
        return full + (rest > 0 and not self.drop_last)


def check_positive(operation: str, name: str, value) -> int:
    """`value` if it is an integer above zero, else an error that names the argument."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ArgumentTypeError(
            f"{operation}: {name} must be an integer, got {value!r} ({type(value).__name__})"
        )
    if value <= 0:
        raise ArgumentError(f"{operation}: {name} must be at least 1, got {value}")
    return int(value)


def check_bool(operation: str, name: str, value) -> bool:
    """`value` if it is a bool, else an error that names the argument."""
    if not isinstance(value, bool):
        raise ArgumentTypeError(f"{operation}: {name} must be True or False, got {value!r}")
    return value
