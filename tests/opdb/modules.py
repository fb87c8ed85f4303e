"""PyTorch's samples of modules: ours of the same names, with the same weights, beside them.

    python tests/opdb/modules.py [NAME...] [-v]

Each entry of torch.testing._internal.common_modules.module_db gives arguments for a module and for
its forward. In float64, training and not, results, gradients of parameters and inputs, and buffers
afterwards are compared.
"""

import sys
import warnings

import numpy as np
import worker

import monograph as mg

torch = worker.torch
PackedSequence = torch.nn.utils.rnn.PackedSequence

# Not attempted, or compared in part, and why.
LEFT_OUT = {"LinearCrossEntropyLoss": "experimental in PyTorch"}
GRADIENTS_DIFFER = {"CTCLoss": "the gradient is for log_probs here (docs/differences.md)"}
RANDOM = ("RReLU", "FractionalMaxPool2d", "FractionalMaxPool3d")


def leaves(x):
    if isinstance(x, (list, tuple)):
        return [leaf for v in x for leaf in leaves(v)]
    return [] if x is None else [x]


def rebuilt(theirs):
    """Our module of a PyTorch module that is an argument: its weights come with the whole."""
    kind = getattr(mg.nn, type(theirs).__name__)
    if isinstance(theirs, torch.nn.TransformerEncoderLayer):
        return kind(
            theirs.self_attn.embed_dim, theirs.self_attn.num_heads, theirs.linear1.out_features,
            theirs.dropout.p, theirs.activation.__name__, batch_first=theirs.self_attn.batch_first,
            norm_first=theirs.norm_first, bias=theirs.linear1.bias is not None,
        )  # fmt: skip
    return kind()


def pair_of(x, pairs):
    """(theirs, ours) of an argument."""
    if isinstance(x, torch.nn.Module):
        return x, rebuilt(x)
    if isinstance(x, PackedSequence):
        parts = [worker.converted(part, pairs) for part in x]
        kinds = PackedSequence, mg.nn.utils.rnn.PackedSequence
        return tuple(kind(*side) for kind, side in zip(kinds, zip(*parts)))
    return worker.converted(x, pairs)


def converted(given):
    """(their args and kwargs, ours, pairs of tensors) of a call."""
    pairs = []
    args = [pair_of(x, pairs) for x in given.args]
    kwargs = {name: pair_of(x, pairs) for name, x in given.kwargs.items()}
    sides = [
        (tuple(p[k] for p in args), {name: p[k] for name, p in kwargs.items()}) for k in (0, 1)
    ]
    return *sides, pairs


def is_random(name, theirs, training):
    drops = torch.nn.modules.dropout._DropoutNd
    has = any(isinstance(m, drops) and m.p > 0 for m in theirs.modules())
    has = has or getattr(theirs, "dropout", 0) not in (0, 0.0) and not has
    return name in RANDOM or (training and (has or "Dropout" in name))


def close(got, expected, what, rtol=1e-7, atol=1e-8):
    np.testing.assert_allclose(
        got.detach().numpy(), expected.detach().numpy(), rtol, atol, err_msg=what
    )


def check(name, constructor, forward, training):
    """True; None where PyTorch refuses the sample; AssertionError where we differ."""
    made, ours_made, _ = converted(constructor)
    given, ours_given, pairs = converted(forward)
    try:
        theirs = getattr(torch.nn, name)(*made[0], **made[1]).double().train(training)
        is_lazy = any(map(torch.nn.parameter.is_lazy, theirs.parameters()))
        if is_lazy:
            with torch.no_grad():
                theirs(*given[0], **given[1])
        state = {k: mg.tensor(v.numpy().copy()) for k, v in theirs.state_dict().items()}
        expected = leaves(theirs(*given[0], **given[1]))
    except worker.REFUSED:
        return None
    ours = getattr(mg.nn, name)(*ours_made[0], **ours_made[1]).double().train(training)
    if is_lazy:
        with mg.no_grad():
            ours(*ours_given[0], **ours_given[1])
    ours.load_state_dict(state)
    got = leaves(ours(*ours_given[0], **ours_given[1]))
    assert len(got) == len(expected), f"{len(got)} results instead of {len(expected)}"
    drawn = is_random(name, theirs, training)
    for g, e in zip(got, expected):
        worker.compare(g, e, name, values=not drawn)
    if drawn:
        return True
    for (k, b), (_, e) in zip(ours.named_buffers(), theirs.named_buffers(), strict=True):
        close(b, e, k)
    roots = [(g, e) for g, e in zip(got, expected) if e.requires_grad]
    if not roots or name in GRADIENTS_DIFFER:
        return True
    torch.autograd.backward([e for _, e in roots], [torch.ones_like(e) for _, e in roots])
    mg.autograd.backward([g for g, _ in roots], [mg.ones_like(g) for g, _ in roots])
    parameters = [(k, p, q) for (k, p), q in zip(ours.named_parameters(), theirs.parameters())]
    inputs = [(f"input {i}", x, y) for i, (_, y, x) in enumerate(pairs) if y.requires_grad]
    for what, x, y in parameters + inputs:
        if y.grad is not None:
            assert x.grad is not None, f"{what} has no gradient"
            close(x.grad, y.grad, f"gradient of {what}", 1e-6, 1e-7)
    return True


def run_entry(info, verbose):
    """(samples that pass, samples, what is wrong with the first that fails)."""
    name, passed, count, reason = info.module_cls.__name__, 0, 0, ""
    if not hasattr(mg.nn, name):
        return 0, 1, "missing"
    for training in (True, False):
        samples = info.module_inputs_func(
            info, device="cpu", dtype=torch.float64, requires_grad=True, training=training
        )
        for sample in samples:
            if sample.forward_input is None:
                continue
            try:
                with worker.no_output():
                    done = check(name, sample.constructor_input, sample.forward_input, training)
            except Exception as error:
                count += 1
                reason = reason or worker.short(error)
                if verbose:
                    shapes = [getattr(x, "shape", x) for x in sample.forward_input.args]
                    print(f"    {worker.short(error)}\n    {shapes}, training={training}")
            else:
                passed, count = passed + bool(done), count + (done is not None)
    return passed, count, reason


def main():
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    from torch.testing._internal.common_modules import module_db

    names = {a for a in sys.argv[1:] if a != "-v"}
    entries = [i for i in module_db if not names or i.module_cls.__name__ in names]
    tried = whole = passed = samples = 0
    for info in entries:
        name = info.module_cls.__name__
        if name in LEFT_OUT:
            print(f"excluded {name:34}{'':12}{LEFT_OUT[name]}")
            continue
        good, count, reason = run_entry(info, "-v" in sys.argv)
        tried, whole = tried + 1, whole + (good == count)
        passed, samples = passed + good, samples + count
        note = reason or GRADIENTS_DIFFER.get(name, "")
        state = "pass" if good == count else "fail"
        print(f"{state:9}{name:34}{f'{good}/{count}':>10}  {note}".rstrip(), flush=True)
    print(f"\nmodules {whole}/{tried}  samples {passed}/{samples}")
    sys.exit(whole < tried)


if __name__ == "__main__":
    main()
