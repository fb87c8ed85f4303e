"""Inference beside PyTorch (eager; compiled with frozen weights), ONNX Runtime and JAX, in rounds.

    python benchmarks/inference.py [--only mlp,bert] [--batch 1 64] [--rounds 5] [--compile --tune]

Networks are in zoo.py, with random weights, in eval mode under no_grad; ours is jitted. Peers that
are not installed are left out with a sentence. Milliseconds a call, medians of the rounds.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import time
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
THREADS = int(os.environ.get("MONOGRAPH_NUM_THREADS") or len(os.sched_getaffinity(0)))
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = str(THREADS)

import zoo  # noqa: E402

R = np.random.default_rng(0)


def image(n):
    return [R.standard_normal((n, 3, 224, 224)).astype(np.float32)]


# name: (network, inputs for a batch, largest batch)
NETWORKS = {
    "mlp": (zoo.small, lambda n: [R.standard_normal((n, 64)).astype(np.float32)], 64),
    "resnet50": (zoo.resnet50, image, 64),
    "mobilenet": (zoo.mobilenet, image, 64),
    "bert": (zoo.bert, lambda n: [R.integers(0, 30_000, (n, 128))], 8),
    "gpt2": (zoo.gpt2, lambda n: [R.integers(0, 50_000, (n, 1)), np.array([100])], 1),
}


def ours(network, data, state):
    import monograph as mg

    mg.set_num_threads(THREADS)
    model = network(mg).eval()
    model.load_state_dict({k: mg.tensor(v) for k, v in state.items()})
    inputs = [mg.tensor(a) for a in data]

    @mg.jit
    def run(*x):
        with mg.no_grad():
            return model(*x)

    return lambda: run(*inputs).numpy(), lambda: mg.explain(run.function, *inputs, rounds=5)


def torch_of(network, data, state, mode=None):
    """PyTorch, eager; with a mode of torch.compile, compiled with weights that are constants."""
    import torch

    torch.set_num_threads(THREADS)
    model = network(torch).eval()
    model.load_state_dict({k: torch.tensor(v) for k, v in state.items()})
    inputs = [torch.tensor(a) for a in data]
    if data[0].ndim == 4:
        model = model.to(memory_format=torch.channels_last)
        inputs[0] = inputs[0].to(memory_format=torch.channels_last)
    run = model
    if mode is not None:
        torch._dynamo.reset()
        torch._inductor.config.freezing = True  # weights are constants, packed once
        run = torch.compile(model, mode=mode)

    def call():
        with torch.no_grad() if mode else torch.inference_mode():
            return run(*inputs).numpy()

    return call


def onnx_of(network, data, state):
    import onnxruntime
    import torch

    model = network(torch).eval()
    model.load_state_dict({k: torch.tensor(v) for k, v in state.items()})
    inputs = tuple(torch.tensor(a) for a in data)
    names = [f"x{i}" for i in range(len(inputs))]
    file = io.BytesIO()
    torch.onnx.export(model, inputs, file, input_names=names, dynamo=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(file.getvalue(), options)
    feed = dict(zip(names, data))
    return lambda: session.run(None, feed)[0]


def jax_of(name, data, state):
    import jax_inference

    return jax_inference.make(name, state, data)


def contenders(name, batch, options):
    """Calls, their results, and our report's maker; who cannot run is left out with a sentence."""
    import torch

    network, inputs, _ = NETWORKS[name]
    torch.manual_seed(0)
    state = {k: v.numpy() for k, v in network(torch).state_dict().items()}
    data = inputs(batch)
    makers = {
        "ours jit": partial(ours, network, data, state),
        "torch": partial(torch_of, network, data, state),
        "onnxruntime": partial(onnx_of, network, data, state),
        "jax": partial(jax_of, name, data, state),
    }
    if options.compile:
        makers["torch-compile"] = partial(torch_of, network, data, state, "default")
    if options.tune:
        makers["torch-tuned"] = partial(
            torch_of, network, data, state, "max-autotune-no-cudagraphs"
        )
    calls, results, report = {}, {}, None
    for who, make in makers.items():
        try:
            made = make()
            made, report = made if isinstance(made, tuple) else (made, report)
            results[who] = made()
            calls[who] = made
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            print(f"{name}: {who}: {reason[:150]}")
    return calls, results, report


def measured(calls, rounds):
    """Milliseconds of each contender in each round."""
    times = {who: [] for who in calls}
    for _ in range(rounds):
        for who, call in calls.items():
            time.sleep(0.05)
            call()
            start, count = time.perf_counter(), 0
            while time.perf_counter() - start < 0.15 or count < 2:
                call()
                count += 1
            times[who].append((time.perf_counter() - start) / count * 1e3)
    return times


def summary(times, results):
    """A line: medians; ours over the best peer's; the largest difference from any peer's result."""
    line = "  ".join(f"{who} {median(t):.3f}" for who, t in times.items())
    mine = results.get("ours jit")
    others = [who for who in times if who != "ours jit"]
    if mine is None or not others:
        return line
    best = min(median(times[who]) for who in others)
    error = max(abs(mine - results[who]).max() / abs(mine).max() for who in others)
    return f"{line}   ratio {median(times['ours jit']) / best:.2f}   error {error:.1e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--tune", action="store_true", help="also max-autotune-no-cudagraphs")
    parser.add_argument("--explain", action="store_true")
    options = parser.parse_args()
    for name, (_, _, most) in NETWORKS.items():
        if options.only and name not in options.only.split(","):
            continue
        for batch in sorted({min(b, most) for b in options.batch}):
            calls, results, report = contenders(name, batch, options)
            line = summary(measured(calls, options.rounds), results)
            print(f"{name:10s} batch {batch:3d}   {line}", flush=True)
            if options.explain and report is not None:
                made = report()
                print(made.families, made.totals, made.table, sep="\n")


if __name__ == "__main__":
    main()
