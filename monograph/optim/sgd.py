"""Stochastic gradient descent."""

from monograph.core.errors import ArgumentError
from monograph.core.tracing import guarded
from monograph.optim.optimizer import Optimizer, check_option, check_unsupported, decayed
from monograph.transform.repeat import repeated


class SGD(Optimizer):
    """Gradient descent with optional momentum.

    g = grad + weight_decay * p
    b = momentum * b + (1 - dampening) * g    (b = g at the first step)
    p = p - lr * b, or with nesterov  p - lr * (g + momentum * b)

    `fused`: see Optimizer. `foreach` is accepted for programs written for PyTorch and ignored.
    A sparse gradient (Embedding(sparse=True)) changes the rows that it holds, and costs no more, if
    there is neither momentum nor weight decay; otherwise it becomes dense.
    Source: Sutskever and others, On the importance of initialization and momentum, 2013 (in
    PyTorch's form: lr multiplies the buffer, not the gradient).
    """

    _takes_rows = True

    def __init__(
        self,
        params,
        lr=1e-3,
        momentum=0.0,
        dampening=0.0,
        weight_decay=0.0,
        nesterov=False,
        *,
        maximize=False,
        foreach=None,
        differentiable=False,
        fused=None,
    ):
        check_option("SGD", "lr", lr)
        check_option("SGD", "momentum", momentum)
        check_option("SGD", "weight_decay", weight_decay)
        check_unsupported("SGD", differentiable=differentiable)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ArgumentError("SGD: nesterov needs momentum above 0 and dampening 0")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        super().__init__(params, defaults, fused)

    def _update(self, group, pairs):
        lr = self._live(group, "lr")
        momentum = self._fixed(group, "momentum")
        has_momentum = guarded(lambda: group["momentum"] != 0, "SGD momentum != 0")
        dampening = self._fixed(group, "dampening")
        weight_decay = self._fixed(group, "weight_decay")
        nesterov = self._fixed(group, "nesterov")
        maximize = self._fixed(group, "maximize")

        def update(param, grad, buffer=None):
            grad = -grad if maximize else grad
            if weight_decay != 0:
                grad = grad + param * weight_decay
            if has_momentum:
                if buffer is None:
                    buffer = self._buffer(param, grad, momentum, dampening)
                else:
                    buffer.copy_(decayed(buffer * momentum + grad))
                grad = grad + buffer * momentum if nesterov else buffer
            param.sub_(grad * lr)

        rows = []
        for param, grad in pairs:
            if grad.is_sparse and weight_decay == 0 and not has_momentum:
                grad = -grad if maximize else grad
                param.index_add_(0, grad._flat(), grad._values() * -lr)
            elif grad.is_sparse or dampening != 0:
                update(param, grad.to_dense() if grad.is_sparse else grad)
            elif has_momentum:
                rows.append((param, grad, *self._state_of(param, "momentum_buffer")))
            else:
                rows.append((param, grad))
        repeated(update, rows)

    def _buffer(self, param, grad, momentum, dampening):
        """The momentum buffer of `param`, brought up to date."""
        state = self.state[param]
        # Without dampening zeros are the right start; with it the first step is a case of its own.
        first = dampening != 0 and guarded(
            lambda: "momentum_buffer" not in state, "SGD first step with dampening"
        )
        (buffer,) = self._state_of(param, "momentum_buffer")
        if first:
            return buffer.copy_(grad)
        new = grad * (1 - dampening) if dampening else grad
        return buffer.copy_(decayed(buffer * momentum + new))
