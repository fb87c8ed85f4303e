"""docs/training.md: its program runs, and what it names is there."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TEXT = (ROOT / "docs" / "training.md").read_text()


def test_the_program_runs_and_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    for _ in range(2):
        names = {"__name__": "guide"}
        exec(compile(code, "training.md", "exec"), names)
        assert names["trainer"].global_step == 40
    assert "parameters: 114" in capsys.readouterr().out


def test_what_it_names_exists():
    for path in re.findall(r"`((?:train|models|tests)/[\w/.]+)`", TEXT):
        folder = ROOT if path.startswith("tests") else ROOT / "monograph"
        assert (folder / path).exists(), path
