"""Programs of run-time sizes in `mg.explain`, the profiler, autotuning, and the cache of plans."""

import os
import subprocess
import sys

import numpy as np

import monograph as mg
from monograph import nn


def real(*shape, seed=0):
    return mg.tensor(np.random.default_rng(seed).standard_normal(shape).astype("f"))


def programs(jitted):
    every = [c for variants in jitted.captures.values() for c in variants]
    return sum(c.sizes is not None for c in every), sum(c.sizes is None for c in every)


WEIGHT = real(16, 24, seed=1)


def layer(x):
    return (x @ WEIGHT).relu().sum(0)


def test_explain_shows_the_program_that_serves_these_sizes():
    jitted = mg.jit(layer, dynamic=None)
    for n in (20, 30):
        jitted(real(n, 16))
    before = programs(jitted)
    report = mg.explain(jitted, real(48, 16), rounds=1)
    assert programs(jitted) == before == (1, 1)
    assert "at run-time sizes s0 = 48" in str(report)
    assert "f32[s0, 16]" in report.table
    assert sum(r.flops for r in report.rows) >= 2 * 48 * 16 * 24
    larger = mg.explain(jitted, real(96, 16), time=False)
    assert sum(r.flops for r in larger.rows) > 1.9 * sum(r.flops for r in report.rows)
    assert report.seconds > 0
    for part in (report.memory, report.totals, report.groups, report.kernels, report.llvm(0)):
        assert part
    assert jitted(real(96, 16)).shape == (24,)


def test_explain_without_arguments_shows_the_last_sizes():
    jitted = mg.jit(layer, dynamic={"x": {0: "N"}})
    jitted(real(20, 16)), jitted(real(33, 16))
    assert "at run-time sizes N = 33" in str(mg.explain(jitted, rounds=1))


def test_explain_of_declared_sizes_that_were_not_called_yet():
    jitted = mg.jit(layer, dynamic={"x": {0: "N"}})
    report = mg.explain(jitted, real(40, 16), time=False)
    assert "at run-time sizes N = 40" in str(report)
    assert "f32[N, 16]" in report.table


def test_explain_of_a_loop_over_run_time_steps():
    cells = nn.LSTM(8, 8, batch_first=True)

    def run(x):
        with mg.no_grad():
            return cells(x)[0]

    jitted = mg.jit(run, dynamic={"x": 1})
    jitted(real(4, 9, 8))
    report = mg.explain(jitted, real(4, 12, 8), rounds=1)
    assert "at run-time sizes s0 = 12" in str(report)
    assert report.bodies


def test_the_profiler_sees_kernels_at_run_time_sizes():
    jitted = mg.jit(layer, dynamic=None)
    for n in (20, 30, 40):
        jitted(real(n, 16))
    with mg.profiler.profile() as made:
        for n in (50, 60, 50):
            jitted(real(n, 16))
    table = made.key_averages().table()
    assert "contract" in table
    assert any(row.calls == 3 for row in made.key_averages() if "contract" in row.name)


def test_schedules_are_tuned_at_the_size_of_the_capture():
    tuned = mg.jit(layer, dynamic=None, autotune=True)
    for n in (40, 64, 50, 90):
        x = real(n, 16)
        np.testing.assert_allclose(tuned(x).numpy(), layer(x).numpy(), rtol=1e-4, atol=1e-5)
    assert programs(tuned) == (1, 1)


PROGRAM = """
import numpy as np
import monograph as mg
from monograph import nn
from monograph.compiler import pipeline

mg.manual_seed(0)
cells, head = nn.LSTM(8, 8, batch_first=True), nn.Linear(8, 5)
optimizer = mg.optim.SGD([*cells.parameters(), *head.parameters()], lr=0.1)

def step(x):
    optimizer.zero_grad()
    mask = mg.tril(mg.ones(x.shape[1], x.shape[1]))
    loss = (head(mask @ cells(x)[0]) / x.shape[1]).square().mean()
    loss.backward()
    optimizer.step()
    return loss

if {again}:
    def refuse(*_):
        raise AssertionError("planned again")
    pipeline.run_passes = refuse
jitted = mg.jit(step, dynamic={{"x": 1}})
random = np.random.default_rng(0)
batches = [random.standard_normal((4, n, 8)).astype("f") for n in (20, 31, 44)]
print([jitted(mg.tensor(x)).item() for x in batches])
((made,),) = jitted.captures.values()
print([str(guard) for guard in made.sizes.space.guards.values()])
"""


def test_plans_of_run_time_sizes_are_stored(tmp_path):
    said = []
    for again in (False, True):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(again=again)],
            env={**os.environ, "MONOGRAPH_CACHE_DIR": str(tmp_path)},
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert said[0] == said[1]
