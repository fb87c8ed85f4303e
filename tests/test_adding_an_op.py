"""docs/adding-an-op.md, carried out: a copy of the package with its op, in one file."""

import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OP, USE = re.findall(
    r"```python\n(.*?)```", (ROOT / "docs" / "adding-an-op.md").read_text(), re.DOTALL
)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A directory with the package, where one file holds one class more."""
    place = tmp_path_factory.mktemp("package")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "monograph", place / "monograph", ignore=ignored)
    with open(place / "monograph" / "ops" / "power.py", "a") as file:
        file.write("\n\n" + OP)
    return place


def run(package, code):
    """Run a program with that package; its output must end with 'done'."""
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code) + "\nprint('done')"],
        cwd=package,
        capture_output=True,
        text=True,
    )
    assert found.stdout.endswith("done\n"), found.stderr


def test_function_method_gradient_vmap_and_compiled_code_are_there(package):
    run(package, f"import monograph\nassert {str(package)!r} in monograph.__file__\n" + USE)


def test_the_generated_tests_hold_for_it(package):
    run(
        package,
        """
        from monograph.ir.op import REGISTRY
        from monograph.testing import checks
        from monograph.testing.samples import samples_of

        for sample in samples_of(REGISTRY["lorentzian"]):
            for check in checks.CHECKS:
                check(sample)
        """,
    )


def test_its_compiled_code_is_fused(package):
    run(
        package,
        """
        import monograph as mg
        from monograph.compiler.pipeline import plan, run_passes
        from monograph.transform.trace import trace_graph

        graph, _ = trace_graph(lambda t: t.lorentzian() * 2 + 1, mg.zeros(100))
        assert "lorentzian" in str(graph)
        (step,) = plan(run_passes(graph)).steps  # one kernel for all three operations
        """,
    )
