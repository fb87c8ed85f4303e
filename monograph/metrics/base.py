"""The base of all metrics: named states that start somewhere and add up.

A metric says how a state starts (`_initial`), what a batch adds (`update`) and what the states
mean (`compute`). Read next: classification.py, regression.py.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import monograph as mg

from ..core import pytree
from ..core.errors import ArgumentError, ArgumentTypeError, ShapeError, TraceError


class Later:
    """The value of a metric for a batch, while the step is captured: to be logged, nothing else."""

    def __init__(self) -> None:
        self.value: Any = None  # once the captured step was run

    def _unknown(self, *_: Any) -> Any:
        raise TraceError(
            "the value of a metric is not known while a step is captured; it can be logged"
        )

    __float__ = __int__ = __bool__ = __index__ = __array__ = __format__ = _unknown
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _unknown
    __truediv__ = __rtruediv__ = __neg__ = __lt__ = __le__ = __gt__ = __ge__ = _unknown


# Updates of metrics inside a step that is captured: (metric, arguments, their names' values, where
# the batch's value goes or None). The arguments leave the program, and the updates follow it.
_postponed: list[tuple] | None = None


@contextmanager
def postponed_updates() -> Iterator[list[tuple]]:
    """Gather updates instead of doing them, while a step is captured."""
    global _postponed
    outer, _postponed = _postponed, []
    try:
        yield _postponed
    finally:
        _postponed = outer


def catch_up(updates: list[tuple]) -> None:
    """Do updates that were postponed."""
    for metric, args, kwargs, later in updates:
        if later is None:
            metric.update(*args, **kwargs)
        else:
            later.value = metric(*args, **kwargs)


def _postpone(metric: Metric, args: tuple, kwargs: dict, later: Later | None) -> None:
    def detached(x: Any) -> Any:
        return x.detach() if isinstance(x, mg.Tensor) else x

    assert _postponed is not None
    _postponed.append((metric, *pytree.tree_map(detached, (args, kwargs)), later))


def _can_wait(update: Callable) -> Callable:
    @functools.wraps(update)
    def method(self: Metric, *args: Any, **kwargs: Any) -> None:
        if _postponed is None:
            update(self, *args, **kwargs)
        else:
            _postpone(self, args, kwargs, None)

    return method


def _knows(compute: Callable) -> Callable:
    @functools.wraps(compute)
    def method(self: Metric) -> Any:
        if _postponed and any(metric is self for metric, *_ in _postponed):
            raise TraceError(
                f"{type(self).__name__}.compute: the value is not known while a step is captured; "
                "log the metric itself, or compute it in on_train_epoch_end and its kin"
            )
        return compute(self)

    return method


class Metric:
    """A number (or array) about predictions, gathered over batches.

    update(...)    take in a batch
    compute()      the value over all batches since the last reset; nan if there were none
    reset()        forget everything
    merge(other)   take in what another metric of the same settings has gathered
    metric(...)    update, and give the value of this batch alone

    States are integers, integer arrays and exact sums: the value does not depend on how the
    samples are divided into batches or among processes. In steps that a Trainer compiles, updates
    are done when the program has run.
    """

    def __init__(self) -> None:
        self.reset()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, wrapped in (("update", _can_wait), ("compute", _knows)):
            if name in vars(cls):
                setattr(cls, name, wrapped(vars(cls)[name]))

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
        if _postponed is not None:
            later = Later()
            _postpone(self, args, kwargs, later)
            return later
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
