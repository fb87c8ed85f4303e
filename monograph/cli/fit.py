"""`monograph fit`: a training run out of a configuration file; `monograph runs`: what was run.

A configuration (JSON, TOML, or YAML where PyYAML is installed) has

    seed      for all random numbers (0)
    model     a description (models/registry.py), and "compile" with its arguments
    data      "train" and perhaps "validation": descriptions of data sets; "batch_size" (32),
              "num_workers" (0)
    trainer   arguments of the Trainer; "callbacks" is a list of descriptions
    output    the run's directory ("runs/run")
    sweep     for `monograph sweep` alone; `fit` takes the settings as they stand

The resolved configuration is written to <output>/config.json, the metrics to metrics.jsonl, the
newest state to last.ckpt; --resume goes on from it.
"""

from __future__ import annotations

import argparse
import json
import math
import tomllib
from pathlib import Path
from typing import Any

from ..core.errors import ArgumentError, FileFormatError
from .fitting import fit

PARTS = {"seed", "model", "data", "trainer", "output"}


def read_config(path: Path) -> dict[str, Any]:
    """The content of a configuration file."""
    text = path.read_text(encoding="utf-8")
    try:
        if path.suffix == ".toml":
            content = tomllib.loads(text)
        elif path.suffix in (".yaml", ".yml"):
            try:
                import yaml  # optional
            except ImportError:
                raise ArgumentError(
                    f"{path.name}: YAML files need PyYAML, which is not installed",
                    hint="pip install pyyaml; or write the configuration as .json or .toml",
                ) from None
            try:
                content = yaml.safe_load(text)
            except yaml.YAMLError as error:
                raise ValueError(str(error)) from None
        else:
            content = json.loads(text)
    except ValueError as error:
        raise FileFormatError(f"{path.name}: {error}") from None
    if not isinstance(content, dict):
        raise FileFormatError(f"{path.name}: must hold names and values at its top")
    return content


def override(config: dict[str, Any], words: list[str]) -> None:
    """Apply `a.b.0.c=value` words; a value is JSON, or else a text."""
    for word in words:
        path, sign, value = word.partition("=")
        if not sign:
            raise ArgumentError(f"fit: {word!r} is no override", hint="as in trainer.max_epochs=5")
        *outer, last = path.split(".")
        place: Any = config
        for name in outer:
            place = _inner(place, name, path)
        try:
            parsed = json.loads(value)
        except ValueError:
            parsed = value
        if isinstance(place, list):
            place[_number(place, last, path)] = parsed
        else:
            place[last] = parsed


def _inner(place: Any, name: str, path: str) -> Any:
    if isinstance(place, list):
        return place[_number(place, name, path)]
    if not isinstance(place, dict):
        raise ArgumentError(f"fit: {path}: {name!r} is inside of {place!r}, which has no parts")
    return place.setdefault(name, {})


def _number(place: list, name: str, path: str) -> int:
    if not name.isdigit() or int(name) >= len(place):
        raise ArgumentError(f"fit: {path}: {name!r} is none of {len(place)} entries")
    return int(name)


def resolve(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with its defaults; ArgumentError says what is missing or unknown."""
    unknown = sorted(set(config) - PARTS)
    if unknown:
        raise ArgumentError(
            f"fit: unknown: {', '.join(unknown)}; known: {', '.join(sorted(PARTS))}"
        )
    for part in ("model", "data"):
        if part not in config:
            raise ArgumentError(f"fit: the configuration has no {part!r}")
    if "train" not in config["data"]:
        raise ArgumentError("fit: data has no 'train'")
    data = {"batch_size": 32, "num_workers": 0, **config["data"]}
    extra = sorted(set(data) - {"train", "validation", "batch_size", "num_workers"})
    if extra:
        raise ArgumentError(f"fit: data has unknown parts: {', '.join(extra)}")
    return {
        "seed": 0,
        "output": "runs/run",
        **config,
        "data": data,
        "trainer": dict(config.get("trainer", {})),
    }


def run(args: argparse.Namespace) -> int:
    """The command."""
    config = read_config(args.config)
    override(config, args.overrides)
    config.pop("sweep", None)
    config = resolve(config)
    found = fit(config, args.resume)
    for name, value in sorted(found.items()):
        print(f"{name:<24} {value:.6g}")
    return 0


def runs(args: argparse.Namespace) -> int:
    """The command `monograph runs`: a table of runs, the best first."""
    rows = []
    for path in sorted(args.directory.rglob("config.json")):
        values, step = last_values(path.with_name("metrics.jsonl"))
        rows.append((path.parent.relative_to(args.directory).as_posix(), step, values))
    if not rows:
        print(f"there are no runs in {args.directory}")
        return 1
    metrics = args.metric or sorted({name for _, _, values in rows for name in values} - {"epoch"})
    if args.metric:
        worst = -math.inf if args.max else math.inf
        rows.sort(key=lambda row: row[2].get(args.metric[0], worst), reverse=args.max)
    table = [["run", "steps", *metrics]]
    for name, step, values in rows:
        cells = [f"{values[m]:.6g}" if m in values else "-" for m in metrics]
        table.append([name, str(step), *cells])
    wide = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    for row in table:
        print("  ".join(cell.ljust(w) for cell, w in zip(row, wide)).rstrip())
    return 0


def last_values(path: Path) -> tuple[dict[str, float], int]:
    """(the newest value of each metric, the last step) in a file of JSON lines."""
    values: dict[str, float] = {}
    step = 0
    if path.is_file():
        for line in path.read_text().splitlines():
            try:
                entry = json.loads(line)
            except ValueError:  # the last line of a run that was killed
                continue
            step = entry.pop("step")
            entry.pop("time")
            values.update({k: float(v) for k, v in entry.items()})
    return values, step
