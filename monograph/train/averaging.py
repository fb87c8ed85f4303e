"""Averages of weights over training: exponential (EMA) and stochastic (SWA).

The averages are tensors beside the model's, updated in place by one compiled program.
"""

from __future__ import annotations

import math
from typing import Any

import monograph as mg

from ..core.errors import ArgumentError
from ..nn import BatchNorm1d, BatchNorm2d, BatchNorm3d
from .batches import limited
from .callbacks import Callback
from .state import unchanged_metrics
from .steps import with_index


class _Averaging(Callback):
    """What both averages share: the tensors, and exchanging them with the model's."""

    def __init__(self) -> None:
        self._kept: list[mg.Tensor] | None = None
        self._live: list[mg.Tensor] = []
        self._updates = 0
        self._program: Any = None
        self._swapped = False

    def state_dict(self) -> dict[str, Any]:
        return {"kept": self._kept, "updates": self._updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._kept, self._updates = state["kept"], state["updates"]

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        self._kept, self._updates, self._swapped, self._program = None, 0, False, None
        self._live = [p for p in module.parameters() if p.dtype.is_floating_point]

    def _update(self, weight: float) -> None:
        """average += weight * (parameter - average)."""
        self._updates += 1
        if self._kept is None:
            self._kept = [p.detach().clone() for p in self._live]
            return
        if self._program is None:

            @mg.jit
            def update(share: mg.Tensor) -> None:
                for kept, live in zip(self._kept, self._live):  # type: ignore[arg-type]
                    kept.add_((live.detach() - kept) * share.to(kept.dtype))

            self._program = update
        with mg.no_grad():
            self._program(mg.tensor(weight))

    def swap(self) -> None:
        """Exchange the model's parameters and their averages."""
        if self._kept is None:
            return
        self._swapped = not self._swapped
        with mg.no_grad():
            for kept, live in zip(self._kept, self._live):
                old = live.detach().clone()
                live.copy_(kept)
                kept.copy_(old)

    def teardown(self, trainer: Any, module: Any, stage: str) -> None:
        if self._swapped:  # an exception left validation
            self.swap()


class EMA(_Averaging):
    """Keep an exponential moving average of the parameters; validate with it; end with it.

    decay           of the average at each update; early on min(decay, (1 + n) / (10 + n)) after n
                    updates, so that the first weights are soon forgotten
    every_n_steps   steps between updates
    start_step      no average before this step
    validate        use the averaged parameters for validation inside fit

    When fit ends the model holds the averages. Checkpoints hold both: the parameters being trained
    as the model's weights, and the averages with this callback's state, so that training resumes
    exactly. Buffers (statistics of batch norm) are not averaged.
    """

    def __init__(
        self,
        decay: float = 0.999,
        every_n_steps: int = 1,
        start_step: int = 0,
        validate: bool = True,
    ):
        super().__init__()
        if not 0.0 < decay < 1.0:
            raise ArgumentError(f"EMA: decay must be between 0 and 1, got {decay}")
        if every_n_steps < 1:
            raise ArgumentError(f"EMA: every_n_steps must be at least 1, got {every_n_steps}")
        self.decay, self.every_n_steps = decay, every_n_steps
        self.start_step, self.validate = start_step, validate
        self._seen = -1

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if step == self._seen or step < self.start_step or step % self.every_n_steps:
            return
        self._seen = step
        decay = min(self.decay, (1 + self._updates) / (10 + self._updates))
        self._update(1.0 - decay)

    def on_validation_start(self, trainer: Any, module: Any) -> None:
        if self.validate and trainer.is_training and not self._swapped:
            self.swap()

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        if self._swapped and trainer.is_training:
            self.swap()

    def on_fit_end(self, trainer: Any, module: Any) -> None:
        if trainer.received_signal is None:
            self.swap()
            self._swapped = False


class SWA(_Averaging):
    """Stochastic weight averaging: the mean of the parameters at the ends of the last epochs.

    swa_lrs            the learning rate from the start of averaging on
    swa_epoch_start    the first epoch that counts: its number, or (a float) its part of max_epochs
    annealing_epochs   epochs over which the rate goes from what it was to swa_lrs
    annealing_strategy "cos" or "linear"

    While it runs, the module's own learning-rate schedules rest. When fit ends the model holds the
    mean, and the statistics of its batch-norm layers are taken anew over the training data.

    Source: Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization"
    (2018).
    """

    def __init__(
        self,
        swa_lrs: float,
        swa_epoch_start: int | float = 0.8,
        annealing_epochs: int = 10,
        annealing_strategy: str = "cos",
    ):
        super().__init__()
        if swa_lrs <= 0:
            raise ArgumentError(f"SWA: swa_lrs must be above 0, got {swa_lrs}")
        if annealing_strategy not in ("cos", "linear"):
            raise ArgumentError(
                f"SWA: annealing_strategy must be 'cos' or 'linear', got {annealing_strategy!r}"
            )
        self.swa_lrs, self.swa_epoch_start = swa_lrs, swa_epoch_start
        self.annealing_epochs, self.annealing_strategy = annealing_epochs, annealing_strategy
        self._rates: list[float] | None = None

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "rates": self._rates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._rates = state["rates"]

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        super().on_fit_start(trainer, module)
        self._rates = None
        start = self.swa_epoch_start
        if isinstance(start, float):
            if trainer.max_epochs < 0:
                raise ArgumentError("SWA: a float swa_epoch_start needs max_epochs")
            start = int(start * trainer.max_epochs)
        self._start = start

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        if trainer.current_epoch < self._start:
            return
        groups = [group for o in trainer.optimizers for group in o.param_groups]
        if self._rates is None:
            self._rates = [float(group["lr"]) for group in groups]
        for schedule in trainer._schedules:
            schedule.rests = True
        done = min(1.0, (trainer.current_epoch - self._start) / max(self.annealing_epochs, 1))
        if self.annealing_strategy == "cos":
            done = (1 - math.cos(math.pi * done)) / 2
        for group, before in zip(groups, self._rates):
            group["lr"] = before + (self.swa_lrs - before) * done

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        if trainer.current_epoch >= self._start and not trainer.batches_done:
            self._update(1.0 / (self._updates + 1))

    def on_fit_end(self, trainer: Any, module: Any) -> None:
        if self._kept is None or trainer.received_signal is not None:
            return
        self.swap()
        self._swapped = False
        loop = trainer._loop
        refresh_batch_norm(trainer, module, limited(loop.loader, trainer.num_training_batches))


def refresh_batch_norm(trainer: Any, module: Any, batches: Any) -> None:
    """Take the statistics of batch-norm layers anew: their means over the training batches."""
    layers = [
        m
        for m in module.modules()
        if isinstance(m, (BatchNorm1d, BatchNorm2d, BatchNorm3d)) and m.running_mean is not None
    ]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    modes = {m: m.training for m in module.modules()}
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
    module.train()
    try:
        with mg.no_grad(), unchanged_metrics(module):
            for index, batch in enumerate(batches):
                trainer._book.start(True, False)
                trainer.precision.run(with_index(module.training_step), batch, index)
                trainer._book.take()
    finally:
        for layer, momentum in zip(layers, momenta):
            layer.momentum = momentum
        for m, mode in modes.items():
            m.training = mode
