"""The step of an optimizer that a program defines, in a captured function.

Such a step is Python: it reads options as numbers, makes state when it first meets a parameter, and
may count in Python. Options become guards; a call that makes state runs eagerly, and the next one
is captured; numbers that a step changes cannot be captured.
"""

import functools

from monograph.core.errors import StateNeeded, TraceError
from monograph.core.modes import modes
from monograph.tensor import Tensor
from monograph.transform.contents import Contents

NUMBERS = (int, float, complex, bool, str, type(None))


class Options(Contents):
    """What an optimizer's options are; a guard, as contents of tensors are."""

    what = "the options of this optimizer"

    def __init__(self, optimizer):
        self.tensor, self.operation, self.place = (
            optimizer,
            f"{type(optimizer).__name__}.step",
            None,
        )
        self.text = self()

    def __call__(self):
        groups = self.tensor.param_groups
        return repr([{k: v for k, v in g.items() if _is_number(v)} for g in groups])


def _is_number(value):
    return isinstance(value, NUMBERS) or (
        isinstance(value, (tuple, list)) and all(map(_is_number, value))
    )


def captured_step(step):
    """`step`, which says in a capture what it does besides operations on tensors."""

    @functools.wraps(step)
    def checked(self, *args, **kwargs):
        trace = modes.trace
        if trace is None:
            return step(self, *args, **kwargs)
        options = Options(self)
        trace.guards.append((options, options.text, f"what the options of {options.operation} are"))
        before = {p: dict(entries) for p, entries in self.state.items()}
        try:
            result = step(self, *args, **kwargs)
            _settle(self, before, trace, options)
        except BaseException:
            self.state.clear()
            self.state.update(before)
            raise
        return result

    return checked


def _settle(optimizer, before, trace, options):
    """Write replaced state into the tensors that held it; say what cannot be captured."""
    name = options.operation
    if options() != options.text:
        raise _changed(name, "an option of a parameter group")
    for param, entries in optimizer.state.items():
        old = before.get(param, {})
        for key, value in entries.items():
            known = old.get(key)
            if value is known:
                continue
            if key not in old:
                raise StateNeeded(f"{name}: this call makes {key!r}")
            if isinstance(value, Tensor) and isinstance(known, Tensor):
                if value.shape != known.shape or value.dtype != known.dtype:
                    raise _changed(name, f"the shape or dtype of state {key!r}")
                known.copy_(value)
                entries[key] = known
            elif not _is_number(value) or value != known:
                raise _changed(name, f"state {key!r}, which is no tensor")


def _changed(name, what):
    return TraceError(
        f"{name}: it changes {what}, and a captured function runs no Python in later calls",
        hint="keep what changes in tensors that are written in place, or call the step after the "
        "captured function",
    )
