"""Finding a learning rate and a batch size before training.

Both leave model, optimizers and random state as they were.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import monograph as mg

from ..core.errors import ArgumentError, DataError
from ..data import DataLoader
from .callbacks import Callback
from .seeding import random_state, set_random_state
from .trainer import Trainer


@dataclass(frozen=True)
class LRCurve:
    """What lr_find measured: the loss at each learning rate."""

    lrs: list[float]
    losses: list[float]

    def suggestion(self, skip_begin: int = 10, skip_end: int = 1) -> float:
        """The rate at which the smoothed loss falls fastest (per factor of the rate)."""
        smooth = smoothed(self.losses)
        places = range(skip_begin, len(smooth) - max(skip_end, 1))
        if not places:
            raise DataError(
                f"lr_find: {len(self.losses)} steps are too few to suggest a rate",
                hint="give more num_training, or data with more batches",
            )
        return self.lrs[min(places, key=lambda i: smooth[i + 1] - smooth[i - 1])]


def smoothed(losses: list[float], beta: float = 0.9) -> list[float]:
    """Exponential moving averages, corrected for their start."""
    means, mean = [], 0.0
    for i, loss in enumerate(losses):
        mean = beta * mean + (1 - beta) * loss
        means.append(mean / (1 - beta ** (i + 1)))
    return means


class _Sweep(Callback):
    """Multiplies the learning rate at each step and notes the loss."""

    def __init__(self, lrs: list[float], stops_at: float | None):
        self.planned, self.stops_at = lrs, stops_at
        self.lrs: list[float] = []
        self.losses: list[float] = []

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        lr = self.planned[min(trainer.global_step, len(self.planned) - 1)]
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
        for schedule in trainer._schedules:
            schedule.rests = True

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if loss is None:
            return
        value = float(loss)
        if not math.isfinite(value):
            trainer.should_stop = True
            return
        self.lrs.append(self.planned[min(trainer.global_step, len(self.planned)) - 1])
        self.losses.append(value)
        mean = smoothed(self.losses)
        if self.stops_at is not None and len(mean) > 10 and mean[-1] > self.stops_at * min(mean):
            trainer.should_stop = True


def lr_find(
    model: Any,
    train_dataloaders: Any = None,
    min_lr: float = 1e-8,
    max_lr: float = 1.0,
    num_training: int = 100,
    early_stop_threshold: float | None = 4.0,
    **options: Any,
) -> LRCurve:
    """Train for a moment with a rate that grows from min_lr to max_lr; the loss at each rate.

    early_stop_threshold  stop when the loss is so many times its lowest
    options               of the Trainer (accumulate_grad_batches, precision, jit, ...)

    Source: Smith, "Cyclical Learning Rates for Training Neural Networks" (2017).
    """
    if not 0 < min_lr < max_lr or num_training < 2:
        raise ArgumentError(
            f"lr_find: needs 0 < min_lr < max_lr and num_training of at least 2, got {min_lr}, "
            f"{max_lr}, {num_training}"
        )
    ratio = math.log(max_lr / min_lr) / (num_training - 1)
    sweep = _Sweep(
        [min_lr * math.exp(ratio * i) for i in range(num_training)], early_stop_threshold
    )
    trainer = Trainer(
        max_steps=num_training, callbacks=sweep, enable_progress_bar=False,
        limit_val_batches=0, **options,
    )  # fmt: skip
    with _Unchanged(model):
        trainer.fit(model, train_dataloaders)
    return LRCurve(sweep.lrs, sweep.losses)


@dataclass(frozen=True)
class BatchSizes:
    """What find_batch_size measured: samples per second by batch size."""

    samples_per_sec: dict[int, float]
    peak_bytes: dict[int, int]

    def suggestion(self, part: float = 0.95) -> int:
        """The smallest batch size that reaches this part of the highest rate."""
        best = max(self.samples_per_sec.values())
        return min(n for n, rate in self.samples_per_sec.items() if rate >= part * best)


def find_batch_size(
    model: Any,
    loader: DataLoader,
    start: int = 8,
    max_batch_size: int = 4096,
    memory_bytes: int | None = None,
    steps: int = 5,
    estimate: Callable | None = None,
    **options: Any,
) -> BatchSizes:
    """Measure training with doubled batch sizes, as long as they fit into memory.

    loader        its data set, collate_fn and workers are used
    memory_bytes  the planned peak of a step must stay below it; default: half of what is free
    steps         measured for each size (the fastest counts), after one that compiles
    estimate      mg.estimate, or a function like it
    """
    memory_bytes = memory_bytes or _free_bytes() // 2
    rates: dict[int, float] = {}
    peaks: dict[int, int] = {}
    size = start
    while size <= min(max_batch_size, len(loader.dataset)):
        batches = DataLoader(loader.dataset, size, drop_last=True, collate_fn=loader.collate_fn)
        batch = next(iter(batches))
        with _Unchanged(model):
            peak = (estimate or mg.estimate)(model, batch).peak_bytes
        if rates and peak > memory_bytes:
            break
        clock = _Clock()
        trainer = Trainer(
            max_steps=steps + 1, callbacks=clock, enable_progress_bar=False, limit_val_batches=0,
            **options,
        )  # fmt: skip
        with _Unchanged(model):
            trainer.fit(model, [batch] * (steps + 1))
        rates[size], peaks[size] = size / clock.fastest_s, peak
        size *= 2
    if not rates:
        raise DataError(f"find_batch_size: the data has fewer than {start} samples")
    return BatchSizes(rates, peaks)


class _Clock(Callback):
    def __init__(self) -> None:
        self.fastest_s = math.inf

    def on_train_start(self, trainer: Any, module: Any) -> None:
        for schedule in trainer._schedules:  # which may listen to what is not logged here
            schedule.rests = True

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        self._started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.fastest_s = min(self.fastest_s, time.perf_counter() - self._started)


class _Unchanged:
    """Puts a module's weights, its trainer and the random state back after the body."""

    def __init__(self, module: Any):
        self.module = module

    def __enter__(self) -> None:
        self.weights = {k: v.detach().clone() for k, v in self.module.state_dict().items()}
        self.random, self.trainer = random_state(), self.module.__dict__.get("trainer")
        self.modes = {m: m.training for m in self.module.modules()}

    def __exit__(self, *exc: Any) -> None:
        self.module.load_state_dict(self.weights)
        self.module.zero_grad()
        self.module.__dict__["trainer"] = self.trainer
        for m, mode in self.modes.items():
            m.training = mode
        set_random_state(self.random)


def _free_bytes() -> int:
    """Memory that is free, where the system says so; else 4 GiB."""
    try:
        with open("/proc/meminfo") as file:
            fields = dict(line.split(":", 1) for line in file)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return 4 << 30
