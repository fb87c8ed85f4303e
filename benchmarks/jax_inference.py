"""The networks of inference.py as functions of their weights, in plain JAX.

Images and convolutions are channels-last; BatchNorm is folded into the convolutions beforehand.
`make(name, state, data)` gives a call without arguments that returns a NumPy array, or raises
KeyError for a network that is not here.
"""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp
import numpy as np

# Weights of fewer bytes are also tried as constants of the program; the faster form is taken.
CONSTANT_BYTES = 150 << 20
EPSILON, HEADS = 1e-5, 12


def dense(p, key, x):
    across = p.get(f"{key}.across")
    return x @ (p[f"{key}.weight"].T if across is None else across) + p[f"{key}.bias"]


def norm(p, key, x):
    centred = x - x.mean(-1, keepdims=True)
    scale = jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + EPSILON)
    return centred * scale * p[f"{key}.weight"] + p[f"{key}.bias"]


def conv(p, key, x, stride=1, groups=1):
    kernel = p[f"{key}.weight"]
    y = jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(kernel.shape[0] // 2,) * 2] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )
    return y + p[f"{key}.bias"]


def folded(state, pairs):
    """Weights with the BatchNorm of each pair (convolution, norm) in the convolution."""
    p = {k: a for k, a in state.items() if not k.endswith("num_batches_tracked")}
    for key, name in pairs:
        scale = p[f"{name}.weight"] / np.sqrt(p[f"{name}.running_var"] + EPSILON)
        p[f"{key}.bias"] = p[f"{name}.bias"] - p[f"{name}.running_mean"] * scale
        p[f"{key}.weight"] = (p[f"{key}.weight"] * scale[:, None, None, None]).transpose(2, 3, 1, 0)
        for field in ("weight", "bias", "running_mean", "running_var"):
            del p[f"{name}.{field}"]
    return p


def mlp(p, x):
    x = jax.nn.relu(dense(p, "0", x))
    x = jax.nn.relu(dense(p, "2", x))
    return dense(p, "4", x)


def split_heads(p, key, x):
    n, t, d = x.shape
    return dense(p, key, x).reshape(n, t, 3, HEADS, d // HEADS).transpose(2, 0, 3, 1, 4)


def attended(q, k, v, mask=None):
    scores = q @ k.transpose(0, 1, 3, 2) / np.sqrt(q.shape[-1]).astype(np.float32)
    if mask is not None:
        scores = jnp.where(mask, scores, -jnp.inf)
    y = jax.nn.softmax(scores, axis=-1) @ v
    return y.transpose(0, 2, 1, 3).reshape(y.shape[0], y.shape[2], -1)


def bert(p, tokens):
    x = norm(p, "norm", p["words.weight"][tokens] + p["places.weight"][: tokens.shape[1]])
    for i in range(count(p, "blocks")):
        b = f"blocks.{i}"
        y = attended(*split_heads(p, f"{b}.qkv", x))
        x = norm(p, f"{b}.norm1", x + dense(p, f"{b}.mix", y))
        y = jax.nn.gelu(dense(p, f"{b}.up", x), approximate=False)
        x = norm(p, f"{b}.norm2", x + dense(p, f"{b}.down", y))
    return x


def gpt2(p, caches, token, place):
    x = p["tokens.weight"][token] + p["places.weight"][place]
    mask = jnp.arange(caches[0].shape[2]) <= place
    made = []
    for i in range(count(p, "blocks")):
        b = f"blocks.{i}"
        q, k, v = split_heads(p, f"{b}.qkv", norm(p, f"{b}.norm1", x))
        keys = jax.lax.dynamic_update_slice(caches[2 * i], k, (0, 0, place[0], 0))
        values = jax.lax.dynamic_update_slice(caches[2 * i + 1], v, (0, 0, place[0], 0))
        made += [keys, values]
        x = x + dense(p, f"{b}.mix", attended(q, keys, values, mask))
        y = jax.nn.gelu(dense(p, f"{b}.up", norm(p, f"{b}.norm2", x)), approximate=True)
        x = x + dense(p, f"{b}.down", y)
    return norm(p, "norm", x)[:, 0] @ p["head"], made


def count(p, name):
    """How many modules a list has."""
    return 1 + max(int(k.split(".")[1]) for k in p if k.startswith(f"{name}."))


def resnet50_pairs(state):
    pairs = [("0", "1")]
    for key in state:
        if key.endswith(("conv1.weight", "conv2.weight", "conv3.weight")):
            stem = key[: -len(".weight")]
            pairs.append((stem, stem.replace("conv", "norm")))
        elif key.endswith("skip.0.weight"):
            stem = key[: -len(".0.weight")]
            pairs.append((f"{stem}.0", f"{stem}.1"))
    return pairs


def resnet50(p, x):
    x = jax.nn.relu(conv(p, "0", x, 2))
    edges = ((0, 0), (1, 1), (1, 1), (0, 0))
    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), edges)
    block = 4
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for i in range(blocks):
            b, stride = str(block), 2 if i == 0 and width > 64 else 1
            y = jax.nn.relu(conv(p, f"{b}.conv1", x))
            y = jax.nn.relu(conv(p, f"{b}.conv2", y, stride))
            skip = conv(p, f"{b}.skip.0", x, stride) if i == 0 else x
            x = jax.nn.relu(conv(p, f"{b}.conv3", y) + skip)
            block += 1
    return dense(p, str(block + 2), x.mean((1, 2)))


def mobilenet_pairs(state):
    """A norm has a running mean; the convolution is the module before it."""
    pairs = []
    for key in state:
        if key.endswith(".running_mean"):
            name = key[: -len(".running_mean")]
            stem, _, last = name.rpartition(".")
            pairs.append((f"{stem}.{int(last) - 1}", name))
    return pairs


def mobilenet(p, x):
    x = jax.nn.relu6(conv(p, "0.0", x, 2))
    block = 1
    plan = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
            (6, 160, 3, 2), (6, 320, 1, 1))  # fmt: skip
    for factor, _, blocks, first in plan:
        for i in range(blocks):
            stem, stride, part, y = f"{block}.parts", first if i == 0 else 1, 0, x
            if factor != 1:
                y, part = jax.nn.relu6(conv(p, f"{stem}.0.0", y)), 1
            y = jax.nn.relu6(conv(p, f"{stem}.{part}.0", y, stride, y.shape[-1]))
            y = conv(p, f"{stem}.{part + 1}", y)
            x = x + y if y.shape == x.shape else y
            block += 1
    x = jax.nn.relu6(conv(p, f"{block}.0", x))
    return dense(p, str(block + 3), x.mean((1, 2)))


def make(name, state, data):
    """The network on its data, compiled; weights are arguments, or constants if that is faster."""
    function = {"mlp": mlp, "bert": bert, "resnet50": resnet50, "mobilenet": mobilenet}.get(name)
    if name == "gpt2":
        return decoder(state, data)
    if function is None:
        raise KeyError(f"{name} has no form in JAX")
    pairs = {"resnet50": resnet50_pairs, "mobilenet": mobilenet_pairs}.get(name)
    p = folded(state, pairs(state)) if pairs else state
    (x,) = data
    x = jnp.asarray(x.transpose(0, 2, 3, 1) if x.ndim == 4 else x)
    p = {k: jnp.asarray(a) for k, a in p.items()}
    with_arguments = jax.jit(function)
    calls = [lambda: np.asarray(with_arguments(p, x))]
    if sum(a.nbytes for a in p.values()) < CONSTANT_BYTES:
        with_constants = jax.jit(lambda x: function(p, x))
        calls.append(lambda: np.asarray(with_constants(x)))
    return min(calls, key=seconds)


def decoder(state, data):
    """One token of GPT-2; keys and values are given up by each call and come back written.

    Matrices are transposed beforehand: a row times a transposed one takes XLA five times as long.
    """
    p = {"head": jnp.asarray(state["tokens.weight"].T)}
    for key, a in state.items():
        if key.startswith("blocks.") and key.endswith(".weight") and a.ndim == 2:
            p[key.replace(".weight", ".across")] = jnp.asarray(a.T)
        elif not key.endswith((".keys", ".values")):
            p[key] = jnp.asarray(a)
    caches = []
    for i in range(count(p, "blocks")):
        caches += [jnp.asarray(state[f"blocks.{i}.{name}"]) for name in ("keys", "values")]
    token, place = (jnp.asarray(a) for a in data)
    run = jax.jit(gpt2, donate_argnums=1)

    def call():
        nonlocal caches
        logits, caches = run(p, caches, token, place)
        return np.asarray(logits)

    return call


def seconds(call):
    """Of the best of a few calls, the first left out."""
    times = []
    for _ in range(4):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times[1:])
