"""Whole messages: the text that a user sees, without the line of the test that caused it."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from monograph.core.errors import MonographError


@contextmanager
def raises_message(kind: type, expected: str):
    """Expect `kind` with exactly this message; white space at line ends and indents is joined."""
    with pytest.raises(MonographError) as caught:
        yield
    error = caught.value
    assert type(error) is kind
    made = error.message + (f" hint: {error.hint}" if error.hint else "")
    assert made == " ".join(expected.split())
