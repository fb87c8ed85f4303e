"""The base of learning-rate schedules, and the schedules that are a function of the step alone.

Most schedules are a factor over time (`FactorLR`): a step multiplies the rate by
factor(t) / factor(t - 1), so that several schedules may act on one optimizer. A captured training
step reads the rate anew at each call; a schedule never causes a new capture.
Read next: cycles.py, then lr_scheduler.py, which gathers all schedules.
"""

import math
from bisect import bisect_right
from collections import Counter

from monograph.core.errors import ArgumentError, ArgumentTypeError, TraceError
from monograph.core.tracing import is_tracing
from monograph.optim.optimizer import Optimizer
from monograph.tensor import Tensor


class LRScheduler:
    """Base class: `get_lr` gives the rates for step `last_epoch`, one per parameter group.

    Creating a schedule performs step 0. `last_epoch` other than -1 resumes: the groups must have
    "initial_lr".
    """

    def __init__(self, optimizer, last_epoch=-1):
        check_optimizer(self._name, optimizer)
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", float(group["lr"]))
            elif "initial_lr" not in group:
                raise ArgumentError(
                    f"{self._name}: last_epoch={last_epoch} resumes a schedule, but parameter "
                    f"group {i} has no 'initial_lr'",
                    hint="load the optimizer's state dict first",
                )
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._initial_step()

    @property
    def _name(self):
        return type(self).__name__

    def _initial_step(self):
        self._is_initial = True
        self.step()
        self._is_initial = False

    def get_lr(self):
        """The rates for step `last_epoch`; subclasses define it."""
        raise NotImplementedError(f"{self._name}.get_lr is not defined")

    def _get_closed_form_lr(self):
        """The rates for step `last_epoch` from the base rates alone."""
        return self.get_lr()

    def get_last_lr(self):
        """The rates that the last step set, one per group."""
        return list(self._last_lr)

    def step(self, epoch=None):
        """Go to the next step (or to step `epoch`) and set the groups' rates."""
        check_not_captured(self._name)
        if epoch is None:
            self.last_epoch += 1
            self._set(self.get_lr())
        else:
            self.last_epoch = epoch
            self._set(self._get_closed_form_lr())

    def _set(self, rates):
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            set_rate(group, rate)
        self._last_lr = current_rates(self.optimizer)

    def state_dict(self):
        """Everything but the optimizer, as a dict."""
        return {k: v for k, v in self.__dict__.items() if k != "optimizer"}

    def load_state_dict(self, state_dict):
        """Continue where `state_dict()` was taken; load the optimizer's state as well."""
        self.__dict__.update(state_dict)


def check_not_captured(owner):
    """TraceError in a captured function, whose later calls run no Python: rates would stay."""
    if is_tracing():
        raise TraceError(
            f"{owner}.step: a captured function cannot step a schedule, which is Python",
            hint="call it after the captured function, which reads the rates at each call",
        )


def check_optimizer(owner, optimizer):
    if not isinstance(optimizer, Optimizer):
        raise ArgumentTypeError(
            f"{owner}: optimizer must be an Optimizer, got {type(optimizer).__name__}"
        )


def current_rates(optimizer):
    return [float(group["lr"]) for group in optimizer.param_groups]


def set_rate(group, rate):
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def per_group(owner, name, value, optimizer):
    """`value` as a list with one entry per parameter group."""
    groups = len(optimizer.param_groups)
    if isinstance(value, (list, tuple)):
        if len(value) != groups:
            raise ArgumentError(
                f"{owner}: {name} must be one value or {groups}, one per parameter group; "
                f"got {len(value)}"
            )
        return list(value)
    return [value] * groups


# ---- Schedules that are a factor over time


class FactorLR(LRScheduler):
    """rate = floor + (base - floor) * factor(t), by way of factor(t) / factor(t - 1)."""

    floor = 0.0

    def factor(self, t):
        """The factor at step t; subclasses define it."""
        raise NotImplementedError(f"{self._name}.factor is not defined")

    def get_lr(self):
        if self._is_initial:
            if self.last_epoch > 0:
                return current_rates(self.optimizer)
            before = 1.0
        else:
            before = self.factor(self.last_epoch - 1)
        now = self.factor(self.last_epoch)
        if now == before:
            return current_rates(self.optimizer)
        if before == 0:
            return self._get_closed_form_lr()
        return [
            self.floor + (rate - self.floor) * (now / before)
            for rate in current_rates(self.optimizer)
        ]

    def _get_closed_form_lr(self):
        now = self.factor(self.last_epoch)
        return [self.floor + (base - self.floor) * now for base in self.base_lrs]


class StepLR(FactorLR):
    """Multiply the rate by gamma every step_size steps."""

    def __init__(self, optimizer, step_size, gamma=0.1, last_epoch=-1):
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def factor(self, t):
        return self.gamma ** (t // self.step_size)


class MultiStepLR(FactorLR):
    """Multiply the rate by gamma at each of the `milestones`."""

    def __init__(self, optimizer, milestones, gamma=0.1, last_epoch=-1):
        self.milestones = Counter(milestones)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def factor(self, t):
        return self.gamma ** bisect_right(sorted(self.milestones.elements()), t)


class ConstantLR(FactorLR):
    """The rate times `factor` for total_iters steps, then the rate itself."""

    def __init__(self, optimizer, factor=1.0 / 3, total_iters=5, last_epoch=-1):
        if not 0 <= factor <= 1:
            raise ArgumentError(f"ConstantLR: factor must be in [0, 1], got {factor}")
        self.constant = factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def factor(self, t):
        return self.constant if t < self.total_iters else 1.0


class LinearLR(FactorLR):
    """The rate times a factor that goes from start_factor to end_factor in total_iters steps."""

    def __init__(
        self, optimizer, start_factor=1.0 / 3, end_factor=1.0, total_iters=5, last_epoch=-1
    ):
        if not 0 < start_factor <= 1:
            raise ArgumentError(f"LinearLR: start_factor must be in (0, 1], got {start_factor}")
        if not 0 <= end_factor <= 1:
            raise ArgumentError(f"LinearLR: end_factor must be in [0, 1], got {end_factor}")
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def factor(self, t):
        done = min(t, self.total_iters) / self.total_iters
        return self.start_factor + (self.end_factor - self.start_factor) * done


class ExponentialLR(FactorLR):
    """Multiply the rate by gamma at every step."""

    def __init__(self, optimizer, gamma, last_epoch=-1):
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def factor(self, t):
        return self.gamma**t


class PolynomialLR(FactorLR):
    """The rate times (1 - t / total_iters) ** power, 0 from total_iters on."""

    def __init__(self, optimizer, total_iters=5, power=1.0, last_epoch=-1):
        self.total_iters = total_iters
        self.power = power
        super().__init__(optimizer, last_epoch)

    def factor(self, t):
        return (1 - min(t, self.total_iters) / self.total_iters) ** self.power


class CosineAnnealingLR(FactorLR):
    """Half a cosine from the base rate to eta_min in T_max steps, and back, without restarts.

    Source: Loshchilov and Hutter, SGDR: stochastic gradient descent with warm restarts, 2016.
    """

    def __init__(self, optimizer, T_max, eta_min=0.0, last_epoch=-1):
        self.T_max = T_max
        self.eta_min = self.floor = eta_min
        super().__init__(optimizer, last_epoch)

    def factor(self, t):
        return (1 + math.cos(math.pi * t / self.T_max)) / 2


# ---- Schedules that are functions of the user


class _LambdasLR(LRScheduler):
    """Schedules made of one function of the step per group."""

    def __init__(self, optimizer, lr_lambda, last_epoch=-1):
        check_optimizer(self._name, optimizer)
        self.lr_lambdas = per_group(self._name, "lr_lambda", lr_lambda, optimizer)
        super().__init__(optimizer, last_epoch)

    def state_dict(self):
        """Everything but the optimizer and the functions; of callable objects their attributes."""
        state = super().state_dict()
        state["lr_lambdas"] = [attributes_of(fn) for fn in self.lr_lambdas]
        return state

    def load_state_dict(self, state_dict):
        """Continue where `state_dict()` was taken."""
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "lr_lambdas"})
        for fn, attributes in zip(self.lr_lambdas, state_dict["lr_lambdas"]):
            if attributes is not None:
                fn.__dict__.update(attributes)


def attributes_of(function):
    """The attributes of a callable object; None for a plain function."""
    if function is None or hasattr(function, "__code__"):
        return None
    return dict(getattr(function, "__dict__", {}))


class LambdaLR(_LambdasLR):
    """rate = base * lr_lambda(t), with one function or one per group."""

    def get_lr(self):
        return [base * fn(self.last_epoch) for base, fn in zip(self.base_lrs, self.lr_lambdas)]


class MultiplicativeLR(_LambdasLR):
    """rate = rate * lr_lambda(t) at each step after the first."""

    def get_lr(self):
        rates = current_rates(self.optimizer)
        if self._is_initial:
            return rates
        return [rate * fn(self.last_epoch) for rate, fn in zip(rates, self.lr_lambdas)]
