"""Contraction: matrix products and everything that is one in disguise (einsum, linear, bmm)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.errors import ShapeError
from ..ir.op import Aval, Contraction, op


@op
class Contract(Contraction):
    """Multiply two tensors over named axes: "bmk,bkn->bmn".

    Letters of both inputs that are not in the output are summed. The gradient is the signature
    permuted. 16-bit floats accumulate in float32.
    """

    signature: str
    accepts = dt.NUMERIC

    def infer(self, x: Any, y: Any) -> Aval:
        self.check_dtypes(x, y)
        a, b, out = self.parts()
        sizes: dict[str, int] = {}
        for letters, v in ((a, x), (b, y)):
            if len(letters) != len(v.shape):
                raise ShapeError(f"contract: {letters!r} does not fit shape {v.shape}")
            for letter, n in zip(letters, v.shape):
                if sizes.setdefault(letter, n) != n:
                    raise ShapeError(
                        f"contract {self.signature}: {letter!r} is {sizes[letter]} and {n} in "
                        f"shapes {x.shape} and {y.shape}"
                    )
        return Aval(tuple(sizes[letter] for letter in out), x.dtype)

    def reference(self, x: Any, y: Any) -> Any:
        if x.dtype.itemsize == 2 and x.dtype.kind not in "iu":
            return self.reference(x.astype(np.float32), y.astype(np.float32)).astype(x.dtype)
        a, b, out = self.parts()
        batch = [c for c in a if c in b and c in out]
        free_a = [c for c in a if c not in b]
        free_b = [c for c in b if c not in a]
        inner = [c for c in a if c in b and c not in out]
        size = dict(zip(a, x.shape)) | dict(zip(b, y.shape))

        def count(letters: list[str]) -> int:
            return int(np.prod([size[c] for c in letters], dtype=np.int64))

        left = x.transpose([a.index(c) for c in batch + free_a + inner])
        right = y.transpose([b.index(c) for c in batch + inner + free_b])
        left = left.reshape(count(batch), count(free_a), count(inner))
        right = right.reshape(count(batch), count(inner), count(free_b))
        made = np.matmul(left, right).reshape([size[c] for c in batch + free_a + free_b])
        order = batch + free_a + free_b
        return made.transpose([order.index(c) for c in out])

    def vjp(self, g: Any, out: Any, x: Any, y: Any) -> tuple[Any, ...]:
        a, b, o = self.parts()
        return Contract(f"{o},{b}->{a}")(g, y), Contract(f"{a},{o}->{b}")(x, g)
