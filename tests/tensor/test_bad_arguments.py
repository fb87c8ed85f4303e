"""Wrong kinds of arguments: every function says which one, never an AttributeError from inside."""

import inspect

import pytest

import monograph as mg
from monograph.core.errors import ArgumentTypeError, MonographError
from monograph.ops.align import FUNCTIONAL, FUNCTIONS

MODULES = {
    "shaping", "joining", "triangular", "gathering", "sorting", "arranging", "views", "selection",
    "indexing", "facts",
}  # fmt: skip
NAMED = {
    name: f
    for name, f in {**FUNCTIONAL, **FUNCTIONS}.items()
    if f.__module__.split(".")[-1] in MODULES
}
NUMBERS = {
    "bucketize",
    "searchsorted",
    "kron",
    "isin",
    "block_diag",
}  # take numbers for tensors in places


def first_arguments(f, bad):
    """Arguments for f: `bad` first, then what may stand in the other places."""
    required = [
        p
        for p in inspect.signature(f).parameters.values()
        if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    indices = mg.tensor([0, 1])
    rest = {
        "dim": 0, "dim0": 0, "dim1": 0, "shape": (2,), "k": 1, "start": 0, "length": 1,
        "pad": (1, 1), "split_size_or_sections": 1, "chunks": 1, "indices_or_sections": 1,
        "value": 1.0, "q": 0.5, "reduce": "sum", "sizes": (1, 1), "size": (2,), "shifts": 1,
        "source": mg.ones(2), "destination": 0, "mask": mg.tensor([True, False]),
        "indices": (indices,) if f.__name__ == "index_put" else indices,
    }  # fmt: skip
    return [bad] + [rest.get(p.name, indices) for p in required[1:]]


@pytest.mark.parametrize("name", sorted(NAMED))
@pytest.mark.parametrize("bad", [None, "a", object()], ids=["None", "str", "object"])
def test_what_is_no_tensor_is_named(name, bad):
    with pytest.raises(MonographError) as caught:
        NAMED[name](*first_arguments(NAMED[name], bad))
    assert isinstance(caught.value, ArgumentTypeError), caught.value.message
    assert type(bad).__name__ in caught.value.message


@pytest.mark.parametrize("name", sorted(set(NAMED) - NUMBERS))
def test_numbers_are_no_tensors_where_a_shape_is_needed(name):
    with pytest.raises(MonographError):
        NAMED[name](*first_arguments(NAMED[name], 3))


@pytest.mark.parametrize("name", ["cat", "stack", "vstack", "column_stack"])
def test_the_place_of_a_wrong_element_is_told(name):
    with pytest.raises(ArgumentTypeError) as caught:
        NAMED[name]((mg.ones(2), 5))
    assert "tensors[1] must be a tensor, got int" in caught.value.message


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda x: x.tril("a"), "tril: diagonal must be an int, got str 'a'"),
        (lambda x: x.sum(dim="a"), "sum: dim must be an int, got str 'a'"),
        (lambda x: x.transpose(0, 1.5), "transpose: dim must be an int, got float 1.5"),
        (lambda x: x.reshape(None), "reshape: size must be an int, got NoneType None"),
        (lambda x: x.gather(0, [0]), "gather: index must be a tensor, got list"),
        (lambda x: x.split("a"), "split: split_size must be an int, got str 'a'"),
        (lambda x: x.unbind(None), "unbind: dim must be an int, got NoneType None"),
        (lambda x: x.topk(None), "topk: k must be an int, got NoneType None"),
        (lambda x: mg.unsqueeze(5, 0), "unsqueeze: input must be a tensor, got int"),
        (lambda x: mg.unbind([1, 2]), "unbind: input must be a tensor, got list"),
    ],
)
def test_messages_of_wrong_kinds(f, message):
    with pytest.raises(ArgumentTypeError) as caught:
        f(mg.ones(2, 3))
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda: mg.zeros(2, -1), "zeros: sizes must not be negative, got (2, -1)"),
        (lambda: mg.arange(0, 5, 0), "arange: step must not be 0"),
        (
            lambda: mg.ones(2, 3).copy_(mg.ones(4, 2, 3)),
            "copy_: src of shape (4, 2, 3) does not fit into (2, 3)",
        ),
        (lambda: mg.fft.fft(mg.ones(3), n=-1), "fft.fft: n must be at least 1, got -1"),
        (
            lambda: mg.optim.SGD(mg.nn.Linear(1, 1), lr=0.1),
            "SGD: params must be an iterable of tensors or dicts, got Linear",
        ),
        (
            lambda: mg.nn.utils.clip_grad_norm_(mg.nn.Linear(1, 1), 1.0),
            "parameters must be an iterable of tensors, got Linear",
        ),
    ],
)
def test_messages_of_wrong_values(f, message):
    with pytest.raises(MonographError) as caught:
        f()
    assert caught.value.message == message
