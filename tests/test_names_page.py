"""docs/names.md says what is there: it is, and nothing that PyTorch's scripts name is forgotten."""

import importlib.util
import re
from importlib.machinery import SourceFileLoader
from pathlib import Path

import monograph as mg

ROOT = Path(__file__).resolve().parent.parent


def script():
    loader = SourceFileLoader("names_script", str(ROOT / "scripts" / "names"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def test_the_names_that_the_page_lists_are_there():
    found, count = script().found, 0
    sections = re.split(r"(?m)^## ", (ROOT / "docs" / "names.md").read_text())[1:]
    for section in sections:
        path = section.split("\n", 1)[0].strip()
        ours = found(mg, path)
        for line in re.findall(r"(?m)^- there: (.*)$", section):
            for name in re.findall(r"`(\w+)`", line):
                assert hasattr(ours, name), f"{path}.{name}"
                count += 1
    assert count > 1900


def test_states_have_reasons():
    module = script()
    assert module.state_of("torch.add", mg) == ("yes", "")
    assert module.state_of("torch.load", mg)[0] == "differs"
    assert module.state_of("torch.quantize_per_tensor", mg)[0] == "not planned"
    assert module.state_of("torch.something_new", mg) == ("missing", "")
