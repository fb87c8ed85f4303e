"""Views and in-place operations: long random programs, line by line as PyTorch runs them."""

import random

import numpy as np
import pytest

import monograph as mg

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


def run_program(seed, with_grad):
    r = random.Random(seed)
    shape = r.choice([(4,), (2, 3), (4, 4), (2, 3, 4), (3, 1, 2)])
    start = np.random.default_rng(seed).uniform(0.5, 1.5, shape).round(3)
    leaves = (
        torch.tensor(start, requires_grad=with_grad),
        mg.tensor(start, requires_grad=with_grad),
    )
    pairs = [(leaves[0] * 2, leaves[1] * 2)]
    for step in range(r.randrange(6, 22)):
        t, m = r.choice(pairs)
        kind = r.random()
        what = f"program {seed}, step {step}"
        if kind < 0.4:
            f = r.choice(view_ops(r, tuple(t.shape)))
            pairs.append((f(torch, t), f(mg, m)))
            assert tuple(pairs[-1][1].shape) == tuple(pairs[-1][0].shape), what
        elif kind < 0.75:
            f = r.choice(in_place_ops(r, tuple(t.shape), seed + step))
            f(torch, t)
            f(mg, m)
        elif kind < 0.85:
            others = [p for p in pairs if p[0].shape == t.shape]
            t2, m2 = r.choice(others)
            t2, m2 = t2.clone(), m2.clone()
            t.mul_(t2)
            m.mul_(m2)
        elif kind < 0.95:
            t2, m2 = r.choice(pairs)
            pairs.append((t2 * 1.5, m2 * 1.5))
        else:
            with torch.no_grad():
                t.add_(1.0)
            with mg.no_grad():
                m.add_(1.0)
        for i, (a, b) in enumerate(pairs):
            equal(b, a, f"{what}, tensor {i}")
            assert a.requires_grad == b.requires_grad, f"{what}, tensor {i}"
    if not with_grad:
        return
    used = [p for p in r.sample(pairs, min(3, len(pairs))) if p[0].requires_grad]
    if not used:
        return
    weights = [np.random.default_rng(seed + i).uniform(size=tuple(a.shape)) for i, (a, _) in
               enumerate(used)]  # fmt: skip
    try:
        torch.autograd.backward([a for a, _ in used], [torch.tensor(w) for w in weights])
    except RuntimeError as error:
        assert "modified by an inplace operation" in str(error)
        return
    mg.autograd.backward([b for _, b in used], [mg.tensor(w) for w in weights])
    assert (leaves[0].grad is None) == (leaves[1].grad is None)
    if leaves[0].grad is not None:
        equal(leaves[1].grad, leaves[0].grad, f"gradient of program {seed}")


@pytest.mark.parametrize("block", range(10))
def test_random_programs_of_views_and_writes_match_torch(block):
    for seed in range(block * 30, block * 30 + 30):
        run_program(seed, with_grad=False)


@pytest.mark.parametrize("block", range(10))
def test_random_programs_with_gradients_match_torch(block):
    for seed in range(1000 + block * 30, 1000 + block * 30 + 30):
        run_program(seed, with_grad=True)
