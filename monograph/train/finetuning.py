"""Freezing parts of a model for some epochs of training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..core.errors import ArgumentError
from .callbacks import Callback


class BackboneFreezing(Callback):
    """Keep parts of a model as they are until an epoch, then train them too.

    parts             names of submodules ("backbone", "net.0"); their parameters are frozen
    unfreeze_at_epoch the first epoch that trains them; None: never
    train_norm        leave the statistics of frozen normalisation layers running (else they are
                      in eval mode while frozen)

    The frozen parameters must be in the optimizer already (give it all parameters); they get no
    gradient and so no update, weight decay included. Thawed, they have their group's rate.
    """

    def __init__(
        self,
        parts: str | Iterable[str],
        unfreeze_at_epoch: int | None = 10,
        train_norm: bool = False,
    ):
        self.parts = [parts] if isinstance(parts, str) else list(parts)
        self.unfreeze_at_epoch, self.train_norm = unfreeze_at_epoch, train_norm

    @property
    def state_key(self) -> str:
        return f"BackboneFreezing[{','.join(self.parts)}]"

    def setup(self, trainer: Any, module: Any, stage: str) -> None:
        if stage != "fit":
            return
        known = dict(module.named_modules())
        for name in self.parts:
            if name not in known or not name:
                raise ArgumentError(
                    f"BackboneFreezing: {type(module).__name__} has no part {name!r}; it has "
                    + ", ".join(sorted(k for k in known if k))
                )
        self._frozen = [known[name] for name in self.parts]
        self._flags = [(p, p.requires_grad) for m in self._frozen for p in m.parameters()]

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        at = self.unfreeze_at_epoch
        freezes = at is None or trainer.current_epoch < at
        for p, flows in self._flags:
            p.requires_grad_(flows and not freezes)
        if not self.train_norm:
            for part in self._frozen:
                part.train(not freezes)

    def teardown(self, trainer: Any, module: Any, stage: str) -> None:
        if stage == "fit":
            for p, flows in self._flags:
                p.requires_grad_(flows)
