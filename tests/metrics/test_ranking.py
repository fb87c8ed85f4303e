"""AUROC, average precision, calibration, IoU, R2, BLEU: against scikit-learn and known values."""

import random

import numpy as np
import pytest

from monograph.core.errors import ArgumentError, IndexRangeError, ShapeError
from monograph.metrics import (
    AUROC,
    BLEU,
    AveragePrecision,
    CalibrationError,
    JaccardIndex,
    R2Score,
)

reference = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")


def in_parts(make, *data):
    """The value over random batches, merged out of three metrics."""
    rng = np.random.default_rng(0)
    order = rng.permutation(len(data[0]))
    metrics = [make() for _ in range(3)]
    for i, part in enumerate(np.array_split(order, 7)):
        metrics[i % 3].update(*(d[part] for d in data))
    return metrics[0].merge(*metrics[1:]).compute()


@pytest.mark.parametrize("digits", [1, 16])
def test_binary_ranking_against_scikit_learn(digits):
    rng = np.random.default_rng(1)
    target = rng.integers(0, 2, 300)
    scores = np.round(rng.normal(target, 1.0), digits)  # one digit: many ties
    auroc = in_parts(AUROC, scores, target)
    assert auroc == pytest.approx(reference.roc_auc_score(target, scores), abs=1e-12)
    precision = in_parts(AveragePrecision, scores, target)
    assert precision == pytest.approx(reference.average_precision_score(target, scores), abs=1e-12)


@pytest.mark.parametrize("average", ["macro", "weighted", "none"])
def test_ranking_of_several_classes(average):
    rng = np.random.default_rng(2)
    target = rng.integers(0, 4, 200)
    scores = rng.random((200, 4)) + 0.5 * np.eye(4)[target]
    scores /= scores.sum(axis=1, keepdims=True)
    one = np.eye(4, dtype=int)[target]
    wanted = None if average == "none" else average
    found = in_parts(lambda: AUROC("multiclass", 4, average), scores, target)
    expected = reference.roc_auc_score(one, scores, average=wanted)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    labels = rng.integers(0, 2, (200, 4))
    found = in_parts(lambda: AveragePrecision("multilabel", 4, average), scores, labels)
    expected = reference.average_precision_score(labels, scores, average=wanted)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_ranking_without_both_classes_is_nan_and_bad_input_is_named():
    auroc = AUROC()
    assert np.isnan(auroc.compute())
    auroc.update([0.5, 0.6], [1, 1])
    assert np.isnan(auroc.compute())
    with pytest.raises(ShapeError, match=r"must have one shape, got \(2,\) and \(3,\)"):
        auroc.update([0.1, 0.2], [0, 1, 1])
    with pytest.raises(IndexRangeError, match=r"target must hold 0 .. 1, got 2"):
        auroc.update([0.1, 0.2], [0, 2])
    with pytest.raises(ArgumentError, match="needs num_classes"):
        AUROC("multiclass")
    ignoring = AUROC(ignore_index=-1)
    ignoring.update([0.1, 0.9, 0.5], [0, 1, -1])
    assert ignoring.compute() == 1.0


def test_joined_arrays_change_nothing():
    auroc, whole = AUROC(), AUROC()
    rng = np.random.default_rng(3)
    scores, target = rng.random(1500), rng.integers(0, 2, 1500)
    for s, t in zip(scores, target):
        auroc.update([s], [t])
    whole.update(scores, target)
    assert auroc.compute() == whole.compute() and len(auroc.scores) < 1000


@pytest.mark.parametrize("average", ["macro", "weighted", "micro", "none"])
def test_iou_against_scikit_learn(average):
    rng = np.random.default_rng(4)
    target, preds = rng.integers(0, 3, 500), rng.integers(0, 3, 500)
    found = in_parts(lambda: JaccardIndex(num_classes=3, average=average), preds, target)
    expected = reference.jaccard_score(
        target, preds, average=None if average == "none" else average
    )
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("offset", [0.0, 1e8])
def test_r2_against_scikit_learn(offset):
    rng = np.random.default_rng(5)
    target = rng.normal(size=200) + offset
    preds = target + rng.normal(size=200) * 0.3
    found = in_parts(R2Score, preds, target)
    assert found == pytest.approx(reference.r2_score(target, preds), abs=1e-7)
    constant = R2Score()
    constant.update([1.0, 1.0], [1.0, 1.0])
    assert constant.compute() == 1.0
    constant.update([0.0], [1.0])
    assert constant.compute() == 0.0 and np.isnan(R2Score().compute())


def plain_calibration(probabilities, target, bins, norm):
    confidence, right = probabilities.max(1), probabilities.argmax(1) == target
    edges = np.linspace(0, 1, bins + 1)
    gaps, weights = [], []
    for low, high in zip(edges, edges[1:]):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            gaps.append(abs(right[inside].mean() - confidence[inside].mean()))
            weights.append(inside.mean())
    gaps, weights = np.array(gaps), np.array(weights)
    if norm == "max":
        return gaps.max()
    return (gaps * weights).sum() if norm == "l1" else np.sqrt((gaps**2 * weights).sum())


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
def test_calibration_error(norm):
    rng = np.random.default_rng(6)
    probabilities = rng.dirichlet([1.0, 1.0, 1.0], 400)
    target = rng.integers(0, 3, 400)
    found = in_parts(lambda: CalibrationError(10, norm), probabilities, target)
    assert found == pytest.approx(plain_calibration(probabilities, target, 10, norm), abs=1e-9)
    with pytest.raises(ArgumentError, match="must hold probabilities"):
        CalibrationError().update([[2.0, -1.0]], [0])


TEXTS = [
    ("The dog bit the man.", ["The dog bit the man.", "The dog had bit the man."]),
    ("It wasn't surprising, was it?", ["It was not unexpected.", "No one was surprised."]),
    ('The man had bitten the dog 3.5 times - "yes"', ["The man bit him first & left."]),
    ("a b", ["a b c d e"]),
    ("1,000 of 2-3 <b>bold</b> words (here)", ["1,000 of the 2-3 <b>bold</b> words"]),
]


@pytest.mark.parametrize(
    "count, expected",  # of sacrebleu 2.6 with its defaults
    [(1, 100.0), (2, 48.04422172878307), (3, 25.616751528827976), (5, 46.663756139379295)],
)
def test_bleu_of_known_corpora(count, expected):
    bleu = BLEU()
    bleu.update(*zip(*TEXTS[:count]))
    assert bleu.compute() == pytest.approx(expected, abs=1e-9)


def test_bleu_against_sacrebleu():
    sacrebleu = pytest.importorskip("sacrebleu", reason="sacrebleu is not installed")
    rng = random.Random(0)
    for _ in range(50):
        chosen = rng.choices(TEXTS, k=3)
        words = [[t for t in text.split() if rng.random() < 0.9] for text, _ in chosen]
        preds = [" ".join(w) for w in words]
        references = [r for _, r in chosen]
        for options in ({}, {"smooth_method": "none"}, {"lowercase": True}):
            most = max(map(len, references))
            streams = [[r[i] if i < len(r) else None for r in references] for i in range(most)]
            expected = sacrebleu.metrics.BLEU(**options).corpus_score(preds, streams).score
            bleu = BLEU(
                smooth=options.get("smooth_method", "exp"),
                lowercase=options.get("lowercase", False),
            )
            for text, own in zip(preds, references):
                bleu.update([text], [own])
            assert bleu.compute() == pytest.approx(expected, abs=1e-9)
