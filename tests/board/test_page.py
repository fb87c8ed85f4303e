"""The board's page in a real browser: what it draws while a run goes on, and no console errors."""

import os
import subprocess
import sys
import threading
import urllib.request
import zlib

import numpy as np
import pytest

from monograph import train
from monograph.board import Board

from . import chromium

pytestmark = [
    pytest.mark.skipif(
        sys.platform == "win32" or chromium.find() is None,
        reason="needs Chromium to show the page",
    ),
    pytest.mark.timeout(240),
]

CURVES = "document.querySelectorAll('svg .curve').length"
PROGRAM = """
import sys, time
import monograph as mg
from monograph import nn, optim, train
from monograph.data import DataLoader, TensorDataset
from monograph.nn import functional as F


class Net(train.TrainModule):
    def __init__(self, width=4):
        super().__init__()
        self.save_hyperparameters()
        self.conv = nn.Conv2d(3, width, 3, padding=1)
        self.head = nn.Linear(width * 64, 2)

    def forward(self, x):
        return self.head(F.relu(self.conv(x) + x.mean(1, keepdim=True)).flatten(1))

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def on_train_batch_end(self, *args):
        time.sleep(0.08)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self):
        return optim.SGD(self.parameters(), lr=0.1)


data = DataLoader(TensorDataset(mg.rand(24, 3, 8, 8), mg.arange(24) % 2), 8)
logger = train.JSONLinesLogger(sys.argv[1], name="going", version="")
watch = [train.HistogramMonitor(10), train.GraphMonitor(), train.SystemMonitor(),
         train.SampleMonitor(4, names=["cat", "dog"])]
train.Trainer(max_epochs=400, log_every_n_steps=1, logger=logger, callbacks=watch,
              enable_progress_bar=False).fit(Net(), data, data)
"""


@pytest.fixture
def page(tmp_path):
    made = chromium.Page(tmp_path / "profile")
    yield made
    made.close()


def show(page, view):
    page.evaluate(f"document.querySelector('[data-view={view}]').click()")


def set_value(page, name, value):
    page.evaluate(
        f"(e => {{ e.type === 'checkbox' ? e.checked = {value} : e.value = {value}; "
        f"e.dispatchEvent(new Event('input')); }})(document.getElementById('{name}'))"
    )


def texts(page, selector):
    return page.evaluate(f"[...document.querySelectorAll('{selector}')].map(e => e.textContent)")


def colors(path):
    """How many different values the pixels' bytes of a screenshot have (a blank one: few)."""
    content, at, packed = path.read_bytes(), 8, b""
    while at < len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        if content[at + 4 : at + 8] == b"IDAT":
            packed += content[at + 8 : at + 8 + size]
        at += 12 + size
    return len(np.unique(np.frombuffer(zlib.decompress(packed), np.uint8)))


def test_the_page_follows_a_run_that_goes_on(page, tmp_path):
    runs = tmp_path / "runs"
    runs.mkdir()
    with Board(runs, port=0) as board:
        page.open(f"{board.url}?every=200")
        page.wait_for("document.getElementById('view').textContent.startsWith('No numbers yet')")
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(runs)], env=environment)
        try:
            page.wait_for(f"{CURVES} >= 2", timeout_s=120)
            steps = "Number(document.querySelector('.run .steps').textContent)"
            first = page.evaluate(steps)
            drawn = page.evaluate("document.querySelector('svg .curve').getAttribute('d')")
            page.wait_for(f"{steps} > {first} + 3")
            page.wait_for(
                f"document.querySelector('svg .curve').getAttribute('d').length > {len(drawn)}"
            )
            assert page.evaluate("document.getElementById('status').textContent").startswith("live")
            page.screenshot(tmp_path / "curves.png")

            show(page, "histograms")
            page.wait_for("document.querySelectorAll('svg .ridge').length >= 8", timeout_s=60)
            assert "conv.weight" in str(texts(page, "h3"))
            show(page, "samples")
            page.wait_for("[...document.images].filter(i => i.naturalWidth === 8).length === 4")
            assert {t.split()[0] for t in texts(page, "figcaption")} <= {"cat", "dog"}
            show(page, "graph")
            page.wait_for("document.querySelectorAll('svg .box').length >= 5")
            assert {"conv: Conv2d", "head: Linear", "output"} <= set(texts(page, "svg .layer"))
            show(page, "system")
            page.wait_for(f"{CURVES} >= 3")
            assert "system/memory_mib" in texts(page, "h3")
            show(page, "settings")
            page.wait_for("document.querySelector('table') !== null")
            assert texts(page, "th")[-1] == "width" and texts(page, "td") == ["4"]
        finally:
            process.kill()
            process.wait()
        assert page.errors == []
    assert colors(tmp_path / "curves.png") > 50
    page.wait_for("document.getElementById('status').className === 'gone'")


def test_curves_are_smoothed_filtered_zoomed_and_compared(page, tmp_path):
    for name, factor in (("a", 1.0), ("b", 2.0)):
        logger = train.JSONLinesLogger(tmp_path / "runs", name=name, version="")
        for step in range(1, 101):
            logger.log_metrics({"loss": factor * 10.0 ** (-step / 25), "rate": 0.1}, step)
        logger.log_metrics({"loss": float("inf")}, 101)
    with Board(tmp_path / "runs", port=0) as board:
        page.open(f"{board.url}?every=200")
        page.wait_for(f"{CURVES} === 4")
        assert texts(page, ".run .name") == ["a", "b"]
        assert texts(page, "[data-metric=loss] small") == ["2 not finite"]

        def heights():
            d = page.evaluate(
                "document.querySelector('[data-metric=loss] .curve').getAttribute('d')"
            )
            return [float(p.split(" ")[1]) for p in d[1:].split("L")]

        plain = heights()
        set_value(page, "log", "true")
        straight = heights()
        # Exponential decay is a straight line on a logarithmic axis, and none without.
        assert np.ptp(np.diff(straight)) < 0.3 < np.ptp(np.diff(plain))
        set_value(page, "log", "false")
        set_value(page, "smoothing", "0.9")
        assert page.evaluate("document.querySelectorAll('[data-metric=loss] .raw').length") == 2
        assert heights()[50] < plain[50]  # higher up: the average lags behind what falls
        set_value(page, "smoothing", "0")
        set_value(page, "filter", "'lo+s'")
        assert texts(page, "h3") == ["2 not finiteloss"]
        set_value(page, "filter", "'('")  # not an expression: everything
        assert page.evaluate(CURVES) == 4
        page.evaluate("document.querySelector('.run input').click()")
        page.wait_for(f"{CURVES} === 2")

        box = page.evaluate(
            "(r => [r.left, r.top, r.width, r.height])"
            "(document.querySelector('[data-metric=loss] svg').getBoundingClientRect())"
        )
        x, y = box[0] + 0.5 * box[2], box[1] + 0.5 * box[3]
        page.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        page.wait_for("document.getElementById('tip').textContent.startsWith('b: 0.')")
        page.send(
            "Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, button="left", clickCount=1
        )
        page.send("Input.dispatchMouseEvent", type="mouseMoved", x=x + 60, y=y, button="left")
        page.send(
            "Input.dispatchMouseEvent", type="mouseReleased", x=x + 60, y=y, button="left",
            clickCount=1,
        )  # fmt: skip
        page.wait_for("state.zoom !== null && state.zoom[1] - state.zoom[0] < 30")
        assert len(heights()) < 40
        assert page.errors == []


def test_the_page_fits_a_narrow_window(page, tmp_path):
    logger = train.JSONLinesLogger(tmp_path / "runs", name="a", version="")
    logger.log_metrics({"loss": 1.0}, 1)
    with Board(tmp_path / "runs", port=0) as board:
        size = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
        page.send("Emulation.setDeviceMetricsOverride", **size)
        page.open(f"{board.url}?every=200")
        page.wait_for(f"{CURVES} === 1")
        assert page.evaluate("document.documentElement.scrollWidth") == 400
        assert page.errors == []


def test_names_are_text_and_not_markup(page, tmp_path):
    wrong = "<img src=x onerror=alert(1)>"
    logger = train.JSONLinesLogger(tmp_path / "runs", name="<b>bold", version="")
    logger.log_metrics({wrong: 1.0}, 1)
    logger.log_text(wrong, wrong, 1)
    logger.log_hyperparams({wrong: wrong})
    with Board(tmp_path / "runs", port=0) as board:
        page.open(f"{board.url}?every=200")
        page.wait_for("document.querySelectorAll('.card').length === 1")
        assert texts(page, ".run .name") == ["<b>bold"]
        for view in ("samples", "settings"):
            show(page, view)
            page.wait_for(f"document.getElementById('view').textContent.includes({wrong!r})")
            assert page.evaluate("document.querySelectorAll('#view img, .run b b').length") == 0
        assert page.errors == []


def test_many_readers_at_once(tmp_path):
    logger = train.JSONLinesLogger(tmp_path, name="a", version="")
    with Board(tmp_path, port=0) as board:
        failed = []

        def read():
            try:
                for _ in range(20):
                    urllib.request.urlopen(f"{board.url}api/runs", timeout=20).read()
                    urllib.request.urlopen(f"{board.url}page.js", timeout=20).read()
            except Exception as error:
                failed.append(error)

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for step in range(200):
            logger.log_metrics({"loss": 1.0}, step)
        for thread in threads:
            thread.join()
        assert not failed
        (run,) = board.runs.refresh()
        assert len(run.curves(1000)["loss"]["step"]) == 200


def test_a_view_chosen_while_another_is_asked_for(page, tmp_path):
    """The answers for the view before, which arrive late, must not leave the new one empty."""
    logger = train.JSONLinesLogger(tmp_path / "runs", name="a", version="")
    logger.log_metrics({"loss": 1.0}, 1)
    logger.log_text("said", "some words", 1)
    logger.log_hyperparams({"width": 8})
    with Board(tmp_path / "runs", port=0) as board:
        page.open(f"{board.url}?every=60000")
        page.wait_for("document.querySelectorAll('.card').length === 1")
        page.evaluate(
            "(() => { const plain = window.fetch; window.fetch = (url, ...more) => {"
            " const late = String(url).includes('/api/samples') ? 200"
            " : String(url).includes('/api/settings') ? 600 : 0;"
            " return new Promise(done => setTimeout(done, late)).then(() => plain(url, ...more));"
            " }; })()"
        )
        show(page, "samples")
        show(page, "settings")
        page.wait_for("document.getElementById('view').textContent.includes('width')", 10)
        show(page, "samples")
        page.wait_for("document.getElementById('view').textContent.includes('some words')")
