"""The steps that the Trainer repeats, each captured as one program.

TrainStep holds forward, backward, accumulation, clipping and optimizer; EvalStep runs a
validation, test or predict step. Both fall back to eager execution, with one warning, where the
module's Python cannot be captured. Read next: trainer.py.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import monograph as mg

from ..core import pytree
from ..core.errors import ArgumentError, ArgumentTypeError, CompileError, TraceError
from ..nn.utils import clip_grad_norm_, clip_grad_value_
from .logbook import LogBook

_PLAIN = (mg.Tensor, np.ndarray, bool, int, float, np.number, np.bool_)


class Compiled:
    """A function of (batch, batch number, ...), captured unless that fails."""

    def __init__(self, function: Callable, jit: bool, name: str, static: tuple[int, ...] = ()):
        self.function = function
        self.name = name
        self.captured = mg.jit(function, static_argnums=static) if jit else None

    def __call__(self, book: LogBook, batch: Any, batch_idx: int, *rest: Any) -> Any:
        if self.captured is not None:
            odd = next((x for x in pytree.tree_leaves(batch) if not isinstance(x, _PLAIN)), None)
            if odd is None:
                try:
                    return self.captured(batch, mg.tensor(batch_idx), *rest)
                except (TraceError, CompileError) as error:
                    self._give_up(str(error))
                    book.start(book.step_on, book.epoch_on)
            else:
                self._give_up(f"the batch holds {type(odd).__name__}, which varies")
        return self.function(batch, batch_idx, *rest)

    def _give_up(self, reason: str) -> None:
        self.captured = None
        warnings.warn(
            f"Trainer: {self.name} runs eagerly from now on, because it cannot be captured: "
            f"{reason}. What needs values can go into a hook (on_train_batch_end, "
            "on_validation_batch_end); Trainer(jit=False) silences this",
            RuntimeWarning,
            stacklevel=2,
        )


class TrainStep:
    """One batch of training.

    With accumulation the gradient of a window of batches is the mean over all its samples: each
    batch counts by its number of samples, also in a last window that is shorter.
    """

    def __init__(self, trainer: Any, module: Any, optimizers: list[Any]):
        self.trainer, self.module = trainer, module
        self.automatic = module.automatic_optimization
        if self.automatic and len(optimizers) > 1:
            raise ArgumentError(
                f"Trainer: {len(optimizers)} optimizers need manual optimization",
                hint="set automatic_optimization = False and call manual_backward, "
                "optimizer.step() and optimizer.zero_grad() in training_step",
            )
        self.optimizer = optimizers[0] if optimizers and self.automatic else None
        self.params = (
            [p for group in self.optimizer.param_groups for p in group["params"]]
            if self.optimizer
            else []
        )
        windows = trainer.accumulate_grad_batches > 1
        if windows and not self.automatic:
            raise ArgumentError("Trainer: accumulate_grad_batches needs automatic optimization")
        name = f"{type(module).__name__}.training_step"
        self.whole = Compiled(self._whole, trainer.jit, name)
        self.part = Compiled(self._part, trainer.jit, name) if windows else None
        self.sums: list[mg.Tensor] | None = None
        self.touched: set[int] = set()
        self.samples = 0  # in the window so far

    def __call__(
        self, book: LogBook, batch: Any, batch_idx: int, size: int, ends: bool
    ) -> tuple[Any, dict, bool]:
        """(what training_step returned, what it logged, whether parameters were updated)."""
        book.start(True, False)
        if self.part is None:
            outputs, logged = self.whole(book, batch, batch_idx)
            return outputs, logged, outputs is not None
        if self.sums is None:
            self.sums = [mg.zeros_like(p, requires_grad=False) for p in self.params]
        first = self.samples == 0
        self.samples += size
        total = mg.tensor(float(self.samples))
        outputs, logged = self.part(book, batch, batch_idx, first, ends, total)
        if outputs is None:
            self.samples -= size
        elif ends:
            self.samples = 0
        return outputs, logged, ends and outputs is not None

    # What is captured

    def _whole(self, batch: Any, batch_idx: Any) -> tuple[Any, dict]:
        result = self.module.training_step(batch, batch_idx)
        loss = self._loss_of(result)
        if loss is not None and self.optimizer is not None:
            self.module.on_before_zero_grad(self.optimizer)
            self.optimizer.zero_grad()
            loss.backward()
            self._finish()
        return detached(result), self.trainer._book.take()

    def _part(
        self, batch: Any, batch_idx: Any, first: bool, ends: bool, total: Any
    ) -> tuple[Any, dict]:
        result = self.module.training_step(batch, batch_idx)
        loss = self._loss_of(result)
        if loss is None:
            return None, self.trainer._book.take()
        assert self.optimizer is not None and self.sums is not None
        self.optimizer.zero_grad()
        (loss * float(batch_size(batch))).backward()
        with mg.no_grad():
            for p, kept in zip(self.params, self.sums):
                if p.grad is not None:
                    self.touched.add(id(p))
                    kept.copy_(p.grad) if first else kept.add_(p.grad)
                elif first:
                    kept.zero_()
            if ends:
                self.module.on_before_zero_grad(self.optimizer)
                for p, kept in zip(self.params, self.sums):
                    if id(p) in self.touched:
                        p.grad = kept / total.to(kept.dtype)
        if ends:
            self._finish()
        else:
            self.module.zero_grad()
        return detached(result), self.trainer._book.take()

    def _finish(self) -> None:
        """From gradients to new parameters. The gradients are dropped: none leaves the program."""
        self.module.on_after_backward()
        limit = self.trainer.gradient_clip_val
        if limit is not None:
            if self.trainer.gradient_clip_algorithm == "norm":
                clip_grad_norm_(self.params, limit)
            else:
                clip_grad_value_(self.params, limit)
        self.module.on_before_optimizer_step(self.optimizer)
        self.optimizer.step()
        self.module.zero_grad()

    def _loss_of(self, result: Any) -> Any:
        if not self.automatic:
            return None
        name = f"{type(self.module).__name__}.training_step"
        loss = result
        if isinstance(result, dict):
            if "loss" not in result:
                raise ArgumentError(
                    f"{name} returned a dict without 'loss'; it has {sorted(map(str, result))}"
                )
            loss = result["loss"]
        if loss is None:
            return None
        if not isinstance(loss, mg.Tensor):
            raise ArgumentTypeError(
                f"{name} must return the loss (a tensor), a dict with 'loss', or None; "
                f"got {type(loss).__name__}"
            )
        if loss.numel() != 1:
            raise ArgumentError(
                f"{name}: the loss must be one number, got a tensor of shape {tuple(loss.shape)}"
            )
        if self.optimizer is not None and not loss.requires_grad:
            raise ArgumentError(
                f"{name}: the loss does not depend on any parameter that requires a gradient"
            )
        return loss

    # For checkpoints inside a window

    def state_dict(self) -> dict[str, Any] | None:
        if not self.samples or self.sums is None:
            return None
        touched = [i for i, p in enumerate(self.params) if id(p) in self.touched]
        return {"samples": self.samples, "touched": touched, "sums": list(self.sums)}

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        if state is None or self.part is None:
            return
        self.samples = state["samples"]
        self.sums = list(state["sums"])
        self.touched = {id(self.params[i]) for i in state["touched"]}


class EvalStep:
    """One batch of validation, test or prediction: no gradients."""

    def __init__(self, trainer: Any, module: Any, kind: str, several: bool):
        self.module = module  # kept alive: the Trainer finds this step by the module's id
        self.book = LogBook()  # lives as long as the captured programs, which log into it
        step = getattr(module, f"{kind}_step")

        def run(batch: Any, batch_idx: Any, loader: int) -> tuple[Any, dict]:
            result = step(batch, batch_idx, loader) if several else step(batch, batch_idx)
            return detached(result), trainer._book.take()

        name = f"{type(module).__name__}.{kind}_step"
        self.compiled = Compiled(run, trainer.jit, name, static=(2,))

    def __call__(self, batch: Any, batch_idx: int, loader: int) -> tuple[Any, dict]:
        """(what the step returned, what it logged)."""
        self.book.start(False, True)
        with mg.no_grad():
            return self.compiled(self.book, batch, batch_idx, loader)


def detached(result: Any) -> Any:
    """The same structure with detached tensors."""
    return pytree.tree_map(lambda x: x.detach() if isinstance(x, mg.Tensor) else x, result)


def batch_size(batch: Any) -> int:
    """The first axis of the first tensor of a batch that has one; 1 if there is none."""
    for leaf in pytree.tree_leaves(batch):
        if isinstance(leaf, (mg.Tensor, np.ndarray)) and len(leaf.shape):
            return int(leaf.shape[0])
    return 1
