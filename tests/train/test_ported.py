"""Habits of programs that were written for Lightning: what they do here."""

import numpy as np
import pytest

import monograph as mg
from monograph import metrics, nn, optim, train
from monograph.core.errors import ArgumentError, ArgumentTypeError
from monograph.data import DataLoader, TensorDataset
from monograph.nn import functional as F

from .models import Regression, loader, quiet, same, weights


def classes(samples=40):
    x = mg.randn(samples, 4, generator=mg.Generator().manual_seed(3))
    return DataLoader(TensorDataset(x, (x.sum(1) > 0).long()), batch_size=8)


class Measured(train.TrainModule):
    """Classifier with metrics that are updated inside its steps."""

    def __init__(self, width=8):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(4, self.hparams.width), nn.ReLU(), nn.Linear(width, 2))
        self.train_accuracy = metrics.Accuracy("multiclass", num_classes=2)
        self.accuracy = metrics.Accuracy("multiclass", num_classes=2)

    def training_step(self, batch):
        scores = self.net(batch[0])
        self.log("batch_accuracy", self.train_accuracy(scores, batch[1]))
        self.log("train_accuracy", self.train_accuracy)
        return F.cross_entropy(scores, batch[1])

    def validation_step(self, batch, batch_idx):
        self.accuracy.update(self.net(batch[0]), batch[1])
        self.log("accuracy", self.accuracy)

    def configure_optimizers(self):
        return optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize("windows", [1, 3])
def test_metrics_inside_steps_are_those_of_eager_steps_and_steps_stay_captured(windows):
    seen = {}
    for jit in (True, False):
        mg.manual_seed(0)
        trainer = quiet(max_epochs=3, jit=jit, accumulate_grad_batches=windows)
        model = Measured()
        trainer.fit(model, classes(), classes(24))
        seen[jit] = {k: v for k, v in trainer.callback_metrics.items() if "accuracy" in k}
        if jit:
            assert trainer._loop.step.compiled.captures >= 1
    assert seen[True] == seen[False] and len(seen[True]) == 3
    with mg.no_grad():
        right = [model.net(x).argmax(1) == y for x, y in classes(24)]
    assert seen[True]["accuracy"] == np.mean(mg.cat(right).numpy())


def test_a_value_of_a_metric_that_is_used_inside_the_step_lets_it_run_eagerly():
    class Used(Measured):
        def training_step(self, batch):
            scores = self.net(batch[0])
            self.log("percent", 100 * self.train_accuracy(scores, batch[1]))
            return F.cross_entropy(scores, batch[1])

    trainer = quiet(max_epochs=2)
    with pytest.warns(RuntimeWarning, match="the value of a metric is not known"):
        trainer.fit(Used(), classes())
    assert 0 <= trainer.callback_metrics["percent"] <= 100


def test_the_linter_and_estimates_leave_metrics_alone():
    model = Measured()
    found = mg.estimate(model, next(iter(classes())))
    assert found.trainable == sum(p.numel() for p in model.parameters())
    seen = []

    class Watch(train.Callback):
        def on_train_start(self, trainer, module):  # after the linter
            seen.append(model.train_accuracy.state_dict())

    quiet(max_epochs=1, lint=True, callbacks=Watch()).fit(model, classes())
    assert seen == [{"correct": 0, "count": 0}]


def test_outputs_that_a_module_collects_are_all_there():
    class Collects(Regression):
        def __init__(self):
            super().__init__()
            self.outputs, self.batches = [], {}

        def validation_step(self, batch, batch_idx):
            loss = self.loss(batch)
            self.outputs.append({"loss": loss})
            self.batches[len(self.batches)] = loss
            return loss

        def on_validation_epoch_end(self):
            losses = [x["loss"] for x in self.outputs]
            assert len(losses) == len(self.batches) == 4
            self.log("mean", mg.stack(losses).mean())
            self.outputs.clear()
            self.batches.clear()

    model = Collects()
    trainer = quiet(max_epochs=2)
    with pytest.warns(RuntimeWarning, match=r"it keeps tensors of the step in self\.outputs"):
        trainer.fit(model, loader(), loader(samples=32))
    with mg.no_grad():
        model.eval()
        expected = mg.stack([model.loss(batch) for batch in loader(samples=32)]).mean()
    assert trainer.callback_metrics["mean"] == pytest.approx(expected.item(), rel=1e-5)


def test_manual_steps_without_a_result_count():
    class Manual(Regression):
        automatic_optimization = False

        def training_step(self, batch):
            optimizer = self.optimizers()
            loss = self.loss(batch)
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
            self.log("loss", loss)

    steps = []

    class Watch(train.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            steps.append((trainer.global_step, outputs))

    trainer = quiet(max_steps=7, callbacks=Watch())
    trainer.fit(Manual(), loader())
    assert steps == [(i + 1, None) for i in range(7)] and trainer.global_step == 7


def test_hyper_parameters_are_attributes(tmp_path):
    class Wide(Measured):
        def __init__(self, rate=0.1, *rest, kind, other=None, **more):
            super().__init__(width=6)
            self.save_hyperparameters("rate", "kind", "extra")

    model = Wide(0.2, kind="a", other=object(), extra=3)
    assert model.hparams == {"width": 6, "rate": 0.2, "kind": "a", "extra": 3}
    assert model.hparams.rate == 0.2 and model.hparams["kind"] == "a"
    model.hparams.rate = 0.3
    assert model.hparams["rate"] == 0.3
    with pytest.raises(AttributeError, match="there is no 'speed'; save_hyperparameters has kept"):
        model.hparams.speed  # noqa: B018
    trainer = quiet(max_epochs=1)
    trainer.fit(Measured(width=5), classes())
    trainer.save_checkpoint(tmp_path / "c")
    again = Measured.load_from_checkpoint(tmp_path / "c")
    assert again.hparams.width == 5 and same(weights(again), weights(trainer.module))

    class Ignores(train.TrainModule):
        def __init__(self, a, b, names=()):
            super().__init__()
            self.save_hyperparameters(*names, ignore=["b"])

    assert Ignores(1, object()).hparams == {"a": 1, "names": ()}
    with pytest.raises(ArgumentError, match="has no argument 'c'; it has a, b, names"):
        Ignores(1, 2, ["c"])
    with pytest.raises(ArgumentTypeError, match=r"ignore='a'"):
        Ignores(object(), 2)


def test_hyper_parameters_of_a_data_module_go_to_the_loggers(tmp_path):
    class Data(train.DataModule):
        def __init__(self, size=8):
            super().__init__()
            self.save_hyperparameters()

        def train_dataloader(self):
            return classes()

    logger = train.CSVLogger(tmp_path)
    quiet(max_epochs=1, logger=logger).fit(Measured(), datamodule=Data(size=4))
    lines = (logger.log_dir / "hparams.csv").read_text().splitlines()
    assert lines == ["name,value", "size,4", "width,8"]


def test_arguments_that_name_the_machine_may_say_what_it_is():
    trainer = quiet(accelerator="cpu", devices=1, num_nodes=1, strategy="auto", max_epochs=1)
    trainer.fit(Regression(), loader())
    for name, value in (
        ("accelerator", "gpu"), ("devices", 2), ("devices", True), ("num_nodes", 4),
        ("strategy", "ddp"),
    ):  # fmt: skip
        with pytest.raises(ArgumentError, match=f"{name} must be .*one CPU.*got {value!r}"):
            quiet(**{name: value})


def test_enable_checkpointing(tmp_path):
    trainer = quiet(max_epochs=1, enable_checkpointing=True, default_root_dir=tmp_path)
    trainer.fit(Regression(), loader())
    assert list((tmp_path / "checkpoints").glob("*.ckpt"))
    given = train.ModelCheckpoint(tmp_path / "own")
    assert quiet(callbacks=[given], enable_checkpointing=True).callbacks.count(given) == 1
    assert quiet(enable_checkpointing=False).checkpoint_callback is None
    with pytest.raises(ArgumentError, match="enable_checkpointing is False, and a ModelCheckpoint"):
        quiet(callbacks=[given], enable_checkpointing=False)
