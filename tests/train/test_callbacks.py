"""EarlyStopping, LearningRateMonitor, Timer, ProgressBar, CSVLogger."""

import csv
import io
import math
import time

import pytest

from monograph import optim, train
from monograph.core.errors import ArgumentError, DataError

from .models import Regression, loader, quiet


class Scripted(Regression):
    """Validation gives these scores."""

    scores: list = []

    def validation_step(self, batch, batch_idx):
        pass

    def on_validation_epoch_end(self):
        self.log("score", self.scores[self.trainer.current_epoch], prog_bar=True)


def run(scores, **options):
    callback = train.EarlyStopping("score", **options)
    model = Scripted()
    model.scores = scores
    trainer = quiet(max_epochs=len(scores), callbacks=callback, limit_train_batches=1)
    trainer.fit(model, loader(), loader())
    return trainer.current_epoch + 1, callback


@pytest.mark.parametrize(
    "scores, options, epochs",
    [
        ([3, 2, 2.5, 2.4, 2.3, 1], {"patience": 3}, 5),
        ([3, 2, 2.5, 2.4, 1.9, 1], {"patience": 3}, 6),
        ([3, 2.95, 2.9, 2.85], {"patience": 2, "min_delta": 0.2}, 3),
        ([1, 2, 3, 2, 2], {"patience": 2, "mode": "max"}, 5),
        ([1, math.nan, 0.5], {}, 2),
        ([3, 0.1, 0.05], {"stopping_threshold": 0.2}, 2),
        ([3, 9, 1], {"divergence_threshold": 8.0}, 2),
    ],
)
def test_early_stopping_stops_when_it_should(scores, options, epochs):
    assert run(scores, **options)[0] == epochs


def test_early_stopping_says_why():
    assert run([1, 2, 3], patience=2)[1].reason == "score did not improve on 1 in 2 checks"


def test_early_stopping_names_a_metric_that_is_missing():
    trainer = quiet(max_epochs=1, callbacks=train.EarlyStopping("accuracy"))
    with pytest.raises(DataError, match="EarlyStopping: the metric 'accuracy' was not logged"):
        trainer.fit(Regression(), loader(), loader())
    with pytest.raises(ArgumentError, match="mode must be 'min' or 'max', got 'up'"):
        train.EarlyStopping("a", mode="up")


def test_csv_logger_writes_a_table_that_grows_columns(tmp_path):
    logger = train.CSVLogger(tmp_path, flush_logs_every_n_steps=2)
    trainer = quiet(
        max_epochs=2,
        logger=logger,
        log_every_n_steps=2,
        callbacks=train.LearningRateMonitor(),
    )
    trainer.fit(Regression(), loader(), loader())
    assert logger.path == tmp_path / "logs" / "version_0" / "metrics.csv"
    with open(logger.path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["2", "4", "5", "6", "8", "10"]
    assert rows[0]["train_loss_step"] and not rows[0]["val_loss"]
    assert rows[2]["val_loss"] and rows[2]["train_loss_epoch"] and rows[2]["epoch"] == "0"
    assert float(rows[0]["lr-Adam"]) == 0.01
    assert train.CSVLogger(tmp_path).version == 1


def test_learning_rates_of_groups_and_momentum_are_logged(tmp_path):
    class Groups(Regression):
        def configure_optimizers(self):
            groups = [
                {"params": list(self.net[0].parameters())},
                {"params": list(self.net[3].parameters()), "lr": 0.5},
            ]
            return optim.SGD(groups, lr=0.1, momentum=0.9)

    trainer = quiet(
        max_epochs=1,
        log_every_n_steps=1,
        callbacks=train.LearningRateMonitor("step", log_momentum=True),
    )
    trainer.fit(Groups(), loader())
    found = {k: v for k, v in trainer.logged_metrics.items() if k.startswith("lr")}
    assert found == {
        "lr-SGD/pg1": 0.1,
        "lr-SGD/pg2": 0.5,
        "lr-SGD-momentum/pg1": 0.9,
        "lr-SGD-momentum/pg2": 0.9,
    }


def test_timer_stops_training_and_tells_the_time():
    class Slow(train.Callback):
        def on_train_batch_end(self, *args):
            time.sleep(0.02)

    timer = train.Timer(duration=0.05)
    trainer = quiet(max_epochs=1000, callbacks=[Slow(), timer])
    trainer.fit(Regression(), loader())
    assert 0.05 <= timer.time_elapsed() < 30 and timer.time_remaining() <= 0
    assert trainer.global_step < 50
    assert train.Timer("01:02:03:04").duration_s == 93784
    assert train.Timer({"minutes": 2}).duration_s == 120
    with pytest.raises(ArgumentError, match='must look like "DD:HH:MM:SS"'):
        train.Timer("1:2")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_bar_shows_live_metrics_on_a_terminal():
    out = Terminal()
    model = Scripted()
    model.scores = [0.25, 0.125]
    trainer = train.Trainer(max_epochs=2, callbacks=train.ProgressBar(file=out))
    trainer.fit(model, loader(), loader())
    text = out.getvalue()
    assert "Epoch 1/2: 100%" in text and "Validation" in text
    assert "loss=" in text and "score=0.125" in text


def test_elsewhere_there_is_one_line_per_epoch():
    out = io.StringIO()
    model = Scripted()
    model.scores = [0.25, 0.125]
    train.Trainer(max_epochs=2, callbacks=train.ProgressBar(file=out)).fit(
        model, loader(), loader()
    )
    first, second = out.getvalue().splitlines()
    assert first.startswith("Epoch 1/2: loss=") and "score=0.25" in first
    assert second.startswith("Epoch 2/2: loss=") and "score=0.125" in second


def test_elsewhere_a_validation_inside_an_epoch_has_its_line():
    out = io.StringIO()
    trainer = train.Trainer(
        max_epochs=1, val_check_interval=2, callbacks=train.ProgressBar(file=out)
    )
    trainer.fit(Regression(), loader(), loader())
    starts = [line.split(":")[0] for line in out.getvalue().splitlines()]
    assert starts == ["Epoch 1/1, batch 2/5", "Epoch 1/1, batch 4/5", "Epoch 1/1"]


def test_nothing_is_written_unless_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    quiet(max_epochs=1).fit(Regression(), loader(), loader())
    assert list(tmp_path.iterdir()) == []
