"""Programs written for PyTorch give its numbers after a change of their imports alone."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest

import monograph

HERE = Path(__file__).parent
PROGRAMS = sorted(p for p in HERE.glob("*.py") if p.stem not in ("harness", "test_programs"))


def swapped(text):
    """The program with monograph in torch's place."""
    text = re.sub(r"^import torch$", "import monograph as torch", text, flags=re.M)
    text = re.sub(r"^import torch\.", "import monograph.", text, flags=re.M)
    return re.sub(r"^from torch\b", "from monograph", text, flags=re.M)


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.stem)
def test_a_program_gives_the_same_numbers(program, monkeypatch):
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    monkeypatch.syspath_prepend(HERE)
    import harness

    def losses(library, text, jit=False):
        harness.start(library, first=library is torch, compile=jit)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(compile(text, str(program), "exec"), {"__name__": "__main__"})
        return np.array(harness.run.losses)

    text = program.read_text()
    torch.set_num_threads(2)
    expected = losses(torch, text)
    assert len(expected) >= 10 and np.isfinite(expected).all()
    modes = (False, True) if "compiled" in text else (False,)
    for mode in modes:
        got = losses(monograph, swapped(text), jit=mode)
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5, err_msg=f"compiled: {mode}")
