"""A site whose people are told, and everything that tells them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest

from dbt_orchestration.automation.telling import sensor
from dbt_orchestration.settings.models import Environment, Schedule
from tests.automation.site import ALWAYS, Site
from tests.automation.telling.office import Office
from tests.automation.telling.stubs import Inbox, SlackStub, mail_server, served


@pytest.fixture
def office(built: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    slack, teams, hook = SlackStub(), Inbox(), Inbox()
    with ExitStack() as stack:
        urls = [stack.enter_context(served(stub)) for stub in (slack, teams, hook)]
        office = Office(built, slack, teams, hook, stack.enter_context(mail_server(tmp_path)), urls)
        monkeypatch.setattr(sensor, "time", SimpleNamespace(time=lambda: office.now))
        # Half a day from now: the tests' clock goes on for some hours, whatever the time is.
        then = datetime.now(ZoneInfo("Asia/Seoul")) + timedelta(hours=12)
        schedule = Schedule(cron=f"{then.minute} {then.hour} * * *", timezone="Asia/Seoul")
        prod = Environment(branch="main", target="prod", push=ALWAYS, full_build=schedule)
        office.site.settings = office.site.settings.model_copy(
            update={"environments": {"prod": prod}}
        )
        yield office
