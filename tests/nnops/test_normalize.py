import numpy as np
import pytest
import torch
import torch.nn.functional as F

import monograph as mg
from monograph.core.errors import ArgumentError, ShapeError
from monograph.ops import normalize as norms

from .messages import raises_message
from .oracle import check, close, rng, to_mg, to_torch


def arrays(*shapes, seed=0):
    r = rng(seed)
    return [r.standard_normal(s) for s in shapes]


@pytest.mark.parametrize("affine", [0, 1, 2])
@pytest.mark.parametrize(
    "x, shape", [((4, 6), (6,)), ((2, 3, 4), (3, 4)), ((2, 3, 4), (2, 3, 4)), ((5,), (5,))]
)
def test_layer_norm_agrees_with_torch(x, shape, affine):
    operands = arrays(x, *(shape,) * affine)
    check(
        lambda a, *wb: norms.layer_norm(a, shape, *wb),
        lambda a, *wb: F.layer_norm(a, shape, *wb),
        *operands,
        double=True,
    )


@pytest.mark.parametrize("eps", [None, 1e-3])
@pytest.mark.parametrize("affine", [0, 1])
def test_rms_norm_agrees_with_torch(affine, eps):
    operands = arrays((3, 4, 5), *((5,),) * affine)
    check(
        lambda a, *w: norms.rms_norm(a, 5, *w, eps=eps),
        lambda a, *w: F.rms_norm(a, (5,), *w, eps=eps),
        *operands,
        double=True,
    )


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("x", [(3, 6), (3, 6, 4), (2, 6, 3, 4)])
def test_group_norm_agrees_with_torch(x, groups):
    if x == (3, 6) and groups == 6:
        pytest.skip("PyTorch refuses groups of a single value")
    operands = arrays(x, (6,), (6,))
    check(
        lambda a, w, b: norms.group_norm(a, groups, w, b),
        lambda a, w, b: F.group_norm(a, groups, w, b),
        *operands,
        double=True,
    )


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [0, 1, 2])
@pytest.mark.parametrize("x", [(5, 3), (4, 3, 5), (2, 3, 4, 5)])
def test_batch_norm_agrees_with_torch(x, affine, training):
    a, w, b = arrays(x, (3,), (3,))
    stats = np.array([0.1, -0.2, 0.3]), np.array([1.0, 2.0, 0.5])
    ours, theirs = [to_mg(s) for s in stats], [to_torch(s) for s in stats]
    check(
        lambda a, *wb: norms.batch_norm(a, *ours, *wb, training=training, momentum=0.3),
        lambda a, *wb: F.batch_norm(a, *theirs, *wb, training=training, momentum=0.3),
        a, *(w, b)[:affine], double=True,
    )  # fmt: skip
    for mine, other in zip(ours, theirs):
        close(mine, other)
        assert not mine.requires_grad


def test_batch_norm_without_running_statistics():
    check(
        lambda a: norms.batch_norm(a, None, None, training=True),
        lambda a: F.batch_norm(a, None, None, training=True),
        *arrays((4, 3, 2)),
    )


@pytest.mark.parametrize("use_input", [True, False])
@pytest.mark.parametrize("x", [(4, 3, 5), (2, 3, 4, 5)])
def test_instance_norm_agrees_with_torch(x, use_input):
    stats = np.array([0.1, -0.2, 0.3]), np.array([1.0, 2.0, 0.5])
    ours, theirs = [to_mg(s) for s in stats], [to_torch(s) for s in stats]
    check(
        lambda a, w, b: norms.instance_norm(a, *ours, w, b, use_input, 0.3),
        lambda a, w, b: F.instance_norm(a, *theirs, w, b, use_input, 0.3),
        *arrays(x, (3,), (3,)),
        double=True,
    )
    for mine, other in zip(ours, theirs):
        close(mine, other)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_local_response_norm_agrees_with_torch(size):
    check(
        lambda a: norms.local_response_norm(a, size, 0.5, 0.6, 2.0),
        lambda a: F.local_response_norm(a, size, 0.5, 0.6, 2.0),
        *arrays((2, 5, 3, 4)),
    )


def test_variances_of_large_means_keep_their_digits():
    x = (1e4 + rng().standard_normal((8, 256))).astype(np.float32)
    exact = (x - x.mean(1, keepdims=True, dtype=np.float64)) / x.std(
        1, keepdims=True, dtype=np.float64
    )
    made = norms.layer_norm(mg.tensor(x), 256, eps=0.0).numpy()
    np.testing.assert_allclose(made, exact, atol=2e-3)  # one ulp of x is 1e-3


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sixteen_bit_inputs_are_normalised_in_float32(dtype):
    dtype = getattr(mg, dtype)
    x = mg.tensor(100 + 50 * rng().standard_normal((4, 512))).to(dtype)
    wide = norms.layer_norm(x.float(), 512).to(dtype)
    assert norms.layer_norm(x, 512).tolist() == wide.tolist()
    assert norms.layer_norm(x, 512, mg.ones(512)).dtype == x.dtype


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, float("inf")])
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_normalize_agrees_with_torch(p, dim):
    check(
        lambda a: norms.normalize(a, p, dim), lambda a: F.normalize(a, p, dim), *arrays((3, 4, 5))
    )


def test_normalize_of_a_zero_vector_is_zero_with_the_gradient_of_torch():
    check(norms.normalize, F.normalize, np.zeros((2, 3)))


@pytest.mark.parametrize(
    "x, y, dim",
    [
        ((3, 4), (3, 4), 1), ((3, 4), (4,), 1), ((2, 3, 4), (3, 4), 2), ((2, 3, 4), (2, 3, 4), 0),
    ],
)  # fmt: skip
def test_cosine_similarity_agrees_with_torch(x, y, dim):
    check(
        lambda a, b: norms.cosine_similarity(a, b, dim),
        lambda a, b: F.cosine_similarity(a, b, dim),
        *arrays(x, y),
        double=True,
    )


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("keepdim", [True, False])
def test_pairwise_distance_agrees_with_torch(p, keepdim):
    check(
        lambda a, b: norms.pairwise_distance(a, b, p, 1e-6, keepdim),
        lambda a, b: F.pairwise_distance(a, b, p, 1e-6, keepdim),
        *arrays((3, 4), (3, 4)),
        double=True,
    )


@pytest.mark.parametrize("p", [1.0, 2.0, float("inf")])
def test_cdist_agrees_with_torch(p):
    check(
        lambda a, b: mg.cdist(a, b, p), lambda a, b: torch.cdist(a, b, p),
        *arrays((2, 3, 4), (5, 4)),
    )  # fmt: skip


def test_normalisation_explains_bad_arguments():
    x = mg.zeros(2, 3, 4)
    with raises_message(
        ShapeError,
        "layer_norm: normalized_shape (3,) must be the last sizes of input, which is (2, 3, 4)",
    ):
        norms.layer_norm(x, 3)
    with raises_message(ShapeError, "layer_norm: weight must have shape (4,), got (3,)"):
        norms.layer_norm(x, 4, mg.ones(3))
    with raises_message(ShapeError, "group_norm: 3 channels do not divide into num_groups=2"):
        norms.group_norm(x, 2)
    with raises_message(ShapeError, "batch_norm: weight must have shape (3,), got (4,)"):
        norms.batch_norm(x, None, None, mg.ones(4), training=True)
    with raises_message(
        ArgumentError,
        "batch_norm: running_mean and running_var are needed when training is False",
    ):
        norms.batch_norm(x, None, None)
    with raises_message(
        ArgumentError,
        "batch_norm: training needs more than one value per channel, input is (1, 3)",
    ):
        norms.batch_norm(mg.zeros(1, 3), None, None, training=True)
