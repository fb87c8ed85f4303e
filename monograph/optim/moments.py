"""Relatives of Adam: Adamax, NAdam, RAdam, LAMB and AdamW without a schedule."""

import monograph as mg
from monograph.core.errors import ArgumentError
from monograph.core.tracing import guarded
from monograph.optim.adam import bias_correction
from monograph.optim.optimizer import (
    Optimizer,
    as_number,
    check_option,
    check_unsupported,
    decayed,
    larger,
    smaller,
)
from monograph.tensor import Tensor


def _check(owner, lr, betas, eps, weight_decay):
    for name, value in (("lr", lr), ("eps", eps), ("weight_decay", weight_decay)):
        check_option(owner, name, value)
    for i, beta in enumerate(betas):
        check_option(owner, f"betas[{i}]", beta, below=1.0)


class Adamax(Optimizer):
    """Adam with the largest recent gradient in place of the average of squares.

    m = beta1 * m + (1 - beta1) * g;  u = max(beta2 * u, abs(g) + eps)
    p = p - lr / (1 - beta1**t) * m / u

    `foreach` and `capturable` are accepted for programs written for PyTorch and ignored.
    Source: Kingma and Ba, Adam, 2014, section 7.
    """

    def __init__(
        self, params, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, foreach=None, *,
        maximize=False, differentiable=False, capturable=False,
    ):  # fmt: skip
        _check(self._name, lr, betas, eps, weight_decay)
        check_unsupported(self._name, differentiable=differentiable)
        defaults = {
            "lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay,
            "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults)

    def _update(self, group, pairs):
        lr = self._live(group, "lr")
        beta1, beta2 = self._betas(group)
        eps = self._fixed(group, "eps")
        weight_decay = self._fixed(group, "weight_decay")
        maximize = self._fixed(group, "maximize")
        for count, members in self._counted(group, pairs):
            rate = lr / bias_correction(beta1, count)
            for param, grad in members:
                grad = -grad if maximize else grad
                if weight_decay != 0:
                    grad = grad + param * weight_decay
                m, u = self._state_of(param, "exp_avg", "exp_inf")
                m.copy_(decayed(m + (grad - m) * (1 - beta1)))
                u.copy_(mg.maximum(u * beta2, grad.abs() + eps))
                param.sub_(m * rate / u)


class NAdam(Optimizer):
    """Adam with Nesterov's momentum, which follows a schedule of its own.

    mu(t) = beta1 * (1 - 0.96**(t * momentum_decay) / 2);  M(t) = mu(1) * ... * mu(t)
    p = p - lr * (mu(t+1) * m / (1 - M(t+1)) + (1 - mu(t)) * g / (1 - M(t))) / (sqrt(v') + eps)

    m, v and v' as in Adam. `foreach` and `capturable` are accepted and ignored.
    Source: Dozat, Incorporating Nesterov momentum into Adam, 2016.
    """

    def __init__(
        self, params, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, momentum_decay=4e-3,
        decoupled_weight_decay=False, *, foreach=None, maximize=False, capturable=False,
        differentiable=False,
    ):  # fmt: skip
        _check(self._name, lr, betas, eps, weight_decay)
        check_option(self._name, "momentum_decay", momentum_decay)
        check_unsupported(self._name, differentiable=differentiable)
        defaults = {
            "lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay,
            "momentum_decay": momentum_decay, "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults)

    def _update(self, group, pairs):
        lr = self._live(group, "lr")
        beta1, beta2 = self._betas(group)
        eps = self._fixed(group, "eps")
        weight_decay = self._fixed(group, "weight_decay")
        decoupled = self._fixed(group, "decoupled_weight_decay")
        decay = self._fixed(group, "momentum_decay")
        maximize = self._fixed(group, "maximize")
        for count, members in self._counted(group, pairs):
            inverse_root = 1 / bias_correction(beta2, count) ** 0.5
            now = beta1 * (1.0 - 0.5 * 0.96 ** (count * decay))
            after = beta1 * (1.0 - 0.5 * 0.96 ** ((count + 1) * decay))
            for param, grad in members:
                grad = -grad if maximize else grad
                value = param
                if weight_decay != 0:
                    if decoupled:
                        value = param * (1 - lr * weight_decay)
                    else:
                        grad = grad + param * weight_decay
                m, v = self._state_of(param, "exp_avg", "exp_avg_sq")
                product = self._scalar_of(param, "mu_product", 1.0)
                product.mul_(now)
                so_far = as_number(product)
                m.copy_(decayed(m + (grad - m) * (1 - beta1)))
                v.copy_(decayed(v * beta2 + grad * (1 - beta2) * grad))
                size = v.sqrt() * inverse_root + eps
                step = grad * (lr * (1.0 - now) / (1.0 - so_far))
                step = step + m * (lr * after / (1.0 - so_far * after))
                param.copy_(value - step / size)


class RAdam(Optimizer):
    """Adam whose steps are scaled down while few squares have been averaged.

    n = 2 / (1 - beta2) - 1;  n(t) = n - 2 * t * beta2**t / (1 - beta2**t)
    p = p - lr * m' * r / (sqrt(v') + eps) where n(t) > 5, else p - lr * m'
    r = sqrt((n(t) - 4) * (n(t) - 2) * n / ((n - 4) * (n - 2) * n(t)))

    m' and v' as in Adam (eps is added to sqrt(v), as in PyTorch). `foreach` and `capturable` are
    accepted and ignored.
    Source: Liu and others, On the variance of the adaptive learning rate and beyond, 2019.
    """

    def __init__(
        self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0,
        decoupled_weight_decay=False, *, foreach=None, maximize=False, capturable=False,
        differentiable=False,
    ):  # fmt: skip
        _check(self._name, lr, betas, eps, weight_decay)
        check_unsupported(self._name, differentiable=differentiable)
        defaults = {
            "lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay,
            "maximize": maximize, "decoupled_weight_decay": decoupled_weight_decay,
        }  # fmt: skip
        super().__init__(params, defaults)

    def _update(self, group, pairs):
        lr = self._live(group, "lr")
        beta1, beta2 = self._betas(group)
        eps = self._fixed(group, "eps")
        weight_decay = self._fixed(group, "weight_decay")
        decoupled = self._fixed(group, "decoupled_weight_decay")
        maximize = self._fixed(group, "maximize")
        most = 2 / (1 - beta2) - 1
        for count, members in self._counted(group, pairs):
            correction = bias_correction(beta2, count)
            length = most - 2 * count * (1 - correction) / correction
            is_long = length > 5.0
            known = larger(length, 5.0)  # where it is not, the root below is not used
            rectified = (
                (known - 4) * (known - 2) * most / ((most - 4) * (most - 2) * known)
            ) ** 0.5 * correction**0.5
            rate = lr / bias_correction(beta1, count)
            for param, grad in members:
                grad = -grad if maximize else grad
                value = param
                if weight_decay != 0:
                    if decoupled:
                        value = param * (1 - lr * weight_decay)
                    else:
                        grad = grad + param * weight_decay
                m, v = self._state_of(param, "exp_avg", "exp_avg_sq")
                m.copy_(decayed(m + (grad - m) * (1 - beta1)))
                v.copy_(decayed(v * beta2 + grad * (1 - beta2) * grad))
                step = m * rate
                if isinstance(is_long, Tensor):
                    step = step * mg.where(is_long, rectified / (v.sqrt() + eps), 1.0)
                elif is_long:
                    step = step * rectified / (v.sqrt() + eps)
                param.copy_(value - step)


class LAMB(Optimizer):
    """Adam whose step for each tensor is as long as the tensor's norm times the rate.

    r = m' / (sqrt(v') + eps) + weight_decay * p
    p = p - lr * norm(p) / norm(r) * r, with 1 for the quotient where a norm is 0

    m' and v' as in Adam.
    Source: You and others, Large batch optimization for deep learning: training BERT in 76 minutes,
    2019.
    """

    def __init__(
        self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.0, *, maximize=False
    ):
        _check(self._name, lr, betas, eps, weight_decay)
        defaults = {
            "lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay,
            "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults)

    def _update(self, group, pairs):
        lr = self._live(group, "lr")
        beta1, beta2 = self._betas(group)
        eps = self._fixed(group, "eps")
        weight_decay = self._fixed(group, "weight_decay")
        maximize = self._fixed(group, "maximize")
        for count, members in self._counted(group, pairs):
            first, second = bias_correction(beta1, count), bias_correction(beta2, count)
            for param, grad in members:
                grad = -grad if maximize else grad
                m, v = self._state_of(param, "exp_avg", "exp_avg_sq")
                m.copy_(decayed(m + (grad - m) * (1 - beta1)))
                v.copy_(decayed(v * beta2 + grad * (1 - beta2) * grad))
                step = m / first / ((v / second).sqrt() + eps) + param * weight_decay
                length, size = (step * step).sum().sqrt(), (param * param).sum().sqrt()
                trust = mg.where((length > 0) & (size > 0), size / length, 1.0)
                param.sub_(step * (trust * lr))


class AdamWScheduleFree(Optimizer):
    """AdamW whose parameters are averaged instead of its rate being lowered.

    y are the parameters while training, z the ends of the steps, x their average:
    z = z - lr * d;  x = (1 - c) * x + c * z;  y = beta1 * x + (1 - beta1) * z
    with d = g / (sqrt(v') + eps) + weight_decay * y and c = w(t) / (w(1) + ... + w(t)),
    w(t) = t**r * (largest lr so far)**weight_lr_power; lr grows over `warmup_steps` at first.

    Call `eval()` before validating or saving, which puts x into the parameters, and `train()`
    before the next step. A step after eval() is an error.
    Source: Defazio and others, The road less scheduled, 2024.
    """

    def __init__(
        self, params, lr=2.5e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, warmup_steps=0,
        r=0.0, weight_lr_power=2.0,
    ):  # fmt: skip
        _check(self._name, lr, betas, eps, weight_decay)
        check_option(self._name, "warmup_steps", warmup_steps)
        if not betas[0] > 0:
            raise ArgumentError(f"{self._name}: betas[0] must be above 0, got {betas[0]}")
        defaults = {
            "lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay,
            "warmup_steps": warmup_steps, "r": r, "weight_lr_power": weight_lr_power,
            "train_mode": True,
        }  # fmt: skip
        super().__init__(params, defaults)

    def train(self):
        """Put y into the parameters, to go on training."""
        self._switch(True, lambda beta1: 1 - beta1)

    def eval(self):
        """Put the average x into the parameters."""
        self._switch(False, lambda beta1: 1 - 1 / beta1)

    def _switch(self, mode, share):
        with mg.no_grad():
            for group in self.param_groups:
                if group["train_mode"] is mode:
                    continue
                group["train_mode"] = mode
                for param in group["params"]:
                    if "z" in self.state.get(param, ()):
                        z = self.state[param]["z"]
                        param.add_((z - param) * share(group["betas"][0]))

    def _update(self, group, pairs):
        if not guarded(lambda: group["train_mode"], f"{self._name} train_mode"):
            raise ArgumentError(f"{self._name}: step() after eval()", hint="call train() first")
        lr = self._live(group, "lr")
        beta1, beta2 = self._betas(group)
        eps = self._fixed(group, "eps")
        weight_decay = self._fixed(group, "weight_decay")
        warm_up = self._fixed(group, "warmup_steps")
        power, r = self._fixed(group, "weight_lr_power"), self._fixed(group, "r")
        for count, members in self._counted(group, pairs):
            rate = lr * smaller(count / warm_up, 1.0) if warm_up else lr
            inverse_root = 1 / bias_correction(beta2, count) ** 0.5
            for param, grad in members:
                v, z = self._state_of(param, "exp_avg_sq", "z")
                top = self._scalar_of(param, "lr_max", 0.0)
                total = self._scalar_of(param, "weight_sum", 0.0)
                highest = larger(as_number(top), rate)
                weight = count**r * highest**power
                top.fill_(highest)
                total.add_(weight)
                summed = as_number(total)
                if isinstance(summed, Tensor):
                    share = mg.where(summed > 0, weight / summed, 0.0)
                else:
                    share = weight / summed if summed else 0.0
                v.copy_(decayed(v * beta2 + grad * (1 - beta2) * grad))
                step = grad / (v.sqrt() * inverse_root + eps) + param * weight_decay
                if isinstance(count, Tensor):
                    start = mg.where(count == 1, param, z)
                else:
                    start = param if count == 1 else z
                moved = param + (start - param) * share
                z.copy_(start - step * rate)
                param.copy_(moved - step * (rate * (1 - beta1 * (1 - share))))
