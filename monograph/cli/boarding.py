"""`monograph board`: serve the page of training runs until it is interrupted."""

from __future__ import annotations

import argparse
import webbrowser

from ..board import Board
from ..board.server import LOOPBACK


def run(args: argparse.Namespace) -> int:
    """The command."""
    board = Board(args.directory, args.host, args.port)
    print(f"{args.directory}: {board.url} (Ctrl-C ends it)", flush=True)
    if args.host not in LOOPBACK:
        print("everybody on the network can look: there is no password", flush=True)
    if args.open:
        webbrowser.open(board.url)
    try:
        board.serve_forever()
    except KeyboardInterrupt:
        print()
    return 0
