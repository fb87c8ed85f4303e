"""How long training stands still for a checkpoint: a step with one beside a step without.

    python benchmarks/checkpoint.py                 # a model of 100 MB, Adam: 300 MB of state
    python benchmarks/checkpoint.py --mb 400 --checkpoints 4

The step is short, so that what a checkpoint takes is seen. `asynchronous` copies the state in
memory and writes it in a thread; `synchronous` writes it, flushed to the disk, before the next
step. Milliseconds: the median and the longest over the checkpoints, and what the file system took.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import monograph as mg  # noqa: E402
from monograph import nn, optim, train  # noqa: E402

WIDTH = 1024


class Wide(train.TrainModule):
    """Matrices of 4 MB each, of which the loss reads all."""

    def __init__(self, mb: float, optimizer: str):
        super().__init__()
        self.optimizer = optimizer
        count = max(1, round(mb * 1e6 / (WIDTH * WIDTH * 4)))
        self.parts = nn.ParameterList([nn.Parameter(mg.randn(WIDTH, WIDTH)) for _ in range(count)])

    def training_step(self, batch, batch_idx):
        return sum((p * batch[0].mean()).mean() for p in self.parts)

    def configure_optimizers(self):
        if self.optimizer == "adam":
            return optim.Adam(self.parameters(), lr=1e-4)
        return optim.SGD(self.parameters(), lr=1e-4)


class Clock(train.ModelCheckpoint):
    """Saves at every n-th step, and times how long training waits for it."""

    def __init__(self, folder: Path, every: int, asynchronous: bool):
        super().__init__(
            folder,
            save_top_k=0,
            save_last=True,
            every_n_train_steps=every,
            asynchronous=asynchronous,
        )
        self.saving: list[float] = []
        self.stalls: list[float] = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        started = time.perf_counter()
        super().on_train_batch_end(trainer, module, outputs, batch, batch_idx)
        waited = time.perf_counter() - started
        if trainer.global_step % self.every_n_train_steps == 0:
            self.stalls.append(waited)
            started = time.perf_counter()
            trainer._writer.wait()
            self.saving.append(time.perf_counter() - started)


def measure(mb: float, optimizer: str, checkpoints: int, every: int, asynchronous: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        clock = Clock(Path(name), every, asynchronous)
        trainer = train.Trainer(
            max_steps=every * checkpoints, callbacks=clock, enable_progress_bar=False
        )
        trainer.fit(Wide(mb, optimizer), [[mg.ones(4)]])
    stalls = [1e3 * s for s in clock.stalls]
    what = "asynchronous" if asynchronous else "synchronous"
    print(
        f"{mb:6.0f} MB, {optimizer:5} {what:12}  stall: first {stalls[0]:8.1f}  median "
        f"{statistics.median(stalls[1:]):8.1f}  longest {max(stalls[1:]):8.1f} ms   then in the "
        f"background {1e3 * statistics.median(clock.saving):8.1f} ms",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mb", type=float, default=100, help="of the model's parameters")
    parser.add_argument("--checkpoints", type=int, default=4)
    parser.add_argument("--every", type=int, default=50, help="steps from one to the next")
    args = parser.parse_args()
    for optimizer in ("sgd", "adam"):
        for asynchronous in (True, False):
            measure(args.mb, optimizer, args.checkpoints, args.every, asynchronous)


if __name__ == "__main__":
    main()
