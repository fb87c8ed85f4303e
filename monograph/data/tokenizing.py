"""Texts as token numbers, by the `tokenizers` library (the extra `text`)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import ArgumentError, FileFormatError


def _library() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise ArgumentError(
            "Tokenize: needs tokenizers, which is not installed",
            hint="pip install monograph[text]",
        ) from None
    return tokenizers


class Tokenize:
    """A transform: a text becomes its token numbers, an int64 array (T,).

    tokenizer   a tokenizer.json, or an object of the library
    max_length  longer texts are cut off
    pad_to      shorter ones are filled up to this length with the number `pad`
    special     add the tokens that the tokenizer puts around texts

    `decode` goes back. Objects can go to worker processes.
    """

    def __init__(
        self,
        tokenizer: Any,
        max_length: int | None = None,
        pad_to: int | None = None,
        pad: int = 0,
        special: bool = True,
    ):
        if isinstance(tokenizer, (str, Path)):
            text = Path(tokenizer).read_text(encoding="utf-8")
            try:
                tokenizer = _library().Tokenizer.from_str(text)
            except Exception as error:  # the library raises this very class
                raise FileFormatError(f"{Path(tokenizer).name}: {error}") from None
        if pad_to is not None and max_length is not None and max_length > pad_to:
            raise ArgumentError(f"Tokenize: max_length={max_length} is more than pad_to={pad_to}")
        self.tokenizer = tokenizer
        self.max_length = pad_to if max_length is None else max_length
        self.pad_to, self.pad, self.special = pad_to, pad, special

    def __len__(self) -> int:
        return self.tokenizer.get_vocab_size()

    def __call__(self, text: str) -> np.ndarray:
        if not isinstance(text, str):
            raise ArgumentError(f"Tokenize: needs a text, got {type(text).__name__}")
        numbers = self.tokenizer.encode(text, add_special_tokens=self.special).ids
        numbers = np.asarray(numbers[: self.max_length], np.int64)
        if self.pad_to is None:
            return numbers
        whole = np.full(self.pad_to, self.pad, np.int64)
        whole[: len(numbers)] = numbers
        return whole

    def decode(self, numbers: Any) -> str:
        """The text of token numbers (special tokens are left out)."""
        return self.tokenizer.decode([int(n) for n in numbers])

    def save(self, path: Any) -> None:
        """Write the tokenizer as tokenizer.json."""
        Path(path).write_text(self.tokenizer.to_str(), encoding="utf-8")


def train_tokenizer(
    texts: Iterable[str], size: int = 1000, special: Iterable[str] = ("<pad>",)
) -> Any:
    """A byte-pair tokenizer of at most `size` tokens that can write every text; for Tokenize.

    special  tokens that come first (numbers 0, 1, ...)
    """
    library = _library()
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(special),
        initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
