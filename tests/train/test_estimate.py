"""The memory that mg.estimate foretells, beside what training takes."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
from pathlib import Path

import monograph as mg
from monograph import nn, optim, train
from monograph.nn import functional as F


def resident(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))


class Wide(train.TrainModule):
    def __init__(self, width):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1500, width), nn.ReLU(), nn.Linear(width, 1500))

    def training_step(self, batch, batch_idx):
        return F.mse_loss(self.net(batch), batch)

    def configure_optimizers(self):
        return optim.Adam(self.parameters())


class Watch(train.Callback):
    def on_train_start(self, trainer, module):
        Path("/proc/self/clear_refs").write_text("5")


def fit(width, size):
    module, batch = Wide(width), mg.ones(size, 1500)
    train.Trainer(max_steps=2, callbacks=Watch(), enable_progress_bar=False).fit(module, [batch])
    return module, batch


fit(8, 4)
before = resident("VmRSS")
module, batch = fit(5000, 300)
print(resident("VmHWM") - before, mg.estimate(module, batch).peak_bytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_the_peak_is_what_a_process_grows_by(tmp_path):
    for _ in range(3):  # the last one compiles nothing
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env=os.environ | {"MONOGRAPH_CACHE_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
    measured, estimated = map(int, done.stdout.split())
    assert estimated == pytest.approx(measured, rel=0.05)
