"""`monograph board`: a live page of training runs, served on this machine by the standard library.

runs.py reads the files that loggers write, server.py gives them out, page.html, page.css and
page.js are the page. Nothing is loaded from anywhere else.
"""

from .runs import Runs
from .server import Board

__all__ = ["Board", "Runs"]
