"""What a program of this folder needs to give the same losses with two libraries.

Initial weights and noise differ between libraries: a program passes its models through `load` and
takes noise from here. What is compared it hands to `record`.
"""

from types import SimpleNamespace

import numpy as np

# library: the module in torch's place; weights: state dicts by order of `load`, kept by the first
# library; compile: whether `compiled` compiles; losses: what was recorded.
run = SimpleNamespace(library=None, weights=[], first=True, compile=False, losses=[], models=0)


def start(library, first, compile=False):
    """Begin a run of a program. The first run keeps its models' weights, others take them over."""
    if first:
        run.weights = []
    run.library, run.first, run.compile = library, first, compile
    run.losses, run.models = [], 0
    run.random = np.random.default_rng(0)
    np.random.seed(0)
    library.manual_seed(0)


def load(model):
    """The model, with the weights that it had in the first run."""
    if run.first:
        state = model.state_dict()
        run.weights.append({name: value.detach().numpy().copy() for name, value in state.items()})
    else:
        kept = run.weights[run.models]
        model.load_state_dict({name: run.library.tensor(value) for name, value in kept.items()})
    run.models += 1
    return model


def noise(*shape):
    """Standard normal numbers, the same in each run."""
    return run.library.from_numpy(run.random.standard_normal(shape).astype(np.float32))


def compiled(function):
    """The function under `jit`, in the run that compiles."""
    return run.library.jit(function) if run.compile else function


def record(value):
    """Note a number to compare."""
    run.losses.append(float(value.detach() if hasattr(value, "detach") else value))
