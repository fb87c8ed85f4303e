"""README.md: its code runs and prints what it says; its links lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text()


def test_the_tour_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "tensor([2., 4., 6.])"
    assert out[1] == "tensor([ 0.5403, -0.4161, -0.9900])"
    loss, accuracy = map(float, out[2].split())
    assert loss < 0.2 and accuracy > 0.95
    assert (tmp_path / "model.safetensors").is_file()


def test_there_are_two_set_up_commands():
    assert len(re.findall(r"```sh\n(.*?)\n```", TEXT, re.DOTALL)) == 2


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/architecture.md"])
def test_links_and_named_files_exist(name):
    text = (ROOT / name).read_text()
    linked = re.findall(r"\]\(([^)#:]+)\)", text)
    for target in linked:
        assert ((ROOT / name).parent / target).exists(), target
