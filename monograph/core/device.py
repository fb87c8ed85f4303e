"""Device names. Only the CPU exists so far; other names are understood and refused with a
reason."""

from __future__ import annotations

from typing import Any

from .errors import ArgumentError, DeviceError

_KNOWN = ("cpu", "cuda", "mps", "xpu", "meta")


class device:
    """A device name: device("cpu"), device("cuda:1"), device("cuda", 1).

    >>> device("cuda:1").index
    1
    """

    __slots__ = ("type", "index")
    type: str
    index: int | None

    def __init__(self, name: Any, index: int | None = None):
        if isinstance(name, device):
            name, index = name.type, name.index if index is None else index
        if not isinstance(name, str):
            raise ArgumentError(f"device: expected a name such as 'cpu', got {name!r}")
        kind, _, number = name.partition(":")
        if kind not in _KNOWN or (number and not number.isdigit()):
            raise ArgumentError(
                f"device: {name!r} is not a device name; examples are 'cpu' and 'cuda:0'"
            )
        self.type = kind
        self.index = int(number) if number else index

    def __enter__(self) -> device:
        """`with device("meta"):` makes new tensors there."""
        _entered.append(_default[0])
        set_default_device(self)
        return self

    def __exit__(self, *error: Any) -> None:
        _default[0] = _entered.pop()

    def __repr__(self) -> str:
        return f"device(type={self.type!r}" + (
            ")" if self.index is None else f", index={self.index})"
        )

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, device) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


CPU, META_DEVICE = device("cpu"), device("meta")
_default: list[device | None] = [None]
_entered: list[device | None] = []  # what was the default before each `with`


def get_default_device() -> device:
    """The device of new tensors: the CPU, or "meta" where it was set."""
    return _default[0] or CPU


def set_default_device(name: Any) -> None:
    """Make new tensors on "cpu" or "meta" (None: the CPU)."""
    found = None if name is None else device(name)
    if found is not None and found.type != "meta":
        usable(found, "set_default_device")
    _default[0] = found


def usable(name: Any, operation: str) -> device:
    """The device for `name` (None is the CPU), or DeviceError where it does not exist here."""
    if name is None:
        return CPU
    found = name if isinstance(name, device) else device(name)
    if found.type != "cpu":
        raise DeviceError(
            f"{operation}: device {str(found)!r} is not available; this build computes on 'cpu'"
        )
    return CPU
