"""Tables: columns of numbers or texts out of CSV, Parquet and Arrow files. Read next: schema.py."""

from __future__ import annotations

import csv
import glob
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import ArgumentError, FileFormatError
from .dataset import Dataset, Rows


class Table(Dataset):
    """Rows of named columns, which are arrays of equal length.

    columns  dict of arrays, numbers or texts
    target   the column that becomes the second part of a sample: (features, target); None: samples
             are dicts of columns

    With a target the features (all other columns, which must be numbers) are one float32 array
    (rows, columns). `statistics()` describes the columns.

    >>> table = Table({"a": np.array([1, 2]), "y": np.array([0.5, 1.5])}, target="y")
    >>> inputs, target = table[1]
    >>> inputs, float(target)
    (array([2.], dtype=float32), 1.5)
    """

    def __init__(self, columns: dict[str, np.ndarray], target: str | None = None, name="Table"):
        self.columns = columns
        if target is not None and target not in columns:
            raise ArgumentError(
                f"{type(self).__name__}: there is no column {target!r}; there are "
                f"{', '.join(columns)}"
            )
        lengths = {len(column) for column in columns.values()}
        if len(lengths) > 1:
            raise ArgumentError(f"{name}: the columns' lengths differ: {sorted(lengths)}")
        self.target = target
        if target is not None:
            self._features = [n for n in columns if n != target]
            texts = [n for n in self._features if columns[n].dtype.kind in "UO"]
            if texts:
                raise FileFormatError(
                    f"{name}: the column {texts[0]!r} holds texts; features are numbers"
                )
            parts = [columns[n].astype(np.float32) for n in self._features]
            self.features = np.stack(parts, axis=1)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def __getitem__(self, index: int) -> Any:
        if self.target is not None:
            return self.features[index], self.columns[self.target][index]
        row = {name: column[index] for name, column in self.columns.items()}
        return {k: v.item() if isinstance(v, np.generic) else v for k, v in row.items()}

    def __getitems__(self, indices: Sequence[int]) -> Any:
        if self.target is None or self.columns[self.target].dtype.kind in "UO":
            return [self[i] for i in indices]
        index = np.asarray(indices, dtype=np.int64)
        return Rows((self.features[index], self.columns[self.target][index]))

    def statistics(self) -> dict[str, dict[str, Any]]:
        """By column: dtype, missing cells, distinct values, and of numbers min, max, mean, std."""
        found = {}
        for name, column in self.columns.items():
            missing = is_missing(column)
            entry: dict[str, Any] = {
                "dtype": "str" if column.dtype.kind in "UO" else column.dtype.name,
                "missing": int(np.sum(missing)),
                "distinct": len(np.unique(column[~missing])) + bool(missing.any()),
            }
            if column.dtype.kind not in "UO" and len(column) > entry["missing"]:
                values = column.astype(np.float64)
                for what, function in (
                    ("min", np.nanmin), ("max", np.nanmax), ("mean", np.nanmean),
                    ("std", np.nanstd),
                ):  # fmt: skip
                    entry[what] = float(function(values))
            found[name] = entry
        return found


def is_missing(column: np.ndarray) -> np.ndarray:
    """Which cells are empty: nan, or an empty text."""
    if column.dtype.kind == "f":
        return np.isnan(column)
    if column.dtype.kind in "UO":
        return column == ""
    return np.zeros(len(column), bool)


class CSVDataset(Table):
    """Rows of a CSV file with a header, as columns of numbers or texts.

    columns  those to read, in this order; None: all
    target   see Table
    dtypes   by column: "float32", "int64" or "str"; else the first that fits all values of
             int64, float32, str. An empty cell of a float column is nan

    FileFormatError names row and column of what does not fit.
    """

    def __init__(
        self,
        path: Any,
        columns: Iterable[str] | None = None,
        target: str | None = None,
        dtypes: dict[str, str] | None = None,
        delimiter: str = ",",
    ):
        self.path = Path(path)
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file, delimiter=delimiter))
        if not rows:
            raise FileFormatError(f"{self.path.name}: has no header")
        header, rows = rows[0], [row for row in rows[1:] if row]
        for number, row in enumerate(rows, 2):
            if len(row) != len(header):
                raise FileFormatError(
                    f"{self.path.name}: row {number} has {len(row)} cells, the header {len(header)}"
                )
        wanted = _wanted("CSVDataset", header, columns, target)
        found: dict[str, np.ndarray] = {}
        for name in wanted:
            cells = [row[header.index(name)].strip() for row in rows]
            found[name] = self._typed(name, cells, (dtypes or {}).get(name))
        super().__init__(found, target, self.path.name)

    def _typed(self, name: str, cells: list[str], dtype: str | None) -> np.ndarray:
        if dtype == "str":
            return np.array(cells)
        for kind, make in (("int64", int), ("float32", _number)):
            if dtype not in (None, kind):
                continue
            try:
                return np.array([make(cell) for cell in cells], dtype=kind)
            except (ValueError, OverflowError):
                if dtype is not None:
                    row = next(i for i, c in enumerate(cells) if not _fits(make, c))
                    raise FileFormatError(
                        f"{self.path.name}: row {row + 2}, column {name!r}: {cells[row]!r} is no "
                        f"{kind}"
                    ) from None
        return np.array(cells)


def _wanted(
    owner: str, header: Sequence[str], columns: Iterable[str] | None, target: str | None
) -> list[str]:
    wanted = list(header if columns is None else columns)
    if target is not None and target not in wanted:
        wanted.append(target)
    for name in wanted:
        if name not in header:
            raise ArgumentError(
                f"{owner}: there is no column {name!r}; there are {', '.join(header)}"
            )
    return wanted


def _number(cell: str) -> float:
    return float(cell) if cell else float("nan")


def _fits(make: Callable, cell: str) -> bool:
    try:
        make(cell)
    except (ValueError, OverflowError):
        return False
    return True


class ArrowDataset(Table):
    """Rows of Parquet, Arrow (IPC) or Feather files, read by pyarrow (the extra `arrow`).

    paths    one or a list; * and ? stand for parts of names. Files follow each other
    columns  those to read, in this order; None: all. Only these are read
    target   see Table

    Numbers keep their dtype, where cells are missing they become floats with nan; bools are bools,
    texts (and categories) objects with "" where they are missing; dates are datetime64; lists of
    numbers of one length are arrays (rows, length). FileFormatError names a column of another kind.
    """

    def __init__(self, paths: Any, columns: Iterable[str] | None = None, target: str | None = None):
        given = [paths] if isinstance(paths, (str, Path)) else list(paths)
        files = [f for p in given for f in (sorted(glob.glob(str(p))) or [str(p)])]
        if not files:
            raise ArgumentError("ArrowDataset: no files")
        arrow = _pyarrow()
        tables = [_read(arrow, file, columns, target) for file in files]
        try:
            whole = arrow.concat_tables(tables)
        except arrow.ArrowInvalid as error:
            raise FileFormatError(f"ArrowDataset: the files' columns differ: {error}") from None
        names = whole.column_names
        found = {n: _column(arrow, n, whole.column(n).combine_chunks()) for n in names}
        super().__init__(found, target, Path(files[0]).name)


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ArgumentError(
            "ArrowDataset: needs pyarrow, which is not installed",
            hint="pip install monograph[arrow]",
        ) from None
    return pyarrow


def _read(arrow: Any, file: str, columns: Iterable[str] | None, target: str | None) -> Any:
    name = Path(file).name
    try:
        with open(file, "rb") as opened:
            start = opened.read(8)
        if start[:4] == b"PAR1":
            parquet = arrow.parquet.ParquetFile(file)
            wanted = _wanted("ArrowDataset", parquet.schema_arrow.names, columns, target)
            return parquet.read(wanted)
        source = arrow.memory_map(file)
        if start[:6] == b"ARROW1":
            table = arrow.ipc.open_file(source).read_all()
        else:
            table = arrow.ipc.open_stream(source).read_all()
    except arrow.ArrowInvalid as error:
        raise FileFormatError(f"{name}: is no Parquet or Arrow file: {error}") from None
    return table.select(_wanted("ArrowDataset", table.column_names, columns, target))


def _column(arrow: Any, name: str, column: Any) -> np.ndarray:
    kind, types = column.type, arrow.types
    if types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if types.is_string(kind) or types.is_large_string(kind):
        return np.array(column.fill_null("").to_pylist(), dtype=object)
    if types.is_boolean(kind):
        return column.fill_null(False).to_numpy(zero_copy_only=False)
    if types.is_floating(kind) or types.is_integer(kind):
        return column.to_numpy(zero_copy_only=False)  # integers with missing cells: float64
    if types.is_temporal(kind) and not types.is_duration(kind) and not types.is_time(kind):
        return column.to_numpy(zero_copy_only=False)
    if types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind):
        inner = column.flatten()
        is_number = types.is_floating(inner.type) or types.is_integer(inner.type)
        rows = len(column)
        if is_number and not column.null_count and rows and len(inner) % rows == 0:
            sizes = {len(inner) // rows}
            if not types.is_fixed_size_list(kind):
                sizes = set(np.diff(column.offsets.to_numpy()).tolist())
            if len(sizes) == 1:
                return inner.to_numpy(zero_copy_only=False).reshape(rows, -1)
    raise FileFormatError(f"ArrowDataset: the column {name!r} is of type {kind}, which is not read")
