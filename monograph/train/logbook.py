"""What `self.log` collects: values of steps, means of epochs, weighted by batch size.

A step that is captured runs its Python once, so logged tensors leave it as outputs; what was said
about them (progress bar, per step, per epoch) is kept by name. Values are taken in as they are and
read (`flush`) when somebody asks: a step pays for an update of a dict. Read next: steps.py.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

import monograph as mg

from ..core.errors import ArgumentError, ArgumentTypeError
from ..metrics import Metric
from ..metrics.base import Later

_PENDING = 256  # steps whose values may wait to be summed
_REDUCTIONS = ("mean", "sum", "min", "max")


@dataclass(frozen=True)
class Entry:
    """How one name is logged."""

    prog_bar: bool
    on_step: bool
    on_epoch: bool
    logger: bool
    reduce_fx: str
    batch_size: int | None

    def names(self, name: str) -> tuple[str, str]:
        """The names of the step's value and of the epoch's."""
        if self.on_step and self.on_epoch:
            return f"{name}_step", f"{name}_epoch"
        return name, name


class LogBook:
    """Collects values during a phase ("train", "validate", "test")."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self._names: dict[str, set[str]] = {}  # attribute -> names of entries that have it set
        self.open: dict[str, Any] | None = None  # what the step or hook in progress has logged
        self.sums: dict[str, list] = {}  # name -> [reduced value, weight]
        self.metrics: dict[str, Metric] = {}  # logged objects, by name
        self.newest: dict[str, Any] = {}  # values of steps, not yet read
        # Newer than both: values that several names share, and their weights.
        self._shared: tuple[str, ...] = ()
        self._value: Any = None
        self._rows: list[tuple[Any, int]] = []
        self.pending: list[tuple[dict[str, Any], int]] = []  # (values, weight) for `sums`
        self.steps: dict[str, float] = {}  # newest values of steps, under their step names
        self.step_on, self.epoch_on = True, False  # the defaults of the phase
        self.weighs = False  # whether weights of steps matter: something is logged by epoch

    def start(self, on_step: bool, on_epoch: bool) -> None:
        """Begin to collect for a step or a hook; what was not flushed is dropped."""
        self.open, self.step_on, self.epoch_on = {}, on_step, on_epoch

    def log(
        self, name: str, value: Any, prog_bar: bool, logger: bool, on_step: bool | None,
        on_epoch: bool | None, reduce_fx: str, batch_size: int | None,
    ) -> None:  # fmt: skip
        if self.open is None:
            raise ArgumentError(
                f"log: {name!r} is logged while no step, epoch or hook of a Trainer is running"
            )
        if reduce_fx not in _REDUCTIONS:
            raise ArgumentError(
                f"log: reduce_fx must be one of {', '.join(_REDUCTIONS)}, got {reduce_fx!r}"
            )
        if isinstance(value, mg.Tensor):
            if value.numel() != 1:
                raise ArgumentError(
                    f"log: {name!r} must be one number, got a tensor of shape {tuple(value.shape)}"
                )
            value = value.detach()
        elif isinstance(value, Later):
            pass  # what a metric says of the batch, when the step has run
        elif isinstance(value, Metric):
            if on_step:
                raise ArgumentError(
                    f"log: {name!r} is a {type(value).__name__}, which is computed once an epoch",
                    hint="on_step=True: log the number that calling the metric gives",
                )
            self.metrics[name] = value
            on_step, on_epoch = False, True
        elif isinstance(value, (int, float, np.number, np.bool_)):
            value = float(value)
        else:
            raise ArgumentTypeError(
                f"log: {name!r} must be a number or a tensor, got {type(value).__name__}"
            )
        if not isinstance(value, Metric):
            self.open[name] = value
        self.weighs = self.weighs or bool(self.epoch_on if on_epoch is None else on_epoch)
        self._names = {}
        self.entries[name] = Entry(
            prog_bar,
            self.step_on if on_step is None else on_step,
            self.epoch_on if on_epoch is None else on_epoch,
            logger,
            reduce_fx,
            batch_size,
        )

    def take(self) -> dict[str, Any]:
        """What was logged since `start`, by name."""
        taken, self.open = self.open or {}, None
        return taken

    def add(self, values: dict[str, Any], weight: int, suffix: str = "") -> None:
        """Take in the values of one step of `weight` samples."""
        if suffix:
            self._names = {}
            for name in values:
                self.entries.setdefault(name + suffix, self.entries[name])
            values = {name + suffix: value for name, value in values.items()}
        if values:
            self._unfold()
            self.newest.update(values)
            if self.weighs:
                self.pending.append((values, weight))
                if len(self.pending) >= _PENDING:
                    self._reduce_pending()

    def add_shared(self, names: tuple[str, ...], value: Any, weight: int) -> None:
        """`add` where all names have one value: what a step pays for that logs its loss."""
        if self._shared is not names:
            self._unfold()
            self._shared = names
        self._value = value
        if self.weighs:
            self._rows.append((value, weight))
            if len(self._rows) >= _PENDING:
                self._reduce_pending()

    def _unfold(self) -> None:
        names, self._shared = self._shared, ()
        if names:
            rows, self._rows = self._rows, []
            self.pending += [(dict.fromkeys(names, value), weight) for value, weight in rows]
            self.newest.update(dict.fromkeys(names, self._value))
            self._value = None

    def flush(self) -> dict[str, float]:
        """The newest values of steps since the last flush, under their step names."""
        self._read()
        steps, self.steps = self.steps, {}
        return steps

    def _read(self) -> None:
        self._reduce_pending()
        self._unfold()
        newest, self.newest = self.newest, {}
        for name, value in newest.items():
            entry = self.entries[name]
            if entry.on_step:
                self.steps[entry.names(name)[0]] = float(value)

    def _reduce_pending(self) -> None:
        pending, self.pending = self.pending, []
        rows, self._rows = self._rows, []
        shared = [float(value) for value, _ in rows]
        for name, entry in self.entries.items() if pending or rows else ():
            if not entry.on_epoch:
                continue
            values = [float(v[name]) for v, _ in pending if name in v]
            weights = [weight for v, weight in pending if name in v]
            if name in self._shared:
                values += shared
                weights += [weight for _, weight in rows]
            if entry.batch_size:
                weights = [entry.batch_size] * len(values)
            if values:
                self._reduce(name, entry.reduce_fx, values, weights)

    def _reduce(self, name: str, reduce_fx: str, values: list[float], weights: list[int]) -> None:
        """Take in values, one after the other: the same bits however they are grouped."""
        total, count = self.sums.get(name, (None, 0))
        if reduce_fx == "mean":
            total = total or 0.0
            for value, weight in zip(values, weights):
                total += value * weight
        elif reduce_fx == "sum":
            total = total or 0.0
            for value in values:  # `sum` would round otherwise
                total += value
        else:
            pick = min if reduce_fx == "min" else max
            total = pick(values if total is None else [total, *values])
        self.sums[name] = [total, count + sum(weights)]

    def epoch_values(self) -> dict[str, float]:
        """The values over the epoch so far, under their epoch names; forgets them."""
        self._read()
        values: dict[str, float] = {}
        for name, (total, weight) in self.sums.items():
            entry = self.entries[name]
            mean = total / weight if weight else float("nan")
            values[entry.names(name)[1]] = mean if entry.reduce_fx == "mean" else total
        self.sums = {}
        return values

    def finish_metrics(self, suffix: str = "") -> None:
        """Compute the logged Metric objects: their values are those of the epoch."""
        self._names = {}
        for name, metric in self.metrics.items():
            self.entries[name + suffix] = self.entries[name]
            self.sums[name + suffix] = [float(metric.compute()), 1]
            metric.reset()

    def begin(self) -> None:
        """A new epoch: forget the sums."""
        self._read()
        self.sums, self.steps = {}, {}

    def state_dict(self) -> dict[str, Any]:
        """The sums of the epoch in progress, for a checkpoint."""
        self._read()
        return {
            "entries": {name: asdict(entry) for name, entry in self.entries.items()},
            "sums": {name: list(pair) for name, pair in self.sums.items()},
            "steps": dict(self.steps),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what state_dict gave."""
        self._names = {}
        self.entries = {name: Entry(**entry) for name, entry in state["entries"].items()}
        self.weighs = any(entry.on_epoch for entry in self.entries.values())
        self.sums, self.steps = state["sums"], state.get("steps", {})

    def _wanted(self, values: dict[str, float], attribute: str) -> dict[str, float]:
        names = self._names.get(attribute)
        if names is None:
            wanted = [x.names(name) for name, x in self.entries.items() if getattr(x, attribute)]
            names = self._names[attribute] = {name for pair in wanted for name in pair}
        return {name: value for name, value in values.items() if name in names}

    def for_bar(self, values: dict[str, float]) -> dict[str, float]:
        return self._wanted(values, "prog_bar")

    def for_loggers(self, values: dict[str, float]) -> dict[str, float]:
        return self._wanted(values, "logger")
