"""Views and in-place operations: long random programs, line by line as PyTorch runs them."""

import random

import numpy as np
import pytest

import monograph as mg
from monograph.core.errors import GradError, ShapeError
from monograph.ir.evaluate import evaluate
from monograph.transform.trace import trace_graph

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests")


def view_ops(r, shape):
    """Random view expressions that fit `shape`, as functions of (module, tensor)."""
    n = len(shape)
    found = [lambda m, x: x.unsqueeze(-1), lambda m, x: x[...], lambda m, x: x.flatten()]
    if n:
        d, e = r.randrange(n), r.randrange(n)
        size = shape[d]
        found.append(lambda m, x: x.transpose(d, e))
        found.append(lambda m, x: x.squeeze())
        found.append(lambda m, x: x[None])
        found.append(lambda m, x: x.reshape(-1))
        found.append(lambda m, x: x.movedim(d, e))
        if size:
            i, step = r.randrange(-size, size), r.choice([1, 2, 3])
            lo = r.randrange(size)
            found.append(lambda m, x: x.select(d, i))
            found.append(lambda m, x: x[(slice(None),) * d + (slice(lo, None, step),)])
            found.append(lambda m, x: x.narrow(d, lo, size - lo))
            found.append(lambda m, x: x.unfold(d, lo + 1, lo + 1))
            found.append(lambda m, x: x[(Ellipsis, i) + (slice(None),) * (n - d - 1)])
        if size % 2 == 0:
            found.append(lambda m, x: x.unflatten(d, (2, -1)))
    if n >= 2:
        off = r.choice([-1, 0, 1])
        found.append(lambda m, x: x.diagonal(off, 0, 1))
        found.append(lambda m, x: x.mT)
        found.append(lambda m, x: x.permute(*reversed(range(n))))
    return found


def in_place_ops(r, shape, seed):
    """Random in-place statements on a tensor of `shape`."""
    values = np.random.default_rng(seed).uniform(0.5, 1.5, shape).round(3)
    mask = np.random.default_rng(seed).uniform(size=shape) < 0.4

    def of(m):
        return m.tensor(values)

    def set_where(m, x):
        x[m.tensor(mask)] = 0.25

    def set_all(m, x):
        x[...] = of(m)

    found = [
        lambda m, x: x.add_(0.5),
        lambda m, x: x.mul_(of(m)),
        lambda m, x: x.sub_(of(m), alpha=0.5),
        lambda m, x: x.div_(1.25),
        lambda m, x: x.copy_(of(m)),
        lambda m, x: x.fill_(0.75),
        lambda m, x: x.masked_fill_(m.tensor(mask), 2.0),
        set_where,
        set_all,
    ]
    if shape and shape[0] > 1:
        rows = [0, shape[0] - 1]

        def set_rows(m, x):
            x[rows] = of(m)[:1]

        def set_slice(m, x):
            x[1:] = of(m)[:-1]

        found += [set_rows, set_slice]
    return found


def equal(mine, theirs, what):
    np.testing.assert_allclose(
        np.asarray(mine.detach().numpy()), theirs.detach().numpy(), rtol=1e-9, err_msg=what
    )


def start_of(seed):
    shape = random.Random(seed).choice([(4,), (2, 3), (4, 4), (2, 3, 4), (3, 1, 2)])
    return np.random.default_rng(seed).uniform(0.5, 1.5, shape).round(3)


def program(seed, m, leaf, with_no_grad=True):
    """Run the random program `seed` on `leaf`; yields all tensors made so far after each step.

    What it does depends on shapes only: so both libraries do the same.
    """
    r = random.Random(seed + 1)
    made = [leaf * 2]
    for step in range(r.randrange(6, 22)):
        x = r.choice(made)
        kind = r.random()
        if kind < 0.4:
            made.append(r.choice(view_ops(r, tuple(x.shape)))(m, x))
        elif kind < 0.75:
            r.choice(in_place_ops(r, tuple(x.shape), seed + step))(m, x)
        elif kind < 0.85:
            other = r.choice([y for y in made if tuple(y.shape) == tuple(x.shape)])
            x.mul_(other.clone())
        elif kind < 0.95 or not with_no_grad:
            made.append(r.choice(made) * 1.5)
        else:
            with m.no_grad():
                x.add_(1.0)
        yield step, made


def pick(seed, made):
    """Some of the tensors that require a gradient, and a cotangent for each."""
    r = random.Random(seed + 2)
    used = [x for x in r.sample(made, min(3, len(made))) if x.requires_grad]
    return used, [
        np.random.default_rng(seed + i).uniform(size=tuple(x.shape)) for i, x in enumerate(used)
    ]


def gradient_in_torch(seed, leaf, made):
    """The leaf's gradient, or None where PyTorch refuses (it keeps less than we do)."""
    used, cotangents = pick(seed, made)
    if not used:
        return None
    try:
        torch.autograd.backward(used, [torch.tensor(c) for c in cotangents])
    except RuntimeError as error:
        assert "modified by an inplace operation" in str(error)
        return None
    return leaf.grad


def run_program(seed, with_grad):
    """Compare step by step; 1 if gradients could be compared too."""
    data = start_of(seed)
    theirs = torch.tensor(data, requires_grad=with_grad)
    mine = mg.tensor(data, requires_grad=with_grad)
    steps = zip(program(seed, torch, theirs), program(seed, mg, mine))
    for (step, expected), (_, got) in steps:
        assert len(got) == len(expected)
        for i, (a, b) in enumerate(zip(expected, got)):
            what = f"program {seed}, step {step}, tensor {i}"
            assert tuple(a.shape) == tuple(b.shape), what
            equal(b, a, what)
            assert a.requires_grad == b.requires_grad, what
    if not with_grad:
        return 0
    grad = gradient_in_torch(seed, theirs, expected)
    if grad is None:
        return 0
    used, cotangents = pick(seed, got)
    mg.autograd.backward(used, [mg.tensor(c) for c in cotangents])
    equal(mine.grad, grad, f"gradient of program {seed}")
    return 1


@pytest.mark.parametrize("block", range(10))
def test_random_programs_of_views_and_writes_match_torch(block):
    for seed in range(block * 30, block * 30 + 30):
        run_program(seed, with_grad=False)


@pytest.mark.parametrize("block", range(10))
def test_random_programs_with_gradients_match_torch(block):
    compared = 0
    for seed in range(1000 + block * 30, 1000 + block * 30 + 30):
        compared += run_program(seed, with_grad=True)
    assert compared > 10


@pytest.mark.parametrize("block", range(6))
def test_random_programs_mean_the_same_when_captured(block):
    for seed in range(2000 + block * 20, 2000 + block * 20 + 20):
        data = start_of(seed)
        leaf = torch.tensor(data)
        for _, expected in program(seed, torch, leaf):  # noqa: B007
            pass

        def captured(x, seed=seed):
            for _, made in program(seed, mg, x):  # noqa: B007
                pass
            return made

        graph, _ = trace_graph(captured, mg.tensor(data))
        for i, (a, b) in enumerate(zip(evaluate(graph, data), expected)):
            np.testing.assert_allclose(a, b.numpy(), rtol=1e-9, err_msg=f"program {seed}, {i}")


@pytest.mark.parametrize("block", range(6))
def test_gradients_of_captured_programs_match_torch(block):
    compared = 0
    for seed in range(3000 + block * 20, 3000 + block * 20 + 20):
        data = start_of(seed)
        leaf = torch.tensor(data, requires_grad=True)
        for _, made in program(seed, torch, leaf, with_no_grad=False):  # noqa: B007
            pass
        expected = gradient_in_torch(seed, leaf, made)
        if expected is None:
            continue

        def captured(x, seed=seed):
            x = x.detach().requires_grad_()
            for _, made in program(seed, mg, x, with_no_grad=False):  # noqa: B007
                pass
            used, cotangents = pick(seed, made)
            return mg.autograd.grad(used, x, [mg.tensor(c) for c in cotangents])[0]

        graph, _ = trace_graph(captured, mg.tensor(data))
        (got,) = evaluate(graph, data)
        np.testing.assert_allclose(got, expected.numpy(), rtol=1e-9, err_msg=f"program {seed}")
        compared += 1
    assert compared > 6


@pytest.mark.parametrize("seed", [5002, 5005, 5007, 5014, 5022, 5031, 5040])
def test_compiled_programs_match_torch(seed):
    data = start_of(seed)
    for _, expected in program(seed, torch, torch.tensor(data)):  # noqa: B007
        pass

    @mg.jit
    def compiled(x):
        for _, made in program(seed, mg, x):  # noqa: B007
            pass
        return [m.clone() for m in made]

    for i, (a, b) in enumerate(zip(compiled(mg.tensor(data)), expected)):
        equal(a, b, f"program {seed}, tensor {i}")


def test_overwriting_a_value_that_backward_needs_is_found():
    w = mg.tensor([1.0, 2.0], requires_grad=True)
    h = w * 1
    y = w * h
    h.add_(1)
    with pytest.raises(GradError) as caught:
        y.backward(mg.ones(2))
    assert caught.value.message == (
        "backward: a value that mul needs was changed in place: float32 of shape (2,) is at "
        "version 1, version 0 was used"
    )
    v = mg.ones(4)
    y = w * v[:2]
    v[3:].zero_()  # another part of the same memory: PyTorch counts per memory as well
    with pytest.raises(GradError):
        y.backward(mg.ones(2))


def test_leaves_that_require_a_gradient_cannot_be_overwritten():
    w = mg.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(GradError) as caught:
        w.add_(1)
    assert caught.value.message == (
        "add_: a leaf that requires a gradient cannot be changed in place"
    )
    with pytest.raises(GradError) as caught:
        w[0] = 1.0
    assert caught.value.message == (
        "index assignment: a view of a leaf that requires a gradient cannot be changed in place"
    )
    with mg.no_grad():
        w[0] = 5.0
    assert w.tolist() == [5, 2] and w.is_leaf and w.requires_grad


def test_view_refuses_what_needs_a_copy_and_reshape_makes_it():
    x = mg.arange(6).view(2, 3).T
    with pytest.raises(ShapeError) as caught:
        x.view(6)
    assert caught.value.message == (
        "view: shape (3, 2) with strides (1, 3) cannot be read as (6,) without a copy"
    )
    assert x.reshape(6).tolist() == [0, 3, 1, 4, 2, 5]
    assert x.contiguous().view(6).tolist() == [0, 3, 1, 4, 2, 5]


@pytest.mark.parametrize("seed", range(200))
def test_view_accepts_the_shapes_that_torch_accepts(seed):
    r = random.Random(seed)
    shape = tuple(r.choice([1, 2, 3, 4]) for _ in range(r.randrange(1, 4)))
    t = torch.arange(int(np.prod(shape))).reshape(shape)
    m = mg.arange(int(np.prod(shape))).reshape(shape)
    for _ in range(r.randrange(3)):
        state = r.getstate()
        t = r.choice(view_ops(r, tuple(t.shape)))(torch, t)
        r.setstate(state)
        m = r.choice(view_ops(r, tuple(m.shape)))(mg, m)
    n = t.numel()
    if not n:
        return
    divisors = [d for d in range(1, n + 1) if n % d == 0]
    first = r.choice(divisors)
    target = (first, r.choice([d for d in divisors if n // max(first, 1) % d == 0]), -1)
    try:
        expected = t.view(target)
    except RuntimeError:
        with pytest.raises(ShapeError):
            m.view(target)
    else:
        assert m.view(target).tolist() == expected.tolist()
    assert m.is_contiguous() == t.is_contiguous()


def test_views_keep_their_memory_and_offsets():
    x = mg.arange(12).view(3, 4)
    assert x[1:, 2].storage_offset() == 6
    assert x[1:, 2].data_ptr() - x.data_ptr() == 6 * x.element_size()
    assert x[:, ::2].stride() == (4, 2)


def test_parts_share_memory_and_one_node_of_the_tape():
    w = mg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    a, b = (w * 1).unbind(0)
    (a * b).backward(mg.ones(2))
    assert w.grad.tolist() == [[3, 4], [1, 2]]
    x = mg.arange(4)
    first, second = x.chunk(2)
    first.add_(10)
    assert x.tolist() == [10, 11, 2, 3]


def test_as_strided_is_a_view_of_the_memory_behind():
    x = mg.arange(12.0).reshape(3, 4)
    windows = x.as_strided((5, 3), (2, 1))
    assert windows.tolist() == [[2 * i + j for j in range(3)] for i in range(5)]
    part = x[1:]
    assert part.as_strided((2,), (1,)).tolist() == [4, 5]
    assert part.as_strided((2,), (1,), 0).tolist() == [0, 1]
    part.as_strided((2,), (4,))[:] = -1.0
    assert x[:, 0].tolist() == [0, -1, -1]
    leaf = mg.arange(4.0).requires_grad_()
    leaf.as_strided((3, 2), (1, 1)).sum().backward()
    assert leaf.grad.tolist() == [1, 2, 2, 1]
    with pytest.raises(ValueError, match="as_strided: size .* reach element 12 of 12"):
        x.as_strided((13,), (1,))
