"""Corners of functions, against PyTorch: what the operator samples brought to light."""

import functools

import numpy as np
import pytest

import monograph as mg
from monograph.nn import functional as F
from monograph.testing import assert_close

from .torch_oracle import check, torch

RNG = np.random.default_rng(5)


@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("name", ["cholesky", "cholesky_ex"])
def test_cholesky_reads_one_triangle(name, upper):
    x = RNG.standard_normal((2, 3, 3)) + 1j * RNG.standard_normal((2, 3, 3))
    x = x @ x.conj().swapaxes(-1, -2) + 2 * np.eye(3)
    half = np.triu(x) if upper else np.tril(x)
    check(getattr(mg.linalg, name), getattr(torch.linalg, name), half, upper=upper, grad=False)
    for matrix in (x, x.real.copy()):
        check(getattr(mg.linalg, name), getattr(torch.linalg, name), matrix, upper=upper)


def test_istft_of_all_frequencies_takes_the_first_half():
    x = RNG.standard_normal((10, 4)) + 1j * RNG.standard_normal((10, 4))
    window = np.ones(10)
    got = mg.istft(mg.tensor(x), 10, window=mg.tensor(window))
    expected = torch.istft(torch.tensor(x), 10, window=torch.tensor(window))
    assert_close(got, expected.numpy(), rtol=1e-9, atol=1e-9)


def test_masked_variance_of_complex_numbers():
    x = RNG.standard_normal((4, 3)) + 1j * RNG.standard_normal((4, 3))
    mask = np.arange(12).reshape(4, 3) % 5 > 0
    for name in ("var", "std"):
        got = getattr(mg.masked, name)(mg.tensor(x), 0, mask=mg.tensor(mask))
        expected = getattr(torch.masked, name)(torch.tensor(x), 0, mask=torch.tensor(mask))
        assert_close(got, expected.numpy(), rtol=1e-9, atol=1e-9)


def test_sum_to_a_number_counts_true_elements():
    for x in (np.array(True), np.array([True, True])):
        got = mg.tensor(x).sum_to_size(())
        assert got.dtype is mg.int64 and got.item() == x.sum()


def test_second_derivatives_of_products_with_zeros():
    base = mg.tensor([[2.0, 0.0, 3.0], [0.0, 5.0, 7.0]], dtype=mg.float64, requires_grad=True)
    index = mg.tensor([[0, 1, 1], [0, 0, 2]])
    source = mg.tensor([[0.0, 3.0, 2.0], [4.0, 0.0, 0.0]], dtype=mg.float64, requires_grad=True)
    f = lambda b, s: b.scatter_reduce(1, index, s, "prod")  # noqa: E731
    assert mg.autograd.gradcheck(f, (base, source))
    assert mg.autograd.gradgradcheck(f, (base, source))


def test_attention_of_given_tensors():
    layer = torch.nn.MultiheadAttention(8, 2, kdim=6, vdim=5, add_bias_kv=True)
    inputs = [torch.randn(*shape) for shape in ((3, 2, 8), (4, 2, 6), (4, 2, 5))]

    def call(function, turned):
        given = (layer.in_proj_bias, layer.bias_k, layer.bias_v)
        apart = {n: turned(getattr(layer, n)) for n in
                 ("q_proj_weight", "k_proj_weight", "v_proj_weight")}  # fmt: skip
        return function(
            *map(turned, inputs), 8, 2, None, *map(turned, given), True, 0.0,
            turned(layer.out_proj.weight), turned(layer.out_proj.bias),
            use_separate_proj_weight=True, **apart,
        )  # fmt: skip

    expected = call(torch.nn.functional.multi_head_attention_forward, lambda t: t)
    got = call(F.multi_head_attention_forward, lambda t: mg.tensor(t.detach().numpy()))
    for a, b in zip(got, expected):
        assert_close(a, b.detach().numpy(), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="features"):
        F.multi_head_attention_forward(mg.ones(1, 1, 4), *[mg.ones(1, 1, 4)] * 2, 8, 2,
                                       *[None] * 4, False, 0.0, None, None)  # fmt: skip


@pytest.mark.parametrize("reduce", ["sum", "mean", "max", "min", "prod"])
@pytest.mark.parametrize("initial", [None, 0.5, 10.0])
def test_segment_reduce(reduce, initial):
    flat, deep = np.arange(1.0, 7.0), np.arange(24.0).reshape(2, 4, 3)

    def run(lib):
        t = lib.tensor
        x = t(flat, requires_grad=True)
        made = lib.segment_reduce(x, reduce, lengths=t([2, 0, 4]), initial=initial)
        made[::2].sum().backward()
        rows = t([[1, 3], [4, 0]])
        stacked = lib.segment_reduce(t(deep), reduce, lengths=rows, axis=1, initial=initial)
        starts = lib.segment_reduce(t(flat), reduce, offsets=t([0, 2, 6]), initial=initial)
        return [made.detach(), x.grad, stacked, starts]

    for got, expected in zip(run(mg), run(torch), strict=True):
        assert_close(got, expected, rtol=1e-12, atol=0, equal_nan=True)


def test_segment_reduce_of_a_part():
    def made(lib, t, **given):
        return lib.segment_reduce(t([5.0, 1.0, 2.0, 3.0]), "sum", unsafe=True, **given).tolist()

    for given in ({"lengths": [1, 2]}, {"offsets": [1, 3]}, {"offsets": [1, 1, 2]}):
        ours, theirs = ({k: lib.tensor(v) for k, v in given.items()} for lib in (mg, torch))
        assert made(mg, mg.tensor, **ours) == made(torch, torch.tensor, **theirs)


def test_segments_of_captured_and_batched_lengths():
    x, lengths = mg.randn(6, 3), mg.tensor([2, 0, 4])
    for reduce in ("sum", "max", "prod"):
        expected = mg.segment_reduce(x, reduce, lengths=lengths)
        f = functools.partial(mg.segment_reduce, reduce=reduce)
        captured = mg.jit(lambda x, n, f=f: f(x, lengths=n))(x, lengths)
        assert_close(captured, expected)
        both = mg.vmap(lambda n, f=f: f(x, lengths=n))(mg.stack([lengths, lengths.flip(0)]))
        assert_close(both[0], expected)
        assert_close(both[1], mg.segment_reduce(x, reduce, lengths=lengths.flip(0)))


def test_repeats_of_a_known_sum():
    x, repeats = mg.randn(3, 2), mg.tensor([1, 0, 3])
    expected = x.repeat_interleave(repeats, 0)

    def f(x, repeats):
        return x.repeat_interleave(repeats, 0, output_size=4)

    assert_close(f(x, repeats), expected)
    assert_close(mg.jit(f)(x, repeats), expected)
    both = mg.vmap(f, in_dims=(None, 0))(x, mg.stack([repeats, repeats.flip(0)]))
    assert_close(both[1], x.repeat_interleave(repeats.flip(0), 0))
    with pytest.raises(RuntimeError, match="output_size is 5, the repeats sum to 4"):
        x.repeat_interleave(repeats, 0, output_size=5)


def test_what_segment_reduce_refuses():
    with pytest.raises(RuntimeError, match=r"reach from 0 to 3, got \[1, 4\]"):
        mg.segment_reduce(mg.ones(3), "sum", offsets=mg.tensor([1, 4]))
    with pytest.raises(RuntimeError, match=r"reach from 0 to 3, got \[2, 2\]"):
        mg.segment_reduce(mg.ones(3), "sum", lengths=mg.tensor([2, 2]))
    with pytest.raises(ValueError, match="exactly one of lengths and offsets"):
        mg.segment_reduce(mg.ones(3), "sum")
    with pytest.raises(ValueError, match="reduce must be one of sum"):
        mg.segment_reduce(mg.ones(3), "median", lengths=mg.tensor([3]))
