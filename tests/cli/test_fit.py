"""`monograph fit` and `monograph runs`: training out of a file, overrides, resuming, errors."""

import json

import numpy as np
import pytest

from monograph.cli.main import main
from monograph.models.registry import make, names, register
from monograph.train import TrainModule

CONFIG = {
    "model": {
        "class": "Sequential",
        "layers": [
            {"class": "Input", "shape": [3]},
            {"class": "Dense", "units": 8, "activation": "relu"},
            {"class": "Dense", "units": 2},
        ],
        "compile": {
            "optimizer": "adam",
            "loss": "cross_entropy",
            "metrics": ["accuracy"],
            "learning_rate": 0.05,
        },
    },
    "data": {
        "train": {"class": "CSVDataset", "path": "train.csv", "target": "y"},
        "validation": {"class": "CSVDataset", "path": "train.csv", "target": "y"},
        "batch_size": 16,
    },
    "trainer": {"max_epochs": 4, "enable_progress_bar": False, "log_every_n_steps": 1},
    "output": "runs/a",
}

TOML = """
output = "runs/toml"
[model]
class = "Sequential"
layers = [{class = "Input", shape = [3]}, {class = "Dense", units = 2}]
compile = {loss = "cross_entropy"}
[data]
train = {class = "CSVDataset", path = "train.csv", target = "y"}
[trainer]
max_epochs = 1
enable_progress_bar = false
"""


@pytest.fixture(autouse=True)
def table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).normal(size=(96, 3))
    lines = [",".join([*(f"{v:.5f}" for v in row), str(int(row.sum() > 0))]) for row in x]
    (tmp_path / "train.csv").write_text("\n".join(["a,b,c,y", *lines]))
    (tmp_path / "run.json").write_text(json.dumps(CONFIG))
    return tmp_path


def fit(*words):
    return main(["fit", "--config", "run.json", *words])


def test_a_run_out_of_a_file_and_the_table_of_runs(table, capsys):
    assert fit() == 0
    out = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert float(out["val_accuracy"]) > 0.85
    resolved = json.loads((table / "runs/a/config.json").read_text())
    assert resolved["seed"] == 0 and resolved["data"]["num_workers"] == 0
    assert (table / "runs/a/last.ckpt").is_dir()
    assert fit("output=runs/b", "trainer.max_epochs=1", "model.layers.1.units=2") == 0
    capsys.readouterr()
    assert main(["runs", "--metric", "val_loss"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["run", "steps", "val_loss"]
    assert [line[:2] for line in lines[1:]] == [["a", "24"], ["b", "6"]]
    assert main(["runs", "runs", "--metric", "val_loss", "--max"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("b ")
    assert main(["runs", "nowhere"]) == 1


def test_a_run_goes_on_where_it_was(table):
    assert fit() == 0
    assert fit("output=runs/b", "trainer.max_epochs=2") == 0
    assert fit("output=runs/b", "--resume") == 0
    found = []
    for name in "ab":
        lines = (table / f"runs/{name}/metrics.jsonl").read_text().splitlines()
        found.append([json.loads(line) for line in lines if '"val_loss"' in line])
    assert [e["val_loss"] for e in found[0]] == [e["val_loss"] for e in found[1]]


def test_what_a_sweep_would_vary_stays_as_it_stands(table):
    (table / "run.json").write_text(json.dumps({**CONFIG, "sweep": {"parameters": {}}}))
    assert fit("trainer.max_epochs=1") == 0
    assert "sweep" not in json.loads((table / "runs/a/config.json").read_text())


@pytest.mark.parametrize("ending", ["toml", "yaml"])
def test_other_formats(table, ending):
    path = table / f"run.{ending}"
    path.write_text(TOML)
    if ending == "yaml":
        yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
        path.write_text(yaml.safe_dump({**CONFIG, "output": "runs/yaml"}))
    assert main(["fit", "--config", str(path)]) == 0
    assert (table / f"runs/{ending}/metrics.jsonl").is_file()


@pytest.mark.parametrize(
    "words, message",
    [
        (["model.class=os.system"], "model: there is no registered class 'os.system'"),
        (["model.layers.1.class=dense"], "model.layers[1]: there is no registered class 'dense'"),
        (["model.layers.1.unit=3"], "model.layers[1]: Dense: got an unexpected keyword"),
        (["trainer.epochs=3"], "fit: trainer: "),
        (["nonsense"], "fit: 'nonsense' is no override"),
        (["model.layers.9.units=3"], "'9' is none of 3 entries"),
        (["weights=1"], "fit: unknown: weights; known: data, model, output, seed, trainer"),
        (["data.train.path=none.csv"], "none.csv: No such file or directory"),
    ],
)
def test_what_is_wrong_is_one_sentence(words, message, capsys):
    assert fit(*words) == 1
    assert message in capsys.readouterr().err


def test_a_run_is_not_overwritten_and_a_broken_file_is_named(table, capsys):
    assert fit("trainer.max_epochs=1") == 0
    assert fit() == 1
    assert "runs/a has a run already" in capsys.readouterr().err
    (table / "run.json").write_text("{")
    assert fit() == 1
    assert "run.json: Expecting property name" in capsys.readouterr().err


def test_a_module_of_ones_own_can_be_registered():
    class Own(TrainModule):
        def __init__(self, width=3):
            super().__init__()
            self.width = width

    register(Own, "TestOwn")
    assert "TestOwn" in names() and make({"class": "TestOwn", "width": 5}).width == 5
    assert make([{"a": {"class": "ReLU"}}])[0]["a"].name == "re_lu"
