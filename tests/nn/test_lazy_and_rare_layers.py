"""Lazy layers, embeddings in bags, the adaptive softmax and other rare layers beside PyTorch's."""

import numpy as np
import pytest

import monograph as mg
from monograph import nn

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests")

LAZY = [
    ("LazyLinear", (4,), {}, (2, 3)),
    ("LazyLinear", (4, False), {}, (5, 2, 3)),
    ("LazyConv1d", (4, 3), {}, (6, 5)),
    ("LazyConv2d", (4, 3, 2, 1), {"bias": False}, (2, 6, 5, 5)),
    ("LazyConv3d", (4, 2), {"groups": 2}, (2, 6, 4, 4, 4)),
    ("LazyConvTranspose1d", (4, 3), {}, (2, 6, 5)),
    ("LazyConvTranspose2d", (4, 3, 2, 1, 1), {"groups": 2}, (2, 6, 5, 5)),
    ("LazyConvTranspose3d", (4, 2), {}, (2, 6, 4, 4, 4)),
    ("LazyBatchNorm1d", (), {}, (4, 3)),
    ("LazyBatchNorm1d", (), {"affine": False}, (4, 3, 2)),
    ("LazyBatchNorm2d", (), {}, (4, 3, 2, 2)),
    ("LazyBatchNorm3d", (), {}, (4, 3, 2, 2, 2)),
    ("LazyInstanceNorm1d", (), {}, (4, 3, 2)),
    ("LazyInstanceNorm2d", (), {"affine": False}, (4, 3, 2, 2)),
    ("LazyInstanceNorm3d", (), {}, (4, 3, 2, 2, 2)),
]


@pytest.mark.filterwarnings("ignore:Lazy modules")
@pytest.mark.parametrize("name, args, kwargs, shape", LAZY)
def test_lazy_layers_equal_torchs(name, args, kwargs, shape):
    theirs = getattr(torch.nn, name)(*args, **kwargs)
    used, loaded, captured = (getattr(nn, name)(*args, **kwargs) for _ in range(3))
    assert list(used.state_dict()) == list(theirs.state_dict())
    assert used.has_uninitialized_params() == theirs.has_uninitialized_params()
    params = list(used.parameters())
    x = np.random.default_rng(0).standard_normal(shape).astype("float32")
    theirs(torch.tensor(x))
    used(mg.tensor(x))
    step = mg.jit(captured.__call__)
    step(mg.tensor(x))
    assert all(a is b for a, b in zip(params, used.parameters()))
    state = {k: mg.tensor(v.numpy().copy()) for k, v in theirs.state_dict().items()}
    expected = theirs.eval()(torch.tensor(x)).detach().numpy()
    for layer in (used, loaded, captured):
        layer.load_state_dict(state)
        if state:
            assert type(layer).__name__ == type(theirs).__name__
            assert repr(layer).split(",")[0] == repr(theirs).split(",")[0]
        made = layer.eval()(mg.tensor(x))
        np.testing.assert_allclose(made.detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_an_optimizer_may_hold_lazy_parameters():
    net = nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.LazyLinear(1))
    assert repr(net[0]) == "LazyLinear(in_features=0, out_features=4, bias=True)"
    optimizer = mg.optim.SGD(net.parameters(), lr=0.1)
    loss = net(mg.ones(2, 3)).sum()
    loss.backward()
    before = net[0].weight.detach().clone()
    optimizer.step()
    assert net[0].weight.shape == (4, 3) and (net[0].weight != before).any()


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("options", [{}, {"padding_idx": 2}, {"include_last_offset": True}])
def test_embedding_bag_equals_torchs(mode, options):
    mine, theirs = (lib.EmbeddingBag(10, 3, mode=mode, **options) for lib in (nn, torch.nn))
    theirs.load_state_dict({"weight": torch.tensor(mine.weight.detach().numpy())})
    indices, offsets = [1, 2, 4, 5, 4, 3, 2, 9], [0, 4, 4]
    if options.get("include_last_offset"):
        offsets.append(8)
    a = mine(mg.tensor(indices), mg.tensor(offsets))
    b = theirs(torch.tensor(indices), torch.tensor(offsets))
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-5, atol=1e-6)
    (a * a).sum().backward()
    (b * b).sum().backward()
    np.testing.assert_allclose(mine.weight.grad.numpy(), theirs.weight.grad.numpy(), rtol=1e-4,
                               atol=1e-6)  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [{"sparse": True}, {"scale_grad_by_freq": True}, {"max_norm": 1.0},
     {"max_norm": 0.5, "norm_type": 1.0}],
)  # fmt: skip
def test_options_of_embedding_equal_torchs(options):
    mine = nn.Embedding(6, 3, **options)
    theirs = torch.nn.Embedding(6, 3, **{**options, "sparse": False})
    theirs.load_state_dict({"weight": torch.tensor(mine.weight.detach().numpy())})
    indices = [[0, 1, 1], [5, 1, 0]]
    a, b = mine(mg.tensor(indices)), theirs(torch.tensor(indices))
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-5)
    (a * a).sum().backward()
    (b * b).sum().backward()
    assert mine.weight.grad.is_sparse == options.get("sparse", False)
    gradient = mine.weight.grad.to_dense()
    for x, y in ((mine.weight, theirs.weight), (gradient, theirs.weight.grad)):
        np.testing.assert_allclose(x.detach().numpy(), y.detach().numpy(), rtol=1e-5)


@pytest.mark.parametrize("call", [lambda f: f, mg.jit])
@pytest.mark.parametrize(
    ("name", "options"),
    [("embedding", {"max_norm": 1.0}), ("embedding", {"scale_grad_by_freq": True}),
     ("embedding_bag", {"max_norm": 1.0})],
)  # fmt: skip
def test_options_of_lookup_functions_equal_torchs(name, options, call):
    table, indices = np.random.default_rng(0).standard_normal((6, 3)), [[0, 1, 1], [5, 1, 0]]
    found = []
    for lib, run in ((mg, call), (torch, lambda f: f)):
        weight = lib.tensor(table, requires_grad=True)
        f = run(lambda i, w, lib=lib: getattr(lib.nn.functional, name)(i, w, **options))
        out = f(lib.tensor(indices), weight)
        (out * out).sum().backward()
        found.append([t.detach().numpy() for t in (out, weight, weight.grad)])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_bags_by_frequency_are_sums_of_rows_by_frequency():
    indices, grads = mg.tensor([[0, 1, 1], [5, 1, 0]]), []
    for f in (
        lambda i, w: nn.functional.embedding_bag(i, w, mode="sum", scale_grad_by_freq=True),
        lambda i, w: nn.functional.embedding(i, w, scale_grad_by_freq=True).sum(1),
    ):
        weight = mg.arange(18.0).reshape(6, 3).requires_grad_()
        (f(indices, weight) ** 2).sum().backward()
        grads.append(weight.grad)
    assert mg.allclose(*grads) and grads[0].any()


def test_adaptive_softmax_equals_torchs():
    mine = nn.AdaptiveLogSoftmaxWithLoss(8, 20, [4, 10], div_value=2.0, head_bias=True)
    theirs = torch.nn.AdaptiveLogSoftmaxWithLoss(8, 20, [4, 10], div_value=2.0, head_bias=True)
    theirs.load_state_dict({k: torch.tensor(v.numpy()) for k, v in mine.state_dict().items()})
    x = np.random.default_rng(0).standard_normal((6, 8)).astype("float32")
    labels = [0, 3, 4, 9, 10, 19]
    made = mine(mg.tensor(x), mg.tensor(labels))
    expected = theirs(torch.tensor(x), torch.tensor(labels))
    for a, b in zip(made, expected):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-5)
    made.loss.backward()
    expected.loss.backward()
    for (name, p), (_, q) in zip(mine.named_parameters(), theirs.named_parameters()):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), atol=1e-6, err_msg=name)
    log_prob = theirs.log_prob(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(mine.log_prob(mg.tensor(x)).detach().numpy(), log_prob, rtol=1e-5)
    assert mine.predict(mg.tensor(x)).tolist() == theirs.predict(torch.tensor(x)).tolist()
    for bad in (20, -1):
        with pytest.raises(IndexError):
            mine(mg.tensor(x), mg.tensor([bad] * 6))
    with pytest.raises(ValueError, match="cutoffs must be increasing whole numbers in"):
        nn.AdaptiveLogSoftmaxWithLoss(8, 20, [10, 4])


def test_layers_of_functions_equal_torchs():
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 6, 6)).astype("float32")
    for make, shape in (
        (lambda lib: lib.LPPool3d(2, 2), (2, 3, 6, 6, 6)),
        (lambda lib: lib.RReLU().eval(), (2, 3)),
        (lambda lib: lib.FeatureAlphaDropout(0.3).eval(), (2, 3, 6)),
    ):
        part = x[tuple(slice(0, n) for n in shape) + (0,) * (5 - len(shape))]
        a, b = make(nn)(mg.tensor(part.copy())), make(torch.nn)(torch.tensor(part))
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5)
    target = [[1, 2, -1], [0, -1, 2]]
    a = nn.MultiLabelMarginLoss()(mg.tensor(x[:, :, 0, 0, 0].copy()), mg.tensor(target))
    b = torch.nn.MultiLabelMarginLoss()(torch.tensor(x[:, :, 0, 0, 0]), torch.tensor(target))
    np.testing.assert_allclose(a.item(), b.item(), rtol=1e-6)
    where = np.random.default_rng(1).uniform(0, 1, (2, 3, 2)).astype("float32")
    a = nn.FractionalMaxPool2d(2, output_size=3, _random_samples=mg.tensor(where))
    b = torch.nn.FractionalMaxPool2d(2, output_size=3, _random_samples=torch.tensor(where))
    flat = x[:, :, 0].copy()
    np.testing.assert_array_equal(a(mg.tensor(flat)).numpy(), b(torch.tensor(flat)).numpy())


def test_a_state_dict_can_be_assigned_instead_of_copied():
    layer, other = nn.BatchNorm1d(3), nn.BatchNorm1d(3).double()
    state = other.state_dict()
    layer.load_state_dict(state, assign=True)
    assert layer.weight.dtype is mg.float64 and isinstance(layer.weight, nn.Parameter)
    assert layer.weight.requires_grad and layer.running_mean is state["running_mean"]
    with pytest.raises(KeyError, match="shape differs"):
        layer.load_state_dict({**state, "weight": mg.ones(4)}, assign=True)
