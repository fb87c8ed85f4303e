"""What cannot be captured: errors that name the operation and the ways out; the way back."""

import warnings

import pytest

import monograph as mg
from monograph.core.errors import ArgumentError, TraceError
from monograph.testing import raises_message

HINT = """
  hint: use mg.where instead of `if` (or mg.cond, mg.scan, mg.while_loop), make the argument
  static (static_argnames), move this out of
  the function, or run it eagerly with jit(fallback=True)
"""


@pytest.mark.parametrize(
    "name, needs",
    [
        ("item", lambda x: x.sum().item()),
        ("float", lambda x: float(x.sum())),
        ("int", lambda x: int(x.sum())),
        ("bool", lambda x: 1 if x.sum() > 0 else 0),
        ("numpy", lambda x: x.numpy()),
        ("tolist", lambda x: x.tolist()),
    ],
)
def test_functions_that_need_a_value_are_refused_by_name(name, needs):
    x = mg.ones(3)
    with pytest.raises(TraceError) as caught:
        mg.jit(needs)(x)
    assert "the value of a " in caught.value.message
    assert "is not known while a function is being captured" in caught.value.message
    assert caught.value.hint.startswith("use mg.where instead of `if`")
    assert caught.value.place.file == __file__
    needs(x)  # and eagerly all is well


def test_the_whole_message_of_item():
    with raises_message(
        TraceError,
        "item: the value of a f32[] tensor is not known while a function is being captured" + HINT,
    ):
        mg.jit(lambda x: x.sum().item())(mg.ones(3))


def test_the_whole_message_of_a_condition():
    with raises_message(
        TraceError,
        "bool: the value of a bool[] tensor is not known while a function is being captured" + HINT,
    ):
        mg.jit(lambda x: x if x.sum() > 0 else -x)(mg.ones(3))


def test_a_tensor_that_outlives_its_capture_says_so():
    kept = []
    note = kept.append  # of C: not seen as state of the function

    @mg.jit
    def f(x):
        note(x * 2)
        return x + 1

    f(mg.ones(2))
    with raises_message(
        TraceError,
        """this tensor (f32[2]) was made inside a captured function and kept after it
          hint: return it from the function, or write it into an existing tensor in place
          (state.copy_(value))""",
    ):
        kept[0].numpy()
    with pytest.raises(TraceError, match="kept after it"):
        mg.jit(lambda x: x + kept[0])(mg.ones(2))


def test_an_attribute_that_is_assigned_is_that_of_each_call():
    class Counter:
        value = None

    c = Counter()

    @mg.jit
    def f(x):
        c.value = x * 2
        return x

    for k in range(3):
        f(mg.full((2,), float(k)))
        assert c.value.tolist() == [2 * k] * 2


def test_fallback_warns_once_and_runs():
    calls = []

    @mg.jit(fallback=True)
    def f(x):
        calls.append(1)
        return x * 2 if x.sum() > 0 else x * 3

    with pytest.warns(RuntimeWarning, match="jit: f runs eagerly: bool: the value of"):
        assert f(mg.ones(2)).tolist() == [2, 2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert f(-mg.ones(2)).tolist() == [-3, -3]
        assert f(mg.ones(2)).tolist() == [2, 2]
    assert len(calls) == 4  # the attempt, and three runs


def test_fallback_keeps_state_as_if_the_attempt_never_was():
    state = mg.zeros(2)

    @mg.jit(fallback=True)
    def f(x):
        state.add_(x)
        return state * 2 if state.sum() > 0 else state

    with pytest.warns(RuntimeWarning):
        assert f(mg.ones(2)).tolist() == [2, 2]
    assert f(mg.ones(2)).tolist() == [4, 4]
    assert state.tolist() == [2, 2]


def test_errors_of_operations_come_as_they_are():
    from monograph.core.errors import ShapeError

    with pytest.raises(ShapeError, match="matmul"):
        mg.jit(lambda x: x @ x)(mg.ones(2, 3))
    assert mg.jit(lambda x: x * 2)(mg.ones(1)).tolist() == [2]  # no capture is left in progress


def test_jit_needs_a_function():
    with raises_message(ArgumentError, "jit: needs a function, got int"):
        mg.jit(3)


def test_bad_indices_are_found_when_the_program_runs():
    table = mg.arange(6.0).reshape(3, 2)
    f = mg.jit(lambda i: table[i])
    assert f(mg.tensor([0, 2])).tolist() == [[0, 1], [4, 5]]
    with pytest.raises(IndexError, match="index"):
        f(mg.tensor([0, 3]))
    assert f(mg.tensor([1, -1])).tolist() == [[2, 3], [4, 5]]
