"""Compiled code touches no memory but what the kernel names."""

import os
import subprocess
import sys

import pytest


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs mprotect")
def test_nothing_beyond_the_ends_of_buffers_is_touched():
    here = os.path.dirname(__file__)
    done = subprocess.run(
        [sys.executable, os.path.join(here, "guarded.py")],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([here, os.getcwd()])},
    )
    assert done.returncode == 0, done.stderr
