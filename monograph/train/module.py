"""TrainModule: a model that says how it is trained. The Trainer does the rest.

The shape is that of Lightning's LightningModule. Read next: trainer.py, steps.py.
"""

from __future__ import annotations

import inspect
from typing import Any

from ..core.errors import ArgumentError, ArgumentTypeError, DataError
from ..core.modes import modes
from ..core.tracing import live_scalar
from ..nn import Module as NNModule
from ..nn.utils import clip_grad_norm_, clip_grad_value_
from .checkpoint import load_checkpoint
from .hparams import HyperParameters


class TrainModule(HyperParameters, NNModule):
    """A model with its training: define training_step and configure_optimizers.

    training_step(batch, batch_idx)     -> the loss, or a dict with "loss"; None skips the batch.
                                           All steps may leave batch_idx out.
                                           "weight" in the dict: what the batch counts when batches
                                           are accumulated (its tokens, say; else its samples)
    validation_step, test_step          -> anything; log with self.log
    predict_step(batch, batch_idx)      -> what predict collects; by default forward(batch)
    configure_optimizers()              -> an optimizer; ([optimizers], [schedulers]); or a dict
                                           {"optimizer": ..., "lr_scheduler": ...}

    With several loaders the evaluation steps also receive dataloader_idx.

    The Trainer compiles the whole training step (mg.jit). Its Python then runs only while it is
    captured; so log tensors rather than Python numbers, and do what needs values (metrics of
    monograph.metrics, files, prints) in hooks such as on_train_batch_end. `batch_idx`,
    `self.global_step` and `self.current_epoch` are 0-d tensors inside a captured step. What cannot
    be captured runs eagerly, with a warning that says why.

    >>> from monograph import nn, optim
    >>> class Line(TrainModule):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.layer = nn.Linear(1, 1)
    ...     def training_step(self, batch, batch_idx):
    ...         x, y = batch
    ...         return ((self.layer(x) - y) ** 2).mean()
    ...     def configure_optimizers(self):
    ...         return optim.SGD(self.parameters(), lr=0.1)
    """

    trainer: Any = None  # the Trainer that ran this module last
    automatic_optimization = True  # False: training_step itself calls manual_backward and step

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in super().__getstate__().items() if k != "trainer"}

    # What a model defines

    def training_step(self, batch: Any, batch_idx: Any) -> Any:
        """The loss of one batch."""
        raise NotImplementedError(f"{type(self).__name__}.training_step is not defined")

    def validation_step(self, batch: Any, batch_idx: Any) -> Any:
        """Evaluate one batch; log what matters."""
        raise NotImplementedError(f"{type(self).__name__}.validation_step is not defined")

    def test_step(self, batch: Any, batch_idx: Any) -> Any:
        """Evaluate one batch of the test data."""
        raise NotImplementedError(f"{type(self).__name__}.test_step is not defined")

    def predict_step(self, batch: Any, batch_idx: Any) -> Any:
        """The predictions for one batch."""
        return self(batch)

    def configure_optimizers(self) -> Any:
        """Optimizers and schedulers; None trains nothing by itself."""
        raise NotImplementedError(f"{type(self).__name__}.configure_optimizers is not defined")

    def train_dataloader(self) -> Any:
        """The training data, where fit receives none."""
        raise DataError(f"{type(self).__name__}: fit was given no train_dataloaders")

    def val_dataloader(self) -> Any:
        """The validation data, where none is given; None for none."""

    def test_dataloader(self) -> Any:
        """The test data, where none is given."""

    def predict_dataloader(self) -> Any:
        """The data to predict, where none is given."""

    # What a model may call

    def log(
        self,
        name: str,
        value: Any,
        prog_bar: bool = False,
        logger: bool = True,
        on_step: bool | None = None,
        on_epoch: bool | None = None,
        reduce_fx: str = "mean",
        batch_size: int | None = None,
    ) -> None:
        """Log one number under a name, or a Metric, which is computed at the end of the epoch.

        prog_bar    show it in the progress bar
        on_step     keep each step's value; on_epoch: the mean over the epoch, weighted by batch
                    size. By default training steps log per step, all else per epoch. With both,
                    the names get the endings _step and _epoch
        reduce_fx   "mean", "sum", "min" or "max" over the epoch
        batch_size  the weight; by default the first axis of the batch's first tensor
        """
        if self.trainer is None:
            raise ArgumentError(f"log: {name!r} is logged, but no Trainer is running this module")
        self.trainer._book.log(
            name, value, prog_bar, logger, on_step, on_epoch, reduce_fx, batch_size
        )

    def log_dict(self, values: dict[str, Any], **options: Any) -> None:
        """Log several numbers with the same options."""
        for name, value in values.items():
            self.log(name, value, **options)

    def optimizers(self) -> Any:
        """The optimizer, or the list of them."""
        found = self._running("optimizers").optimizers
        return found[0] if len(found) == 1 else found

    def lr_schedulers(self) -> Any:
        """The learning-rate schedule, the list of them, or None."""
        found = [c.scheduler for c in self._running("lr_schedulers")._schedules]
        return (found[0] if found else None) if len(found) < 2 else found

    def manual_backward(self, loss: Any) -> None:
        """loss.backward(), for modules with automatic_optimization = False."""
        loss.backward()

    def toggle_optimizer(self, optimizer: Any) -> None:
        """Let gradients flow to the parameters of this optimizer only, until untoggle_optimizer."""
        own = {id(p) for group in optimizer.param_groups for p in group["params"]}
        kept = self.__dict__.setdefault("_toggled", {})
        for other in self._running("toggle_optimizer").optimizers:
            for group in other.param_groups:
                for p in group["params"]:
                    if id(p) not in own:
                        if modes.trace is not None:  # noted as it is, to be put back afterwards
                            modes.trace.lift(p)
                        kept.setdefault(id(p), (p, p.requires_grad))
                        p.requires_grad_(False)

    def untoggle_optimizer(self, optimizer: Any) -> None:
        """Undo toggle_optimizer."""
        for p, flows in self.__dict__.pop("_toggled", {}).values():
            p.requires_grad_(flows)

    def clip_gradients(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str = "norm",
    ) -> None:
        """Limit the gradients of an optimizer's parameters: their "norm", or each "value"."""
        if gradient_clip_val is None:
            return
        params = [p for group in optimizer.param_groups for p in group["params"]]
        clip = clip_grad_norm_ if gradient_clip_algorithm == "norm" else clip_grad_value_
        clip(params, gradient_clip_val)

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None, gradient_clip_algorithm: str
    ) -> None:
        """Inside the step, when the gradients are there; by default clip_gradients."""
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def optimizer_zero_grad(self, optimizer: Any) -> None:
        """Inside the step, before backward; by default optimizer.zero_grad()."""
        optimizer.zero_grad()

    def _running(self, what: str) -> Any:
        if self.trainer is None:
            raise ArgumentError(f"{what}: no Trainer is running this module")
        return self.trainer

    @property
    def global_step(self) -> Any:
        """Optimizer steps so far: an int, or inside a captured step a 0-d float32 tensor."""
        return live_scalar(lambda: self.trainer.global_step if self.trainer else 0)

    @property
    def current_epoch(self) -> Any:
        """The epoch, from 0: an int, or inside a captured step a 0-d float32 tensor."""
        return live_scalar(lambda: self.trainer.current_epoch if self.trainer else 0)

    # Loading

    @classmethod
    def load_from_checkpoint(cls, path: Any, strict: bool = True, **arguments: Any) -> Any:
        """A model with the weights of a checkpoint.

        arguments  of __init__; those kept by save_hyperparameters need not be given
        """
        weights, state = load_checkpoint(path)
        signature = inspect.signature(cls.__init__).parameters
        known = {k: v for k, v in state.get("hparams", {}).items() if k in signature}
        try:
            model = cls(**{**known, **arguments})
        except TypeError as error:
            raise ArgumentTypeError(
                f"load_from_checkpoint: {cls.__name__} cannot be made: {error}",
                hint="call self.save_hyperparameters() in __init__, or give the arguments here",
            ) from None
        model.load_state_dict(weights, strict)
        model.on_load_checkpoint(state.get("module", {}))
        return model

    # Hooks. Of what starts the callbacks hear first, of what ends the module does.

    def on_fit_start(self) -> None:
        """Before training."""

    def on_fit_end(self) -> None:
        """After training."""

    def on_train_start(self) -> None:
        """Before the first epoch, after a checkpoint was restored."""

    def on_train_end(self) -> None:
        """After the last epoch."""

    def on_train_epoch_start(self) -> None:
        """Before an epoch of training."""

    def on_train_epoch_end(self) -> None:
        """After an epoch of training and its validation."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Before a training step."""

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """After a training step; `outputs` is what training_step returned."""

    def on_before_zero_grad(self, optimizer: Any) -> None:
        """Inside the step, before the gradients are cleared."""

    def on_after_backward(self) -> None:
        """Inside the step, when the gradients are there."""

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Inside the step, after clipping, before the parameters change."""

    def on_validation_start(self) -> None:
        """Before validation."""

    def on_validation_end(self) -> None:
        """After validation."""

    def on_validation_epoch_start(self) -> None:
        """Before the batches of validation."""

    def on_validation_epoch_end(self) -> None:
        """After the batches of validation; what is logged here can be monitored."""

    def on_validation_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Before a validation step."""

    def on_validation_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """After a validation step."""

    def on_test_start(self) -> None:
        """Before testing."""

    def on_test_end(self) -> None:
        """After testing."""

    def on_test_epoch_start(self) -> None:
        """Before the batches of testing."""

    def on_test_epoch_end(self) -> None:
        """After the batches of testing."""

    def on_test_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Before a test step."""

    def on_test_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """After a test step."""

    def on_predict_start(self) -> None:
        """Before predicting."""

    def on_predict_end(self) -> None:
        """After predicting."""

    def on_predict_epoch_start(self) -> None:
        """Before the batches to predict."""

    def on_predict_epoch_end(self) -> None:
        """After the batches to predict."""

    def on_predict_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Before a predict step."""

    def on_predict_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """After a predict step."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put what the module wants to keep into `checkpoint`, a dict of its own."""

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take out what on_save_checkpoint put in."""
