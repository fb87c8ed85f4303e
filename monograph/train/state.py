"""What a checkpoint of a Trainer holds, and how training goes on from it."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import monograph as mg

from ..core.errors import DataError
from ..metrics import Metric
from .checkpoint import encode, load_checkpoint
from .seeding import random_state


def collect(trainer: Any, weights_only: bool = False) -> dict[str, Any]:
    """All that training needs to go on, beside the weights."""
    module, loop = trainer.module, trainer._loop
    kept: dict[str, Any] = {}
    module.on_save_checkpoint(kept)
    state: dict[str, Any] = {
        "hparams": dict(module.hparams),
        "module": kept,
        "versions": {
            "monograph": mg.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    if weights_only:
        return state
    state.update(
        {
            "epoch": loop.epochs_done,
            "global_step": trainer.global_step,
            "batches_done": trainer.batches_done,
            "epoch_random": loop.epoch_random if trainer.batches_done else None,
            "epoch_data": loop.epoch_data if trainer.batches_done else own_state(loop.loader),
            "validation_data": validation_data(loop),
            "random": random_state(),
            "validated_at": loop.validated_at,
            "metrics": trainer.callback_metrics,
            "logged": trainer._train_book.state_dict(),
            "module_metrics": {n: m.state_dict() for n, m in module_metrics(module)},
            "logged_metrics": logged_metrics(trainer),
            "window": loop.step.state_dict(),
            "scaler": trainer.precision.scaler.state_dict(),
            "optimizers": [o.state_dict() for o in trainer.optimizers],
            "schedules": [s.scheduler.state_dict() for s in trainer._schedules],
            "callbacks": {c.state_key: c.state_dict() for c in trainer.callbacks},
            "datamodule": trainer.datamodule.state_dict() if trainer.datamodule else None,
            "hashes": loop.hashes(),
        }
    )
    trainer.hooks.tell_callbacks("on_save_checkpoint", state)
    return state


def parts(trainer: Any, weights_only: bool = False) -> list[Any]:
    """The tensors that make up most of a checkpoint: weights, optimizers, callbacks' own."""
    tensors: dict[str, Any] = {}
    held = [trainer.module.state_dict()]
    if not weights_only:
        held += [o.state_dict() for o in trainer.optimizers]
        held += [c.state_dict() for c in trainer.callbacks]
    for i, state in enumerate(held):
        encode(state, tensors, str(i))
    return list(tensors.values())


def restore(trainer: Any, path: Path) -> Any:
    """Load everything but the random state, which is returned to be set last."""
    weights, state = load_checkpoint(path)
    module, loop = trainer.module, trainer._loop
    if "optimizers" not in state:
        raise DataError(
            f"Trainer: {path} holds weights only; training cannot be resumed from it",
            hint="model.load_state_dict(load_checkpoint(path)[0]) starts anew from the weights",
        )
    for kind, have in (("optimizers", trainer.optimizers), ("schedules", trainer._schedules)):
        if len(state[kind]) != len(have):
            raise DataError(
                f"Trainer: {path} has the state of {len(state[kind])} {kind}, the "
                f"module configures {len(have)}"
            )
    _compare_data(loop, path, state.get("hashes"))
    module.load_state_dict(weights)
    for optimizer, saved in zip(trainer.optimizers, state["optimizers"]):
        optimizer.load_state_dict(saved)
    if state.get("scaler"):
        trainer.precision.scaler.load_state_dict(state["scaler"])
    for schedule, saved in zip(trainer._schedules, state["schedules"]):
        schedule.scheduler.load_state_dict(saved)
    for callback in trainer.callbacks:
        if callback.state_key in state["callbacks"]:
            callback.load_state_dict(state["callbacks"][callback.state_key])
    if trainer.datamodule and state.get("datamodule"):
        trainer.datamodule.load_state_dict(state["datamodule"])
    loop.epochs_done = trainer.current_epoch = state["epoch"]
    trainer.global_step = state["global_step"]
    trainer.batches_done = state["batches_done"]
    loop.epoch_random = state["epoch_random"]
    loop.epoch_data = state.get("epoch_data")
    if not trainer.batches_done and loop.epoch_data is not None and own_state(loop.loader):
        loop.loader.load_state_dict(loop.epoch_data)
    for loader, saved in zip(loop.validation_loaders, state.get("validation_data", ())):
        if saved is not None and own_state(loader) is not None:
            loader.load_state_dict(saved)
    loop.validated_at = state["validated_at"]
    trainer._train_book.load_state_dict(state["logged"])
    metrics = dict(module_metrics(module))
    for name, saved in state.get("module_metrics", {}).items():
        if name in metrics:
            metrics[name].load_state_dict(saved)
    for logged, name in state.get("logged_metrics", {}).items():
        if name in metrics:
            trainer._train_book.metrics[logged] = metrics[name]
    loop.step.load_state_dict(state["window"])
    trainer._metrics = dict(state["metrics"])
    module.on_load_checkpoint(state["module"])
    trainer.hooks.tell_callbacks("on_load_checkpoint", state)
    return state["random"]


def _compare_data(loop: Any, path: Path, saved: dict[str, Any] | None) -> None:
    """Warn if training goes on with other data than it began with."""
    if saved is None:
        return
    now = loop.hashes()
    if saved["data"] is not None and now["data"] is not None and saved["data"] != now["data"]:
        warnings.warn(
            f"Trainer: the training data is not what it was when {path.name} was written; training "
            "goes on, but not as it would have without the interruption",
            RuntimeWarning,
            stacklevel=6,
        )


def own_state(loader: Any) -> Any:
    """What a loader says of its own generators, or None."""
    if hasattr(loader, "state_dict") and hasattr(loader, "load_state_dict"):
        return loader.state_dict()
    return None


def validation_data(loop: Any) -> list[Any]:
    """Where each validation loader stands."""
    return [own_state(loader) for loader in loop.validation_loaders]


def module_metrics(module: Any) -> list[tuple[str, Metric]]:
    """The Metric objects that are attributes of a module or of modules in it, by name."""
    found = []
    for prefix, part in module.named_modules():
        for name, value in vars(part).items():
            if isinstance(value, Metric):
                found.append((f"{prefix}.{name}" if prefix else name, value))
    return found


@contextmanager
def unchanged_metrics(module: Any) -> Iterator[None]:
    """Metrics are as before afterwards."""
    kept = [(metric, metric.state_dict()) for _, metric in module_metrics(module)]
    try:
        yield
    finally:
        for metric, state in kept:
            metric.load_state_dict(state)


def logged_metrics(trainer: Any) -> dict[str, str]:
    """Metric objects that were logged in training: the module's name for each, by logged name."""
    names = {id(metric): name for name, metric in module_metrics(trainer.module)}
    logged = trainer._train_book.metrics.items()
    return {name: names[id(metric)] for name, metric in logged if id(metric) in names}
