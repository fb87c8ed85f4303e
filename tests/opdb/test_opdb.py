"""PyTorch's samples of operators and modules: the share that passes does not fall."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parent / "run.py"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_share_of_entries_that_pass(tmp_path):
    pytest.importorskip("torch", reason="the samples are PyTorch's")
    file = tmp_path / "table.json"
    subprocess.run([sys.executable, RUN, "--json", file], check=True, stderr=subprocess.DEVNULL)
    found = json.loads(file.read_text())
    failing = {
        key: result["reason"]
        for key, result in found["results"].items()
        if result["status"] in ("fail", "missing")
    }
    assert found["summary"]["entries passing"] >= 0.99, failing
    assert found["summary"]["samples passing"] >= 0.998, failing


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_methods_are_the_functions(tmp_path):
    pytest.importorskip("torch", reason="the samples are PyTorch's")
    file = tmp_path / "table.json"
    options = ["--methods", "--dtype", "float64", "--dtype", "int64", "--json", file]
    subprocess.run([sys.executable, RUN, *options], check=True, stderr=subprocess.DEVNULL)
    results = json.loads(file.read_text())["results"].items()
    assert not {k: r["reason"] for k, r in results if r["status"] in ("fail", "missing")}


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("what", ["gradients", "vmap"])
def test_second_derivatives_and_batches(what):
    pytest.importorskip("torch", reason="the samples are PyTorch's")
    done = subprocess.run(
        [sys.executable, RUN.parent / "derived.py", what], check=True, stdout=subprocess.PIPE
    )
    results = [json.loads(line) for line in done.stdout.splitlines()]
    wrong = ("fail", "missing", "refused")
    assert not {r["key"]: r["reason"] for r in results if r["status"] in wrong}
    assert sum(r["status"] == "pass" for r in results) >= 480


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_modules():
    pytest.importorskip("torch", reason="the samples are PyTorch's")
    done = subprocess.run(
        [sys.executable, RUN.parent / "modules.py"], stdout=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
