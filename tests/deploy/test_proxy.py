"""The login: Apache as the chart configures it, an identity provider, and two webservers."""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from tests.deploy import identity
from tests.deploy.conftest import Render
from tests.deploy.proxy import TOKEN, needs_apache, proxy

pytestmark = needs_apache
JSON = {"Content-Type": "application/json"}


@dataclass
class Site:
    port: int
    people: identity.Provider

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def login(self, *groups: str) -> requests.Session:
        """A browser, after somebody of these groups has logged in, or was not let in."""
        self.people.groups = groups
        session = requests.Session()
        session.get(f"{self.address}/runs", headers={"Accept": "text/html"}, timeout=30)
        return session

    def websocket(self, session: requests.Session, origin: str) -> tuple[int, str | None]:
        """The status of the answer, and which webserver gave it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        cookies = "; ".join(f"{each.name}={each.value}" for each in session.cookies)
        headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Origin": origin}
        connection.request("GET", "/graphql", headers={**headers, "Cookie": cookies})
        answer = connection.getresponse()
        connection.close()
        return answer.status, answer.getheader("X-Server")


@pytest.fixture(scope="module")
def site(render: Render) -> Iterator[Site]:
    with (
        identity.provider() as people,
        identity.dagster("full") as full,
        identity.dagster("read-only") as read_only,
        proxy(render, people, full, read_only) as port,
    ):
        yield Site(port, people)


def ask(
    site: Site, session: requests.Session, headers: Mapping[str, str], query: str = ""
) -> requests.Response:
    url = f"{site.address}/graphql{query}"
    return session.post(url, data="{}", headers=headers, timeout=30, allow_redirects=False)


def test_editors_and_viewers_have_each_their_webserver(site: Site) -> None:
    for groups, server in {
        ("data-engineers",): "full",
        ("finance", "data-engineers"): "full",
        ("finance",): "read-only",
    }.items():
        session = site.login(*groups)
        page = session.get(f"{site.address}/assets/a%20b?view=x%20y", timeout=30).json()
        assert (page["server"], page["path"]) == (server, "/assets/a%20b?view=x%20y")
        # Who it is says the proxy, and nobody else.
        answer = ask(site, session, {**JSON, "X-Forwarded-User": "boss@acme.com"})
        said: dict[str, Any] = answer.json()
        assert said["server"] == server
        assert said["headers"]["x-forwarded-user"] == "kim@acme.com"
        assert site.websocket(session, site.address) == (101, server)


def test_nobody_else_is_let_in(site: Site) -> None:
    anonymous, stranger = requests.Session(), site.login("data-engineers-of-others", "sales")
    for session in (anonymous, stranger):
        for headers in (JSON, {**JSON, "Authorization": "Bearer wrong"}):
            assert ask(site, session, headers).status_code == 401
        assert site.websocket(session, site.address) == (401, None)
    page = anonymous.get(
        f"{site.address}/runs", headers={"Accept": "text/html"}, timeout=30, allow_redirects=False
    )
    assert page.status_code == 302
    assert page.headers["Location"].startswith(f"{site.people.address}/auth?")


def test_who_logs_out_is_out(site: Site) -> None:
    session = site.login("data-engineers")
    assert ask(site, session, JSON).status_code == 200
    leave = f"{site.address}/oidc/callback?logout={site.address}/"
    answer = session.get(leave, timeout=30, allow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (302, f"{site.address}/")
    assert ask(site, session, JSON).status_code == 401


def test_another_web_page_cannot_use_an_editors_session(site: Site) -> None:
    session = site.login("data-engineers")
    elsewhere = "https://evil.example.com"
    assert ask(site, session, {**JSON, "Origin": site.address}, "?op=Name").status_code == 200
    assert ask(site, session, {**JSON, "Origin": elsewhere}).status_code == 403
    assert site.websocket(session, elsewhere) == (403, None)
    # A form and a link say nothing of where they are.
    assert ask(site, session, {"Content-Type": "text/plain"}).status_code == 403
    for path in ("/graphql", "/graphql/"):
        for link in (f"{site.address}{path}?query=mutation", f"{site.address}{path}?q%75ery=m"):
            assert session.get(link, timeout=30).status_code == 403
            assert session.head(link, timeout=30).status_code == 403


def test_the_token_of_the_hook_asks_graphql_and_nothing_else(site: Site) -> None:
    token, session = {"Authorization": f"Bearer {TOKEN}"}, requests.Session()
    answer = ask(site, session, {**JSON, **token}).json()
    assert answer["server"] == "full"
    assert "authorization" not in answer["headers"]
    for path, status in {"/graphql": 401, "/runs": 302}.items():
        page = session.get(site.address + path, headers=token, timeout=30, allow_redirects=False)
        assert page.status_code == status
