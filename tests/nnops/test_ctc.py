import numpy as np
import pytest
import torch
import torch.nn.functional as F

import monograph as mg
from monograph.core.errors import ArgumentError, ShapeError
from monograph.ops.activations import log_softmax
from monograph.ops.ctc import ctc_loss

from .messages import raises_message
from .oracle import check, rng

STEPS, COUNT, CLASSES = 9, 4, 5
INPUTS, TARGETS = [9, 7, 9, 5], [3, 2, 0, 4]


def labels(blank):
    t = rng(2).integers(0, CLASSES - 1, (COUNT, 4))
    t = t + (t >= blank)
    t[0, 1] = t[0, 0]  # a repeat needs a blank between
    return t


@pytest.mark.parametrize("form", ["padded", "joined", "tensors"])
@pytest.mark.parametrize("blank", [0, 3])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_ctc_loss_agrees_with_torch(reduction, blank, form):
    # PyTorch's gradient is that of the logits before log_softmax, so log_softmax is part of f.
    x, t = rng().standard_normal((STEPS, COUNT, CLASSES)), labels(blank)
    if form == "joined":
        t = np.concatenate([row[:n] for row, n in zip(t, TARGETS)])
    ours = [mg.tensor(v) if form == "tensors" else v for v in (INPUTS, TARGETS)]
    theirs = [torch.tensor(v) for v in (INPUTS, TARGETS)]
    check(
        lambda a: ctc_loss(log_softmax(a, -1), mg.tensor(t), *ours, blank, reduction),
        lambda a: F.ctc_loss(a.log_softmax(-1), torch.tensor(t), *theirs, blank, reduction),
        x,
    )


def test_a_captured_function_takes_joined_targets_of_any_lengths():
    x, t = mg.tensor(rng().standard_normal((5, 3, CLASSES))), mg.tensor([1, 2, 2, 3, 4, 1, 2, 3, 4])
    inputs = mg.tensor([5, 4, 5])

    def loss(x, lengths):
        return ctc_loss(log_softmax(x, -1), t, inputs, lengths, reduction="none")

    captured = mg.jit(loss)
    for lengths in ([2, 1, 6], [3, 3, 3], [4, 5, 0]):  # six labels do not fit into five steps
        lengths = mg.tensor(lengths)
        assert np.allclose(captured(x, lengths).numpy(), loss(x, lengths).numpy())
    assert captured(x, mg.tensor([2, 1, 6]))[2].item() == np.inf and not captured.recompiles


def test_impossible_alignments_are_infinite_or_zero():
    x = rng().standard_normal((2, 1, CLASSES))
    t = np.array([[1, 1, 2]])
    logs = log_softmax(mg.tensor(x, requires_grad=True), -1)
    assert ctc_loss(logs, mg.tensor(t), [2], [3]).item() == np.inf
    check(
        lambda a: ctc_loss(log_softmax(a, -1), mg.tensor(t), [2], [3], zero_infinity=True),
        lambda a: F.ctc_loss(a.log_softmax(-1), torch.tensor(t), [2], [3], zero_infinity=True),
        x,
    )


def test_one_sequence_without_a_batch():
    x, t = rng().standard_normal((STEPS, CLASSES)), np.array([1, 2, 2])
    check(
        lambda a: ctc_loss(log_softmax(a, -1), mg.tensor(t), mg.tensor(9), mg.tensor(3)),
        lambda a: F.ctc_loss(a.log_softmax(-1), torch.tensor(t), torch.tensor(9), torch.tensor(3)),
        x,
    )


def test_ctc_loss_explains_bad_arguments():
    x = mg.zeros(3, 2, 4)
    with raises_message(ArgumentError, "ctc_loss: blank must be in [0, 4), got 4"):
        ctc_loss(x, mg.tensor([[1], [1]]), [3, 3], [1, 1], blank=4)
    with raises_message(ShapeError, "ctc_loss: input_lengths must have 2 entries, got 1"):
        ctc_loss(x, mg.tensor([[1], [1]]), [3], [1, 1])
    with raises_message(
        ShapeError,
        "ctc_loss: targets (3, 1) must have 2 rows, one for each sequence of log_probs",
    ):
        ctc_loss(x, mg.tensor([[1], [1], [1]]), [3, 3], [1, 1])
