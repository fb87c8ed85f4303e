"""NaNWatchdog: stop when the loss is no number, and say which operation and line made it so."""

from __future__ import annotations

import math
import sys
from collections import deque
from typing import Any

import numpy as np

import monograph as mg

from ..autograd import detect_anomaly
from ..core import pytree
from ..core.errors import GradError, MonographError, user_place
from ..ir import dispatch
from ..transform import walk
from .callbacks import Callback
from .seeding import random_state, set_random_state


class NotFiniteError(MonographError):
    """Training met a nan or an infinity, or a loss far above what it was."""


class NaNWatchdog(Callback):
    """Stop training at a loss that is nan or infinite (or jumps), and name its origin.

    every_n_steps  how often to keep a copy of the weights in memory
    spike_factor   also stop where the loss is so many times its average over the last steps
    window         steps of that average

    NotFiniteError names the first operation that gave a nan or an infinity from finite inputs and
    the user's line: the steps since the last copy are run again, eagerly and one operation at a
    time. The model is left with the weights of that copy, which are finite.
    """

    def __init__(
        self, every_n_steps: int = 50, spike_factor: float | None = None, window: int = 50
    ):
        self.every_n_steps, self.spike_factor = every_n_steps, spike_factor
        self._recent: deque[float] = deque(maxlen=window)
        self._batches: list[tuple[Any, int]] = []
        self._copy: Any = None

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self._recent.clear()
        self._keep(trainer, module)

    def _keep(self, trainer: Any, module: Any) -> None:
        def copied(x: Any) -> Any:
            return x.detach().clone() if isinstance(x, mg.Tensor) else x

        self._batches = []
        self._copy = (
            {name: copied(value) for name, value in module.state_dict().items()},
            [pytree.tree_map(copied, o.state_dict()) for o in trainer.optimizers],
            random_state(),
        )

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if len(self._batches) >= self.every_n_steps:
            self._keep(trainer, module)
        self._batches.append((batch, batch_idx))

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if loss is None:
            return
        value = float(loss)
        recent = self._recent
        if not math.isfinite(value):
            self._report(trainer, module, value)
        if self.spike_factor is not None and len(recent) == recent.maxlen:
            usual = sum(recent) / len(recent)
            if value > self.spike_factor * abs(usual):
                raise NotFiniteError(
                    f"NaNWatchdog: the loss is {value:.6g} in step {trainer.global_step} (epoch "
                    f"{trainer.current_epoch}, batch {batch_idx}), more than "
                    f"{self.spike_factor:g} times its mean over the last {len(recent)} steps, "
                    f"{usual:.6g}"
                )
        recent.append(value)

    def _report(self, trainer: Any, module: Any, value: float) -> None:
        step = trainer.global_step
        found, at = self._replay(trainer, module)
        where = "" if at is None else f" (batch {at} of the epoch)"
        raise NotFiniteError(
            f"NaNWatchdog: the loss is {value} in step {step} of epoch {trainer.current_epoch}; "
            + (f"first: {found}{where}" if found else "run again eagerly, no operation gives it"),
            hint="the model holds the last weights that were kept, which are finite",
        )

    def _replay(self, trainer: Any, module: Any) -> tuple[str | None, int | None]:
        """Run the steps since the copy again; (the first operation at fault, its batch)."""
        weights, optimizers, random = self._copy
        self._restore(trainer, module)
        set_random_state(random)
        step, found = trainer._loop.step, None
        trainer._book.start(True, False)
        choices = (True, True) if step.windows else ()  # each batch as a window of its own
        for batch, index in self._batches:
            # Each optimizer step runs eagerly between the checked forward and backward passes.
            with dispatch.handling(_checked(dispatch._handler[0])):
                try:
                    with detect_anomaly():
                        step.compiled.function(batch, index, *choices)
                except _Found as origin:
                    found = str(origin)
                except GradError as error:
                    found = f"in the backward pass: {error.message}, at {error.place}"
            trainer._book.start(True, False)
            if found:
                self._restore(trainer, module)
                return found, index
        self._restore(trainer, module)
        return None, None

    def _restore(self, trainer: Any, module: Any) -> None:
        weights, optimizers, _ = self._copy
        module.load_state_dict(weights)
        module.zero_grad()
        for optimizer, kept in zip(trainer.optimizers, optimizers):
            optimizer.load_state_dict(kept)


class _Found(Exception):
    """The operation that gave a number that is not finite."""


def _checked(handler: Any) -> Any:
    """The handler, which raises _Found at the first result that is not finite though the inputs
    are. The backward pass is left to anomaly mode, which knows the lines of the forward pass."""

    def handle(op: Any, args: tuple) -> Any:
        results = handler(op, args)
        for result in results if isinstance(results, (tuple, list)) else (results,):
            if not _is_finite(result) and all(map(_is_finite, args)) and not _in_backward():
                kind = type(op).__name__.lower()
                inputs = ", ".join(_range(a) for a in args if isinstance(a, mg.Tensor))
                at = user_place()
                raise _Found(
                    f"{kind} gives {_what(result)} of inputs {inputs}"
                    + (f", at {at}" if at else "")
                )
        return results

    return handle


def _in_backward() -> bool:
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename == walk.__file__:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def _array(x: Any) -> np.ndarray | None:
    if not isinstance(x, mg.Tensor) or not x.dtype.is_floating_point:
        return None
    payload = x._payload
    return payload if isinstance(payload, np.ndarray) else None


def _is_finite(x: Any) -> bool:
    array = _array(x)
    return array is None or bool(np.isfinite(array.astype(np.float64)).all())


def _what(x: Any) -> str:
    array = _array(x)
    return "nan" if array is not None and np.isnan(array.astype(np.float64)).any() else "inf"


def _range(x: mg.Tensor) -> str:
    array = x._payload
    shape = tuple(x.shape)
    if not isinstance(array, np.ndarray) or not array.size:
        return f"{shape}"
    return f"{shape} in [{array.min():.4g}, {array.max():.4g}]"
