"""What it costs to call a captured function, by the number of tensors that it holds.

    python benchmarks/call_cost.py
    python benchmarks/call_cost.py --counts 1,10,100 --rounds 20

Each of N parameters has 16 elements, so that a call is little else than its own cost. `read`: the
sum of each is returned. `written`: all are multiplied in place. `trained`: gradients and an update
by SGD with momentum (N parameters, N gradients, N buffers). Microseconds per call, best of the
rounds; in brackets how many of them the program takes, the rest being Python around it. With JAX
installed the same as a pure function of donated lists of arrays.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

SIZE = 16


def best_us(call, rounds: int) -> float:
    """Microseconds per call: the best of `rounds` rounds of about 10 ms."""
    for _ in range(3):
        call()
    start = time.perf_counter()
    call()
    turns = max(3, int(0.01 / (time.perf_counter() - start)))
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(turns):
            call()
        best = min(best, (time.perf_counter() - start) / turns)
    return best * 1e6


def ours(count: int) -> dict:
    """Jitted functions by name."""
    import monograph as mg

    def parameters():
        return [mg.ones(SIZE, requires_grad=True) for _ in range(count)]

    x = mg.full((SIZE,), 0.999)
    reads, writes, trains = parameters(), parameters(), parameters()
    optimizer = mg.optim.SGD(trains, lr=0.1, momentum=0.9)

    def read():
        with mg.no_grad():
            return [p.sum() for p in reads]

    def written(x):
        with mg.no_grad():
            for p in writes:
                p.mul_(x)

    def trained(x):
        optimizer.zero_grad()
        losses = [(p * x).sum() for p in trains]
        mg.autograd.backward(losses)
        optimizer.step()
        return losses[0]

    jitted = mg.jit(read), mg.jit(written), mg.jit(trained)
    return {f.__name__: (f, args) for f, args in zip(jitted, [(), (x,), (x,)])}


def native_us(function, rounds: int) -> float:
    """The program alone, on copies."""
    from monograph.report import program_inputs
    from monograph.runtime import buffers

    (capture,) = next(iter(function.captures.values()))
    arrays = program_inputs(capture, None)
    outs = [buffers.empty(a.shape, a.dtype.numpy) for a in capture.out_avals]
    for o, i in capture.donate.items():
        outs[o] = arrays[i]
    slots = np.array([buffers.address_of(a) for a in (*arrays, *outs)])
    place = slots.ctypes.data
    return best_us(lambda: capture.executable.run_at(place, [*arrays, *outs]), rounds)


def jax_calls(count: int) -> dict:
    """The same with JAX: functions that make one call and keep its state."""
    import jax
    import jax.numpy as jnp

    x = jnp.full((SIZE,), 0.999, jnp.float32)

    def fresh():
        return [jnp.ones(SIZE, jnp.float32) for _ in range(count)]

    @jax.jit
    def read(ps):
        return [p.sum() for p in ps]

    written = jax.jit(lambda ps, x: [p * x for p in ps], donate_argnums=0)

    def update(ps, buffers, x):
        loss, grads = jax.value_and_grad(lambda ps: sum((p * x).sum() for p in ps))(ps)
        buffers = [b * 0.9 + g for b, g in zip(buffers, grads)]
        return [p - 0.1 * b for p, b in zip(ps, buffers)], buffers, grads, loss

    trained = jax.jit(update, donate_argnums=(0, 1))
    state = {"read": fresh(), "written": fresh(), "trained": (fresh(), fresh())}

    def call_read():
        read(state["read"])[-1].block_until_ready()

    def call_written():
        state["written"] = written(state["written"], x)
        state["written"][-1].block_until_ready()

    def call_trained():
        *state["trained"], _, loss = trained(*state["trained"], x)
        loss.block_until_ready()

    return {"read": call_read, "written": call_written, "trained": call_trained}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", default="1,10,100,1000")
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    names = ("read", "written", "trained")
    print(f"{'':20}" + "".join(f"{name:>20}" for name in names))
    for count in map(int, arguments.counts.split(",")):
        row = []
        for function, args in ours(count).values():
            whole = best_us(lambda f=function, args=args: f(*args), arguments.rounds)
            row.append(f"{whole:.1f} ({native_us(function, arguments.rounds):.1f})")
        print(f"{f'ours, {count}':20}" + "".join(f"{cell:>20}" for cell in row))
        try:
            calls = jax_calls(count)
        except ImportError:
            continue
        row = [f"{best_us(calls[name], arguments.rounds):.1f}" for name in names]
        print(f"{f'jax, {count}':20}" + "".join(f"{cell:>20}" for cell in row))


if __name__ == "__main__":
    main()
