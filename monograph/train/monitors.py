"""Callbacks that watch: how fast training is, and what predictions are."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

import monograph as mg

from ..core.errors import ArgumentError
from .batches import batch_size
from .callbacks import Callback


class ThroughputMonitor(Callback):
    """Log samples and batches per second, and where the time of a step goes.

    length_fn      batch -> its length in other units (tokens): logged as length_per_sec
    window         steps over which is measured; values are logged at the Trainer's log steps
    flops          of one training step (mg.estimate gives them): logged as gflops_per_sec

    Logs throughput/batches_per_sec, samples_per_sec, data_share (the part of the time spent waiting
    for data and in other callbacks) and, where asked for, length_per_sec and gflops_per_sec.
    """

    def __init__(self, length_fn: Any = None, window: int = 100, flops: float | None = None):
        if window < 1:
            raise ArgumentError(f"ThroughputMonitor: window must be at least 1, got {window}")
        self.length_fn, self.window, self.flops = length_fn, window, flops

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        self._begin()

    def _begin(self) -> None:
        self._started = time.perf_counter()
        self._inside = 0.0
        self._samples = self._batches = self._length = 0

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        self._step = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        self._inside += now - self._step
        self._batches += 1
        self._samples += batch_size(batch)
        if self.length_fn is not None:
            self._length += self.length_fn(batch)
        if trainer.logs_at(trainer.global_step):
            elapsed_s = now - self._started
            values = {
                "batches_per_sec": self._batches / elapsed_s,
                "samples_per_sec": self._samples / elapsed_s,
                "data_share": 1.0 - self._inside / elapsed_s,
            }
            if self.length_fn is not None:
                values["length_per_sec"] = self._length / elapsed_s
            if self.flops is not None:
                values["gflops_per_sec"] = self.flops * self._batches / self._inside / 1e9
            trainer.log_metrics({f"throughput/{k}": v for k, v in values.items()})
        if self._batches >= self.window:
            self._begin()

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        if trainer.is_inside_epoch:
            self._begin()


class PredictionWriter(Callback):
    """Write what predict_step returns to files, so that it need not be kept in memory.

    output_dir       where; one file for each batch (and loader), or one at the end
    write_interval   "batch": <loader>-<batch>.safetensors as each is done; "epoch": all predictions
                     of a loader, joined along the first axis, as <loader>.safetensors

    Predictions are tensors, arrays, or dicts, lists and tuples of them; each becomes a tensor of
    the file under its place ("logits", "0"; "prediction" where there is one alone). mg.load_file
    reads them.
    """

    def __init__(self, output_dir: Any, write_interval: str = "epoch"):
        if write_interval not in ("batch", "epoch"):
            raise ArgumentError(
                "PredictionWriter: write_interval must be 'batch' or 'epoch', "
                f"got {write_interval!r}"
            )
        self.output_dir, self.write_interval = Path(output_dir), write_interval
        self._batches: dict[int, list[dict[str, Any]]] = {}
        self._loader, self._count = 0, 0

    def on_predict_start(self, trainer: Any, module: Any) -> None:
        self.output_dir.mkdir(parents=True, exist_ok=True)
        self._batches, self._loader, self._count = {}, -1, 0

    def on_predict_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._loader += batch_idx == 0
        tensors = dict(_named(outputs))
        if self.write_interval == "batch":
            mg.save_file(tensors, self.output_dir / f"{self._loader}-{batch_idx:06}.safetensors")
        else:
            self._batches.setdefault(self._loader, []).append(tensors)

    def on_predict_end(self, trainer: Any, module: Any) -> None:
        for loader, parts in self._batches.items():
            joined = {
                name: np.concatenate([np.atleast_1d(_array(part[name])) for part in parts])
                for name in parts[0]
            }
            mg.save_file(joined, self.output_dir / f"{loader}.safetensors")
        self._batches = {}


def _array(x: Any) -> np.ndarray:
    return x.detach().numpy() if isinstance(x, mg.Tensor) else np.asarray(x)


def _named(outputs: Any, place: str = "") -> Any:
    """(name, tensor) of each tensor in a prediction."""
    if isinstance(outputs, dict):
        for key, value in outputs.items():
            yield from _named(value, f"{place}.{key}" if place else str(key))
    elif isinstance(outputs, (list, tuple)):
        for i, value in enumerate(outputs):
            yield from _named(value, f"{place}.{i}" if place else str(i))
    elif outputs is not None:
        yield place or "prediction", outputs
