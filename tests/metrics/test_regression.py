"""Means, errors and perplexity, and what all metrics share: merge, reset, states."""

import math
import pickle

import numpy as np
import pytest
import sklearn.metrics as sk

import monograph as mg
from monograph.core.errors import ArgumentError, IndexRangeError, ShapeError
from monograph.metrics import (
    Accuracy,
    F1Score,
    Mean,
    MeanAbsoluteError,
    MeanSquaredError,
    Perplexity,
)

RNG = np.random.default_rng(3)
PREDS = RNG.standard_normal((300, 4)).astype(np.float32)
TARGET = RNG.standard_normal((300, 4)).astype(np.float32)


def test_errors_match_scikit_learn():
    p, t = PREDS.astype(np.float64), TARGET.astype(np.float64)
    cases = [
        (MeanSquaredError(), sk.mean_squared_error(t.ravel(), p.ravel())),
        (MeanSquaredError(squared=False), sk.root_mean_squared_error(t.ravel(), p.ravel())),
        (MeanAbsoluteError(), sk.mean_absolute_error(t.ravel(), p.ravel())),
    ]
    for metric, expected in cases:
        metric.update(mg.from_numpy(PREDS), mg.from_numpy(TARGET))
        assert metric.compute() == pytest.approx(expected, rel=1e-14)


def test_error_of_shapes_that_would_broadcast_is_an_error():
    with pytest.raises(ShapeError) as error:
        MeanSquaredError().update(np.zeros((8, 1)), np.zeros(8))
    assert str(error.value) == "MeanSquaredError: shapes differ: preds is (8, 1), target is (8,)"


def test_weighted_mean():
    metric = Mean()
    values, weights = RNG.random((5, 3)), RNG.random(3)
    metric.update(values, weights)
    metric.update(2.5, weight=4)
    expected = ((values * weights).sum() + 10.0) / (5 * weights.sum() + 4)
    assert metric.compute() == pytest.approx(expected, rel=1e-15)


def test_mean_checks_its_weights():
    with pytest.raises(ArgumentError, match="Mean: weights must not be negative"):
        Mean().update([1.0, 2.0], [1.0, -1.0])
    with pytest.raises(ShapeError) as error:
        Mean().update([1.0, 2.0], [1.0, 1.0, 1.0])
    assert str(error.value) == (
        "Mean: weight of shape (3,) does not broadcast to value of shape (2,)"
    )


def test_perplexity_is_exp_of_the_log_loss():
    scores = RNG.standard_normal((40, 11))
    target = RNG.integers(0, 11, 40)
    probabilities = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    expected = math.exp(sk.log_loss(target, probabilities, labels=range(11)))
    metric = Perplexity()
    metric.update(mg.from_numpy(scores.reshape(8, 5, 11)), mg.from_numpy(target.reshape(8, 5)))
    assert metric.compute() == pytest.approx(expected, rel=1e-12)


def test_perplexity_leaves_ignored_targets_out_and_names_bad_ones():
    scores = RNG.standard_normal((6, 3))
    kept = Perplexity()
    kept.update(scores[:4], np.array([0, 1, 2, 0]))
    ignored = Perplexity(ignore_index=-1)
    ignored.update(scores, np.array([0, 1, 2, 0, -1, -1]))
    assert ignored.compute() == kept.compute()
    with pytest.raises(IndexRangeError) as error:
        Perplexity().update(scores, np.array([0, 1, 2, 0, -1, 3]))
    assert str(error.value) == "Perplexity: target holds -1, but preds scores the tokens 0 .. 2"
    assert error.value.hint == "ignore_index=-1 leaves such targets out"


@pytest.mark.parametrize(
    "make",
    [Mean, MeanSquaredError, MeanAbsoluteError, lambda: Perplexity(), Accuracy]
    + [lambda: F1Score(num_classes=4)],
    ids=["mean", "mse", "mae", "perplexity", "accuracy", "f1"],
)
def test_merging_parts_is_exactly_the_whole(make):
    metric = make()
    if isinstance(metric, Mean):
        arguments = (PREDS, np.abs(TARGET))
    elif isinstance(metric, (Perplexity, Accuracy, F1Score)):
        arguments = (PREDS, RNG.integers(0, 4, 300))
    else:
        arguments = (PREDS, TARGET)
    metric.update(*arguments)
    for cuts in ([1, 2, 150], list(range(7, 300, 7))):
        parts = []
        for part in zip(*(np.split(array, cuts) for array in arguments)):
            parts.append(make())
            parts[-1].update(*part)
        workers = [pickle.loads(pickle.dumps(part)) for part in reversed(parts)]
        assert make().merge(*workers).compute() == metric.compute()


def test_call_gives_the_value_of_the_batch_and_gathers():
    metric = Accuracy()
    assert metric([0, 1], [0, 0]) == 0.5
    assert metric([1, 1], [1, 1]) == 1.0
    assert metric.compute() == 0.75
    metric.reset()
    assert math.isnan(metric.compute())


def test_merging_different_settings_is_an_error():
    with pytest.raises(ArgumentError) as error:
        F1Score(num_classes=3).merge(F1Score(num_classes=4))
    assert "num_classes=3" in str(error.value) and "num_classes=4" in str(error.value)
    assert str(error.value).endswith("measure different things")


def test_states_are_copies_and_load_back():
    metric = F1Score(num_classes=4)
    metric.update([0, 1, 2], [0, 1, 1])
    state = metric.state_dict()
    value = metric.compute()
    metric.update([3, 3], [1, 2])
    other = F1Score(num_classes=4)
    other.load_state_dict(state)
    assert other.compute() == value != metric.compute()
    with pytest.raises(ArgumentError, match="expected the states"):
        Accuracy().load_state_dict(state)
