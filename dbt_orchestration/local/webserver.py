"""Dagster's webserver, told what to do by its own pages and by programs, not by other web pages.

Dagster has no login here, and answers a mutation by GET or a form's POST, whatever the browser says
of the page that sends it. So any page that the user visits could launch a run. Behind a proxy with
a login the proxy does this, and more.
"""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import dagster_webserver.app
from dagster_webserver.cli import main
from dagster_webserver.webserver import DagsterWebserver
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_REFUSED = 403


class OwnPages:
    """Middleware that refuses what another web page sends, or may have sent."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it with 403 and the reason."""
        if scope["type"] in ("http", "websocket") and (why := refusal(scope)):
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008, "reason": why})
            else:
                await PlainTextResponse(f"{why}\n", _REFUSED)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def refusal(scope: Scope) -> str:
    """Why an ASGI request is refused; "" if it is not."""
    headers = Headers(scope=scope)
    host, origin = headers.get("host", ""), headers.get("origin")
    if urlsplit(f"//{host}").hostname not in _LOCAL:
        return f"the host {host!r} is not this machine: use localhost"
    if origin is not None and urlsplit(origin).netloc != host:
        return f"a page of {origin} may not use Dagster"
    if scope["type"] == "http" and scope["path"].rstrip("/").endswith("/graphql"):
        asks = "query" in parse_qs(scope["query_string"].decode("latin-1"))
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if asks or (scope["method"] == "POST" and kind != "application/json"):
            return "GraphQL is asked by POST, with JSON"
    return ""


class Webserver(DagsterWebserver):  # type: ignore[type-arg]
    """Dagster's webserver behind ``OwnPages``."""

    def build_middleware(self) -> list[Middleware]:
        """Dagster's middleware, behind ours."""
        return [Middleware(OwnPages), *super().build_middleware()]


if __name__ == "__main__":
    vars(dagster_webserver.app).update(DagsterWebserver=Webserver)
    main()  # type: ignore[no-untyped-call]
