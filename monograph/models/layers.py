"""Layers that learn the sizes of their inputs at the first call, and graphs of them.

A layer called on tensors computes. Called on a Node (of Input, or of another layer) it gives a
Node: a place in a graph, from which Model makes a network. Any nn.Module takes part (as_layer).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import monograph as mg

from .. import nn
from ..core.errors import ArgumentError, ArgumentTypeError, MonographError, ShapeError
from ..nn import functional as F

ACTIVATIONS: dict[str, Callable] = {
    "relu": F.relu, "gelu": F.gelu, "silu": F.silu, "tanh": mg.tanh, "sigmoid": mg.sigmoid,
    "elu": F.elu, "selu": F.selu, "softplus": F.softplus, "leaky_relu": F.leaky_relu,
    "linear": lambda x: x, "softmax": lambda x: F.softmax(x, -1),
}  # fmt: skip


def activation(given: Any) -> Callable:
    """The function of a name, None, or the function itself."""
    if given is None or callable(given):
        return given or ACTIVATIONS["linear"]
    if given not in ACTIVATIONS:
        raise ArgumentError(
            f"activation: there is no {given!r}; there are {', '.join(sorted(ACTIVATIONS))}"
        )
    return ACTIVATIONS[given]


class Node:
    """A value in a graph: what `layer` makes of `inputs`. Shapes are without the batch."""

    def __init__(self, layer: Any, inputs: tuple[Node, ...], shape: tuple[int, ...], dtype: Any):
        self.layer, self.inputs = layer, inputs
        self.shape, self.dtype = shape, dtype

    def __repr__(self) -> str:
        return f"Node((None, {', '.join(map(str, self.shape))}), layer={self.layer.name!r})"

    def example(self) -> mg.Tensor:
        """Zeros of this shape, a batch of two."""
        return mg.zeros((2, *self.shape), dtype=self.dtype)


def plain_name(kind: str) -> str:
    """The name of a class in lower case, with underscores."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind).lower()


class Layer(nn.Module):
    """Base of layers. A subclass defines `build(*shapes)` where it has parameters, and `call(*x)`.

    name  by default the class's; in a model that has one of this name, with a number
    """

    def __init__(self, name: str | None = None):
        super().__init__()
        self.__dict__["name"] = name or plain_name(type(self).__name__)
        self.__dict__["is_named"] = name is not None
        self.__dict__["shapes"] = None  # of the inputs, without the batch, once it is built

    def build(self, *shapes: tuple[int, ...]) -> None:
        """Make parameters for inputs of these shapes (without the batch)."""

    def call(self, *inputs: Any) -> Any:
        """The output for inputs with a batch."""
        raise NotImplementedError(f"{type(self).__name__}.call is not defined")

    def __call__(self, *inputs: Any) -> Any:
        if len(inputs) == 1 and isinstance(inputs[0], (list, tuple)):
            inputs = tuple(inputs[0])
        if any(isinstance(x, Node) for x in inputs):
            return self._connect(inputs)
        return super().__call__(*inputs)

    def _connect(self, inputs: tuple) -> Node:
        for x in inputs:
            if not isinstance(x, Node):
                raise ArgumentTypeError(
                    f"layer {self.name!r}: nodes of a graph and {type(x).__name__} do not mix"
                )
        was, self.training = self.training, False
        for part in self.modules():
            part.train(False)
        with mg.no_grad():
            out = self(*(x.example() for x in inputs))
        self.train(was)
        return Node(self, inputs, tuple(out.shape[1:]), out.dtype)

    def forward(self, *inputs: Any) -> Any:
        given = [tuple(x.shape[1:]) for x in inputs]
        if self.shapes is None:
            self._at(given, lambda: self.build(*given))
            self.__dict__["shapes"] = given
        return self._at(given, lambda: self.call(*inputs))

    def _at(self, given: list[tuple], work: Callable) -> Any:
        """Run; an error of shapes says which layer, what it was built for and what came."""
        try:
            return work()
        except MonographError as error:
            if not getattr(error, "_layer_named", False):
                error._layer_named = True  # type: ignore[attr-defined]
                built = self.shapes
                for_what = "" if built is None else f", which expects {_shown(built)}"
                error.add_note(
                    f"  in layer {self.name!r} ({type(self).__name__}){for_what}: got "
                    f"{_shown(given)}"
                )
            raise


def _shown(shapes: Sequence[tuple]) -> str:
    return ", ".join(f"(None, {', '.join(map(str, s))})" if s else "(None,)" for s in shapes)


def _size(layer: Layer, name: str, given: Any) -> int:
    """A size of a layer: an integer above zero."""
    if isinstance(given, bool) or not isinstance(given, (int, np.integer)) or given < 1:
        raise ArgumentError(
            f"layer {layer.name!r} ({type(layer).__name__}): {name} must be an integer of at "
            f"least 1, got {given!r}"
        )
    return int(given)


class InputLayer(Layer):
    """Where a graph begins."""

    def call(self, x: Any) -> Any:
        return x


def Input(shape: Sequence[int], dtype: Any = None, name: str | None = None) -> Node:  # noqa: N802
    """The beginning of a graph: an input of this shape, without the batch.

    >>> Input((28, 28))
    Node((None, 28, 28), layer='input')
    """
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    layer = InputLayer(name or "input")
    layer.__dict__["shapes"] = [sizes]
    return Node(layer, (), sizes, dtype or mg.float32)


class Wrapped(Layer):
    """An nn.Module, or a function of tensors, as a layer."""

    def __init__(self, inner: Any, name: str | None = None):
        super().__init__(name)
        if name is None:
            self.__dict__["name"] = plain_name(getattr(inner, "__name__", type(inner).__name__))
        self.inner = inner

    def call(self, *inputs: Any) -> Any:
        return self.inner(*inputs)


def as_layer(given: Any) -> Layer:
    """A Layer, or a module or function wrapped as one."""
    if isinstance(given, Layer):
        return given
    if not callable(given):
        raise ArgumentTypeError(f"expected a layer or module, got {type(given).__name__}")
    return Wrapped(given)


class _Activated(Layer):
    """A layer with an inner module that is built, and an activation."""

    def __init__(self, activation_: Any, name: str | None):
        super().__init__(name)
        self.__dict__["activation"] = activation(activation_)

    def call(self, x: Any) -> Any:
        return self.activation(self.inner(x))


class Dense(_Activated):
    """activation(x @ weight.T + bias) along the last axis."""

    def __init__(self, units: int, activation: Any = None, use_bias: bool = True, name=None):
        super().__init__(activation, name)
        self.units, self.use_bias = _size(self, "units", units), use_bias

    def build(self, shape):
        if not shape:
            raise ShapeError("Dense: needs inputs of at least one axis beside the batch")
        self.inner = nn.Linear(shape[-1], self.units, bias=self.use_bias)


class Conv2D(_Activated):
    """Convolution of (C, H, W) with `filters` filters. padding: "valid", "same" or a number."""

    def __init__(
        self, filters: int, kernel_size: Any, strides: Any = 1, padding: Any = "valid",
        activation: Any = None, use_bias: bool = True, groups: int = 1, name=None,
    ):  # fmt: skip
        super().__init__(activation, name)
        self.filters = _size(self, "filters", filters)
        self.kernel_size, self.strides = kernel_size, strides
        self.padding, self.use_bias, self.groups = padding, use_bias, groups

    def build(self, shape):
        if len(shape) != 3:
            raise ShapeError(f"Conv2D: needs images (C, H, W), got {shape}")
        self.inner = nn.Conv2d(
            shape[0], self.filters, self.kernel_size, self.strides, self.padding,
            groups=self.groups, bias=self.use_bias,
        )  # fmt: skip


class BatchNormalization(Layer):
    """Batch norm over the first axis after the batch (features or channels)."""

    def __init__(self, momentum: float = 0.1, epsilon: float = 1e-5, name=None):
        super().__init__(name)
        self.momentum, self.epsilon = momentum, epsilon

    def build(self, shape):
        kind = {1: nn.BatchNorm1d, 2: nn.BatchNorm1d, 3: nn.BatchNorm2d, 4: nn.BatchNorm3d}
        self.inner = kind[len(shape)](shape[0], eps=self.epsilon, momentum=self.momentum)

    def call(self, x):
        return self.inner(x)


class LayerNormalization(Layer):
    """Layer norm over the last axis."""

    def __init__(self, epsilon: float = 1e-5, name=None):
        super().__init__(name)
        self.epsilon = epsilon

    def build(self, shape):
        self.inner = nn.LayerNorm(shape[-1], eps=self.epsilon)

    def call(self, x):
        return self.inner(x)


class Embedding(Layer):
    """Rows of a table (input_dim, output_dim) by number."""

    def __init__(self, input_dim: int, output_dim: int, name=None):
        super().__init__(name)
        sizes = (_size(self, "input_dim", input_dim), _size(self, "output_dim", output_dim))
        self.inner = nn.Embedding(*sizes)

    def call(self, x):
        return self.inner(x)


class _Recurrent(Layer):
    """A recurrent layer over (T, D): the last output (units,), or all (T, units)."""

    kind: Any

    def __init__(self, units: int, return_sequences: bool = False, name=None):
        super().__init__(name)
        self.units, self.return_sequences = _size(self, "units", units), return_sequences

    def build(self, shape):
        self.inner = self.kind(shape[-1], self.units, batch_first=True)

    def call(self, x):
        out = self.inner(x)[0]
        return out if self.return_sequences else out[:, -1]


class LSTM(_Recurrent):
    """Long short-term memory over (T, D)."""

    kind = nn.LSTM


class GRU(_Recurrent):
    """Gated recurrent units over (T, D)."""

    kind = nn.GRU


class _Plain(Layer):
    """A layer that is one function."""

    def __init__(self, function: Callable, name: str | None):
        super().__init__(name)
        self.__dict__["function"] = function

    def call(self, *inputs: Any) -> Any:
        return self.function(*inputs)


class Lambda(_Plain):
    """A function of tensors."""

    def __init__(self, function: Callable, name=None):
        super().__init__(function, name)


class Activation(_Plain):
    """An activation by name or as a function."""

    def __init__(self, activation_: Any, name=None):
        super().__init__(activation(activation_), name)


class ReLU(_Plain):
    """max(x, 0)."""

    def __init__(self, name=None):
        super().__init__(F.relu, name)


class Softmax(_Plain):
    """Softmax over an axis."""

    def __init__(self, axis: int = -1, name=None):
        super().__init__(lambda x: F.softmax(x, axis), name)


class Flatten(_Plain):
    """All axes but the batch as one."""

    def __init__(self, name=None):
        super().__init__(lambda x: x.reshape(x.shape[0], -1), name)


class Reshape(_Plain):
    """Another shape beside the batch."""

    def __init__(self, target_shape: Sequence[int], name=None):
        shape = tuple(target_shape)
        super().__init__(lambda x: x.reshape(x.shape[0], *shape), name)


class Rescaling(_Plain):
    """x * scale + offset, as float32."""

    def __init__(self, scale: float, offset: float = 0.0, name=None):
        super().__init__(lambda x: x.to(mg.float32) * scale + offset, name)


class Dropout(Layer):
    """Zero elements with probability `rate` while training."""

    def __init__(self, rate: float, name=None):
        super().__init__(name)
        self.inner = nn.Dropout(rate)

    def call(self, x):
        return self.inner(x)


class MaxPooling2D(_Plain):
    """Maxima of windows of (H, W)."""

    def __init__(self, pool_size: Any = 2, strides: Any = None, padding: int = 0, name=None):
        super().__init__(lambda x: F.max_pool2d(x, pool_size, strides, padding), name)


class AveragePooling2D(_Plain):
    """Means of windows of (H, W)."""

    def __init__(self, pool_size: Any = 2, strides: Any = None, padding: int = 0, name=None):
        super().__init__(lambda x: F.avg_pool2d(x, pool_size, strides, padding), name)


class GlobalAveragePooling1D(_Plain):
    """The mean over T of (N, T, D)."""

    def __init__(self, name=None):
        super().__init__(lambda x: x.mean(1), name)


class GlobalAveragePooling2D(_Plain):
    """The mean over (H, W)."""

    def __init__(self, name=None):
        super().__init__(lambda x: x.mean((2, 3)), name)


class Concatenate(_Plain):
    """Several inputs side by side along an axis."""

    def __init__(self, axis: int = -1, name=None):
        super().__init__(lambda *x: mg.cat(x, axis), name)


class Add(_Plain):
    """The sum of several inputs."""

    def __init__(self, name=None):
        super().__init__(lambda first, *rest: sum(rest, first), name)


class Multiply(_Plain):
    """The product of several inputs."""

    def __init__(self, name=None):
        super().__init__(_product, name)


def _product(first: Any, *rest: Any) -> Any:
    for x in rest:
        first = first * x
    return first


def element_count(module: nn.Module) -> int:
    """Elements of a module's parameters."""
    return int(sum(np.prod(p.shape) for p in module.parameters()))
