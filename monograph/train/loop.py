"""The training loop, to be read from top to bottom: epochs, batches, validation in between.

FitLoop keeps where training is (epoch, batch, step) on the Trainer, where callbacks look for it and
checkpoints take it from. Read next: steps.py (what one step does), evaluation.py, state.py.
"""

from __future__ import annotations

import warnings
from typing import Any

from ..core.errors import ArgumentError, DataError
from .batches import END, batch_size, limited
from .evaluation import EvalLoop
from .fingerprint import code_hashes, data_hash
from .hooks import is_own
from .module import TrainModule
from .seeding import random_state, set_random_state
from .state import own_state
from .steps import TrainStep


class FitLoop:
    """Trains a module with batches of `loader`, validates with `val_loaders`."""

    def __init__(self, trainer: Any, loader: Any, val_loaders: list[Any]):
        self.trainer, self.module, self.loader = trainer, trainer.module, loader
        self.validation_loaders = val_loaders
        self.validation = EvalLoop(trainer, "validation", val_loaders) if val_loaders else None
        self.step = TrainStep(trainer, trainer.module, trainer.optimizers)
        self.epochs_done = 0
        self.epoch_random: Any = None  # the random state in which the epoch in progress began
        self.epoch_data: Any = None  # and the loader's own
        self.validated_at = 0  # batches of the epoch that were done at the last validation
        self._warned: set[str] = set()
        self._hashes: dict[str, Any] | None = None

    def hashes(self) -> dict[str, Any]:
        """Of the code and the data that this run is made of, taken once; for checkpoints."""
        if self._hashes is None:
            things = [self.module, getattr(self.loader, "dataset", self.loader)]
            if self.trainer.datamodule is not None:
                things.append(self.trainer.datamodule)
            self._hashes = {"code": code_hashes(*things), "data": data_hash(self.loader)}
        return self._hashes

    def run(self, random: Any) -> None:
        """Train until it is time to stop. `random`: the state out of a checkpoint, or None."""
        if random is not None:
            set_random_state(random)
        while not self.is_done():
            self.run_epoch(random)
            random = None

    def is_done(self) -> bool:
        trainer = self.trainer
        return (
            (trainer.should_stop and self.may_stop())
            or 0 <= trainer.max_epochs <= self.epochs_done
            or 0 <= trainer.max_steps <= trainer.global_step
        )

    def may_stop(self) -> bool:
        """Whether enough epochs and steps were made for a callback to end training."""
        trainer = self.trainer
        return trainer.received_signal is not None or (
            self.epochs_done >= trainer.min_epochs and trainer.global_step >= trainer.min_steps
        )

    def stops_now(self) -> bool:
        trainer = self.trainer
        return (trainer.should_stop and self.may_stop()) or (
            0 <= trainer.max_steps <= trainer.global_step
        )

    # One epoch

    def run_epoch(self, random: Any) -> None:
        trainer, hooks = self.trainer, self.trainer.hooks
        trainer.current_epoch = self.epochs_done
        resumes = bool(trainer.batches_done)
        batches = self.begin_epoch()
        batch = next(batches, END)
        if resumes:
            set_random_state(random)  # after what fetching may have drawn
            self.validate_if_due(batch is END)  # the checkpoint may have been taken just before
        while batch is not END:
            if (trainer.should_stop or trainer.max_steps >= 0) and self.stops_now():
                break
            following = next(batches, END)
            is_last = following is END
            self.run_batch(batch, is_last)
            if self.checks_every:
                self.validate_if_due(is_last)
            batch = following
        if trainer.batches_done == 0:
            raise DataError(
                f"Trainer: the training data gave no batches in epoch {trainer.current_epoch}"
            )
        is_whole = batch is END
        if self.validation and self.checks_every is None and self.validates_this_epoch():
            self.validation.run()
        if is_whole:
            self.step_schedules("epoch")
        self.end_epoch(is_whole)
        hooks.tell_callbacks("on_train_epoch_end")

    def begin_epoch(self) -> Any:
        """The epoch's batches; those that were done before a checkpoint are passed over."""
        trainer, hooks, loader = self.trainer, self.trainer.hooks, self.loader
        done = trainer.batches_done
        if done:  # the same order is drawn again
            set_random_state(self.epoch_random)
            if self.epoch_data is not None:
                loader.load_state_dict(self.epoch_data)
        else:
            trainer._train_book.begin()
            self.validated_at = 0
            self.epoch_random = random_state()
            self.epoch_data = own_state(loader)
        for part in ("sampler", "batch_sampler", "dataset"):
            set_epoch = getattr(getattr(loader, part, None), "set_epoch", None)
            if set_epoch is not None:
                set_epoch(trainer.current_epoch)
        hooks.tell("on_train_epoch_start")
        count = trainer.num_training_batches
        if done and hasattr(loader, "skip_batches"):
            loader.skip_batches(done)
            batches = limited(loader, None if count is None else count - done)
        else:
            batches = limited(loader, count)
            for _ in range(done):
                next(batches, END)
        # Asked here and not for each batch: most hooks of a batch are empty.
        self.checks_every = self.batches_between_checks()
        self.starts_heard = hooks.anyone("on_train_batch_start")
        self.module_hears_ends = is_own(self.module, "on_train_batch_end", TrainModule)
        self.ends = hooks.listeners("on_train_batch_end")
        self.window = trainer.accumulate_grad_batches
        self.log_every = trainer.log_every_n_steps
        self.steps_schedules = any(s.interval == "step" for s in trainer._schedules)
        return batches

    def end_epoch(self, is_whole: bool) -> None:
        """Close the epoch. One that was cut short (max_steps, a callback) stays open in
        checkpoints: training that resumes goes on with its next batch."""
        trainer, book = self.trainer, self.trainer._train_book
        trainer.hooks.tell_module("on_train_epoch_end")
        trainer.read_steps()
        sums = dict(book.sums)
        if is_whole:
            book.finish_metrics()
        values = book.epoch_values()
        trainer.publish(book, values)
        trainer.log_metrics({"epoch": trainer.current_epoch, **book.for_loggers(values)})
        if is_whole:
            self.epochs_done = trainer.current_epoch + 1
            trainer.batches_done = 0
        else:
            book.sums = sums

    # One batch

    def run_batch(self, batch: Any, is_last: bool) -> None:
        trainer, book = self.trainer, self.trainer._train_book
        index = trainer.batches_done
        if self.starts_heard:
            trainer.hooks.tell("on_train_batch_start", batch, index, weight=batch_size(batch))
        ends = self.window == 1 or is_last or (index + 1) % self.window == 0
        outputs, logged, updated = self.step(batch, index, ends)
        trainer.batches_done = index + 1
        logs_now = False
        if updated:
            trainer.global_step = step = trainer.global_step + 1
            if self.steps_schedules:
                self.step_schedules("step")
            logs_now = step % self.log_every == 0
        if logs_now:
            trainer.read_steps()  # so that what is read below is this step's
        trainer._last_outputs = outputs
        if logged:
            size = self.step.compiled.samples(batch) if book.weighs else 1
            if type(logged) is tuple:
                book.add_shared(logged, outputs, size)
            else:
                book.add(logged, size)
            if self.step.compiled.numbers:
                self.warn_of_numbers()
        if self.module_hears_ends:
            trainer.hooks.tell_module(
                "on_train_batch_end", outputs, batch, index, weight=batch_size(batch)
            )
        if logs_now:
            trainer.log_metrics(book.for_loggers(trainer.read_steps()))
        if self.ends:
            book.start(True, False)
            for hook in self.ends:
                hook(trainer, self.module, outputs, batch, index)
            if book.open:
                book.add(book.take(), batch_size(batch))
                if logs_now:
                    trainer.log_metrics(book.for_loggers(trainer.read_steps()))

    def warn_of_numbers(self) -> None:
        """Python numbers that a captured step has logged: each of its calls will give the same."""
        if not self.step.compiled.jit:
            return
        for name in sorted(self.step.compiled.numbers - self._warned):
            self._warned.add(name)
            warnings.warn(
                f"log: {name!r} is a Python number inside a compiled step, which keeps the value "
                "it had when the step was captured; log a tensor, or log it in on_train_batch_end",
                RuntimeWarning,
                stacklevel=2,
            )

    def step_schedules(self, interval: str) -> None:
        trainer = self.trainer
        count = trainer.global_step if interval == "step" else trainer.current_epoch + 1
        for schedule in trainer._schedules:
            if schedule.rests or schedule.interval != interval or count % schedule.frequency:
                continue
            if not schedule.listens:
                schedule.scheduler.step()
                continue
            metrics = trainer.callback_metrics
            if schedule.monitor in metrics:
                schedule.scheduler.step(metrics[schedule.monitor])
            elif schedule.strict:
                known = ", ".join(sorted(metrics)) or "nothing"
                raise DataError(
                    f"Trainer: {type(schedule.scheduler).__name__} listens to "
                    f"{schedule.monitor!r}, which was not logged; logged so far: {known}"
                )

    # Validation

    def validates_this_epoch(self) -> bool:
        return (self.trainer.current_epoch + 1) % self.trainer.check_val_every_n_epoch == 0

    def batches_between_checks(self) -> int | None:
        """Training batches between validations inside an epoch; None: at its end."""
        interval = self.trainer.val_check_interval
        if self.validation is None or not self.validates_this_epoch():
            return None
        if isinstance(interval, int):
            return interval
        if interval == 1.0:
            return None
        if self.trainer.num_training_batches is None:
            raise ArgumentError(
                "Trainer: a float val_check_interval needs training data with a length",
                hint="give a number of batches",
            )
        return max(1, int(self.trainer.num_training_batches * interval))

    def validate_if_due(self, is_last: bool) -> None:
        every, done = self.checks_every, self.trainer.batches_done
        if every and done and done % every == 0 and self.validated_at != done:
            self.validated_at = done
            self.trainer.is_inside_epoch = not is_last
            self.validation.run()  # type: ignore[union-attr]
            self.trainer.is_inside_epoch = False
