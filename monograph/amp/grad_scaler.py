"""GradScaler: float16 gradients are scaled so that small ones do not become 0, and scaled back.

The scale and the count of good steps are tensors, so that a captured step has them as well. There a
step that must be left out is done, and what it wrote is put back.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import monograph as mg

from ..core.device import device as as_device
from ..core.dtype import float16
from ..core.errors import ArgumentError, GradError
from ..core.modes import modes, no_grad
from ..core.tracing import concrete, guarded, is_tracing, refused
from ..tensor import Tensor, wrap

READY, UNSCALED, STEPPED = "ready", "unscaled", "stepped"


class _State:
    """What happened to an optimizer since the last `update`."""

    def __init__(self) -> None:
        self.stage = READY
        self.found: Any = None  # 0-d bool tensor: a gradient is infinite or nan


class GradScaler:
    """Scales losses, unscales gradients, and leaves out steps whose gradients overflowed.

    device           "cpu"; "cuda" switches it off with a warning, as PyTorch does without a GPU
    init_scale       the first scale
    growth_factor    the scale grows by it after growth_interval good steps in a row
    backoff_factor   and shrinks by it after a bad one
    enabled          False: everything passes through

    It is for float16; bfloat16 reaches as far as float32. In a captured step, call `step` and
    `update` in the same function.

    >>> scaler = GradScaler("cpu", init_scale=4.0)
    >>> scaler.scale(tensor(0.5))
    tensor(2.)
    """

    def __init__(
        self,
        device: Any = "cuda",
        init_scale: float = 65536.0,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ):
        self._enabled = bool(enabled)
        if self._enabled and as_device(device).type != "cpu":
            warnings.warn(
                f"GradScaler is enabled for {device!r}, but there is no GPU: it is switched off; "
                "GradScaler('cpu') scales",
                UserWarning,
                stacklevel=2,
            )
            self._enabled = False
        if growth_factor <= 1.0:
            raise ArgumentError(f"GradScaler: growth_factor must be > 1, got {growth_factor}")
        if backoff_factor >= 1.0:
            raise ArgumentError(f"GradScaler: backoff_factor must be < 1, got {backoff_factor}")
        self._growth_factor = float(growth_factor)
        self._backoff_factor = float(backoff_factor)
        self._growth_interval = int(growth_interval)
        self._init_scale = float(init_scale)
        with concrete():
            self._scale = mg.tensor(self._init_scale, dtype=mg.float32)
            self._tracker = mg.tensor(0, dtype=mg.int32)
        self._states: dict[int, _State] = {}
        self._unscale = mg.jit(_unscale)

    def scale(self, outputs: Any) -> Any:
        """`outputs` (a tensor, or tuples and lists of them) times the scale."""
        if not self._enabled:
            return outputs
        if isinstance(outputs, Tensor):
            return outputs * self._scale
        if isinstance(outputs, Iterable):
            made = [self.scale(x) for x in outputs]
            return type(outputs)(made) if isinstance(outputs, (list, tuple)) else iter(made)
        raise ArgumentError(
            f"GradScaler.scale: outputs must be tensors, got {type(outputs).__name__}"
        )

    def unscale_(self, optimizer: Any) -> None:
        """Divide the gradients of an optimizer's parameters by the scale, say before clipping.

        Once for each step; `step` does it if nobody has.
        """
        if not self._enabled:
            return
        state = self._states.setdefault(id(optimizer), _State())
        if state.stage != READY:
            raise GradError(
                "GradScaler.unscale_: was called for this optimizer already since the last update()"
                if state.stage == UNSCALED
                else "GradScaler.unscale_: is called after step()"
            )
        grads = [p.grad for group in optimizer.param_groups for p in group["params"]]
        grads = [g for g in grads if g is not None]
        for g in grads:
            if g.dtype is float16:
                raise GradError(
                    "GradScaler.unscale_: a gradient is float16",
                    hint="keep the parameters in float32 and cast with autocast",
                )
        with no_grad():
            state.found = self._unscale(self._scale, *grads)
        state.stage = UNSCALED

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """optimizer.step(...), unless a gradient is infinite or nan; gives what that gives.

        Unscales the gradients if `unscale_` has not.
        """
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs or args:
            raise ArgumentError("GradScaler.step: closures are not supported")
        state = self._states.setdefault(id(optimizer), _State())
        if state.stage == STEPPED:
            raise GradError(
                "GradScaler.step: was called for this optimizer already since the last update()"
            )
        if state.stage == READY:
            self.unscale_(optimizer)
        state.stage = STEPPED
        if is_tracing():
            return _step_unless(state.found, optimizer, kwargs)
        return None if state.found.item() else optimizer.step(**kwargs)

    def update(self, new_scale: Any = None) -> None:
        """Adjust the scale to what the steps since the last update found, or set it."""
        if not self._enabled:
            return
        with no_grad():
            if new_scale is not None:
                self._scale.copy_(new_scale)
            else:
                self._adjust([s.found for s in self._states.values() if s.found is not None])
        self._states.clear()

    def _adjust(self, found: list[Any]) -> None:
        if not found:
            raise GradError(
                "GradScaler.update: no step() or unscale_() since the last update()",
                hint="in a captured function, call step() and update() both inside it",
            )
        bad = found[0]
        for other in found[1:]:
            bad = bad | other
        growth = guarded(lambda: self._growth_factor, "GradScaler growth_factor")
        backoff = guarded(lambda: self._backoff_factor, "GradScaler backoff_factor")
        interval = guarded(lambda: self._growth_interval, "GradScaler growth_interval")
        good_steps = self._tracker + 1
        grown = self._scale * growth
        may_grow = (good_steps >= interval) & grown.isfinite()
        kept = mg.where(may_grow, grown, self._scale)
        scale = mg.where(bad, self._scale * backoff, kept)
        self._tracker.copy_(mg.where(bad | (good_steps >= interval), 0, good_steps))
        self._scale.copy_(scale)

    def get_scale(self) -> float:
        """The scale (1.0 where the scaler is off)."""
        return self._scale.item() if self._enabled else 1.0

    def is_enabled(self) -> bool:
        """Whether anything is scaled."""
        return self._enabled

    def get_growth_factor(self) -> float:
        """What the scale grows by."""
        return self._growth_factor

    def set_growth_factor(self, new_factor: float) -> None:
        """Change what the scale grows by."""
        self._growth_factor = float(new_factor)

    def get_backoff_factor(self) -> float:
        """What the scale shrinks by after an overflow."""
        return self._backoff_factor

    def set_backoff_factor(self, new_factor: float) -> None:
        """Change what the scale shrinks by after an overflow."""
        self._backoff_factor = float(new_factor)

    def get_growth_interval(self) -> int:
        """After how many good steps in a row the scale grows."""
        return self._growth_interval

    def set_growth_interval(self, new_interval: int) -> None:
        """Change after how many good steps in a row the scale grows."""
        self._growth_interval = int(new_interval)

    def state_dict(self) -> dict[str, Any]:
        """The scale, the factors and the count of good steps, as numbers; empty where it is off."""
        if not self._enabled:
            return {}
        return {
            "scale": self.get_scale(),
            "growth_factor": self._growth_factor,
            "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval,
            "_growth_tracker": self._tracker.item(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        if not self._enabled:
            return
        if not state_dict:
            raise ArgumentError(
                "GradScaler.load_state_dict: the state is empty; it is one of a scaler that is off"
            )
        self._growth_factor = state_dict["growth_factor"]
        self._backoff_factor = state_dict["backoff_factor"]
        self._growth_interval = state_dict["growth_interval"]
        with no_grad():
            self._scale.copy_(mg.tensor(state_dict["scale"], dtype=mg.float32))
            self._tracker.copy_(mg.tensor(state_dict["_growth_tracker"], dtype=mg.int32))


def _unscale(scale: Tensor, *grads: Tensor) -> Tensor:
    """Divide gradients in place; whether one is not finite."""
    inverse = (1.0 / scale.double()).float()
    bad = mg.zeros((), dtype=mg.bool)
    for g in grads:
        bad = bad | ~g.isfinite().all()
        g.mul_(inverse)
    return bad


def _step_unless(bad: Tensor, optimizer: Any, options: dict) -> Any:
    """optimizer.step() while capturing: where `bad` holds, all that it wrote is as it was."""
    refused("a scaled optimizer step")
    trace = modes.trace
    tensors = [p for group in optimizer.param_groups for p in group["params"]]
    tensors += _state_tensors(optimizer)
    before = {id(t): trace.lift(t) for t in tensors}
    result = optimizer.step(**options)
    with no_grad():
        for t in {id(t): t for t in (*tensors, *_state_tensors(optimizer))}.values():
            old = before.get(id(t))
            if old is None:  # made in this step
                known = trace._by_id.get(id(t))
                if known is None:
                    continue
                old = known.symbol
            if t._payload is not old:
                t._write(mg.where(bad, wrap(old), t), "GradScaler.step")
    return result


def _state_tensors(optimizer: Any) -> list[Tensor]:
    return [
        t for state in optimizer.state.values() for t in state.values() if isinstance(t, Tensor)
    ]
