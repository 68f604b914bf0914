"""Serves the live page and the metrics of an account, on this machine alone and to be read only.

The two files are read anew for each request. There is no other path, no method but GET and HEAD,
and no answer to a name other than this machine's own, so that no page of the web can ask here.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from conf.errors import InputError
from experiments.monitoring.metrics import CONTENT_TYPE
from experiments.monitoring.watch import LIVE, METRICS

LOOPBACK = "127.0.0.1"
_RENEW_SECONDS = 60  # after which a browser asks again

# Path -> file in the account's folder, and its kind.
_FILES: Mapping[str, tuple[str, str]] = {
    "/": (LIVE, "text/html; charset=utf-8"),
    "/metrics": (METRICS, CONTENT_TYPE),
}


class _Handler(BaseHTTPRequestHandler):
    folder: Path
    timeout = 10  # seconds a client may take

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        host = self.headers.get("Host", "").rsplit(":", 1)[0]
        if host not in (LOOPBACK, "localhost"):
            self.send_error(HTTPStatus.FORBIDDEN)
            return
        file, kind = _FILES.get(self.path, ("", ""))
        if not file:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        try:
            content = (self.folder / file).read_bytes()
        except OSError:
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, "Nothing was decided yet")
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        if self.path == "/":
            self.send_header("Refresh", str(_RENEW_SECONDS))
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def version_string(self) -> str:
        return "polyhedgerl"

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged."""


def open_server(folder: Path, port: int) -> ThreadingHTTPServer:
    """A server of the account's folder on the loopback; InputError where the port is taken."""
    handler = type("Handler", (_Handler,), {"folder": folder})
    try:
        return ThreadingHTTPServer((LOOPBACK, port), handler)
    except OSError as error:
        raise InputError(
            f"port {port} cannot be used: {error.strerror}", "Choose another: port=..."
        ) from None
