"""The tape: accumulation, inputs, graphs used again, in-place writes."""

import warnings

import numpy as np
import pytest
from tape_helpers import X, both, close, leaf

import monograph as mg
from monograph.core.errors import GradError, render

# Accumulation


def test_gradients_accumulate_into_the_same_tensor():
    x = leaf()
    (x * x).sum().backward()
    first = x.grad
    (x * 3).sum().backward()
    assert x.grad is first
    close(first, 2 * X + 3)
    assert not first.requires_grad


def test_two_leaves_of_one_sum_have_gradients_of_their_own():
    a, b = leaf(), leaf()
    (a + b).sum().backward()
    a.grad.zero_()
    assert (b.grad == 1).all()


def test_a_given_gradient_is_not_shared_with_grad():
    x, g = leaf(), mg.ones(3, 2, dtype=mg.float64)
    x.backward(g)
    x.grad.mul_(5)
    assert (g == 1).all()


def test_a_gradient_seen_by_a_hook_does_not_change_later():
    x, seen = leaf(), []
    x.register_hook(lambda g: seen.append(g))
    (x * 2).sum().backward()
    (x * 2).sum().backward()
    assert (seen[0] == 2).all() and (x.grad == 4).all()


def test_the_gradient_of_an_expanded_leaf_can_be_written():
    x = leaf()
    x.sum().backward()
    x.grad.mul_(2)
    assert (x.grad == 2).all()


def test_several_roots_and_given_gradients():
    def run(m):
        x = leaf(m)
        m.autograd.backward([(x * x).sum(), x * 3], [None, m.ones(3, 2, dtype=m.float64)])
        return [x.grad]

    both(run)


def test_the_same_root_twice_counts_twice():
    def run(m):
        x = leaf(m)
        y = (x * x).sum()
        m.autograd.backward([y, y])
        return [x.grad]

    both(run)


def test_inputs_restrict_where_gradients_go():
    def run(m):
        x, w = leaf(m), leaf(m)
        h = x * w
        (h * h).sum().backward(inputs=[x])
        return [x.grad, w.grad]

    both(run)


def test_inputs_that_are_not_leaves_get_a_gradient_too():
    def run(m):
        x = leaf(m)
        h = x * 3
        (h * h).sum().backward(inputs=[h])
        return [x.grad]

    both(run)
    x = leaf()
    h = x * 3
    (h * h).sum().backward(inputs=[h])
    close(h.grad, 6 * X)


def test_grad_of_several_inputs_with_unused_ones():
    def run(m):
        x, w, u = leaf(m), leaf(m), leaf(m)
        y = (x * w).sum()
        return m.autograd.grad(y, (x, u, w), allow_unused=True)

    both(run)


def test_grad_can_materialize_zeros_for_unused_inputs():
    x, u = leaf(), leaf()
    _, g = mg.autograd.grad((x * x).sum(), (x, u), materialize_grads=True)
    assert (g == 0).all() and g.shape == (3, 2)


def test_grad_with_respect_to_intermediate_values_and_views():
    def run(m):
        x = leaf(m)
        h = x * x
        v = h[1]
        y = (v * v).sum() + h.sum()
        return m.autograd.grad(y, (h, v, x))

    both(run)


def test_the_same_input_twice():
    x = leaf()
    a, b = mg.autograd.grad((x * x).sum(), (x, x))
    close(a, 2 * X)
    close(b, 2 * X)


def test_create_graph_puts_gradients_on_the_tape():
    def run(m):
        x = leaf(m)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of the reference cycle
            (x**3).sum().backward(create_graph=True)
        g = x.grad
        x.grad = None
        (g * g).sum().backward()
        return [g, x.grad]

    both(run)


def test_higher_derivatives_to_the_fifth():
    x = mg.tensor(0.7, dtype=mg.float64, requires_grad=True)
    y = mg.sin(x)
    for k in range(1, 6):
        (y,) = mg.autograd.grad(y, x, create_graph=True)
        np.testing.assert_allclose(y.item(), np.sin(0.7 + k * np.pi / 2), rtol=1e-12)


def test_a_leaf_that_is_frozen_after_the_forward_gets_no_gradient():
    x, w = leaf(), leaf()
    y = (x * w).sum()
    w.requires_grad_(False)
    y.backward()
    assert w.grad is None
    close(x.grad, X)


# Graphs used again


def test_a_second_backward_says_what_to_do():
    x = leaf()
    y = (x * x).sum()
    y.backward()
    with pytest.raises(GradError) as error:
        y.backward()
    text = render(error.value).splitlines()
    assert text[:2] == [
        "GradError: backward: the values saved by mul were freed by an earlier backward",
        "  hint: give retain_graph=True to the first backward to walk the graph again",
    ]


def test_retain_graph_lets_it_be_walked_again():
    x = leaf()
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    close(x.grad, 4 * X)


def test_a_graph_that_saved_nothing_can_be_walked_again():
    def run(m):
        x = leaf(m)
        y = (x + 1).sum()
        y.backward()
        y.backward()
        return [x.grad]

    both(run)


# In place


INPLACE = {
    "a scaled sum": lambda m, x: (x + 1).mul_(3),
    "through a view": lambda m, x: _then(x * 2, lambda h: h[0].mul_(5)),
    "a view follows its base": lambda m, x: _view_follows(x),
    "through a view of a view": lambda m, x: _then(x * 2, lambda h: h.T[1][1:].add_(x[:2, 0])),
    "fill with zeros": lambda m, x: _then(x * 2, lambda h: h[1].zero_()),
    "a constant buffer becomes part of the graph": lambda m, x: _then(
        m.zeros(3, 2, dtype=m.float64), lambda b: b.copy_(x)
    ),
    "rows of a buffer": lambda m, x: _then(
        m.zeros(3, 2, dtype=m.float64), lambda b: [b[k].copy_(x[k] * k) for k in range(3)]
    ),
    "assignment": lambda m, x: _then(x * 1, lambda h: h.__setitem__((slice(1, 3), 0), x[0] * 2)),
    "chain": lambda m, x: (x * 1).add_(1).mul_(x).sub_(2),
    "relu": lambda m, x: (x * 2).relu_(),
    "detached part": lambda m, x: _then(x * 2, lambda h: h.detach()[0].mul_(0)) * 3,
}  # fmt: skip


def _then(h, write):
    write(h)
    return h


def _view_follows(x):
    h = x * 2
    row = h[1]
    h.mul_(3)
    return row * row


@pytest.mark.parametrize("name", INPLACE)
def test_gradients_of_in_place_operations(name):
    def run(m):
        x = leaf(m)
        y = INPLACE[name](m, x)
        (y * y).sum().backward()
        return [y, x.grad]

    both(run)


def test_a_product_with_itself_in_place_keeps_what_it_saved():
    x = leaf()
    h = x * 2
    h.mul_(h).sum().backward()  # PyTorch refuses this
    close(x.grad, 8 * X)


def test_views_under_no_grad_keep_their_place_on_the_tape():
    def run(m):
        x = leaf(m)
        h = x * 1
        v = h[0]
        with m.no_grad():
            h.mul_(2)
            v.add_(1)
        assert v.requires_grad
        (v * x[1]).sum().backward()
        return [x.grad]

    both(run)


def test_a_saved_value_that_was_overwritten_is_named():
    x = leaf()
    h = x.exp()
    y = h * 2
    h.add_(1)
    with pytest.raises(GradError) as error:
        y.sum().backward()
    text = render(error.value).splitlines()
    assert text[:2] == [
        "GradError: backward: a value that exp needs was changed in place: float64 of shape "
        "(3, 2) is at version 1, version 0 was used",
        "  hint: write to a clone(), or run under mg.autograd.set_detect_anomaly(True) to see the "
        "forward line",
    ]


def test_a_parameter_overwritten_between_forward_and_backward_is_found_out():
    x, w = leaf(), leaf()
    y = (x * w).sum()
    with mg.no_grad():
        w.add_(1)
    with pytest.raises(GradError, match="a value that mul needs was changed in place"):
        y.backward()


def test_an_overwritten_value_that_no_gradient_reads_does_no_harm():
    def run(m):
        x, w = m.tensor(X), leaf(m)
        y = (x * w).sum()
        with m.no_grad():
            w.add_(1)
        y.backward()
        return [w.grad]

    both(run)


def test_leaves_that_require_gradients_cannot_be_changed_in_place():
    x = leaf()
    for write in (lambda: x.add_(1), lambda: x[0].zero_(), lambda: x.__setitem__(0, 1.0)):
        with pytest.raises(GradError) as error:
            write()
        assert "leaf that requires a gradient cannot be changed in place" in str(error.value)
        assert "hint: wrap the update in `with mg.no_grad():`" in render(error.value)
    close(x, X)
