"""Arrays as data sets: what `fit(x, y)` is given, sample by sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import monograph as mg

from ..core import pytree
from ..core.errors import ArgumentError, ArgumentTypeError, DataError
from ..data import Dataset, Rows


class Columns(Dataset):
    """Samples (x, y, weight) of arrays with equal first axes.

    x, y   an array, or a list or dict of several
    """

    def __init__(self, x: Any, y: Any = None, weight: Any = None):
        parts = [part for part in (x, y, weight) if part is not None]
        self.columns = tuple(_arrays(part) for part in parts)
        leaves = pytree.tree_leaves(self.columns)
        if len({len(a) for a in leaves}) > 1:
            raise ArgumentError(
                "fit: x, y and sample_weight must have as many samples each, got "
                + ", ".join(str(len(a)) for a in leaves)
            )

    def __len__(self) -> int:
        return len(pytree.tree_leaves(self.columns)[0])

    def part(self, start: int, stop: int) -> Columns:
        made = Columns.__new__(Columns)
        made.columns = pytree.tree_map(lambda a: a[start:stop], self.columns)
        return made

    def __getitem__(self, index: int) -> tuple:
        return pytree.tree_map(lambda a: a[index], self.columns)

    def __getitems__(self, indices: Sequence[int]) -> Any:
        index = np.asarray(indices, dtype=np.int64)
        return Rows(pytree.tree_map(lambda a: a[index], self.columns))


class Endless:
    """Batches of something that is read on from epoch to epoch, and again when it ends."""

    def __init__(self, batches: Any):
        self.batches, self._position = batches, None

    def __iter__(self) -> Any:
        while True:
            if self._position is None:
                self._position = iter(self.batches)
            empty = True
            for batch in self._position:
                empty = False
                yield batch
            self._position = None
            if empty:
                return


def unpack(data: Any) -> tuple[Any, Any, Any]:
    """(x, y, sample_weight) of a batch; what is not there is None."""
    if not isinstance(data, (list, tuple)):
        return data, None, None
    if not 1 <= len(data) <= 3:
        raise DataError(f"fit: a batch must be x, (x, y) or (x, y, weight), got {len(data)} parts")
    x, y, weight = (*data, None, None)[:3]
    return x, y, weight


def are_several(x: Any) -> bool:
    """Whether x is a list or tuple of arrays, not of numbers."""
    return (
        isinstance(x, (list, tuple))
        and bool(x)
        and all(isinstance(a, (np.ndarray, mg.Tensor)) and a.ndim for a in x)
    )


def _arrays(x: Any) -> Any:
    if isinstance(x, dict):
        return {name: as_samples(a) for name, a in x.items()}
    return [as_samples(a) for a in x] if are_several(x) else as_samples(x)


def as_samples(x: Any) -> np.ndarray:
    """An array of samples; floating ones are float32, as models are."""
    array = x.detach().numpy() if isinstance(x, mg.Tensor) else np.asarray(x)
    if array.dtype == np.float64 and not isinstance(x, mg.Tensor):
        array = array.astype(np.float32)
    if not array.ndim:
        raise ArgumentTypeError("fit: x and y must be arrays of samples, got one number")
    return array


def as_weights(y: Any, class_weight: dict[int, float] | None, sample_weight: Any) -> Any:
    """What each sample counts; None: all the same."""
    if class_weight is None:
        return sample_weight
    if isinstance(y, dict) or are_several(y):
        raise ArgumentError("fit: class_weight needs a model with one output")
    labels = as_samples(y)
    labels = (labels.argmax(1) if labels.ndim > 1 and labels.shape[1] > 1 else labels).reshape(-1)
    unknown = sorted({int(v) for v in labels} - set(class_weight))
    if unknown:
        raise ArgumentError(f"fit: class_weight says nothing of class {unknown[0]}")
    weights = np.array([class_weight[int(v)] for v in labels], np.float32)
    return weights if sample_weight is None else weights * as_samples(sample_weight)
