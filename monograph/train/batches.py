"""Batches for the Trainer's loops: how many a loader gives, which part of them is wanted."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

import monograph as mg

from ..core import pytree
from ..core.errors import ArgumentError
from ..data import DataLoader, RandomSampler

END = object()  # what next() gives when there is no further batch


def as_loaders(given: Any) -> list[Any]:
    """None, one loader or several, as a list."""
    if given is None:
        return []
    return list(given) if isinstance(given, (list, tuple)) else [given]


def count_batches(loader: Any, limit: int | float | None, kind: str) -> int | None:
    """Batches that a loader will give under a limit (see Trainer), or None if nobody knows."""
    try:
        length = len(loader)
    except TypeError:
        length = None
    if isinstance(limit, float):
        if length is None:
            raise ArgumentError(
                f"Trainer: limit {limit} is a part of the {kind} data, which has no length",
                hint="give a number of batches (an int)",
            )
        return int(length * limit)
    if limit is None:
        return length
    return limit if length is None else min(limit, length)


def limited(loader: Any, count: int | None) -> Iterator[Any]:
    """At most `count` batches. The loader is not asked for one more than that."""
    return iter(loader) if count is None else itertools.islice(iter(loader), count)


def first_batches(loader: Any, limit: int | float) -> list[Any]:
    """The batches to overfit: those at the head of the data, in its own order, kept in memory."""
    if isinstance(loader, DataLoader) and isinstance(loader.sampler, RandomSampler):
        loader = DataLoader(
            loader.dataset,
            batch_size=loader.batch_size,
            collate_fn=loader.collate_fn,
            drop_last=loader.drop_last,
        )
    return list(limited(loader, count_batches(loader, limit, "train")))


def batch_size(batch: Any) -> int:
    """The first axis of the first tensor of a batch that has one; 1 if there is none."""
    kind = type(batch)
    if kind is list or kind is tuple:  # the common case, quickly
        first = batch[0] if batch else None
        array = first._payload if type(first) is mg.Tensor else None
        if type(array) is np.ndarray and array.ndim:
            return array.shape[0]
    for leaf in pytree.tree_leaves(batch):
        if isinstance(leaf, (mg.Tensor, np.ndarray)) and len(leaf.shape):
            return int(leaf.shape[0])
    return 1
