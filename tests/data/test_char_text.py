"""Characters as numbers and back, windows with shifted targets, the standard library's text."""

import numpy as np
import pytest

import monograph as mg
from monograph.core.errors import ArgumentError
from monograph.data import (
    CharText,
    CharVocabulary,
    DataLoader,
    RandomSampler,
    standard_library_text,
)


def check(error_type, message, call):
    with pytest.raises(error_type) as error:
        call()
    assert str(error.value) == message


def test_vocabulary_reads_back_any_text():
    text = "Fünf 日本 \U0001f600 \n\t\0\ud800"
    vocabulary = CharVocabulary(text)
    assert vocabulary.chars == "".join(sorted(set(text)))
    numbers = vocabulary.encode(text)
    assert numbers.dtype == np.int64 and numbers.tolist() == [
        vocabulary.chars.index(c) for c in text
    ]
    assert vocabulary.decode(numbers) == text
    assert vocabulary.decode(mg.from_numpy(numbers)) == text
    assert vocabulary.encode("").shape == (0,) and vocabulary.decode([]) == ""


def test_characters_and_numbers_without_a_meaning_are_errors():
    vocabulary = CharVocabulary("abc")
    check(
        ArgumentError,
        "encode: 'z' at position 2 is not in the vocabulary of 3 characters",
        lambda: vocabulary.encode("abzc"),
    )
    check(
        ArgumentError,
        "encode: 'B' at position 0 is not in the vocabulary of 3 characters",
        lambda: vocabulary.encode("B"),
    )
    check(
        ArgumentError,
        "decode: numbers must be in 0 .. 2, got -1 .. 3",
        lambda: vocabulary.decode([3, -1]),
    )


TEXT = "".join(chr(32 + i * i % 90) for i in range(200))


def test_parts_are_nine_tenths_and_one_tenth_with_one_vocabulary():
    train, val = CharText(TEXT, 8), CharText(TEXT, 8, split="val")
    assert train.text == TEXT[:180] and val.text == TEXT[180:]
    assert train.vocabulary.chars == val.vocabulary.chars
    assert (len(train), len(val)) == (172, 12)
    assert CharText(TEXT, 8, split="all").text == TEXT


def test_targets_are_the_inputs_one_character_on():
    data = CharText(TEXT, 8)
    for i in (0, 100, len(data) - 1):
        x, y = data[i]
        assert x.dtype == y.dtype == mg.int64
        assert data.vocabulary.decode(x) == TEXT[i : i + 8]
        assert data.vocabulary.decode(y) == TEXT[i + 1 : i + 9]
    assert data[-1][0].tolist() == data[len(data) - 1][0].tolist()
    with pytest.raises(IndexError):
        data[len(data)]


def test_loader_gives_the_same_windows_at_once():
    data = CharText(TEXT, 8)
    mg.manual_seed(0)
    sampler = RandomSampler(data, replacement=True, num_samples=6)
    x, y = next(iter(DataLoader(data, batch_size=6, sampler=sampler)))
    assert tuple(x.shape) == tuple(y.shape) == (6, 8)
    assert (x.numpy()[:, 1:] == y.numpy()[:, :-1]).all()
    rows = data.__getitems__([5, 0])
    assert rows[0][1].tolist() == data[5][1].tolist()


def test_random_windows_repeat_with_the_seed():
    data = CharText(TEXT, 8)

    def draw(seed):
        mg.manual_seed(seed)
        return [part.tolist() for part in data.batch(5)]

    assert draw(1) == draw(1) != draw(2)
    x, y = draw(1)
    assert np.array(x).shape == (5, 8)
    assert all(data.vocabulary.decode(a) in TEXT for a in x)
    assert [a[1:] for a in x] == [b[:-1] for b in y]


def test_part_shorter_than_a_window_is_an_error():
    check(
        ArgumentError,
        "CharText: the val part has 20 characters; windows of block_size=20 and their targets "
        "need 21",
        lambda: CharText(TEXT, 20, split="val"),
    )
    check(
        ArgumentError,
        'CharText: split must be "train", "val" or "all", got \'test\'',
        lambda: CharText(TEXT, 8, split="test"),
    )


def test_standard_library_gives_a_text_of_the_size_asked_for():
    text = standard_library_text(300_000)
    assert len(text) == 300_000 and text.isascii() and "def " in text
    assert standard_library_text(1000) == text[:1000]
    assert len(CharVocabulary(text)) < 110
