"""The tape: hooks of tensors and nodes, retained gradients, the graph of nodes."""

import numpy as np
import pytest
from tape_helpers import X, both, close, leaf

import monograph as mg
from monograph.core.errors import GradError

# Hooks


def test_hooks_run_in_order_once_on_the_whole_gradient_and_may_replace_it():
    def run(m, leafy):
        calls = []
        x = leaf(m)
        h = x if leafy else x * 1
        h.register_hook(lambda g: calls.append(g.sum().item()))
        h.register_hook(lambda g: g * 2)
        h.register_hook(lambda g: calls.append(g.sum().item()))
        (h * 3 + h * 4).sum().backward()
        return calls, x.grad

    torch = pytest.importorskip("torch", reason="PyTorch is the oracle of this test")
    for leafy in (True, False):
        mine, theirs = run(mg, leafy), run(torch, leafy)
        assert mine[0] == pytest.approx(theirs[0]) == [42.0, 84.0]
        close(mine[1], theirs[1])


def test_removed_hooks_do_not_run():
    x, calls = leaf(), []
    kept = x.register_hook(lambda g: calls.append("kept"))
    x.register_hook(lambda g: calls.append("gone")).remove()
    with x.register_hook(lambda g: calls.append("gone")):
        pass
    x.sum().backward()
    assert calls == ["kept"]
    kept.remove()
    kept.remove()
    x.sum().backward()
    assert calls == ["kept"]


def test_one_function_registered_twice_runs_twice_and_is_removed_once():
    x, calls = leaf(), []
    hook = lambda g: calls.append(1)  # noqa: E731
    first = x.register_hook(hook)
    x.register_hook(hook)
    x.sum().backward()
    first.remove()
    x.sum().backward()
    assert len(calls) == 3


def test_retain_grad_sees_the_gradient_after_all_hooks():
    def run(m):
        x = leaf(m)
        h = x * 2
        h.retain_grad()
        h.register_hook(lambda g: g * 10)
        (h * h).sum().backward()
        return [h.grad, x.grad]

    both(run)
    assert not leaf().retains_grad


def test_retain_grad_of_a_tensor_without_gradient_is_an_error():
    with pytest.raises(GradError, match="retain_grad: the tensor requires no gradient"):
        mg.tensor(X).retain_grad()


def test_hooks_of_nodes():
    def run(m):
        x, seen = leaf(m), []
        h = x * 2
        h.grad_fn.register_prehook(lambda gs: (gs[0] * 3,))
        h.grad_fn.register_hook(lambda gi, go: seen.append((gi[0].sum(), go[0].sum())))
        h.sum().backward()
        return [x.grad, *seen[0]]

    both(run)


def test_a_hook_after_accumulation_sees_grad():
    x, seen = leaf(), []
    handle = x.register_post_accumulate_grad_hook(lambda t: seen.append(t.grad.sum().item()))
    (x * 2).sum().backward()
    (x * 2).sum().backward()
    handle.remove()
    (x * 2).sum().backward()
    assert seen == [12.0, 24.0]


def test_an_error_in_a_hook_leaves_the_modes_alone():
    x = leaf()
    x.register_hook(lambda g: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        x.sum().backward()
    assert mg.is_grad_enabled()


def test_a_hook_on_a_tensor_without_gradient_is_an_error():
    with pytest.raises(GradError, match="register_hook: the tensor requires no gradient"):
        mg.tensor(X).register_hook(lambda g: g)


# Nodes


def test_next_functions_lead_to_the_leaves():
    x, w = leaf(), leaf()
    y = (x * w) + 1
    assert y.grad_fn.name() == "AddBackward"
    (product, k), constant = y.grad_fn.next_functions
    assert product.name() == "MulBackward" and k == 0 and constant == (None, 0)
    (to_x, _), (to_w, _) = product.next_functions
    assert to_x.name() == "AccumulateGrad" and to_x.variable is x and to_w.variable is w
    assert repr(y.grad_fn) == "<AddBackward>"
    assert x.grad_fn is None and x.is_leaf and not y.is_leaf


def test_outputs_that_have_no_gradient_are_off_the_tape():
    x = leaf()
    for y in (x > 0, x.to(mg.int64), x.argmax(), x.detach()):
        assert not y.requires_grad and y.grad_fn is None
    values, indices = mg.sort(x, dim=0)
    assert values.requires_grad and not indices.requires_grad


def test_conversions_convert_gradients_back():
    x = mg.tensor(X.astype(np.float32), requires_grad=True)
    (x.to(mg.float64) * 2).sum().backward()
    assert x.grad.dtype is mg.float32 and (x.grad == 2).all()


def test_integers_stop_gradients_but_not_those_of_others():
    x, k = leaf(), mg.tensor([[1, 2]])
    (x * k).sum().backward()
    close(x.grad, np.broadcast_to([[1.0, 2.0]], (3, 2)))


def test_tensors_without_elements():
    def run(m):
        x = m.zeros(0, 3, dtype=m.float64, requires_grad=True)
        (x.sum(0) * 2 + x.prod()).sum().backward()
        return [x.grad]

    both(run)


@pytest.mark.parametrize("shapes", [((3, 2), (2,)), ((3, 1), (1, 2)), ((), (3, 2)), ((1, 1), (2,))])
def test_broadcasting_sums_gradients(shapes):
    def run(m):
        a, b = (m.tensor(np.random.default_rng(5).random(s), requires_grad=True) for s in shapes)
        (a * b + a / b - m.maximum(a, b)).pow(2).sum().backward()
        return [a.grad, b.grad]

    both(run)
