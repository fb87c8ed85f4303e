"""Averages, watchdog, freezing, monitors, loggers, tuning, estimates; and further flags."""

import json
import math
import struct

import numpy as np
import pytest

import monograph as mg
from monograph import nn, optim, train
from monograph.core.errors import ArgumentError, DataError
from monograph.data import DataLoader
from monograph.metrics import MeanAbsoluteError
from monograph.train import load_checkpoint

from .models import Regression, dataset, loader, quiet, same, weights


class Recorder(train.Callback):
    """Keeps a copy of the weights after each step."""

    def __init__(self):
        self.steps = []
        self.validated = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.steps.append(weights(module))

    def on_validation_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.validated.append(weights(module))


def test_ema_is_the_moving_average_and_validation_sees_it():
    recorder, ema = Recorder(), train.EMA(decay=0.9)
    model = Regression()
    quiet(max_epochs=2, callbacks=[ema, recorder], limit_val_batches=1).fit(
        model, loader(), loader()
    )
    average = None
    for n, step in enumerate(recorder.steps):
        if average is None:
            average = dict(step)
            continue
        decay = min(0.9, (1 + n) / (10 + n))
        average = {k: decay * average[k] + (1 - decay) * step[k] for k in step}
        if n == 4:
            for k in average:
                np.testing.assert_allclose(recorder.validated[0][k], average[k], rtol=1e-5)
    for k, value in weights(model).items():
        np.testing.assert_allclose(value, average[k], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("make", [lambda: train.EMA(0.9), lambda: train.SWA(0.02, 1)])
@pytest.mark.parametrize("step", [3, 5, 10, 12])
def test_averaging_resumes_to_the_same_weights(tmp_path, make, step):
    def run(directory, path=None):
        train.seed_everything(2)
        model = Regression()
        keep = train.ModelCheckpoint(directory, save_top_k=-1, every_n_train_steps=1)
        trainer = quiet(max_epochs=3, callbacks=[make(), keep])
        trainer.fit(model, loader(shuffle=True), loader(), ckpt_path=path)
        return weights(model)

    expected = run(tmp_path / "a")
    path = tmp_path / "a" / f"epoch={(step - 1) // 5}-step={step}.ckpt"
    assert same(expected, run(tmp_path / "b", path))


def test_swa_is_the_mean_over_the_last_epochs_with_its_own_rate():
    rates = []

    class Watch(Recorder):
        def on_train_epoch_end(self, trainer, module):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])
            self.validated.append(weights(module))

    watch = Watch()
    model = Regression(rate=0.01, schedule=lambda o: optim.lr_scheduler.ExponentialLR(o, 0.5))
    quiet(max_epochs=5, callbacks=[train.SWA(0.1, 2, annealing_epochs=2), watch]).fit(
        model, loader()
    )
    assert rates[:2] == pytest.approx([0.005, 0.0025])
    assert rates[2:] == pytest.approx([0.0025, (0.0025 + 0.1) / 2, 0.1])
    for k, value in weights(model).items():
        mean = np.mean([w[k] for w in watch.validated[2:]], axis=0)
        np.testing.assert_allclose(value, mean, rtol=1e-5, atol=1e-7)


def test_swa_takes_the_statistics_of_batch_norm_anew():
    class Normed(Regression):
        def __init__(self):
            super().__init__(dropout=0.0)
            self.norm = nn.BatchNorm1d(4)

        def loss(self, batch):
            return super().loss((self.norm(batch[0]), batch[1]))

    model = Normed()
    quiet(max_epochs=3, callbacks=train.SWA(0.01, 1)).fit(model, loader())
    x = dataset()[:][0].numpy().reshape(5, 8, 4)
    np.testing.assert_allclose(model.norm.running_mean.numpy(), x.mean((0, 1)), rtol=1e-4)
    assert model.norm.momentum == 0.1


class Exploding(Regression):
    """From the third batch of the second epoch on, the logarithm of a negative number."""

    def __init__(self, at=7):
        super().__init__(dropout=0.0)
        self.register_buffer("count", mg.zeros(()))
        self.at = at

    def training_step(self, batch, batch_idx):
        self.count.add_(1.0)
        scale = (self.at - self.count + 0.5).log()
        return self.loss(batch) * (scale * 0 + 1)


@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 2}, {"jit": False}])
def test_the_watchdog_names_the_operation_and_the_line(options):
    model = Exploding()
    trainer = quiet(max_epochs=4, callbacks=train.NaNWatchdog(every_n_steps=5), **options)
    with pytest.raises(train.NotFiniteError) as error:
        trainer.fit(model, loader())
    message = str(error.value)
    assert message.startswith("NaNWatchdog: the loss is nan in step ")
    assert "log gives nan of inputs () in [-0.5, -0.5]" in message
    assert "scale = (self.at - self.count + 0.5).log()" in message
    assert all(np.isfinite(v).all() for v in weights(model).values())


def test_the_watchdog_sees_a_gradient_that_is_nan():
    class Root(Regression):
        def loss(self, batch):
            x, y = batch
            return ((self.net(x) * 0.0).abs() ** 0.5).mean() + super().loss(batch)

    with pytest.raises(train.NotFiniteError, match="in the backward pass: ") as error:
        quiet(max_epochs=2, callbacks=train.NaNWatchdog()).fit(Root(dropout=0.0), loader())
    assert "** 0.5).mean()" in str(error.value)


def test_the_watchdog_stops_at_a_spike():
    class Spike(Regression):
        def training_step(self, batch, batch_idx):
            self.log("x", self.loss(batch))
            return self.loss(batch) * (1 + 1000 * (self.global_step == 12))

    callback = train.NaNWatchdog(spike_factor=20, window=10)
    with pytest.raises(
        train.NotFiniteError, match=r"in step 13 .* times its mean over the last 10"
    ):
        quiet(max_epochs=9, callbacks=callback).fit(Spike(dropout=0.0), loader())
    quiet(max_epochs=3, callbacks=train.NaNWatchdog(spike_factor=20, window=5)).fit(
        Regression(), loader()
    )


@pytest.mark.parametrize("jit", [True, False])
def test_a_frozen_part_does_not_move_until_its_epoch(jit):
    recorder = Recorder()
    model = Regression(optimizer="AdamW")
    first = weights(model)
    callbacks = [train.BackboneFreezing("net.0", unfreeze_at_epoch=1), recorder]
    quiet(max_epochs=2, callbacks=callbacks, jit=jit).fit(model, loader())
    for i, step in enumerate(recorder.steps):
        moved = {k for k in first if (step[k] != first[k]).any()}
        assert ("net.0.weight" in moved) == (i >= 5) and "net.3.weight" in moved
    assert all(p.requires_grad for p in model.parameters())
    with pytest.raises(ArgumentError, match="has no part 'body'; it has net, net.0, "):
        quiet(max_epochs=1, callbacks=train.BackboneFreezing("body")).fit(model, loader())


def test_throughput_is_logged():
    monitor = train.ThroughputMonitor(length_fn=lambda batch: batch[0].numel(), flops=1e6)
    trainer = quiet(max_epochs=1, log_every_n_steps=5, callbacks=monitor)
    trainer.fit(Regression(), loader())
    found = trainer.logged_metrics
    assert found["throughput/samples_per_sec"] == pytest.approx(
        8 * found["throughput/batches_per_sec"]
    )
    assert found["throughput/length_per_sec"] == pytest.approx(
        4 * found["throughput/samples_per_sec"]
    )
    assert 0 <= found["throughput/data_share"] < 1 and found["throughput/gflops_per_sec"] > 0


@pytest.mark.parametrize("interval", ["batch", "epoch"])
def test_predictions_are_written(tmp_path, interval):
    class Pairs(Regression):
        def predict_step(self, batch, batch_idx):
            return {"y": self.net(batch[0]), "x": batch[0]}

    writer = train.PredictionWriter(tmp_path, interval)
    expected = quiet(callbacks=writer).predict(Pairs(), loader(20))
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == (3 if interval == "batch" else 1)
    found = np.concatenate([mg.load_file(p)["y"].numpy() for p in paths])
    np.testing.assert_array_equal(found, np.concatenate([e["y"].numpy() for e in expected]))


# Loggers


def test_json_lines(tmp_path):
    logger = train.JSONLinesLogger(tmp_path)
    quiet(max_epochs=2, logger=logger, log_every_n_steps=5).fit(Regression(), loader(), loader())
    logger.log_metrics({"odd": math.nan}, 11)
    lines = [json.loads(line) for line in logger.path.read_text().splitlines()]
    assert [line["step"] for line in lines if "train_loss_step" in line] == [5, 10]
    assert lines[-1]["odd"] == "nan" and "val_loss" in {k for line in lines for k in line}
    assert json.loads((logger.log_dir / "hparams.json").read_text())["rate"] == 0.01


def records(path):
    content = path.read_bytes()
    at = 0
    while at < len(content):
        (size,) = struct.unpack_from("<Q", content, at)
        assert content[at + 8 : at + 12] == crc(content[at : at + 8])
        assert content[at + 12 + size : at + 16 + size] == crc(content[at + 12 : at + 12 + size])
        yield content[at + 12 : at + 12 + size]
        at += 16 + size


def crc(data):
    """CRC-32C bit by bit, masked."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 * (value & 1))
    value ^= 0xFFFFFFFF
    return struct.pack("<I", ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def fields(message):
    """{number: [values]} of a protocol-buffer message."""
    found, at = {}, 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        key = varint()
        kind = key & 7
        if kind == 0:
            value = varint()
        elif kind == 1:
            (value,) = struct.unpack_from("<d", message, at)
            at += 8
        elif kind == 5:
            (value,) = struct.unpack_from("<f", message, at)
            at += 4
        else:
            size = varint()
            value = message[at : at + size]
            at += size
        found.setdefault(key >> 3, []).append(value)
    return found


def test_the_checksum_is_crc32c():
    from monograph.train.tensorboard import _checksum

    assert crc(b"123456789") == _checksum(b"123456789")
    masked = ((0xE3069283 >> 15 | 0xE3069283 << 17) + 0xA282EAD8) & 0xFFFFFFFF
    assert crc(b"123456789") == struct.pack("<I", masked)


def test_tensorboard_events(tmp_path):
    logger = train.TensorBoardLogger(tmp_path)
    trainer = quiet(max_epochs=1, logger=logger, log_every_n_steps=1)
    trainer.fit(Regression(), loader())
    logger.log_histogram("h", [0.0, 1.0, 1.0, math.nan], step=2, bins=2)
    logger.finalize()
    (path,) = logger.log_dir.glob("events.out.tfevents.*")
    events = [fields(r) for r in records(path)]
    assert events[0][3] == [b"brain.Event:2"]
    losses = {}
    for event in events[1:]:
        for value in fields(event[5][0])[1] if 5 in event else ():
            value = fields(value)
            if 2 in value:
                losses.setdefault(value[1][0], []).append((event[2][0], value[2][0]))
    assert [step for step, _ in losses[b"train_loss_step"]] == [1, 2, 3, 4, 5]
    last = trainer.callback_metrics["train_loss_step"]
    assert losses[b"train_loss_step"][-1][1] == pytest.approx(last, rel=1e-6)
    histogram = fields(fields(fields(events[-1][5][0])[1][0])[5][0])
    assert [histogram[i][0] for i in (1, 2, 3, 4)] == [0.0, 1.0, 3.0, 2.0]
    assert np.frombuffer(histogram[7][0]).tolist() == [1.0, 2.0]


def test_tensorboard_reads_the_events(tmp_path):
    reason = "TensorBoard is not installed"
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason=reason
    )
    logger = train.TensorBoardLogger(tmp_path)
    logger.log_metrics({"loss": 0.5}, 3)
    logger.finalize()
    events = accumulator.EventAccumulator(str(logger.log_dir))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(3, 0.5)]


# Tuning and estimates


def plateau(optimizer):
    """A schedule that listens to what only validation logs."""
    return {
        "scheduler": optim.lr_scheduler.ReduceLROnPlateau(optimizer),
        "monitor": "val_loss",
    }


def test_lr_find_suggests_a_rate_and_changes_nothing():
    model = Regression(dropout=0.1)
    before, state = weights(model), mg.get_rng_state().numpy().copy()
    curve = train.lr_find(model, loader(400, 400), 1e-6, 10.0, num_training=60)
    assert same(before, weights(model)) and (mg.get_rng_state().numpy() == state).all()
    assert 1e-4 < curve.suggestion() < 3.0
    assert curve.lrs == sorted(curve.lrs) and curve.lrs[0] == pytest.approx(1e-6)
    assert curve.losses[-1] > 4 * min(curve.losses) or len(curve.losses) == 60
    with pytest.raises(DataError, match="5 steps are too few"):
        train.lr_find(model, loader(), num_training=5).suggestion()


def test_find_batch_size_doubles_until_memory_ends():
    model = Regression(schedule=plateau)
    before = weights(model)
    found = train.find_batch_size(model, loader(64), start=4, steps=2)
    assert list(found.samples_per_sec) == [4, 8, 16, 32, 64]
    assert found.suggestion() in found.samples_per_sec
    assert list(found.peak_bytes.values()) == sorted(found.peak_bytes.values())
    small = train.find_batch_size(
        model, loader(64), start=4, steps=1, memory_bytes=found.peak_bytes[8]
    )
    assert list(small.samples_per_sec) == [4, 8]
    assert same(before, weights(model))


def test_estimate_counts_parameters_arithmetic_and_memory():
    model = Regression()
    batch = next(iter(loader()))
    before = weights(model)
    found = mg.estimate(model, batch)
    assert found.parameters == 4 * 16 + 16 + 16 + 1 == found.trainable
    assert found.parameter_bytes == 4 * found.parameters
    assert found.optimizer_bytes >= 8 * found.parameters
    assert found.batch_bytes == 8 * 5 * 4
    # Forward: two products; backward: both for the weights, one for the inner activations.
    products = 2 * 8 * (2 * 4 * 16 + 3 * 16)
    assert products <= found.flops < products + 200 * 8 * 16
    assert same(before, weights(model)) and model.trainer is None
    assert "net.0" in str(found) and "parameters: 97" in str(found)


def test_estimate_of_a_plain_module_with_a_loss():
    net = nn.Linear(10, 2)
    found = mg.estimate(
        net,
        (mg.zeros(4, 10), mg.zeros(4, dtype=mg.int64)),
        nn.functional.cross_entropy,
        optim.Adam(net.parameters()),
    )
    assert found.parameters == 22 and found.optimizer_bytes >= 2 * 22 * 4
    assert found.workspace_bytes > 0 and all(p.grad is None for p in net.parameters())


# What the Trainer learned besides


def test_several_flags():
    class Check(Regression):
        def validation_step(self, batch, batch_idx):
            super().validation_step(batch, batch_idx)

    seen = []

    class Watch(train.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            seen.append(batch[0].numpy().copy())

    trainer = quiet(max_epochs=3, overfit_batches=2, callbacks=Watch())
    trainer.fit(Check(), loader(shuffle=True), loader())
    assert trainer.global_step == 6
    first = dataset()[:][0].numpy()
    for i, x in enumerate(seen):
        np.testing.assert_array_equal(x, first[8 * (i % 2) : 8 * (i % 2) + 8])

    class Stop(train.Callback):
        def on_train_batch_end(self, trainer, *args):
            trainer.should_stop = True

    trainer = quiet(max_epochs=9, min_epochs=2, callbacks=Stop())
    trainer.fit(Regression(), loader())
    assert trainer.global_step == 10
    with pytest.raises(ArgumentError, match="precision must be one of 32-true, 64-true"):
        quiet(precision="8")
    with pytest.raises(ArgumentError, match=r"limit_val_batches must be a number of batches"):
        quiet(limit_val_batches=1.5)


def test_precision_converts_module_and_batches():
    model = Regression(dropout=0.0)
    trainer = quiet(max_epochs=1, precision="64-true")
    trainer.fit(model, loader(), loader())
    assert all(p.dtype == mg.float64 for p in model.parameters())
    half = Regression(dropout=0.0)
    quiet(max_epochs=3, precision="bf16-true").fit(half, loader())
    assert half.net[0].weight.dtype == mg.bfloat16


def test_detect_anomaly_names_the_line():
    class Root(Regression):
        def loss(self, batch):
            return (self.net(batch[0]) * 0.0).sqrt().mean()

    with pytest.raises(Exception, match="nan") as error:
        quiet(max_epochs=1, detect_anomaly=True).fit(Root(), loader())
    assert "sqrt" in str(error.value) + "".join(error.value.__notes__)
    assert mg.tensor(1.0, requires_grad=True) is not None


def test_a_data_module_gives_all_loaders_and_keeps_its_state(tmp_path):
    calls = []

    class Data(train.DataModule):
        seen = 0

        def prepare_data(self):
            calls.append("prepare")

        def setup(self, stage):
            calls.append(f"setup {stage}")

        def teardown(self, stage):
            calls.append(f"teardown {stage}")

        def train_dataloader(self):
            return loader()

        def val_dataloader(self):
            return loader(16)

        test_dataloader = predict_dataloader = val_dataloader

        def state_dict(self):
            return {"seen": self.seen}

        def load_state_dict(self, state):
            self.seen = state["seen"]

    data, model = Data(), Regression()
    data.seen = 5
    trainer = quiet(max_epochs=1)
    trainer.fit(model, datamodule=data)
    assert "val_loss" in trainer.callback_metrics
    trainer.test(model, datamodule=data)
    assert len(trainer.predict(model, data)) == 2
    stages = ("fit", "test", "predict")
    assert calls == [c for s in stages for c in ("prepare", f"setup {s}", f"teardown {s}")]
    trainer.fit(model, data)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    other = Data()
    quiet(max_epochs=1).fit(model, other, ckpt_path=tmp_path / "a.ckpt")
    assert other.seen == 5


def test_accumulation_weighs_batches_by_what_the_step_says():
    """Batches whose tokens differ in number train like one batch of all tokens."""

    class Tokens(Regression):
        def training_step(self, batch, batch_idx):
            x, y, used = batch
            each = ((self.net(x) - y) ** 2)[:, 0] * used
            return {"loss": each.sum() / used.sum(), "weight": used.sum()}

    x, y = dataset(32)[:]
    used = (mg.rand(32, generator=mg.Generator().manual_seed(1)) < 0.4).float()
    used[0] = used[8] = used[16] = used[24] = 1.0
    data = [t.numpy() for t in (x, y, used)]
    found = []
    for size, every in ((32, 1), (8, 4)):
        train.seed_everything(0)
        model = Tokens(dropout=0.0, optimizer="SGD", rate=0.1)
        rows = [tuple(a[i] for a in data) for i in range(32)]
        quiet(max_epochs=3, accumulate_grad_batches=every).fit(model, DataLoader(rows, size))
        found.append(weights(model))
    for k in found[0]:
        np.testing.assert_allclose(found[0][k], found[1][k], rtol=1e-5, atol=1e-6)


def test_a_metric_object_is_computed_at_the_end_of_the_epoch():
    class Measured(Regression):
        def __init__(self):
            super().__init__(dropout=0.0)
            self.error = MeanAbsoluteError()

        def validation_step(self, batch, batch_idx):
            return self.net(batch[0])

        def on_validation_batch_end(self, outputs, batch, batch_idx):
            self.error.update(outputs, batch[1])
            self.log("mae", self.error)

    model = Measured()
    trainer = quiet(max_epochs=2)
    trainer.fit(model, loader(), loader(44))
    x, y = dataset(44)[:]
    model.eval()
    expected = np.abs((model.net(x) - y).detach().numpy()).mean()
    assert trainer.callback_metrics["mae"] == pytest.approx(expected, rel=1e-5)


def test_toggling_optimizers_and_clipping_in_manual_optimization():
    class Two(train.TrainModule):
        automatic_optimization = False

        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 1), nn.Linear(1, 1)

        def training_step(self, batch, batch_idx):
            x, y = batch
            first, second = self.optimizers()
            self.toggle_optimizer(first)
            loss = ((self.b(self.a(x)) - y) ** 2).mean()
            first.zero_grad()
            self.manual_backward(loss)
            assert self.b.weight.grad is None
            self.clip_gradients(first, 0.5)
            self.log("norm", nn.utils.get_total_norm([p.grad for p in self.a.parameters()]))
            first.step()
            self.untoggle_optimizer(first)

        def configure_optimizers(self):
            return [optim.SGD(m.parameters(), lr=0.01) for m in (self.a, self.b)]

    model = Two()
    before = weights(model)
    trainer = quiet(max_epochs=1)
    trainer.fit(model, loader())
    moved = {k for k in before if (weights(model)[k] != before[k]).any()}
    assert moved == {"a.weight", "a.bias"}
    assert trainer.callback_metrics["norm"] <= 0.5 + 1e-5
    assert all(p.requires_grad for p in model.parameters())


def test_an_error_ends_with_a_checkpoint_where_asked_for(tmp_path):
    class Failing(train.Callback):
        def on_train_batch_end(self, trainer, *args):
            if trainer.global_step == 3:
                raise ZeroDivisionError

    keep = train.ModelCheckpoint(tmp_path, save_on_exception=True)
    with pytest.raises(ZeroDivisionError):
        quiet(max_epochs=1, callbacks=[Failing(), keep]).fit(Regression(), loader())
    assert load_checkpoint(tmp_path / "interrupted.ckpt")[1]["global_step"] == 3
