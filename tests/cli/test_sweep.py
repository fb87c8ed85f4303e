"""`monograph sweep`: grids, random search, halving, interruptions, and what is refused."""

import json
import warnings

import pytest

from monograph.cli import sweep
from monograph.cli.main import main

from .test_fit import CONFIG, table

pytest.importorskip("optuna", reason="Optuna is not installed")
assert table  # a fixture: a small table and a directory of its own
RATE, UNITS = "model.compile.learning_rate", "model.layers.1.units"


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna's, of its own experimental parts
        yield


def run(**settings):
    config = {**CONFIG, "sweep": {"metric": "val_loss", **settings}, "output": "runs/s"}
    config["trainer"] = {**CONFIG["trainer"], "max_epochs": settings.pop("epochs", 2)}
    config["sweep"].pop("epochs", None)
    with open("sweep.json", "w") as file:
        json.dump(config, file)
    return main(["sweep", "--config", "sweep.json"])


def rows(text):
    """The table at the end of the output."""
    lines = text.splitlines()
    return [
        line.split() for line in lines[[i for i, x in enumerate(lines) if x[:4] == "run "][0] :]
    ]


def config_of(table, number):
    return json.loads((table / f"runs/s/trial-{number}/config.json").read_text())


def test_a_grid_has_every_combination_and_the_best_first(table, capsys):
    assert run(search="grid", parameters={RATE: [1e-6, 0.05], UNITS: [2, 8]}) == 0
    head, *found = rows(capsys.readouterr().out)
    assert head == ["run", "val_loss", RATE, UNITS]
    assert {(row[2], row[3]) for row in found} == {
        ("1e-06", "2"), ("1e-06", "8"), ("0.05", "2"), ("0.05", "8"),
    }  # fmt: skip
    values = [float(row[1]) for row in found]
    assert values == sorted(values) and found[0][2] == "0.05"
    for row in found:
        kept = config_of(table, row[0].removeprefix("trial-"))
        assert json.dumps(kept["model"]["compile"]["learning_rate"]) == row[2]
        assert kept["model"]["layers"][1]["units"] == int(row[3])
    assert json.loads((table / "runs/s/sweep.json").read_text())["sweep"]["mode"] == "min"


def test_random_search_draws_from_ranges_and_repeats_with_a_seed(table, capsys):
    space = {RATE: {"low": 1e-3, "high": 1e-1, "log": True}, UNITS: {"low": 2, "high": 9}}
    assert run(parameters=space, trials=3, epochs=1, mode="max", metric="val_accuracy") == 0
    drawn = []
    for i in range(3):
        kept = config_of(table, i)
        rate, units = kept["model"]["compile"]["learning_rate"], kept["model"]["layers"][1]["units"]
        assert 1e-3 <= rate <= 1e-1 and isinstance(units, int) and 2 <= units <= 9
        drawn.append((rate, units))
    assert len(set(drawn)) == 3
    first = rows(capsys.readouterr().out)
    assert float(first[1][1]) >= float(first[-1][1])
    (table / "runs/s").rename(table / "runs/before")
    assert run(parameters=space, trials=3, epochs=1, mode="max", metric="val_accuracy") == 0
    assert rows(capsys.readouterr().out) == first


def test_halving_stops_what_is_behind(table, capsys):
    rates = [0.05, 0.03, 1e-7, 1e-8, 1e-9, 0.04]
    settings = {"search": "halving", "parameters": {RATE: rates}, "trials": 8, "reduction": 2}
    assert run(**settings, epochs=4) == 0
    found = rows(capsys.readouterr().out)
    stopped = [row for row in found if "stopped" in row]
    assert stopped and all(float(row[1]) >= float(found[1][1]) for row in stopped)
    epochs = []
    for row in found[1:]:
        lines = (table / f"runs/s/{row[0]}/metrics.jsonl").read_text().splitlines()
        epochs.append(max(json.loads(line).get("epoch", -1) for line in lines) + 1)
    assert max(epochs) == 4 and min(epochs) < 4
    assert all(e < 4 for e, row in zip(epochs, found[1:]) if "stopped" in row)


def test_an_interrupted_sweep_goes_on_with_the_run_that_was_interrupted(table, capsys, monkeypatch):
    parameters, judge = {RATE: [0.01, 0.02, 0.03, 0.04]}, sweep._Judge.on_train_epoch_end
    calls = []

    def interrupted(self, trainer, module):
        calls.append(self.trial.number)
        judge(self, trainer, module)
        if len(calls) == 3:  # after the first epoch of the second run
            raise KeyboardInterrupt

    monkeypatch.setattr(sweep._Judge, "on_train_epoch_end", interrupted)
    assert run(search="grid", parameters=parameters) == 130
    monkeypatch.setattr(sweep._Judge, "on_train_epoch_end", judge)
    assert run(search="grid", parameters=parameters) == 0
    found = rows(capsys.readouterr().out)
    assert sorted(row[0] for row in found[1:]) == [f"trial-{i}" for i in range(4)]
    assert sorted(row[2] for row in found[1:]) == ["0.01", "0.02", "0.03", "0.04"]


def test_a_run_that_fails_is_told_and_the_others_go_on(table, capsys):
    assert run(search="grid", parameters={UNITS: [-3, 4]}, epochs=1) == 0
    out = capsys.readouterr().out
    assert "failed: " in out
    assert [row[1] for row in rows(out)[1:]][-1] == "failed"


def test_a_sweep_of_other_settings_is_not_mixed_in(capsys):
    assert run(search="grid", parameters={UNITS: [2]}, epochs=1) == 0
    assert run(search="grid", parameters={UNITS: [3]}, epochs=1) == 1
    assert "sweep: runs/s has a sweep with other settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    "settings, message",
    [
        ({}, "sweep: there is no 'parameters'"),
        ({"parameters": {UNITS: [2]}, "search": "best"}, "search must be one of grid, random, tpe"),
        ({"parameters": {UNITS: [2]}, "trails": 3}, "sweep: unknown: trails; known: metric, "),
        ({"parameters": {UNITS: [2]}, "trials": 0}, "trials must be a whole number of at least 1"),
        ({"parameters": {UNITS: {"low": 1}}}, f'sweep: {UNITS}: needs a list of values or {{"low"'),
        ({"parameters": {UNITS: {"low": 3, "high": 2}}}, "low must be less than high, got"),
        (
            {"parameters": {UNITS: {"low": 1, "high": 2}}, "search": "grid"},
            f"sweep: {UNITS}: a grid needs a list of values, got",
        ),
        ({"parameters": {UNITS: [2]}, "metric": "f1"}, "the metric 'f1' was not logged, but "),
    ],
)
def test_what_is_wrong_is_one_sentence(settings, message, capsys):
    assert run(**settings, epochs=1) == 1
    captured = capsys.readouterr()
    assert message in captured.err + captured.out
