"""The step of an optimizer that a program defines, in a captured function.

Such a step is Python: it reads options as numbers, makes state when it first meets a parameter, and
may count in Python. All that is Python's state (transform/state.py), once the optimizer is seen.
"""

import functools

from monograph.core.modes import modes


def captured_step(step):
    """`step`, whose optimizer a capture sees."""

    @functools.wraps(step)
    def checked(self, *args, **kwargs):
        trace = modes.trace
        if trace is not None and trace.state is not None:
            trace.state.value(self, type(self).__name__)
        return step(self, *args, **kwargs)

    return checked
