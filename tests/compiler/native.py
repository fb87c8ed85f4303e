"""One op through the compiler beside its NumPy meaning: for kernels that must agree with it."""

import numpy as np
import pytest

from monograph.codegen import target
from monograph.compiler.executable import compile_graph
from monograph.core.dtype import BY_NUMPY
from monograph.ir.graph import Graph
from monograph.ir.op import Aval
from monograph.ops.movement import Permute
from monograph.runtime import threads

PROCESSORS = ["", "haswell", "x86-64"]  # "" is this machine


@pytest.fixture(params=PROCESSORS, ids=lambda name: name or "host")
def processor(request, monkeypatch):
    """Code is made for this processor while the test runs."""
    if request.param:
        monkeypatch.setenv("MONOGRAPH_CPU", request.param)
    target.host.cache_clear()
    yield request.param
    monkeypatch.undo()
    target.host.cache_clear()


def compiled(op, *arrays, order=None, host_steps=False):
    """The results of a one-op program, equal for one and for three threads.

    order  the arrays stand in memory with their axes in this order, where they have as many
    """
    graph = Graph()
    values, stands = [], []
    for a in arrays:
        if order is not None and a.ndim == len(order):
            a = np.ascontiguousarray(a.transpose(order))
            v = graph.input(Aval(a.shape, BY_NUMPY[a.dtype]))
            v = graph.add(Permute(tuple(np.argsort(order).tolist())), v)
        else:
            v = graph.input(Aval(a.shape, BY_NUMPY[a.dtype]))
        values.append(v)
        stands.append(np.ascontiguousarray(a))
    made = graph.add(op, *values)
    graph.outputs = list(made) if isinstance(made, tuple) else [made]
    program = compile_graph(graph)
    assert program.has_host_steps == host_steps
    results = []
    before = threads.get_num_threads()
    for count in (1, 3):
        threads.set_num_threads(count)
        outs = [np.full(v.shape, 77, v.dtype.numpy) for v in program.graph.outputs]
        program.run(stands, outs)
        results.append(outs)
    threads.set_num_threads(before)
    for one, three in zip(*results):
        assert one.tobytes() == three.tobytes(), "the result depends on the number of threads"
    return results[0]


def meaning(op, *arrays):
    """The results of the op's NumPy reference, in the dtypes that the op infers."""
    avals = op.infer(*(Aval(a.shape, BY_NUMPY[a.dtype]) for a in arrays))
    with np.errstate(all="ignore"):
        made = op.reference(*arrays)
    if op.n_outputs == 1:
        made, avals = (made,), (avals,)
    return [np.asarray(m).astype(a.dtype.numpy) for m, a in zip(made, avals)]


def assert_same(op, *arrays, order=None, rtol=0.0, atol=0.0):
    """Compiled results equal the meaning's."""
    for got, expected in zip(compiled(op, *arrays, order=order), meaning(op, *arrays)):
        assert got.shape == expected.shape and got.dtype == expected.dtype
        if got.dtype.kind not in "iub":
            got, expected = got.astype(np.float64), expected.astype(np.float64)
        np.testing.assert_allclose(got, expected, rtol=rtol, atol=atol)
