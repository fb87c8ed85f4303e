"""Profiler: where the time of a training run goes, kernel by kernel and line by line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.errors import ArgumentError
from ..profiler import GROUPS, profile
from .callbacks import Callback


class Profiler(Callback):
    """Profile some training steps: write a Chrome trace and print a table (mg.profiler).

    filename  of the trace, in dirpath; None: no trace. For chrome://tracing or Perfetto: kernels
              with the user's lines, operations in NumPy, and the Python around them
    dirpath   None: the Trainer's default_root_dir
    skip      steps before, in which programs are compiled
    steps     that are profiled
    by        rows of the table are a "kernel", a "kind" or a "line" of the program each; None: no
              table

    `table` and `profile` keep what was found. Steps are slower while they are profiled; before and
    after they are not.
    """

    def __init__(
        self,
        filename: str | None = "trace.json",
        dirpath: Any = None,
        skip: int = 3,
        steps: int = 10,
        by: str | None = "kernel",
    ):
        if skip < 0 or steps < 1:
            raise ArgumentError(
                f"Profiler: skip must be at least 0 and steps at least 1, got {skip} and {steps}"
            )
        if by is not None and by not in GROUPS:
            raise ArgumentError(f"Profiler: by must be one of {', '.join(GROUPS)}, got {by!r}")
        self.filename, self.dirpath = filename, dirpath
        self.skip, self.steps, self.by = skip, steps, by
        self.profile: Any = None
        self.table = ""
        self._seen = 0
        self._running = False

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self._seen = 0

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if self._seen == self.skip and not self._running:
            self.profile = profile()
            self.profile.start()
            self._running = True
        self._seen += 1

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._running and self._seen == self.skip + self.steps:
            self._finish(trainer)

    def on_train_end(self, trainer: Any, module: Any) -> None:
        if self._running:
            self._finish(trainer)

    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        if self._running:
            self._running = False
            self.profile.stop()

    def _finish(self, trainer: Any) -> None:
        self._running = False
        self.profile.stop()
        if self.filename is not None:
            path = Path(self.dirpath or trainer.default_root_dir) / self.filename
            path.parent.mkdir(parents=True, exist_ok=True)
            self.profile.export_chrome_trace(path)
        if self.by is not None:
            self.table = self.profile.table(by=self.by, row_limit=30)
            print(self.table)
