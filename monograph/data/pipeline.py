"""Pipelines: streams of samples made by stages, the same for any number of loader workers.

A stage passes on deferred samples: where one comes from, not yet its value. So each worker can walk
the whole stream, which is cheap, and compute only the samples of its own batches; and a stream that
resumes after n batches computes none of those. Read next: fetch.py (PipelineFetcher).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from ..core.errors import ArgumentError, ArgumentTypeError
from .dataset import IterableDataset
from .randomness import OwnRandomness, Stream, batch_seed, draw_seed
from .sampler import check_positive


class Deferred:
    """A sample that is computed when it is asked for, and once."""

    __slots__ = ("_make", "_value")

    def __init__(self, make: Callable, source: Any):
        self._make: Callable | None = make
        self._value = source  # what it is made of, until it is made

    def get(self) -> Any:
        if self._make is not None:
            source = self._value.get() if isinstance(self._value, Deferred) else self._value
            self._value = self._make(source)
            self._make = None
        return self._value


class Pipeline(IterableDataset):
    """A stream of samples: a source and the stages that its methods add.

    source  a map-style dataset (read sample by sample, where a sample is needed) or any iterable
            that can be iterated again (then every worker reads all of it)

    Each method returns a new pipeline. What `map` functions draw from the global generators is
    seeded by the DataLoader for each batch; `shuffle` and `interleave` follow the epoch's seed. So
    a loader gives the same batches for any number of workers.

    >>> words = Pipeline(["one", "three", "five", "eleven"])
    >>> list(words.map(len).filter(lambda n: n > 3))
    [5, 4, 6]
    >>> list(words.map(len).take(2).repeat(2))
    [3, 5, 3, 5]
    """

    def __init__(self, source: Any):
        if not hasattr(source, "__getitem__") and not hasattr(source, "__iter__"):
            raise ArgumentTypeError(
                f"Pipeline: source must be a dataset or an iterable, got {type(source).__name__}"
            )
        self.source = source

    def deferred(self, seed: int) -> Iterator[Deferred]:
        """The samples of the epoch with this seed, not yet computed."""
        if isinstance(self.source, Pipeline):
            return self.source.deferred(seed)
        if hasattr(self.source, "__len__") and hasattr(self.source, "__getitem__"):
            read = self.source.__getitem__
            return (Deferred(read, i) for i in range(len(self.source)))
        return (Deferred(_identity, x) for x in self.source)

    def __iter__(self) -> Iterator[Any]:
        return (x.get() for x in self.deferred(draw_seed()))

    def __len__(self) -> int:
        return len(self.source)

    # Stages

    def map(self, function: Callable) -> Pipeline:
        """function(sample) in place of each sample; computed where the sample is needed."""
        return _Map(self, function)

    def filter(self, predicate: Callable) -> Pipeline:
        """The samples for which predicate(sample) is true.

        Every worker computes every sample up to here: put costly maps behind it.
        """
        return _Filter(self, predicate)

    def shuffle(self, buffer_size: int) -> Pipeline:
        """Give samples in random order: each is drawn from the next `buffer_size` that are left."""
        return _Shuffle(self, check_positive("Pipeline.shuffle", "buffer_size", buffer_size))

    def take(self, count: int) -> Pipeline:
        """The first `count` samples."""
        return _Slice(self, 0, count)

    def skip(self, count: int) -> Pipeline:
        """All but the first `count` samples."""
        return _Slice(self, count, None)

    def repeat(self, times: int | None = None) -> Pipeline:
        """The stream `times` times over (None: for ever), shuffled anew each time."""
        return _Repeat(self, times)

    def cache(self) -> Pipeline:
        """Keep each computed sample in memory for later epochs.

        What comes before must give the same samples in the same order each time (no shuffle).
        Each worker has its own memory: use persistent_workers, or no workers.
        """
        return _Cache(self)

    def zip(self, *others: Any) -> Pipeline:
        """Tuples of a sample of this pipeline and one of each other; ends with the shortest."""
        return _Zip([self, *map(as_pipeline, others)])

    def chain(self, *others: Any) -> Pipeline:
        """The samples of this pipeline, then those of the others."""
        return _Chain([self, *map(as_pipeline, others)])

    def interleave(self, *others: Any, weights: Iterable[float] | None = None) -> Pipeline:
        """Samples of several pipelines mixed: in turn, or drawn at random with these weights.

        A pipeline that is exhausted leaves; the mixture ends with the last of them.
        """
        return _Interleave([self, *map(as_pipeline, others)], weights)


def _identity(x: Any) -> Any:
    return x


def as_pipeline(source: Any) -> Pipeline:
    """`source` as a Pipeline."""
    return source if isinstance(source, Pipeline) else Pipeline(source)


class _Map(Pipeline):
    def __init__(self, source: Pipeline, function: Callable):
        super().__init__(source)
        self.function = function

    def deferred(self, seed: int) -> Iterator[Deferred]:
        return (Deferred(self.function, x) for x in self.source.deferred(seed))


class _Filter(Pipeline):
    def __init__(self, source: Pipeline, predicate: Callable):
        super().__init__(source)
        self.predicate = predicate

    def deferred(self, seed: int) -> Iterator[Deferred]:
        for number, x in enumerate(self.source.deferred(batch_seed(seed, 1))):
            with OwnRandomness(batch_seed(seed, number)):  # in whatever batch this happens
                keeps = self.predicate(x.get())
            if keeps:
                yield x

    def __len__(self) -> int:
        raise TypeError("a filtered Pipeline has no length")


class _Shuffle(Pipeline):
    def __init__(self, source: Pipeline, buffer_size: int):
        super().__init__(source)
        self.buffer_size = buffer_size

    def deferred(self, seed: int) -> Iterator[Deferred]:
        samples = self.source.deferred(batch_seed(seed, 1))
        stream = Stream(batch_seed(seed, 0))
        buffer = list(itertools.islice(samples, self.buffer_size))
        while buffer:
            # The words for as many draws as the buffer has places, at once.
            for word in stream.words(len(buffer)).tolist():
                place = word % len(buffer)
                yield buffer[place]
                following = next(samples, None)
                if following is None:
                    buffer[place] = buffer[-1]
                    buffer.pop()
                    if not buffer:
                        return
                else:
                    buffer[place] = following


class _Slice(Pipeline):
    def __init__(self, source: Pipeline, start: int, stop: int | None):
        super().__init__(source)
        for value in (start, stop):
            if value is not None and (isinstance(value, bool) or value < 0):
                raise ArgumentError(f"Pipeline: a count must be at least 0, got {value!r}")
        self.start, self.stop = start, stop

    def deferred(self, seed: int) -> Iterator[Deferred]:
        return itertools.islice(self.source.deferred(seed), self.start, self.stop)

    def __len__(self) -> int:
        return len(range(len(self.source))[self.start : self.stop])


class _Repeat(Pipeline):
    def __init__(self, source: Pipeline, times: int | None):
        super().__init__(source)
        self.times = times

    def deferred(self, seed: int) -> Iterator[Deferred]:
        for turn in itertools.count() if self.times is None else range(self.times):
            empty = True
            for x in self.source.deferred(batch_seed(seed, turn)):
                empty = False
                yield x
            if empty:
                return

    def __len__(self) -> int:
        if self.times is None:
            raise TypeError("a Pipeline that repeats for ever has no length")
        return self.times * len(self.source)


class _Cache(Pipeline):
    def __init__(self, source: Pipeline):
        super().__init__(source)
        self._kept: dict[int, Any] = {}

    def deferred(self, seed: int) -> Iterator[Deferred]:
        return (Deferred(self._read, (i, x)) for i, x in enumerate(self.source.deferred(seed)))

    def _read(self, sample: tuple[int, Deferred]) -> Any:
        place, value = sample
        if place not in self._kept:
            self._kept[place] = value.get()
        return self._kept[place]


class _Several(Pipeline):
    """A pipeline of several sources."""

    def __init__(self, parts: list[Pipeline]):
        super().__init__(parts)
        self.parts = parts

    def _streams(self, seed: int) -> list[Iterator[Deferred]]:
        return [part.deferred(batch_seed(seed, i)) for i, part in enumerate(self.parts)]

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)


class _Zip(_Several):
    def deferred(self, seed: int) -> Iterator[Deferred]:
        return (Deferred(_all, row) for row in zip(*self._streams(seed)))

    def __len__(self) -> int:
        return min(len(part) for part in self.parts)


def _all(row: tuple[Deferred, ...]) -> tuple:
    return tuple(x.get() for x in row)


class _Chain(_Several):
    def deferred(self, seed: int) -> Iterator[Deferred]:
        return itertools.chain.from_iterable(self._streams(seed))


class _Interleave(_Several):
    def __init__(self, parts: list[Pipeline], weights: Iterable[float] | None):
        super().__init__(parts)
        self.weights = None if weights is None else np.asarray(list(weights), np.float64)
        if self.weights is not None and (
            self.weights.shape != (len(parts),) or not (self.weights > 0).all()
        ):
            raise ArgumentError(
                f"Pipeline.interleave: weights must be {len(parts)} numbers above zero, one for "
                f"each pipeline, got {self.weights.tolist()}"
            )

    def deferred(self, seed: int) -> Iterator[Deferred]:
        streams = self._streams(batch_seed(seed, 1))
        weights = self.weights
        draws = Stream(batch_seed(seed, 0))
        turn = 0
        while streams:
            if weights is not None:
                ends = np.cumsum(weights)
                turn = int(np.searchsorted(ends, draws.uniform(1)[0] * ends[-1], "right"))
                turn = min(turn, len(streams) - 1)
            x = next(streams[turn], None)
            if x is not None:
                yield x
                turn = (turn + 1) % len(streams)
                continue
            del streams[turn]
            if weights is not None:
                weights = np.delete(weights, turn)
            turn = turn % len(streams) if streams else 0
