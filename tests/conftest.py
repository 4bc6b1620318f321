"""A small dbt project with every kind of node, on a DuckDB file of its own for each test."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
from alembic.script import ScriptDirectory
from dagster._core.definitions.definitions_load_context import DefinitionsLoadContext
from dbt_common.tests import enable_test_caching

from dbt_orchestration.location.definitions import build_definitions
from dbt_orchestration.revisions.working_tree import prepare
from dbt_orchestration.settings.models import (
    PREFIX,
    Environment,
    Push,
    Schedule,
    Settings,
)
from tests.instances import ON_POSTGRES, dagster_in

REPOSITORY = Path(__file__).resolve().parent.parent
INSTANCE = REPOSITORY / "dbt_orchestration" / "dagster.yaml"
PROJECTS = REPOSITORY / "tests" / "projects"
EVERY_NODE = PROJECTS / "every_node"

# As dbt's own tests do: Jinja that was read once in this process is not read again.
enable_test_caching()
# Nor are the migrations of Dagster's databases, which it reads for each of them and for each run.
setattr(ScriptDirectory, "from_config", cache(ScriptDirectory.from_config))  # noqa: B010


# Each of these starts a whole Dagster, which is never idle: several at once would take longer than
# one after another.
_KILLS = "tests/faults/test_kills.py"
DEPLOYMENTS = [
    *("tests/e2e/test_push.py", "tests/e2e/test_up.py", "tests/test_demo.py"),
    *("tests/browser/test_forms.py", _KILLS, "tests/e2e/test_code_server.py"),
    *("tests/browser/test_ui.py", "tests/e2e/test_stranger.py", "tests/postgres/test_up.py"),
]
# So that no worker is left with one of them when the others have nothing more to do.
LONGEST = [
    *("tests/automation/test_push.py", "tests/automation/test_history.py"),
    *("tests/snowflake/test_snowflake.py", "tests/changes/test_projects.py"),
    *("tests/automation/test_from_nothing.py", "tests/automation/test_doubt.py"),
    *("tests/automation/test_lightdash.py", "tests/automation/test_adopt.py"),
    *("tests/faults/test_broken.py", "tests/faults/test_killed_runs.py"),
    "tests/faults/test_killed_forms.py",
    "tests/automation/telling/test_telling.py",
]


# Of these and of the deployments `make test` tries every fourth, each day others: in this order, so
# that no day has two of the longest. It kills some process of a deployment each time.
ROTATED = [
    *("tests/automation/test_living.py", "tests/snowflake/test_stories.py"),
    *("tests/machines/test_pods.py", "tests/postgres/test_lists.py"),
    *("tests/snowflake/test_demo.py", "tests/deploy/test_login.py"),
]
# Long lists of cases that each build a warehouse. `make test` tries a fifth of every second list,
# each day others: all of them in ten days. `make test CASES=all` tries all, and so does pytest that
# is started by hand. `CASES=few` is a twentieth of every list.
SAMPLED = [
    *("automation/test_push.py", "automation/test_history.py", "automation/test_doubt.py"),
    *("automation/test_from_nothing.py", "automation/test_lightdash.py", "runs/test_build.py"),
    *("automation/telling/test_telling.py", "changes/test_projects.py"),
    *("location/test_environments.py", "revisions/test_compare.py"),
    *("snowflake/test_snowflake.py", "operations/test_dbt.py", "automation/test_failures.py"),
    *("automation/test_dropped.py", "automation/test_rebuild.py", "automation/test_held.py"),
    *("automation/test_taken_back.py", "automation/test_orphans.py", "automation/test_profile.py"),
    *("automation/test_project_file.py", "automation/test_put_back.py", "ledger/test_ledger.py"),
    *("revisions/test_commits.py", "revisions/test_working_tree.py", "dbt/test_rendered.py"),
    *("operations/test_resume.py", "location/test_dagster_project.py"),
    "changes/test_change_detection.py",
    *("automation/morning/test_morning_page.py", "automation/test_year.py"),
    *("automation/test_renamed.py", "automation/test_machines.py", "automation/test_adopt.py"),
    "automation/test_lost_connection.py",
]
_EVERY, _PARTS, _FEW = 2, 5, 20


# What `make check` tries: each of them takes a second or two.
QUICK = [
    *("changes/test_dates.py", "changes/test_hooks.py", "changes/test_materializations.py"),
    *("changes/test_queries.py", "changes/test_spelling.py", "changes/test_text.py"),
    *("history/test_partitions.py", "runs/test_request.py", "assets/test_translator.py"),
    *("history/test_batches.py", "changes/test_mergeable.py"),
    *("dbt/test_cache.py", "revisions/test_warehouse.py", "revisions/test_remote.py"),
    *("test_bad_meta.py", "test_bad_settings.py", "test_docs.py", "test_settings.py"),
    *("test_dagster_internals.py", "test_yaml.py"),
]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes longest first; of what is sampled, a part."""
    folder, cases = REPOSITORY / "tests", os.environ.get("CASES")
    left_out: set[pytest.Item] = set()
    if cases == "some":
        rotated = [*DEPLOYMENTS, *ROTATED]
        others = {*rotated} - {*rotated[day() % 4 :: 4]} - {_KILLS}
        others |= {f"tests/{file}" for file in {*SAMPLED} - {*SAMPLED[day() % _EVERY :: _EVERY]}}
        left_out |= {i for i in items if i.path in {REPOSITORY / file for file in others}}
    for file in SAMPLED if cases in ("some", "few") else ():
        every = [item for item in items if item.path == folder / file]
        parts = min(_PARTS if cases == "some" else _FEW, len(every)) or 1
        left_out |= {*every} - {*every[day() // _EVERY % parts :: parts]}
    if left_out:
        config.hook.pytest_deselected(items=[*left_out])
        items[:] = [item for item in items if item not in left_out]
    quick = {folder / file for file in QUICK}
    for item in items:
        if item.path in quick:
            item.add_marker("quick")
    places = {
        REPOSITORY / file: place for place, file in enumerate(DEPLOYMENTS + ROTATED + LONGEST)
    }
    items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_report_header() -> str:
    """Which part it is: a commit has the same one everywhere, and whenever it is tested."""
    some = os.environ.get("CASES") == "some"
    files = len(SAMPLED) + len(DEPLOYMENTS) + len(ROTATED)
    return f"a part of the cases of {files} files: that of day {day()}" if some else ""


@cache
def day() -> int:
    """On which the commit was made that is tested, in days since 1970; 0 outside of git."""
    command = ["git", "show", "--no-patch", "--format=%ct", "HEAD"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return int(done.stdout or 0) // 86_400


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each process of ``make test`` a file at a time, and all deployments to one of them."""
    from xdist.scheduler import LoadFileScheduling

    scheduling = LoadFileScheduling(config, log)
    file_of = scheduling._split_scope

    def split(nodeid: str) -> str:
        file = file_of(nodeid)
        return "deployments" if file in DEPLOYMENTS else file

    scheduling._split_scope = split
    return scheduling


def clean_environment(patch: pytest.MonkeyPatch) -> None:
    """Nothing that is set on this machine, or by dbt in this process, counts."""
    for name in os.environ:
        if name.startswith((PREFIX, "DBT_", "SNOWFLAKE_", "DAGSTER_HOME", "DAGSTER_POSTGRES")):
            patch.delenv(name)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    clean_environment(monkeypatch)
    # What an earlier test in this process has loaded is not what this one loads.
    monkeypatch.setattr(DefinitionsLoadContext, "_instance", None)


def make_settings(state: Path, project: Path = EVERY_NODE, **changes: Any) -> Settings:
    environments = {
        "prod": Environment(branch="main", target="prod", push=Push(enabled=False)),
        "dev": Environment(
            branch="dev",
            target="dev",
            full_build=Schedule(enabled=False),
            push=Push(enabled=False),
        ),
    }
    values = {"project_dir": project, "state_dir": state, "environments": environments, **changes}
    return Settings(**values)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder in which the project is parsed, so that no test parses it again."""
    with pytest.MonkeyPatch.context() as patch:
        clean_environment(patch)
        state = tmp_path_factory.mktemp("prepared")
        for name in ("prod", "dev"):
            prepare(make_settings(state), name)
    return state


@pytest.fixture
def settings(tmp_path: Path, prepared: Path) -> Settings:
    shutil.copytree(prepared, tmp_path / "state")
    return make_settings(tmp_path / "state")


@dataclass
class Warehouse:
    """An environment's code location, an instance of Dagster, and the DuckDB file behind them."""

    settings: Settings
    name: str
    instance: dg.DagsterInstance
    definitions: dg.Definitions = field(init=False)

    def __post_init__(self) -> None:
        self.definitions = build_definitions(self.settings, self.name)
        self.execute("create schema if not exists raw")
        self.execute("create or replace table raw.rates as select 2 as rate, now() as loaded_at")

    def key(self, name: str) -> dg.AssetKey:
        return dg.AssetKey([self.name, *name.split("/")])

    def build(
        self,
        *names: str,
        partitions: tuple[str, str] | None = None,
        config: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> dg.ExecuteInProcessResult:
        """Materialize these assets (all of dbt's, if none) and the checks on them."""
        tags = dict(tags or {})
        if partitions:
            start, end = partitions
            tags["dagster/asset_partition_range_start"] = start
            tags["dagster/asset_partition_range_end"] = end
        if names:
            job = self.definitions.resolve_implicit_global_asset_job_def()
            job = job.get_subset(asset_selection={self.key(name) for name in names})
        else:
            job = self.definitions.resolve_job_def(f"{self.name}_full_build")
        ops = {f"dbt_{self.name}": {"config": dict(config)}} if config else {}
        return job.execute_in_process(
            instance=self.instance, run_config={"ops": ops}, tags=tags, raise_on_error=False
        )

    def execute(self, sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.settings.duckdb_path)) as connection:
            return connection.execute(sql).fetchall()

    def partitions(self, name: str) -> set[str]:
        return set(self.instance.get_materialized_partitions(self.key(name)))


@pytest.fixture
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    if ON_POSTGRES in os.environ:
        with dagster_in(tmp_path_factory.mktemp("instance")) as instance:
            yield instance
    else:
        with dg.DagsterInstance.ephemeral() as ephemeral:
            yield ephemeral


@pytest.fixture
def warehouse(settings: Settings, instance: dg.DagsterInstance) -> Warehouse:
    return Warehouse(settings, "prod", instance)


def failure(result: dg.ExecuteInProcessResult) -> str:
    """What a failed run says to the person who looks at it."""
    [event] = [e for e in result.all_events if e.is_step_failure]
    data = event.step_failure_data.user_failure_data
    assert data is not None, event.step_failure_data.error
    said = data.description or ""
    # And nothing else: nobody is helped by where in the code it was said.
    assert event.step_failure_data.error is not None
    assert event.step_failure_data.error.to_string() == said
    return said


def checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {e.check_name: e for e in result.get_asset_check_evaluations()}


def materialized(result: dg.ExecuteInProcessResult) -> Sequence[str]:
    return sorted(
        {
            "/".join(event.materialization.asset_key.path[1:])
            for event in result.get_asset_materialization_events()
        }
    )
