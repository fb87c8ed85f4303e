"""Arrays as PNG files, without a library for images.

The format: a signature, then chunks of length, name, content and CRC-32: the header, the rows of
pixels (each after a byte that names its filter, here none) compressed by zlib, and an end
(ISO/IEC 15948).
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np

import monograph as mg

from ..core.errors import ShapeError


def as_pixels(image: Any) -> np.ndarray:
    """An image (C, H, W) or (H, W), floats in [0, 1] or uint8, as (H, W, C) of uint8.

    Floats outside of [0, 1] become 0 or 1, nan becomes 0. ShapeError unless C is 1 or 3.
    """
    array = image.detach().numpy() if isinstance(image, mg.Tensor) else np.asarray(image)
    shape = array.shape
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or array.shape[0] not in (1, 3) or not array.size:
        raise ShapeError(f"image: needs (H, W), (1, H, W) or (3, H, W), got {shape}")
    if array.dtype != np.uint8:
        array = np.nan_to_num(array.astype(np.float32))
        array = (np.clip(array, 0.0, 1.0) * 255 + 0.5).astype(np.uint8)
    return np.ascontiguousarray(array.transpose(1, 2, 0))


def encode_png(image: Any) -> bytes:
    """The content of a PNG file of an image (see as_pixels).

    >>> import numpy as np
    >>> encode_png(np.zeros((2, 2)))[:4]
    b'\\x89PNG'
    """
    pixels = as_pixels(image)
    height, width, channels = pixels.shape
    rows = np.zeros((height, 1 + width * channels), np.uint8)  # filter 0, then the pixels
    rows[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    size, check = struct.pack(">I", len(content)), struct.pack(">I", zlib.crc32(name + content))
    return size + name + content + check
