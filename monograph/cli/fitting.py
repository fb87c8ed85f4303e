"""What `monograph fit` does with a resolved configuration."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..core.errors import ArgumentError, ArgumentTypeError
from ..data import DataLoader, Dataset, IterableDataset
from ..models import Model
from ..models.registry import make
from ..train import (
    Callback,
    GraphMonitor,
    HistogramMonitor,
    JSONLinesLogger,
    ModelCheckpoint,
    SystemMonitor,
    Trainer,
    TrainModule,
    seed_everything,
)


def fit(
    config: dict[str, Any], resume: bool = False, watching: Sequence[Callback] = ()
) -> dict[str, float]:
    """Train as a resolved configuration says; the newest value of each metric.

    watching  callbacks beside those of the configuration
    """
    output = Path(config["output"])
    if output.is_dir() and any(output.iterdir()) and not resume:
        raise ArgumentError(
            f"fit: {output} has a run already", hint="--resume goes on with it; or output=ANOTHER"
        )
    seed_everything(config["seed"])
    model = _model(config["model"])
    train, checks = (_loader(config["data"], part) for part in ("train", "validation"))
    options = dict(config["trainer"])
    callbacks = make(options.pop("callbacks", []), "trainer.callbacks")
    for kind in (GraphMonitor, HistogramMonitor, SystemMonitor):  # for `monograph board`
        if not any(isinstance(callback, kind) for callback in callbacks):
            callbacks.append(kind())
    output.mkdir(parents=True, exist_ok=True)
    (output / "config.json").write_text(json.dumps(config, indent=1))
    keep = ModelCheckpoint(output, save_top_k=0, save_last=True)
    logger = JSONLinesLogger(output.parent, output.name, version="")
    try:
        trainer = Trainer(**options, callbacks=[*callbacks, *watching, keep], logger=logger)
    except TypeError as error:
        raise ArgumentTypeError(f"fit: trainer: {error}") from None
    if isinstance(model, Model):
        model._build(train)
    trainer.fit(model, train, checks, ckpt_path="last" if resume else None)
    if trainer.interrupted:
        raise KeyboardInterrupt
    return dict(trainer.callback_metrics)


def _model(config: dict[str, Any]) -> TrainModule:
    options = {k: v for k, v in config.items() if k != "compile"}
    model = make(options, "model")
    if not isinstance(model, TrainModule):
        raise ArgumentTypeError(f"fit: model must be a TrainModule, got {type(model).__name__}")
    if "compile" in config:
        model.compile(**make(config["compile"], "model.compile"))  # type: ignore[attr-defined]
    return model


def _loader(data: dict[str, Any], part: str) -> Any:
    if part not in data:
        return None
    dataset = make(data[part], f"data.{part}")
    if isinstance(dataset, DataLoader):
        return dataset
    if not isinstance(dataset, Dataset):
        raise ArgumentTypeError(f"fit: data.{part} must be a data set, got {dataset!r}")
    return DataLoader(
        dataset,
        batch_size=data["batch_size"],
        shuffle=part == "train" and not isinstance(dataset, IterableDataset),
        num_workers=data["num_workers"],
    )
