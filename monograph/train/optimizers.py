"""What configure_optimizers may return, in one form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..core.errors import ArgumentError, ArgumentTypeError
from ..optim import Optimizer
from ..optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

_OPTIONS = ("scheduler", "interval", "frequency", "monitor", "strict", "name")


@dataclass
class Schedule:
    """A learning-rate schedule and when to step it."""

    scheduler: Any
    interval: str = "epoch"
    frequency: int = 1
    monitor: str | None = None
    strict: bool = True
    name: str | None = None
    rests = False  # a callback has taken over the learning rates

    @property
    def listens(self) -> bool:
        """Whether its step takes the value of a metric."""
        return isinstance(self.scheduler, ReduceLROnPlateau)


def parse(configured: Any) -> tuple[list[Optimizer], list[Schedule]]:
    """(optimizers, schedules) out of any form that configure_optimizers may return.

    None; an optimizer; a dict with "optimizer" and perhaps "lr_scheduler"; a list of optimizers or
    of such dicts; ([optimizers], [schedulers]), a scheduler being one or a dict of options.
    """
    if configured is None:
        return [], []
    if isinstance(configured, Optimizer):
        return [configured], []
    if isinstance(configured, dict):
        return _of_dict(configured)
    if isinstance(configured, (list, tuple)):
        if len(configured) == 2 and all(isinstance(part, (list, tuple)) for part in configured):
            optimizers, schedulers = configured
            return _optimizers(optimizers), [_schedule(s) for s in schedulers]
        if configured and all(isinstance(part, dict) for part in configured):
            parts = [_of_dict(part) for part in configured]
            return [o for part, _ in parts for o in part], [s for _, part in parts for s in part]
        return _optimizers(configured), []
    raise _wrong(configured)


def _of_dict(configured: dict) -> tuple[list[Optimizer], list[Schedule]]:
    unknown = set(configured) - {"optimizer", "lr_scheduler", "monitor"}
    if "optimizer" not in configured or unknown:
        raise ArgumentError(
            "configure_optimizers: a dict must have 'optimizer' and may have 'lr_scheduler' and "
            f"'monitor', got {sorted(configured)}"
        )
    optimizers = _optimizers([configured["optimizer"]])
    given = configured.get("lr_scheduler")
    if given is None:
        return optimizers, []
    schedule = _schedule(given)
    if schedule.monitor is None:
        schedule.monitor = configured.get("monitor")
    return optimizers, [_checked(schedule)]


def _optimizers(values: Any) -> list[Optimizer]:
    for value in values:
        if not isinstance(value, Optimizer):
            raise _wrong(value)
    return list(values)


def _schedule(given: Any) -> Schedule:
    if not isinstance(given, dict):
        schedule = Schedule(given)
    else:
        unknown = set(given) - set(_OPTIONS)
        if unknown or "scheduler" not in given:
            raise ArgumentError(
                "configure_optimizers: a scheduler's dict must have 'scheduler' and may have "
                f"{', '.join(map(repr, _OPTIONS[1:]))}, got {sorted(given)}"
            )
        schedule = Schedule(**given)
    if not isinstance(schedule.scheduler, LRScheduler):
        raise _wrong(schedule.scheduler, "a learning-rate schedule")
    if schedule.interval not in ("epoch", "step"):
        raise ArgumentError(
            f"configure_optimizers: interval must be 'epoch' or 'step', got {schedule.interval!r}"
        )
    if not isinstance(given, dict):
        return schedule
    return schedule if schedule.monitor is None else _checked(schedule)


def _checked(schedule: Schedule) -> Schedule:
    if schedule.listens and schedule.monitor is None:
        raise ArgumentError(
            f"configure_optimizers: {type(schedule.scheduler).__name__} needs the name of the "
            "metric that it listens to",
            hint='{"scheduler": ..., "monitor": "val_loss"}',
        )
    return schedule


def _wrong(value: Any, expected: str = "an Optimizer") -> ArgumentTypeError:
    return ArgumentTypeError(
        f"configure_optimizers: expected {expected}, got {type(value).__name__}"
    )
