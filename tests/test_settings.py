"""Settings: defaults, the three places they come from, and messages that name the setting."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from dbt_orchestration import definitions
from dbt_orchestration.settings.models import SettingsError, load_settings
from tests.conftest import REPOSITORY


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "environments.yaml"
    file.write_text("")
    monkeypatch.setenv("DBT_ORCHESTRATION_CONFIG", str(file))
    monkeypatch.setenv("DBT_ORCHESTRATION_PROJECT_DIR", str(REPOSITORY / "dbt_project"))
    return file


def test_defaults(config: Path) -> None:
    settings = load_settings()
    assert settings.duckdb_path == config.parent / ".dbt-orchestration" / "warehouse.duckdb"
    build = settings.environment("prod").full_build
    assert (build.cron, build.timezone, build.enabled) == ("0 8 * * *", "Asia/Seoul", True)


def test_the_repositorys_own_file_is_valid() -> None:
    settings = load_settings()
    assert {n: (e.branch, e.target) for n, e in settings.environments.items()} == {
        "prod": ("main", "prod"),
        "dev": ("dev", "dev"),
    }
    assert settings.state_dir == REPOSITORY / ".state"
    assert settings.load_raw
    assert settings.environment("prod").jobs["finance"].select == "tag:finance"
    assert settings.environment("dev").full_build.enabled is False


def test_a_variable_wins_over_the_file(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text("state_dir: here\nprofile: snowflake\n")
    monkeypatch.setenv("DBT_ORCHESTRATION_PROFILE", "duckdb")
    settings = load_settings()
    assert (settings.profile, settings.state_dir) == ("duckdb", config.parent / "here")


def test_duckdb_takes_one_run_at_a_time(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().pool_limit == 1
    monkeypatch.setenv("DBT_ORCHESTRATION_PROFILE", "snowflake")
    assert load_settings().pool_limit == 4


def test_an_environment_says_what_is_otherwise_of_who_is_told(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text(
        "notify:\n"
        "  language: ko\n"
        "  slack: {channel: '#data'}\n"
        "  routes: {f: {groups: [f], slack: '#f'}}\n"
        "environments:\n"
        "  prod: {branch: main, target: prod}\n"
        "  dev: {branch: dev, target: dev, notify: {slack: {channel: '#dev'}}}\n"
        "  test: {branch: test, target: test, notify: {enabled: false, email: {}}}\n"
    )
    monkeypatch.setenv("DBT_ORCHESTRATION_NOTIFY__SLACK__TOKEN", "xoxb-1")
    monkeypatch.setenv("DBT_ORCHESTRATION_NOTIFY__ROUTES__F__TEAMS", "https://example.com/1")
    settings = load_settings()
    prod, dev = settings.notify_of("prod"), settings.notify_of("dev")
    assert prod
    assert dev
    assert prod.slack
    assert dev.slack
    assert dev.slack.token == prod.slack.token == SecretStr("xoxb-1")
    assert (prod.slack.channel, dev.slack.channel, dev.language) == ("#data", "#dev", "ko")
    assert dev.routes["f"].teams == SecretStr("https://example.com/1")
    assert settings.notify_of("test") is None
    assert "xoxb-1" not in repr(settings)


def test_nobody_is_told_unless_somebody_is_named(config: Path) -> None:
    assert load_settings().notify_of("prod") is None


def test_an_unknown_environment_lists_the_known_ones(config: Path) -> None:
    with pytest.raises(SettingsError, match="'stage'; there are: prod"):
        load_settings().environment("stage")


def test_nothing_is_taken_for_an_environment(config: Path) -> None:
    reachable = [name for name in vars(definitions) if not name.startswith("_")]
    assert reachable == []
    for name in ("dg", "gc", "warnings", "load_settings", "annotations"):
        with pytest.raises(SettingsError, match=f"no environment is called '{name}'; there are"):
            getattr(definitions, name)
