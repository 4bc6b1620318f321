"""``dbt-orchestration notify --test`` tells everybody everything, without Dagster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from dbt_orchestration.automation.telling.incidents import Kind
from dbt_orchestration.cli import app
from tests.automation.telling.stubs import TOKEN, Inbox, SlackStub, served
from tests.conftest import REPOSITORY


@pytest.fixture
def slack() -> SlackStub:
    return SlackStub()


@pytest.fixture
def teams() -> Inbox:
    return Inbox()


@pytest.fixture(autouse=True)
def _settings(
    slack: SlackStub, teams: Inbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    with ExitStack() as stack:
        url, posted = [stack.enter_context(served(stub)) for stub in (slack, teams)]
        settings = {
            "project_dir": str(REPOSITORY / "dbt_project"),
            "notify": {
                "slack": {"channel": "#data", "api_url": f"{url}/api"},
                "routes": {"finance": {"groups": ["finance"], "slack": "#finance"}},
                "teams": {},
            },
            "environments": {
                "prod": {"branch": "main", "target": "prod"},
                "dev": {"branch": "dev", "target": "dev", "notify": {"enabled": False}},
            },
        }
        (tmp_path / "environments.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
        monkeypatch.setenv("DBT_ORCHESTRATION_CONFIG", str(tmp_path / "environments.yaml"))
        monkeypatch.setenv("DBT_ORCHESTRATION_NOTIFY__SLACK__TOKEN", TOKEN)
        monkeypatch.setenv("DBT_ORCHESTRATION_NOTIFY__TEAMS__URL", f"{posted}/a/workflow?sig=1")
        yield


def notify(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["notify", *arguments])
    return done.exit_code, done.output


def test_each_address_gets_one_of_each_kind(slack: SlackStub, teams: Inbox) -> None:
    assert notify("--test") == (
        0,
        "ok  prod: slack #data\nok  prod: slack #finance\nok  prod: teams\n"
        "dev: nobody is told: see docs/notifications.md\n",
    )
    for channel in ("#data", "#finance"):
        shown = [line for line in slack.shown(channel) if not line.startswith("  ")]
        assert len(shown) == len(Kind)
        assert len(slack.shown(channel)) == len(Kind) + 1  # one has ended
    assert all("This is a test" in post.text for post in slack.posts)
    assert len(teams.bodies) == len(Kind) + 1


def test_who_cannot_be_told_is_named(monkeypatch: pytest.MonkeyPatch, teams: Inbox) -> None:
    monkeypatch.delenv("DBT_ORCHESTRATION_NOTIFY__SLACK__TOKEN")
    teams.status = 404
    code, said = notify("--test", "--environment", "prod")
    assert code == 1
    assert "bad prod: slack: notify.slack.token is not set: DBT_ORCHESTRATION_NOTIFY__SLACK" in said
    assert "bad prod: teams: Teams answers 404" in said
    assert said.endswith("error: 2 could not be told\n")


def test_without_test_it_says_who_is_told() -> None:
    assert notify()[1].startswith("prod: slack #data, slack #finance, teams\ndev: nobody")


def test_an_environment_that_is_not_there() -> None:
    code, said = notify("--environment", "stage")
    assert code == 1
    assert "error: no environment is called 'stage'" in said
