import numpy as np
import pytest
import torch.nn.functional as F

import monograph as mg
from monograph.core.errors import ArgumentError, ShapeError
from monograph.ops import conv

from .messages import raises_message
from .oracle import check, close, rng


def arrays(*shapes, seed=0):
    r = rng(seed)
    return [r.standard_normal(s) for s in shapes]


# input, weight, options
CASES = [
    (1, (2, 3, 8), (4, 3, 3), {}),
    (1, (2, 3, 8), (4, 3, 3), dict(stride=2, padding=1)),
    (1, (2, 4, 9), (6, 2, 3), dict(groups=2, dilation=2, padding="valid")),
    (1, (2, 3, 8), (4, 3, 4), dict(padding="same")),
    (1, (3, 8), (4, 3, 3), dict(padding=2)),
    (2, (2, 3, 6, 7), (4, 3, 3, 2), {}),
    (2, (2, 3, 6, 7), (4, 3, 1, 1), {}),
    (2, (2, 3, 6, 7), (4, 3, 1, 1), dict(stride=2)),
    (2, (2, 3, 6, 7), (4, 3, 3, 3), dict(stride=2, padding=1)),
    (2, (2, 3, 7, 6), (4, 3, 3, 2), dict(stride=(2, 3), padding=(2, 1), dilation=(1, 2))),
    (2, (2, 4, 5, 5), (4, 1, 3, 3), dict(groups=4, padding=1)),
    (2, (2, 4, 5, 5), (8, 1, 3, 3), dict(groups=4, padding=1)),
    (2, (2, 4, 5, 5), (6, 2, 3, 3), dict(groups=2)),
    (2, (2, 3, 6, 6), (4, 3, 2, 3), dict(padding="same", dilation=(3, 1))),
    (2, (3, 5, 5), (4, 3, 3, 3), dict(padding="same")),
    (2, (2, 3, 8, 8), (4, 3, 3, 3), dict(stride=3)),
    (2, (1, 1, 5, 5), (1, 1, 5, 5), {}),
    (2, (0, 3, 5, 5), (4, 3, 3, 3), {}),
    (3, (2, 2, 4, 5, 3), (3, 2, 2, 3, 2), dict(stride=(1, 2, 1), padding=1)),
    (3, (2, 2, 4, 4, 4), (4, 1, 3, 3, 3), dict(groups=2, padding="same")),
]
TRANSPOSED = [
    (1, (2, 3, 5), (3, 4, 3), {}),
    (1, (2, 3, 5), (3, 4, 3), dict(stride=2, padding=1, output_padding=1)),
    (1, (2, 4, 5), (4, 3, 3), dict(groups=2, dilation=2)),
    (1, (3, 5), (3, 4, 2), dict(stride=3)),
    (2, (2, 3, 4, 5), (3, 4, 3, 2), {}),
    (2, (2, 3, 4, 4), (3, 4, 2, 2), dict(stride=2)),
    (2, (2, 3, 4, 4), (3, 4, 3, 3), dict(stride=2, padding=1, output_padding=1)),
    (2, (2, 4, 3, 4), (4, 2, 3, 3), dict(groups=2, stride=(1, 2), padding=(1, 0))),
    (2, (2, 3, 4, 4), (3, 4, 2, 2), dict(dilation=3, output_padding=2)),
    (2, (2, 3, 4, 4), (3, 4, 2, 2), dict(dilation=3, output_padding=2, padding=1, stride=2)),
    (2, (2, 3, 3, 3), (3, 4, 3, 3), dict(padding=2)),
    (3, (2, 2, 3, 2, 3), (2, 3, 2, 2, 2), dict(stride=2, output_padding=1)),
    (2, (2, 18, 5, 6), (18, 3, 4, 4), dict(stride=2, padding=1)),
    (2, (2, 3, 5, 6), (3, 17, 3, 3), dict(stride=3, padding=1, output_padding=2)),
    (2, (2, 5, 5, 4), (5, 2, 5, 4), dict(stride=(3, 2), padding=(2, 0), dilation=(2, 3))),
    (2, (2, 5, 3, 4), (5, 2, 2, 3), dict(stride=4, padding=1, dilation=2)),
    (1, (2, 20, 7), (20, 2, 8), dict(stride=4, padding=2)),
]


def ids(case):
    return "-".join(map(str, case)).replace(" ", "")


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")  # PyTorch, even filters
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("case", CASES, ids=ids)
def test_convolution_agrees_with_torch_in_value_and_two_gradients(case, with_bias):
    n, x, w, options = case
    operands = arrays(x, w, (w[0],)) if with_bias else arrays(x, w)
    ours, theirs = getattr(conv, f"conv{n}d"), getattr(F, f"conv{n}d")
    check(
        lambda *a: ours(*a, **options), lambda *a: theirs(*a, **options), *operands,
        double=x[0] != 0,
    )  # fmt: skip


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("case", TRANSPOSED, ids=ids)
def test_transposed_convolution_agrees_with_torch(case, with_bias):
    n, x, w, options = case
    outputs = w[1] * options.get("groups", 1)
    operands = arrays(x, w, (outputs,)) if with_bias else arrays(x, w)
    name = f"conv_transpose{n}d"
    ours, theirs = getattr(conv, name), getattr(F, name)
    check(lambda *a: ours(*a, **options), lambda *a: theirs(*a, **options), *operands, double=True)


def test_images_in_pieces_give_the_same_result(monkeypatch):
    x, w = (mg.tensor(a, requires_grad=True) for a in arrays((7, 3, 6, 6), (4, 3, 3, 3)))
    g = mg.ones(7, 4, 4, 4, dtype=mg.float64)
    whole = conv.conv2d(x, w)
    gradients = mg.autograd.grad(whole, (x, w), g, retain_graph=True)
    monkeypatch.setattr(conv, "_COLUMN_BYTES", 5000)
    close(conv.conv2d(x, w), whole.numpy(force=True))
    for made, expected in zip(mg.autograd.grad(whole, (x, w), g), gradients):
        close(made, expected.numpy())


@pytest.mark.parametrize("dtype", [mg.float16, mg.bfloat16])
def test_sixteen_bit_convolutions_accumulate_in_float32(dtype):
    x, w = mg.ones(1, 512, 3, 3, dtype=dtype), mg.ones(1, 512, 3, 3, dtype=dtype)
    assert conv.conv2d(x, w).item() == 4608


def rule_agrees_with_a_loop(op, dims, *operands):
    """op's batch rule on stacked operands equals op on each slice."""
    size = next(a.shape[d] for a, d in zip(operands, dims) if d is not None)
    out, dim = op.batch(dims, size, *map(mg.tensor, operands))
    made = np.moveaxis(out.numpy(), dim, 0)
    for i in range(size):
        one = [a if d is None else a.take(i, d) for a, d in zip(operands, dims)]
        np.testing.assert_allclose(made[i], op.reference(*one), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dims", [(0, None), (2, None), (None, 0), (None, 3), (0, 0), (1, 4)])
@pytest.mark.parametrize("groups", [1, 2])
def test_batch_rules_equal_a_loop(dims, groups):
    x, w, y = (2, 4, 5, 6), (6, 4 // groups, 3, 2), (2, 6, 3, 3)
    window = (2, 2), (1, 1), (1, 1), groups

    def operands(*shapes):
        return arrays(*(
            s if d is None else (*s[:d], 3, *s[d:]) for s, d in zip(shapes, dims)
        ))  # fmt: skip

    y = (2, 6, *conv.Conv(*window).counts(x[2:], w[2:]))
    rule_agrees_with_a_loop(conv.Conv(*window), dims, *operands(x, w))
    rule_agrees_with_a_loop(conv.ConvInput(*window, x[2:]), dims, *operands(y, w))
    rule_agrees_with_a_loop(conv.ConvWeight(*window, w[2:]), dims, *operands(x, y))


def test_gradient_of_the_weight_alone_does_not_compute_that_of_the_input(monkeypatch):
    monkeypatch.setattr(conv.ConvInput, "reference", None)
    w = mg.ones(1, 1, 2, 2, requires_grad=True)
    conv.conv2d(mg.ones(1, 1, 3, 3), w).backward(mg.ones(1, 1, 2, 2))
    assert w.grad.tolist() == [[[[4.0, 4.0], [4.0, 4.0]]]]


@pytest.mark.parametrize(
    "x, w, options, kind, message",
    [
        (
            (2, 3, 5, 5), (4, 2, 3, 3), {}, ShapeError,
            "conv2d: input (2, 3, 5, 5) has 3 channels, but weight (4, 2, 3, 3) with groups=1 "
            "takes 2",
        ),
        (
            (2, 4, 5, 5), (3, 2, 3, 3), dict(groups=2), ShapeError,
            "conv2d: weight (3, 2, 3, 3) makes 3 channels, which do not divide into groups=2",
        ),
        (
            (2, 3, 2, 2), (4, 3, 3, 3), {}, ShapeError,
            "conv2d: windows of (3, 3) do not fit into input (2, 3, 2, 2) with padding (0, 0)",
        ),
        (
            (3, 5), (4, 3, 3, 3), {}, ShapeError,
            "conv2d: input must have 4 dimensions (or 3 without a batch), got shape (3, 5)",
        ),
        (
            (2, 3, 5, 5), (4, 3, 3), {}, ShapeError,
            "conv2d: weight must have 4 dimensions, got shape (4, 3, 3)",
        ),
        (
            (2, 3, 5, 5), (4, 3, 3, 3), dict(stride=0), ArgumentError,
            "conv2d: stride must be at least 1, got 0",
        ),
        (
            (2, 3, 5, 5), (4, 3, 3, 3), dict(padding=(1, 2, 3)), ArgumentError,
            "conv2d: padding must be an int or 2 ints, got (1, 2, 3)",
        ),
        (
            (2, 3, 5, 5), (4, 3, 3, 3), dict(padding="same", stride=2), ArgumentError,
            "conv2d: padding='same' needs stride 1, got 2",
        ),
        (
            (2, 3, 5, 5), (4, 3, 3, 3), dict(padding="full"), ArgumentError,
            "conv2d: padding must be 'same', 'valid' or numbers, got 'full'",
        ),
        (
            (2, 3, 5, 5), (4, 3, 3, 3), dict(bias=mg.zeros(3)), ShapeError,
            "conv2d: bias must have shape (4,) for weight (4, 3, 3, 3), got (3,)",
        ),
    ],
)  # fmt: skip
def test_conv2d_explains_bad_arguments(x, w, options, kind, message):
    with raises_message(kind, message):
        conv.conv2d(mg.zeros(*x), mg.zeros(*w), **options)


def test_conv_transpose_explains_bad_arguments():
    with raises_message(
        ArgumentError,
        """conv_transpose2d: output_padding must be smaller than stride or dilation, got (2, 2)
        with stride (2, 2) and dilation (1, 1)""",
    ):
        conv.conv_transpose2d(mg.zeros(1, 1, 3, 3), mg.zeros(1, 1, 2, 2), None, 2, 0, 2)
    with raises_message(
        ShapeError,
        """conv_transpose2d: input (1, 2, 3, 3) has 2 channels, weight (1, 1, 2, 2) takes 1
        (its first axis) in groups=1""",
    ):
        conv.conv_transpose2d(mg.zeros(1, 2, 3, 3), mg.zeros(1, 1, 2, 2))
