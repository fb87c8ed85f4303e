"""Recurrent layers and their single-step cells: RNN, LSTM, GRU.

The product of all inputs with the input weights is one matrix product; each time step, an iteration
of a scan, then adds the product of the state with the recurrent weights. Gate order in the
stacked weights is PyTorch's: LSTM input, forget, cell, output; GRU reset, update, new.
"""

import math
import warnings

import monograph as mg
from monograph.api.control import layer_scan
from monograph.core.errors import ArgumentError, ArgumentTypeError, ShapeError
from monograph.nn import functional as F
from monograph.nn import init
from monograph.nn.module import Module
from monograph.nn.parameter import Parameter
from monograph.nn.utils.rnn import PackedSequence, batch_size, packed, padded
from monograph.tensor import Tensor

# One step per kind: (input product, state, recurrent weight, recurrent bias) -> state, a tuple.


def _step_tanh(x, state, weight, bias):
    return (mg.tanh(x + F.linear(state[0], weight, bias)),)


def _step_relu(x, state, weight, bias):
    return (F.relu(x + F.linear(state[0], weight, bias)),)


def _step_lstm(x, state, weight, bias, projection=None):
    h, c = state
    i, f, g, o = (x + F.linear(h, weight, bias)).chunk(4, -1)
    c = mg.sigmoid(f) * c + mg.sigmoid(i) * mg.tanh(g)
    h = mg.sigmoid(o) * mg.tanh(c)
    return (h if projection is None else F.linear(h, projection), c)


def _step_gru(x, state, weight, bias):
    (h,) = state
    x_reset, x_update, x_new = x.chunk(3, -1)
    h_reset, h_update, h_new = F.linear(h, weight, bias).chunk(3, -1)
    new = mg.tanh(x_new + mg.sigmoid(x_reset + h_reset) * h_new)
    return (new + mg.sigmoid(x_update + h_update) * (h - new),)


def _loop_of(step):
    """The body of the loop over time around a step."""

    def loop(weights, state, x):
        x, here = x
        after = step(x, state, *weights)
        after = tuple(s.to(old.dtype) for s, old in zip(after, state))  # autocast: states are wide
        if here is not None:  # a state stays as it is where a sequence has ended
            after = tuple(mg.where(here, s, old) for s, old in zip(after, state))
        return after, after[0]

    return loop


_LOOPS = {step: _loop_of(step) for step in (_step_tanh, _step_relu, _step_lstm, _step_gru)}


def _elman_step(owner, nonlinearity):
    if nonlinearity not in ("tanh", "relu"):
        raise ArgumentError(f"{owner}: nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")
    return _step_tanh if nonlinearity == "tanh" else _step_relu


def _expect(owner, what, tensor, shape):
    if not isinstance(tensor, Tensor):
        raise ArgumentTypeError(f"{owner}: {what} must be a Tensor, got {type(tensor).__name__}")
    if tuple(tensor.shape) != tuple(shape):
        raise ShapeError(
            f"{owner}: {what} must have shape {tuple(shape)}, got {tuple(tensor.shape)}"
        )


class RNNBase(Module):
    """Weights, options and the loop over layers and directions that RNN, LSTM and GRU share."""

    gates = 1
    states = 1
    adds_biases = True  # both biases can be added outside of the loop

    def __init__(
        self,
        input_size,
        hidden_size,
        num_layers=1,
        bias=True,
        batch_first=False,
        dropout=0.0,
        bidirectional=False,
        device=None,
        dtype=None,
        proj_size=0,
    ):
        super().__init__()
        owner = type(self).__name__
        if hidden_size <= 0 or num_layers <= 0:
            raise ArgumentError(
                f"{owner}: hidden_size and num_layers must be positive, "
                f"got {hidden_size} and {num_layers}"
            )
        if not 0 <= dropout <= 1:
            raise ArgumentError(f"{owner}: dropout must be in [0, 1], got {dropout}")
        if proj_size and self.states < 2:
            raise ArgumentError(f"{owner}: proj_size is for LSTM only, got {proj_size}")
        if not 0 <= proj_size < hidden_size:
            raise ArgumentError(
                f"{owner}: proj_size must be less than hidden_size {hidden_size}, got {proj_size}"
            )
        if dropout > 0 and num_layers == 1:
            warnings.warn(
                f"{owner}: dropout={dropout} acts between layers; "
                "with num_layers=1 it does nothing",
            )
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        directions = 2 if bidirectional else 1
        rows = self.gates * hidden_size
        made = proj_size or hidden_size
        for layer in range(num_layers):
            columns = input_size if layer == 0 else made * directions
            for suffix in self._suffixes(layer):
                shapes = {"weight_ih": (rows, columns), "weight_hh": (rows, made)}
                if bias:
                    shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
                if proj_size:
                    shapes["weight_hr"] = (proj_size, hidden_size)
                for name, shape in shapes.items():
                    tensor = mg.empty(*shape, device=device, dtype=dtype)
                    self.register_parameter(name + suffix, Parameter(tensor))
        self.reset_parameters()

    def _suffixes(self, layer):
        return [f"_l{layer}", f"_l{layer}_reverse"][: 2 if self.bidirectional else 1]

    @property
    def all_weights(self):
        """The parameters of each layer and direction, as lists."""
        kinds = ["weight_ih", "weight_hh"] + (["bias_ih", "bias_hh"] if self.bias else [])
        kinds += ["weight_hr"] if self.proj_size else []
        return [
            [getattr(self, kind + suffix) for kind in kinds]
            for layer in range(self.num_layers)
            for suffix in self._suffixes(layer)
        ]

    def flatten_parameters(self):
        """Nothing to do: here for programs written for PyTorch."""

    def reset_parameters(self):
        """Draw all weights anew, uniform on [-1/sqrt(hidden_size), 1/sqrt(hidden_size)]."""
        bound = 1.0 / math.sqrt(self.hidden_size)
        for param in self.parameters():
            init.uniform_(param, -bound, bound)

    def _run(self, input, states):
        """(output, final states) for `input` and initial `states`, a tuple of tensors or None."""
        if isinstance(input, PackedSequence):
            return self._run_packed(input, states)
        owner = type(self).__name__
        if not isinstance(input, Tensor):
            raise ArgumentTypeError(
                f"{owner}: the input must be a Tensor, got {type(input).__name__}"
            )
        if input.ndim not in (2, 3) or input.shape[-1] != self.input_size:
            axes = (
                f"(N, T, {self.input_size})" if self.batch_first else f"(T, N, {self.input_size})"
            )
            raise ShapeError(
                f"{owner}: the input must have shape {axes} or (T, {self.input_size}), "
                f"got {tuple(input.shape)}"
            )
        alone = input.ndim == 2
        x = input.unsqueeze(1) if alone else input
        if self.batch_first and not alone:
            x = x.transpose(0, 1)
        states = self._initial(states, x, () if alone else (x.shape[1],))
        if alone:
            states = tuple(s.unsqueeze(1) for s in states)
        x, finals = self._layers(x, states, None)
        if alone:
            return x.squeeze(1), tuple(s.squeeze(1) for s in finals)
        return (x.transpose(0, 1) if self.batch_first else x), finals

    def _run_packed(self, input, states):
        """The same for a PackedSequence: a state stays as it is where a sequence has ended."""
        owner = type(self).__name__
        data, sizes, order, inverse = input
        if data.ndim != 2 or data.shape[1] != self.input_size:
            raise ShapeError(
                f"{owner}: packed data must have shape (sum of lengths, {self.input_size}), got "
                f"{tuple(data.shape)}"
            )
        n = batch_size(input, None if states is None else states[0].shape[1])
        states = self._initial(states, data, (n,))
        if order is not None:
            states = tuple(s.index_select(1, order) for s in states)
        x, mask = padded(data, sizes, n)
        x, finals = self._layers(x, states, mask.unsqueeze(2))
        if inverse is not None:
            finals = tuple(s.index_select(1, inverse) for s in finals)
        return PackedSequence(packed(x, sizes, data.shape[0]), sizes, order, inverse), finals

    def _initial(self, states, x, batch):
        """The initial states, checked; zeros for None."""
        depth = self.num_layers * (2 if self.bidirectional else 1)
        widths = (self.proj_size or self.hidden_size, self.hidden_size)[: self.states]
        shapes = [(depth, *batch, width) for width in widths]
        if states is None:
            return tuple(mg.zeros(*shape, dtype=x.dtype, device=x.device) for shape in shapes)
        for name, state, shape in zip(("h_0", "c_0"), states, shapes):
            _expect(type(self).__name__, name, state, shape)
        return states

    def _layers(self, x, states, mask):
        finals = []
        initial = list(zip(*(s.unbind(0) for s in states)))
        for layer in range(self.num_layers):
            outputs = []
            for direction, suffix in enumerate(self._suffixes(layer)):
                start = initial[layer * len(self._suffixes(layer)) + direction]
                output, final = self._scan(x, start, mask, suffix, backwards=direction == 1)
                outputs.append(output)
                finals.append(final)
            x = outputs[0] if len(outputs) == 1 else mg.cat(outputs, -1)
            if layer < self.num_layers - 1:
                p = self.dropout
                if p > 0:
                    x = F.dropout(x, p, self.training)
        return x, tuple(mg.stack(each) for each in zip(*finals))

    def _scan(self, x, state, mask, suffix, backwards):
        """One layer in one direction: x (T, N, D) -> ((T, N, width), final state).

        mask  (T, N, 1): where there is an element; None for everywhere
        """
        outer = getattr(self, "bias_ih" + suffix) if self.bias else None
        inner = getattr(self, "bias_hh" + suffix) if self.bias else None
        if self.bias and self.adds_biases:
            outer, inner = outer + inner, None
        weights = [getattr(self, "weight_hh" + suffix), inner]
        if self.proj_size:
            weights.append(getattr(self, "weight_hr" + suffix))
        xs = (F.linear(x, getattr(self, "weight_ih" + suffix), outer), mask)
        state, outputs = layer_scan(_LOOPS[self._step()], weights, state, xs, reverse=backwards)
        return outputs, state

    def extra_repr(self):
        text = f"{self.input_size}, {self.hidden_size}"
        for name, default in (
            ("proj_size", 0),
            ("num_layers", 1),
            ("bias", True),
            ("batch_first", False),
            ("dropout", 0),
            ("bidirectional", False),
        ):
            if getattr(self, name) != default:
                text += f", {name}={getattr(self, name)}"
        return text


class RNN(RNNBase):
    """Elman network: h[t] = tanh(x[t] @ W_ih.T + b_ih + h[t-1] @ W_hh.T + b_hh), or relu.

    input   (T, N, input_size); (N, T, input_size) with batch_first; (T, input_size) without batch;
            or a PackedSequence (nn.utils.rnn), and then the output is one
    h_0     (num_layers * directions, N, hidden_size), zeros if left out
    returns output (T, N, directions * hidden_size) of the last layer, and h_n shaped like h_0
    """

    def __init__(
        self,
        input_size,
        hidden_size,
        num_layers=1,
        nonlinearity="tanh",
        bias=True,
        batch_first=False,
        dropout=0.0,
        bidirectional=False,
        device=None,
        dtype=None,
    ):
        self.__dict__["nonlinearity"] = nonlinearity
        self.__dict__["_elman"] = _elman_step("RNN", nonlinearity)
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device,
            dtype,
        )  # fmt: skip

    def _step(self):
        return self._elman

    def forward(self, input, hx=None):
        output, (h_n,) = self._run(input, None if hx is None else (hx,))
        return output, h_n


class LSTM(RNNBase):
    """Long short-term memory.

    i, f, g, o = the four gates of x[t] @ W_ih.T + b_ih + h[t-1] @ W_hh.T + b_hh
    c[t] = sigmoid(f) * c[t-1] + sigmoid(i) * tanh(g);  h[t] = sigmoid(o) * tanh(c[t])

    input   (T, N, input_size); (N, T, input_size) with batch_first; (T, input_size) without batch;
            or a PackedSequence (nn.utils.rnn), and then the output is one
    hx      (h_0, c_0), each (num_layers * directions, N, hidden_size), zeros if left out
    returns output (T, N, directions * hidden_size) of the last layer, and (h_n, c_n)

    With proj_size each h is multiplied with weight_hr (proj_size, hidden_size) and has that width.
    """

    gates = 4
    states = 2

    def _step(self):
        return _step_lstm

    def forward(self, input, hx=None):
        if hx is not None and not (isinstance(hx, (tuple, list)) and len(hx) == 2):
            raise ArgumentTypeError(f"LSTM: hx must be a pair (h_0, c_0), got {type(hx).__name__}")
        output, finals = self._run(input, None if hx is None else tuple(hx))
        return output, finals


class GRU(RNNBase):
    """Gated recurrent unit: h[t] = (1 - z) * n + z * h[t-1].

    r, z = sigmoid of the reset and update gates of x[t] @ W_ih.T + b_ih + h[t-1] @ W_hh.T + b_hh
    n = tanh(x_n + r * h_n), x_n and h_n being the third parts of the two products

    Arguments and results as in RNN.
    """

    gates = 3
    adds_biases = False  # r is multiplied with one of them

    def _step(self):
        return _step_gru

    def forward(self, input, hx=None):
        output, (h_n,) = self._run(input, None if hx is None else (hx,))
        return output, h_n


class RNNCellBase(Module):
    """The weights of one step: weight_ih, weight_hh, bias_ih, bias_hh."""

    gates = 1
    states = 1

    def __init__(self, input_size, hidden_size, bias=True, device=None, dtype=None):
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        rows = self.gates * hidden_size
        where = {"device": device, "dtype": dtype}
        self.weight_ih = Parameter(mg.empty(rows, input_size, **where))
        self.weight_hh = Parameter(mg.empty(rows, hidden_size, **where))
        if bias:
            self.bias_ih = Parameter(mg.empty(rows, **where))
            self.bias_hh = Parameter(mg.empty(rows, **where))
        else:
            self.register_parameter("bias_ih", None)
            self.register_parameter("bias_hh", None)
        self.reset_parameters()

    def reset_parameters(self):
        """Draw all weights anew, uniform on [-1/sqrt(hidden_size), 1/sqrt(hidden_size)]."""
        bound = 1.0 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for param in self.parameters():
            init.uniform_(param, -bound, bound)

    def _advance(self, step, input, states):
        owner = type(self).__name__
        if input.ndim not in (1, 2) or input.shape[-1] != self.input_size:
            raise ShapeError(
                f"{owner}: the input must have shape (N, {self.input_size}) or "
                f"({self.input_size},), got {tuple(input.shape)}"
            )
        shape = (*input.shape[:-1], self.hidden_size)
        if states is None:
            states = (mg.zeros(*shape, dtype=input.dtype, device=input.device),) * self.states
        for name, state in zip(("h", "c"), states):
            _expect(owner, name, state, shape)
        projected = F.linear(input, self.weight_ih, self.bias_ih)
        return step(projected, states, self.weight_hh, self.bias_hh)

    def extra_repr(self):
        text = f"{self.input_size}, {self.hidden_size}"
        if self.bias is not True:
            text += f", bias={self.bias}"
        if getattr(self, "nonlinearity", "tanh") != "tanh":
            text += f", nonlinearity={self.nonlinearity}"
        return text


class RNNCell(RNNCellBase):
    """One step of RNN: input (N, input_size), hx (N, hidden_size) -> (N, hidden_size)."""

    def __init__(
        self, input_size, hidden_size, bias=True, nonlinearity="tanh", device=None, dtype=None
    ):
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self.nonlinearity = nonlinearity
        self._elman = _elman_step("RNNCell", nonlinearity)

    def forward(self, input, hx=None):
        return self._advance(self._elman, input, None if hx is None else (hx,))[0]


class LSTMCell(RNNCellBase):
    """One step of LSTM: input (N, input_size), hx (h, c) -> (h, c), each (N, hidden_size)."""

    gates = 4
    states = 2

    def forward(self, input, hx=None):
        return self._advance(_step_lstm, input, None if hx is None else tuple(hx))


class GRUCell(RNNCellBase):
    """One step of GRU: input (N, input_size), hx (N, hidden_size) -> (N, hidden_size)."""

    gates = 3

    def forward(self, input, hx=None):
        return self._advance(_step_gru, input, None if hx is None else (hx,))[0]
