"""Lightdash's API: the few requests that are sent, with time-outs, retries, and the token.

An answer is ``{"status": "ok", "results": …}``, a refusal ``{"status": "error", "error":
{"statusCode": …, "name": …, "message": …}}``: https://docs.lightdash.com/api-reference
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any

import requests

from dbt_orchestration.settings.lightdash import Lightdash

_CONNECT_SECONDS, _ANSWER_SECONDS = 10, 60
# Before a request is sent again: a proxy, or Lightdash itself, may just have been restarted.
_PAUSES = (1.0, 4.0)
_BUSY = frozenset({429, 502, 503, 504})
# Between two looks at a job; each is longer than the one before.
_FIRST_LOOK, _LAST_LOOK = 0.5, 5.0
_WHAT_TO_DO = {
    401: "check lightdash.token",
    403: "check what the user of lightdash.token may do in the project",
    404: "check lightdash.url and lightdash.project",
}
_PAGES = {"chart": "saved", "dashboard": "dashboards"}


class LightdashError(RuntimeError):
    """Lightdash did not do it. The message says what, why, and what to do.

    Attributes:
        status: of the answer, in HTTP; 0 if there was none.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class _AbsentError(LightdashError):
    """Nobody answers, or somebody does in Lightdash's place."""


@dataclass(frozen=True)
class Step:
    """A step of a refresh, as Lightdash shows it."""

    label: str
    status: str
    error: str


@dataclass(frozen=True)
class Broken:
    """What Lightdash says is broken.

    Attributes:
        kind: "chart", "dashboard" or "table".
        uuid: "" of a table, and of what the token may not see.
        link: to its page; "" without a UUID.
    """

    kind: str
    name: str
    error: str
    uuid: str
    link: str


class Client:
    """A project of Lightdash.

    Args:
        say: told what is going on.

    Raises:
        LightdashError: no token is set.
    """

    def __init__(self, lightdash: Lightdash, say: Callable[[str], None]) -> None:
        if lightdash.token is None:
            raise LightdashError("lightdash.token is not set (docs/lightdash.md)")
        self._token = lightdash.token.get_secret_value()
        self._lightdash = lightdash
        self._project = f"/api/v1/projects/{lightdash.project}"
        self._say = say

    def has_dbt_connection(self) -> bool:
        """Whether Lightdash can read the dbt project by itself."""
        project = self._ask("GET", self._project, "to show the project")
        return bool(project["dbtConnection"]["type"] != "none")

    def refresh(self, steps: list[Step]) -> None:
        """Have the dbt project read again, and wait for that.

        Args:
            steps: gets the steps that Lightdash took, also where it failed.
        """
        job = self._ask("POST", f"{self._project}/refresh", "to refresh the project")["jobUuid"]

        def status(state: Mapping[str, Any]) -> str:
            steps[:] = map(self._step, state["steps"])
            return str(state["jobStatus"])

        _, ended = self._wait(f"/api/v1/jobs/{job}", f"the refresh (job {job})", status)
        if ended == "error":
            said = "; ".join(f"{step.label}: {step.error}" for step in steps if step.error)
            raise LightdashError(f"the refresh failed in Lightdash: {said or job}")

    def empty_results_cache(self) -> str:
        """Have each chart ask the warehouse when it is next shown; why that may not be, or ""."""
        path = f"{self._project}/results-cache/invalidate"
        try:
            self._ask("POST", path, "to empty the results cache")
        except LightdashError as error:
            if error.status == 403:
                return "it takes a project admin's token"
            if error.status == 404:
                return "this Lightdash is too old to be asked for it"
            raise
        return ""

    def validate(self) -> Sequence[Broken]:
        """What is broken, once Lightdash has looked at all charts, dashboards and tables."""
        path = f"{self._project}/validate"
        job = self._ask("POST", path, "to validate the project", {})["jobId"]
        state, ended = self._wait(
            f"/api/v1/schedulers/job/{job}/status",
            f"the validation (job {job})",
            lambda state: str(state["status"]),
        )
        if ended == "error":
            said = self._clean((state.get("details") or {}).get("error") or job)
            raise LightdashError(f"the validation failed in Lightdash: {said}")
        return [self._broken(each) for each in self._ask("GET", path, "to show what is broken")]

    def _step(self, said: Mapping[str, Any]) -> Step:
        keys = ("stepLabel", "stepStatus", "stepError")
        return Step(*(self._clean(said.get(key)) for key in keys))

    def _broken(self, said: Mapping[str, Any]) -> Broken:
        kind = next((kind for kind in _PAGES if said.get(f"{kind}Uuid")), said.get("source"))
        uuid, page = said.get(f"{kind}Uuid") or "", _PAGES.get(str(kind))
        link = f"{self._lightdash.url}/projects/{self._lightdash.project}/{page}/{uuid}/view"
        name, error = self._clean(said.get("name")), self._clean(said["error"])
        return Broken(str(kind or "table"), name, error, uuid, link if uuid and page else "")

    def _wait(
        self, path: str, what: str, status: Callable[[Mapping[str, Any]], str]
    ) -> tuple[Mapping[str, Any], str]:
        """A job as it is when it has ended, and its status then, in lower case."""
        seconds = self._lightdash.timeout_seconds
        ends, pause, before = monotonic() + seconds, _FIRST_LOOK, ""
        while True:
            state = self._ask("GET", path, f"to show {what}")
            if (now := status(state).lower()) != before:
                self._say(f"Lightdash: {what}: {now}.")
            if now in ("done", "completed", "error"):
                return state, now
            if monotonic() + pause > ends:
                raise LightdashError(
                    f"{what} has not ended within {seconds} s: look into Lightdash, or raise"
                    " lightdash.timeout_seconds"
                )
            sleep(pause)
            pause, before = min(pause * 1.5, _LAST_LOOK), now

    def _ask(self, method: str, path: str, what: str, body: Any = None) -> Any:
        """What Lightdash answers to a request.

        Raises:
            LightdashError: it does not answer, or refuses.
        """
        for pause in _PAUSES:
            try:
                return self._send(method, path, what, body)
            except _AbsentError:
                sleep(pause)
        return self._send(method, path, what, body)

    def _send(self, method: str, path: str, what: str, body: Any) -> Any:
        url = self._lightdash.url
        try:
            answer = requests.request(
                method,
                url + path,
                json=body,
                # As a function: a .netrc of this machine would take the place of a header.
                auth=self._sign,
                timeout=(_CONNECT_SECONDS, _ANSWER_SECONDS),
                allow_redirects=False,
            )
        except requests.RequestException as error:
            cause = str(error).rpartition(": ")[2].strip("()'\" ")
            raise _AbsentError(f"{url} does not answer: {self._clean(cause)}") from None
        status = answer.status_code
        if status in _BUSY:
            raise _AbsentError(f"{url} is not there: it answers {status}", status)
        try:
            said = answer.json()
            if answer.ok and said["status"] == "ok":
                return said["results"]
            message = self._clean(said["error"]["message"])
        except (ValueError, KeyError, TypeError):
            message = f"what answers at {url} is no Lightdash: check lightdash.url"
            raise LightdashError(message, status) from None
        hint = f": {_WHAT_TO_DO[status]} (docs/lightdash.md)" if status in _WHAT_TO_DO else ""
        raise LightdashError(f"Lightdash refuses {what} ({status}): {message}{hint}", status)

    def _sign(self, request: Any) -> Any:
        kind = "Bearer" if self._token.startswith("ldsvc_") else "ApiKey"
        request.headers["Authorization"] = f"{kind} {self._token}"
        return request

    def _clean(self, said: Any) -> str:
        """A text of Lightdash's in one line, and without the token, should it repeat that."""
        return " ".join(str(said or "").replace(self._token, "…").split())
