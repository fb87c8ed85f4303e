"""Fetching: from indices to a collated batch, in the main process or in a worker.

An exception of the dataset or of collate_fn leaves with a note that says which sample it was.
"""

from __future__ import annotations

import itertools

from .collate import default_collate, default_convert
from .dataset import (
    ChainDataset,
    ConcatDataset,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
    get_items,
)
from .pipeline import Pipeline


class EndOfStream(Exception):
    """An IterableDataset has no further batch."""


class StreamRequest(int):
    """A request to an IterableDataset: how many samples to read for a batch."""


def make_fetcher(dataset, collate_fn, batched: bool, drop_last: bool, seed: int):
    """What fetches batches of `dataset` (or, if not `batched`, single converted samples).

    fetch(request, batch) gives batch number `batch` of the epoch; skip(request) passes one over.
    seed  of the epoch
    """
    if isinstance(dataset, Pipeline):
        return PipelineFetcher(dataset, collate_fn, batched, drop_last, seed)
    if isinstance(dataset, IterableDataset):
        return StreamFetcher(dataset, collate_fn, batched, drop_last)
    return MapFetcher(dataset, collate_fn, batched)


class MapFetcher:
    """Batches of a map-style dataset; a request is a list of indices (or one index)."""

    def __init__(self, dataset, collate_fn, batched: bool):
        self.dataset = dataset
        self.collate_fn = collate_fn
        self.batched = batched

    def fetch(self, request, batch):
        asked = request
        try:
            if not self.batched:
                samples = self.dataset[request]
            elif callable(getattr(self.dataset, "__getitems__", None)):
                samples = get_items(self.dataset, request)
            else:
                samples = []
                for asked in request:
                    samples.append(self.dataset[asked])
        except Exception as error:
            error.add_note(f"  in DataLoader: {name_request(asked)} of {_name(self.dataset)}")
            raise
        try:
            return self.collate_fn(samples)
        except Exception as error:
            error.add_note(
                f"  in DataLoader: collating {name_request(request)} of {_name(self.dataset)}"
            )
            raise


class StreamFetcher:
    """Batches of an IterableDataset; a request is the batch size. EndOfStream at the end."""

    def __init__(self, dataset, collate_fn, batched: bool, drop_last: bool):
        self.dataset = dataset
        self.collate_fn = collate_fn
        self.batched = batched
        self.drop_last = drop_last
        self.fetched = 0
        self.samples = None
        self.ended = False

    def fetch(self, request, batch):
        if self.ended:
            raise EndOfStream
        try:
            samples = self._read(request)
            result = self.collate_fn(samples if self.batched else samples[0])
        except EndOfStream:
            raise
        except Exception as error:
            unit = "batch" if self.batched else "sample"
            error.add_note(f"  in DataLoader: {unit} {self.fetched} of {_name(self.dataset)}")
            raise
        self.fetched += 1
        return result

    def skip(self, request) -> None:
        """Read the samples of a batch and drop them."""
        if self.ended:
            raise EndOfStream
        self._read(request)
        self.fetched += 1

    def _read(self, request) -> list:
        if self.samples is None:
            self.samples = iter(self.dataset)
        samples = list(itertools.islice(self.samples, request if self.batched else 1))
        if not samples or (self.batched and self.drop_last and len(samples) < request):
            self.ended = True
            raise EndOfStream
        return samples


class PipelineFetcher:
    """Batches of a Pipeline: each worker walks all samples and computes those of its batches."""

    def __init__(self, dataset, collate_fn, batched: bool, drop_last: bool, seed: int):
        self.dataset, self.collate_fn = dataset, collate_fn
        self.batched, self.drop_last = batched, drop_last
        self.samples = dataset.deferred(seed)
        self.next_batch = 0

    def fetch(self, request, batch):
        size = int(request) if self.batched else 1
        try:
            for _ in itertools.islice(self.samples, (batch - self.next_batch) * size):
                pass
            self.next_batch = batch + 1
            deferred = list(itertools.islice(self.samples, size))
            if not deferred or (self.batched and self.drop_last and len(deferred) < size):
                raise EndOfStream
            samples = [value.get() for value in deferred]
            return self.collate_fn(samples if self.batched else samples[0])
        except EndOfStream:
            raise
        except Exception as error:
            error.add_note(f"  in DataLoader: batch {batch} of {_name(self.dataset)}")
            raise


def draws_nothing(dataset, collate_fn) -> bool:
    """Whether fetching certainly draws no random numbers (so that nothing need be seeded for it):
    arrays and lists in containers of this package, collated as usual."""
    if collate_fn not in (default_collate, default_convert):
        return False
    if isinstance(dataset, (StackDataset, ConcatDataset, ChainDataset)):
        parts = dataset.datasets
        values = parts.values() if isinstance(parts, dict) else parts
        return all(draws_nothing(part, collate_fn) for part in values)
    if type(dataset) is Subset:
        return draws_nothing(dataset.dataset, collate_fn)
    transforms = (getattr(dataset, name, None) for name in ("transform", "target_transform"))
    own = type(dataset).__module__.startswith("monograph.data.") and not any(transforms)
    return type(dataset) in (list, tuple, range, TensorDataset) or (
        own and not isinstance(dataset, IterableDataset)
    )


def name_request(request) -> str:
    """A request in words: `sample 3`, `samples 4, 5, 6`."""
    if not isinstance(request, (list, tuple)):
        return f"sample {request}"
    if len(request) == 1:
        return f"sample {request[0]}"
    if len(request) <= 16:
        return "samples " + ", ".join(map(str, request))
    shown = ", ".join(map(str, request[:3]))
    return f"samples {shown}, ..., {request[-1]} ({len(request)} samples)"


def _name(dataset) -> str:
    return type(dataset).__name__
