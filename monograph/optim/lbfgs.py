"""LBFGS: steps along an estimate of the inverse curvature, made of the last gradients and steps.

Sources: Liu and Nocedal, On the limited memory BFGS method for large scale optimization, 1989;
Nocedal and Wright, Numerical optimization, 2006, algorithms 7.4 (the two loops), 3.5 and 3.6 (the
line search); stopping rules and numbers as in PyTorch, which follows Schmidt's minFunc.
"""

from dataclasses import dataclass

import monograph as mg
from monograph.core.errors import ArgumentError, ArgumentTypeError
from monograph.core.modes import enable_grad, no_grad
from monograph.optim.optimizer import Optimizer, check_option
from monograph.tensor import Tensor


class LBFGS(Optimizer):
    """Quasi-Newton steps for smooth losses over all of the data. One parameter group only.

    A step() runs up to `max_iter` iterations and calls the closure up to `max_eval` times (None:
    5/4 of max_iter). It ends when no gradient is above tolerance_grad, or a step or the loss
    changes by less than tolerance_change.

    lr              the length of each step, or the first that the line search tries
    history_size    steps and gradients remembered
    line_search_fn  None, or "strong_wolfe"

    Because it looks at losses to choose its way, it runs eagerly; jit the closure's loss instead.
    """

    def __init__(
        self,
        params,
        lr=1,
        max_iter=20,
        max_eval=None,
        tolerance_grad=1e-7,
        tolerance_change=1e-9,
        history_size=100,
        line_search_fn=None,
    ):
        check_option("LBFGS", "lr", lr)
        if line_search_fn not in (None, "strong_wolfe"):
            raise ArgumentError(
                f"LBFGS: line_search_fn must be 'strong_wolfe' or None, got {line_search_fn!r}"
            )
        defaults = {
            "lr": lr,
            "max_iter": max_iter,
            "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad,
            "tolerance_change": tolerance_change,
            "history_size": history_size,
            "line_search_fn": line_search_fn,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group):
        """The one group; ArgumentError for a second."""
        if self.param_groups:
            raise ArgumentError("LBFGS: there can be only one parameter group")
        super().add_param_group(param_group)

    def _state_shape(self, key, param):
        return None  # vectors of all parameters

    def step(self, closure=None):
        """Minimise; returns the loss before the first iteration.

        closure  a function that clears gradients, computes the loss, calls backward and returns the
                 loss; it is called several times
        """
        if closure is None:
            raise ArgumentTypeError("LBFGS: step needs a closure that computes the loss anew")
        with no_grad():
            return self._minimise(closure)

    def _minimise(self, closure):
        group = self.param_groups[0]
        lr, most = float(group["lr"]), group["max_eval"]
        enough, least = group["tolerance_grad"], group["tolerance_change"]
        state = self.state[group["params"][0]]
        state.setdefault("func_evals", 0)
        state.setdefault("n_iter", 0)

        def evaluate():
            with enable_grad():
                found = closure()
            state["func_evals"] += 1
            return found, self._flat_gradient()

        first_loss, gradient = evaluate()
        loss = float(first_loss)
        if _largest(gradient) <= enough:
            return first_loss
        evaluations = 1
        for iteration in range(1, group["max_iter"] + 1):
            state["n_iter"] += 1
            direction = self._direction(state, gradient, group["history_size"])
            t = lr
            if state["n_iter"] == 1:
                t = min(1.0, 1.0 / gradient.abs().sum().item()) * lr
            slope = _dot(gradient, direction)
            state.update(d=direction, t=t, prev_flat_grad=gradient, prev_loss=loss)
            if slope > -least:
                break
            before = loss
            if group["line_search_fn"] is None:
                self._move(direction, t)
                if iteration == group["max_iter"]:
                    break
                found, gradient = evaluate()
                loss = float(found)
                evaluations += 1
            else:
                where = [p.clone() for p in group["params"]]

                def probe(t, direction=direction, where=where):
                    self._move(direction, t)
                    found, gradient = evaluate()
                    for param, old in zip(group["params"], where):
                        param.copy_(old)
                    return Point(t, float(found), _dot(gradient, direction), gradient)

                start = Point(0.0, loss, slope, gradient)
                point, count = search(probe, start, t, _largest(direction), most - evaluations)
                evaluations += count
                t, loss, gradient = point.t, point.loss, point.gradient
                state["t"] = t
                self._move(direction, t)
            if (
                evaluations >= most
                or _largest(gradient) <= enough
                or _largest(direction) * abs(t) <= least
                or abs(loss - before) < least
            ):
                break
        return first_loss

    def _direction(self, state, gradient, history_size):
        """Minus the estimated inverse Hessian times the gradient."""
        if state["n_iter"] == 1:
            state.update(old_dirs=[], old_stps=[], ro=[], H_diag=1.0)
            return -gradient
        change = gradient - state["prev_flat_grad"]
        step = state["d"] * state["t"]
        curvature = _dot(change, step)
        if curvature > 1e-10:
            for key, new in (("old_dirs", change), ("old_stps", step), ("ro", 1 / curvature)):
                state[key].append(new)
                del state[key][:-history_size]
            state["H_diag"] = curvature / _dot(change, change)
        remembered = list(zip(state["old_dirs"], state["old_stps"], state["ro"]))
        q, shares = -gradient, []
        for change, step, inverse in reversed(remembered):
            shares.append(_dot(step, q) * float(inverse))
            q = q - change * shares[-1]
        r = q * float(state["H_diag"])
        for (change, step, inverse), share in zip(remembered, reversed(shares)):
            r = r + step * (share - _dot(change, r) * float(inverse))
        return r

    def _flat_gradient(self):
        params = self.param_groups[0]["params"]
        flat = [mg.zeros(p.numel(), dtype=p.dtype) if p.grad is None else p.grad.reshape(-1)
                for p in params]  # fmt: skip
        return mg.cat(flat).detach().clone()

    def _move(self, direction, t):
        """Add t * direction to the parameters."""
        start = 0
        for param in self.param_groups[0]["params"]:
            part = direction[start : start + param.numel()].reshape(param.shape)
            param.add_(part * t)
            start += param.numel()


def _dot(x, y):
    return (x * y).sum().item()


def _largest(x):
    return x.abs().max().item()


@dataclass
class Point:
    """A step of length t along the direction: the loss there, its slope and its gradient."""

    t: float
    loss: float
    slope: float
    gradient: Tensor


def search(probe, start, t, reach, most, decrease=1e-4, flatness=0.9, least=1e-9):
    """(a Point of sufficient decrease and flatness, calls of probe): the strong Wolfe conditions.

    probe  t -> Point;  start  the Point at 0;  t  the first to try;  reach  the largest change of a
    parameter at t = 1;  most  trials;  least  change of a parameter that is not worth a trial
    """
    flat = -flatness * start.slope
    before, now, trials = start, probe(t), 1
    low = high = None  # Points around one that satisfies the conditions; low has the smaller loss
    steps = 0
    while steps < most:
        is_worse = now.loss > start.loss + decrease * now.t * start.slope
        if is_worse or (steps > 1 and now.loss >= before.loss):
            low, high = before, now
            break
        if abs(now.slope) <= flat:
            return now, trials
        if now.slope >= 0:
            low, high = before, now
            break
        t = _minimum(before, now, now.t + 0.01 * (now.t - before.t), now.t * 10)
        before, now = now, probe(t)
        trials += 1
        steps += 1
    if low is None:
        low, high = start, now
    if high.loss < low.loss:
        low, high = high, low
    stuck = False
    while steps < most and abs(high.t - low.t) * reach >= least:
        left, right = sorted((low.t, high.t))
        t = _minimum(low, high, left, right)
        # Near an end there is little progress: the second time, keep off by a tenth.
        margin = 0.1 * (right - left)
        is_near = min(right - t, t - left) < margin
        if is_near and (stuck or t >= right or t <= left):
            t = right - margin if abs(t - right) < abs(t - left) else left + margin
            is_near = False
        stuck = is_near
        now = probe(t)
        trials += 1
        steps += 1
        if now.loss > start.loss + decrease * t * start.slope or now.loss >= low.loss:
            high = now
            if high.loss < low.loss:
                low, high = high, low
            continue
        if abs(now.slope) <= flat:
            return now, trials
        if now.slope * (high.t - low.t) >= 0:
            high = low
        low = now
    return low, trials


def _minimum(a, b, low, high):
    """Where the cubic through two points with their slopes has its minimum, within [low, high]."""
    if b.t < a.t:
        a, b = b, a
    mixed = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
    square = mixed * mixed - a.slope * b.slope
    if not square >= 0:
        return (low + high) / 2
    root = square**0.5
    divisor = b.slope - a.slope + 2 * root
    if divisor == 0:
        return (low + high) / 2
    t = b.t - (b.t - a.t) * ((b.slope + root - mixed) / divisor)
    return min(max(t, low), high)
