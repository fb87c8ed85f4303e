"""Averages of weights over training: stochastic weight averaging and exponential moving averages.

    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.999))
    ...                                  # after each optimizer.step():
    averaged.update_parameters(model)
    ...                                  # at the end, for models with batch norm:
    update_bn(loader, averaged)

Source: Izmailov and others, Averaging weights leads to wider optima and better generalization,
2018.
"""

import copy
import math
from itertools import chain

import monograph as mg
from monograph.core.errors import ArgumentError
from monograph.core.tracing import is_tracing
from monograph.nn import BatchNorm1d, BatchNorm2d, BatchNorm3d, Module
from monograph.optim.schedule import LRScheduler, per_group

__all__ = [
    "SWALR", "AveragedModel", "get_ema_avg_fn", "get_ema_multi_avg_fn", "get_swa_avg_fn",
    "get_swa_multi_avg_fn", "update_bn",
]  # fmt: skip


def get_ema_avg_fn(decay=0.999):
    """f(average, parameter, n) = decay * average + (1 - decay) * parameter."""
    if not 0 <= decay <= 1:
        raise ArgumentError(f"get_ema_avg_fn: decay must be in [0, 1], got {decay}")

    def average(averaged, current, num_averaged):
        return averaged * decay + current * (1 - decay)

    return average


def get_swa_avg_fn():
    """f(average, parameter, n): the mean of all parameters so far, of which there have been n."""

    def average(averaged, current, num_averaged):
        return averaged + (current - averaged) / (num_averaged + 1)

    return average


def _for_lists(average):
    def average_all(averaged, current, num_averaged):
        with mg.no_grad():
            for a, c in zip(averaged, current):
                a.copy_(average(a, c, num_averaged) if a.is_floating_point() else c)

    return average_all


def get_ema_multi_avg_fn(decay=0.999):
    """get_ema_avg_fn for lists of tensors, written in place."""
    return _for_lists(get_ema_avg_fn(decay))


def get_swa_multi_avg_fn():
    """get_swa_avg_fn for lists of tensors, written in place."""
    return _for_lists(get_swa_avg_fn())


class AveragedModel(Module):
    """A copy of `model` whose parameters are an average of what update_parameters() has seen.

    avg_fn        (average, parameter, number averaged so far) -> new average, for each parameter;
                  by default the mean of all
    multi_avg_fn  the same for lists of tensors, in place
    use_buffers   average the buffers as well, instead of copying the model's

    update_parameters() may be part of a captured training step.
    """

    def __init__(self, model, device=None, avg_fn=None, multi_avg_fn=None, use_buffers=False):
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise ArgumentError("AveragedModel: give avg_fn or multi_avg_fn, not both")
        self.module = copy.deepcopy(model)
        if device is not None:
            self.module.to(device)
        self.register_buffer("n_averaged", mg.tensor(0, dtype=mg.int64))
        self.avg_fn = avg_fn
        self.multi_avg_fn = multi_avg_fn
        self.use_buffers = use_buffers

    def forward(self, *args, **kwargs):
        return self.module(*args, **kwargs)

    def update_parameters(self, model):
        """Take the parameters of `model` into the average (the first time: copy them)."""
        with mg.no_grad():
            mine, theirs = list(self.module.parameters()), list(model.parameters())
            if self.use_buffers:
                mine, theirs = ([*chain(p, m.buffers())] for p, m in (
                    (mine, self.module), (theirs, model)))  # fmt: skip
            else:
                for own, other in zip(self.module.buffers(), model.buffers(), strict=True):
                    own.copy_(other)
            self._average(mine, [p.detach() for p in theirs])
            self.n_averaged.add_(1)

    def _average(self, mine, theirs):
        count = self.n_averaged
        if not is_tracing() and count.item() == 0:
            for a, c in zip(mine, theirs, strict=True):
                a.copy_(c)
            return
        update = self.multi_avg_fn or _for_lists(self.avg_fn or get_swa_avg_fn())
        if not is_tracing():
            update(mine, theirs, count.clone())
            return
        averages = [a.detach().clone() for a in mine]
        update(averages, theirs, count.clone())
        for own, a, c in zip(mine, averages, theirs, strict=True):
            own.copy_(mg.where(count == 0, c, a))


def update_bn(loader, model, device=None):
    """Set the running statistics of the batch norms of `model` to those of the data in `loader`.

    Each batch, or its first entry where it is a list or tuple, is given to the model once.
    """
    kinds = (BatchNorm1d, BatchNorm2d, BatchNorm3d)
    norms = [m for m in model.modules() if isinstance(m, kinds)]
    if not norms:
        return
    momenta = {m: m.momentum for m in norms}
    was_training = model.training
    try:
        for m in norms:
            m.reset_running_stats()
            m.momentum = None  # the mean of all batches
        model.train()
        with mg.no_grad():
            for batch in loader:
                batch = batch[0] if isinstance(batch, (list, tuple)) else batch
                model(batch if device is None else batch.to(device))
    finally:
        for m, momentum in momenta.items():
            m.momentum = momentum
        model.train(was_training)


class SWALR(LRScheduler):
    """Go from the rate that the group has to swa_lr over anneal_epochs, and stay there.

    swa_lr           one rate, or one per parameter group
    anneal_strategy  "cos" or "linear"
    """

    def __init__(self, optimizer, swa_lr, anneal_epochs=10, anneal_strategy="cos", last_epoch=-1):
        if anneal_strategy not in ("cos", "linear"):
            raise ArgumentError(
                f"SWALR: anneal_strategy must be 'cos' or 'linear', got {anneal_strategy!r}"
            )
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ArgumentError(f"SWALR: anneal_epochs must be at least 0, got {anneal_epochs}")
        for group, rate in zip(
            optimizer.param_groups, per_group("SWALR", "swa_lr", swa_lr, optimizer)
        ):
            group["swa_lr"] = rate
        self.anneal_epochs = anneal_epochs
        self.anneal_strategy = anneal_strategy
        super().__init__(optimizer, last_epoch)

    def _share(self, step):
        """How much of the way has been gone at `step`."""
        t = max(0.0, min(1.0, step / max(1, self.anneal_epochs)))
        return t if self.anneal_strategy == "linear" else (1 - math.cos(math.pi * t)) / 2

    def get_lr(self):
        step = self.last_epoch if self.anneal_epochs else max(1, self.last_epoch)
        before, now = self._share(step - 1), self._share(step)
        rates = []
        for group in self.optimizer.param_groups:
            goal, rate = group["swa_lr"], float(group["lr"])
            start = goal if before == 1 else (rate - before * goal) / (1 - before)
            rates.append(goal * now + start * (1 - now))
        return rates
