"""Histograms, quantiles, slopes, bags, random windows, forms that copy: against PyTorch."""

import numpy as np
import pytest

import monograph as mg
import monograph.nn.functional as F
from monograph.testing import assert_close

from .torch_oracle import check, torch

TF = torch.nn.functional
RNG = np.random.default_rng(21)
X = RNG.standard_normal((3, 4, 5))
HOLES = np.where(RNG.uniform(size=(4, 6)) < 0.3, np.nan, RNG.standard_normal((4, 6)))


def same_when_compiled(function, *arrays):
    tensors = [mg.tensor(a) for a in arrays]
    got, expected = mg.jit(function)(*tensors), function(*tensors)
    got, expected = (v if isinstance(v, tuple) else (v,) for v in (got, expected))
    for a, b in zip(got, expected, strict=True):
        assert_close(a, b, equal_nan=True)


@pytest.mark.parametrize("interpolation", ["linear", "lower", "higher", "midpoint", "nearest"])
@pytest.mark.parametrize("name", ["quantile", "nanquantile"])
def test_quantiles(name, interpolation):
    ours, theirs = getattr(mg, name), getattr(torch, name)
    for dim in (None, 0, -1):
        for keepdim in (False, True):
            options = dict(dim=dim, keepdim=keepdim, interpolation=interpolation)
            check(ours, theirs, HOLES, np.array([0.1, 0.5, 1.0]), grad=False, **options)
            check(ours, theirs, X[0], np.array([0.13, 0.5, 0.77]), **options)
            check(ours, theirs, HOLES, 0.3, grad=False, **options)
    same_when_compiled(
        lambda x, q: ours(x, q, 1, interpolation=interpolation), X[0], np.array([0.2, 0.9])
    )
    with pytest.raises(ValueError, match=r"q must be in \[0, 1\], got 2"):
        ours(mg.ones(3), 2)


def test_mode():
    x = RNG.integers(0, 4, (5, 6, 7))
    for dim in (0, 1, -1):
        for keepdim in (False, True):
            got, expected = mg.mode(mg.tensor(x), dim, keepdim), torch.mode(torch.tensor(x), dim)
            values = expected.values.unsqueeze(dim) if keepdim else expected.values
            assert got.values.tolist() == values.tolist()
            index = got.indices.numpy() if keepdim else np.expand_dims(got.indices.numpy(), dim)
            named = np.take_along_axis(x, index, dim)
            assert (named if keepdim else named.squeeze(dim)).tolist() == got.values.tolist()
    check(lambda v: mg.mode(v, 1).values, lambda v: torch.mode(v, 1).values, X)
    same_when_compiled(lambda v: tuple(mg.mode(v)), X)


def test_histograms():
    x, weight = RNG.uniform(-3, 3, 50), RNG.uniform(0, 2, 50)
    edges = np.array([-2.0, -1.5, 0.0, 0.25, 2.5])
    for density in (False, True):
        check(mg.histogram, torch.histogram, x, 7, grad=False, density=density)
        check(mg.histogram, torch.histogram, x, 5, range=(-1.0, 2.0), grad=False, density=density)
        check(mg.histogram, torch.histogram, x, edges, grad=False, density=density)
        got = mg.histogram(mg.tensor(x), 6, weight=mg.tensor(weight), density=density)
        expected = torch.histogram(torch.tensor(x), 6, weight=torch.tensor(weight), density=density)
        assert_close(got.hist, expected.hist.numpy())
    points = RNG.uniform(-1, 1, (40, 2))
    for bins in (4, [3, 5]):
        got = mg.histogramdd(mg.tensor(points), bins)
        expected = torch.histogramdd(torch.tensor(points), bins)
        assert_close(got.hist, expected.hist.numpy())
        for a, b in zip(got.bin_edges, expected.bin_edges):
            assert_close(a, b.numpy())
    whole = np.arange(5.0)  # elements on edges; the last edge belongs to the last bin
    check(mg.histogram, torch.histogram, whole, 4, grad=False)
    same_when_compiled(lambda v: tuple(mg.histogram(v, 7)), x)


def test_gradient():
    check(mg.gradient, torch.gradient, X)
    check(mg.gradient, torch.gradient, X, dim=(1, 2), spacing=0.5, edge_order=2)
    check(mg.gradient, torch.gradient, X, dim=1, spacing=2.0)
    check(mg.gradient, torch.gradient, X[0], spacing=(2.0, 0.1))
    places = [np.array([0.0, 1, 3, 3.5]), np.array([-1.0, 0, 2, 2.5, 7])]
    for order in (1, 2):
        got = mg.gradient(mg.tensor(X[0]), spacing=[mg.tensor(p) for p in places], edge_order=order)
        given = [torch.tensor(p) for p in places]
        expected = torch.gradient(torch.tensor(X[0]), spacing=given, edge_order=order)
        for a, b in zip(got, expected, strict=True):
            assert_close(a, b.numpy())
    same_when_compiled(lambda v: mg.gradient(v, dim=1), X)
    with pytest.raises(ValueError, match="dimension 0 of .* needs at least 3 elements"):
        mg.gradient(mg.ones(2), edge_order=2)


@pytest.mark.parametrize("p", [0.0, 1.0, 2.0, 3.0, float("inf")])
def test_pdist(p):
    check(F.pdist, TF.pdist, RNG.standard_normal((6, 3)), p=p)
    check(mg.pdist, torch.pdist, RNG.standard_normal((1, 3)), p=p)
    same_when_compiled(lambda v: F.pdist(v, p), RNG.standard_normal((5, 3)))


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_embedding_bag(mode):
    table, index = RNG.standard_normal((7, 3)), RNG.integers(0, 7, (4, 5))
    check(F.embedding_bag, TF.embedding_bag, index, table, mode=mode)
    check(F.embedding_bag, TF.embedding_bag, index, table, mode=mode, padding_idx=2)
    flat, starts = RNG.integers(0, 7, 9), np.array([0, 3, 3, 7])
    for last in (False, True):
        options = dict(mode=mode, include_last_offset=last)
        ends = np.append(starts, 9) if last else starts
        check(F.embedding_bag, TF.embedding_bag, flat, table, ends, **options)
    if mode == "sum":
        factors = RNG.uniform(0.5, 2, (4, 5))
        check(
            lambda w, f: F.embedding_bag(mg.tensor(index), w, mode="sum", per_sample_weights=f),
            lambda w, f: TF.embedding_bag(torch.tensor(index), w, mode="sum", per_sample_weights=f),
            table, factors,
        )  # fmt: skip
    same_when_compiled(lambda i, w: F.embedding_bag(i, w, mode=mode), index, table)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("options", [{}, {"padding_idx": 3}, {"include_last_offset": True}])
def test_larger_bags(mode, options):
    """Of sizes at which bags are compiled calls; some are empty."""
    table, flat = RNG.standard_normal((50, 8)), RNG.integers(0, 50, 90)
    starts = np.sort(np.append(RNG.integers(0, 90, 29), [0, 90]))
    starts = starts if options.get("include_last_offset") else starts[:-1]
    check(F.embedding_bag, TF.embedding_bag, flat, table, starts, mode=mode, **options)
    if mode == "sum":
        check(
            lambda w, f: F.embedding_bag(mg.tensor(flat), w, mg.tensor(starts), mode=mode,
                                         per_sample_weights=f, **options),
            lambda w, f: TF.embedding_bag(torch.tensor(flat), w, torch.tensor(starts), mode=mode,
                                          per_sample_weights=f, **options),
            table, RNG.uniform(0.5, 2, 90),
        )  # fmt: skip


def test_linear_cross_entropy():
    x, w, b = RNG.standard_normal((5, 3)), RNG.standard_normal((4, 3)), RNG.standard_normal(4)
    target = RNG.integers(0, 4, 5)
    check(
        lambda x, w, t, b: F.linear_cross_entropy(x, w, t, linear_bias=b),
        lambda x, w, t, b: TF.linear_cross_entropy(x, w, t, linear_bias=b),
        x, w, target, b,
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore:index_reduce")
@pytest.mark.parametrize("reduce", ["prod", "mean", "amax", "amin"])
def test_index_reduce(reduce):
    index, source = np.array([0, 2, 0]), RNG.standard_normal((3, 3, 5))
    for include in (True, False):
        check(mg.index_reduce, torch.index_reduce, X, 1, index, source, reduce,
              include_self=include)  # fmt: skip
    same_when_compiled(lambda x, i, s: mg.index_reduce(x, 1, i, s, reduce), X, index, source)


def test_native_normalizations():
    w, b = RNG.standard_normal(5), RNG.standard_normal(5)
    check(mg.native_layer_norm, torch.native_layer_norm, X, (5,), w, b, 1e-5, grad=False)
    images, w, b = RNG.standard_normal((2, 4, 3, 3)), RNG.standard_normal(4), np.ones(4)
    # PyTorch drops what comes back through the statistics.
    check(mg.native_group_norm, torch.native_group_norm, images, w, b, 2, 4, 9, 2, 1e-5, grad=False)
    for training in (True, False):
        check(mg.native_batch_norm, torch.native_batch_norm, images, w, b, np.zeros(4), np.ones(4),
              training, 0.1, 1e-5, grad=False)  # fmt: skip


def test_grid_sampler():
    image, grid = RNG.standard_normal((1, 2, 4, 5)), RNG.uniform(-1.2, 1.2, (1, 3, 3, 2))
    for mode in (0, 1, 2):
        for outside in (0, 1, 2):
            smooth = mode != 1  # the grid has no gradient here, and zeros there
            check(
                mg.grid_sampler, torch.grid_sampler, image, grid, mode, outside, True, grad=smooth
            )
    check(mg.constant_pad_nd, torch.constant_pad_nd, X, (1, -1, 0, 2), 3.0)


@pytest.mark.parametrize("n", [2, 3])
def test_fractional_max_pool(n):
    x = RNG.standard_normal((2, 3, 9, 8, 7)[: n + 2])
    draws = RNG.uniform(0, 1, (2, 3, n))
    ours = getattr(F, f"fractional_max_pool{n}d")
    theirs = getattr(TF, f"fractional_max_pool{n}d")
    for count in (1, 2, 4):
        options = dict(output_size=count, return_indices=True)
        check(
            lambda v, options=options: ours(v, 2, **options, _random_samples=mg.tensor(draws)),
            lambda v, options=options: theirs(v, 2, **options, _random_samples=torch.tensor(draws)),
            x,
        )  # fmt: skip
    assert ours(mg.tensor(x), 3, output_ratio=0.5).shape[2:] == tuple(m // 2 for m in x.shape[2:])
    with pytest.raises(ValueError, match="do not fit into"):
        ours(mg.tensor(x), 5, output_size=6)


def test_forms_that_copy():
    def shares(a, b):
        return np.shares_memory(a.numpy(), b.numpy())

    x = mg.tensor(X)
    cases = {
        "permute": ((2, 0, 1),), "transpose": (0, 1), "squeeze": (), "unsqueeze": (1,),
        "expand": ((2, 3, 4, 5),), "view": ((12, 5),), "diagonal": (0, 0, 1), "alias": (),
        "unbind": (1,), "split": (2, 1), "split_with_sizes": ([1, 3], 1), "unfold": (1, 2, 1),
    }  # fmt: skip
    for name, args in cases.items():
        copied = getattr(mg, f"{name}_copy")(x, *args)
        theirs = getattr(torch, f"{name}_copy")(torch.tensor(X), *args)
        pairs = zip(*(v if isinstance(v, (tuple, list)) else (v,) for v in (copied, theirs)))
        for a, b in pairs:
            assert not shares(a, x), name
            assert_close(a, b.numpy())


def test_numbers_in_a_row():
    for dtype in ("int64", "float32", "float64"):
        for ends in ((0, 10, 7), (3, -4, 5), (-2.5, 2.5, 4), (1, 2, 1), (1, 2, 0)):
            ours, theirs = getattr(mg, dtype), getattr(torch, dtype)
            got = mg.linspace(*ends, dtype=ours).numpy()
            assert_close(got, torch.linspace(*ends, dtype=theirs).numpy())
    got = mg.logspace(mg.tensor(-2), 3, 6, base=2.0)
    assert_close(got, torch.logspace(-2, 3, 6, base=2.0).numpy())
    assert mg.arange(0.5, 3.7, 1, dtype=mg.int64).tolist() == [0, 1, 2]


def test_memory():
    x = mg.empty_strided((2, 3), (1, 2))
    assert x.stride() == (1, 2) and x.shape == (2, 3)
    assert mg.empty_permuted((2, 3, 4), (0, 2, 1)).stride() == (12, 1, 3)
    assert mg.scalar_tensor(3).dtype is mg.float32
    assert mg.ones(2, 2).to(memory_format=mg.channels_last).shape == (2, 2)
    with pytest.raises(ValueError, match="empty_strided: strides .* do not fit shape"):
        mg.empty_strided((2, 3), (1,))
