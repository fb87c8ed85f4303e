"""`mg.explain`: what became of a function, without changing anything that it works on.

Captures the function as `mg.jit` would, compiles it, measures the program on copies of whatever it
overwrites, and gives the readable form of compiler/explain.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .api.creation import as_tensor
from .capture import Capture, Jit
from .compiler.explain import Explanation
from .core import dtype as dt
from .core.errors import ArgumentError
from .core.modes import modes
from .core.sizes import Binding
from .dynamic import Sizes, shapes_of
from .runtime import buffers
from .tensor import Tensor
from .transform.varying import Carries


def explain(
    f: Callable, *args: Any, time: bool = True, rounds: int = 5, **kwargs: Any
) -> Explanation:
    """What `f(*args)` is compiled to, as a report to print.

    f       a function, or one under `mg.jit`; without arguments, the latter's last capture is shown
    time    run the program and measure each kernel; False runs nothing
    rounds  measured runs; the best time of each kernel counts

    Nothing that f overwrites (parameters, optimizer and generator state, `.grad`) is changed: the
    program runs on copies. The function's Python code runs once, to capture it; state that an
    optimizer makes at its first step is made then, as zeros. Attributes of the result: graph,
    groups, kernels, table, families, memory, totals (text), rows; kernel(i), llvm(i), assembly(i).

    TraceError if f cannot be captured.

    >>> [row.title for row in explain(lambda x: (x * x).sum(), ones(8, 8), time=False).rows]
    ['reduce_sum']
    """
    if not (isinstance(f, Jit) and f.captures and not args and not kwargs):
        capture, leaves = capture_of(f, args, kwargs, "explain")
        note = ""
    else:
        leaves = None
        capture = next(reversed(f.captures.values()))[-1]
        note = "its last capture"
        if time and any(s.kind in ("arg", "live") for s in capture.inputs):
            note += ", measured with zeros for its arguments"
    executable = capture.executable
    if capture.sizes is not None:
        if leaves is not None:
            sizes = Binding(capture.sizes.space, capture.sizes.of(leaves))
            executable = executable.bound(sizes)
        now = ", ".join(f"{name} = {n}" for name, n in executable.at.sizes.items())
        note += f"{'; ' if note else ''}at run-time sizes {now}"
    made = Explanation(executable, capture.owner.__name__, note)
    if time:
        inputs = program_inputs(capture, leaves)
        shapes = [executable.at.shape(a.shape) for a in capture.out_avals]
        outputs = [buffers.empty(s, a.dtype.numpy) for s, a in zip(shapes, capture.out_avals)]
        for o, i in capture.donate.items():
            outputs[o] = inputs[i]
        made.measure(inputs, outputs, rounds)
    return made


def capture_of(
    f: Callable, args: tuple, kwargs: dict[str, Any], asker: str
) -> tuple[Capture, list[Any]]:
    """f captured and compiled for these arguments, not run; and the arguments' leaves. A program
    of run-time sizes that serves them already is taken as it is."""
    if not callable(f):
        raise ArgumentError(f"{asker}: needs a function, got {type(f).__name__}")
    if modes.trace is not None or modes.vmap is not None:
        raise ArgumentError(f"{asker}: cannot run inside a captured or batched function")
    owner = f if isinstance(f, Jit) else Jit(f)
    leaves, treedef = owner.flatten(args, kwargs)
    leaves = [as_tensor(x) if isinstance(x, np.ndarray) else x for x in leaves]
    shapes = shapes_of(leaves, lambda x: isinstance(x, Tensor))
    for capture in (c for variants in owner.captures.values() for c in variants):
        if (
            capture.sizes is not None
            and capture.treedef == treedef
            and capture.takes_dtypes(leaves)
            and not (capture.sizes.accepts(shapes) or capture.accepts(leaves))
        ):
            return capture, leaves
    axes = owner.policy.declares(shapes, treedef)
    sizes = Sizes(axes, shapes) if axes else None
    live = {k for k in owner._live if k < len(leaves) and not isinstance(leaves[k], Tensor)}
    try:
        return Capture(owner, leaves, treedef, live, sizes), leaves
    except Carries as found:
        owner.carry(found)
        return capture_of(owner, args, kwargs, asker)


def program_inputs(capture: Capture, leaves: list[Any] | None) -> list[np.ndarray]:
    """An array for each input of the program; a copy of each that the program overwrites."""
    overwritten = set(capture.donate.values())
    arrays = []
    for i, source in enumerate(capture.inputs):
        if source.kind == "captured":
            array = source.source._payload
        elif source.kind == "scalar":
            array = np.array(source.source(), source.aval.dtype.numpy)
        elif leaves is None:
            array = np.zeros(capture.at.shape(source.aval.shape), source.aval.dtype.numpy)
        elif source.kind == "arg":
            array = leaves[source.source]._value()
        elif source.kind == "arg_grad":
            array = leaves[source.source]._grad._value()
        else:
            number = leaves[source.source]
            array = np.array(number, dt.of_scalar(number).numpy)
        if i in overwritten or not array.flags.c_contiguous:
            copy = buffers.empty(array.shape, array.dtype)
            np.copyto(copy, array)
            array = copy
        arrays.append(array)
    return arrays
