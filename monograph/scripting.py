"""What programs take from torch.jit: `mg.jit.script`, `from monograph.jit import Final`.

TorchScript is a language of its own, in which PyTorch has functions compiled. Here the same
functions run as Python, and `mg.jit` compiles what they do; so its marks change nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from .capture import jit
from .core.errors import ArgumentError

__all__ = ["jit"]


def script(obj: Any, *args: Any, **kwargs: Any) -> Any:
    """`obj`, a function or a module, as it is.

    >>> script(lambda x: x + 1)(tensor(1))
    tensor(2)
    """
    return obj


def trace(func: Any, example_inputs: Any = None, *args: Any, **kwargs: Any) -> Any:
    """`func`, a function or a module, as it is: `mg.jit` captures at the first call."""
    return func


def unchanged(fn: Any) -> Any:
    """The decorated function: for TorchScript's marks without arguments, as unused and export."""
    return fn


def ignore(drop: Any = False, **kwargs: Any) -> Any:
    """A mark of TorchScript, with or without arguments: the decorated function."""
    return drop if callable(drop) else unchanged


def is_scripting() -> bool:
    """False: nothing is TorchScript."""
    return False


def prepared(mod: Any, *args: Any, **kwargs: Any) -> Any:
    """The module as it is: `mg.jit` prepares weights that do not change (freeze and its kin)."""
    return mod


def annotate(the_type: Any, the_value: Any) -> Any:
    """`the_value`."""
    return the_value


def _refuse(name: str, hint: str) -> Callable:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise ArgumentError(f"jit.{name}: there are no TorchScript files", hint=hint)

    refuse.__name__, refuse.__doc__ = name, f"ArgumentError: {hint}."
    return refuse


ATTRIBUTES = {
    "script": script, "trace": trace, "trace_module": trace, "script_method": unchanged,
    "script_if_tracing": unchanged, "ignore": ignore, "unused": unchanged, "export": unchanged,
    "interface": unchanged, "is_scripting": is_scripting, "is_tracing": is_scripting,
    "annotate": annotate, "Final": Final, "isinstance": isinstance,
    "freeze": prepared, "optimize_for_inference": prepared,
    "save": _refuse("save", "save the state dict with mg.save"),
    "load": _refuse("load", "define the model in Python and load its state dict with mg.load"),
}  # fmt: skip
for _name, _value in ATTRIBUTES.items():
    setattr(jit, _name, _value)
