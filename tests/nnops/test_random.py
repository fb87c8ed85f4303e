import math

import numpy as np
import pytest

import monograph as mg
from monograph.core.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError
from monograph.kernel import scalar
from monograph.kernel.evaluate import evaluate
from monograph.kernel.ir import Buffer, Const, Kernel, Load, Loop, Store, Var
from monograph.ops import random as source

from .messages import raises_message

PI = 0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344


@pytest.mark.parametrize(
    "counter, key, words",
    [
        ((0,) * 4, (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (PI, (0xA4093822, 0x299F31D0), "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_gives_the_published_words(counter, key, words):
    made = source.philox(tuple(np.array([c], np.uint32) for c in counter), key)
    assert " ".join(f"{int(w[0]):08x}" for w in made) == words


def bits(shape, key, block):
    return source.RandomBits(shape).reference(np.array([key, block], np.int64))


def test_words_are_the_blocks_of_consecutive_counters():
    made = bits((10,), 5, 2)
    counter = (np.array([2, 3, 4], np.uint32), *(np.zeros(3, np.uint32),) * 3)
    expected = np.stack(source.philox(counter, (5, 0)), 1).reshape(-1)[:10]
    assert made.tolist() == expected.tolist()


def test_words_of_many_blocks_do_not_depend_on_how_they_are_cut(monkeypatch):
    whole = bits((101, 7), -3, 1 << 40)
    monkeypatch.setattr(source, "_BLOCKS_AT_ONCE", 16)
    assert (bits((101, 7), -3, 1 << 40) == whole).all()


@pytest.mark.parametrize("words", [1, 2, 4])
@pytest.mark.parametrize("key, block", [(0, 0), (-1, 0xFFFFFFFF), (123456789123456789, 1 << 33)])
def test_the_scalar_rule_gives_the_same_words(key, block, words):
    whole = bits((9 * words,), key, block).reshape(9, words)
    state = np.array([key, block], np.int64)
    for word in range(words):
        op = source.RandomBits((3, 3), words, word)
        assert op.reference(state).reshape(-1).tolist() == whole[:, word].tolist()
        body = []
        for flat in range(9):
            index = (Const(flat // 3, "i64"), Const(flat % 3, "i64"))
            value = op.scalar(scalar, index, lambda j: Load("state", Const(j, "i64"), "i64"))
            body.append(Store("out", Const(flat, "i64"), value))
        buffers = (Buffer("state", "i64"), Buffer("out", "u32", written=True))
        out = np.zeros(9, np.uint32)
        evaluate(Kernel("bits", buffers, tuple(body)), {"state": state, "out": out})
        assert out.tolist() == whole[:, word].tolist()


def run_elementwise(op, result, *words):
    codes = [f"in{k}" for k in range(len(words))]
    index = Var("i")
    value = op.scalar(scalar, *(Load(c, index, "u32") for c in codes))
    body = (Loop("i", Const(0, "i64"), Const(len(words[0]), "i64"), (Store("out", index, value),)),)
    buffers = (*(Buffer(c, "u32") for c in codes), Buffer("out", value.dtype, written=True))
    out = np.zeros(len(words[0]), result)
    evaluate(Kernel("k", buffers, body), {**dict(zip(codes, words)), "out": out})
    return out


@pytest.mark.parametrize(
    "op, result",
    [
        (source.BitsToUnit(mg.float32), np.float32),
        (source.BitsToUnitDouble(), np.float64),
        (source.BitsBelow(1000), np.uint32),
        (source.BitsBelowWide((1 << 63) + 5), np.uint64),
    ],
)
def test_scalar_rules_of_conversions_agree_with_their_reference(op, result):
    words = bits((2, 50), 1, 0)
    words[0, :2], words[1, :2] = (0, 0xFFFFFFFF), (0, 0xFFFFFFFF)
    inputs = words if result in (np.float64, np.uint64) else words[:1]
    made = run_elementwise(op, result, *inputs)
    assert made.tolist() == op.reference(*inputs).tolist()


def test_the_same_seed_gives_the_same_numbers_and_draws_differ():
    g = mg.Generator()
    first = [mg.rand(5, generator=g.manual_seed(1)).tolist(), mg.rand(5, generator=g).tolist()]
    again = [mg.rand(5, generator=g.manual_seed(1)).tolist(), mg.rand(5, generator=g).tolist()]
    assert first == again
    assert first[0] != first[1]
    assert mg.rand(5, generator=g.manual_seed(2)).tolist() != first[0]


def test_default_generator_is_seeded_by_manual_seed():
    with mg.fork_rng():
        assert mg.manual_seed(7) is mg.default_generator
        assert mg.initial_seed() == 7
        x = mg.rand(4).tolist()
        mg.manual_seed(7)
        assert mg.rand(4).tolist() == x
        assert mg.seed() == mg.initial_seed() != 7


def test_the_functions_are_also_in_a_module_of_their_own():
    with mg.random.fork_rng():
        assert mg.random.manual_seed(3) is mg.default_generator
        assert mg.random.initial_seed() == 3


def test_fork_rng_puts_the_state_back():
    before = mg.get_rng_state().tolist()
    with mg.fork_rng():
        mg.rand(10)
        assert mg.get_rng_state().tolist() != before
    assert mg.get_rng_state().tolist() == before


def test_a_saved_state_goes_on_where_it_was():
    g = mg.Generator().manual_seed(3)
    mg.rand(7, generator=g)
    saved = g.get_state()
    x = mg.rand(7, generator=g).tolist()
    other = mg.Generator().set_state(saved)
    assert mg.rand(7, generator=other).tolist() == x
    assert other.initial_seed() == 3


def test_seeds_outside_64_bits_are_refused():
    with raises_message(
        ArgumentError, "manual_seed: seed must be in [-2**63, 2**64), got 18446744073709551616"
    ):
        mg.Generator().manual_seed(1 << 64)
    with raises_message(
        ArgumentTypeError, "set_state: new_state must be an int64 tensor from get_state"
    ):
        mg.Generator().set_state([1, 2])


def seeded(seed=0):
    return mg.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_uniform_numbers_fill_the_unit_interval(dtype):
    x = mg.rand(40000, generator=seeded(), dtype=dtype).double().numpy()
    assert x.min() >= 0 and x.max() < 1
    step = {"bfloat16": 2.0**-8, "float16": 2.0**-11}.get(dtype, 0.0)
    assert abs(x.mean() + step / 2 - 0.5) < 5 * math.sqrt(1 / 12 / 40000)
    assert abs(x.var() - 1 / 12) < 0.002
    counts, _ = np.histogram(x, 16, (0, 1))
    assert ((counts - 2500) ** 2 / 2500).sum() < 45  # chi-square, 15 degrees: p < 1e-4


def test_integers_fill_their_range_evenly():
    x = mg.randint(-3, 7, (50000,), generator=seeded()).numpy()
    counts = np.bincount(x + 3, minlength=10)
    assert x.min() == -3 and x.max() == 6 and x.dtype == np.int64
    assert ((counts - 5000) ** 2 / 5000).sum() < 37  # chi-square, 9 degrees: p < 1e-4


def test_integers_of_wide_ranges_use_64_bits():
    x = mg.randint(-(1 << 62), 1 << 62, (2000,), generator=seeded()).numpy()
    assert abs(x.astype(float).mean()) < 5 * (1 << 63) / math.sqrt(12 * 2000)
    assert len(np.unique(x & 0xFFFFFFFF)) == len(np.unique(x >> 32)) == 2000


def test_bad_arguments_of_creation_functions_are_explained():
    with raises_message(ArgumentError, "randint: low must be below high, got 3 and 3"):
        mg.randint(3, 3, (2,))
    with raises_message(ArgumentError, "randint: needs a size, as in randint(10, (2, 3))"):
        mg.randint(3)
    with raises_message(DTypeError, "rand: dtype must be floating or complex, got int64"):
        mg.rand(3, dtype=mg.int64)
    with raises_message(ArgumentError, "bernoulli: p must be in [0, 1], got 2"):
        mg.bernoulli(mg.zeros(3), 2)


def test_like_forms_take_shape_and_dtype():
    x = mg.zeros(2, 3, dtype=mg.float64)
    assert mg.rand_like(x).dtype is mg.float64 and mg.rand_like(x).shape == (2, 3)
    assert mg.randint_like(x, 5).dtype is mg.float64
    assert mg.rand_like(x, dtype=mg.float32, requires_grad=True).requires_grad


def test_bernoulli_follows_its_probabilities():
    p = mg.tensor(np.repeat([0.0, 0.25, 1.0], 20000))
    x = mg.bernoulli(p, generator=seeded()).numpy().reshape(3, -1)
    assert x[0].sum() == 0 and x[2].sum() == 20000
    assert abs(x[1].mean() - 0.25) < 5 * math.sqrt(0.1875 / 20000)


def test_exponential_numbers_have_the_rate():
    x = mg.zeros(40000).exponential_(4.0, generator=seeded()).numpy()
    assert x.min() > 0
    assert abs(x.mean() - 0.25) < 5 * 0.25 / 200
    assert abs(x.std() - 0.25) < 0.01


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_normal_numbers_have_the_moments_and_tails_of_the_distribution(dtype):
    n = 60000
    x = mg.randn(n, generator=seeded(), dtype=dtype).double().numpy()
    assert abs(x.mean()) < 5 / math.sqrt(n)
    assert abs(x.var() - 1) < 5 * math.sqrt(2 / n)
    assert abs((x**3).mean()) < 5 * math.sqrt(15 / n)
    assert abs((x**4).mean() - 3) < 5 * math.sqrt(96 / n)
    for edge in (0.5, 1.0, 2.0, 3.0):
        tail = math.erfc(edge / math.sqrt(2))
        assert abs((np.abs(x) > edge).mean() - tail) < 5 * math.sqrt(tail / n) + 0.002
    assert 3.8 < np.abs(x).max() < 6


def test_consecutive_normal_numbers_are_uncorrelated():
    x = mg.randn(40000, generator=seeded(3)).numpy()
    for lag in (1, 2, 3, 4):
        assert abs((x[lag:] * x[:-lag]).mean()) < 5 / 200


def test_normal_takes_numbers_and_tensors():
    mean = mg.tensor(np.array([[-5.0], [5.0]]))
    x = mg.normal(mean, mg.full((1, 20000), 0.1, dtype=mg.float64), generator=seeded()).numpy()
    assert x.shape == (2, 20000)
    np.testing.assert_allclose(x.mean(1), [-5, 5], atol=0.004)
    np.testing.assert_allclose(x.std(1), 0.1, atol=0.003)
    y = mg.zeros(20000).normal_(2.0, 3.0, generator=seeded()).numpy()
    assert abs(y.mean() - 2) < 0.11 and abs(y.std() - 3) < 0.08
    with raises_message(ArgumentError, "normal: std must not be negative, got -1.0"):
        mg.normal(0.0, -1.0, (2,))


def test_other_distributions_have_their_medians():
    def median(x):
        return float(np.median(x.numpy()))

    n = 20001
    assert abs(median(mg.zeros(n).cauchy_(3.0, 2.0, generator=seeded())) - 3) < 0.1
    assert abs(median(mg.zeros(n).log_normal_(1.0, 0.5, generator=seeded())) - math.e) < 0.06
    g = mg.zeros(n).geometric_(0.25, generator=seeded()).numpy()
    assert g.min() == 1 and abs(g.mean() - 4) < 0.13
    p = mg.poisson(mg.full((n,), 2.5), seeded()).numpy()
    assert abs(p.mean() - 2.5) < 0.06 and abs(p.var() - 2.5) < 0.15


def test_multinomial_refuses_weights_that_nothing_can_be_drawn_by():
    for weights, text in [
        ([0.0, 0.0], "no weight is above 0"),
        ([[1.0, 0.0], [0.0, 0.0]], "no weight is above 0 in row 1"),
        ([1.0, -1.0], "weights must be finite and not negative, got -1.0"),
        ([math.nan, 1.0], "weights must be finite and not negative, got nan"),
        ([math.inf, 1.0], "weights must be finite and not negative, got inf"),
    ]:
        with pytest.raises(ValueError, match=f"^multinomial: {text}\n"):
            mg.multinomial(mg.tensor(weights), 1)
    assert mg.multinomial(mg.zeros(0, 3), 1).shape == (0, 1)


@pytest.mark.parametrize("rows", [(), (2,)])
def test_multinomial_with_replacement_follows_the_weights(rows):
    weights = np.broadcast_to(np.array([1.0, 0.0, 3.0, 4.0], np.float32), (*rows, 4))
    x = mg.multinomial(mg.tensor(weights), 8000, True, generator=seeded()).numpy()
    assert x.shape == (*rows, 8000) and x.dtype == np.int64
    for row in x.reshape(-1, 8000):
        share = np.bincount(row, minlength=4) / 8000
        np.testing.assert_allclose(share, [1 / 8, 0, 3 / 8, 1 / 2], atol=0.025)


def test_capture_draws_fresh_numbers_that_equal_the_eager_ones():
    g = mg.Generator()

    def draw(x):
        return source.dropout(x, 0.5) + mg.rand(4, generator=g)

    with mg.fork_rng():
        expected, made = [], []
        for results, f in ((expected, draw), (made, mg.jit(draw))):
            mg.manual_seed(11)
            g.manual_seed(5)
            results.extend(f(mg.ones(4)).tolist() for _ in range(3))
    assert made == expected
    assert expected[0] != expected[1] != expected[2]


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_captured_normal_numbers_equal_the_eager_ones(dtype):
    def draw():
        return mg.randn(7, 3, dtype=dtype), mg.randint(1 << 40, (5,)), mg.rand(3, dtype=dtype)

    with mg.fork_rng():
        mg.manual_seed(1)
        expected = [draw() for _ in range(2)]
        mg.manual_seed(1)
        captured = mg.jit(draw)
        made = [captured() for _ in range(2)]
    for a, b in zip(made, expected):
        # Logarithm and cosine of the compiler differ from NumPy's in the last place.
        tolerance = dict(rtol=1e-5, atol=1e-6) if dtype == "float32" else dict(rtol=1e-2, atol=1e-2)
        tolerance = dict(rtol=1e-13, atol=1e-14) if dtype == "float64" else tolerance
        np.testing.assert_allclose(a[0].double().numpy(), b[0].double().numpy(), **tolerance)
        assert a[1].tolist() == b[1].tolist() and a[2].tolist() == b[2].tolist()


def test_in_place_forms_write_the_same_memory():
    x = mg.zeros(3, 4)
    view = x.select(0, 1)
    assert x.uniform_(2, 3, generator=seeded()) is x
    assert x.numpy().min() >= 2 and x.numpy().max() < 3
    assert view.tolist() == x.tolist()[1]
    n = mg.zeros(5, dtype=mg.int32).random_(10, 20, generator=seeded())
    assert n.dtype is mg.int32 and 10 <= n.numpy().min() and n.numpy().max() < 20


def test_dropout_scales_what_it_keeps():
    with mg.fork_rng():
        mg.manual_seed(0)
        x = mg.ones(200, 100, requires_grad=True)
        y = source.dropout(x, 0.3)
        kept = y.numpy(force=True) != 0
        assert abs(kept.mean() - 0.7) < 5 * math.sqrt(0.21 / 20000)
        np.testing.assert_allclose(y.numpy(force=True)[kept], 1 / 0.7, rtol=1e-6)
        y.backward(mg.ones(200, 100))
        assert (x.grad.numpy() == y.numpy(force=True)).all()


def test_dropout_at_the_ends_of_p_and_in_evaluation():
    x = mg.ones(4, 4, requires_grad=True)
    assert source.dropout(x, 0.0) is x
    assert source.dropout(x, 0.5, training=False) is x
    y = source.dropout(x, 1.0)
    y.backward(mg.ones(4, 4))
    assert not y.numpy(force=True).any() and not x.grad.numpy().any()
    with raises_message(ArgumentError, "dropout: p must be in [0, 1], got 1.5"):
        source.dropout(x, 1.5)


def test_dropout_in_place_writes_its_input():
    x = mg.ones(100)
    assert source.dropout(x, 0.5, inplace=True) is x
    assert set(x.tolist()) == {0.0, 2.0}


@pytest.mark.parametrize(
    "name, shape, axes",
    [
        ("dropout1d", (50, 8, 3), (2,)), ("dropout1d", (50, 3), (1,)),
        ("dropout2d", (50, 8, 3, 2), (2, 3)), ("dropout3d", (50, 8, 3, 2, 2), (2, 3, 4)),
        ("dropout3d", (50, 3, 2, 2), (1, 2, 3)),
    ],
)  # fmt: skip
def test_channel_dropout_zeroes_whole_channels(name, shape, axes):
    y = getattr(source, name)(mg.ones(*shape), 0.5).numpy()
    assert (y.min(axes) == y.max(axes)).all()
    assert set(np.unique(y)) == {0.0, 2.0}


def test_channel_dropout_checks_dimensions():
    with raises_message(ShapeError, "dropout2d: needs 3 or 4 dimensions, got shape (2, 3)"):
        source.dropout2d(mg.ones(2, 3))


def test_permutations_hold_every_number_and_are_even():
    g = seeded()
    x = np.stack([mg.randperm(6, generator=g).numpy() for _ in range(1500)])
    assert (np.sort(x, 1) == np.arange(6)).all()
    counts = np.stack([np.bincount(column, minlength=6) for column in x.T])
    assert ((counts - 250) ** 2 / 250).sum() < 70  # chi-square, 25 degrees: p < 1e-5
    assert mg.randperm(0).shape == (0,) and mg.randperm(3, dtype=mg.int32).dtype is mg.int32


@pytest.mark.parametrize("rows", [(), (3,)])
def test_multinomial_without_replacement_draws_each_class_once(rows):
    weights = mg.tensor(np.broadcast_to(np.array([1.0, 2.0, 3.0, 4.0]), (*rows, 4)))
    x = mg.multinomial(weights, 4, generator=seeded()).numpy()
    assert (np.sort(x, -1) == np.arange(4)).all()
    many = mg.multinomial(mg.tensor(np.tile([1.0, 2.0, 3.0, 4.0], (8000, 1))), 2).numpy()
    first = np.bincount(many[:, 0], minlength=4) / 8000
    np.testing.assert_allclose(first, [0.1, 0.2, 0.3, 0.4], atol=0.025)
    with raises_message(ArgumentError, "multinomial: num_samples must be in [1, 4], got 5"):
        mg.multinomial(weights, 5)


def test_gumbel_softmax_samples_in_proportion_with_soft_gradients():
    logits = mg.tensor(np.tile(np.log([0.1, 0.2, 0.7]), (8000, 1)), requires_grad=True)
    with mg.fork_rng():
        mg.manual_seed(0)
        hard = source.gumbel_softmax(logits, hard=True)
        mg.manual_seed(0)
        soft = source.gumbel_softmax(logits)
    np.testing.assert_allclose(hard.numpy(force=True).mean(0), [0.1, 0.2, 0.7], atol=0.025)
    np.testing.assert_allclose(soft.numpy(force=True).sum(1), 1, rtol=1e-12)
    w = mg.tensor(np.random.default_rng(0).standard_normal((8000, 3)))
    made, expected = (mg.autograd.grad(x, logits, w)[0].numpy() for x in (hard, soft))
    np.testing.assert_allclose(made, expected, rtol=1e-12)


def test_feature_alpha_dropout_saturates_whole_channels():
    y = source.feature_alpha_dropout(mg.ones(50, 8, 3, 2), 0.5, training=True).numpy()
    assert (y.min((2, 3)) == y.max((2, 3))).all() and len(np.unique(y)) == 2


def test_alpha_dropout_keeps_mean_and_variance():
    with mg.fork_rng():
        mg.manual_seed(0)
        x = mg.randn(200000)
        y = source.alpha_dropout(x, 0.2, training=True).numpy()
    assert abs(y.mean()) < 0.02 and abs(y.var() - 1) < 0.02


def test_captured_dropout_has_the_gradients_of_the_eager_one():
    x = mg.tensor(np.random.default_rng(0).standard_normal((6, 8)).astype(np.float32))

    def step(x):
        x = x.detach().requires_grad_()
        loss = (source.dropout(source.dropout(x, 0.3) * x, 0.5) * x).sum()
        return mg.autograd.grad(loss, x)[0]

    with mg.fork_rng():
        mg.manual_seed(4)
        expected = [step(x) for _ in range(2)]
        mg.manual_seed(4)
        captured = mg.jit(step)
        made = [captured(x) for _ in range(2)]
    for a, b in zip(made, expected):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6)
    assert made[0].tolist() != made[1].tolist()


@pytest.mark.parametrize("n", [1, 7, 20_001])
def test_numbers_drawn_in_one_pass_are_those_that_captured_code_forms(n):
    def draw(x):
        low = mg.zeros_like(x).uniform_(-0.3, 0.7)
        return low, mg.zeros_like(x).normal_(1.5, 0.25), mg.rand(n), mg.randn(3, n)

    x = mg.zeros(n)
    mg.manual_seed(5)
    eager = draw(x)
    state = mg.get_rng_state().tolist()
    mg.manual_seed(5)
    captured = mg.jit(draw)(x)
    assert mg.get_rng_state().tolist() == state
    for k, (a, b) in enumerate(zip(eager, captured, strict=True)):
        # Logarithm and cosine of few numbers are NumPy's.
        rtol = 0 if k % 2 == 0 else 1e-5
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=rtol, atol=rtol)


@pytest.mark.parametrize("shape", [(), (3, 4), (130, 140), (0, 2)])
def test_drawn_tensors_own_their_memory(shape):
    for x in (mg.rand(*shape), mg.randn(*shape)):
        assert x._base is None and tuple(x.shape) == shape
        assert mg.jit(lambda x=x: x.requires_grad)() is False
        x.requires_grad_()
        assert (
            mg.jit(lambda x=x: mg.autograd.grad((x * 3).sum(), x)[0] * 1)().sum() == 3 * x.numel()
        )
