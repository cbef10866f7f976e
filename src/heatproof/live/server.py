"""The live page's server: this machine alone, and of it only who knows the page's address.

It listens on 127.0.0.1 and answers to no other name (against DNS rebinding). Without the token it hands out the page's
own files and nothing else; the token stands in the page's address behind ``#``, which browsers keep to themselves.
Photos are those that were given, by their numbers; no request names a path.
"""

import hmac
import json
import secrets
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from socketserver import TCPServer
from threading import Lock, Thread
from typing import Any

from heatproof.errors import HeatproofError, InputError
from heatproof.live.saved import save
from heatproof.live.turn import Abandoned, turn
from heatproof.live.wire import Words, read_object
from heatproof.results.whole import plain

ADDRESS, PORT = "127.0.0.1", 7411
LARGEST = 65_536
"""Bytes of a request: the page sends a few hundred."""
PATIENCE = 20
"""Seconds that a request may take to arrive."""
TOKEN = "X-Heatproof-Token"
FILES: Mapping[str, tuple[str, str, str]] = {
    "/": ("heatproof.live", "page.html", "text/html"),
    "/page.css": ("heatproof.report", "page.css", "text/css"),
    "/live.css": ("heatproof.live", "live.css", "text/css"),
    "/table.js": ("heatproof.report", "table.js", "text/javascript"),
    "/viewer.js": ("heatproof.report", "viewer.js", "text/javascript"),
    "/live.js": ("heatproof.live", "live.js", "text/javascript"),
}
"""The page is these, and asks for nothing else."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Server(ThreadingHTTPServer):
    """The page of some networks and photos, and what it asks.

    Args:
        words: what there is to look at.
        port: of this machine; 0 for any that is free.
        within: where run folders are made.
        typed: the command that started the page, for what is saved.

    Raises:
        InputError: the port is taken, or not to be had.
    """

    daemon_threads = True
    allow_reuse_port = False

    def __init__(self, words: Words, port: int = PORT, within: Path = Path("runs"), typed: str = ""):
        try:
            super().__init__((ADDRESS, port), _Request)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(
                f"port {port} of this machine cannot be had ({reason}): another page may be open there; give another "
                "with --port, or --port 0 for any that is free"
            ) from error
        self.words, self.within, self.typed = words, within, typed
        self.token = secrets.token_urlsafe(24)
        self.one_at_a_time, self.ended = Lock(), False
        self.answers: Mapping[str, Callable[[dict[str, Any]], Any]] = {
            "/begin": lambda body: words.begin(),
            "/look": words.look,
            "/cover": lambda body: asdict(words.cover(body)),
            "/save": lambda body: {"folder": str(save(words.live, words.seen(body), within, typed))},
        }

    def server_bind(self) -> None:
        """As any TCP server: an HTTP server of the standard library asks the DNS for its own name."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = ADDRESS, self.port

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A page that was closed before its answer came is no error."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        """The page's address, with its token."""
        return f"http://{ADDRESS}:{self.port}/#{self.token}"

    @property
    def hosts(self) -> set[str]:
        """By what names the page may be asked for."""
        names = {ADDRESS, "localhost"}
        return {f"{name}:{self.port}" for name in names} | (names if self.port == 80 else set())

    def in_background(self) -> "Server":
        """Serve until :meth:`close`, in a thread of its own: for notebooks."""
        Thread(target=self.serve_forever, daemon=True).start()
        return self

    def close(self) -> None:
        """Stop serving, and give the port back; connections that browsers hold open are answered no more."""
        self.ended = True
        self.shutdown()
        self.server_close()

    def _repr_html_(self) -> str:
        return f'<p>The live page: <a href="{self.url}" target="_blank" rel="noopener">{self.url}</a></p>'

    def __repr__(self) -> str:
        return f"the live page: {self.url} (close() ends it)"


class _Refused(Exception):
    """A request that is not answered, with the reason as HTTP has it."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status = status


class _Request(BaseHTTPRequestHandler):
    """One request; all checks come before anything is read or done."""

    server: Server  # pyright: ignore[reportIncompatibleVariableOverride] (the one that made it)
    server_version, sys_version = "heatproof", ""
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE

    def do_GET(self) -> None:
        try:
            self._check_host()
            if self.path not in FILES:
                raise _Refused(404, "the page has no such file")
        except _Refused as refused:
            self._refuse(refused)
            return
        package, name, kind = FILES[self.path]
        self._send(200, resources.files(package).joinpath(name).read_bytes(), f"{kind}; charset=utf-8")

    def do_POST(self) -> None:
        try:
            answer = self._check_post()
            body = read_object(self.rfile.read(self._length()))
            # what there is to choose from waits for nobody, and what is saved is saved to its end
            if self.path == "/begin":
                found = answer(body)
            elif self.path == "/save":
                with self.server.one_at_a_time:
                    found = answer(body)
            else:
                with turn(self.server.one_at_a_time, self.connection):
                    found = answer(body)
        except Abandoned:
            self.close_connection = True
        except _Refused as refused:
            self._refuse(refused)
        except HeatproofError as error:
            self._send_json(400, {"error": str(error)})
        except Exception as error:
            self._send_json(
                500, {"error": f"this is a fault of heatproof or of the network, {type(error).__name__}: {error}"}
            )
        else:
            self._send_json(200, found)

    def _check_host(self) -> None:
        if self.server.ended:
            raise _Refused(503, "the page was ended: start it again, and open its new address")
        if self.headers.get("Host", "") not in self.server.hosts:
            raise _Refused(403, f"the page answers to {ADDRESS}:{self.server.port} alone")

    def _check_post(self) -> Callable[[dict[str, Any]], Any]:
        """What answers the request, if it comes from the page itself."""
        self._check_host()
        origin = self.headers.get("Origin")
        if origin is not None and origin not in {f"http://{host}" for host in self.server.hosts}:
            raise _Refused(403, "the request comes from another page")
        # as bytes, since a header may hold what is no ASCII
        if not hmac.compare_digest(self.headers.get(TOKEN, "").encode(), self.server.token.encode()):
            raise _Refused(403, "open the whole address that heatproof app wrote: what follows the # is the key")
        if self.headers.get_content_type() != "application/json":
            raise _Refused(415, "the request is no JSON")
        if not 0 <= self._length() <= LARGEST:
            raise _Refused(413, f"the request is larger than {LARGEST} bytes")
        if self.path not in self.server.answers:
            raise _Refused(404, "there is no such question")
        return self.server.answers[self.path]

    def _length(self) -> int:
        text = self.headers.get("Content-Length", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1

    def _refuse(self, refused: _Refused) -> None:
        # what is left of the request is not read
        self.close_connection = True
        self._send_json(refused.status, {"error": str(refused)})

    def _send_json(self, status: int, content: Any) -> None:
        text = json.dumps(plain(content), separators=(",", ":"), allow_nan=False)
        self._send(status, text.encode(), "application/json")

    def _send(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in (*HEADERS.items(), ("Content-Type", kind), ("Content-Length", str(len(content)))):
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the address with its key stays out of every log."""
