"""Elements of outside tensors that a captured function reads in Python: `int(self.pointer)`.

They decide what is captured, so that they are guards: other elements at a later call mean another
program. A tensor whose elements differ at each call would mean a program for each call.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..core.errors import Place, TraceError, user_place

MANY = 8  # programs for different elements of one tensor


class Contents:
    """What a tensor's elements are, in short: one and the same text for as long as they are equal.

    Whether they are is only looked at when the tensor has been written, or may have been by others
    who share its memory.
    """

    what = "the elements of this tensor"

    def __init__(self, tensor: Any, array: np.ndarray, operation: str):
        self.tensor, self.operation = tensor, operation
        self.kept = np.array(array)
        self.text = _shown(array)
        self.place: Place | None = user_place()
        self.seen = array, list(tensor._version)

    def __call__(self) -> str:
        array, version = self.tensor._value(), self.tensor._version
        if array is self.seen[0] and version == self.seen[1] and len(version) == 1:
            return self.text
        if np.array_equal(array, self.kept, equal_nan=array.dtype.kind in "fc"):
            self.seen = array, list(version)
            return self.text
        text = _shown(array)
        return text if text != self.text else "others"


def _shown(array: Any) -> str:
    return np.array2string(array, threshold=8, max_line_width=1000).replace("\n", "")


def check_contents(new: Iterable[Any], captures: Iterable[Any]) -> None:
    """TraceError if the captures of a function already differ in what a tensor's elements are."""
    reads = [guard[0] for guard in new if isinstance(guard[0], Contents)]
    for read in reads:
        others = {
            getter.text
            for capture in captures
            for getter, *_ in capture.guards
            if type(getter) is type(read) and getter.tensor is read.tensor
        }
        if len(others - {read.text}) >= MANY:
            raise TraceError(
                f"{read.operation}: {read.what} are others at each call "
                f"({', '.join(sorted(others))}, now {read.text}): each would need a program",
                hint="compute with the tensor, pass the number as an argument, or run the function "
                "eagerly with jit(fallback=True)",
                place=read.place,
            )
