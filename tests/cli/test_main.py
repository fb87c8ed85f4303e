"""The command line: help, version, errors in one sentence, doctor."""

import re
import signal
import subprocess
import sys

import pytest

import monograph as mg
from monograph.cli import doctor
from monograph.cli.main import main


def test_version(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"monograph {mg.__version__}\n"


@pytest.mark.parametrize("words", [[], ["demo"], ["demo", "gpt"], ["doctor"]])
def test_help_is_there_for_every_command(words, capsys):
    with pytest.raises(SystemExit) as end:
        main([*words, "--help"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("usage: monograph")


def test_help_loads_no_compiler_and_no_data_library():
    code = (
        "import sys\nfrom monograph.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('llvmlite', 'sklearn', 'torch') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "words, message",
    [
        (["demo", "--data", "mnist"], "demo: --data mnist needs --data-dir DIR"),
        (
            ["demo", "--data", "mnist", "--data-dir", "/nowhere"],
            "MNIST: neither train-images-idx3-ubyte nor train-images-idx3-ubyte.gz is in /nowhere",
        ),
        (["demo", "gpt", "--text", "/nowhere.txt"], "/nowhere.txt: No such file or directory"),
        (["demo", "gpt", "--heads", "3"], "CharGPT: width 128 is not a multiple of 3 heads"),
        (["demo", "--output", "/nowhere/x"], "there is no directory /nowhere"),
    ],
)
def test_errors_are_a_sentence(words, message, capsys):
    assert main(words) == 1
    err = capsys.readouterr().err
    assert err.startswith("monograph: ") and message in err and "Traceback" not in err


def test_wrong_arguments_say_what_is_expected(capsys):
    with pytest.raises(SystemExit) as end:
        main(["demo", "--epochs", "0"])
    assert end.value.code == 2
    assert "must be a whole number of at least 1, got '0'" in capsys.readouterr().err


def test_a_text_that_is_not_utf8_is_refused(tmp_path, capsys):
    (tmp_path / "t").write_bytes(b"abc\xff")
    assert main(["demo", "gpt", "--text", str(tmp_path / "t")]) == 1
    assert "not a text in UTF-8: invalid start byte at byte 3" in capsys.readouterr().err


def test_doctor_reports_and_passes(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for name in ("monograph", "python", "processor", "threads", "kernel cache", "llvmlite"):
        assert name in out
    assert len(re.findall(r"^OK ", out, re.MULTILINE)) == len(doctor.TESTS)


def test_doctor_fails_where_a_test_fails(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "RANDOM", [1, 2])
    monkeypatch.setattr(doctor.mg, "jit", lambda f: 1 / 0)
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "FAIL  compiled formula agrees with NumPy" in out and "division by zero" in out
    assert "expected [1, 2]" in out


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_an_interruption_ends_a_demo_without_a_traceback(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", "from monograph.cli.main import main; raise SystemExit(main())"]
        + ["demo", "--epochs", "100000"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while "Epoch 2" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert err.endswith("\ninterrupted\n") and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []
