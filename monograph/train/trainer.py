"""Trainer: loops over epochs and batches, validation, logging, checkpoints, callbacks.

The shape is that of Lightning's Trainer. What one step does stands in steps.py, what may be logged
in logbook.py, files in checkpoint.py.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..core.errors import ArgumentError, ArgumentTypeError, DataError
from .callbacks import Callback, Timer
from .checkpoint import load_checkpoint, save_checkpoint
from .logbook import LogBook
from .loggers import CSVLogger, Logger
from .model_checkpoint import ModelCheckpoint
from .module import TrainModule
from .optimizers import parse
from .progress import ProgressBar
from .seeding import random_state, set_random_state
from .steps import EvalStep, TrainStep, batch_size


class Trainer:
    """Train, validate, test and predict with a TrainModule.

    max_epochs, max_steps   when to stop; -1: no limit (1000 epochs if neither is given). A step is
                            an update of the parameters
    max_time                a Timer's duration
    callbacks               one or a list; those that write checkpoints are called last
    logger                  a Logger, a list of them, or True for CSVLogger in default_root_dir
    jit                     compile each step as one program (False: run eagerly)
    gradient_clip_val, gradient_clip_algorithm
                            limit the gradients' "norm", or each "value"
    accumulate_grad_batches batches per update; each counts by its number of samples
    limit_*_batches         a number of batches, or a float in [0, 1]: that part of them
    val_check_interval      validate every n training batches, or (float) parts of an epoch
    check_val_every_n_epoch validate after every n-th epoch
    log_every_n_steps       how often loggers receive values of steps
    num_sanity_val_steps    validation batches to try before training
    fast_dev_run            True or n: one batch (n batches) of everything, nothing is written
    default_root_dir        where files go, unless a callback or logger says otherwise

    Nothing is written to disk unless a logger or a ModelCheckpoint is given.

    >>> import monograph as mg
    >>> x = mg.linspace(-1, 1, 8).reshape(8, 1)
    >>> from monograph.data import DataLoader, TensorDataset
    >>> from monograph import nn, optim
    >>> class Line(TrainModule):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.layer = nn.Linear(1, 1)
    ...     def training_step(self, batch, batch_idx):
    ...         return ((self.layer(batch[0]) - batch[1]) ** 2).mean()
    ...     def configure_optimizers(self):
    ...         return optim.SGD(self.parameters(), lr=0.5)
    >>> line = Line()
    >>> trainer = Trainer(max_epochs=30, enable_progress_bar=False)
    >>> trainer.fit(line, DataLoader(TensorDataset(x, 3 * x), batch_size=8))
    >>> round(line.layer.weight.item(), 2)
    3.0
    """

    def __init__(
        self,
        *,
        max_epochs: int | None = None,
        max_steps: int = -1,
        max_time: Any = None,
        callbacks: Any = None,
        logger: Any = None,
        jit: bool = True,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str = "norm",
        accumulate_grad_batches: int = 1,
        limit_train_batches: int | float | None = None,
        limit_val_batches: int | float | None = None,
        limit_test_batches: int | float | None = None,
        limit_predict_batches: int | float | None = None,
        val_check_interval: int | float = 1.0,
        check_val_every_n_epoch: int = 1,
        log_every_n_steps: int = 50,
        enable_progress_bar: bool = True,
        num_sanity_val_steps: int = 0,
        fast_dev_run: bool | int = False,
        default_root_dir: Any = ".",
    ):
        if gradient_clip_algorithm not in ("norm", "value"):
            raise ArgumentError(
                "Trainer: gradient_clip_algorithm must be 'norm' or 'value', "
                f"got {gradient_clip_algorithm!r}"
            )
        for name, value in (
            ("accumulate_grad_batches", accumulate_grad_batches),
            ("check_val_every_n_epoch", check_val_every_n_epoch),
            ("log_every_n_steps", log_every_n_steps),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ArgumentError(f"Trainer: {name} must be an int of at least 1, got {value!r}")
        if max_epochs is None:
            max_epochs = 1000 if max_steps == -1 else -1
        self.max_epochs, self.max_steps = max_epochs, max_steps
        self.jit = jit
        self.gradient_clip_val = gradient_clip_val
        self.gradient_clip_algorithm = gradient_clip_algorithm
        self.accumulate_grad_batches = accumulate_grad_batches
        self.limits = {
            "train": limit_train_batches,
            "validation": limit_val_batches,
            "test": limit_test_batches,
            "predict": limit_predict_batches,
        }
        self.val_check_interval = val_check_interval
        self.check_val_every_n_epoch = check_val_every_n_epoch
        self.log_every_n_steps = log_every_n_steps
        self.num_sanity_val_steps = num_sanity_val_steps
        self.default_root_dir = Path(default_root_dir)
        self.callbacks = _as_list("callbacks", callbacks, Callback)
        if logger is True:
            logger = CSVLogger(self.default_root_dir)
        self.loggers = _as_list("logger", logger or None, Logger)
        if fast_dev_run:
            self._make_fast(int(fast_dev_run))
        if max_time is not None:
            self.callbacks.append(Timer(max_time))
        if enable_progress_bar and not any(isinstance(c, ProgressBar) for c in self.callbacks):
            self.callbacks.insert(0, ProgressBar())
        self.callbacks.sort(key=lambda c: isinstance(c, ModelCheckpoint))
        self._eval_steps: dict[Any, EvalStep] = {}
        self._reset()

    def _make_fast(self, batches: int) -> None:
        self.max_epochs, self.max_steps = 1, -1
        self.limits = dict.fromkeys(self.limits, batches)
        self.val_check_interval, self.check_val_every_n_epoch = 1.0, 1
        self.loggers = []
        self.callbacks = [c for c in self.callbacks if not isinstance(c, ModelCheckpoint)]

    def _reset(self) -> None:
        self.module: Any = None
        self.optimizers: list[Any] = []
        self._schedules: list[Any] = []
        self.current_epoch = 0  # the epoch in progress
        self.global_step = 0  # updates so far
        self.batches_done = 0  # in the epoch in progress
        self._epochs_done = 0
        self.should_stop = self.interrupted = False
        self.is_training = False  # inside fit
        self.is_inside_epoch = False  # validation runs between two batches of an epoch
        self.has_validation = False
        self.num_training_batches: int | None = None
        self.num_evaluation_batches: int | None = None
        self.callback_metrics: dict[str, float] = {}
        self.logged_metrics: dict[str, float] = {}
        self.progress_bar_metrics: dict[str, float] = {}
        self._train_book = self._book = LogBook()
        self._train_step: TrainStep | None = None
        self._epoch_random: Any = None
        self._validated_at = 0  # batches of the epoch that were done at the last validation
        self._warned: set[str] = set()

    @property
    def logger(self) -> Logger | None:
        """The first logger."""
        return self.loggers[0] if self.loggers else None

    @property
    def checkpoint_callback(self) -> ModelCheckpoint | None:
        """The first ModelCheckpoint."""
        return next((c for c in self.callbacks if isinstance(c, ModelCheckpoint)), None)

    # Entry points

    def fit(
        self,
        model: TrainModule,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        ckpt_path: Any = None,
    ) -> None:
        """Train `model`, from where `ckpt_path` left off if given.

        train_dataloaders  an iterable of batches; None: model.train_dataloader()
        val_dataloaders    one or a list; None: model.val_dataloader()
        ckpt_path          a checkpoint; "last" and "best" are those of this Trainer's
                           ModelCheckpoint

        Training that resumes gives the same numbers as training that was never interrupted.
        KeyboardInterrupt ends training in good order; `interrupted` is True then.
        """
        path = self._checkpoint_path(ckpt_path)
        self._reset()
        self._attach(model)
        loader = model.train_dataloader() if train_dataloaders is None else train_dataloaders
        val_loaders = _loaders(
            model.val_dataloader() if val_dataloaders is None else val_dataloaders
        )
        self.has_validation = bool(val_loaders)
        self.num_training_batches = self._count(loader, "train")
        self.is_training = True
        with _Run(self, "fit"):
            self._fit(model, loader, val_loaders, path)
        self.is_training = False

    def validate(
        self, model: TrainModule | None = None, dataloaders: Any = None, ckpt_path: Any = None,
        verbose: bool = False,
    ) -> list[dict[str, float]]:  # fmt: skip
        """Run validation_step over the data; a dict of the logged means for each loader."""
        return self._run_evaluation("validation", model, dataloaders, ckpt_path, verbose)[0]

    def test(
        self, model: TrainModule | None = None, dataloaders: Any = None, ckpt_path: Any = None,
        verbose: bool = False,
    ) -> list[dict[str, float]]:  # fmt: skip
        """Run test_step over the data; a dict of the logged means for each loader."""
        return self._run_evaluation("test", model, dataloaders, ckpt_path, verbose)[0]

    def predict(
        self, model: TrainModule | None = None, dataloaders: Any = None, ckpt_path: Any = None
    ) -> list[Any]:
        """What predict_step returns for each batch; a list for each loader if there are several."""
        outputs = self._run_evaluation("predict", model, dataloaders, ckpt_path, False)[1]
        return outputs[0] if len(outputs) == 1 else outputs

    def _run_evaluation(
        self, kind: str, model: Any, dataloaders: Any, ckpt_path: Any, verbose: bool
    ) -> tuple[list[dict[str, float]], list[list[Any]]]:
        model = model or self.module
        if model is None:
            raise ArgumentError(f"Trainer: {kind} needs a model, for none was trained yet")
        path = self._checkpoint_path(ckpt_path)
        self._attach(model)
        if path is not None:
            model.load_state_dict(load_checkpoint(path)[0])
        source = {"validation": "val_dataloader"}.get(kind, f"{kind}_dataloader")
        loaders = _loaders(getattr(model, source)() if dataloaders is None else dataloaders)
        if not loaders:
            raise DataError(f"Trainer: {kind} was given no dataloaders")
        with _Run(self, {"validation": "validate"}.get(kind, kind)):
            values, outputs = self._evaluate(kind, loaders)
            if verbose:
                for name, value in sorted(values.items()):
                    print(f"{name:<30} {value:.6g}")
        if len(loaders) == 1:
            return [values], outputs
        parts = []
        for i in range(len(loaders)):
            end = f"/dataloader_idx_{i}"
            parts.append({k: v for k, v in values.items() if k.endswith(end)})
        return parts, outputs

    def save_checkpoint(self, filepath: Any, weights_only: bool = False) -> None:
        """Write the state of training (or the weights alone) to a directory; see checkpoint.py."""
        if self.module is None:
            raise ArgumentError("save_checkpoint: this Trainer has not trained anything yet")
        save_checkpoint(filepath, self.module.state_dict(), self._state(weights_only))

    # State

    def _attach(self, model: Any) -> None:
        if not isinstance(model, TrainModule):
            raise ArgumentTypeError(
                f"Trainer: the model must be a TrainModule, got {type(model).__name__}",
                hint="derive it from monograph.train.TrainModule and define training_step and "
                "configure_optimizers",
            )
        self.module = model
        model.__dict__["trainer"] = self

    def _checkpoint_path(self, ckpt_path: Any) -> Path | None:
        if ckpt_path not in ("best", "last"):
            return None if ckpt_path is None else Path(ckpt_path)
        callback = self.checkpoint_callback
        found = callback and getattr(callback, f"{ckpt_path}_model_path")
        if not found:
            raise DataError(f"Trainer: ckpt_path={ckpt_path!r}, but no such checkpoint was written")
        return Path(found)

    def _state(self, weights_only: bool) -> dict[str, Any]:
        module: dict[str, Any] = {}
        self.module.on_save_checkpoint(module)
        state: dict[str, Any] = {"hparams": dict(self.module.hparams), "module": module}
        if weights_only:
            return state
        assert self._train_step is not None
        state.update(
            {
                "epoch": self._epochs_done,
                "global_step": self.global_step,
                "batches_done": self.batches_done,
                "epoch_random": self._epoch_random if self.batches_done else None,
                "random": random_state(),
                "validated_at": self._validated_at,
                "logged": self._train_book.state_dict(),
                "window": self._train_step.state_dict(),
                "metrics": self.callback_metrics,
                "optimizers": [o.state_dict() for o in self.optimizers],
                "schedules": [s.scheduler.state_dict() for s in self._schedules],
                "callbacks": {c.state_key: c.state_dict() for c in self.callbacks},
            }
        )
        self._callback_hook("on_save_checkpoint", state)
        return state

    def _restore(self, path: Path) -> Any:
        """Load everything but the random state, which is returned to be set last."""
        weights, state = load_checkpoint(path)
        if "optimizers" not in state:
            raise DataError(
                f"Trainer: {path} holds weights only; training cannot be resumed from it",
                hint="model.load_state_dict(load_checkpoint(path)[0]) starts anew from the weights",
            )
        assert self._train_step is not None
        if len(state["optimizers"]) != len(self.optimizers):
            raise DataError(
                f"Trainer: {path} has the state of {len(state['optimizers'])} optimizers, the "
                f"module configures {len(self.optimizers)}"
            )
        if len(state["schedules"]) != len(self._schedules):
            raise DataError(
                f"Trainer: {path} has the state of {len(state['schedules'])} schedules, the "
                f"module configures {len(self._schedules)}"
            )
        self.module.load_state_dict(weights)
        for optimizer, saved in zip(self.optimizers, state["optimizers"]):
            optimizer.load_state_dict(saved)
        for schedule, saved in zip(self._schedules, state["schedules"]):
            schedule.scheduler.load_state_dict(saved)
        for callback in self.callbacks:
            if callback.state_key in state["callbacks"]:
                callback.load_state_dict(state["callbacks"][callback.state_key])
        self._epochs_done = self.current_epoch = state["epoch"]
        self.global_step = state["global_step"]
        self.batches_done = state["batches_done"]
        self._epoch_random = state["epoch_random"]
        self._validated_at = state["validated_at"]
        self._train_book.load_state_dict(state["logged"])
        self._train_step.load_state_dict(state["window"])
        self.callback_metrics = state["metrics"]
        self.module.on_load_checkpoint(state["module"])
        self._callback_hook("on_load_checkpoint", state)
        return state["random"]

    # Training

    def _fit(self, model: Any, loader: Any, val_loaders: list[Any], path: Path | None) -> None:
        model.train()
        self._hook("on_fit_start")
        self.optimizers, self._schedules = parse(model.configure_optimizers())
        self._train_step = TrainStep(self, model, self.optimizers)
        restored = None if path is None else self._restore(path)
        for logger in self.loggers:
            logger.log_hyperparams(model.hparams)
        if val_loaders and self.num_sanity_val_steps:
            self._evaluate("validation", val_loaders, limit=self.num_sanity_val_steps, quiet=True)
        self._hook("on_train_start")
        if restored is not None:
            set_random_state(restored)
        try:
            while not self._is_done():
                self._run_epoch(loader, val_loaders, restored)
                restored = None
        except KeyboardInterrupt as interrupt:
            self.interrupted = self.should_stop = True
            self._callback_hook("on_exception", interrupt)
        self._hook("on_train_end")
        self._hook("on_fit_end")

    def _is_done(self) -> bool:
        return (
            self.should_stop
            or (self.max_epochs >= 0 and self._epochs_done >= self.max_epochs)
            or (self.max_steps >= 0 and self.global_step >= self.max_steps)
        )

    def _run_epoch(self, loader: Any, val_loaders: list[Any], restored: Any) -> None:
        self.current_epoch = self._epochs_done
        resumes_inside = bool(self.batches_done)
        if resumes_inside:
            set_random_state(self._epoch_random)  # so that the same order is drawn again
        else:
            self._train_book.sums = {}
            self._validated_at = 0
            self._epoch_random = random_state()
        self._hook("on_train_epoch_start")
        batches = _Ahead(self._limited(loader, "train"))
        if resumes_inside:
            for _ in range(self.batches_done):
                next(batches)
            set_random_state(restored)
        every = self._checks_every() if val_loaders else None
        self._validate_if_due(every, val_loaders, batches)  # the checkpoint was taken just before
        while not batches.is_last and not self._stops_now():
            batch = next(batches)
            self._train_batch(batch, self.batches_done, batches.is_last)
            self._validate_if_due(every, val_loaders, batches)
        if self.batches_done == 0:
            raise DataError(
                f"Trainer: the training data gave no batches in epoch {self.current_epoch}"
            )
        if val_loaders and every is None and self._validates_this_epoch():
            self._validate_in_fit(val_loaders)
        self._end_epoch(batches.is_last)

    def _stops_now(self) -> bool:
        return self.should_stop or 0 <= self.max_steps <= self.global_step

    def _validate_if_due(self, every: int | None, val_loaders: list[Any], batches: _Ahead) -> None:
        done = self.batches_done
        if every and done and done % every == 0 and self._validated_at != done:
            self._validated_at = done
            self.is_inside_epoch = not batches.is_last
            self._validate_in_fit(val_loaders)
            self.is_inside_epoch = False

    def _end_epoch(self, is_whole: bool) -> None:
        """Close the epoch. One that was cut short (max_steps, a callback) stays open in
        checkpoints: training that resumes goes on with its next batch."""
        if is_whole:
            self._step_schedules("epoch")
        self._book = self._train_book
        self._module_hook("on_train_epoch_end")
        sums = dict(self._train_book.sums)
        values = self._train_book.epoch_values()
        self._publish(self._train_book, values)
        self.log_metrics({"epoch": self.current_epoch, **self._train_book.for_loggers(values)})
        if is_whole:
            self._epochs_done = self.current_epoch + 1
            self.batches_done = 0
        else:
            self._train_book.sums = sums
        self._callback_hook("on_train_epoch_end")

    def _train_batch(self, batch: Any, index: int, is_last: bool) -> None:
        book, step = self._train_book, self._train_step
        assert step is not None
        self._book = book
        size = batch_size(batch)
        self._hook("on_train_batch_start", batch, index, weight=size)
        ends = (index + 1) % self.accumulate_grad_batches == 0 or is_last
        outputs, logged, updated = step(book, batch, index, size, ends)
        self.batches_done = index + 1
        if updated:
            self.global_step += 1
            self._step_schedules("step")
        values = book.add(logged, size)
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if loss is not None and step.automatic:
            self.progress_bar_metrics["loss"] = float(loss)
        self._publish(book, values)
        self._warn_of_numbers(book, step)
        values.update(self._module_hook("on_train_batch_end", outputs, batch, index, weight=size))
        if updated and values and self.logs_at(self.global_step):
            self.log_metrics(book.for_loggers(values))
        self._callback_hook("on_train_batch_end", outputs, batch, index)

    def _warn_of_numbers(self, book: LogBook, step: TrainStep) -> None:
        compiled = step.part or step.whole
        if compiled.captured is None or not book.numbers - self._warned:
            return
        for name in sorted(book.numbers - self._warned):
            self._warned.add(name)
            warnings.warn(
                f"log: {name!r} is a Python number inside a compiled step, which keeps the value "
                "it had when the step was captured; log a tensor, or log it in on_train_batch_end",
                RuntimeWarning,
                stacklevel=2,
            )

    def _step_schedules(self, interval: str) -> None:
        count = self.global_step if interval == "step" else self.current_epoch + 1
        for schedule in self._schedules:
            if schedule.interval != interval or count % schedule.frequency:
                continue
            if not schedule.listens:
                schedule.scheduler.step()
            elif schedule.monitor in self.callback_metrics:
                schedule.scheduler.step(self.callback_metrics[schedule.monitor])
            elif schedule.strict:
                known = ", ".join(sorted(self.callback_metrics)) or "nothing"
                raise DataError(
                    f"Trainer: {type(schedule.scheduler).__name__} listens to "
                    f"{schedule.monitor!r}, which was not logged; logged so far: {known}"
                )

    # Validation, test, predict

    def _validates_this_epoch(self) -> bool:
        return (self.current_epoch + 1) % self.check_val_every_n_epoch == 0

    def _checks_every(self) -> int | None:
        """Training batches between validations inside an epoch; None: at its end."""
        if not self._validates_this_epoch():
            return None
        if isinstance(self.val_check_interval, int):
            return self.val_check_interval
        if self.val_check_interval == 1.0:
            return None
        if self.num_training_batches is None:
            raise ArgumentError(
                "Trainer: a float val_check_interval needs training data with a length",
                hint="give a number of batches",
            )
        return max(1, int(self.num_training_batches * self.val_check_interval))

    def _validate_in_fit(self, val_loaders: list[Any]) -> None:
        self._evaluate("validation", val_loaders)
        self._book = self._train_book

    def _evaluate(
        self, kind: str, loaders: list[Any], limit: int | None = None, quiet: bool = False
    ) -> tuple[dict[str, float], list[list[Any]]]:
        module = self.module
        before = {m: m.__dict__["_training"] for m in module.modules()}
        module.eval()
        step = self._eval_step(kind, len(loaders) > 1)
        book = self._book = step.book
        book.sums = {}
        outputs = []
        counts = [self._count(loader, kind, limit) for loader in loaders]
        self.num_evaluation_batches = None if None in counts else sum(counts)  # type: ignore
        try:
            self._hook(f"on_{kind}_start")
            self._hook(f"on_{kind}_epoch_start")
            for number, loader in enumerate(loaders):
                suffix = f"/dataloader_idx_{number}" if len(loaders) > 1 else ""
                collected = []
                for index, batch in enumerate(self._limited(loader, kind, limit)):
                    self._hook(f"on_{kind}_batch_start", batch, index)
                    result, logged = step(batch, index, number)
                    book.add(logged, batch_size(batch), suffix)
                    end = f"on_{kind}_batch_end"
                    self._hook(end, result, batch, index, weight=batch_size(batch))
                    if kind == "predict":
                        collected.append(result)
                outputs.append(collected)
            self._module_hook(f"on_{kind}_epoch_end")
            values = book.epoch_values()
            if not quiet:
                self._publish(book, values)
                self.log_metrics(book.for_loggers(values))
            self._callback_hook(f"on_{kind}_epoch_end")
            self._module_hook(f"on_{kind}_end")
            if not quiet:
                self._callback_hook(f"on_{kind}_end")
        finally:
            for m, mode in before.items():
                m.training = mode
        return values, outputs

    def _eval_step(self, kind: str, several: bool) -> EvalStep:
        """Made once per module and kind, so that later epochs find the captured program."""
        key = (id(self.module), kind, several)
        if key not in self._eval_steps:
            self._eval_steps[key] = EvalStep(self, self.module, kind, several)
        return self._eval_steps[key]

    # Data

    def _count(self, loader: Any, kind: str, limit: int | None = None) -> int | None:
        """Batches that a loader will give, or None if nobody knows."""
        limit = self.limits[kind] if limit is None else limit  # type: ignore[assignment]
        try:
            length = len(loader)
        except TypeError:
            length = None
        if isinstance(limit, float):
            if length is None:
                raise ArgumentError(
                    f"Trainer: limit {limit} is a part of the {kind} data, which has no length",
                    hint="give a number of batches (an int)",
                )
            return int(length * limit)
        if limit is None:
            return length
        return limit if length is None else min(limit, length)

    def _limited(self, loader: Any, kind: str, limit: int | None = None) -> Iterator[Any]:
        count = self._count(loader, kind, limit)
        batches = iter(loader)
        given = 0
        while count is None or given < count:
            try:
                batch = next(batches)
            except StopIteration:
                return
            yield batch
            given += 1

    # Logging and hooks

    def logs_at(self, step: int) -> bool:
        """Whether loggers receive values at this step."""
        return step % self.log_every_n_steps == 0

    def log_metrics(self, values: dict[str, float], step: int | None = None) -> None:
        """Give numbers to the loggers at a step (default: the present one)."""
        if not values:
            return
        self.logged_metrics.update(values)
        for logger in self.loggers:
            logger.log_metrics(values, self.global_step if step is None else step)

    def _publish(self, book: LogBook, values: dict[str, float]) -> None:
        self.callback_metrics.update(values)
        for name in values:
            if name.endswith(("_step", "_epoch")):
                plain = name.rsplit("_", 1)[0]
                if plain in book.entries:
                    self.callback_metrics[plain] = values[name]
        self.progress_bar_metrics.update(book.for_bar(values))

    def _hook(self, name: str, *args: Any, weight: int = 1) -> None:
        """What starts is told to the callbacks first, what ends to the module."""
        ends = name.endswith("_end")
        if not ends:
            self._callback_hook(name, *args)
        self._module_hook(name, *args, weight=weight)
        if ends:
            self._callback_hook(name, *args)

    def _module_hook(self, name: str, *args: Any, weight: int = 1) -> dict[str, float]:
        """Call the module's hook; what it logs counts for the step or the epoch."""
        hook = getattr(self.module, name)
        if getattr(hook, "__func__", hook) is getattr(TrainModule, name, None):
            return {}
        book, in_step = self._book, name.startswith("on_train_batch")
        book.start(in_step, not in_step)
        hook(*args)
        values = book.add(book.take(), weight)
        self._publish(book, values)
        return values

    def _callback_hook(self, name: str, *args: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, name)(self, self.module, *args)


class _Run:
    """setup and teardown around a run, in good order whatever happens."""

    def __init__(self, trainer: Trainer, stage: str):
        self.trainer, self.stage = trainer, stage

    def __enter__(self) -> None:
        for callback in self.trainer.callbacks:
            callback.setup(self.trainer, self.trainer.module, self.stage)

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        trainer = self.trainer
        if error is not None:
            trainer.is_training = trainer.is_inside_epoch = False
            trainer._callback_hook("on_exception", error)
        for callback in trainer.callbacks:
            callback.teardown(trainer, trainer.module, self.stage)
        for logger in trainer.loggers:
            logger.finalize()


class _Ahead:
    """An iterator that knows whether the item it gave is the last one."""

    def __init__(self, items: Iterator[Any]):
        self._items = items
        self.is_last = False
        self._fetch()

    def _fetch(self) -> None:
        try:
            self._next = next(self._items)
        except StopIteration:
            self.is_last = True

    def __iter__(self) -> _Ahead:
        return self

    def __next__(self) -> Any:
        if self.is_last:
            raise StopIteration
        item = self._next
        del self._next
        self._fetch()
        return item


def _loaders(given: Any) -> list[Any]:
    if given is None:
        return []
    return list(given) if isinstance(given, (list, tuple)) else [given]


def _as_list(name: str, given: Any, kind: type) -> list[Any]:
    values = [] if given is None else list(given) if isinstance(given, (list, tuple)) else [given]
    for value in values:
        if not isinstance(value, kind):
            raise ArgumentTypeError(
                f"Trainer: {name} must hold {kind.__name__} objects, got {type(value).__name__}"
            )
    return values
