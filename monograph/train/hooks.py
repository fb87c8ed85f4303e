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
        """Call the hooks of this name; `weight` is what the module's logged values count."""
        ends = name.endswith("_end")
        if not ends:
            self.tell_callbacks(name, *args)
        self.tell_module(name, *args, weight=weight)
        if ends:
            self.tell_callbacks(name, *args)

    def tell_callbacks(self, name: str, *args: Any) -> None:
        trainer = self.trainer
        for callback in trainer.callbacks:
            getattr(callback, name)(trainer, trainer.module, *args)

    def tell_module(self, name: str, *args: Any, weight: int = 1) -> None:
        module = self.trainer.module
        if not is_own(module, name, TrainModule):
            return
        book, in_step = self.trainer._book, name.startswith("on_train_batch")
        book.start(in_step, not in_step)
        getattr(module, name)(*args)
        book.add(book.take(), weight)
        if not in_step:
            self.trainer.publish(book, book.flush())
