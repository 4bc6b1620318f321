"""A server that speaks Lightdash's protocol, as its public sources and its API reference have it.

packages/backend/src/controllers and packages/common/src/types of github.com/lightdash/lightdash:
``{"status": "ok", "results": …}``, ``{"status": "error", "error": {"statusCode", "name",
"message", "data"}}``; jobs of two kinds, `/api/v1/jobs` and `/api/v1/schedulers/job`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PROJECT = "3675b69e-8324-4110-bdca-059031aa8da3"
TOKEN = "ldpat_s3cret-t0ken"
JOB, VALIDATION = "11111111-aaaa-bbbb-cccc-000000000001", "4242"
CHART, DASHBOARD = "22222222-aaaa-bbbb-cccc-000000000002", "33333333-aaaa-bbbb-cccc-000000000003"
NO_DBT = (
    "Cannot compile explores as this project was created via CLI and has no dbt connection"
    " configured. Either configure a dbt connection in project settings or use the CLI to deploy"
    " explores."
)


class RefusalError(Exception):
    """An answer with an error."""

    def __init__(self, status: int, name: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.payload = {"statusCode": status, "name": name, "message": message, "data": {}}


@dataclass
class LightdashServer:
    """One project of it.

    Attributes:
        connection: the type of the project's dbt connection.
        step_error: makes each refresh fail.
        looks: how often a job says that it runs, before it has ended; None: for ever.
        admin: whether the token is a project admin's.
        broken: what a validation finds.
        page: what is answered to everything, in place of an answer of the API.
        asked: method and path of each request.
        signed: the Authorization header of each.
    """

    token: str = TOKEN
    connection: str = "github"
    step_error: str = ""
    looks: int | None = 1
    admin: bool = True
    broken: Sequence[Mapping[str, Any]] = ()
    page: tuple[int, str] | None = None
    asked: list[str] = field(default_factory=list)
    signed: list[str | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._port, self._looked = 0, 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Begin to answer, at the same address each time."""
        handler = type("Handler", (_Handler,), {"lightdash": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), handler)
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Go down."""
        self._server.shutdown()
        self._server.server_close()

    def told(self) -> list[str]:
        """What it was told since it was last asked this: all requests that are no look."""
        found = [each for each in self.asked if each.startswith("POST")]
        self.asked.clear()
        return [each.removeprefix(f"POST /api/v1/projects/{PROJECT}/") for each in found]

    def answer(self, method: str, path: str, signed: str | None) -> Any:
        self.asked.append(f"{method} {path}")
        self.signed.append(signed)
        kind = "Bearer" if self.token.startswith("ldsvc_") else "ApiKey"
        if signed != f"{kind} {self.token}":
            raise RefusalError(401, "AuthorizationError", f"Failed to authorize user: {signed}")
        project = f"/api/v1/projects/{PROJECT}"
        if method == "GET" and path == project:
            dbt = {"type": self.connection}
            return {"projectUuid": PROJECT, "name": "Shop", "dbtConnection": dbt}
        if method == "POST" and path == f"{project}/refresh":
            return {"jobUuid": JOB}
        if method == "GET" and path == f"/api/v1/jobs/{JOB}":
            return self._job()
        if method == "POST" and path == f"{project}/results-cache/invalidate":
            if not self.admin:
                message = "You don't have access to this resource or action"
                raise RefusalError(403, "ForbiddenError", message)
            return {"projectUuid": PROJECT, "invalidatedAt": "2026-11-26T08:00:00Z"}
        if method == "POST" and path == f"{project}/validate":
            return {"jobId": VALIDATION}
        if method == "GET" and path == f"/api/v1/schedulers/job/{VALIDATION}/status":
            return {"status": "completed" if self._ended() else "started", "details": None}
        if method == "GET" and path == f"{project}/validate":
            return list(self.broken)
        raise RefusalError(404, "NotExistsError", "API endpoint not found")

    def _ended(self) -> bool:
        self._looked = 0 if self.looks is not None and self._looked >= self.looks else 1
        return self._looked == 0

    def _job(self) -> Mapping[str, Any]:
        error = self.step_error or (NO_DBT if self.connection == "none" else "")
        ended = "ERROR" if error else "DONE"
        state = ended if self._ended() else "RUNNING"
        step: dict[str, str | None] = {
            "jobUuid": JOB,
            "stepType": "COMPILING",
            "stepLabel": "Compiling",
        }
        step |= {"stepStatus": state, "stepError": error if state == "ERROR" else None}
        return {
            "jobUuid": JOB,
            "projectUuid": PROJECT,
            "jobType": "COMPILE_PROJECT",
            "jobStatus": state,
            "steps": [step],
        }


class _Handler(BaseHTTPRequestHandler):
    lightdash: LightdashServer

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        self._serve()

    def _serve(self) -> None:
        status, content = HTTPStatus.OK.value, ""
        if self.lightdash.page:
            status, content = self.lightdash.page
        else:
            signed = self.headers["Authorization"]
            try:
                results = self.lightdash.answer(self.command, self.path, signed)
                content = json.dumps({"status": "ok", "results": results})
            except RefusalError as refused:
                status = refused.status
                content = json.dumps({"status": "error", "error": refused.payload})
        body = content.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass
