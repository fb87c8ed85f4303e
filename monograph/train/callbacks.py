"""Callbacks: what happens beside training. Here the base class and those that decide when to stop
or watch; model_checkpoint.py and progress.py hold two larger ones.
"""

from __future__ import annotations

import math
import time
from datetime import timedelta
from typing import Any

from ..core.errors import ArgumentError, DataError


class Callback:
    """Base class: every method is a hook with the trainer and the module as first arguments.

    A callback that keeps something gives it out in state_dict, and it goes into checkpoints.
    """

    @property
    def state_key(self) -> str:
        """The name of this callback's state in a checkpoint."""
        return type(self).__name__

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint should hold."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what state_dict gave."""

    def setup(self, trainer: Any, module: Any, stage: str) -> None:
        """First of all; stage is "fit", "validate", "test" or "predict"."""

    def teardown(self, trainer: Any, module: Any, stage: str) -> None:
        """Last of all, also after an exception."""

    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        """An exception (KeyboardInterrupt included) ends the run."""


def _add_hooks() -> None:
    """The hooks of TrainModule, with the trainer and the module before their own arguments."""

    def add(name: str, text: str) -> None:
        def hook(self: Callback, trainer: Any, module: Any, *args: Any) -> None:
            pass

        hook.__name__, hook.__qualname__, hook.__doc__ = name, f"Callback.{name}", text
        setattr(Callback, name, hook)

    for name, text in {
        "on_fit_start": "Before training.",
        "on_fit_end": "After training.",
        "on_train_start": "Before the first epoch, after a checkpoint was restored.",
        "on_train_end": "After the last epoch.",
        "on_train_epoch_start": "Before an epoch.",
        "on_train_epoch_end": "After an epoch, its validation and its schedules.",
        "on_train_batch_start": "Before a step; arguments batch, batch_idx.",
        "on_train_batch_end": "After a step; arguments outputs, batch, batch_idx.",
        "on_save_checkpoint": "A checkpoint is about to be written; argument: its state.",
        "on_load_checkpoint": "A checkpoint was read; argument: its state.",
    }.items():
        add(name, text)
    for kind, what in (("validation", "validation"), ("test", "testing"), ("predict", "predict")):
        add(f"on_{kind}_start", f"Before {what}.")
        add(f"on_{kind}_end", f"After {what}; its metrics are in trainer.callback_metrics.")
        add(f"on_{kind}_epoch_start", f"Before the batches of {what}.")
        add(f"on_{kind}_epoch_end", f"After the batches of {what}.")
        add(f"on_{kind}_batch_start", "Before a batch; arguments batch, batch_idx.")
        add(f"on_{kind}_batch_end", "After a batch; arguments outputs, batch, batch_idx.")


_add_hooks()


def check_mode(owner: str, mode: str) -> None:
    if mode not in ("min", "max"):
        raise ArgumentError(f"{owner}: mode must be 'min' or 'max', got {mode!r}")


def monitored(trainer: Any, owner: str, name: str) -> float:
    """The value of a logged metric; DataError lists what there is."""
    if name in trainer.callback_metrics:
        return trainer.callback_metrics[name]
    known = ", ".join(sorted(trainer.callback_metrics)) or "nothing"
    raise DataError(
        f"{owner}: the metric {name!r} was not logged; logged so far: {known}",
        hint=f"self.log({name!r}, value) in validation_step, or in training_step with "
        "on_epoch=True",
    )


class EarlyStopping(Callback):
    """Stop when a metric has not improved for `patience` checks.

    monitor       the name of the metric
    min_delta     the smallest change that counts as an improvement
    mode          "min": lower is better; "max": higher is better
    strict        raise if the metric was not logged (else: skip the check)
    check_finite  stop when the metric is nan or infinite
    stopping_threshold    stop once the metric is at least as good as this
    divergence_threshold  stop once the metric is worse than this
    check_on_train_epoch_end  when to check; by default after validation, or without validation
                  after each epoch
    """

    def __init__(
        self,
        monitor: str,
        min_delta: float = 0.0,
        patience: int = 3,
        verbose: bool = False,
        mode: str = "min",
        strict: bool = True,
        check_finite: bool = True,
        stopping_threshold: float | None = None,
        divergence_threshold: float | None = None,
        check_on_train_epoch_end: bool | None = None,
    ):
        check_mode("EarlyStopping", mode)
        self.monitor, self.min_delta, self.patience = monitor, abs(min_delta), patience
        self.verbose, self.mode, self.strict, self.check_finite = (
            verbose,
            mode,
            strict,
            check_finite,
        )
        self.stopping_threshold = stopping_threshold
        self.divergence_threshold = divergence_threshold
        self.check_on_train_epoch_end = check_on_train_epoch_end
        self.wait_count = 0
        self.stopped_epoch = 0
        self.best_score = math.inf if mode == "min" else -math.inf
        self.reason = ""

    @property
    def state_key(self) -> str:
        return f"EarlyStopping[{self.monitor},{self.mode}]"

    def state_dict(self) -> dict[str, Any]:
        names = ("wait_count", "stopped_epoch", "best_score")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        if not self.check_on_train_epoch_end and trainer.is_training:
            self._check(trainer)

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        by_default = self.check_on_train_epoch_end is None and not trainer.has_validation
        if by_default or self.check_on_train_epoch_end:
            self._check(trainer)

    def _better(self, a: float, b: float, margin: float = 0.0) -> bool:
        return a < b - margin if self.mode == "min" else a > b + margin

    def _check(self, trainer: Any) -> None:
        if not self.strict and self.monitor not in trainer.callback_metrics:
            return
        value = monitored(trainer, "EarlyStopping", self.monitor)
        limit, worst = self.stopping_threshold, self.divergence_threshold
        if self.check_finite and not math.isfinite(value):
            self._stop(trainer, f"{self.monitor} is {value}")
        elif limit is not None and not self._better(limit, value):
            self._stop(trainer, f"{self.monitor} = {value:.6g} reached {limit:.6g}")
        elif worst is not None and self._better(worst, value):
            self._stop(trainer, f"{self.monitor} = {value:.6g} is worse than {worst:.6g}")
        elif self._better(value, self.best_score, self.min_delta):
            self.best_score, self.wait_count = value, 0
        else:
            self.wait_count += 1
            if self.wait_count >= self.patience:
                self._stop(
                    trainer,
                    f"{self.monitor} did not improve on {self.best_score:.6g} "
                    f"in {self.wait_count} checks",
                )

    def _stop(self, trainer: Any, reason: str) -> None:
        trainer.should_stop = True
        self.stopped_epoch = trainer.current_epoch
        self.reason = reason
        if self.verbose:
            print(f"EarlyStopping: {reason}")


class LearningRateMonitor(Callback):
    """Log the learning rates under lr-<optimizer>, with /pg<n> for each of several groups.

    logging_interval  "step", "epoch", or None: "step" where a schedule steps each step
    log_momentum      also log momentum, or the first of betas, under lr-<optimizer>-momentum
    """

    def __init__(self, logging_interval: str | None = None, log_momentum: bool = False):
        if logging_interval not in (None, "step", "epoch"):
            raise ArgumentError(
                "LearningRateMonitor: logging_interval must be 'step', 'epoch' or None, "
                f"got {logging_interval!r}"
            )
        self.logging_interval = logging_interval
        self.log_momentum = log_momentum

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if self.logging_interval != "epoch" and trainer.logs_at(trainer.global_step + 1):
            self._log(trainer, trainer.global_step + 1)

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        if self.logging_interval == "epoch":
            self._log(trainer, trainer.global_step)

    def _log(self, trainer: Any, step: int) -> None:
        values: dict[str, float] = {}
        names: dict[str, int] = {}
        for optimizer in trainer.optimizers:
            kind = type(optimizer).__name__
            names[kind] = names.get(kind, 0) + 1
            name = f"lr-{kind}" + (f"-{names[kind] - 1}" if names[kind] > 1 else "")
            for i, group in enumerate(optimizer.param_groups):
                ending = f"/pg{i + 1}" if len(optimizer.param_groups) > 1 else ""
                values[name + ending] = float(group["lr"])
                if self.log_momentum:
                    momentum = group["betas"][0] if "betas" in group else group.get("momentum", 0)
                    values[f"{name}-momentum{ending}"] = float(momentum)
        trainer.log_metrics(values, step)


class Timer(Callback):
    """Measure the time of training, validation and testing; stop training after `duration`.

    duration  seconds, a timedelta, a dict for timedelta, or "DD:HH:MM:SS"; None: no limit
    interval  look at the clock after each "step" or each "epoch"
    """

    def __init__(self, duration: Any = None, interval: str = "step"):
        if interval not in ("step", "epoch"):
            raise ArgumentError(f"Timer: interval must be 'step' or 'epoch', got {interval!r}")
        self.interval = interval
        self.duration_s = None if duration is None else _seconds(duration)
        self._before: dict[str, float] = {}
        self._started: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        stages = ("train", "validate", "test")
        return {"elapsed_s": {stage: self.time_elapsed(stage) for stage in stages}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._before = dict(state["elapsed_s"])

    def time_elapsed(self, stage: str = "train") -> float:
        """Seconds spent in "train" (validation included), "validate" or "test"."""
        started = self._started.get(stage)
        running = 0.0 if started is None else time.monotonic() - started
        return self._before.get(stage, 0.0) + running

    def time_remaining(self, stage: str = "train") -> float | None:
        """Seconds until the limit, or None."""
        return None if self.duration_s is None else self.duration_s - self.time_elapsed(stage)

    def _start(self, stage: str) -> None:
        self._started[stage] = time.monotonic()

    def _end(self, stage: str) -> None:
        self._before[stage] = self.time_elapsed(stage)
        self._started.pop(stage, None)

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self._start("train")

    def on_train_end(self, trainer: Any, module: Any) -> None:
        self._end("train")

    def on_validation_start(self, trainer: Any, module: Any) -> None:
        self._start("validate")

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        self._end("validate")

    def on_test_start(self, trainer: Any, module: Any) -> None:
        self._start("test")

    def on_test_end(self, trainer: Any, module: Any) -> None:
        self._end("test")

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.interval == "step":
            self._check(trainer)

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        self._check(trainer)

    def _check(self, trainer: Any) -> None:
        remaining = self.time_remaining()
        if remaining is not None and remaining <= 0:
            trainer.should_stop = True


def _seconds(duration: Any) -> float:
    if isinstance(duration, dict):
        duration = timedelta(**duration)
    if isinstance(duration, timedelta):
        return duration.total_seconds()
    if isinstance(duration, str):
        parts = duration.split(":")
        if len(parts) == 4 and all(part.strip().isdigit() for part in parts):
            days, hours, minutes, seconds = map(int, parts)
            return ((days * 24 + hours) * 60 + minutes) * 60.0 + seconds
        raise ArgumentError(f'Timer: duration must look like "DD:HH:MM:SS", got {duration!r}')
    return float(duration)
