"""Every function of this area under capture and under vmap: the same as called one by one."""

import numpy as np
import pytest

import monograph as mg
from monograph.nn import functional as F

from .oracle import rng

R = rng(0)


def t(*shape):
    return mg.tensor(R.standard_normal(shape).astype(np.float32))


CASES = {
    "linear": (lambda x, w, b: F.linear(x, w, b), [t(4, 5), t(3, 5), t(3)]),
    "matmul4": (lambda x, y: x @ y, [t(2, 3, 4, 5), t(2, 3, 5, 6)]),
    "einsum": (lambda x, y: mg.einsum("bhqd,bhkd->bhqk", x, y), [t(2, 3, 4, 5), t(2, 3, 6, 5)]),
    "diag": (lambda x: mg.einsum("ii->i", x), [t(4, 4)]),
    "conv1d": (lambda x, w: F.conv1d(x, w, padding=1), [t(2, 3, 9), t(4, 3, 3)]),
    "conv2d": (
        lambda x, w, b: F.conv2d(x, w, b, padding=1, stride=2),
        [t(2, 3, 8, 8), t(4, 3, 3, 3), t(4)],
    ),
    "conv2dg": (lambda x, w: F.conv2d(x, w, padding=1, groups=4), [t(2, 4, 8, 8), t(4, 1, 3, 3)]),
    "conv3d": (lambda x, w: F.conv3d(x, w), [t(1, 2, 5, 5, 5), t(3, 2, 2, 2, 2)]),
    "convT": (
        lambda x, w: F.conv_transpose2d(x, w, stride=2, output_padding=1, padding=1),
        [t(2, 3, 5, 5), t(3, 4, 3, 3)],
    ),
    "maxpool": (lambda x: F.max_pool2d(x, 2), [t(2, 3, 8, 8)]),
    "maxpool_o": (lambda x: F.max_pool2d(x, 3, 2, 1), [t(2, 3, 8, 8)]),
    "avgpool": (lambda x: F.avg_pool2d(x, 2), [t(2, 3, 8, 8)]),
    "avgpool_o": (lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), [t(2, 3, 8, 8)]),
    "adapt": (lambda x: F.adaptive_avg_pool2d(x, 3), [t(2, 3, 8, 7)]),
    "adapt1": (lambda x: F.adaptive_avg_pool2d(x, 1), [t(2, 3, 8, 7)]),
    "adaptmax": (lambda x: F.adaptive_max_pool2d(x, 3), [t(2, 3, 8, 7)]),
    "layernorm": (lambda x, w, b: F.layer_norm(x, (6,), w, b), [t(4, 6), t(6), t(6)]),
    "rmsnorm": (lambda x, w: F.rms_norm(x, (6,), w), [t(4, 6), t(6)]),
    "groupnorm": (lambda x, w, b: F.group_norm(x, 2, w, b), [t(2, 4, 3, 3), t(4), t(4)]),
    "batchnorm": (
        lambda x, w, b: F.batch_norm(x, None, None, w, b, True),
        [t(5, 4, 3), t(4), t(4)],
    ),
    "instnorm": (lambda x: F.instance_norm(x), [t(5, 4, 3)]),
    "lrn": (lambda x: F.local_response_norm(x, 3), [t(2, 4, 3)]),
    "cosine": (lambda x, y: F.cosine_similarity(x, y), [t(4, 5), t(4, 5)]),
    "ce": (lambda x: F.cross_entropy(x, mg.tensor([0, 1, 2, 3])), [t(4, 5)]),
    "ce_img": (lambda x: F.cross_entropy(x, mg.zeros(2, 3, dtype=mg.int64)), [t(2, 5, 3)]),
    "mse": (lambda x, y: F.mse_loss(x, y), [t(4, 5), t(4, 5)]),
    "huber": (lambda x, y: F.huber_loss(x, y), [t(4, 5), t(4, 5)]),
    "bce": (lambda x, y: F.binary_cross_entropy(mg.sigmoid(x), mg.sigmoid(y)), [t(4, 5), t(4, 5)]),
    "bcel": (lambda x, y: F.binary_cross_entropy_with_logits(x, mg.sigmoid(y)), [t(4, 5), t(4, 5)]),
    "kl": (lambda x, y: F.kl_div(x, mg.sigmoid(y)), [t(4, 5), t(4, 5)]),
    "sdpa": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        [t(2, 3, 4, 5), t(2, 3, 4, 5), t(2, 3, 4, 5)],
    ),
    "sdpam": (
        lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, m),
        [t(2, 3, 4, 5), t(2, 3, 4, 5), t(2, 3, 4, 5), t(4, 4)],
    ),
    "interp": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), [t(1, 2, 4, 4)]),
    "interpn": (lambda x: F.interpolate(x, scale_factor=2), [t(1, 2, 4, 4)]),
    "interpn2": (lambda x: F.interpolate(x, size=7), [t(1, 2, 4, 4)]),
    "unfold": (lambda x: F.unfold(x, 3, padding=1), [t(1, 2, 4, 4)]),
    "grid": (lambda x, g: F.grid_sample(x, g), [t(1, 2, 4, 4), t(1, 3, 3, 2)]),
    "pixel": (lambda x: F.pixel_shuffle(x, 2), [t(1, 4, 4, 4)]),
    "ctc": (
        lambda x: F.ctc_loss(F.log_softmax(x, -1), mg.tensor([[1, 2], [2, 2]]), [5, 4], [2, 1]),
        [t(5, 2, 4)],
    ),
    "triplet": (lambda a, b, c: F.triplet_margin_loss(a, b, c), [t(3, 4), t(3, 4), t(3, 4)]),
    "gauss": (lambda a, b, c: F.gaussian_nll_loss(a, b, mg.exp(c)), [t(3, 4), t(3, 4), t(3, 4)]),
    "multimargin": (lambda a: F.multi_margin_loss(a, mg.tensor([0, 1, 2])), [t(3, 4)]),
}


def with_gradients(f):
    def step(*args):
        args = [x.detach().requires_grad_() for x in args]
        out = f(*args)
        return (out, *mg.autograd.grad(out, args, mg.ones_like(out), materialize_grads=True))

    return step


def same(made, expected):
    # Orders of summation differ between the library's and the compiled products.
    for x, y in zip(made, expected):
        np.testing.assert_allclose(x.numpy(force=True), y.numpy(force=True), rtol=5e-5, atol=5e-5)


@pytest.mark.parametrize("name", CASES)
def test_captured_value_and_gradients_equal_the_eager_ones(name):
    f, args = CASES[name]
    step = with_gradients(f)
    same(mg.jit(step)(*args), step(*args))


@pytest.mark.parametrize("name", CASES)
def test_vmap_of_value_and_gradients_equals_a_loop(name):
    f, args = CASES[name]
    step = with_gradients(f)
    stacked = [mg.stack([a, a * 0.5, a + 1]) for a in args]
    made = mg.func.vmap(step)(*stacked)
    for i in range(3):
        same([m[i] for m in made], step(*(s[i] for s in stacked)))


@pytest.mark.parametrize("name", CASES)
def test_forward_mode_agrees_with_the_gradient(name):
    f, args = CASES[name]
    args = [a.double() for a in args]
    r = rng(1)
    tangents = [mg.tensor(r.standard_normal(tuple(a.shape))) for a in args]
    out, tangent = mg.func.jvp(f, tuple(args), tuple(tangents))
    g = mg.tensor(r.standard_normal(tuple(out.shape)))
    leaves = [a.detach().requires_grad_() for a in args]
    gradients = mg.autograd.grad(f(*leaves), leaves, g, materialize_grads=True)
    forward = (g * tangent).sum().item()
    backward = sum((a * b).sum().item() for a, b in zip(gradients, tangents))
    np.testing.assert_allclose(forward, backward, rtol=1e-9, atol=1e-9)


# Kinks (maxima, absolute values, hinges) are far from the points below with these seeds.
@pytest.mark.parametrize("name", CASES)
def test_gradients_agree_with_finite_differences(name):
    f, args = CASES[name]
    r = rng(2)
    arrays = [a.double().numpy() for a in args]
    leaves = [mg.tensor(a, requires_grad=True) for a in arrays]
    out = f(*leaves)
    g = mg.tensor(r.standard_normal(tuple(out.shape)))
    gradients = mg.autograd.grad(out, leaves, g, materialize_grads=True)
    directions = [r.standard_normal(a.shape) for a in arrays]
    step = 1e-6

    def along(t):
        moved = [mg.tensor(a + t * d) for a, d in zip(arrays, directions)]
        return (f(*moved) * g).sum().item()

    numeric = (along(step) - along(-step)) / (2 * step)
    exact = sum((a.numpy() * d).sum() for a, d in zip(gradients, directions))
    np.testing.assert_allclose(exact, numeric, rtol=2e-6, atol=2e-6)
