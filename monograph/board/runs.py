"""The runs below a directory, as their files tell: numbers, distributions, samples, settings.

A run is a directory with metrics.jsonl or metrics.csv (train/loggers.py). Files that grow are read
from where the last reading ended. Read next: server.py.
"""

from __future__ import annotations

import csv
import json
import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..core.errors import ArgumentError

METRICS = ("metrics.jsonl", "metrics.csv")
SETTINGS = ("config.json", "hparams.json")
LIVE_S = 60.0  # a run that wrote so recently is taken to be going on


class Lines:
    """A growing file of JSON lines: each reading gives the objects that are new."""

    def __init__(self, path: Path):
        self.path, self.offset = path, 0

    def read(self) -> tuple[bool, list[dict[str, Any]]]:
        """(whether the file began anew, objects); a last line without its end waits."""
        try:
            size = self.path.stat().st_size
        except OSError:
            size = 0
        anew = size < self.offset
        if anew:
            self.offset = 0
        if size == self.offset:
            return anew, []
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            content = file.read()
        end = content.rfind(b"\n") + 1
        self.offset += end
        found = []
        for line in content[:end].splitlines():
            try:
                entry = json.loads(line)
            except ValueError:  # cut short by a kill, and written on after it
                continue
            if isinstance(entry, dict):
                found.append(entry)
        return anew, found


class Series:
    """Values of a metric by step and time."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.times: list[float] = []
        self.values: list[float] = []

    def add(self, step: float, when: float, value: float) -> None:
        """Append a value. A run that went on from a checkpoint repeats steps: what it logged of
        them before is dropped."""
        while self.steps and self.steps[-1] >= step:
            for column in (self.steps, self.times, self.values):
                column.pop()
        self.steps.append(step)
        self.times.append(when)
        self.values.append(value)

    def thinned(self, points: int) -> dict[str, list]:
        """At most about `points` of the values, the least and the greatest of each stretch, so
        that no peak is lost. What is not finite is None."""
        keep: Any = range(len(self.steps))
        if len(self.steps) > points:
            keep = sorted(self._extremes(max(1, points // 2)))
        return {
            "step": [self.steps[i] for i in keep],
            "time": [self.times[i] for i in keep],
            "value": [self.values[i] if math.isfinite(self.values[i]) else None for i in keep],
        }

    def _extremes(self, stretches: int) -> set[int]:
        n = len(self.steps)
        keep = {0, n - 1}
        for k in range(stretches):
            inside = range(k * n // stretches, (k + 1) * n // stretches)
            finite = [i for i in inside if math.isfinite(self.values[i])]
            if finite:
                keep.add(min(finite, key=self.values.__getitem__))
                keep.add(max(finite, key=self.values.__getitem__))
            keep.update(i for i in inside[:1] if not finite)
        return keep


class Run:
    """One run; `refresh` reads what is new in its files."""

    def __init__(self, name: str, folder: Path):
        self.name, self.folder = name, folder
        self.lock = threading.Lock()
        self.series: dict[str, Series] = {}
        self.histograms: dict[str, list[dict[str, Any]]] = {}
        self.samples: dict[str, list[dict[str, Any]]] = {}
        self.versions = {"metrics": 0, "histograms": 0, "samples": 0}
        self._metrics = Lines(folder / "metrics.jsonl")
        self._histograms = Lines(folder / "histograms.jsonl")
        self._samples = Lines(folder / "samples.jsonl")
        self._table: tuple[float, int] | None = None  # of metrics.csv when it was read

    def refresh(self) -> None:
        """Read on."""
        with self.lock:
            self._read_metrics()
            for kind, lines, kept in (
                ("histograms", self._histograms, self.histograms),
                ("samples", self._samples, self.samples),
            ):
                anew, entries = lines.read()
                if anew:
                    kept.clear()
                for entry in entries:
                    if "name" in entry and "step" in entry:
                        kept.setdefault(str(entry.pop("name")), []).append(entry)
                self.versions[kind] += bool(entries or anew)

    def _read_metrics(self) -> None:
        anew, entries = self._metrics.read()
        path = self.folder / "metrics.csv"
        if not self._metrics.offset and path.is_file():
            state = path.stat()
            mark = (state.st_mtime, state.st_size)
            if mark != self._table:
                self._table, anew = mark, True
                with open(path, newline="") as file:
                    entries = list(csv.DictReader(file))  # type: ignore[arg-type]
        if anew:
            self.series.clear()
        for entry in entries:
            step, when = _number(entry.pop("step", None)), _number(entry.pop("time", None))
            if step is None:
                continue
            for name, value in entry.items():
                number = _number(value)
                if number is not None and name:
                    self.series.setdefault(name, Series()).add(step, when or 0.0, number)
        self.versions["metrics"] += bool(entries or anew)

    def settings(self) -> dict[str, str]:
        """The configuration and the hyper-parameters, flat: trainer.max_epochs -> "5"."""
        found: dict[str, str] = {}
        for name in SETTINGS:
            try:
                content = json.loads((self.folder / name).read_text())
            except (OSError, ValueError):
                continue
            found.update(_flat(content))
        path = self.folder / "hparams.csv"
        if path.is_file():
            with open(path, newline="") as file:
                found.update((row["name"], row["value"]) for row in csv.DictReader(file))
        return found

    def changed(self) -> float:
        """Seconds since 1970 of the last change of its numbers."""
        times = [p.stat().st_mtime for n in METRICS if (p := self.folder / n).is_file()]
        return max(times, default=0.0)

    def summary(self) -> dict[str, Any]:
        """What the list of runs shows."""
        with self.lock:
            steps = max((s.steps[-1] for s in self.series.values() if s.steps), default=0)
            return {
                "name": self.name,
                "versions": dict(self.versions),
                "steps": steps,
                "live": time.time() - self.changed() < LIVE_S,
                "metrics": sorted(self.series),
                "histograms": sorted(self.histograms),
                "samples": sorted(self.samples),
                "graph": (self.folder / "graph.json").is_file(),
            }

    def curves(self, points: int) -> dict[str, dict[str, list]]:
        """Every metric's values, thinned."""
        with self.lock:
            return {name: self.series[name].thinned(points) for name in sorted(self.series)}

    def distributions(self, records: int) -> dict[str, list[dict[str, Any]]]:
        """Every distribution's records, at most `records` of each, evenly, the newest included."""
        with self.lock:
            return {name: _evenly(found, records) for name, found in self.histograms.items()}

    def shown(self, records: int) -> dict[str, list[dict[str, Any]]]:
        """Every sample's records in the same way."""
        with self.lock:
            return {name: _evenly(found, records) for name, found in self.samples.items()}

    def graph(self) -> Any:
        """The graph of the model, or None."""
        try:
            return json.loads((self.folder / "graph.json").read_text())
        except (OSError, ValueError):
            return None

    def image(self, place: str) -> bytes | None:
        """The content of a sample's file; None for whatever is no file of the samples."""
        path = (self.folder / place).resolve()
        inside = (self.folder / "samples").resolve()
        if path.parent != inside or path.suffix != ".png" or not path.is_file():
            return None
        return path.read_bytes()


class Runs:
    """The runs below a directory (or the one that it is). ArgumentError if there is no such."""

    def __init__(self, directory: Any):
        self.root = Path(directory)
        if not self.root.is_dir():
            raise ArgumentError(f"board: {directory} is not a directory")
        self._known: dict[str, Run] = {}
        self._lock = threading.Lock()

    def refresh(self) -> list[Run]:
        """The runs, by name, with what is new in their files read."""
        with self._lock:
            names = dict(self._folders())
            for name in [n for n in self._known if n not in names]:
                del self._known[name]
            for name, folder in names.items():
                self._known.setdefault(name, Run(name, folder))
            runs = [self._known[name] for name in sorted(names)]
        for run in runs:
            run.refresh()
        return runs

    def _folders(self) -> Iterator[tuple[str, Path]]:
        for kind in METRICS:
            for path in self.root.rglob(kind):
                name = path.parent.relative_to(self.root).as_posix()
                yield (self.root.resolve().name if name == "." else name), path.parent

    def get(self, name: str) -> Run | None:
        """A run that the last `refresh` found."""
        return self._known.get(name)


def _number(value: Any) -> float | None:
    if value is None or value == "" or isinstance(value, (list, dict)):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _flat(content: Any, place: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(content, dict) and content:
        for name, value in content.items():
            yield from _flat(value, f"{place}.{name}" if place else str(name))
    elif isinstance(content, list) and any(isinstance(x, (dict, list)) for x in content):
        for i, value in enumerate(content):
            yield from _flat(value, f"{place}.{i}")
    else:
        yield place, content if isinstance(content, str) else json.dumps(content)


def _evenly(entries: list[Any], count: int) -> list[Any]:
    if len(entries) <= count:
        return list(entries)
    last = len(entries) - 1
    return [entries[round(i * last / (count - 1))] for i in range(count)]
