"""Images from tar shards, augmented: our DataLoader beside PyTorch's, the transforms the same.

    python benchmarks/loader.py                               # made-up images, 2 workers
    python benchmarks/loader.py --workers 0,1,2 --images 2048 --size 64

Each sample is a JPEG file and a class out of a tar file, decoded by Pillow, cropped at random,
flipped, jittered in colour and normalized; a batch has 64. Both loaders read the same data set
object; `torch` collates and moves batches between processes in its own way. Images a second, the
best of rounds that take turns.
"""

from __future__ import annotations

import argparse
import io
import sys
import tarfile
import tempfile
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np  # noqa: E402

from monograph.data import DataLoader, TarShards, transforms  # noqa: E402


def write_shards(folder: Path, images: int, size: int, shards: int = 4) -> None:
    """Tar files of smooth random images."""
    import PIL.Image

    r = np.random.default_rng(0)
    for shard in range(shards):
        with tarfile.open(folder / f"train-{shard:04d}.tar", "w") as tar:
            for i in range(shard, images, shards):
                coarse = r.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                image = PIL.Image.fromarray(coarse).resize((size, size), PIL.Image.BICUBIC)
                content = io.BytesIO()
                image.save(content, "JPEG", quality=90)
                for ending, body in (("jpg", content.getvalue()), ("cls", b"%d" % (i % 10))):
                    member = tarfile.TarInfo(f"{i:06d}.{ending}")
                    member.size = len(body)
                    tar.addfile(member, io.BytesIO(body))


class Augment:
    """(image, class) -> the same, augmented; a class so that workers can be spawned with it."""

    def __init__(self, crop: int):
        self.image = transforms.Compose(
            [
                transforms.RandomCrop(crop, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ColorJitter(0.4, 0.4, 0.4),
                transforms.Normalize([0.5, 0.5, 0.5], [0.25, 0.25, 0.25]),
            ]
        )

    def __call__(self, sample):
        return self.image(sample[0]), sample[1]


def contenders(data, batch: int, workers: int) -> dict:
    """Loaders by name."""
    found = {"ours": DataLoader(data, batch, shuffle=True, num_workers=workers)}
    try:
        from torch.utils.data import DataLoader as TorchLoader
    except ImportError:
        print("torch is not installed: ours alone")
        return found
    found["torch"] = TorchLoader(data, batch, shuffle=True, num_workers=workers)
    return found


def epoch_s(loader) -> float:
    started = time.perf_counter()
    for images, _ in loader:
        images.shape  # noqa: B018
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--size", type=int, default=64, help="of the images, in pixels")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--workers", default="0,2")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    warnings.filterwarnings("ignore", "This process .*multi-threaded", DeprecationWarning)
    with tempfile.TemporaryDirectory() as name:
        write_shards(Path(name), args.images, args.size)
        data = TarShards(f"{name}/train-*.tar", keys=("jpg", "cls"), transform=Augment(args.size))
        for workers in map(int, args.workers.split(",")):
            loaders = contenders(data, args.batch, workers)
            best = dict.fromkeys(loaders, float("inf"))
            for _ in range(args.rounds):
                for who, loader in loaders.items():
                    best[who] = min(best[who], epoch_s(loader))
            rates = {who: args.images / s for who, s in best.items()}
            ratio = f"{rates['ours'] / rates['torch']:6.2f}x" if "torch" in rates else ""
            shown = "  ".join(f"{who} {rate:8.0f} images/s" for who, rate in rates.items())
            print(f"{workers} workers   {shown}   {ratio}", flush=True)


if __name__ == "__main__":
    main()
