"""Trainer: settings, entry points and what callbacks may look at.

The shape is that of Lightning's Trainer. The loop itself stands in loop.py, what one step does in
steps.py, validation in evaluation.py, what a checkpoint holds in state.py.
"""

from __future__ import annotations

from contextlib import ExitStack
from numbers import Integral
from pathlib import Path
from typing import Any

from ..autograd import detect_anomaly as anomaly_mode
from ..core.errors import ArgumentError, ArgumentTypeError, DataError
from ..runtime import buffers
from . import state
from .batches import as_loaders, count_batches, first_batches
from .callbacks import Callback, Timer
from .checkpoint import load_checkpoint
from .datamodule import DataModule
from .evaluation import EvalLoop
from .hooks import Hooks
from .lint import Finding
from .lint import lint as lint_training
from .logbook import LogBook
from .loggers import CSVLogger, Logger
from .loop import FitLoop
from .model_checkpoint import ModelCheckpoint
from .module import TrainModule
from .optimizers import parse
from .precision import Precision
from .profiling import Profiler
from .progress import ProgressBar
from .runs import Run, find_last
from .steps import EvalStep
from .writer import CheckpointWriter


class Trainer:
    """Train, validate, test and predict with a TrainModule.

    max_epochs, max_steps   when to stop; -1: no limit (1000 epochs if neither is given). A step is
                            an update of the parameters, or with manual optimization a batch
    min_epochs, min_steps   before these no callback ends training
    max_time                a Timer's duration
    callbacks               one or a list; those that write checkpoints are called last
    logger                  a Logger, a list of them, or True for CSVLogger in default_root_dir
    jit                     compile each step as one program (False: run eagerly)
    precision               "32-true"; "64-true", "bf16-true", "16-true" convert the module and the
                            batches' floating tensors; "bf16-mixed" ("bf16") and "16-mixed" (16)
                            keep them and run steps under autocast
    gradient_clip_val, gradient_clip_algorithm
                            limit the gradients' "norm", or each "value"
    accumulate_grad_batches batches per update; each counts by its number of samples, or by the
                            "weight" that training_step returns
    limit_*_batches         a number of batches, or a float in [0, 1]: that part of them
    overfit_batches         train and validate on so many batches from the head of the training
                            data (or that part of them), unshuffled: a model that can learn, does
    val_check_interval      validate every n training batches, or (float) parts of an epoch
    check_val_every_n_epoch validate after every n-th epoch
    log_every_n_steps       how often loggers receive values of steps
    num_sanity_val_steps    validation batches to try before training
    fast_dev_run            True or n: one batch (n batches) of everything, nothing is written
    deterministic           accepted for scripts written for other trainers: results never depend
                            on the number of threads, and a seed always gives the same numbers
    detect_anomaly          run eagerly and stop at the first operation whose gradient has a nan
    lint                    look for silent bugs before training (lint.py) and warn of each; None:
                            in a fast_dev_run only
    profiler                True: Profiler(), which writes trace.json to default_root_dir and prints
                            a table; "simple": the table alone; or a Profiler
    default_root_dir        where files go, unless a callback or logger says otherwise
    enable_checkpointing    True: a ModelCheckpoint, if none is given; False: none may be given
    accelerator, devices, num_nodes, strategy
                            for scripts written for other trainers: the CPU of one machine ("auto",
                            "cpu", 1); other values are refused

    Nothing is written to disk unless a logger or a ModelCheckpoint is given. SIGTERM ends training
    after the step in progress: a ModelCheckpoint saves then, and the process exits.

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
        min_epochs: int | None = None,
        min_steps: int | None = None,
        max_time: Any = None,
        callbacks: Any = None,
        logger: Any = None,
        jit: bool = True,
        precision: Any = "32-true",
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str = "norm",
        accumulate_grad_batches: int = 1,
        limit_train_batches: int | float | None = None,
        limit_val_batches: int | float | None = None,
        limit_test_batches: int | float | None = None,
        limit_predict_batches: int | float | None = None,
        overfit_batches: int | float = 0,
        val_check_interval: int | float = 1.0,
        check_val_every_n_epoch: int = 1,
        log_every_n_steps: int = 50,
        enable_progress_bar: bool = True,
        num_sanity_val_steps: int = 0,
        fast_dev_run: bool | int = False,
        deterministic: bool = True,
        detect_anomaly: bool = False,
        lint: bool | None = None,
        profiler: Any = None,
        default_root_dir: Any = ".",
        enable_checkpointing: bool | None = None,
        accelerator: str = "auto",
        devices: Any = "auto",
        num_nodes: int = 1,
        strategy: str = "auto",
    ):
        _check_machine(
            accelerator=accelerator, devices=devices, num_nodes=num_nodes, strategy=strategy
        )
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
        for name, value in (
            ("limit_train_batches", limit_train_batches),
            ("limit_val_batches", limit_val_batches),
            ("limit_test_batches", limit_test_batches),
            ("limit_predict_batches", limit_predict_batches),
            ("overfit_batches", overfit_batches),
            ("val_check_interval", val_check_interval),
        ):
            _check_part(name, value)
        if max_epochs is None:
            max_epochs = 1000 if max_steps == -1 else -1
        min_epochs, min_steps = min_epochs or 0, min_steps or 0
        for name, value in (
            ("max_epochs", max_epochs),
            ("max_steps", max_steps),
            ("min_epochs", min_epochs),
            ("min_steps", min_steps),
        ):
            if isinstance(value, bool) or not isinstance(value, Integral) or value < -1:
                raise ArgumentError(f"Trainer: {name} must be an int of at least -1, got {value!r}")
        self.max_epochs, self.max_steps = max_epochs, max_steps
        self.min_epochs, self.min_steps = min_epochs, min_steps
        self.detect_anomaly = detect_anomaly
        self.lint = bool(fast_dev_run) if lint is None else lint
        self.jit = jit and not detect_anomaly
        self.precision = Precision(precision)
        self.overfit_batches = overfit_batches
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
        has_checkpoint = any(isinstance(c, ModelCheckpoint) for c in self.callbacks)
        if has_checkpoint and enable_checkpointing is False:
            raise ArgumentError(
                "Trainer: enable_checkpointing is False, and a ModelCheckpoint given"
            )
        if enable_checkpointing and not has_checkpoint:
            self.callbacks.append(ModelCheckpoint())
        if logger is True:
            logger = CSVLogger(self.default_root_dir)
        self.loggers = _as_list("logger", logger or None, Logger)
        if fast_dev_run:
            self._make_fast(int(fast_dev_run))
        if profiler:
            self.callbacks.append(_as_profiler(profiler))
        if max_time is not None:
            self.callbacks.append(Timer(max_time))
        if enable_progress_bar and not any(isinstance(c, ProgressBar) for c in self.callbacks):
            self.callbacks.insert(0, ProgressBar())
        self.callbacks.sort(key=lambda c: isinstance(c, ModelCheckpoint))
        self.hooks = Hooks(self)
        self._writer = CheckpointWriter()
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
        self.datamodule: Any = None
        self.optimizers: list[Any] = []
        self._schedules: list[Any] = []
        self.current_epoch = 0  # the epoch in progress
        self.global_step = 0  # updates so far
        self.batches_done = 0  # in the epoch in progress
        self.should_stop = self.interrupted = False
        self.received_signal: int | None = None
        self.is_training = False  # inside fit
        self.is_inside_epoch = False  # validation runs between two batches of an epoch
        self.has_validation = False
        self.num_training_batches: int | None = None
        self.num_evaluation_batches: int | None = None
        self.logged_metrics: dict[str, float] = {}
        self._metrics: dict[str, float] = {}
        self._bar_metrics: dict[str, float] = {}
        self._last_outputs: Any = None
        self.lint_findings: list[Finding] = []
        self._train_book = self._book = LogBook()
        self._loop: FitLoop | None = None

    @property
    def logger(self) -> Logger | None:
        """The first logger."""
        return self.loggers[0] if self.loggers else None

    @property
    def checkpoint_callback(self) -> ModelCheckpoint | None:
        """The first ModelCheckpoint."""
        return next((c for c in self.callbacks if isinstance(c, ModelCheckpoint)), None)

    @property
    def callback_metrics(self) -> dict[str, float]:
        """The newest value of everything logged, by name."""
        self.read_steps()
        return self._metrics

    @property
    def progress_bar_metrics(self) -> dict[str, float]:
        """The newest loss, and the newest value of what was logged with prog_bar=True."""
        outputs = self._last_outputs
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        self.read_steps()
        if loss is None or not self.module.automatic_optimization:
            return self._bar_metrics
        return {"loss": float(loss), **self._bar_metrics}

    # Entry points

    def fit(
        self,
        model: TrainModule,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: DataModule | None = None,
        ckpt_path: Any = None,
    ) -> None:
        """Train `model`, from where `ckpt_path` left off if given.

        train_dataloaders  an iterable of batches, or a DataModule; None: model.train_dataloader()
        val_dataloaders    one or a list; None: model.val_dataloader()
        datamodule         in place of both
        ckpt_path          a checkpoint; "best" is that of this Trainer's ModelCheckpoint, "last"
                           the newest whole one in its directory (none there: start anew)

        Training that resumes gives the same numbers as training that was never interrupted.
        KeyboardInterrupt ends training in good order; `interrupted` is True then.
        """
        if isinstance(train_dataloaders, DataModule):
            train_dataloaders, datamodule = None, train_dataloaders
        self._reset()
        self._attach(model, datamodule)
        self.is_training = True
        with Run(self, "fit"):
            path = self._checkpoint_path(ckpt_path)
            source = datamodule or model
            loader = source.train_dataloader() if train_dataloaders is None else train_dataloaders
            val_loaders = as_loaders(
                source.val_dataloader() if val_dataloaders is None else val_dataloaders
            )
            if self.overfit_batches:
                loader = first_batches(loader, self.overfit_batches)
                val_loaders = [loader] if val_loaders else []
            self.has_validation = bool(val_loaders)
            self.num_training_batches = count_batches(loader, self.limits["train"], "train")
            self._fit(model, loader, val_loaders, path)
        self.is_training = False
        if self.received_signal is not None:
            raise SystemExit(128 + self.received_signal)

    def _fit(self, model: Any, loader: Any, val_loaders: list[Any], path: Path | None) -> None:
        model.train()
        self.precision.module(model)
        self.hooks.tell("on_fit_start")
        self.optimizers, self._schedules = parse(model.configure_optimizers())
        buffers.empty_cache()  # of what making the model took: steps take other sizes
        loop = self._loop = FitLoop(self, loader, val_loaders)
        if self.checkpoint_callback is not None:
            loop.hashes()  # now: a data set that is read may open files and fill caches
        random = None if path is None else state.restore(self, path)
        settings = {**getattr(self.datamodule, "hparams", {}), **model.hparams}
        for logger in self.loggers:
            logger.log_hyperparams(settings)
        if val_loaders and self.num_sanity_val_steps:
            EvalLoop(self, "validation", val_loaders).run(self.num_sanity_val_steps, quiet=True)
        if self.lint:
            self.lint_findings = lint_training(self, loader, val_loaders)
        self.hooks.tell("on_train_start")
        try:
            with ExitStack() as stack:
                if self.detect_anomaly:
                    stack.enter_context(anomaly_mode())
                loop.run(random)
        except KeyboardInterrupt as interrupt:
            self.interrupted = self.should_stop = True
            self.hooks.tell_callbacks("on_exception", interrupt)
        self.hooks.tell("on_train_end")
        self.hooks.tell("on_fit_end")

    def stop_at_signal(self, number: int, frame: Any = None) -> None:
        """Signal handler: end training after the step in progress, then exit."""
        self.received_signal, self.should_stop = number, True

    def validate(
        self, model: TrainModule | None = None, dataloaders: Any = None, ckpt_path: Any = None,
        verbose: bool = False, datamodule: DataModule | None = None,
    ) -> list[dict[str, float]]:  # fmt: skip
        """Run validation_step over the data; a dict of the logged means for each loader."""
        return self._run_evaluation(
            "validation", model, dataloaders, ckpt_path, verbose, datamodule
        )[0]  # fmt: skip

    def test(
        self, model: TrainModule | None = None, dataloaders: Any = None, ckpt_path: Any = None,
        verbose: bool = False, datamodule: DataModule | None = None,
    ) -> list[dict[str, float]]:  # fmt: skip
        """Run test_step over the data; a dict of the logged means for each loader."""
        return self._run_evaluation("test", model, dataloaders, ckpt_path, verbose, datamodule)[0]

    def predict(
        self, model: TrainModule | None = None, dataloaders: Any = None, ckpt_path: Any = None,
        datamodule: DataModule | None = None,
    ) -> list[Any]:  # fmt: skip
        """What predict_step returns for each batch; a list for each loader if there are several."""
        outputs = self._run_evaluation(
            "predict", model, dataloaders, ckpt_path, False, datamodule
        )[1]  # fmt: skip
        return outputs[0] if len(outputs) == 1 else outputs

    def _run_evaluation(
        self, kind: str, model: Any, dataloaders: Any, ckpt_path: Any, verbose: bool,
        datamodule: DataModule | None,
    ) -> tuple[list[dict[str, float]], list[list[Any]]]:  # fmt: skip
        model = model or self.module
        if model is None:
            raise ArgumentError(f"Trainer: {kind} needs a model, for none was trained yet")
        if isinstance(dataloaders, DataModule):
            dataloaders, datamodule = None, dataloaders
        self._attach(model, datamodule)
        source: Any = datamodule or model
        name = {"validation": "val_dataloader"}.get(kind, f"{kind}_dataloader")
        with Run(self, {"validation": "validate"}.get(kind, kind)):
            path = self._checkpoint_path(ckpt_path)
            if path is not None:
                model.load_state_dict(load_checkpoint(path)[0])
            self.precision.module(model)
            loaders = as_loaders(getattr(source, name)() if dataloaders is None else dataloaders)
            if not loaders:
                raise DataError(f"Trainer: {kind} was given no dataloaders")
            values, outputs = EvalLoop(self, kind, loaders).run()
            if verbose:
                for key, value in sorted(values.items()):
                    print(f"{key:<30} {value:.6g}")
        if len(loaders) == 1:
            return [values], outputs
        parts = []
        for i in range(len(loaders)):
            end = f"/dataloader_idx_{i}"
            parts.append({k: v for k, v in values.items() if k.endswith(end)})
        return parts, outputs

    def eval_step(self, kind: str, several: bool) -> EvalStep:
        """Made once per module and kind, so that later epochs find the captured program."""
        key = (id(self.module), kind, several)
        if key not in self._eval_steps:
            self._eval_steps[key] = EvalStep(self, self.module, kind, several)
        return self._eval_steps[key]

    def save_checkpoint(
        self,
        filepath: Any,
        weights_only: bool = False,
        asynchronous: bool = False,
        replaced: Any = (),
    ) -> None:
        """Write the state of training (or the weights alone) to a directory; see checkpoint.py.

        asynchronous  copy the state and write it in a thread; fit waits for it at its end
        replaced      checkpoints to delete once this one stands
        """
        if self.module is None or self._loop is None:
            raise ArgumentError("save_checkpoint: this Trainer has not trained anything yet")
        self._writer.save(
            filepath, self.module.state_dict(), state.collect(self, weights_only), replaced
        )
        if not asynchronous:
            self._writer.wait()

    def prepare_checkpoint(self, weights_only: bool = False) -> None:
        """Have memory for the copies of an asynchronous checkpoint ready, without waiting for it;
        the first one makes training wait longer otherwise. ModelCheckpoint does this."""
        self._writer.prepare(state.parts(self, weights_only))

    # State

    def _attach(self, model: Any, datamodule: DataModule | None) -> None:
        if not isinstance(model, TrainModule):
            raise ArgumentTypeError(
                f"Trainer: the model must be a TrainModule, got {type(model).__name__}",
                hint="derive it from monograph.train.TrainModule and define training_step and "
                "configure_optimizers",
            )
        if datamodule is not None and not isinstance(datamodule, DataModule):
            raise ArgumentTypeError(
                f"Trainer: datamodule must be a DataModule, got {type(datamodule).__name__}"
            )
        self.module, self.datamodule = model, datamodule
        model.__dict__["trainer"] = self
        if datamodule is not None:
            datamodule.trainer = self

    def _checkpoint_path(self, ckpt_path: Any) -> Path | None:
        self._writer.wait()
        if ckpt_path not in ("best", "last"):
            return None if ckpt_path is None else Path(ckpt_path)
        callbacks = [c for c in self.callbacks if isinstance(c, ModelCheckpoint)]
        if not callbacks:
            raise DataError(f"Trainer: ckpt_path={ckpt_path!r} needs a ModelCheckpoint callback")
        if ckpt_path == "last":
            return find_last([c.dirpath for c in callbacks])
        if not callbacks[0].best_model_path:
            raise DataError("Trainer: ckpt_path='best', but no such checkpoint was written")
        return Path(callbacks[0].best_model_path)

    # Logging

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

    def publish(self, book: LogBook, values: dict[str, float]) -> None:
        """Let callbacks and the progress bar see logged values."""
        self._metrics.update(values)
        for name in values:
            if name.endswith(("_step", "_epoch")):
                plain = name.rsplit("_", 1)[0]
                if plain in book.entries:
                    self._metrics[plain] = values[name]
        self._bar_metrics.update(book.for_bar(values))

    def read_steps(self) -> dict[str, float]:
        """Read what training steps have logged since the last time, and publish it."""
        values = self._train_book.flush()
        if values:
            self.publish(self._train_book, values)
        return values


def _as_profiler(given: Any) -> Profiler:
    if isinstance(given, Profiler):
        return given
    if given not in (True, "simple"):
        raise ArgumentError(
            f"Trainer: profiler must be True, 'simple' or a Profiler, got {given!r}"
        )
    return Profiler() if given is True else Profiler(filename=None)


def _check_part(name: str, value: Any) -> None:
    """A number of batches, or a part of them in [0, 1]."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ArgumentError(f"Trainer: {name} must be an int or a float, got {value!r}")
    if value < 0 or (isinstance(value, float) and value > 1.0):
        raise ArgumentError(
            f"Trainer: {name} must be a number of batches (an int) or a part of them (a float in "
            f"[0, 1]), got {value!r}"
        )


# What those arguments of other trainers may say that name the machine.
MACHINE: dict[str, tuple[Any, ...]] = {
    "accelerator": ("auto", "cpu"),
    "devices": ("auto", 1, "1", -1, "-1"),
    "num_nodes": (1,),
    "strategy": ("auto",),
}


def _check_machine(**given: Any) -> None:
    for name, value in given.items():
        if isinstance(value, bool) or value not in MACHINE[name]:
            known = " or ".join(repr(x) for x in MACHINE[name])
            raise ArgumentError(
                f"Trainer: {name} must be {known} (this version trains on one CPU), got {value!r}"
            )


def _as_list(name: str, given: Any, kind: type) -> list[Any]:
    values = [] if given is None else list(given) if isinstance(given, (list, tuple)) else [given]
    for value in values:
        if not isinstance(value, kind):
            raise ArgumentTypeError(
                f"Trainer: {name} must hold {kind.__name__} objects, got {type(value).__name__}"
            )
    return values
