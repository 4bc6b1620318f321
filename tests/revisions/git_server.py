"""git's own server program, behind a door that wants a token."""

from __future__ import annotations

import base64
import contextlib
import os
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

TOKEN = "s3cret-t0ken"


class _Handler(BaseHTTPRequestHandler):
    # With lengths: git's TLS library takes a connection that is just closed for an attack.
    protocol_version = "HTTP/1.1"
    root: Path
    token: str
    asked: list[str | None]

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        self._serve(self.rfile.read(int(self.headers["Content-Length"])))

    def _serve(self, body: bytes) -> None:
        self.asked.append(self.headers["Authorization"])
        wanted = base64.b64encode(f"x-access-token:{self.token}".encode()).decode()
        if self.token and self.headers["Authorization"] != f"Basic {wanted}":
            self.send_response(401)
            self.send_header("WWW-Authenticate", "Basic")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        done = subprocess.run(
            ["git", "http-backend"],
            input=body,
            env={
                **os.environ,
                "GIT_PROJECT_ROOT": str(self.root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers["Content-Type"] or "",
                "HTTP_CONTENT_ENCODING": self.headers["Content-Encoding"] or "",
                "GIT_PROTOCOL": self.headers["Git-Protocol"] or "",
            },
            capture_output=True,
            check=True,
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        self.send_response(200)
        for line in head.decode().splitlines():
            name, _, value = line.partition(": ")
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass


@contextlib.contextmanager
def serve_git(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    token: str = TOKEN,
    tls: bool = True,
    asked: list[str | None] | None = None,
) -> Iterator[str]:
    """The URL of the repositories below ``root``; git trusts its certificate.

    Args:
        token: what it wants; "" lets everybody in.
        asked: gets the Authorization header of each request.
    """
    names = {"root": root, "token": token, "asked": [] if asked is None else asked}
    handler = type("Handler", (_Handler,), names)
    with (
        tempfile.TemporaryDirectory() as folder,
        ThreadingHTTPServer(("127.0.0.1", 0), handler) as server,
    ):
        if tls:
            key, certificate = Path(folder) / "key.pem", Path(folder) / "certificate.pem"
            subprocess.run(
                [
                    *("openssl", "req", "-x509", "-nodes", "-days", "2"),
                    *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
                    *("-keyout", key, "-out", certificate, "-subj", "/CN=127.0.0.1"),
                    *("-addext", "subjectAltName=IP:127.0.0.1"),
                ],
                check=True,
                capture_output=True,
            )
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
            # Of each server that runs: a later one adds its own.
            trusted = Path(os.environ.get("GIT_SSL_CAINFO", os.devnull)).read_text()
            (Path(folder) / "trusted.pem").write_text(trusted + certificate.read_text())
            monkeypatch.setenv("GIT_SSL_CAINFO", str(Path(folder) / "trusted.pem"))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        scheme = "https" if tls else "http"
        yield f"{scheme}://127.0.0.1:{server.server_port}"
        server.shutdown()
