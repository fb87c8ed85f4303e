"""Text as a sequence of characters: vocabulary, and windows to train a language model on."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..core.errors import ArgumentError, DataError
from .arrays import as_array, to_tensor
from .dataset import Dataset, Rows
from .randomness import Stream, draw_seed
from .sampler import check_positive


def standard_library_text(size_chars: int = 1_000_000) -> str:
    """Source text of Python's standard library: real text without a download.

    The modules at its top level that are plain ASCII, in the order of their names, cut off after
    `size_chars` characters. The same for every run of one Python version.
    """
    check_positive("standard_library_text", "size_chars", size_chars)
    folder = Path(sysconfig.get_paths()["stdlib"])
    parts, size = [], 0
    for path in sorted(folder.glob("*.py"), key=lambda path: path.name):
        content = path.read_bytes()
        if not content.isascii():
            continue
        parts.append(content.decode("ascii").replace("\r\n", "\n"))
        size += len(parts[-1])
        if size >= size_chars:
            break
    if not parts:
        raise DataError(
            f"standard_library_text: no source files in {folder}",
            hint="this Python comes without sources; give a text of your own",
        )
    return "".join(parts)[:size_chars]


class CharVocabulary:
    """The characters of a text, numbered in their order.

    >>> vocabulary = CharVocabulary("hello")
    >>> len(vocabulary), vocabulary.encode("hole").tolist(), vocabulary.decode([1, 0, 2, 2])
    (4, [1, 3, 2, 0], 'hell')
    """

    def __init__(self, text: Iterable[str]):
        self.chars = "".join(sorted(set(text)))
        self._points = np.array([ord(c) for c in self.chars], dtype=np.uint32)

    def __len__(self) -> int:
        return len(self.chars)

    def __repr__(self) -> str:
        return f"CharVocabulary({self.chars!r})"

    def encode(self, text: str) -> np.ndarray:
        """The numbers (int64) of the characters. ArgumentError for one that has none."""
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        if not points.size:
            return np.empty(0, dtype=np.int64)
        if not len(self):
            raise ArgumentError("encode: the vocabulary is empty")
        numbers = np.minimum(np.searchsorted(self._points, points), len(self) - 1)
        unknown = np.flatnonzero(self._points[numbers] != points)
        if unknown.size:
            position = int(unknown[0])
            raise ArgumentError(
                f"encode: {text[position]!r} at position {position} is not in the vocabulary "
                f"of {len(self)} characters"
            )
        return numbers.astype(np.int64)

    def decode(self, numbers) -> str:
        """The text that the numbers stand for. ArgumentError for a number out of range."""
        numbers = as_array(numbers).reshape(-1)
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < len(self):
            raise ArgumentError(
                f"decode: numbers must be in 0 .. {len(self) - 1}, got "
                f"{numbers.min()} .. {numbers.max()}"
            )
        return "".join(self.chars[n] for n in numbers.tolist())


class CharText(Dataset):
    """Windows of a text and, as targets, the same windows one character on.

    text        the whole text; None is standard_library_text()
    block_size  characters per window (T)
    split       "train" (the first nine tenths), "val" (the last tenth) or "all"
    vocabulary  to encode with; None makes one of the whole text, so that the parts share it

    Sample i is (tokens[i : i+T], tokens[i+1 : i+T+1]), both int64 (T,). There is one for every
    start, so an epoch is long: `RandomSampler(data, replacement=True, num_samples=n)` bounds it,
    or `batch(n)` gives n random windows at once.

    ArgumentError if the part has fewer than block_size + 1 characters.

    >>> data = CharText("abcabcabcabcabcabcab", block_size=4)
    >>> len(data), data.vocabulary.decode(data[1][0]), data.vocabulary.decode(data[1][1])
    (14, 'bcab', 'cabc')
    """

    def __init__(
        self,
        text: str | None = None,
        block_size: int = 128,
        split: str = "train",
        vocabulary: CharVocabulary | None = None,
    ):
        check_positive("CharText", "block_size", block_size)
        if split not in ("train", "val", "all"):
            raise ArgumentError(f'CharText: split must be "train", "val" or "all", got {split!r}')
        text = standard_library_text() if text is None else text
        self.vocabulary = vocabulary or CharVocabulary(text)
        self.block_size = block_size
        boundary = len(text) * 9 // 10
        part = {"train": slice(0, boundary), "val": slice(boundary, None), "all": slice(None)}
        self.text = text[part[split]]
        if len(self.text) <= block_size:
            raise ArgumentError(
                f"CharText: the {split} part has {len(self.text)} characters; windows of "
                f"block_size={block_size} and their targets need {block_size + 1}"
            )
        self.tokens = self.vocabulary.encode(self.text)

    def __len__(self) -> int:
        return len(self.tokens) - self.block_size

    def __getitem__(self, index):
        inputs, targets = self._windows(np.array([range(len(self))[index]]))
        return to_tensor(inputs[0]), to_tensor(targets[0])

    def __getitems__(self, indices) -> Rows:
        inputs, targets = self._windows(np.asarray(indices, dtype=np.int64))
        return Rows((to_tensor(inputs), to_tensor(targets)))

    def batch(self, batch_size: int, generator=None) -> tuple:
        """Random windows: inputs and targets, each int64 (batch_size, block_size)."""
        check_positive("batch", "batch_size", batch_size)
        starts = Stream(draw_seed(generator)).integers(len(self), batch_size)
        return tuple(to_tensor(part) for part in self._windows(starts))

    def _windows(self, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        windows = self.tokens[starts[:, None] + np.arange(self.block_size + 1)]
        return np.ascontiguousarray(windows[:, :-1]), np.ascontiguousarray(windows[:, 1:])
