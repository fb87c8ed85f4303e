"""The board's server: what it reads of runs, what it gives out, and what it refuses."""

import http.client
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request

import numpy as np
import pytest

from monograph import train
from monograph.board import Board, Runs
from monograph.core.errors import ArgumentError


def log(root, name, values, **more):
    logger = train.JSONLinesLogger(root, name=name, version="")
    for step, value in values:
        logger.log_metrics({"loss": value, **more}, step)
    return logger


def get(board, path, **query):
    url = f"{board.url}{path}?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


@pytest.fixture
def board(tmp_path):
    with Board(tmp_path, port=0) as made:
        yield made


def test_curves_grow_with_the_files(board, tmp_path):
    assert get(board, "api/runs")["runs"] == []
    logger = log(tmp_path, "a", [(1, 0.5), (2, 0.25)])
    (run,) = get(board, "api/runs")["runs"]
    assert run["name"] == "a" and run["steps"] == 2 and run["live"]
    assert get(board, "api/curves", run="a")["loss"]["value"] == [0.5, 0.25]
    logger.log_metrics({"loss": float("nan"), "other": 3.0}, 3)
    (later,) = get(board, "api/runs")["runs"]
    assert later["versions"]["metrics"] > run["versions"]["metrics"]
    found = get(board, "api/curves", run="a")
    assert found["loss"]["value"] == [0.5, 0.25, None] and found["other"]["step"] == [3]
    assert get(board, "api/runs")["runs"][0]["versions"] == later["versions"]  # nothing new


def test_a_run_that_was_resumed_draws_over_what_it_repeats(tmp_path):
    logger = log(tmp_path, "a", [(1, 1.0), (2, 2.0), (3, 3.0)])
    with open(logger.path, "a") as file:
        file.write('{"step": 4, "lo')  # killed while it wrote
    runs = Runs(tmp_path)
    runs.refresh()
    log(tmp_path, "a", [(2, 12.0), (3, 13.0)])
    (run,) = runs.refresh()
    assert run.curves(100)["loss"]["step"] == [1, 2, 3]
    assert run.curves(100)["loss"]["value"] == [1.0, 12.0, 13.0]


def test_a_file_that_began_anew_is_read_anew(tmp_path):
    logger = log(tmp_path, "a", [(1, 1.0), (2, 2.0)])
    runs = Runs(tmp_path)
    runs.refresh()
    logger.path.unlink()
    logger.log_metrics({"loss": 7.0}, 1)
    assert runs.refresh()[0].curves(10)["loss"]["value"] == [7.0]


def test_long_curves_keep_their_peaks(tmp_path):
    values = np.random.default_rng(0).normal(size=5000)
    values[1234], values[4321] = 50.0, -50.0
    runs = Runs(tmp_path)
    log(tmp_path, "a", list(enumerate(values.tolist(), 1)))
    found = runs.refresh()[0].curves(200)["loss"]
    assert len(found["step"]) <= 202
    assert max(found["value"]) == 50.0 and min(found["value"]) == -50.0
    assert found["step"][0] == 1 and found["step"][-1] == 5000
    assert found["step"] == sorted(found["step"])


def test_tables_of_the_csv_logger_are_read_too(tmp_path):
    logger = train.CSVLogger(tmp_path)
    logger.log_metrics({"loss": 1.0}, 1)
    logger.log_metrics({"loss": 0.5, "accuracy": 0.25}, 2)
    logger.log_hyperparams({"lr": 0.1})
    logger.finalize()
    (run,) = Runs(tmp_path).refresh()
    assert run.name == "logs/version_0"
    assert run.curves(10)["loss"]["value"] == [1.0, 0.5]
    assert run.curves(10)["accuracy"]["step"] == [2]
    assert run.settings() == {"lr": "0.1"}


def test_settings_are_flat(tmp_path):
    log(tmp_path, "a", [(1, 1.0)])
    config = {"trainer": {"max_epochs": 3, "callbacks": [{"class": "EMA"}]}, "shape": [3, 4]}
    (tmp_path / "a/config.json").write_text(json.dumps(config))
    assert Runs(tmp_path).refresh()[0].settings() == {
        "trainer.max_epochs": "3", "trainer.callbacks.0.class": "EMA", "shape": "[3, 4]",
    }  # fmt: skip


def test_distributions_and_samples_are_thinned_evenly(tmp_path):
    logger = log(tmp_path, "a", [(1, 1.0)])
    for step in range(100):
        logger.log_histogram("weights/w", np.arange(5.0) + step, step)
        logger.log_text("story", f"at {step}", step)
    (run,) = Runs(tmp_path).refresh()
    records = run.distributions(11)["weights/w"]
    assert [r["step"] for r in records] == [round(i * 9.9) for i in range(11)]
    assert run.shown(2)["story"][-1]["text"] == "at 99"


def test_images_are_given_out_and_no_other_file(board, tmp_path):
    logger = log(tmp_path, "a", [(1, 1.0)])
    logger.log_image("x", np.zeros((4, 4)), 1)
    (tmp_path / "secret.png").write_bytes(b"secret")
    os.symlink(tmp_path / "secret.png", logger.log_dir / "samples/link.png")
    get(board, "api/runs")
    place = get(board, "api/samples", run="a")["x"][0]["image"]
    url = f"{board.url}api/image?run=a&place="
    with urllib.request.urlopen(url + place, timeout=10) as answer:
        assert answer.read()[:4] == b"\x89PNG" and answer.headers["Content-Type"] == "image/png"
    for wrong in ("../secret.png", "samples/../../secret.png", "samples/link.png", "metrics.jsonl",
                  "/etc/passwd", "samples", ""):  # fmt: skip
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(url + urllib.parse.quote(wrong), timeout=10)


@pytest.mark.parametrize("path", ["api/curves?run=none", "api/", "../runs.py", "runs.py", "api/x"])
def test_what_is_not_there_is_not_found(board, path):
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(board.url + path, timeout=10)


@pytest.mark.parametrize("host, status", [("evil.example", 403), ("localhost:1", 200), ("", 403)])
def test_a_page_of_another_name_gets_nothing(board, host, status):
    connection = http.client.HTTPConnection("127.0.0.1", board.port, timeout=10)
    connection.putrequest("GET", "/api/runs", skip_host=True)
    connection.putheader("Host", host)
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == status
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    connection.close()


def test_nothing_of_the_page_comes_from_elsewhere(board):
    for path in ("", "page.css", "page.js"):
        with urllib.request.urlopen(board.url + path, timeout=10) as answer:
            text = answer.read().decode()
        assert len(text) > 200
        assert "://" not in text.replace("http://www.w3.org/2000/svg", "")


def test_errors_are_sentences(tmp_path, board):
    with pytest.raises(ArgumentError, match="nowhere is not a directory"):
        Board(tmp_path / "nowhere")
    with pytest.raises(ArgumentError, match=f"board: cannot listen on 127.0.0.1:{board.port}: "):
        Board(tmp_path, port=board.port)


@pytest.mark.skipif(sys.platform == "win32", reason="interrupts by a signal")
def test_the_command_serves_until_it_is_interrupted(tmp_path):
    log(tmp_path, "a", [(1, 1.0)])
    command = [sys.executable, "-m", "monograph", "board", str(tmp_path), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        url = line.split(": ")[1].split(" ")[0]
        with urllib.request.urlopen(f"{url}api/runs", timeout=10) as answer:
            assert json.load(answer)["runs"][0]["name"] == "a"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
        assert process.returncode == 0 and not errors
    finally:
        process.kill()
        process.wait()
