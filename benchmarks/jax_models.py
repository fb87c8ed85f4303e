"""The workloads of models.py as functions of their weights, in plain JAX.

Convolutions are channels-last, which XLA's CPU code prefers; `prepare` permutes the weights once.
`make_step` gives (state, step): `step(state, x, y) -> (state, loss)`, compiled, the state donated.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from models import BLOCKS, HEADS, LAYERS, WIDTH, Workload


def prepare(w: Workload, weights: dict[str, np.ndarray], x: np.ndarray):
    """Weights and inputs in the layouts that the functions below use."""
    made = {}
    for key, a in weights.items():
        if a.ndim == 4:
            a = a.transpose(2, 3, 1, 0)  # kernel height, width, channels, outputs
        elif w.name == "cnn" and key == "7.weight":
            a = a.reshape(128, 64, 12, 12).transpose(0, 2, 3, 1).reshape(128, 9216)
        made[key] = jnp.asarray(a)
    return made, jnp.asarray(x.transpose(0, 2, 3, 1) if w.images else x.astype(_input_dtype(x)))


def _input_dtype(x: np.ndarray):
    return np.int32 if x.dtype.kind == "i" else x.dtype


def dense(p, key, x):
    return x @ p[f"{key}.weight"].T + p[f"{key}.bias"]


def conv(p, key, x, stride=1, padding="VALID"):
    y = jax.lax.conv_general_dilated(
        x,
        p[f"{key}.weight"],
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    bias = p.get(f"{key}.bias")
    return y if bias is None else y + bias


def dropout(key, x, rate):
    return jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0.0)


def mlp(p, running, key, x):
    x = jax.nn.relu(dense(p, "0", x))
    x = jax.nn.relu(dense(p, "2", x))
    return dense(p, "4", x), running


def cnn(p, running, key, x):
    first, second = jax.random.split(key)
    x = jax.nn.relu(conv(p, "0", x))
    x = jax.nn.relu(conv(p, "2", x))
    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = dropout(first, x, 0.25).reshape(x.shape[0], -1)
    x = dropout(second, jax.nn.relu(dense(p, "7", x)), 0.5)
    return dense(p, "10", x), running


def batch_norm(p, running, key, x):
    mean = x.mean((0, 1, 2))
    centred = x - mean
    var = (centred * centred).mean((0, 1, 2))
    count = x.size // x.shape[-1]
    old_mean, old_var = running[key]
    new = (0.9 * old_mean + 0.1 * mean, 0.9 * old_var + 0.1 * var * count / (count - 1))
    scaled = centred * jax.lax.rsqrt(var + 1e-5) * p[f"{key}.weight"] + p[f"{key}.bias"]
    return scaled, running | {key: new}


def resnet18(p, running, key, x):
    same = ((1, 1), (1, 1))
    y, running = batch_norm(p, running, "norm", conv(p, "conv", x, 1, same))
    x = jax.nn.relu(y)
    for i, (_, stride) in enumerate(BLOCKS):
        at = f"blocks.{i}"
        y, running = batch_norm(p, running, f"{at}.norm1", conv(p, f"{at}.conv1", x, stride, same))
        y = jax.nn.relu(y)
        y, running = batch_norm(p, running, f"{at}.norm2", conv(p, f"{at}.conv2", y, 1, same))
        if f"{at}.shortcut.0.weight" in p:
            short = conv(p, f"{at}.shortcut.0", x, stride)
            x, running = batch_norm(p, running, f"{at}.shortcut.1", short)
        x = jax.nn.relu(y + x)
    return dense(p, "head", x.mean((1, 2))), running


def layer_norm(p, key, x):
    mean = x.mean(-1, keepdims=True)
    centred = x - mean
    var = (centred * centred).mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt(var + 1e-5) * p[f"{key}.weight"] + p[f"{key}.bias"]


def gpt(p, running, key, x):
    n, t = x.shape
    h = p["tokens.weight"][x] + p["places.weight"][:t]
    for i in range(LAYERS):
        at = f"blocks.{i}"
        qkv = dense(p, f"{at}.qkv", layer_norm(p, f"{at}.norm1", h))
        q, k, v = (a.reshape(n, t, HEADS, WIDTH // HEADS) for a in jnp.split(qkv, 3, -1))
        y = jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(n, t, WIDTH)
        h = h + dense(p, f"{at}.mix", y)
        up = jax.nn.gelu(dense(p, f"{at}.up", layer_norm(p, f"{at}.norm2", h)), approximate=True)
        h = h + dense(p, f"{at}.down", up)
    return layer_norm(p, "norm", h) @ p["tokens.weight"].T, running


FORWARD = {"tiny": mlp, "mlp-small": mlp, "cnn": cnn, "resnet18": resnet18, "gpt-mini": gpt}


def update(w: Workload, p, slots, g, count):
    """One parameter's new value and optimizer state."""
    if w.optimizer == "sgd":
        momentum = 0.9 * slots[0] + g
        return p - w.lr * momentum, (momentum,)
    m, v = slots
    m = 0.9 * m + 0.1 * g
    v = 0.999 * v + 0.001 * g * g
    if w.optimizer == "adamw":
        p = p * (1 - w.lr * 0.01)
    root = jnp.sqrt(v / (1 - 0.999**count)) + 1e-8
    return p - w.lr * (m / (1 - 0.9**count)) / root, (m, v)


def make_step(w: Workload, weights: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray):
    """(state, step, x, y); see the top of this file."""
    params, x = prepare(w, weights, x)
    y = jnp.asarray(y.astype(np.int32))
    forward = FORWARD[w.name]
    n_slots = 1 if w.optimizer == "sgd" else 2
    slots = {k: tuple(jnp.zeros_like(a) for _ in range(n_slots)) for k, a in params.items()}
    # One momentum array per slot: donated buffers must not be shared.
    running = {
        k.removesuffix(".weight"): (jnp.zeros(a.shape[0]), jnp.ones(a.shape[0]))
        for k, a in params.items()
        if w.name == "resnet18" and a.ndim == 1 and k.endswith(".weight")
    }
    state = (params, slots, running, jnp.zeros(()), jax.random.key(0))

    def loss_of(p, running, key, x, y):
        logits, running = forward(p, running, key, x)
        rows = jax.nn.log_softmax(logits.reshape(-1, w.classes), -1)
        return -jnp.take_along_axis(rows, y.reshape(-1, 1), 1).mean(), running

    def step(state, x, y):
        params, slots, running, count, key = state
        key, used = jax.random.split(key)
        (loss, running), grads = jax.value_and_grad(loss_of, has_aux=True)(
            params, running, used, x, y
        )
        count = count + 1
        made = {k: update(w, params[k], slots[k], grads[k], count) for k in params}
        params = {k: a for k, (a, _) in made.items()}
        slots = {k: s for k, (_, s) in made.items()}
        return (params, slots, running, count, key), loss

    return state, jax.jit(step, donate_argnums=0), x, y
