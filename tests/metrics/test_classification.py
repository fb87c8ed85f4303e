"""Classification metrics against scikit-learn on random data."""

import numpy as np
import pytest
import sklearn.metrics as sk

import monograph as mg
from monograph.core.errors import ArgumentError, ArgumentTypeError, IndexRangeError, ShapeError
from monograph.metrics import Accuracy, ConfusionMatrix, F1Score, Precision, Recall

RNG = np.random.default_rng(7)
N, C = 500, 7
SCORES = RNG.standard_normal((N, C)).astype(np.float32)
TARGET = RNG.integers(0, C, N)
LABELS = SCORES.argmax(1)
PROBABILITIES = RNG.random(N).astype(np.float32)
BITS = RNG.integers(0, 2, N)


def gathered(metric, *arrays, parts=6):
    """The value after updates in batches of different sizes, as tensors."""
    cuts = [np.array_split(array, parts) for array in arrays]
    for i, batch in enumerate(zip(*cuts)):
        metric.update(*(mg.from_numpy(part.copy()) if i % 2 else part for part in batch))
    return metric.compute()


def test_accuracy_of_scores_and_of_labels():
    expected = sk.accuracy_score(TARGET, LABELS)
    assert gathered(Accuracy(), SCORES, TARGET) == expected
    assert gathered(Accuracy(num_classes=C), LABELS, TARGET) == expected


@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k_accuracy(k):
    expected = sk.top_k_accuracy_score(TARGET, SCORES, k=k, labels=range(C))
    assert gathered(Accuracy(top_k=k), SCORES, TARGET) == pytest.approx(expected, abs=1e-15)


def test_every_target_is_among_all_classes():
    assert gathered(Accuracy(top_k=C), SCORES, TARGET) == 1.0


def test_of_equal_scores_the_lower_class_comes_first():
    metric = Accuracy(top_k=2)
    metric.update(np.zeros((3, 3)), np.array([0, 1, 2]))
    assert metric.compute() == 2 / 3


def test_scores_with_nan_are_wrong():
    metric = Accuracy(top_k=2)
    metric.update(np.array([[np.nan, 1.0], [np.nan, np.nan]]), np.array([1, 0]))
    assert metric.compute() == 0.0


def test_binary_accuracy_and_threshold():
    for threshold in (0.5, 0.2):
        expected = sk.accuracy_score(BITS, PROBABILITIES > threshold)
        metric = Accuracy(task="binary", threshold=threshold)
        assert gathered(metric, PROBABILITIES, BITS) == expected


def test_ignored_targets_do_not_count():
    target = TARGET.copy()
    target[::3] = -100
    kept = target != -100
    expected = sk.accuracy_score(target[kept], LABELS[kept])
    assert gathered(Accuracy(ignore_index=-100), SCORES, target) == expected
    matrix = ConfusionMatrix(num_classes=C, ignore_index=-100)
    assert (
        gathered(matrix, SCORES, target) == sk.confusion_matrix(target[kept], LABELS[kept])
    ).all()


def test_scores_of_pixels_have_the_classes_on_axis_one():
    scores = RNG.standard_normal((4, C, 5, 6))
    target = RNG.integers(0, C, (4, 5, 6))
    expected = (scores.argmax(1) == target).mean()
    metric = Accuracy()
    metric.update(scores, target)
    assert metric.compute() == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("average", ["macro", "micro", "weighted", "none"])
@pytest.mark.parametrize(
    "metric, peer",
    [
        (Precision, sk.precision_score),
        (Recall, sk.recall_score),
        (F1Score, sk.f1_score),
    ],
)
def test_precision_recall_f1(metric, peer, average):
    # classes C and C + 1 never occur
    arguments = dict(labels=range(C + 2), average=None if average == "none" else average)
    for zero in (0.0, 1.0):
        expected = peer(TARGET, LABELS, zero_division=zero, **arguments)
        ours = metric(num_classes=C + 2, average=average, zero_division=zero)
        np.testing.assert_allclose(gathered(ours, LABELS, TARGET), expected, rtol=1e-14)


@pytest.mark.parametrize(
    "metric, peer",
    [(Precision, sk.precision_score), (Recall, sk.recall_score), (F1Score, sk.f1_score)],
)
def test_binary_precision_recall_f1(metric, peer):
    expected = peer(BITS, PROBABILITIES > 0.4)
    value = gathered(metric(task="binary", threshold=0.4), PROBABILITIES, BITS)
    assert value == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("normalize", [None, "true", "pred", "all"])
def test_confusion_matrix(normalize):
    expected = sk.confusion_matrix(TARGET, LABELS, normalize=normalize)
    metric = ConfusionMatrix(num_classes=C, normalize=normalize)
    np.testing.assert_allclose(gathered(metric, SCORES, TARGET), expected, rtol=1e-14)


def test_binary_confusion_matrix():
    expected = sk.confusion_matrix(BITS, PROBABILITIES > 0.5)
    assert (gathered(ConfusionMatrix(task="binary"), PROBABILITIES, BITS) == expected).all()


def test_metrics_without_samples_are_nan():
    assert np.isnan(Accuracy().compute())
    assert np.isnan(F1Score(num_classes=3).compute())
    assert np.isnan(F1Score(num_classes=3, average=None).compute()).tolist() == [True] * 3


def check(error_type, message, hint, call):
    with pytest.raises(error_type) as error:
        call()
    assert (str(error.value), error.value.hint) == (message, hint)


def test_target_out_of_range_names_the_value():
    check(
        IndexRangeError,
        "Accuracy: target holds -100, but the classes are 0 .. 6",
        "ignore_index=-100 leaves such targets out",
        lambda: Accuracy().update(SCORES[:2], np.array([1, -100])),
    )


def test_preds_that_do_not_fit_the_target_are_an_error():
    check(
        ShapeError,
        "Accuracy: preds (500, 7) does not fit target (499,): scores have one axis more than "
        "target, of the classes, in place 1",
        None,
        lambda: Accuracy().update(SCORES, TARGET[:-1]),
    )
    check(
        ShapeError,
        "Accuracy: shapes differ: preds is (500,), target is (500, 1)",
        None,
        lambda: Accuracy().update(LABELS, TARGET[:, None]),
    )
    check(
        ShapeError,
        "Recall: preds (500, 7) scores 7 classes, but num_classes is 10",
        None,
        lambda: Recall(num_classes=10).update(SCORES, TARGET),
    )


def test_scores_in_place_of_labels_are_an_error():
    check(
        ArgumentTypeError,
        "Accuracy: preds of the shape of target must hold class numbers, got dtype float32",
        'task="binary" takes one score per target',
        lambda: Accuracy().update(PROBABILITIES, BITS),
    )


def test_arguments_are_checked():
    check(
        ArgumentError,
        'Precision: task="multiclass" needs num_classes',
        None,
        lambda: Precision(),
    )
    check(
        ArgumentError,
        'Accuracy: task must be "multiclass" or "binary", got \'multilabel\'',
        None,
        lambda: Accuracy(task="multilabel"),
    )
