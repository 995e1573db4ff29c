"""Serves the page on this machine only: a random token in the address, nothing of others answered.

Whoever may read the address may tag; nobody else, also no other page that is open in the browser.
"""

import base64
import hashlib
import http.server
import json
import logging
import re
import secrets
import socketserver
import urllib.parse

from mprm_jax.errors import UserError, explain
from mprm_jax.tagging.app import App, page_file
from mprm_jax.tagging.messages import JSON, Answer

logger = logging.getLogger(__name__)

ADDRESS = "127.0.0.1"
MAX_BODY = 1 << 16  # bytes
PATIENCE = 30.0  # seconds a client may take to say what it wants
_NAMES = ("127.0.0.1", "localhost")
# Scripts of the page itself only; images and workers it makes; nothing of the network.
_POLICY = (
    "default-src 'none'; script-src 'self'{scripts}; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; worker-src 'self' blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_INLINE = re.compile(rb"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", re.DOTALL)
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Server(http.server.ThreadingHTTPServer):
    """Answers the page; one thread a connection, all of which end with the process."""

    daemon_threads = True

    def __init__(self, app: App, port: int = 0, token: str | None = None):
        """Takes a port; 0 for any that is free.

        Raises:
          UserError: another program has it.
        """
        self.app, self.token = app, token or secrets.token_hex(16)
        self.policy = _POLICY.format(scripts=_inline_scripts(page_file("").body))
        try:
            super().__init__((ADDRESS, port), _Handler)
        except (OSError, OverflowError) as error:
            raise UserError(
                f"--port {port}: {getattr(error, 'strerror', error)}; choose another, or leave it "
                "out for any free port."
            ) from error

    @property
    def address(self) -> str:
        """What the browser opens."""
        return f"http://{ADDRESS}:{self.server_port}/{self.token}/"

    def server_bind(self) -> None:
        # Without HTTPServer's look-up of the machine's name, for which some wait long.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address

    def handle_error(self, request: object, client_address: object) -> None:
        # A page that was closed while it was answered is nothing to tell.
        logger.debug("a connection ended early", exc_info=True)


class _Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE

    def version_string(self) -> str:
        return "mprm"

    def do_GET(self) -> None:
        self._reply(self._answer("GET"))

    def do_POST(self) -> None:
        self._reply(self._answer("POST"))

    def _answer(self, method: str) -> Answer:
        refused = self._refused()
        if refused is not None:
            return refused
        body = b""
        if method == "POST":
            kind = self.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            length = self.headers.get("Content-Length", "")
            if kind != JSON or not (length.isascii() and length.isdigit()):
                return self._no(400, "send JSON with its length.")
            if int(length[:10]) > MAX_BODY:
                return self._no(413, f"send at most {MAX_BODY} bytes.")
            body = self.rfile.read(int(length))
            if len(body) < int(length):
                return self._no(400, "the question is cut short.")
        path = urllib.parse.urlsplit(self.path).path.removeprefix(f"/{self.server.token}/")
        try:
            answer = self.server.app.answer(method, path, body)
        except Exception as error:  # a bug of ours must not end the page
            logger.exception("%s %s", method, path)
            return self._no(500, f"{explain(error)}; the terminal shows more. Nothing was lost.")
        if answer.status >= 400:
            logger.info("%s: %s", path[:80], json.loads(answer.body)["error"])
        return answer

    def _refused(self) -> Answer | None:
        """An answer for whoever is not the page."""
        host = _host(f"//{self.headers.get('Host', '')}")
        origin = self.headers.get("Origin")
        if host not in _NAMES or (origin is not None and _host(origin) not in _NAMES):
            return self._no(403, "only the page of this server is answered.")
        given = urllib.parse.urlsplit(self.path).path.split("/")[1:2]
        if not given or not secrets.compare_digest(given[0].encode(), self.server.token.encode()):
            return self._no(403, "wrong address; open the one that mprm tag printed last.")
        if self.path == f"/{self.server.token}":
            return self._no(404, "the address ends with a slash.")
        return None

    def _no(self, status: int, text: str) -> Answer:
        """A refusal, after which the connection ends: a body may be left unread."""
        self.close_connection = True
        return Answer(status, JSON, json.dumps({"error": text}).encode())

    def _reply(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        for name, value in (_HEADERS | {"Content-Security-Policy": self.server.policy}).items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:
        # The address holds the token, which is nobody's to read in a log.
        logger.debug("answered %s", self.command)


def _host(address: str) -> str | None:
    """The name in an address; None if there is none."""
    try:
        return urllib.parse.urlsplit(address).hostname
    except ValueError:
        return None


def _inline_scripts(page: bytes) -> str:
    """The scripts that stand in the page itself, as a policy allows them one by one."""
    digests = [hashlib.sha256(text).digest() for text in _INLINE.findall(page)]
    return "".join(f" 'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
