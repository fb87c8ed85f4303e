"""Errors: the text, the hint, and the user's line."""

import pickle

import pytest

import monograph as mg
from monograph.core import errors


def test_text_has_message_hint_and_place():
    with pytest.raises(errors.ShapeError) as caught:
        raise errors.ShapeError("f: bad", hint="do this")
    text = errors.render(caught.value).splitlines()
    assert text[0] == "ShapeError: f: bad" and text[1] == "  hint: do this"
    assert text[2].startswith("  at test_errors.py:")
    assert "in test_text_has_message_hint_and_place: raise errors.ShapeError" in text[2]


def test_place_is_the_users_line_not_ours():
    with pytest.raises(errors.ShapeError) as caught:
        mg.zeros(2) + mg.zeros(3)
    assert caught.value.place.file == __file__
    assert caught.value.place.function == "test_place_is_the_users_line_not_ours"


def test_errors_are_also_pythons_usual_ones():
    assert issubclass(errors.ShapeError, ValueError)
    assert issubclass(errors.DTypeError, TypeError)
    assert issubclass(errors.IndexRangeError, IndexError)
    assert issubclass(errors.StateDictError, KeyError)
    for name in ("ShapeError", "DTypeError", "DeviceError", "GradError", "TraceError"):
        assert issubclass(getattr(errors, name), errors.MonographError)


def test_errors_survive_pickling():
    made = errors.DTypeError("f: bad", hint="do this")
    again = pickle.loads(pickle.dumps(made))
    assert type(again) is errors.DTypeError
    assert (again.message, again.hint, again.place) == (made.message, made.hint, made.place)


def test_state_dict_error_prints_its_message():
    assert str(errors.StateDictError("missing key 'a'")) == "missing key 'a'"
