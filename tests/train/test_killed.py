"""Training that is killed with -9, and started again until it ends: the same bits as without."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from monograph.train import load_checkpoint

PROGRAM = str(Path(__file__).parent / "killed.py")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc and /dev/shm")


def start(directory, workers):
    process = subprocess.Popen(
        [sys.executable, PROGRAM, str(directory), str(workers)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    return process


def finish(directory, workers):
    """(digest, seconds from "ready" to the end) of a run that nobody kills."""
    process = start(directory, workers)
    began = time.monotonic()
    out, errors = process.communicate(timeout=240)
    assert process.returncode == 0 and not errors, errors
    return out.strip(), time.monotonic() - began


def children(session):
    """Processes of a session that still run."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(entry))
    return found


def kill_some(directory, rng, kills, duration):
    """Start, kill at a random instant, start again with another number of workers: `kills` times,
    or until training is done; once at least. How often it was killed."""
    shared = set(os.listdir("/dev/shm"))
    killed = 0
    while killed < kills:
        process = start(directory, rng.choice([0, 1, 3]))
        try:
            process.communicate(timeout=rng.uniform(0.0, duration))
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
        else:  # done before
            if killed:
                break
            shutil.rmtree(directory)
            duration /= 2
            continue
        process.communicate()
        deadline = time.monotonic() + 20
        while children(process.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert children(process.pid) == []
        for path in directory.glob("*.ckpt"):
            load_checkpoint(path)  # whole, whatever was interrupted
    assert set(os.listdir("/dev/shm")) <= shared
    return killed


def check(tmp_path, rounds, kills, seed):
    expected, duration = finish(tmp_path / "whole", 0)
    rng = random.Random(seed)
    for turn in range(rounds):
        directory = tmp_path / f"killed{turn}"
        assert kill_some(directory, rng, kills, 0.8 * duration)
        assert finish(directory, rng.choice([0, 1, 2, 4]))[0] == expected, turn
        assert not [p.name for p in directory.glob(".*")]
        shutil.rmtree(directory)


def test_killed_training_reaches_the_same_bits(tmp_path):
    check(tmp_path, rounds=1, kills=3, seed=0)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_200_killed_trainings_reach_the_same_bits(tmp_path):
    check(tmp_path, rounds=200, kills=1, seed=1)


def test_sigterm_saves_and_the_next_run_goes_on(tmp_path):
    expected, _ = finish(tmp_path / "whole", 0)
    process = start(tmp_path / "stopped", 1)
    while process.poll() is None and not (tmp_path / "stopped" / "last.ckpt").is_dir():
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM and not errors
    _, state = load_checkpoint(tmp_path / "stopped" / "last.ckpt")
    assert 0 < state["global_step"] < 24
    assert finish(tmp_path / "stopped", 2)[0] == expected
