"""compare: a function's compiled form beside the plain meaning of its operations, one by one.

For the question "which operation does the compiler get wrong, and which line of mine is it?".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..compiler.executable import compile_graph
from ..core.errors import Place
from ..ir.evaluate import as_array, evaluate
from ..ir.graph import Graph, Node, Value
from ..report import capture_of, program_inputs
from ..runtime import buffers
from .comparison import assert_close


@dataclass(frozen=True)
class Difference:
    """One operation whose compiled result is not its meaning.

    op, place  the operation and the user's line
    what       which elements differ, and how far
    """

    op: str
    place: Place | None
    what: str

    def __str__(self) -> str:
        return f"{self.op}: {self.what}" + (f"\n  at {self.place}" if self.place else "")


@dataclass(frozen=True)
class Comparison:
    """What `compare` found: true where everything agrees.

    results  differences of the function's results, as compiled for use
    first    the first operation that differs, given the compiled values of what it reads
    count    operations compared
    """

    results: tuple[str, ...]
    first: Difference | None
    count: int

    def __bool__(self) -> bool:
        return not self.results and self.first is None

    def __str__(self) -> str:
        if self:
            return f"{self.count} operations and all results agree"
        lines = [f"result {text}" for text in self.results]
        if self.first is not None:
            lines.append(f"first operation that differs: {self.first}")
        else:
            lines.append(
                "every operation agrees when its result is stored: only the fused form differs, "
                "or rounding adds up over many operations"
            )
        return "\n".join(lines)


def compare(
    f: Callable, *args: Any, rtol: float = 1e-4, atol: float = 1e-5, **kwargs: Any
) -> Comparison:
    """Compile f(*args) and compare it with NumPy's meaning of each operation.

    First the results as `mg.jit` would compute them, then every operation: its compiled result
    beside its NumPy meaning on the same compiled inputs, so that errors do not add up. Floating
    results may differ by atol * (largest magnitude of the result, at least 1) + rtol * magnitude.
    Nothing that f overwrites is changed. Slow: NumPy computes everything.

    >>> print(compare(lambda x: (x * x).sum(), ones(4)))
    2 operations and all results agree
    """
    capture, leaves = capture_of(f, args, kwargs, "compare")
    graph = capture.graph
    inputs = program_inputs(capture, leaves)
    expected = evaluate(graph, *(a.copy() for a in inputs))
    results = []
    for i, (got, wanted) in enumerate(zip(_run(graph, inputs), expected, strict=True)):
        if text := _difference(got, wanted, rtol, atol):
            results.append(f"{i} ({graph.outputs[i].aval!r}): {text}")
    first = _first_difference(graph, inputs, rtol, atol)
    return Comparison(tuple(results), first, len(graph.nodes))


def _run(graph: Graph, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The graph's outputs, compiled."""
    outputs = [buffers.empty(v.shape, v.dtype.numpy) for v in graph.outputs]
    compile_graph(graph).run(inputs, outputs)
    return outputs


def _first_difference(
    graph: Graph, inputs: Sequence[np.ndarray], rtol: float, atol: float
) -> Difference | None:
    stored = graph.copy()
    stored.outputs = [v for node in graph.nodes for v in node.outputs]
    known: dict[Value, Any] = dict(zip(graph.inputs, inputs, strict=True))
    known.update(graph.constants)
    known.update(zip(stored.outputs, _run(stored, inputs), strict=True))
    for node in graph.nodes:
        if text := _node_difference(node, known, rtol, atol):
            return Difference(node.op.name, node.place, text)
    return None


def _node_difference(node: Node, known: dict[Value, Any], rtol: float, atol: float) -> str | None:
    args = (known[v] if isinstance(v, Value) else v for v in node.inputs)
    with np.errstate(all="ignore"):
        found = node.op.reference(*args)
    for v, wanted in zip(node.outputs, found if node.op.n_outputs > 1 else (found,)):
        if text := _difference(known[v], as_array(wanted, v.aval), rtol, atol):
            return f"{v.aval!r}: {text}"
    return None


def _difference(got: np.ndarray, wanted: np.ndarray, rtol: float, atol: float) -> str | None:
    if wanted.dtype.kind in "iub":
        rtol = atol = 0.0
    else:
        wide = np.abs(wanted.astype(np.float64))
        atol *= max(1.0, float(np.max(wide, initial=0.0, where=np.isfinite(wide))))
    try:
        assert_close(got, wanted, rtol=rtol, atol=atol, equal_nan=True)
    except AssertionError as error:
        return str(error)
    return None
