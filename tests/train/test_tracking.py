"""Profiles of runs, and loggers for services in their offline modes."""

import json
import sys

import numpy as np
import pytest

from monograph import train
from monograph.core.errors import ArgumentError

from .models import Regression, loader, quiet


def test_a_profile_of_some_steps_names_the_users_lines(tmp_path, capsys):
    profiler = train.Profiler(skip=2, steps=4, by="line")
    trainer = quiet(max_epochs=3, profiler=profiler, default_root_dir=tmp_path)
    trainer.fit(Regression(), loader())
    events = json.loads((tmp_path / "trace.json").read_text())
    events = events["traceEvents"] if isinstance(events, dict) else events
    assert "models.py" in json.dumps(events)
    assert "models.py:" in profiler.table and profiler.table in capsys.readouterr().out
    names = [event.name for event in profiler.profile.events()]
    assert names.count("Regression.training_step") == 4


def test_a_run_that_ends_early_is_profiled_too(tmp_path, capsys):
    quiet(max_steps=4, profiler="simple", default_root_dir=tmp_path).fit(Regression(), loader())
    assert "native" in capsys.readouterr().out or not list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", ["fast", 3])
def test_the_flag_is_checked(wrong):
    with pytest.raises(ArgumentError, match="profiler must be True, 'simple' or a Profiler"):
        quiet(profiler=wrong)


def run(logger):
    model = Regression()
    model.hparams["note"] = ["a", 1]
    quiet(max_epochs=2, logger=logger, log_every_n_steps=2).fit(model, loader(), loader())
    logger.log_histogram("weights/w", np.arange(10.0), 10)
    logger.log_image("sample", np.zeros((3, 4, 4)), 10, "black")
    logger.log_text("story", "once", 10)
    logger.finalize()


@pytest.mark.filterwarnings("ignore")
def test_mlflow_in_a_database_of_its_own(tmp_path):
    pytest.importorskip("mlflow", reason="MLflow is not installed")
    uri = f"sqlite:///{tmp_path}/runs.db"
    try:
        logger = train.MLFlowLogger("e", "first", uri, artifact_location=(tmp_path / "a").as_uri())
        assert logger.run_id
    except Exception as error:
        if "sqlalchemy" not in str(error).lower():
            raise
        uri = (tmp_path / "runs").as_uri()  # the small package has no database
        logger = train.MLFlowLogger("e", "first", uri, artifact_location=(tmp_path / "a").as_uri())
    run(logger)
    found = logger.client.get_run(logger.run_id)
    assert found.info.status == "FINISHED" and found.info.run_name == "first"
    assert found.data.params["rate"] == "0.01" and found.data.params["note"] == "['a', 1]"
    history = logger.client.get_metric_history(logger.run_id, "train_loss_step")
    assert [m.step for m in history] == [2, 4, 6, 8, 10]
    assert found.data.metrics["val_loss"] > 0
    names = sorted(p.name for p in (tmp_path / "a").rglob("*.*"))
    assert names == ["sample-00000010.png", "story-00000010.txt"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(120)
def test_wandb_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    logger = train.WandbLogger("project", "first", tmp_path, offline=True)
    experiment = logger.experiment
    run(logger)
    assert experiment.config["rate"] == 0.01 and experiment.config["note"] == "['a', 1]"
    assert experiment.summary["train_loss_step"] > 0 and experiment.summary["val_loss"] > 0
    experiment.finish()
    written = list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert len(written) == 1 and b"train_loss_epoch" in written[0].read_bytes()


@pytest.mark.parametrize("name, kind", [("wandb", "WandbLogger"), ("mlflow", "MLFlowLogger")])
def test_what_is_not_installed_is_said(name, kind, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ArgumentError, match=f"{kind}: {name} is not installed"):
        getattr(train, kind)()
