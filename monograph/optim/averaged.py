"""ASGD: gradient descent that keeps the average of where it has been."""

import monograph as mg
from monograph.core.tracing import concrete
from monograph.optim.optimizer import (
    Optimizer,
    as_number,
    check_option,
    check_unsupported,
    larger,
)


class ASGD(Optimizer):
    """Gradient descent with a falling rate eta; state["ax"] is the average of the parameters.

    p = p * (1 - lambd * eta) - eta * g;  ax = ax + mu * (p - ax)
    then eta = lr / (1 + lambd * lr * t)**alpha and mu = 1 / max(1, t - t0)

    `foreach` and `capturable` are accepted for programs written for PyTorch and ignored.
    Source: Polyak and Juditsky, Acceleration of stochastic approximation by averaging, 1992.
    """

    def __init__(
        self,
        params,
        lr=1e-2,
        lambd=1e-4,
        alpha=0.75,
        t0=1e6,
        weight_decay=0.0,
        foreach=None,
        maximize=False,
        differentiable=False,
        capturable=False,
    ):
        check_option("ASGD", "lr", lr)
        check_option("ASGD", "weight_decay", weight_decay)
        check_unsupported("ASGD", differentiable=differentiable)
        defaults = {
            "lr": lr,
            "lambd": lambd,
            "alpha": alpha,
            "t0": t0,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def _update(self, group, pairs):
        lr = self._live(group, "lr")
        lambd = self._fixed(group, "lambd")
        alpha = self._fixed(group, "alpha")
        t0 = self._fixed(group, "t0")
        weight_decay = self._fixed(group, "weight_decay")
        maximize = self._fixed(group, "maximize")
        for count, members in self._counted(group, pairs):
            next_eta = lr / (1 + lambd * lr * count) ** alpha
            next_mu = 1 / larger(count - t0, 1.0)
            for param, grad in members:
                grad = -grad if maximize else grad
                if weight_decay != 0:
                    grad = grad + param * weight_decay
                if "eta" not in self.state[param]:
                    with concrete():
                        self.state[param]["eta"] = mg.tensor(float(group["lr"]), dtype=mg.float32)
                eta, mu = self.state[param]["eta"], self._scalar_of(param, "mu", 1.0)
                (average,) = self._state_of(param, "ax")
                rate = as_number(eta)
                param.copy_(param * (1 - lambd * rate) - grad * rate)
                average.add_((param - average) * as_number(mu))
                eta.fill_(next_eta)
                mu.fill_(next_mu)
