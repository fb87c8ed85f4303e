"""Measured schedules: what is tried is right, what is found is kept, nothing is tried unasked."""

import json

import numpy as np
import pytest

import monograph as mg
from monograph.codegen.target import host
from monograph.compiler import tuning
from monograph.compiler.kernels import gemm
from monograph.compiler.kernels.blocking import plan
from monograph.compiler.kernels.contract import analyse
from monograph.compiler.kernels.variants import Variants
from monograph.compiler.steps import Context, Scratch
from monograph.core import dtype as dt
from monograph.core.shape import contiguous_strides
from monograph.ir.graph import Graph
from monograph.ir.op import Aval
from monograph.ops.contract import Contract
from monograph.runtime import buffers, cache, threads
from monograph.runtime.machine_code import compile_kernels
from monograph.runtime.program import Program, Task


@pytest.fixture
def searches(monkeypatch, tmp_path):
    """Every search that takes place, in a cache directory of its own."""
    found = []
    search = tuning._search

    def counted(*args):
        found.append(search(*args))
        return found[-1]

    monkeypatch.setenv("MONOGRAPH_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("MONOGRAPH_AUTOTUNE", raising=False)
    monkeypatch.setattr(tuning, "_search", counted)
    monkeypatch.setattr(tuning, "NODE_SECONDS", 0.2)
    monkeypatch.setattr(tuning, "RUN_SECONDS", 1e-4)
    return found


def product(**options):
    rng = np.random.default_rng(0)
    x, y = (mg.tensor(rng.standard_normal((70, 70)).astype(np.float32)) for _ in range(2))
    made = mg.jit(lambda x, y: mg.relu(x @ y), **options)(x, y)
    np.testing.assert_allclose(made.numpy(), np.maximum(x.numpy() @ y.numpy(), 0), atol=1e-4)
    return made


def test_nothing_is_measured_unless_asked_for(searches, monkeypatch):
    product()
    monkeypatch.setenv("MONOGRAPH_AUTOTUNE", "0")
    product()
    monkeypatch.setenv("MONOGRAPH_AUTOTUNE", "1")
    product(autotune=False)
    assert not searches


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_a_choice_is_measured_once_and_kept(searches, monkeypatch, how):
    if how == "environment":
        monkeypatch.setenv("MONOGRAPH_AUTOTUNE", "1")
    options = {"autotune": True} if how == "argument" else {}
    first = product(**options)
    assert len(searches) == 1
    assert mg.equal(first, product(**options))
    assert len(searches) == 1
    assert tuning.modes.autotune is None


def test_a_known_schedule_is_read_though_the_plan_is_gone(searches, monkeypatch):
    monkeypatch.setattr(tuning.stored, "enabled", False)
    product(autotune=True)
    product(autotune=True)
    assert len(searches) == 1


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"mr": 4}', b"\xff\xfe"])
def test_what_is_no_schedule_is_measured_anew(searches, monkeypatch, content):
    monkeypatch.setattr(tuning.stored, "enabled", False)
    keys = []
    store = cache.store

    def spy(key, body):
        if body.startswith(b"{"):
            keys.append(key)
        store(key, body)

    monkeypatch.setattr(cache, "store", spy)
    product(autotune=True)
    (key,) = keys
    good = json.loads(cache.load(key))
    store(key, content)
    product(autotune=True)
    store(key, json.dumps({**good, "mr": good["mr"] + 1000}).encode())
    product(autotune=True)
    path = cache.cache_directory() / f"{key}.o"
    path.write_bytes(path.read_bytes()[:-1])  # cut short
    product(autotune=True)
    assert len(searches) == 4
    product(autotune=True)
    assert len(searches) == 4


def test_the_number_of_threads_decides_nothing(searches, monkeypatch):
    monkeypatch.setattr(tuning.stored, "enabled", False)
    before = threads.get_num_threads()
    try:
        threads.set_num_threads(1)
        one = product(autotune=True)
        assert threads.get_num_threads() == 1
        threads.set_num_threads(3)
        assert mg.equal(one, product(autotune=True))
    finally:
        threads.set_num_threads(before)
    assert len(searches) == 1


PROBLEMS = [
    ("mk,kn->mn", {"m": 37, "k": 70, "n": 100}, False),
    ("mk,nk->mn", {"m": 9, "k": 530, "n": 75}, False),
    ("mk,nk->mn", {"m": 20, "k": 64, "n": 96}, True),
    ("bkm,bkn->bmn", {"b": 5, "m": 40, "k": 33, "n": 50}, False),
]


@pytest.mark.parametrize(("signature", "size", "steady"), PROBLEMS)
def test_every_variant_computes_the_product(signature, size, steady):
    graph = Graph()
    sides, out_letters = signature.split("->")
    shapes = [tuple(size[c] for c in side) for side in sides.split(",")]
    values = [graph.input(Aval(s, dt.float32)) for s in shapes]
    out = graph.add(Contract(signature), *values)
    context = Context("product", locate=lambda v: (v, contiguous_strides(v.shape), 0))
    if steady:
        context.constant = {values[1]}
    problem = analyse(out.node, context)
    variants = Variants(problem, "f32", host())
    start = plan(problem, "f32", host())
    plans = [start]
    for group in variants.others(start):
        plans += [p for p in group if p not in plans]
    rng = np.random.default_rng(1)
    operands = [rng.integers(-8, 9, s).astype(np.float32) for s in shapes]
    expected = np.einsum(signature, *operands)  # small whole numbers: every order is exact
    assert len(plans) > 20
    for p in plans[:: max(1, len(plans) // 12)]:
        assert variants.read(json.loads(json.dumps(p.__dict__))) == p
        steps = gemm.Writer(out.node, problem, p, context, "f32", False, False).steps()
        handles = compile_kernels([s.kernel for s in steps])
        result = np.full(expected.shape, np.nan, np.float32)
        arrays = {**dict(zip(values, operands)), out: result}
        for s in steps:
            for b in s.buffers:
                if isinstance(b, Scratch):
                    arrays.setdefault(b, buffers.empty((b.size,), np.float32))
        tasks = [
            Task(h, [arrays[b].ctypes.data for b in s.buffers], list(s.sizes), s.parallel)
            for h, s in zip(handles, steps)
        ]
        Program(tasks)()
        np.testing.assert_array_equal(result, expected, err_msg=str(p))
