"""A site whose people are told, and everything that tells them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from dbt_orchestration.automation.telling import sensor
from tests.automation.site import Site
from tests.automation.telling.office import Office
from tests.automation.telling.stubs import Inbox, SlackStub, mail_server, served


@pytest.fixture
def office(built: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    slack, teams, hook = SlackStub(), Inbox(), Inbox()
    with ExitStack() as stack:
        urls = [stack.enter_context(served(stub)) for stub in (slack, teams, hook)]
        office = Office(built, slack, teams, hook, stack.enter_context(mail_server(tmp_path)), urls)
        monkeypatch.setattr(sensor, "time", SimpleNamespace(time=lambda: office.now))
        yield office
