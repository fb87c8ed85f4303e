"""The table of the array API's test suite for the main namespace.

    python tests/array_api/run.py CHECKOUT [--max-examples N] [--test NAME] [--json FILE]

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


def run(checkout, options, report):
    """Run the suite; its results go to `report`, as JUnit's XML."""
    tests = [f"array_api_tests/{t}" for t in options.test] if options.test else ["array_api_tests"]
    command = [
        sys.executable, "-m", "pytest", *tests, "--max-examples", str(options.max_examples),
        "--disable-deadline", f"--junitxml={report}", "-q", "-p", "no:cacheprovider",
        "--disable-warnings", "--tb=short", *(["-k", options.k] if options.k else []),
    ]  # fmt: skip
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {
        **os.environ, "PYTHONPATH": path, "ARRAY_API_TESTS_MODULE": "monograph",
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path, help="a clone of array-api-tests")
    parser.add_argument("--max-examples", type=int, default=10)
    parser.add_argument("--test", action="append", help="a file, or file::test, of array_api_tests")
    parser.add_argument("-k", help="only tests whose names match, as pytest's -k")
    parser.add_argument("--json", help="write the results to this file")
    options = parser.parse_args()
    if not (options.checkout / "array_api_tests").is_dir():
        raise SystemExit(f"{options.checkout} is no checkout of array-api-tests")
    if not any((options.checkout / "array-api").iterdir()):
        raise SystemExit("the stubs are missing: git submodule update --init in the checkout")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        code = run(options.checkout, options, report)
        if not report.exists():
            raise SystemExit(f"the suite did not run: pytest ended with {code}")
        results = read(report)
    for file, name, status, reason in sorted(results):
        if status == "fail":
            print(f"fail  {file}::{name}  {reason}")
    print()
    for file in sorted({r[0] for r in results}):
        counts = Counter(r[2] for r in results if r[0] == file)
        shown = ", ".join(f"{n} {s}" for s, n in sorted(counts.items()))
        print(f"{file:44}{sum(counts.values()):6}  {shown}")
    totals = Counter(r[2] for r in results)
    print(f"\ntests {len(results)}  " + "  ".join(f"{s} {n}" for s, n in sorted(totals.items())))
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
