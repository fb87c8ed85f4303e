"""The layers of docs/architecture.md: a package imports its own files and lower layers only."""

import ast
import functools
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "monograph"

LAYERS = [
    {"core", "places"},
    {"ir", "kernel"},
    {"ops", "codegen", "runtime"},
    {"transform"},
    {"compiler"},
    {
        "tensor",
        "api",
        "func",
        "autograd",
        "linalg",
        "special",
        "fft",
        "masked",
        "quasirandom",
        "signal",
        "sparse",
        "backends",
    },
    {"array_api"},
    {"dynamic"},
    {"capture_gradient", "capture_grads", "capture_reasons"},
    {"capture_replay"},
    {"capture"},
    {"compiled", "scripting"},
    {"amp"},
    {"cuda", "cpu", "accelerator", "version", "types", "multiprocessing", "onnx", "hub"},
    {"mps"},
    {"report", "profiler"},
    {"nn", "optim", "data", "metrics", "testing"},
    {"distributions"},
    {"export", "quant"},
    {"distributed"},
    {"train"},
    {"utils"},
    {"models", "board"},
    {"serve", "cli", "plot"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
WHOLE = "(the whole package)"  # `import monograph`: for what is written as a user would
LEVEL[WHOLE] = LEVEL["capture"]

# Neighbours that may be used, with the reason.
NEIGHBOURS = {
    ("runtime", "codegen"): "runtime loads what codegen emits; the other way would be wrong",
    ("api", "tensor"): "api adds to Tensor what tensor.py leaves out",
    ("func", "api"): "public names",
    ("autograd", "api"): "public names",
    ("autograd", "tensor"): "public names",
    ("optim", "nn"): "an averaged model is a module (swa_utils)",
    ("sparse", "api"): "public names",
    ("quasirandom", "api"): "public names",
    ("quasirandom", "tensor"): "public names",
    ("signal", "api"): "windows are made as other tensors are",
    ("signal", "tensor"): "windows are made as other tensors are",
}

# Two files of one package that need each other: the import inside a function breaks the circle.
CIRCLES = {("ir/graph.py", "text")}

# Outside libraries that may be imported inside a function: they are heavy or optional.
HEAVY = {
    "llvmlite", "safetensors", "sklearn", "torch", "jax", "onnx", "urllib", "tensorboard",
    "matplotlib", "PIL", "yaml", "optuna", "pyarrow", "tokenizers", "wandb", "mlflow",
}  # fmt: skip


def part_of(path):
    """The package (or the module at the top level) that a file belongs to."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


@functools.cache
def imports(path):
    """(name of the module, level of the import, line, inside a function) of each import."""
    return list(_imports(ast.parse(path.read_text())))


def _imports(tree):
    inner = {
        node
        for outer in ast.walk(tree)
        if isinstance(outer, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for node in ast.walk(outer)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, 0, node.lineno, node in inner
        elif isinstance(node, ast.ImportFrom):
            if node.module is None:
                for alias in node.names:
                    yield alias.name, node.level, node.lineno, node in inner
            else:
                yield node.module, node.level, node.lineno, node in inner


def imported_parts(path):
    """(part of monograph, line, inside a function) of what a file imports."""
    folder = path.relative_to(PACKAGE).parent.parts
    for name, level, line, inside in imports(path):
        names = name.split(".")
        if level == 0:
            if names[0] == "monograph":
                yield (names[1] if len(names) > 1 else WHOLE), line, inside
            continue
        base = folder[: len(folder) - level + 1]
        yield ([*base, *names])[0], line, inside


def is_type_checking(path, line):
    """Whether a line stands under `if TYPE_CHECKING:`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            if node.lineno <= line <= (node.end_lineno or node.lineno):
                return True
    return False


FILES = sorted(p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE or p.stem != "__init__")


def test_every_part_has_a_layer():
    unknown = {part_of(path) for path in FILES} - set(LEVEL) - {"__main__"}
    assert not unknown


@pytest.mark.parametrize("part", sorted({part_of(p) for p in FILES} & set(LEVEL)))
def test_a_part_imports_lower_layers_only(part):
    wrong = []
    for path in FILES:
        if part_of(path) != part:
            continue
        for other, line, _ in imported_parts(path):
            if other == part or other not in LEVEL or (part, other) in NEIGHBOURS:
                continue
            if LEVEL[other] >= LEVEL[part] and not is_type_checking(path, line):
                wrong.append(f"{path.relative_to(PACKAGE.parent)}:{line} imports {other}")
    assert not wrong, "\n".join(wrong)


def test_imports_inside_functions_are_of_heavy_outside_libraries_only():
    wrong = []
    for path in FILES:
        for name, level, line, inside in imports(path):
            place = path.relative_to(PACKAGE).as_posix()
            if inside and (level or name.split(".")[0] not in HEAVY):
                if (place, name) in CIRCLES:
                    continue
                wrong.append(f"{path.relative_to(PACKAGE.parent)}:{line} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_llvmlite_is_imported_in_codegen_and_runtime_only():
    wrong = [
        f"{path.relative_to(PACKAGE.parent)}:{line}"
        for path in FILES
        for name, level, line, _ in imports(path)
        if not level
        and name.split(".")[0] == "llvmlite"
        and part_of(path) not in ("codegen", "runtime")
    ]
    assert not wrong
