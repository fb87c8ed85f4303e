"""What becomes one kernel, what is written in place, and where intermediate results stand."""

import itertools

import numpy as np
import pytest

import monograph as mg
from monograph import nn, optim
from monograph.compiler.executable import compile_graph
from monograph.compiler.index import Index, NeedSplit, flat, loop_index, whole
from monograph.compiler.memory import ALIGNMENT, Need, plan_arena
from monograph.compiler.pipeline import plan, run_passes
from monograph.compiler.plan import HostStep
from monograph.compiler.steps import Step
from monograph.ir.evaluate import evaluate
from monograph.kernel.ir import Call, Const, Var
from monograph.nn import functional as F
from monograph.testing import random_program
from monograph.transform.trace import trace_graph


def steps_of(f, *tensors):
    """The steps that f becomes, after checking its values."""
    graph, _ = trace_graph(f, *tensors)
    executable = compile_graph(graph)
    arrays = [np.ascontiguousarray(t.numpy()) for t in tensors]
    outs = [np.empty(v.shape, v.dtype.numpy) for v in graph.outputs]
    executable.run(arrays, outs)
    for a, b in zip(outs, evaluate(graph, *arrays)):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    return executable.plan.steps


def ops_of(step):
    return {n.op.name for n in step.nodes}


X = mg.tensor(np.random.default_rng(0).standard_normal((48, 96)).astype(np.float32))
LABELS = mg.tensor(np.random.default_rng(1).integers(0, 96, 48))

ONE_KERNEL = {
    "softmax": lambda x: F.softmax(x, -1),
    "log_softmax": lambda x: F.log_softmax(x, -1),
    "softmax over columns": lambda x: F.softmax(x, 0),
    "layer norm": lambda x: F.layer_norm(x, (96,)),
    "layer norm with weight": lambda x: F.layer_norm(x, (96,), x[0], x[1]),
    "rms norm": lambda x: F.rms_norm(x, (96,)),
    "batch statistics": lambda x: (x - x.mean(0)) / (x.var(0) + 1e-5).sqrt(),
    "a chain": lambda x: ((x * 2 + 1).tanh().relu() - x.exp()).sigmoid() * x,
    "several results": lambda x: (x.exp(), x.exp() + 1, x.sum(1)),
    "movement": lambda x: (x.t().reshape(96, 6, 8).flip(1) + 1).permute(2, 0, 1),
    "where": lambda x: mg.where(x > 0, x, x * 0.1).clamp(max=1),
    "casts": lambda x: (x.to(mg.bfloat16) * 2).to(mg.float32) + x,
    "mean and variance": lambda x: (x.mean(1), x.var(1)),
}


@pytest.mark.parametrize("name", list(ONE_KERNEL))
def test_what_is_one_kernel(name):
    steps = steps_of(ONE_KERNEL[name], X)
    assert [type(s) for s in steps] == [Step], [getattr(s, "title", s) for s in steps]


def test_cross_entropy_checks_classes_and_is_one_row_kernel_and_a_mean():
    steps = steps_of(lambda x, t: F.cross_entropy(x, t, reduction="none"), X, LABELS)
    assert len(steps) == 2 and steps[0].kernel.name == "check_classes"
    steps = steps_of(F.cross_entropy, X, LABELS)
    assert len(steps) <= 3 and all(isinstance(s, Step) for s in steps)


def test_cross_entropy_with_its_gradient_reads_the_logits_in_few_kernels():
    def f(x, t):
        x = x.detach().requires_grad_()
        loss = F.cross_entropy(x, t)
        loss.backward()
        return loss, x.grad

    steps = steps_of(f, X, LABELS)
    assert len(steps) <= 4 and all(isinstance(s, Step) for s in steps)


def test_bias_and_activation_are_in_the_epilogue_of_a_product():
    w, b = mg.randn(40, 96) * 0.1, mg.randn(40)
    steps = steps_of(lambda x, w, b: F.linear(x, w, b).relu() * 2, X, w, b)
    assert not [s for s in steps if s.title.startswith(("map", "reduce"))]
    r = mg.randn(48, 40)
    steps = steps_of(lambda x, w, b, r: F.gelu(F.linear(x, w, b)) + r, X, w, b, r)
    assert not [s for s in steps if s.title.startswith(("map", "reduce"))]


def test_parallel_branches_have_epilogues_of_their_own():
    w, b = [mg.randn(40, 96) * 0.1 for _ in range(3)], mg.randn(40)

    def branches(x, b, *ws):
        return [F.relu(F.linear(x, w) + b) for w in ws]

    steps = [s for s in steps_of(branches, X, b, *w) if "pack" not in s.title]
    assert [s.title for s in steps] == ["contract"] * 3
    assert all(sum(k.written for k in s.kernel.buffers) == 1 for s in steps)


def test_random_numbers_are_drawn_in_loops_and_not_in_tiles():
    w, g = mg.randn(40, 96) * 0.1, mg.randn(48, 40)

    def with_gradient(x, w, g):
        w = w.detach().requires_grad_()
        y = F.dropout(F.relu(F.linear(x, w)), 0.3)
        y.backward(g)
        return y, w.grad

    def alone(x, w):
        return F.dropout(F.linear(x, w), 0.3)

    for f, inputs in ((with_gradient, (X, w, g)), (alone, (X, w))):
        steps = [row.step for row in mg.explain(f, *inputs, rounds=1).rows]
        products = [s for s in steps if s.title == "contract"]
        assert products and not [b for s in products for b in s.kernel.buffers if b.dtype == "i64"]
        masks = [s for s in steps if s.title == "map_ge"]
        assert len(masks) == (f is with_gradient)
        mg.manual_seed(3)
        eager = f(*inputs)
        mg.manual_seed(3)
        compiled = mg.jit(f)(*inputs)
        for a, b in zip(*((r,) if f is alone else r for r in (eager, compiled))):
            mg.testing.assert_close(a, b)


def test_joined_heads_are_read_where_they_stand():
    q, k, v, g = (mg.randn(2, 3, 20, 16) for _ in range(4))

    def joined(q, k, v, g):
        q, k, v = (x.detach().requires_grad_() for x in (q, k, v))
        F.scaled_dot_product_attention(q, k, v).backward(g)
        return mg.cat([x.grad.transpose(1, 2).reshape(2, 20, 48) for x in (q, k, v)], 2).exp()

    titles = [s.title for s in steps_of(joined, q, k, v, g)]
    assert not [t for t in titles if "reshape" in t or "permute" in t]


@pytest.mark.parametrize("name", ["gelu", "gelu by tanh", "silu"])
def test_an_activations_gradient_is_prepared_where_the_activation_is_made(name):
    form = {"gelu": F.gelu, "silu": F.silu}.get(name, lambda x: F.gelu(x, approximate="tanh"))

    def step(x, w, b, v, g):
        x, w, v = (t.detach().requires_grad_() for t in (x, w, v))
        y = F.linear(form(F.linear(x, w, b)), v)
        y.backward(g)
        return y, x.grad, w.grad, v.grad

    w, b, v, g = mg.randn(40, 96) * 0.1, mg.randn(40), mg.randn(24, 40) * 0.1, mg.randn(48, 24)
    steps = [s for s in steps_of(step, X, w, b, v, g) if "pack" not in s.title]
    assert {s.title for s in steps} == {"contract"}
    written = [x.shape for x, k in zip(steps[0].buffers, steps[0].kernel.buffers) if k.written]
    assert written == [(48, 40)] * 2  # the activation and the factor, and not what both are made of
    # Nobody reads the bias again, as what makes an activation anew must.
    assert [(40,) in [x.shape for x in s.buffers] for s in steps].count(True) == 1


def test_the_gradient_of_a_product_that_others_read_is_not_prepared():
    def step(x, w, v, g):
        x = x.detach().requires_grad_()
        h = F.linear(x, w)
        y = F.linear(F.silu(h), v)
        y.backward(g)
        return y, x.grad, h

    w, v, g = mg.randn(40, 96) * 0.1, mg.randn(24, 40) * 0.1, mg.randn(48, 24)
    steps = [s for s in steps_of(step, X, w, v, g) if "pack" not in s.title]
    shapes = [x.shape for s in steps for x, k in zip(s.buffers, s.kernel.buffers) if k.written]
    assert shapes.count((48, 40)) == 3  # h, its activation, the gradient


def test_what_comes_before_a_sum_is_in_the_epilogue_of_a_product():
    def gradients(x, w, h):
        g = F.linear(x, w)
        g = mg.where(h > 0, g, 0.0)
        return g, g.sum(0)

    w, h = mg.randn(40, 96) * 0.1, mg.randn(48, 40)
    product, *rest = (s for s in steps_of(gradients, X, w, h) if "pack" not in s.title)
    assert product.title == "contract" and any(v.shape == h.shape for v in product.buffers[2:])
    assert [ops_of(s) for s in rest] == [{"sum"}]

    def residual(x, w, r, scale):
        y = F.linear(x, w) + r
        return y, F.layer_norm(y, (40,), scale)

    steps = steps_of(residual, X, w, h, mg.randn(40))
    assert "add" not in ops_of(steps[-1]) and h.shape in [v.shape for v in steps[-2].buffers[2:]]

    # What a sum needs alone would have to be stored for it: the product is.
    steps = steps_of(lambda x, w, h: (F.linear(x, w) * h).sum(0), X, w, h)
    assert ops_of(steps[-1]) == {"sum"} and steps[-1].kernel.name == "reduce_sum"


def test_bias_and_activation_are_in_the_epilogue_of_a_convolution():
    x, w, b = mg.randn(2, 8, 10, 10), mg.randn(16, 8, 3, 3) * 0.1, mg.randn(16)

    def count(f):
        return len([s for s in steps_of(f, x, w, b) if s.title.startswith("map")])

    bare = count(lambda x, w, b: F.conv2d(x, w, padding=1))
    assert count(lambda x, w, b: F.conv2d(x, w, b, padding=1).relu()) == bare


@pytest.mark.parametrize(
    "make",
    [
        lambda p: optim.SGD(p, lr=0.1),
        lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
        lambda p: optim.AdamW(p, lr=0.1),
    ],
)
def test_optimizers_write_in_place_without_copies(make):
    net = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 8))
    optimizer = make(net.parameters())
    x, y = mg.randn(16, 32), mg.arange(16) % 8

    @mg.jit
    def step():
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()

    places = [p.detach().numpy().ctypes.data for p in net.parameters()]
    for _ in range(3):
        step()
    assert places == [p.detach().numpy().ctypes.data for p in net.parameters()]
    for variants in step.captures.values():
        e = variants[-1].executable
        copied = [v for _, v in e.extra if v.aval.size > 1]
        assert not copied, copied
        written = [o for o in e.donate if e.graph.outputs[o].aval.size > 1]
        assert len(written) >= 4
        assert not e.has_host_steps


# In place


def donated(seed):
    """A random program, and which results overwrite which inputs."""
    program = random_program(seed, steps=9)
    graph, _ = trace_graph(program, *program.tensors())
    donate, taken = {}, set()
    for o, v in enumerate(graph.outputs):
        for i, u in enumerate(graph.inputs):
            if i not in taken and u.aval == v.aval:
                donate[o] = i
                taken.add(i)
                break
    return graph, program.arrays, donate


SEEDS = [s for s in range(600, 760) if donated(s)[2]]


@pytest.mark.parametrize("block", range(4))
def test_results_written_over_inputs_are_the_same(block):
    assert len(SEEDS) >= 40
    for seed in SEEDS[block:40:4]:
        graph, arrays, donate = donated(seed)
        expected = evaluate(graph, *arrays)
        inputs = [np.array(a) for a in arrays]
        outs = [
            inputs[donate[o]] if o in donate else np.empty(v.shape, v.dtype.numpy)
            for o, v in enumerate(graph.outputs)
        ]
        compile_graph(graph, donate).run(inputs, outs)
        for a, b in zip(outs, expected):
            np.testing.assert_allclose(a, b, rtol=3e-4, atol=3e-5, err_msg=f"seed {seed}")


@pytest.mark.parametrize("name, update", [
    ("cumulated", lambda s: s.cumsum(0)),
    ("turned", lambda s: s.t()),
    ("turned over", lambda s: s.flip(1) + s),
    ("normalised", lambda s: F.softmax(s, 1)),
    ("centred", lambda s: s - s.mean(0)),
    ("multiplied", lambda s: s @ s),
    ("multiplied and added", lambda s: s - 0.1 * (s @ s.t())),
    ("sorted", lambda s: s.sort(1)[0]),
    ("gathered", lambda s: s[mg.tensor([1, 0, 3, 2, 5, 4, 7, 6])]),
    ("shifted", lambda s: mg.cat([s[1:], s[:1]])),
    ("attended", lambda s: F.scaled_dot_product_attention(s[None], s[None], s[None])[0]),
])  # fmt: skip
def test_state_updated_from_itself(name, update):
    start = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    mine, other = mg.tensor(start), mg.tensor(start)
    f = mg.jit(lambda: (mine.copy_(update(mine)), None)[1])
    for _ in range(3):
        f()
        other = update(other)
        np.testing.assert_allclose(mine.numpy(), other.numpy(), rtol=1e-4, atol=1e-5)


# Memory


@pytest.mark.parametrize("seed", range(30))
def test_live_buffers_never_overlap(seed):
    rng = np.random.default_rng(seed)
    needs = []
    for k in range(int(rng.integers(1, 60))):
        first = int(rng.integers(0, 40))
        size = int(rng.choice([0, 1, 63, 64, 65, 1000, 4096, 100000]))
        needs.append(Need(k, size, first, first + int(rng.integers(0, 12))))
    offsets, total = plan_arena(needs)
    assert set(offsets) == {n.key for n in needs}
    for n in needs:
        assert offsets[n.key] % ALIGNMENT == 0
        assert 0 <= offsets[n.key] and offsets[n.key] + n.size_bytes <= total
    for a, b in itertools.combinations(needs, 2):
        if a.first <= b.last and b.first <= a.last:
            x, y = offsets[a.key], offsets[b.key]
            assert x + max(a.size_bytes, 1) <= y or y + max(b.size_bytes, 1) <= x
    at_once = max(
        sum(-(-n.size_bytes // ALIGNMENT) * ALIGNMENT for n in needs if n.first <= t <= n.last)
        for t in range(60)
    )
    assert total >= at_once


def test_dead_buffers_are_used_again():
    needs = [Need(k, 1 << 20, k, k + 1) for k in range(20)]
    assert plan_arena(needs)[1] == 2 << 20
    assert plan_arena([])[1] == 0


@pytest.mark.parametrize("seed", range(20))
def test_a_programs_arena_is_planned_for_what_lives_together(seed):
    program = random_program(800 + seed, steps=16)
    graph, _ = trace_graph(program, *program.tensors())
    e = compile_graph(graph)
    lives = {}
    for at, step in enumerate(e.plan.steps):
        if isinstance(step, HostStep):
            continue
        for b in step.buffers:
            if b in e.plan.offsets:
                lives.setdefault(b, []).append(at)
    for a, b in itertools.combinations(lives, 2):
        if lives[a][0] <= lives[b][-1] and lives[b][0] <= lives[a][-1]:
            x, y = e.plan.offsets[a], e.plan.offsets[b]
            sizes = [v.aval.size * v.dtype.itemsize if hasattr(v, "aval") else 1 for v in (a, b)]
            assert x + sizes[0] <= y or y + sizes[1] <= x


def test_a_deep_network_needs_the_memory_of_a_few_layers():
    layers = [nn.Linear(256, 256) for _ in range(12)]

    def f(x):
        for layer in layers:
            x = layer(x).relu()
        return x

    graph, _ = trace_graph(f, mg.zeros(512, 256))
    p = compile_graph(graph).plan
    hidden = 512 * 256 * 4
    assert p.arena_bytes < 5 * hidden


def test_plans_do_not_depend_on_anything_but_the_graph():
    def titles():
        graph, _ = trace_graph(lambda x: F.softmax(F.layer_norm(x, (96,)) @ x.t(), -1), X)
        return [s.title for s in plan(run_passes(graph)).steps]

    assert titles() == titles()


# Index arithmetic


def value(e, env):
    """An index expression's value."""
    if isinstance(e, Index):
        e = e.expr()
    if isinstance(e, Const):
        return e.value
    if isinstance(e, Var):
        return env[e.name]
    assert isinstance(e, Call), e
    args = [value(a, env) for a in e.args]
    return {
        "add": lambda a, b: a + b,
        "sub": lambda a, b: a - b,
        "mul": lambda a, b: a * b,
        "div": lambda a, b: a // b,
        "rem": lambda a, b: a % b,
        "ge": lambda a, b: a >= b,
        "lt": lambda a, b: a < b,
        "neg": lambda a: -a,
    }[e.op](*args)


def environments(sizes):
    for point in itertools.product(*(range(n) for n in sizes.values())):
        yield dict(zip(sizes, point))


@pytest.mark.parametrize("seed", range(60))
def test_index_arithmetic_by_brute_force(seed):
    rng = np.random.default_rng(seed)
    sizes = {name: int(rng.choice([1, 2, 3, 4, 6, 8])) for name in "abc"}
    index = flat(
        tuple(loop_index(n, s) for n, s in sizes.items()),
        tuple(int(c) for c in rng.integers(-3, 9, 3)),
    )
    meaning = [value(index.expr(), env) for env in environments(sizes)]
    for _ in range(4):
        n = int(rng.choice([1, 2, 3, 4, 5, 8, 12]))
        kind = int(rng.integers(6))
        try:
            if kind == 0:
                index, meaning = index // n, [m // n for m in meaning]
            elif kind == 1:
                index, meaning = index % n, [m % n for m in meaning]
            elif kind == 2:
                index, meaning = index * n, [m * n for m in meaning]
            elif kind == 3:
                index, meaning = index - n, [m - n for m in meaning]
            elif kind == 4:
                index, meaning = n - index, [n - m for m in meaning]
            else:
                other = loop_index("a", sizes["a"]) * n + index
                at = [env["a"] for env in environments(sizes)]
                index, meaning = other, [m + n * a for m, a in zip(meaning, at)]
        except NeedSplit as need:
            assert need.name in sizes and sizes[need.name] % need.inner == 0
            assert 1 < need.inner < sizes[need.name]
            index = whole(index)
            continue
        found = [value(index.expr(), env) for env in environments(sizes)]
        assert found == meaning, index
        assert index.low <= min(meaning) and max(meaning) <= index.high
        for name in sizes:
            step = index.coefficient(name)
            if step is not None:
                for env, m in zip(environments(sizes), meaning):
                    if env[name]:
                        before = value(index.expr(), {**env, name: env[name] - 1})
                        assert m - before == step


def test_divisions_that_ranges_resolve():
    h, d = loop_index("h", 5), loop_index("d", 4)
    assert (4 * h + d) // 4 == h
    assert (4 * h + d) % 4 == d
    assert (4 * h + d + 8) // 4 == h + 2
    with pytest.raises(NeedSplit, match="split x by 4") as caught:
        loop_index("x", 20) // 4
    assert (caught.value.name, caught.value.inner) == ("x", 4)
    assert whole(loop_index("x", 20)).high == 19


def test_masks_that_are_always_true_disappear():
    i = loop_index("i", 5)
    assert (i >= 0) == Const(True, "bool") == (i < 5)
    assert value(i < 3, {"i": 2}) is True and value(i < 3, {"i": 3}) is False
    assert isinstance(Index((), 3), Index)


def rows(f, *args):
    compiled = mg.jit(f)(*args)
    return [x.numpy() for x in (compiled if isinstance(compiled, tuple) else (compiled,))]


@pytest.mark.parametrize("shape", [(3, 70), (5, 7, 33), (2, 1, 1), (4, 300), (2, 70000)], ids=str)
@pytest.mark.parametrize("dim", [-1, (0, -1)], ids=str)
def test_values_kept_for_a_later_stage_of_a_row(shape, dim):
    x = np.random.default_rng(0).standard_normal(shape)

    def f(x):
        e = mg.exp(x - x.amax(dim, keepdim=True))
        t = mg.tanh(e / e.sum(dim, keepdim=True))
        return t / t.sum(dim, keepdim=True), e.sum(dim)

    axes = dim if isinstance(dim, tuple) else (dim,)
    e = np.exp(x - x.max(axes, keepdims=True))
    t = np.tanh(e / e.sum(axes, keepdims=True))
    made = rows(f, mg.tensor(x))
    np.testing.assert_allclose(made[0], t / t.sum(axes, keepdims=True), rtol=1e-12)
    np.testing.assert_allclose(made[1], e.sum(axes), rtol=1e-12)


def test_large_exponentials_are_made_again_rather_than_stored():
    mg.manual_seed(0)
    logits, target = mg.randn(600, 8000), mg.randint(0, 8000, (600,))

    def f(x):
        return mg.func.grad(lambda x: F.cross_entropy(x, target))(x)

    p = F.softmax(logits, -1).numpy()
    p[np.arange(600), target.numpy()] -= 1
    np.testing.assert_allclose(rows(f, logits)[0], p / 600, atol=1e-8, rtol=1e-4)
    plan = mg.explain(f, logits, time=False)
    wide = [line for line in str(plan).splitlines() if "-> f32[600, 8000]" in line]
    assert len(wide) == 1  # the gradient, and no exponentials
