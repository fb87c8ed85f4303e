"""What compile is told about outputs: a loss, its weight and metrics for each of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import monograph as mg

from ..core.errors import ArgumentError
from ..metrics import Metric
from .losses import LOSSES, METRICS, by_name


class Goal:
    """One output: what is made small, and what is measured.

    name       of the output; None where there is one alone
    loss       function (predictions, targets) -> a number for each sample or for all; None: no loss
    functions  of the same kind, by the names under which they are logged
    objects    Metric objects by name; `checks` are copies of them for validation
    measures   the loss and all of these, for a train_step of one's own
    """

    def __init__(self, name: str | None, loss: Any, weight: float, metrics: Sequence[Any]):
        self.name, self.weight = name, weight
        self.loss = None if loss is None else by_name("loss", loss, LOSSES)
        self.functions: dict[str, Callable] = {}
        self.objects: dict[str, Metric] = {}
        for given in metrics:
            if isinstance(given, Metric):
                self.objects[self.called(type(given).__name__.lower())] = given
            else:
                function = by_name("metric", given, METRICS)
                kind = getattr(function, "__name__", type(function).__name__.lower())
                self.functions[self.called(given if isinstance(given, str) else kind)] = function
        self.measures = [
            Measure(self.called("loss"), None),
            *(Measure(name, f) for name, f in self.functions.items()),
            *(Measure(name, None, metric) for name, metric in self.objects.items()),
        ]
        self.checks = {name: copy.deepcopy(metric) for name, metric in self.objects.items()}

    def called(self, what: str) -> str:
        return what if self.name is None else f"{self.name}_{what}"

    def loss_of(self, preds: Any, target: Any, sample_weight: Any) -> Any:
        """The mean over the samples, each times its weight."""
        assert self.loss is not None
        each = self.loss(preds, target)
        if sample_weight is None:
            return each.mean()
        if each.ndim == 0:
            raise ArgumentError(
                "fit: weights of samples need a loss that gives a number for each sample"
            )
        return (each * sample_weight.to(each.dtype)).mean()


class Measure:
    """A metric, or the loss, in a train_step of one's own: update_state, then result."""

    def __init__(self, name: str, function: Callable | None, metric: Metric | None = None):
        self.name, self.function, self.metric = name, function, metric
        self._value: Any = None

    def update_state(self, *given: Any, sample_weight: Any = None) -> None:
        """Take in (targets, predictions), or for the loss its value."""
        if self.metric is not None:
            self.metric.update(given[1], given[0])
        elif self.function is None:
            self._value = given[0]
        else:
            self._value = self.function(given[1], given[0]).float().mean()

    def result(self) -> Any:
        """What to log: the value of the batch, or the metric, which gathers over the epoch."""
        return self._value if self.metric is None else self.metric

    def reset_state(self) -> None:
        """Forget what was taken in."""
        if self.metric is not None:
            self.metric.reset()


class Goals:
    """The goals of all outputs. `names` are those of the outputs, or None where nobody knows."""

    def __init__(self, loss: Any, loss_weights: Any, metrics: Any, names: list[str] | None):
        self.given = loss, loss_weights, metrics
        self.names = names
        self._made: dict[tuple, list[Goal]] = {}
        if names is None:
            for name in _leaves(loss):
                by_name("loss", name, LOSSES)
            for name in _leaves(metrics):
                if not isinstance(name, Metric):
                    by_name("metric", name, METRICS)
        else:  # what is wrong is said at once
            self.of(names if len(names) > 1 or isinstance(loss, dict) else None)

    def of(self, names: Sequence[str] | None) -> list[Goal]:
        """A Goal for each of the outputs of these names (None: the one output)."""
        key = ("",) if names is None else tuple(names)
        if key not in self._made:
            self._made[key] = self._make(names)
        return self._made[key]

    def _make(self, names: Sequence[str] | None) -> list[Goal]:
        loss, weights, metrics = self.given
        if names is None:
            return [Goal(None, loss, 1.0, _listed(metrics))]
        metrics = {} if metrics is None else metrics
        for what, given in (("loss", loss), ("loss_weights", weights), ("metrics", metrics)):
            if isinstance(given, dict):
                unknown = [name for name in given if name not in names]
                if unknown:
                    raise ArgumentError(
                        f"compile: {what} names the output {unknown[0]!r}; there are "
                        + ", ".join(names)
                    )
        goals = []
        by_place = isinstance(metrics, (list, tuple)) and any(
            m is None or isinstance(m, (list, tuple)) for m in metrics
        )
        for i, name in enumerate(names):
            own: Any = metrics
            if isinstance(metrics, dict):
                own = metrics.get(name, ())
            elif by_place:
                own = _at("metrics", metrics, i, len(names)) or ()
            elif any(isinstance(m, Metric) for m in _listed(metrics)):
                raise ArgumentError(
                    "compile: Metric objects of a model with several outputs need a dict by output"
                )
            weight = 1.0
            if isinstance(weights, dict):
                weight = weights.get(name, 1.0)
            elif weights is not None:
                weight = _at("loss_weights", weights, i, len(names))
            one = loss
            if isinstance(loss, dict):
                one = loss.get(name)
            elif isinstance(loss, (list, tuple)):
                one = _at("loss", loss, i, len(names))
            goals.append(Goal(name, one, float(weight), _listed(own)))
        if all(goal.loss is None for goal in goals):
            raise ArgumentError("compile: no output has a loss")
        return goals

    def paired(self, preds: Any, y: Any) -> list[tuple[Goal, Any, Any]]:
        """(goal, predictions, targets) of each output that has targets."""
        if isinstance(preds, mg.Tensor):
            only = self.names[0] if self.names else None
            if isinstance(y, dict):
                y = _target("", y, only or next(iter(y)))
            elif isinstance(y, (list, tuple)) and len(y) == 1:
                y = y[0]
            by_output = isinstance(self.given[0], dict) and only is not None
            return [(self.of([only] if by_output else None)[0], preds, y)]  # type: ignore[list-item]
        if isinstance(preds, dict):
            names, values = list(preds), list(preds.values())
        else:
            values = list(preds)
            names = self.names or [f"output_{i}" for i in range(len(values))]
        goals = self.of(names)
        if isinstance(y, dict):
            wanted = [_target("fit", y, n) if g.loss is not None else y.get(n)
                      for n, g in zip(names, goals)]  # fmt: skip
        elif isinstance(y, (list, tuple)) and len(y) == len(values):
            wanted = list(y)
        else:
            raise ArgumentError(
                f"fit: the model has {len(values)} outputs ({', '.join(names)}), so that y must be "
                "a list of as many arrays, or a dict by output"
            )
        return [t for t in zip(goals, values, wanted) if t[2] is not None]

    def all(self) -> list[Goal]:
        """Those that were asked for so far."""
        return [goal for goals in self._made.values() for goal in goals]


def _target(what: str, y: dict, name: str) -> Any:
    if name not in y:
        raise ArgumentError(f"fit: y has no targets for the output {name!r}; it has {', '.join(y)}")
    return y[name]


def _at(what: str, given: Any, i: int, count: int) -> Any:
    if not isinstance(given, (list, tuple)) or len(given) != count:
        raise ArgumentError(f"compile: {what} must be a list of {count}, one for each output")
    return given[i]


def _listed(given: Any) -> list[Any]:
    if given is None:
        return []
    return list(given) if isinstance(given, (list, tuple)) else [given]


def _leaves(given: Any) -> list[Any]:
    if isinstance(given, dict):
        given = list(given.values())
    if isinstance(given, (list, tuple)):
        return [x for part in given for x in _leaves(part)]
    return [] if given is None else [given]
