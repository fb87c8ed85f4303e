"""The recipe of examples/cifar10.py beside PyTorch's: what an epoch takes, data and all.

    python benchmarks/cifar10.py --data-dir DIR               as the example wants it
    python benchmarks/cifar10.py --data-dir DIR --compile     torch.compile as well

Network, optimizer, batch size, augmentation and loader workers are the example's; PyTorch runs the
same network (channels last) and reads the same data set object through its own DataLoader. Turns
of some batches alternate; given are the medians of a step with its batch, and what that makes for
the 195 steps of an epoch.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from itertools import cycle
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

STEPS = 195  # of an epoch


def example():
    spec = importlib.util.spec_from_file_location("cifar10_example", ROOT / "examples/cifar10.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ours(recipe, data_dir: str, batch: int, workers: int):
    """A function that does one step, with its batch."""
    import monograph as mg
    from monograph.nn import functional as F

    loader, _ = recipe.loaders(data_dir, batch, workers)
    model = recipe.ResNet()
    optimizer = model.configure_optimizers()["optimizer"]

    @mg.jit
    def step(images, labels):
        loss = F.cross_entropy(model(images), labels, label_smoothing=0.2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    batches = cycle(loader)
    return lambda: step(*next(batches)).item()


def torchs(recipe, data_dir: str, batch: int, workers: int, compiled: bool):
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Block(nn.Module):
        def __init__(self, channels, out):
            super().__init__()
            self.conv1 = nn.Conv2d(channels, out, 3, padding=1, bias=False)
            self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
            self.norm1, self.norm2 = nn.BatchNorm2d(out), nn.BatchNorm2d(out)
            for norm in (self.norm1, self.norm2):
                norm.weight.requires_grad_(False)

        def forward(self, x):
            x = F.gelu(self.norm1(F.max_pool2d(self.conv1(x), 2)))
            return x + F.gelu(self.norm2(self.conv2(x)))

    class ResNet(nn.Module):
        def __init__(self, width=64):
            super().__init__()
            self.whiten = nn.Conv2d(3, 24, 2, bias=False).requires_grad_(False)
            self.body = nn.Sequential(
                Block(24, width), Block(width, 4 * width), Block(4 * width, 4 * width)
            )
            self.head = nn.Linear(4 * width, 10, bias=False)

        def forward(self, images):
            return self.head(self.body(F.gelu(self.whiten(images))).amax((2, 3))) / 9

    torch.set_num_threads(2)
    data = recipe.loaders(data_dir, batch, workers)[0].dataset
    loader = torch.utils.data.DataLoader(
        data, batch, shuffle=True, drop_last=True, num_workers=workers
    )
    model = ResNet().to(memory_format=torch.channels_last)
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(weights, 0.1, momentum=0.85, nesterov=True, weight_decay=0.0013)

    def loss_of(images, labels):
        return F.cross_entropy(model(images), labels, label_smoothing=0.2)

    if compiled:
        loss_of = torch.compile(loss_of)
    batches = cycle(loader)

    def step():
        images, labels = next(batches)
        loss = loss_of(images.to(memory_format=torch.channels_last), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8, help="a turn has so many")
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    recipe = example()
    given = (recipe, args.data_dir, args.batch_size, args.workers)
    contenders = {"ours": ours(*given), "torch": torchs(*given, False)}
    if args.compile:
        contenders["torch-compile"] = torchs(*given, True)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for step in contenders.values():
        for _ in range(3):
            step()
    for _ in range(args.rounds):
        for name, step in contenders.items():
            step()  # its workers have filled their queue by now
            start = time.perf_counter()
            for _ in range(args.steps):
                step()
            seconds[name].append((time.perf_counter() - start) / args.steps)
    for name, times in seconds.items():
        each = median(times)
        print(f"{name:14} {each * 1e3:8.1f} ms a step {each * STEPS:8.1f} s an epoch")
    best = min(median(t) for name, t in seconds.items() if name != "ours")
    print(f"ours / best peer: {median(seconds['ours']) / best:.2f}")


if __name__ == "__main__":
    main()
