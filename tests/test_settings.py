"""Settings: defaults, the three places they come from, and messages that name the setting."""

from __future__ import annotations

from pathlib import Path

import pytest

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


def test_an_unknown_environment_lists_the_known_ones(config: Path) -> None:
    with pytest.raises(SettingsError, match="'stage'; there are: prod"):
        load_settings().environment("stage")


def test_nothing_is_taken_for_an_environment(config: Path) -> None:
    reachable = [name for name in vars(definitions) if not name.startswith("_")]
    assert reachable == []
    for name in ("dg", "gc", "warnings", "load_settings", "annotations"):
        with pytest.raises(SettingsError, match=f"no environment is called '{name}'; there are"):
            getattr(definitions, name)
