"""Names that a run's configuration may use, and objects made of such descriptions.

A description is a dict with "class", a registered name, and the arguments: {"class": "Dense",
"units": 10}. Only what is registered can be made: a configuration file runs no code of its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from .. import data, train
from ..core.errors import ArgumentError, ArgumentTypeError
from ..data import augment, transforms
from . import layers
from .layers import Input, Layer
from .model import Model, Sequential

_known: dict[str, Callable] = {}


def register(thing: Callable, name: str | None = None) -> Callable:
    """Let configurations name a class (or function); also a decorator. Returns it.

    >>> @register
    ... class Mine(Sequential):
    ...     pass
    >>> type(make({"class": "Mine"})).__name__
    'Mine'
    """
    name = name or thing.__name__
    if _known.get(name, thing) is not thing:
        raise ArgumentError(f"register: the name {name!r} is taken")
    _known[name] = thing
    return thing


def names() -> list[str]:
    """All registered names."""
    return sorted(_known)


def make(given: Any, place: str = "config") -> Any:
    """`given` with every description in it made into an object.

    ArgumentError names the place of what is not known or has wrong arguments.
    """
    if isinstance(given, list):
        return [make(x, f"{place}[{i}]") for i, x in enumerate(given)]
    if not isinstance(given, dict):
        return given
    made = {k: make(v, f"{place}.{k}") for k, v in given.items() if k != "class"}
    if "class" not in given:
        return made
    name = given["class"]
    if name not in _known:
        near = [n for n in names() if str(name).lower() in n.lower()]
        raise ArgumentError(
            f"{place}: there is no registered class {name!r}",
            hint=f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(names())}",
        )
    try:
        inspect.signature(_known[name]).bind(**made)
    except TypeError as error:
        raise ArgumentTypeError(f"{place}: {name}: {error}") from None
    return _known[name](**made)


for _thing in (
    Input, Model, Sequential, data.CSVDataset, data.NumpyDataset, data.ImageFolder, data.TarShards,
    data.MNIST, data.Digits, data.DataLoader, data.RandAugment, data.Mixup, data.CutMix,
    augment.RandAugment, transforms.Compose, transforms.ToFloat, transforms.Normalize,
    transforms.RandomHorizontalFlip, transforms.RandomVerticalFlip, transforms.RandomCrop,
    transforms.CenterCrop, transforms.Resize, transforms.RandomResizedCrop, transforms.ColorJitter,
    transforms.RandomErasing, train.ModelCheckpoint, train.EarlyStopping, train.EMA, train.SWA,
    train.LearningRateMonitor, train.Timer, train.NaNWatchdog, train.ThroughputMonitor,
    train.HistogramMonitor, train.SystemMonitor, train.SampleMonitor, train.GraphMonitor,
    train.BackboneFreezing, train.CSVLogger, train.JSONLinesLogger, train.TensorBoardLogger,
):  # fmt: skip
    register(_thing)
for _thing in vars(layers).values():
    if isinstance(_thing, type) and issubclass(_thing, Layer) and _thing.__name__[0] != "_":
        register(_thing)
