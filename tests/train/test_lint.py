"""The linter: each bug planted and found, with its line; and the same without the bug."""

import warnings

import numpy as np
import pytest

import monograph as mg
from monograph import nn, optim, train
from monograph.data import DataLoader, Dataset, TensorDataset
from monograph.nn import functional as F

from .models import Regression, loader, quiet, same, weights


def findings(model, data=None, checks=None, **options):
    trainer = quiet(max_epochs=1, limit_train_batches=1, lint=True, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", train.LintWarning)
        trainer.fit(model, data or loader(), checks)
    return {f.rule: f for f in trainer.lint_findings}


def only(found, rule):
    assert list(found) == [rule], found
    return found[rule]


class Flat(Regression):
    def loss(self, batch):
        x, y = batch
        return ((self.net(x) - y[:, 0]) ** 2).mean()


class Classes(train.TrainModule):
    def __init__(self, softmax):
        super().__init__()
        self.net, self.softmax = nn.Linear(4, 3), softmax

    def training_step(self, batch, batch_idx):
        scores = self.net(batch[0])
        if self.softmax:
            scores = F.softmax(scores, 1)
        return F.cross_entropy(scores, (batch[1][:, 0] > 4).long())

    def configure_optimizers(self):
        return optim.SGD(self.parameters(), lr=0.1)


def test_a_sound_training_gives_no_finding():
    assert findings(Regression(), loader(), loader(8)).keys() <= {"leak"}
    other = DataLoader(TensorDataset(mg.randn(16, 4), mg.randn(16, 1)), 8)
    assert findings(Regression(), loader(), other) == {}
    assert findings(Classes(False)) == {}
    assert findings(Regression(), accumulate_grad_batches=2) == {}


def test_the_linter_changes_nothing():
    found = []
    for lint in (False, True):
        train.seed_everything(5)
        model = Regression()
        quiet(max_epochs=2, lint=lint).fit(model, loader(shuffle=True))
        found.append(weights(model))
    assert same(*found)


def test_a_loss_that_broadcasts():
    finding = only(findings(Flat()), "broadcast")
    assert "shapes (8, 1) and (1, 8) broadcast to (8, 8)" in finding.message
    assert "((self.net(x) - y[:, 0]) ** 2).mean()" in str(finding)


def test_softmax_before_cross_entropy():
    finding = only(findings(Classes(True)), "softmax")
    assert "return F.cross_entropy(scores" in str(finding)


def test_parameters_in_no_optimizer():
    class Some(Regression):
        def configure_optimizers(self):
            return optim.SGD(self.net[3].parameters(), lr=0.1)

    message = only(findings(Some()), "unoptimized").message
    assert message.startswith("net.0.weight and net.0.bias are in no optimizer of Some")


def test_parameters_that_the_loss_does_not_reach():
    class Spare(Regression):
        def __init__(self):
            super().__init__()
            self.spare = nn.Linear(2, 2)

    message = only(findings(Spare()), "disconnected").message
    assert message.startswith("the loss does not depend on spare.weight and spare.bias")


def test_units_that_never_fire():
    class Dead(Regression):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
            with mg.no_grad():
                self.net[0].bias.fill_(-100.0)

    message = only(findings(Dead()), "dead").message
    assert "net.0.weight, net.0.bias and net.2.weight are zero" in message


def test_a_layer_left_in_eval_mode():
    class Slip(Regression):
        def on_fit_start(self):
            self.net[2].eval()

    assert "net.2 is in eval mode" in only(findings(Slip()), "eval-mode").message


class Drawing(Dataset):
    def __init__(self, own):
        self.rng = np.random.default_rng(0) if own else None

    def __len__(self):
        return 16

    def __getitem__(self, index):
        rng = self.rng or np.random
        return rng.normal(size=4).astype(np.float32), np.ones(1, np.float32)


def test_a_generator_that_workers_share():
    found = findings(Regression(), DataLoader(Drawing(True), 8, num_workers=2))
    assert "Drawing.rng is a generator of its own" in only(found, "worker-seeds").message
    assert findings(Regression(), DataLoader(Drawing(False), 8, num_workers=2)) == {}


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda x: x * 100, "networks expect a mean near 0"),
        (lambda x: x * 0 + 2, "all inputs of the first batch are 2"),
        (lambda x: x * mg.tensor([1.0, 1.0, 1.0, 0.0]), "features 3 is the same in every sample"),
        (lambda x: x / 0.0, "nan or infinite inputs"),
    ],
)
def test_odd_inputs(change, words):
    x, y = loader().dataset[:]
    found = findings(Regression(), DataLoader(TensorDataset(change(x), y), 8))
    assert words in found["inputs"].message


def test_validation_samples_that_are_training_samples():
    finding = only(findings(Regression(), loader(40), loader(20)), "leak")
    assert "20 of 20 validation samples looked at (loader 0) are training samples" in str(finding)
    data = loader(40)
    assert "the training data itself" in findings(Regression(), data, data)["leak"].message


def test_activations_that_explode():
    class Huge(Regression):
        def __init__(self):
            super().__init__()
            with mg.no_grad():
                self.net[3].weight.fill_(1e6)

    assert "the output of net.3 (Linear) reaches" in findings(Huge())["activations"].message


def test_a_sum_where_batches_are_accumulated():
    class Sum(Regression):
        def training_step(self, batch, batch_idx):
            return self.loss(batch) * len(batch[0])

    found = findings(Sum(dropout=0.0), accumulate_grad_batches=2)
    assert "the loss is a sum over the batch" in only(found, "accumulation").message
    assert findings(Sum(dropout=0.0)) == {}


def test_findings_are_warnings_and_fast_dev_run_looks_for_them():
    with pytest.warns(train.LintWarning, match="softmax: cross_entropy receives probabilities"):
        quiet(fast_dev_run=True).fit(Classes(True), loader())
