"""The digits of scikit-learn."""

import sys

import numpy as np
import pytest

import monograph as mg
from monograph.core.errors import DataError
from monograph.data import DataLoader, Digits


def test_parts_cover_all_samples_with_all_classes():
    pytest.importorskip("sklearn")
    train, test = Digits(), Digits(train=False)
    assert (len(train), len(test)) == (1437, 360)
    for part in (train, test):
        x, y = next(iter(DataLoader(part, batch_size=len(part))))
        assert tuple(x.shape) == (len(part), 1, 8, 8) and x.dtype == mg.float32
        assert y.dtype == mg.int64 and np.bincount(y.numpy()).min() >= 0.07 * len(part)
        assert (x.numpy().min(), x.numpy().max()) == (0.0, 1.0)
    image, label = Digits(flat=True)[0]
    assert tuple(image.shape) == (64,) and int(label) == Digits()[0][1].item()


def test_absence_of_scikit_learn_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError) as error:
        Digits()
    assert str(error.value) == (
        "Digits: the samples come with scikit-learn, which is not installed"
    )
    assert error.value.hint == "pip install 'monograph[demo]'"
