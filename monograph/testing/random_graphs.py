"""Random programs from the registry: what the compiler does with them must be what eager does.

A program is a list of steps on a pool of tensors; it can run eagerly, under jit, or be printed. No
step makes nan, infinities or rounding that depends on the order of additions beyond tolerances.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..api.creation import as_tensor
from ..core import dtype as dt
from ..core.dtype import BY_NUMPY
from ..core.shape import broadcast_shapes
from ..ir.op import REGISTRY, Aval, Op
from ..tensor import Tensor

SIZES = (1, 2, 3, 5, 8, 17, 33, 64)
# Elementwise ops whose results stay of moderate size, as (name, arity).
SAFE = (
    ("tanh", 1), ("sigmoid", 1), ("sin", 1), ("cos", 1), ("atan", 1), ("erf", 1), ("relu", 1),
    ("neg", 1), ("abs", 1), ("gelu", 1), ("silu", 1), ("asinh", 1), ("add", 2), ("sub", 2),
    ("mul", 2), ("maximum", 2), ("minimum", 2),
)  # fmt: skip


@dataclass
class Step:
    """values[-1] after the step = op(*(values or numbers named by inputs))."""

    op: Op
    inputs: tuple[Any, ...]  # ("v", position) or a number


@dataclass
class Program:
    """Input arrays, steps, and the positions of the results among inputs and step results."""

    arrays: list[np.ndarray]
    steps: list[Step] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        values: list[Any] = list(tensors)
        for step in self.steps:
            args = (values[a[1]] if isinstance(a, tuple) else a for a in step.inputs)
            values.append(step.op(*args))
        return tuple(values[i] for i in self.outputs)

    def tensors(self, requires_grad: bool = False) -> list[Tensor]:
        """Fresh copies of the inputs."""
        made = [as_tensor(np.array(a)) for a in self.arrays]
        return [t.requires_grad_(requires_grad) for t in made]

    def __str__(self) -> str:
        n = len(self.arrays)
        lines = [f"%{i}: {a.dtype.name}{list(a.shape)}" for i, a in enumerate(self.arrays)]
        for i, step in enumerate(self.steps):
            args = ", ".join(f"%{a[1]}" if isinstance(a, tuple) else repr(a) for a in step.inputs)
            lines.append(f"%{n + i} = {step.op.name}({args}) {step.op.params()}")
        return "\n".join([*lines, f"return {', '.join(f'%{i}' for i in self.outputs)}"])


def random_program(seed: int, steps: int = 12, dtype: Any = np.float32) -> Program:
    """A program of up to `steps` ops on one to three inputs; the same for the same seed."""
    rng = np.random.default_rng(seed)
    program = Program([])
    shapes = _Shapes(dtype)
    for _ in range(int(rng.integers(1, 4))):
        shape = tuple(int(rng.choice(SIZES)) for _ in range(int(rng.integers(0, 4))))
        while _size(shape) > 8192:
            shape = shape[1:]
        if shapes and rng.random() < 0.5:
            shape = shapes[0]
        program.arrays.append(rng.uniform(-2, 2, shape).astype(dtype))
        shapes.note(shape, shapes.dtype)
    dtypes = [shapes.dtype] * len(shapes)

    def emit(op: Op, *inputs: Any) -> int:
        program.steps.append(Step(op, inputs))
        avals = [Aval(shapes[i[1]], dtypes[i[1]]) if isinstance(i, tuple) else i for i in inputs]
        aval = op.infer(*avals)
        dtypes.append(aval.dtype)
        return shapes.note(aval.shape, aval.dtype)

    makers: list[Callable[[Any, list, Callable], None]] = [
        _elementwise, _elementwise, _elementwise, _reduce, _normalize, _move, _move, _contract,
        _softmax, _choose, _join, _count, _scan,
    ]  # fmt: skip
    while len(program.steps) < steps:
        makers[int(rng.integers(len(makers)))](rng, shapes, emit)
    used = {a[1] for s in program.steps for a in s.inputs if isinstance(a, tuple)}
    first = len(program.arrays)
    program.outputs = [i for i in range(first, len(shapes)) if i not in used]
    if rng.random() < 0.5:  # a result that is read again too
        program.outputs.append(int(rng.integers(first, len(shapes))))
    program.outputs = list(dict.fromkeys(program.outputs))
    return program


def _op(name: str, *fields: Any) -> Op:
    return REGISTRY[name](*fields)


class _Shapes(list):
    """The shapes of all values; `numbers` are the positions of those of the program's dtype."""

    def __init__(self, dtype: Any):
        super().__init__()
        self.dtype = BY_NUMPY[np.dtype(dtype)]
        self.numbers: list[int] = []

    def note(self, shape: tuple[int, ...], dtype: Any) -> int:
        self.append(tuple(shape))
        if dtype is self.dtype:
            self.numbers.append(len(self) - 1)
        return len(self) - 1


def _pick(rng: Any, shapes: Any) -> int:
    """Recent values are likelier, so that programs are deep."""
    return shapes.numbers[-1 if rng.random() < 0.5 else int(rng.integers(len(shapes.numbers)))]


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _expanded(rng: Any, shapes: Any, emit: Callable, i: int, shape: tuple[int, ...]) -> int:
    own = shapes[i]
    if own == shape:
        return i
    offset = len(shape) - len(own)
    axes = [*range(offset)]
    kept = [n for a, n in enumerate(own) if n == shape[a + offset]]
    axes += [a + offset for a, n in enumerate(own) if n != shape[a + offset]]
    if len(kept) != len(own):
        i = emit(_op("reshape", tuple(kept)), ("v", i))
    return emit(_op("expand", shape, tuple(axes)), ("v", i))


def _elementwise(rng: Any, shapes: Any, emit: Callable) -> None:
    name, n = SAFE[int(rng.integers(len(SAFE)))]
    i = _pick(rng, shapes)
    if n == 1:
        emit(_op(name), ("v", i))
    elif rng.random() < 0.3:
        number = round(float(rng.uniform(-1.5, 1.5)), 3)
        emit(_op(name), *((("v", i), number) if rng.random() < 0.5 else (number, ("v", i))))
    else:
        j = _pick(rng, shapes)
        try:
            shape = broadcast_shapes("test", shapes[i], shapes[j])
        except ValueError:
            return
        if _size(shape) <= 16384:
            pair = [_expanded(rng, shapes, emit, k, shape) for k in (i, j)]
            made = emit(_op(name), *(("v", k) for k in pair))
            if name == "mul":
                emit(_op("tanh"), ("v", made))


def _axes(rng: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    axes = tuple(a for a in range(len(shape)) if rng.random() < 0.5)
    return axes or (int(rng.integers(len(shape))),)


def _reduce(rng: Any, shapes: Any, emit: Callable) -> None:
    i = _pick(rng, shapes)
    if shapes[i]:
        name = str(rng.choice(["sum", "amax", "amin", "sum"]))
        axes = _axes(rng, shapes[i])
        count = _size(tuple(shapes[i][a] for a in axes))
        made = emit(_op(name, axes), ("v", i))
        if name == "sum":
            emit(_op("mul"), ("v", made), 1 / count)


def _normalize(rng: Any, shapes: Any, emit: Callable) -> None:
    """(x - mean) over some axes: two reductions of the same rows."""
    i = _pick(rng, shapes)
    shape = shapes[i]
    if not shape:
        return
    axes = _axes(rng, shape)
    count = _size(tuple(shape[a] for a in axes))
    total = emit(_op("sum", axes), ("v", i))
    center = emit(_op("mul"), ("v", total), 1 / count)
    wide = emit(_op("expand", shape, axes), ("v", center))
    gap = emit(_op("sub"), ("v", i), ("v", wide))
    square = emit(_op("mul"), ("v", gap), ("v", gap))
    spread = emit(_op("mul"), ("v", emit(_op("sum", axes), ("v", square))), 1 / count)
    scale = emit(_op("rsqrt"), ("v", emit(_op("add"), ("v", spread), 0.1)))
    emit(_op("mul"), ("v", gap), ("v", emit(_op("expand", shape, axes), ("v", scale))))


def _softmax(rng: Any, shapes: Any, emit: Callable) -> None:
    i = _pick(rng, shapes)
    shape = shapes[i]
    if not shape:
        return
    axes = (int(rng.integers(len(shape))),)
    top = emit(_op("amax", axes), ("v", i))
    gap = emit(_op("sub"), ("v", i), ("v", emit(_op("expand", shape, axes), ("v", top))))
    power = emit(_op("exp"), ("v", gap))
    total = emit(_op("sum", axes), ("v", power))
    emit(_op("div"), ("v", power), ("v", emit(_op("expand", shape, axes), ("v", total))))


def _move(rng: Any, shapes: Any, emit: Callable) -> None:
    i = _pick(rng, shapes)
    shape = shapes[i]
    kind = int(rng.integers(6))
    if kind == 0:
        emit(_op("permute", tuple(int(a) for a in rng.permutation(len(shape)))), ("v", i))
    elif kind == 1:
        emit(_op("reshape", _regrouped(rng, shape)), ("v", i))
    elif kind == 2 and shape:
        start = tuple(int(rng.integers(n)) for n in shape)
        step = tuple(int(rng.integers(1, 3)) for _ in shape)
        emit(_op("slice", start, shape, step), ("v", i))
    elif kind == 3 and shape and _size(shape) <= 4096:
        pads = [tuple(int(v) for v in rng.integers(0, 2, len(shape))) for _ in range(3)]
        emit(_op("pad", *pads, float(rng.integers(2))), ("v", i))
    elif kind == 4 and shape:
        emit(_op("flip", _axes(rng, shape)), ("v", i))
    elif kind == 5 and len(shape) < 4 and _size(shape) <= 4096:
        place, n = int(rng.integers(len(shape) + 1)), int(rng.choice((1, 2, 3)))
        wide = (*shape[:place], n, *shape[place:])
        emit(_op("expand", wide, (place,)), ("v", i))


def _choose(rng: Any, shapes: Any, emit: Callable) -> None:
    """where on a comparison that rounding cannot turn: with the number 10, or of the index."""
    i = _pick(rng, shapes)
    shape = shapes[i]
    if shape and rng.random() < 0.7:
        place = emit(_op("iota", shape, dt.int64, int(rng.integers(len(shape)))))
        condition = emit(_op("lt"), ("v", place), int(rng.integers(1, 9)))
    else:
        condition = emit(_op("lt"), ("v", i), 10.0)
    other = ("v", emit(_op("neg"), ("v", i))) if rng.random() < 0.5 else 0.5
    emit(_op("where"), ("v", condition), ("v", i), other)


def _join(rng: Any, shapes: Any, emit: Callable) -> None:
    i = _pick(rng, shapes)
    if shapes[i] and _size(shapes[i]) <= 2048:
        other = emit(_op("sin"), ("v", i)) if rng.random() < 0.5 else i
        emit(_op("concat", int(rng.integers(len(shapes[i])))), ("v", i), ("v", other))


def _count(rng: Any, shapes: Any, emit: Callable) -> None:
    """The index as a number, scaled down."""
    i = _pick(rng, shapes)
    shape = shapes[i]
    if shape:
        place = emit(_op("iota", shape, shapes.dtype, int(rng.integers(len(shape)))))
        emit(_op("add"), ("v", i), ("v", emit(_op("sin"), ("v", place))))


def _scan(rng: Any, shapes: Any, emit: Callable) -> None:
    i = _pick(rng, shapes)
    shape = shapes[i]
    if shape:
        axis = int(rng.integers(len(shape)))
        made = emit(_op("cumsum", axis), ("v", i))
        emit(_op("mul"), ("v", made), round(1 / shape[axis], 4))


def _regrouped(rng: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A random shape with as many elements."""
    sizes: list[int] = []
    left = _size(shape)
    while left > 1 and len(sizes) < 3:
        divisors = [d for d in range(1, left + 1) if left % d == 0]
        d = int(rng.choice(divisors))
        sizes.append(d)
        left //= d
    return (*sizes, left) if left > 1 or rng.random() < 0.2 else tuple(sizes)


def _contract(rng: Any, shapes: Any, emit: Callable) -> None:
    """A product with itself transposed, or with another value that shares a size."""
    i = _pick(rng, shapes)
    shape = shapes[i]
    if len(shape) not in (2, 3) or _size(shape) > 8192:
        return
    letters = "bmk"[-len(shape) :]
    other = letters.replace("m", "n")
    out = letters[:-1] + "n"
    made = emit(_op("contract", f"{letters},{other}->{out}"), ("v", i), ("v", i))
    emit(_op("mul"), ("v", made), round(1 / shape[-1], 4))
    emit(_op("tanh"), ("v", len(shapes) - 1))
