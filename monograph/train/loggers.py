"""Loggers: where logged numbers go. CSVLogger writes a table, JSONLinesLogger a line per step.

tensorboard.py has the one for TensorBoard.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import ArgumentError
from .png import encode_png


class Logger:
    """Base class: receives numbers by name at a step."""

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        """Take in the numbers of a step."""
        raise NotImplementedError(f"{type(self).__name__}.log_metrics is not defined")

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        """Take in what save_hyperparameters kept."""

    # What a logger cannot keep it may leave out.

    def log_histogram(self, name: str, values: Any, step: int) -> None:
        """Take in the distribution of numbers (of any shape) under a name."""

    def log_image(self, name: str, image: Any, step: int, caption: str = "") -> None:
        """Take in an image: (C, H, W) or (H, W), floats in [0, 1] or uint8; C is 1 or 3."""

    def log_text(self, name: str, text: str, step: int) -> None:
        """Take in a text under a name."""

    def log_graph(self, graph: Any) -> None:
        """Take in the graph of the model's layers (a ModelGraph)."""

    def finalize(self) -> None:
        """Training is over: write what is not written."""


class FileLogger(Logger):
    """A logger that writes to <save_dir>/<name>/version_<n>/.

    version  a number or a name; by default the first number that is free
    """

    def __init__(self, save_dir: Any, name: str = "logs", version: int | str | None = None):
        self.save_dir, self.name = Path(save_dir), name
        self._version = version

    @property
    def version(self) -> int | str:
        if self._version is None:
            taken = [
                int(path.name.removeprefix("version_"))
                for path in (self.save_dir / self.name).glob("version_*")
                if path.name.removeprefix("version_").isdigit()
            ]
            self._version = max(taken, default=-1) + 1
        return self._version

    @property
    def log_dir(self) -> Path:
        """The directory of this run."""
        version = self.version
        folder = f"version_{version}" if isinstance(version, int) else version
        return self.save_dir / self.name / folder


class JSONLinesLogger(FileLogger):
    """Append a JSON object for each logged step to <log_dir>/metrics.jsonl.

    Each line has "step", "time" (seconds since 1970) and the metrics; nan and infinities are the
    strings "nan", "inf" and "-inf". Hyper-parameters go to hparams.json, distributions to
    histograms.jsonl, images and texts to samples.jsonl and samples/, the model's graph to
    graph.json. Lines are written as they come, so that other programs (`monograph board`) can
    follow the files.
    """

    BINS = 40

    def __init__(self, save_dir: Any, name: str = "logs", version: int | str | None = None):
        super().__init__(save_dir, name, version)
        self._begun: set[str] = set()  # files that this object has written to

    @property
    def path(self) -> Path:
        """The file of lines."""
        return self.log_dir / "metrics.jsonl"

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        if not metrics:
            return
        values = {name: json_number(value) for name, value in metrics.items()}
        self._append("metrics.jsonl", step, values)

    def _append(self, file_name: str, step: int, values: dict[str, Any]) -> None:
        line = json.dumps({"step": step, "time": round(time.time(), 3), **values})
        self.log_dir.mkdir(parents=True, exist_ok=True)
        with open(self.log_dir / file_name, "ab+") as file:
            if file_name not in self._begun:  # a run that was killed may have left half a line
                self._begun.add(file_name)
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    line = line if file.read() == b"\n" else "\n" + line
            file.write(line.encode() + b"\n")

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        if params:
            self.log_dir.mkdir(parents=True, exist_ok=True)
            text = json.dumps(params, indent=1, default=str)
            (self.log_dir / "hparams.json").write_text(text)

    def log_histogram(self, name: str, values: Any, step: int) -> None:
        """Append "name", "edges" (of the bins), "counts" and "odd" (nan and infinite ones)."""
        numbers = np.asarray(values).reshape(-1).astype(np.float64)
        finite = numbers[np.isfinite(numbers)]
        counts, edges = np.histogram(finite, self.BINS) if finite.size else ([], [])
        entry = {
            "name": name,
            "edges": [float(f"{edge:.6g}") for edge in edges],
            "counts": [int(count) for count in counts],
            "odd": int(numbers.size - finite.size),
        }
        self._append("histograms.jsonl", step, entry)

    def log_image(self, name: str, image: Any, step: int, caption: str = "") -> None:
        content = encode_png(image)
        place = f"samples/{hashlib.sha256(content).hexdigest()[:20]}.png"
        path = self.log_dir / place
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():  # an image that is shown again and again is kept once
            path.write_bytes(content)
        self._append("samples.jsonl", step, {"name": name, "image": place, "caption": caption})

    def log_text(self, name: str, text: str, step: int) -> None:
        self._append("samples.jsonl", step, {"name": name, "text": text})

    def log_graph(self, graph: Any) -> None:
        self.log_dir.mkdir(parents=True, exist_ok=True)
        (self.log_dir / "graph.json").write_text(json.dumps(graph.as_dict()))


def json_number(value: float) -> float | str:
    """A number as JSON has it; nan and infinities as strings."""
    return value if math.isfinite(value) else str(value)


class CSVLogger(FileLogger):
    """Write metrics to <save_dir>/<name>/version_<n>/metrics.csv, a row per logged step.

    version               a number or a name; by default the first number that is free
    flush_logs_every_n_steps  rows to gather before they are written

    A column is a metric; a cell is empty where the metric was not logged at that step. When a new
    metric appears the file is written anew with its column.
    """

    def __init__(
        self,
        save_dir: Any,
        name: str = "logs",
        version: int | str | None = None,
        flush_logs_every_n_steps: int = 100,
    ):
        if flush_logs_every_n_steps < 1:
            raise ArgumentError(
                "CSVLogger: flush_logs_every_n_steps must be at least 1, "
                f"got {flush_logs_every_n_steps}"
            )
        super().__init__(save_dir, name, version)
        self._every = flush_logs_every_n_steps
        self._rows: list[dict[str, float]] = []
        self._written = 0  # rows in the file
        self._columns: list[str] = []

    @property
    def path(self) -> Path:
        """The table."""
        return self.log_dir / "metrics.csv"

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        if not metrics:
            return
        if self._rows and self._rows[-1]["step"] == step and len(self._rows) > self._written:
            self._rows[-1].update(metrics)
        else:
            self._rows.append({"step": step, **metrics})
        if len(self._rows) - self._written > self._every:
            self._write(len(self._rows) - 1)  # the newest row may still grow

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        if params:
            self.log_dir.mkdir(parents=True, exist_ok=True)
            with open(self.log_dir / "hparams.csv", "w", newline="") as file:
                csv.writer(file).writerows([("name", "value"), *params.items()])

    def finalize(self) -> None:
        self._write(len(self._rows))

    def _write(self, until: int) -> None:
        new = self._rows[self._written : until]
        if not new:
            return
        self.log_dir.mkdir(parents=True, exist_ok=True)
        names = {name: None for row in new for name in row}
        columns = [*self._columns, *(n for n in names if n not in self._columns)]
        anew = columns != self._columns
        self._columns = columns
        path = self.path
        target = path.with_name(f".metrics.part{os.getpid()}") if anew else path
        with open(target, "w" if anew else "a", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="")
            if anew:
                writer.writeheader()
            writer.writerows(self._rows[:until] if anew else new)
        if anew:
            os.replace(target, path)
        self._written = until
