"""3x3 convolutions with fewer multiplications: values, edges, epilogues, and the error."""

import numpy as np
import pytest

import monograph as mg
import monograph.nn.functional as F
from monograph.compiler.kernels import winograd, winograd_forms, winograd_weight

SHAPES = [  # images, channels, outputs, height, width, padding
    (2, 32, 32, 8, 8, 1), (1, 32, 48, 9, 11, 1), (3, 40, 70, 13, 7, 0), (1, 33, 32, 4, 4, 1),
    (5, 64, 100, 6, 5, 2), (2, 300, 290, 5, 4, 1), (70, 32, 32, 6, 6, 0),
]  # fmt: skip


def exact(x, w, padding):
    """The convolution in float64, tap by tap, and the same of absolute values."""
    x, w = x.astype(np.float64), w.astype(np.float64)
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    height, width = x.shape[2] - 2, x.shape[3] - 2
    total = bound = 0
    for i in range(3):
        for j in range(3):
            patch = x[:, :, i : i + height, j : j + width]
            total = total + np.einsum("nchw,oc->nohw", patch, w[:, :, i, j], optimize=True)
            absolute = np.einsum("nchw,oc->nohw", abs(patch), abs(w[:, :, i, j]), optimize=True)
            bound = bound + absolute
    return total, bound


# Largest and root mean square error, as a share of the sum of the terms' absolute values. A direct
# sum of 9*c products in random order errs by about sqrt(9*c) * eps of the terms.
ERRORS = {2: (4e-7, 4e-8), 4: (4e-6, 2e-7)}
FORMS = pytest.mark.parametrize("m", [2, 4])


@pytest.fixture(autouse=True)
def form(request, monkeypatch):
    """The form that is used: that of the test's parameter m, if it has one."""
    m = getattr(request.node, "callspec", None) and request.node.callspec.params.get("m")
    if m:
        monkeypatch.setattr(winograd, "choose", lambda *_: winograd_forms.FORMS[m])


@pytest.fixture
def used(monkeypatch):
    """The nodes for which a lowering has been taken."""
    calls = []

    def count(module):
        lower = module.lower

        def counted(node, context):
            calls.append(node)
            return lower(node, context)

        monkeypatch.setattr(module, "lower", counted)

    count(winograd)
    count(winograd_weight)
    return calls


@FORMS
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_error(shape, m, used):
    n, c, o, height, width, padding = shape
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, c, height, width)).astype(np.float32)
    w = rng.standard_normal((o, c, 3, 3)).astype(np.float32)
    got = mg.jit(lambda x, w: F.conv2d(x, w, padding=padding))(mg.tensor(x), mg.tensor(w)).numpy()
    assert used
    expected, bound = exact(x, w, padding)
    largest, usual = ERRORS[m]
    error = abs(got - expected) / bound
    assert error.max() < largest
    assert np.sqrt((error**2).mean()) < usual


@FORMS
def test_the_epilogue_sees_every_element(m, used):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((3, 32, 7, 9)).astype(np.float32)
    w = rng.standard_normal((50, 32, 3, 3)).astype(np.float32)
    b, other = rng.standard_normal(50).astype(np.float32), rng.standard_normal((3, 50, 7, 9))

    def f(x, w, b, other):
        y = F.relu(F.conv2d(x, w, b, padding=1) + other)
        return y, (y * 2).flatten(1)

    arguments = [mg.tensor(v) for v in (x, w, b, other.astype(np.float32))]
    y, flat = mg.jit(f)(*arguments)
    assert used
    total = exact(x, w, 1)[0] + b[:, None, None] + other.astype(np.float32)
    np.testing.assert_allclose(y.numpy(), np.maximum(total, 0), atol=2e-4, rtol=1e-5)
    np.testing.assert_array_equal(flat.numpy(), 2 * y.numpy().reshape(3, -1))


@FORMS
@pytest.mark.parametrize(
    "shape",
    [
        (2, 32, 64, 8, 8),
        (9, 45, 33, 6, 10),
        (40, 64, 40, 16, 8),
        (3, 170, 180, 6, 4),
        (5, 40, 50, 7, 9),
    ],
)
def test_gradients(shape, m, used):
    n, c, o, height, width = shape
    rng = np.random.default_rng(2)
    x = mg.tensor(rng.standard_normal((n, c, height, width)).astype(np.float32), requires_grad=True)
    w = mg.tensor(rng.standard_normal((o, c, 3, 3)).astype(np.float32), requires_grad=True)
    g = rng.standard_normal((n, o, height, width)).astype(np.float32)

    @mg.jit
    def gradients(x, w, g):
        y = F.conv2d(x, w, padding=1)
        return *mg.autograd.grad(y, (x, w), g), y

    by_x, by_w, _ = gradients(x, w, mg.tensor(g))
    assert len(used) == 3
    flipped = np.ascontiguousarray(w.detach().numpy()[:, :, ::-1, ::-1].swapaxes(0, 1))
    expected, bound = exact(g, flipped, 1)
    assert (abs(by_x.numpy() - expected) <= ERRORS[m][0] * bound).all()
    padded = np.pad(x.detach().numpy(), ((0, 0), (0, 0), (1, 1), (1, 1))).astype(np.float64)
    g = g.astype(np.float64)
    for i in range(3):
        for j in range(3):
            patch = padded[:, :, i : i + height, j : j + width]
            tap = np.einsum("nohw,nchw->oc", g, patch, optimize=True)
            size = np.einsum("nohw,nchw->oc", abs(g), abs(patch), optimize=True)
            assert (abs(by_w.numpy()[:, :, i, j] - tap) <= 1.25 * ERRORS[m][0] * size).all()


def test_what_does_not_suit_is_computed_directly(used):
    x, w = mg.ones(1, 40, 8, 8), mg.ones(40, 40, 3, 3)
    for options in ({"stride": 2}, {"dilation": 2}):
        mg.jit(lambda x, w: F.conv2d(x, w, **options))(x, w)  # noqa: B023
    mg.jit(F.conv2d)(x.double(), w.double())
    mg.jit(F.conv2d)(mg.ones(1, 8, 8, 8), mg.ones(8, 8, 3, 3))
    assert not used
