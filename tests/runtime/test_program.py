"""Programs: order, slots, threads, fork, and many callers at once."""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from monograph.kernel.ir import Buffer, Call, Const, Kernel, Load, Loop, Reduce, Store, Var
from monograph.runtime import pool, threads
from monograph.runtime.machine_code import compile_kernels
from monograph.runtime.program import Program, Slot, Task, launch

ZERO, i, n, chunk = Const(0, "i64"), Var("i"), Var("n"), Var("chunk")
BLOCK = 64


def block_kernel(value, name="block"):
    """y[i] = value, one chunk per 64 elements."""
    at = chunk * BLOCK + i
    body = (Loop("i", ZERO, Const(BLOCK, "i64"), (Store("y", at, value(at)),), "vector"),)
    buffers = (Buffer("x", "f32"), Buffer("y", "f32", True))
    return Kernel(name, buffers, body, ("n",), grid=n / BLOCK)


DOUBLE = block_kernel(lambda at: Load("x", at, "f32") * 2.0)
INCREMENT = block_kernel(lambda at: Load("x", at, "f32") + 1.0)


@pytest.fixture(params=[1, 2, 5])
def thread_count(request):
    before = threads.get_num_threads()
    threads.set_num_threads(request.param)
    yield request.param
    threads.set_num_threads(before)


def test_tasks_run_in_order_with_slots_and_addresses(thread_count):
    double, increment = compile_kernels([DOUBLE, INCREMENT])
    count = 64 * BLOCK
    middle, last = np.zeros(count, "f"), np.zeros(count, "f")
    program = Program(
        [
            Task(double, [Slot(0), middle.ctypes.data], [count]),
            Task(increment, [middle.ctypes.data, last.ctypes.data], [count]),
            Task(double, [last.ctypes.data, Slot(1)], [count]),
        ],
        slots=2,
        keep=[middle, last],
    )
    for turn in range(200):
        x, y = np.full(count, turn, "f"), np.zeros(count, "f")
        program([x.ctypes.data, y.ctypes.data])
        assert (y == (turn * 2 + 1) * 2).all()


def test_every_chunk_runs_once_whatever_their_number(thread_count):
    (increment,) = compile_kernels([INCREMENT])
    counts = [1, 2, 3, 4, 5, 7, 64, 1023, 1024, 2049, 5000]
    data = [np.zeros(count * BLOCK, "f") for count in counts]
    program = Program(
        [Task(increment, [x.ctypes.data, x.ctypes.data], [x.size]) for x in data], keep=data
    )
    for turn in range(1, 51):
        program(())
        for x in data:
            assert (x == turn).all()


def test_slot_offsets_and_serial_tasks(thread_count):
    (double,) = compile_kernels([DOUBLE])
    x, y = np.arange(4 * BLOCK, dtype="f"), np.zeros(4 * BLOCK, "f")
    task = Task(double, [Slot(0, 8 * BLOCK), Slot(1, 4 * BLOCK)], [BLOCK], parallel=False)
    Program([task], slots=2)([x.ctypes.data, y.ctypes.data])
    want = np.zeros_like(y)
    want[BLOCK : 2 * BLOCK] = 2 * x[2 * BLOCK : 3 * BLOCK]
    assert (y == want).all()


def test_results_are_bitwise_the_same_for_any_number_of_threads():
    body = (
        Loop("i", ZERO, n, (
            Reduce("add", "y", chunk, Call("fma", (Load("x", chunk * n + i, "f32"),
                   Load("x", i, "f32"), Load("x", i, "f32")), "f32")),
        ), "vector"),
    )  # fmt: skip
    kernel = Kernel(
        "sums", (Buffer("x", "f32"), Buffer("y", "f32", True)), body, ("n",), Const(37, "i64")
    )
    (handle,) = compile_kernels([kernel])
    x = np.random.default_rng(0).normal(size=37 * 1000).astype("f")
    results = []
    before = threads.get_num_threads()
    for count in (1, 2, 4):
        threads.set_num_threads(count)
        y = np.zeros(37, "f")
        launch(handle, [x, y], [1000])
        results.append(y.tobytes())
    threads.set_num_threads(before)
    assert len(set(results)) == 1


def test_zero_chunks_run_nothing():
    (double,) = compile_kernels([DOUBLE])
    y = np.ones(1, "f")
    launch(double, [y, y.copy()], [0])
    Program([], 0)()
    assert y[0] == 1


def test_many_python_threads_call_at_once(thread_count):
    double, increment = compile_kernels([DOUBLE, INCREMENT])
    count = 8 * BLOCK
    wrong = []

    def work(seed):
        x, y, z = np.full(count, seed, "f"), np.zeros(count, "f"), np.zeros(count, "f")
        program = Program(
            [
                Task(double, [x.ctypes.data, y.ctypes.data], [count]),
                Task(increment, [y.ctypes.data, z.ctypes.data], [count]),
            ]
        )
        for _ in range(200):
            z[:] = 0
            program()
            if not (z == 2 * seed + 1).all():
                wrong.append(seed)

    callers = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_one_program_called_from_many_threads(thread_count):
    (double,) = compile_kernels([DOUBLE])
    count = 8 * BLOCK
    program = Program([Task(double, [Slot(0), Slot(1)], [count])], slots=2)
    wrong = []

    def work(seed):
        x, y = np.full(count, seed, "f"), np.zeros(count, "f")
        for _ in range(200):
            y[:] = 0
            program([x.ctypes.data, y.ctypes.data])
            if not (y == 2 * seed).all():
                wrong.append(seed)

    callers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_its_own_workers(thread_count):
    (double,) = compile_kernels([DOUBLE])
    count = 64 * BLOCK
    x, y = np.ones(count, "f"), np.zeros(count, "f")
    program = Program([Task(double, [x.ctypes.data, y.ctypes.data], [count])])
    program()
    for _ in range(5):
        child = os.fork()
        if child == 0:
            y[:] = 0
            for _ in range(20):
                program()
            os._exit(0 if (y == 2).all() else 1)
        program()
        assert os.waitpid(child, 0)[1] == 0


def test_a_timed_run_gives_the_times_of_its_tasks():
    (double,) = compile_kernels([DOUBLE])
    x, y = np.ones(BLOCK, "f"), np.zeros(BLOCK, "f")
    program = Program([Task(double, [Slot(0), Slot(1)], [BLOCK])] * 3, slots=2)
    slots = np.array([x.ctypes.data, y.ctypes.data], np.int64)
    before = time.perf_counter_ns()
    stamps = program.run_timed(slots.ctypes.data)
    after = time.perf_counter_ns()
    assert len(stamps) == 4 and stamps == sorted(stamps)
    assert before <= stamps[0] and stamps[-1] <= after
    assert stamps[-1] > stamps[0]
    assert (y == 2).all()


def test_wrong_numbers_of_arguments_are_errors():
    (double,) = compile_kernels([DOUBLE])
    with pytest.raises(ValueError, match="has 2 buffers, the task 1"):
        Program([Task(double, [0], [BLOCK])])
    with pytest.raises(ValueError, match="has 1 sizes, the task 0"):
        Program([Task(double, [0, 0])])
    with pytest.raises(ValueError, match="slot 2 is outside of 2"):
        Program([Task(double, [Slot(2), 0], [BLOCK])], slots=2)
    with pytest.raises(ValueError):
        Program([Task(double, [Slot(0), Slot(1)], [0])], slots=2)([1])


def test_workers_sleep_when_there_is_nothing_to_do():
    before = threads.get_num_threads()
    threads.set_num_threads(2)
    (double,) = compile_kernels([DOUBLE])
    count = 64 * BLOCK
    launch(double, [np.ones(count, "f"), np.zeros(count, "f")], [count])
    sleeping = pool.driver.SLEEPING
    for _ in range(1000):
        if pool._pool.memory[sleeping] == 1:
            break
        threading.Event().wait(0.005)
    assert pool._pool.memory[sleeping] == 1
    threads.set_num_threads(before)


def test_import_does_not_load_the_compiler_and_exit_is_clean():
    code = (
        "import sys, monograph\n"
        "import monograph.runtime.program, monograph.codegen.llvm\n"
        "assert not any(name.startswith('llvmlite') for name in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


EXIT = """
import numpy as np
from monograph.kernel.ir import *
from monograph.runtime import threads
from monograph.runtime.machine_code import compile_kernels
from monograph.runtime.program import launch
threads.set_num_threads(3)
body = (Store("y", Var("chunk"), Const(1.0, "f32")),)
kernel = Kernel("ones", (Buffer("y", "f32", True),), body, (), Const(100, "i64"))
(handle,) = compile_kernels([kernel])
y = np.zeros(100, "f")
launch(handle, [y])
assert y.all()
"""


def test_a_process_with_workers_ends_by_itself():
    assert subprocess.run([sys.executable, "-c", EXIT], timeout=60).returncode == 0


WAITING = """
import os, threading
import numpy as np
from monograph.kernel.ir import *
from monograph.runtime import pool, threads
from monograph.runtime.machine_code import compile_kernels
from monograph.runtime.program import Program, Slot, Task
pool.SPIN_S = 0  # whoever has nothing to do sleeps at once
threads.set_num_threads(3)
# Chunk c adds 1 to y[c], by way of a sum over 200 * c elements: the last ones take longest.
total = Reduce("add", "y", Var("chunk"), Const(0.0, "f32"))
body = (
    Loop("i", Const(0, "i64"), Var("chunk") * 200, (total,)),
    Reduce("add", "y", Var("chunk"), Const(1.0, "f32")),
)
kernel = Kernel("uneven", (Buffer("y", "f32", True),), body, (), Const(6, "i64"))
(handle,) = compile_kernels([kernel])
program = Program([Task(handle, [Slot(0)])] * 5, slots=1)

def many():
    y = np.zeros(6, "f")
    for turn in range(300):
        program([y.ctypes.data])
    assert (y == 5 * 300).all(), y

callers = [threading.Thread(target=many) for _ in range(2)]
for t in callers: t.start()
for t in callers: t.join()
many()
if hasattr(os, "fork"):
    child = os.fork()
    if not child:
        many()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
many()
print("done")
"""


def test_threads_that_always_sleep_are_always_woken():
    made = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WAITING], timeout=120, capture_output=True, text=True
    )
    assert (made.returncode, made.stdout) == (0, "done\n"), made.stderr
