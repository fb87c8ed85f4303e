"""Data sets in files: tar shards, folders of images, NumPy files. Tables: tables.py.

All are map-style and read a sample where it is needed, so that they serve a DataLoader or a
Pipeline with any number of workers. Images are decoded by Pillow, which must be installed for them.
"""

from __future__ import annotations

import glob
import io
import json
import os
import tarfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import ArgumentError, DataError, FileFormatError
from .arrays import to_tensor
from .dataset import Dataset, Rows

IMAGES = ("jpg", "jpeg", "png", "ppm", "pgm", "bmp", "webp", "gif", "tif", "tiff")


def decode_image(content: bytes, mode: str = "RGB") -> np.ndarray:
    """An image file's content as an array (C, H, W) of uint8.

    mode  "RGB", or "L" for one channel of grey
    """
    try:
        import PIL.Image  # optional, and slow to load
    except ImportError:
        raise DataError(
            "decode_image: images need Pillow, which is not installed", hint="pip install pillow"
        ) from None
    try:
        with PIL.Image.open(io.BytesIO(content)) as image:
            array = np.asarray(image.convert(mode))
    except (OSError, SyntaxError, ValueError) as error:
        raise FileFormatError(f"decode_image: not an image that can be read: {error}") from None
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


def decode_member(name: str, content: bytes) -> Any:
    """A member of a tar shard by the ending of its name; bytes where the ending says nothing."""
    ending = name.rsplit(".", 1)[-1].lower()
    if ending in IMAGES:
        return decode_image(content)
    if ending in ("cls", "cls2", "index", "id"):
        return int(content)
    if ending in ("txt", "text", "transcript"):
        return content.decode("utf-8")
    if ending in ("json", "jsn"):
        return json.loads(content)
    if ending == "npy":
        return np.load(io.BytesIO(content), allow_pickle=False)
    return content


class TarShards(Dataset):
    """Samples in tar files: members that share their name up to the first dot belong together.

    shards     paths, or a pattern such as "train-*.tar"; they are read in sorted order
    decode     decode members by their endings (images, .cls, .txt, .json, .npy); False: bytes;
               or a function (name, bytes) -> value
    transform  of a sample
    keys       the endings that a sample must have; samples are tuples of them then, else dicts with
               the ending as key, and "__key__"

    The convention is that of WebDataset: train-0001.tar holds img7.jpg and img7.cls. The members'
    places are read once; a sample is then one or two reads, wherever it is.

    FileFormatError names a shard that is no tar file or ends early.
    """

    def __init__(
        self,
        shards: Any,
        decode: bool | Callable = True,
        transform: Callable | None = None,
        keys: Sequence[str] | None = None,
    ):
        if isinstance(shards, (str, os.PathLike)):
            found = sorted(glob.glob(str(shards)))
            if not found:
                raise DataError(f"TarShards: no file is called {shards}")
            shards = found
        self.shards = [str(path) for path in shards]
        self.decode = decode_member if decode is True else decode
        self.transform, self.keys = transform, None if keys is None else list(keys)
        self._samples: list[tuple[int, str, dict[str, tuple[int, int]]]] = []
        for number, path in enumerate(self.shards):
            self._index(number, path)
        self._local = threading.local()

    def _index(self, number: int, path: str) -> None:
        current: tuple[int, str, dict] | None = None
        try:
            with tarfile.open(path) as tar:
                for member in tar:
                    if not member.isfile():
                        continue
                    folder, _, name = member.name.rpartition("/")
                    stem, _, ending = name.partition(".")
                    key = f"{folder}/{stem}" if folder else stem
                    if current is None or current[1] != key:
                        current = (number, key, {})
                        self._samples.append(current)
                    current[2][ending] = (member.offset_data, member.size)
            size = os.path.getsize(path)
        except (tarfile.TarError, EOFError) as error:
            raise FileFormatError(f"{Path(path).name}: not a whole tar file: {error}") from None
        last = max((o + n for _, _, m in self._samples[-1:] for o, n in m.values()), default=0)
        if last > size:
            raise FileFormatError(f"{Path(path).name}: its last member ends after the file")
        if self.keys:
            for _, key, members in self._samples:
                missing = [k for k in self.keys if k not in members]
                if missing:
                    raise DataError(
                        f"{Path(path).name}: sample {key!r} has no .{missing[0]}; it has "
                        + ", ".join(f".{e}" for e in members)
                    )

    def __len__(self) -> int:
        return len(self._samples)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k != "_local"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._local = threading.local()

    def __getitem__(self, index: int) -> Any:
        number, key, members = self._samples[index]
        names = members if self.keys is None else self.keys
        values = {name: self._read(number, name, *members[name]) for name in names}
        sample: Any = {"__key__": key, **values} if self.keys is None else tuple(values.values())
        return sample if self.transform is None else self.transform(sample)

    def _read(self, number: int, name: str, offset: int, size: int) -> Any:
        files = getattr(self._local, "files", None)
        if files is None or self._local.owner != os.getpid():  # not those of before a fork
            files, self._local.owner = {}, os.getpid()
            self._local.files = files
        if number not in files:
            files[number] = _Handle(self.shards[number])
        content = os.pread(files[number].number, size, offset)
        return self.decode(name, content) if self.decode else content


class _Handle:
    """An open file that closes with the last reference to it."""

    def __init__(self, path: str):
        self.number = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        os.close(self.number)


class ImageFolder(Dataset):
    """Images in one folder for each class: root/<class>/<anything>.png.

    transform         of the image, an array (C, H, W) of uint8
    target_transform  of the label, an int
    mode              "RGB" or "L"

    A sample is (image, label). `classes` are the folders' names in sorted order; `samples` lists
    (path, label).
    """

    def __init__(
        self,
        root: Any,
        transform: Callable | None = None,
        target_transform: Callable | None = None,
        mode: str = "RGB",
    ):
        self.root, self.mode = Path(root), mode
        self.transform, self.target_transform = transform, target_transform
        if not self.root.is_dir():
            raise DataError(f"ImageFolder: there is no directory {root}")
        self.classes = sorted(entry.name for entry in self.root.iterdir() if entry.is_dir())
        self.samples = [
            (path, label)
            for label, name in enumerate(self.classes)
            for path in sorted((self.root / name).rglob("*"))
            if path.suffix[1:].lower() in IMAGES
        ]
        if not self.samples:
            raise DataError(
                f"ImageFolder: {root} has no images in folders",
                hint="the layout is root/<class>/<image>, with endings " + ", ".join(IMAGES),
            )

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        path, label = self.samples[index]
        try:
            image = decode_image(path.read_bytes(), self.mode)
        except FileFormatError as error:
            error.add_note(f"  in {path}")
            raise
        image = to_tensor(image) if self.transform is None else self.transform(image)
        return image, label if self.target_transform is None else self.target_transform(label)


class NumpyDataset(Dataset):
    """Samples along the first axes of arrays in .npy files (mapped into memory) or one .npz file.

    NumpyDataset("x.npy", "y.npy") gives (x[i], y[i]); NumpyDataset("data.npz", keys=["x", "y"]) the
    same of the arrays of these names. Only the rows that are asked for are read from .npy files.
    """

    def __init__(self, *paths: Any, keys: Sequence[str] | None = None):
        if not paths:
            raise ArgumentError("NumpyDataset: needs at least one file")
        try:
            if str(paths[0]).endswith(".npz"):
                with np.load(paths[0], allow_pickle=False) as content:
                    names = list(content) if keys is None else list(keys)
                    self.arrays = [content[name] for name in names]
            else:
                self.arrays = [np.load(p, mmap_mode="r", allow_pickle=False) for p in paths]
        except (ValueError, KeyError, EOFError) as error:
            raise FileFormatError(f"NumpyDataset: {paths[0]}: {error}") from None
        lengths = [len(a) if a.ndim else -1 for a in self.arrays]
        if min(lengths) < 0 or len(set(lengths)) > 1:
            raise ArgumentError(f"NumpyDataset: the arrays' first axes differ: {lengths}")

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, index: int) -> tuple:
        return tuple(np.array(a[index]) for a in self.arrays)

    def __getitems__(self, indices: Sequence[int]) -> Rows:
        index = np.asarray(indices, dtype=np.int64)
        return Rows(tuple(np.asarray(a[index]) for a in self.arrays))
