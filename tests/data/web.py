"""A web server for the tests: folders as pages of links, files whole or by stretches."""

import functools
import io
import os
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Whole(SimpleHTTPRequestHandler):
    """Hands out files as a whole only, as Python's own server does; what was asked stands in ``asked``."""

    asked: list[tuple[str, str, str]]

    def log_message(self, format: str, *args: Any) -> None:
        self.asked.append((self.command, self.path, self.headers.get("Range") or ""))


class Stretches(Whole):
    """Hands out stretches of files too."""

    def send_head(self) -> Any:
        path, wanted = self.translate_path(self.path), self.headers.get("Range")
        if not os.path.isfile(path) or not wanted:
            return super().send_head()
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        size = os.path.getsize(path)
        begin = int(first) if first else max(0, size - int(last))
        end = min(size, int(last) + 1) if first and last else size
        with open(path, "rb") as file:
            file.seek(begin)
            content = file.read(end - begin)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{size}")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return io.BytesIO(content)


@contextmanager
def served(folder: Path, kind: type[Whole] = Stretches) -> Generator[tuple[str, list[tuple[str, str, str]]]]:
    """The address under which a folder is served, and what was asked of the server: ``(verb, path, range)``."""
    asked: list[tuple[str, str, str]] = []
    handler = type("Handler", (kind,), {"asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()
            thread.join()
