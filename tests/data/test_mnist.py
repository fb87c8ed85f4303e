"""idx files, whole and damaged; MNIST from a directory and from mirrors."""

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

import monograph as mg
from monograph.core.errors import DataError, FileFormatError
from monograph.data import MNIST, DataLoader, mnist, read_idx

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "mnist"


def idx_bytes(array):
    codes = {"u1": 8, "i1": 9, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
    header = struct.pack(">BBBB", 0, 0, codes[array.dtype.str[1:]], array.ndim)
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return header + sizes + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_mnist(folder, count=5, compress=True, part="train"):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    labels = np.arange(count, dtype=np.uint8) % 10
    contents = {
        f"{part}-images-idx3-ubyte": idx_bytes(images),
        f"{part}-labels-idx1-ubyte": idx_bytes(labels),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        if compress:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return images, labels, contents


def check(error_type, message, hint, call):
    with pytest.raises(error_type) as error:
        call()
    assert (str(error.value), error.value.hint) == (message, hint)


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("shape", [(3, 4, 5), (7,), (0, 28, 28), ()])
@pytest.mark.parametrize("compress", [False, True])
def test_idx_file_reads_back(tmp_path, dtype, shape, compress):
    array = np.asarray(np.random.default_rng(1).standard_normal(shape) * 50).astype(dtype)
    content = idx_bytes(array)
    path = tmp_path / "a-idx"
    path.write_bytes(gzip.compress(content) if compress else content)
    result = read_idx(path)
    assert result.dtype == array.dtype and result.shape == shape
    assert (result == array).all() and result.dtype.isnative


def test_damaged_idx_files_say_what_is_wrong(tmp_path):
    path = tmp_path / "x-idx3-ubyte"
    whole = idx_bytes(np.zeros((10, 4, 4), np.uint8))

    def reading(content):
        path.write_bytes(content)
        return lambda: read_idx(path)

    start_hint = (
        "idx files start with 00 00, a byte for the dtype (08 for uint8) and the number of "
        "dimensions"
    )
    check(
        FileFormatError,
        "x-idx3-ubyte: uint8 of shape (10, 4, 4) needs 176 bytes, but the file holds 100",
        "76 bytes are missing, as after an interrupted copy",
        reading(whole[:100]),
    )
    check(
        FileFormatError,
        "x-idx3-ubyte: uint8 of shape (10, 4, 4) needs 176 bytes, but the file holds 179",
        "3 bytes follow the end of the data",
        reading(whole + b"abc"),
    )
    check(
        FileFormatError,
        "x-idx3-ubyte: the header needs 16 bytes, but the file holds only 9",
        None,
        reading(whole[:9]),
    )
    check(
        FileFormatError,
        "x-idx3-ubyte: not an idx file: it starts with 3c 21 44 4f",
        start_hint,
        reading(b"<!DOCTYPE html>"),
    )
    check(
        FileFormatError,
        "x-idx3-ubyte: not an idx file: it starts with nothing",
        start_hint,
        reading(b""),
    )
    check(
        FileFormatError,
        "x-idx3-ubyte: not an idx file: it starts with 00 00 0a 01",
        start_hint,
        reading(b"\0\0\x0a\x01" + whole[4:]),
    )


@pytest.mark.parametrize(
    "damage",
    [lambda c: c[:-20], lambda c: c[:40] + b"\0\0\0\0" + c[44:], lambda c: c + b"rubbish"],
    ids=["cut", "altered", "continued"],
)
def test_damaged_gzip_is_a_format_error(tmp_path, damage):
    path = tmp_path / "x-idx3-ubyte.gz"
    content = np.random.default_rng(0).integers(0, 255, (10, 4, 4), dtype=np.uint8)
    path.write_bytes(damage(gzip.compress(idx_bytes(content))))
    with pytest.raises(FileFormatError, match=r"^x-idx3-ubyte\.gz: damaged gzip data: ") as error:
        read_idx(path)
    assert "as after an interrupted copy" in error.value.hint


@pytest.mark.parametrize("folder", ["", "MNIST/raw"])
@pytest.mark.parametrize("compress", [False, True])
def test_mnist_gives_scaled_images_and_labels(tmp_path, folder, compress):
    images, labels, _ = write_mnist(tmp_path / folder, compress=compress)
    data = MNIST(tmp_path)
    image, label = data[3]
    assert isinstance(image, mg.Tensor) and tuple(image.shape) == (1, 28, 28)
    assert image.dtype == mg.float32 and label == 3 and isinstance(label, int)
    expected = images.astype(np.float32) / np.float32(255)
    assert (image.numpy()[0] == expected[3]).all()
    x, y = next(iter(DataLoader(data, batch_size=4)))
    assert (x.numpy() == expected[:4, None]).all() and y.tolist() == [0, 1, 2, 3]
    assert y.dtype == mg.int64 and len(data) == 5 and data.data.dtype == np.uint8


def test_mnist_transforms_are_applied_in_batches_too(tmp_path):
    write_mnist(tmp_path)
    data = MNIST(tmp_path, transform=lambda x: x.sum(), target_transform=lambda y: -y)
    x, y = next(iter(DataLoader(data, batch_size=3)))
    sums = data.data[:3].astype(np.float32) / np.float32(255)
    np.testing.assert_allclose(x.numpy(), sums.sum((1, 2)), rtol=1e-5)
    assert y.tolist() == [0, -1, -2]


def test_absent_or_unfitting_mnist_files_are_an_error(tmp_path):
    name = "train-images-idx3-ubyte"
    check(
        DataError,
        f"MNIST: neither {name} nor {name}.gz is in {tmp_path}",
        "download=True fetches the files",
        lambda: MNIST(tmp_path),
    )
    write_mnist(tmp_path, compress=False)
    labels = tmp_path / "train-labels-idx1-ubyte"
    labels.write_bytes(idx_bytes(np.zeros(4, np.uint8)))
    check(
        FileFormatError,
        f"train-labels-idx1-ubyte: has labels of shape (4,) for 5 images in {name}",
        None,
        lambda: MNIST(tmp_path),
    )
    labels.write_bytes(idx_bytes(np.full(5, 200, np.uint8)))
    check(
        FileFormatError,
        "train-labels-idx1-ubyte: labels must be in 0 .. 9, got 200 .. 200",
        None,
        lambda: MNIST(tmp_path),
    )
    (tmp_path / name).write_bytes(idx_bytes(np.zeros((5, 28, 27), np.uint8)))
    check(
        FileFormatError,
        f"{name}: expected uint8 images of shape (N, 28, 28), got uint8 of shape (5, 28, 27)",
        None,
        lambda: MNIST(tmp_path),
    )


def test_download_takes_the_first_mirror_with_the_right_file(tmp_path):
    good, bad, target = (tmp_path / name for name in ("good", "bad", "target"))
    _, _, contents = write_mnist(good)
    write_mnist(bad, count=6)
    checksums = {name: hashlib.sha256(c).hexdigest() for name, c in contents.items()}
    mirrors = [f"{tmp_path.as_uri()}/absent/", f"{bad.as_uri()}/", f"{good.as_uri()}/"]
    mnist.download_files(target, list(contents), mirrors, checksums)
    assert sorted(p.name for p in target.iterdir()) == sorted(f"{name}.gz" for name in contents)
    assert len(MNIST(target)) == 5
    mnist.download_files(target, list(contents), [], checksums)  # present: nothing to fetch


def test_download_keeps_nothing_that_fails_its_checksum(tmp_path):
    bad, target = tmp_path / "bad", tmp_path / "target"
    _, _, contents = write_mnist(bad)
    name = "train-images-idx3-ubyte"
    found = hashlib.sha256(contents[name]).hexdigest()
    (tmp_path / "html").mkdir()
    (tmp_path / "html" / f"{name}.gz").write_bytes(b"\x1f\x8b<html>moved</html>")
    absent, html = f"{tmp_path.as_uri()}/absent/", f"{tmp_path.as_uri()}/html/"
    with pytest.raises(DataError) as error:
        mnist.download_files(target, [name], [absent, html, f"{bad.as_uri()}/"])
    title, first, second, third = str(error.value).splitlines()
    assert title == f"MNIST: could not download {name}:"
    assert first.startswith(f"    {absent}{name}.gz: ")
    assert second.startswith(f"    {html}{name}.gz: ") and "damaged gzip data" in second
    assert third == (
        f"    {bad.as_uri()}/{name}.gz: checksum {found} instead of {mnist.CHECKSUMS[name]}"
    )
    assert list(target.iterdir()) == []


@pytest.mark.skipif(not REAL.is_dir(), reason="the MNIST files are not on this machine")
def test_real_files_have_the_recorded_checksums():
    for name, checksum in mnist.CHECKSUMS.items():
        content = gzip.decompress((REAL / f"{name}.gz").read_bytes())
        assert hashlib.sha256(content).hexdigest() == checksum
    train, test = MNIST(REAL), MNIST(REAL, train=False)
    assert (len(train), len(test)) == (60_000, 10_000)
    assert np.bincount(train.targets).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip
