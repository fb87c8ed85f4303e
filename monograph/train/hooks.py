"""Hooks: who is told what, and when. The Trainer's loops call `tell`; nothing else calls hooks.

Of what starts the callbacks hear first, of what ends the module does. A module's hook may log.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .callbacks import Callback
from .module import TrainModule


def is_own(owner: Any, name: str, base: type) -> bool:
    """Whether `owner` defines a hook itself, or only has the empty one of its base class."""
    hook = getattr(owner, name)
    return getattr(hook, "__func__", hook) is not getattr(base, name, None)


class Hooks:
    """The hooks of a Trainer's callbacks and of its module."""

    def __init__(self, trainer: Any):
        self.trainer = trainer

    def listeners(self, name: str) -> list[Callable]:
        """The callbacks' hooks of this name that do something."""
        return [getattr(c, name) for c in self.trainer.callbacks if is_own(c, name, Callback)]

    def anyone(self, name: str) -> bool:
        """Whether a callback or the module wants to hear of this."""
        return is_own(self.trainer.module, name, TrainModule) or bool(self.listeners(name))

    def tell(self, name: str, *args: Any, weight: int = 1) -> None:
        """Call the hooks of this name; `weight` is what values logged in them count."""
        ends = name.endswith("_end")
        if not ends:
            self.tell_callbacks(name, *args, weight=weight)
        self.tell_module(name, *args, weight=weight)
        if ends:
            self.tell_callbacks(name, *args, weight=weight)

    def tell_callbacks(self, name: str, *args: Any, weight: int = 1) -> None:
        trainer = self.trainer
        for hook in self.listeners(name):
            self._call(name, hook, (trainer, trainer.module, *args), weight, True)

    def tell_module(self, name: str, *args: Any, weight: int = 1) -> None:
        module = self.trainer.module
        if is_own(module, name, TrainModule):
            self._call(name, getattr(module, name), args, weight, False)

    def _call(self, name: str, hook: Callable, args: tuple, weight: int, late: bool) -> None:
        """Call a hook and take in what it logs. late: a callback hears the end of an epoch when its
        values were given out; what it logs then follows them."""
        trainer, book = self.trainer, self.trainer._book
        before = book.open, book.step_on, book.epoch_on
        in_step = name.startswith("on_train_batch")
        book.start(in_step, not in_step)
        try:
            hook(*args)
            values = book.take()
        finally:
            book.open, book.step_on, book.epoch_on = before
        if not values:
            return
        if late and name.endswith("_end") and "batch" not in name:
            kept, book.sums = book.sums, {}
            book.add(values, weight)
            found = book.epoch_values()
            book.sums = kept
            trainer.publish(book, found)
            trainer.log_metrics(book.for_loggers(found))
        else:
            book.add(values, weight)
        if not in_step:
            trainer.publish(book, book.flush())
