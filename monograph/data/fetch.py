"""Fetching: from indices to a collated batch, in the main process or in a worker.

An exception of the dataset or of collate_fn leaves with a note that says which sample it was.
"""

from __future__ import annotations

import itertools

from .dataset import IterableDataset, get_items


class EndOfStream(Exception):
    """An IterableDataset has no further batch."""


class StreamRequest(int):
    """A request to an IterableDataset: how many samples to read for a batch."""


def make_fetcher(dataset, collate_fn, batched: bool, drop_last: bool):
    """What fetches batches of `dataset` (or, if not `batched`, single converted samples)."""
    if isinstance(dataset, IterableDataset):
        return StreamFetcher(dataset, collate_fn, batched, drop_last)
    return MapFetcher(dataset, collate_fn, batched)


class MapFetcher:
    """Batches of a map-style dataset; a request is a list of indices (or one index)."""

    def __init__(self, dataset, collate_fn, batched: bool):
        self.dataset = dataset
        self.collate_fn = collate_fn
        self.batched = batched

    def fetch(self, request):
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

    def fetch(self, request):
        if self.ended:
            raise EndOfStream
        try:
            if self.samples is None:
                self.samples = iter(self.dataset)
            batch = list(itertools.islice(self.samples, request if self.batched else 1))
            if not batch or (self.batched and self.drop_last and len(batch) < request):
                self.ended = True
                raise EndOfStream
            batch = self.collate_fn(batch if self.batched else batch[0])
        except EndOfStream:
            raise
        except Exception as error:
            unit = "batch" if self.batched else "sample"
            error.add_note(f"  in DataLoader: {unit} {self.fetched} of {_name(self.dataset)}")
            raise
        self.fetched += 1
        return batch


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
