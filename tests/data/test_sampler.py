"""Samplers: orders that repeat with the seed, sizes, and frequencies of weighted draws."""

import numpy as np
import pytest
import torch.utils.data as peer

import monograph as mg
from monograph.core.errors import ArgumentError, ArgumentTypeError, ShapeError
from monograph.data import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from monograph.data.randomness import Stream, draw_seed


def check(error_type, message, call):
    with pytest.raises(error_type) as error:
        call()
    assert str(error.value) == message


def test_order_of_a_seed_is_fixed_for_all_time():
    assert Stream(2026).permutation(10).tolist() == [2, 6, 9, 1, 7, 0, 4, 8, 5, 3]
    assert Stream(1).integers(100, 5).tolist() == [87, 55, 38, 66, 44]


def test_random_sampler_gives_a_new_permutation_for_each_iteration():
    mg.manual_seed(0)
    sampler = RandomSampler(range(100))
    first, second = list(sampler), list(sampler)
    assert sorted(first) == sorted(second) == list(range(100))
    assert first != second
    mg.manual_seed(0)
    assert list(sampler) == first


def test_generator_of_ones_own_leaves_the_global_state_alone():
    mg.manual_seed(0)
    plain = list(RandomSampler(range(20)))
    mg.manual_seed(0)
    own = RandomSampler(range(20), generator=mg.Generator().manual_seed(5))
    first = list(own)
    assert list(RandomSampler(range(20))) == plain
    again = RandomSampler(range(20), generator=mg.Generator().manual_seed(5))
    assert list(again) == first != plain
    numpy_seeded = [
        list(RandomSampler(range(20), generator=np.random.default_rng(5))) for _ in range(2)
    ]
    assert numpy_seeded[0] == numpy_seeded[1]


def test_generator_of_another_kind_is_an_error():
    check(
        ArgumentTypeError,
        "generator must be None, a monograph.Generator or a numpy.random.Generator, got int",
        lambda: draw_seed(5),
    )


@pytest.mark.parametrize("n, num_samples", [(10, 4), (10, 10), (10, 25)])
def test_random_sampler_without_replacement_deals_out_whole_orders(n, num_samples):
    drawn = list(RandomSampler(range(n), num_samples=num_samples))
    assert len(drawn) == num_samples == len(RandomSampler(range(n), num_samples=num_samples))
    for start in range(0, num_samples, n):
        part = drawn[start : start + n]
        assert len(set(part)) == len(part)


def test_random_sampler_with_replacement_draws_evenly():
    mg.manual_seed(1)
    drawn = np.bincount(list(RandomSampler(range(5), replacement=True, num_samples=50_000)))
    # five standard deviations of a binomial count
    assert (abs(drawn - 10_000) < 5 * np.sqrt(50_000 * 0.2 * 0.8)).all()


def test_subset_random_sampler_gives_the_subset():
    sampler = SubsetRandomSampler([7, 3, 99, 5])
    assert sorted(sampler) == [3, 5, 7, 99] and len(sampler) == 4


def test_weighted_draws_with_replacement_follow_the_weights():
    mg.manual_seed(2)
    weights = np.array([0.0, 1.0, 3.0, 0.0, 6.0, 0.0])
    drawn = np.bincount(list(WeightedRandomSampler(weights, 40_000)), minlength=6) / 40_000
    np.testing.assert_allclose(drawn, weights / 10, atol=5 * 0.5 / 200)
    assert (drawn[weights == 0] == 0).all()


def test_weighted_draws_without_replacement_have_the_probabilities_of_successive_draws():
    mg.manual_seed(3)
    sampler = WeightedRandomSampler([1.0, 2.0, 0.0, 3.0], 2, replacement=False)
    counts = np.zeros((4, 4))
    for _ in range(6000):
        first, second = sampler
        counts[first, second] += 1
    p = np.array([1, 2, 0, 3]) / 6
    expected = p[:, None] * p / (1 - p[:, None])
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(counts / 6000, expected, atol=5 * 0.5 / np.sqrt(6000))


def test_weights_are_checked():
    name = "WeightedRandomSampler"
    check(
        ArgumentError,
        f"{name}: cannot draw 3 different samples: only 2 weights are above zero",
        lambda: WeightedRandomSampler([1, 0, 1], 3, replacement=False),
    )
    check(
        ArgumentError,
        f"{name}: weights must be finite and not negative",
        lambda: WeightedRandomSampler([1, -1], 3),
    )
    check(
        ArgumentError,
        f"{name}: no weight is above zero",
        lambda: WeightedRandomSampler([0, 0], 3),
    )
    check(
        ShapeError,
        f"{name}: weights must be 1-dimensional, got (2, 2)",
        lambda: WeightedRandomSampler(np.ones((2, 2)), 3),
    )


@pytest.mark.parametrize("n", [0, 1, 6, 7, 8, 9])
@pytest.mark.parametrize("drop_last", [False, True])
def test_batch_sampler_equals_that_of_torch(n, drop_last):
    ours = BatchSampler(SequentialSampler(range(n)), 3, drop_last)
    theirs = peer.BatchSampler(peer.SequentialSampler(range(n)), 3, drop_last)
    assert list(ours) == list(theirs) and len(ours) == len(theirs)


def test_arguments_are_checked():
    check(
        ArgumentError,
        "RandomSampler: num_samples must be at least 1, got 0",
        lambda: RandomSampler(range(3), num_samples=0),
    )
    check(
        ArgumentError,
        "RandomSampler: the data source has no samples",
        lambda: RandomSampler([]),
    )
    check(
        ArgumentTypeError,
        "BatchSampler: batch_size must be an integer, got 2.5 (float)",
        lambda: BatchSampler(range(3), 2.5, False),
    )
    check(
        ArgumentTypeError,
        "BatchSampler: drop_last must be True or False, got 1",
        lambda: BatchSampler(range(3), 2, 1),
    )
    with pytest.raises(NotImplementedError, match="Sampler must define __iter__"):
        iter(Sampler())
