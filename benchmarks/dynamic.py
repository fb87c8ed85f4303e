"""Training on many sequence lengths: programs of run-time sizes beside a program for each length.

    python benchmarks/dynamic.py
    python benchmarks/dynamic.py --model lstm --lengths 40 --rounds 5

For an LSTM and a transformer: how many programs are compiled, the seconds of the first round over
all lengths (with compilation), and then milliseconds per step, the best of the rounds for each
length, summed over the lengths. Both are measured in turn, in one process.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

WORDS, WIDTH, BATCH = 64, 128, 16


def models() -> dict:
    from monograph import arange, nn

    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(WORDS, WIDTH)
            self.cells = nn.LSTM(WIDTH, WIDTH, 2, batch_first=True)
            self.head = nn.Linear(WIDTH, WORDS)

        def forward(self, x):
            return self.head(self.cells(self.words(x))[0])

    class Transformer(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.places = nn.Embedding(WORDS, WIDTH), nn.Embedding(512, WIDTH)
            layer = nn.TransformerEncoderLayer(
                WIDTH, 4, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True
            )
            self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.head = nn.Linear(WIDTH, WORDS)

        def forward(self, x):
            t = x.shape[1]
            mask = nn.Transformer.generate_square_subsequent_mask(t)
            h = self.words(x) + self.places(arange(t))
            return self.head(self.layers(h, mask=mask, is_causal=True))

    return {"lstm": Recurrent, "transformer": Transformer}


def step_of(make, dynamic):
    """A training step under jit."""
    import monograph as mg
    import monograph.nn.functional as F

    mg.manual_seed(0)
    model = make()
    optimizer = mg.optim.AdamW(model.parameters(), lr=1e-3)

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
        loss.backward()
        optimizer.step()
        return loss

    return mg.jit(step, dynamic=dynamic)


def main() -> None:
    import monograph as mg

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="lstm,transformer")
    parser.add_argument("--lengths", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    random = np.random.default_rng(0)
    lengths = random.permutation(np.arange(16, 16 + 4 * options.lengths, 4)).tolist()
    batches = [
        [mg.tensor(random.integers(0, WORDS, (BATCH, n))) for _ in range(2)] for n in lengths
    ]
    for name in options.model.split(","):
        best = {}
        print(f"{name}: {len(lengths)} lengths from {min(lengths)} to {max(lengths)}")
        steps = {"run-time sizes": None, "fixed sizes": False}
        for title, dynamic in steps.items():
            steps[title] = step = step_of(models()[name], dynamic)
            start = time.perf_counter()
            losses = [step(x, y).item() for x, y in batches]
            seconds = time.perf_counter() - start
            programs = sum(map(len, step.captures.values()))
            print(f"  {title:15} {programs:3} programs, first round {seconds:6.1f} s", end="")
            print(f", last loss {losses[-1]:.5f}", flush=True)
            best[title] = [float("inf")] * len(batches)
        for _ in range(options.rounds):
            for k, (x, y) in enumerate(batches):
                for title, step in steps.items():
                    step(x, y)  # at this size before
                    start = time.perf_counter()
                    step(x, y)
                    best[title][k] = min(best[title][k], time.perf_counter() - start)
        totals = {title: sum(times) * 1e3 for title, times in best.items()}
        for title, total in totals.items():
            print(f"  {title:15} {total / len(batches):8.3f} ms per step")
        ratio = totals["run-time sizes"] / totals["fixed sizes"]
        print(f"  run-time sizes take {ratio:.3f} times as long")


if __name__ == "__main__":
    main()
