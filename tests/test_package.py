"""The package as a whole: what importing it loads, what the wheel holds."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import monograph as mg

ROOT = Path(__file__).resolve().parent.parent


def output(code):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    ).stdout


def test_importing_loads_nothing_heavy():
    heavy = (
        "llvmlite safetensors tqdm torch sklearn jax onnx scipy pandas matplotlib "
        "multiprocessing.pool"
    ).split()
    code = f"import sys, monograph; print([m for m in {heavy} if m in sys.modules])"
    assert output(code) == "[]\n"


def test_importing_takes_at_most_a_quarter_of_importing_torch(tmp_path):
    pytest.importorskip("torch", reason="needs PyTorch to compare with")
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    code = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"
    seconds = {}
    for name in ("monograph", "torch") * 3:  # the first writes the byte code, as an install does
        command = [sys.executable, "-c", code.format(name)]
        made = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        seconds.setdefault(name, []).append(float(made.stdout))
    assert min(seconds["monograph"]) <= min(seconds["torch"]) / 4


def test_importing_everything_public_loads_no_compiler():
    code = (
        "import sys, monograph as mg\n"
        "from monograph import nn, optim, data, metrics, train\n"
        "x = mg.ones(3, requires_grad=True); (x * 2).sum().backward()\n"
        "print([m for m in ('llvmlite', 'torch', 'sklearn') if m in sys.modules])"
    )
    assert output(code) == "[]\n"


def test_the_version_is_that_of_the_metadata():
    text = (ROOT / "pyproject.toml").read_text()
    assert re.search(r'^version = "(.*)"', text, re.MULTILINE)[1] == mg.__version__
    try:
        assert importlib.metadata.version("monograph") == mg.__version__
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("runs from a checkout that is not installed")


def test_the_wheel_is_pure_python_and_holds_the_package_alone(tmp_path):
    setuptools = pytest.importorskip("setuptools", reason="building a wheel needs setuptools")
    if int(setuptools.__version__.split(".")[0]) < 77:
        pytest.skip("building a wheel needs setuptools 77 or newer")
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(
        ROOT / "monograph", source / "monograph", ignore=shutil.ignore_patterns("__pycache__")
    )
    code = (
        "import sys; from setuptools import build_meta; "
        f"print(build_meta.build_wheel({str(tmp_path)!r}))"
    )
    made = subprocess.run(
        [sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=True
    )
    name = made.stdout.split()[-1]
    assert name == f"monograph-{mg.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(tmp_path / name) as wheel:
        names = wheel.namelist()
        entry_points = wheel.read(f"monograph-{mg.__version__}.dist-info/entry_points.txt")
    inside = {n for n in names if ".dist-info/" not in n}
    expected = {
        p.relative_to(source).as_posix()
        for p in (source / "monograph").rglob("*")
        if p.suffix in (".py", ".pyi", ".html", ".css", ".js") or p.name == "py.typed"
    }
    assert inside == expected
    assert b"monograph = monograph.cli.main:main" in entry_points
    assert (tmp_path / name).stat().st_size < 2_000_000
