"""A small server of the standard library's, for one machine or a local net.

It has no passwords and no encryption: what is open to others belongs behind a
server that has, or TensorFlow Serving takes the run's SavedModel.
"""

import http
import http.server
import json
import socket
import sys
import threading
import time
import urllib.parse
from typing import Any

from tlkeras import errors
from tlkeras.report import templates
from tlkeras.serving import answers

# Connections at a time; more are refused at once.
CONNECTIONS = 32
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
# The page brings all that it needs, and talks to nobody else.
_POLICY = (
    "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'"
)
_BLOCK = 1 << 16
# How long a refused request may go on [seconds]; nobody is served meanwhile.
_HEARING = 0.2


class Server(http.server.ThreadingHTTPServer):
    """Answers pictures that are posted to `/predict`.

    most_bytes: of a picture's file. seconds: in which a request must have
    come; a connection that says nothing is closed after as many.
    """

    daemon_threads = True
    request_queue_size = 2 * CONNECTIONS

    def __init__(
        self,
        answerer: answers.Answerer,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        most_bytes: int = 20_000_000,
        seconds: float = 10.0,
    ):
        self.answerer = answerer
        self.most_bytes = most_bytes
        self.seconds = seconds
        self._free = threading.BoundedSemaphore(CONNECTIONS)
        if ":" in host:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise errors.UserError(
                f"nothing can be served at {host}:{port}: {reason}. Give "
                "another --host or --port."
            ) from None
        classifier = answerer.classifier
        self.page = (
            templates.load("serve.html")
            .render(
                labels=classifier.labels,
                size=classifier.shape.size,
                megabytes=most_bytes / 1e6,
            )
            .encode("utf-8", "backslashreplace")
        )

    @property
    def address(self) -> str:
        """The address of the page."""
        host, port = self.server_address[:2]
        host = str(host)
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/"

    def allows(self, host: str) -> bool:
        """Tells whether a request may name the server so.

        A page from elsewhere may let a name of its own stand for this machine,
        and would then read what only this machine is to see.
        """
        if self.server_address[0] not in _LOOPBACK:
            return True
        return urllib.parse.urlsplit(f"//{host}").hostname in _LOOPBACK

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
            return
        body = b'{"error": "too many connections; try again"}\n'
        try:
            request.settimeout(1)
            request.sendall(
                b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n"
                b"Content-Type: application/json\r\nConnection: close\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            _hear_out(request)
        except OSError:
            pass
        finally:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing where a client went away."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def _hear_out(request: socket.socket) -> None:
    """Reads what is still being sent, for a short time.

    A connection that is closed with something unread is reset, and an answer
    that is on its way is lost.
    """
    request.shutdown(socket.SHUT_WR)
    until = time.monotonic() + _HEARING
    while (left := until - time.monotonic()) > 0:
        request.settimeout(left)
        if not request.recv(_BLOCK):
            return


class _Refused(Exception):
    """A request that is answered with a status and a reason."""

    def __init__(self, status: http.HTTPStatus, reason: str):
        super().__init__(reason)
        self.status = status


class _Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "tlkeras"
    sys_version = ""

    def setup(self) -> None:
        super().setup()
        # Of each wait for the other side.
        self.connection.settimeout(self.server.seconds)

    def do_GET(self) -> None:
        self._reply(self._get)

    def do_HEAD(self) -> None:
        self._reply(self._get)

    def do_POST(self) -> None:
        self._reply(self._post)

    def send_error(
        self, code: int, message: str | None = None, explain: str | None = None
    ) -> None:
        """Tells in JSON what the standard library refuses."""
        self.close_connection = True
        reason = message or http.HTTPStatus(code).phrase
        self._send(code, _json({"error": reason}), "application/json")

    def log_message(self, format: str, *arguments: Any) -> None:
        """Writes no log: it would hold addresses of people."""

    def _reply(self, work: Any) -> None:
        try:
            if not self.server.allows(self.headers.get("Host", "")):
                raise _Refused(
                    http.HTTPStatus.FORBIDDEN, "it serves this machine alone"
                )
            status, body, kind = work()
        except _Refused as refused:
            # What was sent and not read would be taken for a request.
            self.close_connection = True
            status, kind = refused.status, "application/json"
            body = _json({"error": str(refused)})
        self._send(status, body, kind)

    def _get(self) -> tuple[int, bytes, str]:
        path = urllib.parse.urlsplit(self.path).path
        if path == "/":
            return 200, self.server.page, "text/html; charset=utf-8"
        if path == "/health":
            classifier = self.server.answerer.classifier
            known = {
                "status": "ok",
                "labels": list(classifier.labels),
                "image_size": classifier.shape.size,
            }
            return 200, _json(known), "application/json"
        raise _Refused(
            http.HTTPStatus.NOT_FOUND,
            "there is / (a page), /health, and /predict for POST",
        )

    def _post(self) -> tuple[int, bytes, str]:
        asked = urllib.parse.urlsplit(self.path)
        if asked.path != "/predict":
            raise _Refused(
                http.HTTPStatus.NOT_FOUND, "pictures are posted to /predict"
            )
        explain = urllib.parse.parse_qs(asked.query).get("explain") == ["1"]
        encoded = self._body()
        try:
            found = self.server.answerer.answer(encoded, explain=explain)
        except errors.UserError as error:
            # All was read, and the connection can go on.
            return 400, _json({"error": str(error)}), "application/json"
        return 200, _json(found), "application/json"

    def _body(self) -> bytes:
        """Returns what was posted, in the time and of the size allowed."""
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit():
            raise _Refused(
                http.HTTPStatus.LENGTH_REQUIRED,
                "the body must be the file of a picture, with Content-Length",
            )
        size, most = int(length[:20]), self.server.most_bytes
        if size > most:
            raise _Refused(
                http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the file has {size:,} bytes; at most {most:,} are allowed "
                "(--max_mb)",
            )
        ends = time.monotonic() + self.server.seconds
        blocks, missing = [], size
        try:
            while missing:
                block = self.rfile.read1(min(missing, _BLOCK))
                if not block or time.monotonic() > ends:
                    raise TimeoutError
                blocks.append(block)
                missing -= len(block)
        except TimeoutError:
            raise _Refused(
                http.HTTPStatus.REQUEST_TIMEOUT,
                f"{size - missing:,} of {size:,} bytes came in "
                f"{self.server.seconds:g} seconds (--timeout)",
            ) from None
        return b"".join(blocks)

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _json(value: object) -> bytes:
    text = json.dumps(value, ensure_ascii=False)
    return f"{text}\n".encode("utf-8", "backslashreplace")
