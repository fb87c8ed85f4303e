"""Hashes of code and data in checkpoints."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

import monograph as mg
from monograph import train
from monograph.data import DataLoader, Dataset, NumpyDataset, Subset, TensorDataset
from monograph.train.fingerprint import code_hashes, data_hash

from . import models
from .models import Regression, dataset, loader, quiet


def test_the_code_is_that_of_the_users_files():
    found = code_hashes(Regression())
    expected = hashlib.sha256(Path(models.__file__).read_bytes()).hexdigest()
    assert found == {"models.py": expected}


def test_data_is_told_apart(tmp_path):
    x = mg.arange(600_000).reshape(100_000, 6).float()

    def of(x, **options):
        return data_hash(DataLoader(TensorDataset(x), 8, **options))

    first = of(x)
    assert first == of(x.clone(), num_workers=2, shuffle=True)
    last = x.clone()
    last[-1, -1] = 0.5
    assert first != of(last) and first != of(x[1:]) and first != of(x.double())
    subsets = [DataLoader(Subset(TensorDataset(x), range(k, 50)), 8) for k in (0, 1)]
    assert data_hash(subsets[0]) != data_hash(subsets[1])
    np.save(tmp_path / "x.npy", np.zeros((10, 3)))
    before = data_hash(DataLoader(NumpyDataset(tmp_path / "x.npy"), 2))
    np.save(tmp_path / "x.npy", np.ones((10, 3)))
    assert before != data_hash(DataLoader(NumpyDataset(tmp_path / "x.npy"), 2))


def test_no_sample_is_fetched_for_it():
    class Counting(Dataset):
        def __init__(self):
            self.rows = [1.0, 2.0]

        def __len__(self):
            return 2

        def __getitem__(self, index):
            raise AssertionError("a sample was fetched")

    assert data_hash(DataLoader(Counting(), 1)) is not None
    assert data_hash(iter([1])) is None


def fit(folder, data, epochs):
    keep = train.ModelCheckpoint(folder, save_top_k=0, save_last=True)
    trainer = quiet(max_epochs=epochs, callbacks=keep)
    trainer.fit(Regression(), data, ckpt_path="last")


def test_other_data_after_an_interruption_is_said(tmp_path):
    fit(tmp_path, loader(), 1)
    _, state = train.load_checkpoint(tmp_path / "last.ckpt")
    assert set(state["hashes"]["code"]) == {"models.py"} and len(state["hashes"]["data"]) == 64
    fit(tmp_path, loader(), 2)  # the same: no warning
    with pytest.warns(RuntimeWarning, match="training data is not what it was when last.ckpt"):
        fit(tmp_path, loader(samples=48), 3)


def test_a_data_set_that_opens_its_file_when_it_is_read_is_the_same_when_training_goes_on(tmp_path):
    class Opens:
        def __init__(self):
            self.rows, self.handle = dataset(16).tensors, None

        def __len__(self):
            return 16

        def __getitem__(self, index):
            self.handle = self.handle or ["open", index]
            return tuple(column[index] for column in self.rows)

    for steps in (3, 5):  # the second would warn, were the hash that of a data set in use
        keep = train.ModelCheckpoint(tmp_path, save_last=True, every_n_train_steps=1, monitor=None)
        trainer = quiet(max_steps=steps, callbacks=keep)
        trainer.fit(Regression(), DataLoader(Opens(), 4), ckpt_path="last")
        assert trainer.global_step == steps
