"""Settings: defaults, the three places they come from, and messages that name the setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbt_orchestration.settings import REPOSITORY, SettingsError, load_settings


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "environments.yaml"
    file.write_text("")
    monkeypatch.setenv("DBT_ORCHESTRATION_CONFIG", str(file))
    return file


def test_defaults(config: Path) -> None:
    settings = load_settings()
    assert settings.project_dir == REPOSITORY / "dbt_project"
    assert settings.duckdb_path == REPOSITORY / ".state" / "warehouse.duckdb"
    assert {n: (e.branch, e.target) for n, e in settings.environments.items()} == {
        "prod": ("main", "prod"),
        "dev": ("dev", "dev"),
    }
    build = settings.environment("prod").full_build
    assert (build.cron, build.timezone, build.enabled) == ("0 8 * * *", "Asia/Seoul", True)
    assert settings.environment("dev").full_build.enabled is False


def test_the_repositorys_own_file_is_valid() -> None:
    settings = load_settings()
    assert settings.environment("prod").jobs["finance"].select == "tag:finance"
    assert settings.environment("dev").full_build.enabled is False


def test_a_variable_wins_over_the_file(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text("state_dir: here\nprofile: snowflake\n")
    monkeypatch.setenv("DBT_ORCHESTRATION_PROFILE", "duckdb")
    settings = load_settings()
    assert (settings.profile, settings.state_dir) == ("duckdb", REPOSITORY / "here")


def test_duckdb_takes_one_run_at_a_time(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().pool_limit == 1
    monkeypatch.setenv("DBT_ORCHESTRATION_PROFILE", "snowflake")
    assert load_settings().pool_limit == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("profil: x", "profil: there is no such setting"),
        ("pool_limit: 0", "pool_limit: Input should be greater than or equal to 1"),
        ("project_dir: nowhere", "project_dir: there is no .*nowhere/dbt_project.yml"),
        ("environments: {}", "environments: name at least one"),
        ("environments: {Prod: {branch: b, target: t}}", "environments.Prod.*lower-case letters"),
        ("environments: {prod: {target: t}}", "environments.prod.branch: Field required"),
        (
            "environments: {prod: {branch: b, target: t, full_build: {cron: '0 8 * *'}}}",
            "environments.prod.full_build.cron: '0 8 \\* \\*' is not a cron expression",
        ),
        (
            "environments: {prod: {branch: b, target: t, full_build: {timezone: Seoul}}}",
            "environments.prod.full_build.timezone: 'Seoul' is not an IANA time zone",
        ),
        (
            "environments: {prod: {branch: b, target: t, jobs: {full_build: {select: x}}}}",
            "jobs.full_build: the name is taken",
        ),
        (
            "environments: {prod: {branch: b, target: t, lookback: -1}}",
            "environments.prod.lookback",
        ),
        ("environments: [", "is not valid YAML"),
    ],
)
def test_a_wrong_setting_is_named(config: Path, text: str, message: str) -> None:
    config.write_text(text)
    with pytest.raises(SettingsError, match=message):
        load_settings()


def test_a_misspelled_variable_is_named(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBT_ORCHESTRATION_STATEDIR", "x")
    with pytest.raises(SettingsError, match="DBT_ORCHESTRATION_STATEDIR: there is no such setting"):
        load_settings()


def test_a_missing_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBT_ORCHESTRATION_CONFIG", "no/such.yaml")
    with pytest.raises(SettingsError, match=r"no/such\.yaml"):
        load_settings()


def test_an_unknown_environment_lists_the_known_ones(config: Path) -> None:
    with pytest.raises(SettingsError, match="'stage'; there are: prod, dev"):
        load_settings().environment("stage")
