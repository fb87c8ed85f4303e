"""What is equal to the last bit, and what is not: docs/training.md, "What equality means"."""

import numpy as np
import pytest

import monograph as mg
from monograph import nn, optim, train
from monograph.data import DataLoader, Dataset, TensorDataset
from monograph.nn import functional as F
from monograph.runtime import threads

from .models import quiet, same, weights


class Noisy(Dataset):
    """Samples that are augmented by NumPy's generator."""

    def __len__(self):
        return 64

    def __getitem__(self, index):
        x = np.random.default_rng(index).normal(size=(1, 10, 10)).astype(np.float32)
        shift = np.random.randint(3)
        return np.roll(x, shift, 2) + np.float32(0.1 * np.random.normal()), index % 3


class Net(train.TrainModule):
    """Convolution, wide products and dropout: kernels that several threads share."""

    def __init__(self, dropout, optimizer):
        super().__init__()
        self.optimizer = optimizer
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 256), nn.GELU(),
            nn.Dropout(dropout), nn.Linear(256, 3),
        )  # fmt: skip

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return getattr(optim, self.optimizer)(self.parameters(), lr=1e-3)


def trained(workers=0, count=2, size=32, every=1, plain=False):
    """plain: without dropout or augmentation, whose numbers follow the batches."""
    before = threads.get_num_threads()
    threads.set_num_threads(count)
    try:
        mg.manual_seed(5)
        model = Net(0.0, "SGD") if plain else Net(0.1, "AdamW")
        rows = TensorDataset(mg.randn(64, 1, 10, 10), mg.arange(64) % 3) if plain else Noisy()
        data = DataLoader(rows, size, shuffle=True, num_workers=workers)
        quiet(max_epochs=2, accumulate_grad_batches=every).fit(model, data)
        return weights(model)
    finally:
        threads.set_num_threads(before)


def test_workers_and_threads_change_no_bit():
    expected = trained()
    for options in ({"workers": 1}, {"workers": 4}, {"count": 1}):
        assert same(trained(**options), expected), options


def test_batches_that_are_accumulated_agree_to_rounding():
    """Not to the bit: sums over a part of the batch are rounded before they are added."""
    whole, parts = trained(size=64, plain=True), trained(size=16, every=4, plain=True)
    for name, value in whole.items():
        np.testing.assert_allclose(parts[name], value, rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("every", [1, 4])
def test_accumulation_is_the_same_for_any_number_of_threads(every):
    assert same(trained(size=16, every=every), trained(size=16, every=every, count=1))
