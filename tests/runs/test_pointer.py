"""The view that dbt 1.12 makes of a model's latest version, where that is rebuilt as a shadow."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import dagster as dg
import pytest
from dbt.artifacts.resources.v1.model import ModelConfig

from tests.conftest import PROJECTS, Warehouse, failure, make_settings

pytestmark = pytest.mark.skipif(
    not hasattr(ModelConfig(), "latest_version_pointer"), reason="dbt 1.12 brought it"
)

DAYS = """{{ config(
    materialized="incremental", incremental_strategy="microbatch", event_time="day_at",
    batch_size="day", begin="2024-01-01", meta={"dagster": {"partitions": {"end": "2024-01-03"}}}
) }}
select * from (values (timestamp '2024-01-01', 1), (timestamp '2024-01-02', 2)) as days(day_at, n)
"""
VERSIONS = """
models:
  - name: days
    latest_version: 2
    versions: [{v: 1}, {v: 2}]
"""
ON = "    config: {latest_version_pointer: {enabled: true, alias: newest}}\n"
BY_DEFAULT = "  latest_version_pointer_enabled_by_default: true\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    shutil.copytree(PROJECTS / "ledger", folder, ignore=shutil.ignore_patterns("models"))
    (folder / "models").mkdir()
    (folder / "models" / "days_v1.sql").write_text(
        "select timestamp '2024-01-01' as day_at, 1 as n"
    )
    (folder / "models" / "days_v2.sql").write_text(DAYS)
    (folder / "models" / "days.yml").write_text(VERSIONS + ON)
    return folder


def load(project: Path, instance: dg.DagsterInstance) -> Warehouse:
    settings = make_settings(project.parent / "state", project, load_raw=False)
    return Warehouse(settings, "prod", instance)


def views(warehouse: Warehouse) -> Sequence[tuple[str, str]]:
    """The views that are not dbt's own models, with what they select from."""
    sql = "select view_name, sql from duckdb_views() where not internal and view_name <> 'days_v1'"
    return [
        (name, text.rpartition(".")[2].strip('"();\n ')) for name, text in warehouse.execute(sql)
    ]


def test_the_view_shows_the_table_that_was_rebuilt(
    project: Path, instance: dg.DagsterInstance
) -> None:
    assert load(project, instance).build().success
    model = project / "models" / "days_v2.sql"
    model.write_text(DAYS.replace("select *", "select *, n * 10 as tens"))
    warehouse = load(project, instance)
    result = warehouse.build("days_v2", config={"full_refresh": True})
    assert result.success, failure(result)
    assert views(warehouse) == [("newest", "days_v2")]
    assert warehouse.execute("select n, tens from newest order by n") == [(1, 10), (2, 20)]


def test_the_project_may_say_that_all_have_one(project: Path, instance: dg.DagsterInstance) -> None:
    (project / "models" / "days.yml").write_text(VERSIONS)
    file = project / "dbt_project.yml"
    file.write_text(file.read_text() + BY_DEFAULT)
    warehouse = load(project, instance)
    assert warehouse.build().success
    assert views(warehouse) == [("days", "days_v2")]
    assert warehouse.build("days_v2", config={"full_refresh": True}).success
    assert views(warehouse) == [("days", "days_v2")]


def test_a_table_that_fails_its_test_is_not_shown(
    project: Path, instance: dg.DagsterInstance
) -> None:
    (project / "models" / "days.yml").write_text(
        VERSIONS + ON + "    columns: [{name: n, data_tests: [unique]}]\n"
    )
    assert load(project, instance).build().success
    model = project / "models" / "days_v2.sql"
    model.write_text(DAYS.replace("', 2)", "', 1)"))
    warehouse = load(project, instance)
    assert not warehouse.build("days_v2", config={"full_refresh": True}).success
    assert views(warehouse) == [("newest", "days_v2")]
    assert warehouse.execute("select n from newest order by n") == [(1,), (2,)]


def test_nothing_is_made_where_none_is_wanted(project: Path, instance: dg.DagsterInstance) -> None:
    (project / "models" / "days.yml").write_text(VERSIONS)
    warehouse = load(project, instance)
    assert warehouse.build().success
    assert warehouse.build("days_v2", config={"full_refresh": True}).success
    assert views(warehouse) == []
