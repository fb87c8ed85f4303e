import numpy as np
import pytest
import torch
import torch.nn.functional as F

import monograph as mg
from monograph.core.errors import ArgumentError, DTypeError, IndexRangeError, ShapeError
from monograph.ops import cross_entropy as classes
from monograph.ops import losses

from .messages import raises_message
from .oracle import check, close, rng, to_mg, to_torch

REDUCTIONS = ["mean", "sum", "none"]


def arrays(*shapes, seed=0):
    r = rng(seed)
    return [r.standard_normal(s) for s in shapes]


def signs(*shape):
    return rng(3).choice([-1.0, 1.0], shape)


def fixed(ours, theirs, *operands, targets=(), double=True, **options):
    """Compare where `targets` take no gradient."""
    check(
        lambda *a: ours(*a, *map(to_mg, targets), **options),
        lambda *a: theirs(*a, *map(to_torch, targets), **options),
        *operands,
        double=double,
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    "name, options",
    [
        ("mse_loss", {}), ("l1_loss", {}), ("smooth_l1_loss", {}), ("smooth_l1_loss", dict(beta=0)),
        ("smooth_l1_loss", dict(beta=0.3)), ("huber_loss", {}), ("huber_loss", dict(delta=0.3)),
    ],
)  # fmt: skip
def test_differences_agree_with_torch(name, options, reduction):
    options = {**options, "reduction": reduction}
    ours, theirs = getattr(losses, name), getattr(F, name)
    check(
        lambda a, b: ours(a, b, **options), lambda a, b: theirs(a, b, **options),
        *arrays((3, 4), (3, 4)), double=True,
    )  # fmt: skip


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
def test_binary_cross_entropy_agrees_with_torch(reduction, weighted):
    x, t = rng().uniform(0.02, 0.98, (2, 3, 4))
    weight = {"weight": rng(1).uniform(0.5, 2, (3, 4))} if weighted else {}
    check(
        lambda a, b: losses.binary_cross_entropy(
            a, b, **{k: to_mg(v) for k, v in weight.items()}, reduction=reduction
        ),
        lambda a, b: F.binary_cross_entropy(
            a, b, **{k: to_torch(v) for k, v in weight.items()}, reduction=reduction
        ),
        x, t, double=True,
    )  # fmt: skip


def test_binary_cross_entropy_of_certainty_is_finite_with_finite_gradients():
    x = np.array([0.0, 1.0, 0.0, 1.0])
    target = np.array([0.0, 1.0, 1.0, 0.0])
    check(  # PyTorch rounds the limit 1e-12 to float32
        lambda a: losses.binary_cross_entropy(a, mg.tensor(target)),
        lambda a: F.binary_cross_entropy(a, torch.tensor(target)),
        x, rtol=1e-8,
    )  # fmt: skip


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    "weight, pos_weight", [(None, None), ((4,), None), (None, (4,)), ((3, 4), (4,))]
)
def test_binary_cross_entropy_with_logits_agrees_with_torch(weight, pos_weight, reduction):
    (x,) = arrays((3, 4))
    t = rng(1).uniform(0, 1, (3, 4))
    extra = {
        k: rng(2).uniform(0.5, 2, shape)
        for k, shape in (("weight", weight), ("pos_weight", pos_weight))
        if shape
    }
    check(
        lambda a, b: losses.binary_cross_entropy_with_logits(
            a, b, **{k: to_mg(v) for k, v in extra.items()}, reduction=reduction
        ),
        lambda a, b: F.binary_cross_entropy_with_logits(
            a, b, **{k: to_torch(v) for k, v in extra.items()}, reduction=reduction
        ),
        5 * x, t, double=True,
    )  # fmt: skip


def test_logits_far_out_give_finite_losses_and_gradients():
    x = np.array([-1000.0, -50.0, 0.0, 50.0, 1000.0])
    fixed(
        losses.binary_cross_entropy_with_logits, F.binary_cross_entropy_with_logits,
        x, targets=[np.array([1.0, 0.0, 1.0, 1.0, 0.0])], double=False, reduction="none",
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning")
@pytest.mark.parametrize("log_target", [False, True])
@pytest.mark.parametrize("reduction", [*REDUCTIONS, "batchmean"])
def test_kl_div_agrees_with_torch(reduction, log_target):
    (x,) = arrays((3, 4))
    t = rng(1).uniform(0.1, 1, (3, 4))
    t = np.log(t) if log_target else t
    check(
        lambda a, b: losses.kl_div(a, b, reduction=reduction, log_target=log_target),
        lambda a, b: F.kl_div(a, b, reduction=reduction, log_target=log_target),
        x, t, double=True,
    )  # fmt: skip


def test_kl_div_of_target_zero_is_zero():
    x, t = np.array([-1.0, -2.0]), np.array([0.0, 1.0])
    fixed(losses.kl_div, F.kl_div, x, targets=[t], reduction="none", double=False)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("log_input", [False, True])
def test_poisson_nll_loss_agrees_with_torch(log_input, full, reduction):
    x = rng().uniform(0.5, 2, (3, 4))
    t = np.array([[0.0, 1.0, 2.0, 5.0]] * 3)
    fixed(
        losses.poisson_nll_loss, F.poisson_nll_loss, x, targets=[t], log_input=log_input, full=full,
        reduction=reduction,
    )  # fmt: skip


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("var", [(3, 4), (3,), (3, 1)])
def test_gaussian_nll_loss_agrees_with_torch(var, full, reduction):
    x, t = arrays((3, 4), (3, 4))
    v = rng(1).uniform(0.0, 2, var)
    v.flat[0] = 1e-9
    check(
        lambda a, b, c: losses.gaussian_nll_loss(a, b, c, full, eps=1e-2, reduction=reduction),
        lambda a, b, c: F.gaussian_nll_loss(a, b, c, full, eps=1e-2, reduction=reduction),
        x, t, v,
    )  # fmt: skip


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_margin_losses_agree_with_torch(reduction):
    x, y = arrays((6,), (6,))
    t = signs(6)
    options = dict(reduction=reduction)
    for margin in (1.0, 0.2):
        fixed(
            losses.hinge_embedding_loss, F.hinge_embedding_loss, x, targets=[t], margin=margin,
            **options,
        )  # fmt: skip
        fixed(
            losses.margin_ranking_loss, F.margin_ranking_loss, x, y, targets=[t], margin=margin,
            **options,
        )  # fmt: skip
    fixed(losses.soft_margin_loss, F.soft_margin_loss, x, targets=[t], **options)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("options", [{}, dict(margin=0.3, p=1.0), dict(swap=True), dict(p=3.0)])
def test_triplet_margin_loss_agrees_with_torch(options, reduction):
    a, p, n = arrays((5, 4), (5, 4), (5, 4))
    options = {**options, "reduction": reduction}
    check(
        lambda *v: losses.triplet_margin_loss(*v, **options),
        lambda *v: F.triplet_margin_loss(*v, **options),
        a, p, n, double=options.get("p") != 1.0,
    )  # fmt: skip


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("margin", [0.0, 0.2])
def test_cosine_embedding_loss_agrees_with_torch(margin, reduction):
    x, y = arrays((6, 4), (6, 4))
    fixed(
        losses.cosine_embedding_loss, F.cosine_embedding_loss, x, y, targets=[signs(6)],
        margin=margin, reduction=reduction,
    )  # fmt: skip


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("options", [{}, dict(p=2, margin=0.5), dict(weight=True)])
def test_multi_margin_loss_agrees_with_torch(options, reduction):
    x, t = rng().standard_normal((5, 4)), np.array([0, 3, 1, 2, 3])
    weight = rng(1).uniform(0.5, 2, 4) if options.get("weight") else None
    rest = {k: v for k, v in options.items() if k != "weight"}
    check(
        lambda a, b: losses.multi_margin_loss(
            a, b, **rest, weight=to_mg(weight), reduction=reduction
        ),
        lambda a, b: F.multi_margin_loss(
            a, b, **rest, weight=to_torch(weight), reduction=reduction
        ),
        x, t,
    )  # fmt: skip


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    "t", [[[0, 3, -1, 1], [2, 1, 0, 3], [-1, 0, 1, 2], [1, -1, -1, -1]], [2, 0, -1, 0]]
)
def test_multilabel_margin_loss_agrees_with_torch(t, reduction):
    t = np.array(t)
    fixed(
        losses.multilabel_margin_loss, F.multilabel_margin_loss, *arrays(t.shape), targets=[t],
        reduction=reduction, double=False,
    )  # fmt: skip


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_multilabel_soft_margin_loss_agrees_with_torch(reduction):
    (x,) = arrays((5, 4))
    t = rng(1).integers(0, 2, (5, 4)).astype(float)
    fixed(
        losses.multilabel_soft_margin_loss, F.multilabel_soft_margin_loss, x, targets=[t],
        reduction=reduction,
    )  # fmt: skip


INPUTS = [
    ((5, 4), (5,)),
    ((4,), ()),
    ((2, 4, 3), (2, 3)),
    ((2, 4, 3, 2), (2, 3, 2)),
    ((0, 4), (0,)),
]


def class_case(shape, rows, weighted, ignored):
    x = rng().standard_normal(shape)
    t = rng(1).integers(0, 4, rows)
    t = np.asarray(np.where(rng(2).uniform(size=rows) < 0.3, -7, t)) if ignored else np.asarray(t)
    weight = rng(3).uniform(0.5, 2, 4) if weighted else None
    return x, t, weight


@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape, rows", INPUTS)
def test_cross_entropy_of_classes_agrees_with_torch(
    shape, rows, reduction, weighted, ignored, smoothing, captured, monkeypatch
):
    if captured:  # the form that compiles, run eagerly
        monkeypatch.setattr(classes, "is_tracing", lambda: True)
    x, t, weight = class_case(shape, rows, weighted, ignored)
    options = dict(ignore_index=-7, reduction=reduction, label_smoothing=smoothing)
    check(
        lambda a, b: classes.cross_entropy(a, b, to_mg(weight), **options),
        lambda a, b: F.cross_entropy(a, b, to_torch(weight), **options),
        x, t, double=not smoothing and not weighted and shape != (0, 4),
    )  # fmt: skip


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape, rows", INPUTS)
def test_nll_loss_agrees_with_torch(shape, rows, reduction, weighted, ignored):
    x, t, weight = class_case(shape, rows, weighted, ignored)
    options = dict(ignore_index=-7, reduction=reduction)
    check(
        lambda a, b: classes.nll_loss(a, b, to_mg(weight), **options),
        lambda a, b: F.nll_loss(a, b, to_torch(weight), **options),
        x, t,
    )  # fmt: skip


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(5, 4), (4,), (2, 4, 3)])
def test_cross_entropy_of_probabilities_agrees_with_torch(shape, reduction, weighted, smoothing):
    x = rng().standard_normal(shape)
    t = rng(1).uniform(0.1, 1, shape)
    weight = rng(3).uniform(0.5, 2, 4) if weighted else None
    options = dict(reduction=reduction, label_smoothing=smoothing)
    check(
        lambda a, b: classes.cross_entropy(a, b, to_mg(weight), **options),
        lambda a, b: F.cross_entropy(a, b, to_torch(weight), **options),
        x, t,
    )  # fmt: skip


def test_cross_entropy_of_large_logits_is_finite():
    x = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]], np.float32)
    fixed(classes.cross_entropy, F.cross_entropy, x, targets=[np.array([1, 2])], double=False)


def test_cross_entropy_where_all_targets_are_ignored_is_nan_as_in_torch():
    x = mg.zeros(2, 3)
    assert np.isnan(classes.cross_entropy(x, mg.tensor([-100, -100])).item())
    sums = classes.cross_entropy(x, mg.tensor([-100, -100]), reduction="sum")
    assert sums.item() == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_class_numbers_of_any_integer_dtype(dtype):
    x = rng().standard_normal((3, 4))
    t = np.array([1, 3, 0])
    made = classes.cross_entropy(mg.tensor(x), mg.tensor(t.astype(dtype)))
    close(made, F.cross_entropy(torch.tensor(x), torch.tensor(t)))


def test_captured_cross_entropy_equals_the_eager_one():
    x = mg.tensor(rng().standard_normal((6, 5)).astype(np.float32), requires_grad=True)
    t = mg.tensor([0, 4, 2, -100, 1, 1])

    def step(x, t):
        (g,) = mg.autograd.grad(classes.cross_entropy(x, t), x)
        return classes.cross_entropy(x, t), g

    for made, expected in zip(mg.jit(step)(x, t), step(x, t)):
        np.testing.assert_allclose(
            made.numpy(force=True), expected.numpy(force=True), rtol=1e-5, atol=1e-7
        )


def test_a_loss_that_would_broadcast_is_an_error():
    with raises_message(
        ShapeError,
        """mse_loss: input has shape (3, 1) but target has (3,); they must be equal
        hint: target.reshape(input.shape) if the elements correspond in order""",
    ):
        losses.mse_loss(mg.zeros(3, 1), mg.zeros(3))
    with raises_message(
        ShapeError, "l1_loss: input has shape (3, 2) but target has (2,); they must be equal"
    ):
        losses.l1_loss(mg.zeros(3, 2), mg.zeros(2))


@pytest.mark.parametrize(
    "x, t, kind, message",
    [
        (
            mg.zeros(2, 3), mg.tensor([0, 3]), IndexRangeError,
            "cross_entropy: target has class numbers outside of [0, 3)",
        ),
        (
            mg.zeros(2, 3), mg.tensor([0, 1, 2]), ShapeError,
            "cross_entropy: input (2, 3) needs class numbers of shape (2,), target has (3,)",
        ),
        (
            mg.zeros(2, 3), mg.tensor([0.0, 1.0]), ShapeError,
            "cross_entropy: a floating target holds probabilities and must have input's shape "
            "(2, 3), got (2,) hint: class numbers must be integers: target.long()",
        ),
        (
            mg.zeros(2, 3, dtype=mg.int64), mg.tensor([0, 1]), DTypeError,
            "cross_entropy: input must be floating, got int64",
        ),
        (
            mg.zeros(2, 3), mg.tensor([True, False]), DTypeError,
            "cross_entropy: target must be class numbers (an integer dtype), got bool",
        ),
    ],
)  # fmt: skip
def test_cross_entropy_explains_bad_arguments(x, t, kind, message):
    with raises_message(kind, message):
        classes.cross_entropy(x, t)


@pytest.mark.parametrize("loss", [classes.cross_entropy, classes.nll_loss])
@pytest.mark.parametrize("dtype", [mg.int64, mg.int32, mg.uint8])
@pytest.mark.parametrize("shape", [(4,), (2, 40000)])
def test_captured_losses_find_class_numbers_out_of_range(loss, dtype, shape):
    x = mg.randn(shape[0], 5, *shape[1:], requires_grad=True)
    good = mg.zeros(shape, dtype=dtype)

    @mg.jit
    def gradient(x, t):
        return mg.autograd.grad(loss(x, t, ignore_index=9), x)[0]

    def same(t):
        close(gradient(x, t), gradient.function(x, t), np.float32)

    same(good)
    for bad in (5, 100, -1):
        if bad < 0 and dtype is mg.uint8:
            continue
        t = good.clone()
        t.view(-1)[-1] = bad
        with raises_message(
            IndexRangeError, f"{loss.__name__}: target has class numbers outside of [0, 5)"
        ):
            gradient(x, t)
    t = good.clone()
    t.view(-1)[-2:] = mg.tensor([9, 4], dtype=dtype)  # 9 is ignored
    same(t)


def test_losses_explain_bad_options():
    x = mg.zeros(2)
    with raises_message(
        ArgumentError, "mse_loss: reduction must be 'mean', 'sum' or 'none', got 'average'"
    ):
        losses.mse_loss(x, x, reduction="average")
    with raises_message(ArgumentError, "cross_entropy: label_smoothing must be in [0, 1], got 2"):
        classes.cross_entropy(x, mg.tensor(0), label_smoothing=2)
