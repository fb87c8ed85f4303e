"""A schema of a table: what its columns are to be; and drift between two tables.

Made from the training data, kept as JSON beside the model, and asked about what is to be predicted.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import ArgumentError, DataError, FileFormatError
from .tables import Table, is_missing

BINS = 10  # of a number's distribution: tenths of the training data
CATEGORIES = 50  # texts with at most so many values are taken to be categories
DRIFTED = 0.2  # population stability index from which a distribution is taken to be another


@dataclass
class Column:
    """What a column is to be.

    kind        "int", "float", "bool", "str", "date"
    required    whether the column must be there
    missing     the largest share of empty cells
    low, high   of numbers, None: no limit
    values      the only ones that are allowed; None: any
    edges, shares   the distribution that drift is measured against: bins of numbers, or (with
                `values`) the share of each value
    """

    kind: str
    required: bool = True
    missing: float = 0.0
    low: float | None = None
    high: float | None = None
    values: list[Any] | None = None
    edges: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Drift:
    """How far a column is from what it was.

    psi  population stability index: sum of (new - old) * ln(new / old) over bins; below 0.1 little,
         above 0.2 another distribution
    ks   the largest difference of the two cumulative distributions, at the bins' edges (numbers)
    """

    psi: float
    ks: float | None

    @property
    def is_drifted(self) -> bool:
        """Whether psi is above 0.2."""
        return self.psi > DRIFTED


class Schema:
    """What a table's columns are to be: `infer` one, `check` tables by it, measure `drift`.

    columns  Column by name; change them as you know better

    >>> known = Table({"age": np.array([20, 30, 40]), "sex": np.array(["f", "m", "f"])})
    >>> schema = Schema.infer(known)
    >>> schema.check(Table({"age": np.array([25, 300]), "sex": np.array(["f", "x"])}))
    ['age: 300 in row 1 is above 40', "sex: 'x' in row 1 is none of 'f', 'm'"]
    """

    def __init__(self, columns: dict[str, Column]):
        self.columns = columns

    @classmethod
    def infer(cls, data: Any, slack: float = 0.0) -> Schema:
        """The schema that a table (or a dict of arrays) fits.

        slack  how far beyond the range seen numbers may lie, as a part of it; as many more cells
               may be missing
        """
        found: dict[str, Column] = {}
        for name, values in _columns(data).items():
            empty = is_missing(values)
            column = Column(_kind(values), missing=_up(float(empty.mean()) + slack))
            present = values[~empty]
            if column.kind in ("int", "float") and len(present):
                numbers = present.astype(np.float64)
                low, high = float(numbers.min()), float(numbers.max())
                column.low, column.high = low - slack * (high - low), high + slack * (high - low)
                inner = np.unique(np.quantile(numbers, np.linspace(0, 1, BINS + 1)[1:-1]))
                column.edges = inner.tolist()
                column.shares = _shares(numbers, column).tolist()
            elif column.kind in ("str", "bool") and len(present):
                distinct = np.unique(present.astype(str) if column.kind == "str" else present)
                if len(distinct) <= CATEGORIES:
                    column.values = distinct.tolist()
                    column.shares = _shares(present, column).tolist()
            found[name] = column
        return cls(found)

    def check(self, data: Any, most: int = 20) -> list[str]:
        """What in a table does not fit, a sentence for each kind of problem of a column.

        most  sentences; further ones are counted in a last one
        """
        columns = _columns(data)
        problems = []
        for name, column in self.columns.items():
            if name not in columns:
                if column.required:
                    problems.append(f"{name}: is missing; there are {', '.join(columns) or 'none'}")
                continue
            problems += [f"{name}: {text}" for text in _problems(column, columns[name])]
        problems += [f"{n}: is no column of the schema" for n in columns if n not in self.columns]
        if len(problems) > most:
            problems[most:] = [f"and {len(problems) - most} more"]
        return problems

    def validate(self, data: Any) -> None:
        """DataError with all that `check` finds, if it finds anything."""
        problems = self.check(data)
        if problems:
            raise DataError("the data does not fit the schema:\n    " + "\n    ".join(problems))

    def drift(self, data: Any) -> dict[str, Drift]:
        """How far each column's distribution is from that of the data the schema was made from."""
        found = {}
        for name, values in _columns(data).items():
            column = self.columns.get(name)
            if column is None or not column.shares:
                continue
            present = values[~is_missing(values)]
            if not len(present):
                continue
            try:
                new = _shares(present, column)
            except (ValueError, TypeError):
                continue  # of another kind, which `check` says
            old = np.asarray(column.shares)
            a, b = (np.maximum(x, 1e-4) for x in (old, new))  # an empty bin is not infinitely far
            ks = float(np.abs(np.cumsum(old) - np.cumsum(new)).max()) if column.edges else None
            found[name] = Drift(float(((b - a) * np.log(b / a)).sum()), ks)
        return found

    def save(self, path: Any) -> None:
        """Write it as JSON."""
        content = {name: asdict(column) for name, column in self.columns.items()}
        Path(path).write_text(json.dumps({"schema": 1, "columns": content}, indent=1))

    @classmethod
    def load(cls, path: Any) -> Schema:
        """Read what `save` wrote; FileFormatError if it is something else."""
        try:
            content = json.loads(Path(path).read_text())
            return cls({name: Column(**entry) for name, entry in content["columns"].items()})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FileFormatError(f"{Path(path).name}: is no schema: {error}") from None


def _columns(data: Any) -> dict[str, np.ndarray]:
    if isinstance(data, Table):
        return data.columns
    if isinstance(data, dict):
        return {name: np.asarray(values) for name, values in data.items()}
    raise ArgumentError(f"Schema: needs a Table or a dict of arrays, got {type(data).__name__}")


def _kind(values: np.ndarray) -> str:
    kinds = {"i": "int", "u": "int", "f": "float", "b": "bool", "U": "str", "O": "str", "M": "date"}
    return kinds.get(values.dtype.kind, values.dtype.name)


def _up(share: float) -> float:
    return min(1.0, share)


def _shares(present: np.ndarray, column: Column) -> np.ndarray:
    """The share of the values in each bin; for categories of each value, and last of all others."""
    if column.values is not None:
        texts = present.astype(str) if column.kind == "str" else present
        counts = [np.sum(texts == value) for value in column.values]
        counts.append(len(present) - sum(counts))
    else:
        places = np.searchsorted(np.asarray(column.edges), present.astype(np.float64), "left")
        counts = np.bincount(places, minlength=len(column.edges) + 1)
    return np.asarray(counts, np.float64) / len(present)


def _problems(column: Column, values: np.ndarray) -> list[str]:
    kind, found = _kind(values), []
    empty = is_missing(values)
    # Whole numbers serve as floats; floats as whole numbers only where cells were missing.
    fits = kind == column.kind or (kind == "int" and column.kind == "float")
    if kind == "float" and column.kind == "int":
        present = values[~empty]
        fits = column.missing > 0 and bool((present == np.round(present)).all())
    if not fits and len(values):
        return [f"holds {kind}, where {column.kind} is expected"]
    share = float(empty.mean()) if len(values) else 0.0
    if share > column.missing + 1e-12:
        row = int(np.flatnonzero(empty)[0])
        found.append(
            f"{share:.1%} of the cells are empty (row {row} first), where {column.missing:.1%} may"
        )
    if column.kind in ("int", "float"):
        with np.errstate(invalid="ignore"):
            for limit, wrong, word in (
                (column.low, values < (column.low or 0), "below"),
                (column.high, values > (column.high or 0), "above"),
            ):
                if limit is not None and wrong.any():
                    found.append(_first(values, wrong, f"is {word} {limit:g}"))
        wrong = np.isinf(values.astype(np.float64))
        if wrong.any():
            found.append(_first(values, wrong, "is not finite"))
    if column.values is not None:
        wrong = ~empty & ~np.isin(values.astype(str), [str(v) for v in column.values])
        if wrong.any():
            shown = ", ".join(repr(v) for v in column.values[:6])
            more = f" and {len(column.values) - 6} more" if len(column.values) > 6 else ""
            found.append(_first(values, wrong, f"is none of {shown}{more}"))
    return found


def _first(values: np.ndarray, wrong: np.ndarray, text: str) -> str:
    row, count = int(np.flatnonzero(wrong)[0]), int(wrong.sum())
    value = values[row].item() if isinstance(values[row], np.generic) else values[row]
    more = f" ({count - 1} more)" if count > 1 else ""
    return f"{value!r} in row {row} {text}{more}"
