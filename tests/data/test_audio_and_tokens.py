"""Transforms of sound and of text."""

import pickle

import numpy as np
import pytest

from monograph.core.errors import ArgumentError, FileFormatError, ShapeError
from monograph.data import Tokenize, audio, train_tokenizer


def tone(hertz, rate=8000, seconds=0.5):
    return np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate).astype(np.float32)


def test_a_tone_is_where_its_frequency_is():
    found = audio.Spectrogram(400, 100)(tone(1000))
    assert found.shape == (201, 41) and found.dtype == np.float32
    assert (found[:, 2:-2].argmax(0) == 50).all()  # 1000 Hz / (8000 Hz / 400)
    # Hann window: the peak is (sum of the window / 2) squared.
    np.testing.assert_allclose(found[50, 20], (200 / 2) ** 2, rtol=1e-4)
    both = audio.Spectrogram(400, 100)(np.stack([tone(1000), tone(2000)]))
    assert both[:, :, 20].argmax(1).tolist() == [50, 100]


def test_spectrograms_are_those_of_torch():
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    wave = np.random.default_rng(0).normal(size=(2, 1000))
    x = torch.stft(torch.tensor(wave), 128, 32, window=torch.hann_window(128, dtype=torch.float64),
                   return_complex=True)  # fmt: skip
    np.testing.assert_allclose(audio.Spectrogram(128, 32)(wave), x.abs().numpy() ** 2, atol=1e-9)


def test_mel_bands_cover_the_range_once():
    mel = audio.MelSpectrogram(8000, 400, 100, bands=20, low=100, high=3800)
    # Between the tips of the first triangle and the last.
    inside = slice(mel.weights[0].argmax() + 1, mel.weights[-1].argmax())
    np.testing.assert_allclose(mel.weights.sum(0)[inside], 1.0, atol=1e-9)
    loud = mel(tone(1000))[:, 20].argmax()
    hertz = np.arange(201) * 20
    assert abs(hertz[mel.weights[loud].argmax()] - 1000) < 100
    with pytest.raises(ArgumentError, match="needs 0 <= low < high <= 4000, got 0 and 5000"):
        audio.MelSpectrogram(8000, high=5000)


def test_what_is_random_stays_within_its_bounds():
    wave = tone(440)
    power = (wave**2).mean()
    for _ in range(20):
        shifted = audio.RandomShift(50)(wave)
        assert shifted.shape == wave.shape
        kept = np.correlate(shifted, wave, "same").max() / (wave**2).sum()
        assert kept > 0.95
        gain = 20 * np.log10(np.abs(audio.RandomGain(-3, 3)(wave)).max() / np.abs(wave).max())
        assert -3.001 <= gain <= 3.001
        noise = audio.RandomNoise(10, 20)(wave) - wave
        assert 9 < 10 * np.log10(power / (noise**2).mean()) < 21
        masked = audio.MaskSpectrogram(4, 6, value=-1)(np.ones((2, 10, 30), np.float32))
        assert (masked[0] == masked[1]).all()
        rows, columns = (masked[0] == -1).all(1).sum(), (masked[0] == -1).all(0).sum()
        assert (
            rows <= 4
            and columns <= 6
            and (masked == -1).sum() == 2 * (rows * 30 + columns * 10 - rows * columns)
        )
    with pytest.raises(
        ShapeError, match=r"RandomShift: needs a wave of floats \(..., T\), got int"
    ):
        audio.RandomShift(3)(np.arange(4))


@pytest.fixture
def tokenizer():
    pytest.importorskip("tokenizers", reason="tokenizers is not installed")
    return train_tokenizer(["the cat sat on the mat"] * 20, size=300)


def test_texts_become_numbers_and_come_back(tokenizer, tmp_path):
    tokenize = Tokenize(tokenizer)
    numbers = tokenize("the cat ate: 42 ä")
    assert numbers.dtype == np.int64 and tokenize.decode(numbers) == "the cat ate: 42 ä"
    assert len(numbers) < len("the cat ate: 42 ä".encode()) and len(tokenize) <= 300
    tokenize.save(tmp_path / "tokenizer.json")
    again = pickle.loads(pickle.dumps(Tokenize(tmp_path / "tokenizer.json")))
    assert again("the mat").tolist() == tokenize("the mat").tolist()


def test_lengths_are_cut_and_filled(tokenizer):
    numbers = Tokenize(tokenizer)("the cat sat")
    filled = Tokenize(tokenizer, pad_to=8)("the cat sat")
    assert filled.tolist() == [*numbers, *[0] * (8 - len(numbers))]
    assert Tokenize(tokenizer, max_length=2)("the cat sat").tolist() == numbers[:2].tolist()
    with pytest.raises(ArgumentError, match="max_length=9 is more than pad_to=8"):
        Tokenize(tokenizer, max_length=9, pad_to=8)
    with pytest.raises(ArgumentError, match="Tokenize: needs a text, got int"):
        Tokenize(tokenizer)(3)


def test_a_file_that_is_no_tokenizer(tokenizer, tmp_path):
    (tmp_path / "t.json").write_text("{}")
    with pytest.raises(FileFormatError, match="t.json: "):
        Tokenize(tmp_path / "t.json")
