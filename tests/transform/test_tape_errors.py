"""The tape: anomaly mode, errors, gradcheck."""

import pytest
from tape_helpers import leaf

import monograph as mg
from monograph.core.errors import ArgumentError, ArgumentTypeError, GradError, ShapeError, render

# Anomaly mode


def test_anomaly_mode_names_the_line_of_the_forward():
    x = mg.tensor([-1.0, 4.0], requires_grad=True)
    with mg.autograd.detect_anomaly():
        y = mg.sqrt(x)
        with pytest.raises(GradError) as error:
            y.sum().backward()
    line = test_anomaly_mode_names_the_line_of_the_forward.__code__.co_firstlineno + 3
    assert render(error.value) == (
        "GradError: backward: the gradient of sqrt for its input 0 has nan\n"
        f"  at test_tape_errors.py:{line} in test_anomaly_mode_names_the_line_of_the_forward: "
        "y = mg.sqrt(x)"
    )


def test_anomaly_mode_ends_with_its_block():
    with mg.autograd.set_detect_anomaly(True):
        assert (leaf() * 2).grad_fn.place is not None
    assert (leaf() * 2).grad_fn.place is None


# Errors


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda x: (x * x).backward(),
            GradError,
            "backward: a gradient is needed for an output of shape (3, 2); only one with a single "
            "element starts from 1",
        ),
        (
            lambda x: (x * x).backward(mg.ones(3)),
            ShapeError,
            "backward: gradient has shape (3,), the output has (3, 2)",
        ),
        (
            lambda x: (x * x).backward(3.0),
            ArgumentTypeError,
            "backward: gradient must be a tensor, got float",
        ),
        (
            lambda x: mg.tensor(1.0).backward(),
            GradError,
            "backward: the tensor does not require a gradient and was not made from one that does",
        ),
        (
            lambda x: mg.autograd.backward([x.sum()], [None, None]),
            ArgumentError,
            "backward: 1 outputs but 2 gradients",
        ),
        (
            lambda x: x.sum().backward(inputs=[]),
            ArgumentError,
            "backward: inputs must not be empty",
        ),
        (
            lambda x: mg.autograd.grad(x.sum(), mg.tensor(1.0)),
            GradError,
            "grad: input 0 of shape () requires no gradient",
        ),
        (
            lambda x: mg.autograd.grad(x.sum(), leaf()),
            GradError,
            "grad: the outputs do not depend on input 0 of shape (3, 2)",
        ),
        (
            lambda x: mg.autograd.grad(x.sum(), 3.0),
            ArgumentTypeError,
            "grad: input 0 must be a tensor, got float",
        ),
        (
            lambda x: mg.autograd.grad(3.0, x),
            ArgumentTypeError,
            "grad: outputs must be tensors, got float",
        ),
    ],
)
def test_errors_say_what_was_expected(call, kind, message):
    with pytest.raises(kind) as error:
        call(leaf())
    assert str(error.value) == message


# gradcheck


def test_gradcheck_accepts_right_and_names_wrong_gradients():
    class Wrong(mg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 3

    x = leaf()
    assert mg.autograd.gradcheck(lambda a: (a.tanh(), a * a), x)
    assert mg.autograd.gradgradcheck(lambda a: a.tanh() * a, x)
    assert not mg.autograd.gradcheck(Wrong.apply, x, raise_exception=False)
    with pytest.raises(GradError, match="the Jacobian of output 0 for input 0 is wrong"):
        mg.autograd.gradcheck(Wrong.apply, x)
