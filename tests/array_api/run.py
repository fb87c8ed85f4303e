"""The table of the array API's test suite, for monograph.array_api and for the main namespace.

    python tests/array_api/run.py CHECKOUT [--module NAME] [--max-examples N] [--test NAME]

monograph.array_api is what tensors name as their namespace; the main one has PyTorch's meaning
where one call has two (docs/differences.md).

CHECKOUT is a clone of https://github.com/data-apis/array-api-tests with its submodule (the stubs of
the standard, in array-api/) and the packages of its requirements.txt installed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
VERSION = "2024.12"
MODULES = ("monograph.array_api", "monograph")


def run(checkout, module, options, report):
    """Run the suite for a module; its results go to `report`, as JUnit's XML."""
    tests = [f"array_api_tests/{t}" for t in options.test] if options.test else ["array_api_tests"]
    command = [
        sys.executable, "-m", "pytest", *tests, "--max-examples", str(options.max_examples),
        "--disable-deadline", f"--junitxml={report}", "-q", "-p", "no:cacheprovider",
        "--disable-warnings", "--tb=short", *(["-k", options.k] if options.k else []),
    ]  # fmt: skip
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {
        **os.environ, "PYTHONPATH": path, "ARRAY_API_TESTS_MODULE": module,
        "ARRAY_API_TESTS_VERSION": VERSION,
    }  # fmt: skip
    return subprocess.run(command, cwd=checkout, env=environment, check=False).returncode


def read(report):
    """[(file, test, status, reason)] of all tests."""
    found = []
    for case in ET.parse(report).getroot().iter("testcase"):
        status, reason = "pass", ""
        for child in case:
            if child.tag in ("failure", "error"):
                status, reason = "fail", " ".join((child.get("message") or "").split())[:140]
            elif child.tag == "skipped":
                status = "xfail" if child.get("type") == "pytest.xfail" else "skip"
        found.append((case.get("classname", "").split(".")[1], case.get("name"), status, reason))
    return found


def show(results):
    for file, name, status, reason in sorted(results):
        if status == "fail":
            print(f"fail  {file}::{name}  {reason}")
    print()
    for file in sorted({r[0] for r in results}):
        counts = Counter(r[2] for r in results if r[0] == file)
        shown = ", ".join(f"{n} {s}" for s, n in sorted(counts.items()))
        print(f"{file:44}{sum(counts.values()):6}  {shown}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path, help="a clone of array-api-tests")
    parser.add_argument("--module", action="append", choices=MODULES, help="default: both")
    parser.add_argument("--max-examples", type=int, default=10)
    parser.add_argument("--test", action="append", help="a file, or file::test, of array_api_tests")
    parser.add_argument("-k", help="only tests whose names match, as pytest's -k")
    parser.add_argument("--json", help="write the results to this file")
    options = parser.parse_args()
    if not (options.checkout / "array_api_tests").is_dir():
        raise SystemExit(f"{options.checkout} is no checkout of array-api-tests")
    if not any((options.checkout / "array-api").iterdir()):
        raise SystemExit("the stubs are missing: git submodule update --init in the checkout")
    found = {}
    for module in options.module or MODULES:
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.xml"
            code = run(options.checkout, module, options, report)
            if not report.exists():
                raise SystemExit(f"the suite did not run: pytest ended with {code}")
            found[module] = read(report)
        show(found[module])
    print()
    for module, results in found.items():
        counts = sorted(Counter(r[2] for r in results).items())
        print(f"{module:20} tests {len(results)}  " + "  ".join(f"{s} {n}" for s, n in counts))
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
