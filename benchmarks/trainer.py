"""What the Trainer adds to a step, beside the same step under `mg.jit` in a loop by hand.

    python benchmarks/trainer.py                    # the workload `tiny`
    python benchmarks/trainer.py --workload mlp-small --steps 500 --rounds 20

`list`: the batches stand in a list, so that a step is little else than its own cost. `loader`: a
DataLoader cuts and shuffles them. `logged`: the loss is logged, in the loop by hand kept in a list.
`mean`: its mean over the epoch, too, which the loop by hand takes of its list at the end.
Microseconds a step, in rounds that take turns: the best round of each, and the median over rounds
of the ratio of neighbours.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import numpy as np  # noqa: E402
from models import WORKLOADS, Workload, build  # noqa: E402

import monograph as mg  # noqa: E402
from monograph import optim, train  # noqa: E402
from monograph.data import DataLoader, TensorDataset  # noqa: E402
from monograph.nn import functional as F  # noqa: E402


def optimizer_of(w: Workload, parameters) -> optim.Optimizer:
    if w.optimizer == "sgd":
        return optim.SGD(parameters, lr=w.lr, momentum=0.9)
    return {"adam": optim.Adam, "adamw": optim.AdamW}[w.optimizer](parameters, lr=w.lr)


class Module(train.TrainModule):
    def __init__(self, w: Workload, logs: str):
        super().__init__()
        self.w, self.logs = w, logs
        self.net = build(mg, w.name)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self.net(x).reshape(-1, self.w.classes), y.reshape(-1))
        if self.logs:
            self.log("loss", loss, on_epoch=self.logs == "mean")
        return loss

    def configure_optimizers(self):
        return optimizer_of(self.w, self.parameters())


class Clock(train.Callback):
    """Seconds from one batch to the last of an epoch."""

    def on_train_epoch_start(self, trainer, module):
        self.started = time.perf_counter()

    def on_train_epoch_end(self, trainer, module):
        self.times.append(time.perf_counter() - self.started)

    def on_fit_start(self, trainer, module):
        self.times = []


def by_hand(w: Workload, logs: str):
    """A function of batches that trains on all of them and returns seconds."""
    model = build(mg, w.name)
    optimizer = optimizer_of(w, model.parameters())

    @mg.jit
    def step(x, y):
        loss = F.cross_entropy(model(x).reshape(-1, w.classes), y.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    def run(batches) -> float:
        losses = []
        started = time.perf_counter()
        for x, y in batches:
            loss = step(x, y)
            if logs:
                losses.append(loss)
        float(loss)
        if logs == "mean":
            sum(map(float, losses)) / len(losses)
        return time.perf_counter() - started

    return run


def by_trainer(w: Workload, logs: str, batches):
    """A function that trains one more epoch and returns seconds."""
    clock = Clock()
    trainer = train.Trainer(max_epochs=1, callbacks=clock, enable_progress_bar=False)
    trainer.fit(Module(w, logs), batches)
    loop = trainer._loop  # to go on with `fit` for an epoch at a time

    def run(_) -> float:
        trainer.max_epochs += 1
        loop.run(None)
        return clock.times[-1]

    return run


def compare(w: Workload, kind: str, logs: str, steps: int, rounds: int) -> None:
    x, y = w.data()
    pairs = [(mg.tensor(x), mg.tensor(y)) for _ in range(min(steps, 64))]
    if kind == "list":
        batches = [pairs[i % len(pairs)] for i in range(steps)]
    else:
        rows = TensorDataset(
            *(mg.tensor(np.concatenate([a] * steps)[: steps * len(x)]) for a in (x, y))
        )
        batches = DataLoader(rows, len(x), shuffle=True)
    hand, trainer = by_hand(w, logs), by_trainer(w, logs, batches)
    for _ in range(3):
        hand(batches), trainer(batches)
    gc.collect()
    times = []
    for turn in range(rounds):
        order = (hand, trainer) if turn % 2 else (trainer, hand)
        found = {who: who(batches) / steps * 1e6 for who in order}
        times.append((found[hand], found[trainer]))
    ratio = statistics.median(b / a for a, b in times)
    best = [min(t[k] for t in times) for k in (0, 1)]
    print(
        f"{w.name:10} {kind:7} {logs:7} by hand {best[0]:8.2f} us   "
        f"Trainer {best[1]:8.2f} us   +{best[1] - best[0]:5.2f} us  "
        f"{100 * (best[1] / best[0] - 1):+5.1f} %   median {100 * (ratio - 1):+5.1f} %",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workload", default="tiny", choices=sorted(WORKLOADS))
    parser.add_argument("--steps", type=int, default=1000, help="of a round")
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()
    mg.set_flush_denormal(True)
    for kind in ("list", "loader"):
        for logs in ("", "logged", "mean"):
            compare(WORKLOADS[args.workload], kind, logs, args.steps, args.rounds)


if __name__ == "__main__":
    main()
