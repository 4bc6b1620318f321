"""Whom an incident concerns, and when people are left alone."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from dbt_orchestration.automation.telling.incidents import Incident, Kind
from dbt_orchestration.automation.telling.memory import Memory
from dbt_orchestration.automation.telling.routing import addresses_of, is_quiet
from dbt_orchestration.automation.telling.tell import Teller
from dbt_orchestration.automation.telling.tools import Sent, Tool
from dbt_orchestration.settings.notify import Notify, QuietHours

PEOPLE = {"owners": ["ann@example.com", "analysts"], "slack": "#people", "teams": "https://x"}
SETTINGS: dict[str, Any] = {
    "slack": {"channel": "#data"},
    "email": {"host": "h", "sender": "d@example.com", "author_domains": ["Example.com"]},
    "routes": {"finance": {"groups": ["finance"], "slack": "#finance"}, "people": PEOPLE},
}


def told(**facts: Any) -> set[str]:
    incident = Incident(**{"kind": Kind.MODEL_FAILED, **facts})
    return {str(each) for each in addresses_of(Notify.model_validate(SETTINGS), incident)}


def test_a_route_takes_the_news_of_its_groups_and_owners() -> None:
    assert told() == {"slack #data"}
    assert told(groups=("marts",), owners=("team:sales",)) == {"slack #data"}
    assert told(groups=("finance",)) == {"slack #finance"}
    people = {"slack #people", "teams people"}
    assert told(owners=("team:analysts",)) == told(owners=("Ann@example.com",)) == people
    assert told(groups=("finance",), owners=("team:analysts",)) == {"slack #finance", *people}


@pytest.mark.parametrize(
    ("author", "is_told"),
    [
        ("Ann <ann@example.com>", True),
        ("Ann <ann@EXAMPLE.com>", True),
        ("Ann <ann@example.com.evil.org>", False),
        ("Ann <ann@sub.example.com>", False),
        ("Ann <eve@evil.org, ann@example.com>", False),
        ("Ann <a(b@example.com>", False),
        ("Ann <ann@example.com\nBcc: eve@evil.org>", False),
        ("ann@example.com", True),
        ("", False),
    ],
)
def test_an_author_is_told_at_an_address_that_is_allowed(author: str, is_told: bool) -> None:
    addresses = told(kind=Kind.COMMIT_BROKEN, facts={"author": author})
    assert (len(addresses) == 2) == is_told
    # What becomes of a model may be nobody's fault.
    assert told(facts={"author": author}) == {"slack #data"}


@pytest.mark.parametrize(
    ("begin", "end", "time", "quiet"),
    [
        ("22:00", "07:00", "21:59", False),
        ("22:00", "07:00", "22:00", True),
        ("22:00", "07:00", "06:59", True),
        ("22:00", "07:00", "07:00", False),
        ("12:00", "13:00", "12:30", True),
        ("12:00", "13:00", "13:00", False),
    ],
)
def test_quiet_hours_may_pass_midnight(begin: str, end: str, time: str, quiet: bool) -> None:
    now = datetime.fromisoformat(f"2024-05-01T{time}").replace(tzinfo=ZoneInfo("Asia/Seoul"))
    hours = QuietHours.model_validate({"begin": begin, "end": end})
    assert is_quiet(hours, "Asia/Seoul", now.timestamp()) == quiet


def test_a_tool_that_does_what_nobody_expected_holds_up_no_other() -> None:
    sent = []

    class Broken:
        follows = True

        def send(self, *_: object) -> Sent:
            raise KeyError("xoxb-a-secret")

    class Works:
        follows = False

        def send(self, to: str, *_: object) -> Sent:
            sent.append(to)
            return Sent()

    memory = Memory(0.0)
    incident = Incident(Kind.MODEL_FAILED, "model.a.b", owners=("team:analysts",), since=1.0)
    memory.see({incident.key: incident}, (), 1.0)
    tools: dict[str, Tool] = {"slack": Broken(), "teams": Works()}
    notify = Notify.model_validate(SETTINGS)
    Teller(notify, "prod", tools, "UTC", lambda: None, lambda _: None).tell(memory, 1.0)
    assert sent == ["people"]
    assert memory.problems == {"slack #people": "KeyError"}
