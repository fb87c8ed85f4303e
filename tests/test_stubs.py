"""The stubs that editors read are what the live signatures say."""

import ast
import importlib.util
import inspect
from importlib.machinery import SourceFileLoader
from pathlib import Path

import monograph as mg

ROOT = Path(__file__).resolve().parent.parent


def script():
    loader = SourceFileLoader("stubs_script", str(ROOT / "scripts" / "stubs"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def test_stubs_are_up_to_date():
    for path, text in script().stubs().items():
        assert path.read_text() == text, f"{path.name} is stale: run scripts/stubs"


def test_stubs_are_python_and_complete():
    tree = ast.parse((ROOT / "monograph" / "__init__.pyi").read_text())
    functions = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
    [tensor] = [n for n in tree.body if isinstance(n, ast.ClassDef)]
    methods = {n.name for n in tensor.body if isinstance(n, ast.FunctionDef)}
    assert {n for n in dir(mg.Tensor) if callable(getattr(mg.Tensor, n)) and n[0] != "_"} <= methods
    for name in ("matmul", "softmax", "jit", "manual_seed"):
        args = functions[name].args
        shown = {a.arg for a in (*args.posonlyargs, *args.args, *args.kwonlyargs)}
        assert shown >= set(inspect.signature(getattr(mg, name)).parameters), name
    assert (ROOT / "monograph" / "py.typed").exists()
