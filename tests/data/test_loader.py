"""DataLoader in this process: batches, orders, lengths, arguments, errors of the dataset."""

import numpy as np
import pytest
import torch.utils.data as peer

import monograph as mg
from monograph.core.errors import ArgumentError, ArgumentTypeError, ShapeError
from monograph.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    SequentialSampler,
    Subset,
    TensorDataset,
    get_worker_info,
)


class Stream(IterableDataset):
    def __init__(self, values, promised=None):
        self.values = values
        self.promised = promised

    def __iter__(self):
        return iter(self.values)


class SizedStream(Stream):
    def __len__(self):
        return self.promised


def table(n=10):
    x = np.arange(n * 3, dtype=np.float32).reshape(n, 3)
    return TensorDataset(mg.from_numpy(x), mg.from_numpy(np.arange(n)))


def labels(loader):
    return [y.tolist() for _, y in loader]


@pytest.mark.parametrize("n", [1, 4, 5, 9])
@pytest.mark.parametrize("drop_last", [False, True])
def test_batches_and_length_equal_those_of_torch(n, drop_last):
    ours = DataLoader(list(range(n)), batch_size=4, drop_last=drop_last)
    theirs = peer.DataLoader(list(range(n)), batch_size=4, drop_last=drop_last)
    assert [b.tolist() for b in ours] == [b.tolist() for b in theirs]
    assert len(ours) == len(theirs) == len(iter(ours))


def test_batches_of_a_tensor_dataset_are_tensors_of_their_own():
    data = table()
    x, y = next(iter(DataLoader(data, batch_size=4)))
    assert isinstance(x, mg.Tensor) and tuple(x.shape) == (4, 3) and x.dtype == mg.float32
    assert y.tolist() == [0, 1, 2, 3] and y.dtype == mg.int64
    x.numpy()[:] = -1
    assert data.tensors[0].tolist()[0] == [0, 1, 2]


def test_fast_path_takes_one_indexing_operation_per_batch():
    class Counting(TensorDataset):
        singles = 0

        def __getitem__(self, index):
            self.singles += 1
            return super().__getitem__(index)

    data = Counting(*table().tensors)
    assert labels(DataLoader(Subset(data, [3, 1, 2]), batch_size=2)) == [[3, 1], [2]]
    assert data.singles == 0


def test_shuffle_gives_a_new_order_each_epoch_that_repeats_with_the_seed():
    loader = DataLoader(table(), batch_size=4, shuffle=True)
    mg.manual_seed(1)
    first, second = labels(loader), labels(loader)
    mg.manual_seed(1)
    assert labels(loader) == first != second
    assert sorted(sum(first, [])) == list(range(10))


def test_generator_fixes_the_order():
    def epoch(seed):
        generator = mg.Generator().manual_seed(seed)
        return labels(DataLoader(table(), 4, shuffle=True, generator=generator))

    assert epoch(4) == epoch(4) != epoch(5)


def test_sampler_and_batch_sampler_choose_samples():
    assert labels(DataLoader(table(), 2, sampler=[7, 1, 3])) == [[7, 1], [3]]
    batches = DataLoader(table(), batch_sampler=[[1, 2], [9]])
    assert labels(batches) == [[1, 2], [9]] and len(batches) == 2 and batches.batch_size is None
    sampler = BatchSampler(SequentialSampler(range(5)), 3, True)
    assert labels(DataLoader(table(), batch_sampler=sampler)) == [[0, 1, 2]]


def test_without_batch_size_samples_are_converted_one_by_one():
    loader = DataLoader([(np.arange(2), "a"), (np.arange(3), "b")], batch_size=None)
    (x, name), (y, _) = loader
    assert x.tolist() == [0, 1] and name == "a" and y.tolist() == [0, 1, 2] and len(loader) == 2
    assert [int(i) for i in DataLoader(Stream([5, 6]), batch_size=None)] == [5, 6]


def test_collate_fn_gets_the_samples():
    loader = DataLoader(["a", "bb", "ccc"], batch_size=2, collate_fn="+".join)
    assert list(loader) == ["a+bb", "ccc"]
    pairs = DataLoader(table(), 2, collate_fn=lambda batch: [y.item() for _, y in batch])
    assert next(iter(pairs)) == [0, 1]


@pytest.mark.parametrize(
    "drop_last, expected", [(False, [[0, 1], [2, 3], [4]]), (True, [[0, 1], [2, 3]])]
)
def test_stream_is_cut_into_batches(drop_last, expected):
    loader = DataLoader(Stream(range(5)), batch_size=2, drop_last=drop_last)
    assert [b.tolist() for b in loader] == expected
    assert [b.tolist() for b in loader] == expected  # a second epoch
    with pytest.raises(TypeError):
        len(loader)
    sized = DataLoader(SizedStream(range(5), promised=5), batch_size=2, drop_last=drop_last)
    assert len(sized) == len(expected) == len(list(sized))


def test_stream_longer_than_its_length_warns():
    loader = DataLoader(SizedStream(range(5), promised=2), batch_size=1)
    with pytest.warns(
        UserWarning,
        match="^DataLoader: SizedStream gives more batches than the 2 that its length promises$",
    ):
        assert len(list(loader)) == 5


def test_iterators_of_one_loader_are_independent():
    loader = DataLoader(table(4), batch_size=2)
    seen = [(a[1].tolist(), b[1].tolist()) for a in loader for b in loader]
    assert seen == [([0, 1], [0, 1]), ([0, 1], [2, 3]), ([2, 3], [0, 1]), ([2, 3], [2, 3])]


def test_classes_can_be_annotated_with_the_type_of_a_sample():
    class Numbers(Dataset[int]):
        def __len__(self):
            return 2

        def __getitem__(self, index) -> int:
            return index

    loader: DataLoader[int] = DataLoader(Numbers())
    assert [int(x) for x in loader] == [0, 1]


def test_no_worker_info_in_this_process():
    assert get_worker_info() is None


class Broken(Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, index):
        if index == 3:
            raise KeyError("no such file")
        return np.zeros(2 + (index == 5))


def test_error_of_a_sample_keeps_its_type_and_names_the_sample():
    batches = iter(DataLoader(Broken(), batch_size=2))
    next(batches)
    with pytest.raises(KeyError) as error:
        next(batches)
    assert error.value.args == ("no such file",)
    assert error.value.__notes__ == ["  in DataLoader: sample 3 of Broken"]
    with pytest.raises(ShapeError) as error:  # the next batch can still be had
        next(batches)
    assert error.value.__notes__[-1] == "  in DataLoader: collating samples 4, 5 of Broken"


def test_error_of_a_stream_names_the_batch():
    def values():
        yield from (1, 2, 3)
        raise OSError("connection lost")

    with pytest.raises(OSError, match="connection lost") as error:
        list(DataLoader(Stream(values()), batch_size=2))
    assert error.value.__notes__ == ["  in DataLoader: batch 1 of Stream"]


@pytest.mark.parametrize(
    "error_type, message, arguments",
    [
        (ArgumentError, "sampler and shuffle exclude each other", dict(sampler=[0], shuffle=True)),
        (
            ArgumentError,
            "batch_sampler excludes batch_size, shuffle, sampler and drop_last",
            dict(batch_sampler=[[0]], batch_size=2),
        ),
        (ArgumentError, "drop_last needs a batch_size", dict(batch_size=None, drop_last=True)),
        (ArgumentError, "batch_size must be at least 1, got 0", dict(batch_size=0)),
        (
            ArgumentTypeError,
            "batch_size must be an integer, got '4' (str)",
            dict(batch_size="4"),
        ),
        (ArgumentError, "num_workers must be at least 0, got -2", dict(num_workers=-2)),
        (ArgumentTypeError, "num_workers must be an integer, got float", dict(num_workers=2.0)),
        (ArgumentError, "timeout must be at least 0 seconds, got -1", dict(timeout=-1)),
        (ArgumentError, "timeout needs num_workers above 0", dict(timeout=5)),
        (ArgumentError, "prefetch_factor needs num_workers above 0", dict(prefetch_factor=2)),
        (
            ArgumentError,
            "persistent_workers needs num_workers above 0",
            dict(persistent_workers=True),
        ),
        (
            ArgumentError,
            "prefetch_factor must be at least 1, got 0",
            dict(num_workers=1, prefetch_factor=0),
        ),
        (
            ArgumentError,
            "multiprocessing_context needs num_workers above 0",
            dict(multiprocessing_context="spawn"),
        ),
        (
            ArgumentError,
            "multiprocessing_context must be one of fork, spawn, forkserver, got 'thread'",
            dict(num_workers=1, multiprocessing_context="thread"),
        ),
    ],
)
def test_arguments_that_do_not_fit_are_an_error(error_type, message, arguments):
    with pytest.raises(error_type) as error:
        DataLoader(table(), **arguments)
    assert str(error.value) == f"DataLoader: {message}"


@pytest.mark.parametrize("name", ["shuffle", "sampler", "batch_sampler"])
def test_stream_has_its_own_order(name):
    with pytest.raises(ArgumentError) as error:
        DataLoader(Stream([1]), **{name: True if name == "shuffle" else [[0]]})
    assert str(error.value) == (
        f"DataLoader: an IterableDataset gives its own order; {name} cannot be used with it"
    )


def test_what_cannot_be_indexed_is_no_dataset():
    with pytest.raises(ArgumentTypeError) as error:
        DataLoader(3)
    assert str(error.value) == (
        "DataLoader: dataset must have __getitem__ or be an IterableDataset, got int"
    )
    assert list(DataLoader(range(3), batch_size=None, in_order=False)) == [0, 1, 2]
