"""Captured programs give the same bits for any number of threads, in any run and process."""

import os
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest

import monograph as mg
from monograph import nn, optim
from monograph.nn import functional as F
from monograph.runtime.threads import get_num_threads, set_num_threads


@contextmanager
def threads(count):
    before = get_num_threads()
    set_num_threads(count)
    try:
        yield
    finally:
        set_num_threads(before)


def bits(tensors):
    return [np.ascontiguousarray(t.detach().numpy()).tobytes() for t in tensors]


def randn(*shape, seed=0):
    rng = np.random.default_rng((seed, *shape))
    return mg.tensor(rng.standard_normal(shape, dtype=np.float32))


def integers(high, *shape):
    return mg.tensor(np.random.default_rng(shape).integers(0, high, shape))


def with_gradients(f, *tensors):
    def run(*args):
        args = [a.detach().requires_grad_() if a.dtype.is_floating_point else a for a in args]
        outs = f(*args)
        outs = outs if isinstance(outs, tuple) else (outs,)
        loss = sum((o * o.detach().cos()).sum() for o in outs if o.requires_grad)
        loss.backward()
        return *outs, *(a.grad for a in args if a.grad is not None)

    return run, tensors


def plain(f, *tensors):
    return f, tensors


# Sizes beyond what one thread computes alone, and not multiples of any tile.
FAMILIES = {
    "elementwise": lambda: plain(lambda x: (x.exp() * 2 + x.tanh()).sigmoid(), randn(517, 301)),
    "rows": lambda: with_gradients(lambda x: F.layer_norm(x.softmax(-1), (301,)), randn(517, 301)),
    "columns": lambda: plain(lambda x: (x.sum(0), x.mean(0), x.amax(0), x.var(0)), randn(2051, 67)),
    "split reductions": lambda: plain(
        lambda x: (x.sum(), (x * x).sum(), x.mean(), x.sum(0).sum()), randn(1023, 517)
    ),
    "long rows": lambda: plain(lambda x: (x.sum(1), x.softmax(1), x.logsumexp(1)), randn(3, 90001)),
    "gemm": lambda: with_gradients(
        lambda x, w, b: F.gelu(x @ w + b), randn(257, 193), randn(193, 311), randn(311)
    ),
    "gemm of little output": lambda: plain(
        lambda x, y: x.t() @ y, randn(20011, 7), randn(20011, 5)
    ),
    "gemm in batches": lambda: with_gradients(
        lambda x, y: x @ y, randn(13, 37, 53), randn(13, 53, 41)
    ),
    "products with vectors": lambda: plain(lambda x, v: x @ v, randn(1531, 517), randn(517)),
    "convolution": lambda: with_gradients(
        lambda x, w, b: F.conv2d(x, w, b, padding=1).relu(),
        randn(4, 5, 29, 31), randn(19, 5, 3, 3), randn(19),
    ),
    "strided convolution": lambda: with_gradients(
        lambda x, w: F.conv2d(x, w, stride=2, padding=2), randn(3, 7, 33, 30), randn(9, 7, 5, 5)
    ),
    "convolution in groups": lambda: with_gradients(
        lambda x, w: F.conv2d(x, w, padding=1, groups=6), randn(3, 6, 21, 19), randn(12, 1, 3, 3)
    ),
    "attention": lambda: with_gradients(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        randn(2, 3, 97, 16), randn(2, 3, 97, 16, seed=1), randn(2, 3, 97, 16, seed=2),
    ),
    "pooling": lambda: with_gradients(
        lambda x: (F.max_pool2d(x, 3, 2), F.avg_pool2d(x, 2)), randn(5, 7, 41, 43)
    ),
    "gather": lambda: plain(
        lambda x, i, j: (x[i], x.gather(1, j)), randn(1001, 67), integers(1001, 3001),
        integers(67, 1001, 50),
    ),
    "scatter": lambda: with_gradients(
        lambda w, i: F.embedding(i, w), randn(101, 67), integers(101, 3001)
    ),
    "sorting": lambda: plain(lambda x: (x.sort(1)[0], x.topk(5)[1]), randn(301, 203)),
    "scans": lambda: plain(lambda x: (x.cumsum(0), x.cumsum(1)), randn(301, 203)),
    "losses": lambda: with_gradients(F.cross_entropy, randn(1003, 101), integers(101, 1003)),
    "batch norm": lambda: with_gradients(
        lambda x: F.batch_norm(x, None, None, training=True), randn(9, 13, 27, 29)
    ),
    "random": lambda: plain(
        lambda x: (mg.rand(301, 203), mg.randn(50001), F.dropout(x)), mg.ones(70001)
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", list(FAMILIES))
def test_kernels_give_the_same_bits_with_one_thread_and_with_two(family):
    f, tensors = FAMILIES[family]()
    results = {}
    compiled = mg.jit(f)
    for count in (1, 2, 2, 1, 3):
        with threads(count):
            mg.manual_seed(5)
            got = bits(compiled(*tensors))
        assert got == results.setdefault("first", got), f"{count} threads"


def train(steps=12):
    mg.manual_seed(11)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.2), nn.Linear(8 * 49, 64), nn.GELU(), nn.LayerNorm(64),
        nn.Linear(64, 10),
    )  # fmt: skip
    optimizer = optim.AdamW(net.parameters(), lr=1e-3)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)

    @mg.jit
    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    losses = []
    for k in range(steps):
        losses.append(step(randn(32, 1, 14, 14, seed=k), integers(10, 32)))
        schedule.step()
    return bits([*losses, *net.parameters(), *net.buffers()])


def test_training_gives_the_same_bits_for_any_number_of_threads_and_in_each_run():
    with threads(1):
        one = train()
        again = train()
    with threads(2):
        two = train()
    assert one == again
    assert one == two


PROGRAM = """
import hashlib, sys
sys.path.insert(0, {tests!r})
from test_jit_reproducible import train
print(hashlib.sha256(b"".join(train(3))).hexdigest())
"""


def test_training_gives_the_same_bits_in_other_processes(tmp_path):
    here = os.path.dirname(os.path.abspath(__file__))
    root = os.path.dirname(os.path.dirname(here))
    found = set()
    cache = tmp_path / "cache"
    sizes = []
    for count in ("1", "2"):  # the second process finds the kernels of the first
        environment = {
            **os.environ,
            "MONOGRAPH_CACHE_DIR": str(cache),
            "MONOGRAPH_NUM_THREADS": count,
            "PYTHONPATH": root,
        }
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(tests=here)],
            env=environment, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found.add(done.stdout.strip())
        sizes.append(sum(1 for p in cache.rglob("*") if p.is_file()))
    assert len(found) == 1 and len(found.pop()) == 64
    assert sizes[0] == sizes[1] > 0
