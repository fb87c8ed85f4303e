"""scripts/reference: pages for all public names, and an index to search them by."""

import json
import re
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def reference():
    loader = SourceFileLoader("reference_script", str(ROOT / "scripts" / "reference"))
    module = module_from_spec(spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module.Reference()


def test_names_are_there_and_have_something_said_of_them(reference):
    names = {name for name, _, _ in reference.index}
    assert len(names) > 3000
    for name in ("monograph.jit", "monograph.Tensor.reshape", "monograph.nn.Linear",
                 "monograph.nn.functional.cross_entropy", "monograph.optim.Optimizer.step",
                 "monograph.train.Trainer.fit", "monograph.linalg.svd"):  # fmt: skip
        assert name in names
    assert reference.bare == []


def test_pages_have_every_entry_once_and_links_lead_to_pages(reference):
    files = reference.files()
    index = json.loads(re.search(r"(?s)INDEX = (\[.*?\n\]);", files["search.js"]).group(1))
    for name, page, _ in index:
        assert page in files
        if page != f"{name}.html":
            assert files[page].count(f'id="{name}"') == 1, name
    for text in files.values():
        for target in re.findall(r'(?:href|src)="([^"#]+)"', text):
            assert target in files


def test_text_of_docstrings_is_kept(reference):
    page = reference.pages["monograph.nn.functional"]
    assert "(input, weight, bias=None" in page
    assert "&gt;&gt;&gt;" in page and "<script" not in page
    assert "Differs from PyTorch: shapes that would broadcast are an error." in page
