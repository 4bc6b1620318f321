"""Slack, a mail server, Teams and a webhook's receiver, as far as their protocols matter."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

TOKEN = "xoxb-0123456789-the-token"
PASSWORD = "the-password-of-the-mail-server"
TEAMS_SIGNATURE = "sig=the-signature-in-the-address-of-teams"
SECRET = base64.b64encode(b"the secret of the webhook").decode()
HOOK_TOKEN = "the-token-in-the-address-of-the-webhook"


@dataclass
class Post:
    """What Slack shows in a channel."""

    channel: str
    ts: str
    text: str
    thread: str | None


@dataclass
class SlackStub:
    """Slack's Web API: chat.postMessage and chat.update, with its answers and errors."""

    channels: Mapping[str, str] = field(
        default_factory=lambda: {"#data": "C0DATA", "#finance": "C0FINANCE"}
    )
    posts: list[Post] = field(default_factory=list)
    down: bool = False
    asked: int = 0

    def shown(self, channel: str = "#data") -> list[str]:
        """The first lines of a channel's messages; of those in a thread, indented."""
        id_ = self.channels[channel]
        return [
            ("  " if post.thread else "") + post.text.splitlines()[0]
            for post in self.posts
            if post.channel == id_
        ]

    def answer(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Any]:
        self.asked += 1
        if self.down:
            return 503, "upstream connect error"
        if headers.get("Authorization") != f"Bearer {TOKEN}":
            return 200, {"ok": False, "error": "invalid_auth"}
        return 200, self._do(path.removeprefix("/api/"), json.loads(body))

    def _do(self, method: str, said: Mapping[str, Any]) -> Mapping[str, Any]:
        channel = self.channels.get(said["channel"], said["channel"])
        if channel not in self.channels.values():
            return {"ok": False, "error": "channel_not_found"}
        known = {post.ts: post for post in self.posts if post.channel == channel}
        if method == "chat.postMessage":
            thread = said.get("thread_ts")
            if thread and thread not in known:
                return {"ok": False, "error": "thread_not_found"}
            post = Post(channel, f"1700000000.{len(self.posts):06}", said["text"], thread)
            self.posts.append(post)
        elif method == "chat.update":
            # Only an id of a channel will do here, in Slack, too.
            if said["channel"] != channel or said["ts"] not in known:
                return {"ok": False, "error": "message_not_found"}
            post = known[said["ts"]]
            post.text = said["text"]
        else:
            return {"ok": False, "error": "unknown_method"}
        return {"ok": True, "channel": channel, "ts": post.ts, "message": {"text": post.text}}


@dataclass
class Inbox:
    """Receives what is posted: a workflow of Teams, which accepts it, or a webhook's receiver."""

    status: int = 202
    paths: list[str] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)

    def answer(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Any]:
        if self.status < 300:
            self.paths.append(path)
            self.headers.append(headers)
            self.bodies.append(json.loads(body))
            if "webhook-signature" in headers:
                verify(headers, body)
        return self.status, ""


def verify(headers: Mapping[str, str], body: bytes) -> None:
    """As https://www.standardwebhooks.com says, which has libraries for that."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    made = hmac.new(base64.b64decode(SECRET), signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(made).decode()}"


@contextlib.contextmanager
def served(stub: SlackStub | Inbox) -> Iterator[str]:
    """The stub on a port of this machine; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {
                name.lower() if name.lower().startswith("webhook") else name: value
                for name, value in self.headers.items()
            }
            status, said = stub.answer(self.path, headers, body)
            answer = (said if isinstance(said, str) else json.dumps(said)).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Mail:
    """A mail server that speaks STARTTLS, and lets only in who knows the password."""

    port: int
    ca_file: Path
    mails: list[EmailMessage] = field(default_factory=list)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802, ARG002
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        assert ", ".join(envelope.rcpt_tos) == mail["To"]
        self.mails.append(mail)
        return "250 OK"

    def to(self, address: str) -> list[str]:
        """The subjects of what somebody got."""
        return [str(mail["Subject"]) for mail in self.mails if mail["To"] == address]


@contextlib.contextmanager
def mail_server(folder: Path) -> Iterator[Mail]:
    """The mail server on a port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        mail = Mail(free.getsockname()[1], certificate(folder))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(mail.ca_file, folder / "key.pem")

    def known(_: Any, __: Any, ___: Any, mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=data.login == b"bot" and data.password == PASSWORD.encode())

    controller = Controller(
        mail,
        hostname="127.0.0.1",
        port=mail.port,
        tls_context=context,
        require_starttls=True,
        auth_required=True,
        authenticator=known,
    )
    controller.start()
    try:
        yield mail
    finally:
        controller.stop()


def certificate(folder: Path) -> Path:
    """A certificate for this machine, which nobody trusts but who is given it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return folder / "cert.pem"
