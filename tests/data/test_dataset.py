"""Datasets and random_split, beside torch.utils.data where the results can be compared."""

import numpy as np
import pytest

import monograph as mg
from monograph.core.errors import ArgumentError, ArgumentTypeError, IndexRangeError, ShapeError
from monograph.data import (
    ChainDataset,
    ConcatDataset,
    Dataset,
    IterableDataset,
    Rows,
    StackDataset,
    Subset,
    TensorDataset,
    random_split,
)


def check(error_type, message, hint, call):
    with pytest.raises(error_type) as error:
        call()
    assert (str(error.value), error.value.hint) == (message, hint)


class Squares(Dataset):
    def __init__(self, n):
        self.n = n

    def __getitem__(self, index):
        if not 0 <= index < self.n:
            raise IndexError(index)
        return index * index

    def __len__(self):
        return self.n


class Count(IterableDataset):
    def __init__(self, *values):
        self.values = values

    def __iter__(self):
        return iter(self.values)

    def __len__(self):
        return len(self.values)


def pairs(n=6):
    x = np.arange(n * 2, dtype=np.float32).reshape(n, 2)
    return x, TensorDataset(mg.from_numpy(x), mg.from_numpy(np.arange(n)))


def test_tensor_dataset_gives_a_row_of_each_tensor():
    x, data = pairs()
    row, label = data[4]
    assert row.tolist() == x[4].tolist() and label.item() == 4
    assert len(data) == 6


def test_tensor_dataset_gives_a_batch_as_rows_that_read_as_samples():
    x, data = pairs()
    rows = data.__getitems__([5, 0, 5])
    assert isinstance(rows, Rows) and len(rows) == 3
    assert rows.columns[0].tolist() == x[[5, 0, 5]].tolist()
    images, labels = zip(*rows)
    assert [label.item() for label in labels] == [5, 0, 5]
    assert rows[-1][1].item() == 5 and [label.item() for _, label in rows[1:]] == [0, 5]
    with pytest.raises(IndexRangeError):
        rows[3]


def test_tensor_dataset_takes_numpy_arrays():
    data = TensorDataset(np.arange(3), np.eye(3))
    assert data[2][0] == 2 and data.__getitems__([2, 1]).columns[0].tolist() == [2, 1]


def test_tensor_dataset_checks_first_axes():
    check(
        ShapeError,
        "TensorDataset: first axes differ: tensor 0 is (4, 2), tensor 1 is (3,)",
        None,
        lambda: TensorDataset(np.zeros((4, 2)), np.zeros(3)),
    )
    check(
        ShapeError,
        "TensorDataset: tensor 0 is 0-dimensional; it has no samples",
        None,
        lambda: TensorDataset(np.zeros(())),
    )


def test_concat_dataset_finds_samples_from_both_ends():
    data = Squares(3) + Squares(2)
    assert isinstance(data, ConcatDataset) and len(data) == 5
    assert [data[i] for i in range(5)] == [0, 1, 4, 0, 1]
    assert [data[i] for i in range(-5, 0)] == [0, 1, 4, 0, 1]
    assert data.__getitems__([4, 2, 3]) == [1, 4, 0]
    assert data.cumulative_sizes == [3, 5]
    check(
        IndexRangeError,
        "ConcatDataset: index 5 is out of range for 5 samples",
        None,
        lambda: data[5],
    )


def test_concat_of_tensor_datasets_keeps_the_order_of_a_batch():
    data = ConcatDataset([pairs(3)[1], pairs(4)[1]])
    labels = [label.item() for _, label in data.__getitems__([6, 0, 3, 2])]
    assert labels == [3, 0, 0, 2]


def test_chain_dataset_joins_streams():
    data = Count(1, 2) + Count(3)
    assert isinstance(data, ChainDataset)
    assert list(data) == [1, 2, 3] and list(data) == [1, 2, 3] and len(data) == 3


def test_joining_the_wrong_kind_of_dataset_is_an_error():
    check(
        ArgumentTypeError,
        "ConcatDataset: dataset 1 is an IterableDataset",
        "ChainDataset joins streams",
        lambda: ConcatDataset([Squares(2), Count(1)]),
    )
    check(
        ArgumentTypeError,
        "ChainDataset: dataset 0 is a Squares, not an IterableDataset",
        "ConcatDataset joins map-style datasets",
        lambda: ChainDataset([Squares(2)]),
    )


def test_stack_dataset_gives_tuples_or_dicts():
    data = StackDataset(Squares(4), pairs(4)[1])
    square, (row, label) = data[3]
    assert square == 9 and label.item() == 3
    assert [sample[0] for sample in data.__getitems__([2, 1])] == [4, 1]
    named = StackDataset(a=Squares(4), b=Squares(4))
    assert named[2] == {"a": 4, "b": 4}
    assert named.__getitems__([1, 3]) == [{"a": 1, "b": 1}, {"a": 9, "b": 9}]
    check(
        ArgumentError,
        "StackDataset: the datasets have different lengths: [4, 3]",
        None,
        lambda: StackDataset(Squares(4), Squares(3)),
    )


def test_subset_of_subset_of_tensors_stays_one_indexing_operation():
    _, data = pairs(6)
    inner = Subset(Subset(data, [5, 4, 3, 0]), [3, 0])
    assert isinstance(inner.__getitems__([0, 1]), Rows)
    assert [label.item() for _, label in inner.__getitems__([0, 1])] == [0, 5]
    assert inner[1][1].item() == 5 and len(inner) == 2


def test_subclass_of_subset_that_changes_samples_is_obeyed_in_batches():
    class Negated(Subset):
        def __getitem__(self, index):
            return -super().__getitem__(index)

    assert Negated(Squares(4), [3, 2]).__getitems__([0, 1]) == [-9, -4]


def test_getitems_that_returns_the_wrong_number_of_samples_is_an_error():
    class Short(Squares):
        def __getitems__(self, indices):
            return [0]

    check(
        ArgumentError,
        "Short.__getitems__ returned 1 samples for 2 indices",
        None,
        lambda: Subset(Short(4), [0, 1, 2]).__getitems__([0, 1]),
    )


@pytest.mark.parametrize(
    "total, lengths",
    [
        (10, [3, 7]),
        (10, [0.3, 0.3, 0.4]),
        (11, [0.5, 0.5]),
        (100, [0.29, 0.71]),
        (17, [0.1] * 10),
        (1, [0.5, 0.5]),
        (1, [1]),
    ],
)
@pytest.mark.filterwarnings("ignore:.*(no samples|might result in an empty)")
def test_random_split_has_the_sizes_of_torch_and_covers_all(total, lengths):
    from torch.utils.data import random_split as peer

    mg.manual_seed(3)
    parts = random_split(range(total), lengths)
    assert [len(p) for p in parts] == [len(p) for p in peer(range(total), lengths)]
    assert sorted(i for part in parts for i in part) == list(range(total))


def test_random_split_repeats_with_the_seed():
    def split(seed):
        mg.manual_seed(seed)
        return [part.indices for part in random_split(range(50), [40, 10])]

    assert split(1) == split(1) != split(2)
    assert split(1)[0] != sorted(split(1)[0])


def test_random_split_says_what_lengths_add_up_to():
    check(
        ArgumentError,
        "random_split: the lengths [3, 4] add up to 7, but the dataset has 10 samples",
        "give sizes that add up to len(dataset), or fractions that add up to 1",
        lambda: random_split(range(10), [3, 4]),
    )
    check(
        ArgumentError,
        "random_split: fraction 0 must be between 0 and 1, got 1.5",
        None,
        lambda: random_split(range(10), [1.5, -0.5]),
    )
    with pytest.warns(UserWarning, match="random_split: part 1 has no samples"):
        random_split(range(1), [0.9, 0.1])


def test_base_classes_say_what_to_define():
    with pytest.raises(NotImplementedError, match="Dataset must define __getitem__"):
        Dataset()[0]
    with pytest.raises(NotImplementedError, match="IterableDataset must define __iter__"):
        iter(IterableDataset())
