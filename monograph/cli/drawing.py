"""Images in a terminal: grey levels as block characters."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

_BLOCKS = " ░▒▓█"
_ASCII = " .:*#"


def shades(file=None) -> str:
    """Five characters from dark to light that the stream can print."""
    encoding = getattr(file or sys.stdout, "encoding", None) or "ascii"
    try:
        _BLOCKS.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return _ASCII
    return _BLOCKS


def draw(image: np.ndarray, levels: str = _BLOCKS) -> list[str]:
    """The lines of one image (H, W) with values in [0, 1].

    A character is twice as high as wide: small images get two per pixel, large ones one for two
    pixels.
    """
    image = np.clip(np.asarray(image, np.float64), 0.0, 1.0)
    if image.shape[1] <= 16:
        image = np.repeat(image, 2, axis=1)
    else:
        even = image[: image.shape[0] // 2 * 2]
        image = (even[0::2] + even[1::2]) / 2
    numbers = np.minimum((image * len(levels)).astype(int), len(levels) - 1)
    return ["".join(levels[n] for n in row) for row in numbers.tolist()]


def gallery(
    images: Sequence[np.ndarray], captions: Sequence[str], columns: int = 76, levels: str = _BLOCKS
) -> str:
    """Images with captions below, in rows of at most `columns` characters."""
    drawn = [draw(image, levels) for image in images]
    width = max(len(drawn[0][0]), max(map(len, captions))) + 2
    per_row = max(1, columns // width)
    lines = []
    for start in range(0, len(drawn), per_row):
        row, texts = drawn[start : start + per_row], captions[start : start + per_row]
        for parts in zip(*row):
            lines.append("".join(part.ljust(width) for part in parts).rstrip())
        lines.append("".join(text.center(width - 2) + "  " for text in texts).rstrip())
        lines.append("")
    return "\n".join(lines)
