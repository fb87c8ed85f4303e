"""A run of a Trainer from setup to teardown, whatever happens; and where one left off."""

from __future__ import annotations

import signal
import threading
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..core.errors import DataError, FileFormatError
from .checkpoint import MANIFEST, read_position, verify_checkpoint


class Run:
    """setup and teardown around a run of `stage`: callbacks, data module, loggers, SIGTERM."""

    def __init__(self, trainer: Any, stage: str):
        self.trainer, self.stage = trainer, stage
        self._handler: Any = None

    def __enter__(self) -> None:
        trainer = self.trainer
        if trainer.datamodule is not None:
            trainer.datamodule.prepare_data()
            trainer.datamodule.setup(self.stage)
        for callback in trainer.callbacks:
            callback.setup(trainer, trainer.module, self.stage)
        if self.stage == "fit" and threading.current_thread() is threading.main_thread():
            # A handler that the program has chosen stays.
            if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
                self._handler = trainer.stop_at_signal
                signal.signal(signal.SIGTERM, self._handler)

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        trainer = self.trainer
        if self._handler is not None and signal.getsignal(signal.SIGTERM) is self._handler:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if error is not None:
            trainer.is_training = trainer.is_inside_epoch = False
            trainer.hooks.tell_callbacks("on_exception", error)
        for callback in trainer.callbacks:
            callback.teardown(trainer, trainer.module, self.stage)
        if trainer.datamodule is not None:
            trainer.datamodule.teardown(self.stage)
        for logger in trainer.loggers:
            logger.finalize()
        if error is None:
            trainer._writer.wait()


def find_last(directories: Iterable[Path | None]) -> Path | None:
    """The checkpoint with the most training in it that is whole, or None.

    One that is damaged (by something other than an interrupted write, which leaves none) is passed
    over with a warning.
    """
    found = []
    for directory in directories:
        for manifest in Path(directory or ".").glob(f"*.ckpt/{MANIFEST}"):
            try:
                found.append((read_position(manifest.parent), str(manifest.parent)))
            except (DataError, FileFormatError) as error:
                warnings.warn(f"Trainer: passed over: {error}", RuntimeWarning, stacklevel=2)
    for position, path in sorted(found, reverse=True):
        if position is None:
            continue
        try:
            verify_checkpoint(path)
            return Path(path)
        except (DataError, FileFormatError) as error:
            warnings.warn(f"Trainer: passed over: {error}", RuntimeWarning, stacklevel=2)
    return None
