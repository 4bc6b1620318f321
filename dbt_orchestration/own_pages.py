"""Dagster told what to do by its own pages and by programs, not by other web pages.

Dagster answers a mutation by GET or a form's POST, whatever the browser says of the page that sends
it. So any page that somebody visits could launch a run in that person's name.
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_REFUSED = 403


class OwnPages:
    """Middleware that refuses what another web page sends, or may have sent.

    Args:
        hosts: names of this machine; a request for another one is refused, too. Empty: any.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] = ()) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it with 403 and the reason."""
        if scope["type"] in ("http", "websocket") and (why := refusal(scope, self._hosts)):
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008, "reason": why})
            else:
                await PlainTextResponse(f"{why}\n", _REFUSED)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def refusal(scope: Scope, hosts: Collection[str] = ()) -> str:
    """Why an ASGI request is refused; "" if it is not."""
    headers = Headers(scope=scope)
    host, origin = headers.get("host", ""), headers.get("origin")
    if hosts and urlsplit(f"//{host}").hostname not in hosts:
        return f"the host {host!r} is not this machine: use localhost"
    if origin is not None and urlsplit(origin).netloc != host:
        return f"a page of {origin} may not use Dagster"
    if scope["type"] == "http" and scope["path"].rstrip("/").endswith("/graphql"):
        asks = "query" in parse_qs(scope["query_string"].decode("latin-1"))
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if asks or (scope["method"] == "POST" and kind != "application/json"):
            return "GraphQL is asked by POST, with JSON"
    return ""
