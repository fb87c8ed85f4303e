"""Every optimizer against PyTorch's for 20 steps in every option; state dicts; messages."""

import copy
import pickle

import numpy as np
import pytest

import monograph as mg
from monograph import nn, optim
from monograph.core.errors import render

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests")

SHAPES = [(3, 4), (5,), ()]


def array(tensor):
    return np.asarray(tensor.detach().numpy())


def message(function, *args, **kwargs):
    with pytest.raises(Exception) as caught:  # noqa: B017 - the text is compared in full
        function(*args, **kwargs)
    lines = render(caught.value).splitlines()
    return "\n".join(line for line in lines if not line.startswith("  at "))


def parameters(lib, dtype):
    rng = np.random.default_rng(0)
    return [lib.tensor(rng.standard_normal(s).astype(dtype), requires_grad=True) for s in SHAPES]


def gradients(step, dtype):
    rng = np.random.default_rng(100 + step)
    return [rng.standard_normal(s).astype(dtype) for s in SHAPES]


def run(lib, optimizer, params, steps, dtype=np.float64, start=0, skip=()):
    for step in range(start, start + steps):
        optimizer.zero_grad()
        for i, (p, g) in enumerate(zip(params, gradients(step, dtype))):
            if (step, i) not in skip:
                p.grad = lib.tensor(g)
        optimizer.step()


OPTIONS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.2, "maximize": True}),
    ("Adam", {}),
    ("Adam", {"lr": 0.1, "betas": (0.5, 0.9), "eps": 1e-3}),
    ("Adam", {"lr": 0.1, "weight_decay": 0.1, "amsgrad": True}),
    ("Adam", {"lr": 0.1, "maximize": True}),
    ("Adam", {"lr": 0.1, "betas": (0.0, 0.99)}),
    ("Adam", {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("AdamW", {"lr": 0.1}),
    ("AdamW", {"lr": 0.1, "weight_decay": 0.3, "amsgrad": True, "maximize": True}),
    ("RMSprop", {}),
    ("RMSprop", {"lr": 0.1, "alpha": 0.5, "centered": True, "weight_decay": 0.1}),
    ("RMSprop", {"lr": 0.1, "momentum": 0.9}),
    ("RMSprop", {"lr": 0.1, "momentum": 0.9, "centered": True, "maximize": True}),
    ("Adagrad", {}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1}),
    ("Adagrad", {"initial_accumulator_value": 0.5, "eps": 1e-3, "maximize": True}),
    ("Adadelta", {}),
    ("Adadelta", {"lr": 0.5, "rho": 0.5, "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
    ("Adamax", {"lr": 0.05}),
    ("Adamax", {"betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
    ("NAdam", {"lr": 0.05}),
    ("NAdam", {"betas": (0.5, 0.9), "weight_decay": 0.1, "momentum_decay": 0.1}),
    ("NAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True}),
    ("RAdam", {"lr": 0.05}),
    ("RAdam", {"betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
    ("RAdam", {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("ASGD", {"lr": 0.1}),
    ("ASGD", {"lambd": 0.1, "alpha": 0.5, "t0": 5, "weight_decay": 0.1, "maximize": True}),
    ("Rprop", {}),
    ("Rprop", {"lr": 0.1, "etas": (0.3, 1.5), "step_sizes": (0.05, 0.2), "maximize": True}),
    ("Adafactor", {}),
    ("Adafactor", {"lr": 0.5, "beta2_decay": -0.5, "d": 2.0, "weight_decay": 0.1}),
    ("Adafactor", {"eps": (0.1, 1e-2), "maximize": True}),
]


NAMES = sorted({name for name, _ in OPTIONS})


# float64 differs by rounding alone; float32 after 20 steps by a few units in the last place.
@pytest.mark.parametrize("dtype, rtol, atol", [("float64", 1e-10, 1e-12), ("float32", 2e-5, 2e-6)])
@pytest.mark.parametrize("name, options", OPTIONS)
def test_twenty_steps_equal_torch(name, options, dtype, rtol, atol):
    mine, theirs = parameters(mg, dtype), parameters(torch, dtype)
    ours = getattr(optim, name)(mine, **options)
    other = getattr(torch.optim, name)(theirs, foreach=False, **options)
    for start in range(20):
        run(mg, ours, mine, 1, dtype, start)
        run(torch, other, theirs, 1, dtype, start)
        for a, b in zip(mine, theirs):
            np.testing.assert_allclose(array(a), array(b), rtol=rtol, atol=atol)
    state, expected = ours.state_dict()["state"], other.state_dict()["state"]
    assert state.keys() == expected.keys()
    for number in state:
        wanted = {k: v for k, v in expected[number].items() if v is not None}
        assert state[number].keys() == wanted.keys()
        for key, value in wanted.items():
            np.testing.assert_allclose(
                array(state[number][key]), array(value), rtol=rtol, atol=atol
            )


@pytest.mark.parametrize(
    "name, options", [o for o in OPTIONS if o[0] in ("SGD", "Adam", "AdamW", "Adagrad")]
)
def test_fused_steps_equal_torch(name, options):
    mine, theirs = parameters(mg, "float32"), parameters(torch, "float32")
    ours = getattr(optim, name)(mine, fused=True, **options)
    other = getattr(torch.optim, name)(theirs, foreach=False, **options)
    skip = {(3, 1), (4, 1)}
    for start in range(8):
        for group in (ours.param_groups[0], other.param_groups[0]):
            group["lr"] = 0.1 / (1 + start)
        run(mg, ours, mine, 1, "float32", start, skip)
        run(torch, other, theirs, 1, "float32", start, skip)
        for a, b in zip(mine, theirs):
            np.testing.assert_allclose(array(a), array(b), rtol=2e-5, atol=2e-6)
    twin = copy.deepcopy(ours)
    assert twin.fused and twin.state_dict()["state"].keys() == ours.state_dict()["state"].keys()


@pytest.mark.parametrize("name", NAMES)
def test_defaults_and_group_entries_equal_torch(name):
    ours = getattr(optim, name)(parameters(mg, "float32"))
    other = getattr(torch.optim, name)(parameters(torch, "float32"))
    hints = {"foreach", "fused", "capturable", "differentiable"}
    expected = {k: v for k, v in other.param_groups[0].items() if k not in hints and k != "params"}
    got = {k: v for k, v in ours.param_groups[0].items() if k != "params"}
    assert got == expected
    assert ours.state_dict()["param_groups"][0]["params"] == [0, 1, 2]


@pytest.mark.parametrize("name, options", [("SGD", {"momentum": 0.9, "lr": 0.1}), ("Adam", {})])
def test_parameters_without_a_gradient_stand_still_and_count_apart(name, options):
    skip = {(0, 1), (3, 0), (3, 2), (4, 1)}
    mine, theirs = parameters(mg, "float64"), parameters(torch, "float64")
    ours = getattr(optim, name)(mine, **options)
    other = getattr(torch.optim, name)(theirs, foreach=False, **options)
    run(mg, ours, mine, 7, skip=skip)
    run(torch, other, theirs, 7, skip=skip)
    for a, b in zip(mine, theirs):
        np.testing.assert_allclose(array(a), array(b), rtol=1e-10)
    for number, state in other.state_dict()["state"].items():
        if "step" in state:
            assert ours.state_dict()["state"][number]["step"].item() == state["step"].item()


def test_groups_have_their_own_options():
    def make(lib, optim):
        p = parameters(lib, "float64")
        groups = [{"params": p[:1], "lr": 0.5, "betas": (0.5, 0.9)}, {"params": p[1]}]
        optimizer = optim.Adam(groups, lr=0.1)
        optimizer.add_param_group({"params": [p[2]], "weight_decay": 0.5})
        return p, optimizer

    mine, ours = make(mg, optim)
    theirs, other = make(torch, torch.optim)
    run(mg, ours, mine, 5)
    run(torch, other, theirs, 5)
    for a, b in zip(mine, theirs):
        np.testing.assert_allclose(array(a), array(b), rtol=1e-10)


def test_changed_learning_rate_takes_effect():
    mine, theirs = parameters(mg, "float64"), parameters(torch, "float64")
    ours, other = optim.AdamW(mine), torch.optim.AdamW(theirs, foreach=False)
    for start, lr in enumerate([0.1, 0.5, 0.01]):
        ours.param_groups[0]["lr"] = other.param_groups[0]["lr"] = lr
        run(mg, ours, mine, 1, start=start)
        run(torch, other, theirs, 1, start=start)
    for a, b in zip(mine, theirs):
        np.testing.assert_allclose(array(a), array(b), rtol=1e-10)


def test_a_tensor_serves_as_learning_rate():
    mine, plain = parameters(mg, "float64"), parameters(mg, "float64")
    lr = mg.tensor(0.25, dtype=mg.float64)
    run(mg, optim.Adam(mine, lr=lr), mine, 3)
    run(mg, optim.Adam(plain, lr=0.25), plain, 3)
    for a, b in zip(mine, plain):
        np.testing.assert_allclose(array(a), array(b), rtol=1e-12)


def test_closure_runs_first_with_gradients_and_its_loss_is_returned():
    x = mg.tensor([3.0], requires_grad=True)
    optimizer = optim.SGD([x], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = (x * x).sum()
        loss.backward()
        return loss

    with mg.no_grad():
        assert optimizer.step(closure).item() == 9.0
    np.testing.assert_allclose(x.tolist(), [2.4], rtol=1e-6)


def test_zero_grad_drops_or_fills():
    x = mg.tensor([3.0], requires_grad=True)
    optimizer = optim.SGD([x])
    (x * x).sum().backward()
    optimizer.zero_grad(set_to_none=False)
    assert x.grad.tolist() == [0.0]
    optimizer.zero_grad()
    assert x.grad is None


@pytest.mark.parametrize(
    "name, options",
    [("SGD", {"momentum": 0.9, "dampening": 0.1}), ("Adam", {"amsgrad": True}), ("AdamW", {}),
     ("RMSprop", {"centered": True, "momentum": 0.5}), ("Adagrad", {"lr_decay": 0.1})],
)  # fmt: skip
def test_training_resumes_exactly_from_a_state_dict(name, options):
    make = getattr(optim, name)
    whole = parameters(mg, "float32")
    run(mg, make(whole, **options), whole, 8, np.float32)
    first = parameters(mg, "float32")
    optimizer = make(first, **options)
    run(mg, optimizer, first, 5, np.float32)
    saved = pickle.loads(pickle.dumps(optimizer.state_dict()))
    second = [mg.tensor(array(p), requires_grad=True) for p in first]
    resumed = make(second, **{**options, "lr": 123.0})
    resumed.load_state_dict(saved)
    assert resumed.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
    run(mg, resumed, second, 3, np.float32, start=5)
    run(mg, optimizer, first, 3, np.float32, start=5)
    for a, b, c in zip(second, first, whole):
        assert array(a).tolist() == array(b).tolist() == array(c).tolist()


def test_states_of_torch_can_be_loaded():
    theirs = parameters(torch, "float64")
    other = torch.optim.Adam(theirs, foreach=False)
    run(torch, other, theirs, 3)
    state = other.state_dict()
    state["state"] = {
        n: {k: mg.tensor(array(v)) for k, v in entries.items()}
        for n, entries in state["state"].items()
    }
    mine = [mg.tensor(array(p), requires_grad=True) for p in theirs]
    ours = optim.Adam(mine)
    ours.load_state_dict(state)
    run(mg, ours, mine, 3, start=3)
    run(torch, other, theirs, 3, start=3)
    for a, b in zip(mine, theirs):
        np.testing.assert_allclose(array(a), array(b), rtol=1e-10)


def test_loading_copies_and_keeps_the_parameters_dtype():
    p = parameters(mg, "float32")
    optimizer = optim.Adam(p)
    run(mg, optimizer, p, 2, np.float32)
    saved = optimizer.state_dict()
    wide = [q.detach().double().requires_grad_() for q in p]
    other = optim.Adam(wide)
    other.load_state_dict(saved)
    state = other.state[wide[0]]
    assert state["exp_avg"].dtype == mg.float64 and state["step"].dtype == mg.float32
    assert state["exp_avg"] is not optimizer.state[p[0]]["exp_avg"]
    run(mg, other, wide, 1)
    assert optimizer.state[p[0]]["step"].item() == 2.0


def test_deep_copies_go_their_own_way():
    model = nn.Linear(2, 2)
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    model(mg.ones(1, 2)).sum().backward()
    optimizer.step()
    twin_model, twin = copy.deepcopy((model, optimizer))
    before = model.weight.tolist()
    twin_model(mg.ones(1, 2)).sum().backward()
    twin.step()
    assert model.weight.tolist() == before and twin_model.weight.tolist() != before
    assert optimizer.state[model.weight]["step"].item() == 1.0


def test_named_parameters_are_accepted():
    model = nn.Linear(2, 1)
    optimizer = optim.SGD(model.named_parameters(), lr=0.1)
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]
    assert optimizer.param_groups[0]["params"][0] is model.weight


def test_bad_parameters_are_named():
    x = mg.zeros(2, requires_grad=True)
    assert message(optim.SGD, []) == "ArgumentError: SGD: there are no parameters to optimize"
    assert message(optim.SGD, x) == (
        "ArgumentTypeError: SGD: params must be an iterable of tensors or dicts, got one Tensor\n"
        "  hint: put it into a list"
    )
    assert message(optim.Adam, [x, x]) == (
        "ArgumentError: Adam: parameter 1 of shape (2,) appears twice"
    )
    assert message(optim.Adam, [{"params": [x]}, {"params": x}]) == (
        "ArgumentError: Adam: parameter 0 of shape (2,) appears twice"
    )
    assert message(optim.Adam, [x * 2]) == (
        "GradError: Adam: parameter 0 of shape (2,) is the result of a computation; "
        "only leaves can be optimized"
    )
    assert message(optim.Adam, [3]) == (
        "ArgumentTypeError: Adam: parameter 0 must be a Tensor, got int"
    )
    assert message(optim.Adam, [{"params": {x}}]) == (
        "ArgumentTypeError: Adam: params must be ordered, got a set\n  hint: use a list"
    )


def test_bad_options_are_named():
    x = [mg.zeros(2, requires_grad=True)]
    assert message(optim.SGD, x, lr=-1) == "ArgumentError: SGD: lr must be at least 0.0, got -1"
    assert message(optim.AdamW, x, betas=(0.9, 1.0)) == (
        "ArgumentError: AdamW: betas[1] must be in [0.0, 1.0), got 1.0"
    )
    assert message(optim.SGD, x, nesterov=True) == (
        "ArgumentError: SGD: nesterov needs momentum above 0 and dampening 0"
    )
    assert message(optim.Adam, x, differentiable=True) == (
        "ArgumentError: Adam: differentiable=True is not supported"
    )
    assert message(optim.Adam, x, lr=float("nan")) == (
        "ArgumentError: Adam: lr must be at least 0.0, got nan"
    )


def test_state_dicts_that_do_not_fit_are_refused_whole():
    p = parameters(mg, "float32")
    optimizer = optim.Adam(p)
    run(mg, optimizer, p, 1, np.float32)
    saved = optimizer.state_dict()
    other = optim.Adam(p[:2])
    assert message(other.load_state_dict, saved) == (
        "StateDictError: Adam.load_state_dict: the parameter groups differ in number or size: "
        "the state dict has [3] parameters per group, the optimizer [2]"
    )
    assert message(other.load_state_dict, {}) == (
        "StateDictError: Adam.load_state_dict: 'state' is missing"
    )
    turned = [mg.zeros(4, 3, requires_grad=True), *p[1:]]
    other = optim.Adam(turned, lr=0.5)
    assert message(other.load_state_dict, saved) == (
        "StateDictError: Adam.load_state_dict: 2 problems with the state dict:\n"
        "    parameter 0, exp_avg: shape (3, 4), the parameter has (4, 3)\n"
        "    parameter 0, exp_avg_sq: shape (3, 4), the parameter has (4, 3)\n"
        "  hint: nothing was loaded"
    )
    assert other.param_groups[0]["lr"] == 0.5 and not other.state


def test_repr_lists_the_groups():
    optimizer = optim.SGD([{"params": [mg.zeros(1)], "lr": 0.5}], momentum=0.9)
    assert repr(optimizer) == (
        "SGD (\nParameter Group 0\n    dampening: 0.0\n    lr: 0.5\n    maximize: False\n"
        "    momentum: 0.9\n    nesterov: False\n    weight_decay: 0.0\n)"
    )
