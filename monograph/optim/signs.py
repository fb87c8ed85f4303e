"""Rprop and Lion: steps that follow the sign of the gradient, not its size."""

import monograph as mg
from monograph.core.errors import ArgumentError
from monograph.core.tracing import concrete
from monograph.optim.optimizer import Optimizer, check_option, check_unsupported, decayed


class Rprop(Optimizer):
    """A step size for each element: it grows while the gradient keeps its sign, else shrinks.

    s = s * etas[1] where g keeps its sign, s * etas[0] where it changes, within `step_sizes`
    p = p - sign(g) * s, and where the sign has changed p stands still for one step

    The sizes start at lr. For gradients over all of the data. `foreach` and `capturable` are
    accepted for programs written for PyTorch and ignored.
    Source: Riedmiller and Braun, A direct adaptive method for faster backpropagation learning: the
    RPROP algorithm, 1993.
    """

    def __init__(
        self,
        params,
        lr=1e-2,
        etas=(0.5, 1.2),
        step_sizes=(1e-6, 50),
        *,
        capturable=False,
        foreach=None,
        maximize=False,
        differentiable=False,
    ):
        check_option("Rprop", "lr", lr)
        if not 0 < etas[0] < 1 < etas[1]:
            raise ArgumentError(
                f"Rprop: etas must be below and above 1, and positive; got {tuple(etas)}"
            )
        check_unsupported("Rprop", differentiable=differentiable)
        defaults = {
            "lr": lr,
            "etas": tuple(etas),
            "step_sizes": tuple(step_sizes),
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def _update(self, group, pairs):
        shrink, grow = self._fixed(group, "etas")
        least, most = self._fixed(group, "step_sizes")
        maximize = self._fixed(group, "maximize")
        self._counted(group, pairs)
        for param, grad in pairs:
            grad = -grad if maximize else grad
            state = self.state[param]
            if "step_size" not in state:
                with concrete():
                    state["step_size"] = mg.full(param.shape, float(group["lr"]), dtype=param.dtype)
            size = state["step_size"]
            (before,) = self._state_of(param, "prev")
            agreement = grad * before
            changed = mg.where(agreement < 0, size * shrink, size)
            size.copy_(mg.where(agreement > 0, size * grow, changed).clamp(least, most))
            grad = mg.where(agreement < 0, 0.0, grad)
            param.sub_(grad.sign() * size)
            before.copy_(grad)


class Lion(Optimizer):
    """Steps of one size, in the direction of the sign of a running average.

    p = p * (1 - lr * weight_decay) - lr * sign(beta1 * m + (1 - beta1) * g)
    m = beta2 * m + (1 - beta2) * g

    Wants a rate 3 to 10 times smaller, and a decay as much larger, than AdamW.
    Source: Chen and others, Symbolic discovery of optimization algorithms, 2023.
    """

    def __init__(
        self, params, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0, *, maximize=False, fused=None
    ):
        check_option("Lion", "lr", lr)
        check_option("Lion", "weight_decay", weight_decay)
        for i, beta in enumerate(betas):
            check_option("Lion", f"betas[{i}]", beta, below=1.0)
        defaults = {
            "lr": lr,
            "betas": tuple(betas),
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults, fused)

    def _update(self, group, pairs):
        lr = self._live(group, "lr")
        beta1, beta2 = self._betas(group)
        weight_decay = self._fixed(group, "weight_decay")
        maximize = self._fixed(group, "maximize")
        for param, grad in pairs:
            grad = -grad if maximize else grad
            (m,) = self._state_of(param, "exp_avg")
            direction = (m + (grad - m) * (1 - beta1)).sign()
            param.copy_(param * (1 - lr * weight_decay) - direction * lr)
            m.copy_(decayed(m + (grad - m) * (1 - beta2)))
