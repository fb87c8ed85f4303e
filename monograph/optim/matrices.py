"""Adafactor and Muon: optimizers that look at a parameter as a matrix."""

import math

import monograph as mg
from monograph.core.errors import ArgumentError
from monograph.core.tracing import concrete
from monograph.optim.optimizer import Optimizer, check_option, decayed, smaller


class Adafactor(Optimizer):
    """Steps divided by the root of averaged squares, which rows and columns of a matrix share.

    So the state of an (m, n) matrix takes m + n numbers. beta(t) = 1 - t**beta2_decay averages;
    the rate is min(lr, 1 / sqrt(t)) times the parameter's root mean square (at least eps[1]); a
    step whose root mean square is above d is scaled down to d. eps[0]: the smallest root of an
    average (None: that of the dtype). weight_decay is decoupled, as in AdamW.

    `foreach` is accepted for programs written for PyTorch and ignored.
    Source: Shazeer and Stern, Adafactor: adaptive learning rates with sublinear memory cost, 2018.
    """

    def __init__(
        self,
        params,
        lr=1e-2,
        beta2_decay=-0.8,
        eps=(None, 1e-3),
        d=1.0,
        weight_decay=0.0,
        *,
        foreach=None,
        maximize=False,
    ):
        check_option("Adafactor", "lr", lr)
        check_option("Adafactor", "weight_decay", weight_decay)
        check_option("Adafactor", "d", d, 1.0)
        check_option("Adafactor", "eps[0]", eps[0] or 0.0)
        check_option("Adafactor", "eps[1]", eps[1])
        if beta2_decay > 0:
            raise ArgumentError(f"Adafactor: beta2_decay must be at most 0, got {beta2_decay}")
        defaults = {
            "lr": lr,
            "beta2_decay": beta2_decay,
            "eps": tuple(eps),
            "d": d,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def _state_shape(self, key, param):
        shape = list(param.shape)
        if key in ("row_var", "col_var"):
            shape[-1 if key == "row_var" else -2] = 1
        return tuple(shape)

    def _update(self, group, pairs):
        lr = self._live(group, "lr")
        decay = self._fixed(group, "beta2_decay")
        least, smallest = self._fixed(group, "eps")
        d = self._fixed(group, "d")
        weight_decay = self._fixed(group, "weight_decay")
        maximize = self._fixed(group, "maximize")
        for count, members in self._counted(group, pairs):
            share = count**decay
            rate = smaller(lr, 1 / count**0.5)
            for param, grad in members:
                grad = -grad if maximize else grad
                eps = mg.finfo(param.dtype).eps if least is None else least
                size = _root_mean_square(param).clamp(min=smallest)
                average = self._average(param, grad, share, eps)
                step = grad * average.clamp(min=eps * eps).rsqrt()
                limit = (_root_mean_square(step) / d).clamp(min=1.0)
                value = param * (1 - lr * weight_decay) if weight_decay != 0 else param
                param.copy_(value - step * (size * rate / limit))

    def _average(self, param, grad, share, eps):
        """The running average of the gradient's squares; of a matrix by row and column."""
        if param.ndim < 2:
            (variance,) = self._state_of(param, "variance")
            return variance.copy_(variance + (grad * grad - variance) * share)
        squares = grad * grad
        rows = self._sized(param, "row_var")
        columns = self._sized(param, "col_var")
        rows.copy_(rows + (squares.mean(-1, keepdim=True) - rows) * share)
        columns.copy_(columns + (squares.mean(-2, keepdim=True) - columns) * share)
        return rows @ columns / rows.mean(-2, keepdim=True).clamp(min=eps)

    def _sized(self, param, name):
        state = self.state[param]
        if name not in state:
            with concrete():
                state[name] = mg.zeros(self._state_shape(name, param), dtype=param.dtype)
        return state[name]


def _root_mean_square(x):
    return (x * x).mean().sqrt() if x.numel() else mg.zeros((), dtype=x.dtype)


class Muon(Optimizer):
    """Momentum whose every step is made a nearly orthogonal matrix. For matrices only.

    b = momentum * b + (1 - momentum) * g; the step is b, or with nesterov momentum * b +
    (1 - momentum) * g, after `ns_steps` of the iteration X = a*X + (b*A + c*A*A)*X, A = X*X^T, with
    ns_coefficients (a, b, c), which draws the singular values near 1.

    weight_decay  decoupled, as in AdamW
    adjust_lr_fn  "original" (or None): lr * sqrt(max(1, rows / columns)); "match_rms_adamw":
                  lr * 0.2 * sqrt(max(rows, columns)), so that AdamW's rates suit

    Embeddings, biases and the last layer want another optimizer, such as AdamW. The iteration runs
    in float32 for 16-bit parameters, else in the parameter's dtype (PyTorch: in bfloat16).
    Source: Jordan and others, Muon: an optimizer for hidden layers in neural networks, 2024.
    """

    def __init__(
        self,
        params,
        lr=1e-3,
        weight_decay=0.1,
        momentum=0.95,
        nesterov=True,
        ns_coefficients=(3.4445, -4.775, 2.0315),
        eps=1e-7,
        ns_steps=5,
        adjust_lr_fn=None,
    ):
        for name, value in (("lr", lr), ("momentum", momentum), ("weight_decay", weight_decay)):
            check_option("Muon", name, value)
        if adjust_lr_fn not in (None, "original", "match_rms_adamw"):
            raise ArgumentError(
                "Muon: adjust_lr_fn must be 'original', 'match_rms_adamw' or None, "
                f"got {adjust_lr_fn!r}"
            )
        if len(ns_coefficients) != 3:
            raise ArgumentError(f"Muon: ns_coefficients must be three, got {ns_coefficients}")
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_coefficients": tuple(ns_coefficients),
            "eps": eps,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group):
        """Add a group of matrices; ArgumentError for parameters of other than two dimensions."""
        super().add_param_group(param_group)
        for i, param in enumerate(self.param_groups[-1]["params"]):
            if param.ndim != 2:
                self.param_groups.pop()
                raise ArgumentError(
                    f"Muon: parameter {i} has shape {tuple(param.shape)}; only matrices are taken",
                    hint="give the others to AdamW",
                )

    def _update(self, group, pairs):
        lr = self._live(group, "lr")
        weight_decay = self._fixed(group, "weight_decay")
        momentum = self._fixed(group, "momentum")
        nesterov = self._fixed(group, "nesterov")
        coefficients = self._fixed(group, "ns_coefficients")
        steps, eps = self._fixed(group, "ns_steps"), self._fixed(group, "eps")
        adjust = self._fixed(group, "adjust_lr_fn")
        for param, grad in pairs:
            (b,) = self._state_of(param, "momentum_buffer")
            b.copy_(decayed(b + (grad - b) * (1 - momentum)))
            step = grad + (b - grad) * momentum if nesterov else b
            step = _orthogonal(step, coefficients, steps, eps).to(param.dtype)
            rows, columns = param.shape
            if adjust == "match_rms_adamw":
                ratio = 0.2 * math.sqrt(max(rows, columns))
            else:
                ratio = math.sqrt(max(1, rows / columns))
            param.copy_(param * (1 - lr * weight_decay) - step * (lr * ratio))


def _orthogonal(x, coefficients, steps, eps):
    """x with its singular values drawn near 1 by the Newton-Schulz iteration."""
    a, b, c = coefficients
    x = x.float() if x.dtype.itemsize == 2 else x
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x * x).sum().sqrt().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = x * a + (gram * b + gram @ gram * c) @ x
    return x.T if tall else x
