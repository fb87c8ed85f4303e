"""One step of a recurrent network as a function of its weights: torch.lstm_cell and its kin."""

from monograph.core.errors import ShapeError
from monograph.nn import functional as F
from monograph.nn.rnn import _step_gru, _step_lstm, _step_relu, _step_tanh


def lstm_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    """One step of LSTM: input (N, I), hx = (h, c) each (N, H) -> (h, c).

    w_ih (4 H, I), w_hh (4 H, H) and the biases (4 H,): the rows of the input, forget, cell and
    output gates, as in nn.LSTMCell
    """
    return _step("lstm_cell", _step_lstm, 4, input, tuple(hx), w_ih, w_hh, b_ih, b_hh)


def gru_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    """One step of GRU: input (N, I), hx (N, H) -> (N, H); weights of 3 H rows as in nn.GRUCell."""
    return _step("gru_cell", _step_gru, 3, input, (hx,), w_ih, w_hh, b_ih, b_hh)[0]


def rnn_tanh_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    """tanh(input w_ih^T + b_ih + hx w_hh^T + b_hh): input (N, I), hx (N, H) -> (N, H)."""
    return _step("rnn_tanh_cell", _step_tanh, 1, input, (hx,), w_ih, w_hh, b_ih, b_hh)[0]


def rnn_relu_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    """rnn_tanh_cell with relu in the place of tanh."""
    return _step("rnn_relu_cell", _step_relu, 1, input, (hx,), w_ih, w_hh, b_ih, b_hh)[0]


def _step(name, step, gates, input, state, w_ih, w_hh, b_ih, b_hh):
    features, size = input.shape[-1], state[0].shape[-1]
    for what, weight, columns in (("w_ih", w_ih, features), ("w_hh", w_hh, size)):
        if tuple(weight.shape) != (gates * size, columns):
            raise ShapeError(
                f"{name}: {what} must have shape ({gates * size}, {columns}), got "
                f"{tuple(weight.shape)}"
            )
    return step(F.linear(input, w_ih, b_ih), state, w_hh, b_hh)
