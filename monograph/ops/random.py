"""Random numbers as a function of a key and a counter, and dropout.

One primitive, RandomBits, gives 32-bit words; the distributions are formed of it by elementwise
ops, so that they fuse with what reads them (eager code has RandomNumbers instead). The state
(int64: key, number of the next block) is a tensor of a Generator (api/random.py), advanced in place
after each draw: a captured function takes it by reference, and every replay draws fresh numbers.
Words depend on key and counter alone, not on threads or devices.
Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from ..core import dtype as dt
from ..core.dtype import DType
from ..core.errors import ArgumentError, ShapeError
from ..core.modes import modes
from ..core.shape import Shape, contiguous_strides, normalize_dim, numel
from ..core.tracing import is_tracing
from ..ir.op import Elementwise, Full, Source, op
from ..kernel.ir import Const
from .activations import float_input, in_place, softmax
from .align import broadcast_to, cast, functional
from .arith import Add, Ge, add, eq, gt, mul, neg, sub, where
from .basic import Where
from .composite import composite
from .exponential import Log, log
from .movement import Detach, Pad, Reshape, Slice
from .power import sqrt
from .reduce import argmax
from .triangular import Iota
from .trigonometric import Cos, cos

MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
WEYL = 0x9E3779B9, 0xBB67AE85
ROUNDS = 10
WORDS = 4  # 32-bit words made from one counter
_BLOCKS_AT_ONCE = 1 << 14  # the reference's temporaries stay in the second-level cache


def philox(counter: tuple[Any, Any, Any, Any], key: tuple[int, int]) -> tuple[Any, Any, Any, Any]:
    """Philox4x32-10: four words for each counter (four uint32 arrays); key is two Python ints."""
    even, odd = np.stack(counter[::2]), np.stack(counter[1::2])
    high = 1 if sys.byteorder == "little" else 0
    for k in _round_keys(*key):
        # Both products at once; their halves change places.
        words = np.multiply(even, _MULTIPLIERS, dtype=np.uint64).view(np.uint32)[::-1]
        even = words[:, high::2] ^ odd
        even ^= k
        odd = words[:, 1 - high :: 2]
    return even[0], odd[0], even[1], odd[1]


_MULTIPLIERS = np.array(MULTIPLIERS, np.uint64)[:, None]


def _round_keys(first: int, second: int) -> np.ndarray:
    steps = np.arange(ROUNDS, dtype=np.uint64)[:, None] * np.array(WEYL, np.uint64)
    keys = (steps + np.array([first, second], np.uint64)) & np.uint64(0xFFFFFFFF)
    return keys.astype(np.uint32)[:, :, None]


@op
class RandomBits(Source):
    """Random 32-bit words: element i is number i * words + word of the words of the coming blocks.

    words is 1, 2 or 4. The words of one element are in one block, so that a kernel that reads
    several computes it once. The one input is the state: int64 (key, next block).
    """

    shape: Shape
    words: int = 1
    word: int = 0
    dtype: DType = dt.uint32
    slow_reference = True

    @property
    def together(self) -> int:  # type: ignore[override]
        return WORDS // self.words

    def reference(self, state: Any) -> Any:
        n, per_block = numel(self.shape), WORDS // self.words
        blocks = -(-n // per_block)
        key, start = (int(v) & 0xFFFFFFFFFFFFFFFF for v in state)
        out = np.empty((blocks, per_block), np.uint32)
        for first in range(0, blocks, _BLOCKS_AT_ONCE):
            last = min(first + _BLOCKS_AT_ONCE, blocks)
            number = np.arange(first, last, dtype=np.uint64) + np.uint64(start)
            zero = np.zeros(last - first, np.uint32)
            counter = (
                number.astype(np.uint32), (number >> np.uint64(32)).astype(np.uint32), zero, zero,
            )  # fmt: skip
            made = philox(counter, (key & 0xFFFFFFFF, key >> 32))
            for i, words in enumerate(made[self.word :: self.words]):
                out[first:last, i] = words
        return out.reshape(-1)[:n].reshape(self.shape)

    def scalar(self, s: Any, index: tuple, *inputs: Any) -> Any:
        (state,) = inputs
        flat: Any = Const(0, "i64")
        for i, stride in zip(index, contiguous_strides(self.shape)):
            flat = flat + i * stride
        per_block = WORDS // self.words
        block = state(1) + flat // per_block

        def halves(x: Any) -> tuple[Any, Any]:
            return s.cast(x & 0xFFFFFFFF, "u32"), s.cast((x >> 32) & 0xFFFFFFFF, "u32")

        made = _philox_scalar(s, *halves(block), *halves(state(0)))[self.word :: self.words]
        lane = s.cast(flat % per_block, "u32")
        while len(made) > 1:  # choose by the bits of the lane, the lowest first
            odd = s.ne(lane & 1, 0)
            made = tuple(s.select(odd, made[i + 1], made[i]) for i in range(0, len(made), 2))
            lane = lane >> 1
        return made[0]


def _philox_scalar(s: Any, c0: Any, c1: Any, k0: Any, k1: Any) -> tuple[Any, ...]:
    c2 = c3 = s.const(0, "u32")
    for _ in range(ROUNDS):
        m0, m1 = (s.const(m, "u32") for m in MULTIPLIERS)
        high0, low0, high1, low1 = s.mulhi(c0, m0), c0 * m0, s.mulhi(c2, m1), c2 * m1
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = k0 + WEYL[0], k1 + WEYL[1]
    return c0, c1, c2, c3


@op
class BitsToUnit(Elementwise):
    """A random word as a number in [0, 1): its high bits, as many as the dtype holds exactly."""

    dtype: DType
    accepts = (dt.uint32,)
    differentiable = False

    @property
    def bits(self) -> int:
        return {dt.float16: 11, dt.bfloat16: 8}.get(self.dtype, 24)

    def result(self, *dtypes: DType) -> DType:
        return self.dtype

    def reference(self, x: Any) -> Any:
        high = (x >> np.uint32(32 - self.bits)).astype(np.float32)
        return (high * np.float32(2.0**-self.bits)).astype(self.dtype.numpy)

    def scalar(self, s: Any, x: Any) -> Any:
        return s.cast(x >> (32 - self.bits), "f32") * 2.0**-self.bits


@op
class BitsToUnitDouble(Elementwise):
    """Two random words as a float64 in [0, 1): 53 of their bits."""

    accepts = (dt.uint32,)
    differentiable = False

    def result(self, *dtypes: DType) -> DType:
        return dt.float64

    def reference(self, high: Any, low: Any) -> Any:
        top = (high >> np.uint32(5)).astype(np.float64)
        return (top * 2.0**26 + (low >> np.uint32(6))) * 2.0**-53

    def scalar(self, s: Any, high: Any, low: Any) -> Any:
        return (s.cast(high >> 5, "f64") * 2.0**26 + s.cast(low >> 6, "f64")) * 2.0**-53


@op
class BitsBelow(Elementwise):
    """A random word as an integer in [0, bound), bound <= 2**32 - 1: the high half of a product.

    No value is likelier than another by more than bound / 2**32.
    Source: Lemire, "Fast random integer generation in an interval", 2019.
    """

    bound: int
    accepts = (dt.uint32,)
    differentiable = False

    def reference(self, x: Any) -> Any:
        return ((x.astype(np.uint64) * np.uint64(self.bound)) >> np.uint64(32)).astype(np.uint32)

    def scalar(self, s: Any, x: Any) -> Any:
        return s.mulhi(x, self.bound)


@op
class BitsBelowWide(Elementwise):
    """Two random words as an integer in [0, bound), bound <= 2**64 - 1, by the remainder.

    No value is likelier than another by more than bound / 2**64.
    """

    bound: int
    accepts = (dt.uint32,)
    differentiable = False

    def result(self, *dtypes: DType) -> DType:
        return dt.uint64

    def reference(self, high: Any, low: Any) -> Any:
        return ((high.astype(np.uint64) << np.uint64(32)) | low) % np.uint64(self.bound)

    def scalar(self, s: Any, high: Any, low: Any) -> Any:
        return ((s.cast(high, "u64") << 32) | s.cast(low, "u64")) % s.const(self.bound, "u64")


@op
class RandomNumbers(Source):
    """Numbers of a distribution, times a factor, plus a term: for eager code, in one pass.

    distribution "uniform" is [0, 1), "normal" the standard one. The elements are those that the ops
    above give of the same words. Inputs: the state of RandomBits; float32 (factor, term).
    """

    shape: Shape
    distribution: str
    dtype: DType = dt.float32
    slow_reference = True

    @property
    def words(self) -> int:
        return {"uniform": 1, "normal": 2}[self.distribution]

    @property
    def together(self) -> int:  # type: ignore[override]
        return WORDS // self.words

    def reference(self, state: Any, line: Any) -> Any:
        words = [RandomBits(self.shape, self.words, k).reference(state) for k in range(self.words)]
        made = BitsToUnit(dt.float32).reference(words[-1])
        if self.distribution == "normal":
            first = words[0].astype(np.float32) * np.float32(2.0**-32) + np.float32(2.0**-33)
            made = np.sqrt(np.log(first) * np.float32(-2)) * np.cos(made * np.float32(2 * math.pi))
        return made * line[0] + line[1]

    def scalar(self, s: Any, index: tuple, *inputs: Any) -> Any:
        state, line = inputs
        parts = [RandomBits(self.shape, self.words, k) for k in range(self.words)]
        words = [part.scalar(s, index, state) for part in parts]
        made = BitsToUnit(dt.float32).scalar(s, words[-1])
        if self.distribution == "normal":
            first = s.cast(words[0], "f32") * 2.0**-32 + 2.0**-33
            made = s.sqrt(Log().scalar(s, first) * -2.0) * Cos().scalar(s, made * (2 * math.pi))
        return made * line(0) + line(1)


# The default Generator, set by api/random.py.
_default: list[Any] = []


def install(generator: Any) -> None:
    """Set the generator that is used where none is given."""
    _default[:] = [generator]


def random_words(shape: Shape, words: int, generator: Any = None) -> list[Any]:
    """`words` values of `shape`, random words of a generator (None: the default one).

    The generator is advanced in place. Captured code asks for each word on its own, which fuses;
    eagerly all come from one array.
    """
    shape = tuple(shape)
    if modes.vmap is not None:

        def outside(whole: Shape) -> Any:
            return random_bits(whole, generator)

        return _columns(modes.vmap.draw((*shape, words), outside), shape)
    if modes.trace is not None:
        modes.trace.check_random()
    state = _state(generator)
    n = numel(shape)
    if is_tracing() or words == 1:
        made = [Reshape(shape)(RandomBits((n,), words, k)(state)) for k in range(words)]
    else:
        made = _columns(Reshape((n, words))(RandomBits((n * words,))(state)), shape)
    _advance(state, n * words)
    return made


def random_numbers(count: int, distribution: str, line: Any, generator: Any = None) -> Any:
    """RandomNumbers of a generator, eagerly; `line` is the tensor (factor, term)."""
    state = _state(generator)
    draw = RandomNumbers((count,), distribution)
    made = draw(state, line)
    _advance(state, count * draw.words)
    return made


def _state(generator: Any) -> Any:
    return (_default[0] if generator is None else generator).state


def _advance(state: Any, words: int) -> None:
    """Go on to the block after so many words."""
    array = getattr(state, "_payload", None)
    if type(array) is np.ndarray and modes.trace is None and modes.steps is None:
        array[1] += -(-words // WORDS)
        state._version[0] += 1
        return
    step = Pad((1,), (0,), (0,), 0)(Full((1,), dt.int64, -(-words // WORDS))())
    state._write(Add()(state, step), "random")


def _columns(table: Any, shape: Shape) -> list[Any]:
    """The values along the last axis, each of `shape`."""
    lead, count = tuple(table.shape[:-1]), table.shape[-1]
    zeros, ones = (0,) * len(lead), (1,) * len(lead)
    parts = (Slice((*zeros, k), (*lead, k + 1), (*ones, 1))(table) for k in range(count))
    return [Reshape(shape)(p) for p in parts]


def random_bits(shape: Shape, generator: Any = None) -> Any:
    """Random words of `shape`."""
    return random_words(shape, 1, generator)[0]


def random_unit(shape: Shape, dtype: DType, generator: Any = None) -> Any:
    """Uniform numbers in [0, 1)."""
    if dtype is dt.float64:
        return BitsToUnitDouble()(*random_words(shape, 2, generator))
    return BitsToUnit(dtype)(random_bits(shape, generator))


def random_normal(shape: Shape, dtype: DType, generator: Any = None) -> Any:
    """Numbers of the standard normal distribution, by the Box-Muller transform."""
    if dtype is dt.float64:
        w = random_words(shape, 4, generator)
        first = add(BitsToUnitDouble()(w[0], w[1]), 2.0**-54)
        second = BitsToUnitDouble()(w[2], w[3])
    else:
        w = random_words(shape, 2, generator)
        # 32 bits, not 24: the tail reaches 6.7 standard deviations. Never 0: log is finite.
        first = add(mul(cast(w[0], dt.float32), 2.0**-32), 2.0**-33)
        second = BitsToUnit(dt.float32)(w[1])
    made = mul(sqrt(mul(log(first), -2.0)), cos(mul(second, 2 * math.pi)))
    return cast(made, dtype)


def random_exponential(shape: Shape, dtype: DType, generator: Any = None) -> Any:
    """Numbers of the exponential distribution of rate 1."""
    if dtype is dt.float64:
        unit = add(random_unit(shape, dtype, generator), 2.0**-54)
    else:
        words = cast(random_bits(shape, generator), dt.float32)
        unit = add(mul(words, 2.0**-32), 2.0**-33)
    return cast(mul(log(unit), -1.0), dtype)


def random_integers(shape: Shape, low: int, high: int, dtype: DType, generator: Any = None) -> Any:
    """Integers in [low, high)."""
    bound = high - low
    if bound < 1 << 32:
        below = cast(BitsBelow(bound)(random_bits(shape, generator)), dt.int64)
    else:
        below = cast(BitsBelowWide(bound)(*random_words(shape, 2, generator)), dt.int64)
    return cast(add(below, low) if low else below, dtype)


def random_keep(shape: Shape, p: float, generator: Any = None) -> Any:
    """A bool tensor that is False with probability p (to 2**-32)."""
    threshold = min(round(p * 2.0**32), 2**32 - 1)
    return Ge()(random_bits(shape, generator), threshold)


def _checked(name: str, input: Any, p: Any) -> float:
    if not 0 <= p <= 1:
        raise ArgumentError(f"{name}: p must be in [0, 1], got {p}")
    if not input.dtype.is_floating_point:
        raise ArgumentError(f"{name}: input must be floating, got {input.dtype.name}")
    return float(p)


def drop(name: str, input: Any, p: Any, training: bool, inplace: bool, shape: Shape) -> Any:
    p = _checked(name, input, p)
    if not training or p == 0:
        return input
    if p == 1:
        out = mul(input, 0.0)
    else:
        out = _kept(input, random_keep(shape, p), 1 / (1 - p))
    return input._write(out, name) if inplace else out


@composite
def _kept(x: Any, keep: Any, factor: float) -> Any:
    """x times factor where `keep`, which broadcasts, else zero."""
    return Where()(broadcast_to(keep, tuple(x.shape)), mul(x, factor), 0.0)


@functional
def dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """In training, zero each element with probability p and divide the others by 1 - p.

    Source: Srivastava and others, "Dropout", 2014.
    """
    return drop("dropout", input, p, training, inplace, tuple(input.shape))


def _drop_channels(
    name: str, input: Any, p: Any, training: bool, inplace: bool, ndims: tuple[int, ...], lead: int
) -> Any:
    if len(input.shape) not in ndims:
        expected = " or ".join(map(str, ndims))
        raise ShapeError(f"{name}: needs {expected} dimensions, got shape {tuple(input.shape)}")
    shape = tuple(n if a < lead else 1 for a, n in enumerate(input.shape))
    return drop(name, input, p, training, inplace, shape)


@functional
def dropout1d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """In training, zero whole channels of (N, C, L) or (C, L) with probability p."""
    lead = len(input.shape) - 1
    return _drop_channels("dropout1d", input, p, training, inplace, (2, 3), lead)


@functional
def dropout2d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """In training, zero whole channels of (N, C, H, W) or (N, C, L) with probability p."""
    return _drop_channels("dropout2d", input, p, training, inplace, (3, 4), 2)


@functional
def dropout3d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """In training, zero whole channels of (N, C, D, H, W) or (C, D, H, W) with probability p."""
    lead = len(input.shape) - 3
    return _drop_channels("dropout3d", input, p, training, inplace, (4, 5), lead)


@functional
def feature_alpha_dropout(
    input: Any, p: float = 0.5, training: bool = False, inplace: bool = False
) -> Any:
    """alpha_dropout of whole channels of (N, C, ...)."""
    if not training:
        return input
    if len(input.shape) < 2:
        raise ShapeError(
            f"feature_alpha_dropout: needs at least 2 dimensions, got shape {tuple(input.shape)}"
        )
    shape = tuple(n if a < 2 else 1 for a, n in enumerate(input.shape))
    return _alpha_drop("feature_alpha_dropout", input, p, training, inplace, shape)


@functional
def gumbel_softmax(
    logits: Any, tau: float = 1.0, hard: bool = False, eps: float = 1e-10, dim: int = -1
) -> Any:
    """A sample of a relaxed categorical distribution: softmax((logits + gumbel noise) / tau).

    hard  one-hot of the largest element, with the gradient of the soft sample

    Source: Jang, Gu, Poole, "Categorical reparameterization with Gumbel-softmax", 2017.
    """
    if tau <= 0:
        raise ArgumentError(f"gumbel_softmax: tau must be positive, got {tau}")
    shape = tuple(logits.shape)
    noise = neg(log(random_exponential(shape, logits.dtype)))
    soft = softmax(mul(add(logits, noise), 1.0 / tau), dim)
    if not hard:
        return soft
    axis = normalize_dim("gumbel_softmax", dim, len(shape))
    best = argmax(Detach()(soft), axis, True)
    one_hot = cast(eq(Iota(shape, dt.int64, axis)(), broadcast_to(best, shape)), soft.dtype)
    return add(sub(one_hot, Detach()(soft)), soft)


@functional
def alpha_dropout(input: Any, p: float = 0.5, training: bool = False, inplace: bool = False) -> Any:
    """Dropout that keeps the mean and variance of SELU activations: dropped elements saturate.

    Source: Klambauer and others, "Self-normalizing neural networks", 2017.
    """
    return _alpha_drop("alpha_dropout", input, p, training, inplace, tuple(input.shape))


def _alpha_drop(name: str, input: Any, p: Any, training: bool, inplace: bool, shape: Shape) -> Any:
    p = _checked(name, input, p)
    if not training or p == 0:
        return input
    low = -1.7580993408473766  # -scale * alpha of SELU
    if p == 1:
        out = mul(input, 0.0)
    else:
        a = ((1 - p) * (1 + p * low * low)) ** -0.5
        keep = broadcast_to(random_keep(shape, p), tuple(input.shape))
        out = add(mul(Where()(keep, input, low), a), -a * p * low)
    return input._write(out, name) if inplace else out


@functional
def rrelu(
    input: Any,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    inplace: bool = False,
) -> Any:
    """x where positive, else x times a slope: random in [lower, upper) in training, else the mean.

    Source: B. Xu and others, "Empirical evaluation of rectified activations", 2015.
    """
    if lower > upper:
        raise ArgumentError(f"rrelu: lower {lower} is above upper {upper}")
    x = float_input("rrelu", input)
    slope: Any = (lower + upper) / 2
    if training:
        slope = add(mul(random_unit(tuple(x.shape), x.dtype), upper - lower), lower)
    out = where(gt(x, 0), x, mul(x, slope))
    return input._write(out, "rrelu") if inplace else out


rrelu_ = in_place(rrelu)
