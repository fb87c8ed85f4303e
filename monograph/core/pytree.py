"""Trees of containers: flatten to a list of leaves and a description, and back.

Containers are tuple, list, dict, OrderedDict, namedtuple, None (no leaves) and what is registered
with `register`. Everything else is a leaf. Descriptions compare equal where the structure is equal.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .errors import ArgumentError

_registered: dict[type, tuple[Callable, Callable]] = {}


def register(cls: type, flatten_fn: Callable, unflatten_fn: Callable) -> None:
    """Make instances of `cls` containers.

    flatten_fn(x) -> (children, context);  unflatten_fn(children, context) -> x
    """
    _registered[cls] = (flatten_fn, unflatten_fn)


@dataclass(frozen=True, slots=True)
class TreeDef:
    """The structure of a tree. `kind` None is a leaf."""

    kind: type | None
    context: Any
    children: tuple[TreeDef, ...]

    @property
    def num_leaves(self) -> int:
        return 1 if self.kind is None else sum(c.num_leaves for c in self.children)

    def unflatten(self, leaves: Any) -> Any:
        leaves = list(leaves)
        if len(leaves) != self.num_leaves:
            raise ArgumentError(
                f"unflatten: the tree has {self.num_leaves} leaves, got {len(leaves)}"
            )
        return self.build(iter(leaves))

    def build(self, leaves: Any) -> Any:
        """The tree of the next leaves of an iterator, of which there must be enough."""
        kind = self.kind
        if kind is None:
            return next(leaves)
        children = [next(leaves) if c.kind is None else c.build(leaves) for c in self.children]
        if kind is type(None):
            return None
        if kind in (tuple, list):
            return kind(children)
        if kind in (dict, OrderedDict):
            return kind(zip(self.context, children))
        if kind in _registered:
            return _registered[kind][1](children, self.context)
        return kind(*children)  # namedtuple


LEAF = TreeDef(None, None, ())


def flatten(tree: Any) -> tuple[list[Any], TreeDef]:
    """(leaves in order, structure)."""
    leaves: list[Any] = []
    return leaves, _flatten(tree, leaves)


def _flatten(x: Any, leaves: list[Any]) -> TreeDef:
    kind = type(x)
    context: Any = None
    children: Any
    if x is None:
        children = ()
    elif kind in (tuple, list):
        children = x
    elif kind in (dict, OrderedDict):
        context, children = tuple(x), x.values()
    elif kind in _registered:
        children, context = _registered[kind][0](x)
    elif isinstance(x, tuple) and hasattr(kind, "_fields"):
        children = x
    else:
        leaves.append(x)
        return LEAF
    return TreeDef(kind, context, tuple(_flatten(c, leaves) for c in children))


def tree_map(f: Callable, tree: Any, *rest: Any) -> Any:
    """Apply f to corresponding leaves; the result has the structure of `tree`."""
    leaves, treedef = flatten(tree)
    others = []
    for other in rest:
        other_leaves, other_def = flatten(other)
        if other_def != treedef:
            raise ArgumentError(f"tree_map: structures differ: {treedef} and {other_def}")
        others.append(other_leaves)
    return treedef.unflatten(f(*xs) for xs in zip(leaves, *others))


def tree_leaves(tree: Any) -> list[Any]:
    return flatten(tree)[0]


# PyTorch's names (torch.utils._pytree)
tree_flatten = flatten


def tree_unflatten(leaves: Any, treespec: TreeDef) -> Any:
    """The tree of this structure with these leaves."""
    return treespec.unflatten(list(leaves))


def tree_map_only(kind: Any, f: Callable, tree: Any) -> Any:
    """The tree with f applied to the leaves of a type."""
    return tree_map(lambda x: f(x) if isinstance(x, kind) else x, tree)
