"""ProgressBar: a tqdm bar with live metrics; where there is no terminal, one line per epoch."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm import tqdm

from .callbacks import Callback


class ProgressBar(Callback):
    """Show how training goes.

    On a terminal: one bar per epoch with the loss and everything logged with prog_bar=True, and
    one for each validation while it lasts. Elsewhere one line per epoch, and one per validation
    inside an epoch.

    refresh_rate   batches between updates of the metrics
    leave          keep the bars of finished epochs on the screen
    """

    def __init__(self, refresh_rate: int = 1, leave: bool = True, file: Any = None):
        self.refresh_rate, self.leave = refresh_rate, leave
        self.file = file
        self._bar: Any = None
        self._inner: Any = None
        self._started = 0.0

    @property
    def _out(self) -> Any:
        return self.file or sys.stderr

    def _new_bar(self, total: int | None, title: str, leave: bool, initial: int = 0) -> Any:
        if not self._out.isatty():
            return None
        return tqdm(
            total=total, desc=title, leave=leave, initial=initial, file=self._out,
            dynamic_ncols=True, mininterval=0.1,
        )  # fmt: skip

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        self._started = time.monotonic()
        title = f"Epoch {trainer.current_epoch + 1}"
        if trainer.max_epochs and trainer.max_epochs > 0:
            title += f"/{trainer.max_epochs}"
        self._title = title
        self._bar = self._new_bar(
            trainer.num_training_batches, title, self.leave, trainer.batches_done
        )

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._bar is not None:
            if (batch_idx + 1) % self.refresh_rate == 0:
                self._bar.set_postfix_str(_text(trainer.progress_bar_metrics), refresh=False)
            self._bar.update(1)

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        if self._bar is None:
            self._line(trainer, self._title)
            return
        self._bar.set_postfix_str(_text(trainer.progress_bar_metrics), refresh=True)
        self._close()

    def _line(self, trainer: Any, title: str) -> None:
        elapsed_s = time.monotonic() - self._started
        text = f"{title}: {_text(trainer.progress_bar_metrics)} ({elapsed_s:.1f} s)"
        print(text, file=self._out, flush=True)

    def _evaluation_starts(self, trainer: Any, title: str) -> None:
        self._inner = self._new_bar(trainer.num_evaluation_batches, title, leave=False)

    def _evaluation_moves(self) -> None:
        if self._inner is not None:
            self._inner.update(1)

    def _evaluation_ends(self) -> None:
        if self._inner is not None:
            self._inner.close()
            self._inner = None

    def on_validation_start(self, trainer: Any, module: Any) -> None:
        self._evaluation_starts(trainer, "Validation")

    def on_validation_batch_end(self, trainer: Any, module: Any, *args: Any) -> None:
        self._evaluation_moves()

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        self._evaluation_ends()
        if trainer.is_inside_epoch and self._bar is None:
            done = f"{self._title}, batch {trainer.batches_done}"
            if trainer.num_training_batches is not None:
                done += f"/{trainer.num_training_batches}"
            self._line(trainer, done)

    def on_test_start(self, trainer: Any, module: Any) -> None:
        self._evaluation_starts(trainer, "Test")

    def on_test_batch_end(self, trainer: Any, module: Any, *args: Any) -> None:
        self._evaluation_moves()

    def on_test_end(self, trainer: Any, module: Any) -> None:
        self._evaluation_ends()

    def on_predict_start(self, trainer: Any, module: Any) -> None:
        self._evaluation_starts(trainer, "Predict")

    def on_predict_batch_end(self, trainer: Any, module: Any, *args: Any) -> None:
        self._evaluation_moves()

    def on_predict_end(self, trainer: Any, module: Any) -> None:
        self._evaluation_ends()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def teardown(self, trainer: Any, module: Any, stage: str) -> None:
        self._evaluation_ends()
        self._close()


def _text(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name}={value:.4g}" for name, value in metrics.items())
