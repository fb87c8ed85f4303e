"""RNN, LSTM, GRU: packed sequences, projections, captured training, beside PyTorch."""

import numpy as np
import pytest
from torch_oracle import torch

import monograph as mg
from monograph import nn
from monograph.api import compiled
from monograph.compiler.control import ControlStep
from monograph.core import pytree
from monograph.core.errors import ArgumentError, ArgumentTypeError, ShapeError
from monograph.nn.utils import rnn

TIGHT = {"rtol": 1e-9, "atol": 1e-10}
LENGTHS = [3, 6, 1, 4]
SORTED = sorted(LENGTHS, reverse=True)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def pair(name, *args, **kwargs):
    """The layer of both sides, with the same weights."""
    theirs = getattr(torch.nn, name)(*args, dtype=torch.float64, **kwargs)
    mine = getattr(nn, name)(*args, dtype=mg.float64, **kwargs)
    assert [k for k, _ in mine.named_parameters()] == [k for k, _ in theirs.named_parameters()]
    mine.load_state_dict({k: mg.tensor(v.detach().numpy()) for k, v in theirs.state_dict().items()})
    return mine, theirs


def leaves(tree):
    return pytree.tree_leaves(tree)


def assert_same(mine, theirs):
    mine, theirs = leaves(mine), leaves(theirs)
    assert len(mine) == len(theirs)
    for a, b in zip(mine, theirs):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), **TIGHT)


def both(array):
    return mg.tensor(array), torch.tensor(array)


def loss_of(result):
    return sum((t * t).sum() for t in leaves(result) if t.dtype.is_floating_point)


# Packed sequences


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("enforce_sorted", [False, True])
def test_packing_and_unpacking(batch_first, enforce_sorted):
    lengths = SORTED if enforce_sorted else LENGTHS
    x, y = both(draw(4, 6, 3) if batch_first else draw(6, 4, 3))
    options = {"batch_first": batch_first, "enforce_sorted": enforce_sorted}
    mine = rnn.pack_padded_sequence(x, lengths, **options)
    theirs = torch.nn.utils.rnn.pack_padded_sequence(y, lengths, **options)
    assert_same(tuple(mine), tuple(theirs))
    for total in (None, 8):
        options = {"batch_first": batch_first, "padding_value": -1.0, "total_length": total}
        back = torch.nn.utils.rnn.pad_packed_sequence(theirs, **options)
        assert_same(rnn.pad_packed_sequence(mine, **options), back)
    assert rnn.pack_padded_sequence(x, mg.tensor(lengths), batch_first, enforce_sorted) is not None
    parts = rnn.unpack_sequence(mine)
    assert_same(parts, torch.nn.utils.rnn.unpack_sequence(theirs))
    assert [len(p) for p in parts] == lengths
    again = rnn.pack_sequence(parts, enforce_sorted)
    assert_same(tuple(again), tuple(mine))


def test_padding_of_sequences():
    sequences = [both(draw(n, 2, seed=n)) for n in LENGTHS]
    mine, theirs = [s[0] for s in sequences], [s[1] for s in sequences]
    for options in ({}, {"batch_first": True}, {"padding_value": 5.0, "padding_side": "left"}):
        a = rnn.pad_sequence(mine, **options)
        assert_same(a, torch.nn.utils.rnn.pad_sequence(theirs, **options))
    padded = rnn.pad_sequence(mine, batch_first=True)
    assert_same(rnn.unpad_sequence(padded, LENGTHS, batch_first=True), mine)


def test_packed_sequences_of_other_dtypes():
    packed = rnn.pack_sequence([mg.tensor([1, 2, 3]), mg.tensor([4])])
    assert packed.data.tolist() == [1, 4, 2, 3] and packed.batch_sizes.tolist() == [2, 1, 1]
    assert packed.to(mg.float32).data.dtype is mg.float32
    assert isinstance(packed.to(mg.float32), rnn.PackedSequence)
    padded, lengths = rnn.pad_packed_sequence(packed, batch_first=True, padding_value=9)
    assert padded.tolist() == [[1, 2, 3], [4, 9, 9]] and lengths.tolist() == [3, 1]


def test_gradients_go_through_packing():
    x = mg.tensor(draw(6, 4, 2)).requires_grad_()
    packed = rnn.pack_padded_sequence(x, LENGTHS, enforce_sorted=False)
    padded, _ = rnn.pad_packed_sequence(packed)
    (padded * 3).sum().backward()
    reached = np.arange(6)[:, None] < np.array(LENGTHS)
    np.testing.assert_array_equal(
        x.grad.numpy(), np.broadcast_to(3.0 * reached[..., None], x.shape)
    )


LAYERS = [
    ("RNN", {}), ("RNN", {"nonlinearity": "relu", "num_layers": 2}), ("GRU", {"bias": False}),
    ("GRU", {"num_layers": 2, "bidirectional": True}), ("LSTM", {}),
    ("LSTM", {"num_layers": 2, "bidirectional": True}),
    ("LSTM", {"num_layers": 2, "bidirectional": True, "proj_size": 2}),
]  # fmt: skip


@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize(("name", "options"), LAYERS)
def test_packed_input(name, options, with_state, captured):
    mine, theirs = pair(name, 3, 5, **options)
    x, y = both(draw(6, 4, 3))
    depth = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    widths = [options.get("proj_size") or 5] + ([5] if name == "LSTM" else [])
    states = [both(draw(depth, 4, w, seed=7)) for w in widths] if with_state else []

    def run(layer, states, x, side):
        packed = side.pack_padded_sequence(x, LENGTHS, enforce_sorted=False)
        out, last = layer(packed, (tuple(states) if len(states) > 1 else states[0])) if (
            states
        ) else layer(packed)  # fmt: skip
        layer.zero_grad()
        loss_of((out.data, last)).backward()
        return tuple(out), last, [p.grad for p in layer.parameters()]

    f = mg.jit(run, static_argnums=(0, 3)) if captured else run
    expected = run(theirs, [s[1] for s in states], y, torch.nn.utils.rnn)
    for _ in range(2):
        assert_same(f(mine, [s[0] for s in states], x, rnn), expected)


def test_errors_of_packing():
    x = mg.zeros(5, 2, 3)
    with pytest.raises(ArgumentError, match="lengths must be in descending order"):
        rnn.pack_padded_sequence(x, [2, 3])
    with pytest.raises(ArgumentError, match="all lengths must be positive"):
        rnn.pack_padded_sequence(x, [2, 0])
    with pytest.raises(ShapeError, match="3 lengths were given for an input of shape"):
        rnn.pack_padded_sequence(x, [2, 1, 1])
    with pytest.raises(ArgumentError, match="length 6 is larger than the padded length 5"):
        rnn.pack_padded_sequence(x, [6, 1])
    with pytest.raises(ArgumentTypeError, match="needs a PackedSequence, got Tensor"):
        rnn.pad_packed_sequence(x)
    packed = rnn.pack_padded_sequence(x, [3, 1])
    with pytest.raises(ArgumentError, match="total_length 2 is less than the longest sequence's 3"):
        rnn.pad_packed_sequence(packed, total_length=2)
    with pytest.raises(ShapeError, match=r"packed data must have shape \(sum of lengths, 4\)"):
        nn.GRU(4, 5)(packed)


# Projections


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bias": False}, {"bidirectional": True}])
def test_projection(options):
    mine, theirs = pair("LSTM", 3, 5, proj_size=2, **options)
    x, y = both(draw(4, 2, 3))
    assert_same(mine(x), theirs(y))
    loss_of(mine(x)).backward()
    loss_of(theirs(y)).backward()
    assert_same([p.grad for p in mine.parameters()], [p.grad for p in theirs.parameters()])
    assert "proj_size=2" in repr(mine) and repr(mine) == repr(theirs)


def test_errors_of_projections():
    with pytest.raises(ArgumentError, match="GRU: proj_size is for LSTM only"):
        nn.GRU(3, 5, proj_size=2)
    with pytest.raises(ArgumentError, match="proj_size must be less than hidden_size 5, got 5"):
        nn.LSTM(3, 5, proj_size=5)
    lstm = nn.LSTM(3, 5, proj_size=2)
    wrong = mg.zeros(1, 2, 5), mg.zeros(1, 2, 5)
    with pytest.raises(ShapeError, match=r"h_0 must have shape \(1, 2, 2\), got \(1, 2, 5\)"):
        lstm(mg.zeros(4, 2, 3), wrong)


# Captured


@pytest.mark.parametrize(("name", "options"), LAYERS)
def test_captured_layers_are_loops(name, options):
    mine, theirs = pair(name, 3, 5, **options)
    x, y = both(draw(7, 4, 3))

    @mg.jit
    def step(x):
        result = mine(x)
        mine.zero_grad()
        loss_of(result).backward()
        return result, [p.grad for p in mine.parameters()]

    expected = theirs(y)
    loss_of(expected).backward()
    expected = expected, [p.grad for p in theirs.parameters()]
    for _ in range(2):
        assert_same(step(x), expected)
    ((capture,),) = step.captures.values()
    loops = [s for s in capture.executable.plan.steps if isinstance(s, ControlStep)]
    layers = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    assert len(loops) == 2 * layers and all(s.is_native for s in loops)


def language_model(side, dtype):
    class Model(side.nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = side.nn.Embedding(30, 12, dtype=dtype)
            self.lstm = side.nn.LSTM(12, 16, 2, dtype=dtype)
            self.head = side.nn.Linear(16, 30, dtype=dtype)

        def forward(self, x, state):
            out, state = self.lstm(self.embedding(x), state)
            return self.head(out), state

    return Model()


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-9), ("float32", 1e-4)])
def test_losses_of_a_language_model_are_pytorchs(dtype, tolerance):
    theirs = language_model(torch, getattr(torch, dtype))
    mine = language_model(mg, getattr(mg, dtype))
    mine.load_state_dict({k: mg.tensor(v.detach().numpy()) for k, v in theirs.state_dict().items()})
    rng = np.random.default_rng(0)
    words = rng.integers(0, 30, (20, 2, 9, 4))
    found = {}
    for side, model in ((mg, mine), (torch, theirs)):
        optimizer = side.optim.SGD(model.parameters(), lr=0.5)

        def step(x, y, h, c, side=side, model=model, optimizer=optimizer):
            logits, (h, c) = model(x, (h, c))
            loss = side.nn.functional.cross_entropy(logits.reshape(-1, 30), y.reshape(-1))
            optimizer.zero_grad()
            loss.backward()
            side.nn.utils.clip_grad_norm_(model.parameters(), 0.25)
            optimizer.step()
            return loss.detach(), h.detach(), c.detach()

        run = mg.jit(step) if side is mg else step
        h = c = side.zeros(2, 4, 16, dtype=getattr(side, dtype))
        losses = []
        for x, y in words:
            loss, h, c = run(side.tensor(x), side.tensor(y), h, c)
            losses.append(loss.item())
        found[side.__name__] = losses
    np.testing.assert_allclose(found["monograph"], found["torch"], rtol=tolerance)


def test_time_to_compile_does_not_grow_with_the_length():
    kernels = []
    for length in (3, 40):
        layer = nn.LSTM(3, 5)
        compiled = mg.jit(layer)
        compiled(mg.zeros(length, 2, 3))
        ((capture,),) = compiled.captures.values()
        kernels.append(len(capture.executable.plan.steps))
    assert kernels[0] == kernels[1]


def test_eager_layers_run_compiled_and_give_the_same():
    layer = nn.LSTM(8, 24, 2, bidirectional=True, dtype=mg.float64)
    x = mg.tensor(draw(20, 4, 8))

    def run():
        layer.zero_grad()
        result = layer(x)
        loss_of(result).backward()
        return result, [p.grad for p in layer.parameters()]

    fast = run()
    assert any(key[0].name == "scan" for key in compiled._programs)
    compiled.set_enabled(False)
    try:
        slow = run()
    finally:
        compiled.set_enabled(True)
    assert_same(fast, slow)


def test_programs_of_many_lengths_are_forgotten(monkeypatch):
    monkeypatch.setattr(compiled, "MOST_LOOPS", 3)
    monkeypatch.setattr(compiled, "_programs", {})
    monkeypatch.setattr(compiled, "_loops", [])
    layer = nn.GRU(2, 40)
    for length in range(50, 58):
        with mg.no_grad():
            layer(mg.zeros(length, 2, 2))
    assert sum(key[0].name == "scan" for key in compiled._programs) == 3


def test_derivatives_of_all_orders():
    layer = nn.GRU(2, 3, dtype=mg.float64)
    x = mg.tensor(draw(4, 2, 2)).requires_grad_()
    assert mg.autograd.gradcheck(lambda x: layer(x)[0], x)
    assert mg.autograd.gradgradcheck(lambda x: layer(x)[0], x)


def test_gradients_of_each_sequence():
    layer = nn.LSTM(2, 3, dtype=mg.float64)
    weights = {k: p.detach() for k, p in layer.named_parameters()}

    def loss(weights, x):
        return loss_of(mg.func.functional_call(layer, weights, (x,)))

    xs = mg.tensor(draw(5, 6, 2))
    each = mg.vmap(mg.func.grad(loss), in_dims=(None, 0))
    expected = [mg.func.grad(loss)(weights, x) for x in xs]
    for f in (each, mg.jit(each)):
        got = f(weights, xs)
        for k in weights:
            wanted = np.stack([e[k].numpy() for e in expected])
            np.testing.assert_allclose(got[k].numpy(), wanted, **TIGHT)
