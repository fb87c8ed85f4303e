"""Programs of run-time sizes: the same numbers as programs made for one size, for many sizes."""

import numpy as np
import pytest

import monograph as mg
import monograph.nn.functional as F
from monograph import nn
from monograph.core.errors import ArgumentError, ArgumentTypeError

LENGTHS = (5, 9, 20, 1, 17, 33, 64, 16, 100, 131)


def real(*shape, seed=0):
    return mg.tensor(np.random.default_rng(seed).standard_normal(shape).astype("f"))


def whole(high, *shape, seed=0):
    return mg.tensor(np.random.default_rng(seed).integers(0, high, shape))


def leaves(result):
    return [t.numpy() for t in (result if isinstance(result, tuple) else (result,))]


def programs(jitted):
    """How many programs of run-time sizes there are, and how many of fixed sizes."""
    every = [c for variants in jitted.captures.values() for c in variants]
    return sum(c.sizes is not None for c in every), sum(c.sizes is None for c in every)


def check(function, make, sizes=LENGTHS, tolerance=2e-5, most=1):
    """`function` of run-time sizes gives what it gives at fixed sizes, from at most so many
    programs (and one for size 1)."""
    dynamic = mg.jit(function, dynamic=None)
    fixed = mg.jit(function, dynamic=False)
    for n in sizes:
        args = make(n)
        for got, expected in zip(leaves(dynamic(*args)), leaves(fixed(*args))):
            assert got.shape == expected.shape
            np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)
    made, others = programs(dynamic)
    assert 1 <= made <= most
    assert others <= 2  # the first size, and 1
    return dynamic


WEIGHT = real(16, 24, seed=1)

FUNCTIONS = {
    "elementwise": (lambda x: mg.exp(x) * 2 + 1, lambda n: [real(4, n, 16)]),
    "sizes as numbers": (
        lambda x: (x / x.shape[1], x * (1 / x.shape[1]), x + x.shape[1] // 2, x.shape[1] * x),
        lambda n: [real(4, n)],
    ),
    "reductions": (
        lambda x: (x.sum(), x.mean(1), x.sum(0), x.max(1).values, x.var(1, correction=0)),
        lambda n: [real(4, n, 3)],
    ),
    "softmax along it": (lambda x: x.softmax(1), lambda n: [real(4, n)]),
    "softmax beside it": (lambda x: x.softmax(0), lambda n: [real(4, n)]),
    "linear": (lambda x: (x @ WEIGHT).relu() + 1, lambda n: [real(4, n, 16)]),
    "columns": (lambda x: WEIGHT.T @ x, lambda n: [real(16, n)]),
    "inner": (lambda x: x.T @ x, lambda n: [real(n, 24)]),
    "products of itself": (lambda x: x @ x.T, lambda n: [real(n, 24)]),
    "reshapes": (
        lambda x: (x.reshape(x.shape[0] * x.shape[1], 16) @ WEIGHT).view(4, x.shape[1], -1).mean(2),
        lambda n: [real(4, n, 16)],
    ),
    "flattened": (lambda x: x.flatten() * 2, lambda n: [real(4, n, 3)]),
    "transposed": (lambda x: x.transpose(1, 2).contiguous() + 1, lambda n: [real(4, n, 16)]),
    "slices": (lambda x: (x[:, 1:], x[:, :-1] * 2, x[:, -1]), lambda n: [real(4, n + 1, 3)]),
    "joined": (lambda x: mg.cat([x, x * 2], 1), lambda n: [real(4, n, 3)]),
    "padded": (lambda x: F.pad(x, (2, 3)), lambda n: [real(4, n)]),
    "flipped": (lambda x: x.flip(1), lambda n: [real(4, n)]),
    "arange": (lambda x: x + mg.arange(x.shape[1]), lambda n: [real(4, n)]),
    "triangle": (lambda x: x @ mg.tril(mg.ones(x.shape[1], x.shape[1])), lambda n: [real(4, n)]),
    "cumulative": (lambda x: x.cumsum(1), lambda n: [real(4, n)]),
    "argmax": (lambda x: (x.argmax(1), x.argmax()), lambda n: [real(4, n)]),
    "layer norm": (lambda x: F.layer_norm(x, (16,)), lambda n: [real(4, n, 16)]),
    "norm over the batch": (
        lambda x: F.batch_norm(x, None, None, training=True),
        lambda n: [real(n + 2, 16)],
    ),
    "cross entropy": (
        lambda x, y: F.cross_entropy(x.view(-1, 10), y.view(-1)),
        lambda n: [real(4, n, 10), whole(10, 4, n)],
    ),
    "embedding": (lambda x, w: F.embedding(x, w), lambda n: [whole(50, 4, n), real(50, 8)]),
    "attention": (
        lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
        lambda n: [real(2, 3, n, 16)],
    ),
    "two sizes": (lambda x, y: x @ y.T, lambda n: [real(n, 8), real(2 * n + 1, 8, seed=2)]),
}

MORE_PROGRAMS = {"columns", "products of itself", "two sizes"}  # tiles of N are for N >= 16


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_size_gives_what_a_program_for_it_gives(name):
    function, make = FUNCTIONS[name]
    check(function, make, most=2 if name in MORE_PROGRAMS else 1)


def trained(model, loss_of, batches, **kwargs):
    """Losses of steps, and the parameters after them."""
    optimizer = mg.optim.AdamW(model.parameters(), lr=1e-2)

    def step(*batch):
        optimizer.zero_grad()
        loss = loss_of(model, *batch)
        loss.backward()
        optimizer.step()
        return loss

    step = mg.jit(step, **kwargs)
    losses = [step(*batch).item() for batch in batches]
    return losses, [p.detach().numpy() for p in model.parameters()], step


class Attention(nn.Module):
    """Two causal layers with learned positions."""

    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(30, 16), nn.Embedding(256, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(16, 30)

    def forward(self, x):
        t = x.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(t)
        h = self.words(x) + self.places(mg.arange(t))
        return self.head(self.layers(h, mask=mask, is_causal=True))


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.words = nn.Embedding(30, 16)
        self.cells = kind(16, 16, 2, batch_first=True)
        self.head = nn.Linear(16, 30)

    def forward(self, x):
        return self.head(self.cells(self.words(x))[0])


SEQUENCES = {
    "transformer": Attention,
    "lstm": lambda: Recurrent(nn.LSTM),
    "gru": lambda: Recurrent(nn.GRU),
}


def next_word_loss(model, x, y):
    return F.cross_entropy(model(x).flatten(0, 1), y.flatten())


@pytest.mark.parametrize("name", SEQUENCES)
def test_training_on_many_lengths_gives_what_fixed_sizes_give(name):
    batches = [(whole(30, 3, n, seed=n), whole(30, 3, n, seed=n + 1)) for n in (24, 17, 40, 96)]
    results = []
    for dynamic in (None, False):
        mg.manual_seed(0)
        results.append(trained(SEQUENCES[name](), next_word_loss, batches, dynamic=dynamic))
    (losses, weights, step), (expected, expected_weights, _) = results
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    for w, e in zip(weights, expected_weights):
        np.testing.assert_allclose(w, e, rtol=2e-3, atol=2e-4)
    assert programs(step) == (1, 1)


def test_a_batch_of_images_of_any_size():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(16, 5),
    )  # fmt: skip
    state = {k: v.clone() for k, v in model.state_dict().items()}
    batches = [(real(n, 3, 8, 8, seed=n), whole(5, n, seed=n)) for n in (8, 6, 12, 7)]
    results = []
    for dynamic in (None, False):
        model.load_state_dict(state)
        results.append(
            trained(model, lambda m, x, y: F.cross_entropy(m(x), y), batches, dynamic=dynamic)
        )
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-4)


def test_dropout_draws_the_same_numbers_at_run_time_sizes():
    def noisy(x):
        return F.dropout(x, 0.5)

    made = []
    for dynamic in (None, False):
        mg.manual_seed(3)
        step = mg.jit(noisy, dynamic=dynamic)
        made.append([step(mg.ones(4, n)).numpy() for n in (8, 12, 33)])
    for a, b in zip(*made):
        assert (a == b).all()


# What cannot be dynamic, and why


def test_what_needs_the_number_runs_at_fixed_sizes_and_says_where():
    def places(x):
        return x * mg.tensor([float(i) for i in range(x.shape[1])])

    jitted = mg.jit(places, dynamic=None)
    for n in (3, 5, 8):
        assert jitted(mg.ones(2, n))[0].tolist() == [float(i) for i in range(n)]
    assert programs(jitted) == (0, 3)
    why = jitted.recompiles[1]
    assert why.startswith(
        "dimension 1 of argument 0 (s0) cannot be dynamic: its number is needed (at "
    )
    assert "in places: return x * mg.tensor([float(i) for i in range(x.shape[1])])" in why


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.sort(1).values,
        lambda x: F.conv1d(x.unsqueeze(1), mg.ones(2, 1, 3), padding=1),
        lambda x: mg.linalg.pinv(x),
    ],
)
def test_kernels_made_for_one_size_run_at_fixed_sizes(function):
    dynamic, fixed = (mg.jit(function, dynamic=d) for d in (None, False))
    for n in (6, 9, 12):
        x = real(4, n)
        np.testing.assert_allclose(dynamic(x).numpy(), fixed(x).numpy(), rtol=1e-4, atol=1e-5)


def test_a_branch_on_a_size_is_a_condition_of_the_program():
    def halved(x):
        if x.shape[1] > 10:
            return x / 2
        return x

    jitted = mg.jit(halved, dynamic=None)
    results = [jitted(mg.ones(2, n))[0, 0].item() for n in (4, 6, 20, 8, 10, 11, 40)]
    assert results == [1, 1, 0.5, 1, 1, 0.5, 0.5]
    assert programs(jitted) == (2, 1)
    assert jitted.recompiles[-1].startswith("s0 = 20: the program is for s0 < 11 (at ")


def test_sizes_that_are_equal_by_chance_are_told_apart():
    def total(x, y):
        return x.sum() + y.sum()

    jitted = mg.jit(total, dynamic=None)
    for n, m in ((3, 4), (5, 5), (6, 7), (8, 8)):
        assert jitted(mg.ones(n), mg.ones(m)).item() == n + m


# Declared sizes


def test_declared_sizes_compile_one_program():
    def mean(x):
        return x.sum(1) / x.shape[1]

    for declared in ({"x": 1}, {"x": (1,)}, {"x": {1: "T"}}, {"x": {-1: mg.Dim("T", max=64)}}):
        jitted = mg.jit(mean, dynamic=declared)
        for n in (3, 8, 64):
            assert jitted(mg.ones(2, n)).tolist() == [1.0, 1.0]
        assert programs(jitted) == (1, 0)


def test_sizes_outside_of_the_range_have_programs_of_their_own():
    jitted = mg.jit(lambda x: x * 2, dynamic={"x": {0: mg.Dim("T", min=4, max=8)}})
    for n in (4, 8, 6, 9, 3, 1, 0):
        assert jitted(mg.ones(n)).tolist() == [2.0] * n
    assert programs(jitted) == (1, 4)


def test_true_makes_all_sizes_dynamic_that_can_be():
    jitted = mg.jit(lambda x: x @ WEIGHT, dynamic=True)
    for shape in ((5, 16), (16, 16), (40, 16)):
        assert jitted(mg.ones(*shape)).shape == (shape[0], 24)
    assert programs(jitted) == (1, 0)


def test_wrong_declarations_are_errors():
    def f(x):
        return x

    with pytest.raises(ArgumentError, match="no argument 'y'; it has x"):
        mg.jit(f, dynamic={"y": 0})
    with pytest.raises(ArgumentTypeError, match="dynamic must be None, a bool or a mapp"):
        mg.jit(f, dynamic=3)
    with pytest.raises(ArgumentError, match="axis 2 of 'x', which has 1 dimensions"):
        mg.jit(f, dynamic={"x": 2})(mg.ones(3))
    with pytest.raises(ArgumentError, match="max 3 is less than min 5"):
        mg.Dim("T", min=5, max=3)


# Gradients, threads, number of programs


def test_gradients_from_outside_at_run_time_sizes():
    weight = real(16, 4)
    weight.requires_grad_()

    def score(x):
        return (x @ weight).tanh().mean()

    jitted = mg.jit(score, dynamic=None)
    for n in (3, 7, 30, 12):
        x, y = (real(n, 16).requires_grad_() for _ in range(2))
        weight.grad = None
        jitted(x).backward()
        got, weight.grad = weight.grad, None
        score(y).backward()
        np.testing.assert_allclose(got.numpy(), weight.grad.numpy(), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=1e-4, atol=1e-6)
    assert programs(jitted) == (1, 1)


def test_results_do_not_depend_on_the_number_of_threads():
    def mixed(x):
        return (x @ x.transpose(1, 2)).softmax(-1) @ x, x.sum((0, 1))

    made = []
    before = mg.get_num_threads()
    try:
        for threads in (1, 2):
            mg.set_num_threads(threads)
            jitted = mg.jit(mixed, dynamic={"x": 1})
            made.append([leaves(jitted(real(4, n, 64))) for n in (100, 130, 257)])
    finally:
        mg.set_num_threads(before)
    for a, b in zip(*made):
        assert all((x == y).all() for x, y in zip(a, b))


def test_the_program_used_longest_ago_is_forgotten():
    jitted = mg.jit(lambda x: x + 1, dynamic=False, max_programs=2)
    jitted(mg.ones(1)), jitted(mg.ones(2))
    with pytest.warns(RuntimeWarning, match="needed more than 2 programs, the last because argu"):
        jitted(mg.ones(3))
    assert programs(jitted) == (0, 2)
    assert jitted(mg.ones(1)).tolist() == [2.0]


# When sizes become dynamic of themselves


def test_sizes_that_change_at_once_are_dynamic_by_default():
    jitted = mg.jit(lambda x: x * 2)
    for n in (3, 4, 5, 6):
        assert jitted(mg.ones(n)).tolist() == [2.0] * n
    assert programs(jitted) == (1, 1)


def test_after_many_calls_one_other_size_has_a_program_of_its_own():
    jitted = mg.jit(lambda x: x * 2)
    for _ in range(100):
        jitted(mg.ones(32))
    jitted(mg.ones(5))  # the last batch of an epoch
    jitted(mg.ones(32))
    assert programs(jitted) == (0, 2)
    jitted(mg.ones(7))
    assert jitted(mg.ones(9)).tolist() == [2.0] * 9
    assert programs(jitted) == (1, 2)


def test_sizes_0_and_1_make_nothing_dynamic():
    jitted = mg.jit(lambda x: x * 2)
    for n in (1, 0, 8):
        assert jitted(mg.ones(n)).tolist() == [2.0] * n
    assert programs(jitted) == (0, 3)


def test_a_size_that_comes_all_the_time_gets_a_program_of_its_own():
    jitted = mg.jit(lambda x: x * 2)
    for n in (3, 4, 5):
        jitted(mg.ones(n))
    x = mg.ones(6)
    for _ in range(1001):
        jitted(x)
    assert programs(jitted) == (1, 2)
    assert jitted.recompiles[-1].startswith("1000 calls in a row at the same sizes")
    for n in (7, 6, 8, 3):
        assert jitted(mg.ones(n)).tolist() == [2.0] * n
    assert programs(jitted) == (1, 2)
    declared = mg.jit(lambda x: x * 2, dynamic={"x": 0})
    for _ in range(1002):
        declared(x)
    assert programs(declared) == (1, 0)


def test_python_runs_once_where_a_kernel_needs_the_number():
    runs = []

    def ordered(x):
        runs.append(x.shape)
        return x.sort(1).values.sum(0) / x.shape[1]

    jitted = mg.jit(ordered)
    for n in (4, 6, 9):
        expected = np.sort(real(3, n).numpy(), 1).sum(0) / n
        np.testing.assert_allclose(jitted(real(3, n)).numpy(), expected, rtol=1e-5)
    assert len(runs) == 3
    assert programs(jitted) == (0, 3)


def test_one_size_may_be_fixed_and_another_dynamic():
    jitted = mg.jit(lambda x: x.sort(1).values * x.shape[0])
    for n, m in ((4, 5), (6, 7), (8, 7), (9, 7)):
        expected = np.sort(real(n, m).numpy(), 1) * n
        np.testing.assert_allclose(jitted(real(n, m)).numpy(), expected, rtol=1e-6)
    assert programs(jitted) == (1, 1)


def test_gradients_where_a_size_turns_out_to_be_fixed():
    def score(x):
        return (x.sort(1).values * x.shape[1]).exp().sum()

    jitted = mg.jit(score)
    for n in (3, 5, 4):
        x, y = (real(2, n).requires_grad_() for _ in range(2))
        jitted(x).backward()
        score(y).backward()
        np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=1e-5)


def test_sizes_are_returned_as_numbers():
    jitted = mg.jit(lambda x: (x * 2, x.shape[0], 1 / x.shape[0], {"n": x.shape[0] + 1}))
    for n in (3, 4, 6, 8):
        _, size, share, more = jitted(mg.ones(n))
        assert (size, share, more) == (n, 1 / n, {"n": n + 1})
        assert type(size) is int and type(share) is float
    assert programs(jitted) == (1, 1)


def test_a_size_that_outlives_its_program_is_a_number():
    kept = []

    def noted(x):
        kept.append(x.shape[0])
        return x * 2

    jitted = mg.jit(noted)
    for n in (3, 4, 5):
        jitted(mg.ones(n))
    assert kept == [3, 4]
    assert kept[1] > 3 and list(range(kept[1])) == [0, 1, 2, 3]
    assert mg.zeros(kept[1]).shape == (4,)
    assert jitted(mg.ones(7)).shape == (7,)
    assert programs(jitted) == (1, 1)


def test_what_depends_on_weights_alone_is_computed_once_for_all_sizes():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 40)
    ).eval()
    batches = [real(n, 3, 8, 8, seed=n) for n in (17, 32, 21, 70, 33)]

    def run(x):
        with mg.no_grad():
            return model(x)

    jitted = mg.jit(run)
    for k in range(2):
        for x in batches:
            np.testing.assert_allclose(jitted(x).numpy(), run(x).numpy(), rtol=1e-4, atol=1e-5)
        with mg.no_grad():  # prepared anew
            for p in (*model.parameters(), model[1].running_var):
                p.mul_(1.5 + k)
    assert programs(jitted) == (1, 1)
    dynamic = [c for variants in jitted.captures.values() for c in variants if c.sizes is not None]
    executable = dynamic[0].executable
    assert dynamic[0].must_prepare and executable.family.kept
    written = {b for step in executable.steps for b in getattr(step, "buffers", ())}
    assert executable.family.kept.keys() & written
