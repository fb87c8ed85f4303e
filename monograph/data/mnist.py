"""MNIST and its idx files: 28x28 grey images of handwritten digits with labels.

Format and files: Yann LeCun, Corinna Cortes, Christopher Burges, "The MNIST database".
"""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import zlib
from pathlib import Path

import numpy as np

from ..core.errors import ArgumentError, DataError, FileFormatError
from .arrays import to_tensor
from .dataset import Dataset, Rows

_IDX_DTYPES = {
    0x08: "u1",
    0x09: "i1",
    0x0B: ">i2",
    0x0C: ">i4",
    0x0D: ">f4",
    0x0E: ">f8",
}

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)

# SHA-256 of the uncompressed files, so that it does not matter who compressed them.
CHECKSUMS = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


def read_idx(path: str | os.PathLike) -> np.ndarray:
    """Read an idx file, plain or compressed with gzip, as an array in native byte order.

    The format: two zero bytes, a byte for the dtype, a byte for the number of dimensions, each
    size as a big-endian uint32, then the elements in row-major order.

    FileFormatError if the file is not of this format, is cut short, or goes on after its end.
    """
    path = Path(path)
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        content = _decompress(content, path.name)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_DTYPES:
        raise FileFormatError(
            f"{path.name}: not an idx file: it starts with {content[:4].hex(' ') or 'nothing'}",
            hint="idx files start with 00 00, a byte for the dtype (08 for uint8) and the number "
            "of dimensions",
        )
    dtype, dimensions = np.dtype(_IDX_DTYPES[content[2]]), content[3]
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise FileFormatError(
            f"{path.name}: the header needs {start} bytes, but the file holds only {len(content)}"
        )
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", dimensions, 4))
    needed = start + math.prod(shape) * dtype.itemsize
    if len(content) != needed:
        missing = needed - len(content)
        raise FileFormatError(
            f"{path.name}: {dtype.newbyteorder('=').name} of shape {shape} needs {needed} bytes, "
            f"but the file holds {len(content)}",
            hint=f"{missing} bytes are missing, as after an interrupted copy"
            if missing > 0
            else f"{-missing} bytes follow the end of the data",
        )
    elements = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return elements.astype(dtype.newbyteorder("="))


def _decompress(content: bytes, name: str) -> bytes:
    try:
        return gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FileFormatError(
            f"{name}: damaged gzip data: {error}",
            hint="the file is cut short or altered, as after an interrupted copy",
        ) from None


class MNIST(Dataset):
    """Handwritten digits: 60,000 for training and 10,000 for testing.

    root       directory with the four idx files (plain or .gz), or with MNIST/raw/ that has them
    train      the training samples (True) or the test samples
    transform  applied to the image of a sample: an array (1, 28, 28) of float32 in [0, 1]
    target_transform
               applied to the label of a sample: an int in 0 .. 9
    download   fetch the files that are missing into `root` and check them

    A sample is (image, label). `data` holds all images as uint8 (N, 28, 28), `targets` all labels
    as int64 (N,), both NumPy arrays.

    FileFormatError for a damaged file, DataError for one that is absent or cannot be fetched.
    """

    classes = [str(digit) for digit in range(10)]

    def __init__(
        self, root, train: bool = True, transform=None, target_transform=None, download=False
    ):
        self.root = Path(root)
        self.train = train
        self.transform = transform
        self.target_transform = target_transform
        part = "train" if train else "t10k"
        names = (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte")
        if download:
            download_files(self.root, names)
        images, labels = (_find(self.root, name) for name in names)
        self.data = read_idx(images)
        self.targets = read_idx(labels).astype(np.int64)
        if self.data.dtype != np.uint8 or self.data.shape[1:] != (28, 28):
            raise FileFormatError(
                f"{images.name}: expected uint8 images of shape (N, 28, 28), got "
                f"{self.data.dtype.name} of shape {self.data.shape}"
            )
        if self.targets.shape != self.data.shape[:1]:
            raise FileFormatError(
                f"{labels.name}: has labels of shape {self.targets.shape} for "
                f"{len(self.data)} images in {images.name}"
            )
        if self.targets.size and not 0 <= self.targets.min() <= self.targets.max() <= 9:
            raise FileFormatError(
                f"{labels.name}: labels must be in 0 .. 9, got "
                f"{self.targets.min()} .. {self.targets.max()}"
            )

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index):
        image = self._images(self.data[index])
        label = int(self.targets[index])
        image = to_tensor(image) if self.transform is None else self.transform(image)
        return image, label if self.target_transform is None else self.target_transform(label)

    def __getitems__(self, indices):
        if self.transform is not None or self.target_transform is not None:
            return [self[i] for i in indices]
        index = np.asarray(indices, dtype=np.int64)
        return Rows((to_tensor(self._images(self.data[index])), to_tensor(self.targets[index])))

    @staticmethod
    def _images(pixels: np.ndarray) -> np.ndarray:
        """uint8 (..., 28, 28) to float32 (..., 1, 28, 28) in [0, 1]."""
        return (pixels.astype(np.float32) / np.float32(255.0))[..., None, :, :]


def _find(root: Path, name: str) -> Path:
    for folder in (root, root / "MNIST" / "raw"):
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise DataError(
        f"MNIST: neither {name} nor {name}.gz is in {root}",
        hint="download=True fetches the files",
    )


def download_files(root: Path, names, mirrors=MIRRORS, checksums=CHECKSUMS) -> None:
    """Fetch each missing file (as .gz) from the first mirror that has it; check it; keep it.

    A file that is not what the checksum says is never written under its final name.
    """
    for name in names:
        if name not in checksums:
            raise ArgumentError(f"MNIST: no checksum is known for {name}")
        try:
            _find(root, name)
            continue
        except DataError:
            pass
        root.mkdir(parents=True, exist_ok=True)
        problems = []
        for mirror in mirrors:
            url = f"{mirror}{name}.gz"
            try:
                content = _fetch(url)
                found = hashlib.sha256(_decompress(content, url)).hexdigest()
            except (OSError, FileFormatError) as error:
                problems.append(f"{url}: {error}")
                continue
            if found == checksums[name]:
                partial = root / f"{name}.gz.part{os.getpid()}"
                partial.write_bytes(content)
                partial.replace(root / f"{name}.gz")
                break
            problems.append(f"{url}: checksum {found} instead of {checksums[name]}")
        else:
            raise DataError(
                f"MNIST: could not download {name}:" + "".join(f"\n    {p}" for p in problems),
                hint="nothing was written; the files can also be put into the directory by hand",
            )


def _fetch(url: str, timeout_s: float = 30.0) -> bytes:
    """The content at `url`. OSError if it cannot be had."""
    import urllib.request  # loads the TLS library, which nothing else here needs

    with urllib.request.urlopen(url, timeout=timeout_s) as response:
        return response.read()
