"""The server of the page: standard library only, this machine only unless told otherwise.

    /                       the page;  /page.css, /page.js its parts
    /api/runs               the list of runs; asking for it reads what is new
    /api/curves?run=        a run's numbers;  /api/histograms, /api/samples, /api/graph likewise
    /api/settings           settings of all runs
    /api/image?run=&place=  a sample's PNG file

It only reads. A page of another site cannot ask through the browser: the name of the host that it
asks for must be this machine's own, and nothing is allowed across origins.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ..core.errors import ArgumentError
from .runs import Run, Runs

POINTS, RECORDS = 800, 40  # of a curve and of a distribution that are sent
PAGE = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'"
)
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Board:
    """A server of the runs below a directory.

    host  where to listen; another than this machine's own shows the runs to the network
    port  0: any that is free

    >>> import tempfile
    >>> with Board(tempfile.mkdtemp(), port=0) as board:
    ...     board.url.startswith("http://127.0.0.1:")
    True
    """

    def __init__(self, directory: Any, host: str = "127.0.0.1", port: int = 6010):
        self.runs = Runs(directory)
        try:
            self.server = ThreadingHTTPServer((host, port), _Handler)
        except OSError as error:
            raise ArgumentError(
                f"board: cannot listen on {host}:{port}: {error.strerror}",
                hint="--port 0 takes one that is free",
            ) from None
        self.server.daemon_threads = True
        self.server.board = self  # type: ignore[attr-defined]
        self.host, self.port = host, self.server.server_address[1]
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{'localhost' if self.host == '0.0.0.0' else self.host}:{self.port}/"

    def serve_forever(self) -> None:
        """Serve until interrupted."""
        try:
            self.server.serve_forever()
        finally:
            self.server.server_close()

    def __enter__(self) -> Board:
        self._thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: Any) -> None:
        self.server.shutdown()
        self.server.server_close()

    def is_own(self, host: str) -> bool:
        """Whether a Host header names this server."""
        name = urlsplit(f"//{host}").hostname
        return self.host not in LOOPBACK or name in LOOPBACK

    def answer(self, path: str, query: dict[str, str]) -> Any:
        """What to answer to /api/<path>: an object for JSON, bytes of a PNG file, or None."""
        if path == "runs":
            name = self.runs.root.resolve().name
            return {"root": name, "runs": [run.summary() for run in self.runs.refresh()]}
        if path == "settings":
            return {run.name: run.settings() for run in self.runs.refresh()}
        run = self.runs.get(query.get("run", ""))
        if run is None:
            return None
        return _of_run(run, path, query)


def _of_run(run: Run, path: str, query: dict[str, str]) -> Any:
    if path == "curves":
        return run.curves(POINTS)
    if path == "histograms":
        return run.distributions(RECORDS)
    if path == "samples":
        return run.shown(RECORDS)
    if path == "graph":
        return run.graph()
    if path == "image":
        return run.image(query.get("place", ""))
    return None


class _Handler(BaseHTTPRequestHandler):
    server_version = "monograph"

    def do_GET(self) -> None:
        board: Board = self.server.board  # type: ignore[attr-defined]
        parts = urlsplit(self.path)
        if not board.is_own(self.headers.get("Host", "")):
            self._send(403, b"this board answers to its own name only\n", "text/plain")
            return
        if parts.path in PAGE:
            name, kind = PAGE[parts.path]
            self._send(200, (Path(__file__).parent / name).read_bytes(), kind)
            return
        found = None
        if parts.path.startswith("/api/"):
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            found = board.answer(parts.path.removeprefix("/api/"), query)
        if found is None:
            self._send(404, b"not found\n", "text/plain")
        elif isinstance(found, bytes):
            self._send(200, found, "image/png")
        else:
            self._send(200, json.dumps(found).encode(), "application/json")

    def _send(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(content))),
            ("Content-Security-Policy", POLICY),
            ("X-Content-Type-Options", "nosniff"),
            ("Cache-Control", "no-store"),
        ):
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(content)
        except (BrokenPipeError, ConnectionResetError):  # the page was closed
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass
