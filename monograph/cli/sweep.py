"""`monograph sweep`: many runs of one configuration, to find the settings that do best.

The configuration of `monograph fit` with one part more:

    sweep
      parameters  by path, as in overrides: a list of values, or a range {"low": 1e-4, "high": 0.1},
                  with "log": true for a logarithmic one; whole numbers stay whole
      metric      what is compared: its value after the last epoch
      mode        "min" (default) or "max"
      search      "grid" (lists only), "random" (default), "tpe", or "halving": random, and a run
                  goes on only while it is among the best of those that came as far
      trials      how many runs (20; a grid has its own number)
      reduction, min_epochs   of "halving": 1 of `reduction` (3) goes on after min_epochs (1),
                  min_epochs * reduction, ... epochs

Run n is in <output>/trial-n with its resolved configuration, as `monograph fit` leaves it; the
sweep's own is <output>/sweep.json, and what the search knows is in <output>/search.journal. The
same command after an interruption goes on, the run that was interrupted included. Optuna searches.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import math
from pathlib import Path
from typing import Any

from ..core.errors import ArgumentError, MonographError
from ..train import Callback
from .fit import last_values, override, read_config, resolve
from .fitting import fit

DEFAULTS = {
    "mode": "min", "search": "random", "trials": 20, "reduction": 3, "min_epochs": 1,
}  # fmt: skip
SEARCHES = ("grid", "random", "tpe", "halving")


def run(args: argparse.Namespace) -> int:
    """The command."""
    config = read_config(args.config)
    override(config, args.overrides)
    settings = check(config.pop("sweep", None))
    config = resolve({"output": "runs/sweep", **config})
    output = Path(config["output"])
    study = _study(config, settings)
    output.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**config, "sweep": settings}, indent=1)
    kept = output / "sweep.json"
    if kept.is_file() and kept.read_text() != text:
        raise ArgumentError(
            f"sweep: {output} has a sweep with other settings", hint="output=ANOTHER; or delete it"
        )
    kept.write_text(text)
    count = _grid_size(settings) if settings["search"] == "grid" else settings["trials"]
    _take_up(study)
    while _finished(study) < count:
        _one(study, config, settings)
    return _report(study, settings)


def check(settings: Any) -> dict[str, Any]:
    """The sweep part with its defaults; ArgumentError says what is wrong with it."""
    if not isinstance(settings, dict):
        raise ArgumentError("sweep: the configuration has no 'sweep'")
    known = {"parameters", "metric", *DEFAULTS}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise ArgumentError(
            f"sweep: unknown: {', '.join(unknown)}; known: {', '.join(sorted(known))}"
        )
    for name in ("parameters", "metric"):
        if not settings.get(name):
            raise ArgumentError(f"sweep: there is no {name!r}")
    settings = {**DEFAULTS, **settings}
    for name, allowed in (("mode", ("min", "max")), ("search", SEARCHES)):
        if settings[name] not in allowed:
            raise ArgumentError(
                f"sweep: {name} must be one of {', '.join(allowed)}, got {settings[name]!r}"
            )
    for name in ("trials", "min_epochs", "reduction"):
        least = 2 if name == "reduction" else 1
        value = settings[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ArgumentError(
                f"sweep: {name} must be a whole number of at least {least}, got {value!r}"
            )
    for name, space in settings["parameters"].items():
        _check_space(name, space, settings["search"])
    return settings


def _check_space(name: str, space: Any, search: str) -> None:
    if isinstance(space, list) and space:
        return
    if search == "grid":
        raise ArgumentError(f"sweep: {name}: a grid needs a list of values, got {space!r}")
    numbers = [space.get(k) for k in ("low", "high")] if isinstance(space, dict) else [None]
    is_range = all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in numbers)
    if not is_range or set(space) - {"low", "high", "log"}:
        raise ArgumentError(
            f'sweep: {name}: needs a list of values or {{"low": ..., "high": ...}}, got {space!r}'
        )
    if numbers[0] >= numbers[1] or (space.get("log") and numbers[0] <= 0):
        raise ArgumentError(
            f"sweep: {name}: low must be less than high"
            + (" and more than 0" if space.get("log") else "")
            + f", got {space!r}"
        )


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise ArgumentError(
            "sweep: needs Optuna, which is not installed", hint="pip install monograph[sweep]"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _study(config: dict[str, Any], settings: dict[str, Any]) -> Any:
    """The search: a new one, or the one that <output>/search.journal holds."""
    optuna = _optuna()
    seed = config["seed"]
    samplers = optuna.samplers
    kind = samplers.TPESampler if settings["search"] == "tpe" else samplers.RandomSampler
    pruner = optuna.pruners.NopPruner()
    if settings["search"] == "halving":
        pruner = optuna.pruners.SuccessiveHalvingPruner(
            min_resource=settings["min_epochs"], reduction_factor=settings["reduction"]
        )
    path = Path(config["output"]) / "search.journal"
    path.parent.mkdir(parents=True, exist_ok=True)
    journal = optuna.storages.journal
    study = optuna.create_study(
        study_name="sweep",
        storage=optuna.storages.JournalStorage(journal.JournalFileBackend(str(path))),
        direction="minimize" if settings["mode"] == "min" else "maximize",
        sampler=kind(seed=seed),
        pruner=pruner,
        load_if_exists=True,
    )
    if study.trials:  # a search that goes on draws other numbers than it has drawn
        study.sampler = kind(seed=seed + len(study.trials))
    elif settings["search"] == "grid":
        for numbers in itertools.product(*(range(len(v)) for v in settings["parameters"].values())):
            study.enqueue_trial(dict(zip(settings["parameters"], numbers)))
    return study


def _grid_size(settings: dict[str, Any]) -> int:
    return math.prod(len(values) for values in settings["parameters"].values())


def _finished(study: Any) -> int:
    """Runs that came to an end of some kind, those taken up again counted once."""
    return sum(t.state.is_finished() and "again" not in t.user_attrs for t in study.trials)


def _take_up(study: Any) -> None:
    """Runs that were interrupted are run again, in their old directories."""
    optuna = _optuna()
    for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        folder = trial.user_attrs.get("folder", trial.number)
        study._storage.set_trial_user_attr(trial._trial_id, "again", True)
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params, user_attrs={"folder": folder})


class _Judge(Callback):
    """Tells the search the metric after each epoch, and ends the run where it says so."""

    def __init__(self, trial: Any, metric: str):
        self.trial, self.metric = trial, metric
        self.value: float | None = None
        self.stopped = False

    @property
    def state_key(self) -> str:
        return "sweep"

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        if self.metric not in trainer.callback_metrics:
            known = ", ".join(sorted(trainer.callback_metrics)) or "nothing"
            raise ArgumentError(f"sweep: the metric {self.metric!r} was not logged, but {known}")
        self.value = float(trainer.callback_metrics[self.metric])
        self.trial.report(self.value, trainer.current_epoch + 1)
        if self.trial.should_prune():
            self.stopped = trainer.should_stop = True


def _one(study: Any, config: dict[str, Any], settings: dict[str, Any]) -> None:
    """Ask the search for settings, run them, tell it what came out."""
    states = _optuna().trial.TrialState
    trial = study.ask()
    if "folder" not in trial.user_attrs:
        numbers = [t.user_attrs.get("folder", -1) for t in study.trials]
        trial.set_user_attr("folder", max(numbers) + 1)
    words = []
    for name, space in settings["parameters"].items():
        words.append(f"{name}={json.dumps(_suggest(trial, name, space))}")
    mine = copy.deepcopy(config)
    override(mine, words)
    folder = f"trial-{trial.user_attrs['folder']}"
    mine["output"] = str(Path(config["output"]) / folder)
    judge = _Judge(trial, settings["metric"])
    print(f"{folder}: {' '.join(words)}", flush=True)
    try:
        fit(mine, resume=True, watching=[judge])
    except Exception as error:  # whatever it is: the others may do better
        message = error.message if isinstance(error, MonographError) else repr(error)
        trial.set_user_attr("error", message)
        study.tell(trial, state=states.FAIL)
        print(f"{folder}: failed: {message}", flush=True)
        return
    value = judge.value
    if value is None:  # it had come to its end before, but the search was not told
        value = last_values(Path(mine["output"]) / "metrics.jsonl")[0].get(settings["metric"])
    print(f"{folder}: {settings['metric']} {value}{' (stopped)' * judge.stopped}", flush=True)
    if value is None or not math.isfinite(value):
        trial.set_user_attr("error", f"{settings['metric']} is {value}")
        study.tell(trial, state=states.FAIL)
    else:
        trial.set_user_attr("value", value)
        if judge.stopped:
            study.tell(trial, state=states.PRUNED)
        else:
            study.tell(trial, value)


def _suggest(trial: Any, name: str, space: Any) -> Any:
    if isinstance(space, list):  # by number: values may be lists or dicts
        return space[trial.suggest_categorical(name, list(range(len(space))))]
    low, high, log = space["low"], space["high"], bool(space.get("log"))
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high, log=log)
    return trial.suggest_float(name, low, high, log=log)


def _report(study: Any, settings: dict[str, Any]) -> int:
    """Print the runs, the best first; 1 if none came to its end."""
    trials = [t for t in study.trials if "again" not in t.user_attrs and t.state.is_finished()]
    sign = 1 if settings["mode"] == "min" else -1
    whole = [t for t in trials if t.state.name == "COMPLETE"]
    whole.sort(key=lambda t: sign * t.value)
    others = [t for t in trials if t not in whole]
    names = list(settings["parameters"])
    rows = [["run", settings["metric"], *names]]
    for t in [*whole, *others]:
        value = t.user_attrs.get("value")
        state = {"PRUNED": " stopped", "FAIL": " failed"}.get(t.state.name, "")
        cells = []
        for name in names:
            given, space = t.params.get(name), settings["parameters"][name]
            cells.append(json.dumps(space[given] if isinstance(space, list) else given))
        text = state.strip() if value is None else f"{value:.6g}{state}"
        rows.append([f"trial-{t.user_attrs['folder']}", text, *cells])
    wide = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(w) for cell, w in zip(row, wide)).rstrip())
    return 0 if whole else 1
