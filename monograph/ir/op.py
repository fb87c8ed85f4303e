"""Operations: one class each, of one kind each. This is the contract of every op in ops/.

An op is a frozen dataclass: its static parameters are fields, its rules are methods. Calling an op
applies it through the one door (dispatch.py). The kind (base class) supplies most rules; what an op
must state itself:

    Elementwise  reference, vjp, scalar                    element i of the output from elements i
    Source       reference, scalar, output aval            element i of the output from i alone
    Reduction    axes, combine, reference, vjp             axes disappear from the shape
    Movement     infer, reference, vjp, source             element i of the output is element f(i)
    Contraction  signature                                 products summed over shared letters
    Opaque       everything

Rules see only values (anything with .shape and .dtype) and Python numbers. Primitives get equal
shapes and dtypes: broadcasting and promotion happened before (ops/align.py). A Python number may
stand in an Elementwise op for an input: it has the dtype of the others and broadcasts.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any, ClassVar, dataclass_transform

import numpy as np

from ..core import dtype as dt
from ..core.dtype import DType
from ..core.errors import DTypeError, ShapeError
from ..core.shape import Shape, numel
from .dispatch import apply


@dataclass(frozen=True, slots=True)
class Aval:
    """What is known of a value without its elements."""

    shape: Shape
    dtype: DType

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return numel(self.shape)

    def __repr__(self) -> str:
        return f"{self.dtype.code}[{', '.join(map(str, self.shape))}]"


_NUMBERS = frozenset((int, float, bool, complex))


def is_value(x: Any) -> bool:
    """Whether an op's argument is a value (else it is a Python number)."""
    return type(x) not in _NUMBERS and hasattr(x, "dtype") and not isinstance(x, type)


class Op:
    """Base of all kinds. Class attributes that an op may state:

    name            snake_case name; made from the class name
    accepts         dtypes allowed for the inputs (None: any)
    saves           what vjp reads: "all", "inputs", "outputs" or "none" (else it gets Avals:
    shape, dtype)
    reads           reads[k]: which inputs the cotangent of input k needs, where that is not all of
                    them and vjp returns functions; the others are not kept (None: see `saves`)
    differentiable  False where no gradient exists (comparisons, argmax)
    holomorphic     of complex numbers vjp is the transposed derivative, without conjugates; the
                    tape conjugates what goes in and comes out. False: vjp itself gives PyTorch's
                    gradient, the conjugate Wirtinger derivative; so do ops with real results and
                    ops that save nothing, which are linear
    n_outputs       number of results; more than one comes as a tuple
    is_view         the result shares memory with the first input in eager mode (PyTorch's view ops)
    slow_reference  the NumPy meaning is a Python loop over elements: eager mode compiles it early
    has_long_vjp    vjp is several operations on whole arrays: eager mode compiles them as one
    onnx            name of the ONNX operator with the same meaning, or None
    """

    name: ClassVar[str] = ""
    kind: ClassVar[str] = "opaque"
    accepts: ClassVar[tuple[DType, ...] | None] = None
    saves: ClassVar[str] = "all"
    reads: ClassVar[tuple[tuple[int, ...], ...] | None] = None
    differentiable: ClassVar[bool] = True
    holomorphic: ClassVar[bool] = True
    n_outputs: ClassVar[int] = 1
    is_view: ClassVar[bool] = False
    slow_reference: ClassVar[bool] = False
    has_long_vjp: ClassVar[bool] = False
    onnx: ClassVar[str | None] = None
    takes_none: ClassVar[bool] = False  # vjp gets None, not zeros, for unused outputs
    fresh_cotangents: ClassVar[bool] = True  # vjp's results are new arrays or ones it was given

    def __call__(self, *args: Any) -> Any:
        return apply(self, *args)

    def infer(self, *args: Any) -> Any:
        """Aval of the output (a tuple of them where n_outputs > 1); raises on bad inputs."""
        raise NotImplementedError(f"abstract: {self.name}.infer")

    def reference(self, *arrays: Any) -> Any:
        """The meaning, on NumPy arrays and Python numbers."""
        raise NotImplementedError(f"abstract: {self.name}.reference")

    def vjp(self, g: Any, out: Any, *inputs: Any) -> tuple[Any, ...]:
        """Cotangents of the inputs (None: no derivative) from the cotangent of the output.

        With several outputs g and out are tuples, and an unused output's cotangent is zeros. An
        element may be a function without arguments that makes the cotangent: it is called only
        where the cotangent is wanted.
        """
        raise NotImplementedError(f"abstract: {self.name}.vjp")

    def check_dtypes(self, *args: Any) -> None:
        """DTypeError unless every value's dtype is accepted."""
        if self.accepts is not None:
            for a in args:
                if is_value(a) and a.dtype not in self.accepts:
                    names = ", ".join(d.name for d in self.accepts)
                    raise DTypeError(f"{self.name}: got {a.dtype.name}; accepts {names}")

    def params(self) -> str:
        """The static parameters as text: "axes=(0, 1)"."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return " ".join(f"{f.name}={_param(getattr(self, f.name))}" for f in fields)


def _param(x: Any) -> str:
    return x.name if isinstance(x, DType) else repr(x).replace(", ", ",")


class Elementwise(Op):
    """Element i of the output from elements i of the inputs, which have equal shapes.

    result(*dtypes) gives the output's dtype (default: the first input's).
    scalar(s, *xs) gives one element in scalar operations (kernel/scalar.py): this is what all
    targets are generated from. f16 and bf16 are computed in f32 around the rule.
    """

    kind = "elementwise"
    has_long_vjp = True

    def result(self, *dtypes: DType) -> DType:
        return dtypes[0]

    def infer(self, *args: Any) -> Aval:
        shape: Any = None
        dtypes = []
        for a in args:
            if is_value(a):
                dtypes.append(a.dtype)
                if shape is None:
                    shape = a.shape
                elif a.shape != shape:
                    self.check_dtypes(*args)
                    raise ShapeError(f"{self.name}: primitive got shapes {shape} and {a.shape}")
        if self.accepts is not None and not all(d in self.accepts for d in dtypes):
            self.check_dtypes(*args)
        return Aval(tuple(shape), self.result(*dtypes))

    def scalar(self, s: Any, *xs: Any) -> Any:
        raise NotImplementedError(f"abstract: {self.name}.scalar")


class Source(Op):
    """Element i of the output from its index alone (full, iota, random bits).

    Inputs, if any, are small arrays read whole. The op has a `shape` and a `dtype` field.
    scalar(s, index, *inputs) gives one element; index is a tuple of i64 expressions, and
    inputs[k](j) the expression of element j of input k (flat).
    """

    kind = "source"
    differentiable = False
    together: ClassVar[int] = 1  # neighbouring elements that share most of the work
    shape: Shape
    dtype: DType

    def infer(self, *args: Any) -> Aval:
        return Aval(tuple(self.shape), self.dtype)

    def scalar(self, s: Any, index: tuple, *inputs: Any) -> Any:
        raise NotImplementedError(f"abstract: {self.name}.scalar")


class Reduction(Op):
    """Combine over `axes` (sorted, non-negative), which disappear from the shape.

    combine is "add", "mul", "min", "max", "and", "or" (or "argmin", "argmax": first winner's
    position along the one axis, int64). identity is the result over nothing; None: an error.
    """

    kind = "reduction"
    axes: tuple[int, ...]
    combine: ClassVar[str] = "add"
    identity: ClassVar[Any] = 0

    def result(self, x: DType) -> DType:
        return x

    def infer(self, x: Any) -> Aval:
        self.check_dtypes(x)
        if self.identity is None and any(x.shape[a] == 0 for a in self.axes):
            raise ShapeError(f"{self.name}: cannot reduce over an empty dimension of {x.shape}")
        kept = tuple(n for a, n in enumerate(x.shape) if a not in self.axes)
        return Aval(kept, self.result(x.dtype))


class Movement(Op):
    """Element i of the output is element f(i) of the one input (or zero, for padding).

    source(index, shape) -> (input index, mask): f in i64 expressions; mask None or a bool
    expression that is false where the output is zero. `shape` is the input's.
    """

    kind = "movement"
    saves = "none"
    pads: ClassVar[bool] = False  # some elements of the output are none of the input's

    def source(self, index: tuple, shape: Shape) -> tuple[tuple, Any]:
        raise NotImplementedError(f"abstract: {self.name}.source")

    def batch(self, dims: tuple, size: int, x: Any) -> tuple[Any, Any]:
        """The vmap rule: (output, its batch axis) where x is batched along dims[0]."""
        raise NotImplementedError(f"abstract: {self.name}.batch")

    def write(self, base: Any, value: Any) -> Any:
        """`base` with the elements that this view shows replaced by `value` (views only)."""
        raise NotImplementedError(f"abstract: {self.name}.write")

    def strides(self, shape: Shape, strides: Shape) -> Shape | None:
        """Strides of this view of an input with `shape` and `strides`; None: it takes a copy."""
        return strides


class Contraction(Op):
    """Products of two inputs summed over shared letters, as in "bmk,bkn->bmn".

    Letters in both inputs and the output are batch, in both inputs only are summed, in one input
    and the output are free. Every letter of an input is in the other input or in the output.
    """

    kind = "contraction"
    saves = "inputs"
    signature: str

    def parts(self) -> tuple[str, str, str]:
        inputs, out = self.signature.split("->")
        x, y = inputs.split(",")
        return x, y, out


class Opaque(Op):
    """States everything itself: convolution, sorting, attention, indexing.

    batch(dims, size, *args) -> (outputs, dims): the vmap rule; args[k] is batched along dims[k]
    (None: not batched) of the given size.
    kernels: how the compiler makes code for it is found by class in compiler/ (else the reference
    runs).
    """

    kind = "opaque"

    def batch(self, dims: tuple, size: int, *args: Any) -> tuple[Any, Any]:
        raise NotImplementedError(f"abstract: {self.name}.batch")


class WithNumPy(Opaque):
    """An op that only its NumPy meaning computes: no pass looks inside."""

    def __init__(self, op: Op):
        self.op = op
        self.name = f"numpy_{op.name}"  # type: ignore[misc]
        self.n_outputs = op.n_outputs  # type: ignore[misc]

    __dataclass_fields__: dict[str, dataclasses.Field] = {}

    def infer(self, *args: Any) -> Any:
        return self.op.infer(*args)

    def reference(self, *arrays: Any) -> Any:
        return self.op.reference(*arrays)

    def params(self) -> str:
        return self.op.params()

    def __eq__(self, other: object) -> bool:
        return type(other) is WithNumPy and self.op == other.op

    def __hash__(self) -> int:
        return hash((WithNumPy, self.op))


class _Record(Op):
    """The methods of a registered op, from the list of its fields.

    dataclass would generate and compile them for each class: most of the time of an import.
    """

    _fields: ClassVar[tuple[str, ...]] = ()
    _defaults: ClassVar[dict[str, Any]] = {}

    def __init__(self, *args: Any, **kwargs: Any):
        names = self._fields
        if len(args) == len(names) and not kwargs:
            self.__dict__.update(zip(names, args))
            return
        values = dict(zip(names, args))
        if len(values) != len(names) or kwargs or len(args) > len(names):
            values = {**self._defaults, **values, **kwargs}
            unknown = [n for n in values if n not in names]
            missing = [n for n in names if n not in values]
            if unknown or missing or len(args) > len(names):
                raise TypeError(
                    f"{type(self).__name__}({', '.join(names)}): got {len(args)} positional "
                    f"arguments and {sorted(kwargs)}"
                )
        self.__dict__.update(values)

    def __setattr__(self, name: str, value: Any) -> None:
        raise dataclasses.FrozenInstanceError(f"{type(self).__name__}: ops cannot be changed")

    def __eq__(self, other: Any) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, n) == getattr(other, n) for n in self._fields)

    def __hash__(self) -> int:
        return hash((type(self), *(getattr(self, n) for n in self._fields)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.params()})"


REGISTRY: dict[str, type[Op]] = {}


@dataclass_transform(frozen_default=True)
def op(decorated: type) -> type:
    """Make a class a registered op: a frozen dataclass with a snake_case name."""
    cls: Any = dataclass(init=False, repr=False, eq=False)(decorated)
    cls._fields = tuple(f.name for f in dataclasses.fields(cls))
    cls._defaults = {
        f.name: f.default for f in dataclasses.fields(cls) if f.default is not dataclasses.MISSING
    }
    for method in ("__init__", "__setattr__", "__eq__", "__hash__", "__repr__"):
        if method not in cls.__dict__ or cls.__dict__[method] is None:
            setattr(cls, method, getattr(_Record, method))
    if "name" not in cls.__dict__:
        cls.name = re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", cls.__name__).lower()
    if cls.name in REGISTRY and REGISTRY[cls.name].__module__ != cls.__module__:
        raise ValueError(f"two ops are named {cls.name}")
    REGISTRY[cls.name] = cls
    return cls


def zeros_of(x: Any) -> Any:
    """A value of zeros with the shape and dtype of x."""
    return Full(tuple(x.shape), x.dtype, 0)()


@op
class Full(Source):
    """Every element is `value`. Here and not in ops/ because every layer above needs zeros."""

    shape: Shape
    dtype: DType
    value: Any = 0

    def reference(self) -> Any:
        return np.full(self.shape, self.value, self.dtype.numpy)

    def scalar(self, s: Any, index: tuple) -> Any:
        code = self.dtype.code
        return s.const(self.value, "f32" if code in ("f16", "bf16") else code)


FLOATS, INTS, ALL = dt.FLOATS, dt.INTS, dt.ALL
