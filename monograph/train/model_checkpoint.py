"""ModelCheckpoint: write checkpoints during training and keep the best ones."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from ..core.errors import ArgumentError
from .callbacks import Callback, check_mode, monitored
from .checkpoint import remove_left_overs


class ModelCheckpoint(Callback):
    """Save after epochs (or every n steps), keep the `save_top_k` best by a metric.

    dirpath        where; by default <default_root_dir>/checkpoints of the Trainer
    filename       a format: "{epoch}-{val_loss:.2f}" gives epoch=3-val_loss=0.25.ckpt
                   ("{epoch}-{step}" by default)
    monitor        the metric; None: the newest is the best
    mode           "min" or "max"
    save_top_k     how many to keep: 0 none, -1 all
    save_last      also keep the newest state, as last.ckpt
    every_n_epochs, every_n_train_steps
                   how often; with validation inside an epoch, also after each of these
    save_weights_only  leave out optimizers and the rest: such a checkpoint cannot be resumed
    save_on_exception  when an error or Ctrl-C ends training, write interrupted.ckpt first
    asynchronous   write in a thread: training goes on once the state is copied in memory

    When SIGTERM ends training, the state is written as last.ckpt.

    best_model_path, best_model_score, best_k_models and last_model_path say what there is.
    A checkpoint that is written when the process dies does not replace a good one (checkpoint.py).
    """

    def __init__(
        self,
        dirpath: Any = None,
        filename: str | None = None,
        monitor: str | None = None,
        verbose: bool = False,
        save_last: bool = False,
        save_top_k: int = 1,
        save_weights_only: bool = False,
        mode: str = "min",
        auto_insert_metric_name: bool = True,
        every_n_train_steps: int | None = None,
        every_n_epochs: int | None = None,
        save_on_exception: bool = False,
        asynchronous: bool = True,
    ):
        check_mode("ModelCheckpoint", mode)
        if isinstance(save_top_k, bool) or not isinstance(save_top_k, int) or save_top_k < -1:
            raise ArgumentError(
                f"ModelCheckpoint: save_top_k must be -1 (all), 0 or more, got {save_top_k!r}"
            )
        if monitor is None and save_top_k not in (-1, 0, 1):
            raise ArgumentError(
                f"ModelCheckpoint: save_top_k={save_top_k} needs a metric to monitor",
                hint="without one, save_top_k is -1 (all), 0 (none) or 1 (the newest)",
            )
        if every_n_train_steps is not None and every_n_epochs is not None:
            raise ArgumentError(
                "ModelCheckpoint: every_n_train_steps and every_n_epochs exclude each other"
            )
        self.dirpath = None if dirpath is None else Path(dirpath)
        self.filename = filename or "{epoch}-{step}"
        self.monitor, self.mode, self.verbose = monitor, mode, verbose
        self.save_top_k, self.save_last = save_top_k, save_last
        self.save_weights_only = save_weights_only
        self.auto_insert_metric_name = auto_insert_metric_name
        self.every_n_train_steps = every_n_train_steps
        self.every_n_epochs = every_n_epochs or 1
        self.save_on_exception, self.asynchronous = save_on_exception, asynchronous
        self.best_k_models: dict[str, float] = {}
        self.best_model_path = ""
        self.best_model_score: float | None = None
        self.last_model_path = ""
        self._saved_at = -1
        self._is_prepared = False
        self._names: set[Path] = set()  # written or about to be

    @property
    def state_key(self) -> str:
        often = self.every_n_train_steps or f"{self.every_n_epochs} epochs"
        return f"ModelCheckpoint[{self.monitor},{self.mode},{often}]"

    def state_dict(self) -> dict[str, Any]:
        names = ("best_k_models", "best_model_path", "best_model_score", "last_model_path")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        kept = {path: score for path, score in self.best_k_models.items() if Path(path).is_dir()}
        self.best_k_models = kept

    def setup(self, trainer: Any, module: Any, stage: str) -> None:
        if self.dirpath is None:
            self.dirpath = trainer.default_root_dir / "checkpoints"
        if stage == "fit":
            remove_left_overs(self.dirpath)
            self._is_prepared = not self.asynchronous

    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        if self.save_on_exception and trainer.global_step:
            trainer.save_checkpoint(self.dirpath / "interrupted.ckpt")  # type: ignore[operator]

    def on_train_end(self, trainer: Any, module: Any) -> None:
        if trainer.received_signal is not None:
            self._save_last(trainer)

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self._is_prepared:  # after the first step, when optimizers have their state
            self._is_prepared = True
            trainer.prepare_checkpoint(self.save_weights_only)
        n = self.every_n_train_steps
        step = trainer.global_step
        if n and step and step % n == 0 and step != self._saved_at:
            self._save(trainer)

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        if trainer.is_training and trainer.is_inside_epoch and not self.every_n_train_steps:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        if not self.every_n_train_steps and (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._save(trainer)

    def format_name(self, values: dict[str, Any]) -> str:
        """The file name, without a directory, for these values.

        >>> ModelCheckpoint(filename="{epoch}-{val_loss:.2f}").format_name(
        ...     {"epoch": 3, "val_loss": 0.25}
        ... )
        'epoch=3-val_loss=0.25.ckpt'
        """

        def put(match: re.Match) -> str:
            name, form = match[1], match[2] or ""
            text = format(values.get(name, 0), form)
            text = f"{name}={text}" if self.auto_insert_metric_name else text
            return text.replace("/", "_")

        return re.sub(r"\{([^{}:]+)(?::([^{}]*))?\}", put, self.filename) + ".ckpt"

    def _save(self, trainer: Any) -> None:
        self._saved_at = trainer.global_step
        if self.save_top_k != 0:
            self._save_top(trainer)
        if self.save_last:
            self._save_last(trainer)

    def _save_last(self, trainer: Any) -> None:
        path = self.dirpath / "last.ckpt"  # type: ignore[operator]
        self.last_model_path = str(path)
        self._write(trainer, path)

    def _write(self, trainer: Any, path: Path, replaced: list[str] | None = None) -> None:
        self._names.add(path)
        trainer.save_checkpoint(path, self.save_weights_only, self.asynchronous, replaced or ())

    def _save_top(self, trainer: Any) -> None:
        score = 0.0
        if self.monitor is not None:
            score = monitored(trainer, "ModelCheckpoint", self.monitor)
        if self.monitor is not None and self._is_full() and not self._beats_worst(score):
            return
        values = {**trainer.callback_metrics, "epoch": trainer.current_epoch}
        path = self._free(self.format_name({**values, "step": trainer.global_step}))
        dropped = []
        if self._is_full():
            dropped.append(self._worst())
        self.best_k_models[str(path)] = score
        for old in dropped:
            del self.best_k_models[old]
        self._note_best(path, score)
        self._write(trainer, path, dropped)
        if self.verbose:
            print(f"ModelCheckpoint: wrote {path}")

    def _note_best(self, path: Path, score: float) -> None:
        if self.monitor is None:
            self.best_model_path = str(path)
            return
        self.best_model_path = min(self.best_k_models, key=self._rank)
        self.best_model_score = self.best_k_models[self.best_model_path]

    def _is_full(self) -> bool:
        return self.save_top_k > 0 and len(self.best_k_models) >= self.save_top_k

    def _rank(self, path: str) -> tuple[bool, float]:
        """Lower is better; nan is worst."""
        return self._rank_of(self.best_k_models[path])

    def _rank_of(self, score: float) -> tuple[bool, float]:
        if math.isnan(score):
            return True, 0.0
        return False, score if self.mode == "min" else -score

    def _worst(self) -> str:
        if self.monitor is None:
            return next(iter(self.best_k_models))
        return max(self.best_k_models, key=self._rank)

    def _beats_worst(self, score: float) -> bool:
        return self._rank_of(score) < self._rank(self._worst())

    def _free(self, name: str) -> Path:
        """The path for a name, with -v1, -v2, ... if it is taken."""
        path = self.dirpath / name  # type: ignore[operator]
        version = 0
        while path in self._names or path.exists():
            version += 1
            path = self.dirpath / f"{name.removesuffix('.ckpt')}-v{version}.ckpt"  # type: ignore
        return path
