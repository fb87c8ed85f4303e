"""Nested structures to leaves and back."""

from collections import OrderedDict, namedtuple

import pytest

from monograph.core import pytree

Pair = namedtuple("Pair", ["first", "second"])


@pytest.mark.parametrize(
    "tree",
    [1, (), [], {}, (1, 2), [1, (2, 3)], {"b": 1, "a": [2]}, Pair(1, (2, 3)), None,
     OrderedDict(b=1, a=2), {"x": None, "y": (1,)}],
)  # fmt: skip
def test_flatten_and_unflatten_are_inverse(tree):
    leaves, treedef = pytree.flatten(tree)
    again = treedef.unflatten(leaves)
    assert again == tree and type(again) is type(tree)


def test_structures_compare_and_hash():
    a = pytree.flatten({"x": 1, "y": (2, 3)})[1]
    b = pytree.flatten({"x": 7, "y": (8, 9)})[1]
    c = pytree.flatten({"x": 7, "y": [8, 9]})[1]
    assert a == b and hash(a) == hash(b) and a != c
