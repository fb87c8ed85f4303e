"""Tar shards, image folders, CSV and NumPy files; lengths: buckets, packing, padding."""

import io
import json
import sys
import tarfile

import numpy as np
import pytest

import monograph as mg
from monograph.core.errors import ArgumentError, DataError, FileFormatError
from monograph.data import (
    BucketBatchSampler,
    CSVDataset,
    DataLoader,
    ImageFolder,
    NumpyDataset,
    PackedDataset,
    Pipeline,
    TarShards,
    pack,
    pad_collate,
)


def add(tar, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.fixture
def shards(tmp_path):
    number = 0
    for shard in range(3):
        with tarfile.open(tmp_path / f"train-{shard}.tar", "w") as tar:
            for _ in range(4 + shard):
                add(tar, f"a/img{number}.x.npy", npy(np.full((20, 500), number, np.float32)))
                add(tar, f"a/img{number}.cls", str(number % 3).encode())
                add(tar, f"a/img{number}.json", json.dumps({"n": number}).encode())
                number += 1
    return tmp_path


def test_tar_shards_group_members_and_decode_them(shards):
    data = TarShards(str(shards / "train-*.tar"))
    assert len(data) == 15
    sample = data[7]
    assert sample["__key__"] == "a/img7" and sample["cls"] == 1 and sample["json"] == {"n": 7}
    assert sample["x.npy"].shape == (20, 500) and (sample["x.npy"] == 7).all()
    raw = TarShards(str(shards / "train-*.tar"), decode=False, keys=["cls", "json"])
    assert raw[7] == (b"1", b'{"n": 7}')
    with pytest.raises(DataError, match=r"train-0.tar: sample 'a/img0' has no .png; it has .x.npy"):
        TarShards(str(shards / "*.tar"), keys=["png"])
    with pytest.raises(DataError, match="no file is called"):
        TarShards(str(shards / "valid-*.tar"))


def test_a_shard_that_ends_early_is_named(shards):
    path = shards / "train-1.tar"
    content = path.read_bytes()
    path.write_bytes(content[:90_000])
    with pytest.raises(FileFormatError, match="train-1.tar: "):
        TarShards(str(shards / "*.tar"))
    path.write_bytes(b"no tar at all")
    with pytest.raises(FileFormatError, match="train-1.tar: not a whole tar file"):
        TarShards(str(shards / "*.tar"))


@pytest.mark.skipif(sys.platform != "linux", reason="forks its workers")
@pytest.mark.parametrize("stream", [False, True])
def test_tar_shards_give_the_same_batches_for_any_number_of_workers(shards, stream):
    def flip(sample):
        x, label = sample
        return x[:, ::-1].copy() if np.random.random() < 0.5 else x + 0.5, label

    data = TarShards(str(shards / "*.tar"), keys=["x.npy", "cls"], transform=flip)

    def epoch(workers):
        mg.manual_seed(1)
        source = Pipeline(data).shuffle(8) if stream else data
        loader = DataLoader(source, 4, shuffle=not stream, num_workers=workers)
        return [(x.numpy().sum(), y.tolist()) for x, y in loader]

    expected = epoch(0)
    assert len(expected) == 4
    assert epoch(1) == epoch(2) == epoch(3) == expected


def test_image_folder(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    for label, name in enumerate(["ant", "bee"]):
        (tmp_path / name).mkdir()
        for i in range(2):
            pixels = np.full((3, 5, 3), 10 * label + i, np.uint8)
            image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    data = ImageFolder(tmp_path)
    assert data.classes == ["ant", "bee"] and len(data) == 4
    x, label = data[3]
    assert label == 1 and x.dtype == mg.uint8 and x.shape == (3, 3, 5) and (x.numpy() == 11).all()
    assert ImageFolder(tmp_path, mode="L")[0][0].shape == (1, 3, 5)
    (tmp_path / "ant" / "0.png").write_bytes(b"broken")
    with pytest.raises(FileFormatError, match="not an image that can be read"):
        data[0]
    with pytest.raises(DataError, match="has no images in folders"):
        ImageFolder(tmp_path / "ant")


TABLE = "a,b,name,y\n1,0.5,x,0\n2,,y,1\n3,1.5,z,0\n"


def test_csv_columns_have_the_first_dtype_that_fits(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(TABLE)
    data = CSVDataset(path)
    assert [c.dtype.kind for c in data.columns.values()] == ["i", "f", "U", "i"]
    assert data[0] == {"a": 1, "b": 0.5, "name": "x", "y": 0}
    pairs = CSVDataset(path, ["a", "b"], target="y")
    x, y = next(iter(DataLoader(pairs, 3)))
    assert x.shape == (3, 2) and y.tolist() == [0, 1, 0] and np.isnan(x[1, 1].item())
    found = data.statistics()
    assert (
        found["b"]["missing"] == 1 and found["b"]["mean"] == 1.0 and found["name"]["distinct"] == 3
    )
    assert found["a"] | {"std": 0} == {
        "dtype": "int64", "missing": 0, "distinct": 3, "min": 1.0, "max": 3.0, "mean": 2.0,
        "std": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    "text, options, message",
    [
        ("", {}, "t.csv: has no header"),
        ("a,b\n1\n", {}, "row 2 has 1 cells, the header 2"),
        (TABLE, {"dtypes": {"b": "int64"}}, "row 2, column 'b': '0.5' is no int64"),
        (TABLE, {"target": "y"}, "the column 'name' holds texts"),
        (TABLE, {"columns": ["q"]}, "no column 'q'; there are a, b, name, y"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(tmp_path, text, options, message):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises((FileFormatError, ArgumentError), match=message):
        CSVDataset(path, **options)


def test_numpy_files(tmp_path):
    x, y = np.arange(20.0).reshape(10, 2), np.arange(10)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    np.savez(tmp_path / "d.npz", x=x, y=y)
    for data in (
        NumpyDataset(tmp_path / "x.npy", tmp_path / "y.npy"),
        NumpyDataset(tmp_path / "d.npz", keys=["x", "y"]),
    ):
        a, b = list(DataLoader(data, 4))[1]
        np.testing.assert_array_equal(a.numpy(), x[4:8])
        assert b.tolist() == [4, 5, 6, 7] and data[3][1] == 3
    np.save(tmp_path / "o.npy", np.array([{}, 1], dtype=object))
    with pytest.raises(FileFormatError, match="Python objects in dtype"):
        NumpyDataset(tmp_path / "o.npy")
    np.save(tmp_path / "z.npy", y[:3])
    with pytest.raises(ArgumentError, match=r"first axes differ: \[10, 3\]"):
        NumpyDataset(tmp_path / "x.npy", tmp_path / "z.npy")


# Lengths


def test_buckets_hold_all_samples_once_with_like_lengths():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 100, 1000)
    mg.manual_seed(0)
    sampler = BucketBatchSampler(lengths, batch_size=8, shuffle=True, pool=20)
    batches = list(sampler)
    assert len(batches) == len(sampler)
    assert sorted(i for b in batches for i in b) == list(range(1000))
    padded = sum(len(b) * max(lengths[i] for i in b) for b in batches)
    assert padded < 1.1 * lengths.sum()
    assert list(sampler) != batches


def test_buckets_by_tokens_stay_below_the_limit():
    lengths = np.random.default_rng(1).integers(1, 50, 300)
    for shuffle in (False, True):
        batches = list(BucketBatchSampler(lengths, max_tokens=100, shuffle=shuffle))
        assert all(len(b) * max(lengths[i] for i in b) <= 100 for b in batches)
        assert sorted(i for b in batches for i in b) == list(range(300))
    with pytest.raises(ArgumentError, match="a sample has length 49, which is more than"):
        BucketBatchSampler(lengths, max_tokens=10)
    with pytest.raises(ArgumentError, match="either batch_size or max_tokens"):
        BucketBatchSampler(lengths)


def test_packing_loses_little_and_nothing_is_cut():
    lengths = np.random.default_rng(2).integers(1, 60, 500).tolist()
    rows = pack(lengths, 128)
    assert sorted(i for r in rows for i in r) == list(range(500))
    assert all(sum(lengths[i] for i in r) <= 128 for r in rows)
    assert sum(lengths) > 0.97 * 128 * len(rows)
    sequences = [np.arange(1, n + 1) for n in (5, 3, 4)]
    row = PackedDataset(sequences, 8, pad=-1)[0]
    assert row["tokens"].tolist() == [1, 2, 3, 4, 5, 1, 2, 3]
    assert row["segments"].tolist() == [1, 1, 1, 1, 1, 2, 2, 2]
    assert row["positions"].tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
    assert PackedDataset(sequences, 8, pad=-1)[1]["tokens"].tolist() == [1, 2, 3, 4, -1, -1, -1, -1]


def test_padding_in_a_batch():
    samples = [(np.arange(3), 1), (np.arange(1), 0)]
    x, n, y = pad_collate(samples, value=9)
    assert x.tolist() == [[0, 1, 2], [0, 9, 9]] and n.tolist() == [3, 1] and y.tolist() == [1, 0]
