"""Module and containers: registration, traversal, modes, conversion, hooks, state dicts, copies."""

import copy
import pickle

import numpy as np
import pytest
from torch_oracle import array, message, torch

import monograph as mg
from monograph import nn
from monograph.core.errors import DeviceError, StateDictError
from monograph.nn import functional as F


class Net(nn.Module):
    def __init__(self, lib=nn, tensor=mg):
        super().__init__()
        self.fc = lib.Linear(3, 4)
        self.norm = lib.BatchNorm1d(4)
        self.head = lib.Sequential(lib.ReLU(), lib.Linear(4, 2, bias=False))
        self.scale = lib.Parameter(tensor.ones(2))
        self.register_buffer("offset", tensor.zeros(2))
        self.register_buffer("scratch", tensor.zeros(1), persistent=False)
        self.head.extra = self.fc  # the same module twice

    def forward(self, x):
        return self.head[1](F.relu(self.norm(self.fc(x)))) * self.scale + self.offset


class TorchNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        lib = torch.nn
        self.fc = lib.Linear(3, 4)
        self.norm = lib.BatchNorm1d(4)
        self.head = lib.Sequential(lib.ReLU(), lib.Linear(4, 2, bias=False))
        self.scale = lib.Parameter(torch.ones(2))
        self.register_buffer("offset", torch.zeros(2))
        self.register_buffer("scratch", torch.zeros(1), persistent=False)
        self.head.extra = self.fc


@pytest.fixture
def net():
    return Net()


def test_traversal_gives_the_names_that_torch_gives(net):
    other = TorchNet()
    for walk in ["named_parameters", "named_buffers", "named_modules", "named_children"]:
        names = [name for name, _ in getattr(net, walk)()]
        assert names == [name for name, _ in getattr(other, walk)()], walk
    for options in [{"recurse": False}, {"prefix": "net"}, {"remove_duplicate": False}]:
        names = [name for name, _ in net.named_parameters(**options)]
        assert names == [name for name, _ in other.named_parameters(**options)], options
    assert list(net.state_dict()) == list(other.state_dict())
    assert repr(net).split("\n")[1:] == repr(other).split("\n")[1:]


def test_parameters_assigned_to_attributes_are_registered(net):
    assert isinstance(net.scale, nn.Parameter)
    assert "scale" not in net.__dict__
    net.scale = None
    assert net.scale is None and "scale" not in dict(net.named_parameters())
    assert message(setattr, net, "scale", 3) == (
        "ArgumentTypeError: Net.scale is a parameter: assign a Parameter or None, not int"
    )
    assert message(setattr, net, "fc", 3) == (
        "ArgumentTypeError: Net.fc is a module: assign a Module or None, not int"
    )
    assert message(setattr, net, "offset", 3) == (
        "ArgumentTypeError: Net.offset is a buffer: assign a Tensor or None, not int"
    )
    net.offset = mg.ones(2)
    assert dict(net.named_buffers())["offset"].tolist() == [1.0, 1.0]
    del net.offset
    assert not hasattr(net, "offset")
    net.fc = nn.Identity()
    assert list(dict(net.named_children()))[0] == "fc"


def test_a_name_moves_between_registries():
    m = nn.Module()
    m.x = nn.Buffer(mg.zeros(2), persistent=False)
    assert list(m._buffers) == ["x"] and list(m.state_dict()) == []
    m.x = nn.Parameter(mg.zeros(2))
    assert list(m._buffers) == [] and list(m._parameters) == ["x"]
    m.x = nn.ReLU()
    assert list(m._parameters) == [] and list(m._modules) == ["x"]


def test_registration_names_what_is_wrong(net):
    assert message(net.register_parameter, "a.b", None) == (
        "ArgumentError: register_parameter: the name must not be empty or hold a dot, got 'a.b'"
    )
    assert message(net.register_buffer, "forward", mg.zeros(1)) == (
        "ArgumentError: register_buffer: Net already has an attribute 'forward'"
    )
    assert message(net.register_parameter, "w", mg.zeros(1)) == (
        "ArgumentTypeError: register_parameter: 'w' must be a Parameter or None, got Tensor"
    )
    assert message(net.add_module, "m", 1) == (
        "ArgumentTypeError: register_module: 'm' must be a Module or None, got int"
    )

    class Early(nn.Module):
        def __init__(self):
            self.fc = nn.Linear(1, 1)

    assert message(Early) == (
        "AttributeError: Early.fc: call super().__init__() before assigning parameters, buffers "
        "or modules"
    )


def test_paths_lead_to_modules_parameters_and_buffers(net):
    assert net.get_submodule("") is net
    assert net.get_submodule("head.1") is net.head[1]
    assert net.get_parameter("head.1.weight") is net.head[1].weight
    assert net.get_buffer("norm.running_mean") is net.norm.running_mean
    assert message(net.get_submodule, "head.7") == (
        "AttributeError: get_submodule: head has no sub-module '7' (it has: 0, 1, extra)"
    )
    assert message(net.get_parameter, "fc.gain") == (
        "AttributeError: get_parameter: fc has no parameter 'gain' (it has: weight, bias)"
    )
    with pytest.raises(AttributeError, match="'Net' object has no attribute 'nothing'"):
        _ = net.nothing


def test_train_and_eval_reach_all_modules(net):
    net.eval()
    assert not any(m.training for m in net.modules())
    assert net.train() is net
    assert all(m.training for m in net.modules())
    net.head.training = False
    assert not net.head.training and net.head[0].training


def test_conversion_keeps_identity_and_integer_buffers(net):
    before = [*net.parameters(), *net.buffers()]
    assert net.to(mg.float64) is net
    assert all(a is b for a, b in zip(before, [*net.parameters(), *net.buffers()]))
    assert net.fc.weight.dtype == mg.float64
    assert net.norm.num_batches_tracked.dtype == mg.int64
    assert net.half().fc.weight.dtype == mg.float16
    assert net.bfloat16().fc.weight.dtype == mg.bfloat16
    assert net.float().fc.weight.dtype == mg.float32
    assert net.to(mg.zeros(1, dtype=mg.float64)).scale.dtype == mg.float64
    assert net.to("cpu", mg.float32).scale.dtype == mg.float32
    assert net.fc.weight.requires_grad and isinstance(net.fc.weight, nn.Parameter)
    assert message(net.to, mg.int64) == (
        "DTypeError: Module.to: dtype must be a floating-point dtype, got monograph.int64"
    )


def test_conversion_keeps_values_and_gradients():
    layer = nn.Linear(2, 2)
    layer(mg.ones(1, 2)).sum().backward()
    weight, grad = layer.weight.tolist(), layer.weight.grad.tolist()
    layer.double()
    assert layer.weight.tolist() == weight
    assert layer.weight.grad.dtype == mg.float64 and layer.weight.grad.tolist() == grad


def test_requires_grad_and_zero_grad(net):
    net(mg.ones(3, 3)).sum().backward()
    assert net.scale.grad is not None
    net.zero_grad(set_to_none=False)
    assert net.scale.grad.tolist() == [0.0, 0.0]
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    net.requires_grad_(False)
    assert not any(p.requires_grad for p in net.parameters())


def test_apply_visits_children_first(net):
    seen = []
    net.apply(lambda m: seen.append(type(m).__name__))
    assert seen == ["Linear", "BatchNorm1d", "ReLU", "Linear", "Linear", "Sequential", "Net"]


def test_forward_hooks_see_and_replace_arguments_and_output():
    layer = nn.Linear(2, 2)
    calls = []
    first = layer.register_forward_pre_hook(lambda m, args: calls.append("pre") or (args[0] * 2,))
    second = layer.register_forward_hook(lambda m, args, out: calls.append("post") or out + 1)
    x = mg.tensor([[1.0, 2.0]])
    expected = F.linear(x * 2, layer.weight, layer.bias) + 1
    assert layer(x).tolist() == expected.tolist()
    first.remove()
    with second:
        layer(x)
    assert calls == ["pre", "post", "post"]
    assert layer(x).tolist() == F.linear(x, layer.weight, layer.bias).tolist()


def test_forward_hooks_with_kwargs_and_order():
    class Scale(nn.Module):
        def forward(self, x, by=1.0):
            return x * by

    m, order = Scale(), []
    m.register_forward_pre_hook(lambda m, a, k: (a, {"by": 3.0}), with_kwargs=True)
    m.register_forward_hook(lambda m, a, k, out: order.append(k), with_kwargs=True)
    m.register_forward_hook(lambda m, a, out: order.append("first"), prepend=True)
    assert m(mg.ones(1), by=2.0).tolist() == [3.0]
    assert order == ["first", {"by": 3.0}]


def test_forward_hooks_that_are_always_called():
    class Half(nn.Module):
        def forward(self, x):
            raise ValueError("half way")

    layer, seen = Half(), []
    layer.register_forward_hook(lambda m, a, out: seen.append("not called"))
    layer.register_forward_hook(lambda m, a, out: seen.append(out), always_call=True)
    with pytest.raises(ValueError, match="half way"):
        layer(mg.ones(1))
    assert seen == [None]

    def broken(m, a, out):
        raise KeyError("hook")

    layer.register_forward_hook(broken, always_call=True)
    with pytest.warns(UserWarning, match="always_call=True raised KeyError"):
        with pytest.raises(ValueError, match="half way"):
            layer(mg.ones(1))

    layer, seen = nn.Identity(), []
    layer.register_forward_hook(broken)
    layer.register_forward_hook(lambda m, a, out: seen.append(out.item()), always_call=True)
    with pytest.raises(KeyError):
        layer(mg.ones(1))
    assert seen == [1.0]  # the output as it was before the hook that raised


def test_backward_hooks_get_the_gradients_that_torch_gives():
    x = np.array([[1.0, 2.0], [3.0, 4.0]])

    def run(lib, tensor):
        inner = lib.Linear(2, 3)
        with tensor.no_grad():
            inner.weight.copy_(tensor.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
        seen = []
        inner.register_full_backward_hook(
            lambda m, gi, go: seen.append((gi[0].tolist(), go[0].tolist())) or (gi[0] * 2,)
        )
        inner.register_full_backward_pre_hook(lambda m, go: (go[0] * 10,))
        a = tensor.tensor(x.astype(np.float32), requires_grad=True)
        inner(a * 1).sum().backward()
        return seen, a.grad.tolist(), inner.weight.grad.tolist()

    assert run(nn, mg) == run(torch.nn, torch)


def test_backward_hooks_of_several_inputs_and_outputs_equal_torch():
    def run(lib, tensor):
        class Pair(lib.Module):
            def forward(self, a, n, b):
                return a * b * n, (a + b).sum()

        pair, seen = Pair(), []

        def hook(module, grad_input, grad_output):
            seen.append([g if g is None else g.tolist() for g in (*grad_input, *grad_output)])
            return tuple(None if g is None else g + 1 for g in grad_input)

        handle = pair.register_full_backward_hook(hook)
        a, b, c = (tensor.tensor([x, 2 * x], requires_grad=x != 3) for x in (1.0, 2.0, 3.0))
        product, total = pair(a, 3, b)
        (product.sum() + 2 * total).backward()
        pair(c, 3, c)[0].sum()  # nothing requires a gradient here
        product, _ = pair(b, 3, a)
        product.sum().backward()
        handle.remove()
        pair(a, 3, b)[0].sum().backward()
        return seen, a.grad.tolist(), b.grad.tolist()

    assert run(nn, mg) == run(torch.nn, torch)


@pytest.mark.filterwarnings("ignore:Full backward hook:UserWarning")  # PyTorch explains itself
def test_backward_hooks_run_where_no_input_requires_a_gradient():
    def run(lib, tensor):
        layer, seen = lib.Linear(2, 1), []
        layer.register_full_backward_hook(lambda m, gi, go: seen.append((gi, go[0].tolist())))
        layer(tensor.ones(1, 2)).sum().backward()
        return seen

    assert run(nn, mg) == run(torch.nn, torch) == [((None,), [[1.0]])]


def test_state_dict_shares_memory_and_loading_copies_into_place(net):
    state = net.state_dict()
    assert not state["scale"].requires_grad
    with mg.no_grad():
        net.scale.fill_(5)
    assert state["scale"].tolist() == [5.0, 5.0]
    other = Net()
    scale = other.scale
    assert repr(other.load_state_dict(state)) == "<All keys matched successfully>"
    assert other.scale is scale and scale.tolist() == [5.0, 5.0]
    with mg.no_grad():
        net.scale.fill_(7)
    assert scale.tolist() == [5.0, 5.0]


def test_loading_takes_arrays_and_converts_dtypes():
    layer = nn.Linear(2, 1)
    layer.load_state_dict({"weight": np.array([[1.0, 2.0]]), "bias": mg.tensor([3])})
    assert layer.weight.tolist() == [[1.0, 2.0]] and layer.bias.tolist() == [3.0]
    assert layer.weight.dtype == mg.float32


def test_one_error_lists_all_that_does_not_fit_and_nothing_is_loaded(net):
    state = net.state_dict()
    before = net.fc.weight.tolist()
    del state["offset"]
    state["fc.weight"] = mg.zeros(3, 4)
    state["head.2.weight"] = mg.zeros(2, 2)
    state["norm.bias"] = mg.zeros(4)
    assert message(net.load_state_dict, state) == (
        "StateDictError: load_state_dict: 3 problems with the state dict of Net (12 tensors):\n"
        "    missing        offset         (2,)\n"
        "    unexpected     head.2.weight  (2, 2)\n"
        "    shape differs  fc.weight      (3, 4) in the state dict, (4, 3) in the module\n"
        "  hint: nothing was loaded; strict=False ignores missing and unexpected keys"
    )
    assert net.fc.weight.tolist() == before
    state["fc.weight"] = mg.zeros(4, 3)
    keys = net.load_state_dict(state, strict=False)
    assert keys.missing_keys == ["offset"] and keys.unexpected_keys == ["head.2.weight"]
    assert net.fc.weight.tolist() == [[0.0] * 3] * 4


def test_copies_are_independent(net):
    for twin in [copy.deepcopy(net), pickle.loads(pickle.dumps(net))]:
        assert isinstance(twin.scale, nn.Parameter) and twin.scale.requires_grad
        assert twin.head.extra is twin.fc
        assert twin.state_dict().keys() == net.state_dict().keys()
        with mg.no_grad():
            twin.scale.fill_(9)
        assert net.scale.tolist() == [1.0, 1.0]
    shallow = copy.copy(net)
    shallow.scale = None
    assert net.scale is not None and shallow.fc is net.fc


def test_parameters_keep_memory_flag_and_type():
    data = mg.zeros(2)
    p = nn.Parameter(data)
    with mg.no_grad():
        p.fill_(3)
    assert data.tolist() == [3.0, 3.0]
    assert (
        p.requires_grad and p.is_leaf and not nn.Parameter(data, requires_grad=False).requires_grad
    )
    assert type(p + 1) is mg.Tensor
    assert repr(p) == "Parameter containing:\n" + repr(mg.tensor([3.0, 3.0], requires_grad=True))
    assert message(nn.Parameter, [1.0]) == (
        "ArgumentTypeError: Parameter: data must be a Tensor, got list"
    )


# ---- containers


def test_sequential_behaves_like_a_list():
    a, b, c = nn.ReLU(), nn.Tanh(), nn.Sigmoid()
    seq = nn.Sequential(a, b)
    seq.append(c)
    assert list(seq) == [a, b, c] and len(seq) == 3 and seq[-1] is c
    assert list(seq[1:]) == [b, c] and isinstance(seq[1:], nn.Sequential)
    assert seq.pop(0) is a and list(seq._modules) == ["0", "1"]
    seq.insert(0, a).extend([nn.Identity()])
    assert [type(m).__name__ for m in seq] == ["ReLU", "Tanh", "Sigmoid", "Identity"]
    seq[0] = c
    del seq[1]
    assert [type(m).__name__ for m in seq] == ["Sigmoid", "Sigmoid", "Identity"]
    assert len(seq + nn.Sequential(a)) == 4
    named = nn.Sequential({"first": nn.Linear(1, 2), "second": a})
    assert named.first is named[0] and repr(named) == repr(
        torch.nn.Sequential(
            __import__("collections").OrderedDict(
                first=torch.nn.Linear(1, 2), second=torch.nn.ReLU()
            )
        )
    )
    assert message(seq.__getitem__, 5) == (
        "IndexRangeError: Sequential: index 5 is out of range for 3 entries"
    )
    assert message(nn.Sequential, a, 3) == (
        "ArgumentTypeError: Sequential: expected a Module, got int"
    )


def test_module_list_registers_and_prints_runs():
    def make(nn):
        blocks = [nn.Linear(2, 2) for _ in range(3)]
        return nn.ModuleList(
            [*blocks, nn.ReLU(), nn.Sequential(nn.ReLU()), nn.Sequential(nn.ReLU())]
        )

    layers, other = make(nn), make(torch.nn)
    assert repr(layers) == repr(other)
    assert repr(nn.ModuleList()) == repr(torch.nn.ModuleList())
    assert list(layers.state_dict()) == list(other.state_dict())
    layers += [nn.Tanh()]
    layers.insert(1, nn.Sigmoid())
    assert [type(m).__name__ for m in layers[:3]] == ["Linear", "Sigmoid", "Linear"]
    assert len(layers) == 8


def test_module_dict_registers_by_name():
    layers = nn.ModuleDict({"a": nn.Linear(1, 2), "b": nn.ReLU()})
    layers["c"] = nn.Tanh()
    layers.update([("d", nn.Tanh())])
    assert list(layers) == ["a", "b", "c", "d"] and "b" in layers and len(layers) == 4
    assert [name for name, _ in layers.named_parameters()] == ["a.weight", "a.bias"]
    assert isinstance(layers.pop("d"), nn.Tanh)
    del layers["c"]
    other = torch.nn.ModuleDict({"a": torch.nn.Linear(1, 2), "b": torch.nn.ReLU()})
    assert repr(layers) == repr(other)
    layers.clear()
    assert len(layers) == 0


def test_parameter_list_and_dict():
    values = nn.ParameterList([mg.zeros(2), nn.Parameter(mg.ones(3))])
    values.append(mg.ones(1))
    assert all(isinstance(p, nn.Parameter) for p in values)
    assert [name for name, _ in values.named_parameters()] == ["0", "1", "2"]
    assert list(values.state_dict()) == ["0", "1", "2"]
    assert values[-1].tolist() == [1.0] and len(values[1:]) == 2
    assert values.pop(0).tolist() == [0.0, 0.0] and values[0].tolist() == [1.0] * 3
    values[0] = mg.zeros(4)
    assert values[0].shape == (4,) and len(values) == 2
    assert repr(values) == (
        "ParameterList(\n"
        "    (0): Parameter containing: [monograph.float32 of size 4]\n"
        "    (1): Parameter containing: [monograph.float32 of size 1]\n"
        ")"
    )
    named = nn.ParameterDict({"a": mg.zeros(2)})
    named["b"] = mg.ones(1)
    assert list(named) == ["a", "b"] and named["b"].requires_grad
    assert [name for name, _ in named.named_parameters()] == ["a", "b"]
    assert named.get("z") is None and named.pop("a").shape == (2,) and "a" not in named


# ---- nn.utils


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, float("inf")])
@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_gradient_norm_clipping_equals_torch(norm_type, max_norm):
    grads = [np.array([[1.0, -2.0], [3.0, 0.5]]), np.array([4.0, -0.1])]

    def run(lib, clip):
        params = [lib.tensor(g * 0, requires_grad=True) for g in grads]
        for p, g in zip(params, grads):
            p.grad = lib.tensor(g)
        total = clip(params, max_norm, norm_type)
        return [total.item(), *(array(p.grad) for p in params)]

    mine = run(mg, nn.utils.clip_grad_norm_)
    for a, b in zip(mine, run(torch, torch.nn.utils.clip_grad_norm_)):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("norm_type", [1.0, 2.0, float("inf")])
def test_clipping_of_many_elements_writes_each_gradient_in_place(norm_type):
    params = [mg.zeros(*shape, requires_grad=True) for shape in ((9, 16), (16,), (3, 4, 5))]
    for call, max_norm in enumerate((1.0, 0.5, 1e9)):
        r = np.random.default_rng(call)
        given = [r.standard_normal(tuple(p.shape)).astype(np.float32) for p in params]
        for p, g in zip(params, given):
            p.grad = mg.tensor(g)
        grads = [p.grad for p in params]
        total = nn.utils.clip_grad_norm_(params, max_norm, norm_type)
        expected = np.linalg.norm(np.concatenate([g.ravel() for g in given]), norm_type)
        np.testing.assert_allclose(total.item(), expected, rtol=1e-5)
        for p, grad, g in zip(params, grads, given):
            assert p.grad is grad
            np.testing.assert_allclose(
                grad.numpy(), g * min(1.0, max_norm / (expected + 1e-6)), rtol=1e-5
            )


def test_clipping_refuses_non_finite_norms_on_request():
    p = mg.tensor([1.0], requires_grad=True)
    p.grad = mg.tensor([float("nan")])
    assert message(nn.utils.clip_grad_norm_, [p], 1.0, error_if_nonfinite=True) == (
        "ArgumentError: clip_grad_norm_: the gradients' norm of order 2.0 is nan"
    )


def test_gradient_values_are_clipped():
    p = mg.tensor([0.0, 0.0, 0.0], requires_grad=True)
    p.grad = mg.tensor([-3.0, 0.5, 2.0])
    nn.utils.clip_grad_value_([p], 1.0)
    assert p.grad.tolist() == [-1.0, 0.5, 1.0]


def test_parameters_travel_through_one_vector():
    layer = nn.Linear(2, 2)
    vector = nn.utils.parameters_to_vector(layer.parameters())
    assert vector.shape == (6,)
    nn.utils.vector_to_parameters(mg.arange(6.0), layer.parameters())
    assert layer.weight.tolist() == [[0.0, 1.0], [2.0, 3.0]] and layer.bias.tolist() == [4.0, 5.0]
    assert message(nn.utils.vector_to_parameters, mg.zeros(5), layer.parameters()) == (
        "ShapeError: vector_to_parameters: the vector must have shape (6,), got (5,)"
    )


def test_checkpoints_without_counts_of_batches_load_strictly():
    layer = nn.BatchNorm1d(3)
    state = {k: v for k, v in layer.state_dict().items() if k != "num_batches_tracked"}
    assert layer.load_state_dict(state).missing_keys == []


class Counting(nn.Linear):
    def __init__(self):
        super().__init__(2, 2)
        self.calls = 0

    def get_extra_state(self):
        return {"calls": self.calls}

    def set_extra_state(self, state):
        self.calls = state["calls"]


def test_extra_state_is_saved_and_given_back():
    model = nn.Sequential(Counting(), nn.Linear(2, 2))
    model[0].calls = 3
    saved = model.state_dict()
    assert saved["0._extra_state"] == {"calls": 3}
    other = nn.Sequential(Counting(), nn.Linear(2, 2))
    assert str(other.load_state_dict(saved)) == "<All keys matched successfully>"
    assert other[0].calls == 3
    del saved["0._extra_state"]
    with pytest.raises(StateDictError, match=r"missing  0\._extra_state"):
        other.load_state_dict(saved)


def test_hooks_around_saving_and_loading():
    model, seen = nn.Sequential(nn.Linear(2, 2)), []

    def rename(module, state_dict, prefix, metadata, strict, missing, unexpected, errors):
        state_dict[f"{prefix}weight"] = state_dict.pop(f"{prefix}kernel")

    def renamed(module, state_dict, prefix, metadata):
        state_dict[f"{prefix}kernel"] = state_dict.pop(f"{prefix}weight")

    layer = model[0]
    handles = [
        layer.register_load_state_dict_pre_hook(rename),
        layer.register_state_dict_post_hook(renamed),
        layer.register_state_dict_pre_hook(lambda m, prefix, keep: seen.append(prefix)),
        model.register_load_state_dict_post_hook(lambda m, keys: seen.append(keys.missing_keys)),
    ]
    saved = model.state_dict()
    assert list(saved) == ["0.bias", "0.kernel"] and seen == ["0."]
    model.load_state_dict(saved)
    assert seen == ["0.", []] and set(saved) == {"0.bias", "0.kernel"}
    for handle in handles:
        handle.remove()
    assert list(model.state_dict()) == ["0.weight", "0.bias"]
    layer._register_load_state_dict_pre_hook(lambda d, prefix, *rest: rest[-1].append("too old"))
    with pytest.raises(StateDictError, match="too old"):
        model.load_state_dict(model.state_dict())


def test_submodules_are_put_by_path_and_there_is_no_cuda():
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 2)))
    model.set_submodule("0.0", nn.Tanh())
    assert isinstance(model[0][0], nn.Tanh) and model.share_memory() is model
    with pytest.raises(AttributeError, match="no sub-module 'b'"):
        model.set_submodule("0.b", nn.Tanh(), strict=True)
    with pytest.raises(DeviceError, match=r"Module\.cuda: no CUDA device"):
        model.cuda()
    model.compile()
    assert model(mg.ones(2)).shape == (2,)
