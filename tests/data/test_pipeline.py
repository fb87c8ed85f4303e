"""Pipelines, and loaders that resume: the same batches for any number of workers."""

import random

import numpy as np
import pytest

import monograph as mg
from monograph.core.errors import ArgumentError, DataError
from monograph.data import DataLoader, Dataset, IterableDataset, Pipeline


class Noisy(Dataset):
    """Samples that draw from all three global generators."""

    def __init__(self, size=23):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        draws = random.random(), np.random.random(), np.random.normal(), float(mg.rand(()))
        return np.array([index, *draws])


def batches(loader):
    return [np.asarray(b).tolist() for b in loader]


def stages(size=23):
    return (
        Pipeline(Noisy(size))
        .map(lambda x: x * 2)
        .shuffle(7)
        .filter(lambda x: x[0] % 3 != 0)
        .map(lambda x: x + np.random.random())
    )


def interleaved():
    a, b = Pipeline(range(30)), Pipeline(range(100, 108))
    return a.shuffle(5).interleave(b, weights=[2, 1]).zip(Pipeline(range(50)).repeat())


MAKERS = {
    "map-style": lambda w: DataLoader(Noisy(), 4, shuffle=True, num_workers=w),
    "pipeline": lambda w: DataLoader(stages(), 4, num_workers=w),
    "drop_last": lambda w: DataLoader(stages(), 4, num_workers=w, drop_last=True),
    "interleaved": lambda w: DataLoader(interleaved(), 3, num_workers=w),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_what_is_drawn_is_the_same_for_any_number_of_workers(kind):
    def epochs(workers):
        mg.manual_seed(4)
        loader = MAKERS[kind](workers)
        return [batches(loader), batches(loader), mg.rand(()).item()]

    expected = epochs(0)
    assert expected[0] != expected[1]
    assert epochs(1) == expected == epochs(3)


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_loader_goes_on_after_any_number_of_batches(kind, workers):
    mg.manual_seed(4)
    expected = batches(MAKERS[kind](0))
    for passed in (0, 1, 2, len(expected) - 1, len(expected)):
        mg.manual_seed(4)
        loader = MAKERS[kind](workers)
        loader.skip_batches(passed)
        assert batches(loader) == expected[passed:]


def test_batches_that_are_passed_over_are_not_fetched():
    seen = []

    class Watched(Noisy):
        def __getitem__(self, index):
            seen.append(index)
            return index

    for loader in (DataLoader(Watched(), 4), DataLoader(Pipeline(Watched()), 4)):
        seen.clear()
        loader.skip_batches(5)
        assert batches(loader) == [[20, 21, 22]]
        assert seen == [20, 21, 22]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_plain_stream_reads_what_is_passed_over(workers):
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(range(10))

    expected = batches(DataLoader(Stream(), 3, num_workers=workers))
    loader = DataLoader(Stream(), 3, num_workers=workers)
    loader.skip_batches(3)
    assert batches(loader) == expected[3:]


@pytest.mark.parametrize(
    "make", [lambda: mg.Generator().manual_seed(1), lambda: np.random.default_rng(1)]
)
def test_the_state_of_a_loader_holds_its_own_generators(make):
    loader = DataLoader(range(20), 3, shuffle=True, generator=make())
    list(loader)
    state = loader.state_dict()
    expected = batches(loader)
    again = DataLoader(range(20), 3, shuffle=True, generator=make())
    again.load_state_dict(state)
    assert batches(again) == expected
    with pytest.raises(DataError, match="the state holds 1 generators, this loader has 0"):
        DataLoader(range(20)).load_state_dict(state)


def test_stages_do_what_they_say():
    numbers = Pipeline(range(10))
    assert list(numbers.skip(2).take(3)) == [2, 3, 4] and len(numbers.skip(2).take(3)) == 3
    assert sorted(numbers.shuffle(4)) == list(range(10))
    assert list(numbers.take(2).chain("ab")) == [0, 1, "a", "b"]
    assert list(numbers.zip("abc")) == [(0, "a"), (1, "b"), (2, "c")]
    assert list(numbers.take(3).interleave("a", "bc")) == [0, "a", "b", 1, "c", 2]
    assert len(numbers.repeat(3)) == 30
    with pytest.raises(TypeError, match="repeats for ever"):
        len(numbers.repeat())
    with pytest.raises(ArgumentError, match="weights must be 2 numbers above zero"):
        numbers.interleave(numbers, weights=[1, 0])


def test_a_shuffle_draws_each_sample_from_the_next_ones_only():
    mg.manual_seed(0)
    order = list(Pipeline(range(1000)).shuffle(10))
    assert sorted(order) == list(range(1000)) and order != list(range(1000))
    assert all(value <= place + 9 for place, value in enumerate(order))


def test_a_mixture_follows_its_weights():
    mg.manual_seed(0)
    mixed = list(
        Pipeline([0]).repeat().interleave(Pipeline([1]).repeat(), weights=[3, 1]).take(4000)
    )
    assert 0.22 < np.mean(mixed) < 0.28


def test_a_cache_computes_each_sample_once():
    seen = []
    pipeline = Pipeline(range(4)).map(lambda x: seen.append(x) or x).cache().shuffle(4)
    for _ in range(3):
        assert sorted(pipeline) == [0, 1, 2, 3]
    assert sorted(seen) == [0, 1, 2, 3]


def test_shared_memory_of_batches_is_used_again():
    """Descriptors of blocks: as many as batches under way, however many epochs."""
    loader = DataLoader(
        [np.ones((64, 64)) * i for i in range(64)], 8, num_workers=1, persistent_workers=True
    )

    def blocks():
        with open("/proc/self/maps") as file:
            return sum("memfd:monograph-batch" in line for line in file)

    counts = []
    for _ in range(4):
        for batch in loader:
            assert batch.numpy()[0, 0, 0] % 8 == 0
        counts.append(blocks())
    assert counts[0] == counts[-1] <= 5
