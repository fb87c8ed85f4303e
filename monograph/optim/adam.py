"""Adam and AdamW."""

import functools
import math

import monograph as mg
from monograph.optim.optimizer import Optimizer, check_option, check_unsupported, decayed
from monograph.tensor import Tensor
from monograph.transform.repeat import repeated


class Adam(Optimizer):
    """Steps scaled by running averages of the gradient and of its square.

    m = beta1 * m + (1 - beta1) * g;  v = beta2 * v + (1 - beta2) * g * g
    p = p - lr * m' / (sqrt(v') + eps), m' and v' being m / (1 - beta1**t) and v / (1 - beta2**t)

    weight_decay  adds weight_decay * p to the gradient, or with `decoupled_weight_decay` (AdamW)
                  scales p by 1 - lr * weight_decay instead
    amsgrad       uses the largest v so far in place of v

    `fused`: see Optimizer. `foreach` and `capturable` are accepted for programs written for PyTorch
    and ignored.

    Sources: Kingma and Ba, Adam, 2014; Reddi and others, On the convergence of Adam and beyond,
    2018.
    """

    def __init__(
        self,
        params,
        lr=1e-3,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0.0,
        amsgrad=False,
        *,
        foreach=None,
        maximize=False,
        capturable=False,
        differentiable=False,
        fused=None,
        decoupled_weight_decay=False,
    ):
        check_option(self._name, "lr", lr)
        check_option(self._name, "eps", eps)
        check_option(self._name, "weight_decay", weight_decay)
        for i, beta in enumerate(betas):
            check_option(self._name, f"betas[{i}]", beta, below=1.0)
        check_unsupported(self._name, differentiable=differentiable)
        defaults = {
            "lr": lr,
            "betas": tuple(betas),
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults, fused)

    def _update(self, group, pairs):
        lr = self._live(group, "lr")
        beta1, beta2 = self._betas(group)
        eps = self._fixed(group, "eps")
        weight_decay = self._fixed(group, "weight_decay")
        amsgrad = self._fixed(group, "amsgrad")
        maximize = self._fixed(group, "maximize")
        decoupled = self._fixed(group, "decoupled_weight_decay")
        kept = 1 - lr * weight_decay if weight_decay != 0 and decoupled else 1
        names = ["exp_avg", "exp_avg_sq"] + ["max_exp_avg_sq"] * bool(amsgrad)

        def update(step_size, inverse_root, param, grad, m, v, largest=None):
            grad = -grad if maximize else grad
            value = param
            if weight_decay != 0:
                if decoupled:
                    value = param * kept
                else:
                    grad = grad + param * weight_decay
            m.copy_(decayed(m + (grad - m) * (1 - beta1)))
            v.copy_(decayed(v * beta2 + grad * (1 - beta2) * grad))
            if largest is not None:
                v = largest.copy_(mg.maximum(largest, v))
            param.copy_(value - m * step_size / (v.sqrt() * inverse_root + eps))

        for count, members in self._counted(group, pairs):
            step_size = lr / bias_correction(beta1, count)
            inverse_root = 1 / bias_correction(beta2, count) ** 0.5
            rows = [(p, g, *self._state_of(p, *names)) for p, g in members]
            repeated(functools.partial(update, step_size, inverse_root), rows)


class AdamW(Adam):
    """Adam with decoupled weight decay: p is scaled by 1 - lr * weight_decay before each step.

    Source: Loshchilov and Hutter, Decoupled weight decay regularization, 2017.
    """

    def __init__(
        self,
        params,
        lr=1e-3,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=1e-2,
        amsgrad=False,
        *,
        maximize=False,
        foreach=None,
        capturable=False,
        differentiable=False,
        fused=None,
    ):
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            maximize=maximize,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
        )


def bias_correction(beta, count):
    """1 - beta**count; for tensors by expm1, since float32 would lose digits to cancellation."""
    if not isinstance(count, Tensor) and not isinstance(beta, Tensor):
        return 1 - beta**count
    if isinstance(beta, Tensor):
        return -mg.expm1(beta.log() * count)
    if beta == 0:
        return 1.0
    return -mg.expm1(count * math.log(beta))
