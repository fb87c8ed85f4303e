"""Run PyTorch's samples of some operators through the functions of the same names here.

    python worker.py KEY...      one JSON line for each entry, as it is done

KEY is an entry's name, with "|" and its variant where it has one. run.py starts this file.
"""

import contextlib
import functools
import itertools
import json
import os
import sys
import types
import unittest
import warnings

import numpy as np
from exclusions import DTYPES_LEFT_OUT, GRADIENTS_DIFFER, LOOSER, SAMPLES_LEFT_OUT, UNSPECIFIED

import monograph as mg

if "expecttest" not in sys.modules:  # only PyTorch's own test classes use it
    stub = types.ModuleType("expecttest")
    stub.TestCase = unittest.TestCase
    sys.modules["expecttest"] = stub

import torch  # noqa: E402

NAMES = "float32,float64,int64,bool,complex64,complex128"
DTYPES = [getattr(torch, n) for n in os.environ.get("OPDB_DTYPES", NAMES).split(",")]
METHODS = bool(os.environ.get("OPDB_METHODS"))  # compare methods, instead of functions

# (rtol, atol) of values, of gradients
TOLERANCES = {
    "float32": ((1e-4, 1e-5), (1e-3, 1e-4)),
    "complex64": ((1e-4, 1e-5), (1e-3, 1e-4)),
    "float64": ((1e-7, 1e-7), (1e-6, 1e-6)),
    "complex128": ((1e-7, 1e-7), (1e-6, 1e-6)),
    "float16": ((1e-3, 1e-3), (1e-2, 1e-2)),
    "bfloat16": ((1.6e-2, 1e-2), (5e-2, 5e-2)),
}
EXACT = ((0.0, 0.0), (0.0, 0.0))


def key_of(info):
    return info.name + (f"|{info.variant_test_name}" if info.variant_test_name else "")


@functools.cache
def database():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal.common_methods_invocations import op_db
    return {key_of(info): info for info in op_db}


# -- the function of the same name -----------------------------------------------------------------


class Missing(Exception):
    """There is no function of this name."""


def rebound(f):
    """A function of the database itself, which then finds our package under the name `torch`."""
    names = {**f.__globals__, "torch": mg, "F": mg.nn.functional}
    made = types.FunctionType(f.__code__, names, f.__name__, f.__defaults__, f.__closure__)
    made.__kwdefaults__ = f.__kwdefaults__
    return made


def is_local(f):
    """Whether a function was written for the database (and calls what it is about)."""
    return isinstance(f, types.FunctionType) and f.__module__.startswith("torch.testing._internal")


def function_of(info):
    if is_local(info.op):
        return rebound(info.op)
    found = mg
    public = info.aten_name if info.name == f"_{info.aten_name}" else info.name
    for part in public.split("."):
        found = getattr(found, part, None)
        if found is None:
            method = getattr(mg.Tensor, info.name, None)
            if method is None:
                raise Missing(info.name)
            return method
    return found if callable(found) else getattr(mg.Tensor, info.name)


def on_a_copy(method):
    """An in-place method, applied to a copy of its tensor: leaves may not be changed."""
    return lambda input, *args, **kwargs: method(input.clone(), *args, **kwargs)


def forms_of(info):
    """[(name, theirs, ours)] of what an entry is run through: functions, or methods if so asked."""
    if not METHODS:
        return [("", info.op, function_of(info))]
    found = []
    for theirs in (info.method_variant, info.inplace_variant):
        name = getattr(theirs, "__name__", "<lambda>")
        if theirs is None or is_local(theirs) or not hasattr(torch.Tensor, name):
            continue
        ours = getattr(mg.Tensor, name, None)
        if ours is None:
            raise Missing(f"method {name}")
        if theirs is info.inplace_variant:
            theirs, ours = on_a_copy(theirs), on_a_copy(ours)
        found.append((name, theirs, ours))
    return found


# -- arguments and results -------------------------------------------------------------------------


def plain(x):
    """A detached tensor of PyTorch in plain memory."""
    if x._is_zerotensor():
        return torch.zeros(x.shape, dtype=x.dtype)
    return x.detach().resolve_conj().resolve_neg()


def array(x):
    x = plain(x)
    return x.float().numpy() if x.dtype is torch.bfloat16 else x.numpy().copy()


def converted(x, pairs):
    """(theirs, ours): the same structure twice, of fresh tensors; `pairs` gets the leaves."""
    if isinstance(x, torch.Tensor):
        for original, theirs, mine in pairs:
            if original is x:
                return theirs, mine
        grad = x.requires_grad
        theirs = plain(x).clone(memory_format=torch.preserve_format).requires_grad_(grad)
        mine = mg.tensor(array(x), dtype=dtype_of(x.dtype))
        if grad:
            mine.requires_grad_()
        pairs.append((x, theirs, mine))
        return theirs, mine
    if isinstance(x, torch.dtype):
        return x, dtype_of(x)
    if isinstance(x, torch.Size):
        return x, tuple(x)
    if isinstance(x, torch.device):
        return x, str(x)
    if isinstance(x, (torch.layout, torch.memory_format)):
        return x, getattr(mg, str(x).split(".")[1])
    if isinstance(x, (list, tuple)):
        both = [converted(v, pairs) for v in x]
        make = type(x) if type(x) in (list, tuple) else tuple
        return make(a for a, _ in both), make(b for _, b in both)
    if isinstance(x, dict):
        both = {k: converted(v, pairs) for k, v in x.items()}
        return {k: v[0] for k, v in both.items()}, {k: v[1] for k, v in both.items()}
    if isinstance(x, slice):
        return x, x
    if is_local(x):
        return x, rebound(x)
    if isinstance(x, torch.nn.Module):
        return x, getattr(mg.nn, type(x).__name__)()
    if callable(x) and getattr(x, "__name__", "") in dir(mg.nn.functional):
        return x, getattr(mg.nn.functional, x.__name__)
    return x, x


def dtype_of(d):
    name = str(d).split(".")[1]
    found = getattr(mg, name, None)
    if found is None:
        raise Missing(f"dtype {name}")
    return found


def flat(x):
    if isinstance(x, (list, tuple)):
        return [leaf for v in x for leaf in flat(v)]
    return [x]


# Ops that name places of elements: equal elements may be named in any order.
ORDERS = ("sort", "argsort", "topk", "kthvalue", "mode", "msort")


def chosen_alike(key, got, expected, arguments):
    """Whether both are indices of equal elements along the dimension that the call is about."""
    x = arguments[0]
    if expected.dtype is not torch.int64 or not isinstance(x, torch.Tensor) or not x.ndim:
        return False
    place = {"topk": 1, "kthvalue": 1}.get(key, 0)
    given = arguments[1][place] if len(arguments[1]) > place else -1
    dim = arguments[2].get("dim", given)
    other = torch.from_numpy(np.array(got.numpy()))
    if other.dtype is not torch.int64 or other.shape != expected.shape:
        return False
    short = expected.ndim < x.ndim
    pair = [v.unsqueeze(dim) if short else v for v in (other, expected)]
    try:
        first, second = (plain(x).gather(dim, v) for v in pair)
    except (RuntimeError, IndexError, TypeError):
        return False
    return bool(((first == second) | ((first != first) & (second != second))).all())


def compare(got, expected, key, gradient=False, values=True):
    """AssertionError unless both are equal: type, dtype, shape, values."""
    if not isinstance(expected, torch.Tensor):
        if isinstance(got, mg.Tensor):
            raise AssertionError(f"a tensor instead of {type(expected).__name__}")
        name = str(got).split(".")[-1], str(expected).split(".")[-1]
        if got != expected and name[0] != name[1] and not (got != got and expected != expected):
            raise AssertionError(f"{got!r} instead of {expected!r}")
        return
    if not isinstance(got, mg.Tensor):
        raise AssertionError(f"{type(got).__name__} instead of a tensor")
    dtype = str(expected.dtype).split(".")[1]
    if got.dtype.name != dtype:
        raise AssertionError(f"dtype {got.dtype.name} instead of {dtype}")
    if tuple(got.shape) != tuple(expected.shape):
        raise AssertionError(f"shape {tuple(got.shape)} instead of {tuple(expected.shape)}")
    if not values:
        return
    rtol, atol = TOLERANCES.get(dtype, EXACT)[gradient]
    if key in LOOSER and dtype in TOLERANCES:
        rtol, atol = (max(a, b) for a, b in zip((rtol, atol), LOOSER[key]))
    a, b = np.asarray(got.detach().numpy()), array(expected)
    if dtype == "bfloat16":
        a = a.astype(np.float32)
    if dtype in TOLERANCES:
        with np.errstate(all="ignore"):
            same = np.isclose(a, b, rtol, atol, equal_nan=True)
    else:
        same = a == b
    if not same.all():
        at = tuple(int(i) for i in np.argwhere(~same)[0])
        what = "gradient" if gradient else "value"
        raise AssertionError(
            f"{what} {a[at]!r} instead of {b[at]!r} at {at}; {(~same).sum()} of {same.size} differ"
        )


# -- one sample ------------------------------------------------------------------------------------

REFUSED = (RuntimeError, ValueError, IndexError, TypeError, NotImplementedError, AttributeError)


class Skipped(Exception):
    """PyTorch itself refuses the sample."""


def run_sample(op, key, function, sample, gradients):
    pairs = []
    given = (sample.input, tuple(sample.args), sample.kwargs)
    theirs, mine = converted(given, pairs)
    finish = sample.output_process_fn_grad
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        try:
            expected = finish(op(theirs[0], *theirs[1], **theirs[2]))
        except REFUSED as error:
            raise Skipped from error
        outs = flat(expected)
        floats = [o for o in outs if has_gradient(o)]
        seeds = [seed_of(o) for o in floats]
        if gradients and floats:
            try:
                torch.autograd.backward(floats, seeds)
            except REFUSED:
                gradients = False
        got = function(mine[0], *mine[1], **mine[2])
        got = flat((rebound(finish) if is_local(finish) else finish)(got))
    if len(got) != len(outs):
        raise AssertionError(f"{len(got)} results instead of {len(outs)}")
    unspecified = key in UNSPECIFIED or theirs[2].get("dropout_p", 0) > 0
    for g, e in zip(got, outs):
        if key.split("|")[0] in ORDERS and chosen_alike(key, g, e, theirs):
            continue
        compare(g, e, key, values=not unspecified)
    if not gradients or not floats or unspecified:
        return
    ours = [g for g, e in zip(got, outs) if has_gradient(e)]
    if not all(o.requires_grad for o in ours):
        raise AssertionError("a result does not require a gradient")
    mg.autograd.backward(ours, [mg.tensor(array(s)) for s in seeds])
    for _, theirs, mine in pairs:
        if theirs.requires_grad:
            zero = torch.zeros_like(theirs)
            expected = zero if theirs.grad is None else theirs.grad
            g = mg.zeros_like(mine) if mine.grad is None else mine.grad
            compare(g, expected.to(theirs.dtype), key, gradient=True)


def has_gradient(o):
    return isinstance(o, torch.Tensor) and o.requires_grad and o.numel() > 0


def seed_of(o):
    rng = np.random.default_rng(0)
    values = rng.uniform(0.5, 1.5, tuple(o.shape))
    if o.dtype.is_complex:
        values = values + 1j * rng.uniform(0.5, 1.5, tuple(o.shape))
    return torch.as_tensor(values).to(o.dtype)


# -- one entry -------------------------------------------------------------------------------------


def short(error):
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text.removeprefix("AssertionError: ")[:300]


def is_missing(error):
    text = str(error)
    return isinstance(error, Missing) or (
        isinstance(error, AttributeError) and ("monograph" in text or "'Tensor'" in text)
    )


def run_entry(key, verbose=False):
    info = database()[key]
    result = {"key": key, "samples": 0, "passed": 0, "status": "pass", "reason": ""}
    try:
        forms = forms_of(info)
    except Missing as error:
        return {**result, "status": "missing", "reason": short(error)}
    missing = 0
    left_out = DTYPES_LEFT_OUT.get(key, ((), ""))[0]
    dtypes = [d for d in DTYPES if d in info.dtypes and str(d).split(".")[1] not in left_out]
    for dtype, (name, theirs, ours) in itertools.product(dtypes, forms):
        continuous = dtype.is_floating_point or dtype.is_complex
        gradients = info.supports_autograd and continuous and key not in GRADIENTS_DIFFER
        for sample in samples_of(info, dtype, gradients):
            if name.endswith("_") and sample.broadcasts_input:
                continue
            try:
                with no_output():
                    run_sample(theirs, key, ours, sample, gradients)
            except Skipped:
                continue
            except Exception as error:
                missing += is_missing(error)
                reason = f"{name} {str(dtype).split('.')[1]}: {short(error)}".strip()
                if verbose:
                    print(f"{reason}\n    {' '.join(sample.summary().split())[:400]}")
                if not result["reason"]:
                    result["reason"] = reason
                    result["sample"] = " ".join(sample.summary().split())[:400]
            else:
                result["passed"] += 1
            result["samples"] += 1
    if result["samples"] == 0:
        result["status"] = "empty"
    elif result["passed"] < result["samples"]:
        result["status"] = "missing" if missing == result["samples"] else "fail"
    return result


def samples_of(info, dtype, gradients):
    torch.manual_seed(1)
    np.random.seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = info.sample_inputs("cpu", dtype, requires_grad=bool(gradients))
        left_out = SAMPLES_LEFT_OUT.get(key_of(info), (lambda sample: False, ""))[0]
        return [sample for sample in made if not left_out(sample)]


@contextlib.contextmanager
def no_output():
    with np.errstate(all="ignore"):
        yield


def main():
    torch.set_num_threads(1)
    if sys.argv[1:] == ["--list"]:
        print("\n".join(database()))
        return
    verbose = "-v" in sys.argv
    for key in [a for a in sys.argv[1:] if a != "-v"]:
        print(json.dumps(run_entry(key, verbose)), flush=True)


if __name__ == "__main__":
    main()
