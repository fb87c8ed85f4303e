"""vmap against torch.vmap and against loops: axes, trees, views, in-place, randomness, errors."""

import dataclasses

import numpy as np
import pytest
import torch

import monograph as mg
import monograph.nn.functional
from monograph.core import pytree
from monograph.core.errors import (
    ArgumentError,
    ArgumentTypeError,
    BatchError,
    GradError,
    ShapeError,
    render,
)
from monograph.ir.op import Aval, Opaque

X = np.random.default_rng(0).standard_normal((4, 3, 2))
Y = np.random.default_rng(1).standard_normal((3, 4))


def make(m):
    return (lambda a: mg.tensor(a)) if m is mg else (lambda a: torch.tensor(a))


def same(a, b):
    mine, theirs = pytree.flatten(a)[0], pytree.flatten(b)[0]
    assert len(mine) == len(theirs) and len(mine) > 0
    for x, y in zip(mine, theirs):
        assert tuple(x.shape) == tuple(y.shape)
        np.testing.assert_allclose(x.detach().numpy(), y.detach().numpy(), rtol=1e-10, atol=1e-12)


CASES = {
    "first axis": lambda m, t: m.vmap(lambda a: a * 2 + a.sum())(t(X)),
    "middle axis": lambda m, t: m.vmap(lambda a: a @ a.T, in_dims=1)(t(X)),
    "last axis, counted from the end": lambda m, t: m.vmap(lambda a: a * a, in_dims=-1)(t(X)),
    "result axis": lambda m, t: m.vmap(lambda a: a * 2, out_dims=1)(t(X)),
    "result axis from the end": lambda m, t: m.vmap(lambda a: a * 2, out_dims=-1)(t(X)),
    "different axes": lambda m, t: m.vmap(lambda a, b: a * b[0] + b.sum(), (0, 1))(t(X), t(Y)),
    "one argument for all": lambda m, t: m.vmap(lambda a, b: a @ b.T[:2], (0, None))(t(X), t(Y)),
    "a Python number for all": lambda m, t: m.vmap(lambda a, k: a * k, (0, None))(t(X), 3),
    "keyword arguments": lambda m, t: m.vmap(lambda a, b: a + b)(t(X), b=t(X)),
    "trees": lambda m, t: m.vmap(
        lambda p: {"s": p["x"].sum() + p["y"][1], "l": [p["x"], p["y"][0]]},
        in_dims=({"x": 0, "y": (None, 1)},),
    )({"x": t(X), "y": (t(X), t(Y))}),
    "trees of result axes": lambda m, t: m.vmap(
        lambda a: (a, (a * 2, a.sum())), out_dims=(1, (2, 0))
    )(t(X)),
    "a result that is the same for all": lambda m, t: m.vmap(lambda a: (a, t(Y)))(t(X)),
    "the argument itself": lambda m, t: m.vmap(lambda a: a)(t(X)),
    "nothing but constants": lambda m, t: m.vmap(lambda a: m.ones(2))(t(X)),
    "0-d examples": lambda m, t: m.vmap(lambda a: m.sin(a) + 1)(t(X[:, 0, 0])),
    "a batch of one": lambda m, t: m.vmap(lambda a: a.sum())(t(X[:1])),
    "nested": lambda m, t: m.vmap(m.vmap(lambda a: a * a.sum()))(t(X)),
    "nested, crossed": lambda m, t: m.vmap(
        m.vmap(lambda a, b: (a * b).sum(), (None, 1)), (0, None)
    )(t(X[:, :, 0]), t(Y)),
    "nested, inner axis of the outer argument": lambda m, t: m.vmap(
        lambda a: m.vmap(lambda c: c * a.sum(), in_dims=1, out_dims=1)(a)
    )(t(X)),
    "three levels": lambda m, t: m.vmap(m.vmap(m.vmap(lambda a: a.exp())))(t(X)),
    "an outer batch inside an inner one": lambda m, t: m.vmap(
        lambda a: m.vmap(lambda b: (a * b).sum())(t(X))
    )(t(X)),
    "in chunks": lambda m, t: m.vmap(lambda a: a @ a.T, chunk_size=3)(t(X)),
    "in chunks, other axes": lambda m, t: m.vmap(
        lambda a, b: (a * b[0], b), (0, 1), (1, 0), chunk_size=3
    )(t(X), t(Y)),
    "in chunks of everything": lambda m, t: m.vmap(lambda a: a * 2, chunk_size=100)(t(X)),
    "broadcasting": lambda m, t: m.vmap(lambda a, b: a + b)(t(X), t(X[:, :1, 0])),
    "broadcasting with fewer dimensions": lambda m, t: m.vmap(lambda a, b: a + b)(
        t(X), t(X[:, 0, 0])
    ),
    "reductions": lambda m, t: m.vmap(
        lambda a: (a.sum(0), a.amax(1), a.mean(), a.argmax(1), a.prod(0, keepdim=True)), in_dims=2
    )(t(X)),
    "comparison and choice": lambda m, t: m.vmap(lambda a: m.where(a > 0, a, t(X[0])))(t(X)),
    "shapes": lambda m, t: m.vmap(
        lambda a: (
            a.reshape(-1),
            a.T,
            a.unsqueeze(1),
            a.flip(0),
            a.expand(2, 3, 2),
            a.permute(1, 0),
            m.cat([a, a * 2], 1),
            m.stack([a, t(X[0])], 1),
            a.repeat(2, 1),
            a.flatten(),
        )
    )(t(X)),  # fmt: skip
    "shapes, batch axis in the middle": lambda m, t: m.vmap(
        lambda a: (a.reshape(-1), a.T, a[1:], a[:, ::2], m.tril(a), a.diagonal()), in_dims=1
    )(t(X)),
    "indexing": lambda m, t: m.vmap(
        lambda a: (a[0], a[-1, 1], a[1:], a[:, None], a[..., 0], a[[2, 0]], a[t(np.array([1, 1]))])
    )(t(X)),
    "indexing by a batched index": lambda m, t: m.vmap(lambda a, i: m.gather(a, 0, i), (0, None))(
        t(X), t(np.array([[0, 1], [2, 2]]))
    ),
    "gathering rows with one index per example": lambda m, t: m.vmap(
        lambda i: m.index_select(t(X[0]), 0, i)
    )(t(np.array([[0, 1], [2, 2], [1, 0]]))),
    "matrix products": lambda m, t: m.vmap(
        lambda a, b: (a.T @ b, b @ t(Y), m.einsum("ij,ik->jk", a, a)), (0, 1)
    )(t(X), t(Y)),
    "bmm inside": lambda m, t: m.vmap(lambda a: m.bmm(a, a.transpose(1, 2)))(
        t(X.reshape(2, 2, 3, 2))
    ),
    "softmax and norm": lambda m, t: m.vmap(lambda a: (m.softmax(a, 0), a.norm()))(t(X)),
    "sorting": lambda m, t: m.vmap(lambda a: m.sort(a, dim=0)[0])(t(X)),
    "cumulative sums": lambda m, t: m.vmap(lambda a: m.cumsum(a, 1), in_dims=1)(t(X)),
    "conversion": lambda m, t: m.vmap(lambda a: a.to(m.float32).to(m.float64).floor())(t(X)),
    "an empty batch": lambda m, t: m.vmap(lambda a: a + 1)(t(X[:, :0])),
    "split and unbind": lambda m, t: m.vmap(lambda a: [*a.split(2), *a.unbind(1)])(t(X)),
    "iteration": lambda m, t: m.vmap(lambda a: sum(row * k for k, row in enumerate(a)))(t(X)),
    "in place": lambda m, t: m.vmap(lambda a: a.clone().mul_(2).add_(t(X[0])))(t(X)),
    "in place through views": lambda m, t: m.vmap(lambda a: written(m, a))(t(X)),
    "in place at another batch axis": lambda m, t: m.vmap(lambda a, b: a.clone().copy_(b), (0, 2))(
        t(X), t(-X.transpose(1, 2, 0))
    ),
    "zeros like a batched tensor can be filled": lambda m, t: m.vmap(lambda a: filled(m, a))(t(X)),
}


def written(m, a):
    b = a.clone()
    row = b[1]
    row.zero_()
    b[0, 1] = 5.0
    b[2] = a[0]
    b.T[0].mul_(2)
    return b, row


def filled(m, a):
    out = m.zeros_like(a)
    for k in range(3):
        out[k] = a[k] * k
    more = a.new_zeros(5)
    more[:3] = a[:, 0]
    return out, more


@pytest.mark.parametrize("name", CASES)
def test_equals_torch(name):
    same(CASES[name](mg, make(mg)), CASES[name](torch, make(torch)))


@pytest.mark.parametrize(
    "f",
    [
        lambda a: mg.nn.functional.gelu(a),
        lambda a: mg.nn.functional.layer_norm(a, (2,)),
        lambda a: mg.nn.functional.cross_entropy(a, mg.tensor([0, 1, 0])),
        lambda a: mg.nn.functional.conv1d(a[None], mg.ones(2, 3, 2, dtype=mg.float64)),
        lambda a: mg.nn.functional.max_pool1d(a[None], 2),
        lambda a: mg.nn.functional.pad(a, (1, 0)),
        lambda a: mg.nn.functional.embedding(mg.tensor([1, 2, 1]), a),
    ],
    ids=["gelu", "layer_norm", "cross_entropy", "conv", "pool", "pad", "embedding"],
)
def test_network_functions_equal_a_loop_with_gradients(f):
    def run(apply):
        x = mg.tensor(X, requires_grad=True)
        out = apply(x)
        (out * out).sum().backward()
        return out, x.grad

    same(run(mg.vmap(f)), run(lambda x: mg.stack([f(x[i]) for i in range(4)])))


def test_the_argument_is_changed_in_place_outside_too():
    x = mg.tensor(X)
    mg.vmap(lambda a: a.mul_(2))(x)
    np.testing.assert_array_equal(x.numpy(), 2 * X)


def test_gradients_flow_to_views_written_inside():
    def run(m):
        x = m.tensor(X, requires_grad=True)
        out, row = m.vmap(lambda a: written(m, a * 1))(x)
        ((out**2).sum() + row.sum()).backward()
        return out, x.grad

    same(run(mg), run(torch))


def test_in_place_operations_keep_what_they_saved_on_both_tapes():
    def f(a):
        h = a * 2
        h.mul_(h)
        h[0].mul_(a[1])
        return h.sum()

    x = mg.tensor(X)
    expected = 8 * X
    expected[:, 0] = 8 * X[:, 0] * X[:, 1]
    expected[:, 1] += 4 * X[:, 0] ** 2
    inside = mg.vmap(mg.func.grad(f))(x)
    outside = mg.func.grad(lambda a: mg.vmap(f)(a).sum())(x)
    np.testing.assert_allclose(inside.numpy(), expected)
    np.testing.assert_allclose(outside.numpy(), expected)


def test_random_numbers_differ_between_examples_or_not_as_asked():
    x = mg.zeros(3, 4)
    mg.manual_seed(0)
    different = mg.vmap(lambda a: a + mg.rand(4), randomness="different")(x)
    mg.manual_seed(0)
    np.testing.assert_array_equal(different.numpy(), mg.rand(3, 4).numpy())
    mg.manual_seed(0)
    equal = mg.vmap(lambda a: a + mg.rand(4), randomness="same")(x)
    mg.manual_seed(0)
    np.testing.assert_array_equal(equal.numpy(), np.tile(mg.rand(4).numpy(), (3, 1)))


def test_randomness_of_nested_vmaps_is_each_its_own():
    x = mg.zeros(2, 3, 4)
    inner = mg.vmap(lambda a: a + mg.rand(4), randomness="same")
    out = mg.vmap(inner, randomness="different")(x).numpy()
    assert (out[:, 0] == out[:, 1]).all() and (out[0] != out[1]).all()
    inner = mg.vmap(lambda a: a + mg.rand(4), randomness="different")
    out = mg.vmap(inner, randomness="same")(x).numpy()
    assert (out[0] == out[1]).all() and (out[:, 0] != out[:, 1]).all()


def test_dropout_draws_for_each_example():
    out = mg.vmap(lambda a: mg.nn.functional.dropout(a, 0.5), randomness="different")(
        mg.ones(64, 8)
    )
    assert len({tuple(r) for r in out.tolist()}) > 32


def test_random_operations_are_an_error_by_default():
    with pytest.raises(BatchError) as error:
        mg.vmap(lambda a: a + mg.rand(4))(mg.zeros(3, 4))
    assert str(error.value) == "vmap: a random operation was called inside vmap"
    assert 'hint: give vmap randomness="different" or randomness="same"' in render(error.value)


@pytest.mark.parametrize(
    ("use", "operation"),
    [
        (lambda a: 1 if a.sum() > 0 else 2, "bool"),
        (lambda a: a.sum().item(), "item"),
        (lambda a: a.numpy(), "numpy"),
        (lambda a: a.tolist(), "tolist"),
        (lambda a: float(a.sum()), "item"),
        (lambda a: mg.tensor(a), None),
    ],
)
def test_reading_elements_is_a_clear_error(use, operation):
    def f(a):
        use(a)
        return a

    if operation is None:
        same(mg.vmap(f)(mg.tensor(X)), mg.tensor(X))
        return
    with pytest.raises(BatchError) as error:
        mg.vmap(f)(mg.tensor(X))
    assert str(error.value) == (
        f"{operation}: the elements of a batched tensor cannot be read inside vmap"
    )
    assert "hint: use mg.where instead of `if`" in render(error.value)


def test_a_batched_tensor_prints():
    seen = []
    mg.vmap(lambda a: seen.append(repr(a)) or a)(mg.tensor([1.0, 2.0]))
    assert seen == ["tensor(batched, level=1, dim=0, value=tensor([1., 2.]))"]


def test_a_tensor_that_outlives_its_vmap_says_so():
    kept = []
    mg.vmap(lambda a: kept.append(a) or a)(mg.tensor(X))
    with pytest.raises(BatchError) as error:
        kept[0] + 1
    assert str(error.value) == "add: a tensor made inside vmap was kept after it ended"


def test_writing_a_batched_value_into_a_tensor_of_the_outside_says_so():
    state = mg.zeros(3, 2)
    with pytest.raises(BatchError) as error:
        mg.vmap(lambda a: state.add_(a))(mg.tensor(X.astype(np.float32)))
    assert str(error.value) == (
        "add_: a tensor that vmap batches cannot be written into one that it does not"
    )
    assert (state == 0).all()


def test_backward_into_a_leaf_of_the_outside_says_so():
    w = mg.tensor(X[0], requires_grad=True)
    with pytest.raises(GradError, match="does not require a gradient"):
        mg.vmap(lambda a: (a * w).sum().backward() or a)(mg.tensor(X))


def test_an_operation_without_a_rule_is_named():
    @dataclasses.dataclass(frozen=True)
    class Strange(Opaque):
        name = "strange"

        def infer(self, x):
            return Aval(x.shape, x.dtype)

        def reference(self, x):
            return x

    with pytest.raises(BatchError) as error:
        mg.vmap(lambda a: Strange()(a))(mg.tensor(X))
    assert str(error.value) == "strange: this operation has no rule for vmap"


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda x: mg.vmap(3), ArgumentTypeError, "vmap: expected a function, got int"),
        (
            lambda x: mg.vmap(lambda a: a, in_dims=None)(x),
            ArgumentError,
            "vmap: no argument is mapped: in_dims are all None",
        ),
        (
            lambda x: mg.vmap(lambda a: a, in_dims=3)(x),
            ArgumentError,
            "vmap: in_dims 3 is out of range for an argument of shape (4, 3, 2)",
        ),
        (
            lambda x: mg.vmap(lambda a, b: a, (0, 1))(x, x),
            ArgumentError,
            "vmap: the mapped axes have different sizes: axis 0 of (4, 3, 2), axis 1 of (4, 3, 2)",
        ),
        (
            lambda x: mg.vmap(lambda a, b: a, (0, 0, 0))(x, x),
            ArgumentError,
            "vmap: in_dims must be an int, None, or a tree of them that fits the arguments; "
            "(0, 0, 0) does not fit a tuple of length 2",
        ),
        (
            lambda x: mg.vmap(lambda a, k: a, (0, 0))(x, 3),
            ArgumentTypeError,
            "vmap: in_dims 0 for an argument that is no tensor but int",
        ),
        (
            lambda x: mg.vmap(lambda a: 3.0)(x),
            ArgumentTypeError,
            "vmap: the function must return tensors, got float",
        ),
        (
            lambda x: mg.vmap(lambda a: a, out_dims=3)(x),
            ArgumentError,
            "vmap: out_dims 3 is out of range for an output of shape (3, 2)",
        ),
        (
            lambda x: mg.vmap(lambda a: a, out_dims=(0, 0))(x),
            ArgumentError,
            "vmap: out_dims must be an int, None, or a tree of them that fits the outputs; "
            "(0, 0) does not fit a Tensor",
        ),
        (
            lambda x: mg.vmap(lambda a: a, out_dims=None)(x),
            ArgumentError,
            "vmap: out_dims None for an output that differs along the batch",
        ),
        (
            lambda x: mg.vmap(lambda a: a, randomness="some"),
            ArgumentError,
            'vmap: randomness must be "error", "different" or "same", got \'some\'',
        ),
        (
            lambda x: mg.vmap(lambda a: a, chunk_size=0),
            ArgumentError,
            "vmap: chunk_size must be a positive int, got 0",
        ),
        (
            lambda x: mg.vmap(lambda a: a + mg.ones(7))(x),
            ShapeError,
            "add: shapes (3, 2) and (7,) do not broadcast: dimension -1 is 2 in one and 7 in "
            "another",
        ),
    ],
)
def test_errors_say_what_was_expected(call, kind, message):
    with pytest.raises(kind) as error:
        call(mg.tensor(X))
    assert str(error.value) == message


def test_an_error_inside_leaves_no_vmap_behind():
    with pytest.raises(ZeroDivisionError):
        mg.vmap(lambda a: a / (1 // 0))(mg.tensor(X))
    from monograph.core.modes import modes

    assert modes.vmap is None


def test_captured_functions_may_use_vmap():
    x = X.astype(np.float32)

    @mg.jit
    def f(a):
        b = a * 2
        return mg.vmap(lambda r: written(mg, r)[0] @ mg.ones(2))(b)

    np.testing.assert_allclose(f(mg.tensor(x)).numpy(), f.function(mg.tensor(x)).numpy(), rtol=1e-5)
