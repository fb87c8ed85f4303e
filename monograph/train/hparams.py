"""Hyper-parameters: the arguments of __init__, kept in `hparams` and in checkpoints."""

from __future__ import annotations

import inspect
from typing import Any

from ..core.errors import ArgumentError, ArgumentTypeError
from .checkpoint import encode


class HParams(dict):
    """A dict whose entries are attributes, too.

    >>> found = HParams(lr=0.1)
    >>> found.lr, found["lr"]
    (0.1, 0.1)
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            known = ", ".join(self) or "nothing"
            raise AttributeError(
                f"hparams: there is no {name!r}; save_hyperparameters has kept {known}"
            ) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __copy__(self) -> HParams:
        return HParams(self)


class HyperParameters:
    """What modules and data modules share: save_hyperparameters and hparams."""

    def save_hyperparameters(
        self, *names: Any, ignore: Any = (), frame: Any = None, logger: bool = True
    ) -> None:
        """Keep the arguments of __init__ in self.hparams and in checkpoints.

        names   those to keep (all), or one dict of what to keep
        ignore  one or several names to leave out
        logger  accepted for scripts written for other trainers

        Call it in __init__, before the arguments are changed. ArgumentTypeError names an argument
        that a checkpoint cannot hold.
        """
        if len(names) == 1 and isinstance(names[0], dict):
            given = dict(names[0])
        else:
            frame = frame or inspect.currentframe().f_back  # type: ignore[union-attr]
            given = _arguments(frame)
            for name in names:
                if name not in given:
                    raise ArgumentError(
                        f"save_hyperparameters: __init__ has no argument {name!r}; it has "
                        + ", ".join(given)
                    )
            if names:
                given = {name: given[name] for name in names}
        ignored = {ignore} if isinstance(ignore, str) else set(ignore)
        for name, value in given.items():
            if name in ignored:
                continue
            try:
                encode(value, {})
            except ArgumentTypeError:
                raise ArgumentTypeError(
                    f"save_hyperparameters: {name} is a {type(value).__name__}, which a "
                    "checkpoint cannot hold",
                    hint=f"leave it out: self.save_hyperparameters(ignore={name!r})",
                ) from None
            self.hparams[name] = value

    @property
    def hparams(self) -> HParams:
        """What save_hyperparameters kept: a dict with attributes."""
        return self.__dict__.setdefault("_hparams", HParams())


def _arguments(frame: Any) -> dict[str, Any]:
    """The arguments with which the __init__ of a frame was called; those of **kwargs by name."""
    code, values = frame.f_code, frame.f_locals
    if code.co_name != "__init__":
        raise ArgumentError("save_hyperparameters: must be called in __init__")
    count = code.co_argcount + code.co_kwonlyargcount
    found = {name: values[name] for name in code.co_varnames[1:count] if name in values}
    count += bool(code.co_flags & inspect.CO_VARARGS)
    if code.co_flags & inspect.CO_VARKEYWORDS:
        found.update(values.get(code.co_varnames[count], {}))
    return found
