"""Second derivatives, and vmap, of what PyTorch's samples call.

    python tests/opdb/derived.py gradients|vmap [KEY...] [-v]    one JSON line for each entry

gradients  Hessian-vector products in float64 against differences of gradients
vmap       each choice of batched arguments against a loop; BatchError and TraceError are "refused"

What is compared is this package with itself; worker.py compares it with PyTorch.
"""

import itertools
import json
import sys
import warnings

import numpy as np
import worker
from exclusions import EXCLUDED, NO_BATCH, NOT_SMOOTH, UNSPECIFIED

import monograph as mg
from monograph.core.errors import BatchError, TraceError

torch = worker.torch
MOST = 12  # samples of an entry
STEP = 1e-7


def called(info, form, sample):
    """(f, tensors): the entry's function of the tensors of a sample, as the database checks it."""
    pairs = []
    _, mine = worker.converted((sample.input, tuple(sample.args), sample.kwargs), pairs)
    tensors = [p[2] for p in pairs]
    places = {id(t): i for i, t in enumerate(tensors)}
    wrapper, finish = info.gradcheck_wrapper, sample.output_process_fn_grad
    wrapper, finish = (worker.rebound(g) if worker.is_local(g) else g for g in (wrapper, finish))

    def f(*given):
        def filled(x):
            if isinstance(x, mg.Tensor):
                return given[places[id(x)]]
            if isinstance(x, dict):
                return {k: filled(v) for k, v in x.items()}
            if isinstance(x, (list, tuple)):
                return type(x)(map(filled, x))
            return x

        input, args, kwargs = map(filled, mine)
        return finish(wrapper(form, input, *args, **kwargs))

    return f, tensors


def floats(result):
    return [
        o for o in worker.flat(result) if isinstance(o, mg.Tensor) and o.dtype.is_floating_point
    ]


def close(got, expected, what, rtol=1e-4, atol=1e-5):
    got, expected = (np.asarray(t.detach().numpy(), dtype=np.complex128) for t in (got, expected))
    if got.shape != expected.shape:
        raise AssertionError(f"{what}: shape {got.shape} instead of {expected.shape}")
    scale = np.abs(expected[np.isfinite(expected)]).max(initial=0)
    same = np.isclose(got, expected, rtol, atol + rtol * scale, equal_nan=True)
    if not same.all():
        at = tuple(int(i) for i in np.argwhere(~same)[0])
        raise AssertionError(f"{what}: {got[at]!r} instead of {expected[at]!r} at {at}")


def check_gradients(f, tensors):
    rng = np.random.default_rng(0)
    leaves = [i for i, t in enumerate(tensors) if t.requires_grad]
    seeds = [mg.tensor(rng.normal(size=tuple(o.shape))) for o in floats(f(*tensors))]
    ways = [mg.tensor(rng.normal(size=tuple(tensors[i].shape))) for i in leaves]

    def slope(step, create_graph=False):
        moved = [t.detach() for t in tensors]
        for i, way in zip(leaves, ways):
            moved[i] = (moved[i] + way * step).requires_grad_()
        at = [moved[i] for i in leaves]
        mg.manual_seed(0)  # dropout is the same each time
        pairs = [(o, s) for o, s in zip(floats(f(*moved)), seeds) if o.requires_grad]
        if not pairs:
            return at, [mg.zeros_like(x) for x in at]
        outs, weights = zip(*pairs)
        return at, mg.autograd.grad(
            outs, at, weights, create_graph=create_graph, materialize_grads=True
        )

    at, found = slope(0.0, True)
    total = sum((g * way).sum() for g, way in zip(found, ways))
    got = [mg.zeros_like(x) for x in at]
    if total.requires_grad:
        got = mg.autograd.grad(total, at, materialize_grads=True)
    high, low = slope(STEP)[1], slope(-STEP)[1]
    for k, (g, a, b) in enumerate(zip(got, high, low)):
        close(g, (a - b) / (2 * STEP), f"second derivative for tensor {leaves[k]}")


def other(x):
    """Another tensor that the function should take as well."""
    return x * 0.9 if x.dtype.is_inexact else x.flip(0) if x.ndim else x


def check_batches(f, tensors):
    n = len(tensors)
    sizes = range(1, n + 1) if n <= 3 else (1, n)
    for chosen in itertools.chain(*(itertools.combinations(range(n), k) for k in sizes)):
        both = [(tensors[i].detach(), other(tensors[i].detach())) for i in chosen]
        dims = [0 if k % 2 == 0 else -1 for k in range(len(chosen))]

        def at(*given, chosen=chosen):
            full = [t.detach() for t in tensors]
            for i, x in zip(chosen, given):
                full[i] = x
            return tuple(o for o in worker.flat(f(*full)) if isinstance(o, mg.Tensor))

        expected = [at(*(pair[k] for pair in both)) for k in (0, 1)]
        stacked = [mg.stack(pair, d) for pair, d in zip(both, dims)]
        got = mg.vmap(at, in_dims=tuple(dims))(*stacked)
        for k, (g, a, b) in enumerate(zip(got, *expected, strict=True)):
            if g.dtype is not a.dtype:
                raise AssertionError(f"output {k}: {g.dtype.name} instead of {a.dtype.name}")
            close(g, mg.stack((a, b)), f"output {k} with batched tensors {chosen}", 1e-6, 1e-7)


def run_entry(key, check, verbose):
    info = worker.database()[key]
    gradients = check is check_gradients
    result = {"key": key, "samples": 0, "passed": 0, "refused": 0, "status": "empty", "reason": ""}
    unsuited = UNSPECIFIED.get(key) or (NOT_SMOOTH if gradients else NO_BATCH).get(key)
    if unsuited or (gradients and not (info.supports_autograd and info.supports_gradgrad)):
        return {**result, "status": "excluded", "reason": unsuited or "no second derivative"}
    try:
        ((_, _, form),) = worker.forms_of(info)
    except worker.Missing:
        return {**result, "status": "missing"}
    dtype = next((d for d in (torch.float64, torch.int64, torch.bool) if d in info.dtypes), None)
    if dtype is None or (gradients and dtype is not torch.float64):
        return result
    samples = worker.samples_of(info, dtype, gradients)
    chosen = samples[:: max(1, len(samples) // MOST)]
    for sample in chosen:
        try:
            f, tensors = called(info, form, sample)
            if gradients and not any(t.requires_grad for t in tensors):
                continue
            if sum(t.numel() for t in tensors) == 0:
                continue
            f(*tensors)
        except Exception:  # worker.py tells of it
            continue
        result["samples"] += 1
        try:
            with worker.no_output():
                check(f, tensors)
            result["passed"] += 1
        except (BatchError, TraceError) as error:
            result["refused"] += 1
            result["reason"] = result["reason"] or worker.short(error)
        except Exception as error:
            if not result["reason"] or verbose:
                result["reason"] = worker.short(error)
                result["sample"] = " ".join(sample.summary().split())[:300]
                if verbose:
                    print(result["reason"], result["sample"], sep="\n    ")
    if result["samples"]:
        whole = result["passed"] + result["refused"] == result["samples"]
        result["status"] = "fail" if not whole else "pass" if result["passed"] else "refused"
    return result


def main():
    check = {"gradients": check_gradients, "vmap": check_batches}[sys.argv[1]]
    keys = [a for a in sys.argv[2:] if a != "-v"]
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for key in keys or [k for k in worker.database() if k not in EXCLUDED]:
        print(json.dumps(run_entry(key, check, "-v" in sys.argv)), flush=True)


if __name__ == "__main__":
    main()
