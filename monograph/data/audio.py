"""Transforms of sound: waves are float arrays (..., T), spectrograms (..., F, T).

What is random is drawn from numpy.random, which loaders seed for each batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.errors import ArgumentError, ShapeError


def _wave(operation: str, wave: Any) -> np.ndarray:
    array = np.asarray(wave)
    if array.ndim == 0 or array.dtype.kind != "f":
        raise ShapeError(
            f"{operation}: needs a wave of floats (..., T), got {array.dtype} {array.shape}"
        )
    return array


class Spectrogram:
    """The power of a wave at each frequency over time: (..., T) -> (..., size // 2 + 1, frames).

    size  samples of a window (Hann), hop between windows (None: a quarter)

    The wave is mirrored at its ends, so that frame k is centred on sample k * hop.
    """

    def __init__(self, size: int = 400, hop: int | None = None):
        if size < 2:
            raise ArgumentError(f"Spectrogram: size must be at least 2, got {size}")
        self.size, self.hop = size, hop or max(1, size // 4)
        self._window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)

    def __call__(self, wave: Any) -> np.ndarray:
        wave = _wave("Spectrogram", wave)
        half = self.size // 2
        if wave.shape[-1] <= half:
            raise ShapeError(f"Spectrogram: needs more than {half} samples, got {wave.shape[-1]}")
        padded = np.pad(wave, [(0, 0)] * (wave.ndim - 1) + [(half, half)], mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(padded, self.size, -1)
        found = np.fft.rfft(windows[..., :: self.hop, :] * self._window, axis=-1)
        return np.moveaxis(np.abs(found) ** 2, -1, -2).astype(wave.dtype)


class MelSpectrogram:
    """A spectrogram on the scale of hearing: (..., T) -> (..., bands, frames).

    rate    samples per second
    bands   triangles, evenly spaced in mel = 2595 * log10(1 + hertz / 700), from low to high
    log     the logarithm of the power (plus 1e-6)
    """

    def __init__(
        self,
        rate: int = 16000,
        size: int = 400,
        hop: int | None = None,
        bands: int = 80,
        low: float = 0.0,
        high: float | None = None,
        log: bool = True,
    ):
        high = rate / 2 if high is None else high
        if not 0 <= low < high <= rate / 2:
            raise ArgumentError(
                f"MelSpectrogram: needs 0 <= low < high <= {rate / 2:g}, got {low:g} and {high:g}"
            )
        self.spectrogram, self.log = Spectrogram(size, hop), log
        ends = 700 * (10 ** (np.linspace(*(_mel(f) for f in (low, high)), bands + 2) / 2595) - 1)
        hertz = np.arange(size // 2 + 1) * rate / size
        up = (hertz - ends[:-2, None]) / (ends[1:-1] - ends[:-2])[:, None]
        down = (ends[2:, None] - hertz) / (ends[2:] - ends[1:-1])[:, None]
        self.weights = np.clip(np.minimum(up, down), 0, None)

    def __call__(self, wave: Any) -> np.ndarray:
        power = self.spectrogram(wave)
        found = (self.weights @ power.astype(np.float64)).astype(power.dtype)
        return np.log(found + np.asarray(1e-6, found.dtype)) if self.log else found


def _mel(hertz: float) -> float:
    return 2595 * np.log10(1 + hertz / 700)


class RandomShift:
    """Move a wave by up to `most` samples to either side; zeros follow."""

    def __init__(self, most: int):
        self.most = most

    def __call__(self, wave: Any) -> np.ndarray:
        wave = _wave("RandomShift", wave)
        by = int(np.random.randint(-self.most, self.most + 1))
        moved = np.zeros_like(wave)
        if by >= 0:
            moved[..., by:] = wave[..., : wave.shape[-1] - by]
        else:
            moved[..., :by] = wave[..., -by:]
        return moved


class RandomGain:
    """Make a wave louder or softer by decibels in [low, high]."""

    def __init__(self, low: float = -6.0, high: float = 6.0):
        self.low, self.high = low, high

    def __call__(self, wave: Any) -> np.ndarray:
        wave = _wave("RandomGain", wave)
        return (wave * 10 ** (np.random.uniform(self.low, self.high) / 20)).astype(wave.dtype)


class RandomNoise:
    """Add white noise, `low` to `high` decibels below the wave's power."""

    def __init__(self, low: float = 10.0, high: float = 40.0):
        self.low, self.high = low, high

    def __call__(self, wave: Any) -> np.ndarray:
        wave = _wave("RandomNoise", wave)
        below = np.random.uniform(self.low, self.high)
        level = np.sqrt((wave.astype(np.float64) ** 2).mean() * 10 ** (-below / 10))
        return (wave + level * np.random.normal(size=wave.shape)).astype(wave.dtype)


class MaskSpectrogram:
    """Blank out bands and stretches of time (Park and others, SpecAugment).

    bands, frames  the largest width of a mask; count  masks of each kind; value  what is put there
    """

    def __init__(self, bands: int = 15, frames: int = 35, count: int = 1, value: float = 0.0):
        self.bands, self.frames, self.count, self.value = bands, frames, count, value

    def __call__(self, spectrogram: Any) -> np.ndarray:
        masked = np.array(spectrogram)
        if masked.ndim < 2:
            raise ShapeError(f"MaskSpectrogram: needs (..., F, T), got {masked.shape}")
        for _ in range(self.count):
            for axis, most in ((-2, self.bands), (-1, self.frames)):
                length = masked.shape[axis]
                width = int(np.random.randint(0, min(most, length) + 1))
                start = int(np.random.randint(0, length - width + 1))
                np.moveaxis(masked, axis, 0)[start : start + width] = self.value
        return masked
