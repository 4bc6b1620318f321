"""A person's browser, the proxy with its login, and Dagster's own webservers behind it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import dagster as dg
import pytest
from playwright.sync_api import Browser, Page, WebSocket, expect, sync_playwright

from tests.browser.conftest import CHROMIUM
from tests.deploy import identity
from tests.deploy.conftest import Render, editors_login
from tests.deploy.proxy import needs_apache, proxy
from tests.deploy.webservers import LOCATION, serving
from tests.e2e.running import until

pytestmark = [
    needs_apache,
    pytest.mark.e2e,
    pytest.mark.skipif(CHROMIUM is None, reason="No Chromium here: apt-get install chromium"),
]
_PATIENCE = 900_000.0  # milliseconds
# As short as Apache's module lets a session be, in place of the chart's hours.
_SECONDS = 15
# There is no daemon, and nobody to welcome.
_INSTANCE = """\
run_coordinator: {module: dagster._core.run_coordinator, class: DefaultRunCoordinator}
nux: {enabled: false}
telemetry: {enabled: false}
"""
_LAUNCH = """mutation { launchRun(executionParams: {selector: {repositoryName: "__repository__",
repositoryLocationName: "location.py", pipelineName: "quiet"}}) { __typename } }"""
# What another web page does with the session of whoever looks at it.
_EVIL = """<form method="post" action="{address}/graphql" enctype="text/plain">
<input name='{{"query":"mutation {{ __typename }}"}}'></form>
<script>document.forms[0].submit()</script>"""


@dataclass
class Door:
    browser: Browser
    people: identity.Provider
    address: str
    webservers: tuple[int, int]
    instance: dg.DagsterInstance

    def enter(self, *groups: str) -> Page:
        """A new browser, in which somebody of these groups opens the UI."""
        self.people.groups = groups
        page = self.browser.new_context().new_page()
        page.set_default_timeout(_PATIENCE)
        page.goto(f"{self.address}/jobs")
        return page

    def asks(self, page: Page) -> int:
        """The status of the answer to what the UI asks all the time."""
        found: int = page.evaluate(
            """() => fetch('/graphql', {method: 'POST', headers: {'Content-Type':
            'application/json'}, body: '{"query": "{ version }"}'}).then(r => r.status)"""
        )
        return found

    def launch(self, page: Page) -> str:
        """What the answer is called to a page that launches a run by GraphQL, and not by the UI."""
        found: str = page.evaluate(
            """(body) => fetch('/graphql', {method: 'POST', headers: {'Content-Type':
            'application/json'}, body: body}).then(r => r.json())
            .then(r => r.data.launchRun.__typename)""",
            json.dumps({"query": _LAUNCH}),
        )
        return found


def frames_to(page: Page) -> list[str | bytes]:
    """What comes to a page from now on by its websockets."""
    frames: list[str | bytes] = []

    def listen(socket: WebSocket) -> None:
        # Playwright writes on the function, which Python's own do not take.
        socket.on("framereceived", lambda frame: frames.append(frame))  # noqa: PLW0108

    page.on("websocket", listen)
    return frames


@pytest.fixture(scope="module")
def door(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    folder = tmp_path_factory.mktemp("webservers")
    (folder / "location.py").write_text(LOCATION)
    (folder / "dagster.yaml").write_text(_INSTANCE)
    expect.set_options(timeout=_PATIENCE)
    location = ["--python-file", "location.py"]
    editors = ("python", "-m", "dbt_orchestration.webserver", *location)
    login = editors_login(render("values-prod.yaml"))
    with (
        dg.DagsterInstance.from_config(str(folder)) as instance,
        serving(folder, *editors, variables=login) as full,
        serving(folder, "dagster-webserver", *location, "--read-only") as read_only,
        identity.provider() as people,
        proxy(render, people, full, read_only) as port,
        sync_playwright() as playwright,
        playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        ) as browser,
    ):
        yield Door(browser, people, f"http://127.0.0.1:{port}", (full, read_only), instance)


@pytest.mark.parametrize(("group", "may"), [("data-engineers", True), ("finance", False)])
def test_an_editor_may_launch_and_a_viewer_only_looks(door: Door, group: str, may: bool) -> None:
    page = door.enter(group)
    told = frames_to(page)
    page.goto(f"{door.address}/locations/location.py/jobs/quiet")
    launchpad = page.get_by_role("tab", name="Launchpad")
    expect(launchpad).to_be_enabled() if may else expect(launchpad).to_be_disabled()
    # What changes comes by a websocket.
    until(lambda: page.evaluate("1") and (told or None))
    if may:
        launchpad.click()
        page.get_by_role("button", name="Launch Run").click()
        run = until(lambda: next(iter(door.instance.get_runs()), None))
        assert run.tags["user"] == "kim@acme.com"
        until(lambda: door.instance.get_runs()[0].is_success or None)
    else:
        # Whoever asks for it without the UI starts nothing, either.
        before = door.instance.get_runs_count()
        assert door.launch(page) == "UnauthorizedError"
        assert door.instance.get_runs_count() == before
    page.context.close()


def test_who_is_in_no_group_sees_nothing(door: Door) -> None:
    page = door.enter("sales")
    expect(page.get_by_text("Unauthorized").first).to_be_visible()
    assert door.asks(page) == 401
    page.context.close()


def test_who_logs_out_is_out(door: Door) -> None:
    page = door.enter("data-engineers")
    expect(page.get_by_text("quiet").first).to_be_visible()
    assert door.asks(page) == 200
    door.people.groups = ()
    page.goto(f"{door.address}/oidc/callback?logout={door.address}/")
    assert door.asks(page) == 401
    page.context.close()


def test_a_session_that_has_ended_is_asked_to_log_in_again(door: Door, render: Render) -> None:
    hours, seconds = "OIDCSessionMaxDuration 28800", f"OIDCSessionMaxDuration {_SECONDS}"
    with proxy(render, door.people, *door.webservers, {hours: seconds}) as port:
        soon = replace(door, address=f"http://127.0.0.1:{port}")
        page = soon.enter("data-engineers")
        until(lambda: soon.asks(page) == 401 or None)
        # A page that is opened then goes through the login by itself.
        page.goto(f"{soon.address}/jobs")
        expect(page.get_by_text("quiet").first).to_be_visible()
        page.context.close()


def test_another_web_page_cannot_use_an_editors_session(door: Door) -> None:
    class Evil(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(_EVIL.format(address=door.address).encode())

        def log_message(self, *_: object) -> None:
            """Nothing."""

    page = door.enter("data-engineers")
    expect(page.get_by_text("quiet").first).to_be_visible()
    with HTTPServer(("127.0.0.1", 0), Evil) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with page.expect_response(f"{door.address}/graphql") as answer:
            page.goto(f"http://localhost:{server.server_port}/")
        assert answer.value.status in {401, 403}
        server.shutdown()
    page.context.close()
