"""Every layer against PyTorch's of the same name: repr, state dict, output, gradients, buffers."""

import numpy as np
import pytest
from torch_oracle import TIGHT, array, check_same, check_same_result, draw, message, torch, twins

import monograph as mg
from monograph import nn
from monograph.core.errors import ShapeError

X23 = (draw(2, 3),)
X4 = (draw(2, 4, 6, 5),)
X8 = (draw(2, 4, 8, 8),)

ACTIVATIONS = [
    ("ReLU", {}), ("ReLU6", {}), ("LeakyReLU", {}), ("LeakyReLU", {"negative_slope": 0.2}),
    ("ELU", {}), ("ELU", {"alpha": 0.5}), ("SELU", {}), ("CELU", {}), ("CELU", {"alpha": 2.0}),
    ("GELU", {}), ("GELU", {"approximate": "tanh"}), ("SiLU", {}), ("Mish", {}), ("Softplus", {}),
    ("Softplus", {"beta": 2.0, "threshold": 1.0}), ("Softsign", {}), ("Tanh", {}), ("Sigmoid", {}),
    ("Hardtanh", {}), ("Hardtanh", {"min_val": -0.5, "max_val": 2.0}), ("Hardswish", {}),
    ("Hardsigmoid", {}), ("LogSigmoid", {}), ("Softmax", {"dim": 1}), ("Softmax", {"dim": -1}),
    ("LogSoftmax", {"dim": 1}), ("Softmin", {"dim": 0}), ("Tanhshrink", {}),
    ("Hardshrink", {"lambd": 0.3}), ("Softshrink", {}),
    ("Threshold", {"threshold": 0.1, "value": 5}),
    ("PReLU", {}), ("PReLU", {"num_parameters": 4}), ("Softmax2d", {}), ("Identity", {}),
    ("GLU", {"dim": 1}), ("Flatten", {}), ("Flatten", {"start_dim": 2}),
    ("Flatten", {"start_dim": 0, "end_dim": 1}),
    ("Unflatten", {"dim": 1, "unflattened_size": (2, 2)}),
]  # fmt: skip


@pytest.mark.parametrize("name, kwargs", ACTIVATIONS)
def test_activations_and_reshapes_equal_torch(name, kwargs):
    # PyTorch's gradient of hardsigmoid multiplies by 1/6 rounded to float32.
    tolerance = {"rtol": 1e-7, "atol": 0} if name == "Hardsigmoid" else TIGHT
    check_same(name, (), kwargs, (draw(2, 4, 6, 5) * 3,), tolerance=tolerance)


@pytest.mark.parametrize("name", ["ReLU", "ReLU6", "SiLU", "ELU", "LeakyReLU", "Hardtanh", "Mish"])
def test_inplace_activations_print_and_compute_like_torch(name):
    layer, other = getattr(nn, name)(inplace=True), getattr(torch.nn, name)(inplace=True)
    assert repr(layer) == repr(other)
    x = draw(3, 4)
    mine, reference = mg.tensor(x), torch.tensor(x)
    out, expected = layer(mine), other(reference)
    np.testing.assert_allclose(array(out), array(expected), **TIGHT)
    np.testing.assert_allclose(array(mine), array(reference), **TIGHT)


LINEAR = [
    ("Linear", (3, 5), {}, X23),
    ("Linear", (3, 5), {"bias": False}, X23),
    ("Linear", (3, 5), {}, (draw(3),)),
    ("Linear", (5, 2), {}, X4),
    ("Bilinear", (3, 4, 2), {}, (draw(5, 3), draw(5, 4))),
    ("Bilinear", (3, 4, 2), {"bias": False}, (draw(2, 5, 3), draw(2, 5, 4))),
    ("Embedding", (7, 3), {}, (np.array([[1, 2, 2], [6, 0, 1]]),)),
    ("Embedding", (7, 3), {"padding_idx": 2}, (np.array([1, 2, 2, 6]),)),
    ("Embedding", (7, 3), {"padding_idx": -1}, (np.array([1, 2, 2, 6]),)),
]


@pytest.mark.parametrize("name, args, kwargs, inputs", LINEAR)
def test_linear_bilinear_embedding_equal_torch(name, args, kwargs, inputs):
    check_same(name, args, kwargs, inputs)


CONV = [
    ("Conv1d", (4, 6, 3), {}, (draw(2, 4, 9),)),
    ("Conv1d", (4, 6, 3), {"padding": "same"}, (draw(2, 4, 9),)),
    ("Conv1d", (4, 6, 4), {"padding": "same", "dilation": 2}, (draw(2, 4, 9),)),
    ("Conv1d", (4, 6, 3), {}, (draw(4, 9),)),
    ("Conv2d", (4, 6, 3), {}, X4),
    ("Conv2d", (4, 6, (3, 2)), {"stride": 2, "padding": (1, 0), "bias": False}, X4),
    ("Conv2d", (4, 6, 3), {"dilation": 2, "padding": 2, "groups": 2}, X8),
    ("Conv2d", (4, 4, 3), {"groups": 4, "padding": 1}, X8),
    ("Conv2d", (4, 6, 1), {"padding": "valid"}, X8),
    ("Conv2d", (4, 6, 3), {"padding": 1, "padding_mode": "reflect"}, X8),
    ("Conv2d", (4, 6, 3), {"padding": 1, "padding_mode": "replicate"}, X8),
    ("Conv2d", (4, 6, 3), {"padding": 1, "padding_mode": "circular"}, X8),
    ("Conv2d", (4, 6, (4, 3)), {"padding": "same", "padding_mode": "circular"}, X8),
    ("Conv3d", (2, 3, 2), {"stride": (1, 2, 1)}, (draw(2, 2, 4, 5, 3),)),
    ("ConvTranspose1d", (4, 6, 3), {"stride": 2, "output_padding": 1}, (draw(2, 4, 5),)),
    ("ConvTranspose2d", (4, 6, 3), {}, X4),
    ("ConvTranspose2d", (4, 6, 3), {"stride": 2, "padding": 1, "output_padding": 1}, X4),
    ("ConvTranspose2d", (4, 6, 3), {"groups": 2, "dilation": 2, "bias": False}, X4),
    ("ConvTranspose3d", (2, 3, 2), {"stride": 2}, (draw(1, 2, 3, 2, 3),)),
]


@pytest.mark.parametrize("name, args, kwargs, inputs", CONV)
def test_convolutions_equal_torch(name, args, kwargs, inputs):
    check_same(name, args, kwargs, inputs)


def test_transposed_convolution_takes_an_output_size():
    layer, other = twins("ConvTranspose2d", 4, 2, 3, stride=2, padding=1)
    x = draw(1, 4, 5, 5)
    for size in [(10, 10), (9, 10), (1, 2, 10, 9)]:
        out = layer(mg.tensor(x), output_size=size)
        expected = other(torch.tensor(x), output_size=size)
        np.testing.assert_allclose(array(out), array(expected), **TIGHT)
    assert message(layer, mg.tensor(x), output_size=(11, 9)) == (
        "ShapeError: ConvTranspose2d: output_size (11, 9) is not possible for input (1, 4, 5, 5); "
        "it must be from (9, 9) to (10, 10)"
    )


NORM = [
    ("BatchNorm1d", (4,), {}, (draw(5, 4),)),
    ("BatchNorm1d", (4,), {"affine": False}, (draw(5, 4, 3),)),
    ("BatchNorm2d", (4,), {}, X4),
    ("BatchNorm2d", (4,), {"momentum": 0.3, "eps": 1e-3}, X4),
    ("BatchNorm2d", (4,), {"momentum": None}, X4),
    ("BatchNorm2d", (4,), {"track_running_stats": False}, X4),
    ("BatchNorm3d", (2,), {}, (draw(2, 2, 3, 2, 4),)),
    ("LayerNorm", (5,), {}, X4),
    ("LayerNorm", ((6, 5),), {"eps": 1e-3}, X4),
    ("LayerNorm", (5,), {"elementwise_affine": False}, X4),
    ("LayerNorm", (5,), {"bias": False}, X4),
    ("RMSNorm", (5,), {}, X4),
    ("RMSNorm", ((6, 5),), {"eps": 1e-3, "elementwise_affine": False}, X4),
    ("GroupNorm", (2, 4), {}, X4),
    ("GroupNorm", (4, 4), {"affine": False}, X4),
    ("GroupNorm", (2, 4), {"bias": False}, X4),
    ("BatchNorm2d", (4,), {"bias": False}, X4),
    ("LocalResponseNorm", (3,), {"alpha": 0.5, "k": 2.0}, X4),
    ("InstanceNorm1d", (4,), {}, (draw(2, 4, 6),)),
    ("InstanceNorm1d", (4,), {}, (draw(4, 6),)),
    ("InstanceNorm2d", (4,), {"affine": True, "track_running_stats": True}, X4),
    ("InstanceNorm3d", (2,), {"affine": True}, (draw(2, 2, 3, 2, 4),)),
]


@pytest.mark.parametrize("name, args, kwargs, inputs", NORM)
def test_normalisations_equal_torch(name, args, kwargs, inputs):
    check_same(name, args, kwargs, inputs)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_norm_running_statistics_follow_torch_over_several_batches(momentum):
    layer, other = twins("BatchNorm2d", 4, momentum=momentum)
    for seed in range(4):
        x = draw(3, 4, 2, 2, seed=seed) * (seed + 1)
        layer(mg.tensor(x)), other(torch.tensor(x))
    for key, value in other.state_dict().items():
        np.testing.assert_allclose(array(layer.state_dict()[key]), array(value), **TIGHT)
    layer.reset_running_stats()
    assert layer.num_batches_tracked.item() == 0
    assert layer.running_var.tolist() == [1.0] * 4


POOL = [
    ("MaxPool1d", (2,), {}, (draw(2, 3, 9),)),
    ("MaxPool2d", (2,), {}, X8),
    ("MaxPool2d", (3,), {"stride": 2, "padding": 1}, X8),
    ("MaxPool2d", ((3, 2),), {"stride": (2, 1), "dilation": (1, 2)}, X8),
    ("MaxPool2d", (3,), {"stride": 2, "ceil_mode": True}, X8),
    ("MaxPool3d", (2,), {}, (draw(1, 2, 4, 4, 5),)),
    ("AvgPool1d", (3,), {"stride": 2, "padding": 1}, (draw(2, 3, 9),)),
    ("AvgPool2d", (2,), {}, X8),
    ("AvgPool2d", (3,), {"stride": 2, "padding": 1}, X8),
    ("AvgPool2d", (3,), {"stride": 2, "padding": 1, "count_include_pad": False}, X8),
    ("AvgPool2d", (3,), {"stride": 2, "ceil_mode": True}, X8),
    ("AvgPool2d", (2,), {"divisor_override": 3}, X8),
    ("AvgPool3d", (2,), {}, (draw(1, 2, 4, 4, 5),)),
    ("LPPool1d", (2, 3), {"stride": 2}, (np.abs(draw(2, 3, 9)),)),
    ("LPPool2d", (3, 2), {"stride": 1}, (np.abs(draw(2, 3, 5, 5)),)),
    ("AdaptiveAvgPool1d", (3,), {}, (draw(2, 3, 8),)),
    ("AdaptiveAvgPool2d", (1,), {}, X8),
    ("AdaptiveAvgPool2d", ((3, 5),), {}, X8),
    ("AdaptiveAvgPool2d", ((None, 4),), {}, X8),
    ("AdaptiveAvgPool3d", (2,), {}, (draw(1, 2, 4, 4, 5),)),
    ("AdaptiveMaxPool1d", (3,), {}, (draw(2, 3, 8),)),
    ("AdaptiveMaxPool2d", ((3, 5),), {}, X8),
    ("AdaptiveMaxPool3d", (2,), {}, (draw(1, 2, 4, 4, 5),)),
]


@pytest.mark.parametrize("name, args, kwargs, inputs", POOL)
def test_poolings_equal_torch(name, args, kwargs, inputs):
    check_same(name, args, kwargs, inputs)


RECURRENT = [
    ("RNN", (3, 5), {}),
    ("RNN", (3, 5), {"nonlinearity": "relu", "bias": False}),
    ("RNN", (3, 5), {"num_layers": 2, "bidirectional": True}),
    ("LSTM", (3, 5), {}),
    ("LSTM", (3, 5), {"num_layers": 2, "batch_first": True}),
    ("LSTM", (3, 5), {"num_layers": 2, "bidirectional": True, "bias": False}),
    ("GRU", (3, 5), {}),
    ("GRU", (3, 5), {"num_layers": 2, "bidirectional": True, "batch_first": True}),
]


@pytest.mark.parametrize("name, args, kwargs", RECURRENT)
@pytest.mark.parametrize("given", ["no state", "state", "no batch"])
def test_recurrent_layers_equal_torch(name, args, kwargs, given):
    depth = kwargs.get("num_layers", 1) * (2 if kwargs.get("bidirectional") else 1)
    inputs = (draw(4, 3),) if given == "no batch" else (draw(4, 4, 3),)
    if given != "no state":
        shape = (depth, 5) if given == "no batch" else (depth, 4, 5)
        states = tuple(draw(*shape, seed=k) for k in range(2 if name == "LSTM" else 1))
        inputs = (*inputs, states if name == "LSTM" else states[0])
    check_same(name, args, kwargs, inputs)


@pytest.mark.parametrize(
    "name, kwargs",
    [("RNNCell", {}), ("RNNCell", {"nonlinearity": "relu"}), ("LSTMCell", {}), ("GRUCell", {}),
     ("GRUCell", {"bias": False})],
)  # fmt: skip
def test_recurrent_cells_equal_torch(name, kwargs):
    for shape in [(4, 3), (3,)]:
        check_same(name, (3, 5), kwargs, (draw(*shape),))
        state = draw(*shape[:-1], 5, seed=1)
        hx = (state, state * 2) if name == "LSTMCell" else state
        check_same(name, (3, 5), kwargs, (draw(*shape), hx))


LOSSES = [
    ("L1Loss", {}, (draw(3, 4), draw(3, 4, seed=1))),
    ("MSELoss", {}, (draw(3, 4), draw(3, 4, seed=1))),
    ("SmoothL1Loss", {"beta": 0.5}, (draw(3, 4), draw(3, 4, seed=1))),
    ("HuberLoss", {"delta": 0.5}, (draw(3, 4), draw(3, 4, seed=1))),
    ("NLLLoss", {}, (draw(3, 4), np.array([0, 3, 1]))),
    ("NLLLoss", {"ignore_index": 3}, (draw(3, 4, 2), np.array([[0, 1], [3, 2], [1, 1]]))),
    ("CrossEntropyLoss", {}, (draw(3, 4), np.array([0, 3, 1]))),
    ("CrossEntropyLoss", {"label_smoothing": 0.1}, (draw(3, 4), np.array([0, 3, 1]))),
    ("CrossEntropyLoss", {"weight": np.array([1.0, 2, 3, 4])}, (draw(3, 4), np.array([0, 3, 1]))),
    ("CrossEntropyLoss", {}, (draw(3, 4), np.full((3, 4), 0.25))),
    ("CrossEntropyLoss", {"ignore_index": 1}, (draw(3, 4, 2), np.array([[0, 1], [3, 2], [1, 1]]))),
    ("BCELoss", {}, (np.array([0.2, 0.7]), np.array([0.0, 1.0]))),
    ("BCEWithLogitsLoss", {}, (draw(3, 4), np.full((3, 4), 0.25))),
    ("BCEWithLogitsLoss", {"pos_weight": np.array([1.0, 2, 3, 4])}, (draw(3, 4), np.eye(3, 4))),
    ("KLDivLoss", {}, (draw(3, 4), np.full((3, 4), 0.25))),
    ("PoissonNLLLoss", {}, (draw(3, 4), np.full((3, 4), 2.0))),
    ("GaussianNLLLoss", {}, (draw(3, 4), draw(3, 4, seed=1), draw(3, 4, seed=2) ** 2)),
    ("CosineEmbeddingLoss", {}, (draw(3, 4), draw(3, 4, seed=1), np.array([1, -1, 1]))),
    ("MarginRankingLoss", {"margin": 0.5}, (draw(4), draw(4, seed=1), np.array([1, -1, 1, -1]))),
    ("HingeEmbeddingLoss", {}, (draw(4), np.array([1, -1, 1, -1]))),
    ("SoftMarginLoss", {}, (draw(4), np.array([1, -1, 1, -1]))),
    ("MultiMarginLoss", {"p": 2, "margin": 0.5}, (draw(3, 4), np.array([0, 3, 1]))),
    ("MultiMarginLoss", {"weight": np.array([1.0, 2, 3, 4])}, (draw(3, 4), np.array([0, 3, 1]))),
    ("MultiLabelSoftMarginLoss", {}, (draw(3, 4), np.eye(3, 4))),
    ("TripletMarginWithDistanceLoss", {"margin": 2.0, "swap": True},
     (draw(3, 4), draw(3, 4, seed=1), draw(3, 4, seed=2))),
    ("TripletMarginLoss", {}, (draw(3, 4), draw(3, 4, seed=1), draw(3, 4, seed=2))),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:reduction:UserWarning")  # PyTorch's advice about KLDivLoss
@pytest.mark.parametrize("name, kwargs, inputs", LOSSES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses_equal_torch(name, kwargs, inputs, reduction):
    layer, other = twins(name, reduction=reduction, **kwargs)
    assert repr(layer) == repr(other)
    # Targets need no gradient: compare with respect to the first argument.
    x, *rest = inputs
    first, reference = mg.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    out = layer(first, *(mg.tensor(r) for r in rest))
    expected = other(reference, *(torch.tensor(r) for r in rest))
    np.testing.assert_allclose(array(out), array(expected), **TIGHT)
    out.sum().backward(), expected.sum().backward()
    np.testing.assert_allclose(array(first.grad), array(reference.grad), **TIGHT)


OLDER = [(None, None), (True, None), (False, None), (None, False), (None, True), (False, False)]


@pytest.mark.filterwarnings("ignore:size_average and reduce:UserWarning")
@pytest.mark.parametrize("size_average, reduce", OLDER)
def test_losses_take_the_older_arguments(size_average, reduce):
    older = {"size_average": size_average, "reduce": reduce}
    x, y = draw(3, 4), draw(3, 4, seed=1)
    for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "soft_margin_loss"):
        made = getattr(nn.functional, name)(mg.tensor(x), mg.tensor(y), **older)
        expected = getattr(torch.nn.functional, name)(torch.tensor(x), torch.tensor(y), **older)
        np.testing.assert_allclose(array(made), array(expected), **TIGHT)
    for name, *after in (
        ("mse_loss", *older.values(), "none"), ("huber_loss", "sum", 0.5),
        ("kl_div", None, None, "batchmean", True), ("l1_loss", *older.values()),
    ):  # fmt: skip
        made = getattr(nn.functional, name)(mg.tensor(x), mg.tensor(y), *after)
        expected = getattr(torch.nn.functional, name)(torch.tensor(x), torch.tensor(y), *after)
        np.testing.assert_allclose(array(made), array(expected), **TIGHT)
    weight, classes = np.array([1.0, 2, 3, 4]), np.array([0, 3, 1])
    given = size_average, 3, reduce
    made = nn.functional.cross_entropy(mg.tensor(x), mg.tensor(classes), None, *given)
    expected = torch.nn.functional.cross_entropy(
        torch.tensor(x), torch.tensor(classes), None, *given
    )
    np.testing.assert_allclose(array(made), array(expected), **TIGHT)
    for name in ("NLLLoss", "CrossEntropyLoss"):  # by position, as older programs write it
        layer = getattr(nn, name)(mg.tensor(weight), size_average, -100, reduce)
        other = getattr(torch.nn, name)(torch.tensor(weight), size_average, -100, reduce)
        assert layer.reduction == other.reduction
        np.testing.assert_allclose(
            array(layer(mg.tensor(x), mg.tensor(classes))),
            array(other(torch.tensor(x), torch.tensor(classes))),
            **TIGHT,
        )
    for name in ("BCELoss", "BCEWithLogitsLoss", "MSELoss", "KLDivLoss", "MultiMarginLoss"):
        assert getattr(nn, name)(**older).reduction == getattr(torch.nn, name)(**older).reduction


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning")
@pytest.mark.parametrize("reduction", ["mean", "sum", "batchmean"])
def test_kl_div_of_a_uniform_distribution_equals_torch(reduction):
    logs, one = np.log(np.array([[0.1, 0.7, 0.2], [0.3, 0.3, 0.4]])), np.log([1 / 3])
    for x, y in ((one, logs), (logs, one)):
        pairs = [[lib.tensor(v) for v in (x, y)] for lib in (mg, torch)]
        options = {"reduction": reduction, "log_target": True}
        made = nn.functional.kl_div(*pairs[0], **options)
        expected = torch.nn.functional.kl_div(*pairs[1], **options)
        np.testing.assert_allclose(array(made), array(expected), **TIGHT)
    with pytest.raises(ShapeError, match="kl_div: input has shape"):
        nn.functional.kl_div(mg.tensor(logs), mg.tensor(logs[0]))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_ctc_loss_equals_torch(reduction):
    scores, targets = draw(6, 2, 5), np.array([[1, 2, 2], [3, 1, 0]])
    lengths = (np.array([6, 5]), np.array([3, 2]))

    def run(lib, tensor):
        x = tensor.tensor(scores, requires_grad=True)
        loss = lib.CTCLoss(reduction=reduction)
        out = loss(lib.functional.log_softmax(x, -1), *map(tensor.tensor, (targets, *lengths)))
        out.sum().backward()
        return array(out), array(x.grad)

    for a, b in zip(run(nn, mg), run(torch.nn, torch)):
        np.testing.assert_allclose(a, b, **TIGHT)


def test_similarity_and_distance_equal_torch():
    check_same("CosineSimilarity", (), {"dim": 1}, (draw(3, 4), draw(3, 4, seed=1)))
    check_same("PairwiseDistance", (), {}, (draw(3, 4), draw(3, 4, seed=1)))


@pytest.mark.parametrize("name", ["Dropout", "Dropout1d", "Dropout2d"])
def test_dropout_zeroes_a_share_in_training_and_nothing_in_evaluation(name):
    layer = getattr(nn, name)(0.25)
    assert repr(layer) == repr(getattr(torch.nn, name)(0.25))
    shape = {"Dropout": (100, 100), "Dropout1d": (50, 100, 3), "Dropout2d": (50, 100, 2, 2)}[name]
    x = mg.ones(*shape)
    assert array(layer.eval()(x)).min() == 1.0
    out = array(layer.train()(x))
    np.testing.assert_allclose(np.unique(out), [0.0, 1 / 0.75], rtol=1e-6)
    # 5000 or more independent draws: three standard deviations of the share are below 0.02.
    assert abs((out == 0).mean() - 0.25) < 0.02
    if name != "Dropout":
        channels = out.reshape(shape[0], shape[1], -1)
        assert (channels == channels[:, :, :1]).all()


def test_float32_layers_equal_torch_in_single_precision():
    x = draw(2, 3, 8, 8).astype(np.float32)
    other = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Flatten(),
        torch.nn.Linear(144, 5),
    )  # fmt: skip
    layer = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)
    )
    layer.load_state_dict({k: mg.tensor(array(v)) for k, v in other.state_dict().items()})
    assert repr(layer) == repr(other)
    # Sums of up to 144 float32 products in another order.
    check_same_result(layer, other, (x,), tolerance={"rtol": 1e-4, "atol": 1e-5})


def test_constructors_say_what_does_not_fit():
    assert message(nn.Conv2d, 4, 6, 3, groups=3) == (
        "ArgumentError: Conv2d: in_channels=4 does not divide into groups=3"
    )
    assert message(nn.Conv2d, 4, 6, (3, 3, 3)) == (
        "ArgumentError: Conv2d: kernel_size must be one number or 2, got (3, 3, 3)"
    )
    assert message(nn.Conv2d, 4, 6, 3, padding="same", stride=2) == (
        "ArgumentError: Conv2d: padding='same' needs stride 1, got (2, 2)"
    )
    assert message(nn.Conv2d, 4, 6, 3, padding_mode="mirror") == (
        "ArgumentError: Conv2d: padding_mode must be one of zeros, reflect, replicate, circular, "
        "got 'mirror'"
    )
    assert message(nn.GroupNorm, 3, 4) == (
        "ArgumentError: GroupNorm: num_channels=4 does not divide into num_groups=3"
    )
    assert message(nn.Dropout, 1.5) == "ArgumentError: Dropout: p must be in [0, 1], got 1.5"
    assert message(nn.Embedding, 5, 2, padding_idx=5) == (
        "ArgumentError: Embedding: padding_idx must be in [-5, 5), got 5"
    )
    assert message(nn.MSELoss, reduction="avg") == (
        "ArgumentError: MSELoss: reduction must be 'none', 'mean' or 'sum', got 'avg'"
    )
    assert message(nn.MultiheadAttention, 10, 3) == (
        "ArgumentError: MultiheadAttention: embed_dim=10 must be a positive multiple of num_heads=3"
    )


def test_inputs_of_the_wrong_shape_are_named():
    assert message(nn.BatchNorm2d(3), mg.zeros(2, 3)) == (
        "ShapeError: BatchNorm2d: the input must have 4 dimensions, got shape (2, 3)"
    )
    assert message(nn.LSTM(3, 5), mg.zeros(2, 4)) == (
        "ShapeError: LSTM: the input must have shape (T, N, 3) or (T, 3), got (2, 4)"
    )
    assert message(nn.GRU(3, 5), mg.zeros(2, 4, 3), mg.zeros(1, 5, 5)) == (
        "ShapeError: GRU: h_0 must have shape (1, 4, 5), got (1, 5, 5)"
    )
    assert message(nn.LSTMCell(3, 5), mg.zeros(2, 4)) == (
        "ShapeError: LSTMCell: the input must have shape (N, 3) or (3,), got (2, 4)"
    )


def test_inputs_of_the_wrong_type_are_named():
    assert message(nn.Flatten(), 3) == "ArgumentTypeError: Flatten: input must be a tensor, got int"
    assert message(nn.BatchNorm1d(3), [1.0]) == (
        "ArgumentTypeError: BatchNorm1d: input must be a tensor, got list"
    )
    assert message(nn.MultiheadAttention(4, 2), mg.zeros(1, 4), None, None) == (
        "ArgumentTypeError: MultiheadAttention: key must be a tensor, got NoneType"
    )
    assert message(nn.Sequential(nn.Flatten()), None) == (
        "ArgumentTypeError: Flatten: input must be a tensor, got NoneType"
    )

    class Own(nn.Module):
        def forward(self, record):
            return record.missing

    with pytest.raises(AttributeError, match="'dict' object has no attribute 'missing'"):
        Own()({})


def test_embedding_from_pretrained_is_frozen():
    weight = mg.tensor([[1.0, 2.0], [3.0, 4.0]])
    layer = nn.Embedding.from_pretrained(weight)
    assert not layer.weight.requires_grad
    assert layer(mg.tensor([1])).tolist() == [[3.0, 4.0]]
    assert nn.Embedding.from_pretrained(weight, freeze=False).weight.requires_grad


@pytest.mark.parametrize(
    "make, bound",
    [
        (lambda: nn.Linear(50, 40), 50**-0.5),
        (lambda: nn.Conv2d(5, 40, 3), 45**-0.5),
        (lambda: nn.ConvTranspose2d(40, 5, 3), 45**-0.5),
        (lambda: nn.LSTM(30, 25), 25**-0.5),
        (lambda: nn.Bilinear(16, 9, 8), 16**-0.5),
    ],
)
def test_default_weights_fill_the_interval_that_torch_fills(make, bound):
    values = np.concatenate([array(p).ravel() for p in make().parameters()])
    assert np.abs(values).max() <= bound * (1 + 1e-6)
    assert np.abs(values).max() > 0.95 * bound
    # Uniform on [-bound, bound]: standard deviation bound / sqrt(3); 1000 or more draws.
    assert abs(values.std() / (bound / 3**0.5) - 1) < 0.1


def test_recurrent_dropout_acts_between_layers_in_training_only():
    layer, other = twins("LSTM", 3, 5, num_layers=2, dropout=0.5)
    assert repr(layer) == repr(other)
    x = mg.tensor(draw(4, 2, 3))
    first, second = layer(x)[0], layer(x)[0]
    assert first.tolist() != second.tolist()
    layer.eval(), other.eval()
    check_same_result(layer, other, (draw(4, 2, 3),))
    with pytest.warns(UserWarning, match="dropout=0.5 acts between layers"):
        nn.GRU(3, 5, dropout=0.5)


@pytest.mark.parametrize("name", ["Conv2d", "BatchNorm2d", "LSTM"])
def test_options_that_do_not_exist_are_refused(name):
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        getattr(nn, name)(3, 5, kernels=3)
