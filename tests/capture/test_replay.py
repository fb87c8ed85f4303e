"""What may change between two calls of a captured function, and must not go unnoticed.

A call that finds everything as the call before left it goes a short way (capture_replay.py). Each
test here warms that way up, changes one thing, and compares with the plain function.
"""

import copy
import gc
import sys

import numpy as np
import pytest

import monograph as mg
from monograph import capture_replay, nn, optim
from monograph.capture_replay import NO
from monograph.core.errors import GradError, ShapeError
from monograph.nn import functional as F
from monograph.runtime import threads
from monograph.runtime.watch import can_watch


def network(seed=0):
    mg.manual_seed(seed)
    # No bias before the norm, which would cancel it: its gradient would be rounding noise alone.
    return nn.Sequential(
        nn.Linear(4, 8, bias=False), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 3)
    )


class Training:
    """A network with an optimizer, and a step that is captured or plain, and may drop gradients."""

    def __init__(self, captured, drops=False):
        self.drops = drops
        self.net = network()
        self.optimizer = optim.AdamW(self.net.parameters(), lr=0.01, weight_decay=0.1)
        self.notes = []  # one for each capture
        self.step = mg.jit(self.plain_step) if captured else self.plain_step

    def plain_step(self, x, y):
        self.notes.append(1)
        loss = F.cross_entropy(self.net(x), y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if self.drops:
            self.optimizer.zero_grad()
        return loss


def batch(seed, n=6, dtype=np.float32):
    r = np.random.default_rng(seed)
    return mg.tensor(r.standard_normal((n, 4)).astype(dtype)), mg.tensor(r.integers(0, 3, n))


def array(t):
    return t.detach().numpy()


def agree(mine, other):
    for (name, a), (_, b) in zip(
        mine.net.state_dict().items(), other.net.state_dict().items(), strict=True
    ):
        assert a.dtype is b.dtype
        np.testing.assert_allclose(array(a), array(b), rtol=1e-4, atol=1e-5, err_msg=name)
    for (name, p), q in zip(mine.net.named_parameters(), other.net.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None), name
        if p.grad is not None:
            np.testing.assert_allclose(
                array(p.grad), array(q.grad), rtol=1e-3, atol=1e-4, err_msg=name
            )


def payload_replaced(t):
    t.net[0].weight.data = t.net[0].weight.data * 0.5


def payload_replaced_by_the_same_memory(t):
    t.net[0].weight.data = t.net[0].weight.data
    t.net[0].weight.data.mul_(0.5)


def payload_written_through_numpy(t):
    array(t.net[4].weight)[...] *= 2


def parameters_exchanged(t):
    a, b = t.net[1].weight, t.net[1].bias
    a.data, b.data = b.data.clone(), a.data.clone()


def written_eagerly(t):
    with mg.no_grad():
        t.net[1].bias.add_(1.0)
        t.net[0].weight[1].zero_()
        t.net[4].weight.view(-1)[3:9].fill_(0.25)


def parameter_frozen(t):
    t.net[0].weight.requires_grad_(False)
    t.net[0].weight.grad = None


def parameter_frozen_by_attribute(t):
    t.net[4].bias.requires_grad = False
    t.net[4].bias.grad = None


def gradient_dropped(t):
    t.net[0].weight.grad = None


def gradients_dropped_by_the_optimizer(t):
    t.optimizer.zero_grad()


def gradients_filled_with_zeros(t):
    t.optimizer.zero_grad(set_to_none=False)


def gradient_replaced(t):
    t.net[0].weight.grad = mg.ones(8, 4)


def gradient_written(t):
    t.net[0].weight.grad.fill_(3.0)


def evaluation_mode(t):
    t.net.eval()


def one_layer_in_evaluation_mode(t):
    t.net[1].eval()


def rate_changed(t):
    t.optimizer.param_groups[0]["lr"] = 0.5


def rate_becomes_an_integer(t):
    t.optimizer.param_groups[0]["lr"] = 1


def betas_changed(t):
    t.optimizer.param_groups[0]["betas"] = (0.5, 0.9)


def state_loaded(t):
    other = network(seed=7)
    t.net.load_state_dict(other.state_dict())
    t.optimizer.load_state_dict(copy.deepcopy(t.optimizer.state_dict()))


def optimizer_state_cleared(t):
    t.optimizer.state[t.net[0].weight]["exp_avg"].zero_()


def weights_doubled(t):
    t.net.double()


def statistics_reset(t):
    t.net[1].reset_running_stats()


def random_state_set_back(t):
    mg.manual_seed(42)


def fewer_threads(t):
    threads.set_num_threads(1)


CHANGES = [
    payload_replaced, payload_replaced_by_the_same_memory, payload_written_through_numpy,
    parameters_exchanged, written_eagerly, parameter_frozen, parameter_frozen_by_attribute,
    gradient_dropped, gradients_dropped_by_the_optimizer, gradients_filled_with_zeros,
    gradient_replaced, gradient_written, evaluation_mode, one_layer_in_evaluation_mode,
    rate_changed, rate_becomes_an_integer, betas_changed, state_loaded, optimizer_state_cleared,
    statistics_reset, random_state_set_back, fewer_threads,
]  # fmt: skip


CASES = [(change, False) for change in CHANGES]
CASES += [(change, True) for change in CHANGES if change is not gradient_written]  # there is none


@pytest.mark.parametrize(
    "change, drops", CASES, ids=lambda x: getattr(x, "__name__", "drops" if x else "keeps")
)
def test_a_change_between_steps_acts_as_on_the_plain_function(change, drops):
    count = threads.get_num_threads()
    try:
        trained = []
        for captured in (True, False):
            t = Training(captured, drops)
            mg.manual_seed(1)
            losses = [t.step(*batch(k)).item() for k in range(4)]
            change(t)
            losses += [t.step(*batch(k)).item() for k in range(4, 8)]
            trained.append((t, losses))
        (mine, a), (other, b) = trained
        np.testing.assert_allclose(a, b, rtol=1e-4)
        agree(mine, other)
        # Frozen ones part from the others' step count: a capture of its own.
        assert len(mine.notes) <= (3 if "frozen" in change.__name__ else 2) < len(other.notes)
    finally:
        threads.set_num_threads(count)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_is_seen_by_the_watch_and_where_there_is_none(change, monkeypatch):
    losses = []
    for watched in (True, False):
        if not watched:
            monkeypatch.setattr(capture_replay, "can_watch", lambda: False)
        t = Training(True)
        mg.manual_seed(1)
        losses.append([t.step(*batch(k)).item() for k in range(6)])
        (program,) = (c for cs in t.step.captures.values() for c in cs)
        assert (program.watch is not None) is (watched and can_watch())
        change(t)
        losses[-1] += [t.step(*batch(k)).item() for k in range(6, 9)]
    assert losses[0] == losses[1]


def test_a_gradient_that_somebody_holds_is_left_to_him():
    t = Training(True)
    for k in range(6):
        t.step(*batch(k))
    parameter = t.net[0].weight
    for hold in (lambda: parameter.grad, lambda: parameter.grad.numpy()):
        for _ in range(70):  # beyond the calls after which all is watched again
            held = hold()
            before = np.array(held)
            t.step(*batch(7))
            np.testing.assert_array_equal(np.array(held), before)
            assert not np.array_equal(array(parameter.grad), before)


def test_a_step_that_drops_its_gradients_drops_those_put_there_in_between():
    t = Training(True, drops=True)
    for k in range(3):
        t.step(*batch(k))
    (program,) = next(iter(t.step.captures.values()))
    assert program.steady and program.is_plain
    left, right = mg.ones(8, 4), mg.ones(3)
    t.net[0].weight.grad, t.net[4].bias.grad = left, right
    assert program.run_again(batch(3)) is not NO
    assert all(p.grad is None for p in t.net.parameters())
    assert left.tolist() == [[1] * 4] * 8 and right.tolist() == [1] * 3
    t.net[1].weight.grad = mg.ones(8)
    mine = t.net[1].weight.grad  # from before a call that raises: it stays
    with pytest.raises(ShapeError):
        t.step(mg.ones(6, 5), batch(4)[1])
    assert t.net[1].weight.grad is mine


def test_a_captured_tensor_becomes_the_gradient_of_another():
    p, kept = mg.ones(3, requires_grad=True), mg.tensor([1.0, 2.0, 3.0])

    def plain(x):
        p.grad = kept
        return x * 2

    f = mg.jit(plain)
    for _ in range(4):
        p.grad = None
        assert f(mg.ones(2)).tolist() == [2, 2]
        assert p.grad is kept
    p.grad = mg.zeros(3)
    f(mg.ones(2))
    assert p.grad is kept and kept.tolist() == [1, 2, 3]


def test_a_model_that_becomes_float64_is_captured_again():
    mine, other = Training(True), Training(False)
    for k in range(8):
        if k == 4:
            weights_doubled(mine), weights_doubled(other)
        dtype = np.float64 if k >= 4 else np.float32
        for t in (mine, other):
            mg.manual_seed(k)
            t.step(*batch(k, dtype=dtype))
    agree(mine, other)


def test_the_last_batch_may_be_smaller_and_come_again_and_again():
    mine, other = Training(True), Training(False)
    for k in range(12):
        for t in (mine, other):
            mg.manual_seed(k)
            t.step(*batch(k, n=2 if k % 3 == 2 else 6))
    agree(mine, other)
    assert len(mine.notes) == 2


# One thing at a time


def warm(f, *args):
    for _ in range(3):
        f(*args)


def test_modes_are_part_of_what_a_call_depends_on():
    w = mg.tensor([2.0, 3.0], requires_grad=True)
    f = mg.jit(lambda x: (x * w).sum() + mg.zeros(()).sum())
    x = mg.ones(2)
    warm(f, x)
    assert f(x).requires_grad
    with mg.no_grad():
        assert not f(x).requires_grad
    assert f(x).requires_grad
    with mg.inference_mode():
        assert f(x)._inference
    assert not f(x)._inference
    g = mg.jit(lambda: mg.ones(3) * 2)
    warm(g)
    mg.set_default_dtype(mg.float64)
    try:
        assert g().dtype is mg.float64
    finally:
        mg.set_default_dtype(mg.float32)
    assert g().dtype is mg.float32


def test_arguments_that_are_not_contiguous_and_others_take_turns():
    f = mg.jit(lambda x: x * 2 + 1)
    a = mg.tensor(np.arange(12.0, dtype=np.float32).reshape(3, 4))
    b = mg.tensor(np.arange(12.0, dtype=np.float32).reshape(4, 3)).t()
    for _ in range(3):
        for x in (a, b, a):
            assert f(x).tolist() == (x * 2 + 1).tolist()
    assert len(f.captures) == 1


def test_arguments_of_a_new_dtype_requirement_or_gradient():
    f = mg.jit(lambda x: (x * x).sum())
    x = mg.tensor([1.0, 2.0])
    warm(f, x)
    assert f(mg.tensor([1, 2])).dtype is mg.int64
    assert f(mg.tensor([1.0, 2.0], dtype=mg.float64)).dtype is mg.float64
    x.requires_grad_()
    f(x).backward()
    assert x.grad.tolist() == [2, 4]
    f(x).backward()
    assert x.grad.tolist() == [4, 8]
    x.requires_grad_(False)
    assert not f(x).requires_grad


def test_an_argument_that_is_resized_through_its_array():
    f = mg.jit(lambda x: x.sum(0))
    x = mg.tensor(np.arange(6.0, dtype=np.float32))
    warm(f, x)
    x.numpy().shape = (3, 2)
    assert f(x).tolist() == [6, 9]


def test_an_argument_that_shares_memory_with_what_is_written():
    state = mg.zeros(4)

    def plain(x):
        state.add_(1)
        state.mul_(2)
        return x + 1

    f = mg.jit(plain)
    warm(f, mg.ones(2))
    for x in (state[:2], state[2:], state.detach()[1:3], mg.from_numpy(state.numpy()[1:3])):
        expected = ((state + 1) * 2)[:2] + 1  # all elements of the state are equal
        assert f(x).tolist() == expected.tolist()
    assert f(mg.ones(2)).tolist() == [2, 2]


def test_an_argument_that_is_the_written_tensor_itself():
    state = mg.zeros(3)
    f = mg.jit(lambda x: (state.add_(x), x * 10)[1])
    warm(f, mg.ones(3))
    assert state.tolist() == [3] * 3
    assert f(state).tolist() == [60] * 3
    assert state.tolist() == [6] * 3


def test_two_captured_tensors_that_come_to_share_memory():
    a, b = mg.zeros(3), mg.ones(3)
    f = mg.jit(lambda: (a.add_(b), a * 1)[1])
    warm(f)
    assert a.tolist() == [3] * 3
    b.data = a.data
    assert f().tolist() == [6] * 3
    assert f().tolist() == [12] * 3
    b.data = mg.ones(3)
    assert f().tolist() == [13] * 3


def test_weights_that_are_tied_after_the_first_call():
    net = nn.ModuleDict({"a": nn.Linear(3, 3, bias=False), "b": nn.Linear(3, 3, bias=False)})
    f = mg.jit(lambda x: net["b"](net["a"](x)))
    x = mg.ones(2, 3)
    warm(f, x)
    net["b"].weight = net["a"].weight
    np.testing.assert_array_equal(array(f(x)), array(f.function(x)))
    with mg.no_grad():
        net["a"].weight.mul_(2)
    np.testing.assert_allclose(array(f(x)), array(f.function(x)), rtol=1e-6)


def test_layers_that_are_exchanged_added_or_removed():
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    f = mg.jit(lambda x: net(x))
    x = -mg.ones(2, 3)
    warm(f, x)

    def check():
        np.testing.assert_allclose(array(f(x)), array(f.function(x)), rtol=1e-6)

    net[1] = nn.Tanh()
    check()
    net.append(nn.Linear(3, 5))
    check()
    del net[1]
    check()
    net[0].bias = None
    check()
    handle = net[0].register_forward_hook(lambda module, args, out: out * 3)
    check()
    captures = sum(map(len, f.captures.values()))
    handle.remove()
    check()
    nn.Linear(3, 3).bias = None  # a module of no concern
    check()
    assert sum(map(len, f.captures.values())) == captures


def test_parameters_given_for_one_call_are_no_change_of_the_module():
    net = nn.Linear(3, 2)
    f = mg.jit(lambda w, x: mg.func.functional_call(net, {"weight": w}, (x,)))
    x, w = mg.ones(1, 3), mg.ones(2, 3)
    for k in range(4):
        np.testing.assert_allclose(array(f(w * k, x)), array(f.function(w * k, x)), rtol=1e-6)
    assert sum(map(len, f.captures.values())) == 1


def test_tied_arguments_with_gradients_inside():
    def plain(x, y):
        (x * y).sum().backward()

    f = mg.jit(plain)
    for k in range(3):
        x, y = (mg.tensor([2.0, 3.0 + k], requires_grad=True) for _ in range(2))
        f(x, y)
        assert x.grad.tolist() == y.grad.tolist() == [2, 3 + k]
    x = mg.tensor([2.0, 3.0], requires_grad=True)
    f(x, x)
    assert x.grad.tolist() == [4, 6]


def test_numbers_and_strings_among_the_arguments():
    f = mg.jit(lambda x, how, k: (x.sum() if how == "sum" else x.mean()) * k)
    x = mg.tensor([1.0, 3.0])
    for how, k in [
        ("sum", 2), ("sum", 2), ("sum", 3), ("sum", 4), ("mean", 4), ("mean", 5), ("sum", 0.5),
        ("sum", True), ("sum", 0.25), ("mean", 2**70), ("sum", 7), ("sum", np.float32(2)),
    ]:  # fmt: skip
        assert f(x, how, k).item() == f.function(x, how, k).item()


def test_results_gradients_and_arguments_are_not_kept_alive():
    w = mg.tensor([1.0, 2.0], requires_grad=True)

    def step(x):
        w.grad = None
        (w * x).sum().backward()
        return x * 2

    f = mg.jit(step)
    warm(f, mg.ones(2))
    gc.collect()
    for _ in range(3):
        x = mg.ones(2)
        out = f(x)
        held = [x.numpy(), out.numpy()]
        del x, out
        assert [sys.getrefcount(held[k]) for k in (0, 1)] == [2, 2]


def test_saved_tensors_notice_captured_writes():
    w = mg.tensor([1.0, 2.0])
    x = mg.tensor([3.0, 4.0], requires_grad=True)
    f = mg.jit(lambda: w.mul_(2).sum())
    warm(f)
    out = (x * w).sum()
    f()
    with pytest.raises(GradError, match="in place"):
        out.backward()


def test_views_made_between_calls_follow():
    base = mg.zeros(4)
    f = mg.jit(lambda: (base.add_(1), None)[1])
    warm(f)
    view = base[1:3]
    f()
    assert view.tolist() == [4, 4]
    view.fill_(9)
    f()
    assert base.tolist() == [5, 10, 10, 5]


def test_guards_hold_for_each_of_several_captures():
    net = network()
    f = mg.jit(lambda x: net(x) if net.training else net(x) * 0)
    x = mg.ones(3, 4)
    for train in (True, False, True, False, False, True):
        net.train(train)
        assert (array(f(x)) == 0).all() != train
    assert len(f.recompiles) == 1


def test_trees_of_arguments_and_names():
    w = mg.tensor([1.0, 2.0])
    f = mg.jit(lambda batch, scale=1.0, *, mode="sum": getattr(batch["x"] * w * scale, mode)())
    for k in range(1, 8):
        x = mg.full((2,), float(k))
        for args, kwargs in [
            (({"x": x},), {}),
            (({"x": x, "y": x},), {}),
            (({"x": x}, 2.0), {}),
            (({"x": x}, k), {"mode": "mean"}),
            (({"x": x.double()},), {"scale": k / 3}),
        ]:
            mine, other = f(*args, **kwargs), f.function(*args, **kwargs)
            assert mine.dtype is other.dtype and mine.item() == other.item()
        w.add_(1)


def test_arguments_that_are_written_and_what_they_share():
    w = mg.tensor([1.0, 2.0, 3.0])

    def plain(cache, x):
        cache.add_(x * w)
        return cache.sum() + x.sum()

    f = mg.jit(plain)
    whole = mg.zeros(9)
    warm(f, mg.zeros(3), mg.ones(3))
    captures = len(f.captures)
    for k in range(3):
        new = mg.zeros(3)
        held = (new * mg.ones(3, requires_grad=True)).sum()
        assert f(new, mg.full((3,), float(k))).item() == 9 * k
        assert new.tolist() == [k, 2 * k, 3 * k]
        if k == 2:
            with pytest.raises(GradError, match="in place"):
                held.backward()
        view, other = whole[k : k + 3], whole.clone()[k : k + 3]
        f(view, mg.ones(3)), plain(other, mg.ones(3))
        assert view.tolist() == other.tolist() == whole[k : k + 3].tolist()
    assert len(f.captures) == captures
    for pick in (
        lambda a: (a[0:3], a[2:5]),
        lambda a: (a[0:3], a[0:3]),
        lambda a: (a[3:6], a[4:7]),
        lambda a: (w, mg.ones(3)),
        lambda a: (mg.ones(3), w),
        lambda a: (w.detach(), mg.ones(3)),
    ):
        start = w.clone()
        a = mg.arange(9.0)
        mine = f(*pick(a)).item(), a.tolist(), w.tolist()
        w.copy_(start)
        a = mg.arange(9.0)
        assert mine == (plain(*pick(a)).item(), a.tolist(), w.tolist())
        w.copy_(start)
        warm(f, mg.zeros(3), mg.ones(3))
