"""`monograph`: the command line.

Bad input and failures are one sentence on stderr and exit status 1 (2 for wrong arguments);
`--traceback` shows where they come from.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import monograph as mg

from ..core.errors import MonographError
from ..runtime.threads import set_num_threads
from . import boarding, digits, doctor, fit, gpt, sweep


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    args = make_parser().parse_args(argv)
    try:
        if getattr(args, "threads", None) is not None:
            set_num_threads(args.threads)
        return args.run(args)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe is gone: nobody to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (MonographError, OSError) as error:
        if args.traceback:
            raise
        print(f"monograph: {_sentence(error)}", file=sys.stderr)
        return 1


def _sentence(error: BaseException) -> str:
    if isinstance(error, MonographError):
        return error.message + (f"\n  hint: {error.hint}" if error.hint else "")
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def make_parser() -> argparse.ArgumentParser:
    """The grammar of the command line."""
    parser = argparse.ArgumentParser(
        prog="monograph", description="A complete deep-learning framework in one small package."
    )
    parser.add_argument("--version", action="version", version=f"monograph {mg.__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where an error comes from")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    demo = commands.add_parser(
        "demo",
        help="train a small network on handwritten digits; `demo gpt`: a text model",
        description="Train a small convolutional network on handwritten digits, show what it "
        "makes of digits that it has not seen, and write its weights to a file.",
    )
    demo.add_argument(
        "--data", choices=("digits", "mnist"), default="digits",
        help="8x8 digits that come with scikit-learn (default), or MNIST",
    )  # fmt: skip
    demo.add_argument("--data-dir", metavar="DIR", help="where the four files of MNIST are")
    demo.add_argument("--epochs", type=positive, help="default: 20, or 5 for MNIST")
    demo.add_argument("--seed", type=int, default=0)
    demo.add_argument("--output", metavar="FILE", help="default: digits.safetensors")
    _add_threads(demo)
    demo.set_defaults(run=digits.run)

    which = demo.add_subparsers(metavar="[gpt]", required=False)
    text = which.add_parser(
        "gpt",
        help="train a character model on a text and let it write",
        description="Train a GPT on the characters of a text, report its validation loss, and "
        "let it write.",
    )
    text.add_argument(
        "--text", metavar="FILE", help="what to read; default: Python's standard library"
    )
    for name, value, what in (
        ("layers", 4, "transformer blocks"),
        ("heads", 4, "attention heads per block"),
        ("width", 128, "features per character"),
        ("context", 64, "characters that the model sees"),
        ("batch", 12, "windows per step"),
        ("steps", gpt.STEPS, "updates"),
    ):
        text.add_argument(
            f"--{name}", type=positive, default=value, help=f"{what} (default: {value})"
        )
    text.add_argument("--lr", type=float, default=3e-3, help="highest learning rate (0.003)")
    text.add_argument("--dropout", type=float, default=0.0, help="default: 0")
    text.add_argument("--sample", type=int, default=400, help="characters to write (400)")
    text.add_argument("--seed", type=int, default=0)
    _add_threads(text)
    text.set_defaults(run=gpt.run)

    fitting = commands.add_parser(
        "fit",
        help="train as a configuration file says, without a program",
        description="Train a model as a configuration file (.json, .toml, .yaml) says. Words such "
        "as trainer.max_epochs=5 override it.",
    )
    fitting.add_argument("--config", metavar="FILE", required=True, type=Path)
    fitting.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    fitting.add_argument("overrides", nargs="*", metavar="NAME=VALUE")
    _add_threads(fitting)
    fitting.set_defaults(run=fit.run)

    searching = commands.add_parser(
        "sweep",
        help="many runs of a configuration, to find the best settings",
        description="Train with many settings of a configuration file that has a part `sweep`: a "
        "grid, at random, or by successive halving. The same command goes on after an "
        "interruption.",
    )
    searching.add_argument("--config", metavar="FILE", required=True, type=Path)
    searching.add_argument("overrides", nargs="*", metavar="NAME=VALUE")
    _add_threads(searching)
    searching.set_defaults(run=sweep.run)

    listing = commands.add_parser(
        "runs",
        help="list and compare training runs",
        description="A table of the runs under a directory, with the newest value of each metric.",
    )
    listing.add_argument("directory", nargs="?", default="runs", type=Path)
    listing.add_argument(
        "--metric", action="append", help="only this; runs are sorted by the first"
    )
    listing.add_argument("--max", action="store_true", help="the highest value first")
    listing.set_defaults(run=fit.runs)

    board = commands.add_parser(
        "board",
        help="show training runs on a live page",
        description="Serve a page that shows the runs below a directory, also while they go on: "
        "curves, the machine, distributions, samples, the model and the settings.",
    )
    board.add_argument("directory", nargs="?", default="runs", type=Path)
    board.add_argument("--host", default="127.0.0.1", help="default: this machine only")
    board.add_argument("--port", type=int, default=6010, help="default: 6010; 0: any free one")
    board.add_argument("--open", action="store_true", help="open it in a browser")
    board.set_defaults(run=boarding.run)

    check = commands.add_parser(
        "doctor",
        help="report versions, processor and caches, and test this installation",
        description="Report what Monograph runs on and test in a second that it compiles and "
        "computes correctly. The exit status is 1 if a test fails.",
    )
    check.set_defaults(run=doctor.run)
    return parser


def _add_threads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=positive, help="default: the cores of this machine")


def positive(text: str) -> int:
    """An int of at least 1, for argparse."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return value


if __name__ == "__main__":
    sys.exit(main())
