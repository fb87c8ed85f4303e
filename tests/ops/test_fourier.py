"""Fourier transforms: values and gradients as PyTorch's, sizes and norms, stft and its inverse."""

import numpy as np
import pytest

import monograph as mg
from monograph.core.errors import ArgumentError, DTypeError, ShapeError
from monograph.testing import assert_close

RNG = np.random.default_rng(11)
X = RNG.standard_normal((3, 5, 8))
Z = X + 1j * RNG.standard_normal((3, 5, 8))
ONE = [{}, {"n": 6}, {"n": 11, "dim": 1}, {"norm": "ortho", "dim": 0}, {"norm": "forward"}]
MANY = [
    {}, {"s": (4, 7)}, {"s": (5, -1), "dim": (0, 1), "norm": "ortho"},
    {"norm": "forward", "dim": (1, 0)},
]  # fmt: skip
NAMES = ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")


def both(f, array):
    """[value, gradient for a fixed cotangent] here and with PyTorch."""
    torch = pytest.importorskip("torch", reason="the oracle is PyTorch")
    found = []
    for m in (mg, torch):
        x = m.tensor(array, requires_grad=True)
        out = f(m, x)
        seed = np.cos(np.arange(out.numel())).reshape(tuple(out.shape))
        if out.is_complex():
            seed = seed + 1j * np.sin(seed)
        out.backward(m.tensor(seed).to(out.dtype))
        found.append([v.detach().resolve_conj().numpy() for v in (out, x.grad)])
    return found


@pytest.mark.parametrize("name", [n + end for n in NAMES for end in ("", "2", "n")])
def test_transforms_are_pytorch_s(name):
    array = X if name.rstrip("2n") in ("rfft", "ihfft") else Z
    for options in ONE if name in NAMES else MANY:
        ours, theirs = both(lambda m, x, o=options: getattr(m.fft, name)(x, **o), array)
        for a, b in zip(ours, theirs):
            assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_single_precision_stays(name):
    array = X if name in ("rfft", "ihfft") else Z
    x = mg.tensor(array)
    narrow = x.to(mg.complex64) if x.is_complex() else x.float()
    wide, got = getattr(mg.fft, name)(x), getattr(mg.fft, name)(narrow)
    assert got.dtype.itemsize * 2 == wide.dtype.itemsize
    assert_close(got, wide.numpy(), rtol=1e-4, atol=1e-4, check_dtype=False)


def test_integers_and_real_numbers_become_complex():
    assert mg.fft.fft(mg.arange(4)).dtype is mg.complex64
    assert mg.fft.rfft(mg.arange(4)).tolist() == [6, -2 + 2j, -2]
    assert mg.fft.ifft(mg.ones(3, dtype=mg.float64)).dtype is mg.complex128


def test_frequencies_and_shifts_are_pytorch_s():
    torch = pytest.importorskip("torch", reason="the oracle is PyTorch")
    for n in (1, 4, 5):
        assert_close(mg.fft.fftfreq(n, 0.3), torch.fft.fftfreq(n, 0.3).numpy())
        assert_close(mg.fft.rfftfreq(n, 0.3), torch.fft.rfftfreq(n, 0.3).numpy())
    for name in ("fftshift", "ifftshift"):
        for options in ({}, {"dim": 1}, {"dim": (0, 1)}):
            ours, theirs = both(lambda m, x: getattr(m.fft, name)(x, **options), Z)  # noqa: B023
            assert_close(ours, theirs)


def test_numpy_s_names_of_arguments_are_taken():
    x = mg.tensor(Z)
    assert_close(mg.fft.fft(x, axis=1), mg.fft.fft(x, dim=1))
    assert_close(mg.fft.irfftn(x, axes=(0, 1)), mg.fft.irfftn(x, dim=(0, 1)))


def test_bad_arguments_are_named():
    x = mg.tensor(X)
    with pytest.raises(DTypeError, match="fft.rfft: needs a real tensor"):
        mg.fft.rfft(mg.tensor(Z))
    with pytest.raises(ArgumentError, match="fft.fft: dimension 2 would have 0 elements"):
        mg.fft.fft(x, 0)
    with pytest.raises(ArgumentError, match="norm must be"):
        mg.fft.fft(x, norm="unit")
    with pytest.raises(ArgumentError, match="same dimension twice"):
        mg.fft.fftn(x, dim=(0, 0))
    with pytest.raises(ArgumentError, match="s has 1 sizes for 2"):
        mg.fft.fftn(x, (3,), (0, 1))
    with pytest.raises(ShapeError, match="0-d"):
        mg.fft.fft(mg.tensor(1.0))


def test_transforms_under_vmap_jit_and_twice_differentiated():
    def f(x):
        return mg.fft.irfft(mg.fft.rfft(x) ** 2, 8).sum() + mg.fft.fft2(x.reshape(2, 4)).abs().sum()

    x = mg.tensor(X[0], requires_grad=True)
    rows = x.detach()
    each = mg.stack([mg.func.grad(f)(row) for row in rows])
    assert_close(mg.func.vmap(mg.func.grad(f))(rows), each)
    assert_close(mg.jit(mg.func.vmap(mg.func.grad(f)))(rows), each)
    assert mg.autograd.gradgradcheck(f, x[0].detach().requires_grad_())


STFT = [
    {},
    {"center": False, "hop_length": 3},
    {"normalized": True, "onesided": False, "win_length": 6},
    {"hop_length": 5, "win_length": 8},
]


@pytest.mark.filterwarnings("ignore:stft with return_complex=False")
@pytest.mark.parametrize("options", STFT)
def test_stft_and_its_inverse_are_pytorch_s(options):
    window = np.hanning(options.get("win_length", 8) + 2)[1:-1]

    def f(m, x):
        w = m.tensor(window)
        y = m.stft(x, 8, window=w, return_complex=True, **options)
        back = m.istft(y * 1.5, 8, window=w, **options)
        cut = m.istft(y, 8, window=w, length=50, **options)
        pairs = m.stft(x, 8, window=w, return_complex=False, **options)
        return m.cat([m.view_as_real(y).reshape(-1), back.reshape(-1), cut.reshape(-1),
                      pairs.reshape(-1)])  # fmt: skip

    ours, theirs = both(f, X.reshape(2, 60))
    assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_istft_refuses_samples_without_a_window():
    y = mg.stft(mg.ones(32), 8, return_complex=True)
    with pytest.raises(ArgumentError, match="under no window"):
        mg.istft(y, 8, hop_length=8, window=mg.hann_window(8), center=False)
    with pytest.raises(ArgumentError, match="return_complex must be given"):
        mg.stft(mg.ones(32), 8)
