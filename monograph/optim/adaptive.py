"""RMSprop, Adagrad and Adadelta: steps divided by a running size of the gradient."""

from monograph.core.errors import ArgumentError
from monograph.core.tracing import guarded
from monograph.optim.optimizer import Optimizer, check_option, check_unsupported, decayed


class RMSprop(Optimizer):
    """Gradients divided by the root of a running average of their squares.

    v = alpha * v + (1 - alpha) * g * g
    d = sqrt(v) + eps, or with `centered` sqrt(v - m * m) + eps, m a running average of g
    p = p - lr * g / d, or with momentum  b = momentum * b + g / d;  p = p - lr * b

    `foreach` and `capturable` are accepted for programs written for PyTorch and ignored.
    Sources: Hinton, Neural networks for machine learning, lecture 6, 2012; Graves, Generating
    sequences with recurrent neural networks, 2013 (centered).
    """

    def __init__(
        self,
        params,
        lr=1e-2,
        alpha=0.99,
        eps=1e-8,
        weight_decay=0.0,
        momentum=0.0,
        centered=False,
        capturable=False,
        foreach=None,
        maximize=False,
        differentiable=False,
    ):
        for name, value in (("lr", lr), ("eps", eps), ("alpha", alpha)):
            check_option("RMSprop", name, value)
        check_option("RMSprop", "momentum", momentum)
        check_option("RMSprop", "weight_decay", weight_decay)
        check_unsupported("RMSprop", differentiable=differentiable)
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "alpha": alpha,
            "eps": eps,
            "centered": centered,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def _update(self, group, pairs):
        lr = self._live(group, "lr")
        momentum = self._fixed(group, "momentum")
        has_momentum = guarded(lambda: group["momentum"] > 0, "RMSprop momentum > 0")
        alpha = self._fixed(group, "alpha")
        eps = self._fixed(group, "eps")
        centered = self._fixed(group, "centered")
        weight_decay = self._fixed(group, "weight_decay")
        maximize = self._fixed(group, "maximize")
        self._counted(group, pairs)
        for param, grad in pairs:
            grad = -grad if maximize else grad
            if weight_decay != 0:
                grad = grad + param * weight_decay
            (square,) = self._state_of(param, "square_avg")
            square.copy_(decayed(square * alpha + grad * (1 - alpha) * grad))
            size = square
            if centered:
                (mean,) = self._state_of(param, "grad_avg")
                mean.copy_(decayed(mean + (grad - mean) * (1 - alpha)))
                size = square - mean * mean
            size = size.sqrt() + eps
            if has_momentum:
                (buffer,) = self._state_of(param, "momentum_buffer")
                buffer.copy_(decayed(buffer * momentum + grad / size))
                param.sub_(buffer * lr)
            else:
                param.sub_(grad * lr / size)


class Adagrad(Optimizer):
    """Gradients divided by the root of the sum of all their squares.

    s = s + g * g;  p = p - lr / (1 + (t - 1) * lr_decay) * g / (sqrt(s) + eps)

    `fused`: see Optimizer. `foreach` is accepted for programs written for PyTorch and ignored.
    Of a sparse gradient (Embedding(sparse=True)) only the rows that it holds are changed.
    Source: Duchi, Hazan and Singer, Adaptive subgradient methods, 2011.
    """

    _takes_rows = True

    def __init__(
        self,
        params,
        lr=1e-2,
        lr_decay=0.0,
        weight_decay=0.0,
        initial_accumulator_value=0.0,
        eps=1e-10,
        foreach=None,
        *,
        maximize=False,
        differentiable=False,
        fused=None,
    ):
        for name, value in (("lr", lr), ("lr_decay", lr_decay), ("eps", eps)):
            check_option("Adagrad", name, value)
        check_option("Adagrad", "weight_decay", weight_decay)
        check_option("Adagrad", "initial_accumulator_value", initial_accumulator_value)
        check_unsupported("Adagrad", differentiable=differentiable)
        defaults = {
            "lr": lr,
            "lr_decay": lr_decay,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "maximize": maximize,
        }
        super().__init__(params, defaults, fused)

    def add_param_group(self, param_group):
        """Add a group; the sums of its parameters start at once."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        self._start_counts(group["params"])
        for param in group["params"]:
            (total,) = self._state_of(param, "sum")
            total.fill_(group["initial_accumulator_value"])

    def _update(self, group, pairs):
        lr = self._live(group, "lr")
        lr_decay = self._fixed(group, "lr_decay")
        eps = self._fixed(group, "eps")
        weight_decay = self._fixed(group, "weight_decay")
        maximize = self._fixed(group, "maximize")
        for count, members in self._counted(group, pairs):
            rate = lr / (1 + (count - 1) * lr_decay)
            for param, grad in members:
                grad = -grad if maximize else grad
                (total,) = self._state_of(param, "sum")
                if grad.is_sparse:
                    if weight_decay != 0:
                        raise ArgumentError(
                            "Adagrad: weight_decay changes all rows, a sparse gradient only some"
                        )
                    rows, grad = grad.distinct()
                    new = total[rows] + grad * grad
                    total[rows] = new
                    param[rows] = param[rows] - grad * rate / (new.sqrt() + eps)
                    continue
                if weight_decay != 0:
                    grad = grad + param * weight_decay
                total.copy_(total + grad * grad)
                param.sub_(grad * rate / (total.sqrt() + eps))


class Adadelta(Optimizer):
    """Gradients scaled by the size of recent steps over the size of recent gradients.

    v = rho * v + (1 - rho) * g * g;  d = sqrt(u + eps) / sqrt(v + eps) * g
    u = rho * u + (1 - rho) * d * d;  p = p - lr * d

    `foreach` and `capturable` are accepted for programs written for PyTorch and ignored.
    Source: Zeiler, Adadelta: an adaptive learning rate method, 2012.
    """

    def __init__(
        self,
        params,
        lr=1.0,
        rho=0.9,
        eps=1e-6,
        weight_decay=0.0,
        foreach=None,
        *,
        capturable=False,
        maximize=False,
        differentiable=False,
    ):
        for name, value in (("lr", lr), ("eps", eps), ("weight_decay", weight_decay)):
            check_option("Adadelta", name, value)
        if not 0 <= rho <= 1:
            raise ArgumentError(f"Adadelta: rho must be in [0, 1], got {rho}")
        check_unsupported("Adadelta", differentiable=differentiable)
        defaults = {
            "lr": lr,
            "rho": rho,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def _update(self, group, pairs):
        lr = self._live(group, "lr")
        rho = self._fixed(group, "rho")
        eps = self._fixed(group, "eps")
        weight_decay = self._fixed(group, "weight_decay")
        maximize = self._fixed(group, "maximize")
        self._counted(group, pairs)
        for param, grad in pairs:
            grad = -grad if maximize else grad
            if weight_decay != 0:
                grad = grad + param * weight_decay
            v, u = self._state_of(param, "square_avg", "acc_delta")
            v.copy_(decayed(v * rho + grad * (1 - rho) * grad))
            delta = (u + eps).sqrt() / (v + eps).sqrt() * grad
            u.copy_(decayed(u * rho + delta * (1 - rho) * delta))
            param.sub_(delta * lr)
