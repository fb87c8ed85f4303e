"""Learning-rate schedules: objects that set the options of an optimizer's groups at each `step()`.

Here are those that listen to a metric and those made of other schedules; the rest stand in
schedule.py and cycles.py and are gathered here under PyTorch's names.
"""

import math
from bisect import bisect_right

from monograph.core.errors import ArgumentError
from monograph.optim.cycles import CosineAnnealingWarmRestarts, CyclicLR, OneCycleLR
from monograph.optim.schedule import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    FactorLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiplicativeLR,
    MultiStepLR,
    PolynomialLR,
    StepLR,
    check_not_captured,
    check_optimizer,
    current_rates,
    per_group,
    set_rate,
)

__all__ = [
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "FactorLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]

_LRScheduler = LRScheduler  # the name that older schedules of other programs inherit from


class ReduceLROnPlateau(LRScheduler):
    """Multiply the rate by `factor` when a metric has not improved for more than `patience` steps.

    mode       'min': lower is better; 'max': higher is better
    threshold  smallest improvement that counts; threshold_mode 'rel' (of the best) or 'abs'
    cooldown   steps after a reduction in which bad metrics do not count
    min_lr     lower limit, one or one per group; eps: reductions smaller than this are left out
    """

    def __init__(
        self,
        optimizer,
        mode="min",
        factor=0.1,
        patience=10,
        threshold=1e-4,
        threshold_mode="rel",
        cooldown=0,
        min_lr=0,
        eps=1e-8,
    ):
        check_optimizer("ReduceLROnPlateau", optimizer)
        if factor >= 1.0:
            raise ArgumentError(f"ReduceLROnPlateau: factor must be below 1, got {factor}")
        if mode not in ("min", "max"):
            raise ArgumentError(f"ReduceLROnPlateau: mode must be 'min' or 'max', got {mode!r}")
        if threshold_mode not in ("rel", "abs"):
            raise ArgumentError(
                f"ReduceLROnPlateau: threshold_mode must be 'rel' or 'abs', got {threshold_mode!r}"
            )
        self.optimizer = optimizer
        self.mode = mode
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.cooldown = cooldown
        self.min_lrs = per_group("ReduceLROnPlateau", "min_lr", min_lr, optimizer)
        self.eps = eps
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = 0
        self.cooldown_counter = 0
        self.last_epoch = 0
        self._last_lr = current_rates(optimizer)

    def is_better(self, metric):
        """Whether `metric` improves on the best so far by more than the threshold."""
        sign = 1 if self.mode == "max" else -1
        if self.threshold_mode == "rel":
            limit = self.best * (1 + sign * self.threshold)
        else:
            limit = self.best + sign * self.threshold
        return metric > limit if self.mode == "max" else metric < limit

    def step(self, metrics):
        """Take the newest value of the metric and reduce the rate if it is time."""
        check_not_captured("ReduceLROnPlateau")
        metric = float(metrics)
        self.last_epoch += 1
        if self.is_better(metric):
            self.best = metric
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            for group, lowest in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
                old = float(group["lr"])
                new = max(old * self.factor, lowest)
                if old - new > self.eps:
                    set_rate(group, new)
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
        self._last_lr = current_rates(self.optimizer)


class _Combined(LRScheduler):
    """Schedules that drive other schedules of one optimizer."""

    def _take(self, schedulers, optimizer):
        schedulers = list(schedulers)
        if not schedulers:
            raise ArgumentError(f"{self._name}: there must be at least one scheduler")
        optimizer = schedulers[0].optimizer if optimizer is None else optimizer
        for i, scheduler in enumerate(schedulers):
            if isinstance(scheduler, ReduceLROnPlateau):
                raise ArgumentError(
                    f"{self._name}: scheduler {i} is ReduceLROnPlateau, whose step needs a metric"
                )
            if scheduler.optimizer is not optimizer:
                raise ArgumentError(
                    f"{self._name}: scheduler {i} belongs to another optimizer than the first"
                )
        self._schedulers = schedulers
        self.optimizer = optimizer

    def state_dict(self):
        """The state of this schedule and, under "_schedulers", of those that it drives."""
        state = super().state_dict()
        state["_schedulers"] = [scheduler.state_dict() for scheduler in self._schedulers]
        return state

    def load_state_dict(self, state_dict):
        """Continue where `state_dict()` was taken."""
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "_schedulers"})
        for scheduler, state in zip(self._schedulers, state_dict["_schedulers"], strict=True):
            scheduler.load_state_dict(state)


class ChainedScheduler(_Combined):
    """Step several schedules at once; their factors multiply."""

    def __init__(self, schedulers, optimizer=None):
        self._take(schedulers, optimizer)
        self._last_lr = current_rates(self.optimizer)

    def step(self):
        """Step all schedules."""
        check_not_captured(self._name)
        for scheduler in self._schedulers:
            scheduler.step()
        self._last_lr = current_rates(self.optimizer)


class SequentialLR(_Combined):
    """Schedules one after the other; at each of the `milestones` the next one begins."""

    def __init__(self, optimizer, schedulers, milestones, last_epoch=-1):
        self._take(schedulers, optimizer)
        if len(milestones) != len(self._schedulers) - 1:
            raise ArgumentError(
                f"SequentialLR: {len(self._schedulers)} schedulers need "
                f"{len(self._schedulers) - 1} milestones, got {len(milestones)}"
            )
        self._milestones = list(milestones)
        self.last_epoch = last_epoch + 1
        # Creating the schedules has performed their first steps: take them back, then do one of
        # them.
        for group in optimizer.param_groups:
            set_rate(group, group["initial_lr"])
        self._undo()
        first = self._schedulers[bisect_right(self._milestones, 0)]
        first._initial_step()
        self._last_lr = first.get_last_lr()

    def _undo(self):
        for scheduler in self._schedulers:
            if isinstance(scheduler, SequentialLR):
                scheduler._undo()
            elif isinstance(scheduler, ChainedScheduler):
                for inner in scheduler._schedulers:
                    inner.last_epoch -= 1
            else:
                scheduler.last_epoch -= 1

    def step(self):
        """Step the schedule whose turn it is."""
        check_not_captured(self._name)
        self.last_epoch += 1
        turn = bisect_right(self._milestones, self.last_epoch)
        scheduler = self._schedulers[turn]
        if turn > 0 and self._milestones[turn - 1] == self.last_epoch:
            scheduler.step(0)
        else:
            scheduler.step()
        self._last_lr = scheduler.get_last_lr()
