"""TensorBoardLogger: event files that TensorBoard reads, written without TensorBoard.

The format: records of length, checksum of the length, content, checksum of the content, all little
endian; the checksum is CRC-32C, rotated and offset (TensorFlow's core/lib/io/record_writer.h). The
content is a protocol-buffer Event (tensorflow/core/util/event.proto); `_field` writes the few kinds
of fields that are needed.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from typing import Any

import numpy as np

from .loggers import FileLogger
from .png import as_pixels, encode_png


class TensorBoardLogger(FileLogger):
    """Write scalars, histograms, images and texts to event files in <save_dir>/<name>/version_<n>/.

    >>> import tempfile
    >>> logger = TensorBoardLogger(tempfile.mkdtemp())
    >>> logger.log_metrics({"loss": 0.5}, step=1)
    >>> logger.log_histogram("weights", [0.0, 1.0, 1.5], step=1)
    >>> logger.finalize()
    """

    _file: Any = None
    _path: Any = None  # one file for all that this logger writes

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        values = b""
        for name, value in metrics.items():
            simple = _field(1, name) + _field(2, float(value), "f")
            values += _field(1, simple)
        if values:
            self._event(step, _field(5, values))

    def log_histogram(self, name: str, values: Any, step: int, bins: int = 64) -> None:
        """The distribution of numbers (of any shape) under a name; nan and infinities left out."""
        numbers = np.asarray(values, dtype=np.float64).reshape(-1)
        numbers = numbers[np.isfinite(numbers)]
        if not numbers.size:
            return
        counts, edges = np.histogram(numbers, bins)
        histogram = b"".join(
            _field(number, float(value), "d")
            for number, value in enumerate(
                (numbers.min(), numbers.max(), numbers.size, numbers.sum(), (numbers**2).sum()), 1
            )
        )
        histogram += _field(6, edges[1:].astype("<f8").tobytes())
        histogram += _field(7, counts.astype("<f8").tobytes())
        self._event(step, _field(5, _field(1, _field(1, name) + _field(5, histogram))))

    def log_image(self, name: str, image: Any, step: int, caption: str = "") -> None:
        """An image (see Logger.log_image) under a name."""
        pixels = as_pixels(image)
        height, width, channels = pixels.shape
        fields = (
            (1, height),
            (2, width),
            (3, channels),
            (4, encode_png(pixels.transpose(2, 0, 1))),
        )
        content = b"".join(_field(number, value) for number, value in fields)
        self._event(step, _field(5, _field(1, _field(1, name) + _field(4, content))))

    def log_text(self, name: str, text: str, step: int) -> None:
        """A text (Markdown) under a name."""
        # Summary value: a tensor (8) of dtype string (7) with metadata that names the plugin.
        tensor = _field(1, 7) + _field(2, b"") + _field(8, text)
        metadata = _field(1, _field(1, "text"))
        value = _field(1, name) + _field(9, metadata) + _field(8, tensor)
        self._event(step, _field(5, _field(1, value)))

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        if params:
            rows = "\n".join(f"| {name} | {value} |" for name, value in params.items())
            self.log_text("hyper-parameters", f"| name | value |\n|---|---|\n{rows}", 0)

    def finalize(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _event(self, step: int, content: bytes) -> None:
        if self._file is None:
            is_new = self._path is None
            if is_new:
                self.log_dir.mkdir(parents=True, exist_ok=True)
                host = f"{socket.gethostname()}.{os.getpid()}"
                self._path = self.log_dir / f"events.out.tfevents.{int(time.time())}.{host}"
            self._file = open(self._path, "ab")
            if is_new:
                self._record(_field(1, time.time(), "d") + _field(3, "brain.Event:2"))
        self._record(_field(1, time.time(), "d") + _field(2, int(step)) + content)

    def _record(self, event: bytes) -> None:
        length = struct.pack("<Q", len(event))
        self._file.write(length + _checksum(length) + event + _checksum(event))
        self._file.flush()


def _field(number: int, value: Any, kind: str = "") -> bytes:
    """One field of a protocol buffer: a varint, text or bytes, or a float ("f") or double ("d")."""
    if kind == "d":
        return _varint(number << 3 | 1) + struct.pack("<d", value)
    if kind == "f":
        return _varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    value &= 2**64 - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_TABLE = _table()


def _checksum(content: bytes) -> bytes:
    """CRC-32C (Castagnoli), rotated right by 15 bits, plus a constant."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = _TABLE[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
