"""`mg.plot`: each picture shows what it was given."""

import numpy as np
import pytest

import monograph as mg
from monograph import models, nn, plot, train
from monograph.core.errors import ArgumentError, ShapeError
from monograph.nn import functional as F

matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")
matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    matplotlib.pyplot.close("all")


def drawn(figure):
    """The figure's axes that show something, after drawing it."""
    figure.canvas.draw()
    return [ax for ax in figure.axes if ax.has_data() or ax.texts]


def test_curves_of_runs(tmp_path):
    for name, factor in (("a", 1.0), ("b", 2.0)):
        logger = train.JSONLinesLogger(tmp_path, name=name, version="")
        for step in range(1, 6):
            logger.log_metrics({"loss": factor / step, "epoch": 0.0}, step)
    logger.log_metrics({"accuracy": 0.5}, 5)
    first, second = drawn(plot.curves(tmp_path, log=True))
    assert [first.get_title(), second.get_title()] == ["accuracy", "loss"]
    assert second.get_yscale() == "log"
    a, b = second.get_lines()
    np.testing.assert_allclose(a.get_ydata(), 1 / np.arange(1, 6))
    np.testing.assert_allclose(b.get_xdata(), np.arange(1, 6))


def test_smoothing_is_a_running_average_that_starts_right():
    (ax,) = drawn(plot.curves({"loss": [1.0, 1.0, np.nan, 3.0]}, smoothing=0.5))
    plain, smooth = ax.get_lines()
    np.testing.assert_array_equal(plain.get_ydata(), [1.0, 1.0, np.nan, 3.0])
    # Weights 1/2, 1/4, 1/8 from the newest on, divided by their sum.
    np.testing.assert_allclose(smooth.get_ydata()[[0, 1, 3]], [1, 1, (1.5 + 0.25 + 0.125) / 0.875])


def test_curves_of_pairs_and_what_is_not_there(tmp_path):
    (ax,) = drawn(plot.curves({"rate": ([10, 20], [0.1, 0.2])}))
    assert ax.get_lines()[0].get_xdata().tolist() == [10, 20]
    with pytest.raises(ArgumentError, match="nothing was logged as loss; there is rate"):
        plot.curves({"rate": [1.0]}, "loss")
    with pytest.raises(ArgumentError, match="nothing was logged as anything; there is nothing"):
        plot.curves(tmp_path)
    with pytest.raises(ArgumentError, match=r"smoothing must be in \[0, 1\), got 1"):
        plot.curves({"a": [1.0]}, smoothing=1)


def test_confusion_matrix_shows_counts_and_shares():
    counts = mg.tensor([[3, 1], [0, 4]])
    (ax,) = drawn(plot.confusion_matrix(counts, ["cat", "dog"]))
    assert [t.get_text() for t in ax.texts] == ["3", "1", "0", "4"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["cat", "dog"]
    (ax,) = drawn(plot.confusion_matrix(counts, normalize=True))
    assert [t.get_text() for t in ax.texts] == ["0.75", "0.25", "0.00", "1.00"]
    with pytest.raises(ShapeError, match=r"needs \(classes, classes\), got \(2, 3\)"):
        plot.confusion_matrix(np.zeros((2, 3)))
    with pytest.raises(ArgumentError, match="3 names for 2 classes"):
        plot.confusion_matrix(counts, "abc")


@pytest.mark.parametrize("shape", [(5, 8, 8), (5, 1, 8, 8), (5, 3, 8, 8)])
def test_samples_with_captions(shape):
    images = mg.rand(*shape)
    axes = drawn(plot.samples(images, range(5), columns=3))
    assert [ax.get_title() for ax in axes] == list("01234")
    shown = np.asarray(axes[4].images[0].get_array(), np.float64) / 255
    expected = images[4].numpy().reshape(-1, 8, 8).transpose(1, 2, 0)
    np.testing.assert_allclose(shown.reshape(expected.shape), expected, atol=0.003)
    with pytest.raises(ArgumentError, match="2 captions for 5 images"):
        plot.samples(images, "ab")


def net():
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def test_histograms_of_weights_gradients_and_activations():
    model = net()
    names = [name for name, _ in model.named_parameters()]
    axes = drawn(plot.histograms(model))
    assert [ax.get_title() for ax in axes] == names
    assert sum(bar.get_height() for bar in axes[0].patches) == 12
    with pytest.raises(ArgumentError, match="the model has no gradients"):
        plot.histograms(model, "gradients")
    model(mg.rand(6, 3)).sum().backward()
    assert [ax.get_title() for ax in drawn(plot.histograms(model, "gradients"))] == names
    model[2].weight.data[0, 0] = float("nan")
    axes = drawn(plot.histograms(model, "activations", mg.rand(6, 3)))
    assert [ax.get_title() for ax in axes] == ["0", "1", "2 (6 not finite)"]
    assert sum(bar.get_height() for bar in axes[2].patches) == 6
    for what, message in (("biases", "what must be one of"), ("activations", "need a batch")):
        with pytest.raises(ArgumentError, match=message):
            plot.histograms(model, what)


def test_the_graph_of_a_model(tmp_path):
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(3, 3)

        def forward(self, x):
            return x + F.relu(self.inner(x))

    (ax,) = drawn(plot.plot_model(Residual(), mg.zeros(2, 3), tmp_path / "m.svg"))
    texts = [t.get_text() for t in ax.texts if t.get_text()]
    assert texts == ["input\n(2, 3)", "inner: Linear\n(2, 3)  12", "output\n(2, 3)"]
    assert len([t for t in ax.texts if not t.get_text()]) == 3  # arrows
    assert (tmp_path / "m.svg").read_text().startswith("<?xml")
    model = models.Sequential([models.Input((3,)), models.layers.Dense(4)])
    (ax,) = drawn(plot.plot_model(model))
    assert any("(1, 4)  16" in t.get_text() for t in ax.texts)
    with pytest.raises(ArgumentError, match="plot_model: needs a batch"):
        plot.plot_model(net())
