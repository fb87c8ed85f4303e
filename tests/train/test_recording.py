"""What runs record beside numbers: distributions, machine use, samples, the model's graph."""

import io
import json

import numpy as np
import pytest

import monograph as mg
from monograph import nn, train
from monograph.core.errors import ArgumentError, ShapeError
from monograph.data import DataLoader, TensorDataset
from monograph.metrics import MeanSquaredError
from monograph.nn import functional as F
from monograph.train.png import encode_png

from .models import Regression, loader, quiet, same, weights


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


class Normed(Regression):
    """With what a step changes beside weights: running statistics, random numbers, a metric."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.error = MeanSquaredError()

    def loss(self, batch):
        return super().loss((self.norm(batch[0]), batch[1]))

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.error.update([float(outputs)], [0.0])


def trained(tmp_path, callbacks, **options):
    train.seed_everything(4)
    model = Normed()
    logger = train.JSONLinesLogger(tmp_path, version="")
    quiet(max_epochs=2, callbacks=callbacks, logger=logger, **options).fit(
        model, loader(), loader()
    )
    return model, logger.log_dir


@pytest.mark.parametrize("options", [{}, {"jit": False}, {"accumulate_grad_batches": 2}])
def test_recording_changes_nothing_of_the_training(tmp_path, options):
    watching = [train.HistogramMonitor(3), train.GraphMonitor(), train.SystemMonitor()]
    plain, _ = trained(tmp_path / "a", [], **options)
    watched, directory = trained(tmp_path / "b", watching, **options)
    assert same(weights(plain), weights(watched))
    assert plain.error.compute() == watched.error.compute()
    assert lines(tmp_path / "a/logs/metrics.jsonl")[-1]["train_loss_epoch"] == pytest.approx(
        lines(directory / "metrics.jsonl")[-1]["train_loss_epoch"], rel=0
    )


class Manual(Normed):
    automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer, loss = self.optimizers(), self.loss(batch)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        self.log("train_loss", loss, on_epoch=True)
        return loss


def test_manual_steps_are_watched_without_training(tmp_path):
    found = []
    for name, callbacks in (("a", []), ("b", [train.HistogramMonitor(3), train.GraphMonitor()])):
        train.seed_everything(4)
        model = Manual()
        logger = train.JSONLinesLogger(tmp_path / name, version="")
        quiet(max_epochs=2, callbacks=callbacks, logger=logger).fit(model, loader())
        found.append(weights(model))
    assert same(*found)
    names = {entry["name"] for entry in lines(tmp_path / "b/logs/histograms.jsonl")}
    assert {"gradients/net.0.weight", "activations/norm"} <= names
    assert (tmp_path / "b/logs/graph.json").is_file()


def test_histograms_are_those_of_weights_gradients_and_activations(tmp_path):
    model, directory = trained(tmp_path, [train.HistogramMonitor(4)])
    found = lines(directory / "histograms.jsonl")
    assert {entry["step"] for entry in found} == {1, 4, 8}
    names = {entry["name"] for entry in found}
    assert {"weights/net.0.weight", "gradients/net.3.bias", "activations/net.1"} <= names
    sizes = {"weights/net.0.weight": 64, "gradients/net.3.bias": 1, "activations/net.1": 8 * 16}
    for entry in found:
        assert len(entry["edges"]) == len(entry["counts"]) + 1
        if entry["name"] in sizes:
            assert sum(entry["counts"]) == sizes[entry["name"]]
        if entry["name"] == "activations/net.1":  # tanh
            assert -1 <= entry["edges"][0] and entry["edges"][-1] <= 1


def test_gradients_are_those_of_the_loss(tmp_path):
    class Keep(train.Logger):
        seen = {}

        def log_metrics(self, metrics, step):
            pass

        def log_histogram(self, name, values, step):
            self.seen[name, step] = np.array(values)

    model = Regression(dropout=0.0)
    keep = Keep()
    trainer = quiet(max_steps=5, callbacks=train.HistogramMonitor(5), logger=keep)
    trainer.fit(model, loader())
    x, y = list(loader())[4]
    model.zero_grad()
    model.loss((x, y)).backward()
    for name, p in model.named_parameters():
        np.testing.assert_allclose(keep.seen[f"gradients/{name}", 5], p.grad.numpy(), rtol=1e-5)


def test_values_that_are_not_finite_are_counted_apart(tmp_path):
    logger = train.JSONLinesLogger(tmp_path)
    logger.log_histogram("a", [1.0, 2.0, np.nan, np.inf], 3)
    logger.log_histogram("b", [np.nan], 3)
    first, second = lines(logger.log_dir / "histograms.jsonl")
    assert sum(first["counts"]) == 2 and first["odd"] == 2 and first["edges"][0] == 1.0
    assert second["counts"] == [] and second["odd"] == 1


def test_the_machine_is_recorded_at_log_steps(tmp_path):
    class Slow(train.Callback):
        def on_train_batch_end(self, trainer, module, *args):
            total = sum(i * i for i in range(900_000))  # a tenth of a second of work
            assert total

    _, directory = trained(
        tmp_path, [Slow(), train.SystemMonitor()], log_every_n_steps=5, limit_val_batches=0
    )
    found = [e for e in lines(directory / "metrics.jsonl") if "system/cpu_percent" in e]
    assert [e["step"] for e in found] == [5, 10]
    for entry in found:
        assert 1 < entry["system/cpu_percent"] < 100 * 64
        assert 10 < entry["system/memory_mib"] < 1e5


class Images(train.TrainModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return mg.optim.SGD(self.parameters(), lr=0.0)


def test_samples_are_shown_with_what_is_predicted(tmp_path):
    data = DataLoader(TensorDataset(mg.rand(6, 3, 8, 8), mg.tensor([0, 1, 2, 0, 1, 2])), 3)
    logger = train.JSONLinesLogger(tmp_path)
    model = Images()
    model.net[3].weight.data.zero_()
    model.net[3].bias.data.copy_(mg.tensor([0.0, 1.0, 0.0]))
    monitor = train.SampleMonitor(2, names=["ant", "bee", "cat"], mean=0.5, std=[0.5, 1, 2])
    quiet(max_epochs=2, callbacks=monitor, logger=logger).fit(model, data, data)
    found = lines(logger.log_dir / "samples.jsonl")
    assert [e["name"] for e in found] == ["validation/0", "validation/1"] * 2
    assert [e["caption"] for e in found] == ["bee (is ant)", "bee"] * 2
    assert len(list((logger.log_dir / "samples").iterdir())) == 2  # each image once
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    with image.open(logger.log_dir / found[0]["image"]) as opened:
        pixels = np.asarray(opened)
    x = data.dataset[0][0].numpy() * np.reshape([0.5, 1, 2], (3, 1, 1)) + 0.5
    np.testing.assert_array_equal(
        pixels, (np.clip(x, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0)
    )


@pytest.mark.parametrize("shape", [(5, 7), (1, 5, 7), (3, 5, 7)])
def test_png_files_are_read_by_others(shape):
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    with image.open(io.BytesIO(encode_png(pixels))) as opened:
        found = np.asarray(opened)
    expected = pixels.transpose(1, 2, 0) if shape[0] == 3 else pixels.reshape(5, 7)
    np.testing.assert_array_equal(found, expected)


def test_png_of_something_else_is_an_error():
    with pytest.raises(ShapeError, match=r"needs \(H, W\), \(1, H, W\) or \(3, H, W\), got"):
        encode_png(np.zeros((2, 5, 5)))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.second(F.relu(x + self.first(x)))


def test_the_graph_goes_around_a_residual():
    graph = train.model_graph(Residual(), mg.zeros(3, 4))
    assert [(n.name, n.kind, n.shape, n.parameters, n.row) for n in graph.layers] == [
        ("input", "", "(3, 4)", 0, 0),
        ("first", "Linear", "(3, 4)", 20, 1),
        ("second", "Linear", "(3, 2)", 10, 2),
        ("output", "", "(3, 2)", 0, 3),
    ]
    edges = {(e.source, e.target): e.through for e in graph.edges}
    assert edges == {(0, 1): "", (0, 2): "add, relu", (1, 2): "add, relu", (2, 3): ""}


def test_the_graph_of_a_run_ends_at_the_loss(tmp_path):
    _, directory = trained(tmp_path, [train.GraphMonitor()])
    graph = json.loads((directory / "graph.json").read_text())
    names = [layer["name"] for layer in graph["layers"]]
    assert names == ["input 0", "input 1", "norm", "net.0", "net.1", "net.2", "net.3", "output"]
    last = [edge for edge in graph["edges"] if edge["target"] == 7]
    assert {names[edge["source"]] for edge in last} == {"net.3", "input 1"}


@pytest.mark.parametrize(
    "make", [lambda: train.HistogramMonitor(0), lambda: train.SampleMonitor(0)]
)
def test_arguments_are_checked(make):
    with pytest.raises(ArgumentError, match="must be at least 1, got 0"):
        make()
