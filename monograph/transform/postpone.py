"""Sums over a loop that can be left until after it: the gradients of constants.

The cotangent of a scan's constant is a sum over its iterations. Where each term is a product of
values of the iteration, as of a weight, one product over all iterations together is far better than
many small ones that add to a large array: dW = sum over t of h[t]' g[t] is one contraction of the
stacked h and g. Sums and movements of such terms follow, since they are linear.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import Any

from ..ir.graph import Value
from ..ir.op import Movement
from ..ops.arith import Add
from ..ops.contract import Contract
from ..ops.movement import Sum

Recipe = Callable[[Callable[[Value], Any], Callable[[Value], Any]], Any]


class Postponed:
    """Recipes for sums over iterations. `stacked` collects the values that must be kept of each.

    A recipe takes stack(v), all iterations' values of v along a new first axis, and constant(v).
    """

    def __init__(self, constants: set[Value], kept: set[Value]):
        self.constants = constants
        self.kept = kept  # stacked anyway
        self.stacked: dict[Value, None] = {}

    def add(self, v: Value) -> Recipe | None:
        """How to get the sum of v over all iterations afterwards; None: it must be added up."""
        found: dict[Value, None] = {}
        recipe = self._recipe(v, found)
        if recipe is not None:
            self.stacked.update(found)
        return recipe

    def _recipe(self, v: Value, found: dict[Value, None]) -> Recipe | None:
        if v.node is None:
            return None
        op, inputs = v.node.op, v.node.inputs
        if isinstance(op, Add) and all(isinstance(i, Value) for i in inputs):
            parts = [self._recipe(i, found) for i in inputs]
            if None in parts:
                return None
            return lambda stack, constant: op(*(p(stack, constant) for p in parts))  # type: ignore[misc]
        if isinstance(op, Movement) and not getattr(op, "value", 0):  # Pad may add elements
            inner = self._recipe(inputs[0], found)
            return None if inner is None else lambda stack, constant: op(inner(stack, constant))
        if isinstance(op, Contract):
            return self._product(op, inputs[0], inputs[1], found)
        if isinstance(op, Sum):
            x = inputs[0]
            if x not in self.kept and x not in self.stacked and x not in found:
                return None
            found[x] = None
            axes = (0, *(a + 1 for a in op.axes))
            return lambda stack, constant: Sum(axes)(stack(x))
        return None

    def _product(self, op: Contract, x: Value, y: Value, found: dict[Value, None]) -> Recipe | None:
        if x in self.constants or y in self.constants:
            return None
        a, b, out = op.parts()
        t = next(c for c in string.ascii_letters if c not in op.signature)
        found[x] = found[y] = None
        whole = Contract(f"{t}{a},{t}{b}->{out}")
        return lambda stack, constant: whole(stack(x), stack(y))
