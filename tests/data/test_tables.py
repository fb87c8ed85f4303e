"""Parquet and Arrow files, tables, schemas and drift."""

import datetime

import numpy as np
import pytest

from monograph.core.errors import ArgumentError, DataError, FileFormatError
from monograph.data import ArrowDataset, CSVDataset, DataLoader, Schema, Table


@pytest.fixture
def arrow():
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pyarrow
    import pyarrow.feather
    import pyarrow.parquet

    return pyarrow


def content(arrow):
    return arrow.table(
        {
            "n": arrow.array([1, 2, None], arrow.int32()),
            "x": arrow.array([0.5, None, 2.5], arrow.float32()),
            "k": arrow.array([3, 4, 5], arrow.int8()),
            "t": arrow.array(["a", None, "c"]),
            "c": arrow.array(["u", "v", "u"]).dictionary_encode(),
            "b": [True, False, True],
            "d": [datetime.date(2024, 1, i) for i in (1, 2, 3)],
            "v": arrow.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], arrow.list_(arrow.float32())),
            "w": arrow.array([[1, 2]] * 3, arrow.list_(arrow.int16(), 2)),
        }
    )


@pytest.mark.parametrize("kind", ["parquet", "feather", "stream"])
def test_columns_of_every_kind(arrow, tmp_path, kind):
    table, path = content(arrow), tmp_path / f"t.{kind}"
    if kind == "parquet":
        arrow.parquet.write_table(table, path, row_group_size=2)
    elif kind == "feather":
        arrow.feather.write_feather(table, str(path))
    else:
        with arrow.OSFile(str(path), "wb") as file, arrow.ipc.new_stream(file, table.schema) as out:
            out.write_table(table)
    found = ArrowDataset(path)
    c = found.columns
    assert list(c) == list("nxktcbdvw") and len(found) == 3
    np.testing.assert_array_equal(c["n"], [1, 2, np.nan])
    np.testing.assert_array_equal(c["x"], np.float32([0.5, np.nan, 2.5]))
    assert c["x"].dtype == np.float32 and c["k"].dtype == np.int8 and c["b"].dtype == bool
    assert c["t"].tolist() == ["a", "", "c"] and c["c"].tolist() == ["u", "v", "u"]
    assert c["d"][1] == np.datetime64("2024-01-02")
    assert c["v"].shape == (3, 2) and c["v"][2].tolist() == [5, 6] and c["w"].dtype == np.int16
    assert found[0]["k"] == 3 and found[0]["t"] == "a"
    assert found.statistics()["t"] == {"dtype": "str", "missing": 1, "distinct": 3}


def test_targets_files_and_columns(arrow, tmp_path):
    for i in range(3):
        part = {"a": [1.0 * i, 2.0], "y": [i, 7], "text": ["p", "q"]}
        arrow.parquet.write_table(arrow.table(part), tmp_path / f"{i}.parquet")
    data = ArrowDataset(tmp_path / "*.parquet", columns=["a"], target="y")
    assert list(data.columns) == ["a", "y"]
    x, y = next(iter(DataLoader(data, batch_size=6)))
    assert x.tolist() == [[0.0], [2.0], [1.0], [2.0], [2.0], [2.0]]
    assert y.tolist() == [0, 7, 1, 7, 2, 7]
    with pytest.raises(FileFormatError, match="the column 'text' holds texts; features are"):
        ArrowDataset(tmp_path / "0.parquet", target="y")
    with pytest.raises(ArgumentError, match="there is no column 'z'; there are a, y, text"):
        ArrowDataset(tmp_path / "0.parquet", columns=["z"])
    (tmp_path / "wrong").write_text("not a table at all")
    with pytest.raises(FileFormatError, match="wrong: is no Parquet or Arrow file"):
        ArrowDataset(tmp_path / "wrong")
    arrow.parquet.write_table(arrow.table({"m": [[1], [2, 3]]}), tmp_path / "l.parquet")
    with pytest.raises(FileFormatError, match="the column 'm' is of type list"):
        ArrowDataset(tmp_path / "l.parquet")


def people(n=400, shift=0.0, seed=0):
    rng = np.random.default_rng(seed)
    return Table(
        {
            "age": rng.integers(20, 60, n),
            "income": (rng.normal(50 + shift, 10, n)).astype(np.float32),
            "city": np.array(["rome", "oslo", "bern"], dtype=object)[rng.integers(0, 3, n)],
            "id": np.array([f"p{i}" for i in range(n)]),
        }
    )


def test_what_fits_and_what_does_not(tmp_path):
    known = people()
    schema = Schema.infer(known, slack=0.5)
    assert schema.check(known) == [] and schema.columns["id"].values is None
    schema.save(tmp_path / "schema.json")
    schema = Schema.load(tmp_path / "schema.json")
    other = people(seed=1)
    assert schema.check(other) == []
    other.columns["city"][3] = "troy"
    other.columns["age"][[4, 9]] = 500
    other.columns["income"][:300] = np.nan
    other.columns["income"][399] = np.inf
    other.columns["new"] = np.arange(400)
    del other.columns["id"]
    found = schema.check(other)
    age = schema.columns["age"].high
    assert found[0] == f"age: 500 in row 4 is above {age:g} (1 more)"
    assert found[1] == "income: 75.0% of the cells are empty (row 0 first), where 50.0% may"
    assert found[-3].startswith("city: 'troy' in row 3 is none of 'bern', 'oslo', 'rome'")
    assert found[-2] == "id: is missing; there are age, income, city, new"
    assert found[-1] == "new: is no column of the schema"
    assert schema.check(other, most=2)[2] == f"and {len(found) - 2} more"
    with pytest.raises(DataError, match="the data does not fit the schema:\n    age: 500 in row 4"):
        schema.validate(other)


def test_columns_of_another_kind():
    schema = Schema.infer({"n": np.array([1, 2]), "x": np.array([0.5, 1.5]), "s": np.array(["a"])})
    assert schema.check({"n": np.array([1]), "x": np.array([1]), "s": np.array(["a"])}) == []
    assert schema.check({"n": np.array([1.5]), "x": np.array(["?"]), "s": np.array([3])}) == [
        "n: holds float, where int is expected",
        "x: holds str, where float is expected",
        "s: holds int, where str is expected",
    ]


def test_drift_is_seen_where_it_is():
    schema = Schema.infer(people(4000))
    same = schema.drift(people(4000, seed=5))
    assert not any(d.is_drifted for d in same.values()) and same["income"].ks < 0.05
    moved = people(4000, shift=8.0, seed=6)
    moved.columns["city"][:1500] = "oslo"
    found = schema.drift(moved)
    assert [n for n, d in found.items() if d.is_drifted] == ["income", "city"]
    # Two normal distributions 0.8 deviations apart: 2 * Phi(0.4) - 1.
    assert found["income"].ks == pytest.approx(0.31, abs=0.03)
    assert schema.drift({"income": np.full(10, np.nan)}) == {}


def test_psi_is_that_of_the_definition():
    schema = Schema.infer({"s": np.array(["a"] * 50 + ["b"] * 50)})
    found = schema.drift({"s": np.array(["a"] * 80 + ["b"] * 20)})["s"].psi
    assert found == pytest.approx(0.3 * np.log(0.8 / 0.5) + -0.3 * np.log(0.2 / 0.5))


def test_errors(tmp_path):
    with pytest.raises(ArgumentError, match="needs a Table or a dict of arrays, got list"):
        Schema.infer([1])
    (tmp_path / "s.json").write_text("[]")
    with pytest.raises(FileFormatError, match="s.json: is no schema"):
        Schema.load(tmp_path / "s.json")
    with pytest.raises(ArgumentError, match=r"the columns' lengths differ: \[1, 2\]"):
        Table({"a": np.zeros(1), "b": np.zeros(2)})


def test_csv_files_are_tables(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,x\n2,\n")
    table = CSVDataset(tmp_path / "t.csv")
    assert isinstance(table, Table) and Schema.infer(table).columns["b"].missing == 0.5
