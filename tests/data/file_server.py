"""An HTTP server of files on the loopback interface, with the faults of real ones."""

import re
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """What a test sees of the server, and sets."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    knows_ranges: bool = True
    cuts: list[int] = field(default_factory=list)  # of the next connections: bytes sent before each breaks
    errors: list[int] = field(default_factory=list)  # HTTP status of the next connections
    redirects: dict[str, str] = field(default_factory=dict)  # name → address
    delay: float = 0  # seconds between headers and body
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # (name, Range)


@contextmanager
def serve():
    """A server on a free port of 127.0.0.1, up within the context."""
    httpd = _Server(("127.0.0.1", 0), _Handler)
    httpd.state = FileServer(f"http://127.0.0.1:{httpd.server_port}")
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield httpd.state
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        # A client that has seen enough hangs up.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        state = self.server.state
        name = self.path.lstrip("/")
        asked = self.headers["Range"]
        state.requests.append((name, asked))
        if state.errors:
            return self.send_error(state.errors.pop(0))
        if name in state.redirects:
            self.send_response(302)
            self.send_header("Location", state.redirects[name])
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if name not in state.files:
            return self.send_error(404)
        content, start = state.files[name], 0
        if asked and state.knows_ranges:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        body = content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        time.sleep(state.delay)
        self.wfile.write(body[: state.cuts.pop(0)] if state.cuts else body)

    def log_message(self, *arguments):
        pass
