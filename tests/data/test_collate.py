"""default_collate and default_convert: structure beside torch, and whole error messages."""

from collections import OrderedDict, namedtuple

import ml_dtypes
import numpy as np
import pytest
import torch
from torch.utils.data import default_collate as peer_collate

import monograph as mg
from monograph.core.errors import ArgumentError, ArgumentTypeError, ShapeError
from monograph.data import Rows, default_collate, default_convert

Point = namedtuple("Point", "x y")
BATCH_HINT = "collate_fn=... of DataLoader says how such samples become a batch"


def plain(value):
    """A batch of either package as lists with dtype names, to compare."""
    if isinstance(value, (mg.Tensor, torch.Tensor)):
        array = value.numpy()
        return (array.dtype.name, array.tolist())
    if isinstance(value, dict):
        return type(value)((k, plain(v)) for k, v in value.items())
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(plain, value))
    if isinstance(value, (list, tuple)):
        return type(value)(map(plain, value))
    return value


@pytest.mark.parametrize(
    "batch",
    [
        [1, 2],
        [True, False],
        [1.5, 2],
        ["a", "b"],
        [b"a", b"b"],
        [np.float32(1), np.float32(2)],
        [np.int16(1), np.int16(2)],
        [np.arange(3), np.arange(3) + 1],
        [np.zeros((0, 2)), np.zeros((0, 2))],
        [(1, "a"), (2, "b")],
        [[1, 2.0], [3, 4.0]],
        [{"a": 1, "b": (2, [3])}, {"a": 4, "b": (5, [6])}],
        [OrderedDict(z=1, a=2), OrderedDict(z=3, a=4)],
        [Point(1, np.ones(2)), Point(3, np.zeros(2))],
        [range(3), range(3)],
        [(), ()],
        [{}, {}],
    ],
    ids=str,
)
def test_collate_equals_that_of_torch(batch):
    assert plain(default_collate(batch)) == plain(peer_collate(batch))


def test_tensors_are_stacked():
    batch = default_collate([mg.from_numpy(np.full((2, 3), i, np.float32)) for i in range(4)])
    assert isinstance(batch, mg.Tensor) and tuple(batch.shape) == (4, 2, 3)
    assert batch.numpy()[:, 1, 2].tolist() == [0, 1, 2, 3]


def test_small_floats_keep_their_dtype():
    batch = default_collate([np.ones(2, ml_dtypes.bfloat16)] * 2)
    assert batch.dtype == mg.bfloat16


def test_rows_are_collated_without_touching_samples():
    columns = (mg.from_numpy(np.arange(6).reshape(3, 2)), np.arange(3))
    x, y = default_collate(Rows(columns))
    assert x is columns[0] and isinstance(y, mg.Tensor) and y.tolist() == [0, 1, 2]
    named = default_collate(Rows({"x": columns[0]}))
    assert named["x"] is columns[0]


def check(error_type, message, hint, batch):
    with pytest.raises(error_type) as error:
        default_collate(batch)
    assert (str(error.value), error.value.hint) == (message, hint)


def test_shapes_that_differ_are_named_with_their_place():
    hint = (
        "pad, crop or resize to one shape in the dataset, or say how to batch them with "
        "collate_fn=... of DataLoader"
    )
    check(
        ShapeError,
        "default_collate: shapes differ: sample 0 of the batch is (3,), sample 2 is (4,)",
        hint,
        [np.zeros(3), np.zeros(3), np.zeros(4)],
    )
    check(
        ShapeError,
        "default_collate: shapes differ at sample['image'][1]: sample 0 of the batch is "
        "(3, 32, 32), sample 1 is (3, 28, 32)",
        hint,
        [{"image": (0, np.zeros((3, 32, 32)))}, {"image": (0, np.zeros((3, 28, 32)))}],
    )
    check(
        ShapeError,
        "default_collate: shapes differ at sample.y: sample 0 of the batch is (2,), sample 1 is ()",
        hint,
        [Point(0, mg.from_numpy(np.zeros(2))), Point(0, np.zeros(()))],
    )


def test_types_keys_and_lengths_that_differ_are_named():
    check(
        ArgumentTypeError,
        "default_collate: types differ at sample[1]: sample 0 of the batch is int, "
        "sample 1 is NoneType",
        BATCH_HINT,
        [(0, 1), (0, None)],
    )
    check(
        ArgumentTypeError,
        "default_collate: types differ: sample 0 of the batch is numpy.ndarray, sample 1 is int",
        BATCH_HINT,
        [np.zeros(2), 0],
    )
    check(
        ArgumentError,
        "default_collate: keys differ: sample 0 of the batch has 'label', sample 1 has not",
        BATCH_HINT,
        [{"a": 1, "label": 2}, {"a": 1}],
    )
    check(
        ArgumentError,
        "default_collate: keys differ at sample[0]: sample 1 of the batch has 'extra', "
        "sample 0 has not",
        BATCH_HINT,
        [[{"a": 1}], [{"a": 1, "extra": 2}]],
    )
    check(
        ShapeError,
        "default_collate: lengths differ at sample['boxes']: sample 0 of the batch has 2 "
        "elements, sample 1 has 1",
        BATCH_HINT,
        [{"boxes": [1, 2]}, {"boxes": [1]}],
    )


def test_samples_that_cannot_be_batched_are_named():
    takes = "; it takes tensors, NumPy arrays, numbers, strings, tuples, lists and dicts"
    check(
        ArgumentTypeError,
        "default_collate: cannot make a batch of NoneType at sample[0]" + takes,
        BATCH_HINT,
        [(None,), (None,)],
    )
    check(
        ArgumentTypeError,
        "default_collate: cannot make a batch of pathlib.PosixPath" + takes,
        BATCH_HINT,
        [__import__("pathlib").PosixPath("a")],
    )
    check(
        ArgumentTypeError,
        "default_collate: cannot make a tensor of an array of dtype <U1",
        BATCH_HINT,
        [np.array(["a"])],
    )
    check(ArgumentError, "default_collate: the batch has no samples", None, [])


def test_convert_makes_tensors_of_arrays_and_leaves_the_rest():
    marker = object()
    converted = default_convert(
        {"a": np.arange(2), "b": [1, np.float32(2)], "c": "text", "d": Point(1, np.ones(1))}
        | {"e": marker, "f": (np.zeros(1), 2), "g": np.array(["x"])}
    )
    assert isinstance(converted["a"], mg.Tensor) and converted["a"].tolist() == [0, 1]
    assert converted["b"][0] == 1 and converted["b"][1].dtype == mg.float32
    assert converted["c"] == "text" and converted["e"] is marker
    assert isinstance(converted["d"], Point) and isinstance(converted["d"].y, mg.Tensor)
    assert isinstance(converted["f"], list) and converted["f"][1] == 2
    assert isinstance(converted["g"], np.ndarray)
