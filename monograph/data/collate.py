"""Collating: a list of samples becomes one batch.

Follows torch.utils.data.default_collate; a mismatch names the place inside the sample.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, MutableMapping, MutableSequence, Sequence

import numpy as np

from ..core.errors import ArgumentError, ArgumentTypeError, ShapeError
from .arrays import is_tensor, shape_of, stack, to_tensor
from .dataset import Rows

_HINT = "collate_fn=... of DataLoader says how such samples become a batch"


def default_collate(batch):
    """Make one batch of a list of samples of equal layout.

    tensors, NumPy arrays      one tensor with a new first axis; their shapes must be equal
    numbers                    a tensor: bool, int64 or float64 (NumPy scalars keep their dtype)
    str, bytes                 a list or tuple of them
    dict, list, namedtuple     the same container of collated entries
    tuple                      a list of collated entries

    ShapeError or ArgumentTypeError says where in the sample two samples do not fit together.

    >>> default_collate([{"name": "a", "pair": ("b", "c")}, {"name": "d", "pair": ("e", "f")}])
    {'name': ['a', 'd'], 'pair': [('b', 'e'), ('c', 'f')]}
    """
    if len(batch) == 0:
        raise ArgumentError("default_collate: the batch has no samples")
    if isinstance(batch, Rows):
        columns = batch.columns
        if isinstance(columns, dict):
            return {key: _whole(column) for key, column in columns.items()}
        return [_whole(column) for column in columns]
    return _collate(list(batch), "")


def _whole(column):
    if isinstance(column, dict):
        return {key: _whole(part) for key, part in column.items()}
    if isinstance(column, (list, tuple)):
        return [_whole(part) for part in column]
    return to_tensor(column) if isinstance(column, np.ndarray) else column


def _collate(samples: Sequence, place: str):
    first = samples[0]
    if is_tensor(first) or isinstance(first, np.ndarray):
        return _collate_arrays(samples, place)
    if isinstance(first, (str, bytes)):
        _check_types(samples, (str, bytes), place)
        return samples
    if isinstance(first, (bool, int, float, np.number, np.bool_)):
        _check_types(samples, (bool, int, float, np.number, np.bool_), place)
        return to_tensor(np.array(samples))
    if isinstance(first, Mapping):
        return _collate_mappings(samples, place)
    if isinstance(first, Sequence):
        return _collate_sequences(samples, place)
    kind = type(first)
    raise ArgumentTypeError(
        f"default_collate: cannot make a batch of {_type_name(kind)}{_at(place)}; it takes "
        "tensors, NumPy arrays, numbers, strings, tuples, lists and dicts",
        hint=_HINT,
    )


def _collate_arrays(samples: Sequence, place: str):
    for i, sample in enumerate(samples):
        if not (is_tensor(sample) or isinstance(sample, np.ndarray)):
            raise _types_differ(samples, i, place)
        if shape_of(sample) != shape_of(samples[0]):
            raise ShapeError(
                f"default_collate: shapes differ{_at(place)}: sample 0 of the batch is "
                f"{shape_of(samples[0])}, sample {i} is {shape_of(sample)}",
                hint="pad, crop or resize to one shape in the dataset, "
                "or say how to batch them with collate_fn=... of DataLoader",
            )
        if isinstance(sample, np.ndarray) and sample.dtype.kind in "OSUMmV":
            # kind V holds also the dtypes of ml_dtypes, which are no structures
            if sample.dtype.kind != "V" or sample.dtype.names or sample.dtype.type is np.void:
                raise ArgumentTypeError(
                    f"default_collate: cannot make a tensor of an array of dtype "
                    f"{sample.dtype}{_at(place)}",
                    hint=_HINT,
                )
    return stack(samples)


def _collate_mappings(samples: Sequence, place: str):
    first = samples[0]
    for i, sample in enumerate(samples):
        if not isinstance(sample, Mapping):
            raise _types_differ(samples, i, place)
        if sample.keys() != first.keys():
            odd = next(key for key in [*first, *sample] if key not in first or key not in sample)
            has, lacks = (0, i) if odd in first else (i, 0)
            raise ArgumentError(
                f"default_collate: keys differ{_at(place)}: sample {has} of the batch has "
                f"{odd!r}, sample {lacks} has not",
                hint=_HINT,
            )
    entries = {
        key: _collate([sample[key] for sample in samples], f"{place}[{key!r}]") for key in first
    }
    if type(first) is dict:
        return entries
    try:
        if isinstance(first, MutableMapping):
            result = copy.copy(first)
            result.update(entries)
            return result
        return type(first)(entries)
    except TypeError:  # a mapping that cannot be copied or built from a dict
        return entries


def _collate_sequences(samples: Sequence, place: str):
    first = samples[0]
    for i, sample in enumerate(samples):
        if not isinstance(sample, Sequence) or isinstance(sample, (str, bytes)):
            raise _types_differ(samples, i, place)
        if len(sample) != len(first):
            raise ShapeError(
                f"default_collate: lengths differ{_at(place)}: sample 0 of the batch has "
                f"{len(first)} elements, sample {i} has {len(sample)}",
                hint=_HINT,
            )
    named = isinstance(first, tuple) and hasattr(first, "_fields")
    places = [f"{place}.{f}" for f in first._fields] if named else None
    entries = [
        _collate(column, places[i] if places else f"{place}[{i}]")
        for i, column in enumerate(zip(*samples))
    ]
    if named:
        return type(first)(*entries)
    if isinstance(first, tuple) or type(first) is list:
        return entries
    try:
        if isinstance(first, MutableSequence):
            result = copy.copy(first)
            result[:] = entries
            return result
        return type(first)(entries)
    except TypeError:  # a sequence that cannot be copied or built from a list, such as range
        return entries


def _check_types(samples: Sequence, kinds: tuple, place: str) -> None:
    for i, sample in enumerate(samples):
        if not isinstance(sample, kinds):
            raise _types_differ(samples, i, place)


def _types_differ(samples: Sequence, i: int, place: str) -> ArgumentTypeError:
    return ArgumentTypeError(
        f"default_collate: types differ{_at(place)}: sample 0 of the batch is "
        f"{_type_name(type(samples[0]))}, sample {i} is {_type_name(type(samples[i]))}",
        hint=_HINT,
    )


def _at(place: str) -> str:
    return f" at sample{place}" if place else ""


def _type_name(kind: type) -> str:
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def default_convert(data):
    """Turn the NumPy arrays and scalars inside one sample into tensors; leave the rest.

    What DataLoader does to samples with batch_size=None.
    """
    if isinstance(data, (np.ndarray, np.number, np.bool_)):
        if np.asarray(data).dtype.kind in "OSUMm":
            return data
        return to_tensor(np.asarray(data))
    if is_tensor(data) or isinstance(data, (str, bytes)):
        return data
    if isinstance(data, Rows):
        return default_collate(data)
    if isinstance(data, Mapping):
        entries = {key: default_convert(value) for key, value in data.items()}
        try:
            if isinstance(data, MutableMapping):
                result = copy.copy(data)
                result.update(entries)
                return result
            return type(data)(entries)
        except TypeError:
            return entries
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*map(default_convert, data))
    if isinstance(data, tuple):
        return [default_convert(value) for value in data]
    if isinstance(data, Sequence):
        values = [default_convert(value) for value in data]
        try:
            if isinstance(data, MutableSequence):
                result = copy.copy(data)
                result[:] = values
                return result
            return type(data)(values)
        except TypeError:
            return values
    return data
