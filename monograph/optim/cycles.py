"""Schedules that go up and down: warm restarts, cyclic rates, the one-cycle policy."""

import math

from monograph.core.errors import ArgumentError
from monograph.optim.schedule import (
    LRScheduler,
    attributes_of,
    check_not_captured,
    check_optimizer,
    per_group,
    set_rate,
)


class CosineAnnealingWarmRestarts(LRScheduler):
    """A half cosine from the base rate to eta_min, restarted after T_0, T_0*T_mult, ... steps.

    `step(epoch)` takes fractions too, for a rate that moves within an epoch.
    Source: Loshchilov and Hutter, SGDR: stochastic gradient descent with warm restarts, 2016.
    """

    def __init__(self, optimizer, T_0, T_mult=1, eta_min=0.0, last_epoch=-1):
        for name, value in (("T_0", T_0), ("T_mult", T_mult)):
            if not isinstance(value, int) or value < 1:
                raise ArgumentError(
                    f"CosineAnnealingWarmRestarts: {name} must be a positive integer, got {value!r}"
                )
        self.T_0 = T_0
        self.T_mult = T_mult
        self.eta_min = eta_min
        self.T_i = T_0
        self.T_cur = last_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        factor = (1 + math.cos(math.pi * self.T_cur / self.T_i)) / 2
        return [self.eta_min + (base - self.eta_min) * factor for base in self.base_lrs]

    def step(self, epoch=None):
        """Go to the next step, or to `epoch` (a number, not below 0), and set the groups' rates."""
        check_not_captured(self._name)
        if epoch is None:
            epoch = self.last_epoch + 1
            # The position moves on from the last one, so that whole steps follow a fractional one.
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur %= self.T_i
                self.T_i *= self.T_mult
        elif epoch < 0:
            raise ArgumentError(
                f"CosineAnnealingWarmRestarts: epoch must not be negative, got {epoch}"
            )
        else:
            self.T_cur, self.T_i = epoch, self.T_0
            while self.T_cur >= self.T_i:
                self.T_cur -= self.T_i
                self.T_i *= self.T_mult
        self.last_epoch = math.floor(epoch)
        self._set(self.get_lr())


class _MomentumCycle(LRScheduler):
    """Schedules that may drive momentum (or the first of betas) against the rate."""

    def _start_momentum(self, optimizer, cycle_momentum, base_momentum, max_momentum, last_epoch):
        self.cycle_momentum = cycle_momentum
        if not cycle_momentum:
            return
        if "momentum" not in optimizer.defaults and "betas" not in optimizer.defaults:
            raise ArgumentError(
                f"{self._name}: cycle_momentum=True needs an optimizer with momentum or betas; "
                f"{type(optimizer).__name__} has neither",
                hint="cycle_momentum=False drives the learning rate alone",
            )
        self.use_beta1 = "betas" in optimizer.defaults
        self.base_momentums = per_group(self._name, "base_momentum", base_momentum, optimizer)
        self.max_momentums = per_group(self._name, "max_momentum", max_momentum, optimizer)
        optimizer._scheduled.add("betas" if self.use_beta1 else "momentum")
        if last_epoch == -1:
            for group, base, top in zip(
                optimizer.param_groups, self.base_momentums, self.max_momentums
            ):
                group["base_momentum"], group["max_momentum"] = base, top
                self._set_momentum(group, top)

    def _set_momentum(self, group, value):
        if self.use_beta1:
            group["betas"] = (value, *group["betas"][1:])
        else:
            group["momentum"] = value


class CyclicLR(_MomentumCycle):
    """The rate goes up from base_lr to max_lr and down again, over and over.

    mode      'triangular'; 'triangular2' halves the height after each cycle; 'exp_range' scales it
              by gamma**t
    scale_fn  replaces the mode: height as a function of the cycle or, with scale_mode
              'iterations', of the step
    Source: Smith, Cyclical learning rates for training neural networks, 2015.
    """

    def __init__(
        self,
        optimizer,
        base_lr,
        max_lr,
        step_size_up=2000,
        step_size_down=None,
        mode="triangular",
        gamma=1.0,
        scale_fn=None,
        scale_mode="cycle",
        cycle_momentum=True,
        base_momentum=0.8,
        max_momentum=0.9,
        last_epoch=-1,
    ):
        check_optimizer("CyclicLR", optimizer)
        if scale_fn is None and mode not in ("triangular", "triangular2", "exp_range"):
            raise ArgumentError(
                f"CyclicLR: mode must be 'triangular', 'triangular2' or 'exp_range', got {mode!r}"
            )
        base_lrs = per_group("CyclicLR", "base_lr", base_lr, optimizer)
        self.max_lrs = per_group("CyclicLR", "max_lr", max_lr, optimizer)
        if last_epoch == -1:
            for group, rate in zip(optimizer.param_groups, base_lrs):
                set_rate(group, rate)
        down = step_size_up if step_size_down is None else step_size_down
        self.total_size = float(step_size_up + down)
        self.step_ratio = step_size_up / self.total_size
        self.mode = mode
        self.gamma = gamma
        self.scale_mode = scale_mode
        self._scale_fn_custom = scale_fn
        self._start_momentum(optimizer, cycle_momentum, base_momentum, max_momentum, last_epoch)
        self._own_base_lrs = base_lrs
        super().__init__(optimizer, last_epoch)
        self.base_lrs = base_lrs

    def _height(self, t, cycle):
        """The height of the present cycle, as a share of max - base."""
        if self._scale_fn_custom is not None:
            return self._scale_fn_custom(cycle if self.scale_mode == "cycle" else t)
        if self.mode == "triangular2":
            return 1 / 2.0 ** (cycle - 1)
        return self.gamma**t if self.mode == "exp_range" else 1.0

    def get_lr(self):
        t = self.last_epoch
        cycle = math.floor(1 + t / self.total_size)
        x = 1 + t / self.total_size - cycle
        up = x <= self.step_ratio
        share = x / self.step_ratio if up else (x - 1) / (self.step_ratio - 1)
        share *= self._height(t, cycle)
        if self.cycle_momentum:
            for group, base, top in zip(
                self.optimizer.param_groups, self.base_momentums, self.max_momentums
            ):
                self._set_momentum(group, top - (top - base) * share)
        return [base + (top - base) * share for base, top in zip(self._own_base_lrs, self.max_lrs)]

    def state_dict(self):
        """Everything but the optimizer; of a callable object as scale_fn its attributes."""
        return super().state_dict() | {"_scale_fn_custom": attributes_of(self._scale_fn_custom)}

    def load_state_dict(self, state_dict):
        """Continue where `state_dict()` was taken."""
        attributes = state_dict.get("_scale_fn_custom")
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "_scale_fn_custom"})
        if attributes is not None:
            self._scale_fn_custom.__dict__.update(attributes)


class OneCycleLR(_MomentumCycle):
    """One rise from max_lr / div_factor to max_lr, one fall to a final_div_factor-th of the start.

    total_steps  or epochs * steps_per_epoch
    pct_start    share of the steps that rise
    three_phase  fall first to the initial rate, as fast as the rise, then on to the lowest
    Source: Smith and Topin, Super-convergence, 2017.
    """

    def __init__(
        self,
        optimizer,
        max_lr,
        total_steps=None,
        epochs=None,
        steps_per_epoch=None,
        pct_start=0.3,
        anneal_strategy="cos",
        cycle_momentum=True,
        base_momentum=0.85,
        max_momentum=0.95,
        div_factor=25.0,
        final_div_factor=1e4,
        three_phase=False,
        last_epoch=-1,
    ):
        check_optimizer("OneCycleLR", optimizer)
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ArgumentError(
                    "OneCycleLR: give total_steps, or both epochs and steps_per_epoch"
                )
            total_steps = epochs * steps_per_epoch
        if not isinstance(total_steps, int) or total_steps <= 0:
            raise ArgumentError(
                f"OneCycleLR: the number of steps must be a positive integer, got {total_steps!r}"
            )
        if not 0 <= pct_start <= 1:
            raise ArgumentError(f"OneCycleLR: pct_start must be in [0, 1], got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ArgumentError(
                f"OneCycleLR: anneal_strategy must be 'cos' or 'linear', got {anneal_strategy!r}"
            )
        self.total_steps = total_steps
        self.anneal_strategy = anneal_strategy
        # Each phase: last step, rate at its start and end, momentum at its start and end.
        rise = ("initial_lr", "max_lr", "max_momentum", "base_momentum")
        turn = float(pct_start * total_steps) - 1
        if three_phase:
            fall = ("max_lr", "initial_lr", "base_momentum", "max_momentum")
            rest = ("initial_lr", "min_lr", "max_momentum", "max_momentum")
            second = float(2 * pct_start * total_steps) - 2
            phases = [(turn, *rise), (second, *fall), (total_steps - 1, *rest)]
        else:
            fall = ("max_lr", "min_lr", "base_momentum", "max_momentum")
            phases = [(turn, *rise), (total_steps - 1, *fall)]
        self._phases = phases
        if last_epoch == -1:
            tops = per_group("OneCycleLR", "max_lr", max_lr, optimizer)
            for group, top in zip(optimizer.param_groups, tops):
                group["initial_lr"] = top / div_factor
                group["max_lr"] = top
                group["min_lr"] = group["initial_lr"] / final_div_factor
        self._start_momentum(optimizer, cycle_momentum, base_momentum, max_momentum, last_epoch)
        super().__init__(optimizer, last_epoch)

    def _between(self, start, end, share):
        if self.anneal_strategy == "cos":
            return end + (start - end) / 2.0 * (1 + math.cos(math.pi * share))
        return start + (end - start) * share

    def get_lr(self):
        t = self.last_epoch
        if t > self.total_steps:
            raise ArgumentError(
                f"OneCycleLR: step {t} is past the end; the schedule has {self.total_steps} steps"
            )
        begin = 0.0
        for end, lr_from, lr_to, momentum_from, momentum_to in self._phases:  # noqa: B007
            if t <= end or end == self._phases[-1][0]:
                break
            begin = end
        share = (t - begin) / (end - begin) if end > begin else 1.0  # one step
        rates = []
        for group in self.optimizer.param_groups:
            rates.append(self._between(group[lr_from], group[lr_to], share))
            if self.cycle_momentum:
                ends = group[momentum_from], group[momentum_to]
                self._set_momentum(group, self._between(*ends, share))
        return rates
