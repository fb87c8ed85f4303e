"""Loggers for services: Weights & Biases and MLflow, through their own libraries (extras).

Both work without a network: `WandbLogger(offline=True)` writes files that `wandb sync` sends
later, MLflow writes to a database or directory that `tracking_uri` names.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import ArgumentError
from .loggers import Logger
from .png import as_pixels, encode_png


class WandbLogger(Logger):
    """Log to a run of Weights & Biases (pip install monograph[wandb]).

    project, name  of the run
    save_dir       where wandb keeps its files
    offline        send nothing
    options        further arguments of wandb.init

    The run is begun by the first thing that is logged, and goes on over several calls of fit and
    test. `experiment` is wandb's object; `experiment.finish()`, or the end of the process, ends it.
    """

    def __init__(
        self,
        project: str | None = None,
        name: str | None = None,
        save_dir: Any = ".",
        offline: bool = False,
        **options: Any,
    ):
        try:
            import wandb
        except ImportError:
            raise ArgumentError(
                "WandbLogger: wandb is not installed", hint="pip install monograph[wandb]"
            ) from None
        self._wandb, self._run = wandb, None
        mode = "offline" if offline else "online"
        self._options = {
            "project": project, "name": name, "dir": str(save_dir), "mode": mode, **options,
        }  # fmt: skip

    @property
    def experiment(self) -> Any:
        """wandb's run."""
        if self._run is None:
            os.makedirs(self._options["dir"], exist_ok=True)
            self._run = self._wandb.init(**self._options)
            # Steps are the Trainer's, also where several things are logged at one, out of order.
            self._run.define_metric("step")
            self._run.define_metric("*", step_metric="step")
        return self._run

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.experiment.log({**metrics, "step": step})

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        self.experiment.config.update(
            {name: _plain(value) for name, value in params.items()}, allow_val_change=True
        )

    def log_histogram(self, name: str, values: Any, step: int) -> None:
        numbers = np.asarray(values).reshape(-1).astype(np.float64)
        numbers = numbers[np.isfinite(numbers)]
        if numbers.size:
            made = self._wandb.Histogram(np_histogram=np.histogram(numbers, 64))
            self.experiment.log({name: made, "step": step})

    def log_image(self, name: str, image: Any, step: int, caption: str = "") -> None:
        made = self._wandb.Image(as_pixels(image).squeeze(), caption=caption or None)
        self.experiment.log({name: made, "step": step})

    def log_text(self, name: str, text: str, step: int) -> None:
        table = self._wandb.Table(columns=["step", "text"], data=[[step, text]])
        self.experiment.log({name: table, "step": step})


class MLFlowLogger(Logger):
    """Log to a run of MLflow (pip install monograph[mlflow]).

    experiment_name, run_name
    tracking_uri   a server, or where files go: "sqlite:///runs.db"; None: as MLflow is set up
    artifact_location  where images, texts and the model's graph go; None: as MLflow chooses
    """

    def __init__(
        self,
        experiment_name: str = "monograph",
        run_name: str | None = None,
        tracking_uri: str | None = None,
        artifact_location: Any = None,
    ):
        try:
            import mlflow
        except ImportError:
            raise ArgumentError(
                "MLFlowLogger: mlflow is not installed", hint="pip install monograph[mlflow]"
            ) from None
        self.client = mlflow.MlflowClient(tracking_uri=tracking_uri)
        self.experiment_name, self.run_name = experiment_name, run_name
        self.artifact_location = None if artifact_location is None else str(artifact_location)
        self._run_id: str | None = None

    @property
    def run_id(self) -> str:
        """MLflow's name of the run, which is created when it is first asked for."""
        if self._run_id is None:
            found = self.client.get_experiment_by_name(self.experiment_name)
            experiment = (
                self.client.create_experiment(self.experiment_name, self.artifact_location)
                if found is None
                else found.experiment_id
            )
            self._run_id = self.client.create_run(experiment, run_name=self.run_name).info.run_id
        return self._run_id

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        for name, value in metrics.items():
            self.client.log_metric(self.run_id, name, float(value), step=step)

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        for name, value in params.items():
            self.client.log_param(self.run_id, name, _plain(value))

    def log_image(self, name: str, image: Any, step: int, caption: str = "") -> None:
        self._file(f"{name}-{step:08}.png", encode_png(image))

    def log_text(self, name: str, text: str, step: int) -> None:
        self._file(f"{name}-{step:08}.txt", text.encode())

    def log_graph(self, graph: Any) -> None:
        self.client.log_dict(self.run_id, graph.as_dict(), "graph.json")

    def _file(self, name: str, content: bytes) -> None:
        place = Path(name)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / place.name
            path.write_bytes(content)
            parent = place.parent.as_posix()
            self.client.log_artifact(self.run_id, str(path), None if parent == "." else parent)

    def finalize(self) -> None:
        if self._run_id is not None:
            self.client.set_terminated(self._run_id)


def _plain(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float, str)) or value is None else str(value)
