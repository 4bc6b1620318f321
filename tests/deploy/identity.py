"""An identity provider that asks for no password, and a web server that says who was let in."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt

SECRET = "a-client-secret-of-thirty-two-bytes-or-more"


class Provider(ThreadingHTTPServer):
    """Says of whoever logs in that she is in ``groups``."""

    groups: tuple[str, ...] = ()
    nonce = ""

    @property
    def address(self) -> str:
        """Its issuer."""
        return f"http://127.0.0.1:{self.server_port}"


class _Provider(BaseHTTPRequestHandler):
    server: Provider

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/auth":
            asked = {key: value for key, [value] in parse_qs(parts.query).items()}
            self.server.nonce = asked["nonce"]
            back = urlencode({"code": "once", "state": asked["state"]})
            self.send_response(302)
            self.send_header("Location", f"{asked['redirect_uri']}?{back}")
            self.end_headers()
            return
        address = self.server.address
        _answer(
            self,
            {
                "issuer": address,
                "authorization_endpoint": f"{address}/auth",
                "token_endpoint": f"{address}/token",
                "jwks_uri": f"{address}/keys",
                "keys": [],
            },
        )

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        now = int(time.time())
        claims = {
            **{"iss": self.server.address, "sub": "1", "aud": "dagster"},
            **{"iat": now, "exp": now + 600, "nonce": self.server.nonce},
            **{"email": "kim@acme.com", "groups": [*self.server.groups]},
        }
        token = jwt.encode(claims, SECRET, "HS256")
        _answer(self, {"access_token": "any", "token_type": "Bearer", "id_token": token})

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Dagster(ThreadingHTTPServer):
    """Answers each request with its own name and what it was told."""

    name = ""


class _Dagster(BaseHTTPRequestHandler):
    server: Dagster

    def do_GET(self) -> None:
        if self.headers.get("Upgrade") == "websocket":
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            self.send_header("X-Server", self.server.name)
            self.end_headers()
            self.close_connection = True
            return
        said = {name.lower(): value for name, value in self.headers.items()}
        _answer(self, {"server": self.server.name, "path": self.path, "headers": said})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Nothing."""


def _answer(handler: BaseHTTPRequestHandler, value: object) -> None:
    body = json.dumps(value).encode()
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@contextlib.contextmanager
def provider() -> Iterator[Provider]:
    """An identity provider, on a port of its own."""
    with Provider(("127.0.0.1", 0), _Provider) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@contextlib.contextmanager
def dagster(name: str) -> Iterator[int]:
    """The port of a web server."""
    with Dagster(("127.0.0.1", 0), _Dagster) as server:
        server.name = name
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()
