"""The base of all metrics: named states that start somewhere and add up.

A metric says how a state starts (`_initial`), what a batch adds (`update`) and what the states
mean (`compute`). Read next: classification.py, regression.py.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

import monograph as mg

from ..core.errors import ArgumentError, ArgumentTypeError, ShapeError


class Metric:
    """A number (or array) about predictions, gathered over batches.

    update(...)    take in a batch
    compute()      the value over all batches since the last reset; nan if there were none
    reset()        forget everything
    merge(other)   take in what another metric of the same settings has gathered
    metric(...)    update, and give the value of this batch alone

    States are integers, integer arrays and exact sums: the value does not depend on how the
    samples are divided into batches or among processes.
    """

    def __init__(self) -> None:
        self.reset()

    def _initial(self) -> dict[str, Any]:
        """The states, by name, before any batch: values that `+` combines."""
        raise NotImplementedError(f"{type(self).__name__} must define _initial")

    def update(self, *args, **kwargs) -> None:
        raise NotImplementedError(f"{type(self).__name__} must define update")

    def compute(self):
        raise NotImplementedError(f"{type(self).__name__} must define compute")

    def reset(self) -> None:
        """Forget all batches."""
        vars(self).update(self._initial())

    def merge(self, *others: Metric) -> Metric:
        """Take in what other metrics of the same kind and settings have gathered; returns self."""
        for other in others:
            if type(other) is not type(self) or other._settings() != self._settings():
                raise ArgumentError(f"merge: {self!r} and {other!r} measure different things")
        for other in others:
            for name in self._initial():
                setattr(self, name, getattr(self, name) + getattr(other, name))
        return self

    def __call__(self, *args, **kwargs):
        """Update with a batch; the value of this batch alone."""
        batch = copy.copy(self)
        batch.reset()
        batch.update(*args, **kwargs)
        self.merge(batch)
        return batch.compute()

    def state_dict(self) -> dict[str, Any]:
        """The states by name, copied."""
        return {name: copy.deepcopy(getattr(self, name)) for name in self._initial()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave. ArgumentError if the names differ."""
        if state.keys() != self._initial().keys():
            raise ArgumentError(
                f"{type(self).__name__}: expected the states {sorted(self._initial())}, "
                f"got {sorted(state)}"
            )
        vars(self).update(copy.deepcopy(state))

    def _settings(self) -> dict[str, Any]:
        states = self._initial().keys()
        return {name: value for name, value in vars(self).items() if name not in states}

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self._settings().items())
        return f"{type(self).__name__}({settings})"


def as_array(x) -> np.ndarray:
    """The values of a tensor, or np.asarray of anything else."""
    return x.detach().numpy() if isinstance(x, mg.Tensor) else np.asarray(x)


def as_floats(operation: str, name: str, x) -> np.ndarray:
    """The values as float64; an error names the argument if they are not numbers."""
    array = as_array(x)
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError):
        raise ArgumentTypeError(
            f"{operation}: {name} must hold numbers, got dtype {array.dtype}"
        ) from None


def check_same_shape(operation: str, preds: np.ndarray, target: np.ndarray) -> None:
    if preds.shape != target.shape:
        raise ShapeError(
            f"{operation}: shapes differ: preds is {preds.shape}, target is {target.shape}"
        )


def ratio(part: int, whole: int) -> float:
    """part / whole; nan where there is nothing."""
    return part / whole if whole else float("nan")
