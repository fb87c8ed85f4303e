"""DataLoader with workers: order, seeds, what travels, faults, and that nothing is left behind."""

import faulthandler
import gc
import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import monograph as mg
from monograph.core.errors import ArgumentError, DataError
from monograph.data import (
    AUTOTUNE,
    DataLoader,
    Dataset,
    IterableDataset,
    Pipeline,
    TensorDataset,
    get_worker_info,
    pool,
    transfer,
    worker,
)

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc and forks its workers"),
    pytest.mark.timeout(60),
]


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    """No worker, descriptor or shared-memory file may outlive a test."""
    before, files = os.listdir("/dev/shm"), len(os.listdir("/proc/self/fd"))
    yield
    gc.collect()
    assert multiprocessing.active_children() == []
    assert os.listdir("/dev/shm") == before
    assert len(os.listdir("/proc/self/fd")) <= files


class Function(Dataset):
    """Samples are function(index)."""

    def __init__(self, function, size=8):
        self.function = function
        self.size = size

    def __getitem__(self, index):
        return self.function(index)

    def __len__(self):
        return self.size


class Squares(Dataset):
    def __getitem__(self, index):
        return index * index

    def __len__(self):
        return 6


class Shards(IterableDataset):
    """Worker w of W gives w, w + W, w + 2W, ... below n."""

    def __init__(self, n):
        self.n = n

    def __iter__(self):
        info = get_worker_info()
        return iter(range(info.id, self.n, info.num_workers) if info else range(self.n))

    def __len__(self):
        return self.n


def table(n=50):
    return TensorDataset(mg.from_numpy(np.arange(n)))


def values(loader):
    return [x.tolist() for (x,) in loader]


# Order and seeds


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_order_is_the_same_for_any_number_of_workers(workers):
    def epochs(num_workers):
        mg.manual_seed(11)
        loader = DataLoader(table(), 8, shuffle=True, num_workers=num_workers)
        return [values(loader) for _ in range(2)]

    expected = epochs(0)
    assert epochs(workers) == expected
    assert expected[0] != expected[1]


def slow_for_even(index):
    time.sleep(0.01 if index % 2 == 0 else 0.0)
    return index


def test_slow_worker_does_not_change_the_order():
    loader = DataLoader(Function(slow_for_even, 12), 1, num_workers=2, prefetch_factor=3)
    assert [int(x) for x in loader] == list(range(12))


def draw(index):
    info = get_worker_info()
    mine = int(mg.randint(2**31, ()))
    return info.id, info.num_workers, info.seed, random.random(), np.random.random(), mine


def test_workers_have_seeds_of_their_own_that_repeat():
    def epoch(seed):
        mg.manual_seed(seed)
        loader = DataLoader(Function(draw, 4), None, num_workers=2)
        return [tuple(np.asarray(x).item() for x in sample) for sample in loader]

    samples = epoch(5)
    assert [s[0] for s in samples] == [0, 1, 0, 1] and {s[1] for s in samples} == {2}
    assert samples[1][2] == samples[0][2] + 1
    for column in (3, 4, 5):
        assert len({sample[column] for sample in samples}) == 4
    assert epoch(5) == samples != epoch(6)


def test_persistent_workers_and_abandoned_epochs_change_no_random_number():
    def epochs(abandon, **arguments):
        mg.manual_seed(5)
        loader = DataLoader(Function(draw, 6), 1, num_workers=2, **arguments)
        result = []
        for epoch in range(3):
            for i, sample in enumerate(loader):
                result.append((epoch, i, [x.item() for x in sample]))
                if abandon and epoch == 1:
                    break
        return [r for r in result if r[0] != 1]

    expected = epochs(abandon=False)
    assert epochs(abandon=True) == expected
    assert epochs(abandon=False, persistent_workers=True) == expected
    assert epochs(abandon=True, persistent_workers=True) == expected


# What travels


def odd_arrays(index):
    base = np.arange(200 * 300, dtype=np.float64).reshape(200, 300) + index
    return {
        "transposed": base.T,
        "strided": base[::2, ::3],
        "fortran": np.asfortranarray(base),
        "reversed": base[::-1],
        "bfloat16": base.astype(ml_dtypes.bfloat16),
        "bool": base % 2 == 0,
        "complex": base * 1j,
        "swapped": base.astype(">f4"),
        "records": np.array([(1, 2.5)] * 5000, dtype=[("a", "i4"), ("b", "f8")]),
        "text": np.array(["ab", "c"]),
        "objects": np.array([{"a": 1}, None], dtype=object),
        "empty": np.empty((0, 3)),
        "scalar": np.array(2.5),
        "tensor": mg.from_numpy(base.astype(np.float32)),
        "nested": [(base, "name"), {"x": base[0]}],
        "number": 3,
    }


def equal(a, b):
    if isinstance(a, mg.Tensor):
        return isinstance(b, mg.Tensor) and a.dtype == b.dtype and equal(a.numpy(), b.numpy())
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    return a == b


def identity(x):
    return x


@pytest.mark.parametrize("shares", [True, False])
def test_arrays_of_every_layout_arrive_unchanged(shares, monkeypatch):
    monkeypatch.setattr(transfer, "SHARES_MEMORY", shares and transfer.SHARES_MEMORY)
    loader = DataLoader(Function(odd_arrays, 3), None, num_workers=1, collate_fn=identity)
    for index, sample in enumerate(loader):
        expected = odd_arrays(index)
        for name in expected:
            assert equal(expected[name], sample[name]), name
        sample["transposed"][:] = 0  # memory of its own, writable
        sample["empty"].flags.writeable, sample["scalar"][...] = True, 1


def growing(index):
    return np.full((index % 5) * 20_000 + 1, index, np.int32)


def test_batches_of_changing_size_kept_to_the_end_stay_intact():
    loader = DataLoader(Function(growing, 30), None, num_workers=2, prefetch_factor=2)
    kept = list(loader)
    assert [tuple(x.shape) for x in kept] == [growing(i).shape for i in range(30)]
    assert all((x.numpy() == i).all() for i, x in enumerate(kept))


def test_big_requests_and_big_answers_do_not_wait_for_each_other():
    data = Function(lambda index: "x" * 20, size=400_000)
    loader = DataLoader(data, 100_000, num_workers=1, prefetch_factor=3, collate_fn="".join)
    assert [len(x) for x in loader] == [2_000_000] * 4


def test_batch_that_cannot_be_pickled_is_an_error():
    loader = DataLoader(Function(lambda i: i), 1, num_workers=1, collate_fn=lambda b: lambda: b)
    with pytest.raises((AttributeError, TypeError, Exception), match="[Pp]ickle") as error:
        next(iter(loader))
    assert "  in DataLoader: sending a batch to the main process" in error.value.__notes__


def test_workers_compute_with_tensors():
    x = mg.from_numpy(np.arange(6, dtype=np.float32).reshape(2, 3))
    expected = ((x + 1.0) * (x + 1.0)).tolist()  # before the fork, so that pools exist
    loader = DataLoader(Function(lambda i: (x + 1.0) * (x + 1.0), 4), 2, num_workers=2)
    assert [batch.tolist() for batch in loader] == [[expected] * 2] * 2


# Streams


def test_streams_are_read_in_turn_and_leave_when_exhausted():
    loader = DataLoader(Shards(11), batch_size=2, num_workers=3)
    batches = [x.tolist() for x in loader]
    # worker 0 has 0 3 6 9, worker 1 has 1 4 7 10, worker 2 has 2 5 8
    assert batches == [[0, 3], [1, 4], [2, 5], [6, 9], [7, 10], [8]]
    assert [x.tolist() for x in loader] == batches
    dropping = DataLoader(Shards(11), batch_size=2, num_workers=3, drop_last=True)
    assert [x.tolist() for x in dropping] == batches[:-1]


class Unsharded(Shards):
    def __iter__(self):
        return iter(range(self.n))


def test_stream_that_every_worker_reads_whole_warns():
    loader = DataLoader(Unsharded(4), batch_size=2, num_workers=2)
    with pytest.warns(UserWarning, match="each of the 2 workers reads its own copy"):
        assert len(list(loader)) == 4


# worker_init_fn, persistent workers, contexts


def test_worker_init_fn_runs_once_in_each_worker():
    def init(worker):
        get_worker_info().dataset.function = lambda index: (worker, index)

    loader = DataLoader(Function(None, 4), None, num_workers=2, worker_init_fn=init)
    assert [tuple(x) for x in loader] == [(0, 0), (1, 1), (0, 2), (1, 3)]


def test_error_in_worker_init_fn_is_raised():
    def init(worker):
        raise PermissionError("no access")

    with pytest.raises(PermissionError, match="no access") as error:
        next(iter(DataLoader(table(), num_workers=1, worker_init_fn=init)))
    assert error.value.__notes__[0] == "  in DataLoader: worker_init_fn"


def pid_of(index):
    return os.getpid()


def test_persistent_workers_stay():
    loader = DataLoader(Function(pid_of), 1, num_workers=2, persistent_workers=True)
    pids = [{int(x) for x in loader} for _ in range(3)]
    assert len(pids[0]) == 2 and pids[0] == pids[1] == pids[2]
    assert len(multiprocessing.active_children()) == 2


def test_newer_iterator_of_persistent_workers_ends_the_older():
    loader = DataLoader(table(), 5, num_workers=2, persistent_workers=True)
    old = iter(loader)
    next(old)
    assert len(values(loader)) == 10
    with pytest.raises(DataError) as error:
        next(old)
    assert str(error.value) == (
        "DataLoader: this iterator ended when a new one was started; with "
        "persistent_workers=True all iterators of a loader share the workers"
    )


def test_persistent_worker_that_died_between_epochs_is_an_error_once():
    loader = DataLoader(Function(pid_of, 4), 1, num_workers=2, persistent_workers=True)
    pids = sorted({int(x) for x in loader})
    os.kill(pids[0], signal.SIGKILL)
    with pytest.raises(DataError, match="was killed by SIGKILL"):
        list(loader)
    assert len(list(loader)) == 4


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_can_be_spawned(method):
    loader = DataLoader(Squares(), 2, num_workers=2, multiprocessing_context=method)
    assert [x.tolist() for x in loader] == [[0, 1], [4, 9], [16, 25]]
    multiprocessing.forkserver._forkserver._stop()
    multiprocessing.resource_tracker._resource_tracker._stop()


def test_spawning_what_cannot_be_pickled_says_so():
    data = Function(lambda index: index)
    loader = DataLoader(data, num_workers=1, multiprocessing_context="spawn")
    with pytest.raises(Exception, match="[Pp]ickle") as error:
        iter(loader)
    multiprocessing.resource_tracker._resource_tracker._stop()
    assert error.value.__notes__ == [
        "  in DataLoader: worker 0 is started with 'spawn', so Function, collate_fn and "
        "worker_init_fn must be picklable",
        "  hint: define them at the top level of a module, without lambdas",
    ]


# Faults


class Strange(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


def failing(index):
    if index == 3:
        raise FileNotFoundError(2, "No such file", "img_3.png")
    if index == 5:
        raise Strange("this", "that")
    return index


def test_error_in_a_worker_keeps_its_type_and_names_worker_and_sample():
    batches = iter(DataLoader(Function(failing), 2, num_workers=2))
    assert next(batches).tolist() == [0, 1]
    with pytest.raises(FileNotFoundError) as error:
        next(batches)
    assert error.value.filename == "img_3.png"
    first, second = error.value.__notes__
    assert first == "  in DataLoader: sample 3 of Function"
    assert second.startswith("  in DataLoader worker 1 (pid ")
    assert 'raise FileNotFoundError(2, "No such file", "img_3.png")' in second
    with pytest.raises(DataError) as error:  # Strange cannot be made again from its args
        next(batches)
    assert str(error.value).endswith("Strange: this and that")
    assert "  in DataLoader: sample 5 of Function" in error.value.__notes__
    assert next(batches).tolist() == [6, 7]
    assert list(batches) == []


def die(how, at=5):
    def sample(index):
        if index == at:
            how()
        return index

    return sample


def kill_self():
    os.kill(os.getpid(), signal.SIGKILL)


def segfault():
    faulthandler.disable()  # pytest's report of it would only confuse
    os.kill(os.getpid(), signal.SIGSEGV)


@pytest.mark.parametrize(
    "how, text, hint",
    [
        (
            lambda: os._exit(3),
            "exited with code 3",
            "what it printed may say why; num_workers=0 runs the dataset in this process",
        ),
        (
            kill_self,
            "was killed by SIGKILL",
            "the system kills processes when memory runs out: fewer workers, a smaller "
            "prefetch_factor or smaller batches need less",
        ),
        (segfault, "was killed by SIGSEGV", None),
    ],
    ids=["exit", "kill", "segv"],
)
def test_worker_that_dies_is_named_with_the_samples_it_held(how, text, hint):
    batches = iter(DataLoader(Function(die(how), 12), 2, num_workers=2))
    start = time.monotonic()
    with pytest.raises(DataError) as error:
        list(batches)
    assert time.monotonic() - start < 5
    message = str(error.value)
    assert message.startswith("DataLoader: worker 0 (pid ")
    assert message.endswith(f") {text}; it held samples 4, 5 and, queued, samples 8, 9")
    assert error.value.hint == hint
    with pytest.raises(DataError, match="the workers were stopped"):
        next(batches)


def test_dead_worker_is_noticed_while_another_is_waited_for():
    def sample(index):
        if index == 0:
            time.sleep(30)
        os._exit(1)

    start = time.monotonic()
    with pytest.raises(DataError, match=r"worker 1 .* exited with code 1; it held sample 1 "):
        next(iter(DataLoader(Function(sample), 1, num_workers=2)))
    assert time.monotonic() - start < 6


def test_dead_worker_whose_child_keeps_its_pipe_open_is_noticed():
    def sample(index):
        if os.fork() == 0:
            time.sleep(4)
            os._exit(0)
        kill_self()

    start = time.monotonic()
    with pytest.raises(DataError, match="killed by SIGKILL"):
        next(iter(DataLoader(Function(sample), 1, num_workers=1)))
    assert time.monotonic() - start < 3.5


def test_dead_reader_of_a_stream_is_named():
    class Dying(IterableDataset):
        def __iter__(self):
            yield 1
            os._exit(7)

    with pytest.raises(DataError) as error:
        list(DataLoader(Dying(), 1, num_workers=1))
    assert str(error.value).endswith("exited with code 7; it was reading from its Dying")


def test_worker_that_hangs_runs_into_the_timeout():
    def sample(index):
        if index == 2:
            time.sleep(60)
        return index

    batches = iter(DataLoader(Function(sample), 1, num_workers=2, timeout=0.5))
    assert [int(next(batches)), int(next(batches))] == [0, 1]
    start = time.monotonic()
    with pytest.raises(DataError) as error:
        next(batches)
    assert time.monotonic() - start < 5
    assert str(error.value).startswith("DataLoader: worker 0 (pid ")
    assert str(error.value).endswith(
        ") gave no batch within timeout=0.5 seconds; it held sample 2 and, queued, sample 4"
    )
    (stack,) = [n for n in error.value.__notes__ if "which stands at" in n]
    assert "test_loader_workers.py" in stack and "in sample" in stack


def test_worker_that_gives_nothing_for_long_is_reported_with_its_stack(monkeypatch):
    monkeypatch.setattr(pool, "STUCK_S", 0.3)

    def slow(index):
        time.sleep(1.5)
        return index

    with pytest.warns(RuntimeWarning, match="has given no batch") as caught:
        assert list(DataLoader(Function(slow, 1), None, num_workers=1)) == [0]
    assert "in slow" in str(caught[0].message) and "it held sample 0" in str(caught[0].message)


# Ends


def test_break_stops_the_workers_at_once():
    start = time.monotonic()
    for _ in DataLoader(table(), 1, num_workers=2):
        break
    assert multiprocessing.active_children() == []
    assert time.monotonic() - start < 2


def test_error_in_the_loop_stops_the_workers():
    def train():
        for _ in DataLoader(table(), 1, num_workers=2):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()
    gc.collect()
    assert multiprocessing.active_children() == []


def test_error_of_the_dataset_keeps_no_worker_alive():
    gc.disable()
    try:
        try:
            list(DataLoader(Function(failing), 2, num_workers=2))
        except FileNotFoundError:
            pass
        assert multiprocessing.active_children() == []
    finally:
        gc.enable()


def test_iterator_that_is_dropped_stops_its_workers():
    batches = iter(DataLoader(table(), 1, num_workers=2))
    assert len(multiprocessing.active_children()) == 2
    del batches
    assert multiprocessing.active_children() == []


def test_exhausted_iterator_stops_its_workers_and_stays_exhausted():
    batches = iter(DataLoader(table(4), 2, num_workers=2))
    assert len(list(batches)) == 2
    assert multiprocessing.active_children() == []
    assert list(batches) == []


def run_program(body):
    """Start a program that prints its workers' ids and goes on iterating."""
    program = f"""
        import multiprocessing, os, signal, sys, time
        from monograph.data import DataLoader, Dataset
        class Slow(Dataset):
            def __len__(self): return 1000
            def __getitem__(self, index):
                time.sleep(0.02)
                return index
        batches = iter(DataLoader(Slow(), 1, num_workers=2))
        next(batches)
        print(*(p.pid for p in multiprocessing.active_children()), flush=True)
        {body}
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    return process, [int(pid) for pid in process.stdout.readline().split()]


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pids, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(map(is_running, pids)):
        time.sleep(0.05)
    return [pid for pid in pids if is_running(pid)]


def test_a_worker_whose_main_process_died_before_it_looked_ends():
    """The id of the main process comes from itself: the worker may be an orphan from the start."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(60)"],
        stdout=subprocess.PIPE,
    )
    process.kill()
    process.wait()
    process.stdout.close()
    ours, theirs = multiprocessing.Pipe()
    setup = worker.WorkerSetup(0, 1, Squares(), None, True, False, None, process.pid)
    orphan = multiprocessing.get_context("fork").Process(
        target=worker.worker_main, args=(setup, theirs)
    )
    orphan.start()
    orphan.join(10)
    assert orphan.exitcode == 1
    ours.close()
    theirs.close()
    orphan.close()


@pytest.mark.parametrize("case", ["killed", "interrupted", "ended"])
def test_workers_do_not_outlive_the_main_process(case):
    body = "sys.exit(0)" if case == "ended" else "for _ in batches: pass"
    process, workers = run_program(body)
    assert len(workers) == 2
    if case == "killed":
        process.kill()
    if case == "interrupted":  # Ctrl-C goes to all processes of the terminal
        os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert wait_until_gone(workers, 8) == []
    if case == "interrupted":
        assert errors.count("Traceback") == 1 and "KeyboardInterrupt" in errors
    else:
        assert errors == ""


# As many workers as are needed


class Slow(Dataset):
    """Samples that take a while, and draw."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __len__(self):
        return 50

    def __getitem__(self, index):
        time.sleep(self.seconds)
        return np.float32([index, np.random.random()])


@pytest.mark.parametrize("seconds, some", [(0.002, True), (0.0, False)])
@pytest.mark.parametrize("persistent", [False, True])
def test_workers_are_started_where_they_are_needed(seconds, some, persistent):
    def epochs(num_workers, **options):
        mg.manual_seed(11)
        loader = DataLoader(Slow(seconds), 2, shuffle=True, num_workers=num_workers, **options)
        found = [[x.tolist() for x in loader] for _ in range(3)]
        return found, loader

    expected, _ = epochs(0)
    found, loader = epochs(AUTOTUNE, persistent_workers=persistent)
    assert found == expected and bool(loader.num_workers) is some


def test_a_pipeline_is_tuned_too_and_a_stream_that_is_shared_out_is_not():
    def numbers(num_workers):
        mg.manual_seed(3)
        stream = Pipeline(range(60)).shuffle(10).map(lambda i: time.sleep(0.001) or i)
        return [x.tolist() for x in DataLoader(stream, 2, num_workers=num_workers)]

    assert numbers(AUTOTUNE) == numbers(0)
    with pytest.raises(ArgumentError, match="AUTOTUNE needs a map-style dataset or a Pipeline"):
        DataLoader(Shards(10), num_workers=AUTOTUNE)


def test_an_epoch_that_is_skipped_into_is_tuned_too():
    loader = DataLoader(Slow(0.002), 1, num_workers=AUTOTUNE)
    loader.skip_batches(20)
    assert [int(x[0, 0]) for x in loader] == list(range(20, 50)) and loader.num_workers


def test_memory_stays_flat_over_20_epochs():
    def resident_kb():
        text = Path("/proc/self/status").read_text()
        return sum(int(re.search(rf"{x}:\s+(\d+)", text)[1]) for x in ("RssAnon", "RssShmem"))

    class Large(Dataset):
        def __len__(self):
            return 12

        def __getitem__(self, index):
            return np.full((64, 1024), index, np.float32)  # 256 kB

    loader = DataLoader(Large(), 4, num_workers=2)
    seen = []
    for _ in range(20):
        assert sum(float(x[:, 0, 0].sum()) for x in loader) == 66
        gc.collect()
        seen.append(resident_kb())
    assert max(seen[10:]) - max(seen[2:6]) < 600  # less than one more batch in ten epochs
