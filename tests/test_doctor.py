"""The doctor names each problem and what to do, and never a credential's value."""

from __future__ import annotations

import os
import re
import shutil
from itertools import takewhile
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from dbt_orchestration.cli import app
from dbt_orchestration.doctor import Finding, examine, missing_credentials
from dbt_orchestration.local.dagster_process import LaptopError
from dbt_orchestration.local.up import up
from dbt_orchestration.settings.models import Environment, Settings
from tests.automation.site import git
from tests.conftest import EVERY_NODE, make_settings
from tests.e2e.running import free_port


def by_name(settings: Settings) -> dict[str, Finding]:
    return {finding.what: finding for finding in examine(settings)}


def test_a_healthy_laptop(settings: Settings) -> None:
    found = by_name(settings)
    assert all(finding.ok for finding in found.values()), found
    assert found["prod: project"].message == "13 models parse, the working tree"
    assert found["dev: warehouse"].message == "connected, in UTC"
    assert found["environments"].message == "no two build the same relation"


_OURS = "postgresql+psycopg2"


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        (
            "storage: {postgres: {postgres_url: 'postgresql://ann@db/dagster'}}",
            "postgres_url: write",
        ),
        ("storage: {postgres: {postgres_url: {env: THEIR_DATABASE}}}", "THEIR_DATABASE: write"),
        ("storage: {postgres: {postgres_db: {hostname: db}}}", "postgres_db.scheme: write"),
        ("storage: {postgres: {postgres_db: {scheme: postgresql}}}", "postgres_db.scheme: write"),
        ("run_storage: {config: {postgres_url: 'postgres://ann@db/d'}}", "run_storage.config"),
        ("event_log_storage: {config: {postgres_db: {hostname: db}}}", "event_log_storage.config"),
        (f"storage: {{postgres: {{postgres_url: '{_OURS}://ann@db/dagster'}}}}", None),
        (f"storage: {{postgres: {{postgres_db: {{scheme: {_OURS}}}}}}}", None),
        ("run_storage: {config: {base_dir: /tmp}}", None),
    ],
)
def test_a_database_without_the_driver_that_dagster_needs(
    settings: Settings,
    stated: str,
    said: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "dagster.yaml").write_text(stated)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("THEIR_DATABASE", "postgresql://ann:s3cret@db/dagster")
    # Everything before the project is looked at.
    first = takewhile(lambda finding: not finding.what.startswith("prod: "), examine(settings))
    found = {finding.what: finding for finding in first}
    assert ("dagster.yaml" in found) == (said is not None)
    if said:
        assert not found["dagster.yaml"].ok
        assert said in found["dagster.yaml"].message
        assert f"write {_OURS}" in found["dagster.yaml"].message
        assert "s3cret" not in found["dagster.yaml"].message


def test_missing_credentials_are_named_and_nothing_is_tried(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNOWFLAKE_USER", "svc_dagster")
    snowflake = settings.model_copy(
        update={
            "profile": "snowflake",
            "environments": {"prod": Environment(branch="main", target="prod")},
        }
    )
    assert missing_credentials(snowflake, "prod") == [
        "DBT_ENV_SECRET_SNOWFLAKE_PRIVATE_KEY",
        "SNOWFLAKE_ACCOUNT",
    ]
    found = by_name(snowflake)
    assert found["prod: credentials"].message == (
        "set DBT_ENV_SECRET_SNOWFLAKE_PRIVATE_KEY, SNOWFLAKE_ACCOUNT"
    )
    assert "prod: warehouse" not in found
    assert "svc_dagster" not in repr(found)


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (None, "set DBT_ORCHESTRATION_ENVIRONMENTS__PROD__LIGHTDASH__TOKEN"),
        ("s3cret", "a token for https://bi.acme.com is set"),
    ],
)
def test_whether_the_token_for_lightdash_is_set(
    settings: Settings, token: str | None, said: str
) -> None:
    lightdash = {"url": "https://bi.acme.com", "project": "3675b69e-8324-4110-bdca-059031aa8da3"}
    prod = Environment.model_validate(
        {"branch": "main", "target": "prod", "lightdash": {**lightdash, "token": token}}
    )
    told = settings.model_copy(update={"environments": {"prod": prod}})
    found = next(finding for finding in examine(told) if finding.what == "prod: lightdash")
    assert (found.ok, found.message) == (token is not None, said)


def test_a_target_that_is_not_in_the_profile(settings: Settings) -> None:
    stage = {"stage": Environment(branch="main", target="stage")}
    found = by_name(settings.model_copy(update={"environments": stage}))
    assert "stage wants target 'stage'" in found["profile"].message
    assert found["profile"].message.endswith("has: prod, dev")


def test_environments_that_build_the_same_relations(tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(EVERY_NODE, project)
    profiles = project / "profiles.yml"
    profiles.write_text(profiles.read_text().replace("schema: dev", "schema: main"))
    settings = make_settings(tmp_path / "state", project)
    found = by_name(settings)["environments"]
    assert not found.ok
    assert re.fullmatch(
        r"prod and dev both build warehouse\.main\.\w+ and \d+ more: give one of their targets"
        r" \(prod, dev\) in profiles.yml another schema",
        found.message,
    )
    with pytest.raises(LaptopError, match="prod and dev both build"):
        up(settings, free_port(), Console(quiet=True))


def test_a_profile_that_does_not_exist(settings: Settings) -> None:
    found = by_name(settings.model_copy(update={"profile": "bigquery"}))
    assert "has no profile 'bigquery': set DBT_ORCHESTRATION_PROFILE" in found["profile"].message


def test_a_model_that_does_not_parse_is_named(tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(EVERY_NODE, project)
    (project / "models" / "broken.sql").write_text("select * from {{ ref('nobody') }}")
    prod = {"prod": Environment(branch="main", target="prod")}
    found = by_name(make_settings(tmp_path / "state", project, environments=prod))
    assert not found["prod: project"].ok
    assert "'model.every_node.broken' (models/broken.sql)" in found["prod: project"].message
    assert "nobody" in found["prod: project"].message


def test_a_model_that_says_something_wrong_to_dagster_is_named(tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(EVERY_NODE, project)
    (project / "models" / "odd.sql").write_text(
        "{{ config(meta={'dagster': {'on_chnge': 'ask'}}) }} select 1 as one"
    )
    prod = {"prod": Environment(branch="main", target="prod")}
    found = by_name(make_settings(tmp_path / "state", project, environments=prod))
    assert found["prod: project"].message == (
        "models/odd.sql: meta.dagster of odd: on_chnge: there is no such key: did you mean"
        " on_change?"
    )


def test_the_command_ends_with_one_line_about_a_wrong_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DBT_ORCHESTRATION_POOL_LIMIT", "many")
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "pool_limit" in result.stderr
    assert "Traceback" not in result.stderr + result.stdout


def test_the_command_counts_problems(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DBT_ORCHESTRATION_PROFILE", "snowflake")
    monkeypatch.setenv("DBT_ORCHESTRATION_PROJECT_DIR", os.fspath(EVERY_NODE))
    monkeypatch.setenv("DBT_ORCHESTRATION_STATE_DIR", os.fspath(tmp_path))
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "dev wants target 'dev'" in result.stdout
    assert "1 problem found" in result.stderr


@pytest.mark.parametrize("ignored", ["profiles.yml", "nothing"])
def test_it_looks_at_the_commit_that_is_going_to_be_built(tmp_path: Path, ignored: str) -> None:
    project = tmp_path / "repository" / "project"
    shutil.copytree(EVERY_NODE, project)
    (project / ".gitignore").write_text(f"{ignored}\n")
    git(project, "init", "--quiet", "--initial-branch=main")
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "-m", "first")
    prod = {"prod": Environment(branch="main", target="prod")}
    settings = make_settings(tmp_path / "state", project, profiles_dir=project, environments=prod)
    found = by_name(settings)["prod: project"]
    if ignored == "nothing":
        assert found.message.startswith("13 models parse, main at ")
    else:
        assert not found.ok
        assert "profiles.yml" in found.message
