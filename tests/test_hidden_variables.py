"""What a committer's Jinja can read of the environment that Dagster and we are set up by."""

from __future__ import annotations

import os
from pathlib import Path

import duckdb
import pytest

from dbt_orchestration.dbt.internals import sessions
from dbt_orchestration.dbt.invocation import DbtError, DbtInvocation, DbtTarget, dbt_session
from dbt_orchestration.doctor import missing_credentials
from dbt_orchestration.revisions.working_tree import prepare
from tests.conftest import make_settings

SECRETS = {
    "DBT_ORCHESTRATION_GIT__TOKEN": "our-token",
    "DAGSTER_POSTGRES_URL": "postgresql://dagster:our-password@db/dagster",
    "dagster_pg_password": "our-password",
}
READ = " ".join(f"{{{{ env_var('{name}', 'hidden') }}}}" for name in SECRETS)
PROFILES = """
shop:
  target: prod
  outputs:
    prod:
      type: duckdb
      path: "{{ env_var('DBT_DUCKDB_PATH') }}"
      schema: "main{{ env_var('SNOWFLAKE_SUFFIX', '') }}"
      threads: 4
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "project"
    for name, text in {
        "dbt_project.yml": f'name: shop\nprofile: shop\nvars: {{read: "{READ}"}}\n',
        "profiles.yml": PROFILES,
        "models/models.yml": f'models: [{{name: one, description: "{READ}"}}]',
        "models/one.sql": f"select '{READ}' as a, '{{{{ env_var('DAGSTER_RUN_ID', '') }}}}' as b",
        "macros/read.sql": f"{{% macro read() %}}{{% set said %}}{READ}{{% endset %}}"
        "{{ log(said) }}{% endmacro %}",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def told(folder: Path) -> set[str]:
    """The secrets that stand in files of a folder."""
    files = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    return {value for value in SECRETS.values() if any(value.encode() in file for file in files)}


def test_a_commit_sets_no_variables_and_runs_no_command(project: Path, tmp_path: Path) -> None:
    """By an ``.env`` that dbt would read, or a parser of its own that dbt would start."""
    started = tmp_path / "started"
    (project / ".env").write_text("SET_BY_A_COMMIT=set\n")
    with (project / "dbt_project.yml").open("a") as settings_of_project:
        settings_of_project.write(f"flags: {{use_v2_parser: true, v2_parser: 'touch {started}'}}\n")
    (project / "models/one.sql").write_text("select '{{ env_var('SET_BY_A_COMMIT', 'not') }}' as a")
    settings = make_settings(tmp_path / "state", project, profile="shop")
    prepare(settings, "prod")
    target = DbtTarget.of(settings, "prod")
    for _ in range(2):
        DbtInvocation(target, ["run", "--target-path", str(tmp_path / "out")]).finish()
    with duckdb.connect(str(settings.duckdb_path)) as warehouse:
        assert warehouse.execute("from one").fetchall() == [("not",)]
    assert "SET_BY_A_COMMIT" not in os.environ
    assert not started.exists()


PEEK = """\
import os

def model(dbt, session):
    dbt.config(materialized="table")
    said = os.environ.get("DBT_ORCHESTRATION_GIT__TOKEN", "hidden")
    return session.sql(f"select '{said}' as a")
"""


def test_a_model_in_python_finds_no_token_of_ours(project: Path, tmp_path: Path) -> None:
    (project / "models/peek.py").write_text(PEEK)
    settings = make_settings(tmp_path / "state", project, profile="shop")
    prepare(settings, "prod")
    target = DbtTarget.of(settings, "prod")
    DbtInvocation(target, ["run", "--target-path", str(tmp_path / "out")]).finish()
    with duckdb.connect(str(settings.duckdb_path)) as warehouse:
        assert warehouse.execute("from peek").fetchall() == [("hidden",)]
    assert os.environ["DBT_ORCHESTRATION_GIT__TOKEN"] == "our-token"


def test_a_parse_and_a_run_do_not_see_them(project: Path, tmp_path: Path) -> None:
    settings = make_settings(tmp_path / "state", project, profile="shop")
    revision = prepare(settings, "prod")
    assert revision.manifest["nodes"]["model.shop.one"]["description"] == "hidden hidden hidden"
    target = DbtTarget.of(settings, "prod")
    run = DbtInvocation(
        target, ["run", "--target-path", str(tmp_path / "out")], variables={"DAGSTER_RUN_ID": "7"}
    )
    run.finish()
    with duckdb.connect(str(settings.duckdb_path)) as warehouse:
        assert warehouse.execute("from one").fetchall() == [("hidden hidden hidden", "7")]
    DbtInvocation(
        target, ["run-operation", "read", "--target-path", str(tmp_path / "out")]
    ).finish()
    with dbt_session(target, ["deps"]) as session:
        assert session.render(READ) == "hidden hidden hidden"
        assert session.render_packages(READ) == "hidden hidden hidden"
    assert told(tmp_path) == set()


def test_without_a_default_dbt_says_which(project: Path, tmp_path: Path) -> None:
    (project / "models/two.sql").write_text("{{ env_var('DBT_ORCHESTRATION_GIT__TOKEN') }}")
    target = DbtTarget.of(make_settings(tmp_path / "state", project, profile="shop"), "prod")
    with pytest.raises(DbtError, match="DBT_ORCHESTRATION_GIT__TOKEN"):
        DbtInvocation(target, ["parse", "--target-path", str(tmp_path / "out")]).finish()


def test_a_profile_does_not_see_them(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(tmp_path / "state", project, profile="shop")
    stated = (project / "profiles.yml").read_text()
    monkeypatch.setenv("SNOWFLAKE_SUFFIX", "_x")
    monkeypatch.setenv("DBT_DUCKDB_PATH", str(settings.duckdb_path))
    assert sessions.load_credentials(project, project, "shop", "prod").schema == "main_x"
    (project / "profiles.yml").write_text(
        stated.replace("SNOWFLAKE_SUFFIX", "DAGSTER_POSTGRES_URL")
    )
    assert sessions.load_credentials(project, project, "shop", "prod").schema == "main"
    (project / "profiles.yml").write_text(stated.replace("SNOWFLAKE_SUFFIX', ''", "DAGSTER_X'"))
    monkeypatch.setenv("DAGSTER_X", "set")
    assert missing_credentials(settings, "prod") == ["DAGSTER_X"]


def test_a_password_of_the_profile_decides_no_name(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = """      settings:
        s3_secret_access_key: "{{ env_var('SNOWFLAKE_PASSWORD') }}"
"""
    other = "    other: {type: snowflake, account: x, password: LITERAL}\n"
    (project / "profiles.yml").write_text(f"{PROFILES}{secret}{other}")
    settings = make_settings(tmp_path / "state", project, profile="shop")
    digests = set()
    for password in ("hunter2", "hunter3"):
        monkeypatch.setenv("SNOWFLAKE_PASSWORD", password)
        text = (project / "profiles.yml").read_text()
        (project / "profiles.yml").write_text(text.replace("LITERAL", f"written-{password}"))
        digests.add(prepare(settings, "prod").digest)
        (project / "profiles.yml").write_text(text)
    assert len(digests) == 1
    monkeypatch.setenv("SNOWFLAKE_SUFFIX", "_other")
    assert prepare(settings, "prod").digest not in digests
